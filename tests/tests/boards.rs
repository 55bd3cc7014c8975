//! Boards of agents, from a push to the verdict: an emulated Arduino Uno with the stock optiboot, its owner, its guard and an agent, all
//! real processes, some of which are killed.

use rustix::process::{Pid, Signal, kill_process};
use sai_tests::avr::Avr;
use sai_tests::boards::{at_board, at_step, program, saifile, standing, verdict};
use sai_tests::process::{Process, eventually};
use sai_tests::world::World;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

/// How often a board is tried: simavr loses bytes between its threads where the machine is busy.
const TRIES: usize = 4;

/// A board on the bench of an agent.
struct Bench {
    world: World,
    // Its owner ends before its tty does, whose number another one may have then.
    board: Option<Avr>,
    link: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Bench {
        let world = World::new(name);
        let board = Avr::new(&world.directory);
        let name = world.directory.file_name().expect("a name").to_string_lossy().into_owned();
        // Paths of ttys are below /dev.
        let link = PathBuf::from("/dev/shm").join(name);
        let _ = fs::remove_file(&link);
        symlink(&board.tty, &link).expect("a link");
        let text = format!(
            r#"{{ "boards": {{ "uno-1": {{ "type": "arduino-uno",
                "consoles": {{ "main": {{ "path": "{}" }} }}, {},
                "modes": {{ "loader": ["loader"], "run": ["reset"] }},
                "flash": {{ "with": "optiboot", "mode": "loader", "then": "run", "chip_id": "0x1e950f" }} }} }} }}"#,
            link.display(),
            board.resets()
        );
        fs::write(world.directory.join("boards.json"), text).expect("a bench");
        world.repository.write("program.c", program());
        Bench { world, board: Some(board), link }
    }

    fn sockets(&self) -> PathBuf {
        self.world.directory.join("run")
    }

    /// An agent that has the board and builds for it, as another user.
    fn agent(&self) -> Process {
        let file = self.world.directory.join("boards.json");
        let settings = [
            format!("\"boards\": {file:?}"),
            format!("\"boards_run\": {:?}", self.sockets()),
            "\"user\": \"nobody\"".to_string(),
        ];
        self.world.agent_with("a", &["linux"], 2, &settings.each_ref().map(String::as_str))
    }

    /// Pushes a saifile whose configurations are cases of the program, each with more keys of its board.
    fn push(&self, cases: &[(&str, &str)]) {
        self.world.repository.push_saifile(&saifile(cases));
    }

    /// Pushes a saifile with these configurations, each with the script of its only step.
    fn push_steps(&self, scripts: &[(&str, &str)]) {
        let one = |(name, script): &(&str, &str)| format!("{name:?}: {{ \"do\": {script:?} }}");
        let all: Vec<String> = scripts.iter().map(one).collect();
        let text = format!(
            r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": "${{do}}" }} }}, "configurations": {{ {} }} }}"#,
            all.join(", ")
        );
        self.world.repository.push_saifile(&text);
    }

    fn standing(&self) -> String {
        standing(&self.world, "a/uno-1")
    }

    fn await_standing(&self, what: &str) {
        eventually(&format!("the board is {what:?}"), || self.standing().contains(what).then_some(()));
    }

    /// Processes whose arguments are these, of this bench.
    fn processes(&self, word: &str) -> Vec<i32> {
        let ours = self.world.survivors().into_iter().filter(|line| line.split(' ').any(|other| other == word));
        ours.filter_map(|line| line.split(':').next()?.parse().ok()).collect()
    }

    fn kill(&self, word: &str) {
        let processes = self.processes(word);
        assert!(!processes.is_empty(), "there is no {word}: {:?}", self.world.survivors());
        for process in processes {
            let _ = kill_process(Pid::from_raw(process).expect("a process"), Signal::KILL);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for word in ["owner", "guard"] {
            for process in self.processes(word) {
                let _ = kill_process(Pid::from_raw(process).expect("a process"), Signal::KILL);
            }
        }
        drop(self.board.take());
        let _ = fs::remove_file(&self.link);
    }
}

