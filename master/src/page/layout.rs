//! Title and content → a whole page: head, navigation, notices, foot; and the small parts that several pages share.

use super::assets;
use super::html::{Element, Html};
use super::views::Visitor;
use crate::units;
use sai_core::forge_page::ForgePage;
use sai_core::job::JobState;
use sai_core::ledger::{EventRecord, JobRecord};

/// Where in the navigation a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// The events.
    Events,
    /// The agents.
    Agents,
    /// The boards.
    Boards,
    /// The units.
    Units,
    /// What explains all of it.
    Docs,
    /// Anywhere else.
    Elsewhere,
}

/// What surrounds a page's content.
pub struct Layout<'a> {
    /// For the window's title.
    pub title: &'a str,
    /// A word for the state of what the page is about, shown in the tab.
    pub state: Option<&'a str>,
    /// Where in the navigation it is.
    pub here: Here,
    /// Who looks.
    pub visitor: &'a Visitor,
    /// Address of the socket that tells what changes on this page.
    pub live: Option<String>,
}

impl Layout<'_> {
    /// The whole page.
    pub fn page(&self, content: impl FnOnce(&mut Html)) -> String {
        let mut html = Html::new();
        html.doctype();
        html.element("html").attribute("lang", "en").with(|html| {
            html.element("head").with(|html| self.head(html));
            html.element("body").with(|html| {
                html.element("a").class("skip").href("#content").text("Skip to the content");
                html.element("header").class("top").with(|html| self.top(html));
                html.element("main").id("content").maybe("data-live", self.live.as_ref()).with(|html| {
                    if let Some(told) = &self.visitor.told {
                        html.element("p").class("notice told").attribute("role", "status").name(told);
                    }
                    for notice in &self.visitor.notices {
                        html.element("p").class("notice").attribute("role", "status").text(notice);
                    }
                    content(html);
                    // Of a log it is among the other ways to show one.
                    html.element("footer").class("pager").flag("hidden", true).with(|html| {
                        html.element("button")
                            .id("times")
                            .class("quiet")
                            .attribute("type", "button")
                            .attribute("data-view", "clock")
                            .attribute("aria-pressed", "false")
                            .text("Dates and times");
                    });
                });
            });
        });
        html.into_string()
    }

    fn head(&self, html: &mut Html) {
        html.element("meta").attribute("charset", "utf-8").empty();
        html.element("meta")
            .attribute("name", "viewport")
            .attribute("content", "width=device-width, initial-scale=1")
            .empty();
        html.element("meta").attribute("name", "color-scheme").attribute("content", "light dark").empty();
        match self.state {
            Some(word) => html.element("title").show(window_title(word, self.title)),
            None => html.element("title").show(format_args!("{} · Sai", self.title)),
        }
        let icon = self.state.map_or("icon.svg", icon);
        html.element("link").id("icon").attribute("rel", "icon").href(assets::address(icon)).empty();
        html.element("link")
            .attribute("rel", "alternate")
            .attribute("type", "application/atom+xml")
            .attribute("title", "Events")
            .href("/feed.atom")
            .empty();
        html.element("link").attribute("rel", "stylesheet").href(assets::address("page.css")).empty();
        html.element("script").attribute("src", assets::address("live.js")).flag("defer", true).empty();
    }

    fn top(&self, html: &mut Html) {
        html.element("nav").attribute("aria-label", "Main").with(|html| {
            html.element("a").class("brand").href("/").with(|html| {
                html.element("img").attribute("src", assets::address("icon.svg")).attribute("alt", "").empty();
                html.text("Sai");
            });
            let units = (self.visitor.units || self.here == Here::Units).then_some((Here::Units, "/units", "Units"));
            let boards = self.visitor.boards || self.here == Here::Boards;
            let boards = boards.then_some((Here::Boards, "/boards", "Boards"));
            let always = [(Here::Events, "/", "Events"), (Here::Agents, "/agents", "Agents")];
            let more = boards.into_iter().chain(units).chain([(Here::Docs, "/docs", "Docs")]);
            for (here, address, word) in always.into_iter().chain(more) {
                let current = (self.here == here).then_some("page");
                html.element("a").href(address).maybe("aria-current", current).text(word);
            }
        });
        html.element("div").class("right").with(|html| {
            html.element("span").id("link").attribute("role", "status").flag("hidden", true).empty();
            match &self.visitor.who {
                Some(who) => {
                    html.element("span").class("who").name(who);
                    html.element("form").attribute("method", "post").attribute("action", "/sign-out").with(|html| {
                        html.element("button").class("quiet").text("Sign out");
                    });
                }
                None => html.element("a").class("sign-in").href(self.visitor.sign_in()).text("Sign in"),
            }
        });
    }
}

