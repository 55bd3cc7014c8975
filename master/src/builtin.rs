//! Settings of the built-in agent → the agent library on a link inside this process: one machine is enough to start.
//!
//! It is an agent like any other. Its jobs run under supervisors of their own (this program, started with `--job`), so
//! that they outlive the master and are adopted when it comes back.

use crate::config::Builtin;
use crate::hub::HubHandle;
use crate::{agents, say};
use sai_agent::blocking::detach;
use sai_agent::config;
use sai_agent::describe;
use sai_agent::job_directory::Launcher;
use sai_agent::link::Link;
use sai_agent::serve::{Settings, serve};
use sai_agent::state::State;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name under which it is known.
pub const NAME: &str = "built-in";

/// Starts it on a thread of its own.
///
/// # Errors
/// What keeps it from starting, in a sentence.
pub fn start(settings: &Builtin, state: &Path, hub: &HubHandle) -> Result<(), String> {
    let directory = state.join("agent");
    let state = State::open(&directory)?;
    let slots = settings.slots.unwrap_or_else(|| (describe::cores() / 2).max(1));
    let platforms = if settings.platforms.is_empty() { describe::platforms() } else { settings.platforms.clone() };
    let settings = Settings {
        host: describe::host_name(),
        platforms,
        slots,
        parallel: (describe::cores() / slots.max(1)).max(1),
        user: settings.user.as_deref().map(describe::user).transpose()?,
        keep_free_mib: config::KEEP_FREE_MIB,
        launcher: Launcher { program: PathBuf::from("/proc/self/exe"), first_arguments: Vec::new() },
        say: Arc::new(|line: &str| say(&format!("{NAME}: {line}"))),
    };
    let hub = hub.clone();
    let dial = move || {
        let hub = hub.clone();
        async move {
            let (near, far) = Link::pair();
            detach(async move { agents::carry(&hub, NAME.to_string(), far).await });
            Ok(near)
        }
    };
    // The channel stays open for the life of the process: the agent ends with it.
    let (keep, controls) = smol::channel::bounded(1);
    std::thread::Builder::new()
        .name("agent".to_string())
        .spawn(move || {
            if let Err(why) = smol::block_on(serve(&state, settings, dial, controls)) {
                say(&format!("{NAME}: {why}"));
            }
            drop(keep);
        })
        .map(drop)
        .map_err(|error| format!("no thread for the built-in agent: {error}"))
}
