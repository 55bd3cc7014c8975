//! JobView and its log → the page of one attempt of a job.

use super::artifact_list;
use super::assets;
use super::board_list;
use super::cases;
use super::console::SERIAL;
use super::first_steps;
use super::history;
use super::html::{Html, path_part};
use super::layout::{
    Here, Layout, ask, at_forge, button, hint, job_title, moment, revision, state_badge, subject, titled, took,
};
use super::leasing::ENDS;
use super::log::LogPage;
use super::log_html::{self, Marks};
use super::log_tools;
use super::views::{JobView, Past, Visitor, fault_word, job_took, reference_name};
use super::waveform::Wave;
use super::waveform_html;
use sai_core::job::{Fault, JobState};
use sai_core::requests::coming_attempt;
use sai_core::roles::Deed;

/// The page. It stays open for what comes later too: a rebuild of a job that has ended. Without a log it is for somebody who may not hear
/// what happens there.
pub fn page(view: &JobView, log: Option<&LogPage>, wave: Option<&Wave>, marks: &Marks, visitor: &Visitor) -> String {
    let job = &view.job;
    let title = job_title(job);
    let key = view.key();
    let live = Some(format!("/live?job={key}&from={}", log.map_or(0, |log| log.offset)));
    let state = view.state();
    Layout { title: &title, state: Some(state.word()), here: Here::Elsewhere, visitor, live }.page(|html| {
        head(html, view, visitor.now);
        html.element("div").class("actions").with(|html| actions(html, view, visitor));
        if view.unserved {
            first_steps::join(html, &view.job.platform);
        }
        let Some(log) = log else { return log_tools::kept(html, view, visitor) };
        if let Some(error) = &marks.error {
            log_tools::first_error(html, view, error);
        }
        if let Some(tests) = &view.tests {
            cases::section(html, view, tests);
        }
        artifact_list::section(html, view);
        waveform_html::of_job(html, view, wave);
        html.element("section").class("panel output").attribute("aria-label", "Log").with(|html| {
            html.element("link").attribute("rel", "stylesheet").href(assets::address("palette.css")).empty();
            log_tools::section(html, view, log, marks);
            log_html::section(html, &log.pieces, key, marks);
            if log.lines == 0 && log.pieces.is_empty() {
                html.element("p").class("empty").id("no-output").text(if view.live() {
                    "No output yet."
                } else {
                    "There is no log of this attempt."
                });
            }
            typing(html, view, log, visitor);
        });
    })
}

/// Where the person who has a board types, while they have it. It works without script; with that, nothing is loaded anew.
fn typing(html: &mut Html, view: &JobView, log: &LogPage, visitor: &Visitor) {
    let theirs = view.job.lease.is_some() && view.job.person.is_some() && view.job.person == visitor.who;
    if !theirs || !view.current() || view.state() != JobState::Running {
        return;
    }
    let consoles: Vec<&str> = log.channels.iter().filter_map(|name| name.strip_prefix(SERIAL)).collect();
    let form = html.element("form").id("typing").class("search").attribute("method", "post");
    form.attribute("action", format_args!("/job/{}/say", view.job.id)).with(|html| {
        let attempt = html.element("input").attribute("type", "hidden").attribute("name", "attempt");
        attempt.attribute("value", view.attempt).empty();
        html.element("input")
            .attribute("name", "text")
            .attribute("maxlength", 512)
            .attribute("autocomplete", "off")
            .attribute("placeholder", "Type to the board")
            .attribute("aria-label", "Type to the board")
            .empty();
        for (name, label, words) in [
            ("end", "Ends with", ENDS.map(|(word, _)| word).as_slice()),
            ("console", "Console", if consoles.len() > 1 { consoles.as_slice() } else { &[] }),
        ] {
            if words.is_empty() {
                continue;
            }
            html.element("select").attribute("name", name).attribute("aria-label", label).with(|html| {
                for word in words {
                    html.element("option").name(word);
                }
            });
        }
        html.element("button").text("Send");
        html.element("button").attribute("name", "release").attribute("value", 1).text("Give it back");
        html.element("span").class("muted").attribute("role", "status").text("");
    });
}

