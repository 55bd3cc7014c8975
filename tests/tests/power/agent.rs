//! The power of a real agent's machine fails at random moments: no byte that the master took is another's, none is a zero, no
//! job is lost, and none that had ended here runs again.
//!
//! The machine is all processes of the agent, killed at once, its disk, which forgets what was not synced, and the number of its
//! boot, a file of this test's in the place of the kernel's.

use crate::disk::Disk;
use rustix::process::{Pid, Signal, kill_process};
use sai_tests::process::{Process, eventually, program};
use sai_tests::random::{Random, rounds, seed};
use sai_tests::world::{Event, World};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const PLATFORM: &str = "linux-test-1/x86_64/gcc";
/// Pushes, each of two jobs and one cut; a multiple of the moments below.
const PUSHES: u64 = 9;
/// Lines that each job prints.
const LINES: usize = 2500;

pub(super) struct Machine<'a> {
    pub(super) world: &'a World,
    pub(super) disk: Disk,
    boots: u64,
    pub(super) agent: Process,
}

impl<'a> Machine<'a> {
    pub(super) fn new(world: &'a mut World) -> Option<Self> {
        let disk = Disk::mount(&world.agent_state("one"))?;
        let boot = world.directory.join("boot");
        fs::write(&boot, "boot-0\n").expect("written");
        let script = world.directory.join("agent-of-this-boot");
        let text = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec {agent} \"$@\"' \
             sh \"$@\"\n",
            boot = boot.display(),
            agent = program("sai-agent").display()
        );
        fs::write(&script, text).expect("written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a program");
        world.other_agent = Some((script, Vec::new()));
        let agent = world.agent("one", &[PLATFORM], 2);
        Some(Self { world, disk, boots: 0, agent })
    }

    /// All ends at once: what goes first has nothing to say about the end of what goes after it.
    pub(super) fn cut(&mut self, random: &mut Random) {
        let kill = |wanted: &dyn Fn(&str) -> bool| {
            for line in self.world.survivors().into_iter().filter(|line| wanted(line)) {
                let pid = line.split(':').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?)).expect("a process");
                let _ = kill_process(pid, Signal::KILL);
                thaw(pid);
            }
        };
        kill(&|line| line.contains(" --job "));
        self.agent.kill();
        eventually("nothing runs on the machine", || {
            let alive = |line: &str| !line.contains("sai-master");
            kill(&alive);
            (!self.world.survivors().iter().any(|line| alive(line))).then_some(())
        });
        self.disk.cut(random);
        self.boots += 1;
        fs::write(self.world.directory.join("boot"), format!("boot-{}\n", self.boots)).expect("written");
    }

    pub(super) fn boot(&mut self) {
        self.agent = self.world.agent_again("one");
    }

    /// Whether the supervisors of both jobs have begun and are gone: then both verdicts have been told.
    fn both_have_ended(&self) -> bool {
        let directories = self.world.job_directories(&self.world.agent_state("one"));
        directories.len() == 2 && directories.iter().all(|directory| directory.join("ended").exists()) && {
            let alive = self.world.survivors();
            !alive.iter().any(|line| line.contains(" --job "))
        }
    }
}

/// Lets a process go that its supervisor, killed just then, has left frozen: it does not end before that, and a machine without
/// power has none.
fn thaw(pid: Pid) {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let group = groups.lines().find_map(|line| line.split_once(":freezer:")).map(|(_, group)| group);
    if let Some(group) = group.filter(|group| group.starts_with("/sai-")) {
        let _ = fs::write(format!("/sys/fs/cgroup/freezer{group}/freezer.state"), "THAWED");
    }
}

pub(super) fn running(world: &World, id: u64) -> Event {
    eventually("both jobs run", || world.event(id).filter(|event| event.jobs.iter().all(|job| job.state == "running")))
}

#[test]
fn a_power_cut_of_an_agent_puts_nothing_in_the_place_of_what_it_took() {
    let mut world = World::new("power-agent");
    let mut random = Random::new(seed("power-agent", 11));
    let mut master = world.master();
    let runs = world.directory.join("runs");
    let Some(mut machine) = Machine::new(&mut world) else { return };
    let world = machine.world;
    let build = format!(
        "echo \"$SAI_JOB $SAI_ATTEMPT\" >> {runs}; i=0; while [ $i != {LINES} ]; do \
         echo \"line $i of $SAI_CONFIGURATION\"; i=$((i+1)); [ $((i % 250)) != 0 ] || sleep 0.04; done; \
         seq 200000 > out; echo small > small",
        runs = runs.display()
    );
    let mut went_down = 0;
    for push in 1..=rounds(PUSHES) {
        world.repository.push_saifile(&format!(
            "# {push}\n{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {build:?}}}}}, \
             \"configurations\": {{\"a\": {{\"artifacts\": \"out,small\"}}, \"b\": {{\"artifacts\": \"out,small\"}}}}}}"
        ));
        running(world, push);
        let mut first = false;
        match push % 3 {
            // While they run, and while they end.
            0 => std::thread::sleep(Duration::from_millis(random.below(700))),
            // When they have ended, of which the master has heard at most a part.
            1 => {
                std::thread::sleep(Duration::from_millis(random.below(400)));
                master.kill();
                eventually("both jobs have ended", || machine.both_have_ended().then_some(()));
                first = true;
            }
            // When what they leave is on its way.
            _ => {
                eventually("a job has ended", || {
                    let directories = world.job_directories(&world.agent_state("one"));
                    directories.iter().any(|directory| directory.join("ended").exists()).then_some(())
                });
                std::thread::sleep(Duration::from_millis(random.below(12)));
            }
        }
        machine.cut(&mut random);
        let known = world.event(push);
        if push % 3 == 1 {
            master = world.master();
        }
        machine.boot();
        let event = world.ended(push);
        for job in &event.jobs {
            assert_eq!(job.state, "passed", "push {push}: {job:?}\n{}", master.said().join("\n"));
            assert!(job.attempt == 1 || (job.attempt == 2 && !first), "push {push}: {job:?}");
            let before = known.iter().flat_map(|event| &event.jobs).find(|before| before.id == job.id);
            assert!(before.is_none_or(|before| before.state != "passed" || before.attempt == job.attempt), "{job:?}");
            let text = String::from_utf8(world.records(job.id).channel("stdout").to_vec()).expect("no foreign bytes");
            let wanted: String = (0..LINES).map(|line| format!("line {line} of {}\n", job.configuration)).collect();
            assert!(text == wanted, "push {push}: the log of job {}", job.id);
            let kept = world.get(&job.artifacts[0].download).expect("the file");
            let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
            assert!(kept == wanted.as_bytes(), "push {push}: the file of job {}", job.id);
        }
        went_down += event.jobs.iter().filter(|job| job.attempt == 2).count();
        let said = master.said().join("\n");
        let bad = ["malformed", "unknown kind", "digest", "lost bytes", "unusable", "shorter than it was"];
        assert!(!bad.iter().any(|word| said.contains(word)), "push {push}: {said}");
    }
    println!("{went_down} attempts went down with the machine");
    let text = fs::read_to_string(&runs).expect("the runs");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let all = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), all, "no attempt has run twice");
    world.tidy(&[world.agent_state("one")]);
    machine.agent.kill();
    master.kill();
}
