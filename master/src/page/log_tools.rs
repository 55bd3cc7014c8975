//! JobView and what is asked of its log → what stands above the log: its first error, views, keys, search and what was found.

use super::console::SERIAL;
use super::first_error::FirstError;
use super::html::{Html, path_part};
use super::log::LogPage;
use super::log_html::Marks;
use super::search::{Found, Query};
use super::views::{JobView, Visitor};
use crate::units;
use sai_core::vcd::LINE;

/// The tools: what a log is shown by, downloaded as and searched for; and what was found.
pub fn section(html: &mut Html, view: &JobView, log: &LogPage, marks: &Marks) {
    html.element("div").class("tools").with(|html| {
        html.element("h2").text("Log");
        html.element("span").class("muted").id("lines").show(units::counted(log.lines, "line"));
        html.element("label").id("follow").flag("hidden", true).with(|html| {
            html.element("input").attribute("type", "checkbox").empty();
            html.text(" Follow the end");
        });
        views(html, marks.since.is_some());
        let attempt = format!("/job/{}/{}", view.job.id, view.attempt);
        html.element("a").href(format_args!("{attempt}/log")).text("Raw text");
        html.element("a").href(format_args!("{attempt}/records")).text("Records");
        of_a_board(html, &attempt, &log.channels);
    });
    search(html, view, marks);
}

/// Why there is nothing of a lease's log for somebody.
pub const KEPT: &str =
    "what happens at a leased board is shown to its person, to whom they share it with, and to admins";

/// What stands in place of the log for who may not hear what happens there.
pub fn kept(html: &mut Html, view: &JobView, visitor: &Visitor) {
    html.element("section").class("panel output").attribute("aria-label", "Log").with(|html| {
        html.element("p").class("empty").id("kept").with(|html| {
            let person = view.job.person.as_deref().unwrap_or("its person");
            html.text("What happens at this board is shown to ");
            html.name(person);
            html.text(", to whom they share it with, and to admins.");
            if visitor.who.is_none() {
                html.text(" ");
                html.element("a").href(visitor.sign_in()).text("Sign in");
            }
        });
    });
}

/// What is made of the log of a board.
fn of_a_board(html: &mut Html, attempt: &str, channels: &[String]) {
    let consoles: Vec<&str> = channels.iter().filter_map(|name| name.strip_prefix(SERIAL)).collect();
    let lines = channels.iter().any(|name| name.starts_with(LINE));
    for console in &consoles {
        let address = format!("{attempt}/console/{}", path_part(console));
        html.element("a").href(address).attribute("title", "This console's bytes").name(console);
    }
    if lines || !consoles.is_empty() {
        html.element("a").href(format_args!("{attempt}/timeline.json")).text("Timeline");
    }
    if lines {
        html.element("a").href(format_args!("{attempt}/waveform")).text("Waveform");
    }
}

/// What went wrong first, quoted.
pub fn first_error(html: &mut Html, view: &JobView, error: &FirstError) {
    html.element("section").id("error").class("panel wrong").attribute("aria-label", "First error").with(|html| {
        html.element("div").class("line").with(|html| {
            html.element("h2").text("First error");
            let (address, line) = (line_address(view, "", error.line), units::count(error.line));
            html.element("a").href(address).show(format_args!("line {line}"));
        });
        html.element("pre").class("quote").with(|html| {
            for (_, text) in &error.quote {
                html.text(text).text("\n");
            }
        });
    });
}

/// The address of a line; `query` is what is searched for meanwhile.
fn line_address(view: &JobView, query: &str, line: u64) -> String {
    format!("/job/{}/{}?{query}line={line}#L{line}", view.job.id, view.attempt)
}

