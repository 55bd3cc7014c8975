//! What stands for boards in a build without them: nothing is offered there, so nothing of it is ever reached.

/// The command of a step that wants one.
pub mod device {
    use crate::boards::BUILD;
    use std::ffi::OsString;
    use std::process::ExitCode;

    /// Refuses.
    pub fn command(_: Vec<OsString>) -> ExitCode {
        crate::say(&format!("this sai-agent was built without boards; build it with {BUILD}"));
        ExitCode::from(2)
    }
}

/// Who tries the hardware of a machine, by what moves lines and opens ttys.
pub mod selftest {
    pub use super::device::command;
}

/// Steps that want one.
pub mod devices {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::path::Path;

    /// Nobody.
    #[derive(Debug)]
    pub enum Devices {}

    #[allow(missing_docs, clippy::missing_errors_doc, reason = "see those that there can be")]
    impl Devices {
        pub fn new(_: &Path, _: bool) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
            std::iter::empty()
        }

        pub fn lines(&self) -> impl Iterator<Item = String> {
            std::iter::empty()
        }

        pub fn turn(&mut self) -> Vec<String> {
            Vec::new()
        }

        pub fn told(&mut self, _: &str) -> Option<String> {
            None
        }

        pub fn hand_over(&mut self, _: &str, _: &impl AsFd) {}
    }
}

/// Owners and the guard.
pub mod hosted {
    use crate::boards::BUILD;
    use sai_core::bench::Bench;
    use std::ffi::{OsStr, OsString};
    use std::path::PathBuf;
    use std::process::ExitCode;

    /// Nowhere.
    pub fn directory() -> PathBuf {
        PathBuf::new()
    }

    /// None.
    ///
    /// # Errors
    /// Always: what to build.
    pub fn described(_: &OsStr) -> Result<Bench, String> {
        Err(format!("this program was built without boards; build it with {BUILD}"))
    }

    /// None of ours.
    pub fn main(_: &[OsString]) -> Option<ExitCode> {
        None
    }
}

/// How boards stand.
pub mod watch {
    use crate::boards::Bench;
    use sai_core::session::Standing;

    /// Nobody.
    #[derive(Debug, Default)]
    pub struct Watchers {}

    impl Watchers {
        /// Watches nothing.
        pub fn set(&mut self, _: Option<&Bench>, _: impl Fn(String, Standing) + Clone + Send + 'static) -> Vec<String> {
            Vec::new()
        }

        /// Looks at nothing.
        pub fn look(&self, _: &str) {}
    }
}

/// What is done at one.
pub mod trial {
    use crate::boards::{BUILD, Work};
    use crate::git::Stop;
    use crate::mirror::Trouble;
    use sai_core::job::Verdict;
    use sai_core::wire::Assignment;
    use std::io;

    impl Work {
        /// Refuses.
        ///
        /// # Errors
        /// Always.
        pub fn run(
            self,
            _: &Stop,
            _: &dyn Fn() -> bool,
            _: &mut dyn FnMut(Vec<u8>) -> io::Result<()>,
        ) -> Result<Option<Verdict>, Trouble> {
            Err(Trouble::ours(format!("this program was built without boards; build it with {BUILD}")))
        }
    }

    /// The images of a job at a board.
    pub fn only_images(_: &mut Assignment) {}

    /// Nanoseconds on no clock.
    pub fn now_ns() -> u64 {
        0
    }
}
