//! Jobs in containers against the bare tools, measured in the same run: `cargo bench -p sai-agent --bench container`.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/root.rs"]
mod root;

use common::*;
use root::*;
use sai_agent::container::{Container, Runner};
use sai_agent::job_directory::{JobDirectory, start};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 25;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// One job from the order to begin it to the end of its supervisor.
fn job(world: &World, container: Option<&Container>) -> Duration {
    let assignment = world.assignment(&["/bin/true"]);
    let begin = Instant::now();
    let directory = match container {
        Some(container) => create(world, container, &assignment),
        None => JobDirectory::create(&world.jobs(), &assignment).unwrap(),
    };
    start(&directory, &launcher()).unwrap();
    finish(&directory);
    let time = begin.elapsed();
    let log = Log::of(&directory);
    assert_eq!(log.statuses(), [0], "{:?}", log.verdict());
    directory.forget().unwrap();
    time
}

fn shell(world: &World, script: &str) -> Duration {
    let begin = Instant::now();
    let status = Command::new("sh").args(["-ec", script]).current_dir(&world.path).status().unwrap();
    let time = begin.elapsed();
    assert!(status.success(), "{script}");
    time
}

/// What a shell script does around the runner.
fn bare(base: &str, command: &str) -> String {
    format!(
        "mkdir upper work root; mount -t overlay overlay -o lowerdir={base},upperdir=upper,workdir=work root
         {command} >/dev/null 2>&1
         umount root; rm -rf upper work root"
    )
}

const NSPAWN: &str = "systemd-nspawn --quiet --register=no --keep-unit --as-pid2 --pipe -D root /bin/true </dev/null";
const BWRAP: &str = "bwrap --unshare-all --share-net --bind root / --dev /dev --proc /proc /bin/true";
const CLONE: &str = "git clone -q --local floor.git checkout";

/// A job whose step is `/bin/true`, warm, against the bare tools with and without the checkout that a job has.
fn one_job() {
    let world = World::new("measure-container");
    git(&world.path, &["clone", "-q", "--bare", "origin", "floor.git"]);
    let nspawn = image(Runner::Nspawn);
    let base = nspawn.layers[0].clone();
    let bwrap = image(Runner::Bwrap);
    let names =
        ["nspawn", "bare nspawn", "bare nspawn, clone", "bwrap", "bare bwrap", "bare bwrap, clone", "host", "clone"];
    let mut times = vec![Vec::new(); names.len()];
    for round in 0..=ROUNDS {
        let scripts = [NSPAWN, BWRAP].map(|command| bare(&base, command));
        let cloned = scripts.clone().map(|script| format!("{CLONE}\n{script}\nrm -rf checkout"));
        let measured = [
            job(&world, Some(&nspawn)),
            shell(&world, &scripts[0]),
            shell(&world, &cloned[0]),
            job(&world, Some(&bwrap)),
            shell(&world, &scripts[1]),
            shell(&world, &cloned[1]),
            job(&world, None),
            shell(&world, &format!("{CLONE}; cd checkout; bash -ec /bin/true; cd ..; rm -rf checkout")),
        ];
        // The first round warms caches.
        if round > 0 {
            times.iter_mut().zip(measured).for_each(|(times, time)| times.push(time));
        }
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    for (name, time) in names.iter().zip(&medians) {
        println!("{name}: {time:.1} ms");
    }
    for (ours, goal) in [(0, 1.2), (3, 1.5)] {
        println!(
            "{}: {:.2} x the bare tool (goal {goal}), {:.2} x the bare tool and a clone; {:.1} ms more than on the host",
            names[ours],
            medians[ours] / medians[ours + 1],
            medians[ours] / medians[ours + 2],
            medians[ours] - medians[6]
        );
    }
}

/// What of the machine a job could use up for ever.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    mounts: usize,
    files_in_run: usize,
    cgroups: usize,
    kib_of_jobs: i32,
}

fn used(world: &World) -> Used {
    let jobs = Command::new("du").args(["-sk", "state/jobs"]).current_dir(&world.path).output().unwrap();
    Used {
        mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
        files_in_run: listing(Path::new("/run/systemd")).len(),
        cgroups: named(Path::new("/sys/fs/cgroup"), "sai-", 6).len(),
        kib_of_jobs: numbers(&String::from_utf8_lossy(&jobs.stdout))[0],
    }
}

fn available_mib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemAvailable")).unwrap();
    numbers(line)[0] as u64 / 1024
}

/// 200 jobs, four at a time.
fn many_jobs() {
    const JOBS: usize = 200;
    for runner in RUNNERS {
        let world = World::new("measure-containers");
        let container = image(runner);
        job(&world, Some(&container));
        let (before, memory) = (used(&world), available_mib());
        let begin = Instant::now();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    (0..JOBS / 4).for_each(|_| {
                        job(&world, Some(&container));
                    })
                });
            }
        });
        let time = begin.elapsed().as_secs_f64();
        let after = used(&world);
        println!(
            "{}: {JOBS} jobs in 4 slots: {time:.1} s, {:.1} ms each; the machine is {} ({after:?}), available memory {:+} MiB",
            runner.program(),
            time * 1000.0 / JOBS as f64,
            if after == before { "as it was" } else { "CHANGED" },
            available_mib() as i64 - memory as i64
        );
    }
}

/// A root of 2 GB beside one of 200 MB.
fn image_size() {
    let world = World::new("measure-size");
    let large: PathBuf = world.path.join("large/opt");
    fs::create_dir_all(&large).unwrap();
    for number in 0..1800 {
        let mut file = fs::File::create(large.join(format!("file-{number}"))).unwrap();
        file.write_all(&vec![number as u8; 1 << 20]).unwrap();
    }
    let status = Command::new("cp")
        .args(["-a", &format!("{}/.", image(Runner::Nspawn).layers[0]), "large"])
        .current_dir(&world.path)
        .status();
    assert!(status.unwrap().success());
    for runner in RUNNERS {
        let small = image(runner);
        let mut big = small.clone();
        big.layers = vec![world.path.join("large").to_str().unwrap().to_string()];
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let times = (job(&world, Some(&small)), job(&world, Some(&big)));
            if round > 0 {
                one.push(times.0);
                other.push(times.1);
            }
        }
        println!("{}: {:.1} ms with 200 MB, {:.1} ms with 2 GB", runner.program(), median(one), median(other));
    }
}

fn main() {
    one_job();
    many_jobs();
    image_size();
}
