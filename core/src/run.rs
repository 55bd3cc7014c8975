//! Assignment → Verdict: one attempt inside its supervisor, from the checkout to the last record of its log.
//!
//! The supervisor tells what happened (`Input`) and carries out what is decided (`Output`). What can end an attempt is kept in
//! one place: steps, their time, the log's limit, a cancel, trouble of ours. A step that fails is the job's own doing; what
//! fails around it never is.

use crate::job::{Blame, Fault, Outcome, Verdict};
use crate::limits::Millis;
use crate::record::{HEADER_BYTES, Record, StepEnd, StepStart};
use crate::wire::Assignment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Milliseconds between the request to end (SIGTERM) and the order to (SIGKILL): time to remove a lock file or a container.
pub const GRACE_MS: Millis = 10_000;
/// Milliseconds that collecting artifacts may take beyond the end of a job whose time is over.
pub const COLLECT_MS: Millis = 300_000;

/// Index of the step of a job at a board that gets the images; flashing and testing come after it.
pub const IMAGES: u32 = 0;

/// What happens to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The supervisor is ready.
    Begin,
    /// The files of needs are there, and the checkout begins. Only told of an attempt that needs any.
    NeedsReady,
    /// The checkout stands.
    Prepared,
    /// The checkout could not be made, and whose fault that is.
    PrepareFailed {
        /// Whose fault.
        fault: Fault,
        /// Whose trouble, when the fault is ours.
        blame: Blame,
        /// One sentence for people.
        why: String,
    },
    /// The step's process runs.
    StepSpawned,
    /// The step's process could not be started: trouble of ours.
    SpawnFailed {
        /// Whose trouble.
        blame: Blame,
        /// One sentence for people.
        why: String,
    },
    /// The step's process has ended, and what it had printed by then is in the log.
    StepExited {
        /// Exit status; 128 + signal number when a signal ended it.
        status: i32,
        /// Whether a signal ended it, for certain: a shell's status may be the same without one.
        signalled: bool,
        /// The limit of the job that was reached while it ran, and what came of it, one clause for people.
        limit: Option<String>,
    },
    /// What was to be done at the board has ended, and its end is in the log; no verdict where it was asked to end before.
    Tried(Option<Verdict>),
    /// The place in which the steps run is gone, with all of their processes, and the job had no part in it: trouble of ours.
    Lost {
        /// One sentence for people.
        why: String,
    },
    /// After `Kill`: no process of the job is left, and all they printed is in the log.
    Drained,
    /// The job has printed this many bytes; `Keep` follows at once, before anything else.
    Printed {
        /// At most what one record takes.
        length: usize,
    },
    /// Somebody asks for the end.
    Cancel {
        /// Why, for people.
        why: String,
    },
    /// The files that match the globs are complete on disk and announced.
    ArtifactsCollected {
        /// What kept a file from being kept, when that is trouble of ours.
        trouble: Option<String>,
    },
    /// The time told by `deadline` has come.
    Tick,
}

/// What the supervisor is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Get the files of needs and make the checkout; `Prepared` or `PrepareFailed` follows, also after `Terminate` and `Kill`.
    Prepare,
    /// Start the step of this index; `StepSpawned` or `SpawnFailed` follows, and `StepExited` after the former.
    Spawn {
        /// Index of the step, from 0.
        step: usize,
    },
    /// Flash and test the board; `Tried` follows, also after `Terminate` and `Kill`.
    Try,
    /// Ask every process of the job to end, and stop making the checkout or collecting artifacts.
    Terminate,
    /// End every process of the job. `StepExited` (if a step was running) or `Tried` (if a board was tried), then `Drained` follows.
    Kill,
    /// Copy the files that match the globs, those already kept and unchanged since left out.
    CollectArtifacts {
        /// Whether this is the last time, when a glob without a file is worth a note.
        last: bool,
    },
    /// Append this many of the bytes that were printed, the first ones.
    Keep(usize),
    /// Append this record.
    Record(Record),
    /// Append this as the last record: nothing follows.
    End(Verdict),
    /// Something was found that cannot be: a mistake of the run's own, or of who carries it out.
    Bug(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// The files of needs are fetched, then the checkout is being made.
    Preparing,
    /// `Spawn` was asked for.
    Spawning,
    /// A step runs.
    Running {
        until: Millis,
    },
    /// A board is flashed and tested.
    Trying,
    /// Artifacts are collected between two steps.
    Between,
    /// Processes were asked to end; at `kill_at` they must.
    Stopping {
        what: Stopped,
        kill_at: Millis,
    },
    /// Processes were killed.
    Draining {
        what: Stopped,
    },
    /// Artifacts are collected for the last time.
    Collecting {
        until: Millis,
    },
    Ended,
}

