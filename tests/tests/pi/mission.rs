//! The whole mission: a push to a bare repository whose hook pokes the master, a build under nspawn that makes a program for another
//! processor, and an emulated Pi that was started from a card of ours, has the board, flashes it over USB serial, resets it by a GPIO and
//! looks at its line; then the page. The pictures are in `target/mission`.

use super::{SERIAL, at_once, image, roots, written};
use sai_tests::boards::at_board;
use sai_tests::machine::BOOT;
use sai_tests::mission::{LOADS, Mission, VARIABLES, boards};
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::run;
use sai_tests::wired::{PI, Wired};
use sai_tests::world::{Event, World};
use std::process::Command;

/// What the builder's image is called.
const PLATFORM: &str = "linux-debian-12/x86_64/arm";

/// An agent that builds in containers, whose one image has what makes programs for the board.
fn builder(world: &World) -> Process {
    let agent = world.agent("builder", &["linux/host"], 1);
    let root = roots::debian("bookworm");
    let mut create = Command::new(program("sai-agent"));
    create.args(["image", "create", PLATFORM, "--packages", "binutils-aarch64-linux-gnu", "--from-dir"]).arg(root);
    run(create.arg("--state").arg(world.agent_state("builder")));
    eventually("the image is offered", || {
        let offers = |platforms: &[String]| platforms.iter().any(|platform| platform == PLATFORM);
        world.agents().iter().any(|agent| agent.name == "builder" && offers(&agent.platforms)).then_some(())
    });
    agent
}

#[test]
fn a_push_is_built_in_a_container_flashed_by_a_pi_and_judged_at_its_board() {
    // Only root can make images and run jobs in them.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("mission");
    let _master = world.master();
    let _builder = builder(&world);
    let card = written(image(), &world.directory.join("card.img"));
    // Where the Pi finds this machine.
    let line = world.join_line("shed").replace(":127.0.0.1:", ":10.0.2.2:");
    card.put("sai.json", format!("{{ \"join\": \"{line}\", \"ntp\": \"10.0.2.2\", \"slots\": 1 }}\n"));
    card.put("boards.json", boards("pinctrl-bcm2835", PI, "1-1.2", r#", "poll": "5ms""#));
    at_once(&card);
    let mut wired = Wired::pi(&world.directory.join("shed"), VARIABLES, card, SERIAL);
    wired.machine.await_line_for(BOOT, "connected as");
    let mission = Mission { world: &world, builder: ["builder", PLATFORM], buddy: "shed", pictures: "mission" };
    let job = mission.push();
    // The others have ended by then.
    mission.await_said(job, 1, LOADS);
    let event = world.event(1).expect("an event");
    let (browser, met) = std::thread::scope(|scope| {
        let browser = scope.spawn(|| {
            mission.judged(&event);
            says_that_it_looks(&world, &event);
            mission.seen(&event)
        });
        let met = mission.cut_in_mid_flash(&mut wired, job, 1);
        (browser.join().unwrap_or_else(|why| std::panic::resume_unwind(why)), [met])
    });
    mission.cut_is_told(&browser, job, &met);
}

/// The emulated chip tells of no edges: what is known of the board's line is what was seen when it was looked at, and the log says so.
fn says_that_it_looks(world: &World, event: &Event) {
    for case in ["pass", "fail", "hang"] {
        let notes = world.records(at_board(event, case).id).notes;
        let told = "looked at, which sees no edges between two looks: result every 5 ms";
        assert!(notes.iter().any(|note| note == told), "{case}: {notes:?}");
    }
}
