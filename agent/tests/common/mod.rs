//! A directory with a real repository, supervisors of real jobs on it, and their logs decoded.
#![allow(dead_code, reason = "each test file uses a part of it")]

use sai_agent::job_directory::{JobDirectory, Launcher, start};
use sai_agent::remove_tree::remove_tree;
use sai_agent::supervised::{Progress, Supervised, attach};
use sai_core::job::{JobKey, Outcome, Verdict};
use sai_core::record::{Artifact, Decoder, Item, Record};
use sai_core::wire::Assignment;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Longest that anything is waited for which takes a moment on a machine that has nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub path: PathBuf,
    pub revision: String,
}

impl Drop for World {
    fn drop(&mut self) {
        for directory in JobDirectory::scan(&self.jobs()).unwrap_or_default() {
            let _ = directory.forget();
        }
        let _ = remove_tree(&self.path);
    }
}

pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

impl World {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sai-{name}-{}", std::process::id()));
        let _ = remove_tree(&path);
        std::fs::create_dir_all(path.join("origin")).unwrap();
        let origin = path.join("origin");
        git(&origin, &["init", "-q"]);
        std::fs::write(origin.join("file"), "content\n").unwrap();
        let mut world = Self { path, revision: String::new() };
        world.revision = world.commit("one");
        world
    }

    pub fn origin(&self) -> PathBuf {
        self.path.join("origin")
    }

    pub fn jobs(&self) -> PathBuf {
        self.path.join("state/jobs")
    }

    pub fn mirrors(&self) -> PathBuf {
        self.path.join("state/mirrors")
    }

    pub fn commit(&self, message: &str) -> String {
        git(&self.origin(), &["add", "-A"]);
        git(&self.origin(), &["commit", "-q", "--allow-empty", "-m", message]);
        git(&self.origin(), &["rev-parse", "HEAD"])
    }

    pub fn assignment(&self, steps: &[&str]) -> Assignment {
        Assignment {
            key: JobKey { job: NUMBER.fetch_add(1, Ordering::Relaxed), attempt: 1 },
            repository: "group/project".into(),
            url: self.origin().to_string_lossy().into_owned().into(),
            reference: "refs/heads/main".into(),
            revision: self.revision.clone(),
            platform: "linux".into(),
            configuration: "default".into(),
            steps: steps.iter().map(|step| step.to_string()).collect(),
            env: sai_core::ordered::Map::new(),
            artifacts: Vec::new(),
            // A job that goes wrong ends by itself, after all who wait for it have said so.
            timeout_s: 300,
            step_timeout_s: None,
            log_bytes: 1 << 30,
            log_limit_fails: false,
            submodules: false,
            needs: None,
            root: None,
            offered: None,
            board: None,
            session: None,
            lease: None,
            health: None,
            bundle: None,
        }
    }

    /// Starts a job and returns its directory.
    pub fn start(&self, assignment: &Assignment) -> JobDirectory {
        let directory = JobDirectory::create(&self.jobs(), assignment).unwrap();
        start(&directory, &launcher()).unwrap();
        directory
    }

    /// Runs a job to its end.
    pub fn run(&self, assignment: &Assignment) -> Log {
        let directory = self.start(assignment);
        finish(&directory);
        Log::of(&directory)
    }
}

/// Supervisors are the agent's own program.
pub fn launcher() -> Launcher {
    Launcher { program: PathBuf::from(env!("CARGO_BIN_EXE_sai-agent")), first_arguments: Vec::new() }
}

pub fn hold(directory: &JobDirectory) -> Supervised {
    smol::block_on(attach(directory)).unwrap().expect("a living supervisor")
}

/// Waits for the next news.
pub fn next(held: &Supervised) -> Option<Vec<u64>> {
    smol::block_on(smol::future::or(
        async {
            loop {
                match held.next().await {
                    Some(Progress::Lengths(lengths)) => return Some(lengths),
                    Some(Progress::Wants(_) | Progress::Asks(_) | Progress::Unwanted(_)) => {}
                    None => return None,
                }
            }
        },
        async {
            smol::Timer::after(PATIENCE).await;
            panic!("no news for {PATIENCE:?}")
        },
    ))
}

/// Waits until no supervisor lives. One that is going can still be attached to for a moment, and then has no news.
pub fn gone(directory: &JobDirectory) {
    let begin = Instant::now();
    while let Some(held) = smol::block_on(attach(directory)).unwrap() {
        while next(&held).is_some() {}
        // A build may take its time, one that is going may not.
        assert!(begin.elapsed() < 5 * PATIENCE, "the supervisor does not end");
    }
}

