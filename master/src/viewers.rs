//! Change → what an open page shows of it: fragments of HTML and log lines over a WebSocket.
//!
//! The page itself is the snapshot. A viewer says what it shows and since when; it is then sent what changed, made by
//! the same renderers, once for all who look at the same. Nobody waits for a viewer: changes fold together while one
//! message is under way, a message that cannot be delivered within a deadline ends the viewer, and one that is far behind
//! in a log jumps to its end. What a viewer costs is one message, whatever the rate.

use crate::live::{Dirty, Scope, Topic, Watch};
use crate::page::board::{self, BoardView};
use crate::page::filter::Filter;
use crate::page::html::Html;
use crate::page::library::{EVENTS, Library};
use crate::page::log_fold::{Folder, Piece};
use crate::page::narrow::Narrow;
use crate::page::route::{field, key_field, number_field};
use crate::page::views::Visitor;
use crate::page::{
    agents, artifact_list, board_list, event, events, first_steps, grid, job, log_html, stages, unit_list,
};
use crate::rooms::{Part, Render};
use miniserde::{Serialize, json};
use sai_agent::blocking::unblock;
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ordered::{self, Set};
use sai_core::roles::Deed;
use smol::Timer;
use smol::future::or;
use std::future::Future;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// Seconds one message may take to be taken over by the connection.
const SEND_S: u64 = 10;

/// Agents up to which their list is replaced as a whole, which keeps it in order.
const WHOLE_AGENTS: usize = 64;

/// Pause between two rounds of log lines; with `BATCH_BYTES` it bounds what one viewer is sent.
const LINES_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a log read for one message.
const BATCH_BYTES: usize = 128 << 10;

/// Bytes a viewer may be behind in a log before it jumps to the end.
const BEHIND_BYTES: u64 = 1 << 20;

/// Bytes before the end to which it jumps.
const TAIL_BYTES: u64 = 64 << 10;

/// Takes messages to one viewer. The WebSocket is one.
pub trait Socket: Send {
    /// Hands a text message over; returns when the connection has room for it.
    fn send(&mut self, text: String) -> impl Future<Output = Result<(), String>> + Send;
    /// Hands bytes over, in the same way.
    fn give(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<(), String>> + Send;
}

/// What a viewer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Events { repository: Option<String>, since: u64 },
    Event { id: EventId, since: u64, narrow: Narrow },
    Job { key: JobKey, from: u64 },
    Records { key: JobKey, from: u64 },
    Agents { since: u64 },
    Units,
    Boards,
    Board { agent: String, board: String },
}

impl Shown {
    /// Reads a `/live` address.
    fn of(address: &str) -> Option<Self> {
        let (path, query) = address.split_once('?')?;
        if path != "/live" {
            return None;
        }
        let since = number_field(query, "since").unwrap_or(0);
        if let Some(id) = number_field(query, "event") {
            return Some(Self::Event { id, since, narrow: Narrow::of(query) });
        }
        if let Some(key) = key_field(query, "job") {
            return Some(Self::Job { key, from: number_field(query, "from").unwrap_or(0) });
        }
        if let Some(key) = key_field(query, "records") {
            return Some(Self::Records { key, from: number_field(query, "from").unwrap_or(0) });
        }
        if let (Some(agent), Some(board)) = (field(query, "agent"), field(query, "board")) {
            return Some(Self::Board { agent, board });
        }
        match field(query, "page")?.as_str() {
            "events" => Some(Self::Events { repository: field(query, "repository"), since }),
            "agents" => Some(Self::Agents { since }),
            "units" => Some(Self::Units),
            "boards" => Some(Self::Boards),
            _ => None,
        }
    }
}

#[derive(Serialize)]
struct FragmentMessage<'a> {
    t: &'a str,
    id: &'a str,
    html: &'a str,
}

/// The agent of an attempt is away since this moment, Unix milliseconds, or is there again.
#[derive(Serialize)]
struct AgentMessage<'a> {
    t: &'a str,
    agent: &'a str,
    away_since: Option<u64>,
}

#[derive(Serialize)]
struct LogMessage<'a> {
    t: &'a str,
    html: &'a str,
    to: u64,
}

/// A part of a page that replaces the one with the same id.
struct Fragment {
    id: String,
    html: Html,
}

impl Fragment {
    fn new(id: impl Into<String>, write: impl FnOnce(&mut Html)) -> Self {
        let mut html = Html::new();
        write(&mut html);
        Self { id: id.into(), html }
    }

