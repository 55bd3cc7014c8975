//! The state of a master that has ended → each log of a board in it, judged once more: by the same rules it ends as it did live.
//!
//! Every world ends with this, whatever its test looks at, so that no log is forgotten.

use sai_buddy::rehearing;
use sai_core::axis::{Case, CaseResult, Entry};
use sai_core::bench;
use sai_core::escape;
use sai_core::job::{JobKey, Verdict};
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};
use sai_core::trial::Trials;
use sai_core::trying::Written;
use sai_master::page::views::fault_word;
use sai_master::rejudge;
use sai_master::store::{Options, Reader, Store};
use std::fs;
use std::io::Read as _;
use std::path::Path;

/// Bytes of a file in which a board's console is named, where it is a board's log: what comes before are the steps that get its images.
const HEAD_BYTES: u64 = 64 * 1024;
/// What stands in the name of each console's channel.
const SERIAL: &[u8] = b"serial:";
/// Cases that are told one by one when a log is judged again.
const TOLD: usize = 1000;
/// Of what a log lacks because of its own bounds, the judge heard all that came.
const BOUNDS: [&str; 2] = ["its share of the log is full", "the agent's disk has no room for the log"];
/// What is said where the log ends before anything was decided: it was something else that ended the trial.
const ENDS: [&str; 2] = [
    "verdict\tinfra\nfault\tthe infrastructure\ncause\tthe log ends before the verdict\n",
    "unknown\tcannot be known from here: the log ends before what would be sent\n",
];

/// What is said of a board whose judging has not begun.
const NO_RESET: &str = "has no reset of a board, from which on it would be judged";

/// What a log says of itself.
#[derive(Debug, Default)]
struct Recorded {
    verdict: Option<Verdict>,
    cases: Vec<String>,
    notes: Vec<String>,
    /// Boards whose judging has begun.
    begun: usize,
    /// Whether the judge has heard more than the log has.
    cut: bool,
}

impl Recorded {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut recorded = Self::default();
        Decoder::new().push(bytes, |item| match (&item, Entry::of(&item)) {
            (Item::Record(_, Record::Verdict(verdict)), _) => recorded.verdict = Some(verdict.clone()),
            (Item::Record(_, Record::Note(note)), _) => recorded.notes.push(escape::line(note).to_string()),
            (_, Some(Entry::Case(case))) => {
                recorded.cases.push(of_case(&case));
            }
            (_, Some(Entry::Mark(mark))) => recorded.begun += usize::from(mark.judged == Some(true)),
            (_, Some(Entry::Loss(_, loss))) => recorded.cut |= BOUNDS.contains(&loss.why.as_str()),
            _ => {}
        })?;
        Ok(recorded)
    }

    /// The verdict as it is told when a log is judged again; none where no word was found at a board.
    fn end(&self) -> Option<String> {
        let verdict = self.verdict.as_ref()?;
        let found = verdict.verdict.as_ref()?;
        Some(end(&found.word, fault_word(&verdict.fault), &verdict.cause))
    }

    /// Whether what is told of the log now is what was found at the board.
    fn is(&self, told: &str) -> Result<(), String> {
        if self.cut {
            let says = told.contains("\nincomplete\t");
            return if says { Ok(()) } else { Err("it is not said to be incomplete".to_string()) };
        }
        let end = self.end();
        let same = end.as_ref().is_some_and(|end| told.starts_with(end.as_str()));
        let passed = self.verdict.as_ref().is_some_and(|verdict| verdict.cause.is_empty());
        if !(same && (!passed || !told.contains("\ncause\t"))) {
            // Who was cancelled, or met trouble of ours, was not judged to the end.
            if !(self.is_ours() && ENDS.iter().any(|end| without_boards(told).starts_with(end))) {
                return Err(format!("it was {end:?}"));
            }
        }
        let mut cases: Vec<String> = cases(told);
        let mut recorded = self.cases.clone();
        if told.contains("\nboard\t") {
            // Those of several boards are told by board.
            cases.sort();
            recorded.sort();
        }
        if recorded.len() <= TOLD && cases != recorded {
            return Err(format!("its cases were {recorded:?}"));
        }
        match told.lines().filter_map(|line| line.strip_prefix("note\t")).find(|note| !self.has(note)) {
            Some(note) => Err(format!("the note {note:?} is new")),
            None => Ok(()),
        }
    }

    /// Whether it may have ended by something else than what a judge found.
    fn is_ours(&self) -> bool {
        self.verdict.as_ref().is_none_or(|verdict| {
            verdict.verdict.as_ref().is_none_or(|found| ["infra", "flash-failed"].contains(&found.word.as_str()))
        })
    }

    fn has(&self, note: &str) -> bool {
        self.notes.iter().any(|recorded| recorded == note || recorded.ends_with(&format!(": {note}")))
    }
}

/// The same where a cause begins with the name of its board.
fn without_boards(told: &str) -> String {
    let line = |line: &str| match line.strip_prefix("cause\t").and_then(|cause| cause.split_once(": ")) {
        Some((_, cause)) => format!("cause\t{cause}\n"),
        None => format!("{line}\n"),
    };
    told.lines().map(line).collect()
}

