//! States that are not quite as a master leaves them → what a start says or mends.

use super::*;

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
