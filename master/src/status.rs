//! Records and live state → what `sai-master status` and `sai-master agent list` print.

use crate::live::{Live, LiveAgent};
use crate::units;
use sai_agent::clock::wall;
use sai_agent::describe;
use sai_agent::pin::fingerprint_text;
use sai_core::escape;
use sai_core::ledger::AgentRecord;
use sai_core::updating;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// Jobs that wait of which the reason is told.
const REASONS: usize = 5;
/// Characters of a reason or state that are shown: it is one line of several.
const CHARACTERS: usize = 500;

/// What a running master says of itself beside what changes.
#[derive(Clone, Debug)]
pub struct About {
    /// Its page.
    pub url: String,
    /// What is pinned of its certificate, where no authority vouches for it.
    pub fingerprint: Option<[u8; 32]>,
    /// Its state directory.
    pub state: PathBuf,
    /// Since when it runs, Unix milliseconds.
    pub since: u64,
}

/// Lines of a word, a tab, and what there is to say of it.
pub fn status(about: &About, agents: &[AgentRecord], live: &Live) -> String {
    let mut out = String::new();
    let (since, process, version) = (about.since, std::process::id(), env!("CARGO_PKG_VERSION"));
    let (moment, span) = (units::moment_text(since), units::span(wall().saturating_sub(since)));
    let _ = writeln!(out, "running\tsince {moment} ({span}), process {process}, version {version}");
    let _ = writeln!(out, "state\t{}, {} MiB free", about.state.display(), describe::load(&about.state).free_mib);
    let _ = writeln!(out, "page\t{}", about.url);
    if let Some(fingerprint) = &about.fingerprint {
        let _ = writeln!(out, "certificate\t{}", fingerprint_text(fingerprint));
    }
    let _ = writeln!(out, "agents\t{}", counts(agents, live));
    let running: usize = live.agents.values().map(|agent| agent.running.len()).sum();
    let _ = writeln!(out, "jobs\t{running} running, {} queued", live.waiting.len());
    for (job, why) in live.waiting.iter().take(REASONS) {
        let _ = writeln!(out, "waiting\tjob {job}: {}", short(why));
    }
    if live.waiting.len() > REASONS {
        let _ = writeln!(out, "waiting\t{} more jobs", live.waiting.len() - REASONS);
    }
    for agent in live.agents.values().filter(|agent| agent.passed_over > 0) {
        let (name, count) = (&agent.name, agent.passed_over);
        let _ = writeln!(out, "newer\t{name} has said {count} things of kinds that this version does not know");
    }
    for unit in &live.units {
        let _ = writeln!(out, "unit\t{}", short(unit));
    }
    for repository in &live.repositories {
        let _ = writeln!(out, "repository\t{}: {}", repository.name, short(&repository.state));
    }
    for notice in live.all_notices() {
        let _ = writeln!(out, "notice\t{}", short(&notice));
    }
    out
}

/// How many agents are how: `2 connected, 1 away`.
fn counts(agents: &[AgentRecord], live: &Live) -> String {
    let states: Vec<&str> =
        agents.iter().map(|agent| state(agent, live.agents.get(&agent.name).map(Arc::as_ref))).collect();
    let count = |wanted: &&str| states.iter().filter(|state| *state == wanted).count();
    let known = ["connected", "aside", "away", "never seen"];
    let told = known.iter().map(|word| (count(word), word)).filter(|(count, _)| *count > 0);
    let told: Vec<String> = told.map(|(count, word)| format!("{count} {word}")).collect();
    if told.is_empty() { "none".to_string() } else { told.join(", ") }
}

/// A line for each agent: name, state, host, platforms, and why it gets no jobs, divided by tabs. Without a running master
/// nobody is connected.
pub fn agent_list(agents: &[AgentRecord], live: Option<&Live>) -> String {
    let mut out = String::new();
    for agent in agents {
        let now = live.and_then(|live| live.agents.get(&agent.name)).map(Arc::as_ref);
        let (host, platforms) = match now {
            Some(now) => (&now.host, &now.platforms),
            None => (&agent.host, &agent.platforms),
        };
        let mut why = Vec::new();
        if let Some(now) = now.filter(|_| !agent.revoked) {
            why.extend(now.twin.iter().map(|twin| format!("one is locked out: {twin}")));
            why.extend(now.set_aside.iter().chain(&now.paused).chain(&now.notes).chain(&now.card).cloned());
        } else if !agent.revoked {
            why.extend(updating::told(agent, None));
        }
        // Host and platforms are the agent's own words.
        let platforms: Vec<String> = platforms.iter().map(|platform| escape::line(platform)).collect();
        let (state, host) = (state(agent, now), escape::line(host));
        let _ = writeln!(out, "{}\t{state}\t{host}\t{}\t{}", agent.name, platforms.join(" "), short(&why.join("; ")));
    }
    out
}

