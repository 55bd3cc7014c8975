//! A board, a saifile and one of its configurations → the board flashed and judged as the configuration's `board` says, told as TAP.

use crate::colours::{Colours, Meaning};
use crate::commands::{Given, trouble};
use crate::percent::Percent;
use crate::{Failure, print, read};
use sai_buddy::delivering::Image;
use sai_buddy::describing::contents;
use sai_buddy::ports::Places;
use sai_buddy::rehearing;
use sai_buddy::serial::monotonic_ns;
use sai_buddy::stop::Stop;
use sai_buddy::trying::{self, Ended, Wanted};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::axis::{Case, CaseResult, Entry, Mark, What};
use sai_core::bench::Board;
use sai_core::escape;
use sai_core::job::Fault;
use sai_core::ordered::Map;
use sai_core::record::Record;
use sai_core::repo_spec::{self, RepoSpec};
use sai_core::trial::{self, Step, Trial, VALUES};
use sai_core::trying::{Found, Written, fits};
use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Nobody knows whether it passes: trouble of the bench, or of ours.
const UNKNOWN: u8 = 3;
/// Bytes of what the board said last that are told where it does not pass.
const LAST_BYTES: usize = 2048;

/// Letters of a line of these.
const LAST_LETTERS: usize = 200;

/// A line for programs: what is not said is null.
#[derive(Default, miniserde::Serialize)]
struct Line<'a> {
    step: Option<&'a str>,
    phase: Option<&'a str>,
    done: Option<u64>,
    of: Option<u64>,
    note: Option<&'a str>,
    tool: Option<&'a str>,
    case: Option<&'a str>,
    result: Option<&'a str>,
    verdict: Option<&'a str>,
    fault: Option<&'a str>,
    cause: Option<&'a str>,
}

/// Who is told, and how.
struct Teller {
    json: bool,
    colours: Colours,
    points: u64,
    percent: Percent,
    /// The channel of a tool, and what it has printed of a line.
    tool: u8,
    printed: Vec<u8>,
    /// The channel that is judged, whether it is by now, and the last that it said since.
    judged: u8,
    begun: bool,
    last: Vec<u8>,
}

impl Teller {
    fn new(json: bool, judged: u8, tool: u8) -> Self {
        let colours = Colours::of(&io::stdout());
        let terminal = !json && io::stdout().is_terminal();
        let (percent, printed, last) = (Percent::new(terminal), Vec::new(), Vec::new());
        Teller { json, colours, points: 0, percent, tool, printed, judged, begun: false, last }
    }

    /// Says a line. That nobody reads it keeps nothing from being tried.
    fn say(&mut self, line: &Line<'_>, text: &str, meaning: Meaning) {
        let text = self.percent.close() + &self.colours.show(meaning, &escape::line(text));
        let _ = print(&if self.json { miniserde::json::to_string(line) + "\n" } else { text + "\n" });
    }

    /// A test point. In a description `#` begins something else.
    fn point(&mut self, line: &Line<'_>, well: bool, what: &str, skipped: bool) {
        self.points += 1;
        let (word, meaning) = if well { ("ok", Meaning::Good) } else { ("not ok", Meaning::Bad) };
        let what = what.replace('#', "\\#");
        let (skip, meaning) = if skipped { (" # SKIP", Meaning::Doubtful) } else { ("", meaning) };
        self.say(line, &format!("{word} {} - {what}{skip}", self.points), meaning);
    }

    fn take(&mut self, written: &Written) {
        match written {
            Written::Record(Record::Data(channel, bytes)) if *channel == self.judged => {
                self.last.extend_from_slice(bytes);
                let more = self.last.len().saturating_sub(LAST_BYTES);
                self.last.drain(..more);
            }
            Written::Record(Record::Data(channel, bytes)) if *channel == self.tool => self.prints(bytes),
            Written::Record(Record::StepEnd(_)) => self.prints(b"\n"),
            Written::Record(Record::StepStart(start)) => {
                self.say(
                    &Line { step: Some(&start.text), ..Line::default() },
                    &format!("# {}", start.text),
                    Meaning::Plain,
                );
            }
            Written::Record(Record::Note(note)) => {
                self.say(&Line { note: Some(note), ..Line::default() }, &format!("# {note}"), Meaning::Plain);
            }
            Written::Entry(Entry::Progress(progress)) => {
                let (phase, done, of) = (progress.phase.as_str(), progress.done, progress.of);
                if self.json {
                    let line = Line { phase: Some(phase), done: Some(done), of: Some(of), ..Line::default() };
                    self.say(&line, "", Meaning::Plain);
                } else {
                    let _ = print(&self.percent.take("# ", phase, done, of));
                }
            }
            Written::Entry(Entry::Case(case)) => self.case(case),
            Written::Entry(Entry::Mark(Mark { what: What::Reset, judged: Some(true), .. })) => {
                self.begun = true;
                self.last.clear();
            }
            Written::Entry(Entry::Mark(mark @ Mark { what: What::Unplugged | What::Back, .. })) => {
                let name = mark.name.as_deref().unwrap_or_default();
                let more = mark.text.as_deref().unwrap_or_default();
                let how = if mark.what == What::Back { "back: " } else { "unplugged" };
                let note = format!("console {name} is {how}{more}");
                self.say(&Line { note: Some(&note), ..Line::default() }, &format!("# {note}"), Meaning::Plain);
            }
            Written::Record(_) | Written::Entry(_) => {}
        }
    }

