//! Query and a log → the lines that match: how many, those near a line, and the next and previous of it.
//!
//! The only file that knows regex-automata. Its lazy automaton reads each byte once whatever the expression is, in memory
//! that is bounded here, so that an expression from outside can be slow in no way that a plain text could not.

use super::log_lines::lines;
use super::route::field;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of what is searched for.
const QUERY_BYTES: usize = 256;

/// Bytes that a compiled expression may take, and as many for the states of its automaton.
const COMPILED_BYTES: usize = 1 << 20;

/// Bytes of output that are searched: some seconds of one processor.
pub const SEARCHED_BYTES: u64 = 1 << 30;

/// Searches at once. They take a processor each, and reading pages comes first.
const SEARCHES: u32 = 2;

/// Lines that are quoted.
const QUOTED: usize = 50;

/// Bytes of a line that are quoted.
const QUOTE_BYTES: usize = 300;

/// Lines around the one looked at of which it is known whether they match: more than a page shows.
const AROUND: u64 = 6000;

/// What is searched for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// A text, or an expression.
    pub text: String,
    /// Whether capitals count.
    pub case: bool,
    /// Whether it is a regular expression.
    pub regex: bool,
}

impl Query {
    /// Reads `q`, `case` and `regex` of an address; none when nothing is searched for.
    pub fn of(query: &str) -> Option<Self> {
        let text = field(query, "q").filter(|text| !text.is_empty())?;
        let set = |name: &str| field(query, name).is_some_and(|value| value == "1");
        Some(Self { text, case: set("case"), regex: set("regex") })
    }

    fn compile(&self) -> Result<DFA, String> {
        if self.text.len() > QUERY_BYTES {
            return Err(format!("at most {QUERY_BYTES} bytes can be searched for"));
        }
        let pattern = if self.regex { self.text.clone() } else { literal(&self.text) };
        // Without Unicode's tables, which are larger than all else of it: classes and cases are ASCII's.
        let syntax = syntax::Config::new().unicode(false).utf8(false).case_insensitive(!self.case);
        DFA::builder()
            .syntax(syntax)
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(COMPILED_BYTES)))
            .configure(DFA::config().cache_capacity(COMPILED_BYTES).skip_cache_capacity_check(true))
            .build(&pattern)
            .map_err(|error| {
                let mut source: &dyn std::error::Error = &error;
                while let Some(deeper) = source.source() {
                    source = deeper;
                }
                // A parser's message points into the expression over several lines; the last one says what is wrong.
                let message = source.to_string();
                let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
                format!("this is no expression: {last}")
            })
    }
}

