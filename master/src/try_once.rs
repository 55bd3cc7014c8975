//! A local repository → one event built by the built-in agent, its logs on the terminal, its verdict as exit status.

mod artifacts;
mod choice;
mod follower;
mod tree;

use self::choice::{Choice, Offered};
use self::follower::Follower;
use self::tree::{Snapshot, Tree};
use crate::config::{Builtin, Config, PORT, Repository};
use crate::forge::Saifile;
use crate::places;
use crate::startup::{self, Master};
use async_signal::{Signal, Signals};
use rustix::fs::{FlockOperation, flock};
use sai_agent::digest::sha256;
use sai_agent::fresh::Fresh;
use sai_core::git_text::Tip;
use sai_core::hub::Input;
use sai_core::job::JobId;
use sai_core::ledger::Source;
use sai_core::ordered::{Map, Set};
use sai_core::saifile::{self, Reading};
use smol::stream::StreamExt as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Hexadecimal digits of a repository's path that name its state: enough for all that one user has.
const NAME_DIGITS: usize = 8;
/// The file in a state that the trial which is under way there has locked.
const LOCK: &str = "trial.lock";
/// Time for the agent to remove what its jobs left: it takes milliseconds, and what is left is removed by the next trial.
const LEAVE_TIME: Duration = Duration::from_secs(5);
const ENDING: &str = "the master is ending";

/// What to try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// The repository, or any directory in it.
    pub path: PathBuf,
    /// Build the working tree as it is, not the last commit.
    pub dirty: bool,
    /// Only these configurations; empty means all.
    pub configurations: Vec<String>,
    /// Only wanted platforms that these serve; empty means all this machine serves.
    pub platforms: Vec<String>,
    /// Platforms this machine is to be taken for, beside what it is.
    pub offer: Vec<String>,
    /// Directory of images to offer; `None` means those of this machine's agent, where root asks.
    pub images: Option<PathBuf>,
    /// Where results are kept; `None` means the user's own place for those of this repository.
    pub state: Option<PathBuf>,
    /// Where the files that jobs keep are copied.
    pub artifacts: Option<PathBuf>,
    /// Go on showing the page after the verdict.
    pub stay: bool,
    /// Jobs at once.
    pub slots: Option<u32>,
}

/// Builds it, printing as it goes.
///
/// # Errors
/// Why nothing could be built: the user's or our own trouble, in a sentence.
pub fn run(trial: &Trial) -> Result<ExitCode, String> {
    // What can be wrong with the repository is found out before anything is made.
    let tree = Tree::find(&trial.path)?;
    let (reference, bytes) = tree.preview(trial.dirty)?;
    let offered = Offered::look(trial)?;
    offered.choose(trial, &read(&tree, &bytes, &reference)?.specs)?;
    let state = match &trial.state {
        Some(state) => state.clone(),
        None => usual_state(&tree)?,
    };
    let fresh = Fresh::new(&state);
    let state = startup::make_state(&state)?;
    let _lock = lock(&state, &tree)?;
    // From here on an interruption ends what was started, too. That a terminal is closed is one.
    let mut signals =
        Signals::new([Signal::Int, Signal::Term, Signal::Hup]).map_err(|error| format!("signals: {error}"))?;
    let snapshot = tree.snapshot(&state, trial.dirty)?;
    let reading = read(&tree, &snapshot.saifile, &snapshot.reference)?;
    for warning in &reading.warnings {
        crate::say(&format!("{}/{warning}", tree.top.display()));
    }
    let choice = offered.choose(trial, &reading.specs)?;
    let address =
        free_address(trial).map_err(|error| format!("no port of this machine can be listened on: {error}"))?;
    let config = Config {
        state: state.clone(),
        listen: vec![address],
        url: Some(format!("https://localhost:{}", address.port())),
        builtin: Some(Builtin {
            platforms: offered.host.clone(),
            slots: trial.slots,
            user: None,
            env: Map::new(),
            boards: None,
            boards_run: None,
            containers: offered.containers.clone(),
        }),
        ..Config::default()
    };
    let master = startup::start(config)?;
    fresh.keep();
    smol::block_on(build(trial, &tree, snapshot, &choice, &master, &state, &mut signals))
}

