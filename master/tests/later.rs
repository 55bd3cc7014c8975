//! A state directory as a later version might leave it, or an earlier one → nothing of it is lost by this version's work.

use miniserde::json;
use sai_core::job::JobState;
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, TipRecord, UserRecord};
use sai_core::retention::Policy;
use sai_master::store::{Change, Options, Restored, Store, StoreError, export, gc, import};
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
        let path = std::env::temp_dir().join(format!("sai-later-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(state: &Path) -> (Store, Restored) {
    Store::open(state, Options::new(|_| {})).unwrap_or_else(|error| panic!("{error}"))
}

/// Records as a version that is not written yet might keep them: keys, words, kinds and a nesting that nobody knows here.
const FUTURE: [&str; 14] = [
    r#"{"kind":"agent","name":"shed","token_sha256":"aa","added_at":1,"identity":null,"seen_at":null,"revoked":false,"host":"h","platforms":["linux"],"benches":[{"name":"bench-1"}]}"#,
    r#"{"kind":"user","name":"ann","token_sha256":"bb","added_at":1,"revoked":false,"role":"admin"}"#,
    r#"{"kind":"tip","repository":"hello","reference":"refs/heads/main","revision":"01","by":{"who":"cron"}}"#,
    r#"{"kind":"action","id":1,"at":1,"who":"ann","what":"did it","grant":9}"#,
    r#"{"kind":"event","id":1,"repository":"hello","url":"https://x/hello","reference":"refs/heads/main","revision":"01","subject":"s","author":"a","source":"Cron","at":1,"errors":[],"warnings":[],"first_job":1,"jobs":3,"person":"ann"}"#,
    r#"{"kind":"job","id":1,"event":1,"repository":"hello","platform":"linux","configuration":"a","priority":0,"state":"RolledBack","attempt":1,"infra":0,"agent":"shed","queued_at":1,"assigned_at":1,"started_at":1,"ended_at":2,"awaited":null,"cause":"","fault":"Board","verdict":{"outcome":"RolledBack","fault":"Board","cause":"","step":null,"status":null,"verdict":{"word":"no-boot","what":"silence","at":7},"judge":{"v":2}},"steps":1,"step":null,"log_bytes":0,"artifacts":[{"stream":1,"path":"a.bin","size":1,"sha256":"00","executable":false,"target":"app"}],"rig":"bench-1"}"#,
    r#"{"kind":"job","id":2,"event":1,"repository":"hello","platform":"linux","configuration":"b","priority":0,"state":"Running","attempt":1,"infra":0,"agent":"shed","queued_at":1,"assigned_at":1,"started_at":1,"ended_at":null,"awaited":null,"cause":"","fault":"Nobody","verdict":null,"steps":1,"step":null,"log_bytes":0,"artifacts":[],"rig":"bench-2","grants":[1,2]}"#,
    r#"{"kind":"job","id":3,"event":1,"repository":"hello","platform":"linux","configuration":"c","priority":0,"state":"Parked","attempt":0,"infra":0,"agent":null,"queued_at":1,"assigned_at":null,"started_at":null,"ended_at":null,"awaited":null,"cause":"","fault":"Nobody","verdict":null,"steps":1,"step":null,"log_bytes":0,"artifacts":[],"until":77}"#,
    r#"{"kind":"event","id":2,"repository":"hello","url":"https://x/hello","reference":"refs/heads/main","revision":"02","subject":"s","author":"a","source":"Hook","at":2,"errors":[],"warnings":[],"first_job":4,"jobs":0}"#,
    r#"{"kind":"unit","key":"licences","amount":3,"held":[{"job":2}]}"#,
    r#"{"kind":"unit","key":"bench-1","state":"free"}"#,
    r#"{"kind":"lease","key":"licences","until":9}"#,
    r#"{"kind":"bisection","of":7,"at":["x",{"y":null}]}"#,
    r#"{"kind":"bisection","of":8}"#,
];

fn filled(state: &Path) {
    let mut text = String::from(
        r#"{"kind":"sai-export","format":1,"next_event":9,"next_job":9,"next_action":9,"minor":4,"made_by":"9.9"}"#,
    );
    for line in FUTURE {
        text.push('\n');
        text.push_str(line);
    }
    text.push_str(&format!("\n{{\"kind\":\"sai-export-end\",\"records\":{}}}\n", FUTURE.len()));
    let taken = import(state, &mut text.as_bytes(), "future").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(taken, FUTURE.len() as u64);
}

/// The lines of what is there.
fn lines(state: &Path) -> BTreeSet<String> {
    let mut out = Vec::new();
    export(state, false, &mut out).unwrap_or_else(|error| panic!("{error}"));
    let text = String::from_utf8(out).expect("UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    // Without the first and the last, which are the export's own.
    lines.get(1..lines.len() - 1).unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn future() -> BTreeSet<String> {
    FUTURE.into_iter().map(ToString::to_string).collect()
}

#[test]
fn what_this_version_changes_keeps_what_only_a_later_one_knows() {
    let place = Place::new();
    let state = place.state("state");
    filled(&state);
    assert_eq!(lines(&state), future(), "as it came");
    let (store, restored) = open(&state);
    let reader = store.reader();
    let words = |id| reader.job(id).map(|job| job.state.word().to_string());
    assert_eq!([words(1), words(2), words(3)].map(Option::unwrap), ["RolledBack", "running", "Parked"]);
    assert_eq!(restored.events.len(), 1, "one event has jobs that have not ended");
    // Everything is written again, most of it changed.
    let mut event = reader.event(1).expect("an event");
    event.warnings.push("odd".to_string());
    let mut jobs: Vec<JobRecord> = reader.jobs(1);
    jobs[1].state = JobState::Passed;
    jobs[1].ended_at = Some(5);
    let agents: Vec<AgentRecord> =
        restored.agents.into_iter().map(|agent| AgentRecord { seen_at: Some(9), ..agent }).collect();
    let users: Vec<UserRecord> = restored.users.into_iter().map(|user| UserRecord { revoked: true, ..user }).collect();
    let tips: Vec<TipRecord> =
        restored.tips.into_iter().map(|tip| TipRecord { revision: "03".to_string(), ..tip }).collect();
    let mut changes = vec![Change::Event(event)];
    changes.extend(jobs.into_iter().map(Change::Job));
    changes.extend(agents.into_iter().map(Change::Agent));
    changes.extend(users.into_iter().map(Change::User));
    changes.extend(tips.into_iter().map(Change::Tip));
    store.commit_now(changes).expect("durable");
    // Once more, twice in one group.
    let job = |configuration: &str| {
        let job = reader.job(2).expect("a job");
        Change::Job(JobRecord { configuration: configuration.to_string(), ..job })
    };
    store.commit_now(vec![job("x"), job("y")]).expect("durable");
    drop((reader, store));
    let after = lines(&state);
    assert_eq!(after.len(), FUTURE.len());
    let all = after.iter().cloned().collect::<Vec<_>>().join("\n");
    for part in [
        r#""benches":[{"name":"bench-1"}]"#,
        r#""role":"admin""#,
        r#""by":{"who":"cron"}"#,
        r#""grant":9"#,
        r#""source":"Cron""#,
        r#""person":"ann""#,
        r#""state":"RolledBack""#,
        r#""fault":"Board""#,
        r#""verdict":{"word":"no-boot","what":"silence","at":7},"judge":{"v":2}"#,
        r#""target":"app""#,
        r#""rig":"bench-1""#,
        r#""rig":"bench-2","grants":[1,2]"#,
        r#""state":"Parked""#,
        r#""until":77"#,
    ] {
        assert!(all.contains(part), "{part} is lost:\n{all}");
    }
    assert!(all.contains(r#""configuration":"y""#) && all.contains(r#""seen_at":9"#) && all.contains("odd"), "{all}");
    for line in &FUTURE[9..] {
        assert!(after.contains(*line), "{line} is lost");
    }
    // From the journal alone, and by way of an export.
    fs::remove_dir_all(state.join("ledger")).expect("the index");
    drop(open(&state));
    assert_eq!(lines(&state), after);
    let other = place.state("other");
    let mut out = Vec::new();
    export(&state, false, &mut out).expect("exported");
    import(&other, &mut out.as_slice(), "export").expect("imported");
    assert_eq!(lines(&other), after);
    // From the index alone: a segment that is damaged makes a new snapshot be written from it.
    for file in fs::read_dir(state.join("journal")).expect("a journal").flatten() {
        let mut bytes = fs::read(file.path()).expect("a file");
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        fs::write(file.path(), bytes).expect("a file");
    }
    drop(open(&state));
    assert_eq!(lines(&state), after);
}

#[test]
fn a_job_that_only_a_later_version_could_go_on_with_keeps_its_event() {
    let place = Place::new();
    let state = place.state("state");
    filled(&state);
    let (store, _) = open(&state);
    let mut job = store.reader().job(2).expect("a job");
    (job.state, job.ended_at) = (JobState::Passed, Some(3));
    store.commit_now(vec![Change::Job(job)]).expect("durable");
    // Everything may go for its age, but for the newest of its branch and what has not ended.
    let report = gc(&store, Policy { events: 0, days: Some(0) });
    assert_eq!(report.events, 0, "its third job has not ended");
    let mut parked = store.reader().job(3).expect("a job");
    parked.ended_at = Some(4);
    store.commit_now(vec![Change::Job(parked)]).expect("durable");
    let report = gc(&store, Policy { events: 0, days: Some(0) });
    assert_eq!(report.events, 1, "now it has, whatever its state is called");
}

#[test]
fn a_format_that_has_more_is_read_and_another_is_not() {
    let place = Place::new();
    let state = place.state("state");
    filled(&state);
    for (text, good) in [
        ("sai-state 2\n", true),
        ("sai-state 2.7\n", true),
        ("sai-state 2.\n", false),
        ("sai-state 2.x\n", false),
        ("sai-state 20\n", false),
        ("sai-state 3\n", false),
    ] {
        fs::write(state.join("format"), text).expect("a format");
        match Store::open(&state, Options::new(|_| {})) {
            Ok(_) => assert!(good, "{text:?}"),
            Err(StoreError::Format { .. }) => assert!(!good, "{text:?}"),
            Err(error) => panic!("{text:?}: {error}"),
        }
        assert_eq!(fs::read_to_string(state.join("format")).expect("a format"), text, "it is the later version's");
    }
}

#[test]
fn of_a_kind_that_is_not_known_the_last_word_on_each_key_counts() {
    let place = Place::new();
    let state = place.state("state");
    filled(&state);
    drop(open(&state));
    // As a later version goes on, which knows what it writes.
    let path = fs::read_dir(state.join("journal")).expect("a journal").flatten().map(|entry| entry.path());
    let segment = path.filter(|path| path.extension().is_some_and(|end| end == "lines")).max().expect("a segment");
    let mut text = fs::read_to_string(&segment).expect("a segment");
    let first = segment.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok()).expect("a number");
    let next = first + text.lines().count() as u64;
    let more = [
        r#"{"kind":"unit","key":"bench-1","state":"held"}"#,
        r#"{"kind":"unit","key":"licences","gone":true}"#,
        r#"{"kind":"unit","key":"bench-1","state":"free again"}"#,
        r#"{"kind":"unit","key":"bench-2"}"#,
    ];
    for (place, json) in more.iter().enumerate() {
        let body = format!("{} {}/{} {json}", next + place as u64, place + 1, more.len());
        text.push_str(&format!("{:08x} {body}\n", crc32fast::hash(body.as_bytes())));
    }
    fs::write(&segment, text).expect("a segment");
    let (_, restored) = open(&state);
    assert_eq!(restored.told, [] as [String; 0]);
    let units: Vec<String> = lines(&state).into_iter().filter(|line| line.contains("\"kind\":\"unit\"")).collect();
    assert_eq!(units, [more[2], more[3]]);
    assert!(lines(&state).contains(FUTURE[11]), "the same key of another kind is another's");
}

/// The keys that version 0.1.0 writes and wants, and a record with them and others that came later.
const KEYS: [(&str, &str, &str); 6] = [
    (
        "event",
        "id repository url reference revision subject author source at errors warnings first_job jobs",
        r#"{"id":1,"repository":"r","url":"u","reference":"f","revision":"v","subject":"s","author":"a","source":"Poke","at":1,"errors":[],"warnings":[],"first_job":1,"jobs":1}"#,
    ),
    (
        "job",
        "id event repository platform configuration priority state attempt infra agent queued_at assigned_at started_at \
         ended_at cause fault verdict steps step log_bytes artifacts",
        r#"{"id":1,"event":1,"repository":"r","platform":"p","configuration":"c","priority":0,"state":"Queued","attempt":1,"infra":0,"agent":"a","queued_at":1,"assigned_at":1,"started_at":1,"ended_at":1,"awaited":true,"cause":"","fault":"Nobody","verdict":{"outcome":"Passed","fault":"Nobody","cause":"","step":1,"status":1,"trouble":"platform","verdict":{"word":"w","what":"x"}},"steps":1,"step":1,"log_bytes":1,"artifacts":[],"needs":[],"blocked":true,"skipped":1,"units":{"u":1}}"#,
    ),
    (
        "agent",
        "name token_sha256 added_at identity seen_at revoked host platforms",
        r#"{"name":"n","token_sha256":"t","added_at":1,"identity":"i","seen_at":1,"revoked":false,"host":"h","platforms":[]}"#,
    ),
    ("user", "name token_sha256 added_at revoked", r#"{"name":"n","token_sha256":"t","added_at":1,"revoked":false}"#),
    ("tip", "repository reference revision", r#"{"repository":"r","reference":"f","revision":"v"}"#),
    ("action", "id at who what", r#"{"id":1,"at":1,"who":"w","what":"x"}"#),
];

/// A record as this version writes it after it has read one.
fn written(kind: &str, text: &str) -> Option<String> {
    Some(match kind {
        "event" => json::to_string(&json::from_str::<EventRecord>(text).ok()?),
        "job" => json::to_string(&json::from_str::<JobRecord>(text).ok()?),
        "agent" => json::to_string(&json::from_str::<AgentRecord>(text).ok()?),
        "user" => json::to_string(&json::from_str::<UserRecord>(text).ok()?),
        "tip" => json::to_string(&json::from_str::<TipRecord>(text).ok()?),
        _ => json::to_string(&json::from_str::<ActionRecord>(text).ok()?),
    })
}

#[test]
fn every_key_that_the_first_release_did_not_have_may_be_absent() {
    for (kind, first, full) in KEYS {
        // A key that is not here either is an optional one, or this cannot be read.
        let full = written(kind, full).unwrap_or_else(|| panic!("{kind}: a new key must be optional"));
        let json::Value::Object(members) = json::from_str::<json::Value>(&full).expect("an object") else {
            panic!("{full}")
        };
        let first: Vec<&str> = first.split_whitespace().collect();
        for key in &first {
            assert!(members.contains_key(*key), "{kind}: the first release wants {key}, and has no record without it");
        }
        for key in members.keys().filter(|key| !first.contains(&key.as_str())) {
            let mut less = members.clone();
            less.remove(key);
            let text = json::to_string(&json::Value::Object(less));
            assert!(written(kind, &text).is_some(), "{kind}: {key} is a new key, so it must be optional");
        }
        // What the first release wrote, and no more.
        let mut least = members.clone();
        let new: Vec<String> = members.keys().filter(|key| !first.contains(&key.as_str())).cloned().collect();
        new.iter().for_each(|key| drop(least.remove(key)));
        assert!(written(kind, &json::to_string(&json::Value::Object(least))).is_some(), "{kind}");
    }
}
