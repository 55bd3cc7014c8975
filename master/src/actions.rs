//! An action, from the page, the API or the command line → what the hub is told, and an answer.

use crate::action::{Action, Done};
use crate::addresses;
use crate::agents::{INSIDE, Tokens, new_token};
use crate::forge::SAIFILE_BYTES;
use crate::hub::{HubHandle, Request};
use crate::live::{Changes, Live, Topic};
use crate::plans::planned;
use crate::rejudge;
use crate::repositories::Repositories;
use crate::rights;
use crate::sessions::digest_hex;
use crate::status::{self, About};
use crate::store::{self, Change, Reader, Store};
use crate::units::moment_text;
use crate::update_key::UpdateKey;
use crate::updates;
use crate::uploads::Uploads;
use sai_agent::blocking::unblock;
use sai_agent::clock::wall;
use sai_core::hub::Input;
use sai_core::job::{EventId, JobId};
use sai_core::join::{Address, HOSTS_MOST, JoinLine, UPDATE_KEY_BYTES, with_update_key};
use sai_core::ledger::{AgentRecord, JobRecord, UserRecord};
use sai_core::ordered::Set;
use sai_core::rebuild;
use sai_core::requests;
use sai_core::retention::Policy;
use sai_core::roles::Powers;
use sai_core::sent::Sent;
use sai_core::update::Purpose;
use sai_core::updating;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Carries actions out while the master runs.
pub struct Actions {
    /// The hub.
    pub hub: HubHandle,
    /// Who looks after repositories.
    pub repositories: Arc<Repositories>,
    /// Who must hear of changes.
    pub changes: Arc<Changes>,
    /// What is known.
    pub reader: Reader,
    /// What is kept.
    pub store: Store,
    /// For how long.
    pub keep: Mutex<Policy>,
    /// Whose tokens open `/agent`.
    pub tokens: Arc<Tokens>,
    /// What goes into join lines.
    pub door: Door,
    /// What is known now and is in no record.
    pub live: Arc<RwLock<Live>>,
    /// What is said of this master.
    pub about: About,
    /// What people have sent.
    pub uploads: Arc<Uploads>,
    /// What signs images for cards.
    pub update_key: Arc<UpdateKey>,
}

/// How agents reach this master and know it.
#[derive(Clone, Debug)]
pub struct Door {
    /// Host and port.
    pub address: Address,
    /// Whether that is this machine's name, and all of its addresses will do as well.
    pub everywhere: bool,
    /// What to pin; `None` when the certificate is signed by an authority that agents know.
    pub fingerprint: Option<[u8; 32]>,
    /// The public half of the key by which images for cards are signed.
    pub update_key: [u8; UPDATE_KEY_BYTES],
}

pub(super) const ENDING: &str = "the master is ending";

impl Actions {
    /// Does it, and writes down who asked.
    ///
    /// # Errors
    /// Why it cannot be done, in a sentence for that person.
    pub async fn perform(&self, action: Action, who: &str) -> Result<Done, String> {
        self.allowed(&action, who)?;
        match action {
            Action::Lease(asking) => self.lease(&asking, who).await,
            Action::CheckBoard(agent, board) => self.check_board(agent, board, who).await,
            action => self.carry_out(action, who).await.map(Done::from),
        }
    }

