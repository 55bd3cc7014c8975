//! SIGKILL, power cuts, clocks that are set and broken links at random moments of real builds: every log complete, every
//! attempt run once, nothing left.
//!
//! `SAI_ROUNDS` sets how many faults each storm brings, `SAI_SEED` which; the seed is printed.

#[path = "power/disk.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod disk;

use disk::Disk;
use rustix::process::{Pid, Signal, kill_process};
use sai_tests::log::Log;
use sai_tests::process::{Process, eventually};
use sai_tests::proxy::Proxy;
use sai_tests::random::{Random, awkward, rounds, seed};
use sai_tests::repository::{run, saifile};
use sai_tests::world::{Event, World};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PLATFORM: &str = "linux-test-1/x86_64/gcc";
/// Faults while one push is built, at most; then it may finish.
const FAULTS_A_PUSH: u64 = 6;
/// Milliseconds between two faults at most.
const PAUSE_MS: u64 = 700;
/// Seconds by which a clock is wrong after it was set: hours, and as it is when somebody mistypes the year.
const CLOCKS_S: [i64; 4] = [0, 2 * 3600, -2 * 3600, 10 * 365 * 24 * 3600];

/// A build and what it must give.
struct Build {
    /// Name of its configuration.
    name: &'static str,
    /// What it prints on standard output and standard error.
    printed: [Vec<u8>; 2],
    /// The file it makes.
    file: Vec<u8>,
    sha256: String,
    /// Its exit status.
    status: i32,
}

/// Puts what the builds print into the repository, piece by piece, and returns what must come of them.
fn prepare(world: &World, random: &mut Random) -> Vec<Build> {
    let mut builds = Vec::new();
    for (name, bytes, status) in [("small", 3_000, 0), ("middle", 150_000, 3), ("large", 2_500_000, 0), ("still", 1, 0)]
    {
        let mut printed = [Vec::new(), Vec::new()];
        let mut piece = 0;
        while printed[0].len() < bytes {
            let length = random.below(bytes as u64 / 5 + 2) as usize + 1;
            let mut content = awkward(random, length.min(bytes - printed[0].len()));
            if name == "large" && piece == 1 {
                // One line of a megabyte.
                content = vec![b'x'; 1 << 20];
            }
            world.repository.write(&format!("pieces/{name}/{piece:03}.out"), &content);
            printed[0].extend_from_slice(&content);
            if random.once_in(3) {
                let content = awkward(random, 500);
                world.repository.write(&format!("pieces/{name}/{piece:03}.err"), &content);
                printed[1].extend_from_slice(&content);
            }
            piece += 1;
        }
        let file = awkward(random, bytes);
        world.repository.write(&format!("files/{name}"), &file);
        let sha256 = run(Command::new("sha256sum").arg(world.repository.work.join("files").join(name)));
        let sha256 = sha256.split(' ').next().unwrap_or_default().to_string();
        builds.push(Build { name, printed, file, sha256, status });
    }
    // A program whose processes can be told from all others whatever they do with their environment.
    fs::copy("/bin/sleep", world.directory.join("daemon")).expect("a copy of sleep");
    builds
}

/// Where each attempt that runs leaves a line.
fn ledger(world: &World) -> PathBuf {
    world.directory.join("ran")
}

