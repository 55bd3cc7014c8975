//! Tree of a configuration file → typed settings, with every error named by its place.
//!
//! An unknown key is an error here, unlike in a saifile: who writes a configuration sits before the machine and wants
//! to hear of a typing error at once.

use crate::json::{self, At, Position, Value};
use crate::ordered::Map;
use crate::platform;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// Reads one file. Wrong values are left out and reported by [`Reader::finish`].
#[derive(Debug, Default)]
pub struct Reader {
    errors: Vec<At>,
    /// Whether keys that nobody knows are passed over.
    skips: bool,
}

/// An object of the file and where it is, as `listen` or `repositories.NAME`.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Section<'a> {
    /// Where a key of it is, as messages name it.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_string() } else { format!("{}.{key}", self.path) }
    }

    /// What stands under a key.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key)
    }

    /// All of it, as [`json::written`] has it.
    pub fn written(&self) -> String {
        json::written(self.value)
    }

    /// Where the value of a key begins, or all of it where it has no such key.
    pub fn place_of(&self, key: &str) -> Position {
        self.value.get(key).unwrap_or(self.value).position()
    }
}

/// The tree of a file.
///
/// # Errors
/// `FILE:LINE:COLUMN: expected …` when it is no JSON of our dialect.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Value, String> {
    json::parse(bytes).map_err(|at| format!("{file}:{at}"))
}

impl Reader {
    /// A reader without errors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that passes over keys that it does not know, of a file that may have been written for a later version.
    pub fn skipping() -> Self {
        Self { skips: true, ..Self::default() }
    }

