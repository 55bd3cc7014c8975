//! Several boards of one job: one log, told apart again; a gate, and the worst verdict.

use sai_core::axis::{Edge, Entry, Loss, Mark, What};
use sai_core::bench;
use sai_core::job::Fault;
use sai_core::judge;
use sai_core::record::{ChannelStart, Decoder, Record, StepEnd, StepStart};
use sai_core::together::{End, Input, Output, Reached, Together, places, places_in};
use sai_core::trying::{Found, Written};

const BENCH: &str = r#"{ "boards": {
    "left": { "type": "t", "consoles": { "main": { "path": "/dev/a" }, "aux": { "path": "/dev/b" } },
        "lines": { "led": { "line": 1, "direction": "in" } } },
    "right": { "type": "t", "consoles": { "main": { "path": "/dev/c" } } } } }"#;

fn machine() -> Together {
    let bench = bench::read("F", BENCH.as_bytes()).expect("a bench");
    Together::new(places(&bench.boards.iter().collect::<Vec<_>>()).expect("places"), 1)
}

fn give(machine: &mut Together, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    machine.handle(0, input, &mut out);
    out
}

fn found(word: &'static str, fault: Fault, cause: &str) -> End {
    End::Found(Found { word, fault, cause: cause.to_string(), step: 2 })
}

fn record(record: Record) -> Written {
    Written::Record(record)
}

#[test]
fn each_boards_part_of_a_log_is_what_it_would_be_alone() {
    let mut machine = machine();
    let channel = |number, name: &str| record(Record::Channel(number, ChannelStart { name: name.to_string() }));
    let edge = Edge { channel: 2, level: true, ns: 7, sequence: 1 };
    let loss = Loss { offset: 3, lost: Some(2), why: "full".to_string() };
    let mark = Mark { what: What::Reset, name: None, text: None, offsets: None, judged: Some(true), away_ms: None };
    let of = |part: usize| {
        let mut all = vec![channel(0, "serial:main")];
        if part == 0 {
            all.extend([channel(1, "serial:aux"), channel(2, "line:led"), Written::Entry(Entry::Edges(vec![edge]))]);
        }
        let text = format!("of {part}").into_bytes();
        all.extend([record(Record::Data(0, text)), Written::Entry(Entry::Loss(0, loss.clone()))]);
        all.extend([Written::Entry(Entry::Mark(mark.clone())), Written::Entry(Entry::Tick(9 + part as u64))]);
        all
    };
    let mut bytes = Vec::new();
    let (first, second) = (of(0), of(1));
    // One after the other of each, as they come.
    for index in 0..first.len().max(second.len()) {
        for (part, all) in [&first, &second].into_iter().enumerate() {
            let Some(written) = all.get(index) else { continue };
            for output in give(&mut machine, Input::Written(part, 5, written.clone())) {
                let Output::Write(micros, first, written) = output else { panic!("{output:?}") };
                written.encode_on(first, micros, &mut bytes);
            }
        }
    }
    let mut channels = Vec::new();
    let mut decoder = Decoder::new();
    decoder
        .push(&bytes, |item| {
            if let sai_core::record::Item::Record(_, Record::Channel(number, start)) = &item {
                channels.push((*number, start.name.clone()));
            }
        })
        .expect("a log");
    let named = ["serial:left/main", "serial:right/main", "serial:left/aux", "line:left/led"];
    assert_eq!(channels.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), named);
    let places = places_in(&channels);
    assert_eq!(places.iter().map(|place| place.board.as_str()).collect::<Vec<_>>(), ["left", "right"]);
    for (place, all) in places.iter().zip([first, second]) {
        let mut heard = Vec::new();
        let mut decoder = Decoder::new();
        let mut tell = |_: u64, input: judge::Input<'_>| heard.push(format!("{input:?}"));
        decoder.push(&bytes, |item| place.hear(&item, &mut tell)).expect("a log");
        let alone = all.iter().map(|written| match written {
            Written::Record(Record::Channel(number, start)) => {
                format!("{:?}", judge::Input::Channel(*number, &start.name))
            }
            Written::Record(Record::Data(number, bytes)) => format!("{:?}", judge::Input::Bytes(*number, bytes)),
            Written::Entry(entry) => format!("{:?}", judge::Input::Entry(entry)),
            other => panic!("{other:?}"),
        });
        assert_eq!(heard, alone.collect::<Vec<_>>());
    }
    assert_eq!(places_in(&[(0, "serial:main".to_string()), (1, "tool".to_string())]), []);
}

