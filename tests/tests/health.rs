//! Boards with which something may be wrong: an emulated Arduino Uno with the stock optiboot, whose agent knows an image that is good, and
//! what is done about a board that does not say so.

use miniserde::Deserialize;
use rustix::process::Signal;
use sai_tests::avr::Avr;
use sai_tests::bench::Bench;
use sai_tests::boards::{at_board, saifile};
use sai_tests::process::eventually;
use sai_tests::repository::run;
use sai_tests::world::{Job, World};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// What a board has that is found to be well by what a good image asks when it has begun.
const HEALTH: &str = r#""health": { "flash": "good.bin", "pass": "login: $", "within": "8s" }, "#;

#[derive(Deserialize)]
struct Health {
    known: bool,
    set_aside_by: Option<String>,
    why: Option<String>,
    check: Option<u64>,
    last_job: Option<u64>,
    well: Option<bool>,
}

#[derive(Deserialize)]
struct Board {
    state: String,
    standing: String,
    health: Health,
}

#[derive(Deserialize)]
struct Answer {
    board: Option<Board>,
}

fn board(world: &World) -> Board {
    let answer: Answer = miniserde::json::from_str(&world.page("/api/v1/boards/a/uno-1")).expect("a board");
    answer.board.expect("it is offered")
}

/// The program of a case, as the image that is beside the file of boards.
fn good(world: &World, case: &str) {
    let (source, elf) = (world.directory.join("good.c"), world.directory.join("good.elf"));
    fs::write(&source, sai_tests::boards::program()).expect("a program");
    let mut gcc = Command::new("avr-gcc");
    gcc.args(["-mmcu=atmega328p", "-Os", &format!("-DCASE={case}"), "-DVERSION=\"good\"", "-o"]).arg(&elf).arg(&source);
    run(&mut gcc);
    let image = world.directory.join("good.bin");
    run(Command::new("avr-objcopy").args(["-O", "binary"]).arg(&elf).arg(&image));
}

/// Awaits the end of a job that is the only one of its event.
fn ended(world: &World, job: u64) -> Job {
    eventually(&format!("job {job} ends"), || {
        let of = |event: u64| world.event(event)?.jobs.into_iter().find(|one| one.id == job);
        world.events().into_iter().find_map(|event| of(event.id)).filter(Job::ended)
    })
}

/// The number behind a word of an answer.
fn number(text: &str) -> u64 {
    text.rsplit("job ").next().and_then(|rest| rest.trim().parse().ok()).unwrap_or_else(|| panic!("no job: {text}"))
}

