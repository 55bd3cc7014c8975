//! `flash`, `power` and `health` of a board → how an image gets onto it, what switches it, and how it is found to be well.

use super::loader::{self, address};
use super::reading::{BenchReader, usb_port};
use super::{
    Board, FLASH_TIMEOUT_S, Flash, Flasher, HEALTH_EVERY_MAX_S, HEALTH_EVERY_S, Health, OFF_MS, Power, Request, Supply,
    TARGETS_MAX, Target, Uboot, Use, WORDS_MAX,
};
use crate::json::{Value, shown};
use crate::limits::Millis;
use crate::pattern::{self, Pattern};
use crate::settings::Section;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Words of `with`.
const FLASHERS: [&str; 6] = ["ymodem-uboot", "stm32", "optiboot", "dfu", "fastboot", "argv"];
/// Milliseconds within which a board that is well says so.
const HEALTHY_WITHIN_MS: Millis = 30_000;

impl BenchReader {
    pub(super) fn flash(&mut self, section: &Section<'_>, board: &Board) -> Option<Flash> {
        let common = ["with", "mode", "then", "targets", "timeout"];
        let tty = ["console", "baud", "chip_id"];
        let all = [
            "argv",
            "verifies",
            "countdown",
            "stop",
            "prompt",
            "load",
            "write",
            "boot",
            "usb",
            "product",
            "serial",
            "expects",
        ];
        let known: Vec<&str> = common.iter().chain(&tty).chain(&all).copied().collect();
        let section = self.reader.object(section, "flash", &known)?;
        self.reader.needed(&section, "with", |_| Ok(()));
        let with = FLASHERS[self.reader.word(&section, "with", &FLASHERS)?];
        let own: &[&str] = match with {
            "argv" => &["argv", "verifies"],
            "ymodem-uboot" => &["countdown", "stop", "prompt", "protocol", "load", "write", "verifies", "boot"],
            "dfu" => &["usb", "product", "serial", "verifies"],
            "fastboot" => &["usb", "product", "serial", "verifies", "expects"],
            _ => &[],
        };
        let by_tty = !matches!(with, "dfu" | "fastboot");
        for key in tty.iter().chain(&all).copied() {
            if section.get(key).is_some() && !own.contains(&key) && !(by_tty && tty.contains(&key)) {
                self.reader.report(&section, key, &format!("no key {key} with \"{with}\""));
            }
        }
        let mut console = None;
        if by_tty {
            console = self.console_named(&section, "console", board);
        }
        if by_tty && with != "argv" && section.get("console").is_none() {
            // With one console there is nothing to choose.
            match board.consoles.as_slice() {
                [only] => console = Some(only.name.clone()),
                _ => self.reader.lacking(&section, "a key console: which one it goes by"),
            }
        }
        let mode = |name: &str| match board.modes.contains_key(name) {
            true => Ok(()),
            false => Err(format!("the name of a mode of this board, found `{}`", shown(name))),
        };
        let widest = if with == "optiboot" { 0xff_ffff } else { u32::MAX };
        let mut chip_id = None;
        if by_tty {
            chip_id = self.hexadecimal(&section, "chip_id", widest);
        }
        if chip_id.is_some() && matches!(with, "argv" | "ymodem-uboot") {
            self.reader.report(&section, "chip_id", &format!("no chip_id with \"{with}\", which asks for none"));
        }
        Some(Flash {
            console,
            mode: self.reader.checked(&section, "mode", mode),
            then: self.reader.checked(&section, "then", mode),
            chip_id,
            baud: match by_tty {
                true => self.reader.count(&section, "baud", 50..=20_000_000).map(|baud| baud as u32),
                false => None,
            },
            targets: self.targets(&section, with),
            timeout_s: self.time(&section, "timeout").map_or(FLASH_TIMEOUT_S, |time| time.div_ceil(1000).max(1)),
            with: match with {
                "stm32" => Flasher::Stm32,
                "optiboot" => Flasher::Optiboot,
                "argv" => self.tool(&section),
                // What is written is read back unless that is not to be; of the other nothing can be.
                "dfu" => Flasher::Dfu(self.at_usb(&section, board, true)),
                "fastboot" => {
                    Flasher::Fastboot { at: self.at_usb(&section, board, false), expects: self.expects(&section) }
                }
                _ => Flasher::Uboot(self.uboot(&section)?),
            },
        })
    }

