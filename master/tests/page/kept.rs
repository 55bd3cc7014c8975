//! What a person does at a leased board → whoever looks at it: that one, whom they share it with, and admins, by whatever address.

use super::live::{ended, hear_all, watch_as};
use super::memory::user;
use super::{KEY, World, body, header, text, world};
use sai_core::job::{JobId, JobState};
use sai_core::ledger::{Leased, UserRecord};
use sai_core::record::{Artifact, ChannelStart, Record};
use sai_core::roles::Powers;
use sai_master::live::Topic;
use sai_master::page::library::now;
use std::collections::BTreeSet;

/// What nobody else may see.
const WORD: &str = "hunter2";
/// The SHA-256 of that, as a file.
const DIGEST: &str = "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7";
/// Where addresses are found out.
const ROUTES: &str = include_str!("../../src/page/route.rs");

/// A world whose job 1000 is nina's lease, shared with bob.
fn leased() -> World {
    let world = world(true);
    world.log.add(1000, &Record::Channel(2, ChannelStart { name: "serial:main".to_string() }));
    world.log.add(1000, &Record::Channel(3, ChannelStart { name: "line:led".to_string() }));
    world.log.add(2000, &Record::Data(1, format!("error: {WORD}\n").into_bytes()));
    world.log.add(2000, &Record::Data(2, format!("password {WORD}\n").into_bytes()));
    let file = std::env::temp_dir().join(format!("sai-kept-{}", std::process::id()));
    std::fs::write(&file, WORD).unwrap();
    world.memory.change(|held| {
        for name in ["nina", "bob", "eve", "root"] {
            let powers = Some(Powers::parse(&[if name == "root" { "admin" } else { "builder" }], 0).unwrap());
            held.users.push(UserRecord { powers, ..user(name, &format!("{name}'s token")) });
        }
        let artifact =
            Artifact { stream: 1, path: "a.txt".to_string(), size: 7, sha256: DIGEST.to_string(), executable: false };
        let job = held.jobs.get_mut(&KEY.job).unwrap();
        job.person = Some("nina".to_string());
        job.lease = Some(Leased { minutes: 5, agent: None, people: Some(vec!["bob".to_string()]) });
        job.artifacts = vec![artifact];
        held.files.insert((KEY, 1), file);
    });
    world
}

/// All addresses of a job, as they are found out, with whatever they need.
fn addresses(job: JobId) -> BTreeSet<String> {
    let words = |body: &str, start: &str| -> Vec<String> {
        let parts = body.split(start).skip(1).filter_map(|rest| rest.split(']').next());
        parts.map(|part| part.split(',').next().unwrap().trim().trim_matches('"').to_string()).collect()
    };
    let job_body = ROUTES.split_once("fn job(id: JobId").unwrap().1.split_once("_ => return None").unwrap().0;
    let mut all: BTreeSet<String> = words(job_body, "([\"").iter().map(|word| format!("/job/{job}/{word}")).collect();
    assert!(all.len() > 8 && all.contains(&format!("/job/{job}/records")), "{all:?}");
    let api_body = ROUTES.split_once("fn api(parts").unwrap().1.split_once("_ => return None").unwrap().0;
    let api: Vec<String> = words(api_body, "[\"jobs\", id, ");
    assert!(api.len() > 4 && api.contains(&"log".to_string()), "{api:?}");
    all.extend(api.iter().map(|word| format!("/api/v1/jobs/{job}/{word}")));
    let more = [
        "",
        "/1",
        "?q=hunter",
        "?line=3",
        "/console/main",
        "/artifact/1/a.txt",
        "/view/1/a.txt",
        "/tests?name=x",
        "/1/log",
        "/1/records",
        "/1/artifact/1/a.txt",
    ];
    all.extend(more.iter().map(|more| format!("/job/{job}{more}")));
    all.insert(format!("/api/v1/jobs/{job}"));
    all.extend(
        ["/", "/event/1", "/feed.atom", "/history?repository=hello&configuration=c0&platform=linux/x86_64/gcc"]
            .map(String::from),
    );
    all
}