/// Waits for the end of a job that has a supervisor or has had one.
pub fn finish(directory: &JobDirectory) {
    gone(directory);
    assert!(directory.ended(), "{}", std::fs::read_to_string(directory.path().join("supervisor.err")).unwrap());
}

/// Waits until the log holds this text.
pub fn wait_for(directory: &JobDirectory, held: &Supervised, text: &str) -> Log {
    loop {
        let log = Log::of(directory);
        if log.all_output().windows(text.len()).any(|window| window == text.as_bytes()) {
            return log;
        }
        next(held).expect("a supervisor that goes on");
    }
}

pub fn read_stream(directory: &JobDirectory, stream: u16) -> Vec<u8> {
    let length = directory.lengths().unwrap()[usize::from(stream)];
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while (bytes.len() as u64) < length {
        let read = directory.read(stream, bytes.len() as u64, &mut buffer).unwrap();
        assert!(read > 0, "stream {stream} ends at {} of {length}", bytes.len());
        bytes.extend_from_slice(&buffer[..read]);
    }
    bytes.truncate(length as usize);
    bytes
}

/// A log, decoded.
#[derive(Debug, Default)]
pub struct Log {
    pub channels: BTreeMap<u8, String>,
    pub output: BTreeMap<u8, Vec<u8>>,
    pub records: Vec<(u64, Record)>,
    pub first_output: Option<u64>,
}

impl Log {
    pub fn of(directory: &JobDirectory) -> Self {
        let bytes = read_stream(directory, 0);
        let mut log = Self::default();
        let mut decoder = Decoder::new();
        decoder
            .push(&bytes, |item| match item {
                Item::Data { channel, bytes, micros } => {
                    log.first_output.get_or_insert(micros);
                    log.output.entry(channel).or_default().extend_from_slice(bytes);
                }
                Item::Record(micros, record) => {
                    if let Record::Channel(channel, start) = &record {
                        log.channels.insert(*channel, start.name.clone());
                    }
                    log.records.push((micros, record));
                }
                Item::Later { .. } => {}
            })
            .unwrap();
        log
    }

    pub fn verdict(&self) -> &Verdict {
        match self.records.last() {
            Some((_, Record::Verdict(verdict))) => verdict,
            other => panic!("no verdict but {other:?}"),
        }
    }

    pub fn outcome(&self) -> Outcome {
        self.verdict().outcome
    }

    pub fn on(&self, channel: &str) -> &[u8] {
        let number = self.channels.iter().find(|(_, name)| *name == channel).map(|(number, _)| number);
        number.and_then(|number| self.output.get(number)).map_or(&[], Vec::as_slice)
    }

    pub fn text(&self, channel: &str) -> String {
        String::from_utf8_lossy(self.on(channel)).into_owned()
    }

    pub fn all_output(&self) -> Vec<u8> {
        self.output.values().flatten().copied().collect()
    }

    pub fn notes(&self) -> Vec<&str> {
        self.records
            .iter()
            .filter_map(|(_, record)| if let Record::Note(text) = record { Some(text.as_str()) } else { None })
            .collect()
    }

    pub fn artifacts(&self) -> Vec<&Artifact> {
        self.records
            .iter()
            .filter_map(|(_, record)| if let Record::Artifact(artifact) = record { Some(artifact) } else { None })
            .collect()
    }

    pub fn statuses(&self) -> Vec<i32> {
        self.records
            .iter()
            .filter_map(|(_, record)| if let Record::StepEnd(end) = record { Some(end.status) } else { None })
            .collect()
    }
}

/// Whether a process is there, and not only waits to be collected.
pub fn lives(pid: i32) -> bool {
    sai_agent::process_tree::state(pid).is_some_and(|state| !state.zombie)
}

/// Waits until a condition holds: for what has no event of its own.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn numbers(text: &str) -> Vec<i32> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

pub fn supervisor_pid(directory: &JobDirectory) -> i32 {
    let path = directory.path().join("supervisor");
    until("the supervisor's pid", || path.exists());
    numbers(std::fs::read_to_string(path).unwrap().lines().next().unwrap())[0]
}

pub fn kill(pid: i32) {
    sai_agent::process_tree::signal(pid, rustix::process::Signal::KILL);
}
