//! Steps start with nothing of whoever started the agent, and how they end is told as it was: on the machine and in containers.

mod common;
#[cfg(feature = "nspawn")]
#[path = "common/root.rs"]
mod root;

use common::*;
use sai_agent::clean_start::restore_signals;
use sai_core::job::Outcome;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Ignores these signals and blocks all, leaves files open for others, and becomes its arguments.
const DIRTY: &str = "use POSIX; sigaction($_, POSIX::SigAction->new(q(IGNORE))) for split ',', shift; $^F = 500;
    sigprocmask(SIG_BLOCK, POSIX::SigSet->new(1..31, 34..64));
    open($_, '<', '/dev/null') for my ($a, $b, $c); exec @ARGV";
/// What a step sees of that: its own mask, and the files of `ls`.
const LOOK: &str = "grep -E '^Sig(Blk|Ign):' /proc/self/status | tr -d '\\t'; ls /proc/self/fd | tr '\\n' ' '";
const NOTHING: &str = "SigBlk:0000000000000000\nSigIgn:0000000000000000\n0 1 2 3 ";
/// Signals of the C library's own, which nobody sends; where not all can be received it leaves these ignored, or one of them.
const LIBRARYS: [&str; 2] = ["SigIgn:0000000180000000", "SigIgn:0000000080000000"];

