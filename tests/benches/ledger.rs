//! What a master keeps → how long a start takes with 20 000 jobs and with a log of a GiB under way, how long a commit, and how
//! long it takes to find some of 100 000 events; the floors read the same bytes, append and sync them, and ask for nothing.

use miniserde::json;
use sai_core::job::JobKey;
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::record;
use sai_master::store::{Change, Options, Report, Store};
use sai_tests::figures::{heading, median, ms, row, seconds, settle};
use sai_tests::world::World;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::channel;

/// Starts of each kind.
const STARTS: usize = 5;
/// Events of the large ledger, and jobs of each.
const EVENTS: u64 = 2000;
const JOBS: u64 = 10;
/// Events of the long list, each with one job, and how many are written at once.
const LISTED: u64 = 100_000;
const GROUP: u64 = 1000;
/// Bytes of the log that is under way.
const LOG: u64 = 1 << 30;
/// Commits measured.
const COMMITS: usize = 400;

fn event(id: u64, first_job: u64, jobs: u64) -> EventRecord {
    let text = format!(
        "{{\"id\":{id},\"repository\":\"hello\",\"url\":\"https://git.example/hello\",\"reference\":\"refs/heads/main\",\
         \"revision\":\"{id:040}\",\"subject\":\"Say hello to all of the world\",\"author\":\"Ann Author\",\"source\":\"Hook\",\
         \"at\":1795354322000,\"errors\":[],\"warnings\":[],\"first_job\":{first_job},\"jobs\":{jobs}}}"
    );
    json::from_str(&text).expect("an event")
}

fn job(id: u64, event: u64, state: &str) -> JobRecord {
    let text = format!(
        "{{\"id\":{id},\"event\":{event},\"repository\":\"hello\",\"platform\":\"linux\",\"configuration\":\"default\",\
         \"priority\":0,\"state\":\"{state}\",\"attempt\":1,\"infra\":0,\"agent\":\"rock-1\",\"queued_at\":1795354322000,\
         \"started_at\":1795354323000,\"cause\":\"\",\"fault\":\"Nobody\",\"steps\":1,\"log_bytes\":123456,\"artifacts\":[]}}"
    );
    json::from_str(&text).expect("a job")
}

fn open(state: &Path) -> Store {
    Store::open(state, Options::new(|_| {})).expect("a store").0
}

/// Starts a master some times: the median of the seconds until it listens, and its resident MiB then.
fn start(world: &World) -> (f64, f64) {
    let (mut took, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        settle();
        let mut master = None;
        took.push(seconds(|| master = Some(world.master())));
        resident.push(master.as_ref().map_or(0, |master| master.resident_kib()) as f64 / 1024.0);
    }
    (median(&took), median(&resident))
}

fn many_jobs() {
    let world = World::new("ledger");
    let (empty, _) = start(&world);
    let store = open(&world.state());
    for id in 1..=EVENTS {
        let jobs = (0..JOBS).map(|index| Change::Job(job(id * JOBS + index, id, "Passed")));
        store
            .commit_now([Change::Event(event(id, id * JOBS, JOBS))].into_iter().chain(jobs).collect())
            .expect("durable");
    }
    drop(store);
    let (took, resident) = start(&world);
    row("start with 20 000 jobs", &ms(empty), &ms(took), (took, " s"), Some(0.5));
    row("  resident then", "", &format!("{resident:.1} MiB"), (resident, " MiB"), Some(35.0));
    fs::remove_dir_all(world.state().join("ledger")).expect("removed");
    let again = seconds(|| drop(world.master()));
    row("  the same without its index", &ms(empty), &ms(again), (again, " s"), None);
}

