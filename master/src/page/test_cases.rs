//! Files and output of an attempt → its test cases.
//!
//! JUnit and TAP files among the artifacts count; where there are none, what a board was judged by, else what CTest, TAP producers and
//! other runners print. What a board printed before it was reset is an older program's.

use super::junit::{self, TestCase};
use super::log_lines::{Seen, seen};
use sai_core::axis::{Case, CaseResult, Entry};
use sai_core::job::JobKey;
use sai_core::record::Artifact;
use sai_core::results::{Format, Results};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of the largest file that is read; suites of ten thousand cases have some megabytes.
const FILE_BYTES: u64 = 16 << 20;

/// Files that are read of one attempt.
const FILES: usize = 200;

/// Bytes of files that are read of one attempt.
const ALL_BYTES: u64 = 32 << 20;

/// Bytes of output that are looked through for results, a tenth of a second.
const OUTPUT_BYTES: u64 = 16 << 20;

/// Cases that are remembered of attempts that were looked at, some 10 MB at most.
const REMEMBERED: usize = 50_000;

/// Attempts of which that is.
const ATTEMPTS: usize = 100;

/// Formats that are known by what is printed, and are hardly mistaken for anything else.
const PRINTED: [Format; 4] = [Format::Tap, Format::Ctest, Format::Gtest, Format::Libtest];

/// The cases of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cases {
    /// Those that failed first, else as they stand in their files.
    pub cases: Vec<TestCase>,
    /// Files that say to be of tests and cannot be read.
    pub troubles: Vec<String>,
}

impl Cases {
    /// How many ended so.
    pub fn count(&self, result: CaseResult) -> usize {
        self.cases.iter().filter(|case| case.result == result).count()
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &TestCase> {
        self.cases.iter().filter(|case| case.result == CaseResult::Failed)
    }

    /// How the case of this name ended; one that failed anywhere failed.
    pub fn of(&self, name: &str) -> Option<&TestCase> {
        let mut named = self.cases.iter().filter(|case| case.name == name);
        named.clone().find(|case| case.result == CaseResult::Failed).or_else(|| named.next())
    }
}

fn ends(path: &str, end: &str) -> bool {
    path.to_ascii_lowercase().ends_with(end)
}

fn is_of_tests(artifact: &&Artifact) -> bool {
    ends(&artifact.path, ".xml") || ends(&artifact.path, ".tap")
}

/// Bytes that are read for the cases of an attempt.
pub fn cost(artifacts: &[Artifact], log_bytes: u64) -> u64 {
    let sizes = artifacts.iter().filter(is_of_tests).take(FILES).map(|artifact| artifact.size);
    let files: u64 = sizes.filter(|size| *size <= FILE_BYTES).sum();
    if files > 0 { files.min(ALL_BYTES) } else { log_bytes.min(OUTPUT_BYTES) }
}

/// Reads the cases of an attempt: `open` opens a file of it, `log` its log.
pub fn read(
    artifacts: &[Artifact],
    open: impl Fn(&Artifact) -> io::Result<Box<dyn Read>>,
    log: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
) -> Cases {
    let mut found = Cases::default();
    let mut left = ALL_BYTES;
    for artifact in artifacts.iter().filter(is_of_tests).take(FILES) {
        if artifact.size > FILE_BYTES.min(left) || found.cases.len() >= junit::CASES {
            continue;
        }
        left -= artifact.size;
        let mut bytes = Vec::new();
        if open(artifact).and_then(|mut file| file.read_to_end(&mut bytes)).is_err() {
            found.troubles.push(format!("{}: it cannot be read", artifact.path));
        } else if ends(&artifact.path, ".tap") {
            let mut tap = Printed::new(&[Format::Tap]);
            bytes.split(|byte| *byte == b'\n').for_each(|line| tap.line(line));
            found.cases.extend(tap.finish());
        } else if junit::is_of_tests(&bytes) {
            match junit::cases(&bytes) {
                Ok(cases) => found.cases.extend(cases),
                Err(why) => found.troubles.push(format!("{}: {why}", artifact.path)),
            }
        }
    }
    if found.cases.is_empty() && found.troubles.is_empty() {
        let (mut printed, mut judged) = (Printed::new(&PRINTED), Vec::new());
        let read = log().and_then(|mut log| {
            seen(&mut *log, OUTPUT_BYTES, |seen| {
                match seen {
                    Seen::Line(line) if !line.before => printed.line(line.text),
                    Seen::Entry(Entry::Case(case)) if judged.len() < junit::CASES => judged.push(whole(case)),
                    Seen::Entry(Entry::Mark(mark)) if mark.judged == Some(true) => printed = Printed::new(&PRINTED),
                    Seen::Line(_) | Seen::Entry(_) => {}
                }
                true
            })
        });
        if read.is_ok() {
            found.cases = if judged.is_empty() { printed.finish() } else { judged };
        }
    }
    found.cases.truncate(junit::CASES);
    let (mut cases, others): (Vec<_>, Vec<_>) =
        found.cases.into_iter().partition(|case| case.result == CaseResult::Failed);
    cases.extend(others);
    Cases { cases, ..found }
}

/// Lines as each of some formats reads them.
struct Printed(Vec<(Format, Results, Vec<Case>)>);

impl Printed {
    fn new(formats: &[Format]) -> Self {
        Self(formats.iter().map(|format| (*format, Results::new(*format), Vec::new())).collect())
    }

