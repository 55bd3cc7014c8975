//! URL → a bare repository of our own that holds what was fetched from there: what mirrors of agents and looks of masters share.
//!
//! Its directory is written by hand (gitrepository-layout(5)), whether an object is there is looked up in the packs' indexes
//! (gitformat-pack(5)) without a process, and it is a cache: whatever is wrong with it, making it anew is right.
//!
//! One may leave out the content of files (partial-clone in git's documentation). Git would fetch them one by one when they
//! miss, with the network up and the password known, so that is switched off: what lacks is fetched here, by name, when it is
//! known what that is.

use crate::digest::sha256;
use crate::git::cause::TOO_LARGE;
use crate::git::tools::{Tools, quoted};
use crate::git::{Git, GitError, Watch};
use crate::remove_tree::remove_tree;
use sai_core::secret::CloneUrl;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of git's own list of the commits at which a history was cut off, see gitrepository-layout(5).
pub const SHALLOW: &str = "shallow";
/// Name of the list of revisions whose files are all there, a line each. A cache that leaves nothing out has none.
pub const COMPLETE: &str = "complete";
/// What may be left out, as git-rev-list(1) names it: the content of files.
pub const NO_FILES: &str = "blob:none";
/// The name that a cache's configuration has for where the rest can be had.
pub const REMOTE: &str = "origin";
/// Depth of directories in which a killed git may have left locks.
const LEFTOVER_DEPTH: u32 = 4;

/// A bare repository of ours, there or not.
#[derive(Debug)]
pub struct Cache {
    /// Where it is.
    pub path: PathBuf,
    /// Where it is fetched from.
    pub url: CloneUrl,
    /// Value of `GIT_ALLOW_PROTOCOL`.
    pub protocols: &'static str,
    /// Whether objects are named by SHA-256.
    pub sha256: bool,
    /// What git is run with.
    pub tools: Tools,
    /// Further environment of git.
    pub environment: Vec<(&'static str, OsString)>,
    /// Bytes of the largest file git may write.
    pub file_bytes: u64,
}

/// What a fetch is to bring.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetch<'a> {
    /// Refspecs, git-fetch(1).
    pub wanted: &'a [&'a OsStr],
    /// Commits of the history; all without it.
    pub depth: Option<u32>,
    /// Whether tags that point into what is fetched come along.
    pub tags: bool,
    /// Longest time.
    pub time: Duration,
}