/// A list of 100 000 events, and what is looked for in it: what is among the newest, and what no event is.
fn many_events() {
    let mut world = World::new("events");
    world.set("keep", "{\"events\": 1000000}");
    drop(world.master());
    let store = open(&world.state());
    for first in (1..=LISTED).step_by(GROUP as usize) {
        let kept = (first..first + GROUP).flat_map(|id| {
            let event = EventRecord { repository: format!("hello-{}", id % 10), ..event(id, id, 1) };
            [Change::Event(event), Change::Job(job(id, id, if id % 100 == 0 { "Failed" } else { "Passed" }))]
        });
        store.commit_now(kept.collect()).expect("durable");
    }
    drop(store);
    let _master = world.master();
    let page = |path: &str| median(&(0..STARTS).map(|_| seconds(|| drop(world.page(path)))).collect::<Vec<_>>());
    let floor = page("/healthz");
    for (what, path) in [
        ("all of them", "/"),
        ("of a repository", "/?repository=hello-3"),
        ("that failed", "/?state=failed"),
        ("of a revision", "/?revision=000000000000000000000000000000000009"),
        ("by words that none has", "/?q=nothing+of+the+kind"),
        ("as JSON", "/api/v1/events?repository=hello-3&state=failed"),
    ] {
        let took = page(path);
        row(&format!("100 000 events: {what}"), &ms(floor), &ms(took), (took * 1e3, " ms"), Some(100.0));
    }
}

/// A job of which a GiB of log came, by a master that was killed.
fn long_log() {
    let world = World::new("resume");
    drop(world.master());
    let (sender, flushed) = channel();
    let report = move |report| {
        if let Report::Flushed { length, .. } = report {
            let _ = sender.send(length);
        }
    };
    let (store, _) = Store::open(&world.state(), Options::new(report)).expect("a store");
    store.commit_now(vec![Change::Event(event(1, 1, 1)), Change::Job(job(1, 1, "Running"))]).expect("durable");
    let saifile = "{\"schema\": \"sai-1\", \"platforms\": {\"linux\": {\"build\": \"true\"}}, \"configurations\": {\"default\": {}}}";
    store.files().put_saifile(1, saifile.as_bytes()).expect("kept");
    let mut piece = Vec::new();
    record::encode(&record::Record::Channel(0, record::ChannelStart { name: "stdout".to_string() }), 0, &mut piece);
    let text: Vec<u8> =
        (0..800).flat_map(|line| format!("line {line} of what a compiler says of it\n").into_bytes()).collect();
    let (mut length, mut durable) = (0, 0);
    while length < LOG {
        record::encode_data(0, &text, 1, &mut piece);
        if piece.len() > 256 << 10 {
            let bytes = std::mem::take(&mut piece);
            let end = length + bytes.len() as u64;
            store.files().append(JobKey { job: 1, attempt: 1 }, 0, length, bytes);
            length = end;
            // As a link does: a window's worth may be under way.
            while durable + (8 << 20) < length {
                durable = flushed.recv().expect("it is flushed");
            }
        }
    }
    while durable < length {
        durable = flushed.recv().expect("it is flushed");
    }
    drop(store);
    let floor = seconds(|| {
        let mut file = File::open(world.state().join("logs/1-1.log")).expect("the log");
        let mut buffer = vec![0; 1 << 20];
        while file.read(&mut buffer).expect("read") > 0 {}
    });
    let (took, resident) = start(&world);
    row("start with a log of 1 GiB under way", &ms(floor), &ms(took), (took, " s"), Some(2.0));
    row("  resident then", "", &format!("{resident:.1} MiB"), (resident, " MiB"), None);
}

fn commits() {
    let world = World::new("commits");
    let store = open(&world.state());
    let path = world.directory.join("floor");
    let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("a file");
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    for id in 1..=COMMITS as u64 {
        let record = job(id, 1, "Passed");
        let line = format!("00000000 1 1/1 {}\n", json::to_string(&record));
        floors.push(seconds(|| file.write_all(line.as_bytes()).and_then(|()| file.sync_data()).expect("durable")));
        ours.push(seconds(|| store.commit_now(vec![Change::Job(record)]).expect("durable")));
    }
    let (floor, ours) = (median(&floors), median(&ours));
    row("commit of one record", &ms(floor), &ms(ours), (ours / floor, " x"), None);
}

fn main() {
    heading("What a master keeps");
    // A word behind `--` chooses one of these.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (word, measure) in
        [("jobs", many_jobs as fn()), ("events", many_events), ("log", long_log), ("commits", commits)]
    {
        if wanted.as_ref().is_none_or(|wanted| wanted == word) {
            measure();
        }
    }
}
