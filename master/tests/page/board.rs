//! What is made of a board's log: the bytes of its consoles, all on one axis, and its lines for a waveform viewer.

use super::{KEY, World, body, header, text, world};
use miniserde::json;
use sai_core::axis::{Case, CaseResult, Clock, Edge, Entry, Loss, Mark, Sent, What};
use sai_core::job::JobState;
use sai_core::record::{ChannelStart, Record};
use sai_core::units::GivenBoard;
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
    let mark = Mark { what: What::Reset, name: None, text: None, offsets: None, judged: Some(true), away_ms: None };
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
    let (name, text_of_it) = (Some("main".to_string()), Some("/dev/ttyUSB1, gone for 1234 ms".to_string()));
    let back = Mark { what: What::Back, name, text: text_of_it, offsets: None, judged: None, away_ms: Some(1_234) };
    world.happens(7100, Entry::Mark(back));
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
        r#"{"us":7100,"kind":"mark","what":"Back","name":"main","text":"/dev/ttyUSB1, gone for 1234 ms","offsets":null,"judged":null,"away_ms":1234}"#,
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
    for address in ["console/main", "console/a%20b", "timeline.json", "log.vcd", "waveform"] {
        assert!(page.contains(&format!("href=\"/job/1000/1/{address}\"")), "{address} in {page}");
    }
    world.memory.job_state(1001, JobState::Failed, 1);
    let plain = text(super::world(true).get(&format!("/job/{}", KEY.job)));
    assert!(!plain.contains("timeline.json") && !plain.contains("log.vcd"), "{plain}");
}

/// What an attribute of an element has, of the first that is written so.
fn attribute<'a>(page: &'a str, before: &str) -> &'a str {
    let rest = page.split_once(before).unwrap_or_else(|| panic!("{before} is not in {page}")).1;
    rest.split_once('"').unwrap().0
}

