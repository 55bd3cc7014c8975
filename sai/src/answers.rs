//! JSON of a master's API → what of it is used here. What it does not say is left out, as an older master does.

use miniserde::Deserialize;

/// Whose a token is.
#[derive(Clone, Debug, Deserialize)]
pub struct Me {
    /// The person.
    pub name: String,
    /// Words for what that person may do.
    pub powers: Vec<String>,
    /// When the token ends.
    pub until: Option<String>,
}

/// What is wrong.
#[derive(Debug, Deserialize)]
pub struct Wrong {
    /// A sentence.
    pub error: String,
}

/// What was done.
#[derive(Debug, Deserialize)]
pub struct Done {
    /// A sentence.
    pub done: String,
    /// The job that was made, where one was.
    pub job: Option<u64>,
}

/// A unit of an agent's, or of the master's.
#[derive(Clone, Debug, Deserialize)]
pub struct Unit {
    /// Of a board it is AGENT/BOARD.
    pub name: String,
    /// A word.
    pub kind: String,
    /// Who has it.
    pub held: Vec<Held>,
    /// How many wait for it.
    pub waiting_count: u64,
    /// Of a board: its type.
    #[serde(rename = "type")]
    pub kind_of_board: Option<String>,
    /// What else it is known for.
    pub tags: Option<Vec<String>>,
    /// How it stands, in a sentence.
    pub standing: Option<String>,
}

/// An attempt that has some of a unit.
#[derive(Clone, Debug, Deserialize)]
pub struct Held {
    /// Its job.
    pub job: u64,
    /// The attempt.
    pub attempt: u32,
    /// Since when.
    pub since: String,
    /// Until when at most.
    pub until: String,
}

/// The units.
#[derive(Debug, Deserialize)]
pub struct Units {
    /// All of them.
    pub units: Vec<Unit>,
}

/// One file of a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Artifact {
    /// Its path in the workspace.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: String,
    /// Whether it may be executed.
    pub executable: bool,
    /// Where it is at the master.
    pub download: String,
}

/// One job.
#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// Its event's.
    pub event: u64,
    /// The repository.
    pub repository: String,
    /// The wanted platform.
    pub platform: String,
    /// The configuration.
    pub configuration: String,
    /// A word.
    pub state: String,
    /// The current or last attempt; 0 before the first.
    pub attempt: u32,
    /// The agent of that.
    pub agent: Option<String>,
    /// When it was queued last.
    pub queued_at: String,
    /// When its attempt began.
    pub started_at: Option<String>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// How many steps it has.
    pub steps: u32,
    /// The step under way or last run, from 0.
    pub step: Option<u32>,
    /// Why it ended so.
    pub cause: String,
    /// Why it waits.
    pub waiting: Option<String>,
    /// Who asked for it by name, where it was no push.
    pub person: Option<String>,
    /// Its files.
    pub artifacts: Vec<Artifact>,
}

/// One event.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// Its number.
    pub id: u64,
    /// The repository.
    pub repository: String,
    /// The ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The revision.
    pub revision: String,
    /// First line of the commit's message.
    pub subject: String,
    /// Whose commit it is.
    pub author: String,
    /// A word.
    pub state: String,
    /// What is wrong with its saifile.
    pub errors: Vec<String>,
}

/// Events.
#[derive(Debug, Deserialize)]
pub struct Events {
    /// The newest first.
    pub events: Vec<Event>,
}

/// One event with its jobs.
#[derive(Clone, Debug, Deserialize)]
pub struct EventAndJobs {
    /// The event.
    pub event: Event,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

/// One agent.
#[derive(Clone, Debug, Deserialize)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// A word.
    pub state: String,
    /// What it offers.
    pub platforms: Vec<String>,
    /// Jobs at once.
    pub slots: Option<u32>,
    /// Numbers of the jobs that it runs.
    pub running: Vec<u64>,
}

/// The agents.
#[derive(Debug, Deserialize)]
pub struct Agents {
    /// By name.
    pub agents: Vec<Agent>,
}

/// One repository.
#[derive(Clone, Debug, Deserialize)]
pub struct Repository {
    /// Its name at the master.
    pub name: String,
    /// Where it is fetched.
    pub url: String,
}

/// The repositories.
#[derive(Debug, Deserialize)]
pub struct Repositories {
    /// As they are configured.
    pub repositories: Vec<Repository>,
}
