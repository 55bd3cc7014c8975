//! An agent's side of its link to the master: messages, what its job directories hold and how fast its writer takes
//! frames → messages, pieces of streams to send, jobs to start, trim and forget.
//!
//! The session outlives links. On each new one it lists the attempts it holds, and sends of an attempt only after the
//! master has said from where (`Adopt`), so that nothing is sent twice and nothing is left out.

mod boards;
mod updates;

pub use self::boards::Standing;

use self::boards::Boards;
use self::updates::Updates;
use crate::bug;
use crate::card::Card;
use crate::job::{Blame, JobKey};
use crate::limits::{CHUNK_BYTES, Millis, STREAMS, WINDOW_BYTES};
use crate::ordered::{Map, Set};
use crate::stream::StreamSender;
use crate::units::OfferedBoard;
use crate::versions::{self, Can, Span};
use crate::wire::{
    self, AgentMessage, Assignment, Code, Hello, Load, MasterMessage, Offer, Pong, Prefetch, Refuse, Session,
    SessionTold, Units, Unread, Update, Word,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What an agent's line begins with when it has reached its master: whoever started it may go by that.
pub const CONNECTED: &str = "connected as";
/// Milliseconds before the first redial; doubled after each failure in a row.
pub const REDIAL_FIRST_MS: Millis = 250;
/// Milliseconds between redials at most: a master that was rebooted is found again within this time.
pub const REDIAL_MOST_MS: Millis = 30_000;
/// Milliseconds between redials while another machine uses this one's identity, at least: nothing changes it by itself.
pub const CLONED_MS: Millis = 120_000;
/// Milliseconds the master may take from the dial to its `Welcome`.
pub const WELCOME_MS: Millis = 20_000;

/// Notes that a greeting has at most when mistakes of our own are added: no more are shown.
const NOTES: usize = 16;

/// What the agent says of itself in each greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its version.
    pub version: String,
    /// See [`Hello::identity`].
    pub identity: String,
    /// See [`Hello::instance`].
    pub instance: Option<String>,
    /// Host name.
    pub host: String,
    /// Platforms it offers.
    pub platforms: Vec<String>,
    /// See [`Offer::rooted`].
    pub rooted: Option<Vec<String>>,
    /// Jobs at once.
    pub slots: u32,
    /// Processor cores.
    pub cores: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// See [`Hello::notes`].
    pub notes: Vec<String>,
    /// See [`Offer::boards`].
    pub boards: Vec<OfferedBoard>,
    /// See [`Hello::card`].
    pub card: Option<Card>,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A link is up: TLS, token and upgrade are done.
    Connected {
        /// Repositories whose mirror is here now.
        mirrors: Vec<String>,
    },
    /// The link is gone, or could not be made.
    Disconnected {
        /// A number from 0 to 1000 that spreads the redials of many agents; the edge draws it.
        jitter_permille: u32,
    },
    /// The master said something.
    Message(MasterMessage),
    /// The master said something of a kind that this version does not know: what, for people.
    Unknown(String),
    /// The writer can take a data frame.
    Writable,
    /// A job directory was found when the agent started.
    Found {
        /// Its attempt.
        key: JobKey,
        /// Length of each stream from 0 on.
        lengths: Vec<u64>,
    },
    /// Streams of an attempt have grown.
    Lengths {
        /// The attempt.
        key: JobKey,
        /// Length of each stream from 0 on.
        lengths: Vec<u64>,
    },
    /// An assignment could not be started: trouble of ours.
    StartFailed {
        /// The attempt.
        key: JobKey,
        /// Whose trouble.
        blame: Blame,
        /// Why.
        why: String,
    },
    /// Of an attempt that was to be forgotten nothing is left: no process, no directory.
    Gone {
        /// The attempt.
        key: JobKey,
    },
    /// Platforms, slots or boards have changed.
    Offer(Offer),
    /// The owner of a board says how it stands, or says nothing any more.
    Board {
        /// Its name.
        name: String,
        /// How it stands.
        standing: Standing,
    },
    /// An attempt that was found is at a board, or may be; of one that is assigned this is known.
    AtBoard {
        /// The attempt.
        key: JobKey,
        /// The names of the boards, or of the rig.
        names: Vec<String>,
        /// Number of its grant.
        grant: u64,
    },
    /// Nothing of an attempt runs any more, or ever has: its board is its no longer, though its log may still be on the way.
    LeftBoard {
        /// The attempt.
        key: JobKey,
    },
    /// A step of an attempt wants a session at a board, or none any more. It may be said again.
    Session(Session),
    /// Load has changed enough to tell.
    Load(Load),
    /// After `Fetch`: so much of the file is there, and what is in the way of more.
    Fetching(u64, String),
    /// After `Fetch`: it is there whole, or why it cannot be had.
    Fetched(Result<(), String>),
    /// After `Hand`: why the image is not taken.
    Refused(String),
    /// Time has passed.
    Tick,
}

