//! A stored log of a board, and rules → what they make of it now, without a board.
//!
//! Time reaches the judge by records alone, so that the rules by which a log was judged while it came end the same way here.
//! What other rules would have sent, and what would have come of it, no log can tell, and it is said then.

use crate::page::console::SERIAL;
use crate::page::made;
use crate::page::views::fault_word;
use crate::store::Reader;
use sai_core::axis::{CaseResult, Entry};
use sai_core::escape;
use sai_core::job::{JobKey, Verdict};
use sai_core::judge::{Input, Judge, Output};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::record::{Decoder, Item};
use sai_core::repo_spec;
use sai_core::together::{self, Place};
use sai_core::trial::{self, Trial, Trials};
use sai_core::trying::Found;
use std::fmt::Write as _;
use std::io::{self, Read};

/// Test cases, and losses, that are told one by one: more would not be read.
const TOLD: usize = 1000;
/// Bytes of a log that are read at once.
const READ_BYTES: usize = 64 << 10;

/// What stands first in an answer whose verdict cannot be known.
pub const UNKNOWN: &str = "unknown";

/// Judges the log of a job's last attempt, or of the one that is named, by the `board` of its event's saifile or of `saifile`, a
/// name and its text. The lines of the answer are words divided by tabs; the first is `verdict` and its word, or
/// [`UNKNOWN`].
///
/// # Errors
/// Why it cannot be judged.
pub fn judge(
    reader: &Reader,
    job: u64,
    attempt: Option<u32>,
    saifile: Option<(&str, &[u8])>,
) -> Result<String, String> {
    let record = reader.job(job).ok_or_else(|| format!("there is no job {job}"))?;
    let event = reader.event(record.event).ok_or_else(|| format!("there is no event {} of job {job}", record.event))?;
    let key = JobKey { job, attempt: attempt.unwrap_or(record.attempt) };
    let (configuration, trials) = rules(reader, &event, &record, saifile)?;
    let log = || {
        let log = reader.log(key).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no log of attempt {key}"),
            _ => format!("the log of attempt {key} cannot be read: {error}"),
        })?;
        let length = log.length();
        Ok::<_, String>(log.take(length))
    };
    let channels = made::channels(Box::new(log()?)).map_err(|error| error.to_string())?;
    let EventRecord { repository, reference, revision, .. } = &event;
    let values = trial::values([repository, reference, revision, &record.platform, &configuration]);
    let was = record.verdict.as_ref().filter(|_| key.attempt == record.attempt);
    let word = |was: &Verdict| {
        let found = was.verdict.as_ref().map(|found| found.word.clone());
        found.unwrap_or_else(|| was.outcome.state().word().to_string())
    };
    let was = was.map(|was| (word(was), was.cause.clone()));
    let hear = |trial: Trial, first: &str, place: Option<Place>| {
        let of = place.as_ref().map_or_else(String::new, |place| format!("{}: ", place.board));
        let judge = Judge::new(trial, first, values.clone())
            .map_err(|expected| format!("{of}identity: expected {expected}"))?;
        let mut hearing = Hearing::new(judge, channels.clone(), place);
        let broken =
            hearing.read(log()?).map_err(|error| format!("the log of attempt {key} cannot be read: {error}"))?;
        if !hearing.judge.begun() {
            return Err(format!(
                "{of}the log of attempt {key} has no reset of a board, from which on it would be judged"
            ));
        }
        Ok::<_, String>((hearing, broken))
    };
    let places = together::places_in(&channels);
    if places.is_empty() {
        let first = channels.iter().find_map(|(_, name)| name.strip_prefix(SERIAL));
        let first = first.ok_or_else(|| format!("the log of attempt {key} has no console of a board"))?;
        let several = || format!("the log of attempt {key} is of one board, and the rules of several");
        let trial = trials.alone().ok_or_else(several)?;
        let (hearing, broken) = hear(trial, first, None)?;
        return Ok(hearing.told(broken, was));
    }
    if places.len() != trials.parts.len() {
        let (has, wants) = (places.len(), trials.parts.len());
        return Err(format!("the log of attempt {key} is of {has} boards, and the rules of {wants}"));
    }
    let mut heard = Vec::new();
    for (trial, place) in trials.parts.into_iter().zip(places) {
        let (board, count) = (place.board.clone(), place.first..place.first.saturating_add(place.count));
        let own = |(number, name): &(u8, String)| {
            let console = name.strip_prefix(SERIAL)?.strip_prefix(board.as_str())?.strip_prefix('/')?;
            count.contains(number).then(|| console.to_string())
        };
        let first = channels.iter().find_map(own);
        let first = first.ok_or_else(|| format!("the log of attempt {key} has no console of board {board}"))?;
        let (hearing, broken) = hear(trial, &first, Some(place))?;
        heard.push((board, hearing, broken));
    }
    Ok(of_several(heard, was))
}

