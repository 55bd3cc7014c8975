//! A change of a state directory in many steps, stopped at each of them → the state before it, or the one after it, and no third.
//!
//! A real `sai-master` makes a snapshot, makes the index again, takes an older ledger over, collects garbage or imports, on a
//! disk that kills it, loses its power, is full or fails at the N-th operation. After it a start must find every record and
//! every file, give no number again, and complain of nothing. `SAI_ROUNDS` sets how many operations of each change are tried for
//! each fault (there are up to some hundred, all of them with 0), `SAI_SEED` which, and `SAI_CHANGES` the changes (`gc,import`).

use crate::disk::{Content, Disk, Fault};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_master::store::{Change, Options, Store, StoreError, export};
use sai_tests::process::{PATIENCE, program};
use sai_tests::random::{Random, rounds, seed};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Operations of a change that are tried for each fault.
const TRIED: u64 = 6;
/// How long a process may try on a full disk before it has room again.
const HOPE: Duration = Duration::from_millis(150);
/// Events of a small state, and those that its retention keeps.
const EVENTS: u64 = 5;
const KEPT: u64 = 2;

/// What a state directory holds, as far as it must not be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    records: BTreeSet<String>,
    /// The next event, job and action.
    next: [u64; 3],
    /// Names of files that a record names.
    files: BTreeSet<String>,
}

/// A change, and what it makes of what was there.
struct Trial {
    name: &'static str,
    words: &'static [&'static str],
    /// Whether all that was there stays, and one user comes in addition.
    adds: bool,
    input: Vec<u8>,
    before: Option<Held>,
    after: Held,
}

fn event(id: u64) -> EventRecord {
    let text = format!(
        "{{\"id\":{id},\"repository\":\"hello\",\"url\":\"https://example.org/hello\",\"reference\":\"refs/heads/main\",\
         \"revision\":\"{id:040}\",\"subject\":\"\",\"author\":\"\",\"source\":\"Hook\",\"at\":1,\"errors\":[],\"warnings\":[],\
         \"first_job\":{},\"jobs\":2}}",
        id * 2
    );
    miniserde::json::from_str(&text).expect("an event")
}

fn job(id: u64) -> JobRecord {
    let text = format!(
        "{{\"id\":{id},\"event\":{},\"repository\":\"hello\",\"platform\":\"linux\",\"configuration\":\"default\",\"priority\":0,\
         \"state\":\"Passed\",\"attempt\":1,\"infra\":0,\"agent\":\"a1\",\"queued_at\":1,\"cause\":\"\",\"fault\":\"Nobody\",\
         \"steps\":1,\"log_bytes\":0,\"artifacts\":[]}}",
        id / 2
    );
    miniserde::json::from_str(&text).expect("a job")
}

fn push(id: u64) -> Vec<Change> {
    vec![Change::Event(event(id)), Change::Job(job(id * 2)), Change::Job(job(id * 2 + 1))]
}

fn open(state: &Path) -> Store {
    Store::open(state, Options::new(|_| {})).unwrap_or_else(|error| panic!("{error}")).0
}

/// A state with a few events and all their files.
fn small(state: &Path) {
    let store = open(state);
    for id in 1..=EVENTS {
        store.commit_now(push(id)).expect("durable");
        store.files().put_saifile(id, b"{}").expect("kept");
    }
    drop(store);
    for id in 2..=EVENTS * 2 + 1 {
        fs::write(state.join(format!("logs/{id}-1.log")), format!("of {id}")).expect("written");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed").flatten() {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.file_name() != "reserve" {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

fn number(line: &str, key: &str) -> u64 {
    let digits = line.split(&format!("\"{key}\":")).nth(1).expect("a number");
    digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

/// What is there, as an export and the directories say it; none where there is no ledger.
fn held(state: &Path) -> Option<Held> {
    let mut out = Vec::new();
    match export(state, false, &mut out) {
        Err(StoreError::Missing { .. }) => return None,
        exported => exported.unwrap_or_else(|error| panic!("{error}")),
    };
    let text = String::from_utf8(out).expect("text");
    let head = text.lines().next().expect("a head");
    let records: BTreeSet<String> =
        text.lines().filter(|line| !line.starts_with("{\"kind\":\"sai-export")).map(str::to_string).collect();
    let names = ["logs", "saifiles"].into_iter().flat_map(|place| {
        let entries = fs::read_dir(state.join(place)).into_iter().flatten().flatten();
        // A log may have been packed meanwhile.
        entries.map(move |entry| format!("{place}/{}", entry.file_name().to_string_lossy().replace(".lz4", "")))
    });
    let next = ["next_event", "next_job", "next_action"].map(|key| number(head, key));
    Some(Held { records, next, files: names.filter(|name| !name.ends_with(".tmp")).collect() })
}

/// How a process ended: none when it was killed.
struct Ended {
    well: Option<bool>,
    said: String,
}

/// Runs a command of the master on a state that is on the disk, until it ends.
fn run(disk: &Disk, configuration: &Path, trial: &Trial, fault: Option<Fault>) -> Ended {
    let mut command = Command::new(program("sai-master"));
    command.args(trial.words).arg("--config").arg(configuration);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    // Whoever reads nothing has ended.
    let _ = child.stdin.take().expect("piped").write_all(&trial.input);
    let mut stderr = child.stderr.take().expect("piped");
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        let _ = stderr.read_to_string(&mut said);
        said
    });
    let (begun, mut struck) = (Instant::now(), None);
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        struck = struck.or_else(|| disk.struck().then(Instant::now));
        if fault == Some(Fault::Full) && struck.is_some_and(|struck| struck.elapsed() > HOPE) {
            disk.heal();
        }
        assert!(begun.elapsed() < PATIENCE, "{}: it does not end", trial.name);
        std::thread::sleep(Duration::from_millis(2));
    };
    Ended { well: status.code().map(|code| code == 0), said: said.join().expect("read") }
}

