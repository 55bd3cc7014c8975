//! Keys that may log in → a server for them, with one host key for as long as the card has its data: a process of its own.
//!
//! It becomes Debian's dropbear, which knows no other way in than by a key: no password, no other user than root, and no way through to
//! other machines. Who may write `sai.json` owns the machine anyhow, by its card.

use crate::tell::tell;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

/// The word that this program is started with for it.
pub const WORD: &str = "shell";
/// Where the keys are that may log in, in memory alone: dropbear looks nowhere else, and wants nobody else to write there.
pub const AUTHORIZED: &str = "/root/.ssh/authorized_keys";
/// See `AUTHORIZED`.
pub const AUTHORIZED_IN: &str = "/root/.ssh";
/// The directory of settings that were good, which root alone may enter.
const KEPT: &str = "/data/settings";
/// The host key.
const HOST_KEY: &str = "/data/settings/shell-host-key";
/// What makes host keys, and tells what is in them.
const MAKER: &str = "/bin/dropbearkey";
/// What stands before the digest of a key.
const FINGERPRINT: &str = "Fingerprint: ";
/// The server.
const SERVER: &str = "/sbin/dropbear";
/// It stays in the foreground (`-F`) and tells what it does (`-E`), takes no password, root's neither (`-s`, `-g`), forwards no
/// ports (`-j`, `-k`), lets nobody in who is not of root's group (`-G`), since what a job may write says nothing of who may log in, and
/// ends what has gone without a word after three minutes (`-K`).
const WORDS: [&str; 12] = ["-F", "-E", "-s", "-g", "-j", "-k", "-G", "root", "-K", "60", "-r", HOST_KEY];

/// Tells by what the machine is known, and becomes the server.
pub fn serve() -> ExitCode {
    let known = fingerprint(HOST_KEY).or_else(|why| {
        if !matches!(fs::exists(HOST_KEY), Ok(false)) {
            tell(&format!("shell: {HOST_KEY}: {why}; another one is made"));
        }
        make().and_then(|()| fingerprint(HOST_KEY))
    });
    match known {
        Ok(known) => tell(&format!("shell: root may log in by the keys of sai.json; the host key is {known}")),
        Err(why) => {
            tell(&format!("shell: no host key: {why}"));
            return ExitCode::FAILURE;
        }
    }
    let error = Command::new(SERVER).args(WORDS).exec();
    tell(&format!("shell: {SERVER}: {error}"));
    ExitCode::FAILURE
}

/// The fingerprint of a host key, as OpenSSH's clients show it.
fn fingerprint(file: &str) -> io::Result<String> {
    let told = maker(&["-y", "-f", file])?;
    let found = told.lines().find_map(|line| line.strip_prefix(FINGERPRINT));
    found.map(str::to_owned).ok_or_else(|| io::Error::other("its fingerprint is not told"))
}

/// Makes a host key, which is there as a whole or not at all.
fn make() -> io::Result<()> {
    let new = format!("{HOST_KEY}.new");
    // One that a power cut left is in the way.
    let _ = fs::remove_file(&new);
    maker(&["-t", "ed25519", "-f", &new])?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, HOST_KEY)?;
    File::open(KEPT)?.sync_all()
}

/// What the maker of keys says.
fn maker(words: &[&str]) -> io::Result<String> {
    let output = Command::new(MAKER).args(words).stdin(Stdio::null()).output()?;
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(told(&output.stdout)) } else { Err(io::Error::other(told(&output.stderr))) }
}
