//! Real jobs under real supervisors: output, verdicts, time limits, and that nothing of a job is left.

mod common;
#[path = "../../tests/src/steady.rs"]
mod steady;

use common::*;
use sai_core::job::{Fault, Outcome};
use sai_core::record::Record;
use std::time::Duration;
use steady::steadily;

#[test]
fn output_arrives_byte_for_byte_on_its_channel() {
    let world = World::new("bytes");
    let odd = r"printf 'a\0b\377\376\n\r\033[31mno newline'; printf 'err\0' >&2";
    let long = "head -c 1000000 /dev/zero | tr '\\0' x; echo; cat file; echo \"$0\"; test ! -t 0 && wc -c < /dev/stdin";
    let log = world.run(&world.assignment(&[odd, long]));
    assert_eq!(log.outcome(), Outcome::Passed, "{:?}", log.verdict());
    let mut expected = b"a\0b\xff\xfe\n\r\x1b[31mno newline".to_vec();
    expected.extend(vec![b'x'; 1_000_000]);
    let stdout = log.on("stdout");
    assert_eq!(stdout[..expected.len()], expected);
    let rest = String::from_utf8(stdout[expected.len()..].to_vec()).unwrap();
    assert!(rest.starts_with("\ncontent\n/") && rest.contains("/steps/step-2\n0\n"), "{rest}");
    assert_eq!(log.on("stderr"), b"err\0");
    assert_eq!(log.statuses(), [0, 0]);
}

#[test]
fn a_step_that_prints_nothing_makes_no_channel() {
    let world = World::new("quiet");
    let log = world.run(&world.assignment(&["true", "echo err >&2"]));
    assert_eq!(log.channels.values().collect::<Vec<_>>(), ["stderr"]);
}

#[test]
fn steps_run_in_order_under_e_and_stop_at_the_first_failure() {
    let world = World::new("order");
    let log = world.run(&world.assignment(&["echo one", "echo two; (exit 7); echo never", "echo three"]));
    assert_eq!(log.text("stdout"), "one\ntwo\n");
    assert_eq!(log.statuses(), [0, 7]);
    let verdict = log.verdict();
    assert_eq!(
        (verdict.outcome, verdict.fault, verdict.step, verdict.status),
        (Outcome::Failed, Fault::Job, Some(1), Some(7))
    );
    // Output of a step stands between its start and its end.
    let log = world.run(&world.assignment(&["kill -9 $$"]));
    assert_eq!((log.outcome(), log.verdict().status), (Outcome::Failed, Some(137)));
    // A script of the largest size that an assignment allows for one.
    let long = format!("# {}\necho \"last\"", "x".repeat(300_000));
    assert_eq!(world.run(&world.assignment(&[&long])).text("stdout"), "last\n");
}

#[test]
fn the_environment_is_ours_and_nothing_elses() {
    let world = World::new("environment");
    let mut assignment = world.assignment(&["env -0 | sort -z; pwd; git rev-parse HEAD; git remote get-url origin"]);
    assignment.env.insert("MINE".into(), "two\nlines".into());
    assignment.env.insert("SAI_JOB".into(), "forged".into());
    let directory = world.start(&assignment);
    finish(&directory);
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Passed);
    let text = log.text("stdout");
    let variable =
        |name: &str| text.split('\0').find_map(|line| line.strip_prefix(&format!("{name}="))).map(str::to_string);
    let work = directory.path().join("work");
    for (name, value) in [
        ("SAI_PROJECT", "group/project"),
        ("SAI_REF", "refs/heads/main"),
        ("SAI_COMMIT", &world.revision),
        ("SAI_PLATFORM", "linux"),
        ("SAI_CONFIGURATION", "default"),
        ("SAI_JOB", &assignment.key.job.to_string()),
        ("SAI_ATTEMPT", "1"),
        ("SAI_INSTANCE_IDX", "0"),
        ("CI", "true"),
        ("MINE", "two\nlines"),
        ("HOME", work.join("home").to_str().unwrap()),
        ("TMPDIR", work.join("tmp").to_str().unwrap()),
    ] {
        assert_eq!(variable(name).as_deref(), Some(value), "{name}");
    }
    assert!(variable("SAI_PARALLEL").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(variable("CARGO_MANIFEST_DIR"), None);
    let rest = text.split('\0').next_back().unwrap();
    let origin = world.origin();
    assert_eq!(rest, format!("{}\n{}\n{}\n", work.join("src").display(), world.revision, origin.display()));
}