/// What can be done with the attempt that is shown, and with no other.
fn actions(html: &mut Html, view: &JobView, visitor: &Visitor) {
    if !view.current() {
        return;
    }
    if !visitor.may(Deed::Build, Some(&view.job.repository)) {
        hint(html, visitor, "a builder", "cancel or rebuild it");
        return;
    }
    let id = view.job.id;
    let question = "What it has done so far is lost; its log is kept.";
    ask(html, format_args!("/job/{id}/{}/cancel", view.attempt), ["Cancel", question, "Cancel this attempt"]);
    if view.job.session.is_some() || view.job.lease.is_some() || view.job.health.is_some() {
        // Its step asks again when that is built again, its person whenever they like.
        return;
    }
    button(html, format_args!("/job/{id}/rebuild"), "rebuild", "Rebuild");
    if view.needed {
        button(html, format_args!("/job/{id}/rebuild-following"), "rebuild", "Rebuild with all that needs it");
    }
}

/// The head, replaced as a whole when the job changes.
pub fn head(html: &mut Html, view: &JobView, now: u64) {
    let job = &view.job;
    let state = view.state();
    let ended = if state.ended() { "ended" } else { "under-way" };
    let head = html.element("div").id("job-head").class(format_args!("head {} {ended}", state.class()));
    titled(head, state.word(), &job_title(job)).with(|html| {
        html.element("p").class("crumbs").with(|html| crumbs(html, view));
        html.element("div").class("line").with(|html| {
            state_badge(html, state);
            html.element("h1").with(|html| {
                html.name(&job.configuration);
                html.element("span").class("on").name(&job.platform);
            });
        });
        html.element("div").class("line about").with(|html| {
            match &view.past {
                Some(past) if !view.current() => about_past(html, past),
                _ => about(html, view, now),
            }
            let branch = view.event.as_ref().map(|event| reference_name(&event.reference).1.to_string());
            html.element("a").href(history::address(job, branch)).text("History");
        });
        if let (Some(why), true) = (&view.waiting, view.current()) {
            html.element("p").class("callout waiting").with(|html| {
                html.element("b").text("Waits: ");
                html.name(why);
            });
        }
        cause(html, view);
        needs(html, view);
        units_of(html, view);
        sessions(html, view);
        shared(html, view);
        tried(html, view);
        attempts(html, view);
    });
}

/// Needs that are linked one by one.
const NEEDS: usize = 50;

/// What it needs, and by which job it was skipped.
fn needs(html: &mut Html, view: &JobView) {
    let job = &view.job;
    let needs = job.needs.as_deref().unwrap_or_default();
    if needs.is_empty() || !view.current() {
        return;
    }
    html.element("p").class("needs").with(|html| {
        if let Some(first) = job.skipped {
            html.element("a").href(format_args!("/job/{first}")).show(format_args!("Skipped by job {first}"));
            html.text(". ");
        }
        html.element("span").class("muted").text("Needs ");
        for (index, needed) in needs.iter().take(NEEDS).enumerate() {
            html.text(if index > 0 { ", " } else { "" });
            let attempt = needed.attempt.map(|attempt| format!("/{attempt}")).unwrap_or_default();
            html.element("a").href(format_args!("/job/{}{attempt}", needed.job)).with(|html| {
                html.name(&needed.configuration);
                html.element("span").class("on").name(&needed.platform);
            });
        }
        if needs.len() > NEEDS {
            html.show(format_args!(" and {} more", needs.len() - NEEDS));
        }
    });
}

/// What it occupies besides a slot.
fn units_of(html: &mut Html, view: &JobView) {
    let job = &view.job;
    let wanted: Vec<_> = job.units.iter().flatten().collect();
    if wanted.is_empty() || !view.current() {
        return;
    }
    html.element("p").class("needs").with(|html| {
        html.element("span").class("muted").text(match job.state {
            JobState::Queued => "Wants ",
            state if state.ended() => "Held ",
            _ => "Holds ",
        });
        for (index, (unit, amount)) in wanted.iter().enumerate() {
            html.text(if index > 0 { ", " } else { "" });
            html.element("a").href(format_args!("/units#unit-{}", path_part(unit))).with(|html| {
                if **amount > 1 {
                    html.show(format_args!("{amount} "));
                }
                html.name(unit);
            });
        }
    });
}

