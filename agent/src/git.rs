//! Arguments → one git process that cannot be led astray: by the repository, its URL, the user's configuration or a terminal.
//!
//! See git(1) for the environment, and githooks(5) and gitattributes(5) for what is kept from running here: no hook, filter,
//! credential helper or pager, no protocol but the one of the repository's own URL.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of standard error kept to explain a failure.
const ERROR_BYTES: usize = 8 << 10;
/// Longest line of standard error passed on as one.
const LINE_BYTES: usize = 4 << 10;

/// Time in which what git prints is held back: of a quick success nobody needs to hear.
const QUIET_TIME: Duration = Duration::from_secs(2);

/// The only configuration git reads besides that of the repositories we have made ourselves. A mirror is a cache that is made
/// anew when it turns out to be broken, so nothing is synced; packs are never unpacked, so that a checkout links few files.
const CONFIGURATION: &str = "[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tfsync = none
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
\trecurseSubmodules = false
[transfer]
\tunpackLimit = 1
[http]
\tlowSpeedLimit = 1000
\tlowSpeedTime = 60
[safe]
\tdirectory = *
[advice]
\tdetachedHead = false
";

/// A request to stop, made by one thread and seen by another at once.
#[derive(Debug)]
pub struct Stop {
    asked: AtomicBool,
    event: OwnedFd,
}

impl Stop {
    /// Not asked yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Ok(Self { asked: AtomicBool::new(false), event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Asks.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Whether it was asked for.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Waits until it is asked for, or this time has passed.
    pub fn wait(&self, time: Duration) {
        let mut wanted = [PollFd::new(&self.event, PollFlags::IN)];
        let _ = poll(&mut wanted, Some(&timespec(time)));
    }
}

impl AsFd for Stop {
    /// Readable when it was asked for.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Who looks on while a repository is fetched.
pub trait Watch {
    /// Something of ours to tell the user.
    fn note(&mut self, text: &str);
    /// Bytes git has printed for people.
    fn output(&mut self, bytes: &[u8]);
    /// Whether and how to stop.
    fn stop(&self) -> &Stop;
}

/// Why a git process did not do what it should.
#[derive(Debug)]
pub enum GitError {
    /// It ended with another status than 0; what it said.
    Failed(String),
    /// It took too long and was killed.
    TimedOut(Duration),
    /// It was killed because the job ends.
    Stopped,
    /// It could not be run.
    System(io::Error),
}

impl std::fmt::Display for GitError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(said) => write!(out, "git failed: {}", last_line(said)),
            Self::TimedOut(time) => write!(out, "git took longer than {} s", time.as_secs()),
            Self::Stopped => write!(out, "git was stopped"),
            Self::System(error) => write!(out, "git could not be run: {error}"),
        }
    }
}

/// The line that explains most: git names its reason with `fatal:` or `error:`, later lines give advice.
fn last_line(said: &str) -> &str {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().rfind(|line| line.starts_with("fatal:")).or_else(|| lines().next_back()).unwrap_or("it did not say why")
}

pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}

/// How git is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Git<'a> {
    /// A file with our configuration, see [`write_configuration`].
    pub configuration: &'a Path,
    /// Value of `GIT_ALLOW_PROTOCOL`.
    pub protocols: &'a str,
    /// `USER:PASSWORD` of the URL, not to be shown to anybody.
    pub secret: Option<&'a str>,
    /// Longest time.
    pub time: Duration,
}

/// Makes sure the configuration file is there.
///
/// # Errors
/// The disk's.
pub fn write_configuration(path: &Path) -> io::Result<()> {
    if fs::read(path).is_ok_and(|text| text == CONFIGURATION.as_bytes()) {
        return Ok(());
    }
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&temporary, CONFIGURATION)?;
    fs::rename(temporary, path)
}

