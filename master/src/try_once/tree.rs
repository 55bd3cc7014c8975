//! Directory of the user's → a commit that agents can fetch, and its saifile, without a byte written into the repository.

use sai_agent::git::tools::Tools;
use sai_agent::git::{Git, Silent};
use sai_core::secret::CloneUrl;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The user's repository. Nothing is ever written into it.
pub struct Tree {
    /// Where it begins.
    pub top: PathBuf,
    objects: PathBuf,
    /// What the project is called.
    pub name: String,
}

/// What is built: a commit that agents can fetch, and its saifile.
pub struct Snapshot {
    /// Where an agent fetches it.
    pub url: String,
    /// The branch it is on.
    pub reference: String,
    /// The commit.
    pub revision: String,
    /// First line of its message.
    pub subject: String,
    /// Its saifile.
    pub saifile: Vec<u8>,
}

/// Longest time of a git command: reading a working tree of the largest there are.
const TIME: Duration = Duration::from_secs(3600);
/// Bytes of the largest object that is written of a working tree.
const FILE_BYTES: u64 = 64 << 30;
/// Bytes that are taken of what git prints: a saifile, a line.
const OUTPUT_BYTES: usize = 4 << 20;
/// What git is told of where the user's configuration is, beside `HOME`.
const CONFIGURATION: [&str; 3] = ["XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"];

/// What git prints.
fn git(directory: &Path, environment: &[(&'static str, OsString)], arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut watch = Silent::new().map_err(|error| error.to_string())?;
    // The user may stand anywhere in a tree.
    let mut all = vec![("GIT_CEILING_DIRECTORIES", OsString::new())];
    all.extend(CONFIGURATION.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    all.extend_from_slice(environment);
    let git = Git {
        tools: &Tools::of_user(),
        protocols: "",
        url: &CloneUrl::default(),
        environment: &all,
        time: TIME,
        file_bytes: FILE_BYTES,
    };
    git.ask(directory, arguments, b"", OUTPUT_BYTES, &mut watch).map_err(|error| error.to_string())
}

fn line(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    git(directory, &[], arguments).map(|printed| text(&printed))
}

fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).trim_end().to_string()
}

impl Tree {
    /// The repository that a directory is in.
    pub fn find(path: &Path) -> Result<Self, String> {
        let here = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        let top = line(&here, &["rev-parse", "--show-toplevel"])
            .map_err(|why| format!("{}: expected a git working tree: {why}", here.display()))?;
        let top = PathBuf::from(top);
        let common = line(&top, &["rev-parse", "--path-format=absolute", "--git-common-dir"])?;
        let name = top.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name: String = name
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() || "_-".contains(letter) { letter } else { '_' })
            .collect();
        let name = if name.is_empty() { "repository".to_string() } else { name };
        Ok(Self { objects: PathBuf::from(common).join("objects"), top, name })
    }

    /// The branch, and the saifile that would be built, as they are now: nothing is written anywhere.
    pub fn preview(&self, dirty: bool) -> Result<(String, Vec<u8>), String> {
        let saifile = if dirty {
            std::fs::read(self.top.join(".sai.json")).map_err(|error| error.to_string())
        } else {
            self.head(dirty)?;
            git(&self.top, &[], &["cat-file", "blob", "HEAD:.sai.json"])
        };
        Ok((self.reference(), saifile.map_err(|_| self.no_saifile(dirty))?))
    }

    fn no_saifile(&self, dirty: bool) -> String {
        let hint = if dirty { "" } else { " in the last commit; commit it, or try --dirty" };
        format!("{}: there is no .sai.json{hint}", self.top.display())
    }

    fn head(&self, dirty: bool) -> Result<Option<String>, String> {
        match line(&self.top, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]) {
            Ok(head) => Ok(Some(head)),
            Err(_) if dirty => Ok(None),
            Err(_) => Err(format!("{}: has no commit yet; try --dirty", self.top.display())),
        }
    }

    fn reference(&self) -> String {
        let branch = line(&self.top, &["symbolic-ref", "--quiet", "--short", "HEAD"]);
        format!("refs/heads/{}", branch.unwrap_or_else(|_| "HEAD".to_string()))
    }

    /// Makes a bare repository beside our results that borrows the user's objects and has the commit as a branch.
    pub fn snapshot(&self, state: &Path, dirty: bool) -> Result<Snapshot, String> {
        let head = self.head(dirty)?;
        let reference = self.reference();
        let bare = state.join("trials").join(format!("{}.git", self.name));
        let format = line(&self.top, &["rev-parse", "--show-object-format"])?;
        let trouble = |error: io::Error| format!("{}: {error}", bare.display());
        if !bare.join("HEAD").exists() {
            std::fs::create_dir_all(&bare).map_err(trouble)?;
            let format = format!("--object-format={format}");
            git(&bare, &[], &["init", "--quiet", "--bare", "--template=", &format])?;
        }
        let information = bare.join("objects/info");
        std::fs::create_dir_all(&information).map_err(trouble)?;
        let mut borrowed = self.objects.clone().into_os_string().into_encoded_bytes();
        if borrowed.iter().any(|byte| matches!(byte, b'\n' | b'"')) {
            return Err(format!("{}: expected a path without quotes and line ends", self.objects.display()));
        }
        borrowed.push(b'\n');
        std::fs::write(information.join("alternates"), borrowed).map_err(trouble)?;
        let revision = match (&head, dirty) {
            (Some(head), false) => head.clone(),
            _ => self.commit_dirty(&bare, head.as_deref())?,
        };
        git(&bare, &[], &["update-ref", "--", &reference, &revision])?;
        let subject = line(&bare, &["log", "-1", "--format=%s", &revision])?;
        let saifile = git(&bare, &[], &["cat-file", "blob", &format!("{revision}:.sai.json")])
            .map_err(|_| self.no_saifile(dirty))?;
        let url = bare.to_str().ok_or_else(|| format!("{}: expected a path in UTF-8", bare.display()))?.to_string();
        Ok(Snapshot { url, reference, revision, subject, saifile })
    }

    /// Commits the working tree into the bare repository, by an index of its own.
    fn commit_dirty(&self, bare: &Path, head: Option<&str>) -> Result<String, String> {
        let index = bare.join("sai-index");
        let who = ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|name| (name, "sai-master try".into()));
        let address = ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "try@localhost".into()));
        let places = [
            ("GIT_INDEX_FILE", index.into_os_string()),
            ("GIT_OBJECT_DIRECTORY", bare.join("objects").into_os_string()),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.objects.clone().into_os_string()),
        ];
        let environment: Vec<(&'static str, OsString)> = places.into_iter().chain(who).chain(address).collect();
        let here = |arguments: &[&str]| git(&self.top, &environment, arguments);
        here(&["read-tree", head.unwrap_or("--empty")])?;
        here(&["add", "--all"])?;
        let tree = text(&here(&["write-tree"])?);
        let mut commit = vec!["commit-tree", "-m", "The working tree as it was tried", &tree];
        if let Some(head) = head {
            commit.extend(["-p", head]);
        }
        Ok(text(&here(&commit)?))
    }
}
