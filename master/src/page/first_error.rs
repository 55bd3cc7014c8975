//! Lines of a step that failed → the one that says what went wrong, and what is to be read with it.
//!
//! A pure machine. Tools say what is wrong in few ways; the first line that is one of the sure ones decides, else the
//! first of the likely ones, else the last thing that was said.

use super::log_lines::Line;
use sai_core::job::JobKey;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Lines that are quoted, and of a trace, whose last one says what it is about.
const QUOTED: usize = 5;
/// See there.
const TRACED: usize = 16;

/// Bytes of a line that are quoted.
const QUOTE_BYTES: usize = 400;

/// Ends of attempts that are remembered, since a large log takes a moment to read: far more than people look at at once.
const REMEMBERED: usize = 64;

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstError {
    /// The line's number.
    pub line: u64,
    /// That line and those after it, with their numbers.
    pub quote: Vec<(u64, String)>,
}

/// How sure it is that a line says what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Nothing,
    Said,
    Consequence,
    Likely,
    Sure,
}

/// Reads the lines of a log.
#[derive(Default)]
pub struct Finder {
    step: Option<u32>,
    best: Option<(Weight, FirstError)>,
    /// Lines that still belong to the quote.
    wanted: usize,
    trace: bool,
}

impl Finder {
    /// A finder for a job that failed in this step; in any, if none decided.
    pub fn new(step: Option<u32>) -> Self {
        Self { step, ..Self::default() }
    }

    /// Takes the next line.
    pub fn line(&mut self, line: &Line<'_>) {
        // What a board had printed before is another job's.
        if line.before || (self.step.is_some() && line.step != self.step) {
            return;
        }
        let weight = weight(line.text, line.stderr);
        let best = self.best.as_ref().map_or(Weight::Nothing, |(weight, _)| *weight);
        // The first of the sure and likely ones counts, and the last of what is merely said.
        if weight > best || (weight == best && weight == Weight::Said) {
            self.trace = line.text.starts_with(b"Traceback (most recent call last)");
            self.wanted = if self.trace { TRACED } else { QUOTED };
            self.best = Some((weight, FirstError { line: line.number, quote: Vec::new() }));
        }
        if let (Some((_, found)), true) = (&mut self.best, self.wanted > 0) {
            let text = line.text.get(..QUOTE_BYTES).unwrap_or(line.text);
            let inside = line.text.is_empty() || line.text.starts_with(b" ");
            let last = self.trace && !inside && !found.quote.is_empty();
            found.quote.push((line.number, String::from_utf8_lossy(text).into_owned()));
            self.wanted = if last { 0 } else { self.wanted - 1 };
        }
    }

    /// What went wrong.
    pub fn finish(self) -> Option<FirstError> {
        let (_, mut found) = self.best?;
        while found.quote.len() > 1 && found.quote.last().is_some_and(|(_, text)| text.trim().is_empty()) {
            found.quote.pop();
        }
        Some(found)
    }
}

/// What tools begin such a line with.
const SURE_STARTS: [&str; 27] = [
    "error:",
    "error[",
    "Error:",
    "ERROR:",
    "ERROR ",
    "E: ",
    "E   ",
    "fatal:",
    "FATAL",
    "FAIL:",
    "FAIL ",
    "FAILED ",
    "--- FAIL:",
    "[  FAILED  ]",
    "CMake Error",
    "Traceback (most recent call last)",
    "Exception in thread",
    "npm ERR!",
    "npm error",
    "panic:",
    "Segmentation fault",
    "Bus error",
    "Killed",
    "Aborted",
    "ld: ",
    "collect2: fatal",
    "##[error]",
];

/// What is somewhere in such a line.
const SURE_PARTS: [&str; 20] = [
    ": error:",
    ": fatal error:",
    ": error: ",
    ": Error: ",
    ": undefined reference to",
    ": undefined symbol:",
    "' panicked at ",
    ") panicked at ",
    "AssertionError",
    "Assertion `",
    "assertion failed",
    "Assertion failed",
    "AddressSanitizer",
    "ERROR SUMMARY:",
    "***Failed",
    ": command not found",
    ": not found",
    "No space left on device",
    "Unable to locate package",
    "unable to access '",
];

/// What is said when something else has gone wrong before.
const CONSEQUENCES: [&str; 6] =
    ["make: ***", "make[", "ninja: build stopped", "collect2: error", "could not compile", "FAILED (failures="];

/// What a test that may fail says of itself (TAP 14).
const PARDONED: [&str; 2] = [concat!("# TO", "DO"), "# SKIP"];

fn weight(line: &[u8], stderr: bool) -> Weight {
    let text = String::from_utf8_lossy(line.get(..QUOTE_BYTES).unwrap_or(line));
    let text = text.trim_start();
    if text.is_empty() {
        return Weight::Nothing;
    }
    let not_ok = text.starts_with("not ok ") && !PARDONED.iter().any(|word| text.contains(word));
    if CONSEQUENCES.iter().any(|part| text.contains(part)) {
        return if text.contains("***") || !text.starts_with("make[") { Weight::Consequence } else { Weight::Nothing };
    }
    if not_ok
        || SURE_STARTS.iter().any(|start| text.starts_with(start))
        || SURE_PARTS.iter().any(|part| text.contains(part))
    {
        return Weight::Sure;
    }
    if likely(text) {
        return Weight::Likely;
    }
    if stderr { Weight::Said } else { Weight::Nothing }
}