impl Git<'_> {
    /// Runs `git ARGUMENTS` in a directory, in a process group of its own. What it prints for people goes to `watch`, line by
    /// line.
    ///
    /// # Errors
    /// See [`GitError`].
    pub fn run<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
        watch: &mut dyn Watch,
    ) -> Result<(), GitError> {
        self.run_between(directory, arguments, Stdio::null(), Stdio::null(), watch)
    }

    /// The same with standard input and output, files that never make it wait.
    ///
    /// # Errors
    /// See [`GitError`].
    pub fn run_between<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
        input: Stdio,
        output: Stdio,
        watch: &mut dyn Watch,
    ) -> Result<(), GitError> {
        if watch.stop().asked() {
            return Err(GitError::Stopped);
        }
        let mut command = Command::new("git");
        command.args(arguments).current_dir(directory).process_group(0);
        for (name, _) in std::env::vars_os() {
            let name_bytes = name.as_encoded_bytes();
            let operators = name_bytes.starts_with(b"GIT_SSL_") || name_bytes == b"GIT_SSH_COMMAND";
            if name_bytes.starts_with(b"GIT_") && !operators {
                command.env_remove(name);
            }
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
        }
        command
            .env("GIT_CONFIG_GLOBAL", self.configuration)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_ALLOW_PROTOCOL", self.protocols)
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            // What a partial mirror lacks is fetched when it is known what that is, not one object at a time.
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("LC_ALL", "C");
        command.stdin(input).stdout(output).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(GitError::System)?;
        let group = Pid::from_child(&child);
        let mut heard =
            Heard { begin: Instant::now(), secret: self.secret, said: Vec::new(), held: Vec::new(), line: Vec::new() };
        let seen = self.look_on(group, child.stderr.take(), &mut heard, watch);
        if seen.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait().map_err(GitError::System)?;
        if seen.is_ok() && status.success() {
            return Ok(());
        }
        heard.show(watch);
        watch.output(&heard.held);
        seen?;
        Err(GitError::Failed(describe(&heard.said, status)))
    }

    /// Passes on what git prints until it ends; whatever it may leave behind is not waited for.
    fn look_on(
        &self,
        pid: Pid,
        errors: Option<ChildStderr>,
        heard: &mut Heard<'_>,
        watch: &mut dyn Watch,
    ) -> Result<(), GitError> {
        let system = |error: rustix::io::Errno| GitError::System(error.into());
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(system)?;
        let mut errors = errors.ok_or(GitError::Stopped)?;
        fcntl_setfl(&errors, fcntl_getfl(&errors).map_err(system)? | OFlags::NONBLOCK).map_err(system)?;
        let mut open = true;
        loop {
            let left = self.time.checked_sub(heard.begin.elapsed()).ok_or(GitError::TimedOut(self.time))?;
            let (ended, printed) = {
                let stop = watch.stop().event.as_fd();
                let mut wanted = [
                    PollFd::new(&process, PollFlags::IN),
                    PollFd::new(&stop, PollFlags::IN),
                    PollFd::new(&errors, PollFlags::IN),
                ];
                let count = if open { 3 } else { 2 };
                match poll(&mut wanted[..count], Some(&timespec(left))) {
                    Err(rustix::io::Errno::INTR) | Ok(_) => {}
                    Err(error) => return Err(system(error)),
                }
                if !wanted[1].revents().is_empty() {
                    return Err(GitError::Stopped);
                }
                (!wanted[0].revents().is_empty(), !wanted[2].revents().is_empty())
            };
            if open && (printed || ended) {
                open = heard.read(&mut errors, watch);
            }
            if ended {
                return Ok(());
            }
        }
    }
}

/// What a git process has printed.
struct Heard<'a> {
    begin: Instant,
    secret: Option<&'a str>,
    /// The end of it, to explain a failure.
    said: Vec<u8>,
    /// What is not shown yet.
    held: Vec<u8>,
    line: Vec<u8>,
}

impl Heard<'_> {
    /// Reads what there is; `false` at the end.
    fn read(&mut self, errors: &mut impl Read, watch: &mut dyn Watch) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match errors.read(&mut buffer) {
                Ok(0) => return false,
                Ok(read) => {
                    for byte in &buffer[..read] {
                        self.line.push(*byte);
                        if matches!(byte, b'\n' | b'\r') || self.line.len() >= LINE_BYTES {
                            self.show(watch);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Passes a line on, or holds it back while it is early.
    fn show(&mut self, watch: &mut dyn Watch) {
        let mut line = std::mem::take(&mut self.line);
        if let Some(secret) = self.secret {
            line = hide(&String::from_utf8_lossy(&line), secret).into_bytes();
        }
        keep_end(&mut self.said, &line);
        keep_end(&mut self.held, &line);
        if self.begin.elapsed() > QUIET_TIME && !self.held.is_empty() {
            watch.output(&self.held);
            self.held.clear();
        }
    }
}

fn keep_end(text: &mut Vec<u8>, more: &[u8]) {
    text.extend_from_slice(more);
    if text.len() > ERROR_BYTES {
        text.drain(..text.len() - ERROR_BYTES / 2);
    }
}

/// Takes the credentials of a URL out of a text.
pub(crate) fn hide(text: &str, secret: &str) -> String {
    text.replace(&format!("{secret}@"), "").replace(secret, "…")
}

fn describe(said: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(said).into_owned();
    if text.trim().is_empty() { status.to_string() } else { text }
}
