//! Two emulated machines wired to each other, from a push to the page: an agent here builds, the machine with the board flashes it over
//! USB serial, resets it by a GPIO, and its kernel sees the edges of the board's own line.
//!
//! The machine runs Debian's kernel and our own static agent; the board has the stock U-Boot. The pictures are in `target/wires`.

use miniserde::Deserialize;
use sai_core::axis::Entry;
use sai_core::job::Fault;
use sai_core::record::{Decoder, Item, Record};
use sai_tests::arm::PLACE;
use sai_tests::boards::{at_board, standing, verdict};
use sai_tests::browser::Browser;
use sai_tests::cross::{agent_with_boards, root};
use sai_tests::machine::BOOT;
use sai_tests::process::eventually_within;
use sai_tests::wired::{NRST, RESULT, Wired};
use sai_tests::world::{Event, World};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The board.
const BOARD: &str = "buddy/bench-1";
/// What its U-Boot does when nobody stops it.
const VARIABLES: &[&str] = &["bootdelay=2", "bootcmd=booti 0x04100000 - ${fdtcontroladdr}"];
/// What each program says, as printf(1) takes it, and does in between: 2 waits for a byte, 3 and 4 move its line up and down.
const PROGRAMS: [(&str, &str); 4] = [
    ("pass", r"fw %s\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\n\002\003\002\004\002ok 2 - line\r\nALL DONE\r\n"),
    ("fail", r"fw %s\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\n\002\003\002\004\002not ok 2 - line\r\nALL DONE\r\n"),
    // Its line never moves.
    ("hang", r"fw %s\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\n\002"),
    // What is left to be done is done by hand.
    ("cut", r"fw %s\r\nTAP version 13\r\n1..1\r\nok 1 - uart\r\nALL DONE\r\n"),
];
/// What a program says that is judged, and the board's loader when it is to get one.
const BEGUN: &str = "ok 1 - uart\r\n";
/// See there.
const LOADS: &str = "Ready for binary";

/// Between two looks at what takes seconds: each is work for the processors that the machines are emulated by.
const LOOK: Duration = Duration::from_millis(200);

/// What the machine's agent is told of its board.
fn boards() -> String {
    format!(
        r#"{{ "chip": "gpiochip0", "boards": {{ "bench-1": {{ "type": "arm-board",
    "consoles": {{ "main": {{ "usb": "1-1", "serial": "BOARD1", "baud": 115200 }} }},
    "lines": {{ "nrst": {{ "line": {NRST}, "active_low": true, "safe": 0 }}, "result": {{ "line": {RESULT}, "direction": "in" }} }},
    "sequences": {{ "reset": ["nrst 1", "wait 20ms", "nrst 0"] }},
    "modes": {{ "loader": {{ "do": ["reset"] }}, "run": {{ "do": ["reset"] }} }},
    "flash": {{ "with": "ymodem-uboot", "mode": "loader", "then": "run", "load": "0x41000000",
        "write": ["erase {{target}} +{{size}}", "cp.b {{load}} {{target}} {{size}}"],
        "targets": {{ "app": {{ "at": "{PLACE:#x}", "size": 262144 }} }} }} }} }} }}"#
    )
}

/// How the machine begins, each time that it has power: it joins once, and what it has been since is on its card.
fn script(line: &str) -> String {
    format!(
        "mount -t tmpfs run /run\n\
         mkdir -p /dev/pts\n\
         mount -t devpts devpts /dev/pts\n\
         if [ ! -e /var/lib/buddy/agent.json ]; then\n\
             sai-agent join '{line}' --name buddy --platform linux-arm --slots 1 --state /var/lib/buddy --only-save\n\
             sed -i 's#\"platforms\": *\\[[^]]*\\]#\"platforms\": [], \"keep_free_mib\": 8, \"boards\": \"/etc/boards.json\"#' /var/lib/buddy/agent.json\n\
             sync\n\
         fi\n\
         sai-agent --state /var/lib/buddy 2>&1 </dev/null\n"
    )
}

