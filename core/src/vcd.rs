//! Edges of a log → a Value Change Dump (IEEE 1364-2005, §18.2), as logic analysers and waveform viewers read it.
//!
//! Time is nanoseconds since the job began. A dump's time may not step back, and edges of different lines come in no order of
//! theirs: they are held until a tick says that nothing older comes. Where edges were lost a line is `x`, which is neither level.

use crate::axis::Entry;
use crate::ordered::Map;
use crate::record::Item;
use alloc::collections::BinaryHeap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt::Write as _;

/// What the channels of lines are called before their own name.
pub const LINE: &str = "line:";

/// Changes that are held for those before them at most, about 2 MiB; of more the older half is written.
const HELD: usize = 32 << 10;

/// A line of the dump.
#[derive(Clone, Debug, Default)]
struct Line {
    id: String,
    /// Number and time of its last edge.
    last: Option<(u32, u64)>,
}

/// Makes it.
#[derive(Clone, Debug)]
pub struct Dump {
    lines: Map<u8, Line>,
    /// The machine's clock when the job began, in nanoseconds.
    origin: Option<u64>,
    /// Time, the order in which they came, channel and level; the oldest first.
    held: BinaryHeap<Reverse<(u64, u64, u8, char)>>,
    count: u64,
    /// The time that was written last.
    now: u64,
    /// The latest of all records.
    end: u64,
    late: u64,
}

impl Dump {
    /// What comes before the changes, and who makes these: of a log with these channels. None where none is a line.
    pub fn new(channels: &[(u8, String)]) -> Option<(Vec<u8>, Self)> {
        let mut lines: Map<u8, Line> = Map::new();
        let mut head = format!("$version Sai {} $end\n$timescale 1 ns $end\n", env!("CARGO_PKG_VERSION"));
        head.push_str("$scope module board $end\n");
        let mut names: Vec<String> = Vec::new();
        for (channel, name) in channels {
            let Some(name) = name.strip_prefix(LINE) else { continue };
            // A name is one word, and none that ends a declaration.
            let plain =
                |letter: char| if letter.is_ascii_alphanumeric() || "_.-".contains(letter) { letter } else { '_' };
            let mut name: String = name.chars().take(NAME_LETTERS).map(plain).collect();
            if name.is_empty() || names.contains(&name) {
                name = format!("{name}_{channel}");
            }
            let id = identifier(lines.len());
            let _ = writeln!(head, "$var wire 1 {id} {name} $end");
            names.push(name);
            lines.insert(*channel, Line { id, last: None });
        }
        if lines.is_empty() {
            return None;
        }
        head.push_str("$upscope $end\n$enddefinitions $end\n#0\n$dumpvars\n");
        for line in lines.values() {
            let _ = writeln!(head, "x{}", line.id);
        }
        head.push_str("$end\n");
        let dump = Self { lines, origin: None, held: BinaryHeap::new(), count: 0, now: 0, end: 0, late: 0 };
        Some((head.into_bytes(), dump))
    }

    fn hold(&mut self, at: u64, channel: u8, value: char) {
        self.count += 1;
        self.held.push(Reverse((at, self.count, channel, value)));
    }

    /// Writes what is held up to a moment, and of more than `most` the oldest.
    fn write(&mut self, up_to: u64, most: usize, out: &mut Vec<u8>) {
        while self.held.peek().is_some_and(|Reverse(next)| next.0 <= up_to || self.held.len() > most) {
            let Some(Reverse((at, _, channel, value))) = self.held.pop() else { return };
            let Some(line) = self.lines.get(&channel) else { continue };
            self.late += u64::from(at < self.now);
            if at > self.now {
                self.now = at;
                out.extend_from_slice(format!("#{at}\n").as_bytes());
            }
            out.extend_from_slice(format!("{value}{}\n", line.id).as_bytes());
        }
    }

    fn happened(&mut self, micros: u64, entry: &Entry, out: &mut Vec<u8>) {
        let here = micros.saturating_mul(1000);
        match entry {
            Entry::Clock(clock) => {
                self.origin.get_or_insert(clock.monotonic_ns.saturating_sub(here));
            }
            Entry::Edges(edges) => {
                for edge in edges {
                    // Without a clock the first edge is taken to be as old as its record.
                    let origin = *self.origin.get_or_insert(edge.ns.saturating_sub(here));
                    let at = edge.ns.saturating_sub(origin);
                    let Some(line) = self.lines.get_mut(&edge.channel) else { continue };
                    let before = line.last.replace((edge.sequence, at));
                    let gap = before.filter(|(number, _)| *number > 0 && edge.sequence > number.saturating_add(1));
                    if let Some((_, since)) = gap {
                        self.hold(since.saturating_add(1).min(at), edge.channel, 'x');
                    }
                    self.end = self.end.max(at);
                    self.hold(at, edge.channel, if edge.level { '1' } else { '0' });
                    if self.held.len() > HELD {
                        self.write(0, HELD / 2, out);
                    }
                }
            }
            // What the kernel numbers is seen by its numbers, and where.
            Entry::Loss(channel, _) => {
                let unnumbered = |line: &Line| line.last.is_none_or(|(number, _)| number == 0);
                if self.lines.get(channel).is_some_and(unnumbered) {
                    self.hold(here, *channel, 'x');
                }
            }
            Entry::Tick(up_to) => self.write(up_to.saturating_mul(1000), HELD, out),
            _ => {}
        }
    }

    /// Takes the next item of the log; what of the dump is certain then is appended.
    pub fn take(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        let micros = match item {
            Item::Data { micros, .. } | Item::Record(micros, _) | Item::Later { micros, .. } => *micros,
        };
        self.end = self.end.max(micros.saturating_mul(1000));
        if let Some(entry) = Entry::of(item) {
            self.happened(micros, &entry, out);
        }
    }

    /// The log has come to its end, or to where it is damaged: the rest is appended.
    pub fn finish(&mut self, damaged: bool, out: &mut Vec<u8>) {
        self.write(u64::MAX, 0, out);
        if self.end > self.now {
            out.extend_from_slice(format!("#{}\n", self.end).as_bytes());
        }
        if self.late > 0 {
            let told = format!("$comment {} changes came late, and stand where they came $end\n", self.late);
            out.extend_from_slice(told.as_bytes());
        }
        if damaged {
            out.extend_from_slice(b"$comment the log is damaged from here on $end\n");
        }
    }
}

/// Letters of a line's name that are kept.
const NAME_LETTERS: usize = 64;

/// The short name of the line of this index: printable ASCII.
fn identifier(index: usize) -> String {
    let letter = |digit: usize| char::from(b'!' + (digit % 94) as u8);
    if index < 94 { letter(index).to_string() } else { format!("{}{}", letter(index / 94 - 1), letter(index)) }
}
