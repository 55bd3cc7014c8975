//! `board` of a saifile → the boards on which what was built is run, each checked as a whole.

use super::{BOARD_STEPS_MAX, BOARDS_MAX, Board, Reader, RepoSpec};
use crate::glob;
use crate::json::{self, Node, Position, Value, shown};
use crate::settings;
use crate::trial;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Reader<'_> {
    /// A board, or an array of them. Unlike elsewhere in the file an unknown key is an error: what was to fail a board and is
    /// misspelt would pass it.
    pub(super) fn boards(&mut self, key: Position, value: &Value, path: &str) -> Vec<Board> {
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
        if !boards.is_empty() {
            self.warn(key, format!("{path}: checked, and not run by this version"));
        }
        boards
    }

    fn board(&mut self, value: &Value, path: &str) -> Option<Board> {
        self.boards += 1;
        self.board_steps += trial::steps_of(value);
        // Looked at before anything is tried, so that what one file costs has a bound.
        if self.boards > BOARDS_MAX || self.board_steps > BOARD_STEPS_MAX {
            let expected = format!("at most {BOARDS_MAX} boards, of {BOARD_STEPS_MAX} steps together, in a file");
            self.wrong(value.at, path, expected);
            return None;
        }
        let mut reader = settings::Reader::new();
        let trial = trial::read(&mut reader, value, path);
        let errors = reader.into_errors();
        let good = errors.is_empty();
        for error in errors {
            self.error(error);
        }
        let images = trial.images.into_iter().map(|(_, path)| path).collect();
        // What is compiled is let go: of a thousand boards it would be too much.
        good.then(|| Board { at: value.at, kind: trial.kind, tags: trial.tags, images, text: json::written(value) })
    }

    /// Images travel as what their job keeps, so that those which no `artifacts` keep would never come.
    pub(super) fn images(&mut self, spec: &RepoSpec) {
        for configuration in &spec.configurations {
            let missing = |image: &&String| !configuration.artifacts.iter().any(|glob| glob::matches(glob, image));
            for board in configuration.boards.iter().flatten() {
                if let Some(image) = board.images.iter().find(missing) {
                    let path = format!("configurations.{}.board.flash", shown(&configuration.name));
                    let expected = format!("a file that the configuration's artifacts keep, found `{}`", shown(image));
                    self.wrong(board.at, &path, expected);
                }
            }
        }
    }
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
        find(job, 0).or_else(|| {
            let (name, which) = job.rsplit_once("/board")?;
            let index =
                if which.is_empty() { 0 } else { which.strip_prefix('-')?.parse::<usize>().ok()?.checked_sub(1)? };
            find(name, index)
        })
    }
}
