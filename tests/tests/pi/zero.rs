//! The image for boards of 32 bits → a Zero that joins, builds, and is started with another image.

use sai_tests::cross::{agent, init, root};
use sai_tests::machine::{BOOT, world};
use sai_tests::pi::{Card, Model, Update, Wire, make_image};
use sai_tests::process::eventually_within;

/// The number of the board.
const SERIAL: &str = "00000000c0ffee02";

/// The agent has no boards here, which takes a build of its own; all else of the image is what `cross/image pi0` makes.
#[test]
fn a_card_makes_a_zero_that_joins_and_builds_and_starts_another_image() {
    let (agent, init) = (agent("armv6"), init("armv6"));
    let image = make_image(Model::Pi0, &agent, &init, &root().join("target/image/tried"));
    let (world, _daemon) = world("zero");
    let _master = world.master();
    let card = Card::copied(Model::Pi0, &image, &world.directory.join("card.img"));
    let line = world.join_line("zero");
    card.put(
        "sai.json",
        format!(
            "{{ \"join\": \"{line}\", \"hosts\": {{ \"localhost\": \"10.0.2.2\" }}, \"ntp\": \"10.0.2.2\", \
             \"platforms\": \"linux-pi/armv6\", \"slots\": 1 }}\n"
        ),
    );
    let start = || card.start(&world.directory.join("zero"), SERIAL, &Wire::default());
    let mut machine = start();
    machine.await_line_for(BOOT, "connected as zero");
    eventually_within(BOOT, "it is idle", || {
        world.agents().into_iter().find(|agent| agent.name == "zero" && agent.state == "idle")
    });
    world.repository.push_saifile(
        "{\"schema\": \"sai-1\", \"platforms\": {\"linux-pi/armv6\": {\"build\": [\"uname -m; id -un; git --version\", \
         \"cat /sys/class/gpio/gpiochip*/label; ls /dev/gpiochip0\"]}}, \"configurations\": {\"default\": {}}}",
    );
    let event = world.ended_within(BOOT, 1);
    let log = String::from_utf8_lossy(&world.log(1)).into_owned();
    assert_eq!(event.jobs[0].state, "passed", "{event:?}: {log}");
    for part in ["armv6l", "\nsai\n", "git version", "pinctrl-bcm2835", "/dev/gpiochip0"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    machine.kill();
    // Another image: its kernel is started by the one that the firmware starts. That one has had the emulated USB, which tells nobody a
    // second time of what is plugged in, so it does not join.
    let update = Update::read(&image.with_extension("update")).newer(1);
    card.put(&update.name(), update.bytes());
    machine = start();
    let put = format!("image {} is put into slot a", update.number);
    for sign in [&*put, "slot a is started", "this is slot a"] {
        machine.await_line_for(BOOT, sign);
    }
    machine.kill();
    assert_eq!(card.wrong(), None, "after its power was cut");
}
