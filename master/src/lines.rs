//! Lines that strangers cause → a few for the operator, with the count of the others: see [`sai_core::few`].
//!
//! Whatever a peer can make the master say goes this way, however often it does so.

use sai_agent::clock::steady;
use sai_core::few::{Few, Input, line};
use sai_core::limits::Millis;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where such lines go.
#[derive(Clone)]
pub struct Lines(Arc<Counted>);

struct Counted {
    few: Mutex<Waited>,
    report: Arc<dyn Fn(String) + Send + Sync>,
}

struct Waited {
    few: Few,
    /// Whether somebody waits for its deadline.
    waits: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new(Arc::new(|line: String| crate::say(&line)))
    }
}

impl Lines {
    /// Lines that are told by this function.
    pub fn new(report: Arc<dyn Fn(String) + Send + Sync>) -> Self {
        Self::counted(report, Few::default())
    }

    /// The same, counted over another time than a minute.
    pub fn over(report: Arc<dyn Fn(String) + Send + Sync>, window_ms: Millis) -> Self {
        Self::counted(report, Few::over(window_ms))
    }

    fn counted(report: Arc<dyn Fn(String) + Send + Sync>, few: Few) -> Self {
        Self(Arc::new(Counted { few: Mutex::new(Waited { few, waits: false }), report }))
    }

    /// Tells a line about an address, an agent or a repository, or counts it.
    pub fn say(&self, source: impl Display, text: String) {
        self.0.handle(line(source, text));
        if self.0.begins_to_wait() {
            let counted = Arc::clone(&self.0);
            smol::spawn(async move {
                while let Some(at) = counted.deadline() {
                    smol::Timer::after(Duration::from_millis(at.saturating_sub(steady()))).await;
                    counted.handle(Input::Tick);
                }
            })
            .detach();
        }
    }
}

impl Counted {
    fn lock(&self) -> MutexGuard<'_, Waited> {
        self.few.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, input: Input) {
        let mut told = Vec::new();
        self.lock().few.handle(steady(), input, &mut told);
        told.into_iter().for_each(|line| (self.report)(line));
    }

    /// Whether there is a count to tell later, and nobody waits for that yet.
    fn begins_to_wait(&self) -> bool {
        let mut waited = self.lock();
        let begins = !waited.waits && waited.few.deadline().is_some();
        waited.waits |= begins;
        begins
    }

    /// Until when to wait; none, and nobody waits any more, when there is nothing left to tell.
    fn deadline(&self) -> Option<Millis> {
        let mut waited = self.lock();
        let deadline = waited.few.deadline();
        waited.waits = deadline.is_some();
        deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_count_is_told_when_nobody_comes_any_more_and_then_nobody_waits() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let lines = Lines::over(Arc::new(move |line| heard.lock().unwrap().push(line)), 300);
        let all = || told.lock().unwrap().clone();
        for _ in 0..50 {
            lines.say("192.0.2.7", "no".to_string());
        }
        assert_eq!(all(), ["no"]);
        let begun = Instant::now();
        while all().len() < 2 || lines.0.lock().waits {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", all());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(all(), ["no", "no (49 more such lines in 1 s)"]);
    }
}