impl Input {
    /// What a text frame of the master's is.
    ///
    /// # Errors
    /// What is wrong with it: the master's fault.
    pub fn of_text(text: &str) -> Result<Self, String> {
        match MasterMessage::decode(text) {
            Ok(message) => Ok(Self::Message(message)),
            Err(Unread::Unknown(what)) => Ok(Self::Unknown(what)),
            Err(Unread::Malformed(why)) => Err(why),
        }
    }

    /// What a binary frame of the master's is: none of them is known yet.
    pub fn of_binary(frame: &[u8]) -> Self {
        Self::Unknown(wire::unknown_binary(frame.first().copied().unwrap_or(0)))
    }
}

/// What the edge is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open a link.
    Dial,
    /// Close the link; answer with `Disconnected`.
    Close {
        /// Why, for people.
        why: String,
    },
    /// Send a message.
    Send(AgentMessage),
    /// Send this piece of a stream, then say `Writable` when the next may come.
    SendData {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// First byte.
        offset: u64,
        /// Bytes, at most `CHUNK_BYTES`.
        length: u64,
    },
    /// Make a job directory and start its supervisor; answer with `Lengths` or `StartFailed`.
    Start(Assignment),
    /// Tell the supervisor to end the job.
    Cancel {
        /// The attempt.
        key: JobKey,
        /// Why, for people.
        why: String,
    },
    /// The master holds this much of the log: the spool may drop it.
    Trim {
        /// The attempt.
        key: JobKey,
        /// Durable length of the log.
        log: u64,
    },
    /// Kill what still runs of it and delete its directory.
    Forget {
        /// The attempt.
        key: JobKey,
    },
    /// Tell the supervisor of that attempt what became of a session.
    Session(SessionTold),
    /// Tell the supervisor of that attempt what its person says.
    Word(Word),
    /// Ask the owner of this board how it stands, and say it with `Board` even where that is as it was.
    Look(String),
    /// Fetch this revision into its mirror.
    Prefetch(Prefetch),
    /// Get the file of an image for this machine's card; answer with `Fetched`.
    Fetch(Update),
    /// Hand it to the machine's first process, which starts the machine with it or answers with `Refused`.
    Hand(Update),
    /// The agent is of no use any more: its token was revoked, or belongs to another machine. What is being forgotten is
    /// seen to its end, everything else stays as it is.
    End {
        /// Why, for people.
        why: String,
    },
    /// Tell the person at the terminal or in the journal.
    Say(String),
    /// Something was found that cannot be: a mistake of the session's own, or of who carries it out.
    Bug(&'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Link {
    Down { redial: Millis },
    Dialling { until: Millis },
    Greeting { until: Millis },
    Up,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    streams: Vec<StreamSender>,
    /// Whether the master has said, on this link, from where to go on.
    adopted: bool,
    /// Why it could not be started or cannot go on.
    refused: Option<(Blame, String)>,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug)]
pub struct AgentSession {
    description: Description,
    link: Link,
    failures: u32,
    /// Whether the master has last said that another machine uses this one's identity.
    cloned: bool,
    /// What the master of the present link can do.
    master_can: Option<Vec<String>>,
    /// How much masters have said that was of no known kind.
    passed_over: u64,
    held: Map<JobKey, Held>,
    boards: Boards,
    updates: Updates,
    /// Sessions that steps have asked for and that are not over: a link may be lost with what was asked, or told.
    asked: Map<(JobKey, u32), Session>,
    /// What is being forgotten. Until it is gone it may occupy more than a slot, so greetings tell of it.
    leaving: Set<JobKey>,
    writable: bool,
    /// Whether the offer has changed since the greeting of the present link.
    offer_changed: bool,
    /// What was last told of the load: a master that has just restarted must hear it too.
    load: Option<Load>,
    /// The stream served last, so that the next one in order is served next.
    cursor: (JobKey, u16),
}

