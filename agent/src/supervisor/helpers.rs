//! Blocking work (checkout, artifacts, waiting for children) → messages to the poll loop.

use crate::artifacts::Collector;
use crate::git::{Stop, Watch};
use crate::mirror::Trouble;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sai_core::record::Artifact;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// Bytes of stack of the helper threads.
const STACK_BYTES: usize = 512 << 10;

/// What a helper thread tells.
pub(super) enum Event {
    Note(String),
    Git(Vec<u8>),
    Prepared,
    PrepareFailed(Trouble),
    Artifact(Artifact),
    Collected(Box<Collector>, Option<String>),
}

/// A helper thread's way to the poll loop.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) events: SyncSender<Event>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) stop: Arc<Stop>,
}

impl Teller {
    pub(super) fn tell(&self, event: Event) {
        // Nobody listens any more only when the process is about to end.
        let _ = self.events.send(event);
        ring(&self.wake);
    }
}

impl Watch for Teller {
    fn note(&mut self, text: &str) {
        self.tell(Event::Note(text.to_string()));
    }

    fn output(&mut self, bytes: &[u8]) {
        self.tell(Event::Git(bytes.to_vec()));
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }
}

pub(super) fn ring(wake: &OwnedFd) {
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
}

/// Tells the poll loop that a child has ended, without collecting it: that is the loop's. It waits for a token before it looks
/// again.
pub(super) fn watch_children(tokens: &Receiver<()>, wake: &OwnedFd) {
    while tokens.recv().is_ok() {
        while matches!(waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT), Err(Errno::INTR)) {}
        ring(wake);
    }
}

pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_string()).stack_size(STACK_BYTES).spawn(work).map(|_| ())
}
