//! `needs` and `units` of a saifile → what must have passed before a job, and what it occupies while it runs.

use super::{AMOUNT_RANGE, NEEDS_MAX, Need, Reader, UNITS_MAX};
use crate::json::{self, Node, Position, Value, shown};
use crate::ordered::Map;
use crate::platform;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Reader<'_> {
    /// Names of jobs that come before: a comma-separated list, or an array of names.
    pub(super) fn needs(&mut self, value: &Value, path: &str) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        match &value.value {
            Node::Text(_) => {
                let mut word: Option<Need> = None;
                for (at, letter) in json::letters(self.file, value.at) {
                    if letter == ',' {
                        needs.extend(word.take());
                    } else if let Some(word) = &mut word {
                        word.text.push(letter);
                    } else if !letter.is_whitespace() {
                        word = Some(Need { at, text: letter.into() });
                    }
                }
                needs.extend(word);
                for need in &mut needs {
                    need.text.truncate(need.text.trim_end().len());
                }
            }
            Node::Array(elements) => {
                for element in elements {
                    match element.as_text() {
                        Some(text) => needs.push(Need { at: element.at, text: text.to_owned() }),
                        None => self.wrong(element.at, path, "a name of a configuration"),
                    }
                }
            }
            _ => self.wrong(value.at, path, "text, a comma-separated list of configurations, or an array of them"),
        }
        if needs.len() > NEEDS_MAX {
            self.wrong(value.at, path, format!("at most {NEEDS_MAX} needs"));
            needs.clear();
        }
        needs
    }

    /// An object of amounts by the units' names, or an array of names of which one each is wanted.
    pub(super) fn units(&mut self, value: &Value, path: &str) -> Map<String, u32> {
        let mut units = Map::new();
        let wanted: Vec<(Position, &str, Option<&Value>)> = match &value.value {
            Node::Object(_) => {
                let entries = self.fields(value, path).iter();
                entries.map(|(name, amount)| (name.at, name.value.as_str(), Some(amount))).collect()
            }
            Node::Array(elements) => {
                elements.iter().map(|element| (element.at, element.as_text().unwrap_or_default(), None)).collect()
            }
            _ => {
                self.wrong(value.at, path, "an object of amounts by the units' names, or an array of names");
                return units;
            }
        };
        if wanted.len() > UNITS_MAX {
            self.wrong(value.at, path, format!("at most {UNITS_MAX} units"));
            return units;
        }
        for (at, name, amount) in wanted {
            if let Err(expected) = platform::check_unit(name) {
                self.wrong(at, path, expected);
                continue;
            }
            let amount = match amount {
                None => Some(1),
                Some(amount) => amount.as_integer().and_then(|amount| u32::try_from(amount).ok()),
            };
            match amount.filter(|amount| AMOUNT_RANGE.contains(amount)) {
                Some(amount) => {
                    if units.insert(name.to_owned(), amount).is_some() {
                        self.wrong(at, path, format!("each unit once, found `{}` again", shown(name)));
                    }
                }
                None => {
                    let (least, most) = AMOUNT_RANGE.into_inner();
                    self.wrong(at, path, format!("a whole number from {least} to {most} of `{}`", shown(name)));
                }
            }
        }
        units
    }
}
