//! Jobs that want out of their container, or want it never to end: over both runners.
#![cfg(feature = "nspawn")]

#[path = "common/root.rs"]
mod root;

mod common;

use common::*;
use root::*;
use sai_agent::cgroup::{Limits, trouble};
use sai_agent::container::Upper;
use sai_core::job::{Fault, Outcome};
use std::fs;
use std::path::Path;

/// Each of these fails inside, prints nothing, and changes nothing outside.
const FORBIDDEN: &[(&str, &str)] = &[
    ("mount", "mount -t tmpfs none /mnt"),
    ("mount by a user namespace", "unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none /mnt'"),
    ("remount", "mount -o remount,rw /sai/steps"),
    ("unmount", "umount /proc"),
    ("a device in the root", "mknod /tmp/disk b 254 0"),
    ("a device in the workspace", "mknod /sai/src/disk b 254 0"),
    ("reboot", "perl -e 'exit(syscall($ARGV[0], 0xfee1dead, 672274793, 0) == 0 ? 0 : 1)' $REBOOT"),
    ("a key ring", "perl -e 'exit(syscall($ARGV[0], 0, -3, 1) >= 0 ? 0 : 1)' $KEYCTL"),
    ("chroot", "chroot / true"),
    ("the name of the host", "hostname evil"),
    ("kernel settings", "echo 1 > /proc/sys/kernel/sysrq"),
    ("kernel requests", "echo h > /proc/sysrq-trigger"),
    ("devices of the machine", "ls /dev/vda* /dev/sda* /dev/kmsg /dev/mem /dev/kvm /dev/loop0"),
    ("the log of the kernel", "dmesg"),
    ("the base", "touch /usr/bin/evil"),
    ("the users", "echo evil::0:0::/:/bin/sh >> /etc/passwd"),
    ("the scripts", "echo exit 0 > /sai/steps/run-2"),
    ("another script", "rm -f /sai/steps/run-1"),
    ("the mount point of the scripts", "mv /sai/steps /sai/other"),
    ("root by su", "su -c true"),
    ("root by setuid", "cp /bin/sh /tmp/rootsh && chmod 4755 /tmp/rootsh && chown 0 /tmp/rootsh"),
    ("the first process", "kill -KILL 1; test ! -e /proc/1/stat"),
    (
        "the root of the first process",
        "ls /proc/1/root/ && test \"$(stat -c %d:%i /proc/1/root/.)\" != \"$(stat -c %d:%i /)\"",
    ),
    ("the words of the runner", "echo evil >> /proc/1/fd/1 || echo evil >> /proc/1/fd/2 || cat /proc/1/fd/0 | grep ."),
    ("the files of the runner", "ls /run/systemd/nspawn/locks"),
    ("the control groups", "mkdir /sys/fs/cgroup/*/evil"),
];

#[test]
fn nothing_forbidden_succeeds() {
    each_runner("hostile-forbidden", |world, container| {
        let base = Path::new(&container.layers[0]);
        let before = listing(base);
        let mut script =
            String::from("case $(uname -m) in x86_64) REBOOT=169 KEYCTL=250;; *) REBOOT=142 KEYCTL=219;; esac\n");
        for (name, attempt) in FORBIDDEN {
            script.push_str(&format!("if ( {attempt} ) >/dev/null 2>&1; then echo 'succeeded: {name}'; fi\n"));
        }
        // The checks themselves can fail: what is allowed is seen to be.
        script.push_str("if ( mount --version ) >/dev/null 2>&1; then echo 'succeeded: a harmless one'; fi\n");
        script.push_str("grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd|CapPrm):' /proc/self/status | tr -d '\\t'\n");
        let log = run(world, container, &world.assignment(&[&script, "echo second"]));
        assert_eq!(
            log.text("stdout"),
            "succeeded: a harmless one\nCapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\n\
             NoNewPrivs:1\nSeccomp:2\nsecond\n",
            "{}",
            log.text("stderr")
        );
        assert_eq!(log.outcome(), Outcome::Passed);
        assert_eq!(listing(base), before);
    });
}

