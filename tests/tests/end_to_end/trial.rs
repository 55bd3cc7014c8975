//! `sai-master try`: a local repository, built once, the verdict as exit status.

use crate::PLATFORM;
use sai_tests::repository::{git, run, sai_master};
use sai_tests::world::World;
use std::fs;

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
    let left = world.job_processes();
    assert!(left.is_empty(), "{left:?}");
    result
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
