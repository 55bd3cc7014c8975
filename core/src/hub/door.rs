//! Links and greetings → which agent is connected: one machine a name, whichever link it comes by.

use super::offers::{good_boards, good_platforms, offered};
use super::{Connected, Hub, LinkId, MIRRORS, NOTES, Output, Touch, WORDS, plain};
use crate::card::Card;
use crate::clock::Now;
use crate::ledger::AgentRecord;
use crate::limits::{Millis, PROTOCOL, SLOTS};
use crate::offset::Gauge;
use crate::scheduler::{self, Greeting};
use crate::versions::{self, Can, Span};
use crate::wire::{Bye, Code, Hello, MasterMessage, Ping, Welcome};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Milliseconds a link may take from its beginning to its greeting, which an agent sends at once.
pub const GREETING_MS: Millis = 10_000;
/// Links that one token may have open without a greeting. An agent has one; more are those that it gave up.
const UNGREETED: usize = 8;
/// Milliseconds that an agent has for its answer when another machine comes with its identity: far more than the way there
/// and back, and short enough for a machine that was switched off and on to wait for.
const CONTEST_MS: Millis = 5_000;
/// Milliseconds for which it is told that two machines used one identity, after the last time.
const TWIN_MS: Millis = 15 * 60_000;

/// A greeting that waits until it is known whether the agent of this name is alive on its link.
#[derive(Clone, Debug)]
pub(super) struct Contest {
    link: LinkId,
    hello: Hello,
    /// What the ping on the other link said.
    number: u64,
    until: Millis,
}

/// Another machine that came with an agent's identity while that one was alive.
#[derive(Clone, Debug)]
pub(super) struct Twin {
    host: String,
    times: u32,
    at: Millis,
}

impl Hub {
    pub(super) fn link_up(&mut self, now: Now, link: LinkId, agent: String, out: &mut Vec<Output>) {
        if self.agents.get(&agent).is_none_or(|record| record.revoked) {
            // The edge looked at the token before it was revoked.
            let bye = Bye { why: format!("no agent {agent} may join"), code: Some(Code::Revoked.word().to_string()) };
            out.push(Output::Send(link, MasterMessage::Bye(bye)));
            out.push(Output::Close(link));
            return;
        }
        let until = now.steady.saturating_add(GREETING_MS);
        self.greet_by.insert((until, link));
        let waiting = self.ungreeted.get_or_default(agent.clone());
        waiting.push((link, until));
        // The oldest goes, since whoever holds many of them must not keep the one out that greets.
        let surplus = (waiting.len() > UNGREETED).then(|| waiting[0].0);
        self.links.insert(link, agent);
        if let Some(oldest) = surplus {
            self.dismiss(now, oldest, "too many links of this agent that have not greeted".to_string(), None, out);
        }
    }

    /// A link that has greeted, or is no more, is not waited for.
    fn heard(&mut self, link: LinkId, agent: &str) {
        let waiting = self.ungreeted.get_mut(agent);
        let index = waiting.as_ref().and_then(|waiting| waiting.iter().position(|(other, _)| *other == link));
        // Most links that end have greeted.
        let (Some(waiting), Some(index)) = (waiting, index) else { return };
        let (_, until) = waiting.remove(index);
        if waiting.is_empty() {
            self.ungreeted.remove(agent);
        }
        self.greet_by.remove(&(until, link));
    }

    pub(super) fn link_down(&mut self, now: Now, link: LinkId, out: &mut Vec<Output>) {
        // The end of one that was dismissed is told afterwards.
        let Some(agent) = self.links.remove(&link) else { return };
        self.heard(link, &agent);
        if self.contests.get(&agent).is_some_and(|contest| contest.link == link) {
            self.end_contest(&agent);
        }
        if self.link_of(&agent) != Some(link) {
            return;
        }
        self.connected.remove(&agent);
        if let Some(record) = self.agents.get_mut(&agent) {
            record.seen_at = Some(now.wall);
            out.push(Output::Agent(record.clone()));
        }
        out.push(Output::Touch(Touch::Agent(agent.clone())));
        self.schedule(now, scheduler::Input::AgentDown(agent.clone()), out);
        if let Some(contest) = self.end_contest(&agent) {
            self.admit(now, contest.link, agent, contest.hello, out);
        }
    }