/// Two steps: the first starts everything that likes to stay behind, and prints; the second prints the rest and ends as told.
fn storm_saifile(world: &World, builds: &[Build]) -> String {
    let daemon = world.directory.join("daemon");
    let first = format!(
        "echo \"$SAI_JOB-$SAI_ATTEMPT\" >> {ledger}\n\
         {daemon} 1001 &\n\
         setsid {daemon} 1002 &\n\
         ( setsid {daemon} 1003 >/dev/null 2>&1 </dev/null & )\n\
         ( env -i setsid {daemon} 1004 >/dev/null 2>&1 </dev/null & )\n\
         ( trap '' TERM HUP; exec setsid {daemon} 1005 ) &\n\
         {daemon} 1006 & kill -STOP $!\n\
         mkdir out; cp files/$SAI_CONFIGURATION out/file\n",
        ledger = ledger(world).display(),
        daemon = daemon.display(),
    );
    let second = "for piece in pieces/$SAI_CONFIGURATION/*; do\n\
                  case $piece in *.err) cat $piece >&2 ;; *) cat $piece ;; esac\n\
                  sleep 0.0$((RANDOM % 8))\n\
                  done\n\
                  exit $STATUS\n";
    let configurations: Vec<String> = builds
        .iter()
        .map(|build| {
            format!("\"{}\": {{\"artifacts\": \"out/*\", \"env\": {{\"STATUS\": \"{}\"}}}}", build.name, build.status)
        })
        .collect();
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {}}}}}, \"configurations\": {{{}}}}}",
        miniserde::json::to_string(&vec![first, second.to_string()]),
        configurations.join(", ")
    )
}

/// Lines that attempts have left, and how often.
fn ran(world: &World) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for line in fs::read_to_string(ledger(world)).unwrap_or_default().lines() {
        *lines.entry(line.to_string()).or_default() += 1;
    }
    lines
}

/// Compares all that a finished push has left with what it must be.
fn check(world: &World, event: &Event, builds: &[Build], faults: &[Fault]) {
    let ran = ran(world);
    for (job, build) in event.jobs.iter().zip(builds) {
        let about = format!("job {} ({}) of {}", job.id, build.name, world.directory.display());
        assert_eq!(job.configuration, build.name);
        assert_eq!(job.state, if build.status == 0 { "passed" } else { "failed" }, "{about}: {job:?}");
        let mine: Vec<_> = ran.iter().filter(|(line, _)| line.starts_with(&format!("{}-", job.id))).collect();
        let wanted = format!("{}-{}", job.id, job.attempt);
        if faults.iter().any(|fault| fault.ends_attempts()) {
            assert!(mine.contains(&(&wanted, &1)) && mine.iter().all(|(_, times)| **times == 1), "{about}: {mine:?}");
        } else {
            assert_eq!(mine, [(&wanted, &1)], "{about}: attempts that ran");
        }
        let records = world.records(job.id);
        assert_eq!(records.steps, [0, 1], "{about}");
        assert_eq!(records.statuses, [0, build.status], "{about}");
        same(&about, "standard output", records.channel("stdout"), &build.printed[0]);
        same(&about, "standard error", records.channel("stderr"), &build.printed[1]);
        same(&about, "the text", &world.log(job.id), &records.text);
        assert!(records.verdict.is_some(), "{about}");
        assert_eq!(job.artifacts.len(), 1, "{about}");
        let kept = &job.artifacts[0];
        assert_eq!((kept.path.as_str(), kept.size), ("out/file", build.file.len() as u64), "{about}");
        assert_eq!(kept.sha256, build.sha256, "{about}");
        same(&about, "the artifact", &world.get(&kept.download).expect("a download"), &build.file);
    }
}

/// Compares bytes without printing megabytes of them.
fn same(about: &str, what: &str, got: &[u8], wanted: &[u8]) {
    if got != wanted {
        let at = got.iter().zip(wanted).take_while(|(one, other)| one == other).count();
        panic!("{about}: {what} has {} bytes of {}, the same up to {at}", got.len(), wanted.len());
    }
}

/// What can befall a constellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Master,
    Agent,
    Both,
    /// The link is cut when some more bytes have passed.
    Cut,
    /// The link carries nothing for a while, and is cut or goes on.
    Stall,
    /// One job's supervisor dies, and leaves its processes behind.
    Supervisor,
    /// The agent and all of its supervisors die together.
    Machine,
    /// The master's machine loses its power, and its disk what was not synced.
    Power,
    /// The clocks on the walls of master and agent are set, each to something of its own.
    Clocks,
}

impl Fault {
    /// Whether it ends attempts, so that jobs are tried again.
    fn ends_attempts(self) -> bool {
        matches!(self, Self::Supervisor | Self::Machine)
    }
}