#[test]
fn a_push_is_built_flashed_and_judged_and_each_log_judged_again_says_the_same() {
    let bench = Bench::new("boards");
    let _master = bench.world.master();
    let agent = bench.agent();
    let said = agent.said();
    assert!(said.iter().any(|line| line.contains("offering the boards uno-1 (arduino-uno)")), "{said:?}");
    bench.await_standing("free");
    let cases = [
        ("PASS", "", "passed", "passed"),
        ("FAIL", "", "failed", "test-fail"),
        ("SILENT", r#""silent": "2s","#, "failed", "silent"),
        ("NO_BOOT", r#""timeout": "3s","#, "failed", "no-boot"),
    ];
    bench.push(&cases.map(|(case, keys, ..)| (case, keys)));
    let mut wrong = Vec::new();
    for number in 1..=TRIES as u64 {
        let event = bench.world.ended(number);
        wrong.clear();
        for (case, _, state, word) in cases {
            let job = at_board(&event, case);
            let (found, cause) = verdict(&bench.world, job.id);
            let (_, again, why) = bench.world.try_command(&["rejudge", &job.id.to_string()]);
            assert!(again.contains(&found), "{case}: judged as {found}, and again: {again}{why}");
            if (job.state.as_str(), found.as_str()) != (state, word) {
                wrong.push(format!(
                    "{case}: {} {found} {cause}: {}",
                    job.state,
                    String::from_utf8_lossy(&bench.world.log(job.id))
                ));
            }
        }
        if wrong.is_empty() {
            break;
        }
        bench.push(&cases.map(|(case, keys, ..)| (case, keys)));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    let event = bench.world.ended(1);
    let job = at_board(&event, "PASS");
    let log = bench.world.records(job.id);
    // Images, flash, test.
    assert_eq!((log.steps, log.statuses), (vec![0, 1, 2], vec![0; 3]));
    let console = bench.world.get(&format!("/job/{}/console/main", job.id)).expect("a console");
    assert!(String::from_utf8_lossy(&console).contains("TAP version 13"), "{}", String::from_utf8_lossy(&console));
    bench.await_standing("free");
}

#[test]
fn a_board_is_free_when_nothing_of_its_job_is_left_whoever_is_killed() {
    let bench = Bench::new("kills-boards");
    let _master = bench.world.master();
    let mut agent = bench.agent();
    bench.await_standing("free");

    // An agent that dies leaves its job at the board, and the next one finds it there. A console goes on being recorded meanwhile.
    bench.push(&[("NO_BOOT", r#""timeout": "12s","#)]);
    let job = at_step(&bench.world, 1, "NO_BOOT", 2);
    agent.kill();
    bench.await_standing("away");
    agent = bench.world.agent_again("a");
    let there = format!("job {job} is there");
    while !at_board(&bench.world.event(1).expect("an event"), "NO_BOOT").ended() {
        let standing = bench.standing();
        let ended = at_board(&bench.world.event(1).expect("an event"), "NO_BOOT").ended();
        assert!(ended || standing == there, "{standing}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let event = bench.world.ended(1);
    assert_eq!((at_board(&event, "NO_BOOT").attempt, verdict(&bench.world, job).0.as_str()), (1, "no-boot"));
    bench.await_standing("free");

    // A cancel is heard while it is judged.
    bench.push(&[("NO_BOOT", r#""timeout": "100s","#)]);
    let job = at_step(&bench.world, 2, "NO_BOOT", 2);
    bench.world.command(&["cancel", "job", &job.to_string()]);
    assert_eq!(at_board(&bench.world.ended(2), "NO_BOOT").state, "cancelled");
    bench.await_standing("free");

    // Who dies while it is flashed is nobody's failure, and the next attempt passes.
    for (number, word) in [(3, "--job"), (4, "owner"), (5, "guard")] {
        bench.push(&[("PASS", "")]);
        at_step(&bench.world, number, "PASS", 1);
        bench.kill(word);
        let event = bench.world.ended(number);
        let job = at_board(&event, "PASS");
        assert_eq!(job.state, "passed", "{word}: {}: {}", job.cause, String::from_utf8_lossy(&bench.world.log(job.id)));
        assert!(job.attempt <= 2, "{word}: attempt {}", job.attempt);
        bench.await_standing("free");
    }
    drop(agent);
}

#[test]
fn boards_are_offered_only_where_steps_cannot_reach_them() {
    let bench = Bench::new("apart-boards");
    let _master = bench.world.master();
    let file = format!("\"boards\": {:?}", bench.world.directory.join("boards.json"));
    let run = format!("\"boards_run\": {:?}", bench.sockets());
    // Steps on the machine would be the agent's own user.
    let agent = bench.world.agent_with("a", &["linux"], 1, &[&file, &run]);
    let said = agent.said().join("\n");
    assert!(
        said.contains("its boards are not offered: steps on the machine itself run as the agent's own user"),
        "{said}"
    );
    assert!(!said.contains("offering the boards") && !bench.world.page("/api/v1/units").contains("uno-1"));
    assert_eq!(bench.processes("owner"), Vec::<i32>::new(), "nobody owns what nobody offers");
    drop(agent);
    // Without a platform of its own there are none, and what is wrong with the file is told with its place.
    let agent = bench.world.agent_with("b", &[], 1, &[&file, &run, "\"platforms\": []"]);
    eventually("the board is free", || {
        bench.world.page("/api/v1/units").contains("\"standing\":\"free\"").then_some(())
    });
    let mut text = fs::read_to_string(bench.world.directory.join("boards.json")).expect("a bench");
    text = text.replace("\"modes\"", "\"mods\"");
    fs::write(bench.world.directory.join("boards.json"), text).expect("a bench");
    agent.signal(Signal::HUP);
    let line = agent.await_line("nothing changes: ");
    assert!(line.contains("boards.json:") && line.contains("mods"), "{line}");
}

/// What builds the program of a board in a step.
const FIRMWARE: &str = "avr-gcc -mmcu=atmega328p -Os -DCASE=PASS -DVERSION='\"x\"' -o fw.elf program.c\n\
                        avr-objcopy -O binary fw.elf fw.bin\n";

/// The log of a job as text.
fn text(world: &World, job: u64) -> String {
    String::from_utf8_lossy(&world.log(job)).into_owned()
}

#[test]
fn a_build_gets_a_board_flashes_it_and_talks_to_it_and_all_of_that_is_in_the_log_of_a_session() {
    let bench = Bench::new("device");
    let _master = bench.world.master();
    let agent = bench.agent();
    bench.await_standing("free");
    let script = "echo board $SAI_DEVICE has $SAI_DEVICE_CONSOLES\n\
                  test -c $SAI_DEVICE_TTY0\n\
                  sai-agent device flash fw.bin\n\
                  sai-agent device expect 'login: $' --within 30s\n\
                  printf 'root\\n' > $SAI_DEVICE_TTY0\n\
                  sai-agent device expect 'hello root' --within 30s\n\
                  sai-agent device expect 'ALL DONE' --within 30s\n\
                  exit 3\n";
    bench.world.repository.write("at-board.sh", script);
    // What it ends with is what its command ended with.
    let step = format!(
        "{FIRMWARE}status=0; sai-agent device arduino-uno -- sh -ex at-board.sh || status=$?; test $status = 3"
    );
    bench.push_steps(&[("fw", &step)]);
    // The session's event comes behind the push's own.
    let (event, other) = (bench.world.ended(1), bench.world.ended(2));
    let (build, session) = (&event.jobs[0], &other.jobs[0]);
    let told = format!("{}\n{}", text(&bench.world, build.id), text(&bench.world, session.id));
    assert_eq!(build.state, "passed", "{told}");
    assert_eq!((other.event.source.as_str(), session.configuration.as_str()), ("session", "fw/device"));
    let log = text(&bench.world, build.id);
    assert!(log.contains("board uno-1 has main") && log.contains("ALL DONE"), "{log}");
    assert!(log.contains(&format!("a board of type arduino-uno is asked for: job {}", session.id)), "{log}");
    assert_eq!(
        (session.state.as_str(), verdict(&bench.world, session.id).1.as_str()),
        ("failed", "the command ended with status 3")
    );
    let records = bench.world.records(session.id);
    assert_eq!((records.steps, records.statuses), (vec![0], vec![3]));
    let console = bench.world.get(&format!("/job/{}/console/main", session.id)).expect("a console");
    let console = String::from_utf8_lossy(&console).into_owned();
    assert!(console.contains("hello root") && console.contains("ALL DONE"), "{console}");
    bench.await_standing("free");

    // What cannot be had is told at once, and whose fault that is.
    bench.push_steps(&[
        ("other", "status=0; sai-agent device esp32 -- true || status=$?; test $status = 125"),
        ("nothing", "status=0; sai-agent device expect x || status=$?; test $status = 2"),
    ]);
    let event = bench.world.ended(3);
    let logs: Vec<String> = event.jobs.iter().map(|job| text(&bench.world, job.id)).collect();
    assert!(event.jobs.iter().all(|job| job.state == "passed"), "{logs:?}");
    assert!(logs[0].contains("its boards: uno-1 (arduino-uno)"), "{logs:?}");
    drop(agent);
}

#[test]
fn a_session_waits_for_its_board_and_ends_with_whoever_had_it() {
    let bench = Bench::new("kills-device");
    let _master = bench.world.master();
    let mut agent = bench.agent();
    bench.await_standing("free");
    let holds = "sai-agent device arduino-uno -- sh -c 'echo it is ours; exec sleep 1000'";
    let waits = "sai-agent device arduino-uno -- echo it came";
    let ours = |job: u64| text(&bench.world, job).contains("it is ours");
    let mut number = 0;
    for what in ["cancel", "command", "agent", "supervisor", "session"] {
        bench.push_steps(&[("holds", holds)]);
        let holder = eventually("the first has it", || {
            let event =
                bench.world.events().into_iter().find(|event| event.id > number && event.source != "session")?;
            let job = bench.world.event(event.id)?.jobs[0].clone();
            ours(job.id).then_some((event.id, job.id))
        });
        bench.push_steps(&[("waits", waits)]);
        let waiter = eventually("the other one waits", || {
            let event =
                bench.world.events().into_iter().find(|event| event.id > holder.0 && event.source != "session")?;
            let job = bench.world.event(event.id)?.jobs[0].clone();
            text(&bench.world, job.id).contains("is asked for: job").then_some((event.id, job.id))
        });
        assert!(!text(&bench.world, waiter.1).contains("it came"));
        match what {
            "cancel" => drop(bench.world.command(&["cancel", "job", &holder.1.to_string()])),
            "command" => bench.kill("1000"),
            "agent" => {
                // Who waits goes on waiting while its agent is away, and asks for no second session.
                agent.kill();
                agent = bench.world.agent_again("a");
                bench.kill("1000");
            }
            "supervisor" | "session" => {
                let key = match what {
                    "supervisor" => format!("{}-1", holder.1),
                    _ => {
                        let session = text(&bench.world, holder.1);
                        let job = session.split("is asked for: job ").nth(1).and_then(|rest| rest.lines().next());
                        format!("{}-1", job.expect("a job").trim())
                    }
                };
                let line =
                    bench.world.survivors().into_iter().find(|line| line.contains("--job") && line.contains(&key));
                let line = line.unwrap_or_else(|| panic!("no supervisor of {key}"));
                let process = line.split(':').next().and_then(|pid| pid.parse().ok()).expect("a process");
                let _ = kill_process(Pid::from_raw(process).expect("a process"), Signal::KILL);
                if what == "supervisor" {
                    // The build begins anew, and so does what it asks.
                    eventually("it is built again", || {
                        let job = bench.world.event(holder.0)?.jobs[0].clone();
                        (job.attempt > 1).then_some(())
                    });
                    bench.world.command(&["cancel", "job", &holder.1.to_string()]);
                }
            }
            _ => unreachable!("{what}"),
        }
        let event = bench.world.ended(waiter.0);
        assert_eq!(event.jobs[0].state, "passed", "{what}: {}", text(&bench.world, waiter.1));
        assert!(text(&bench.world, waiter.1).contains("it came"), "{what}");
        let ended = bench.world.ended(holder.0);
        let state = if what == "cancel" || what == "supervisor" { "cancelled" } else { "failed" };
        assert_eq!(ended.jobs[0].state, state, "{what}: {}", text(&bench.world, holder.1));
        bench.await_standing("free");
        let sessions: Vec<u64> =
            bench.world.events().iter().filter(|event| event.source == "session").map(|event| event.id).collect();
        number = sessions.into_iter().max().unwrap_or(0).max(waiter.0);
    }
    drop(agent);
}
