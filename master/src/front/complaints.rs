//! Things that happen to strangers → a few lines for the operator: whoever can cause them must not fill the journal.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Over which time lines are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Lines in that time; what goes beyond is counted, and told with the next line.
const LINES: u32 = 10;

/// Counts what was told.
#[derive(Default)]
pub struct Complaints {
    count: Mutex<Option<Count>>,
}

struct Count {
    since: Instant,
    lines: u32,
    untold: u32,
}

impl Complaints {
    /// The line to tell, if it is one of the few. Nothing in it is of the stranger's making but its address.
    pub fn line(&self, what: &str, address: IpAddr, now: Instant) -> Option<String> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let count = count.get_or_insert(Count { since: now, lines: 0, untold: 0 });
        if now.saturating_duration_since(count.since) >= WINDOW {
            count.since = now;
            count.lines = 0;
        }
        if count.lines >= LINES {
            count.untold = count.untold.saturating_add(1);
            return None;
        }
        count.lines += 1;
        let untold = std::mem::take(&mut count.untold);
        let more = if untold > 0 { format!(" (and {untold} more of such things before)") } else { String::new() };
        Some(format!("{what}, from {address}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_told_as_a_few() {
        let complaints = Complaints::default();
        let (address, now) = (IpAddr::from([192, 0, 2, 7]), Instant::now());
        let told: Vec<String> = (0..1000).filter_map(|_| complaints.line("a wrong token", address, now)).collect();
        assert_eq!(told.len(), LINES as usize);
        assert_eq!(told[0], "a wrong token, from 192.0.2.7");
        let next = complaints.line("a wrong token", address, now + WINDOW);
        assert_eq!(next.as_deref(), Some("a wrong token, from 192.0.2.7 (and 990 more of such things before)"));
    }
}
