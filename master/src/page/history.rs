//! Jobs of a configuration on a platform, event after event → the page of its history.

use super::board_list;
use super::filter::Filter;
use super::html::Html;
use super::layout::{Here, Layout, job_badge, moment, revision, subject, took};
use super::views::{Visitor, job_took};
use crate::units;
use sai_core::forge_page::ForgePage;
use sai_core::job::JobState;
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::ordered::Map;

/// Jobs on one page.
pub const RUNS: usize = 100;

/// Units of the plot's height.
const HEIGHT: u64 = 60;

/// Neighbours in the matrix that are linked one by one.
const NEIGHBOURS: usize = 60;

/// One job, and whose it is.
#[derive(Clone, Debug)]
pub struct Run {
    /// The event.
    pub event: EventRecord,
    /// The job.
    pub job: JobRecord,
}

/// The history.
#[derive(Clone, Debug, Default)]
pub struct HistoryView {
    /// Of what: repository, configuration and platform are all named; a branch may be.
    pub filter: Filter,
    /// The jobs, newest first.
    pub runs: Vec<Run>,
    /// Other jobs of the newest event: of the same configuration, or on the same platform.
    pub neighbours: Vec<JobRecord>,
    /// Where to go on: before this event.
    pub next: Option<u64>,
    /// The repository's pages at its forge.
    pub forge: Option<ForgePage>,
}

/// The address of a job's history.
pub fn address(job: &JobRecord, branch: Option<String>) -> String {
    let filter = Filter {
        repository: Some(job.repository.clone()),
        configuration: Some(job.configuration.clone()),
        platform: Some(job.platform.clone()),
        branch,
        ..Filter::default()
    };
    format!("/history{}", filter.address(None).trim_start_matches('/'))
}

/// What the jobs have in common.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    ended: usize,
    passed: usize,
    /// Revisions of which one job passed and another failed.
    both: usize,
    /// Jobs that passed only when they were run again.
    again: usize,
    /// Half of those that passed took no longer, milliseconds.
    median: Option<u64>,
}

fn sum(runs: &[Run]) -> Sum {
    let mut sum = Sum::default();
    let mut of: Map<&str, (bool, bool)> = Map::new();
    let mut times = Vec::new();
    for Run { event, job } in runs.iter().filter(|run| run.job.state.ended()) {
        let (passed, wrong) = (job.state == JobState::Passed, job.state.went_wrong());
        sum.ended += 1;
        sum.passed += usize::from(passed);
        sum.again += usize::from(passed && job.attempt > 1);
        let seen = of.get_or_default(event.revision.as_str());
        *seen = (seen.0 | passed, seen.1 | wrong);
        times.extend(job_took(job, 0).filter(|_| passed));
    }
    sum.both = of.iter().filter(|(_, (passed, wrong))| *passed && *wrong).count();
    times.sort_unstable();
    sum.median = times.get(times.len() / 2).copied();
    sum
}

/// The page.
pub fn page(view: &HistoryView, visitor: &Visitor) -> String {
    let name = |text: &Option<String>| text.clone().unwrap_or_default();
    let (configuration, platform) = (name(&view.filter.configuration), name(&view.filter.platform));
    let title = format!("{configuration} on {platform} · {}", name(&view.filter.repository));
    Layout { title: &title, state: None, here: Here::Elsewhere, visitor, live: None }.page(|html| {
        html.element("div").class("head").with(|html| {
            html.element("p").class("crumbs").with(|html| {
                html.element("a").href("/").text("Events");
                html.text(" / ");
                let of = |repository, branch| Filter { repository, branch, ..Filter::default() };
                let repository = view.filter.repository.clone();
                html.element("a").href(of(repository.clone(), None).address(None)).name(&name(&repository));
                if let Some(branch) = &view.filter.branch {
                    html.text(" / ");
                    html.element("a").href(of(repository, Some(branch.clone())).address(None)).name(branch);
                }
            });
            html.element("h1").with(|html| {
                html.name(&configuration);
                html.element("span").class("on").name(&platform);
            });
            summary(html, view, visitor.now);
            plot(html, &view.runs, visitor.now);
        });
        neighbours(html, view);
        if view.runs.is_empty() {
            html.element("p").class("empty").text(match view.next {
                Some(_) => "No such jobs among the events looked through so far.",
                None => "No such jobs.",
            });
        } else {
            html.element("section").class("panel jobs").with(|html| table(html, view, visitor.now));
        }
        html.element("nav").class("pager").attribute("aria-label", "Pages").with(|html| {
            if let Some(next) = view.next {
                let address = view.filter.address(Some(next));
                html.element("a")
                    .href(format_args!("/history{}", address.trim_start_matches('/')))
                    .attribute("rel", "next")
                    .text("Older");
            }
        });
    })
}

