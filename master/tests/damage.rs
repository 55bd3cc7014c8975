//! A state directory with bytes changed, cut off, removed or doubled → what is there is read, what is not is said, and no file
//! is gone for it.

use sai_core::job::{JobKey, JobState};
use sai_core::ledger::{EventRecord, JobRecord, Source, TipRecord, UserRecord};
use sai_core::retention::Policy;
use sai_master::store::{Change, Options, Restored, Store, StoreError, export, gc};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own for each test, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sai-damage-{}-{number}", std::process::id()));
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

fn try_open(state: &Path) -> Result<(Store, Restored), StoreError> {
    Store::open(state, Options::new(|_| {}))
}

fn open(state: &Path) -> (Store, Restored) {
    try_open(state).unwrap_or_else(|error| panic!("{error}"))
}

fn event(id: u64) -> EventRecord {
    EventRecord {
        id,
        repository: "hello".to_string(),
        url: "https://example.org/hello".to_string(),
        reference: "refs/heads/main".to_string(),
        revision: format!("{id:040}"),
        subject: "s".repeat(id as usize % 50),
        author: String::new(),
        source: Source::Hook,
        at: u64::MAX,
        errors: Vec::new(),
        warnings: Vec::new(),
        first_job: id * 2,
        jobs: 2,
    }
}

fn job(id: u64, state: JobState) -> JobRecord {
    JobRecord {
        platform: "linux-debian-12/x86_64/gcc".to_string(),
        configuration: "default".to_string(),
        state,
        attempt: 1,
        agent: Some("a1".to_string()),
        started_at: Some(3),
        steps: 2,
        ..JobRecord::queued(id, id / 2, "hello", 1)
    }
}

fn tip(revision: u64) -> TipRecord {
    TipRecord {
        repository: "hello".to_string(),
        reference: "refs/heads/main".to_string(),
        revision: revision.to_string(),
    }
}

fn push(id: u64) -> Vec<Change> {
    let jobs = [id * 2, id * 2 + 1].map(|id| Change::Job(job(id, JobState::Passed)));
    [Change::Event(event(id))].into_iter().chain(jobs).chain([Change::Tip(tip(id))]).collect()
}

/// Events in the state below.
const EVENTS: u64 = 6;

/// A small state with a few records, two of them changed later, and all their files. It was closed well.
fn small(state: &Path) {
    let (store, _) = open(state);
    for id in 1..=EVENTS {
        store.commit_now(push(id)).expect("durable");
        store.files().put_saifile(id, format!("{{ \"event\": {id} }}").as_bytes()).expect("kept");
        for job in [id * 2, id * 2 + 1] {
            let key = JobKey { job, attempt: 1 };
            store.files().append(key, 0, 0, vec![b'x'; 100 * id as usize]);
            store.files().append(key, 1, 0, vec![b'y'; 10]);
        }
    }
    store
        .commit_now(vec![Change::Job(job(2, JobState::Failed)), Change::Job(job(3, JobState::Failed))])
        .expect("durable");
    let user =
        UserRecord { name: "ann".to_string(), token_sha256: String::new(), added_at: 1, revoked: false, powers: None };
    store.commit_now(vec![Change::User(user)]).expect("durable");
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).expect("made");
    for path in files(from) {
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &to);
        } else if path.file_name().is_some_and(|name| name != "reserve") {
            fs::copy(&path, to).expect("copied");
        }
    }
}

/// Names of all logs, artifacts and saifiles, wherever they are now.
fn content(state: &Path) -> BTreeSet<String> {
    fn walk(path: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                walk(&entry.path(), &name, found);
            } else {
                found.insert(name);
            }
        }
    }
    let mut found = BTreeSet::new();
    let lost = fs::read_dir(state.join("lost+found")).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in lost.chain([state.to_path_buf()]) {
        for name in ["logs", "artifacts", "saifiles"] {
            walk(&place.join(name), name, &mut found);
        }
    }
    found
}

