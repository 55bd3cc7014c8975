//! Line of JSON → the keys it is about; record → values of the index's trees, and those → record again.

use super::{Change, StoreError, carried};
use miniserde::{Deserialize, Serialize, json};
use sai_agent::digest::{Sha256, sha256};
use sai_core::git_names::without_credentials;
use sai_core::job::{EventId, JobState};
use sai_core::ledger::EventRecord;
use sai_core::numbers::Numbers;

/// Bytes of one value at most; a longer record is cut into parts, since sled rewrites a page whenever a value of it changes.
pub(super) const VALUE_BYTES: usize = 3 << 10;

/// The trees; the number is the index in `NAMES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event = 0,
    Job = 1,
    Agent = 2,
    User = 3,
    Tip = 4,
    Action = 5,
    /// Hash of a repository's name and event number: finds a quiet repository's events among a busy one's.
    Repository = 6,
    /// Numbers of the jobs that have not ended.
    Unfinished = 7,
    /// Next numbers, so that none is ever given twice, and up to which line of the journal the others are.
    Mark = 8,
    /// What was lost, so that files without a record are not taken for nobody's.
    Damage = 9,
    /// Lines of kinds that this version does not know, by their digest.
    Other = 10,
}

pub(super) const NAMES: [&str; 11] =
    ["events", "jobs", "agents", "users", "tips", "actions", "repositories", "unfinished", "marks", "damage", "others"];

/// The kinds that are records, in the order in which they are listed.
pub(super) const RECORDS: [Kind; 8] =
    [Kind::Event, Kind::Job, Kind::Agent, Kind::User, Kind::Tip, Kind::Action, Kind::Damage, Kind::Other];

impl Kind {
    /// Whether keys end in a part number and records may be longer than one value.
    pub(super) fn parted(self) -> bool {
        matches!(self, Self::Event | Self::Job)
    }
}

pub(super) fn bytes_of_numbers(numbers: Numbers) -> Vec<u8> {
    [numbers.event, numbers.job, numbers.action].iter().flat_map(|number| number.to_be_bytes()).collect()
}

pub(super) fn numbers(bytes: &[u8]) -> Option<Numbers> {
    let number = |at: usize| number(bytes.get(at..)?);
    Some(Numbers { event: number(0)?, job: number(8)?, action: number(16)? })
}

pub(super) const NUMBERS: &[u8] = b"numbers";

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

pub(super) fn repository_hash(name: &str) -> u64 {
    number(&sha256(name.as_bytes())).unwrap_or_default()
}

pub(super) fn tip_key(repository: &str, reference: &str) -> Vec<u8> {
    let mut hash = Sha256::default();
    hash.update(repository.as_bytes());
    hash.update(&[0]);
    hash.update(reference.as_bytes());
    hash.finish().to_vec()
}

pub(super) fn parse<T: Deserialize>(kind: Kind, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let unreadable = || StoreError::Record { kind: NAMES[kind as usize], key: key.escape_ascii().to_string() };
    json::from_str(std::str::from_utf8(bytes).map_err(|_| unreadable())?).map_err(|_| unreadable())
}

pub(super) fn index_key(repository: u64, event: EventId) -> Vec<u8> {
    [repository.to_be_bytes(), event.to_be_bytes()].concat()
}

pub(super) fn part_key(kind: Kind, key: &[u8], part: u16) -> Vec<u8> {
    let mut whole = key.to_vec();
    if kind.parted() {
        whole.extend_from_slice(&part.to_be_bytes());
    }
    whole
}

/// The values of a record's parts, the first with their number before it; none for no record.
pub(super) fn part_values(record: Option<&[u8]>) -> Option<Vec<Vec<u8>>> {
    let Some(record) = record else { return Some(Vec::new()) };
    let mut parts: Vec<Vec<u8>> = record.chunks(VALUE_BYTES).map(<[u8]>::to_vec).collect();
    let count = u16::try_from(parts.len()).ok()?;
    parts.first_mut()?.splice(0..0, count.to_be_bytes());
    Some(parts)
}

/// What a line does to the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is the record under this key from now on.
    Put(Kind, Vec<u8>),
    /// These are no longer there.
    Delete(Vec<(Kind, Vec<u8>)>),
}

/// Jobs of one event, and actions that one line deletes, at most: far more than there are.
const RANGE: u64 = 1 << 20;

/// The keys of a line by which it is found, whatever its kind.
#[derive(Default, Deserialize)]
struct Tag {
    kind: String,
    id: Option<u64>,
    name: Option<String>,
    repository: Option<String>,
    reference: Option<String>,
    state: Option<String>,
    first_job: Option<u64>,
    jobs: Option<u64>,
    from: Option<u64>,
    below: Option<u64>,
    ended_at: Option<u64>,
    key: Option<String>,
    gone: Option<bool>,
}

