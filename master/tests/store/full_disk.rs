//! A disk without room → nothing that was acknowledged is lost, and what ends gives some back.

use super::*;

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
    on_small_disk("full_disk::full_disk_and_logs", "96m");
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
    await_report(&reports, |report| matches!(report, Report::Low { free_mib: 0 }));
    // Several tries later nothing is acknowledged but what the file's last page had room for, and nothing has failed.
    let quiet = Instant::now();
    let mut told = Vec::new();
    while quiet.elapsed() < Duration::from_millis(700) {
        told.extend(reports.recv_timeout(Duration::from_millis(50)).ok());
    }
    let harmless = |report: &Report| match report {
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
    await_report(&reports, |report| matches!(report, Report::Enough));
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
    on_small_disk("full_disk::full_disk_and_an_end", "64m");
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
    await_report(&reports, |report| matches!(report, Report::Low { .. }));
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
    on_small_disk("full_disk::full_disk_and_records", "64m");
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
