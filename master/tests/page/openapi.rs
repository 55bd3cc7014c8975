//! The API's description → held to the addresses that there are, and to what is answered at each of them.

use super::memory::{event, job, user};
use super::{World, header, text, world};
use miniserde::json::{self, Array, Number, Object, Value};
use sai_core::card::{Card, Wanted};
use sai_core::forge_page::{ForgePage, Kind};
use sai_core::job::{Fault, Finding, JobKey, JobState, Outcome, Verdict};
use sai_core::ledger::{
    ActionRecord, AgentRecord, Aside, BoardRecord, Checked, EventRecord, Needed, Source, UserRecord,
};
use sai_core::offset::Offset;
use sai_core::ordered::Map;
use sai_core::record::Artifact;
use sai_core::roles::Powers;
use sai_core::scheduler::{BoardHealth, BoardHolder, BoardRow, Holder, Holding, KeptFrom, UnitRow, Waiter};
use sai_core::units::{GivenBoard, OfferedBoard, OfferedHealth};
use sai_master::http::Response;
use sai_master::live::{LiveAgent, LiveRepository};
use sai_master::page::filter::Filter;
use sai_master::page::library::now;
use sai_master::page::route::{Route, route};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What is known of a clock.
const CLOCK: Offset = Offset { ahead_ms: -3, bound_ms: 2 };
/// Where the addresses of the API are found out.
const ROUTES: &str = include_str!("../../src/page/route.rs");

fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    let Value::Object(members) = value else { panic!("no object with {name}") };
    members.get(name).unwrap_or_else(|| panic!("{name} is missing"))
}

fn members(value: &Value) -> &Object {
    let Value::Object(members) = value else { panic!("no object") };
    members
}

fn items(value: &Value) -> &Array {
    let Value::Array(items) = value else { panic!("no array") };
    items
}

fn word(value: &Value) -> &str {
    let Value::String(word) = value else { panic!("no string") };
    word
}

/// The description, and what of it was met: keys with a value other than null, and words.
struct Description {
    all: Value,
    met: BTreeSet<String>,
}

impl Description {
    fn of(world: &World) -> Self {
        let response = world.get("/api/v1/openapi.json");
        assert_eq!((response.status, header(&response, "content-type")), (200, Some("application/json")));
        Self { all: json::from_str(&text(response)).unwrap(), met: BTreeSet::new() }
    }

    /// What a `$ref` stands for, and its name.
    fn resolved(&self, schema: &Value) -> (Value, Option<String>) {
        let Some(Value::String(reference)) = members(schema).get("$ref") else { return (schema.clone(), None) };
        let mut found = &self.all;
        for part in reference.strip_prefix("#/").unwrap().split('/') {
            found = member(found, part);
        }
        (found.clone(), reference.rsplit('/').next().map(str::to_string))
    }

    /// Holds a value to its schema: each key that is described is there and no other, of the type that is described.
    fn check(&mut self, place: &str, schema: &Value, value: &Value) {
        let (schema, name) = self.resolved(schema);
        let place = name.unwrap_or_else(|| place.to_string());
        let described = members(&schema);
        if let Some(choices) = described.get("oneOf") {
            let null = matches!(value, Value::Null);
            let choice = items(choices).iter().find(|choice| members(choice).contains_key("$ref") != null);
            return self.check(&place, choice.unwrap(), value);
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(Number::F64(_)) => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let allowed = match described.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().any(|known| word(known) == kind),
            Some(known) => word(known) == kind,
            None => false,
        };
        assert!(allowed, "{place} is of the type {kind}");
        if kind != "null" {
            self.met.insert(place.clone());
        }
        match value {
            Value::String(said) => {
                if let Some(words) = described.get("x-words") {
                    assert!(items(words).iter().any(|known| word(known) == said), "{place} says {said}");
                    self.met.insert(format!("{place} {said}"));
                }
                if described.contains_key("format") {
                    assert!(said.ends_with('Z') && said.len() == 20, "{place} says {said}");
                }
            }
            Value::Array(values) => {
                values.iter().for_each(|value| self.check(&format!("{place}[]"), member(&schema, "items"), value));
            }
            Value::Object(values) => {
                if let Some(of_each) = described.get("additionalProperties") {
                    values.values().for_each(|value| self.check(&format!("{place}[]"), of_each, value));
                    return;
                }
                let Some(properties) = described.get("properties") else { return };
                let known: Vec<&String> = members(properties).keys().collect();
                assert_eq!(known, values.keys().collect::<Vec<_>>(), "{place}");
                let required: BTreeSet<&str> = items(member(&schema, "required")).iter().map(word).collect();
                assert_eq!(required, known.iter().map(|name| name.as_str()).collect(), "{place}");
                for (name, value) in values {
                    self.check(&format!("{place}.{name}"), member(properties, name), value);
                }
            }
            _ => {}
        }
    }

