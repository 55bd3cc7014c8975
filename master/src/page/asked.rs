//! Route and query → what is wrong with the query, so that nobody takes an answer for one to what they meant.
//!
//! A page passes over fields that it does not know, since forums and mail add some to links. The API does not: a filter whose
//! name is misspelt would mean everything.

use super::route::{ApiRoute, Route, decode, field, lines_field, number_field};
use super::standing::{STANDINGS, STATES};
use sai_core::job::JobState;
use sai_core::words::Word;

/// Characters of what is wrong that are told.
const SHOWN_CHARACTERS: usize = 64;

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Lines,
    Mark,
    State,
}

use Kind::{Lines, Mark, Number, State, Text};

/// Of a list of events: the API has how many, a page does not.
const EVENTS: &[(&str, Kind)] = &[
    ("limit", Number),
    ("before", Number),
    ("repository", Text),
    ("branch", Text),
    ("revision", Text),
    ("author", Text),
    ("q", Text),
    ("configuration", Text),
    ("platform", Text),
    ("state", State),
];

/// Of the list of what people did, likewise.
const AUDIT: &[(&str, Kind)] = &[("limit", Number), ("before", Number), ("who", Text), ("q", Text)];

/// Of a board, likewise.
const BOARD: &[(&str, Kind)] = &[("limit", Number), ("before", Number)];
const EVENT: &[(&str, Kind)] = &[("platform", Text), ("configuration", Text), ("state", State), ("from", Number)];
const JOB: &[(&str, Kind)] = &[
    ("line", Lines),
    ("q", Text),
    ("case", Mark),
    ("regex", Mark),
    // Of the waveform, as below.
    ("from", Number),
    ("to", Number),
    ("a", Number),
    ("b", Number),
];
const WAVEFORM: &[(&str, Kind)] = &[("from", Number), ("to", Number), ("a", Number), ("b", Number), ("line", Lines)];

/// The fields of an address, and whether there may be no others. Those of actions are read where their forms are.
fn fields(route: &Route) -> (&'static [(&'static str, Kind)], bool) {
    match route {
        Route::Events | Route::History | Route::Feed => (EVENTS.split_at(1).1, false),
        Route::Event(_) => (EVENT, false),
        Route::Job(..) => (JOB, false),
        Route::Waveform(..) => (WAVEFORM, false),
        Route::Tests(..) => (&[("name", Text), ("q", Text), ("from", Number)], false),
        Route::Tar(..) => (&[("folder", Text)], false),
        Route::Board(..) => (BOARD.split_at(1).1, false),
        Route::Api(ApiRoute::Board(..)) => (BOARD, true),
        Route::Audit => (AUDIT.split_at(1).1, false),
        Route::Api(ApiRoute::Do(_)) => (&[], false),
        Route::Api(ApiRoute::Events) => (EVENTS, true),
        Route::Api(ApiRoute::Actions) => (AUDIT, true),
        Route::Api(ApiRoute::Log(_)) => (&[("attempt", Number), ("from", Number)], true),
        Route::Api(ApiRoute::Tests(_)) => (&[("attempt", Number)], true),
        Route::Api(_) => (&[], true),
        _ => (&[], false),
    }
}

/// A text of an address, quoted and cut.
pub fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(SHOWN_CHARACTERS).collect::<String>())
}

/// Looks whether a query means something to an address.
///
/// # Errors
/// What was expected instead of which part.
pub fn check(route: &Route, query: &str) -> Result<(), String> {
    let (known, all) = fields(route);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) else {
            if !all {
                continue;
            }
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let names = if names.is_empty() { "no fields".to_string() } else { names.join(", ") };
            return Err(format!("{}: expected {names}", quoted(pair)));
        };
        let Some(text) = decode(value, true) else {
            return Err(format!("{}: expected percent-encoded UTF-8", quoted(pair)));
        };
        let (fits, expected) = match kind {
            _ if text.trim().is_empty() => continue,
            Text => continue,
            Number => (number_field(pair, name).is_some(), "a number, as 12"),
            Lines => (lines_field(pair, name).is_some(), "a line or some, as 12 or 12-20"),
            Mark => (matches!(text.as_str(), "0" | "1"), "1, or nothing"),
            // A later version may have given a job a word that is not known here.
            State => (Word::of(text.trim()).is_some(), "a state, as failed"),
        };
        if !fits {
            return Err(format!("{}: expected {name} to be {expected}", quoted(pair)));
        }
    }
    Ok(())
}

