//! Trials at boards as their machine makes them: by hand where a moment counts, and in many worlds where owner, hands and lines answer
//! in whatever order they may. Each log is judged once more, without a board.

use sai_core::axis::{Clock, Edge, Entry, Loss, Mark, Progress, What};
use sai_core::bench::{self, Board};
use sai_core::console::{self, Piece, Why};
use sai_core::job::Fault;
use sai_core::judge::{self, Judge};
use sai_core::ordered::Map;
use sai_core::record::{ChannelStart, Decoder, Record};
use sai_core::trial::{self, Trial};
use sai_core::trying::{Delivered, Failure, Found, Input, Output, Setup, Trying, Way, Whose, Written, fits};
use std::collections::VecDeque;

/// CLOCK_MONOTONIC when a log begins, and how far CLOCK_BOOTTIME is before it.
const BEGAN_NS: u64 = 7_000_000_000_000;
const SLEPT_NS: u64 = 3_000_000_000;
const MS: u64 = 1_000_000;

/// A board with two consoles and a line that is read, flashed and reset as its bench says.
fn board(more: &str) -> Board {
    let text = format!(
        r#"{{ "chip": "gpiochip0", "boards": {{ "b": {{ "type": "t", "consoles": {{ "main": {{ "path": "/dev/a" }}, "other": {{ "path": "/dev/b" }} }},
        "lines": {{ "led": {{ "line": 3, "direction": "in" }}, "key": {{ "line": 4, "safe": 0 }} }}{more} }} }} }}"#
    );
    bench::read("boards.json", text.as_bytes()).expect("a bench").boards.remove(0)
}

const RESET: &str = r#""reset": ["key 1", "wait 1ms", "key 0"], "press": ["key 1", "wait 1ms", "key 0"]"#;

