//! Bytes of a JUnit XML file → the test cases it tells of.
//!
//! There is no standard; what the tools that read it agree on is taken: `testcase` with `name`, `classname`, `time`, and
//! in it `failure`, `error` or `skipped` with `message` and a text. Entities of its own that a file declares are not
//! expanded. What is not XML has no cases, which is told and nobody's fault.

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape};
use quick_xml::events::{BytesStart, Event};
use sai_core::axis::CaseResult;

/// Most cases of one file.
pub const CASES: usize = 50_000;

/// Bytes of a name, and of what is said of a case, that are kept.
const NAME_BYTES: usize = 400;
/// See there.
const TEXT_BYTES: usize = 2000;

/// Bytes in which a file's first element is looked for, behind comments and declarations.
const HEAD_BYTES: usize = 4096;

/// How a test case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCase {
    /// Its name, with that of its class or suite before it.
    pub name: String,
    /// How it ended.
    pub result: CaseResult,
    /// How long it took, if that is said.
    pub millis: Option<u64>,
    /// What else is said of it.
    pub text: String,
}

/// The cases of a file.
///
/// # Errors
/// It is no XML, or not of tests: why, with the byte.
pub fn cases(bytes: &[u8]) -> Result<Vec<TestCase>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("byte {}: no UTF-8", error.valid_up_to()))?;
    let mut reader = Reader::from_str(text);
    let (mut cases, mut suites) = (Vec::new(), Vec::new());
    let (mut open, mut said, mut found): (Option<TestCase>, bool, bool) = (None, false, false);
    loop {
        let event = reader.read_event().map_err(|error| format!("byte {}: {error}", reader.error_position()))?;
        match event {
            Event::Start(element) | Event::Empty(element) if !found => {
                found = matches!(element.local_name().as_ref(), "testsuites" | "testsuite");
                if !found {
                    return Err("it begins with neither `testsuites` nor `testsuite`".to_string());
                }
                suites.push(attribute(&element, "name"));
            }
            Event::Start(element) => match element.local_name().as_ref() {
                "testsuite" => suites.push(attribute(&element, "name")),
                "testcase" => open = Some(case(&element, &suites)),
                name => said = open.as_mut().is_some_and(|open| tells(open, name, &element)),
            },
            Event::Empty(element) => match element.local_name().as_ref() {
                "testcase" => cases.push(case(&element, &suites)),
                name => {
                    let _ = open.as_mut().map(|open| tells(open, name, &element));
                }
            },
            Event::Text(text) if said => append(&mut open, &text),
            Event::CData(text) if said => append(&mut open, &text),
            Event::GeneralRef(entity) if said => {
                let character = entity.resolve_char_ref().ok().flatten().map(String::from);
                let known = character.or_else(|| resolve_predefined_entity(&entity).map(str::to_string));
                append(&mut open, known.as_deref().unwrap_or("\u{fffd}"));
            }
            Event::End(element) => match element.local_name().as_ref() {
                "testcase" => cases.extend(open.take()),
                "testsuite" => {
                    suites.pop();
                }
                _ => said = false,
            },
            Event::Eof => break,
            _ => {}
        }
        if cases.len() >= CASES {
            break;
        }
    }
    Ok(cases)
}

fn attribute(element: &BytesStart<'_>, name: &str) -> String {
    let found = element.attributes().flatten().find(|attribute| attribute.key.local_name().as_ref() == name);
    let Some(found) = found else { return String::new() };
    unescape(&found.value).map_or_else(|_| found.value.to_string(), |text| text.into_owned())
}

fn case(element: &BytesStart<'_>, suites: &[String]) -> TestCase {
    let (class, name) = (attribute(element, "classname"), attribute(element, "name"));
    let before = if class.is_empty() { suites.last().cloned().unwrap_or_default() } else { class };
    let mut whole = if before.is_empty() { name } else { format!("{before}.{name}") };
    whole.truncate(beginning(&whole, NAME_BYTES).len());
    let seconds: Option<f64> = attribute(element, "time").replace(',', "").trim().parse().ok();
    let millis = seconds.filter(|seconds| (0.0..1e9).contains(seconds)).map(|seconds| (seconds * 1000.0) as u64);
    TestCase { name: whole, result: CaseResult::Passed, millis, text: String::new() }
}