#[test]
fn nobody_else_reads_it_by_any_address() {
    let world = leased();
    let mut seen = BTreeSet::new();
    for address in addresses(KEY.job) {
        let by = |name: &str| world.ask("GET", &address, &[("authorization", &format!("Bearer {name}'s token"))], "");
        for answer in [world.get(&address), by("eve")] {
            let status = answer.status;
            let said = String::from_utf8_lossy(&body(answer)).into_owned();
            assert!(!said.contains(WORD), "{address} {status}: {said}");
            if status == 403 {
                assert!(said.contains("{\"error\":") && said.contains("share it with"), "{address}: {said}");
            }
        }
        for name in ["nina", "bob", "root"] {
            let answer = by(name);
            assert!(!matches!(answer.status, 401 | 403), "{address} {name}: {}", answer.status);
            if String::from_utf8_lossy(&body(answer)).contains(WORD) {
                seen.insert(address.clone());
            }
        }
    }
    for address in ["", "/log", "/records", "/console/main", "/artifact/1/a.txt", "/view/1/a.txt"] {
        assert!(seen.contains(&format!("/job/1000{address}")), "{address} is one that gives it: {seen:?}");
    }
    assert!(seen.contains("/api/v1/jobs/1000/log"), "{seen:?}");

    // Of other jobs everybody reads, as before; and who is not signed in is asked to.
    let answer = world.get("/job/1000/log");
    assert_eq!((answer.status, header(&answer, "location")), (303, Some("/sign-in?to=%2Fjob%2F1000%2Flog")));
    assert_eq!(world.get("/api/v1/jobs/1000/log").status, 401);
    let page = text(world.get("/job/1000"));
    assert!(page.contains("id=\"kept\"") && page.contains("nina"), "{page}");
    assert!(page.contains("Shared with") && page.contains("bob") && page.contains("Sign in"), "{page}");
    world.memory.change(|held| held.jobs.get_mut(&KEY.job).unwrap().lease = None);
    assert!(text(world.get("/job/1000/log")).contains(WORD));
}

/// What is given of the log as it is stored, as one text; whoever gives it has ended.
fn given(all: (smol::channel::Receiver<String>, smol::Task<()>)) -> String {
    ended(all.1);
    let mut text = String::new();
    while let Ok(message) = all.0.try_recv() {
        text.push_str(&message);
    }
    text
}

#[test]
fn a_program_is_given_the_log_as_it_is_stored_as_it_grows_and_as_long_as_its_person_may_hear_it() {
    let world = leased();
    let listens = |who: Option<&str>, from: usize| {
        let address = format!("/live?records=1000-1&from={from}");
        watch_as(&world, &address, 100, who.map(str::to_string))
    };
    // Who may not hear it is given nothing of it, and asks why.
    for who in [None, Some("eve")] {
        assert_eq!(given(listens(who, 0)), "{\"t\":\"records\"}");
    }
    let stored = |address: &str| {
        let bytes = body(world.ask("GET", address, &[("authorization", "Bearer nina's token")], ""));
        bytes.into_iter().map(char::from).collect::<String>()
    };
    let before = stored("/job/1000/records");
    let (nina, bob) = (listens(Some("nina"), before.chars().count()), listens(Some("bob"), 0));
    hear_all(&bob.0, WORD);
    world.log.add(3000, &Record::Data(2, b"the next line\n".to_vec()));
    world.library.changes.touch(Topic::Log(KEY));
    let next = hear_all(&nina.0, "the next line").concat();
    let now_stored = stored("/job/1000/records");
    assert_eq!(next, format!("{{\"t\":\"records\"}}{}", now_stored.strip_prefix(&before).unwrap()));
    hear_all(&bob.0, "the next line");
    // It is shared no more.
    world.memory.change(|held| held.jobs.get_mut(&KEY.job).unwrap().lease.as_mut().unwrap().people = None);
    world.library.changes.touch(Topic::Job(KEY.job));
    world.log.add(4000, &Record::Data(2, b"hers alone\n".to_vec()));
    world.library.changes.touch(Topic::Log(KEY));
    assert!(!given(bob).contains("hers alone"));
    hear_all(&nina.0, "hers alone");
    // The end of the attempt is the end of this, once all of the log is given.
    world.log.add(5000, &Record::Data(2, b"the last line\n".to_vec()));
    world.memory.job_state(KEY.job, JobState::Passed, now());
    world.library.changes.touch(Topic::Job(KEY.job));
    assert!(given(nina).ends_with("the last line\n"));
    assert!(given(listens(Some("nina"), 0)).ends_with(&stored("/job/1000/records")));
}

#[test]
fn nobody_else_is_sent_it_while_it_happens() {
    let world = leased();
    let people = [None, Some("eve"), Some("bob"), Some("root")];
    let all = people.map(|who| watch_as(&world, "/live?job=1000-1&from=0", 100, who.map(str::to_string)));
    world.log.add(3000, &Record::Data(2, b"the last line\n".to_vec()));
    world.library.changes.touch(Topic::Log(KEY));
    let [.., bob, root] = &all;
    for (messages, _) in [bob, root] {
        assert!(hear_all(messages, "the last line").concat().contains(WORD));
    }
    // All are told how it stands, and that it is over.
    world.memory.job_state(KEY.job, JobState::Passed, now());
    world.library.changes.touch(Topic::Job(KEY.job));
    for (messages, _) in &all {
        let told = hear_all(messages, "{\"t\":\"end\"}").concat();
        assert!(told.contains("badge passed") && !told.contains(WORD), "{told}");
    }
}
