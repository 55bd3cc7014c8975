//! An agent's edge: what its session says → frames, job directories, supervisors; crashes, and the start after them.

use super::benches::Bench;
use super::fetches::Fetches;
use super::images::BROKEN_IMAGE;
use super::leases::Heard;
use super::network::{Frame, Side};
use super::sessions::Askers;
use super::supervisor::Supervisor;
use super::{Bug, Event, Outcome, World};
use sai_core::hub::LinkId;
use sai_core::job::{Blame, JobKey};
use sai_core::limits::Millis;
use sai_core::session::{AgentSession, Description, Input, Output};
use sai_core::wire::{AgentMessage, Assignment, DataHeader, MasterMessage, Offer};
use std::collections::BTreeMap;

/// What is on an agent's disk of one attempt, and the process that goes on writing it.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) lengths: Vec<u64>,
    /// Length of the log's front that the spool has dropped.
    pub(super) trimmed: u64,
    pub(super) supervisor: Option<Supervisor>,
    pub(super) assignment: Option<Box<Assignment>>,
    /// Processes of its steps that have asked for boards.
    pub(super) askers: Askers,
    /// Words of the person who has the board.
    pub(super) heard: Heard,
}

/// What a link has carried of one stream: sent up to, acknowledged up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    pub(super) sent: u64,
    pub(super) acked: u64,
}

/// A machine that runs an agent.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) identity: String,
    pub(super) platforms: Vec<String>,
    /// The one of them in which nothing runs.
    pub(super) bad: Option<String>,
    pub(super) slots: u32,
    pub(super) bench: Bench,
    /// The most it has ever offered.
    pub(super) slots_ever: u32,
    /// Whether it tells lies.
    pub(super) liar: bool,
    /// Whether it was made by copying another one's disk.
    pub(super) is_copy: bool,
    /// Whether it is switched off for good.
    pub(super) scrapped: bool,
    /// Whether the master has told it for good that it is not wanted.
    pub(super) ended: bool,
    pub(super) boot: u64,
    /// Until when its disk is full.
    pub(super) full_until: Millis,
    pub(super) session: Option<AgentSession>,
    pub(super) link: Option<LinkId>,
    pub(super) directories: BTreeMap<JobKey, Directory>,
    pub(super) carried: BTreeMap<(JobKey, u16), Carried>,
    /// The furthest byte sent of each stream on any link.
    furthest: BTreeMap<(JobKey, u16), u64>,
    tick: Option<Millis>,
    pub(super) fetches: Fetches,
}

impl Host {
    pub(super) fn new(name: String, identity: String, platforms: Vec<String>, slots: u32) -> Self {
        Self {
            name,
            identity,
            platforms,
            bad: None,
            slots,
            slots_ever: slots,
            bench: Bench::default(),
            liar: false,
            is_copy: false,
            scrapped: false,
            ended: false,
            boot: 0,
            full_until: 0,
            session: None,
            link: None,
            directories: BTreeMap::new(),
            carried: BTreeMap::new(),
            furthest: BTreeMap::new(),
            tick: None,
            fetches: Fetches::default(),
        }
    }
}

