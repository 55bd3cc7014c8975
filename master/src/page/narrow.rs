//! Query of an event's page ↔ which of its jobs are listed. An event of many jobs lists none until one of these is named.

use super::html::path_part;
use super::route::{field, number_field};
use sai_core::job::{EventId, JobId};
use sai_core::ledger::JobRecord;
use sai_core::rebuild::Choice;

/// Characters of what is looked for in a field; more are no longer a name.
const FIELD_CHARACTERS: usize = 256;

/// Which jobs of an event are listed. Nothing in a field is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrow {
    /// Those that were chosen.
    pub choice: Choice,
    /// Of those, the ones from this number on.
    pub from: Option<JobId>,
}

/// Which jobs are chosen by the fields of a query or a form.
pub fn choice(query: &str) -> Choice {
    let given = |name: &str| field(query, name).filter(|text| !text.is_empty());
    let named = |name: &str| given(name).map(|text| text.chars().take(FIELD_CHARACTERS).collect::<String>());
    Choice { platform: named("platform"), configuration: named("configuration"), state: named("state") }
}

/// Which jobs somebody wants something done to, by the fields of a query or a form. A page may pass over a field that it does not
/// know; here it would mean more jobs than were meant.
///
/// # Errors
/// What was expected.
pub fn chosen(fields: &str) -> Result<Choice, String> {
    let mut seen = Vec::new();
    for pair in fields.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split_once('=').map(|(name, _)| name).unwrap_or_default();
        if !["platform", "configuration", "state"].contains(&name)
            || field(pair, name).is_none()
            || seen.contains(&name)
        {
            let shown: String = pair.chars().take(FIELD_CHARACTERS).collect();
            return Err(format!("{shown:?}: expected platform=NAME, configuration=NAME or state=WORD, each once"));
        }
        seen.push(name);
    }
    Ok(choice(fields))
}

impl Narrow {
    /// What a query says.
    pub fn of(query: &str) -> Self {
        Self { choice: choice(query), from: number_field(query, "from") }
    }

    /// The jobs of one platform.
    pub fn platform(name: &str) -> Self {
        Self { choice: Choice { platform: Some(name.to_string()), ..Choice::default() }, from: None }
    }

    /// The jobs of one configuration.
    pub fn configuration(name: &str) -> Self {
        Self { choice: Choice { configuration: Some(name.to_string()), ..Choice::default() }, from: None }
    }

    /// The jobs that went wrong.
    pub fn wrong() -> Self {
        Self { choice: Choice::wrong(), from: None }
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a job is listed.
    pub fn takes(&self, job: &JobRecord) -> bool {
        self.choice.takes(job) && self.from.is_none_or(|from| job.id >= from)
    }

    /// The fields of an address, each with `&` before it.
    pub fn fields(&self) -> String {
        let Choice { platform, configuration, state } = &self.choice;
        let texts = [("platform", platform), ("configuration", configuration), ("state", state)];
        let named = texts.into_iter().filter_map(|(name, text)| Some((name, path_part(text.as_ref()?))));
        let from = self.from.map(|from| ("from", from.to_string()));
        named.chain(from).map(|(name, value)| format!("&{name}={value}")).collect()
    }

    /// The address of the event's page that lists these.
    pub fn address(&self, event: EventId) -> String {
        match self.fields().strip_prefix('&') {
            Some(fields) => format!("/event/{event}?{fields}"),
            None => format!("/event/{event}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::job;
    use super::*;
    use sai_core::job::JobState;

    #[test]
    fn an_address_says_which_jobs_are_listed() {
        let queries = ["", "platform=l%2Fx&state=wrong", "configuration=a%26b&from=7", "state=queued"];
        for query in queries {
            let narrow = Narrow::of(query);
            assert_eq!(narrow.fields().trim_start_matches('&'), query);
            assert_eq!(Narrow::of(&narrow.fields()), narrow);
        }
        assert_eq!(
            (Narrow::of("platform=&x=1").is_empty(), Narrow::default().address(3)),
            (true, "/event/3".to_string())
        );
        assert_eq!(choice("platform=l/x&state=wrong").words(), "jobs that went wrong on l/x");
        assert_eq!(
            chosen("platform=&configuration=c%201&").map(|choice| choice.words()),
            Ok("jobs of c 1".to_string())
        );
        for wrong in ["platfrom=l", "platform", "platform=a&platform=b", "state=%f", "{}", "platform=l&from=7"] {
            assert!(chosen(wrong).is_err_and(|why| why.contains("expected platform=NAME")), "{wrong}");
        }
    }

    #[test]
    fn what_is_looked_for_is_cut() {
        let long = "é".repeat(9999);
        let choice = choice(&format!("platform={long}&configuration={long}&state={long}"));
        for field in [choice.platform, choice.configuration, choice.state] {
            assert_eq!(field.unwrap().chars().count(), FIELD_CHARACTERS);
        }
        let why = chosen(&format!("{long}=1")).unwrap_err();
        assert!(why.chars().count() < FIELD_CHARACTERS + 100, "{why}");
    }

    #[test]
    fn a_job_is_listed_when_all_that_is_named_is_true_of_it() {
        let failed = job(7, "linux", "default", JobState::Failed);
        let takes = |query: &str| Narrow::of(query).takes(&failed);
        assert!(takes("") && takes("platform=linux&configuration=default&state=failed&from=7") && takes("state=wrong"));
        for other in ["platform=lin", "configuration=de", "state=passed", "from=8", "platform=linux&state=queued"] {
            assert!(!takes(other), "{other}");
        }
        assert!(!Narrow::wrong().takes(&job(8, "linux", "default", JobState::Passed)));
    }
}
