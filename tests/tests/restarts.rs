//! SIGKILL of real agents while jobs run in containers: each job goes on, is found again, and its log is whole.

#[path = "../../agent/tests/roots/mod.rs"]
mod roots;

use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::run;
use sai_tests::world::World;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What makes containers, and so the agents' names.
const RUNNERS: [&str; 2] = ["nspawn", "bwrap"];
/// Times that each agent is killed while its job prints.
const KILLS: usize = 3;

/// An agent and its job.
struct Ours {
    agent: Process,
    state: PathBuf,
    job: u64,
    marker: String,
}

impl Ours {
    fn directory(&self) -> PathBuf {
        self.state.join(format!("jobs/{}-1", self.job))
    }

    /// Bytes of the log that the job has on the disk.
    fn spooled(&self) -> u64 {
        let files = fs::read_dir(self.directory().join("spool")).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }
}

/// Whatever below a directory has this in its name.
fn named(directory: &Path, name: &str, depth: usize) -> Vec<PathBuf> {
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

/// The lines that a job has printed, `word 1` to `word last`.
fn lines(word: &str, last: u32) -> String {
    (1..=last).map(|number| format!("{word} {number}\n")).collect()
}

#[test]
fn jobs_in_containers_outlive_their_agents_with_every_byte() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("restarts");
    let _master = world.master();
    let root = roots::debian("bookworm");
    let platform = |runner: &str| format!("linux-debian-12/any/{runner}");
    let mut agents = Vec::new();
    for runner in RUNNERS {
        let state = world.agent_state(runner);
        let mut create = Command::new(program("sai-agent"));
        create.args(["image", "create", &platform(runner), "--from-dir"]).arg(&root).arg("--state").arg(&state);
        run(&mut create);
        agents.push(world.agent_with(runner, &["linux-host"], 1, &[&format!("\"container\": \"{runner}\"")]));
    }
    let steps = [
        "setsid sleep 1000 & echo $! > /tmp/pid",
        "n=0; until [ -e go ]; do n=$((n + 1)); echo out $n; echo err $n >&2; sleep 0.02; done; echo last $n",
        "kill -0 $(cat /tmp/pid) && echo alive; exit 3",
    ];
    let build = miniserde::json::to_string(&steps.map(str::to_owned).to_vec());
    let platforms = RUNNERS.map(|runner| format!("{:?}: {{ \"build\": {build} }}", platform(runner))).join(", ");
    world.repository.push_saifile(&format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ {platforms} }}, \"configurations\": {{ \"default\": {{}} }} }}"
    ));
    let jobs = eventually("the jobs are known", || Some(world.event(1)?.jobs).filter(|jobs| jobs.len() == 2));
    let mut all = Vec::new();
    for (runner, agent) in RUNNERS.into_iter().zip(agents) {
        let job = jobs.iter().find(|job| job.platform == platform(runner)).expect("a job").id;
        let state = world.agent_state(runner);
        let file = state.join(format!("jobs/{job}-1/marker"));
        let marker = eventually("the job begins", || fs::read_to_string(&file).ok());
        all.push(Ours { agent, state, job, marker });
    }
    for (runner, ours) in RUNNERS.into_iter().zip(&mut all) {
        eventually("the job prints", || {
            String::from_utf8_lossy(&world.log(ours.job)).contains("out 5\n").then_some(())
        });
        let groups = fs::read_to_string(ours.directory().join("cgroups")).expect("its cgroups");
        assert!(groups.lines().all(|group| group.contains(&ours.marker)), "{groups}");
        for _ in 0..KILLS {
            ours.agent.kill();
            let (kept, spooled) = (world.log(ours.job).len(), ours.spooled());
            eventually("the job goes on without an agent", || (ours.spooled() > spooled + 500).then_some(()));
            ours.agent = world.agent_again(runner);
            eventually("the job is followed again", || (world.log(ours.job).len() > kept + 500).then_some(()));
        }
        // It ends while nobody looks.
        ours.agent.kill();
        fs::write(ours.directory().join("work/src/go"), "").expect("a file");
        eventually("the job ends", || ours.directory().join("ended").exists().then_some(()));
        ours.agent = world.agent_again(runner);
    }
    let event = world.ended(1);
    for (job, ours) in event.jobs.iter().zip(&all) {
        assert_eq!((job.state.as_str(), job.attempt), ("failed", 1), "{job:?}\n{:#?}", ours.agent.said());
        assert!(job.cause.contains("step 3 ended with status 3"), "{}", job.cause);
        let records = world.records(job.id);
        assert_eq!((&records.steps[..], &records.statuses[..]), (&[0, 1, 2][..], &[0, 0, 3][..]));
        let printed = String::from_utf8_lossy(records.channel("stdout")).into_owned();
        let last = printed.lines().find_map(|line| line.strip_prefix("last ")).and_then(|last| last.parse().ok());
        let last: u32 = last.unwrap_or_else(|| panic!("no last line: {printed}"));
        assert_eq!(printed, format!("{}last {last}\nalive\n", lines("out", last)));
        assert_eq!(String::from_utf8_lossy(records.channel("stderr")), lines("err", last));
    }
    // Nothing of it is left, in any of the places where a container is more than its processes.
    world.tidy(&all.iter().map(|ours| ours.state.clone()).collect::<Vec<_>>());
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts");
    assert!(!mounts.contains(world.directory.to_str().expect("text")), "{mounts}");
    for ours in &all {
        assert_eq!(named(Path::new("/sys/fs/cgroup"), &ours.marker, 6), Vec::<PathBuf>::new());
        let machine = format!("sai-{}-1", ours.job);
        assert_eq!(named(Path::new("/run/systemd/nspawn"), &machine, 4), Vec::<PathBuf>::new());
    }
}
