//! Step → process: where and as whom the steps of a job run.
//!
//! An executor makes its place ready, starts each step and takes its place apart again. Ending processes is the supervisor's
//! part: whatever an executor starts is below it in the process tree.

#[cfg(feature = "nspawn")]
pub mod container;
#[cfg(not(feature = "nspawn"))]
#[path = "executor/container_absent.rs"]
pub mod container;
pub mod host;
mod pipe;

pub use pipe::Pipe;

use crate::boards::{PROGRAMS, SOCKET};
use crate::cgroup::{Enclosure, enclose};
use crate::git::Stop;
use crate::job_directory::{CGROUPS, RunnerOptions};
use crate::mirror::Trouble;
use rustix::process::Pid;
use sai_core::job::JobKey;
use sai_core::ordered::Map;
use sai_core::wire::Assignment;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// `PATH` of the steps when the agent has none itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The directories of a job, all below its job directory.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The job directory.
    pub job: PathBuf,
    /// All that the job may write: the four below.
    pub work: PathBuf,
    /// The checkout, in which the steps begin.
    pub source: PathBuf,
    /// `HOME`.
    pub home: PathBuf,
    /// `TMPDIR`.
    pub temporary: PathBuf,
    /// `SAI_NEEDS`: the files of the jobs that it needs, where it needs any.
    pub needs: PathBuf,
    /// The scripts of the steps.
    pub steps: PathBuf,
}

impl Workspace {
    /// What somebody has sent to be built, until it is checked out.
    pub fn bundle(&self) -> PathBuf {
        self.job.join("sent.bundle")
    }

    /// The directories of the job in this job directory.
    pub fn of(job: &Path) -> Self {
        let work = job.join("work");
        Self { job: job.to_path_buf(), steps: job.join("steps"), ..Self::at(&work) }
    }

    /// A workspace whose parts are all below one directory, as a container shows it.
    pub fn at(work: &Path) -> Self {
        Self {
            job: work.to_path_buf(),
            work: work.to_path_buf(),
            source: work.join("src"),
            home: work.join("home"),
            temporary: work.join("tmp"),
            needs: work.join("needs"),
            steps: work.join("steps"),
        }
    }
}

/// The variable with the ref. Its value is the text of a name (`ref_name`) until a step gets it, which sees the bytes.
const REF: &str = "SAI_REF";

/// One step, ready to be started.
#[derive(Debug)]
pub struct Step<'a> {
    /// Index, from 0.
    pub index: usize,
    /// The script.
    pub script: &'a str,
    /// All of its environment.
    pub environment: &'a Map<String, String>,
    /// Where its standard output goes.
    pub stdout: OwnedFd,
    /// Where its standard error goes.
    pub stderr: OwnedFd,
}

/// A step that has been started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// As this child of the calling process, which has to wait for it.
    Process(Pid),
    /// In a container, which tells of its end.
    Inside,
    /// It has not: the job itself has ended its container, or seen to it that nothing starts there.
    Gone,
}

/// How a step has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit status; 128 + signal number when a signal ended it.
    pub status: i32,
    /// Whether a signal ended it, for certain.
    pub signalled: bool,
}

impl Ended {
    /// By SIGKILL.
    pub const KILLED: Self = Self { status: 128 + 9, signalled: true };
}

/// The kinds of executors.
#[derive(Debug)]
pub enum Executor {
    /// Directly on this machine.
    Host(host::Host),
    /// In a container of its own.
    Container(Box<container::Contained>),
}

/// What the supervisor of a job has made before it had threads; or trouble of ours, in one line, which the executor tells when
/// the job is prepared.
pub type Isolated = Result<Option<Enclosure>, String>;

/// Makes what the supervisor of such a job needs before it has threads: for a container, a mount namespace, else a cgroup
/// where one can be had. `marker` is `NAME=VALUE`, of which the value names the cgroup.
pub fn isolate(workspace: &Workspace, options: &RunnerOptions, marker: &str) -> Isolated {
    if let Some(container) = &options.container {
        return container::isolate(container, workspace).map(|()| None);
    }
    let name = marker.split_once('=').map_or(marker, |(_, value)| value);
    enclose(name, &workspace.job.join(CGROUPS)).map_err(|error| format!("making the job's cgroup: {error}"))
}

impl Executor {
    /// The executor for an assignment. `marker` is `NAME=VALUE` in the environment of all it starts, and `isolated` what
    /// [`isolate`] has made.
    ///
    /// # Errors
    /// The system's.
    pub fn new(workspace: &Workspace, options: &RunnerOptions, marker: &str, isolated: Isolated) -> io::Result<Self> {
        let Some(container) = &options.container else {
            return Ok(Self::Host(host::Host::new(workspace.clone(), options.user.zip(options.group), isolated)));
        };
        let isolated = isolated.map(drop);
        let contained = container::Contained::new(workspace.clone(), container.clone(), marker, isolated)?;
        Ok(Self::Container(Box::new(contained)))
    }

    /// The workspace by the paths that the steps know.
    pub fn seen(&self, workspace: &Workspace) -> Workspace {
        match self {
            Self::Host(_) => workspace.clone(),
            Self::Container(contained) => contained.seen(),
        }
    }

    /// Where the root that the steps see stands, if it is not the machine's.
    pub fn root(&self) -> Option<PathBuf> {
        match self {
            Self::Host(_) => None,
            Self::Container(contained) => Some(contained.root()),
        }
    }

