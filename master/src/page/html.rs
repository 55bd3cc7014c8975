//! Typed calls → HTML text: a writer that cannot leave anything unescaped.
//!
//! Tags and attribute names are literals of ours; every other text passes through one escaping function. There is no
//! call that takes ready-made markup from outside; only another [`Html`] can be appended.

use std::fmt::{Display, Write as _};

/// A piece of HTML, well formed by construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Html(String);

/// An element whose start tag is being written. It is closed by one of its ending calls.
#[must_use = "an element is closed by `with`, `text`, `name` or `empty`"]
pub struct Element<'a> {
    html: &'a mut Html,
    tag: &'static str,
}

/// Elements that have no end tag (HTML Living Standard, "Void elements").
const VOID: [&str; 6] = ["meta", "link", "input", "br", "hr", "img"];

impl Html {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text, ready to be sent.
    pub fn into_string(self) -> String {
        self.0
    }

    /// The text so far.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first line of every page.
    pub fn doctype(&mut self) {
        self.0.push_str("<!doctype html>");
    }

    /// Begins an element.
    pub fn element(&mut self, tag: &'static str) -> Element<'_> {
        self.0.push('<');
        self.0.push_str(tag);
        Element { html: self, tag }
    }

    /// Text, escaped. Characters that would turn the direction of what follows, and control characters, are replaced.
    pub fn text(&mut self, text: &str) -> &mut Self {
        escape(text, &mut self.0);
        self
    }

    /// One character, escaped as in [`Html::text`].
    pub fn character(&mut self, character: char) {
        escape_character(character, &mut self.0);
    }

    /// A value that displays as text, escaped.
    pub fn show(&mut self, value: impl Display) -> &mut Self {
        let _ = write!(Escaping(&mut self.0), "{value}");
        self
    }

    /// A name from outside: escaped, and isolated from the direction of its surroundings.
    pub fn name(&mut self, name: &str) -> &mut Self {
        self.element("bdi").text(name);
        self
    }

    /// Appends another piece.
    pub fn append(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }
}

impl<'a> Element<'a> {
    /// An attribute.
    pub fn attribute(self, name: &'static str, value: impl Display) -> Self {
        let text = &mut self.html.0;
        text.push(' ');
        text.push_str(name);
        text.push_str("=\"");
        let _ = write!(Escaping(text), "{value}");
        text.push('"');
        self
    }

    /// An attribute, only if there is a value.
    pub fn maybe(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.attribute(name, value),
            None => self,
        }
    }

    /// An attribute without a value, only if `set`.
    pub fn flag(self, name: &'static str, set: bool) -> Self {
        if set {
            self.html.0.push(' ');
            self.html.0.push_str(name);
        }
        self
    }

    /// The `class` attribute.
    pub fn class(self, class: impl Display) -> Self {
        self.attribute("class", class)
    }

    /// The `id` attribute.
    pub fn id(self, id: impl Display) -> Self {
        self.attribute("id", id)
    }

    /// The `href` attribute. Every address of ours begins with a slash, a `?` or a `#`; anything else leads nowhere, so
    /// that no `javascript:` address can ever be written.
    pub fn href(self, address: impl Display) -> Self {
        let address = address.to_string();
        let ours = (address.starts_with('/') && !address.starts_with("//")) || address.starts_with(['?', '#']);
        self.attribute("href", if ours { address.as_str() } else { "#" })
    }

    /// The `href` attribute of an address elsewhere, which is named by what others wrote: of the web, or nowhere. Whoever
    /// follows it tells nothing of where it was.
    pub fn outside(self, address: &str) -> Self {
        let web = address.starts_with("https://") || address.starts_with("http://");
        let plain = address.bytes().all(|byte| byte.is_ascii_graphic());
        self.attribute("href", if web && plain { address } else { "#" })
            .attribute("rel", "noopener noreferrer nofollow")
    }

    /// Writes the content and closes.
    pub fn with(self, content: impl FnOnce(&mut Html)) {
        self.html.0.push('>');
        content(self.html);
        self.close();
    }

    /// Closes with a text as content.
    pub fn text(self, text: &str) {
        self.with(|html| {
            html.text(text);
        });
    }

    /// Closes with a displayed value as content.
    pub fn show(self, value: impl Display) {
        self.with(|html| {
            html.show(value);
        });
    }

    /// Closes with an isolated name as content.
    pub fn name(self, name: &str) {
        self.with(|html| {
            html.name(name);
        });
    }

    /// Closes without content.
    pub fn empty(self) {
        self.html.0.push('>');
        if !VOID.contains(&self.tag) {
            self.close();
        }
    }

    fn close(self) {
        self.html.0.push_str("</");
        self.html.0.push_str(self.tag);
        self.html.0.push('>');
    }
}

struct Escaping<'a>(&'a mut String);

impl std::fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

/// Whether a character would reorder or hide its neighbours (Unicode UAX #9, explicit directional formatting; "Trojan
/// Source", CVE-2021-42574), or is a control character other than newline and tab.
pub fn deceptive(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        || (character.is_control() && !matches!(character, '\n' | '\t'))
}

/// Appends `text` escaped for both content and double-quoted attribute values.
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        escape_character(character, out);
    }
}

/// Appends one character escaped.
fn escape_character(character: char, out: &mut String) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        character if deceptive(character) => out.push('\u{fffd}'),
        character => out.push(character),
    }
}

/// One part of a path, percent-encoded (RFC 3986, everything but the unreserved characters).
pub fn path_part(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_attributes_and_addresses_are_escaped() {
        let mut html = Html::new();
        html.element("a")
            .href("/job/1?a=1&b=\"2\"")
            .attribute("title", "<script>'\"&")
            .flag("hidden", true)
            .name("<img src=x onerror=alert(1)>");
        assert_eq!(
            html.as_str(),
            "<a href=\"/job/1?a=1&amp;b=&quot;2&quot;\" title=\"&lt;script&gt;&#39;&quot;&amp;\" hidden>\
             <bdi>&lt;img src=x onerror=alert(1)&gt;</bdi></a>"
        );
    }

    #[test]
    fn only_addresses_of_ours_are_linked() {
        for address in ["javascript:alert(1)", "//evil.example/", "https://evil.example", "data:text/html,x", ""] {
            let mut html = Html::new();
            html.element("a").href(address).text("x");
            assert_eq!(html.as_str(), "<a href=\"#\">x</a>", "{address}");
        }
    }

    #[test]
    fn direction_overrides_and_controls_are_replaced() {
        let mut html = Html::new();
        html.text("a\u{202e}b\u{2066}c\0d\u{1b}e\u{85}f\ng");
        assert_eq!(html.as_str(), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f\ng");
    }

    #[test]
    fn path_parts_cannot_leave_their_place() {
        assert_eq!(path_part("a/../b c?d#e%"), "a%2F..%2Fb%20c%3Fd%23e%25");
    }
}
