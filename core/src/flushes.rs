//! Streams' bytes that are written and not durable yet → which file is flushed when, and what may be said of it then.
//!
//! A flush costs the disk as much for a byte as for a piece, so few bytes wait a moment for more, and many do not. Who waits
//! for a stream has it flushed at once. Of each stream one flush is under way at a time, and only so many of all; what waits for
//! a stream to be durable (its digest is to be compared, it is to be packed) is done when its last byte is.

use crate::bug::Bugs;
use crate::job::JobKey;
use crate::limits::Millis;
use crate::ordered::{Map, Set};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// So many unflushed bytes are flushed at once: a flush of 1 MiB costs hardly more than one of a byte.
pub const BYTES: u64 = 1 << 20;
/// Fewer are flushed after so many milliseconds: nobody notices, and a chatty job costs at most 20 flushes a second.
pub const DELAY_MS: Millis = 50;
/// Flushes under way at once; each holds a file open.
pub const FLUSHES: usize = 64;

/// An attempt's stream.
pub type Name = (JobKey, u16);

/// What happens to streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file was opened that has so many bytes, all of them durable; one that is known stays as it is.
    Opened(Name, u64),
    /// It has so many bytes now.
    Appended(Name, u64),
    /// Somebody waits for all of an attempt's streams.
    Hurry(JobKey),
    /// Once it is durable it is to be compared with its digest, if it has so many bytes.
    Seal(Name, u64),
    /// The attempt is over: its log is to be packed, and with `true` files that are not whole are unlinked then.
    Finish(JobKey, bool),
    /// A flush has ended, and whether it made so many bytes durable.
    Flushed(Name, u64, bool),
    /// It was compared, and whether it is what was announced; `None` if it could not be read.
    Compared(Name, Option<bool>),
    /// Its file was closed to make room for others.
    Closed(Name),
    /// Nothing of this attempt is wanted any more.
    Remove(JobKey),
    /// All that there is is to be made durable, as at the end of the process.
    HurryAll,
    /// The time told by `deadline` has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Flush it, and its name, too, if it is new; `Flushed` follows with this length.
    Flush {
        /// Which.
        name: Name,
        /// Its length now.
        length: u64,
        /// Whether its name may not be durable yet.
        new: bool,
    },
    /// It is durable up to here: that may be acknowledged.
    Durable(Name, u64),
    /// Compare it with its digest; `Compared` follows.
    Compare(Name),
    /// Whether it is what was announced, which one of another length is not; `None` if it could not be read.
    Sealed(Name, Option<bool>),
    /// Pack the log of this attempt, as [`Input::Finish`] says.
    Pack(JobKey, bool),
    /// After a failed flush the kernel may have dropped what it could not write (fsync(2)): cut it back to what is durable.
    /// Its sender, who still has the rest, sends it again.
    CutBack(Name, u64),
    /// It is not known any more: its file need not be kept open.
    Forget(Name),
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// What is under way with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Flush,
    Compare,
}

#[derive(Clone, Debug)]
struct Stream {
    /// Bytes in the file.
    length: u64,
    /// Durable bytes.
    durable: u64,
    /// Whether its name may not be durable yet.
    new: bool,
    busy: Option<Work>,
    /// Whether somebody waits for it.
    hurry: bool,
    /// When its unflushed bytes are due.
    due: Option<Millis>,
    /// The length it is to have when it is compared.
    seal: Option<u64>,
    finish: Option<bool>,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug, Default)]
pub struct Flushes {
    streams: Map<Name, Stream>,
    due: Set<(Millis, Name)>,
    /// What is under way with files that are not known any more. What comes of it says nothing of a file of the same name that
    /// was opened since, which waits for that to end.
    abandoned: Map<Name, Work>,
    under_way: usize,
    /// Ready to be flushed, but too many are under way.
    waiting: VecDeque<Name>,
    bugs: Bugs,
}

impl Flushes {
    /// When `Tick` is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether all that is known is durable, and nothing waits for that.
    pub fn is_idle(&self) -> bool {
        let busy = |stream: &Stream| stream.busy.is_some() || stream.seal.is_some() || stream.durable < stream.length;
        !self.streams.values().any(busy)
    }

