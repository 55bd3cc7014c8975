//! Images for cards: which agents have them told, in which order, and when a card is started with one.

use sai_core::card::{self, Card, Wanted};
use sai_core::clock::Now;
use sai_core::hub::{Hub, Input, Output, Terms};
use sai_core::job::JobKey;
use sai_core::ledger::AgentRecord;
use sai_core::ordered::Map;
use sai_core::scheduler::Policy;
use sai_core::session::{self, AgentSession, Description};
use sai_core::update::{Piece, Said};
use sai_core::updating;
use sai_core::versions;
use sai_core::wire::{AgentMessage, Forget, Hello, MasterMessage, Update, Updating, Welcome};

const KEY: &str = "0f";
const DIGEST: &str = "abab";

fn card(number: u64) -> Card {
    Card { model: "pi3".to_string(), number, left: None, lefts: Some(0), key: Some(KEY.to_string()) }
}

fn wanted(number: u64) -> Wanted {
    Wanted { number, sha256: DIGEST.to_string(), size: 48 << 20, after: None, lefts: None, failed: None }
}

/// A master and its agents, each by one link after the other.
struct Master {
    hub: Hub,
    links: u64,
    at: Map<String, u64>,
    /// The agents that were told of an image, with its number.
    told: Vec<(String, u64)>,
}

impl Master {
    fn new(names: &[&str]) -> Self {
        let mut master =
            Self { hub: Hub::new(Terms::default(), Policy::default()), links: 0, at: Map::new(), told: Vec::new() };
        for name in names {
            let record = AgentRecord::added((*name).to_string(), "aa".to_string(), 0, None);
            master.give(Input::Agent(record));
        }
        master
    }

    fn give(&mut self, input: Input) {
        let mut out = Vec::new();
        self.hub.handle(Now { steady: 1000, wall: 2000 }, input, &mut out);
        for output in out {
            if let Output::Send(link, MasterMessage::Update(update)) = output {
                let name = self.at.iter().find(|(_, of)| **of == link).map(|(name, _)| name.clone());
                self.told.push((name.expect("an agent that is there"), update.number));
            }
        }
    }

    fn comes(&mut self, name: &str, card: Option<Card>) {
        if let Some(before) = self.at.remove(&name.to_string()) {
            self.give(Input::LinkDown(before));
        }
        self.links += 1;
        let link = self.links;
        self.at.insert(name.to_string(), link);
        self.give(Input::LinkUp(link, name.to_string()));
        let identity = format!("{:0>32}", name.bytes().map(|byte| format!("{byte:02x}")).collect::<String>());
        let hello = Hello {
            protocol: 1,
            version: "1".to_string(),
            identity,
            host: name.to_string(),
            platforms: Vec::new(),
            slots: 1,
            cores: 1,
            memory_mib: 1,
            mirrors: Vec::new(),
            jobs: Vec::new(),
            notes: None,
            instance: None,
            protocol_newest: None,
            can: Some(versions::told()),
            rooted: None,
            boards: None,
            card,
        };
        self.give(Input::Message(link, AgentMessage::Hello(hello)));
    }

    fn says(&mut self, name: &str, number: u64, state: &str, why: Option<&str>) {
        let link = *self.at.get(&name.to_string()).expect("an agent that is there");
        let (state, why) = (state.to_string(), why.map(str::to_string));
        self.give(Input::Message(link, AgentMessage::Updating(Updating { number, state, have: 24 << 20, why })));
    }

    fn asks(&mut self, names: &[&str], number: u64) {
        self.give(Input::Update(names.iter().map(|name| (*name).to_string()).collect(), wanted(number)));
    }

    fn told(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.told)
    }

    fn update(&self, name: &str) -> Option<Wanted> {
        self.hub.agents().get(name).and_then(|record| record.update.clone())
    }

    fn shown(&self, name: &str) -> String {
        let record = self.hub.agents().get(name).expect("an agent");
        updating::told(record, self.hub.update_progress(name).as_deref()).expect("a card")
    }
}

fn one(name: &str, number: u64) -> Vec<(String, u64)> {
    vec![(name.to_string(), number)]
}