/// Numbers of the supervisors of an agent's jobs, as their directories name them.
fn supervisors(world: &World, state: &Path) -> Vec<i32> {
    let number = |directory: PathBuf| {
        let text = fs::read_to_string(directory.join("supervisor")).ok()?;
        text.lines().next()?.parse().ok()
    };
    world.job_directories(state).into_iter().filter_map(number).collect()
}

/// Whether a process works in a directory below this one.
fn lives_in(place: &Path) -> bool {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut places = all.filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok());
    places.any(|other| other.starts_with(place))
}

fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process");
    let _ = kill_process(pid, Signal::KILL);
}

struct Storm {
    world: World,
    master: Process,
    agent: Option<Process>,
    proxy: Option<Proxy>,
    random: Random,
    /// What the master's state is on, where its power may be cut.
    disk: Option<Disk>,
}

impl Storm {
    /// A constellation of a master and an agent, far or built in.
    fn new(name: &str, usual_seed: u64, far: bool, slots: u32) -> Self {
        Self::on(None, World::new(name), name, usual_seed, far, slots)
    }

    /// The same, with the master's state on a disk that forgets; none for those who may not mount one.
    fn on_forgetful_disk(name: &str, usual_seed: u64, slots: u32) -> Option<Self> {
        let world = World::new(name);
        let disk = Disk::mount(&world.state())?;
        Some(Self::on(Some(disk), world, name, usual_seed, true, slots))
    }

    fn on(disk: Option<Disk>, mut world: World, name: &str, usual_seed: u64, far: bool, slots: u32) -> Self {
        world.use_own_clocks();
        let proxy = far.then(|| Proxy::start(world.address()));
        match &proxy {
            Some(proxy) => world.set("url", &format!("\"https://{}\"", proxy.address)),
            None => world.set("builtin", &format!("{{\"platforms\": [{PLATFORM:?}], \"slots\": {slots}}}")),
        }
        let master = world.master();
        let agent = far.then(|| world.agent("one", &[PLATFORM], slots));
        Self { master, agent, proxy, random: Random::new(seed(name, usual_seed)), disk, world }
    }

