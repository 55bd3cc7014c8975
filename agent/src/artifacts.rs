//! Checkout + globs → complete copies in `artifacts/N`, each with its digest, size and path.
//!
//! The checkout is the job's, and hostile: it is walked from open directory to open directory and no link is ever followed;
//! only regular files count. A glob that begins with `/` means files of the container's root. Links on the way to its first
//! wildcard are followed as they are meant in there; what is mounted in there from the machine is left out. A file is hashed while it is copied, so the digest is that of the bytes that are kept, whatever
//! is done to the file meanwhile.

use crate::cache::hex;
use crate::digest::Sha256;
use crate::git::Stop;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat};
use rustix::io::Errno;
use sai_core::glob::Glob;
use sai_core::limits::{ARTIFACT_BYTES, STREAMS};
use sai_core::ordered::Map;
use sai_core::record::{Artifact, check_path};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of all artifacts of one job together: four of the largest.
const JOB_BYTES: u64 = 4 * ARTIFACT_BYTES;
/// Directory entries that are looked at in one walk: more than any real checkout has.
const ENTRIES: usize = 2_000_000;
/// Depth of directories that is walked; each is an open file.
const DEPTH: usize = 200;
/// Bytes copied at a time.
const COPY_BYTES: usize = 256 << 10;
/// Notes about left-out files in one walk; more would say nothing new.
const NOTES: usize = 20;

/// What collecting tells while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A complete copy stands in `N.ready`.
    Artifact(Artifact),
    /// Something for people.
    Note(String),
}

/// How to recognise a file that has not changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Seen {
    #[allow(clippy::unnecessary_cast, reason = "these types differ between architectures")]
    fn of(state: &Stat) -> Self {
        Self {
            device: state.st_dev as u64,
            inode: state.st_ino as u64,
            size: state.st_size as i64,
            modified: (state.st_mtime as i64, state.st_mtime_nsec as u64),
            changed: (state.st_ctime as i64, state.st_ctime_nsec as u64),
        }
    }
}

/// One glob.
#[derive(Debug)]
struct Wanted {
    text: String,
    /// Without the `/` that an absolute one begins with.
    glob: Glob,
    absolute: bool,
    matched: bool,
}

impl Wanted {
    /// The directories before the first part with a wildcard, of an absolute one: where to begin.
    fn beginning(&self) -> String {
        let mut parts: Vec<&str> = self.text.trim_start_matches('/').split('/').collect();
        parts.pop();
        parts.into_iter().take_while(|part| !part.contains(['*', '?', '['])).collect::<Vec<_>>().join("/")
    }
}

/// Collects the artifacts of one job, as often as asked.
#[derive(Debug)]
pub struct Collector {
    job: PathBuf,
    root: Option<PathBuf>,
    store: PathBuf,
    globs: Vec<Wanted>,
    known: Map<String, (Seen, String)>,
    streams: u16,
    bytes: u64,
}

/// One walk.
struct Walk<'a> {
    /// The absolute glob that is looked for; none in the checkout.
    absolute: Option<usize>,
    stop: &'a Stop,
    tell: &'a mut dyn FnMut(Found),
    entries: usize,
    notes: usize,
}

impl Walk<'_> {
    fn note(&mut self, text: String) {
        self.notes += 1;
        if self.notes <= NOTES {
            (self.tell)(Found::Note(text));
        }
    }
}

impl Walk<'_> {
    /// Opens what stands in a directory; in a container's root, nothing that is mounted there.
    fn open(&self, directory: &OwnedFd, name: &CString, flags: OFlags) -> Result<OwnedFd, Errno> {
        if self.absolute.is_some() {
            openat2(directory, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS)
        } else {
            openat(directory, name, flags, Mode::empty())
        }
    }
}

impl Collector {
    /// For the checkout `work/src` of the job directory `job` and the root of its container, if it has one, keeping copies in
    /// its `artifacts`.
    pub fn new(job: &Path, root: Option<PathBuf>, globs: &[String]) -> Self {
        let wanted = |text: &String| {
            let below = text.trim_start_matches('/');
            let absolute = below.len() < text.len();
            Wanted { text: text.clone(), glob: Glob::new(below), absolute, matched: false }
        };
        Self {
            globs: globs.iter().map(wanted).collect(),
            job: job.to_path_buf(),
            root,
            store: job.join("artifacts"),
            known: Map::new(),
            streams: 0,
            bytes: 0,
        }
    }

