//! What the machines do, against what really was produced and really is durable → the first broken promise.

use super::benches::{UNPLUGGED, all_are_there};
use super::disk::Row;
use super::host::Carried;
use super::master::Release;
use super::supervisor::{Written, last_of_each_path};
use super::{BOUND_MS, Outcome, START, World};
use sai_core::hub::LinkId;
use sai_core::job::{self, EventId, JobId, JobKey, JobState, Verdict};
use sai_core::ledger::JobRecord;
use sai_core::limits::{CHUNK_BYTES, INFRA_ATTEMPTS, Millis, WINDOW_BYTES};
use sai_core::platform::serves;
use sai_core::record::Artifact;
use sai_core::units::{OfferedBoard, WantedBoard};
use sai_core::wire::MasterMessage;
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds by which a look at the world may lag behind it.
const LAG_MS: Millis = 15_000;

/// What one attempt really produced.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) host: usize,
    pub(super) streams: Vec<Vec<u8>>,
    pub(super) artifacts: Vec<Artifact>,
    verdict: Option<Verdict>,
    /// Its agent lies, so nothing can be expected of it.
    tainted: bool,
}

/// Who knows everything.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) attempts: BTreeMap<JobKey, Attempt>,
    spawned: BTreeSet<JobKey>,
    /// Jobs whose cancel was taken for certain, with the attempt it was for.
    pub(super) cancels: BTreeMap<JobId, u32>,
    /// Jobs somebody has ever tried to cancel.
    pub(super) asked: BTreeSet<JobId>,
    /// Boards that somebody has ever taken back.
    pub(super) taken_back: BTreeSet<(String, String)>,
    decided: Vec<JobRecord>,
    /// Names and the identities that durable records bound to them at some time.
    bound: BTreeSet<(String, String)>,
    /// Identities that were welcomed under the name they came with.
    welcomed: BTreeSet<String>,
    away: BTreeMap<JobKey, Millis>,
    orphan_ms: Millis,
    /// Attempts that durable records called passed.
    pub(super) passed: BTreeSet<JobKey>,
    /// Until when attempts count as holding units whose agents say nothing.
    pub(super) units_until: BTreeMap<JobKey, Millis>,
    /// Events whose plan is damaged.
    pub(super) lost: BTreeSet<EventId>,
    /// The job of each session of an attempt that was ever begun.
    pub(super) sessions: BTreeMap<(JobKey, u32), JobId>,
    /// Where jobs met trouble, agents and what they offer, and whether that was a broken image.
    pub(super) met: BTreeMap<JobId, BTreeMap<(String, String), bool>>,
}

impl Oracle {
    pub(super) fn new(orphan_ms: Millis) -> Self {
        Self {
            attempts: BTreeMap::new(),
            spawned: BTreeSet::new(),
            cancels: BTreeMap::new(),
            asked: BTreeSet::new(),
            taken_back: BTreeSet::new(),
            decided: Vec::new(),
            bound: BTreeSet::new(),
            welcomed: BTreeSet::new(),
            away: BTreeMap::new(),
            orphan_ms,
            passed: BTreeSet::new(),
            units_until: BTreeMap::new(),
            lost: BTreeSet::new(),
            sessions: BTreeMap::new(),
            met: BTreeMap::new(),
        }
    }

    pub(super) fn begin(&mut self, host: usize, key: JobKey, tainted: bool) {
        self.attempts.entry(key).or_insert(Attempt { host, tainted, ..Attempt::default() });
    }

    pub(super) fn produce(&mut self, key: JobKey, written: Written) {
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        let stream = usize::from(written.stream);
        if attempt.streams.len() <= stream {
            attempt.streams.resize(stream + 1, Vec::new());
        }
        attempt.streams[stream].extend_from_slice(&written.bytes);
        attempt.artifacts.extend(written.announced);
        if written.verdict.is_some() {
            attempt.verdict = written.verdict;
        }
    }