impl World {
    /// One turn of an agent's session.
    pub(super) fn session(&mut self, host: usize, input: Input) -> Outcome {
        let now = self.now;
        let here = &mut self.hosts[host];
        let Some(session) = here.session.as_mut() else { return Ok(()) };
        let mut out = Vec::new();
        if self.trace {
            eprintln!("{:>9}   {} << {}", now - super::START, here.name, super::checks::short(&format!("{input:?}")));
        }
        session.handle(now, input, &mut out);
        let due = session.deadline();
        if due != here.tick {
            here.tick = due;
            let boot = here.boot;
            if let Some(due) = due {
                self.at(due, Event::AgentTick(host, boot));
            }
        }
        // What comes of an output is told after all of them were carried out, as an agent's loop does.
        let mut later = Vec::new();
        for output in out {
            self.note(|| format!("  {} >> {output:?}", self.hosts[host].name));
            match output {
                Output::Dial => self.dial(host),
                Output::Close { .. } => self.agent_closes(host),
                Output::Send(message) => self.agent_says(host, message)?,
                Output::SendData { key, stream, offset, length } => {
                    self.agent_sends(host, key, stream, offset, length)?
                }
                Output::Start(assignment) => {
                    let key = assignment.key;
                    self.check_start(host, key)?;
                    self.check_session(host, &assignment)?;
                    later.extend(self.check_board(host, &assignment)?);
                    let bad = &self.hosts[host].bad;
                    if bad.is_some() && *bad == assignment.offered {
                        let why = BROKEN_IMAGE.to_string();
                        later.push(Input::StartFailed { key, blame: Blame::Platform, why });
                        later.extend(self.leave_board(host, key));
                    } else if self.random.chance(30) {
                        later.push(Input::StartFailed {
                            key,
                            blame: Blame::Agent,
                            why: "the disk is full".to_string(),
                        });
                        later.extend(self.leave_board(host, key));
                    } else {
                        let directory = Directory { assignment: Some(Box::new(assignment)), ..Directory::default() };
                        self.hosts[host].directories.insert(key, directory);
                        let wait = self.random.between(1, 30);
                        let boot = self.hosts[host].boot;
                        self.after(wait, Event::Spawn(host, boot, key));
                    }
                }
                Output::Cancel { key, .. } => {
                    let supervisor = self.hosts[host].directories.get_mut(&key);
                    if let Some(supervisor) = supervisor.and_then(|directory| directory.supervisor.as_mut()) {
                        supervisor.cancel(&mut self.random, now);
                    }
                }
                Output::Trim { key, log } => self.trim(host, key, log)?,
                Output::Forget { key } => {
                    self.check_forget(host, key)?;
                    self.summary.forgotten += 1;
                    self.leave_sessions(host, key);
                    self.hosts[host].directories.remove(&key);
                    later.extend(self.leave_board(host, key));
                    self.hosts[host].carried.retain(|(other, _), _| *other != key);
                    later.push(Input::Gone { key });
                }
                // A person has to see to it; the machine stays as it is until then.
                Output::End { .. } => self.hosts[host].ended = true,
                Output::Session(told) => self.told_of_session(host, told)?,
                Output::Look(board) => later.extend(self.owner_says(board)),
                Output::Word(word) => self.hear_word(host, &word)?,
                // No card is simulated, so nobody is told of an image.
                Output::Prefetch(_) | Output::Say(_) | Output::Fetch(_) | Output::Hand(_) => {}
                Output::Bug(what) => return self.contradicted(what),
            }
        }
        later.into_iter().try_for_each(|input| self.session(host, input))
    }

    fn trim(&mut self, host: usize, key: JobKey, log: u64) -> Outcome {
        self.check_trim(host, key, log)?;
        if let Some(directory) = self.hosts[host].directories.get_mut(&key) {
            directory.trimmed = directory.trimmed.max(log);
            directory.supervisor.iter_mut().for_each(|supervisor| supervisor.acked(self.now, log));
        }
        Ok(())
    }

    pub(super) fn agent_tick(&mut self, host: usize, boot: u64) -> Outcome {
        let here = &mut self.hosts[host];
        if boot != here.boot || here.tick.is_none_or(|due| due > self.now) {
            return Ok(());
        }
        here.tick = None;
        self.session(host, Input::Tick)
    }

    fn dial(&mut self, host: usize) {
        if self.hosts[host].ended {
            return;
        }
        let link = self.network.dial(&mut self.random, host);
        self.hosts[host].link = Some(link);
        let wait = self.random.between(1, 100);
        self.after(wait, Event::Accept(link));
    }

    /// The dial has succeeded.
    pub(super) fn connected(&mut self, link: LinkId) -> Outcome {
        let Some(host) = self.network.host(link) else { return Ok(()) };
        if self.hosts[host].link != Some(link) || self.network.is_cut(link) {
            return Ok(());
        }
        self.hosts[host].carried.clear();
        self.session(host, Input::Connected { mirrors: vec!["alpha".to_string()] })
    }

