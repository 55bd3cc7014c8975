//! Bytes of a reference's name ↔ text, which is what records, JSON, pages and terminals can hold.
//!
//! Git takes almost any bytes for a name, and none with a backslash (git-check-ref-format(1)). So a byte that is not UTF-8, and
//! each byte of a character that cannot be seen or turns text around, is written as `\xHH` with two lower-case digits; nothing
//! else is changed. The text of a name is unique, the bytes come back from it, and it can be shown as it is.

use alloc::string::String;
use alloc::vec::Vec;

/// Whether a character is better not shown as it is: controls, line ends of Unicode, marks that are not seen or reverse the
/// direction of text (UAX #9). Those that join the letters of some scripts are what makes these readable.
fn hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escape(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push_str("\\x");
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
}

/// The text of a name.
pub fn text(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if hidden(letter) {
                escape(letter.encode_utf8(&mut [0; 4]).as_bytes(), &mut text);
            } else {
                text.push(letter);
            }
        }
        escape(chunk.invalid(), &mut text);
    }
    text
}

/// The bytes of a name, from its text or one in which more is escaped than must be. `None` when what follows a backslash is no
/// escape.
pub fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('\\');
    let mut name = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.strip_prefix('x')?.split_at_checked(2)?;
        let digits_only = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        name.push(u8::from_str_radix(digits, 16).ok().filter(|_| digits_only)?);
        name.extend_from_slice(rest.as_bytes());
    }
    Some(name)
}

/// The one text of a name, from any text of it.
pub fn canonical(text: &str) -> Option<String> {
    bytes(text).map(|name| self::text(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_text() {
        for (name, expected) in [
            (&b"refs/heads/main"[..], "refs/heads/main"),
            ("refs/heads/ä€😀".as_bytes(), "refs/heads/ä€😀"),
            (b"refs/heads/caf\xe9", "refs/heads/caf\\xe9"),
            (b"\xff\xfea\xc3", "\\xff\\xfea\\xc3"),
            ("a\u{202e}b\u{85}".as_bytes(), "a\\xe2\\x80\\xaeb\\xc2\\x85"),
            (b"", ""),
        ] {
            assert_eq!(text(name), expected);
            assert_eq!(bytes(expected).as_deref(), Some(name));
            assert_eq!(canonical(expected).as_deref(), Some(expected));
        }
        for byte in 0..=255 {
            assert_eq!(bytes(&text(&[b'a', byte, b'b'])).is_some(), byte != b'\\', "{byte}");
        }
    }

    #[test]
    fn what_is_escaped_without_need_is_the_same_name_and_what_is_no_escape_is_none() {
        assert_eq!(canonical("\\x61\\xc3\\xa4").as_deref(), Some("aä"));
        for wrong in ["\\", "a\\n", "\\x", "\\x1", "\\x+1", "\\xé", "\\X41", "\\\\"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }
}
