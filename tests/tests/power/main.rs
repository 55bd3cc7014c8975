//! The power of a real master's disk fails at random moments: what was acknowledged is there, and nothing else is taken for it.
//!
//! `SAI_ROUNDS` sets how many cuts there are, `SAI_SEED` which; the seed is printed.

mod agent;
mod changes;
mod disk;
mod failing;

use disk::Disk;
use sai_tests::process::eventually;
use sai_tests::random::{Random, rounds, seed};
use sai_tests::world::World;
use std::fs;
use std::time::Duration;

const PLATFORM: &str = "linux-test-1/x86_64/gcc";
/// Pushes with a cut after each.
const PUSHES: u64 = 5;
/// Cuts while two jobs run.
const CUTS: u64 = 24;

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let world = World::new("power");
    let seed = seed("power", 7);
    let mut random = Random::new(seed);
    let Some(mut disk) = Disk::mount(&world.state()) else { return };
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 2);
    let stop = world.directory.join("stop");
    // Each prints numbered lines, now many and now few, until it is told to end, and leaves a file of its own.
    let build = format!(
        "i=0; while [ ! -e {stop} ]; do echo \"line $i of $SAI_CONFIGURATION\"; i=$((i+1)); \
         [ $((i % 700)) != 0 ] || sleep 0.0$((RANDOM % 9)); done; echo \"$i lines\"; seq 200000 > out",
        stop = stop.display()
    );
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {build:?}}}}}, \
         \"configurations\": {{\"a\": {{\"artifacts\": \"out\"}}, \"b\": {{\"artifacts\": \"out\"}}}}}}"
    ));
    eventually("both jobs run", || world.event(1).filter(|event| event.jobs.iter().all(|job| job.state == "running")));
    let mut users = Vec::new();
    for cut in 0..rounds(CUTS) {
        std::thread::sleep(Duration::from_millis(random.below(250)));
        if random.once_in(3) {
            let name = format!("user-{cut}");
            world.command(&["user", "add", &name]);
            users.push(name);
        }
        master.kill();
        disk.cut(&mut random);
        master = world.master();
        let said = master.said().join("\n");
        // The index may be, and is made again; what it is made from may not.
        let bad = ["lacks", ".lines is damaged", ".snapshot is damaged", "without a record", "not known any more"];
        assert!(!bad.iter().any(|word| said.contains(word)), "cut {cut}: {said}");
    }
    eventually("the agent is back", || world.agents().iter().any(|agent| agent.running.len() == 2).then_some(()));
    fs::write(&stop, "").expect("written");
    // The end of a job, its file and its digest, in the same weather.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(random.below(200)));
        master.kill();
        disk.cut(&mut random);
        master = world.master();
    }
    let event = world.ended(1);
    for job in &event.jobs {
        assert_eq!((job.state.as_str(), job.attempt), ("passed", 1), "{job:?}");
        let records = world.records(job.id);
        let text = String::from_utf8(records.channel("stdout").to_vec()).expect("no foreign bytes");
        let count = text.lines().count() - 1;
        for (number, line) in text.lines().take(count).enumerate() {
            assert_eq!(line, format!("line {number} of {}", job.configuration));
        }
        assert!(text.ends_with(&format!("\n{count} lines\n")), "{count} lines");
        let kept = world.get(&job.artifacts[0].download).expect("the file");
        let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
        assert!(kept == wanted.as_bytes(), "the file of job {}", job.id);
    }
    let known = world.command(&["user", "list"]);
    assert!(users.iter().all(|user| known.lines().any(|line| line.split_whitespace().next() == Some(user))), "{known}");
    master.kill();
}

#[test]
fn a_power_cut_takes_no_push_of_which_a_hook_was_told() {
    let world = World::new("power-pushes");
    let mut random = Random::new(seed("power-pushes", 3));
    let Some(mut disk) = Disk::mount(&world.state()) else { return };
    let mut master = world.master();
    for push in 1..=PUSHES {
        // No agent: all that a start has to go on with is what the master wrote. One is larger than what goes with its record.
        let long = if push == 2 { "# ".to_string() + &"long ".repeat(8 << 10) + "\n" } else { String::new() };
        world.repository.push_saifile(&format!(
            "{long}{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": \"echo push {push}\"}}}}, \
             \"configurations\": {{\"a\": {{}}}}}}"
        ));
        eventually("the event is told", || world.event(push));
        master.kill();
        disk.cut(&mut random);
        master = world.master();
        let said = master.said().join("\n");
        let bad = ["lacks", "is damaged", "without a record", "cannot be"];
        assert!(!bad.iter().any(|word| said.contains(word)), "push {push}: {said}");
    }
    let _agent = world.agent("one", &[PLATFORM], 2);
    for push in 1..=PUSHES {
        let job = world.ended(push).jobs[0].clone();
        assert_eq!((job.state.as_str(), job.attempt), ("passed", 1), "{job:?}");
        let records = world.records(job.id);
        assert_eq!(records.channel("stdout"), format!("push {push}\n").as_bytes());
    }
    master.kill();
}
