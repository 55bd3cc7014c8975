//! Sources of tests → the programs that they start, each of which `tests/run` installs.

use super::root;
use sai_tests::repository::run;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// It runs the test you read, so it is looked at only: that it can be started, tests the whole workspace, and installs
/// every program that the tests start.
pub fn check_tests_run(script: &Path) {
    let mode = std::fs::metadata(script).expect("tests/run").permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "tests/run can be executed");
    run(Command::new("bash").arg("-n").arg(script));
    let script = std::fs::read_to_string(script).expect("tests/run");
    let whole = ["cargo test --locked --workspace --no-run ", "cargo test --locked --workspace --doc"];
    for start in whole {
        assert!(script.lines().any(|line| line.trim_start().starts_with(start)), "{script}");
    }
    let packages = script.lines().filter_map(|line| line.strip_prefix("packages=\""));
    let packages: BTreeSet<&str> = packages.flat_map(|packages| packages.trim_end_matches('"').split(' ')).collect();
    for (name, package) in programs_of_tests() {
        let listed = package.is_empty() || packages.contains(package);
        assert!(listed, "tests start {name}, but tests/run does not install {package}");
    }
}

/// The programs that tests start by name, each with its Debian package; none for what every Debian has.
fn programs_of_tests() -> Vec<(String, &'static str)> {
    let mut found = BTreeSet::new();
    let mut directories = ["tests", "master", "agent", "buddy", "sai"].map(|part| root().join(part)).to_vec();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let names = text.split("Command::new(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.filter(|name| !name.is_empty()).map(ToString::to_string));
            }
        }
    }
    let package = |name: &str| match name.strip_prefix("/bin/").unwrap_or(name) {
        "apt-config" | "bash" | "sh" | "grep" | "cat" | "chmod" | "chown" | "chroot" | "cmp" | "cp" | "dd" | "du"
        | "find" | "id" | "md5sum" | "mkdir" | "mkfifo" | "od" | "rm" | "seq" | "sha256sum" | "sleep" | "sync"
        | "tar" | "timeout" | "true" | "date" | "useradd" | "xargs" => "",
        // It comes with pip, which tests/run looks for by itself.
        "python3" => "",
        "chromedriver" => "chromium-driver",
        "curl" => "curl",
        "gcc" => "gcc",
        "rb" | "sb" => "lrzsz",
        "stm32flash" => "stm32flash",
        "sigrok-cli" => "sigrok-cli",
        "avrdude" => "avrdude",
        "avr-gcc" | "avr-objcopy" => "gcc-avr",
        "aarch64-linux-gnu-as" | "aarch64-linux-gnu-ld" | "aarch64-linux-gnu-objcopy" => "binutils-aarch64-linux-gnu",
        "arm-none-eabi-ld" => "binutils-arm-none-eabi",
        // tests/emulators installs it.
        "qemu-system-aarch64" | "qemu-system-arm" => "",
        "xz" => "xz-utils",
        "bwrap" => "bubblewrap",
        "debootstrap" => "debootstrap",
        "systemd-nspawn" => "systemd-container",
        // It comes with binutils, without which there is no gcc.
        "readelf" => "gcc",
        // It comes with perl, which it needs.
        "git" | "perl" => "git",
        "ip" => "iproute2",
        "lz4" => "lz4",
        "/usr/sbin/nginx" => "nginx-light",
        "caddy" => "caddy",
        "openssl" => "openssl",
        "ps" | "pgrep" => "procps",
        "gitolite" => "gitolite3",
        "ssh-keygen" | "ssh" => "openssh-client",
        "sshd" | "/usr/sbin/sshd" => "openssh-server",
        "systemd-analyze" => "systemd",
        "udevadm" => "udev",
        "unshare" | "flock" | "nsenter" | "setpriv" | "setsid" | "mount" | "umount" => "util-linux",
        "/sbin/debugfs" | "/sbin/e2fsck" | "/sbin/mkfs.ext4" => "e2fsprogs",
        other => panic!("of which Debian package is {other}, which a test starts?"),
    };
    found.into_iter().map(|name| (name.clone(), package(&name))).collect()
}

/// At once, and not when the README comes to it.
#[test]
fn every_program_that_a_test_starts_is_installed_by_tests_run() {
    check_tests_run(&root().join("tests/run"));
}