    /// Lets a peer go, for the reason that it broke the rules if there is no other; what it runs is awaited as after any
    /// lost link. Nothing more is taken from the link and no job is given to it, although its end may be noticed later.
    pub(super) fn dismiss(&mut self, now: Now, link: LinkId, why: String, code: Option<Code>, out: &mut Vec<Output>) {
        // What it said last may be as wrong as what it was dismissed for.
        let Some(agent) = self.links.get(&link) else { return };
        out.push(Output::Complain(agent.clone(), format!("agent {agent}: {why}")));
        out.push(Output::Send(link, MasterMessage::Bye(Bye { why, code: code.map(|code| code.word().to_string()) })));
        out.push(Output::Close(link));
        self.link_down(now, link, out);
    }

    pub(super) fn revoke(&mut self, now: Now, name: &str, out: &mut Vec<Output>) {
        // A person may name anybody.
        let Some(record) = self.agents.get_mut(name) else { return };
        record.revoked = true;
        // Whoever has that name one day has other boards.
        record.boards = None;
        out.push(Output::Agent(record.clone()));
        // While it still hears us it is told to end what it runs; it could not come back to be told later.
        self.schedule(now, scheduler::Input::AgentRevoked(name.to_string()), out);
        self.update_revoked(name, out);
        self.end_contest(name);
        self.twins.remove(name);
        let links: Vec<LinkId> = self.links.iter().filter(|(_, agent)| *agent == name).map(|(link, _)| *link).collect();
        for link in links {
            self.dismiss(now, link, "this agent's token was revoked".to_string(), Some(Code::Revoked), out);
        }
        out.push(Output::Touch(Touch::Agent(name.to_string())));
    }

    pub(super) fn hello(&mut self, now: Now, link: LinkId, name: String, mut hello: Hello, out: &mut Vec<Output>) {
        let theirs = Span::of(hello.protocol, hello.protocol_newest);
        if Span::OURS.shared(theirs).is_none() {
            self.dismiss(now, link, format!("this master speaks {}, the agent {theirs}", Span::OURS), None, out);
            return;
        }
        if self.link_of(&name).is_some_and(|newer| newer > link) {
            // A greeting that was under way while its agent gave this link up and came back: what it says of the
            // attempts the agent holds is old, and taking it for the present would end some of them.
            self.dismiss(now, link, "a newer link of this agent is up".to_string(), None, out);
            return;
        }
        let digits = |text: &str| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits(&hello.identity) || hello.instance.as_deref().is_some_and(|instance| !digits(instance)) {
            self.dismiss(now, link, "an identity that is not 32 hex digits".to_string(), None, out);
            return;
        }
        hello.host = plain(&hello.host);
        hello.version = plain(&hello.version);
        let Some(record) = self.agents.get_mut(&name) else { return self.bugs.note("hello: no such agent") };
        if record.identity.as_ref().is_some_and(|identity| *identity != hello.identity) {
            let why = format!(
                "the token of {name} already belongs to another machine{}; if this one replaces it, revoke {name} and \
                 add an agent anew",
                who(record)
            );
            self.dismiss(now, link, why, Some(Code::Revoked), out);
            return;
        }
        hello.platforms = good_platforms(hello.platforms);
        hello.rooted = hello.rooted.map(good_platforms);
        hello.boards = Some(good_boards(hello.boards)).filter(|boards| !boards.is_empty());
        hello.slots = hello.slots.min(SLOTS);
        hello.notes = hello.notes.map(|notes| notes.iter().take(NOTES).map(|note| plain(note)).collect());
        hello.mirrors.retain(|name| name.len() <= WORDS);
        hello.mirrors.truncate(MIRRORS);
        hello.can = versions::heard(hello.can);
        self.heard(link, &name);
        let another = |old: &Connected| match (&old.hello.instance, &hello.instance) {
            (Some(old), Some(new)) => old != new,
            // Of older agents it cannot be told.
            _ => false,
        };
        match self.connected.get(&name).filter(|old| another(old)).map(|old| old.link) {
            Some(old) => self.contest(now, old, link, name, hello, out),
            None => {
                self.end_contest(&name);
                self.admit(now, link, name, hello, out);
            }
        }
    }

