//! Bytes of logs, artifacts and saifiles → files, durable when that is said.

use super::*;

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
