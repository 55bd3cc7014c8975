//! Words of a command → what a person asks for.

use sai_agent::clock::wall;
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::join::check_agent_name;
use sai_core::lease::Asking;
use sai_core::rebuild::Choice;
use sai_core::requests::Sharing;
use sai_core::roles::Powers;
use sai_core::sent::Sent;
use sai_core::start::Start;
use sai_core::wire::Word;
use std::path::PathBuf;

/// The word that lets an image take the place of a newer one.
pub const DOWNGRADE: &str = "downgrade";

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// In a sentence.
    pub text: String,
    /// The job that was made, where it is one.
    pub job: Option<JobId>,
}

impl From<String> for Done {
    fn from(text: String) -> Self {
        Self { text, job: None }
    }
}

/// A piece of a file that somebody sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The file's digest.
    pub sha256: String,
    /// The file's bytes.
    pub size: u64,
    /// The place of the first byte.
    pub at: u64,
    /// The piece.
    pub bytes: Vec<u8>,
}

/// Something a person may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End a job.
    CancelJob(JobId),
    /// End an attempt of a job, and no other: a page that was left open must not end what it does not show.
    CancelAttempt(JobKey),
    /// Run an ended job again.
    RebuildJob(JobId),
    /// End all jobs of an event.
    CancelEvent(EventId),
    /// Run those of these jobs of an event again that have ended.
    RebuildEvent(EventId, Choice),
    /// Run an ended job again, with all that need it.
    RebuildFollowing(JobId),
    /// Build something of this repository that nobody has pushed just now.
    Start(String, Start),
    /// Have a board for a while.
    Lease(Asking),
    /// Say something at a board that one has.
    Word(Word),
    /// Take a piece of an image for the board that a job of theirs has.
    Image(JobId, Piece),
    /// Share a board that one has with somebody, or do so no more.
    Share(Sharing),
    /// Take a piece of what is to be built of this repository although nobody has pushed it.
    Send(String, Piece),
    /// Build what was sent.
    Run(String, Sent),
    /// Take back the units of a grant, whatever its holder still does.
    FreeUnits(u64),
    /// Let new agents in: the answer is a join line for each, in this order.
    AgentAdd(Vec<String>),
    /// Let an agent in no more.
    AgentRevoke(String),
    /// Give an agent no more jobs, or give it jobs again.
    SetAside(String, bool),
    /// Give a board of an agent no more jobs, or give it jobs again.
    BoardAside(String, String, bool),
    /// Find out how well a board of an agent is.
    CheckBoard(String, String),
    /// Give the card of an agent, or of all, this image; whether that may be older than what is there.
    AgentUpdate(String, PathBuf, bool),
    /// Tell which agents there are.
    AgentList,
    /// Let somebody act, and what they may do: the answer is the token to sign in with.
    UserAdd(String, Powers),
    /// Let somebody act no more.
    UserRevoke(String),
    /// Tell who may act.
    UserList,
    /// Delete what retention does not keep.
    Collect,
    /// Judge a board's log once more, of a job and an attempt, by the saifile of this name and text, or by its event's.
    Rejudge(JobId, Option<u32>, Option<(String, String)>),
    /// Tell how the master is.
    Status,
}

/// An agent and a board of its.
fn board(named: &str) -> Result<(String, String), String> {
    let parts = named.split_once('/').filter(|(agent, board)| !agent.is_empty() && !board.is_empty());
    let (agent, board) = parts.ok_or_else(|| format!("expected a board, as AGENT/BOARD, not {named:?}"))?;
    Ok((agent.to_string(), board.to_string()))
}

impl Action {
    /// Reads the words of a command.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("expected a number, not {text:?}"));
        let name = |text: &str| check_agent_name(text).map(|()| text.to_string());
        Ok(match words {
            ["agent", "add", names @ ..] if !names.is_empty() => {
                Self::AgentAdd(names.iter().map(|text| name(text)).collect::<Result<_, _>>()?)
            }
            ["agent", "revoke", name] => Self::AgentRevoke((*name).to_string()),
            ["agent", "aside", name] => Self::SetAside((*name).to_string(), true),
            ["agent", "back", name] => Self::SetAside((*name).to_string(), false),
            ["agent", "update", who, image, how @ ..] if matches!(how, [] | [DOWNGRADE]) => {
                Self::AgentUpdate(name(who)?, PathBuf::from(image), !how.is_empty())
            }
            ["agent", "update", ..] => return Err("expected an agent's name or `all`, and an image".to_string()),
            ["agent", "list"] => Self::AgentList,
            ["board", what @ ("aside" | "back" | "health"), named] => {
                let (agent, board) = board(named)?;
                match *what {
                    "health" => Self::CheckBoard(agent, board),
                    what => Self::BoardAside(agent, board, what == "aside"),
                }
            }
            ["user", "add", text, powers @ ..] => Self::UserAdd(name(text)?, Powers::parse(powers, wall())?),
            ["user", "revoke", name] => Self::UserRevoke((*name).to_string()),
            ["user", "list"] => Self::UserList,
            ["gc"] => Self::Collect,
            ["status"] => Self::Status,
            ["cancel", "job", id] => Self::CancelJob(number(id)?),
            ["cancel", "event", id] => Self::CancelEvent(number(id)?),
            ["rebuild", "job", id] => Self::RebuildJob(number(id)?),
            ["rebuild", "following", id] => Self::RebuildFollowing(number(id)?),
            ["rejudge", which, given @ ..] => {
                let which = match which.parse::<JobKey>() {
                    Ok(key) => (key.job, Some(key.attempt)),
                    Err(_) => (number(which)?, None),
                };
                let saifile = match given {
                    [] => None,
                    ["saifile", name, text] => Some(((*name).to_string(), (*text).to_string())),
                    _ => return Err("expected a job, as 12 or 12-1".to_string()),
                };
                Self::Rejudge(which.0, which.1, saifile)
            }
            ["start", repository, reference, given @ ..] => {
                Self::Start((*repository).to_string(), Start::parse(reference, given)?)
            }
            ["unit", "free", grant] => Self::FreeUnits(number(grant)?),
            ["rebuild", "event", id, which @ ..] => Self::RebuildEvent(number(id)?, Choice::parse(which)?),
            ["agent", ..] => {
                return Err("expected add, list, revoke, aside, back or update, and the agent's name".to_string());
            }
            ["board", ..] => return Err("expected aside, back or health, and a board, as AGENT/BOARD".to_string()),
            ["user", ..] => return Err("expected add, list or revoke, and the user's name".to_string()),
            ["rejudge"] => return Err("expected a job, as 12 or 12-1".to_string()),
            ["start", ..] => return Err("expected a repository and a branch".to_string()),
            ["unit", ..] => return Err("expected free, and a grant's number".to_string()),
            ["rebuild", ..] => return Err("expected job, following or event, and its number".to_string()),
            ["cancel", ..] => return Err("expected job or event, and its number".to_string()),
            [command, word, ..] => return Err(format!("{word:?} is one word too many after {command}")),
            _ => return Err("expected a command".to_string()),
        })
    }

    /// Whether it lets somebody in, which can be done before a master's first start.
    pub fn adds(&self) -> bool {
        matches!(self, Self::AgentAdd(_) | Self::UserAdd(..))
    }
}
