//! Bytes → checked text and tree: JSON with `#` comments, every value with its line and column.
//!
//! The dialect is RFC 8259 with two additions: a `#` outside a text comments out the rest of its line, and an array
//! may end in a comma. A comma before the `}` of an object is an error. A byte order mark at the start is accepted
//! and means nothing. Reading is iterative and bounded: no input can exhaust the stack or take more than a small
//! multiple of [`FILE_MAX`] of memory.

mod written;

pub use self::written::written;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::ordered;

/// Largest file read, in bytes: fifty times the largest saifile seen in the field.
pub const FILE_MAX: usize = 1024 * 1024;
/// Longest text or key, in bytes after its escapes are resolved: a build script of a thousand lines.
pub const TEXT_MAX: usize = 64 * 1024;
/// Deepest nesting of arrays and objects: the formats read with this need five, and dropping a tree recurses.
pub const DEPTH_MAX: usize = 32;
/// Most values in a file: 10 000 configurations of nine keys each. It keeps the tree below 10 MiB.
pub const VALUES_MAX: usize = 100_000;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1; a line ends at its line feed.
    pub line: u32,
    /// Column, from 1, in characters (not bytes).
    pub column: u32,
    /// Offset from the start of the file, in bytes.
    pub offset: u32,
}

impl Position {
    /// The first character of a file.
    pub const START: Position = Position { line: 1, column: 1, offset: 0 };

