//! The store over real files: restarts, kills, full disks, packed logs, retention, export.

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

// --- Records ---------------------------------------------------------------------------------------------------

#[test]
fn a_restart_finds_every_record() {
    let place = Place::new();
    let (store, restored, _reports) = open(&place.state());
    assert_eq!((restored.next_event, restored.next_job, restored.next_action), (1, 1, 1));
    assert!(restored.events.is_empty() && restored.jobs.is_empty());
    commit(
        &store,
        vec![
            Change::Event(event(1, "hello", "main", 1, 2)),
            Change::Job(job(1, 1, JobState::Passed)),
            Change::Job(job(2, 1, JobState::Running)),
            Change::Event(event(2, "hello", "main", 3, 1)),
            Change::Job(job(3, 2, JobState::Failed)),
            Change::Agent(agent("b")),
            Change::Agent(agent("a")),
            Change::User(user("ann")),
            Change::Tip(tip("refs/heads/main")),
            Change::Tip(tip("refs/heads/gone")),
            Change::Action(action(1)),
        ],
    );
    let gone = Change::ForgetTip { repository: "hello".to_string(), reference: "refs/heads/gone".to_string() };
    commit(&store, vec![gone]);
    drop(store);

    let (store, restored, _reports) = open(&place.state());
    assert_eq!(restored.events, [event(1, "hello", "main", 1, 2)], "only the one with an unfinished job");
    assert_eq!(restored.jobs, [job(1, 1, JobState::Passed), job(2, 1, JobState::Running)]);
    assert_eq!(restored.agents, [agent("a"), agent("b")]);
    assert_eq!(restored.users, [user("ann")]);
    assert_eq!(restored.tips, [tip("refs/heads/main")]);
    assert_eq!((restored.next_event, restored.next_job, restored.next_action), (3, 4, 2));
    let reader = store.reader();
    assert_eq!(reader.events(None, None, 10), [event(2, "hello", "main", 3, 1), event(1, "hello", "main", 1, 2)]);
    assert_eq!(reader.job(3), Some(job(3, 2, JobState::Failed)));
    assert_eq!(reader.jobs(1), restored.jobs);
    assert_eq!(reader.actions(5), [action(1)]);
    drop(store);
    assert_eq!(reader.event(1), None, "a reader does not keep a closed store open");
}

#[test]
fn events_come_newest_first_page_by_page_and_by_repository() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let name = |id: u64| if id.is_multiple_of(100) { "quiet" } else { "busy" };
    commit(&store, (1..=1000).map(|id| Change::Event(event(id, name(id), "main", 1, 0))).collect());
    let reader = store.reader();
    let ids = |before, repository, limit| -> Vec<u64> {
        reader.events(before, repository, limit).iter().map(|event| event.id).collect()
    };
    assert_eq!(ids(None, None, 3), [1000, 999, 998]);
    assert_eq!(ids(Some(998), None, 2), [997, 996]);
    assert_eq!(ids(None, Some("quiet"), 3), [1000, 900, 800]);
    assert_eq!(ids(Some(300), Some("quiet"), 9), [200, 100]);
    assert_eq!(ids(Some(1), None, 9), [0; 0]);
    assert_eq!(ids(None, Some("none"), 9), [0; 0]);
}

#[test]
fn a_record_of_any_length_is_kept_and_leaves_nothing_when_it_shrinks() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let artifact = |stream: u16| Artifact {
        stream,
        path: format!("{}/{stream}", "d".repeat(900)),
        size: u64::MAX,
        sha256: "ef".repeat(32),
        executable: false,
    };
    let mut long = job(1, 1, JobState::Passed);
    long.artifacts = (1..1024).map(artifact).collect();
    let next = job(2, 1, JobState::Queued);
    let event = Change::Event(event(1, "hello", "main", 1, 2));
    commit(&store, vec![event, Change::Job(long.clone()), Change::Job(next.clone())]);
    assert_eq!(store.reader().jobs(1), [long.clone(), next.clone()]);
    drop(store);
    let (store, restored, _reports) = open(&place.state());
    assert_eq!(restored.jobs, [long.clone(), next.clone()]);
    // In one group: long, short, and a bit longer than one part again.
    let mut middle = long.clone();
    middle.artifacts.truncate(5);
    let changes = [long, job(1, 1, JobState::Passed), middle.clone()].map(Change::Job);
    commit(&store, changes.to_vec());
    assert_eq!(store.reader().job(1), Some(middle));
    commit(&store, vec![Change::Job(job(1, 1, JobState::Passed))]);
    assert_eq!(store.reader().jobs(1), [job(1, 1, JobState::Passed), next]);
}

#[test]
fn commits_are_released_in_order_also_from_inside_a_release() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let (sender, released) = sync_channel(1 << 14);
    // More than may wait, so that the bound is met; and each asks for one more from the ledger's own thread.
    for id in 1..=10_000 {
        let (sender, again) = (sender.clone(), store.clone());
        let then = move |result: Result<(), StoreError>| {
            sender.send((id, result)).expect("somebody waits");
            again.commit(vec![Change::Action(action(10_000 + id))], Box::new(|result| result.expect("durable")));
        };
        store.commit(vec![Change::Action(action(id))], Box::new(then));
    }
    for id in 1..=10_000 {
        assert_eq!(released.recv_timeout(PATIENCE).expect("it comes"), (id, Ok(())));
    }
    await_that("the commits from inside", || store.reader().actions(1).first().is_some_and(|last| last.id == 20_000));
}

#[test]
fn numbers_of_deleted_events_are_not_given_again() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    commit(&store, vec![Change::Event(event(7, "hello", "main", 20, 3)), Change::Job(job(20, 7, JobState::Passed))]);
    commit(&store, vec![Change::DeleteEvent(7), Change::DeleteEvent(99)]);
    assert_eq!(store.reader().events(None, None, 9), []);
    assert_eq!(store.reader().events(None, Some("hello"), 9), []);
    assert_eq!(store.reader().job(20), None);
    drop(store);
    let (_store, restored, _reports) = open(&place.state());
    assert_eq!((restored.next_event, restored.next_job), (8, 23));
}

// --- Opening ---------------------------------------------------------------------------------------------------

