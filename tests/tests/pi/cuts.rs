//! A card whose power is cut at random moments of first starts, starts, updates and jobs → one that starts, is who it was, and has lost no job.
//!
//! What the machine had not flushed was in its memory, and is gone with that. The emulated card forgets nothing else, as one of SD has no
//! command to flush: what it took is what it keeps. One that forgot its last writes would be one whose power was cut earlier.
//! `SAI_ROUNDS` sets how many cuts there are, `SAI_SEED` which; the seed is printed.

use crate::{image, written};
use sai_tests::machine::{BOOT, world};
use sai_tests::pi::{Update, Wire};
use sai_tests::process::{Process, eventually_within};
use sai_tests::random::{Random, rounds, seed};
use sai_tests::world::World;
use std::time::{Duration, Instant};

/// Cuts in each run of the tests.
const CUTS: u64 = 8;
/// The longest time between a sign of what is under way and the cut: about that between two signs of a machine that has a core.
const AFTER_MS: u64 = 4_000;
/// How long a sign is waited for when the machine has joined, and so may not show it: what was put off by a cut before is done first.
const NO_SIGN: Duration = Duration::from_secs(15);
/// What a job of the card prints, long enough that a cut falls into it.
const LINES: u32 = 60;
/// What a machine says when the master has let it in.
const JOINED: &str = "connected as";
/// What it says when an image has proven itself.
const STAYS: &str = "has reached the master, and stays";
/// What is under way at the cuts, in turn. The first start is the card's first one.
const TURNS: [Under; 8] =
    [Under::Start, Under::Update, Under::Job, Under::Start, Under::Job, Under::Start, Under::Update, Under::Start];
/// The number of the board.
const SERIAL: &str = "10000000c0ffee01";

/// What is under way when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Under {
    Start,
    Update,
    Job,
}

impl Under {
    /// What the machine says in turn; the first of them is that it is switched on.
    fn signs(self) -> &'static [&'static str] {
        match self {
            Self::Start => &["", "is started", "this is", "agent is started", JOINED],
            Self::Update => {
                &["", "this is", "is put into slot", "reboot: Restarting system", "has reached the master, and stays"]
            }
            Self::Job => &["", "this is", JOINED],
        }
    }
}

#[test]
fn a_card_outlives_power_cuts_at_any_moment() {
    let image = image();
    let (world, _daemon) = world("cuts");
    let _master = world.master();
    let mut random = Random::new(seed("cuts of a card's power", 12));
    let card = written(image, &world.directory.join("card.img"));
    let kernel = card.get("a/kernel8.img").expect("a kernel");
    let line = world.join_line("shed");
    card.put(
        "sai.json",
        format!("{{ \"join\": \"{line}\", \"hosts\": {{ \"localhost\": \"10.0.2.2\" }}, \"ntp\": \"10.0.2.2\", \"platforms\": \"linux-pi/aarch64\", \"slots\": 1 }}\n"),
    );
    let first = Update::read(&image.with_extension("update"));
    let (mut jobs, mut updates) = (0, 0);
    let start = || card.start(&world.directory.join("shed"), SERIAL, &Wire::default());
    for (cut, under) in (1..=rounds(CUTS)).zip(TURNS.into_iter().cycle()) {
        match under {
            Under::Start => {}
            Under::Update => {
                updates += 1;
                card.put(&first.name(), first.newer(updates).bytes());
            }
            Under::Job => {
                jobs += 1;
                push(&world);
            }
        }
        let mut machine = start();
        let (sign, after) = (random.below(under.signs().len() as u64) as usize, random.below(AFTER_MS));
        for sign in &under.signs()[..=sign] {
            await_sign(&machine, sign);
        }
        if under == Under::Job && under.signs()[sign] == JOINED {
            let begun = || world.event(jobs).filter(|event| event.jobs[0].state != "queued");
            eventually_within(BOOT, "its job has begun", begun);
        }
        std::thread::sleep(Duration::from_millis(after));
        machine.kill();
        let last = machine.said().iter().rev().find(|line| line.contains("sai")).cloned().unwrap_or_default();
        eprintln!("cut {cut}: {under:?}, {after} ms after {:?}; the last it said was {last:?}", under.signs()[sign]);
        assert_eq!(card.wrong(), None, "after cut {cut}");
        assert!(
            card.get("a/kernel8.img").is_some_and(|there| there == kernel),
            "what the firmware starts was written to"
        );
    }
    // One that nobody cuts short: an image that is as good as what the card was written with stays, and is taken once.
    let update = first.newer(updates + 1);
    card.put(&update.name(), update.bytes());
    let mut machine = start();
    let put = format!("image {} is put into slot", update.number);
    await_sign(&machine, &put);
    // One that was cut short may have been tried first.
    if !machine.said().iter().any(|line| line.contains(&put)) {
        machine.kill();
        machine = start();
    }
    for sign in [&*put, "is started", "this is slot", STAYS] {
        machine.await_line_for(BOOT, sign);
    }
    assert!(card.get(&update.name()).is_some_and(|left| left.starts_with(b"sai-taken  1\n")), "it is taken once");
    push(&world);
    jobs += 1;
    for event in 1..=jobs {
        let job = world.ended_within(BOOT, event).jobs.remove(0);
        // Each cut costs an attempt, and of those there are so many.
        let unlucky = job.state == "infra" && job.attempt >= sai_core::limits::INFRA_ATTEMPTS;
        assert!(job.state == "passed" || (unlucky && event < jobs), "{job:?}");
        if job.state == "passed" {
            let log = String::from_utf8_lossy(&world.log(job.id)).into_owned();
            let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
            let all: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
            assert_eq!(lines, all, "the log of job {}", job.id);
        }
    }
    let agents = world.agents();
    assert_eq!(agents.iter().map(|agent| &*agent.name).collect::<Vec<_>>(), ["shed"], "it is who it was");
    machine.kill();
}

/// Another event, whose one job is the card's.
fn push(world: &World) {
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-pi/aarch64\": {{\"build\": \"for at in $(seq {LINES}); do echo line $at; sleep 0.1; done\"}}}}, \
          \"configurations\": {{\"default\": {{}}}}}}"
    ));
}

/// Waits for a sign, but where the machine has joined no longer than it takes to show it.
fn await_sign(machine: &Process, sign: &str) {
    let mut joined = None;
    eventually_within(BOOT, sign, || {
        let said = machine.said();
        let says = |text: &str| said.iter().any(|line| line.contains(text));
        if joined.is_none() && says(JOINED) {
            joined = Some(Instant::now());
        }
        (says(sign) || joined.is_some_and(|since| since.elapsed() > NO_SIGN)).then_some(())
    });
}
