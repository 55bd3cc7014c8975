//! A long log → memory that does not grow with it.

use super::*;

fn status_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with(name)).expect("its line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_long_log_does_not_grow_memory() {
    let place = Place::new();
    let out = this_test("memory::long_log_process", &place.state()).output().expect("run");
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
