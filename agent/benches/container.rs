//! Jobs in containers against the bare tools, measured in the same run: `cargo bench -p sai-agent --bench container`, or only
//! a part of it, `-- one`, `many` or `size`.

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
/// Rounds at most, where others use the machine too and some are disturbed.
const MOST_ROUNDS: usize = 2 * ROUNDS;
/// Time that a round waits at most for the machine to be quiet.
const QUIET_TIME: Duration = Duration::from_secs(1);
/// Looks, a millisecond apart, that find nothing else running: then it is.
const QUIET_LOOKS: usize = 25;

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Waits until nothing but this runs on the machine; tells whether it came to that.
fn quiet() -> bool {
    let begin = Instant::now();
    let mut looks = 0;
    while looks < QUIET_LOOKS && begin.elapsed() < QUIET_TIME {
        let load = fs::read_to_string("/proc/loadavg").unwrap();
        let running = load.split(['/', ' ']).nth(3).and_then(|number| number.parse::<u32>().ok()).unwrap();
        looks = if running == 1 { looks + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(1));
    }
    looks == QUIET_LOOKS
}

/// Rounds of measurements that belong together: those on a quiet machine, or all where it never was. The first one warms caches.
fn rounds<const N: usize>(measure: impl Fn() -> [Duration; N]) -> Vec<[f64; N]> {
    measure();
    let (mut calm, mut all) = (Vec::new(), Vec::new());
    while calm.len() < ROUNDS && all.len() < MOST_ROUNDS {
        let was_quiet = quiet();
        let times = measure().map(millis);
        all.push(times);
        if was_quiet {
            calm.push(times);
        }
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap();
    println!("{} of {} rounds on a quiet machine; load {}", calm.len(), all.len(), load.trim());
    if calm.len() >= ROUNDS / 2 { calm } else { all }
}

/// A container of an image as it is made for users: with the user that jobs run as.
fn made(world: &World, runner: Runner) -> Container {
    let images = world.path.join("images");
    let platform = "linux-debian-12/any/plain";
    if !images.exists() {
        let mut create = Command::new(launcher().program);
        create.args(["image", "create", platform, "--from-dir"]).arg(debian("bookworm"));
        let output = create.arg("--images").arg(&images).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let base = images.join(platform).join("base").to_str().unwrap().to_string();
    Container { layers: vec![base], ..image(runner) }
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
    let [nspawn, bwrap] = RUNNERS.map(|runner| made(&world, runner));
    let scripts = [NSPAWN, BWRAP].map(|command| bare(&nspawn.layers[0], command));
    let cloned = scripts.clone().map(|script| format!("{CLONE}\n{script}\nrm -rf checkout"));
    let names =
        ["nspawn", "bare nspawn", "bare nspawn, clone", "bwrap", "bare bwrap", "bare bwrap, clone", "host", "clone"];
    let rounds = rounds(|| {
        [
            job(&world, Some(&nspawn)),
            shell(&world, &scripts[0]),
            shell(&world, &cloned[0]),
            job(&world, Some(&bwrap)),
            shell(&world, &scripts[1]),
            shell(&world, &cloned[1]),
            job(&world, None),
            shell(&world, &format!("{CLONE}; cd checkout; bash -ec /bin/true; cd ..; rm -rf checkout")),
        ]
    });
    let of = |at: usize| rounds.iter().map(|times| times[at]).collect::<Vec<_>>();
    for (at, name) in names.iter().enumerate() {
        println!("{name}: {:.1} ms", median(&of(at)));
    }
    let against =
        |ours: usize, other: usize| median(&rounds.iter().map(|times| times[ours] / times[other]).collect::<Vec<_>>());
    for (ours, goal) in [(0, 1.2), (3, 1.5)] {
        println!(
            "{}: {:.2} x the bare tool (goal {goal}), {:.2} x the bare tool and a clone; {:.1} ms more than on the host",
            names[ours],
            against(ours, ours + 1),
            against(ours, ours + 2),
            median(&of(ours)) - median(&of(6))
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

/// Memory in use, KiB.
#[derive(Clone, Copy, Debug)]
struct Memory {
    /// What the machine could not give to others, without what processes have: those of jobs are gone, others come and go.
    taken: i64,
    /// What the kernel keeps for itself.
    slab: i64,
    /// What the process has that starts the jobs.
    ours: i64,
}

/// KiB of memory that may be in use afterwards and was not before; less than any job could keep 200 times.
const KEPT: Memory = Memory { taken: 64 << 10, slab: 16 << 10, ours: 2 << 10 };
/// Measurements at most, a second apart: others on the machine take memory and give it back.
const LOOKS: usize = 20;

fn memory() -> Memory {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap();
        i64::from(numbers(text.lines().find(|line| line.starts_with(name)).unwrap())[0])
    };
    let [total, available, processes] =
        ["MemTotal:", "MemAvailable:", "AnonPages:"].map(|name| field("/proc/meminfo", name));
    Memory {
        taken: total - available - processes,
        slab: field("/proc/meminfo", "Slab:"),
        ours: field("/proc/self/status", "VmRSS:"),
    }
}

/// What is in use that was not before.
fn kept_since(before: Memory) -> Memory {
    let now = memory();
    Memory { taken: now.taken - before.taken, slab: now.slab - before.slab, ours: now.ours - before.ours }
}

/// 200 jobs, four at a time.
fn many_jobs() {
    const JOBS: usize = 200;
    for runner in RUNNERS {
        let world = World::new("measure-containers");
        let container = made(&world, runner);
        let run = |jobs: usize| {
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        (0..jobs / 4).for_each(|_| {
                            job(&world, Some(&container));
                        })
                    });
                }
            })
        };
        run(16);
        let (before, memory) = (used(&world), memory());
        let begin = Instant::now();
        run(JOBS);
        let time = millis(begin.elapsed());
        let after = used(&world);
        let mut kept = kept_since(memory);
        let small = |kept: Memory| kept.taken <= KEPT.taken && kept.slab <= KEPT.slab && kept.ours <= KEPT.ours;
        for _ in 1..LOOKS {
            if small(kept) {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
            kept = kept_since(memory);
        }
        println!(
            "{}: {JOBS} jobs in 4 slots: {:.1} s, {:.1} ms each; before {before:?}, after {after:?}",
            runner.program(),
            time / 1000.0,
            time / JOBS as f64,
        );
        println!("{}: KiB in use before {memory:?}, more afterwards {kept:?} (at most {KEPT:?})", runner.program());
        assert_eq!(after, before, "the machine is not as it was");
        assert!(small(kept), "memory is kept");
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
        .args(["-a", &format!("{}/.", made(&world, Runner::Nspawn).layers[0]), "large"])
        .current_dir(&world.path)
        .status();
    assert!(status.unwrap().success());
    for runner in RUNNERS {
        let small = made(&world, runner);
        let mut big = small.clone();
        big.layers = vec![world.path.join("large").to_str().unwrap().to_string()];
        let rounds = rounds(|| [job(&world, Some(&small)), job(&world, Some(&big))]);
        let [one, other] = [0, 1].map(|at| median(&rounds.iter().map(|times| times[at]).collect::<Vec<_>>()));
        println!("{}: {one:.1} ms with 200 MB, {other:.1} ms with 2 GB", runner.program());
    }
}

fn main() {
    // Cargo adds options of its own.
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, fn()); 3] = [("one", one_job), ("many", many_jobs), ("size", image_size)];
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|word| word == name) {
            part();
        }
    }
}
