//! What a person wants of boards → leases at a master, and the board that a word of theirs is for.

pub mod console;
pub mod flash;
pub mod words;

use crate::answers::{Done, EventAndJobs, Events, Job, Unit, Units};
use crate::failure::{FAILED, Failure};
use crate::follow::path;
use crate::master::{Master, Trouble};
use crate::telling::{ended, plain, tell};
use miniserde::{Serialize, json};
use sai_agent::terminal;
use sai_core::join::check_agent_name;
use smol::Timer;
use std::fmt::Write as _;
use std::time::Duration;

/// Pause between two looks at a job that waits for its board.
const LOOK: Duration = Duration::from_millis(300);
/// Time for which a board is waited for while its master cannot be reached.
const PATIENCE: Duration = Duration::from_secs(3600);
/// And for how long where somebody only looks what there is, and so can look again.
const LISTING: Duration = Duration::from_secs(10);

/// Which board is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meant {
    /// `AGENT/BOARD`.
    name: Option<String>,
    kind: Option<String>,
    tags: Vec<String>,
}

impl Meant {
    /// Reads `AGENT/BOARD`, or `TYPE` with tags behind it, as `nucleo-f411+can`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |part: &str| {
            part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'&' && byte != b'%')
        };
        let expected = || format!("expected a board, as TYPE, TYPE+TAG or AGENT/BOARD, found {}", plain(text));
        if let Some((agent, board)) = text.split_once('/') {
            return match bad(agent) || bad(board) {
                true => Err(expected()),
                false => Ok(Self { name: Some(text.to_owned()), kind: None, tags: Vec::new() }),
            };
        }
        let mut parts = text.split('+').map(str::to_owned);
        let kind = parts.next().unwrap_or_default();
        let tags: Vec<String> = parts.collect();
        if bad(&kind) || tags.iter().any(|tag| bad(tag)) {
            return Err(expected());
        }
        Ok(Self { name: None, kind: Some(kind), tags })
    }

    fn is(&self, unit: &Unit) -> bool {
        let named = self.name.as_ref().is_none_or(|name| *name == unit.name);
        let kind = self.kind.is_none() || self.kind == unit.kind_of_board;
        let tags = unit.tags.as_deref().unwrap_or_default();
        named && kind && self.tags.iter().all(|tag| tags.contains(tag))
    }

    /// As fields of a request. Nothing in it has a meaning there.
    fn fields(&self) -> String {
        let name = self.name.iter().map(|name| format!("board={name}"));
        let kind = self.kind.iter().map(|kind| format!("type={kind}"));
        let tags = self.tags.iter().map(|tag| format!("tag={tag}"));
        name.chain(kind).chain(tags).collect::<Vec<_>>().join("&").replace('+', "%2B")
    }
}

/// A board that a person has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its job.
    pub job: u64,
    /// The attempt that has it.
    pub attempt: u32,
    /// `AGENT/BOARD`.
    pub board: String,
}

async fn units(master: &mut Master, patience: Duration) -> Result<Vec<Unit>, Trouble> {
    let units: Units = master.patient("/api/v1/units", patience).await?;
    Ok(units.units.into_iter().filter(|unit| unit.kind == "board").collect())
}

/// Boards that people have by leases and that are meant, and whose they are.
async fn leased(master: &mut Master, meant: &Meant) -> Result<Vec<(Lease, Option<String>)>, Failure> {
    let mut all = Vec::new();
    for unit in units(master, PATIENCE).await?.into_iter().filter(|unit| meant.is(unit)) {
        for held in &unit.held {
            let job: Job = master.patient(&path(held.job), PATIENCE).await?;
            if job.repository.starts_with('~') && !ended(&job.state) {
                let lease = Lease { job: job.id, attempt: held.attempt, board: unit.name.clone() };
                all.push((lease, job.person));
            }
        }
    }
    Ok(all)
}

