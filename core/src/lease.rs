//! What a person asks for → the board that is wanted; and when it is used, and whether others wait for it → until when that person may
//! keep it.
//!
//! A lease lasts for so long from its last use, and up to a bound in all; use does not prolong it while somebody waits.

use crate::ledger::Leased;
use crate::limits::Millis;
use crate::platform::check_unit;
use crate::scheduler::BoardRow;
use crate::units::WantedBoard;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Minutes for which a board is kept after its last use, where nobody says: a break for a meal ends no work.
pub const MINUTES: u64 = 30;
/// Minutes of those at most: whoever forgets a board must not keep it for a night.
pub const MINUTES_MOST: u64 = 240;
/// Seconds of a lease at most, however much the board is used: a working day.
pub const MOST_S: u64 = 8 * 3600;

/// Tags that a board may be wanted for.
const TAGS: usize = 16;

/// What a person asks for: a board of a type with tags, or one by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// `AGENT/BOARD`.
    board: Option<(String, String)>,
    kind: Option<String>,
    tags: Vec<String>,
    minutes: Option<u64>,
}

impl Asking {
    /// Reads words in any order: `board=AGENT/BOARD`, or `type=TYPE` and as often as wanted `tag=TAG`; and `minutes=N`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(words: &[(String, String)]) -> Result<Self, String> {
        let mut asking = Self::default();
        for (name, value) in words {
            let unit =
                || check_unit(value).map(|()| value.clone()).map_err(|expected| format!("{name}: expected {expected}"));
            match name.as_str() {
                "board" if asking.board.is_none() => {
                    let parts = value.split_once('/').filter(|(agent, _)| !agent.is_empty());
                    let (agent, board) = parts.ok_or("board: expected AGENT/BOARD")?;
                    check_unit(board)
                        .map_err(|expected| format!("board: expected AGENT/BOARD, and of the latter {expected}"))?;
                    asking.board = Some((agent.to_string(), board.to_string()));
                }
                "type" if asking.kind.is_none() => asking.kind = Some(unit()?),
                "tag" if asking.tags.len() < TAGS => asking.tags.push(unit()?),
                "minutes" if asking.minutes.is_none() => {
                    let minutes = value.parse().ok().filter(|minutes| (1..=MINUTES_MOST).contains(minutes));
                    asking.minutes = Some(minutes.ok_or_else(|| format!("minutes: expected 1 to {MINUTES_MOST}"))?);
                }
                _ => {
                    return Err(format!(
                        "{name:?}: expected one board, or one type and at most {TAGS} tags; and minutes"
                    ));
                }
            }
        }
        match (&asking.board, &asking.kind) {
            (Some(_), None) if asking.tags.is_empty() => Ok(asking),
            (None, Some(_)) => Ok(asking),
            _ => Err("expected a board, or a type and its tags".to_string()),
        }
    }

    /// The board that is wanted, of those that agents offer.
    ///
    /// # Errors
    /// None of them is one: what there is, for people.
    pub fn of(&self, boards: &[BoardRow]) -> Result<(WantedBoard, Leased), String> {
        let named = |row: &&BoardRow| match &self.board {
            Some((agent, board)) => row.agent == *agent && row.offered.name == *board,
            None => true,
        };
        let wanted = |row: &BoardRow| WantedBoard {
            kind: self.kind.clone().unwrap_or_else(|| row.offered.kind.clone()),
            tags: self.tags.clone(),
            name: self.board.as_ref().map(|(_, board)| board.clone()),
            ..WantedBoard::default()
        };
        let mut single = boards.iter().filter(|row| row.offered.boards.is_none());
        let found = single.find(|row| named(row) && wanted(row).is_met_by(&row.offered)).map(wanted);
        let agent = self.board.as_ref().map(|(agent, _)| agent.clone());
        let leased = Leased { minutes: self.minutes.unwrap_or(MINUTES), agent, people: None };
        found.map(|wanted| (wanted, leased)).ok_or_else(|| {
            let offered = boards.iter().map(|row| format!("{}/{} ({})", row.agent, row.offered.name, row.offered.kind));
            let offered: Vec<String> = offered.take(SHOWN).collect();
            let offered = if offered.is_empty() { "none".to_string() } else { offered.join(", ") };
            format!("no agent that is known offers such a board; there are: {offered}")
        })
    }
}

/// Boards that are named to whoever asks for one that there is not.
const SHOWN: usize = 32;

/// See the file's first line. All moments are of the steady clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    kept: Millis,
    until: Millis,
    most: Millis,
    over: bool,
}

impl Lease {
    /// One that begins now, and lasts for so many minutes after each use.
    pub fn new(now: Millis, minutes: u64) -> Self {
        let kept = minutes.clamp(1, MINUTES_MOST) * 60_000;
        Self { kept, until: now.saturating_add(kept), most: now.saturating_add(MOST_S * 1000), over: false }
    }

