//! Step → process in a container that the job's steps share, made for it and thrown away after it.
//!
//! The supervisor has a mount namespace of its own (see `overlay`). In it stands the job's root, with the workspace at `/sai`.
//! The runner shuts a small loop of shell up in there; it takes the number of one step after the other from a pipe and tells
//! how each has ended through another, so that what a step leaves running is still there for the next. Standard output and
//! standard error of the steps are two more pipes; the runner's own words go to a file and are told when it fails.

mod accounts;
mod command;
mod filter;
mod overlay;
mod script;
mod statuses;

use crate::cgroup::{self, Extent, Limits, Reached};
use crate::clean_start::forked;
use crate::container::{Container, Network, Runner, Upper};
use crate::executor::host::{Linked, give, write_script};
use crate::executor::{Ended, Pipe, Running, Step, Workspace};
use crate::git::{Stop, timespec};
use crate::job_directory::CGROUPS;
use crate::mirror::Trouble;
use crate::process_tree::{self, inner_pid};
use crate::root::Root;
use accounts::Account;
use command::{Place, command, joining, variables};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, chown, mkfifoat, openat, statvfs};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use script::{COMPLAINTS, LOOP, ORDERS, OUTPUTS, SETSID, STATUSES, start_of_step, steps_loop};
use statuses::{Said, Statuses};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use overlay::isolate;
pub use script::PATH;

/// Time from the start of the runner to its first word, on a machine that is busy.
const READY_TIME: Duration = Duration::from_secs(120);
/// Time between two looks at a runner on a kernel that does not tell of its end.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of what a runner says that are told when it fails.
const WORDS_BYTES: u64 = 4096;
/// Bytes read of the loop's statuses at a time; there is never more than one, unless the job writes there.
const STATUSES_BYTES: usize = 4096;

/// Why bubblewrap has no such containers.
pub const ROOT_BY_BWRAP: &str =
    "bwrap gives a container one user only, so steps cannot be root there and become others; systemd-nspawn can";

/// Between the loop and us.
const PIPES: [&str; 5] = [ORDERS, STATUSES, COMPLAINTS, OUTPUTS[0], OUTPUTS[1]];

/// A job's container.
#[derive(Debug)]
pub struct Contained {
    workspace: Workspace,
    container: Container,
    marker: String,
    isolated: Result<(), String>,
    /// Both are open at both ends, so that neither side's coming and going is of consequence to the other.
    orders: File,
    statuses: File,
    complaints: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    account: Account,
    said: Statuses,
    runner: Option<Pid>,
    ready: bool,
    ended: bool,
    groups: Vec<PathBuf>,
    reached: Reached,
}

