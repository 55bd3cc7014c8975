//! Saifile and plan of a new event → a line of the journal that has them too, and back.
//!
//! A hook waits until its event is durable. Two files, their names and the record were three flushes of the disk one after the
//! other; carried by the record's own group they are one. The files are flushed when the core says so (`lull`), and another
//! line says that they are durable. Lines without that one, at a start, are what a power cut may have taken (`settling`).

use super::Change;
use miniserde::{Deserialize, Serialize, json};
use sai_core::job::EventId;

/// Bytes of saifile and plan together that are carried: nearly all are far smaller, and those that are not would be most of the
/// journal. Their hooks wait for two more flushes.
pub(super) const CARRIED_BYTES: usize = 16 << 10;
/// The kind of such lines. A version that does not know it keeps them as it found them.
const KIND: &str = "files";

/// A line: what an event's files hold or, with `gone`, that they are durable.
#[derive(Deserialize, Serialize)]
struct Line {
    kind: String,
    /// The event's number.
    key: String,
    saifile: Option<String>,
    plan: Option<String>,
    gone: Option<bool>,
}

impl Line {
    fn of(event: EventId) -> Self {
        Self { kind: KIND.to_string(), key: event.to_string(), saifile: None, plan: None, gone: None }
    }
}

/// The change that carries an event's files; none when they are too large for it, or no text.
pub(super) fn change(event: EventId, saifile: &[u8], plan: Option<&[u8]>) -> Option<Change> {
    if saifile.len() + plan.map_or(0, <[u8]>::len) > CARRIED_BYTES {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let plan = match plan {
        Some(plan) => Some(text(plan)?),
        None => None,
    };
    Some(Change::Files { event, saifile: text(saifile)?, plan })
}

pub(super) fn line(event: EventId, saifile: &str, plan: Option<&str>) -> String {
    json::to_string(&Line { saifile: Some(saifile.to_string()), plan: plan.map(str::to_string), ..Line::of(event) })
}

pub(super) fn line_of_durable(event: EventId) -> String {
    json::to_string(&Line { gone: Some(true), ..Line::of(event) })
}

/// The event whose files a line carries, its saifile and its plan; none of another kind, some later version's.
pub(super) fn read(line: &str) -> Option<(EventId, [Option<String>; 2])> {
    let line = json::from_str::<Line>(line).ok().filter(|line| line.kind == KIND)?;
    Some((line.key.parse().ok()?, [line.saifile, line.plan]))
}