/// A configuration for each program, with what is asked of the board.
fn saifile() -> String {
    let build = "printf \"$(cat ${case}.says)\" \"$SAI_COMMIT\" >text && aarch64-linux-gnu-as -o fw.o fw.S && \
                 aarch64-linux-gnu-objcopy -O binary fw.o fw.img";
    let paced = |within: &str| {
        format!(
            r#"{{ "send": "a" }}, {{ "edge": "result", "to": 1, "within": "{within}" }},
                {{ "send": "b" }}, {{ "edge": "result", "to": 0, "within": "{within}" }}, {{ "send": "c" }}"#
        )
    };
    let one = |(case, _): &(&str, &str)| {
        let steps = match *case {
            "cut" => r#"{ "edge": "result", "to": 1, "within": "5m" }"#.to_string(),
            "hang" => paced("2s"),
            _ => paced("30s"),
        };
        format!(
            r#""{case}": {{ "case": "{case}", "artifacts": "fw.img", "board": {{ "type": "arm-board", "flash": "fw.img",
                "identity": "^fw ${{SAI_COMMIT}}\r?$", "test": [{{ "expect": "^ok 1 - uart", "within": "60s" }}, {steps}],
                "results": "tap", "pass": "^ALL DONE", "silent": "60s", "timeout": "10m" }} }}"#
        )
    };
    let configurations: Vec<String> = PROGRAMS.iter().map(one).collect();
    format!(
        r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": {} }} }}, "configurations": {{ {} }} }}"#,
        miniserde::json::to_string(build),
        configurations.join(", ")
    )
}

