//! The machine's clocks → moments for the core's machines, and how long the machine slept.
//!
//! Every duration is of a clock that cannot be set and goes on while the machine sleeps (CLOCK_BOOTTIME, see
//! clock_gettime(2)); the wall clock is read for people, records and certificates alone. Only what a job itself may take
//! is counted without sleep ([`std::time::Instant`]), since nothing of it ran meanwhile.

use rustix::time::{ClockId, Timespec, clock_gettime};
use sai_core::clock::Now;
use sai_core::limits::Millis;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds by which the two steady clocks may drift apart before that is called sleep.
const SLEPT_MS: Millis = 1_000;

fn millis(time: Timespec) -> Millis {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Milliseconds since the machine started, those in which it slept included.
#[must_use]
pub fn steady() -> Millis {
    millis(clock_gettime(ClockId::Boottime))
}

/// Unix milliseconds, as the machine believes: for people.
#[must_use]
pub fn wall() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// This moment.
#[must_use]
pub fn now() -> Now {
    Now { steady: steady(), wall: wall() }
}

/// Notices that the machine has slept.
#[derive(Debug)]
pub struct Sleep {
    slept: Millis,
}

impl Sleep {
    /// From here on.
    #[must_use]
    pub fn watch() -> Self {
        Self { slept: asleep() }
    }

    /// Milliseconds slept since this was asked last, if it was worth telling.
    pub fn since(&mut self) -> Option<Millis> {
        let slept = asleep();
        let since = slept.saturating_sub(self.slept);
        (since >= SLEPT_MS).then(|| {
            self.slept = slept;
            since
        })
    }
}

/// Milliseconds of sleep since the machine started.
fn asleep() -> Millis {
    // In this order: the time between the two readings must not look like sleep.
    let steady = steady();
    steady.saturating_sub(millis(clock_gettime(ClockId::Monotonic)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_steady_clock_goes_on_and_nobody_slept() {
        // The one clock is read around the other, so that a pause between two readings is in both.
        let then = Instant::now();
        let steady_then = steady();
        let mut sleep = Sleep::watch();
        std::thread::sleep(Duration::from_millis(20));
        let passed = steady() - steady_then;
        let took = u64::try_from(then.elapsed().as_millis()).expect("a short time");
        assert!((20..=took + 1).contains(&passed), "{passed} ms on the one clock, {took} ms on the other");
        assert_eq!(sleep.since(), None);
        assert!(wall() > 1_600_000_000_000, "a machine that runs tests knows what year it is");
    }
}
