//! A git command → its bounded output.
//!
//! Each git runs in its own process group with nothing of our environment but what it needs, reads no configuration but what
//! its caller names, may write no file beyond [`FILE_BYTES`], and is killed with its whole group when its time is up, when it
//! prints more than its caller takes, or when the caller no longer waits. A command costs its spawn and nothing else: no
//! shell, no wrapper, no thread.

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use smol::future;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use smol::process::{Command, Stdio};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Largest file a git of ours may write, in bytes: a pack of trees is far below it, and a hostile one must not fill the disk.
const FILE_BYTES: u64 = 1 << 30;
/// How much of what git says on standard error is kept, in bytes; the rest is read and dropped.
const STDERR_BYTES: usize = 8 << 10;
/// How long the pipes are still read after git has ended: something it left behind (an ssh master) may hold them open.
const DRAIN: Duration = Duration::from_millis(250);
/// What git inherits: where programs and homes are, how to reach a proxy, the ssh agent and the system's certificates.
const INHERITED: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "no_proxy",
    "NO_PROXY",
];

/// One git command.
pub(crate) struct Git<'a> {
    /// The git directory it works on; also its working directory.
    pub directory: &'a Path,
    /// The file of settings it uses in place of the user's and the system's.
    pub settings: &'a Path,
    /// Further environment.
    pub environment: &'a [(&'static str, OsString)],
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// What it reads from standard input.
    pub input: &'a [u8],
    /// How many bytes it may print.
    pub output_bytes: usize,
    /// How long it may take.
    pub time: Duration,
}

/// How a git command ended.
pub(crate) struct Finished {
    /// Whether it succeeded.
    pub success: bool,
    /// What it printed, at most `output_bytes`.
    pub stdout: Vec<u8>,
    /// Whether it printed more than that, and was killed for it.
    pub cut: bool,
    /// What it said on standard error.
    pub stderr: String,
}

/// Why a git command gave no result.
#[derive(Debug)]
pub(crate) enum GitError {
    /// It could not be started or waited for.
    Start(io::Error),
    /// Its time was up.
    TimedOut,
}

/// Kills a process group when dropped, unless its leader is known to have ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        kill(self.0);
    }
}

fn kill(group: Option<Pid>) {
    if let Some(pid) = group {
        // It may have ended by itself in this moment, which is as good.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

impl Git<'_> {
    /// Runs the command.
    pub async fn run(&self) -> Result<Finished, GitError> {
        let timeout = async {
            smol::Timer::after(self.time).await;
            Err(GitError::TimedOut)
        };
        future::or(self.run_for_ever(), timeout).await
    }

    async fn run_for_ever(&self) -> Result<Finished, GitError> {
        let mut command = Command::from(self.command());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(GitError::Start)?;
        let mut group = Group(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
        // git's own children are started later and inherit this. A failure means that git has already ended.
        let bytes = Some(FILE_BYTES);
        let _ = prlimit(group.0, Resource::Fsize, Rlimit { current: bytes, maximum: bytes });
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut printed, mut said, mut cut) = (Vec::new(), Vec::new(), false);
        let status = {
            let pid = group.0;
            let read = async {
                if let Some(stdout) = stdout {
                    cut = !read_up_to(stdout, self.output_bytes, &mut printed, false).await;
                    if cut {
                        kill(pid);
                    }
                }
            };
            let write = async {
                if let Some(mut stdin) = stdin {
                    // A git that does not read all its input has its reasons, told by its exit status.
                    let _ = stdin.write_all(self.input).await;
                }
            };
            let listen = async {
                if let Some(stderr) = stderr {
                    read_up_to(stderr, STDERR_BYTES, &mut said, true).await;
                }
            };
            let mut pipes = std::pin::pin!(future::zip(read, future::zip(write, listen)));
            let ended = async { Some(child.status().await) };
            let closed = async {
                (&mut pipes).await;
                None
            };
            match future::or(closed, ended).await {
                Some(status) => {
                    let drained = async {
                        pipes.await;
                    };
                    future::or(drained, async {
                        smol::Timer::after(DRAIN).await;
                    })
                    .await;
                    status
                }
                None => child.status().await,
            }
        };
        group.0 = None;
        let status = status.map_err(GitError::Start)?;
        let stderr = String::from_utf8_lossy(&said).into_owned();
        Ok(Finished { success: status.success() && !cut, stdout: printed, cut, stderr })
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(program());
        command.env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_DIR", self.directory)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.settings)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS_REQUIRE", "never")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .args(self.arguments)
            .current_dir(self.directory)
            .process_group(0);
        command
    }
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

/// Reads until the end, keeping up to `limit` bytes. What lies beyond is dropped if `drain`, else reading stops there and the
/// answer is `false`. An error of a pipe is its end.
async fn read_up_to(mut from: impl AsyncRead + Unpin, limit: usize, into: &mut Vec<u8>, drain: bool) -> bool {
    let mut buffer = [0; 16 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else {
            return true;
        };
        let room = limit.saturating_sub(into.len());
        into.extend(buffer.iter().take(length.min(room)));
        if length > room && !drain {
            return false;
        }
    }
}
