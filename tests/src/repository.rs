//! Files → a real git repository: a bare one that is pushed to, and a working clone.

use crate::process::program;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bare repository and a clone that pushes to it.
#[derive(Debug)]
pub struct Repository {
    /// The bare repository.
    pub bare: PathBuf,
    /// The working clone.
    pub work: PathBuf,
}

/// A git command as tests run it: nobody's configuration, a fixed author.
pub fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "A U Thor"), ("GIT_AUTHOR_EMAIL", "author@example.org")])
        .envs([("GIT_COMMITTER_NAME", "A U Thor"), ("GIT_COMMITTER_EMAIL", "author@example.org")])
        .env_remove("GIT_DIR");
    command
}

/// Runs a command that must succeed and returns what it printed, without the last line end.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_string()
}

impl Repository {
    /// An empty bare repository and a clone on branch `main`, below `directory`.
    pub fn new(directory: &Path) -> Self {
        let (bare, work) = (directory.join("project.git"), directory.join("work"));
        run(git(directory).args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&bare));
        run(git(directory).args(["clone", "--quiet"]).arg(&bare).arg(&work));
        run(git(&work).args(["checkout", "--quiet", "-B", "main"]));
        Self { bare, work }
    }

    /// Writes a file of the working tree.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.work.join(path);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }

    /// Commits everything and returns the revision.
    pub fn commit(&self, message: &str) -> String {
        run(git(&self.work).args(["add", "--all"]));
        run(git(&self.work).args(["commit", "--quiet", "--allow-empty", "-m", message]));
        run(git(&self.work).args(["rev-parse", "HEAD"]))
    }

    /// Pushes the present branch.
    pub fn push(&self) {
        run(git(&self.work).args(["push", "--quiet", "origin", "HEAD"]));
    }

    /// Writes a saifile, commits and pushes it.
    pub fn push_saifile(&self, saifile: &str) -> String {
        self.write(".sai.json", saifile);
        let revision = self.commit("Change the saifile");
        self.push();
        revision
    }

    /// Installs the hook that we ship, so that pushes poke this master.
    pub fn install_hook(&self, url: &str, name: &str) {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/hooks/post-receive");
        let hook = self.bare.join("hooks/post-receive");
        std::fs::copy(shipped, &hook).expect("the hook can be copied");
        run(Command::new("chmod").arg("+x").arg(&hook));
        run(git(&self.bare).args(["config", "sai.url", url]));
        run(git(&self.bare).args(["config", "sai.repository", name]));
        run(git(&self.bare).args(["config", "sai.insecure", "true"]));
    }
}

/// A saifile with one platform `linux` and one configuration `default`, whose steps are these scripts.
pub fn saifile(steps: &[&str]) -> String {
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {}}}}}, \"configurations\": {{\"default\": {{}}}}}}",
        miniserde::json::to_string(&steps)
    )
}

/// `sai-master` with these arguments, run to its end: status, standard output, standard error.
pub fn sai_master(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(program("sai-master")).args(arguments).output().expect("sai-master can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
