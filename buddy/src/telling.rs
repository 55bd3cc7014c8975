//! A line for whoever reads the standard error of a process → there, with nothing in it that a terminal obeys.

use sai_core::escape;
use std::io::{self, Write as _};

/// Tells a line. There is nobody to tell that nobody can be told.
pub fn tell(text: &str) {
    let text = format!("sai-buddy: {}\n", escape::lines(text.trim_end()));
    let _ = io::stderr().write_all(text.as_bytes());
}
