//! What is on the disk → a ledger to go on with: the index as the journal has it, what is missing said, nothing removed.
//!
//! The records are taken from what has the most of them: the index, if it is what it was, or the newest snapshot that is
//! whole; then come the journal's lines after that. Lines that are missing there are lost, and said by their numbers. Were
//! files of the journal damaged, a new snapshot is made at once and they are moved away, so that damage is met, and said, once.

use super::index::{Filling, Index, Mark, Opened, Trouble};
use super::journal::survey::{self, Survey, list, missing, words};
use super::journal::{self, Journal, Role, snapshot};
use super::keys::{self, Kind, RECORDS};
use super::lost::{self, Lost};
use super::paths::sync_directory;
use super::{StoreError, write_format};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sai_core::numbers::Numbers;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of older files that are compared at each start, when the newest snapshot and what came after it are whole: a
/// fraction of a second. With more of them they are compared when they are needed.
const CHECKED_BYTES: u64 = 32 << 20;
/// Lines that are taken for lost when nobody can say how many.
const UNKNOWN_LINES: u64 = 64;

fn full(trouble: Trouble) -> StoreError {
    match trouble {
        Trouble::Full => StoreError::Full,
        Trouble::Other(error) => error,
    }
}

/// What takes lines.
pub(super) type Take<'a> = &'a mut dyn FnMut(&str) -> Result<(), StoreError>;

/// The journal's files.
pub(super) struct Pieces {
    directory: PathBuf,
    snapshots: Vec<Survey>,
    segments: Vec<Survey>,
    /// Copies under another name.
    foreign: Vec<Survey>,
}

impl Pieces {
    /// Reads the files from the newest snapshot on, and the older ones too when they are few or needed.
    pub(super) fn survey(state: &Path) -> Result<Self, StoreError> {
        let directory = journal::directory(state);
        let failed = |error: io::Error| StoreError::file(&directory, "list", &error);
        let all = match list(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            all => all.map_err(failed)?,
        };
        let bytes: u64 = all
            .iter()
            .map(|(role, number)| fs::metadata(journal::path(&directory, *role, *number)).map_or(0, |file| file.len()))
            .sum();
        let newest = all.iter().filter(|(role, _)| *role == Role::Snapshot).map(|(_, number)| *number).max();
        if let Some(newest) = newest.filter(|_| bytes > CHECKED_BYTES) {
            let new = all.iter().copied().filter(|(_, number)| *number >= newest).collect();
            let pieces = Self::of(&directory, new);
            if pieces.foreign.is_empty() && pieces.snapshots.iter().chain(&pieces.segments).all(|piece| piece.intact) {
                return Ok(pieces);
            }
        }
        Ok(Self::of(&directory, all))
    }

    fn of(directory: &Path, files: Vec<(Role, u64)>) -> Self {
        let (mut snapshots, mut segments, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        for (role, number) in files {
            let piece = Survey::of(directory, role, number);
            match role {
                _ if piece.foreign => foreign.push(piece),
                Role::Snapshot => snapshots.push(piece),
                Role::Segment => segments.push(piece),
            }
        }
        Self { directory: directory.to_path_buf(), snapshots, segments, foreign }
    }

    /// The next numbers that the snapshots say.
    pub(super) fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::FIRST;
        self.snapshots.iter().filter_map(|piece| piece.numbers).for_each(|known| numbers.at_least(known));
        numbers
    }

    /// Whether an index that stands there can have been made from this journal. One that was kept from before another journal was
    /// put in the place of its own has other lines under the same numbers.
    pub(super) fn made(&self, mark: Mark) -> bool {
        let segment = self.segments.iter().rfind(|segment| segment.number <= mark.line);
        let Some(segment) = segment.filter(|_| mark.check != 0) else { return true };
        let mut found = Some(segment.check).filter(|_| segment.last == mark.line);
        if found.is_none() {
            // What cannot be read tells nothing.
            let _ = journal::read(&segment.path, &mut |line, _| {
                found = found.or(line.filter(|line| line.number == mark.line).map(|line| line.check));
            });
        }
        found.is_none_or(|check| check == mark.check)
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.segments.is_empty()
    }
}

