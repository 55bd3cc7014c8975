//! A thousand agents that do nothing → what each costs the master in memory, and what they cost a job's start.
//!
//! The agents are links of this process that greet and then listen. The start of a job is measured as in `latency`, on one
//! real agent beside them: first alone, then among the thousand.

use sai_agent::config::Config;
use sai_agent::link::{Dialer, Frame, Link, Timing};
use sai_core::join::JoinLine;
use sai_core::limits::PROTOCOL;
use sai_core::wire::{AgentMessage, Hello, MasterMessage};
use sai_tests::figures::{epoch, heading, median, ms, row, settle};
use sai_tests::process::{Process, eventually};
use sai_tests::repository::saifile;
use sai_tests::world::World;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Idle agents.
const AGENTS: usize = 1000;
/// Dials under way at once.
const DIALS: usize = 16;
/// Pushes measured.
const ROUNDS: usize = 11;

fn hello(number: usize) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: format!("{number:032x}"),
        host: format!("idle-{number}"),
        platforms: vec!["idle-bench/x86_64/gcc".to_owned()],
        slots: 1,
        cores: 1,
        memory_mib: 1024,
        mirrors: Vec::new(),
        jobs: Vec::new(),
        notes: None,
    }
}

async fn greet(line: &str, number: usize) -> Link {
    let line: JoinLine = line.parse().expect("a join line");
    let config = Config::joined(&line);
    let dialer = Dialer::new(config.master, config.trust, config.token, Timing::default()).expect("a dialer");
    dialer.dial().await.unwrap_or_else(|error| panic!("agent {number}: {error}"))
}

/// Greets, tells of the welcome, and listens for ever.
async fn idle(link: Link, number: usize, welcomed: Arc<AtomicUsize>, lost: Arc<AtomicUsize>) {
    let Link { sender, receiver, driver } = link;
    let listen = async {
        let _ = sender.send(Frame::Text(AgentMessage::Hello(hello(number)).encode())).await;
        while let Some(frame) = receiver.receive().await {
            if let Frame::Text(text) = frame
                && let Ok(MasterMessage::Welcome(_)) = MasterMessage::decode(&text)
            {
                welcomed.fetch_add(1, Ordering::Relaxed);
            }
        }
        lost.fetch_add(1, Ordering::Relaxed);
    };
    match driver {
        Some(driver) => drop(smol::future::zip(listen, driver).await),
        None => listen.await,
    }
}

fn start_of_a_job(world: &World, agent: &Process) -> f64 {
    let mut times = Vec::new();
    for round in 0..=ROUNDS {
        let revision = world.repository.commit("Go on");
        world.repository.push();
        settle();
        let begin = epoch();
        assert!(world.get("/hook/project?ref=main").is_some());
        let clock = world.directory.join("clocks").join(revision);
        let text =
            eventually("the step runs", || std::fs::read_to_string(&clock).ok().filter(|text| text.ends_with('\n')));
        agent.await_line("is done");
        if round > 0 {
            times.push(text.trim().parse::<f64>().expect("a clock") - begin);
        }
    }
    median(&times)
}

fn main() {
    heading("1 000 idle agents");
    let world = World::new("idle");
    let clocks = world.directory.join("clocks");
    std::fs::create_dir_all(&clocks).expect("a directory");
    let master = world.master();
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    let lines: Vec<String> = (0..AGENTS).map(|number| world.join_line(&format!("idle-{number}"))).collect();
    let agent = world.agent("real", &["linux-bench/x86_64/gcc"], 2);
    world.repository.write(".sai.json", saifile(&[&format!("echo $EPOCHREALTIME > {}/$SAI_COMMIT", clocks.display())]));
    let alone = start_of_a_job(&world, &agent);

    let before = master.resident_kib();
    let (welcomed, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let executor = Arc::new(smol::Executor::new());
    let runner = executor.clone();
    std::thread::spawn(move || smol::block_on(runner.run(std::future::pending::<()>())));
    let begin = Instant::now();
    for (chunk, lines) in lines.chunks(DIALS).enumerate() {
        let dials: Vec<_> = lines
            .iter()
            .enumerate()
            .map(|(place, line)| {
                let (number, line) = (chunk * DIALS + place, line.clone());
                executor.spawn(async move { (number, greet(&line, number).await) })
            })
            .collect();
        for dial in dials {
            let (number, link) = smol::block_on(dial);
            executor.spawn(idle(link, number, welcomed.clone(), lost.clone())).detach();
        }
    }
    eventually("all are welcomed", || (welcomed.load(Ordering::Relaxed) == AGENTS).then_some(()));
    let took = begin.elapsed().as_secs_f64();
    settle();
    let after = master.resident_kib();
    let each = (after.saturating_sub(before)) as f64 / AGENTS as f64;
    row("master's memory for each", &format!("{before} KiB"), &format!("{after} KiB"), (each, " KiB"), Some(32.0));
    row("time until all are welcomed", "", "", (took, " s"), None);
    let among = start_of_a_job(&world, &agent);
    row("hook to job, with curl's start", &ms(alone), &ms(among), ((among - alone) * 1e3, " ms"), Some(50.0));
    let later = master.resident_kib();
    let each = (later.saturating_sub(before)) as f64 / AGENTS as f64;
    row("master's memory for each, after those jobs", "", &format!("{later} KiB"), (each, " KiB"), Some(32.0));
    row("links lost", "", "", (lost.load(Ordering::Relaxed) as f64, ""), Some(0.0));
}
