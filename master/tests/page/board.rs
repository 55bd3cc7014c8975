//! What is made of a board's log: the bytes of its consoles, all on one axis, and its lines for a waveform viewer.

use super::{KEY, World, body, header, text, world};
use miniserde::json;
use sai_core::axis::{Case, CaseResult, Clock, Edge, Entry, Loss, Mark, Sent, What};
use sai_core::job::JobState;
use sai_core::record::{ChannelStart, Record};
use std::process::{Command, Stdio};

/// The machine's clock when the job began, in nanoseconds.
const ORIGIN_NS: u64 = 5_000_000_000;

impl World {
    fn happens(&self, micros: u64, entry: Entry) {
        entry.encode(micros, &mut self.log.0.lock().unwrap());
    }

    fn edge(&self, micros: u64, channel: u8, ns: u64, level: bool, sequence: u32) {
        self.happens(micros, Entry::Edges(vec![Edge { channel, level, ns: ORIGIN_NS + ns, sequence }]));
    }
}

/// A log with two consoles and two lines, whose edges come late, out of order, and not all of them.
fn board() -> World {
    let world = world(true);
    for (channel, name) in [(3, "serial:main"), (4, "serial:a b"), (9, "line:led"), (10, "line:k$end y")] {
        world.log.add(1000, &Record::Channel(channel, ChannelStart { name: name.to_string() }));
    }
    let clock = Clock { monotonic_ns: ORIGIN_NS + 1_000_000, boottime_ns: 1, realtime_ns: 2 };
    world.happens(1000, Entry::Clock(clock));
    world.log.add(1500, &Record::Data(3, b"old\x00\xff\x1b[2J\r\n".to_vec()));
    let mark = Mark { what: What::Reset, name: None, text: None, offsets: None, judged: Some(true) };
    world.happens(2000, Entry::Mark(mark));
    world.log.add(2500, &Record::Data(4, b"aside".to_vec()));
    world.log.add(2600, &Record::Data(3, b"ok 1\n".to_vec()));
    world.happens(2700, Entry::Sent(3, Sent::of("judge", b"r\xf6\n")));
    world.edge(4000, 9, 3_000_500, true, 1);
    world.edge(4000, 10, 2_900_000, true, 1);
    world.edge(4100, 9, 3_000_900, false, 2);
    world.happens(4200, Entry::Tick(4000));
    // Three of them were lost in between.
    world.edge(5000, 9, 4_500_000, true, 6);
    world.happens(5000, Entry::Loss(9, Loss { offset: 2, lost: Some(3), why: "read too late".to_string() }));
    let case = Case { name: "adds \"two\"".to_string(), result: CaseResult::Passed, at: Some(5), text: None };
    world.happens(6000, Entry::Case(case));
    world.log.add(7000, &Record::Note("the end".to_string()));
    world
}

#[test]
fn a_console_is_given_byte_for_byte() {
    let world = board();
    let response = world.get("/job/1000/console/main");
    assert_eq!(header(&response, "content-type"), Some("application/octet-stream"));
    assert!(header(&response, "content-disposition").is_some_and(|what| what.starts_with("attachment; ")));
    assert_eq!(body(response), b"old\x00\xff\x1b[2J\r\nok 1\n");
    assert_eq!(body(world.get("/job/1000/1/console/a%20b")), b"aside");
    for address in ["/job/1000/console/stdout", "/job/1000/console/led", "/job/1001/console/main", "/job/1001/log.vcd"]
    {
        assert_eq!(world.get(address).status, 404, "{address}");
    }
}