/// The console of an attempt so far.
fn console(world: &World, job: u64, attempt: u32) -> String {
    let bytes = world.get(&format!("/job/{job}/{attempt}/console/main")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until the board has said something in an attempt.
fn await_said(world: &World, job: u64, attempt: u32, text: &str) {
    eventually_within(BOOT, &format!("attempt {attempt} says {text:?}"), || {
        std::thread::sleep(LOOK);
        let event = world.event(1)?;
        let met =
            event.jobs.iter().find(|other| other.id <= job && (other.state == "infra" || other.attempt > attempt));
        if let Some(met) = met {
            panic!("{met:?}: {}", world.page(&format!("/job/{}/1/timeline.json", met.id)));
        }
        console(world, job, attempt).contains(text).then_some(())
    });
}

/// An attempt that was at the board, as its history has it.
#[derive(Deserialize)]
struct Stay {
    job: u64,
    attempt: u32,
    state: String,
    verdict: String,
    cause: String,
    fault: String,
}

#[derive(Deserialize)]
struct History {
    history: Vec<Stay>,
}

/// Waits until an attempt has ended through trouble of ours, which says this of itself.
fn await_infra(world: &World, job: u64, attempt: u32, says: &str) {
    eventually_within(BOOT, &format!("attempt {attempt} ends"), || {
        std::thread::sleep(LOOK);
        let text = String::from_utf8(world.get(&format!("/api/v1/boards/{BOARD}"))?).ok()?;
        let known: History =
            miniserde::json::from_str(&text).unwrap_or_else(|_| panic!("a history was expected: {text}"));
        let of = |stay: &Stay| (stay.job, stay.attempt) == (job, attempt) && stay.state != "running";
        let stay = known.history.into_iter().find(of)?;
        let told = [stay.state.as_str(), &stay.verdict, &stay.fault];
        assert!(
            told == ["infra", "infra", "the infrastructure"] && stay.cause.contains(says),
            "{told:?}: {}",
            stay.cause
        );
        Some(())
    });
}

/// Edges of the board's line, and when the console said something, in microseconds since an attempt began.
type Axis = (Vec<(u64, bool)>, Vec<(u64, String)>);

/// The same of a job's last attempt, from the reset on.
fn axis(world: &World, job: u64) -> Axis {
    let bytes = world.get(&format!("/job/{job}/records")).expect("a log");
    let (mut edges, mut lines, mut origin, mut main) = (Vec::new(), Vec::new(), None, None);
    let taken = Decoder::new().push(&bytes, |item| match (&item, Entry::of(&item)) {
        (Item::Record(_, Record::Channel(channel, start)), _) if start.name == "serial:main" => main = Some(*channel),
        (Item::Data { channel, micros, bytes }, _) if Some(*channel) == main => {
            lines.push((*micros, String::from_utf8_lossy(bytes).into_owned()));
        }
        (Item::Later { micros, .. }, Some(Entry::Clock(clock))) => {
            origin.get_or_insert(clock.monotonic_ns - micros * 1000);
        }
        // What was there before was an older program's.
        (_, Some(Entry::Mark(mark))) if mark.judged == Some(true) => {
            edges.clear();
            lines.clear();
        }
        (_, Some(Entry::Edges(met))) => {
            let origin = origin.expect("a clock before the first edge");
            edges.extend(met.iter().map(|edge| ((edge.ns - origin) / 1000, edge.level)));
        }
        _ => {}
    });
    taken.expect("a log");
    (edges, lines)
}

/// When the console had said a text for the last time. It comes in parts, of which each may end anywhere.
fn said_at(parts: &[(u64, String)], text: &str) -> u64 {
    let all: String = parts.iter().map(|(_, part)| part.as_str()).collect();
    let end = all.rfind(text).unwrap_or_else(|| panic!("{text:?} is not said: {all}")) + text.len();
    let mut length = 0;
    let holds_end = |(_, part): &&(u64, String)| {
        length += part.len();
        length >= end
    };
    parts.iter().find(holds_end).expect("a part").0
}

/// Each verdict is the one that the program earns, and what was seen of the line is between what was said before and after.
fn judged(world: &World, event: &Event) {
    for (case, state, word, says) in [
        ("pass", "passed", "passed", ""),
        ("fail", "failed", "test-fail", "1 of 2 test cases failed"),
        ("hang", "failed", "test-fail", "step 3: `result` did not change to 1"),
    ] {
        let job = at_board(event, case);
        let (found, cause) = verdict(world, job.id);
        let log = String::from_utf8_lossy(&world.log(job.id)).into_owned();
        assert_eq!((job.state.as_str(), found.as_str(), job.attempt), (state, word, 1), "{case}: {cause}: {log}");
        assert_eq!(job.agent.as_deref(), Some("buddy"), "{case}");
        assert!(job.cause.contains(says), "{case}: {cause}");
        let fault = world.records(job.id).verdict.expect("a verdict").fault;
        assert_eq!(fault, if word == "passed" { Fault::Nobody } else { Fault::Job }, "{case}");
        let build = event.jobs.iter().find(|job| job.configuration == case).expect("its build");
        assert_eq!((build.state.as_str(), build.agent.as_deref()), ("passed", Some("builder")), "{case}");
        let (edges, lines) = axis(world, job.id);
        let levels: Vec<bool> = edges.iter().map(|(_, level)| *level).collect();
        let moved = matches!(case, "pass" | "fail");
        assert_eq!(levels, if moved { vec![true, false] } else { Vec::new() }, "{case}: {log}");
        if moved {
            let moments = [said_at(&lines, "uart"), edges[0].0, edges[1].0, said_at(&lines, "- line")];
            assert!(moments.is_sorted(), "{case}: {moments:?}: {log}");
        }
    }
}

/// Where the pictures are kept.
fn place() -> PathBuf {
    root().join("target/wires")
}

/// The pages of the jobs, in a browser: verdicts, consoles, cases, and a waveform whose edges are those of the log.
fn seen(world: &World, event: &Event) -> Browser {
    fs::create_dir_all(place()).expect("a directory");
    let browser = Browser::start(&world.directory, &["--ignore-certificate-errors".to_string()]);
    let open = |job: u64| browser.open(&format!("https://127.0.0.1:{}/job/{job}", world.port));
    let is = |expression: &str| browser.text(&format!("Boolean({expression})")).as_deref() == Some("true");
    for (case, state, word, cases) in [
        ("fail", "failed", "test-fail", "1 of 2 failed"),
        ("hang", "failed", "test-fail", "0 of 1 failed"),
        ("pass", "passed", "passed", "0 of 2 failed"),
    ] {
        let job = at_board(event, case);
        open(job.id);
        browser.until(&format!("document.querySelector('#job-head.{state} .finding').textContent === '{word}'"));
        browser.until("document.querySelector('#wave svg')");
        let main = browser.text_of("return document.querySelector('main').innerText");
        assert!(main.contains(&job.cause) && main.contains(cases), "{case}: {main}");
        assert!(is("document.querySelector('a[href$=\"/console/main\"]')"), "{case}: no console");
        browser.pictures(&place(), case, || ());
    }
    let job = at_board(event, "pass").id;
    let desc = browser.text_of("return document.querySelector('#wave-desc').textContent");
    assert!(desc.contains("result: 2 edges, not known at first, 0 at last"), "{desc}");
    assert!(is(
        "document.querySelectorAll('.trace:not(.console)').length === 1 && document.querySelector('.trace.console rect')"
    ));
    // A click on each edge goes to the line of the log that was there last. Each is told by how long it comes after the one before.
    let (edges, lines) = axis(world, job);
    let drawn = browser.text_of("return document.querySelector('.trace').dataset.at");
    let after = drawn.split(' ').map(|number| number.parse::<u64>().expect("nanoseconds"));
    let moments: Vec<u64> = after
        .scan(0, |at, after| {
            *at += after;
            Some(*at)
        })
        .collect();
    let known: Vec<u64> = edges.iter().map(|(micros, _)| *micros).collect();
    assert_eq!(moments.iter().map(|ns| ns / 1000).collect::<Vec<_>>(), known, "{drawn}");
    for moment in moments.iter().map(u64::to_string) {
        for kind in ["pointermove", "pointerdown", "pointerup"] {
            browser.point_at_wave(&moment, kind, false);
        }
        browser.until(&format!("document.querySelector('#wave').dataset.a === '{moment}'"));
        browser.until("document.querySelector('.lines .sel')?.textContent.includes('ok 1 - uart')");
    }
    browser.pictures(&place(), "pass-edge", || ());
    // And back: what the board said then is behind both.
    let line =
        "[...document.querySelectorAll('.lines > div[id]')].find((one) => one.textContent.includes('ok 2 - line'))";
    browser.script(&format!("{line}.querySelector('a').click()"));
    browser.until("document.querySelector('#wave .of-line') && document.querySelector('#wave-told').textContent.includes('of the log at')");
    assert!(said_at(&lines, "ok 2") > edges[1].0, "{lines:?}");
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
    browser
}

#[test]
fn a_board_at_another_machine_is_flashed_reset_and_judged_by_its_console_and_its_line() {
    let world = World::new("wires");
    let _master = world.master();
    let program = agent_with_boards("aarch64");
    let file = world.directory.join("boards.json");
    fs::write(&file, boards()).expect("a file");
    // Where the machine finds this one.
    let line = world.join_line("buddy").replace(":127.0.0.1:", ":10.0.2.2:");
    let files = [(program.as_path(), "/usr/bin/sai-agent"), (file.as_path(), "/etc/boards.json")];
    let mut wired = Wired::boot(&world.directory.join("buddy"), VARIABLES, &files, &script(&line));
    let _builder = world.agent("builder", &["linux"], 1);
    world.repository.write("fw.S", fs::read(root().join("buddy/tests/fixtures/arm_program.S")).expect("a program"));
    for (case, says) in PROGRAMS {
        world.repository.write(&format!("{case}.says"), says);
    }
    world.repository.push_saifile(&saifile());
    // The last one's turn is when the others have ended.
    let job = eventually_within(BOOT, "there is an event", || Some(at_board(&world.event(1)?, "cut").id));
    wired.machine.await_line_for(BOOT, &format!("job {job}-1 begins"));
    await_said(&world, job, 1, BEGUN);
    let event = world.event(1).expect("an event");
    judged(&world, &event);
    let browser = std::thread::scope(|scope| {
        let browser = scope.spawn(|| seen(&world, &event));
        cut(&world, &mut wired, job);
        browser.join().unwrap_or_else(|why| std::panic::resume_unwind(why))
    });
    // The one that passed tells what those before it met.
    browser.open(&format!("https://127.0.0.1:{}/job/{job}", world.port));
    browser.until("document.querySelector('#job-head.passed .finding')");
    let head = browser.text_of("return document.querySelector('#job-head').innerText");
    for says in ["Attempt 1 at bench-1 of buddy: infra", "Attempt 2 at bench-1 of buddy: infra", "passed"] {
        assert!(head.contains(says), "{says}: {head}");
    }
    browser.pictures(&place(), "cut", || ());
    for (attempt, says) in [(1, "console main was unplugged"), (2, "the machine went down while the job ran")] {
        browser.open(&format!("https://127.0.0.1:{}/job/{job}/{attempt}", world.port));
        browser.until(&format!("document.querySelector('.callout.infra').textContent.includes('{says}')"));
    }
}

/// The plug of the board's console is pulled while it is judged, then the machine's power is cut while the board is flashed: that is no
/// fault of the job's, and the third attempt passes.
fn cut(world: &World, wired: &mut Wired, job: u64) {
    wired.pull();
    await_infra(world, job, 1, "the board did not come back");
    eventually_within(BOOT, "the board is not there", || standing(world, BOARD).contains("not there").then_some(()));
    wired.plug();
    await_said(world, job, 2, LOADS);
    wired.cut();
    eventually_within(BOOT, "the machine is away", || standing(world, BOARD).contains("away").then_some(()));
    wired.switch_on();
    await_infra(world, job, 2, "the machine went down while the job ran");
    await_said(world, job, 3, BEGUN);
    wired.touch(true);
    wired.machine.await_line_for(BOOT, &format!("job {job}-3 is done"));
    let event = world.ended_within(BOOT, 1);
    let job = at_board(&event, "cut");
    assert_eq!((job.state.as_str(), job.attempt), ("passed", 3), "{}", String::from_utf8_lossy(&world.log(job.id)));
    eventually_within(BOOT, "the board is free", || (standing(world, BOARD) == "free").then_some(()));
}