impl AgentSession {
    /// A session that will dial at its first tick.
    pub fn new(mut description: Description) -> Self {
        let cursor = (JobKey { job: 0, attempt: 0 }, 0);
        let mut boards = Boards::default();
        boards.offer(core::mem::take(&mut description.boards));
        Self {
            description,
            link: Link::Down { redial: 0 },
            failures: 0,
            cloned: false,
            master_can: None,
            passed_over: 0,
            held: Map::new(),
            boards,
            updates: Updates::default(),
            asked: Map::new(),
            leaving: Set::new(),
            writable: false,
            offer_changed: false,
            load: None,
            cursor,
        }
    }

    /// When `Tick` is due, if ever.
    pub fn deadline(&self) -> Option<Millis> {
        let link = match self.link {
            Link::Down { redial } => Some(redial),
            Link::Dialling { until } | Link::Greeting { until } => Some(until),
            Link::Up => None,
        };
        link.into_iter().chain(self.updates.deadline(self.is_quiet())).min()
    }

    /// Whether nothing of any attempt is here any more.
    fn is_quiet(&self) -> bool {
        self.held.is_empty() && self.leaving.is_empty()
    }

    /// Whether the master has welcomed this agent on the present link.
    pub fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Whether the master of the present link has said that it can do this.
    pub fn master_can(&self, can: Can) -> bool {
        can.is_in(self.master_can.as_deref())
    }

