//! What changes → what open pages are sent of it, whoever reads them and however slowly.

use super::memory::event;
use super::{KEY, PATIENCE, World, body, text, world};
use sai_core::job::JobState;
use sai_core::record::Record;
use sai_master::live::{Changes, Topic};
use sai_master::page::first_error::Remembered;
use sai_master::page::library::{Library, now};
use sai_master::sessions::Sessions;
use sai_master::viewers::{Socket, view};
use smol::channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::time::Instant;

/// A viewer's end of the socket: a channel, so that a test can also be one that never reads.
struct Channel(Sender<String>);

impl Socket for Channel {
    fn send(&mut self, text: String) -> impl Future<Output = Result<(), String>> + Send {
        let sender = self.0.clone();
        async move { sender.send(text).await.map_err(|error| error.to_string()) }
    }

    /// Each byte is the character of its number.
    fn give(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<(), String>> + Send {
        self.send(bytes.into_iter().map(char::from).collect())
    }
}

pub fn watch(world: &World, address: &str, room: usize) -> (Receiver<String>, smol::Task<()>) {
    watch_as(world, address, room, None)
}

/// The same for somebody who is signed in.
pub fn watch_as(world: &World, address: &str, room: usize, who: Option<String>) -> (Receiver<String>, smol::Task<()>) {
    let (sender, receiver) = bounded(room);
    let (library, address) = (world.library.clone(), address.to_string());
    let task = smol::spawn(async move {
        view(&mut Channel(sender), std::future::pending(), &address, who, library).await;
    });
    (receiver, task)
}

/// Waits for the end of what was watching.
pub fn ended(task: smol::Task<()>) {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        panic!("it goes on watching");
    };
    smol::block_on(smol::future::or(task, late));
}

/// The next message that holds `wanted`.
pub fn hear(receiver: &Receiver<String>, wanted: &str) -> String {
    hear_all(receiver, wanted).pop().unwrap_or_default()
}

/// All messages until one that holds `wanted`.
pub fn hear_all(receiver: &Receiver<String>, wanted: &str) -> Vec<String> {
    let mut all = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    smol::block_on(async {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = smol::future::or(async { receiver.recv().await.ok() }, async {
                smol::Timer::after(left).await;
                None
            })
            .await
            .unwrap_or_else(|| panic!("no message with {wanted}"));
            let is_it = message.contains(wanted);
            all.push(message);
            if is_it {
                return all;
            }
        }
    })
}

#[test]
fn a_job_page_is_sent_the_rest_of_its_log_and_then_the_end() {
    let world = world(true);
    let page = text(world.get("/job/1000"));
    let at = page.find("/live?job=").unwrap();
    let address = page[at..].split('"').next().unwrap().replace("&amp;", "&");
    let (messages, task) = watch(&world, &address, 1);
    hear(&messages, "job-head");
    world.log.add(2000, &Record::Data(1, b"three\nhalf".to_vec()));
    world.library.changes.touch(Topic::Log(KEY));
    let message = hear(&messages, "\"t\":\"log\"");
    assert!(message.contains("L3") && message.contains("three") && message.contains("L4") && !message.contains("two"));
    world.log.add(3000, &Record::Data(1, b" done\n".to_vec()));
    world.library.changes.touch(Topic::Log(KEY));
    let message = hear(&messages, "half done");
    assert!(message.contains("L4") && !message.contains("L5"), "{message}");
    world.memory.job_state(1000, JobState::Passed, now());
    world.library.changes.touch(Topic::Job(1000));
    assert!(hear(&messages, "job-head").contains("badge passed"));
    hear(&messages, "{\"t\":\"end\"}");
    // The page stays open, and learns that the job is built again.
    world.memory.change(|held| {
        let job = held.jobs.get_mut(&1000).unwrap();
        (job.state, job.queued_at, job.ended_at) = (JobState::Queued, now(), None);
    });
    world.library.changes.touch(Topic::Job(1000));
    let message = hear(&messages, "\"id\":\"job-attempts\"");
    assert!(message.contains("/job/1000/2") && message.contains("queued"), "{message}");
    drop(messages);
    world.library.changes.touch(Topic::Job(1000));
    ended(task);
    assert_eq!(world.library.changes.watching(), 0);
}

#[test]
fn a_viewer_far_behind_jumps_to_the_end_of_the_log() {
    let world = world(true);
    let (messages, _task) = watch(&world, "/live?job=1000-1&from=0", 1);
    hear(&messages, "two");
    for number in 0..100_000 {
        world.log.add(2000, &Record::Data(1, format!("line {number} of very many lines\n").into_bytes()));
    }
    let length = world.log.0.lock().unwrap().len() as u64;
    world.library.live.write().unwrap().log_lengths.insert(KEY, length);
    world.library.changes.touch(Topic::Log(KEY));
    let message = hear(&messages, "\"t\":\"gap\"");
    assert!(message.contains("lines left out") && message.contains("line 99999 ") && !message.contains("line 50000 "));
}

