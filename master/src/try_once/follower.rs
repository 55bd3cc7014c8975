//! Logs of running jobs → the terminal, line by line, and the verdict below them.

use super::artifacts;
use super::choice::label;
use crate::startup::Master;
use crate::store::LogReader;
use sai_agent::terminal;
use sai_core::escape;
use sai_core::job::{JobId, JobKey, JobState};
use sai_core::ledger::JobRecord;
use sai_core::ordered::{Map, Set};
use sai_core::record::{Decoder, Item, Record};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Pause between two looks at what has come in: short enough to feel live.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of one log that are printed before the others get their turn.
const TURN_BYTES: usize = 256 << 10;

/// Prints the logs of jobs side by side, and a line of progress below them on a terminal.
pub struct Follower<'a> {
    master: &'a Master,
    state: &'a Path,
    /// Where artifacts are copied.
    copies: Option<&'a Path>,
    jobs: Set<JobId>,
    shown: Map<JobId, Shown>,
    terminal: bool,
    started: Instant,
    progress: String,
}

/// How far one attempt's log is printed.
struct Shown {
    key: JobKey,
    log: Option<LogReader>,
    decoder: Decoder,
    /// The unfinished line of each channel, so that lines of several jobs do not mix.
    lines: Map<u8, Vec<u8>>,
    channels: Map<u8, String>,
    label: String,
}

/// Bytes of an unfinished line that are held back before it is printed as it is.
const LINE_BYTES: usize = 16 << 10;

impl<'a> Follower<'a> {
    /// Follows these jobs.
    pub fn new(master: &'a Master, state: &'a Path, copies: Option<&'a Path>, jobs: Set<JobId>) -> Self {
        let terminal = io::stdout().is_terminal();
        let (shown, progress) = (Map::new(), String::new());
        Self { master, state, copies, jobs, shown, terminal, started: Instant::now(), progress }
    }

    /// Prints until all have ended, and gives the exit status that says how.
    pub async fn follow(&mut self) -> u8 {
        let reader = self.master.store.reader();
        loop {
            let jobs: Vec<JobRecord> = self.jobs.iter().filter_map(|id| reader.job(*id)).collect();
            let ended = jobs.iter().all(|job| job.state.ended());
            let mut more = false;
            for job in jobs.iter().filter(|job| job.attempt > 0) {
                more |= self.show(job);
            }
            if more {
                continue;
            }
            if ended {
                self.wipe();
                return self.verdict(&jobs);
            }
            self.tell_progress(&jobs);
            smol::Timer::after(LOOK).await;
        }
    }

    /// Prints what is new in a job's log. True when there is more.
    fn show(&mut self, job: &JobRecord) -> bool {
        let key = JobKey { job: job.id, attempt: job.attempt };
        let label = if self.jobs.len() == 1 { String::new() } else { label(&job.configuration, &job.platform) };
        let shown = self.shown.get_or_insert_with(job.id, || Shown::new(key, label.clone()));
        if shown.key != key {
            *shown = Shown::new(key, label);
        }
        if shown.log.is_none() {
            // There is none until its first byte has come.
            shown.log = self.master.store.reader().log(key).ok();
        }
        let Some(log) = &mut shown.log else { return false };
        let mut bytes = Vec::new();
        if log.take(TURN_BYTES as u64).read_to_end(&mut bytes).is_err() {
            return false;
        }
        let mut out = Vec::new();
        shown.print(&bytes, self.terminal, &mut out);
        if !out.is_empty() {
            self.wipe();
            // A closed terminal does not stop the build; its verdict is still the exit status.
            let _ = io::stdout().write_all(&out);
            let _ = io::stdout().flush();
        }
        bytes.len() == TURN_BYTES
    }

    fn wipe(&mut self) {
        if !self.progress.is_empty() {
            self.progress.clear();
            let _ = io::stdout().write_all(b"\r\x1b[K");
        }
    }