    /// Copies what matches and is new or has changed. At the last time it tells of globs that never matched.
    ///
    /// # Errors
    /// Those of our own disk; the job's files being what they are is none.
    pub fn collect(&mut self, last: bool, stop: &Stop, tell: &mut dyn FnMut(Found)) -> io::Result<()> {
        let mut walk = Walk { absolute: None, stop, tell, entries: 0, notes: 0 };
        // The job may have replaced its checkout, or what that stands in, by a link.
        let checkout = openat(CWD, &self.job, directory_flags(), Mode::empty())
            .and_then(|job| openat(job, "work", directory_flags(), Mode::empty()))
            .and_then(|work| openat(work, "src", directory_flags(), Mode::empty()));
        if let Ok(root) = checkout {
            self.walk(&root, "", 0, &mut walk)?;
        } else {
            walk.note("the checkout is gone: no artifacts".to_string());
        }
        self.walk_root(&mut walk)?;
        if walk.notes > NOTES {
            let more = walk.notes - NOTES;
            (walk.tell)(Found::Note(format!("{more} more files were left out of the artifacts")));
        }
        if last && !stop.asked() {
            for Wanted { text, absolute, .. } in self.globs.iter().filter(|wanted| !wanted.matched) {
                let why = if *absolute && self.root.is_none() {
                    ": it is absolute, which takes a job that runs in a container"
                } else {
                    ""
                };
                (walk.tell)(Found::Note(format!("no file matches the artifacts glob {text:?}{why}")));
            }
        }
        Ok(())
    }

    /// Looks for the absolute globs, one by one, each from where its wildcards begin.
    fn walk_root(&mut self, walk: &mut Walk<'_>) -> io::Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        let Ok(root) = openat(CWD, root, directory_flags(), Mode::empty()) else { return Ok(()) };
        for index in 0..self.globs.len() {
            let Some(wanted) = self.globs.get(index).filter(|wanted| wanted.absolute) else { continue };
            let beginning = wanted.beginning();
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
            let flags = directory_flags() - OFlags::NOFOLLOW;
            if let Ok(directory) = openat2(&root, format!("/{beginning}"), flags, Mode::empty(), resolve) {
                walk.absolute = Some(index);
                self.walk(&directory, &beginning, 0, walk)?;
            }
        }
        Ok(())
    }

