//! Logs of boards that are stored, judged once more by the program that is shipped, with a master and without one.

#[path = "rig/mod.rs"]
mod rig;

use rig::Scratch;
use sai_core::axis::{Clock, Entry, Loss, Mark, Sent, What};
use sai_core::job::{Fault, Finding, JobKey, JobState, Outcome, Verdict};
use sai_core::judge::WRITER;
use sai_core::ledger::{EventRecord, JobRecord, Source};
use sai_core::record::{ChannelStart, Record, encode};
use sai_master::store::{Change, Options, Report, Store};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Longest that anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(100);
const REVISION: &str = "0123456789012345678901234567890123456789";

/// A saifile whose board has these keys.
fn saifile(keys: &str) -> String {
    format!(
        r#"{{"schema": "sai-1", "platforms": {{"linux": {{"build": "make"}}}}, "configurations": {{"fw": {{"artifacts": "a",
        "board": {{"type": "t", "identity": "fw ${{SAI_COMMIT}}", {keys}}}}}, "plain": {{}}}}}}"#
    )
}

const KEYS: &str =
    r#""test": [{"expect": "login:"}, {"send": "root\n"}], "results": "tap", "pass": "^DONE", "fail": "PANIC""#;

/// What a board printed, and what was done to it; `lost` of its bytes were.
fn log(identity: &str, lost: Option<u64>) -> Vec<u8> {
    let mut log = Vec::new();
    for (channel, name) in [(1, "stdout"), (3, "serial:main")] {
        encode(&Record::Channel(channel, ChannelStart { name: name.to_string() }), 0, &mut log);
    }
    Entry::Clock(Clock { monotonic_ns: 1, boottime_ns: 1, realtime_ns: 1 }).encode(0, &mut log);
    let mark = Mark { what: What::Reset, name: None, text: None, offsets: None, judged: Some(true), away_ms: None };
    Entry::Mark(mark).encode(1000, &mut log);
    let print = |micros: u64, text: &str, log: &mut Vec<u8>| {
        encode(&Record::Data(3, text.as_bytes().to_vec()), micros, log);
    };
    print(2000, &format!("{identity}\nlogin: "), &mut log);
    Entry::Tick(3000).encode(3000, &mut log);
    if identity.contains(REVISION) {
        Entry::Sent(3, Sent::of(WRITER, b"root\n")).encode(4000, &mut log);
    }
    print(5000, "TAP version 13\n1..2\nok 1 - adds\n", &mut log);
    if let Some(lost) = lost {
        let loss = Loss { offset: 40, lost: Some(lost), why: "the reader was late".to_string() };
        Entry::Loss(3, loss).encode(5500, &mut log);
    } else {
        print(5500, "ok 2 - subtracts\n", &mut log);
    }
    print(6000, "DONE\n", &mut log);
    for tick in 1..400 {
        Entry::Tick(6000 + tick * 500_000).encode(6000 + tick * 500_000, &mut log);
    }
    log
}

/// A state with an event whose jobs have these logs, from number 1 on.
fn state(path: &Path, logs: &[Vec<u8>]) {
    let (sender, reports) = sync_channel(1 << 12);
    let report = move |report| {
        let _ = sender.send(report);
    };
    let (store, _) = Store::open(path, Options::new(report)).expect("a store");
    store.files().put_saifile(1, saifile(KEYS).as_bytes()).expect("a saifile");
    let event = EventRecord {
        id: 1,
        repository: "hello".to_string(),
        url: "https://example.org/hello".to_string(),
        reference: "refs/heads/main".to_string(),
        revision: REVISION.to_string(),
        subject: String::new(),
        author: String::new(),
        source: Source::Hook,
        at: 1,
        errors: Vec::new(),
        warnings: Vec::new(),
        first_job: 1,
        jobs: logs.len() as u32,
    };
    let mut changes = vec![Change::Event(event)];
    for (id, log) in (1..).zip(logs) {
        let key = JobKey { job: id, attempt: 1 };
        let length = log.len() as u64;
        if length > 0 {
            store.files().append(key, 0, 0, log.clone());
            store.files().flush(key);
            loop {
                match reports.recv_timeout(PATIENCE).expect("the log is flushed") {
                    Report::Flushed { key: flushed, length: to, .. } if flushed == key && to >= length => break,
                    _ => {}
                }
            }
        }
        let verdict = Verdict {
            outcome: Outcome::Passed,
            fault: Fault::Nobody,
            cause: String::new(),
            step: None,
            status: None,
            trouble: None,
            verdict: Some(Finding { word: "passed".to_string(), what: None, board: None }),
        };
        changes.push(Change::Job(JobRecord {
            platform: "linux".to_string(),
            configuration: if log.is_empty() { "plain" } else { "fw/board" }.to_string(),
            state: JobState::Passed,
            attempt: 1,
            started_at: Some(1),
            ended_at: Some(2),
            log_bytes: length,
            verdict: Some(verdict),
            ..JobRecord::queued(id, 1, "hello", 1)
        }));
    }
    store.commit_now(changes).expect("records");
}

