//! Mirrors and checkouts with real git: fetched once, defended, healed.

mod common;

use common::*;
use sai_agent::git::{Stop, Watch};
use sai_agent::job_directory::{JobDirectory, Launcher, start};
use sai_agent::mirror::{Mirror, names, prefetch, set_depth};
use sai_core::job::{Fault, Outcome};
use sai_core::wire::Prefetch;
use std::fs;
use std::os::unix::fs::PermissionsExt;

struct Quiet {
    stop: Stop,
    notes: Vec<String>,
}

impl Quiet {
    fn new() -> Self {
        Self { stop: Stop::new().unwrap(), notes: Vec::new() }
    }
}

impl Watch for Quiet {
    fn note(&mut self, text: &str) {
        self.notes.push(text.to_string());
    }
    fn output(&mut self, _: &[u8]) {}
    fn stop(&self) -> &Stop {
        &self.stop
    }
}

fn wanted(world: &World) -> Prefetch {
    Prefetch {
        repository: "group/project".into(),
        url: world.origin().to_string_lossy().into_owned().into(),
        reference: "refs/heads/main".into(),
        revision: world.revision.clone(),
    }
}

fn mirror(world: &World, revision: &str) -> Mirror {
    Mirror::open(&world.mirrors(), "group/project", &world.origin().to_str().unwrap().into(), revision).unwrap()
}

#[test]
fn many_jobs_of_a_revision_make_one_fetch() {
    let world = World::new("once");
    let directories: Vec<_> = (0..6).map(|_| world.start(&world.assignment(&["cat file"]))).collect();
    let mut fetches = 0;
    for directory in &directories {
        finish(directory);
        let log = Log::of(directory);
        assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, "content\n"));
        fetches += log.notes().iter().filter(|note| note.starts_with("fetching ")).count();
    }
    assert_eq!(fetches, 1);
    assert_eq!(names(&world.mirrors()), ["group/project"]);
    // A revision that is known needs neither the remote nor its fetch.
    fs::rename(world.origin(), world.path.join("away")).unwrap();
    assert_eq!(world.run(&world.assignment(&["cat file"])).outcome(), Outcome::Passed);
}

#[test]
fn a_prefetched_revision_is_there_and_an_old_one_stays() {
    let mut world = World::new("prefetch");
    let first = world.revision.clone();
    prefetch(&world.mirrors(), &wanted(&world)).unwrap();
    assert!(mirror(&world, &first).holds(&first));
    fs::write(world.origin().join("file"), "second\n").unwrap();
    world.revision = world.commit("two");
    git(&world.origin(), &["tag", "-a", "-m", "v", "v1.0"]);
    assert!(!mirror(&world, &first).holds(&world.revision));
    prefetch(&world.mirrors(), &wanted(&world)).unwrap();
    prefetch(&world.mirrors(), &wanted(&world)).unwrap();
    let log = world.run(&world.assignment(&["cat file; git describe; git log --oneline | wc -l; git branch -a"]));
    assert_eq!(log.text("stdout").lines().take(3).collect::<Vec<_>>(), ["second", "v1.0", "2"]);
    assert!(log.text("stdout").contains("remotes/origin/main"));
    assert!(log.notes().is_empty(), "{:?}", log.notes());
    world.revision = first;
    assert_eq!(world.run(&world.assignment(&["cat file"])).text("stdout"), "content\n");
}

/// What a step sees of the history: the commits, and whether git takes it to be whole.
const HISTORY: &str =
    "git log --oneline | wc -l; git rev-parse --is-shallow-repository; git fsck --no-dangling; cat file";

