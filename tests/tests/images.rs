//! Images of a real agent as a real master sees them: announced when they are made, withdrawn when they are gone.
//!
//! Only root can make images and run jobs in them; for others there is nothing to see here, which `agent/tests/images.rs` checks.

use rustix::process::Signal;
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::run;
use sai_tests::world::World;
use std::path::Path;
use std::process::Command;

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
    await_offer(&world, "shed", &["linux/host", "linux-a/any/x"]);
    image(&state, &["create", "linux-a/any/y", "--on", "linux-a/any/x"]);
    await_offer(&world, "shed", &["linux/host", "linux-a/any/x", "linux-a/any/y"]);
    image(&state, &["remove", "linux-a/any/y"]);
    await_offer(&world, "shed", &["linux/host", "linux-a/any/x"]);
    // By hand, and something wrong beside it.
    let images = state.join("images");
    std::fs::rename(images.join("linux-a/any/x"), images.join("linux-a/any/z")).expect("another name");
    std::fs::create_dir_all(images.join("linux-b/env")).expect("a directory");
    image(&state, &["rescan"]);
    agent.await_line("linux-b: has no base");
    await_offer(&world, "shed", &["linux/host", "linux-a/any/z"]);
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
    await_offer(&world, "shed", &["linux/host", "linux-a/any/x"]);
    // Nobody tells the agent.
    std::fs::remove_dir_all(state.join("images/linux-a")).expect("no image");
    world.repository.write(".sai.json", sai_tests::repository::saifile(&["true"]).replace("linux", "linux-a"));
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
    await_offer(&world, "shed", &["linux/host", "linux-a/any/x"]);
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
    await_offer(&world, "built-in", &["linux/host", "linux-a/any/x"]);
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
