//! The boot partition, after secrets were moved from its file → no copy of them left at the beginning of where no file is.
//!
//! It takes seconds on a slow card, so it goes on beside all else. A mark on the data partition, made before the file is changed, has
//! it done once more where the power went before its end.

use crate::boot::{SWEEP, partition};
use crate::tell::tell;
use sai_init::fat::{self, SECTOR, blank};
use sai_init::secrets::Secrets;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::thread::JoinHandle;

/// Bytes that are looked at in one go.
const PART: u64 = 1 << 20;
/// Bytes of a part that are looked at with the next one again: more than a secret has.
const OVERLAP: u64 = 4096;
/// Bytes that are looked at in all, 8 MiB: files are put where there is room first, and this is room for thousands of small ones.
const MOST: u64 = 8 << 20;

/// Begins, if there is something to do: who does it.
pub fn begin(card: &'static str, secrets: &Secrets) -> Option<JoinHandle<()>> {
    if !Path::new(SWEEP).exists() {
        return None;
    }
    let token = secrets.join.as_deref().and_then(|line| line.rsplit(':').nth(1)).unwrap_or_default().to_owned();
    let passphrase = secrets.passphrase.clone().unwrap_or_default();
    let begun = std::thread::Builder::new().name("sweep".to_owned()).spawn(move || {
        let swept = sweep(&partition(card), &[token.as_bytes(), passphrase.as_bytes()]);
        match swept.and_then(|copies| fs::remove_file(SWEEP).map(|()| copies)) {
            Ok(copies) => tell(&format!("the free part of the boot partition had {copies} old copies of secrets")),
            Err(error) => tell(&format!("the free part of the boot partition is searched again: {error}")),
        }
    });
    begun.map_err(|error| tell(&format!("the free part of the boot partition is not searched: {error}"))).ok()
}

fn sweep(device: &str, secrets: &[&[u8]]) -> io::Result<usize> {
    let mut file = OpenOptions::new().read(true).write(true).open(device)?;
    let mut sector = [0; SECTOR];
    file.read_exact(&mut sector)?;
    let layout = fat::layout(&sector).map_err(io::Error::other)?;
    let mut table = Vec::new();
    file.seek(SeekFrom::Start(layout.table.start))?;
    Read::by_ref(&mut file).take(layout.table.end - layout.table.start).read_to_end(&mut table)?;
    let mut copies = 0;
    let mut left = MOST;
    for free in layout.free(&table) {
        let free = free.start..free.end.min(free.start + left);
        left -= free.end - free.start;
        let mut begin = free.start;
        while begin < free.end {
            let end = free.end.min(begin + PART + OVERLAP);
            copies += clear(&mut file, begin, end, secrets)?;
            begin = if end == free.end { end } else { end - OVERLAP };
        }
    }
    file.sync_all()?;
    Ok(copies)
}

fn clear(file: &mut File, begin: u64, end: u64, secrets: &[&[u8]]) -> io::Result<usize> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    Read::by_ref(file).take(end - begin).read_to_end(&mut bytes)?;
    let copies = blank(&mut bytes, secrets);
    if copies > 0 {
        file.seek(SeekFrom::Start(begin))?;
        file.write_all(&bytes)?;
    }
    Ok(copies)
}