fn refused(state: &Path) -> StoreError {
    match Store::open(state, Options::new(|_| {})) {
        Ok(_) => panic!("the store was opened"),
        Err(error) => error,
    }
}

#[test]
fn a_second_master_is_told_who_has_it() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let error = refused(&place.state());
    assert_eq!(error, StoreError::Busy { state: place.state(), holder: Some(std::process::id()) });
    assert!(error.to_string().contains("another master has it open (process "), "{error}");
    let mut nothing = BufReader::new(&b""[..]);
    assert!(matches!(import(&place.state(), &mut nothing, "f"), Err(StoreError::Busy { .. })));
    drop(store);
    open(&place.state());
}

#[test]
fn another_format_is_refused_politely() {
    let place = Place::new();
    drop(open(&place.state()));
    fs::write(place.state().join("format"), "sai-state 3\n").expect("written");
    let error = refused(&place.state()).to_string();
    assert!(error.contains("holds \"sai-state 3\", this version reads \"sai-state 2\""), "{error}");
    fs::remove_file(place.state().join("format")).expect("removed");
    // A journal says itself what it is.
    drop(open(&place.state()));
    fs::remove_file(place.state().join("format")).expect("removed");
    fs::remove_dir_all(place.state().join("journal")).expect("removed");
    assert_eq!(refused(&place.state()), StoreError::Format { state: place.state(), found: None });
}

#[test]
fn a_half_written_snapshot_does_not_lose_the_ledger() {
    let place = Place::new();
    drop(with_job(&place.state()));
    drop(open(&place.state()));
    let ledger = place.state().join("ledger");
    let snapshots = || -> Vec<PathBuf> {
        let paths = fs::read_dir(&ledger).expect("listed").map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.to_string_lossy().contains("/snap.")).collect()
    };
    // Empty, as a crash leaves it at once; and stale and longer than the next one, under the very name of that.
    for content in [&b""[..], &[0xa5; 1 << 20]] {
        assert!(!snapshots().is_empty(), "sled writes a snapshot when it is opened again");
        for snapshot in snapshots() {
            fs::write(format!("{}.generating", snapshot.display()), content).expect("written");
        }
        fs::write(ledger.join("snap.FFFFFFFFFFFFFFFF.generating"), content).expect("written");
        let (store, restored, _reports) = open(&place.state());
        assert_eq!(restored.jobs, [job(1, 1, JobState::Running)]);
        commit(&store, vec![Change::Job(job(1, 1, JobState::Running))]);
        drop(store);
        assert!(!snapshots().iter().any(|path| path.to_string_lossy().ends_with(".generating")));
    }
}

#[test]
fn a_ledger_that_kept_its_space_is_written_anew_at_start() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let artifact = |stream: u16| Artifact {
        stream,
        path: format!("{}/{stream}", "d".repeat(900)),
        size: 1,
        sha256: "ef".repeat(32),
        executable: false,
    };
    let artifacts: Vec<Artifact> = (1..1024).map(artifact).collect();
    for id in 1..=60 {
        let long = JobRecord { artifacts: artifacts.clone(), ..job(id, id, JobState::Passed) };
        commit(&store, vec![Change::Event(event(id, "hello", "main", id, 1)), Change::Job(long)]);
    }
    commit(&store, (1..60).map(Change::DeleteEvent).collect());
    let size = || fs::metadata(place.state().join("ledger/db")).expect("the ledger").len() >> 20;
    assert!(size() >= 32, "{} MiB", size());
    let last = store.reader().job(60);
    assert!(last.is_some());
    drop(store);
    let (store, restored, _reports) = open(&place.state());
    assert!(size() < 8, "{} MiB", size());
    assert_eq!((store.reader().job(60), restored.next_event), (last, 61));
    assert_eq!(store.reader().events(None, Some("hello"), 9).len(), 1);
    commit(&store, vec![Change::Agent(agent("a"))]);
}

// --- Kills -----------------------------------------------------------------------------------------------------

/// Not a test by itself: the process that `acknowledged_records_survive_kills` kills.
#[test]
fn writer_process() {
    let Some(state) = child_state() else { return };
    let (store, restored, _reports) = open(&state);
    for id in restored.next_event.. {
        let then = move |result: Result<(), StoreError>| {
            result.expect("durable");
            // One write, so that a killed process leaves no half a line that could be read as another number.
            let _ = std::io::stdout().write_all(format!("durable {id}\n").as_bytes());
        };
        store.commit(three_jobs(id), Box::new(then));
        store.files().append(JobKey { job: id * 3, attempt: 1 }, 0, 0, text(1000));
        if id.is_multiple_of(5) {
            store.commit(vec![Change::DeleteEvent(id - 3)], Box::new(|_| {}));
        }
    }
}

fn three_jobs(id: u64) -> Vec<Change> {
    let mut changes = vec![Change::Event(event(id, "hello", "main", id * 3, 3))];
    changes.extend((0..3).map(|n| Change::Job(job(id * 3 + n, id, JobState::Passed))));
    changes.push(Change::Tip(TipRecord { revision: id.to_string(), ..tip("refs/heads/main") }));
    changes
}

#[test]
fn acknowledged_records_survive_kills() {
    let place = Place::new();
    let mut durable = 0;
    let mut seed = std::process::id();
    let acknowledged = |line: &str| line.rsplit_once("durable ").and_then(|(_, id)| id.parse::<u64>().ok());
    for _ in 0..12 {
        let mut child = this_test("writer_process", &place.state()).stdout(Stdio::piped()).spawn().expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        // At a moment that differs: after some acknowledgements, and at random between the next ones.
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for _ in 0..seed >> 26 {
            durable = lines.next().and_then(Result::ok).and_then(|line| acknowledged(&line)).unwrap_or(durable);
        }
        std::thread::sleep(Duration::from_micros(u64::from(seed >> 18)));
        child.kill().expect("killed");
        for line in lines.map_while(Result::ok) {
            durable = acknowledged(&line).unwrap_or(durable);
        }
        child.wait().expect("gone");
        let (store, restored, _reports) = open(&place.state());
        let reader = store.reader();
        let newest = reader.events(None, None, 1).first().map_or(0, |event| event.id);
        assert!(newest >= durable, "event {durable} was acknowledged, the newest is {newest}");
        // Each group is there as a whole or not at all.
        for event in reader.events(None, None, usize::MAX) {
            assert_eq!(reader.jobs(event.id).len(), 3, "event {}", event.id);
        }
        assert_eq!(restored.next_event, newest + 1);
        assert_eq!(restored.tips.first().map_or("0", |tip| tip.revision.as_str()), newest.to_string());
    }
    assert!(durable > 50, "the kills came too early to mean anything");
}

