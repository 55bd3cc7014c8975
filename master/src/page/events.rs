//! EventsView → the list of events, newest first, each with its grid.

use super::filter::Filter;
use super::first_steps;
use super::grid;
use super::html::{Html, path_part};
use super::layout::{Here, Layout, at_forge, badge, moment, revision, subject, took};
use super::starting;
use super::views::{EventView, EventsView, Visitor, reference_name, source_phrase};

/// The page.
pub fn page(view: &EventsView, visitor: &Visitor) -> String {
    // Older pages do not change by new events; the first one does.
    let live = (view.before.is_none() && !view.filter.is_narrow()).then(|| match &view.filter.repository {
        Some(repository) => format!("/live?page=events&since={}&repository={}", visitor.now, path_part(repository)),
        None => format!("/live?page=events&since={}", visitor.now),
    });
    let title = match (&view.filter.revision, &view.filter.branch, &view.filter.repository) {
        (Some(name), ..) | (_, Some(name), _) | (_, _, Some(name)) => name.as_str(),
        _ => "Events",
    };
    Layout { title, state: None, here: Here::Events, visitor, live }.page(|html| {
        html.element("div").class("heading").with(|html| {
            html.element("h1").text("Events");
            filter(html, view);
        });
        if let Some(steps) = &view.steps {
            first_steps::section(html, steps);
        }
        view.filter.form(html);
        branch(html, view);
        let only =
            view.repositories.first().filter(|_| view.repositories.len() == 1).map(|repository| &repository.name);
        if let Some(repository) = view.filter.repository.as_ref().or(only) {
            starting::form(html, repository, view.filter.branch.as_deref(), visitor);
        }
        away(html, view);
        html.element("div").id("events").with(|html| {
            for event in &view.events {
                card(html, event, visitor.now);
            }
        });
        if view.events.is_empty() {
            html.element("p").class("empty").text(match (view.before, view.filter.repository.is_some()) {
                _ if view.next.is_some() => "No such events among those looked through so far.",
                _ if view.filter.is_narrow() => "No such events.",
                (Some(_), _) => "No older events.",
                (None, true) => "No events of this repository yet.",
                (None, false) => "No events yet. Push to a configured repository, and what is built shows here.",
            });
        }
        pager(html, view);
    })
}

/// The repositories that cannot be looked at, and why.
fn away(html: &mut Html, view: &EventsView) {
    let shown = |name: &str| view.filter.repository.as_deref().is_none_or(|wanted| wanted == name);
    for repository in view.repositories.iter().filter(|repository| repository.trouble && shown(&repository.name)) {
        html.element("p").class("callout failed").attribute("role", "status").with(|html| {
            html.element("strong").name(&repository.name);
            html.text(" ");
            html.name(&repository.state);
        });
    }
}

fn filter(html: &mut Html, view: &EventsView) {
    if view.repositories.len() < 2 && view.filter.repository.is_none() {
        return;
    }
    html.element("nav").class("filter").attribute("aria-label", "Repositories").with(|html| {
        let all = view.filter.repository.is_none().then_some("page");
        html.element("a").href("/").maybe("aria-current", all).text("all");
        for repository in &view.repositories {
            let current = (view.filter.repository.as_deref() == Some(&repository.name)).then_some("page");
            html.element("a")
                .href(format_args!("/?repository={}", path_part(&repository.name)))
                .maybe("aria-current", current)
                .name(&repository.name);
        }
    });
}

/// What stays of a branch: its picture, and what passed last.
fn branch(html: &mut Html, view: &EventsView) {
    let Some((repository, branch)) = view.filter.repository.as_ref().zip(view.filter.branch.as_ref()) else { return };
    let latest = format!("/latest/{}/{}", path_part(repository), path_part(branch));
    html.element("p").class("line about").with(|html| {
        let picture = html.element("img").attribute("src", format_args!("{latest}/badge.svg"));
        picture.attribute("alt", format_args!("how {branch} stands")).empty();
        html.element("a").href(&latest).text("Newest");
        html.element("a").href(format_args!("/feed.atom?repository={}", path_part(repository))).text("Feed");
    });
}

fn pager(html: &mut Html, view: &EventsView) {
    html.element("nav").class("pager").attribute("aria-label", "Pages").with(|html| {
        if view.before.is_some() {
            html.element("a").href(view.filter.address(None)).text("Newest");
        }
        if let Some(next) = view.next {
            html.element("a").href(view.filter.address(Some(next))).attribute("rel", "next").text("Older");
        }
    });
}

/// One event of the list; it is replaced as a whole when it changes, and a new one goes to the top.
pub fn card(html: &mut Html, view: &EventView, now: u64) {
    let (event, standing) = (&view.event, view.standing());
    html.element("article")
        .id(format_args!("event-{}", event.id))
        .class(format_args!("card {}", standing.word()))
        .attribute("data-into", "events")
        .with(|html| {
            html.element("div").class("line").with(|html| {
                badge(html, standing.word());
                html.element("h2").with(|html| {
                    html.element("a").href(format_args!("/event/{}", event.id)).name(subject(event));
                });
                html.element("span").class("when").with(|html| moment(html, event.at, now));
            });
            html.element("div").class("line about").with(|html| {
                about(html, view);
                if let Some(millis) = view.took(now) {
                    took(html, millis, standing.ended());
                }
                grid::summary(html, view);
            });
            problems(html, view, 3);
            if view.total() == 0 {
                if event.errors.is_empty() {
                    html.element("p").class("muted").text("Nothing to build for this ref.");
                }
                return;
            }
            grid::bar(html, view);
            grid::compact(html, view);
        });
}

