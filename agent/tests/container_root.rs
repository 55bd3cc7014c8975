//! Jobs whose steps are root in their container, and nobody outside: with a real root, packages and users.
#![cfg(feature = "nspawn")]

#[path = "common/root.rs"]
mod root;

mod common;

use common::*;
use root::*;
use sai_agent::container::{Container, Network, Runner, Upper};
use sai_agent::idmap::{self, range};
use sai_core::job::Outcome;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A container whose steps are root; none where this machine cannot have one, which the job says.
fn rooted(world: &World) -> Option<Container> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let container = Container { root: Some(range(0)), ..image(Runner::Nspawn) };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Err(why) = idmap::available(Path::new(&container.layers[0]), &path) else { return Some(container) };
    let log = run(world, &container, &world.assignment(&["true"]));
    assert_eq!(log.outcome(), Outcome::Infra, "{why}");
    eprintln!("not tried: {why}");
    None
}

/// Makes a package with a user, a program that is set-user-id, and one that asks who runs it, in a repository of files.
const REPOSITORY: &str = r#"
mkdir -p /srv/apt /tmp/hello/DEBIAN /tmp/hello/usr/bin /tmp/hello/var/lib/hello
cd /tmp/hello
printf 'Package: hello\nVersion: 2.10-3\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: says hello\n' >DEBIAN/control
printf '#!/bin/sh\necho Hello, world!\n' >usr/bin/hello
cp /usr/bin/id usr/bin/hello-root
chmod 755 usr/bin/hello
chmod 4755 usr/bin/hello-root
cat >DEBIAN/postinst <<'END'
#!/bin/sh -e
useradd --system --user-group --home-dir /var/lib/hello --shell /bin/sh hello
chown -R hello:hello /var/lib/hello
chmod 2750 /var/lib/hello
END
chmod 755 DEBIAN/postinst
dpkg-deb --build . /srv/apt/hello.deb >/dev/null
cd /srv/apt
{ dpkg-deb --field hello.deb; echo "Filename: ./hello.deb"; echo "Size: $(stat -c %s hello.deb)"; echo "SHA256: $(sha256sum hello.deb | cut -d' ' -f1)"; } >Packages
echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/*
"#;

#[test]
fn packages_are_installed_and_users_made_as_by_a_root() {
    let world = World::new("root-packages");
    let Some(container) = rooted(&world) else { return };
    let base = Path::new(&container.layers[0]);
    let before = listing(base);
    let mut assignment = world.assignment(&[
        "id -u; id -g; cat /proc/self/uid_map | tr -s ' '; stat -c '%U %G' / /etc/passwd /etc/resolv.conf /sai /sai/src /sai/src/file /run /dev /tmp",
        REPOSITORY,
        "apt-get -qq update && apt-get -qq -y install hello 2>&1 && hello && stat -c '%U %G %a' /var/lib/hello /usr/bin/hello-root",
        "su hello -c '/usr/bin/hello-root -un'; su hello -c 'id -un; touch /var/lib/hello/own; touch /etc/hello' 2>/dev/null || true; test ! -e /etc/hello",
        // What many a build in a container does: a user of its own for what refuses to run as root.
        "useradd -m builder; chown -R builder: /sai/src; su builder -c 'echo built >/sai/src/out'; stat -c '%U %u' out .git/objects/pack/* | sort -u",
        "chown root: out; chmod 6755 out; setpriv --reuid=7 --regid=7 --clear-groups id -u; chroot / id -u; touch /run/own && echo run",
    ]);
    assignment.artifacts = vec!["out".into(), "/var/lib/hello/*".into()];
    let directory = begin(&world, &container, &assignment);
    finish(&directory);
    let log = Log::of(&directory);
    let text = log.text("stdout");
    assert_eq!(log.outcome(), Outcome::Passed, "{text}{}{:?}{:?}", log.text("stderr"), log.statuses(), log.verdict());
    let first = range(0);
    assert!(text.starts_with(&format!("0\n0\n 0 {first} 65536\n{}", "root root\n".repeat(9))), "{text}");
    assert!(text.contains("Setting up hello (2.10-3)") && text.contains("\nHello, world!\n"), "{text}");
    assert!(text.contains("hello hello 2750\nroot root 4755\nroot\nhello\n"), "{text}");
    assert!(text.contains("builder 1000\n7\n0\nrun\n"), "{text}");
    assert_eq!(log.artifacts().len(), 2, "{:?}", log.notes());
    // Outside nothing of it is root's, and the image is as it was.
    let uid = |path: &str| fs::symlink_metadata(directory.path().join(path)).unwrap().uid();
    assert_eq!((uid("work/src/out"), uid("upper/changes/etc/passwd")), (first, first));
    assert_eq!(uid("upper/changes/usr/bin/hello-root"), first);
    let upper = fs::metadata(directory.path().join("upper")).unwrap();
    assert_eq!((upper.uid(), upper.mode() & 0o777), (0, 0o700));
    // No other user of the machine comes near what is set-user-id there.
    let whole = fs::metadata(directory.path()).unwrap();
    assert_eq!((whole.uid(), whole.mode() & 0o777), (0, 0o700));
    assert_eq!(listing(base), before);
    Traces::of(&directory).none_left();
    let path = directory.path().to_path_buf();
    directory.forget().unwrap();
    assert!(!path.exists());
}

/// Each of these fails inside, prints nothing, and changes nothing outside.
const FORBIDDEN: &[(&str, &str)] = &[
    ("mount", "mount -t tmpfs none /mnt"),
    ("mount by another user namespace", "unshare --user --map-root-user --mount sh -c 'mount -t tmpfs none /mnt'"),
    ("a bind", "mount --bind /etc /mnt"),
    ("remount", "mount -o remount,rw /sai/steps"),
    ("unmount", "umount /proc/sys"),
    ("a disk", "mknod /tmp/disk b 254 0"),
    ("a disk in the workspace", "mknod /sai/src/disk b 254 0"),
    ("a character device", "mknod /dev/shm/null c 1 3"),
    ("memory", "mknod /run/mem c 1 1"),
    ("reboot", "perl -e 'exit(syscall($ARGV[0], 0xfee1dead, 672274793, 0) == 0 ? 0 : 1)' $REBOOT"),
    ("a key ring", "perl -e 'exit(syscall($ARGV[0], 0, -3, 1) >= 0 ? 0 : 1)' $KEYCTL"),
    ("a raw socket", "perl -MSocket -e 'exit(socket(my $s, PF_INET, SOCK_RAW, 1) ? 0 : 1)'"),
    ("a packet socket", "perl -e 'exit(socket(my $s, 17, 3, 0x300) ? 0 : 1)'"),
    (
        "a port below 1024 of the machine",
        "perl -MSocket -e 'socket(my $s, PF_INET, SOCK_STREAM, 0); exit(bind($s, sockaddr_in(79, INADDR_LOOPBACK)) ? 0 : 1)'",
    ),
    ("the name of the host", "hostname evil"),
    ("the clock", "date -s '2001-01-01'"),
    ("a module", "perl -e 'exit(syscall($ARGV[0], 0, 0, 0) == 0 || $!{EFAULT} || $!{ENOEXEC} ? 0 : 1)' 175"),
    ("kernel settings", "echo 1 > /proc/sys/kernel/sysrq"),
    ("settings of the network", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    ("settings of user namespaces", "echo 0 > /proc/sys/user/max_user_namespaces"),
    ("the program for core dumps", "echo '|/tmp/x' > /proc/sys/kernel/core_pattern"),
    ("kernel requests", "echo h > /proc/sysrq-trigger"),
    ("the priority against OOM", "echo -1000 > /proc/self/oom_score_adj"),
    ("a better nice value", "nice -n -10 true 2>&1 | grep -qv . && nice -n -10 sh -c 'test $(nice) -lt 0'"),
    ("a higher limit", "ulimit -Hn $(($(ulimit -Hn) + 1))"),
    ("devices of the machine", "ls /dev/vda* /dev/sda* /dev/kmsg /dev/mem /dev/kvm /dev/loop0"),
    ("the log of the kernel", "dmesg"),
    ("the disk by debugfs", "cat /sys/kernel/debug/sleep_time"),
    (
        "a device's settings",
        "for file in $(find /sys -name uevent | head -5); do echo add >$file && exit 0; done; exit 1",
    ),
    ("the scripts", "echo exit 0 > /sai/steps/run-2"),
    ("another script", "rm -f /sai/steps/run-1"),
    ("the owner of the scripts", "chown root /sai/steps/run-1"),
    ("the mount point of the scripts", "mv /sai/steps /sai/other"),
    ("what may not be changed", "touch /tmp/i && chattr +i /tmp/i"),
    ("a cgroup", "mkdir /sys/fs/cgroup/*/evil /sys/fs/cgroup/*/*/evil"),
    (
        "a cgroup's processes",
        "for file in $(find /sys/fs/cgroup -name cgroup.procs -o -name tasks); do echo $$ >$file && exit 0; done; exit 1",
    ),
    (
        "a cgroup's limits",
        "for file in $(find /sys/fs/cgroup -name '*.max' -o -name '*.limit_in_bytes' -o -name release_agent -o -name notify_on_release); do echo 1 >$file && exit 0; done; exit 1",
    ),
    (
        "a cgroup's owner",
        "chown 0 $(find /sys/fs/cgroup -name cgroup.procs) && test -n \"$(find /sys/fs/cgroup -name cgroup.procs -user 0)\"",
    ),
    ("the words of the runner", "echo evil >> /proc/1/fd/1 || echo evil >> /proc/1/fd/2 || cat /proc/1/fd/0 | grep ."),
    (
        "a file by its number",
        "perl -e 'exit(syscall($ARGV[0], -100, \"x\" x 100, 0) >= 0 || $!{ESTALE} || $!{EBADF} ? 0 : 1)' 304",
    ),
    ("more numbers", "echo 0 0 1 > /proc/self/uid_map"),
    ("what is root's outside", "test -w /run/host/os-release"),
];

