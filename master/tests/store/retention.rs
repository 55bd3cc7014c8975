//! Events that are deleted, files of nobody → what is unlinked, and when.

use super::*;

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
    assert_eq!(store.reader().actions(None, usize::MAX).len(), 10_000);
    let logs = || fs::read_dir(place.state().join("logs")).expect("listed").count();
    await_that("unlinking", || logs() == left.len());
}
