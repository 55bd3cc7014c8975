//! AgentsView → the page of agents: who is there, what each runs, and what the repositories are at.

use super::board_list;
use super::html::{Html, path_part};
use super::layout::{Here, Layout, ask, badge, button, hint, moment, state_badge, took};
use super::views::{AgentView, AgentsView, Visitor, job_took};
use crate::agents::INSIDE;
use crate::units;
use sai_core::roles::Deed;

/// Platforms of one agent named at once; the others are folded away.
const PLATFORMS: usize = 8;

/// The page.
pub fn page(view: &AgentsView, visitor: &Visitor) -> String {
    let live = Some(format!("/live?page=agents&since={}", visitor.now));
    Layout { title: "Agents", state: None, here: Here::Agents, visitor, live }.page(|html| {
        html.element("div").class("heading").with(|html| {
            html.element("h1").text("Agents");
        });
        list(html, view, visitor);
        if visitor.may(Deed::Administer, None) {
            html.element("form")
                .class("panel form")
                .attribute("method", "post")
                .attribute("action", "/agents/add")
                .with(|html| {
                    html.element("label").attribute("for", "name").text("Add an agent");
                    html.element("input")
                        .id("name")
                        .attribute("name", "name")
                        .flag("required", true)
                        .attribute("maxlength", 64)
                        .attribute("placeholder", "its name")
                        .attribute("autocomplete", "off")
                        .empty();
                    html.element("button").text("Make its join line");
                });
        } else {
            hint(html, visitor, "an admin", "add, set aside or revoke agents");
        }
        repositories(html, view);
        actions(html, view, visitor);
    })
}

/// The agents, replaced as a whole.
pub fn list(html: &mut Html, view: &AgentsView, visitor: &Visitor) {
    html.element("div").id("agents").with(|html| {
        sum(html, view);
        if view.agents.is_empty() {
            html.element("p")
                .class("empty")
                .text("No agents yet. `sai-master agent add NAME` prints the line to join one.");
        }
        for agent in &view.agents {
            card(html, agent, visitor);
        }
    });
}

/// How many there are.
pub fn sum(html: &mut Html, view: &AgentsView) {
    let here = || view.agents.iter().filter(|agent| agent.connected());
    let slots: u64 = here().filter_map(|agent| agent.live.as_ref()).map(|live| u64::from(live.slots)).sum();
    let running: usize = view.agents.iter().map(|agent| agent.jobs.len()).sum();
    let (connected, all) = (here().count(), view.agents.len());
    html.element("p")
        .id("agents-sum")
        .class("muted")
        .show(format_args!("{connected} of {all} connected · {running} of {slots} slots busy"));
}

/// The id of an agent's card.
pub fn card_id(agent: &AgentView) -> String {
    format!("agent-{}", path_part(&agent.name))
}

/// One agent, replaced as a whole.
pub fn card(html: &mut Html, agent: &AgentView, visitor: &Visitor) {
    let word = agent.word();
    html.element("article").id(card_id(agent)).class(format_args!("card agent {word}")).with(|html| {
        html.element("div").class("line").with(|html| {
            badge(html, word);
            html.element("h2").name(&agent.name);
            html.element("span").class("when").with(|html| since(html, agent, visitor.now));
        });
        html.element("div").class("line about").with(|html| about(html, agent));
        if let Some(why) = agent.live.as_ref().and_then(|live| live.set_aside.as_ref()) {
            html.element("p").class("callout").with(|html| {
                html.element("b").text("Set aside: ");
                html.name(why);
            });
        }
        if let Some(twin) = agent.live.as_ref().and_then(|live| live.twin.as_ref()) {
            html.element("p").class("callout").with(|html| _ = html.name(twin));
        }
        for why in agent.live.iter().flat_map(|live| &live.paused) {
            html.element("p").class("callout").with(|html| {
                html.element("b").text("Paused: ");
                html.name(why);
            });
        }
        if let Some(card) = agent.live.as_ref().and_then(|live| live.card.as_ref()) {
            html.element("p").class("muted").name(card);
        }
        platforms(html, agent);
        boards(html, agent);
        for note in agent.live.iter().flat_map(|live| &live.notes) {
            html.element("p").class("muted").name(note);
        }
        if !agent.jobs.is_empty() {
            html.element("ul").class("now").with(|html| {
                for job in &agent.jobs {
                    html.element("li").with(|html| {
                        state_badge(html, job.standing());
                        html.element("a").href(format_args!("/job/{}", job.id)).with(|html| {
                            html.name(&job.repository).text(" ").name(&job.configuration);
                            html.element("span").class("on").name(&job.platform);
                        });
                        if let Some(millis) = job_took(job, visitor.now) {
                            took(html, millis, false);
                        }
                    });
                }
            });
        }
        if visitor.may(Deed::Administer, None) && agent.record.as_ref().is_none_or(|record| !record.revoked) {
            manage(html, agent);
        }
    });
}