/// Where the records are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Index,
    /// The snapshot with this number.
    Snapshot(u64),
    /// Nothing is whole: what can be read of all, the newest last.
    Nothing,
}

/// What is to be done, and what is to be said.
pub(super) struct Plan {
    base: Base,
    /// The line at which the base stands.
    from: u64,
    /// The last line that is known of.
    end: u64,
    /// What the base and the lines after it lack.
    pub missing: Vec<(u64, u64)>,
    /// Whether more may be missing than can be told.
    pub unsure: bool,
    /// Whether the journal alone, its last group aside, has everything.
    journal_whole: bool,
    /// Bytes behind the last whole group.
    torn: u64,
    /// What was found, in sentences.
    pub told: Vec<String>,
}

impl Plan {
    /// Whether records are, or may be, lost.
    pub(super) fn lost(&self) -> bool {
        self.unsure || !self.missing.is_empty()
    }

    pub(super) fn make(pieces: &Pieces, mark: Option<u64>) -> Self {
        let newest = pieces.snapshots.iter().map(|snapshot| snapshot.number).max();
        let whole = pieces.snapshots.iter().filter(|snapshot| snapshot.intact).map(|snapshot| snapshot.number).max();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (index, segment) in pieces.segments.iter().enumerate() {
            let clip = if index + 1 == pieces.segments.len() { segment.last } else { u64::MAX };
            runs.extend(segment.runs.iter().filter(|run| run.0 <= clip).map(|run| (run.0, run.1.min(clip))));
        }
        let last = pieces.segments.last();
        // A segment is begun before the snapshot that ends before it: with that one gone, lines may be gone with it.
        let end_gone = last.is_none_or(|last| newest.is_some_and(|newest| last.number <= newest));
        let lines = runs.iter().map(|run| run.1).chain(newest).chain(last.map(|last| last.number.saturating_sub(1)));
        let end = lines.chain(mark).max().unwrap_or(0);
        let (base, from) = match (mark, whole) {
            (Some(mark), _) if whole.is_none_or(|whole| mark >= whole) => (Base::Index, mark),
            (_, Some(whole)) => (Base::Snapshot(whole), whole),
            (_, None) => (Base::Nothing, newest.unwrap_or(0)),
        };
        let torn = last.map_or(0, |last| last.bytes - last.whole);
        let bad_tail = torn > 0 && last.is_some_and(|last| last.bad > 0);
        let mut plan = Self {
            base,
            from,
            end,
            missing: missing(&mut runs, from.saturating_add(1), end),
            unsure: base == Base::Nothing || pieces.is_empty() || (mark.is_none() && end_gone),
            journal_whole: !end_gone
                && whole.is_some_and(|whole| missing(&mut runs, whole.saturating_add(1), end).is_empty()),
            torn,
            told: Vec::new(),
        };
        let mut told = Vec::new();
        for piece in pieces.damaged(&plan) {
            let what = if piece.foreign { "a copy of another file" } else { "damaged" };
            let gaps = missing(&mut piece.runs.clone(), piece.runs.first().map_or(1, |run| run.0), piece.last);
            let gaps = if gaps.is_empty() { String::new() } else { format!(" ({})", words(&gaps)) };
            told.push(format!("{} is {what}{gaps}", piece.path.display()));
        }
        let damaged = !told.is_empty();
        plan.told = told;
        if let Some(last) = last.filter(|_| torn > 0) {
            let of = if bad_tail && mark.is_none() { ", if it is not damaged" } else { "" };
            plan.told.push(format!(
                "the last {torn} bytes of {} are no whole group, as a crash leaves it{of}; they are cut off",
                last.path.display()
            ));
        }
        if !plan.missing.is_empty() {
            plan.told.push(format!(
                "the journal lacks {}, and what was recorded there is lost; numbers that may have been given there are not \
                 given again",
                words(&plan.missing)
            ));
        } else if pieces.is_empty() {
            plan.told.push(format!("the journal is gone; this is what its index had up to line {end}"));
        } else if plan.unsure {
            plan.told.push(format!("what the journal recorded up to line {end} is not all there any more"));
        } else if !plan.journal_whole {
            plan.told.push("what the journal lacks was found in its index: no record is lost".to_string());
        } else if damaged {
            plan.told.push("all of it is in newer or older files too: no record is lost".to_string());
        }
        plan
    }