/// What is said of a log of several boards: the worst of the verdicts with the name of its board, then all there is to say of each.
fn of_several(heard: Vec<(String, Hearing, Option<String>)>, was: Option<(String, String)>) -> String {
    let unknown = heard.iter().position(|(_, hearing, _)| hearing.end.starts_with(UNKNOWN));
    let worst = together::worst(heard.iter().filter_map(|(_, hearing, _)| hearing.found.as_ref()));
    let mut text = match heard.get(unknown.or(worst).unwrap_or(0)) {
        Some((board, hearing, _)) if unknown.is_some() || worst.is_some() => {
            hearing.end.replace("cause\t", &format!("cause\t{board}: "))
        }
        first => first.map_or_else(String::new, |(_, hearing, _)| hearing.end.clone()),
    };
    put_recorded(was, &mut text);
    for (board, hearing, broken) in heard {
        let _ = writeln!(text, "board\t{board}");
        text.push_str(&hearing.told(broken, None));
    }
    text
}

/// The verdict that is on record, and its cause.
fn put_recorded(was: Option<(String, String)>, text: &mut String) {
    if let Some((word, cause)) = was {
        let line = format!("recorded\t{}\t{}", escape::line(&word), escape::line(&cause));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// The rules: of the file that is given, or of the event's. Gives the configuration's own name, too.
fn rules(
    reader: &Reader,
    event: &EventRecord,
    record: &JobRecord,
    saifile: Option<(&str, &[u8])>,
) -> Result<(String, Trials), String> {
    let stored;
    let (name, bytes) = match saifile {
        Some(given) => given,
        None => {
            stored = reader.saifile(event.id).map_err(|error| {
                format!("the saifile of event {} cannot be read: {error}; name one by --saifile", event.id)
            })?;
            (".sai.json", stored.as_slice())
        }
    };
    let read = repo_spec::read(bytes).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(|at| format!("{name}:{at}")).collect();
        lines.join("\n")
    });
    let (spec, _) = read?;
    let (configuration, board) = spec.board_of(&record.configuration, &record.platform).ok_or_else(|| {
        format!(
            "{name}: expected a board of configuration `{}`, as job {} is of",
            escape::line(&record.configuration),
            record.id
        )
    })?;
    Ok((configuration.to_string(), trial::all_of(&board.text)?))
}

/// A log that is read once more, and what is told of it.
struct Hearing {
    judge: Judge,
    out: Vec<Output>,
    names: Vec<(u8, String)>,
    /// Where the board's records are, in a log of several.
    place: Option<Place>,
    /// How it ended.
    end: String,
    found: Option<Found>,
    notes: Lines,
    cases: Lines,
    losses: Lines,
    counts: [u64; 4],
}

/// Lines of which there may be any number.
#[derive(Default)]
struct Lines {
    text: String,
    told: usize,
    more: usize,
}

impl Lines {
    fn add(&mut self, line: impl FnOnce() -> String) {
        if self.told < TOLD {
            self.told += 1;
            self.text.push_str(&line());
            self.text.push('\n');
        } else {
            self.more += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.told == 0
    }

    fn put(self, what: &str, text: &mut String) {
        text.push_str(&self.text);
        if self.more > 0 {
            let _ = writeln!(text, "{what}\t{} more are not told here", self.more);
        }
    }
}

const RESULTS: [&str; 4] = ["passed", "failed", "skipped", "of another kind"];

impl Hearing {
    fn new(judge: Judge, names: Vec<(u8, String)>, place: Option<Place>) -> Self {
        Self {
            judge,
            out: Vec::new(),
            names,
            place,
            end: String::new(),
            found: None,
            notes: Lines::default(),
            cases: Lines::default(),
            losses: Lines::default(),
            counts: [0; 4],
        }
    }

