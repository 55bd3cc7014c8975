//! What `flash` says of a loader that is a USB device of its own → which device that is, and its places.

use super::reading::{BenchReader, product, serial, usb_port};
use super::{Alternate, AtUsb, Board, Setting};
use crate::json::shown;
use crate::settings::Section;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most variables that a loader must have right: each is one question before anything is done.
const EXPECTS_MAX: usize = 16;
/// Longest name of a partition: with `partition-size:` before it, it is in one command of fastboot's, of 64 bytes, behind `getvar:`.
const PARTITION_MAX: usize = 42;
/// Longest name of a variable: in one command behind `getvar:`.
const VARIABLE_MAX: usize = 57;
/// Longest value of one: an answer has 64 bytes, four of which say what it is.
const VALUE_MAX: usize = 60;

impl BenchReader {
    pub(super) fn at_usb(&mut self, section: &Section<'_>, board: &Board, verifies: bool) -> AtUsb {
        let port = self.reader.needed(section, "usb", usb_port).unwrap_or_default();
        if !port.is_empty() {
            let what = format!("the loader at USB port {port}");
            self.take(what, &board.name, section.place_of("usb"), &section.path_of("usb"));
        }
        AtUsb {
            port,
            product: self.reader.checked(section, "product", product),
            serial: self.reader.checked(section, "serial", serial),
            verifies: self.reader.boolean(section, "verifies").unwrap_or(verifies),
        }
    }

    /// Variables of a loader that speaks fastboot, and what they must hold.
    pub(super) fn expects(&mut self, section: &Section<'_>) -> Vec<(String, String)> {
        let mut expects = Vec::new();
        for (name, value, path) in self.reader.entries(section, "expects", "an object of values by variable") {
            if expects.len() == EXPECTS_MAX {
                self.reader.wrong_at(name.at, &path, &format!("at most {EXPECTS_MAX} variables"));
                break;
            }
            if !one_word(&name.value, VARIABLE_MAX) {
                let expected = format!("the name of a variable, 1 to {VARIABLE_MAX} printable letters");
                self.reader.wrong_at(name.at, &path, &expected);
            }
            let printable =
                |text: &&str| text.len() <= VALUE_MAX && text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
            match value.as_text().filter(printable) {
                Some(text) => expects.push((name.value.clone(), text.to_string())),
                None => self.reader.wrong(value, &path, &format!("text of at most {VALUE_MAX} printable letters")),
            }
        }
        expects
    }

    /// Which of a loader's memories an address is in.
    pub(super) fn alt(&mut self, section: &Section<'_>) -> Option<Setting> {
        let is_address = section.get("at").and_then(|value| value.as_text()).is_some_and(|at| address(at).is_some());
        if section.get("alt").is_some() && !is_address {
            self.reader.report(section, "alt", "an address in `at` beside it, in hexadecimal digits");
        }
        let name = |text: &str| match setting(text) {
            Setting::Name(name) if name.is_empty() || name.len() > 126 || name.chars().any(char::is_control) => {
                Err("the number or name of an alternate setting".to_string())
            }
            _ => Ok(()),
        };
        self.reader.checked(section, "alt", name).map(|text| setting(&text))
    }
}

/// A number in hexadecimal digits behind `0x`.
pub(super) fn address(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// What a place is to a loader that speaks DFU: an address in one of its memories, the first unless another is named, or one of them.
pub(super) fn alternate(place: &str, address: Option<u32>, alt: Option<Setting>) -> Alternate {
    match address {
        Some(_) => Alternate { setting: alt.unwrap_or(Setting::Number(0)), address },
        None => Alternate { setting: setting(place), address: None },
    }
}

/// Checks the name of a partition.
pub(super) fn partition(name: &str) -> Result<(), String> {
    if one_word(name, PARTITION_MAX) {
        return Ok(());
    }
    Err(format!("the name of a partition, 1 to {PARTITION_MAX} printable letters, found `{}`", shown(name)))
}

fn one_word(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| (b'!'..0x7f).contains(&byte))
}

fn setting(text: &str) -> Setting {
    let plain = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match plain.then(|| text.parse().ok()).flatten() {
        Some(number) => Setting::Number(number),
        None => Setting::Name(text.to_string()),
    }
}
