//! An assignment at a board and the images that its build made → the board flashed and judged, all that happens there as records of the
//! attempt's log, and its verdict.

use crate::boards::{Bench, Place, Work};
use crate::git::Stop;
use crate::mirror::Trouble;
use sai_buddy::delivering::Image;
use sai_buddy::ports::Places;
use sai_buddy::serial::monotonic_ns;
use sai_buddy::stop;
use sai_buddy::trying::{self, Ended, Gate, Wanted};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::axis::{EDGE_BYTES, Entry, Loss};
use sai_core::bench::{self, Board};
use sai_core::job::{Blame, Outcome, Verdict};
use sai_core::ledger::Needed;
use sai_core::ordered::Map;
use sai_core::record::Record;
use sai_core::run::IMAGES;
use sai_core::share::{self, Shares};
use sai_core::together::{self, End, Input, Output, Reached, Together};
use sai_core::trial::{self, Trial, Trials};
use sai_core::trying::{Found, Written, fits};
use sai_core::wire::{Assignment, AtBoard};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// Records of several boards that wait to be written at most: a board whose log is slow waits, and its owner has them meanwhile.
const WAITING: usize = 64;
/// Time between two looks whether several boards are to be given up, while none of them says anything.
const LOOK: Duration = Duration::from_millis(100);
/// What is said of what a full disk does not take.
pub(super) const NO_ROOM: &str = "the agent's disk has no room for the log";
/// Records without a byte or an edge of the board's that are kept when there is no room: moments and what is done, until the board
/// says something. Of a step that asks for things all the time there are more.
const REST: u32 = 1_000;
/// Index of the step that flashes.
const FLASH: u32 = IMAGES + 1;

/// Nanoseconds of the clock that everything at a board is stamped by, CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    monotonic_ns()
}

/// The build whose images a job at a board is to flash, among what it needs: a board's job needs its own build first.
fn build(assignment: &Assignment) -> Option<&Needed> {
    assignment.needs.as_deref().unwrap_or_default().first()
}

/// Leaves of the files of needs the images alone: nothing else of them comes to a board.
pub fn only_images(assignment: &mut Assignment) {
    let Some(trials) = assignment.board.as_ref().and_then(|board| trial::all_of(&board.trial).ok()) else { return };
    let images = trials.images();
    let mut needs = assignment.needs.take().unwrap_or_default();
    needs.truncate(1);
    for needed in &mut needs {
        needed.artifacts.retain(|file| images.contains(&file.path));
    }
    assignment.needs = Some(needs);
}

/// One board of a job, and its part.
struct Part {
    board: Board,
    trial: Trial,
    images: Vec<Image>,
}

/// What the parts of a job say to whoever writes its log.
enum Said {
    Part(Input),
    Cancel,
}