    /// The pipes that all steps print into: standard output and standard error.
    ///
    /// # Errors
    /// The system's.
    pub fn outputs(&self) -> io::Result<[Pipe; 2]> {
        match self {
            Self::Host(_) => Ok([Pipe::new()?, Pipe::new()?]),
            Self::Container(contained) => contained.outputs(),
        }
    }

    /// Whether [`Executor::start`] is worth a thread.
    pub fn takes_time(&self) -> bool {
        match self {
            Self::Host(host) => host.takes_time(),
            Self::Container(_) => true,
        }
    }

    /// Begins to make the place ready, while the checkout is made, in a thread that ends with it: that may be in the job's
    /// cgroups from then on. Tells what people should know about it.
    ///
    /// # Errors
    /// Trouble of ours, in one line.
    pub fn start(&self) -> Result<Vec<String>, Trouble> {
        match self {
            Self::Host(host) => host.start(),
            Self::Container(contained) => contained.start(),
        }
    }

    /// Says of a checkout that has failed what this place had to do with it.
    pub fn explain(&self, trouble: Trouble) -> Trouble {
        match self {
            Self::Host(_) => trouble,
            Self::Container(contained) => contained.explain(trouble),
        }
    }

    /// Makes the place ready, after the checkout.
    ///
    /// # Errors
    /// Trouble of ours, in one line.
    pub fn prepare(&self, stop: &Stop) -> Result<(), Trouble> {
        match self {
            Self::Host(host) => host.prepare().map_err(|error| Trouble::disk("preparing the workspace", &error)),
            Self::Container(contained) => contained.prepare(stop),
        }
    }

    /// Starts a step.
    ///
    /// # Errors
    /// The system's: trouble of ours.
    pub fn spawn(&self, step: Step<'_>) -> io::Result<Running> {
        match self {
            Self::Host(host) => host.spawn(step).map(Running::Process),
            Self::Container(contained) => contained.spawn(&step),
        }
    }

    /// The limit that the job has reached since this was asked last, one clause; to be asked when a step has ended.
    pub fn reached(&self, ended: Ended) -> Option<String> {
        match self {
            // It has none of its own, and what happens on the whole machine matters only to a step that has failed.
            Self::Host(host) => host.reached().filter(|_| ended.status != 0),
            Self::Container(contained) => contained.reached(),
        }
    }

    /// The container, if there is one.
    pub fn contained(&self) -> Option<&container::Contained> {
        match self {
            Self::Host(_) => None,
            Self::Container(contained) => Some(contained),
        }
    }

    /// Takes the place apart, when no process of the job is left.
    ///
    /// # Errors
    /// The system's: trouble of ours.
    pub fn cleanup(&self) -> io::Result<()> {
        match self {
            Self::Host(_) => Ok(()),
            Self::Container(contained) => contained.cleanup(),
        }
    }
}

/// All variables of a step. The saifile's own override ours except for those that tell which job this is. `marker` is
/// `NAME=VALUE`, and `workspace` has the paths that the steps know.
pub fn environment(
    assignment: &Assignment,
    options: &RunnerOptions,
    workspace: &Workspace,
    marker: &str,
) -> Map<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let JobKey { job, attempt } = assignment.key;
    let mut variables = Map::new();
    let mut set = |name: &str, value: String| drop(variables.insert(name.to_string(), value));
    let path = match options.container {
        Some(_) => Some(container::PATH.to_string()),
        None => std::env::var("PATH").ok().filter(|path| !path.is_empty()),
    };
    set("PATH", path.unwrap_or_else(|| PATH.to_string()));
    set("HOME", text(&workspace.home));
    set("TMPDIR", text(&workspace.temporary));
    set("LANG", "C.UTF-8".to_string());
    set("TERM", "dumb".to_string());
    set("SHELL", "/bin/sh".to_string());
    set("CI", "true".to_string());
    // What a saifile says goes before what is said for all jobs.
    for (name, value) in options.env.iter().flatten().chain(&assignment.env) {
        set(name, value.clone());
    }
    set("SAI_PROJECT", assignment.repository.clone());
    set(REF, assignment.reference.clone());
    set("SAI_COMMIT", assignment.revision.clone());
    set("SAI_PLATFORM", assignment.platform.clone());
    set("SAI_CONFIGURATION", assignment.configuration.clone());
    set("SAI_JOB", job.to_string());
    set("SAI_ATTEMPT", attempt.to_string());
    set("SAI_INSTANCE_IDX", options.instance.to_string());
    if assignment.needs.as_ref().is_some_and(|needs| !needs.is_empty()) {
        set("SAI_NEEDS", text(&workspace.needs));
    }
    set("SAI_PARALLEL", options.parallel.max(1).to_string());
    if let Some((name, value)) = marker.split_once('=') {
        set(name, value.to_string());
    }
    if options.devices == Some(true) {
        variables.insert("SAI_DEVICES".to_string(), text(&workspace.steps.join(SOCKET)));
        // What asks for a board is found behind all that the step has of its own.
        let path = variables.get("PATH").cloned().unwrap_or_default();
        variables.insert("PATH".to_string(), format!("{path}:{}", text(&workspace.steps.join(PROGRAMS))));
    }
    variables
}

/// Checks that the saifile's variables can be variables at all.
///
/// # Errors
/// Which one cannot: the spec's fault.
pub fn check_environment(variables: &Map<String, String>) -> Result<(), String> {
    for (name, value) in variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("{name:?} cannot be an environment variable"));
        }
    }
    Ok(())
}
