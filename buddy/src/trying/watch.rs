//! The lines of a board that are read → their edges on the axis of its log, so many a second at most, and how many are not there.

use crate::lines::{self, Inputs, Seen};
use crate::ports::Places;
use sai_core::axis::{Edge, Entry, Loss};
use sai_core::bench::Board;
use std::io;
use std::os::fd::BorrowedFd;

/// Edges of one line that are recorded in a second: a signal of some kilohertz. More would fill the log with a clock.
pub const EDGES_A_SECOND: u64 = 10_000;
/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// See the file's first line.
#[derive(Debug, Default)]
pub struct Watch {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    inputs: Box<dyn Inputs>,
    polled: bool,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    channel: u8,
    /// Which second, how many edges were in it, and how many of these are not recorded.
    second: u64,
    edges: u64,
    left_out: u64,
    /// The number of the last edge that is.
    last: u64,
}

impl Line {
    /// What is not recorded, if something is not.
    fn left_out(&mut self, ns: u64, out: &mut Vec<(u64, Entry)>) {
        let lost = std::mem::take(&mut self.left_out);
        if lost > 0 {
            let why = format!("more than {EDGES_A_SECOND} edges in a second");
            out.push((ns, Entry::Loss(self.channel, Loss { offset: self.last, lost: Some(lost), why })));
            self.last += lost;
        }
    }

    fn edge(&mut self, level: bool, ns: u64, number: u64, out: &mut Vec<(u64, Entry)>) {
        if ns / SECOND_NS != self.second {
            self.left_out(ns, out);
            (self.second, self.edges) = (ns / SECOND_NS, 0);
        }
        self.edges += 1;
        if self.edges > EDGES_A_SECOND {
            self.left_out += 1;
            return;
        }
        self.last = number;
        let edge = Edge { channel: self.channel, level, ns, sequence: number as u32 };
        match out.last_mut() {
            Some((_, Entry::Edges(edges))) => edges.push(edge),
            _ => out.push((ns, Entry::Edges(vec![edge]))),
        }
    }
}

impl Watch {
    /// Watches the lines of a board that are read.
    ///
    /// # Errors
    /// A line is in use, or is none.
    pub fn new(board: &Board, places: &Places) -> io::Result<Watch> {
        let mut groups = Vec::new();
        for group in lines::read(board) {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("lines {}: {error}", group.name));
            let inputs = lines::inputs(&group, places).map_err(named)?;
            let line = |name: &str| {
                let channel = board.channel(name).ok_or_else(|| io::Error::other(format!("no line {name}")))?;
                Ok(Line { channel, second: 0, edges: 0, left_out: 0, last: 0 })
            };
            let lines = group.lines.iter().map(|one| line(&one.name)).collect::<io::Result<_>>()?;
            groups.push(Group { inputs, polled: group.is_polled(), lines });
        }
        Ok(Watch { groups })
    }

    /// Whether there is a line to be watched.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether edges may be lost without anybody knowing, where the kernel was asked for them.
    pub fn may_lose_unseen(&self) -> bool {
        self.groups.iter().any(|group| !group.polled && !group.inputs.counts_losses())
    }

    /// Can be read where edges have come.
    pub fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.groups.iter().flat_map(|group| group.inputs.files())
    }

    /// Appends what has come, each with its moment in nanoseconds.
    ///
    /// # Errors
    /// A chip is gone.
    pub fn take(&mut self, out: &mut Vec<(u64, Entry)>) -> io::Result<()> {
        for group in &mut self.groups {
            let mut seen = Vec::new();
            group.inputs.take(&mut seen)?;
            for one in seen {
                let (Seen::Edge { line, .. } | Seen::Lost { line, .. }) = one;
                // A chip tells of no other lines than it was asked for.
                let Some(of) = group.lines.get_mut(line) else { continue };
                match one {
                    Seen::Edge { level, ns, number, .. } => of.edge(level, ns, number, out),
                    Seen::Lost { count, ns, .. } => {
                        let why = "they were not read in time".to_string();
                        out.push((ns, Entry::Loss(of.channel, Loss { offset: of.last, lost: count, why })));
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends what is not recorded of seconds that are over at this moment, in nanoseconds.
    pub fn settle(&mut self, now: u64, out: &mut Vec<(u64, Entry)>) {
        for line in self.groups.iter_mut().flat_map(|group| &mut group.lines) {
            if now / SECOND_NS != line.second {
                line.left_out(now, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_on_a_line_is_so_many_edges_a_second_and_a_number() {
        let mut line = Line { channel: 9, second: 0, edges: 0, left_out: 0, last: 0 };
        let mut out = Vec::new();
        for number in 1..=25_000 {
            line.edge(number % 2 == 0, number * 1_000, number, &mut out);
        }
        line.edge(true, SECOND_NS, 25_001, &mut out);
        let [(_, Entry::Edges(first)), (ns, Entry::Loss(9, loss)), (_, Entry::Edges(after))] = &out[..] else {
            panic!("{out:?}");
        };
        assert_eq!((first.len() as u64, after.len(), *ns), (EDGES_A_SECOND, 1, SECOND_NS));
        assert_eq!((loss.offset, loss.lost, line.last), (EDGES_A_SECOND, Some(15_000), 25_001));
    }
}
