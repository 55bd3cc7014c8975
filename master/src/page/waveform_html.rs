//! Wave → the figure of a board's lines: an SVG that is read without a script, links that go to and fro in time, and what happened in words.
//!
//! Names and axes are in pixels and keep their shape, the traces are stretched to the width that there is. What is chosen or pointed at is
//! the script's, which asks for the same figure again.

use super::assets;
use super::html::Html;
use super::layout::{Here, Layout, job_title};
use super::views::{JobView, Visitor};
use super::waveform::Wave;
use crate::units;
use sai_core::waveform::{COLUMNS, Drawing, Event, Kind, Row, Shown, Told, Window};
use std::fmt::Write as _;

/// Units of the width of a trace: a hundred a column.
const WIDTH: u64 = COLUMNS as u64 * 100;
/// Moments on the axis at most.
const TICKS: u64 = 6;
/// Pixels of the axis, of a row of marks, and of a line or console with its name.
const AXIS: u64 = 20;
const FLAGS: u64 = 26;
const ROW: u64 = 38;
/// Pixels of a trace, and of its name above it.
const TRACE: u64 = 18;
const NAME: u64 = 15;
/// What two names of marks are apart at least, in parts of [`PARTS`].
const APART: u64 = 160_000;
/// Parts of the width that a moment is placed by.
const PARTS: u64 = 1_000_000;
/// Events that are listed beside the edges.
const LISTED: usize = 100;

/// The page of a waveform alone.
pub fn page(view: &JobView, wave: Option<&Wave>, visitor: &Visitor) -> String {
    let title = format!("Waveform of {}", job_title(&view.job));
    Layout { title: &title, state: None, here: Here::Elsewhere, visitor, live: None }.page(|html| {
        html.element("div").class("head").with(|html| {
            html.element("p").class("crumbs").with(|html| {
                html.element("a").href("/").text("Events");
                html.text(" / ");
                html.element("a").href(attempt(view)).show(format_args!("job {}", view.key()));
            });
            html.element("h1").text("Waveform");
        });
        match wave {
            Some(wave) => section(html, view, wave, &format!("{}/waveform", attempt(view))),
            None => html.element("p").class("empty").text("No line of a board is in the log of this attempt yet."),
        }
    })
}

fn attempt(view: &JobView) -> String {
    format!("/job/{}/{}", view.job.id, view.attempt)
}

/// Where links lead to.
struct Address<'a> {
    page: &'a str,
    marks: [Option<u64>; 2],
}

impl Address<'_> {
    fn of(&self, window: Window) -> String {
        self.with(window, self.marks)
    }

    fn with(&self, window: Window, marks: [Option<u64>; 2]) -> String {
        let mut address = format!("{}?from={}&to={}", self.page, window.from, window.to);
        for (name, at) in ["a", "b"].iter().zip(marks) {
            if let Some(at) = at {
                let _ = write!(address, "&{name}={at}");
            }
        }
        address.push_str("#wave");
        address
    }
}

/// The figure of a job's page, or as long as there is none and its lines may come, the place for it.
pub fn of_job(html: &mut Html, view: &JobView, wave: Option<&Wave>) {
    let page = attempt(view);
    match wave {
        Some(wave) => section(html, view, wave, &page),
        None if view.live() && view.job.board.is_some() => {
            let section =
                |html: &mut Html| html.element("p").class("muted").text("No line of a board is in the log yet.");
            looks(html);
            html.element("section")
                .id("wave")
                .class("panel wave")
                .flag("hidden", true)
                .attribute("data-attempt", &page)
                .attribute("data-grows", 1)
                .with(section);
        }
        None => {}
    }
}

/// What a figure needs.
fn looks(html: &mut Html) {
    html.element("link").attribute("rel", "stylesheet").href(assets::address("wave.css")).empty();
    html.element("script").attribute("src", assets::address("wave.js")).flag("defer", true).empty();
}

