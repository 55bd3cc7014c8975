//! Boards of agents, from a push to the verdict: an emulated Arduino Uno with the stock optiboot, its owner, its guard and an agent, all
//! real processes, some of which are killed.

use rustix::process::Signal;
use rustix::termios::tcgetattr;
use sai_buddy::frames::Status;
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_tests::bench::Bench;
use sai_tests::boards::{BUILD, at_board, at_step, saifile, standing, verdict};
use sai_tests::process::{Process, eventually};
use sai_tests::tty::Tty;
use sai_tests::world::World;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// What a step does at a board that has the program already.
const AT_BOARD: &str = "sai-agent device mode run\n\
                        sai-agent device expect 'login: $' --within 30s\n\
                        printf 'root\\n' > $SAI_DEVICE_TTY0\n\
                        sai-agent device expect 'ALL DONE' --within 30s\n";

/// Pushes a saifile whose configurations are cases of the program, each with more keys of its board.
fn push(bench: &Bench, cases: &[(&str, &str)]) {
    bench.world.repository.push_saifile(&saifile(cases));
}

/// Awaits the end of an event, whose job at a board passes.
fn passes(bench: &Bench, number: u64) {
    let event = bench.world.ended(number);
    let job = at_board(&event, "PASS");
    assert_eq!(job.state, "passed", "{}: {}", job.cause, String::from_utf8_lossy(&bench.world.log(job.id)));
    assert_eq!(verdict(&bench.world, job.id).0, "passed");
}

