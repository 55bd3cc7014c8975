//! Messages and frames between agent and master ↔ the text and bytes of one WebSocket message.
//!
//! A text frame is one JSON object whose `t` names its kind; a binary frame's first byte does. Kinds and keys that are not
//! known are passed over, so that either side may learn new ones first; what is wrong with a known one is its peer's
//! fault. The one kind of binary frame is a piece of a stream: a 24-byte header and at most `CHUNK_BYTES` of content.

use crate::bundle::Bundle;
use crate::card::Card;
use crate::escape;
use crate::job::JobKey;
use crate::ledger::Needed;
use crate::limits::CHUNK_BYTES;
use crate::ordered::Map;
use crate::secret::CloneUrl;
use crate::units::{OfferedBoard, WantedBoard};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use miniserde::{Deserialize, Serialize, json};

/// Bytes of a binary frame's header.
pub const DATA_HEADER_BYTES: usize = 24;
const DATA: u8 = 1;
/// Characters that are shown of the name of a kind of message that is not known.
const KIND_CHARACTERS: usize = 32;

/// Why a frame is none of the messages or pieces that this version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Its kind is a later version's: it is passed over. What it is, for people, on one line.
    Unknown(String),
    /// What is wrong with it: the peer's fault.
    Malformed(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(out, "{what} of unknown kind"),
            Self::Malformed(why) => out.write_str(why),
        }
    }
}

/// What a binary frame of a kind that is not known is called.
pub fn unknown_binary(kind: u8) -> String {
    format!("a binary frame ({kind})")
}

impl Unread {
    fn message(kind: &str) -> Self {
        let kind: String = escape::line(kind).chars().take(KIND_CHARACTERS).collect();
        Self::Unknown(format!("a message ({kind})"))
    }
}

/// Where a piece of a stream belongs. On the wire, little endian: kind `u8` = 1, zero `u8`, stream `u16`, attempt
/// `u32`, job `u64`, offset `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The attempt.
    pub key: JobKey,
    /// 0 is the log, from 1 on artifacts.
    pub stream: u16,
    /// Offset of the first byte of the content in its stream.
    pub offset: u64,
}

impl DataHeader {
    /// The header as it goes before the content.
    pub fn encode(&self) -> [u8; DATA_HEADER_BYTES] {
        let mut bytes = [0; DATA_HEADER_BYTES];
        bytes[0] = DATA;
        bytes[2..4].copy_from_slice(&self.stream.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.key.attempt.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.key.job.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// Splits a binary frame into header and content.
    ///
    /// # Errors
    /// That its kind is not known, or what is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<(Self, &[u8]), Unread> {
        if let Some(kind) = frame.first().copied().filter(|kind| *kind != DATA) {
            return Err(Unread::Unknown(unknown_binary(kind)));
        }
        Self::decode_data(frame).map_err(Unread::Malformed)
    }

    fn decode_data(frame: &[u8]) -> Result<(Self, &[u8]), String> {
        let (head, content) = frame
            .split_at_checked(DATA_HEADER_BYTES)
            .ok_or_else(|| format!("a binary frame of {} bytes, less than its header", frame.len()))?;
        if head[1] != 0 {
            return Err(format!("a binary frame whose second byte is {}, not 0", head[1]));
        }
        if content.is_empty() || content.len() > CHUNK_BYTES {
            return Err(format!("a binary frame with {} bytes of content, not 1 to {CHUNK_BYTES}", content.len()));
        }
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let header = Self {
            key: JobKey { job: long(8), attempt: u32::from_le_bytes([head[4], head[5], head[6], head[7]]) },
            stream: u16::from_le_bytes([head[2], head[3]]),
            offset: long(16),
        };
        header.offset.checked_add(content.len() as u64).ok_or("a binary frame past the end of all streams")?;
        Ok((header, content))
    }
}

/// What an agent says first on every link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest protocol that the agent speaks, and the only one that masters of the first release look at.
    pub protocol: u32,
    /// The agent's version, for people.
    pub version: String,
    /// 32 hex digits the agent drew once and keeps in its state directory: its token works with no other.
    pub identity: String,
    /// Host name, for people.
    pub host: String,
    /// What it can do: names as `os/arch/toolchain`.
    pub platforms: Vec<String>,
    /// Jobs it can run at once.
    pub slots: u32,
    /// Processor cores.
    pub cores: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Names of the repositories whose mirror it holds.
    pub mirrors: Vec<String>,
    /// Attempts it still holds, running or ended and not yet forgotten.
    pub jobs: Vec<JobKey>,
    /// Sentences for people: what this machine does not hold its jobs to, for instance.
    pub notes: Option<Vec<String>>,
    /// 32 hex digits drawn by each process of the agent anew: the master tells by it an agent on a new link from a
    /// second machine with the same identity. Absent from older agents.
    pub instance: Option<String>,
    /// The newest protocol that the agent speaks; absent when that is the oldest, and from older agents.
    pub protocol_newest: Option<u32>,
    /// See [`crate::versions::Can`]; absent from older agents.
    pub can: Option<Vec<String>>,
    /// See [`Offer::rooted`].
    pub rooted: Option<Vec<String>>,
    /// See [`Offer::boards`].
    pub boards: Option<Vec<OfferedBoard>>,
    /// What its machine was started from, where that is a card of Sai's image; absent from older agents.
    pub card: Option<Card>,
}

