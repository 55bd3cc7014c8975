//! Body of a form (`multipart/form-data`, RFC 7578) → the bytes of its one part, a file.
//!
//! The original's notification is such a form, and its signature covers the file. So what is not exactly one file is none: of two
//! parts somebody else might take the other one.

use alloc::string::String;

/// Longest boundary, in bytes, RFC 2046.
const BOUNDARY_BYTES: usize = 70;

/// The file in a body whose `content-type` this is; none when that is no form, or the form is anything but one file.
pub fn one_file<'a>(content_type: &str, body: &'a [u8]) -> Option<&'a [u8]> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES || !boundary.bytes().all(|byte| matches!(byte, 32..127)) {
        return None;
    }
    // Each but the first is the end of a line that belongs to it.
    let delimiter = ["\r\n--", &boundary].concat();
    let mut rest = match body.strip_prefix(delimiter.as_bytes().get(2..)?) {
        Some(rest) => rest,
        None => split(body, delimiter.as_bytes())?.1,
    };
    rest = split_line(rest).filter(|(padding, _)| padding.iter().all(|byte| matches!(byte, b' ' | b'\t')))?.1;
    let mut file = false;
    loop {
        let (line, after) = split_line(rest)?;
        rest = after;
        if line.is_empty() {
            break;
        }
        let (name, value) = core::str::from_utf8(line).ok()?.split_once(':')?;
        if name.eq_ignore_ascii_case("content-disposition") {
            let (kind, parameters) = value.split_once(';')?;
            file = kind.trim().eq_ignore_ascii_case("form-data")
                && ["filename", "filename*"].iter().any(|name| parameter(parameters, name).is_some());
        }
    }
    let (content, end) = split(rest, delimiter.as_bytes())?;
    (file && end.starts_with(b"--")).then_some(content)
}

/// The value of a parameter among several: a word, or a text in quotes.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let mut value = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut letters = quoted.char_indices();
            let end = loop {
                match letters.next()? {
                    (end, '"') => break end,
                    (_, '\\') => value.push(letters.next()?.1),
                    (_, letter) => value.push(letter),
                }
            };
            rest = quoted.get(end + 1..)?.trim_start();
            if !rest.is_empty() {
                rest = rest.strip_prefix(';')?;
            }
        } else {
            let (word, others) = after.split_once(';').unwrap_or((after, ""));
            value.push_str(word.trim_end());
            rest = others;
        }
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    split(bytes, b"\r\n")
}

/// What is before and behind the first place where these bytes stand.
fn split<'a>(bytes: &'a [u8], wanted: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
    Some((bytes.get(..at)?, bytes.get(at + wanted.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const KIND: &str = "multipart/form-data; boundary=xYx";
    const BODY: &str = "--xYx\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.json\"\r\n\
        Content-Type: application/json\r\n\r\n{\r\n--xY\r\n}\r\n--xYx--\r\n";

    #[test]
    fn the_one_file_is_found_however_it_is_written() {
        let content: &[u8] = b"{\r\n--xY\r\n}";
        assert_eq!(one_file(KIND, BODY.as_bytes()), Some(content));
        for kind in [
            "Multipart/Form-Data;boundary=\"xYx\"",
            "multipart/form-data; charset=utf-8; BOUNDARY=xYx",
            "multipart/form-data; a=\"; boundary=z\\\"\"; boundary=xYx ; b=c",
        ] {
            assert_eq!(one_file(kind, BODY.as_bytes()), Some(content), "{kind}");
        }
        for (from, to) in [
            ("--xYx\r\nC", "before it\r\n--xYx \t\r\nC"),
            ("--xYx--\r\n", "--xYx--"),
            ("--xYx--\r\n", "--xYx--\r\nafter it"),
            ("filename=\"x.json\"", "filename=x.json"),
            ("filename=\"x.json\"", "filename*=UTF-8''x"),
            ("filename=\"x.json\"", "filename=\"\""),
            ("Content-D", "content-d"),
        ] {
            assert_eq!(one_file(KIND, BODY.replace(from, to).as_bytes()), Some(content), "{to}");
        }
        let bytes: Vec<u8> = (0..=255).collect();
        let mut body = b"--b\r\ncontent-disposition: form-data; name=f; filename=f\r\n\r\n".to_vec();
        body.extend(&bytes);
        body.extend(b"\r\n--b--");
        assert_eq!(one_file("multipart/form-data; boundary=b", &body), Some(bytes.as_slice()));
        let empty = "--xYx\r\ncontent-disposition: form-data; filename=f\r\n\r\n\r\n--xYx--";
        assert_eq!(one_file(KIND, empty.as_bytes()), Some(&[][..]));
    }

    #[test]
    fn anything_else_is_none() {
        for kind in [
            "",
            "application/json",
            "multipart/form-data",
            "multipart/mixed; boundary=xYx",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=other",
            "multipart/form-data; boundary=\"xYx",
            "multipart/form-data; boundary=\"xYx\"z; boundary=xYx",
            "multipart/form-data; boundary",
            "multipart/form-data; boundary=\u{1}",
        ] {
            assert_eq!(one_file(kind, BODY.as_bytes()), None, "{kind}");
        }
        let second = "--xYx\r\nContent-Disposition: form-data; name=\"more\"\r\n\r\nx\r\n--xYx--\r\n";
        for (from, to) in [
            ("--xYx--\r\n", second),
            ("; filename=\"x.json\"", ""),
            ("form-data", "attachment"),
            ("Content-Disposition", "X-Content-Disposition"),
            ("--xYx--", "--xYx"),
            ("--xYx--", "--xYxz--"),
            ("\r\n--xYx--", ""),
            ("--xYx\r\nC", "--xYxC"),
            ("--xYx\r\nC", "--xYx C"),
            ("\r\n\r\n", "\r\n"),
            ("form-data;", "form-data"),
            ("Content-Type:", "Content-Type"),
        ] {
            assert_eq!(one_file(KIND, BODY.replace(from, to).as_bytes()), None, "{to}");
        }
        for cut in 0..BODY.len() - 2 {
            assert_eq!(one_file(KIND, &BODY.as_bytes()[..cut]), None, "{cut}");
            let _ = one_file(&KIND[..cut.min(KIND.len())], BODY.as_bytes());
        }
        let hostile = "\r\n--xY".repeat(100_000);
        assert_eq!(one_file(KIND, hostile.as_bytes()), None);
    }
}
