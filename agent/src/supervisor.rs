//! Job directory → a running job and its spool: the process that owns one attempt, `sai-agent --job DIR`.
//!
//! It is the leader of a session and the sub-reaper of all the job starts, so nothing of a job can leave its tree, and it
//! outlives the agent that started it. One thread does everything in a poll loop, led by `sai_core::run`; making the checkout
//! and collecting artifacts block, so each has a thread of its own while it lasts.
//!
//! All steps share one pair of pipes. When a step's process ends, what is in the pipes at that moment is read before the end
//! of the step is told; a daemon that keeps them open delays nothing.

mod asking;
mod begin;
mod connection;
mod devices;
mod ends;
mod helpers;
mod room;
mod sweeping;

use crate::artifacts::Collector;
use crate::boards::devices::Devices;
use crate::boards::trial;
use crate::clean_start::close_others;
use crate::executor::{Ended, Executor, Isolated, Pipe, Running, Step, Workspace, environment, isolate};
use crate::git::{Stop, timespec};
use crate::job_directory::{JobDirectory, NO_ROOM, RunnerOptions};
use crate::mirror::Trouble;
use crate::needs::Want;
use crate::process_tree::{descendants, signal};
use crate::spool::SpoolWriter;
use begin::{take_listener, take_lock};
use connection::Agent;
use ends::{Exited, ended};
use helpers::{Event, Prepare, Teller, collect, thread, watch_children};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, set_child_subreaper, wait};
use sai_core::backlog::{self, Backlog};
use sai_core::bug;
use sai_core::job::Blame;
use sai_core::limits::{Millis, RECORD_BYTES};
use sai_core::ordered::Map;
use sai_core::record::{Artifact, ChannelStart, HEADER_BYTES, Record, encode, encode_data};
use sai_core::run::{Input, Output, Run};
use sai_core::sweep::{self, Sweep};
use sai_core::wire::Assignment;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Bytes collected before they are written to the spool.
const BATCH_BYTES: usize = 512 << 10;
/// A read smaller than this is followed by a pause, so that a job that prints line by line does not cost a record, a write and
/// a message for each line.
const SMALL_READ_BYTES: usize = 8 << 10;
/// That pause. A line that comes alone never waits, one that follows another at most this long.
const PAUSE: Duration = Duration::from_micros(800);
/// Agents that may be connected at once: one, and those that are just going.
const AGENTS: usize = 4;
/// Messages of a helper thread that wait to be looked at.
const EVENTS: usize = 64;

/// Channel numbers; a channel is announced when it has its first byte.
const CHANNELS: [&str; 3] = ["stdout", "stderr", "git"];
const GIT: u8 = 2;

/// Runs the job of a job directory to its end. The exit status tells whether the log has its verdict.
pub fn main(directory: &Path) -> ExitCode {
    close_others();
    match supervise(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::say(&format!("the supervisor of {}: {error}", directory.display()));
            ExitCode::FAILURE
        }
    }
}

fn supervise(path: &Path) -> io::Result<()> {
    let begin = Instant::now();
    let directory = JobDirectory::open(path)?;
    let _lock = take_lock(&directory)?;
    if directory.ended() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the attempt has ended"));
    }
    let listener = take_listener(&directory)?;
    // It fails only for one that leads a process group already, started by hand.
    let _ = rustix::process::setsid();
    set_child_subreaper(Some(rustix::process::getpid()))?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    std::env::set_current_dir("/")?;
    directory.sign()?;
    let options = directory.options()?;
    let isolated = isolate(&Workspace::of(directory.path()), &options, &directory.marker()?);
    Supervisor::new(directory, options, isolated, listener, begin)?.run()
}

struct Supervisor {
    directory: JobDirectory,
    assignment: Assignment,
    /// The file that is wanted from the agent, and who waits for it.
    wanted: Option<Want>,
    answers: Option<SyncSender<Result<PathBuf, Trouble>>>,
    options: RunnerOptions,
    workspace: Workspace,
    executor: Arc<Executor>,
    environment: Map<String, String>,
    begin: Instant,
    run: Run,
    decided: Vec<Output>,

    spool: SpoolWriter,
    batch: Vec<u8>,
    /// Bytes of the batch that the disk has refused.
    refused: Arc<AtomicU64>,
    backlog: Backlog,
    /// Whether there was no room for the verdict for too long.
    given_up: bool,
    lengths: Vec<u64>,
    /// Artifacts whose announcement is in the batch.
    announcing: Vec<Artifact>,
    announced: [bool; 3],
    /// Whether the verdict is in the batch: nothing may follow it.
    closed: bool,