/// A text as an expression that matches it alone: what could mean something is written as its number.
fn literal(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if character.is_ascii() && !character.is_ascii_alphanumeric() {
            out.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

/// One line that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its number.
    pub line: u64,
    /// The step it is in, from 0.
    pub step: Option<u32>,
    /// What it says, the beginning of it.
    pub text: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many lines match.
    pub count: u64,
    /// The line looked at, or the first one that matches.
    pub at: u64,
    /// The matching line before it, and the one after it.
    pub previous: Option<u64>,
    /// See there.
    pub next: Option<u64>,
    /// The first ones from it on.
    pub quoted: Vec<Hit>,
    /// Numbers of those around it.
    pub near: Vec<u64>,
    /// Whether the log is longer than what is searched.
    pub cut: bool,
}

/// Searches a log, seen from `at` if a line is looked at.
///
/// # Errors
/// A sentence: what is wrong with the query, that others are searching, or that the log cannot be read.
pub fn search(
    open: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
    query: &Query,
    at: Option<u64>,
) -> Result<Found, String> {
    let dfa = query.compile()?;
    let _turn = Turn::take().ok_or("others are searching just now; try again in a moment")?;
    let mut cache = dfa.create_cache();
    let mut found = Found { at: at.unwrap_or(0), ..Found::default() };
    let mut failed = None;
    let read = open().and_then(|mut log| {
        lines(&mut *log, SEARCHED_BYTES, |line| match matches(&dfa, &mut cache, line.text) {
            Ok(false) => true,
            Ok(true) => {
                found.add(line.number, line.step, line.text);
                true
            }
            Err(why) => {
                failed = Some(why);
                false
            }
        })
    });
    match (read, failed) {
        (_, Some(why)) => Err(why),
        (Ok(whole), None) => {
            // Lines end in another order than they begin where several channels print at once.
            found.near.sort_unstable();
            Ok(Found { cut: !whole, ..found })
        }
        (Err(error), None) if error.kind() == io::ErrorKind::NotFound => Ok(found),
        (Err(error), None) => Err(format!("the log cannot be read: {error}")),
    }
}

fn matches(dfa: &DFA, cache: &mut Cache, text: &[u8]) -> Result<bool, String> {
    let input = Input::new(text).anchored(Anchored::No).earliest(true);
    let end = dfa.try_search_fwd(cache, &input).map_err(|error| format!("this cannot be searched for: {error}"))?;
    Ok(end.is_some())
}

impl Found {
    fn add(&mut self, line: u64, step: Option<u32>, text: &[u8]) {
        self.count += 1;
        if self.at == 0 {
            self.at = line;
        }
        if line < self.at {
            self.previous = self.previous.max(Some(line));
        } else if self.quoted.len() < QUOTED {
            let text = String::from_utf8_lossy(text.get(..QUOTE_BYTES).unwrap_or(text)).into_owned();
            self.quoted.push(Hit { line, step, text });
        }
        if line > self.at {
            self.next = Some(self.next.map_or(line, |next| next.min(line)));
        }
        let near: RangeInclusive<u64> = self.at.saturating_sub(AROUND)..=self.at.saturating_add(AROUND);
        if near.contains(&line) {
            self.near.push(line);
        }
    }
}

/// One of the searches that may run at once.
struct Turn;

static RUNNING: AtomicU32 = AtomicU32::new(0);

impl Turn {
    fn take() -> Option<Self> {
        let more = |running: u32| (running < SEARCHES).then_some(running + 1);
        RUNNING.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::record::{ChannelStart, Record, StepEnd, StepStart, encode};

    fn log() -> Vec<u8> {
        let mut log = Vec::new();
        let mut add = |record: Record| encode(&record, 0, &mut log);
        add(Record::Channel(1, ChannelStart { name: "stdout".to_string() }));
        add(Record::Channel(2, ChannelStart { name: "stderr".to_string() }));
        add(Record::StepStart(StepStart { step: 0, text: "make".to_string() }));
        add(Record::Data(1, b"one Error\nhalf an ".to_vec()));
        add(Record::Data(2, b"error: \x1b[31mred\x1b[0m text\n".to_vec()));
        add(Record::Data(1, b"error\n10 %\r20 %\rdone (1+1)".to_vec()));
        add(Record::StepEnd(StepEnd { step: 0, status: 0 }));
        add(Record::StepStart(StepStart { step: 1, text: "test".to_string() }));
        add(Record::Data(1, "Größe \u{1F600} error\nthe end".as_bytes().to_vec()));
        log
    }

    fn find(text: &str, case: bool, regex: bool, at: Option<u64>) -> Result<Found, String> {
        let query = Query { text: text.to_string(), case, regex };
        search(|| Ok(Box::new(io::Cursor::new(log()))), &query, at)
    }

    fn numbers(found: Result<Found, String>) -> Vec<u64> {
        found.unwrap().quoted.iter().map(|hit| hit.line).collect()
    }

    #[test]
    fn texts_cases_and_expressions_are_found_in_all_steps() {
        assert_eq!(numbers(find("error", false, false, None)), [1, 3, 2, 5]);
        assert_eq!(numbers(find("Error", true, false, None)), [1]);
        assert_eq!(numbers(find("(1+1)", false, false, None)), [4]);
        assert_eq!(numbers(find("^error: red t", false, true, None)), [3], "as it is shown, without colours");
        assert_eq!(numbers(find("^done", false, true, None)), [4], "what a carriage return left");
        assert_eq!(numbers(find("end$", false, true, None)), [6], "a line without an end");
        assert_eq!(numbers(find("Größe \u{1F600}", true, false, None)), [5]);
        assert_eq!(numbers(find("t[^x]*e", false, true, None)), [3, 6], "never over the end of a line");
        assert_eq!(find("error", false, false, None).unwrap().quoted[3].step, Some(1));
    }

    #[test]
    fn a_line_has_a_next_and_a_previous_one() {
        let found = find("error", false, false, Some(3)).unwrap();
        assert_eq!((found.count, found.previous, found.next), (4, Some(2), Some(5)));
        let found = find("error", false, false, None).unwrap();
        assert_eq!((found.at, found.previous, found.next), (1, None, Some(2)));
        assert_eq!(find("nowhere", false, false, None).unwrap(), Found::default());
    }

    #[test]
    fn odd_and_hostile_queries_are_refused_in_a_sentence() {
        for bad in ["(", "[z-a]", "a{1,99999999}", "((((a{1,99}){1,99}){1,99}){1,99})", "\\p{Greek}", "(?P<a", "*"] {
            let why = find(bad, false, true, None).unwrap_err();
            assert!(why.starts_with("this is no expression: ") && !why.contains('\n'), "{bad}: {why}");
        }
        assert!(find(&"x".repeat(257), false, false, None).unwrap_err().contains("256"));
        assert_eq!(Query::of("q=&case=1"), None);
        let query = Query { text: "a b".to_string(), case: true, regex: false };
        assert_eq!(Query::of("line=3&q=a+b&case=1&regex=0"), Some(query));
    }
}
