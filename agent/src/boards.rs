//! The file that describes the boards of this machine → what an agent offers of them, and what is needed to find their owners.

#[cfg(feature = "boards")]
pub mod device;
#[cfg(feature = "boards")]
pub mod devices;
#[cfg(feature = "boards")]
mod getting;
#[cfg(feature = "boards")]
pub mod hosted;
#[cfg(feature = "boards")]
mod person;
#[cfg(feature = "boards")]
pub mod selftest;
#[cfg(feature = "boards")]
mod session;
#[cfg(feature = "boards")]
mod talk;
#[cfg(feature = "boards")]
pub mod trial;
#[cfg(feature = "boards")]
pub mod watch;

#[cfg(not(feature = "boards"))]
#[path = "boards/absent.rs"]
mod absent;
#[cfg(not(feature = "boards"))]
pub use self::absent::{device, devices, hosted, selftest, trial, watch};

use crate::mirror::Trouble;
use miniserde::{Deserialize, Serialize};
use sai_core::bench;
use sai_core::limits::BOARDS;
use sai_core::record::Artifact;
use sai_core::units::OfferedBoard;
use sai_core::wire::Assignment;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

/// How to build an agent that has boards.
pub const BUILD: &str = "--features boards";

/// Where the boards of a machine are described, and where their owners are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file that describes them.
    pub file: String,
    /// The directory of the sockets of owners and guard.
    pub run: String,
}

/// The boards of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Bench {
    /// Where they are described.
    pub place: Place,
    /// Each of them.
    pub boards: Vec<bench::Board>,
    /// What is offered of them.
    pub offered: Vec<OfferedBoard>,
}

/// Below a job's directory of scripts: the socket by which its steps ask for boards, and the directory of our own program.
pub const SOCKET: &str = "devices";
/// See `SOCKET`.
pub const PROGRAMS: &str = "bin";

/// Who gets files that the master has for an attempt.
pub trait Files: Send {
    /// Gets one, whose digest is compared. It stays nowhere else.
    ///
    /// # Errors
    /// Why it cannot be had, and whose trouble that is.
    fn get(&mut self, file: &Artifact, to: &Path) -> Result<(), Trouble>;
}

/// What is needed to try a board.
pub struct Work {
    /// The supervisor of the build whose step asked, of a session: none where that has ended.
    pub build: Option<UnixStream>,
    /// By which words of the person come who has it by a lease.
    pub words: Option<UnixDatagram>,
    /// Who gets the images that such a person names.
    pub getter: Option<Box<dyn Files>>,
    /// Where the images are kept that a session is told to flash.
    pub images: PathBuf,
    /// Where the boards of this machine are described; none where they are not any more.
    pub place: Option<Place>,
    /// What is assigned.
    pub assignment: Assignment,
    /// Where the files of needs are.
    pub files: PathBuf,
    /// When the attempt began, [`trial::now_ns`].
    pub began_ns: u64,
}

impl Bench {
    /// Reads what a machine has, as its file describes it now.
    ///
    /// # Errors
    /// All that is wrong with it, a line each; or that this agent was built without boards.
    pub fn read(place: &Place) -> Result<Self, String> {
        let bench = Self::whole(place)?;
        let offered = bench.offered();
        if offered.len() > BOARDS {
            return Err(format!("{}: expected at most {BOARDS} boards, found {}", place.file, offered.len()));
        }
        Ok(Self { place: place.clone(), boards: bench.boards, offered })
    }

    /// The bench that a file describes now.
    ///
    /// # Errors
    /// The same.
    pub fn whole(place: &Place) -> Result<bench::Bench, String> {
        hosted::described(place.file.as_ref())
    }

    /// Names of the boards of what is offered by this name: those of a rig, or the one.
    pub fn parts(&self, name: &str) -> Vec<String> {
        let rig = self.offered.iter().find(|offered| offered.name == name).and_then(|offered| offered.boards.clone());
        rig.unwrap_or_else(|| vec![name.to_owned()])
    }
}
