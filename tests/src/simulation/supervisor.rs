//! An attempt → the bytes its supervisor writes into its log and its artifacts: the shipped machines of a run and of its backlog,
//! and an edge that does what they say, with steps that print, fail, hang and do not obey, and a disk that is full at times.

use super::Bug;
use super::processes::Processes;
use super::random::Random;
use sai_core::backlog::{self, Backlog, LAST_MS};
use sai_core::job::{Blame, Fault, Outcome, Verdict};
use sai_core::limits::Millis;
use sai_core::record::{self, Artifact, ChannelStart, Record};
use sai_core::run::{Input, Output, Run};
use sai_core::wire::Assignment;

/// Milliseconds after which an edge looks again, at most.
const LOOK_MS: Millis = 5_000;
/// Milliseconds after which the end of a step is told at the latest, however full the disk is.
const HEARD_MS: Millis = 30_000;
/// Bytes that a log may be ahead of the master: few, so that steps wait for it, and of a long log more than fills a window.
const BOUND: u64 = 10_000;
const LONG_BOUND: u64 = 16 << 20;

/// 64 hex digits that differ when the bytes do: the simulation's stand-in for SHA-256 (it is FNV-1a).
pub(super) fn digest(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{sum:016x}{:016x}{:032x}", bytes.len(), 0)
}

/// The artifacts that count: of a path collected more than once the last file.
pub(super) fn last_of_each_path(artifacts: &[Artifact]) -> Vec<Artifact> {
    let last = artifacts.iter().enumerate();
    let last = last.filter(|(at, artifact)| !artifacts[at + 1..].iter().any(|later| later.path == artifact.path));
    last.map(|(_, artifact)| artifact.clone()).collect()
}

/// What the edge is at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Busy {
    Nothing,
    /// The files of needs are on their way.
    Fetching,
    Preparing,
    /// A step runs, prints so often still, and ends so, or never.
    Step {
        left: u64,
        status: Option<i32>,
    },
    /// A board says so much still before it is judged.
    Trial {
        left: u64,
    },
    /// So many files are still to be kept.
    Collecting {
        left: u64,
    },
    /// Everything is being killed; whether the end of a step, or of a trial, is still to be told.
    Killing {
        step: bool,
        trial: bool,
    },
}

/// A process that writes one attempt's streams.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// None of one that only writes down what became of another.
    run: Option<Run>,
    backlog: Backlog,
    busy: Busy,
    big: bool,
    /// What the log is to get next, and what of it is a job's output.
    batch: Vec<u8>,
    batch_output: u64,
    announcing: Vec<Artifact>,
    verdict: Option<Verdict>,
    /// Files of artifacts that are not told yet.
    files: Vec<Written>,
    /// Bytes that a step has printed and that were to be kept, and those that are in the log.
    kept: u64,
    logged: u64,
    /// Whether a step has failed that was not asked to end.
    failed: bool,
    asked: bool,
    /// Whether it needs files of others.
    needs: bool,
    /// Whether a step of it waits for a board, or has one.
    waits: bool,
    /// Whether it is a session whose step is gone.
    gone: bool,
    /// Whether a person has the board, who may forget it.
    leased: bool,
    /// Since when a step has ended whose end is not told, and how much of what it has printed is still to be read.
    exited: Option<(Millis, u64)>,
    closed_at: Option<Millis>,
    /// What the run has found that cannot be.
    contradicted: Option<&'static str>,
    written: bool,
    channels: u8,
    artifacts: u16,
    micros: u64,
    /// Whether it never gets to its end.
    wedged: bool,
    /// Milliseconds between two writes at most.
    pub(super) pace: u64,
    /// What has to be gone before its verdict.
    pub(super) processes: Processes,
}

/// What one write added.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) stream: u16,
    pub(super) bytes: Vec<u8>,
    pub(super) announced: Vec<Artifact>,
    pub(super) verdict: Option<Verdict>,
}

