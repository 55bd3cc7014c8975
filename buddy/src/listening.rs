//! A board's consoles → all that they have from now on, whatever becomes of the board's owner meanwhile: each byte once, and what is
//! missing as a number.

use crate::frames::{Asked, Heard, Status, Told};
use crate::visit::{Visit, Whose, gone};
use sai_core::console::{Entry, Piece, Why};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

/// Time in which an owner that is gone must have been replaced.
const REPLACED: Duration = Duration::from_secs(30);
/// Time between two looks for the one that replaces it.
const LOOK: Duration = Duration::from_millis(20);

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
        let Status { consoles, bench, .. } = visit.status()?;
        visit.ask(&Asked { console: console.clone(), kept: Some(kept), ..Asked::new("listen") })?;
        let began: Vec<u64> = consoles.iter().map(|console| console.offset).collect();
        let heard = if kept { vec![0; began.len()] } else { began.clone() };
        let names = consoles.into_iter().map(|console| console.name).collect();
        Ok(Listening { whose, console, visit, names, bench, began, heard, last_ns: 0, waiting: Vec::new() })
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
        self.heard = vec![0; names.len()];
        (self.visit, self.names, self.bench) = (visit, names, status.bench);
        Ok(())
    }
}