    /// Bytes in a file, if it is known.
    pub fn length(&self, name: Name) -> Option<u64> {
        self.streams.get(&name).map(|stream| stream.length)
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Opened(name, length) => {
                self.streams.get_or_insert_with(name, || Stream {
                    length,
                    durable: length,
                    new: true,
                    busy: None,
                    hurry: false,
                    due: None,
                    seal: None,
                    finish: None,
                });
            }
            Input::Appended(name, length) => self.appended(now, name, length, out),
            Input::Hurry(key) => self.of(key, 0).into_iter().for_each(|name| self.hurry(name, out)),
            Input::Seal(name, size) => match self.streams.get_mut(&name) {
                Some(stream) => {
                    stream.seal = Some(size);
                    self.hurry(name, out);
                }
                None => self.bugs.note("seal: a file that was not opened"),
            },
            Input::Finish(key, prune) => {
                self.of(key, 1).into_iter().for_each(|name| self.forget(name, out));
                match self.streams.get_mut(&(key, 0)) {
                    Some(log) => {
                        log.finish = Some(prune);
                        self.hurry((key, 0), out);
                    }
                    None => out.push(Output::Pack(key, prune)),
                }
            }
            Input::Flushed(name, length, good) => self.flushed(now, name, length, good, out),
            Input::Compared(name, equal) => self.compared(name, equal, out),
            Input::Closed(name) => {
                let rests = |stream: &Stream| {
                    stream.durable == stream.length
                        && stream.busy.is_none()
                        && stream.seal.is_none()
                        && stream.finish.is_none()
                };
                if self.streams.get(&name).is_some_and(rests) {
                    self.forget(name, out);
                }
            }
            Input::Remove(key) => self.of(key, 0).into_iter().for_each(|name| self.forget(name, out)),
            Input::HurryAll => {
                let names: Vec<Name> = self.streams.keys().copied().collect();
                names.into_iter().for_each(|name| self.hurry(name, out));
            }
            Input::Tick => {
                while let Some((_, name)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
                    self.due.pop_first();
                    if let Some(stream) = self.streams.get_mut(&name) {
                        stream.due = None;
                    }
                    self.dispatch(name, out);
                }
            }
        }
        self.bugs.tell(Output::Bug, out);
    }

    /// Streams of an attempt, from this one on.
    fn of(&self, key: JobKey, first: u16) -> Vec<Name> {
        self.streams.range((key, first)..=(key, u16::MAX)).map(|(name, _)| *name).collect()
    }

    fn appended(&mut self, now: Millis, name: Name, length: u64, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&name) else {
            return self.bugs.note("appended: a file that was not opened");
        };
        if length < stream.length {
            return self.bugs.note("appended: a file that became shorter");
        }
        stream.length = length;
        if stream.length - stream.durable >= BYTES {
            self.dispatch(name, out);
        } else if stream.due.is_none() && stream.busy.is_none() {
            self.wait(now, name);
        }
    }

    fn wait(&mut self, now: Millis, name: Name) {
        let at = now.saturating_add(DELAY_MS);
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.due = Some(at);
            self.due.insert((at, name));
        }
    }

    fn forget(&mut self, name: Name, out: &mut Vec<Output>) {
        if let Some(stream) = self.streams.remove(&name) {
            if let Some(at) = stream.due {
                self.due.remove(&(at, name));
            }
            if let Some(work) = stream.busy {
                self.abandoned.insert(name, work);
            }
            out.push(Output::Forget(name));
        }
    }

    fn hurry(&mut self, name: Name, out: &mut Vec<Output>) {
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.hurry = true;
            self.dispatch(name, out);
        }
    }

    /// Flushes a stream now, or does what waits for it to be durable.
    fn dispatch(&mut self, name: Name, out: &mut Vec<Output>) {
        // It was removed while it waited for its turn.
        let Some(stream) = self.streams.get_mut(&name) else { return };
        if let Some(at) = stream.due.take() {
            self.due.remove(&(at, name));
        }
        // What is under way comes back here when it ends.
        if stream.busy.is_some() || self.abandoned.contains_key(&name) {
            return;
        }
        if stream.durable == stream.length && !(stream.new && stream.seal.is_some()) {
            return self.settle(name, out);
        }
        if self.under_way >= FLUSHES {
            if !self.waiting.contains(&name) {
                self.waiting.push_back(name);
            }
            return;
        }
        stream.busy = Some(Work::Flush);
        stream.hurry = false;
        self.under_way += 1;
        out.push(Output::Flush { name, length: stream.length, new: stream.new });
    }

    /// A stream is durable to its end: it is compared, or packed.
    fn settle(&mut self, name: Name, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&name) else { return self.bugs.note("settle: no such file") };
        stream.hurry = false;
        if let Some(size) = stream.seal {
            if stream.length == size {
                stream.busy = Some(Work::Compare);
                out.push(Output::Compare(name));
            } else {
                stream.seal = None;
                out.push(Output::Sealed(name, Some(false)));
            }
        } else if let Some(prune) = stream.finish {
            self.forget(name, out);
            out.push(Output::Pack(name.0, prune));
        }
    }

    fn flushed(&mut self, now: Millis, name: Name, length: u64, good: bool, out: &mut Vec<Output>) {
        let Some(of) = self.ended(name, Work::Flush) else {
            return self.bugs.note("flushed: no flush of this is under way");
        };
        match self.under_way.checked_sub(1) {
            Some(others) => self.under_way = others,
            None => self.bugs.note("flushed: more flushes than were begun"),
        }
        match of {
            Of::Another => self.dispatch(name, out),
            Of::This if good => self.durable(now, name, length, out),
            Of::This => {
                let durable = self.streams.get(&name).map_or(0, |stream| stream.durable);
                self.forget(name, out);
                out.push(Output::CutBack(name, durable));
            }
        }
        // One that was removed meanwhile needs no turn, and must not take it from the others.
        while self.under_way < FLUSHES
            && let Some(next) = self.waiting.pop_front()
        {
            self.dispatch(next, out);
        }
    }

    fn durable(&mut self, now: Millis, name: Name, length: u64, out: &mut Vec<Output>) {
        let Some(stream) = self.streams.get_mut(&name) else { return self.bugs.note("durable: no such file") };
        stream.durable = length.min(stream.length);
        stream.new = false;
        let unflushed = stream.length - stream.durable;
        let hurry = stream.hurry || stream.seal.is_some() || stream.finish.is_some() || unflushed >= BYTES;
        out.push(Output::Durable(name, stream.durable));
        if hurry {
            self.dispatch(name, out);
        } else if unflushed > 0 {
            self.wait(now, name);
        }
    }

    fn compared(&mut self, name: Name, equal: Option<bool>, out: &mut Vec<Output>) {
        match self.ended(name, Work::Compare) {
            Some(Of::This) => {
                self.forget(name, out);
                out.push(Output::Sealed(name, equal));
            }
            Some(Of::Another) => self.dispatch(name, out),
            None => self.bugs.note("compared: nobody asked for that"),
        }
    }

    /// Takes down that such work has ended, if it was under way, and whose it was.
    fn ended(&mut self, name: Name, work: Work) -> Option<Of> {
        if self.abandoned.get(&name) == Some(&work) {
            self.abandoned.remove(&name);
            return Some(Of::Another);
        }
        let stream = self.streams.get_mut(&name).filter(|stream| stream.busy == Some(work))?;
        stream.busy = None;
        Some(Of::This)
    }
}