    /// A record that is durable.
    pub(super) fn note_passed(&mut self, record: &JobRecord) {
        if record.state == JobState::Passed {
            self.passed.insert(JobKey { job: record.id, attempt: record.attempt });
        }
    }

    pub(super) fn forget_waits(&mut self) {
        self.away.clear();
        self.met.clear();
    }
}

/// A text for the trace, without pages of bytes.
pub(super) fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

fn live(state: JobState) -> bool {
    matches!(state, JobState::Assigned | JobState::Running)
}

impl World {
    /// A message as the hub decides on it.
    pub(super) fn check_said(&mut self, link: LinkId, message: &MasterMessage) -> Outcome {
        match message {
            MasterMessage::Adopt(adopt) => {
                self.oracle.away.remove(&adopt.key);
            }
            MasterMessage::Assign(assignment) => {
                let (Some(hub), Some(host)) = (&self.master.hub, self.network.host(link)) else { return Ok(()) };
                let name = &self.hosts[host].name;
                let runs = hub.scheduler().runs(name).filter(|key| !self.is_at_board(*key)).count();
                let slots = hub.connected().get(name).map_or(0, |connected| connected.hello.slots);
                // One that came back with more than it offers now may still be given a board.
                if assignment.board.is_none() && runs as u64 > u64::from(slots) {
                    return self.broken("slots", format!("{name} has {slots}, and {runs} attempts"));
                }
                let key = assignment.key;
                self.check_image(name, assignment)?;
                self.note_units(key);
                if self.oracle.cancels.get(&key.job).is_some_and(|attempt| key.attempt > *attempt) {
                    return self.broken("cancel", format!("{key} is given out although the job was cancelled before"));
                }
            }
            MasterMessage::Bye(bye) => {
                self.summary.twins += u64::from(bye.why.contains("two machines"));
                let excused = [
                    "belongs to another machine",
                    "token was revoked",
                    "may join",
                    "newer link",
                    "no greeting within",
                    "that have not greeted",
                    "two machines",
                ];
                let honest = self.network.host(link).is_some_and(|host| !self.hosts[host].liar);
                if honest && !excused.iter().any(|excuse| bye.why.contains(excuse)) {
                    return self.broken("honest agents are welcome", bye.why.clone());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A record as the hub decides on it.
    pub(super) fn check_decision(&mut self, record: &JobRecord) -> Outcome {
        let Some(hub) = &self.master.hub else { return Ok(()) };
        match record.state {
            JobState::Expired if record.board.is_some() => {
                let wanted = record.board.as_ref();
                let only = record.only_agent();
                let here = hub.connected().iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
                let rows = hub.scheduler().boards(self.now);
                // What is set aside, or is not to be used, could be given to nobody.
                let fit = |agent: &str, offered: &OfferedBoard| {
                    let row = rows.iter().find(|row| row.agent == agent && row.offered.name == offered.name);
                    row.is_some_and(|row| {
                        let well = record.health.is_some() || row.health.keeps().is_none();
                        well && !row.what.contains(UNPLUGGED)
                    })
                };
                let mut here = here.filter_map(|(name, connected)| {
                    let boards = connected.hello.boards.as_ref()?.iter();
                    Some(boards.filter(|board| fit(name, board)).collect::<Vec<_>>())
                });
                let each: Vec<&WantedBoard> = wanted.iter().flat_map(|wanted| wanted.each()).collect();
                if here.any(|boards| all_are_there(&each, &boards)) {
                    return self.broken("expiry", format!("job {} expired, a board for it is there", record.id));
                }
            }
            JobState::Expired => {
                let mut here = hub.connected().values().flat_map(|connected| &connected.hello.platforms);
                if here.any(|offered| serves(offered, &record.platform)) {
                    return self.broken("expiry", format!("job {} expired, an agent could serve it", record.id));
                }
            }
            JobState::Infra if self.oracle.lost.contains(&record.event) => self.summary.lost += 1,
            // What the command of a session has begun is not begun a second time.
            JobState::Infra if record.session.is_some() || record.lease.is_some() => {}
            // Nor is it asked twice whether a board is well.
            JobState::Infra if record.health.is_some() => {}
            JobState::Infra if record.infra < INFRA_ATTEMPTS => {
                return self.broken("retries", format!("job {} ended after {} troubles", record.id, record.infra));
            }
            // A session ends with its step.
            JobState::Cancelled if record.session.is_some() => {}
            JobState::Cancelled if record.skipped.is_none() && !self.oracle.asked.contains(&record.id) => {
                let key = JobKey { job: record.id, attempt: record.attempt };
                if self.oracle.attempts.get(&key).is_some_and(|attempt| !attempt.tainted) {
                    return self.broken("verdict", format!("{key} is called cancelled, nobody asked for that"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The hub's state after a turn that changed it.
    pub(super) fn check_turn(&self, rows: &[Row], releases: &[Release]) -> Outcome {
        let Some(hub) = &self.master.hub else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        let scheduler = hub.scheduler();
        let mut held = BTreeMap::new();
        for host in &self.hosts {
            for key in scheduler.runs(&host.name) {
                if held.insert(key.job, &host.name).is_some_and(|other| *other != host.name) {
                    return self.broken("one holder", format!("job {} is held twice", key.job));
                }
                if scheduler.holder(key) != Some(host.name.as_str()) {
                    return self.broken("one holder", format!("{} takes a slot of {} for nothing", key, host.name));
                }
            }
        }
        // What is due in this very moment is seen to by the tick that is about to come.
        let due = hub.deadline().is_some_and(|due| due <= self.now);
        let ready = scheduler.jobs().filter(|record| {
            record.standing() == JobState::Queued
                && record.board.is_none()
                && !due
                && scheduler.waiting(self.now, record.id).is_some_and(|why| {
                    !["tried again", "no job is started", "wants", "what it wants"]
                        .iter()
                        .any(|begin| why.starts_with(begin))
                })
        });
        if !due {
            self.check_boards_idle(scheduler)?;
        }
        let assigned: Vec<_> = releases
            .iter()
            .filter_map(|release| match release {
                Release::Send(link, MasterMessage::Assign(assignment)) => Some((*link, assignment.key)),
                _ => None,
            })
            .collect();
        for record in ready {
            for (name, connected) in hub.connected() {
                let paused = scheduler.paused(self.now, name);
                let free = |offered: &&String| !paused.iter().any(|why| why.starts_with(&format!("{offered} ")));
                let mut serving = connected.hello.platforms.iter().filter(|offered| serves(offered, &record.platform));
                if !serving.any(|offered| free(&offered)) {
                    continue;
                }
                let runs = scheduler.runs(name).filter(|key| !self.is_at_board(*key)).count() as u64;
                if runs < u64::from(connected.hello.slots) && scheduler.aside(name).is_none() {
                    let why = scheduler.waiting(self.now, record.id);
                    return self.broken("no idling", format!("job {} waits, {name} could take it: {why:?}", record.id));
                }
                for (link, key) in &assigned {
                    let first = scheduler.job(key.job).map_or(i32::MAX, |first| first.priority);
                    // What is at a board took no slot away.
                    if self.is_at_board(*key) {
                        continue;
                    }
                    // Who wants units may have had to leave them to one that collects.
                    if *link == connected.link && record.priority > first && record.units.is_none() {
                        return self.broken("priority", format!("{key} went before job {} at {name}", record.id));
                    }
                }
            }
        }
        Ok(())
    }

    /// A record as it becomes durable.
    pub(super) fn check_durable(&mut self, row: &Row) -> Outcome {
        let record = match row {
            Row::Job(record) => record,
            Row::Agent(record) => {
                self.oracle.bound.extend(record.identity.clone().map(|identity| (record.name.clone(), identity)));
                return Ok(());
            }
            Row::Event(_) | Row::Tip(..) | Row::Files(..) | Row::FilesDurable(_) => return Ok(()),
        };
        if !record.state.ended() {
            return Ok(());
        }
        self.oracle.note_passed(record);
        // A job that was cancelled while it waited for its second attempt still shows the verdict of its first.
        let by_verdict = match record.state {
            JobState::Passed | JobState::Failed | JobState::TimedOut => true,
            JobState::Cancelled if record.skipped.is_some() => {
                self.summary.skipped += 1;
                false
            }
            JobState::Cancelled => record.verdict.as_ref().is_some_and(|end| end.outcome == job::Outcome::Cancelled),
            _ => false,
        };
        if !by_verdict {
            self.summary.undecided += 1;
            return Ok(());
        }
        self.summary.decided += 1;
        self.check_decided(record)?;
        self.oracle.decided.push(record.clone());
        Ok(())
    }

    /// A job that ended by a verdict: the verdict, the log and the artifacts are what its attempt produced.
    fn check_decided(&self, record: &JobRecord) -> Outcome {
        let key = JobKey { job: record.id, attempt: record.attempt };
        let Some(attempt) = self.oracle.attempts.get(&key) else {
            return self.broken("verdict", format!("{key} ended and was never started"));
        };
        if attempt.tainted {
            return Ok(());
        }
        if record.verdict.is_none() || record.verdict != attempt.verdict {
            let seen = format!("{key} has {:?}, produced was {:?}", record.verdict, attempt.verdict);
            return self.broken("verdict", seen);
        }
        let expected = match record.verdict.as_ref().map(|verdict| verdict.outcome) {
            Some(job::Outcome::Passed) => JobState::Passed,
            Some(job::Outcome::Failed) => JobState::Failed,
            Some(job::Outcome::TimedOut) => JobState::TimedOut,
            _ => JobState::Cancelled,
        };
        if record.state != expected {
            return self.broken("verdict", format!("{key} is {:?}, its verdict says {expected:?}", record.state));
        }
        let whole = |stream: u16| {
            let empty = Vec::new();
            let produced = attempt.streams.get(usize::from(stream)).unwrap_or(&empty);
            let kept = self.master.files.0.get(&(key, stream)).map_or(&[][..], |file| &file.bytes[..file.flushed]);
            kept == produced.as_slice()
        };
        if !whole(0) || record.log_bytes != self.master.files.durable(key, 0) {
            return self.broken("whole log", format!("the log of {key} is not what was produced"));
        }
        if record.artifacts != last_of_each_path(&attempt.artifacts) {
            return self.broken("whole artifacts", format!("{key} has {:?}", record.artifacts));
        }
        if let Some(artifact) = attempt.artifacts.iter().find(|artifact| !whole(artifact.stream)) {
            return self.broken("whole artifacts", format!("{key}: {artifact:?} is not what was produced"));
        }
        Ok(())
    }

    /// Whether the durable records say that nothing more is needed of this attempt.
    fn given_up(&self, key: JobKey) -> bool {
        match self.master.durable.jobs.get(&key.job) {
            Some(record) => record.attempt > key.attempt || (record.attempt == key.attempt && !live(record.state)),
            None => false,
        }
    }

    /// A message as it leaves the master: a crash right now must not make it untrue.
    pub(super) fn check_released(&mut self, link: LinkId, message: &MasterMessage) -> Outcome {
        let durable = |key, stream| self.master.files.durable(key, stream);
        match message {
            MasterMessage::Ack(ack) if ack.length > durable(ack.key, ack.stream) => {
                self.broken("durable acks", format!("{ack:?}, durable is {}", durable(ack.key, ack.stream)))
            }
            MasterMessage::Adopt(adopt) => {
                let mut lengths = adopt.lengths.iter().enumerate();
                match lengths.find(|(stream, length)| **length > durable(adopt.key, *stream as u16)) {
                    Some((stream, _)) => self.broken("durable acks", format!("{adopt:?} claims too much of {stream}")),
                    None => Ok(()),
                }
            }
            MasterMessage::Assign(assignment) => {
                let key = assignment.key;
                self.check_needs(key, assignment.needs.as_deref().unwrap_or_default())?;
                let record = self.master.durable.jobs.get(&key.job);
                if record.is_none_or(|record| record.attempt < key.attempt) {
                    return self.broken("records first", format!("{key} is given out before its record is durable"));
                }
                Ok(())
            }
            MasterMessage::Forget(forget) if !self.given_up(forget.key) => {
                // Who claims to hold another's attempt is told to forget it.
                let liar = self.network.host(link).is_some_and(|host| self.hosts[host].liar);
                let other = self.oracle.attempts.get(&forget.key).map(|attempt| attempt.host);
                if liar && other != self.network.host(link) {
                    return Ok(());
                }
                self.broken("records first", format!("{} is forgotten before its record is durable", forget.key))
            }
            MasterMessage::Welcome(_) => {
                let Some(host) = self.network.host(link).and_then(|host| self.hosts.get(host)) else { return Ok(()) };
                if !self.oracle.bound.contains(&(host.name.clone(), host.identity.clone())) {
                    return self.broken("identity", format!("{} of {} is welcomed", host.identity, host.name));
                }
                self.oracle.welcomed.insert(host.identity.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Bytes as they are appended to a file.
    pub(super) fn check_append(&self, key: JobKey, stream: u16, offset: usize, bytes: &[u8]) -> Outcome {
        let Some(attempt) = self.oracle.attempts.get(&key) else {
            return self.broken("true bytes", format!("{key} grows and was never started"));
        };
        let produced = attempt.streams.get(usize::from(stream)).and_then(|all| all.get(offset..offset + bytes.len()));
        if !attempt.tainted && produced != Some(bytes) {
            return self.broken("true bytes", format!("{key} stream {stream} at {offset} is not what was produced"));
        }
        Ok(())
    }

    /// A message as an agent gets it.
    pub(super) fn check_heard(&mut self, host: usize, message: &MasterMessage) -> Outcome {
        let here = &mut self.hosts[host];
        match message {
            MasterMessage::Assign(assignment) => {
                here.carried.insert((assignment.key, 0), Carried::default());
            }
            MasterMessage::Adopt(adopt) => {
                self.summary.adopted += 1;
                here.carried.retain(|(key, _), _| *key != adopt.key);
                here.carried.insert((adopt.key, 0), Carried::default());
                for (stream, length) in adopt.lengths.iter().enumerate() {
                    let carried = Carried { sent: *length, acked: *length };
                    here.carried.insert((adopt.key, stream as u16), carried);
                }
            }
            MasterMessage::Ack(ack) => {
                if let Some(carried) = here.carried.get_mut(&(ack.key, ack.stream)) {
                    carried.acked = carried.acked.max(ack.length);
                    carried.sent = carried.sent.max(ack.length);
                }
            }
            MasterMessage::Forget(forget) => {
                if here.directories.get(&forget.key).is_some_and(|directory| directory.supervisor.is_some()) {
                    let record = self.master.durable.jobs.get(&forget.key.job);
                    let superseded = record.is_some_and(|record| record.attempt > forget.key.attempt);
                    self.summary.ghosts += u64::from(superseded);
                }
            }
            MasterMessage::Bye(_) => self.summary.impostors += 1,
            _ => {}
        }
        Ok(())
    }

    /// A piece as an agent sends it.
    pub(super) fn check_sent(&mut self, host: usize, key: JobKey, stream: u16, offset: u64, length: u64) -> Outcome {
        let here = &self.hosts[host];
        let name = &here.name;
        if here.liar {
            return Ok(());
        }
        if !here.carried.contains_key(&(key, 0)) {
            return self.broken("resume", format!("{name} sends of {key} before it was told from where"));
        }
        let mut carried = here.carried.get(&(key, stream)).copied().unwrap_or_default();
        if length == 0 || length > CHUNK_BYTES as u64 || offset != carried.sent {
            let sent = carried.sent;
            return self.broken("resume", format!("{name} sends {length} of {key}/{stream} at {offset}, not {sent}"));
        }
        let trimmed = here.directories.get(&key).map_or(0, |directory| directory.trimmed);
        if stream == 0 && offset < trimmed {
            return self.broken("spool", format!("{name} has dropped {key} up to {trimmed}, {offset} is wanted"));
        }
        carried.sent += length;
        let under_way: u64 = here.carried.values().map(|carried| carried.sent - carried.acked).sum();
        if under_way + length > WINDOW_BYTES {
            return self.broken("window", format!("{name} has {under_way} bytes under way and sends {length}"));
        }
        self.summary.full_windows += u64::from(under_way + length == WINDOW_BYTES);
        self.hosts[host].carried.insert((key, stream), carried);
        Ok(())
    }

    /// An assignment as an agent carries it out.
    pub(super) fn check_start(&mut self, host: usize, key: JobKey) -> Outcome {
        let here = &self.hosts[host];
        if self.oracle.attempts.contains_key(&key) {
            return self.broken("started once", format!("{key} is started again at {}", here.name));
        }
        let runs = here.directories.keys().filter(|key| !self.is_at_board(**key)).count();
        if !here.liar && !self.is_at_board(key) && runs >= here.slots_ever as usize {
            let slots = here.slots_ever;
            return self.broken("slots", format!("{} never had more than {slots} and holds {runs}", here.name));
        }
        if !self.oracle.welcomed.contains(&here.identity) {
            return self.broken("identity", format!("another {} starts {key}", here.name));
        }
        let liar = here.liar;
        self.check_units(host, key)?;
        self.oracle.begin(host, key, liar);
        Ok(())
    }

    /// A supervisor as it is started.
    pub(super) fn check_spawn(&mut self, host: usize, key: JobKey) -> Outcome {
        if !self.oracle.spawned.insert(key) {
            return self.broken("started once", format!("{key} runs again at {}", self.hosts[host].name));
        }
        Ok(())
    }

    /// Log bytes as an agent drops them.
    pub(super) fn check_trim(&self, host: usize, key: JobKey, log: u64) -> Outcome {
        let durable = self.master.files.durable(key, 0);
        if log > durable {
            let name = &self.hosts[host].name;
            return self.broken("spool", format!("{name} drops {key} up to {log}, durable is {durable}"));
        }
        Ok(())
    }

    /// An attempt as an agent deletes it.
    pub(super) fn check_forget(&self, host: usize, key: JobKey) -> Outcome {
        if !self.given_up(key) {
            return self.broken("records first", format!("{} deletes {key}, which is awaited", self.hosts[host].name));
        }
        Ok(())
    }

    /// Looks at everything. True when trouble is over and all has come to its end.
    pub(super) fn inspect(&mut self) -> Outcome<bool> {
        self.check_pushes(false)?;
        self.check_fetches()?;
        self.check_askers()?;
        if self.master.hub.is_some() {
            self.look_at_disk()?;
        }
        let awaited: Vec<_> = self.hosts.iter().filter_map(|host| host.link).collect();
        self.network.sweep(&awaited);
        if let Some(hub) = &self.master.hub {
            let scheduler = hub.scheduler();
            let mut away = Vec::new();
            for record in self.master.latest.jobs.values().filter(|record| !record.state.ended()) {
                let key = JobKey { job: record.id, attempt: record.attempt };
                let Some(known) = scheduler.job(record.id) else {
                    return self.broken("no job lost", format!("the hub does not know {key}, which has not ended"));
                };
                if known != record {
                    return self.broken("no job lost", format!("{known:?} at the hub, {record:?} in the ledger"));
                }
                if record.state == JobState::Queued {
                    if scheduler.waiting(self.now, record.id).is_none_or(|why| why.is_empty()) {
                        return self.broken("no job lost", format!("{key} waits for nothing"));
                    }
                } else if let Some(agent) = &record.agent {
                    if !hub.connected().contains_key(agent) {
                        away.push(key);
                    }
                } else {
                    return self.broken("no job lost", format!("{key} is with nobody"));
                }
            }
            self.oracle.away.retain(|key, _| away.contains(key));
            for key in away {
                let since = *self.oracle.away.entry(key).or_insert(self.now);
                if self.now - since > self.oracle.orphan_ms + LAG_MS {
                    return self.broken("orphans", format!("{key} is awaited since {} ms", self.now - since));
                }
            }
        }
        let Some(calm) = self.calm else { return Ok(false) };
        let unfinished: Vec<_> = self.master.latest.jobs.values().filter(|record| !record.state.ended()).collect();
        let leaks: Vec<_> = self
            .hosts
            .iter()
            .filter(|host| self.may_return(host))
            .map(|host| {
                let holds = host.session.iter().flat_map(|session| session.holds());
                (&host.name, holds.chain(host.directories.keys().copied()).collect::<Vec<_>>())
            })
            .filter(|(_, keys)| !keys.is_empty())
            .collect();
        let held = self.master.hub.as_ref().is_some_and(|hub| hub.scheduler().units().held().next().is_some());
        if unfinished.is_empty() && leaks.is_empty() && !held && self.events_are_idle() {
            return Ok(true);
        }
        if self.now - calm > BOUND_MS {
            let waiting: Vec<_> = unfinished
                .iter()
                .map(|record| {
                    let hub = self.master.hub.as_ref();
                    (record.id, record.state, hub.and_then(|hub| hub.scheduler().waiting(self.now, record.id)))
                })
                .collect();
            return self.broken(
                "everything ends",
                format!(
                    "unfinished: {waiting:?}; not forgotten: {leaks:?}; units held: {held}; all looks made: {}",
                    self.watches_are_idle()
                ),
            );
        }
        Ok(false)
    }

    fn may_return(&self, host: &super::host::Host) -> bool {
        let record = self.master.latest.agents.get(&host.name);
        !host.scrapped
            && record.is_some_and(|record| !record.revoked && record.identity.as_ref() == Some(&host.identity))
    }

    fn events_are_idle(&self) -> bool {
        let asked = self
            .events
            .values()
            .any(|event| matches!(event, super::Event::Push | super::Event::Hook(..) | super::Event::Rebuild(..)));
        !asked && self.master.idle() && self.watches_are_idle()
    }

    /// The last look, when all is quiet.
    pub(super) fn farewell(&mut self) -> Outcome {
        self.check_pushes(true)?;
        self.check_files_at_end()?;
        for record in &self.oracle.decided {
            self.check_decided(record)?;
        }
        let Some(hub) = &self.master.hub else { return Ok(()) };
        if let Some(job) = hub.scheduler().jobs().next() {
            return self.broken("nothing is kept", format!("the scheduler still has job {}", job.id));
        }
        if let Some(key) = self.oracle.attempts.keys().find(|key| hub.log_length(**key).is_some()) {
            return self.broken("nothing is kept", format!("the hub still takes in {key}"));
        }
        for host in &self.hosts {
            if hub.scheduler().runs(&host.name).next().is_some() {
                return self.broken("nothing is kept", format!("{} still has a slot taken", host.name));
            }
            if let Some(key) =
                host.session.as_ref().filter(|_| self.may_return(host)).and_then(|here| here.holds().next())
            {
                return self.broken("nothing is kept", format!("{} still holds {key}", host.name));
            }
        }
        if !self.master.store.is_idle() {
            return self.broken("nothing is kept", "bytes that never became durable".to_string());
        }
        let durable = &self.master.durable.jobs;
        if *durable != self.master.latest.jobs {
            return self.broken("nothing is kept", "records that never became durable".to_string());
        }
        self.note(|| format!("THE END after {} ms", self.now - START));
        Ok(())
    }
}