    fn agent_closes(&mut self, host: usize) {
        let Some(link) = self.hosts[host].link else { return };
        self.send(link, Side::Master, Frame::End);
        self.network.set_open(link, Side::Agent, false);
        let wait = self.random.below(30);
        self.after(wait, Event::Gone(link, Side::Agent));
    }

    pub(super) fn agent_loses(&mut self, link: LinkId) -> Outcome {
        let Some(host) = self.network.host(link) else { return Ok(()) };
        self.network.set_open(link, Side::Agent, false);
        if self.hosts[host].link != Some(link) {
            return Ok(());
        }
        self.hosts[host].link = None;
        // What the master still has of this connection it sees to its end.
        self.send(link, Side::Master, Frame::End);
        let jitter_permille = self.random.below(1001) as u32;
        self.session(host, Input::Disconnected { jitter_permille })
    }

    fn agent_says(&mut self, host: usize, message: AgentMessage) -> Outcome {
        let Some(link) = self.hosts[host].link else { return Ok(()) };
        let mut message = message;
        if let (Some(Bug::SilentGreeting), AgentMessage::Hello(hello)) = (self.bug, &mut message) {
            hello.jobs.clear();
        }
        let text = message.encode();
        match AgentMessage::decode(&text) {
            Ok(same) if same == message => {}
            other => return self.broken("wire", format!("{message:?} was read as {other:?}")),
        }
        let frame = Frame::Text(text);
        // A board that its agent never calls free is given to nobody, and who wants it waits in vain: that is no promise broken.
        let said_of_boards = matches!(message, AgentMessage::Units(_));
        if self.hosts[host].liar && !said_of_boards {
            self.lie(host, link, frame)
        } else {
            self.send(link, Side::Master, frame)
        }
        Ok(())
    }

    fn agent_sends(&mut self, host: usize, key: JobKey, stream: u16, offset: u64, length: u64) -> Outcome {
        let Some(link) = self.hosts[host].link else { return Ok(()) };
        self.check_sent(host, key, stream, offset, length)?;
        self.hosts[host].furthest.insert((key, stream), offset + length);
        let produced = self.oracle.attempts.get(&key).and_then(|attempt| attempt.streams.get(usize::from(stream)));
        let range = offset as usize..(offset + length) as usize;
        let Some(content) = produced.and_then(|bytes| bytes.get(range)) else {
            return self.broken("spool", format!("{key} stream {stream} has no {length} bytes at {offset}"));
        };
        let mut bytes = DataHeader { key, stream, offset }.encode().to_vec();
        bytes.extend_from_slice(content);
        if self.bug == Some(Bug::TrimBeforeAck)
            && stream == 0
            && let Some(directory) = self.hosts[host].directories.get_mut(&key)
        {
            directory.trimmed = directory.trimmed.max(offset + length);
        }
        // About 10 MB/s.
        let wait = self.random.between(0, 2) + length / 10_000;
        let boot = self.hosts[host].boot;
        self.after(wait, Event::Writable(host, boot, link));
        let frame = Frame::Binary(bytes);
        if self.hosts[host].liar {
            self.lie(host, link, frame)
        } else {
            self.send(link, Side::Master, frame)
        }
        Ok(())
    }

    pub(super) fn writable(&mut self, host: usize, boot: u64, link: LinkId) -> Outcome {
        if self.hosts[host].boot != boot || self.hosts[host].link != Some(link) {
            return Ok(());
        }
        self.session(host, Input::Writable)
    }