/// The board that this person has and means.
///
/// # Errors
/// There is none, or whose fault it is that it is not known.
pub async fn mine(master: &mut Master, meant: &Meant) -> Result<Lease, Failure> {
    let me = master.me().await?.map(|me| me.name);
    let mut all = leased(master, meant).await?.into_iter();
    all.find(|(_, person)| me.is_some() && *person == me).map(|(lease, _)| lease).ok_or_else(|| {
        Failure::refused("you have no such board; sai board lease asks for one, and sai board list tells what there is")
    })
}

/// Gives up the one of these boards that this person asked for and does not have yet: the job that waited. Nothing where none waits.
///
/// # Errors
/// Several wait, or whose fault it is that it is not known.
pub async fn give_up(master: &mut Master, meant: &Meant) -> Result<Option<u64>, Failure> {
    let Some(me) = master.me().await?.map(|me| me.name) else { return Ok(None) };
    // What a lease waits for is known by its type alone.
    let kinds: Vec<String> = match &meant.kind {
        Some(kind) => vec![kind.clone()],
        None => units(master, PATIENCE)
            .await?
            .into_iter()
            .filter(|unit| meant.is(unit))
            .filter_map(|unit| unit.kind_of_board)
            .collect(),
    };
    let waiting: Events =
        master.json("GET", &format!("/api/v1/events?state=queued&repository=~{me}&limit=100")).await?;
    let mut jobs = Vec::new();
    for event in waiting.events {
        let event: EventAndJobs = master.json("GET", &format!("/api/v1/events/{}", event.id)).await?;
        let mine = |job: &Job| job.state == "queued" && kinds.contains(&job.configuration);
        jobs.extend(event.jobs.into_iter().filter(mine).map(|job| job.id));
    }
    match jobs.as_slice() {
        [] => Ok(None),
        [job] => {
            let _: Done = master.json("POST", &format!("{}/cancel", path(*job))).await?;
            Ok(Some(*job))
        }
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::refused(format!(
                "you wait for several: sai cancel ends one of the jobs {}",
                several.join(", ")
            )))
        }
    }
}

/// The board that is meant and that somebody has, and who: this person rather than another.
///
/// # Errors
/// Nobody has one, or whose fault it is that it is not known.
pub async fn theirs(master: &mut Master, meant: &Meant) -> Result<(Lease, String), Failure> {
    let me = master.me().await?.map(|me| me.name);
    let mut all = leased(master, meant).await?;
    let place = all.iter().position(|(_, person)| *person == me).unwrap_or(0);
    if all.is_empty() {
        return Err(Failure::refused("no person has such a board; sai board list tells who has what"));
    }
    let (lease, person) = all.swap_remove(place);
    Ok((lease, person.unwrap_or_default()))
}

/// Shares the board that this person has and means with another one, or does so no more.
///
/// # Errors
/// There is no such board or person, or whose fault it is that it is not done.
pub async fn share(master: &mut Master, meant: &Meant, person: &str, shared: bool) -> Result<(), Failure> {
    check_agent_name(person).map_err(Failure::usage)?;
    let lease = mine(master, meant).await?;
    let word = if shared { "with" } else { "without" };
    let done: Done = master.json("POST", &format!("{}/share?{word}={person}", path(lease.job))).await?;
    tell(&plain(&done.done));
    Ok(())
}

