//! Boards that a build's step asks for, from the push to the end of the session: an emulated Arduino Uno, its owner and guard, an agent, steps
//! on the machine and in containers, and everybody's death.

#[path = "../../agent/tests/roots/mod.rs"]
mod roots;

use rustix::fs::{major, minor, stat};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use sai_agent::idmap;
use sai_tests::bench::Bench;
use sai_tests::boards::{program, standing, verdict};
use sai_tests::process::{eventually, program as program_path};
use sai_tests::repository::run;
use sai_tests::tty::{self, Tty};
use sai_tests::world::World;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

/// Pushes a saifile with these configurations, each with more of its keys and the script of its only step.
fn push_steps(world: &World, platform: &str, scripts: &[(&str, &str, &str)]) {
    let one = |(name, keys, script): &(&str, &str, &str)| format!("{name:?}: {{ {keys} \"do\": {script:?} }}");
    let all: Vec<String> = scripts.iter().map(one).collect();
    let text = format!(
        r#"{{ "schema": "sai-1", "platforms": {{ "{platform}": {{ "build": "${{do}}" }} }}, "configurations": {{ {} }} }}"#,
        all.join(", ")
    );
    world.repository.push_saifile(&text);
}

/// The event and the job of the only configuration that is pushed next, once this is in its log.
fn pushed(world: &World, keys: &str, script: &str, says: &str) -> (u64, u64) {
    let last = world.events().iter().map(|event| event.id).max().unwrap_or(0);
    push_steps(world, "linux", &[("step", keys, script)]);
    eventually(&format!("{says:?} is said"), || {
        let events = world.events();
        let event = events.iter().find(|event| event.id > last && event.source != "session")?.id;
        let job = world.event(event)?.jobs.first()?.id;
        text(world, job).contains(says).then_some((event, job))
    })
}

/// What builds the program of a board in a step.
const FIRMWARE: &str = "avr-gcc -mmcu=atmega328p -Os -DCASE=PASS -DVERSION='\"x\"' -o fw.elf program.c\n\
                        avr-objcopy -O binary fw.elf fw.bin\n";

/// What a step does at its board.
const AT_BOARD: &str = "echo board $SAI_DEVICE has $SAI_DEVICE_CONSOLES\n\
                        test -c $SAI_DEVICE_TTY0\n\
                        sai-agent device flash fw.bin\n\
                        sai-agent device expect 'login: $' --within 30s\n\
                        printf 'root\\n' > $SAI_DEVICE_TTY0\n\
                        sai-agent device expect 'hello root' --within 30s\n\
                        sai-agent device expect 'ALL DONE' --within 30s\n\
                        exit 3\n";