#[test]
fn a_root_gains_nothing_of_the_machine() {
    let world = World::new("root-forbidden");
    let Some(container) = rooted(&world) else { return };
    let base = Path::new(&container.layers[0]);
    let before = listing(base);
    let mut script =
        String::from("set +e\ncase $(uname -m) in x86_64) REBOOT=169 KEYCTL=250;; *) REBOOT=142 KEYCTL=219;; esac\n");
    for (name, attempt) in FORBIDDEN {
        // Of a network of its own a port is its own, too.
        let attempt = if name.contains("port") {
            format!("test $SAI_CONFIGURATION = host && {attempt}")
        } else {
            (*attempt).to_string()
        };
        script.push_str(&format!("if ( {attempt} ) >/dev/null 2>&1; then echo \"succeeded: {name}\"; fi\n"));
    }
    script.push_str("if ( mount --version ) >/dev/null 2>&1; then echo 'succeeded: a harmless one'; fi\n");
    script.push_str("grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd|CapPrm|CapInh):' /proc/self/status | tr -d '\\t'\n");
    // In a network of its own a root has no more.
    for network in [Network::Host, Network::None] {
        let container = Container { network, ..container.clone() };
        let mut assignment = world.assignment(&[&script, "echo second"]);
        assignment.configuration = if network == Network::Host { "host" } else { "none" }.into();
        let log = run(&world, &container, &assignment);
        // Those of Docker, but for making devices and raw packets; and for ports that are not of its own network.
        let capabilities = if network == Network::Host { "00000000a00401fb" } else { "00000000a00405fb" };
        assert_eq!(
            log.text("stdout"),
            format!(
                "succeeded: a harmless one\nCapInh:{capabilities}\nCapPrm:{capabilities}\nCapEff:{capabilities}\n\
                 CapBnd:{capabilities}\nNoNewPrivs:0\nSeccomp:2\nsecond\n"
            ),
            "{}",
            log.text("stderr")
        );
        assert_eq!(log.outcome(), Outcome::Passed);
    }
    assert_eq!(listing(base), before);
}