#[test]
fn the_first_comes_back_before_the_others_are_told() {
    let mut master = Master::new(&["a", "b", "c"]);
    for name in ["a", "b"] {
        master.comes(name, Some(card(1)));
    }
    master.asks(&["b", "a", "c"], 2);
    assert_eq!(master.told(), one("b", 2));
    master.says("b", 2, Updating::FETCHING, None);
    assert!(master.shown("b").ends_with("image 2: 24 of 48 MiB are there"), "{}", master.shown("b"));
    assert!(master.shown("a").ends_with("waits until b has come back with it"), "{}", master.shown("a"));
    // A link that breaks meanwhile: it is told again, and goes on.
    master.comes("b", Some(card(1)));
    assert_eq!(master.told(), one("b", 2));
    // So it is by a master that was restarted: all that it knows stands in the records.
    let records: Vec<AgentRecord> = master.hub.agents().values().cloned().collect();
    let mut master = Master::new(&[]);
    records.into_iter().for_each(|record| master.give(Input::Agent(record)));
    master.comes("a", Some(card(1)));
    assert_eq!(master.told(), []);
    master.comes("b", Some(card(1)));
    assert_eq!(master.told(), one("b", 2));
    master.says("b", 2, Updating::HANDED, None);
    master.comes("b", Some(card(2)));
    assert_eq!((master.told(), master.update("b")), (one("a", 2), None));
    // Who was away is told when it comes.
    master.comes("c", Some(card(1)));
    assert_eq!(master.told(), one("c", 2));
    master.comes("c", Some(card(2)));
    master.comes("a", Some(card(2)));
    assert!(master.told().is_empty() && ["a", "b", "c"].iter().all(|name| master.update(name).is_none()));
    assert_eq!(master.shown("a"), "card for a pi3, image 2");
}

#[test]
fn a_bad_image_costs_one_card_a_start() {
    let mut master = Master::new(&["a", "b"]);
    let before = Card { left: Some(2), lefts: Some(3), ..card(1) };
    master.comes("a", Some(before.clone()));
    master.comes("b", Some(card(1)));
    master.asks(&["a", "b"], 2);
    // That it was left before, when it was tried another time, says nothing.
    master.comes("a", Some(before.clone()));
    assert_eq!(master.told(), [("a".to_string(), 2), ("a".to_string(), 2)]);
    master.comes("a", Some(Card { lefts: Some(4), ..before.clone() }));
    assert!(master.told().is_empty());
    assert!(master.shown("a").contains("image 2 was not taken: it did not prove itself"), "{}", master.shown("a"));
    assert!(master.shown("b").ends_with("not taken: a, which was to have it first, has not taken it"));
    // It is not tried again by itself, but by whoever asks.
    master.comes("a", Some(Card { lefts: Some(4), ..before.clone() }));
    assert!(master.told().is_empty());
    master.asks(&["a"], 2);
    assert_eq!(master.told(), one("a", 2));
    // What the card refuses ends it as well, and its words are on a line.
    master.says("a", 3, Updating::REFUSED, Some("of another one"));
    assert_eq!(master.update("a").and_then(|wanted| wanted.failed), None);
    master.says("a", 2, Updating::REFUSED, Some("its signature\u{1b} is not"));
    assert_eq!(master.update("a").and_then(|wanted| wanted.failed).as_deref(), Some("its signature  is not"));
    // Who comes with it after all has it.
    master.comes("a", Some(card(2)));
    assert_eq!(master.update("a"), None);
}

#[test]
fn nobody_waits_for_who_does_not_come() {
    let mut master = Master::new(&["a", "b", "c"]);
    master.asks(&["a", "b", "c"], 2);
    master.asks(&["a"], 3);
    for name in ["b", "c"] {
        let why = master.update(name).and_then(|wanted| wanted.failed).unwrap_or_default();
        assert!(why.contains("is to have another one now"), "{why}");
    }
    master.asks(&["a", "b"], 3);
    master.give(Input::Revoke("a".to_string()));
    assert!(master.update("a").is_none());
    assert!(master.update("b").and_then(|wanted| wanted.failed).is_some_and(|why| why.contains("revoked")));
    master.asks(&["nobody"], 3);
}

