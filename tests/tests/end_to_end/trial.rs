//! `sai-master try`: a local repository, built once, the verdict as exit status.

use crate::PLATFORM;
use crate::roots;
use rustix::process::Signal;
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::{git, run, sai_master, saifile};
use sai_tests::world::World;
use std::fs;
use std::process::{Command, Stdio};

const SAIFILE: &str = r#"{ "schema": "sai-1",
    "platforms": { "linux": { "build": ["echo one of $SAI_CONFIGURATION", "cat file; exit $(cat status)"] },
                   "plan9": { "build": "echo never", "default": false } },
    "configurations": { "default": {}, "other": {}, "foreign": { "platforms": "none, plan9" } } }"#;

/// A repository with a saifile, a file that it prints, and one with its status. It is not pushed anywhere.
fn project(name: &str) -> World {
    let world = World::new(name);
    world.repository.write(".sai.json", SAIFILE);
    world.repository.write("file", "committed\n");
    world.repository.write("status", "0");
    world.repository.commit("A project");
    world
}

/// Tries it: status, standard output, standard error.
fn attempt(world: &World, words: &[&str]) -> (i32, String, String) {
    let (path, state) =
        (world.repository.work.display().to_string(), world.directory.join("try").display().to_string());
    let mut all = vec!["try", path.as_str(), "--state", state.as_str()];
    all.extend(words);
    let result = sai_master(&all);
    let left = world.job_directories(&world.directory.join("try/agent"));
    assert!(left.is_empty(), "{left:?}");
    leaves_nothing(|| world.job_processes());
    result
}

/// Waits until no process is left. A supervisor whose job has ended tells so before it ends itself, a moment later.
fn leaves_nothing(left: impl Fn() -> Vec<String>) {
    eventually("no process of a trial is left", || left().is_empty().then_some(()));
}

#[test]
fn a_trial_builds_what_is_committed_and_ends_with_its_verdict() {
    let world = project("try");
    let before = run(git(&world.repository.work).args(["status", "--porcelain", "--ignored"]));
    let (status, out, err) = attempt(&world, &[]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains("one of default") && out.contains("one of other") && out.contains("committed"), "{out}");
    assert!(!out.contains("never"), "{out}");
    assert!(err.contains("https://localhost:") && err.contains("/event/1"), "{err}");
    // Nothing is written into the user's repository.
    assert_eq!(run(git(&world.repository.work).args(["status", "--porcelain", "--ignored"])), before);
    world.repository.write("file", "dirty\n");
    world.repository.write("status", "7");
    let (status, out, err) = attempt(&world, &[]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains("committed") && !out.contains("dirty"), "{out}");
    world.repository.write("untracked", "");
    let (status, out, err) = attempt(&world, &["--dirty"]);
    assert_eq!(status, 1, "{out}{err}");
    assert!(out.contains("dirty") && out.contains("failed"), "{out}{err}");
    assert_eq!(
        run(git(&world.repository.work).args(["diff", "--cached", "--name-only"])),
        "",
        "the index is as it was"
    );
    world.repository.commit("It fails");
    assert_eq!(attempt(&world, &[]).0, 1);
}

#[test]
fn a_trial_builds_what_was_asked_for_and_nothing_else() {
    let world = project("try-some");
    let ran = world.directory.join("ran");
    let many: Vec<String> = (0..20).map(|number| format!("\"c{number}\": {{}}")).collect();
    world.repository.write(
        ".sai.json",
        format!(
            "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": \"echo $SAI_CONFIGURATION >> {}\"}}}}, \
             \"configurations\": {{{}, \"default\": {{}}}}}}",
            ran.display(),
            many.join(", ")
        ),
    );
    world.repository.commit("Many");
    let (status, out, err) = attempt(&world, &["--configuration", "default"]);
    assert_eq!(status, 0, "{out}{err}");
    assert_eq!(fs::read_to_string(&ran).expect("it ran"), "default\n");
    assert_eq!(err.matches(" begins: ").count(), 1, "no other job has even begun: {err}");
    let (status, _, err) = attempt(&world, &["--configuration", "nobodys"]);
    assert_eq!(status, 3, "{err}");
    assert!(err.contains("there is no configuration \"nobodys\""), "{err}");
}

