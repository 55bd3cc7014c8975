//! A small master for tests: it keeps streams in memory, forgets what it has not acknowledged when told to, and checks
//! every frame it gets.
#![allow(dead_code)]

use sai_agent::link::Frame;
use sai_core::job::{JobKey, Verdict};
use sai_core::limits::PROTOCOL;
use sai_core::record::{Artifact, Decoder, Item, Record};
use sai_core::wire::{
    Ack, Adopt, AgentMessage, Assignment, Cancel, DataHeader, Forget, Hello, Load, MasterMessage, Offer, Welcome,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One attempt as the master knows it.
#[derive(Debug, Default)]
pub struct Attempt {
    /// What arrived of each stream.
    pub streams: Vec<Vec<u8>>,
    /// What was acknowledged of each.
    pub durable: Vec<usize>,
    /// Why the agent refused it.
    pub refused: Option<String>,
}

/// A log, read.
#[derive(Debug, Default)]
pub struct Log {
    /// What the steps printed on standard output and standard error.
    pub printed: Vec<u8>,
    pub artifacts: Vec<Artifact>,
    pub notes: Vec<String>,
    pub verdict: Option<Verdict>,
}

impl Attempt {
    pub fn log(&self) -> Log {
        let mut log = Log::default();
        let bytes = self.streams.first().map(Vec::as_slice).unwrap_or_default();
        let mut steps = BTreeSet::new();
        let read = Decoder::new().push(bytes, |item| match item {
            Item::Record(_, Record::Channel(channel, start)) => {
                if start.name == "stdout" || start.name == "stderr" {
                    steps.insert(channel);
                }
            }
            Item::Data { channel, bytes, .. } => {
                if steps.contains(&channel) {
                    log.printed.extend_from_slice(bytes);
                }
            }
            Item::Record(_, Record::Artifact(artifact)) => log.artifacts.push(artifact),
            Item::Record(_, Record::Note(note)) => log.notes.push(note),
            Item::Record(_, Record::Verdict(verdict)) => log.verdict = Some(verdict),
            Item::Record(..) | Item::Later { .. } => {}
        });
        read.expect("a log that can be read");
        log
    }

    /// Whether its log has a verdict and all it announced is here.
    fn complete(&self) -> bool {
        // A verdict is the last record and short: most of the time there is nothing to look at.
        let tail = self.streams.first().map(|log| &log[log.len().saturating_sub(2000)..]).unwrap_or_default();
        if !tail.windows(9).any(|window| window == b"\"outcome\"") {
            return false;
        }
        let log = self.log();
        let whole = |artifact: &Artifact| {
            self.streams.get(usize::from(artifact.stream)).is_some_and(|bytes| bytes.len() as u64 == artifact.size)
        };
        log.verdict.is_some() && log.artifacts.iter().all(whole)
    }
}

/// The master.
#[derive(Debug, Default)]
pub struct Master {
    pub assignments: BTreeMap<JobKey, Assignment>,
    pub attempts: BTreeMap<JobKey, Attempt>,
    pub done: BTreeSet<JobKey>,
    pub hellos: Vec<Hello>,
    pub loads: Vec<Load>,
    pub offers: Vec<Offer>,
    /// Whether bytes are acknowledged as soon as they arrive.
    pub lazy: bool,
    pub data_bytes: u64,
    /// Whether streams are only counted, not kept. A job is then done when its verdict is seen to arrive.
    pub data_only_counted: bool,
}

impl Master {
    /// The power fails: what was not acknowledged is gone.
    pub fn forget_what_is_not_durable(&mut self) {
        for attempt in self.attempts.values_mut() {
            for (stream, durable) in attempt.streams.iter_mut().zip(&attempt.durable) {
                stream.truncate(*durable);
            }
        }
    }

    /// Takes a frame, and gives what is to be sent back.
    pub fn take(&mut self, frame: &Frame) -> Vec<MasterMessage> {
        match frame {
            Frame::Text(text) => self.message(AgentMessage::decode(text).expect("a message")),
            Frame::Binary(bytes) => self.data(bytes),
        }
    }

    fn message(&mut self, message: AgentMessage) -> Vec<MasterMessage> {
        match message {
            AgentMessage::Hello(hello) => {
                assert_eq!(hello.protocol, PROTOCOL);
                let welcome =
                    Welcome { protocol: PROTOCOL, version: "test".to_owned(), agent: "shed".to_owned(), can: None };
                let mut out = vec![MasterMessage::Welcome(welcome)];
                for key in &hello.jobs {
                    if self.assignments.contains_key(key) && !self.done.contains(key) {
                        let attempt = self.attempts.entry(*key).or_default();
                        let lengths = attempt.durable.iter().map(|length| *length as u64).collect();
                        out.push(MasterMessage::Adopt(Adopt { key: *key, lengths }));
                    } else {
                        out.push(MasterMessage::Forget(Forget { key: *key }));
                    }
                }
                if hello.slots > 0 {
                    for (key, assignment) in &self.assignments {
                        if !hello.jobs.contains(key) && !self.done.contains(key) {
                            assert!(!self.attempts.contains_key(key), "the agent has lost {key}");
                            out.push(MasterMessage::Assign(assignment.clone()));
                        }
                    }
                }
                self.hellos.push(hello);
                out
            }
            AgentMessage::Units(_) => Vec::new(),
            AgentMessage::Load(load) => {
                self.loads.push(load);
                Vec::new()
            }
            AgentMessage::Offer(offer) => {
                self.offers.push(offer);
                Vec::new()
            }
            AgentMessage::Pong(_) | AgentMessage::Session(_) | AgentMessage::Updating(_) => Vec::new(),
            AgentMessage::Refuse(refuse) => {
                self.attempts.entry(refuse.key).or_default().refused = Some(refuse.why);
                self.done.insert(refuse.key);
                vec![MasterMessage::Forget(Forget { key: refuse.key })]
            }
        }
    }

    fn data(&mut self, frame: &[u8]) -> Vec<MasterMessage> {
        let (header, content) = DataHeader::decode(frame).expect("a data frame");
        assert!(self.assignments.contains_key(&header.key), "a job nobody assigned");
        self.data_bytes += content.len() as u64;
        if self.data_only_counted {
            let length = header.offset + content.len() as u64;
            let mut out = vec![MasterMessage::Ack(Ack { key: header.key, stream: header.stream, length })];
            if content[content.len().saturating_sub(200)..].windows(9).any(|window| window == b"\"outcome\"") {
                self.done.insert(header.key);
                out.push(MasterMessage::Forget(Forget { key: header.key }));
            }
            return out;
        }
        let attempt = self.attempts.entry(header.key).or_default();
        let index = usize::from(header.stream);
        if attempt.streams.len() <= index {
            attempt.streams.resize(index + 1, Vec::new());
            attempt.durable.resize(index + 1, 0);
        }
        let stream = &mut attempt.streams[index];
        assert_eq!(header.offset, stream.len() as u64, "stream {index} of {} goes on where it ended", header.key);
        stream.extend_from_slice(content);
        if self.lazy && attempt.streams[index].len() - attempt.durable[index] < 300_000 && !attempt.complete() {
            return Vec::new();
        }
        attempt.durable = attempt.streams.iter().map(Vec::len).collect();
        let acks = attempt.durable.iter().enumerate().map(|(stream, length)| {
            MasterMessage::Ack(Ack { key: header.key, stream: stream as u16, length: *length as u64 })
        });
        let mut out: Vec<MasterMessage> = acks.collect();
        if attempt.complete() {
            self.done.insert(header.key);
            out.push(MasterMessage::Forget(Forget { key: header.key }));
        }
        out
    }

    pub fn cancel(&self, key: JobKey) -> MasterMessage {
        MasterMessage::Cancel(Cancel { key, why: "somebody asked".to_owned() })
    }

    pub fn assign(&mut self, assignment: Assignment) -> MasterMessage {
        self.assignments.insert(assignment.key, assignment.clone());
        MasterMessage::Assign(assignment)
    }
}

/// A directory of one test that is removed at its end.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sai-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let out = Command::new("git")
        .current_dir(directory)
        .args(["-c", "user.name=Sai", "-c", "user.email=sai@example.org"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A repository with one commit: its URL, and the revision.
pub fn repository(place: &Place) -> (String, String) {
    let path = place.join("repository");
    std::fs::create_dir_all(&path).expect("a directory");
    git(&path, &["init", "-q", "-b", "main"]);
    std::fs::write(path.join("hello.txt"), "hello\n").expect("a file");
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-q", "-m", "Begin"]);
    let revision = git(&path, &["rev-parse", "HEAD"]);
    (format!("file://{}", path.display()), revision)
}

/// An assignment of these steps.
pub fn assignment(job: u64, repository: &(String, String), steps: &[&str]) -> Assignment {
    Assignment {
        key: JobKey { job, attempt: 1 },
        repository: "hello".to_owned(),
        url: repository.0.clone().into(),
        reference: "refs/heads/main".to_owned(),
        revision: repository.1.clone(),
        platform: "linux".to_owned(),
        configuration: "default".to_owned(),
        steps: steps.iter().map(|step| (*step).to_owned()).collect(),
        env: sai_core::ordered::Map::new(),
        artifacts: Vec::new(),
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