/// What the window of something with a state is called.
fn window_title(word: &str, title: &str) -> String {
    format!("{word}: {title} · Sai")
}

/// The tab's icon for a state.
fn icon(word: &str) -> &'static str {
    match word {
        "passed" => "icon-passed.svg",
        "failed" | "failing" | "invalid" | "timed-out" | "expired" | "infra" => "icon-failed.svg",
        "running" | "assigned" => "icon-running.svg",
        _ => "icon.svg",
    }
}

/// Lets the script name the window after what has just been replaced in it.
pub fn titled<'a>(element: Element<'a>, word: &str, title: &str) -> Element<'a> {
    element.attribute("data-title", window_title(word, title)).attribute("data-icon", assets::address(icon(word)))
}

/// A moment, as how long ago it was; the script keeps it true.
pub fn moment(html: &mut Html, at: u64, now: u64) {
    html.element("time")
        .attribute("datetime", units::moment(at))
        .attribute("title", units::moment_text(at))
        .text(&units::ago(now, at));
}

/// How long something took, milliseconds; while it goes on, the script keeps it true.
pub fn took(html: &mut Html, millis: u64, ended: bool) {
    html.element("span").class("took").maybe("data-for", (!ended).then_some(millis)).text(&units::span(millis));
}

/// A state's mark and word.
pub fn badge(html: &mut Html, word: &str) {
    html.element("span").class(format_args!("badge {word}")).text(word);
}

/// How a job stands, and what was found in a finer word.
pub fn job_badge(html: &mut Html, job: &JobRecord) {
    state_badge(html, job.standing());
    if let Some(word) = job.finding() {
        html.text(" ");
        html.element("b").class("finding").name(word);
    }
}

/// The same for a job's state.
pub fn state_badge(html: &mut Html, state: JobState) {
    html.element("span").class(format_args!("badge {}", state.class())).text(state.word());
}

/// A revision, short, with all of it as its title; it leads to the commit at the forge, if that is known. Nothing where there is none.
pub fn revision(html: &mut Html, revision: &str, forge: Option<&ForgePage>) {
    if revision.is_empty() {
        return;
    }
    let short: String = revision.chars().take(9).collect();
    at_forge(html, forge.map(|forge| forge.commit(revision)), |html| {
        html.element("code").class("revision").attribute("title", revision).text(&short);
    });
}

/// Something that has a page at the forge, or else stands there as it is.
pub fn at_forge(html: &mut Html, address: Option<String>, content: impl FnOnce(&mut Html)) {
    match address {
        Some(address) => html.element("a").class("forge").outside(&address).with(content),
        None => content(html),
    }
}

/// A form of one button.
pub fn button(html: &mut Html, action: impl std::fmt::Display, class: &'static str, word: &str) {
    html.element("form").attribute("method", "post").attribute("action", action).class(class).with(|html| {
        html.element("button").text(word);
    });
}

/// A button for what cannot be undone: it opens the question, and only the button in there does it.
pub fn ask(html: &mut Html, action: impl std::fmt::Display, words: [&str; 3]) {
    let [word, question, yes] = words;
    html.element("details").class("ask cancel").with(|html| {
        html.element("summary").text(word);
        html.element("form").attribute("method", "post").attribute("action", action).with(|html| {
            html.element("p").text(question);
            html.element("button").text(yes);
        });
    });
}

/// What those see who are not signed in, or may not, where others act.
pub fn hint(html: &mut Html, visitor: &Visitor, role: &str, what: &str) {
    html.element("p").class("hint").with(|html| {
        if visitor.who.is_some() {
            html.show(format_args!("It takes {role} to {what}."));
            return;
        }
        html.element("a").class("sign-in").href(visitor.sign_in()).text("Sign in");
        html.show(format_args!(" to {what}."));
    });
}

/// What an event is about, in a line: its subject, else its revision.
pub fn subject(event: &EventRecord) -> &str {
    if event.subject.is_empty() { event.revision.get(..12).unwrap_or(&event.revision) } else { &event.subject }
}

/// What a job is called.
pub fn job_title(job: &JobRecord) -> String {
    format!("{} on {} · {}", job.configuration, job.platform, job.repository)
}