/// Asks for a board and waits until it is there.
///
/// # Errors
/// There is none of these, or whose fault it is that it is not had.
pub async fn lease(master: &mut Master, meant: &Meant, minutes: Option<u64>) -> Result<Lease, Failure> {
    let minutes = minutes.map(|minutes| format!("&minutes={minutes}")).unwrap_or_default();
    let done: Done = master.json("POST", &format!("/api/v1/boards/lease?{}{minutes}", meant.fields())).await?;
    let number = done.job.ok_or_else(|| Failure::trouble("this master lends no boards: it is of an older version"))?;
    let mut told = String::new();
    loop {
        let job: Job = master.patient(&path(number), PATIENCE).await?;
        if ended(&job.state) {
            return Err(Failure(FAILED, format!("job {number} is {}: {}", plain(&job.state), plain(&job.cause))));
        }
        if job.state == "running" {
            let held = |unit: &Unit| unit.held.iter().any(|held| held.job == number);
            let board = units(master, PATIENCE).await?.into_iter().find(held).map(|unit| unit.name);
            return Ok(Lease { job: number, attempt: job.attempt, board: board.unwrap_or_default() });
        }
        let why = job.waiting.unwrap_or_default();
        if told != why && !why.is_empty() {
            let word = if told.is_empty() { "; sai board release gives it up" } else { "" };
            // Who is not next waits longer, nobody knows how long.
            let all = units(master, PATIENCE).await?;
            let until =
                all.iter().filter(|unit| meant.is(unit)).flat_map(|unit| &unit.held).map(|held| &held.until).min();
            let until =
                until.map(|until| format!("; one is free by {} at the latest", plain(until))).unwrap_or_default();
            tell(&format!("job {number} waits: {}{until}{word}", plain(&why)));
            told = why;
        }
        Timer::after(LOOK).await;
    }
}

/// A board, for programs.
#[derive(Serialize)]
struct Row<'a> {
    board: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    tags: &'a [String],
    standing: Option<&'a str>,
    job: Option<u64>,
    since: Option<&'a str>,
    until: Option<&'a str>,
    waiting: u64,
}

#[derive(Serialize)]
struct Rows<'a> {
    boards: Vec<Row<'a>>,
}

/// Prints the boards that there are.
///
/// # Errors
/// Whose fault it is that they are not known.
pub fn list(master: &mut Master, json: bool) -> Result<(), Failure> {
    let units = smol::block_on(units(master, LISTING))?;
    let mut out = String::new();
    if json {
        let boards = units.iter().map(|unit| Row {
            board: &unit.name,
            kind: unit.kind_of_board.as_deref(),
            tags: unit.tags.as_deref().unwrap_or_default(),
            standing: unit.standing.as_deref(),
            job: unit.held.first().map(|held| held.job),
            since: unit.held.first().map(|held| held.since.as_str()),
            until: unit.held.first().map(|held| held.until.as_str()),
            waiting: unit.waiting_count,
        });
        out = json::to_string(&Rows { boards: boards.collect() }) + "\n";
    } else if units.is_empty() {
        out.push_str("no agent offers boards\n");
    } else {
        for unit in &units {
            let kind = plain(unit.kind_of_board.as_deref().unwrap_or_default());
            let tags = plain(&unit.tags.as_deref().unwrap_or_default().join(" "));
            let standing = plain(unit.standing.as_deref().unwrap_or_default());
            let until = unit.held.first().map(|held| format!(", until {} at most", plain(&held.until)));
            let waiting = if unit.waiting_count > 0 { format!("\t{} wait", unit.waiting_count) } else { String::new() };
            let _ = writeln!(
                out,
                "{}\t{kind}\t{tags}\t{standing}{}{waiting}",
                plain(&unit.name),
                until.unwrap_or_default()
            );
        }
    }
    terminal::deliver(out.as_bytes()).map_err(|error| Failure::here("standard output", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_meant_by_type_and_tags_or_by_name() {
        let fields = |text: &str| Meant::parse(text).map(|meant| meant.fields());
        assert_eq!(fields("nucleo-f411+can").as_deref(), Ok("type=nucleo-f411&tag=can"));
        assert_eq!(fields("shed/uno-1").as_deref(), Ok("board=shed/uno-1"));
        for wrong in ["", "+", "a+", "/", "a/", "/b", "a b", "a&b", "a%41", "a\n"] {
            assert!(fields(wrong).is_err_and(|why| why.contains("expected a board")), "{wrong:?}");
        }
    }
}