/// What comes of one turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) written: Vec<Written>,
    /// When the next is; none any more where this is none.
    pub(super) wait: Option<Millis>,
    /// A promise that was broken, and what was seen.
    pub(super) broken: Option<(&'static str, String)>,
    /// Whether it has ended without a verdict, since there was no room for one.
    pub(super) given_up: bool,
    /// How much of what an ended step has left was read at a full disk.
    pub(super) rests: u64,
}

impl Supervisor {
    pub(super) fn new(random: &mut Random, now: Millis, assignment: &Assignment, big: bool) -> Self {
        let mut assignment = assignment.clone();
        if !big && random.chance(30) {
            (assignment.log_bytes, assignment.log_limit_fails) = (random.between(100, 3_000), random.chance(500));
        }
        if random.chance(100) {
            assignment.step_timeout_s = Some(random.between(1, 60));
        }
        let pace = if random.chance(250) { 3000 } else { 200 };
        let mut this = Self { pace, big, ..Self::empty() };
        this.backlog = Backlog::new(if big { LONG_BOUND } else { BOUND });
        this.processes = Processes::new(random);
        this.wedged = random.chance(15);
        this.needs = assignment.needs.iter().flatten().any(|needed| !needed.artifacts.is_empty());
        this.leased = assignment.lease.is_some();
        this.run = Some(Run::new(&assignment));
        this.input(random, now, Input::Begin);
        this
    }

    /// One that only reports that a supervisor, or its agent, died without a verdict.
    pub(super) fn stillborn(random: &mut Random, before: Option<&Self>) -> Self {
        let mut this = Self { micros: before.map_or(0, |before| before.micros), ..Self::empty() };
        let trouble = random.pick(&[Blame::Agent, Blame::Platform, Blame::Repository]).and_then(Blame::word);
        let (fault, cause) = (Fault::Infrastructure, "the supervisor of the job was killed".to_string());
        let outcome = Outcome::Infra;
        this.close(random, 0, Verdict { outcome, fault, cause, step: None, status: None, trouble, verdict: None });
        this
    }

    fn empty() -> Self {
        Self {
            run: None,
            backlog: Backlog::new(BOUND),
            busy: Busy::Nothing,
            big: false,
            batch: Vec::new(),
            batch_output: 0,
            announcing: Vec::new(),
            verdict: None,
            files: Vec::new(),
            kept: 0,
            logged: 0,
            failed: false,
            asked: false,
            needs: false,
            waits: false,
            gone: false,
            leased: false,
            exited: None,
            closed_at: None,
            contradicted: None,
            written: false,
            channels: 0,
            artifacts: 0,
            micros: 0,
            wedged: false,
            pace: 20,
            processes: Processes::default(),
        }
    }

    /// Whether it has written all that it will.
    pub(super) fn has_ended(&self) -> bool {
        self.written
    }