/// What was going on when the end was decided: whose report is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    Prepare,
    Step,
    Trial,
    Collect,
    Nothing,
}

/// One attempt. Times are milliseconds since its supervisor began.
#[derive(Debug)]
pub struct Run {
    steps: Vec<String>,
    /// Whether it is one at a board, which has no steps of its own.
    at_board: bool,
    artifacts: bool,
    /// Whether files of needs are still to come.
    fetching: bool,
    timeout_s: u64,
    step_timeout_s: Option<u64>,
    log_bytes: u64,
    log_limit_fails: bool,
    state: State,
    /// Index of the step that runs or comes next.
    step: usize,
    /// Whether a step was started, so that there may be files to keep.
    spawned: bool,
    deadline: Millis,
    verdict: Option<Verdict>,
    logged: u64,
    limit_reached: bool,
}

impl Run {
    /// The run of an assignment, before its begin.
    pub fn new(assignment: &Assignment) -> Self {
        Self {
            steps: assignment.steps.clone(),
            at_board: assignment.board.is_some(),
            artifacts: !assignment.artifacts.is_empty(),
            fetching: assignment.needs.iter().flatten().any(|needed| !needed.artifacts.is_empty()),
            timeout_s: assignment.timeout_s,
            step_timeout_s: assignment.step_timeout_s,
            log_bytes: assignment.log_bytes,
            log_limit_fails: assignment.log_limit_fails,
            state: State::New,
            step: 0,
            spawned: false,
            deadline: Millis::MAX,
            verdict: None,
            logged: 0,
            limit_reached: false,
        }
    }

    /// Whether the last record has been decided.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Index of the step that runs or comes next.
    pub fn step(&self) -> usize {
        self.step
    }