    /// Calls `take` with the lines that follow the base, those of damaged snapshots where they belong, with the line at which
    /// each of them holds.
    pub(super) fn replay(
        &self,
        pieces: &Pieces,
        take: &mut dyn FnMut(u64, &str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let from = if self.base == Base::Nothing { 0 } else { self.from };
        let mut files: Vec<(u64, Role, &Survey)> = Vec::new();
        for snapshot in &pieces.snapshots {
            let is_base = self.base == Base::Snapshot(snapshot.number);
            if is_base || (snapshot.number > from || self.base == Base::Nothing) && !snapshot.intact {
                files.push((snapshot.number, Role::Snapshot, snapshot));
            }
        }
        for (index, segment) in pieces.segments.iter().enumerate() {
            let next = pieces.segments.get(index + 1).map_or(u64::MAX, |next| next.number);
            if next > from.saturating_add(1) {
                files.push((segment.number.saturating_sub(1), Role::Segment, segment));
            }
        }
        files.sort_by_key(|(at, role, _)| (*at, *role));
        let newest = pieces.segments.last().map_or(0, |last| last.number);
        let mut applied = from;
        for (at, role, piece) in files {
            let clip = if role == Role::Segment && piece.number == newest { piece.last } else { u64::MAX };
            let mut result = Ok(());
            let read = journal::read(&piece.path, &mut |line, _| {
                let Some(line) = line.filter(|_| result.is_ok()) else { return };
                match role {
                    Role::Snapshot if survey::is_frame(line.text) => {}
                    Role::Snapshot => result = take(at, line.text),
                    Role::Segment if line.number > applied && line.number <= clip => {
                        applied = line.number;
                        result = take(line.number, line.text);
                    }
                    Role::Segment => {}
                }
            });
            // What cannot be opened is among what is missing.
            if read.is_ok() {
                result?;
            }
        }
        Ok(())
    }

    /// Calls `take` with all records that there are.
    pub(super) fn records(
        &self,
        pieces: &Pieces,
        index: Option<&Index>,
        take: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Some(index) = index.filter(|_| self.base == Base::Index) {
            for kind in RECORDS {
                index.each(kind, |key, record| take(keys::text(kind, key, record)?))?;
            }
        }
        self.replay(pieces, &mut |_, text| take(text))
    }
}

impl Pieces {
    /// The files that are not as they were written. A last group that is not whole is no damage of its file, unless the
    /// index knows that it was.
    fn damaged<'a>(&'a self, plan: &Plan) -> impl Iterator<Item = &'a Survey> {
        let last = self.segments.last().map_or(0, |last| last.number);
        let acknowledged = if plan.base == Base::Index { plan.from } else { 0 };
        let torn = move |piece: &Survey| {
            let runs = piece.runs.iter().filter(|run| run.0 <= piece.last);
            piece.number == last
                && piece.last >= acknowledged
                && missing(&mut runs.copied().collect::<Vec<_>>(), piece.number, piece.last).is_empty()
        };
        let segments = self.segments.iter().filter(move |piece| !piece.intact && !torn(piece));
        self.snapshots.iter().filter(|piece| !piece.intact).chain(segments).chain(&self.foreign)
    }
}

/// An index that is not gone on with.
struct Useless {
    why: String,
    /// Whether it is none of this journal's, and so may hold what this one never had.
    foreign: bool,
}

/// A ledger's parts, ready to go on.
pub(super) struct Recovered {
    pub journal: Journal,
    pub index: Index,
    pub numbers: Numbers,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: u64,
}