    fn message(&self) -> String {
        json::to_string(&FragmentMessage { t: "fragment", id: &self.id, html: self.html.as_str() })
    }

    /// The same for all who look; `fresh` is when it changed last.
    fn part(self, fresh: u64) -> Part {
        let text = self.message();
        Part::new(self.id, fresh, text)
    }
}

/// Serves one viewer until it is gone, does not take what it is sent, or there is nothing more to see. `address` is the
/// path and query it asked for, `who` the signed-in user, and `gone` ends when its connection does.
pub async fn view(
    socket: &mut impl Socket,
    gone: impl Future<Output = ()>,
    address: &str,
    who: Option<String>,
    library: Arc<Library>,
) {
    let Some(shown) = Shown::of(address) else { return };
    let serve = async {
        let _ended = match shown {
            Shown::Job { key, from } => follow(socket, key, from, who, &library).await,
            Shown::Records { key, from } => records(socket, key, from, who, &library).await,
            other => fragments(socket, other, who, &library).await,
        };
    };
    or(serve, gone).await;
}

async fn send(socket: &mut impl Socket, text: String) -> Result<(), String> {
    or(socket.send(text), late()).await
}

async fn late() -> Result<(), String> {
    Timer::after(Duration::from_secs(SEND_S)).await;
    Err("the viewer takes nothing".to_string())
}

/// Serves the pages that are made of fragments.
async fn fragments(
    socket: &mut impl Socket,
    shown: Shown,
    who: Option<String>,
    library: &Arc<Library>,
) -> Result<(), String> {
    // What is shown to one who may act is shown to all who may.
    let deed = if matches!(shown, Shown::Agents { .. }) { Deed::Administer } else { Deed::Build };
    let who = who.filter(|who| library.visitor(Some(who.clone())).may(deed, None)).map(|_| String::new());
    let (scope, key, since) = match &shown {
        Shown::Event { id, since, narrow } => {
            let (library, id) = (library.clone(), *id);
            let Some(record) = unblock(move || library.archive.event(id)).await else { return Ok(()) };
            let jobs = record.first_job..record.first_job + u64::from(record.jobs);
            (Scope::Event(id, jobs), format!("event {id}{}", narrow.fields()), *since)
        }
        Shown::Agents { since } => (Scope::Agents, format!("agents {}", who.is_some()), *since),
        Shown::Units => (Scope::Units, format!("units {}", who.is_some()), 0),
        Shown::Boards => (Scope::Units, "boards".to_string(), 0),
        Shown::Board { agent, board } => {
            // What is shown to one is another's as well, but not that of another board.
            (Scope::Units, format!("board {agent}/{board}"), 0)
        }
        Shown::Events { repository: None, since } => (Scope::Events, "events".to_string(), *since),
        Shown::Events { repository: Some(one), since } => (Scope::Events, format!("events of {one}"), *since),
        Shown::Job { .. } | Shown::Records { .. } => return Ok(()),
    };
    let make = || -> Render {
        let (library, shown) = (library.clone(), shown.clone());
        Box::new(move |dirty| changed(&library, &shown, who.clone(), dirty))
    };
    let mut member = library.rooms.enter(&library.changes, key, scope, make);
    let mut everything = Some(since);
    loop {
        // First what may have changed since the page was made, then what does.
        if let Some(since) = everything.take() {
            let round = member.everything().await;
            for part in round.iter().filter(|part| part.fresh >= since) {
                send(socket, part.text.clone()).await?;
            }
        }
        match member.rounds().await {
            None => everything = Some(0),
            Some(rounds) => {
                for part in rounds.iter().flat_map(|round| round.iter()) {
                    send(socket, part.text.clone()).await?;
                }
            }
        }
    }
}

/// The fragments that changed; without `dirty`, all of them.
fn changed(library: &Library, shown: &Shown, who: Option<String>, dirty: Option<&Dirty>) -> Vec<Part> {
    let visitor = library.visitor(who);
    match shown {
        Shown::Events { repository, .. } => changed_events(library, repository.as_deref(), dirty, visitor.now),
        Shown::Event { id, narrow, .. } => changed_event(library, *id, narrow, dirty, visitor.now),
        Shown::Agents { .. } => changed_agents(library, &visitor),
        Shown::Units => {
            let live = library.live();
            let (table, boards) = (live.unit_table.clone(), live.boards.clone());
            drop(live);
            vec![Fragment::new("units", |html| unit_list::list(html, &table, &boards, &visitor)).part(u64::MAX)]
        }
        Shown::Boards => {
            let boards = library.live().boards.clone();
            vec![Fragment::new("boards", |html| board_list::list(html, &boards, visitor.now)).part(u64::MAX)]
        }
        Shown::Board { agent, board } => {
            let row =
                library.live().boards.iter().find(|row| row.agent == *agent && row.offered.name == *board).cloned();
            let view = BoardView { name: (agent.clone(), board.clone()), row, ..BoardView::default() };
            vec![Fragment::new("board-head", |html| board::head(html, &view, visitor.now)).part(u64::MAX)]
        }
        Shown::Job { .. } | Shown::Records { .. } => Vec::new(),
    }
}

