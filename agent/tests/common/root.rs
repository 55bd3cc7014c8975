//! Roots of real distributions, made once and kept, and jobs that run in containers made of them.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

#[path = "../roots/mod.rs"]
mod roots;

use super::common::{Log, World, finish, launcher, lives, until};
use sai_agent::container::{Container, Network, Runner, Upper};
use sai_agent::job_directory::{JobDirectory, start};
use sai_agent::process_tree::{ProcessState, state};
use sai_core::job::Outcome;
use sai_core::wire::Assignment;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use roots::{busybox, debian};

/// Both programs that make containers.
pub const RUNNERS: [Runner; 2] = [Runner::Nspawn, Runner::Bwrap];

/// A container with nothing that is not the default, but a limit of processes.
pub fn image(runner: Runner) -> Container {
    container(runner, vec![debian("bookworm").to_str().unwrap().to_string()])
}

fn container(runner: Runner, layers: Vec<String>) -> Container {
    Container {
        runner,
        layers,
        upper: Upper::Disk,
        upper_mib: None,
        network: Network::Host,
        binds: Vec::new(),
        devices: None,
        memory_mib: None,
        cpu_permille: None,
        pids: Some(512),
        root: None,
    }
}

/// Runs a test with each runner, in a world of its own. Without root there are no containers, which the job says.
pub fn each_runner(name: &str, test: impl Fn(&World, &Container) + Sync) {
    let one = &|runner: Runner| {
        let world = World::new(&format!("{name}-{}", runner.program()));
        if rustix::process::geteuid().is_root() {
            test(&world, &image(runner));
        } else {
            let container = container(runner, Vec::new());
            let log = run(&world, &container, &world.assignment(&["true"]));
            assert_eq!(log.outcome(), Outcome::Infra);
            assert!(log.verdict().cause.contains("runs as root"), "{}", log.verdict().cause);
        }
    };
    std::thread::scope(|threads| {
        let running = RUNNERS.map(|runner| (runner, threads.spawn(move || one(runner))));
        for (runner, thread) in running {
            assert!(thread.join().is_ok(), "with {}", runner.program());
        }
    });
}

/// Makes the directory of a job in this container.
pub fn create(world: &World, container: &Container, assignment: &Assignment) -> JobDirectory {
    let directory = JobDirectory::create(&world.jobs(), assignment).unwrap();
    let mut options = directory.options().unwrap();
    options.container = Some(container.clone());
    directory.set_options(&options).unwrap();
    directory
}

/// Starts a job in this container.
pub fn begin(world: &World, container: &Container, assignment: &Assignment) -> JobDirectory {
    let directory = create(world, container, assignment);
    start(&directory, &launcher()).unwrap();
    directory
}

/// Runs a job in this container to its end, after which nothing of it is left but its directory.
pub fn run(world: &World, container: &Container, assignment: &Assignment) -> Log {
    let directory = begin(world, container, assignment);
    let traces = Traces::of(&directory);
    finish(&directory);
    traces.none_left();
    Log::of(&directory)
}

/// What a job in a container could leave on the machine.
#[derive(Debug)]
pub struct Traces {
    directory: String,
    key: String,
    marker: String,
    /// Processes seen, with the moment each started: what throws its environment away is known by nothing else.
    seen: Vec<(i32, u64)>,
}

impl Traces {
    pub fn of(directory: &JobDirectory) -> Self {
        Self {
            directory: directory.path().to_str().unwrap().to_string(),
            key: directory.key().to_string(),
            marker: directory.marker().unwrap().split_once('=').unwrap().1.to_string(),
            seen: Vec::new(),
        }
    }

    /// Takes note of all processes below the supervisor.
    pub fn see(mut self, supervisor: i32) -> Self {
        let mut family = vec![supervisor];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            let children = all().into_iter().filter(|(_, state)| state.parent == parent).map(|(pid, _)| pid);
            family.extend(children);
            next += 1;
        }
        self.seen = family.into_iter().filter_map(|pid| Some((pid, state(pid)?.started))).collect();
        self
    }

    /// Waits until no process, mount or cgroup is left, nor anything that `systemd-nspawn` keeps.
    pub fn none_left(&self) {
        until("the job's processes are gone", || self.processes().iter().all(|pid| !lives(*pid)));
        let same = |(pid, started): &(i32, u64)| state(*pid).is_some_and(|it| !it.zombie && it.started == *started);
        until("the processes seen are gone", || !self.seen.iter().any(same));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.directory), "{mounts}");
        let groups = named(Path::new("/sys/fs/cgroup"), &self.marker, 6);
        assert!(groups.is_empty(), "{groups:?}");
        let machines = named(Path::new("/run/systemd/nspawn"), &format!("sai-{}", self.key), 4);
        assert!(machines.is_empty(), "{machines:?}");
    }

    fn processes(&self) -> Vec<i32> {
        let carries = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(self.marker.len()).any(|window| window == self.marker.as_bytes())
        };
        all().into_iter().map(|(pid, _)| pid).filter(carries).collect()
    }
}

/// Every process there is.
fn all() -> Vec<(i32, ProcessState)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, state(pid)?))).collect()
}

/// Whatever below a directory has this in its name.
pub fn named(directory: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(entry.path());
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(named(&entry.path(), name, depth - 1));
        }
    }
    found
}

/// Every path of a tree with its size and the time of its last change.
pub fn listing(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let state = entry.metadata().unwrap();
            if state.is_dir() {
                waiting.push(entry.path());
            }
            found.insert(entry.path(), (state.len(), state.ctime(), state.ctime_nsec()));
        }
    }
    found
}

/// Something mounted on the machine itself, as long as this exists.
pub struct Mounted(PathBuf);

impl Mounted {
    fn mount(arguments: &[&str], at: &Path) -> Self {
        let mounted = Command::new("mount").args(arguments).arg(at).status().unwrap();
        assert!(mounted.success(), "mount {arguments:?} {}", at.display());
        Self(at.to_path_buf())
    }

    /// A state directory on an overlay, which cannot be the upper layer of another.
    pub fn overlay(world: &World) -> Self {
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| world.path.join("overlay").join(name));
        let at = world.path.join("state");
        for path in [&lower, &upper, &work, &at] {
            fs::create_dir_all(path).unwrap();
        }
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        Self::mount(&["-t", "overlay", "overlay", "-o", &options], &at)
    }

    /// A directory that is seen at another place too.
    pub fn bind(directory: &Path, at: &Path) -> Self {
        Self::mount(&["--bind", directory.to_str().unwrap()], at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever has moved what it stands in has moved it too.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let name = self.0.file_name().unwrap().to_str().unwrap();
        let prefix = std::env::temp_dir().join("sai-").display().to_string();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for place in places.filter(|place| place.starts_with(&*prefix) && place.ends_with(&format!("/{name}"))) {
            if place == self.0.to_str().unwrap() || place.contains("/.removed-") {
                let _ = Command::new("umount").arg("-l").arg(place).status();
            }
        }
    }
}
