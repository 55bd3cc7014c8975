//! Pieces of streams, flushed lengths and digests → what an attempt has said and kept so far, and its end.

use super::{Hub, LinkId, Output, Touch, plain};
use crate::clock::Now;
use crate::job::{Blame, Finding, JobKey, Verdict};
use crate::limits::{ARTIFACT_BYTES, STREAMS, WINDOW_BYTES};
use crate::platform;
use crate::record::{Artifact, Decoder, Item, Record};
use crate::scheduler;
use crate::stream::{Accept, StreamReceiver};
use crate::wire::{Ack, DataHeader, MasterMessage};
use crate::words::Word;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes a log may be longer than its limit: the records Sai itself writes after it (notes, steps, verdict).
const LOG_SLACK_BYTES: u64 = 8 << 20;

/// Bytes of artifacts that may arrive before the log announces them: an agent sends the log first, so more than a few
/// pieces that cross it would be kept for nothing.
pub const UNANNOUNCED_BYTES: u64 = 1 << 20;
/// Artifacts that may arrive before the log announces them: each is a file.
const UNANNOUNCED: usize = 16;

/// What has arrived of an attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Intake {
    pub decoder: Decoder,
    pub streams: Vec<StreamReceiver>,
    pub artifacts: Vec<Artifact>,
    /// For each artifact: asked for (`Some(false)`), and found right (`Some(true)`).
    pub sealed: Vec<Option<bool>>,
    pub verdict: Option<Verdict>,
    /// Bytes taken from this link and not flushed yet: the master's own count of its agent's window.
    in_flight: (LinkId, u64),
}

/// What is kept of a verdict: its sentences as they may stand anywhere, and a word beside it that is one.
fn kept(end: Verdict) -> Verdict {
    let finding = end.verdict.filter(|finding| Word::of(&finding.word).is_some());
    let board = |name: &String| platform::check_unit(name).is_ok();
    let finding = finding.map(|finding| Finding {
        what: finding.what.map(|what| plain(&what)),
        board: finding.board.filter(board),
        ..finding
    });
    Verdict {
        cause: plain(&end.cause),
        trouble: end.trouble.filter(|word| Word::of(word).is_some()),
        verdict: finding,
        ..end
    }
}

impl Hub {
    pub(super) fn data(&mut self, now: Now, link: LinkId, header: DataHeader, bytes: &[u8], out: &mut Vec<Output>) {
        let key = header.key;
        let speaker = self.links.get(&link).filter(|name| self.link_of(name) == Some(link));
        // A link that has not greeted, or was let go, has nothing to send.
        let Some(speaker) = speaker else { return };
        if self.scheduler.holder(key) != Some(speaker.as_str()) {
            // Under way when the attempt was given up, or a lie: nothing is kept and nothing is acknowledged.
            return;
        }
        let speaker = speaker.clone();
        self.ask_clock(now, &speaker, out);
        let index = usize::from(header.stream);
        let Some(intake) = self.intakes.get_mut(&key) else {
            return self.bugs.note("data: nothing is taken of an attempt that is under way");
        };
        if index >= STREAMS {
            self.dismiss(now, link, format!("stream {index}, of at most {STREAMS}"), None, out);
            return;
        }
        let announced = intake.artifacts.len();
        if index > announced {
            let early = intake.streams.iter().skip(announced + 1).map(StreamReceiver::length).sum::<u64>();
            if index > announced + UNANNOUNCED || early.saturating_add(bytes.len() as u64) > UNANNOUNCED_BYTES {
                // What it has sent of its log by now is kept, so that it comes further each time it comes back.
                let why = format!("stream {index} of {key} holds more than may come before it is announced");
                self.dismiss(now, link, why, None, out);
                return;
            }
        }
        let most = match header.stream {
            0 => self.terms.log_bytes.saturating_add(LOG_SLACK_BYTES),
            _ => intake.artifacts.get(index - 1).map_or(ARTIFACT_BYTES, |artifact| artifact.size),
        };
        if intake.streams.len() <= index {
            intake.streams.resize(index + 1, StreamReceiver::default());
        }
        if header.offset.saturating_add(bytes.len() as u64) > most {
            let why = format!("stream {index} is longer than the {most} bytes it may have");
            self.broken(now, key, Blame::Agent, why, out);
            return;
        }
        let stream = &mut intake.streams[index];
        let offset = stream.length();
        match stream.offer(header.offset, bytes.len() as u64) {
            Accept::Old => {
                // It was sent again because the ack was lost with a link: say it again.
                let length = stream.durable();
                out.push(Output::Send(link, MasterMessage::Ack(Ack { key, stream: header.stream, length })));
            }
            Accept::Gap => self.dismiss(now, link, format!("stream {index} of {key} skips from {offset}"), None, out),
            Accept::Append { skip } => {
                let bytes = bytes[skip as usize..].to_vec();
                if intake.in_flight.0 != link {
                    intake.in_flight = (link, 0);
                }
                intake.in_flight.1 += bytes.len() as u64;
                let log = (header.stream == 0).then(|| bytes.clone());
                out.push(Output::Append { key, stream: header.stream, offset, bytes });
                if let Some(bytes) = log {
                    self.fold(now, key, &bytes, out);
                    out.push(Output::Touch(Touch::Log(key)));
                }
                self.check_window(now, link, out);
            }
        }
    }