    /// All that could be met: each key of each schema, and each word.
    fn everything(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (name, schema) in members(member(member(&self.all, "components"), "schemas")) {
            all.insert(name.clone());
            for (key, schema) in members(member(schema, "properties")) {
                let schema = members(schema);
                if schema.contains_key("$ref") || schema.contains_key("oneOf") {
                    continue;
                }
                all.insert(format!("{name}.{key}"));
                let words = schema.get("x-words").into_iter().flat_map(items);
                all.extend(words.map(|known| format!("{name}.{key} {}", word(known))));
            }
        }
        all
    }
}

/// What job 9005 says of its tests.
const TESTS: &str = "<testsuite><testcase name='a' time='0.5'/><testcase name='b'><failure>wrong</failure></testcase>\
                     <testcase name='c'><skipped/></testcase></testsuite>";

/// An event of this number with jobs in these states.
fn add(world: &World, id: u64, source: Source, states: &[JobState], errors: &[&str]) {
    world.memory.change(|held| {
        let errors = errors.iter().map(|text| text.to_string()).collect();
        let event = EventRecord { source, errors, ..event(id, "hello", "Say hello", now() - 60_000) };
        for (index, state) in states.iter().enumerate() {
            let job = job(&event, index as u64, "linux", &format!("c{index}"), *state);
            held.jobs.insert(job.id, job);
        }
        held.events.insert(id, EventRecord { jobs: states.len() as u32, ..event });
    });
}

