//! A push → jobs of each verdict at a board of another machine, and what their logs and pages say of them: a program that passes, one
//! that fails, one that hangs, and one that is cut short by whoever tries it.

use crate::arm::PLACE;
use crate::boards::{at_board, standing, verdict};
use crate::browser::Browser;
use crate::cross::root;
use crate::machine::BOOT;
use crate::process::{Process, eventually_within};
use crate::wired::{Pins, Wired};
use crate::world::{Event, World};
use miniserde::Deserialize;
use sai_core::axis::Entry;
use sai_core::job::Fault;
use sai_core::record::{Decoder, Item, Record};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the board's U-Boot does when nobody stops it.
pub const VARIABLES: &[&str] = &["bootdelay=2", "bootcmd=booti 0x04100000 - ${fdtcontroladdr}"];
/// What each program says, as printf(1) takes it, and does in between: 2 waits for a byte, 3 and 4 move its line up and down.
const PROGRAMS: [(&str, &str); 4] = [
    ("pass", r"fw %s\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\n\002\003\002\004\002ok 2 - line\r\nALL DONE\r\n"),
    ("fail", r"fw %s\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\n\002\003\002\004\002not ok 2 - line\r\nALL DONE\r\n"),
    // Its line never moves.
    ("hang", r"fw %s\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\n\002"),
    // What is left to be done is done by hand.
    ("cut", r"fw %s\r\nTAP version 13\r\n1..1\r\nok 1 - uart\r\nALL DONE\r\n"),
];
/// What a program says that is judged.
pub const BEGUN: &str = "ok 1 - uart\r\n";
/// What the board's loader says when it is to get one.
pub const LOADS: &str = "Ready for binary";
/// What it says first of all after a reset.
const BANNER: &str = "\r\n\r\nU-Boot 20";

/// Between two looks at what takes seconds: each is work for the processors that the machines are emulated by.
const LOOK: Duration = Duration::from_millis(200);

/// The mission, and who is in it.
#[derive(Clone, Copy, Debug)]
pub struct Mission<'a> {
    /// With a master, and both agents.
    pub world: &'a World,
    /// The agent that builds, and the platform that it builds for.
    pub builder: [&'a str; 2],
    /// The agent that has the board `bench-1`.
    pub buddy: &'a str,
    /// What the pictures are called after, below `target`.
    pub pictures: &'a str,
}

/// What the buddy is told of its board: its chip, where its lines are, where its console is plugged in, and what its result line has
/// beside that.
pub fn boards(chip: &str, pins: Pins, usb: &str, result: &str) -> String {
    let Pins { reset, driven } = pins;
    format!(
        r#"{{ "chip": "{chip}", "boards": {{ "bench-1": {{ "type": "arm-board",
    "consoles": {{ "main": {{ "usb": "{usb}", "serial": "BOARD1", "baud": 115200 }} }},
    "lines": {{ "nrst": {{ "line": {reset}, "active_low": true, "safe": 0 }},
        "result": {{ "line": {driven}, "direction": "in"{result} }} }},
    "sequences": {{ "reset": ["nrst 1", "wait 20ms", "nrst 0"] }},
    "modes": {{ "loader": {{ "do": ["reset"] }}, "run": {{ "do": ["reset"] }} }},
    "flash": {{ "with": "ymodem-uboot", "mode": "loader", "then": "run", "load": "0x41000000",
        "write": ["erase {{target}} +{{size}}", "cp.b {{load}} {{target}} {{size}}"],
        "targets": {{ "app": {{ "at": "{PLACE:#x}", "size": 262144 }} }} }} }} }} }}"#
    )
}