/// The agents: the whole list, in order, while it is short, else each for itself. Of a long list the load, which changes
/// all the time, is told only with something else.
fn changed_agents(library: &Library, visitor: &Visitor) -> Vec<Part> {
    let view = library.agents(false);
    if view.agents.len() <= WHOLE_AGENTS {
        return vec![Fragment::new("agents", |html| agents::list(html, &view, visitor)).part(u64::MAX)];
    }
    let sum = Fragment::new("agents-sum", |html| agents::sum(html, &view)).part(u64::MAX);
    let cards = view.agents.iter().map(|agent| {
        // One that may not join any more is not live.
        let changed_at = agent.live.as_ref().map_or(u64::MAX, |live| live.changed_at);
        let card = Fragment::new(agents::card_id(agent), |html| agents::card(html, agent, visitor)).part(changed_at);
        Part { mark: changed_at, ..card }
    });
    std::iter::once(sum).chain(cards).collect()
}

fn changed_events(library: &Library, repository: Option<&str>, dirty: Option<&Dirty>, now: u64) -> Vec<Part> {
    let filter = || Filter { repository: repository.map(str::to_string), ..Filter::default() };
    let wanted: Option<Set<EventId>> = dirty.filter(|dirty| !dirty.all).map(|dirty| {
        let event = |topic: &Topic| match topic {
            Topic::Event(id) => Some(*id),
            Topic::Job(id) => library.archive.job(*id).map(|job| job.event),
            _ => None,
        };
        Set::from_iter(dirty.topics.iter().filter_map(event))
    });
    let mut views = match &wanted {
        // That the list changed says nothing of which event: look at all that the first page shows.
        Some(_) if dirty.is_some_and(|dirty| dirty.topics.contains(&Topic::Events)) => {
            library.events(None, filter(), EVENTS).events
        }
        Some(ids) => ids.iter().rev().filter_map(|id| Some(library.listed(library.archive.event(*id)?))).collect(),
        None => library.events(None, filter(), EVENTS).events,
    };
    views.retain(|view| repository.is_none_or(|name| view.event.repository == name));
    // Oldest first, since each new one goes to the top.
    let views = ordered::by_key(views, |view| view.event.id);
    let cards = views.iter().map(|view| {
        let card = Fragment::new(format!("event-{}", view.event.id), |html| events::card(html, view, now));
        card.part(view.fresh().max(view.event.at))
    });
    let steps = library.young();
    let steps =
        steps.map(|steps| Fragment::new("first-steps", |html| first_steps::section(html, &steps)).part(u64::MAX));
    cards.chain(steps).collect()
}

fn changed_event(library: &Library, id: EventId, narrow: &Narrow, dirty: Option<&Dirty>, now: u64) -> Vec<Part> {
    // Taken first: what is touched while the records are read counts as later than they are.
    let touched = library.changes.touched();
    let Some(view) = library.event_page(id, narrow.clone()) else { return Vec::new() };
    let mut parts = vec![Fragment::new("event-head", |html| event::head(html, &view, now)).part(u64::MAX)];
    if narrow.is_empty() {
        parts.push(Fragment::new("event-wrong", |html| event::wrong(html, &view, now)).part(u64::MAX));
    }
    if let Some(sum) = view.summary() {
        // What has not changed since it was told is not told again, so that of a change a row or two are.
        for group in &sum.platforms.shown {
            parts.push(Fragment::new(grid::platform_id(group), |html| grid::platform(html, id, group)).part(u64::MAX));
        }
        for group in &sum.configurations.shown {
            let row = Fragment::new(grid::configuration_id(group), |html| grid::configuration(html, id, group));
            parts.push(row.part(u64::MAX));
        }
        return parts;
    }
    if narrow.is_empty() && stages::any(&view) {
        parts.push(Fragment::new("event-needs", |html| stages::section(html, &view)).part(u64::MAX));
    }
    let wanted: Option<Set<JobId>> = dirty.filter(|dirty| !dirty.all).map(|dirty| {
        let job = |topic: &Topic| if let Topic::Job(id) = topic { Some(*id) } else { None };
        Set::from_iter(dirty.topics.iter().filter_map(job))
    });
    for job in view.jobs.iter().filter(|job| wanted.as_ref().is_none_or(|ids| ids.contains(&job.id))) {
        let fresh = touched.last(job.id);
        if narrow.is_empty() {
            parts.push(Fragment::new(format!("cell-{}", job.id), |html| grid::chip(html, job, true)).part(fresh));
        }
        parts.push(Fragment::new(format!("job-{}", job.id), |html| grid::job_row(html, &view, job, now)).part(fresh));
    }
    parts
}