/// The agent's load changed enough to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// One-minute load average × 1000 / cores.
    pub load_permille: u32,
    /// Free space where jobs work, MiB.
    pub free_mib: u64,
}

/// The agent offers other platforms or slots than it said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// All platforms it offers now.
    pub platforms: Vec<String>,
    /// Jobs it can run at once now; 0 while it is paused.
    pub slots: u32,
    /// The platforms of which it takes jobs whose steps are root in a container; absent when there are none, and from older
    /// agents.
    pub rooted: Option<Vec<String>>,
    /// The boards that jobs may run at, none of which is given before [`Units`] called it free on this link; absent when there
    /// are none, and from older agents.
    pub boards: Option<Vec<OfferedBoard>>,
}

/// The agent cannot start what it was assigned: trouble of its own, nothing of the job has run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refuse {
    /// The attempt.
    pub key: JobKey,
    /// Why, for people.
    pub why: String,
    /// See [`crate::job::Blame`]; absent from older agents.
    pub trouble: Option<String>,
}

/// The agent is there: the answer to a [`Ping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// That of the ping.
    pub number: u64,
    /// What the agent's clock says as it is sent, Unix milliseconds; older agents do not say.
    pub wall: Option<u64>,
}

/// What an agent says of a unit: which of its boards, or none for what the master itself has granted. Nothing but this,
/// a verdict, a refusal or a greeting without the attempt frees what an attempt holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// Name of the board at the agent. Absent: all that the holder was granted by the master itself.
    pub board: Option<String>,
    /// `free`, or a word of a later version.
    pub state: String,
    /// The attempt that holds it, or held it until now.
    pub holder: Option<JobKey>,
    /// Number of the grant that this is about, where there is one. Of a board that is free: the latest that the agent knows
    /// of it.
    pub grant: Option<u64>,
    /// Who has a board that is not free and that no job holds, for people; absent from older agents.
    pub why: Option<String>,
}

impl Units {
    /// The state in which nothing of the holder runs any more.
    pub const FREE: &str = "free";
    /// The state of a board that somebody has.
    pub const BUSY: &str = "busy";
    /// The state of a board whose owner has not said how it stands.
    pub const UNKNOWN: &str = "unknown";
}

/// A step asks for a session at a board of its own agent, or wants none any more. It may be said any number of times: of an attempt's
/// sessions each has a number. Agents say it to masters that have said they hear it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The attempt whose step asks.
    pub key: JobKey,
    /// Which of its sessions, from 1.
    pub number: u32,
    /// The board that is wanted; absent where it is wanted no longer.
    pub board: Option<WantedBoard>,
}

/// How far the agent is with an [`Update`]. It is said again on a new link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updating {
    /// The image's number.
    pub number: u64,
    /// `fetching`, `waiting` for what runs, `handed` to the machine's first process, `refused`, or a word of a later version.
    pub state: String,
    /// Bytes that are there.
    pub have: u64,
    /// What is in the way, for people.
    pub why: Option<String>,
}

impl Updating {
    /// The file is on its way.
    pub const FETCHING: &str = "fetching";
    /// The file is there; jobs that are held are seen to their ends.
    pub const WAITING: &str = "waiting";
    /// The machine is about to be started with it.
    pub const HANDED: &str = "handed";
    /// It is not taken.
    pub const REFUSED: &str = "refused";
}

