//! Roots of real distributions, each made once by debootstrap for all tests, and whole or not there.
#![allow(dead_code, reason = "each test file uses a part of it")]

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

/// A root like Alpine's, of busybox alone: no GNU C library, no `bash`, and a `getent` that knows no groups of a user.
pub fn busybox(root: &Path) -> PathBuf {
    let program = "/bin/busybox";
    for directory in ["bin", "sbin", "usr/bin", "usr/sbin", "etc", "tmp", "root"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    fs::copy(program, root.join("bin/busybox")).expect("busybox-static, which tests/run installs");
    let output = Command::new(program).arg("--list-full").output().expect("busybox");
    let list = String::from_utf8(output.stdout).expect("a list");
    for place in list.lines().filter(|place| !place.ends_with("/busybox")) {
        let place = root.join(place);
        if place.parent().is_some_and(Path::is_dir) {
            let _ = std::os::unix::fs::symlink(program, place);
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")
        .expect("a file");
    fs::write(root.join("etc/group"), "root:x:0:root\nnobody:x:65534:\n").expect("a file");
    fs::write(root.join("etc/os-release"), "ID=alpine\nVERSION_ID=3.20.1\n").expect("a file");
    let getent = root.join("usr/bin/getent");
    let script =
        "#!/bin/sh\ncase $1 in passwd|group) grep \"^$2:\" /etc/$1;; *) echo Unknown database: $1; exit 1;; esac\n";
    fs::write(&getent, script).expect("a file");
    fs::set_permissions(&getent, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a file");
    root.to_path_buf()
}
