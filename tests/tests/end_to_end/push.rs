//! How Sai hears of a push, and what it makes of what was pushed.

use crate::PLATFORM;
use sai_tests::process::eventually;
use sai_tests::repository::{Repository, git, run, saifile};
use sai_tests::world::{Event, World};
use std::path::Path;
use std::process::Command;

/// The secret that every world's repository has.
fn secret() -> String {
    "0123456789abcdef".repeat(4)
}

/// A GET of the master: the status alone.
fn status(world: &World, path: &str) -> u16 {
    let url = format!("https://127.0.0.1:{}{path}", world.port);
    let mut command = Command::new("curl");
    run(command.args(["-ksS", "-g", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", &url]))
        .parse()
        .expect("a status")
}

fn push(world: &World, reference: &str) {
    run(git(&world.repository.work).args(["push", "--quiet", "--force", "origin", reference]));
}

fn await_event(world: &World, id: u64) -> Event {
    eventually(&format!("event {id}"), || world.event(id))
}

#[test]
fn branches_are_built_and_private_ones_are_not() {
    let world = World::new("branches");
    let _master = world.master();
    world.repository.write(
        ".sai.json",
        r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "true" } },
             "configurations": { "all": {}, "released": { "branches": "main, release-*" } } }"#,
    );
    world.repository.commit("Add a saifile");
    push(&world, "HEAD:refs/heads/_mine");
    push(&world, "HEAD:refs/heads/topic");
    push(&world, "HEAD:refs/heads/_more");
    push(&world, "HEAD:refs/tags/v1");
    let event = await_event(&world, 1);
    assert_eq!(event.event.reference, "refs/heads/topic");
    let configurations =
        |event: &Event| -> Vec<String> { event.jobs.iter().map(|job| job.configuration.clone()).collect() };
    assert_eq!(configurations(&event), ["all"]);
    push(&world, "HEAD:refs/heads/release-7");
    let event = await_event(&world, 2);
    assert_eq!(event.event.reference, "refs/heads/release-7");
    assert_eq!(configurations(&event), ["all", "released"]);
    push(&world, "HEAD:refs/heads/main");
    assert_eq!(configurations(&await_event(&world, 3)), ["all", "released"]);
    // A branch that goes back to where it was is a push again; the same tip once more is none.
    world.repository.write("more", "");
    world.repository.commit("More");
    push(&world, "HEAD:refs/heads/topic");
    await_event(&world, 4);
    push(&world, "HEAD~1:refs/heads/topic");
    assert_eq!(await_event(&world, 5).event.revision, event.event.revision);
    assert_eq!(status(&world, "/hook/project?ref=refs/heads/topic"), 202);
    push(&world, "HEAD:refs/heads/last");
    assert_eq!(await_event(&world, 6).event.reference, "refs/heads/last");
}

#[test]
fn tags_are_built_where_they_are_asked_for() {
    let mut world = World::new("tags");
    let bare = format!("{:?}", world.repository.bare);
    world.set("repositories", &format!("{{\"project\": {{\"url\": {bare}, \"tags\": true}}}}"));
    let _master = world.master();
    let revision = world.repository.push_saifile(&saifile(&["true"]));
    await_event(&world, 1);
    run(git(&world.repository.work).args(["tag", "--annotate", "--message", "one", "v1"]));
    push(&world, "refs/tags/v1");
    let event = await_event(&world, 2);
    assert_eq!((event.event.reference.as_str(), event.event.revision), ("refs/tags/v1", revision));
}

#[test]
fn what_was_pushed_while_the_master_was_down_is_found_at_its_start() {
    let world = World::new("catch-up");
    let mut master = world.master();
    world.repository.push_saifile(&saifile(&["true"]));
    await_event(&world, 1);
    master.kill();
    // The hook cannot reach the master, and fails no push for that.
    world.repository.write("one", "");
    let main = world.repository.commit("While it is down");
    world.repository.push();
    run(git(&world.repository.work).args(["checkout", "--quiet", "-b", "topic"]));
    world.repository.write("two", "");
    let topic = world.repository.commit("On a branch");
    world.repository.push();
    let _master = world.master();
    let mut found = vec![await_event(&world, 2).event, await_event(&world, 3).event];
    found.sort_by(|one, other| one.reference.cmp(&other.reference));
    let found: Vec<_> = found.into_iter().map(|event| (event.reference, event.revision)).collect();
    assert_eq!(found, [("refs/heads/main".to_string(), main), ("refs/heads/topic".to_string(), topic)]);
    assert!(world.event(4).is_none());
}