impl Work {
    /// Does it, until it is judged or `stop` is asked for, which gives no verdict. `log` gets records as they stand in a log, as long as
    /// there is room for more of them: without, it ends, and the log says how much came that it has not got.
    ///
    /// # Errors
    /// What keeps it from being begun, and whose fault that is.
    pub fn run(
        self,
        stop: &Stop,
        room: &dyn Fn() -> bool,
        log: &mut dyn FnMut(Vec<u8>) -> io::Result<()>,
    ) -> Result<Option<Verdict>, Trouble> {
        if self.assignment.session.is_some() || self.assignment.lease.is_some() {
            return self.lend(stop, room, log);
        }
        let at = self.assignment.board.as_ref().ok_or_else(|| Trouble::ours("the job is none at a board"))?;
        let place = self.place.clone().ok_or_else(|| gone(&at.name))?;
        let boards = self.boards(at, &place)?;
        let trials = if self.checks() {
            Trials::of_health(&boards)
                .ok_or_else(|| Trouble::of_platform(format!("{} says no longer how it is found to be well", at.name)))?
        } else {
            trial::all_of(&at.trial).map_err(|why| {
                Trouble::of_platform(format!("this agent does not understand what is to be done: {why}"))
            })?
        };
        if boards.len() != trials.parts.len() {
            let (has, wants) = (boards.len(), trials.parts.len());
            return Err(Trouble::specs(format!("{} has {has} boards, and {wants} are wanted", at.name)));
        }
        let several = boards.len() > 1;
        let mut parts = Vec::new();
        for (board, trial) in boards.into_iter().zip(trials.parts) {
            fits(&trial, &board).map_err(Trouble::specs)?;
            match self.images(&trial, &board, &place) {
                Ok(images) => parts.push(Part { board, trial, images }),
                // What is not there says nothing of the board: it is for whoever wrote its file.
                Err(found) if self.checks() => {
                    return Err(Trouble::specs(format!("`health` of {}: {}", board.name, found.verdict().cause)));
                }
                Err(found) => return Ok(Some(verdict(&found, several.then_some(board.name)))),
            }
        }
        let stop =
            stop.as_fd().try_clone_to_owned().map_err(|error| Trouble::disk("beginning at the board", &error))?;
        let channels = parts.iter().map(|part| part.board.consoles.len() + part.board.lines.len()).sum();
        let mut kept = Kept::new(self.assignment.log_bytes, channels);
        let mut write = |micros: u64, first: u8, written: &Written| {
            let fills = kept.fills(written, room);
            let bytes = kept.encode(micros, first, written);
            if !bytes.is_empty() {
                log(bytes)?;
            }
            if fills { Err(io::Error::new(io::ErrorKind::StorageFull, NO_ROOM)) } else { Ok(()) }
        };
        let cancel = stop::Stop::when(stop);
        let ended = match parts.pop() {
            Some(part) if parts.is_empty() => {
                let wanted = self.wanted(part, &place, cancel, None);
                (end(trying::run(wanted, &mut |micros, written| write(micros, 0, written))), None)
            }
            last => {
                parts.extend(last);
                self.together(parts, &place, &cancel, &mut write)?
            }
        };
        let (full, beyond) = (kept.full, kept.beyond());
        if !beyond.is_empty() {
            // Who takes records no more is no worse off without these.
            let _ = log(beyond);
        }
        match ended {
            // No board is the worse for it.
            (End::Found(found), board) if full => {
                Ok(Some(Verdict { trouble: Blame::Agent.word(), ..verdict(&found, board) }))
            }
            (End::Found(found), board) => Ok(Some(verdict(&found, board))),
            (End::GivenUp, _) => Ok(None),
            // Somebody at the machine was faster.
            (End::Busy(why), _) => Err(Trouble { blame: Blame::Nobody, ..Trouble::ours(why) }),
        }
    }

    fn wanted(&self, part: Part, place: &Place, cancel: stop::Stop, gate: Option<Gate>) -> Wanted {
        let Part { board, trial, images } = part;
        // What we start dies with us, and an owner outlives the job: the agent sees to that.
        let (file, directory) = (place.file.clone().into(), place.run.clone().into());
        let whose = Whose { file, board: board.name.clone(), directory, begins: Begins::Never };
        let (places, values, began_ns) = (Places::default(), self.values(), self.began_ns);
        Wanted { whose, board, places, trial, images, values, first_step: FLASH, began_ns, cancel, gate }
    }