/// Makes an event of it, and follows its jobs.
async fn build(
    trial: &Trial,
    tree: &Tree,
    snapshot: Snapshot,
    choice: &Choice,
    master: &Master,
    state: &Path,
    signals: &mut Signals,
) -> Result<ExitCode, String> {
    let repository = Repository {
        name: tree.name.clone(),
        url: snapshot.url.into(),
        secret: None,
        poll_s: None,
        tags: false,
        submodules: false,
        supersede: false,
        priority: 0,
        forge: None,
    };
    let tip = Tip { reference: snapshot.reference, revision: snapshot.revision };
    let file = Saifile { bytes: snapshot.saifile, subject: snapshot.subject, author: String::new(), committed_s: 0 };
    // Nothing starts before it is settled what is not part of this trial.
    let hold = Input::Hold(Some("the trial is being prepared".to_string()));
    master.hub.input(hold).await.map_err(|_| ENDING)?;
    let made = master.shared.make_event(&repository, &tip, Source::Try, Ok(file), None).await?;
    master.hub.settled().await?;
    let event = master.store.reader().event(made).ok_or("the event was not kept")?;
    let wanted = Set::from_iter(choice.chosen.iter().map(|index| event.first_job + *index as u64));
    let left = (event.first_job..).take(event.jobs as usize).filter(|job| !wanted.contains(job)).collect();
    let why = "not part of this trial".to_string();
    master.hub.input(Input::Cancel(left, why)).await.map_err(|_| ENDING)?;
    master.hub.input(Input::Hold(None)).await.map_err(|_| ENDING)?;
    let page = format!("{}/event/{}", master.url, event.id);
    let what = if trial.dirty { "the working tree" } else { "the last commit" };
    let short = tip.revision.get(..12).unwrap_or(&tip.revision);
    crate::say(&format!("{}: {what} ({short}), {} of {} jobs", tree.name, wanted.len(), event.jobs));
    choice.left.iter().for_each(|line| crate::say(line));
    crate::say(&format!("see it live at {page}"));
    let mut follower = Follower::new(master, state, trial.artifacts.as_deref(), wanted.clone());
    let verdict = smol::future::or(async { Some(follower.follow().await) }, async {
        signals.next().await;
        None
    })
    .await;
    let Some(verdict) = verdict else {
        interrupted(master, &wanted, &mut follower, signals).await?;
        return Ok(ExitCode::from(crate::EXIT_INTERRUPTED));
    };
    crate::say(&format!("kept in {}; `sai-master --state {0}` shows it again", state.display()));
    if trial.stay {
        crate::say(&format!("the page stays at {page} until you interrupt this"));
        signals.next().await;
    }
    leave_nothing(master).await;
    Ok(ExitCode::from(verdict))
}

/// Lets the agent remove what its jobs left, which nobody may ever start it again for.
async fn leave_nothing(master: &Master) {
    if let Some(agent) = &master.builtin {
        agent.emptied(LEAVE_TIME).await;
    }
}

/// Ends the jobs: they run under supervisors that would outlive us, and whoever interrupts a trial wants them gone.
async fn interrupted(
    master: &Master,
    jobs: &Set<JobId>,
    follower: &mut Follower<'_>,
    signals: &mut Signals,
) -> Result<(), String> {
    crate::say("interrupted; its jobs are cancelled (interrupt again to leave them running)");
    let why = "the trial was interrupted".to_string();
    master.hub.input(Input::Cancel(jobs.iter().copied().collect(), why)).await.map_err(|_| ENDING)?;
    let ended = async {
        follower.follow().await;
        leave_nothing(master).await;
    };
    let again = async {
        signals.next().await;
    };
    smol::future::or(ended, again).await;
    Ok(())
}

/// What a saifile asks for.
fn read(tree: &Tree, bytes: &[u8], reference: &str) -> Result<Reading, String> {
    let reading = saifile::read(bytes, reference);
    if reading.errors.is_empty() {
        return Ok(reading);
    }
    let lines: Vec<String> = reading.errors.iter().map(|error| format!("{}/{error}", tree.top.display())).collect();
    Err(lines.join("\n"))
}

/// Where results of this repository are kept when nobody says: one place for each, so that those of several can be tried
/// at once.
fn usual_state(tree: &Tree) -> Result<PathBuf, String> {
    let digest = sha256(tree.top.as_os_str().as_bytes());
    let mut name = format!("{}-", tree.name);
    digest.iter().take(NAME_DIGITS / 2).for_each(|byte| name.push_str(&format!("{byte:02x}")));
    Ok(places::user_state("sai-try")?.join(name))
}

/// Takes the state for this trial, waiting for another one that is under way there.
fn lock(state: &Path, tree: &Tree) -> Result<File, String> {
    let path = state.join(LOCK);
    let trouble = |error: io::Error| format!("{}: {error}", path.display());
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(trouble)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        let _ = (&file).take(20).read_to_string(&mut holder);
        let holder = if holder.is_empty() { "another one".to_string() } else { format!("process {}", holder.trim()) };
        crate::say(&format!(
            "{} is being tried already, by {holder}; waiting until that has ended (--state DIR is for one more beside it)",
            tree.top.display()
        ));
        flock(&file, FlockOperation::LockExclusive).map_err(|error| trouble(error.into()))?;
    }
    file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes())).map_err(trouble)?;
    Ok(file)
}

/// Where a trial listens, on this machine alone: at the usual port if it is free and the state is the usual one too.
/// Others take a port that the system picks, so that two that start together do not find the same one free.
fn free_address(trial: &Trial) -> io::Result<SocketAddr> {
    let listen = |port| TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let usual = if trial.state.is_none() { listen(PORT).ok() } else { None };
    usual.map_or_else(|| listen(0), Ok)?.local_addr()
}
