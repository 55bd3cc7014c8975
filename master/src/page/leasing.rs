//! Fields of a request → what a person asks of boards.

use super::route::decode;
use miniserde::{Deserialize, Serialize, json};
use sai_core::job::{JobId, JobKey};
use sai_core::join::check_agent_name;
use sai_core::lease::Asking;
use sai_core::requests::Sharing;
use sai_core::wire::{WORD_BYTES, Word, check_writer};

/// Fields of one request: far more than there are.
const FIELDS: usize = 64;

fn pairs(fields: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for pair in fields.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name, true).ok_or("expected percent-encoded UTF-8")?;
        let value = decode(value, true).ok_or_else(|| format!("{name:?}: expected percent-encoded UTF-8"))?;
        pairs.push((name, value));
        if pairs.len() > FIELDS {
            return Err(format!("expected at most {FIELDS} fields"));
        }
    }
    Ok(pairs)
}

/// The board that is asked for: see [`Asking::parse`].
///
/// # Errors
/// What was expected.
pub fn wish(fields: &str) -> Result<Asking, String> {
    Asking::parse(&pairs(fields)?)
}

/// What every word has.
#[derive(Deserialize)]
struct Said {
    t: String,
}

/// What is said at the board of a job: `attempt`, `writer`, `number` and `said`.
///
/// # Errors
/// What was expected.
pub fn word(job: JobId, fields: &str) -> Result<Word, String> {
    let (mut attempt, mut writer, mut number, mut said) = (None, None, None, None);
    for (name, value) in pairs(fields)? {
        let counted =
            || value.parse::<u64>().ok().filter(|count| *count > 0).ok_or(format!("{name}: expected a number"));
        match name.as_str() {
            "attempt" => attempt = Some(counted()?),
            "number" => number = Some(counted()?),
            "writer" => {
                check_writer(&value).map_err(|expected| format!("writer: {expected}"))?;
                writer = Some(value);
            }
            "said" => {
                let is_word = json::from_str::<Said>(&value).is_ok_and(|said| !said.t.is_empty());
                if value.len() > WORD_BYTES || !is_word || value.contains(char::is_control) {
                    return Err(format!("said: expected a line of JSON with \"t\", of at most {WORD_BYTES} bytes"));
                }
                said = Some(value);
            }
            _ => return Err(format!("{name:?}: expected attempt, writer, number and said")),
        }
    }
    let attempt = attempt.and_then(|attempt| u32::try_from(attempt).ok());
    let (Some(attempt), Some(writer), Some(number), Some(said)) = (attempt, writer, number, said) else {
        return Err("expected attempt, writer, number and said".to_string());
    };
    Ok(Word { key: JobKey { job, attempt }, writer, number, said })
}

/// What ends a line that is typed on a page: the words of its choice, each with what is sent.
pub const ENDS: [(&str, &str); 4] = [("CR", "\r"), ("LF", "\n"), ("CR LF", "\r\n"), ("nothing", "")];

/// What is sent.
#[derive(Serialize)]
struct Send<'a> {
    t: &'a str,
    console: Option<&'a str>,
    text: Option<&'a str>,
}

/// What is typed on the page of a job: `text` and its `end`, for a `console`; or `release`. It is the only word of this writer, since
/// nothing on a page says again what was lost.
///
/// # Errors
/// What was expected.
pub fn typed(job: JobId, fields: &str, writer: &str) -> Result<Word, String> {
    let mut attempt = None;
    let (mut text, mut end, mut console, mut release) = (None, "", None, false);
    for (name, value) in pairs(fields)? {
        match name.as_str() {
            "attempt" => attempt = Some(value),
            "text" => text = Some(value),
            "console" => console = Some(value).filter(|name| !name.is_empty()),
            "release" => release = true,
            "end" => {
                let known = ENDS.iter().find(|(word, _)| *word == value);
                end = known.map(|(_, end)| *end).ok_or("end: expected CR, LF, CR LF or nothing")?;
            }
            _ => return Err(format!("{name:?}: expected attempt, and text with its end, or release")),
        }
    }
    let text = text.unwrap_or_default() + end;
    if !release && text.is_empty() {
        return Err("text: expected something to send".to_string());
    }
    let bytes: String = text.bytes().map(char::from).collect();
    let said = match release {
        true => Send { t: "release", console: None, text: None },
        false => Send { t: "send", console: console.as_deref(), text: Some(&bytes) },
    };
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let (attempt, said) = (escaped(&attempt.unwrap_or_default()), escaped(&json::to_string(&said)));
    word(job, &format!("attempt={attempt}&writer={writer}&number=1&said={said}"))
}

