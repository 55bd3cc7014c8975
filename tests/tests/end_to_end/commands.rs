//! The command line of a master, running or not.

use crate::PLATFORM;
use sai_tests::peer::{Peer, hello};
use sai_tests::process::{eventually, program};
use sai_tests::repository::{run, sai_master, saifile};
use sai_tests::world::World;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

#[test]
fn agents_and_users_are_managed_with_and_without_a_running_master() {
    let world = World::new("manage");
    for alive in [false, true] {
        let _master = alive.then(|| world.master());
        let name = if alive { "warm" } else { "cold" };
        let line = world.join_line(name);
        assert!(line.starts_with(&format!("sai1:127.0.0.1:{}:{name}:", world.port)) && !line.contains('\n'), "{line}");
        let (status, _, why) = world.try_command(&["agent", "add", name]);
        assert_eq!(status, 1, "{why}");
        assert!(why.contains("already"), "{why}");
        for wrong in ["", "-x", "a b", "a/b", "../x", &"x".repeat(65)] {
            let (status, _, why) = world.try_command(&["agent", "add", wrong]);
            assert!(status == 1 || status == 2, "{wrong:?} gives {status}: {why}");
        }
        assert!(world.command(&["agent", "list"]).contains(&format!("{name}\tnever seen")));
        world.command(&["agent", "revoke", name]);
        assert!(world.command(&["agent", "list"]).contains(&format!("{name}\trevoked")));
        assert_eq!(world.try_command(&["agent", "revoke", "nobody"]).0, 1);
        let again = world.join_line(name);
        assert_ne!(again, line, "a new token");
        let token = world.command(&["user", "add", name]);
        assert!(token.len() >= 32, "{token}");
        assert!(world.command(&["user", "list"]).lines().any(|user| user == format!("{name}\tbuilder")));
        world.command(&["user", "revoke", name]);
        assert!(!world.command(&["user", "list"]).contains(name));
        // One of one repository alone, for a while, who lets nobody in.
        let token = world.command(&["user", "add", "own", "builder@project", "9d"]);
        assert!(world.command(&["user", "list"]).contains("own\treader, builder@project\tuntil 20"));
        let (status, _, why) = world.try_command(&["user", "add", "two", "root"]);
        assert!(status == 2 && why.contains("expected one of reader, builder, admin"), "{status}: {why}");
        if alive {
            let (status, said) = world.post(&format!("/agents/{name}/revoke"), Some(&token));
            assert!(status == 403 && said.contains("this takes an admin"), "{status}: {said}");
        }
        world.command(&["user", "revoke", "own"]);
    }
    // What was done without a running master holds for one that starts later.
    let _master = world.master();
    let states: BTreeSet<String> = world.agents().into_iter().map(|agent| agent.name).collect();
    assert!(states.contains("cold") && states.contains("warm"), "{states:?}");
    let line = world.join_line("hot");
    let _peer = Peer::join(&line, hello(1, &[PLATFORM], 1, &[]));
    assert!(world.command(&["agent", "list"]).contains("hot\tconnected\tpeer\tlinux-test-1/x86_64/gcc"));
    let several = world.command(&["agent", "add", "one", "two"]);
    assert!(several.lines().count() == 2 && several.lines().all(|line| line.starts_with("sai1:")), "{several}");
    for words in [&["agent"][..], &["agent", "dance", "x"], &["nonsense"], &["agent", "add"], &["--nonsense"]] {
        assert_eq!(world.try_command(words).0, 2, "{words:?}");
    }
}