#[derive(Serialize)]
struct DeleteEvent {
    kind: &'static str,
    id: EventId,
    repository: String,
    first_job: u64,
    jobs: u64,
}

#[derive(Serialize)]
struct DeleteTip {
    kind: &'static str,
    repository: String,
    reference: String,
}

#[derive(Serialize)]
struct DeleteActions {
    kind: &'static str,
    from: u64,
    below: u64,
}

#[derive(Serialize)]
struct Damage {
    kind: &'static str,
    id: u64,
    what: String,
}

/// A record as a line: an object, with its kind in front.
fn tagged(kind: &str, record: &impl Serialize) -> String {
    let record = json::to_string(record);
    format!("{{\"kind\":\"{kind}\",{}", record.get(1..).unwrap_or_default())
}

/// An event's record of an older version without the credentials that such have in their URL; none if it has none.
fn without_secret(record: &str) -> Option<String> {
    let mut event = json::from_str::<EventRecord>(record).ok().filter(|event| event.url.contains('@'))?;
    event.url = without_credentials(&event.url);
    Some(json::to_string(&event))
}

/// A record that an index without kinds had, as a line.
pub(super) fn with_kind(kind: Kind, record: &str) -> String {
    let public = if kind == Kind::Event { without_secret(record) } else { None };
    let record = public.as_deref().unwrap_or(record);
    let word = match kind {
        Kind::Event => "event",
        Kind::Job => "job",
        Kind::Agent => "agent",
        Kind::User => "user",
        Kind::Tip => "tip",
        Kind::Action => "action",
        _ => "",
    };
    if word.is_empty() || record.starts_with("{\"kind\":") {
        return record.to_string();
    }
    format!("{{\"kind\":\"{word}\",{}", record.get(1..).unwrap_or_default())
}

/// Where the record of a change is kept; none for what deletes one.
pub(super) fn place(change: &Change) -> Option<(Kind, Vec<u8>)> {
    Some(match change {
        Change::Event(event) => (Kind::Event, event.id.to_be_bytes().to_vec()),
        Change::Job(job) => (Kind::Job, job.id.to_be_bytes().to_vec()),
        Change::Agent(agent) => (Kind::Agent, agent.name.as_bytes().to_vec()),
        Change::User(user) => (Kind::User, user.name.as_bytes().to_vec()),
        Change::Tip(tip) => (Kind::Tip, tip_key(&tip.repository, &tip.reference)),
        Change::Action(action) => (Kind::Action, action.id.to_be_bytes().to_vec()),
        Change::ForgetTip { .. } | Change::DeleteEvent(_) | Change::Files { .. } => return None,
    })
}

/// The line of a change; none for the deletion of an event, which takes its record to know.
pub(super) fn line(change: &Change) -> Option<String> {
    Some(match change {
        Change::Event(event) => tagged("event", event),
        Change::Job(job) => tagged("job", job),
        Change::Agent(agent) => tagged("agent", agent),
        Change::User(user) => tagged("user", user),
        Change::Tip(tip) => tagged("tip", tip),
        Change::Action(action) => tagged("action", action),
        Change::ForgetTip { repository, reference } => json::to_string(&DeleteTip {
            kind: "delete-tip",
            repository: repository.clone(),
            reference: reference.clone(),
        }),
        Change::DeleteEvent(_) => return None,
        Change::Files { event, saifile, plan } => carried::line(*event, saifile, plan.as_deref()),
    })
}

pub(super) fn line_of_deletion(event: &EventRecord) -> String {
    json::to_string(&DeleteEvent {
        kind: "delete-event",
        id: event.id,
        repository: event.repository.clone(),
        first_job: event.first_job,
        jobs: u64::from(event.jobs),
    })
}

pub(super) fn line_of_old_actions(from: u64, below: u64) -> String {
    json::to_string(&DeleteActions { kind: "delete-actions", from, below })
}

pub(super) fn line_of_damage(at: u64, what: &str) -> String {
    json::to_string(&Damage { kind: "damage", id: at, what: what.to_string() })
}

/// What a line does. A kind or form that this version does not know is kept as it is. Of such a kind a later line with the
/// same `key`, a text, takes the place of the earlier one, or with `"gone":true` ends it; without a `key` all of them are kept.
pub(super) fn effect(text: &str) -> Effect {
    known(text).map_or_else(|| Effect::Put(Kind::Other, sha256(text.as_bytes()).to_vec()), |(effect, _)| effect)
}