    /// The error that `expected` was wanted here.
    pub fn expected(self, expected: impl Into<String>) -> At {
        At { line: self.line, column: self.column, path: String::new(), expected: expected.into() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What a file was expected to say, and where. Shown as `LINE:COLUMN: expected …` or `LINE:COLUMN: PATH: expected …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// The value it is about, such as `platforms.linux.build`; empty where the text is not JSON at all.
    pub path: String,
    /// What was expected, without the word "expected".
    pub expected: String,
}

/// Brings errors into the order of the file; those of one place stay as they were found.
pub fn sort(errors: &mut Vec<At>) {
    *errors = ordered::by_key(core::mem::take(errors), |error| (error.line, error.column));
}

impl At {
    /// The same error, about the value at `path`.
    pub fn about(mut self, path: &str) -> At {
        path.clone_into(&mut self.path);
        self
    }

    /// The message without its place: `expected …` or `PATH: expected …`.
    pub fn message(&self) -> String {
        if self.path.is_empty() {
            format!("expected {}", self.expected)
        } else {
            format!("{}: expected {}", self.path, self.expected)
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message())
    }
}

/// Something with the place it was read from: its first character, the opening quote of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// Where it begins.
    pub at: Position,
    /// What was read.
    pub value: T,
}

/// A JSON value, its object keys in file order and repeated keys kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it was written.
    Number(String),
    /// A text, its escapes resolved.
    Text(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Vec<(Spanned<String>, Value)>),
}

/// A value and its place.
pub type Value = Spanned<Node>;

impl Value {
    /// The value of a key of this object; of the last one where it is given more than once, as miniserde does.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.iter().rev().find(|(name, _)| name.value == key).map(|(_, value)| value)
    }

    /// Where the value begins.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Node::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Node::Bool(value) = self.value { Some(value) } else { None }
    }

    /// The number, if it is a whole one that fits.
    pub fn as_integer(&self) -> Option<i64> {
        if let Node::Number(digits) = &self.value { digits.parse().ok() } else { None }
    }

    /// The number in thousandths, if it is a decimal one, not below 0, with at most three digits after the point.
    pub fn as_thousandths(&self) -> Option<u64> {
        let Node::Number(digits) = &self.value else { return None };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part =
            (0..3).fold(0, |sum, place| 10 * sum + part.as_bytes().get(place).map_or(0, |byte| u64::from(byte - b'0')));
        whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Node::Array(elements) = &self.value { Some(elements) } else { None }
    }

    /// The entries in file order, if it is an object.
    pub fn as_object(&self) -> Option<&[(Spanned<String>, Value)]> {
        if let Node::Object(entries) = &self.value { Some(entries) } else { None }
    }

    /// The keys of this object that are not among `known`, to be warned about; none if it is no object.
    pub fn unknown_keys<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a Spanned<String>> {
        let entries = self.as_object().unwrap_or_default();
        entries.iter().map(|(name, _)| name).filter(move |name| !known.contains(&name.value.as_str()))
    }
}

/// A text from a file as it may stand in a message: control characters escaped, at most 80 characters of it.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == 80 {
            out.push('…');
            break;
        }
        if letter.is_control() {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

/// Reads a file's tree.
///
/// # Errors
/// The first place where the bytes are not UTF-8, not of the dialect, or beyond a limit of this module.
pub fn parse(bytes: &[u8]) -> Result<Value, At> {
    Scanner::new(checked(bytes)?).document()
}

/// Reads a file's plain JSON: comments, commas at the end of arrays and a byte order mark are blanked in place, so
/// that every offset stays. What comes out is accepted by any JSON parser.
///
/// # Errors
/// As [`parse`].
pub fn blank(bytes: &[u8]) -> Result<String, At> {
    let text = checked(bytes)?;
    let mut scanner = Scanner::new(text);
    scanner.document()?;
    let mut plain = String::with_capacity(text.len());
    let mut kept = 0;
    for (start, end) in scanner.blanks {
        plain.push_str(text.get(kept..start).unwrap_or_default());
        plain.extend(core::iter::repeat_n(' ', end.saturating_sub(start)));
        kept = end;
    }
    plain.push_str(text.get(kept..).unwrap_or_default());
    Ok(plain)
}

/// The letters of a text that was read from `file`, each with the place where it is written; `at` is the text's
/// place. An escape counts as one letter, at its backslash. Empty if there is no text at that place.
pub fn letters(file: &str, at: Position) -> impl Iterator<Item = (Position, char)> {
    let mut scanner = Scanner::new(file);
    scanner.at = at;
    let mut open = scanner.peek() == Some(b'"');
    if open {
        scanner.step();
    }
    core::iter::from_fn(move || {
        if !open {
            return None;
        }
        let place = scanner.at;
        let letter = scanner.letter().ok().flatten();
        open = letter.is_some();
        letter.map(|letter| (place, letter))
    })
}

/// The file's text, if it is UTF-8 and not too large.
///
/// # Errors
/// The place of the first byte that is not UTF-8, or of the first that is too much.
pub fn checked(bytes: &[u8]) -> Result<&str, At> {
    let place = |length: usize| {
        let valid = bytes.get(..length).and_then(|part| core::str::from_utf8(part).ok()).unwrap_or_default();
        let mut scanner = Scanner::new(valid);
        while scanner.peek().is_some() {
            scanner.step();
        }
        scanner.at
    };
    let within = bytes.get(..FILE_MAX.min(bytes.len())).unwrap_or_default();
    match core::str::from_utf8(within) {
        Ok(_) if bytes.len() > FILE_MAX => {
            Err(place(FILE_MAX).expected(format!("the file to end: it may have at most {FILE_MAX} bytes")))
        }
        Ok(text) => Ok(text),
        // A character cut by the limit is not the file's fault, the rest of the file is.
        Err(error) if bytes.len() > FILE_MAX && error.error_len().is_none() => {
            Err(place(error.valid_up_to()).expected(format!("the file to end: it may have at most {FILE_MAX} bytes")))
        }
        Err(error) => Err(place(error.valid_up_to()).expected("UTF-8")),
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// An array or object whose end has not been seen.
enum Open {
    Array(Position, Vec<Value>),
    /// With the key whose value is being read.
    Object(Position, Vec<(Spanned<String>, Value)>, Spanned<String>),
}

struct Scanner<'a> {
    text: &'a str,
    at: Position,
    /// Byte ranges to blank, in order.
    blanks: Vec<(usize, usize)>,
    values: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Scanner { text, at: Position::START, blanks: Vec::new(), values: 0 }
    }

    fn offset(&self) -> usize {
        self.at.offset as usize
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset()).copied()
    }

    /// The whole character here.
    fn character(&self) -> Option<char> {
        self.text.get(self.offset()..)?.chars().next()
    }

    /// Moves over one character.
    fn step(&mut self) {
        let Some(letter) = self.character() else {
            return;
        };
        self.at.offset += letter.len_utf8() as u32;
        if letter == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else if letter != BYTE_ORDER_MARK || self.offset() != BYTE_ORDER_MARK.len_utf8() {
            self.at.column += 1;
        }
    }

    /// Moves over blanks and comments.
    fn skip(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.step(),
                Some(b'#') => {
                    let start = self.offset();
                    while !matches!(self.peek(), None | Some(b'\n')) {
                        self.step();
                    }
                    self.blanks.push((start, self.offset()));
                }
                _ => return,
            }
        }
    }

    /// The error that `expected` was wanted here, saying what stands here instead.
    fn expected(&self, expected: &str) -> At {
        let found = match self.character() {
            None => "the end of the file".to_owned(),
            Some('/') => "`/` (comments begin with `#`)".to_owned(),
            Some('\'') => "`'` (texts stand in double quotes)".to_owned(),
            Some(letter) if letter.is_control() => {
                format!("the control character U+{:04X}", letter as u32)
            }
            Some(letter) => format!("`{letter}`"),
        };
        self.at.expected(format!("{expected}, found {found}"))
    }