/// Whose session at a board it is, or those that its steps have asked for.
fn sessions(html: &mut Html, view: &JobView) {
    let job = &view.job;
    let of = job.session.as_ref().map(|of| (of.key.job, Some(of.key.attempt)));
    let (what, jobs) = match of {
        Some(of) => ("Asked for by ", vec![of]),
        None => ("At boards by ", job.sessions.iter().flatten().map(|session| (session.job, None)).collect()),
    };
    if jobs.is_empty() || !view.current() {
        return;
    }
    html.element("p").class("needs").with(|html| {
        html.element("span").class("muted").text(what);
        for (index, (id, attempt)) in jobs.into_iter().enumerate() {
            html.text(if index > 0 { ", " } else { "" });
            let attempt = attempt.map(|attempt| format!("/{attempt}")).unwrap_or_default();
            html.element("a").href(format_args!("/job/{id}{attempt}")).show(format_args!("job {id}"));
        }
    });
}

/// With whom the person who has a board shares it.
fn shared(html: &mut Html, view: &JobView) {
    let people: Vec<&String> = view.job.lease.iter().flat_map(|leased| leased.people.iter().flatten()).collect();
    if people.is_empty() || !view.current() {
        return;
    }
    html.element("p").class("needs").id("shared").with(|html| {
        html.element("span").class("muted").text("Shared with ");
        for (index, person) in people.into_iter().enumerate() {
            html.text(if index > 0 { ", " } else { "" });
            html.name(person);
        }
    });
}