/// Reads what is under `state` and makes it ready to go on. What there is to say is added to `told`.
pub(super) fn recover(state: &Path, lost: &mut Lost, told: &mut Vec<String>) -> Result<Recovered, StoreError> {
    let pieces = Pieces::survey(state)?;
    if pieces.is_empty() {
        return Err(StoreError::Missing { state: state.to_path_buf(), what: "its journal is gone" });
    }
    let (index, useless) = match Index::open(state)? {
        Opened::Good(index) | Opened::Wasteful(index) if !pieces.made(index.mark()) => {
            index.close();
            (None, Some(Useless { why: "it is of another journal".to_string(), foreign: true }))
        }
        Opened::Good(index) => (Some((index, false)), None),
        Opened::Wasteful(index) => (Some((index, true)), None),
        Opened::Absent => {
            if pieces.segments.iter().any(|segment| segment.last > 0) {
                told.push("the index was missing; it is made again from the journal".to_string());
            }
            (None, None)
        }
        Opened::Damaged(why) => (None, Some(Useless { why, foreign: false })),
    };
    let mut plan = Plan::make(&pieces, index.as_ref().map(|(index, _)| index.mark().line));
    match useless {
        // Its place is taken by the new one. So it is after most power cuts, and nobody need do anything.
        Some(Useless { why, foreign: false })
            if !plan.lost() && plan.torn == 0 && pieces.damaged(&plan).next().is_none() =>
        {
            told.push(format!(
                "the index was not usable ({why}); it was made again from the journal, which has all of it"
            ));
        }
        Some(Useless { why, .. }) => {
            lost.take(&state.join("ledger"), &why)?;
            let place = lost.place();
            told.push(format!(
                "the index is not usable ({why}); it is made again from the journal, and kept in {place}"
            ));
        }
        None => {}
    }
    let remake = match (&index, plan.base) {
        (Some((_, wasteful)), Base::Index) => *wasteful && plan.journal_whole,
        _ => true,
    };
    let mut old = index.map(|(index, _)| index);
    if remake {
        if let Some(index) = old.take() {
            index.close();
        }
        plan = Plan { told: std::mem::take(&mut plan.told), ..Plan::make(&pieces, None) };
    }
    let index = match old {
        Some(index) => index,
        None => Index::make_beside(state)?,
    };
    let mut filling = Filling::new(&index);
    plan.replay(&pieces, &mut |line, text| filling.take(line, text).map_err(full))?;
    let mut numbers = lost::numbers(state).map_err(|error| StoreError::file(state, "list", &error))?;
    numbers.at_least(pieces.numbers());
    filling.finish(plan.end, numbers).map_err(full)?;
    let index = if remake { index.take_place(state)? } else { index };
    numbers = index.mark().numbers;
    if plan.lost() {
        let lines = plan.missing.iter().map(|(first, last)| last - first + 1).sum::<u64>();
        let lines = if plan.unsure { lines.max(UNKNOWN_LINES) } else { lines };
        numbers.pass_over(lines);
    }
    let (journal, snapshot_bytes) = go_on(&pieces, &plan, &index, numbers, lost)?;
    told.append(&mut plan.told);
    Ok(Recovered { journal, index, numbers, snapshot_bytes })
}

/// Opens the journal's end: the last segment or, after damage, a new one after a new snapshot.
fn go_on(
    pieces: &Pieces,
    plan: &Plan,
    index: &Index,
    numbers: Numbers,
    lost: &mut Lost,
) -> Result<(Journal, u64), StoreError> {
    let failed = |error: io::Error| StoreError::disk(&pieces.directory, "go on with", &error);
    let damaged: Vec<&Survey> = pieces.damaged(plan).collect();
    let newest = pieces.snapshots.last().map_or(0, |snapshot| snapshot.bytes);
    let last = pieces.segments.last();
    if let Some(last) = last.filter(|_| plan.torn > 0) {
        // A power cut may leave a length without its bytes, which are zeros then, and nothing to keep.
        let mut bytes = vec![0; usize::try_from(plan.torn).unwrap_or(usize::MAX).min(journal::LINE_BYTES as usize)];
        let read = fs::File::open(&last.path).and_then(|file| file.read_at(&mut bytes, last.whole));
        bytes.truncate(read.map_err(failed)?);
        if bytes.iter().any(|byte| *byte != 0) {
            lost.keep(&last.path.with_extension("end"), &bytes, "no whole group, as a crash leaves it")?;
        }
    }
    if let Some(last) = last.filter(|_| damaged.is_empty() && plan.journal_whole) {
        let journal =
            Journal::resume(&pieces.directory, last.number, last.group..last.whole, last.last).map_err(failed)?;
        return Ok((journal, newest));
    }
    // Behind all lines and names there are, so that none of them is written over.
    let number = plan.end.max(last.map_or(0, |last| last.number));
    let mut journal = Journal::begin(&pieces.directory, number).map_err(failed)?;
    let bytes = write_snapshot(&pieces.directory, number, numbers, index)?;
    if plan.lost() {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let line = keys::line_of_damage(at, &plan.told.join("; "));
        journal.append(std::iter::once(line.as_str())).map_err(failed)?;
        let mut filling = Filling::new(index);
        filling.take(journal.last(), &line).map_err(full)?;
        filling.finish(journal.last(), numbers).map_err(full)?;
    } else {
        Filling::new(index).finish(journal.last(), numbers).map_err(full)?;
    }
    for piece in damaged {
        lost.take(&piece.path, "not as it was written")?;
    }
    lost.sync()?;
    sync_directory(&pieces.directory).map_err(failed)?;
    Ok((journal, bytes))
}

