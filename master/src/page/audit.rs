//! What people did → the page of it and its part of the API, for admins: who did what and when, found again by person and words.

use super::html::{Html, path_part};
use super::layout::{Here, Layout, moment};
use super::library::Library;
use super::route::field;
use super::views::Visitor;
use sai_core::ledger::ActionRecord;

/// Actions on a page.
pub const SHOWN: usize = 100;

/// Actions that are read at once while one looks for some.
const PAGE: usize = 500;

/// Characters of what is looked for; more are no longer what somebody types.
const FIELD_CHARACTERS: usize = 256;

/// What is looked for. Nothing in a field is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By this person.
    pub who: Option<String>,
    /// Words that are all found in what was done.
    pub text: Option<String>,
}

impl Wanted {
    /// What a query says.
    pub fn of(query: &str) -> Self {
        let named = |name: &str| {
            let given: String = field(query, name)?.chars().take(FIELD_CHARACTERS).collect();
            Some(given.trim().to_string()).filter(|given| !given.is_empty())
        };
        Self { who: named("who"), text: named("q") }
    }

    /// Whether an action is one of those.
    fn takes(&self, action: &ActionRecord) -> bool {
        let what = action.what.to_lowercase();
        self.who.as_ref().is_none_or(|who| *who == action.who)
            && self.text.iter().flat_map(|text| text.split_whitespace()).all(|word| what.contains(&word.to_lowercase()))
    }

    fn address(&self, before: Option<u64>) -> String {
        let parts =
            [("who", self.who.clone()), ("q", self.text.clone()), ("before", before.map(|before| before.to_string()))];
        let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", path_part(&value?))));
        let parts: Vec<String> = parts.collect();
        if parts.is_empty() { "/audit".to_string() } else { format!("/audit?{}", parts.join("&")) }
    }
}

/// Some of what was done, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditView {
    /// The actions.
    pub actions: Vec<ActionRecord>,
    /// Number to ask for those before.
    pub next: Option<u64>,
    /// What is looked for.
    pub wanted: Wanted,
    /// Whether it is not the newest ones.
    pub older: bool,
}

impl Library {
    /// At most `limit` actions with numbers below `before`. The store keeps as many as can all be looked at.
    pub fn audit(&self, before: Option<u64>, wanted: Wanted, limit: usize) -> AuditView {
        let (mut actions, mut below) = (Vec::new(), before);
        loop {
            let page = self.archive.actions(below, PAGE);
            let Some(last) = page.last().map(|action| action.id) else { break };
            actions.extend(page.into_iter().filter(|action| wanted.takes(action)));
            if actions.len() > limit {
                break;
            }
            below = Some(last);
        }
        let more = actions.len() > limit;
        actions.truncate(limit);
        let next = actions.last().map(|action| action.id).filter(|_| more);
        AuditView { actions, next, wanted, older: before.is_some() }
    }
}

/// The page.
pub fn page(view: &AuditView, visitor: &Visitor) -> String {
    Layout { title: "Audit", state: None, here: Here::Elsewhere, visitor, live: None }.page(|html| {
        html.element("div").class("heading").with(|html| html.element("h1").text("What people did"));
        search(html, &view.wanted);
        if view.actions.is_empty() {
            html.element("p")
                .class("empty")
                .text("Nobody did such a thing, or it has been forgotten: the last 10 000 are kept.");
        } else {
            html.element("section").class("panel jobs").with(|html| table(html, view, visitor.now));
        }
        html.element("nav").class("pager").attribute("aria-label", "Pages").with(|html| {
            if view.older {
                html.element("a").href(view.wanted.address(None)).text("Newest");
            }
            if let Some(next) = view.next {
                html.element("a").href(view.wanted.address(Some(next))).attribute("rel", "next").text("Older");
            }
        });
    })
}

fn search(html: &mut Html, wanted: &Wanted) {
    html.element("form")
        .class("search")
        .attribute("method", "get")
        .attribute("action", "/audit")
        .attribute("role", "search")
        .with(|html| {
            for (name, label, value) in [("who", "Person", &wanted.who), ("q", "Words", &wanted.text)] {
                html.element("label").attribute("for", name).text(label);
                let input = html.element("input").id(name).attribute("name", name).attribute("type", "search");
                input.attribute("maxlength", FIELD_CHARACTERS).maybe("value", value.as_ref()).empty();
            }
            html.element("button").text("Find");
        });
}

fn table(html: &mut Html, view: &AuditView, now: u64) {
    html.element("table").with(|html| {
        html.element("thead").with(|html| {
            html.element("tr").with(|html| {
                for column in ["When", "Who", "What"] {
                    html.element("th").attribute("scope", "col").text(column);
                }
            });
        });
        html.element("tbody").with(|html| {
            for action in &view.actions {
                html.element("tr").with(|html| {
                    html.element("td").class("agent").with(|html| moment(html, action.at, now));
                    html.element("td").class("agent").with(|html| {
                        let by = Wanted { who: Some(action.who.clone()), text: None };
                        html.element("a").href(by.address(None)).name(&action.who);
                    });
                    html.element("td").class("why").name(&action.what);
                });
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_cut() {
        let long = "é".repeat(9999);
        let wanted = Wanted::of(&format!("who={long}&q={long}"));
        for field in [wanted.who, wanted.text] {
            assert_eq!(field.unwrap().chars().count(), FIELD_CHARACTERS);
        }
        assert_eq!(Wanted::of("who=+&q="), Wanted::default());
    }
}