/// What a start finds after it: what was there, or what was to be, and nothing to complain of.
fn check(state: &Path, trial: &Trial, ended: &Ended, what: &str) {
    let (store, restored) = match Store::open(state, Options::new(|_| {})) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: {error}; it had said: {}", ended.said),
    };
    drop(store);
    let bad = ["lacks", ".lines is damaged", ".snapshot is damaged", "not all there", "is gone", "there is lost"];
    let complaint = restored.told.iter().find(|told| bad.iter().any(|word| told.contains(word)));
    // Where garbage is collected, what was nobody's is moved away, now or then.
    let complaint = complaint.filter(|told| !(told.contains("without a record") && trial.name == "gc"));
    assert!(complaint.is_none(), "{what}: {:?}", restored.told);
    let mut found = held(state).unwrap_or_else(|| panic!("{what}: there is no ledger"));
    let next = trial.before.as_ref().map_or([1; 3], |before| before.next);
    assert!((0..3).all(|index| found.next[index] >= next[index]), "{what}: {:?} after {next:?}", found.next);
    if trial.adds {
        let before = trial.before.as_ref().expect("there was something");
        let lost: Vec<_> = before.records.difference(&found.records).collect();
        assert!(lost.is_empty() && found.records.len() <= before.records.len() + 1, "{what}: {lost:?} lost");
        assert!(ended.well != Some(true) || found.records.len() == before.records.len() + 1, "{what}: not added");
        assert!(before.files.is_subset(&found.files), "{what}: {:?} of {:?}", found.files, before.files);
        return;
    }
    // The next numbers are where they may be.
    found.next = trial.after.next;
    let same = |held: &Held| held.records == found.records && held.files.is_subset(&found.files);
    let is_before = trial.before.as_ref().map_or(found.records.is_empty(), same);
    assert!(
        same(&trial.after) || (is_before && ended.well != Some(true)),
        "{what}: {found:#?}, ended well: {:?}",
        ended.well
    );
}

/// Stops a change at each of its operations, or at some, in each way.
fn stop_everywhere(
    disk: &mut Disk,
    state: &Path,
    configuration: &Path,
    saved: &Content,
    mut trial: Trial,
    random: &mut Random,
) {
    if std::env::var("SAI_CHANGES").is_ok_and(|names| !names.split(',').any(|name| name == trial.name)) {
        return;
    }
    disk.set_back(saved);
    trial.before = held(state);
    disk.set_back(saved);
    disk.plan(None);
    let ended = run(disk, configuration, &trial, None);
    assert!(ended.well == Some(true), "{}: {}", trial.name, ended.said);
    let (operations, _) = disk.heal();
    trial.after = held(state).expect("a ledger");
    assert!(operations > 5, "{}: {operations} operations", trial.name);
    let wanted = rounds(TRIED);
    let tried = if wanted == 0 { operations } else { wanted.min(operations) };
    let begun = Instant::now();
    for (fault, cut) in [(Fault::Kill, false), (Fault::Kill, true), (Fault::Full, false), (Fault::Failure, false)] {
        for round in 0..tried {
            // One of each of so many equal pieces: with as many as there are operations, all of them.
            let piece = |round| operations * round / tried;
            let at = 1 + piece(round) + random.below(piece(round + 1) - piece(round));
            let what = format!("{}: {fault:?} at operation {at} of {operations}, power cut {cut}", trial.name);
            disk.set_back(saved);
            disk.plan(Some((at, fault)));
            let ended = run(disk, configuration, &trial, Some(fault));
            let (_, struck) = disk.heal();
            let killed = fault == Fault::Kill && struck;
            assert_eq!(ended.well.is_none(), killed, "{what}: {}", ended.said);
            assert!(ended.well != Some(false) || !ended.said.is_empty(), "{what}: it ends and does not say why");
            // sled has no other word for a failing disk than to panic when it is closed.
            assert!(fault == Fault::Failure || !ended.said.contains("panicked"), "{what}: {}", ended.said);
            if cut {
                disk.cut(random);
            }
            check(state, &trial, &ended, &what);
        }
    }
    eprintln!("{}: {tried} of {operations} operations, {:?}", trial.name, begun.elapsed());
}