#[test]
fn a_trial_takes_along_what_its_choice_needs_and_its_files() {
    let world = project("try-needs");
    world.repository.write(
        ".sai.json",
        r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "${cmake}" } }, "configurations": {
            "lib": { "cmake": "echo of lib > file", "artifacts": "file" },
            "other": { "cmake": "echo of other" },
            "use": { "needs": "lib", "cmake": "cat $SAI_NEEDS/lib/linux/file" } } }"#,
    );
    world.repository.commit("Needs");
    let (status, out, err) = attempt(&world, &["--configuration", "use"]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains("of lib") && !out.contains("of other"), "{out}{err}");
    assert_eq!(err.matches(" begins: ").count(), 2, "{err}");
}

#[test]
fn a_trial_that_no_platform_of_this_machine_serves_says_so() {
    let world = project("try-none");
    let (status, out, err) = attempt(&world, &["--configuration", "foreign"]);
    assert_eq!((status, out.as_str()), (3, ""), "{err}");
    assert!(err.contains("plan9") && err.contains("--as PLATFORM"), "{err}");
    let (status, out, err) = attempt(&world, &["--configuration", "foreign", "--as", "plan9/x86_64"]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains("never") && !out.contains("one of"), "{out}");
    let (status, out, err) = attempt(&world, &["--platform", "plan9", "--as", "plan9/x86_64", "--as", PLATFORM]);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains("never") && !out.contains("one of"), "{out}");
    assert_eq!(attempt(&world, &["--as", "a b"]).0, 2);
}

#[test]
fn a_trial_of_something_else_is_refused() {
    let world = project("try-wrong");
    let state = world.directory.join("try").display().to_string();
    let empty = world.directory.join("empty");
    fs::create_dir(&empty).expect("a directory");
    let (status, out, err) = sai_master(&["try", &empty.display().to_string(), "--state", &state]);
    assert_eq!((status, out.as_str()), (3, ""), "{err}");
    assert_eq!(sai_master(&["try", "/nonexistent", "--state", &state]).0, 3);
    assert_eq!(sai_master(&["try", "--nonsense"]).0, 2);
    world.repository.write(".sai.json", "{\n  oops }");
    world.repository.commit("Broken");
    let (status, out, err) = attempt(&world, &[]);
    assert_eq!((status, out.as_str()), (3, ""), "{err}");
    assert!(err.contains(".sai.json:2:3: expected "), "{err}");
    fs::remove_file(world.repository.work.join(".sai.json")).expect("a saifile");
    let (status, _, err) = attempt(&world, &["--dirty"]);
    assert_eq!(status, 3, "{err}");
    assert!(err.contains(".sai.json"), "{err}");
}

/// A trial in a place of its own for everything, as a user without options would have it.
fn trial(world: &World, path: &std::path::Path, words: &[&str]) -> Command {
    let mut command = Command::new(program("sai-master"));
    command.arg("try").arg(path).args(words).env("XDG_STATE_HOME", world.directory.join("state"));
    command
}

#[test]
fn a_trial_that_stays_ends_with_its_verdict_when_it_is_asked_to() {
    for (signal, verdict) in [(Signal::INT, 0), (Signal::TERM, 1), (Signal::HUP, 0)] {
        let world = project("try-stay");
        world.repository.write("status", verdict.to_string());
        world.repository.commit("The verdict");
        let mut stays = Process::start("try", trial(&world, &world.repository.work, &["--stay"]).stdout(Stdio::null()));
        stays.await_line("the page stays at");
        stays.signal(signal);
        assert_eq!(stays.wait().code(), Some(verdict), "{signal:?}");
        leaves_nothing(|| world.survivors());
    }
}

#[test]
fn an_interrupted_trial_leaves_nothing_that_it_started() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let world = project("try-interrupt");
        world.repository.write(".sai.json", saifile(&["(setsid sleep 1000 &) ; sleep 1000"]));
        world.repository.commit("It takes long");
        let state = world.directory.join("try").display().to_string();
        let mut command = trial(&world, &world.repository.work, &["--state", &state]);
        let mut runs = Process::start("try", command.stdout(Stdio::null()));
        runs.await_line(" begins: ");
        runs.signal(signal);
        assert_eq!(runs.wait().code(), Some(130), "{signal:?}");
        leaves_nothing(|| world.survivors());
    }
}

