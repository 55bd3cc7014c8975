//! Text → standard output and standard error: escaped, and never the end of a program because nobody reads it.
//!
//! The library's `println!` panics where its stream is full or closed. What is said here is lost then; what was asked
//! for (a table, a token) is delivered, and who delivers it hears that it was not.

use sai_core::escape;
use std::io::{self, ErrorKind, Write as _};

/// Tells the operator something on standard error, under a program's name. Further lines are indented, so that no text
/// of a peer can look like a line of ours.
pub fn tell(program: &str, text: &str) {
    let text = format!("{program}: {}\n", escape::lines(text.trim_end()).replace('\n', "\n  "));
    // There is nobody to tell that nobody can be told.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Prints what explains or accompanies something, as help and the lines of a verdict do. Whether it can be printed
/// changes nothing.
pub fn print(text: &str) {
    let _ = deliver(text.as_bytes());
}

/// Prints what was asked for. A reader that has gone wanted no more of it.
///
/// # Errors
/// What keeps it from standard output, such as a full disk.
pub fn deliver(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
