//! Query of an address ↔ which events are looked for. Every list can be shared by its address.

use super::html::{Html, path_part};
use super::route::field;
use super::standing::{STANDINGS, Standing, reference_name};
use sai_core::job::EventId;
use sai_core::ledger::{EventRecord, JobRecord};

/// Characters of what is looked for in a field; more are no longer what somebody types.
const FIELD_CHARACTERS: usize = 256;

/// Names of the fields in an address, what the form calls them, and what it suggests.
const FIELDS: [(&str, &str, &str); 6] = [
    ("q", "Text", "subject, author, branch or revision"),
    ("branch", "Branch or tag", "main"),
    ("author", "Author", ""),
    ("configuration", "Configuration", "default"),
    ("platform", "Platform", "linux"),
    ("revision", "Revision", "first digits"),
];

/// What is looked for. Nothing in a field is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this repository.
    pub repository: Option<String>,
    /// Of this branch or tag.
    pub branch: Option<String>,
    /// The revision begins with this.
    pub revision: Option<String>,
    /// The author's name has this in it.
    pub author: Option<String>,
    /// Words that are all found somewhere in what the list shows of an event.
    pub text: Option<String>,
    /// Has a job of this configuration.
    pub configuration: Option<String>,
    /// Has a job of a platform that begins with this.
    pub platform: Option<String>,
    /// The event stands so, or the job that is meant.
    pub state: Option<String>,
}

fn contains(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(wanted)
}

