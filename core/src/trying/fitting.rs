//! A trial and a board → whether the trial can be made there, or what the board lacks.

use super::way;
use crate::bench::Board;
use crate::trial::{Step, Trial};
use alloc::format;
use alloc::string::String;

/// Whether a trial can be made on a board.
///
/// # Errors
/// What the board lacks.
pub fn fits(trial: &Trial, board: &Board) -> Result<(), String> {
    let name = &board.name;
    // Which boards those of a rig are is said by its bench.
    if !trial.kind.is_empty() && trial.kind != board.kind {
        return Err(format!("a board of type {:?} is wanted, and {name} is of type {:?}", trial.kind, board.kind));
    }
    if let Some(tag) = trial.tags.iter().find(|tag| !board.tags.contains(tag)) {
        return Err(format!("a board with tag {tag:?} is wanted, and {name} has it not"));
    }
    let steps = trial.steps.iter().filter_map(|step| match step {
        Step::Expect { console, .. } | Step::Send { console, .. } => console.as_ref(),
        _ => None,
    });
    if let Some(console) = trial.console.iter().chain(steps).find(|console| board.console(console).is_none()) {
        return Err(board.lacks_console(console));
    }
    for step in &trial.steps {
        match step {
            Step::Play(sequence) if board.play(sequence).is_none() => {
                return Err(board.lacks_sequence(sequence));
            }
            Step::Edge { line, .. } if !board.read().any(|read| read.name == *line) => {
                return Err(format!("board {name} has no line {line:?} that is read"));
            }
            _ => {}
        }
    }
    if board.consoles.is_empty() {
        return Err(format!("board {name} has no console"));
    }
    match &board.flash {
        None if !trial.images.is_empty() => return Err(format!("board {name} has no \"flash\" in its bench")),
        Some(how) if !trial.images.is_empty() => {
            if let Some((target, _)) = trial.images.iter().find(|(target, _)| how.target(target).is_none()) {
                return Err(format!("board {name} has no target {target:?}"));
            }
            if !trial.unverified && !how.with.verifies() {
                let text = "does not tell whether an image is there: \"unverified\": true would allow that";
                return Err(format!("board {name} {text}"));
            }
        }
        _ if way(board).is_none() => {
            let text =
                "nothing is flashed, and board {name} has no sequence \"reset\" and no \"then\" of its \"flash\"";
            return Err(text.replace("{name}", name));
        }
        _ => {}
    }
    Ok(())
}
