//! Token → agent's name, and a link's frames ↔ the hub's inputs and messages: how agents, near and far, are attached.

use crate::hub::{HubHandle, OUTBOX, Request};
use crate::sessions::digest_hex;
use sai_agent::link::{Frame, Link};
use sai_core::hub::Input;
use sai_core::ledger::AgentRecord;
use sai_core::ordered::Map;
use sai_core::wire::MasterMessage;
use smol::future::FutureExt as _;
use std::sync::{PoisonError, RwLock};

/// The name of the agent inside the master.
pub const INSIDE: &str = "built-in";
/// Random bytes of a token: out of reach of guessing, so that its plain SHA-256 may be stored.
const TOKEN_BYTES: usize = 24;

/// A new token: 48 hex digits.
///
/// # Errors
/// The system gives no randomness.
pub fn new_token() -> Result<String, String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Which token is whose. Tokens are found by their digest, so that comparing reveals nothing of them.
#[derive(Debug, Default)]
pub struct Tokens {
    owners: RwLock<Map<String, Owner>>,
}

#[derive(Debug)]
struct Owner {
    name: String,
    revoked: bool,
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// It did once.
    Revoked,
    /// This master does not know it, for now at least: it may work on a state that is not its usual one.
    Unknown,
}

impl Tokens {
    /// The tokens of these agents.
    pub fn new(agents: &[AgentRecord]) -> Self {
        let tokens = Self::default();
        for agent in agents {
            tokens.add(agent);
        }
        tokens
    }

    /// Lets an agent in from now on, unless it was revoked. One without a token (the built-in one) stays out.
    pub fn add(&self, agent: &AgentRecord) {
        if !agent.token_sha256.is_empty() {
            let owner = Owner { name: agent.name.clone(), revoked: !agent.may_join() };
            let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
            owners.insert(agent.token_sha256.clone(), owner);
        }
    }

    /// Lets an agent in no more.
    pub fn remove(&self, name: &str) {
        let mut owners = self.owners.write().unwrap_or_else(PoisonError::into_inner);
        owners.values_mut().filter(|owner| owner.name == name).for_each(|owner| owner.revoked = true);
    }

    /// The agent whose token this is.
    ///
    /// # Errors
    /// Why it opens nothing.
    pub fn agent(&self, token: &str) -> Result<String, NoToken> {
        match self.owners.read().unwrap_or_else(PoisonError::into_inner).get(&digest_hex(token)) {
            Some(owner) if owner.revoked => Err(NoToken::Revoked),
            Some(owner) => Ok(owner.name.clone()),
            None => Err(NoToken::Unknown),
        }
    }
}

/// Carries one link between an agent, already let in under this name, and the hub, until either ends it. Calls `welcomed`
/// when the hub has taken the agent's greeting.
pub async fn carry(hub: &HubHandle, agent: String, link: Link, welcomed: impl Fn()) {
    let id = hub.new_link();
    let (outbox, messages) = smol::channel::bounded(OUTBOX);
    if hub.request(Request::Link(id, agent, outbox)).await.is_err() {
        return;
    }
    let Link { sender, receiver, driver } = link;
    let read = async {
        while let Some(frame) = receiver.receive().await {
            let input = match &frame {
                Frame::Text(text) => Input::of_text(id, text),
                Frame::Binary(bytes) => Input::of_binary(id, bytes),
            };
            if hub.frame(input).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        // The hub drops the outbox to close the link: what was in it still goes out.
        'turns: while let Ok(messages) = messages.recv().await {
            for message in messages {
                if let MasterMessage::Welcome(_) = message {
                    welcomed();
                }
                if sender.send(Frame::Text(message.encode())).await.is_err() {
                    break 'turns;
                }
            }
        }
        drop(sender);
    };
    match driver {
        // The driver ends once the sender is dropped and what it held is written, or the peer is gone.
        Some(driver) => {
            let write = async {
                write.await;
                smol::future::pending().await
            };
            read.or(write).or(driver).await;
        }
        None => read.or(write).await,
    }
    let _ = hub.input(Input::LinkDown(id)).await;
}
