//! Each page of a master that has much to show → how long its answer takes, and until its first screen is painted.
//!
//! A real Chromium opens them, signed in as an admin, who is shown most. The server's part is from the request to the whole of the
//! answer, as the browser has them; painted is its first paint of any content, from when it was told to go there. The floor is the same of
//! some bytes of text from the same master.

use miniserde::json;
use sai_core::axis::{Clock, EDGES_MAX, Edge, Entry};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::record::{ChannelStart, Record, encode};
use sai_master::store::{Change, Options, Store};
use sai_tests::browser::Browser;
use sai_tests::figures::{heading, median, ms, row, settle};
use sai_tests::process::{PATIENCE, eventually_within};
use sai_tests::world::{Event, World};
use std::path::Path;

/// Times that each page is opened.
const ROUNDS: usize = 5;
/// Events of a branch from before, each with one job.
const EARLIER: u64 = 10_000;
/// How many of them are written at once.
const GROUP: u64 = 1000;
/// Lines that the long job prints.
const LINES: u64 = 120_000;
/// Test cases that a job tells of.
const CASES: u64 = 2000;
/// Edges in the log of a job at a board, and the lines that they are of.
const EDGES: u64 = 100_000;
const LINES_READ: u64 = 4;
/// Milliseconds until something of their waveform is painted.
const WAVE_MS: f64 = 200.0;
/// Platforms and configurations of the large event.
const PLATFORMS: u64 = 50;
const CONFIGURATIONS: u64 = 100;
/// Milliseconds until the answer is there, and until something of it is painted.
const ANSWERED_MS: f64 = 100.0;
const PAINTED_MS: f64 = 300.0;

/// Both times of the page that is open, milliseconds; the second is not known before it is painted.
const TIMES: &str = "return (async () => { \
    const painted = () => performance.getEntriesByName('first-contentful-paint')[0]; \
    for (let left = 200; left > 0 && !painted(); left--) await new Promise((wait) => setTimeout(wait, 10)); \
    const [asked] = performance.getEntriesByType('navigation'); \
    return [asked.responseEnd - asked.requestStart, painted()?.startTime ?? 1e6].join(' '); })()";

fn event(id: u64) -> EventRecord {
    let text = format!(
        "{{\"id\":{id},\"repository\":\"project\",\"url\":\"https://git.example/project\",\"reference\":\"refs/heads/main\",\
         \"revision\":\"{id:040}\",\"subject\":\"Say hello to all of the world\",\"author\":\"Ann Author\",\"source\":\"Hook\",\
         \"at\":{},\"errors\":[],\"warnings\":[],\"first_job\":{id},\"jobs\":1}}",
        1_795_354_322_000 + id * 1000
    );
    json::from_str(&text).expect("an event")
}

/// The log of a job at a board: a console that says something each millisecond, and lines in bursts.
fn waves() -> Vec<u8> {
    let mut log = Vec::new();
    let channel = |name: String| ChannelStart { name };
    encode(&Record::Channel(3, channel("serial:main".to_string())), 0, &mut log);
    for line in 0..LINES_READ {
        encode(&Record::Channel(4 + line as u8, channel(format!("line:line-{line}"))), 0, &mut log);
    }
    Entry::Clock(Clock { monotonic_ns: 0, boottime_ns: 0, realtime_ns: 0 }).encode(0, &mut log);
    let edges: Vec<Edge> = (0..EDGES)
        .map(|number| {
            let (line, of_line) = (number % LINES_READ, number / LINES_READ);
            // A kilohertz and more, with a rest behind each hundred.
            let ns = of_line * (200_000 + line * 37_000) + of_line / 100 * 30_000_000;
            Edge { channel: 4 + line as u8, level: of_line.is_multiple_of(2), ns, sequence: of_line as u32 + 1 }
        })
        .collect();
    for edges in edges.chunks(EDGES_MAX / 64) {
        let micros = edges.first().map_or(0, |edge| edge.ns / 1000);
        Entry::Edges(edges.to_vec()).encode(micros, &mut log);
        encode(&Record::Data(3, format!("at {micros} us\n").into_bytes()), micros, &mut log);
    }
    log
}