#[test]
fn a_board_that_is_not_well_gets_no_job_until_it_is_found_to_be() {
    let bench = Bench::new("health");
    let world = &bench.world;
    let file = world.directory.join("boards.json");
    let text = fs::read_to_string(&file).expect("a bench");
    fs::write(&file, text.replace("\"modes\"", &format!("{HEALTH}\"modes\""))).expect("a bench");
    good(world, "PASS");
    let mut master = world.master();
    let _agent = bench.agent();
    bench.await_standing("free");
    let before = board(world).health;
    assert!(before.known && before.last_job.is_none() && before.well.is_none());

    // Found out when somebody asks.
    let job = ended(world, number(&world.command(&["board", "health", "a/uno-1"])));
    let log = String::from_utf8_lossy(&world.log(job.id)).into_owned();
    assert_eq!(job.state, "passed", "{}: {log}", job.cause);
    assert!(log.contains("fw good") && log.contains("login: "), "{log}");
    let health = board(world).health;
    assert_eq!((health.last_job, health.well, health.check), (Some(job.id), Some(true), None));
    bench.await_standing("free");

    // One that does not say what it should gets no other job, whoever wants it, and after a restart as well.
    good(world, "SILENT");
    let (builder, admin) =
        (world.command(&["user", "add", "bob", "builder"]), world.command(&["user", "add", "ann", "admin"]));
    let (status, text) = world.post("/api/v1/boards/a/uno-1/health", Some(builder.trim()));
    assert_eq!(status, 200, "{text}");
    let bad = eventually("it is found not to be well", || board(world).health.last_job.filter(|last| *last != job.id));
    assert_eq!(ended(world, bad).state, "failed");
    let one = eventually("it is set aside", || Some(board(world)).filter(|board| board.state == "aside"));
    assert!(one.standing.contains(&format!("job {bad} did not find it well")), "{}", one.standing);
    world.repository.push_saifile(&saifile(&[("PASS", "")]));
    let waits = |world: &World| {
        eventually("it waits", || {
            let event = world.events().into_iter().find_map(|event| {
                world.event(event.id).filter(|event| event.jobs.iter().any(|job| job.configuration == "PASS/board"))
            })?;
            let job = at_board(&event, "PASS").clone();
            let why = job.waiting.clone().unwrap_or_default();
            (job.state == "queued" && why.contains("did not find it well")).then_some(event.event.id)
        })
    };
    waits(world);
    master.signal(Signal::KILL);
    master.wait();
    let _master = world.master();
    let event = waits(world);
    // It may be looked at once more meanwhile.
    eventually("its page says so", || {
        let page = world.page("/boards/a/uno-1");
        (page.contains("not well, by ") && page.contains("did not find it well")).then_some(())
    });

    // Once it is, that job has it.
    good(world, "PASS");
    let job = ended(world, number(&world.command(&["board", "health", "a/uno-1"])));
    assert_eq!(job.state, "passed", "{}", job.cause);
    assert_eq!(at_board(&world.ended(event), "PASS").state, "passed");

    // Somebody sets it aside, and takes it back: an admin.
    bench.await_standing("free");
    assert_eq!(world.post("/api/v1/boards/a/uno-1/set-aside", Some(builder.trim())).0, 403);
    assert_eq!(world.post("/api/v1/boards/a/uno-1/set-aside", Some(admin.trim())).0, 200);
    let aside = eventually("it is set aside", || Some(board(world)).filter(|board| board.state == "aside"));
    assert_eq!(aside.health.set_aside_by.as_deref(), Some("ann"));
    assert_eq!(aside.standing, "set aside by ann");
    assert_eq!(ended(world, number(&world.command(&["board", "health", "a/uno-1"]))).state, "passed");
    assert_eq!(board(world).state, "aside", "that it is well takes nothing back");
    world.command(&["board", "back", "a/uno-1"]);
    bench.await_standing("free");
    for (words, why) in [
        (&["board", "health", "a/uno-2"][..], "offers a board \"uno-2\""),
        (&["board", "aside", "a"], "expected a board, as AGENT/BOARD"),
        (&["board", "lend", "a/uno-1"], "expected aside, back or health"),
    ] {
        let (status, _, said) = world.try_command(words);
        assert!(status != 0 && said.contains(why), "{words:?}: {status}: {said}");
    }
}

#[test]
fn a_board_that_is_plugged_in_again_is_looked_at_before_anybody_gets_it() {
    let mut bench = Bench::new("back-health");
    let file = bench.world.directory.join("boards.json");
    let text = fs::read_to_string(&file).expect("a bench");
    fs::write(&file, text.replace("\"modes\"", &format!("{HEALTH}\"modes\""))).expect("a bench");
    good(&bench.world, "PASS");
    let _master = bench.world.master();
    let _agent = bench.agent();
    bench.await_standing("free");
    drop(bench.boards.remove(0));
    eventually("it is away", || Some(board(&bench.world)).filter(|board| board.state == "away"));
    // A job that waits for it gets it after that.
    bench.world.repository.push_saifile(&saifile(&[("PASS", "")]));
    let again = Avr::new(&bench.world.directory.join("uno-1"));
    fs::remove_file(&bench.links[0]).expect("a link");
    symlink(&again.tty, &bench.links[0]).expect("a link");
    bench.boards.push(again);
    let last = eventually("it is looked at", || board(&bench.world).health.last_job);
    let job = ended(&bench.world, last);
    assert_eq!(job.state, "passed", "{}", job.cause);
    assert!(bench.world.page(&format!("/job/{last}")).contains("is back, it was not to be used"));
    let event = bench.world.events().into_iter().find(|event| {
        bench.world.event(event.id).is_some_and(|event| event.jobs.iter().any(|job| job.configuration == "PASS/board"))
    });
    let pushed = bench.world.ended(event.expect("the push").id);
    assert_eq!(at_board(&pushed, "PASS").state, "passed");
    assert!(board(&bench.world).health.why.is_none());
}