/// Everything an agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentMessage {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Load`].
    Load(Load),
    /// See [`Offer`].
    Offer(Offer),
    /// See [`Refuse`].
    Refuse(Refuse),
    /// See [`Pong`].
    Pong(Pong),
    /// See [`Units`].
    Units(Units),
    /// See [`Session`].
    Session(Session),
    /// See [`Updating`].
    Updating(Updating),
}

/// The master's answer to a good [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol that both are to speak on this link: the newest that they share.
    pub protocol: u32,
    /// The master's version, for people.
    pub version: String,
    /// The name under which the master knows this agent.
    pub agent: String,
    /// See [`crate::versions::Can`]; absent from older masters.
    pub can: Option<Vec<String>>,
}

/// One attempt to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The attempt.
    pub key: JobKey,
    /// Name of the repository at the master; also `SAI_PROJECT`.
    pub repository: String,
    /// Where to fetch it, credentials and all.
    pub url: CloneUrl,
    /// `refs/heads/…` or `refs/tags/…`.
    pub reference: String,
    /// 40 or 64 hex digits.
    pub revision: String,
    /// The wanted platform, as the saifile names it.
    pub platform: String,
    /// The configuration.
    pub configuration: String,
    /// Scripts, run in order.
    pub steps: Vec<String>,
    /// Environment from platform and configuration; Sai's own names are added by the agent.
    pub env: Map<String, String>,
    /// Globs of files to keep.
    pub artifacts: Vec<String>,
    /// Seconds for the whole job.
    pub timeout_s: u64,
    /// Seconds for each step.
    pub step_timeout_s: Option<u64>,
    /// Bytes of log at most.
    pub log_bytes: u64,
    /// Whether passing `log_bytes` fails the job; else the log says so in place and the job goes on.
    pub log_limit_fails: bool,
    /// Whether submodules are checked out too.
    pub submodules: bool,
    /// The jobs that passed before, each with its attempt, and their files by digest: those of one are to be found below
    /// `$SAI_NEEDS/CONFIGURATION/PLATFORM/` by their paths. All names are a stranger's. Absent where the job needs nothing,
    /// and from older masters; an agent that does not say that it knows this key gets no such job.
    pub needs: Option<Vec<Needed>>,
    /// Whether the steps are root in a container; only agents that said they can are asked to.
    pub root: Option<bool>,
    /// The one of the agent's own platforms in which the job is to run; absent from older masters, and for agents that do
    /// not say that they know this key. Such an agent chooses one that serves `platform`.
    pub offered: Option<String>,
    /// The board that the job runs at; absent where it runs in a platform, and never sent to who offers no boards.
    pub board: Option<AtBoard>,
    /// Whose session at that board it is; absent where it is none.
    pub session: Option<SessionOf>,
    /// The person who has the board for a while, and whose [`Word`]s come; absent where it is no lease. Never sent to who has not
    /// said that it knows this key.
    pub lease: Option<String>,
    /// Whether it is to be found out how well the board is, by what the agent knows of it: nothing else is done there. Never sent for a
    /// board of which the agent has not said that it can.
    pub health: Option<bool>,
    /// The tree that somebody has sent, which has the revision; absent of what was pushed, and from older masters. An agent that
    /// does not say that it knows this key gets no such job.
    pub bundle: Option<Bundle>,
}

/// Which session of which attempt an assignment is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOf {
    /// The attempt whose step asks for it, at the same agent.
    pub key: JobKey,
    /// Which of its sessions.
    pub number: u32,
}

/// A board, and what is to be done there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtBoard {
    /// Its name at the agent.
    pub name: String,
    /// Number of the grant, for [`Units`].
    pub grant: u64,
    /// `board` of the saifile, as [`crate::trial::all_of`] reads it.
    pub trial: String,
    /// The others, where the job has several that are no rig: in their order, all of the same grant. Sent to agents alone that have said
    /// that they know this key.
    pub others: Option<Vec<String>>,
}

impl AtBoard {
    /// Names of all of them, in order.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        core::iter::once(&self.name).chain(self.others.iter().flatten())
    }
}