/// The figure, on the page at this address.
pub fn section(html: &mut Html, view: &JobView, wave: &Wave, page: &str) {
    let Drawing { window, end, edges, .. } = wave.drawing;
    let address = Address { page, marks: wave.marks };
    looks(html);
    html.element("section")
        .id("wave")
        .class("panel wave")
        .attribute("aria-label", "Waveform")
        .attribute("data-attempt", attempt(view))
        .attribute("data-from", window.from)
        .attribute("data-to", window.to)
        .attribute("data-end", end)
        .attribute("data-lines", pairs(&wave.drawing.lines, window.from))
        .maybe("data-grows", view.live().then_some(1))
        .maybe("data-a", wave.marks[0])
        .maybe("data-b", wave.marks[1])
        .with(|html| {
            html.element("div").class("tools").with(|html| {
                html.element("h2").text("Waveform");
                let (step, _) = window.ticks(TICKS);
                let (from, to) = (fine(window.from, step), fine(window.to, step));
                html.element("span")
                    .class("muted")
                    .show(format_args!("{from} to {to}, {}", units::counted(edges, "edge")));
                moves(html, window, end, &address);
                html.element("a").href(format_args!("{}/log.vcd", attempt(view))).text("VCD");
            });
            html.element("p").id("wave-told").attribute("role", "status").with(|html| {
                html.element("span").class("marks").with(|html| told_marks(html, wave));
                if let Some((line, at)) = wave.line {
                    html.text(" ");
                    html.element("span").class("muted").show(format_args!("line {line} of the log at {}", exact(at)));
                }
            });
            html.element("div").id("wave-view").with(|html| picture(html, wave));
            if wave.drawing.left_out > 0 {
                html.element("p")
                    .class("muted")
                    .show(format_args!("and {} more lines and consoles", wave.drawing.left_out));
            }
            list(html, view, wave, &address);
        });
}

/// Moments, as how long each is after the one before, and the line of output that is the last one from then on.
fn pairs(lines: &[(u64, u64)], from: u64) -> String {
    let (mut text, mut before) = (String::new(), from);
    for (at, line) in lines {
        let _ = write!(text, "{}{}:{line}", if text.is_empty() { "" } else { " " }, at.saturating_sub(before));
        before = *at;
    }
    text
}

/// Links to other parts of the time.
fn moves(html: &mut Html, window: Window, end: u64, address: &Address<'_>) {
    let all = Window::of(None, end, None);
    html.element("nav").class("filter").attribute("aria-label", "Time shown").with(|html| {
        for (word, to) in [
            ("All", all),
            ("Earlier", window.earlier()),
            ("Later", window.later(end)),
            ("Zoom in", window.nearer(end)),
            ("Zoom out", window.farther(end)),
        ] {
            // What would change nothing is no link, but where one knows it.
            match to == window {
                true if word == "All" => {
                    html.element("a").href(address.of(to)).attribute("aria-current", "true").text(word)
                }
                true => html.element("span").text(word),
                false => html.element("a").href(address.of(to)).text(word),
            }
        }
    });
}

/// The two moments that are marked, and how far they are apart.
fn told_marks(html: &mut Html, wave: &Wave) {
    let mut between = "";
    let mut one = |html: &mut Html, name: &str, at: Option<u64>| {
        if let Some(at) = at {
            html.text(between);
            html.element("b").text(name);
            html.show(format_args!(" {}", exact(at)));
            between = ", ";
        }
    };
    let [a, b] = wave.marks;
    one(html, "A", a);
    one(html, "B", b);
    if let (Some(a), Some(b)) = (a, b) {
        html.text(", apart ").text(&distance(a.abs_diff(b)));
    }
}

/// A place in the picture, as a part of its width.
fn percent(window: Window, at: u64) -> String {
    let place = window.place(at, PARTS);
    format!("{}.{:04}%", place / 10_000, place % 10_000)
}

