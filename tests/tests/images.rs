//! Images of a real agent as a real master sees them: announced when they are made, withdrawn when they are gone.
//!
//! Only root can make images and run jobs in them; for others there is nothing to see here, which `agent/tests/images.rs` checks.

#[path = "../../agent/tests/roots/mod.rs"]
mod roots;

use rustix::process::Signal;
use sai_agent::cgroup::{self, Limits};
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::{Repository, git, run, saifile};
use sai_tests::world::{Job, World};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `sai-agent image`.
fn image(state: &Path, words: &[&str]) -> String {
    run(Command::new(program("sai-agent")).arg("image").args(words).arg("--state").arg(state))
}

/// A root in which nothing can run.
fn small_root(world: &World) -> String {
    let root = world.directory.join("small");
    std::fs::create_dir_all(root.join("bin")).expect("a directory");
    std::fs::write(root.join("bin/sh"), "").expect("a file");
    root.display().to_string()
}

/// Waits until an agent offers these platforms and no others.
fn await_offer(world: &World, agent: &str, platforms: &[&str]) {
    let offered = || world.agents().into_iter().find(|other| other.name == agent).map(|agent| agent.platforms);
    eventually(&format!("{agent} offers {platforms:?}"), || offered().filter(|offered| offered == platforms).map(drop));
}

#[test]
fn images_are_announced_at_once_and_withdrawn() {
    if !is_root() {
        return;
    }
    let world = World::new("images");
    let _master = world.master();
    let agent = world.agent("shed", &["linux/host"], 1);
    await_offer(&world, "shed", &["linux/host"]);
    let state = world.agent_state("shed");
    let small = small_root(&world);
    image(&state, &["create", "linux-a/any/x", "--from-dir", &small]);
    await_offer(&world, "shed", &["linux-a/any/x", "linux/host"]);
    image(&state, &["create", "linux-a/any/y", "--on", "linux-a/any/x"]);
    await_offer(&world, "shed", &["linux-a/any/x", "linux-a/any/y", "linux/host"]);
    image(&state, &["remove", "linux-a/any/y"]);
    await_offer(&world, "shed", &["linux-a/any/x", "linux/host"]);
    // By hand, and something wrong beside it.
    let images = state.join("images");
    std::fs::rename(images.join("linux-a/any/x"), images.join("linux-a/any/z")).expect("another name");
    std::fs::create_dir_all(images.join("linux-b/env")).expect("a directory");
    image(&state, &["rescan"]);
    agent.await_line("linux-b: has no base");
    await_offer(&world, "shed", &["linux-a/any/z", "linux/host"]);
    std::fs::remove_dir_all(images.join("linux-a")).expect("no image");
    agent.signal(Signal::HUP);
    await_offer(&world, "shed", &["linux/host"]);
}

#[test]
fn an_image_that_vanishes_fails_no_job() {
    if !is_root() {
        return;
    }
    let world = World::new("vanished");
    let _master = world.master();
    let agent = world.agent("shed", &["linux/host"], 1);
    let state = world.agent_state("shed");
    image(&state, &["create", "linux-a/any/x", "--from-dir", &small_root(&world)]);
    await_offer(&world, "shed", &["linux-a/any/x", "linux/host"]);
    // Nobody tells the agent.
    std::fs::remove_dir_all(state.join("images/linux-a")).expect("no image");
    world.repository.write(".sai.json", saifile(&["true"]).replace("linux", "linux-a"));
    world.repository.commit("Ask for the image");
    world.repository.push();
    agent.await_line("its image is gone");
    await_offer(&world, "shed", &["linux/host"]);
    let event = eventually("the job waits again", || {
        let event = world.event(1)?;
        event.jobs.iter().all(|job| job.state == "queued" && job.waiting.is_some()).then_some(event)
    });
    assert_eq!(event.jobs.len(), 1);
    // What comes back is served again.
    image(&state, &["create", "linux-a/any/x", "--from-dir", &small_root(&world)]);
    await_offer(&world, "shed", &["linux-a/any/x", "linux/host"]);
}

/// The program `sai-agent`, on a machine that has no cgroups.
fn without_cgroups(world: &World) -> PathBuf {
    let script = world.directory.join("sai-agent-without-cgroups");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'umount --recursive --lazy /sys/fs/cgroup; exec \"$@\"' sh '{}' \"$@\"\n",
        program("sai-agent").display()
    );
    std::fs::write(&script, text).expect("a script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a program");
    script
}

