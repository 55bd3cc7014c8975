//! The small records a master keeps: what it must know to go on after a crash, and what the page shows.
//!
//! Each is one JSON value under a fixed key in the ledger. Build texts and logs are not in here: a job's steps are
//! expanded anew from its event's saifile, which is kept as a file, as are logs and artifacts.

use crate::bundle::Bundle;
use crate::card::{Card, Wanted};
use crate::job::{EventId, Fault, JobId, JobKey, JobState, Verdict};
use crate::offset::Offset;
use crate::ordered::Map;
use crate::record::Artifact;
use crate::roles::Powers;
use crate::units::{GivenBoard, Grant, WantedBoard};
use crate::words::{Word, written_as_words};
use alloc::string::String;
use alloc::vec::Vec;
use miniserde::{Deserialize, Serialize};

/// What made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `GET /hook/REPO`.
    Poke,
    /// A signed `POST /hook/REPO`.
    Hook,
    /// The master looked by itself.
    Poll,
    /// `sai-master try`.
    Try,
    /// Somebody asked for an earlier event's revision again.
    Rebuild,
    /// Somebody started it by hand.
    Start,
    /// A build's step asked for a board.
    Session,
    /// A person asked for a board.
    Lease,
    /// The health of a board was to be found out.
    Health,
    /// Somebody has sent a tree that nobody pushed.
    Run,
    /// A later version's word.
    Other(Word),
}

written_as_words!(Source: Poke, Hook, Poll, Try, Rebuild, Start, Session, Lease, Health, Run);

/// One push: a revision of a repository and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number.
    pub id: EventId,
    /// Name of the repository in the master's configuration.
    pub repository: String,
    /// Where it is fetched, without credentials.
    pub url: String,
    /// `refs/heads/…` or `refs/tags/…`.
    pub reference: String,
    /// 40 or 64 hex digits.
    pub revision: String,
    /// First line of the commit message, empty when not known.
    pub subject: String,
    /// Author's name, empty when not known.
    pub author: String,
    /// What made it.
    pub source: Source,
    /// When it was made, Unix milliseconds.
    pub at: u64,
    /// `FILE:LINE:COLUMN: …` or a sentence, for each reason why it has no jobs.
    pub errors: Vec<String>,
    /// `FILE:LINE:COLUMN: …` for what was odd in its saifile.
    pub warnings: Vec<String>,
    /// Its first job's number; the jobs of an event are numbered without a gap, in matrix order.
    pub first_job: JobId,
    /// How many jobs it has.
    pub jobs: u32,
}

/// What a job needs: another one of its event, and once that has passed, which attempt did and the files that it kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needed {
    /// The other job.
    pub job: JobId,
    /// Its configuration.
    pub configuration: String,
    /// The platform it wants.
    pub platform: String,
    /// The attempt that passed; absent as long as none has, or as the job that needs it is blocked.
    pub attempt: Option<u32>,
    /// That attempt's files.
    pub artifacts: Vec<Artifact>,
}

/// Whose session at a board a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOf {
    /// The attempt whose step asked for it, with which it ends.
    pub key: JobKey,
    /// Which of that one's sessions, from 1.
    pub number: u32,
    /// The agent of both.
    pub agent: String,
}

/// People with whom one lease is shared at most: those who stand around a board.
pub const SHARED_MAX: usize = 16;

/// How a person has a board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// Minutes for which the board is kept after it was last used.
    pub minutes: u64,
    /// The agent whose board it is to be, where one was asked for by its name.
    pub agent: Option<String>,
    /// With whom it is shared: who else hears what happens at it.
    pub people: Option<Vec<String>>,
}

/// The board that a job finds out the health of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkup {
    /// Its agent.
    pub agent: String,
    /// Its name there.
    pub board: String,
    /// Why now, in a sentence.
    pub why: String,
}

/// A health run that said something of its board.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The job that it was.
    pub job: JobId,
    /// When it ended, Unix milliseconds.
    pub at: u64,
    /// Whether the board is well.
    pub passed: bool,
}

/// Somebody who set a board aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Who.
    pub by: String,
    /// When, Unix milliseconds.
    pub at: u64,
}

/// What is known of a board beyond its agent's link and the master's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardRecord {
    /// Who set it aside, where somebody has: until somebody takes it back no job gets it but one that finds out its health.
    pub aside: Option<Aside>,
    /// Why no other job gets it until one has found that it is well; absent where nothing is wrong with it.
    pub unwell: Option<String>,
    /// Health runs in a row that it has not passed.
    pub failed: Option<u32>,
    /// The last one.
    pub last: Option<Checked>,
}