    /// What a tool prints, a line of it at a time; one that draws a bar ends its lines otherwise.
    fn prints(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !matches!(byte, b'\n' | b'\r' | 8) {
                if self.printed.len() < LAST_BYTES {
                    self.printed.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.printed);
            let text: String = String::from_utf8_lossy(&line).trim_end().chars().take(LAST_LETTERS).collect();
            if !text.is_empty() {
                self.say(&Line { tool: Some(&text), ..Line::default() }, &format!("# | {text}"), Meaning::Quoted);
            }
        }
    }

    fn case(&mut self, case: &Case) {
        let (word, well) = match case.result {
            CaseResult::Passed => ("passed", true),
            CaseResult::Failed => ("failed", false),
            CaseResult::Skipped => ("skipped", true),
            CaseResult::Other(_) => ("other", true),
        };
        let line = Line { case: Some(&case.name), result: Some(word), ..Line::default() };
        self.point(&line, well, &case.name, case.result == CaseResult::Skipped);
    }

    /// The end of it, which is a test point too: who counts these has the verdict.
    fn found(&mut self, found: &Found) -> Result<u8, Failure> {
        let (fault, status) = match found.fault {
            Fault::Nobody => ("nobody", 0),
            Fault::Infrastructure => ("infrastructure", UNKNOWN),
            _ => ("job", 1),
        };
        let cause = if found.cause.is_empty() { String::new() } else { format!(": {}", found.cause) };
        if status != 0 && !self.json && self.begun {
            let last = String::from_utf8_lossy(&self.last).replace('\r', "");
            for line in last.lines().filter(|line| !line.is_empty()) {
                let some: String = line.chars().take(LAST_LETTERS).collect();
                self.say(&Line::default(), &format!("# | {some}"), Meaning::Quoted);
            }
        }
        let line = Line { verdict: Some(found.word), fault: Some(fault), cause: Some(&found.cause), ..Line::default() };
        self.point(&line, status == 0, &format!("verdict: {}{cause}", found.word), false);
        if !self.json {
            print(&format!("1..{}\n", self.points))?;
        }
        Ok(status)
    }
}

/// The board of a configuration that a word names, `NAME`, `NAME@PLATFORM` or `NAME/board-2`, and what `${SAI_…}` is of it.
fn wanted(spec: &RepoSpec, word: &str) -> Result<(Trial, String, String), String> {
    let find = |job: &str, platform: &str| {
        spec.board_of(job, platform).map(|(name, board)| (name.to_string(), board.text.clone(), platform.to_string()))
    };
    let split = word.rsplit_once('@').and_then(|(job, platform)| find(job, platform));
    let found = split.or_else(|| spec.platforms.iter().find_map(|platform| find(word, &platform.name)));
    let (name, text, platform) = found.ok_or_else(|| {
        let mut names: Vec<&str> = Vec::new();
        for configuration in &spec.configurations {
            let name = configuration.name.as_str();
            if spec.platforms.iter().any(|platform| find(name, &platform.name).is_some()) {
                names.push(name);
            }
        }
        let names = if names.is_empty() { "none has a `board`".into() } else { format!("one of {}", names.join(", ")) };
        format!("no board of a configuration {word:?}: expected {names}")
    })?;
    let several =
        || format!("the board of configuration {word:?} is of several, which jobs of an agent alone try together");
    Ok((trial::all_of(&text)?.alone().ok_or_else(several)?, name, platform))
}

/// What `${SAI_…}` stands for here: variables of the environment, where there is no job.
fn values(trial: &Trial, configuration: String, platform: String) -> Result<Map<String, String>, String> {
    let texts = trial.steps.iter().filter_map(|step| match step {
        Step::Expect { pattern: text, .. } | Step::Send { text, .. } => Some(text),
        _ => None,
    });
    let texts: Vec<&String> = trial.identity.iter().chain(texts).collect();
    let mut values = Map::new();
    for name in VALUES {
        let known = match name {
            "SAI_CONFIGURATION" => Some(configuration.clone()),
            "SAI_PLATFORM" => Some(platform.clone()),
            _ => std::env::var(name).ok(),
        };
        match known {
            Some(value) => drop(values.insert(name.to_string(), value)),
            None if texts.iter().any(|text| text.contains(&format!("${{{name}}}"))) => {
                return Err(format!("the configuration asks for ${{{name}}}: give it, as in {name}=… sai-buddy …"));
            }
            None => {}
        }
    }
    Ok(values)
}