    fn agent_state(&self) -> PathBuf {
        if self.agent.is_some() { self.world.agent_state("one") } else { self.world.state().join("agent") }
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Master => {
                self.master.kill();
                self.master = self.world.master();
            }
            Fault::Agent => {
                if let Some(agent) = &mut self.agent {
                    agent.kill();
                    *agent = self.world.agent_starts("one");
                }
            }
            Fault::Both => {
                if let Some(agent) = &mut self.agent {
                    agent.kill();
                }
                self.master.kill();
                if self.random.once_in(2) {
                    self.master = self.world.master();
                    self.agent = Some(self.world.agent_starts("one"));
                } else {
                    self.agent = Some(self.world.agent_starts("one"));
                    self.master = self.world.master();
                }
            }
            Fault::Supervisor => {
                let found = supervisors(&self.world, &self.agent_state());
                if !found.is_empty() {
                    kill(found[self.random.below(found.len() as u64) as usize]);
                }
            }
            Fault::Machine => {
                if let Some(agent) = &mut self.agent {
                    agent.kill();
                    for pid in supervisors(&self.world, &self.world.agent_state("one")) {
                        kill(pid);
                    }
                    *agent = self.world.agent_starts("one");
                }
            }
            Fault::Power => {
                if let Some(disk) = &mut self.disk {
                    self.master.kill();
                    let state = self.world.state();
                    // What it had started is on that disk for a moment longer.
                    eventually("nobody has the disk", || (!lives_in(&state)).then_some(()));
                    disk.cut(&mut self.random);
                    self.master = self.world.master();
                }
            }
            Fault::Clocks => {
                let mut any = || CLOCKS_S[self.random.below(CLOCKS_S.len() as u64) as usize];
                let ahead_s = [any(), any()];
                self.world.set_clocks(ahead_s);
            }
            Fault::Cut => {
                let bytes = if self.random.once_in(2) { self.random.below(3_000) } else { self.random.below(300_000) };
                if let Some(proxy) = &self.proxy {
                    proxy.cut_after(bytes);
                }
            }
            Fault::Stall => {
                if let Some(proxy) = &self.proxy {
                    proxy.stall(true);
                    std::thread::sleep(Duration::from_millis(self.random.below(300)));
                    if self.random.once_in(2) {
                        proxy.cut();
                    }
                    proxy.stall(false);
                }
            }
        }
    }

    /// Builds one push after the other under these faults, until there were enough of them.
    fn run(mut self, faults: &[Fault], rounds: u64) {
        let begin = Instant::now();
        let builds = prepare(&self.world, &mut self.random);
        let saifile = storm_saifile(&self.world, &builds);
        let (mut struck, mut pushes) = (0, 0);
        while struck < rounds {
            self.world.repository.write("push", format!("{pushes}"));
            self.world.repository.push_saifile(&saifile);
            pushes += 1;
            if pushes == 1 {
                // A repository is looked at for the first time in peace: before that, a start does not catch up with it.
                eventually("the first push becomes an event", || self.world.event(1));
            }
            // An agent that loses three attempts in a row gets no more for a while.
            let most = if faults.iter().any(|fault| fault.ends_attempts()) { 1 } else { FAULTS_A_PUSH };
            for _ in 0..most.min(rounds - struck) {
                let pause = self.random.below(PAUSE_MS);
                std::thread::sleep(Duration::from_millis(pause));
                let fault = faults[self.random.below(faults.len() as u64) as usize];
                self.strike(fault);
                struck += 1;
            }
            if let Some(proxy) = &self.proxy {
                proxy.cut_after(u64::MAX);
            }
            let event = self.world.ended(pushes);
            check(&self.world, &event, &builds, faults);
        }
        self.world.tidy(&[self.agent_state()]);
        self.master.kill();
        // Before the directory that it is mounted in goes.
        drop(self.disk.take());
        let took = begin.elapsed().as_secs_f32();
        eprintln!("{struck} faults over {pushes} pushes of {} jobs: {took:.1} s", builds.len());
    }
}

#[test]
fn a_master_that_is_killed_loses_nothing() {
    Storm::new("kill-master", 1, true, 3).run(&[Fault::Master], rounds(40));
}

#[test]
fn a_master_with_its_built_in_agent_that_is_killed_loses_nothing() {
    Storm::new("kill-built-in", 2, false, 3).run(&[Fault::Master], rounds(30));
}

#[test]
fn an_agent_that_is_killed_loses_nothing() {
    Storm::new("kill-agent", 3, true, 3).run(&[Fault::Agent], rounds(40));
}

#[test]
fn a_link_that_breaks_loses_nothing() {
    Storm::new("cut-link", 4, true, 3).run(&[Fault::Cut, Fault::Cut, Fault::Stall], rounds(60));
}

#[test]
fn a_supervisor_that_is_killed_loses_no_job() {
    Storm::new("kill-supervisor", 7, true, 2).run(&[Fault::Supervisor, Fault::Machine], rounds(8));
}

#[test]
fn everything_at_once_loses_nothing() {
    let faults = [Fault::Master, Fault::Agent, Fault::Both, Fault::Both, Fault::Cut, Fault::Stall, Fault::Clocks];
    Storm::new("kill-all", 5, true, 3).run(&faults, rounds(50));
}

#[test]
fn power_cuts_and_clocks_that_are_set_lose_nothing() {
    let Some(storm) = Storm::on_forgetful_disk("kill-power", 8, 3) else { return };
    let faults = [Fault::Power, Fault::Power, Fault::Clocks, Fault::Agent, Fault::Cut, Fault::Both];
    storm.run(&faults, rounds(40));
}

/// Waits until a job is in this state.
fn await_state(world: &World, event: u64, state: &str) -> sai_tests::world::Job {
    eventually(&format!("the job is {state}"), || {
        world.event(event).and_then(|event| event.jobs.into_iter().next()).filter(|job| job.state == state)
    })
}

