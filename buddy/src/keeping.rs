//! Owners that come, leave copies of open files and die → who holds what, and which levels are set when.
//!
//! A line that is let go may fall to any level, and closing one lets it go. So two processes hold each: the owner of its board, which
//! moves it, and the guard, which does nothing but this. What the guard has is given to the next owner, which opens nothing.

use miniserde::{Deserialize, Serialize};
use sai_core::bench::BOARDS_MAX;
use sai_core::limits::Millis;
use sai_core::ordered::Map;

/// Most things of a board: its consoles and its lines.
pub const THINGS_MAX: usize = 64;
/// Most peers at a time: an owner of each board, and some who ask.
pub const PEERS_MAX: usize = BOARDS_MAX + 16;

/// A connection, by a number of its own.
pub type Peer = u64;

/// An open file of a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// Its name: that of a console, or of what lines have in common.
    pub name: String,
    /// What it is, as `levels` knows it.
    pub what: String,
    /// The levels in it that have a safe one, each a bit.
    pub mask: u64,
    /// These safe levels.
    pub safe: u64,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody connected.
    Came(Peer),
    /// It is the owner of this board.
    Owns(Peer, String),
    /// It leaves copies of its open files.
    Leaves(Peer, Vec<Thing>),
    /// Its owner closes these things, and nobody is to hold them.
    LetsGo(Peer, Vec<String>),
    /// A thing is gone by itself: it was unplugged.
    HungUp(String, String),
    /// It is gone: it died, or broke off.
    Gone(Peer),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// What is held of the board is given to its new owner.
    Give(Peer, String, Vec<Thing>),
    /// The next of the files that came is held as this, in place of one that was held before.
    Hold(String, Thing),
    /// What is held as this is closed.
    Close(String, String),
    /// The levels of this are set to what is safe. It is held on to.
    Secure(String, Thing),
    /// The peer is told why not, and left.
    Refuse(Peer, String),
}

#[derive(Debug, Default)]
struct Board {
    owner: Option<Peer>,
    things: Map<String, Thing>,
}

/// The machine. See the file's first line.
#[derive(Debug, Default)]
pub struct Keeping {
    peers: Map<Peer, Option<String>>,
    boards: Map<String, Board>,
}

/// What one that goes on in another process is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The peers in order, each with its board.
    pub peers: Vec<Option<String>>,
    /// What is held, with the board of each.
    pub things: Vec<(String, Thing)>,
}

impl Keeping {
    /// One that goes on from another. Its peers are numbered from 0.
    pub fn from(kept: &Kept) -> Self {
        let mut keeping = Keeping::default();
        for (board, thing) in &kept.things {
            let board = keeping.boards.get_or_default(board.clone());
            board.things.insert(thing.name.clone(), thing.clone());
        }
        for (peer, board) in (0..).zip(&kept.peers) {
            if let Some(board) = board {
                keeping.boards.get_or_default(board.clone()).owner = Some(peer);
            }
            keeping.peers.insert(peer, board.clone());
        }
        keeping
    }

