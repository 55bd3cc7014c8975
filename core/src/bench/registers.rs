//! Keys of lines that a Raspberry Pi's own GPIOs have and no others: pulses and alternate functions, by registers.

use super::reading::BenchReader;
use super::{Board, Drive, HERTZ_MAX, PI, PI_PINS, Pin, Use, Wire};
use crate::settings::Section;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Board {
    /// Names of its lines that are set by register, which nothing keeps other programs from moving.
    pub fn by_register(&self) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| {
            let is_driven = matches!(line.use_as, Use::Output { .. });
            is_driven && matches!(&line.wire, Wire::Gpio(chip, _) if chip == PI)
        });
        lines.map(|line| line.name.as_str()).collect()
    }
}

impl BenchReader {
    /// What a line is at 1, where that is more than a level.
    pub(super) fn more_than_levels(&mut self, section: &Section<'_>) -> Option<Drive> {
        let text = self.reader.checked(section, "pwm", |text| pulses(text).map(drop));
        let functions = ["alt0", "alt1", "alt2", "alt3", "alt4", "alt5"];
        let function = self.reader.word(section, "function", &functions);
        let function = function.map(|function| Drive::Function(function as u8));
        text.and_then(|text| pulses(&text).ok()).or(function)
    }

    /// What holds for a Raspberry Pi's own GPIOs, and what others have not.
    pub(super) fn registers(&mut self, section: &Section<'_>, wire: &Wire, use_as: Use) {
        let Wire::Gpio(chip, pin) = wire else { return };
        let keys = ["pwm", "function"].map(|key| section.get(key).map(|_| key));
        if chip != PI {
            for key in keys.into_iter().flatten() {
                self.reader.report(section, key, "a line of the chip \"pi\": no other has this");
            }
            return;
        }
        if !matches!(pin, Pin::Offset(number) if *number < PI_PINS) {
            self.reader.report(section, "line", "the number of a GPIO of the chip \"pi\", from 0 to 53");
        }
        let Use::Output { safe, drive } = use_as else { return };
        if keys.into_iter().flatten().count() + usize::from(section.get("drive").is_some()) > 1 {
            self.reader.report(section, "line", "only one of drive, pwm and function");
        }
        match drive {
            Drive::PushPull => {}
            Drive::OpenDrain | Drive::OpenSource => {
                self.reader.report(section, "drive", "\"push-pull\": the chip \"pi\" has no other");
            }
            Drive::Pulses { .. } | Drive::Function(_) => {
                if safe {
                    self.reader.report(section, "safe", "0: a guard makes no pulses, and has no function");
                }
                if self.reader.boolean(section, "active_low") == Some(true) {
                    self.reader.report(section, "active_low", "false, where a pin has no level at 1");
                }
            }
        }
    }
}

/// Pulses of a text like `1000Hz 30%`.
///
/// # Errors
/// What was expected.
fn pulses(text: &str) -> Result<Drive, String> {
    let number = |text: &str, unit: &str| -> Option<u32> {
        let digits = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse().ok()
    };
    let read = || {
        let (hertz, percent) = text.split_once(' ')?;
        let hertz = number(hertz, "Hz").filter(|hertz| (1..=HERTZ_MAX).contains(hertz))?;
        let percent = number(percent, "%").filter(|percent| (1..=99).contains(percent))?;
        Some(Drive::Pulses { hertz, percent: percent as u8 })
    };
    read().ok_or_else(|| format!("pulses like \"1000Hz 30%\", at most {HERTZ_MAX}Hz, of 1% to 99%"))
}