    /// Moves over a byte that must stand here.
    fn take(&mut self, byte: u8, expected: &str) -> Result<(), At> {
        if self.peek() != Some(byte) {
            return Err(self.expected(expected));
        }
        self.step();
        Ok(())
    }

    /// The whole file.
    fn document(&mut self) -> Result<Value, At> {
        if self.character() == Some(BYTE_ORDER_MARK) {
            self.step();
            self.blanks.push((0, self.offset()));
        }
        let mut open: Vec<Open> = Vec::new();
        loop {
            self.skip();
            let Some(mut done) = self.begin(&mut open)? else {
                continue;
            };
            // A finished value may finish the arrays and objects around it.
            loop {
                match open.pop() {
                    None => {
                        self.skip();
                        return match self.peek() {
                            None => Ok(done),
                            Some(_) => Err(self.expected("nothing more: the file's value ended before this")),
                        };
                    }
                    Some(Open::Array(start, mut elements)) => {
                        elements.push(done);
                        match self.after_value(b']', start)? {
                            After::Next => {
                                open.push(Open::Array(start, elements));
                                break;
                            }
                            After::End(_) => done = Spanned { at: start, value: Node::Array(elements) },
                        }
                    }
                    Some(Open::Object(start, mut entries, key)) => {
                        entries.push((key, done));
                        match self.after_value(b'}', start)? {
                            After::Next => {
                                let key = self.key()?;
                                open.push(Open::Object(start, entries, key));
                                break;
                            }
                            After::End(Some(comma)) => {
                                return Err(comma.expected(format!(
                                    "no comma after the last entry of an object (its `}}` is at {}:{})",
                                    self.at.line,
                                    self.at.column.saturating_sub(1)
                                )));
                            }
                            After::End(None) => done = Spanned { at: start, value: Node::Object(entries) },
                        }
                    }
                }
            }
        }
    }

