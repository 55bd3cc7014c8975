//! Test cases of an attempt → the pages of them: all, and one through time.

use super::history::Run;
use super::html::{Html, path_part};
use super::junit::TestCase;
use super::layout::{Here, Layout, job_title, moment, revision, subject};
use super::route::{field, number_field};
use super::test_cases::Cases;
use super::views::{JobView, Visitor};
use crate::units;
use sai_core::axis::CaseResult;
use sai_core::ordered::{Map, Set};
use std::sync::Arc;

/// Cases on the page, those that failed first: as many as a browser lays out in a moment.
const SHOWN: usize = 500;

/// Characters of what is looked for; more are no longer what somebody types.
const FIELD_CHARACTERS: usize = 256;

/// Failed cases that a job's own page names.
const NAMED: usize = 10;

/// Which cases are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Words that are all found in the name.
    text: String,
    /// How many of those are passed over.
    from: usize,
}

impl Wanted {
    /// What a query says.
    pub fn of(query: &str) -> Self {
        let text = field(query, "q").unwrap_or_default().trim().chars().take(FIELD_CHARACTERS).collect();
        let from = number_field(query, "from").and_then(|from| usize::try_from(from).ok()).unwrap_or(0);
        Self { text, from }
    }

    /// The cases, one more than is shown if there are more.
    fn among<'a>(&self, cases: &'a Cases) -> Vec<&'a TestCase> {
        let text = self.text.to_lowercase();
        let named = |case: &TestCase| {
            let name = if text.is_empty() { String::new() } else { case.name.to_lowercase() };
            text.split_whitespace().all(|word| name.contains(word))
        };
        cases.cases.iter().filter(|case| named(case)).skip(self.from).take(SHOWN + 1).collect()
    }

    /// The address of those from a number on.
    fn address(&self, view: &JobView, from: usize) -> String {
        let text = Some(format!("q={}", path_part(&self.text))).filter(|_| !self.text.is_empty());
        let from = Some(format!("from={from}")).filter(|_| from > 0);
        let fields: Vec<String> = text.into_iter().chain(from).collect();
        let mark = if fields.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", address(view, None), fields.join("&"))
    }

    fn form(&self, html: &mut Html, view: &JobView) {
        let form =
            html.element("form").class("search").attribute("role", "search").attribute("action", address(view, None));
        form.with(|html| {
            html.element("label").with(|html| {
                html.text("Name ");
                let input = html.element("input").attribute("type", "search").attribute("name", "q");
                input.attribute("value", &self.text).attribute("maxlength", FIELD_CHARACTERS).empty();
            });
            html.element("button").text("Find");
            if !self.text.is_empty() {
                html.element("a").href(address(view, None)).text("Clear");
            }
        });
    }

    fn pager(&self, html: &mut Html, view: &JobView, more: bool) {
        if self.from == 0 && !more {
            return;
        }
        html.element("nav").class("pager").attribute("aria-label", "Pages").with(|html| {
            if self.from > 0 {
                let from = self.from.saturating_sub(SHOWN);
                html.element("a").href(self.address(view, from)).attribute("rel", "prev").text("Before");
            }
            if more {
                let from = self.from.saturating_add(SHOWN);
                html.element("a").href(self.address(view, from)).attribute("rel", "next").text("More");
            }
        });
    }
}

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

/// Since when each of these cases that fails has failed: the job in which it did first, and whether it surely did not before.
/// `before` are earlier jobs, newest first, with their cases; each is gone through once, however many fail.
fn since<'a, 'b>(
    cases: impl Iterator<Item = &'b TestCase>,
    now: &'a Run,
    before: &'a [(Run, Arc<Cases>)],
) -> Map<&'b str, (&'a Run, bool)> {
    let failed = cases.filter(|case| case.result == CaseResult::Failed);
    let mut all: Map<&str, (&Run, bool)> = Map::from_iter(failed.map(|case| (case.name.as_str(), (now, false))));
    // A job that did not come to its tests says nothing.
    for (run, cases) in before.iter().filter(|(_, cases)| !cases.cases.is_empty()) {
        if all.values().all(|(_, sure)| *sure) {
            break;
        }
        let mut failed = Set::new();
        for case in cases.failed().filter(|case| all.contains_key(case.name.as_str())) {
            failed.insert(case.name.as_str());
        }
        for (name, (first, sure)) in all.iter_mut().filter(|(_, (_, sure))| !sure) {
            if failed.contains(*name) {
                *first = run;
            } else {
                *sure = true;
            }
        }
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
pub fn page(view: &JobView, cases: &Cases, before: &[(Run, Arc<Cases>)], wanted: &Wanted, visitor: &Visitor) -> String {
    framed(view, visitor, "Tests", |html| {
        troubles(html, cases);
        if cases.cases.is_empty() {
            let none = "No tests are known of this attempt: neither JUnit nor TAP files are among its artifacts, nor are \
                        results of CTest, TAP, GoogleTest or cargo test in its output.";
            html.element("p").class("empty").text(none);
            return;
        }
        let now = view.event.clone().map(|event| Run { event, job: view.job.clone() });
        let mut shown = wanted.among(cases);
        let more = shown.len() > SHOWN;
        shown.truncate(SHOWN);
        let since = now.as_ref().map(|now| since(shown.iter().copied(), now, before)).unwrap_or_default();
        html.element("section").class("panel jobs").with(|html| {
            html.element("p").with(|html| sum(html, cases));
            wanted.form(html, view);
            if shown.is_empty() {
                html.element("p").class("empty").text("No such tests.");
                return;
            }
            table(html, ["State", "Test", "Took", "Since"], |html| {
                for case in shown {
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
                            let Some((run, sure)) = since.get(case.name.as_str()) else { return };
                            html.text(if *sure { "" } else { "at least " });
                            html.element("a").href(format_args!("/job/{}", run.job.id)).name(subject(&run.event));
                        });
                    });
                }
            });
        });
        wanted.pager(html, view, more);
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
        let all = cases(&[("a", bad), ("b", bad), ("c", bad), ("d", good)]);
        let found = since(all.cases.iter(), &now, &before);
        let found: Vec<_> = found.iter().map(|(name, (run, sure))| (*name, run.event.id, *sure)).collect();
        assert_eq!(found, [("a", 5, true), ("b", 3, false), ("c", 6, true)]);
    }

    #[test]
    fn many_cases_are_shown_page_after_page_and_found_by_name() {
        let names: Vec<String> = (0..1200).map(|number| format!("suite.Case {number}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), CaseResult::Passed)).collect();
        let all = cases(&all);
        let shown = |query: &str| {
            let shown = Wanted::of(query).among(&all);
            (shown.len(), shown.first().map(|case| case.name.clone()).unwrap_or_default())
        };
        assert_eq!(shown(""), (501, "suite.Case 0".to_string()));
        assert_eq!(shown("from=1000"), (200, "suite.Case 1000".to_string()));
        assert_eq!(shown("q=case+119"), (12, "suite.Case 119".to_string()));
        assert_eq!((shown("q=none").0, shown("from=99999999999").0), (0, 0));
    }
}
