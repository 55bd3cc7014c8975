//! Text of `sai.json` → the same text without its secrets, as long as before, and the secrets beside it.
//!
//! The boot partition can be read by whoever has the card for a minute, and by any machine it is put into. So what is secret is
//! kept on the data partition after the first boot, and overwritten where it stood: a text of the same length goes into the same
//! sectors, which a new file would not.

use crate::settings::{MOVED, Secret, Settings};
use miniserde::{Deserialize, Serialize};
use sai_core::json::{self, Value};

/// What is kept on the data partition.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// The join line.
    pub join: Option<String>,
    /// What opens the wireless network.
    pub passphrase: Option<String>,
}

impl Secrets {
    /// These, and of a file those that stand in it.
    #[must_use]
    pub fn with(mut self, settings: &Settings) -> Self {
        if let Secret::Here(line) = &settings.join {
            self.join = Some(line.to_string());
        }
        if let Some(Secret::Here(passphrase)) = settings.wifi.as_ref().and_then(|wifi| wifi.passphrase.as_ref()) {
            self.passphrase = Some(passphrase.clone());
        }
        self
    }
}

/// The text without its secrets; `None` where it has none, or is not what can be read.
pub fn without(text: &[u8]) -> Option<Vec<u8>> {
    let tree = json::parse(text).ok()?;
    let values = [tree.get("join"), tree.get("wifi").and_then(|wifi| wifi.get("passphrase"))];
    let mut cleared = text.to_vec();
    for value in values.into_iter().flatten() {
        clear(&mut cleared, value);
    }
    (cleared != text).then_some(cleared)
}

/// Overwrites what stands between the quotes of a text.
fn clear(text: &mut [u8], value: &Value) {
    if value.as_text().is_none() {
        return;
    }
    let begin = value.position().offset as usize + 1;
    let Some(rest) = text.get_mut(begin..) else { return };
    let mut escaped = false;
    let inside = rest.iter_mut().take_while(|byte| {
        let ends = **byte == b'"' && !escaped;
        escaped = **byte == b'\\' && !escaped;
        !ends
    });
    let mut letters = MOVED.bytes();
    for byte in inside {
        *byte = letters.next().unwrap_or(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::read;

    #[test]
    fn secrets_leave_the_file_as_long_as_it_was() {
        let text = "\u{feff}# über \"join\": \"x\"\n{ \"join\": \"sai1:192.0.2.1:4433:shed:0123456789abcdef0123:system\", # \"\n \
            \"wifi\": { \"ssid\": \"\\\"\", \"passphrase\": \"a\\\\\\\"bc\\u0041def\", \"country\": \"DE\" } }";
        let cleared = without(text.as_bytes()).expect("two secrets");
        assert_eq!(cleared.len(), text.len());
        let shown = String::from_utf8(cleared.clone()).expect("text");
        assert!(
            !shown.contains("0123456789") && !shown.contains("def\"") && shown.contains("über \"join\": \"x\""),
            "{shown}"
        );
        let (before, after) = (read(text.as_bytes()).expect("settings"), read(&cleared).expect("settings"));
        assert_eq!(
            (&after.join, after.wifi.as_ref().map(|wifi| &wifi.passphrase)),
            (&Secret::Moved, Some(&Some(Secret::Moved)))
        );
        assert_eq!(without(&cleared), None, "nothing is left to be moved");

        let kept = <Secrets as Default>::default().with(&before);
        assert_eq!(kept.passphrase.as_deref(), Some("a\\\"bcAdef"));
        assert!(kept.join.as_deref().is_some_and(|line| line.contains("0123456789abcdef0123")));
        assert!(kept.clone().with(&after) == kept, "what was moved stays");
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        for text in ["", "{", "{}", "{\"join\": 1}", "[]", "{\"wifi\": []}"] {
            assert_eq!(without(text.as_bytes()), None, "{text}");
        }
    }
}
