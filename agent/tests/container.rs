//! Jobs in containers, over both runners, on a real root made by debootstrap.
#![cfg(feature = "nspawn")]

#[path = "common/root.rs"]
mod root;

mod common;

use common::*;
use root::*;
use sai_agent::container::{Bind, Network, Upper};
use sai_core::job::{Fault, Outcome};
use sai_core::record::Artifact;
use std::fs;
use std::path::Path;

#[test]
fn steps_share_a_container_and_have_the_promised_environment() {
    each_runner("container-steps", |world, container| {
        let mut assignment = world.assignment(&[
            "id -un; pwd; cat file; cat ../steps/step-1 | wc -l; touch /tmp/left ~/left; setsid sleep 1000 & echo $! > /tmp/pid",
            "env | sort | grep -v ^_=; ls /tmp/left ~/left; kill -0 $(cat /tmp/pid); . /etc/os-release; echo $ID $VERSION_ID; echo $0",
            "echo error >&2; echo x > /dev/stdout; exit 3",
            "echo never",
        ]);
        assignment.env.insert("QUOTED".into(), "a 'b' \"c\" $d\n`e` \\".into());
        assignment.env.insert("SAI_JOB".into(), "a lie".into());
        let key = assignment.key;
        let revision = assignment.revision.clone();
        let log = run(world, container, &assignment);
        let marker =
            log.text("stdout").lines().find_map(|line| line.strip_prefix("SAI_JOB_MARKER=").map(str::to_string));
        let expected = format!(
            "sai\n/sai/src\ncontent\n1\nCI=true\nHOME=/sai/home\nLANG=C.UTF-8\n\
             PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/sai/src\nSAI_ATTEMPT=1\n\
             SAI_COMMIT={revision}\nSAI_CONFIGURATION=default\nSAI_INSTANCE_IDX=0\nSAI_JOB={}\nSAI_JOB_MARKER={}\n\
             SAI_PARALLEL=2\nSAI_PLATFORM=linux\nSAI_PROJECT=group/project\nSAI_REF=refs/heads/main\nSHELL=/bin/sh\n\
             SHLVL=1\nTERM=dumb\nTMPDIR=/sai/tmp\n/sai/home/left\n/tmp/left\ndebian 12\n/sai/steps/step-2\nx\n",
            key.job,
            marker.unwrap_or_default()
        );
        // One variable has lines of its own, which `sort` scatters.
        let text = log.text("stdout");
        assert!(text.contains("QUOTED=a 'b' \"c\" $d\n") && text.contains("`e` \\\n"), "{text}");
        let text = text.replace("QUOTED=a 'b' \"c\" $d\n", "").replace("`e` \\\n", "");
        let parallel = std::thread::available_parallelism().unwrap();
        assert_eq!(text, expected.replace("SAI_PARALLEL=2", &format!("SAI_PARALLEL={parallel}")));
        assert_eq!(log.text("stderr"), "error\n");
        assert_eq!(log.statuses(), [0, 0, 3]);
        assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Failed, Fault::Job));
        assert_eq!(log.verdict().cause, "step 3 ended with status 3");
    });
}

