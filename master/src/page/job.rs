//! JobView and its log → the page of one attempt of a job.

use super::html::{Html, path_part};
use super::layout::{Here, Layout, badge, button, job_title, moment, revision, subject, took};
use super::log::LogPage;
use super::log_html;
use super::units;
use super::views::{JobView, Visitor, fault_word, job_took, reference_name};
use sai_core::job::{JobId, JobKey, JobState};
use sai_core::ledger::JobRecord;
use sai_core::record::Artifact;

/// The page.
pub fn page(view: &JobView, log: &LogPage, visitor: &Visitor) -> String {
    let job = &view.job;
    let title = job_title(job);
    let key = JobKey { job: job.id, attempt: view.attempt.max(1) };
    // An attempt that has ended changes no more.
    let live = view.live().then(|| format!("/live?job={key}&from={}", log.offset));
    Layout { title: &title, here: Here::Elsewhere, visitor, live }.page(|html| {
        head(html, view, visitor.now);
        if visitor.who.is_some() {
            html.element("div").class("actions").with(|html| {
                button(html, format_args!("/job/{}/cancel", job.id), "cancel", "Cancel");
                button(html, format_args!("/job/{}/rebuild", job.id), "rebuild", "Rebuild");
            });
        }
        artifacts(html, view);
        html.element("section").class("panel output").attribute("aria-label", "Log").with(|html| {
            html.element("div").class("tools").with(|html| {
                html.element("h2").text("Log");
                html.element("span").class("muted").id("lines").show(format_args!("{} lines", units::count(log.lines)));
                html.element("label").id("follow").flag("hidden", true).with(|html| {
                    html.element("input").attribute("type", "checkbox").empty();
                    html.text(" Follow the end");
                });
                let attempt = format!("/job/{}/{}", job.id, key.attempt);
                html.element("a").href(format_args!("{attempt}/log")).text("Raw text");
                html.element("a").href(format_args!("{attempt}/records")).text("Records");
            });
            log_html::section(html, &log.pieces, key);
            if log.lines == 0 && log.pieces.is_empty() {
                html.element("p").class("empty").id("no-output").text(if view.live() {
                    "No output yet."
                } else {
                    "There is no log of this attempt."
                });
            }
        });
    })
}

/// The head, replaced as a whole when the job changes.
pub fn head(html: &mut Html, view: &JobView, now: u64) {
    let job = &view.job;
    let ended = if job.state.ended() { "ended" } else { "under-way" };
    html.element("div").id("job-head").class(format_args!("head {} {ended}", job.state.word())).with(|html| {
        html.element("p").class("crumbs").with(|html| crumbs(html, view));
        html.element("div").class("line").with(|html| {
            badge(html, job.state.word());
            html.element("h1").with(|html| {
                html.name(&job.configuration);
                html.element("span").class("on").name(&job.platform);
            });
        });
        html.element("div").class("line about").with(|html| about(html, view, now));
        if let Some(why) = &view.waiting {
            html.element("p").class("callout waiting").with(|html| {
                html.element("b").text("Waits: ");
                html.name(why);
            });
        }
        cause(html, job);
        attempts(html, view);
    });
}

fn crumbs(html: &mut Html, view: &JobView) {
    let between = |html: &mut Html| html.element("span").attribute("aria-hidden", "true").text(" / ");
    html.element("a").href("/").text("Events");
    between(html);
    match &view.event {
        Some(event) => {
            html.element("a").href(format_args!("/event/{}", event.id)).name(subject(event));
            html.text(" ");
            html.element("span").class("muted").with(|html| {
                html.name(&event.repository).text(" ").name(reference_name(&event.reference).1).text(" ");
                revision(html, &event.revision);
            });
        }
        None => html.element("span").show(view.job.event),
    }
    between(html);
    html.show(view.job.id);
}

fn about(html: &mut Html, view: &JobView, now: u64) {
    let job = &view.job;
    if let Some(agent) = &job.agent {
        html.element("span").with(|html| {
            html.text("on ");
            html.element("a").href(format_args!("/agents#agent-{}", path_part(agent))).name(agent);
        });
    }
    html.element("span").with(|html| {
        let (word, at) = match (job.state, job.started_at, job.ended_at) {
            (state, _, Some(at)) if state.ended() => ("ended ", at),
            (JobState::Running, Some(at), _) => ("started ", at),
            _ => ("queued ", job.queued_at),
        };
        html.text(word);
        moment(html, at, now);
    });
    if let Some(millis) = job_took(job, now) {
        html.element("span").class("muted").with(|html| {
            html.text(if job.state.ended() { "took " } else { "for " });
            took(html, millis, job.state.ended());
        });
    }
    if let (JobState::Running, Some(step)) = (job.state, job.step) {
        html.element("span").show(format_args!("step {} of {}", step + 1, job.steps));
    }
    if job.priority != 0 {
        html.element("span").show(format_args!("priority {}", job.priority));
    }
}