/// How boards get to what is tried on them.
fn boards() -> [(&'static str, Board); 4] {
    let run = r#""modes": { "run": { "do": ["key 0"] } }, "#;
    let flash = |more: &str| format!(r#""flash": {{ "with": "optiboot", "console": "main"{more} }}"#);
    let tool = r#""flash": { "with": "argv", "argv": ["tool", "{image}"], "verifies": true }"#;
    [
        ("reset", board(&format!(r#", "sequences": {{ {RESET} }}"#))),
        ("then", board(&format!(r#", {run} "sequences": {{ {RESET} }}, {}"#, flash(r#", "then": "run""#)))),
        ("starts", board(&format!(r#", "sequences": {{ "press": ["key 1"] }}, {}"#, flash("")))),
        ("tool", board(&format!(r#", "sequences": {{ "press": ["key 1"] }}, {tool}"#))),
    ]
}

const KEYS: &str = r#"{ "type": "t", "flash": "fw.bin", "console": "main", "identity": "^fw ${SAI_COMMIT}$", "banner": "^fw ",
    "test": [{ "expect": "login: $", "within": "5s" }, { "send": "root\n" }, { "play": "press" }, { "edge": "led", "to": 1, "within": "5s" }],
    "results": "tap", "pass": "^DONE", "silent": "5s", "timeout": "20s" }"#;

fn values() -> Map<String, String> {
    Map::from([("SAI_COMMIT".to_string(), "1".to_string())])
}

fn keys() -> Trial {
    trial::all_of(KEYS).expect("a trial").alone().expect("one board")
}

fn setup(board: Board) -> Setup {
    let trial = keys();
    let images = if board.flash.is_some() { vec![("fw.bin".to_string(), "app".to_string())] } else { Vec::new() };
    Setup {
        board,
        trial,
        values: values(),
        images,
        before: Vec::new(),
        unseen: false,
        first_step: 1,
        began_ns: BEGAN_NS,
    }
}

fn clock(ns: u64) -> Clock {
    Clock { monotonic_ns: BEGAN_NS + ns, boottime_ns: BEGAN_NS + ns + SLEPT_NS, realtime_ns: 1 }
}

/// A machine, and all that it has said.
struct Desk {
    trying: Trying,
    ns: u64,
    out: Vec<Output>,
}

impl Desk {
    fn new(setup: Setup) -> Desk {
        let mut desk = Desk { trying: Trying::new(setup).expect("a trial"), ns: 0, out: Vec::new() };
        desk.give(Input::Begin);
        desk
    }

    /// What is said to this.
    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.trying.handle(clock(self.ns), input, &mut out);
        self.out.extend(out.iter().cloned());
        out
    }

    /// Bytes of the first console, `offset` of which were before.
    fn said(&mut self, offset: u64, text: &str) -> Vec<Output> {
        let piece = Piece::Bytes { offset, ns: BEGAN_NS + self.ns, bytes: text.as_bytes().to_vec() };
        self.give(Input::Had(0, console::Entry::Came(piece)))
    }

    fn found(&self) -> Option<&Option<Found>> {
        self.out.iter().find_map(|output| if let Output::End(found) = output { Some(found) } else { None })
    }

    /// Texts and steps of the log, in order.
    fn told(&self) -> Vec<String> {
        let told = self.out.iter().filter_map(|output| match output {
            Output::Write(_, Written::Record(record)) => Some(match record {
                Record::Channel(number, start) => format!("channel {number} {}", start.name),
                Record::Data(number, bytes) => format!("{number}: {}", String::from_utf8_lossy(bytes)),
                Record::StepStart(start) => format!("begins {} {}", start.step, start.text),
                Record::StepEnd(end) => format!("ends {} {}", end.step, end.status),
                Record::Note(text) => text.clone(),
                other => panic!("{other:?}"),
            }),
            Output::Write(_, Written::Entry(Entry::Mark(Mark { judged: Some(true), .. }))) => Some("judged".into()),
            _ => None,
        });
        told.filter(|text| !text.starts_with("channel")).collect()
    }
}

fn delivered(said: Option<(&str, u64)>) -> Input {
    let said = said.map(|(console, offset)| (console.to_string(), offset));
    Input::Flashed(Ok(Delivered { verified: true, said }))
}

#[test]
fn what_a_loader_starts_is_judged_from_its_first_byte_on() {
    let [_, _, (_, starts), _] = boards();
    let mut desk = Desk::new(setup(starts));
    assert!(desk.out.contains(&Output::Flash));
    let channels = desk.out.iter().filter_map(|output| match output {
        Output::Write(0, Written::Record(Record::Channel(number, start))) => Some((*number, start.name.as_str())),
        _ => None,
    });
    assert_eq!(channels.collect::<Vec<_>>(), [(0, "serial:main"), (1, "serial:other"), (2, "line:led")]);
    // It waits until it is known where the loader ends.
    assert_eq!(desk.said(100, "loader"), []);
    desk.ns = 400 * MS;
    assert_eq!(desk.said(106, "OKfw 1\n"), []);
    assert_eq!(desk.trying.deadline(), Some(BEGAN_NS + 500 * MS));
    desk.ns = 500 * MS;
    desk.give(Input::Tick);
    assert_eq!(desk.told(), ["begins 1 flash fw.bin to app", "0: loader"]);
    desk.give(delivered(Some(("main", 108))));
    assert_eq!(
        desk.told()[1..],
        ["0: loader", "ends 1 0", "begins 2 test", "0: OK", "judged", "0: fw 1\n"].map(String::from)
    );
    assert_eq!(desk.out.last(), Some(&Output::AskMoment));
}

#[test]
fn a_board_is_reset_behind_a_moment_of_its_owner() {
    let [(_, reset), (_, then), ..] = boards();
    let mut desk = Desk::new(setup(reset));
    assert_eq!(desk.out.last(), Some(&Output::AskMoment));
    assert_eq!(desk.trying.deadline(), Some(BEGAN_NS + 60_000 * MS));
    let out = desk.give(Input::Moment(BEGAN_NS + 1));
    assert_eq!(out.last(), Some(&Output::Move(Way::Play("reset".into()))));
    let out = desk.give(Input::Moved(Ok(())));
    assert!(
        matches!(&out[..], [Output::Write(_, Written::Entry(Entry::Mark(mark)))] if mark.what == What::Reset),
        "{out:?}"
    );
    let mut desk = Desk::new(setup(then));
    desk.give(delivered(Some(("main", 5))));
    let out = desk.give(Input::Moment(BEGAN_NS + 1));
    assert_eq!(out.last(), Some(&Output::Move(Way::Mode("run".into()))));
    // What cannot be moved is nobody's failure but ours.
    desk.give(Input::Moved(Err("the relay is dead".into())));
    let found = Found::infra("mode run: the relay is dead".into(), 2);
    assert_eq!(desk.found(), Some(&Some(found)));
    assert_eq!(desk.told().last().map(String::as_str), Some("ends 2 1"));
}

#[test]
fn an_image_that_is_not_there_is_told_with_all_that_the_board_said() {
    let [_, _, (_, starts), _] = boards();
    for (whose, word, fault) in [
        (Whose::Image, "flash-failed", Fault::Job),
        (Whose::Board, "flash-failed", Fault::Infrastructure),
        (Whose::Wiring, "infra", Fault::Infrastructure),
    ] {
        let mut desk = Desk::new(setup(starts.clone()));
        desk.said(0, "ERROR 7");
        desk.give(Input::Flashed(Err(Failure::new(whose, "it cannot be"))));
        assert_eq!(desk.found(), Some(&Some(Found { word, fault, cause: "it cannot be".into(), step: 1 })));
        assert_eq!(desk.told()[1..], ["0: ERROR 7".to_string(), "ends 1 1".to_string()]);
    }
}

#[test]
fn what_a_board_had_before_is_kept_apart_byte_for_byte() {
    let [(_, reset), ..] = boards();
    let before = vec![110, 0];
    let mut desk = Desk::new(Setup { before, ..setup(reset) });
    desk.out.clear();
    let ns = BEGAN_NS - 5;
    desk.give(Input::Had(0, console::Entry::Came(Piece::Unplugged { offset: 100, ns })));
    assert_eq!(desk.out, [], "it is of no use to anybody");
    desk.give(Input::Had(0, console::Entry::Came(Piece::Bytes { offset: 100, ns, bytes: b"old".to_vec() })));
    desk.give(Input::Had(0, console::Entry::Came(Piece::Lost { offset: 103, ns, lost: Some(2), why: Why::Full })));
    // Nobody listened yet when the last of it came.
    desk.said(105, "PANICfw 1\n");
    let piece = |channel, text: &str| Written::Record(Record::Data(channel, text.as_bytes().to_vec()));
    let written: Vec<Written> = desk
        .out
        .iter()
        .filter_map(|output| match output {
            Output::Write(_, written) => Some(written.clone()),
            _ => None,
        })
        .collect();
    let name = ChannelStart { name: "serial:main:before".into() };
    let loss = Loss { offset: 3, lost: Some(2), why: "no room".into() };
    // Two consoles, two lines and a tool have the numbers before it.
    assert_eq!(
        written,
        [
            Written::Record(Record::Channel(5, name)),
            piece(5, "old"),
            Written::Entry(Entry::Loss(5, loss)),
            piece(5, "PANIC"),
            piece(0, "fw 1\n"),
        ]
    );
}

/// Marks of ttys that went and came back: text, and how long they were gone.
fn gone(out: &[Output]) -> Vec<(What, Option<String>, Option<u64>)> {
    let marks = out.iter().filter_map(|output| match output {
        Output::Write(_, Written::Entry(Entry::Mark(mark))) => Some(mark),
        _ => None,
    });
    let marks = marks.filter(|mark| matches!(mark.what, What::Unplugged | What::Back));
    marks.map(|mark| (mark.what, mark.text.clone(), mark.away_ms)).collect()
}

#[test]
fn a_tty_that_is_back_was_gone_for_so_long_whichever_owner_saw_it_go() {
    let [(_, reset), ..] = boards();
    let mut desk = Desk::new(Setup { before: vec![110, 0], ..setup(reset) });
    desk.give(Input::Moment(BEGAN_NS + 1));
    desk.give(Input::Moved(Ok(())));
    let unplugged = |offset, ns| Input::Had(0, console::Entry::Came(Piece::Unplugged { offset, ns: BEGAN_NS + ns }));
    let back = |offset, ns| {
        Input::Had(0, console::Entry::Came(Piece::Back { offset, ns: BEGAN_NS + ns, tty: "/dev/ttyUSB1".into() }))
    };
    desk.said(110, "fw 1\n");
    desk.give(unplugged(115, 10 * MS));
    desk.give(back(115, 1_244 * MS + MS / 2));
    // The other console has not been away.
    let other = Piece::Back { offset: 0, ns: BEGAN_NS + 2_000 * MS, tty: "/dev/b".into() };
    desk.give(Input::Had(1, console::Entry::Came(other)));
    desk.give(unplugged(115, 3_000 * MS));
    // Its owner dies, and the next one counts from nothing.
    desk.give(Input::Replaced);
    let lost = Piece::Lost { offset: 115, ns: BEGAN_NS + 3_000 * MS, lost: None, why: Why::Died };
    desk.give(Input::Had(0, console::Entry::Came(lost)));
    desk.give(back(0, 5_000 * MS));
    desk.said(0, "login: ");
    let told = |text: &str| Some(text.to_string());
    let expected = [
        (What::Unplugged, None, None),
        (What::Back, told("/dev/ttyUSB1, gone for 1234 ms"), Some(1_234)),
        (What::Back, told("/dev/b"), None),
        (What::Unplugged, None, None),
        (What::Back, told("/dev/ttyUSB1, gone for 2000 ms"), Some(2_000)),
    ];
    assert_eq!(gone(&desk.out), expected);
    assert_eq!(desk.told()[1..], ["judged", "0: fw 1\n", "0: login: "].map(String::from));
    let losses =
        |output: &&Output| matches!(output, Output::Write(_, Written::Entry(Entry::Loss(0, loss))) if loss.offset == 5);
    assert_eq!(desk.out.iter().filter(losses).count(), 1);
}

#[test]
fn what_a_tool_prints_is_in_the_log_of_its_board() {
    let [_, (_, then), _, (_, tool)] = boards();
    let mut desk = Desk::new(setup(tool));
    let channel = |desk: &Desk| {
        desk.out.iter().find_map(|output| match output {
            Output::Write(_, Written::Record(Record::Channel(number, start))) if start.name == "tool" => Some(*number),
            _ => None,
        })
    };
    assert_eq!(channel(&desk), Some(4));
    let out = desk.give(Input::Printed(b"10 %\r".to_vec()));
    assert_eq!(out, [Output::Write(0, Written::Record(Record::Data(4, b"10 %\r".to_vec())))]);
    let out = desk.give(Input::PrintedMore(7));
    let loss = Loss { offset: 5, lost: Some(7), why: "no room".into() };
    assert_eq!(out, [Output::Write(0, Written::Entry(Entry::Loss(4, loss)))]);
    desk.give(delivered(None));
    assert!(matches!(desk.give(Input::Printed(b"late".to_vec()))[..], [Output::Bug(_)]));
    assert_eq!(channel(&Desk::new(setup(then))), None);
}

#[test]
fn who_gives_up_waits_for_what_is_broken_off_and_no_longer() {
    let [(_, reset), (_, then), ..] = boards();
    // In the middle of flashing.
    let mut desk = Desk::new(setup(then.clone()));
    assert_eq!(desk.give(Input::Cancel), [Output::Stop]);
    assert_eq!(desk.give(Input::Cancel), []);
    assert_eq!(desk.give(Input::Progress(Progress { phase: "write".into(), done: 1, of: 2 })).len(), 1);
    desk.give(Input::Flashed(Err(Failure::new(Whose::Wiring, "it was given up"))));
    let broken = "flashing was broken off: nobody knows what is on the board, nor in which mode it is";
    assert_eq!((desk.found(), &desk.told()[1..]), (Some(&None), &[broken.to_string(), "ends 1 1".to_string()][..]));
    assert_eq!((desk.give(Input::Tick), desk.trying.deadline()), (vec![], None));
    // Whoever is to break it off does not answer.
    let mut desk = Desk::new(setup(then.clone()));
    desk.give(Input::Cancel);
    assert_eq!(desk.trying.deadline(), Some(BEGAN_NS + 30_000 * MS));
    desk.ns = 30_000 * MS;
    desk.give(Input::Tick);
    assert_eq!((desk.found(), &desk.told()[1..]), (Some(&None), &[broken.to_string(), "ends 1 1".to_string()][..]));
    // The image is there, and the board is not tried.
    let mut desk = Desk::new(setup(then));
    desk.give(Input::Cancel);
    desk.give(delivered(None));
    assert_eq!((desk.found(), &desk.told()[1..]), (Some(&None), &["ends 1 1".to_string()][..]));
    // While the board is reset, and while nothing is under way.
    let mut desk = Desk::new(setup(reset.clone()));
    desk.give(Input::Moment(BEGAN_NS));
    assert_eq!(desk.give(Input::Cancel), [Output::Stop]);
    desk.give(Input::Moved(Err("it was given up".into())));
    assert_eq!(desk.found(), Some(&None));
    let mut desk = Desk::new(setup(reset));
    desk.give(Input::Cancel);
    assert_eq!(desk.found(), Some(&None));
}

#[test]
fn trouble_of_ours_ends_it_and_breaks_off_what_is_under_way() {
    let [_, (_, then), ..] = boards();
    let mut desk = Desk::new(setup(then));
    let out = desk.give(Input::Trouble("the log is full".into()));
    assert!(out.contains(&Output::Stop), "{out:?}");
    assert_eq!(desk.found(), Some(&Some(Found::infra("the log is full".into(), 1))));
}

#[test]
fn what_was_not_asked_for_is_a_mistake_and_changes_nothing() {
    let [(_, reset), ..] = boards();
    let mut trying = Trying::new(setup(reset.clone())).expect("a trial");
    let mut out = Vec::new();
    trying.handle(clock(0), Input::Tick, &mut out);
    assert!(matches!(out[..], [Output::Bug(_)]), "{out:?}");
    let mut desk = Desk::new(setup(reset));
    desk.give(Input::Moment(BEGAN_NS));
    desk.give(Input::Moved(Ok(())));
    desk.give(Input::Replaced);
    for input in [
        Input::Begin,
        Input::Had(2, console::Entry::Came(Piece::Unplugged { offset: 0, ns: BEGAN_NS })),
        delivered(None),
        Input::Moved(Ok(())),
        Input::Sent(Ok(())),
        Input::Moment(BEGAN_NS),
    ] {
        let out = desk.give(input.clone());
        assert!(matches!(out[..], [Output::Bug(_)]), "{input:?}: {out:?}");
    }
}

#[test]
fn a_machine_that_slept_says_so_and_judges_nothing() {
    let [(_, reset), ..] = boards();
    let mut desk = Desk::new(setup(reset));
    desk.give(Input::Moment(BEGAN_NS));
    desk.give(Input::Moved(Ok(())));
    let mut out = Vec::new();
    let now = Clock { boottime_ns: clock(60_000 * MS).boottime_ns + 80 * MS, ..clock(60_000 * MS) };
    desk.trying.handle(now, Input::Tick, &mut out);
    let found = Found::infra("the machine slept during the test".into(), 2);
    assert_eq!(out.last(), Some(&Output::End(Some(found))));
}

#[test]
fn a_trial_that_a_board_cannot_have_is_refused_with_what_it_lacks() {
    let [(_, reset), (_, then), (_, starts), (_, tool)] = boards();
    let fitted = |board: &Board, change: fn(&mut Trial)| {
        let mut trial = keys();
        change(&mut trial);
        fits(&trial, board)
    };
    for board in [&then, &starts, &tool] {
        assert_eq!(fitted(board, |_| ()), Ok(()));
    }
    let lacks = |board: &Board, change: fn(&mut Trial), what: &str| {
        let refused = fitted(board, change).expect_err(what);
        assert!(refused.contains(what), "{refused}");
    };
    lacks(&reset, |_| (), "has no \"flash\"");
    lacks(&then, |trial| trial.kind = "other".into(), "of type \"other\"");
    lacks(&then, |trial| trial.tags.push("leds".into()), "tag \"leds\"");
    lacks(&then, |trial| trial.console = Some("none".into()), "no console \"none\"");
    lacks(&then, |trial| trial.images[0].0 = "data".into(), "no target \"data\"");
    lacks(&then, |trial| trial.steps.push(trial::Step::Play("no".into())), "no sequence \"no\"");
    let key = |trial: &mut Trial| trial.steps.push(trial::Step::Edge { line: "key".into(), to: true, within_ms: 1 });
    lacks(&then, key, "no line \"key\" that is read");
    lacks(&starts, |trial| trial.images.clear(), "nothing is flashed, and board b has no sequence \"reset\"");
    let mut unread = tool.clone();
    if let Some(bench::Flash { with: bench::Flasher::Tool { verifies, .. }, .. }) = &mut unread.flash {
        *verifies = false;
    }
    lacks(&unread, |_| (), "does not tell whether an image is there");
    assert_eq!(fitted(&unread, |trial| trial.unverified = true), Ok(()));
}

/// Numbers of one seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What the program of a board says after each of these.
struct Program {
    starts: &'static str,
    root: &'static str,
    lit: bool,
}

const WELL: Program = Program { starts: "fw 1\n1..1\nlogin: ", root: "hi\nok 1 - a\nDONE\n", lit: true };

/// What a world has met, so that one can tell that the worlds are of all kinds.
#[derive(Default)]
struct Met {
    passed: u32,
    failed: u32,
    infra: u32,
    given_up: u32,
    replaced: u32,
    held: u32,
}

/// A board with its owner and hands around a machine.
struct World {
    random: Random,
    desk: Desk,
    program: Program,
    /// What the owner has for its listener.
    owner: VecDeque<Input>,
    /// What the hands will say, and from when on.
    hands: VecDeque<(u64, Input)>,
    offset: u64,
    /// Bytes that were given, and those in the log.
    given: Vec<u8>,
    done: usize,
}

impl World {
    fn at(&self) -> u64 {
        BEGAN_NS + self.desk.ns
    }

    /// The board says something, in pieces of any length.
    fn says(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let count = 1 + self.random.below(rest.len() as u64) as usize;
            let (piece, after) = rest.split_at(count);
            let came = Piece::Bytes { offset: self.offset, ns: self.at(), bytes: piece.to_vec() };
            self.owner.push_back(Input::Had(0, console::Entry::Came(came)));
            self.offset += count as u64;
            rest = after;
        }
    }

    /// Does what the machine has said since.
    fn carry_out(&mut self, name: &str, flashes: bool) {
        while self.done < self.desk.out.len() {
            let output = self.desk.out[self.done].clone();
            self.done += 1;
            let soon = self.desk.ns + self.random.below(300) * MS;
            match output {
                Output::Flash => {
                    self.says("loader ready\n");
                    let said = (name == "starts").then_some(("main", self.offset));
                    if name == "starts" || name == "tool" {
                        self.says(self.program.starts);
                    }
                    let failure = Failure::new(Whose::Board, "it does not verify");
                    let input = if flashes { delivered(said) } else { Input::Flashed(Err(failure)) };
                    self.hands.push_back((soon, input));
                }
                Output::Move(Way::Play(name)) if name == "press" => {
                    let edge = Edge { channel: 2, level: true, ns: self.at() + 1, sequence: 1 };
                    self.hands.push_back((soon, Input::Moved(Ok(()))));
                    if self.program.lit {
                        self.desk.give(Input::Lines(edge.ns, Entry::Edges(vec![edge])));
                    }
                }
                Output::Move(_) => {
                    self.says(self.program.starts);
                    self.hands.push_back((soon, Input::Moved(Ok(()))));
                }
                Output::Send { console, bytes } => {
                    assert_eq!((console.as_str(), &bytes[..]), ("main", &b"root\n"[..]));
                    let (offset, ns, length) = (self.offset, self.at(), bytes.len() as u64);
                    let sent =
                        console::Entry::Sent { offset, ns, writer: judge::WRITER.into(), length, bytes: Some(bytes) };
                    self.owner.push_back(Input::Had(0, sent));
                    self.says(self.program.root);
                    self.hands.push_back((soon, Input::Sent(Ok(()))));
                }
                Output::AskMoment => self.owner.push_back(Input::Moment(self.at())),
                // Each is still answered.
                Output::Stop => {
                    for (at, input) in &mut self.hands {
                        *at = self.desk.ns + 2 * MS;
                        if matches!(input, Input::Flashed(_)) {
                            *input = Input::Flashed(Err(Failure::new(Whose::Wiring, "it was given up")));
                        }
                    }
                }
                Output::Bug(what) => panic!("{what}"),
                Output::Write(..) | Output::End(_) => {}
            }
        }
    }

    fn step(&mut self, met: &mut Met) {
        let ready = self.hands.front().is_some_and(|(at, _)| *at <= self.desk.ns);
        match self.random.below(4) {
            0 if ready => {
                if let Some((_, input)) = self.hands.pop_front() {
                    self.desk.give(input);
                }
            }
            1 | 2 if !self.owner.is_empty() => {
                let Some(input) = self.owner.pop_front() else { return };
                if let Input::Had(0, console::Entry::Came(Piece::Bytes { bytes, .. })) = &input {
                    self.given.extend(bytes);
                }
                let said = self.desk.give(input.clone());
                met.held += u32::from(said.is_empty() && matches!(input, Input::Had(..)));
            }
            _ => {
                // Nothing is asked of anybody: it goes on when time comes.
                let idle = self.owner.is_empty() && self.hands.is_empty();
                let deadline = self.desk.trying.deadline().expect("it waits for something").saturating_sub(BEGAN_NS);
                let soon = self.desk.ns + self.random.below(20) * MS;
                self.desk.ns = if idle { deadline.max(self.desk.ns) } else { soon };
                self.desk.give(Input::Tick);
            }
        }
    }
}

/// Judges a log again: the verdict, if it comes to one, and whether it began.
fn again(log: &[u8]) -> (Option<Found>, bool) {
    let mut judge = Judge::new(keys(), "main", values()).expect("a judge");
    let (mut out, mut decoder) = (Vec::new(), Decoder::new());
    let read = decoder.push(log, |item| {
        let entry = Entry::of(&item);
        if let Some((micros, input)) = judge::Input::of(&item, entry.as_ref()) {
            judge.handle(micros, input, &mut out);
        }
    });
    assert_eq!(read, Ok(()));
    let found = out.into_iter().find_map(|output| match output {
        judge::Output::Verdict(judgement) => Some(Found::judged(judgement, 2)),
        judge::Output::Unknowable(why) => panic!("{why}"),
        _ => None,
    });
    (found, judge.begun())
}

fn world(seed: u64, met: &mut Met) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.below(2);
    let (name, board) = boards().into_iter().nth(random.below(4) as usize).expect("a board");
    let program = match random.below(6) {
        0 => Program { starts: "fw 0\n", ..WELL },
        1 => Program { root: "hi\nnot ok 1 - a\nDONE\n", ..WELL },
        2 => Program { lit: false, ..WELL },
        3 => Program { starts: "", ..WELL },
        _ => WELL,
    };
    let (flashes, cancels) = (random.below(8) > 0, random.below(5) == 0);
    let (cancel_at, replaced_at) = (random.below(2_000) * MS, random.below(2_000) * MS);
    let mut replaces = random.below(5) == 0;
    let desk = Desk::new(setup(board));
    let (owner, hands) = (VecDeque::new(), VecDeque::new());
    let mut world = World { random, desk, program, owner, hands, offset: 0, given: Vec::new(), done: 0 };
    let mut cancelled = false;
    for step in 0.. {
        world.carry_out(name, flashes);
        if world.desk.found().is_some() {
            break;
        }
        assert!(step < 100_000, "seed {seed} does not end: {:?}", world.desk.told());
        if cancels && !cancelled && world.desk.ns >= cancel_at {
            cancelled = true;
            world.desk.give(Input::Cancel);
        } else if replaces && world.desk.ns >= replaced_at {
            replaces = false;
            met.replaced += 1;
            // The one before died with what it had not passed on.
            world.owner.clear();
            let (offset, ns) = (world.offset, world.at());
            let lost = Piece::Lost { offset, ns, lost: None, why: Why::Died };
            world.desk.give(Input::Replaced);
            world.desk.give(Input::Had(0, console::Entry::Came(lost)));
        } else {
            world.step(met);
        }
    }
    let found = world.desk.found().cloned().flatten();
    // It is over once, and nothing follows.
    assert!(matches!(world.desk.out.last(), Some(Output::End(_))), "seed {seed}");
    assert_eq!((world.desk.give(Input::Tick), world.desk.trying.deadline()), (vec![], None));
    // All that the board said is in the log, in order, and time does not go back where it is told.
    let (mut log, mut said, mut ticked, mut steps) = (Vec::new(), Vec::new(), 0, Vec::new());
    for output in &world.desk.out {
        let Output::Write(micros, written) = output else { continue };
        written.encode(*micros, &mut log);
        match written {
            Written::Record(Record::Data(0, bytes)) => said.extend(bytes),
            Written::Record(Record::StepStart(start)) => steps.push((start.step, true)),
            Written::Record(Record::StepEnd(end)) => steps.push((end.step, false)),
            Written::Entry(Entry::Tick(up_to)) => {
                assert!(*up_to >= ticked, "seed {seed}: {up_to} after {ticked}");
                ticked = *up_to;
            }
            _ => {}
        }
    }
    assert_eq!(String::from_utf8_lossy(&said), String::from_utf8_lossy(&world.given), "seed {seed}");
    let whole = [(1, true), (1, false), (2, true), (2, false)];
    let tested = steps.last() == Some(&(2, false));
    let expected = match (name, tested) {
        ("reset", _) => &whole[2..],
        (_, true) => &whole[..],
        (_, false) => &whole[..2],
    };
    assert_eq!(steps, expected, "seed {seed}");
    let (judged, begun) = again(&log);
    match &found {
        None => met.given_up += 1,
        Some(found) => {
            met.passed += u32::from(found.word == "passed");
            met.failed += u32::from(found.fault == Fault::Job);
            met.infra += u32::from(found.fault == Fault::Infrastructure);
            if begun {
                assert_eq!(judged.as_ref(), Some(found), "seed {seed}");
            } else {
                assert_eq!((found.word, flashes), ("flash-failed", false), "seed {seed}: {found:?}");
            }
        }
    }
    assert!(cancelled || found.is_some(), "seed {seed}");
}

#[test]
fn in_every_world_a_trial_ends_once_and_its_log_says_the_same_again() {
    let mut met = Met::default();
    for seed in 1..=600 {
        world(seed, &mut met);
    }
    let Met { passed, failed, infra, given_up, replaced, held } = met;
    for (what, count) in [
        ("passed", passed),
        ("failed", failed),
        ("infra", infra),
        ("given up", given_up),
        ("replaced", replaced),
        ("held", held),
    ] {
        assert!(count >= 20, "{what}: {count} times");
    }
}