    /// Does what makes no job of its own.
    async fn carry_out(&self, action: Action, who: &str) -> Result<String, String> {
        match action {
            Action::Lease(_) | Action::CheckBoard(..) => Err("this makes a job".to_string()),
            Action::Word(word) => self.word(word, who).await,
            Action::Share(sharing) => self.share(sharing, who).await,
            Action::Image(job, piece) => self.image(job, piece, who).await,
            Action::CancelJob(id) => {
                let record = self.reader.job(id).ok_or_else(|| format!("there is no job {id}"))?;
                self.cancel(&[record], who, format!("cancelled job {id}")).await
            }
            Action::CancelAttempt(key) => {
                let record = self.reader.job(key.job).ok_or_else(|| format!("there is no job {}", key.job))?;
                requests::is_under_way(&record, key.attempt)?;
                self.cancel(&[record], who, format!("cancelled attempt {} of job {}", key.attempt, key.job)).await
            }
            Action::CancelEvent(id) => {
                let jobs = self.jobs(id)?;
                self.cancel(&jobs, who, format!("cancelled event {id}")).await
            }
            Action::RebuildJob(id) => {
                let record = self.reader.job(id).ok_or_else(|| format!("there is no job {id}"))?;
                self.rebuild(record.event, &[id], false, who, format!("rebuilt job {id}")).await
            }
            Action::RebuildFollowing(id) => {
                let record = self.reader.job(id).ok_or_else(|| format!("there is no job {id}"))?;
                let what = format!("rebuilt job {id} and what needs it");
                self.rebuild(record.event, &[id], true, who, what).await
            }
            Action::Start(repository, start) => {
                let words = start.words();
                let what = if words.is_empty() { String::new() } else { format!(": {words}") };
                let event = self.repositories.start_by_hand(&repository, start, who).await?;
                self.done(who, format!("started event {event} of {repository}{what}")).await
            }
            Action::Send(_, piece) => {
                let (uploads, who) = (self.uploads.clone(), who.to_string());
                unblock(move || uploads.take(&who, None, &piece)).await.map(|there| there.to_string())
            }
            Action::Run(repository, sent) => {
                let (uploads, person, wanted) = (self.uploads.clone(), who.to_string(), sent.clone());
                let (bundle, saifile) = unblock(move || sent_files(&uploads, &person, &wanted)).await?;
                let words = sent.start.words();
                let what = if words.is_empty() { String::new() } else { format!(": {words}") };
                let event = self.repositories.run_sent(&repository, sent, bundle, saifile, who).await?;
                self.done(who, format!("started event {event} of {repository} of what was sent{what}")).await
            }
            Action::FreeUnits(grant) => {
                requests::is_granted(&self.reader.agents(), grant)?;
                self.hub.input(Input::FreeUnits(grant)).await.map_err(|_| ENDING)?;
                self.done(who, format!("freed the units of grant {grant}")).await
            }
            Action::RebuildEvent(id, choice) => {
                let jobs = choice.of(&self.jobs(id)?)?;
                let which = if choice.is_empty() { String::new() } else { format!(": {}", choice.words()) };
                self.rebuild(id, &jobs, false, who, format!("rebuilt event {id}{which}")).await
            }
            Action::AgentAdd(names) => {
                let (records, lines) = new_agents(&self.reader, &self.door, &names)?;
                for record in &records {
                    let (input, change) = (Input::Agent(record.clone()), Change::Agent(record.clone()));
                    self.hub.request(Request::With(input, vec![change])).await.map_err(|_| ENDING)?;
                    self.hub.action(who, format!("added agent {}", record.name)).await.map_err(|_| ENDING)?;
                }
                self.hub.settled().await?;
                for record in &records {
                    self.tokens.add(record);
                }
                Ok(lines)
            }
            Action::AgentRevoke(name) => {
                revoked(&self.reader, &name)?;
                self.tokens.remove(&name);
                self.hub.input(Input::Revoke(name.clone())).await.map_err(|_| ENDING)?;
                self.done(who, format!("revoked agent {name}")).await
            }
            Action::SetAside(name, aside) => {
                requests::may_be_set_aside(&name, self.reader.agent(&name).as_ref())?;
                self.hub.input(Input::SetAside(name.clone(), aside)).await.map_err(|_| ENDING)?;
                self.done(who, if aside { format!("set {name} aside") } else { format!("took {name} back") }).await
            }
            Action::BoardAside(agent, board, aside) => self.set_board_aside(agent, board, aside, who).await,
            Action::AgentUpdate(name, image, may_be_older) => self.update(&name, image, may_be_older, who).await,
            Action::UserAdd(name, powers) => {
                let what = format!("added user {name} ({})", powers.words());
                let (record, token) = new_user(&self.reader, &name, powers)?;
                self.record(Change::User(record)).await?;
                self.note(who, what).await?;
                // The list of events tells of first steps that are done.
                self.changes.touch(Topic::Events);
                Ok(token)
            }
            Action::UserRevoke(name) => {
                let record = requests::revoked_user(&name, self.reader.users())?;
                self.record(Change::User(record)).await?;
                self.done(who, format!("revoked user {name}")).await
            }
            Action::AgentList => {
                let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
                Ok(status::agent_list(&self.reader.agents(), Some(&live)))
            }
            Action::Status => {
                let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
                Ok(status::status(&self.about, &self.reader.agents(), &live))
            }
            Action::UserList => Ok(user_list(&self.reader)),
            Action::Rejudge(job, attempt, saifile) => {
                let reader = self.reader.clone();
                unblock(move || rejudged(&reader, job, attempt, saifile.as_ref())).await
            }
            Action::Collect => {
                let (store, keep) = (self.store.clone(), self.keep());
                unblock(move || collect(&store, keep)).await
            }
        }
    }

    fn allowed(&self, action: &Action, who: &str) -> Result<(), String> {
        let job = |id| self.reader.job(id).map(|job| job.repository);
        let event = |id| self.reader.event(id).map(|event| event.repository);
        let sender = |id| Some(self.reader.job(id)?.bundle?.person);
        let objects = rights::Objects { job: &job, event: &event, sender: &sender };
        rights::check(&self.reader.users(), who, wall(), action, &objects)
    }

