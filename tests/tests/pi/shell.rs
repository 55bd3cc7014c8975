//! A Pi whose file names a key → who gets in by the stock `ssh`, and who does not; and what listens on a Pi whose file names none.

use sai_tests::machine::BOOT;
use sai_tests::pi::Wire;
use sai_tests::process::Process;
use sai_tests::repository::run;
use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// How long an emulated Pi may take to answer, in seconds and as `ssh` is told.
const PATIENCE: &str = "ConnectTimeout=120";
/// What a step of a job tries with the host key; it says 42 where it gets nothing.
pub const STEP: &str = "head -c 1 /data/settings/shell-host-key 2>/dev/null || echo refused $((40 + 2))";
/// What a step of a job says of what listens on its machine.
pub const LISTENING: &str = "cat /proc/net/tcp /proc/net/tcp6";

/// Somebody with a key of their own.
pub struct Person {
    key: PathBuf,
}

impl Person {
    /// Draws a key.
    pub fn new(directory: &Path, name: &str) -> Self {
        let key = directory.join(name);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key));
        Self { key }
    }

    /// The line that `sai.json` takes.
    pub fn public(&self) -> String {
        fs::read_to_string(self.key.with_extension("pub")).expect("a public key").trim().to_owned()
    }

    /// Hosts that this person knows, none at first.
    fn known(&self) -> PathBuf {
        self.key.with_extension("known")
    }

    /// The stock client, which asks nobody, and nobody's agent or settings.
    fn ssh(&self, wire: &Wire, options: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &wire.shell.to_string(), "-i"]).arg(&self.key);
        for option in ["IdentitiesOnly=yes", "IdentityAgent=none", "GlobalKnownHostsFile=/dev/null", PATIENCE] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known().display()));
        command.args(options).args(words).stdin(Stdio::null());
        command.output().expect("ssh")
    }

    /// What a command says on the Pi, which is known by now.
    fn has(&self, wire: &Wire, words: &[&str]) -> String {
        let output = self.ssh(wire, &["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"], words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Is not let in, and is told that a key is all that would help.
    fn is_refused(&self, wire: &Wire, options: &[&str], user: &str) {
        let output = self.ssh(wire, options, &[user, "id", "-u"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{user} {options:?}: {output:?}");
        assert!(said.contains("Permission denied (publickey)."), "{user} {options:?}: {said}");
    }
}

/// Whose key the file names gets in, sees by what the machine is known, and nobody else gets in by anything.
pub fn lets_in(machine: &Process, wire: &Wire, directory: &Path, owner: &Person) {
    // It may have been there before the agent was, whose line was waited for.
    let told = machine.await_said_for(BOOT, "the host key is SHA256:");
    let fingerprint = told.rsplit(' ').next().expect("a fingerprint").trim();
    // Whoever comes first shows nothing but a public key, so this is the moment to compare.
    let stranger = Person::new(directory, "stranger");
    let first = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"];
    stranger.is_refused(wire, &first, "root@127.0.0.1");
    let shown = run(Command::new("ssh-keygen").arg("-lf").arg(stranger.known()));
    assert_eq!(shown.split(' ').nth(1), Some(fingerprint), "{shown}: {told}");
    fs::copy(stranger.known(), owner.known()).expect("what is known");

    let root = "root@127.0.0.1";
    let said = owner
        .has(wire, &[root, "id -u; stat -c '%a %u %n' /data/settings /data/settings/shell-host-key; sai-agent --help"]);
    for part in ["0\n700 0 /data/settings\n600 0 /data/settings/shell-host-key\n", "sai-agent"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let tty = owner.has(wire, &["-tt", root, "tty"]);
    assert!(tty.starts_with("/dev/pts/"), "{tty}");

    // Whoever would know a password is not asked for one: what the Pi takes is a key.
    let methods = "PreferredAuthentications=password,keyboard-interactive";
    stranger.is_refused(wire, &["-o", methods, "-o", "StrictHostKeyChecking=yes"], root);
    // What a job may write lets nobody in, with the right key either.
    owner.has(
        wire,
        &[root, "cp -r /root/.ssh /home/sai/ && chown -R 1000:1000 /home/sai && ls -ln /home/sai/.ssh/authorized_keys"],
    );
    let known = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"];
    owner.is_refused(wire, &known, "sai@127.0.0.1");
    // Nobody gets through to what is behind it, or has it listen for them.
    for forward in [&["-W", "127.0.0.1:22"][..], &["-o", "ExitOnForwardFailure=yes", "-R", "2222:127.0.0.1:22"]] {
        let words = if forward.len() == 2 { vec![root] } else { vec![root, "true"] };
        let output = owner.ssh(wire, &[&known[..], forward].concat(), &words);
        assert!(!output.status.success() && output.stdout.is_empty(), "{forward:?}: {output:?}");
    }
}

/// Nobody answers at the port of shells.
pub fn lets_nobody_in(machine: &Process, wire: &Wire) {
    let mut answer = Vec::new();
    // Who emulates the cable takes each connection first, and ends it where the Pi does not.
    let mut link = TcpStream::connect(("127.0.0.1", wire.shell)).expect("the emulated cable");
    link.set_read_timeout(Some(BOOT)).expect("a link");
    match link.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    assert_eq!(String::from_utf8_lossy(&answer), "", "somebody answers at the port of shells");
    let said = machine.said();
    assert!(!said.iter().any(|line| line.contains("sai: shell")), "{said:#?}");
}

/// Ports of TCP that a machine listens on, by the log of a job that looked: Linux's Documentation/networking/proc_net_tcp.rst.
pub fn listening(log: &str) -> BTreeSet<u16> {
    let sockets = log.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert!(log.contains("local_address"), "nobody has looked: {log}");
    let listens = sockets.filter(|words| words.get(3) == Some(&"0A"));
    let port = |words: Vec<&str>| words[1].rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
    listens.map(|words| port(words).unwrap_or_else(|| panic!("no port in {log}"))).collect()
}