#[test]
fn an_image_goes_to_cards_that_can_have_it() {
    let piece = || Piece { bytes: 1, sha256: "0f".repeat(32) };
    let said = |number| Said { model: "pi3".to_string(), number, kernel: piece(), initramfs: piece() };
    let agent = |name: &str, card: Option<Card>| AgentRecord {
        card,
        seen_at: Some(1),
        ..AgentRecord::added(name.to_string(), "aa".to_string(), 0, None)
    };
    let agents = [
        agent("attic", Some(card(5))),
        agent("barn", Some(Card { key: None, ..card(5) })),
        agent("desk", None),
        agent("gone", Some(card(5))),
        agent("hut", Some(Card { key: Some("1f".to_string()), ..card(5) })),
        agent("old", Some(Card { model: "pi0".to_string(), ..card(5) })),
        agent("shed", Some(card(7))),
    ];
    let agents = agents.map(|agent| AgentRecord { revoked: agent.name == "gone", ..agent });
    let choose =
        |who: &str, number, older| updating::choose(&agents, &|name| name == "shed", who, &said(number), KEY, older);
    let all = choose("all", 9, false).expect("some");
    assert_eq!(all.names, ["shed", "attic"], "who is connected is the first");
    assert_eq!(all.left_out.len(), 4, "{:?}", all.left_out);
    for (who, number, older, why) in [
        ("nobody", 9, false, "there is no agent \"nobody\""),
        ("gone", 9, false, "gone is revoked"),
        ("desk", 9, false, "desk is not updated this way"),
        ("barn", 9, false, "barn believes no update key"),
        ("hut", 9, false, "hut believes another update key"),
        ("old", 9, false, "old is a pi0, and the image is for a pi3"),
        ("shed", 7, true, "shed has this image already"),
        ("shed", 6, false, "--downgrade"),
        ("all", 5, false, "attic has this image already"),
    ] {
        let told = choose(who, number, older).expect_err(who);
        assert!(told.contains(why), "{told}: {why}");
    }
    assert_eq!(choose("shed", 6, true).expect("an older one").names, ["shed"]);
    let never = AgentRecord { seen_at: None, ..agent("new", None) };
    let told = updating::choose(&[never], &|_| false, "new", &said(9), KEY, false).expect_err("new");
    assert!(told.contains("never been connected"), "{told}");
}

/// An agent on a card, connected.
fn agent(card: Option<Card>, can: Option<Vec<String>>) -> AgentSession {
    let mut session = AgentSession::new(Description {
        version: "1".to_string(),
        identity: "0f".repeat(16),
        instance: None,
        host: "shed".to_string(),
        platforms: vec!["linux".to_string()],
        slots: 2,
        cores: 1,
        memory_mib: 1,
        notes: Vec::new(),
        rooted: None,
        boards: Vec::new(),
        card,
    });
    link(&mut session, 0, can);
    session
}

fn link(session: &mut AgentSession, now: u64, can: Option<Vec<String>>) -> Vec<session::Output> {
    let welcome = Welcome { protocol: 1, version: "1".to_string(), agent: "shed".to_string(), can };
    let mut out = Vec::new();
    for input in [
        session::Input::Tick,
        session::Input::Connected { mirrors: Vec::new() },
        session::Input::Message(MasterMessage::Welcome(welcome)),
    ] {
        session.handle(now, input, &mut out);
    }
    out
}

fn give(session: &mut AgentSession, now: u64, input: session::Input) -> Vec<session::Output> {
    let mut out = Vec::new();
    session.handle(now, input, &mut out);
    out
}

fn states(out: &[session::Output]) -> Vec<&str> {
    let says = |output: &session::Output| matches!(output, session::Output::Send(AgentMessage::Updating(_)));
    let word = |output| match output {
        &session::Output::Send(AgentMessage::Updating(ref updating)) => Some(updating.state.as_str()),
        _ => None,
    };
    out.iter().filter(|output| says(output)).filter_map(word).collect()
}

fn slots(out: &[session::Output]) -> Vec<u32> {
    let slots = |output: &session::Output| match output {
        session::Output::Send(AgentMessage::Offer(offer)) => Some(offer.slots),
        session::Output::Send(AgentMessage::Hello(hello)) => Some(hello.slots),
        _ => None,
    };
    out.iter().filter_map(slots).collect()
}

