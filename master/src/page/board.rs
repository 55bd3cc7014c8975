//! A board and the jobs that were at it → its page: how it stands, its queue, and what was found there, the newest first.

use super::board_list::{self, address};
use super::html::{Html, path_part};
use super::layout::{Here, Layout, badge, button, hint, job_badge, moment, state_badge, took};
use super::views::{Visitor, job_took};
use crate::units;
use sai_core::job::JobState;
use sai_core::ledger::{JobRecord, Tried};
use sai_core::roles::Deed;
use sai_core::scheduler::{BoardHealth, BoardRow};

/// Stays at a board on one page.
pub const STAYS: usize = 50;
/// Jobs of the queue that are named.
const NAMED: usize = 20;

/// An attempt that was at a board.
#[derive(Clone, Debug)]
pub struct Stay {
    /// Its job.
    pub job: JobRecord,
    /// What is known of it, where it was not the job's last one.
    pub tried: Option<Tried>,
}

impl Stay {
    /// The attempt.
    pub fn attempt(&self) -> u32 {
        self.tried.as_ref().map_or(self.job.attempt, |tried| tried.attempt)
    }

    /// When it ended, or was queued if it has not, Unix milliseconds.
    pub fn at(&self) -> u64 {
        let last = self.job.ended_at.unwrap_or(self.job.queued_at);
        self.tried.as_ref().map_or(last, |tried| tried.at)
    }

    /// What was found, in a word.
    pub fn word(&self) -> &str {
        match &self.tried {
            Some(tried) => tried.word.as_deref().unwrap_or("infra"),
            None => self.job.finding().unwrap_or(self.job.word()),
        }
    }

    /// Why, in a sentence.
    pub fn why(&self) -> &str {
        match &self.tried {
            Some(tried) => &tried.why,
            None => &self.job.cause,
        }
    }
}

/// A board.
#[derive(Clone, Debug, Default)]
pub struct BoardView {
    /// Its agent, and its name there.
    pub name: (String, String),
    /// How it stands, while it is offered.
    pub row: Option<BoardRow>,
    /// Who was there, the newest first.
    pub stays: Vec<Stay>,
    /// Where to go on: before this event.
    pub next: Option<u64>,
}

/// The stays of a job at a board, the newest first.
pub fn stays(job: &JobRecord, agent: &str, board: &str) -> Vec<Stay> {
    let mut stays = Vec::new();
    let given = job.given.as_ref().is_some_and(|given| given.names().any(|name| name == board));
    // What was tried and is queued again stands among those that others followed.
    let last = job.tried.as_ref().and_then(|all| all.last()).is_none_or(|tried| tried.attempt < job.attempt);
    if given && last && job.agent.as_deref() == Some(agent) {
        stays.push(Stay { job: job.clone(), tried: None });
    }
    let tried = job.tried.iter().flatten().rev().filter(|tried| tried.agent == agent && tried.board == board);
    stays.extend(tried.map(|tried| Stay { job: job.clone(), tried: Some(tried.clone()) }));
    stays
}

/// The page.
pub fn page(view: &BoardView, visitor: &Visitor) -> String {
    let (agent, board) = (&view.name.0, &view.name.1);
    let title = format!("Board {board} of {agent}");
    let live = Some(format!("/live?agent={}&board={}", path_part(agent), path_part(board)));
    Layout { title: &title, state: None, here: Here::Boards, visitor, live }.page(|html| {
        html.element("p").class("crumbs").with(|html| {
            html.element("a").href("/boards").text("Boards");
            html.text(" / ");
            html.element("a").href(format_args!("/agents#agent-{}", path_part(agent))).name(agent);
        });
        head(html, view, visitor.now);
        if let Some(row) = &view.row {
            // Not replaced with the rest: what is shown there is the same for all.
            html.element("div").class("actions").with(|html| actions(html, row, visitor));
        }
        html.element("section").class("panel jobs").attribute("aria-label", "History").with(|html| {
            html.element("h2").text("What was found here");
            if view.stays.is_empty() {
                html.element("p").class("empty").text(match view.next {
                    Some(_) => "No job was here among the events looked through so far.",
                    None => "No job was here yet.",
                });
            } else {
                html.element("table").with(|html| table(html, view, visitor.now));
            }
        });
        html.element("nav").class("pager").attribute("aria-label", "Pages").with(|html| {
            if let Some(next) = view.next {
                let address = format!("{}?before={next}", address(agent, board));
                html.element("a").href(address).attribute("rel", "next").text("Older");
            }
        });
    })
}

