//! Pieces of a log → HTML: at once for a page, or one after the other for a page that is open already.
//!
//! Rows go into the last `.lines` there is and steps open new ones, so the same pieces give the same page either way.

use super::first_error::FirstError;
use super::html::Html;
use super::layout::{badge, state_badge};
use super::log_fold::Piece;
use super::search::{Found, Query};
use crate::units;
use sai_core::job::{JobKey, Outcome, Verdict};
use std::ops::RangeInclusive;

/// Bytes of a step's text shown in its summary line; all of it is inside.
const SUMMARY_BYTES: usize = 160;

/// What of a log is to be found at once.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// The lines that the address names.
    pub selected: Option<RangeInclusive<u64>>,
    /// When the job's clock stood at 0, Unix milliseconds, if that is known.
    pub since: Option<u64>,
    /// What went wrong, if it failed.
    pub error: Option<FirstError>,
    /// What is searched for, and what was found, or why not.
    pub search: Option<(Query, Result<Found, String>)>,
}

impl Marks {
    fn class(&self, number: u64, channel: &str) -> String {
        let mut classes = match channel {
            "stdout" => String::new(),
            "stderr" => "e".to_string(),
            _ => "x".to_string(),
        };
        let mut add = |set: bool, class: &str| {
            if set {
                classes.push_str(if classes.is_empty() { "" } else { " " });
                classes.push_str(class);
            }
        };
        add(self.selected.as_ref().is_some_and(|lines| lines.contains(&number)), "sel");
        add(self.error.as_ref().is_some_and(|error| error.line == number), "first");
        let found = self.search.as_ref().and_then(|(_, found)| found.as_ref().ok());
        add(found.is_some_and(|found| found.near.binary_search(&number).is_ok()), "hit");
        classes
    }
}

/// How rows are written.
struct Rows<'a> {
    key: JobKey,
    marks: &'a Marks,
}

/// The log of a page, with steps folded that nobody needs to see: in a job that went wrong, all but the one that failed
/// and those in which lines are asked for.
pub fn section(html: &mut Html, pieces: &[Piece], key: JobKey, marks: &Marks) {
    let failed = pieces.iter().any(|piece| matches!(piece, Piece::StepEnd { status, .. } if *status != 0));
    let verdict =
        pieces.iter().find_map(|piece| if let Piece::Verdict(verdict) = piece { Some(verdict) } else { None });
    let rows = Rows { key, marks };
    let log = html
        .element("div")
        .id("log")
        .class("log")
        .attribute("role", "log")
        .attribute("aria-live", "off")
        .attribute("data-attempt", format_args!("/job/{}/{}", key.job, key.attempt))
        .maybe("data-since", marks.since);
    log.with(|html| {
        let mut rest = pieces;
        // What comes before the first step, then step by step with all that follows it.
        let first = rest.iter().position(is_start).unwrap_or(rest.len());
        let (before, steps) = rest.split_at(first);
        html.element("div").class("lines").with(|html| rows.all(html, before));
        rest = steps;
        while let Some((Piece::StepStart { step, text }, after)) = rest.split_first() {
            let length = after.iter().position(is_start).unwrap_or(after.len());
            let (inside, others) = after.split_at(length);
            let end = inside.iter().find_map(|piece| match piece {
                Piece::StepEnd { step: ended, status, micros, .. } if ended == step => Some((*status, *micros)),
                _ => None,
            });
            let asked = inside.iter().any(|piece| rows.selected(piece));
            let open = asked || !failed || end.is_none_or(|(status, _)| status != 0);
            let word = step_word(*step, end.map(|(status, _)| status), verdict);
            step_html(html, *step, text, (word, end), open, |html| rows.all(html, inside));
            rest = others;
        }
    });
}

/// What was found, in a word finer than the outcome. It may be of an agent newer than this master.
pub fn found(html: &mut Html, verdict: &Verdict) {
    let Some(finding) = &verdict.verdict else { return };
    // The log has the agent's own words, of whatever length.
    let short = |text: &str| text.chars().take(FINDING_CHARACTERS).collect::<String>();
    html.element("b").class("finding").name(&short(&finding.word));
    html.text(" ");
    if let Some(what) = &finding.what {
        html.name(&short(what));
        html.text(" ");
    }
}

/// Characters of what an agent says beside an outcome that are shown.
const FINDING_CHARACTERS: usize = 500;

fn is_start(piece: &Piece) -> bool {
    matches!(piece, Piece::StepStart { .. })
}