/// Adds all that can be said to a library, where job 1000 runs and 1001 has failed.
fn fill(world: &World, tests: &Path) {
    use JobState::*;
    let later: JobState = json::from_str("\"unseen\"").unwrap();
    for (id, source, states) in [
        (2, Source::Poke, &[Queued][..]),
        (3, Source::Hook, &[Running, Failed]),
        (4, Source::Poll, &[Passed]),
        (5, Source::Try, &[Failed]),
        (6, Source::Rebuild, &[Cancelled]),
        (7, Source::Hook, &[later]),
        (8, Source::Hook, &[]),
        (
            9,
            Source::Hook,
            &[Queued, Queued, Assigned, Running, Passed, Failed, Cancelled, Cancelled, TimedOut, Expired, Infra],
        ),
        (11, Source::Hook, &[Running]),
        (12, Source::Start, &[Passed]),
        (13, Source::Session, &[Passed]),
        (14, Source::Lease, &[Passed]),
        (16, Source::Health, &[Passed]),
        (15, Source::Run, &[Passed]),
    ] {
        add(world, id, source, states, &[]);
    }
    add(world, 10, Source::Hook, &[], &["no such platform"]);
    world.memory.change(|held| {
        held.events.get_mut(&9).unwrap().warnings.push("nobody has heard of c1".to_string());
        let artifact = Artifact {
            stream: 1,
            path: "out/tests.xml".to_string(),
            size: TESTS.len() as u64,
            sha256: super::hex(TESTS.as_bytes()),
            executable: true,
        };
        let blocked = held.jobs.get_mut(&9000).unwrap();
        blocked.blocked = Some(true);
        let skipped = held.jobs.get_mut(&9006).unwrap();
        skipped.skipped = Some(9005);
        let failed = held.jobs.get_mut(&9005).unwrap();
        failed.needs = Some(vec![Needed {
            job: 9004,
            configuration: "c4".to_string(),
            platform: "linux".to_string(),
            attempt: Some(1),
            artifacts: Vec::new(),
        }]);
        failed.units = Some(Map::from([("licence".to_string(), 1)]));
        failed.offered = Some("linux/x86_64".to_string());
        failed.step = Some(1);
        failed.person = Some("ann".to_string());
        failed.agent = Some("rock".to_string());
        failed.given = Some(GivenBoard { name: "pair".to_string(), grant: 1, others: None });
        failed.clock = Some(CLOCK);
        failed.cause = "step 2 ended with status 1".to_string();
        failed.artifacts = vec![artifact];
        failed.verdict = Some(Verdict {
            outcome: Outcome::Failed,
            fault: Fault::Job,
            cause: failed.cause.clone(),
            step: Some(1),
            status: Some(1),
            trouble: None,
            verdict: Some(Finding {
                word: "no-boot".to_string(),
                what: Some("nothing came".to_string()),
                board: Some("left".to_string()),
            }),
        });
        held.logs.insert(JobKey { job: 9005, attempt: 1 }, super::Log::default());
        held.files.insert((JobKey { job: 9005, attempt: 1 }, 1), tests.to_path_buf());
        for (name, seen_at, revoked) in
            [("new", None, false), ("revoked", Some(1_000), true), ("gone", Some(1_000), false)]
        {
            held.agents.push(AgentRecord {
                name: name.to_string(),
                token_sha256: String::new(),
                added_at: 1,
                identity: None,
                seen_at,
                revoked,
                host: "shed".to_string(),
                platforms: vec!["linux".to_string()],
                grants: None,
                boards: None,
                card: (name == "gone").then(|| Card {
                    model: "pi3".to_string(),
                    number: 7,
                    left: None,
                    lefts: None,
                    key: None,
                }),
                update: (name == "gone").then(|| Wanted {
                    number: 8,
                    sha256: String::new(),
                    size: 1,
                    after: None,
                    lefts: None,
                    failed: Some("it is damaged".to_string()),
                }),
            });
        }
        held.actions = [1, 2]
            .map(|id| ActionRecord { id, at: 1_000, who: "ann".to_string(), what: "did it".to_string() })
            .to_vec();
        held.users.push(UserRecord {
            powers: Some(Powers::parse(&["reader", "9d"], now()).unwrap()),
            ..user("rea", "rea's token")
        });
    });
    let mut live = world.library.live.write().unwrap();
    live.waiting.insert(9001, "no agent offers it".to_string());
    let agent = LiveAgent {
        connected: true,
        connected_since: 1_000,
        slots: 2,
        cores: 4,
        clock: Some(CLOCK),
        ..LiveAgent::default()
    };
    let busy = vec![JobKey { job: 1000, attempt: 1 }];
    for agent in [
        LiveAgent { name: "idle".to_string(), platforms: vec!["linux".to_string()], ..agent.clone() },
        LiveAgent {
            name: "gone".to_string(),
            connected: false,
            card: Some("card for a pi3".to_string()),
            ..agent.clone()
        },
        LiveAgent { name: "busy".to_string(), running: busy, paused: vec!["linux".to_string()], ..agent.clone() },
        LiveAgent {
            name: "aside".to_string(),
            set_aside: Some("by ann".to_string()),
            twin: Some("twin".to_string()),
            ..agent
        },
    ] {
        live.agents.insert(agent.name.clone(), Arc::new(agent));
    }
    let holder = |holding| Holder {
        grant: 7,
        key: JobKey { job: 1000, attempt: 1 },
        agent: "busy".to_string(),
        amount: 1,
        since: 1_000,
        until: 2_000,
        holding,
    };
    live.unit_table.push(UnitRow {
        name: "licence".to_string(),
        amount: 4,
        free: 0,
        holders: [Holding::Granted, Holding::Away, Holding::GivenUp, Holding::Revoked].map(holder).to_vec(),
        waiters: vec![Waiter { job: 9001, amount: 1, who: "hello".to_string(), collects: true }],
        waiting: 1,
    });
    let boards = Some(vec!["left".into(), "right".into()]);
    let health = Some(OfferedHealth { timeout_s: 60, every_s: Some(3600) });
    let aside = Some(Aside { by: "ann".to_string(), at: 1_000 });
    let last = Some(Checked { job: 1000, at: 1_000, passed: false });
    let unwell = Some("job 1000 did not find it well".to_string());
    let offered = OfferedBoard { name: "pair".into(), kind: "stm32".into(), tags: vec!["usb".into()], boards, health };
    live.boards.push(BoardRow {
        agent: "rock".to_string(),
        offered,
        holder: Some(BoardHolder { key: JobKey { job: 1000, attempt: 2 }, grant: 9, since: 1_000, until: 2_000 }),
        free: false,
        what: "held by a job".to_string(),
        pause_s: None,
        waiting: 1,
        waiters: vec![Waiter { job: 1000, amount: 1, who: "hello".to_string(), collects: false }],
        kept_from: vec![KeptFrom {
            repository: "hello".to_string(),
            why: "had trouble 3 times in a row".to_string(),
            seconds: 9,
        }],
        health: BoardHealth { record: BoardRecord { aside, unwell, failed: Some(1), last }, check: Some(1000) },
    });
    let url = "https://git.example/hello".to_string();
    let forge = ForgePage::new(Some(Kind::Gitea), None, &url);
    live.repositories.push(LiveRepository { name: "hello".to_string(), url, forge, ..LiveRepository::default() });
}

