//! Mirrors that leave out what no build needs (`"filter": "blob:none"`), over real transports: small, and as good as others.

use sai_agent::git::{Stop, Watch};
use sai_agent::mirror::{Mirror, set_filter};
use sai_tests::process::{Process, eventually, program};
use sai_tests::random::{Random, awkward, seed};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::{World, free_port};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for a job to be tried as often as it is, on a machine that is busy.
const BUILD: Duration = Duration::from_secs(300);
/// Bytes of a file that each revision has another of; they cannot be compressed.
const FILE_BYTES: usize = 400_000;
/// Revisions of it.
const REVISIONS: u64 = 5;

/// A server of the world's repository, which can be stopped.
fn serve(world: &World, port: u16) -> Process {
    // Itself: killed, the process that starts it would leave it behind.
    let mut daemon = Command::new(Path::new(&run(git(&world.directory).arg("--exec-path"))).join("git-daemon"));
    daemon.args(["--reuseaddr", "--export-all", "--listen=127.0.0.1", &format!("--port={port}"), "--verbose"]);
    daemon.arg(format!("--base-path={}", world.directory.display())).stdout(Stdio::null());
    let daemon = Process::start("git daemon", daemon.arg(&world.directory));
    daemon.await_line("Ready to rumble");
    daemon
}

/// A repository whose history is much larger than any revision of it; the revisions, oldest first.
fn history(world: &World, filters: bool) -> Vec<String> {
    run(git(&world.repository.bare).args(["config", "uploadpack.allowFilter", if filters { "true" } else { "false" }]));
    let mut random = Random::new(seed("partial", 5));
    let mut revisions = Vec::new();
    for number in 0..REVISIONS {
        world.repository.write("large", awkward(&mut random, FILE_BYTES));
        world.repository.write("directory/number", format!("{number}\n"));
        world.repository.write(".sai.json", saifile(&["true"]));
        revisions.push(world.repository.commit(&format!("Number {number}")));
    }
    revisions
}

/// Whether a repository has an object itself.
fn has(repository: &Path, object: &str) -> bool {
    let mut ask = git(repository);
    ask.env("GIT_NO_LAZY_FETCH", "1").args(["cat-file", "-e", object]).stderr(Stdio::null());
    ask.status().expect("git can be run").success()
}

fn bytes_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                bytes_of(&entry.path())
            } else {
                entry.metadata().map_or(0, |about| about.len())
            }
        })
        .sum()
}

/// The one mirror in a directory.
fn mirror_in(mirrors: &Path) -> PathBuf {
    let entries = fs::read_dir(mirrors).expect("mirrors").flatten().map(|entry| entry.path());
    let found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "git")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// An agent that has joined with this filter, not started yet.
fn join(world: &World, name: &str) {
    let line = world.join_line(name);
    let mut join = Command::new(program("sai-agent"));
    join.args(["join", &line, "--only-save", "--platform", "linux", "--slots", "1", "--state"])
        .arg(world.agent_state(name));
    assert!(join.output().expect("sai-agent can be run").status.success());
    let file = world.agent_state(name).join("agent.json");
    let text = fs::read_to_string(&file).expect("a configuration");
    fs::write(&file, text.replacen('{', "{ \"filter\": \"blob:none\",", 1)).expect("a configuration");
}

#[test]
fn a_partial_mirror_is_small_and_builds_without_its_server() {
    let mut world = World::new("partial");
    let port = free_port();
    world.set("repositories", &format!("{{\"project\": {{\"url\": \"git://127.0.0.1:{port}/project.git\"}}}}"));
    let revisions = history(&world, true);
    let mut daemon = serve(&world, port);
    let _master = world.master();
    join(&world, "board");
    let mut agent = world.agent_again("board");
    let count = "git log --oneline | wc -l && wc -c <large && cat directory/number && git status --short | wc -l";
    world.repository.push_saifile(&saifile(&[count]));
    let event = world.ended(1);
    assert_eq!(event.jobs[0].state, "passed", "{event:?}: {}", String::from_utf8_lossy(&world.log(1)));
    let printed = world.records(1).channel("stdout").to_vec();
    let expected = format!("{}\n{FILE_BYTES}\n{}\n0\n", REVISIONS + 1, REVISIONS - 1);
    assert_eq!(String::from_utf8_lossy(&printed), expected);

    // All commits and directories, and the files of one revision.
    let mirror = mirror_in(&world.agent_state("board").join("mirrors"));
    for revision in &revisions {
        assert!(has(&mirror, &format!("{revision}^{{tree}}")), "{revision}");
    }
    assert!(has(&mirror, &format!("{}:large", revisions[4])));
    assert!(!has(&mirror, &format!("{}:large", revisions[0])));
    let bytes = bytes_of(&mirror);
    assert!(bytes < 2 * FILE_BYTES as u64, "{bytes} bytes");
    let configuration = fs::read_to_string(mirror.join("config")).expect("its configuration");
    assert!(
        configuration.contains("promisor = true")
            && configuration.contains(&format!("url = \"git://127.0.0.1:{port}/project.git\"\n")),
        "{configuration}"
    );

    // What was built once is built again while the server is down. The next push is known to the master by then, and what it
    // needs is not to be had: that is no fault of the job.
    let token = world.command(&["user", "add", "ann"]);
    agent.kill();
    world.repository.write("directory/number", "new\n");
    world.repository.push_saifile(&saifile(&["cat directory/number"]));
    let next = eventually("the push becomes an event", || world.event(2));
    assert_eq!(next.jobs[0].state, "queued", "{next:?}");
    daemon.kill();
    let (status, said) = world.post("/api/v1/jobs/1/rebuild", Some(&token));
    assert_eq!(status, 200, "{said}");
    let agent = world.agent_again("board");
    let again = eventually("the first revision is built again", || {
        let event = world.event(1)?;
        (event.jobs[0].attempt == 2 && event.jobs[0].ended()).then_some(event)
    });
    assert_eq!(again.jobs[0].state, "passed", "{again:?}");
    let tried = world.ended_within(BUILD, 2).jobs.remove(0);
    assert_eq!(tried.state, "infra", "{tried:?}");
    assert!(tried.cause.contains("fetching git://127.0.0.1"), "{tried:?}");
    drop(agent);
}

