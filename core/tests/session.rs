//! Inputs of an agent's session, in order, against what it says to send, start and delete.

use sai_core::job::{JobId, JobKey};
use sai_core::limits::{CHUNK_BYTES, PROTOCOL, WINDOW_BYTES};
use sai_core::session::{AgentSession, Description, Input, Output, REDIAL_MOST_MS, WELCOME_MS};
use sai_core::wire::{
    Ack, Adopt, AgentMessage, Assignment, Bye, Cancel, Forget, Hello, Load, MasterMessage, Offer, Refuse, Welcome,
};
use std::collections::BTreeMap;

const NOW: u64 = 1_000_000;

fn key(job: JobId) -> JobKey {
    JobKey { job, attempt: 1 }
}

fn description() -> Description {
    Description {
        version: "1".to_string(),
        identity: "00112233445566778899aabbccddeeff".to_string(),
        host: "a.example".to_string(),
        platforms: vec!["linux/x86_64/gcc".to_string()],
        slots: 2,
        cores: 4,
        memory_mib: 1024,
    }
}

fn greeting(jobs: &[JobKey]) -> Output {
    let about = description();
    Output::Send(AgentMessage::Hello(Hello {
        protocol: PROTOCOL,
        version: about.version,
        identity: about.identity,
        host: about.host,
        platforms: about.platforms,
        slots: about.slots,
        cores: about.cores,
        memory_mib: about.memory_mib,
        mirrors: Vec::new(),
        jobs: jobs.to_vec(),
    }))
}

fn assignment(key: JobKey) -> Assignment {
    Assignment {
        key,
        repository: "alpha".to_string(),
        url: "https://forge.example/alpha".to_string(),
        reference: "refs/heads/main".to_string(),
        revision: "0123456789abcdef0123456789abcdef01234567".to_string(),
        platform: "linux/x86_64".to_string(),
        configuration: "default".to_string(),
        steps: vec!["make".to_string()],
        env: BTreeMap::new(),
        artifacts: Vec::new(),
        timeout_s: 60,
        step_timeout_s: None,
        log_bytes: 1 << 20,
        log_limit_fails: false,
        submodules: false,
    }
}

fn welcome() -> MasterMessage {
    MasterMessage::Welcome(Welcome { protocol: PROTOCOL, version: "1".to_string(), agent: "a".to_string() })
}

fn data(key: JobKey, stream: u16, offset: u64, length: u64) -> Output {
    Output::SendData { key, stream, offset, length }
}

struct Desk {
    session: AgentSession,
    now: u64,
}

impl Desk {
    fn new() -> Self {
        Self { session: AgentSession::new(description()), now: NOW }
    }

    /// A session whose link is up and greeted.
    fn up() -> Self {
        let mut desk = Self::new();
        desk.link();
        desk
    }

    fn link(&mut self) -> Vec<Output> {
        self.give(Input::Connected { mirrors: Vec::new() });
        self.hear(welcome())
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.session.handle(self.now, input, &mut out);
        out.retain(|output| !matches!(output, Output::Say(_)));
        out
    }

    fn hear(&mut self, message: MasterMessage) -> Vec<Output> {
        self.give(Input::Message(message))
    }

    fn grow(&mut self, key: JobKey, lengths: &[u64]) -> Vec<Output> {
        self.give(Input::Lengths { key, lengths: lengths.to_vec() })
    }

    fn adopt(&mut self, key: JobKey, lengths: &[u64]) -> Vec<Output> {
        self.hear(MasterMessage::Adopt(Adopt { key, lengths: lengths.to_vec() }))
    }
}

#[test]
fn an_offer_that_changes_while_the_greeting_is_answered_is_not_lost() {
    let mut desk = Desk::new();
    let offer = Offer { platforms: vec!["freebsd/x86_64/clang".to_string()], slots: 5 };
    desk.give(Input::Connected { mirrors: Vec::new() });
    assert_eq!(desk.give(Input::Offer(offer.clone())), []);
    assert_eq!(desk.hear(welcome()), [Output::Send(AgentMessage::Offer(offer))]);
    // The next greeting says it itself.
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(desk.link(), []);
}

#[test]
fn each_master_is_told_the_load() {
    let mut desk = Desk::new();
    let load = Load { load_permille: 300, free_mib: 1000 };
    assert_eq!(desk.give(Input::Load(load.clone())), []);
    for _ in 0..2 {
        assert_eq!(desk.link(), [Output::Send(AgentMessage::Load(load.clone()))]);
        desk.give(Input::Disconnected { jitter_permille: 0 });
    }
}