/// The form to search in the log, and what was found.
fn search(html: &mut Html, view: &JobView, marks: &Marks) {
    let query = marks.search.as_ref().map(|(query, _)| query.clone()).unwrap_or_default();
    html.element("form")
        .class("search")
        .attribute("role", "search")
        .attribute("action", format_args!("/job/{}/{}", view.job.id, view.attempt))
        .with(|html| {
            html.element("input")
                .id("q")
                .attribute("type", "search")
                .attribute("name", "q")
                .attribute("value", &query.text)
                .attribute("maxlength", 256)
                .attribute("placeholder", "Search all steps")
                .attribute("aria-label", "Search all steps")
                .empty();
            for (name, set, word) in [("case", query.case, "Case"), ("regex", query.regex, "Regular expression")] {
                html.element("label").with(|html| {
                    html.element("input")
                        .attribute("type", "checkbox")
                        .attribute("name", name)
                        .attribute("value", 1)
                        .flag("checked", set)
                        .empty();
                    html.show(format_args!(" {word}"));
                });
            }
            html.element("button").text("Search");
            if let Some((_, Ok(found))) = &marks.search {
                summary(html, view, &query, found);
            }
        });
    match &marks.search {
        Some((_, Err(why))) => {
            html.element("p").class("callout failed").attribute("role", "alert").name(why);
        }
        Some((_, Ok(found))) if !found.quoted.is_empty() => hits(html, view, &query, found),
        _ => {}
    }
}

fn search_part(query: &Query) -> String {
    let flag = |set: bool, name: &str| if set { format!("{name}=1&") } else { String::new() };
    format!("q={}&{}{}", path_part(&query.text), flag(query.case, "case"), flag(query.regex, "regex"))
}

fn summary(html: &mut Html, view: &JobView, query: &Query, found: &Found) {
    html.element("span").id("found").attribute("role", "status").with(|html| {
        let lines = if found.count == 1 { "line matches" } else { "lines match" };
        html.show(format_args!("{} {lines}", units::count(found.count)));
        if found.cut {
            html.text(", of the first GiB");
        }
    });
    for (id, word, line) in [("previous", "Previous", found.previous), ("next", "Next", found.next)] {
        if let Some(line) = line {
            html.element("a").id(id).href(line_address(view, &search_part(query), line)).text(word);
        }
    }
}

fn hits(html: &mut Html, view: &JobView, query: &Query, found: &Found) {
    html.element("details").class("hits").flag("open", found.count > 1).with(|html| {
        html.element("summary").text("Lines found");
        html.element("ol").with(|html| {
            for hit in &found.quoted {
                html.element("li").with(|html| {
                    html.element("a").href(line_address(view, &search_part(query), hit.line)).with(|html| {
                        html.element("b").show(hit.line);
                        html.text(" ");
                        html.element("code").name(&hit.text);
                    });
                });
            }
        });
    });
}

/// How the log can be shown; the script brings it to life, and without it nothing of it is there.
fn views(html: &mut Html, clock: bool) {
    html.element("span").id("views").flag("hidden", true).with(|html| {
        for (view, word) in VIEWS.into_iter().filter(|(view, _)| clock || *view != "clock") {
            html.element("button")
                .attribute("type", "button")
                .attribute("data-view", view)
                .attribute("aria-pressed", "false")
                .text(word);
        }
        html.element("button").id("help").attribute("type", "button").attribute("aria-label", "Keys").text("?");
    });
    html.element("dialog").id("keys").attribute("aria-label", "Keys").with(|html| {
        html.element("h2").text("Keys");
        html.element("table").with(|html| {
            html.element("tbody").with(|html| {
                for (keys, what) in KEYS {
                    html.element("tr").with(|html| {
                        html.element("td").with(|html| {
                            for (at, key) in keys.split(' ').enumerate() {
                                if at > 0 {
                                    html.text(" ");
                                }
                                html.element("kbd").text(key);
                            }
                        });
                        html.element("td").text(what);
                    });
                }
            });
        });
        html.element("form").attribute("method", "dialog").with(|html| html.element("button").text("Close"));
    });
}

/// Ways to show a log, as the script knows them.
const VIEWS: [(&str, &str); 5] = [
    ("errors", "Only stderr"),
    ("step", "One step"),
    ("nowrap", "No wrapping"),
    ("clock", "Time of day"),
    ("full", "Full screen"),
];

/// Keys that the script takes, and what they do.
const KEYS: [(&str, &str); 13] = [
    ("j k", "select the next or previous line"),
    ("J K", "select lines up to the next or previous"),
    ("/", "search"),
    ("n N", "next or previous line found"),
    ("] [", "next or previous step"),
    ("z Z", "fold or unfold all steps"),
    ("e", "only stderr"),
    ("s", "only one step"),
    ("w", "no wrapping"),
    ("t", "time of day, or time since the job began"),
    ("f", "full screen; Escape leaves it"),
    ("F g G", "follow the end; go to the top or the end"),
    ("?", "these keys"),
];