fn write_snapshot(directory: &Path, number: u64, numbers: Numbers, index: &Index) -> Result<u64, StoreError> {
    let failed = |error: io::Error| StoreError::disk(directory, "write a snapshot into", &error);
    let mut writer = snapshot::Writer::begin(directory, number, numbers).map_err(failed)?;
    for kind in RECORDS {
        index.each(kind, |key, record| writer.record(keys::text(kind, key, record)?).map_err(failed))?;
    }
    writer.finish().map_err(failed)
}

/// Makes the journal of a state directory that has none, from these records, and says by the format file that it is there.
pub(super) fn found(
    state: &Path,
    numbers: Numbers,
    records: &mut dyn FnMut(Take<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (directory, place) = (state.join("journal.new"), journal::directory(state));
    let failed = |error: io::Error| StoreError::disk(&directory, "write", &error);
    if directory.exists() {
        // Of a time when this was not done to its end: what it was made from is still there.
        fs::remove_dir_all(&directory).map_err(failed)?;
    }
    Journal::begin(&directory, 0).map_err(failed)?;
    let mut writer = snapshot::Writer::begin(&directory, 0, numbers).map_err(failed)?;
    let filled = records(&mut |text| writer.record(text).map_err(failed));
    if let Err(error) = filled {
        // What cannot be removed now is removed before the next try.
        let _ = fs::remove_dir_all(&directory);
        return Err(error);
    }
    writer.finish().map_err(failed)?;
    if place.exists() {
        // Of a ledger without records, which is imported into.
        let (new, old) = ((CWD, &directory), (CWD, &place));
        renameat_with(new.0, new.1, old.0, old.1, RenameFlags::EXCHANGE).map_err(|error| failed(error.into()))?;
        fs::remove_dir_all(&directory).map_err(failed)?;
    } else {
        fs::rename(&directory, &place).map_err(failed)?;
    }
    sync_directory(state).map_err(failed)?;
    write_format(state)
}

/// Takes over what a version without a journal kept. What that was is moved away, and as good as it was.
pub(super) fn migrate(state: &Path, lost: &mut Lost, told: &mut Vec<String>) -> Result<(), StoreError> {
    if !state.join("ledger").exists() && !state.join("ledger.old").exists() {
        return Err(StoreError::Missing { state: state.to_path_buf(), what: "its ledger is gone" });
    }
    let half = journal::directory(state);
    if half.exists() {
        lost.take(&half, "made from the older ledger, but not to the end")?;
    }
    let index = Index::open_old(state)?;
    let mut numbers = lost::numbers(state).map_err(|error| StoreError::file(state, "list", &error))?;
    numbers.at_least(index.mark().numbers);
    let after = |kind| -> Result<u64, StoreError> { Ok(index.last(kind)?.map_or(1, |last| last.saturating_add(1))) };
    numbers.at_least(Numbers { event: after(Kind::Event)?, job: after(Kind::Job)?, action: after(Kind::Action)? });
    let mut count = 0_u64;
    found(state, numbers, &mut |take| {
        for kind in RECORDS {
            index.each(kind, |key, record| {
                count += 1;
                take(&keys::with_kind(kind, keys::text(kind, key, record)?))
            })?;
        }
        Ok(())
    })?;
    index.close();
    lost.take(&state.join("ledger"), "what an older version kept; all of it was taken over")?;
    told.push(format!(
        "{count} records of an older version's ledger were taken over; that one is now in {}",
        lost.place()
    ));
    Ok(())
}
