//! Boards → JSON: `/api/v1/boards`, and of one of them also who was there.

use super::api::{Held, Waiting, holder_json, waiting_json};
use super::board::{BoardView, Stay};
use super::board_list::address;
use super::views::{fault_word, job_took};
use crate::units::moment;
use miniserde::{Serialize, json};
use sai_core::job::Fault;
use sai_core::scheduler::{BoardHealth, BoardRow};

/// One board as it stands.
#[derive(Serialize)]
struct Board<'a> {
    agent: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    tags: &'a [String],
    /// Of a rig: the names of its boards.
    boards: Option<&'a [String]>,
    /// A word: free, busy, aside, away.
    state: &'a str,
    standing: String,
    held: Option<Held<'a>>,
    /// The jobs that wait for it, the next one first; not all of them.
    waiting: Vec<Waiting<'a>>,
    waiting_count: u64,
    /// Repositories that do not get it after trouble.
    kept_from: Vec<KeptFrom<'a>>,
    health: Health<'a>,
    page: String,
}

/// How well a board is, as far as that is known.
#[derive(Serialize)]
struct Health<'a> {
    /// Whether its agent knows how that is found out.
    known: bool,
    /// Seconds after which it is found out again.
    every_s: Option<u64>,
    /// Who has set it aside.
    set_aside_by: Option<&'a str>,
    set_aside_at: Option<String>,
    /// Why it gets no job until it is found to be well.
    why: Option<&'a str>,
    /// The job that finds it out.
    check: Option<u64>,
    /// The job that found it out last, when, and whether the board was well.
    last_job: Option<u64>,
    last_at: Option<String>,
    well: Option<bool>,
}

fn health_json(row: &BoardRow) -> Health<'_> {
    let BoardHealth { record, check } = &row.health;
    let (offered, aside, last) = (row.offered.health.as_ref(), record.aside.as_ref(), record.last.as_ref());
    Health {
        known: offered.is_some(),
        every_s: offered.and_then(|health| health.every_s),
        set_aside_by: aside.map(|aside| aside.by.as_str()),
        set_aside_at: aside.map(|aside| moment(aside.at)),
        why: record.unwell.as_deref(),
        check: *check,
        last_job: last.map(|last| last.job),
        last_at: last.map(|last| moment(last.at)),
        well: last.map(|last| last.passed),
    }
}

/// A repository that does not get a board.
#[derive(Serialize)]
struct KeptFrom<'a> {
    repository: &'a str,
    why: &'a str,
    seconds: u64,
}

/// An attempt that was at a board.
#[derive(Serialize)]
struct BoardStay<'a> {
    job: u64,
    attempt: u32,
    repository: &'a str,
    configuration: &'a str,
    platform: &'a str,
    /// As of the job; infra, where another attempt followed.
    state: &'a str,
    /// What was found, in the finest word there is.
    verdict: &'a str,
    cause: &'a str,
    fault: String,
    at: String,
    duration_ms: Option<u64>,
    page: String,
}

#[derive(Serialize)]
struct Boards<'a> {
    boards: Vec<Board<'a>>,
}

/// One board, and who was there.
#[derive(Serialize)]
struct BoardAndStays<'a> {
    board: Option<Board<'a>>,
    history: Vec<BoardStay<'a>>,
    before: Option<u64>,
}

fn board_json(row: &BoardRow) -> Board<'_> {
    let kept = row.kept_from.iter();
    Board {
        agent: &row.agent,
        name: &row.offered.name,
        kind: &row.offered.kind,
        tags: &row.offered.tags,
        boards: row.offered.boards.as_deref(),
        state: row.state(),
        standing: row.told(),
        held: holder_json(row),
        waiting: row.waiters.iter().map(waiting_json).collect(),
        waiting_count: row.waiting as u64,
        kept_from: kept
            .map(|kept| KeptFrom { repository: &kept.repository, why: &kept.why, seconds: kept.seconds })
            .collect(),
        health: health_json(row),
        page: address(&row.agent, &row.offered.name),
    }
}

fn stay_json(stay: &Stay, now: u64) -> BoardStay<'_> {
    let job = &stay.job;
    let fault = if stay.tried.is_some() { Fault::Infrastructure } else { job.fault };
    BoardStay {
        job: job.id,
        attempt: stay.attempt(),
        repository: &job.repository,
        configuration: &job.configuration,
        platform: &job.platform,
        state: if stay.tried.is_some() { "infra" } else { job.word() },
        verdict: stay.word(),
        cause: stay.why(),
        fault: fault_word(&fault).to_string(),
        at: moment(stay.at()),
        duration_ms: job_took(job, now).filter(|_| stay.tried.is_none()),
        page: format!("/job/{}/{}", job.id, stay.attempt()),
    }
}

/// `GET /api/v1/boards`: `{"boards":[…]}`.
pub fn boards(boards: &[BoardRow]) -> String {
    json::to_string(&Boards { boards: boards.iter().map(board_json).collect() })
}

/// `GET /api/v1/boards/AGENT/BOARD`: `{"board":{…} or null,"history":[…],"before":N or null}`.
pub fn board(view: &BoardView, now: u64) -> String {
    let history = view.stays.iter().map(|stay| stay_json(stay, now)).collect();
    json::to_string(&BoardAndStays { board: view.row.as_ref().map(board_json), history, before: view.next })
}
