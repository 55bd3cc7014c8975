//! Join line → a saved configuration that has been tried: token, fingerprint and identity are accepted by the master.
//!
//! Nothing is saved before the master has welcomed this machine, so that a line that does not work replaces no
//! configuration that does.

use crate::blocking::unblock;
use crate::config::{self, Config};
use crate::describe;
use crate::job_directory::JobDirectory;
use crate::link::{DialError, Dialer, Frame, Link, Timing};
use crate::state::State;
use sai_core::job::JobKey;
use sai_core::session::WELCOME_MS;
use sai_core::versions::Span;
use sai_core::wire::{AgentMessage, Hello, MasterMessage, Unread};
use smol::Timer;
use smol::future::FutureExt as _;
use std::time::Duration;

/// Why a machine has not joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The master does not want it: the line is used up, revoked or wrong.
    Refused(String),
    /// The master could not be asked, or something of this machine is in the way.
    Trouble(String),
    /// The master has taken this machine, but that could not be written down.
    Unsaved(String),
}

/// Tries a configuration with the master and saves it. Gives the name under which the master knows this agent.
///
/// # Errors
/// Whose fault it is, and one line for people.
pub async fn join(state: &State, config: &Config) -> Result<String, JoinError> {
    let dialer = Dialer::new(config.master.clone(), config.trust, config.token.clone(), Timing::default())
        .map_err(|error| JoinError::Trouble(error.to_string()))?
        .by(&config.others, config.proxies.clone().unwrap_or_default());
    let jobs = held(state, config)?;
    let link = dialer.dial().await.map_err(|error| match error {
        DialError::Refused(_) | DialError::Untrusted(_) => JoinError::Refused(error.to_string()),
        other => JoinError::Trouble(other.to_string()),
    })?;
    let name = greet(link, hello(state, config, jobs.keys)).await?;
    for directory in jobs.foreign {
        let key = directory.key();
        unblock(move || directory.forget())
            .await
            .map_err(|error| JoinError::Unsaved(format!("job {key} of another master cannot be removed: {error}")))?;
    }
    state.save_config(&config.text()).map_err(JoinError::Unsaved)?;
    Ok(name)
}

/// The attempts that are here.
struct Jobs {
    /// Of this agent: they are adopted.
    keys: Vec<JobKey>,
    /// Of another token, so of another master or another agent of it: they mean nothing to this one.
    foreign: Vec<JobDirectory>,
}

fn held(state: &State, config: &Config) -> Result<Jobs, JoinError> {
    let found = JobDirectory::scan(&state.jobs())
        .map_err(|error| JoinError::Trouble(format!("{}: {error}", state.jobs().display())))?;
    let same = config::read(&state.config()).is_ok_and(|saved| saved.token == config.token);
    let keys = found.iter().map(JobDirectory::key).collect();
    Ok(if same { Jobs { keys, foreign: Vec::new() } } else { Jobs { keys: Vec::new(), foreign: found } })
}

/// A greeting that asks for no jobs yet.
fn hello(state: &State, config: &Config, jobs: Vec<JobKey>) -> Hello {
    Hello {
        protocol: Span::OURS.oldest,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: state.identity().to_owned(),
        host: config.name.clone().unwrap_or_else(describe::host_name),
        platforms: config.platforms.clone().unwrap_or_else(describe::platforms),
        slots: 0,
        cores: describe::cores(),
        memory_mib: describe::memory_mib(),
        mirrors: Vec::new(),
        jobs,
        notes: None,
        instance: None,
        protocol_newest: Some(Span::OURS.newest),
        can: None,
        rooted: None,
        boards: None,
        card: None,
    }
}

/// Greets and waits for the welcome.
async fn greet(link: Link, hello: Hello) -> Result<String, JoinError> {
    let Link { sender, receiver, driver } = link;
    let greeting = async {
        if sender.send(Frame::Text(AgentMessage::Hello(hello).encode())).await.is_err() {
            return Err(JoinError::Trouble(receiver.why_closed()));
        }
        while let Some(frame) = receiver.receive().await {
            let Frame::Text(text) = frame else { continue };
            match MasterMessage::decode(&text) {
                Ok(MasterMessage::Welcome(welcome)) => return Ok(welcome.agent),
                Ok(MasterMessage::Bye(bye)) => return Err(JoinError::Refused(format!("the master says: {}", bye.why))),
                Ok(_) | Err(Unread::Unknown(_)) => {}
                Err(error) => return Err(JoinError::Trouble(format!("the master broke the protocol: {error}"))),
            }
        }
        Err(JoinError::Trouble(format!("no welcome: {}", receiver.why_closed())))
    };
    let carried = async {
        if let Some(driver) = driver {
            driver.await;
        }
        // What came before the end is still to be read by the greeting.
        std::future::pending().await
    };
    let limit = Duration::from_millis(WELCOME_MS);
    let late = async {
        Timer::after(limit).await;
        Err(JoinError::Trouble(format!("no welcome within {} s", limit.as_secs())))
    };
    greeting.or(carried).or(late).await
}
