//! What is in the log of a board and is not judged: what its consoles had before, and what a tool prints → records of channels of their own.

use super::{Input, Output, Trying, Written};
use crate::axis::{Entry, Loss};
use crate::console::{self, Piece, Why};
use crate::limits::RECORD_BYTES;
use crate::record::{ChannelStart, Record};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

impl Trying {
    pub(super) fn before(&self, console: u8) -> u64 {
        self.setup.before.get(usize::from(console)).copied().unwrap_or(0)
    }

    /// An owner that takes the place of one that died counts from nothing: what it has of a console is none of what came before.
    pub(super) fn recount(&mut self, input: &Input) {
        if let Input::Had(console, console::Entry::Came(Piece::Lost { why: Why::Died, .. })) = input
            && let Some(before) = self.setup.before.get_mut(usize::from(*console))
        {
            *before = 0;
        }
    }

    /// Whether a console had this, or some of it, before it began.
    pub(super) fn is_before(&self, console: u8, entry: &console::Entry) -> bool {
        let before = self.before(console);
        let died = matches!(entry, console::Entry::Came(Piece::Lost { why: Why::Died, .. }));
        !died && (entry.offset() < before || (entry.end() <= before && entry.ns() < self.setup.began_ns))
    }

    /// What a console had between two jobs, which says nothing of this one: its bytes, and where some are missing. What is none of that
    /// is given back.
    pub(super) fn had_before(
        &mut self,
        console: u8,
        entry: console::Entry,
        out: &mut Vec<Output>,
    ) -> Option<console::Entry> {
        let (ns, end) = (entry.ns(), self.before(console));
        if let Some(gone) = self.gone.get_mut(usize::from(console)) {
            console::away_ms(gone, &entry);
        }
        match entry {
            console::Entry::Came(Piece::Bytes { offset, ns, mut bytes }) => {
                // What comes while nobody listens yet is put behind what was there.
                let rest = bytes.split_off(bytes.len().min(end.saturating_sub(offset) as usize));
                let count = bytes.len() as u64;
                if let Some((channel, _)) = self.before_channel(console, count, out) {
                    out.push(Output::Write(self.micros(ns), Written::Record(Record::Data(channel, bytes))));
                }
                (!rest.is_empty()).then_some(console::Entry::Came(Piece::Bytes { offset: end, ns, bytes: rest }))
            }
            console::Entry::Came(Piece::Lost { lost, why, .. }) => {
                let lost = lost.filter(|_| why == Why::Full);
                if let Some((channel, offset)) = self.before_channel(console, lost.unwrap_or(0), out) {
                    let loss = Loss { offset, lost, why: why.word().to_string() };
                    out.push(Output::Write(self.micros(ns), Written::Entry(Entry::Loss(channel, loss))));
                }
                None
            }
            console::Entry::Came(Piece::Unplugged { .. } | Piece::Back { .. }) | console::Entry::Sent { .. } => None,
        }
    }

    /// The channel of what a console had before, which is named where it is new, and its bytes until now; it has so many more from here on.
    pub(super) fn before_channel(&mut self, console: u8, more: u64, out: &mut Vec<Output>) -> Option<(u8, u64)> {
        let index = usize::from(console);
        // A board with as many lines as there may be leaves no room for the last of them.
        let channel = self.setup.board.before_channel(console)?;
        let name = self.setup.board.consoles.get(index).map(|console| format!("serial:{}:before", console.name))?;
        let had = self.of_before.get(index).copied()?;
        if had.is_none() {
            self.record(Record::Channel(channel, ChannelStart { name }), out);
        }
        let offset = had.unwrap_or(0);
        if let Some(all) = self.of_before.get_mut(index) {
            *all = Some(offset.saturating_add(more));
        }
        Some((channel, offset))
    }

    pub(super) fn printed(&mut self, bytes: Vec<u8>, out: &mut Vec<Output>) {
        let (channel, micros) = (self.setup.board.tool_channel(), self.micros(self.now.monotonic_ns));
        self.of_printer = self.of_printer.saturating_add(bytes.len() as u64);
        for piece in bytes.chunks(RECORD_BYTES) {
            out.push(Output::Write(micros, Written::Record(Record::Data(channel, piece.to_vec()))));
        }
    }

    pub(super) fn printed_more(&mut self, lost: u64, out: &mut Vec<Output>) {
        let (channel, why) = (self.setup.board.tool_channel(), Why::Full.word().to_string());
        let loss = Loss { offset: self.of_printer, lost: Some(lost), why };
        self.entry(self.now.monotonic_ns, Entry::Loss(channel, loss), out);
        self.of_printer = self.of_printer.saturating_add(lost);
    }
}