/// Whether a line says that something went wrong, in words that could mean something else: the words `error` or `failed`
/// by themselves, and neither none of them nor a name or option made of them.
fn likely(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let word = |word: &str| {
        lower.match_indices(word).any(|(at, _)| {
            let (before, after) =
                (lower.get(..at).unwrap_or_default(), lower.get(at + word.len()..).unwrap_or_default());
            let joined = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '/');
            let none = [" 0", "no ", "0 ", "without "].iter().any(|no| before.ends_with(no)) || before == "0 ";
            !before.ends_with(joined) && !after.starts_with(joined) && !none && !after.starts_with("s: 0")
        })
    };
    word("error") || word("errors") || word("failed") || word("failure") || lower.contains("no such file or directory")
}

/// One remembered: attempt and bytes of its log, and what was found.
type Known = (JobKey, u64, Option<FirstError>);

/// What was found in logs that have ended, the latest last.
#[derive(Default)]
pub struct Remembered(Mutex<VecDeque<Known>>);

impl Remembered {
    /// What was found in this log, or else what `find` finds.
    pub fn get(&self, key: JobKey, bytes: u64, find: impl FnOnce() -> Option<FirstError>) -> Option<FirstError> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, known)) = lock().iter().find(|(known, length, _)| *known == key && *length == bytes) {
            return known.clone();
        }
        let found = find();
        let mut known = lock();
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back((key, bytes, found.clone()));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str) -> Option<FirstError> {
        let mut finder = Finder::new(Some(1));
        let other = Line { number: 1, step: Some(0), stderr: true, before: false, text: b"error: of another step" };
        let older = Line { number: 1, step: Some(1), stderr: true, before: true, text: b"error: of another job" };
        finder.line(&other);
        finder.line(&older);
        for (index, line) in text.lines().enumerate() {
            let (stderr, text) = line.strip_prefix("2>").map_or((false, line), |text| (true, text));
            finder.line(&Line {
                number: index as u64 + 2,
                step: Some(1),
                stderr,
                before: false,
                text: text.as_bytes(),
            });
        }
        finder.finish()
    }

    fn quoted(text: &str) -> String {
        find(text).map(|found| found.quote[0].1.clone()).unwrap_or_default()
    }

    #[test]
    fn what_tools_say_first_is_found() {
        for (log, wanted) in [
            (
                "cc -Werror -c src/error_handling.c\nmain.c:1:2: error: bad\nmake: *** [x] Error 1",
                "main.c:1:2: error: bad",
            ),
            ("make[1]: *** [x] Error 2\nmake: *** [all] Error 2", "make[1]: *** [x] Error 2"),
            (
                "   Compiling x\nerror[E0308]: mismatched types\nerror: could not compile `x`",
                "error[E0308]: mismatched types",
            ),
            ("running\nthread 'main' panicked at src/x.rs:1:2:\nboom", "thread 'main' panicked at src/x.rs:1:2:"),
            ("ok 1 - a\nnot ok 2 - b # SKIP later\nnot ok 3 - c", "not ok 3 - c"),
            ("PASS: a\nFAIL: b\n# FAIL: 1", "FAIL: b"),
            ("--- PASS: A\n--- FAIL: TestB (0.00s)", "--- FAIL: TestB (0.00s)"),
            ("E: Unable to locate package nothing", "E: Unable to locate package nothing"),
            ("sh: 1: frobnicate: not found", "sh: 1: frobnicate: not found"),
            ("0 errors, 0 failed\n12 passed; 3 failed", "12 passed; 3 failed"),
            ("no error here\nfine\n2>something odd\n2>the very last word\nbye", "the very last word"),
            (
                "CMake Error at CMakeLists.txt:3 (find_package):\n  Could not",
                "CMake Error at CMakeLists.txt:3 (find_package):",
            ),
            (
                "x.o: in function `main': x.c:(.text+0x5): undefined reference to `f'",
                "x.o: in function `main': x.c:(.text+0x5): undefined reference to `f'",
            ),
        ] {
            assert_eq!(quoted(log), wanted);
        }
        assert_eq!(find("nothing\nto see"), None);
    }

    #[test]
    fn a_trace_is_quoted_to_the_line_that_says_what_it_is() {
        let log =
            "before\nTraceback (most recent call last):\n  File \"a.py\", line 1\n    f()\nValueError: odd\nafter";
        let found = find(log).unwrap();
        assert_eq!((found.line, found.quote.len()), (3, 4));
        assert_eq!(found.quote[3], (6, "ValueError: odd".to_string()));
    }

    #[test]
    fn what_was_found_in_a_log_that_has_ended_is_found_once() {
        let remembered = Remembered::default();
        let key = |job| JobKey { job, attempt: 1 };
        let error = FirstError { line: 7, quote: Vec::new() };
        assert_eq!(remembered.get(key(1), 10, || Some(error.clone())), Some(error.clone()));
        assert_eq!(remembered.get(key(1), 10, || None), Some(error));
        assert_eq!(remembered.get(key(1), 11, || None), None);
        for job in 0..1000 {
            remembered.get(key(job), 1, || None);
        }
        assert_eq!(remembered.0.lock().unwrap().len(), REMEMBERED);
    }
}
