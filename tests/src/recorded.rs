//! `fixtures/0.1/peers.jsonl.xz` → what agent and master of version 0.1.0 said to each other, frame by frame.
//!
//! A proxy between the two wrote it down: the trial of joining, then a link on which a job passes (with two files), one fails
//! and one begins, then the agent's end and its next life, in which the last job is adopted and cancelled.

use miniserde::{Deserialize, json};
use std::path::Path;
use std::process::Command;

/// One frame, or the beginning of a link.
#[derive(Deserialize)]
struct Line {
    link: Option<u32>,
    from: Option<String>,
    text: Option<String>,
    binary: Option<String>,
}

/// What one end said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message.
    Text(String),
    /// A piece of a stream.
    Binary(Vec<u8>),
}

/// One link: what the agent said, and what the master said, each in its order.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// The agent's part.
    pub agent: Vec<Said>,
    /// The master's part.
    pub master: Vec<Said>,
}

/// All links, in order.
pub fn links() -> Vec<Recorded> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/0.1/peers.jsonl.xz");
    let out = Command::new("xz").arg("-dc").arg(&file).output().expect("xz can be run");
    assert!(out.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    let mut links: Vec<Recorded> = Vec::new();
    for line in String::from_utf8(out.stdout).expect("UTF-8").lines() {
        let line: Line = json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        if line.link.is_some() {
            links.push(Recorded::default());
            continue;
        }
        let said = match (line.text, line.binary) {
            (Some(text), _) => Said::Text(text),
            (None, Some(hex)) => Said::Binary(bytes(&hex)),
            (None, None) => panic!("a frame that is none"),
        };
        let link = links.last_mut().expect("a link");
        match line.from.as_deref() {
            Some("agent") => link.agent.push(said),
            Some("master") => link.master.push(said),
            other => panic!("{other:?} said something"),
        }
    }
    links
}

fn bytes(hex: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// The name of a message, and its keys, those of a key below it with a dot.
pub fn shape(text: &str) -> (String, Vec<String>) {
    let json::Value::Object(members) = json::from_str(text).unwrap_or_else(|_| panic!("{text}")) else {
        panic!("{text}")
    };
    let Some(json::Value::String(name)) = members.get("t").cloned() else { panic!("{text}") };
    (name, members.keys().cloned().collect())
}

/// Looks at one end's messages as its peer of the first release would, which closes the link for a kind that it does not
/// know and for a key less.
pub fn check(said: &str, recorded: &[String], also: &[&str]) {
    let (name, keys) = shape(said);
    let same: Vec<Vec<String>> =
        recorded.iter().map(|text| shape(text)).filter(|(other, _)| *other == name).map(|(_, keys)| keys).collect();
    assert!(!same.is_empty() || also.contains(&name.as_str()), "the first release knows no message {name}: {said}");
    for key in same.first().into_iter().flatten() {
        assert!(keys.contains(key), "the first release wants {key}: {said}");
    }
}
