//! A line for whoever looks after this machine → the kernel's log, which shows it on every console: screen and serial line.

use sai_core::escape;
use std::fs::OpenOptions;
use std::io::Write as _;

/// Bytes of a line at most: the kernel takes a little less than 1000 at once.
const LINE_MOST: usize = 900;

/// Tells lines, each with nothing in it that a terminal obeys.
pub fn tell(text: &str) {
    for line in text.lines() {
        let mut line = escape::line(line);
        let cut = (0..=LINE_MOST).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
        line.truncate(cut);
        // A warning to the kernel: what is less is not shown.
        let said = OpenOptions::new()
            .write(true)
            .open("/dev/kmsg")
            .and_then(|mut log| log.write_all(format!("<4>sai: {line}\n").as_bytes()));
        if said.is_err() {
            // There is nobody to tell that nobody can be told.
            let _ = std::io::stderr().write_all(format!("sai-init: {line}\n").as_bytes());
        }
    }
}
