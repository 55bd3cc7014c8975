//! A board → what its consoles have, on standard output, until a time is over or nobody reads.

use crate::listening::{Event, Listening};
use crate::showing;
use crate::telling::tell;
use crate::visit::Whose;
use sai_core::console::{Entry, Piece, away_ms};
use sai_core::escape;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// What is to be recorded.
#[derive(Debug)]
pub struct Wanted {
    /// The board.
    pub whose: Whose,
    /// The console; all of them where it is not said.
    pub console: Option<String>,
    /// Whether it begins with what the owner has kept.
    pub kept: bool,
    /// For how long; until nobody reads where it is not said.
    pub time: Option<Duration>,
    /// Whether programs read it.
    pub json: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is missing.
    Whole,
    /// Something is, and was told.
    WithLoss,
}

/// Records. Of several consoles each line of text says which one it is of, unless JSON is wanted.
///
/// # Errors
/// The board has no owner that begins, or no such console; what is printed cannot be.
pub fn run(wanted: Wanted) -> io::Result<Ended> {
    let mut listening = Listening::new(wanted.whose, wanted.console, wanted.kept)?;
    // An owner that had to be started took none of the time.
    let began = Instant::now();
    let names = listening.names().to_vec();
    let mut out = io::stdout().lock();
    let terminal = out.is_terminal();
    let mut ended = Ended::Whole;
    let mut gone = vec![None; names.len()];
    loop {
        let left = wanted.time.map_or(Duration::MAX, |time| time.saturating_sub(began.elapsed()));
        if left.is_zero() {
            return Ok(ended);
        }
        let Some(Event::Entry(number, entry)) = listening.next(left.min(Duration::from_secs(3600)))? else { continue };
        let name = names.get(usize::from(number)).map_or("", String::as_str);
        let away_ms = gone.get_mut(usize::from(number)).and_then(|gone| away_ms(gone, &entry));
        if showing::is_loss(&entry) {
            ended = Ended::WithLoss;
        }
        let written = if wanted.json {
            out.write_all(showing::json(name, &entry, away_ms).as_bytes())
        } else {
            if let Some(text) = showing::notice(name, &entry, away_ms) {
                tell(&text);
            }
            match &entry {
                // No byte of a board's reaches a terminal that nobody has put at its mercy.
                Entry::Came(Piece::Bytes { bytes, .. }) if terminal => {
                    out.write_all(escape::lines(&String::from_utf8_lossy(bytes).replace('\r', "")).as_bytes())
                }
                Entry::Came(Piece::Bytes { bytes, .. }) => out.write_all(bytes),
                _ => Ok(()),
            }
        };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ended),
            other => other?,
        }
    }
}
