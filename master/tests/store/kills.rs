//! A writer that is killed → all that it was told to be durable.

use super::*;

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

#[test]
fn acknowledged_records_survive_kills() {
    let place = Place::new();
    let mut durable = 0;
    let mut seed = std::process::id();
    let acknowledged = |line: &str| line.rsplit_once("durable ").and_then(|(_, id)| id.parse::<u64>().ok());
    for _ in 0..12 {
        let mut child =
            this_test("kills::writer_process", &place.state()).stdout(Stdio::piped()).spawn().expect("started");
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
