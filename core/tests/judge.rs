//! Runs on boards, as their logs tell of them, judged while they come and once more when they are stored.

use sai_core::axis::{CaseResult, Clock, Edge, Entry, Loss, Mark, Sent, What};
use sai_core::json;
use sai_core::judge::{Input, Judge, Judgement, Output, WRITER, Word};
use sai_core::ordered::Map;
use sai_core::record::{ChannelStart, Decoder, Record, encode, encode_data};
use sai_core::settings::Reader;
use sai_core::trial::{self, Trial};

/// The trial that a `board` says, or what is wrong with it.
fn read(text: &str) -> Result<Trial, Vec<String>> {
    let tree = json::parse(text.as_bytes()).expect("JSON");
    let mut reader = Reader::new();
    let trial = trial::read(&mut reader, &tree, "board");
    reader.finish("F").map(|()| trial)
}

fn trial(keys: &str) -> Trial {
    read(&format!(r#"{{"type":"t",{keys}}}"#)).unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
}

fn values() -> Map<String, String> {
    Map::from([("SAI_COMMIT".to_string(), "a.b".to_string())])
}

const MAIN: u8 = 3;
const LED: u8 = 9;
/// The machine's clock when the job began, in nanoseconds.
const ORIGIN_NS: u64 = 5_000_000_000;

/// A board and its log, with a judge that reads it while it is written.
struct Board {
    trial: Trial,
    judge: Judge,
    log: Vec<u8>,
    decoder: Decoder,
    /// Milliseconds since the job began.
    now: u64,
    out: Vec<Output>,
    /// How many of them were carried out.
    done: usize,
    /// Whether what is asked for is done.
    works: bool,
}

fn feed(judge: &mut Judge, decoder: &mut Decoder, bytes: &[u8], out: &mut Vec<Output>) {
    let read = decoder.push(bytes, |item| {
        let entry = Entry::of(&item);
        if let Some((micros, input)) = Input::of(&item, entry.as_ref()) {
            judge.handle(micros, input, out);
        }
    });
    assert_eq!(read, Ok(()));
}

impl Board {
    /// A board that prints something of before, and was then reset.
    fn new(keys: &str) -> Self {
        let mut board = Self::before(keys);
        board.print("old stuff PANIC ALL OK\nhalf").reset();
        board
    }

    fn before(keys: &str) -> Self {
        let trial = trial(keys);
        let judge = Judge::new(trial.clone(), "main", values()).expect("a judge");
        let (log, decoder) = (Vec::new(), Decoder::new());
        let mut board = Board { trial, judge, log, decoder, now: 1, out: Vec::new(), done: 0, works: true };
        for (channel, name) in [(MAIN, "serial:main"), (MAIN + 1, "serial:aux"), (LED, "line:led"), (0, "stdout")] {
            board.write(&|now, out| {
                encode(&Record::Channel(channel, ChannelStart { name: name.to_string() }), now, out)
            });
        }
        let clock = Clock { monotonic_ns: ORIGIN_NS + 1_000_000, boottime_ns: 0, realtime_ns: 0 };
        board.entry(Entry::Clock(clock));
        board
    }

    fn write(&mut self, record: &dyn Fn(u64, &mut Vec<u8>)) {
        let mut bytes = Vec::new();
        record(self.now * 1000, &mut bytes);
        self.log.extend_from_slice(&bytes);
        feed(&mut self.judge, &mut self.decoder, &bytes, &mut self.out);
        // What is asked for is done, and written down.
        while self.works && self.done < self.out.len() {
            self.done += 1;
            match self.out[self.done - 1].clone() {
                Output::Send { console, bytes } => {
                    assert_eq!(console, "main");
                    self.write(&|now, out| Entry::Sent(MAIN, Sent::of(WRITER, &bytes)).encode(now, out));
                }
                Output::Play(name) => self.mark(What::Play, &name),
                _ => {}
            }
        }
    }

    fn entry(&mut self, entry: Entry) {
        self.write(&|now, out| entry.encode(now, out));
    }

    fn mark(&mut self, what: What, name: &str) {
        let name = Some(name.to_string());
        self.entry(Entry::Mark(Mark { what, name, text: None, offsets: None, judged: None, away_ms: None }));
    }

    fn reset(&mut self) -> &mut Self {
        let mark = Mark { what: What::Reset, name: None, text: None, offsets: None, judged: Some(true), away_ms: None };
        self.entry(Entry::Mark(mark));
        self
    }

    fn print(&mut self, text: &str) -> &mut Self {
        self.write(&|now, out| encode_data(MAIN, text.as_bytes(), now, out));
        self
    }

    /// Time passes, with a tick each 100 ms.
    fn pass(&mut self, millis: u64) -> &mut Self {
        for _ in 0..millis / 100 {
            self.now += 100;
            let now = self.now * 1000;
            self.entry(Entry::Tick(now));
        }
        self
    }

    fn edge(&mut self, level: bool) -> &mut Self {
        let ns = ORIGIN_NS + self.now * 1_000_000;
        self.entry(Entry::Edges(vec![Edge { channel: LED, level, ns, sequence: 1 }]));
        self
    }

    fn lose(&mut self) -> &mut Self {
        self.entry(Entry::Loss(MAIN, Loss { offset: 0, lost: Some(7), why: "the disk was full".to_string() }));
        self
    }

    /// The verdict, which judging the log once more gives too, in pieces of any size.
    fn verdict(&self) -> Option<(Word, &str)> {
        let verdict = |out: &[Output]| match out.last() {
            Some(Output::Verdict(Judgement { word, cause })) => Some((*word, cause.clone())),
            _ => None,
        };
        for size in [1, 7, 100_000] {
            let mut again = Judge::new(self.trial.clone(), "main", values()).expect("a judge");
            let (mut decoder, mut out) = (Decoder::new(), Vec::new());
            for piece in self.log.chunks(size) {
                feed(&mut again, &mut decoder, piece, &mut out);
            }
            assert_eq!(verdict(&out), verdict(&self.out), "in pieces of {size}");
        }
        match self.out.last() {
            Some(Output::Verdict(Judgement { word, cause })) => Some((*word, cause)),
            _ => None,
        }
    }
}

const DIALOG: &str = r#""test":[{"expect":"login: ","within":"2s"},{"send":"root\n"},{"play":"press"},{"edge":"led","to":1,"within":"1s"}],
    "pass":"^ALL OK$","fail":"PANIC","silent":"3s","timeout":"20s","banner":"^Boot "#;

fn dialog() -> Board {
    Board::new(&format!("{DIALOG}\""))
}

#[test]
fn a_dialog_passes_when_all_of_it_came_in_order() {
    let mut board = dialog();
    board.print("Boot 1\r\nlogin:").pass(100).print(" ").pass(100);
    assert!(board.out.is_empty(), "a prompt is one when nothing follows it: {:?}", board.out);
    board.pass(100);
    let asked =
        [Output::Send { console: "main".to_string(), bytes: b"root\n".to_vec() }, Output::Play("press".to_string())];
    assert_eq!(board.out, asked);
    board.print("root\r\n").pass(500).edge(false).edge(true).print("ALL ").print("OK\r\n");
    assert_eq!(board.verdict(), None, "it drains first");
    board.pass(400);
    assert_eq!(board.verdict(), None);
    board.pass(100);
    assert_eq!(board.verdict(), Some((Word::Passed, "")));
    assert_eq!(board.judge.deadline(), None);
}

#[test]
fn what_a_sequence_brings_about_may_come_before_its_end_and_not_before_its_beginning() {
    for (before, during, after) in [(true, false, false), (false, true, false), (false, false, true)] {
        let mut board = dialog();
        board.works = false;
        board.print("login: \n").pass(100);
        if before {
            board.edge(true);
        }
        board.pass(100);
        let sent = Entry::Sent(MAIN, Sent::of(WRITER, b"root\n"));
        board.entry(sent);
        assert_eq!(board.out.last(), Some(&Output::Play("press".to_string())));
        board.pass(100);
        if during {
            board.edge(true);
        }
        board.pass(2000).mark(What::Play, "press");
        board.pass(900);
        if after {
            board.edge(true);
        }
        board.print("ALL OK\n").pass(700);
        let fails = (Word::TestFail, "step 4: `led` did not change to 1");
        assert_eq!(board.verdict(), Some(if before { fails } else { (Word::Passed, "") }), "{during} {after}");
    }
}

#[test]
fn what_bytes_bring_about_may_come_before_it_is_known_that_they_went_out() {
    for (before, during) in [(true, false), (false, true), (false, false)] {
        let keys = r#""test":[{"expect":"login: ","within":"2s"},{"send":"root\n"},{"edge":"led","to":1,"within":"1s"}],"pass":"ALL OK""#;
        let mut board = Board::new(keys);
        board.works = false;
        if before {
            board.edge(true);
        }
        board.pass(100).print("login: \n").pass(100);
        assert!(matches!(board.out.last(), Some(Output::Send { .. })), "{:?}", board.out);
        if during {
            board.edge(true);
        }
        board.pass(100);
        board.entry(Entry::Sent(MAIN, Sent::of(WRITER, b"root\n")));
        board.print("ALL OK\n").pass(1700);
        let fails = (Word::TestFail, "step 3: `led` did not change to 1");
        assert_eq!(board.verdict(), Some(if during { (Word::Passed, "") } else { fails }), "{before} {during}");
    }
}

#[test]
fn text_may_be_late_beside_an_edge_of_the_same_moment_by_what_an_adapter_keeps_it() {
    let text = |identity: &str, steps: &str| {
        format!(r#"{identity}"test":[{steps}{{"edge":"led","to":1,"within":"1s"}}],"pass":"ALL OK""#)
    };
    for keys in [text("", r#"{"expect":"led on","within":"2s"},"#), text(r#""identity":"led on","#, "")] {
        for (before, passes) in [(10, true), (40, false)] {
            let mut board = Board::new(&keys);
            board.pass(100).edge(true);
            board.now += before;
            board.print("led on\n").print("ALL OK\n").pass(1700);
            assert_eq!(board.verdict().map(|(word, _)| word == Word::Passed), Some(passes), "{keys} {before}");
        }
    }
    // One that was met by the step before is not met again.
    let steps = r#"{"edge":"led","to":1},{"expect":"led on","within":"2s"},"#;
    let mut board = Board::new(&text("", steps));
    board.pass(100).edge(true).print("led on\n").print("ALL OK\n").pass(1700);
    assert_eq!(board.verdict(), Some((Word::TestFail, "step 3: `led` did not change to 1")));
}

#[test]
fn each_way_to_end_has_its_word() {
    // Nothing at all.
    let mut board = dialog();
    board.pass(1900);
    assert_eq!((board.verdict(), board.judge.deadline()), (None, Some(2_001_000)), "its first step is due before that");
    board.pass(100);
    assert_eq!(board.verdict(), Some((Word::Silent, "nothing came after the reset")));
    let mut board = Board::new(r#""pass":"x","silent":"3s""#);
    board.pass(2900);
    assert_eq!(board.judge.deadline(), Some(3_001_000));
    board.pass(100);
    assert_eq!(board.verdict(), Some((Word::Silent, "nothing came after the reset")));
    // Something, and not the first step.
    let mut board = dialog();
    board.print("Boot 1\n").pass(2100);
    assert_eq!(board.verdict(), Some((Word::NoBoot, "step 1: `login: ` did not come")));
    // Again and again.
    let mut board = dialog();
    board.print("Boot 1\n").pass(300).print("Boot 1\n").pass(300).print("Boot 1\n").pass(600);
    assert_eq!(board.verdict(), Some((Word::BootLoop, "its banner came 3 times")));
    // An edge that does not come, or not that one, or too late.
    for late in [0, 1100] {
        let mut board = dialog();
        board.print("login: \n").edge(false).pass(late).edge(late > 0).pass(1500);
        assert_eq!(board.verdict(), Some((Word::TestFail, "step 4: `led` did not change to 1")));
    }
    // A failure after all was well, while it drains; with the text behind it.
    let mut board = dialog();
    board
        .print("login: \n")
        .edge(true)
        .print("ALL OK\n")
        .pass(200)
        .print("Kernel PANIC: \u{1b}[2J not syncing\n")
        .pass(300);
    let cause = "`fail` was found in `Kernel PANIC: \\u{1b}[2J not syncing`";
    assert_eq!(board.verdict(), Some((Word::TestFail, cause)));
    // All was done, and it never says so.
    let mut board = dialog();
    board.print("login: \n").edge(true).print("ALL OKAY\n").pass(20_100);
    assert_eq!(board.verdict(), Some((Word::TestFail, "its time was over before it passed")));
    // What is asked for does not happen: that is ours.
    let mut board = dialog();
    board.works = false;
    board.print("login: \n").pass(19_900);
    assert_eq!(board.verdict(), None);
    let mut board = Board::before(r#""test":[{"play":"x"}],"timeout":"1h""#);
    board.works = false;
    board.reset().print(".").pass(60_100);
    assert_eq!(board.verdict(), Some((Word::Infra, "step 1 was not played")));
}

#[test]
fn a_board_that_is_reset_in_the_middle_of_a_line_begins_that_line_anew() {
    // Its loader starts what it was given, which has said a little before we reset it.
    let keys =
        r#""identity":"^fw a.b$","test":[{"expect":"^login: $"},{"send":"x"}],"results":"tap","pass":"^ALL DONE$""#;
    let mut board = Board::new(keys);
    board.print("fw a.");
    board.mark(What::Mode, "run");
    board.print("fw a.b\nlog").pass(50);
    board.mark(What::Mode, "run");
    board.print("login: ").pass(50).print("\nTAP version 13\n1..1\nok 1 - boots\nALL DONE\n").pass(3_000);
    assert_eq!(board.verdict().map(|(word, _)| word), Some(Word::Passed));
    // Where the way ends in the middle of what it says, that is as whole as before.
    let mut board = Board::new(keys);
    board.print("fw ");
    board.mark(What::Mode, "run");
    board.print("a.b\nlogin: ").pass(50).print("\nTAP version 13\n1..1\nok 1 - boots\nALL DONE\n").pass(3_000);
    assert_eq!(board.verdict().map(|(word, _)| word), Some(Word::Passed));
}

#[test]
fn an_older_image_passes_for_nothing() {
    // Whatever came before the mark is not looked at, nor the line that it came into.
    let mut board = Board::before(r#""pass":"ALL OK","fail":"PANIC""#);
    board.print("ALL OK\nPANIC\nALL ").reset().print("OK\n").pass(1000);
    assert_eq!(board.verdict(), None);
    board.print("ALL OK\n").pass(500);
    assert_eq!(board.verdict(), Some((Word::Passed, "")));

    let keys = r#""identity":"fw ${SAI_COMMIT}","pass":"ALL OK","results":"tap","timeout":"20s""#;
    // The old firmware prints PASS, and is not the one that was flashed.
    let mut board = Board::new(keys);
    board.print("fw aXb\n1..1\nok 1\nALL OK\n").pass(20_000);
    assert_eq!(board.verdict(), Some((Word::NoBoot, "something came, and not the identity of what was flashed")));
    // The identity first, and then all that counts.
    let mut board = Board::new(keys);
    board.print("ALL OK\nok 1\nfw a.b\n").pass(500).print("1..2\nok 1\nok 2\nALL OK\n").pass(600);
    assert_eq!(board.verdict(), Some((Word::Passed, "")));
    // One that was there before proves nothing, which is said.
    let mut board = Board::before(keys);
    board.print("fw a.b\n").reset().print("fw a.b\n1..1\nok 1\nALL OK\n").pass(600);
    assert!(matches!(&board.out[0], Output::Note(note) if note.contains("proves nothing")), "{:?}", board.out);
    assert_eq!(board.verdict(), Some((Word::Passed, "")));
    assert!(Judge::new(trial(keys), "main", Map::new()).is_err(), "a value that is not there");
}

#[test]
fn results_are_counted_and_what_is_missing_is_no_success() {
    let keys = r#""results":"tap","timeout":"10s""#;
    for (text, verdict) in [
        ("1..2\nok 1 a\nok 2 b\n", (Word::Passed, "")),
        ("1..2\nok 1 a\nnot ok 2 b\n", (Word::TestFail, "1 of 2 test cases failed")),
        ("1..3\nok 1 a\nok 3 c\n", (Word::ResultLost, "2 results came of 3")),
        ("1..3\nok 1 a\nBail out! no clock\n", (Word::TestFail, "the tests were given up: Bail out! no clock")),
        ("1..3\nok 1 a\nok 2\n", (Word::TestFail, "its time was over after 2 results of 3")),
        ("1..3\nok 1 a\nnot ok 2\n", (Word::TestFail, "its time was over before it passed")),
        ("hello\n", (Word::TestFail, "its time was over after 0 results of ?")),
    ] {
        let mut board = Board::new(keys);
        board.print(text).pass(10_000);
        assert_eq!(board.verdict(), Some(verdict), "{text}");
    }
    let mut board = Board::new(keys);
    board.print("1..2\nok 1 a\nnot ok 2 b\n");
    let cases: Vec<_> =
        board.out.iter().filter_map(|out| if let Output::Case(case) = out { Some(case) } else { None }).collect();
    assert_eq!((cases[0].name.as_str(), cases[1].result), ("a", CaseResult::Failed));
    // Where the line ends, of all the console's bytes.
    assert_eq!(cases[0].at, Some("old stuff PANIC ALL OK\nhalf1..2\nok 1 a\n".len() as u64));
    // The sign of success comes, and a result is missing.
    let mut board = Board::new(r#""results":"tap","pass":"DONE""#);
    board.print("1..2\nok 1 a\nDONE\n").pass(500);
    assert_eq!(board.verdict(), Some((Word::ResultLost, "1 results came of 2")));
}

#[test]
fn what_was_lost_on_the_way_is_never_the_boards_fault() {
    let lost = "7 of serial:main lost: the disk was full";
    // It may have been what was awaited.
    let mut board = dialog();
    board.print("Boot\n").lose().pass(2100);
    assert_eq!(board.verdict(), Some((Word::Infra, format!("step 1: `login: ` did not come, and {lost}").as_str())));
    let mut board = Board::new(r#""results":"tap""#);
    board.print("1..2\nok 1\nno").lose().print("ok 2\n").pass(500);
    assert_eq!(board.verdict(), None, "a line with a hole is no result");
    board.pass(120_000);
    let cause = format!("its time was over after 1 results of 2, and {lost}");
    assert_eq!(board.verdict(), Some((Word::Infra, cause.as_str())));
    // What is there counts all the same, and so does what it says is wrong.
    let mut board = dialog();
    board.print("login: \n").lose().print("\n").edge(true).print("ALL OK\n").pass(500);
    assert_eq!(board.verdict(), Some((Word::Passed, "")));
    let mut board = dialog();
    board.lose().print("PANIC\n").pass(500);
    assert_eq!(board.verdict().map(|(word, _)| word), Some(Word::TestFail));
    // Losses of before the reset are none.
    let mut board = Board::before(r#""test":[{"expect":"x","within":"1s"}]"#);
    board.lose().reset().print("y\n").pass(1000);
    assert_eq!(board.verdict().map(|(word, _)| word), Some(Word::NoBoot));
    // A tty that goes and comes back is one thing, one that stays away another.
    let mut board = Board::new(r#""pass":"OK""#);
    board.mark(What::Unplugged, "main");
    board.pass(5000).mark(What::Back, "main");
    board.print("OK\n").pass(500);
    assert_eq!(board.verdict(), Some((Word::Passed, "")));
    let mut board = Board::new(r#""pass":"OK""#);
    board.print("..").mark(What::Unplugged, "main");
    board.pass(10_000);
    assert_eq!(board.verdict(), Some((Word::Infra, "the board did not come back, and console main was unplugged")));
    // One that is back says nothing of another.
    let mut board = Board::new(r#""pass":"OK""#);
    board.print("..").mark(What::Unplugged, "main");
    board.mark(What::Unplugged, "aux");
    board.pass(5_000).mark(What::Back, "aux");
    board.pass(4_900);
    assert_eq!(board.verdict(), None);
    board.pass(200);
    assert_eq!(board.verdict().map(|(word, _)| word), Some(Word::Infra));
    let mut board = Board::new(r#""pass":"OK""#);
    board.mark(What::Suspend, "");
    assert_eq!(board.verdict(), Some((Word::Infra, "the machine slept during the test")));
}

#[test]
fn what_was_captured_is_used_by_later_steps_and_means_itself() {
    let keys = r#""test":[{"expect":"ip=(?P<ip>[^ ]+) n=(?P<n>[0-9]+)"},{"send":"ping ${ip} é\n"},{"expect":"^reply ${ip}$"},{"wait":"300ms"},{"send":"$"}]"#;
    let mut board = Board::new(keys);
    board.print("ip=1.*\u{e9} n=12");
    assert_eq!(board.out, [], "the number may go on");
    board.print("3\n");
    let first = Output::Send { console: "main".to_string(), bytes: "ping 1.*\u{e9} é\n".as_bytes().to_vec() };
    assert_eq!(board.out, [first]);
    board.print("reply 1.2\u{e9}\n");
    assert_eq!(board.out.len(), 1);
    board.print("reply 1.*\u{e9}\n").pass(200);
    assert_eq!(board.out.len(), 1, "it waits");
    board.pass(100).pass(500);
    assert_eq!(board.out[1], Output::Send { console: "main".to_string(), bytes: b"$".to_vec() });
    assert_eq!(board.verdict(), Some((Word::Passed, "")));
}

#[test]
fn other_rules_that_would_have_sent_something_else_cannot_be_known() {
    let mut board = dialog();
    board.print("login: \n").edge(true).print("ALL OK\n").pass(600);
    assert_eq!(board.verdict(), Some((Word::Passed, "")));
    let again = |keys: &str| {
        let mut judge = Judge::new(trial(keys), "main", values()).expect("a judge");
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        feed(&mut judge, &mut decoder, &board.log, &mut out);
        judge.handle(board.now * 1000, Input::End, &mut out);
        out.pop().expect("an end")
    };
    let same = format!("{DIALOG}\"");
    assert!(matches!(again(&same), Output::Verdict(Judgement { word: Word::Passed, .. })));
    // Stricter about what came: known.
    let stricter = same.replace("^ALL OK$", "^ALL VERY WELL$").replace("20s", "500ms");
    assert!(
        matches!(again(&stricter), Output::Verdict(Judgement { word: Word::TestFail, .. })),
        "{:?}",
        again(&stricter)
    );
    // Others would have been sent, or more of them.
    for (from, to) in
        [("root", "toor"), ("{\"send\":\"root\\n\"},", ""), ("\"root\\n\"}", "\"root\\n\"},{\"send\":\"x\"}")]
    {
        let changed = same.replace(from, to);
        assert_ne!(changed, same);
        assert!(matches!(again(&changed), Output::Unknowable(_)), "{to}: {:?}", again(&changed));
    }
}

#[test]
fn a_trial_that_is_wrong_is_told_where() {
    for (text, expected) in [
        (r#"{"type":"t"}"#, "F:1:1: board: expected one of the keys test, results, pass: what says that all is well"),
        (r#"{"pass":"x"}"#, "F:1:1: board: expected a key type"),
        (
            r#"{"type":"t","pass":"("}"#,
            "F:1:20: board.pass: expected a regular expression: found open group without closing ')'",
        ),
        (
            r#"{"type":"t","pass":"x","tests":[]}"#,
            "F:1:24: board.tests: expected one of type, tags, flash, unverified, console, identity, test, results, pass, fail, banner, banners, silent, timeout",
        ),
        (
            r#"{"type":"t","results":"junit"}"#,
            "F:1:23: board.results: expected one of tap, ctest, ztest, unity, gtest, libtest",
        ),
        (
            r#"{"type":"t","test":[{"expect":"a","to":1}]}"#,
            "F:1:40: board.test[0].to: expected no `to` beside `expect`",
        ),
        (
            r#"{"type":"t","test":[{"expect":"a","send":"b"}]}"#,
            "F:1:42: board.test[0].send: expected only one of the keys expect, send",
        ),
        (r#"{"type":"t","test":[{"edge":"led"}]}"#, "F:1:21: board.test[0]: expected a key to: the level, 0 or 1"),
        (
            r#"{"type":"t","test":[{"send":"${x}"}]}"#,
            "F:1:29: board.test[0].send: expected one of SAI_PROJECT, SAI_REF, SAI_COMMIT, SAI_PLATFORM, SAI_CONFIGURATION, or what a step before has captured, found ${x}",
        ),
        (
            r#"{"type":"t","test":[{"wait":"5"}]}"#,
            "F:1:29: board.test[0].wait: expected a time like \"500ms\", \"20s\", \"2m\" or \"1h\"",
        ),
        (r#"{"type":"t","test":"x"}"#, "F:1:20: board.test: expected an array of at most 1000 steps"),
        (
            r#"{"type":"t","pass":"x","identity":"${ip}"}"#,
            "F:1:35: board.identity: expected one of SAI_PROJECT, SAI_REF, SAI_COMMIT, SAI_PLATFORM, SAI_CONFIGURATION, or what a step before has captured, found ${ip}",
        ),
        (
            r#"{"type":"t","pass":"x","flash":"../x"}"#,
            "F:1:32: board.flash: expected the path of an image, relative and without `..`",
        ),
        (
            r#"{"type":"t","pass":"x","flash":{"app":"/x"}}"#,
            "F:1:39: board.flash.app: expected the path of an image, relative and without `..`",
        ),
        (r#"[]"#, "F:1:1: board: expected an object"),
    ] {
        assert_eq!(read(text).expect_err(text), [expected], "{text}");
    }
    let long = trial(r#""pass":"x","timeout":"2h","flash":{"app":"a.bin","data":"b/c.img"}"#);
    assert_eq!((long.timeout_ms, long.images.len()), (7_200_000, 2));
}

#[test]
fn a_board_that_babbles_for_ever_costs_no_memory_and_time_by_its_bytes() {
    let started = std::time::Instant::now();
    let keys = r#""test":[{"edge":"led","to":1,"within":"1h"},{"expect":"(a*)*never"}],"fail":"(x+x+)+y","results":"tap","banner":"^\\x00","timeout":"1h""#;
    let mut board = Board::before(keys);
    board.reset();
    let (mut judge, mut out) = (board.judge.clone(), Vec::new());
    let noise: Vec<u8> = (0..64 * 1024)
        .map(|at: u32| if at.is_multiple_of(5000) { b'\n' } else { b"xa\0\x1b\xff"[at as usize % 5] })
        .collect();
    for round in 0..32_u64 {
        judge.handle(round * 1000, Input::Bytes(MAIN, &noise), &mut out);
        judge.handle(round * 1000, Input::Entry(&Entry::Tick(round * 1000)), &mut out);
        let edges = vec![Edge { channel: LED, level: false, ns: 0, sequence: 0 }; 4096];
        judge.handle(round * 1000, Input::Entry(&Entry::Edges(edges)), &mut out);
    }
    assert_eq!(out, []);
    // Byte by byte, with a tick behind each.
    for at in 0..20_000_u64 {
        judge.handle(at, Input::Bytes(MAIN, b"x"), &mut out);
        if at.is_multiple_of(100) {
            judge.handle(at, Input::Entry(&Entry::Tick(at)), &mut out);
        }
    }
    assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
}