/// An attempt that was at a board, and that another one followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Which attempt.
    pub attempt: u32,
    /// Its agent.
    pub agent: String,
    /// The board that it had trouble with, or the first of those that it had.
    pub board: String,
    /// What was found, in a word, where its log says so.
    pub word: Option<String>,
    /// Why another one followed, in a sentence.
    pub why: String,
    /// When it was given up, Unix milliseconds.
    pub at: u64,
}

/// A session that an attempt asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Which of the attempt's.
    pub number: u32,
    /// The job that it is.
    pub job: JobId,
}

/// One job: a platform and configuration of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its number.
    pub id: JobId,
    /// Its event.
    pub event: EventId,
    /// Name of the repository.
    pub repository: String,
    /// The wanted platform.
    pub platform: String,
    /// The configuration.
    pub configuration: String,
    /// Higher goes first; 0 unless something says otherwise.
    pub priority: i32,
    /// Where it stands.
    pub state: JobState,
    /// Attempts made or under way; 0 before the first.
    pub attempt: u32,
    /// How many attempts ended through trouble of ours.
    pub infra: u32,
    /// Agent of the current or last attempt.
    pub agent: Option<String>,
    /// When it was queued (last), Unix milliseconds.
    pub queued_at: u64,
    /// When the current attempt was assigned.
    pub assigned_at: Option<u64>,
    /// When the current attempt showed its first record.
    pub started_at: Option<u64>,
    /// When it ended.
    pub ended_at: Option<u64>,
    /// Whether it was queued again because the agent of its last attempt did not come back in time: if that one comes
    /// after all, before another attempt begins, it is believed. Absent in records of older masters.
    pub awaited: Option<bool>,
    /// Whether its steps are to be root in a container. Absent in records of older masters.
    pub root: Option<bool>,
    /// Why it ended or was queued again, one sentence, empty when it passed.
    pub cause: String,
    /// Whose fault that was. `Person` on a job under way: it is being cancelled, by whom says `cause`.
    pub fault: Fault,
    /// The verdict of the last attempt that gave one.
    pub verdict: Option<Verdict>,
    /// How many steps it has.
    pub steps: u32,
    /// Step under way or last run, from 0.
    pub step: Option<u32>,
    /// Durable bytes of the last attempt's log, known when it has ended.
    pub log_bytes: u64,
    /// Files of the last attempt, complete ones only.
    pub artifacts: Vec<Artifact>,
    /// What must have passed before it begins. Absent where it needs nothing, and in records of older masters, as are the
    /// keys below.
    pub needs: Option<Vec<Needed>>,
    /// Whether it is queued, but not before what it needs has passed. It is a key of its own beside the state, so that a
    /// master that knows no needs can read the record.
    pub blocked: Option<bool>,
    /// Beside `Cancelled`: it never began, since this job, which it needs, directly or not, ended without having passed.
    pub skipped: Option<JobId>,
    /// How much of which units it occupies while it runs.
    pub units: Option<Map<String, u32>>,
    /// Who asked for it by name, where it was not a push: it is that person's turn then, not the repository's.
    pub person: Option<String>,
    /// Which of its agent's platforms its last attempt ran in; absent where the agent chose by itself.
    pub offered: Option<String>,
    /// The board that it wants: it is run there, and takes no slot. Absent for what runs in a platform of an agent.
    pub board: Option<WantedBoard>,
    /// The board that its last attempt was given.
    pub given: Option<GivenBoard>,
    /// The last attempts at boards that others followed, the oldest first. The records of a board's history are these and `given`.
    pub tried: Option<Vec<Tried>>,
    /// Whose session at a board it is; absent for all other jobs.
    pub session: Option<SessionOf>,
    /// The sessions that its last attempt asked for, in the order of their numbers.
    pub sessions: Option<Vec<Session>>,
    /// How a person has the board; absent for all other jobs.
    pub lease: Option<Leased>,
    /// The board that it finds out the health of; absent for all other jobs.
    pub health: Option<Checkup>,
    /// How far the clock of its last attempt's agent is ahead of the master's; absent where that is not known.
    pub clock: Option<Offset>,
    /// The tree that somebody has sent for it; absent of what was pushed.
    pub bundle: Option<Bundle>,
}

