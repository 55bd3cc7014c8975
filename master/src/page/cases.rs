//! Test cases of an attempt → the pages of them: all, and one through time.

use super::history::Run;
use super::html::{Html, path_part};
use super::layout::{Here, Layout, job_title, moment, revision, subject};
use super::test_cases::Cases;
use super::views::{JobView, Visitor};
use crate::units;
use sai_core::axis::CaseResult;
use sai_core::ordered::Map;
use std::sync::Arc;

/// Cases on the page: those that failed come first.
const SHOWN: usize = 2000;

/// Failed cases that a job's own page names.
const NAMED: usize = 10;

/// The address of a case's history, or of all cases.
fn address(view: &JobView, name: Option<&str>) -> String {
    let all = format!("/job/{}/{}/tests", view.job.id, view.attempt);
    name.map_or(all.clone(), |name| format!("{all}?name={}", path_part(name)))
}

/// What a job's own page says of its tests.
pub fn section(html: &mut Html, view: &JobView, cases: &Cases) {
    if cases.cases.is_empty() && cases.troubles.is_empty() {
        return;
    }
    let failed = cases.count(CaseResult::Failed);
    let class = if failed > 0 { "panel wrong" } else { "panel" };
    html.element("section").id("tests").class(class).attribute("aria-label", "Tests").with(|html| {
        html.element("div").class("line").with(|html| {
            html.element("h2").text("Tests");
            html.element("a").href(address(view, None)).with(|html| sum(html, cases));
        });
        troubles(html, cases);
        if failed > 0 {
            html.element("ul").with(|html| {
                for case in cases.failed().take(NAMED) {
                    html.element("li").class("failed").with(|html| {
                        html.element("a").href(address(view, Some(&case.name))).name(&case.name);
                        html.element("span").class("cause").name(case.text.lines().next().unwrap_or_default());
                    });
                }
                if failed > NAMED {
                    html.element("li").class("muted").show(format_args!("and {} more", failed - NAMED));
                }
            });
        }
    });
}

fn sum(html: &mut Html, cases: &Cases) {
    let all = units::count(cases.cases.len() as u64);
    let failed = cases.count(CaseResult::Failed);
    html.show(format_args!("{} of {all} failed", units::count(failed as u64)));
    let skipped = cases.count(CaseResult::Skipped);
    if skipped > 0 {
        html.show(format_args!(", {} skipped", units::count(skipped as u64)));
    }
}

fn troubles(html: &mut Html, cases: &Cases) {
    for trouble in &cases.troubles {
        html.element("p").class("callout timed-out").name(trouble);
    }
}

/// Since when each case that fails has failed: the job in which it did first, and whether it surely did not before.
/// `before` are earlier jobs, newest first, with their cases.
fn since<'a>(cases: &Cases, now: &'a Run, before: &'a [(Run, Arc<Cases>)]) -> Map<String, (&'a Run, bool)> {
    let mut all = Map::new();
    for case in cases.failed() {
        let (mut first, mut sure) = (now, false);
        for (run, cases) in before {
            match cases.of(&case.name).map(|case| case.result) {
                Some(CaseResult::Failed) => first = run,
                // A job that did not come to its tests says nothing.
                None if cases.cases.is_empty() => {}
                _ => {
                    sure = true;
                    break;
                }
            }
        }
        all.insert(case.name.clone(), (first, sure));
    }
    all
}

fn framed(view: &JobView, visitor: &Visitor, word: &str, content: impl FnOnce(&mut Html)) -> String {
    let title = format!("{word} · {}", job_title(&view.job));
    Layout { title: &title, state: None, here: Here::Elsewhere, visitor, live: None }.page(|html| {
        html.element("div").class("head").with(|html| {
            html.element("p").class("crumbs").with(|html| {
                let job = format!("/job/{}/{}", view.job.id, view.attempt);
                html.element("a").href(job).name(&job_title(&view.job));
                html.text(" / ");
                html.element("a").href(address(view, None)).text("Tests");
            });
            html.element("h1").name(word);
        });
        content(html);
    })
}

/// The word for how a case ended.
pub fn case_word(result: &CaseResult) -> &str {
    match result {
        CaseResult::Passed => "passed",
        CaseResult::Failed => "failed",
        CaseResult::Skipped => "skipped",
        CaseResult::Other(word) => word.as_str(),
    }
}

fn badge(html: &mut Html, result: CaseResult) {
    let class = if matches!(result, CaseResult::Other(_)) { "other" } else { case_word(&result) };
    html.element("span").class(format_args!("badge {class}")).text(case_word(&result));
}

