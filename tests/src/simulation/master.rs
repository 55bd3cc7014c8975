//! The master's edge: what the hub says → commits, files, frames; a crash at any moment, and the start after it.

use super::disk::{Files, Ledger, Row};
use super::files::Kept as KeptFiles;
use super::network::{Frame, Side};
use super::room::{Disk, Operation};
use super::sessions::Numbered;
use super::store::Store;
use super::waits::{TIMEOUT_S, amounts};
use super::{Bug, Event, Outcome, World};
use sai_core::hub::{self, Hub, Input, LinkId, Output, Terms};
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::AgentRecord;
use sai_core::limits::Millis;
use sai_core::numbers::Numbers;
use sai_core::plan::Kept;
use sai_core::restart::{self, Restart};
use sai_core::turns::{self, Turns};
use sai_core::watch;
use sai_core::wire::{DataHeader, MasterMessage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) enum Release {
    Send(LinkId, MasterMessage),
    Close(LinkId),
}

/// What of a turn of the hub waits for its rows.
#[derive(Default)]
struct Turn {
    releases: Vec<Release>,
    cancel: Option<Cancel>,
    /// The watch of a repository that waits to hear of it.
    settled: Option<usize>,
}

/// A cancel that the person is told has been taken.
struct Cancel {
    job: JobId,
    attempt: u32,
    /// The turn it was asked in.
    turn: u64,
}

/// The machine the master runs on, and its process while there is one.
pub(super) struct Master {
    pub(super) boot: u64,
    pub(super) hub: Option<Hub>,
    turns: Turns<Row, Turn>,
    /// Groups on their way to the disk's records; the first is being written.
    at_disk: VecDeque<(u64, Vec<Row>)>,
    /// Turns taken.
    turn: u64,
    /// The turn in which a job was last rebuilt.
    rebuilt: BTreeMap<JobId, u64>,
    pub(super) durable: Ledger,
    /// The ledger with the turns that are still on their way into it: what the process itself reads.
    pub(super) latest: Ledger,
    pub(super) files: Files,
    pub(super) store: Store,
    pub(super) kept: KeptFiles,
    finished: BTreeSet<JobKey>,
    links: BTreeMap<LinkId, usize>,
    tick: Option<Millis>,
    ticks_now: (Millis, u32),
    /// Virtual milliseconds a commit or flush takes at most.
    pub(super) slow: u64,
    /// The numbers that its process gives.
    pub(super) numbers: Numbers,
    pub(super) disk: Disk,
}

impl Default for Master {
    fn default() -> Self {
        Self {
            boot: 0,
            hub: None,
            turns: Turns::default(),
            at_disk: VecDeque::new(),
            turn: 0,
            rebuilt: BTreeMap::new(),
            durable: Ledger::default(),
            latest: Ledger::default(),
            files: Files::default(),
            store: Store::default(),
            kept: KeptFiles::default(),
            finished: BTreeSet::new(),
            links: BTreeMap::new(),
            tick: None,
            ticks_now: (0, 0),
            slow: 0,
            numbers: Numbers::FIRST,
            disk: Disk::default(),
        }
    }
}

impl Master {
    /// Whether nothing is on its way to the disk's records and files.
    pub(super) fn idle(&self) -> bool {
        self.hub.is_some() && self.turns.is_empty() && self.store.is_idle()
    }

    /// Whether groups wait to be written.
    pub(super) fn is_writing(&self) -> bool {
        !self.at_disk.is_empty()
    }

    /// A rebuild takes back what a cancel promised, even one that is not durable yet.
    pub(super) fn void_cancel(&mut self, job: JobId) {
        self.rebuilt.insert(job, self.turn);
    }
}

impl World {
    /// One turn of the hub.
    pub(super) fn hub(&mut self, input: Input) -> Outcome {
        self.hub_for(input, None, Vec::new())
    }

    /// One turn of the hub, with other records in the same commit.
    pub(super) fn hub_with(&mut self, input: Input, more: Vec<Row>) -> Outcome {
        self.hub_for(input, None, more)
    }

