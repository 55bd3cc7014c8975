//! Text of a repository or peer → text that is safe on a terminal: what would move a cursor, ring, recolour or reorder is
//! spelt out.

use alloc::string::String;

/// One line of it: control characters, line ends and tabs too, and those that change the direction of writing are spelt
/// as `\u{1b}`, so that nothing looks like what it is not.
pub fn line(text: &str) -> String {
    escaped(text, |letter| letter.is_control() || turns(letter))
}

/// The same for a text of ours that has several lines: line ends and tabs stay.
pub fn lines(text: &str) -> String {
    escaped(text, |letter| (letter.is_control() && !matches!(letter, '\n' | '\t')) || turns(letter))
}

fn escaped(text: &str, wrong: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if wrong(letter) {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

/// Whether a character changes the order in which others are shown (UAX #9, explicit formatting), or ends a line
/// without being a control character (U+2028, U+2029).
fn turns(letter: char) -> bool {
    matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(line("a\u{1b}[2Jb\r\n\tc"), r"a\u{1b}[2Jb\r\n\tc");
        assert_eq!(lines("a\u{1b}[2Jb\r\n\tc"), "a\\u{1b}[2Jb\\r\n\tc");
        assert_eq!(line("\u{9b}31m\u{7f}\u{202e}gnp.exe\u{2028}"), r"\u{9b}31m\u{7f}\u{202e}gnp.exe\u{2028}");
        assert_eq!(line("Grüße, 日本, \\ and \"quotes\""), "Grüße, 日本, \\ and \"quotes\"");
    }
}