#[test]
fn files_of_needs_are_the_jobs_own_in_a_container() {
    use sai_agent::supervised::Progress;
    use sai_core::ledger::Needed;
    each_runner("container-needs", |world, container| {
        let mut assignment = world.assignment(&[
            "echo $SAI_NEEDS; cat $SAI_NEEDS/lib/linux/x86_64/a/file; $SAI_NEEDS/lib/linux/x86_64/a/tool; id -un",
            "echo changed > $SAI_NEEDS/lib/linux/x86_64/a/file; rm -r $SAI_NEEDS/*; ls $SAI_NEEDS | wc -l",
        ]);
        let file = |stream: u16, path: &str, content: &str| {
            let digest = sai_agent::digest::sha256(content.as_bytes());
            let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            fs::write(world.path.join(&sha256), content).unwrap();
            let size = content.len() as u64;
            Artifact { stream, path: path.to_string(), size, sha256, executable: stream == 2 }
        };
        assignment.needs = Some(vec![Needed {
            job: 1,
            configuration: "lib".to_string(),
            platform: "linux/x86_64".to_string(),
            attempt: Some(1),
            artifacts: vec![file(1, "a/file", "of lib\n"), file(2, "a/tool", "#!/bin/sh\necho ran\n")],
        }]);
        let directory = begin(world, container, &assignment);
        let traces = Traces::of(&directory);
        let held = hold(&directory);
        while let Some(news) = smol::block_on(held.next()) {
            if let Progress::Wants(want) = news {
                held.answer(&want, Ok(&world.path.join(&want.sha256)));
            }
        }
        finish(&directory);
        traces.none_left();
        let log = Log::of(&directory);
        assert_eq!(log.outcome(), Outcome::Passed, "{:?}", log.verdict());
        assert_eq!(log.text("stdout"), "/sai/needs\nof lib\nran\nsai\n0\n");
        let kept: Vec<String> = assignment
            .needs
            .iter()
            .flatten()
            .flat_map(|need| &need.artifacts)
            .map(|file| file.sha256.clone())
            .collect();
        assert_eq!(fs::read_to_string(world.path.join(&kept[0])).unwrap(), "of lib\n");
    });
}

