//! A join line → a peer that speaks the agents' protocol over a real link, as well or as badly as a test wants.

use crate::process::PATIENCE;
use sai_agent::config::Config;
use sai_agent::link::{Dialer, Frame, LinkReceiver, LinkSender, Timing};
use sai_core::job::{Fault, JobKey, Outcome, Verdict};
use sai_core::limits::PROTOCOL;
use sai_core::record::{Record, encode};
use sai_core::wire::{AgentMessage, Assignment, DataHeader, Hello, MasterMessage};
use smol::Timer;
use smol::future::FutureExt as _;

/// One link to a master, let in by its token. What it says is up to the test.
#[derive(Debug)]
pub struct Peer {
    sender: LinkSender,
    receiver: LinkReceiver,
}

/// A good greeting of a machine with this identity.
pub fn hello(identity: u128, platforms: &[&str], slots: u32, jobs: &[JobKey]) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: "0".to_string(),
        identity: format!("{identity:032x}"),
        host: "peer".to_string(),
        platforms: platforms.iter().map(ToString::to_string).collect(),
        slots,
        cores: 1,
        memory_mib: 1,
        mirrors: Vec::new(),
        jobs: jobs.to_vec(),
        notes: None,
        instance: None,
        protocol_newest: None,
        can: None,
        rooted: None,
        boards: None,
        card: None,
    }
}

/// A log that says the job has passed.
pub fn passed_log() -> Vec<u8> {
    let mut log = Vec::new();
    let verdict = Verdict {
        outcome: Outcome::Passed,
        fault: Fault::Nobody,
        cause: String::new(),
        step: None,
        status: None,
        trouble: None,
        verdict: None,
    };
    encode(&Record::Verdict(verdict), 0, &mut log);
    log
}

impl Peer {
    /// Dials with a join line. The peer's frames are carried from now on.
    ///
    /// # Errors
    /// Why the master does not let it in.
    pub fn dial(join_line: &str) -> Result<Self, String> {
        let config = Config::joined(&join_line.trim().parse()?);
        let dialer = Dialer::new(config.master, config.trust, config.token, Timing::default());
        let link =
            smol::block_on(dialer.map_err(|error| error.to_string())?.dial()).map_err(|error| error.to_string())?;
        if let Some(driver) = link.driver {
            // Each on a thread of its own: what one of them does all the time keeps no other one's greeting waiting.
            std::thread::spawn(move || smol::block_on(driver));
        }
        Ok(Self { sender: link.sender, receiver: link.receiver })
    }

    /// Dials and greets, and reads the welcome.
    pub fn join(join_line: &str, hello: Hello) -> Self {
        let peer = Self::dial(join_line).unwrap_or_else(|why| panic!("the peer is not let in: {why}"));
        peer.say(AgentMessage::Hello(hello));
        let welcome = peer.next();
        assert!(matches!(welcome, Some(MasterMessage::Welcome(_))), "{welcome:?}");
        peer
    }

    /// Sends a text frame. False when the link is gone.
    pub fn text(&self, text: impl Into<String>) -> bool {
        smol::block_on(self.sender.send(Frame::Text(text.into()))).is_ok()
    }

    /// Sends a binary frame. False when the link is gone.
    pub fn binary(&self, bytes: Vec<u8>) -> bool {
        smol::block_on(self.sender.send(Frame::Binary(bytes))).is_ok()
    }

    /// Sends a message. False when the link is gone.
    pub fn say(&self, message: AgentMessage) -> bool {
        self.text(message.encode())
    }

    /// Sends a piece of a stream. False when the link is gone.
    pub fn piece(&self, key: JobKey, stream: u16, offset: u64, content: &[u8]) -> bool {
        let mut frame = DataHeader { key, stream, offset }.encode().to_vec();
        frame.extend_from_slice(content);
        self.binary(frame)
    }

    /// What the master says next; `None` when it has closed the link.
    pub fn next(&self) -> Option<MasterMessage> {
        let text = self.heard()?;
        Some(MasterMessage::decode(&text).unwrap_or_else(|why| panic!("{why}: {text}")))
    }

    /// The same as its text.
    pub fn heard(&self) -> Option<String> {
        let late = async {
            Timer::after(PATIENCE).await;
            panic!("the master says nothing and does not close the link");
        };
        let frame = smol::block_on(self.receiver.receive().or(late))?;
        match frame {
            Frame::Text(text) => Some(text),
            Frame::Binary(_) => panic!("the master sends no binary frames"),
        }
    }

    /// Waits for an assignment; what comes before it is passed over.
    pub fn assignment(&self) -> Assignment {
        loop {
            match self.next() {
                Some(MasterMessage::Assign(assignment)) => return assignment,
                Some(_) => {}
                None => panic!("the master has closed the link"),
            }
        }
    }

    /// Waits until the master closes the link, and returns the reason it gave before.
    pub fn dismissed(&self) -> String {
        let mut why = String::new();
        while let Some(message) = self.next() {
            if let MasterMessage::Bye(bye) = message {
                why = bye.why;
            }
        }
        why
    }
}