/// A job that leaves its line, starts two daemons, prints, waits until the file `release` is there, and prints again.
fn patient_saifile(world: &World) -> String {
    let (daemon, release) = (world.directory.join("daemon"), world.directory.join("release"));
    fs::copy("/bin/sleep", &daemon).expect("a copy of sleep");
    saifile(&[&format!(
        "echo \"$SAI_JOB-$SAI_ATTEMPT\" >> {}\n( setsid {daemon} 1001 & )\n( env -i {daemon} 1002 & )\n\
         printf 'before '\nwhile [ ! -e {release} ]; do sleep 0.02; done\nprintf after\n",
        ledger(world).display(),
        daemon = daemon.display(),
        release = release.display(),
    )])
}

/// Waits until an attempt has begun its step.
fn await_line(world: &World, line: &str) {
    eventually("the attempt runs", || ran(world).contains_key(line).then_some(()));
}

#[test]
fn a_supervisor_that_is_killed_is_our_trouble_and_the_job_is_tried_again() {
    let world = World::new("supervisor");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(&patient_saifile(&world));
    await_line(&world, "1-1");
    let found = supervisors(&world, &world.agent_state("one"));
    assert_eq!(found.len(), 1);
    kill(found[0]);
    await_line(&world, "1-2");
    let job = &world.event(1).expect("the event").jobs[0];
    assert!(job.cause.contains("supervisor of the job was killed"), "{job:?}");
    fs::write(world.directory.join("release"), "").expect("a file");
    let job = &world.ended(1).jobs[0];
    assert_eq!((job.state.as_str(), job.attempt), ("passed", 2), "{job:?}");
    assert_eq!(world.records(1).channel("stdout"), b"before after");
    world.tidy(&[world.agent_state("one")]);
}

/// Looks one after the other that find no process of a job, until there is none.
const LOOKS: u32 = 20;

#[test]
fn a_machine_that_loses_power_and_its_jobs_is_our_trouble() {
    let world = World::new("power");
    let _master = world.master();
    let mut agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(&patient_saifile(&world));
    await_line(&world, "1-1");
    agent.kill();
    let state = world.agent_state("one");
    for pid in supervisors(&world, &state) {
        kill(pid);
    }
    // What is left of the job dies with the machine. A process that is just becoming another program has neither a name nor
    // an environment to be seen by, so one look that finds none is not enough.
    let mut none = 0;
    eventually("nothing runs any more", || {
        let left = world.job_processes();
        for line in &left {
            let pid = line.trim_start_matches("/proc/").split(':').next().and_then(|pid| pid.parse().ok());
            kill(pid.expect("a number"));
        }
        none = if left.is_empty() { none + 1 } else { 0 };
        (none == LOOKS).then_some(())
    });
    fs::remove_dir_all(state.join("jobs")).expect("the jobs are gone");
    fs::remove_dir_all(state.join("mirrors")).expect("the mirrors are gone");
    let _agent = world.agent_again("one");
    await_line(&world, "1-2");
    fs::write(world.directory.join("release"), "").expect("a file");
    let job = &world.ended(1).jobs[0];
    assert_eq!((job.state.as_str(), job.attempt), ("passed", 2), "{job:?}");
    assert_eq!(world.records(1).channel("stdout"), b"before after");
    world.tidy(&[state]);
}