#[test]
fn a_change_that_is_stopped_anywhere_is_done_or_not_done() {
    let place = std::env::temp_dir().join(format!("sai-changes-{}", std::process::id()));
    let mut random = Random::new(seed("changes", 11));
    let Some(mut disk) = Disk::mount(&place.join("disk")) else { return };
    let state = place.join("disk/state");
    let configuration = place.join("master.json");
    let text = format!("{{\"state\": {state:?}, \"keep\": {{\"events\": {KEPT}}}, \"builtin\": false}}");
    fs::write(&configuration, text).expect("written");
    let nothing = || Held { records: BTreeSet::new(), next: [1; 3], files: BTreeSet::new() };
    let trial = |name, words, adds| Trial { name, words, adds, input: Vec::new(), before: None, after: nothing() };
    let empty = disk.save();
    // States are made beside the disk, and put on it as they are.
    let put = |disk: &Disk, make: &dyn Fn(&Path)| {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let made: PathBuf = place.join(NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string());
        fs::create_dir_all(&made).expect("made");
        make(&made);
        disk.set_back(&empty);
        copy(&made, &state);
        disk.save()
    };
    let add: &[&str] = &["user", "add", "zoe"];

    let saved = put(&disk, &|made| {
        small(made);
        let store = open(made);
        for _ in 0..2 {
            store.commit_now((10..700).flat_map(push).collect()).expect("durable");
        }
        drop(store);
        // As it was before the segment was closed and a snapshot made of it: the next record is the one that does.
        for entry in fs::read_dir(made.join("journal")).expect("listed").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("00000000000000000000.") && !name.starts_with("00000000000000000001.") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
    });
    stop_everywhere(&mut disk, &state, &configuration, &saved, trial("snapshot", add, true), &mut random);

    let saved = put(&disk, &|made| {
        small(made);
        let path = made.join("ledger/db");
        // Cut, it would only be behind.
        let length = fs::metadata(&path).expect("an index").len();
        fs::write(&path, vec![b'x'; length as usize]).expect("written");
    });
    stop_everywhere(&mut disk, &state, &configuration, &saved, trial("rebuild", add, true), &mut random);

    let saved = put(&disk, &|made| {
        small(made);
        fs::remove_dir_all(made.join("ledger")).expect("removed");
        fs::remove_file(made.join("format")).expect("removed");
    });
    stop_everywhere(&mut disk, &state, &configuration, &saved, trial("journal alone", add, true), &mut random);

    let saved = put(&disk, &|made| {
        let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/../master/tests/data/state-1.tar.gz");
        let unpack = Command::new("tar").args(["-xzf", archive, "-C"]).arg(made).status().expect("tar runs");
        assert!(unpack.success());
    });
    stop_everywhere(&mut disk, &state, &configuration, &saved, trial("take-over", add, true), &mut random);

    let saved = put(&disk, &|made| {
        small(made);
        fs::create_dir_all(made.join("lost+found/1000000000")).expect("made");
        fs::write(made.join("lost+found/1000000000/README"), "old").expect("written");
    });
    stop_everywhere(&mut disk, &state, &configuration, &saved, trial("gc", &["gc"], false), &mut random);

    let mut exported = Vec::new();
    disk.set_back(&saved);
    export(&state, false, &mut exported).expect("whole");
    let into = Trial { input: exported.clone(), ..trial("import", &["import"], false) };
    stop_everywhere(&mut disk, &state, &configuration, &empty, into, &mut random);
    let saved = put(&disk, &|made| drop(open(made)));
    let into = Trial { input: exported, ..trial("import over nothing", &["import"], false) };
    stop_everywhere(&mut disk, &state, &configuration, &saved, into, &mut random);

    drop(disk);
    let _ = fs::remove_dir_all(place);
}