#[test]
fn each_address_of_the_api_is_described_and_no_other() {
    let world = world(true);
    let description = Description::of(&world);
    let mut described = BTreeSet::new();
    for (path, methods) in members(member(&description.all, "paths")) {
        described.insert(path.clone());
        let address = format!("/api/v1{path}").replace("{id}", "1000").replace("{grant}", "7");
        let address = address.replace("{repository}", "hello").replace("{name}", "rock");
        let address = address.replace("{agent}", "rock").replace("{board}", "pair");
        let address = address.replace("{sha256}", &"a".repeat(64));
        for (method, operation) in members(methods) {
            // What is named in an address may not be there.
            let answers: Vec<&String> = members(member(operation, "responses")).keys().collect();
            assert!(
                !path.contains('{') || answers.iter().any(|status| *status == "404"),
                "{method} {path}: {answers:?}"
            );
        }
        for method in members(methods).keys().map(|method| method.to_uppercase()) {
            assert!(matches!(route(&method, &address), Route::Api(_)), "{method} {path}");
            let other = if method == "GET" { "POST" } else { "GET" };
            assert!(matches!(route(other, &address), Route::WrongMethod(_)), "{other} {path}");
        }
    }
    let body = ROUTES.split_once("fn api(parts: &[&str])").unwrap().1.split_once("_ => return None").unwrap().0;
    let known: BTreeSet<String> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix('[')?.split_once("] =>"))
        .map(|(parts, _)| {
            let part = |part: &str| match part.trim().strip_prefix('"') {
                Some(word) => format!("/{}", word.trim_end_matches('"')),
                None => format!("/{{{}}}", part.trim()),
            };
            parts.split(',').map(part).collect()
        })
        .collect();
    assert!(known.len() > 10, "{known:?}");
    assert_eq!(described, known);
    // What can be looked for: each word is understood, and nothing else is.
    let parameters = member(member(member(member(&description.all, "paths"), "/events"), "get"), "parameters");
    let names = items(parameters).iter().map(|parameter| word(member(parameter, "name")));
    let names: Vec<&str> = names.filter(|name| !matches!(*name, "before" | "limit")).collect();
    for name in &names {
        assert_ne!(Filter::of(&format!("{name}=x")), Filter::default(), "{name}");
    }
    let all: Vec<String> = names.iter().map(|name| format!("{name}=x")).collect();
    assert!(!format!("{:?}", Filter::of(&all.join("&"))).contains("None"), "{names:?}");
    let home = world.get("/api/v1");
    assert_eq!((home.status, header(&home, "location")), (303, Some("/api/v1/openapi.json")));
}