fn picture(html: &mut Html, wave: &Wave) {
    let Drawing { window, rows, marks, cases, .. } = &wave.drawing;
    let mut height = AXIS;
    let flags = [("marks", marks.as_slice(), !marks.is_empty()), ("test cases", cases.as_slice(), !cases.is_empty())];
    height += FLAGS * flags.iter().filter(|(.., any)| *any).count() as u64 + ROW * rows.len() as u64;
    html.element("svg")
        .attribute("role", "img")
        .attribute("aria-labelledby", "wave-title wave-desc")
        .attribute("width", "100%")
        .attribute("height", height)
        .with(|html| {
            html.element("title").id("wave-title").text("Waveform of the board's lines");
            html.element("desc").id("wave-desc").with(|html| described(html, wave));
            let (step, ticks) = window.ticks(TICKS);
            for (index, at) in ticks.iter().enumerate() {
                let place = percent(*window, *at);
                line(html, "grid", &place, AXIS, height);
                // What is at an edge of the picture would be cut off.
                let anchor = match window.place(*at, PARTS) {
                    ..40_000 => "start",
                    960_000.. => "end",
                    _ => "middle",
                };
                html.element("text")
                    .class(if index % 2 == 1 { "tick odd" } else { "tick" })
                    .attribute("x", &place)
                    .attribute("y", 13)
                    .attribute("text-anchor", anchor)
                    .text(&fine(*at, step));
            }
            let mut top = AXIS;
            for (name, events, any) in flags {
                if any {
                    flag_row(html, (name, events), *window, top, height);
                    top += FLAGS;
                }
            }
            for row in rows {
                trace(html, row, *window, top);
                top += ROW;
            }
            if let Some((_, at)) = wave.line {
                line(html, "of-line", &percent(*window, at), AXIS, height);
            }
            for (name, at) in ["A", "B"].iter().zip(wave.marks) {
                let seen = at.filter(|at| *at >= window.from && *at <= window.to);
                let place = percent(*window, seen.unwrap_or(window.from));
                html.element("g").class(format_args!("set {name}")).flag("hidden", seen.is_none()).with(|html| {
                    line(html, "at", &place, AXIS, height);
                    html.element("text").attribute("x", &place).attribute("y", AXIS + 10).attribute("dx", 3).text(name);
                });
            }
            html.element("line")
                .class("cursor")
                .attribute("y1", AXIS)
                .attribute("y2", height)
                .flag("hidden", true)
                .empty();
            html.element("rect")
                .class("choice")
                .attribute("y", AXIS)
                .attribute("width", 0)
                .attribute("height", height - AXIS)
                .flag("hidden", true)
                .empty();
        });
}

fn line(html: &mut Html, class: &str, place: &str, top: u64, bottom: u64) {
    html.element("line")
        .class(class)
        .attribute("x1", place)
        .attribute("x2", place)
        .attribute("y1", top)
        .attribute("y2", bottom)
        .empty();
}

/// The picture in words.
fn described(html: &mut Html, wave: &Wave) {
    let Drawing { window, rows, marks, cases, .. } = &wave.drawing;
    html.show(format_args!("From {} to {} since the job began. ", exact(window.from), exact(window.to)));
    for row in rows {
        html.text(&row.name);
        if row.is_line {
            html.show(format_args!(": {}", units::counted(row.count, "edge")));
            let ends = |piece: Option<&sai_core::waveform::Piece>| match piece.map(|piece| piece.what) {
                Some(Shown::Level(level)) => {
                    if level {
                        "1"
                    } else {
                        "0"
                    }
                }
                Some(Shown::Block { .. }) => "changing",
                Some(Shown::Lost) => "not known, as edges were lost",
                Some(Shown::Unseen) | None => "not known",
            };
            let (first, last) = (ends(row.pieces.first()), ends(row.pieces.last()));
            html.show(format_args!(", {first} at first, {last} at last"));
        } else {
            html.show(format_args!(": {}", units::counted(row.count, "byte")));
        }
        html.text(". ");
    }
    html.show(format_args!("{} marks and {} test cases.", marks.len(), cases.len()));
}

fn class(event: &Event) -> &'static str {
    match event.kind {
        Kind::Failed => "failed",
        Kind::Case => "case",
        Kind::Loss => "loss",
        Kind::Mark => "mark",
        Kind::Step => "step",
        Kind::Sent => "sent",
    }
}

fn and_more(event: &Event) -> String {
    if event.more > 0 { format!(" and {} more", event.more) } else { String::new() }
}