    /// Attempts held, running or ended.
    pub fn holds(&self) -> impl Iterator<Item = JobKey> + '_ {
        self.held.keys().copied()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Connected { mirrors } => self.connected(now, mirrors, out),
            Input::Disconnected { jitter_permille } => {
                if matches!(self.link, Link::Down { .. }) {
                    self.bug("disconnected: no link was asked for", out);
                }
                self.disconnected(now, jitter_permille);
            }
            Input::Message(message) => self.message(message, out),
            Input::Unknown(what) => {
                self.passed_over = self.passed_over.saturating_add(1);
                if versions::is_worth_telling(self.passed_over) {
                    out.push(Output::Say(format!("the master: {}", versions::passed_over(&what, self.passed_over))));
                }
            }
            Input::Writable => self.writable = true,
            Input::Found { key, lengths } => {
                self.held.get_or_default(key);
                self.grow(key, &lengths);
            }
            // A report about an attempt that was forgotten meanwhile means nothing.
            Input::Lengths { key, lengths } => self.grow(key, &lengths),
            Input::StartFailed { key, blame, why } => self.refuse(key, blame, why, out),
            Input::Gone { key } => {
                out.extend(self.boards.leave(key).into_iter().map(Output::Look));
                if self.leaving.remove(&key) && self.is_up() && self.master_can(Can::Units) {
                    let (board, state, holder, grant) = (None, Units::FREE.to_string(), Some(key), None);
                    out.push(Output::Send(AgentMessage::Units(Units { board, state, holder, grant, why: None })));
                }
            }
            Input::Offer(offer) => {
                self.description.platforms.clone_from(&offer.platforms);
                self.description.slots = offer.slots;
                self.description.rooted.clone_from(&offer.rooted);
                self.boards.offer(offer.boards.clone().unwrap_or_default());
                self.offer(out);
            }
            Input::Board { name, standing } => self.boards.stand(&name, standing),
            Input::AtBoard { key, names, grant } => self.boards.give(key, names, grant),
            Input::LeftBoard { key } => out.extend(self.boards.leave(key).into_iter().map(Output::Look)),
            Input::Session(session) => self.session(session, out),
            Input::Load(load) => {
                self.load = Some(load.clone());
                if self.is_up() {
                    out.push(Output::Send(AgentMessage::Load(load)));
                }
            }
            Input::Fetching(have, why) => self.updates.fetching(have, why),
            // The master tells of it again when it is there again.
            Input::Fetched(Err(_)) if !self.is_up() => self.updates = Updates::default(),
            Input::Fetched(result) => {
                self.updates.fetched(now, result);
                self.offer(out);
            }
            Input::Refused(why) => {
                self.updates.refuse(why);
                self.offer(out);
            }
            Input::Tick => self.tick(now, out),
        }
        out.extend(self.updates.due(now, self.is_quiet()).map(Output::Hand));
        self.tell_of_updates(out);
        self.tell_of_boards(out);
        self.pump(out);
    }

    /// Tells the master what is offered now.
    fn offer(&mut self, out: &mut Vec<Output>) {
        if self.is_up() {
            let Description { platforms, rooted, .. } = self.description.clone();
            let (slots, boards) = (self.slots(), self.boards.offered());
            out.push(Output::Send(AgentMessage::Offer(Offer { platforms, slots, rooted, boards })));
        } else {
            self.offer_changed = true;
        }
    }

    /// Jobs that may begin at once: none while the machine is about to be started anew. Those at boards take no slot, but begin only
    /// where there are some.
    fn slots(&self) -> u32 {
        if self.updates.is_waiting() { 0 } else { self.description.slots }
    }

    /// Tells the master how far an update is, if that is new to it.
    fn tell_of_updates(&mut self, out: &mut Vec<Output>) {
        if self.is_up() && self.master_can(Can::Updates) {
            out.extend(self.updates.news().map(|updating| Output::Send(AgentMessage::Updating(updating))));
        }
    }

    /// Tells the master what has changed of the boards, and all of it on a new link.
    fn tell_of_boards(&mut self, out: &mut Vec<Output>) {
        if self.is_up() && self.master_can(Can::Units) {
            out.extend(self.boards.news().into_iter().map(|units| Output::Send(AgentMessage::Units(units))));
        }
    }

    /// Something was found that cannot be. The next greeting tells of it, since nobody may read what the agent prints.
    fn bug(&mut self, what: &'static str, out: &mut Vec<Output>) {
        let note = bug::sentence(what);
        if !self.description.notes.contains(&note) && self.description.notes.len() < NOTES {
            self.description.notes.push(note);
        }
        out.push(Output::Bug(what));
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Output>) {
        match self.link {
            Link::Down { redial } if now >= redial => {
                self.link = Link::Dialling { until: now + WELCOME_MS };
                out.push(Output::Dial);
            }
            Link::Dialling { until } | Link::Greeting { until } if now >= until => {
                out.push(Output::Close { why: format!("no welcome within {} s", WELCOME_MS / 1000) });
                // The edge answers with `Disconnected`; until then this deadline must not fire again at once.
                self.link = Link::Dialling { until: now + WELCOME_MS };
            }
            // Not yet.
            _ => {}
        }
    }

    fn connected(&mut self, now: Millis, mirrors: Vec<String>, out: &mut Vec<Output>) {
        self.link = Link::Greeting { until: now + WELCOME_MS };
        self.writable = true;
        self.offer_changed = false;
        for held in self.held.values_mut() {
            held.adopted = false;
        }
        let about = &self.description;
        out.push(Output::Send(AgentMessage::Hello(Hello {
            protocol: Span::OURS.oldest,
            version: about.version.clone(),
            identity: about.identity.clone(),
            host: about.host.clone(),
            platforms: about.platforms.clone(),
            slots: self.slots(),
            cores: about.cores,
            memory_mib: about.memory_mib,
            mirrors,
            jobs: self.held.keys().chain(self.leaving.iter()).copied().collect(),
            notes: (!about.notes.is_empty()).then(|| about.notes.clone()),
            instance: about.instance.clone(),
            protocol_newest: Some(Span::OURS.newest),
            can: Some(versions::told()),
            rooted: about.rooted.clone(),
            boards: self.boards.offered(),
            card: about.card.clone(),
        })));
    }

    fn disconnected(&mut self, now: Millis, jitter_permille: u32) {
        let wait = match core::mem::take(&mut self.cloned) {
            true => 2 * CLONED_MS,
            false => (REDIAL_FIRST_MS << self.failures.min(10)).min(REDIAL_MOST_MS),
        };
        self.failures = self.failures.saturating_add(1);
        // Half of the wait is fixed, half is spread.
        let spread = wait / 2 * u64::from(jitter_permille.min(1000)) / 1000;
        self.link = Link::Down { redial: now + wait / 2 + spread };
        self.master_can = None;
        self.writable = false;
        for held in self.held.values_mut() {
            held.adopted = false;
        }
    }

    fn message(&mut self, message: MasterMessage, out: &mut Vec<Output>) {
        if let MasterMessage::Bye(bye) = &message {
            let why = format!("the master says: {}", bye.why);
            match Code::of(bye.code.as_deref()) {
                Some(Code::Revoked) => out.push(Output::End { why }),
                code => {
                    self.cloned = code == Some(Code::Cloned);
                    out.push(Output::Say(why));
                }
            }
            return;
        }
        match (&self.link, message) {
            (Link::Greeting { .. }, MasterMessage::Welcome(welcome)) => {
                if Span::OURS.has(welcome.protocol) {
                    self.link = Link::Up;
                    self.master_can = versions::heard(welcome.can);
                    self.failures = 0;
                    self.boards.forget_told();
                    self.updates.forget_told();
                    out.push(Output::Say(format!(
                        "{CONNECTED} {} to a master of version {}",
                        welcome.agent, welcome.version
                    )));
                    if self.offer_changed {
                        self.offer(out);
                    }
                    if let Some(load) = self.load.clone() {
                        out.push(Output::Send(AgentMessage::Load(load)));
                    }
                    let asked: Vec<Session> = self.asked.values().cloned().collect();
                    asked.into_iter().for_each(|session| self.ask(session, out));
                } else {
                    out.push(Output::Close {
                        why: format!("the master speaks protocol {}, this agent {}", welcome.protocol, Span::OURS),
                    });
                }
            }
            (Link::Up, MasterMessage::Assign(assignment)) => {
                // Holding it from this moment on makes the next greeting list it, so that a link that breaks while the
                // directory is made does not let the master give the attempt up.
                if !self.held.contains_key(&assignment.key) {
                    if let Some(board) = &assignment.board {
                        self.boards.give(assignment.key, board.names().cloned().collect(), board.grant);
                    }
                    self.held.insert(assignment.key, Held { adopted: true, ..Held::default() });
                    out.push(Output::Start(assignment));
                }
            }
            (Link::Up, MasterMessage::Adopt(adopt)) => {
                // The master goes by a greeting, and what it named may have been forgotten since.
                let Some(held) = self.held.get_mut(&adopt.key) else { return };
                held.adopted = true;
                if let Some((blame, why)) = held.refused.clone() {
                    let refuse = Refuse { key: adopt.key, why, trouble: blame.word() };
                    out.push(Output::Send(AgentMessage::Refuse(refuse)));
                    return;
                }
                let lost = {
                    let mut lengths = adopt.lengths.iter().copied();
                    let streams = held.streams.len().max(adopt.lengths.len());
                    held.streams.resize(streams, StreamSender::new());
                    !held.streams.iter_mut().all(|stream| stream.resume(lengths.next().unwrap_or(0)))
                };
                if lost {
                    self.refuse(
                        adopt.key,
                        Blame::Agent,
                        "the spool lost bytes the master already has".to_string(),
                        out,
                    );
                } else if let Some(&log) = adopt.lengths.first() {
                    out.push(Output::Trim { key: adopt.key, log });
                }
            }
            (Link::Up, MasterMessage::Ack(ack)) => {
                // What was flushed last of what was forgotten.
                let Some(held) = self.held.get_mut(&ack.key) else { return };
                // The master's mistake, of which nothing depends here.
                let Some(stream) = held.streams.get_mut(usize::from(ack.stream)) else { return };
                if !stream.ack(ack.length) {
                    out.push(Output::Close { why: "the master acknowledged bytes that do not exist".to_string() });
                } else if ack.stream == 0 {
                    out.push(Output::Trim { key: ack.key, log: stream.acked() });
                }
            }
            (Link::Up, MasterMessage::Cancel(cancel)) => {
                if self.held.contains_key(&cancel.key) {
                    out.push(Output::Cancel { key: cancel.key, why: cancel.why });
                }
            }
            (Link::Up, MasterMessage::Session(told)) => {
                // What is over may be told twice.
                let place = (told.key, told.number);
                let known = self.asked.contains_key(&place);
                if told.over.is_some() {
                    self.asked.remove(&place);
                }
                if known {
                    out.push(Output::Session(told));
                }
            }
            (Link::Up, MasterMessage::Word(word)) => {
                if self.held.contains_key(&word.key) {
                    out.push(Output::Word(word));
                }
            }
            (Link::Up, MasterMessage::Update(update)) => {
                // It is said to nobody else.
                if self.description.card.is_some() {
                    out.extend(self.updates.told(update).map(Output::Fetch));
                }
            }
            (Link::Up, MasterMessage::Forget(forget)) => {
                self.asked.retain(|(key, _), _| *key != forget.key);
                if self.held.remove(&forget.key).is_some() {
                    self.leaving.insert(forget.key);
                    out.push(Output::Forget { key: forget.key });
                }
            }
            (Link::Up, MasterMessage::Ping(ping)) => {
                out.push(Output::Send(AgentMessage::Pong(Pong { number: ping.number, wall: None })));
            }
            (Link::Up, MasterMessage::Prefetch(prefetch)) => out.push(Output::Prefetch(prefetch)),
            // Whatever else arrives was under way on a link that is no more, or out of turn: nothing depends on it.
            _ => {}
        }
    }

    /// A step wants a session, or none any more.
    fn session(&mut self, session: Session, out: &mut Vec<Output>) {
        // The attempt was forgotten meanwhile.
        if !self.held.contains_key(&session.key) {
            return;
        }
        let place = (session.key, session.number);
        if session.board.is_none() && !self.asked.contains_key(&place) {
            // It is over already.
            return;
        }
        self.asked.insert(place, session.clone());
        if self.is_up() {
            self.ask(session, out);
        }
    }

    fn ask(&mut self, session: Session, out: &mut Vec<Output>) {
        if self.master_can(Can::Sessions) {
            return out.push(Output::Send(AgentMessage::Session(session)));
        }
        self.asked.remove(&(session.key, session.number));
        let over = Some("this master knows no sessions at boards: it is of an older version".to_string());
        out.push(Output::Session(SessionTold { key: session.key, number: session.number, job: None, over }));
    }

    fn grow(&mut self, key: JobKey, lengths: &[u64]) {
        // A report about what was forgotten meanwhile.
        let Some(held) = self.held.get_mut(&key) else { return };
        let streams = lengths.len().min(STREAMS);
        if held.streams.len() < streams {
            held.streams.resize(streams, StreamSender::new());
        }
        for (stream, length) in held.streams.iter_mut().zip(lengths) {
            stream.grow(*length);
        }
    }

    fn refuse(&mut self, key: JobKey, blame: Blame, why: String, out: &mut Vec<Output>) {
        // It was forgotten while it was begun.
        let Some(held) = self.held.get_mut(&key) else { return };
        held.refused = Some((blame, why.clone()));
        if held.adopted && self.link == Link::Up {
            out.push(Output::Send(AgentMessage::Refuse(Refuse { key, why, trouble: blame.word() })));
        }
    }

    /// Hands the writer the next piece, going round the streams, while the window has room.
    fn pump(&mut self, out: &mut Vec<Output>) {
        if !self.writable || self.link != Link::Up {
            return;
        }
        let in_flight: u64 = self
            .held
            .values()
            .filter(|held| held.adopted)
            .flat_map(|held| held.streams.iter().map(StreamSender::in_flight))
            .sum();
        let room = WINDOW_BYTES.saturating_sub(in_flight).min(CHUNK_BYTES as u64);
        if room == 0 {
            return;
        }
        let cursor = self.cursor;
        let (mut after, mut before) = (None, None);
        for (key, held) in &self.held {
            if !held.adopted || held.refused.is_some() {
                continue;
            }
            // What a log announces comes after it, so that the master never has what it cannot place.
            let behind = held.streams.first().is_some_and(|log| log.clone().next(room).is_some());
            for (index, stream) in held.streams.iter().enumerate().take(if behind { 1 } else { STREAMS }) {
                let place = (*key, index as u16);
                if stream.clone().next(room).is_some() {
                    let slot = if place > cursor { &mut after } else { &mut before };
                    slot.get_or_insert(place);
                }
            }
        }
        // All is sent.
        let Some((key, stream)) = after.or(before) else { return };
        let next = self
            .held
            .get_mut(&key)
            .and_then(|held| held.streams.get_mut(usize::from(stream)))
            .and_then(|sender| sender.next(room));
        if let Some((offset, length)) = next {
            self.cursor = (key, stream);
            self.writable = false;
            out.push(Output::SendData { key, stream, offset, length });
        } else {
            self.bug("pump: a stream that had more to send has not", out);
        }
    }
}
