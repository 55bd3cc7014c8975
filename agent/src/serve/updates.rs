//! An image for this machine's card: its file ↔ the place where the machine's first process takes it, or says why it does not.
//!
//! The agent believes nothing of it and looks at none of its bytes: whoever writes it to a slot compares signature and digests.

use crate::blocking::unblock;
use crate::durable::sync_directory;
use crate::needs::Want;
use crate::needs::fetch::{Fetcher, Tell};
use sai_core::card::{CARD, Card, HANDED, REFUSED};
use sai_core::job::JobKey;
use sai_core::wire::Update;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

/// No job has this number: what is asked for by it is an image.
const IMAGE: JobKey = JobKey { job: 0, attempt: 0 };

/// The directory by which both tell each other of images.
#[derive(Clone)]
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    /// What the machine was started from, where that is a card.
    pub(super) fn card(&self) -> Option<Card> {
        miniserde::json::from_str(&fs::read_to_string(self.0.join(CARD)).ok()?).ok()
    }

    /// Gets a file, whole and flushed.
    pub(super) async fn fetch(&self, fetcher: &Fetcher, update: &Update, tell: Tell<'_>) -> Result<(), String> {
        let want = Want::new(IMAGE, &update.sha256, update.size, false).ok_or("the master names no digest")?;
        let file = self.0.join(&want.sha256);
        if fs::metadata(&file).is_ok_and(|about| about.len() == update.size) {
            return Ok(());
        }
        let from = fetcher.get(&want, tell).await.map_err(|(_, why)| why)?;
        let place = self.clone();
        let kept = move || -> io::Result<()> {
            // Of what was wanted before nothing is needed.
            for entry in fs::read_dir(&place.0)? {
                let entry = entry?;
                if entry.file_name().len() == file.file_name().unwrap_or_default().len() {
                    fs::remove_file(entry.path())?;
                }
            }
            File::open(&from)?.sync_all()?;
            fs::rename(&from, &file)?;
            sync_directory(&place.0)
        };
        unblock(kept).await.map_err(|error| format!("the agent's disk: {error}"))
    }

    /// Hands it on.
    pub(super) fn hand(&self, update: &Update) -> io::Result<()> {
        fs::rename(self.0.join(&update.sha256), self.0.join(HANDED))?;
        sync_directory(&self.0)
    }

    /// Why what was handed on was not taken, told once.
    pub(super) fn refused(&self) -> Option<String> {
        let file = self.0.join(REFUSED);
        let why = fs::read_to_string(&file).ok()?;
        // Were it told twice, it would be taken for what became of another one.
        fs::remove_file(&file).ok()?;
        Some(why.trim().to_owned())
    }
}