struct Silent(Stop);

impl Watch for Silent {
    fn note(&mut self, _: &str) {}
    fn output(&mut self, _: &[u8]) {}
    fn stop(&self) -> &Stop {
        &self.0
    }
}

/// Has the mirror of the world's repository hold a revision.
fn ensure(world: &World, url: &str, revision: &str) -> Result<PathBuf, String> {
    let mut watch = Silent(Stop::new().expect("a request to stop"));
    let mirror = Mirror::open(&world.directory.join("mirrors"), "project", &url.into(), revision)
        .map_err(|trouble| trouble.why)?;
    mirror
        .ensure("refs/heads/main", revision, &mut watch)
        .map_err(|trouble| format!("{:?}: {}", trouble.fault, trouble.why))?;
    assert!(mirror.holds(revision));
    Ok(mirror.path().to_path_buf())
}

#[test]
fn what_was_interrupted_is_completed_and_what_lacks_is_found_out() {
    let world = World::new("interrupted");
    let revisions = history(&world, true);
    world.repository.push();
    let mirrors = world.directory.join("mirrors");
    set_filter(&mirrors, Some("blob:none")).expect("a setting");
    let url = format!("file://{}", world.repository.bare.display());
    let mirror = ensure(&world, &url, &revisions[4]).expect("the revision");
    let large = format!("{}:large", revisions[4]);

    // As an agent leaves it that was killed between commits and files.
    let files = run(git(&mirror).args(["rev-parse", &large]));
    for entry in fs::read_dir(mirror.join("objects/pack")).expect("packs").flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "idx")
            && run(git(&mirror).args(["verify-pack", "-v"]).arg(&path)).contains(&files)
        {
            for end in ["idx", "pack", "promisor", "rev"] {
                let _ = fs::remove_file(path.with_extension(end));
            }
        }
    }
    fs::write(mirror.join("complete"), "").expect("the list");
    assert!(!has(&mirror, &large));
    ensure(&world, &url, &revisions[4]).expect("the revision");
    assert!(has(&mirror, &large) && !has(&mirror, &format!("{}:large", revisions[1])));

    // An older one gets its files when it is wanted, also when the server goes away afterwards; one that has none stays ours.
    ensure(&world, &url, &revisions[1]).expect("an older revision");
    assert!(has(&mirror, &format!("{}:large", revisions[1])));
    let away = world.directory.join("away.git");
    fs::rename(&world.repository.bare, &away).expect("the repository can be moved");
    ensure(&world, &url, &revisions[1]).expect("an older revision");
    let trouble = ensure(&world, &url, &revisions[2]).expect_err("nobody has its files");
    assert!(trouble.starts_with("Infrastructure: fetching file://"), "{trouble}");
    fs::rename(&away, &world.repository.bare).expect("the repository can be moved");
    ensure(&world, &url, &revisions[2]).expect("the revision");

    // Many fetches later all is packed together, and what was left out is still known to be.
    for number in 0..25 {
        world.repository.write("directory/number", format!("later {number}\n"));
        let revision = world.repository.commit("Later");
        world.repository.push();
        ensure(&world, &url, &revision).expect("a later revision");
    }
    let packs = fs::read_dir(mirror.join("objects/pack")).expect("packs").flatten();
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack")).count();
    assert!(packs < 45, "{packs} packs");
    assert!(!has(&mirror, &format!("{}:large", revisions[0])));
    run(git(&mirror).args(["fsck", "--connectivity-only"]));

    // Another setting makes another mirror.
    set_filter(&mirrors, None).expect("a setting");
    world.repository.write("directory/number", "whole\n");
    let whole = world.repository.commit("Whole");
    world.repository.push();
    ensure(&world, &url, &whole).expect("the last revision");
    assert!(has(&mirror, &format!("{}:large", revisions[0])));
    assert!(!mirror.join("complete").exists());
}

#[test]
fn a_server_that_leaves_nothing_out_is_as_good() {
    let world = World::new("unfiltered");
    let revisions = history(&world, false);
    world.repository.push();
    set_filter(&world.directory.join("mirrors"), Some("blob:none")).expect("a setting");
    let url = format!("file://{}", world.repository.bare.display());
    let mirror = ensure(&world, &url, &revisions[4]).expect("the revision");
    assert!(revisions.iter().all(|revision| has(&mirror, &format!("{revision}:large"))));
    let blob = run(git(&world.repository.bare).args(["rev-parse", &format!("{}:large", revisions[4])]));
    let trouble = ensure(&world, &url, &blob).expect_err("a file is no commit");
    assert!(trouble.starts_with("Spec: "), "{trouble}");
}
