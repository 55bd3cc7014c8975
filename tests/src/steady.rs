//! An attempt with short deadlines → the same again, where the machine stood still while it was made.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Attempts at most: a machine that stands still during each of them is no place for tests.
const ATTEMPTS: u32 = 40;
/// Between two looks at the clock.
const LOOK: Duration = Duration::from_millis(10);

/// Makes an attempt that is short of time by design. One that fails counts only if the machine did not stand still for
/// `pause` while it was made: a virtual machine is paused, or has no processor for a while, and no deadline of less than that
/// says anything then.
///
/// # Panics
/// As the attempt does.
pub fn steadily<T>(pause: Duration, attempt: impl Fn() -> T) -> T {
    for _ in 1..ATTEMPTS {
        let (outcome, longest) = watched(&attempt);
        match outcome {
            Ok(value) => return value,
            Err(why) if longest < pause => resume_unwind(why),
            Err(_) => eprintln!("the machine stood still for {longest:?}: once more"),
        }
    }
    attempt()
}

/// What comes of an attempt, and the longest time for which this process was not let run meanwhile.
fn watched<T>(attempt: impl Fn() -> T) -> (std::thread::Result<T>, Duration) {
    let over = AtomicBool::new(false);
    let over_there = &over;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            // It may be that this thread is let run only when the attempt is over.
            let mut longest = begun.elapsed();
            while !over_there.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(LOOK);
                longest = longest.max(before.elapsed().saturating_sub(LOOK));
            }
            longest
        });
        let outcome = catch_unwind(AssertUnwindSafe(attempt));
        over.store(true, Ordering::Relaxed);
        (outcome, watch.join().unwrap_or_default())
    })
}