/// The page of all cases.
pub fn page(view: &JobView, cases: &Cases, before: &[(Run, Arc<Cases>)], visitor: &Visitor) -> String {
    framed(view, visitor, "Tests", |html| {
        troubles(html, cases);
        if cases.cases.is_empty() {
            let none = "No tests are known of this attempt: neither JUnit nor TAP files are among its artifacts, nor are \
                        results of CTest, TAP, GoogleTest or cargo test in its output.";
            html.element("p").class("empty").text(none);
            return;
        }
        let now = view.event.clone().map(|event| Run { event, job: view.job.clone() });
        let since = now.as_ref().map(|now| since(cases, now, before)).unwrap_or_default();
        html.element("section").class("panel jobs").with(|html| {
            html.element("p").with(|html| sum(html, cases));
            table(html, ["State", "Test", "Took", "Since"], |html| {
                for case in cases.cases.iter().take(SHOWN) {
                    html.element("tr").with(|html| {
                        html.element("td").with(|html| badge(html, case.result));
                        html.element("td").class("what").with(|html| {
                            html.element("a").href(address(view, Some(&case.name))).name(&case.name);
                            if !case.text.trim().is_empty() {
                                html.element("pre").class("quote").name(case.text.trim_end());
                            }
                        });
                        let millis = case.millis.map(units::span).unwrap_or_default();
                        html.element("td").class("took").text(&millis);
                        html.element("td").with(|html| {
                            let Some((run, sure)) = since.get(&case.name) else { return };
                            html.text(if *sure { "" } else { "at least " });
                            html.element("a").href(format_args!("/job/{}", run.job.id)).name(subject(&run.event));
                        });
                    });
                }
            });
            if cases.cases.len() > SHOWN {
                html.element("p").class("muted").show(format_args!("and {} more", cases.cases.len() - SHOWN));
            }
        });
    })
}

fn table(html: &mut Html, columns: [&str; 4], rows: impl FnOnce(&mut Html)) {
    html.element("table").with(|html| {
        html.element("thead").with(|html| {
            html.element("tr").with(|html| {
                for column in columns {
                    html.element("th").attribute("scope", "col").text(column);
                }
            });
        });
        html.element("tbody").with(rows);
    });
}

/// The page of one case: how it went in this job and in those before.
pub fn one(view: &JobView, cases: &Cases, before: &[(Run, Arc<Cases>)], name: &str, visitor: &Visitor) -> String {
    framed(view, visitor, name, |html| {
        if let Some(case) = cases.of(name).filter(|case| !case.text.trim().is_empty()) {
            html.element("pre").class("panel quote").name(case.text.trim_end());
        }
        html.element("section").class("panel jobs").with(|html| {
            table(html, ["State", "Event", "Revision", "When"], |html| {
                let here = view.event.clone().map(|event| Run { event, job: view.job.clone() });
                let here = here.iter().map(|run| (run, cases));
                for (run, cases) in here.chain(before.iter().map(|(run, cases)| (run, &**cases))) {
                    html.element("tr").with(|html| {
                        html.element("td").with(|html| match cases.of(name) {
                            Some(case) => badge(html, case.result),
                            None => html.element("span").class("muted").text("not there"),
                        });
                        html.element("td").class("what").with(|html| {
                            let job = html.element("a").href(format_args!("/job/{}", run.job.id));
                            job.name(subject(&run.event));
                        });
                        let forge = view.forge.as_ref();
                        html.element("td").with(|html| revision(html, &run.event.revision, forge));
                        html.element("td").class("took").with(|html| moment(html, run.event.at, visitor.now));
                    });
                }
            });
        });
    })
}

#[cfg(test)]
mod tests {
    use super::super::junit::TestCase;
    use super::super::views::tests::{event, job};
    use super::*;
    use sai_core::job::JobState;

    fn cases(all: &[(&str, CaseResult)]) -> Arc<Cases> {
        let case = |(name, result): &(&str, CaseResult)| TestCase {
            name: name.to_string(),
            result: *result,
            millis: None,
            text: String::new(),
        };
        Arc::new(Cases { cases: all.iter().map(case).collect(), troubles: Vec::new() })
    }

    #[test]
    fn a_case_has_failed_since_it_did_not() {
        let run = |id: u64| Run { event: event(id, 1), job: job(id * 1000, "linux", "default", JobState::Failed) };
        let (bad, good) = (CaseResult::Failed, CaseResult::Passed);
        let before = [
            (run(5), cases(&[("a", bad), ("b", bad), ("b", good), ("c", good)])),
            (run(4), cases(&[])),
            (run(3), cases(&[("a", good), ("b", bad)])),
        ];
        let now = run(6);
        let found = since(&cases(&[("a", bad), ("b", bad), ("c", bad), ("d", good)]), &now, &before);
        let found: Vec<_> = found.iter().map(|(name, (run, sure))| (name.as_str(), run.event.id, *sure)).collect();
        assert_eq!(found, [("a", 5, true), ("b", 3, false), ("c", 6, true)]);
    }
}