    pub(super) fn hub_for(&mut self, input: Input, cancel: Option<(JobId, u32)>, more: Vec<Row>) -> Outcome {
        let now = self.moment();
        let Some(hub) = self.master.hub.as_mut() else { return Ok(()) };
        let mut out = Vec::new();
        if self.trace {
            let text = format!("{input:?}");
            eprintln!("{:>9}   hub << {}", self.now - super::START, super::checks::short(&text));
        }
        hub.handle(now, input, &mut out);
        self.master.turn += 1;
        let number = self.master.turn;
        let cancel = cancel.map(|(job, attempt)| Cancel { job, attempt, turn: number });
        let (mut turn, mut rows) = (Turn { cancel, ..Turn::default() }, Vec::new());
        let mut begun: BTreeSet<JobKey> = BTreeSet::new();
        for output in out {
            self.note(|| format!("  hub >> {}", super::checks::short(&format!("{output:?}"))));
            match output {
                Output::Event(record) => self.row(&mut rows, Row::Event(record)),
                Output::Job(record) => {
                    self.check_decision(&record)?;
                    self.note_broken_image(&record);
                    self.row(&mut rows, Row::Job(record));
                }
                Output::Agent(record) => {
                    self.check_aside(&record)?;
                    self.row(&mut rows, Row::Agent(record));
                }
                Output::Begin(asked, spec) => self.number(Numbered::Session(asked), spec),
                Output::Check(of, spec) => self.number(Numbered::Check(of), spec),
                Output::Send(link, message) => {
                    if self.is_long_low() && matches!(message, MasterMessage::Assign(_)) {
                        return self.broken("room first", format!("a job is started on a full disk: {message:?}"));
                    }
                    if let MasterMessage::Assign(assignment) = &message {
                        begun.insert(assignment.key);
                    }
                    self.check_said(link, &message)?;
                    self.release_or_keep(&mut turn, link, message)?;
                }
                Output::Close(link) => turn.releases.push(Release::Close(link)),
                Output::Append { key, stream, offset, bytes } => {
                    if self.master.finished.contains(&key) {
                        return self.broken("append", format!("{key} has finished, yet stream {stream} grows"));
                    }
                    self.master.store.want(Operation::Append { key, stream, offset, bytes });
                }
                Output::Flush(key) => self.master.store.want(Operation::Flush(key)),
                Output::Seal(key, artifact) => self.master.store.want(Operation::Seal(key, artifact)),
                Output::Finish(key) => {
                    self.master.finished.insert(key);
                    if self.bug == Some(Bug::PackBeforeFlush) {
                        self.pack(key)?;
                    }
                    self.master.store.want(Operation::Finish(key));
                }
                Output::Touch(_) | Output::Say(_) | Output::Complain(..) => {}
                Output::Bug(what) => return self.contradicted(what),
            }
        }
        for record in rows.iter().filter_map(|row| if let Row::Job(record) = row { Some(record) } else { None }) {
            if begun.contains(&JobKey { job: record.id, attempt: record.attempt }) {
                self.check_given(record)?;
            }
        }
        more.into_iter().for_each(|row| self.row(&mut rows, row));
        self.check_turn(&rows, &turn.releases)?;
        let jobs = rows.iter().filter(|row| matches!(row, Row::Job(_))).count();
        if self.bug == Some(Bug::DependantsLater) && jobs > 1 {
            let first = rows.iter().position(|row| matches!(row, Row::Job(_))).unwrap_or(0);
            let changes = rows.drain(..=first).collect();
            self.turns(turns::Input::Turn { changes, release: Turn::default() })?;
        }
        self.turns(turns::Input::Turn { changes: rows, release: turn })?;
        self.arm_master()?;
        self.work_store()
    }

    /// Records of the edge's own take their place among the hub's, before what the hub says of them next.
    pub(super) fn write(&mut self, rows: Vec<Row>) -> Outcome {
        let mut changes = Vec::new();
        rows.into_iter().for_each(|row| self.row(&mut changes, row));
        self.turns(turns::Input::Turn { changes, release: Turn::default() })
    }

    /// A repository's watch hears when all turns before are durable.
    pub(super) fn settle_watch(&mut self, forge: usize) -> Outcome {
        let release = Turn { settled: Some(forge), ..Turn::default() };
        self.turns(turns::Input::Turn { changes: Vec::new(), release })
    }