#[test]
fn all_are_held_before_one_is_flashed_and_flashed_before_one_is_reset() {
    let mut machine = machine();
    assert_eq!(give(&mut machine, Input::Reached(1, Reached::Held)), []);
    assert_eq!(give(&mut machine, Input::Reached(0, Reached::Held)), [Output::Open(Reached::Held)]);
    let begins = |step, text: &str| record(Record::StepStart(StepStart { step, text: text.to_string() }));
    let ends = |step, status| record(Record::StepEnd(StepEnd { step, status }));
    let start = give(&mut machine, Input::Written(0, 1, begins(1, "flash a.bin to app")));
    assert_eq!(start, [Output::Write(1, 0, begins(1, "left: flash a.bin to app"))]);
    let other = give(&mut machine, Input::Written(1, 2, begins(1, "flash b.bin to app")));
    assert_eq!(other, [Output::Write(2, 0, record(Record::Note("right: flash b.bin to app".to_string())))]);
    assert_eq!(give(&mut machine, Input::Reached(1, Reached::Flashed)), []);
    assert_eq!(give(&mut machine, Input::Reached(0, Reached::Flashed)), [Output::Open(Reached::Flashed)]);
    assert_eq!(give(&mut machine, Input::Written(0, 3, ends(1, 0))), []);
    let test = give(&mut machine, Input::Written(0, 3, begins(2, "test")));
    assert_eq!(test, [Output::Write(3, 0, ends(1, 0)), Output::Write(3, 0, begins(2, "test"))]);
    assert_eq!(give(&mut machine, Input::Written(1, 4, begins(2, "test"))), []);
    give(&mut machine, Input::Written(1, 5, ends(2, 1)));
    give(&mut machine, Input::Written(0, 6, ends(2, 0)));
    assert_eq!(give(&mut machine, Input::Ended(1, found("silent", Fault::Job, "nothing came"))), []);
    let end = give(&mut machine, Input::Ended(0, found("passed", Fault::Nobody, "")));
    let worst = found("silent", Fault::Job, "right: nothing came");
    assert_eq!(end, [Output::Write(6, 0, ends(2, 1)), Output::End(worst, Some("right".to_string()))]);
}

#[test]
fn one_that_cannot_be_held_or_flashed_has_the_others_given_up() {
    let mut busy = machine();
    give(&mut busy, Input::Reached(0, Reached::Held));
    let why = || End::Busy("ann writes to the board".to_string());
    assert_eq!(give(&mut busy, Input::Ended(1, why())), [Output::Stop]);
    let end = give(&mut busy, Input::Ended(0, End::GivenUp));
    assert_eq!(end, [Output::End(End::Busy("right: ann writes to the board".to_string()), None)]);

    let mut failed = machine();
    for part in 0..2 {
        give(&mut failed, Input::Reached(part, Reached::Held));
    }
    give(&mut failed, Input::Reached(0, Reached::Flashed));
    let why = found("flash-failed", Fault::Infrastructure, "it does not answer");
    assert_eq!(give(&mut failed, Input::Ended(1, why)), [Output::Stop]);
    let end = give(&mut failed, Input::Ended(0, End::GivenUp));
    let worst = found("flash-failed", Fault::Infrastructure, "right: it does not answer");
    assert_eq!(end, [Output::End(worst, Some("right".to_string()))]);
}

#[test]
fn the_worst_is_trouble_of_ours_then_what_the_job_did_and_all_must_pass() {
    let ends = |all: [End; 2]| {
        let mut machine = machine();
        for part in 0..2 {
            give(&mut machine, Input::Reached(part, Reached::Flashed));
        }
        let mut out = Vec::new();
        for (part, end) in all.into_iter().enumerate() {
            out.extend(give(&mut machine, Input::Ended(part, end)));
        }
        out.pop()
    };
    let (passed, fails) = (|| found("passed", Fault::Nobody, ""), || found("test-fail", Fault::Job, "no"));
    let infra = || found("infra", Fault::Infrastructure, "gone");
    let named = |end, board: &str| Some(Output::End(end, Some(board.to_string())));
    assert_eq!(ends([passed(), passed()]), Some(Output::End(passed(), None)));
    assert_eq!(ends([fails(), passed()]), named(found("test-fail", Fault::Job, "left: no"), "left"));
    assert_eq!(ends([fails(), infra()]), named(found("infra", Fault::Infrastructure, "right: gone"), "right"));
    assert_eq!(ends([fails(), fails()]), named(found("test-fail", Fault::Job, "left: no"), "left"));
    assert_eq!(ends([passed(), End::GivenUp]), Some(Output::End(End::GivenUp, None)));
}

#[test]
fn boards_with_more_channels_than_a_log_are_refused() {
    let console = |index| format!(r#""c{index}": {{ "path": "/dev/x{index}" }}"#);
    let board = |from: usize| (from..from + 8).map(console).collect::<Vec<_>>().join(", ");
    let text = format!(
        r#"{{ "boards": {{ "a": {{ "type": "t", "consoles": {{ {} }} }}, "b": {{ "type": "t", "consoles": {{ {} }} }},
            "c": {{ "type": "t", "consoles": {{ {} }} }}, "d": {{ "type": "t", "consoles": {{ {} }} }} }} }}"#,
        board(0),
        board(8),
        board(16),
        board(24)
    );
    let bench = bench::read("F", text.as_bytes()).expect("a bench");
    let all: Vec<_> = bench.boards.iter().collect();
    assert_eq!(places(&all[..3]).expect("51 channels").len(), 3);
    assert!(places(&all).expect_err("68 channels").contains("at most 64 channels"));
}
