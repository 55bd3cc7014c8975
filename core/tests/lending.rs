//! A board that a build's step has: what it asks, what the board says, and how that ends.

use sai_core::axis::{self, Clock, What};
use sai_core::bench;
use sai_core::console::{Entry, Piece};
use sai_core::job::{Fault, Outcome, Verdict};
use sai_core::lending::{Input, Lending, Output, WINDOW_BYTES, Word};
use sai_core::pattern::Pattern;
use sai_core::record::Record;
use sai_core::trying::{Delivered, Failure, Way, Whose, Written};

const BENCH: &str = r#"{ "boards": { "b": { "type": "t",
    "consoles": { "main": { "path": "/dev/pts/1", "baud": 9600 }, "aux": { "path": "/dev/pts/2", "baud": 9600 } },
    "sequences": { "press": ["wait 1ms"] }, "modes": { "loader": { "do": ["wait 1ms"] }, "run": { "do": ["wait 1ms"] } },
    "flash": { "with": "optiboot", "console": "main", "mode": "loader", "then": "run" } } } }"#;
const SECOND: u64 = 1_000_000_000;

struct Desk {
    lending: Lending,
    now: u64,
    /// Bytes that each console has had, as the owner counts them.
    had: [u64; 2],
}

impl Desk {
    fn new(bench: &str) -> Self {
        let board = bench::read("F", bench.as_bytes()).expect("a bench").boards.remove(0);
        let mut desk = Self { lending: Lending::new(board, 0), now: SECOND, had: [1_000, 0] };
        desk.give(Input::Begin);
        desk
    }

    /// What is done about something but for the log.
    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        let now = Clock { monotonic_ns: self.now, boottime_ns: self.now, realtime_ns: 0 };
        self.lending.handle(now, input, &mut out);
        assert!(!out.iter().any(|output| matches!(output, Output::Bug(_))), "{out:?}");
        out.retain(|output| !matches!(output, Output::Write(..) | Output::Give(..) | Output::Tell(..)));
        out
    }

    fn says(&mut self, console: u8, text: &str) -> Vec<Output> {
        let offset = self.had[usize::from(console)];
        self.had[usize::from(console)] += text.len() as u64;
        self.give(Input::Had(console, Entry::Came(Piece::Bytes { offset, ns: self.now, bytes: text.into() })))
    }

    fn expect(&mut self, asker: u64, pattern: &str, ms: u64) -> Vec<Output> {
        let pattern = Pattern::new(pattern).expect("a pattern");
        self.give(Input::Asked(asker, Word::Expect(None, pattern, ms)))
    }

    fn flash(&mut self, asker: u64) -> Vec<Output> {
        let target = bench::read("F", BENCH.as_bytes()).expect("a bench").boards.remove(0).flash.expect("flash");
        let target = target.targets.first().expect("a target").name.clone();
        self.give(Input::Asked(asker, Word::Flash(vec![(target, "fw.bin".to_string())])))
    }
}

fn done(asker: u64, found: &str) -> Output {
    Output::Done(asker, Ok(found.into()))
}

fn verdict(out: &[Output]) -> Option<Verdict> {
    out.iter().find_map(|output| if let Output::End(verdict) = output { verdict.clone() } else { None })
}

#[test]
fn a_tty_that_is_back_says_how_long_it_was_gone() {
    let mut desk = Desk::new(BENCH);
    let mut out = Vec::new();
    for piece in [
        Piece::Unplugged { offset: 1_000, ns: SECOND },
        Piece::Back { offset: 1_000, ns: 3 * SECOND + 1_999_999, tty: "/dev/ttyUSB1".into() },
    ] {
        let now = Clock { monotonic_ns: desk.now, boottime_ns: desk.now, realtime_ns: 0 };
        desk.lending.handle(now, Input::Had(0, Entry::Came(piece)), &mut out);
    }
    let told = out.into_iter().filter_map(|output| match output {
        Output::Write(_, Written::Entry(axis::Entry::Mark(mark))) => Some((mark.what, mark.text, mark.away_ms)),
        _ => None,
    });
    let back = Some("/dev/ttyUSB1, gone for 2001 ms".to_string());
    assert_eq!(told.collect::<Vec<_>>(), [(What::Unplugged, None, None), (What::Back, back, Some(2_001))]);
}

