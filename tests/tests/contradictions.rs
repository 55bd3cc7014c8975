//! What cannot be → a sentence wherever people look, and all else goes on: over real processes, whose state was changed under
//! them, or whose edges make a mistake.

use sai_tests::process::{eventually, program};
use sai_tests::world::World;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

const PLATFORM: &str = "linux-debian-12/x86_64/gcc";

/// In builds for tests: machines whose edge makes a mistake. With it, programs go on after one, as what people have does.
const MISTAKES: &str = "SAI_TESTS_MISTAKES";

/// What is said of a mistake, up to what it is.
const SENTENCE: &str = "Sai contradicts itself (";

/// A saifile of these configurations, all of which print their name.
fn file(configurations: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": \"echo ${{name}}\"}}}}, \
         \"configurations\": {{{configurations}}}}}"
    )
}

/// A world whose master has two queued jobs, of which the record of the first is in a state that no record is ever in.
fn contradicting(name: &str) -> World {
    let world = World::new(name);
    let mut master = world.master();
    world.repository.push_saifile(&file("\"a\": {\"name\": \"A\"}, \"b\": {\"name\": \"B\"}"));
    eventually("the push becomes an event", || world.event(1));
    // A start puts back what a power cut may have taken of a new event's files. After one nothing does.
    master.kill();
    master = world.master();
    master.kill();
    let records = world.command(&["export"]);
    let changed = records.replacen("\"state\":\"Queued\"", "\"state\":\"Blocked\"", 1);
    assert_ne!(changed, records);
    let input = world.directory.join("records.jsonl");
    fs::write(&input, format!("{changed}\n")).expect("written");
    let (state, new) = (world.state(), world.directory.join("new"));
    let mut import = Command::new(program("sai-master"));
    import.args(["import", "--state"]).arg(&new).stdin(fs::File::open(&input).expect("a file"));
    let import = import.output().expect("sai-master runs");
    assert!(import.status.success(), "{import:?}");
    fs::remove_dir_all(new.join("saifiles")).ok();
    fs::rename(state.join("saifiles"), new.join("saifiles")).expect("the event's files");
    fs::rename(&state, world.directory.join("old")).expect("the state before");
    fs::rename(&new, &state).expect("the state");
    world
}

#[test]
fn a_masters_contradiction_is_in_its_log_on_every_page_in_its_status_and_among_its_measures() {
    let mut world = contradicting("contradiction");
    world.variables.push((MISTAKES, ""));
    let master = world.master();
    let told = format!("{SENTENCE}restore: the job has ended)");
    let said = |master: &sai_tests::process::Process| master.said().iter().filter(|line| line.contains(&told)).count();
    eventually("its log has it", || (said(&master) > 0).then_some(()));
    for page in ["/", "/agents", "/units", "/event/1", "/job/1", "/job/2", "/sign-in", "/docs"] {
        let text = world.page(page);
        assert!(text.contains(&told), "{page}: {text}");
    }
    let status = world.command(&["status"]);
    let notices: Vec<&str> = status.lines().filter(|line| line.starts_with("notice\t")).collect();
    assert!(matches!(notices[..], [line] if line.contains(&told)), "{status}");
    let measures = world.page("/metrics");
    assert!(measures.lines().any(|line| line == "sai_bugs 1"), "{measures}");
    assert_eq!(said(&master), 1, "once");
    // All else goes on.
    let _agent = world.agent("one", &[PLATFORM], 1);
    eventually("the other job passes", || world.event(1).filter(|event| event.jobs[1].state == "passed"));
    assert_eq!(world.log(2), b"B\n");
}

#[test]
fn tests_end_with_a_contradiction() {
    let world = contradicting("end");
    let mut master = sai_tests::process::Process::start(
        "master",
        Command::new(program("sai-master")).arg("--config").arg(world.configuration()).stdout(Stdio::null()),
    );
    let status = master.wait();
    assert_eq!((status.code(), status.signal()), (Some(70), None), "{:?}", master.said());
    assert!(master.said().iter().any(|line| line.contains(SENTENCE)), "{:?}", master.said());
}

#[test]
fn an_agents_contradiction_is_in_its_log_and_in_its_next_greeting() {
    let mut world = World::new("greeting");
    world.variables.push((MISTAKES, "session"));
    let mut master = world.master();
    let agent = world.agent("one", &[PLATFORM], 1);
    let told = format!("{SENTENCE}disconnected: no link was asked for)");
    assert!(!world.page("/agents").contains(&told));
    master.kill();
    agent.await_line(&told);
    let _master = world.master();
    agent.await_line("connected as");
    eventually("its greeting tells of it", || world.page("/agents").contains(&told).then_some(()));
    let list = world.command(&["agent", "list"]);
    assert!(list.contains(&told), "{list}");
    // It works as before.
    world.repository.push_saifile(&file("\"a\": {\"name\": \"A\"}"));
    assert_eq!(world.ended(1).jobs[0].state, "passed");
}

#[test]
fn a_supervisors_contradiction_is_in_its_jobs_log() {
    let mut world = World::new("noted");
    world.variables.push((MISTAKES, "run,fetching"));
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let build = "\"build\": \"echo made > made; test -z '${of}' || cat $SAI_NEEDS/a/linux/made\"";
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{{build}}}}}, \"configurations\": {{\
         \"a\": {{\"artifacts\": \"made\", \"of\": \"\"}}, \"b\": {{\"needs\": \"a\", \"of\": \"a\"}}}}}}"
    ));
    let event = world.ended(1);
    let states: Vec<&str> = event.jobs.iter().map(|job| job.state.as_str()).collect();
    assert_eq!(states, ["passed", "passed"]);
    let log = |job: u64| String::from_utf8(run_log(&world, job)).expect("text");
    let (first, second) = (log(1), log(2));
    assert!(first.contains(&format!("{SENTENCE}begin: it has begun)")), "{first}");
    // The agent fetched the other's file for it.
    assert!(second.contains(&format!("{SENTENCE}begin: the file is wanted already)")), "{second}");
    assert_eq!(world.log(2), b"made\n");
}

/// All of a job's log as its page shows it, notes too.
fn run_log(world: &World, job: u64) -> Vec<u8> {
    world.get(&format!("/job/{job}")).expect("a page")
}
