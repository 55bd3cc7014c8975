//! A stored log and what is asked of it → the drawing of its board's lines that a page shows.

use super::log::pump;
use super::route::{lines_field, number_field};
use sai_core::record::{Decoder, Item};
use sai_core::waveform::{COLUMNS, Drawing, Extent, Plot, Window};
use std::io::{self, Read};

/// What is asked of a waveform, all of it by its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The part of the time that is wanted, in nanoseconds since the job began.
    pub window: Option<(u64, u64)>,
    /// The line of output whose moment is wanted.
    pub line: Option<u64>,
    /// Two moments that are marked.
    pub marks: [Option<u64>; 2],
}

impl Asked {
    /// Reads a query.
    pub fn of(query: &str) -> Self {
        let (from, to) = (number_field(query, "from"), number_field(query, "to"));
        Self {
            window: (from.is_some() || to.is_some()).then(|| (from.unwrap_or(0), to.unwrap_or(u64::MAX))),
            line: lines_field(query, "line").map(|lines| *lines.start()),
            marks: ["a", "b"].map(|name| number_field(query, name)),
        }
    }
}

/// A waveform, and what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// What is drawn.
    pub drawing: Drawing,
    /// Edges of the whole log.
    pub edges: u64,
    /// The line of output that was asked for, and when it began.
    pub line: Option<(u64, u64)>,
    /// Two moments that are marked.
    pub marks: [Option<u64>; 2],
}

/// Reads a log twice: to know how long it is, and to draw. None where no channel of it is a line.
///
/// # Errors
/// The log cannot be opened or read.
pub fn read(open: impl Fn() -> io::Result<Box<dyn Read + Send>>, asked: Asked) -> io::Result<Option<Wave>> {
    let mut extent = Extent::new(asked.line);
    items(&mut *open()?, |item| extent.take(item))?;
    if !extent.has_lines {
        return Ok(None);
    }
    let window = Window::of(asked.window, extent.end, extent.moment.filter(|_| asked.window.is_some()));
    let mut plot = Plot::new(window, COLUMNS, extent.end);
    items(&mut *open()?, |item| plot.take(item))?;
    let line = asked.line.zip(extent.moment);
    Ok(Some(Wave { drawing: plot.finish(), edges: extent.edges, line, marks: asked.marks }))
}

/// All items of a log, up to where it is damaged.
fn items(log: &mut dyn Read, mut take: impl FnMut(&Item<'_>)) -> io::Result<()> {
    let mut decoder = Decoder::new();
    let mut good = true;
    pump(log, |bytes| good = good && decoder.push(bytes, |item| take(&item)).is_ok())
}