fn since(html: &mut Html, agent: &AgentView, now: u64) {
    match (&agent.live, agent.record.as_ref().and_then(|record| record.seen_at)) {
        (Some(live), _) if live.connected => {
            html.text("connected ");
            moment(html, live.connected_since, now);
        }
        // An agent that was never connected has been away since the beginning of time.
        (Some(live), _) if live.connected_since > 0 => {
            html.text("last seen ");
            moment(html, live.connected_since, now);
        }
        (_, Some(seen)) => {
            html.text("last seen ");
            moment(html, seen, now);
        }
        (_, None) => _ = html.text("never seen"),
    }
}

fn about(html: &mut Html, agent: &AgentView) {
    let host = match (&agent.live, &agent.record) {
        (Some(live), _) => live.host.as_str(),
        (None, Some(record)) => record.host.as_str(),
        (None, None) => "",
    };
    if !host.is_empty() {
        html.element("span").name(host);
    }
    if let Some(live) = agent.live.as_ref().filter(|live| live.connected) {
        html.element("span").show(format_args!("{} of {} slots", live.running.len(), live.slots));
        html.element("span").show(format_args!("{} cores", live.cores));
        html.element("span").with(|html| {
            html.text("load ");
            // `meter` draws and names the share by itself, without a style of its own.
            html.element("meter")
                .attribute("min", 0)
                .attribute("max", 1000)
                .attribute("high", 900)
                .attribute("value", live.load_permille.min(1000))
                .show(format_args!("{} %", live.load_permille / 10));
            html.show(format_args!(" {} %", live.load_permille / 10));
        });
        html.element("span").show(format_args!("{} free", units::size(live.free_mib.saturating_mul(1 << 20))));
    }
}

fn platforms(html: &mut Html, agent: &AgentView) {
    let platforms: &[String] = match (&agent.live, &agent.record) {
        (Some(live), _) => &live.platforms,
        (None, Some(record)) => &record.platforms,
        (None, None) => &[],
    };
    let (named, folded) = platforms.split_at(platforms.len().min(PLATFORMS));
    let tags = |html: &mut Html, platforms: &[String]| {
        html.element("div").class("tags").with(|html| {
            for platform in platforms {
                html.element("code").name(platform);
            }
        });
    };
    if !named.is_empty() {
        tags(html, named);
    }
    if !folded.is_empty() {
        html.element("details").with(|html| {
            html.element("summary").show(format_args!("{} more platforms", folded.len()));
            tags(html, folded);
        });
    }
}

/// Boards of one agent that are named.
const BOARDS: usize = 64;

fn boards(html: &mut Html, agent: &AgentView) {
    if agent.boards.is_empty() {
        return;
    }
    html.element("p").class("needs").with(|html| {
        html.element("span").class("muted").text("Boards ");
        for (index, (board, state)) in agent.boards.iter().take(BOARDS).enumerate() {
            html.text(if index > 0 { ", " } else { "" });
            html.element("a").href(board_list::address(&agent.name, board)).name(board);
            html.show(format_args!(" {state}"));
        }
        if agent.boards.len() > BOARDS {
            html.show(format_args!(" and {} more", agent.boards.len() - BOARDS));
        }
    });
}