    /// Whether its disk has refused what it has to write.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.backlog.is_full()
    }

    /// Whether it waits for files of needs.
    pub(super) fn wants_files(&self) -> bool {
        self.busy == Busy::Fetching && !self.asked
    }

    /// The files of needs are there, or are not to be had.
    pub(super) fn fetched(&mut self, random: &mut Random, now: Millis, got: Result<(), String>) {
        if self.busy != Busy::Fetching {
            return;
        }
        self.busy = Busy::Preparing;
        let (fault, blame) = (Fault::Infrastructure, Blame::Repository);
        let failed = |why| Input::PrepareFailed { fault, blame, why };
        self.input(random, now, got.map_or_else(failed, |()| Input::NeedsReady));
    }

    /// Whether a step of it runs and may ask for something.
    pub(super) fn runs_a_step(&self) -> bool {
        matches!(self.busy, Busy::Step { .. }) && !self.asked && self.exited.is_none()
    }

    /// Whether its step waits for a board, or has one.
    pub(super) fn waits_for_board(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// The step whose session it is has gone.
    pub(super) fn step_is_gone(&mut self) {
        self.gone = true;
    }

    /// Whether its processes are being killed.
    pub(super) fn is_killing(&self) -> bool {
        matches!(self.busy, Busy::Killing { .. })
    }

    fn log(&mut self, random: &mut Random, record: &Record) {
        self.micros += random.below(50_000);
        record::encode(record, self.micros, &mut self.batch);
    }

    fn close(&mut self, random: &mut Random, now: Millis, verdict: Verdict) {
        self.log(random, &Record::Verdict(verdict.clone()));
        self.verdict = Some(verdict);
        self.closed_at = Some(now);
    }

    /// Tells the run something, and begins what it says.
    fn input(&mut self, random: &mut Random, now: Millis, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            if let Some(run) = &mut self.run {
                run.handle(now, input, &mut out);
            }
            for output in out {
                match output {
                    Output::Prepare => self.busy = if self.needs { Busy::Fetching } else { Busy::Preparing },
                    Output::Spawn { step } => {
                        if random.chance(10) {
                            let why = format!("starting step {}: no processes", step + 1);
                            inputs.push(Input::SpawnFailed { blame: Blame::Agent, why });
                            continue;
                        }
                        let status = match random.below(100) {
                            0..=5 => Some(random.between(1, 255) as i32),
                            6 | 7 => None,
                            _ => Some(0),
                        };
                        let left = if self.big { 40 } else { random.below(6) };
                        self.busy = Busy::Step { left, status };
                        inputs.push(Input::StepSpawned);
                    }
                    Output::Try => {
                        self.busy = Busy::Trial {
                            left: if self.leased && random.chance(400) { u64::MAX } else { random.below(6) },
                        }
                    }
                    Output::Terminate => {
                        self.asked = true;
                        // A flash that is under way does not hear it.
                        if matches!(self.busy, Busy::Trial { .. }) && random.chance(700) {
                            self.busy = Busy::Nothing;
                            inputs.push(Input::Tried(None));
                        }
                        // Most obey; some do not hear it.
                        if let Busy::Step { left, status } = &mut self.busy
                            && random.chance(800)
                        {
                            (*left, *status) = (random.below(2), Some(143));
                        }
                    }
                    Output::Kill => {
                        self.asked = true;
                        let trial = matches!(self.busy, Busy::Trial { .. });
                        self.busy = Busy::Killing { step: matches!(self.busy, Busy::Step { .. }), trial };
                    }
                    Output::CollectArtifacts { .. } => self.busy = Busy::Collecting { left: random.below(3) },
                    Output::Keep(length) => {
                        // The edge takes it where the bytes are.
                        self.kept += length as u64;
                    }
                    Output::Record(record) => self.log(random, &record),
                    Output::End(verdict) => {
                        self.busy = Busy::Nothing;
                        self.close(random, now, verdict);
                    }
                    Output::Bug(what) => self.contradicted = Some(what),
                }
            }
        }
    }

    pub(super) fn cancel(&mut self, random: &mut Random, now: Millis) {
        if self.closed_at.is_none() {
            self.input(random, now, Input::Cancel { why: "the master asked for it".to_string() });
        }
    }

    /// A step prints.
    fn print(&mut self, random: &mut Random, now: Millis) {
        let length = match random.below(20) {
            _ if self.big => 60_000,
            0 => return,
            1 => random.between(1000, 9000),
            _ => random.between(1, 200),
        };
        if self.channels < 3 && (self.channels == 0 || random.chance(200)) {
            let name = format!("channel{}", self.channels);
            self.log(random, &Record::Channel(self.channels, ChannelStart { name }));
            self.channels += 1;
        }
        let channel = random.below(u64::from(self.channels)) as u8;
        let before = self.kept;
        let at = self.batch.len();
        self.input(random, now, Input::Printed { length: length as usize });
        let kept = self.kept - before;
        if kept > 0 {
            // What was said about it stands behind it.
            let said = self.batch.split_off(at);
            let bytes = random.bytes(kept as usize);
            record::encode(&Record::Data(channel, bytes), self.micros, &mut self.batch);
            self.batch.extend_from_slice(&said);
            self.batch_output += kept;
        }
    }

    /// A file that matches the globs is kept: complete on the disk before it is announced.
    fn keep(&mut self, random: &mut Random) {
        self.artifacts += 1;
        let size = match random.below(10) {
            0..=2 => 0,
            3 => random.between(60_000, 200_000),
            _ => random.between(1, 4000),
        };
        let bytes = random.bytes(size as usize);
        let artifact = Artifact {
            stream: self.artifacts,
            path: format!("out/file{}", random.below(4)),
            size,
            sha256: digest(&bytes),
            executable: random.chance(500),
        };
        self.files.push(Written { stream: self.artifacts, bytes, announced: Vec::new(), verdict: None });
        self.log(random, &Record::Artifact(artifact.clone()));
        self.announcing.push(artifact);
    }

    /// Everything of the job is gone.
    pub(super) fn swept(&mut self, random: &mut Random, now: Millis) {
        let Busy::Killing { step, trial } = self.busy else { return };
        self.busy = Busy::Nothing;
        self.exited = None;
        if step {
            self.input(random, now, Input::StepExited { status: 137, signalled: true, limit: None });
        }
        if trial {
            self.input(random, now, Input::Tried(None));
        }
        self.input(random, now, Input::Drained);
    }

    /// Goes on a little.
    pub(super) fn turn(&mut self, random: &mut Random, now: Millis, full: bool, bug: Option<Bug>) -> Turn {
        let mut turn = Turn::default();
        let busy = self.busy.clone();
        if self.wedged && matches!(busy, Busy::Collecting { .. } | Busy::Killing { .. }) {
            return turn;
        }
        let due = self.run.as_ref().and_then(Run::deadline).is_some_and(|due| due <= now);
        match busy {
            _ if due => self.input(random, now, Input::Tick),
            Busy::Fetching if self.asked => {
                self.busy = Busy::Preparing;
                let (fault, blame) = (Fault::Infrastructure, Blame::Agent);
                self.input(random, now, Input::PrepareFailed { fault, blame, why: "it was stopped".to_string() });
            }
            Busy::Preparing if self.asked || random.chance(300) => {
                let failed = Input::PrepareFailed {
                    fault: if random.chance(100) { Fault::Spec } else { Fault::Infrastructure },
                    blame: random.pick(&[Blame::Agent, Blame::Platform, Blame::Repository]).unwrap_or(Blame::Agent),
                    why: "the mirror broke".to_string(),
                };
                let fails = self.asked || random.chance(30);
                self.input(random, now, if fails { failed } else { Input::Prepared });
            }
            Busy::Step { .. } if self.waits && !self.asked => {}
            // A full disk and a slow master hold up whoever prints.
            Busy::Step { left, status } if left > 0 && self.backlog.may_read() => {
                self.busy = Busy::Step { left: left - 1, status };
                self.print(random, now);
            }
            Busy::Step { left: 0, status: Some(status) } => {
                let (since, left) = *self.exited.get_or_insert_with(|| (now, random.below(4)));
                if left > 0 {
                    let rest = bug != Some(Bug::RestUnread) && self.backlog.may_read_rest();
                    if self.backlog.may_read() || rest {
                        turn.rests = u64::from(self.backlog.is_full());
                        self.exited = Some((since, left - 1));
                        self.print(random, now);
                    }
                    if now - since > HEARD_MS {
                        turn.broken = Some(("a step's end is heard", format!("it ended {} ms ago", now - since)));
                        return turn;
                    }
                    return self.end_turn(random, now, full, bug, turn);
                }
                self.exited = None;
                self.failed |= status != 0 && !self.asked;
                self.busy = Busy::Nothing;
                let status = if bug == Some(Bug::StatusUnheard) { 0 } else { status };
                self.input(random, now, Input::StepExited { status, signalled: false, limit: None });
            }
            Busy::Trial { left } if left > 0 && self.backlog.may_read() => {
                self.busy = Busy::Trial { left: left - 1 };
                self.print(random, now);
            }
            Busy::Trial { left: 0 } => {
                self.busy = Busy::Nothing;
                let (outcome, fault) = match random.below(20) {
                    _ if self.gone => (Outcome::Cancelled, Fault::Person),
                    0 | 1 => (Outcome::Failed, Fault::Job),
                    2 => (Outcome::Infra, Fault::Infrastructure),
                    _ => (Outcome::Passed, Fault::Nobody),
                };
                let trouble = if outcome == Outcome::Infra { Blame::Platform.word() } else { None };
                let cause = String::new();
                let tried = Verdict { outcome, fault, cause, step: Some(2), status: None, trouble, verdict: None };
                self.input(random, now, Input::Tried(Some(tried)));
            }
            Busy::Collecting { left } if left > 0 && !full => {
                self.busy = Busy::Collecting { left: left - 1 };
                self.keep(random);
            }
            Busy::Collecting { left } => {
                self.busy = Busy::Nothing;
                let trouble = (left > 0 || random.chance(5)).then(|| "collecting artifacts: no room".to_string());
                self.input(random, now, Input::ArtifactsCollected { trouble });
            }
            _ => {}
        }
        self.end_turn(random, now, full, bug, turn)
    }

    fn end_turn(&mut self, random: &mut Random, now: Millis, full: bool, bug: Option<Bug>, mut turn: Turn) -> Turn {
        self.flush(now, full, bug, &mut turn);
        if self.written || turn.given_up {
            return turn;
        }
        let mut wait = random.between(1, self.pace);
        if matches!(self.busy, Busy::Step { left: 0, status: None }) {
            wait = LOOK_MS;
        }
        let due = [self.run.as_ref().and_then(Run::deadline), self.backlog.deadline()];
        let due = due.into_iter().flatten().map(|due| due.saturating_sub(now).max(1)).min();
        turn.wait = Some(if self.backlog.is_full() { due.unwrap_or(wait) } else { wait.min(due.unwrap_or(wait)) });
        turn
    }

    fn flush(&mut self, now: Millis, full: bool, bug: Option<Bug>, turn: &mut Turn) {
        // Whoever buries an attempt tries until there is room.
        if full && self.run.is_none() {
            return;
        }
        turn.written.append(&mut self.files);
        let (mut out, last) = (Vec::new(), self.verdict.is_some());
        self.backlog.handle(now, backlog::Input::Waiting { bytes: self.batch.len() as u64, last }, &mut out);
        while let Some(output) = out.pop() {
            match output {
                backlog::Output::Write if full && bug == Some(Bug::FullDiskDrops) && !last => {
                    self.batch.clear();
                    self.batch_output = 0;
                    self.announcing.clear();
                    self.backlog.handle(now, backlog::Input::Written, &mut out);
                }
                backlog::Output::Write if full => self.backlog.handle(now, backlog::Input::Refused, &mut out),
                backlog::Output::Write => {
                    self.logged += std::mem::take(&mut self.batch_output);
                    let announced = std::mem::take(&mut self.announcing);
                    let (bytes, verdict) = (std::mem::take(&mut self.batch), self.verdict.clone());
                    self.written = verdict.is_some();
                    turn.written.push(Written { stream: 0, bytes, announced, verdict });
                    self.backlog.handle(now, backlog::Input::Written, &mut out);
                }
                backlog::Output::GiveUp => {
                    turn.given_up = true;
                    let waited = now.saturating_sub(self.closed_at.unwrap_or(now));
                    if waited < LAST_MS {
                        turn.broken = Some(("a verdict waits for room", format!("for {waited} ms")));
                    }
                }
                backlog::Output::Bug(what) => turn.broken = Some(("no machine contradicts itself", what.to_string())),
            }
        }
        if let Some(what) = self.contradicted {
            turn.broken = Some(("no machine contradicts itself", what.to_string()));
        }
        if self.written && self.run.is_some() && self.logged != self.kept {
            turn.broken = Some(("all output", format!("{} of {} bytes are in the log", self.logged, self.kept)));
        }
        let passed = self.verdict.as_ref().is_some_and(|verdict| verdict.outcome == Outcome::Passed);
        if passed && self.failed {
            turn.broken = Some(("a failed step", "a job has passed although a step of it failed".to_string()));
        }
    }

    /// The master holds so much of the log.
    pub(super) fn acked(&mut self, now: Millis, length: u64) {
        self.backlog.handle(now, backlog::Input::Acked(length), &mut Vec::new());
    }
}
