//! What a board's owner says of it, asked again and again → how the board stands, and what is to be done there: the mode that it is
//! brought to, and that its owner goes by what the file says now.

use crate::bench::Board;
use crate::limits::Millis;
use crate::session::Standing;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use miniserde::{Deserialize, Serialize};

/// Milliseconds after which what could not be done is tried again: a mode that was not reached, which moves lines, or a description that
/// the owner did not take on.
const AGAIN_MS: Millis = 60_000;

/// What an owner says of its board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub board: String,
    /// The owner's process.
    pub process: u32,
    /// The mode; `None` where it is not known.
    pub mode: Option<String>,
    /// What the one writes as who writes.
    pub writer: Option<String>,
    /// Whether a guard holds what the owner holds.
    pub guarded: bool,
    /// Its consoles, in the order of their numbers.
    pub consoles: Vec<ConsoleStatus>,
    /// [`Board::digest`] of the description that it goes by. Owners of older versions do not say.
    pub bench: Option<u64>,
}

/// One console.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleStatus {
    /// Its name.
    pub name: String,
    /// Bytes of the channel until now.
    pub offset: u64,
    /// Whether its tty is there.
    pub there: bool,
    /// What keeps it from being used.
    pub trouble: Option<String>,
    /// Whether its driver gives each byte at once; absent where it has no such setting.
    pub low_latency: Option<bool>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The owner answers.
    Said(Status),
    /// It cannot be asked, for this reason; `busy`: since another program has what it would own.
    Silent {
        /// Whether that is so.
        busy: bool,
        /// Why, for people.
        why: String,
    },
    /// What [`Output::Reach`] asks for is done, or is not, and why.
    Reached(Result<(), String>),
    /// What [`Output::Renew`] asks for is done, or is not, and why.
    Renewed(Result<(), String>),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The board stands so.
    Stand(Standing),
    /// The board is brought to this mode; answer with [`Input::Reached`].
    Reach(String),
    /// The owner is to read its file again, unless somebody else writes; answer with [`Input::Renewed`].
    Renew,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug)]
pub struct Attending {
    board: Board,
    /// When a mode that was not reached is tried again.
    reach_at: Millis,
    /// The description that the owner last kept instead of ours, and when it is asked again; never where it has read its file.
    kept: Option<(u64, Option<Millis>)>,
    /// The one that it had when it was asked.
    asked: Option<u64>,
}

impl Attending {
    /// Of a board as its file described it when that was read.
    pub fn new(board: Board) -> Self {
        Attending { board, reach_at: 0, kept: None, asked: None }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        out.push(match input {
            Input::Silent { busy: true, why } => Output::Stand(Standing::Busy(why)),
            Input::Silent { busy: false, why } => Output::Stand(Standing::Unknown(Some(why))),
            Input::Said(status) => self.said(now, &status),
            Input::Reached(Ok(())) => {
                self.reach_at = 0;
                Output::Stand(Standing::Free)
            }
            Input::Reached(Err(why)) => unknown(format!("its mode is not known: {why}")),
            Input::Renewed(done) => {
                // Whatever it goes by then, asking once more would change nothing.
                let again = done.is_err().then(|| now.saturating_add(AGAIN_MS));
                self.kept = self.asked.take().map(|digest| (digest, again));
                match done {
                    // It is asked what it is like now.
                    Ok(()) => Output::Stand(Standing::Unknown(None)),
                    Err(why) => unknown(format!("its owner does not go by what the file says now: {why}")),
                }
            }
        });
    }

    fn said(&mut self, now: Millis, status: &Status) -> Output {
        let other = status.bench.filter(|digest| *digest != self.board.digest);
        let standing = match stands(&self.board, status) {
            Some(Standing::Busy(who)) => {
                // Who was first may have been what kept the owner from it.
                self.kept = self.kept.filter(|(_, again)| again.is_none());
                return Output::Stand(Standing::Busy(who));
            }
            standing => standing,
        };
        if let Some(other) = other {
            match self.kept {
                Some((kept, again)) if kept == other && again.is_none_or(|again| now < again) => {
                    if again.is_some() {
                        return unknown("its owner does not go by what the file says now".to_string());
                    }
                }
                _ => {
                    self.asked = Some(other);
                    return Output::Renew;
                }
            }
        }
        match (standing, rest(&self.board)) {
            (Some(standing), _) => Output::Stand(standing),
            (None, None) => Output::Stand(Standing::Free),
            (None, Some(_)) if now < self.reach_at => {
                unknown("its mode is not known, and could not be reached".to_string())
            }
            (None, Some(mode)) => {
                self.reach_at = now.saturating_add(AGAIN_MS);
                Output::Reach(mode.to_string())
            }
        }
    }
}

