//! A frame of an agent that has been taken over → that frame changed, doubled or held back, and frames it had no right
//! to send.

use super::World;
use super::network::{Frame, Side};
use sai_core::hub::LinkId;
use sai_core::job::{Fault, JobKey, Outcome, Verdict};
use sai_core::record::{self, Record};
use sai_core::wire::{AgentMessage, DataHeader, Refuse};

impl World {
    pub(super) fn lie(&mut self, host: usize, link: LinkId, frame: Frame) {
        if self.calm.is_some() || !self.random.chance(250) {
            self.send(link, Side::Master, frame);
            return;
        }
        self.summary.lies += 1;
        let keys: Vec<JobKey> = self.oracle.attempts.keys().copied().collect();
        let Some(other) = self.random.pick(&keys) else {
            self.send(link, Side::Master, frame);
            return;
        };
        match self.random.below(12) {
            0 => {
                self.send(link, Side::Master, frame.clone());
                self.send(link, Side::Master, frame);
            }
            1 => {
                // Held back: what follows leaves a gap.
            }
            2 => {
                let length = self.random.below(60) as usize;
                let noise = self.random.bytes(length);
                self.send(link, Side::Master, Frame::Binary(noise));
                self.send(link, Side::Master, frame);
            }
            3 => {
                let offset = self.random.below(1 << 20);
                self.claim(link, other, self.oracle.attempts.len() as u16, offset, b"not where it belongs");
                self.send(link, Side::Master, frame);
            }
            4 | 5 => {
                // A whole log with success for somebody's job, perhaps another's.
                let mut log = Vec::new();
                let verdict = Verdict {
                    outcome: Outcome::Passed,
                    fault: Fault::Nobody,
                    cause: "trust me".to_string(),
                    step: None,
                    status: None,
                    trouble: None,
                    verdict: None,
                };
                record::encode(&Record::Verdict(verdict), 7, &mut log);
                let length = self.oracle.attempts.get(&other).and_then(|attempt| attempt.streams.first());
                let offset = if self.random.chance(500) { 0 } else { length.map_or(0, |log| log.len() as u64) };
                self.claim(link, other, 0, offset, &log);
                self.send(link, Side::Master, frame);
            }
            6 => {
                let refuse = AgentMessage::Refuse(Refuse { key: other, why: "I say so".to_string(), trouble: None });
                self.send(link, Side::Master, Frame::Text(refuse.encode()));
                self.send(link, Side::Master, frame);
            }
            7 => {
                self.send(link, Side::Master, Frame::Text("{\"t\":\"hello\",\"protocol\":\"one\"}".to_string()));
                self.send(link, Side::Master, frame);
            }
            8 => {
                let mut frame = frame;
                if let Frame::Binary(bytes) = &mut frame {
                    let at = self.random.below(bytes.len() as u64) as usize;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 0x41;
                    }
                }
                self.send(link, Side::Master, frame);
            }
            9 => {
                let mut frame = frame;
                if let Frame::Text(text) = &mut frame
                    && let Ok(AgentMessage::Hello(mut hello)) = AgentMessage::decode(text)
                {
                    hello.jobs = keys;
                    hello.slots = u32::MAX;
                    hello.platforms.push("../../etc".to_string());
                    *text = AgentMessage::Hello(hello).encode();
                }
                self.send(link, Side::Master, frame);
            }
            10 => {
                self.claim(link, other, u16::MAX, 0, b"?");
                self.send(link, Side::Master, frame);
            }
            _ => {
                let identity = self.hosts[host].identity.clone();
                self.note(|| format!("a liar with identity {identity} ends its connection in the middle"));
                self.send(link, Side::Master, frame);
                self.send(link, Side::Master, Frame::End);
            }
        }
    }

    fn claim(&mut self, link: LinkId, key: JobKey, stream: u16, offset: u64, content: &[u8]) {
        let mut bytes = DataHeader { key, stream, offset }.encode().to_vec();
        bytes.extend_from_slice(content);
        self.send(link, Side::Master, Frame::Binary(bytes));
    }
}
