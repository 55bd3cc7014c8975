//! Repository and branch → what is newest of it, at addresses that stay: event, badge, file, feed; and figures to scrape.

use super::artifact_list;
use super::html::{Html, path_part};
use super::layout::subject;
use super::library::Library;
use super::views::{EventView, reference_name};
use crate::units;
use sai_core::job::{EventId, JobState};
use sai_core::ledger::{EventRecord, JobRecord};

/// Events of a repository that are looked through for the newest of a branch.
const LOOKED_THROUGH: usize = 2000;

/// Events looked at in one reading.
const PAGE: usize = 100;

/// Events in a feed.
pub const FEED: usize = 30;

/// Characters of a branch's name on a badge.
const BADGE_CHARACTERS: usize = 40;

/// The newest event of a branch (or tag) that `wanted` takes.
fn newest<T>(
    library: &Library,
    repository: &str,
    branch: &str,
    mut wanted: impl FnMut(&EventRecord) -> Option<T>,
) -> Option<T> {
    let mut before: Option<EventId> = None;
    for _ in 0..LOOKED_THROUGH / PAGE {
        let events = library.archive.events(before, Some(repository), PAGE);
        before = Some(events.last()?.id);
        let of_branch = events.iter().filter(|event| reference_name(&event.reference).1 == branch);
        if let Some(found) = of_branch.filter_map(&mut wanted).next() {
            return Some(found);
        }
    }
    None
}

/// The address of the newest event of a branch.
pub fn event(library: &Library, repository: &str, branch: &str) -> Option<String> {
    newest(library, repository, branch, |event| Some(format!("/event/{}", event.id)))
}

/// The address of a file as the newest job made it that passed, of this configuration, on any platform that begins with
/// what is given.
pub fn artifact(
    library: &Library,
    repository: &str,
    branch: &str,
    [configuration, platform, path]: [&str; 3],
) -> Option<String> {
    newest(library, repository, branch, |event| {
        let jobs = library.archive.jobs(event.id);
        jobs.iter()
            .filter(|job| job.state == JobState::Passed && job.configuration == configuration)
            .filter(|job| job.platform.starts_with(platform))
            .find_map(|job| {
                let artifact = job.artifacts.iter().find(|artifact| artifact.path == path)?;
                Some(artifact_list::address(job.id, job.attempt, artifact))
            })
    })
}

/// A picture of how a branch stands: of its newest event that has ended.
pub fn badge(library: &Library, repository: &str, branch: &str) -> String {
    let view = |event: &EventRecord| Some(library.listed(event.clone())).filter(|view| view.standing().ended());
    let newest = newest(library, repository, branch, view);
    let standing = newest.as_ref().map_or("unknown", |view| view.standing().word());
    let colour = match standing {
        "passed" => "#19742f",
        "failed" | "invalid" => "#c02a26",
        _ => "#59636e",
    };
    let label: String = branch.chars().take(BADGE_CHARACTERS).collect();
    let word = match newest.as_ref().and_then(EventView::finding) {
        Some(finding) => format!("{standing}: {}", finding.chars().take(BADGE_CHARACTERS).collect::<String>()),
        None => standing.to_string(),
    };
    // Letters of the one font that all systems name are at most so wide; texts are fitted to what is reckoned here.
    let width = |text: &str| 12 + 7 * text.chars().count();
    let (left, right) = (width(&label), width(&word));
    let mut html = Html::new();
    html.element("svg")
        .attribute("xmlns", "http://www.w3.org/2000/svg")
        .attribute("width", left + right)
        .attribute("height", 20)
        .attribute("role", "img")
        .attribute("aria-label", format_args!("{label}: {word}"))
        .with(|html| {
            html.element("title").show(format_args!("{label}: {word}"));
            for (x, width, fill) in [(0, left, "#30363d"), (left, right, colour)] {
                let rect = html.element("rect").attribute("x", x).attribute("width", width);
                rect.attribute("height", 20).attribute("fill", fill).empty();
            }
            for (x, width, text) in [(0, left, label.as_str()), (left, right, word.as_str())] {
                html.element("text")
                    .attribute("x", x + width / 2)
                    .attribute("y", 14)
                    .attribute("fill", "#fff")
                    .attribute("text-anchor", "middle")
                    .attribute("font-family", "Verdana,DejaVu Sans,sans-serif")
                    .attribute("font-size", 11)
                    .attribute("textLength", width - 12)
                    .text(text);
            }
        });
    html.into_string()
}