#[test]
fn each_key_and_word_of_the_api_is_described_as_it_is() {
    let world = world(true);
    let tests = std::env::temp_dir().join(format!("sai-openapi-{}.xml", std::process::id()));
    std::fs::write(&tests, TESTS).unwrap();
    fill(&world, &tests);
    let mut description = Description::of(&world);
    let paths = member(&description.all, "paths").clone();
    let answer = |description: &mut Description, operation: &Value, response: Response| {
        let status = response.status.to_string();
        let (described, _) = description.resolved(member(member(operation, "responses"), &status));
        let content = members(member(&described, "content"));
        let kind = header(&response, "content-type").unwrap().split(';').next().unwrap().to_string();
        assert_eq!(content.keys().collect::<Vec<_>>(), [&kind]);
        if let Some(headers) = members(&described).get("headers") {
            assert!(members(headers).keys().all(|name| header(&response, name).is_some()));
        }
        let said = text(response);
        let said = if kind == "application/json" { json::from_str(&said).unwrap() } else { Value::String(said) };
        description.check(&kind, member(content.values().next().unwrap(), "schema"), &said);
    };
    let by = |who: &str| format!("Bearer {who}'s token");
    for (path, methods) in members(&paths) {
        let ids: &[u64] = if path.contains("jobs") { &[1000, 9005, 77] } else { &[1, 9, 77] };
        for id in ids {
            let address = format!("/api/v1{path}").replace("{id}", &id.to_string()).replace("{grant}", "7");
            let address = address.replace("{repository}", "hello").replace("{name}", "rock");
            let board = if *id == 77 { "nothing" } else { "pair" };
            let address = address.replace("{agent}", "rock").replace("{board}", board);
            let address = address.replace("{sha256}", &"a".repeat(64));
            for (method, operation) in members(methods) {
                if method == "get" {
                    answer(&mut description, operation, world.get(&address));
                    let wrong = world.get(&format!("{address}?lmit=1"));
                    assert_eq!(wrong.status, 400, "{path} passes over what it does not know");
                    answer(&mut description, operation, wrong);
                    for who in ["nobody", "ann", "rea"].map(by) {
                        let by = [("authorization", who.as_str())];
                        answer(&mut description, operation, world.ask("GET", &address, &by, ""));
                    }
                    continue;
                }
                let wrong = world.ask("POST", &address, &[("authorization", &by("ann"))], "force=1");
                assert_eq!(wrong.status, 400, "{path} does what was not asked for");
                answer(&mut description, operation, wrong);
                for headers in [&[("authorization", by("ann"))][..], &[("authorization", by("rea"))], &[]] {
                    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    answer(&mut description, operation, world.ask("POST", &address, &headers, ""));
                }
            }
        }
    }
    for (attempt, status) in [("1", 200), ("2", 404), ("0", 404), ("99999999999", 404), ("x", 400)] {
        for what in ["log", "tests"] {
            let response = world.get(&format!("/api/v1/jobs/1000/{what}?attempt={attempt}"));
            assert_eq!(response.status, status, "{what} of attempt {attempt}");
        }
    }
    let refused = world.ask("POST", "/api/v1/jobs/1001/cancel", &[("authorization", &by("ann"))], "");
    assert_eq!(refused.status, 409);
    answer(&mut description, member(member(&paths, "/jobs/{id}/cancel"), "post"), refused);
    let ann = by("ann");
    let asked = world.ask("POST", "/api/v1/boards/lease", &[("authorization", &ann)], "type=uno");
    answer(&mut description, member(member(&paths, "/boards/lease"), "post"), asked);
    for list in ["/events", "/actions"] {
        let first = world.ask("GET", &format!("/api/v1{list}?limit=1"), &[("authorization", &ann)], "");
        answer(&mut description, member(member(&paths, list), "get"), first);
    }
    let first = world.get("/api/v1/boards/rock/pair?limit=1");
    answer(&mut description, member(member(&paths, "/boards/{agent}/{board}"), "get"), first);
    std::fs::remove_file(&tests).unwrap();
    let missing: Vec<_> = description.everything().difference(&description.met).cloned().collect();
    assert!(missing.is_empty(), "described, and never said: {missing:?}");
}