#[test]
fn the_lines_are_drawn_and_the_time_that_is_shown_is_in_the_address() {
    let world = board();
    let page = text(world.get("/job/1000/waveform"));
    for part in [
        "<svg role=\"img\" aria-labelledby=\"wave-title wave-desc\"",
        "<title id=\"wave-title\">Waveform of the board&#39;s lines</title>",
        "<text class=\"name\" x=\"2\" y=\"",
        ">led</text>",
        ">k$end y</text>",
        "led: 3 edges, not known at first, 1 at last. k$end y: 1 edge, not known at first, 1 at last. ",
        "main: 16 bytes. ",
        "<title>edges were lost here: its level is not known</title>",
        "<title>reset at 0:00.002000</title>",
        "<title>led: 3 lost, read too late at 0:00.005000</title>",
        "<title>passed adds &quot;two&quot; at 0:00.006000</title>",
        "<bdi>led</bdi> becomes 0",
        "0:00.003000500",
        // Output began with two lines of stdout, and the first of the console is the third.
        "href=\"/job/1000/1?line=5&amp;from=0&amp;to=7000000#L5\">line 5</a>",
        "href=\"/job/1000/1/waveform?from=1750000&amp;to=5250000#wave\">Zoom in</a>",
        "href=\"/job/1000/1/log.vcd\">VCD</a>",
        "data-grows=\"1\"",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    // The trace of the first line: what is not known, two edges in one column, what was lost, then its level.
    assert_eq!(attribute(&page, "<path d=\""), "M77142 2H120000");
    let near = text(world.get("/job/1000/1/waveform?from=3000000&to=3001000&a=3000500&b=3000900"));
    assert_eq!(attribute(&near, "<path d=\""), "M60000 2H108000");
    assert_eq!(attribute(&near, "data-at=\""), "500 400");
    assert!(near.contains("<b>A</b> 0:00.003000500, <b>B</b> 0:00.003000900, apart 400 ns"), "{near}");
    assert!(near.contains("&amp;a=3000500&amp;b=3000900#wave\">Earlier</a>"), "{near}");
    // A line of the log that is asked for comes into sight.
    let moved = text(world.get("/job/1000/1/waveform?from=3000000&to=3001000&line=4"));
    assert!(moved.contains("line 4 of the log at 0:00.002500") && moved.contains("data-from=\"2499500\""), "{moved}");
    // The page of the job has the same, and its links stay there.
    let job = text(world.get("/job/1000?from=3000000&to=3010000"));
    assert!(job.contains("href=\"/job/1000/1?from=3002500&amp;to=3007500#wave\">Zoom in</a>"), "{job}");
    assert!(
        job.contains("<script src=\"/assets/wave.js?v=") && job.contains("href=\"/job/1000/1/waveform\">Waveform</a>")
    );
    let plain = super::world(true);
    assert!(!text(plain.get("/job/1000")).contains("wave."), "a job that is at no board needs nothing of it");
    assert!(text(plain.get("/job/1000/waveform")).contains("No line of a board"));
    assert_eq!(plain.get("/job/77/waveform").status, 404);
}

#[test]
fn names_of_strangers_are_text_in_a_drawing_and_there_are_so_many_at_most() {
    const MARKUP: &str = "x'\"><img/src=x onerror=window.hit=1></text></svg>\u{202e}";
    let world = world(true);
    for channel in 3..63 {
        let name = format!("{}{MARKUP}{channel}", if channel < 43 { "line:" } else { "serial:" });
        world.log.add(1000, &Record::Channel(channel, ChannelStart { name }));
    }
    let mark = |n: u64| Mark {
        what: What::Play,
        name: Some(format!("{MARKUP}{n}")),
        text: None,
        offsets: None,
        judged: None,
        away_ms: None,
    };
    for n in 0..20_000 {
        world.happens(2000 + n, Entry::Mark(mark(n)));
        let case =
            Case { name: MARKUP.to_string(), result: CaseResult::Failed, at: None, text: Some(MARKUP.to_string()) };
        world.happens(2000 + n, Entry::Case(case));
        world.happens(2000 + n, Entry::Loss(3, Loss { offset: n, lost: None, why: MARKUP.to_string() }));
        world.edge(2000 + n, 3 + (n % 40) as u8, 1_000_000 + n * 1000, n % 3 == 0, 0);
    }
    let page = text(world.get("/job/1000/waveform?a=18446744073709551615"));
    assert!(
        !page.contains("<img/") && !page.contains("</svg>\u{fffd}") && !page.contains('\u{202e}'),
        "markup of strangers"
    );
    assert!(page.contains("x&#39;&quot;&gt;&lt;img/src=x onerror"), "it is shown as what it is");
    assert!(page.contains("and 8 more lines and consoles"));
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    for wrong in ["from=x", "to=1.5", "a=-1", "line=0"] {
        assert_eq!(world.get(&format!("/job/1000/waveform?{wrong}")).status, 400, "{wrong}");
    }
    for odd in ["from=9&to=3", "from=18446744073709551615", "to=0", "line=99999"] {
        assert_eq!(world.get(&format!("/job/1000/waveform?{odd}")).status, 200, "{odd}");
    }
}

#[test]
fn a_board_has_a_page_with_its_history() {
    let world = world(true);
    world.memory.change(|held| {
        for (id, cause) in [(1000, ""), (1001, "<nothing> came")] {
            let job = held.jobs.get_mut(&id).unwrap();
            job.agent = Some("rock".to_string());
            job.given = Some(GivenBoard { name: "b 1".to_string(), grant: 1, others: None });
            job.cause = cause.to_string();
        }
    });
    let page = text(world.get("/boards/rock/b%201"));
    for part in ["href=\"/job/1000/1\"", "&lt;nothing&gt; came", "badge failed", "does not offer it now"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!((world.get("/boards/rock/b1").status, world.get("/boards/rack/b%201").status), (404, 404));
    assert!(text(world.get("/boards")).contains("No boards."));
    let job = text(world.get("/job/1001"));
    assert!(job.contains("href=\"/boards/rock/b%201\"><bdi>b 1</bdi></a>"), "{job}");
    assert!(text(world.get("/feed.atom")).contains("c1 on linux/x86_64/gcc: failed at rock/b 1: &lt;nothing&gt; came"));
}
