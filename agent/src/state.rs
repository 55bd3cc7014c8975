//! Path → the state directory of one agent: locked, with its identity, and room for jobs and mirrors.

use crate::digest::sha256;
use crate::durable;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Name of the configuration file that `sai-agent join` writes into a state directory.
pub const CONFIGURATION: &str = "agent.json";

/// Bytes of randomness in an identity.
const IDENTITY_BYTES: usize = 16;

/// Time the lock is waited for: a process that a killed agent was just starting holds it until it runs its program.
const LOCK_TIME: Duration = Duration::from_millis(500);
/// Time between two tries to take it.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A state directory that no other agent works in while this exists.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    identity: String,
    /// Holds the lock. It is closed on exec, so no supervisor inherits it.
    _lock: File,
}

impl State {
    /// Makes the directory if need be, locks it and reads the identity, which is drawn at the first time.
    ///
    /// # Errors
    /// One line: who works there already, or what cannot be made.
    pub fn open(directory: &Path) -> Result<Self, String> {
        let failed = |what: &Path, error: io::Error| format!("{}: {error}", what.display());
        // Steps that run as another user pass through to their workspace, and see nothing on the way.
        for (name, mode) in [("", 0o711), ("jobs", 0o711), ("mirrors", 0o700)] {
            let directory = directory.join(name);
            DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&directory)
                .map_err(|error| failed(&directory, error))?;
        }
        let directory = fs::canonicalize(directory).map_err(|error| failed(directory, error))?;
        let lock = lock(&directory)?;
        let file = directory.join("identity");
        let identity = identity(&file).map_err(|error| failed(&file, error))?;
        Ok(Self { directory, identity, _lock: lock })
    }

    /// Binds the identity to this machine, or, in a directory that comes from another one (a copied card), draws a new
    /// one; then there is a line for people. A machine that cannot be told from others is taken for the same.
    ///
    /// # Errors
    /// One line with the file and what is wrong.
    pub fn bind(&mut self) -> Result<Option<String>, String> {
        self.bind_to(machine(Path::new("/")))
    }

    fn bind_to(&mut self, machine: Option<String>) -> Result<Option<String>, String> {
        let file = self.directory.join("machine");
        let failed = |error: io::Error| format!("{}: {error}", file.display());
        let Some(machine) = machine else { return Ok(None) };
        let bound = match fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if bound.as_ref() == Some(&machine) {
            return Ok(None);
        }
        if bound.is_some() {
            // First the identity: a power cut in between has it drawn once more.
            let identity = self.directory.join("identity");
            self.identity = draw(&identity).map_err(|error| format!("{}: {error}", identity.display()))?;
        }
        durable::write(&file, format!("{machine}\n").as_bytes()).map_err(failed)?;
        Ok(bound.map(|_| {
            format!(
                "{} comes from another machine, so this one has drawn an identity of its own; a token belongs to one \
                 machine: join with a line of this one's own",
                self.directory.display()
            )
        }))
    }

    /// The directory, absolute.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// 32 hexadecimal digits that were drawn once.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Where the attempts have their directories.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.directory.join("jobs")
    }

    /// Where the mirrors of repositories are.
    #[must_use]
    pub fn mirrors(&self) -> PathBuf {
        self.directory.join("mirrors")
    }

    /// Where files of jobs that others need are kept.
    #[must_use]
    pub fn needs(&self) -> PathBuf {
        self.directory.join("needs")
    }

    /// The configuration that `join` wrote here.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join(CONFIGURATION)
    }

    /// Replaces the configuration, readable by this user alone, whole or not at all.
    ///
    /// # Errors
    /// One line with the file and what is wrong.
    pub fn save_config(&self, text: &str) -> Result<(), String> {
        let file = self.config();
        durable::write(&file, text.as_bytes()).map_err(|error| format!("{} cannot be written: {error}", file.display()))
    }
}

/// The agent that works in a state directory, if one does. Its number was written by itself; that it still is the process
/// with that number is known by the lock it has open.
#[must_use]
pub fn holder(directory: &Path) -> Option<Pid> {
    let lock = fs::metadata(directory.join("lock")).ok()?;
    let text = fs::read_to_string(directory.join("lock")).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let is_lock = |file: fs::Metadata| (file.dev(), file.ino()) == (lock.dev(), lock.ino());
    files.any(|file| fs::metadata(file.path()).is_ok_and(is_lock)).then(|| Pid::from_raw(pid))?
}

/// Takes the lock that is held as long as an agent works here.
fn lock(directory: &Path) -> Result<File, String> {
    let path = directory.join("lock");
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = open.map_err(failed)?;
    let begun = Instant::now();
    let taken = loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_TIME => thread::sleep(LOCK_PAUSE),
            taken => break taken,
        }
    };
    match taken {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.take(20).read_to_string(&mut holder);
            let holder = if holder.is_empty() { "unknown" } else { holder.trim() };
            return Err(format!(
                "another agent (process {holder}) works in {}; stop it first, or say --state DIR for one more agent on \
                 this machine",
                directory.display()
            ));
        }
        Err(error) => return Err(failed(error.into())),
    }
    // The number is for people; that it cannot be written does not matter.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn identity(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let text = text.trim();
            if text.len() == 2 * IDENTITY_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Ok(text.to_owned());
            }
            let problem = "is no identity of 32 hexadecimal digits; delete it and join again with a new join line";
            Err(io::Error::new(ErrorKind::InvalidData, problem))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => draw(file),
        Err(error) => Err(error),
    }
}

