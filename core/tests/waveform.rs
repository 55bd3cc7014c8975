//! A board's log as it is drawn: which level a line is shown at when, what is shown where nobody has seen anything, and how much that is at most.

use sai_core::axis::{Case, CaseResult, Clock, EDGES_MAX, Edge, Entry, Loss, Mark, What};
use sai_core::record::{ChannelStart, Decoder, Item, Record, StepStart, encode};
use sai_core::waveform::{COLUMNS, Drawing, Extent, Kind, Piece, Plot, ROWS, Row, Shown, TOLD, Window};

const ORIGIN: u64 = 7_000_000_000;
const MS: u64 = 1_000_000;

/// A log under construction.
struct Log(Vec<u8>);

impl Log {
    /// One with these channels, from 3 on, whose clock began when the job did.
    fn new(channels: &[&str]) -> Log {
        let mut log = Log(Vec::new());
        for (index, name) in channels.iter().enumerate() {
            log.record(0, &Record::Channel(3 + index as u8, ChannelStart { name: (*name).to_string() }));
        }
        log.happens(0, Entry::Clock(Clock { monotonic_ns: ORIGIN, boottime_ns: 0, realtime_ns: 0 }));
        log
    }

    fn record(&mut self, micros: u64, record: &Record) {
        encode(record, micros, &mut self.0);
    }

    fn happens(&mut self, micros: u64, entry: Entry) {
        entry.encode(micros, &mut self.0);
    }

    /// An edge of a channel; its record comes a millisecond later.
    fn edge(&mut self, channel: u8, ns: u64, level: bool, sequence: u32) {
        self.happens(ns / 1000 + 1000, Entry::Edges(vec![Edge { channel, level, ns: ORIGIN + ns, sequence }]));
    }

    fn lost(&mut self, channel: u8, ns: u64, offset: u64, lost: Option<u64>) {
        self.happens(ns / 1000, Entry::Loss(channel, Loss { offset, lost, why: "too fast".to_string() }));
    }