#[test]
fn an_event_page_is_sent_each_job_that_changed_and_no_other() {
    let world = world(true);
    let (messages, _task) = watch(&world, "/live?event=1&since=0", 100);
    hear(&messages, "\"id\":\"job-1002\"");
    world.memory.job_state(1002, JobState::Running, now());
    world.library.changes.touch(Topic::Job(1002));
    world.library.changes.touch(Topic::Job(9999));
    assert!(hear(&messages, "\"id\":\"event-head\"").contains("2 running"));
    assert!(hear(&messages, "\"id\":\"cell-").contains("cell-1002"));
    assert!(hear(&messages, "\"id\":\"job-").contains("<tr id=\\\"job-1002\\\" class=\\\"running\\\">"));
    assert!(messages.is_empty());
}

#[test]
fn the_list_is_sent_new_events_and_changed_ones() {
    let world = world(true);
    let (messages, _task) = watch(&world, "/live?page=events&since=0&repository=hello", 100);
    hear(&messages, "\"id\":\"event-1\"");
    world.memory.change(|held| {
        held.events.insert(2, event(2, "other", "Not shown", now()));
        held.events.insert(3, event(3, "hello", "A <new> one", now()));
    });
    for topic in [Topic::Event(2), Topic::Event(3)] {
        world.library.changes.touch(topic);
    }
    let message = hear(&messages, "\"id\":\"event-");
    assert!(message.contains("event-3") && message.contains("A &lt;new&gt; one") && message.contains("data-into"));
}

#[test]
fn a_viewer_that_never_reads_holds_nobody_up() {
    let world = world(true);
    let (messages, _task) = watch(&world, "/live?event=1&since=0", 1);
    let begun = Instant::now();
    for _ in 0..100_000 {
        world.library.changes.touch(Topic::Job(1000));
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    drop(messages);
}

#[test]
fn an_address_that_shows_nothing_ends_at_once() {
    let world = world(true);
    for address in ["/live", "/live?page=other", "/other?page=events", "/live?job=x", "/live?event=99"] {
        let (_messages, task) = watch(&world, address, 1);
        ended(task);
    }
}

#[test]
fn the_real_store_is_such_an_archive() {
    use sai_master::store::{Change, Options, Report, Store};
    let state = std::env::temp_dir().join(format!("sai-page-store-{}", std::process::id()));
    let (report, reports) = std::sync::mpsc::sync_channel(1000);
    let options = Options::new(move |event| drop(report.send(event)));
    let (store, _) = Store::open(&state, options).expect("a store");
    let (memory, log) = {
        let world = world(true);
        (world.memory, world.log)
    };
    let mut changes = vec![Change::Event(memory.change(|held| held.events[&1].clone()))];
    changes.extend(memory.change(|held| held.jobs.values().cloned().map(Change::Job).collect::<Vec<_>>()));
    let (durable, wait) = std::sync::mpsc::sync_channel(1);
    store.commit(changes, Box::new(move |result| drop(durable.send(result))));
    wait.recv_timeout(PATIENCE).expect("an end").expect("durable");
    let library = Library {
        archive: Box::new(store.reader()),
        live: Arc::default(),
        changes: Arc::new(Changes::new()),
        sessions: Sessions::new(),
        prefix: Default::default(),
        sums: sai_master::page::sums::Sums::default(),
        rooms: Arc::default(),
        act: Box::new(|_, _| Err("not here".to_string())),
        public: true,
        first_errors: Remembered::default(),
        known_cases: Default::default(),
    };
    let world = World { memory, library: Arc::new(library), done: Arc::default(), log };
    assert!(text(world.get("/")).contains("Say hello") && text(world.get("/event/1")).contains("job-1002"));
    assert_eq!(world.get("/job/1000/log").status, 404);
    let await_flushed = |length: u64| {
        loop {
            match reports.recv_timeout(PATIENCE).expect("a report") {
                Report::Flushed { key: KEY, stream: 0, length: flushed } if flushed >= length => return,
                _ => {}
            }
        }
    };
    let bytes = world.log.0.lock().unwrap().clone();
    store.files().append(KEY, 0, 0, bytes.clone());
    store.files().flush(KEY);
    await_flushed(bytes.len() as u64);
    assert!(text(world.get("/job/1000")).contains("two &lt;b&gt;"));
    let (messages, _task) = watch(&world, "/live?job=1000-1&from=0", 10);
    hear(&messages, "two");
    // The follower's open log grows under it.
    world.log.add(2000, &Record::Data(1, b"three\n".to_vec()));
    let longer = world.log.0.lock().unwrap().clone();
    store.files().append(KEY, 0, bytes.len() as u64, longer[bytes.len()..].to_vec());
    store.files().flush(KEY);
    await_flushed(longer.len() as u64);
    world.library.changes.touch(Topic::Log(KEY));
    hear(&messages, "three");
    assert_eq!(body(world.get("/job/1000/records")), longer);
    assert_eq!(body(world.get("/job/1000/log")), b"one\ntwo <b>\nthree\n");
    drop(store);
    std::fs::remove_dir_all(state).expect("removed");
}