/// A layer that takes a file away from those below.
fn layer_without(world: &World, path: &str) -> String {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let layer = world.path.join(format!("without-{}", path.replace('/', "-")));
    let place = layer.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    mknodat(CWD, place, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    layer.to_str().unwrap().to_string()
}

#[test]
fn exit_statuses_are_those_of_the_steps() {
    each_runner("container-statuses", |world, container| {
        for (step, status) in [("true", 0), ("exit 255", 255), ("false; echo never", 1), ("kill -TERM $$", 143)] {
            let log = run(world, container, &world.assignment(&[step]));
            let found = (log.statuses(), log.text("stdout"));
            assert_eq!(found, (vec![status], String::new()), "{step}: {:?}", log.verdict());
        }
        // Its process group killed, and all it may kill: the latter takes the container along.
        let log = run(world, container, &world.assignment(&["kill -KILL 0", "true"]));
        assert_eq!((log.outcome(), log.statuses()), (Outcome::Failed, vec![137]));
        assert!(log.notes().iter().all(|note| !note.contains("the container has ended")), "{:?}", log.notes());
        let log = run(world, container, &world.assignment(&["kill -KILL -1; sleep 1000", "true"]));
        assert_eq!((log.outcome(), log.statuses(), log.verdict().fault), (Outcome::Failed, vec![137], Fault::Job));
        // Where the image cannot make sessions, a step's process group is the loop's, and still not the runner's.
        let mut without = container.clone();
        without.layers.push(layer_without(world, "usr/bin/setsid"));
        let log = run(world, &without, &world.assignment(&["command -v setsid || kill -KILL 0", "true"]));
        assert_eq!((log.outcome(), log.statuses(), log.verdict().fault), (Outcome::Failed, vec![137], Fault::Job));
        // Between two steps.
        let log = run(world, container, &world.assignment(&["(sleep 0.1; kill -KILL -1) &", "sleep 1000", "true"]));
        assert_eq!((log.outcome(), log.statuses(), log.verdict().fault), (Outcome::Failed, vec![0, 137], Fault::Job));
    });
}

#[test]
fn much_output_is_neither_lost_nor_late() {
    each_runner("container-output", |world, container| {
        let log = run(world, container, &world.assignment(&["seq 1 200000", "seq 1 200000 >&2; printf end"]));
        let numbers: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
        assert!(log.text("stdout") == format!("{numbers}end") && log.text("stderr") == numbers);
        assert_eq!(log.outcome(), Outcome::Passed);
    });
}

#[test]
fn what_a_job_changes_is_gone_and_the_image_is_as_it_was() {
    each_runner("container-layers", |world, container| {
        let base = Path::new(&container.layers[0]);
        let before = (fs::read(base.join("etc/passwd")).unwrap(), listing(base));
        // A layer above with a file of its own, a user of its own and one file less.
        let env = world.path.join("a: layer, 'named' badly\\");
        fs::create_dir_all(env.join("etc")).unwrap();
        fs::write(env.join("etc/motd"), "from env\n").unwrap();
        let users = String::from_utf8_lossy(&before.0).into_owned() + "sai:x:1234:1235::/sai/home:/bin/bash\n";
        fs::write(env.join("etc/passwd"), &users).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            env.join("etc/issue"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            0,
        )
        .unwrap();
        let mut container = container.clone();
        container.layers.push(env.to_str().unwrap().to_string());
        let step = "cat /etc/motd; id -u; id -g; test ! -e /etc/issue; test ! -e /tmp/x; echo x > /tmp/x; \
                    test ! -w /etc/motd; test ! -w /usr/bin; stat -c %u /sai/src/file";
        for upper in [Upper::Disk, Upper::Tmpfs, Upper::Disk] {
            container.upper = upper;
            let log = run(world, &container, &world.assignment(&[step]));
            assert_eq!(log.text("stdout"), "from env\n1234\n1235\n1234\n", "{}", log.text("stderr"));
            assert_eq!(log.outcome(), Outcome::Passed);
        }
        assert_eq!((fs::read(base.join("etc/passwd")).unwrap(), listing(base)), before);
        assert_eq!(fs::read_to_string(env.join("etc/passwd")).unwrap(), users);
    });
}

#[test]
fn the_network_is_the_machines_or_none() {
    each_runner("container-network", |world, container| {
        let ours = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let step = "readlink /proc/self/ns/net; cat /etc/resolv.conf 2>/dev/null || true";
        let log = run(world, container, &world.assignment(&[step]));
        let namespace = fs::read_link("/proc/self/ns/net").unwrap();
        assert_eq!(log.text("stdout"), format!("{}\n{ours}", namespace.display()));
        let mut container = container.clone();
        container.network = Network::None;
        let step = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; readlink /proc/self/ns/net";
        let log = run(world, &container, &world.assignment(&[step]));
        let text = log.text("stdout");
        assert!(text.starts_with("lo\nnet:[") && !text.contains(&namespace.display().to_string()), "{text}");
    });
}

#[test]
fn a_job_sees_of_the_machine_what_is_bound_and_writes_where_it_may() {
    each_runner("container-binds", |world, container| {
        let (cache, data) = (world.path.join("cache:1"), world.path.join("data"));
        for directory in [&cache, &data] {
            fs::create_dir_all(directory).unwrap();
            std::os::unix::fs::chown(directory, Some(59_000), Some(59_000)).unwrap();
        }
        fs::write(data.join("file"), "data\n").unwrap();
        let bind = |host: &Path, inside: &str, writable| Bind {
            host: host.to_str().unwrap().to_string(),
            inside: inside.to_string(),
            writable,
        };
        let mut container = container.clone();
        container.binds = vec![
            bind(&cache, "/var/cache/deep/er", true),
            bind(&data, "/data", false),
            bind(&data.join("file"), "/etc/single", false),
        ];
        let step = "cat /data/file /etc/single; echo kept > /var/cache/deep/er/kept; touch /data/no && exit 9; \
                    echo no > /etc/single && exit 9; echo $?";
        let log = run(world, &container, &world.assignment(&[step]));
        assert_eq!(log.text("stdout"), "data\ndata\n1\n", "{}", log.text("stderr"));
        assert!(log.text("stderr").contains("Read-only file system"), "{}", log.text("stderr"));
        assert_eq!(fs::read_to_string(cache.join("kept")).unwrap(), "kept\n");
        assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "data\n");

        container.binds = vec![bind(&world.path.join("missing"), "/x", false)];
        let log = run(world, &container, &world.assignment(&["true"]));
        assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Infra, Fault::Infrastructure));
        assert!(log.verdict().cause.contains("missing as /x: No such file"), "{}", log.verdict().cause);
    });
}

