//! Arguments → one git process that cannot be led astray: by the repository, its URL, the user's configuration or a terminal.
//!
//! Every git of Sai, the master's and the agents', is run here. It has an environment of what it needs and nothing else, reads
//! no configuration but ours (see `tools`) and that of repositories we have made ourselves (a trial reads its user's, as its
//! tree was checked out by that), runs no hook, filter or pager,
//! starts from no template, fetches nothing that it was not told to, speaks no protocol but the one of the repository's own
//! URL, writes no file beyond a bound, prints no more than its caller takes, and is killed with its whole process group when
//! its time is up or its caller asks. See git(1) for the environment, githooks(5) and gitattributes(5) for what could run.
//!
//! A command costs its spawn and nothing else: no shell, no wrapper, no thread.

pub mod cause;
pub mod tools;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open, prlimit};
use sai_core::secret::CloneUrl;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of standard error kept to explain a failure.
const ERROR_BYTES: usize = 8 << 10;
/// Longest line of standard error passed on as one.
const LINE_BYTES: usize = 4 << 10;

/// Bytes of standard output read at a time.
const OUTPUT_CHUNK_BYTES: usize = 64 << 10;
/// Time in which what git prints is held back: of a quick success nobody needs to hear.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// Time that the pipes are still read after git has ended: something it left behind (an ssh master) may hold them open.
const DRAIN: Duration = Duration::from_millis(250);

/// What git inherits of our environment: where programs, libraries and homes are, ssh's agent and command, the system's
/// certificates.
const INHERITED: [&str; 14] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "GIT_EXEC_PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GIT_SSL_NO_VERIFY",
];
/// And how to reach a proxy, unless that is configured.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "no_proxy", "NO_PROXY"];

/// What the user's own configuration cannot say otherwise: nothing is run but git.
const OVERRIDES: [(&str, &str); 2] = [("core.hooksPath", "/dev/null"), ("core.fsmonitor", "false")];

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

/// One whom nothing is told, and who never asks to stop.
#[derive(Debug)]
pub struct Silent(Stop);

impl Silent {
    /// One.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        Stop::new().map(Self)
    }
}

impl Watch for Silent {
    fn note(&mut self, _: &str) {}
    fn output(&mut self, _: &[u8]) {}
    fn stop(&self) -> &Stop {
        &self.0
    }
}

/// Why a git process did not do what it should.
#[derive(Debug)]
pub enum GitError {
    /// It ended with another status than 0, or by a signal; what it said.
    Failed {
        /// The end of its standard error, without credentials.
        said: String,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// It took too long and was killed.
    TimedOut(Duration),
    /// It printed more than it may and was killed; the beginning of that.
    TooMuch(Vec<u8>),
    /// It was killed because the job ends.
    Stopped,
    /// It could not be run.
    System(io::Error),
}

impl std::fmt::Display for GitError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed { said, .. } => write!(out, "git failed: {}", last_line(said)),
            Self::TimedOut(time) => write!(out, "git took longer than {} s", time.as_secs()),
            Self::TooMuch(begin) => write!(out, "git printed more than {} bytes", begin.len()),
            Self::Stopped => write!(out, "git was stopped"),
            Self::System(error) => write!(out, "git could not be run: {error}"),
        }
    }
}

/// The line that explains most: git names its reason with `fatal:` or `error:`, later lines give advice.
pub(crate) fn last_line(said: &str) -> &str {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().rfind(|line| line.starts_with("fatal:")).or_else(|| lines().next_back()).unwrap_or("it did not say why")
}

pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}

/// How git is to be run for a repository.
#[derive(Clone, Copy, Debug)]
pub struct Git<'a> {
    /// What all gits of this place share.
    pub tools: &'a tools::Tools,
    /// Value of `GIT_ALLOW_PROTOCOL`.
    pub protocols: &'a str,
    /// The repository's URL: git gets its credentials for their own host, and nobody gets to see them.
    pub url: &'a CloneUrl,
    /// Further environment.
    pub environment: &'a [(&'static str, OsString)],
    /// Longest time.
    pub time: Duration,
    /// Bytes of the largest file it may write.
    pub file_bytes: u64,
}