    fn each(&self, mut take: impl FnMut(&Item<'_>)) {
        Decoder::new().push(&self.0, |item| take(&item)).expect("a log");
    }

    fn extent(&self, line: Option<u64>) -> Extent {
        let mut extent = Extent::new(line);
        self.each(|item| extent.take(item));
        extent
    }

    fn drawn(&self, wanted: Option<(u64, u64)>, columns: usize) -> Drawing {
        let end = self.extent(None).end;
        let mut plot = Plot::new(Window::of(wanted, end, None), columns, end);
        self.each(|item| plot.take(item));
        plot.finish()
    }
}

/// What a row shows at a moment.
fn at(row: &Row, ns: u64) -> Option<Shown> {
    row.pieces.iter().find(|piece| piece.from <= ns && ns < piece.to).map(|piece| piece.what)
}

/// Pieces of a line follow one another.
fn follow(row: &Row) {
    for pair in row.pieces.windows(2) {
        assert_eq!(pair[0].to, pair[1].from, "{row:?}");
        assert!(pair[0].what != pair[1].what || matches!(pair[0].what, Shown::Block { .. }), "{row:?}");
    }
}

const HIGH: Option<Shown> = Some(Shown::Level(true));
const LOW: Option<Shown> = Some(Shown::Level(false));

#[test]
fn a_line_is_at_its_level_between_its_edges_whatever_the_window() {
    let mut log = Log::new(&["line:led"]);
    let edges = [(10 * MS, true), (20 * MS, false), (20 * MS + 1, true), (60 * MS, false)];
    for (number, (ns, level)) in edges.iter().enumerate() {
        log.edge(3, *ns, *level, number as u32 + 1);
    }
    log.happens(100_000, Entry::Tick(100_000));
    for wanted in
        [None, Some((0, 100 * MS)), Some((5 * MS, 70 * MS)), Some((19 * MS, 21 * MS)), Some((30 * MS, 40 * MS))]
    {
        for columns in [1, 7, 100, 1200] {
            let drawing = log.drawn(wanted, columns);
            let row = &drawing.rows[0];
            follow(row);
            let Window { from, to } = drawing.window;
            assert_eq!((row.pieces[0].from, row.pieces.last().unwrap().to), (from, to), "{wanted:?} {columns}");
            for step in 0..1000 {
                let ns = from + (to - from) * step / 1000;
                let level = edges.iter().rev().find(|(at, _)| *at <= ns).map(|(_, level)| Shown::Level(*level));
                match at(row, ns) {
                    Some(Shown::Block { count, lossy }) => assert!(count > 1 && !lossy, "{wanted:?} {columns} {ns}"),
                    shown => assert_eq!(shown, level.or(Some(Shown::Unseen)), "{wanted:?} {columns} {ns}"),
                }
            }
        }
    }
    // One edge stands where it was, to the nanosecond.
    let drawing = log.drawn(Some((0, 15 * MS)), 3);
    let edge = Piece { from: 10 * MS, to: 15 * MS, what: Shown::Level(true) };
    assert_eq!(drawing.rows[0].pieces, [Piece { from: 0, to: 10 * MS, what: Shown::Unseen }, edge]);
}

#[test]
fn what_nobody_has_seen_is_never_drawn_as_a_level() {
    // The kernel's numbers say that edges are missing between the second and the third.
    let mut log = Log::new(&["line:a", "line:b", "line:c"]);
    log.edge(3, 10 * MS, true, 1);
    log.edge(3, 20 * MS, false, 2);
    log.edge(3, 50 * MS, true, 9);
    log.lost(3, 50 * MS, 2, Some(6));
    // A line without numbers: from the loss to the next edge.
    log.edge(4, 10 * MS, true, 0);
    log.lost(4, 30 * MS, 0, None);
    log.edge(4, 60 * MS, false, 0);
    // What is missing at the end has no edge behind it.
    log.edge(5, 10 * MS, true, 1);
    log.lost(5, 40 * MS, 1, Some(100));
    log.happens(100_000, Entry::Tick(100_000));
    for columns in [10, 100, 1000] {
        let drawing = log.drawn(Some((0, 100 * MS)), columns);
        drawing.rows.iter().for_each(follow);
        let [a, b, c] = &drawing.rows[..] else { panic!("{drawing:?}") };
        let shown = |row, moments: &[u64]| moments.iter().map(|ms| at(row, ms * MS + MS / 2)).collect::<Vec<_>>();
        let (lost, unseen) = (Some(Shown::Lost), Some(Shown::Unseen));
        assert_eq!(shown(a, &[5, 15, 35, 45, 65]), [unseen, HIGH, lost, lost, HIGH], "{columns}");
        assert_eq!(shown(b, &[5, 15, 25, 45, 75]), [unseen, HIGH, HIGH, lost, LOW], "{columns}");
        assert_eq!(shown(c, &[5, 15, 35, 45, 95]), [unseen, HIGH, HIGH, lost, lost], "{columns}");
        // Losses are on the axis, too.
        let losses = drawing.marks.iter().filter(|mark| mark.kind == Kind::Loss);
        assert_eq!(losses.map(|mark| mark.text.clone()).next().as_deref(), Some("b: an unknown number lost, too fast"));
    }
    // Where a window begins in between it is the same.
    let drawing = log.drawn(Some((30 * MS, 40 * MS)), 100);
    assert_eq!(at(&drawing.rows[0], 35 * MS), Some(Shown::Lost));
    assert_eq!(drawing.rows[0].pieces.len(), 1);
}

#[test]
fn a_hundred_thousand_edges_are_a_bounded_drawing() {
    let mut log = Log::new(&["line:fast", "line:slow"]);
    let mut edges = Vec::new();
    for number in 0..100_000_u32 {
        // Bursts with rests between them.
        let ns = u64::from(number) * 10_000 + u64::from(number / 1000) * 20 * MS;
        edges.push(Edge { channel: 3, level: number.is_multiple_of(2), ns: ORIGIN + ns, sequence: number + 1 });
    }
    for edges in edges.chunks(EDGES_MAX) {
        log.happens((edges[0].ns - ORIGIN) / 1000, Entry::Edges(edges.to_vec()));
    }
    log.edge(4, 500 * MS, true, 1);
    let all = log.drawn(None, COLUMNS);
    assert_eq!((all.edges, all.rows[0].count, all.told.len()), (100_001, 100_000, TOLD));
    let blocks: u64 = all.rows[0]
        .pieces
        .iter()
        .map(|piece| if let Shown::Block { count, .. } = piece.what { count } else { 0 })
        .sum();
    assert!(blocks > 99_000, "{blocks}");
    assert!(all.rows[0].pieces.len() < 2 * COLUMNS + 2, "{}", all.rows[0].pieces.len());
    follow(&all.rows[0]);
    // Each rest is seen: the line keeps its level in it.
    let rests = all.rows[0].pieces.iter().filter(|piece| matches!(piece.what, Shown::Level(_))).count();
    assert!(rests >= 99, "{rests}");
    // Near enough, each edge is one.
    let near = log.drawn(Some((0, MS)), COLUMNS);
    assert!(
        near.rows[0].pieces.len() >= 100
            && near.rows[0].pieces.iter().all(|piece| matches!(piece.what, Shown::Level(_)))
    );
    assert_eq!(near.told.len(), TOLD);
}

#[test]
fn marks_cases_and_consoles_are_on_the_same_axis_with_the_lines_of_the_log() {
    let mut log = Log::new(&["serial:main", "line:led", "stdout"]);
    log.record(1000, &Record::StepStart(StepStart { step: 2, text: "test\nmore".to_string() }));
    let mark = Mark {
        what: What::Reset,
        name: Some("<b>".to_string()),
        text: None,
        offsets: None,
        judged: Some(true),
        away_ms: None,
    };
    log.happens(10_000, Entry::Mark(mark));
    log.record(20_000, &Record::Data(3, b"boot\nrea".to_vec()));
    log.record(21_000, &Record::Data(5, b"aside\n".to_vec()));
    log.record(30_000, &Record::Data(3, b"dy\nok 1\n".to_vec()));
    log.edge(4, 35 * MS, true, 1);
    let case = |name: &str, result| Entry::Case(Case { name: name.to_string(), result, at: None, text: None });
    log.happens(40_000, case("adds", CaseResult::Passed));
    log.happens(40_000, case("counts", CaseResult::Failed));
    log.happens(40_000, case("waits", CaseResult::Skipped));
    log.record(50_000, &Record::Data(3, b"end\n".to_vec()));
    let drawing = log.drawn(None, 50);
    // Lines come first.
    let names: Vec<_> = drawing.rows.iter().map(|row| (row.name.as_str(), row.is_line, row.count)).collect();
    assert_eq!(names, [("led", true, 1), ("main", false, 20)]);
    let said: Vec<_> = drawing.rows[1].pieces.iter().map(|piece| (piece.from / MS, piece.what)).collect();
    let block = |count| Shown::Block { count, lossy: false };
    assert_eq!(said, [(20, block(8)), (30, block(8)), (49, block(4))]);
    let marks: Vec<_> =
        drawing.marks.iter().map(|mark| (mark.at / MS, mark.kind, mark.text.as_str(), mark.line)).collect();
    assert_eq!(marks, [(1, Kind::Step, "step 3: test", 0), (10, Kind::Mark, "reset <b>", 0)]);
    let [case] = &drawing.cases[..] else { panic!("{:?}", drawing.cases) };
    assert_eq!((case.kind, case.text.as_str(), case.more, case.line), (Kind::Failed, "failed counts", 2, 4));
    // From a moment to the line of the log, and back.
    assert_eq!(drawing.lines, [(0, 0), (20 * MS, 2), (21 * MS, 3), (30 * MS, 4), (50 * MS, 5)]);
    assert_eq!(drawing.told[0].line, 4);
    for (line, ms) in [(1, 20), (2, 20), (3, 21), (4, 30), (5, 50)] {
        assert_eq!(log.extent(Some(line)).moment, Some(ms * MS), "{line}");
    }
    assert_eq!(log.extent(Some(6)).moment, None);
    assert!(log.extent(None).has_lines && !Log::new(&["serial:main"]).extent(None).has_lines);
}

#[test]
fn an_edge_is_told_with_the_line_that_was_there_when_it_came_however_narrow_a_column_is() {
    let mut log = Log::new(&["serial:main", "line:led"]);
    // All within one column, and told of afterwards.
    for (micros, said) in [(100_000, "one\n"), (100_100, "two\n"), (100_200, "three\n")] {
        log.record(micros, &Record::Data(3, said.into()));
    }
    log.edge(4, 100_050_000, true, 1);
    log.edge(4, 100_150_000, false, 2);
    for index in 0..20 {
        log.record(200_000 + index, &Record::Data(3, b"more\n".to_vec()));
    }
    log.edge(4, 201_000_000, true, 3);
    log.record(9_000_000, &Record::Data(3, b"end\n".to_vec()));
    let drawing = log.drawn(None, COLUMNS);
    let told: Vec<_> = drawing.told.iter().map(|told| told.line).collect();
    assert_eq!(told, [1, 2, 23]);
    let begun = |line: u64| drawing.lines.iter().find(|(_, known)| *known == line).map(|(at, _)| at / 1000);
    assert_eq!([1, 2, 3, 24].map(begun), [Some(100_000), Some(100_100), Some(100_200), Some(9_000_000)]);
    // However many there are, what is drawn is not more.
    assert_eq!(drawing.lines.len(), 9);
}

#[test]
fn windows_stay_within_the_log_and_go_to_and_fro() {
    let end = 1000 * MS;
    let of = |wanted, moment| Window::of(wanted, end, moment);
    let window = |from, to| Window { from, to };
    assert_eq!(of(None, None), window(0, end));
    for nonsense in [(5, 5), (9, 3), (end, end + 5), (u64::MAX - 1, u64::MAX)] {
        assert_eq!(of(Some(nonsense), None), window(0, end), "{nonsense:?}");
    }
    assert_eq!(of(Some((100, u64::MAX)), None), window(100, end));
    // No shorter than a microsecond, and no longer than the log.
    assert_eq!(of(Some((end - 1, end)), None), window(end - 1000, end));
    assert_eq!(Window::of(None, 0, None), window(0, 1000));
    // A moment that is outside comes to the middle, as far as that goes.
    assert_eq!(of(Some((0, 100 * MS)), Some(500 * MS)), window(450 * MS, 550 * MS));
    assert_eq!(of(Some((0, 100 * MS)), Some(40 * MS)), window(0, 100 * MS));
    assert_eq!(of(Some((500 * MS, 600 * MS)), Some(0)), window(0, 100 * MS));
    let some = window(400 * MS, 600 * MS);
    assert_eq!(some.nearer(end), window(450 * MS, 550 * MS));
    assert_eq!(some.nearer(end).farther(end), some);
    assert_eq!((some.earlier(), some.later(end)), (window(300 * MS, 500 * MS), window(500 * MS, 700 * MS)));
    assert_eq!(window(0, 600 * MS).farther(end), window(0, 900 * MS));
    assert_eq!((window(0, 10).earlier(), window(end - 10, end).later(end)), (window(0, 10), window(end - 10, end)));
    let mut window = of(None, None);
    for _ in 0..80 {
        window = window.nearer(end);
    }
    assert_eq!(window.span(), 1000);
    for _ in 0..80 {
        window = window.farther(end);
        assert!(window.to <= end);
    }
    assert_eq!(window, of(None, None));
}

#[test]
fn ticks_are_round_and_few() {
    for (from, to, most, step, ticks) in [
        (0, 1000 * MS, 6, 200 * MS, vec![0, 200, 400, 600, 800, 1000]),
        (130 * MS, 270 * MS, 6, 50 * MS, vec![150, 200, 250]),
        (0, 59_000 * MS, 6, 10_000 * MS, vec![0, 10_000, 20_000, 30_000, 40_000, 50_000]),
    ] {
        let told = Window { from, to }.ticks(most);
        assert_eq!(told, (step, ticks.iter().map(|ms| ms * MS).collect::<Vec<_>>()), "{from} {to}");
    }
    let (_, ticks) = Window { from: 0, to: u64::MAX }.ticks(6);
    assert!(ticks.len() <= 7 && ticks.len() > 1, "{ticks:?}");
    assert_eq!(Window { from: 7, to: 1007 }.ticks(6), (200, vec![200, 400, 600, 800, 1000]));
}

#[test]
fn whatever_a_log_says_the_drawing_is_bounded_and_stays_in_its_window() {
    // A small generator, so that the same seed gives the same log.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for round in 0..200 {
        let names: Vec<String> =
            (0..random(60)).map(|n| format!("{}{n}", ["line:", "serial:", "x"][n as usize % 3])).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut log = Log::new(&names);
        for _ in 0..random(400) {
            // Edges step back, repeat a level or a number, and are of channels that there are not.
            let (channel, bits) = (random(70) as u8, random(40));
            let ns = random(u64::MAX >> bits);
            match random(4) {
                0 => log.lost(channel, ns, random(50), None),
                1 if usize::from(channel) < names.len() => {
                    log.record(ns / 1000, &Record::Data(3 + channel, b"x\ny".to_vec()));
                }
                _ => log.edge(channel, ns.min(u64::MAX - ORIGIN), random(2) == 0, random(30) as u32),
            }
        }
        let from = random(u64::MAX);
        let (span, columns) = (random(1 << 40), 1 + random(300) as usize);
        let drawing = log.drawn(Some((from, from.saturating_add(span))), columns);
        let Window { from, to } = drawing.window;
        assert!(drawing.rows.iter().filter(|row| row.is_line).count() <= ROWS, "{round}");
        for row in &drawing.rows {
            assert!(row.pieces.len() <= 602, "{round}: {}", row.pieces.len());
            assert!(
                row.pieces.iter().all(|piece| from <= piece.from && piece.from < piece.to && piece.to <= to),
                "{round}"
            );
            assert!(row.pieces.windows(2).all(|pair| pair[0].to <= pair[1].from), "{round}: {row:?}");
        }
        assert!(drawing.marks.len() <= 300 && drawing.lines.windows(2).all(|pair| pair[0] < pair[1]), "{round}");
    }
}