    /// Reads all of it; gives what keeps the rest from being read, if something does.
    fn read(&mut self, mut log: impl Read) -> io::Result<Option<String>> {
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; READ_BYTES];
        let broken = loop {
            let length = match log.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if length == 0 {
                break None;
            }
            if let Err(what) = decoder.push(buffer.get(..length).unwrap_or_default(), |item| self.item(&item)) {
                break Some(what);
            }
        };
        self.hear(0, Input::End);
        Ok(broken)
    }

    fn item(&mut self, item: &Item<'_>) {
        let entry = Entry::of(item);
        let own = |channel: &u8| {
            let here = |place: &Place| (place.first..place.first.saturating_add(place.count)).contains(channel);
            self.place.as_ref().is_none_or(here)
        };
        if let Some(Entry::Loss(channel, loss)) =
            entry.as_ref().filter(|entry| matches!(entry, Entry::Loss(channel, _) if own(channel)))
        {
            let name = self.names.iter().find(|(number, _)| number == channel);
            let name = name.map_or("?".to_string(), |(_, name)| escape::line(name).to_string());
            let many = loss.lost.map_or("an unknown number".to_string(), |lost| lost.to_string());
            let why = || format!("lost\t{name}\t{many}\tfrom {}\t{}", loss.offset, escape::line(&loss.why));
            self.losses.add(why);
        }
        match self.place.clone() {
            Some(place) => place.hear(item, &mut |micros, input| self.hear(micros, input)),
            None => {
                if let Some((micros, input)) = Input::of(item, entry.as_ref()) {
                    self.hear(micros, input);
                }
            }
        }
    }

    fn hear(&mut self, micros: u64, input: Input<'_>) {
        self.judge.handle(micros, input, &mut self.out);
        for output in std::mem::take(&mut self.out) {
            match output {
                Output::Verdict(judgement) => {
                    self.found = Some(Found::judged(judgement.clone(), 0));
                    self.end = format!("verdict\t{}\n", judgement.word.text());
                    let _ = writeln!(self.end, "fault\t{}", fault_word(&judgement.word.fault()));
                    if !judgement.cause.is_empty() {
                        let _ = writeln!(self.end, "cause\t{}", escape::line(&judgement.cause));
                    }
                }
                Output::Unknowable(why) => {
                    self.end = format!("{UNKNOWN}\tcannot be known from here: {}\n", escape::line(&why));
                }
                Output::Case(case) => {
                    let kind = match case.result {
                        CaseResult::Passed => 0,
                        CaseResult::Failed => 1,
                        CaseResult::Skipped => 2,
                        CaseResult::Other(_) => 3,
                    };
                    self.counts[kind] += 1;
                    self.cases.add(|| format!("case\t{}\t{}", RESULTS[kind], escape::line(&case.name)));
                }
                Output::Note(note) => self.notes.add(|| format!("note\t{}", escape::line(&note))),
                Output::Send { .. } | Output::Play(_) => {}
            }
        }
    }

    /// What is said of it; `was` is the verdict that is on record, and its cause.
    fn told(self, broken: Option<String>, was: Option<(String, String)>) -> String {
        let mut text = self.end;
        put_recorded(was, &mut text);
        if !self.losses.is_empty() || broken.is_some() {
            text.push_str("incomplete\tthe log does not have all that came\n");
        }
        if let Some(what) = broken {
            let _ = writeln!(text, "damaged\t{}", escape::line(&what));
        }
        self.losses.put("lost", &mut text);
        let counts: Vec<String> = RESULTS
            .iter()
            .zip(self.counts)
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        if !counts.is_empty() {
            let _ = writeln!(text, "cases\t{}", counts.join(", "));
        }
        self.notes.put("note", &mut text);
        self.cases.put("case", &mut text);
        text
    }
}