#[test]
fn no_path_leads_to_the_machine() {
    each_runner("hostile-paths", |world, container| {
        let secret = world.path.join("secret");
        fs::write(&secret, "secret").unwrap();
        let secret = secret.display();
        let step = format!(
            "cat {secret} && exit 9; cat /sai/src/../../../../../..{secret} && exit 9; ln -s / up; cat up/{secret} && exit 9
             cat /proc/self/root/{secret} && exit 9; cat /proc/*/root/{secret} && exit 9; cat /proc/*/cwd/{secret} && exit 9
             for fd in /proc/self/fd/*; do cat $fd/../{secret} && exit 9; done
             ls /sai/.. /sai/../..; stat -c %i / /..; ls -A /sai"
        );
        let log = run(world, container, &world.assignment(&[&step]));
        let text = log.text("stdout");
        assert!(!text.contains("secret") && text.ends_with("home\nsrc\nsteps\ntmp\n"), "{text}{}", log.text("stderr"));
        let numbers = numbers(&text);
        assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{text}");
        assert_eq!(log.outcome(), Outcome::Passed);
    });
}

#[test]
fn a_workspace_replaced_by_links_is_of_no_use() {
    each_runner("hostile-links", |world, container| {
        let outside = world.path.join("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("file"), "secret").unwrap();
        let out = outside.display();
        let mut assignment = world.assignment(&[
            &format!("cd /sai; mv src gone; ln -s {out} src; rm -rf tmp home; ln -s {out} tmp; ln -s {out} home"),
            "echo > made",
        ]);
        assignment.artifacts = vec!["**".into(), "/sai/src/**".into()];
        let directory = begin(world, container, &assignment);
        finish(&directory);
        let log = Log::of(&directory);
        // The link leads nowhere inside, so the second step has no place to begin in.
        assert_eq!((log.statuses(), log.artifacts().len()), (vec![0, 126], 0), "{:?}", log.notes());
        directory.forget().unwrap();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "secret");
    });
}

#[test]
fn shared_memory_and_the_device_directory_are_bounded() {
    each_runner("hostile-memory", |world, container| {
        let step = "for place in /dev/shm /run /dev /dev/mqueue; do head -c 300M /dev/zero > $place/x && echo full of $place; \
                    rm -f $place/x; done; true";
        let log = run(world, container, &world.assignment(&[step]));
        assert_eq!(log.text("stdout"), "", "{}", log.text("stderr"));
        assert!(log.text("stderr").contains("No space left on device"), "{}", log.text("stderr"));
        assert_eq!(log.outcome(), Outcome::Passed);
    });
}

#[test]
fn one_bound_in_memory_holds_for_all_that_a_job_can_write() {
    each_runner("hostile-bound", |world, container| {
        let mut container = container.clone();
        (container.upper, container.upper_mib) = (Upper::Tmpfs, Some(32));
        let fill = "set +e; find / -path /proc -prune -o -type d -writable -print | grep -v '^/sai/src/.git' >/tmp/places
             while read -r place; do head -c 40M /dev/zero >$place/fill; done </tmp/places; cat /tmp/places
             find / -path /proc -prune -o -name fill -print0 | xargs -0 stat -c %b | awk '{ sum += $1 } END { print \"MiB\", sum / 2048 }'";
        // An empty file takes memory too.
        let many = "set +e; find / -path /proc -prune -o -name fill -print0 | xargs -0 rm -f
             i=0; while [ $i -lt 20000 ] && : >/dev/shm/$i; do i=$((i + 1)); done; echo $i files";
        let log = run(world, &container, &world.assignment(&[fill, many]));
        let text = log.text("stdout");
        for place in ["/tmp", "/sai/src", "/sai/home", "/sai/tmp", "/dev/shm"] {
            assert!(text.lines().any(|line| line == place), "{place}: {text}");
        }
        let number = |word: &str, at: usize| {
            let line = text.lines().find(|line| line.contains(word)).unwrap();
            line.split(' ').nth(at).unwrap().parse::<f64>().unwrap()
        };
        let filled = number("MiB", 1);
        assert!(filled > 24.0 && filled <= 32.0, "{text}");
        assert!(number(" files", 0) < 32.0 * 256.0, "{text}");
        assert!(log.text("stderr").contains("No space left on device"), "{}", log.text("stderr"));

        container.upper_mib = Some(16);
        fs::write(world.origin().join("large"), (0..5_000_000_u32).flat_map(u32::to_ne_bytes).collect::<Vec<_>>())
            .unwrap();
        let mut assignment = world.assignment(&["true"]);
        assignment.revision = world.commit("large");
        let log = run(world, &container, &assignment);
        let verdict = log.verdict();
        assert_eq!((verdict.outcome, verdict.trouble.as_deref()), (Outcome::Infra, Some("platform")), "{verdict:?}");
        assert!(verdict.cause.contains("upper_mib leaves 16 MiB"), "{}", verdict.cause);
    });
}

#[test]
fn a_fork_bomb_ends_with_its_job_and_harms_nobody() {
    each_runner("hostile-fork", |world, container| {
        if let [line] = &trouble(Limits { pids: Some(64), ..Limits::default() })[..] {
            // Where nothing bounds it, it is not to be had; that is told instead.
            let log = run(world, container, &world.assignment(&["true"]));
            assert!(log.notes().contains(&line.as_str()), "{:?}", log.notes());
            return;
        }
        let mut container = container.clone();
        container.pids = Some(64);
        // It takes its breath between two explosions: the machine has other tests to run.
        let bomb = "perl -e 'while (1) { fork; select undef, undef, undef, 0.1 }' & echo ready; wait";
        let directory = begin(world, &container, &world.assignment(&[bomb]));
        let held = hold(&directory);
        wait_for(&directory, &held, "ready\n");
        let groups = fs::read_to_string(directory.path().join("cgroups")).unwrap();
        let count = || groups.lines().find_map(|group| fs::read_to_string(Path::new(group).join("pids.current")).ok());
        until("the bomb fills its group", || count().is_some_and(|count| numbers(&count)[0] >= 60));
        // Others go on, in a container of their own.
        let other = run(world, &container, &world.assignment(&["echo fine"]));
        assert_eq!(other.text("stdout"), "fine\n");
        let traces = Traces::of(&directory);
        held.cancel("enough");
        while next(&held).is_some() {}
        traces.none_left();
        assert_eq!(Log::of(&directory).outcome(), Outcome::Cancelled);
    });
}

#[test]
fn a_job_can_lie_about_itself_and_only_about_itself() {
    each_runner("hostile-lies", |world, container| {
        // It says that its steps have ended.
        let lie = "printf 'x\\n\\0\\0\\n9 9\\n-1 0\\n1 0\\n' > /sai/steps/statuses; sleep 1000";
        let log = run(world, container, &world.assignment(&[lie]));
        assert_eq!((log.outcome(), log.statuses()), (Outcome::Passed, vec![0]));
        // It leaves no room for the next order, which is no trouble of ours.
        let full = "kill -STOP $PPID; timeout 1 head -c 1M /dev/zero > /sai/steps/orders || true; echo 1 0 > /sai/steps/statuses
                    sleep 1000";
        let log = run(world, container, &world.assignment(&[full, "echo never"]));
        assert_eq!((log.outcome(), log.statuses()), (Outcome::Failed, vec![0, 137]), "{:?}", log.verdict());
        assert_eq!(log.verdict().fault, Fault::Job);
        // It says more than anybody would listen to, takes the orders away, and still is cancelled and timed out.
        let noise = "cat /sai/steps/orders & yes > /sai/steps/statuses & yes 3 3 > /sai/steps/statuses & echo ready; sleep 1000";
        for cancel in [true, false] {
            let mut assignment = world.assignment(&[noise]);
            assignment.step_timeout_s = (!cancel).then_some(2);
            let directory = begin(world, container, &assignment);
            let traces = Traces::of(&directory);
            let held = hold(&directory);
            if cancel {
                wait_for(&directory, &held, "ready\n");
                held.cancel("enough");
            }
            while next(&held).is_some() {}
            traces.none_left();
            let expected = if cancel { Outcome::Cancelled } else { Outcome::TimedOut };
            assert_eq!(Log::of(&directory).outcome(), expected);
        }
    });
}

#[test]
fn cancelled_and_timed_out_jobs_leave_nothing_however_stubborn() {
    each_runner("hostile-stubborn", |world, container| {
        let step = "trap 'echo asked' TERM; sleep 1000 & setsid sleep 1001 & (setsid sh -c 'sleep 1002 & sleep 1003' &)
            env -i setsid sleep 1004 & sleep 1005 & kill -STOP $!; (trap '' TERM; sleep 1006) &
            (trap '' TERM HUP INT; while :; do sleep 1; done) & echo ready; while :; do wait || true; done";
        for (timeout, outcome) in [(60, Outcome::Cancelled), (8, Outcome::TimedOut)] {
            let mut assignment = world.assignment(&[step, "echo never"]);
            assignment.step_timeout_s = Some(timeout);
            let directory = begin(world, container, &assignment);
            let traces = Traces::of(&directory);
            let held = hold(&directory);
            wait_for(&directory, &held, "ready\n");
            let traces = traces.see(supervisor_pid(&directory));
            if outcome == Outcome::Cancelled {
                held.cancel("enough");
            }
            while next(&held).is_some() {}
            traces.none_left();
            let log = Log::of(&directory);
            assert_eq!((log.outcome(), log.statuses()), (outcome, vec![137]));
            assert!(log.text("stdout").contains("asked") && !log.text("stdout").contains("never"));
            directory.forget().unwrap();
        }
        assert_eq!(fs::read_dir(world.jobs()).unwrap().count(), 0);
    });
}

#[test]
fn files_of_others_and_immutable_ones_are_removed() {
    each_runner("hostile-leftovers", |world, container| {
        let step = "mkdir -p /tmp/a/b; echo x > /tmp/a/b/c; chmod 000 /tmp/a/b /tmp/a; mkdir locked; chmod 000 locked; \
                    perl -e 'for (1..300) { mkdir \"d\" x 100; chdir \"d\" x 100 }'";
        let directory = begin(world, container, &world.assignment(&[step]));
        finish(&directory);
        assert_eq!(Log::of(&directory).outcome(), Outcome::Passed);
        // What a job with more power than ours would leave.
        let changes = directory.path().join("upper/changes");
        assert!(changes.join("tmp/a").exists());
        for (name, owner) in [("theirs", 12_345), ("fixed", 0)] {
            let inner = changes.join("tmp").join(name);
            fs::create_dir_all(&inner).unwrap();
            fs::write(inner.join("file"), "x").unwrap();
            std::os::unix::fs::chown(inner.join("file"), Some(owner), Some(owner)).unwrap();
            std::os::unix::fs::chown(&inner, Some(owner), Some(owner)).unwrap();
        }
        for path in ["fixed/file", "fixed"] {
            let file = fs::File::open(changes.join("tmp").join(path)).unwrap();
            rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::IMMUTABLE).unwrap();
        }
        fs::remove_file(changes.join("tmp/fixed/file")).unwrap_err();
        let path = directory.path().to_path_buf();
        directory.forget().unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read_dir(world.jobs()).unwrap().count(), 0);
    });
}

#[test]
fn what_is_mounted_in_a_job_directory_is_not_emptied() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("hostile-mounted");
    let directory = world.start(&world.assignment(&["mkdir -p deep/er/mounted; touch deep/er/file"]));
    finish(&directory);
    let theirs = world.path.join("theirs");
    fs::create_dir_all(theirs.join("inner")).unwrap();
    fs::write(theirs.join("inner/file"), "kept").unwrap();
    let removed = world.jobs().join(format!(".removed-{}", directory.key()));
    let mounted = Mounted::bind(&theirs, &directory.path().join("work/src/deep/er/mounted"));
    let error = directory.forget().unwrap_err().to_string();
    assert!(error.contains("mounted is a mount point"), "{error}");
    assert_eq!(fs::read_to_string(theirs.join("inner/file")).unwrap(), "kept");
    assert!(removed.exists() && !removed.join("work/home").exists());
    drop(mounted);
    sai_agent::job_directory::JobDirectory::scan(&world.jobs()).unwrap();
    assert!(!removed.exists());
    assert_eq!(fs::read_to_string(theirs.join("inner/file")).unwrap(), "kept");
}

#[test]
fn a_container_ended_from_outside_is_no_failure_of_the_job() {
    each_runner("hostile-outside", |world, container| {
        let directory = begin(world, container, &world.assignment(&["echo ready; sleep 1000"]));
        let held = hold(&directory);
        wait_for(&directory, &held, "ready\n");
        let supervisor = supervisor_pid(&directory);
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        let tasks = fs::read_dir(format!("/proc/{supervisor}/task")).unwrap().flatten();
        let all: String =
            tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default()).collect();
        let runners = numbers(&all);
        assert_eq!(runners.len(), 1, "{children} {all}");
        kill(runners[0]);
        while next(&held).is_some() {}
        let log = Log::of(&directory);
        assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Infra, Fault::Infrastructure));
        assert_eq!(log.verdict().cause, "the container's runner was ended by signal 9");
    });
}