#[test]
fn a_board_with_little_room_has_the_end_of_a_history_and_all_of_it_when_that_is_wanted() {
    let mut world = World::new("shallow");
    let first = world.revision.clone();
    for number in 2..=5 {
        fs::write(world.origin().join("file"), format!("{number}\n")).unwrap();
        world.revision = world.commit("more");
    }
    set_depth(&world.mirrors(), Some(2)).unwrap();
    let run = |world: &World| world.run(&world.assignment(&[HISTORY])).text("stdout");
    assert_eq!(run(&world), "2\ntrue\n5\n");
    // One that is new, and one from before the beginning.
    fs::write(world.origin().join("file"), "6\n").unwrap();
    world.revision = world.commit("more");
    prefetch(&world.mirrors(), &wanted(&world)).unwrap();
    assert!(run(&world).ends_with("\ntrue\n6\n"));
    let last = std::mem::replace(&mut world.revision, first.clone());
    assert_eq!(run(&world), "1\ntrue\ncontent\n");
    set_depth(&world.mirrors(), None).unwrap();
    // What is there is there, until something is fetched.
    fs::write(world.origin().join("file"), "7\n").unwrap();
    world.revision = world.commit("more");
    assert_eq!(run(&world), "7\nfalse\n7\n");
    world.revision = last;
    assert_eq!(run(&world), "6\nfalse\n6\n");
}

#[test]
fn an_old_revision_is_found_by_its_ref_where_a_server_gives_none_by_number() {
    let mut world = World::new("shallow-ssh");
    let first = world.revision.clone();
    for number in 2..=5 {
        fs::write(world.origin().join("file"), format!("{number}\n")).unwrap();
        world.revision = world.commit("more");
    }
    set_depth(&world.mirrors(), Some(1)).unwrap();
    // A server whose sshd does not let GIT_PROTOCOL pass speaks the first version, in which only tips can be asked for.
    let ssh = world.path.join("ssh");
    fs::write(
        &ssh,
        "#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\nunset GIT_PROTOCOL GIT_CONFIG_GLOBAL\nexec sh -c \"$1\"\n",
    )
    .unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let launcher = Launcher {
        program: "env".into(),
        first_arguments: vec![format!("GIT_SSH_COMMAND={}", ssh.display()).into(), launcher().program.into()],
    };
    let run = |world: &World| {
        let mut assignment = world.assignment(&[HISTORY]);
        assignment.url = format!("ssh://host{}", world.origin().display()).into();
        let directory = JobDirectory::create(&world.jobs(), &assignment).unwrap();
        start(&directory, &launcher).unwrap();
        finish(&directory);
        Log::of(&directory)
    };
    assert_eq!(run(&world).text("stdout"), "1\ntrue\n5\n");
    world.revision = first;
    let log = run(&world);
    assert_eq!(log.text("stdout"), "1\nfalse\ncontent\n", "{log:?}");
    assert!(log.notes().iter().any(|note| note.contains("fetching all of")), "{:?}", log.notes());
}

#[test]
fn a_revision_that_left_its_branch_is_fetched_by_name_and_one_that_never_was_is_the_specs_fault() {
    let mut world = World::new("gone");
    let kept = world.commit("kept");
    git(&world.origin(), &["branch", "elsewhere"]);
    git(&world.origin(), &["reset", "-q", "--hard", &world.revision]);
    git(&world.origin(), &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    world.revision = kept;
    assert_eq!(world.run(&world.assignment(&["true"])).outcome(), Outcome::Passed);
    // The branch itself is gone.
    world.revision = git(&world.origin(), &["commit-tree", "-m", "loose", "HEAD^{tree}"]);
    let mut assignment = world.assignment(&["true"]);
    assignment.reference = "refs/heads/never".into();
    assert_eq!(world.run(&assignment).outcome(), Outcome::Passed);

    world.revision = "0123456789".repeat(4);
    let log = world.run(&world.assignment(&["true"]));
    assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Failed, Fault::Spec));
    assert!(log.verdict().cause.contains("not found"), "{}", log.verdict().cause);
    // A tree is no commit.
    world.revision = git(&world.origin(), &["rev-parse", "HEAD^{tree}"]);
    let log = world.run(&world.assignment(&["true"]));
    assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Failed, Fault::Spec), "{log:?}");
}