/// Repository, ref, revision, author and source.
pub fn about(html: &mut Html, view: &EventView) {
    let event = &view.event;
    html.element("a")
        .class("repository")
        .href(format_args!("/?repository={}", path_part(&event.repository)))
        .name(&event.repository);
    // What a person has at a board is of no ref and no revision.
    if !event.reference.is_empty() {
        let (kind, name) = reference_name(&event.reference);
        let (repository, branch) = (Some(event.repository.clone()), Some(name.to_string()));
        let of_branch = Filter { repository, branch, ..Filter::default() };
        html.element("a")
            .class(format_args!("ref {kind}"))
            .href(of_branch.address(None))
            .attribute("title", &event.reference)
            .name(name);
    }
    revision(html, &event.revision, view.forge.as_ref());
    if !event.author.is_empty() {
        html.element("span").class("author").name(&event.author);
    }
    html.element("span").class("source").text(source_phrase(&event.source));
}

/// Where else what was pushed is to be seen: at the forge, and what was built of the same revision.
pub fn elsewhere(html: &mut Html, view: &EventView) {
    let event = &view.event;
    if let Some(forge) = &view.forge {
        let word = match reference_name(&event.reference).0 {
            "branch" => "Branch at the forge",
            "tag" => "Tag at the forge",
            _ => "Pull request",
        };
        let changes = view.previous.as_ref().map(|previous| forge.comparison(previous, &event.revision));
        for (word, address) in [(word, forge.reference(&event.reference)), ("Changes", changes)] {
            if address.is_some() {
                at_forge(html, address, |html| {
                    html.text(word);
                });
            }
        }
    }
    if event.revision.is_empty() {
        return;
    }
    let (repository, revision) = (Some(event.repository.clone()), Some(event.revision.clone()));
    let same = Filter { repository, revision, ..Filter::default() };
    html.element("a").href(same.address(None)).text("Same revision");
}

/// Errors and warnings of the saifile, at most `limit` of each.
pub fn problems(html: &mut Html, view: &EventView, limit: usize) {
    for (class, word, texts) in [("errors", "error", &view.event.errors), ("warnings", "warning", &view.event.warnings)]
    {
        if texts.is_empty() {
            continue;
        }
        html.element("ul").class(class).with(|html| {
            for text in texts.iter().take(limit) {
                html.element("li").with(|html| {
                    html.element("span").class("label").text(word);
                    html.text(" ");
                    html.element("code").name(text);
                });
            }
            if texts.len() > limit {
                html.element("li").class("muted").show(format_args!("and {} more", texts.len() - limit));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::{event, job};
    use super::*;
    use crate::live::{Live, LiveRepository};
    use sai_core::job::JobState;

    fn view(id: u64) -> EventView {
        let jobs = vec![
            job(id * 1000, "linux/x86_64/gcc", "default", JobState::Passed),
            job(id * 1000 + 1, "linux/x86_64/gcc", "debug", JobState::Failed),
        ];
        EventView::new(event(id, 2), jobs, &Live::default())
    }

    #[test]
    fn the_list_can_be_read_paged_and_filtered_without_script() {
        let repository = |name: &str| LiveRepository { name: name.to_string(), ..LiveRepository::default() };
        let mut events = EventsView {
            events: vec![view(9), view(8)],
            repositories: vec![repository("hello"), repository("a&b")],
            next: Some(8),
            ..EventsView::default()
        };
        let page = page(&events, &Visitor::default());
        assert!(page.contains("id=\"event-9\"") && page.contains("1 failed") && page.contains("href=\"/?before=8\""));
        assert!(
            page.contains("href=\"/?repository=a%26b\"")
                && page.contains("data-live=\"/live?page=events&amp;since=0\"")
        );
        assert!(!page.contains("style=") && !page.contains("onclick") && !page.contains("http://"));
        assert!(!page.contains("callout"));
        events.repositories[1] = LiveRepository { state: "unreachable <x>".into(), trouble: true, ..repository("a&b") };
        let away = super::page(&events, &Visitor::default());
        assert!(away.contains("callout failed") && away.contains("a&amp;b") && away.contains("unreachable &lt;x&gt;"));
        events.before = Some(10);
        events.filter = Filter::of("repository=hello");
        let page = super::page(&events, &Visitor::default());
        assert!(page.contains("href=\"/?repository=hello&amp;before=8\"") && !page.contains("data-live"));
    }

    #[test]
    fn hostile_commits_stay_text() {
        let mut hostile = view(9);
        let evil = "</title><script>alert('1')</script>";
        hostile.event.subject = evil.to_string();
        hostile.event.author = evil.to_string();
        hostile.event.reference = format!("refs/heads/{evil}");
        hostile.event.repository = evil.to_string();
        hostile.event.revision = evil.to_string();
        hostile.event.errors = vec![evil.to_string(); 5];
        hostile.event.warnings = vec![evil.to_string()];
        let filter = Filter { repository: Some(evil.to_string()), branch: Some(evil.to_string()), ..Filter::default() };
        let events = EventsView { events: vec![hostile], filter, ..EventsView::default() };
        let page = page(
            &events,
            &Visitor { who: Some(evil.to_string()), notices: vec![evil.to_string()], ..Visitor::default() },
        );
        assert_eq!(page.matches("<script").count(), 1, "only our own");
        assert_eq!(page.matches("</title>").count(), 1);
        assert!(page.contains("and 2 more"));
    }
}