// --- Files -----------------------------------------------------------------------------------------------------

#[test]
fn appended_bytes_are_seen_at_once_and_durable_soon() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    let files = store.files();
    files.append(KEY, 0, 0, b"hello ".to_vec());
    files.append(KEY, 0, 6, b"world".to_vec());
    await_report(&reports, |report| *report == Report::Appended { key: KEY, stream: 0, length: 6 });
    await_report(&reports, |report| *report == Report::Appended { key: KEY, stream: 0, length: 11 });
    let mut log = store.reader().log(KEY).expect("a log");
    let mut seen = String::new();
    log.read_to_string(&mut seen).expect("read");
    assert_eq!((seen.as_str(), log.length()), ("hello world", 11));
    await_flushed(&reports, KEY, 11);
    // The reader goes on where it was.
    files.append(KEY, 0, 11, b"!".to_vec());
    files.flush(KEY);
    await_flushed(&reports, KEY, 12);
    log.read_to_string(&mut seen).expect("read");
    assert_eq!(seen, "hello world!");
    await_that("an empty queue", || files.queued_bytes() == 0);
}

#[test]
fn bytes_in_the_wrong_place_change_nothing() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    let files = store.files();
    let failed = || await_report(&reports, |report| matches!(report, Report::Failed { .. }));
    files.append(KEY, 0, 5, b"gap".to_vec());
    failed();
    files.append(KEY, 0, 0, b"abc".to_vec());
    files.append(KEY, 0, 2, b"overlap".to_vec());
    let why = "bytes from 2 on, but the file has 3".to_string();
    assert_eq!(failed(), Report::Failed { key: KEY, stream: 0, why });
    files.append(KEY, 0, u64::MAX, b"far".to_vec());
    failed();
    files.append(KEY, 0, 3, b"d".to_vec());
    await_flushed(&reports, KEY, 4);
    assert_eq!(files.lengths(KEY).expect("lengths"), [4]);
}

#[test]
fn a_restart_goes_on_at_the_length_of_the_file() {
    let place = Place::new();
    let (store, _reports) = with_job(&place.state());
    store.files().append(KEY, 0, 0, text(1000));
    store.files().append(KEY, 2, 0, text(70));
    // Closing writes and flushes what is queued.
    drop(store);
    let (store, _, _reports) = open(&place.state());
    assert_eq!(store.files().lengths(KEY).expect("lengths"), [1000, 0, 70]);
    assert_eq!(store.files().lengths(JobKey { job: 1, attempt: 2 }).expect("lengths"), [0]);
    drop(store);
    // A power cut took the end of it: the file's length is the truth.
    let path = place.state().join("logs/1-1.log");
    File::options().write(true).open(&path).expect("opened").set_len(777).expect("cut");
    let (store, _, reports) = open(&place.state());
    assert_eq!(store.files().lengths(KEY).expect("lengths"), [777, 0, 70]);
    store.files().append(KEY, 0, 777, text(1000).split_off(777));
    await_flushed(&reports, KEY, 1000);
    assert_eq!(fs::read(path).expect("read"), text(1000));
}

#[test]
fn what_was_not_flushed_is_cut_off_and_asked_for_again() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    store.files().append(KEY, 0, 0, text(1000));
    store.files().append(KEY, 1, 0, text(70));
    await_flushed(&reports, KEY, 1000);
    drop(store);
    // As file systems leave it when the power fails: the size is there, the bytes are not; and a file of which nothing is.
    for (path, zeros) in [("logs/1-1.log", 5000), ("artifacts/1-1/1", 9), ("artifacts/1-1/2", 4096)] {
        let path = place.state().join(path);
        let mut bytes = fs::read(&path).unwrap_or_default();
        bytes.resize(bytes.len() + zeros, 0);
        fs::write(path, bytes).expect("written");
    }
    let (store, _, reports) = open(&place.state());
    assert_eq!(store.files().lengths(KEY).expect("lengths"), [1000, 70, 0]);
    assert_eq!(fs::read(place.state().join("logs/1-1.log")).expect("read"), text(1000));
    store.files().append(KEY, 0, 1000, text(1500).split_off(1000));
    await_flushed(&reports, KEY, 1500);
    drop(store);
    // A state directory of an older version wrote no lengths down, and its files are all there is to go by, once.
    fs::remove_file(place.state().join("lengths")).expect("removed");
    for _ in 0..2 {
        let (store, _, _reports) = open(&place.state());
        assert_eq!(store.files().lengths(KEY).expect("lengths"), [1500, 70, 0]);
    }
    let log = File::options().append(true).open(place.state().join("logs/1-1.log")).expect("opened");
    (&log).write_all(&[0; 10]).expect("written");
    let (store, _, _reports) = open(&place.state());
    assert_eq!(store.files().lengths(KEY).expect("lengths"), [1500, 70, 0]);
}

#[test]
fn a_seal_tells_the_whole_from_the_damaged() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    let files = store.files();
    let content = text(3 << 20);
    let digest: [u8; 32] = sha256(&content);
    let sealed = |wanted: u16| {
        let of = |report: &Report| matches!(report, Report::Sealed { stream, .. } if *stream == wanted);
        matches!(await_report(&reports, of), Report::Sealed { ok: true, .. })
    };
    for (n, piece) in content.chunks(60_000).enumerate() {
        files.append(KEY, 1, n as u64 * 60_000, piece.to_vec());
    }
    files.seal(KEY, 1, content.len() as u64, digest);
    assert!(sealed(1));
    let mut kept = Vec::new();
    store.reader().artifact(KEY, 1).expect("it").read_to_end(&mut kept).expect("read");
    assert!(kept == content);
    // A second seal, as after a restart, says the same.
    files.seal(KEY, 1, content.len() as u64, digest);
    assert!(sealed(1));
    files.append(KEY, 2, 0, b"other bytes".to_vec());
    files.seal(KEY, 2, 11, digest);
    assert!(!sealed(2), "another digest");
    files.append(KEY, 3, 0, b"short".to_vec());
    files.seal(KEY, 3, 6, sha256(b"short"));
    assert!(!sealed(3), "another length");
    files.seal(KEY, 4, 9, digest);
    assert!(!sealed(4), "nothing of it came");
    files.seal(KEY, 5, 0, sha256(b""));
    assert!(sealed(5), "an empty file is a file");
    assert_eq!(store.reader().artifact(KEY, 5).expect("it").metadata().expect("its length").len(), 0);
    assert!(store.reader().artifact(KEY, 0).is_err(), "the log is no artifact");
}