#[test]
fn a_repository_that_cannot_be_reached_is_our_trouble_and_said() {
    let world = World::new("unreachable");
    let mut assignment = world.assignment(&["true"]);
    assignment.url = format!("{}/nowhere", world.path.display()).into();
    let log = world.run(&assignment);
    assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Infra, Fault::Infrastructure));
    assert!(log.text("git").contains("does not appear to be a git repository"), "{log:?}");
    let mut assignment = world.assignment(&["true"]);
    assignment.url = "http://user:hunter2@127.0.0.1:1/x.git".into();
    let log = world.run(&assignment);
    assert_eq!(log.outcome(), Outcome::Infra);
    assert!(!format!("{log:?}").contains("hunter2") && !log.text("git").contains("hunter2"), "{log:?}");
}

#[test]
fn hostile_urls_refs_and_revisions_never_reach_git() {
    let world = World::new("hostile");
    let marker = world.path.join("owned");
    let touch = format!("touch {}", marker.display());
    let urls = [
        format!("--upload-pack={touch}"),
        format!("ext::sh -c {}", touch.replace(' ', "% ")),
        format!("ssh://-oProxyCommand={touch}/x"),
        format!("{}/../origin", world.origin().display()),
    ];
    let check = |assignment| {
        let log = world.run(&assignment);
        assert_eq!((log.outcome(), log.verdict().fault), (Outcome::Failed, Fault::Spec), "{log:?}");
    };
    for url in urls {
        let mut assignment = world.assignment(&["true"]);
        assignment.url = url.into();
        check(assignment);
    }
    for reference in ["--output=x", "refs/heads/a:refs/heads/b", "refs/heads/../x", "main", "refs/heads/a\\b"] {
        let mut assignment = world.assignment(&["true"]);
        assignment.reference = reference.into();
        check(assignment);
    }
    for revision in ["--orphan", "HEAD", "", "refs/heads/main"] {
        let mut assignment = world.assignment(&["true"]);
        assignment.revision = revision.into();
        check(assignment);
    }
    assert!(!marker.exists());
}

#[test]
fn neither_hooks_nor_filters_of_a_repository_run_at_checkout() {
    let mut world = World::new("hooks");
    let marker = world.path.join("owned");
    let origin = world.origin();
    fs::write(origin.join(".gitattributes"), "* filter=evil\n*.big filter=lfs diff=lfs\n").unwrap();
    fs::create_dir(origin.join("hooks")).unwrap();
    fs::write(origin.join("hooks/post-checkout"), format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    fs::set_permissions(origin.join("hooks/post-checkout"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/etc", origin.join("etc")).unwrap();
    world.revision = world.commit("hooks");
    let log = world.run(&world.assignment(&["cat file; ls .git/hooks 2>/dev/null | wc -l"]));
    assert_eq!(log.text("stdout"), "content\n0\n", "{log:?}");
    assert!(!marker.exists());
}

#[test]
fn stale_locks_and_broken_mirrors_are_healed() {
    let mut world = World::new("heal");
    prefetch(&world.mirrors(), &wanted(&world)).unwrap();
    let path = mirror(&world, &world.revision).path().to_path_buf();
    // A lock of a git that was killed.
    fs::write(path.join("packed-refs.lock"), "").unwrap();
    for file in fs::read_dir(path.join("refs/sai")).unwrap() {
        fs::write(file.unwrap().path().with_extension("lock"), "").unwrap();
    }
    world.revision = world.commit("two");
    assert_eq!(world.run(&world.assignment(&["true"])).outcome(), Outcome::Passed);
    // Refs that name nothing, a configuration that is none.
    fs::write(path.join("config"), "[core\n").unwrap();
    world.revision = world.commit("three");
    assert_eq!(world.run(&world.assignment(&["true"])).outcome(), Outcome::Passed);
    // Packs with other content than their index says: found only at checkout.
    for file in fs::read_dir(path.join("objects/pack")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|end| end == "pack") {
            let mut bytes = fs::read(&file).unwrap();
            let length = bytes.len();
            bytes[12..length - 20].fill(0x55);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&file, bytes).unwrap();
        }
    }
    let log = world.run(&world.assignment(&["cat file"]));
    assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, "content\n"), "{log:?}");
    // An empty directory where it was.
    for entry in fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() { fs::remove_dir_all(entry).unwrap() } else { fs::remove_file(entry).unwrap() }
    }
    assert_eq!(world.run(&world.assignment(&["true"])).outcome(), Outcome::Passed);
}