/// Where git is. With a path instead of a name, starting it needs no fork of our own memory (posix_spawn(3)).
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|directory| directory.join("git"));
        places.find(|git| git.is_absolute() && git.is_file()).unwrap_or_else(|| PathBuf::from("git"))
    })
}

impl Git<'_> {
    /// Runs `git ARGUMENTS` in a directory. What it prints for people goes to `watch`, line by line.
    ///
    /// # Errors
    /// See [`GitError`].
    pub fn run<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
        watch: &mut dyn Watch,
    ) -> Result<(), GitError> {
        self.ask(directory, arguments, b"", 0, watch).map(drop)
    }

    /// The same with standard input, and with standard output, which is the answer: at most this many bytes, or it is killed.
    ///
    /// # Errors
    /// See [`GitError`].
    pub fn ask<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
        input: &[u8],
        output_bytes: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<u8>, GitError> {
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        self.carry_out(directory, arguments, (stdin, input), output_bytes, watch)
    }

    /// The same with a file as standard input, from where it stands.
    ///
    /// # Errors
    /// See [`GitError`].
    pub fn feed<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
        file: File,
        output_bytes: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<u8>, GitError> {
        self.carry_out(directory, arguments, (Stdio::from(file), b""), output_bytes, watch)
    }

    fn carry_out<A: AsRef<OsStr>>(
        &self,
        directory: &Path,
        arguments: &[A],
        (stdin, input): (Stdio, &[u8]),
        output_bytes: usize,
        watch: &mut dyn Watch,
    ) -> Result<Vec<u8>, GitError> {
        if watch.stop().asked() {
            return Err(GitError::Stopped);
        }
        let lent = self.tools.lend(self.url).map_err(GitError::System)?;
        let mut command = self.command(directory, lent.configuration());
        command.args(arguments).stdin(stdin);
        command.stdout(if output_bytes == 0 { Stdio::null() } else { Stdio::piped() });
        let mut child = command.stderr(Stdio::piped()).spawn().map_err(GitError::System)?;
        let group = Pid::from_child(&child);
        // git's own children are started later and inherit this. A failure means that git has already ended.
        for (resource, bytes) in [(Resource::Fsize, self.file_bytes), (Resource::Core, 0)] {
            let _ = prlimit(Some(group), resource, Rlimit { current: Some(bytes), maximum: Some(bytes) });
        }
        let mut heard =
            Heard { begin: Instant::now(), url: self.url, said: Vec::new(), held: Vec::new(), line: Vec::new() };
        let mut pipes = Pipes::of(&mut child, input, output_bytes);
        let seen = self.look_on(group, &mut pipes, &mut heard, watch);
        if seen.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait().map_err(GitError::System)?;
        if seen.is_ok() && status.success() {
            return Ok(pipes.output);
        }
        heard.show(watch);
        watch.output(&heard.held);
        seen?;
        Err(GitError::Failed { said: describe(&heard.said, status), signal: status.signal() })
    }

    fn command(&self, directory: &Path, configuration: Option<&Path>) -> Command {
        let mut command = Command::new(program());
        command.current_dir(directory).process_group(0).env_clear();
        let proxies = self.tools.proxies();
        for name in INHERITED.iter().chain(proxies.is_none().then_some(&PROXIES).into_iter().flatten()) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(proxies) = proxies {
            command.env("no_proxy", proxies.direct.join(","));
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
        }
        // A repository of ours that is broken must not make git look for another one around it.
        if let Some(parent) = directory.parent() {
            command.env("GIT_CEILING_DIRECTORIES", parent);
        }
        match configuration {
            Some(file) => {
                command.env("GIT_CONFIG_GLOBAL", file);
                command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ATTR_NOSYSTEM", "1");
            }
            None => {
                command.env("GIT_CONFIG_COUNT", OVERRIDES.len().to_string());
                for (at, (key, value)) in OVERRIDES.into_iter().enumerate() {
                    command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
                }
            }
        }
        command
            .env("GIT_TEMPLATE_DIR", "")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_ALLOW_PROTOCOL", self.protocols)
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            // What a partial repository lacks is fetched when it is known what that is, not one object at a time.
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("LC_ALL", "C")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Carries what git prints and reads until it ends; whatever it may leave behind is not waited for.
    fn look_on(
        &self,
        pid: Pid,
        pipes: &mut Pipes<'_>,
        heard: &mut Heard<'_>,
        watch: &mut dyn Watch,
    ) -> Result<(), GitError> {
        let system = |error: rustix::io::Errno| GitError::System(error.into());
        let process = pidfd_open(pid, PidfdFlags::empty()).map_err(system)?;
        pipes.do_not_block().map_err(GitError::System)?;
        let mut ended_at: Option<Instant> = None;
        loop {
            let mut left = self.time.checked_sub(heard.begin.elapsed()).ok_or(GitError::TimedOut(self.time))?;
            if let Some(ended) = ended_at {
                left = DRAIN.saturating_sub(ended.elapsed());
                if left.is_zero() || !pipes.open() {
                    return Ok(());
                }
            }
            {
                let stop = watch.stop().event.as_fd();
                let mut wanted = vec![PollFd::new(&stop, PollFlags::IN)];
                if ended_at.is_none() {
                    wanted.push(PollFd::new(&process, PollFlags::IN));
                }
                let first_pipe = wanted.len();
                pipes.want(&mut wanted);
                match poll(&mut wanted, Some(&timespec(left))) {
                    Err(rustix::io::Errno::INTR) | Ok(_) => {}
                    Err(error) => return Err(system(error)),
                }
                if !wanted[0].revents().is_empty() {
                    return Err(GitError::Stopped);
                }
                if first_pipe == 2 && !wanted[1].revents().is_empty() {
                    ended_at = Some(Instant::now());
                }
            }
            pipes.carry(heard, watch)?;
        }
    }
}