#[test]
fn what_a_root_leaves_is_collected_bounded_and_removed() {
    let world = World::new("root-leaves");
    let Some(container) = rooted(&world) else { return };
    let outside = world.path.join("outside");
    fs::write(&outside, "secret").unwrap();
    let strange = format!(
        "set +e; mkdir deep; cd deep; for i in $(seq 200); do mkdir d && cd d; done; cd /sai/src
         echo secret >private; chmod 000 private; cp /bin/sh shell; chmod 6777 shell; mkdir closed; echo x >closed/x; chmod 000 closed
         mkfifo pipe; ln -s {outside} link; ln -s /etc/shadow shadow; ln /etc/hostname hard || touch hard
         echo x >theirs; chown 65533:65533 theirs; chown 4294967294 theirs && echo too far; chown 65536 theirs && echo too far
         perl -MSocket -e 'socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, sockaddr_un(\"socket\"))'
         mknod whiteout c 0 0; setfattr -n trusted.overlay.opaque -v y . && echo trusted; setcap cap_net_raw+ep shell; true",
        outside = outside.display()
    );
    let mut assignment = world.assignment(&[&strange]);
    assignment.artifacts = vec!["*".into(), "closed/*".into(), "/etc/shadow".into()];
    let directory = begin(&world, &container, &assignment);
    finish(&directory);
    let log = Log::of(&directory);
    assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, ""), "{}", log.text("stderr"));
    let names: Vec<String> = log.artifacts().iter().map(|artifact| artifact.path.clone()).collect();
    for name in ["private", "shell", "theirs", "closed/x"] {
        assert!(names.iter().any(|known| known == name), "{name}: {names:?} {:?}", log.notes());
    }
    for name in ["link", "pipe", "socket", "whiteout"] {
        assert!(!names.iter().any(|known| known == name), "{name}: {names:?}");
    }
    // Nothing that was left can be used outside: no device with a number, nothing of root's that runs as root.
    let mut waiting = vec![directory.path().join("work"), directory.path().join("upper")];
    while let Some(path) = waiting.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let kind = about.file_type();
        assert!(!kind.is_block_device() && (!kind.is_char_device() || about.rdev() == 0), "{}", path.display());
        assert!(about.mode() & 0o6000 == 0 || about.uid() >= range(0), "{}", path.display());
        if kind.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    Traces::of(&directory).none_left();
    let path = directory.path().to_path_buf();
    directory.forget().unwrap();
    assert!(!path.exists());
    assert_eq!(fs::read_to_string(&outside).unwrap(), "secret");
}

