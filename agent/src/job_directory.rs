//! Assignment → STATE/jobs/JOB-ATTEMPT: all that is on disk of one attempt, whoever of agent and supervisor is alive.
//!
//! | name | what |
//! |---|---|
//! | `assignment` | the assignment, JSON |
//! | `credentials` | the URL with the credentials that `assignment` lacks; gone before the first step |
//! | `options` | [`RunnerOptions`], JSON; may be missing |
//! | `marker` | random digits that every process of the job carries in its environment |
//! | `lock` | held (flock) by the supervisor as long as it lives; handed to it by whoever starts it, so there is no moment without |
//! | `supervisor` | its pid, its start time and the boot, one a line |
//! | `control` | the unix socket on which it listens |
//! | `no-room` | what was `control`: the supervisor has ended without the last records, for which the disk had no room |
//! | `supervisor.err` | what it had to say before it could write to the log |
//! | `spool/` | the log's segments, see `spool` |
//! | `artifacts/N` | artifact stream N, complete; `N.ready` is complete and not yet announced, `N.partial` neither |
//! | `steps/` | the scripts, as they are run |
//! | `work/{src,home,tmp,needs}` | checkout, `HOME`, `TMPDIR`, `SAI_NEEDS` |
//! | `upper`, `root` | of a job in a container: what it has changed of its image; where the whole is mounted |
//! | `cgroups` | the cgroups that it is in, and that hold it to its limits, one a line |
//! | `container.err` | what the container's runner had to say |
//! | `boot` | the boot of the machine in which it was made |
//! | `ending` | the log's last record is its verdict, and all is being made durable, or could not be |
//! | `ended` | the log's last record is its verdict, and all of log and artifacts is durable |
//!
//! **What may be told before it is durable here**: of a job that runs, everything, for it does not outlive its machine. After a
//! power cut its attempt is given up, whatever is left of its log; the master goes on from nothing that it has not got. Of one
//! that has ended everything is synced, once, before its verdict is told; then it is sent to its end after any power cut. So
//! none of the other files needs to be durable: they are of no use to anybody in another boot. Once, since a disk that has failed
//! to flush may have lost what it was given, and says nothing of it at the next flush (fsync(2)): then the attempt is given up.

use crate::boards::Place;
use crate::cgroup;
use crate::clean_start;
use crate::container::Container;
use crate::durable::{sync_directory, sync_files};
use crate::process_tree::{Traces, boot, state};
use crate::remove_tree::remove_tree;
use crate::spool::{SpoolReader, SpoolWriter, recover};
use miniserde::{Deserialize, Serialize, json};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use sai_core::job::{Fault, JobKey, Outcome, Verdict};
use sai_core::limits::{SPOOL_BYTES, STREAMS};
use sai_core::ordered::Map;
use sai_core::record::{Record, encode};
use sai_core::secret::CloneUrl;
use sai_core::wire::Assignment;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Name in the environment of each process of a job, by which what a killed supervisor left behind is found.
pub const MARKER: &str = "SAI_JOB_MARKER";
/// The list of the job's cgroups, one a line.
pub(crate) const CGROUPS: &str = "cgroups";
/// Name of the file with the credentials.
const CREDENTIALS: &str = "credentials";
/// Bytes of any of the small files that are read here.
const SMALL_FILE_BYTES: u64 = 4 << 20;
/// Time a lock is waited for that no supervisor holds. A process that is being started holds, until it has become its program,
/// a copy of each file its parent had open, such a lock among them; on a loaded machine that takes a while.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// What is said of an attempt that its machine took along.
pub const WENT_DOWN: &str = "the machine went down while the job ran";
/// What is said of an attempt whose disk had no room for the end of its log.
pub const NO_ROOM: &str = "no room on the disk of the agent for the end of the job's log";
/// What tells that, beside the log.
const GAVE_UP: &str = "no-room";
/// What tells that an attempt's end is being made durable.
const ENDING: &str = "ending";
/// What is said of an attempt whose disk could not, or may not, have taken its end.
pub const UNFLUSHED: &str = "the disk of the agent may not have taken all of the job's log and files";
/// Time a supervisor is given to end its job by itself before it is killed.
const VANISH_TIME: Duration = Duration::from_secs(15);