fn update(number: u64) -> Update {
    Update { number, sha256: DIGEST.to_string(), size: 48 << 20 }
}

fn tell(session: &mut AgentSession, number: u64) -> Vec<session::Output> {
    give(session, 0, session::Input::Message(MasterMessage::Update(update(number))))
}

#[test]
fn a_card_is_started_anew_when_nothing_runs() {
    let mut session = agent(Some(card(1)), Some(versions::told()));
    let key = JobKey { job: 4, attempt: 1 };
    give(&mut session, 0, session::Input::Found { key, lengths: Vec::new() });
    let out = tell(&mut session, 2);
    assert!(out.contains(&session::Output::Fetch(update(2))) && states(&out) == [Updating::FETCHING], "{out:?}");
    assert_eq!(slots(&out), [], "jobs go on meanwhile");
    // It is told again, as after a link that broke.
    let out = tell(&mut session, 2);
    assert!(!out.contains(&session::Output::Fetch(update(2))), "{out:?}");
    assert_eq!(states(&give(&mut session, 5, session::Input::Fetching(9, String::new()))), [Updating::FETCHING]);
    let out = give(&mut session, 10, session::Input::Fetched(Ok(())));
    assert_eq!((states(&out), slots(&out)), (vec![Updating::WAITING], vec![0]));
    assert_eq!(session.deadline(), None, "a job is there");
    give(&mut session, 50_000, session::Input::Disconnected { jitter_permille: 0 });
    let out = link(&mut session, 60_000, Some(versions::told()));
    assert_eq!((states(&out), slots(&out)), (vec![Updating::WAITING], vec![0]));
    give(&mut session, 70_000, session::Input::Message(MasterMessage::Forget(Forget { key })));
    let out = give(&mut session, 80_000, session::Input::Gone { key });
    assert!(out.contains(&session::Output::Hand(update(2))) && states(&out) == [Updating::HANDED], "{out:?}");
    assert!(!give(&mut session, 90_000, session::Input::Tick).contains(&session::Output::Hand(update(2))));
    // It is not taken, so jobs begin again, and it may be told once more.
    let out = give(&mut session, 90_000, session::Input::Refused("why".to_string()));
    assert_eq!((states(&out), slots(&out)), (vec![Updating::REFUSED], vec![2]));
    assert!(tell(&mut session, 2).contains(&session::Output::Fetch(update(2))));
}

#[test]
fn what_is_on_its_way_is_heard_before() {
    let mut session = agent(Some(card(1)), Some(versions::told()));
    tell(&mut session, 2);
    let out = give(&mut session, 10, session::Input::Fetched(Ok(())));
    assert!(!out.contains(&session::Output::Hand(update(2))), "{out:?}");
    let due = session.deadline().expect("a deadline");
    assert_eq!(due, 10 + card::QUIET_MS);
    assert!(give(&mut session, due, session::Input::Tick).contains(&session::Output::Hand(update(2))));
}

#[test]
fn a_file_that_cannot_be_had_is_told_of_or_asked_for_again() {
    let mut session = agent(Some(card(1)), Some(versions::told()));
    tell(&mut session, 2);
    let out = give(&mut session, 10, session::Input::Fetched(Err("full".to_string())));
    assert_eq!(states(&out), [Updating::REFUSED]);
    // Where the master is away, that is no fault of the image's.
    tell(&mut session, 2);
    give(&mut session, 20, session::Input::Disconnected { jitter_permille: 0 });
    give(&mut session, 30, session::Input::Fetched(Err("away".to_string())));
    assert_eq!(states(&link(&mut session, 40_000, Some(versions::told()))), Vec::<&str>::new());
    assert!(tell(&mut session, 2).contains(&session::Output::Fetch(update(2))));
}

#[test]
fn who_is_no_card_or_has_an_older_master_says_nothing() {
    let mut session = agent(None, Some(versions::told()));
    assert_eq!(tell(&mut session, 2), []);
    let mut session = agent(Some(card(1)), None);
    assert_eq!(states(&tell(&mut session, 2)), Vec::<&str>::new());
}