    /// A number written as text, `0x…`, since JSON has none of these.
    fn hexadecimal(&mut self, section: &Section<'_>, key: &str, most: u32) -> Option<u32> {
        let check = |text: &str| match address(text).filter(|number| *number <= most) {
            Some(_) => Ok(()),
            None => Err(format!("text of a number in hexadecimal digits, such as \"0x431\", at most {most:#x}")),
        };
        self.reader.checked(section, key, check).and_then(|text| address(&text))
    }

    fn targets(&mut self, section: &Section<'_>, with: &str) -> Vec<Target> {
        let mut targets = Vec::new();
        for (name, value, path) in self.reader.entries(section, "targets", "an object of places by name") {
            if targets.len() == TARGETS_MAX {
                self.reader.wrong_at(name.at, &path, &format!("at most {TARGETS_MAX} targets"));
                break;
            }
            let (mut place, mut size, mut at) = (value.as_text().map(ToOwned::to_owned), None, value.at);
            let mut alt = None;
            if value.as_object().is_some() {
                let keys: &[&str] = if with == "dfu" { &["at", "size", "alt"] } else { &["at", "size"] };
                let section = self.reader.section(value, path.clone(), keys);
                alt = self.alt(&section);
                place = self.reader.needed(&section, "at", |_| Ok(()));
                size = self.reader.count(&section, "size", 1..=1 << 40);
                at = section.place_of("at");
            }
            let plain = |place: &String| (1..=256).contains(&place.len()) && !place.chars().any(char::is_control);
            let Some(place) = place.filter(plain) else {
                self.reader.wrong_at(at, &path, "the text of an address or place, or an object with `at` and `size`");
                continue;
            };
            let found = address(&place);
            if let ("fastboot", Err(expected)) = (with, loader::partition(&place)) {
                self.reader.wrong_at(at, &path, &expected);
            }
            if !matches!(with, "argv" | "dfu" | "fastboot") && found.is_none() {
                self.reader.wrong_at(at, &path, "text of an address in hexadecimal digits, such as \"0x08000000\"");
            }
            // The parts are written in words of four bytes, and optiboot's by pages of words of two.
            let align = if with == "stm32" { 4 } else { 2 };
            if matches!(with, "stm32" | "optiboot") && found.is_some_and(|address| address % align != 0) {
                self.reader.wrong_at(at, &path, &format!("an address that is a multiple of {align}"));
            }
            let alternate = (with == "dfu").then(|| loader::alternate(&place, found, alt));
            targets.push(Target { name: name.value.clone(), place, address: found.unwrap_or(0), size, alternate });
        }
        if targets.is_empty()
            && section.get("targets").is_none_or(|value| value.as_object().is_some_and(<[_]>::is_empty))
        {
            match with {
                "stm32" => targets.push(target("app", "0x08000000", 0x0800_0000)),
                "optiboot" => targets.push(target("app", "0x0", 0)),
                "argv" => targets.push(target("app", "", 0)),
                "dfu" => {
                    let alternate = Some(loader::alternate("0", None, None));
                    targets.push(Target { alternate, ..target("app", "0", 0) });
                }
                "fastboot" => self.reader.report(section, "targets", "an object of partitions by name"),
                _ => {
                    self.reader.report(section, "targets", "an object of addresses by name: where U-Boot writes images")
                }
            }
        }
        targets
    }

    fn tool(&mut self, section: &Section<'_>) -> Flasher {
        if section.get("argv").is_none() {
            self.reader.lacking(section, "a key argv: a program and its arguments");
        }
        let argv = self.words(section, "argv", &["image", "tty", "baud", "target"]);
        if !argv.is_empty() && !argv.iter().any(|word| word.contains("{image}")) {
            self.reader.report(section, "argv", "an argument with {image}, where the file's name stands");
        }
        Flasher::Tool { argv, verifies: self.reader.boolean(section, "verifies").unwrap_or(false) }
    }