/// What the agent tells its supervisor beside the assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerOptions {
    /// Slot number of this job on this agent, from 0: `SAI_INSTANCE_IDX`.
    pub instance: u32,
    /// Processes the job should run at once: `SAI_PARALLEL`.
    pub parallel: u32,
    /// Numeric user and group the steps run as; the agent's own when missing.
    pub user: Option<u32>,
    /// See `user`.
    pub group: Option<u32>,
    /// Directory of the mirrors.
    pub mirrors: String,
    /// Unacknowledged bytes of log on disk after which the job waits.
    pub spool_bytes: u64,
    /// The container the steps run in; on the machine itself when missing.
    pub container: Option<Container>,
    /// Variables that the agent's configuration gives to each job. Missing in directories of older agents.
    pub env: Option<Map<String, String>>,
    /// Where the boards of this machine are described. Missing in directories of older agents, and of jobs at none.
    pub boards: Option<Place>,
    /// Whether its steps may ask for a board of this machine. Missing in directories of older agents.
    pub devices: Option<bool>,
}

impl RunnerOptions {
    /// Those of one job, in a container, that is no repository's.
    pub fn inside(container: Container) -> Self {
        Self {
            instance: 0,
            parallel: 1,
            user: None,
            group: None,
            env: None,
            boards: None,
            devices: None,
            mirrors: String::new(),
            spool_bytes: SPOOL_BYTES,
            container: Some(container),
        }
    }
}

/// One attempt on disk.
#[derive(Debug)]
pub struct JobDirectory {
    path: PathBuf,
    key: JobKey,
    readers: Mutex<Readers>,
}

#[derive(Debug)]
struct Readers {
    log: SpoolReader,
    artifact: Option<(u16, File)>,
}

/// How to start a supervisor: `PROGRAM FIRST… --job DIR`.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program, usually `/proc/self/exe`.
    pub program: PathBuf,
    /// Arguments before `--job`.
    pub first_arguments: Vec<OsString>,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)
}

/// Writes a whole file so that it is either there with this content or not there, as long as the power does not fail.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    fs::rename(temporary, path)
}