/// Whose work has ended.
enum Of {
    /// The stream's that is known by this name.
    This,
    /// One's that was known by it before.
    Another,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const LOG: Name = (JobKey { job: 1, attempt: 1 }, 0);
    const FILE: Name = (JobKey { job: 1, attempt: 1 }, 1);

    fn give(flushes: &mut Flushes, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        flushes.handle(now, input, &mut out);
        out
    }

    fn opened(name: Name, length: u64) -> Flushes {
        let mut flushes = Flushes::default();
        assert_eq!(give(&mut flushes, 0, Input::Opened(name, length)), []);
        flushes
    }

    fn flush(name: Name, length: u64, new: bool) -> Output {
        Output::Flush { name, length, new }
    }

    #[test]
    fn few_bytes_wait_a_moment_and_many_do_not() {
        let mut flushes = opened(LOG, 10);
        assert_eq!(give(&mut flushes, 5, Input::Appended(LOG, 20)), []);
        assert_eq!(give(&mut flushes, 6, Input::Appended(LOG, 30)), []);
        assert_eq!(flushes.deadline(), Some(5 + DELAY_MS));
        assert_eq!(give(&mut flushes, 5 + DELAY_MS, Input::Tick), [flush(LOG, 30, true)]);
        assert_eq!(flushes.deadline(), None);
        // What comes while it is flushed waits for the next.
        assert_eq!(give(&mut flushes, 60, Input::Appended(LOG, 40 + BYTES)), []);
        let out = give(&mut flushes, 70, Input::Flushed(LOG, 30, true));
        assert_eq!(out, [Output::Durable(LOG, 30), flush(LOG, 40 + BYTES, false)]);
        assert_eq!(give(&mut flushes, 71, Input::Appended(LOG, 41 + BYTES)), []);
        assert_eq!(give(&mut flushes, 72, Input::Flushed(LOG, 40 + BYTES, true)), [Output::Durable(LOG, 40 + BYTES)]);
        assert_eq!((flushes.deadline(), flushes.is_idle()), (Some(72 + DELAY_MS), false));
        assert_eq!(give(&mut flushes, 73, Input::Hurry(LOG.0)), [flush(LOG, 41 + BYTES, false)]);
        give(&mut flushes, 74, Input::Flushed(LOG, 41 + BYTES, true));
        assert!(flushes.is_idle() && flushes.deadline().is_none());
        assert_eq!(give(&mut flushes, 75, Input::Closed(LOG)), [Output::Forget(LOG)]);
        assert_eq!(give(&mut flushes, 76, Input::Appended(LOG, 1)).len(), 1, "it is not known any more");
    }