fn exported(state: &Path, salvage: bool) -> Result<(String, bool, Vec<String>), StoreError> {
    let mut out = Vec::new();
    let report = export(state, salvage, &mut out)?;
    Ok((String::from_utf8(out).expect("UTF-8"), report.lost, report.told))
}

/// The records of an export alone.
fn records(export: &str) -> Vec<&str> {
    export.lines().filter(|line| !line.starts_with("{\"kind\":\"sai-export")).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).expect("listed").flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// The newest segment of the journal.
fn segment(state: &Path) -> PathBuf {
    let mut segments =
        files(&state.join("journal")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "lines"));
    segments.next_back().expect("a segment")
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }
}

/// The state is opened as it is: nothing of it may be gone without a word, and no number come twice.
fn check(state: &Path, whole: &str, all: &BTreeSet<String>, what: &str) -> &'static str {
    let outcome = match try_open(state) {
        Err(_) => "refused",
        Ok((store, restored)) => {
            assert!(restored.next_event > EVENTS && restored.next_job > EVENTS * 2 + 1, "{what}: {restored:?}");
            drop(store);
            let (after, _, _) = exported(state, true).unwrap_or_else(|error| panic!("{what}: {error}"));
            let same = records(&after) == records(whole);
            assert!(same || !restored.told.is_empty(), "{what}: records are gone, and nothing was said");
            match (same, restored.told.is_empty()) {
                (true, true) => "unharmed",
                (true, false) => "mended",
                (false, _) => "told",
            }
        }
    };
    assert_eq!(content(state), *all, "{what}: {outcome}");
    outcome
}

#[test]
fn a_changed_byte_is_never_silent_and_never_costs_a_file() {
    let place = Place::new();
    small(&place.state());
    let whole = exported(&place.state(), false).expect("it is whole").0;
    let all = content(&place.state());
    assert_eq!(all.len(), 5 * EVENTS as usize);
    let mut random = Random(u64::from(std::process::id()));
    let copied = place.0.join("copy");
    let mut outcomes = std::collections::BTreeMap::new();
    let flip = |path: &Path, random: &mut Random| {
        let mut bytes = fs::read(path).expect("read");
        // Most of an index is room, where a byte means nothing.
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let at = used[random.below(used.len() as u64) as usize];
        bytes[at] ^= 1 << random.below(8);
        fs::write(path, bytes).expect("written");
        format!("a bit of byte {at} of {}", path.display())
    };
    for round in 0..120 {
        copy(&place.state(), &copied);
        let in_index = round % 2 == 0;
        let candidates = if in_index { files(&copied.join("ledger")) } else { files(&copied.join("journal")) };
        let candidates: Vec<PathBuf> = candidates
            .into_iter()
            .filter(|path| fs::read(path).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0)))
            .collect();
        let path = &candidates[random.below(candidates.len() as u64) as usize];
        let what = flip(path, &mut random);
        let outcome = check(&copied, &whole, &all, &what);
        assert!(in_index || outcome == "mended", "{what}: {outcome}");
        assert!(outcome == "mended" || outcome == "unharmed", "{what}: {outcome}, but the other half has everything");
        *outcomes.entry((in_index, outcome)).or_insert(0) += 1;
        // Damage is met once.
        if outcome == "mended" {
            assert_eq!(open(&copied).1.told, [] as [String; 0], "{what}");
        }
    }
    println!("{outcomes:?}");
    // Without the index, a byte of the journal costs a group at most, and that is said by its number.
    for _ in 0..60 {
        copy(&place.state(), &copied);
        fs::remove_dir_all(copied.join("ledger")).expect("removed");
        let path = segment(&copied);
        let what = flip(&path, &mut random);
        let outcome = check(&copied, &whole, &all, &what);
        // A record that was written again later is there all the same.
        assert!(outcome == "told" || outcome == "mended", "{what}: {outcome}");
    }
    fs::write(copied.join("format"), "sai-statf 2\n").expect("written");
    assert_eq!(check(&copied, &whole, &all, "the format"), "refused");
}

