//! The file that describes the boards of a machine → the bench, or all that is wrong with it.

use sai_core::bench::{self, Bench, Board};
use sai_core::json::FILE_MAX;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The bench that a file describes.
///
/// # Errors
/// All that is wrong, each by its place, or why it cannot be read.
pub fn read(file: &OsStr) -> Result<Bench, Vec<String>> {
    let name = file.to_string_lossy();
    let bytes = contents(Path::new(file)).map_err(|error| vec![format!("{name}: {error}")])?;
    whole(&name, &bytes)
}

/// What a program says that was built without USB.
pub const WITHOUT_USB: &str = "it takes a build that speaks to USB devices itself, which this one is not: `cross/build --boards --usb`, or \
    cargo's feature `usb`; `\"with\": \"argv\"` has dfu-util or fastboot do it";

/// The bench of a text, if all that it asks for is in this program.
fn whole(name: &str, bytes: &[u8]) -> Result<Bench, Vec<String>> {
    let bench = bench::read(name, bytes)?;
    let asks = bench.boards.iter().filter_map(|board| Some((board, board.flash.as_ref()?)));
    let wanting = asks.filter(|(_, how)| how.with.at_usb().is_some() && !cfg!(feature = "usb"));
    let wrong: Vec<String> = wanting
        .map(|(board, how)| {
            let with = how.with.word();
            format!("{name}: boards.{}.flash.with: no \"{with}\" in this program: {WITHOUT_USB}", board.name)
        })
        .collect();
    if wrong.is_empty() { Ok(bench) } else { Err(wrong) }
}

/// A board that a file describes, and the text of that file, whose other boards it is next to.
///
/// # Errors
/// All that is wrong, each by its place; it has no such board.
pub fn board(file: &OsStr, wanted: &str) -> Result<(Board, Vec<u8>), Vec<String>> {
    let name = file.to_string_lossy();
    let bytes = contents(Path::new(file)).map_err(|error| vec![format!("{name}: {error}")])?;
    let bench = whole(&name, &bytes)?;
    let names = || bench.boards.iter().map(|board| board.name.as_str()).collect::<Vec<_>>().join(", ");
    let board = bench.board(wanted).cloned();
    Ok((board.ok_or_else(|| vec![format!("no board {wanted:?}: expected one of {}", names())])?, bytes))
}

/// What is in a file, and no more of it than is needed to tell that it is too large.
///
/// # Errors
/// It cannot be read.
pub fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