fn read_small(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SMALL_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

impl JobDirectory {
    /// Makes the directory of a new attempt, whole or not at all.
    ///
    /// # Errors
    /// `AlreadyExists` when this attempt is known; else the disk's.
    pub fn create(jobs_root: &Path, assignment: &Assignment) -> io::Result<Self> {
        fs::create_dir_all(jobs_root)?;
        let jobs_root = fs::canonicalize(jobs_root)?;
        let path = jobs_root.join(assignment.key.to_string());
        if path.exists() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let new = jobs_root.join(format!(".new-{}", assignment.key));
        remove_tree(&new)?;
        // A job that runs as another user must be able to pass through, not to look around.
        for (name, mode) in [("", 0o711), ("spool", 0o700), ("artifacts", 0o700), ("steps", 0o711), ("work", 0o711)] {
            make_directory(&new.join(name), mode)?;
        }
        let mut marker = [0_u8; 16];
        getrandom::fill(&mut marker).map_err(|error| io::Error::other(error.to_string()))?;
        let marker: String = marker.iter().map(|byte| format!("{byte:02x}")).collect();
        write_whole(&new.join("marker"), marker.as_bytes())?;
        write_whole(&new.join("boot"), boot().as_bytes())?;
        let public = Assignment { url: assignment.url.without_secret(), ..assignment.clone() };
        write_whole(&new.join("assignment"), json::to_string(&public).as_bytes())?;
        if assignment.url.has_secret() {
            write_whole(&new.join(CREDENTIALS), assignment.url.reveal().as_bytes())?;
        }
        fs::rename(&new, &path)?;
        Ok(Self::at(path, assignment.key))
    }

    fn at(path: PathBuf, key: JobKey) -> Self {
        let log = SpoolReader::new(path.join("spool"));
        Self { path, key, readers: Mutex::new(Readers { log, artifact: None }) }
    }

    /// Opens the directory of an attempt.
    ///
    /// # Errors
    /// When its name is not of the form `JOB-ATTEMPT`, or the disk's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let key = name.parse::<JobKey>().map_err(|why| invalid(format!("{}: {why}", path.display())))?;
        Ok(Self::at(path, key))
    }

    /// Every attempt in a directory of attempts, in order. Other names are left alone, except what was being made or removed
    /// when an agent died: that is removed.
    ///
    /// # Errors
    /// When the directory cannot be read; one that does not exist holds no attempts.
    pub fn scan(jobs_root: &Path) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(jobs_root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Map::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if name.starts_with(".new-") || name.starts_with(".removed-") {
                let _ = remove_tree(&entry.path());
            } else if name.parse::<JobKey>().is_ok_and(|key| key.to_string() == name)
                && entry.file_type()?.is_dir()
                && let Ok(directory) = Self::open(&entry.path())
            {
                found.insert(directory.key, directory);
            }
        }
        Ok(found.into_values().collect())
    }

    /// The attempt.
    pub fn key(&self) -> JobKey {
        self.key
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is to be run.
    ///
    /// # Errors
    /// The disk's, or `InvalidData`.
    pub fn assignment(&self) -> io::Result<Assignment> {
        let assignment: Assignment = json::from_str(&read_small(&self.path.join("assignment"))?)
            .map_err(|_| invalid(format!("{}/assignment is no assignment", self.path.display())))?;
        if assignment.key != self.key {
            return Err(invalid(format!("{} holds the assignment of {}", self.path.display(), assignment.key)));
        }
        Ok(assignment)
    }

    /// Where to fetch from, credentials and all. They are on the disk no longer then: only the supervisor that makes the checkout
    /// needs them, and what steps run as the same user could read them there.
    ///
    /// # Errors
    /// The disk's.
    pub fn take_url(&self, assignment: &Assignment) -> io::Result<CloneUrl> {
        let file = self.path.join(CREDENTIALS);
        match read_small(&file) {
            Ok(text) => fs::remove_file(file).map(|()| CloneUrl::from(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(assignment.url.clone()),
            Err(error) => Err(error),
        }
    }

    /// Sets what differs from the defaults, before the start.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_options(&self, options: &RunnerOptions) -> io::Result<()> {
        write_whole(&self.path.join("options"), json::to_string(options).as_bytes())
    }

    /// What was set, else: instance 0, all processors, the agent's user, mirrors beside the jobs, `SPOOL_BYTES`.
    ///
    /// # Errors
    /// The disk's, or `InvalidData`.
    pub fn options(&self) -> io::Result<RunnerOptions> {
        match read_small(&self.path.join("options")) {
            Ok(text) => json::from_str(&text).map_err(|_| invalid(format!("{}/options", self.path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(RunnerOptions {
                instance: 0,
                parallel: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
                user: None,
                group: None,
                mirrors: self.path.join("../../mirrors").to_string_lossy().into_owned(),
                spool_bytes: SPOOL_BYTES,
                container: None,
                env: None,
                boards: None,
                devices: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// `NAME=VALUE` in the environment of each process of this attempt, in no other's.
    ///
    /// # Errors
    /// The disk's.
    pub fn marker(&self) -> io::Result<String> {
        Ok(format!("{MARKER}={}", read_small(&self.path.join("marker"))?))
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Length of each stream from 0 on: whole records of the log, those already trimmed included, then the artifacts. A verdict
    /// counts from the moment when it is durable. None of an attempt that went down with its machine.
    ///
    /// # Errors
    /// The disk's.
    pub fn lengths(&self) -> io::Result<Vec<u64>> {
        let ended = self.ended();
        if !ended && !self.of_this_boot() {
            return Ok(Vec::new());
        }
        let mut lengths = vec![self.readers().log.length(ended)?];
        for stream in 1..STREAMS {
            match fs::metadata(self.path.join("artifacts").join(stream.to_string())) {
                Ok(file) => lengths.push(file.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(lengths)
    }

    /// Reads bytes of a stream from `offset` on; 0 at its end. Of the log, a part of a record that is being written can be
    /// among them: send only what [`JobDirectory::lengths`] or `Progress::Lengths` has named.
    ///
    /// # Errors
    /// `NotFound` for a stream that is not there and bytes that were trimmed; else the disk's.
    pub fn read(&self, stream: u16, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut readers = self.readers();
        if stream == 0 {
            return readers.log.read(offset, buffer);
        }
        if let Some((open, file)) = &readers.artifact
            && *open == stream
        {
            return file.read_at(buffer, offset);
        }
        let file = File::open(self.path.join("artifacts").join(stream.to_string()))?;
        let read = file.read_at(buffer, offset)?;
        readers.artifact = Some((stream, file));
        Ok(read)
    }

    /// Frees the disk of log bytes below `log_acked`, in whole segments.
    ///
    /// # Errors
    /// The disk's.
    pub fn trim(&self, log_acked: u64) -> io::Result<()> {
        self.readers().log.trim(log_acked)
    }

    /// Whether the log ends with its verdict.
    pub fn ended(&self) -> bool {
        self.path.join("ended").exists()
    }

    /// Whether this attempt was begun and had not ended when the machine went down: then nothing in here counts.
    pub fn went_down(&self) -> bool {
        !self.ended() && !self.of_this_boot()
    }

    fn of_this_boot(&self) -> bool {
        match read_small(&self.path.join("boot")) {
            Ok(made) => made == boot(),
            // Of an agent that wrote it down later.
            Err(_) => self.signature().is_some(),
        }
    }

    /// Makes durable all that the master may be told of an attempt whose verdict stands in its log, and then that it is. It can be
    /// tried once.
    pub(crate) fn set_ended(&self) -> io::Result<()> {
        let ending = self.path.join(ENDING);
        File::create_new(&ending)?;
        sync_files(&self.path.join("spool"))?;
        sync_files(&self.path.join("artifacts"))?;
        sync_directory(&self.path)?;
        sync_directory(&self.path.join(".."))?;
        fs::rename(ending, self.path.join("ended"))?;
        sync_directory(&self.path)
    }

    /// Whether making it durable was begun, and did not come to its end.
    fn is_unflushed(&self) -> bool {
        self.path.join(ENDING).exists()
    }

    /// The last line that its supervisor has left.
    fn last_words(&self) -> Option<String> {
        let words = read_small(&self.path.join("supervisor.err")).unwrap_or_default();
        words.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
    }

    /// Leaves word that there is no room for the last records. A name is changed for it, which takes no room itself; nobody
    /// connects to a supervisor that ends.
    pub(crate) fn set_gave_up(&self) -> io::Result<()> {
        fs::rename(self.path.join("control"), self.path.join(GAVE_UP))
    }

    /// Whether the supervisor has ended because there was no room for the last records.
    pub(crate) fn gave_up(&self) -> bool {
        self.path.join(GAVE_UP).exists()
    }

    /// Takes the lock, unless a supervisor lives.
    pub(crate) fn try_lock(&self) -> io::Result<Option<File>> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.path.join("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock of an attempt without a supervisor, as soon as nobody has a copy of it any more.
    fn lock(&self) -> io::Result<File> {
        let begin = Instant::now();
        loop {
            match self.try_lock()? {
                Some(lock) => return Ok(lock),
                None if begin.elapsed() > LOCK_TIME => return Err(io::Error::from(io::ErrorKind::WouldBlock)),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// A path to the control socket that is short enough for an address, however long the directory's own is. It is good as
    /// long as the returned directory is open.
    pub(crate) fn control_path(&self) -> io::Result<(File, PathBuf)> {
        let directory = File::open(&self.path)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/control", directory.as_raw_fd()));
        Ok((directory, path))
    }

    /// Writes down who supervises this attempt.
    pub(crate) fn sign(&self) -> io::Result<()> {
        let pid = std::process::id();
        let started = state(pid as i32).map_or(0, |state| state.started);
        write_whole(&self.path.join("supervisor"), format!("{pid}\n{started}\n{}\n", boot()).as_bytes())
    }

    /// Who supervises or supervised this attempt, in this boot: pid and start time.
    fn signature(&self) -> Option<(i32, u64)> {
        let text = read_small(&self.path.join("supervisor")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.parse().ok().filter(|pid| *pid > 1)?;
        let started = lines.next()?.parse().ok()?;
        (lines.next()? == boot()).then_some((pid, started))
    }

    /// Kills what a dead supervisor has left behind. Tells how many processes could not be killed.
    fn sweep(&self) -> io::Result<usize> {
        if !self.of_this_boot() {
            return Ok(0);
        }
        // First those that can be killed all at once, whatever they have done to be found by nothing else.
        cgroup::remove(&self.path.join(CGROUPS))?;
        let traces = Traces { marker: &self.marker()?, session: self.signature(), workspace: &self.path.join("work") };
        Ok(traces.sweep())
    }

    /// Ends a supervisor that may live, with all of its job, and removes everything.
    ///
    /// # Errors
    /// The disk's, or when a process of the job cannot be killed; the directory is then found again by a scan.
    pub fn forget(self) -> io::Result<()> {
        let begin = Instant::now();
        let mut lock = self.try_lock()?;
        if lock.is_none() {
            // Asked, it knows all of its processes; killed, it leaves them to be searched for.
            ask_to_vanish(&self, VANISH_TIME);
            lock = self.try_lock()?;
        }
        while lock.is_none() {
            if let Some((pid, started)) = self.signature()
                && state(pid).is_some_and(|state| state.started == started)
            {
                crate::process_tree::signal(pid, Signal::KILL);
            }
            if begin.elapsed() > 2 * VANISH_TIME {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the supervisor cannot be ended"));
            }
            std::thread::sleep(Duration::from_millis(1));
            lock = self.try_lock()?;
        }
        reap();
        if self.ended() && self.of_this_boot() {
            // The supervisor was in one itself.
            cgroup::remove(&self.path.join(CGROUPS))?;
        } else if self.sweep()? > 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a process of the job cannot be killed"));
        }
        // Out of the way first: were we killed now, a scan would find an attempt whose parts are missing.
        let removed = self.path.with_file_name(format!(".removed-{}", self.key));
        remove_tree(&removed)?;
        fs::rename(&self.path, &removed)?;
        remove_tree(&removed)
    }
}

/// The supervisors this process has started: somebody has to collect their exit statuses.
static STARTED: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Collects the exit statuses of supervisors that have ended.
pub(crate) fn reap() {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.retain(|child| matches!(waitpid(Some(*child), WaitOptions::NOHANG), Ok(None)));
}

/// Starts the supervisor of an attempt. It gets the lock as its standard input and the listening control socket as its
/// standard output: from here on the attempt has a living supervisor, or has had one.
///
/// # Errors
/// `WouldBlock` when one lives, `AlreadyExists` when the attempt has ended; else those of the disk and of starting a process.
pub fn start(directory: &JobDirectory, launcher: &Launcher) -> io::Result<()> {
    reap();
    let lock = directory.lock()?;
    if directory.ended() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the attempt has ended"));
    }
    let listener = listen(directory)?;
    let errors =
        OpenOptions::new().create(true).append(true).mode(0o600).open(directory.path.join("supervisor.err"))?;
    let mut arguments = launcher.first_arguments.clone();
    arguments.extend([OsString::from("--job"), directory.path.clone().into_os_string()]);
    let streams = [lock.as_fd(), listener.as_fd(), errors.as_fd()];
    let child = clean_start::spawn(launcher.program.as_os_str(), &arguments, streams)?;
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    Ok(())
}

pub(crate) fn listen(directory: &JobDirectory) -> io::Result<UnixListener> {
    let (_open, path) = directory.control_path()?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

pub(crate) fn connect(directory: &JobDirectory) -> io::Result<UnixStream> {
    let (_open, path) = directory.control_path()?;
    UnixStream::connect(path)
}

/// Asks the supervisor of an attempt to end its job at once, and waits until it is gone or the time is over.
fn ask_to_vanish(directory: &JobDirectory, time: Duration) {
    let Ok(mut socket) = connect(directory) else { return };
    let begin = Instant::now();
    if socket.set_read_timeout(Some(time)).is_err() || socket.write_all(b"X\n").is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    while begin.elapsed() < time && matches!(socket.read(&mut buffer), Ok(read) if read > 0) {}
    // Its socket is closed a moment before its lock.
    while begin.elapsed() < time && matches!(directory.try_lock(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends an attempt whose supervisor has died without a verdict: kills what it left behind, cuts a torn record off and appends
/// the verdict `Infra`. An attempt that has its verdict is left as it is.
///
/// # Errors
/// `WouldBlock` when the supervisor lives, `InvalidData` when the attempt went down with its machine or may not be durable; else the
/// disk's.
pub fn bury(directory: &JobDirectory, why: &str) -> io::Result<()> {
    reap();
    if directory.ended() {
        return Ok(());
    }
    let _lock = directory.lock()?;
    if directory.went_down() {
        return Err(invalid(WENT_DOWN));
    }
    let unkillable = directory.sweep()?;
    if directory.is_unflushed() {
        let why = directory.last_words().unwrap_or_else(|| "its supervisor was killed".to_owned());
        return Err(invalid(format!("{UNFLUSHED}: {why}")));
    }
    let spool = directory.path.join("spool");
    let tail = recover(&spool)?;
    settle_artifacts(&directory.path.join("artifacts"), tail.artifact)?;
    if !tail.verdict {
        let mut records = Vec::new();
        if let Some(line) = directory.last_words() {
            encode(&Record::Note(line), tail.micros, &mut records);
        }
        if unkillable > 0 {
            let note = format!("{unkillable} processes of the job could not be killed");
            encode(&Record::Note(note), tail.micros, &mut records);
        }
        let verdict = Verdict {
            outcome: Outcome::Infra,
            fault: Fault::Infrastructure,
            cause: if directory.gave_up() { NO_ROOM } else { why }.to_string(),
            step: None,
            status: None,
            trouble: None,
            verdict: None,
        };
        encode(&Record::Verdict(verdict), tail.micros, &mut records);
        SpoolWriter::open(&spool)?.append(&records)?;
    }
    directory.set_ended()
}

/// An artifact that is complete belongs to the log if its announcement was the last thing the supervisor wrote.
fn settle_artifacts(artifacts: &Path, last_record_is_artifact: bool) -> io::Result<()> {
    for entry in fs::read_dir(artifacts)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        match name.strip_suffix(".ready") {
            Some(stream) if last_record_is_artifact => fs::rename(entry.path(), artifacts.join(stream))?,
            Some(_) => fs::remove_file(entry.path())?,
            None if name.ends_with(".partial") => fs::remove_file(entry.path())?,
            None => {}
        }
    }
    Ok(())
}
