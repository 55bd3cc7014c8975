//! Roots of real distributions, each made once by debootstrap for all tests, and whole or not there.

use rustix::fs::{FlockOperation, flock};
use sai_agent::image::apt::Apt;
use sai_agent::remove_tree::remove_tree;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root of this Debian release, below `target/roots` or `SAI_TEST_ROOTS`. Nobody changes it.
pub fn debian(suite: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("target/roots");
    let roots = std::env::var_os("SAI_TEST_ROOTS").map_or(target, PathBuf::from);
    fs::create_dir_all(&roots).expect("a directory");
    // Tests of other processes may want it too, and one makes it for all.
    let lock = File::create(roots.join(format!("{suite}.lock"))).expect("a file");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock");
    let root = roots.join(suite);
    if !root.exists() {
        let new = roots.join(format!("{suite}.new"));
        remove_tree(&new).expect("nothing half made");
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", suite]).arg(&new).args(Apt::of_this_machine().mirror());
        let output = debootstrap.output().expect("debootstrap, which tests/run installs");
        assert!(output.status.success(), "debootstrap: {}", String::from_utf8_lossy(&output.stdout));
        fs::rename(&new, &root).expect("a root");
    }
    root
}