    pub(super) fn arrive_at_agent(&mut self, link: LinkId) -> Outcome {
        let frame = match self.network.arrive(self.now, link, Side::Agent) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(later) => {
                if later < Millis::MAX {
                    self.at(later, Event::Arrive(link, Side::Agent));
                }
                return Ok(());
            }
        };
        let Some(host) = self.network.host(link) else { return Ok(()) };
        if self.hosts[host].link != Some(link) {
            return Ok(());
        }
        let text = match frame {
            Frame::End => return self.agent_loses(link),
            Frame::Binary(_) => return self.broken("wire", "the master sent a binary frame".to_string()),
            Frame::Text(text) => text,
        };
        let mut message = match MasterMessage::decode(&text) {
            Ok(message) => message,
            Err(why) => return self.broken("wire", format!("{text}: {why}")),
        };
        self.check_heard(host, &message)?;
        if let (Some(Bug::NoRewindOnResume), MasterMessage::Adopt(adopt)) = (self.bug, &mut message) {
            let furthest = self.hosts[host].furthest.range((adopt.key, 0)..=(adopt.key, u16::MAX));
            for ((_, stream), sent) in furthest {
                let stream = usize::from(*stream);
                adopt.lengths.resize(adopt.lengths.len().max(stream + 1), 0);
                adopt.lengths[stream] = *sent;
            }
        }
        self.session(host, Input::Message(message))
    }

    /// The job directory is made; its supervisor starts.
    pub(super) fn spawn(&mut self, host: usize, boot: u64, key: JobKey) -> Outcome {
        if self.hosts[host].boot != boot || !self.hosts[host].directories.contains_key(&key) {
            return Ok(());
        }
        self.check_spawn(host, key)?;
        self.summary.attempts += 1;
        let big = self.temper.big;
        let directory = self.hosts[host].directories.get(&key);
        let Some(assignment) = directory.and_then(|directory| directory.assignment.clone()) else { return Ok(()) };
        let mut supervisor = Supervisor::new(&mut self.random, self.now, &assignment, big);
        if assignment.session.is_some() && !self.come_for(host, &assignment) {
            supervisor.step_is_gone();
        }
        self.supervise(host, key, supervisor);
        Ok(())
    }

    fn supervise(&mut self, host: usize, key: JobKey, supervisor: Supervisor) {
        let wait = self.random.between(1, supervisor.pace);
        if let Some(directory) = self.hosts[host].directories.get_mut(&key) {
            directory.supervisor = Some(supervisor);
            self.after(wait, Event::Grow(host, key));
        }
    }

    /// A supervisor writes, whether or not its agent runs.
    pub(super) fn grow(&mut self, host: usize, key: JobKey) -> Outcome {
        let Some(directory) = self.hosts[host].directories.get_mut(&key) else { return Ok(()) };
        let Some(supervisor) = directory.supervisor.as_mut() else { return Ok(()) };
        let killing = supervisor.is_killing();
        if killing && !self.may_end(host, key)? {
            return Ok(());
        }
        let (now, bug, full) = (self.now, self.bug, self.hosts[host].full_until > self.now);
        let Some(directory) = self.hosts[host].directories.get_mut(&key) else { return Ok(()) };
        let Some(supervisor) = directory.supervisor.as_mut() else { return Ok(()) };
        if killing {
            supervisor.swept(&mut self.random, now);
        }
        let turn = supervisor.turn(&mut self.random, now, full, bug);
        if let Some((promise, seen)) = turn.broken {
            return self.broken(promise, format!("{key}: {seen}"));
        }
        self.summary.rests += turn.rests;
        self.summary.full_disks += u64::from(full && supervisor.waits_for_disk());
        if turn.given_up {
            self.summary.given_up += 1;
            let buried = Supervisor::stillborn(&mut self.random, Some(supervisor));
            *supervisor = buried;
        }
        let given_up = turn.given_up;
        let wants_files = supervisor.wants_files();
        for written in turn.written {
            let stream = usize::from(written.stream);
            if directory.lengths.len() <= stream {
                directory.lengths.resize(stream + 1, 0);
            }
            directory.lengths[stream] += written.bytes.len() as u64;
            self.oracle.produce(key, written);
        }
        if let Some(wait) = turn.wait.or(turn.given_up.then_some(1_000)) {
            self.after(wait, Event::Grow(host, key));
        }
        let ended = self.hosts[host].directories.get(&key).and_then(|directory| directory.supervisor.as_ref());
        let ended = ended.is_some_and(Supervisor::has_ended);
        if ended || given_up {
            self.leave_sessions(host, key);
        }
        if ended {
            self.leave_board(host, key).into_iter().try_for_each(|input| self.session(host, input))?;
        }
        let boot = self.hosts[host].boot;
        let wait = self.random.below(40);
        self.after(wait, Event::Notice(host, boot, key));
        self.want_boards(host, key)?;
        if wants_files { self.want_files(host, key) } else { Ok(()) }
    }

    pub(super) fn notice(&mut self, host: usize, boot: u64, key: JobKey) -> Outcome {
        let here = &self.hosts[host];
        if here.boot != boot {
            return Ok(());
        }
        let Some(directory) = here.directories.get(&key) else { return Ok(()) };
        let lengths = directory.lengths.clone();
        self.session(host, Input::Lengths { key, lengths })
    }

    /// A new agent process finds its job directories, then dials.
    pub(super) fn start_agent(&mut self, host: usize) -> Outcome {
        let here = &mut self.hosts[host];
        if here.scrapped || here.session.is_some() {
            return Ok(());
        }
        let instance = format!("{:016x}{:016x}", self.random.next(), self.random.next());
        let here = &mut self.hosts[host];
        here.session = Some(AgentSession::new(Description {
            version: "sim".to_string(),
            identity: here.identity.clone(),
            instance: Some(instance),
            host: format!("{}.example", here.name),
            platforms: here.platforms.clone(),
            slots: here.slots,
            cores: 4,
            memory_mib: 4096,
            notes: Vec::new(),
            rooted: None,
            boards: here.bench.offered.clone(),
            card: None,
        }));
        here.tick = None;
        self.note(|| format!("{} STARTS", self.hosts[host].name));
        let here = &self.hosts[host];
        let found: Vec<_> = here.directories.iter().map(|(key, directory)| (*key, directory.lengths.clone())).collect();
        for (key, lengths) in found {
            self.session(host, Input::Found { key, lengths })?;
            let unborn = self.hosts[host].directories.get(&key).is_some_and(|here| here.supervisor.is_none());
            if unborn && self.random.chance(500) {
                // From now on nothing will come of it, and its directory goes when the master forgets it.
                if let Some(directory) = self.hosts[host].directories.get_mut(&key) {
                    directory.assignment = None;
                }
                let why = "the agent died before the job began".to_string();
                self.session(host, Input::StartFailed { key, blame: Blame::Agent, why })?;
            } else if unborn {
                let supervisor = Supervisor::stillborn(&mut self.random, None);
                self.oracle.begin(host, key, false);
                self.supervise(host, key, supervisor);
            }
        }
        self.repeat_asks(host)?;
        self.find_boards(host)?;
        self.session(host, Input::Tick)
    }

    /// The agent's process dies; its supervisors do not.
    pub(super) fn crash_agent(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        if here.session.take().is_none() {
            return;
        }
        here.boot += 1;
        here.fetches = Fetches::default();
        let link = here.link.take();
        self.note(|| format!("{} CRASHES", self.hosts[host].name));
        self.summary.agent_crashes += 1;
        if let Some(link) = link {
            self.network.set_open(link, Side::Agent, false);
            self.send(link, Side::Master, Frame::End);
        }
        let longest = if self.random.chance(200) { 200_000 } else { 4_000 };
        let wait = self.random.between(50, longest);
        self.after(wait, Event::StartAgent(host));
    }

    /// The whole machine dies and its disk is found empty.
    pub(super) fn lose_host(&mut self, host: usize, for_good: bool) {
        if let Some(link) = self.hosts[host].link {
            self.cut(link);
        }
        self.crash_agent(host);
        self.hosts[host].scrapped |= for_good;
        self.hosts[host].directories.clear();
        self.hosts[host].bench.lose_memory();
    }

    /// The agent offers another number of slots.
    pub(super) fn offer(&mut self, host: usize, slots: u32) -> Outcome {
        let here = &mut self.hosts[host];
        here.slots = slots;
        here.slots_ever = here.slots_ever.max(slots);
        let platforms = here.platforms.clone();
        let boards = Some(here.bench.offered.clone()).filter(|boards| !boards.is_empty());
        self.session(host, Input::Offer(Offer { platforms, slots, rooted: None, boards }))
    }
}
