//! Range header → which bytes of a file: single byte ranges of RFC 9110 §14, and the conditions of §13.

/// Which part of a representation was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it: no range, one that is malformed or of several parts (which may be ignored, RFC 9110 §14.2).
    Whole,
    /// `length` bytes from `offset`, both in bytes, inside the file and not empty.
    Part {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// A range that begins behind the end: answered with 416.
    Unsatisfiable,
}

/// What a `Range` header selects of `length` bytes.
#[must_use]
pub fn select(range: Option<&str>, length: u64) -> Selection {
    let Some((unit, set)) = range.and_then(|range| range.split_once('=')) else {
        return Selection::Whole;
    };
    let Some((first, last)) = set.trim().split_once('-') else {
        return Selection::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Selection::Whole;
    }
    match (number(first), number(last)) {
        // A suffix: the last so many bytes.
        (None, Some(suffix)) if first.is_empty() => match suffix.min(length) {
            0 => Selection::Unsatisfiable,
            suffix => Selection::Part { offset: length - suffix, length: suffix },
        },
        (Some(first), last_number) if last.is_empty() || last_number.is_some() => {
            let last = last_number.unwrap_or(u64::MAX);
            if last < first {
                return Selection::Whole;
            }
            if first >= length {
                return Selection::Unsatisfiable;
            }
            Selection::Part { offset: first, length: last.min(length - 1) - first + 1 }
        }
        _ => Selection::Whole,
    }
}

/// Digits alone; a number too large for any file is as good as the largest.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// Whether an `If-Range` header (RFC 9110 §13.1.5) lets the range stand: there is none, or it is our entity tag. A
/// date never matches, since times of files are no strong validator.
#[must_use]
pub fn range_stands(if_range: Option<&str>, tag: Option<&str>) -> bool {
    if_range.is_none_or(|condition| Some(condition.trim()) == tag)
}

/// Whether an `If-None-Match` header (RFC 9110 §13.1.2) says that the client has this representation already.
#[must_use]
pub fn client_has_it(if_none_match: Option<&str>, tag: Option<&str>) -> bool {
    let (Some(known), Some(tag)) = (if_none_match, tag) else {
        return false;
    };
    known
        .split(',')
        .map(str::trim)
        .any(|candidate| candidate == "*" || candidate.strip_prefix("W/").unwrap_or(candidate) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(offset: u64, length: u64) -> Selection {
        Selection::Part { offset, length }
    }

    #[test]
    fn single_ranges_select_what_rfc_9110_says() {
        for (range, length, selected) in [
            ("bytes=0-499", 10_000, part(0, 500)),
            ("bytes=500-999", 10_000, part(500, 500)),
            ("bytes=-500", 10_000, part(9_500, 500)),
            ("bytes=9500-", 10_000, part(9_500, 500)),
            ("bytes=0-0", 10_000, part(0, 1)),
            ("bytes=-1", 10_000, part(9_999, 1)),
            ("BYTES=0-0", 10_000, part(0, 1)),
            ("bytes=0-99999", 100, part(0, 100)),
            ("bytes=-99999", 100, part(0, 100)),
            ("bytes=0-99999999999999999999999", 100, part(0, 100)),
            ("bytes=100-", 100, Selection::Unsatisfiable),
            ("bytes=99999999999999999999999-", 100, Selection::Unsatisfiable),
            ("bytes=-0", 100, Selection::Unsatisfiable),
            ("bytes=0-", 0, Selection::Unsatisfiable),
            ("bytes=-5", 0, Selection::Unsatisfiable),
        ] {
            assert_eq!(select(Some(range), length), selected, "{range} of {length}");
        }
    }

    #[test]
    fn anything_else_is_answered_whole() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=+1-2",
            "bytes= 1-2-3",
            "bytes=--5",
            "bytes=é-",
        ] {
            assert_eq!(select(Some(range), 10), Selection::Whole, "{range}");
        }
        assert_eq!(select(None, 10), Selection::Whole);
    }

    #[test]
    fn conditions_compare_entity_tags() {
        assert!(range_stands(None, None));
        assert!(range_stands(Some("\"a\""), Some("\"a\"")));
        assert!(!range_stands(Some("\"a\""), Some("\"b\"")));
        assert!(!range_stands(Some("\"a\""), None));
        assert!(!range_stands(Some("W/\"a\""), Some("\"a\"")));
        assert!(client_has_it(Some("\"x\", W/\"a\""), Some("\"a\"")));
        assert!(client_has_it(Some("*"), Some("\"a\"")));
        assert!(!client_has_it(Some("\"x\""), Some("\"a\"")));
        assert!(!client_has_it(None, Some("\"a\"")));
        assert!(!client_has_it(Some("*"), None));
    }
}