#[test]
fn a_cut_anywhere_leaves_whole_groups_and_is_said() {
    let place = Place::new();
    small(&place.state());
    let whole = exported(&place.state(), false).expect("it is whole").0;
    let all = content(&place.state());
    let copied = place.0.join("copy");
    let length = fs::metadata(segment(&place.state())).expect("a segment").len();
    for step in 0..20 {
        let cut = length * step / 20;
        for with_index in [true, false] {
            copy(&place.state(), &copied);
            let file = fs::File::options().write(true).open(segment(&copied)).expect("opened");
            file.set_len(cut).expect("cut");
            if !with_index {
                fs::remove_dir_all(copied.join("ledger")).expect("removed");
            }
            let what = format!("cut at {cut} of {length}, index {with_index}");
            let outcome = check(&copied, &whole, &all, &what);
            assert_eq!(outcome, if with_index { "mended" } else { "told" }, "{what}");
            let (store, _) = open(&copied);
            for event in store.reader().events(None, None, 99) {
                assert_eq!(store.reader().jobs(event.id).len(), 2, "{what}: event {}", event.id);
            }
        }
    }
}

#[test]
fn what_is_removed_is_missed() {
    let place = Place::new();
    small(&place.state());
    let whole = exported(&place.state(), false).expect("it is whole").0;
    let all = content(&place.state());
    let copied = place.0.join("copy");
    let without = |names: &[&str]| {
        copy(&place.state(), &copied);
        for name in names {
            fs::remove_dir_all(copied.join(name)).expect("removed");
        }
    };
    // The index is made again.
    without(&["ledger"]);
    assert_eq!(check(&copied, &whole, &all, "no index"), "mended");
    assert_eq!(exported(&copied, false).expect("whole").0, whole);
    // Without the journal nothing goes on, and what the index had can be taken.
    without(&["journal"]);
    assert_eq!(check(&copied, &whole, &all, "no journal"), "refused");
    let error = exported(&copied, false).expect_err("not without a word");
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    let (salvaged, lost, told) = exported(&copied, true).expect("salvaged");
    assert!(records(&salvaged) == records(&whole) && lost, "{lost} {told:?}");
    // Without both, with or without the format file.
    without(&["journal", "ledger"]);
    assert_eq!(check(&copied, &whole, &all, "neither"), "refused");
    fs::remove_file(copied.join("format")).expect("removed");
    assert_eq!(check(&copied, &whole, &all, "nothing but files"), "refused");
    // A journal says itself what it is; an index does not.
    without(&["journal"]);
    fs::remove_file(copied.join("format")).expect("removed");
    assert_eq!(check(&copied, &whole, &all, "no journal and no format"), "refused");
    // The segment or the snapshot alone.
    for with_index in [true, false] {
        for file in files(&place.state().join("journal")) {
            without(if with_index { &[] } else { &["ledger"] });
            let name = file.file_name().expect("a name");
            fs::remove_file(copied.join("journal").join(name)).expect("removed");
            let what = format!("without {name:?}, index {with_index}");
            let outcome = check(&copied, &whole, &all, &what);
            // The first snapshot has no record, but nobody can know that any more.
            assert!(outcome == "mended" || (!with_index && outcome == "told"), "{what}: {outcome}");
        }
    }
}

/// Names in `lost+found/`, of whatever was moved there when.
fn moved(state: &Path) -> BTreeSet<String> {
    let directories = fs::read_dir(state.join("lost+found")).into_iter().flatten().flatten();
    let names = directories.flat_map(|directory| files(&directory.path()));
    names.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect()
}

