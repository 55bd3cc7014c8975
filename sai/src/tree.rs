//! A person's repository and what of it is not pushed → one commit in a git bundle, with nothing of theirs touched.
//!
//! What is made is made in a repository of our own beside theirs, which borrows their objects: their index, branches, files and
//! objects stay as they are. Of what is not committed a commit is made there, by an index of our own.

use crate::failure::Failure;
use crate::telling::plain;
use sai_core::bundle::REFERENCE;
use sai_core::git_names::check_revision;
use sai_core::saifile::SAIFILE;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names of what is not committed that are told.
const SHOWN: usize = 20;
/// Names of a directory that are tried.
const DIRECTORIES: u32 = 100;
/// Commits behind the one that is sent among which one is looked for that was pushed.
const LOOKED_THROUGH: usize = 20_000;

/// A repository of ours beside a person's; removed with all that is in it when it is dropped.
pub struct Beside {
    top: PathBuf,
    place: PathBuf,
    /// The commit that is to be built.
    pub revision: String,
    /// The branch that it is on.
    pub branch: String,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place);
    }
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).stdin(Stdio::null());
    // A look at a repository writes nothing there, and what git says is read.
    command.envs([("GIT_OPTIONAL_LOCKS", "0"), ("GIT_TERMINAL_PROMPT", "0"), ("LC_ALL", "C")]);
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(variable);
    }
    command
}