#[test]
fn a_repository_without_a_hook_is_polled() {
    let mut world = World::new("poll");
    let bare = format!("{:?}", world.repository.bare);
    world.set("repositories", &format!("{{\"project\": {{\"url\": {bare}, \"poll_s\": 1}}}}"));
    let _master = world.master();
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("no hook");
    let revision = world.repository.push_saifile(&saifile(&["true"]));
    let event = await_event(&world, 1);
    assert_eq!((event.event.revision, event.event.source.as_str()), (revision, "poll"));
    // People are told in words, wherever they come across it.
    for page in ["/", "/event/1"] {
        let page = world.page(page);
        assert!(page.contains(">found by polling<") && !page.contains("by poll<"), "{page}");
    }
    world.repository.write("more", "");
    let revision = world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(await_event(&world, 2).event.revision, revision);
}

#[test]
fn a_signed_notification_brings_its_saifile() {
    let world = World::new("notify");
    // Two branches are older than Sai.
    world.repository.push_saifile(&saifile(&["echo old"]));
    for old in ["HEAD:refs/heads/one", "HEAD:refs/heads/two"] {
        push(&world, old);
    }
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/hooks/post-receive-notify");
    std::fs::copy(shipped, world.repository.bare.join("hooks/post-receive")).expect("the hook");
    let key = world.directory.join("key");
    run(git(&world.repository.bare).args(["config", "sai.keyfile"]).arg(&key));
    // Signed with another key it is refused, and says so to who pushed.
    std::fs::write(&key, "f".repeat(64)).expect("a key");
    world.repository.write(".sai.json", saifile(&["echo forged"]));
    world.repository.commit("Forged");
    let output = git(&world.repository.work).args(["push", "origin", "HEAD"]).output().expect("git runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("Sai was not told of it") && said.contains("401"), "{said}");
    std::fs::write(&key, format!("{}\n", secret())).expect("a key");
    let revision = world.repository.push_saifile(&saifile(&["echo signed"]));
    let event = world.ended(1);
    assert_eq!((event.event.revision, event.event.source.as_str()), (revision, "hook"));
    assert_eq!(world.records(event.jobs[0].id).channel("stdout"), b"signed\n");
    // The next master looks for itself: it builds neither that again nor the old branches, and then what is new.
    master.kill();
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    let _master = world.master();
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    let state = || String::from_utf8(world.get("/api/v1/repositories").expect("an answer")).expect("UTF-8");
    eventually("it has looked", || state().contains("in order").then_some(()));
    world.repository.write("more", "");
    let revision = world.repository.push_saifile(&saifile(&["echo new"]));
    assert_eq!(status(&world, "/hook/project?ref=refs/heads/main"), 202);
    assert_eq!(world.ended(2).event.revision, revision);
    assert!(world.event(3).is_none());
}

/// A GitHub push webhook with this body, signed with this key: the status.
fn webhook(world: &World, body: &str, key: &str) -> u16 {
    let file = world.directory.join("body");
    std::fs::write(&file, body).expect("a body");
    let digest = run(Command::new("openssl").args(["dgst", "-sha256", "-hmac", key, "-r"]).arg(&file));
    let digest = digest.split(' ').next().unwrap_or_default();
    let mut command = Command::new("curl");
    command.args(["-ksS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST"]);
    command.args(["-H", "content-type: application/json", "-H", "x-github-event: push"]);
    command.args(["-H", "x-github-delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958"]);
    command.args(["-H", &format!("x-hub-signature-256: sha256={digest}"), "--data-binary"]);
    command.arg(format!("@{}", file.display())).arg(format!("https://127.0.0.1:{}/hook/project", world.port));
    run(&mut command).parse().expect("a status")
}

#[test]
fn a_forges_webhook_makes_the_master_look() {
    let world = World::new("webhook");
    let _master = world.master();
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("no hook");
    let revision = world.repository.push_saifile(&saifile(&["true"]));
    let body = format!(
        "{{\"ref\": \"refs/heads/main\", \"before\": \"{}\", \"after\": \"{revision}\", \"repository\": {{\"id\": 1}}}}",
        "0".repeat(40)
    );
    assert_eq!(webhook(&world, &body, &"f".repeat(64)), 401);
    assert!(world.event(1).is_none());
    assert_eq!(webhook(&world, &body, &secret()), 202);
    assert_eq!(await_event(&world, 1).event.revision, revision);
}

#[test]
fn pokes_make_the_master_look_and_nothing_else() {
    let world = World::new("pokes");
    let _master = world.master();
    world.repository.push_saifile(&saifile(&["true"]));
    await_event(&world, 1);
    let ones = "1".repeat(40);
    assert_eq!(status(&world, "/hook/nobody?ref=refs/heads/main"), 404);
    for hostile in
        ["--upload-pack=touch%20x", "refs/heads/..", "refs/heads/a%00b", "%2e%2e/%2e%2e", "refs/heads/a.lock"]
    {
        assert_eq!(status(&world, &format!("/hook/project?ref={hostile}&rev={ones}")), 400, "{hostile}");
    }
    for hostile in ["--help", "HEAD", "refs/heads/main", "abc", "0%0a"] {
        assert_eq!(status(&world, &format!("/hook/project?ref=refs/heads/main&rev={hostile}")), 400, "{hostile}");
    }
    for _ in 0..100 {
        assert_eq!(status(&world, &format!("/hook/project?ref=refs/heads/forged&rev={ones}")), 202);
    }
    // After all of that an honest push is still found at once, and nothing else was made of it.
    world.repository.write("more", "");
    let revision = world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(await_event(&world, 2).event.revision, revision);
    assert!(world.event(3).is_none());
}

#[test]
fn a_repository_that_is_away_is_told_and_found_again() {
    let world = World::new("away");
    let _master = world.master();
    world.repository.push_saifile(&saifile(&["true"]));
    await_event(&world, 1);
    let hidden = world.directory.join("hidden.git");
    std::fs::rename(&world.repository.bare, &hidden).expect("it goes away");
    assert_eq!(status(&world, "/hook/project?ref=refs/heads/main"), 202);
    let state = || String::from_utf8(world.get("/api/v1/repositories").expect("an answer")).expect("UTF-8");
    eventually("the trouble is told", || state().contains("unreachable for").then_some(()));
    std::fs::rename(&hidden, &world.repository.bare).expect("it comes back");
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("no hook");
    world.repository.write("more", "");
    let revision = world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(await_event(&world, 2).event.revision, revision);
    eventually("all is well again", || state().contains("in order").then_some(()));
}

#[test]
fn the_first_push_outlives_a_master_that_is_killed_before_it_looks() {
    let world = World::new("first");
    let mut master = world.master();
    let away = world.directory.join("away.git");
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    run(git(&world.repository.work).args(["checkout", "--quiet", "-b", "feature"]));
    world.repository.push_saifile(&saifile(&["true"]));
    // The repository is away, so that the master cannot have looked before it is killed.
    std::fs::rename(&world.repository.bare, &away).expect("the repository goes");
    assert_eq!(status(&world, "/hook/project?ref=refs/heads/feature"), 202);
    master.kill();
    std::fs::rename(&away, &world.repository.bare).expect("the repository comes back");
    let _master = world.master();
    let event = await_event(&world, 1);
    assert_eq!((event.jobs.len(), event.event.errors.len()), (1, 0), "{event:?}");
}

/// What the API and the event's page say of a pushed saifile.
fn errors(world: &World, id: u64) -> (Vec<String>, Vec<String>) {
    let event = await_event(world, id);
    assert!(event.jobs.is_empty() || event.event.errors.is_empty(), "{event:?}");
    let page = world.page(&format!("/event/{id}"));
    for line in event.event.errors.iter().chain(&event.event.warnings) {
        let escaped = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let shown = page.contains(&escaped) || page.contains(&escaped.replace('"', "&quot;").replace('\'', "&#39;"));
        assert!(shown, "{line} is not on {page}");
    }
    assert!(!page.contains("<script>alert"), "{page}");
    (event.event.errors, event.event.warnings)
}

#[test]
fn what_is_wrong_with_a_saifile_is_shown_with_its_place() {
    let world = World::new("wrong");
    let _master = world.master();
    let mut id = 0;
    let mut next = |content: Vec<u8>| {
        world.repository.write(".sai.json", content);
        world.repository.commit("Change the saifile");
        world.repository.push();
        id += 1;
        errors(&world, id)
    };
    let at = |errors: &[String], place: &str| {
        assert!(errors.iter().any(|line| line.starts_with(place)), "{place}: {errors:?}");
    };
    let (errors, _) = next(b"{ \"schema\": \"sai-1\",\n  \"platforms\": { oops } }".to_vec());
    at(&errors, ".sai.json:2:18: expected ");
    let (errors, _) = next(b"# only a comment\n".to_vec());
    at(&errors, ".sai.json:2:1: expected ");
    let (errors, _) = next(b"{ \"schema\": \"sai-2\" }".to_vec());
    at(&errors, ".sai.json:1:13: ");
    let (errors, _) =
        next([b"{ \"schema\": \"sai-1\", \"platforms\": { \"li".as_slice(), b"\xff\xfe", b"nux\": 1 } }"].concat());
    at(&errors, ".sai.json:1:40: ");
    let (errors, _) = next([b"\n".repeat(7), b"[".repeat(100_000)].concat());
    at(&errors, ".sai.json:8:");
    let huge = format!("{{ \"schema\": \"sai-1\", \"junk\": \"{}\" }}", "x".repeat(2 << 20));
    let (errors, _) = next(huge.into_bytes());
    assert!(errors.iter().any(|line| line.contains("bytes")), "{errors:?}");
    let many: Vec<String> = (0..10_001).map(|number| format!("\"c{number}\": {{}}")).collect();
    let many = format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ \"linux\": {{ \"build\": \"true\" }} }},\n\"configurations\": {{ {} }} }}",
        many.join(",\n")
    );
    let (errors, _) = next(many.into_bytes());
    at(&errors, ".sai.json:100");
    let (errors, warnings) = next(
        b"{ \"schema\": \"sai-1\", \"wrong <script>alert(1)</script>\": 1,\n  \"platforms\": { \"linux\": { \"build\": \"true\" } },\n  \
          \"configurations\": { \"default\": { \"platforms\": \"none, linus\" } } }"
            .to_vec(),
    );
    assert_eq!(errors, Vec::<String>::new());
    at(&warnings, ".sai.json:1:22: ");
    at(&warnings, ".sai.json:3:");
    // None at all.
    std::fs::remove_file(world.repository.work.join(".sai.json")).expect("a saifile");
    world.repository.commit("Without a saifile");
    world.repository.push();
    let state = || String::from_utf8(world.get("/api/v1/repositories").expect("an answer")).expect("UTF-8");
    eventually("it is no trouble", || state().contains("in order; refs/heads/main has no .sai.json").then_some(()));
    // After all of them a good one is built as ever.
    world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(await_event(&world, 9).jobs.len(), 1);
}

