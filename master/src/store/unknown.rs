//! A record as it is kept, and as this version writes it → the same with what only a later version knows of it.
//!
//! Keys of the record itself that this version does not have are kept whatever else changes. Inside of it an object stays as
//! it was when all that this version knows of it is as it was; one that has become another says nothing of the old one.

use std::borrow::Cow;

/// `new` with what `old` has besides. Both are objects as JSON; of what is none, nothing is made.
pub(super) fn kept<'a>(old: &str, new: &'a str) -> Cow<'a, str> {
    let (Some(before), Some(after)) = (members(old), members(new)) else { return Cow::Borrowed(new) };
    let mut whole = String::new();
    let mut changed = false;
    for (key, value) in &after {
        let value = match find(&before, key) {
            Some(old) => inside(old, value),
            None => Cow::Borrowed(*value),
        };
        changed |= matches!(value, Cow::Owned(_));
        push(&mut whole, key, &value);
    }
    for (key, value) in &before {
        if find(&after, key).is_none() {
            changed = true;
            push(&mut whole, key, value);
        }
    }
    if changed { Cow::Owned(format!("{whole}}}")) } else { Cow::Borrowed(new) }
}

fn push(whole: &mut String, key: &str, value: &str) {
    whole.push(if whole.is_empty() { '{' } else { ',' });
    whole.push_str(key);
    whole.push(':');
    whole.push_str(value);
}

fn find<'a>(members: &[(&str, &'a str)], key: &str) -> Option<&'a str> {
    members.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
}

/// A value inside of a record: the old text where it says all that the new one does.
fn inside<'a>(old: &str, new: &'a str) -> Cow<'a, str> {
    if old == new || !new.starts_with(['{', '[']) {
        return Cow::Borrowed(new);
    }
    if says(old, new) {
        return Cow::Owned(old.to_string());
    }
    // One of many may have changed, and the others have not.
    let (Some(before), Some(after)) = (elements(old), elements(new)) else { return Cow::Borrowed(new) };
    let all: Vec<Cow<'_, str>> = after
        .iter()
        .enumerate()
        .map(|(at, new)| before.get(at).map_or(Cow::Borrowed(*new), |old| inside(old, new)))
        .collect();
    if all.iter().any(|value| matches!(value, Cow::Owned(_))) {
        Cow::Owned(format!("[{}]", all.join(",")))
    } else {
        Cow::Borrowed(new)
    }
}

/// Whether a value says all that another does.
fn says(old: &str, new: &str) -> bool {
    if old == new {
        return true;
    }
    match (members(old), members(new)) {
        // An optional key may be absent, which is as good as null.
        (Some(old), Some(new)) => new.iter().all(|(key, value)| match find(&old, key) {
            Some(old) => says(old, value),
            None => *value == "null",
        }),
        (None, None) => match (elements(old), elements(new)) {
            (Some(old), Some(new)) => old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| says(old, new)),
            _ => false,
        },
        _ => false,
    }
}

/// The keys of an object, in their quotes, and their values.
fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = text.trim_start().strip_prefix('{')?.trim_start();
    let mut found = Vec::new();
    while !rest.starts_with('}') {
        let (key, after) = rest.split_at_checked(value(rest)?)?;
        let after = after.trim_start().strip_prefix(':')?.trim_start();
        let (value, after) = after.split_at_checked(value(after)?)?;
        found.push((key, value));
        rest = next(after)?;
    }
    Some(found)
}

/// The values of an array.
fn elements(text: &str) -> Option<Vec<&str>> {
    let mut rest = text.trim_start().strip_prefix('[')?.trim_start();
    let mut found = Vec::new();
    while !rest.starts_with(']') {
        let (value, after) = rest.split_at_checked(value(rest)?)?;
        found.push(value);
        rest = next(after)?;
    }
    Some(found)
}

/// What follows a value in an object or array: the next one, or the end.
fn next(after: &str) -> Option<&str> {
    let after = after.trim_start();
    match after.strip_prefix(',') {
        Some(rest) => Some(rest.trim_start()),
        None => after.starts_with(['}', ']']).then_some(after),
    }
}

/// Bytes of the value that a text begins with.
fn value(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        let end = match byte {
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' if quoted => {
                escaped = true;
                false
            }
            b'"' => {
                quoted = !quoted;
                !quoted && depth == 0
            }
            _ if quoted => false,
            b'{' | b'[' => {
                depth += 1;
                false
            }
            b'}' | b']' if depth == 0 => return (at > 0).then_some(at),
            b'}' | b']' => {
                depth -= 1;
                depth == 0
            }
            b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return (at > 0).then_some(at),
            _ => false,
        };
        if end {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_knows_of_a_record_stays() {
        for (old, new, kept_text) in [
            // Nothing to keep.
            (r#"{"a":1,"b":null}"#, r#"{"a":2,"b":[]}"#, r#"{"a":2,"b":[]}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":null}"#, r#"{"a":1,"b":null}"#),
            // Keys of the record.
            (r#"{"a":1,"x":{"y":[1,"}\""]},"z":null}"#, r#"{"a":2}"#, r#"{"a":2,"x":{"y":[1,"}\""]},"z":null}"#),
            (r#"{"x":-1.5e3,"a":1}"#, r#"{"a":1}"#, r#"{"a":1,"x":-1.5e3}"#),
            (r#" { "x" : true , "a" : 1 } "#, r#"{"a":1}"#, r#"{"a":1,"x":true}"#),
            // Of an object in it, while it is what it was.
            (r#"{"v":{"o":"F","x":9}}"#, r#"{"v":{"o":"F","t":null}}"#, r#"{"v":{"o":"F","x":9}}"#),
            (r#"{"v":{"o":"F","x":9}}"#, r#"{"v":{"o":"P"}}"#, r#"{"v":{"o":"P"}}"#),
            (r#"{"v":{"o":"F","x":9}}"#, r#"{"v":null}"#, r#"{"v":null}"#),
            (r#"{"v":{"o":"F","x":9},"w":1}"#, r#"{"v":null}"#, r#"{"v":null,"w":1}"#),
            // Of those in a list.
            (
                r#"{"l":[{"p":1,"x":1},{"p":2,"x":2}]}"#,
                r#"{"l":[{"p":1},{"p":2}]}"#,
                r#"{"l":[{"p":1,"x":1},{"p":2,"x":2}]}"#,
            ),
            (
                r#"{"l":[{"p":1,"x":1},{"p":2,"x":2}]}"#,
                r#"{"l":[{"p":7},{"p":2}]}"#,
                r#"{"l":[{"p":7},{"p":2,"x":2}]}"#,
            ),
            (r#"{"l":[{"p":1,"x":1}]}"#, r#"{"l":[{"p":1},{"p":2}]}"#, r#"{"l":[{"p":1,"x":1},{"p":2}]}"#),
            (r#"{"l":[{"p":1,"x":1}]}"#, r#"{"l":[]}"#, r#"{"l":[]}"#),
            // What is no object has nothing to say.
            ("", r#"{"a":1}"#, r#"{"a":1}"#),
            ("[1]", r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"x":1"#, r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"x"}"#, r#"{"a":1}"#, r#"{"a":1}"#),
        ] {
            assert_eq!(kept(old, new), kept_text, "{old} {new}");
        }
    }

    #[test]
    fn a_cut_record_never_panics() {
        let text = r#"{"a":[{"é\"\\":1},[],{}],"b":"x\\","c":-1e9,"d":{"e":{"f":null}}}"#;
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let _ = (kept(&text[..cut], text), kept(text, &text[..cut]), kept(&text[cut..], text));
        }
    }
}