    pipes: [Pipe; 2],
    buffer: Vec<u8>,
    pause_until: Option<Instant>,
    step: Option<Running>,
    exited: Option<Exited>,
    sweep: Sweep,

    wake: Arc<OwnedFd>,
    events: Receiver<Event>,
    teller: Teller,
    /// Whether a helper thread is at work. It may have children of its own to wait for.
    helping: bool,
    collector: Option<Box<Collector>>,
    child_tokens: SyncSender<()>,
    child_watcher_idle: bool,

    listener: UnixListener,
    agents: Vec<Agent>,
    /// Those of its steps that want a board, where they may ask.
    devices: Option<Devices>,
    /// To what is done at a board: words of the person who has it.
    words: Option<UnixDatagram>,
}

impl Supervisor {
    fn new(
        directory: JobDirectory,
        options: RunnerOptions,
        isolated: Isolated,
        listener: UnixListener,
        begin: Instant,
    ) -> io::Result<Self> {
        let mut assignment = directory.assignment()?;
        trial::only_images(&mut assignment);
        let marker = directory.marker()?;
        let workspace = Workspace::of(directory.path());
        let spool = SpoolWriter::open(&directory.path().join("spool"))?;
        if spool.length() > 0 {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the attempt was begun by another supervisor"));
        }
        let executor = Executor::new(&workspace, &options, &marker, isolated)?;
        let image = options.container.is_some();
        let devices = if options.devices == Some(true) { Some(Devices::new(&workspace.steps, image)?) } else { None };
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (sender, events) = sync_channel(EVENTS);
        let (child_tokens, tokens) = sync_channel(1);
        let child_wake = wake.clone();
        thread("children", move || watch_children(&tokens, &child_wake))?;
        Ok(Self {
            run: Run::new(&assignment),
            refused: Arc::default(),
            backlog: Backlog::new(options.spool_bytes),
            environment: environment(&assignment, &options, &executor.seen(&workspace), &marker),
            collector: Some(Box::new(Collector::new(directory.path(), executor.root(), &assignment.artifacts))),
            pipes: executor.outputs()?,
            executor: Arc::new(executor),
            teller: Teller { events: sender, wake: wake.clone(), stop: Arc::new(Stop::new()?) },
            directory,
            assignment,
            wanted: None,
            answers: None,
            options,
            workspace,
            begin,
            decided: Vec::new(),
            spool,
            batch: Vec::with_capacity(BATCH_BYTES + 4 * RECORD_BYTES),
            lengths: vec![0],
            announcing: Vec::new(),
            announced: [false; 3],
            given_up: false,
            closed: false,
            buffer: vec![0; RECORD_BYTES],
            pause_until: None,
            step: None,
            exited: None,
            sweep: Sweep::default(),
            wake,
            events,
            helping: false,
            child_tokens,
            child_watcher_idle: true,
            listener,
            agents: Vec::new(),
            devices,
            words: None,
        })
    }

    fn now(&self) -> Millis {
        self.begin.elapsed().as_millis() as Millis
    }

    fn micros(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }

    fn input(&mut self, input: Input) {
        self.run.handle(self.now(), input, &mut self.decided);
    }

