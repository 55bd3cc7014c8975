//! Jobs that somebody wants to run again → those that run: with what was skipped because of them, or all that need them.

use crate::hub::Rebuild;
use crate::job::{JobId, JobState};
use crate::ledger::{EventRecord, JobRecord};
use crate::matrix::JobSpec;
use crate::ordered::{Map, Set};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The word for every state that somebody should look at.
pub const WRONG: &str = "wrong";

/// Some of an event's jobs. Nothing in a field is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Those of this platform.
    pub platform: Option<String>,
    /// Those of this configuration.
    pub configuration: Option<String>,
    /// Those in the state of this word; `wrong` are those that somebody should look at.
    pub state: Option<String>,
}

impl Choice {
    /// Those that went wrong.
    pub fn wrong() -> Self {
        Self { state: Some(WRONG.to_string()), ..Self::default() }
    }

    /// Reads the words of a command: `failed`, `platform=NAME` and `configuration=NAME`, in any order.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut choice = Self::default();
        for word in words {
            let (field, value) = match word.split_once('=') {
                Some(("platform", name)) => (&mut choice.platform, name),
                Some(("configuration", name)) => (&mut choice.configuration, name),
                None if *word == "failed" => (&mut choice.state, WRONG),
                _ => return Err(format!("{word:?}: expected failed, platform=NAME or configuration=NAME")),
            };
            if value.is_empty() || field.replace(value.to_string()).is_some() {
                return Err(format!("{word:?}: expected one name, and each word once"));
            }
        }
        Ok(choice)
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a job is one of them.
    pub fn takes(&self, job: &JobRecord) -> bool {
        let state = |wanted: &String| match wanted.as_str() {
            WRONG => job.standing().went_wrong(),
            wanted => job.standing().word() == wanted,
        };
        self.platform.as_ref().is_none_or(|wanted| job.platform == *wanted)
            && self.configuration.as_ref().is_none_or(|wanted| job.configuration == *wanted)
            && self.state.as_ref().is_none_or(state)
    }

    /// The numbers of those of these jobs.
    ///
    /// # Errors
    /// There is none: a sentence for people.
    pub fn of(&self, jobs: &[JobRecord]) -> Result<Vec<JobId>, String> {
        let ids: Vec<JobId> = jobs.iter().filter(|job| self.takes(job)).map(|job| job.id).collect();
        if ids.is_empty() && !self.is_empty() { Err(format!("there are no {}", self.words())) } else { Ok(ids) }
    }

    /// Which they are, in words.
    pub fn words(&self) -> String {
        let mut words = match self.state.as_deref() {
            Some(WRONG) => "jobs that went wrong".to_string(),
            Some(state) => format!("jobs that are {state}"),
            None => "jobs".to_string(),
        };
        if let Some(configuration) = &self.configuration {
            words = format!("{words} of {configuration}");
        }
        if let Some(platform) = &self.platform {
            words = format!("{words} on {platform}");
        }
        words
    }
}

/// What `person` asks for: those of these jobs of an event that have ended, with all that need them if `following`.
///
/// # Errors
/// None of them has ended, or one needs a job that did not pass: a sentence for people.
pub fn of(
    event: EventRecord,
    specs: Vec<JobSpec>,
    jobs: Vec<JobRecord>,
    ids: &[JobId],
    following: bool,
    person: Option<String>,
) -> Result<Rebuild, String> {
    let chosen = choose(&event, &specs, &jobs, ids, following)?;
    let (jobs, others) = jobs.into_iter().partition(|job| chosen.contains(&job.id));
    Ok(Rebuild { event, specs, jobs, others, person })
}

/// The jobs of an event that are to run, by number.
fn choose(
    event: &EventRecord,
    specs: &[JobSpec],
    jobs: &[JobRecord],
    ids: &[JobId],
    following: bool,
) -> Result<Set<JobId>, String> {
    let known: Map<JobId, &JobRecord> = jobs.iter().map(|job| (job.id, job)).collect();
    let ended = |id: &JobId| known.get(id).is_some_and(|job| job.state.ended());
    let mut chosen: Set<JobId> = ids.iter().copied().filter(ended).collect();
    if chosen.is_empty() {
        return Err("nothing of it has ended yet".to_string());
    }
    if chosen.iter().any(|id| known.get(id).is_some_and(|job| job.session.is_some())) {
        return Err("a session at a board is asked for by a step of a build: rebuild that".to_string());
    }
    if chosen.iter().any(|id| known.get(id).is_some_and(|job| job.lease.is_some())) {
        return Err("a person had that board: ask for one anew".to_string());
    }
    if chosen.iter().any(|id| known.get(id).is_some_and(|job| job.health.is_some())) {
        return Err("it found out how well a board was: have that one checked anew".to_string());
    }
    let needs = |id: JobId| {
        let index = id.checked_sub(event.first_job).and_then(|index| usize::try_from(index).ok());
        let needs = index.and_then(|index| specs.get(index)).map(|spec| spec.needs.as_slice()).unwrap_or_default();
        needs.iter().map(|need| event.first_job + u64::from(*need))
    };
    let asked = chosen.clone();
    if following {
        let mut dependants: Map<JobId, Vec<JobId>> = Map::new();
        for job in jobs {
            needs(job.id).for_each(|need| dependants.get_or_default(need).push(job.id));
        }
        let mut waiting: Vec<JobId> = asked.iter().copied().collect();
        while let Some(id) = waiting.pop() {
            for dependant in dependants.get(&id).into_iter().flatten() {
                if ended(dependant) && chosen.insert(*dependant) {
                    waiting.push(*dependant);
                }
            }
        }
    }
    let skipped = jobs.iter().filter(|job| job.state.ended() && job.skipped.is_some_and(|by| asked.contains(&by)));
    chosen.extend(skipped.map(|job| job.id));
    for id in &asked {
        let failed = |need: &JobId| {
            let other = known.get(need).filter(|_| !chosen.contains(need));
            other.is_some_and(|other| other.state.ended() && other.state != JobState::Passed)
        };
        if let Some(other) = needs(*id).find(failed).and_then(|need| known.get(&need)) {
            let first = other.skipped.unwrap_or(other.id);
            return Err(format!(
                "job {id} needs job {} ({} on {}), which did not pass; rebuild job {first}, and what was skipped because of \
                 it runs again too",
                other.id, other.configuration, other.platform
            ));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_which_jobs_of_an_event_run_again() {
        let choice = Choice::parse(&["platform=linux/x86_64/gcc", "failed", "configuration=a=b"]).unwrap();
        assert_eq!(choice.words(), "jobs that went wrong of a=b on linux/x86_64/gcc");
        assert!(Choice::parse(&[]).unwrap().is_empty() && !Choice::wrong().is_empty());
        for words in
            [&["wrong"][..], &["platform="], &["failed", "failed"], &["failed=yes"], &["platform=a", "platform=b"]]
        {
            let error = Choice::parse(words).unwrap_err();
            assert!(error.contains("expected") && error.contains(words[words.len() - 1]), "{error}");
        }
        assert_eq!(Choice::wrong().of(&[]), Err("there are no jobs that went wrong".to_string()));
        assert_eq!(Choice::default().of(&[]), Ok(Vec::new()));
    }
}