#[test]
fn daemons_sessions_and_stopped_processes_end_with_the_job_and_delay_nothing() {
    let world = World::new("daemons");
    let begin = std::time::Instant::now();
    let first = "setsid sleep 1000 & echo $!; (setsid sh -c 'sleep 1001 & echo $!; exec sleep 1002' & echo $!)
        sleep 1003 & kill -STOP $!; echo $!; env -i setsid sh -c 'echo $$; trap \"\" TERM HUP; exec sleep 1004' & sleep 0.1";
    // A process of the first step still lives in the second.
    let second = "read pid < ../tmp/pid; kill -0 $pid && echo alive";
    let log = world.run(&world.assignment(&[&format!("{first}; echo $! > ../tmp/pid"), second]));
    assert_eq!(log.outcome(), Outcome::Passed, "{log:?}");
    let text = log.text("stdout");
    assert!(text.ends_with("alive\n"), "{text}");
    let pids = numbers(&text);
    assert!(pids.len() >= 5, "{text}");
    assert!(pids.iter().all(|pid| !lives(*pid)), "{pids:?}");
    // Any of them would take a quarter of an hour.
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn what_a_daemon_prints_after_its_step_is_kept() {
    let world = World::new("late");
    let late = "(sleep 0.2; echo late; : > ../tmp/said) & echo early";
    let second = "until test -e ../tmp/said; do sleep 0.01; done; echo second";
    let log = world.run(&world.assignment(&[late, second]));
    assert_eq!(log.text("stdout"), "early\nlate\nsecond\n");
}

#[test]
fn a_parent_sees_its_background_child_end() {
    // A process whose parent is gone is collected at once, so `kill -0` on it fails soon.
    let world = World::new("reaped");
    let step = "pid=$(sh -c 'sleep 0.1 >&- 2>&- & echo $!'); while kill -0 $pid 2>&-; do sleep 0.01; done; echo gone";
    assert_eq!(world.run(&world.assignment(&[step])).text("stdout"), "gone\n");
}

#[test]
fn a_step_over_its_time_is_ended_with_all_it_started() {
    // A second is much for a shell that begins, unless it is not let run.
    steadily(Duration::from_millis(200), over_its_time);
}

fn over_its_time() {
    let world = World::new("time");
    let mut assignment = world.assignment(&["sleep 1000 & echo $!; trap 'echo asked; exit 3' TERM; sleep 1001 & wait"]);
    assignment.step_timeout_s = Some(1);
    let log = world.run(&assignment);
    let verdict = log.verdict();
    assert_eq!((verdict.outcome, verdict.step), (Outcome::TimedOut, Some(0)), "{log:?}");
    assert!(log.text("stdout").ends_with("asked\n"));
    assert_eq!(log.statuses(), [3]);
    assert!(!lives(numbers(&log.text("stdout"))[0]));

    let mut assignment = world.assignment(&["echo $$; exec sleep 1000", "true"]);
    assignment.timeout_s = 1;
    let log = world.run(&assignment);
    assert_eq!(log.outcome(), Outcome::TimedOut);
    assert!(!lives(numbers(&log.text("stdout"))[0]));
}

#[test]
fn cancel_ends_a_running_step_and_keeps_the_reason() {
    let world = World::new("cancel");
    let directory = world.start(&world.assignment(&["echo $$; sleep 1000"]));
    let held = hold(&directory);
    let pid = numbers(&wait_for(&directory, &held, "\n").text("stdout"))[0];
    assert!(lives(pid));
    held.cancel("a newer\npush");
    while next(&held).is_some() {}
    let log = Log::of(&directory);
    assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Cancelled, Fault::Person));
    assert_eq!(log.verdict().cause, "a newer push");
    assert!(!lives(pid));
}

#[test]
fn the_log_limit_is_told_in_place_and_the_job_goes_on_or_fails() {
    let world = World::new("limit");
    let mut assignment = world.assignment(&["head -c 300000 /dev/zero", "echo err >&2; echo > ran"]);
    assignment.log_bytes = 100_000;
    let directory = world.start(&assignment);
    finish(&directory);
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Passed);
    let kept = log.on("stdout").len();
    assert!((99_000..=100_000).contains(&kept), "{kept}");
    assert_eq!(log.on("stderr"), b"");
    let note = "log limit of 100000 bytes reached: further output is dropped";
    assert_eq!(log.notes().iter().filter(|text| **text == note).count(), 1);
    assert!(directory.path().join("work/src/ran").exists());

    let mut assignment = world.assignment(&["while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"]);
    (assignment.log_bytes, assignment.log_limit_fails) = (100_000, true);
    let log = world.run(&assignment);
    assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Failed, Fault::Job));
    assert_eq!(log.verdict().cause, "log limit of 100000 bytes reached");
}