/// Runs a test of this file alone, in a process that has been started as it should not be.
fn dirty(test: &str, signals: &[u32]) {
    let signals: Vec<String> = signals.iter().map(u32::to_string).collect();
    let mut command = Command::new("perl");
    // Not by posix_spawn.
    command.gid(rustix::process::getegid().as_raw());
    command.args(["-e", DIRTY, &signals.join(",")]).arg(std::env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--ignored", "--nocapture"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn no_signal_and_no_file_is_inherited() {
    // SIGILL, SIGFPE and SIGSEGV, and those of real time, cannot be had back in the same way as the others.
    let usual: Vec<u32> = (1..32).filter(|signal| ![4, 8, 9, 11, 16, 19, 30].contains(signal)).collect();
    dirty("inner_host", &usual);
    dirty("inner_host", &(1..65).collect::<Vec<_>>());
    #[cfg(feature = "nspawn")]
    dirty("in_containers::inner_containers", &usual);
}

/// In the process that was started as it should not be, after it has done what programs do.
fn expect_nothing(log: &Log) {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut text = log.text("stdout");
    if !own.contains("SigIgn:\t0000000000001000") {
        text = LIBRARYS.iter().fold(text, |text, set| text.replace(set, "SigIgn:0000000000000000"));
    }
    assert_eq!(text, NOTHING, "{:?} {own}", log.verdict());
}

#[test]
#[ignore = "it is run by another one"]
fn inner_host() {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    // Of the C library's own two it does not matter how they were left.
    let blocked = ["SigBlk:\tfffffffe7ffbfeff", "SigBlk:\tfffffffffffbfeff"].iter().any(|set| own.contains(set));
    assert!(blocked && !own.contains("SigIgn:\t0000000000001000"), "{own}");
    // As the programs do: the tests' own git is waited for too.
    restore_signals();
    let world = World::new("dirty");
    let log = world.run(&world.assignment(&[LOOK]));
    expect_nothing(&log);
}

/// Scripts, and the cause that is told.
const ENDS: [(&str, &str); 7] = [
    ("exit 3", "step 1 ended with status 3"),
    ("exit 137", "step 1 ended with status 137"),
    ("kill -KILL $$", "step 1 ended with status 137 (SIGKILL)"),
    ("sh -c 'kill -KILL $$'", "step 1 ended with status 137"),
    ("exit 139", "step 1 ended with status 139"),
    ("kill -SEGV $$", "step 1 ended with status 139 (SIGSEGV)"),
    ("exit 143", "step 1 ended with status 143"),
];

fn expect(log: &Log, script: &str, cause: &str) {
    let verdict = log.verdict();
    assert_eq!((verdict.outcome, verdict.cause.as_str()), (Outcome::Failed, cause), "{script}");
    assert_eq!(verdict.status, log.statuses().first().copied());
}

#[test]
fn a_signal_is_told_from_a_status_like_it() {
    let world = World::new("ends");
    for (script, cause) in ENDS {
        expect(&world.run(&world.assignment(&[script])), script, cause);
    }
}

#[cfg(feature = "nspawn")]
mod in_containers {
    use super::*;
    use root::*;
    use sai_agent::cgroup::{Limits, trouble};

    #[test]
    #[ignore = "it is run by another one"]
    fn inner_containers() {
        restore_signals();
        each_runner("dirty-container", |world, container| {
            let log = run(world, container, &world.assignment(&[LOOK]));
            expect_nothing(&log);
        });
    }

    #[test]
    fn a_signal_is_told_from_a_status_like_it() {
        each_runner("ends-container", |world, container| {
            for (script, cause) in ENDS {
                expect(&run(world, container, &world.assignment(&[script])), script, cause);
            }
        });
    }

    #[test]
    fn busybox_alone_is_an_image() {
        each_runner("busybox", |world, container| {
            let mut container = container.clone();
            let root = busybox(&world.path.join("alpine"));
            container.layers = vec![root.display().to_string()];
            let before = listing(&root);
            let look = "id -u; id -G; cat /etc/os-release; getent passwd sai; getent initgroups sai || echo unknown; ls -A /usr/bin | grep getent; \
                        env | grep -c ^SAI_; touch /usr/bin/x 2>/dev/null || echo $HOME";
            let log = run(world, &container, &world.assignment(&[look, "kill -9 $$"]));
            let text = "59000\n59000\nID=alpine\nVERSION_ID=3.20.1\nsai:x:59000:59000::/sai/home:/bin/sh\nUnknown database: initgroups\n\
                        unknown\ngetent\n";
            assert!(log.text("stdout").starts_with(text), "{} {:?}", log.text("stdout"), log.verdict());
            assert!(log.text("stdout").ends_with("/sai/home\n"), "{}", log.text("stdout"));
            assert_eq!(log.verdict().cause, "step 2 ended with status 137 (SIGKILL)");
            expect(
                &run(world, &container, &world.assignment(&["exit 137"])),
                "busybox",
                "step 1 ended with status 137",
            );
            assert_eq!(listing(&root), before);
        });
    }

    #[test]
    fn a_bad_image_is_the_trouble_of_its_platform() {
        each_runner("bad-image", |world, container| {
            let mut container = container.clone();
            for (name, spoil) in [
                ("no-shell", "rm bin/sh"),
                ("no-interpreter", "printf '#!/no/such/loader\\n' >bin/busybox"),
                ("broken", "head -c 1000 /bin/busybox >bin/busybox"),
                ("no-users", "rm etc/passwd; mkdir etc/passwd"),
                ("gone", "rm -r ../gone"),
            ] {
                let root = busybox(&world.path.join(name));
                let done = Command::new("sh").args(["-c", spoil]).current_dir(&root).status().unwrap();
                assert!(done.success());
                container.layers = vec![root.display().to_string()];
                let verdict = run(world, &container, &world.assignment(&["true"])).verdict().clone();
                assert_eq!(
                    (verdict.outcome, verdict.trouble.as_deref()),
                    (Outcome::Infra, Some("platform")),
                    "{name}: {verdict:?}"
                );
                assert!(!verdict.cause.is_empty() && !verdict.cause.contains('\n'), "{verdict:?}");
            }
        });
    }

    #[test]
    fn devices_are_had_by_name_alone() {
        each_runner("devices", |world, container| {
            let mut container = container.clone();
            let look =
                "if (exec 3<>/dev/fuse) 2>/dev/null; then stat -c %t:%T:%a:%u /dev/fuse; id -u; else echo none; fi";
            assert_eq!(run(world, &container, &world.assignment(&[look])).text("stdout"), "none\n");
            container.devices = Some(vec!["/dev/fuse".into()]);
            let log = run(world, &container, &world.assignment(&[look]));
            let text = log.text("stdout");
            let user = text.lines().last().unwrap_or_default();
            assert_eq!(text, format!("a:e5:600:{user}\n{user}\n"), "{:?} {}", log.verdict(), log.text("stderr"));
            for (device, words) in
                [("/dev/none", "the device /dev/none: No such file"), ("/dev/net", "/dev/net is no device")]
            {
                container.devices = Some(vec![device.into()]);
                let verdict = run(world, &container, &world.assignment(&["true"])).verdict().clone();
                assert_eq!((verdict.outcome, verdict.trouble.as_deref()), (Outcome::Infra, Some("platform")));
                assert!(verdict.cause.contains(words), "{}", verdict.cause);
            }
        });
        let bind = |host: &str| sai_agent::container::Bind { host: host.into(), inside: "/x".into(), writable: true };
        use sai_agent::container_settings::useless;
        assert!(
            useless(&bind("/dev/fuse")).is_some_and(|why| why.contains("key devices"))
                && useless(&bind("/dev")).is_some()
        );
        assert!(useless(&bind("/etc")).is_none() && useless(&bind("/dev/shm")).is_none());
    }

    #[test]
    fn limits_that_are_reached_are_named() {
        each_runner("limits-reached", |world, container| {
            let mut container = container.clone();
            (container.memory_mib, container.pids) = (Some(64), Some(24));
            let limits = Limits { memory_mib: Some(64), cpu_permille: None, pids: Some(24) };
            if !trouble(limits).is_empty() {
                return;
            }
            let greedy = "perl -e '$x = \"x\" x (200 << 20)' || true; echo survived";
            let many = "perl -e 'for (1..40) { $p = fork; exit 3 unless defined $p; unless ($p) { sleep 20; exit } }'";
            let log = run(world, &container, &world.assignment(&[greedy, many]));
            let killed = "step 1: the job reached its limit of memory of 64 MiB (memory_mib), and the kernel killed a process of it";
            assert!(log.notes().contains(&killed), "{:?}", log.notes());
            let cause = "step 2 ended with status 3: the job reached its limit of 24 processes and threads (pids)";
            assert_eq!((log.text("stdout").as_str(), log.verdict().cause.as_str()), ("survived\n", cause));
            let log = run(world, &container, &world.assignment(&[&greedy.replace("|| true", "")]));
            assert!(
                log.verdict().cause.starts_with("step 1 ended with status 137: the job reached its limit of memory")
            );
        });
    }
}