    fn line(&mut self, line: &[u8]) {
        for (_, results, cases) in &mut self.0 {
            if cases.len() < junit::CASES {
                results.line(line, 0, cases);
            }
        }
    }

    /// The cases of the format that found most.
    fn finish(self) -> Vec<TestCase> {
        // What looks like a line of TAP is none without a plan.
        let sure = |(format, results, _): &(Format, Results, Vec<Case>)| {
            *format != Format::Tap || results.summary().planned.is_some()
        };
        let best = self.0.into_iter().filter(sure).max_by_key(|(_, _, cases)| cases.len());
        let whole = |case: sai_core::axis::Case| TestCase {
            name: case.name,
            result: case.result,
            millis: None,
            text: case.text.unwrap_or_default(),
        };
        best.map_or_else(Vec::new, |(_, _, cases)| cases.into_iter().map(whole).collect())
    }
}

fn whole(case: Case) -> TestCase {
    TestCase { name: case.name, result: case.result, millis: None, text: case.text.unwrap_or_default() }
}

/// Cases of attempts that were looked at, since reading them takes a moment.
#[derive(Default)]
pub struct RememberedCases(Mutex<VecDeque<(JobKey, u64, Arc<Cases>)>>);

impl RememberedCases {
    /// Whether those of an attempt are at hand.
    pub fn has(&self, key: JobKey) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|(known, ..)| *known == key)
    }

    /// Those of an attempt whose log has so many bytes.
    pub fn get(&self, key: JobKey, length: u64, read: impl FnOnce() -> Cases) -> Arc<Cases> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., known)) = lock().iter().find(|(known, at, _)| (*known, *at) == (key, length)) {
            return known.clone();
        }
        let cases = Arc::new(read());
        let mut known = lock();
        known.push_back((key, length, cases.clone()));
        let all = |known: &VecDeque<(JobKey, u64, Arc<Cases>)>| -> usize {
            known.iter().map(|(.., cases)| cases.cases.len()).sum()
        };
        while known.len() > ATTEMPTS || all(&known) > REMEMBERED {
            known.pop_front();
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::axis::{Mark, What};
    use sai_core::record::{ChannelStart, Record, encode};

    #[test]
    fn an_attempt_costs_what_is_read_of_it() {
        let file = |path: &str, size: u64| {
            let (path, sha256) = (path.to_string(), String::new());
            Artifact { stream: 1, path, size, sha256, executable: false }
        };
        assert_eq!(cost(&[file("out/image.bin", 1 << 40), file("a.XML", 700), file("b.tap", 7)], 1 << 40), 707);
        assert_eq!(cost(&[file("huge.xml", 1 << 40)], 500), 500, "it is passed over");
        assert_eq!(cost(&[], 1 << 40), OUTPUT_BYTES);
        assert_eq!(cost(&[file("a.xml", FILE_BYTES), file("b.xml", FILE_BYTES), file("c.xml", 1)], 0), ALL_BYTES);
    }

    #[test]
    fn what_a_board_printed_before_its_reset_is_none_of_its_cases() {
        let mark = Mark { what: What::Reset, name: None, text: None, offsets: None, judged: Some(true), away_ms: None };
        let case = |name: &str| Case { name: name.to_string(), result: CaseResult::Passed, at: Some(7), text: None };
        for judged in [false, true] {
            let mut log = Vec::new();
            for (channel, name) in [(1, "serial:main"), (2, "serial:main:before")] {
                encode(&Record::Channel(channel, ChannelStart { name: name.to_string() }), 0, &mut log);
            }
            encode(&Record::Data(2, b"1..1\nnot ok 1 - long ago\n".to_vec()), 0, &mut log);
            encode(&Record::Data(1, b"1..1\nnot ok 1 - older\n".to_vec()), 1, &mut log);
            Entry::Mark(mark.clone()).encode(2, &mut log);
            encode(&Record::Data(2, b"not ok 1 - late\n".to_vec()), 3, &mut log);
            encode(&Record::Data(1, b"1..2\nok 1 - uart\nok 2 - led\n".to_vec()), 3, &mut log);
            if judged {
                // What a format says that nobody would know by its looks.
                Entry::Case(case("relay")).encode(4, &mut log);
            }
            let open = |_: &Artifact| -> io::Result<Box<dyn Read>> { panic!("there are no files") };
            let cases = read(&[], open, || Ok(Box::new(io::Cursor::new(log))));
            let names: Vec<&str> = cases.cases.iter().map(|case| case.name.as_str()).collect();
            assert_eq!(names, if judged { vec!["relay"] } else { vec!["uart", "led"] });
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let known = RememberedCases::default();
        let (name, text) = ("a".to_string(), String::new());
        let case = TestCase { name, result: CaseResult::Passed, millis: None, text };
        let many = |count: usize| Cases { cases: vec![case.clone(); count], ..Cases::default() };
        for job in 0..300 {
            known.get(JobKey { job, attempt: 1 }, 7, || many(1000));
        }
        assert_eq!(known.0.lock().unwrap().len(), 50);
        let last = JobKey { job: 299, attempt: 1 };
        assert!(known.has(last) && !known.has(JobKey { job: 1, attempt: 1 }));
        assert_eq!(known.get(last, 7, || panic!("it is remembered")).cases.len(), 1000);
        assert_eq!(known.get(last, 8, || many(1)).cases.len(), 1);
    }
}