#[test]
fn what_is_expected_is_found_behind_what_was_found_before() {
    let mut desk = Desk::new(BENCH);
    assert_eq!(desk.expect(1, "login: $", 1_000), []);
    assert_eq!(desk.says(1, "login: "), [], "another console says it");
    assert_eq!(desk.says(0, "boot\r\nlog"), []);
    assert_eq!(desk.says(0, "in: "), [done(1, "login: ")]);
    assert_eq!(desk.expect(2, "login", 1_000), [], "that was found already");
    // Two that wait are served in the order in which they came, and what came before they were asked for counts.
    desk.says(0, "one two");
    assert_eq!(desk.expect(3, "two", 1_000), [], "an earlier one is looked for first");
    assert_eq!(desk.says(0, " login three two"), [done(2, "login"), done(3, "two")]);
    // In vain, by the time that it was given.
    assert_eq!(desk.expect(4, "x", 1_000), []);
    desk.now += SECOND - 1;
    assert_eq!(desk.give(Input::Tick), []);
    assert_eq!(desk.lending.deadline(), Some(desk.now + 1));
    desk.now += 1;
    assert!(matches!(&desk.give(Input::Tick)[..], [Output::Done(4, Err(why))] if why.contains("in time")));
    // One that is gone takes nothing with it.
    desk.expect(5, "y", 1_000);
    desk.give(Input::Left(5));
    assert_eq!(desk.says(0, "y"), []);
    assert_eq!(desk.expect(6, "y", 0), [done(6, "y")]);
    // A board that babbles costs no more than this.
    desk.says(0, "start");
    desk.says(0, &"x".repeat(WINDOW_BYTES));
    assert!(matches!(&desk.expect(7, "start", 0)[..], [Output::Done(7, Err(_))]));
}

