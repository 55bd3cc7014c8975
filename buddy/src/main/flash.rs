//! A board and images → the images on the board, with how far it is, and an exit status that says whether.

use crate::colours::{Colours, Meaning};
use crate::commands::{Given, trouble};
use crate::percent::Percent;
use crate::{Failure, print, read, usage};
use sai_buddy::delivering::{self, Image, Said};
use sai_buddy::flash::Output;
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::bench::{Flash, Target};
use sai_core::escape;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A line for programs: what is not said is null.
#[derive(Default, miniserde::Serialize)]
struct Line<'a> {
    image: Option<String>,
    phase: Option<&'a str>,
    done: Option<u64>,
    of: Option<u64>,
    note: Option<&'a str>,
    verified: Option<bool>,
}

/// The place that a word names, and the image's path: `TARGET=IMAGE`, or an image for the first place.
fn named<'a>(word: &'a OsString, how: &'a Flash) -> Result<(&'a Target, &'a Path), String> {
    let bytes = word.as_bytes();
    let names = || how.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ");
    match bytes.iter().position(|byte| matches!(byte, b'=' | b'/')) {
        Some(place) if bytes.get(place) == Some(&b'=') => {
            let (name, rest) = bytes.split_at(place);
            let found = how.targets.iter().find(|target| target.name.as_bytes() == name);
            let target = found
                .ok_or_else(|| format!("no target {:?}: expected one of {}", String::from_utf8_lossy(name), names()))?;
            Ok((target, Path::new(std::ffi::OsStr::from_bytes(rest.get(1..).unwrap_or_default()))))
        }
        _ => Ok((how.targets.first().ok_or("the board has no target")?, Path::new(word))),
    }
}

impl Given {
    /// Brings images onto a board.
    pub fn flash(self, file: &OsString, board: &OsString, images: &[OsString]) -> Result<u8, Failure> {
        self.has_only("flash", &["--run", "--json", "--unverified"])?;
        let bench = read(file)?;
        let name = board.to_string_lossy();
        let Some(board) = bench.board(&name) else {
            let names: Vec<&str> = bench.boards.iter().map(|board| board.name.as_str()).collect();
            return Err((1, format!("no board {name:?}: expected one of {}", names.join(", "))));
        };
        let Some(how) = &board.flash else {
            return Err((1, format!("board {name} has no \"flash\" in its bench")));
        };
        if !self.unverified && !how.with.verifies() {
            let text = format!("board {name} does not tell whether an image is there: --unverified allows that");
            return Err((1, text));
        }
        let failed = |failure: sai_buddy::flash::Failure| (1, format!("{}: {}", failure.whose.word(), failure.text));
        let mut wanted: Vec<Image> = Vec::new();
        for word in images {
            let (target, path) = named(word, how).map_err(|text| (1, text))?;
            if wanted.iter().any(|image| image.target.name == target.name) {
                return Err(usage(format!("target {} is named twice", target.name)));
            }
            wanted.push(Image::read(path, target).map_err(failed)?);
        }
        // Whoever is started by it may be anywhere.
        let file = std::path::absolute(file).map_err(trouble)?.into_os_string();
        let whose = Whose { file, board: board.name.clone(), directory: self.directory(), begins: Begins::Ourselves };
        let visit = Visit::begin_by(&whose, board, "flash").map_err(trouble)?;
        let mut percent = Percent::new(!self.json && io::stdout().is_terminal());
        let verified = delivering::deliver(&visit, board, how, wanted, &mut |image, said| {
            let path = image.path.display().to_string();
            let mut line = Line { image: Some(path.clone()), ..Line::default() };
            let output = match said {
                Said::Loader(output) => output,
                // On our standard output are our words alone, which programs read.
                Said::Tool(bytes) => {
                    let _ = print(&percent.close());
                    let _ = io::stderr().write_all(bytes);
                    return;
                }
            };
            let text = match output {
                Output::Progress(progress) => {
                    let phase = progress.phase.word();
                    (line.phase, line.done, line.of) = (Some(phase), Some(progress.done), Some(progress.of));
                    percent.take(&format!("{path}: "), phase, progress.done, progress.of)
                }
                Output::Note(note) => {
                    line.note = Some(note);
                    percent.close() + &escape::line(&format!("{path}: {note}")) + "\n"
                }
                _ => return,
            };
            // That nobody reads how far it is keeps no image from getting there.
            let _ = print(&if self.json { miniserde::json::to_string(&line) + "\n" } else { text });
        });
        let _ = print(&percent.close());
        let verified = verified.map_err(failed)?;
        let colours = Colours::of(&io::stdout());
        let line = Line { verified: Some(verified), ..Line::default() };
        print(&match (self.json, verified) {
            (true, _) => miniserde::json::to_string(&line) + "\n",
            (false, true) => colours.show(Meaning::Good, "flashed and verified") + "\n",
            (false, false) => colours.show(Meaning::Doubtful, "flashed, unverified") + "\n",
        })?;
        if verified || self.unverified { Ok(0) } else { Err((1, "what is on the board was not verified".into())) }
    }
}
