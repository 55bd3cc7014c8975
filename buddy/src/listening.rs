//! A board's consoles → all that they have from now on, whatever becomes of the board's owner meanwhile: each byte once, and what is
//! missing as a number.

use crate::frames::{Asked, Heard, Status, Told};
use crate::serial::monotonic_ns;
use crate::visit::{Visit, Whose, gone};
use sai_core::console::{Entry, Piece, Why, away_ms};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

/// Time in which an owner that is gone must have been replaced.
const REPLACED: Duration = Duration::from_secs(30);
/// Time between two looks for the one that replaces it.
const LOOK: Duration = Duration::from_millis(20);

/// Entries without bytes that are remembered of each console since its last byte. More of them, with no byte between, are heard twice where
/// the owner is updated then.
const REMEMBERED: usize = 4096;

/// What tells an entry without bytes from all others of its console: its moment in nanoseconds, its kind, and how much it is of.
type Bare = (u64, u8, u64);

fn bare(entry: &Entry) -> Bare {
    let (kind, much) = match entry {
        Entry::Came(Piece::Bytes { .. }) => (0, 0),
        Entry::Came(Piece::Unplugged { .. }) => (1, 0),
        Entry::Came(Piece::Back { .. }) => (2, 0),
        Entry::Sent { length, .. } => (3, *length),
        Entry::Came(Piece::Lost { lost, why, .. }) => (4 + *why as u8, lost.unwrap_or(u64::MAX)),
    };
    (entry.ns(), kind, much)
}

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A console, by its number, had this.
    Entry(u8, Entry),
    /// An answer to something that was asked.
    Told(Told),
    /// The owner was replaced, and what was asked before may have to be asked again.
    Replaced,
}

/// Somebody who listens.
#[derive(Debug)]
pub struct Listening {
    whose: Whose,
    console: Option<String>,
    visit: Visit,
    names: Vec<String>,
    bench: Option<u64>,
    began: Vec<u64>,
    /// Bytes of each channel that were heard, with those that are known to be missing.
    heard: Vec<u64>,
    last_ns: u64,
    /// What of each has no byte and was heard behind its last one: an owner that goes on knows the bytes that we have, and tells this again.
    behind: Vec<Vec<Bare>>,
    /// What has no byte and is older than this was before we listened, in nanoseconds; 0 where all that is kept was wanted.
    since_ns: u64,
    /// Since when the tty of each is gone, in nanoseconds, as far as it was heard.
    gone: Vec<Option<u64>>,
    /// Whether it was told of each that its tty is back, and its owner may tell so, too.
    told_back: Vec<bool>,
    waiting: Vec<Event>,
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.visit.as_fd()
    }
}

impl Listening {
    /// Listens to one console or all of them, from now on or from what is kept.
    ///
    /// # Errors
    /// The board has no owner that begins, or no such console.
    pub fn new(whose: Whose, console: Option<String>, kept: bool) -> io::Result<Listening> {
        let visit = Visit::begin(&whose)?;
        let since_ns = if kept { 0 } else { monotonic_ns() };
        let Status { consoles, bench, .. } = visit.status()?;
        visit.ask(&Asked { console: console.clone(), kept: Some(kept), ..Asked::new("listen") })?;
        let began: Vec<u64> = consoles.iter().map(|console| console.offset).collect();
        let heard = if kept { vec![0; began.len()] } else { began.clone() };
        let (gone, told_back) = (vec![None; began.len()], vec![false; began.len()]);
        let names = consoles.into_iter().map(|console| console.name).collect();
        let behind = began.iter().map(|_| Vec::new()).collect();
        Ok(Listening {
            whose,
            console,
            visit,
            names,
            bench,
            began,
            heard,
            last_ns: 0,
            behind,
            since_ns,
            gone,
            told_back,
            waiting: Vec::new(),
        })
    }

    /// The names of all consoles, in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The description of the board that the owner goes by, as [`Status::bench`] has it.
    pub fn bench(&self) -> Option<u64> {
        self.bench
    }

    /// Bytes of each channel when it began to listen: what of it is kept is before that.
    pub fn began(&self) -> &[u64] {
        &self.began
    }

    /// The connection, to ask for other things.
    pub fn visit(&self) -> &Visit {
        &self.visit
    }