#[test]
fn an_index_that_the_journal_can_make_again_is_not_kept() {
    let place = Place::new();
    small(&place.state());
    let whole = exported(&place.state(), false).expect("it is whole").0;
    let all = content(&place.state());
    let copied = place.0.join("copy");
    // As a power cut may leave the two: the index none of what it was, the journal whole or with a length that has no bytes.
    for zeros in [0, 700] {
        copy(&place.state(), &copied);
        let index = copied.join("ledger/db");
        let length = fs::metadata(&index).expect("an index").len();
        fs::write(&index, vec![b'x'; length as usize]).expect("written");
        let path = segment(&copied);
        let length = fs::metadata(&path).expect("a segment").len();
        fs::File::options().write(true).open(&path).and_then(|file| file.set_len(length + zeros)).expect("longer");
        let (store, restored) = open(&copied);
        drop(store);
        let again =
            restored.told.iter().filter(|told| told.contains("it is made again") || told.contains("was made again"));
        assert_eq!((again.count(), restored.told.len()), (1, 1 + usize::from(zeros > 0)), "{:?}", restored.told);
        // Where the journal may have lost its end, the index may have had it.
        let wanted = if zeros == 0 { &[][..] } else { &["README", "ledger"] };
        assert!(moved(&copied).iter().eq(wanted), "{:?}", moved(&copied));
        assert_eq!(exported(&copied, false).expect("it is whole").0, whole);
        assert_eq!(check(&copied, &whole, &all, "the time after"), "unharmed");
    }
}

#[test]
fn a_journal_alone_or_beside_another_times_index_is_all_it_takes() {
    let place = Place::new();
    let (old, new) = (place.0.join("old"), place.0.join("new"));
    small(&old);
    copy(&old, &new);
    open(&new).0.commit_now(push(9)).expect("durable");
    let (before, after) = (exported(&old, false).expect("whole").0, exported(&new, false).expect("whole").0);
    assert!(records(&after).len() > records(&before).len());
    let copied = place.0.join("copy");
    let put_back = |journal: &Path, index: Option<&Path>, format: bool| {
        let _ = fs::remove_dir_all(&copied);
        copy(&journal.join("journal"), &copied.join("journal"));
        if let Some(index) = index {
            copy(&index.join("ledger"), &copied.join("ledger"));
        }
        if format {
            fs::copy(journal.join("format"), copied.join("format")).expect("copied");
        }
        let (store, restored) = open(&copied);
        drop(store);
        let text = exported(&copied, false).unwrap_or_else(|error| panic!("{error}")).0;
        assert_eq!(open(&copied).1.told, [] as [String; 0], "told twice");
        (text, restored.told)
    };
    for format in [true, false] {
        assert_eq!(put_back(&old, None, format).0, before);
        assert_eq!(put_back(&new, None, format).0, after);
        // An older index is brought up, a newer one has what an older journal lacks.
        assert_eq!(put_back(&new, Some(&old), format), (after.clone(), Vec::new()));
        assert_eq!(records(&put_back(&old, Some(&new), format).0), records(&after));
    }
    // The older journal was put back and went on; then an index came from before that. Under the same numbers it has other lines.
    let other = place.0.join("other");
    copy(&old, &other);
    fs::remove_dir_all(other.join("ledger")).expect("removed");
    open(&other).0.commit_now(push(20)).expect("durable");
    let went_on = exported(&other, false).expect("whole").0;
    let (text, told) = put_back(&other, Some(&new), true);
    assert_eq!(text, went_on, "{told:?}");
    assert!(told.iter().any(|told| told.contains("of another journal") && told.contains("kept in")), "{told:?}");
    assert!(moved(&copied).contains("ledger"));
}