    /// Another process comes with the identity of a connected agent: that one has died and its link does not know it yet,
    /// or there are two machines. Who is alive answers.
    fn contest(&mut self, now: Now, old: LinkId, link: LinkId, name: String, hello: Hello, out: &mut Vec<Output>) {
        match self.contests.get_mut(&name) {
            Some(contest) if contest.link == link => {
                self.dismiss(now, link, "a second greeting".to_string(), None, out);
            }
            Some(contest) if contest.hello.instance == hello.instance => {
                // The same process by another link, as it may come while it waits.
                let earlier = core::mem::replace(&mut contest.link, link);
                contest.hello = hello;
                self.links.remove(&earlier);
                out.push(Output::Close(earlier));
            }
            Some(_) => self.refuse_twin(now, link, &name, &hello.host, out),
            None => {
                let until = now.steady.saturating_add(CONTEST_MS);
                self.contest_by.insert((until, name.clone()));
                self.contests.insert(name, Contest { link, hello, number: link, until });
                out.push(Output::Send(old, MasterMessage::Ping(Ping { number: link })));
            }
        }
    }

    fn end_contest(&mut self, name: &str) -> Option<Contest> {
        let contest = self.contests.remove(name)?;
        self.contest_by.remove(&(contest.until, name.to_string()));
        Some(contest)
    }

    /// The connected agent of this name has answered: it is alive.
    pub(super) fn pong(&mut self, now: Now, name: &str, number: u64, out: &mut Vec<Output>) {
        if self.contests.get(name).is_some_and(|contest| contest.number == number)
            && let Some(contest) = self.end_contest(name)
        {
            self.refuse_twin(now, contest.link, name, &contest.hello.host, out);
        }
    }

    fn refuse_twin(&mut self, now: Now, link: LinkId, name: &str, host: &str, out: &mut Vec<Output>) {
        let times = self.twins.get(name).map_or(0, |twin| twin.times).saturating_add(1);
        self.twins.insert(name.to_string(), Twin { host: host.to_string(), times, at: now.steady });
        let why = format!(
            "two machines use {name}'s identity, and the other{} is at work; this one needs one of its own: remove the \
             file `identity` in its state directory and join it with a line of its own",
            self.agents.get(name).map(who).unwrap_or_default()
        );
        self.dismiss(now, link, why, Some(Code::Cloned), out);
        out.push(Output::Touch(Touch::Agent(name.to_string())));
    }

    /// That two machines use an agent's identity, in a sentence, if one of them was refused lately.
    pub fn twin(&self, now: Millis, name: &str) -> Option<String> {
        let twin = self.twins.get(name).filter(|twin| now < twin.at.saturating_add(TWIN_MS))?;
        let times = if twin.times == 1 { "once".to_string() } else { format!("{} times", twin.times) };
        Some(format!(
            "two machines use {name}'s identity: another, which calls itself {}, was refused {times}",
            twin.host
        ))
    }

    /// When a greeting, or an answer, is overdue.
    pub(super) fn door_deadline(&self) -> Option<Millis> {
        let greeting = self.greet_by.first().map(|(until, _)| *until);
        let contest = self.contest_by.first().map(|(until, _)| *until);
        [greeting, contest].into_iter().flatten().min()
    }

    /// For so long nobody could be heard, and is not late by it.
    pub(super) fn door_missed(&mut self, missed: Millis) {
        let later = |at: &mut Millis| *at = at.saturating_add(missed);
        self.ungreeted.values_mut().flatten().for_each(|(_, until)| later(until));
        self.contests.values_mut().for_each(|contest| later(&mut contest.until));
        let waiting = self.ungreeted.values().flatten();
        self.greet_by = waiting.map(|(link, until)| (*until, *link)).collect();
        self.contest_by = self.contests.iter().map(|(name, contest)| (contest.until, name.clone())).collect();
    }

