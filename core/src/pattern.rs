//! Text of a pattern → a regular expression over bytes, found in time linear in what is searched.
//!
//! What boards print is bytes, of no encoding that could be relied on. The engine searches text, so that each byte is shown to it
//! as the character of the same number (U+0000 to U+00FF), and what is not ASCII in a pattern as the bytes of its UTF-8.
//! `^` and `$` are ends of lines, with CR LF or LF alone; `.` is one byte of a line, `\xHH` the byte of that number.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use regex_lite::{Regex, RegexBuilder};

/// Longest text of a pattern, in bytes: it stands in one line of a file.
pub const PATTERN_BYTES: usize = 1024;
/// What the compiled form of a pattern may take, in bytes. A search takes time by it and by what is searched, multiplied.
const COMPILED_BYTES: usize = 128 * 1024;
/// Deepest nesting of groups.
const GROUPS_DEEP: u32 = 32;

/// A pattern that can be searched for. It is shown, and equal to another, by its text.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(out)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Where a pattern was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// What its named groups took part with, in the order of the pattern.
    pub captures: Vec<(String, Vec<u8>)>,
}

/// Bytes as the engine sees them.
#[derive(Clone, Debug, Default)]
pub struct View {
    text: String,
    bytes: usize,
}

impl View {
    /// A view of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        View { text: bytes.iter().copied().map(char::from).collect(), bytes: bytes.len() }
    }

    /// The place in the text of a byte.
    fn place(&self, byte: usize) -> Option<usize> {
        if self.text.len() == self.bytes || byte == 0 {
            return (byte <= self.bytes).then_some(byte);
        }
        let mut ends = self.text.char_indices().map(|(at, _)| at).chain([self.text.len()]);
        ends.nth(byte)
    }

    /// Which byte stands at a place of the text.
    fn byte(&self, offset: usize) -> usize {
        if self.text.len() == self.bytes {
            return offset;
        }
        self.text.get(..offset).map_or(self.bytes, |before| before.chars().count())
    }
}

impl Pattern {
    /// The pattern that a text means.
    ///
    /// # Errors
    /// What was expected of the text.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > PATTERN_BYTES {
            return Err(format!("a regular expression of 1 to {PATTERN_BYTES} bytes"));
        }
        let built = RegexBuilder::new(&over_bytes(text)?)
            .multi_line(true)
            .crlf(true)
            .size_limit(COMPILED_BYTES)
            .nest_limit(GROUPS_DEEP)
            .build();
        let regex = built.map_err(|error| format!("a regular expression: {error}"))?;
        Ok(Pattern { text: text.to_string(), regex })
    }

    /// The pattern for exactly these bytes.
    pub fn literal(bytes: &[u8]) -> String {
        let mut out = String::new();
        for byte in bytes {
            match byte {
                b' '..=b'~' => out.push_str(&regex_lite::escape(char::from(*byte).encode_utf8(&mut [0; 4]))),
                _ => out.push_str(&format!("\\x{byte:02x}")),
            }
        }
        out
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first place where it is found, at this byte or behind it.
    pub fn find(&self, view: &View, from: usize) -> Option<Found> {
        let found = self.regex.captures_at(&view.text, view.place(from)?)?;
        let whole = found.get(0)?;
        let mut captures = Vec::new();
        for name in self.regex.capture_names().flatten() {
            if let Some(part) = found.name(name) {
                // Each of its characters is one byte of what was searched.
                let bytes = part.as_str().chars().map(|letter| letter as u32 as u8).collect();
                captures.push((name.to_string(), bytes));
            }
        }
        Some(Found { start: view.byte(whole.start()), end: view.byte(whole.end()), captures })
    }
}

/// Checks the text of a pattern.
///
/// # Errors
/// What was expected of it.
pub fn check(text: &str) -> Result<(), String> {
    Pattern::new(text).map(|_| ())
}