/// What the owner of a board says.
fn status(bench: &Bench, board: &str) -> Status {
    let file = bench.world.directory.join("boards.json").into();
    let whose = Whose { file, board: board.into(), directory: bench.sockets(), begins: Begins::Never };
    Visit::new(&whose).and_then(|visit| visit.status()).expect("an owner")
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
    push(&bench, &cases.map(|(case, keys, ..)| (case, keys)));
    let event = bench.world.ended(1);
    for (case, _, state, word) in cases {
        let job = at_board(&event, case);
        let (found, cause) = verdict(&bench.world, job.id);
        let log = String::from_utf8_lossy(&bench.world.log(job.id)).into_owned();
        assert_eq!((job.state.as_str(), found.as_str()), (state, word), "{case}: {cause}: {log}");
    }
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
    push(&bench, &[("NO_BOOT", r#""timeout": "12s","#)]);
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
    push(&bench, &[("NO_BOOT", r#""timeout": "100s","#)]);
    let job = at_step(&bench.world, 2, "NO_BOOT", 2);
    bench.world.command(&["cancel", "job", &job.to_string()]);
    assert_eq!(at_board(&bench.world.ended(2), "NO_BOOT").state, "cancelled");
    bench.await_standing("free");

    // Who dies while it is flashed is nobody's failure, and the next attempt passes.
    for (number, word) in [(3, "--job"), (4, "owner"), (5, "guard")] {
        push(&bench, &[("PASS", "")]);
        at_step(&bench.world, number, "PASS", 1);
        bench.kill(word);
        let event = bench.world.ended(number);
        let job = at_board(&event, "PASS");
        assert_eq!(job.state, "passed", "{word}: {}: {}", job.cause, String::from_utf8_lossy(&bench.world.log(job.id)));
        assert!(job.attempt <= 2, "{word}: attempt {}", job.attempt);
        assert_eq!(verdict(&bench.world, job.id).0, "passed");
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
    // Another agent claims the same tty, which is the first one's and is not disturbed; what it builds is flashed where the board is.
    let run = format!("\"boards_run\": {:?}", bench.world.directory.join("other-run"));
    let builder = bench.world.agent_with("c", &["linux"], 1, &[&file, &run, "\"user\": \"nobody\""]);
    eventually("it is told who has the tty", || standing(&bench.world, "c/uno-1").contains("in use by").then_some(()));
    push(&bench, &[("PASS", "")]);
    passes(&bench, 1);
    let event = bench.world.event(1).expect("an event");
    let agents: Vec<_> = event.jobs.iter().map(|job| (job.configuration.as_str(), job.agent.as_deref())).collect();
    assert_eq!(agents, [("PASS", Some("c")), ("PASS/board", Some("b"))]);
    assert_ne!(standing(&bench.world, "c/uno-1"), "free");
    // Whoever wants to reach the board past its owner cannot, even where everybody may open the tty.
    fs::set_permissions(&bench.boards[0].tty, fs::Permissions::from_mode(0o666)).expect("a tty");
    let owner = i32::try_from(status(&bench, "uno-1").process).expect("a process");
    // The other agent has a guard of its own.
    let processes = [vec![owner], bench.processes("guard")].concat();
    assert_eq!(processes.len(), 3, "{processes:?}");
    let victims: Vec<String> = processes.iter().map(ToString::to_string).collect();
    let build = format!(
        "for victim in {}; do kill -9 $victim || echo spared; done; (: <>{}) || echo shut; ls {} || echo hidden",
        victims.join(" "),
        bench.links[0].display(),
        bench.sockets().display()
    );
    let saifile = format!(
        r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": "{build}" }} }}, "configurations": {{ "reach": {{}} }} }}"#
    );
    bench.world.repository.push_saifile(&saifile);
    let event = bench.world.ended(2);
    let log = String::from_utf8_lossy(&bench.world.log(event.jobs[0].id)).into_owned();
    let said = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!((said("spared"), said("not permitted"), said("shut"), said("hidden")), (3, 3, 1, 1), "{log}");
    assert!(log.contains("Device or resource busy"), "{log}");
    assert_eq!(status(&bench, "uno-1").process, owner as u32);
    assert_eq!(bench.processes("guard"), processes[1..]);
    assert_eq!(standing(&bench.world, "b/uno-1"), "free");
    drop(builder);
    let mut text = fs::read_to_string(bench.world.directory.join("boards.json")).expect("a bench");
    text = text.replace("\"modes\"", "\"mods\"");
    fs::write(bench.world.directory.join("boards.json"), text).expect("a bench");
    agent.signal(Signal::HUP);
    let line = agent.await_line("nothing changes: ");
    assert!(line.contains("boards.json:") && line.contains("mods"), "{line}");
}

#[test]
fn a_changed_bench_is_gone_by_from_the_next_job_on_and_no_other_board_is_touched() {
    let bench = Bench::with("changed-boards", 2, "");
    let _master = bench.world.master();
    let agent = bench.agent();
    bench.await_standing("free");
    eventually("the other board is free", || (standing(&bench.world, "a/uno-2") == "free").then_some(()));
    let (first, second) = (status(&bench, "uno-1"), status(&bench, "uno-2"));
    assert_eq!((first.mode.as_deref(), second.mode.as_deref()), (Some("run"), Some("run")));

    // A job that is under way keeps what was there when it began.
    push(&bench, &[("NO_BOOT", r#""tags": ["place-2"], "timeout": "8s","#)]);
    let job = at_step(&bench.world, 1, "NO_BOOT", 2);
    let file = bench.world.directory.join("boards.json");
    let text = fs::read_to_string(&file).expect("a bench");
    let (before, mut after) = text.split_at(text.find("\"uno-2\"").expect("the other board"));
    let changed = after
        .replace("place-2\"],", "place-2\", \"pressed\"],")
        .replace(" } }, \"power\"", ", \"baud\": 57600 } }, \"power\"");
    let changed = changed.replace("\"sequences\": {", "\"sequences\": { \"press\": [\"wait 7ms\"],");
    assert!(changed.contains("57600") && changed.contains("7ms"), "{changed}");
    after = &changed;
    fs::write(&file, format!("{before}{after}")).expect("a bench");
    agent.signal(Signal::HUP);
    eventually("the board is offered anew", || bench.world.page("/api/v1/units").contains("pressed").then_some(()));
    assert_eq!(status(&bench, "uno-2").bench, second.bench, "a job is at the board");
    let event = bench.world.ended(1);
    assert_eq!((at_board(&event, "NO_BOOT").attempt, verdict(&bench.world, job).0.as_str()), (1, "no-boot"));
    eventually("it is gone by", || Some(status(&bench, "uno-2")).filter(|status| status.bench != second.bench));

    // What is new of it is what the next job has.
    let test = r#""test": [{ "expect": "login: $", "within": "15s" }, { "play": "press" }, { "send": "root\n" }],"#;
    push(&bench, &[("PASS", &format!(r#""tags": ["pressed"], {test}"#))]);
    passes(&bench, 2);
    let tty = fs::File::open(&bench.links[1]).expect("the tty");
    assert_eq!(tcgetattr(&tty).expect("its settings").output_speed(), 57_600);
    let now = status(&bench, "uno-2");
    assert_eq!((now.process, now.mode.as_deref()), (second.process, Some("run")));
    let other = status(&bench, "uno-1");
    assert_eq!((other.process, other.bench, other.mode), (first.process, first.bench, first.mode));
}

/// A part of a job that has two boards: what is flashed, and more keys.
fn part(image: &str, more: &str) -> String {
    format!(
        r#"{{ {more} "flash": "{image}", "identity": "^fw ${{SAI_COMMIT}}$", "banner": "^fw ", "results": "tap", "pass": "^ALL DONE",
            "test": [{{ "expect": "login: $", "within": "15s" }}, {{ "send": "root\n" }}, {{ "expect": "hello root", "within": "15s" }}] }}"#
    )
}

#[test]
fn two_boards_are_wanted_as_a_rig_and_as_a_list_and_each_is_judged_by_its_part() {
    let rigs = r#", "rigs": { "pair": { "type": "two-unos", "boards": ["uno-2", "uno-1"] } }"#;
    let bench = Bench::with("rigs", 2, rigs);
    let _master = bench.world.master();
    let agent = bench.agent();
    let said = agent.said();
    assert!(said.iter().any(|line| line.contains("offering the boards pair (two-unos)")), "{said:?}");
    eventually("the rig is free", || (standing(&bench.world, "a/pair") == "free").then_some(()));
    let build = ["left", "right"].map(|name| BUILD.replace("case", name).replace("fw.", &format!("{name}.")));
    let build = build.join("\\n");
    let push = |board: &dyn Fn() -> String| {
        let of = |name: &str, left: &str, right: &str| {
            let board = board();
            format!(
                r#""{name}": {{ "left": "{left}", "right": "{right}", "artifacts": "left.bin, right.bin", "board": {board} }}"#
            )
        };
        let text = format!(
            r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": "{build}" }} }}, "configurations": {{ {}, {} }} }}"#,
            of("good", "PASS", "PASS"),
            of("bad", "PASS", "FAIL")
        );
        bench.world.repository.push_saifile(&text);
    };
    // The first of a rig is what its bench names first.
    let as_rig =
        || format!(r#"{{ "type": "two-unos", "boards": [{}, {}] }}"#, part("left.bin", ""), part("right.bin", ""));
    let as_list = || {
        let uno = |place: &str| format!(r#""type": "arduino-uno", "tags": ["{place}"],"#);
        let parts = [part("left.bin", &uno("place-2")), part("right.bin", &uno("place-1"))];
        format!(r#"{{ "boards": [{}] }}"#, parts.join(", "))
    };
    for (number, what, board) in [(1, "rig", &as_rig as &dyn Fn() -> String), (2, "list", &as_list)] {
        push(board);
        let event = bench.world.ended(number);
        for (name, state, word, whose) in
            [("good", "passed", "passed", None), ("bad", "failed", "test-fail", Some("uno-1"))]
        {
            let job = at_board(&event, name);
            let log = bench.world.records(job.id);
            let verdict = log.verdict.as_ref().unwrap_or_else(|| panic!("{what} {name}: no verdict"));
            let found = verdict.verdict.as_ref().expect("a word");
            let cause = whose.is_none_or(|whose| verdict.cause.starts_with(&format!("{whose}: ")));
            let text = String::from_utf8_lossy(&bench.world.log(job.id)).into_owned();
            assert_eq!(
                (job.state.as_str(), found.word.as_str(), found.board.as_deref(), cause),
                (state, word, whose, true),
                "{what} {name}: {verdict:?}: {text}"
            );
            let (_, again, why) = bench.world.try_command(&["rejudge", &job.id.to_string()]);
            let wanted = format!("verdict\t{word}\n");
            assert!(again.starts_with(&wanted), "{what} {name}: {word}: {again}{why}");
            // Images, flash, test, once of both.
            assert_eq!((&log.steps[..], log.statuses.len()), (&[0, 1, 2][..], 3), "{what} {name}");
            for (board, says) in
                [("uno-2", "ok 2 - counts"), ("uno-1", if name == "bad" { "not ok 2" } else { "ok 2 - counts" })]
            {
                let address = format!("/job/{}/console/{board}%2Fmain", job.id);
                let console = String::from_utf8_lossy(&bench.world.get(&address).expect("a console")).into_owned();
                assert!(console.contains(says), "{what} {name} {board}: {console}");
            }
            let page = bench.world.page(&format!("/job/{}", job.id));
            assert!(page.contains("uno-1/main") && page.contains("uno-2/main"), "{what} {name}: no consoles");
        }
        if what == "rig" {
            let text = fs::read_to_string(bench.world.directory.join("boards.json")).expect("a bench");
            fs::write(bench.world.directory.join("boards.json"), text.replace(rigs, "")).expect("a bench");
            agent.signal(Signal::HUP);
        }
    }
}

#[test]
fn a_master_alone_has_boards_of_its_own() {
    let mut bench = Bench::with("alone-boards", 1, "");
    let (file, run) = (bench.world.directory.join("boards.json"), bench.sockets());
    let builtin = |more: &str| {
        format!(r#"{{ "platforms": ["linux"], "slots": 1, "boards": {file:?}, "boards_run": {run:?}{more} }}"#)
    };
    // Steps on the machine would be the master's own user.
    bench.world.set("builtin", &builtin(""));
    let master = bench.world.master();
    let says = |master: &Process, text: &str| {
        eventually(text, || master.said().iter().any(|line| line.contains(text)).then_some(()));
    };
    says(&master, "its boards are not offered: steps on the machine itself run as the agent's own user");
    drop(master);
    bench.world.set("builtin", &builtin(r#", "user": "nobody""#));
    let master = bench.world.master();
    says(&master, "built-in: offering the boards uno-1 (arduino-uno)");
    let standing = || {
        let page = bench.world.page("/api/v1/units");
        page.contains("\"built-in/uno-1\"").then_some(page).filter(|page| page.contains("\"standing\":\"free\""))
    };
    eventually("the board is free", standing);
    push(&bench, &[("PASS", "")]);
    passes(&bench, 1);
    // A step has what it asks for boards with by the name that it has elsewhere, though it is this program.
    bench.world.repository.write("at-board.sh", AT_BOARD);
    bench.world.repository.push_saifile(
        r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "sai-agent device arduino-uno -- sh -ex at-board.sh" } },
             "configurations": { "step": {} } }"#,
    );
    let (event, session) = (bench.world.ended(2), bench.world.ended(3));
    for job in [&event.jobs[0], &session.jobs[0]] {
        assert_eq!(job.state, "passed", "{}: {}", job.cause, String::from_utf8_lossy(&bench.world.log(job.id)));
    }
    assert_eq!(session.jobs[0].configuration, "step/device");
    let log = bench.world.records(session.jobs[0].id);
    assert!(String::from_utf8_lossy(log.channel("serial:main")).contains("hello root"), "it is in the session's log");
    eventually("the board is free", standing);
    // Owner and guard are this program, and outlive it.
    for word in ["owner", "guard"] {
        let [process] = bench.processes(word)[..] else { panic!("one {word}: {:?}", bench.world.survivors()) };
        let program = fs::read_link(format!("/proc/{process}/exe")).expect("a program");
        assert_eq!(program.file_name().and_then(|name| name.to_str()), Some("sai-master"), "{word}");
    }
    let before = status(&bench, "uno-1");
    drop(master);
    let _master = bench.world.master();
    eventually("the board is free", standing);
    assert_eq!(status(&bench, "uno-1").process, before.process);
}

/// A job that one agent builds and another may test, at a board that is told to be ready by whoever has it.
const AT_ANY: &str = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "true" } }, "configurations": { "default": {
    "board": { "type": "tty", "test": [{ "expect": "ready", "within": "100s" }], "pass": "^ALL DONE", "timeout": "100s" } } } }"#;

#[test]
fn a_job_whose_board_fails_it_goes_on_at_another_agents_board() {
    let mut bench = Tty::with("other-board", 2);
    let world = &bench.world;
    let _master = world.master();
    let _agents = [bench.agent_of(1), bench.agent_of(2)];
    for board in ["a/tty-1", "b/tty-2"] {
        eventually("both boards are free", || (standing(world, board) == "free").then_some(()));
    }
    world.repository.push_saifile(AT_ANY);
    let job = |world: &World| world.event(1).map(|event| at_board(&event, "default").clone());
    let listens = |world: &World, attempt: u32| {
        let log = |id| {
            String::from_utf8_lossy(&world.get(&format!("/job/{id}/{attempt}/timeline.json")).unwrap_or_default())
                .into_owned()
        };
        eventually("it listens to a board", || {
            job(world).filter(|job| job.attempt == attempt && log(job.id).contains("\"judged\":true"))
        })
    };
    let sai_tests::world::Job { id, agent: first, .. } = listens(world, 1);
    let place = usize::from(first.as_deref() == Some("b"));
    // Its cable is pulled while it is judged.
    drop(bench.boards.remove(place));
    let world = &bench.world;
    let second = listens(world, 2).agent;
    (&bench.boards[0]).write_all(b"ready\nALL DONE\n").expect("the board says something");
    let event = world.ended(1);
    let job = at_board(&event, "default");
    let log = String::from_utf8_lossy(&world.log(id)).into_owned();
    assert_eq!(
        (job.state.as_str(), job.attempt, job.agent.as_deref()),
        ("passed", 2, second.as_deref()),
        "{}: {log}",
        job.cause
    );
    // It says where it was first, and why it went on.
    let page = world.page(&format!("/job/{id}"));
    assert!(second != first && page.contains(["a/tty-1", "b/tty-2"][place]) && page.contains("unplugged"), "{page}");
}
