//! A card in an emulated Pi 3 → how long it takes from power to a master that has let it in, by part.
//!
//! Seconds are the emulated machine's own, whose clock goes on by 2 ns with each instruction: a slow machine with other work measures the
//! same as a fast one. The floor is what its two kernels take before anything of ours runs. The first start makes the data partition.

use sai_tests::cross::{agent_with_boards, init, root};
use sai_tests::figures::{heading, median, row};
use sai_tests::machine::{BOOT, world};
use sai_tests::pi::{Card, Model, Wire, make_image, moment};

/// Starts that are measured, after the first one.
const STARTS: usize = 5;
/// The most that a start may take, s.
const GOAL: f64 = 10.0;
/// What a machine says in turn, and what had been done then. The clock of the second kernel begins at zero again.
const PARTS: [(&str, &str); 5] = [
    ("sai: looking for the system", "first kernel"),
    ("is started", "first stage"),
    ("sai: starting", "second kernel"),
    ("sai: agent is started", "setting up"),
    ("connected as", "joining"),
];

fn main() {
    let image =
        make_image(Model::Pi3, &agent_with_boards("aarch64"), &init("aarch64"), &root().join("target/image/tried"));
    let (world, _daemon) = world("boot");
    let _master = world.master();
    let card = Card::copied(Model::Pi3, &image, &world.directory.join("card.img"));
    card.put("sai.json", format!("{{ \"join\": \"{}\", \"ntp\": \"10.0.2.2\" }}\n", world.join_line("shed")));
    let mut starts: Vec<Vec<f64>> = Vec::new();
    for _ in 0..=STARTS {
        let mut machine = card.start(&world.directory.join("shed"), "10000000c0ffee02", &Wire::default());
        let moments = PARTS.map(|(sign, _)| moment(&machine.await_line_for(BOOT, sign)));
        machine.kill();
        let [first, started, second, set_up, joined] = moments;
        starts.push(vec![first, started - first, second, set_up - second, joined - set_up]);
    }
    heading("Power to joined, emulated seconds");
    let first = starts.remove(0);
    let part = |at: usize| median(&starts.iter().map(|start| start[at]).collect::<Vec<_>>());
    for (at, (_, name)) in PARTS.iter().enumerate() {
        row(name, "", &format!("{:.1} s", part(at)), (part(at), " s"), None);
    }
    let whole = |start: &Vec<f64>| start.iter().sum::<f64>();
    let floor = part(0) + part(2);
    let median = median(&starts.iter().map(whole).collect::<Vec<_>>());
    row(
        "first start of the card",
        &format!("{floor:.1} s"),
        &format!("{:.1} s", whole(&first)),
        (whole(&first), " s"),
        None,
    );
    row("all, median of 5", &format!("{floor:.1} s"), &format!("{median:.1} s"), (median, " s"), Some(GOAL));
}