#[test]
fn a_ghost_that_comes_back_after_its_time_is_dropped() {
    let mut world = World::new("ghost");
    world.set("orphan_s", "40");
    let _master = world.master();
    let mut ghost = world.agent("ghost", &[PLATFORM], 1);
    world.repository.push_saifile(&patient_saifile(&world));
    await_line(&world, "1-1");
    ghost.kill();
    let _other = world.agent("other", &[PLATFORM], 1);
    await_line(&world, "1-2");
    assert!(!world.job_directories(&world.agent_state("ghost")).is_empty(), "the ghost's job goes on");
    // The ghost comes back while the other one builds: its job is taken from it, the other's goes on.
    let _ghost = world.agent_again("ghost");
    eventually("the ghost's job is gone", || {
        world.job_directories(&world.agent_state("ghost")).is_empty().then_some(())
    });
    let job = await_state(&world, 1, "running");
    assert_eq!((job.attempt, job.agent.as_deref()), (2, Some("other")), "{job:?}");
    fs::write(world.directory.join("release"), "").expect("a file");
    let job = &world.ended(1).jobs[0];
    assert_eq!((job.state.as_str(), job.attempt, job.agent.as_deref()), ("passed", 2, Some("other")), "{job:?}");
    assert_eq!(world.records(1).channel("stdout"), b"before after");
    world.tidy(&[world.agent_state("ghost"), world.agent_state("other")]);
    assert_eq!(ran(&world), BTreeMap::from([("1-1".to_string(), 1), ("1-2".to_string(), 1)]));
}

#[test]
fn a_ghost_with_a_finished_job_is_dropped_too() {
    let mut world = World::new("late");
    world.set("orphan_s", "40");
    let _master = world.master();
    let mut ghost = world.agent("ghost", &[PLATFORM], 1);
    world.repository.push_saifile(&patient_saifile(&world));
    await_line(&world, "1-1");
    ghost.kill();
    fs::write(world.directory.join("release"), "").expect("a file");
    eventually("the ghost's job ends by itself", || world.job_processes().is_empty().then_some(()));
    let other = world.agent("other", &[PLATFORM], 1);
    let job = &world.ended(1).jobs[0];
    assert_eq!((job.state.as_str(), job.attempt, job.agent.as_deref()), ("passed", 2, Some("other")), "{job:?}");
    let before = world.get("/job/1/records");
    let _ghost = world.agent_again("ghost");
    eventually("the ghost's job is gone", || {
        world.job_directories(&world.agent_state("ghost")).is_empty().then_some(())
    });
    assert_eq!(world.event(1).expect("the event").jobs[0].attempt, 2);
    assert_eq!(world.get("/job/1/records"), before);
    drop(other);
}

#[test]
fn the_length_of_the_log_is_the_truth_for_a_killed_master() {
    let world = World::new("length");
    let mut random = Random::new(seed("length", 6));
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let printed = awkward(&mut random, 900_000);
    world.repository.write("printed", &printed);
    // It does not end before its log was cut often enough, however slow the machine is.
    let release = world.directory.join("release");
    let pace = format!(
        "for at in $(seq 0 89); do tail -c +$((at * 10000 + 1)) printed | head -c 10000; sleep 0.03; done\n\
         while [ ! -e {} ]; do sleep 0.02; done\n",
        release.display()
    );
    world.repository.push_saifile(&saifile(&[&pace]));
    await_state(&world, 1, "running");
    let log = world.state().join("logs/1-1.log");
    let mut cuts = 0;
    for _ in 0..30 {
        if cuts == 8 {
            break;
        }
        std::thread::sleep(Duration::from_millis(random.below(400)));
        master.kill();
        // A power cut would have lost some of what was not flushed: down to the middle of a record, or all of it.
        // A log with a verdict may belong to a job that has ended: all of it was flushed before.
        let written = fs::read(&log).unwrap_or_default();
        let length = written.len() as u64;
        if length > 0 && Log::read(&written).is_ok_and(|log| log.verdict.is_none()) {
            let lost = if random.once_in(6) { length } else { random.below(length.min(60_000)) };
            let file = fs::OpenOptions::new().write(true).open(&log).expect("the log");
            file.set_len(length - lost).expect("it can be cut");
            cuts += 1;
        }
        master = world.master();
    }
    fs::write(release, "").expect("a file");
    let event = world.ended(1);
    assert_eq!((event.jobs[0].state.as_str(), event.jobs[0].attempt), ("passed", 1), "{event:?}");
    same("job 1", "the log", world.records(1).channel("stdout"), &printed);
    assert!(cuts > 2, "the log was cut only {cuts} times");
}