    fn run(mut self) -> io::Result<()> {
        self.input(Input::Begin);
        if crate::is_mistaken("run") {
            self.input(Input::Begin);
        }
        loop {
            self.carry_out();
            if self.sweep.is_under_way() {
                self.sweep_on();
                self.carry_out();
            }
            self.flush();
            if self.run.ended() && self.batch.is_empty() {
                return self.finish();
            }
            if self.given_up {
                let _ = self.directory.set_gave_up();
                return Err(io::Error::other(NO_ROOM));
            }
            self.wait()?;
            if self.run.deadline().is_some_and(|deadline| deadline <= self.now()) {
                self.input(Input::Tick);
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut time = Duration::from_secs(3600);
        let deadlines = [self.run.deadline(), self.sweep.deadline(), self.backlog.deadline()];
        for deadline in deadlines.into_iter().flatten() {
            time = time.min(Duration::from_millis(deadline.saturating_sub(self.now())));
        }
        // With a step that has ended there is no reason to wait for more to come together.
        if self.exited.is_some() {
            self.pause_until = None;
        }
        let pause = self.pause_until.map(|until| until.saturating_duration_since(Instant::now()));
        let paused = pause.is_some_and(|pause| !pause.is_zero());
        if paused {
            time = time.min(pause.unwrap_or_default());
        }
        let may_read = self.backlog.may_read() || (self.exited.is_some() && self.backlog.may_read_rest());
        let reading = may_read && !paused;
        let mut wanted = vec![PollFd::new(&self.wake, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        for agent in &self.agents {
            let flags = if agent.is_behind() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            wanted.push(PollFd::new(&agent.socket, flags));
        }
        let devices = wanted.len();
        let askers = self.devices.iter().flat_map(Devices::files);
        wanted.extend(askers.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)));
        let devices = devices..wanted.len();
        let inside = self.executor.contained().filter(|_| self.step == Some(Running::Inside));
        wanted.extend(inside.map(|contained| PollFd::from_borrowed_fd(contained.watched(), PollFlags::IN)));
        let first_pipe = wanted.len();
        if reading {
            wanted
                .extend(self.pipes.iter().filter(|pipe| pipe.open).map(|pipe| PollFd::new(&pipe.read, PollFlags::IN)));
        }
        match poll(&mut wanted, Some(&timespec(time))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = wanted.iter().map(|wanted| !wanted.revents().is_empty()).collect();
        drop(wanted);
        let is_ready = |at: usize| ready.get(at).copied().unwrap_or(false);
        if is_ready(0) {
            let _ = rustix::io::read(&self.wake, &mut [0_u8; 8][..]);
            self.look_at_events();
            self.look_at_children();
        }
        self.look_inside();
        if devices.into_iter().any(is_ready) {
            self.hear_of_boards();
        }
        for at in 0..self.agents.len() {
            if is_ready(2 + at) {
                self.listen_to(at);
            }
        }
        if is_ready(1) {
            self.accept();
        }
        if reading && (first_pipe..ready.len()).any(is_ready) {
            self.read_output(BATCH_BYTES);
        }
        self.tell_of_exit();
        Ok(())
    }

    /// Reads what the pipes hold, taking turns, up to about `most` bytes.
    fn read_output(&mut self, most: usize) {
        let mut sum = 0;
        loop {
            let before = sum;
            for at in 0..self.pipes.len() {
                sum += self.read_pipe(at);
            }
            if sum == before || sum >= most {
                break;
            }
        }
        self.pause_until = (sum < SMALL_READ_BYTES).then(|| Instant::now() + PAUSE);
    }

    fn read_pipe(&mut self, at: usize) -> usize {
        let pipe = &mut self.pipes[at];
        if !pipe.open {
            return 0;
        }
        let read = match rustix::io::read(&pipe.read, &mut self.buffer[..]) {
            Ok(0) => {
                pipe.open = false;
                0
            }
            Ok(read) => read,
            Err(_) => 0,
        };
        if let Some(Exited { left, .. }) = &mut self.exited {
            left[at] = if read == 0 { 0 } else { left[at].saturating_sub(read as u64) };
        }
        if read > 0 {
            let buffer = std::mem::take(&mut self.buffer);
            self.log_output(at as u8, &buffer[..read]);
            self.buffer = buffer;
        }
        read
    }

    /// Appends output to the batch, as far as the log's limit lets it.
    fn log_output(&mut self, channel: u8, bytes: &[u8]) {
        let micros = self.micros();
        for piece in bytes.chunks(RECORD_BYTES) {
            let mut decided = Vec::new();
            self.run.handle(self.now(), Input::Printed { length: piece.len() }, &mut decided);
            let kept = if let Some(Output::Keep(kept)) = decided.first() { *kept } else { 0 };
            decided.retain(|output| !matches!(output, Output::Keep(_)));
            if kept > 0 && !self.closed {
                let index = usize::from(channel);
                if !std::mem::replace(&mut self.announced[index], true) {
                    let start = ChannelStart { name: CHANNELS[index].to_string() };
                    encode(&Record::Channel(channel, start), micros, &mut self.batch);
                }
                encode_data(channel, &piece[..kept], micros, &mut self.batch);
            }
            if !decided.is_empty() {
                self.decided.append(&mut decided);
                self.carry_out();
            }
        }
    }

    fn log(&mut self, record: &Record) {
        if self.closed {
            return;
        }
        self.closed = matches!(record, Record::Verdict(_));
        encode(record, self.micros(), &mut self.batch);
    }

    /// Writes the batch to the spool, as the backlog decides, and tells the agents.
    fn flush(&mut self) {
        let waiting = backlog::Input::Waiting { bytes: self.batch.len() as u64, last: self.closed };
        self.tell_backlog(waiting);
        self.refused.store(self.batch.len() as u64, Ordering::Relaxed);
        if !self.batch.is_empty() {
            return;
        }
        for artifact in std::mem::take(&mut self.announcing) {
            let ready = self.artifact_path(&format!("{}.ready", artifact.stream));
            if std::fs::rename(ready, self.artifact_path(&artifact.stream.to_string())).is_ok() {
                self.lengths.push(artifact.size);
            }
        }
        // The verdict is told when it is durable.
        if !self.closed {
            self.lengths[0] = self.spool.length();
        }
        for agent in &mut self.agents {
            agent.tell(&self.lengths);
        }
        self.agents.retain(|agent| !agent.gone);
    }

    fn artifact_path(&self, name: &str) -> PathBuf {
        self.directory.path().join("artifacts").join(name)
    }

    fn carry_out(&mut self) {
        while !self.decided.is_empty() {
            for output in std::mem::take(&mut self.decided) {
                self.carry_out_one(output);
            }
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Prepare => self.prepare(),
            Output::Spawn { step } => self.spawn(step),
            Output::Try => self.try_board(),
            Output::Terminate => {
                self.teller.stop.ask();
                self.answer(Err(Trouble::ours("getting the files of needs was stopped")));
                let contained = self.executor.contained();
                let spared = |pid: &i32| contained.is_some_and(|contained| contained.spares(*pid));
                for pid in descendants().into_iter().filter(|pid| !spared(pid)) {
                    signal(pid, Signal::TERM);
                    // One that is stopped sees no signal but SIGKILL before it goes on.
                    signal(pid, Signal::CONT);
                }
            }
            Output::Kill => {
                // Our own ends of the pipes are closed, so that they end with the last process.
                for pipe in &mut self.pipes {
                    pipe.write = None;
                }
                // The loop goes on with it.
                self.sweep.handle(self.now(), sweep::Input::Begin, &mut Vec::new());
            }
            Output::CollectArtifacts { last } => self.collect(last),
            // `log_output` takes it where the bytes are.
            Output::Keep(_) => {}
            Output::Record(record) => self.log(&record),
            Output::Bug(what) => self.bug(what),
            Output::End(verdict) => {
                if let Err(error) = self.executor.cleanup() {
                    self.log(&Record::Note(format!("cleaning up after the job: {error}")));
                }
                self.log(&Record::Verdict(verdict));
            }
        }
    }

    /// Something was found that cannot be. Who looks at the job sees it in its log.
    fn bug(&mut self, what: &str) {
        let sentence = bug::sentence(what);
        crate::say(&sentence);
        self.log(&Record::Note(sentence));
        crate::end_of_tests();
    }

    fn prepare(&mut self) {
        let (sender, answers) = sync_channel(1);
        self.answers = Some(sender);
        let started = self.directory.take_url(&self.assignment).and_then(|url| {
            let work = Prepare {
                mirrors: PathBuf::from(&self.options.mirrors),
                assignment: self.assignment.clone(),
                url,
                workspace: self.workspace.clone(),
                executor: self.executor.clone(),
                teller: self.teller.clone(),
                answers,
            };
            thread("prepare", move || work.run())
        });
        self.helping = started.is_ok();
        if let Err(error) = started {
            let Trouble { fault, blame, why } = Trouble::disk("beginning the checkout", &error);
            self.input(Input::PrepareFailed { fault, blame, why });
        }
    }

    fn collect(&mut self, last: bool) {
        let Some(collector) = self.collector.take() else {
            self.input(Input::ArtifactsCollected { trouble: None });
            return;
        };
        // An order to end the steps is none to leave their files behind.
        let started = Stop::new().and_then(|stop| {
            self.teller.stop = Arc::new(stop);
            let teller = self.teller.clone();
            self.helping = true;
            thread("collect", move || collect(collector, last, &teller))
        });
        if let Err(error) = started {
            self.helping = false;
            self.input(Input::ArtifactsCollected { trouble: Some(format!("collecting artifacts: {error}")) });
        }
    }

    fn spawn(&mut self, index: usize) {
        let started = self.start_step(index);
        match started {
            Ok(running) => {
                self.step = Some(running);
                self.watch_children();
                self.input(Input::StepSpawned);
                if running == Running::Gone {
                    self.step_ended(Ended::KILLED);
                    // Nothing more may happen that would be waited for.
                    self.tell_of_exit();
                }
            }
            Err(error) => self.input(Input::SpawnFailed {
                blame: Blame::Agent,
                why: format!("starting step {}: {error}", index + 1),
            }),
        }
    }

    fn start_step(&self, index: usize) -> io::Result<Running> {
        let end = |at: usize| -> io::Result<OwnedFd> {
            let pipe = self.pipes.get(at).and_then(|pipe| pipe.write.as_ref());
            pipe.ok_or(io::ErrorKind::BrokenPipe)?.try_clone()
        };
        let script = self.assignment.steps.get(index).map_or("", String::as_str);
        let step = Step { index, script, environment: &self.environment, stdout: end(0)?, stderr: end(1)? };
        self.executor.spawn(step)
    }

    fn look_at_events(&mut self) {
        // With a full disk the helper waits, as the job does; not the one at a board, which has a bound of its own.
        while !self.backlog.is_full() || self.assignment.board.is_some() {
            let Ok(event) = self.events.try_recv() else { return };
            match event {
                Event::Note(text) => self.log(&Record::Note(text)),
                Event::Git(bytes) => self.log_output(GIT, &bytes),
                Event::Want(want) => self.want(want),
                Event::Unwanted(sha256) => self.unwanted(&sha256),
                Event::NeedsReady => self.input(Input::NeedsReady),
                Event::Prepared => {
                    self.helping = false;
                    self.watch_children();
                    self.input(Input::Prepared);
                }
                Event::PrepareFailed(Trouble { fault, blame, why }) => {
                    self.helping = false;
                    self.input(Input::PrepareFailed { fault, blame, why });
                }
                Event::Artifact(artifact) => {
                    self.log(&Record::Artifact(artifact.clone()));
                    self.announcing.push(artifact);
                    self.flush();
                }
                Event::Board(records) => self.batch.extend_from_slice(&records),
                Event::Tried(tried) => {
                    self.helping = false;
                    self.input(Input::Tried(match tried {
                        Ok(verdict) => verdict,
                        Err(trouble) => Some(trouble.verdict()),
                    }));
                }
                Event::Collected(collector, trouble) => {
                    self.helping = false;
                    self.collector = Some(collector);
                    self.input(Input::ArtifactsCollected { trouble });
                }
            }
            self.carry_out();
        }
    }

    /// Has the end of a child told from now on.
    fn watch_children(&mut self) {
        if std::mem::take(&mut self.child_watcher_idle) {
            let _ = self.child_tokens.try_send(());
        }
    }

    /// Collects the exit statuses of all children that have ended, ours and those of dead parents.
    fn look_at_children(&mut self) {
        if self.helping {
            // Its children are its own to wait for. There can be others only after a kill.
            return;
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if self.step == Some(Running::Process(pid)) {
                        self.step_ended(ended(status));
                    } else if self.executor.contained().is_some_and(|contained| contained.is_runner(pid)) {
                        self.container_ended(status);
                    }
                }
                Ok(None) => {
                    let _ = self.child_tokens.try_send(());
                    self.child_watcher_idle = false;
                    return;
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.child_watcher_idle = true;
                    return;
                }
            }
        }
    }

    /// Tells of a step's end when all it had printed by then is read.
    fn tell_of_exit(&mut self) {
        let unread = |exited: &mut Exited| {
            exited.left != [0, 0] && (self.sweep.is_under_way() || self.pipes.iter().any(|pipe| pipe.open))
        };
        if let Some(exited) = self.exited.take_if(|exited| !unread(exited)) {
            self.input(exited.input());
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                if self.agents.len() == AGENTS {
                    self.agents.remove(0);
                }
                let mut agent = Agent::new(socket);
                self.wanted.iter().for_each(|want| agent.say(&asking::line(want)));
                self.devices.iter().flat_map(Devices::lines).for_each(|line| agent.say(&line));
                self.agents.push(agent);
            }
        }
    }

    fn listen_to(&mut self, at: usize) {
        let Some(agent) = self.agents.get_mut(at) else { return };
        agent.tell(&self.lengths);
        for line in agent.take_lines() {
            match line.split_at_checked(2) {
                Some(("A ", length)) => {
                    if let Ok(length) = length.parse::<u64>() {
                        self.tell_backlog(backlog::Input::Acked(length));
                    }
                }
                Some(("B ", told)) => self.told_of_board(told),
                Some(("S ", word)) => self.hear_word(word),
                Some(("D ", number)) => self.hand_over(at, number),
                Some(("C ", why)) => self.input(Input::Cancel { why: why.to_string() }),
                _ if line == "X" => self.vanish(),
                _ => self.hear_of_file(&line),
            }
        }
    }

    fn finish(mut self) -> io::Result<()> {
        self.directory.set_ended()?;
        self.lengths[0] = self.spool.length();
        for agent in &mut self.agents {
            agent.tell(&self.lengths);
        }
        Ok(())
    }
}

const _: () = assert!(BATCH_BYTES > RECORD_BYTES + HEADER_BYTES);