/// How it stands, replaced as a whole.
pub fn head(html: &mut Html, view: &BoardView, now: u64) {
    html.element("div").id("board-head").class("head").with(|html| {
        html.element("div").class("line").with(|html| {
            badge(html, view.row.as_ref().map_or("away", BoardRow::state));
            html.element("h1").name(&view.name.1);
        });
        let Some(row) = &view.row else {
            html.element("p").text("Its agent does not offer it now.");
            return;
        };
        html.element("p").with(|html| board_list::kind(html, row));
        html.element("p").with(|html| board_list::standing(html, row, now));
        for kept in &row.kept_from {
            html.element("p").class("callout waiting").with(|html| {
                html.element("b").name(&kept.repository);
                html.text(" does not get it: ").name(&kept.why);
                html.show(format_args!(", all of this repository; no job of it for {} s", kept.seconds));
            });
        }
        health(html, row, now);
        html.element("h2").text("Next in turn");
        board_list::queue(html, row, NAMED);
    });
}

/// How it was found to be last.
fn health(html: &mut Html, row: &BoardRow, now: u64) {
    let BoardHealth { record, check } = &row.health;
    if let Some(aside) = &record.aside {
        html.element("p").class("callout waiting").with(|html| {
            html.text("Set aside by ").name(&aside.by).text(", ");
            moment(html, aside.at, now);
            html.text(": it gets no jobs until it is taken back.");
        });
    }
    html.element("p").class("why").id("health").with(|html| {
        html.element("b").text("Health: ");
        match (&row.offered.health, &record.last) {
            (None, None) => {
                html.text("not known; its file of boards does not say how that is found out.");
                return;
            }
            (Some(_), None) => {
                html.text("not looked at yet");
            }
            (_, Some(last)) => {
                html.text(if last.passed { "well, by " } else { "not well, by " });
                html.element("a").href(format_args!("/job/{}", last.job)).show(format_args!("job {}", last.job));
                html.text(", ");
                moment(html, last.at, now);
            }
        }
        if let Some(job) = check {
            html.text("; ");
            html.element("a").href(format_args!("/job/{job}")).show(format_args!("job {job}"));
            html.text(" finds out how it is now");
        }
        html.text(".");
        if let Some(every_s) = row.offered.health.as_ref().and_then(|health| health.every_s) {
            html.show(format_args!(" It is looked at every {}.", units::span(every_s.saturating_mul(1000))));
        }
    });
}

/// What can be done about it.
fn actions(html: &mut Html, row: &BoardRow, visitor: &Visitor) {
    let address = address(&row.agent, &row.offered.name);
    let kept = row.pause_s.is_some() || !row.kept_from.is_empty() || row.health.keeps().is_some();
    let checks = row.offered.health.is_some();
    // A rig is for jobs.
    let lent = row.offered.boards.is_none();
    match visitor.may(Deed::Build, None) {
        true => {
            if lent {
                button(html, format_args!("{address}/lease"), "rebuild", "Ask for it, to use it yourself");
            }
            if checks {
                button(html, format_args!("{address}/health"), "rebuild", "Find out how well it is");
            }
        }
        false if lent => hint(html, visitor, "a builder", "use it yourself"),
        false if checks => hint(html, visitor, "a builder", "have its health found out"),
        false => {}
    }
    match visitor.may(Deed::Administer, None) {
        true => {
            if row.health.record.aside.is_none() {
                button(html, format_args!("{address}/set-aside"), "quiet", "Set aside");
            }
            // It may be doubted while this is looked at.
            button(html, format_args!("{address}/take-back"), "quiet", "Give it jobs again");
        }
        false if kept => hint(html, visitor, "an admin", "give it jobs again"),
        false => {}
    }
}

