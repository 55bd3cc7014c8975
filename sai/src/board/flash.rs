//! Images on a laptop → the board that a person has, by their digests, with what is told of it meanwhile, and whose fault it is otherwise.

use super::words::{Hearing, Said, Speaker, answer};
use super::{Meant, mine};
use crate::failure::{FAILED, FLASH_FAILED, Failure, PASSED};
use crate::follow::path;
use crate::master::{Master, Trouble, Waiting};
use crate::telling::{plain, tell};
use crate::upload::{PATIENCE, upload};
use miniserde::json;
use sai_core::axis::{Entry, Progress};
use sai_core::limits::IMAGE_BYTES;
use sai_core::record::{Item, Record};
use sai_core::wire::WORD_BYTES;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

/// What a board is to be flashed with.
struct Image {
    /// `TARGET=NAME`, or `=NAME`.
    name: String,
    file: File,
    size: u64,
}

impl Image {
    /// Reads `FILE` or `TARGET=FILE`.
    fn open(text: &str) -> Result<Self, Failure> {
        // A file may have such a name, a target no path in it.
        let (target, path) = match text.split_once('=') {
            Some((target, path)) if !target.contains('/') && !Path::new(text).exists() => (target, path),
            _ => ("", text),
        };
        let name = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let refused = |why: String| Failure::refused(format!("{}: {why}", plain(path)));
        let file = File::open(path).map_err(|error| refused(error.to_string()))?;
        let about = file.metadata().map_err(|error| refused(error.to_string()))?;
        let (size, sizes) = (about.len(), 1..=IMAGE_BYTES);
        match about.is_file() && sizes.contains(&size) {
            true => Ok(Self { name: format!("{target}={name}"), file, size }),
            false => Err(refused(format!("expected a file of 1 to {IMAGE_BYTES} bytes"))),
        }
    }
}

/// Flashes the board that this person has and means; the exit status.
///
/// # Errors
/// It was refused and the board is as it was, it failed when it had begun, or whose fault it is that this is not known.
pub fn flash(master: &mut Master, meant: &Meant, images: &[&str], unverified: bool) -> Result<u8, Failure> {
    let mut images = images.iter().map(|image| Image::open(image)).collect::<Result<Vec<_>, _>>()?;
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    smol::block_on(async {
        let lease = mine(master, meant).await?;
        let place = format!("{}/image", path(lease.job));
        for image in &mut images {
            let digest = match upload(master, &place, &mut image.file, image.size).await {
                Err(Trouble::Refused(404, why)) => {
                    let why =
                        format!("this master flashes nothing from a laptop, it may be of an older version: {why}");
                    return Err(Failure::refused(why));
                }
                sent => sent?,
            };
            names.push(image.name.clone());
            digests.push(format!("{digest} {}", image.size));
        }
        let (names, digests, unverified) = (Some(names), Some(digests), unverified.then_some(true));
        let said = Said { t: "flash".to_owned(), names, digests, unverified, ..Said::default() };
        if json::to_string(&said).len() > WORD_BYTES {
            return Err(Failure::usage("so many images, or images with such long names, are no one word at a board"));
        }
        let mut hearing = Hearing::new(&lease);
        // What happened before is not told again.
        let mut waiting = Waiting::new(PATIENCE);
        while let Err(trouble) = hearing.hear(master, |_| {}).await {
            match trouble {
                Trouble::Link(why) => waiting.pause(why).await?,
                trouble => return Err(trouble.into()),
            }
        }
        let mut shown = Shown::new();
        let answered = answer(master, &mut Speaker::new(lease)?, &said, hearing, &mut |item| shown.take(item)).await;
        shown.end();
        let unknown = "; nobody knows what is on the board";
        match answered {
            Ok(answer) => match (answer.why, answer.whose) {
                (None, _) => {
                    tell("flashed");
                    Ok(PASSED)
                }
                (Some(why), None) => Err(Failure(FAILED, format!("not flashed: {}", plain(&why)))),
                (Some(why), Some(whose)) => {
                    Err(Failure(FLASH_FAILED, format!("flashing failed: {} ({})", plain(&why), plain(&whose))))
                }
            },
            Err(Failure(_, why)) if shown.begun => Err(Failure(FLASH_FAILED, why + unknown)),
            Err(failure) => Err(failure),
        }
    })
}

/// What is shown while a board is flashed.
struct Shown {
    terminal: bool,
    /// What is shown of how far it is, on a line that is not ended.
    open: bool,
    phase: String,
    /// The channel of a tool.
    tool: Option<u8>,
    /// Whether anything was done at the board.
    begun: bool,
}

impl Shown {
    fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), open: false, phase: String::new(), tool: None, begun: false }
    }

    fn take(&mut self, item: &Item<'_>) {
        match item {
            Item::Record(_, Record::Channel(number, start)) if start.name == "tool" => self.tool = Some(*number),
            Item::Data { channel, bytes, .. } if self.tool == Some(*channel) => {
                self.begun = true;
                let _ = io::stderr().write_all(bytes);
            }
            Item::Record(_, Record::Note(note)) => {
                self.end();
                tell(&plain(note));
            }
            item => {
                if let Some(Entry::Progress(progress)) = Entry::of(item) {
                    self.begun = true;
                    self.progress(&progress);
                }
            }
        }
    }

    /// A terminal has one line for each phase, and whatever else reads it one when the phase begins.
    fn progress(&mut self, progress: &Progress) {
        let Progress { phase, done, of } = progress;
        let new = self.phase != *phase;
        if new {
            self.end();
            self.phase.clone_from(phase);
        }
        let text = format!("{} {done} of {of}", plain(phase));
        match self.terminal {
            true => {
                self.open = true;
                let _ = write!(io::stderr(), "\r\x1b[Ksai: {text}");
            }
            false if new => tell(&text),
            false => {}
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = writeln!(io::stderr());
        }
    }
}
