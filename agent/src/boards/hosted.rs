//! A command line that a board's owner or the guard is started with → that process: what an agent starts beside itself is the agent's
//! own program, so that one file is all that a machine needs.
//!
//! The words are those of `sai-buddy`: whichever of the two programs began an owner, the other one finds it, and may take its place.

use sai_buddy::going_on::FLAG;
use sai_buddy::owner::{self, Setup};
use sai_buddy::ports::Places;
use sai_buddy::{describing, guard, telling};
use sai_core::bench::Bench;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs an owner or a guard, if that is what the words ask for: `guard --run DIR` or `FILE owner BOARD --run DIR`, and whether there
/// is something to go on with.
pub fn main(words: &[OsString]) -> Option<ExitCode> {
    let (words, goes_on) = match words {
        [words @ .., flag] if flag == FLAG => (words, true),
        words => (words, false),
    };
    let ended = match words {
        [guard, run, directory] if guard == "guard" && run == "--run" => {
            guard::run(&PathBuf::from(directory), goes_on).map_err(|error| error.to_string())
        }
        [file, owner, board, run, directory] if owner == "owner" && run == "--run" => {
            own(file, board, directory.into(), goes_on)
        }
        _ => return None,
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            telling::tell(&why);
            ExitCode::FAILURE
        }
    })
}

/// Where owners and the guard of `sai-buddy` are, too.
pub fn directory() -> PathBuf {
    sai_buddy::link::directory()
}

/// The bench that a file describes.
///
/// # Errors
/// All that is wrong with it, a line each.
pub fn described(file: &OsStr) -> Result<Bench, String> {
    describing::read(file).map_err(|errors| errors.join("\n"))
}

fn own(file: &OsString, board: &OsString, directory: PathBuf, goes_on: bool) -> Result<(), String> {
    let (board, text) = describing::board(file, &board.to_string_lossy()).map_err(|errors| errors.join("\n"))?;
    let setup = Setup { file: file.clone(), board, text, directory, places: Places::default() };
    owner::run(setup, goes_on).map_err(|error| error.to_string())
}