    /// When `Tick` is wanted next.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::New | State::Draining { .. } | State::Ended => None,
            State::Preparing | State::Spawning | State::Trying | State::Between => Some(self.deadline),
            State::Running { until } => Some(until.min(self.deadline)),
            State::Stopping { kill_at, .. } => Some(kill_at),
            State::Collecting { until } => Some(until),
        }
    }

    /// Output beyond the log's limit is dropped, which the log says once, in place. Output and its headers count; Sai's own
    /// records, which are few, come on top.
    fn printed(&mut self, now: Millis, length: usize, out: &mut Vec<Output>) {
        let room = self.log_bytes.saturating_sub(self.logged).saturating_sub(HEADER_BYTES as u64);
        let room = if self.limit_reached { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) };
        let kept = room.min(length);
        if kept > 0 {
            self.logged = self.logged.saturating_add((kept + HEADER_BYTES) as u64);
        }
        out.push(Output::Keep(kept));
        if kept < length && !self.limit_reached {
            self.reach_limit(now, out);
        }
    }

    fn reach_limit(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.limit_reached = true;
        let cause = format!("log limit of {} bytes reached", self.log_bytes);
        self.note(format!("{cause}: further output is dropped"), out);
        if self.log_limit_fails {
            self.stop(now, self.verdict_of(Outcome::Failed, Fault::Job, cause, None), out);
        }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Begin => {
                if self.state != State::New {
                    return out.push(Output::Bug("begin: it has begun"));
                }
                self.deadline = now.saturating_add(self.timeout_s.saturating_mul(1000));
                self.state = State::Preparing;
                if self.at_board && self.fetching {
                    out.push(Output::Record(Record::StepStart(StepStart { step: IMAGES, text: "images".to_string() })));
                }
                out.push(Output::Prepare);
            }
            Input::Printed { length } => self.printed(now, length, out),
            Input::NeedsReady => self.needs_ready(0, out),
            Input::Prepared => match self.state {
                State::Preparing if self.at_board => {
                    self.state = State::Trying;
                    out.push(Output::Try);
                }
                State::Preparing => self.next_step(out),
                State::Stopping { what: Stopped::Prepare, .. } => self.kill(Stopped::Nothing, out),
                state => self.late(state, "prepared: no checkout was asked for", out),
            },
            Input::PrepareFailed { fault, blame, why } => match self.state {
                State::Preparing => {
                    let (outcome, trouble) = match fault {
                        Fault::Spec => (Outcome::Failed, None),
                        _ => (Outcome::Infra, blame.word()),
                    };
                    let step = (self.at_board && self.fetching).then_some(IMAGES as usize);
                    self.needs_ready(1, out);
                    self.conclude(Verdict { trouble, ..self.verdict_of(outcome, fault, why, step) });
                    self.kill(Stopped::Nothing, out);
                }
                State::Stopping { what: Stopped::Prepare, .. } => {
                    self.needs_ready(1, out);
                    self.kill(Stopped::Nothing, out);
                }
                state => self.late(state, "prepare failed: no checkout was asked for", out),
            },
            Input::StepSpawned => match self.state {
                State::Spawning => {
                    let until = self
                        .step_timeout_s
                        .map_or(Millis::MAX, |seconds| now.saturating_add(seconds.saturating_mul(1000)));
                    self.state = State::Running { until };
                }
                State::Stopping { what: Stopped::Nothing, kill_at } => {
                    self.state = State::Stopping { what: Stopped::Step, kill_at };
                    out.push(Output::Terminate);
                }
                state => self.late(state, "spawned: no step was asked for", out),
            },
            Input::SpawnFailed { blame, why } => match self.state {
                State::Spawning | State::Stopping { .. } => {
                    let verdict = self.verdict_of(Outcome::Infra, Fault::Infrastructure, why, Some(self.step));
                    self.conclude(Verdict { trouble: blame.word(), ..verdict });
                    self.kill(Stopped::Nothing, out);
                }
                state => self.late(state, "spawn failed: no step was asked for", out),
            },
            Input::StepExited { status, signalled, limit } => self.step_exited(status, signalled, limit, out),
            Input::Tried(verdict) => self.tried(verdict, out),
            Input::Lost { why } => {
                // Elsewhere it is what was asked for, or of no more use.
                if matches!(self.state, State::Spawning | State::Running { .. } | State::Between) {
                    self.conclude(self.verdict_of(Outcome::Infra, Fault::Infrastructure, why, Some(self.step)));
                    self.kill(Stopped::Nothing, out);
                }
            }
            Input::Drained => self.drained(now, out),
            Input::Cancel { why } => {
                let cause = if why.is_empty() { "cancelled".to_string() } else { why };
                self.stop(now, self.verdict_of(Outcome::Cancelled, Fault::Person, cause, None), out);
            }
            Input::ArtifactsCollected { trouble } => self.collected(trouble, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn step_exited(&mut self, status: i32, signalled: bool, limit: Option<String>, out: &mut Vec<Output>) {
        if let Some(limit) = limit.clone().filter(|_| self.state != State::Ended) {
            self.note(format!("step {}: {limit}", self.step + 1), out);
        }
        let step = u32::try_from(self.step).unwrap_or(u32::MAX);
        let ended = Output::Record(Record::StepEnd(StepEnd { step, status }));
        match self.state {
            State::Spawning | State::Running { .. } => {
                out.push(ended);
                if status != 0 {
                    let mut cause = format!("step {} {}", self.step + 1, describe_status(status, signalled));
                    if let Some(limit) = limit {
                        cause.push_str(": ");
                        cause.push_str(&limit);
                    }
                    let verdict = self.verdict_of(Outcome::Failed, Fault::Job, cause, Some(self.step));
                    self.conclude(Verdict { status: Some(status), ..verdict });
                    self.kill(Stopped::Nothing, out);
                    return;
                }
                self.step += 1;
                if self.step < self.steps.len() && self.artifacts {
                    self.state = State::Between;
                    out.push(Output::CollectArtifacts { last: false });
                } else {
                    self.next_step(out);
                }
            }
            State::Stopping { what: Stopped::Step, .. } => {
                out.push(ended);
                self.kill(Stopped::Nothing, out);
            }
            State::Draining { what: Stopped::Step } => {
                out.push(ended);
                self.state = State::Draining { what: Stopped::Nothing };
            }
            state => self.late(state, "exited: no step runs", out),
        }
    }

    /// The files of needs are there, or never will be. At a board that is a step, and ends with this status.
    fn needs_ready(&mut self, status: i32, out: &mut Vec<Output>) {
        if core::mem::take(&mut self.fetching) && self.at_board {
            out.push(Output::Record(Record::StepEnd(StepEnd { step: IMAGES, status })));
        }
    }

    fn tried(&mut self, verdict: Option<Verdict>, out: &mut Vec<Output>) {
        match (self.state, verdict) {
            (State::Trying, Some(verdict)) => {
                self.conclude(verdict);
                self.kill(Stopped::Nothing, out);
            }
            (State::Trying, None) => {
                out.push(Output::Bug("tried: nobody asked it to end"));
                let why = "the board was let go of without a verdict".to_string();
                self.conclude(self.verdict_of(Outcome::Infra, Fault::Infrastructure, why, None));
                self.kill(Stopped::Nothing, out);
            }
            (State::Stopping { what: Stopped::Trial, .. }, _) => self.kill(Stopped::Nothing, out),
            (State::Draining { what: Stopped::Trial }, _) => self.state = State::Draining { what: Stopped::Nothing },
            (state, _) => self.late(state, "tried: no board was asked for", out),
        }
    }

    /// What was reported in a state that does not wait for it: late, where the end was decided meanwhile, and else a mistake.
    fn late(&self, state: State, what: &'static str, out: &mut Vec<Output>) {
        if !matches!(state, State::Stopping { .. } | State::Draining { .. } | State::Ended) {
            out.push(Output::Bug(what));
        }
    }

    fn drained(&mut self, now: Millis, out: &mut Vec<Output>) {
        if !matches!(self.state, State::Draining { .. }) {
            return out.push(Output::Bug("drained: nobody was killed"));
        }
        let wanted = match self.verdict.as_ref().map(|verdict| verdict.outcome) {
            None => true,
            Some(Outcome::Failed | Outcome::TimedOut) => self.spawned,
            Some(_) => false,
        };
        if self.artifacts && wanted {
            let until = if self.verdict.is_none() { self.deadline } else { now.saturating_add(COLLECT_MS) };
            self.state = State::Collecting { until };
            out.push(Output::CollectArtifacts { last: true });
        } else {
            self.end(out);
        }
    }

    fn collected(&mut self, trouble: Option<String>, out: &mut Vec<Output>) {
        let infra = |run: &Self, why| run.verdict_of(Outcome::Infra, Fault::Infrastructure, why, None);
        match (self.state, trouble) {
            (State::Between, None) => self.next_step(out),
            (State::Between, Some(why)) => {
                self.conclude(infra(self, why));
                self.kill(Stopped::Nothing, out);
            }
            (State::Collecting { .. }, trouble) => {
                if let Some(why) = trouble {
                    self.note(why.clone(), out);
                    self.conclude(infra(self, why));
                }
                self.end(out);
            }
            (State::Stopping { what: Stopped::Collect, .. }, _) => self.kill(Stopped::Nothing, out),
            (state, _) => self.late(state, "collected: no files were asked for", out),
        }
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Output>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Stopping { what, .. } => self.kill(what, out),
            State::Collecting { .. } if self.verdict.is_some() => {
                self.note("collecting artifacts took too long and was given up".to_string(), out);
                out.push(Output::Terminate);
                self.end(out);
            }
            State::Running { until } if until <= now && until < self.deadline => {
                let seconds = self.step_timeout_s.unwrap_or(0);
                let cause = format!("step {} took longer than {seconds} s", self.step + 1);
                self.stop(now, self.verdict_of(Outcome::TimedOut, Fault::Job, cause, Some(self.step)), out);
            }
            State::Preparing => {
                let what = match (self.fetching, self.at_board) {
                    (true, _) => "files of needs were not here",
                    (false, true) => "board's part was not ready",
                    (false, false) => "checkout was not ready",
                };
                let cause = format!("the {what} within the job's {} s", self.timeout_s);
                // A remote that hangs and a history too long for the time allowed are the same to every agent, and so is a
                // master that gives no files.
                let verdict = self.verdict_of(Outcome::Infra, Fault::Infrastructure, cause, None);
                self.stop(now, Verdict { trouble: Blame::Repository.word(), ..verdict }, out);
            }
            // What is judged has times of its own, so this was the loader, or the bench.
            State::Trying => {
                let cause = format!("the board was not flashed and judged within the job's {} s", self.timeout_s);
                let verdict = self.verdict_of(Outcome::Infra, Fault::Infrastructure, cause, None);
                self.stop(now, Verdict { trouble: Blame::Platform.word(), ..verdict }, out);
            }
            state => {
                let cause = format!("the job took longer than {} s", self.timeout_s);
                let step = matches!(state, State::Running { .. } | State::Spawning).then_some(self.step);
                self.stop(now, self.verdict_of(Outcome::TimedOut, Fault::Job, cause, step), out);
            }
        }
    }

    fn next_step(&mut self, out: &mut Vec<Output>) {
        match self.steps.get(self.step) {
            Some(text) => {
                let start = StepStart { step: u32::try_from(self.step).unwrap_or(u32::MAX), text: text.clone() };
                self.spawned = true;
                out.push(Output::Record(Record::StepStart(start)));
                self.state = State::Spawning;
                out.push(Output::Spawn { step: self.step });
            }
            None => self.kill(Stopped::Nothing, out),
        }
    }

    /// Begins the end for a reason from outside the steps. The first reason stays.
    fn stop(&mut self, now: Millis, verdict: Verdict, out: &mut Vec<Output>) {
        let what = match self.state {
            State::New | State::Ended | State::Stopping { .. } => return,
            State::Draining { .. } => {
                self.conclude(verdict);
                return;
            }
            State::Collecting { .. } => {
                // The processes are gone: only the collector is left to stop. A verdict that stood already stays.
                self.conclude(verdict);
                out.push(Output::Terminate);
                self.end(out);
                return;
            }
            State::Preparing => Stopped::Prepare,
            State::Spawning => Stopped::Nothing,
            State::Running { .. } => Stopped::Step,
            State::Trying => Stopped::Trial,
            State::Between => Stopped::Collect,
        };
        self.note(verdict.cause.clone(), out);
        self.conclude(verdict);
        self.state = State::Stopping { what, kill_at: now.saturating_add(GRACE_MS) };
        out.push(Output::Terminate);
    }

    fn kill(&mut self, what: Stopped, out: &mut Vec<Output>) {
        self.state = State::Draining { what };
        out.push(Output::Kill);
    }

    fn conclude(&mut self, verdict: Verdict) {
        if self.verdict.is_none() {
            self.verdict = Some(verdict);
        }
    }

    fn end(&mut self, out: &mut Vec<Output>) {
        self.state = State::Ended;
        let passed = self.verdict_of(Outcome::Passed, Fault::Nobody, String::new(), None);
        out.push(Output::End(self.verdict.clone().unwrap_or(passed)));
    }

    fn note(&self, text: String, out: &mut Vec<Output>) {
        out.push(Output::Record(Record::Note(text)));
    }

    fn verdict_of(&self, outcome: Outcome, fault: Fault, cause: String, step: Option<usize>) -> Verdict {
        let step = step.and_then(|step| u32::try_from(step).ok());
        Verdict { outcome, fault, cause, step, status: None, trouble: None, verdict: None }
    }
}

