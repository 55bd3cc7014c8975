//! Many jobs, many who look: what is large is summed up, and what many are told is made once.

use crate::live::{hear, watch};
use crate::memory::{event, job};
use crate::{PATIENCE, World, text, world};
use sai_core::job::{EventId, JobState};
use sai_core::ledger::EventRecord;
use sai_master::live::{LiveAgent, Topic};
use sai_master::page::library::now;
use smol::channel::Receiver;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PLATFORMS: u64 = 20;

/// An event with this many jobs, all of which have passed.
fn large(world: &World, id: EventId, jobs: u64) {
    let record = EventRecord { jobs: jobs as u32, first_job: id * 100_000, ..event(id, "hello", "Large", now()) };
    world.memory.change(|held| {
        for index in 0..jobs {
            let (platform, name) = (format!("p{}/x", index % PLATFORMS), format!("c{}", index / PLATFORMS));
            held.jobs.insert(record.first_job + index, job(&record, index, &platform, &name, JobState::Passed));
        }
        held.events.insert(id, record);
    });
}

fn whole_readings(world: &World) -> usize {
    world.memory.change(|held| held.readings)
}

#[test]
fn a_large_event_is_summed_up_and_its_sum_follows_each_job() {
    let world = world(true);
    for id in 2..12 {
        large(&world, id, 10_000);
    }
    // One of the jobs goes on, so that its event is under way.
    world.memory.job_state(500_007, JobState::Running, now());
    let page = text(world.get("/"));
    assert_eq!(page.matches("10 000 passed").count() + page.matches("10\u{202f}000 passed").count(), 9, "{page}");
    assert!(page.contains("9\u{202f}999 passed") && page.contains("500 passed") && page.contains("1 running"));
    assert!(page.contains("and 8 more platforms") && !page.contains("/job/500007"));
    assert!(page.len() < 100_000, "{} bytes", page.len());
    let before = whole_readings(&world);
    for state in [JobState::Failed, JobState::Queued, JobState::TimedOut] {
        world.memory.job_state(500_007, state, now());
        world.library.changes.touch(Topic::Job(500_007));
        let page = text(world.get("/"));
        let told = format!("1 {}", state.word());
        assert!(page.contains(&told) && page.contains("9\u{202f}999 passed"), "{told}: {page}");
        assert!(text(world.get("/api/v1/events")).contains(&format!("\"{}\":1", state.word())));
    }
    // The small event is read each time, and the one that had ended and was then built again once.
    assert!(whole_readings(&world) - before <= 6 + 1, "{} whole readings", whole_readings(&world) - before);
    // An event that has ended is built again: all of it is read anew.
    world.memory.job_state(300_001, JobState::Failed, now());
    world.library.changes.touch(Topic::Job(300_001));
    let page = text(world.get("/"));
    assert!(page.contains("1 failed") && page.contains("1 timed-out"), "{page}");
}

/// What comes within a moment.
fn heard(messages: &Receiver<String>) -> Vec<String> {
    let mut all = Vec::new();
    std::thread::sleep(Duration::from_secs(2));
    while let Ok(message) = messages.try_recv() {
        all.push(message);
    }
    all
}

#[test]
fn of_an_event_of_five_thousand_jobs_a_change_is_a_row_of_each_side() {
    let world = world(true);
    large(&world, 2, 5000);
    world
        .memory
        .change(|held| held.jobs.values_mut().for_each(|job| (job.state, job.ended_at) = (JobState::Queued, None)));
    let begun = Instant::now();
    let page = text(world.get("/event/2"));
    let took = begun.elapsed();
    assert!(page.len() < 100_000, "{} bytes", page.len());
    assert!(
        page.contains("id=\"platform-19\"") && page.contains("id=\"configuration-99\"") && !page.contains("id=\"job-")
    );
    assert!(page.contains("and 150 more configurations") && page.contains("href=\"/event/2?configuration=c99\""));
    let at = page.find("/live?event=").unwrap();
    let address = page[at..].split('"').next().unwrap().replace("&amp;", "&");
    let (messages, _task) = watch(&world, &address, 5000);
    hear(&messages, "configuration-99");
    heard(&messages);
    let before = whole_readings(&world);
    world.memory.job_state(200_003, JobState::Failed, now());
    world.library.changes.touch(Topic::Job(200_003));
    let parts = heard(&messages);
    let told: Vec<&str> = parts.iter().map(|part| part.split('"').nth(7).unwrap()).collect();
    assert_eq!(told, ["event-head", "event-wrong", "platform-3", "configuration-0"]);
    let bytes: usize = parts.iter().map(String::len).sum();
    println!("page of 5 000 jobs: made in {took:?}, {} bytes; a change: {bytes} bytes", page.len());
    assert!(bytes <= 50_000, "{bytes} bytes for one change");
    assert_eq!(whole_readings(&world), before, "one job is read, not the event");
    // What went wrong is listed, and so is what is chosen; more than a page lists goes on on the next.
    assert!(text(world.get("/event/2?state=wrong")).contains("id=\"job-200003\""));
    let page = text(world.get("/event/2?platform=p3%2Fx"));
    assert_eq!((page.matches("id=\"job-").count(), page.contains("More of them")), (250, false));
    let page = text(world.get("/event/2?state=queued"));
    assert_eq!(page.matches("id=\"job-").count(), 300);
    assert!(page.contains("href=\"/event/2?state=queued&amp;from=200301\""), "the failed one is not among them");
    assert!(text(world.get("/event/2?platform=none")).contains("No job of this event is one of these."));
}

