//! A disk fails to flush what a real master or agent wrote, and loses it although it can still be read: nothing of it was
//! acknowledged, nobody takes it for durable later, and all jobs end with every byte, whatever the power does then.

use crate::agent::{Machine, running};
use crate::disk::{Disk, Fault};
use sai_tests::process::{Process, eventually};
use sai_tests::random::{Random, seed};
use sai_tests::world::{Event, World};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PLATFORM: &str = "linux-test-1/x86_64/gcc";
/// Lines that each job prints.
const LINES: usize = 600;
/// How long a push may take, with a job that is tried again.
const ENDS_WITHIN: Duration = Duration::from_secs(100);
/// What a disk's failure is called.
const FAILURE: &str = "os error 5";

/// Pushes two jobs, which end when this file is there.
fn push(world: &World, number: u64, end: &Path) {
    let build = format!(
        "i=0; while [ $i != {LINES} ]; do echo \"line $i of $SAI_CONFIGURATION\"; i=$((i+1)); \
         [ $((i % 200)) != 0 ] || sleep 0.06; done; while [ ! -e {end} ]; do sleep 0.02; done; seq 100000 > out",
        end = end.display()
    );
    // So much that the records of a push are several pages of the disk.
    let long = "long ".repeat(2000);
    world.repository.push_saifile(&format!(
        "# {number} {long}\n{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {build:?}}}}}, \
         \"configurations\": {{\"a\": {{\"artifacts\": \"out\"}}, \"b\": {{\"artifacts\": \"out\"}}}}}}"
    ));
}

fn check(world: &World, event: &Event) {
    for job in &event.jobs {
        assert_eq!(job.state, "passed", "{job:?}");
        let text = String::from_utf8(world.records(job.id).channel("stdout").to_vec()).expect("no foreign bytes");
        let wanted: String = (0..LINES).map(|line| format!("line {line} of {}\n", job.configuration)).collect();
        assert!(text == wanted, "the log of job {}", job.id);
        let kept = world.get(&job.artifacts[0].download).expect("the file");
        let wanted: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
        assert!(kept == wanted.as_bytes(), "the file of job {}", job.id);
    }
}

fn has_said(process: &Process, words: &str) -> bool {
    process.said().iter().any(|line| line.contains(words))
}

/// Saifile and plan of an event.
fn files(world: &World, event: u64) -> Vec<Vec<u8>> {
    let path = |end: &str| -> PathBuf { world.state().join("saifiles").join(format!("{event}.{end}")) };
    ["json", "plan.json"].map(|end| fs::read(path(end)).unwrap_or_default()).to_vec()
}