#[test]
fn streams_that_are_removed_while_they_wait_for_a_flush_hold_up_no_other() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    let files = store.files();
    // More than are flushed at once, then those that go, then one that stays.
    let attempt = |attempt: u32| JobKey { attempt, ..KEY };
    for (key, streams) in [(attempt(1), 100), (attempt(2), 200), (attempt(3), 1)] {
        for stream in 1..=streams {
            files.append(key, stream, 0, text(1));
        }
        files.flush(key);
    }
    let last = |report: &Report| matches!(report, Report::Appended { key, .. } if *key == attempt(3));
    await_report(&reports, last);
    files.remove(attempt(2));
    await_flushed(&reports, attempt(3), 1);
}

#[test]
fn files_that_are_kept_open_are_bounded() {
    let place = Place::new();
    let (store, _, reports) = open(&place.state());
    let keys: Vec<JobKey> = (1..=1200).map(|job| JobKey { job, attempt: 1 }).collect();
    for round in 0..2 {
        for key in &keys {
            store.files().append(*key, 0, round * 10, text(10));
        }
    }
    let logs = place.state().join("logs");
    let (mut most, mut flushed) = (0, 0);
    while flushed < keys.len() {
        let report = await_report(&reports, |report| matches!(report, Report::Flushed { .. }));
        flushed += usize::from(matches!(report, Report::Flushed { length: 20, .. }));
        if flushed % 50 == 0 {
            let open = fs::read_dir("/proc/self/fd").expect("listed").flatten();
            let ours = open.filter(|entry| fs::read_link(entry.path()).is_ok_and(|path| path.starts_with(&logs)));
            most = most.max(ours.count());
        }
    }
    assert!(most > 0 && most <= 256 + 64 + 8, "{most} files of logs were open");
    assert!(keys.iter().step_by(60).all(|key| store.files().lengths(*key).expect("lengths") == [20]));
}

#[test]
fn a_complete_log_is_packed_and_reads_the_same() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    let content = text((5 << 20) + 12_345);
    for (n, piece) in content.chunks(65_536).enumerate() {
        store.files().append(KEY, 0, n as u64 * 65_536, piece.to_vec());
    }
    await_flushed(&reports, KEY, content.len() as u64);
    let mut early = store.reader().log(KEY).expect("a log");
    store.files().finish(KEY);
    let (plain, packed) = (place.state().join("logs/1-1.log"), place.state().join("logs/1-1.log.lz4"));
    await_that("packing", || !plain.exists());
    assert!(fs::metadata(&packed).expect("packed").len() < content.len() as u64 * 2 / 3);
    assert!(!place.state().join("logs/1-1.log.lz4.tmp").exists());

    let out = Command::new("lz4").args(["-d", "-c"]).arg(&packed).output().expect("lz4 is installed");
    assert!(out.status.success() && out.stdout == content, "lz4 -d reads it");

    let mut whole = Vec::new();
    early.read_to_end(&mut whole).expect("read");
    assert!(whole == content, "a reader that had the plain one goes on");
    let mut log = store.reader().log(KEY).expect("a log");
    assert_eq!(log.length(), content.len() as u64);
    whole.clear();
    log.read_to_end(&mut whole).expect("read");
    assert!(whole == content);
    for at in [0, 1, (1 << 20) - 1, 1 << 20, 3 << 20, 4_999_999, 17, content.len() - 1] {
        let mut piece = vec![0; 300_000.min(content.len() - at)];
        log.seek(SeekFrom::Start(at as u64)).expect("sought");
        log.read_exact(&mut piece).expect("read");
        assert!(piece == content[at..at + piece.len()], "at {at}");
    }
    assert_eq!(log.seek(SeekFrom::End(-3)).expect("sought"), content.len() as u64 - 3);
    assert_eq!(log.seek(SeekFrom::Start(u64::MAX)).expect("sought"), u64::MAX);
    assert_eq!(log.read(&mut [0; 9]).expect("past the end"), 0);

    assert_eq!(store.files().lengths(KEY).expect("lengths"), [content.len() as u64]);
    store.files().append(KEY, 0, content.len() as u64, b"late".to_vec());
    await_report(&reports, |report| matches!(report, Report::Failed { why, .. } if why.contains("complete")));
    assert!(!plain.exists());

    // Damage is an error, never other bytes or a panic.
    let good = fs::read(&packed).expect("read");
    let read = |content: &mut Vec<u8>| {
        content.clear();
        store.reader().log(KEY).and_then(|mut log| log.read_to_end(content))
    };
    for at in (0..good.len()).step_by(good.len() / 41) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&packed, &bad).expect("written");
        let result = read(&mut whole);
        assert!(result.is_err() || whole == content, "a flipped bit at {at}");
        fs::write(&packed, &good[..at]).expect("written");
        let result = read(&mut whole);
        assert!(result.is_err() || content.starts_with(&whole), "cut at {at}");
    }
}

