//! Directory of the user's → a commit that agents can fetch, and its saifile, without a byte written into the repository.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// A git command of ours: no prompts, hooks or configuration but the repository's own.
fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .args(["-c", "core.hooksPath=/dev/null"])
        .stdin(Stdio::null());
    command
}

fn answer(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("git cannot be run: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
    }
}

fn line(command: &mut Command) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&answer(command)?).trim_end().to_string())
}

impl Tree {
    /// The repository that a directory is in.
    pub fn find(path: &Path) -> Result<Self, String> {
        let here = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        let top = line(git(&here).args(["rev-parse", "--show-toplevel"]))
            .map_err(|why| format!("{}: expected a git working tree: {why}", here.display()))?;
        let top = PathBuf::from(top);
        let common = line(git(&top).args(["rev-parse", "--path-format=absolute", "--git-common-dir"]))?;
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
            answer(git(&self.top).args(["cat-file", "blob", "HEAD:.sai.json"]))
        };
        Ok((self.reference(), saifile.map_err(|_| self.no_saifile(dirty))?))
    }

    fn no_saifile(&self, dirty: bool) -> String {
        let hint = if dirty { "" } else { " in the last commit; commit it, or try --dirty" };
        format!("{}: there is no .sai.json{hint}", self.top.display())
    }

    fn head(&self, dirty: bool) -> Result<Option<String>, String> {
        match line(git(&self.top).args(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])) {
            Ok(head) => Ok(Some(head)),
            Err(_) if dirty => Ok(None),
            Err(_) => Err(format!("{}: has no commit yet; try --dirty", self.top.display())),
        }
    }

    fn reference(&self) -> String {
        let branch = line(git(&self.top).args(["symbolic-ref", "--quiet", "--short", "HEAD"]));
        format!("refs/heads/{}", branch.unwrap_or_else(|_| "HEAD".to_string()))
    }

    /// Makes a bare repository beside our results that borrows the user's objects and has the commit as a branch.
    pub fn snapshot(&self, state: &Path, dirty: bool) -> Result<Snapshot, String> {
        let head = self.head(dirty)?;
        let reference = self.reference();
        let bare = state.join("trials").join(format!("{}.git", self.name));
        let format = line(git(&self.top).args(["rev-parse", "--show-object-format"]))?;
        let trouble = |error: io::Error| format!("{}: {error}", bare.display());
        if !bare.join("HEAD").exists() {
            std::fs::create_dir_all(&bare).map_err(trouble)?;
            answer(
                git(&bare).args(["init", "--quiet", "--bare", "--template="]).arg(format!("--object-format={format}")),
            )?;
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
        answer(git(&bare).args(["update-ref", "--", &reference, &revision]))?;
        let subject = line(git(&bare).args(["log", "-1", "--format=%s", &revision]))?;
        let saifile = answer(git(&bare).args(["cat-file", "blob", &format!("{revision}:.sai.json")]))
            .map_err(|_| self.no_saifile(dirty))?;
        let url = bare.to_str().ok_or_else(|| format!("{}: expected a path in UTF-8", bare.display()))?.to_string();
        Ok(Snapshot { url, reference, revision, subject, saifile })
    }

    /// Commits the working tree into the bare repository, by an index of its own.
    fn commit_dirty(&self, bare: &Path, head: Option<&str>) -> Result<String, String> {
        let index = bare.join("sai-index");
        let here = |arguments: &[&str]| {
            let mut command = git(&self.top);
            command
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", bare.join("objects"))
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects)
                .envs([("GIT_AUTHOR_NAME", "sai-master try"), ("GIT_AUTHOR_EMAIL", "try@localhost")])
                .envs([("GIT_COMMITTER_NAME", "sai-master try"), ("GIT_COMMITTER_EMAIL", "try@localhost")])
                .args(arguments);
            command
        };
        if let Some(head) = head {
            answer(&mut here(&["read-tree", head]))?;
        } else {
            answer(&mut here(&["read-tree", "--empty"]))?;
        }
        answer(&mut here(&["add", "--all"]))?;
        let tree = line(&mut here(&["write-tree"]))?;
        let mut commit = here(&["commit-tree", "-m", "The working tree as it was tried", &tree]);
        if let Some(head) = head {
            commit.args(["-p", head]);
        }
        line(&mut commit)
    }
}