    pub(super) fn door_tick(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some((_, link)) = self.greet_by.first().copied().filter(|(until, _)| *until <= now.steady) {
            let why = format!("no greeting within {} s", GREETING_MS / 1000);
            self.greet_by.pop_first();
            self.dismiss(now, link, why, None, out);
        }
        while let Some((_, name)) = self.contest_by.first().filter(|(until, _)| *until <= now.steady).cloned() {
            match self.end_contest(&name) {
                Some(contest) => self.admit(now, contest.link, name, contest.hello, out),
                None => {
                    self.contest_by.pop_first();
                    self.bugs.note("door: a contest that is not under way");
                }
            }
        }
    }

    /// An agent said something of a kind that is not known: nothing depends on it, and it is told now and then.
    pub(super) fn pass_over(&mut self, now: Now, link: LinkId, what: &str, out: &mut Vec<Output>) {
        // Of a link that was let go.
        let Some(name) = self.links.get(&link).cloned() else { return };
        if self.link_of(&name) != Some(link) {
            self.dismiss(now, link, format!("{what} before the greeting"), None, out);
            return;
        }
        let count = self.passed_over.get_or_default(name.clone());
        *count = count.saturating_add(1);
        if versions::is_worth_telling(*count) {
            out.push(Output::Say(format!("agent {name}: {}", versions::passed_over(what, *count))));
        }
        out.push(Output::Touch(Touch::Agent(name)));
    }

    fn admit(&mut self, now: Now, link: LinkId, name: String, hello: Hello, out: &mut Vec<Output>) {
        let Some(record) = self.agents.get_mut(&name) else { return self.bugs.note("admit: no such agent") };
        record.identity = Some(hello.identity.clone());
        record.host.clone_from(&hello.host);
        record.platforms.clone_from(&hello.platforms);
        record.seen_at = Some(now.wall);
        record.card = hello.card.clone().map(Card::plain);
        out.push(Output::Agent(record.clone()));
        if let Some(old) = self.connected.remove(&name) {
            // The same machine on a new link: the old one is dead, whether or not TCP knows it yet.
            self.links.remove(&old.link);
            out.push(Output::Close(old.link));
            self.schedule(now, scheduler::Input::AgentDown(name.clone()), out);
        }
        let greeting = Greeting {
            agent: name.clone(),
            platforms: offered(&hello.platforms, hello.rooted.as_deref()),
            slots: hello.slots,
            needs: Can::Needs.is_in(hello.can.as_deref()),
            several: Can::Several.is_in(hello.can.as_deref()),
            leases: Can::Leases.is_in(hello.can.as_deref()),
            bundles: Can::Bundles.is_in(hello.can.as_deref()),
            told: Can::Offered.is_in(hello.can.as_deref()),
            mirrors: hello.mirrors.clone(),
            holds: hello.jobs.clone(),
            boards: hello.boards.clone().unwrap_or_default(),
        };
        let shared = Span::OURS.shared(Span::of(hello.protocol, hello.protocol_newest));
        let welcome = Welcome {
            // A greeting without one came no further than the door.
            protocol: shared.unwrap_or(PROTOCOL),
            version: self.terms.version.clone(),
            agent: name.clone(),
            can: Some(versions::told()),
        };
        out.push(Output::Send(link, MasterMessage::Welcome(welcome)));
        self.connected.insert(name, Connected { link, hello, load: None, since: now.wall, clock: Gauge::default() });
        self.ask_clock(now, &greeting.agent, out);
        out.push(Output::Touch(Touch::Agent(greeting.agent.clone())));
        let name = greeting.agent.clone();
        self.schedule(now, scheduler::Input::AgentUp(greeting), out);
        self.update_greeted(&name, out);
    }
}

/// What the machine that a token belongs to calls itself, in brackets.
fn who(record: &AgentRecord) -> String {
    if record.host.is_empty() { String::new() } else { format!(" ({})", record.host) }
}