fn manage(html: &mut Html, agent: &AgentView) {
    let address = |what: &str| format!("/agents/{}/{what}", path_part(&agent.name));
    html.element("div").class("actions").with(|html| {
        let aside = agent.live.as_ref().is_some_and(|live| live.set_aside.is_some() || !live.paused.is_empty());
        if agent.connected() && aside {
            button(html, address("take-back"), "rebuild", "Give it jobs again");
        } else if agent.connected() {
            button(html, address("set-aside"), "quiet", "Set aside");
        }
        // The built-in one has no token; the configuration switches it off.
        if agent.record.is_some() && agent.name != INSIDE {
            let question = "It is let in no more, and its jobs go to others. To come back it must join anew.";
            ask(html, address("revoke"), ["Revoke", question, "Revoke its token"]);
        }
    });
}

fn repositories(html: &mut Html, view: &AgentsView) {
    if view.repositories.is_empty() {
        return;
    }
    html.element("section").class("panel").with(|html| {
        html.element("h2").text("Repositories");
        html.element("table").with(|html| {
            html.element("tbody").with(|html| {
                for repository in &view.repositories {
                    html.element("tr").with(|html| {
                        html.element("td").class("what").with(|html| {
                            html.element("a")
                                .href(format_args!("/?repository={}", path_part(&repository.name)))
                                .name(&repository.name);
                        });
                        html.element("td").class("why").with(|html| html.element("code").name(&repository.url));
                        html.element("td").class("why").name(&repository.state);
                    });
                }
            });
        });
    });
}

fn actions(html: &mut Html, view: &AgentsView, visitor: &Visitor) {
    if view.actions.is_empty() {
        return;
    }
    html.element("section").class("panel").with(|html| {
        html.element("h2").text("What people did");
        html.element("ul").class("now").with(|html| {
            for action in &view.actions {
                html.element("li").with(|html| {
                    html.element("b").name(&action.who);
                    html.element("span").class("cause").name(&action.what);
                    html.element("span").class("took").with(|html| moment(html, action.at, visitor.now));
                });
            }
        });
        if visitor.may(Deed::Administer, None) {
            html.element("p").class("hint").with(|html| html.element("a").href("/audit").text("All of it"));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::job;
    use super::*;
    use crate::live::LiveAgent;
    use sai_core::job::{JobKey, JobState};

    #[test]
    fn agents_show_what_they_run_and_are_managed_by_the_signed_in() {
        let live = LiveAgent {
            name: "rock <5>".to_string(),
            platforms: (0..20).map(|number| format!("linux-{number}/x86_64/gcc")).collect(),
            slots: 4,
            connected: true,
            running: vec![JobKey { job: 1, attempt: 1 }],
            load_permille: 1700,
            notes: vec!["jobs have <no> cgroup".to_string()],
            ..LiveAgent::default()
        };
        let agent = AgentView {
            name: live.name.clone(),
            record: None,
            live: Some(live.into()),
            jobs: vec![job(1, "linux-0/x86_64/gcc", "default", JobState::Running)],
            boards: vec![("b<1>".to_string(), "free")],
        };
        let view = AgentsView { agents: vec![agent], ..AgentsView::default() };
        let page = super::page(&view, &Visitor::default());
        assert!(page.contains("1 of 4 slots busy") && page.contains("12 more platforms") && page.contains("170 %"));
        assert!(page.contains("jobs have &lt;no&gt; cgroup"));
        assert!(page.contains("rock &lt;5&gt;") && page.contains("id=\"agent-rock%20%3C5%3E\""));
        assert!(page.contains("href=\"/boards/rock%20%3C5%3E/b%3C1%3E\"><bdi>b&lt;1&gt;</bdi></a> free"), "{page}");
        assert!(!page.contains("set-aside"));
        let visitor = Visitor { who: Some("ann".to_string()), ..Visitor::default() };
        assert!(super::page(&view, &visitor).contains("action=\"/agents/rock%20%3C5%3E/set-aside\""));
    }

    #[test]
    fn an_agent_that_was_never_connected_was_never_seen() {
        let live = LiveAgent { name: "new".to_string(), ..LiveAgent::default() };
        let agent = AgentView {
            name: live.name.clone(),
            record: None,
            live: Some(live.into()),
            jobs: Vec::new(),
            boards: Vec::new(),
        };
        let page = super::page(&AgentsView { agents: vec![agent], ..AgentsView::default() }, &Visitor::default());
        assert!(page.contains("never seen") && !page.contains("days ago"), "{page}");
    }
}