/// What says in a container that nothing of boards can be reached there but by the two sockets that a command is given: neither the tty, by
/// its name or as a node of its own, nor the sockets of owner and guard, nor they themselves.
const ALONE: &str = r#"test ! -e LINK
test ! -e RUN
if mknod /tmp/tty c NODE; then exit 4; fi
test -S "$SAI_DEVICES"
find / -path /proc -prune -o -path "${SAI_DEVICES%/*}" -prune -o -path /run/host -prune -o -type s -print > /tmp/sockets
test "$(cat /tmp/sockets)" = "$SAI_DEVICE_SOCKET"
if grep -lzxE 'owner|guard' /proc/[0-9]*/cmdline; then exit 5; fi
"#;

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
    bench.world.repository.write("at-board.sh", AT_BOARD);
    // What it ends with is what its command ended with.
    let step = format!(
        "{FIRMWARE}status=0; sai-agent device arduino-uno -- sh -ex at-board.sh || status=$?; test $status = 3"
    );
    push_steps(&bench.world, "linux", &[("fw", "", &step)]);
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
    let refused = |command: &str, status: i32| format!("status=0; {command} || status=$?; test $status = {status}");
    let nested = refused("sai-agent device arduino-uno -- sai-agent device arduino-uno -- true", 125);
    let steps = [
        ("other", refused("sai-agent device esp32 -- true", 125), "its boards: uno-1 (arduino-uno)"),
        ("word", refused("sai-agent device expect x", 2), "this word is for the command of"),
        ("late", refused("sai-agent device arduino-uno --within 1ms -- true", 125), "was free in time"),
        ("missing", refused("sai-agent device arduino-uno -- /no/such/program", 127), "/no/such/program"),
        ("nested", nested, "a command that has one may not ask for another"),
        ("signal", refused("sai-agent device arduino-uno -- sh -c 'kill -9 $$'", 137), "is ours"),
    ];
    push_steps(&bench.world, "linux", &steps.each_ref().map(|(name, script, _)| (*name, "", script.as_str())));
    let event = bench.world.ended(3);
    for (name, _, says) in &steps {
        let job = event.jobs.iter().find(|job| job.configuration == *name).expect("a job");
        let log = text(&bench.world, job.id);
        assert!(job.state == "passed" && log.contains(says), "{name}: {}: {log}", job.state);
    }
    bench.await_standing("free");
    drop(agent);

    // So it is where no boards are.
    let agent = bench.world.agent("b", &["linux"], 1);
    let other = refused(&format!("{} device arduino-uno -- true", program_path("sai-agent").display()), 125);
    let (event, job) = pushed(&bench.world, "", &other, "for steps of jobs at an agent that offers boards");
    assert_eq!(bench.world.ended(event).jobs[0].state, "passed", "{}", text(&bench.world, job));
    drop(agent);
}

/// What a step does with a board of two consoles: all words but the one that flashes it, and what they say that cannot be.
const WORDS: &str = r#"test "$SAI_DEVICE_CONSOLES" = 'main aux'
sai-agent device play reset
sai-agent device mode off
sai-agent device power on
sai-agent device power cycle
sai-agent device send 'ping!
'
sai-agent device expect 'main has (?P<what>ping.)$' --within 30s
sai-agent device send 'pong
' --console aux
sai-agent device expect 'aux has pong' --console aux --within 30s
printf 'by the first tty
' > $SAI_DEVICE_TTY0
sai-agent device expect 'main has by the first tty' --within 30s
printf 'by the second tty
' > $SAI_DEVICE_TTY1
sai-agent device expect 'aux has by the second tty' --console aux --within 30s
(echo typed; sleep 2) | sai-agent device console --console aux --within 10s | (read -r line; echo "it says: $line"; cat >/dev/null)
no() { status=$1; shift; ended=0; sai-agent device "$@" 2>said || ended=$?; cat said; test $ended = $status; }
no 1 play none
no 1 mode none
no 1 power halfway
no 1 send x --console none
no 1 expect 'never' --within 100ms
no 1 expect '(' --within 100ms
no 2 send 'x\q'
no 2 dance
no 125 tty -- true
"#;

/// A console that says of each line that it has had that.
fn echoes(name: &'static str, mut tty: fs::File) {
    std::thread::spawn(move || {
        let mut line = Vec::new();
        let mut byte = [0];
        while let Ok(count @ 1..) = tty.read(&mut byte) {
            line.extend(&byte[..count]);
            if byte[0] == b'\n' {
                let text = String::from_utf8_lossy(&line).trim().to_string();
                let _ = tty.write_all(format!("{name} has {text}\r\n").as_bytes());
                line.clear();
            }
        }
    });
}

