//! An event's jobs that need others → what comes after what, what each waits for, and by which it was skipped.

use super::html::Html;
use super::layout::state_badge;
use super::views::EventView;
use sai_core::job::JobId;
use sai_core::ledger::JobRecord;
use sai_core::ordered::{Map, Set};

/// Jobs that are shown: what is replaced as a whole with each change must stay small.
const JOBS: usize = 100;
/// Needs of one job that are named.
const NAMED: usize = 8;
/// Stages that are told apart; what comes later is in the last one.
const STAGES: usize = 16;

/// The jobs that need others or are needed, by stages: those of one need none but those of the stages before it.
fn stages(jobs: &[JobRecord]) -> Vec<Vec<&JobRecord>> {
    let needs = |job: &JobRecord| job.needs.iter().flatten().map(|needed| needed.job).collect::<Vec<JobId>>();
    let mut linked: Set<JobId> = jobs.iter().flat_map(&needs).collect();
    linked.extend(jobs.iter().filter(|job| job.needs.is_some()).map(|job| job.id));
    let mut left: Vec<&JobRecord> = jobs.iter().filter(|job| linked.contains(&job.id)).collect();
    let mut stages = Vec::new();
    let mut done: Set<JobId> = Set::new();
    while !left.is_empty() {
        let known: Set<JobId> = left.iter().map(|job| job.id).collect();
        let open = |job: &JobRecord| needs(job).iter().any(|need| known.contains(need) && !done.contains(need));
        let (later, now): (Vec<_>, Vec<_>) = left.into_iter().partition(|job| open(job));
        // Records that go round in circles are not ours; all is shown all the same.
        let (now, later) = if now.is_empty() || stages.len() + 1 == STAGES {
            ([now, later].concat(), Vec::new())
        } else {
            (now, later)
        };
        done.extend(now.iter().map(|job| job.id));
        stages.push(now);
        left = later;
    }
    stages
}

/// Whether there is anything to show.
pub fn any(view: &EventView) -> bool {
    view.jobs.iter().any(|job| job.needs.is_some())
}

/// The section, replaced as a whole.
pub fn section(html: &mut Html, view: &EventView) {
    let stages = stages(&view.jobs);
    let total: usize = stages.iter().map(Vec::len).sum();
    let names: Map<JobId, &JobRecord> = view.jobs.iter().map(|job| (job.id, job)).collect();
    html.element("section").id("event-needs").class("panel").flag("hidden", total == 0).with(|html| {
        html.element("h2").text("What needs what");
        let mut room = JOBS;
        html.element("ol").class("stages").with(|html| {
            for (index, jobs) in stages.iter().enumerate() {
                html.element("li").with(|html| {
                    html.element("b").text(if index == 0 { "First" } else { "Then" });
                    html.element("ul").with(|html| {
                        for job in jobs.iter().take(room) {
                            html.element("li").class(job.standing().class()).with(|html| one(html, job, &names));
                        }
                    });
                });
                room = room.saturating_sub(jobs.len());
            }
        });
        if total > JOBS {
            html.element("p").class("muted").show(format_args!("and {} more", total - JOBS));
        }
    });
}

fn one(html: &mut Html, job: &JobRecord, names: &Map<JobId, &JobRecord>) {
    state_badge(html, job.standing());
    html.text(" ");
    named(html, job.id, &job.configuration, Some(&job.platform));
    let needs = job.needs.as_deref().unwrap_or_default();
    if !needs.is_empty() {
        html.element("span").class("muted").text(" needs ");
        for (index, needed) in needs.iter().take(NAMED).enumerate() {
            html.text(if index > 0 { ", " } else { "" });
            // On the same platform its name is enough.
            let platform = Some(needed.platform.as_str()).filter(|platform| *platform != job.platform);
            named(html, needed.job, &needed.configuration, platform);
        }
        if needs.len() > NAMED {
            html.show(format_args!(" and {} more", needs.len() - NAMED));
        }
    }
    if let Some(first) = job.skipped {
        html.element("span").class("muted").text("; skipped by ");
        match names.get(&first) {
            Some(other) => named(html, first, &other.configuration, Some(&other.platform)),
            None => html.element("a").href(format_args!("/job/{first}")).show(format_args!("job {first}")),
        }
    }
}

fn named(html: &mut Html, id: JobId, configuration: &str, platform: Option<&str>) {
    html.element("a").href(format_args!("/job/{id}")).with(|html| {
        html.name(configuration);
        if let Some(platform) = platform {
            html.element("span").class("on").name(platform);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::{event, job};
    use super::*;
    use crate::live::Live;
    use sai_core::job::JobState;
    use sai_core::ledger::Needed;

    fn needing(id: JobId, name: &str, state: JobState, needs: &[JobId]) -> JobRecord {
        let needed = |need: &JobId| Needed {
            job: *need,
            configuration: format!("c{need}"),
            platform: "linux".to_string(),
            attempt: None,
            artifacts: Vec::new(),
        };
        let needs: Vec<Needed> = needs.iter().map(needed).collect();
        JobRecord { needs: (!needs.is_empty()).then_some(needs), ..job(id, "linux", name, state) }
    }

    fn numbers(jobs: &[JobRecord]) -> Vec<Vec<JobId>> {
        stages(jobs).iter().map(|stage| stage.iter().map(|job| job.id).collect()).collect()
    }

    #[test]
    fn jobs_are_shown_after_what_they_need_whatever_their_numbers() {
        let queued = |id, needs: &[JobId]| needing(id, "x", JobState::Queued, needs);
        let jobs = [queued(1, &[2, 4]), queued(2, &[]), queued(3, &[]), queued(4, &[2]), queued(5, &[3, 99])];
        assert_eq!(numbers(&jobs), [vec![2, 3], vec![4, 5], vec![1]]);
        assert_eq!(numbers(&[queued(1, &[]), queued(2, &[])]), Vec::<Vec<JobId>>::new());
        // Nothing of ours goes in circles, or on for ever.
        assert_eq!(numbers(&[queued(1, &[2]), queued(2, &[1])]), [vec![1, 2]]);
        let chain: Vec<JobRecord> =
            (1..=40).map(|id| queued(id, if id > 1 { vec![id - 1] } else { vec![] }.as_slice())).collect();
        let told = numbers(&chain);
        assert_eq!((told.len(), told.iter().map(Vec::len).sum::<usize>()), (STAGES, 40));
    }

    #[test]
    fn it_says_what_is_skipped_by_which() {
        let mut skipped = needing(1002, "re<port", JobState::Cancelled, &[1001]);
        skipped.skipped = Some(1000);
        let jobs = vec![
            needing(1000, "lint", JobState::Failed, &[]),
            needing(1001, "c1001", JobState::Queued, &[1000]),
            skipped,
        ];
        let view = EventView::new(event(1, 3), jobs, &Live::default());
        let mut html = Html::new();
        section(&mut html, &view);
        let text = html.into_string();
        assert!(text.contains("re&lt;port") && !text.contains("hidden"), "{text}");
        assert!(text.contains("; skipped by </span><a href=\"/job/1000\"><bdi>lint</bdi>"), "{text}");
        assert!(text.contains(" needs </span><a href=\"/job/1001\"><bdi>c1001</bdi></a>"), "{text}");
        assert!(any(&view));
    }
}
