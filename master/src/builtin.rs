//! Settings of the built-in agent → the agent library on a link inside this process: one machine is enough to start.
//!
//! It is an agent like any other. Its jobs run under supervisors of their own (this program, started with `--job`), so
//! that they outlive the master and are adopted when it comes back.

use crate::agents::INSIDE;
use crate::config::Builtin;
use crate::hub::HubHandle;
use crate::store::Store;
use crate::uploads::Uploads;
use crate::{agents, needs, say};
use sai_agent::blocking::{detach, unblock};
use sai_agent::boards::hosted;
use sai_agent::config;
use sai_agent::describe;
use sai_agent::job_directory::Launcher;
use sai_agent::link::Link;
use sai_agent::needs::fetch::Source;
use sai_agent::offering::{Boards, Offering};
use sai_agent::serve::{Control, Ended, Settings, serve};
use sai_agent::state::State;
use smol::Timer;
use smol::channel::Sender;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two looks at what it still has.
const LOOK: Duration = Duration::from_millis(5);

/// The way to the running one, which ends with the process.
pub struct BuiltinAgent {
    settings: Mutex<Builtin>,
    state: Arc<State>,
    controls: Sender<Control>,
}

impl BuiltinAgent {
    /// Has it look again at this machine and its images, by these settings, and offer what it finds.
    pub async fn look_again(&self, settings: &Builtin) {
        settings.clone_into(&mut self.settings.lock().unwrap_or_else(PoisonError::into_inner));
        let (settings, state) = (settings.clone(), self.state.clone());
        match unblock(move || look(&settings, &state)).await {
            Ok(offering) => drop(self.controls.send(Control::Offer(offering)).await),
            Err(why) => tell(&format!("nothing changes: {why}")),
        }
    }

    /// Waits, for so long at most, until it has nothing of any job any more: all of them are at the master, and what they left
    /// on this machine is removed.
    pub async fn emptied(&self, within: Duration) {
        let (jobs, begun) = (self.state.jobs(), Instant::now());
        let is_empty = || std::fs::read_dir(&jobs).is_ok_and(|mut entries| entries.next().is_none());
        while begun.elapsed() < within && !is_empty() {
            Timer::after(LOOK).await;
        }
    }

    /// The sentence for whoever started it as root and has jobs run on the machine itself: they are root, too.
    pub fn warning(&self) -> Option<String> {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        describe::steps_are_root(settings.user.is_some()).then(|| {
            format!(
                "steps of jobs for {} run as root on this machine: set \"user\" under \"builtin\" in the configuration to a \
                 user who may do less, or run this as another user",
                if settings.platforms.is_empty() { describe::platforms() } else { settings.platforms.clone() }.join(" ")
            )
        })
    }
}

fn tell(line: &str) {
    say(&format!("{INSIDE}: {line}"));
}

/// What it offers, and says so where that is not plain.
fn look(settings: &Builtin, state: &State) -> Result<Offering, String> {
    let platforms = (!settings.platforms.is_empty()).then_some(settings.platforms.as_slice());
    let boards = boards(settings)?;
    let (offering, lines) = Offering::look(platforms, settings.slots, &settings.containers, boards.as_ref(), state)?;
    lines.iter().for_each(|line| tell(line));
    if let Some(containers) = offering.containers.as_ref().filter(|containers| !containers.images.is_empty()) {
        let names: Vec<&str> = containers.images.iter().map(|image| image.platform.as_str()).collect();
        tell(&format!("offering the images {}", names.join(" ")));
    }
    if let Some(boards) = offering.offer().boards {
        let each = boards.iter().map(|board| format!("{} ({})", board.name, board.kind));
        tell(&format!("offering the boards {}", each.collect::<Vec<_>>().join(", ")));
    }
    Ok(offering)
}

/// The boards that settings have offered.
fn boards(settings: &Builtin) -> Result<Option<Boards>, String> {
    let Some(file) = &settings.boards else { return Ok(None) };
    let run = settings.boards_run.clone().unwrap_or_else(hosted::directory);
    Boards::of(file, &run, settings.user.as_deref()).map(Some)
}

/// Starts it on a thread of its own.
///
/// # Errors
/// What keeps it from starting, in a sentence.
pub fn start(settings: &Builtin, state: &Path, hub: &HubHandle, store: &Store) -> Result<BuiltinAgent, String> {
    let (master, directory) = (state, state.join("agent"));
    let state = Arc::new(State::open(&directory)?);
    let offering = look(settings, &state)?;
    let (controls, orders) = smol::channel::bounded(1);
    let agent = BuiltinAgent { settings: Mutex::new(settings.clone()), state: state.clone(), controls };
    let (reader, uploads) = (store.reader(), Uploads::new(master));
    let settings = Settings {
        host: describe::host_name(),
        parallel: (describe::cores() / offering.slots.max(1)).max(1),
        offering,
        user: settings.user.as_deref().map(describe::user).transpose()?,
        env: settings.env.clone(),
        keep_free_mib: config::KEEP_FREE_MIB,
        files: Source::Here(Arc::new(move |key, sha256| needs::here(&reader, &uploads, INSIDE, key, sha256))),
        launcher: Launcher { program: PathBuf::from("/proc/self/exe"), first_arguments: Vec::new() },
        say: Arc::new(tell),
    };
    let hub = hub.clone();
    let dial = move || {
        let hub = hub.clone();
        async move {
            let (near, far) = Link::pair();
            detach(async move { agents::carry(&hub, INSIDE.to_string(), far, || ()).await });
            Ok(near)
        }
    };
    std::thread::Builder::new()
        .name("agent".to_string())
        .spawn(move || match smol::block_on(serve(&state, settings, dial, orders)) {
            Ok(Ended::Stopped) => {}
            Ok(Ended::Refused(why)) | Err(why) => tell(&why),
        })
        .map(|_| agent)
        .map_err(|error| format!("no thread for the built-in agent: {error}"))
}
