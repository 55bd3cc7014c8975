//! Number of a job → its log on standard output, live where that is wanted, and its verdict.
//!
//! The place of a byte in a stored log is its number everywhere. So who follows one asks for what is behind the last byte that
//! they have, and after any break the next one is the next.

use crate::answers::Job;
use crate::failure::{FAILED, Failure, PASSED, TROUBLE};
use crate::master::{Bytes, Master, Trouble, Waiting};
use crate::printing::{Form, Printer};
use crate::telling::{ended, plain, seconds, state, tell};
use miniserde::{Serialize, json};
use smol::Timer;
use std::io::{self, ErrorKind, Write as _};
use std::time::Duration;

/// Time for which a log is followed while its master cannot be reached: it may be updated, or its host started again.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Pause between two looks at a log that grows: short enough to feel live.
const LOOK: Duration = Duration::from_millis(200);
/// The longest pause, where nothing comes.
const LONGEST: Duration = Duration::from_secs(1);

/// What is wanted of a job's log.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The job.
    pub job: u64,
    /// One attempt alone, instead of the current one and those that follow it.
    pub attempt: Option<u32>,
    /// Until it ends.
    pub follow: bool,
    /// In which form.
    pub form: Form,
    /// Whether a terminal reads it.
    pub coloured: bool,
}

/// A job's end, for programs.
#[derive(Serialize)]
struct Verdict<'a> {
    what: &'a str,
    job: u64,
    attempt: u32,
    state: &'a str,
    cause: &'a str,
    duration_ms: Option<u64>,
}

/// What it is that keeps a log from going on.
enum Stop {
    /// Nobody reads it any more.
    Unread,
    Failed(Failure),
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Failed(trouble.into())
    }
}

/// The address of a job in the API.
pub fn path(job: u64) -> String {
    format!("/api/v1/jobs/{job}")
}

/// Prints a job's log; the exit status that says how the job stands.
///
/// # Errors
/// Whose fault it is that there is no more of it.
pub fn log(master: &mut Master, wanted: &Wanted) -> Result<u8, Failure> {
    match smol::block_on(print(master, wanted)) {
        Ok(status) => Ok(status),
        Err(Stop::Unread) => Ok(PASSED),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// How far one attempt's log is printed.
struct Reading {
    attempt: u32,
    offset: u64,
    printer: Printer,
}

async fn print(master: &mut Master, wanted: &Wanted) -> Result<u8, Stop> {
    let address = path(wanted.job);
    let new = |attempt| Reading { attempt, offset: 0, printer: Printer::new(wanted.form, wanted.coloured) };
    // Who only wants to read it is told at once that the master is away.
    let patience = if wanted.follow { PATIENCE } else { Duration::ZERO };
    let mut job: Job = master.patient(&address, patience).await?;
    let mut reading = new(wanted.attempt.unwrap_or(job.attempt));
    let (mut told, mut pause) = (String::new(), LOOK);
    loop {
        let before = reading.offset;
        let over = reading.attempt > 0 && read_on(master, wanted.job, &mut reading, patience).await?;
        if reading.offset > before {
            pause = LOOK;
        }
        let alone = wanted.attempt.is_some();
        if over || reading.attempt == 0 || !wanted.follow {
            // What the log says is so; how the job stands by that is the master's to say.
            job = master.patient(&address, patience).await?;
            if job.attempt > reading.attempt && !alone {
                if reading.attempt > 0 && wanted.follow {
                    tell(&format!("attempt {} has ended; here is attempt {}", reading.attempt, job.attempt));
                }
                reading = new(job.attempt);
                continue;
            }
            if !wanted.follow || ended(&job.state) || (alone && over) {
                return verdict(wanted, &job, &mut reading);
            }
            let why = job.waiting.as_deref().unwrap_or_default();
            if told != why && !why.is_empty() {
                why.clone_into(&mut told);
                tell(&format!("job {} waits: {}", wanted.job, plain(why)));
            }
        }
        Timer::after(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

/// Reads all that an attempt's log has by now. True when there will be no more.
async fn read_on(master: &mut Master, job: u64, reading: &mut Reading, patience: Duration) -> Result<bool, Stop> {
    let path = format!("/job/{job}/{}/records", reading.attempt);
    let mut waiting = Waiting::new(patience);
    loop {
        let (from, Reading { offset, printer, .. }) = (reading.offset, &mut *reading);
        let mut damage = None;
        let mut out = Vec::new();
        let mut take = |bytes: &[u8]| {
            out.clear();
            if let Err(why) = printer.push(bytes, &mut out) {
                damage = Some(Failure::trouble(format!("the log of job {job} is damaged: {why}")));
                return Err(ErrorKind::InvalidData.into());
            }
            *offset += bytes.len() as u64;
            let mut stdout = io::stdout().lock();
            stdout.write_all(&out).and_then(|()| stdout.flush()).inspect_err(|error| {
                let unread = error.kind() == ErrorKind::BrokenPipe;
                damage = (!unread).then(|| Failure::here("standard output", error));
            })
        };
        let read = master.bytes(&path, from, &mut take).await;
        if reading.offset > from {
            waiting.came();
        }
        match read {
            Ok(Bytes::All(head) | Bytes::NoMore(head)) => {
                waiting.came();
                // Of what an older master does not say a look at the job is the answer.
                return Ok(head.state.is_none_or(|state| state == "ended"));
            }
            Err(Trouble::Link(why)) => waiting.pause(why).await?,
            // Nothing of it has come yet, or never will.
            Err(Trouble::Refused(404, _)) => return Ok(true),
            Err(Trouble::Here(_)) => return Err(damage.map_or(Stop::Unread, Stop::Failed)),
            Err(trouble) => return Err(trouble.into()),
        }
    }
}

/// The exit status for a job's state.
pub fn status_of(state: &str) -> u8 {
    match state {
        "passed" => PASSED,
        "failed" | "timed-out" => FAILED,
        _ => TROUBLE,
    }
}

fn verdict(wanted: &Wanted, job: &Job, reading: &mut Reading) -> Result<u8, Stop> {
    let attempt = reading.attempt;
    let mut text = reading.printer.close().to_owned();
    if wanted.attempt.is_some_and(|attempt| attempt != job.attempt) {
        // How an earlier one ended is in its log.
        return deliver(&text).map(|()| PASSED);
    }
    if !ended(&job.state) {
        deliver(&text)?;
        tell(&format!("job {} is {}; -f follows it", job.id, plain(&job.state)));
        return Ok(PASSED);
    }
    let cause = if job.cause.is_empty() { String::new() } else { format!(": {}", plain(&job.cause)) };
    let took = job.duration_ms.map_or_else(|| "-".to_owned(), seconds);
    let place = format!("{}\t{}\t{took}{cause}", plain(&job.platform), plain(&job.configuration));
    match wanted.form {
        Form::People => {
            text.push_str(&format!("{}\t{place}\n", state(&job.state, wanted.coloured)));
            deliver(&text)?;
        }
        // Nothing stands in standard output that the job has not printed.
        Form::Raw => tell(&format!("{}\t{place}", plain(&job.state))),
        Form::Json => {
            let (what, state, cause) = ("verdict", job.state.as_str(), job.cause.as_str());
            let duration_ms = job.duration_ms;
            deliver(&(json::to_string(&Verdict { what, job: job.id, attempt, state, cause, duration_ms }) + "\n"))?;
        }
    }
    Ok(status_of(&job.state))
}

fn deliver(text: &str) -> Result<(), Stop> {
    sai_agent::terminal::deliver(text.as_bytes())
        .map_err(|error| Stop::Failed(Failure::here("standard output", &error)))
}