#[test]
fn everything_is_on_one_axis_as_json() {
    let world = board();
    let timeline = text(world.get("/job/1000/timeline.json"));
    let json::Value::Object(read) = json::from_str(&timeline).expect("JSON") else { panic!("{timeline}") };
    let json::Value::Array(entries) = &read["entries"] else { panic!("{timeline}") };
    assert_eq!(entries.len(), timeline.lines().count() - 2, "an entry a line");
    for line in [
        r#"{"us":1000,"kind":"channel","channel":"serial:a b","name":"serial:a b"}"#,
        r#"{"us":1500,"kind":"bytes","channel":"serial:main","offset":0,"length":11}"#,
        r#"{"us":2600,"kind":"bytes","channel":"serial:main","offset":11,"length":5}"#,
        r#"{"us":2700,"kind":"sent","channel":"serial:main","writer":"judge","length":3,"bytes":"rö\n"}"#,
        r#"{"us":4000,"kind":"edge","channel":"line:led","ns":5003000500,"level":1,"sequence":1}"#,
        r#"{"us":4200,"kind":"tick","up_to":4000}"#,
        r#"{"us":5000,"kind":"loss","channel":"line:led","offset":2,"lost":3,"why":"read too late"}"#,
        r#"{"us":7000,"kind":"note","text":"the end"}"#,
    ] {
        assert!(timeline.lines().any(|told| told.trim_end_matches(',') == line), "{line} in {timeline}");
    }
    assert!(timeline.starts_with("{\"job\":1000,\"attempt\":1,\"entries\":["));
    // A log that is damaged says so, where it is.
    world.log.0.lock().unwrap().extend_from_slice(&[9; 32]);
    let damaged = text(world.get("/job/1000/timeline.json"));
    assert!(damaged.contains(r#""kind":"damage","text":"a record of unknown kind 9""#), "{damaged}");
}

#[test]
fn a_logic_analyser_reads_the_lines() {
    let world = board();
    let dump = text(world.get("/job/1000/log.vcd"));
    let changes = "#2900000\n1\"\n#3000500\n1!\n#3000900\n0!\n#3000901\nx!\n#4500000\n1!\n#7000000\n";
    assert!(dump.ends_with(changes), "{dump}");
    assert!(dump.contains("$var wire 1 ! led $end\n$var wire 1 \" k_end_y $end\n"), "{dump}");
    // Read by a program that people use.
    let path = std::env::temp_dir().join(format!("sai-{}.vcd", std::process::id()));
    std::fs::write(&path, &dump).unwrap();
    let mut sigrok = Command::new("sigrok-cli");
    sigrok
        .args(["-I", "vcd:downsample=100000", "-O", "csv:header=false:label=off:time=false:dedup=true", "-i"])
        .arg(&path);
    let output = sigrok.stdin(Stdio::null()).output().expect("sigrok-cli");
    std::fs::remove_file(&path).unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let rows: Vec<&str> = told.lines().filter(|line| line.starts_with(['0', '1'])).collect();
    assert!(rows.ends_with(&["1,1"]) && rows.contains(&"0,1") && rows.starts_with(&["0,0"]), "{told}");
}

#[test]
fn edges_are_held_in_bounded_memory_whatever_the_order() {
    let world = board();
    // Nothing but the end says that these are all: the oldest are written, and what comes after them too late is told of.
    for batch in (0..60_u64).rev() {
        let edge = |n: u64| Edge {
            channel: 9,
            level: n.is_multiple_of(2),
            ns: ORIGIN_NS + 10_000_000 + (batch * 1000 + n) * 100,
            sequence: 0,
        };
        world.happens(8000, Entry::Edges((0..1000).map(edge).collect()));
    }
    let dump = text(world.get("/job/1000/log.vcd"));
    let times: Vec<u64> = dump.lines().filter_map(|line| line.strip_prefix('#')?.parse().ok()).collect();
    assert!(times.is_sorted(), "a dump's time steps back");
    assert!(dump.contains("changes came late"), "{}", &dump[dump.len() - 200..]);
    assert!(dump.lines().filter(|line| line.ends_with('!')).count() >= 60_000, "each edge is there");
}

#[test]
fn the_page_of_a_job_leads_to_them_and_only_there() {
    let world = board();
    let page = text(world.get("/job/1000"));
    for address in ["console/main", "console/a%20b", "timeline.json", "log.vcd"] {
        assert!(page.contains(&format!("href=\"/job/1000/1/{address}\"")), "{address} in {page}");
    }
    world.memory.job_state(1001, JobState::Failed, 1);
    let plain = text(super::world(true).get(&format!("/job/{}", KEY.job)));
    assert!(!plain.contains("timeline.json") && !plain.contains("log.vcd"), "{plain}");
}