fn known(text: &str) -> Option<(Effect, Tag)> {
    let tag: Tag = json::from_str(text).ok()?;
    if tag.jobs.is_some_and(|jobs| jobs > RANGE) || tag.below > tag.from.map(|from| from.saturating_add(RANGE)) {
        return None;
    }
    let number = |id: Option<u64>| id.map(|id| id.to_be_bytes().to_vec());
    let effect = match tag.kind.as_str() {
        "event" => Effect::Put(Kind::Event, number(tag.id)?),
        "job" => Effect::Put(Kind::Job, number(tag.id)?),
        "agent" => Effect::Put(Kind::Agent, tag.name.as_ref()?.as_bytes().to_vec()),
        "user" => Effect::Put(Kind::User, tag.name.as_ref()?.as_bytes().to_vec()),
        "tip" => Effect::Put(Kind::Tip, tip_key(tag.repository.as_ref()?, tag.reference.as_ref()?)),
        "action" => Effect::Put(Kind::Action, number(tag.id)?),
        "damage" => Effect::Put(Kind::Damage, number(tag.id)?),
        "delete-event" => {
            let first = tag.first_job?;
            let jobs = (first..first.saturating_add(tag.jobs?)).map(|job| (Kind::Job, job.to_be_bytes().to_vec()));
            Effect::Delete(std::iter::once((Kind::Event, number(tag.id)?)).chain(jobs).collect())
        }
        "delete-tip" => Effect::Delete(vec![(Kind::Tip, tip_key(tag.repository.as_ref()?, tag.reference.as_ref()?))]),
        "delete-actions" => {
            Effect::Delete((tag.from?..tag.below?).map(|id| (Kind::Action, id.to_be_bytes().to_vec())).collect())
        }
        kind if kind.starts_with("sai-") || kind.starts_with("delete-") => return None,
        kind => {
            let mut hash = Sha256::default();
            hash.update(kind.as_bytes());
            hash.update(&[0]);
            hash.update(tag.key.as_ref()?.as_bytes());
            let key = hash.finish().to_vec();
            if tag.gone == Some(true) {
                Effect::Delete(vec![(Kind::Other, key)])
            } else {
                Effect::Put(Kind::Other, key)
            }
        }
    };
    Some((effect, tag))
}

/// Calls `write` with what a line changes in the index, and takes its numbers in.
pub(super) fn index(text: &str, numbers: &mut Numbers, write: &mut dyn FnMut(Kind, Vec<u8>, Option<Vec<u8>>)) {
    let Some((effect, tag)) = known(text) else {
        return write(Kind::Other, sha256(text.as_bytes()).to_vec(), Some(text.as_bytes().to_vec()));
    };
    let id = tag.id.unwrap_or_default();
    let (first_job, jobs) = (tag.first_job.unwrap_or_default(), tag.jobs.unwrap_or_default());
    let repository = || index_key(repository_hash(tag.repository.as_deref().unwrap_or_default()), id);
    match effect {
        Effect::Put(kind, key) => {
            match kind {
                Kind::Event => {
                    numbers.saw_event(id, first_job, jobs);
                    write(Kind::Repository, repository(), Some(Vec::new()));
                }
                Kind::Job => {
                    numbers.saw_job(id);
                    // A state that this version does not know is none that it could go on with, and whether the job has
                    // ended says when it did: until then its event stays.
                    let state = format!("\"{}\"", tag.state.unwrap_or_default());
                    let ended = match json::from_str::<JobState>(&state) {
                        Ok(JobState::Other(_)) | Err(_) => tag.ended_at.is_some(),
                        Ok(state) => state.ended(),
                    };
                    write(Kind::Unfinished, key.clone(), (!ended).then(Vec::new));
                }
                Kind::Action => numbers.saw_action(id),
                _ => {}
            }
            write(kind, key, Some(text.as_bytes().to_vec()));
        }
        Effect::Delete(keys) => {
            if tag.kind == "delete-event" {
                numbers.saw_event(id, first_job, jobs);
                write(Kind::Repository, repository(), None);
            }
            for (kind, key) in keys {
                if kind == Kind::Job {
                    write(Kind::Unfinished, key.clone(), None);
                }
                write(kind, key, None);
            }
        }
    }
}

/// A record of the index as the line it is.
pub(super) fn text<'a>(kind: Kind, key: &[u8], record: &'a [u8]) -> Result<&'a str, StoreError> {
    let unreadable = |_| StoreError::Record { kind: NAMES[kind as usize], key: key.escape_ascii().to_string() };
    std::str::from_utf8(record).map_err(unreadable)
}