#[test]
fn a_step_moves_a_board_and_speaks_by_each_of_its_consoles() {
    let bench = Tty::new("words");
    let (aux, path) = tty::pty();
    let mut raw = tcgetattr(&aux).expect("its settings");
    raw.make_raw();
    tcsetattr(&aux, OptionalActions::Now, &raw).expect("raw");
    let file = bench.world.directory.join("boards-1.json");
    let described = fs::read_to_string(&file).expect("a bench");
    let more = format!("\"baud\": 115200 }}, \"aux\": {{ \"path\": {path:?} }}");
    let described = described.replace("\"baud\": 115200 }", &more);
    fs::write(&file, described.replace("\"sequences\"", "\"modes\": { \"off\": [\"power off\"] }, \"sequences\""))
        .expect("a bench");
    echoes("main", bench.boards[0].try_clone().expect("a copy"));
    echoes("aux", aux.try_clone().expect("a copy"));
    let _master = bench.world.master();
    let _agent = bench.agent();
    eventually("the board is free", || (standing(&bench.world, "a/tty-1") == "free").then_some(()));
    bench.world.repository.write("words.sh", WORDS);
    push_steps(&bench.world, "linux", &[("fw", "", "sai-agent device tty -- sh -e words.sh")]);
    let (event, other) = (bench.world.ended(1), bench.world.ended(2));
    let log = text(&bench.world, event.jobs[0].id);
    let whole = format!("{log}\n{}", text(&bench.world, other.jobs[0].id));
    assert_eq!((event.jobs[0].state.as_str(), other.jobs[0].state.as_str()), ("passed", "passed"), "{whole}");
    for said in [
        "main has ping!",
        "it says: aux has typed",
        "board tty-1 has no sequence \"none\": expected one of reset",
        "board tty-1 has no mode \"none\": expected one of off",
        "expected `dance -- COMMAND`, or one of flash",
        "a command that has one may not ask for another",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    let supply = fs::read_to_string(bench.world.directory.join("supply")).expect("what it was told");
    // It is brought into a mode before it is given, and when it is given back.
    assert_eq!(supply, "off\n".to_string() + "off\non\noff\non\n" + "off\n");
    // Both are in the log of the session, each by its name.
    for (name, said) in [("main", "main has by the first tty"), ("aux", "aux has by the second tty")] {
        let console = bench.world.get(&format!("/job/{}/console/{name}", other.jobs[0].id)).expect("a console");
        assert!(String::from_utf8_lossy(&console).contains(said), "{name}");
    }
    drop(aux);
}

/// How whoever has the board comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cancel,
    SessionCancelled,
    Command,
    Program,
    Agent,
    Supervisor,
    SessionsSupervisor,
    Owner,
    Time,
}

/// Tries to be given a board by the socket of a job of which it is no step.
fn stranger_asks(world: &World) {
    let jobs = world.job_directories(&world.agent_state("a")).into_iter().map(|job| job.join("steps/devices"));
    let socket = jobs.into_iter().find(|socket| socket.exists()).expect("a job has one");
    let mut command = Command::new(program_path("sai-agent"));
    let asked = command.args(["device", "arduino-uno", "--", "true"]).env("SAI_DEVICES", socket).output();
    let asked = asked.expect("it runs");
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(asked.status.code() == Some(125) && said.contains("only steps of this job may ask here"), "{said}");
}

/// Kills the supervisor of a job's first attempt.
fn kill_supervisor(world: &World, job: u64) {
    let key = format!("/{job}-1");
    let all = world.survivors();
    let line = all.iter().find(|line| line.contains("--job") && line.trim_end().ends_with(&key));
    kill(line.unwrap_or_else(|| panic!("no supervisor of {key}: {all:?}")));
}

/// The session that a job has asked for.
fn session(world: &World, job: u64) -> u64 {
    let log = text(world, job);
    let session = log.split("is asked for: job ").nth(1).and_then(|rest| rest.lines().next());
    session.and_then(|session| session.trim().parse().ok()).unwrap_or_else(|| panic!("no session: {log}"))
}

/// Kills a process, by its line among those that survive.
fn kill(line: &str) {
    let process = line.split(':').next().and_then(|pid| pid.parse().ok()).expect("a process");
    let _ = kill_process(Pid::from_raw(process).expect("a process"), Signal::KILL);
}