fn table(html: &mut Html, view: &BoardView, now: u64) {
    html.element("thead").with(|html| {
        html.element("tr").with(|html| {
            for column in ["Verdict", "Job", "Repository", "Why", "Took", "When"] {
                html.element("th").attribute("scope", "col").text(column);
            }
        });
    });
    html.element("tbody").with(|html| {
        for stay in &view.stays {
            let job = &stay.job;
            html.element("tr").with(|html| {
                html.element("td").with(|html| match &stay.tried {
                    Some(tried) => {
                        state_badge(html, JobState::Infra);
                        if let Some(word) = tried.word.as_ref().filter(|word| *word != "infra") {
                            html.text(" ");
                            html.element("b").class("finding").name(word);
                        }
                    }
                    None => job_badge(html, job),
                });
                html.element("td").class("what").with(|html| {
                    html.element("a").href(format_args!("/job/{}/{}", job.id, stay.attempt())).with(|html| {
                        html.name(&job.configuration);
                        html.element("span").class("on").name(&job.platform);
                    });
                    html.element("span").class("muted").show(format_args!(" attempt {}", stay.attempt()));
                });
                html.element("td").with(|html| {
                    html.name(job.person.as_deref().unwrap_or(&job.repository));
                });
                html.element("td").class("why").name(stay.why());
                html.element("td").class("took").with(|html| {
                    if let Some(millis) = job_took(job, now).filter(|_| stay.tried.is_none()) {
                        took(html, millis, job.state.ended());
                    }
                });
                html.element("td").class("took").with(|html| moment(html, stay.at(), now));
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::board_list::tests::board;
    use super::super::views::tests::job;
    use super::*;
    use sai_core::job::{Fault, Finding, Outcome, Verdict};
    use sai_core::units::GivenBoard;

    fn at(id: u64, name: &str, state: JobState) -> JobRecord {
        let given = Some(GivenBoard { name: name.to_string(), grant: 1, others: Some(vec!["other".to_string()]) });
        JobRecord { given, agent: Some("rock<5>".to_string()), ..job(id, "linux", "fw/board", state) }
    }

    #[test]
    fn a_stay_is_the_last_attempt_or_one_that_another_followed() {
        let mut there = at(1, "b-1", JobState::Passed);
        there.attempt = 3;
        let tried = |attempt, board: &str, word: Option<&str>| Tried {
            attempt,
            agent: "rock<5>".to_string(),
            board: board.to_string(),
            word: word.map(str::to_string),
            why: "<its chip is gone>".to_string(),
            at: 5,
        };
        there.tried = Some(vec![tried(1, "b-1", None), tried(2, "b-2", Some("flash-failed"))]);
        let told = |board: &str| {
            stays(&there, "rock<5>", board)
                .iter()
                .map(|stay| (stay.attempt(), stay.word().to_string()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told("b-1"), [(3, "passed".to_string()), (1, "infra".to_string())]);
        assert_eq!(told("b-2"), [(2, "flash-failed".to_string())]);
        assert_eq!(told("other"), [(3, "passed".to_string())]);
        assert!(stays(&there, "another", "b-1").is_empty());
        // One that is queued again was there once, not twice.
        let mut again = at(2, "b-1", JobState::Queued);
        (again.attempt, again.tried) = (1, Some(vec![tried(1, "b-1", None)]));
        assert_eq!(stays(&again, "rock<5>", "b-1").len(), 1);
    }

    #[test]
    fn a_board_is_shown_with_its_queue_and_what_was_found_there() {
        let name = ("rock<5>".to_string(), "b<1>".to_string());
        let mut failed = at(3, "b<1>", JobState::Failed);
        failed.cause = "nothing came <within> 10 s".to_string();
        failed.verdict = Some(Verdict {
            outcome: Outcome::Failed,
            fault: Fault::Job,
            cause: failed.cause.clone(),
            step: None,
            status: None,
            trouble: None,
            verdict: Some(Finding { word: "silent".to_string(), what: None, board: None }),
        });
        let stays = vec![Stay { job: failed, tried: None }];
        let view = BoardView { name, row: Some(board("b<1>", true)), stays, next: Some(9) };
        let visitor = Visitor { now: 5_000, ..Visitor::default() };
        let text = page(&view, &visitor);
        for part in [
            "<b class=\"finding\"><bdi>silent</bdi></b>",
            "nothing came &lt;within&gt; 10 s",
            "href=\"/boards/rock%3C5%3E/b%3C1%3E?before=9\"",
            "<b><bdi>&lt;u&gt;</bdi></b> does not get it: <bdi>silent</bdi>",
            "job 119</a>",
            "and 10 more",
            "/live?agent=rock%3C5%3E&amp;board=b%3C1%3E",
            "to give it jobs again",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let ann = Visitor { who: Some("ann".to_string()), ..visitor.clone() };
        assert!(page(&view, &ann).contains("action=\"/boards/rock%3C5%3E/b%3C1%3E/take-back\""));
        let gone = page(&BoardView { row: None, stays: Vec::new(), next: None, ..view }, &visitor);
        assert!(gone.contains("does not offer it now") && gone.contains("No job was here yet"), "{gone}");
    }
}