/// The images of a trial, from where its saifile lies.
fn images(trial: &Trial, board: &Board, directory: &Path) -> Result<Vec<Image>, String> {
    let mut images = Vec::new();
    for (target, path) in &trial.images {
        let how = board.flash.as_ref().and_then(|how| how.target(target));
        let target = how.ok_or_else(|| format!("board {} has no target {target:?}", board.name))?;
        let image = Image::read(&directory.join(path), target);
        images.push(image.map_err(|failure| failure.text)?);
    }
    Ok(images)
}

impl Given {
    /// Tries a board, or judges the log of one that was tried.
    pub fn test(self, file: &OsString, words: [&OsString; 3]) -> Result<u8, Failure> {
        self.has_only("test", &["--run", "--json", "--record", "--again"])?;
        let wrong = |text: String| (1, text);
        let [board, saifile, configuration] = words;
        let bench = read(file)?;
        let name = board.to_string_lossy();
        let Some(board) = bench.board(&name) else {
            let names: Vec<&str> = bench.boards.iter().map(|board| board.name.as_str()).collect();
            return Err((1, format!("no board {name:?}: expected one of {}", names.join(", "))));
        };
        let saifile = PathBuf::from(saifile);
        let named = saifile.display();
        let bytes = contents(&saifile).map_err(|error| (1, format!("{named}: {error}")))?;
        let (spec, _) = repo_spec::read(&bytes).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|at| format!("{named}:{at}")).collect();
            (1, lines.join("\n  "))
        })?;
        let (trial, configuration, platform) =
            wanted(&spec, &configuration.to_string_lossy()).map_err(|text| (1, format!("{named}: {text}")))?;
        fits(&trial, board).map_err(|text| (1, format!("{named}: {text}")))?;
        let values = values(&trial, configuration, platform).map_err(wrong)?;
        let first = board.consoles.first().map(|console| console.name.as_str()).unwrap_or_default();
        let console = trial.console.as_deref().unwrap_or(first);
        let judged = board.consoles.iter().position(|other| other.name == console).unwrap_or(0) as u8;
        let mut teller = Teller::new(self.json, judged, board.tool_channel());
        if let Some(log) = &self.again {
            let log = PathBuf::from(log);
            let opened = File::open(&log)
                .and_then(|file| rehearing::judge(file, trial, first, values, &mut |written| teller.take(written)));
            let found = opened.map_err(|error| (1, format!("{}: {error}", log.display())))?;
            return teller.found(&found);
        }
        let directory = saifile.parent().map(Path::to_path_buf).unwrap_or_default();
        let images = images(&trial, board, &directory).map_err(wrong)?;
        let mut kept = self.record.as_ref().map(File::create).transpose().map_err(trouble)?;
        // Whoever is started by it may be anywhere.
        let file = std::path::absolute(file).map_err(trouble)?.into_os_string();
        let whose = Whose { file, board: board.name.clone(), directory: self.directory(), begins: Begins::Ourselves };
        let begun = Visit::begin_by(&whose, board, "test").map(drop);
        let (board, places, cancel) = (board.clone(), Places::default(), Stop::never());
        let began_ns = monotonic_ns();
        let wanted =
            Wanted { whose, board, places, trial, images, values, first_step: 0, began_ns, cancel, gate: None };
        let last = Cell::new(0);
        let mut log = |micros: u64, written: &Written| -> io::Result<()> {
            last.set(micros);
            if let Some(kept) = &mut kept {
                let mut bytes = Vec::new();
                written.encode(micros, &mut bytes);
                kept.write_all(&bytes).map_err(|error| {
                    let path = self.record.as_ref().map(PathBuf::from).unwrap_or_default();
                    // Of no kind: what follows a piece of a record is no record.
                    io::Error::other(format!("{} cannot be written: {error}", path.display()))
                })?;
            }
            teller.take(written);
            Ok(())
        };
        let step = u32::from(wanted.images.is_empty());
        let found = match begun.map(|()| trying::run(wanted, &mut log)) {
            Err(error) => Found::infra(error.to_string(), step),
            Ok(Ended::Found(found)) => found,
            Ok(Ended::Busy(why)) => Found::infra(why, 0),
            // Nobody stops it but who kills it.
            Ok(Ended::GivenUp) => return Err((1, "it was given up".to_string())),
        };
        let ended = log(last.get(), &Written::Record(Record::Verdict(found.verdict())));
        let status = teller.found(&found)?;
        ended
            .and_then(|()| kept.as_ref().map_or(Ok(()), File::sync_all))
            .map_err(|error| (UNKNOWN, error.to_string()))?;
        Ok(status)
    }
}