    fn tell_progress(&mut self, jobs: &[JobRecord]) {
        if !self.terminal {
            return;
        }
        let count = |state: fn(JobState) -> bool| jobs.iter().filter(|job| state(job.state)).count();
        let running: Vec<String> = jobs
            .iter()
            .filter(|job| job.state == JobState::Running)
            .map(|job| {
                format!(
                    "{} step {}/{}",
                    escape::line(&job.configuration),
                    job.step.map_or(0, |step| step + 1),
                    job.steps
                )
            })
            .take(3)
            .collect();
        let text = format!(
            "[{} s] {} of {} ended, {} failed; {}",
            self.started.elapsed().as_secs(),
            count(JobState::ended),
            jobs.len(),
            count(|state| state.ended() && state != JobState::Passed),
            if running.is_empty() { "waiting".to_string() } else { running.join(", ") },
        );
        if text != self.progress {
            let _ = write!(io::stdout(), "\r\x1b[K\x1b[2m{}\x1b[0m", text.chars().take(100).collect::<String>());
            let _ = io::stdout().flush();
            self.progress = text;
        }
    }

    fn verdict(&self, jobs: &[JobRecord]) -> u8 {
        let mut status = crate::EXIT_PASSED;
        let mut out = String::new();
        for job in jobs {
            let seconds = match (job.started_at, job.ended_at) {
                (Some(from), Some(to)) => {
                    let tenths = to.saturating_sub(from).saturating_add(50) / 100;
                    format!("{}.{} s", tenths / 10, tenths % 10)
                }
                _ => "-".to_string(),
            };
            let colour = if job.state == JobState::Passed { 32 } else { 31 };
            let word = job.state.word();
            let word = if self.terminal { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_string() };
            let cause = if job.cause.is_empty() { String::new() } else { format!(": {}", escape::line(&job.cause)) };
            let configuration = escape::line(&job.configuration);
            let _ = writeln!(out, "{word}\t{}\t{configuration}\t{seconds}{cause}", job.platform);
            let reader = self.master.store.reader();
            let kept = artifacts::keep(&reader, self.state, self.copies, job, jobs.len() == 1, &mut out);
            let this = match job.state {
                JobState::Passed if kept => crate::EXIT_PASSED,
                JobState::Failed | JobState::TimedOut => crate::EXIT_FAILED,
                _ => crate::EXIT_INFRA,
            };
            // A job that failed says more about the project than trouble of ours does.
            if status == crate::EXIT_PASSED || this == crate::EXIT_FAILED {
                status = this;
            }
        }
        // A closed terminal, or a full disk behind it, does not change what came of it.
        terminal::print(&out);
        status
    }
}

impl Shown {
    fn new(key: JobKey, label: String) -> Self {
        Self { key, log: None, decoder: Decoder::new(), lines: Map::new(), channels: Map::new(), label }
    }

    fn print(&mut self, bytes: &[u8], colour: bool, out: &mut Vec<u8>) {
        let label = if self.label.is_empty() { String::new() } else { format!("[{}] ", self.label) };
        let (lines, channels) = (&mut self.lines, &mut self.channels);
        let say = |text: String, out: &mut Vec<u8>| {
            let text = escape::line(&text);
            let text = if colour { format!("\x1b[1m{label}{text}\x1b[0m\n") } else { format!("{label}{text}\n") };
            out.extend_from_slice(text.as_bytes());
        };
        // A log that breaks the format ends its job; what was printed stays.
        let _ = self.decoder.push(bytes, |item| match item {
            Item::Data { channel, bytes, .. } => {
                let line = lines.get_or_default(channel);
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if line.ends_with(b"\n") || line.len() > LINE_BYTES {
                        out.extend_from_slice(label.as_bytes());
                        out.append(line);
                    }
                }
            }
            Item::Record(_, Record::Channel(channel, start)) => {
                channels.insert(channel, start.name);
            }
            Item::Record(_, Record::StepStart(start)) => {
                let text = start.text.lines().next().unwrap_or_default().to_string();
                say(format!("── step {}: {text}", start.step + 1), out);
            }
            Item::Record(_, Record::StepEnd(end)) if end.status != 0 => {
                say(format!("── step {} ended with status {}", end.step + 1, end.status), out);
            }
            Item::Record(_, Record::Note(text)) => say(format!("── {text}"), out),
            Item::Record(_, Record::Verdict(_)) => {
                for line in lines.values_mut().filter(|line| !line.is_empty()) {
                    out.extend_from_slice(label.as_bytes());
                    out.append(line);
                    out.push(b'\n');
                }
            }
            Item::Record(..) | Item::Later { .. } => {}
        });
    }
}
