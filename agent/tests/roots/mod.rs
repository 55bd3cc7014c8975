//! Roots of real distributions: each made once by `sai-agent image create`, for all tests, and whole or not there.

use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root of this Debian release, made by this `sai-agent`, below `target/roots` or `SAI_TEST_ROOTS`. Nobody changes it.
pub fn debian(agent: &Path, suite: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("target/roots");
    let roots = std::env::var_os("SAI_TEST_ROOTS").map_or(target, PathBuf::from);
    fs::create_dir_all(&roots).expect("a directory");
    // Tests of other processes may want it too, and one makes it for all.
    let lock = File::create(roots.join(format!("{suite}.lock"))).expect("a file");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock");
    let root = roots.join(suite);
    if !root.exists() {
        let images = roots.join(format!("{suite}.new"));
        let mut create = Command::new(agent);
        create.args(["image", "create", "made", "--debootstrap", suite, "--images"]).arg(&images);
        // One that was interrupted has left its image, if that was whole, or nothing that counts.
        if !images.join("made/base").exists() {
            let output = create.output().expect("sai-agent can be run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        fs::rename(images.join("made/base"), &root).expect("a root");
        fs::remove_dir_all(images).expect("what is left");
    }
    root
}