/// Looks whether a state, of which nothing was found, is one.
///
/// # Errors
/// Which there are; `more` is one of them here.
pub fn check_state(state: Option<&str>, more: &[&str]) -> Result<(), String> {
    let Some(state) = state else { return Ok(()) };
    let mut known: Vec<&str> = more.to_vec();
    for word in STANDINGS.iter().map(|standing| standing.word()).chain(STATES.iter().map(JobState::word)) {
        if !known.contains(&word) {
            known.push(word);
        }
    }
    if known.contains(&state) {
        Ok(())
    } else {
        Err(format!("{}: expected one of {}", quoted(state), known.join(", ")))
    }
}

/// The attempt that a cancel is about, if one is named.
///
/// # Errors
/// What was expected.
pub fn attempt(fields: &str) -> Result<Option<u32>, String> {
    let Some(pair) = fields.split('&').find(|pair| pair.contains('=')) else { return Ok(None) };
    let number = field(pair, "attempt").and_then(|text| text.parse::<u32>().ok()).filter(|attempt| *attempt > 0);
    let only = fields.split('&').filter(|pair| !pair.is_empty()).count() == 1;
    match number.filter(|_| only) {
        Some(attempt) => Ok(Some(attempt)),
        None => Err(format!("{}: expected nothing, or an attempt's number, as attempt=2", quoted(fields))),
    }
}

/// Looks whether anything is chosen where nothing can be: it would be done to more than was meant.
///
/// # Errors
/// What was expected.
pub fn nothing(fields: &str) -> Result<(), String> {
    if fields.contains('=') { Err(format!("{}: expected no fields", quoted(fields))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::super::route::route;
    use super::*;

    #[test]
    fn what_is_wrong_with_a_query_is_told_with_what_was_expected() {
        for (address, expected) in [
            ("/?before=1e3", "expected before to be a number"),
            ("/?q=%ff", "expected percent-encoded UTF-8"),
            ("/?state=no%20such", "expected state to be a state"),
            ("/history?before=x", "expected before"),
            ("/feed.atom?repository=%f", "expected percent-encoded"),
            ("/event/1?from=-1", "expected from"),
            ("/job/1/waveform?from=0.5", "expected from to be a number"),
            ("/job/1?line=4-3", "expected line to be a line or some"),
            ("/job/1/2?q=x&regex=true", "expected regex to be 1"),
            ("/job/1/tests?name=%zz", "expected percent-encoded"),
            ("/job/1/artifacts.tar?folder=%zz", "expected percent-encoded"),
            ("/audit?before=last", "expected before"),
            ("/api/v1/events?repositroy=hello", "expected limit, before, repository"),
            ("/api/v1/events?limit=all", "expected limit"),
            ("/api/v1/jobs/1/log?from=1k", "expected from"),
            ("/api/v1/jobs/1?attempt=1", "expected no fields"),
            ("/api/v1/actions?before=%20x", "expected before"),
        ] {
            let (path, query) = address.split_once('?').unwrap();
            let told = check(&route("GET", path), query).unwrap_err();
            assert!(told.contains(expected), "{address}: {told}");
        }
        for fine in [
            "/",
            "/?before=&state=&q=&utm_source=chat",
            "/?state=unseen&before=12",
            "/job/1?line=3-12&q=a%26b&case=1&regex=",
            "/audit?who=ann&q=%C3%BC",
            "/agents?x=%ff",
            "/api/v1/events?limit=1&state=failed&",
        ] {
            let (path, query) = fine.split_once('?').unwrap_or((fine, ""));
            assert_eq!(check(&route("GET", path), query), Ok(()), "{fine}");
        }
        let long = check(&route("GET", "/"), &format!("before={}", "<".repeat(9999))).unwrap_err();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn a_state_that_nothing_is_in_is_one_or_told_of() {
        for fine in [None, Some("failing"), Some("timed-out"), Some("blocked"), Some("wrong")] {
            assert_eq!(check_state(fine, &["wrong"]), Ok(()));
        }
        let told = check_state(Some("fialed"), &[]).unwrap_err();
        assert!(told.starts_with("\"fialed\": expected one of failed, failing, passed") && told.ends_with("blocked"));
        assert!(check_state(Some("wrong"), &[]).is_err());
    }

    #[test]
    fn nothing_is_done_to_more_than_was_meant() {
        assert_eq!((attempt(""), attempt("{}"), attempt("attempt=2")), (Ok(None), Ok(None), Ok(Some(2))));
        for wrong in ["attempt=0", "attempt=x", "platform=l", "attempt=1&attempt=2", "attempt=%ff"] {
            assert!(attempt(wrong).is_err_and(|why| why.contains("expected nothing, or")), "{wrong}");
        }
        assert!(nothing("").is_ok() && nothing("platform=l").is_err());
    }
}