#[test]
fn who_opens_a_page_is_told_of_no_job_that_merely_waits() {
    let world = world(true);
    large(&world, 2, 300);
    world
        .memory
        .change(|held| held.jobs.values_mut().for_each(|job| (job.state, job.ended_at) = (JobState::Queued, None)));
    // Tests are quicker than clocks: the page is one of a later millisecond than the beginning of all.
    std::thread::sleep(Duration::from_millis(5));
    for query in ["", "?platform=p3%2Fx"] {
        let page = text(world.get(&format!("/event/2{query}")));
        let at = page.find("/live?event=").unwrap();
        let address = page[at..].split('"').next().unwrap().replace("&amp;", "&");
        // Between the making of the page and its first question one of the jobs begins.
        world.memory.job_state(200_003, JobState::Running, now());
        world.library.changes.touch(Topic::Job(200_003));
        world.library.changes.touch(Topic::Job(200_004));
        let (messages, _task) = watch(&world, &address, 5000);
        hear(&messages, "job-200003");
        let parts = heard(&messages);
        assert!(parts.len() <= 2, "{} parts beside it", parts.len());
        assert!(parts.iter().all(|part| part.contains("-200004")), "{parts:?}");
        // One that comes back after a break knows of nothing, and is told all.
        let since = address.split('=').nth(2).unwrap().split('&').next().unwrap();
        let (messages, _task) = watch(&world, &address.replace(since, "0"), 5000);
        hear(&messages, "job-200283");
    }
}

#[test]
fn what_many_look_at_is_made_once() {
    let world = world(true);
    large(&world, 2, 300);
    let lookers: Vec<_> =
        (0..500).map(|_| watch(&world, &format!("/live?event=2&since={}", now() + 100_000_000), 100)).collect();
    for (messages, _) in &lookers {
        hear(messages, "\"id\":\"event-wrong\"");
    }
    assert_eq!((world.library.rooms.open(), world.library.changes.watching()), (1, 1));
    let before = whole_readings(&world);
    world.memory.job_state(200_003, JobState::Failed, now());
    world.library.changes.touch(Topic::Job(200_003));
    for (messages, _) in &lookers {
        assert!(hear(messages, "\"id\":\"cell-").contains("cell-200003"));
        assert!(hear(messages, "\"id\":\"job-").contains("class=\\\"failed\\\""));
    }
    assert!(whole_readings(&world) - before <= 2, "{} readings for 500 who look", whole_readings(&world) - before);
    // One who comes later is told the same, and the last who goes closes the room.
    let (messages, task) = watch(&world, "/live?event=2&since=0", 5000);
    hear(&messages, "<tr id=\\\"job-200003\\\" class=\\\"failed\\\">");
    drop(lookers);
    assert_eq!(world.library.rooms.open(), 1);
    drop(task);
    // Tasks are ended by the thread that runs them.
    let until = Instant::now() + PATIENCE;
    while (world.library.rooms.open(), world.library.changes.watching()) != (0, 0) {
        assert!(Instant::now() < until, "the room stays open");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn one_who_is_slow_is_told_how_things_are_in_the_end() {
    let world = world(true);
    let (messages, _task) = watch(&world, "/live?event=1&since=0", 1);
    hear(&messages, "event-head");
    let until = Instant::now() + Duration::from_secs(6);
    let mut state = JobState::Running;
    while Instant::now() < until {
        state = if state == JobState::Running { JobState::Queued } else { JobState::Running };
        world.memory.job_state(1002, state, now());
        world.library.changes.touch(Topic::Job(1002));
        std::thread::sleep(Duration::from_millis(50));
    }
    world.memory.job_state(1002, JobState::Failed, now());
    world.library.changes.touch(Topic::Job(1002));
    assert!(hear(&messages, "<tr id=\\\"job-1002\\\" class=\\\"failed\\\">").contains("failed"));
}

#[test]
fn of_many_agents_those_are_told_that_changed() {
    let world = world(true);
    let agent = |number: u32, load_permille| LiveAgent {
        name: format!("rock-{number}"),
        connected: true,
        slots: 1,
        load_permille,
        changed_at: 1000,
        ..LiveAgent::default()
    };
    let put = |agent: LiveAgent| {
        let mut live = world.library.live.write().unwrap();
        live.agents.insert(agent.name.clone(), Arc::new(agent));
        drop(live);
        world.library.changes.touch(Topic::Agents);
    };
    for number in 0..5000 {
        put(agent(number, 0));
    }
    let (messages, _task) = watch(&world, "/live?page=agents&since=2000", 100);
    assert!(hear(&messages, "agents-sum").contains("5000 of 5000 connected"));
    put(LiveAgent { slots: 7, changed_at: 3000, ..agent(4711, 0) });
    hear(&messages, "of 5006 slots busy");
    assert!(hear(&messages, "rock-").contains("0 of 7 slots"));
    put(agent(9, 500));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(messages.is_empty(), "load alone is not told of thousands");
}
