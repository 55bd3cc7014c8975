//! Two hundred jobs in containers, one after the other in four slots: the machine and the agents are as they were.

#[path = "../../agent/tests/roots/mod.rs"]
mod roots;

use sai_tests::process::program;
use sai_tests::repository::run;
use sai_tests::world::World;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What makes containers, and so the agents' names.
const RUNNERS: [&str; 2] = ["nspawn", "bwrap"];
/// Slots of each agent.
const SLOTS: u32 = 4;
/// Jobs of a push at each agent, and pushes after the first, which warms caches.
const JOBS: usize = 25;
const PUSHES: u64 = 4;
/// How long those of a push may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(300);
/// KiB that an agent may have grown by: less than eight for each job.
const GROWN_KIB: u64 = 8 * JOBS as u64 * PUSHES;

/// What of the machine a job could use up for ever: mounts, names below /run, cgroups without a process, and names in the
/// agents' directories, without the log and the mirror, in which jobs have no part.
type Used = BTreeSet<String>;

fn used(world: &World) -> Used {
    let directory = world.directory.to_str().expect("text");
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts");
    // It complains of what vanishes meanwhile, which is nothing that is left.
    let find = |arguments: &[&str]| {
        let output = Command::new("find").args(arguments).output().expect("find can be run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let states = RUNNERS.map(|runner| world.agent_state(runner));
    let places: Vec<&str> = states.iter().map(|state| state.to_str().expect("text")).collect();
    let mut in_states = places.clone();
    in_states.extend(["(", "-path", "*/images", "-o", "-path", "*/mirrors", ")", "-prune", "-o", "-print"]);
    let without_process = |group: &str| fs::read(Path::new(group).join("cgroup.procs")).is_ok_and(|all| all.is_empty());
    let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let mut used: Used = mounts.lines().filter(|line| line.contains(directory)).map(str::to_owned).collect();
    used.extend(lines(find(&["/run", "-path", "*sai-*-1*"])));
    used.extend(lines(find(&["/sys/fs/cgroup", "-name", "sai-*"])).into_iter().filter(|group| without_process(group)));
    used.extend(lines(find(&in_states)));
    used
}

#[test]
fn two_hundred_jobs_leave_nothing_behind() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("traces");
    let _master = world.master();
    let root = roots::debian("bookworm");
    let platform = |runner: &str| format!("linux-debian-12/any/{runner}");
    let agents = RUNNERS.map(|runner| {
        let mut create = Command::new(program("sai-agent"));
        create.args(["image", "create", &platform(runner), "--from-dir"]).arg(&root);
        run(create.arg("--state").arg(world.agent_state(runner)));
        world.agent_with(runner, &["linux-host"], SLOTS, &[&format!("\"container\": \"{runner}\"")])
    });
    let step = "echo x > /tmp/x; sleep 1000 & setsid sleep 1001 & head -c 100000 /dev/zero > /dev/shm/x";
    let platforms = RUNNERS.map(|runner| format!("{:?}: {{ \"build\": {step:?} }}", platform(runner))).join(", ");
    let configurations: Vec<String> = (0..JOBS).map(|number| format!("\"c{number}\": {{}}")).collect();
    let saifile = format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ {platforms} }}, \"configurations\": {{ {} }} }}",
        configurations.join(", ")
    );
    let build = |push: u64| {
        world.repository.write("push", push.to_string());
        world.repository.push_saifile(&saifile);
        let event = world.ended_within(PATIENCE, push);
        assert_eq!(event.jobs.len(), JOBS * RUNNERS.len());
        for job in &event.jobs {
            assert_eq!((job.state.as_str(), job.attempt), ("passed", 1), "{job:?}");
        }
        world.tidy(&RUNNERS.map(|runner| world.agent_state(runner)));
        (used(&world), agents.each_ref().map(|agent| agent.resident_kib()))
    };
    let (before, resident) = build(1);
    let mut last = build(2);
    for push in 3..=1 + PUSHES {
        last = build(push);
    }
    let (after, grown) = last;
    // Other tests make and remove things of these names too: what a job has left is there for good.
    let mut left: Used = &after - &before;
    let begun = Instant::now();
    while !left.is_empty() && begun.elapsed() < PATIENCE / 3 {
        std::thread::sleep(Duration::from_millis(100));
        left = &left & &used(&world);
    }
    assert_eq!(left, Used::new());
    for ((runner, before), after) in RUNNERS.iter().zip(resident).zip(grown) {
        assert!(after <= before + GROWN_KIB, "the agent with {runner}: {before} KiB before, {after} KiB after");
        println!(
            "{runner}: the agent has {before} KiB after {JOBS} jobs, {after} KiB after {PUSHES} times as many more"
        );
    }
}