    /// Reads a value, or the beginning of an array or object that is not empty: then `None`, and it is open.
    fn begin(&mut self, open: &mut Vec<Open>) -> Result<Option<Value>, At> {
        let at = self.at;
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(at.expected(format!("at most {VALUES_MAX} values in a file")));
        }
        let value = match self.peek() {
            Some(b'{' | b'[') if open.len() >= DEPTH_MAX => {
                return Err(at.expected(format!("arrays and objects nested at most {DEPTH_MAX} deep")));
            }
            Some(b'{') => {
                self.step();
                self.skip();
                if self.peek() != Some(b'}') {
                    let key = self.key()?;
                    open.push(Open::Object(at, Vec::new(), key));
                    return Ok(None);
                }
                self.step();
                Node::Object(Vec::new())
            }
            Some(b'[') => {
                self.step();
                self.skip();
                if self.peek() != Some(b']') {
                    open.push(Open::Array(at, Vec::new()));
                    return Ok(None);
                }
                self.step();
                Node::Array(Vec::new())
            }
            Some(b'"') => Node::Text(self.quoted()?),
            Some(b'-' | b'0'..=b'9') => Node::Number(self.number()?),
            Some(b't') => self.word("true", Node::Bool(true))?,
            Some(b'f') => self.word("false", Node::Bool(false))?,
            Some(b'n') => self.word("null", Node::Null)?,
            _ => {
                return Err(self.expected("a value (a text in double quotes, a number, true, false, null, `[` or `{`)"));
            }
        };
        Ok(Some(Spanned { at, value }))
    }

    /// What follows a value: a comma and another, or the end of its container, with the comma before it if any.
    fn after_value(&mut self, end: u8, start: Position) -> Result<After, At> {
        self.skip();
        let comma = self.at;
        let found_comma = self.peek() == Some(b',');
        if found_comma {
            self.step();
            self.skip_blanking_comma(comma, end);
        }
        if self.peek() == Some(end) {
            self.step();
            return Ok(After::End(found_comma.then_some(comma)));
        }
        if found_comma {
            return Ok(After::Next);
        }
        let opening = if end == b']' { '[' } else { '{' };
        Err(self.expected(&format!("`,` or the `{}` of the `{opening}` at {start}", end as char)))
    }

    /// Moves over blanks and comments after a comma, and blanks that comma if an array ends here.
    fn skip_blanking_comma(&mut self, comma: Position, end: u8) {
        let before = self.blanks.len();
        self.skip();
        if end == b']' && self.peek() == Some(end) {
            let offset = comma.offset as usize;
            self.blanks.insert(before, (offset, offset + 1));
        }
    }

    /// Reads a key and the colon after it.
    fn key(&mut self) -> Result<Spanned<String>, At> {
        let at = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in double quotes"));
        }
        let value = self.quoted()?;
        self.skip();
        self.take(b':', "`:` after the key")?;
        Ok(Spanned { at, value })
    }

    fn word(&mut self, word: &str, node: Node) -> Result<Node, At> {
        let start = self.at;
        let rest = self.text.get(self.offset()..).unwrap_or_default();
        let longer = rest.as_bytes().get(word.len()).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if !rest.starts_with(word) || longer {
            return Err(start.expected("a value (a text in double quotes, a number, true, false, null, `[` or `{`)"));
        }
        for _ in 0..word.len() {
            self.step();
        }
        Ok(node)
    }

    /// RFC 8259 section 6.
    fn number(&mut self) -> Result<String, At> {
        let start = self.offset();
        if self.peek() == Some(b'-') {
            self.step();
        }
        if self.peek() == Some(b'0') {
            self.step();
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.expected("a number without leading zeros"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.step();
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.step();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.step();
            }
            self.digits()?;
        }
        Ok(self.text.get(start..self.offset()).unwrap_or_default().to_owned())
    }

    fn digits(&mut self) -> Result<(), At> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.expected("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.step();
        }
        Ok(())
    }

    /// Reads a text from its opening to its closing quote.
    fn quoted(&mut self) -> Result<String, At> {
        let start = self.at;
        self.step();
        let mut text = String::new();
        while let Some(letter) = self.letter().map_err(|error| match self.peek() {
            None => start.expected("a closing `\"` for the text that begins here"),
            Some(_) => error,
        })? {
            text.push(letter);
            if text.len() > TEXT_MAX {
                return Err(start.expected(format!("a text of at most {TEXT_MAX} bytes")));
            }
        }
        Ok(text)
    }

    /// One letter of a text, or `None` for the closing quote, which is moved over.
    fn letter(&mut self) -> Result<Option<char>, At> {
        match self.character() {
            Some('"') => {
                self.step();
                Ok(None)
            }
            Some('\\') => self.escape().map(Some),
            Some('\n' | '\r') => Err(self.at.expected("a closing `\"` before the end of the line (write \\n)")),
            Some(letter) if letter < ' ' => {
                Err(self.expected("no raw control character in a text (write \\t, \\u001b)"))
            }
            Some(letter) => {
                self.step();
                Ok(Some(letter))
            }
            None => Err(self.expected("a closing `\"`")),
        }
    }

    /// RFC 8259 section 7: one escape, two where they are a surrogate pair.
    fn escape(&mut self) -> Result<char, At> {
        let start = self.at;
        self.step();
        let letter = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.unit()?;
                if !(0xd800..0xe000).contains(&unit) {
                    return char::from_u32(unit).ok_or_else(|| start.expected("a character"));
                }
                let pair = "a surrogate pair, high and then low";
                if unit >= 0xdc00 || self.peek() != Some(b'\\') {
                    return Err(start.expected(pair));
                }
                self.step();
                if self.peek() != Some(b'u') {
                    return Err(start.expected(pair));
                }
                let low = self.unit()?;
                if !(0xdc00..0xe000).contains(&low) {
                    return Err(start.expected(pair));
                }
                return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00))
                    .ok_or_else(|| start.expected(pair));
            }
            _ => {
                return Err(start.expected("one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX"));
            }
        };
        self.step();
        Ok(letter)
    }

    /// The `u` and four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, At> {
        self.step();
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.character().and_then(|letter| letter.to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.expected("four hexadecimal digits after \\u"))?;
            self.step();
        }
        Ok(unit)
    }
}

/// What stands after a value in an array or object.
enum After {
    /// A comma, and something that is not the end.
    Next,
    /// The end, and the comma before it if there was one.
    End(Option<Position>),
}