    /// The whole file, an object with no other keys than these.
    pub fn root<'a>(&mut self, value: &'a Value, known: &[&str]) -> Section<'a> {
        self.section(value, String::new(), known)
    }

    /// An object that is found anywhere, with no other keys than these.
    pub fn section<'a>(&mut self, value: &'a Value, path: String, known: &[&str]) -> Section<'a> {
        let section = Section { value, path };
        if value.as_object().is_none() {
            self.wrong(value, &section.path, "an object");
        }
        let unknown = value.unknown_keys(known).filter(|_| !self.skips);
        for key in unknown.collect::<Vec<_>>() {
            let expected = format!("one of {}", known.join(", "));
            self.errors.push(key.at.expected(expected).about(&section.path_of(&json::shown(&key.value))));
        }
        let entries = value.as_object().unwrap_or_default();
        for (index, (key, _)) in entries.iter().enumerate() {
            // Which of the two would count is nothing to guess about.
            if known.contains(&key.value.as_str()) && entries[..index].iter().any(|(other, _)| other.value == key.value)
            {
                self.errors.push(key.at.expected("this key only once").about(&section.path_of(&key.value)));
            }
        }
        section
    }

    /// An object under a key, with no other keys than these.
    pub fn object<'a>(&mut self, section: &Section<'a>, key: &str, known: &[&str]) -> Option<Section<'a>> {
        let value = section.value.get(key)?;
        Some(self.section(value, section.path_of(key), known))
    }

    /// The named objects under a key, each with no other keys than these, in file order.
    pub fn objects<'a>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        known: &[&str],
    ) -> Vec<(json::Spanned<String>, Section<'a>)> {
        let entries = self.entries(section, key, "an object of named objects");
        entries.into_iter().map(|(name, value, path)| (name.clone(), self.section(value, path, known))).collect()
    }

    /// The named values under a key, whatever they are, in file order: each name with its value and where that is.
    pub fn entries<'a>(
        &mut self,
        section: &Section<'a>,
        key: &str,
        expected: &str,
    ) -> Vec<(&'a json::Spanned<String>, &'a Value, String)> {
        let Some(value) = section.value.get(key) else { return Vec::new() };
        let path = section.path_of(key);
        let Some(entries) = value.as_object() else {
            self.wrong(value, &path, expected);
            return Vec::new();
        };
        let mut found: Map<&str, ()> = Map::new();
        let mut all = Vec::new();
        for (name, value) in entries {
            let path = format!("{path}.{}", json::shown(&name.value));
            if found.insert(&name.value, ()).is_some() {
                self.errors.push(name.at.expected("a name that is not there twice").about(&path));
            } else {
                all.push((name, value, path));
            }
        }
        all
    }

    /// Which of these keys is there, exactly one of which has to be.
    pub fn one_of<'k>(&mut self, section: &Section<'_>, keys: &[&'k str]) -> Option<&'k str> {
        let there: Vec<&str> = keys.iter().copied().filter(|key| section.value.get(key).is_some()).collect();
        match there.as_slice() {
            [key] => return Some(key),
            [] if section.value.as_object().is_none() => {}
            [] => self.wrong(section.value, &section.path, &format!("one of the keys {}", keys.join(", "))),
            [_, second, ..] => {
                let expected = format!("only one of the keys {}", there.join(", "));
                self.report(section, second, &expected);
            }
        }
        None
    }

    /// One of these words: which.
    pub fn word(&mut self, section: &Section<'_>, key: &str, words: &[&str]) -> Option<usize> {
        let value = section.value.get(key)?;
        let found = value.as_text().and_then(|text| words.iter().position(|word| *word == text));
        if found.is_none() {
            self.wrong(value, &section.path_of(key), &format!("one of {}", words.join(", ")));
        }
        found
    }

    /// An array of texts, or one text alone, each with the place where it stands.
    pub fn placed_texts(&mut self, value: &Value, path: &str) -> Vec<(Position, String)> {
        let mut texts = Vec::new();
        for element in value.as_array().unwrap_or(core::slice::from_ref(value)) {
            match element.as_text() {
                Some(text) => texts.push((element.at, text.to_string())),
                None => self.wrong(element, path, "text or an array of texts"),
            }
        }
        texts
    }

    /// A text.
    pub fn text(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        let value = section.value.get(key)?;
        let text = value.as_text();
        if text.is_none() {
            self.wrong(value, &section.path_of(key), "text");
        }
        text.map(ToString::to_string)
    }

    /// A text that `check` accepts; its error says what was expected.
    pub fn checked(
        &mut self,
        section: &Section<'_>,
        key: &str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> Option<String> {
        let text = self.text(section, key)?;
        match check(&text) {
            Ok(()) => Some(text),
            Err(expected) => {
                self.report(section, key, &expected);
                None
            }
        }
    }

    /// A text that must be there.
    pub fn needed(
        &mut self,
        section: &Section<'_>,
        key: &str,
        check: impl FnOnce(&str) -> Result<(), String>,
    ) -> Option<String> {
        if section.value.get(key).is_none() && section.value.as_object().is_some() {
            self.wrong(section.value, &section.path, &format!("a key {key}"));
        }
        self.checked(section, key, check)
    }

    /// A whole number within a range.
    pub fn integer(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = section.value.get(key)?;
        let number = value.as_integer().filter(|number| range.contains(number));
        if number.is_none() {
            let expected = format!("a whole number from {} to {}", range.start(), range.end());
            self.wrong(value, &section.path_of(key), &expected);
        }
        number
    }

    /// A whole number from 0 (or 1) up, as lengths, counts and times are.
    pub fn count(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (*range.start() as i64, (*range.end()).min(i64::MAX as u64) as i64);
        self.integer(section, key, low..=high).map(|number| number as u64)
    }

    /// A decimal number within a range, both in thousandths.
    pub fn thousandths(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = section.value.get(key)?;
        let number = value.as_thousandths().filter(|number| range.contains(number));
        if number.is_none() {
            let shown = |thousandths: u64| match thousandths % 1000 {
                0 => format!("{}", thousandths / 1000),
                part => format!("{}.{part:03}", thousandths / 1000),
            };
            let expected = format!("a number from {} to {}", shown(*range.start()), shown(*range.end()));
            self.wrong(value, &section.path_of(key), &expected);
        }
        number
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let value = section.value.get(key)?;
        let truth = value.as_bool();
        if truth.is_none() {
            self.wrong(value, &section.path_of(key), "true or false");
        }
        truth
    }

    /// An array of texts, or one text alone, each of which `check` accepts.
    pub fn checked_texts(
        &mut self,
        section: &Section<'_>,
        key: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<Vec<String>> {
        let texts = self.texts(section, key)?;
        let value = section.value.get(key)?;
        let places = value.as_array().unwrap_or(core::slice::from_ref(value));
        for (place, text) in places.iter().zip(&texts) {
            if let Err(expected) = check(text) {
                self.wrong(place, &section.path_of(key), &expected);
            }
        }
        Some(texts)
    }

    /// An array of texts, or one text alone.
    pub fn texts(&mut self, section: &Section<'_>, key: &str) -> Option<Vec<String>> {
        let value = section.value.get(key)?;
        if let Some(text) = value.as_text() {
            return Some([text.to_string()].to_vec());
        }
        let texts = value.as_array().and_then(|elements| {
            elements.iter().map(|element| element.as_text().map(ToString::to_string)).collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.wrong(value, &section.path_of(key), "text or an array of texts");
        }
        texts
    }

    /// Environment variables: an object of texts. Names that begin with `SAI_` are Sai's own.
    pub fn variables(&mut self, section: &Section<'_>, key: &str) -> Option<Map<String, String>> {
        let value = section.value.get(key)?;
        let path = section.path_of(key);
        let Some(entries) = value.as_object() else {
            self.wrong(value, &path, "an object of texts");
            return None;
        };
        let mut variables = Map::new();
        for (name, value) in entries {
            let path = format!("{path}.{}", json::shown(&name.value));
            let begins = name.value.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            let plain = name.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !begins || !plain || name.value.starts_with("SAI_") {
                self.errors
                    .push(name.at.expected("a variable name of letters, digits and `_`, not SAI_…").about(&path));
            } else if let Some(text) = value.as_text().filter(|text| !text.contains('\0')) {
                variables.insert(name.value.clone(), text.to_string());
            } else {
                self.wrong(value, &path, "text without NUL");
            }
        }
        Some(variables)
    }

    /// An object of amounts by the names of units.
    pub fn amounts(&mut self, section: &Section<'_>, key: &str, range: RangeInclusive<i64>) -> Map<String, u32> {
        let mut amounts = Map::new();
        let Some(value) = section.value.get(key) else { return amounts };
        let path = section.path_of(key);
        let Some(entries) = value.as_object() else {
            self.wrong(value, &path, "an object of amounts by the units' names");
            return amounts;
        };
        for (name, value) in entries {
            let path = format!("{path}.{}", json::shown(&name.value));
            let amount = value.as_integer().filter(|amount| range.contains(amount));
            if let Err(expected) = platform::check_unit(&name.value) {
                self.errors.push(name.at.expected(expected).about(&path));
            } else if let Some(amount) = amount.and_then(|amount| u32::try_from(amount).ok()) {
                if amounts.insert(name.value.clone(), amount).is_some() {
                    self.errors.push(name.at.expected("each unit once").about(&path));
                }
            } else {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(value, &path, &expected);
            }
        }
        amounts
    }

    /// Whether the key is there and `false`: the usual way to switch a part off whose value is otherwise an object.
    pub fn is_off(&self, section: &Section<'_>, key: &str) -> bool {
        section.value.get(key).and_then(Value::as_bool) == Some(false)
    }

    /// Reports that the value under a key was expected to be something else.
    pub fn report(&mut self, section: &Section<'_>, key: &str, expected: &str) {
        let value = section.value.get(key).unwrap_or(section.value);
        self.wrong(value, &section.path_of(key), expected);
    }

    /// Reports what an object was expected to have.
    pub fn lacking(&mut self, section: &Section<'_>, expected: &str) {
        self.wrong(section.value, &section.path, expected);
    }

    /// Reports that a value was expected to be something else.
    pub fn wrong(&mut self, value: &Value, path: &str, expected: &str) {
        self.wrong_at(value.position(), path, expected);
    }

    /// Reports that something else was expected at a place.
    pub fn wrong_at(&mut self, at: Position, path: &str, expected: &str) {
        // Checks that are also used elsewhere say the word themselves.
        let expected = expected.strip_prefix("expected ").unwrap_or(expected);
        self.errors.push(at.expected(expected).about(path));
    }

    /// All that was wrong, for who reads the rest of the file in another way.
    pub fn into_errors(self) -> Vec<At> {
        self.errors
    }

    /// All that was wrong.
    ///
    /// # Errors
    /// Lines of `FILE:LINE:COLUMN: PATH: expected …`, in file order.
    pub fn finish(mut self, file: &str) -> Result<(), Vec<String>> {
        json::sort(&mut self.errors);
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors.iter().map(|at| format!("{file}:{at}")).collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn errors(text: &str, read: impl FnOnce(&mut Reader, &Section<'_>)) -> Vec<String> {
        let tree = parse("F", text.as_bytes()).expect("JSON");
        let mut reader = Reader::new();
        let root = reader.root(&tree, &["a", "b", "c"]);
        read(&mut reader, &root);
        reader.finish("F").err().unwrap_or_default()
    }

    #[test]
    fn every_mistake_is_named_by_its_place() {
        let text = "{\n  \"a\": 1, # a comment\n  \"b\": [\"x\", \"bad\"],\n  \"d\": 2,\n  \"a\": \"2\"\n}";
        let found = errors(text, |reader, root| {
            assert_eq!(reader.count(root, "a", 0..=9), None);
            let check = |text: &str| if text == "bad" { Err("expected good".to_string()) } else { Ok(()) };
            reader.checked_texts(root, "b", check);
            reader.needed(root, "c", |_| Ok(()));
        });
        assert_eq!(
            found,
            [
                "F:1:1: expected a key c",
                "F:3:14: b: expected good",
                "F:4:3: d: expected one of a, b, c",
                "F:5:3: a: expected this key only once",
                "F:5:8: a: expected a whole number from 0 to 9",
            ]
        );
    }

    #[test]
    fn decimal_numbers_are_read_in_thousandths() {
        let read = |text: &str| {
            let mut number = None;
            let found = errors(&format!("{{\"a\": {text}}}"), |reader, root| {
                number = reader.thousandths(root, "a", 10..=2500);
            });
            (number, found)
        };
        for (text, thousandths) in [("2", 2000), ("0.01", 10), ("1.5", 1500), ("2.500", 2500), ("0.125", 125)] {
            assert_eq!(read(text), (Some(thousandths), Vec::new()), "{text}");
        }
        for text in ["0", "2.501", "-1", "1e0", "1.0000", "\"1\"", "99999999999999999999", "true"] {
            assert_eq!(
                read(text),
                (None, vec!["F:1:7: a: expected a number from 0.010 to 2.500".to_string()]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_that_is_no_object_says_so_once() {
        let found = errors("[]", |reader, root| {
            reader.needed(root, "a", |_| Ok(()));
        });
        assert_eq!(found, ["F:1:1: expected an object"]);
    }
}
