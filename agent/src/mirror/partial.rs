//! Mirror without the content of files + revision → a mirror that has those of the revision: see partial-clone in git's documentation.
//!
//! Such a mirror has all commits and directories, and of the files those of revisions that were built, so that a checkout asks
//! nobody, whether the server is there or not. A server that cannot leave anything out sends all, and nothing lacks then.

use super::{FETCH_TIME, Mirror, Trouble};
use crate::cache::COMPLETE;
use crate::git::{GitError, Watch};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};

/// Bytes of a list of what lacks: a million names.
const LACKING_BYTES: usize = 64 << 20;

impl Mirror {
    pub(super) fn is_complete(&self, revision: &str) -> bool {
        fs::read_to_string(self.path().join(COMPLETE)).is_ok_and(|list| list.lines().any(|line| line == revision))
    }

    /// Fetches the files of a revision that lack. The error tells whether the mirror itself may be what is broken.
    pub(super) fn complete(&self, revision: &str, watch: &mut dyn Watch) -> Result<(), (Trouble, bool)> {
        let disk = |error: io::Error| (Trouble::disk("completing the mirror", &error), false);
        let lacking = self.lacking(revision, watch)?;
        if !lacking.is_empty() {
            let count = lacking.lines().count();
            watch.note(&format!("fetching {count} files of {revision}"));
            let fetched = self.cache.fetch_objects(&lacking, FETCH_TIME, watch);
            fetched.map_err(|error| self.blame(&error))?;
            let lacking = self.lacking(revision, watch)?.lines().count();
            if lacking > 0 {
                let why = format!("{lacking} files of {revision} were promised and are not to be had");
                return Err((Trouble::of_repository(why), false));
            }
        }
        let list = OpenOptions::new().append(true).create(true).open(self.path().join(COMPLETE));
        list.and_then(|mut list| writeln!(list, "{revision}")).map_err(disk)
    }

    /// The objects that a checkout of a revision needs and that are not here, a line each.
    fn lacking(&self, revision: &str, watch: &mut dyn Watch) -> Result<String, (Trouble, bool)> {
        let tree = format!("{revision}^{{tree}}");
        let arguments = ["rev-list", "--objects", "--no-object-names", "--missing=print", "--end-of-options", &tree];
        let output =
            self.git().ask(self.path(), &arguments, b"", LACKING_BYTES, watch).map_err(|error| match &error {
                GitError::Failed { said, .. } if said.contains("object dereferences to") => {
                    (Trouble::specs(format!("{revision} is no commit")), false)
                }
                _ => self.blame(&error),
            })?;
        let text = String::from_utf8_lossy(&output);
        let names = text.lines().filter_map(|line| line.strip_prefix('?'));
        Ok(names.map(|name| format!("{name}\n")).collect())
    }
}