    /// What retention keeps, as the configuration has it now.
    pub fn keep(&self) -> Policy {
        *self.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self, event: EventId) -> Result<Vec<JobRecord>, String> {
        self.reader.event(event).ok_or_else(|| format!("there is no event {event}"))?;
        Ok(self.reader.jobs(event))
    }

    async fn record(&self, change: Change) -> Result<(), String> {
        self.hub.request(Request::Record(change)).await.map_err(|_| ENDING.to_string())
    }

    async fn note(&self, who: &str, what: String) -> Result<(), String> {
        self.hub.action(who, what).await.map_err(|_| ENDING)?;
        self.hub.settled().await
    }

    pub(super) async fn done(&self, who: &str, what: String) -> Result<String, String> {
        self.note(who, what.clone()).await?;
        Ok(what)
    }

    /// Gives agents' cards an image.
    async fn update(&self, name: &str, image: PathBuf, may_be_older: bool, who: &str) -> Result<String, String> {
        if who != rights::COMMAND_LINE {
            return Err("an image is a file on the master's machine, so this is asked for there".to_string());
        }
        if name == INSIDE {
            return Err(format!("{name} is a part of this master, and updated with it"));
        }
        let (agents, key, file) = (self.reader.agents(), self.update_key.clone(), image.clone());
        let head = unblock(move || updates::read_head(&file)).await?;
        let choice = {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            let connected = |name: &str| live.agents.get(name).is_some_and(|agent| agent.connected);
            updating::choose(&agents, &connected, name, &head.said, &key.digits(), may_be_older)?
        };
        let purpose = if may_be_older { Purpose::Downgrade } else { Purpose::Update };
        let (number, shown) = (head.said.number, image.display().to_string());
        let wanted = unblock(move || updates::keep(&key, &image, &head, purpose, &agents)).await?;
        let names = choice.names.join(", ");
        self.hub.input(Input::Update(choice.names.clone(), wanted)).await.map_err(|_| ENDING)?;
        let how = if may_be_older { ", older or not" } else { "" };
        let text = self.done(who, format!("gave image {number} ({shown}{how}) to {names}")).await?;
        let first = match &choice.names[..] {
            [first, _, ..] => format!("; {first} is the first, and the others follow when it has come back with it"),
            _ => String::new(),
        };
        let left_out: String = choice.left_out.iter().map(|why| format!("\nnot to {why}")).collect();
        Ok(format!("{text}{first}{left_out}"))
    }

    async fn cancel(&self, jobs: &[JobRecord], who: &str, what: String) -> Result<String, String> {
        let open = requests::to_cancel(jobs)?;
        self.hub.input(Input::Cancel(open, format!("cancelled by {who}"))).await.map_err(|_| ENDING)?;
        self.done(who, what).await
    }

    /// Runs those of these jobs again that have ended, and what was skipped because of them; `following`: with all that need
    /// them, whatever became of it.
    async fn rebuild(
        &self,
        event: EventId,
        ids: &[JobId],
        following: bool,
        who: &str,
        what: String,
    ) -> Result<String, String> {
        let event = self.reader.event(event).ok_or_else(|| format!("there is no event {event}"))?;
        let specs = planned(&self.store, &self.reader, &event)?;
        let jobs = self.reader.jobs(event.id);
        let rebuild = rebuild::of(event, specs, jobs, ids, following, Some(who.to_string()))?;
        self.hub.input(Input::Rebuild(rebuild)).await.map_err(|_| ENDING)?;
        self.done(who, what).await
    }
}

impl Door {
    /// The one line a new agent needs.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn join_line(&self, name: &str, token: &str) -> Result<String, String> {
        // Looked up anew, since a machine's addresses change. The name comes last: it may mean nothing elsewhere.
        let found = if self.everywhere { addresses::of_this_machine() } else { Vec::new() };
        let mut hosts: Vec<String> = found.iter().take(HOSTS_MOST - 1).map(ToString::to_string).collect();
        hosts.push(self.address.host.clone());
        let others: Vec<&str> = hosts.iter().skip(1).map(String::as_str).collect();
        let host = hosts.first().cloned().unwrap_or_default();
        let line = JoinLine::new(Address { host, ..self.address.clone() }, name, token, self.fingerprint)?;
        Ok(line.with_others(&others)?.to_string())
    }
}

/// Records of new agents, and their join lines. None is made if one of them cannot be.
fn new_agents(reader: &Reader, door: &Door, names: &[String]) -> Result<(Vec<AgentRecord>, String), String> {
    let (mut records, mut lines, mut seen) = (Vec::new(), Vec::new(), Set::new());
    for name in names {
        if !seen.insert(name.as_str()) {
            return Err(format!("{name:?} is named twice"));
        }
        let (record, token) = new_agent(reader, name, door)?;
        lines.push(door.join_line(name, &token)?);
        records.push(record);
    }
    Ok((records, lines.join("\n")))
}