#[test]
fn a_machine_joins_with_its_own_line_alone() {
    let world = World::new("join");
    let _master = world.master();
    let join = |line: &str, state: &str| {
        let mut command = Command::new(program("sai-agent"));
        command.args(["join", line, "--only-save", "--state"]).arg(world.directory.join(state));
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let line = world.join_line("one");
    let (fields, fingerprint) = line.rsplit_once(':').expect("a line of fields");
    let other = format!("{fields}:{}", fingerprint.chars().rev().collect::<String>());
    let (status, said) = join(&other, "first");
    assert_eq!(status, Some(3), "another master's fingerprint: {said}");
    assert!(!world.directory.join("first/agent.json").exists(), "what did not work is not saved");
    let (status, said) = join(&line, "first");
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = join(&line, "first");
    assert_eq!(status, Some(0), "the same machine may do it again: {said}");
    let (status, said) = join(&line, "second");
    assert_eq!(status, Some(3), "another machine: {said}");
    assert!(said.contains("belongs to another machine"), "{said}");
    world.command(&["agent", "revoke", "one"]);
    let (status, said) = join(&line, "first");
    assert_eq!(status, Some(3), "revoked: {said}");
    for wrong in ["", "sai1:", "https://example.org", "sai1:127.0.0.1:1:one:short:system"] {
        assert_eq!(join(wrong, "third").0, Some(2), "{wrong:?}");
    }
}

#[test]
fn an_agent_set_aside_gets_no_job_until_it_is_taken_back() {
    let world = World::new("aside");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.command(&["agent", "aside", "one"]);
    world.repository.push_saifile(&saifile(&["true"]));
    let event = eventually("the push", || world.event(1));
    assert_eq!(event.jobs[0].state, "queued");
    assert_eq!(world.agents()[0].state, "aside");
    let _other = world.agent("other", &[PLATFORM], 1);
    assert_eq!(world.ended(1).jobs[0].agent.as_deref(), Some("other"));
    world.command(&["agent", "aside", "other"]);
    world.command(&["agent", "back", "one"]);
    world.repository.write("more", "");
    world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(world.ended(2).jobs[0].agent.as_deref(), Some("one"));
}

#[test]
fn a_revoked_agents_jobs_go_to_others_and_nothing_of_them_stays() {
    let world = World::new("revoke");
    let _master = world.master();
    let mut agent = world.agent("one", &[PLATFORM], 1);
    let go = world.directory.join("go");
    let script = format!("echo $SAI_ATTEMPT; while [ ! -e {} ]; do sleep 0.02; done", go.display());
    world.repository.push_saifile(&saifile(&[&script]));
    eventually("the job runs", || world.event(1).filter(|event| event.jobs[0].state == "running"));
    world.command(&["agent", "revoke", "one"]);
    agent.await_line("revoked");
    let _other = world.agent("other", &[PLATFORM], 1);
    eventually("another has the job", || {
        world.event(1).filter(|event| event.jobs[0].agent.as_deref() == Some("other"))
    });
    eventually("it is gone where it was", || world.job_directories(&world.agent_state("one")).is_empty().then_some(()));
    fs::write(go, "").expect("a file");
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    assert_eq!(world.records(1).channel("stdout"), b"2\n");
    agent.kill();
    world.tidy(&[world.agent_state("one"), world.agent_state("other")]);
}

#[test]
fn saifiles_are_checked_and_expanded_without_a_master() {
    let world = World::new("lint");
    let file = world.directory.join("x.sai.json");
    let name = file.display().to_string();
    fs::write(
        &file,
        "{ \"schema\": \"sai-1\",\n  \"platforms\": { \"linux\": { \"build\": \"true\" } },\n  \"configurations\": {\n\
         \"a\": {}, \"b\": { \"branches\": \"main\" }, \"c\": { \"platforms\": \"linus\" } } }",
    )
    .expect("a saifile");
    let (status, out, err) = sai_master(&["lint", &name]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains(&format!("{name}:4:")) && out.contains("linus"), "{out}{err}");
    let (status, out, err) = sai_master(&["matrix", &name]);
    assert_eq!((status, out.as_str()), (0, "linux\ta\nlinux\tb\nlinux\tc\n"), "{err}");
    let (status, out, _) = sai_master(&["matrix", &name, "--ref", "refs/heads/topic"]);
    assert_eq!((status, out.as_str()), (0, "linux\ta\nlinux\tc\n"));
    fs::write(&file, "{ \"schema\": \"sai-1\",\n  \"platforms\": [,] }").expect("a saifile");
    let (status, out, err) = sai_master(&["lint", &name]);
    assert_eq!(status, 1, "{out}{err}");
    assert!(out.contains(&format!("{name}:2:17: ")) && out.contains("expected a value"), "{out}{err}");
    let (status, out, err) = sai_master(&["matrix", &name]);
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains(&format!("{name}:2:17: ")) && err.contains("expected a value"), "{err}");
    assert_eq!(sai_master(&["lint", "/nonexistent"]).0, 3);
    assert_eq!(sai_master(&["lint"]).0, 2);
    assert_eq!(sai_master(&["matrix", &name, "extra"]).0, 2);
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_place() {
    let world = World::new("configuration");
    let file = world.directory.join("wrong.json");
    let name = file.display().to_string();
    for (text, places) in [
        ("{\n  \"listen\": 12,\n  \"bogus\": 1\n}", &["2:13: listen: expected ", "3:3: bogus: expected one of "][..]),
        ("{ \"listen\": \"here\" }", &["1:13: listen: expected addresses as [::]:4433"]),
        (
            "{ \"repositories\": {\n\"x\": { \"url\": \"--upload-pack=x\" } } }",
            &["2:15: repositories.x.url: expected "],
        ),
        ("{ \"repositories\": {\n\"../x\": { \"url\": \"/x\" } } }", &["2:"]),
        (
            "{ \"orphan_s\": -1,\n \"keep\": { \"events\": 0 } }",
            &["1:15: orphan_s: expected ", "2:22: keep.events: expected "],
        ),
        ("{ \"orphan_s\": 39 }", &["1:15: orphan_s: expected 40 or more seconds"]),
        ("{ \"orphan_s\": 90,\n \"expire_s\": 60 }", &["2:14: expire_s: expected no less than orphan_s"]),
        ("{ \"builtin\": { \"platforms\": \"a b\" } }", &["1:29: builtin.platforms: expected "]),
        ("{ \"state\": \"x\"", &["1:15: expected "]),
        ("{ \"url\": \"http://x\" }", &["1:10: url: expected "]),
        ("", &["1:1: expected "]),
        ("\u{feff}{}\u{0}", &["1:3: expected "]),
    ] {
        fs::write(&file, text).expect("a configuration");
        let (status, out, err) = sai_master(&["--config", &name]);
        assert_eq!((status, out.as_str()), (2, ""), "{text}: {err}");
        for place in places {
            assert!(err.contains(&format!("{name}:{place}")), "{text}: {place} is not in {err}");
        }
    }
    fs::write(&file, [0xff, 0xfe]).expect("a configuration");
    let (status, _, err) = sai_master(&["--config", &name]);
    assert!(status == 2 && err.contains(&format!("{name}:1:1: ")), "{status} {err}");
    assert_eq!(sai_master(&["--config", "/nonexistent"]).0, 2);
    assert_eq!(sai_master(&["--listen", "x"]).0, 2);
}

#[test]
fn one_master_a_state_and_one_a_port() {
    let world = World::new("twice");
    let _master = world.master();
    let (status, _, err) = sai_master(&["--config", &world.configuration().display().to_string()]);
    assert_eq!(status, 3, "{err}");
    assert!(err.contains("another master has it open"), "{err}");
    let (status, _, err) = world.try_command(&["export"]);
    assert_eq!(status, 3, "{err}");
    assert!(err.contains("another master has it open"), "{err}");
    let other = world.directory.join("other");
    let listen = format!("127.0.0.1:{}", world.port);
    let (status, _, err) = sai_master(&["--state", &other.display().to_string(), "--listen", &listen]);
    assert_eq!(status, 3, "{err}");
    assert!(err.contains(&listen), "{err}");
}

#[test]
fn what_is_kept_goes_out_and_into_a_new_master() {
    let world = World::new("export");
    let mut master = world.master();
    let mut agent = world.agent("one", &[PLATFORM], 1);
    let token = world.command(&["user", "add", "ann"]);
    world.repository.push_saifile(&saifile(&["echo built", "exit 3"]));
    world.ended(1);
    world.repository.push_saifile("{ broken");
    eventually("the second push", || world.event(2));
    agent.kill();
    master.kill();
    let export = |state: &str| {
        let output = Command::new(program("sai-master")).args(["export", "--state", state]).output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let records = export(&world.state().display().to_string());
    assert!(records.iter().filter(|byte| **byte == b'\n').count() >= 6);
    let import = |state: &std::path::Path, records: &[u8]| {
        let mut command = Command::new(program("sai-master"));
        command.args(["import", "--state"]).arg(state).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        // One that refuses what it reads may end before it has read all of it.
        let _ = child.stdin.take().expect("a pipe").write_all(records);
        let output = child.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let new = world.directory.join("new");
    let (status, said) = import(&new, &records);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = import(&new, &records);
    assert_eq!(status, Some(1), "only into an empty state: {said}");
    assert!(export(&new.display().to_string()) == records, "what came in goes out again");
    let broken = world.directory.join("broken");
    let (status, said) = import(&broken, b"{\"event\": 1}\nnonsense\n");
    assert!(status == Some(1) && said.contains("standard input:1"), "{said}");
    let mut torn = records.clone();
    torn.truncate(records.len() - 10);
    let (status, said) = import(&broken, &torn);
    assert_eq!(status, Some(1), "{said}");
    // The new master knows all of it; logs are files, and come along by copying.
    let mut world = world;
    run(Command::new("cp").arg("-r").arg(world.state().join("logs")).arg(world.state().join("saifiles")).arg(&new));
    fs::rename(world.state(), world.directory.join("old")).expect("the old state goes");
    fs::rename(&new, world.state()).expect("the new one comes");
    world.set("builtin", &format!("{{\"platforms\": [{PLATFORM:?}]}}"));
    let _master = world.master();
    assert_eq!(world.event(1).expect("the event").jobs[0].state, "failed");
    assert_eq!(world.records(1).channel("stdout"), b"built\n");
    assert!(!world.event(2).expect("the other event").event.errors.is_empty());
    assert_eq!(world.post("/api/v1/jobs/1/rebuild", Some(&token)).0, 200);
    eventually("it is run again", || {
        world.event(1).filter(|event| event.jobs[0].attempt == 2 && event.jobs[0].ended())
    });
    // New numbers go on after the old ones.
    world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(world.ended(3).jobs[0].state, "passed");
}

#[test]
fn what_retention_does_not_keep_is_deleted_with_its_files() {
    let mut world = World::new("gc");
    world.set("builtin", &format!("{{\"platforms\": [{PLATFORM:?}]}}"));
    let mut master = world.master();
    for number in 1..=4 {
        world.repository.write("more", format!("{number}"));
        world.repository.push_saifile(
            r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "echo built > file; echo built" } },
                 "configurations": { "default": { "artifacts": "file" } } }"#,
        );
        assert_eq!(world.ended(number).jobs[0].state, "passed");
    }
    let said = world.command(&["gc"]);
    assert!(said.contains('0'), "nothing is too much yet: {said}");
    assert!(world.event(1).is_some());
    master.kill();
    world.set("keep", "{\"events\": 2}");
    let alive = world.master();
    world.command(&["gc"]);
    let left = || -> Vec<u64> { (1..=4).filter(|id| world.event(*id).is_some()).collect() };
    eventually("two are left", || (left() == [3, 4]).then_some(()));
    for (directory, names) in [("logs", ["3-1", "4-1"]), ("artifacts", ["3-1", "4-1"]), ("saifiles", ["3", "4"])] {
        eventually(directory, || {
            let entries = fs::read_dir(world.state().join(directory)).expect("a directory");
            let found: BTreeSet<String> = entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().split('.').next().unwrap_or_default().to_string())
                .collect();
            (found == names.iter().map(ToString::to_string).collect()).then_some(())
        });
    }
    assert!(world.get("/job/1/log").is_none() && world.get("/job/4/log").is_some());
    drop(alive);
    // Without a running master, too; and numbers are never used again.
    world.set("keep", "{\"events\": 1}");
    world.command(&["gc"]);
    let _master = world.master();
    assert!(world.event(3).is_none() && world.event(4).is_some());
    world.repository.write("more", "5");
    world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(world.ended(5).jobs[0].id, 5);
}