/// The pipes to a git process. One that is closed is none.
struct Pipes<'a> {
    input: &'a [u8],
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Vec<u8>,
    output_bytes: usize,
}

impl<'a> Pipes<'a> {
    fn of(child: &mut Child, input: &'a [u8], output_bytes: usize) -> Self {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Self { input, stdin, stdout, stderr, output: Vec::new(), output_bytes }
    }

    fn do_not_block(&self) -> io::Result<()> {
        let pipes = [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Whether it may still print something.
    fn open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    fn want<'b>(&'b self, wanted: &mut Vec<PollFd<'b>>) {
        wanted.extend(self.stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        wanted.extend(self.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        wanted.extend(self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    }

    /// Writes and reads what can be without waiting.
    fn carry(&mut self, heard: &mut Heard<'_>, watch: &mut dyn Watch) -> Result<(), GitError> {
        if let Some(pipe) = &mut self.stdin {
            let open = match pipe.write(self.input) {
                Ok(written) => {
                    self.input = self.input.get(written..).unwrap_or_default();
                    !self.input.is_empty()
                }
                // A git that does not read all its input has its reasons, told by its exit status.
                Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
            };
            if !open {
                self.stdin = None;
            }
        }
        if let Some(pipe) = &mut self.stdout
            && !read_on(pipe, self.output_bytes, &mut self.output)?
        {
            self.stdout = None;
        }
        if let Some(pipe) = &mut self.stderr
            && !heard.read(pipe, watch)
        {
            self.stderr = None;
        }
        Ok(())
    }
}

/// Reads what there is; `false` at the end. An error of a pipe is its end.
fn read_on(pipe: &mut impl Read, most: usize, into: &mut Vec<u8>) -> Result<bool, GitError> {
    let mut buffer = vec![0; OUTPUT_CHUNK_BYTES];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                let room = most.saturating_sub(into.len());
                into.extend_from_slice(&buffer[..read.min(room)]);
                if read > room {
                    return Err(GitError::TooMuch(std::mem::take(into)));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(error.kind() == io::ErrorKind::WouldBlock),
        }
    }
}

/// What a git process has printed.
struct Heard<'a> {
    begin: Instant,
    url: &'a CloneUrl,
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
        if self.url.has_secret() {
            line = self.url.hide(&String::from_utf8_lossy(&line)).into_bytes();
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

fn describe(said: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(said).into_owned();
    if text.trim().is_empty() { status.to_string() } else { text }
}
