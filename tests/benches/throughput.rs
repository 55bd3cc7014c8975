//! 500 jobs that do nothing, six at once, from the push to the last verdict; the floor is xargs.
//!
//! The floor makes the same 500 clones of a warm mirror and runs `bash -c true` in each, six at once. Ours begins with the
//! request that the hook sends, so it includes looking at the repository, reading the saifile and making 500 jobs; it ends
//! when the last job has been removed from the agent.

use sai_tests::figures::{heading, median, row, seconds, settle};
use sai_tests::process::Process;
use sai_tests::repository::{git, run};
use sai_tests::world::World;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Jobs of one push.
const JOBS: usize = 500;
/// Jobs at once.
const SLOTS: u32 = 6;
/// Times that each is done.
const ROUNDS: usize = 3;
/// Files of the repository.
const FILES: usize = 20;

/// What git is told by ours, so that the floor does nothing that ours leaves out.
const CONFIGURATION: &str = "[core]\n\thooksPath = /dev/null\n\tfsync = none\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
    [safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n";

const FLOOR: &str = r#"
cd "$1"
export work=$4
one() { git clone --quiet --local --no-checkout mirror.git "$work/$1" && cd "$work/$1" && git checkout --quiet --detach main && bash -c true; }
export -f one
seq "$2" | xargs -P "$3" -I{} bash -c 'one {}'
"#;

fn floor(place: &Path, round: u64) -> f64 {
    // Nothing is removed between rounds: file systems are slow to make files where many were removed.
    let work = place.join(format!("work-{round}"));
    std::fs::create_dir_all(&work).expect("a directory");
    settle();
    let mut script = Command::new("bash");
    script.args(["-ec", FLOOR, "floor"]).arg(place).args([&JOBS.to_string(), &SLOTS.to_string()]).arg(&work);
    script.env("GIT_CONFIG_GLOBAL", place.join("gitconfig")).env("GIT_CONFIG_NOSYSTEM", "1");
    let took = seconds(|| drop(run(&mut script)));
    assert_eq!(std::fs::read_dir(&work).map_or(0, Iterator::count), JOBS);
    took
}

fn saifile() -> String {
    let configurations: Vec<String> = (0..JOBS).map(|number| format!("\"c{number}\": {{}}")).collect();
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": \"true\"}}}}, \"configurations\": {{{}}}}}",
        configurations.join(", ")
    )
}

fn ours(world: &World, agent: &Process, round: u64) -> (f64, f64) {
    world.repository.commit("Go on");
    world.repository.push();
    settle();
    let begin = Instant::now();
    assert!(world.get("/hook/project?ref=main").is_some());
    let mut verdicts = 0.0;
    for _ in 0..JOBS {
        agent.await_line("is done");
        verdicts = begin.elapsed().as_secs_f64();
    }
    let event = world.ended(round);
    assert!(event.jobs.len() == JOBS && event.jobs.iter().all(|job| job.state == "passed"), "{event:?}");
    (verdicts, begin.elapsed().as_secs_f64())
}

fn measure(name: &str, world: &World, agent: &Process) {
    let place = world.directory.join("floor");
    std::fs::create_dir_all(&place).expect("a directory");
    std::fs::write(place.join("gitconfig"), CONFIGURATION).expect("a file");
    for number in 0..FILES {
        world
            .repository
            .write(&format!("part{}/file{number}.c", number % 3), format!("int f{number}(void);\n").repeat(50));
    }
    world.repository.write(".sai.json", saifile());
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    world.repository.commit("Begin");
    world.repository.push();
    run(git(&place).args(["clone", "--quiet", "--bare"]).arg(&world.repository.bare).arg("mirror.git"));
    let (mut floors, mut times) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS as u64 {
        floors.push(floor(&place, round));
        settle();
        times.push(ours(world, agent, round).0);
    }
    let (least, took) = (median(&floors), median(&times));
    row(name, &format!("{least:.2} s"), &format!("{took:.2} s"), (took / least, " x"), Some(1.5));
    row("  the same in seconds", "", &format!("{:.0} jobs/s", JOBS as f64 / took), (took, " s"), Some(3.0));
}

fn main() {
    heading("500 jobs that do nothing, 6 at once");
    let mut world = World::new("throughput");
    world.set("builtin", &format!("{{\"platforms\": [\"linux-bench/x86_64/gcc\"], \"slots\": {SLOTS}}}"));
    let mut master = world.master();
    measure("built-in agent", &world, &master);
    master.kill();
    let world = World::new("throughput");
    let _master = world.master();
    let agent = world.agent("far", &["linux-bench/x86_64/gcc"], SLOTS);
    measure("remote agent, wss", &world, &agent);
}
