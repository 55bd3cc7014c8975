//! A push becomes jobs on agents: who builds what, with what around it, and what is kept of it.

use crate::PLATFORM;
use sai_tests::process::{PATIENCE, eventually};
use sai_tests::repository::{run, saifile};
use sai_tests::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

#[test]
fn a_push_is_built_by_an_agent_that_joined() {
    let world = World::new("push");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 2);
    let revision = world.repository.push_saifile(&saifile(&["printf 'a\\0b\\xff no newline'", "echo err >&2"]));
    let event = world.ended(1);
    assert_eq!(event.event.revision, revision);
    assert_eq!(event.event.reference, "refs/heads/main");
    let states: Vec<&str> = event.jobs.iter().map(|job| job.state.as_str()).collect();
    assert_eq!(states, ["passed"], "{event:?}");
    assert_eq!(event.jobs[0].agent.as_deref(), Some("one"));
    let log = world.records(1);
    assert_eq!(log.channel("stdout"), b"a\0b\xff no newline");
    assert_eq!(log.channel("stderr"), b"err\n");
    assert_eq!((log.steps, log.statuses), (vec![0, 1], vec![0, 0]));
    world.tidy(&[world.agent_state("one")]);
}

#[test]
fn three_agents_share_a_push_and_the_one_inside_offers_the_host() {
    let mut world = World::new("share");
    world.set("builtin", "{\"slots\": 2}");
    let master = world.master();
    master.await_said_for(PATIENCE, "built-in: connected as built-in");
    let _one = world.agent("one", &[PLATFORM], 2);
    let _two = world.agent("two", &["linux-other-2/x86_64/gcc"], 2);
    // Each job waits until six of them have begun: that takes all the slots of all three.
    let together = world.directory.join("together");
    std::fs::create_dir(&together).expect("a directory");
    let script = format!(
        "touch {0}/$SAI_JOB; while [ $(ls {0} | wc -l) -lt 6 ]; do sleep 0.02; done; echo built for $SAI_PLATFORM",
        together.display()
    );
    let names: Vec<String> = (0..6).map(|number| format!("\"c{number}\": {{}}")).collect();
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux//gcc\": {{\"build\": {script:?}}}}}, \"configurations\": {{{}}}}}",
        names.join(", ")
    ));
    let event = world.ended(1);
    assert!(event.jobs.iter().all(|job| job.state == "passed"), "{event:?}");
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &event.jobs {
        *shares.entry(job.agent.as_deref().unwrap_or("nobody")).or_default() += 1;
        assert_eq!(world.records(job.id).channel("stdout"), b"built for linux//gcc\n");
    }
    assert_eq!(shares, BTreeMap::from([("built-in", 2), ("one", 2), ("two", 2)]));
    let host = world.agents().into_iter().find(|agent| agent.name == "built-in").expect("the agent inside");
    assert!(host.platforms.iter().any(|platform| platform.starts_with("linux")), "{host:?}");
    let inside = world.state().join("agent");
    world.tidy(&[inside, world.agent_state("one"), world.agent_state("two")]);
}

#[test]
fn steps_see_the_documented_environment_and_nothing_else() {
    let world = World::new("environment");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let revision = world.repository.push_saifile(
        r#"{ "schema": "sai-1",
             "platforms": { "linux": { "build": ["env -0", "echo ${cmake}/${mine}/${nobodys}/$PWD; pwd >&2"],
                                       "env": { "ONE": "platform", "BOTH": "platform" } } },
             "configurations": { "debug": { "cmake": "-D A=\"b c\"", "mine": "own",
                                            "env": { "BOTH": "configuration", "nobodys": "of the shell" } } } }"#,
    );
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    let log = world.records(1);
    let printed = String::from_utf8(log.channel("stdout").to_vec()).expect("UTF-8");
    let (variables, rest) = printed.rsplit_once('\0').expect("what env -0 prints");
    let variables: BTreeMap<&str, &str> = variables.split('\0').filter_map(|line| line.split_once('=')).collect();
    for (name, value) in [
        ("SAI_PROJECT", "project"),
        ("SAI_REF", "refs/heads/main"),
        ("SAI_COMMIT", revision.as_str()),
        ("SAI_PLATFORM", "linux"),
        ("SAI_CONFIGURATION", "debug"),
        ("SAI_JOB", "1"),
        ("SAI_ATTEMPT", "1"),
        ("SAI_INSTANCE_IDX", "0"),
        ("CI", "true"),
        ("ONE", "platform"),
        ("BOTH", "configuration"),
    ] {
        assert_eq!(variables.get(name), Some(&value), "{name} of {variables:?}");
    }
    assert!(variables.get("SAI_PARALLEL").is_some_and(|cores| cores.parse::<u32>().is_ok_and(|cores| cores > 0)));
    let job = world.agent_state("one").join("jobs/1-1");
    for name in ["HOME", "TMPDIR", "PWD"] {
        assert!(variables.get(name).is_some_and(|path| path.starts_with(&job.display().to_string())), "{name}");
    }
    // What cargo gives this test, and with it the agent, is nobody's business.
    assert!(variables.keys().all(|name| !name.starts_with("CARGO")), "{variables:?}");
    let place = String::from_utf8(log.channel("stderr").to_vec()).expect("UTF-8");
    assert_eq!(rest, format!("-D A=b c/own/of the shell/{place}"));
}