    fn walk(&mut self, directory: &OwnedFd, prefix: &str, depth: usize, walk: &mut Walk<'_>) -> io::Result<()> {
        let Ok(listing) = Dir::read_from(directory) else { return Ok(()) };
        let mut entries: Map<CString, FileType> = Map::new();
        for entry in listing.flatten() {
            walk.entries += 1;
            if walk.entries > ENTRIES {
                if walk.entries == ENTRIES + 1 {
                    walk.note(format!("more than {ENTRIES} files in the checkout: the rest is not looked at"));
                }
                break;
            }
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                entries.insert(entry.file_name().to_owned(), entry.file_type());
            }
        }
        for (raw, kind) in entries {
            if walk.stop.asked() {
                return Ok(());
            }
            let shown = raw.to_string_lossy();
            let path = if prefix.is_empty() { shown.to_string() } else { format!("{prefix}/{shown}") };
            let kind = if kind == FileType::Unknown {
                match statat(directory, &raw, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(state) => FileType::from_raw_mode(state.st_mode),
                    Err(_) => continue,
                }
            } else {
                kind
            };
            if kind.is_dir() {
                let history = walk.absolute.is_none() && prefix.is_empty() && raw.to_bytes() == b".git";
                if history || !self.wanted(walk.absolute).any(|wanted| wanted.glob.may_match_below(&path)) {
                    continue;
                }
                if depth == DEPTH {
                    walk.note(format!("{path:?} is too deep: artifacts below it are left out"));
                } else if let Ok(inner) = walk.open(directory, &raw, directory_flags()) {
                    self.walk(&inner, &path, depth + 1, walk)?;
                }
            } else if kind.is_file() && self.matches(walk.absolute, &path) {
                self.keep(directory, &raw, &path, walk)?;
            }
        }
        Ok(())
    }

    /// The globs of this walk.
    fn wanted(&mut self, absolute: Option<usize>) -> impl Iterator<Item = &mut Wanted> {
        self.globs.iter_mut().enumerate().filter_map(move |(index, wanted)| {
            absolute.map_or(!wanted.absolute, |only| index == only).then_some(wanted)
        })
    }

    fn matches(&mut self, absolute: Option<usize>, path: &str) -> bool {
        let mut any = false;
        for wanted in self.wanted(absolute) {
            if wanted.glob.matches(path) {
                wanted.matched = true;
                any = true;
            }
        }
        any
    }

    fn keep(&mut self, directory: &OwnedFd, raw: &CString, path: &str, walk: &mut Walk<'_>) -> io::Result<()> {
        if raw.to_str().is_err() || check_path(path).is_err() {
            walk.note(format!("{path:?} is left out of the artifacts: its name cannot be kept"));
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match walk.open(directory, raw, flags) {
            Ok(file) => File::from(file),
            Err(error) => {
                walk.note(format!("{path:?} is left out of the artifacts: {}", io::Error::from(error)));
                return Ok(());
            }
        };
        let state = rustix::fs::fstat(&file)?;
        if !FileType::from_raw_mode(state.st_mode).is_file() {
            return Ok(());
        }
        // We read as root what the job may not.
        if walk.absolute.is_some() && state.st_uid == 0 && state.st_mode & 0o004 == 0 {
            walk.note(format!("\"/{path}\" is left out of the artifacts: the job itself may not read it"));
            return Ok(());
        }
        let seen = Seen::of(&state);
        let before = self.known.get(path);
        if before.is_some_and(|(known, _)| *known == seen) {
            return Ok(());
        }
        if usize::from(self.streams) + 1 >= STREAMS {
            walk.note(format!("{path:?} is left out: a job may have {} artifacts", STREAMS - 1));
            return Ok(());
        }
        let room = ARTIFACT_BYTES.min(JOB_BYTES - self.bytes);
        if state.st_size as u64 > room {
            walk.note(format!("{path:?} is left out: it has {} bytes, {room} may still be kept", state.st_size));
            return Ok(());
        }
        let stream = self.streams + 1;
        let partial = self.store.join(format!("{stream}.partial"));
        // On a full disk a part would keep the room from the log that tells of it.
        let copied = copy(file, &partial, room, walk.stop).inspect_err(|_| drop(fs::remove_file(&partial)))?;
        let Some((size, sha256)) = copied else {
            fs::remove_file(&partial)?;
            if !walk.stop.asked() {
                walk.note(format!("{path:?} is left out: it cannot be read, or grew beyond {room} bytes"));
            }
            return Ok(());
        };
        let same = before.is_some_and(|(_, known)| *known == sha256);
        self.known.insert(path.to_string(), (seen, sha256.clone()));
        if same {
            return fs::remove_file(&partial);
        }
        fs::rename(&partial, self.store.join(format!("{stream}.ready")))?;
        self.streams = stream;
        self.bytes += size;
        let executable = state.st_mode & 0o111 != 0;
        (walk.tell)(Found::Artifact(Artifact { stream, path: path.to_string(), size, sha256, executable }));
        Ok(())
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Copies and hashes at most `room` bytes. `None` when there are more, reading fails, or it is to stop.
pub(crate) fn copy(mut from: File, to: &Path, room: u64, stop: &Stop) -> io::Result<Option<(u64, String)>> {
    let mut to = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    let (mut size, mut hash) = (0, Sha256::default());
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return Ok(Some((size, hex(&hash.finish())))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Ok(None),
        };
        size += read as u64;
        if size > room || stop.asked() {
            return Ok(None);
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn collect(collector: &mut Collector, last: bool) -> Vec<Found> {
        let mut found = Vec::new();
        collector.collect(last, &Stop::new().unwrap(), &mut |item| found.push(item)).unwrap();
        found
    }

    fn paths(found: &[Found]) -> Vec<(u16, &str)> {
        found
            .iter()
            .filter_map(|item| match item {
                Found::Artifact(artifact) => Some((artifact.stream, artifact.path.as_str())),
                Found::Note(_) => None,
            })
            .collect()
    }

    #[test]
    fn absolute_globs_find_files_of_the_root_and_never_the_machines() {
        let base = std::env::temp_dir().join(format!("sai-artifacts-root-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let (root, outside) = (base.join("root"), base.join("outside"));
        for directory in [root.join("var/deep/er"), root.join("usr/bin"), base.join("artifacts"), outside.clone()] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::create_dir_all(base.join("work/src/var")).unwrap();
        for path in ["root/var/a.deb", "root/var/deep/er/b.deb", "root/usr/bin/tool", "outside/c.deb"] {
            fs::write(base.join(path), path).unwrap();
        }
        fs::write(base.join("work/src/var/here.deb"), b"x").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/var/deep", root.join("absolute")).unwrap();
        symlink(&outside, root.join("var/out")).unwrap();
        symlink("../../outside", root.join("dots")).unwrap();
        symlink(outside.join("c.deb"), root.join("var/link.deb")).unwrap();
        let texts = ["/var/**/*.deb", "/bin/tool", "/absolute/er/*", "/dots/*", "/../outside/*", "/var/out/*"];
        let globs = texts.map(str::to_string);
        let mut collector = Collector::new(&base, Some(root), &globs);
        let found = collect(&mut collector, true);
        let expected = [(1, "var/a.deb"), (2, "var/deep/er/b.deb"), (3, "bin/tool"), (4, "absolute/er/b.deb")];
        assert_eq!(paths(&found), expected);
        let notes = found.iter().filter(|item| matches!(item, Found::Note(_))).count();
        assert_eq!(notes, 3, "{found:?}");

        let mut collector = Collector::new(&base, None, &globs[..1]);
        let found = collect(&mut collector, true);
        assert!(matches!(&found[..], [Found::Note(text)] if text.contains("takes a job that runs in a container")));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn links_and_strange_files_are_never_followed_and_changes_are_kept() {
        let base = std::env::temp_dir().join(format!("sai-artifacts-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let (source, store, outside) = (base.join("work/src"), base.join("artifacts"), base.join("outside"));
        for directory in [source.join("out/deep"), source.join(".git"), store.clone(), outside.clone()] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(outside.join("secret.bin"), b"secret").unwrap();
        symlink(&outside, source.join("out/link")).unwrap();
        symlink(outside.join("secret.bin"), source.join("out/secret.bin")).unwrap();
        symlink("../..", source.join("out/loop")).unwrap();
        rustix::fs::mknodat(CWD, source.join("out/fifo.bin"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::write(source.join("out/two\nlines.bin"), b"x").unwrap();
        fs::write(source.join(std::ffi::OsStr::new("out/ok name.bin")), b"hello").unwrap();
        fs::write(source.join("out/deep/tool.bin"), b"#!").unwrap();
        fs::set_permissions(source.join("out/deep/tool.bin"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(source.join(".git/x.bin"), b"x").unwrap();

        let globs = ["**/*.bin".to_string(), "none/*".to_string()];
        let mut collector = Collector::new(&base, None, &globs);
        let found = collect(&mut collector, false);
        assert_eq!(paths(&found), [(1, "out/deep/tool.bin"), (2, "out/ok name.bin")]);
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let path = "out/ok name.bin".to_string();
        let hello = Artifact { stream: 2, path, size: 5, sha256: sha256.to_string(), executable: false };
        assert!(found.contains(&Found::Artifact(hello)));
        assert!(matches!(&found[..], [Found::Artifact(tool), ..] if tool.executable));
        assert!(found.iter().any(|item| matches!(item, Found::Note(text) if text.contains("two\\nlines"))));
        assert_eq!(fs::read(store.join("2.ready")).unwrap(), b"hello");

        // Unchanged, touched, changed.
        fs::write(source.join("out/two\nlines.bin"), b"x").unwrap();
        fs::write(source.join("out/deep/tool.bin"), b"#!").unwrap();
        fs::write(source.join("out/ok name.bin"), b"world").unwrap();
        let found = collect(&mut collector, true);
        assert_eq!(paths(&found), [(3, "out/ok name.bin")]);
        assert!(found.contains(&Found::Note("no file matches the artifacts glob \"none/*\"".to_string())));
        assert_eq!(fs::read_dir(&store).unwrap().count(), 3);

        // The checkout itself replaced by a link.
        fs::remove_dir_all(&source).unwrap();
        symlink(&outside, &source).unwrap();
        assert_eq!(paths(&collect(&mut collector, true)), []);
        fs::remove_dir_all(&base).unwrap();
    }
}