impl Filter {
    /// What a query says.
    pub fn of(query: &str) -> Self {
        let given = |name: &str| field(query, name).map(|text| text.chars().take(FIELD_CHARACTERS).collect::<String>());
        let named = |name: &str| given(name).map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
        Self {
            repository: named("repository"),
            branch: named("branch"),
            revision: named("revision").map(|text| text.to_lowercase()),
            author: named("author"),
            text: named("q"),
            configuration: named("configuration"),
            platform: named("platform"),
            state: named("state"),
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        match name {
            "q" => self.text.as_deref(),
            "branch" => self.branch.as_deref(),
            "author" => self.author.as_deref(),
            "configuration" => self.configuration.as_deref(),
            "platform" => self.platform.as_deref(),
            "revision" => self.revision.as_deref(),
            "state" => self.state.as_deref(),
            _ => self.repository.as_deref(),
        }
    }

    /// Whether more than a repository is named.
    pub fn is_narrow(&self) -> bool {
        *self != Self { repository: self.repository.clone(), ..Self::default() }
    }

    /// Whether an event's jobs have to be looked at.
    pub fn is_of_jobs(&self) -> bool {
        self.configuration.is_some() || self.platform.is_some() || self.state.is_some()
    }

    /// The address of what is looked for, of events older than `before`.
    pub fn address(&self, before: Option<EventId>) -> String {
        let names = FIELDS.iter().map(|(name, ..)| *name).chain(["state"]);
        let mut parts: Vec<String> = ["repository"]
            .into_iter()
            .chain(names)
            .filter_map(|name| Some(format!("{name}={}", path_part(self.field(name)?))))
            .collect();
        parts.extend(before.map(|before| format!("before={before}")));
        if parts.is_empty() { "/".to_string() } else { format!("/?{}", parts.join("&")) }
    }

    /// Whether an event can be meant, as far as it alone tells.
    pub fn takes(&self, event: &EventRecord) -> bool {
        let branch = reference_name(&event.reference).1;
        let all = |wanted: &str| {
            let wanted = wanted.to_lowercase();
            let places = [&event.subject, &event.author, &event.revision, branch, &event.repository];
            wanted.split_whitespace().all(|word| places.iter().any(|place| contains(place, word)))
        };
        self.repository.as_ref().is_none_or(|wanted| event.repository == *wanted)
            && self.branch.as_ref().is_none_or(|wanted| branch == wanted)
            && self.revision.as_ref().is_none_or(|wanted| event.revision.starts_with(wanted))
            && self.author.as_ref().is_none_or(|wanted| contains(&event.author, &wanted.to_lowercase()))
            && self.text.as_deref().is_none_or(all)
    }

    /// Whether one of the jobs of an event that stands so is meant. With a configuration or a platform, a state is that job's;
    /// else it is the whole event's, where events can stand so, and any job's where they cannot.
    pub fn takes_jobs(&self, standing: Standing, jobs: &[JobRecord]) -> bool {
        let state = self.state.as_deref();
        let of_events = STANDINGS.iter().any(|standing| state.is_none_or(|wanted| standing.word() == wanted));
        if self.configuration.is_none() && self.platform.is_none() && of_events {
            return state.is_none_or(|wanted| standing.word() == wanted);
        }
        jobs.iter().any(|job| {
            self.configuration.as_ref().is_none_or(|wanted| job.configuration == *wanted)
                && self.platform.as_ref().is_none_or(|wanted| job.platform.starts_with(wanted.as_str()))
                && state.is_none_or(|wanted| job.word() == wanted || job.finding() == Some(wanted))
        })
    }

    /// The form.
    pub fn form(&self, html: &mut Html) {
        html.element("details").class("panel find").flag("open", self.is_narrow()).with(|html| {
            html.element("summary").text("Filter");
            html.element("form").class("search").attribute("role", "search").attribute("action", "/").with(|html| {
                if let Some(repository) = &self.repository {
                    let input = html.element("input").attribute("type", "hidden").attribute("name", "repository");
                    input.attribute("value", repository).empty();
                }
                for (name, label, example) in FIELDS {
                    html.element("label").with(|html| {
                        html.show(format_args!("{label} "));
                        let input = html.element("input").attribute("type", "search").attribute("name", name);
                        input
                            .attribute("value", self.field(name).unwrap_or_default())
                            .attribute("placeholder", example)
                            .attribute("maxlength", FIELD_CHARACTERS)
                            .empty();
                    });
                }
                html.element("label").with(|html| {
                    html.text("State ");
                    html.element("select").attribute("name", "state").with(|html| {
                        html.element("option").attribute("value", "").text("any");
                        let others = ["timed-out", "expired", "infra", "skipped", "blocked"];
                        for word in STANDINGS.into_iter().map(Standing::word).chain(others) {
                            html.element("option").flag("selected", self.state.as_deref() == Some(word)).text(word);
                        }
                    });
                });
                html.element("button").text("Filter");
                if self.is_narrow() {
                    let all = Self { repository: self.repository.clone(), ..Self::default() };
                    html.element("a").href(all.address(None)).text("Clear");
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::views::EventView;
    use super::super::views::tests::{event, job};
    use super::*;
    use crate::live::Live;
    use sai_core::job::JobState;

    fn filter(query: &str) -> Filter {
        Filter::of(query)
    }

    #[test]
    fn an_address_says_what_is_looked_for_and_comes_back_the_same() {
        let address = "/?repository=a%26b&q=fix%20it&branch=topic%2F%3Cx%3E&state=failed&before=7";
        let found = filter(address.split_once('?').unwrap().1);
        assert_eq!(found.address(Some(7)), address);
        assert!(found.is_narrow() && found.is_of_jobs());
        assert_eq!(filter("branch=&q=+&before=3"), Filter::default());
        assert!(!filter("repository=a").is_narrow());
        assert_eq!(filter(&format!("q={}", "é".repeat(9999))).text.unwrap().chars().count(), FIELD_CHARACTERS);
    }

    #[test]
    fn each_field_narrows_and_all_of_them_must_fit() {
        let event = event(1, 2);
        for (query, takes) in [
            ("", true),
            ("repository=hello", true),
            ("repository=hell", false),
            ("branch=main", true),
            ("branch=mai", false),
            ("revision=0123456789AB", true),
            ("revision=1", false),
            ("author=aNN", true),
            ("q=hello+ann+main", true),
            ("q=hello+nobody", false),
            ("branch=main&author=bob", false),
        ] {
            assert_eq!(filter(query).takes(&event), takes, "{query}");
        }
        let jobs = vec![
            job(1000, "linux/x86_64/gcc", "default", JobState::Passed),
            job(1001, "linux/arm64", "debug", JobState::Failed),
        ];
        let view = EventView::new(event, jobs.clone(), &Live::default());
        for (query, takes) in [
            ("state=failed", true),
            ("state=passed", false),
            ("state=blocked", false),
            ("configuration=default", true),
            ("configuration=def", false),
            ("platform=linux", true),
            ("platform=windows", false),
            ("configuration=default&state=failed", false),
            ("configuration=debug&state=failed&platform=linux/a", true),
        ] {
            assert_eq!(filter(query).takes_jobs(view.standing(), &jobs), takes, "{query}");
        }
    }
}