/// A row of what happened, each with a line down to the bottom; it is named where there is room for it.
fn flag_row(html: &mut Html, (name, events): (&str, &[Event]), window: Window, top: u64, bottom: u64) {
    let mut room_from = 0;
    html.element("g").attribute("data-row", name).with(|html| {
        for (index, event) in events.iter().enumerate() {
            let next = events.get(index + 1).map_or(u64::MAX, |next| window.place(next.at, PARTS));
            let (place, at) = (window.place(event.at, PARTS), percent(window, event.at));
            html.element("g").class(format_args!("flag {}", class(event))).with(|html| {
                html.element("title").show(format_args!("{}{} at {}", event.text, and_more(event), exact(event.at)));
                if !matches!(event.kind, Kind::Case | Kind::Sent) {
                    line(html, "down", &at, top + 12, bottom);
                }
                html.element("circle").attribute("cx", &at).attribute("cy", top + 15).attribute("r", 3).empty();
                let last = place > PARTS - APART;
                if place >= room_from && (last || next >= place + APART) {
                    room_from = place + APART;
                    let (anchor, by) = if last { ("end", "-5") } else { ("start", "5") };
                    let short: String = event.text.chars().take(FLAG_CHARACTERS).collect();
                    html.element("text")
                        .attribute("x", &at)
                        .attribute("y", top + 19)
                        .attribute("dx", by)
                        .attribute("text-anchor", anchor)
                        .show(format_args!("{short}{}", if short.len() < event.text.len() { "…" } else { "" }));
                }
            });
        }
    });
}

/// Characters of a mark that are written beside it.
const FLAG_CHARACTERS: usize = 18;

/// A line or a console.
fn trace(html: &mut Html, row: &Row, window: Window, top: u64) {
    html.element("text").class("name").attribute("x", 2).attribute("y", top + 12).text(&row.name);
    let place = |at: u64| window.place(at, WIDTH);
    let (high, low) = (2, TRACE - 2);
    let mut path = String::new();
    // Where the last level ended, and at which height.
    let mut pen: Option<(u64, u64)> = None;
    for piece in &row.pieces {
        let Shown::Level(level) = piece.what else {
            pen = None;
            continue;
        };
        let y = if level { high } else { low };
        let _ = match pen {
            Some((at, before)) if at == piece.from && before != y => write!(path, "V{y}"),
            Some((at, _)) if at == piece.from => Ok(()),
            _ => write!(path, "M{} {y}", place(piece.from)),
        };
        let _ = write!(path, "H{}", place(piece.to));
        pen = Some((piece.to, y));
    }
    html.element("svg")
        .class(if row.is_line { "trace" } else { "trace console" })
        .attribute("x", 0)
        .attribute("y", top + NAME)
        .attribute("width", "100%")
        .attribute("height", TRACE)
        .attribute("viewBox", format_args!("0 0 {WIDTH} {TRACE}"))
        .attribute("preserveAspectRatio", "none")
        .attribute("data-at", changes(row, window))
        .with(|html| {
            for piece in &row.pieces {
                let (class, what) = match piece.what {
                    Shown::Level(_) => continue,
                    Shown::Block { count, lossy } => {
                        let what = if row.is_line { "edges" } else { "bytes" };
                        let lossy = if lossy { ", and others that were lost" } else { "" };
                        (if lossy.is_empty() { "busy" } else { "busy lossy" }, format!("{count} {what}{lossy}"))
                    }
                    Shown::Lost => ("lost", "edges were lost here: its level is not known".to_string()),
                    Shown::Unseen => ("unseen", "its level is not known before its first edge".to_string()),
                };
                let (from, to) = (place(piece.from), place(piece.to));
                html.element("rect")
                    .class(class)
                    .attribute("x", from)
                    .attribute("y", high)
                    .attribute("width", (to - from).max(100))
                    .attribute("height", low - high)
                    .with(|html| html.element("title").text(&what));
            }
            if !path.is_empty() {
                html.element("path").attribute("d", &path).empty();
            }
        });
}