    /// Tries several boards at the same time, each by a thread, whose records come to one log.
    fn together(
        &self,
        parts: Vec<Part>,
        place: &Place,
        cancel: &stop::Stop,
        write: &mut dyn FnMut(u64, u8, &Written) -> io::Result<()>,
    ) -> Result<(End, Option<String>), Trouble> {
        let failed = |error: io::Error| Trouble::disk("beginning at the boards", &error);
        let boards: Vec<&Board> = parts.iter().map(|part| &part.board).collect();
        let mut machine = Together::new(together::places(&boards).map_err(Trouble::specs)?, FLASH);
        let (give, said) = sync_channel(WAITING);
        let (held, is_held) = stop::Stop::pair().map_err(failed)?;
        let (flashed, is_flashed) = stop::Stop::pair().map_err(failed)?;
        let (stops, stopped) = stop::Stop::pair().map_err(failed)?;
        let (mut held, mut flashed, mut stops) = (Some(held), Some(flashed), Some(stops));
        let wanted = |(number, part): (usize, Part)| {
            let give = give.clone();
            let reached = move |reached| drop(give.send(Said::Part(Input::Reached(number, reached))));
            let gate = Gate { reached: Box::new(reached), held: is_held.clone(), flashed: is_flashed.clone() };
            self.wanted(part, place, stopped.clone(), Some(gate))
        };
        let wanted: Vec<Wanted> = parts.into_iter().enumerate().map(wanted).collect();
        thread::scope(|scope| {
            // With it goes whatever a part would wait for.
            let said = said;
            for (number, wanted) in wanted.into_iter().enumerate() {
                let give = give.clone();
                let part = move || {
                    let ended = trying::run(wanted, &mut |micros, written| {
                        let input = Input::Written(number, micros, written.clone());
                        give.send(Said::Part(input)).map_err(|_| io::Error::other("nobody writes the log any more"))
                    });
                    // Who does not hear of it does not wait for it either.
                    let _ = give.send(Said::Part(Input::Ended(number, end(ended))));
                };
                if let Err(error) = thread::Builder::new().name("part".into()).spawn_scoped(scope, part) {
                    drop(stops.take());
                    return Err(failed(error));
                }
            }
            drop(give);
            let mut deaf = None;
            loop {
                let next = match said.recv_timeout(LOOK) {
                    Ok(next) => next,
                    Err(RecvTimeoutError::Timeout) => Said::Cancel,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Trouble::ours("the boards were let go of without a verdict"));
                    }
                };
                if stops.is_some() && cancel.said() {
                    drop(stops.take());
                }
                let Said::Part(input) = next else { continue };
                let mut out = Vec::new();
                machine.handle(0, input, &mut out);
                for output in out {
                    match output {
                        Output::Write(micros, first, written) => {
                            // What a full disk does not take is counted.
                            let hears = deaf
                                .as_ref()
                                .is_none_or(|error: &io::Error| error.kind() == io::ErrorKind::StorageFull);
                            if hears && let Err(error) = write(micros, first, &written) {
                                deaf = Some(error);
                                drop(stops.take());
                            }
                        }
                        Output::Open(Reached::Held) => drop(held.take()),
                        Output::Open(Reached::Flashed) => drop(flashed.take()),
                        Output::Stop => drop(stops.take()),
                        Output::End(End::Found(found), board) => match deaf.take() {
                            None => return Ok((End::Found(found), board)),
                            Some(error) => return Ok((End::Found(Found::infra(error.to_string(), FLASH)), None)),
                        },
                        Output::End(ended, board) => {
                            let infra = |error: io::Error| End::Found(Found::infra(error.to_string(), FLASH));
                            return Ok((deaf.take().map_or(ended, infra), board));
                        }
                    }
                }
            }
        })
    }

    /// The boards as their owners know them: the file may have been changed since the agent read it.
    pub(super) fn boards(&self, at: &AtBoard, place: &Place) -> Result<Vec<Board>, Trouble> {
        let described = Bench::whole(place);
        let mut boards = Vec::new();
        for name in at.names() {
            // A file that is broken by now does not keep a board from being used that its owner knows.
            let unit: Vec<Board> = match &described {
                Ok(described) => described.unit(name).into_iter().cloned().collect(),
                Err(why) => [self.known(name, place)?.ok_or_else(|| Trouble::of_platform(why.clone()))?].to_vec(),
            };
            if unit.is_empty() {
                return Err(gone(name));
            }
            for board in unit {
                boards.push(self.known(&board.name, place)?.unwrap_or(board));
            }
        }
        Ok(boards)
    }

    /// A board by the description that its owner goes by.
    fn known(&self, board: &str, place: &Place) -> Result<Option<Board>, Trouble> {
        let (file, directory) = (place.file.clone().into(), place.run.clone().into());
        let whose = Whose { file, board: board.to_owned(), directory, begins: Begins::Never };
        // One that is not there, or too old to say, goes by the file as it is.
        let text = Visit::new(&whose).and_then(|visit| visit.described()).ok().flatten();
        let Some(text) = text else { return Ok(None) };
        let bench = bench::read(&place.file, &text).map_err(|errors| Trouble::of_platform(errors.join("\n")))?;
        bench.board(board).cloned().map(Some).ok_or_else(|| gone(board))
    }

    /// Whether it is to be found out how well the board is.
    fn checks(&self) -> bool {
        self.assignment.health == Some(true)
    }

    fn images(&self, trial: &Trial, board: &Board, bench: &Place) -> Result<Vec<Image>, Found> {
        let build = build(&self.assignment);
        let built = build.map(|build| self.files.join(&build.configuration).join(&build.platform));
        let place = match built {
            // Those that are known to be good are beside the file that names them.
            _ if self.checks() => Path::new(&bench.file).parent().unwrap_or(Path::new("/")).to_owned(),
            Some(built) => built,
            None => self.files.clone(),
        };
        let how = board.flash.as_ref();
        let one = |(target, path): &(String, String)| {
            // What a board lacks was told before.
            let target = how.and_then(|how| how.target(target))?;
            // Where an agent keeps it tells people nothing.
            let image = Image::read(&place.join(Path::new(path)), target);
            Some(image.map(|image| image.called(path)))
        };
        let images: Result<Vec<Image>, _> = trial.images.iter().filter_map(one).collect();
        images.map_err(|failure| Found::flashed(failure, FLASH))
    }

    /// What `${SAI_…}` stands for: those of the build.
    fn values(&self) -> Map<String, String> {
        let Assignment { repository, reference, revision, platform, configuration, .. } = &self.assignment;
        let configuration = build(&self.assignment).map_or(configuration, |build| &build.configuration);
        trial::values([repository, reference, revision, platform, configuration])
    }
}