#[test]
fn a_damaged_line_is_named_and_the_rest_is_read() {
    let place = Place::new();
    let state = place.state();
    small(&state);
    let before = exported(&state, false).expect("whole").0;
    let path = segment(&state);
    let text = fs::read_to_string(&path).expect("text");
    // Line 5 is event 2, which nothing later writes again; its jobs are in the lines after it.
    let line = text.lines().nth(4).expect("a line");
    assert!(line.contains(" 5 1/4 {\"kind\":\"event\",\"id\":2,"), "{line}");
    fs::write(&path, text.replace(line, &line.replace("\"id\":2,", "\"id\":3,"))).expect("written");
    fs::remove_dir_all(state.join("ledger")).expect("removed");

    // Nothing is exported as if it were all; what can be read is.
    let error = exported(&state, false).expect_err("damaged").to_string();
    assert!(error.contains("the journal lacks line 5,") && error.contains("export --salvage"), "{error}");
    let (salvaged, lost, told) = exported(&state, true).expect("salvaged");
    assert!(lost && told.iter().any(|told| told.contains("the journal lacks line 5,")), "{told:?}");
    assert_eq!(records(&salvaged).len() + 1, records(&before).len());
    assert!(segment(&state) == path, "an export mends and moves nothing");

    // The master goes on without it, says so once, and gives no number of what may have been there.
    let (store, restored) = open(&state);
    assert!(restored.told.iter().any(|told| told.contains("the journal lacks line 5,")), "{restored:?}");
    assert!(restored.told.iter().any(|told| told.starts_with("1 files without a record")), "{restored:?}");
    assert!(restored.next_event > EVENTS + 1 && restored.next_job > EVENTS * 2 + 1000, "{restored:?}");
    assert_eq!((store.reader().event(2), store.reader().events(None, None, 99).len()), (None, 5));
    assert_eq!(store.reader().job(4).map(|job| job.id), Some(4));

    // What was moved away stays, however old, since a record may be found that names it.
    let lost = files(&state.join("lost+found"));
    let old = state.join("lost+found/1000000000");
    fs::rename(&lost[0], &old).expect("renamed");
    let report = gc(&store, Policy { events: 100, days: None });
    assert_eq!((report.trouble, report.kept), (None, 1));
    assert!(old.join("saifiles/2.json").exists() && old.join("journal").exists());
    let (next_event, next_job) = (restored.next_event, restored.next_job);
    drop(store);
    let (store, restored) = open(&state);
    assert_eq!((restored.told.len(), restored.next_event, restored.next_job), (0, next_event, next_job));
    drop(store);
    let (again, lost, _) = exported(&state, false).expect("what was lost is known");
    assert!(!lost && records(&again).len() + 1 == records(&before).len());
}

#[test]
fn what_was_moved_away_goes_when_it_is_old_and_the_ledger_is_whole() {
    let place = Place::new();
    let state = place.state();
    small(&state);
    fs::write(state.join("logs/99-1.log"), "nobody's").expect("written");
    let (store, restored) = open(&state);
    assert_eq!((restored.told.len(), restored.next_job), (1, 100), "{:?}", restored.told);
    assert_eq!(gc(&store, Policy { events: 100, days: None }).kept, 1, "not at once");
    let lost = files(&state.join("lost+found"));
    fs::rename(&lost[0], state.join("lost+found/1000000000")).expect("renamed");
    // By the clock alone it is not old: there is no record of the days before now.
    let report = gc(&store, Policy { events: 100, days: Some(1) });
    assert_eq!((&report.trouble, report.kept, report.events), (&None, 1, 0));
    assert!(report.doubtful > 0 && report.doubt().is_some_and(|doubt| doubt.contains("set ahead")), "{report:?}");
    let now = sai_agent::clock::wall();
    let days = |id| EventRecord { at: now - (EVENTS + 6 - id) * 24 * 3600 * 1000, ..event(id) };
    store
        .commit_now((EVENTS + 1..EVENTS + 6).map(|id| Change::Event(EventRecord { jobs: 0, ..days(id) })).collect())
        .expect("durable");
    let report = gc(&store, Policy { events: 100, days: None });
    assert_eq!((report.trouble, report.kept, report.doubtful), (None, 0, 0));
    assert!(report.bytes_freed >= 8 && files(&state.join("lost+found")).is_empty());
}