#[test]
fn a_session_waits_for_its_board_and_ends_with_whoever_had_it() {
    let bench = Bench::new("kills-device");
    let _master = bench.world.master();
    let mut agent = bench.agent();
    bench.await_standing("free");
    // It brings an image that no such board takes, of which the agent keeps nothing.
    let holds = "head -c 300000 /dev/zero > large\n\
                 sai-agent device arduino-uno -- sh -c 'sai-agent device flash large || echo it is ours; exec sleep 1000'";
    let waits = "sai-agent device arduino-uno -- echo it came";
    let all = [
        (End::Cancel, "cancelled"),
        (End::SessionCancelled, "failed"),
        (End::Command, "failed"),
        (End::Program, "failed"),
        (End::Agent, "failed"),
        (End::Supervisor, "cancelled"),
        (End::SessionsSupervisor, "failed"),
        (End::Owner, "failed"),
        (End::Time, "timed-out"),
    ];
    for (end, state) in all {
        let time = if end == End::Time { r#""timeout": "15s","# } else { "" };
        let holder = pushed(&bench.world, time, holds, "it is ours");
        let waiter = pushed(&bench.world, "", waits, "is asked for: job");
        assert!(!text(&bench.world, waiter.1).contains("it came"));
        stranger_asks(&bench.world);
        let jobs = bench.world.job_directories(&bench.world.agent_state("a"));
        let files = jobs.iter().flat_map(|job| fs::read_dir(job.join("work")).into_iter().flatten().flatten());
        let kept: Vec<_> =
            files.map(|file| file.file_name()).filter(|name| name.to_string_lossy().contains("image")).collect();
        assert!(kept.is_empty(), "{kept:?}");
        let there = format!("job {} is there", session(&bench.world, holder.1));
        eventually("who waits is told who has it", || {
            let all = bench.world.events();
            let sessions = all.iter().filter(|event| event.source == "session");
            let mut jobs = sessions.filter_map(|event| bench.world.event(event.id)?.jobs.into_iter().next());
            jobs.any(|job| job.waiting.is_some_and(|why| why.contains(&there))).then_some(())
        });
        match end {
            End::Cancel => drop(bench.world.command(&["cancel", "job", &holder.1.to_string()])),
            End::SessionCancelled => {
                drop(bench.world.command(&["cancel", "job", &session(&bench.world, holder.1).to_string()]));
            }
            End::Command => bench.kill("1000"),
            End::Program => {
                let all = bench.world.survivors();
                kill(all.iter().find(|line| line.contains("sai-agent device") && line.contains("ours")).expect("one"));
            }
            End::Agent => {
                // Who waits goes on waiting while its agent is away, and asks for no second session.
                agent.kill();
                agent = bench.world.agent_again("a");
                bench.kill("1000");
            }
            End::Supervisor => {
                kill_supervisor(&bench.world, holder.1);
                // The build begins anew, and so does what it asks.
                eventually("it is built again", || {
                    (bench.world.event(holder.0)?.jobs.first()?.attempt > 1).then_some(())
                });
                bench.world.command(&["cancel", "job", &holder.1.to_string()]);
            }
            End::SessionsSupervisor => kill_supervisor(&bench.world, session(&bench.world, holder.1)),
            End::Owner => bench.kill("owner"),
            End::Time => {}
        }
        let event = bench.world.ended(waiter.0);
        assert_eq!(event.jobs[0].state, "passed", "{end:?}: {}", text(&bench.world, waiter.1));
        assert!(text(&bench.world, waiter.1).contains("it came"), "{end:?}");
        let ended = bench.world.ended(holder.0);
        assert_eq!(ended.jobs[0].state, state, "{end:?}: {}", text(&bench.world, holder.1));
        bench.await_standing("free");
        let all = bench.world.events();
        let sessions = all.iter().filter(|event| event.source == "session");
        assert!(sessions.clone().all(|event| bench.world.event(event.id).is_some_and(|one| one.jobs[0].ended())));
    }
    // One for each that asked, and one more for the build that began anew.
    let sessions = bench.world.events().iter().filter(|event| event.source == "session").count();
    assert!(sessions <= 2 * all.len() + 1, "{sessions}");
    drop(agent);
}

/// What says in a container of one of these images that a board was had, or why not.
fn in_containers(runner: &str) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let bench = Bench::new(&format!("device-{runner}"));
    let directory = &bench.world.directory;
    let image = |platform: &str, root: &Path| {
        let mut create = Command::new(program_path("sai-agent"));
        create.args(["image", "create", platform, "--from-dir"]).arg(root);
        run(create.arg("--state").arg(bench.world.agent_state("a")));
    };
    image("linux-debian-12/x86_64/plain", &roots::debian("bookworm"));
    image("linux-small/x86_64/plain", &roots::busybox(&directory.join("busybox")));
    let source = directory.join("program.c");
    fs::write(&source, program()).expect("a program");
    let mut built = Command::new("bash");
    run(built.current_dir(directory).args(["-ec", FIRMWARE]));
    bench.world.repository.write("fw.bin", fs::read(directory.join("fw.bin")).expect("a program"));
    bench.world.repository.write("at-board.sh", AT_BOARD);
    let _master = bench.world.master();
    let file = directory.join("boards.json");
    let settings = [
        format!("\"boards\": {file:?}"),
        format!("\"boards_run\": {:?}", bench.sockets()),
        "\"platforms\": []".to_string(),
        format!("\"container\": {runner:?}"),
    ];
    let agent = bench.world.agent_with("a", &[], 2, &settings.each_ref().map(String::as_str));
    bench.await_standing("free");
    let step = "status=0; sai-agent device arduino-uno -- sh -ex at-board.sh || status=$?; test $status = 3";
    let mut steps = vec![("fw", "", step)];
    // Who is root in there has a board by the same socket, and nothing of the machine that another step has not.
    let tty = stat(&bench.boards[0].tty).expect("a tty").st_rdev;
    let alone = ALONE.replace("LINK", &bench.links[0].to_string_lossy());
    let alone = alone.replace("RUN", &bench.sockets().to_string_lossy());
    let alone = alone.replace("NODE", &format!("{} {}", major(tty), minor(tty)));
    bench.world.repository.write("at-root.sh", format!("test $(id -u) = 0\n{alone}. ./at-board.sh\n"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let rooted = "status=0; sai-agent device arduino-uno -- sh -ex at-root.sh || status=$?; test $status = 3";
    match idmap::available(&roots::debian("bookworm"), &path) {
        _ if runner != "nspawn" => {}
        Ok(()) => steps.push(("root", "\"root\": true,", rooted)),
        Err(why) => eprintln!("not tried as root: {why}"),
    }
    push_steps(&bench.world, "linux-debian-12", &steps);
    let event = bench.world.ended(1);
    // The sessions' events come behind the push's own.
    let next = 2 + steps.len() as u64;
    let sessions: Vec<_> = (2..next).map(|number| bench.world.ended(number).jobs.remove(0)).collect();
    for (name, ..) in &steps {
        let build = event.jobs.iter().find(|job| job.configuration == *name).expect("a job");
        let session = sessions.iter().find(|job| job.configuration == format!("{name}/device")).expect("a session");
        let told = format!("{}\n{}", text(&bench.world, build.id), text(&bench.world, session.id));
        assert_eq!((build.state.as_str(), session.state.as_str()), ("passed", "failed"), "{name}: {told}");
        assert!(told.contains("ALL DONE"), "{name}: {told}");
    }
    bench.await_standing("free");

    // The program of this agent needs a C library that the other image has not, unless it is a static one.
    let needs = fs::read(program_path("sai-agent")).expect("a program").windows(9).any(|bytes| bytes == b"ld-linux-");
    let step =
        if needs { "status=0; sai-agent device arduino-uno -- true || status=$?; test $status = 125" } else { step };
    push_steps(&bench.world, "linux-small", &[("fw", "", step)]);
    let event = bench.world.ended(next);
    let log = text(&bench.world, event.jobs[0].id);
    assert_eq!(event.jobs[0].state, "passed", "{log}");
    assert!(!needs || log.contains("was not built for the C library of this image"), "{log}");
    bench.await_standing("free");
    drop(agent);
}

#[test]
fn a_build_in_a_container_of_nspawn_gets_a_board() {
    in_containers("nspawn");
}

#[test]
fn a_build_in_a_container_of_bwrap_gets_a_board() {
    in_containers("bwrap");
}