/// What a follower of a log learned in one round.
#[derive(Default)]
struct Round {
    pieces: Vec<Piece>,
    jumped: bool,
    to: u64,
    ended: bool,
    /// There is more to read at once.
    more: bool,
}

/// Reads on in a log that grows.
struct Follower {
    key: JobKey,
    from: u64,
    reader: Option<Box<dyn Read + Send>>,
    folder: Folder,
}

impl Follower {
    fn new(key: JobKey, from: u64) -> Self {
        Self { key, from, reader: None, folder: Folder::new([]) }
    }

    /// `whole` says that nothing more is written to the log.
    fn round(&mut self, library: &Library, whole: bool) -> io::Result<Round> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => match library.archive.log(self.key) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Round::default()),
                Err(error) => return Err(error),
                Ok(log) if whole && log.length <= self.from => return Ok(Round { to: self.from, ..Round::default() }),
                Ok(mut log) => {
                    // The beginning is on the page already; it is read again only to know where it ends.
                    read_on(&mut log.reader, &mut self.folder, self.from)?;
                    self.folder.finish();
                    self.folder.follow();
                    log.reader
                }
            },
        };
        let mut round = Round::default();
        let length = library.live().log_lengths.get(&self.key).copied().unwrap_or(0);
        if length.saturating_sub(self.folder.offset()) > BEHIND_BYTES {
            self.folder.skip();
            read_on(&mut reader, &mut self.folder, length.saturating_sub(TAIL_BYTES))?;
            round.pieces = self.folder.finish();
            round.jumped = true;
            self.folder.follow();
        }
        let until = self.folder.offset() + BATCH_BYTES as u64;
        read_on(&mut reader, &mut self.folder, until)?;
        round.pieces.extend(self.folder.take());
        round.to = self.folder.offset();
        round.ended = self.folder.ended();
        round.more = round.to == until && !round.ended;
        self.reader = Some(reader);
        Ok(round)
    }
}

/// Feeds a folder until it has taken `until` bytes or there are no more now.
fn read_on(reader: &mut Box<dyn Read + Send>, folder: &mut Folder, until: u64) -> io::Result<()> {
    let mut buffer = vec![0; BATCH_BYTES];
    while folder.offset() < until && !folder.ended() {
        let room = usize::try_from(until - folder.offset()).unwrap_or(usize::MAX).min(buffer.len());
        let length = reader.read(buffer.get_mut(..room).unwrap_or_default())?;
        if length == 0 {
            break;
        }
        folder.push(buffer.get(..length).unwrap_or_default());
    }
    Ok(())
}

/// Serves the page of a job.
async fn follow(
    socket: &mut impl Socket,
    key: JobKey,
    from: u64,
    who: Option<String>,
    library: &Arc<Library>,
) -> Result<(), String> {
    let watch = library.changes.watch(Scope::Job(key));
    let mut follower = Follower::new(key, from);
    let mut job_changed = true;
    loop {
        let (held, round, head) = {
            let (library, mut held, who) = (library.clone(), follower, who.clone());
            unblock(move || {
                let head = if job_changed { head(&library, key) } else { None };
                let whole = head.as_ref().is_some_and(|(_, ended)| *ended);
                // Asked each time: whom a board is shared with may change.
                let hears = library.hears(&library.visitor(who), key.job);
                let round = if hears { held.round(&library, whole) } else { Ok(Round::default()) };
                (held, round, head)
            })
            .await
        };
        follower = held;
        let round = round.map_err(|error| error.to_string())?;
        let ended = head.as_ref().is_some_and(|(_, ended)| *ended);
        for fragment in head.iter().flat_map(|(fragments, _)| fragments) {
            send(socket, fragment.message()).await?;
        }
        if !round.pieces.is_empty() {
            let html = log_html::appended(&round.pieces, key);
            let t = if round.jumped { "gap" } else { "log" };
            send(socket, json::to_string(&LogMessage { t, html: html.as_str(), to: round.to })).await?;
        }
        if ended && !round.more {
            send(socket, "{\"t\":\"end\"}".to_string()).await?;
            // Nothing can come to this log any more; what can come is a later attempt.
            drop(follower);
            return await_attempts(socket, key, &watch, library).await;
        }
        Timer::after(LINES_PAUSE).await;
        job_changed = false;
        if !round.more {
            let dirty = watch.changed().await;
            job_changed = dirty.all || dirty.topics.contains(&Topic::Job(key.job));
        }
    }
}