    #[test]
    fn a_file_is_compared_and_a_log_packed_when_they_are_durable_and_not_before() {
        let mut flushes = opened(FILE, 0);
        give(&mut flushes, 0, Input::Opened(LOG, 0));
        give(&mut flushes, 0, Input::Appended(FILE, 7));
        give(&mut flushes, 0, Input::Appended(LOG, 9));
        assert_eq!(give(&mut flushes, 1, Input::Seal(FILE, 7)), [flush(FILE, 7, true)]);
        assert_eq!(give(&mut flushes, 1, Input::Closed(FILE)), [], "somebody waits for it");
        let durable = give(&mut flushes, 2, Input::Flushed(FILE, 7, true));
        assert_eq!(durable, [Output::Durable(FILE, 7), Output::Compare(FILE)]);
        let sealed = give(&mut flushes, 3, Input::Compared(FILE, Some(true)));
        assert_eq!(sealed, [Output::Forget(FILE), Output::Sealed(FILE, Some(true))]);
        assert_eq!(give(&mut flushes, 4, Input::Finish(LOG.0, true)), [flush(LOG, 9, true)]);
        let packed = give(&mut flushes, 5, Input::Flushed(LOG, 9, true));
        assert_eq!(packed, [Output::Durable(LOG, 9), Output::Forget(LOG), Output::Pack(LOG.0, true)]);
        // Of what is not known all is durable.
        assert_eq!(give(&mut flushes, 6, Input::Finish(LOG.0, false)), [Output::Pack(LOG.0, false)]);
        // One that is empty is durable when its name is.
        give(&mut flushes, 7, Input::Opened(FILE, 0));
        assert_eq!(give(&mut flushes, 7, Input::Seal(FILE, 0)), [flush(FILE, 0, true)]);
        let durable = give(&mut flushes, 8, Input::Flushed(FILE, 0, true));
        assert_eq!(durable, [Output::Durable(FILE, 0), Output::Compare(FILE)]);
        // And one of another length is not looked at.
        let mut flushes = opened(FILE, 5);
        give(&mut flushes, 0, Input::Seal(FILE, 9));
        let other = give(&mut flushes, 1, Input::Flushed(FILE, 5, true));
        assert_eq!(other, [Output::Durable(FILE, 5), Output::Sealed(FILE, Some(false))]);
    }

