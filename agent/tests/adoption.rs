//! Agents and supervisors that die, in every order: the job goes on, or is buried with nothing of it left.

mod common;

use common::*;
use sai_agent::job_directory::{JobDirectory, Launcher, bury, start};
use sai_core::job::{Fault, Outcome};
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// A step that starts processes of every sort, prints their pids and goes on for ever.
const STUBBORN: &str =
    "sleep 1000 & echo $!; setsid sleep 1001 & echo $!; (setsid sh -c 'sleep 1002 & echo $!; sleep 1003' &)
    env -i setsid sleep 1004 & echo $!; env -i sleep 1005 & echo $!; sleep 1006 & kill -STOP $!; echo $!
    sleep 0.2; echo $$; echo ready; while :; do sleep 1000; done";

#[test]
fn a_job_goes_on_with_one_agent_after_the_other() {
    let world = World::new("outlive");
    let steps = ["echo first; until test -e ../tmp/go; do sleep 0.01; done; echo second"];
    let directory = world.start(&world.assignment(&steps));
    let held = hold(&directory);
    wait_for(&directory, &held, "first\n");
    // Two agents in a row, the first of which just goes.
    drop(held);
    let held = hold(&directory);
    std::fs::write(directory.path().join("work/tmp/go"), "").unwrap();
    while next(&held).is_some() {}
    let log = Log::of(&directory);
    assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, "first\nsecond\n"));
    let again = JobDirectory::scan(&world.jobs()).unwrap();
    assert_eq!(again.iter().map(JobDirectory::key).collect::<Vec<_>>(), [directory.key()]);
    assert_eq!(again[0].lengths().unwrap(), directory.lengths().unwrap());
    gone(&again[0]);
}

