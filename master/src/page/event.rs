//! EventView → the page of one event: what it is, what is wrong with it, its grid and each of its jobs.

use super::events::{about, elsewhere, problems};
use super::grid;
use super::html::Html;
use super::layout::{Here, Layout, ask, badge, button, hint, job_badge, moment, subject, titled, took};
use super::narrow::Narrow;
use super::stages;
use super::sums::{Groups, Sum, WRONG_JOBS};
use super::views::{EventView, Visitor, job_took};
use sai_core::ledger::JobRecord;
use sai_core::ordered::Set;
use sai_core::roles::Deed;

/// The table of all jobs is open at once up to this many; the grid above has them all anyway.
const OPEN_ROWS: usize = 60;

/// The page.
pub fn page(view: &EventView, visitor: &Visitor) -> String {
    let event = &view.event;
    let title = format!("{} · {}", subject(event), event.repository);
    let live = Some(format!("/live?event={}&since={}{}", event.id, visitor.now, view.narrow.fields()));
    let state = Some(view.standing().word());
    Layout { title: &title, state, here: Here::Elsewhere, visitor, live }.page(|html| {
        head(html, view, visitor.now);
        html.element("div").class("actions").with(|html| {
            if !visitor.may(Deed::Build, Some(&event.repository)) {
                hint(html, visitor, "a builder", "cancel or rebuild it");
                return;
            }
            let question = "All its jobs that are queued or under way are ended.";
            ask(html, format_args!("/event/{}/cancel", event.id), ["Cancel", question, "Cancel its jobs"]);
            rebuilds(html, view);
        });
        problems(html, view, usize::MAX);
        if view.total() == 0 && event.errors.is_empty() {
            html.element("p").class("empty").text("Nothing to build for this ref.");
        } else if !view.narrow.is_empty() {
            chosen(html, view, visitor.now);
        } else if let Some(sum) = &view.sum {
            wrong(html, view, visitor.now);
            grid::sums(html, event.id, sum);
        } else {
            wrong(html, view, visitor.now);
            all(html, view, visitor.now);
        }
    })
}

/// The buttons that build jobs again: all of them, those that went wrong, those that are listed, or those one names.
fn rebuilds(html: &mut Html, view: &EventView) {
    let address = format!("/event/{}/rebuild", view.event.id);
    if !view.narrow.is_empty() {
        let fields = Narrow { from: None, ..view.narrow.clone() }.fields();
        button(html, format_args!("{address}?{}", fields.trim_start_matches('&')), "again", "Rebuild these");
        return;
    }
    button(html, &address, "rebuild", "Rebuild");
    // Seen as soon as something has, which the head tells.
    let wrong = Narrow::wrong().fields();
    button(html, format_args!("{address}?{}", wrong.trim_start_matches('&')), "mend", "Rebuild what went wrong");
    let sides: [(&str, &str, Vec<&str>); 2] = [
        ("platform", "every platform", names(view, |sum| &sum.platforms, |job| &job.platform)),
        ("configuration", "every configuration", names(view, |sum| &sum.configurations, |job| &job.configuration)),
    ];
    if sides.iter().all(|(.., names)| names.len() < 2) {
        return;
    }
    html.element("details").class("ask again").with(|html| {
        html.element("summary").text("Rebuild some");
        html.element("form").attribute("method", "post").attribute("action", &address).with(|html| {
            for (field, all, names) in &sides {
                html.element("select").attribute("name", field).attribute("aria-label", field).with(|html| {
                    html.element("option").attribute("value", "").text(all);
                    for name in names {
                        html.element("option").attribute("value", name).name(name);
                    }
                });
            }
            html.element("button").text("Rebuild these");
        });
    });
}

/// The platforms or configurations of an event that can be named, in order.
fn names(view: &EventView, of_sum: fn(&Sum) -> &Groups, of_job: fn(&JobRecord) -> &String) -> Vec<&str> {
    let names: Set<&str> = match &view.sum {
        Some(sum) => of_sum(sum).shown.iter().map(|group| group.name.as_str()).collect(),
        None => view.jobs.iter().map(|job| of_job(job).as_str()).collect(),
    };
    names.into_iter().collect()
}

/// All jobs of an event that has not too many.
fn all(html: &mut Html, view: &EventView, now: u64) {
    if view.jobs.is_empty() {
        return;
    }
    html.element("section").class("panel").attribute("aria-label", "Jobs by platform").with(|html| {
        grid::named(html, view, true);
    });
    stages::section(html, view);
    html.element("details").class("panel jobs").flag("open", view.jobs.len() <= OPEN_ROWS).with(|html| {
        html.element("summary").with(|html| {
            html.element("h2").text("All jobs");
        });
        table(html, view, now);
    });
}