fn summary(html: &mut Html, view: &HistoryView, now: u64) {
    let sum = sum(&view.runs);
    html.element("div").class("line about").with(|html| {
        if sum.ended > 0 {
            html.element("span").show(format_args!("{} of {} passed", sum.passed, sum.ended));
        }
        if let Some(median) = sum.median {
            html.element("span").show(format_args!("{} in the middle", units::span(median)));
        }
        for (count, what) in [(sum.both, "revisions both passed and failed"), (sum.again, "passed only when run again")]
        {
            if count > 0 {
                html.element("span").class("count timed-out").show(format_args!("{count} {what}"));
            }
        }
        match view.runs.iter().find(|run| run.job.state == JobState::Passed) {
            Some(Run { event, job }) => html.element("span").with(|html| {
                html.element("a").href(format_args!("/job/{}", job.id)).text("Last passed");
                html.text(" ");
                moment(html, job.ended_at.unwrap_or(event.at), now);
            }),
            None if sum.ended > 0 => html.element("span").class("count failed").text("None of these passed"),
            None => {}
        }
    });
}

/// How long each took, oldest first.
fn plot(html: &mut Html, runs: &[Run], now: u64) {
    let times: Vec<_> = runs.iter().rev().map(|run| (run, job_took(&run.job, now).unwrap_or(0))).collect();
    let longest = times.iter().map(|(_, millis)| *millis).max().unwrap_or(0);
    if times.len() < 2 || longest == 0 {
        return;
    }
    html.element("svg")
        .class("plot")
        .attribute("viewBox", format_args!("0 0 {} {HEIGHT}", times.len() * 10))
        .attribute("preserveAspectRatio", "none")
        .attribute("role", "img")
        .attribute("aria-label", format_args!("How long each took, at most {}", units::span(longest)))
        .with(|html| {
            for (index, (run, millis)) in times.iter().enumerate() {
                let height = (millis.saturating_mul(HEIGHT) / longest).max(1);
                html.element("rect")
                    .class(run.job.standing().class())
                    .attribute("x", index * 10)
                    .attribute("y", HEIGHT - height)
                    .attribute("width", 8)
                    .attribute("height", height)
                    .with(|html| {
                        let word = run.job.finding().unwrap_or(run.job.word());
                        html.element("title").show(format_args!("{}: {word}", units::span(*millis)));
                    });
            }
        });
}

fn neighbours(html: &mut Html, view: &HistoryView) {
    if view.neighbours.is_empty() {
        return;
    }
    html.element("nav").class("panel").attribute("aria-label", "Neighbours").with(|html| {
        html.element("h2").text("Neighbours");
        html.element("div").class("cells").with(|html| {
            for job in view.neighbours.iter().take(NEIGHBOURS) {
                let same = Some(&job.configuration) == view.filter.configuration.as_ref();
                html.element("a")
                    .class(format_args!("chip {}", job.standing().class()))
                    .href(address(job, view.filter.branch.clone()))
                    .attribute("title", format_args!("{} on {}: {}", job.configuration, job.platform, job.word()))
                    .with(|html| {
                        html.name(if same { &job.platform } else { &job.configuration });
                        html.element("span").class("unseen").show(format_args!(" {}", job.word()));
                    });
            }
        });
        if view.neighbours.len() > NEIGHBOURS {
            html.element("p").class("muted").show(format_args!("and {} more", view.neighbours.len() - NEIGHBOURS));
        }
    });
}