#[test]
fn packing_survives_a_crash_at_any_step() {
    let place = Place::new();
    let (store, _reports) = with_job(&place.state());
    let content = text(100_000);
    store.files().append(KEY, 0, 0, content.clone());
    commit(&store, vec![Change::Job(job(1, 1, JobState::Passed))]);
    drop(store);
    let logs = place.state().join("logs");
    let (plain, packed, half) = (logs.join("1-1.log"), logs.join("1-1.log.lz4"), logs.join("1-1.log.lz4.tmp"));
    // Before the rename: half a packed log. The next start packs it anew.
    fs::write(&half, b"half").expect("written");
    let (store, _, _reports) = open(&place.state());
    await_that("packing after a start", || !plain.exists());
    assert!(packed.exists() && !half.exists());
    drop(store);
    // After the rename and before the plain one went.
    fs::write(&plain, &content).expect("written");
    let (store, _, _reports) = open(&place.state());
    await_that("unlinking the plain one", || !plain.exists());
    let mut whole = Vec::new();
    store.reader().log(KEY).expect("a log").read_to_end(&mut whole).expect("read");
    assert!(whole == content);
}

#[test]
fn saifiles_are_kept_as_they_are() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let content = b"{ # not JSON, and not UTF-8: \xff\0 }";
    store.files().put_saifile(3, content).expect("kept");
    assert!(store.reader().saifile(4).is_err());
    commit(&store, vec![Change::Event(event(3, "hello", "main", 1, 0))]);
    drop(store);
    let (store, _, _reports) = open(&place.state());
    assert_eq!(store.reader().saifile(3).expect("it"), content);
}

/// The state as the disk of a running master has it, in a place of its own.
fn copy_state(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed").flatten() {
        if entry.path().is_dir() {
            copy_state(&entry.path(), &to.join(entry.file_name()));
        } else if entry.file_name() != "reserve" {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

#[test]
fn what_a_power_cut_takes_of_new_events_is_written_again() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let saifile = |id: u64| format!("{{ # \"é\\ of {id}\u{7}\n }}");
    for id in 1..=6 {
        let plan = format!("[{id}]");
        let plan = (id != 4).then_some(plan.as_bytes());
        let change = store.files().put_both(id, saifile(id).as_bytes(), plan).expect("kept").expect("carried");
        assert_eq!(store.reader().saifile(id).expect("shown at once"), saifile(id).as_bytes());
        commit(&store, vec![Change::Event(event(id, "hello", "main", id, 0)), change]);
    }
    commit(&store, vec![Change::DeleteEvent(6)]);
    // What is no text, or large, is durable before its record is.
    for bytes in [vec![0xff], vec![b'x'; 20_000]] {
        assert_eq!(store.files().put_both(7, &bytes, None).expect("kept"), None);
        assert_eq!(store.reader().saifile(7).expect("it"), bytes);
    }
    commit(&store, vec![Change::Event(event(7, "hello", "main", 7, 0))]);
    let cut = place.0.join("cut");
    copy_state(&place.state(), &cut);
    // As file systems leave what was not flushed: gone, empty, zeros, only the one, only the other; and all of it.
    let file = |name: &str| cut.join("saifiles").join(name);
    for name in ["1.json", "1.plan.json", "4.json"] {
        fs::remove_file(file(name)).expect("removed");
    }
    fs::write(file("2.json"), "").expect("written");
    fs::write(file("2.plan.json"), [0; 3]).expect("written");
    fs::remove_file(file("3.plan.json")).expect("removed");
    let check = |state: &Path| {
        let (store, restored, _reports) = open(state);
        assert_eq!(restored.told, Vec::<String>::new());
        for id in 1..=5 {
            assert_eq!(store.reader().saifile(id).expect("a saifile"), saifile(id).as_bytes(), "{id}");
            let plan = store.reader().plan(id).ok();
            assert_eq!(plan, (id != 4).then(|| format!("[{id}]").into_bytes()), "{id}");
        }
        assert_eq!(store.reader().saifile(7).expect("a saifile"), [b'x'; 20_000]);
        assert!(store.reader().saifile(6).is_err() && store.reader().plan(6).is_err(), "that event is gone");
    };
    // A backup may be the journal alone.
    let alone = place.0.join("alone");
    copy_state(&place.state(), &alone);
    fs::remove_dir_all(alone.join("saifiles")).expect("removed");
    let (from_journal, _, _reports) = open(&alone);
    assert_eq!(from_journal.reader().saifile(3).expect("a saifile"), saifile(3).as_bytes());
    drop(from_journal);
    check(&cut);
    check(&cut);
    drop(store);
    check(&place.state());
    // Flushed they are carried no longer, and an export has records alone.
    for state in [&cut, &place.state()] {
        let mut out = Vec::new();
        export(state, false, &mut out).expect("exported");
        assert!(!String::from_utf8(out).expect("text").contains("\"kind\":\"files\""));
    }
}

// --- Retention -------------------------------------------------------------------------------------------------

#[test]
fn deleting_an_event_deletes_its_files_after_its_records() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    let files = store.files();
    files.put_saifile(1, b"{}").expect("kept");
    files.put_plan(1, b"{}").expect("kept");
    let second = JobKey { attempt: 2, ..KEY };
    for key in [KEY, second] {
        files.append(key, 1, 0, text(100));
        files.append(key, 0, 0, text(100));
        files.flush(key);
        await_flushed(&reports, key, 100);
    }
    let mut log = store.reader().log(KEY).expect("a log");
    let mut ended = job(1, 1, JobState::Passed);
    ended.attempt = 2;
    commit(&store, vec![Change::Job(ended), Change::DeleteEvent(1)]);
    let empty = |name: &str| fs::read_dir(place.state().join(name)).expect("listed").next().is_none();
    await_that("unlinking", || empty("logs") && empty("artifacts") && empty("saifiles"));
    let mut seen = Vec::new();
    log.read_to_end(&mut seen).expect("read");
    assert_eq!(seen, text(100), "who has it open reads on");
}