/// An agent whose token is revoked.
fn revoked(reader: &Reader, name: &str) -> Result<AgentRecord, String> {
    let before = reader.agent(name);
    let record = requests::to_revoke(name, before.as_ref(), INSIDE)?;
    Ok(AgentRecord { revoked: true, ..record.clone() })
}

/// A record and token for a new agent, or for one whose token was revoked.
///
/// # Errors
/// The name is no name, or taken.
fn new_agent(reader: &Reader, name: &str, door: &Door) -> Result<(AgentRecord, String), String> {
    let before = reader.agent(name);
    requests::may_be_added(name, before.as_ref(), INSIDE)?;
    let token = with_update_key(&new_token()?, &door.update_key);
    Ok((AgentRecord::added(name.to_string(), digest_hex(&token), wall(), before.as_ref()), token))
}

/// A record and token for somebody who may act.
///
/// # Errors
/// The name is no name, or taken.
pub fn new_user(reader: &Reader, name: &str, powers: Powers) -> Result<(UserRecord, String), String> {
    requests::may_be_user(name, &reader.users())?;
    let token = new_token()?;
    let token_sha256 = digest_hex(&token);
    let (name, powers) = (name.to_string(), Some(powers));
    Ok((UserRecord { name, token_sha256, added_at: wall(), revoked: false, powers }, token))
}

/// Where the bundle is that somebody has sent, and the saifile that they have.
fn sent_files(uploads: &Uploads, who: &str, sent: &Sent) -> Result<(PathBuf, Vec<u8>), String> {
    let (bundle, size) = uploads.find(who, None, &sent.bundle.sha256)?;
    if size != sent.bundle.size {
        return Err(format!("the bundle has {size} bytes, and not {}", sent.bundle.size));
    }
    let (saifile, size) = uploads.find(who, None, &sent.saifile)?;
    if size > SAIFILE_BYTES {
        return Err(format!("expected a saifile of at most {SAIFILE_BYTES} bytes"));
    }
    let saifile = std::fs::read(saifile).map_err(|error| format!("the saifile that was sent: {error}"))?;
    Ok((bundle, saifile))
}

fn user_list(reader: &Reader) -> String {
    let line = |user: UserRecord| {
        let Some(powers) = &user.powers else { return format!("{}\tadmin\n", user.name) };
        let until = powers.until.map(|until| format!("\tuntil {}", moment_text(until))).unwrap_or_default();
        format!("{}\t{}{until}\n", user.name, powers.words())
    };
    reader.users().into_iter().filter(|user| !user.revoked).map(line).collect()
}

fn rejudged(
    reader: &Reader,
    job: JobId,
    attempt: Option<u32>,
    saifile: Option<&(String, String)>,
) -> Result<String, String> {
    rejudge::judge(reader, job, attempt, saifile.map(|(name, text)| (name.as_str(), text.as_bytes())))
}

/// Deletes what retention does not keep, all of it.
///
/// # Errors
/// The store's.
pub fn collect(store: &Store, keep: Policy) -> Result<String, String> {
    let mut report = store::gc(store, keep);
    while report.more && report.trouble.is_none() {
        report.add(store::gc(store, keep));
    }
    match report.trouble {
        Some(trouble) => Err(trouble.to_string()),
        None => Ok(report.to_string()),
    }
}

/// What the command line does to a master that is not running.
///
/// # Errors
/// Why it cannot be done.
pub fn offline(
    store: &Store,
    keep: Policy,
    door: &dyn Fn() -> Result<Door, String>,
    action: &Action,
) -> Result<String, String> {
    let reader = &store.reader();
    let (changes, text) = match action {
        Action::AgentAdd(names) => {
            let (records, lines) = new_agents(reader, &door()?, names)?;
            (records.into_iter().map(Change::Agent).collect(), lines)
        }
        Action::AgentRevoke(name) => (vec![Change::Agent(revoked(reader, name)?)], format!("revoked agent {name}")),
        Action::UserAdd(name, powers) => {
            let (record, token) = new_user(reader, name, powers.clone())?;
            (vec![Change::User(record)], token)
        }
        Action::UserRevoke(name) => {
            (vec![Change::User(requests::revoked_user(name, reader.users())?)], format!("revoked user {name}"))
        }
        Action::AgentList => (Vec::new(), status::agent_list(&reader.agents(), None)),
        Action::UserList => (Vec::new(), user_list(reader)),
        Action::Collect => (Vec::new(), collect(store, keep)?),
        Action::Rejudge(job, attempt, saifile) => (Vec::new(), rejudged(reader, *job, *attempt, saifile.as_ref())?),
        _ => return Err("no master is running on this state directory".to_string()),
    };
    store.commit_now(changes).map_err(|error| error.to_string())?;
    Ok(text)
}