    /// The next event, if there is one within this time.
    ///
    /// # Errors
    /// The owner is gone, and none takes its place.
    pub fn next(&mut self, within: Duration) -> io::Result<Option<Event>> {
        if !self.waiting.is_empty() {
            return Ok(Some(self.waiting.remove(0)));
        }
        match self.visit.hear(within) {
            Ok(None) => Ok(None),
            Ok(Some((Heard::Told(told), _))) if told.t == "stopping" => {
                Err(io::Error::other("the owner of the board was told to stop"))
            }
            Ok(Some((Heard::Told(told), _))) => Ok(Some(Event::Told(told))),
            Ok(Some((Heard::Entry(console, entry), _))) => {
                if self.was_heard(console, &entry) || self.is_told(console, &entry) {
                    return self.next(Duration::ZERO);
                }
                if let Some(heard) = self.heard.get_mut(usize::from(console)) {
                    *heard = entry.end();
                }
                self.last_ns = entry.ns();
                Ok(Some(Event::Entry(console, entry)))
            }
            Err(error) if gone(&error) => {
                self.come_again()?;
                Ok(Some(Event::Replaced))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it was heard before, by the owner that was updated since. What is heard now is kept in mind.
    fn was_heard(&mut self, console: u8, entry: &Entry) -> bool {
        let Some(behind) = self.behind.get_mut(usize::from(console)) else { return false };
        if entry.end() > entry.offset() {
            behind.clear();
            return false;
        }
        let told = bare(entry);
        if entry.ns() < self.since_ns || behind.contains(&told) {
            return true;
        }
        if behind.len() < REMEMBERED {
            behind.push(told);
        }
        false
    }

    /// Whether this says that a tty is back, and it was told before. What becomes of the tty is kept in mind.
    fn is_told(&mut self, console: u8, entry: &Entry) -> bool {
        let index = usize::from(console);
        if let Some(gone) = self.gone.get_mut(index) {
            away_ms(gone, entry);
        }
        let Some(told) = self.told_back.get_mut(index) else { return false };
        match entry {
            Entry::Came(Piece::Back { .. }) => std::mem::take(told),
            Entry::Came(Piece::Unplugged { .. }) => {
                *told = false;
                false
            }
            _ => false,
        }
    }

    /// Listens to the owner that took the place of another, from where we are; also where that one is replaced at once.
    fn come_again(&mut self) -> io::Result<()> {
        let before = self.visit.process();
        let began = Instant::now();
        loop {
            match self.come_to_next(before) {
                Err(_) if began.elapsed() < REPLACED => thread::sleep(LOOK),
                other => return other,
            }
        }
    }

    /// Asks an owner for all that comes after what was heard; of the one that was heard before this is known.
    fn come_to_next(&mut self, before: i32) -> io::Result<()> {
        let visit = Visit::begin(&self.whose)?;
        let status = visit.status()?;
        if visit.process() == before {
            for (name, heard) in self.names.iter().zip(&self.heard) {
                if self.console.as_ref().is_none_or(|console| console == name) {
                    let (console, from) = (Some(name.clone()), Some(*heard));
                    visit.ask(&Asked { console, from, ..Asked::new("listen") })?;
                }
            }
            (self.visit, self.bench) = (visit, status.bench);
            return Ok(());
        }
        let there: Vec<bool> = status.consoles.iter().map(|console| console.there).collect();
        let names: Vec<String> = status.consoles.into_iter().map(|console| console.name).collect();
        let console = self.console.clone();
        visit.ask(&Asked { console, kept: Some(true), ..Asked::new("listen") })?;
        // The one before died with what it had read and not told.
        for (number, offset) in (0..).zip(&self.heard) {
            let named = self.names.get(usize::from(number));
            if self.console.is_none() || self.console.as_ref() == named {
                let lost = Piece::Lost { offset: *offset, ns: self.last_ns, lost: None, why: Why::Died };
                self.waiting.push(Event::Entry(number, Entry::Came(lost)));
            }
        }
        self.behind = vec![Vec::new(); names.len()];
        // A tty that came back while nobody owned it was there when this one began, which says nothing of it.
        self.gone.resize(names.len(), None);
        self.told_back = vec![false; names.len()];
        for (number, (gone, there)) in (0..).zip(self.gone.iter_mut().zip(there)) {
            if there && gone.take().is_some() {
                let back = Piece::Back { offset: 0, ns: monotonic_ns(), tty: String::new() };
                self.waiting.push(Event::Entry(number, Entry::Came(back)));
                self.told_back[usize::from(number)] = true;
            }
        }
        self.heard = vec![0; names.len()];
        (self.visit, self.names, self.bench) = (visit, names, status.bench);
        Ok(())
    }
}
