//! A stored log, as downloaded → what each channel printed, and what Sai wrote between.

use sai_core::job::Verdict;
use sai_core::record::{Artifact, Decoder, Item, Record};
use std::collections::BTreeMap;

/// A log taken apart.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Bytes printed on each channel.
    pub channels: BTreeMap<String, Vec<u8>>,
    /// Bytes printed on all channels, in the order seen.
    pub text: Vec<u8>,
    /// Indexes of the steps that began, in order.
    pub steps: Vec<u32>,
    /// Exit statuses of the steps that ended.
    pub statuses: Vec<i32>,
    /// What Sai noted.
    pub notes: Vec<String>,
    /// The files kept, in order.
    pub artifacts: Vec<Artifact>,
    /// The verdict.
    pub verdict: Option<Verdict>,
}

impl Log {
    /// Reads the records of a log.
    ///
    /// # Errors
    /// What is malformed in it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut log = Self::default();
        let mut names: BTreeMap<u8, String> = BTreeMap::new();
        Decoder::new().push(bytes, |item| match item {
            Item::Data { channel, bytes, .. } => {
                let name = names.get(&channel).cloned().unwrap_or_default();
                log.channels.entry(name).or_default().extend_from_slice(bytes);
                log.text.extend_from_slice(bytes);
            }
            Item::Record(_, Record::Channel(channel, start)) => drop(names.insert(channel, start.name)),
            Item::Record(_, Record::StepStart(start)) => log.steps.push(start.step),
            Item::Record(_, Record::StepEnd(end)) => log.statuses.push(end.status),
            Item::Record(_, Record::Note(note)) => log.notes.push(note),
            Item::Record(_, Record::Artifact(artifact)) => log.artifacts.push(artifact),
            Item::Record(_, Record::Verdict(verdict)) => log.verdict = Some(verdict),
            Item::Record(_, Record::Data(..)) | Item::Later { .. } => {}
        })?;
        Ok(log)
    }

    /// What was printed on a channel.
    pub fn channel(&self, name: &str) -> &[u8] {
        self.channels.get(name).map_or(&[], Vec::as_slice)
    }
}