#[test]
fn two_trials_of_one_user_do_not_meet_and_two_of_one_repository_wait() {
    let world = project("try-twice");
    let other = project("try-other");
    let mut first = Process::start("first", trial(&world, &world.repository.work, &["--stay"]).stdout(Stdio::null()));
    first.await_line("the page stays at");
    let output = trial(&world, &other.repository.work, &[]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut second = Process::start("second", trial(&world, &world.repository.work, &[]).stdout(Stdio::null()));
    let waits = second.await_line("is being tried already");
    assert!(waits.contains(&format!("process {}", first.id())), "{waits}");
    first.signal(Signal::TERM);
    assert_eq!((first.wait().code(), second.wait().code()), (Some(0), Some(0)));
}

#[test]
fn a_trial_says_where_files_lie_and_copies_them() {
    let world = World::new("try-artifacts");
    world.repository.write(
        ".sai.json",
        r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "mkdir out; echo $SAI_CONFIGURATION > out/file" } },
             "configurations": { "one": { "artifacts": "out/*" }, "../two": { "artifacts": "out/*" } } }"#,
    );
    world.repository.commit("Files");
    let copies = world.directory.join("copies");
    let words = ["--configuration", "one"];
    let (status, out, err) = attempt(&world, &words);
    assert_eq!(status, 0, "{out}{err}");
    let line = out.lines().find(|line| line.starts_with("\tout/file (4 bytes, ")).expect("the file");
    let place = line.rsplit_once(": ").expect("a path").1;
    assert_eq!(fs::read_to_string(place).expect("it is there"), "one\n");
    let copy = ["--artifacts", &copies.display().to_string()];
    let (status, out, err) = attempt(&world, &[&words[..], &copy].concat());
    assert_eq!(status, 0, "{out}{err}");
    assert_eq!(fs::read_to_string(copies.join("out/file")).expect("a copy"), "one\n");
    assert!(out.contains(&format!(": {}\n", copies.join("out/file").display())), "{out}");
    let (status, out, err) = attempt(&world, &copy);
    assert_eq!(status, 0, "{out}{err}");
    assert_eq!(fs::read_to_string(copies.join("one/linux/out/file")).expect("a copy"), "one\n");
    assert_eq!(fs::read_to_string(copies.join("_.._two/linux/out/file")).expect("a copy"), "../two\n");
    assert!(!world.directory.join("two").exists());
    // What cannot be copied is trouble of ours, and nothing of the job's.
    let (status, out, _) = attempt(&world, &["--artifacts", "/dev/null/nowhere"]);
    assert!(status == 3 && out.contains("not copied: ") && out.contains("passed\tlinux"), "{status} {out}");
}

#[test]
fn a_trial_says_which_jobs_it_leaves_out_and_why() {
    let world = project("try-left");
    let (status, _, err) = attempt(&world, &[]);
    assert_eq!(status, 0, "{err}");
    assert!(
        err.contains("2 of 3 jobs") && err.contains("not built: plan9, foreign: this machine serves no plan9"),
        "{err}"
    );
    let (_, _, err) = attempt(&world, &["--configuration", "other"]);
    assert!(err.contains("1 of 3 jobs") && err.contains("not built: 2 that were not asked for"), "{err}");
    for slots in ["0", "-1", "257", "many"] {
        let (status, _, err) = attempt(&world, &["--slots", slots]);
        assert_eq!(status, 2, "{slots}: {err}");
        assert!(err.contains("1 to 256 slots") && err.contains("see sai-master try --help"), "{err}");
    }
}

#[test]
fn a_trial_builds_in_images() {
    let world = World::new("try-images");
    let images = world.directory.join("images");
    world.repository.write(".sai.json", saifile(&["cat /etc/debian_version"]).replace("linux", "linux-old"));
    world.repository.commit("For an image");
    let words = ["--images", &images.display().to_string()];
    let (status, _, err) = attempt(&world, &words);
    assert!(status == 3 && err.contains(&images.display().to_string()), "{err}");
    let place = images.join("linux-old/any/x");
    fs::create_dir_all(&place).expect("a directory");
    if !rustix::process::geteuid().is_root() {
        let (status, _, err) = attempt(&world, &words);
        assert!(status == 3 && err.contains("root"), "{err}");
        return;
    }
    // By links where that can be: nobody changes a layer.
    let copy = |how: &str| Command::new("cp").arg(how).arg(roots::debian("bookworm")).arg(place.join("base")).status();
    if !copy("-al").is_ok_and(|status| status.success()) {
        assert!(copy("-a").is_ok_and(|status| status.success()), "a layer");
    }
    let (status, out, err) = attempt(&world, &words);
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.lines().any(|line| line.starts_with("12.")), "{out}");
}