/// Gives a program the log as it is stored from a byte on, as it grows, until the attempt has ended or is not to be heard any more. How
/// all stands then, it asks.
async fn records(
    socket: &mut impl Socket,
    key: JobKey,
    mut from: u64,
    who: Option<String>,
    library: &Arc<Library>,
) -> Result<(), String> {
    let (watch, agents) = (library.changes.watch(Scope::Job(key)), library.changes.watch(Scope::Agents));
    let mut away = None;
    // A master that knows nothing of this closes without a word.
    send(socket, "{\"t\":\"records\"}".to_string()).await?;
    loop {
        let (library, who) = (library.clone(), who.clone());
        let Some((bytes, agent)) = unblock(move || stored(&library, key, from, who)).await? else { return Ok(()) };
        if let Some((name, since)) = agent.filter(|(_, since)| *since != away) {
            away = since;
            let message = AgentMessage { t: "agent", agent: &name, away_since: since };
            send(socket, json::to_string(&message)).await?;
        }
        if bytes.is_empty() {
            or(watch.changed(), agents.changed()).await;
            continue;
        }
        from += bytes.len() as u64;
        or(socket.give(bytes), late()).await?;
    }
}

/// Bytes of a log, and the agent that it comes from, with the moment since when that is away.
type Stored = (Vec<u8>, Option<(String, Option<u64>)>);

/// What a log has behind this byte by now; nothing where there will be no more for them.
fn stored(library: &Library, key: JobKey, from: u64, who: Option<String>) -> Result<Option<Stored>, String> {
    // Asked each time: whom a board is shared with may change.
    if !library.hears(&library.visitor(who), key.job) {
        return Ok(None);
    }
    // Asked before it is read, so that what comes meanwhile is not missed.
    let job = library.archive.job(key.job).filter(|job| job.attempt <= key.attempt && !job.state.ended());
    let live = job.is_some();
    let agent = job.and_then(|job| job.agent);
    let since = agent.as_ref().and_then(|name| library.live().agents.get(name).cloned());
    let since = since.filter(|agent| !agent.connected).map(|agent| agent.connected_since);
    let mut bytes = Vec::new();
    match library.archive.log_from(key, from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        log => {
            let read = log.and_then(|log| log.reader.take(BATCH_BYTES as u64).read_to_end(&mut bytes));
            read.map_err(|error| error.to_string())?;
        }
    }
    Ok((live || !bytes.is_empty()).then(|| (bytes, agent.map(|name| (name, since)))))
}

/// Tells a page whose attempt has ended of those that come after it.
async fn await_attempts(
    socket: &mut impl Socket,
    key: JobKey,
    watch: &Watch,
    library: &Arc<Library>,
) -> Result<(), String> {
    loop {
        watch.changed().await;
        let library = library.clone();
        let fragment = unblock(move || {
            let view = library.job(key.job, Some(key.attempt)).filter(|view| !view.current())?;
            Some(Fragment::new("job-attempts", |html| job::attempts(html, &view)))
        });
        if let Some(fragment) = fragment.await {
            send(socket, fragment.message()).await?;
        }
        Timer::after(LINES_PAUSE).await;
    }
}

/// The head of a job's page as it is now, its files, and whether the attempt has ended.
fn head(library: &Library, key: JobKey) -> Option<(Vec<Fragment>, bool)> {
    let view = library.with_past(library.job(key.job, Some(key.attempt))?);
    let ended = view.state().ended();
    let now = library.visitor(None).now;
    let fragments = vec![
        Fragment::new("job-head", |html| job::head(html, &view, now)),
        Fragment::new("artifacts", |html| artifact_list::section(html, &view)),
    ];
    Some((fragments, ended))
}
