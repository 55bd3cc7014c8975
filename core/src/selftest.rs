//! What was tried of a machine's hardware, and what came of it → a report to attach to a bug: each check says what it proves.
//!
//! Emulation cannot show that a firmware starts a card, that a radio finds its network, or that a wire carries a level. Who has the
//! hardware can, in a few minutes, and what is not there or was not asked for is said to be so, never counted as well.

use crate::escape;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Changes of a line that is wired to another: enough that each way is seen often, and no more than a kernel keeps edges of.
pub const CHANGES: usize = 200;
/// Bytes that are sent over a serial line, 16 KiB: four times what a kernel keeps of one, and 1.4 s at 115 200 baud.
pub const BYTES: usize = 16 << 10;
/// Columns of a name in a report.
const NAME: usize = 10;
/// Columns of an outcome.
const OUTCOME: usize = 9;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// This machine has nothing of the kind.
    Absent,
    /// It takes a person, or a wire, and nobody said that there is one.
    Unasked,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Absent => "not there",
            Self::Unasked => "not asked",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// What was found, or how it is asked for.
    pub found: String,
    /// What is proven where it passed.
    pub proves: &'static str,
}

/// Whether nothing failed.
pub fn is_well(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != Outcome::Failed)
}

/// The report: what this machine is, each check, and how many of each kind there are.
pub fn report(machine: &[(&str, String)], checks: &[Check]) -> String {
    let mut text = String::new();
    for (what, value) in machine {
        text.push_str(&format!("{what:<NAME$} {}\n", escape::line(value)));
    }
    for check in checks {
        let (word, name) = (check.outcome.word(), check.name);
        text.push_str(&format!("{word:<OUTCOME$} {name:<NAME$} {}\n", escape::line(&check.found)));
        if check.outcome == Outcome::Passed {
            text.push_str(&format!("{:OUTCOME$} {:NAME$} proves that {}\n", "", "", check.proves));
        }
    }
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    let kinds = [Outcome::Passed, Outcome::Failed, Outcome::Absent, Outcome::Unasked];
    let counts: Vec<String> = kinds.iter().map(|kind| format!("{} {}", count(*kind), kind.word())).collect();
    text.push_str(&format!("in all: {}\n", counts.join(", ")));
    text
}

/// The GPIOs that a wire leads from and to, as in `17,27`.
pub fn ends(text: &str) -> Option<(u32, u32)> {
    let (out, into) = text.split_once(',')?;
    let (out, into) = (out.trim().parse().ok()?, into.trim().parse().ok()?);
    (out != into).then_some((out, into))
}

/// What a line had that is wired to one which was moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Levels that were set, each with the one that was read afterwards.
    pub levels: Vec<(bool, bool)>,
    /// Edges that the kernel reported.
    pub edges: usize,
    /// Edges that it counted and had no room for.
    pub lost: u64,
    /// Nanoseconds between a change and the kernel's stamp of it, at most.
    pub latest_ns: u64,
}

/// What a wire between two GPIOs shows.
pub fn wire(out: u32, into: u32, followed: &Followed) -> (Outcome, String) {
    let levels = &followed.levels;
    let count = levels.len();
    let right = levels.iter().filter(|(set, read)| set == read).count();
    let still = levels.windows(2).all(|pair| pair.first().map(|level| level.1) == pair.last().map(|level| level.1));
    if count > 1 && still {
        let level = u8::from(levels.first().is_some_and(|level| level.1));
        let text = format!("GPIO {into} stays {level} whatever GPIO {out} is: is there a wire from one to the other?");
        return (Outcome::Failed, text);
    }
    if right == 0 {
        return (Outcome::Failed, format!("GPIO {into} is always what GPIO {out} is not: what is between them?"));
    }
    if right < count {
        let wrong = count - right;
        return (Outcome::Failed, format!("GPIO {into} was not what GPIO {out} was after {wrong} of {count} changes"));
    }
    let Followed { edges, lost, latest_ns, .. } = followed;
    if *edges == 0 && *lost == 0 {
        let text = format!(
            "GPIO {into} follows GPIO {out} in all {count} changes, but the kernel reported no edge: what a board does \
             between two looks is not seen here"
        );
        return (Outcome::Failed, text);
    }
    if *edges != count || *lost > 0 {
        let text =
            format!("GPIO {into} follows GPIO {out}, but {count} changes made {edges} edges, and {lost} were lost");
        return (Outcome::Failed, text);
    }
    let text = format!(
        "GPIO {into} follows GPIO {out} in all {count} changes, each stamped by the kernel within {} µs",
        latest_ns.div_ceil(1_000)
    );
    (Outcome::Passed, text)
}

/// Bytes to send over a wire from a serial line to itself: all values in many orders, those too that some drivers obey.
pub fn bytes() -> Vec<u8> {
    // Marsaglia's xorshift with 32 bits, from any number but zero.
    let mut state = 0x5a1c_a2d0_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    core::iter::repeat_with(next).take(BYTES).collect()
}