#[test]
fn artifacts_are_kept_after_each_step_and_after_failure() {
    let world = World::new("artifacts");
    let first =
        "mkdir out; printf one > out/a.bin; printf same > out/b.bin; ln -s /etc/passwd out/c.bin; ln -s /etc out/d
        printf x > 'out/new\nline.bin'; printf x > out/$'\\xff'.bin; mkfifo out/e.bin; cp /bin/true out/tool.bin";
    let mut assignment = world.assignment(&[first, "printf two > out/a.bin; exit 5"]);
    assignment.artifacts = vec!["out/**/*.bin".into(), "nothing/*".into()];
    let directory = world.start(&assignment);
    finish(&directory);
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Failed);
    let listed: Vec<(u16, &str, bool)> =
        log.artifacts().iter().map(|artifact| (artifact.stream, artifact.path.as_str(), artifact.executable)).collect();
    let expected =
        [(1, "out/a.bin", false), (2, "out/b.bin", false), (3, "out/tool.bin", true), (4, "out/a.bin", false)];
    assert_eq!(listed, expected);
    assert_eq!(read_stream(&directory, 1), b"one");
    assert_eq!(read_stream(&directory, 4), b"two");
    assert_eq!(read_stream(&directory, 3), std::fs::read("/bin/true").unwrap());
    assert_eq!(directory.lengths().unwrap().len(), 5);
    assert!(log.notes().contains(&"no file matches the artifacts glob \"nothing/*\""), "{:?}", log.notes());
    // The first ones are announced before the second step begins.
    let place = |wanted: &dyn Fn(&Record) -> bool| log.records.iter().position(|(_, record)| wanted(record)).unwrap();
    let third = place(&|record| matches!(record, Record::Artifact(artifact) if artifact.stream == 3));
    assert!(third < place(&|record| matches!(record, Record::StepStart(start) if start.step == 1)));
    directory.forget().unwrap();
}

#[test]
fn a_full_spool_makes_the_build_wait_until_bytes_are_acknowledged() {
    let world = World::new("spool");
    let assignment = world.assignment(&["seq 1 2000000; echo end > ../tmp/end"]);
    let directory = sai_agent::job_directory::JobDirectory::create(&world.jobs(), &assignment).unwrap();
    let mut options = directory.options().unwrap();
    options.spool_bytes = 1 << 20;
    directory.set_options(&options).unwrap();
    sai_agent::job_directory::start(&directory, &launcher()).unwrap();
    let held = hold(&directory);
    let end = directory.path().join("work/tmp/end");
    let mut length = 0;
    while length < options.spool_bytes {
        length = next(&held).unwrap()[0];
    }
    // The pipe fills up and the step stops there: what it still could print would end it.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let most = options.spool_bytes + (1 << 20);
    assert!(directory.lengths().unwrap()[0] < most, "{:?}", directory.lengths());
    assert!(!end.exists());
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    let mut lengths = directory.lengths().unwrap()[0];
    loop {
        while (bytes.len() as u64) < lengths {
            let read = directory.read(0, bytes.len() as u64, &mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..read.min((lengths - bytes.len() as u64) as usize)]);
        }
        assert!(lengths - (bytes.len() as u64) < most);
        directory.trim(bytes.len() as u64).unwrap();
        held.acked(bytes.len() as u64);
        let Some(news) = next(&held) else { break };
        lengths = news[0];
    }
    assert!(end.exists() && directory.ended());
    let mut output = Vec::new();
    sai_core::record::Decoder::new()
        .push(&bytes, |item| {
            if let sai_core::record::Item::Data { bytes, .. } = item {
                output.extend_from_slice(bytes);
            }
        })
        .unwrap();
    let expected: String = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    assert!(output == expected.as_bytes());
    // Acknowledged segments have left the disk.
    assert!(std::fs::read_dir(directory.path().join("spool")).unwrap().count() <= 2);
}

#[test]
fn steps_can_run_as_another_user() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let world = World::new("user");
    // The way down to the workspace must be open to that user.
    let mut assignment =
        world.assignment(&["id -u; id -g; id -G; touch ../home/x made; git status --short; echo ok > /dev/stderr"]);
    assignment.artifacts = vec!["made".into()];
    let directory = sai_agent::job_directory::JobDirectory::create(&world.jobs(), &assignment).unwrap();
    let mut options = directory.options().unwrap();
    (options.user, options.group) = (Some(65534), Some(65533));
    directory.set_options(&options).unwrap();
    sai_agent::job_directory::start(&directory, &launcher()).unwrap();
    finish(&directory);
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Passed, "{log:?}");
    assert_eq!(log.text("stdout"), "65534\n65533\n65533\n?? made\n");
    assert_eq!(log.text("stderr"), "ok\n");
    assert_eq!(log.artifacts().len(), 1);
    // The mirror's objects are still ours.
    let objects = std::process::Command::new("find").arg(world.mirrors()).args(["-user", "65534"]).output().unwrap();
    assert_eq!(objects.stdout, b"");
}