/// The events as an Atom feed (RFC 4287), of one repository or of all. Its addresses are relative to its own.
pub fn feed(events: &[EventView], repository: Option<&str>, now: u64) -> String {
    let mut html = Html::new();
    html.element("feed").attribute("xmlns", "http://www.w3.org/2005/Atom").with(|html| {
        html.element("title").show(format_args!("Sai: {}", repository.unwrap_or("all repositories")));
        html.element("id").show(format_args!("urn:sai:feed:{}", path_part(repository.unwrap_or(""))));
        html.element("updated").text(&units::moment(events.first().map_or(now, |view| view.event.at)));
        for view in events {
            let event = &view.event;
            html.element("entry").with(|html| {
                let word = view.standing().word();
                let finding = view.finding().map_or_else(String::new, |word| format!(" ({word})"));
                html.element("title").show(format_args!("{word}{finding}: {}", subject(event)));
                html.element("id").show(format_args!("urn:sai:event:{}:{word}", event.id));
                html.element("updated").text(&units::moment(event.at));
                html.element("author").with(|html| html.element("name").text(&event.author));
                // Written with an end, which XML asks for.
                html.element("link").href(format_args!("/event/{}", event.id)).with(|_| {});
                let wrong: Vec<String> = view.jobs.iter().filter(|job| job.standing().went_wrong()).map(told).collect();
                if !wrong.is_empty() {
                    let more = wrong.len().saturating_sub(TOLD);
                    let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
                    let first = wrong.get(..TOLD).unwrap_or(&wrong).join("\n");
                    html.element("summary").attribute("type", "text").show(format_args!("{first}{more}"));
                }
            });
        }
    });
    html.into_string()
}

/// Jobs of an event that went wrong whose verdicts a feed tells.
const TOLD: usize = 20;

/// How a job ended, with the cause and where that was.
fn told(job: &JobRecord) -> String {
    let agent = job.agent.as_deref().unwrap_or_default();
    let mut boards = job.given.iter().flat_map(|given| given.names());
    let at = boards.next().map_or_else(String::new, |board| format!(" at {agent}/{board}"));
    let at = boards.fold(at, |at, board| format!("{at}, {agent}/{board}"));
    let word = job.finding().unwrap_or(job.word());
    format!("{} on {}: {word}{at}: {}", job.configuration, job.platform, job.cause)
}

/// Figures of the master as it stands (OpenMetrics 1.0).
pub fn metrics(library: &Library) -> String {
    let (mut connected, mut slots, mut running, mut aside, mut passed_over) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let (agents, waiting, bugs) = {
        let live = library.live();
        passed_over += live.agents.values().map(|agent| agent.passed_over).sum::<u64>();
        for agent in live.agents.values().filter(|agent| agent.connected) {
            connected += 1;
            slots += u64::from(agent.slots);
            running += agent.running.len() as u64;
            aside += u64::from(agent.set_aside.is_some());
        }
        (live.agents.len() as u64, live.waiting.len() as u64, live.bugs_found)
    };
    let mut out = String::new();
    for (name, help, value) in [
        ("sai_agents", "Agents that are known.", agents),
        ("sai_agents_connected", "Agents whose link is up.", connected),
        ("sai_agents_aside", "Connected agents that are given no jobs.", aside),
        ("sai_slots", "Jobs that the connected agents can run at once.", slots),
        ("sai_jobs_running", "Jobs that agents run now.", running),
        ("sai_jobs_queued", "Jobs that wait for an agent.", waiting),
        ("sai_viewers", "Pages that are open.", library.changes.watching() as u64),
        ("sai_passed_over", "Messages and frames of agents that were of no known kind.", passed_over),
        ("sai_bugs", "Times that Sai has found a mistake of its own.", bugs),
    ] {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
    }
    out.push_str("# EOF\n");
    out
}