fn job(id: u64) -> JobRecord {
    let (state, at) = (if id.is_multiple_of(7) { "Failed" } else { "Passed" }, 1_795_354_322_000 + id * 1000);
    let text = format!(
        "{{\"id\":{id},\"event\":{id},\"repository\":\"project\",\"platform\":\"linux\",\"configuration\":\"broken\",\
         \"priority\":0,\"state\":\"{state}\",\"attempt\":1,\"infra\":0,\"agent\":\"rock-1\",\"queued_at\":{at},\
         \"started_at\":{at},\"ended_at\":{},\"cause\":\"\",\"fault\":\"Nobody\",\"steps\":1,\"log_bytes\":0,\"artifacts\":[]}}",
        at + 1000 * (id % 50)
    );
    json::from_str(&text).expect("a job")
}

/// One job with a long log, one that fails in the middle of one, one that tells of many test cases.
fn saifile(place: &Path) -> String {
    format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ \"linux\": {{ \"build\": [\"${{what}}\"] }} }}, \"configurations\": {{
            \"long\": {{ \"what\": \"seq 1 {LINES} | sed 's/$/ of a long log/'\" }},
            \"broken\": {{ \"what\": \"seq 1 60000; sh {0}/compile; seq 1 60000; exit 2\" }},
            \"tests\": {{ \"what\": \"sh {0}/cases; exit 1\", \"artifacts\": \"out/*\" }} }} }}",
        place.display()
    )
}

/// Jobs on platforms that no agent offers.
fn many() -> String {
    let list = |count: u64, letter: &str, value: &str| -> String {
        (0..count).map(|number| format!("\"{letter}{number}\": {value}")).collect::<Vec<_>>().join(", ")
    };
    let (platforms, configurations) = (list(PLATFORMS, "p", "{\"build\": \"true\"}"), list(CONFIGURATIONS, "c", "{}"));
    format!("{{\"schema\": \"sai-1\", \"platforms\": {{{platforms}}}, \"configurations\": {{{configurations}}}}}")
}