#[test]
fn what_a_master_could_not_flush_is_told_and_was_never_acknowledged() {
    let world = World::new("failing");
    let mut random = Random::new(seed("failing", 5));
    let Some(mut disk) = Disk::mount(&world.state()) else { return };
    let mut master = world.master();
    let agent = world.agent("one", &[PLATFORM], 2);
    // Each with whether it is told. What a start writes anew, and what is kept in two places until it is durable, need not be.
    let faults = [
        (Fault::Flush("/journal/"), true),
        (Fault::FlushUnheard("/journal/"), false),
        (Fault::Flush("/logs/"), true),
        (Fault::FlushUnheard("/logs/"), false),
        (Fault::Flush("/artifacts/"), true),
        (Fault::Flush("/lengths"), true),
        (Fault::Flush("/saifiles/"), false),
    ];
    let mut last = 0;
    for (number, (fault, is_told)) in (1..).zip(faults) {
        disk.plan(Some((1 + random.below(8), fault)));
        push(&world, number, &world.directory);
        let (mut told, begun) = (String::new(), Instant::now());
        let event = eventually("both jobs end", || {
            if let Some(status) = master.ended() {
                assert!(!status.success(), "its status says so too");
                told += &master.said().join("\n");
                master = world.master();
            }
            // A number that was given to what was lost is not given again.
            let newest = world.events().first().map(|event| event.id).filter(|id| *id > last);
            let event = newest.and_then(|id| world.event(id));
            let said = || {
                let (master, agent) = (master.said().join("\n"), agent.said().join("\n"));
                format!("{event:?}, struck: {}\nthe master:\n{told}\n{master}\nthe agent:\n{agent}", disk.struck())
            };
            assert!(begun.elapsed() < ENDS_WITHIN, "{fault:?}: it does not end: {}", said());
            event.filter(|event| disk.struck() && !event.jobs.is_empty() && event.jobs.iter().all(|job| job.ended()))
        });
        disk.heal();
        told += &master.said().join("\n");
        assert!(!is_told || told.contains(FAILURE), "{fault:?}: {told}");
        check(&world, &event);
        last = event.event.id;
        let before = files(&world, last);
        assert!(before.iter().all(|bytes| !bytes.is_empty()), "saifile and plan are there");
        // All of it is durable: that it has ended is told when it is. A new process makes nothing durable of what only the page
        // cache has, and the power shows that.
        for cut in [false, true] {
            master.kill();
            if cut {
                disk.cut(&mut random);
            }
            master = world.master();
            let said = master.said().join("\n");
            let bad = ["lacks", "is damaged", "without a record", "cannot be"];
            assert!(!bad.iter().any(|word| said.contains(word)), "{fault:?}, {cut}: {said}");
            check(&world, &world.event(last).expect("it is known"));
            assert!(files(&world, last) == before, "{fault:?}, {cut}: saifile and plan");
        }
    }
    drop(agent);
    master.kill();
}

#[test]
fn what_an_agent_could_not_flush_is_given_up_and_built_again() {
    let mut world = World::new("failing-agent");
    let mut random = Random::new(seed("failing-agent", 9));
    let mut master = world.master();
    let Some(mut machine) = Machine::new(&mut world) else { return };
    let world = machine.world;
    // Each with whether its agent is killed, too, before the power goes.
    let faults = [
        (Fault::Flush("/spool/"), false),
        (Fault::Flush("/artifacts/"), true),
        (Fault::FlushUnheard("/spool/"), false),
    ];
    for (number, (fault, killed)) in (1..).zip(faults) {
        let end = world.directory.join(format!("end-{number}"));
        push(world, number, &end);
        running(world, number);
        machine.disk.plan(Some((1, fault)));
        // It is away while they end, so that all that it gets is what the agent takes for durable.
        master.kill();
        fs::write(&end, "").expect("written");
        eventually("both jobs have ended, and one without being durable", || {
            let given_up = has_said(&machine.agent, sai_agent::job_directory::UNFLUSHED);
            let directories = world.job_directories(&world.agent_state("one"));
            let durable = directories.iter().filter(|directory| directory.join("ended").exists()).count();
            (given_up && durable == 1).then_some(())
        });
        assert!(machine.disk.heal().1, "a flush has failed");
        let heard = matches!(fault, Fault::Flush(_));
        assert_eq!(has_said(&machine.agent, FAILURE), heard, "{}", machine.agent.said().join("\n"));
        if killed {
            machine.agent.kill();
            machine.agent = world.agent_starts("one");
            eventually("it is still given up", || {
                has_said(&machine.agent, sai_agent::job_directory::UNFLUSHED).then_some(())
            });
        }
        machine.cut(&mut random);
        master = world.master();
        machine.boot();
        let event = world.ended(number);
        check(world, &event);
        let mut attempts: Vec<u32> = event.jobs.iter().map(|job| job.attempt).collect();
        attempts.sort_unstable();
        assert_eq!(attempts, [1, 2], "{fault:?}: one had ended, the other runs again");
        let said = master.said().join("\n");
        let bad = ["malformed", "unknown kind", "digest", "lost bytes", "shorter than it was"];
        assert!(!bad.iter().any(|word| said.contains(word)), "{fault:?}: {said}");
    }
    world.tidy(&[world.agent_state("one")]);
    machine.agent.kill();
    master.kill();
}