    #[test]
    fn what_could_not_be_flushed_is_cut_back_and_what_is_removed_is_forgotten() {
        let mut flushes = opened(LOG, 3);
        give(&mut flushes, 0, Input::Appended(LOG, 8));
        give(&mut flushes, 0, Input::Hurry(LOG.0));
        let failed = give(&mut flushes, 1, Input::Flushed(LOG, 8, false));
        assert_eq!(failed, [Output::Forget(LOG), Output::CutBack(LOG, 3)]);
        give(&mut flushes, 2, Input::Opened(LOG, 3));
        give(&mut flushes, 2, Input::Appended(LOG, 8));
        give(&mut flushes, 2, Input::HurryAll);
        assert_eq!(give(&mut flushes, 3, Input::Remove(LOG.0)), [Output::Forget(LOG)]);
        assert_eq!(give(&mut flushes, 4, Input::Flushed(LOG, 8, true)), []);
        assert!(flushes.deadline().is_none());
        for input in
            [Input::Flushed(LOG, 8, true), Input::Compared(LOG, None), Input::Seal(LOG, 8), Input::Appended(LOG, 8)]
        {
            assert!(matches!(give(&mut flushes, 5, input).as_slice(), [Output::Bug(_)]));
        }
    }

    #[test]
    fn what_was_under_way_when_a_file_was_removed_says_nothing_of_the_next_of_its_name() {
        let mut flushes = opened(LOG, 0);
        give(&mut flushes, 0, Input::Appended(LOG, 100));
        give(&mut flushes, 0, Input::Hurry(LOG.0));
        give(&mut flushes, 1, Input::Remove(LOG.0));
        give(&mut flushes, 2, Input::Opened(LOG, 0));
        give(&mut flushes, 2, Input::Appended(LOG, 5));
        assert_eq!(give(&mut flushes, 2, Input::Seal(LOG, 5)), [], "one flush of a name at a time");
        assert_eq!(give(&mut flushes, 3, Input::Flushed(LOG, 100, true)), [flush(LOG, 5, true)]);
        let out = give(&mut flushes, 4, Input::Flushed(LOG, 5, true));
        assert_eq!(out, [Output::Durable(LOG, 5), Output::Compare(LOG)]);
        // And a comparison.
        give(&mut flushes, 5, Input::Remove(LOG.0));
        give(&mut flushes, 5, Input::Opened(LOG, 0));
        give(&mut flushes, 5, Input::Appended(LOG, 6));
        give(&mut flushes, 5, Input::Remove(LOG.0));
        give(&mut flushes, 5, Input::Opened(LOG, 6));
        assert_eq!(give(&mut flushes, 5, Input::Seal(LOG, 6)), []);
        assert_eq!(give(&mut flushes, 6, Input::Compared(LOG, Some(false))), [flush(LOG, 6, true)]);
        // One that was not removed fails alone.
        give(&mut flushes, 7, Input::Flushed(LOG, 6, true));
        let unread = give(&mut flushes, 8, Input::Compared(LOG, None));
        assert_eq!(unread, [Output::Forget(LOG), Output::Sealed(LOG, None)]);
        assert!(flushes.is_idle());
    }

    #[test]
    fn only_so_many_are_flushed_at_once_and_the_others_have_their_turn() {
        let mut flushes = Flushes::default();
        let name = |job: usize| (JobKey { job: job as u64, attempt: 1 }, 0);
        let mut out = vec![];
        for job in 0..FLUSHES + 2 {
            flushes.handle(0, Input::Opened(name(job), 0), &mut out);
            flushes.handle(0, Input::Appended(name(job), 1), &mut out);
            flushes.handle(0, Input::Hurry(name(job).0), &mut out);
        }
        assert_eq!(out.len(), FLUSHES);
        let next = give(&mut flushes, 1, Input::Flushed(name(0), 1, true));
        assert_eq!(next, [Output::Durable(name(0), 1), flush(name(FLUSHES), 1, true)]);
        // One that is removed while it waits takes the turn of nobody.
        let last = name(FLUSHES + 2);
        give(&mut flushes, 1, Input::Opened(last, 0));
        give(&mut flushes, 1, Input::Appended(last, 1));
        assert_eq!(give(&mut flushes, 1, Input::Hurry(last.0)), []);
        give(&mut flushes, 1, Input::Remove(name(FLUSHES + 1).0));
        let next = give(&mut flushes, 2, Input::Flushed(name(1), 1, true));
        assert_eq!(next, [Output::Durable(name(1), 1), flush(last, 1, true)]);
    }
}