/// An exit status in words, and the signal's name where 128 + N stands for the end by signal N.
fn describe_status(status: i32, signalled: bool) -> String {
    let name = match if signalled { status - 128 } else { 0 } {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        _ => return format!("ended with status {status}"),
    };
    format!("ended with status {status} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobKey;
    use alloc::vec;

    fn assignment(steps: &[&str]) -> Assignment {
        Assignment {
            key: JobKey { job: 1, attempt: 1 },
            repository: "r".into(),
            url: "/r".into(),
            reference: "refs/heads/main".into(),
            revision: "0".repeat(40),
            platform: "linux".into(),
            configuration: "c".into(),
            steps: steps.iter().map(|step| step.to_string()).collect(),
            env: Default::default(),
            artifacts: Vec::new(),
            timeout_s: 100,
            step_timeout_s: Some(20),
            log_bytes: 1000,
            log_limit_fails: false,
            submodules: false,
            needs: None,
            root: None,
            offered: None,
            board: None,
            session: None,
            lease: None,
            health: None,
            bundle: None,
        }
    }

    fn step(run: &mut Run, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        run.handle(now, input, &mut out);
        out
    }

    fn exited(status: i32) -> Input {
        Input::StepExited { status, signalled: status > 128, limit: None }
    }

    fn start(step: u32, text: &str) -> Output {
        Output::Record(Record::StepStart(StepStart { step, text: text.into() }))
    }

    fn end(step: u32, status: i32) -> Output {
        Output::Record(Record::StepEnd(StepEnd { step, status }))
    }

    fn note(text: &str) -> Output {
        Output::Record(Record::Note(text.into()))
    }

    fn verdict(outcome: Outcome, fault: Fault, cause: &str, step: Option<u32>, status: Option<i32>) -> Output {
        Output::End(Verdict { outcome, fault, cause: cause.into(), step, status, trouble: None, verdict: None })
    }

    fn running(assignment: &Assignment) -> Run {
        let mut run = Run::new(assignment);
        step(&mut run, 0, Input::Begin);
        step(&mut run, 0, Input::Prepared);
        step(&mut run, 0, Input::StepSpawned);
        run
    }

    #[test]
    fn steps_run_in_order_and_pass() {
        let mut run = Run::new(&assignment(&["a", "b"]));
        assert_eq!(step(&mut run, 0, Input::Begin), [Output::Prepare]);
        assert_eq!(step(&mut run, 5, Input::Prepared), [start(0, "a"), Output::Spawn { step: 0 }]);
        assert_eq!(step(&mut run, 6, Input::StepSpawned), []);
        assert_eq!(run.deadline(), Some(20_006));
        let next = [end(0, 0), start(1, "b"), Output::Spawn { step: 1 }];
        assert_eq!(step(&mut run, 7, exited(0)), next);
        assert_eq!(step(&mut run, 8, Input::StepSpawned), []);
        assert_eq!(step(&mut run, 9, exited(0)), [end(1, 0), Output::Kill]);
        assert_eq!(step(&mut run, 9, Input::Drained), [verdict(Outcome::Passed, Fault::Nobody, "", None, None)]);
        assert!(run.ended());
    }

    #[test]
    fn reports_of_what_was_not_asked_for_are_told() {
        let spawn_failed = || Input::SpawnFailed { blame: Blame::Agent, why: "x".into() };
        let prepare_failed =
            || Input::PrepareFailed { fault: Fault::Infrastructure, blame: Blame::Agent, why: "x".into() };
        let collected = || Input::ArtifactsCollected { trouble: None };
        let mut run = Run::new(&assignment(&["a"]));
        for input in [Input::Prepared, prepare_failed(), Input::StepSpawned, spawn_failed(), exited(0), collected()] {
            let out = step(&mut run, 0, input.clone());
            assert!(matches!(out.as_slice(), [Output::Bug(_)]), "{input:?}: {out:?}");
        }
        let mut run = running(&assignment(&["a"]));
        for input in [Input::Begin, Input::Prepared, Input::StepSpawned, spawn_failed(), Input::Drained, collected()] {
            let out = step(&mut run, 0, input.clone());
            assert!(matches!(out.as_slice(), [Output::Bug(_)]), "{input:?}: {out:?}");
        }
        // Once the end was decided, they are late.
        step(&mut run, 0, Input::Cancel { why: String::new() });
        step(&mut run, 0, exited(143));
        for input in [Input::Prepared, Input::StepSpawned, spawn_failed(), collected(), exited(0)] {
            assert_eq!(step(&mut run, 0, input), []);
        }
    }

    #[test]
    fn the_first_failing_step_ends_the_job_and_artifacts_are_still_kept() {
        let mut assignment = assignment(&["a", "b"]);
        assignment.artifacts = vec!["*".into()];
        let mut run = running(&assignment);
        assert_eq!(step(&mut run, 1, exited(3)), [end(0, 3), Output::Kill]);
        assert_eq!(step(&mut run, 1, Input::Drained), [Output::CollectArtifacts { last: true }]);
        let failed = verdict(Outcome::Failed, Fault::Job, "step 1 ended with status 3", Some(0), Some(3));
        assert_eq!(step(&mut run, 1, Input::ArtifactsCollected { trouble: None }), [failed]);
    }

    #[test]
    fn a_signal_is_named_only_when_it_was_one_and_a_limit_when_it_was_reached() {
        let reached = || Some("the kernel killed a process".to_string());
        for (status, signalled, limit, cause) in [
            (137, true, None, "step 1 ended with status 137 (SIGKILL)"),
            (137, false, None, "step 1 ended with status 137"),
            (143, false, None, "step 1 ended with status 143"),
            (139, true, None, "step 1 ended with status 139 (SIGSEGV)"),
            (1, false, reached(), "step 1 ended with status 1: the kernel killed a process"),
            (137, true, reached(), "step 1 ended with status 137 (SIGKILL): the kernel killed a process"),
        ] {
            let mut run = running(&assignment(&["a", "b"]));
            let noted = limit.as_ref().map(|limit| note(&format!("step 1: {limit}")));
            let out = step(&mut run, 1, Input::StepExited { status, signalled, limit });
            assert_eq!(out, noted.into_iter().chain([end(0, status), Output::Kill]).collect::<Vec<_>>());
            let failed = verdict(Outcome::Failed, Fault::Job, cause, Some(0), Some(status));
            assert_eq!(step(&mut run, 1, Input::Drained), [failed]);
        }
        // A step that has got over it has still met it.
        let mut run = running(&assignment(&["a", "b"]));
        let out = step(&mut run, 1, Input::StepExited { status: 0, signalled: false, limit: reached() });
        assert_eq!(out[..2], [note("step 1: the kernel killed a process"), end(0, 0)]);
    }

    #[test]
    fn artifacts_are_kept_between_steps_and_their_trouble_is_ours() {
        let mut assignment = assignment(&["a", "b"]);
        assignment.artifacts = vec!["*".into()];
        let mut run = running(&assignment);
        let collect = [end(0, 0), Output::CollectArtifacts { last: false }];
        assert_eq!(step(&mut run, 1, exited(0)), collect);
        let next = [start(1, "b"), Output::Spawn { step: 1 }];
        assert_eq!(step(&mut run, 1, Input::ArtifactsCollected { trouble: None }), next);
        step(&mut run, 1, Input::StepSpawned);
        step(&mut run, 1, exited(0));
        assert_eq!(step(&mut run, 1, Input::Drained), [Output::CollectArtifacts { last: true }]);
        let out = step(&mut run, 1, Input::ArtifactsCollected { trouble: Some("disk full".into()) });
        let infra = verdict(Outcome::Infra, Fault::Infrastructure, "disk full", None, None);
        assert_eq!(out, [note("disk full"), infra]);
    }

    #[test]
    fn a_checkout_that_fails_is_the_specs_fault_or_ours_never_the_jobs() {
        for (fault, outcome) in [(Fault::Spec, Outcome::Failed), (Fault::Infrastructure, Outcome::Infra)] {
            let mut run = Run::new(&assignment(&["a"]));
            step(&mut run, 0, Input::Begin);
            let out = step(&mut run, 1, Input::PrepareFailed { fault, blame: Blame::Agent, why: "no".into() });
            assert_eq!(out, [Output::Kill]);
            assert_eq!(step(&mut run, 1, Input::Drained), [verdict(outcome, fault, "no", None, None)]);
        }
        let mut run = Run::new(&assignment(&["a"]));
        step(&mut run, 0, Input::Begin);
        step(&mut run, 0, Input::Prepared);
        assert_eq!(
            step(&mut run, 0, Input::SpawnFailed { blame: Blame::Agent, why: "no bash".into() }),
            [Output::Kill]
        );
        let infra = verdict(Outcome::Infra, Fault::Infrastructure, "no bash", Some(0), None);
        assert_eq!(step(&mut run, 0, Input::Drained), [infra]);
    }

    #[test]
    fn a_place_that_is_lost_is_never_the_jobs_failure() {
        let mut run = running(&assignment(&["a"]));
        assert_eq!(run.step(), 0);
        assert_eq!(step(&mut run, 1, Input::Lost { why: "gone".into() }), [Output::Kill]);
        assert_eq!(step(&mut run, 2, exited(137)), []);
        let infra = verdict(Outcome::Infra, Fault::Infrastructure, "gone", Some(0), None);
        assert_eq!(step(&mut run, 3, Input::Drained), [infra]);
        // Whatever becomes of it after the end was decided changes nothing.
        let mut run = running(&assignment(&["a"]));
        step(&mut run, 1, Input::Cancel { why: "no".into() });
        assert_eq!(step(&mut run, 2, Input::Lost { why: "gone".into() }), []);
        assert_eq!(run.deadline(), Some(1 + GRACE_MS));
    }

    #[test]
    fn a_step_over_its_time_is_asked_then_killed() {
        let mut run = running(&assignment(&["a"]));
        assert_eq!(step(&mut run, 19_999, Input::Tick), []);
        let out = step(&mut run, 20_000, Input::Tick);
        assert_eq!(out, [note("step 1 took longer than 20 s"), Output::Terminate]);
        assert_eq!(run.deadline(), Some(30_000));
        assert_eq!(step(&mut run, 30_000, Input::Tick), [Output::Kill]);
        assert_eq!(step(&mut run, 30_001, exited(137)), [end(0, 137)]);
        let cause = "step 1 took longer than 20 s";
        let timed_out = verdict(Outcome::TimedOut, Fault::Job, cause, Some(0), None);
        assert_eq!(step(&mut run, 30_001, Input::Drained), [timed_out]);
    }

    #[test]
    fn a_job_over_its_time_ends_in_any_state() {
        let mut assignment = assignment(&["a"]);
        assignment.step_timeout_s = None;
        let mut run = running(&assignment);
        assert_eq!(run.deadline(), Some(100_000));
        let out = step(&mut run, 100_000, Input::Tick);
        assert_eq!(out, [note("the job took longer than 100 s"), Output::Terminate]);
        assert_eq!(step(&mut run, 100_001, exited(143)), [end(0, 143), Output::Kill]);
        let cause = "the job took longer than 100 s";
        assert_eq!(
            step(&mut run, 100_002, Input::Drained),
            [verdict(Outcome::TimedOut, Fault::Job, cause, Some(0), None)]
        );

        let needed = crate::ledger::Needed {
            job: 2,
            configuration: "lib".into(),
            platform: "linux".into(),
            attempt: Some(1),
            artifacts: vec![crate::record::Artifact {
                stream: 1,
                path: "a".into(),
                size: 1,
                sha256: "0".repeat(64),
                executable: false,
            }],
        };
        let needs = Assignment { needs: Some(vec![needed]), ..assignment.clone() };
        for (assignment, ready, cause) in [
            (&assignment, false, "the checkout was not ready within the job's 100 s"),
            (&needs, true, "the checkout was not ready within the job's 100 s"),
            (&needs, false, "the files of needs were not here within the job's 100 s"),
        ] {
            let mut run = Run::new(assignment);
            step(&mut run, 0, Input::Begin);
            if ready {
                assert_eq!(step(&mut run, 1, Input::NeedsReady), []);
            }
            assert_eq!(step(&mut run, 100_000, Input::Tick), [note(cause), Output::Terminate]);
            assert_eq!(step(&mut run, 100_001, Input::Prepared), [Output::Kill]);
            let infra = run.verdict_of(Outcome::Infra, Fault::Infrastructure, cause.into(), None);
            let infra = Verdict { trouble: Some("repository".into()), ..infra };
            assert_eq!(step(&mut run, 100_001, Input::Drained), [Output::End(infra)]);
        }
    }

    #[test]
    fn cancel_works_at_any_stage_and_once() {
        let cancel = || Input::Cancel { why: "cancelled by ann".into() };
        let cause = "cancelled by ann";
        let cancelled = || verdict(Outcome::Cancelled, Fault::Person, cause, None, None);
        let asked = || vec![note(cause), Output::Terminate];

        // While the checkout is made.
        let mut run = Run::new(&assignment(&["a"]));
        step(&mut run, 0, Input::Begin);
        assert_eq!(step(&mut run, 1, cancel()), asked());
        let why = "stopped".to_string();
        let failed = Input::PrepareFailed { fault: Fault::Infrastructure, blame: Blame::Platform, why };
        assert_eq!(step(&mut run, 2, failed), [Output::Kill]);
        assert_eq!(step(&mut run, 3, Input::Drained), [cancelled()]);

        // While a step runs, twice.
        let mut run = running(&assignment(&["a", "b"]));
        assert_eq!(step(&mut run, 1, cancel()), asked());
        assert_eq!(step(&mut run, 2, cancel()), []);
        assert_eq!(step(&mut run, 3, exited(0)), [end(0, 0), Output::Kill]);
        assert_eq!(step(&mut run, 4, Input::Drained), [cancelled()]);

        // While artifacts are collected, in the middle and at the end.
        let mut assignment = assignment(&["a", "b"]);
        assignment.artifacts = vec!["*".into()];
        let mut run = running(&assignment);
        step(&mut run, 1, exited(0));
        assert_eq!(step(&mut run, 1, cancel()), asked());
        assert_eq!(step(&mut run, 2, Input::ArtifactsCollected { trouble: None }), [Output::Kill]);
        assert_eq!(step(&mut run, 4, Input::Drained), [cancelled()]);
        let mut run = running(&assignment);
        step(&mut run, 1, exited(1));
        step(&mut run, 1, Input::Drained);
        let failed = verdict(Outcome::Failed, Fault::Job, "step 1 ended with status 1", Some(0), Some(1));
        assert_eq!(step(&mut run, 1, cancel()), [Output::Terminate, failed]);
    }

    #[test]
    fn output_beyond_the_limit_is_dropped_and_said_once() {
        let mut run = running(&assignment(&["a"]));
        let printed = |length| Input::Printed { length };
        assert_eq!(step(&mut run, 0, printed(500)), [Output::Keep(500)]);
        let said = note("log limit of 1000 bytes reached: further output is dropped");
        assert_eq!(step(&mut run, 0, printed(500)), [Output::Keep(1000 - 516 - 16), said]);
        assert_eq!(step(&mut run, 0, printed(500)), [Output::Keep(0)]);
        assert_eq!(step(&mut run, 1, exited(0)), [end(0, 0), Output::Kill]);

        let mut assignment = assignment(&["a"]);
        assignment.log_limit_fails = true;
        let mut run = running(&assignment);
        let out = step(&mut run, 0, printed(2000));
        assert_eq!((out.first(), out.last()), (Some(&Output::Keep(984)), Some(&Output::Terminate)));
        step(&mut run, 1, exited(143));
        let cause = "log limit of 1000 bytes reached";
        assert_eq!(step(&mut run, 1, Input::Drained), [verdict(Outcome::Failed, Fault::Job, cause, None, None)]);
    }

    #[test]
    fn artifacts_that_take_too_long_do_not_undo_a_verdict() {
        let mut assignment = assignment(&["a"]);
        assignment.artifacts = vec!["*".into()];
        let mut run = running(&assignment);
        step(&mut run, 1, exited(1));
        step(&mut run, 1, Input::Drained);
        assert_eq!(run.deadline(), Some(1 + COLLECT_MS));
        let out = step(&mut run, 1 + COLLECT_MS, Input::Tick);
        assert_eq!(out.len(), 3);
        assert_eq!(
            out.last(),
            Some(&verdict(Outcome::Failed, Fault::Job, "step 1 ended with status 1", Some(0), Some(1)))
        );
    }
}
