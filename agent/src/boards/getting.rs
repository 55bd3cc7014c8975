//! Images that a person names by their digests → files on this machine's disk, each compared, by a thread of its own: a board's log does
//! not wait for a link.

use super::Files;
use crate::boards::talk::Said;
use rustix::fs::statvfs;
use sai_core::bundle::check_digest;
use sai_core::lending::Asker;
use sai_core::limits::IMAGE_BYTES;
use sai_core::record::Artifact;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// Bytes of the thread's stack.
const STACK_BYTES: usize = 512 << 10;

/// An image, by name and digest.
pub(super) struct Named {
    /// `TARGET=NAME`, or `=NAME` for the first one.
    pub(super) name: String,
    file: Artifact,
    /// Where it is then.
    pub(super) path: PathBuf,
}

impl Named {
    /// Its bytes.
    pub(super) fn size(&self) -> u64 {
        self.file.size
    }
}

/// The images that a word of a person names, to be kept in this directory.
///
/// # Errors
/// What was expected.
pub(super) fn named(asker: Asker, said: &Said, directory: &Path) -> Result<Vec<Named>, String> {
    let (names, digests) = (said.names.as_deref().unwrap_or_default(), said.digests.as_deref().unwrap_or_default());
    if names.is_empty() || names.len() != digests.len() {
        return Err("expected images, each with its digest and size".to_string());
    }
    let one = |(index, (name, digest)): (usize, (&String, &String))| {
        let (sha256, size) = digest.split_once(' ').ok_or("expected SHA256 SIZE of each image")?;
        check_digest(sha256)?;
        let size = size.parse().ok().filter(|size| (1..=IMAGE_BYTES).contains(size));
        let size = size.ok_or_else(|| format!("expected an image of 1 to {IMAGE_BYTES} bytes"))?;
        let path = name.split_once('=').map_or(name.as_str(), |(_, name)| name).to_string();
        let file = Artifact { stream: 1, path, size, sha256: sha256.to_string(), executable: false };
        Ok(Named { name: name.clone(), file, path: directory.join(format!("image-{asker}-{index}")) })
    };
    names.iter().zip(digests).enumerate().map(one).collect()
}

type Got = (Box<dyn Files>, Vec<Named>, Result<(), String>);

struct UnderWay {
    asker: Asker,
    /// Ends when the thread does.
    ends: UnixStream,
    thread: JoinHandle<Got>,
}

/// See the file's first line.
pub(super) struct Getting {
    files: Option<Box<dyn Files>>,
    under_way: Option<UnderWay>,
}

impl Getting {
    pub(super) fn new(files: Option<Box<dyn Files>>) -> Self {
        Self { files, under_way: None }
    }

    /// Begins to get images.
    ///
    /// # Errors
    /// Others are under way, or this machine is in trouble.
    pub(super) fn begin(&mut self, asker: Asker, images: Vec<Named>) -> Result<(), String> {
        let trouble = |error: io::Error| format!("getting images: {error}");
        let mut files = self.files.take().ok_or("images are on their way already")?;
        let (ends, held) = UnixStream::pair().map_err(trouble)?;
        ends.set_nonblocking(true).map_err(trouble)?;
        let thread = std::thread::Builder::new().name("images".to_string()).stack_size(STACK_BYTES).spawn(move || {
            let got = images.iter().try_for_each(|image| {
                room(image)?;
                files.get(&image.file, &image.path).map_err(|trouble| trouble.why)
            });
            drop(held);
            (files, images, got)
        });
        self.under_way = Some(UnderWay { asker, ends, thread: thread.map_err(trouble)? });
        Ok(())
    }

    /// What can be read when they are there, or are not to be had.
    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.under_way.as_ref().map(|one| one.ends.as_fd())
    }

    /// Those that are there by now, or why not, and whose word named them.
    pub(super) fn take(&mut self) -> Option<(Asker, Result<Vec<Named>, String>)> {
        let over = |one: &mut UnderWay| !matches!(one.ends.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        let UnderWay { asker, thread, .. } = self.under_way.take_if(over)?;
        let Ok((files, images, got)) = thread.join() else {
            return Some((asker, Err("getting images: a panic".to_string())));
        };
        self.files = Some(files);
        if got.is_err() {
            images.iter().for_each(|image| drop(fs::remove_file(&image.path)));
        }
        Some((asker, got.map(|()| images)))
    }
}

/// Whether this disk has room for an image, beside what the agent keeps of it until it is there.
fn room(image: &Named) -> Result<(), String> {
    let place = image.path.parent().unwrap_or(Path::new("/"));
    let space = statvfs(place).map_err(|error| format!("getting images: {error}"))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    match image.file.size <= free {
        true => Ok(()),
        false => Err(format!("an image of {} bytes, and {free} are free at the agent", image.file.size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_digest_and_size_or_not_at_all() {
        let digest = "0a".repeat(32);
        let said = |names: &[&str], digests: &[&str]| Said {
            names: Some(names.iter().map(ToString::to_string).collect()),
            digests: Some(digests.iter().map(ToString::to_string).collect()),
            ..Said::new("flash")
        };
        let good = format!("{digest} 7");
        let images = named(3, &said(&["app=a=b.bin", "=c"], &[&good, &good]), Path::new("/d")).unwrap();
        let told: Vec<_> = images.iter().map(|image| (image.name.as_str(), image.file.path.as_str())).collect();
        assert_eq!(told, [("app=a=b.bin", "a=b.bin"), ("=c", "c")]);
        assert_eq!((images[1].path.as_path(), images[1].file.size), (Path::new("/d/image-3-1"), 7));
        let (long, zero) = (format!("{digest} {}", IMAGE_BYTES + 1), format!("{digest} 0"));
        let upper = good.to_uppercase();
        for wrong in ["", digest.as_str(), "../../x 7", &long, &zero, &upper, &format!("{digest} -1")] {
            assert!(named(1, &said(&["=a"], &[wrong]), Path::new("/")).is_err(), "{wrong}");
        }
        assert!(named(1, &said(&["=a", "=b"], &[&good]), Path::new("/")).is_err());
        assert!(named(1, &said(&[], &[]), Path::new("/")).is_err());
    }
}