fn unknown(why: String) -> Output {
    Output::Stand(Standing::Unknown(Some(why)))
}

/// What an owner's word says of its board; nothing where that is in no mode that is known.
fn stands(board: &Board, status: &Status) -> Option<Standing> {
    let gone = status.consoles.iter().find(|console| !console.there);
    Some(match (&status.writer, gone) {
        (Some(writer), _) => Standing::Busy(writer.clone()),
        (None, Some(console)) => {
            let why = console.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
            Standing::Unknown(Some(format!("console {} is not there{why}", console.name)))
        }
        (None, None) if !status.guarded => Standing::Unknown(Some("no guard holds its lines".into())),
        (None, None) if status.mode.is_none() && !board.modes.is_empty() => return None,
        (None, None) => Standing::Free,
    })
}

/// The mode that a board of an unknown one is brought to: where it runs what is on it, else where it is off.
fn rest(board: &Board) -> Option<&str> {
    let then = board.flash.as_ref().and_then(|flash| flash.then.as_deref());
    let off = || board.modes.contains_key("off").then_some("off");
    then.or_else(off).or_else(|| board.modes.keys().next().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench;

    const MODES: &str = r#", "modes": { "run": { "do": ["wait 1ms"] }, "off": { "do": ["wait 1ms"] } }"#;

    fn board(more: &str) -> Board {
        let text = format!(
            r#"{{ "boards": {{ "b": {{ "type": "t", "consoles": {{ "main": {{ "path": "/dev/pts/1", "baud": 9600 }} }}{more} }} }} }}"#
        );
        bench::read("F", text.as_bytes()).expect("a bench").boards.remove(0)
    }

    fn status(of: &Board, writer: Option<&str>, mode: Option<&str>, there: bool) -> Status {
        let trouble = (!there).then(|| "unplugged".to_string());
        let consoles = alloc::vec![ConsoleStatus { name: "main".into(), there, trouble, low_latency: None, offset: 0 }];
        Status {
            board: "b".into(),
            process: 1,
            mode: mode.map(Into::into),
            writer: writer.map(Into::into),
            guarded: true,
            consoles,
            bench: Some(of.digest),
        }
    }

    fn give(attending: &mut Attending, now: Millis, input: Input) -> Output {
        let mut out = Vec::new();
        attending.handle(now, input, &mut out);
        assert_eq!(out.len(), 1, "{out:?}");
        out.remove(0)
    }

    #[test]
    fn a_board_is_free_where_nobody_writes_all_is_there_and_its_mode_is_known() {
        let (plain, moded) = (board(""), board(MODES));
        let of = |board: &Board, status: Status| give(&mut Attending::new(board.clone()), 0, Input::Said(status));
        let free = Output::Stand(Standing::Free);
        let busy = |who: &str| Output::Stand(Standing::Busy(who.into()));
        assert_eq!(of(&plain, status(&plain, None, None, true)), free);
        assert_eq!(of(&plain, status(&plain, Some("ann"), None, true)), busy("ann"));
        assert_eq!(
            of(&plain, status(&plain, None, None, false)),
            unknown("console main is not there: unplugged".into())
        );
        assert_eq!(of(&moded, status(&moded, None, Some("run"), true)), free);
        assert_eq!(of(&moded, status(&moded, None, None, true)), Output::Reach("off".into()));
        // What moves it now knows where it ends.
        assert_eq!(of(&moded, status(&moded, Some("judge"), None, true)), busy("judge"));
        let unguarded = Status { guarded: false, ..status(&moded, None, Some("run"), true) };
        assert_eq!(of(&moded, unguarded), unknown("no guard holds its lines".into()));
        let flash = format!(r#"{MODES}, "flash": {{ "with": "optiboot", "mode": "off", "then": "run" }}"#);
        let flashed = board(&flash);
        assert_eq!(of(&flashed, status(&flashed, None, None, true)), Output::Reach("run".into()));
        for (input, is) in [
            (Input::Silent { busy: true, why: "picocom".into() }, busy("picocom")),
            (Input::Silent { busy: false, why: "no tty".into() }, unknown("no tty".into())),
        ] {
            assert_eq!(give(&mut Attending::new(plain.clone()), 0, input), is);
        }
    }

    #[test]
    fn a_mode_that_is_not_reached_is_tried_again_after_a_while() {
        let moded = board(MODES);
        let mut attending = Attending::new(moded.clone());
        let lost = || Input::Said(status(&moded, None, None, true));
        assert_eq!(give(&mut attending, 7, lost()), Output::Reach("off".into()));
        let why = "its mode is not known: mode off: no power".to_string();
        assert_eq!(give(&mut attending, 8, Input::Reached(Err("mode off: no power".into()))), unknown(why));
        let not = unknown("its mode is not known, and could not be reached".into());
        assert_eq!(give(&mut attending, 6 + AGAIN_MS, lost()), not);
        assert_eq!(give(&mut attending, 7 + AGAIN_MS, lost()), Output::Reach("off".into()));
        assert_eq!(give(&mut attending, 8 + AGAIN_MS, Input::Reached(Ok(()))), Output::Stand(Standing::Free));
        // One that is lost later is another one.
        assert_eq!(give(&mut attending, 9 + AGAIN_MS, lost()), Output::Reach("off".into()));
    }

    #[test]
    fn an_owner_of_another_description_reads_its_file_again_when_nobody_writes() {
        let (before, now) = (board(""), board(r#", "sequences": { "press": ["wait 1ms"] }"#));
        assert_ne!(before.digest, now.digest);
        let mut attending = Attending::new(now.clone());
        let old = |writer| Input::Said(status(&before, writer, None, true));
        assert_eq!(give(&mut attending, 0, old(Some("judge"))), Output::Stand(Standing::Busy("judge".into())));
        assert_eq!(give(&mut attending, 1, old(None)), Output::Renew);
        assert_eq!(give(&mut attending, 2, Input::Renewed(Ok(()))), Output::Stand(Standing::Unknown(None)));
        let free = Output::Stand(Standing::Free);
        assert_eq!(give(&mut attending, 3, Input::Said(status(&now, None, None, true))), free);
        // One that does not say is of an older version, and goes by what it has.
        let silent = Status { bench: None, ..status(&before, None, None, true) };
        assert_eq!(give(&mut attending, 4, Input::Said(silent)), free);
    }

    #[test]
    fn an_owner_that_keeps_another_description_is_not_asked_again_and_again() {
        let (before, newer, now) = (board(""), board(MODES), board(r#", "sequences": { "press": ["wait 1ms"] }"#));
        let mut attending = Attending::new(now);
        let old = || Input::Said(status(&before, None, None, true));
        assert_eq!(give(&mut attending, 0, old()), Output::Renew);
        let refused = give(&mut attending, 0, Input::Renewed(Err("F:1:1: expected an object".into())));
        let why = "its owner does not go by what the file says now: F:1:1: expected an object".to_string();
        assert_eq!(refused, unknown(why));
        let kept = unknown("its owner does not go by what the file says now".into());
        assert_eq!(give(&mut attending, AGAIN_MS - 1, old()), kept);
        assert_eq!(give(&mut attending, AGAIN_MS, old()), Output::Renew);
        // Somebody was faster, and is gone again.
        give(&mut attending, AGAIN_MS, Input::Renewed(Err("process 7 writes to the board (judge)".into())));
        give(
            &mut attending,
            AGAIN_MS,
            Input::Said(Status { writer: Some("judge".into()), ..status(&before, None, None, true) }),
        );
        assert_eq!(give(&mut attending, AGAIN_MS, old()), Output::Renew);
        give(&mut attending, AGAIN_MS, Input::Renewed(Ok(())));
        // Its file has changed since we read it: it is ahead of us, and not to be asked until we have read it too.
        let ahead = || Input::Said(status(&newer, None, Some("run"), true));
        assert_eq!(give(&mut attending, AGAIN_MS + 1, ahead()), Output::Renew);
        give(&mut attending, AGAIN_MS + 1, Input::Renewed(Ok(())));
        assert_eq!(give(&mut attending, AGAIN_MS + 2, ahead()), Output::Stand(Standing::Free));
        assert_eq!(give(&mut attending, 9 * AGAIN_MS, ahead()), Output::Stand(Standing::Free));
    }
}