/// A word for how a step stands. One that was ended from outside did not fail by itself, whatever its status.
fn step_word(step: u32, status: Option<i32>, verdict: Option<&Verdict>) -> &'static str {
    match (status, verdict.filter(|verdict| verdict.step.is_none_or(|decided| decided == step))) {
        (Some(0), _) => "passed",
        (None, None) => "running",
        (_, Some(Verdict { outcome: Outcome::Cancelled, .. })) => "cancelled",
        (_, Some(Verdict { outcome: Outcome::TimedOut, .. })) => "timed-out",
        (_, Some(Verdict { outcome: Outcome::Infra, .. })) => "infra",
        (None, Some(_)) => "running",
        (Some(_), _) => "failed",
    }
}

fn step_html(
    html: &mut Html,
    step: u32,
    text: &str,
    end: (&'static str, Option<(i32, u64)>),
    open: bool,
    content: impl FnOnce(&mut Html),
) {
    html.element("details").id(format_args!("step-{step}")).class("step").flag("open", open).with(|html| {
        step_head(html, step, text, end);
        let short = first_line(text);
        if short.len() < text.trim_end().len() {
            html.element("pre").class("script").text(text);
        }
        html.element("div").class("lines").with(content);
    });
}

fn first_line(text: &str) -> &str {
    let line = text.trim_start().lines().next().unwrap_or("").trim_end();
    let mut end = line.len().min(SUMMARY_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or(line)
}

fn step_head(html: &mut Html, step: u32, text: &str, (word, end): (&'static str, Option<(i32, u64)>)) {
    html.element("summary").id(format_args!("step-{step}-head")).with(|html| {
        badge(html, word);
        html.element("span").class("number").show(format_args!("Step {}", step.saturating_add(1)));
        html.element("code").name(first_line(text));
        if let Some((status, micros)) = end {
            if word == "failed" {
                html.element("span").class("status").show(format_args!("status {status}"));
            }
            html.element("span").class("took").text(&units::span(micros / 1000));
        }
    });
}

impl Rows<'_> {
    fn selected(&self, piece: &Piece) -> bool {
        let Piece::Line { number, .. } = piece else { return false };
        self.marks.selected.as_ref().is_some_and(|lines| lines.contains(number))
    }

    fn all(&self, html: &mut Html, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::StepStart { .. } | Piece::StepEnd { .. } => {}
                piece => row(html, piece, self.key, self.marks),
            }
        }
    }
}

fn row(html: &mut Html, piece: &Piece, key: JobKey, marks: &Marks) {
    match piece {
        Piece::Line { number, channel, micros, html: content } => {
            let class = Some(marks.class(*number, channel)).filter(|class| !class.is_empty());
            let other = !matches!(channel.as_str(), "stdout" | "stderr");
            html.element("div").id(format_args!("L{number}")).maybe("class", class).with(|html| {
                // The address names the attempt and the line, so that it leads there from anywhere, and whatever is shown.
                let address = format_args!("/job/{}/{}?line={number}#L{number}", key.job, key.attempt);
                html.element("a").href(address).attribute("tabindex", "-1").show(number);
                html.element("i").text(&units::offset(*micros));
                html.element("span").with(|html| {
                    if other {
                        html.element("b").name(channel);
                        html.text(" ");
                    }
                    html.append(content);
                });
            });
        }
        Piece::Note(text) => html.element("p").class("note").name(text),
        Piece::Gap(lines) => gap(html, *lines.start(), *lines.end(), key),
        Piece::Damage(what) => {
            html.element("p").class("note bad").show(format_args!("From here on the log cannot be read: {what}."));
        }
        Piece::Verdict(verdict) => {
            html.element("p").class("note verdict").with(|html| {
                state_badge(html, verdict.outcome.state());
                html.text(" ");
                found(html, verdict);
                html.name(&verdict.cause);
            });
        }
        Piece::StepStart { .. } | Piece::StepEnd { .. } => {}
    }
}

fn gap(html: &mut Html, first: u64, last: u64, key: JobKey) {
    let count = last.saturating_sub(first).saturating_add(1);
    html.element("p").class("note gap").with(|html| {
        html.show(format_args!("{} left out ", units::counted(count, "line")));
        let window = super::log::LAST_LINES / 2;
        let from = format!("/job/{}/{}?line=", key.job, key.attempt);
        html.element("a")
            .href(format_args!("{from}{0}#L{first}", first.saturating_add(window).min(last)))
            .text("show the next");
        if count > 2 * window {
            html.text(" ");
            html.element("a")
                .href(format_args!("{from}{0}#L{last}", last.saturating_sub(window).max(first)))
                .text("show the last of them");
        }
    });
}