/// The master holds these attempts for this agent: go on sending from these lengths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    /// The attempt.
    pub key: JobKey,
    /// Durable length of each stream from 0 on; streams past the end of the list have none yet.
    pub lengths: Vec<u64>,
}

/// These bytes of a stream are durable at the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The attempt.
    pub key: JobKey,
    /// The stream.
    pub stream: u16,
    /// Durable length of the stream.
    pub length: u64,
}

/// End this attempt; its verdict still arrives through its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The attempt.
    pub key: JobKey,
    /// Why, for people.
    pub why: String,
}

/// The master needs nothing more of this attempt: kill it if it still runs, delete all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forget {
    /// The attempt.
    pub key: JobKey,
}

/// A job for this revision is likely to come: fetch it into the mirror already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefetch {
    /// Name of the repository.
    pub repository: String,
    /// Where to fetch it, credentials and all.
    pub url: CloneUrl,
    /// The ref.
    pub reference: String,
    /// The revision.
    pub revision: String,
}

/// A word of a person who has a board by a lease, for its attempt. Of each writer the words have numbers, from 1 on without a gap; one
/// is taken once, when the one before it was. The log tells what became of it ([`crate::axis::Answer`]), so that whoever said it says it
/// again until that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The attempt.
    pub key: JobKey,
    /// Who says it: a name that a program drew when it began, see [`check_writer`].
    pub writer: String,
    /// Which of that one's words.
    pub number: u64,
    /// What is wanted, as one line of JSON of at most [`WORD_BYTES`].
    pub said: String,
}

/// Bytes of what a [`Word`] says at most: a line between an agent and a supervisor has twice as many.
pub const WORD_BYTES: usize = 2048;
/// Letters of a writer's name at most.
pub const WRITER_LETTERS: usize = 32;

/// Whether a text can name who says words: small letters and digits.
///
/// # Errors
/// What was expected.
pub fn check_writer(name: &str) -> Result<(), String> {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    match letters && (1..=WRITER_LETTERS).contains(&name.len()) {
        true => Ok(()),
        false => Err(format!("expected 1 to {WRITER_LETTERS} small letters and digits")),
    }
}

/// The agent's card is to have this image: the file is fetched as those of needs are, by attempt 0 of job 0. It may be told again. Only
/// sent to agents that said they have a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The image's number.
    pub number: u64,
    /// SHA-256 of its file, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes of its file.
    pub size: u64,
}

/// The agent is to answer with a [`Pong`], to show that it is alive. Only sent to agents that said their `instance`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// What the answer is to repeat.
    pub number: u64,
}

/// What became of a [`Session`] that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTold {
    /// The attempt whose step asks.
    pub key: JobKey,
    /// Which of its sessions.
    pub number: u32,
    /// The job that it is, where there is one.
    pub job: Option<u64>,
    /// Why there is none, or none any more; absent while it waits for its board or has it.
    pub over: Option<String>,
}

/// Why the master closes the link, said before it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// For people; the agent prints it.
    pub why: String,
    /// What the agent is to make of it, see [`Code`]; absent when it is to try again as ever, and from older masters.
    pub code: Option<String>,
}

/// What an agent is to do about a refusal, beside telling people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Its token was revoked, or belongs to another machine, and no waiting changes that: it ends.
    Revoked,
    /// Another machine uses its identity at the moment: it tries again, with long waits.
    Cloned,
}

/// What the master's refusal of a token (status 401) begins with when the token is one that was revoked: a proxy in between
/// may refuse as well, and only this makes an agent end.
pub const REVOKED: &str = "revoked: ";

impl Code {
    /// The word in [`Bye::code`].
    pub fn word(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Cloned => "cloned",
        }
    }

    /// Reads such a word. One that is not known is from a newer master and means no more than none.
    pub fn of(word: Option<&str>) -> Option<Self> {
        [Self::Revoked, Self::Cloned].into_iter().find(|code| word == Some(code.word()))
    }
}

/// Everything the master says to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterMessage {
    /// See [`Welcome`].
    Welcome(Welcome),
    /// See [`Assignment`].
    Assign(Assignment),
    /// See [`Adopt`].
    Adopt(Adopt),
    /// See [`Ack`].
    Ack(Ack),
    /// See [`Cancel`].
    Cancel(Cancel),
    /// See [`Forget`].
    Forget(Forget),
    /// See [`Prefetch`].
    Prefetch(Prefetch),
    /// See [`Ping`].
    Ping(Ping),
    /// See [`SessionTold`].
    Session(SessionTold),
    /// See [`Word`].
    Word(Word),
    /// See [`Update`].
    Update(Update),
    /// See [`Bye`].
    Bye(Bye),
}