impl JobRecord {
    /// A job of this event as it is first queued, at `at`: of no platform and without steps yet, nothing begun.
    pub fn queued(id: JobId, event: EventId, repository: &str, at: u64) -> Self {
        Self {
            id,
            event,
            repository: String::from(repository),
            platform: String::new(),
            configuration: String::new(),
            priority: 0,
            state: JobState::Queued,
            attempt: 0,
            infra: 0,
            agent: None,
            queued_at: at,
            assigned_at: None,
            started_at: None,
            ended_at: None,
            awaited: None,
            root: None,
            cause: String::new(),
            fault: Fault::Nobody,
            verdict: None,
            steps: 0,
            step: None,
            log_bytes: 0,
            artifacts: Vec::new(),
            needs: None,
            blocked: None,
            skipped: None,
            units: None,
            person: None,
            offered: None,
            board: None,
            given: None,
            tried: None,
            session: None,
            sessions: None,
            lease: None,
            health: None,
            clock: None,
            bundle: None,
        }
    }

    /// The agent whose boards alone come into question, where there is one.
    pub fn only_agent(&self) -> Option<&String> {
        let of = self.session.as_ref().map(|of| &of.agent);
        let of = of.or(self.health.as_ref().map(|of| &of.agent));
        of.or(self.lease.as_ref().and_then(|lease| lease.agent.as_ref()))
    }

    /// Where it stands, in all of the words that there are.
    pub fn standing(&self) -> JobState {
        match self.state {
            JobState::Queued if self.blocked == Some(true) => JobState::Blocked,
            JobState::Cancelled if self.skipped.is_some() => JobState::Skipped,
            state => state,
        }
    }

    /// The word for that.
    pub fn word(&self) -> &str {
        match self.standing() {
            state @ (JobState::Blocked | JobState::Skipped) => state.class(),
            _ => self.state.word(),
        }
    }

    /// What was found at its end, in a finer word than that of its state.
    pub fn finding(&self) -> Option<&str> {
        let finding = self.verdict.as_ref()?.verdict.as_ref()?;
        (self.state.ended() && finding.word != self.word()).then_some(finding.word.as_str())
    }
}

/// An agent that may join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRecord {
    /// Its name, unique.
    pub name: String,
    /// SHA-256 of its token, 64 hex digits. The token itself is shown once and kept nowhere.
    pub token_sha256: String,
    /// When it was added, Unix milliseconds.
    pub added_at: u64,
    /// The identity that first used the token; another one is refused.
    pub identity: Option<String>,
    /// When it was last connected.
    pub seen_at: Option<u64>,
    /// Whether the token was revoked.
    pub revoked: bool,
    /// Host name it last announced.
    pub host: String,
    /// Platforms it last announced.
    pub platforms: Vec<String>,
    /// Units that attempts there hold, or may. Absent in records of older masters.
    pub grants: Option<Vec<Grant>>,
    /// What is known of its boards, by name; absent where that is nothing, and in records of older masters.
    pub boards: Option<Map<String, BoardRecord>>,
    /// What it said last of its card; absent where it is none, and in records of older masters.
    pub card: Option<Card>,
    /// The image that its card is to have.
    pub update: Option<Wanted>,
}

impl AgentRecord {
    /// One that is added at `added_at` with a token of this digest. Units that the machine had which was called so `before` are
    /// still out.
    pub fn added(name: String, token_sha256: String, added_at: u64, before: Option<&AgentRecord>) -> Self {
        Self {
            name,
            token_sha256,
            added_at,
            identity: None,
            seen_at: None,
            revoked: false,
            host: String::new(),
            platforms: Vec::new(),
            grants: before.and_then(|before| before.grants.clone()),
            // Another machine's boards are others.
            boards: None,
            card: None,
            update: None,
        }
    }

    /// Whether its token lets anybody in.
    pub fn may_join(&self) -> bool {
        !self.revoked && !self.token_sha256.is_empty()
    }
}

/// Somebody who may act (cancel, rebuild, delete).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// Name, unique.
    pub name: String,
    /// SHA-256 of the token, 64 hex digits. Tokens are 256 random bits, so that no slow hash is needed.
    pub token_sha256: String,
    /// When added, Unix milliseconds.
    pub added_at: u64,
    /// Whether the token was revoked.
    pub revoked: bool,
    /// What they may do and until when; who was let in before there were roles has none.
    pub powers: Option<Powers>,
}

/// The tip of a ref that has been seen, so that it makes no event twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TipRecord {
    /// Name of the repository.
    pub repository: String,
    /// The ref.
    pub reference: String,
    /// Where it pointed when last seen.
    pub revision: String,
}

/// Somebody did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// Its number.
    pub id: u64,
    /// When, Unix milliseconds.
    pub at: u64,
    /// User's name, or `command line`.
    pub who: String,
    /// What, one sentence.
    pub what: String,
}
