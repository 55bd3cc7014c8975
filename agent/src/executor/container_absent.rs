//! Step → nothing: what stands for containers in a build without them, and says what to build.

use crate::container::Container;
use crate::executor::{Ended, Pipe, Running, Step, Workspace};
use crate::git::Stop;
use crate::mirror::Trouble;
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

/// Why there are no containers.
const WHY: &str = "this sai-agent was built without containers: build it with `--features nspawn`, or take its platforms from \
                   the configuration";

/// `PATH` in a container.
pub const PATH: &str = "/usr/bin:/bin";

/// A container that cannot be made.
#[derive(Debug)]
pub struct Contained {
    workspace: Workspace,
    nothing: Stop,
}

/// Refuses.
///
/// # Errors
/// Always, in one line.
pub fn isolate(_: &Container, _: &Workspace) -> Result<(), String> {
    Err(WHY.to_string())
}

#[allow(missing_docs, clippy::missing_errors_doc, reason = "see the container that can be made")]
impl Contained {
    pub fn new(workspace: Workspace, _: Container, _: &str, _: Result<(), String>) -> io::Result<Self> {
        Ok(Self { workspace, nothing: Stop::new()? })
    }

    pub fn seen(&self) -> Workspace {
        self.workspace.clone()
    }

    pub fn root(&self) -> PathBuf {
        self.workspace.job.join("root")
    }

    pub fn outputs(&self) -> io::Result<[Pipe; 2]> {
        Ok([Pipe::new()?, Pipe::new()?])
    }

    pub fn start(&self) -> Result<Vec<String>, Trouble> {
        Err(Trouble::of_platform(WHY))
    }

    pub fn explain(&self, trouble: Trouble) -> Trouble {
        trouble
    }

    pub fn prepare(&self, _: &Stop) -> Result<(), Trouble> {
        Err(Trouble::of_platform(WHY))
    }

    pub fn spawn(&self, _: &Step<'_>) -> io::Result<Running> {
        Err(io::Error::other(WHY))
    }

    pub fn watched(&self) -> BorrowedFd<'_> {
        self.nothing.as_fd()
    }

    pub fn take_statuses(&self) -> Vec<(usize, Ended)> {
        Vec::new()
    }

    pub fn reached(&self) -> Option<String> {
        None
    }

    pub fn words_of_the_loop(&self) -> String {
        String::new()
    }

    pub fn is_runner(&self, _: Pid) -> bool {
        false
    }

    pub fn set_ended(&self) {}

    pub fn spares(&self, _: i32) -> bool {
        false
    }

    pub fn cleanup(&self) -> io::Result<()> {
        Ok(())
    }
}
