//! What is built of a push by the files that it changed, and what people start by hand.

use crate::PLATFORM;
use sai_tests::process::eventually;
use sai_tests::repository::{git, run};
use sai_tests::world::{Event, World};
use std::fs;
use std::process::Command;

/// Names of an event's configurations, in their order, once it is there.
fn built(world: &World, event: u64) -> Vec<String> {
    let event = eventually(&format!("the push is event {event}"), || world.event(event));
    event.jobs.iter().map(|job| job.configuration.clone()).collect()
}

fn saifile(build: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {build:?}}}}}, \"configurations\": {{\n\
         \"lib\": {{\"paths\": \"lib/**\"}},\n\"docs\": {{\"paths\": \"docs/\", \"branches\": \"main\"}}}}}}"
    )
}

/// Writes files, commits and pushes, whatever was there.
fn push(world: &World, files: &[&str], subject: &str) -> String {
    for file in files {
        world.repository.write(file, format!("{subject} of {file}\n"));
    }
    let revision = world.repository.commit(subject);
    run(git(&world.repository.work).args(["push", "--quiet", "--force", "origin", "HEAD:refs/heads/main"]));
    revision
}

#[test]
fn the_files_that_a_push_changed_choose_what_is_built() {
    let world = World::new("paths");
    let _master = world.master();
    let said = |event: u64, what: &str| {
        let page = world.page(&format!("/event/{event}"));
        assert!(page.contains(what), "event {event}: {page}");
    };
    let file = saifile("true");
    let first = world.repository.push_saifile(&file);
    assert_eq!(built(&world, 1), ["lib", "docs"]);
    said(1, "no earlier push to refs/heads/main is known of which anything was built");
    push(&world, &["lib/a"], "Library");
    assert_eq!(built(&world, 2), ["lib"]);
    said(2, "as no file of their `paths` has changed since event 1");
    push(&world, &["README"], "Words");
    assert_eq!(built(&world, 3), Vec::<String>::new());
    // What is wrong, and what says so itself, is not compared with: what it changed is built by the next.
    world.repository.write(".sai.json", "{");
    push(&world, &["lib/b"], "Break it");
    assert_eq!(built(&world, 4), Vec::<String>::new());
    world.repository.write(".sai.json", &file);
    push(&world, &[], "Mend it");
    assert_eq!(built(&world, 5), ["lib"]);
    push(&world, &["docs/a"], "Words [skip ci]");
    assert_eq!(built(&world, 6), Vec::<String>::new());
    push(&world, &["README"], "More words");
    assert_eq!(built(&world, 7), ["docs"]);
    // A forced push is compared with what was there, by what they hold.
    run(git(&world.repository.work).args(["reset", "--quiet", "--hard", &first]));
    push(&world, &["docs/a"], "Other words [skip ci]");
    push(&world, &["README"], "Words of another history");
    assert_eq!(built(&world, 9), ["lib", "docs"], "lib/a and lib/b are gone, and docs/a is another");
    // What nobody has any longer cannot be compared with.
    run(git(&world.repository.work).args(["reset", "--quiet", "--hard", &first]));
    run(git(&world.repository.bare).args(["update-ref", "-d", "refs/heads/main"]));
    run(git(&world.repository.bare).args(["gc", "--quiet", "--prune=now"]));
    fs::remove_dir_all(world.state().join("repositories/project%sha1")).expect("git's cache is there");
    push(&world, &["README"], "Words after all");
    assert_eq!(built(&world, 10), ["lib", "docs"]);
    said(10, "built whatever its `paths` say: what has changed since event 9");
    // The saifile itself is of everything, and so is a branch that is new.
    world.repository.push_saifile(&file.replace("true", "exit 0"));
    assert_eq!(built(&world, 11), ["lib", "docs"]);
    said(11, ".sai.json itself has changed since event 10");
    run(git(&world.repository.work).args(["push", "--quiet", "origin", "HEAD:refs/heads/other"]));
    assert_eq!(built(&world, 12), ["lib"], "docs is of main alone");
}