#[test]
fn one_bound_holds_for_all_that_a_root_can_write() {
    let world = World::new("root-bound");
    let Some(container) = rooted(&world) else { return };
    let container = Container { upper: Upper::Tmpfs, upper_mib: Some(64), ..container };
    let fill = "set +e; find / -xdev -type d -print >/tmp/places; find /dev /run /sys/fs/cgroup /sai -type d -print >>/tmp/places
         while read -r place; do head -c 80M /dev/zero >$place/fill; done </tmp/places 2>/dev/null
         { find / -xdev -name fill -print0; find /dev /run /sys/fs/cgroup /sai -name fill -print0; } | sort -zu | xargs -0 stat -c %b \
         | awk '{ sum += $1 } END { print \"MiB\", sum / 2048 }'";
    let log = run(&world, &container, &world.assignment(&[fill]));
    let text = log.text("stdout");
    let line = text.lines().find(|line| line.starts_with("MiB ")).unwrap_or_default();
    let mib: f64 = line.trim_start_matches("MiB ").parse().unwrap();
    assert!(mib > 40.0 && mib < 68.0, "{text}{}", log.text("stderr"));
    // And on the disk, where there is no bound, memory has one.
    let container = Container { upper: Upper::Disk, upper_mib: None, ..container };
    let step = "for place in /dev/shm /run /dev /dev/mqueue /sys/fs/cgroup; do head -c 300M /dev/zero > $place/x && echo full of $place; \
                rm -f $place/x; done; true";
    let log = run(&world, &container, &world.assignment(&[step]));
    assert_eq!(log.text("stdout"), "", "{}", log.text("stderr"));
}

