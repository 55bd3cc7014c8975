//! Path of a state directory → the promise that it is as it was, should what it was made for come to nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// A directory that may be made while this exists, and is removed again if it was and this is dropped without
/// [`Fresh::keep`]. One that was there before is never touched.
#[derive(Debug)]
pub struct Fresh {
    /// What was not there before: the directory first, then what is above it.
    missing: Vec<PathBuf>,
}

impl Fresh {
    /// Looks what is there now.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
        let absent = |path: &&Path| fs::symlink_metadata(path).is_err();
        Self { missing: directory.ancestors().take_while(absent).map(Path::to_path_buf).collect() }
    }

    /// It came to something: what was made stays.
    pub fn keep(mut self) {
        self.missing.clear();
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let Some((directory, above)) = self.missing.split_first() else { return };
        // What cannot be removed does no more harm than it did before; others may have put something above it.
        let _ = fs::remove_dir_all(directory);
        for directory in above {
            let _ = fs::remove_dir(directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let root = std::env::temp_dir().join(format!("sai-fresh-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).expect("a directory");
        let state = root.join("a/b/state");
        let fresh = Fresh::new(&state);
        fs::create_dir_all(state.join("jobs")).expect("a state");
        drop(fresh);
        assert!(!root.join("a").exists() && root.exists());
        let fresh = Fresh::new(&state);
        fs::create_dir_all(state.join("jobs")).expect("a state");
        fs::write(root.join("a/other"), "").expect("somebody else's");
        drop(fresh);
        assert!(!root.join("a/b").exists() && root.join("a/other").exists());
        let fresh = Fresh::new(&state);
        fs::create_dir_all(&state).expect("a state");
        fresh.keep();
        drop(Fresh::new(&state));
        assert!(state.exists());
        fs::remove_dir_all(&root).expect("the end");
    }
}