#[test]
fn a_push_that_leaves_something_out_ends_nothing_of_that() {
    let mut world = World::new("paths-supersede");
    let url = format!("{:?}", world.repository.bare);
    world.set("repositories", &format!("{{\"project\": {{\"url\": {url}, \"supersede\": true}}}}"));
    let _master = world.master();
    // Nobody builds them, so that all of them wait.
    world.repository.push_saifile(&saifile("true"));
    let states = |event: u64, wanted: [&str; 2]| {
        eventually(&format!("the jobs of event {event} are {wanted:?}"), || {
            let states: Vec<String> = world.event(event)?.jobs.into_iter().map(|job| job.state).collect();
            (states == wanted).then_some(())
        });
    };
    states(1, ["queued", "queued"]);
    push(&world, &["docs/a"], "Words");
    assert_eq!(built(&world, 2), ["docs"]);
    states(1, ["queued", "cancelled"]);
    // What somebody starts ends nothing, and is ended by no push.
    world.command(&["start", "project", "main", "configuration=docs"]);
    push(&world, &["docs/b", "lib/b"], "Words and library");
    assert_eq!(built(&world, 4), ["lib", "docs"]);
    states(1, ["cancelled", "cancelled"]);
    let started = world.event(3).expect("what was started");
    assert_eq!((started.jobs.len(), started.jobs[0].state.as_str()), (1, "queued"));
}

#[test]
fn people_start_a_branch_or_a_revision_with_what_they_choose() {
    let world = World::new("start");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let tokens = [["ann", "builder"], ["rea", "reader"], ["own", "builder@other"]]
        .map(|[name, role]| world.command(&["user", "add", name, role]));
    let first = world.repository.push_saifile(&saifile("echo $SAI_CONFIGURATION, $WORD"));
    assert_eq!(built(&world, 1), ["lib", "docs"]);
    push(&world, &["README"], "Words");
    assert_eq!(built(&world, 2), Vec::<String>::new());
    // Whatever has changed, at the newest revision of the branch.
    assert_eq!(world.command(&["start", "project", "main"]), "started event 3 of project");
    let event: Event = world.ended(3);
    assert_eq!((event.event.source.as_str(), event.jobs.len()), ("start", 2));
    assert_ne!(event.event.revision, first);
    let path = format!(
        "/api/v1/repositories/project/start?branch=main&revision={first}&configuration=docs&env=WORD%3Da+%3D+b"
    );
    for (token, status) in [(None, 401), (Some(&tokens[1]), 403), (Some(&tokens[2]), 403), (Some(&tokens[0]), 200)] {
        let (found, body) = world.post(&path, token.map(String::as_str));
        assert_eq!(found, status, "{body}");
    }
    let event = world.ended(4);
    assert_eq!((event.event.revision, event.event.reference), (first, "refs/heads/main".to_string()));
    assert_eq!(event.jobs.iter().map(|job| job.configuration.as_str()).collect::<Vec<_>>(), ["docs"]);
    assert_eq!(world.records(event.jobs[0].id).channel("stdout"), b"docs, a = b\n");
    assert!(world.page("/event/4").contains("started by ann: configuration=docs env=WORD=a = b"));
    // What makes no job makes no event, and says why.
    for (words, status, why) in [
        (&["nothing", "main"][..], 1, "no repository \"nothing\" is configured"),
        (&["project", "topic"], 1, "project has no refs/heads/topic"),
        (&["project", "main", "configuration=x"], 1, "expected a configuration of this file, found `x`"),
        (&["project", "main", "platform=windows"], 1, "expected a platform of this file, found `windows`"),
        (&["project", "main", &format!("revision={}", "1".repeat(40))], 1, "no such revision"),
        (&["project", "main", "revision=abc"], 2, "expected a revision of 40 or 64"),
        (&["project", "main", "env=SAI_JOB=1"], 2, "does not begin with SAI_"),
        (&["project"], 2, "expected a repository and a branch"),
    ] {
        let words = [&["start"], words].concat();
        let (found, _, told) = world.try_command(&words);
        assert!(found == status && told.contains(why), "{words:?}: {found} {told}");
    }
    for (query, why) in [("branch=main&force=1", "expected one branch"), ("", "expected a branch")] {
        let (status, body) = world.post(&format!("/api/v1/repositories/project/start?{query}"), Some(&tokens[0]));
        assert!(status == 400 && body.contains(why), "{status} {body}");
    }
    assert!(world.event(5).is_none());
    let admin = world.command(&["user", "add", "root", "admin"]);
    let header = format!("authorization: Bearer {admin}");
    let deeds = run(Command::new("curl")
        .args(["-ksS", "-H", &header])
        .arg(format!("https://{}/api/v1/actions", world.address())));
    assert!(deeds.contains("started event 4 of project: configuration=docs"), "{deeds}");
}