#[derive(Deserialize)]
struct Tag {
    t: String,
}

/// Writes `{"t":"NAME",…}` from a message that is itself written as a JSON object with at least one key.
fn tagged<M: Serialize>(name: &str, message: &M) -> String {
    let body = json::to_string(message);
    format!("{{\"t\":\"{name}\",{}", &body[1..])
}

fn tag(text: &str) -> Result<String, Unread> {
    let tag = json::from_str::<Tag>(text).map(|tag| tag.t);
    tag.map_err(|_| Unread::Malformed("a text frame that is no message".to_string()))
}

fn message<M: Deserialize>(name: &str, text: &str) -> Result<M, Unread> {
    json::from_str(text).map_err(|_| Unread::Malformed(format!("a malformed {name} message")))
}

impl AgentMessage {
    /// The text frame.
    pub fn encode(&self) -> String {
        match self {
            Self::Hello(hello) => tagged("hello", hello),
            Self::Load(load) => tagged("load", load),
            Self::Offer(offer) => tagged("offer", offer),
            Self::Refuse(refuse) => tagged("refuse", refuse),
            Self::Pong(pong) => tagged("pong", pong),
            Self::Units(units) => tagged("units", units),
            Self::Session(session) => tagged("ask", session),
            Self::Updating(updating) => tagged("updating", updating),
        }
    }

    /// Reads a text frame.
    ///
    /// # Errors
    /// That its kind is not known, or what is wrong with it.
    pub fn decode(text: &str) -> Result<Self, Unread> {
        Ok(match tag(text)?.as_str() {
            "hello" => Self::Hello(message("hello", text)?),
            "load" => Self::Load(message("load", text)?),
            "offer" => Self::Offer(message("offer", text)?),
            "refuse" => Self::Refuse(message("refuse", text)?),
            "pong" => Self::Pong(message("pong", text)?),
            "units" => Self::Units(message("units", text)?),
            "ask" => Self::Session(message("ask", text)?),
            "updating" => Self::Updating(message("updating", text)?),
            kind => return Err(Unread::message(kind)),
        })
    }
}

impl MasterMessage {
    /// The text frame.
    pub fn encode(&self) -> String {
        match self {
            Self::Welcome(welcome) => tagged("welcome", welcome),
            Self::Assign(assignment) => tagged("assign", assignment),
            Self::Adopt(adopt) => tagged("adopt", adopt),
            Self::Ack(ack) => tagged("ack", ack),
            Self::Cancel(cancel) => tagged("cancel", cancel),
            Self::Forget(forget) => tagged("forget", forget),
            Self::Prefetch(prefetch) => tagged("prefetch", prefetch),
            Self::Ping(ping) => tagged("ping", ping),
            Self::Session(told) => tagged("session", told),
            Self::Word(word) => tagged("word", word),
            Self::Update(update) => tagged("update", update),
            Self::Bye(bye) => tagged("bye", bye),
        }
    }

    /// Reads a text frame.
    ///
    /// # Errors
    /// That its kind is not known, or what is wrong with it.
    pub fn decode(text: &str) -> Result<Self, Unread> {
        Ok(match tag(text)?.as_str() {
            "welcome" => Self::Welcome(message("welcome", text)?),
            "assign" => Self::Assign(message("assign", text)?),
            "adopt" => Self::Adopt(message("adopt", text)?),
            "ack" => Self::Ack(message("ack", text)?),
            "cancel" => Self::Cancel(message("cancel", text)?),
            "forget" => Self::Forget(message("forget", text)?),
            "prefetch" => Self::Prefetch(message("prefetch", text)?),
            "ping" => Self::Ping(message("ping", text)?),
            "session" => Self::Session(message("session", text)?),
            "word" => Self::Word(message("word", text)?),
            "update" => Self::Update(message("update", text)?),
            "bye" => Self::Bye(message("bye", text)?),
            kind => return Err(Unread::message(kind)),
        })
    }
}