/// Draws an identity and keeps it.
fn draw(file: &Path) -> io::Result<String> {
    let mut bytes = [0; IDENTITY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let text = hex(&bytes);
    durable::write(file, format!("{text}\n").as_bytes())?;
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A digest of what tells this machine from all others: the serial number of its board or processor, which a copied card
/// does not bring along, else what systemd and D-Bus know it by (machine-id(5)).
fn machine(root: &Path) -> Option<String> {
    let read = |name: &str| fs::read(root.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).ok();
    let board = || read("proc/device-tree/serial-number");
    let processor = || {
        let about = read("proc/cpuinfo")?;
        let serial = about.lines().find_map(|line| line.strip_prefix("Serial"))?;
        Some(serial.trim_start_matches([' ', '\t', ':']).to_owned())
    };
    let system = || read("etc/machine-id");
    let known = |(kind, text): (&str, Option<String>)| {
        let text = text?;
        let text = text.trim_matches(|letter: char| letter == '\0' || letter.is_whitespace());
        // Boards that were never given a number have zeros.
        let none = text.len() < 8 || text.chars().all(|letter| letter == '0') || text == "uninitialized";
        (!none).then(|| hex(&sha256(format!("{kind} {text}").as_bytes())))
    };
    known(("board", board())).or_else(|| known(("processor", processor()))).or_else(|| known(("system", system())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_a_directory_and_one_identity_for_ever() {
        let directory = std::env::temp_dir().join(format!("sai-state-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let first = State::open(&directory).expect("a new directory");
        let identity = first.identity().to_owned();
        assert!(identity.len() == 32 && identity.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let error = State::open(&directory).expect_err("a second agent");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(holder(&directory).map(|pid| pid.as_raw_nonzero().get()), i32::try_from(std::process::id()).ok());
        first.save_config("{}").expect("a configuration");
        let mode = |path: &Path| fs::metadata(path).map(|about| about.mode() & 0o777).ok();
        assert_eq!(mode(first.directory()), Some(0o711));
        assert_eq!(mode(&first.mirrors()), Some(0o700));
        assert_eq!(mode(&first.config()), Some(0o600));
        assert_eq!(mode(&directory.join("identity")), Some(0o600));
        drop(first);
        assert_eq!(holder(&directory), None);
        let second = State::open(&directory).expect("the lock is free again");
        assert_eq!(second.identity(), identity);
        drop(second);
        fs::write(directory.join("identity"), "nonsense").expect("a file");
        assert!(State::open(&directory).expect_err("no identity").contains("delete it"));
        fs::remove_dir_all(&directory).expect("the end");
    }

    #[test]
    fn an_identity_stays_with_its_machine() {
        let directory = std::env::temp_dir().join(format!("sai-machine-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let root = |files: &[(&str, &str)]| {
            let root = directory.join("root");
            let _ = fs::remove_dir_all(&root);
            for (name, text) in files {
                fs::create_dir_all(root.join(name).parent().expect("a directory")).expect("a directory");
                fs::write(root.join(name), text).expect("a file");
            }
            machine(&root)
        };
        let id = ("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        let serial = |number: &str| format!("Hardware\t: BCM2835\nSerial\t\t: {number}\n");
        let one = root(&[id, ("proc/cpuinfo", &serial("00000000c0ffee01"))]);
        // The card is copied, machine-id and all; the processor is another.
        let two = root(&[id, ("proc/cpuinfo", &serial("00000000c0ffee02"))]);
        let board = root(&[id, ("proc/device-tree/serial-number", "10000000c0ffee03\0")]);
        let bare = root(&[id, ("proc/cpuinfo", &serial("0000000000000000"))]);
        assert_eq!(bare, root(&[id]));
        assert_eq!(root(&[("etc/machine-id", "uninitialized\n")]), None);
        assert_eq!(root(&[]), None);
        let all = [&one, &two, &board, &bare];
        assert!(all.iter().all(|id| id.as_ref().is_some_and(|id| id.len() == 64)), "{all:?}");
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);

        let mut state = State::open(&directory).expect("a directory");
        let drawn = state.identity().to_owned();
        // A state of an earlier version, or of a machine that has no number, is this machine's.
        assert_eq!(state.bind_to(None), Ok(None));
        assert_eq!(state.bind_to(one.clone()), Ok(None));
        assert_eq!(state.bind_to(one.clone()), Ok(None));
        assert_eq!(state.identity(), drawn);
        let line = state.bind_to(two.clone()).expect("a new identity").expect("a line");
        assert!(line.contains("comes from another machine"), "{line}");
        let other = state.identity().to_owned();
        assert_ne!(other, drawn);
        drop(state);
        let mut state = State::open(&directory).expect("the same directory");
        assert_eq!(state.bind_to(two), Ok(None));
        assert_eq!(state.identity(), other);
        drop(state);
        fs::remove_dir_all(&directory).expect("the end");
    }
}