#[test]
fn a_copy_of_a_file_of_the_journal_is_no_other_file() {
    let place = Place::new();
    small(&place.state());
    let whole = exported(&place.state(), false).expect("it is whole").0;
    let all = content(&place.state());
    let copied = place.0.join("copy");
    for with_index in [true, false] {
        for (from, to) in [
            ("00000000000000000001.lines", "00000000000000000009.lines"),
            ("00000000000000000001.lines", "00000000000000000900.lines"),
            ("00000000000000000000.snapshot", "00000000000000000009.snapshot"),
            ("00000000000000000000.snapshot", "00000000000000000900.snapshot"),
        ] {
            copy(&place.state(), &copied);
            if !with_index {
                fs::remove_dir_all(copied.join("ledger")).expect("removed");
            }
            let journal = copied.join("journal");
            fs::copy(journal.join(from), journal.join(to)).expect("copied");
            assert_eq!(check(&copied, &whole, &all, to), "mended");
        }
    }
}

/// A state with several snapshots, and lines of kinds and keys that this version does not know.
fn long(state: &Path) {
    small(state);
    // Lines as a later version might have written them: put in front of what is written next.
    let path = segment(state);
    let mut text = fs::read(&path).expect("read");
    let last = String::from_utf8_lossy(&text).lines().count() as u64;
    for (place, json) in [
        (1, "{\"kind\":\"bisection\",\"of\":7}"),
        (
            2,
            "{\"kind\":\"user\",\"name\":\"bob\",\"token_sha256\":\"\",\"added_at\":1,\"revoked\":false,\"colour\":\"red\"}",
        ),
    ] {
        let body = format!("{} {place}/2 {json}", last + place);
        text.extend_from_slice(format!("{:08x} {body}\n", crc32fast::hash(body.as_bytes())).as_bytes());
    }
    fs::write(&path, text).expect("written");
    let (store, restored) = open(state);
    assert_eq!(restored.told, [] as [String; 0]);
    assert_eq!(restored.users.len(), 2);
    let snapshots = || {
        files(&state.join("journal"))
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == "snapshot"))
            .count()
    };
    for round in 0..4 {
        let before = snapshots();
        for _ in 0..4 {
            // A MiB of changes, most of them replaced by the next round's.
            store.commit_now((100..600).flat_map(push).collect()).expect("durable");
        }
        let begun = std::time::Instant::now();
        while snapshots() == before {
            assert!(begun.elapsed().as_secs() < 60, "no snapshot is made in round {round}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    store.commit_now(vec![Change::DeleteEvent(101)]).expect("durable");
}

#[test]
fn snapshots_keep_everything_and_fill_each_other() {
    let place = Place::new();
    long(&place.state());
    let (whole, _, told) = exported(&place.state(), false).expect("it is whole");
    assert_eq!(told, [] as [String; 0]);
    assert_eq!(
        records(&whole).iter().filter(|line| line.contains("\"kind\":\"event\"")).count() as u64,
        EVENTS + 500 - 1
    );
    assert!(whole.contains("\n{\"kind\":\"bisection\",\"of\":7}\n") && whole.contains("\"colour\":\"red\""), "{whole}");
    let all = content(&place.state());
    let copied = place.0.join("copy");
    let snapshots: Vec<PathBuf> = files(&place.state().join("journal"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "snapshot"))
        .collect();
    assert!((4..=7).contains(&snapshots.len()), "{snapshots:?}");
    // Any of them can be damaged or missing, and the index too: the rest has everything.
    for (index, snapshot) in snapshots.iter().enumerate() {
        for damage in [true, false] {
            copy(&place.state(), &copied);
            fs::remove_dir_all(copied.join("ledger")).expect("removed");
            let path = copied.join("journal").join(snapshot.file_name().expect("a name"));
            if damage {
                let mut bytes = fs::read(&path).expect("read");
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
                fs::write(&path, bytes).expect("written");
            } else {
                fs::remove_file(&path).expect("removed");
            }
            let (store, restored) = open(&copied);
            drop(store);
            let what = format!("snapshot {index}, damaged {damage}: {:?}", restored.told);
            assert_eq!(restored.told.iter().any(|told| told.contains("no record is lost")), damage, "{what}");
            assert_eq!(records(&exported(&copied, false).expect(&what).0), records(&whole), "{what}");
            assert_eq!(content(&copied), all, "{what}");
        }
    }
    // All of them: what can be read of them, and of the segments, which were never wholly removed here.
    copy(&place.state(), &copied);
    fs::remove_dir_all(copied.join("ledger")).expect("removed");
    for snapshot in &snapshots {
        let path = copied.join("journal").join(snapshot.file_name().expect("a name"));
        let mut bytes = fs::read(&path).expect("read");
        let at = bytes.len() / 3;
        bytes[at] ^= 4;
        fs::write(&path, bytes).expect("written");
    }
    let (salvaged, lost, _) = exported(&copied, true).expect("salvaged");
    assert!(lost && records(&salvaged) == records(&whole), "nothing that is there is left out");
}

#[test]
fn half_a_snapshot_and_half_an_index_are_nothing() {
    let place = Place::new();
    small(&place.state());
    let whole = exported(&place.state(), false).expect("it is whole").0;
    let all = content(&place.state());
    let copied = place.0.join("copy");
    copy(&place.state(), &copied);
    fs::write(copied.join("journal/00000000000000000005.snapshot.tmp"), "half").expect("written");
    fs::create_dir(copied.join("ledger.new")).expect("made");
    fs::write(copied.join("ledger.new/db"), "half").expect("written");
    fs::create_dir(copied.join("journal.new")).expect("made");
    assert_eq!(check(&copied, &whole, &all, "half of each"), "unharmed");
    // Killed between the two renames that replace an index.
    fs::rename(copied.join("ledger"), copied.join("ledger.old")).expect("renamed");
    fs::create_dir(copied.join("ledger.new")).expect("made");
    assert_eq!(check(&copied, &whole, &all, "between two renames"), "unharmed");
    assert!(!copied.join("ledger.old").exists() && !copied.join("ledger.new").exists());
    // Killed, or ended by sled, while the index was opened.
    fs::write(copied.join("ledger.opening"), "").expect("written");
    assert_eq!(check(&copied, &whole, &all, "while opening"), "mended");
    assert_eq!(check(&copied, &whole, &all, "the time after"), "unharmed");
}

#[test]
fn what_an_older_version_kept_is_taken_over() {
    let place = Place::new();
    let state = place.state();
    fs::create_dir(&state).expect("made");
    // Made by the last version without a journal.
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/state-1.tar.gz");
    let unpack =
        std::process::Command::new("tar").args(["-xzf", archive, "-C"]).arg(&state).status().expect("tar runs");
    assert!(unpack.success());
    let (before, _, _) = exported(&state, false).expect("it can be exported as it is");
    assert_eq!(fs::read_to_string(state.join("format")).expect("read"), "sai-state 1\n");
    // Left by a take-over that was killed.
    fs::create_dir(state.join("journal")).expect("made");
    fs::create_dir(state.join("journal.new")).expect("made");
    let (store, restored) = open(&state);
    assert!(
        restored.told.iter().any(|told| told.starts_with("5 records of an older version's ledger were taken over"))
    );
    assert_eq!((restored.next_event, restored.next_job, restored.next_action), (9, 30, 4));
    assert_eq!((restored.events.len(), restored.jobs.len(), restored.users.len()), (1, 2, 1));
    assert_eq!(store.reader().job(5).map(|job| job.state), Some(JobState::Passed));
    drop(store);
    assert_eq!(fs::read_to_string(state.join("format")).expect("read"), "sai-state 2\n");
    assert_eq!(exported(&state, false).expect("whole").0, before);
    let (_, restored) = open(&state);
    assert_eq!(restored.told, [] as [String; 0]);
    // One that is gone is not begun anew.
    let other = Place::new();
    fs::create_dir(other.state()).expect("made");
    fs::write(other.state().join("format"), "sai-state 1\n").expect("written");
    assert!(matches!(try_open(&other.state()), Err(StoreError::Missing { .. })));
}