/// What an element in a case says of it; gives whether its text does too.
fn tells(open: &mut TestCase, name: &str, element: &BytesStart<'_>) -> bool {
    let result = match name {
        "failure" | "error" => CaseResult::Failed,
        "skipped" if open.result != CaseResult::Failed => CaseResult::Skipped,
        _ => return false,
    };
    open.result = result;
    let message = attribute(element, "message");
    let text = &mut open.text;
    if !message.is_empty() {
        text.push_str(&message);
        text.push('\n');
        text.truncate(beginning(text, TEXT_BYTES).len());
    }
    true
}

/// As many whole characters of a text as fit.
fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Whether a file is one of tests, as far as its first element tells.
pub fn is_of_tests(bytes: &[u8]) -> bool {
    let head = bytes.get(..HEAD_BYTES).unwrap_or(bytes);
    let element = head.windows(2).position(|pair| matches!(pair, [b'<', letter] if letter.is_ascii_alphabetic()));
    element.and_then(|at| bytes.get(at..)).is_some_and(|rest| rest.starts_with(b"<testsuite"))
}

fn append(open: &mut Option<TestCase>, text: &str) {
    let Some(open) = open else { return };
    let left = TEXT_BYTES.saturating_sub(open.text.len());
    // A message is often the first line of the text.
    let text =
        if open.text.ends_with('\n') && !open.text.trim().is_empty() && text.trim_start().starts_with(open.text.trim())
        {
            open.text.clear();
            text.trim_start()
        } else {
            text
        };
    open.text.push_str(beginning(text, left));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As pytest, surefire, CTest, cargo-nextest and GoogleTest write it, each with its habits.
    const FILE: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<!-- made by nobody -->
<testsuites><testsuite name="pytest" tests="4"><properties><property name="a" value="b"/></properties>
<testcase classname="tests.test_io" name="test_read[a&lt;b]" time="0.012" />
<testcase classname="tests.test_io" name="test_write" time="1,234.5"><failure message="assert 1 == 2">assert 1 == 2
 +  where &#49; &amp; <![CDATA[<x>]]> are</failure><system-out>noise</system-out></testcase>
<testcase name="no class"><error type="E"/></testcase>
<testcase classname="c" name="skipped" time="-"><skipped message="not here"/></testcase>
</testsuite><testsuite name="other"><testcase name="again" status="run"><flakyFailure message="x">y</flakyFailure></testcase>
</testsuite></testsuites>"#;

    #[test]
    fn cases_of_all_kinds_are_read() {
        let found = cases(FILE.as_bytes()).unwrap();
        let names: Vec<_> = found.iter().map(|case| (case.name.as_str(), case.result, case.millis)).collect();
        assert_eq!(
            names,
            [
                ("tests.test_io.test_read[a<b]", CaseResult::Passed, Some(12)),
                ("tests.test_io.test_write", CaseResult::Failed, Some(1_234_500)),
                ("pytest.no class", CaseResult::Failed, None),
                ("c.skipped", CaseResult::Skipped, None),
                ("other.again", CaseResult::Passed, None),
            ]
        );
        assert_eq!(found[1].text, "assert 1 == 2\n +  where 1 & <x> are");
        assert_eq!((found[3].text.as_str(), found[4].text.as_str()), ("not here\n", ""));
    }

    #[test]
    fn hostile_files_cost_little_and_end() {
        for bad in ["", "<html></html>", "<testsuite", "<testsuite></x>", "{}", "<testsuite><testcase name=\"a\">"] {
            let found = cases(bad.as_bytes());
            assert!(found.as_ref().map_or(true, Vec::is_empty), "{bad}: {found:?}");
        }
        assert!(cases(b"<testsuite>\xff").is_err());
        let laughs = "<!DOCTYPE t [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><testsuite><testcase name=\"&b;\"><failure>&b;\
                      </failure></testcase></testsuite>";
        let found = cases(laughs.as_bytes()).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].text.as_str()), ("&b;", "\u{fffd}"));
        let deep = format!("<testsuite>{}", "<testsuite name=\"a\">".repeat(100_000));
        assert_eq!(cases(deep.as_bytes()).map(|cases| cases.len()), Ok(0));
        let long = format!(
            "<testsuite><testcase name=\"{0}\"><failure>{0}</failure></testcase></testsuite>",
            "é".repeat(99_999)
        );
        let found = cases(long.as_bytes()).unwrap();
        assert!(found[0].name.len() <= NAME_BYTES && found[0].text.len() <= TEXT_BYTES);
        for end in 0..FILE.len() {
            let _ = cases(&FILE.as_bytes()[..end]);
        }
        let many = format!("<testsuite>{}</testsuite>", "<testcase name=\"a\"/>".repeat(CASES + 10));
        assert_eq!(cases(many.as_bytes()).map(|cases| cases.len()), Ok(CASES));
    }
}