/// The jobs that were chosen.
fn chosen(html: &mut Html, view: &EventView, now: u64) {
    html.element("section").class("panel jobs").with(|html| {
        html.element("h2").with(|html| {
            let words = view.narrow.choice.words();
            html.name(&words.replacen('j', "J", 1));
        });
        html.element("p").class("line").with(|html| {
            html.element("a").href(format_args!("/event/{}", view.event.id)).text("The whole event");
        });
        if view.jobs.is_empty() {
            html.element("p").class("empty").text("No job of this event is one of these.");
            return;
        }
        table(html, view, now);
        if let Some(from) = view.more {
            let next = Narrow { from: Some(from), ..view.narrow.clone() };
            html.element("nav").class("pager").attribute("aria-label", "Pages").with(|html| {
                html.element("a").href(next.address(view.event.id)).attribute("rel", "next").text("More of them");
            });
        }
    });
}

fn table(html: &mut Html, view: &EventView, now: u64) {
    html.element("table").with(|html| {
        html.element("thead").with(|html| {
            html.element("tr").with(|html| {
                for column in ["State", "Job", "Agent", "Took", "Why"] {
                    html.element("th").attribute("scope", "col").text(column);
                }
            });
        });
        html.element("tbody").with(|html| {
            for job in &view.jobs {
                grid::job_row(html, view, job, now);
            }
        });
    });
}

/// The head, replaced as a whole when a job changes.
pub fn head(html: &mut Html, view: &EventView, now: u64) {
    let standing = view.standing();
    let ended = if standing.ended() { "ended" } else { "under-way" };
    let head = html.element("div").id("event-head").class(format_args!("head {} {ended}", standing.word()));
    let title = format!("{} · {}", subject(&view.event), view.event.repository);
    titled(head, standing.word(), &title).with(|html| {
        html.element("p").class("crumbs").with(|html| {
            html.element("a").href("/").text("Events");
            html.element("span").attribute("aria-hidden", "true").text(" / ");
            html.show(view.event.id);
        });
        html.element("div").class("line").with(|html| {
            badge(html, standing.word());
            html.element("h1").name(subject(&view.event));
        });
        html.element("div").class("line about").with(|html| {
            about(html, view);
            elsewhere(html, view);
            html.element("span").class("when").with(|html| moment(html, view.event.at, now));
            if let Some(millis) = view.took(now) {
                took(html, millis, standing.ended());
            }
            grid::summary(html, view);
        });
        grid::bar(html, view);
    });
}

/// The jobs that went wrong, replaced as a whole.
pub fn wrong(html: &mut Html, view: &EventView, now: u64) {
    let wrong: Vec<_> = view.jobs.iter().filter(|job| job.standing().went_wrong()).collect();
    html.element("section").id("event-wrong").class("panel wrong").flag("hidden", wrong.is_empty()).with(|html| {
        html.element("h2").text("Went wrong");
        html.element("ul").with(|html| {
            for job in wrong.iter().take(WRONG_JOBS) {
                html.element("li").class(job.standing().class()).with(|html| {
                    job_badge(html, job);
                    html.element("a").href(format_args!("/job/{}", job.id)).with(|html| {
                        html.name(&job.configuration);
                        html.element("span").class("on").name(&job.platform);
                    });
                    html.element("span").class("cause").name(&job.cause);
                    if let Some(millis) = job_took(job, now) {
                        took(html, millis, true);
                    }
                });
            }
            let all: usize = view.counts().iter().filter(|(state, _)| state.went_wrong()).map(|(_, count)| count).sum();
            if all > WRONG_JOBS {
                html.element("li").class("muted").with(|html| {
                    let address = Narrow::wrong().address(view.event.id);
                    html.element("a").href(address).show(format_args!("and {} more", all - WRONG_JOBS));
                });
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::{event, job};
    use super::*;
    use crate::live::Live;
    use sai_core::job::JobState;

    #[test]
    fn actions_are_offered_to_the_signed_in_and_waiting_is_explained() {
        let jobs = vec![
            job(1000, "windows/x86_64/msvc", "default", JobState::Queued),
            job(1001, "linux/x86_64/gcc", "default", JobState::Failed),
        ];
        let mut live = Live::default();
        live.waiting.insert(1000, "no agent has offered windows/x86_64/msvc yet".to_string());
        let view = EventView::new(event(1, 2), jobs, &live);
        let anonymous = page(&view, &Visitor::default());
        assert!(anonymous.contains("no agent has offered") && !anonymous.contains("/event/1/cancel"));
        let visitor = Visitor { who: Some("ann".to_string()), ..Visitor::default() };
        let signed_in = page(&view, &visitor);
        assert!(signed_in.contains("<form method=\"post\" action=\"/event/1/cancel\""));
        assert!(signed_in.contains("id=\"job-1000\"") && signed_in.contains("id=\"cell-1001\""));
    }
}