/// At which boards its earlier attempts had trouble.
fn tried(html: &mut Html, view: &JobView) {
    let tried: Vec<_> = view.job.tried.iter().flatten().collect();
    if tried.is_empty() || !view.current() {
        return;
    }
    html.element("ul").class("needs").with(|html| {
        for tried in tried {
            html.element("li").with(|html| {
                let attempt = tried.attempt;
                html.element("a")
                    .href(format_args!("/job/{}/{attempt}", view.job.id))
                    .show(format_args!("Attempt {attempt}"));
                html.text(" at ");
                html.element("a").href(board_list::address(&tried.agent, &tried.board)).name(&tried.board);
                html.text(" of ").name(&tried.agent).text(": ");
                html.element("b").class("finding").name(tried.word.as_deref().unwrap_or("infra"));
                html.text(" ").name(&tried.why);
            });
        }
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
                html.name(&event.repository).text(" ");
                if event.reference.is_empty() {
                    return;
                }
                let address = view.forge.as_ref().and_then(|forge| forge.reference(&event.reference));
                at_forge(html, address, |html| {
                    html.name(reference_name(&event.reference).1);
                });
                html.text(" ");
                revision(html, &event.revision, view.forge.as_ref());
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
            if let Some(offered) = job.offered.as_ref().filter(|offered| **offered != job.platform) {
                html.text(" in ").name(offered);
            }
            for (index, board) in job.given.iter().flat_map(|given| given.names()).enumerate() {
                html.text(if index > 0 { ", " } else { " at " });
                html.element("a").href(board_list::address(agent, board)).name(board);
            }
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

fn about_past(html: &mut Html, past: &Past) {
    html.element("span").class("muted").with(|html| {
        html.text("took ");
        took(html, past.millis, true);
    });
}

fn cause(html: &mut Html, view: &JobView) {
    let (verdict, cause, fault) = match &view.past {
        Some(past) if !view.current() => {
            // Of one that was at a board it is known why there was another one.
            let tried = view.job.tried.iter().flatten().find(|tried| tried.attempt == view.attempt);
            let lost = "it ended without a word: its agent was lost, or what it ran on";
            let lost = tried.map_or(lost, |tried| tried.why.as_str());
            let told = past.verdict.as_ref().map(|verdict| (verdict.cause.as_str(), verdict.fault));
            let (cause, fault) = told.unwrap_or((lost, Fault::Infrastructure));
            (past.verdict.as_ref(), cause, fault)
        }
        _ => (view.job.verdict.as_ref(), view.job.cause.as_str(), view.job.fault),
    };
    let finer = verdict.filter(|verdict| verdict.verdict.is_some() && view.state().ended());
    if cause.is_empty() && finer.is_none() {
        return;
    }
    html.element("p").class(format_args!("callout {}", view.state().class())).with(|html| {
        if let Some(verdict) = finer {
            log_html::found(html, verdict);
        }
        html.name(cause);
        html.element("span").class("muted").show(format_args!(" (fault: {})", fault_word(&fault)));
        let found = finer.and_then(|verdict| verdict.verdict.as_ref()?.board.as_ref());
        if let Some(board) = found {
            html.text(" At the board ").name(board);
        }
        if let Some(step) = verdict.and_then(|verdict| verdict.step).filter(|_| view.state().ended()) {
            html.text(" ");
            html.element("a").href(format_args!("#step-{step}")).show(format_args!("Step {}", step.saturating_add(1)));
        }
    });
}

/// Attempts linked one by one; more than these can only be meant to fill the page.
const ATTEMPTS: u32 = 50;

/// The other attempts, replaced as a whole when there is a new one.
pub fn attempts(html: &mut Html, view: &JobView) {
    let job = &view.job;
    let coming = coming_attempt(job);
    html.element("div").id("job-attempts").flag("hidden", coming < 2).with(|html| {
        if coming < 2 {
            return;
        }
        html.element("nav").class("filter").attribute("aria-label", "Attempts").with(|html| {
            for attempt in coming.saturating_sub(ATTEMPTS) + 1..=coming {
                let current = (attempt == view.attempt).then_some("page");
                html.element("a")
                    .href(format_args!("/job/{}/{attempt}", job.id))
                    .maybe("aria-current", current)
                    .show(format_args!("attempt {attempt}"));
            }
        });
        if !view.current() {
            html.element("p").class("callout newer").attribute("role", "status").with(|html| {
                html.show(format_args!("This is attempt {}. There is a later one: ", view.attempt));
                html.element("a").href(format_args!("/job/{}/{coming}", job.id)).show(format_args!("attempt {coming}"));
                html.show(format_args!(", {}.", job.word()));
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::log_fold::{Folder, Piece};
    use super::super::views::tests::{event, job};
    use super::*;
    use sai_core::job::{JobKey, Outcome, Verdict};
    use sai_core::ledger::{Session, SessionOf, Tried};
    use sai_core::record::Artifact;

    fn log(pieces: Vec<Piece>) -> LogPage {
        LogPage { pieces, lines: 3, offset: 77, ended: false, past: Past::default(), channels: Vec::new() }
    }

    fn view(state: JobState) -> JobView {
        let job = job(1001, "linux", "default", state);
        let attempt = coming_attempt(&job);
        let event = Some(event(1, 2));
        JobView {
            attempt,
            job,
            event,
            waiting: None,
            past: None,
            tests: None,
            forge: None,
            needed: false,
            unserved: false,
        }
    }

    fn page(view: &JobView, visitor: &Visitor) -> String {
        super::page(view, Some(&log(Vec::new())), None, &Marks::default(), visitor)
    }

    fn ann() -> Visitor {
        Visitor { who: Some("ann".to_string()), ..Visitor::default() }
    }

    #[test]
    fn a_page_follows_its_attempt_from_where_it_ends_and_learns_of_later_ones() {
        for state in [JobState::Running, JobState::Passed] {
            assert!(page(&view(state), &Visitor::default()).contains("/live?job=1001-1&amp;from=77\""));
        }
        let mut queued = view(JobState::Failed);
        queued.job.state = JobState::Queued;
        let text = page(&queued, &ann());
        assert!(text.contains("There is a later one: <a href=\"/job/1001/2\">attempt 2</a>, queued."), "{text}");
        queued.attempt = coming_attempt(&queued.job);
        let text = page(&queued, &ann());
        assert!(text.contains("class=\"badge queued\"") && text.contains("action=\"/job/1001/2/cancel\""), "{text}");
    }

    #[test]
    fn an_earlier_attempt_is_told_of_as_it_was_and_cannot_be_acted_on() {
        let mut earlier = view(JobState::Running);
        (earlier.job.attempt, earlier.attempt) = (3, 1);
        earlier.job.cause = "the latest cause".to_string();
        let verdict = Verdict {
            outcome: Outcome::Failed,
            fault: Fault::Job,
            cause: "step 2 ended with status 7".to_string(),
            step: Some(1),
            status: Some(7),
            trouble: None,
            verdict: None,
        };
        earlier.past = Some(Past { verdict: Some(verdict), millis: 184_000, artifacts: Vec::new() });
        let text = page(&earlier, &ann());
        assert!(text.contains("<span class=\"badge failed\">failed</span><h1>"), "{text}");
        assert!(text.contains("3 min 04 s") && text.contains("ended with status 7") && !text.contains("latest cause"));
        assert!(text.contains("later one: <a href=\"/job/1001/3\">attempt 3</a>, running."));
        assert!(!text.contains("/cancel\"") && !text.contains("/rebuild\""));
        earlier.past = Some(Past::default());
        let text = page(&earlier, &ann());
        assert!(text.contains("badge infra") && text.contains("it ended without a word"), "{text}");
        let (agent, board) = ("shed".to_string(), "uno-1".to_string());
        let tried = Tried { attempt: 1, agent, board, word: None, why: "the machine went down".to_string(), at: 7 };
        earlier.job.tried = Some(vec![tried]);
        let text = page(&earlier, &ann());
        assert!(text.contains("the machine went down") && !text.contains("without a word"), "{text}");
    }

    #[test]
    fn units_are_told_and_what_needs_it_can_be_built_again_with_it() {
        let mut queued = view(JobState::Queued);
        queued.job.units = Some([("licences".to_string(), 2), ("r<ig".to_string(), 1)].into_iter().collect());
        let text = page(&queued, &ann());
        assert!(text.contains("Wants </span><a href=\"/units#unit-licences\">2 <bdi>licences</bdi></a>"), "{text}");
        assert!(text.contains("r&lt;ig") && !text.contains("rebuild-following"));
        queued.needed = true;
        assert!(page(&queued, &ann()).contains("action=\"/job/1001/rebuild-following\""));
        assert!(!page(&queued, &Visitor::default()).contains("rebuild-following"));
        queued.job.state = JobState::Passed;
        assert!(page(&queued, &ann()).contains("Held "));
    }

    #[test]
    fn a_session_and_who_asked_for_it_lead_to_each_other() {
        let mut build = view(JobState::Running);
        build.job.sessions = Some(vec![Session { number: 1, job: 1002 }, Session { number: 2, job: 1003 }]);
        let text = page(&build, &ann());
        assert!(
            text.contains("At boards by </span><a href=\"/job/1002\">job 1002</a>, <a href=\"/job/1003\">"),
            "{text}"
        );
        let mut session = view(JobState::Running);
        let key = JobKey { job: 1001, attempt: 2 };
        session.job.session = Some(SessionOf { key, number: 1, agent: "shed".to_string() });
        let text = page(&session, &ann());
        assert!(text.contains("Asked for by </span><a href=\"/job/1001/2\">job 1001</a>"), "{text}");
        assert!(text.contains("/cancel\"") && !text.contains("/rebuild\""), "{text}");
    }

    #[test]
    fn cancelling_asks_first_and_strangers_are_told_how_to_act() {
        let running = view(JobState::Running);
        let text = page(&running, &ann());
        assert!(text.contains("<details class=\"ask cancel\"><summary>Cancel</summary><form"), "{text}");
        assert!(text.contains("action=\"/job/1001/1/cancel\"") && text.contains("Cancel this attempt"));
        let stranger = Visitor { address: "/job/1001?line=3".to_string(), ..Visitor::default() };
        let text = page(&running, &stranger);
        assert!(text.contains("href=\"/sign-in?to=%2Fjob%2F1001%3Fline%3D3\""), "{text}");
        assert!(text.contains("to cancel or rebuild it.") && !text.contains("method=\"post\""));
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
        let visitor = Visitor { address: "/job/1?\"><script>".to_string(), ..Visitor::default() };
        let text = super::page(&view, Some(&log(Folder::new([]).take())), None, &Marks::default(), &visitor);
        assert_eq!(text.matches("<script").count(), 1, "only our own");
        assert!(!text.contains("<b onmouseover"));
        assert!(text.contains("/job/1001/1/artifact/1/%3Cscript%3E%22%3F%23.html\" download"), "{text}");
        assert!(text.contains("2.0 KiB") && text.contains(&"ab".repeat(32)));
    }
}