#[test]
fn a_saifile_that_is_a_link_or_a_directory_is_no_saifile() {
    let world = World::new("link");
    let _master = world.master();
    std::os::unix::fs::symlink("/etc/passwd", world.repository.work.join(".sai.json")).expect("a link");
    world.repository.commit("A link");
    world.repository.push();
    let event = await_event(&world, 1);
    assert!(!event.event.errors.is_empty() && event.jobs.is_empty(), "{event:?}");
    assert!(!world.page("/event/1").contains("root:"), "a file of the master's machine is shown");
    std::fs::remove_file(world.repository.work.join(".sai.json")).expect("the link");
    world.repository.write(".sai.json/file", "{}");
    world.repository.commit("A directory");
    world.repository.push();
    let event = await_event(&world, 2);
    assert!(!event.event.errors.is_empty() && event.jobs.is_empty(), "{event:?}");
}

#[test]
fn many_branches_in_one_push_all_become_events() {
    let world = World::new("many");
    let _master = world.master();
    world.repository.push_saifile(&saifile(&["true"]));
    await_event(&world, 1);
    let names: Vec<String> = (0..100).map(|number| format!("HEAD:refs/heads/b{number}")).collect();
    run(git(&world.repository.work).args(["push", "--quiet", "origin"]).args(&names));
    await_event(&world, 101);
    assert!(world.event(102).is_none());
    let other = Repository { bare: world.repository.bare.clone(), work: world.repository.work.clone() };
    let names: Vec<String> = (0..100).map(|number| format!(":refs/heads/b{number}")).collect();
    run(git(&other.work).args(["push", "--quiet", "origin"]).args(&names));
    world.repository.write("more", "");
    world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(await_event(&world, 102).event.reference, "refs/heads/main");
}