impl Contained {
    /// The container of a job, with its pipes. `isolated` is how [`isolate`] went.
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        workspace: Workspace,
        container: Container,
        marker: &str,
        isolated: Result<(), String>,
    ) -> io::Result<Self> {
        for name in PIPES {
            mkfifoat(CWD, workspace.steps.join(name), Mode::RUSR | Mode::WUSR)?;
        }
        let open = |name: &str| -> io::Result<File> {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(File::from(openat(CWD, workspace.steps.join(name), flags, Mode::empty())?))
        };
        let (orders, statuses, complaints) = (open(ORDERS)?, open(STATUSES)?, open(COMPLAINTS)?);
        let marker = marker.to_string();
        Ok(Self { workspace, container, marker, isolated, orders, statuses, complaints, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the steps see the workspace as.
    pub fn seen(&self) -> Workspace {
        Workspace::at(Path::new("/sai"))
    }

    /// Where the root stands, for artifacts.
    pub fn root(&self) -> PathBuf {
        self.workspace.job.join("root")
    }

    /// The pipes of standard output and standard error.
    ///
    /// # Errors
    /// The system's.
    pub fn outputs(&self) -> io::Result<[Pipe; 2]> {
        Ok([Pipe::named(&self.steps(OUTPUTS[0]))?, Pipe::named(&self.steps(OUTPUTS[1]))?])
    }

    fn steps(&self, name: &str) -> PathBuf {
        self.workspace.steps.join(name)
    }

    /// Makes the container and starts it; [`Contained::prepare`] waits for it. Tells what limits cannot be held. The calling
    /// thread may be in the job's cgroups afterwards, and is to do nothing more.
    ///
    /// # Errors
    /// Trouble of ours, in one line.
    pub fn start(&self) -> Result<Vec<String>, Trouble> {
        // Whatever it is, jobs outside of containers have none of it.
        self.make().map_err(Trouble::of_platform)
    }

    fn make(&self) -> Result<Vec<String>, String> {
        self.isolated.clone()?;
        let [(_, path), ..] = variables();
        let program = self.container.runner.find(&path)?;
        if self.container.root.is_some() && self.container.runner == Runner::Bwrap {
            return Err(ROOT_BY_BWRAP.to_string());
        }
        let job = &self.workspace.job;
        if self.container.root.is_some() {
            // Its runner is ours, and what it leaves set-user-id is to be nobody else's on this machine.
            fs::set_permissions(job, fs::Permissions::from_mode(0o700))
                .map_err(|error| format!("{}: {error}", job.display()))?;
        }
        let root = overlay::mount_root(&self.container, job, &path)?;
        let failed = |what: &str, error: io::Error| format!("making the container: {what}: {error}");
        let account = match self.container.root {
            Some(first) => Account::root(first),
            None => accounts::find(&root).map_err(|error| failed("its user", error))?,
        };
        let user = (account.user, account.group);
        let mut state = self.state();
        self.furnish(&root)?;
        if self.asks_for_the_user() {
            account.answer(&root).map_err(|error| failed("its user", error))?;
        }
        state.account = account;
        for name in PIPES {
            chown(self.steps(name), Some(Uid::from_raw(user.0)), Some(Gid::from_raw(user.1)))
                .map_err(|error| failed(name, error.into()))?;
        }
        write_script(&self.steps(LOOP), &steps_loop()).map_err(|error| failed("its script", error))?;
        let limits = self.limits();
        let name = self.marker.split_once('=').map_or("", |(_, value)| value);
        let extent = if self.container.root.is_some() { Extent::All } else { Extent::Limits };
        let group =
            cgroup::create(name, limits, extent, &job.join(CGROUPS)).map_err(|error| failed("its cgroups", error))?;
        // Each step has a session where the image can make one, and ours has no terminal.
        let session = !leads_session() || !SETSID.iter().any(|place| root.has(place));
        state.reached = Reached::of(&group.directories);
        state.groups.clone_from(&group.directories);
        let clean = ["/usr/bin/env", "/bin/env"].iter().any(|place| root.has(place));
        let runner = self.run(&program, user, &group.directories, session, clean);
        let runner = runner.map_err(|error| failed(&format!("starting {}", program.display()), error))?;
        state.runner = Some(runner);
        Ok(group.missing)
    }

    /// Whether the runner looks up the user in the image.
    fn asks_for_the_user(&self) -> bool {
        self.container.runner == Runner::Nspawn && self.container.root.is_none()
    }

    fn limits(&self) -> Limits {
        Limits::new(self.container.memory_mib, self.container.cpu_permille, self.container.pids)
    }

    /// The limit that the job has reached since this was asked last, one clause.
    pub fn reached(&self) -> Option<String> {
        let mut state = self.state();
        let now = Reached::of(&state.groups);
        let before = std::mem::replace(&mut state.reached, now);
        now.since(before, self.limits())
    }

    /// What the shell of the loop has complained of since this was asked last, on one line without control characters.
    pub fn words_of_the_loop(&self) -> String {
        let mut buffer = [0; WORDS_BYTES as usize];
        // It never waits. What does not fit is for the next time, and most of a job's own making.
        let read = (&self.complaints).read(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default()).into_owned();
        let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        text.trim().to_string()
    }

    /// Mounts and writes what the job is to find in its root.
    fn furnish(&self, root: &Root) -> Result<(), String> {
        let failed = |what: &str, error: io::Error| format!("making the container: {what}: {error}");
        fs::create_dir_all(self.workspace.work.join("steps")).map_err(|error| failed("the workspace", error))?;
        // The runner mounts something there, and may no more make it than the job may.
        for place in ["/dev", "/proc", "/run", "/sys"] {
            root.directory(place).map_err(|error| failed(place, error))?;
        }
        let [work, steps] = [&self.workspace.work, &self.workspace.steps];
        overlay::bind(root, work, Path::new("/sai"), true).map_err(|error| failed("/sai", error))?;
        overlay::bind(root, steps, Path::new("/sai/steps"), false).map_err(|error| failed("/sai/steps", error))?;
        for bind in &self.container.binds {
            overlay::bind(root, Path::new(&bind.host), Path::new(&bind.inside), bind.writable)
                .map_err(|error| format!("letting the container see {} as {}: {error}", bind.host, bind.inside))?;
        }
        if self.container.network == Network::Host
            && let Ok(servers) = fs::read("/etc/resolv.conf")
        {
            let place = "/etc/resolv.conf";
            // Packages are installed with the same servers, so mostly it is as it should be.
            if !root.holds(place, &servers) {
                root.replace(place, &servers, 0o644).map_err(|error| failed(place, error))?;
            }
        }
        Ok(())
    }

    fn run(&self, program: &Path, user: (u32, u32), groups: &[PathBuf], session: bool, clean: bool) -> io::Result<Pid> {
        let root = self.root();
        let no_text = |what| move || io::Error::other(format!("the path of {what} is no text"));
        let root = root.to_str().ok_or_else(no_text("the job directory"))?;
        let program = program.to_str().ok_or_else(no_text("the program"))?;
        let name = self.workspace.job.file_name().and_then(|name| name.to_str()).unwrap_or("job");
        let input = match self.container.runner {
            Runner::Bwrap => filter::filter(),
            Runner::Nspawn => None,
        };
        let host_name = format!("sai-{name}");
        let in_memory = |name, mode| overlay::place_in_memory(&self.container, &self.workspace.job, name, user, mode);
        let memory = [in_memory("shm", 0o1777)?, in_memory("run", 0o755)?];
        let memory = memory.each_ref().map(|path| path.as_deref().and_then(Path::to_str));
        let devices = overlay::devices(&self.container, &self.workspace.job, user).map_err(io::Error::other)?;
        let place = Place {
            program,
            root,
            host_name: &host_name,
            memory,
            devices: &devices,
            filter: input.is_some(),
            session,
            clean,
        };
        let words = command(&self.container, place);
        let user = (self.container.runner == Runner::Bwrap).then_some(user);
        let mut command = if cgroup::join_alone(groups)? {
            let mut command = Command::new(program);
            forked(&mut command).args(words.get(1..).unwrap_or_default());
            if let Some((user, group)) = user {
                command.uid(user).gid(group);
            }
            command
        } else {
            let words = joining(groups, user, words);
            let mut command = Command::new("/bin/sh");
            forked(&mut command).args(words.get(1..).unwrap_or_default());
            command
        };
        command.current_dir("/");
        command.env_clear().envs(variables()).envs(self.marker.split_once('='));
        command.stdin(match input {
            Some(program) => {
                let path = self.steps("filter");
                let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
                file.write_all(&program)?;
                Stdio::from(File::open(path)?)
            }
            None => Stdio::null(),
        });
        let said = OpenOptions::new().create(true).append(true).mode(0o600).open(self.words())?;
        let child = command.stdout(said.try_clone()?).stderr(said).process_group(0).spawn()?;
        Ok(Pid::from_child(&child))
    }

    /// Names the bound of the workspace where that was too small for a checkout.
    pub fn explain(&self, trouble: Trouble) -> Trouble {
        let bound = self.container.upper_mib.filter(|_| self.container.upper == Upper::Tmpfs);
        // Git has several words for it, and few of them when it was about to write much.
        let said = ["No space left", "Out of diskspace"].iter().any(|words| trouble.why.contains(words));
        let full = || statvfs(&self.workspace.work).is_ok_and(|space| space.f_bavail < space.f_blocks / 16);
        match bound.filter(|_| said || full()) {
            Some(mib) => Trouble::of_platform(format!(
                "{}: the checkout, with all that its job changes, is kept in memory, where this agent's upper_mib leaves {mib} MiB",
                trouble.why
            )),
            None => trouble,
        }
    }

    fn words(&self) -> PathBuf {
        self.workspace.job.join("container.err")
    }

    /// The runner's last words.
    fn last_words(&self) -> String {
        let mut text = String::new();
        if let Ok(file) = File::open(self.words()) {
            let _ = file.take(WORDS_BYTES).read_to_string(&mut text);
        }
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() { "it said nothing".to_string() } else { lines.join("; ") }
    }

    /// Gives the workspace to the job's user and waits until the container takes orders.
    ///
    /// # Errors
    /// Trouble of ours, in one line.
    pub fn prepare(&self, stop: &Stop) -> Result<(), Trouble> {
        let Account { user, group, .. } = self.state().account;
        // Whoever is root wants to give away even what git has written.
        let linked = if self.container.root.is_some() { Linked::Copied } else { Linked::Stays };
        give(&self.workspace.work, user, group, linked)
            .map_err(|error| Trouble::disk("preparing the workspace", &error))?;
        self.await_ready(stop).map_err(Trouble::of_platform)?;
        if self.container.root.is_some() {
            self.take_back().map_err(|error| Trouble::of_platform(format!("making the container: {error}")))?;
        }
        if self.asks_for_the_user() {
            let back = Root::open(&self.root()).and_then(|root| accounts::answered(&root));
            back.map_err(|error| Trouble::disk("making the container: its user", &error))?;
        }
        Ok(())
    }

    /// Takes back what the runner gave to the root of the container, before a step of it runs: its cgroups, which it could divide
    /// without end, and as much memory as it likes.
    fn take_back(&self) -> io::Result<()> {
        let first = process_tree::descendants().into_iter().find(|pid| inner_pid(*pid) == Some(1));
        let first = first.ok_or_else(|| io::Error::other("its first process is not there"))?;
        cgroup::take_back(first)?;
        overlay::bound_memory(&self.container, first)
    }

    fn await_ready(&self, stop: &Stop) -> Result<(), String> {
        let program = self.container.runner.program();
        let begin = Instant::now();
        let Some(runner) = self.state().runner else { return Err("the container was not started".to_string()) };
        let process = pidfd_open(runner, PidfdFlags::empty());
        loop {
            self.take_statuses();
            if self.state().ready {
                return Ok(());
            }
            if stop.asked() {
                return Err("the job is to end".to_string());
            }
            let left = READY_TIME.saturating_sub(begin.elapsed());
            if left.is_zero() {
                let seconds = READY_TIME.as_secs();
                return Err(format!("{program} was not ready within {seconds} s: {}", self.last_words()));
            }
            let mut wanted = vec![PollFd::new(&self.statuses, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            wanted.extend(process.as_ref().ok().map(|process| PollFd::new(process, PollFlags::IN)));
            let _ = poll(&mut wanted, Some(&timespec(left.min(LOOK))));
            let ended = process_tree::state(runner.as_raw_nonzero().get()).is_none_or(|it| it.zombie);
            self.take_statuses();
            if ended && !self.state().ready {
                return Err(format!("{program} could not make the container: {}", self.last_words()));
            }
        }
    }

    /// Orders the loop to run a step.
    ///
    /// # Errors
    /// The system's: trouble of ours.
    pub fn spawn(&self, step: &Step<'_>) -> io::Result<Running> {
        let number = step.index + 1;
        write_script(&self.steps(&format!("step-{number}")), step.script)?;
        let start = start_of_step(number, "/sai/src", step.environment);
        write_script(&self.steps(&format!("run-{number}")), &start)?;
        if self.state().ended {
            return Ok(Running::Gone);
        }
        // What it may have said of an earlier one is no word about this one.
        let _ = self.words_of_the_loop();
        match (&self.orders).write_all(format!("{number}\n").as_bytes()) {
            // So short an order has room unless the job itself has filled the pipe.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Running::Gone),
            written => written.map(|()| Running::Inside),
        }
    }

    /// What is readable when a step may have ended.
    pub fn watched(&self) -> BorrowedFd<'_> {
        self.statuses.as_fd()
    }

    /// The steps that have ended since this was asked last: index, and how.
    pub fn take_statuses(&self) -> Vec<(usize, Ended)> {
        let mut state = self.state();
        let mut buffer = [0; STATUSES_BYTES];
        // One read: a job that writes without end must not keep us here.
        let read = (&self.statuses).read(&mut buffer).unwrap_or(0);
        let mut ended = Vec::new();
        for said in state.said.push(buffer.get(..read).unwrap_or_default()) {
            match said {
                Said::Ready => state.ready = true,
                Said::Ended { step, status } => {
                    // Before it says so the shell has complained of the signal, if it was one.
                    let signalled = status > 128 && !self.words_of_the_loop().is_empty();
                    ended.push((step, Ended { status, signalled }));
                }
            }
        }
        ended
    }

    /// Whether this child of ours is the container.
    pub fn is_runner(&self, pid: Pid) -> bool {
        self.state().runner == Some(pid)
    }

    /// Notes that the container has ended.
    pub fn set_ended(&self) {
        self.state().ended = true;
    }

    /// Whether a process is a part of the container rather than of the job, and so is not asked to end.
    pub fn spares(&self, pid: i32) -> bool {
        let runner = self.state().runner.map(|runner| runner.as_raw_nonzero().get());
        runner == Some(pid) || matches!(inner_pid(pid), Some(1 | 2))
    }

    /// Takes the mounts and cgroups away.
    ///
    /// # Errors
    /// The system's: trouble of ours.
    pub fn cleanup(&self) -> io::Result<()> {
        overlay::unmount_all(&self.workspace.job);
        cgroup::remove(&self.workspace.job.join(CGROUPS))
    }
}

/// Whether the calling process is the first of its session, as a supervisor is that was started by an agent.
fn leads_session() -> bool {
    rustix::process::getsid(None).is_ok_and(|session| session == rustix::process::getpid())
}