fn cause(html: &mut Html, job: &JobRecord) {
    if job.cause.is_empty() {
        return;
    }
    html.element("p").class(format_args!("callout {}", job.state.word())).with(|html| {
        html.name(&job.cause);
        html.element("span").class("muted").show(format_args!(" (fault: {})", fault_word(job.fault)));
        if let Some(step) = job.verdict.as_ref().and_then(|verdict| verdict.step) {
            html.text(" ");
            html.element("a").href(format_args!("#step-{step}")).show(format_args!("Step {}", step.saturating_add(1)));
        }
    });
}

/// Attempts linked one by one; more than these can only be meant to fill the page.
const ATTEMPTS: u32 = 50;

fn attempts(html: &mut Html, view: &JobView) {
    let job = &view.job;
    if job.attempt < 2 && view.current() {
        return;
    }
    html.element("nav").class("filter").attribute("aria-label", "Attempts").with(|html| {
        for attempt in job.attempt.saturating_sub(ATTEMPTS) + 1..=job.attempt {
            let current = (attempt == view.attempt).then_some("page");
            html.element("a")
                .href(format_args!("/job/{}/{attempt}", job.id))
                .maybe("aria-current", current)
                .show(format_args!("attempt {attempt}"));
        }
    });
    if !view.current() {
        html.element("p").class("callout").with(|html| {
            html.text("This is the log of an earlier attempt; the state above is that of the last one. ");
            html.element("a").href(format_args!("/job/{}", job.id)).text("Show the last attempt");
        });
    }
}

/// Where a file can be downloaded: its stream's number finds it, its name is for who saves it.
pub fn artifact_address(job: JobId, attempt: u32, artifact: &Artifact) -> String {
    let name = artifact.path.rsplit('/').next().unwrap_or("artifact");
    format!("/job/{job}/{attempt}/artifact/{}/{}", artifact.stream, path_part(name))
}

/// The files of the attempt, replaced as a whole. The record knows those of the last attempt.
pub fn artifacts(html: &mut Html, view: &JobView) {
    let job = &view.job;
    let list = if view.current() { job.artifacts.as_slice() } else { &[] };
    html.element("section").id("artifacts").class("panel artifacts").flag("hidden", list.is_empty()).with(|html| {
        html.element("h2").text("Artifacts");
        html.element("table").with(|html| {
            html.element("thead").with(|html| {
                html.element("tr").with(|html| {
                    for column in ["File", "Size", "SHA-256"] {
                        html.element("th").attribute("scope", "col").text(column);
                    }
                });
            });
            html.element("tbody").with(|html| {
                for artifact in list {
                    let address = artifact_address(job.id, view.attempt, artifact);
                    html.element("tr").with(|html| {
                        html.element("td").class("what").with(|html| {
                            html.element("a").href(address).flag("download", true).name(&artifact.path);
                        });
                        html.element("td").class("took").text(&units::size(artifact.size));
                        html.element("td").class("why").with(|html| html.element("code").text(&artifact.sha256));
                    });
                }
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::log::{Folder, Piece};
    use super::super::views::tests::{event, job};
    use super::*;

    fn log(pieces: Vec<Piece>) -> LogPage {
        LogPage { pieces, lines: 3, offset: 77, ended: false }
    }

    fn view(state: JobState) -> JobView {
        JobView { job: job(1001, "linux", "default", state), event: Some(event(1, 2)), attempt: 1, waiting: None }
    }

    #[test]
    fn a_running_job_follows_its_log_from_where_the_page_ends() {
        let page = |view: &JobView, log: &LogPage| super::page(view, log, &Visitor::default());
        assert!(page(&view(JobState::Running), &log(Vec::new())).contains("/live?job=1001-1&amp;from=77\""));
        assert!(!page(&view(JobState::Passed), &log(Vec::new())).contains("data-live"));
        let mut earlier = view(JobState::Running);
        earlier.job.attempt = 3;
        let text = page(&earlier, &log(Vec::new()));
        assert!(text.contains("earlier attempt") && text.contains("/job/1001/2\"") && !text.contains("from="));
    }

    #[test]
    fn hostile_artifacts_and_causes_stay_text_and_links_stay_ours() {
        let mut view = view(JobState::Failed);
        view.job.cause = "<b onmouseover=alert(1)>".to_string();
        view.job.agent = Some("\"><script>".to_string());
        view.job.artifacts = vec![Artifact {
            stream: 1,
            path: "out/<script>\"?#.html".to_string(),
            size: 2048,
            sha256: "ab".repeat(32),
            executable: false,
        }];
        let text = page(&view, &log(Folder::new([]).take()), &Visitor::default());
        assert_eq!(text.matches("<script").count(), 1, "only our own");
        assert!(!text.contains("<b onmouseover"));
        assert!(text.contains("/job/1001/1/artifact/1/%3Cscript%3E%22%3F%23.html\" download"), "{text}");
        assert!(text.contains("2.0 KiB") && text.contains(&"ab".repeat(32)));
    }
}