#[test]
fn a_killed_supervisor_is_buried_and_leaves_no_process() {
    let world = World::new("bury");
    let directory = world.start(&world.assignment(&[STUBBORN]));
    let held = hold(&directory);
    let pids = numbers(&wait_for(&directory, &held, "ready\n").text("stdout"));
    assert!(pids.len() >= 6 && pids.iter().all(|pid| lives(*pid)), "{pids:?}");
    assert_eq!(bury(&directory, "too early").unwrap_err().kind(), ErrorKind::WouldBlock);
    kill(supervisor_pid(&directory));
    while next(&held).is_some() {}
    assert!(!directory.ended());
    let before = directory.lengths().unwrap()[0];
    gone(&directory);
    bury(&directory, "the supervisor was killed").unwrap();
    assert!(directory.ended());
    until("all processes are gone", || pids.iter().all(|pid| !lives(*pid)));
    let log = Log::of(&directory);
    assert!(directory.lengths().unwrap()[0] > before);
    assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Infra, Fault::Infrastructure));
    assert_eq!(log.verdict().cause, "the supervisor was killed");
    // Again, and a late start: nothing changes.
    let length = directory.lengths().unwrap()[0];
    bury(&directory, "again").unwrap();
    assert_eq!(start(&directory, &launcher()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let late =
        Command::new(&launcher().program).arg("--job").arg(directory.path()).stderr(Stdio::null()).status().unwrap();
    assert!(!late.success());
    assert_eq!(directory.lengths().unwrap()[0], length);
}

/// A step that leaves processes behind which have thrown away all that they could be known by: directory, environment, session
/// and parents; one of them becomes another one all the time. `TAG` stands in the command line of each.
const HIDING: &str =
    "printf '#!/bin/sh\\nsleep 0.01\\nsetsid \"$0\" \"$1\" &\\n' >../hop; chmod +x ../hop; hop=$(readlink -f ../hop)
    (cd /; env -i setsid sh -c 'setsid sh -c \"sleep 1000; : $2\" & setsid \"$1\" \"$2\" &' sh \"$hop\" TAG &)
    sleep 0.2; echo ready; while :; do sleep 1000; done";

fn tagged(tag: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(tag.len()).any(|part| part == tag.as_bytes())).count()
}

/// Runs a job whose supervisor is killed, by this launcher, and looks for what is left after it was buried.
fn hides(name: &str, launcher: &Launcher) {
    let world = World::new(name);
    let tag = format!("tag-{name}-{}", std::process::id());
    let assignment = world.assignment(&[&HIDING.replace("TAG", &tag)]);
    let directory = JobDirectory::create(&world.jobs(), &assignment).unwrap();
    start(&directory, launcher).unwrap();
    let held = hold(&directory);
    wait_for(&directory, &held, "ready\n");
    until("they hide", || tagged(&tag) >= 2);
    let groups = std::fs::read_to_string(directory.path().join("cgroups")).unwrap();
    kill(supervisor_pid(&directory));
    while next(&held).is_some() {}
    gone(&directory);
    bury(&directory, "the supervisor was killed").unwrap();
    until("nothing is left", || tagged(&tag) == 0);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(tagged(&tag), 0);
    assert!(
        groups.lines().count() == 1 && groups.lines().all(|group| !std::path::Path::new(group).exists()),
        "{groups}"
    );
    assert_eq!(Log::of(&directory).outcome(), Outcome::Infra);
}

#[test]
fn a_process_that_hides_from_its_job_dies_with_it() {
    if sai_agent::cgroup::enclosing_trouble().is_none() {
        hides("hide", &launcher());
    }
    // Where there is no freezer, a cgroup of version 2 does.
    let second = std::fs::read_to_string("/proc/mounts").unwrap().contains(" cgroup2 ");
    let freezer = std::path::Path::new("/sys/fs/cgroup/freezer");
    if rustix::process::geteuid().is_root() && second && freezer.exists() {
        let script = format!("umount {} && exec \"$@\"", freezer.display());
        let mut first_arguments: Vec<_> = ["-m", "sh", "-c", &script, "sh"].map(std::ffi::OsString::from).to_vec();
        first_arguments.push(launcher().program.into());
        hides("hide-2", &Launcher { program: "unshare".into(), first_arguments });
    }
}

/// A cgroup of version 2 that was handed to another user, as systemd does for `Delegate=yes`; it goes with this.
struct Handed(std::path::PathBuf);

impl Handed {
    fn to(user: u32) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let top = mounts.lines().find(|line| line.contains(" cgroup2 "))?.split(' ').nth(1)?;
        let handed = std::path::Path::new(top).join(format!("handed-{}", std::process::id()));
        std::fs::create_dir(&handed).ok()?;
        for path in [handed.clone(), handed.join("cgroup.procs")] {
            std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
        }
        Some(Self(handed))
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        until("a cgroup is empty", || std::fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn another_users_agent_has_cgroups_for_its_jobs_where_its_own_was_handed_to_it() {
    const USER: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let Some(handed) = Handed::to(USER) else { return };
    let world = World::new("handed");
    std::fs::create_dir_all(world.jobs()).unwrap();
    let user = format!("--reuid={USER}");
    let script = format!("echo 0 >{}/cgroup.procs && exec setpriv {user} --clear-groups \"$@\"", handed.0.display());
    let mut first_arguments: Vec<_> = ["-c", &script, "sh"].map(std::ffi::OsString::from).to_vec();
    first_arguments.push(launcher().program.into());
    let assignment = world.assignment(&["cat /proc/self/cgroup; id -u"]);
    let directory = JobDirectory::create(&world.jobs(), &assignment).unwrap();
    std::fs::File::create(directory.path().join("lock")).unwrap();
    let owned = Command::new("chown").args(["-R", &USER.to_string()]).arg(&world.path).status().unwrap();
    assert!(owned.success());
    start(&directory, &Launcher { program: "sh".into(), first_arguments }).unwrap();
    finish(&directory);
    let (log, name) = (Log::of(&directory), handed.0.file_name().unwrap().to_string_lossy().into_owned());
    let inside = format!("/{name}/sai-");
    assert!(log.text("stdout").contains(&inside) && log.text("stdout").contains("65534"), "{log:?}");
    directory.forget().unwrap();
}

#[test]
fn the_cgroup_of_a_job_that_has_ended_goes_with_its_directory() {
    let world = World::new("enclosed");
    let directory = world.start(&world.assignment(&["cat /proc/self/cgroup"]));
    finish(&directory);
    let groups = std::fs::read_to_string(directory.path().join("cgroups")).unwrap_or_default();
    if sai_agent::cgroup::enclosing_trouble().is_none() {
        let name = groups.trim().rsplit_once('/').unwrap().1.to_string();
        assert!(Log::of(&directory).text("stdout").contains(&name), "{groups}");
    }
    directory.forget().unwrap();
    assert!(groups.lines().all(|group| !std::path::Path::new(group).exists()), "{groups}");
}

#[test]
fn a_lock_that_a_starting_process_still_has_a_copy_of_is_waited_for() {
    let world = World::new("copied");
    let directory = JobDirectory::create(&world.jobs(), &world.assignment(&["true"])).unwrap();
    gone(&directory);
    // Between fork and exec a process has a copy of all its parent's files; this one takes its time.
    let lock = std::fs::OpenOptions::new().write(true).open(directory.path().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut copy = Command::new("sleep").arg("0.3").stdin(Stdio::from(lock)).spawn().unwrap();
    bury(&directory, "never started").unwrap();
    copy.wait().unwrap();
    assert_eq!(Log::of(&directory).outcome(), Outcome::Infra);
}

#[test]
fn a_supervisor_killed_at_any_moment_leaves_a_log_that_can_be_read() {
    let world = World::new("any");
    let mut assignment = world.assignment(&["seq 1 300000", "seq 1 100000000"]);
    assignment.artifacts = vec!["*".into()];
    for round in 0..12_u64 {
        assignment.key.job += 1000;
        let directory = world.start(&assignment);
        let pid = supervisor_pid(&directory);
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        // What an agent has been told of is still there afterwards.
        let told = directory.lengths().unwrap();
        let bytes = read_stream(&directory, 0);
        kill(pid);
        until("the supervisor's end", || !lives(pid));
        gone(&directory);
        bury(&directory, "killed").unwrap();
        let log = Log::of(&directory);
        assert_eq!(log.outcome(), Outcome::Infra);
        assert_eq!(read_stream(&directory, 0)[..told[0] as usize], bytes[..told[0] as usize]);
        assert_eq!(log.artifacts().len(), directory.lengths().unwrap().len() - 1);
        for artifact in log.artifacts() {
            assert_eq!(read_stream(&directory, artifact.stream).len() as u64, artifact.size);
        }
        directory.forget().unwrap();
    }
}

#[test]
fn to_forget_a_running_job_ends_it_and_removes_all_of_it() {
    let world = World::new("forget");
    // Once by asking its supervisor, once with that dead.
    for dead in [false, true] {
        let lock = "mkdir -p a/b && echo x > a/b/c && chmod 000 a/b a; ";
        let directory = world.start(&world.assignment(&[&format!("{lock}{STUBBORN}")]));
        let held = hold(&directory);
        let pids = numbers(&wait_for(&directory, &held, "ready\n").text("stdout"));
        let supervisor = supervisor_pid(&directory);
        if dead {
            kill(supervisor);
        }
        let path = directory.path().to_path_buf();
        directory.forget().unwrap();
        assert!(!path.exists());
        until("all processes are gone", || pids.iter().all(|pid| !lives(*pid)) && !lives(supervisor));
        assert_eq!(std::fs::read_dir(world.jobs()).unwrap().count(), 0);
    }
}

#[test]
fn garbage_among_the_jobs_is_left_alone_and_halves_are_removed() {
    let world = World::new("garbage");
    let jobs = world.jobs();
    assert!(JobDirectory::scan(&jobs).unwrap().is_empty());
    let assignment = world.assignment(&["true"]);
    let directory = JobDirectory::create(&jobs, &assignment).unwrap();
    assert_eq!(JobDirectory::create(&jobs, &assignment).unwrap_err().kind(), ErrorKind::AlreadyExists);
    for name in ["x", "1-", "-1", "01-1", "1-1-1", "99999999999999999999-1", ".new-7-1", ".removed-8-1"] {
        std::fs::create_dir(jobs.join(name)).unwrap();
    }
    std::fs::write(jobs.join("5-5"), "a file").unwrap();
    let found = JobDirectory::scan(&jobs).unwrap();
    assert_eq!(found.iter().map(JobDirectory::key).collect::<Vec<_>>(), [assignment.key]);
    assert!(!jobs.join(".new-7-1").exists() && !jobs.join(".removed-8-1").exists() && jobs.join("x").exists());
    assert_eq!(directory.assignment().unwrap(), assignment);
    assert_eq!(directory.lengths().unwrap(), [0]);
    // One that was made and never started is buried like one that died.
    gone(&directory);
    bury(&directory, "never started").unwrap();
    assert_eq!(Log::of(&directory).outcome(), Outcome::Infra);
}

#[test]
fn a_very_long_state_path_is_no_trouble() {
    let world = World::new("long");
    let jobs = world.path.join("x".repeat(200)).join("jobs");
    let directory = JobDirectory::create(&jobs, &world.assignment(&["echo ok"])).unwrap();
    start(&directory, &launcher()).unwrap();
    finish(&directory);
    assert_eq!(Log::of(&directory).text("stdout"), "ok\n");
    directory.forget().unwrap();
}

#[test]
fn an_unusable_directory_is_told_with_the_supervisors_last_words() {
    let world = World::new("unusable");
    let directory = JobDirectory::create(&world.jobs(), &world.assignment(&["true"])).unwrap();
    std::fs::write(directory.path().join("options"), "nonsense").unwrap();
    start(&directory, &launcher()).unwrap();
    gone(&directory);
    bury(&directory, "no supervisor").unwrap();
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Infra);
    assert!(log.notes().iter().any(|note| note.contains("options")), "{:?}", log.notes());
}

#[test]
fn of_what_went_down_with_its_machine_nothing_is_told_and_of_what_had_ended_all() {
    let world = World::new("boots");
    let (cut, ended) = (world.assignment(&["echo out; sleep 1000"]), world.assignment(&["echo out"]));
    let cut = world.start(&cut);
    let held = hold(&cut);
    wait_for(&cut, &held, "out\n");
    kill(supervisor_pid(&cut));
    while next(&held).is_some() {}
    gone(&cut);
    let ended = world.start(&ended);
    finish(&ended);
    let length = ended.lengths().unwrap()[0];
    assert!(!cut.went_down() && cut.lengths().unwrap()[0] > 0 && !ended.went_down());
    let names = ["boot", "supervisor", "marker", "options", "assignment", "cgroups"];
    let before = names.map(|name| std::fs::read(cut.path().join(name)).unwrap_or_default());
    // Whatever is left of the small files, the machine has been started again.
    for left in [&b"another boot\n"[..], b"", b"\0\0\0\0"] {
        for directory in [&cut, &ended] {
            for name in names {
                std::fs::write(directory.path().join(name), left).unwrap();
            }
        }
        assert!(cut.went_down() && cut.lengths().unwrap().is_empty());
        assert_eq!(bury(&cut, "never").unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(!ended.went_down());
        assert_eq!(ended.lengths().unwrap(), [length]);
    }
    JobDirectory::open(ended.path()).unwrap().forget().unwrap();
    assert!(!ended.path().exists());
    // Back in the boot in which its processes still are.
    for (name, content) in names.iter().zip(before) {
        std::fs::write(cut.path().join(name), content).unwrap();
    }
    JobDirectory::open(cut.path()).unwrap().forget().unwrap();
    assert!(!cut.path().exists());
}