/// The moments at which something changes in a row, each as how long it is after the one before: what a script finds edges by.
fn changes(row: &Row, window: Window) -> String {
    let (mut text, mut before) = (String::new(), window.from);
    for piece in row.pieces.iter().filter(|piece| piece.from > window.from) {
        let _ = write!(text, "{}{}", if text.is_empty() { "" } else { " " }, piece.from - before);
        before = piece.from;
    }
    text
}

/// One of what is listed.
enum Item<'a> {
    Edge(&'a Told),
    Event(&'a Event),
}

/// Edges, marks and cases in words, each with the line of the log before it and with links that mark its moment.
fn list(html: &mut Html, view: &JobView, wave: &Wave, address: &Address<'_>) {
    let Drawing { window, rows, marks, cases, told, edges, .. } = &wave.drawing;
    let mut items: Vec<(u64, u64, Item<'_>)> = told.iter().map(|told| (told.at, told.line, Item::Edge(told))).collect();
    items.extend(marks.iter().chain(cases).map(|event| (event.at, event.line, Item::Event(event))));
    items.sort_by_key(|(at, ..)| *at);
    if items.is_empty() {
        return;
    }
    html.element("details").class("happened").with(|html| {
        html.element("summary").text("What happened in this time");
        html.element("table").with(|html| {
            html.element("thead").with(|html| {
                html.element("tr").with(|html| {
                    for column in ["Moment", "What", "Log", "Mark"] {
                        html.element("th").attribute("scope", "col").text(column);
                    }
                });
            });
            html.element("tbody").with(|html| {
                for (at, line, item) in items.iter().take(LISTED) {
                    html.element("tr").with(|html| {
                        html.element("td").class("number").text(&exact(*at));
                        html.element("td").with(|html| match item {
                            Item::Edge(told) => {
                                html.name(rows.get(told.row).map_or("", |row| row.name.as_str()));
                                html.text(if told.level { " becomes 1" } else { " becomes 0" });
                            }
                            Item::Event(event) => {
                                html.name(&event.text).text(&and_more(event));
                            }
                        });
                        html.element("td").with(|html| {
                            if *line > 0 {
                                let attempt = attempt(view);
                                let address =
                                    format!("{attempt}?line={line}&from={}&to={}#L{line}", window.from, window.to);
                                html.element("a").href(address).show(format_args!("line {line}"));
                            }
                        });
                        html.element("td").with(|html| {
                            let [a, b] = wave.marks;
                            for (name, marks) in [("A", [Some(*at), b]), ("B", [a, Some(*at)])] {
                                html.element("a")
                                    .href(address.with(*window, marks))
                                    .attribute("aria-label", format_args!("{name} at {}", exact(*at)))
                                    .text(name);
                                html.text(" ");
                            }
                        });
                    });
                }
            });
        });
        let more = items.len().saturating_sub(LISTED) as u64 + edges.saturating_sub(told.len() as u64);
        if more > 0 {
            html.element("p")
                .class("muted")
                .show(format_args!("and {} more; a shorter time tells them", units::count(more)));
        }
    });
}

/// A moment as it is told beside others that are so far apart: `1:02.34`.
fn fine(ns: u64, step: u64) -> String {
    let digits = (0..9).find(|digits| step >= 10_u64.pow(9 - digits)).unwrap_or(9);
    moment(ns, digits)
}

/// A moment in microseconds, or in nanoseconds where it has some.
fn exact(ns: u64) -> String {
    moment(ns, if ns.is_multiple_of(1000) { 6 } else { 9 })
}

fn moment(ns: u64, digits: u32) -> String {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text =
        if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") };
    if digits > 0 {
        let _ = write!(text, ".{:0width$}", rest / 10_u64.pow(9 - digits), width = digits as usize);
    }
    text
}

/// How far two moments are apart: `1.234 567 s`, `20.5 ms`, `640 ns`.
fn distance(ns: u64) -> String {
    let (unit, word) = match ns {
        0..1000 => (1, "ns"),
        1000..1_000_000 => (1000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let whole = ns / unit;
    let rest = format!("{:09}", (ns % unit) * (1_000_000_000 / unit));
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { format!("{whole} {word}") } else { format!("{whole}.{rest} {word}") }
}
