//! `board` of a saifile → the boards on which what was built is run, each checked as a whole.

use super::{BOARD_STEPS_MAX, BOARDS_MAX, Board, Configuration, Reader, RepoSpec, selects};
use crate::glob;
use crate::json::{self, Node, Value, shown};
use crate::limits::JOBS_MAX;
use crate::ordered::Map;
use crate::settings;
use crate::trial;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Reader<'_> {
    /// A board, or an array of them. Unlike elsewhere in the file an unknown key is an error: what was to fail a board and is
    /// misspelt would pass it.
    pub(super) fn boards(&mut self, value: &Value, path: &str) -> Vec<Board> {
        let mut boards = Vec::new();
        match &value.value {
            Node::Object(_) => boards.extend(self.board(value, path)),
            Node::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    boards.extend(self.board(element, &format!("{path}[{index}]")));
                }
            }
            _ => {
                self.wrong(value.at, path, "an object that says how a board is flashed and judged, or an array of such")
            }
        }
        boards
    }

    fn board(&mut self, value: &Value, path: &str) -> Option<Board> {
        let (boards, steps) = trial::size_of(value);
        self.boards += boards;
        self.board_steps += steps;
        // Looked at before anything is tried, so that what one file costs has a bound.
        if self.boards > BOARDS_MAX || self.board_steps > BOARD_STEPS_MAX {
            let expected = format!("at most {BOARDS_MAX} boards, of {BOARD_STEPS_MAX} steps together, in a file");
            self.wrong(value.at, path, expected);
            return None;
        }
        let mut reader = settings::Reader::new();
        let trials = trial::read_all(&mut reader, value, path);
        let errors = reader.into_errors();
        let good = errors.is_empty();
        for error in errors {
            self.error(error);
        }
        // What is compiled is let go: of a thousand boards it would be too much.
        let (images, timeout_s) = (trials.images(), trials.timeout_ms().div_ceil(1000));
        let text = json::written(value);
        good.then_some(Board { at: value.at, wanted: trials.wanted, images, timeout_s, text })
    }

    /// Images travel as what their job keeps, so that those which no `artifacts` keep would never come.
    pub(super) fn images(&mut self, spec: &RepoSpec) {
        for configuration in &spec.configurations {
            for board in configuration.boards.iter().flatten() {
                if let Some(image) = board.missing_of(configuration) {
                    let path = format!("configurations.{}.board.flash", shown(&configuration.name));
                    let expected = format!("a file that the configuration's artifacts keep, found `{}`", shown(image));
                    self.wrong(board.at, &path, expected);
                }
            }
        }
        // A platform's are run for all that is built there and says nothing of boards itself.
        let mut pairs = 0;
        for platform in spec.platforms.iter().filter(|platform| !platform.boards.is_empty()) {
            let built = |one: &&Configuration| one.boards.is_none() && selects(&one.selector, platform);
            for configuration in spec.configurations.iter().filter(built) {
                pairs += platform.boards.len();
                // Those are more jobs than there may be, of which another error tells.
                if pairs > JOBS_MAX {
                    return;
                }
                for board in &platform.boards {
                    if let Some(image) = board.missing_of(configuration) {
                        let path = format!("platforms.{}.board.flash", shown(&platform.name));
                        let expected = format!(
                            "a file that the artifacts of `{}` keep, which is built there (or an empty list as its `board`), \
                             found `{}`",
                            shown(&configuration.name),
                            shown(image)
                        );
                        self.wrong(board.at, &path, expected);
                    }
                }
            }
        }
    }

    /// No configuration is called as what another's is at a board: needs and pages could not tell them apart.
    pub(super) fn names_of_boards(&mut self, spec: &RepoSpec) {
        let on_platforms = spec.platforms.iter().map(|platform| platform.boards.len()).max().unwrap_or(0);
        let mut boards: Map<&str, usize> = Map::new();
        for configuration in &spec.configurations {
            let count = configuration.boards.as_ref().map_or(on_platforms, Vec::len);
            boards.insert(&configuration.name, count);
        }
        for configuration in &spec.configurations {
            let Some((name, index)) = board_named(&configuration.name) else { continue };
            if boards.get(name).is_some_and(|count| index < *count) {
                let path = format!("configurations.{}", shown(&configuration.name));
                let expected = format!("another name, which the run of `{}` at a board has", shown(name));
                self.wrong(configuration.at, &path, expected);
            }
        }
    }
}

impl Board {
    /// An image that a configuration does not keep.
    fn missing_of(&self, configuration: &Configuration) -> Option<&String> {
        self.images.iter().find(|image| !configuration.artifacts.iter().any(|glob| glob::matches(glob, image)))
    }
}

/// What a configuration's job is called: its own name where it is built, `NAME/board` at the first of its boards, `NAME/board-2`
/// at the next.
pub fn job_name(configuration: &str, board: Option<usize>) -> String {
    match board {
        None => configuration.to_string(),
        Some(0) => format!("{configuration}/board"),
        Some(index) => format!("{configuration}/board-{}", index + 1),
    }
}

/// The configuration, and the index of the board, that a job at a board is called after. Each has one such name alone.
pub fn board_named(job: &str) -> Option<(&str, usize)> {
    let (name, which) = job.rsplit_once("/board")?;
    if which.is_empty() {
        return Some((name, 0));
    }
    let digits = which.strip_prefix('-')?;
    let index = digits.parse::<usize>().ok()?.checked_sub(1).filter(|index| *index > 0)?;
    (digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')).then_some((name, index))
}

impl RepoSpec {
    /// The board that a job of this name on this platform is of, and its configuration's own name: `NAME/board` is the first of
    /// a configuration's, `NAME/board-2` the next; a configuration's job itself stands for its first.
    pub fn board_of(&self, job: &str, platform: &str) -> Option<(&str, &Board)> {
        let find = |name: &str, index: usize| {
            let configuration = self.configurations.iter().find(|one| one.name == name)?;
            let there = || self.platforms.iter().find(|one| one.name == platform).map(|one| &one.boards);
            let boards = configuration.boards.as_ref().or_else(there)?;
            Some((configuration.name.as_str(), boards.get(index)?))
        };
        find(job, 0).or_else(|| board_named(job).and_then(|(name, index)| find(name, index)))
    }
}