#[test]
fn artifacts_come_from_the_workspace_and_from_anywhere_in_the_root() {
    each_runner("container-artifacts", |world, container| {
        let outside = world.path.join("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret.deb"), "secret").unwrap();
        let mut container = container.clone();
        let host = outside.to_str().unwrap().to_string();
        container.binds = vec![Bind { host, inside: "/var/tmp/bound".into(), writable: false }];
        let mut assignment = world.assignment(&[
            "echo one > out.deb; echo two > /tmp/two.deb; ln -s /etc/passwd /tmp/link.deb; ln -s / /var/tmp/root",
            &format!("echo three > /var/tmp/three.deb; ln -s {} /var/tmp/out; ln -s .. /var/tmp/up", outside.display()),
        ]);
        assignment.artifacts =
            ["*.deb", "/tmp/*.deb", "/var/tmp/**/*.deb", "/etc/os-release", "/etc/shadow", "/nothing/*"]
                .map(str::to_string)
                .to_vec();
        let directory = begin(world, &container, &assignment);
        finish(&directory);
        let log = Log::of(&directory);
        let mut found: Vec<(String, String)> = log
            .artifacts()
            .iter()
            .map(|it| (it.path.clone(), String::from_utf8(read_stream(&directory, it.stream)).unwrap()))
            .collect();
        found.sort();
        let pair = |path: &str, content: &str| (path.to_string(), content.to_string());
        assert_eq!(
            found,
            [pair("out.deb", "one\n"), pair("tmp/two.deb", "two\n"), pair("var/tmp/three.deb", "three\n")],
            "{:?}",
            log.notes()
        );
        let notes = log.notes().join("\n");
        assert!(notes.contains("no file matches the artifacts glob \"/nothing/*\""), "{notes}");
        assert!(notes.contains("etc/shadow"), "{notes}");
        assert_eq!(log.outcome(), Outcome::Passed);
    });
}

#[test]
fn a_job_goes_on_in_its_container_with_one_agent_after_the_other() {
    each_runner("container-adoption", |world, container| {
        let step = "echo first; until test -e /sai/tmp/go; do sleep 0.01; done; echo second";
        let directory = begin(world, container, &world.assignment(&[step, "echo third"]));
        let held = hold(&directory);
        wait_for(&directory, &held, "first\n");
        drop(held);
        let found = sai_agent::job_directory::JobDirectory::scan(&world.jobs()).unwrap();
        let found = found.into_iter().find(|it| it.key() == directory.key()).unwrap();
        let held = hold(&found);
        fs::write(directory.path().join("work/tmp/go"), "").unwrap();
        while next(&held).is_some() {}
        let log = Log::of(&found);
        assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, "first\nsecond\nthird\n"));
    });
}