fn state(agent: &AgentRecord, live: Option<&LiveAgent>) -> &'static str {
    match live {
        _ if agent.revoked => "revoked",
        // Of all platforms, or of those that the reason names.
        Some(live) if live.connected && (live.set_aside.is_some() || !live.paused.is_empty()) => "aside",
        Some(live) if live.connected => "connected",
        _ if agent.seen_at.is_none() => "never seen",
        _ => "away",
    }
}

fn short(text: &str) -> String {
    escape::line(text).chars().take(CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::job::JobKey;
    use sai_core::ordered::Map;

    fn record(name: &str, seen_at: Option<u64>, revoked: bool) -> AgentRecord {
        AgentRecord {
            name: name.to_string(),
            token_sha256: "x".to_string(),
            added_at: 0,
            identity: None,
            seen_at,
            revoked,
            host: "shed\u{1b}[2J".to_string(),
            platforms: vec!["linux".to_string()],
            grants: None,
            boards: None,
            card: None,
            update: None,
        }
    }

    fn live(name: &str, connected: bool, set_aside: Option<&str>) -> (String, Arc<LiveAgent>) {
        let set_aside = set_aside.map(ToString::to_string);
        let running = vec![JobKey { job: 1, attempt: 1 }];
        let agent = LiveAgent { name: name.to_string(), connected, set_aside, running, ..LiveAgent::default() };
        (name.to_string(), agent.into())
    }

    #[test]
    fn every_state_has_its_word_and_no_peers_word_reaches_a_terminal() {
        let agents = [
            record("on", Some(1), false),
            record("off", Some(1), false),
            record("new", None, false),
            record("gone", Some(1), true),
            record("paused", Some(1), false),
        ];
        let now = Live {
            agents: Map::from_iter([
                live("on", true, None),
                live("off", false, None),
                live("paused", true, Some("paused after trouble\u{7}\nx")),
            ]),
            ..Live::default()
        };
        let list = agent_list(&agents, Some(&now));
        let states: Vec<&str> = list.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        assert_eq!(states, ["connected", "away", "never seen", "revoked", "aside"]);
        assert!(list.ends_with("\tpaused after trouble\\u{7}\\nx\n"), "{list}");
        assert!(list.contains("gone\trevoked\tshed\\u{1b}[2J\tlinux\t\n"), "{list}");
        // What core tells of trouble and of a second machine is told here, too.
        let (name, agent) = live("on", true, None);
        let mut agent = LiveAgent::clone(&agent);
        agent.paused.push("linux had trouble".to_string());
        agent.twin = Some("two machines".to_string());
        agent.notes.push("no cgroup".to_string());
        agent.passed_over = 7;
        let troubled = Live { agents: Map::from_iter([(name, agent.into())]), ..Live::default() };
        let line = agent_list(&agents[..1], Some(&troubled));
        assert!(line.starts_with("on\taside\t"), "{line}");
        assert!(line.ends_with("\tone is locked out: two machines; linux had trouble; no cgroup\n"), "{line}");
        let about = About { url: "https://x".to_string(), fingerprint: Some([0x5a; 32]), state: "/".into(), since: 0 };
        let told = status(&about, &agents[..1], &troubled);
        assert!(told.contains(&format!("certificate\t{}\n", "5a".repeat(32))), "{told}");
        assert!(told.contains("newer\ton has said 7 things of kinds"), "{told}");
        let stopped = agent_list(&agents, None);
        let states: Vec<&str> = stopped.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        assert_eq!(states, ["away", "away", "never seen", "revoked", "away"]);
        let told = status(&about, &agents, &now);
        assert!(told.contains("agents\t1 connected, 1 aside, 1 away, 1 never seen\n"), "{told}");
        assert!(told.contains("jobs\t3 running, 0 queued\n"), "{told}");
    }
}
