//! A line for whoever reads the standard error of a process → there, with nothing in it that a terminal obeys.

use sai_core::escape;
use std::io::{self, Write as _};

/// Tells a line. There is nobody to tell that nobody can be told.
pub fn tell(text: &str) {
    tell_as(text, &str::to_string);
}

/// The same, as it is shown to whoever reads it.
pub fn tell_as(text: &str, show: &dyn Fn(&str) -> String) {
    let text = show(&format!("sai-buddy: {}", escape::lines(text.trim_end()))) + "\n";
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Exit status: Sai has found a mistake of its own, in a build for tests.
const EXIT_BUG: i32 = 70;

/// In a build for tests: machines, by commas, whose edge is to tell them what they have not asked for. With this they go on
/// after that, as in a build for people.
const MISTAKES: &str = "SAI_TESTS_MISTAKES";

/// Whether a test wants to see what becomes of a mistake of this machine's edge.
pub fn is_mistaken(machine: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var(MISTAKES).is_ok_and(|machines| machines.split(',').any(|other| other == machine))
}

/// A machine of the core has found something that cannot be, and somebody was told. It goes on; tests end with it.
pub fn end_of_tests() {
    if cfg!(debug_assertions) && std::env::var_os(MISTAKES).is_none() {
        std::process::exit(EXIT_BUG);
    }
}
