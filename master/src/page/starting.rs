//! Form ↔ what somebody starts by hand.

use super::html::{Html, path_part};
use super::layout::hint;
use super::route::{Piece, decode, number_field};
use super::views::{Visitor, reference_name};
use crate::http::Request;
use sai_core::bundle::PIECE_BYTES;
use sai_core::roles::Deed;
use sai_core::sent::Sent;
use sai_core::start::{NAMES_MAX, Start};

/// Fields of the form that are words of the command, with what each is called and an example; of the last two a line is one.
const WORDS: [(&str, &str, &str); 3] = [
    ("configuration", "Configurations, one a line; all if there is none", "default"),
    ("platform", "Platforms, one a line; all if there is none", "linux"),
    ("env", "Variables, one a line; shown with the event", "NAME=value"),
];

/// What the fields of a form or query say: `branch`, and those of [`WORDS`], each as often as wanted and of several lines.
///
/// # Errors
/// What was expected.
pub fn of_fields(fields: &str) -> Result<Start, String> {
    let (mut branch, mut words) = (None, Vec::new());
    for pair in fields.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value, true).ok_or_else(|| format!("{name:?}: expected percent-encoded UTF-8"))?;
        match name {
            "branch" if branch.is_none() => branch = Some(value.trim().to_string()),
            "revision" | "configuration" | "platform" | "env" => {
                let lines = value.lines().map(|line| if name == "env" { line } else { line.trim() });
                words.extend(lines.filter(|line| !line.is_empty()).map(|line| format!("{name}={line}")));
            }
            _ => {
                let shown: String = pair.chars().take(NAMES_MAX).collect();
                return Err(format!("{shown:?}: expected one branch, revision, configuration, platform or env"));
            }
        }
    }
    Start::parse(&branch.unwrap_or_default(), &words)
}

/// What the fields of a form say of what was sent.
///
/// # Errors
/// What was expected.
pub fn sent_of_fields(fields: &str) -> Result<Sent, String> {
    let (mut branch, mut words) = (None, Vec::new());
    for pair in fields.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value, true).ok_or_else(|| format!("{name:?}: expected percent-encoded UTF-8"))?;
        match name {
            "branch" => branch = Some(value),
            name => words.push((name.to_string(), value)),
        }
    }
    Sent::parse(&branch.unwrap_or_default(), &words)
}

/// A piece of a file of which the digest is known: `size`, `at`, and the body.
///
/// # Errors
/// What was expected.
pub fn piece(request: &Request, piece: Piece) -> Result<Piece, String> {
    let number = |name| number_field(&request.query, name).ok_or_else(|| format!("expected {name}=NUMBER"));
    let (size, at) = (number("size")?, number("at")?);
    if request.body.len() > PIECE_BYTES {
        return Err(format!("expected a piece of at most {PIECE_BYTES} bytes"));
    }
    Ok(Piece { size, at, bytes: request.body.clone(), ..piece })
}

/// Where what was started is seen.
pub fn address(repository: &str, start: &Start) -> String {
    format!("/latest/{}/{}", path_part(repository), path_part(reference_name(&start.reference).1))
}

/// The form, for a repository and perhaps a branch.
pub fn form(html: &mut Html, repository: &str, branch: Option<&str>, visitor: &Visitor) {
    if !visitor.may(Deed::Build, Some(repository)) {
        if visitor.who.is_some() {
            hint(html, visitor, "a builder", "start a build");
        }
        return;
    }
    html.element("details").class("panel find").with(|html| {
        html.element("summary").text("Start a build");
        let action = format!("/start/{}", path_part(repository));
        html.element("form").class("search").attribute("method", "post").attribute("action", action).with(|html| {
            for (name, label, value) in
                [("branch", "Branch", branch), ("revision", "Revision; the newest if empty", None)]
            {
                html.element("label").with(|html| {
                    html.show(format_args!("{label} "));
                    let input = html.element("input").attribute("name", name).flag("required", name == "branch");
                    input.attribute("value", value.unwrap_or_default()).empty();
                });
            }
            for (name, label, example) in WORDS {
                html.element("label").with(|html| {
                    html.show(format_args!("{label} "));
                    let area = html.element("textarea").attribute("name", name).attribute("rows", 2);
                    area.attribute("placeholder", example).text("");
                });
            }
            html.element("button").text("Start");
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_say_what_is_started() {
        let start =
            of_fields("branch=topic%2Fa&revision=&configuration=a%0D%0Ab%20&platform=&env=A%3D1+%0AB%3D").unwrap();
        assert_eq!(start.reference, "refs/heads/topic/a");
        assert_eq!(start.words(), "configuration=a configuration=b env=A=1  env=B=");
        assert_eq!(address("a/b", &start), "/latest/a%2Fb/topic%2Fa");
        for wrong in
            ["", "branch=a&branch=b", "branch=a&force=1", "branch=a&env=A", "branch=%ff", "branch=a&revision=x"]
        {
            assert!(of_fields(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
    }
}