fn main() {
    let mut world = World::new("screens");
    world.set("builtin", "{\"slots\": 3, \"platforms\": [\"linux\"]}");
    world.set("keep", "{\"events\": 1000000}");
    world.set("units", "{\"licences\": 2}");
    drop(world.master());
    let store = Store::open(&world.state(), Options::new(|_| {})).expect("a store").0;
    for first in (1..=EARLIER).step_by(GROUP as usize) {
        let kept = (first..first + GROUP).flat_map(|id| [Change::Event(event(id)), Change::Job(job(id))]);
        store.commit_now(kept.collect()).expect("durable");
    }
    // One of them was at a board.
    let waves = waves();
    std::fs::write(world.state().join(format!("logs/{EARLIER}-1.log")), &waves).expect("a log");
    store.commit_now(vec![Change::Job(JobRecord { log_bytes: waves.len() as u64, ..job(EARLIER) })]).expect("durable");
    drop(store);
    let compile = "echo 'src/main.c:12:5: error: expected expression before return' >&2\n";
    let cases = format!(
        "mkdir out\necho 1..{CASES}\nseq 1 {CASES} | awk '{{ print ($1 % 9 ? \"ok \" : \"not ok \") $1 \" - case \" $1 }}'\n\
         seq 1 200 | while read n; do echo $n > out/$n.txt; done\n"
    );
    for (name, script) in [("compile", compile), ("cases", &cases)] {
        std::fs::write(world.directory.join(name), script).expect("a script");
    }
    let master = world.master();
    let _agents = ["shed", "barn"].map(|name| world.agent(name, &["linux-other"], 1));
    let about = |at: usize| -> Option<Event> { world.event(world.events().get(at)?.id) };
    world.repository.push_saifile(&saifile(&world.directory));
    let built = eventually_within(PATIENCE, "the jobs end", || {
        about(0).filter(|event| event.jobs.len() == 3 && event.jobs.iter().all(sai_tests::world::Job::ended))
    });
    world.repository.push_saifile(&many());
    let large = eventually_within(PATIENCE, "the large event is there", || {
        about(0).filter(|event| event.jobs.len() as u64 == PLATFORMS * CONFIGURATIONS)
    });
    let of = |name: &str| built.jobs.iter().find(|job| job.configuration == name).expect("the job").id;
    let (long, broken, tests) = (of("long"), of("broken"), of("tests"));
    let token = world.command(&["user", "add", "ann", "admin"]);

    let browser = Browser::start(&world.directory, &["--ignore-certificate-errors".to_string()]);
    let address = |path: &str| format!("https://127.0.0.1:{}{path}", world.port);
    browser.open(&address("/sign-in"));
    browser.type_into("#token", &token);
    browser.click("main form button");
    browser.until("document.querySelector('.who')");
    settle();
    heading(&format!("First screens, of {EARLIER} events, {} jobs and {LINES} lines", large.jobs.len()));
    let look = |path: &str| {
        let (mut answered, mut painted) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            browser.open(&address(path));
            let times = browser.text_of(TIMES);
            let (first, second) = times.split_once(' ').expect("two times");
            answered.push(first.parse::<f64>().expect("milliseconds") / 1e3);
            painted.push(second.parse::<f64>().expect("milliseconds") / 1e3);
        }
        (median(&answered), median(&painted))
    };
    // Words behind `--` choose pages: it takes minutes to open all of them.
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let (bare_answered, bare_painted) = look("/robots.txt");
    for (what, path) in [
        ("the events", "/".to_string()),
        ("events looked for", "/?state=failed&q=hello".to_string()),
        ("a branch", "/?repository=project&branch=main".to_string()),
        ("a revision", format!("/?revision={:040}", 77)),
        ("an event", format!("/event/{}", built.event.id)),
        ("an event of 5 000 jobs", format!("/event/{}", large.event.id)),
        ("  one platform of it", format!("/event/{}?platform=p7", large.event.id)),
        ("a job with a long log", format!("/job/{long}")),
        ("  a line of it", format!("/job/{long}/1?line=77000")),
        ("  words in it", format!("/job/{long}/1?q=77000+of")),
        ("a job that failed", format!("/job/{broken}")),
        ("a job with 2 000 test cases", format!("/job/{tests}")),
        ("  the cases", format!("/job/{tests}/tests")),
        ("  one of them through time", format!("/job/{tests}/tests?name=case+9")),
        ("a job with 100 000 edges", format!("/job/{EARLIER}")),
        ("  its waveform alone", format!("/job/{EARLIER}/1/waveform")),
        ("  a hundredth of it", format!("/job/{EARLIER}/1/waveform?from=5000000000&to=5100000000")),
        ("the boards", "/boards".to_string()),
        ("a job that waits", format!("/job/{}", large.jobs[0].id)),
        ("a history", "/history?repository=project&configuration=broken&platform=linux".to_string()),
        ("the agents", "/agents".to_string()),
        ("the units", "/units".to_string()),
        ("the audit", "/audit".to_string()),
        ("the list of the docs", "/docs".to_string()),
        ("the reference of saifiles", "/docs/saifile".to_string()),
        ("the reference of the configuration", "/docs/configuration".to_string()),
        ("sign-in", "/sign-in".to_string()),
        ("nothing there", "/nothing".to_string()),
    ] {
        if !wanted.as_ref().is_none_or(|word| what.contains(word.as_str())) {
            continue;
        }
        let (answered, painted) = look(&path);
        row(what, &ms(bare_answered), &ms(answered), (answered * 1e3, " ms"), Some(ANSWERED_MS));
        let most = if path.starts_with(&format!("/job/{EARLIER}")) { WAVE_MS } else { PAINTED_MS };
        row("  painted", &ms(bare_painted), &ms(painted), (painted * 1e3, " ms"), Some(most));
    }
    let resident = master.resident_kib() as f64 / 1024.0;
    row("master's memory after all that", "", "", (resident, " MiB"), None);
}