    /// The board is used; whether somebody waits for it.
    pub fn used(&mut self, now: Millis, waits: bool) {
        if !waits {
            self.until = self.until.max(now.saturating_add(self.kept)).min(self.most);
        }
    }

    /// The machine slept for so long, in which nobody could use it.
    pub fn slept(&mut self, slept: Millis) {
        self.until = self.until.saturating_add(slept);
        self.most = self.most.saturating_add(slept);
    }

    /// When it is over.
    pub fn until(&self) -> Millis {
        self.until
    }

    /// Ends it, which nothing prolongs then.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Whether it was ended.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::scheduler::BoardHealth;
    use crate::units::OfferedBoard;

    const MINUTE: Millis = 60_000;

    fn asking(words: &[(&str, &str)]) -> Result<Asking, String> {
        let words: Vec<(String, String)> =
            words.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Asking::parse(&words)
    }

    fn row(agent: &str, name: &str, kind: &str, tags: &[&str]) -> BoardRow {
        let tags = tags.iter().map(ToString::to_string).collect();
        let offered = OfferedBoard { name: name.to_string(), kind: kind.to_string(), tags, ..OfferedBoard::default() };
        let what = "free".to_string();
        let (waiters, kept_from) = (Vec::new(), Vec::new());
        let agent = agent.to_string();
        let (holder, pause_s, waiting, health) = (None, None, 0, BoardHealth::default());
        BoardRow { agent, offered, holder, free: true, what, pause_s, waiting, waiters, kept_from, health }
    }

    #[test]
    fn a_board_is_asked_for_by_type_or_by_name() {
        let rows = [row("shed", "uno-1", "uno", &["can"]), row("attic", "uno-1", "esp32", &[])];
        let (wanted, leased) = asking(&[("type", "uno"), ("tag", "can")]).unwrap().of(&rows).unwrap();
        assert_eq!(
            (wanted.kind.as_str(), wanted.tags.as_slice(), wanted.name),
            ("uno", &["can".to_string()][..], None)
        );
        assert_eq!((leased.minutes, leased.agent), (MINUTES, None));
        let (wanted, leased) = asking(&[("board", "attic/uno-1"), ("minutes", "5")]).unwrap().of(&rows).unwrap();
        assert_eq!((wanted.kind.as_str(), wanted.name.as_deref()), ("esp32", Some("uno-1")));
        assert_eq!((leased.minutes, leased.agent.as_deref()), (5, Some("attic")));
        for absent in [&[("type", "nucleo")][..], &[("type", "uno"), ("tag", "lcd")], &[("board", "shed/uno-2")]] {
            let why = asking(absent).unwrap().of(&rows).unwrap_err();
            assert!(why.contains("shed/uno-1 (uno), attic/uno-1 (esp32)"), "{why}");
        }
        assert!(asking(&[("type", "uno")]).unwrap().of(&[]).unwrap_err().ends_with("none"));
    }

    #[test]
    fn what_is_no_such_wish_is_told() {
        for wrong in [
            &[][..],
            &[("type", "")],
            &[("type", "a b")],
            &[("type", "a"), ("type", "b")],
            &[("tag", "a")],
            &[("board", "a")],
            &[("board", "/a")],
            &[("board", "a/")],
            &[("board", "a/b"), ("type", "c")],
            &[("board", "a/b"), ("tag", "c")],
            &[("type", "a"), ("minutes", "0")],
            &[("type", "a"), ("minutes", "241")],
            &[("type", "a"), ("color", "red")],
        ] {
            let told = asking(wrong).unwrap_err();
            assert!(told.contains("expected"), "{wrong:?}: {told}");
        }
    }

    #[test]
    fn use_prolongs_it_unless_somebody_waits_and_up_to_a_bound() {
        let mut lease = Lease::new(1000, 30);
        assert_eq!(lease.until(), 1000 + 30 * MINUTE);
        lease.used(1000 + 10 * MINUTE, false);
        assert_eq!(lease.until(), 1000 + 40 * MINUTE);
        lease.used(1000 + 20 * MINUTE, true);
        assert_eq!(lease.until(), 1000 + 40 * MINUTE, "whoever waits knows when it ends");
        for minute in 0..2 * MOST_S / 60 {
            lease.used(1000 + minute * MINUTE, false);
        }
        assert_eq!(lease.until(), 1000 + MOST_S * 1000);
        lease.slept(MINUTE);
        assert_eq!(lease.until(), 1000 + MINUTE + MOST_S * 1000);
    }

    #[test]
    fn how_long_it_is_kept_has_bounds() {
        assert_eq!(Lease::new(0, 0).until(), MINUTE);
        assert_eq!(Lease::new(0, u64::MAX).until(), MINUTES_MOST * MINUTE);
        assert_eq!(Lease::new(u64::MAX, 1).until(), u64::MAX);
    }
}