#[test]
fn limits_hold_a_job_and_are_told_where_nothing_can() {
    each_runner("container-limits", |world, container| {
        let mut container = container.clone();
        (container.memory_mib, container.pids) = (Some(64), Some(40));
        let limits = sai_agent::cgroup::Limits { memory_mib: Some(64), cpu_permille: Some(500), pids: Some(40) };
        let missing = sai_agent::cgroup::trouble(limits);
        // Bounded by itself too: where nothing limits it, it does no harm.
        let fork = "perl -e 'for (1..100) { $pid = fork; defined $pid or exit 1; $pid or exec \"sleep\", 1000 } print \"all\"'";
        let log = run(world, &container, &world.assignment(&[fork]));
        let eat = "perl -e '$x = \"a\" x (200 << 20); print length $x'";
        let eaten = run(world, &container, &world.assignment(&[eat]));
        for (what, held) in [
            ("pids", log.outcome() == Outcome::Failed && !log.text("stdout").contains("all")),
            ("memory", eaten.outcome() == Outcome::Failed && eaten.verdict().status == Some(137)),
        ] {
            let told = missing.iter().find(|line| line.starts_with(&format!("no limit of {what}: ")));
            assert_eq!(held, told.is_none(), "{what}: {:?} {:?}", log.verdict(), eaten.verdict());
            if let Some(line) = told {
                assert!(log.notes().contains(&line.as_str()), "{:?}", log.notes());
            }
        }
        container.cpu_permille = Some(500);
        if !missing.iter().any(|line| line.contains("cpu")) {
            let step = "echo ready; until test -e /sai/tmp/go; do sleep 0.01; done";
            let directory = begin(world, &container, &world.assignment(&[step]));
            let held = hold(&directory);
            wait_for(&directory, &held, "ready\n");
            let groups = fs::read_to_string(directory.path().join("cgroups")).unwrap();
            let read =
                |file: &str| groups.lines().find_map(|group| fs::read_to_string(Path::new(group).join(file)).ok());
            let (first, second) = (read("cpu.cfs_quota_us"), read("cpu.max"));
            assert!(first.as_deref() == Some("50000\n") || second.as_deref() == Some("50000 100000\n"), "{groups}");
            fs::write(directory.path().join("work/tmp/go"), "").unwrap();
            finish(&directory);
            assert!(groups.lines().all(|group| !Path::new(group).exists()), "{groups}");
        }
    });
}

#[test]
fn an_image_that_is_no_root_is_trouble_of_ours_and_says_what_is_wrong() {
    each_runner("container-faults", |world, container| {
        let mut container = container.clone();
        let (empty, file) = (world.path.join("empty"), world.path.join("file"));
        fs::create_dir_all(&empty).unwrap();
        fs::write(&file, "").unwrap();
        let program = container.runner.program();
        let cases = [
            (world.path.join("nowhere"), "it is missing".to_string()),
            (file, "it is no directory".to_string()),
            (empty, format!("{program} could not make the container: ")),
        ];
        for (layer, why) in cases {
            container.layers = vec![layer.to_str().unwrap().to_string()];
            let log = run(world, &container, &world.assignment(&["true"]));
            assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Infra, Fault::Infrastructure));
            assert!(log.verdict().cause.contains(&why), "{why}: {}", log.verdict().cause);
            assert!(!log.verdict().cause.contains("it said nothing"), "{}", log.verdict().cause);
        }
    });
}

#[test]
fn an_upper_layer_that_overlayfs_refuses_is_named_with_the_way_out() {
    each_runner("container-upper", |world, container| {
        // An overlay is such a file system, and one that every machine with containers has.
        let _overlay = Mounted::overlay(world);
        let log = run(world, container, &world.assignment(&["true"]));
        assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Infra, Fault::Infrastructure));
        let cause = &log.verdict().cause;
        assert!(cause.contains("which is on overlay") && cause.contains("\"upper\": \"tmpfs\""), "{cause}");
        let mut container = container.clone();
        container.upper = Upper::Tmpfs;
        let log = run(world, &container, &world.assignment(&["echo x > /tmp/x; cat /tmp/x"]));
        assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, "x\n"), "{:?}", log.verdict());
        for directory in sai_agent::job_directory::JobDirectory::scan(&world.jobs()).unwrap() {
            directory.forget().unwrap();
        }
    });
}

#[test]
fn a_full_upper_layer_fails_the_job_and_is_none_of_our_trouble() {
    each_runner("container-full", |world, container| {
        let mut container = container.clone();
        (container.upper, container.upper_mib) = (Upper::Tmpfs, Some(8));
        let step = "df -m / | tail -1 | awk '{print $2}'; head -c 20M /dev/zero > /tmp/x";
        let log = run(world, &container, &world.assignment(&[step, "true"]));
        assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Failed, Fault::Job));
        assert_eq!((log.text("stdout").as_str(), log.statuses()), ("8\n", vec![1]));
        assert!(log.text("stderr").contains("No space left on device"), "{}", log.text("stderr"));
    });
}
