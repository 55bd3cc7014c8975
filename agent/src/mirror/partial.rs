//! Mirror without the content of files + revision → a mirror that has those of the revision: see partial-clone in git's documentation.
//!
//! Such a mirror has all commits and directories, and of the files those of revisions that were built, so that a checkout asks
//! nobody, whether the server is there or not. A server that cannot leave anything out sends all, and nothing lacks then.

use super::{Mirror, Trouble, remote_is_to_blame};
use crate::git::{GitError, Watch};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::process::Stdio;

/// Name of the list of revisions whose files are all in the mirror, a line each. A mirror that leaves nothing out has none.
pub(super) const COMPLETE: &str = "complete";
/// The name that a mirror's configuration has for where the rest can be had. The URL is said each time: it may hold a password.
pub(super) const REMOTE: &str = "origin";

impl Mirror {
    /// What this mirror leaves out, which is not what it would if it were made now.
    pub(super) fn partial(&self) -> Option<&'static str> {
        // There is one filter.
        if self.path.join(COMPLETE).exists() { super::FILTERS.first().copied() } else { None }
    }

    /// The part of a repository's configuration that tells its format, and whose remote of this name has what lacks.
    pub(crate) fn format(&self, remote: &str) -> String {
        let partial = self.partial();
        let version = u8::from(self.sha256 || partial.is_some());
        let mut text = format!("\trepositoryformatversion = {version}\n");
        if version == 1 {
            text.push_str("[extensions]\n");
        }
        if self.sha256 {
            text.push_str("\tobjectFormat = sha256\n");
        }
        if let Some(filter) = partial {
            let known = format!("[remote \"{remote}\"]\n\tpromisor = true\n\tpartialclonefilter = {filter}\n");
            text.push_str(&format!("\tpartialClone = {remote}\n{known}"));
        }
        text
    }

    /// The setting by which git knows where the rest can be had.
    pub(super) fn remote_url(&self) -> String {
        format!("remote.{REMOTE}.url={}", self.url)
    }

    pub(super) fn is_complete(&self, revision: &str) -> bool {
        fs::read_to_string(self.path.join(COMPLETE)).is_ok_and(|list| list.lines().any(|line| line == revision))
    }

    /// Fetches the files of a revision that lack. The error tells whether the mirror itself may be what is broken.
    pub(super) fn complete(&self, revision: &str, filter: &str, watch: &mut dyn Watch) -> Result<(), (Trouble, bool)> {
        let disk = |error: io::Error| (Trouble::disk("completing the mirror", &error), false);
        let lacking = self.lacking(revision, watch)?;
        if !lacking.is_empty() {
            let count = lacking.lines().count();
            watch.note(&format!("fetching {count} files of {revision}"));
            let (url, filter) = (self.remote_url(), format!("--filter={filter}"));
            let arguments = [
                "-c",
                &url,
                // Git does the same for one object: there is nothing to find out about common commits.
                "-c",
                "fetch.negotiationAlgorithm=noop",
                "fetch",
                "--quiet",
                "--no-write-fetch-head",
                "--no-auto-gc",
                "--no-recurse-submodules",
                "--no-tags",
                &filter,
                "--stdin",
                "--",
                REMOTE,
            ];
            let input = memory(&lacking).map_err(disk)?;
            let fetched = self.git().run_between(&self.path, &arguments, input.into(), Stdio::null(), watch);
            fetched.map_err(|error| self.blame(&error))?;
            let lacking = self.lacking(revision, watch)?.lines().count();
            if lacking > 0 {
                let why = format!("{lacking} files of {revision} were promised and are not to be had");
                return Err((Trouble::ours(why), false));
            }
        }
        let list = OpenOptions::new().append(true).create(true).open(self.path.join(COMPLETE));
        list.and_then(|mut list| writeln!(list, "{revision}")).map_err(disk)
    }

    /// The objects that a checkout of a revision needs and that are not here, a line each.
    fn lacking(&self, revision: &str, watch: &mut dyn Watch) -> Result<String, (Trouble, bool)> {
        let disk = |error: io::Error| (Trouble::disk("listing what lacks", &error), false);
        let mut output = memory("").map_err(disk)?;
        let tree = format!("{revision}^{{tree}}");
        let arguments = ["rev-list", "--objects", "--no-object-names", "--missing=print", "--end-of-options", &tree];
        let written = output.try_clone().map_err(disk)?;
        self.git().run_between(&self.path, &arguments, Stdio::null(), written.into(), watch).map_err(|error| {
            match &error {
                GitError::Failed(said) if said.contains("object dereferences to") => {
                    (Trouble::specs(format!("{revision} is no commit")), false)
                }
                _ => self.blame(&error),
            }
        })?;
        let mut text = String::new();
        output.rewind().and_then(|()| output.read_to_string(&mut text)).map_err(disk)?;
        let names = text.lines().filter_map(|line| line.strip_prefix('?'));
        Ok(names.map(|name| format!("{name}\n")).collect())
    }

    fn blame(&self, error: &GitError) -> (Trouble, bool) {
        let broken = matches!(error, GitError::Failed(said) if !remote_is_to_blame(said));
        (self.explain(error), broken)
    }
}

/// A file in memory, at its beginning: boards write to flash only what they keep.
fn memory(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("sai", MemfdFlags::CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}