struct Shop {
    scratch: Scratch,
}

impl Shop {
    fn new(logs: &[Vec<u8>]) -> Self {
        let shop = Shop { scratch: Scratch::new() };
        state(&shop.scratch.path("state"), logs);
        shop
    }

    fn master(&self, words: &[&str]) -> Command {
        let mut master = Command::new(env!("CARGO_BIN_EXE_sai-master"));
        master.args(words).arg("--state").arg(self.scratch.path("state")).stdin(Stdio::null());
        // No configuration of this machine's.
        let configuration = self.scratch.path("master.json");
        std::fs::write(&configuration, "{\"builtin\": false}").expect("a configuration");
        master.arg("--config").arg(configuration);
        master
    }

    fn rejudge(&self, job: &str, file: Option<&str>) -> Output {
        let mut words = vec!["rejudge", job];
        let path = self.scratch.path("changed.json");
        if let Some(text) = file {
            std::fs::write(&path, text).expect("a file");
            words.extend(["--saifile", path.to_str().expect("a path")]);
        }
        self.master(&words).output().expect("the program")
    }
}

fn told(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned())
}

#[test]
fn the_same_rules_give_the_same_verdict_and_others_theirs_or_none() {
    let identity = format!("fw {REVISION}");
    let shop = Shop::new(&[log(&identity, None), log(&identity, Some(17)), log("fw of before", None), Vec::new()]);
    let same = "verdict\tpassed\nfault\tnobody\nrecorded\tpassed\ncases\t2 passed\ncase\tpassed\tadds\ncase\tpassed\tsubtracts\n";
    assert_eq!(told(&shop.rejudge("1", None)), (Some(0), same.to_string()));
    assert_eq!(told(&shop.rejudge("1-1", None)), (Some(0), same.to_string()));
    // What was lost may be what is missing: nobody's failure, and told.
    let (status, text) = told(&shop.rejudge("2", None));
    assert_eq!(status, Some(3), "{text}");
    assert!(text.starts_with("verdict\tinfra\nfault\tthe infrastructure\ncause\t"), "{text}");
    assert!(
        text.contains(
            "incomplete\tthe log does not have all that came\nlost\tserial:main\t17\tfrom 40\tthe reader was late\n"
        ),
        "{text}"
    );
    let (status, text) = told(&shop.rejudge("3", None));
    assert!(status == Some(1) && text.starts_with("verdict\tno-boot\nfault\tthe job itself\n"), "{text}");
    // Stricter about what came.
    let (status, text) = told(&shop.rejudge("1", Some(&saifile(&KEYS.replace("PANIC", "subtracts")))));
    assert!(
        status == Some(1) && text.starts_with("verdict\ttest-fail\nfault\tthe job itself\ncause\t`fail` was found in"),
        "{text}"
    );
    // Something else would have been sent.
    let (status, text) = told(&shop.rejudge("1", Some(&saifile(&KEYS.replace("root", "toor")))));
    assert!(status == Some(3) && text.starts_with("unknown\tcannot be known from here: "), "{text}");
    for (job, file, expected) in [
        ("4", None, "expected a board of configuration `plain`"),
        ("5", None, "there is no job 5"),
        ("1-2", None, "there is no log of attempt 1-2"),
        ("1", Some("{"), "changed.json:1:2: expected"),
        ("1", Some(r#"{"schema": "sai-1"}"#), "changed.json: expected a board of configuration `fw/board`"),
    ] {
        let (status, text) = told(&shop.rejudge(job, file));
        assert!(status == Some(3) && text.contains(expected), "{job}: {text}");
    }
    for words in [&["rejudge"][..], &["rejudge", "x"], &["rejudge", "1", "2"]] {
        assert_eq!(shop.master(words).output().expect("the program").status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn a_running_master_judges_as_well() {
    let shop = Shop::new(&[log(&format!("fw {REVISION}"), None)]);
    let mut master = shop.master(&["run", "--listen", "127.0.0.1:0", "--url", "https://localhost:1"]);
    let mut running = master.stderr(Stdio::piped()).spawn().expect("a master");
    let mut lines = BufReader::new(running.stderr.take().expect("its lines")).lines().map_while(Result::ok);
    let up = lines.by_ref().find(|line| line.contains("the page is at"));
    let drained = std::thread::spawn(move || lines.count());
    let answer = told(&shop.rejudge("1", Some(&saifile(&KEYS.replace("^DONE", "^NOTHING")))));
    running.kill().expect("it runs");
    running.wait().expect("it ends");
    let _ = drained.join();
    assert!(up.is_some(), "the master starts");
    assert!(answer.0 == Some(1) && answer.1.starts_with("verdict\ttest-fail\n"), "{answer:?}");
}
