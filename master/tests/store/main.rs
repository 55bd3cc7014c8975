//! The store over real files, each kind of promise in a room of its own; what they share.

mod full_disk;
mod kills;
mod memory;
mod opening;
mod records;
mod retention;
mod streams;
mod transfer;

use sai_agent::digest::sha256;
use sai_core::job::{JobId, JobKey, JobState};
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, Source, TipRecord, UserRecord};
use sai_core::record::Artifact;
use sai_core::retention::Policy;
use sai_master::store::{Change, Options, Report, Restored, Store, StoreError, export, gc, import};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Longest that anything here may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory of its own for each test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sai-store-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(state: &Path) -> (Store, Restored, Receiver<Report>) {
    // Reports are few in a test; a channel too small would show as a test that hangs.
    let (sender, reports) = sync_channel(1 << 16);
    let options = Options::new(move |report| {
        let _ = sender.send(report);
    });
    let (store, restored) = Store::open(state, options).expect("a store");
    (store, restored, reports)
}

fn commit_later(store: &Store, changes: Vec<Change>) -> Receiver<Result<(), StoreError>> {
    let (sender, result) = sync_channel(1);
    let then = move |result| {
        let _ = sender.send(result);
    };
    store.commit(changes, Box::new(then));
    result
}

fn commit(store: &Store, changes: Vec<Change>) {
    commit_later(store, changes).recv_timeout(PATIENCE).expect("the commit ends").expect("the commit is durable");
}

/// Waits for the first report that `wanted` takes, letting the others go by.
fn await_report(reports: &Receiver<Report>, wanted: impl Fn(&Report) -> bool) -> Report {
    let begun = Instant::now();
    loop {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let report = reports.recv_timeout(left).expect("the report comes");
        if wanted(&report) {
            return report;
        }
    }
}

fn await_flushed(reports: &Receiver<Report>, wanted: JobKey, to: u64) {
    let enough =
        |report: &Report| matches!(report, Report::Flushed { key, length, .. } if *key == wanted && *length >= to);
    await_report(reports, enough);
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn event(id: u64, repository: &str, branch: &str, first_job: JobId, jobs: u32) -> EventRecord {
    EventRecord {
        id,
        repository: repository.to_string(),
        url: format!("https://example.org/{repository}"),
        reference: format!("refs/heads/{branch}"),
        revision: "0123456789012345678901234567890123456789".to_string(),
        subject: "Say \"hé\\llo\"\n".to_string(),
        author: String::new(),
        source: Source::Hook,
        at: u64::MAX,
        errors: vec![".sai.json:1:2: expected a name".to_string()],
        warnings: Vec::new(),
        first_job,
        jobs,
    }
}

fn job(id: JobId, event: u64, state: JobState) -> JobRecord {
    JobRecord {
        platform: "linux-debian-12/x86_64/gcc".to_string(),
        configuration: "default".to_string(),
        priority: -3,
        state,
        attempt: 1,
        agent: Some("a1".to_string()),
        started_at: Some(3),
        steps: 2,
        ..JobRecord::queued(id, event, "hello", 1)
    }
}

fn agent(name: &str) -> AgentRecord {
    AgentRecord {
        name: name.to_string(),
        token_sha256: "ab".repeat(32),
        added_at: 5,
        identity: None,
        seen_at: None,
        revoked: false,
        host: "board".to_string(),
        platforms: vec!["linux-debian-12/armv7/gcc".to_string()],
        grants: None,
        boards: None,
        card: None,
        update: None,
    }
}

fn user(name: &str) -> UserRecord {
    UserRecord { name: name.to_string(), token_sha256: "cd".repeat(32), added_at: 6, revoked: true, powers: None }
}

fn tip(reference: &str) -> TipRecord {
    TipRecord { repository: "hello".to_string(), reference: reference.to_string(), revision: "00".repeat(20) }
}

fn action(id: u64) -> ActionRecord {
    ActionRecord { id, at: id, who: "ann".to_string(), what: "cancelled job 7".to_string() }
}

const KEY: JobKey = JobKey { job: 1, attempt: 1 };

/// Text that is neither constant nor random, as logs are.
fn text(bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 64);
    let mut number: u64 = 1;
    while out.len() < bytes {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        writeln!(out, "compiling the part {} of {}", out.len(), number >> 40).expect("memory");
    }
    out.truncate(bytes);
    out
}

/// A store with one event of one running job, so that its files have a record.
fn with_job(state: &Path) -> (Store, Receiver<Report>) {
    let (store, _, reports) = open(state);
    commit(&store, vec![Change::Event(event(1, "hello", "main", 1, 1)), Change::Job(job(1, 1, JobState::Running))]);
    (store, reports)
}

/// Runs one of the tests below in a process of its own, with `SAI_STORE` naming its state directory.
fn this_test(name: &str, state: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args([name, "--exact", "--nocapture"]).env("SAI_STORE", state);
    command
}

fn child_state() -> Option<PathBuf> {
    std::env::var_os("SAI_STORE").map(PathBuf::from)
}

fn three_jobs(id: u64) -> Vec<Change> {
    let mut changes = vec![Change::Event(event(id, "hello", "main", id * 3, 3))];
    changes.extend((0..3).map(|n| Change::Job(job(id * 3 + n, id, JobState::Passed))));
    changes.push(Change::Tip(TipRecord { revision: id.to_string(), ..tip("refs/heads/main") }));
    changes
}