    /// What another is told that goes on from this one: peers by their numbers, things by board and name.
    pub fn kept(&self) -> Kept {
        let things = self.boards.iter().flat_map(|(name, board)| {
            let things = board.things.values();
            things.map(|thing| (name.clone(), thing.clone()))
        });
        Kept { peers: self.peers.values().cloned().collect(), things: things.collect() }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, _now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Came(peer) if self.peers.len() >= PEERS_MAX => {
                out.push(Output::Refuse(peer, format!("there are {PEERS_MAX} others")));
            }
            Input::Came(peer) => {
                self.peers.insert(peer, None);
            }
            Input::Owns(peer, board) => self.owns(peer, board, out),
            Input::Leaves(peer, things) => self.leaves(peer, things, out),
            Input::LetsGo(peer, names) => {
                let Some((name, board)) = self.board_of(peer) else { return self.refuse(peer, "no owner", out) };
                for thing in names {
                    if board.things.remove(&thing).is_some() {
                        out.push(Output::Close(name.clone(), thing));
                    }
                }
            }
            Input::HungUp(board, thing) => {
                let held = self.boards.get_mut(&board).and_then(|board| board.things.remove(&thing));
                if held.is_some() {
                    out.push(Output::Close(board, thing));
                }
            }
            Input::Gone(peer) => self.leave(peer, out),
        }
        self.boards.retain(|_, board| board.owner.is_some() || !board.things.is_empty());
    }

    fn board_of(&mut self, peer: Peer) -> Option<(String, &mut Board)> {
        let name = self.peers.get(&peer)?.clone()?;
        let board = self.boards.get_mut(&name)?;
        Some((name, board))
    }

    fn owns(&mut self, peer: Peer, name: String, out: &mut Vec<Output>) {
        match self.peers.get(&peer) {
            Some(None) => {}
            _ => return self.refuse(peer, "it has said already which board it owns", out),
        }
        if self.boards.get(&name).is_some_and(|board| board.owner.is_some()) {
            return self.refuse(peer, &format!("board {name} has an owner"), out);
        }
        if self.boards.len() >= BOARDS_MAX && !self.boards.contains_key(&name) {
            return self.refuse(peer, &format!("there are {BOARDS_MAX} boards"), out);
        }
        let board = self.boards.get_or_default(name.clone());
        board.owner = Some(peer);
        out.push(Output::Give(peer, name.clone(), board.things.values().cloned().collect()));
        self.peers.insert(peer, Some(name));
    }

    fn leaves(&mut self, peer: Peer, things: Vec<Thing>, out: &mut Vec<Output>) {
        let Some((name, board)) = self.board_of(peer) else { return self.refuse(peer, "no owner", out) };
        let new = things.iter().filter(|thing| !board.things.contains_key(&thing.name)).count();
        if board.things.len() + new > THINGS_MAX {
            return self.refuse(peer, &format!("a board has at most {THINGS_MAX} consoles and lines"), out);
        }
        for thing in things {
            board.things.insert(thing.name.clone(), thing.clone());
            out.push(Output::Hold(name.clone(), thing));
        }
    }

    fn refuse(&mut self, peer: Peer, why: &str, out: &mut Vec<Output>) {
        out.push(Output::Refuse(peer, why.to_string()));
        self.leave(peer, out);
    }

    /// An owner that is gone leaves a board that nobody moves: its lines go where nothing happens to it, and stay there.
    fn leave(&mut self, peer: Peer, out: &mut Vec<Output>) {
        let Some(Some(name)) = self.peers.remove(&peer) else { return };
        let Some(board) = self.boards.get_mut(&name) else { return };
        board.owner = None;
        let levelled = board.things.values().filter(|thing| thing.mask != 0);
        out.extend(levelled.map(|thing| Output::Secure(name.clone(), thing.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(name: &str, mask: u64) -> Thing {
        Thing { name: name.into(), what: "file".into(), mask, safe: 0 }
    }

    fn give(keeping: &mut Keeping, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        keeping.handle(0, input, &mut out);
        out
    }

    /// A board with a console and a line, whose owner is peer 1.
    fn owned() -> Keeping {
        let mut keeping = Keeping::default();
        assert_eq!(give(&mut keeping, Input::Came(1)), []);
        assert_eq!(give(&mut keeping, Input::Owns(1, "a".into())), [Output::Give(1, "a".into(), Vec::new())]);
        let things = vec![thing("main", 0), thing("lines", 3)];
        let held: Vec<Output> = things.iter().map(|thing| Output::Hold("a".into(), thing.clone())).collect();
        assert_eq!(give(&mut keeping, Input::Leaves(1, things)), held);
        keeping
    }

    #[test]
    fn an_owners_death_sets_safe_levels_and_lets_nothing_go() {
        let mut keeping = owned();
        assert_eq!(give(&mut keeping, Input::Gone(1)), [Output::Secure("a".into(), thing("lines", 3))]);
        // The next one is given all of it, and its death means the same.
        give(&mut keeping, Input::Came(2));
        let all = vec![thing("lines", 3), thing("main", 0)];
        assert_eq!(give(&mut keeping, Input::Owns(2, "a".into())), [Output::Give(2, "a".into(), all)]);
        assert_eq!(give(&mut keeping, Input::Gone(2)), [Output::Secure("a".into(), thing("lines", 3))]);
    }

    #[test]
    fn a_board_has_one_owner_and_whoever_is_none_moves_nothing() {
        let mut keeping = owned();
        give(&mut keeping, Input::Came(2));
        let refused = give(&mut keeping, Input::Owns(2, "a".into()));
        assert!(matches!(&refused[..], [Output::Refuse(2, why)] if why.contains("has an owner")), "{refused:?}");
        for input in [
            Input::Leaves(3, vec![thing("main", 0)]),
            Input::LetsGo(3, vec!["main".into()]),
            Input::Owns(3, "b".into()),
        ] {
            let mut keeping = owned();
            let refused = give(&mut keeping, input);
            assert!(matches!(&refused[..], [Output::Refuse(3, _)]), "{refused:?}");
        }
        // One owner of two boards would be two deaths in one.
        let refused = give(&mut keeping, Input::Owns(1, "b".into()));
        assert!(matches!(&refused[..], [Output::Refuse(1, _), Output::Secure(..)]), "{refused:?}");
    }

    #[test]
    fn what_is_unplugged_or_let_go_is_closed_and_no_longer_given() {
        let mut keeping = owned();
        let closed = Output::Close("a".into(), "main".into());
        assert_eq!(give(&mut keeping, Input::HungUp("a".into(), "main".into())), std::slice::from_ref(&closed));
        assert_eq!(give(&mut keeping, Input::HungUp("a".into(), "main".into())), []);
        assert_eq!(give(&mut keeping, Input::Leaves(1, vec![thing("main", 0)])).len(), 1);
        let names = vec!["main".into(), "lines".into(), "none".into()];
        assert_eq!(give(&mut keeping, Input::LetsGo(1, names)), [closed, Output::Close("a".into(), "lines".into())]);
        assert_eq!(give(&mut keeping, Input::Gone(1)), []);
        assert!(keeping.kept().things.is_empty());
    }

    #[test]
    fn another_process_goes_on_with_the_same_peers_and_things() {
        let mut keeping = owned();
        give(&mut keeping, Input::Came(7));
        let kept = keeping.kept();
        assert_eq!(kept.peers, [Some("a".to_string()), None]);
        let mut other = Keeping::from(&kept);
        assert_eq!(other.kept(), kept);
        assert_eq!(give(&mut other, Input::Gone(0)), [Output::Secure("a".into(), thing("lines", 3))]);
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut keeping = owned();
        let many: Vec<Thing> = (0..THINGS_MAX).map(|number| thing(&format!("line{number}"), 1)).collect();
        let refused = give(&mut keeping, Input::Leaves(1, many));
        assert!(matches!(&refused[..], [Output::Refuse(1, _), Output::Secure(..)]), "{refused:?}");
        let mut keeping = Keeping::default();
        for peer in 0..PEERS_MAX as Peer {
            assert_eq!(give(&mut keeping, Input::Came(peer)), []);
            let given = give(&mut keeping, Input::Owns(peer, format!("b{peer}")));
            assert_eq!(matches!(&given[..], [Output::Give(..)]), peer < BOARDS_MAX as Peer);
        }
    }
}
