//! Texts of steps → steps of a sequence or mode, and those → the same with nothing left to look up.
//!
//! A step is `LINE 0|1` (several with commas: at the same moment), `wait TIME`, `power on|off|cycle`, or the name of a sequence.

use super::{STEPS_MAX, Step, Switch, WAIT_MAX_MS};
use crate::json::{Position, shown};
use crate::limits::Millis;
use crate::ordered::Map;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Steps with the places where they stand.
pub type Placed = Vec<(Position, Step)>;

/// Words with which a step can begin that is no line's or sequence's.
pub const RESERVED: [&str; 2] = ["wait", "power"];

/// Milliseconds of a text like `50ms`, `2s`, `1m`.
///
/// # Errors
/// What was expected.
pub fn milliseconds(text: &str) -> Result<Millis, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse::<u64>().ok()).flatten();
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .filter(|time| *time <= WAIT_MAX_MS)
        .ok_or_else(|| format!("a time like \"50ms\", \"2s\" or \"1m\", at most {} minutes", WAIT_MAX_MS / 60_000))
}

/// One step of a board: `is_line` and `is_sequence` say what a name is of.
///
/// # Errors
/// What was expected.
pub fn step(
    text: &str,
    has_power: bool,
    is_line: impl Fn(&str) -> Result<(), String>,
    is_sequence: impl Fn(&str) -> bool,
) -> Result<Step, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["wait", time] => milliseconds(time).map(Step::Wait),
        ["wait", ..] => Err("`wait` and a time".to_string()),
        ["power", ..] if !has_power => Err("a board with a `power` for this".to_string()),
        ["power", "on"] => Ok(Step::Power(Switch::On)),
        ["power", "off"] => Ok(Step::Power(Switch::Off)),
        ["power", "cycle"] => Ok(Step::Power(Switch::Cycle)),
        ["power", ..] => Err("`power` and `on`, `off` or `cycle`".to_string()),
        [name] if is_sequence(name) => Ok(Step::Play((*name).to_string())),
        [name] => Err(format!("a sequence of this board, found `{}`", shown(name))),
        [] => Err("a step".to_string()),
        _ => {
            let mut levels: Vec<(String, bool)> = Vec::new();
            for part in text.split(',') {
                let words: Vec<&str> = part.split_whitespace().collect();
                let [name, level @ ("0" | "1")] = words.as_slice() else {
                    return Err(
                        "a step: `LINE 0|1`, `wait TIME`, `power on|off|cycle` or the name of a sequence".to_string()
                    );
                };
                is_line(name)?;
                if levels.iter().any(|(other, _)| other == name) {
                    return Err(format!("each line once in a step, found `{}` again", shown(name)));
                }
                levels.push(((*name).to_string(), *level == "1"));
            }
            Ok(Step::Set(levels))
        }
    }
}

/// Steps with the sequences that they play in their places.
///
/// # Errors
/// What was expected, where that is more than a sequence may be, or leads to itself.
pub fn unrolled(sequences: &Map<String, Vec<Step>>, steps: &[Step]) -> Result<Vec<Step>, String> {
    let mut flat = Vec::new();
    let mut waits: Millis = 0;
    // Sequences that come to nothing could be played without an end, each playing the next one twice.
    let mut played = 0;
    // What is played inside what, and how far each has come.
    let mut open: Vec<(&str, &[Step])> = [("", steps)].to_vec();
    while let Some((_, rest)) = open.last_mut() {
        let Some((step, after)) = rest.split_first() else {
            open.pop();
            continue;
        };
        *rest = after;
        match step {
            Step::Play(name) => {
                if open.iter().any(|(outer, _)| outer == name) {
                    let way: Vec<&str> =
                        open.iter().map(|(outer, _)| *outer).skip_while(|outer| outer != name).collect();
                    return Err(format!("a sequence that does not lead to itself ({} → {name})", way.join(" → ")));
                }
                played += 1;
                let inner = sequences.get(name).map(Vec::as_slice).unwrap_or_default();
                open.push((name, inner));
            }
            other => {
                if let Step::Wait(time) = other {
                    waits = waits.saturating_add(*time);
                }
                flat.push(other.clone());
            }
        }
        if flat.len() > STEPS_MAX || played > STEPS_MAX {
            return Err(format!("at most {STEPS_MAX} steps, with those of the sequences in it"));
        }
        if waits > WAIT_MAX_MS {
            return Err(format!("waits of at most {} minutes together", WAIT_MAX_MS / 60_000));
        }
    }
    Ok(flat)
}