/// With whom the board of a job is shared, by `with`, or is no more, by `without`.
///
/// # Errors
/// What was expected.
pub fn sharing(job: JobId, fields: &str) -> Result<Sharing, String> {
    let pairs = pairs(fields)?;
    let (shared, person) = match pairs.as_slice() {
        [(name, person)] if name == "with" => (true, person),
        [(name, person)] if name == "without" => (false, person),
        _ => return Err("expected with=PERSON or without=PERSON".to_string()),
    };
    check_agent_name(person)?;
    Ok(Sharing { job, person: person.clone(), shared })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_whom_a_board_is_shared_is_told_by_one_field() {
        let told = |fields| sharing(3, fields);
        assert_eq!(told("with=bob"), Ok(Sharing { job: 3, person: "bob".to_string(), shared: true }));
        assert_eq!(told("without=b%6fb"), Ok(Sharing { job: 3, person: "bob".to_string(), shared: false }));
        for wrong in ["", "with=", "with=a/b", "with=bob&with=eve", "with=bob&without=eve", "who=bob", "with=%ff"] {
            assert!(told(wrong).is_err_and(|why| why.contains("expected") || why.contains("name")), "{wrong}");
        }
    }

    #[test]
    fn what_is_typed_on_a_page_is_a_word_of_its_own() {
        let told = |fields| typed(3, fields, "d0");
        let sent = told("attempt=2&text=root+1&end=CR&console=").unwrap();
        assert_eq!((sent.key, sent.writer.as_str(), sent.number), (JobKey { job: 3, attempt: 2 }, "d0", 1));
        assert_eq!(sent.said, r#"{"t":"send","console":null,"text":"root 1\r"}"#);
        // Each byte is a character there, as everywhere in these words.
        let sent = told("attempt=2&text=%C3%A9&end=nothing&console=aux").unwrap();
        assert_eq!(sent.said, "{\"t\":\"send\",\"console\":\"aux\",\"text\":\"Ã©\"}");
        assert_eq!(told("attempt=2&text=&end=LF").unwrap().said, r#"{"t":"send","console":null,"text":"\n"}"#);
        assert_eq!(told("attempt=1&release=1").unwrap().said, r#"{"t":"release","console":null,"text":null}"#);
        let long = format!("attempt=1&text={}", "x".repeat(WORD_BYTES));
        for wrong in [
            "",
            "text=a",
            "attempt=1",
            "attempt=1&text=&end=nothing",
            "attempt=1&text=a&end=CRLF",
            "attempt=1&text=a&more=1",
            &long,
        ] {
            assert!(told(wrong).is_err_and(|why| why.contains("expected")), "{wrong}");
        }
    }

    #[test]
    fn a_word_is_told_by_its_fields() {
        let fields = "attempt=2&writer=a1&number=7&said=%7B%22t%22%3A%22play%22%2C%22name%22%3A%22reset%22%7D";
        let told = word(3, fields).unwrap();
        assert_eq!((told.key, told.writer.as_str(), told.number), (JobKey { job: 3, attempt: 2 }, "a1", 7));
        assert_eq!(told.said, r#"{"t":"play","name":"reset"}"#);
        let long = format!("attempt=1&writer=a&number=1&said={{\"t\":\"{}\"}}", "x".repeat(WORD_BYTES));
        for wrong in [
            "",
            "attempt=0&writer=a&number=1&said={\"t\":\"x\"}",
            "attempt=1&writer=A&number=1&said={\"t\":\"x\"}",
            "attempt=1&writer=a&number=-1&said={\"t\":\"x\"}",
            "attempt=1&writer=a&number=1&said=x",
            "attempt=1&writer=a&number=1&said={}",
            "attempt=1&writer=a&number=1&said=%0A{\"t\":\"x\"}",
            "attempt=4294967296&writer=a&number=1&said={\"t\":\"x\"}",
            "attempt=1&writer=a&number=1&said={\"t\":\"x\"}&more=1",
            "said=%ff",
            &long,
        ] {
            assert!(word(3, wrong).is_err_and(|why| why.contains("expected")), "{wrong}");
        }
    }
}