impl Cache {
    /// How to run git for it.
    pub fn git(&self, time: Duration) -> Git<'_> {
        Git {
            tools: &self.tools,
            protocols: self.protocols,
            url: &self.url,
            environment: &self.environment,
            time,
            file_bytes: self.file_bytes,
        }
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.join("HEAD").exists()
    }

    /// Whether the content of files is left out, which is not what it would be if it were made now.
    pub fn partial(&self) -> Option<&'static str> {
        // There is one filter.
        self.path.join(COMPLETE).exists().then_some(NO_FILES)
    }

    /// The part of a repository's configuration that tells its format, and whose remote of this name has what lacks.
    pub fn format(&self, remote: &str, filter: Option<&str>) -> String {
        let version = u8::from(self.sha256 || filter.is_some());
        let mut text = format!("\trepositoryformatversion = {version}\n");
        if version == 1 {
            text.push_str("[extensions]\n");
        }
        if self.sha256 {
            text.push_str("\tobjectFormat = sha256\n");
        }
        if let Some(filter) = filter {
            let known = format!("[remote \"{remote}\"]\n\tpromisor = true\n\tpartialclonefilter = {filter}\n");
            text.push_str(&format!("\tpartialClone = {remote}\n{known}"));
        }
        text
    }

    /// Its whole configuration.
    pub fn configuration(&self, filter: Option<&str>) -> String {
        let url = quoted(self.url.shown());
        format!("[core]\n\tbare = true\n{}[remote \"{REMOTE}\"]\n\turl = {url}\n", self.format(REMOTE, filter))
    }

    /// Writes the directory of an empty bare repository. HEAD, by which it is known as one, comes last.
    ///
    /// # Errors
    /// The disk's.
    pub fn initialise(&self, filter: Option<&str>) -> io::Result<()> {
        for directory in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "refs/sai"] {
            fs::create_dir_all(self.path.join(directory))?;
        }
        if filter.is_some() {
            fs::write(self.path.join(COMPLETE), "")?;
        }
        fs::write(self.path.join("config"), self.configuration(filter))?;
        fs::write(self.path.join("HEAD"), "ref: refs/heads/none\n")
    }

    /// Removes all of it but these files.
    ///
    /// # Errors
    /// The disk's.
    pub fn throw_away(&self, but: &[&str]) -> io::Result<()> {
        let _ = fs::remove_file(self.path.join("HEAD"));
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                remove_tree(&entry.path())?;
            } else if !but.iter().any(|kept| name == *kept) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes locks and unfinished packs of a git that was killed. No git may be at work in it meanwhile.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        remove_leftovers(&self.path, 0)
    }

    /// How many packs it has.
    pub fn packs(&self) -> usize {
        self.pack_files("pack").count()
    }

    fn pack_files(&self, ending: &str) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.path.join("objects/pack")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(move |path| path.extension().is_some_and(|end| end == ending))
    }

    /// Whether an object of this name is in one of the packs, or loose.
    pub fn has(&self, revision: &str) -> bool {
        let Some(name) = bytes_of(revision) else { return false };
        let (first, rest) = revision.split_at(2);
        if self.path.join("objects").join(first).join(rest).exists() {
            return true;
        }
        let mut indexes = self.pack_files("idx");
        indexes.any(|index| index.with_extension("pack").exists() && is_in(&index, &name).unwrap_or(false))
    }

    /// Runs `git fetch`.
    ///
    /// # Errors
    /// See [`GitError`].
    pub fn fetch(&self, fetch: &Fetch<'_>, watch: &mut dyn Watch) -> Result<(), GitError> {
        let mut arguments = self.fetch_arguments(&[]);
        match fetch.depth {
            Some(depth) => arguments.push(format!("--depth={depth}").into()),
            // One that was shallow gets the rest of its history.
            None if self.path.join(SHALLOW).exists() => arguments.push("--unshallow".into()),
            None => {}
        }
        if !fetch.tags {
            arguments.push("--no-tags".into());
        }
        arguments.extend(["--", REMOTE].map(OsString::from));
        arguments.extend(fetch.wanted.iter().map(OsString::from));
        let done = self.git(fetch.time).run(&self.path, &arguments, watch);
        done.map_err(|error| self.look_at_unfinished(error))
    }

    /// Fetches objects by their names, a line each, into one that leaves them out.
    ///
    /// # Errors
    /// See [`GitError`].
    pub fn fetch_objects(&self, names: &str, time: Duration, watch: &mut dyn Watch) -> Result<(), GitError> {
        // Git does the same for one object: there is nothing to find out about common commits.
        let mut arguments = self.fetch_arguments(&["-c", "fetch.negotiationAlgorithm=noop"]);
        arguments.extend(["--no-tags", "--stdin", "--", REMOTE].map(OsString::from));
        let done = self.git(time).ask(&self.path, &arguments, names.as_bytes(), 0, watch);
        done.map(drop).map_err(|error| self.look_at_unfinished(error))
    }

    /// Git does not say that the one among its processes which writes a pack was ended for the pack's size. The pack does.
    fn look_at_unfinished(&self, error: GitError) -> GitError {
        let at_bound = |path: &PathBuf| fs::metadata(path).is_ok_and(|state| state.len() >= self.file_bytes);
        match error {
            GitError::Failed { said, signal: None } if self.unfinished().any(|path| at_bound(&path)) => {
                GitError::Failed { said, signal: Some(TOO_LARGE) }
            }
            error => error,
        }
    }

    /// Packs that were being received when git was ended.
    fn unfinished(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.path.join("objects/pack")).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"tmp_")).map(|entry| entry.path())
    }

    /// Removes them: nothing else does, and they may be large. Nobody may be fetching meanwhile.
    pub fn remove_unfinished(&self) {
        // One that cannot be removed is in nobody's way, and tried again next time.
        self.unfinished().for_each(|path| drop(fs::remove_file(path)));
    }

    fn fetch_arguments(&self, settings: &[&str]) -> Vec<OsString> {
        // Said each time, since the URL may be written in another way by now.
        let url = format!("remote.{REMOTE}.url={}", self.url.shown());
        let mut arguments: Vec<OsString> = vec!["-c".into(), url.into()];
        arguments.extend(settings.iter().map(OsString::from));
        arguments.extend(
            [
                "fetch",
                // Percentages would fill a log that is read long after; what goes wrong is said all the same.
                "--quiet",
                "--no-write-fetch-head",
                "--no-auto-gc",
                "--no-recurse-submodules",
            ]
            .map(OsString::from),
        );
        arguments.extend(self.partial().map(|filter| format!("--filter={filter}").into()));
        arguments
    }
}

/// Names become directory names: letters, digits, `.`, `_` and `-` stay, everything else becomes `%XX`.
pub fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The reverse of [`escape`].
pub fn unescape(name: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A short name for any text.
pub(crate) fn digest(text: &str) -> String {
    hex(&sha256(text.as_bytes())[..8])
}

fn remove_leftovers(directory: &Path, depth: u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if entry.file_type()?.is_dir() {
            // Loose objects' directories are many and hold no locks.
            if depth < LEFTOVER_DEPTH && name.len() > 2 {
                remove_leftovers(&entry.path(), depth + 1)?;
            }
        } else if name.ends_with(b".lock") || name.starts_with(b"tmp_") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn bytes_of(name: &str) -> Option<Vec<u8>> {
    if !name.is_ascii() || !matches!(name.len(), 40 | 64) {
        return None;
    }
    (0..name.len() / 2).map(|at| u8::from_str_radix(name.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

/// Looks an object up in the index of a pack, version 2 of gitformat-pack(5): magic, version, 256 cumulated counts by first
/// byte, then the sorted names.
fn is_in(index: &Path, name: &[u8]) -> io::Result<bool> {
    const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
    let file = File::open(index)?;
    let mut head = [0; 8 + 256 * 4];
    file.read_exact_at(&mut head, 0)?;
    if head[..8] != MAGIC {
        return Ok(false);
    }
    let count = |first: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&head[8 + 4 * first..12 + 4 * first]);
        u64::from(u32::from_be_bytes(bytes))
    };
    let Some(first) = name.first().map(|byte| usize::from(*byte)) else { return Ok(false) };
    let (mut low, mut high) = (if first == 0 { 0 } else { count(first - 1) }, count(first));
    let mut found = vec![0; name.len()];
    while low < high {
        let middle = low + (high - low) / 2;
        file.read_exact_at(&mut found, head.len() as u64 + middle * name.len() as u64)?;
        match found.as_slice().cmp(name) {
            std::cmp::Ordering::Equal => return Ok(true),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(false)
}