#[test]
fn a_killed_supervisor_leaves_nothing_of_a_root() {
    let world = World::new("root-killed");
    let Some(container) = rooted(&world) else { return };
    let step = "setsid sh -c 'cd /; exec env -i sleep 1000' & useradd bob; (su bob -c 'exec sleep 1000' &) ; echo begun; sleep 1000";
    // At whatever moment: while the container is made, when it is there, and while its steps run.
    for pause in [0, 20, 60, 120, 10_000] {
        let mut assignment = world.assignment(&[step]);
        assignment.key.job += pause;
        let directory = begin(&world, &container, &assignment);
        let held = hold(&directory);
        let supervisor = supervisor_pid(&directory);
        if pause == 10_000 {
            wait_for(&directory, &held, "begun");
        } else {
            std::thread::sleep(std::time::Duration::from_millis(pause));
        }
        let traces = Traces::of(&directory).see(supervisor);
        kill(supervisor);
        drop(held);
        let path = directory.path().to_path_buf();
        directory.forget().unwrap();
        traces.none_left();
        assert!(!path.exists());
    }
}

#[test]
fn limits_hold_a_root_and_two_roots_are_not_the_same() {
    let world = World::new("root-limits");
    let Some(container) = rooted(&world) else { return };
    let container = Container { pids: Some(100), memory_mib: Some(64), ..container };
    let many = "perl -e '$n = 0; while ($n < 1000) { $p = fork; last unless defined $p; if (!$p) { sleep 1000; exit } push @all, $p; $n++ } kill 9, @all; print $n, \"\\n\"'";
    let much = "head -c 200M /dev/zero | tail -c 190M >/dev/null";
    let log = run(&world, &container, &world.assignment(&[many, much]));
    let limits = sai_agent::cgroup::trouble(sai_agent::cgroup::Limits::new(Some(64), None, Some(100)));
    if limits.is_empty() {
        let started = numbers(&log.text("stdout"));
        assert!(started.len() == 1 && started[0] > 50 && started[0] < 100, "{started:?}");
        assert_eq!((log.outcome(), log.statuses().len()), (Outcome::Failed, 2));
        assert!(log.verdict().cause.contains("memory"), "{}", log.verdict().cause);
    }
    // Of two at once each has its own numbers, and sees nothing of the other.
    let step = "id -u; (exec -a other sleep 1000) & until grep -q '^other' /proc/$!/cmdline; do sleep 0.01; done; touch ../here
        until test -e ../tmp/go; do sleep 0.01; done; grep -l '^other' /proc/[0-9]*/cmdline | wc -l";
    let directories = [0, 1].map(|slot| {
        let mut assignment = world.assignment(&[step]);
        assignment.key.job += u64::from(slot) + 1;
        let container = Container { root: Some(range(slot)), pids: Some(512), memory_mib: None, ..container.clone() };
        begin(&world, &container, &assignment)
    });
    until("both are there", || directories.iter().all(|directory| directory.path().join("work/here").exists()));
    directories.iter().for_each(|directory| fs::write(directory.path().join("work/tmp/go"), "").unwrap());
    for (slot, directory) in directories.iter().enumerate() {
        finish(directory);
        let log = Log::of(directory);
        assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, "0\n1\n"), "{}", log.text("stderr"));
        let here = fs::metadata(directory.path().join("work/here")).unwrap();
        assert_eq!(here.uid(), range(slot as u32));
    }
}

#[test]
fn bubblewrap_refuses_a_root_and_says_why() {
    let world = World::new("root-bwrap");
    let Some(container) = rooted(&world) else { return };
    let container = Container { runner: Runner::Bwrap, ..container };
    let log = run(&world, &container, &world.assignment(&["true"]));
    assert_eq!(log.outcome(), Outcome::Infra);
    assert!(log.verdict().cause.contains("bwrap gives a container one user only"), "{}", log.verdict().cause);
}
