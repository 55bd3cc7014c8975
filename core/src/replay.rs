//! The nonce of a signed notification → whether it was seen before.
//!
//! The notification carries no time, so nonces cannot expire by age: the last [`NONCES`] of each repository are remembered.
//! One that was pushed out of this window by as many later ones can do no more than have an old revision built again.

use crate::ordered::{Map, Set};
use alloc::collections::VecDeque;
use alloc::string::String;

/// Nonces remembered for each repository: months of pushes, in at most half a megabyte.
pub const NONCES: usize = 4096;
/// Longest nonce accepted, in bytes; the original's are 64 hexadecimal digits.
pub const NONCE_BYTES: usize = 128;

/// The nonces seen, by repository. Repositories are named by the operator, so there are few.
#[derive(Clone, Debug, Default)]
pub struct ReplayWindow {
    repositories: Map<String, Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    order: VecDeque<String>,
    set: Set<String>,
}

impl ReplayWindow {
    /// Remembers a nonce, and says whether it is fresh. Only nonces of valid signatures may be given, so that a stranger
    /// cannot push others out of the window.
    pub fn is_fresh(&mut self, repository: &str, nonce: &str) -> bool {
        let seen = self.repositories.get_or_default(repository.into());
        if !seen.set.insert(nonce.into()) {
            return false;
        }
        seen.order.push_back(nonce.into());
        if seen.order.len() > NONCES
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.set.remove(&oldest);
        }
        true
    }

    /// Forgets a nonce whose notification was not taken, so that it may be sent again.
    pub fn forget(&mut self, repository: &str, nonce: &str) {
        if let Some(seen) = self.repositories.get_mut(repository)
            && seen.set.remove(nonce)
        {
            seen.order.retain(|other| other != nonce);
        }
    }

    /// All remembered (repository, nonce) pairs, those of one repository from the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.repositories
            .iter()
            .flat_map(|(name, seen)| seen.order.iter().map(move |nonce| (name.as_str(), nonce.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn a_nonce_is_fresh_once_in_each_repository() {
        let mut window = ReplayWindow::default();
        assert!(window.is_fresh("a", "1"));
        assert!(!window.is_fresh("a", "1"));
        assert!(window.is_fresh("b", "1"));
        assert!(window.is_fresh("a", "2"));
        assert!(window.iter().eq([("a", "1"), ("a", "2"), ("b", "1")]));
        window.forget("a", "1");
        window.forget("a", "3");
        window.forget("c", "1");
        assert!(window.iter().eq([("a", "2"), ("b", "1")]));
        assert!(window.is_fresh("a", "1"), "what was not taken may be sent again");
    }

    #[test]
    fn the_window_is_bounded_and_a_replay_does_not_move_it() {
        let mut window = ReplayWindow::default();
        for n in 0..NONCES {
            assert!(window.is_fresh("a", &format!("{n}")));
            assert!(!window.is_fresh("a", "0"));
        }
        assert!(window.is_fresh("a", "one more"));
        assert_eq!(window.iter().count(), NONCES);
        assert!(window.is_fresh("a", "0"), "the oldest has left the window");
        assert!(!window.is_fresh("a", "2"));
    }
}
