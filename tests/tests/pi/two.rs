//! The image for a board of 32 bits with several processors → a Pi 2 that joins, builds with all of them, and runs another image.
//!
//! It takes five minutes, and an image with packages of its own, so it is tried where `SAI_ROUNDS` is more than 1: each night.

use sai_tests::cross::{agent, init, root};
use sai_tests::machine::{BOOT, world};
use sai_tests::pi::{Card, Model, Update, Wire, make_image};
use sai_tests::process::eventually_within;
use sai_tests::random::rounds;
use sai_tests::world::World;

/// The number of the board.
const SERIAL: &str = "00000000c0ffee03";

/// The agent has no boards here, which takes a build of its own; all else of the image is what `cross/image pi2` makes.
#[test]
fn a_card_makes_a_pi_2_that_joins_and_builds_and_runs_another_image() {
    if rounds(1) < 2 {
        eprintln!("pi2: it is not started; SAI_ROUNDS=2 does that");
        return;
    }
    let (agent, init) = (agent("armv7"), init("armv7"));
    let image = make_image(Model::Pi2, &agent, &init, &root().join("target/image/tried"));
    let (world, _daemon) = world("two");
    let _master = world.master();
    let card = Card::copied(Model::Pi2, &image, &world.directory.join("card.img"));
    let line = world.join_line("two");
    card.put(
        "sai.json",
        format!(
            "{{ \"join\": \"{line}\", \"hosts\": {{ \"localhost\": \"10.0.2.2\" }}, \"ntp\": \"10.0.2.2\", \
             \"platforms\": \"linux-pi/armv7\", \"slots\": 1 }}\n"
        ),
    );
    let start = || card.start(&world.directory.join("two"), SERIAL, &Wire::default());
    let mut machine = start();
    for sign in ["the factory's system is started", "this is the factory's system", "connected as two"] {
        machine.await_line_for(BOOT, sign);
    }
    idle(&world);
    world.repository.push_saifile(
        "{\"schema\": \"sai-1\", \"platforms\": {\"linux-pi/armv7\": {\"build\": [\"uname -m; id -un; git --version\", \
         \"echo $(nproc) processors; cat /sys/class/gpio/gpiochip*/label; ls /dev/gpiochip0\"]}}, \
         \"configurations\": {\"default\": {}}}",
    );
    let event = world.ended_within(BOOT, 1);
    let log = String::from_utf8_lossy(&world.log(1)).into_owned();
    assert_eq!(event.jobs[0].state, "passed", "{event:?}: {log}");
    for part in ["armv7l", "\nsai\n", "git version", "4 processors", "pinctrl-bcm2835", "/dev/gpiochip0"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    machine.kill();
    // Another image is put into a slot by the first one, which then starts the machine anew; it stays, since it reaches the master.
    let update = Update::read(&image.with_extension("update")).newer(1);
    card.put(&update.name(), update.bytes());
    machine = start();
    let put = format!("image {} is put into slot a", update.number);
    for sign in [&*put, "slot a is started", "this is slot a", "slot a has reached the master, and stays"] {
        machine.await_line_for(BOOT, sign);
    }
    idle(&world);
    for line in machine.said().iter().filter(|line| line.contains("] sai: ")) {
        eprintln!("pi2: {line}");
    }
    machine.kill();
    assert_eq!(card.wrong(), None, "after its power was cut");
}

fn idle(world: &World) {
    eventually_within(BOOT, "it is idle", || {
        world.agents().into_iter().find(|agent| agent.name == "two" && agent.state == "idle")
    });
}