/// What a git prints; or what it says instead.
fn asked(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("git cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(format!("git: {}", plain(line)))
}

fn line(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").unwrap_or(bytes)
}

fn word(bytes: &[u8]) -> String {
    String::from_utf8_lossy(line(bytes)).into_owned()
}

fn revision(bytes: &[u8]) -> Result<String, String> {
    let text = word(bytes);
    check_revision(&text).map(|()| text)
}

/// A new directory that is closed to others. Names of it are no secret, and somebody may have taken some.
fn own_directory() -> Result<PathBuf, Failure> {
    let mut attempt = 0;
    loop {
        let place = std::env::temp_dir().join(format!("sai-run-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < DIRECTORIES => attempt += 1,
            made => {
                return made
                    .map(|()| place.clone())
                    .map_err(|error| Failure::here(&place.display().to_string(), &error));
            }
        }
    }
}

impl Beside {
    /// One beside the repository of this directory, for its last commit, or for what is there now.
    ///
    /// # Errors
    /// What is not committed, where that is not wanted; else whose fault it is.
    pub fn new(directory: &Path, dirty: bool) -> Result<Self, Failure> {
        let told = |why: String| Failure::refused(why);
        let top = asked(git(directory).args(["rev-parse", "--show-toplevel"])).map_err(told)?;
        let top = PathBuf::from(OsStr::from_bytes(line(&top)));
        let head = asked(git(&top).args(["rev-parse", "--verify", "--quiet", "--end-of-options", "HEAD^{commit}"]));
        let head = head.and_then(|bytes| revision(&bytes)).map_err(|_| told("there is no commit yet".to_owned()))?;
        let branch = asked(git(&top).args(["symbolic-ref", "--quiet", "--short", "HEAD"]));
        let branch = branch.map(|bytes| word(&bytes)).unwrap_or_else(|_| "detached".to_owned());
        let changes =
            asked(git(&top).args(["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal"]))
                .map_err(told)?;
        let changes: Vec<String> = changes
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| plain(&String::from_utf8_lossy(name.get(3..).unwrap_or(name))))
            .collect();
        if !changes.is_empty() && !dirty {
            let mut names = changes.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
            if changes.len() > SHOWN {
                names.push_str(&format!(" and {} more", changes.len() - SHOWN));
            }
            return Err(told(format!("not committed: {names}; commit it, or say --dirty to have it built as it is")));
        }
        let place = own_directory()?;
        let wrong = |error| Failure::here(&place.display().to_string(), &error);
        let mut beside = Self { top, place: place.clone(), revision: head, branch };
        beside.borrow().map_err(Failure::trouble)?;
        if !changes.is_empty() {
            beside.revision = beside.commit().map_err(Failure::refused)?;
        }
        let name = beside.repository().join(REFERENCE);
        fs::create_dir_all(name.parent().unwrap_or(&place)).map_err(wrong)?;
        fs::write(name, format!("{}\n", beside.revision)).map_err(wrong)?;
        Ok(beside)
    }

    fn repository(&self) -> PathBuf {
        self.place.join("repository")
    }

    /// A path of the person's repository.
    fn path(&self, name: &str) -> Result<PathBuf, String> {
        let path = asked(git(&self.top).args(["rev-parse", "--git-path", name]))?;
        Ok(self.top.join(OsStr::from_bytes(line(&path))))
    }

    /// Makes our repository, which borrows the objects of theirs.
    fn borrow(&self) -> Result<(), String> {
        let format = asked(git(&self.top).args(["rev-parse", "--show-object-format"])).map(|bytes| word(&bytes))?;
        let mut init = git(&self.place);
        init.args(["init", "--quiet", "--bare", "--template="]).arg(format!("--object-format={format}"));
        asked(init.arg("--").arg(self.repository()))?;
        let wrong = |error: std::io::Error| format!("{}: {error}", self.place.display());
        let objects = self.path("objects")?;
        let mut borrowed = objects.as_os_str().as_bytes().to_vec();
        borrowed.push(b'\n');
        if borrowed.iter().filter(|byte| **byte == b'\n').count() > 1 || borrowed.starts_with(b"#") {
            return Err(format!(
                "{} has a name that git cannot borrow objects by",
                plain(&objects.display().to_string())
            ));
        }
        fs::create_dir_all(self.repository().join("objects/info")).map_err(wrong)?;
        fs::write(self.repository().join("objects/info/alternates"), borrowed).map_err(wrong)?;
        // Where their history is cut off, so is ours.
        match fs::copy(self.path("shallow")?, self.repository().join("shallow")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(wrong(error)),
            _ => Ok(()),
        }
    }

    /// A commit of what is there now, in our repository.
    fn commit(&self) -> Result<String, String> {
        let index = self.place.join("index");
        // Theirs to begin with, so that only what differs is read.
        let _ = fs::copy(self.path("index")?, &index);
        let ours = || {
            let mut command = git(&self.top);
            command.env("GIT_INDEX_FILE", &index).env("GIT_OBJECT_DIRECTORY", self.repository().join("objects"));
            command
        };
        asked(ours().args(["add", "--all", "--", "."]))?;
        let tree = asked(ours().arg("write-tree")).and_then(|bytes| revision(&bytes))?;
        let message = "Uncommitted changes";
        asked(ours().args(["commit-tree", "-p", &self.revision, "-m", message, &tree]))
            .and_then(|bytes| revision(&bytes))
    }

    fn ask(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        asked(git(&self.repository()).args(words))
    }

    /// The saifile of the commit.
    ///
    /// # Errors
    /// There is none.
    pub fn saifile(&self) -> Result<Vec<u8>, Failure> {
        let name = format!("{}:{SAIFILE}", self.revision);
        self.ask(&["cat-file", "blob", &name]).map_err(|_| {
            Failure::refused(format!("there is no {SAIFILE} in the last commit; commit it, or try --dirty"))
        })
    }

    /// The commit's subject and author.
    pub fn about(&self) -> (String, String) {
        let said = self.ask(&["show", "--no-patch", "--format=%s%n%an", "--end-of-options", &self.revision]);
        let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
        let mut lines = said.lines().map(str::to_owned);
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
    }

    /// Of these revisions the one that the commit was made upon last, if it was upon any.
    pub fn nearest<'a>(&self, pushed: &'a [(String, String)]) -> Option<&'a (String, String)> {
        let most = format!("--max-count={LOOKED_THROUGH}");
        let list = self.ask(&["rev-list", &most, "--end-of-options", &self.revision]).ok()?;
        let list = String::from_utf8_lossy(&list).into_owned();
        // The commit itself would leave nothing to send.
        list.lines().skip(1).find_map(|known| pushed.iter().find(|(_, revision)| revision == known))
    }

    /// Writes the bundle: the commit, and its history down to what was pushed.
    ///
    /// # Errors
    /// Git's.
    pub fn bundle(&self, base: Option<&str>) -> Result<PathBuf, Failure> {
        let file = self.place.join("bundle");
        let mut words: Vec<OsString> = ["bundle", "create", "--quiet"].map(OsString::from).to_vec();
        words.push(file.clone().into());
        words.push(REFERENCE.into());
        words.extend(base.map(|base| OsString::from(format!("^{base}"))));
        asked(git(&self.repository()).args(words)).map_err(Failure::refused)?;
        Ok(file)
    }

    /// The URLs of the person's remotes.
    pub fn remotes(&self) -> Vec<String> {
        let list = asked(git(&self.top).args(["config", "--get-regexp", "^remote\\..*\\.url$"])).unwrap_or_default();
        let list = String::from_utf8_lossy(&list).into_owned();
        list.lines().filter_map(|line| line.split_once(' ')).map(|(_, url)| url.to_owned()).collect()
    }
}