    fn row(&mut self, rows: &mut Vec<Row>, row: Row) {
        self.master.latest.apply(row.clone());
        rows.push(row);
    }

    fn release_or_keep(&mut self, turn: &mut Turn, link: LinkId, message: MasterMessage) -> Outcome {
        let early = match self.bug {
            Some(Bug::MessageBeforeCommit) => true,
            Some(Bug::ForgetBeforeCommit) => matches!(message, MasterMessage::Forget(_)),
            _ => false,
        };
        if early {
            return self.release(Release::Send(link, message));
        }
        if self.bug == Some(Bug::DoubleAssignment) && matches!(message, MasterMessage::Assign(_)) {
            let other = self.master.links.keys().copied().find(|other| *other != link);
            turn.releases.extend(other.map(|other| Release::Send(other, message.clone())));
        }
        turn.releases.push(Release::Send(link, message));
        Ok(())
    }

    /// The planted bug: bytes that never came are counted as if they had, and written nowhere.
    pub(super) fn pretend_complete(&self, key: JobKey, follow: &mut Vec<Input>) {
        let Some(attempt) = self.oracle.attempts.get(&key) else { return };
        let Some(host) = self.hosts.get(attempt.host).and_then(|host| host.link) else { return };
        for artifact in &attempt.artifacts {
            let have = self.master.files.0.get(&(key, artifact.stream)).map_or(0, |file| file.bytes.len() as u64);
            let missing = artifact.size.saturating_sub(have).min(60_000) as usize;
            if missing > 0 {
                let header = DataHeader { key, stream: artifact.stream, offset: have };
                follow.push(Input::Data(host, header, vec![0; missing]));
                follow.push(Input::Flushed(key, artifact.stream, have + missing as u64));
            }
        }
    }

    /// Gives the shipped machine of turns an input, and carries out what it says.
    fn turns(&mut self, input: turns::Input<Row, Turn>) -> Outcome {
        let mut out = Vec::new();
        self.master.turns.handle(self.now, input, &mut out);
        for output in out {
            match output {
                turns::Output::Commit(group, rows) => {
                    self.master.at_disk.push_back((group, rows));
                    if self.master.at_disk.len() == 1 {
                        self.write_group();
                    }
                }
                turns::Output::Release(turn) => self.release_turn(turn)?,
                turns::Output::Slow(_) => {}
                turns::Output::Bug(what) => return self.contradicted(what),
            }
        }
        Ok(())
    }

    fn write_group(&mut self) {
        let wait = self.random.between(1, self.master.slow);
        self.after(wait, Event::Committed(self.master.boot));
    }

    pub(super) fn committed(&mut self, boot: u64) -> Outcome {
        if boot != self.master.boot || self.master.hub.is_none() {
            return Ok(());
        }
        let Some((group, rows)) = self.master.at_disk.pop_front() else { return Ok(()) };
        let mut carried = Vec::new();
        for row in rows {
            if let Row::Files(event, _) = &row {
                carried.push(*event);
            }
            self.check_durable(&row)?;
            self.master.durable.apply(row);
        }
        self.check_waits()?;
        if !self.master.at_disk.is_empty() {
            self.write_group();
        }
        self.turns(turns::Input::Committed(group))?;
        self.group_written(carried)
    }

    fn release_turn(&mut self, turn: Turn) -> Outcome {
        if let Some(cancel) = turn.cancel
            && self.master.rebuilt.get(&cancel.job).is_none_or(|rebuilt| *rebuilt < cancel.turn)
        {
            self.oracle.cancels.insert(cancel.job, cancel.attempt);
        }
        for release in turn.releases {
            self.release(release)?;
        }
        if let Some(forge) = turn.settled {
            self.after(0, Event::Told(self.master.boot, forge, watch::Input::Settled));
        }
        Ok(())
    }

