//! Step → process: where and as whom the steps of a job run.
//!
//! An executor makes its place ready, starts each step as a child of the supervisor and takes its place apart again. Ending
//! processes is the supervisor's part: whatever an executor starts is below it in the process tree.

pub mod host;

use crate::job_directory::RunnerOptions;
use rustix::process::Pid;
use sai_core::job::JobKey;
use sai_core::wire::Assignment;
use std::collections::BTreeMap;
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
    /// All that the job may write: the three below.
    pub work: PathBuf,
    /// The checkout, in which the steps begin.
    pub source: PathBuf,
    /// `HOME`.
    pub home: PathBuf,
    /// `TMPDIR`.
    pub temporary: PathBuf,
    /// The scripts of the steps.
    pub steps: PathBuf,
}

impl Workspace {
    /// The directories of the job in this job directory.
    pub fn of(job: &Path) -> Self {
        let work = job.join("work");
        Self {
            job: job.to_path_buf(),
            source: work.join("src"),
            home: work.join("home"),
            temporary: work.join("tmp"),
            work,
            steps: job.join("steps"),
        }
    }
}

/// One step, ready to be started.
#[derive(Debug)]
pub struct Step<'a> {
    /// Index, from 0.
    pub index: usize,
    /// The script.
    pub script: &'a str,
    /// All of its environment.
    pub environment: &'a BTreeMap<String, String>,
    /// Where its standard output goes.
    pub stdout: OwnedFd,
    /// Where its standard error goes.
    pub stderr: OwnedFd,
}

/// The kinds of executors.
#[derive(Debug)]
pub enum Executor {
    /// Directly on this machine.
    Host(host::Host),
}

impl Executor {
    /// The executor for an assignment.
    pub fn new(workspace: &Workspace, options: &RunnerOptions) -> Self {
        Self::Host(host::Host::new(workspace.clone(), options.user.zip(options.group)))
    }

    /// Makes the place ready, after the checkout.
    ///
    /// # Errors
    /// The system's: trouble of ours.
    pub fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Host(host) => host.prepare(),
        }
    }

    /// Starts a step as a child of this process, which has to wait for it.
    ///
    /// # Errors
    /// The system's: trouble of ours.
    pub fn spawn(&self, step: Step<'_>) -> io::Result<Pid> {
        match self {
            Self::Host(host) => host.spawn(step),
        }
    }

    /// Takes the place apart, when no process of the job is left.
    ///
    /// # Errors
    /// The system's: trouble of ours.
    pub fn cleanup(&self) -> io::Result<()> {
        match self {
            Self::Host(_) => Ok(()),
        }
    }
}

/// All variables of a step. The saifile's own override ours except for those that tell which job this is. `marker` is
/// `NAME=VALUE`.
pub fn environment(
    assignment: &Assignment,
    options: &RunnerOptions,
    workspace: &Workspace,
    marker: &str,
) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let JobKey { job, attempt } = assignment.key;
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: String| drop(variables.insert(name.to_string(), value));
    set("PATH", std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_string()));
    set("HOME", text(&workspace.home));
    set("TMPDIR", text(&workspace.temporary));
    set("LANG", "C.UTF-8".to_string());
    set("TERM", "dumb".to_string());
    set("SHELL", "/bin/sh".to_string());
    set("CI", "true".to_string());
    for (name, value) in &assignment.env {
        set(name, value.clone());
    }
    set("SAI_PROJECT", assignment.repository.clone());
    set("SAI_REF", assignment.reference.clone());
    set("SAI_COMMIT", assignment.revision.clone());
    set("SAI_PLATFORM", assignment.platform.clone());
    set("SAI_CONFIGURATION", assignment.configuration.clone());
    set("SAI_JOB", job.to_string());
    set("SAI_ATTEMPT", attempt.to_string());
    set("SAI_INSTANCE_IDX", options.instance.to_string());
    set("SAI_PARALLEL", options.parallel.max(1).to_string());
    if let Some((name, value)) = marker.split_once('=') {
        set(name, value.to_string());
    }
    variables
}

/// Checks that the saifile's variables can be variables at all.
///
/// # Errors
/// Which one cannot: the spec's fault.
pub fn check_environment(variables: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("{name:?} cannot be an environment variable"));
        }
    }
    Ok(())
}