/// A configuration for each program, with what is asked of the board.
fn saifile(platform: &str) -> String {
    let build = "printf \"$(cat ${case}.says)\" \"$SAI_COMMIT\" >text && aarch64-linux-gnu-as -o fw.o fw.S && \
                 aarch64-linux-gnu-objcopy -O binary fw.o fw.img";
    // Edges in one of the page's 1 200 columns are one block, without a moment for each.
    let paced = |within: &str| {
        format!(
            r#"{{ "send": "a" }}, {{ "edge": "result", "to": 1, "within": "{within}" }},
                {{ "wait": "200ms" }}, {{ "send": "b" }}, {{ "edge": "result", "to": 0, "within": "{within}" }}, {{ "send": "c" }}"#
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
        r#"{{ "schema": "sai-1", "platforms": {{ "{platform}": {{ "build": {} }} }}, "configurations": {{ {} }} }}"#,
        miniserde::json::to_string(build),
        configurations.join(", ")
    )
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

/// Edges of the board's line, and when the console said something, in microseconds since an attempt began.
type Axis = (Vec<(u64, bool)>, Vec<(u64, String)>);

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

/// What became of the line and the console in a log, since the board is judged: what was there before was an older program's.
fn axis(log: &[u8]) -> Axis {
    let (mut edges, mut lines, mut origin, mut main, mut judged) = (Vec::new(), Vec::new(), None, None, false);
    let taken = Decoder::new().push(log, |item| match (&item, Entry::of(&item)) {
        (Item::Record(_, Record::Channel(channel, start)), _) if start.name == "serial:main" => {
            main = Some(*channel);
        }
        (Item::Later { micros, .. }, Some(Entry::Clock(clock))) => {
            origin.get_or_insert(clock.monotonic_ns - micros * 1000);
        }
        (_, Some(Entry::Mark(mark))) => judged |= mark.judged == Some(true),
        (Item::Data { channel, micros, bytes }, _) if judged && Some(*channel) == main => {
            lines.push((*micros, String::from_utf8_lossy(bytes).into_owned()));
        }
        (_, Some(Entry::Edges(met))) if judged => {
            let origin = origin.expect("a clock before the first edge");
            edges.extend(met.iter().map(|edge| ((edge.ns - origin) / 1000, edge.level)));
        }
        _ => {}
    });
    taken.expect("a log");
    (edges, lines)
}

impl Mission<'_> {
    /// Pushes the programs: the job of the one that is cut, whose turn at the board is when the others have ended.
    pub fn push(&self) -> u64 {
        let source = fs::read(root().join("buddy/tests/fixtures/arm_program.S")).expect("a program");
        self.world.repository.write("fw.S", source);
        for (case, says) in PROGRAMS {
            self.world.repository.write(&format!("{case}.says"), says);
        }
        self.world.repository.push_saifile(&saifile(self.builder[1]));
        eventually_within(BOOT, "there is an event", || Some(at_board(&self.world.event(1)?, "cut").id))
    }

    /// The board, as the master calls it.
    fn board(&self) -> String {
        format!("{}/bench-1", self.buddy)
    }

    /// Waits until the board stands so.
    pub fn await_standing(&self, part: &str) {
        eventually_within(BOOT, &format!("the board is {part}"), || {
            std::thread::sleep(LOOK);
            standing(self.world, &self.board()).contains(part).then_some(())
        });
    }

    /// The console of an attempt so far.
    fn console(&self, job: u64, attempt: u32) -> String {
        let bytes = self.world.get(&format!("/job/{job}/{attempt}/console/main")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the board has said something in an attempt.
    pub fn await_said(&self, job: u64, attempt: u32, text: &str) {
        eventually_within(BOOT, &format!("attempt {attempt} says {text:?}"), || {
            std::thread::sleep(LOOK);
            let event = self.world.event(1)?;
            let met =
                event.jobs.iter().find(|other| other.id <= job && (other.state == "infra" || other.attempt > attempt));
            if let Some(met) = met {
                panic!("{met:?}: {}", self.world.page(&format!("/job/{}/1/timeline.json", met.id)));
            }
            self.console(job, attempt).contains(text).then_some(())
        });
    }

    /// Waits until the program of an attempt, or of one after it, has begun: which attempt. That it was said is not enough: so was it by the
    /// program before, where the machine was late for the loader's countdown. One that is late again and again cannot flash, which is
    /// trouble of ours, and another attempt.
    fn await_judged(&self, job: u64, attempt: u32) -> u32 {
        let until = Instant::now() + BOOT;
        loop {
            std::thread::sleep(LOOK);
            let late = Instant::now() > until;
            let job_now = self.world.event(1).and_then(|event| event.jobs.into_iter().find(|other| other.id == job));
            let Some(now) = job_now else {
                assert!(!late, "job {job} is not told of");
                continue;
            };
            let attempt = now.attempt.max(attempt);
            let records = self.world.get(&format!("/job/{job}/{attempt}/records")).unwrap_or_default();
            let said: String = axis(&records).1.into_iter().map(|(_, part)| part).collect();
            if said.contains(BEGUN) {
                return attempt;
            }
            if late || now.ended() {
                let log = self.world.page(&format!("/job/{job}/{attempt}/timeline.json"));
                panic!("attempt {attempt} is not judged: {now:?}: {log}");
            }
        }
    }

    /// Waits until the machine has done with an attempt.
    fn await_done(&self, machine: &Process, job: u64, attempt: u32) {
        let line = format!("job {job}-{attempt} is done");
        let until = Instant::now() + BOOT;
        while !machine.said().iter().any(|said| said.contains(&line)) {
            if Instant::now() > until {
                let log = self.world.page(&format!("/job/{job}/{attempt}/timeline.json"));
                panic!("{line:?} is not said by {}: {log}", machine.said().join("\n"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until an attempt has ended through trouble of ours: why, which is one of these.
    pub fn await_infra(&self, job: u64, attempt: u32, says: &[&str]) -> String {
        eventually_within(BOOT, &format!("attempt {attempt} ends"), || {
            std::thread::sleep(LOOK);
            let text = String::from_utf8(self.world.get(&format!("/api/v1/boards/{}", self.board()))?).ok()?;
            let known: History =
                miniserde::json::from_str(&text).unwrap_or_else(|_| panic!("a history was expected: {text}"));
            let of = |stay: &Stay| (stay.job, stay.attempt) == (job, attempt) && stay.state != "running";
            let stay = known.history.into_iter().find(of)?;
            let told = [stay.state.as_str(), &stay.verdict, &stay.fault];
            let known = says.iter().any(|says| stay.cause.contains(says));
            assert!(told == ["infra", "infra", "the infrastructure"] && known, "{told:?}: {}", stay.cause);
            Some(stay.cause)
        })
    }

    /// What became of the line and the console in a job's last attempt, since the board is judged.
    fn axis(&self, job: u64) -> Axis {
        axis(&self.world.get(&format!("/job/{job}/records")).expect("a log"))
    }

    /// Each verdict is the one that the program earns, and what was seen of the line is between what was said before and after.
    pub fn judged(&self, event: &Event) {
        for (case, state, word, says) in [
            ("pass", "passed", "passed", ""),
            ("fail", "failed", "test-fail", "1 of 2 test cases failed"),
            ("hang", "failed", "test-fail", "step 3: `result` did not change to 1"),
        ] {
            let job = at_board(event, case);
            let (found, cause) = verdict(self.world, job.id);
            let log = String::from_utf8_lossy(&self.world.log(job.id)).into_owned();
            assert_eq!((job.state.as_str(), found.as_str(), job.attempt), (state, word, 1), "{case}: {cause}: {log}");
            assert_eq!(job.agent.as_deref(), Some(self.buddy), "{case}");
            assert!(job.cause.contains(says), "{case}: {cause}");
            let fault = self.world.records(job.id).verdict.expect("a verdict").fault;
            assert_eq!(fault, if word == "passed" { Fault::Nobody } else { Fault::Job }, "{case}");
            let build = event.jobs.iter().find(|job| job.configuration == case).expect("its build");
            assert_eq!((build.state.as_str(), build.agent.as_deref()), ("passed", Some(self.builder[0])), "{case}");
            let (edges, lines) = self.axis(job.id);
            let levels: Vec<bool> = edges.iter().map(|(_, level)| *level).collect();
            let moved = matches!(case, "pass" | "fail");
            assert_eq!(levels, if moved { vec![true, false] } else { Vec::new() }, "{case}: {log}");
            if moved {
                let moments = [said_at(&lines, "uart"), edges[0].0, edges[1].0, said_at(&lines, "- line")];
                assert!(moments.is_sorted(), "{case}: {moments:?}: {log}");
            }
            // Nothing of what its loader says first is missing, when it is reset to be flashed, and to run. Where the machine has no
            // processor for two seconds it is late for a countdown, and resets once more to be flashed.
            let console = self.console(job.id, 1);
            assert!(console.matches(BANNER).count() >= 2, "{case}: {console}");
        }
    }

    /// Where the pictures are kept.
    fn place(&self) -> PathBuf {
        root().join("target").join(self.pictures)
    }

    fn address(&self, job: u64) -> String {
        format!("https://127.0.0.1:{}/job/{job}", self.world.port)
    }

    /// The pages of the jobs, in a browser: verdicts, consoles, cases, and a waveform whose edges are those of the log.
    pub fn seen(&self, event: &Event) -> Browser {
        fs::create_dir_all(self.place()).expect("a directory");
        let browser = Browser::start(&self.world.directory, &["--ignore-certificate-errors".to_string()]);
        let is = |expression: &str| browser.text(&format!("Boolean({expression})")).as_deref() == Some("true");
        for (case, state, word, cases) in [
            ("fail", "failed", "test-fail", "1 of 2 failed"),
            ("hang", "failed", "test-fail", "0 of 1 failed"),
            ("pass", "passed", "passed", "0 of 2 failed"),
        ] {
            let job = at_board(event, case);
            browser.open(&self.address(job.id));
            browser.until(&format!("document.querySelector('#job-head.{state} .finding').textContent === '{word}'"));
            browser.until("document.querySelector('#wave svg')");
            let main = browser.text_of("return document.querySelector('main').innerText");
            assert!(main.contains(&job.cause) && main.contains(cases), "{case}: {main}");
            assert!(is("document.querySelector('a[href$=\"/console/main\"]')"), "{case}: no console");
            browser.pictures(&self.place(), case, || ());
        }
        let job = at_board(event, "pass").id;
        let desc = browser.text_of("return document.querySelector('#wave-desc').textContent");
        assert!(desc.contains("result: 2 edges, not known at first, 0 at last"), "{desc}");
        assert!(is(
            "document.querySelectorAll('.trace:not(.console)').length === 1 && document.querySelector('.trace.console rect')"
        ));
        // A click on each edge goes to the line of the log that was there last. Each is told by how long it comes after the one before.
        let (edges, lines) = self.axis(job);
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
        browser.pictures(&self.place(), "pass-edge", || ());
        // And back: what the board said then is behind both.
        let line =
            "[...document.querySelectorAll('.lines > div[id]')].find((one) => one.textContent.includes('ok 2 - line'))";
        browser.script(&format!("{line}.querySelector('a').click()"));
        browser.until("document.querySelector('#wave .of-line') && document.querySelector('#wave-told').textContent.includes('of the log at')");
        assert!(said_at(&lines, "ok 2") > edges[1].0, "{lines:?}");
        assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
        browser
    }

    /// The machine's power is cut while the board is flashed in this attempt, and comes back: that is no fault of the job's, and its next
    /// attempt passes. What is told of the one that was cut.
    pub fn cut_in_mid_flash(&self, wired: &mut Wired, job: u64, attempt: u32) -> String {
        self.await_said(job, attempt, LOADS);
        wired.cut();
        self.await_standing("away");
        wired.switch_on();
        // An attempt that had begun seconds ago may not be on the machine's disk yet.
        let says = ["the machine went down while the job ran", &format!("{} came back without it", self.buddy)];
        let cause = self.await_infra(job, attempt, &says);
        let attempt = self.await_judged(job, attempt + 1);
        wired.touch(true);
        self.await_done(&wired.machine, job, attempt);
        let event = self.world.ended_within(BOOT, 1);
        let job = at_board(&event, "cut");
        let log = self.world.log(job.id);
        assert_eq!((job.state.as_str(), job.attempt), ("passed", attempt), "{}", String::from_utf8_lossy(&log));
        self.await_standing("free");
        cause
    }

    /// The page of the job that passed at last tells what the attempts before met.
    pub fn cut_is_told(&self, browser: &Browser, job: u64, met: &[String]) {
        browser.open(&self.address(job));
        browser.until("document.querySelector('#job-head.passed .finding')");
        let head = browser.text_of("return document.querySelector('#job-head').innerText");
        assert!(head.contains("passed"), "{head}");
        for attempt in 1..=met.len() {
            let says = format!("Attempt {attempt} at bench-1 of {}: infra", self.buddy);
            assert!(head.contains(&says), "{says}: {head}");
        }
        browser.pictures(&self.place(), "cut", || ());
        for (attempt, says) in (1..).zip(met) {
            browser.open(&format!("{}/{attempt}", self.address(job)));
            browser.until(&format!("document.querySelector('.callout.infra').textContent.includes('{says}')"));
        }
    }
}
