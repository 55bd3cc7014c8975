//! The files of a rig whose test has ended → each log of a trial among them, judged once more: it ends as it did live, with the same
//! cases and notes.
//!
//! Every rig ends with this, whatever its test looks at, so that no log is forgotten.

use sai_buddy::rehearing;
use sai_core::axis::{Case, Entry};
use sai_core::bench;
use sai_core::job::Verdict;
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};
use sai_core::repo_spec;
use sai_core::trial::{self, Trial};
use sai_core::trying::Written;
use std::fs;
use std::path::Path;

/// The board and the configuration of which all that is recorded is.
const BOARD: &str = "b";
const CONFIGURATION: &str = "fw";

/// What a log says of itself.
#[derive(Debug, Default)]
struct Recorded {
    verdict: Option<Verdict>,
    cases: Vec<Case>,
    notes: Vec<String>,
    begun: bool,
}

/// The log that a file is, if it is a whole one of a trial that was judged.
fn recorded(bytes: &[u8]) -> Option<Recorded> {
    let mut recorded = Recorded::default();
    let read = Decoder::new().push(bytes, |item| match (&item, Entry::of(&item)) {
        (Item::Record(_, Record::Verdict(verdict)), _) => recorded.verdict = Some(verdict.clone()),
        (Item::Record(_, Record::Note(note)), _) => recorded.notes.push(note.clone()),
        (_, Some(Entry::Case(case))) => recorded.cases.push(case),
        (_, Some(Entry::Mark(mark))) => recorded.begun |= mark.judged == Some(true),
        _ => {}
    });
    (read.is_ok() && recorded.begun && recorded.verdict.is_some()).then_some(recorded)
}

/// The rules by which it was judged, and the name of the board's first console.
fn rules(top: &Path) -> (Trial, String) {
    let (spec, _) = repo_spec::read(&fs::read(top.join(".sai.json")).expect("a saifile")).expect("it is read");
    let mut platforms = spec.platforms.iter();
    let found = platforms.find_map(|platform| spec.board_of(CONFIGURATION, &platform.name));
    let trial = trial::all_of(&found.expect("a board").1.text).expect("a trial").alone().expect("one board");
    let text = fs::read(top.join("boards.json")).expect("a bench");
    let bench = bench::read("boards.json", &text).expect("it is read");
    let console = bench.board(BOARD).and_then(|board| board.consoles.first()).expect("a console");
    (trial, console.name.clone())
}

/// Judges each of them, for which `${SAI_COMMIT}` stands for this: how many.
///
/// # Panics
/// When one is judged otherwise.
pub fn all(top: &Path, commit: &str) -> usize {
    let files = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let logs = files.filter_map(|path| fs::read(path).ok());
    logs.filter_map(|bytes| Some((recorded(&bytes)?, bytes)))
        .map(|(recorded, bytes)| one(top, commit, &recorded, &bytes))
        .count()
}

fn one(top: &Path, commit: &str, recorded: &Recorded, bytes: &[u8]) {
    let (trial, first) = rules(top);
    let values = Map::from([("SAI_COMMIT".to_string(), commit.to_string())]);
    let (mut cases, mut notes) = (Vec::new(), Vec::new());
    let mut tell = |written: &Written| match written {
        Written::Entry(Entry::Case(case)) => cases.push(case.clone()),
        Written::Record(Record::Note(note)) => notes.push(note.clone()),
        _ => {}
    };
    let found = rehearing::judge(bytes, trial, &first, values, &mut tell)
        .unwrap_or_else(|why| panic!("it cannot be judged again: {why}: {recorded:?}"));
    assert_eq!(Some(found.verdict()), recorded.verdict, "{recorded:?}");
    assert_eq!(cases, recorded.cases);
    assert!(notes.iter().all(|note| recorded.notes.contains(note)), "{notes:?} of {recorded:?}");
}