/// A pattern with all that is not ASCII written as the bytes of its UTF-8.
fn over_bytes(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    // How deep in brackets; a `]` that comes first in them is an ordinary one.
    let (mut brackets, mut first) = (0_usize, false);
    while let Some(letter) = letters.next() {
        let at_first = core::mem::take(&mut first);
        match letter {
            '\\' => {
                let escaped = letters.next().unwrap_or_default();
                let wide = escaped == 'x' && letters.peek() == Some(&'{');
                if matches!(escaped, 'u' | 'U') || wide {
                    return Err(
                        "a regular expression over bytes: a byte is \\xHH, other letters stand as they are".into()
                    );
                }
                out.push(letter);
                if escaped != '\0' {
                    out.push(escaped);
                }
            }
            '[' => {
                brackets += 1;
                first = true;
                out.push(letter);
            }
            ']' if brackets > 0 && !at_first => {
                brackets -= 1;
                out.push(letter);
            }
            '^' if at_first => {
                first = true;
                out.push(letter);
            }
            _ if letter.is_ascii() => out.push(letter),
            _ if brackets > 0 => {
                return Err("a regular expression over bytes: in brackets only ASCII, or bytes as \\xHH".into());
            }
            _ => {
                out.push_str("(?:");
                out.extend(letter.encode_utf8(&mut [0; 4]).bytes().map(char::from));
                out.push(')');
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pattern: &str, bytes: &[u8]) -> Option<(usize, usize)> {
        let found = Pattern::new(pattern).expect("a pattern").find(&View::of(bytes), 0)?;
        Some((found.start, found.end))
    }

    #[test]
    fn places_are_those_of_bytes_whatever_they_are() {
        assert_eq!(find("PASS", b"\xff\xfe PASS"), Some((3, 7)));
        assert_eq!(find("größe+", "\u{fffd}größeee".as_bytes()), Some((3, 12)));
        assert_eq!(find("ü{2}x", "üüx".as_bytes()), Some((0, 5)));
        assert_eq!(find(r"\xff[\x80-\x8f]\x00", b"a\xff\x85\0"), Some((1, 4)));
        assert_eq!(find("^b$", b"a\r\nb\r\nc"), Some((3, 4)));
        assert_eq!(find("a.b", b"a\nb a\xffb"), Some((4, 7)));
        assert_eq!(find("(?i)panic", b"Kernel PANIC"), Some((7, 12)));
        assert_eq!(find("[]x]+", b"ab]x"), Some((2, 4)));
        assert_eq!(find("x", b""), None);
    }

    #[test]
    fn named_groups_are_captured_as_bytes() {
        let found = Pattern::new("ip=(?P<ip>[0-9.]+)(?P<rest>,\\xff)?")
            .expect("one")
            .find(&View::of(b"\xe9 ip=10.0.2.15\n"), 0);
        assert_eq!(found.expect("found").captures, [("ip".to_string(), b"10.0.2.15".to_vec())]);
    }

    #[test]
    fn what_is_no_pattern_over_bytes_says_why() {
        let long = "a".repeat(PATTERN_BYTES + 1);
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        for text in [
            "",
            "(",
            "a**{",
            "[é]",
            r"\u{263a}",
            r"\x{263a}",
            "a{1000}{1000}{1000}",
            "[a",
            "\\",
            &long,
            &deep,
            "(?P<a>x)(?P<a>y)",
        ] {
            let error = check(text).expect_err(text);
            assert!(error.starts_with("a regular expression"), "{error}");
        }
    }

    #[test]
    fn a_pattern_made_to_explode_is_found_not_to_match_in_no_time() {
        let bytes = alloc::vec![b'a'; 4096];
        for pattern in ["(a*)*b", "(a|aa)+$b", "(a+a+)+b", "(?:a?){50}a{50}b"] {
            assert_eq!(find(pattern, &bytes), None, "{pattern}");
        }
    }
}