    /// Program and arguments, in which of `{…}` only these stand. No shell sees them.
    fn words(&mut self, section: &Section<'_>, key: &str, holes: &[&str]) -> Vec<String> {
        let Some(value) = section.get(key) else { return Vec::new() };
        let path = section.path_of(key);
        let Some(elements) = value.as_array().filter(|elements| (1..=WORDS_MAX).contains(&elements.len())) else {
            self.reader.wrong(
                value,
                &path,
                &format!("an array of 1 to {WORDS_MAX} texts: a program and its arguments"),
            );
            return Vec::new();
        };
        let mut words = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let fits = |text: &&str| !text.contains('\0') && (index > 0 || !text.is_empty());
            match element.as_text().filter(fits) {
                None => self.reader.wrong(element, &path, "text without NUL"),
                Some(text) => {
                    self.holes(element, &path, text, holes);
                    words.push(text.to_string());
                }
            }
        }
        words
    }

    /// Reports words in braces that nothing stands for.
    fn holes(&mut self, value: &Value, path: &str, text: &str, holes: &[&str]) {
        for part in text.split('{').skip(1) {
            let Some((word, _)) = part.split_once('}') else { continue };
            let meant = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if meant && !holes.contains(&word) {
                let expected = match holes {
                    [] => format!("no `{{{word}}}` here"),
                    _ => format!("one of {{{}}} in braces, found {{{word}}}", holes.join("} {")),
                };
                self.reader.wrong(value, path, &expected);
            }
        }
    }

    fn uboot(&mut self, section: &Section<'_>) -> Option<Uboot> {
        let write = section.get("write").map(|value| self.reader.placed_texts(value, &section.path_of("write")));
        if write.as_ref().is_none_or(Vec::is_empty) {
            self.reader.report(
                section,
                "write",
                "an array of U-Boot's commands, such as \"cp.b {load} {target} {size}\"",
            );
        }
        if section.get("load").is_none() {
            self.reader.lacking(section, "a key load: the address in memory where images are received");
        }
        let one_line = |text: &str| match text.chars().any(char::is_control) || text.is_empty() || text.len() > 250 {
            true => Err("one line of at most 250 bytes, as U-Boot's console takes them".to_string()),
            false => Ok(()),
        };
        for key in ["write", "boot"] {
            if let Some(value) = section.get(key) {
                self.reader.checked_texts(section, key, one_line);
                for element in value.as_array().unwrap_or(core::slice::from_ref(value)) {
                    let text = element.as_text().unwrap_or_default();
                    self.holes(element, &section.path_of(key), text, &["load", "size", "target"]);
                }
            }
        }
        Some(Uboot {
            countdown: self.pattern(section, "countdown").or_else(|| Pattern::new("stop autoboot").ok())?,
            stop: self.reader.text(section, "stop").unwrap_or_else(|| " ".to_string()),
            prompt: self.pattern(section, "prompt").or_else(|| Pattern::new("^=> $").ok())?,
            load: self.hexadecimal(section, "load", u32::MAX).unwrap_or(0),
            xmodem: self.reader.word(section, "protocol", &["ymodem", "xmodem"]) == Some(1),
            write: write.unwrap_or_default().into_iter().map(|(_, text)| text).collect(),
            verifies: self.reader.boolean(section, "verifies").unwrap_or(true),
            boot: self.reader.text(section, "boot"),
        })
    }

    fn pattern(&mut self, section: &Section<'_>, key: &str) -> Option<Pattern> {
        let text = self.reader.checked(section, key, pattern::check)?;
        Pattern::new(&text).ok()
    }

    pub(super) fn power(&mut self, section: &Section<'_>, board: &Board) -> Option<Power> {
        let keys = ["usb_port", "line", "on", "off", "tasmota", "off_time"];
        let section = self.reader.object(section, "power", &keys)?;
        let off_ms = self.time(&section, "off_time").unwrap_or(OFF_MS);
        let key = self.reader.one_of(&section, &["usb_port", "line", "on", "tasmota"])?;
        if section.get("off").is_some() != (key == "on") {
            self.reader.report(&section, "off", "`on` and `off` together");
        }
        let (at, path) = (section.place_of(key), section.path_of(key));
        let by = match key {
            "usb_port" => {
                let port = self.reader.checked(&section, key, usb_port)?;
                self.take(format!("the power of USB port {port}"), &board.name, at, &path);
                Supply::UsbPort(port)
            }
            "line" => Supply::Line(self.reader.checked(&section, key, |name| match board.line(name) {
                Some(line) if matches!(line.use_as, Use::Output { .. }) => Ok(()),
                _ => Err(format!("the name of a line of this board that is driven, found `{}`", shown(name))),
            })?),
            "tasmota" => {
                let base = self.reader.checked(&section, key, url)?;
                let base = base.trim_end_matches('/');
                // It answers what it did not understand, or what wants a password, with a status that is none of an error.
                let request = |word: &str, answer| Request {
                    post: false,
                    url: format!("{base}/cm?cmnd=Power%20{word}"),
                    answer: Some(answer),
                };
                Supply::Http { on: request("On", "\":\"ON\""), off: request("Off", "\":\"OFF\"") }
            }
            _ if section.get(key).is_some_and(|value| value.as_array().is_some()) => {
                Supply::Commands { on: self.words(&section, "on", &[]), off: self.words(&section, "off", &[]) }
            }
            _ => Supply::Http { on: self.request(&section, "on")?, off: self.request(&section, "off")? },
        };
        Some(Power { by, off_ms })
    }

    fn request(&mut self, section: &Section<'_>, key: &str) -> Option<Request> {
        let text = self.reader.checked(section, key, |text| url(text.strip_prefix("POST ").unwrap_or(text)))?;
        let posted = text.strip_prefix("POST ");
        Some(Request { post: posted.is_some(), url: posted.unwrap_or(&text).to_string(), answer: None })
    }

    pub(super) fn health(&mut self, section: &Section<'_>, board: &Board) -> Option<Health> {
        let section = self.reader.object(section, "health", &["flash", "pass", "within", "every"])?;
        let mut images = Vec::new();
        let file = |path: &str| (1..=4096).contains(&path.len()) && !path.contains('\0');
        let expected = "the path of an image, or an object of such by target";
        match section.get("flash") {
            Some(value) if value.as_text().is_some_and(file) => {
                images.push((String::new(), value.as_text().unwrap_or_default().to_string()));
            }
            None => {}
            Some(_) => {
                for (name, value, path) in self.reader.entries(&section, "flash", expected) {
                    let known =
                        board.flash.iter().flat_map(|flash| &flash.targets).any(|target| target.name == name.value);
                    match value.as_text().filter(|path| file(path)) {
                        _ if !known => self.reader.wrong_at(name.at, &path, "the name of a target of this board"),
                        None => self.reader.wrong(value, &path, "the path of an image"),
                        Some(image) => images.push((name.value.clone(), image.to_string())),
                    }
                }
            }
        }
        if !images.is_empty() && board.flash.is_none() {
            self.reader.report(&section, "flash", "a board with a `flash` for this");
        }
        let within_ms = self.time(&section, "within").unwrap_or(HEALTHY_WITHIN_MS);
        let text = self.reader.checked(&section, "every", |text| every(text).map(|_| ()));
        let every_s = text.and_then(|text| every(&text).ok());
        self.reader.needed(&section, "pass", |_| Ok(()));
        Some(Health { images, pass: self.pattern(&section, "pass")?, within_ms, every_s })
    }
}

/// Seconds between two looks at a board's health.
fn every(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(['m', 'h', 'd']);
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "m" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| digits.parse::<u64>().ok()).flatten();
    let seconds = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    seconds.filter(|seconds| (HEALTH_EVERY_S..=HEALTH_EVERY_MAX_S).contains(seconds)).ok_or_else(|| {
        let (least, most) = (HEALTH_EVERY_S / 60, HEALTH_EVERY_MAX_S / (24 * 60 * 60));
        format!("a time like \"30m\", \"12h\" or \"7d\", {least} minutes to {most} days")
    })
}

fn target(name: &str, place: &str, address: u32) -> Target {
    Target { name: name.to_string(), place: place.to_string(), address, size: None, alternate: None }
}

/// Checks the address of something that is asked by plain HTTP.
fn url(text: &str) -> Result<(), String> {
    let host = text.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
    let plain = text.len() <= 1024 && text.bytes().all(|byte| (b'!'..0x7f).contains(&byte));
    let good = host.is_some_and(|host| !host.is_empty() && !host.contains('@'));
    if plain && good { Ok(()) } else { Err("http://HOST[:PORT]/…, without blanks".to_string()) }
}