#[test]
fn limits_that_cannot_be_held_are_told_at_the_start_and_in_each_job() {
    if !is_root() {
        return;
    }
    let mut world = World::new("limits");
    let _master = world.master();
    let root = roots::debian("bookworm").display().to_string();
    let settings = ["\"container\": \"bwrap\"", "\"memory_mib\": 512", "\"cpus\": 1.5"];
    let missing = |name: &str| format!("no limit of {name}: this machine has no cgroups of {name}");
    // An agent has nothing to say of the limits before it has an image, nor where they hold.
    for (name, bare) in [("held", false), ("bare", true)] {
        world.other_agent = bare.then(|| (without_cgroups(&world), Vec::new()));
        let platform = format!("linux-{name}/any/x");
        let mut agent = world.agent_with(name, &["linux/host"], 1, &settings);
        let state = world.agent_state(name);
        assert!(!agent.said().iter().any(|line| line.contains("no limit of")), "{:#?}", agent.said());
        image(&state, &["create", &platform, "--from-dir", &root]);
        agent.kill();
        agent = world.agent_again(name);
        await_offer(&world, name, &[&platform, "linux/host"]);
        let warnings = agent.said().into_iter().filter(|line| line.contains("no limit of")).collect::<Vec<_>>();
        let expected = match bare {
            true => ["memory", "cpu", "pids"].map(missing).to_vec(),
            false => cgroup::trouble(Limits::new(Some(512), Some(1500), None)),
        };
        assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
        for (warning, why) in warnings.iter().zip(&expected) {
            assert!(warning.ends_with(&format!("jobs in containers have {why}")), "{warning}");
        }
        world.repository.push_saifile(&saifile(&["true"]).replace("\"linux\"", &format!("{platform:?}")));
        let event = world.ended(if bare { 2 } else { 1 });
        assert_eq!(event.jobs[0].state, "passed", "{:?}\n{:#?}", event.jobs, agent.said());
        let notes = world.records(event.jobs[0].id).notes;
        let notes: Vec<&String> = notes.iter().filter(|note| note.contains("no limit of")).collect();
        assert_eq!(notes, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn steps_are_root_where_the_saifile_asks_for_it_and_an_agent_can() {
    if !is_root() {
        return;
    }
    let world = World::new("rooted");
    let _master = world.master();
    let image_of = |name: &str| {
        image(
            &world.agent_state(name),
            &["create", "linux-r/any/x", "--from-dir", &roots::debian("bookworm").display().to_string()],
        );
        await_offer(&world, name, &["linux-r/any/x", "linux/host"]);
    };
    // Neither an agent that cannot nor one that may not.
    let cannot = world.agent_with("cannot", &["linux/host"], 1, &["\"container\": \"bwrap\""]);
    image_of("cannot");
    cannot.await_line(
        "jobs that ask to be root in their container are not taken here: bwrap gives a container one user only",
    );
    let _may_not = world.agent_with("may-not", &["linux/host"], 1, &["\"root\": false"]);
    image_of("may-not");
    let text = r#"{"schema": "sai-1", "platforms": {"linux-r": {"build": "test $(id -un) = $WHO; test $WHO = sai || touch /etc/changed"}},
        "configurations": {
            "rooted": {"root": true, "env": {"WHO": "root"}},
            "plain": {"env": {"WHO": "sai"}}}}"#;
    world.repository.push_saifile(text);
    let waiting = eventually("one has passed, and one waits", || {
        let jobs = world.event(1)?.jobs;
        (jobs.len() == 2 && jobs[1].state == "passed").then(|| jobs[0].waiting.clone()).flatten()
    });
    assert!(waiting.contains("no agent has offered linux-r with steps as root in a container yet"), "{waiting}");
    // Where the operator wants it, all are, and where that cannot be, the agent does not start.
    let mut all = world.agent_with("all", &["linux/host"], 1, &["\"root\": true"]);
    image_of("all");
    let event = world.ended(1);
    let able = all.said().iter().any(|line| line.contains("steps in images can be root there"));
    if able {
        assert_eq!(
            (event.jobs[0].state.as_str(), event.jobs[0].agent.as_deref()),
            ("passed", Some("all")),
            "{event:?}"
        );
    }
    all.kill();
    let file = world.agent_state("all").join("agent.json");
    let settings = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(&file, settings.replace("\"root\": true", "\"root\": true, \"container\": \"bwrap\""))
        .expect("a configuration");
    let mut refused = world.agent_starts("all");
    refused.await_line("steps cannot be root in containers here: bwrap gives a container one user only");
    assert_eq!(refused.wait().code(), Some(2));
}

#[test]
fn the_agent_inside_a_master_has_images_too() {
    if !is_root() {
        return;
    }
    let mut world = World::new("builtin-images");
    world.set("builtin", "{ \"platforms\": \"linux/host\", \"slots\": 1, \"pids\": 100 }");
    let master: Process = world.master();
    await_offer(&world, "built-in", &["linux/host"]);
    let state = world.state().join("agent");
    image(&state, &["create", "linux-a/any/x", "--from-dir", &small_root(&world)]);
    await_offer(&world, "built-in", &["linux-a/any/x", "linux/host"]);
    image(&state, &["remove", "linux-a/any/x"]);
    await_offer(&world, "built-in", &["linux/host"]);
    drop(master);
    let configured = |settings: &str| {
        let text = format!("{{ \"builtin\": {settings} }}");
        sai_master::config::read("F", text.as_bytes()).map(|config| config.builtin).map_err(|errors| errors.join("\n"))
    };
    let wrong = configured("{ \"container\": \"docker\" }").expect_err("no such container");
    assert!(wrong.starts_with("F:1:29: builtin.container: expected one of nspawn, bwrap, none"), "{wrong}");
    let right = configured("{ \"images\": \"/srv/images\" }").expect("settings").expect("an agent");
    assert_eq!(right.containers.images.as_deref(), Some(Path::new("/srv/images")));
}

/// Runs git with standard input in a bare repository, and returns what it prints.
fn git_fed(bare: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child =
        git(bare).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git can be run");
    child.stdin.take().expect("a pipe").write_all(input).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// Pushes a branch of these entries of a tree (`MODE TYPE OBJECT\tNAME`) beside a saifile: of git's objects, since no working
/// tree holds all of them.
fn push_odd(world: &World, bare: &Path, branch: &str, saifile: &str, entries: &[String]) {
    let blob = git_fed(bare, &["hash-object", "-w", "--stdin"], saifile.as_bytes());
    let tree: String = entries.iter().map(|entry| format!("{entry}\0")).collect();
    let tree = format!("100644 blob {blob}\t.sai.json\0{tree}");
    let tree = git_fed(bare, &["mktree", "-z", "--missing"], tree.as_bytes());
    let revision = run(git(bare).args(["commit-tree", "-m", branch, &tree]));
    run(git(bare).args(["update-ref", &format!("refs/heads/{branch}"), &revision]));
    // What its hook says.
    let answer = world.get(&format!("/hook/evil?ref=refs/heads/{branch}&rev={revision}&wait=1"));
    assert!(answer.is_some(), "{branch} is told");
}

#[test]
fn a_job_that_met_a_bad_image_gets_the_good_one_and_no_other_job_waits() {
    if !is_root() {
        return;
    }
    let world = World::new("bad-and-good");
    let _master = world.master();
    let agent = world.agent("shed", &["linux/host"], 1);
    let state = world.agent_state("shed");
    image(&state, &["create", "linux-t-bad/any/x", "--from-dir", &small_root(&world)]);
    let root = roots::debian("bookworm").display().to_string();
    image(&state, &["create", "linux-t-good/any/x", "--from-dir", &root]);
    await_offer(&world, "shed", &["linux-t-bad/any/x", "linux-t-good/any/x", "linux/host"]);
    // The bad one is what the agent would choose.
    let text = |platform: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}: {{}}")).collect();
        let names = names.join(", ");
        format!(
            "{{\"schema\": \"sai-1\", \"platforms\": {{{platform:?}: {{\"build\": \"true\"}}}}, \"configurations\": {{{names}}}}}"
        )
    };
    world.repository.push_saifile(&text("linux-t", &["a", "b", "c", "d"]));
    let event = world.ended(1);
    let said = || agent.said();
    for (job, attempt) in event.jobs.iter().zip([2, 2, 2, 1]) {
        assert_eq!((job.state.as_str(), job.attempt), ("passed", attempt), "{event:?}\n{:#?}", said());
        assert_eq!(job.offered.as_deref(), Some("linux-t-good/any/x"), "{event:?}");
    }
    // The bad one alone is set aside, and people can see it.
    let told = "linux-t-bad/any/x had trouble 3 times in a row";
    assert!(world.page("/agents").contains(told), "{}", world.page("/agents"));
    assert!(world.page(&format!("/job/{}", event.jobs[0].id)).contains(" in <bdi>linux-t-good/any/x</bdi>"));
    let list = run(Command::new(program("sai-master")).args(["agent", "list", "--state"]).arg(world.state()));
    assert!(list.contains(told) && !list.contains("linux-t-good/any/x had"), "{list}");
    // Who wants just that waits for it; nobody else does.
    world.repository.push_saifile(&text("linux-t-bad", &["a"]));
    let waiting = eventually("it waits", || world.event(2)?.jobs.first()?.waiting.clone());
    assert!(waiting.contains("paused after trouble"), "{waiting}");
    world.repository.push_saifile(&saifile(&["true"]).replace("\"linux\"", "\"linux/host\""));
    let event = world.ended(3);
    assert_eq!((event.jobs[0].state.as_str(), event.jobs[0].attempt), ("passed", 1), "{event:?}");
    assert_eq!(event.jobs[0].offered.as_deref(), Some("linux/host"));
}

/// Jobs in each branch of the hostile repository: more than the troubles in a row that make a pause.
const HOSTILE_JOBS: usize = 4;
/// Time in which an honest job is run, its checkout on a busy machine included; a pause is of 30 s at least.
const PROMPT: Duration = Duration::from_secs(28);

#[test]
fn a_hostile_repository_and_a_bad_image_keep_no_honest_push_waiting() {
    if !is_root() {
        return;
    }
    let mut world = World::new("hostile");
    let evil = Repository::new(&{
        let directory = world.directory.join("second");
        std::fs::create_dir(&directory).expect("a directory");
        directory
    });
    world.set(
        "repositories",
        &format!(
            "{{\"project\": {{\"url\": {:?}}}, \"evil\": {{\"url\": {:?}, \"submodules\": true}}}}",
            world.repository.bare, evil.bare
        ),
    );
    let mut master = world.master();
    let _agent = world.agent("shed", &["linux/host"], 2);
    image(&world.agent_state("shed"), &["create", "linux-bad/any/x", "--from-dir", &small_root(&world)]);
    await_offer(&world, "shed", &["linux-bad/any/x", "linux/host"]);
    let names: Vec<String> = (0..HOSTILE_JOBS).map(|number| format!("\"c{number}\": {{}}")).collect();
    let on = |platform: &str| {
        format!(
            "{{\"schema\": \"sai-1\", \"platforms\": {{{platform:?}: {{\"build\": \"true\"}}}}, \"configurations\": {{{}}}}}",
            names.join(", ")
        )
    };
    // What each of its branches wants: a file that no file system takes, submodules that are forbidden or nowhere, an image in
    // which nothing runs.
    let bare = &evil.bare;
    let blob = git_fed(bare, &["hash-object", "-w", "--stdin"], b"x\n");
    let modules = |text: &str| {
        let blob = git_fed(bare, &["hash-object", "-w", "--stdin"], text.as_bytes());
        vec![format!("100644 blob {blob}\t.gitmodules"), format!("160000 commit {}\tsub", "1".repeat(40))]
    };
    push_odd(&world, bare, "name", &on("linux/host"), &[format!("100644 blob {blob}\t{}", "n".repeat(300))]);
    let forbidden = "[submodule \"sub\"]\n\tpath = sub\n\turl = ext::sh -c 'touch /tmp/x'\n";
    push_odd(&world, bare, "forbidden", &on("linux/host"), &modules(forbidden));
    push_odd(&world, bare, "missing", &on("linux/host"), &modules("[submodule \"sub\"]\n\tpath = sub\n"));
    push_odd(&world, bare, "image", &on("linux-bad"), &[]);
    let mut honest = 4;
    let mut prompt = |world: &World| {
        let begin = Instant::now();
        let text = saifile(&[&format!("echo {honest}")]);
        world.repository.push_saifile(&text.replace("\"linux\"", "\"linux/host\""));
        honest += 1;
        let event = world.ended(honest);
        assert_eq!((event.jobs[0].state.as_str(), event.jobs[0].attempt), ("passed", 1), "{event:?}");
        assert!(begin.elapsed() < PROMPT, "an honest push took {:?}", begin.elapsed());
    };
    // The first push while it is under way, the next when all of it has come to nothing and the image is paused.
    eventually("its events", || world.event(4));
    prompt(&world);
    let about = |world: &World, branch: &str| {
        let reference = format!("refs/heads/{branch}");
        let event = world.events().into_iter().find(|event| event.reference == reference).expect("its event");
        world.event(event.id).expect("an event")
    };
    for branch in ["name", "forbidden", "missing"] {
        let jobs = eventually(&format!("the jobs of {branch} end"), || {
            Some(about(&world, branch).jobs).filter(|jobs| jobs.iter().all(Job::ended))
        });
        assert!(jobs.iter().all(|job| job.state == "failed" && job.attempt == 1), "{branch}: {jobs:?}");
    }
    let paused = |world: &World| world.page("/agents").contains("no job of it for");
    eventually("the image is paused", || paused(&world).then_some(()));
    prompt(&world);
    // A restart forgets the pause, since whoever restarts may have mended something; the honest notice nothing of it.
    master.kill();
    let mut master = world.master();
    prompt(&world);
    // However often that happens, no job is tried more often than a few times: its record counts.
    for _ in 0..4 {
        eventually("the agent is back", || world.agents().iter().any(|agent| agent.state != "away").then_some(()));
        std::thread::sleep(Duration::from_millis(1500));
        master.kill();
        master = world.master();
    }
    let jobs = about(&world, "image").jobs;
    assert!(jobs.iter().all(|job| job.attempt <= 3), "{jobs:?}");
    assert!(jobs.iter().any(|job| job.state == "infra"), "{jobs:?}");
    eventually("the agent is back", || world.agents().iter().any(|agent| agent.state != "away").then_some(()));
    prompt(&world);
}