#[test]
fn files_without_a_record_are_moved_away_at_start() {
    let place = Place::new();
    let (store, _reports) = with_job(&place.state());
    for key in [KEY, JobKey { job: 99, attempt: 1 }] {
        store.files().append(key, 0, 0, text(100));
        store.files().append(key, 1, 0, text(100));
    }
    store.files().put_saifile(1, b"{}").expect("kept");
    store.files().put_saifile(99, b"{}").expect("kept");
    store.files().put_plan(1, b"{}").expect("kept");
    store.files().put_plan(99, b"{}").expect("kept");
    fs::write(place.state().join("logs/README"), "not ours").expect("written");
    drop(store);
    let (_store, restored, _reports) = open(&place.state());
    assert_eq!(restored.told.len(), 1, "{:?}", restored.told);
    assert!(restored.told[0].starts_with("4 files without a record were moved to "), "{:?}", restored.told);
    assert_eq!(
        (restored.next_event, restored.next_job),
        (100, 100),
        "what names of files show to be used is not given"
    );
    let lost = fs::read_dir(place.state().join("lost+found")).expect("listed").next().expect("one").expect("it").path();
    assert_eq!(fs::read(lost.join("logs/99-1.log")).expect("kept"), text(100));
    assert_eq!(fs::read(lost.join("artifacts/99-1/1")).expect("kept"), text(100));
    assert!(lost.join("saifiles/99.json").exists() && lost.join("saifiles/99.plan.json").exists());
    assert!(fs::read_to_string(lost.join("README")).expect("the reason").contains("logs/99-1.log: no record names it"));
    let names = |name: &str| {
        let entries = fs::read_dir(place.state().join(name)).expect("listed").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().expect("a name")).collect();
        names.sort();
        names
    };
    assert_eq!(names("logs"), ["1-1.log", "README"]);
    assert_eq!(names("artifacts"), ["1-1"]);
    assert_eq!(names("saifiles"), ["1.json", "1.plan.json"]);
}

#[test]
fn gc_deletes_a_bounded_number_at_a_time_and_keeps_what_it_must() {
    let place = Place::new();
    let (store, _, reports) = open(&place.state());
    let mut changes = Vec::new();
    for id in 1..=200 {
        let branch = if id == 3 { "old" } else { "main" };
        let state = if id == 5 { JobState::Queued } else { JobState::Passed };
        changes.push(Change::Event(event(id, "hello", branch, id, 1)));
        changes.push(Change::Job(job(id, id, state)));
    }
    changes.extend((1..=10_100).map(|id| Change::Action(action(id))));
    commit(&store, changes);
    for id in 1..=200 {
        store.files().append(JobKey { job: id, attempt: 1 }, 0, 0, text(500));
    }
    for _ in 1..=200 {
        await_report(&reports, |report| matches!(report, Report::Flushed { .. }));
    }
    let policy = Policy { events: 20, days: None };
    let first = gc(&store, policy);
    assert_eq!((first.events, first.jobs, first.bytes_freed, first.more), (64, 64, 64 * 500, true));
    assert!(first.ledger_bytes > 0);
    assert_eq!(store.reader().event(1), None, "the oldest go first");
    assert!(store.reader().event(180).is_some());
    let second = gc(&store, policy);
    assert_eq!((second.events, second.more), (64, true));
    let third = gc(&store, policy);
    assert_eq!((third.events, third.more, third.trouble), (178 - 128, false, None));
    assert_eq!(gc(&store, policy).events, 0);
    let mut left: Vec<u64> = store.reader().events(None, None, 999).iter().map(|event| event.id).collect();
    left.reverse();
    assert_eq!(left, [vec![3, 5], (181..=200).collect()].concat());
    assert_eq!(store.reader().actions(usize::MAX).len(), 10_000);
    let logs = || fs::read_dir(place.state().join("logs")).expect("listed").count();
    await_that("unlinking", || logs() == left.len());
}

// --- Export ----------------------------------------------------------------------------------------------------

#[test]
fn what_is_exported_is_imported_the_same() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    for id in 1..=300 {
        commit_later(&store, three_jobs(id));
    }
    commit(
        &store,
        vec![
            Change::Job(job(5, 1, JobState::Running)),
            Change::DeleteEvent(300),
            Change::Agent(agent("a")),
            Change::User(user("ann \u{1f980}")),
            Change::Action(action(4)),
        ],
    );
    drop(store);
    let mut exported = Vec::new();
    let report = export(&place.state(), false, &mut exported).expect("exported");
    assert_eq!((report.records, report.lost, report.told), (1200, false, vec![]));
    let other = Place::new();
    let count = import(&other.state(), &mut BufReader::new(exported.as_slice()), "export.jsonl").expect("imported");
    assert_eq!(count, 299 + 3 * 299 + 4);
    let mut again = Vec::new();
    export(&other.state(), false, &mut again).expect("exported");
    assert!(again == exported, "the copy's export is the same, byte for byte");
    let (copy, restored, _reports) = open(&other.state());
    let (_store, original, _reports) = open(&place.state());
    assert_eq!(restored, original);
    assert_eq!((restored.next_event, restored.next_job, restored.next_action), (301, 903, 5));
    drop(copy);
    let error =
        import(&other.state(), &mut BufReader::new(exported.as_slice()), "export.jsonl").expect_err("not empty");
    assert!(error.to_string().starts_with("export.jsonl: expected an empty state directory"), "{error}");
}

