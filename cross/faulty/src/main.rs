//! A word → a fault of this program's own, or none: with `wait` it waits to be ended, with any other word it looks for a byte where the
//! word has none.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => ExitCode::SUCCESS,
        Some("wait") => {
            eprintln!("waiting");
            std::thread::park();
            ExitCode::SUCCESS
        }
        Some(word) => faulty(word),
    }
}

/// A function of its own, so that there is a caller to be told.
#[inline(never)]
fn faulty(word: &str) -> ExitCode {
    #[allow(clippy::indexing_slicing, reason = "this is the fault")]
    ExitCode::from(word.as_bytes()[word.len() + 1])
}