fn table(html: &mut Html, view: &HistoryView, now: u64) {
    html.element("table").with(|html| {
        html.element("thead").with(|html| {
            html.element("tr").with(|html| {
                for column in ["State", "Event", "Revision", "Why", "Took", "When"] {
                    html.element("th").attribute("scope", "col").text(column);
                }
            });
        });
        html.element("tbody").with(|html| {
            for Run { event, job } in &view.runs {
                html.element("tr").with(|html| {
                    html.element("td").with(|html| job_badge(html, job));
                    html.element("td").class("what").with(|html| {
                        html.element("a").href(format_args!("/job/{}", job.id)).name(subject(event));
                    });
                    html.element("td").with(|html| revision(html, &event.revision, view.forge.as_ref()));
                    html.element("td").class("why").with(|html| {
                        html.name(&job.cause);
                        let agent = job.agent.as_deref().unwrap_or_default();
                        for (index, board) in job.given.iter().flat_map(|given| given.names()).enumerate() {
                            html.text(if index > 0 { ", " } else { " at " });
                            html.element("a").href(board_list::address(agent, board)).name(board);
                        }
                    });
                    html.element("td").class("took").with(|html| {
                        if let Some(millis) = job_took(job, now) {
                            took(html, millis, job.state.ended());
                        }
                    });
                    html.element("td").class("took").with(|html| moment(html, event.at, now));
                });
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::{event, job};
    use super::*;
    use sai_core::job::{Fault, Finding, Outcome, Verdict};

    #[test]
    fn what_was_found_is_beside_how_it_ended() {
        let finding = Some(Finding { word: "no-boot".to_string(), what: None, board: None });
        let verdict = Verdict {
            outcome: Outcome::Failed,
            fault: Fault::Job,
            cause: "it does not boot".to_string(),
            step: None,
            status: None,
            trouble: None,
            verdict: finding,
        };
        let run = |id: u64, state, verdict: &Verdict| {
            let job = JobRecord { verdict: Some(verdict.clone()), ..job(id, "linux", "fw/board", state) };
            Run { event: event(id, 1), job }
        };
        let passed = Finding { word: "passed".to_string(), what: None, board: None };
        let passed = Verdict { verdict: Some(passed), outcome: Outcome::Passed, ..verdict.clone() };
        // That of an attempt before says nothing of one under way.
        let runs = vec![
            run(3, JobState::Queued, &verdict),
            run(2, JobState::Passed, &passed),
            run(1, JobState::Failed, &verdict),
        ];
        let text = page(&HistoryView { runs, ..HistoryView::default() }, &Visitor::default());
        assert!(text.contains("badge failed\">failed</span> <b class=\"finding\"><bdi>no-boot</bdi></b>"), "{text}");
        assert_eq!(text.matches("class=\"finding\"").count(), 1, "{text}");
    }

    #[test]
    fn flakiness_is_what_passed_and_failed_of_one_revision_or_passed_again() {
        let run = |id: u64, revision: &str, state, attempt| {
            let event = EventRecord { revision: revision.to_string(), ..event(id, 1) };
            Run { event, job: JobRecord { attempt, ..job(id * 1000, "linux", "default", state) } }
        };
        let runs = [
            run(5, "b", JobState::Running, 1),
            run(4, "b", JobState::Passed, 2),
            run(3, "a", JobState::Passed, 1),
            run(2, "a", JobState::Failed, 1),
            run(1, "c", JobState::Cancelled, 1),
        ];
        let wanted = Sum { ended: 4, passed: 2, both: 1, again: 1, median: Some(62_000) };
        assert_eq!(sum(&runs), wanted);
        assert_eq!(sum(&[]), Sum::default());
    }
}