#[test]
fn what_is_wrong_with_an_import_is_named_by_line_and_nothing_is_taken() {
    let place = Place::new();
    let head = r#"{"kind":"sai-export","format":1,"next_event":9,"next_job":9,"next_action":9}"#;
    let user = r#"{"kind":"user","name":"ann","token_sha256":"","added_at":1,"revoked":false}"#;
    let cut = "f:3: expected the last line of an export, {\"kind\":\"sai-export-end\",\"records\":1}: this one was cut";
    let end = |records: u64| format!("{{\"kind\":\"sai-export-end\",\"records\":{records}}}");
    let cases = [
        (String::new(), "f:1: expected the first line of an export"),
        (user.to_string(), "f:1: expected the first line of an export"),
        (head.replace("\"format\":1", "\"format\":2"), "f:1: expected format 1, not 2"),
        (format!("{head}\n{user}\nnonsense\n"), "f:3: expected an object with a \"kind\""),
        (format!("{head}\n\n"), "f:2: expected an object with a \"kind\""),
        (format!("{head}\n{user}\n{{\"kind\":\"job\",\"id\":1}}\n"), "f:3: expected a job record with all its keys"),
        (format!("{head}\n{user}\n"), cut),
        (format!("{head}\n{user}\n{}\n", end(2)), "f:3: expected 2 records before this line, not 1"),
        (format!("{head}\n{user}\n{}\n{user}\n", end(1)), "f:4: expected nothing after the last line"),
        (format!("{head}\n{{\"kind\":\"delete-event\",\"id\":1}}\n{}\n", end(1)), "f:2: expected a record, not"),
    ];
    for (text, expected) in &cases {
        let error = import(&place.state(), &mut BufReader::new(text.as_bytes()), "f").expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let not_text = [head.as_bytes(), b"\n\xff\xfe"].concat();
    let error = import(&place.state(), &mut BufReader::new(not_text.as_slice()), "f").expect_err("not UTF-8");
    assert_eq!(error.to_string(), "f:2: expected UTF-8");
    let mut endless = BufReader::new(std::io::repeat(b'x'));
    let error = import(&place.state(), &mut endless, "f").expect_err("too long").to_string();
    assert!(error.starts_with("f:1: expected at most"), "{error}");
    let good = format!("{head}\n{user}\n{{\"kind\":\"pet\",\"name\":7}}\n{}\n", end(2));
    assert_eq!(import(&place.state(), &mut BufReader::new(good.as_bytes()), "f").expect("nothing was taken before"), 2);
    let (_store, restored, _reports) = open(&place.state());
    assert_eq!((restored.users.len(), restored.next_job), (1, 9));
    assert!(!place.state().join("journal.new").exists());
    drop(_store);
    let mut again = Vec::new();
    export(&place.state(), false, &mut again).expect("exported");
    assert_eq!(String::from_utf8(again).expect("UTF-8"), good, "also what this version does not know");
}

// --- Full disk -------------------------------------------------------------------------------------------------

/// Runs a test below on a small file system of its own, in a mount namespace that goes with it.
fn on_small_disk(name: &str, size: &str) {
    let place = Place::new();
    let script = format!("mount -t tmpfs -o size={size} none \"$0\" && exec \"$@\"");
    let test = this_test(name, &place.state());
    let run = |namespace: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(namespace).args(["sh", "-c", &script]).arg(&place.0).arg(test.get_program());
        command.args(test.get_args()).env("SAI_STORE", place.state()).output().expect("unshare is installed")
    };
    let mut out = run(&["--mount"]);
    if String::from_utf8_lossy(&out.stderr).contains("Operation not permitted") {
        out = run(&["--user", "--map-root-user", "--mount"]);
    }
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

/// Fills what is left of a disk, to the last byte, and returns the file.
fn fill(directory: &Path) -> PathBuf {
    let path = directory.join(format!("filler-{}", fs::read_dir(directory).expect("listed").count()));
    let mut file = File::create(&path).expect("made");
    let mut piece = vec![1; 1 << 20];
    while !piece.is_empty() {
        if file.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    path
}

#[test]
fn a_full_disk_loses_no_byte_of_a_log() {
    on_small_disk("full_disk_and_logs", "96m");
}

/// Not a test by itself: run by `a_full_disk_loses_no_byte_of_a_log`.
#[test]
fn full_disk_and_logs() {
    let Some(state) = child_state() else { return };
    let disk = state.parent().expect("the disk");
    drop(with_job(&state));
    // With no threshold the writer looks at the free space once a MiB, so that a write itself meets the end of the disk.
    let (sender, reports) = sync_channel(1 << 16);
    let report = move |report| sender.send(report).expect("the test listens");
    let (store, _) = Store::open(&state, Options { low_mib: 0, ..Options::new(report) }).expect("a store");
    let content = text(20 << 20);
    store.files().append(KEY, 0, 0, content[..1000].to_vec());
    await_flushed(&reports, KEY, 1000);
    let filler = fill(disk);
    for (n, piece) in content[1000..].chunks(50_000).enumerate() {
        store.files().append(KEY, 0, 1000 + n as u64 * 50_000, piece.to_vec());
    }
    store.files().flush(KEY);
    await_report(&reports, |report| matches!(report, Report::Space { free_mib: 0, low: true }));
    // Several tries later nothing is acknowledged but what the file's last page had room for, and nothing has failed.
    let quiet = Instant::now();
    let mut told = Vec::new();
    while quiet.elapsed() < Duration::from_millis(700) {
        told.extend(reports.recv_timeout(Duration::from_millis(50)).ok());
    }
    let harmless = |report: &Report| match report {
        Report::Space { low, .. } => *low,
        Report::Appended { length, .. } | Report::Flushed { length, .. } => *length <= 4096,
        _ => false,
    };
    assert!(told.iter().all(harmless), "{told:?}");
    let queued = store.files().queued_bytes();
    assert!(queued > 19 << 20, "{queued} bytes are queued");
    // Unlinking goes on although the queue is stuck: it is what makes room.
    let (stray, path) = (JobKey { job: 77, attempt: 1 }, state.join("logs/77-1.log"));
    fs::write(&path, b"").expect("an empty file needs no room");
    store.files().remove(stray);
    await_that("unlinking", || !path.exists());
    fs::remove_file(filler).expect("removed");
    await_flushed(&reports, KEY, content.len() as u64);
    await_report(&reports, |report| matches!(report, Report::Space { low: false, .. }));
    assert!(fs::read(state.join("logs/1-1.log")).expect("read") == content);
    await_that("an empty queue", || store.files().queued_bytes() == 0);
}

#[test]
fn an_ended_attempt_leaves_no_file_that_is_not_whole() {
    let place = Place::new();
    let (store, reports) = with_job(&place.state());
    let artifact = |stream, size| {
        let (path, sha256) = (format!("f{stream}"), "ab".repeat(32));
        sai_core::record::Record::Artifact(Artifact { stream, path, size, sha256, executable: false })
    };
    let mut log = Vec::new();
    sai_core::record::encode(&artifact(1, 70), 1, &mut log);
    sai_core::record::encode(&artifact(2, 70), 1, &mut log);
    let length = log.len() as u64;
    store.files().append(KEY, 0, 0, log);
    // One is whole, one is not, and one was never announced.
    for (stream, bytes) in [(1, 70), (2, 69), (3, 70)] {
        store.files().append(KEY, stream, 0, text(bytes));
    }
    await_flushed(&reports, KEY, length);
    let names = || -> Vec<String> {
        let files = fs::read_dir(place.state().join("artifacts/1-1")).expect("listed").flatten();
        let mut names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["1", "2", "3"]);
    commit(&store, vec![Change::Job(job(1, 1, JobState::Cancelled))]);
    store.files().finish(KEY);
    await_that("unlinking", || names() == ["1"]);
    // What a crash has left is found by the garbage collection.
    fs::write(place.state().join("artifacts/1-1/2"), text(10)).expect("written");
    gc(&store, Policy { events: 9, days: None });
    await_that("unlinking", || names() == ["1"]);
}

#[test]
fn an_ended_attempt_gives_the_full_disk_back_what_it_took() {
    on_small_disk("full_disk_and_an_end", "64m");
}

/// Not a test by itself: run by `an_ended_attempt_gives_the_full_disk_back_what_it_took`.
#[test]
fn full_disk_and_an_end() {
    let Some(state) = child_state() else { return };
    let (store, reports) = with_job(&state);
    let other = JobKey { job: 1, attempt: 2 };
    for piece in 0..40 {
        store.files().append(KEY, 1, piece << 20, text(1 << 20));
    }
    await_report(&reports, |report| matches!(report, Report::Space { low: true, .. }));
    await_that("no room", || store.files().queued_bytes() > 0);
    std::thread::sleep(Duration::from_millis(400));
    store.files().append(other, 0, 0, text(3 << 20));
    // Commits pass meanwhile, and so does the end of what takes all the room.
    commit(&store, vec![Change::Job(job(1, 1, JobState::Cancelled))]);
    assert!(store.files().queued_bytes() > 3 << 20, "{}", store.files().queued_bytes());
    store.files().finish(KEY);
    await_that("unlinking", || !state.join("artifacts/1-1").exists());
    await_flushed(&reports, other, 3 << 20);
    await_that("an empty queue", || store.files().queued_bytes() == 0);
}

#[test]
fn a_full_disk_loses_no_record() {
    on_small_disk("full_disk_and_records", "64m");
}

/// Not a test by itself: run by `a_full_disk_loses_no_record`.
#[test]
fn full_disk_and_records() {
    let Some(state) = child_state() else { return };
    let disk = state.parent().expect("the disk");
    let (store, _, _reports) = open(&state);
    commit(&store, three_jobs(1));
    assert_eq!(fs::metadata(state.join("reserve")).expect("the reserve").len(), 8 << 20);
    let first = fill(disk);
    // The reserve makes room for these.
    for id in 2..=50 {
        commit(&store, three_jobs(id));
    }
    assert!(!state.join("reserve").exists(), "it was given up");
    let second = fill(disk);
    // Now there is no room at all: sled meets the end of the disk, and the commits wait.
    let (sender, released) = sync_channel(10_000);
    let more = store.clone();
    let writer = std::thread::spawn(move || {
        for id in 51..=3000 {
            let sender = sender.clone();
            let then = move |result| sender.send((id, result)).expect("somebody waits");
            more.commit(three_jobs(id), Box::new(then));
        }
    });
    let mut acknowledged = 50;
    while let Ok((id, result)) = released.recv_timeout(Duration::from_secs(1)) {
        assert_eq!((id, result), (acknowledged + 1, Ok(())));
        acknowledged = id;
    }
    assert!(acknowledged < 3000, "the disk was not full");
    println!("stopped after {acknowledged}");
    fs::remove_file(second).expect("removed");
    fs::remove_file(first).expect("removed");
    while acknowledged < 3000 {
        let (id, result) = released.recv_timeout(PATIENCE).expect("it goes on");
        assert_eq!((id, result), (acknowledged + 1, Ok(())));
        acknowledged = id;
    }
    writer.join().expect("done");
    for id in 1..=3000 {
        assert_eq!(store.reader().jobs(id).len(), 3, "event {id}");
    }
    commit(&store, three_jobs(3001));
    assert!(state.join("reserve").exists(), "it is made again");
    drop(store);
    let (store, restored, _reports) = open(&state);
    assert_eq!(restored.next_event, 3002);
    assert_eq!(store.reader().events(None, None, 9999).len(), 3001);
}

// --- Memory ----------------------------------------------------------------------------------------------------

fn status_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with(name)).expect("its line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_long_log_does_not_grow_memory() {
    let place = Place::new();
    let out = this_test("long_log_process", &place.state()).output().expect("run");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    println!("{said}");
}

/// Not a test by itself: run by `a_long_log_does_not_grow_memory`.
#[test]
fn long_log_process() {
    let Some(state) = child_state() else { return };
    let (store, reports) = with_job(&state);
    let piece = text(65_536);
    let (mut sent, mut flushed, mut before) = (0, 0, 0);
    let begun = Instant::now();
    // As a link does: at most its window is under way.
    while flushed < 169 << 20 {
        while sent < 169 << 20 && sent - flushed < 4 << 20 {
            store.files().append(KEY, 0, sent, piece.clone());
            sent += piece.len() as u64;
        }
        let report = await_report(&reports, |report| matches!(report, Report::Flushed { .. }));
        if let Report::Flushed { length, .. } = report {
            flushed = length;
        }
        if before == 0 && flushed > 16 << 20 {
            before = status_kib("VmHWM");
        }
    }
    let (took, after) = (begun.elapsed(), status_kib("VmHWM"));
    println!("169 MiB in {} ms, peak RSS {before} then {after} KiB", took.as_millis());
    assert!(after < before + 4096, "grew from {before} to {after} KiB");
    store.files().finish(KEY);
    let plain = state.join("logs/1-1.log");
    let begun = Instant::now();
    // It is done with the lowest priority: for as long as it gets on, on a busy machine too.
    let written = || fs::metadata(state.join("logs/1-1.log.lz4.tmp")).map_or(0, |file| file.len());
    let (mut last, mut since) = (0, Instant::now());
    while plain.exists() {
        if written() != last {
            (last, since) = (written(), Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "packing stands still at {last} bytes");
        std::thread::sleep(Duration::from_millis(2));
    }
    let packed = fs::metadata(state.join("logs/1-1.log.lz4")).expect("packed").len();
    let peak = status_kib("VmHWM");
    println!("packed to {} MiB in {} ms, peak RSS {peak} KiB", packed >> 20, begun.elapsed().as_millis());
    assert!(peak < after + 8192, "packing holds a few pieces, not the log");
}