    /// Lets an agent go that sends more than it may before it is acknowledged: its own count is never less than ours.
    fn check_window(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        // What it sent may have been the last that it was let say.
        let Some(name) = self.links.get(&link) else { return };
        let intakes = self.scheduler.runs(name).filter_map(|key| self.intakes.get(&key));
        let in_flight = intakes.map(|intake| intake.in_flight).filter(|(other, _)| *other == link);
        if in_flight.map(|(_, bytes)| bytes).sum::<u64>() > WINDOW_BYTES {
            let why = format!("more than {WINDOW_BYTES} bytes sent and not acknowledged");
            self.dismiss(now, link, why, None, out);
        }
    }

    /// Takes what a log says about its job.
    pub(super) fn fold(&mut self, now: Now, key: JobKey, bytes: &[u8], out: &mut Vec<Output>) {
        // At a start, what follows the piece that ended the attempt.
        let Some(intake) = self.intakes.get_mut(&key) else { return };
        let (mut step, mut seen, mut artifacts, mut verdict) = (None, false, Vec::new(), None);
        let result = intake.decoder.push(bytes, |item| {
            seen = true;
            match item {
                Item::Record(_, Record::StepStart(start)) => step = Some(start.step),
                Item::Record(_, Record::Artifact(artifact)) => artifacts.push(artifact),
                Item::Record(_, Record::Verdict(end)) => verdict = Some(kept(end)),
                _ => {}
            }
        });
        for artifact in artifacts {
            let length = intake.streams.get(usize::from(artifact.stream)).map_or(0, StreamReceiver::length);
            if artifact.size > ARTIFACT_BYTES || length > artifact.size {
                let why = format!("artifact {:?} has more bytes than it may", artifact.path);
                self.broken(now, key, Blame::Agent, why, out);
                return;
            }
            intake.artifacts.push(artifact);
            intake.sealed.push(None);
        }
        if verdict.is_some() {
            intake.verdict = verdict;
            out.push(Output::Flush(key));
        }
        if let Err(why) = result {
            self.broken(now, key, Blame::Agent, format!("the agent sent a malformed log: {why}"), out);
            return;
        }
        if seen || step.is_some() {
            self.schedule(now, scheduler::Input::Started(key, step), out);
        }
        self.settle(now, key, out);
    }

    pub(super) fn flushed(&mut self, now: Now, key: JobKey, stream: u16, length: u64, out: &mut Vec<Output>) {
        // The disk goes on with what was given up.
        let Some(intake) = self.intakes.get_mut(&key) else { return };
        if length == 0 {
            // The name of an empty file is durable, of which no byte was ever sent; it is compared next.
            return;
        }
        let Some(receiver) = intake.streams.get_mut(usize::from(stream)) else {
            return self.bugs.note("flushed: a stream of which nothing was appended");
        };
        let before = receiver.durable();
        if receiver.flushed(length) {
            let length = receiver.durable();
            intake.in_flight.1 = intake.in_flight.1.saturating_sub(length - before);
            if let Some(agent) = self.scheduler.holder(key).map(ToString::to_string) {
                self.send(&agent, MasterMessage::Ack(Ack { key, stream, length }), out);
            }
            self.settle(now, key, out);
        }
    }

    pub(super) fn sealed(&mut self, now: Now, key: JobKey, stream: u16, right: bool, out: &mut Vec<Output>) {
        // The disk goes on with what was given up.
        let Some(intake) = self.intakes.get_mut(&key) else { return };
        let Some(sealed) = usize::from(stream).checked_sub(1).and_then(|index| intake.sealed.get_mut(index)) else {
            return self.bugs.note("sealed: a stream that was not announced");
        };
        if right {
            *sealed = Some(true);
            self.settle(now, key, out);
        } else {
            self.broken(
                now,
                key,
                Blame::Agent,
                format!("artifact stream {stream} does not have the digest announced for it"),
                out,
            );
        }
    }

    /// Ends an attempt when its verdict and all it announced are durable.
    fn settle(&mut self, now: Now, key: JobKey, out: &mut Vec<Output>) {
        // What was just taken may have ended it.
        let Some(intake) = self.intakes.get_mut(&key) else { return };
        for (artifact, sealed) in intake.artifacts.iter().zip(intake.sealed.iter_mut()) {
            let durable = intake.streams.get(usize::from(artifact.stream)).map_or(0, StreamReceiver::durable);
            if sealed.is_none() && durable == artifact.size {
                *sealed = Some(false);
                out.push(Output::Seal(key, artifact.clone()));
            }
        }
        // Artifacts may come first.
        let Some(log) = intake.streams.first() else { return };
        let complete = log.durable() == log.length() && intake.sealed.iter().all(|sealed| *sealed == Some(true));
        // More is to come, or to be flushed.
        let Some(verdict) = intake.verdict.take_if(|_| complete) else { return };
        let log_bytes = log.durable();
        let Some(intake) = self.intakes.remove(&key) else { return self.bugs.note("settle: nothing is taken of it") };
        // Of a path collected more than once the last file counts.
        let artifacts =
            intake.artifacts.iter().enumerate().filter(|(index, artifact)| {
                !intake.artifacts[index + 1..].iter().any(|later| later.path == artifact.path)
            });
        let artifacts: Vec<Artifact> = artifacts.map(|(_, artifact)| artifact.clone()).collect();
        self.schedule(now, scheduler::Input::Kept(key, log_bytes, artifacts), out);
        out.push(Output::Finish(key));
        out.push(Output::Touch(Touch::Log(key)));
        self.schedule(now, scheduler::Input::Ended(key, verdict), out);
    }
}