/// The pieces as they are appended to an open page: the script replaces what has the same `id` and puts the rest, one
/// by one, where a page would have it.
pub fn appended(pieces: &[Piece], key: JobKey) -> Html {
    let mut html = Html::new();
    for piece in pieces {
        match piece {
            Piece::StepStart { step, text } => step_html(&mut html, *step, text, ("running", None), true, |_| {}),
            Piece::StepEnd { step, text, status, micros } => {
                // How it ended may be said by the verdict only, which comes right after it.
                let verdict = pieces.iter().find_map(|piece| match piece {
                    Piece::Verdict(verdict) => Some(verdict),
                    _ => None,
                });
                let word = step_word(*step, Some(*status), verdict);
                step_head(&mut html, *step, text, (word, Some((*status, *micros))));
            }
            piece => row(&mut html, piece, key, &Marks::default()),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::job::Fault;

    const KEY: JobKey = JobKey { job: 7, attempt: 1 };

    fn pieces(second: Option<i32>) -> Vec<Piece> {
        let line = |number: u64, channel: &str, text: &str| {
            let mut html = Html::new();
            html.text(text);
            Piece::Line { number, channel: channel.to_string(), micros: 1_500_000, html }
        };
        let mut pieces = vec![
            line(1, "stdout", "fetch"),
            Piece::StepStart { step: 0, text: "make\nmake check".to_string() },
            line(2, "stderr", "warning <here>"),
            Piece::StepEnd { step: 0, text: "make".to_string(), status: 0, micros: 2_000_000 },
            Piece::StepStart { step: 1, text: "<b>test</b>".to_string() },
            line(3, "serial:tty0", "boot"),
            Piece::Gap(4..=90),
        ];
        pieces.extend(second.map(|status| Piece::StepEnd { step: 1, text: "test".to_string(), status, micros: 0 }));
        pieces
    }

    fn page(second: Option<i32>) -> String {
        let mut html = Html::new();
        section(&mut html, &pieces(second), KEY, &Marks::default());
        html.into_string()
    }

    #[test]
    fn steps_fold_and_lines_can_be_linked() {
        let page = page(None);
        assert!(page.contains("<div id=\"L2\" class=\"e\"><a href=\"/job/7/1?line=2#L2\""), "{page}");
        assert!(page.contains("warning &lt;here&gt;") && page.contains("&lt;b&gt;test") && page.contains("0:01.5"));
        assert!(page.contains("<bdi>serial:tty0</bdi>") && page.contains("87 lines left out"));
        assert!(page.contains("<pre class=\"script\">make\nmake check</pre>"));
        assert_eq!(page.matches("class=\"step\" open").count(), 2);
    }

    #[test]
    fn only_what_failed_is_open_in_a_failed_job() {
        let page = page(Some(2));
        assert!(page.contains("<details id=\"step-0\" class=\"step\">"), "{page}");
        assert!(page.contains("<details id=\"step-1\" class=\"step\" open>") && page.contains("status 2"));
    }

    #[test]
    fn a_step_that_was_ended_from_outside_did_not_fail() {
        let mut pieces = pieces(Some(143));
        let verdict = |outcome, step| {
            let cause = String::new();
            Piece::Verdict(Verdict {
                outcome,
                fault: Fault::Person,
                cause,
                step,
                status: Some(143),
                trouble: None,
                verdict: None,
            })
        };
        for (outcome, step, word) in [
            (Outcome::Cancelled, Some(1), "cancelled"),
            (Outcome::Cancelled, None, "cancelled"),
            (Outcome::TimedOut, Some(1), "timed-out"),
            (Outcome::Failed, Some(1), "failed"),
        ] {
            pieces.push(verdict(outcome, step));
            let mut html = Html::new();
            section(&mut html, &pieces, KEY, &Marks::default());
            let head = format!("<summary id=\"step-1-head\"><span class=\"badge {word}\">");
            assert!(html.as_str().contains(&head), "{}", html.as_str());
            assert_eq!(html.as_str().contains("status 143"), word == "failed");
            assert!(appended(&pieces, KEY).as_str().contains(&head));
            assert!(html.as_str().contains("<summary id=\"step-0-head\"><span class=\"badge passed\">"));
            pieces.pop();
        }
    }

    #[test]
    fn lines_that_are_asked_for_are_marked_in_a_step_that_is_open() {
        let mut html = Html::new();
        section(&mut html, &pieces(Some(2)), KEY, &Marks { selected: Some(2..=2), ..Marks::default() });
        assert!(html.as_str().contains("<div id=\"L2\" class=\"e sel\">"), "{}", html.as_str());
        assert!(html.as_str().contains("<details id=\"step-0\" class=\"step\" open>"));
    }

    #[test]
    fn what_is_appended_has_the_same_rows_and_ids_as_the_page() {
        let page = page(Some(2));
        let appended = appended(&pieces(Some(2)), KEY);
        for id in ["L1", "L2", "L3", "step-0", "step-1"] {
            assert!(appended.as_str().contains(&format!("id=\"{id}\"")) && page.contains(&format!("id=\"{id}\"")));
        }
        assert!(appended.as_str().contains("<summary id=\"step-1-head\"><span class=\"badge failed\">"));
    }
}
