//! An attempt → the bytes its supervisor writes, piece by piece, into its log and its artifacts.

use super::processes::Processes;
use super::random::Random;
use sai_core::job::{Blame, Fault, JobKey, Outcome, Verdict};
use sai_core::record::{self, Artifact, ChannelStart, Record, StepEnd, StepStart};
use std::collections::VecDeque;

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

#[derive(Clone, Debug)]
struct Piece {
    stream: u16,
    bytes: Vec<u8>,
    announces: Option<Artifact>,
    verdict: Option<Verdict>,
}

/// A process that writes one attempt's streams.
#[derive(Clone, Debug)]
pub(super) struct Supervisor {
    pieces: VecDeque<Piece>,
    written: usize,
    micros: u64,
    step: u32,
    /// Whether it never gets to its end.
    wedged: bool,
    /// Milliseconds between two writes at most.
    pub(super) pace: u64,
    /// What has to be gone before its verdict.
    pub(super) processes: Processes,
}

/// What one write added.
pub(super) struct Written {
    pub(super) stream: u16,
    pub(super) bytes: Vec<u8>,
    pub(super) announced: Option<Artifact>,
    pub(super) verdict: Option<Verdict>,
}

impl Supervisor {
    pub(super) fn new(random: &mut Random, key: JobKey, big: bool) -> Self {
        let pace = if random.chance(250) { 3000 } else { 200 };
        let mut this = Self { pace, ..Self::empty() };
        this.processes = Processes::new(random);
        this.log(random, Record::Channel(0, ChannelStart { name: "stdout".to_string() }));
        let mut channels = 1;
        let mut artifacts: u16 = 0;
        for step in 0..random.between(1, 3) as u32 {
            this.step = step;
            this.log(random, Record::StepStart(StepStart { step, text: format!("make part{step} of {key}") }));
            let records = if big { 40 } else { random.below(6) };
            for _ in 0..records {
                let length = match random.below(20) {
                    _ if big => 60_000,
                    0 => 0,
                    1 => random.between(1000, 9000),
                    _ => random.between(1, 200),
                };
                if channels < 3 && random.chance(200) {
                    this.log(random, Record::Channel(channels, ChannelStart { name: format!("more{channels}") }));
                    channels += 1;
                }
                let channel = random.below(u64::from(channels)) as u8;
                let bytes = random.bytes(length as usize);
                this.log(random, Record::Data(channel, bytes));
            }
            if random.chance(300) {
                this.log(random, Record::Note("something worth a note".to_string()));
            }
            if random.chance(350) {
                artifacts += 1;
                this.artifact(random, artifacts);
            }
            this.log(random, Record::StepEnd(StepEnd { step, status: 0 }));
        }
        for _ in 0..random.below(3) {
            artifacts += 1;
            this.artifact(random, artifacts);
        }
        let outcome = match random.below(20) {
            0 => Outcome::Infra,
            1 | 2 => Outcome::TimedOut,
            3..=5 => Outcome::Failed,
            _ => Outcome::Passed,
        };
        this.verdict(random, outcome);
        this.wedged = random.chance(15);
        this
    }

    /// A supervisor that only reports that its agent died before the job began.
    pub(super) fn stillborn(random: &mut Random) -> Self {
        let mut this = Self::empty();
        this.verdict(random, Outcome::Infra);
        this
    }

    fn empty() -> Self {
        let processes = Processes::default();
        Self { pieces: VecDeque::new(), written: 0, micros: 0, step: 0, wedged: false, pace: 20, processes }
    }

    /// Whether it has written all that it will.
    pub(super) fn has_ended(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether it has nothing more to write but its verdict, of which no byte is written.
    pub(super) fn is_at_its_end(&self) -> bool {
        self.written == 0 && self.pieces.front().is_some_and(|piece| piece.verdict.is_some())
    }

    fn log(&mut self, random: &mut Random, record: Record) {
        self.micros += random.below(50_000);
        let mut bytes = Vec::new();
        record::encode(&record, self.micros, &mut bytes);
        let (announces, verdict) = match record {
            Record::Artifact(artifact) => (Some(artifact), None),
            Record::Verdict(verdict) => (None, Some(verdict)),
            _ => (None, None),
        };
        self.pieces.push_back(Piece { stream: 0, bytes, announces, verdict });
    }

    fn artifact(&mut self, random: &mut Random, stream: u16) {
        let size = match random.below(10) {
            0..=2 => 0,
            3 => random.between(60_000, 200_000),
            _ => random.between(1, 4000),
        };
        let bytes = random.bytes(size as usize);
        let artifact = Artifact {
            stream,
            path: format!("out/file{}", random.below(4)),
            size,
            sha256: digest(&bytes),
            executable: random.chance(500),
        };
        // It is complete on the disk before it is announced, as a supervisor collects it.
        self.pieces.push_back(Piece { stream, bytes, announces: None, verdict: None });
        self.log(random, Record::Artifact(artifact));
    }

    fn verdict(&mut self, random: &mut Random, outcome: Outcome) {
        let (fault, cause) = match outcome {
            Outcome::Passed => (Fault::Nobody, String::new()),
            Outcome::Infra => (Fault::Infrastructure, "the mirror broke".to_string()),
            Outcome::Cancelled => (Fault::Person, "the master asked for it".to_string()),
            Outcome::Failed | Outcome::TimedOut | Outcome::Other(_) => (Fault::Job, "step went wrong".to_string()),
        };
        let step = (outcome != Outcome::Passed).then_some(self.step);
        let status = (outcome == Outcome::Failed).then(|| random.between(1, 255) as i32);
        let blame = [Blame::Agent, Blame::Platform, Blame::Repository];
        let trouble = if outcome == Outcome::Infra { random.pick(&blame).and_then(Blame::word) } else { None };
        self.log(random, Record::Verdict(Verdict { outcome, fault, cause, step, status, trouble, verdict: None }));
    }

    /// Ends early, unless it is at its end already.
    pub(super) fn cancel(&mut self, random: &mut Random) {
        if self.wedged || self.pieces.len() <= 1 {
            return;
        }
        // A record that is half written is finished first.
        let rest = self.pieces.split_off(usize::from(self.written > 0));
        drop(rest);
        self.verdict(random, Outcome::Cancelled);
    }

    /// Writes a little more; `None` when there is nothing more to come.
    pub(super) fn write(&mut self, random: &mut Random) -> Option<Written> {
        if self.wedged && self.pieces.len() <= 2 {
            return None;
        }
        let piece = self.pieces.front()?;
        let rest = piece.bytes.len() - self.written;
        let length = if rest > 1 && random.chance(300) { random.between(1, rest as u64) as usize } else { rest };
        let bytes = piece.bytes[self.written..self.written + length].to_vec();
        self.written += length;
        let mut written = Written { stream: piece.stream, bytes, announced: None, verdict: None };
        if self.written == piece.bytes.len() {
            written.announced.clone_from(&piece.announces);
            written.verdict.clone_from(&piece.verdict);
            self.pieces.pop_front();
            self.written = 0;
        }
        Some(written)
    }
}