/// What such a wire shows: what was sent and came, what is known to be missing, in what time and at what speed.
pub fn echo(sent: &[u8], came: &[u8], trouble: &[String], ms: u64, baud: u32) -> (Outcome, String) {
    let trouble = if trouble.is_empty() { String::new() } else { format!(" ({})", trouble.join(", ")) };
    if came.is_empty() {
        let text = format!("none of {} bytes came back{trouble}: is there a wire from TX to RX?", sent.len());
        return (Outcome::Failed, text);
    }
    let same = sent.iter().zip(came).take_while(|(sent, came)| sent == came).count();
    let found = match (sent.get(same), came.get(same)) {
        (Some(sent), Some(came)) => format!("byte {same} was sent as {sent:#04x} and came back as {came:#04x}"),
        (Some(_), None) => format!("{} of {} bytes came back", came.len(), sent.len()),
        (None, Some(_)) => format!("{} bytes were sent and {} came back", sent.len(), came.len()),
        (None, None) if trouble.is_empty() => {
            // Start and stop bit make ten of a byte's eight.
            let least = sent.len() as u64 * 10_000 / u64::from(baud.max(1));
            let text =
                format!("{} bytes came back as they were sent, in {ms} ms; {baud} baud take {least}", sent.len());
            return (Outcome::Passed, text);
        }
        (None, None) => "all bytes came back".to_string(),
    };
    (Outcome::Failed, format!("{found}{trouble}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn followed(levels: &[(bool, bool)], edges: usize, lost: u64) -> Followed {
        Followed { levels: levels.to_vec(), edges, lost, latest_ns: 12_345 }
    }

    #[test]
    fn a_wire_is_one_where_each_change_is_read_and_reported() {
        let (high, low) = ((true, true), (false, false));
        let says = |levels: &[(bool, bool)], edges, lost| wire(17, 27, &followed(levels, edges, lost));
        let (outcome, text) = says(&[high, low, high, low], 4, 0);
        assert_eq!(outcome, Outcome::Passed);
        assert_eq!(text, "GPIO 27 follows GPIO 17 in all 4 changes, each stamped by the kernel within 13 µs");
        for (levels, edges, lost, part) in [
            (vec![(true, false), low, (true, false), low], 0, 0, "stays 0 whatever GPIO 17 is: is there a wire"),
            (vec![high, (false, true)], 0, 0, "stays 1 whatever"),
            (vec![(true, false), (false, true)], 2, 0, "always what GPIO 17 is not"),
            (vec![high, low, (true, false), low], 2, 0, "after 1 of 4 changes"),
            (vec![high, low], 0, 0, "the kernel reported no edge"),
            (vec![high, low, high], 2, 1, "3 changes made 2 edges, and 1 were lost"),
            (vec![high, low], 3, 0, "2 changes made 3 edges"),
            (vec![], 0, 0, "always"),
        ] {
            let (outcome, text) = says(&levels, edges, lost);
            assert!(outcome == Outcome::Failed && text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_serial_line_is_well_where_all_bytes_come_back() {
        let sent = bytes();
        assert_eq!(sent.len(), BYTES);
        assert!((0..=255).all(|value| sent.contains(&value)), "a value is never sent");
        let says = |came: &[u8], trouble: &[String]| echo(&sent, came, trouble, 1_500, 115_200);
        let (outcome, text) = says(&sent, &[]);
        assert_eq!(outcome, Outcome::Passed);
        assert_eq!(text, "16384 bytes came back as they were sent, in 1500 ms; 115200 baud take 1422");
        let mut other = sent.clone();
        other[700] ^= 1;
        let more = [&sent[..], b"x"].concat();
        let trouble = ["overrun".to_string()];
        for (came, trouble, part) in [
            (&sent[..0], &[][..], "none of 16384 bytes came back: is there a wire"),
            (&sent[..0], &trouble[..], "came back (overrun): is there"),
            (&sent[..9_000], &[], "9000 of 16384 bytes came back"),
            (&other, &[], "byte 700 was sent as "),
            (&more, &[], "16384 bytes were sent and 16385 came back"),
            (&sent, &trouble, "all bytes came back (overrun)"),
        ] {
            let (outcome, text) = says(came, trouble);
            assert!(outcome == Outcome::Failed && text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_report_says_what_is_proven_and_what_is_not() {
        let check = |name, outcome, found: &str| Check { name, outcome, found: found.to_string(), proves: "it works" };
        let checks = [
            check("usb", Outcome::Passed, "pulled\u{1b}[2J"),
            check("serial", Outcome::Unasked, "say --serial TTY"),
            check("watchdog", Outcome::Absent, "no /dev/watchdog"),
        ];
        assert!(is_well(&checks));
        let machine = [("machine", "Raspberry Pi 3 Model B".to_string())];
        let text = report(&machine, &checks);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "machine    Raspberry Pi 3 Model B");
        assert!(lines[1].starts_with("passed    usb        pulled") && !text.contains('\u{1b}'), "{text}");
        assert_eq!(lines[2].trim_start(), "proves that it works");
        assert_eq!(lines[3], "not asked serial     say --serial TTY");
        assert_eq!(lines[5], "in all: 1 passed, 0 FAILED, 1 not there, 1 not asked");
        assert!(!is_well(&[check("gpio", Outcome::Failed, "no wire")]));
    }
}