/// The cases that are told, each with the name of its board where there are several.
fn cases(told: &str) -> Vec<String> {
    let mut board = String::new();
    let mut cases = Vec::new();
    for line in told.lines() {
        if let Some(name) = line.strip_prefix("board\t") {
            board = format!("{name}: ");
        } else if let Some((word, name)) = line.strip_prefix("case\t").and_then(|case| case.split_once('\t')) {
            cases.push(format!("{word}\t{board}{name}"));
        }
    }
    cases
}

/// Whether the file of a log begins as a board's does, packed or not.
fn is_of_board(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.is_ok() && head.windows(SERIAL.len()).any(|part| part == SERIAL)
}

/// The attempt whose log has this name.
fn attempt(name: &str) -> Option<JobKey> {
    let name = name.strip_suffix(".lz4").unwrap_or(name).strip_suffix(".log")?;
    let (job, attempt) = name.split_once('-')?;
    Some(JobKey { job: job.parse().ok()?, attempt: attempt.parse().ok()? })
}

/// Judges each log of a board that a master has stored, whose processes have ended, where the boards are of this bench: how many were judged to the same end as they were live.
///
/// # Panics
/// When one is judged otherwise.
pub fn all(state: &Path, bench: &Path) -> usize {
    let files = fs::read_dir(state.join("logs")).into_iter().flatten().flatten();
    let of_boards = files.filter(|file| is_of_board(&file.path()));
    let mut keys: Vec<JobKey> = of_boards.filter_map(|file| attempt(file.file_name().to_str()?)).collect();
    if keys.is_empty() {
        return 0;
    }
    keys.sort();
    let (store, _) = Store::open(state, Options::new(|_| {})).expect("the state of a master that has ended");
    let reader = store.reader();
    keys.into_iter().filter(|key| one(&reader, *key, bench)).count()
}

/// The same as the master says of a log, of one that finds out whether a board is well: its rules are its bench's.
fn by_health(log: &[u8], bench: &Path, board: &str) -> Result<String, String> {
    let text = fs::read(bench).map_err(|error| format!("{}: {error}", bench.display()))?;
    let bench = bench::read("boards.json", &text).map_err(|errors| errors.join("\n"))?;
    let board = bench.board(board).ok_or_else(|| format!("there is no board {board}"))?;
    let trials = Trials::of_health(std::slice::from_ref(board)).ok_or("its bench says nothing of its health")?;
    let trial = trials.alone().ok_or("one board")?;
    let (mut told, first) = (String::new(), board.consoles.first().map_or("", |console| console.name.as_str()));
    let mut tell = |written: &Written| match written {
        Written::Entry(Entry::Case(case)) => told.push_str(&format!("case\t{}\n", of_case(case))),
        Written::Record(Record::Note(note)) => told.push_str(&format!("note\t{}\n", escape::line(note))),
        _ => {}
    };
    let found = rehearing::judge(log, trial, first, Map::new(), &mut tell).map_err(|error| error.to_string())?;
    Ok(end(found.word, fault_word(&found.fault), &found.cause) + &told)
}

/// How it ended, as the master says it of a log.
fn end(word: &str, fault: &str, cause: &str) -> String {
    let cause = if cause.is_empty() { String::new() } else { format!("cause\t{}\n", escape::line(cause)) };
    format!("verdict\t{word}\nfault\t{fault}\n{cause}")
}

/// A case, as the master says it of a log.
fn of_case(case: &Case) -> String {
    let word = match case.result {
        CaseResult::Passed => "passed",
        CaseResult::Failed => "failed",
        CaseResult::Skipped => "skipped",
        CaseResult::Other(_) => "of another kind",
    };
    format!("{word}\t{}", escape::line(&case.name))
}

/// Judges one: whether it was a trial that had begun to be judged.
fn one(reader: &Reader, key: JobKey, bench: &Path) -> bool {
    let Some(job) = reader.job(key.job) else { return false };
    let mut bytes = Vec::new();
    let log = reader.log(key).expect("a log");
    let length = log.length();
    log.take(length).read_to_end(&mut bytes).expect("it can be read");
    let recorded = Recorded::read(&bytes).unwrap_or_else(|why| panic!("the log of attempt {key}: {why}"));
    // Of a session nothing is judged, and of a trial nothing before its reset. An attempt that has not ended has said nothing yet.
    if job.session.is_some() || job.lease.is_some() || recorded.begun == 0 || recorded.verdict.is_none() {
        return false;
    }
    let told = match (&job.health, &job.given) {
        (Some(_), Some(given)) => by_health(&bytes, bench, &given.name),
        _ => rejudge::judge(reader, key.job, Some(key.attempt), None),
    };
    // Of several boards one was not reset where another had met trouble.
    if told.as_ref().is_err_and(|why| why.contains(NO_RESET)) && recorded.is_ours() {
        return false;
    }
    let told = told.unwrap_or_else(|why| panic!("attempt {key} cannot be judged again: {why}: {recorded:?}"));
    recorded.is(&told).unwrap_or_else(|why| panic!("attempt {key} is judged otherwise: {told}{why}: {recorded:?}"));
    true
}