#[test]
fn artifacts_are_kept_and_downloaded_whole_and_in_ranges() {
    let world = World::new("artifacts");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(
        r#"{ "schema": "sai-1",
             "platforms": { "linux": { "build": [
                 "mkdir -p out/deep; seq 200000 > out/numbers; printf x > 'out/deep/a & b'; : > out/empty; chmod +x out/numbers",
                 "echo first > rewritten; ln -s /etc/passwd out/link",
                 "echo second > rewritten" ] } },
             "configurations": { "default": { "artifacts": "out/**, rewritten, nothing/*" } } }"#,
    );
    let job = world.ended(1).jobs.remove(0);
    assert_eq!(job.state, "passed", "{job:?}");
    let names: BTreeSet<&str> = job.artifacts.iter().map(|kept| kept.path.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["out/deep/a & b", "out/empty", "out/numbers", "rewritten"]));
    let kept = |name: &str| job.artifacts.iter().find(|kept| kept.path == name).expect("a file");
    let numbers = kept("out/numbers");
    let file = world.directory.join("download");
    let url = format!("https://127.0.0.1:{}{}", world.port, numbers.download);
    let curl = |options: &[&str]| run(Command::new("curl").args(["-ksSf"]).args(options).arg(&url));
    curl(&["-o", &file.display().to_string()]);
    let sum = run(Command::new("sha256sum").arg(&file));
    assert_eq!(sum.split(' ').next(), Some(numbers.sha256.as_str()));
    let whole = std::fs::read(&file).expect("the download");
    assert_eq!(whole.len() as u64, numbers.size);
    assert_eq!(curl(&["-r", "1000-1009"]).as_bytes(), &whole[1000..1010]);
    assert_eq!(curl(&["-r", "-7"]).as_bytes(), whole[whole.len() - 7..].trim_ascii_end());
    // A download that broke off goes on.
    std::fs::write(&file, &whole[..777_777]).expect("a part");
    curl(&["-C", "-", "-o", &file.display().to_string()]);
    assert!(std::fs::read(&file).expect("the download") == whole);
    let head = curl(&["-I", "-r", "5-"]).to_lowercase();
    assert!(
        head.contains("206") && head.contains(&format!("content-range: bytes 5-{}/{}", whole.len() - 1, whole.len()))
    );
    assert!(head.contains("content-disposition: attachment") && head.contains("sandbox"), "{head}");
    let status =
        Command::new("curl").args(["-ksS", "-o", "/dev/null", "-w", "%{http_code}", "-r", "99999999-", &url]).output();
    assert_eq!(status.expect("curl").stdout, b"416");
    assert_eq!(world.get(&kept("rewritten").download).as_deref(), Some(b"second\n".as_slice()));
    assert_eq!(world.get(&kept("out/empty").download).as_deref(), Some(b"".as_slice()));
    assert_eq!(world.get(&kept("out/deep/a & b").download).as_deref(), Some(b"x".as_slice()));
}

#[test]
fn a_log_over_its_limit_says_so_and_the_job_goes_on_or_fails() {
    for (fails, state) in [("false", "passed"), ("true", "failed")] {
        let mut world = World::new("limit");
        world.set("log_bytes", "20000");
        world.set("log_limit_fails", fails);
        let _master = world.master();
        let _agent = world.agent("one", &[PLATFORM], 1);
        world.repository.push_saifile(&saifile(&["yes | head -c 300000; echo end >&2; sleep 0.1; touch made"]));
        let job = world.ended(1).jobs.remove(0);
        assert_eq!(job.state, state, "{job:?}");
        let log = world.records(1);
        assert!(log.notes.iter().any(|note| note.contains("log limit of 20000 bytes reached")), "{:?}", log.notes);
        assert!((15_000..=20_000).contains(&log.text.len()), "{}", log.text.len());
        assert!(world.page("/job/1").contains("log limit of 20000 bytes reached"));
    }
}

#[test]
fn jobs_of_two_repositories_take_turns() {
    let mut world = World::new("fair");
    let other = sai_tests::repository::Repository::new(&{
        let directory = world.directory.join("second");
        std::fs::create_dir(&directory).expect("a directory");
        directory
    });
    world.set(
        "repositories",
        &format!("{{\"project\": {{\"url\": {:?}}}, \"other\": {{\"url\": {:?}}}}}", world.repository.bare, other.bare),
    );
    let _master = world.master();
    other.install_hook(&format!("https://127.0.0.1:{}", world.port), "other");
    let order = world.directory.join("order");
    let script = format!(
        "echo $SAI_PROJECT >> {}; while [ ! -e {}/go ]; do sleep 0.02; done",
        order.display(),
        world.directory.display()
    );
    let names: Vec<String> = (0..6).map(|number| format!("\"c{number}\": {{}}")).collect();
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {script:?}}}}}, \"configurations\": {{{}}}}}",
        names.join(", ")
    ));
    eventually("the first push", || world.event(1));
    other.push_saifile(&saifile(&[&script]));
    eventually("the second push", || world.event(2));
    // Two at once: one of each repository, although the six of the first were there before.
    let _agent = world.agent("one", &[PLATFORM], 2);
    eventually("two run", || {
        let lines = std::fs::read_to_string(&order).unwrap_or_default();
        (lines.lines().count() == 2).then_some(())
    });
    let ran = std::fs::read_to_string(&order).expect("two lines");
    assert_eq!(ran.lines().collect::<BTreeSet<_>>(), BTreeSet::from(["other", "project"]));
    std::fs::write(world.directory.join("go"), "").expect("a file");
    world.ended(1);
    world.ended(2);
}