#[test]
fn a_mirror_of_many_pushes_is_packed_together() {
    let mut world = World::new("pack");
    let packs = |path: &std::path::Path| {
        let files = fs::read_dir(path.join("objects/pack")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "pack")).count()
    };
    let mut most = 0;
    let mut watch = Quiet::new();
    for number in 0..45 {
        world.revision = world.commit(&number.to_string());
        let mirror = mirror(&world, &world.revision);
        drop(mirror.ensure("refs/heads/main", &world.revision, &mut watch).unwrap());
        most = most.max(packs(mirror.path()));
    }
    let mirror = mirror(&world, &world.revision);
    assert!(most <= 41 && packs(mirror.path()) < 10, "{most} {}", packs(mirror.path()));
    let log = world.run(&world.assignment(&["git log --oneline | wc -l; git fsck --strict 2>&1"]));
    assert_eq!(log.text("stdout").trim(), "46");
}

#[test]
fn cancel_stops_a_fetch_that_hangs() {
    let world = World::new("hang");
    // A server that accepts and never answers.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut assignment = world.assignment(&["true"]);
    assignment.url = format!("git://127.0.0.1:{}/x.git", server.local_addr().unwrap().port()).into();
    let directory = world.start(&assignment);
    let held = hold(&directory);
    server.set_nonblocking(true).unwrap();
    let mut socket = None;
    until("git asks the server", || {
        socket = server.accept().ok();
        socket.is_some()
    });
    held.cancel("enough");
    while next(&held).is_some() {}
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Cancelled, "{log:?}");
    drop(socket);

    // And the job's own time ends it, which is no fault of the job.
    assignment.key.job += 500;
    assignment.timeout_s = 1;
    let directory = world.start(&assignment);
    finish(&directory);
    assert_eq!(Log::of(&directory).outcome(), Outcome::Infra);
}

#[test]
fn submodules_come_when_asked_for() {
    let mut world = World::new("submodule");
    let library = world.path.join("library");
    fs::create_dir(&library).unwrap();
    git(&library, &["init", "-q"]);
    fs::write(library.join("lib"), "library\n").unwrap();
    git(&library, &["add", "-A"]);
    git(&library, &["commit", "-q", "-m", "lib"]);
    git(
        &world.origin(),
        &["-c", "protocol.file.allow=always", "submodule", "add", "-q", library.to_str().unwrap(), "sub"],
    );
    world.revision = world.commit("sub");
    let mut assignment = world.assignment(&["ls sub; cat sub/lib"]);
    assert_eq!(world.run(&assignment).outcome(), Outcome::Failed);
    assignment.key.job += 500;
    assignment.submodules = true;
    let log = world.run(&assignment);
    assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, "lib\nlibrary\n"), "{log:?}");
}

#[test]
fn repositories_named_by_sha256_work_too() {
    let mut world = World::new("sha256");
    let origin = world.path.join("other");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q", "--object-format=sha256"]);
    git(&origin, &["commit", "-q", "--allow-empty", "-m", "x"]);
    world.revision = git(&origin, &["rev-parse", "HEAD"]);
    let mut assignment = world.assignment(&["git rev-parse HEAD"]);
    assignment.url = origin.to_string_lossy().into_owned().into();
    let log = world.run(&assignment);
    assert_eq!(log.text("stdout").trim(), world.revision, "{log:?}");
}