#[test]
fn after_a_flash_the_board_is_left_as_its_bench_says_and_what_was_said_before_proves_nothing() {
    let mut desk = Desk::new(BENCH);
    desk.says(0, "READY");
    assert_eq!(desk.flash(1), [Output::Flash(1)]);
    let delivered = Delivered { verified: true, said: Some(("main".to_string(), 1_000)) };
    assert_eq!(desk.give(Input::Flashed(Ok(delivered))), [Output::Move(Way::Mode("run".to_string()))]);
    assert_eq!(desk.give(Input::Moved(Ok(()))), [done(1, "")]);
    assert!(matches!(&desk.expect(2, "READY", 0)[..], [Output::Done(2, Err(_))]));
    // Where its loader starts it, what came behind the loader's last byte is its.
    let mut desk = Desk::new(&BENCH.replace(r#", "then": "run""#, ""));
    desk.flash(1);
    desk.says(0, "READY by the one before");
    let from = desk.had[0];
    desk.says(0, "fw 2");
    let delivered = Delivered { verified: true, said: Some(("main".to_string(), from)) };
    assert_eq!(desk.give(Input::Flashed(Ok(delivered))), [done(1, "")]);
    assert!(matches!(&desk.expect(2, "READY", 0)[..], [Output::Done(2, Err(_))]));
    assert_eq!(desk.expect(3, "fw 2", 0), [done(3, "fw 2")]);
    // What fails is told, and the board is still the step's.
    desk.flash(4);
    let failure = Failure::new(Whose::Board, "no loader");
    let told = [Output::Blame(4, "board"), Output::Done(4, Err("no loader".to_string()))];
    assert_eq!(desk.give(Input::Flashed(Err(failure))), told);
    assert_eq!(desk.flash(5), [Output::Flash(5)]);
}

#[test]
fn what_the_board_lacks_is_told_and_nothing_is_done() {
    let mut desk = Desk::new(BENCH);
    let words = [
        Word::Flash(vec![("nowhere".to_string(), "fw.bin".to_string())]),
        Word::Move(Way::Play("nothing".to_string())),
        Word::Move(Way::Mode("nothing".to_string())),
        Word::Send(Some("nothing".to_string()), b"x".to_vec()),
        Word::Listen(Some("nothing".to_string())),
    ];
    for word in words {
        assert!(matches!(&desk.give(Input::Asked(1, word.clone()))[..], [Output::Done(1, Err(_))]), "{word:?}");
    }
    let out = desk.give(Input::Asked(2, Word::Move(Way::Play("press".to_string()))));
    assert_eq!(out, [Output::Move(Way::Play("press".to_string()))]);
    assert_eq!(
        desk.give(Input::Moved(Err("it is stuck".to_string()))),
        [Output::Done(2, Err("it is stuck".to_string()))]
    );
}

#[test]
fn what_is_typed_waits_until_what_was_before_has_gone_out() {
    let mut desk = Desk::new(BENCH);
    assert!(desk.lending.takes_typed(0));
    assert_eq!(desk.give(Input::Typed(0, b"root\n".to_vec())), [Output::Send("main".to_string(), b"root\n".to_vec())]);
    assert!(!desk.lending.takes_typed(0) && desk.lending.takes_typed(1));
    desk.give(Input::Sent(Ok(())));
    assert!(desk.lending.takes_typed(0));
    // Who listens has what comes; a word that sends hears that it went out.
    desk.give(Input::Asked(7, Word::Listen(None)));
    assert_eq!(desk.says(0, "hi"), [Output::Had(7, b"hi".to_vec())]);
    desk.give(Input::Asked(8, Word::Send(Some("aux".to_string()), b"x".to_vec())));
    assert_eq!(desk.give(Input::Sent(Ok(()))), [done(8, "")]);
    desk.give(Input::Left(7));
    assert_eq!(desk.says(0, "hi"), []);
}

#[test]
fn it_ends_as_its_command_and_not_before_what_is_under_way() {
    for (status, outcome, fault) in [(0, Outcome::Passed, Fault::Nobody), (3, Outcome::Failed, Fault::Job)] {
        let mut desk = Desk::new(BENCH);
        let found = verdict(&desk.give(Input::Ended(status))).expect("a verdict");
        assert_eq!((found.outcome, found.fault, found.status), (outcome, fault, Some(status)));
    }
    // The command is gone while its board is flashed: that is broken off, and the board is not let go before.
    let mut desk = Desk::new(BENCH);
    desk.flash(1);
    desk.expect(2, "x", 60_000);
    let out = desk.give(Input::Gone);
    assert!(matches!(&out[..], [Output::Stop, Output::Done(2, Err(_))]), "{out:?}");
    assert!(matches!(&desk.give(Input::Asked(3, Word::Listen(None)))[..], [Output::Done(3, Err(_))]));
    assert_eq!(desk.give(Input::Trouble("later".to_string())), [], "the first reason stays");
    let failure = Failure::new(Whose::Tool, "it was given up");
    let found = verdict(&desk.give(Input::Flashed(Err(failure)))).expect("a verdict");
    assert_eq!((found.outcome, found.fault), (Outcome::Cancelled, Fault::Person));
    // One that does not answer is not waited for without end.
    let mut desk = Desk::new(BENCH);
    desk.flash(1);
    desk.give(Input::Cancel);
    desk.now = desk.lending.deadline().expect("it ends");
    let out = desk.give(Input::Tick);
    let told = |why: &String| why.contains("nobody knows what is on the board");
    let all = [Output::Blame(1, "lease"), Output::End(None)];
    assert!(
        matches!(&out[..], [a, Output::Done(1, Err(why)), b] if told(why) && all == [a.clone(), b.clone()]),
        "{out:?}"
    );
    // An owner that is replaced knows nothing of whoever wrote before.
    let mut desk = Desk::new(BENCH);
    let found = verdict(&desk.give(Input::Replaced)).expect("a verdict");
    assert_eq!((found.outcome, found.trouble.as_deref()), (Outcome::Infra, Some("platform")));
}

#[test]
fn the_log_has_one_step_with_all_that_happened() {
    let mut desk = Desk::new(BENCH);
    let mut out = Vec::new();
    let now = Clock { monotonic_ns: desk.now, boottime_ns: desk.now, realtime_ns: 0 };
    let bytes = Piece::Bytes { offset: 1_000, ns: desk.now, bytes: b"abc".to_vec() };
    desk.lending.handle(now, Input::Had(0, Entry::Came(bytes)), &mut out);
    assert_eq!(out[0], Output::Write(SECOND / 1000, Written::Record(Record::Data(0, b"abc".to_vec()))));
    assert_eq!(out[1], Output::Give(0, b"abc".to_vec()));
    out.clear();
    desk.lending.handle(now, Input::Ended(0), &mut out);
    let steps = out.iter().filter(|output| matches!(output, Output::Write(_, Written::Record(Record::StepEnd(_)))));
    assert_eq!(steps.count(), 1);
    assert!(matches!(out.last(), Some(Output::End(Some(_)))));
}

#[test]
fn a_persons_images_are_got_before_the_board_is_touched_and_nothing_else_is_done_there_meanwhile() {
    let mut desk = Desk::new(BENCH);
    desk.lending = Lending::new(bench::read("F", BENCH.as_bytes()).expect("a bench").boards.remove(0), 0).to_a_person();
    desk.give(Input::Begin);
    let get = |target: &str, unverified| Word::Get(vec![(target.to_string(), "fw.bin".to_string())], unverified);
    let target = bench::read("F", BENCH.as_bytes()).expect("a bench").boards.remove(0).flash.expect("flash");
    let target = target.targets.first().expect("a target").name.clone();
    let refused = |out: Vec<Output>, says: &str| {
        assert!(matches!(&out[..], [Output::Done(_, Err(why))] if why.contains(says)), "{out:?}");
    };
    refused(desk.give(Input::Asked(1, get("nowhere", false))), "no target");
    // What was asked for before is still under way in the hands.
    let send = || Word::Send(None, b"x".to_vec());
    assert_eq!(desk.give(Input::Asked(2, send())), [Output::Send("main".to_string(), b"x".to_vec())]);
    assert_eq!(desk.give(Input::Asked(3, get(&target, false))), [Output::Get(3)]);
    assert_eq!(desk.give(Input::Sent(Ok(()))), [done(2, "")]);
    refused(desk.give(Input::Asked(4, send())), "is being flashed");
    refused(desk.give(Input::Asked(5, get(&target, false))), "is being flashed");
    assert_eq!(desk.expect(6, "READY", 60_000), [], "to wait for something is no harm");
    // They are not to be had: the board is as it was, and is the person's still.
    refused(desk.give(Input::Got(Err("another SHA-256".to_string()))), "another SHA-256");
    assert_eq!(desk.give(Input::Asked(7, get(&target, false))), [Output::Get(7)]);
    assert_eq!(desk.give(Input::Got(Ok(()))), [Output::Flash(7)]);
    let failure = Failure::new(Whose::Board, "no loader");
    let why = "no loader".to_string();
    assert_eq!(desk.give(Input::Flashed(Err(failure))), [Output::Blame(7, "board"), Output::Done(7, Err(why))]);
    // What cannot fit is told before anything is erased.
    desk.give(Input::Asked(8, get(&target, false)));
    desk.give(Input::Got(Ok(())));
    refused(desk.give(Input::Flashed(Err(Failure::new(Whose::Image, "too long")))), "too long");
    // What was not verified is no success, unless that was allowed.
    let flashed = |verified| Input::Flashed(Ok(Delivered { verified, said: Some(("main".to_string(), 0)) }));
    desk.give(Input::Asked(9, get(&target, false)));
    desk.give(Input::Got(Ok(())));
    let out = desk.give(flashed(false));
    assert!(matches!(&out[..], [Output::Blame(9, "tool"), Output::Done(9, Err(_))]), "{out:?}");
    desk.give(Input::Asked(10, get(&target, true)));
    desk.give(Input::Got(Ok(())));
    assert_eq!(desk.give(flashed(false)), [Output::Move(Way::Mode("run".to_string()))]);
    refused(desk.give(Input::Asked(11, send())), "is being flashed");
    assert_eq!(desk.give(Input::Moved(Ok(()))), [done(10, "")]);
    // The board is given back while images are on their way, and nobody waits for them.
    desk.give(Input::Asked(12, get(&target, false)));
    let out = desk.give(Input::Cancel);
    let given_back = "the board is being given back".to_string();
    assert!(out.contains(&Output::Done(12, Err(given_back))) && out.contains(&Output::End(None)), "{out:?}");
    assert_eq!(desk.give(Input::Got(Ok(()))), []);
}

#[test]
fn a_board_that_does_not_tell_what_is_on_it_is_flashed_only_for_who_allows_that() {
    let bench = r#"{ "boards": { "b": { "type": "t", "consoles": { "main": { "path": "/dev/pts/1", "baud": 9600 } },
        "flash": { "with": "argv", "argv": ["tool", "{image}", "{tty}"], "console": "main" } } } }"#;
    let board = bench::read("F", bench.as_bytes()).expect("a bench").boards.remove(0);
    let target = board.flash.as_ref().and_then(|how| how.targets.first()).expect("a target").name.clone();
    let mut desk = Desk::new(bench);
    desk.lending = Lending::new(board, 0).to_a_person();
    desk.give(Input::Begin);
    let get = |unverified| Word::Get(vec![(target.clone(), "fw.bin".to_string())], unverified);
    let out = desk.give(Input::Asked(1, get(false)));
    assert!(matches!(&out[..], [Output::Done(1, Err(why))] if why.contains("--unverified allows that")), "{out:?}");
    assert_eq!(desk.give(Input::Asked(2, get(true))), [Output::Get(2)]);
    // It is broken off when it had begun: whoever said it is told, and by what.
    desk.give(Input::Got(Ok(())));
    assert_eq!(desk.give(Input::Cancel), [Output::Stop]);
    let out = desk.give(Input::Flashed(Err(Failure::new(Whose::Tool, "stopped"))));
    let told = |why: &String| why.contains("nobody knows what is on the board");
    assert!(matches!(&out[..2], [Output::Blame(2, "lease"), Output::Done(2, Err(why))] if told(why)), "{out:?}");
}