#[test]
fn programs_explain_themselves() {
    for (name, words) in [("sai-master", ["--help", "--version"]), ("sai-agent", ["--help", "--version"])] {
        for word in words {
            let output = Command::new(program(name)).arg(word).output().expect("it runs");
            assert!(output.status.success() && output.stderr.is_empty(), "{name} {word}");
            assert!(String::from_utf8_lossy(&output.stdout).contains(name), "{name} {word}");
        }
    }
}

#[test]
fn agents_and_attempts_are_managed_by_the_api_as_by_the_page() {
    let world = World::new("api-deeds");
    let _master = world.master();
    let [admin, builder, foreign] = ["admin", "builder", "builder@other"]
        .map(|role| world.command(&["user", "add", &format!("a-{}", role.replace('@', "-")), role]));
    let agent = |what: &str, token: &str| world.post(&format!("/api/v1/agents/{what}"), Some(token));
    let state = |wanted: &str| {
        let found = world.agents().into_iter().find(|agent| agent.name == "shed").map(|agent| agent.state);
        eventually(&format!("it is {wanted}, not {found:?}"), || {
            world.agents().iter().any(|agent| agent.name == "shed" && agent.state == wanted).then_some(())
        });
    };
    for what in ["add", "revoke", "set-aside", "take-back"] {
        let (status, said) = agent(&format!("shed/{what}"), &builder);
        assert!(status == 403 && said.contains("this takes an admin"), "{what}: {status} {said}");
    }
    assert!(world.agents().iter().all(|agent| agent.name != "shed"));
    let (status, said) = agent("shed/add", &admin);
    let line = said.strip_prefix("{\"done\":\"").and_then(|rest| rest.strip_suffix("\",\"job\":null}"));
    let line = line.expect("what was done");
    assert!(status == 200 && line.starts_with(&format!("sai1:127.0.0.1:{}:shed:", world.port)), "{said}");
    assert_eq!(agent("shed/add", &admin).0, 409, "one of a name");
    // A machine joins with it as with any other, and does what it is told to by the same way.
    world.repository.push_saifile(&saifile(&["while [ ! -e go ]; do sleep 0.05; done"]));
    let shed = world.agent_by("shed", line, &[PLATFORM], 1);
    let job = |attempt: u32, wanted: &str| {
        let event = eventually(&format!("attempt {attempt} is {wanted}"), || {
            let event = world.event(1)?;
            event.jobs.iter().all(|job| job.attempt == attempt && job.state == wanted).then_some(event)
        });
        event.jobs[0].id
    };
    let id = job(1, "running");
    let attempt =
        |number: u32, token: &str| world.post(&format!("/api/v1/jobs/{id}/cancel?attempt={number}"), Some(token));
    assert_eq!(attempt(1, &foreign).0, 403);
    assert_eq!(attempt(1, &builder).0, 200);
    job(1, "cancelled");
    assert_eq!(world.post(&format!("/api/v1/jobs/{id}/rebuild"), Some(&builder)).0, 200);
    job(2, "running");
    let (status, said) = attempt(1, &builder);
    assert!(status == 409 && said.contains("attempt 2 is under way"), "{status} {said}");
    job(2, "running");
    assert_eq!(agent("shed/set-aside", &admin).0, 200);
    state("aside");
    assert_eq!(agent("shed/take-back", &admin).0, 200);
    state("busy");
    assert_eq!(agent("shed/revoke", &admin).0, 200);
    state("revoked");
    drop(shed);
    // All of that is on record, with who did it, and the line is not.
    let url = format!("https://127.0.0.1:{}/api/v1/actions", world.port);
    let mut asked = Command::new("curl");
    let actions = run(asked.args(["-ksSf", "-H", &format!("authorization: Bearer {admin}"), &url]));
    for what in ["shed", "attempt 1", "aside"] {
        assert!(actions.contains(what), "{what}: {actions}");
    }
    assert!(!actions.contains(line) && actions.contains("\"who\":\"a-builder\""), "{actions}");
}