    fn release(&mut self, release: Release) -> Outcome {
        match release {
            Release::Send(link, message) => {
                if self.network.open(link, Side::Master) {
                    self.check_released(link, &message)?;
                }
                let text = message.encode();
                match MasterMessage::decode(&text) {
                    Ok(same) if same == message => {}
                    other => return self.broken("wire", format!("{message:?} was read as {other:?}")),
                }
                self.send(link, Side::Agent, Frame::Text(text));
            }
            Release::Close(link) => {
                self.send(link, Side::Agent, Frame::End);
                self.network.set_open(link, Side::Master, false);
                let wait = self.random.below(30);
                self.after(wait, Event::Gone(link, Side::Master));
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, link: LinkId, to: Side, frame: Frame) {
        if let Some(at) = self.network.send(self.now, &mut self.random, link, to, frame) {
            self.at(at, Event::Arrive(link, to));
        }
    }

    fn arm_master(&mut self) -> Outcome {
        let Some(hub) = &self.master.hub else { return Ok(()) };
        let due = hub.deadline();
        if due == self.master.tick {
            return Ok(());
        }
        self.master.tick = due;
        if let Some(due) = due {
            self.at(due, Event::MasterTick(self.master.boot));
        }
        Ok(())
    }

    pub(super) fn master_tick(&mut self, boot: u64) -> Outcome {
        if boot != self.master.boot || self.master.tick.is_none_or(|due| due > self.now) {
            return Ok(());
        }
        self.master.tick = None;
        let (at, times) = self.master.ticks_now;
        self.master.ticks_now = if at == self.now { (at, times + 1) } else { (self.now, 0) };
        if times > 100 {
            return self.broken("progress", "the hub wants a tick again and again at the same moment".to_string());
        }
        self.hub(Input::Tick)
    }

    /// The listener takes a connection and looks at its token.
    pub(super) fn accept(&mut self, link: LinkId) -> Outcome {
        let Some(host) = self.network.host(link) else { return Ok(()) };
        let name = self.hosts[host].name.clone();
        let good = self.master.latest.agents.get(&name).is_some_and(AgentRecord::may_join);
        if self.hosts[host].link != Some(link) {
            return Ok(());
        }
        if self.master.hub.is_none() || !good || self.network.is_cut(link) {
            let wait = self.random.between(1, 200);
            self.after(wait, Event::Gone(link, Side::Agent));
            return Ok(());
        }
        self.network.set_open(link, Side::Master, true);
        self.master.links.insert(link, host);
        let wait = self.random.between(1, 50);
        self.after(wait, Event::Connected(link));
        self.hub(Input::LinkUp(link, name))
    }

    pub(super) fn arrive_at_master(&mut self, link: LinkId) -> Outcome {
        let frame = match self.network.arrive(self.now, link, Side::Master) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(later) => {
                if later < Millis::MAX {
                    self.at(later, Event::Arrive(link, Side::Master));
                }
                return Ok(());
            }
        };
        let input = match frame {
            Frame::End => return self.master_loses(link),
            Frame::Text(text) => Input::of_text(link, &text),
            Frame::Binary(bytes) => Input::of_binary(link, &bytes),
        };
        self.hub(input)
    }

    pub(super) fn master_loses(&mut self, link: LinkId) -> Outcome {
        if self.master.links.remove(&link).is_none() {
            return Ok(());
        }
        self.network.set_open(link, Side::Master, false);
        self.send(link, Side::Agent, Frame::End);
        self.hub(Input::LinkDown(link))
    }

    pub(super) fn crash_master(&mut self) {
        if self.master.hub.take().is_none() {
            return;
        }
        self.note(|| "MASTER CRASH".to_string());
        self.summary.master_crashes += 1;
        self.master.boot += 1;
        self.master.tick = None;
        // What is at the disk may have reached it although nobody was told: groups whole, and in their order.
        let groups: Vec<(u64, Vec<Row>)> = self.master.at_disk.drain(..).collect();
        let reached = self.random.below(1 + groups.len() as u64);
        for (_, rows) in groups.into_iter().take(reached as usize) {
            for row in rows {
                if let Row::Job(record) = &row {
                    self.oracle.note_passed(record);
                }
                self.master.durable.apply(row);
            }
        }
        self.summary.turns_lost += self.master.turns.len() as u64;
        self.master.turns = Turns::default();
        self.master.latest = self.master.durable.clone();
        self.lose_files();
        let files = &mut self.master.files;
        let before: usize = files.0.values().map(|file| file.bytes.len()).sum();
        files.crash(&mut self.random);
        let after: usize = files.0.values().map(|file| file.bytes.len()).sum();
        self.summary.bytes_lost += (before - after) as u64;
        self.master.finished.clear();
        self.crash_watches();
        self.master.store = Store::default();
        self.oracle.forget_waits();
        for link in std::mem::take(&mut self.master.links).into_keys() {
            self.network.set_open(link, Side::Master, false);
            if self.random.chance(500) {
                self.send(link, Side::Agent, Frame::End);
            } else {
                self.cut(link);
            }
        }
        let wait = self.random.between(100, if self.random.clone().chance(200) { 150_000 } else { 5_000 });
        self.after(wait, Event::StartMaster);
    }

    /// A new process reads its disk, then takes links.
    pub(super) fn start_master(&mut self) -> Outcome {
        if self.master.hub.is_some() {
            return Ok(());
        }
        self.note(|| "MASTER START".to_string());
        let mut units = amounts();
        if self.bug == Some(Bug::UnitGivenTwice) {
            units = units.into_iter().map(|(unit, amount)| (unit, 2 * amount)).collect();
        }
        let terms = Terms { version: "sim".to_string(), timeout_s: TIMEOUT_S, units, ..Terms::default() };
        self.master.hub = Some(Hub::new(terms, self.policy.clone()));
        self.master.files.recover();
        self.write_files_again();
        let mut ledger = self.master.durable.unfinished();
        self.master.numbers = self.master.durable.numbers;
        if self.bug == Some(Bug::NumbersOfTheLiving) {
            self.master.numbers = Numbers::FIRST;
            ledger.jobs.iter().for_each(|job| self.master.numbers.saw_job(job.id));
            let seen = ledger.events.iter().map(|event| (event.id, event.first_job, u64::from(event.jobs)));
            seen.for_each(|(event, first, jobs)| self.master.numbers.saw_event(event, first, jobs));
        }
        self.start_looking()?;
        if self.bug == Some(Bug::UnitsForgotten) {
            ledger.agents.iter_mut().for_each(|record| record.grants = None);
        }
        if self.bug == Some(Bug::BoardsForgotten) {
            ledger.agents.iter_mut().for_each(|record| record.boards = None);
        }
        if self.bug == Some(Bug::JobForgotten) {
            let last = ledger.jobs.iter().rposition(|record| !record.state.ended());
            last.map(|last| ledger.jobs.remove(last));
        }
        let mut machine = Restart::default();
        let mut inputs = VecDeque::from([restart::Input::Ledger(ledger)]);
        while let Some(input) = inputs.pop_front() {
            let mut said = Vec::new();
            machine.handle(self.moment(), input, &mut said);
            for output in said {
                match output {
                    restart::Output::Hub(hub::Input::Replay(..)) if self.bug == Some(Bug::NoReplayAtStart) => {}
                    restart::Output::Hub(input) => self.hub(input)?,
                    restart::Output::Plan(event) => inputs.push_back(restart::Input::Plan(self.kept_plan(event.id)?)),
                    restart::Output::Keep(..) => {}
                    restart::Output::Lengths(key) => {
                        inputs.push_back(restart::Input::Lengths(self.master.files.lengths(key)));
                    }
                    restart::Output::Log(key, at, most) => {
                        let log = self.master.files.0.get(&(key, 0)).map_or(&[][..], |file| &file.bytes);
                        let rest = log.get(at as usize..).unwrap_or_default();
                        let length = self.random.between(1, most).min(rest.len() as u64) as usize;
                        inputs.push_back(restart::Input::Log(rest[..length].to_vec()));
                    }
                    restart::Output::Say(text) => self.note(|| text),
                    restart::Output::Bug(what) => return self.contradicted(what),
                }
            }
        }
        self.start_watches()
    }

    /// What a starting master finds of an event's plan: hardly ever it is damaged, and then for good.
    fn kept_plan(&mut self, event: EventId) -> Outcome<Kept> {
        if self.random.chance(20) {
            self.note(|| format!("the plan of event {event} is DAMAGED"));
            self.oracle.lost.insert(event);
            self.plans.insert(event, b"{".to_vec());
        }
        match self.plans.get(&event) {
            Some(plan) => Ok(Kept::Plan(plan.clone())),
            None => self.broken("plans are kept", format!("the plan of event {event} is not there")),
        }
    }
}