pub(super) fn gone(name: &str) -> Trouble {
    Trouble::of_platform(format!("board {name} is offered no longer"))
}

fn end(ended: Ended) -> End {
    match ended {
        Ended::Found(found) => End::Found(found),
        Ended::GivenUp => End::GivenUp,
        Ended::Busy(why) => End::Busy(why),
    }
}

/// The end of an attempt, whose trouble is the board's: of several that of this one.
fn verdict(found: &Found, board: Option<String>) -> Verdict {
    let mut verdict = found.verdict();
    verdict.trouble = (verdict.outcome == Outcome::Infra).then(|| Blame::Platform.word()).flatten();
    if let Some(finding) = &mut verdict.verdict {
        finding.board = board;
    }
    verdict
}

/// What of a board's records is kept, each channel up to its share of the log.
pub(super) struct Kept {
    shares: Shares,
    /// Microseconds at which the last was written.
    last: u64,
    /// Records without a byte or an edge of the board's that came when there was no room.
    rest: u32,
    /// Whether there was no room for more.
    pub(super) full: bool,
}

impl Kept {
    /// Nothing yet, of a log of so many bytes and a board with so many channels.
    pub(super) fn new(log_bytes: u64, channels: usize) -> Self {
        Self { shares: Shares::new(log_bytes, channels), last: 0, rest: 0, full: false }
    }

    /// Whether this is the first for which there is no room: neither it nor what comes from now on is kept. It is something of the
    /// board's, so that the log has a loss wherever its end is a full disk's doing; of the rest a few still have room.
    pub(super) fn fills(&mut self, written: &Written, room: &dyn Fn() -> bool) -> bool {
        if self.full || room() {
            return false;
        }
        if !matches!(written, Written::Record(Record::Data(..)) | Written::Entry(Entry::Edges(_))) {
            self.rest += 1;
            if self.rest <= REST {
                return false;
            }
        }
        self.full = true;
        self.shares.handle(self.last / 1_000, share::Input::Full, &mut Vec::new());
        true
    }

    /// How much of what comes is kept.
    fn keeps(&mut self, input: share::Input) -> u64 {
        let mut out = Vec::new();
        self.shares.handle(self.last / 1_000, input, &mut out);
        if let Some(share::Output::Keep(kept)) = out.pop() { kept } else { 0 }
    }

    /// Bytes of the log for a record, whose channels are numbered from `first`: each of several boards has its own.
    pub(super) fn encode(&mut self, micros: u64, first: u8, written: &Written) -> Vec<u8> {
        let of = |channel: u8| channel.saturating_add(first);
        self.last = self.last.max(micros);
        let mut bytes = Vec::new();
        match written {
            Written::Record(Record::Data(channel, data)) => {
                let room = self.keeps(share::Input::Bytes { channel: of(*channel), bytes: data.len() as u64 });
                let data = data.get(..room as usize).unwrap_or(data);
                if !data.is_empty() {
                    Written::Record(Record::Data(*channel, data.to_vec())).encode_on(first, micros, &mut bytes);
                }
            }
            Written::Entry(Entry::Edges(edges)) => {
                let mut keeps = |channel| {
                    let channel = of(channel);
                    self.keeps(share::Input::Edge { channel, bytes: EDGE_BYTES as u64 }) > 0
                };
                let kept: Vec<_> = edges.iter().filter(|edge| keeps(edge.channel)).copied().collect();
                if !kept.is_empty() {
                    Entry::Edges(kept).encode_on(first, micros, &mut bytes);
                }
            }
            Written::Entry(Entry::Loss(channel, loss)) => {
                self.keeps(share::Input::Lost { channel: of(*channel), lost: loss.lost.unwrap_or(0) });
                written.encode_on(first, micros, &mut bytes);
            }
            Written::Record(_) | Written::Entry(_) => written.encode_on(first, micros, &mut bytes),
        }
        bytes
    }

    /// What tells of all that was beyond the shares.
    pub(super) fn beyond(mut self) -> Vec<u8> {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        self.shares.handle(self.last / 1_000, share::Input::End, &mut out);
        let why = if self.full { NO_ROOM } else { "its share of the log is full" };
        for output in out {
            if let share::Output::Beyond { channel, offset, lost } = output {
                let why = why.to_string();
                Entry::Loss(channel, Loss { offset, lost: Some(lost), why }).encode(self.last, &mut bytes);
            }
        }
        bytes
    }
}
