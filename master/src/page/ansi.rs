//! Bytes of one line, as a program wrote them for a terminal → HTML of what the line shows.
//!
//! Escape sequences go through the state machine of a real terminal parser (ECMA-48; Paul Williams' diagram). Colours
//! become classes (a strict content policy forbids style attributes), carriage returns and erasures act on the line, and
//! whatever would move the cursor elsewhere, set a title or talk to the terminal is dropped. Newlines are the caller's.

use super::html::Html;
use std::fmt::Write as _;
use vte::{Params, Parser, Perform};

/// Columns a carriage return can go back over. A longer line goes on, but what is left of this can no longer change.
const LINE_COLUMNS: usize = 4096;

/// Characters shown of one line. What is cut is in the raw download; without a bound one line could fill the page.
const LINE_CHARACTERS: usize = 64 << 10;

const BOLD: u8 = 1;
const DIM: u8 = 2;
const ITALIC: u8 = 4;
const UNDERLINE: u8 = 8;
const STRIKE: u8 = 16;
const REVERSE: u8 = 32;

/// How a character looks. A colour is 0 for the page's own, else its index in the 256-colour palette plus 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    foreground: u16,
    background: u16,
    flags: u8,
}

impl Style {
    fn classes(self) -> String {
        let mut out = String::new();
        let (mut foreground, mut background) = (self.foreground, self.background);
        let reverse = self.flags & REVERSE != 0;
        if reverse {
            std::mem::swap(&mut foreground, &mut background);
        }
        match background {
            0 if reverse => out.push_str("bt "),
            0 => {}
            index => _ = write!(out, "b{} ", index - 1),
        }
        match foreground {
            0 if reverse => out.push_str("fb "),
            0 => {}
            index => _ = write!(out, "f{} ", index - 1),
        }
        for (flag, class) in [(BOLD, "B "), (DIM, "D "), (ITALIC, "I "), (UNDERLINE, "U "), (STRIKE, "S ")] {
            if self.flags & flag != 0 {
                out.push_str(class);
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// One line under way.
#[derive(Default)]
struct Line {
    cells: Vec<(char, Style)>,
    column: usize,
    style: Style,
    done: Html,
    characters: usize,
    cut: u64,
}

/// One channel's terminal, one line high. Colours last from line to line, as they do on a real one.
#[derive(Default)]
pub struct Terminal {
    parser: Parser,
    line: Line,
}

impl Terminal {
    /// A terminal at the start of an empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes of the current line; there is no newline in them.
    pub fn write(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.line, bytes);
    }

    /// The HTML of the current line as it shows now.
    pub fn html(&self) -> Html {
        let mut out = self.line.done.clone();
        self.line.write_rest(&mut out);
        out
    }

    /// What the current line shows, as text; begins an empty one.
    pub fn take_text(&mut self) -> String {
        let cells = std::mem::take(&mut self.line.cells);
        let text = cells.iter().map(|cell| cell.0).collect();
        self.newline();
        text
    }

    /// Ends the line: gives its HTML and begins an empty one.
    pub fn newline(&mut self) -> Html {
        let mut out = std::mem::take(&mut self.line.done);
        self.line.write_rest(&mut out);
        self.line.cells.clear();
        self.line.column = 0;
        self.line.characters = 0;
        self.line.cut = 0;
        out
    }
}

/// Text whose addresses of the web are links.
fn linked(mut text: &str, out: &mut Html) {
    while let Some(address) = next_address(text) {
        out.text(text.get(..address.start).unwrap_or_default());
        let found = text.get(address.clone()).unwrap_or_default();
        out.element("a").outside(found).text(found);
        text = text.get(address.end..).unwrap_or_default();
    }
    out.text(text);
}

/// Where the next `http://…` or `https://…` is. What ends a sentence or closes a bracket around it is not part of it.
fn next_address(text: &str) -> Option<std::ops::Range<usize>> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find("http")?;
        let rest = text.get(at..)?;
        let scheme = ["https://", "http://"].into_iter().find(|scheme| rest.starts_with(scheme));
        let joined = text.get(..at)?.ends_with(|before: char| before.is_ascii_alphanumeric());
        let Some(scheme) = scheme.filter(|_| !joined) else {
            from = at + 4;
            continue;
        };
        let part = |letter: char| {
            letter.is_ascii_graphic() && !matches!(letter, '"' | '<' | '>' | '`' | '\\' | '^' | '{' | '}' | '|' | '\'')
        };
        let mut end = rest.find(|letter| !part(letter)).unwrap_or(rest.len());
        while let Some(found) = rest.get(..end) {
            let unopened =
                |open, close| found.ends_with(close) && found.matches(close).count() > found.matches(open).count();
            if found.ends_with(['.', ',', ';', ':', '!', '?']) || unopened('(', ')') || unopened('[', ']') {
                end -= 1;
            } else {
                break;
            }
        }
        if end > scheme.len() {
            return Some(at..at + end);
        }
        from = at + 4;
    }
}

fn write_cells(cells: &[(char, Style)], out: &mut Html) {
    for run in cells.chunk_by(|a, b| a.1 == b.1) {
        let style = run.first().map_or_else(Style::default, |cell| cell.1);
        let text = |out: &mut Html| {
            if run.windows(3).any(|three| matches!(three, [(':', _), ('/', _), ('/', _)])) {
                let text: String = run.iter().map(|cell| cell.0).collect();
                linked(&text, out);
            } else {
                run.iter().for_each(|cell| out.character(cell.0));
            }
        };
        if style == Style::default() {
            text(out);
        } else {
            out.element("span").class(style.classes()).with(text);
        }
    }
}

impl Line {
    fn write_rest(&self, out: &mut Html) {
        write_cells(&self.cells, out);
        if self.cut > 0 {
            out.element("span").class("more").show(format_args!("… {} more characters in the raw log", self.cut));
        }
    }

    fn put(&mut self, character: char) {
        if let Some(cell) = self.cells.get_mut(self.column) {
            *cell = (character, self.style);
            self.column += 1;
            return;
        }
        if self.characters + self.cells.len() >= LINE_CHARACTERS {
            self.cut += 1;
            return;
        }
        if self.cells.len() >= LINE_COLUMNS {
            write_cells(&self.cells, &mut self.done);
            self.characters += self.cells.len();
            self.cells.clear();
            self.column = 0;
        }
        self.cells.resize(self.column, (' ', Style::default()));
        self.cells.push((character, self.style));
        self.column += 1;
    }

    fn go(&mut self, column: usize) {
        self.column = column.min(LINE_COLUMNS - 1);
    }

    fn render(&mut self, params: &Params) {
        let mut params = params.iter();
        while let Some(param) = params.next() {
            let code = param.first().copied().unwrap_or(0);
            match code {
                0 => self.style = Style::default(),
                1 => self.style.flags |= BOLD,
                2 => self.style.flags |= DIM,
                3 => self.style.flags |= ITALIC,
                4 if param.get(1) == Some(&0) => self.style.flags &= !UNDERLINE,
                4 | 21 => self.style.flags |= UNDERLINE,
                7 => self.style.flags |= REVERSE,
                9 => self.style.flags |= STRIKE,
                22 => self.style.flags &= !(BOLD | DIM),
                23 => self.style.flags &= !ITALIC,
                24 => self.style.flags &= !UNDERLINE,
                27 => self.style.flags &= !REVERSE,
                29 => self.style.flags &= !STRIKE,
                30..=37 => self.style.foreground = code - 30 + 1,
                39 => self.style.foreground = 0,
                40..=47 => self.style.background = code - 40 + 1,
                49 => self.style.background = 0,
                90..=97 => self.style.foreground = code - 90 + 9,
                100..=107 => self.style.background = code - 100 + 9,
                38 | 48 => {
                    let colour = if param.len() > 1 {
                        extended(param[1..].iter().copied(), param.len() > 5)
                    } else {
                        extended(params.by_ref().map(|param| param.first().copied().unwrap_or(0)), false)
                    };
                    match (colour, code) {
                        (Some(colour), 38) => self.style.foreground = colour,
                        (Some(colour), _) => self.style.background = colour,
                        (None, _) => {}
                    }
                }
                // Blinking, concealing, fonts and frames: the text is shown plainly.
                _ => {}
            }
        }
    }
}

/// The rest of SGR 38 or 48 (ITU-T T.416): `5;INDEX` or `2;R;G;B`, in the colon form with a colour space before `R`.
fn extended(mut values: impl Iterator<Item = u16>, space: bool) -> Option<u16> {
    match values.next()? {
        5 => values.next().filter(|index| *index < 256).map(|index| index + 1),
        2 => {
            if space {
                values.next()?;
            }
            let mut part = || values.next().map(|value| value.min(255));
            let (red, green, blue) = (part()?, part()?, part()?);
            Some(nearest(red, green, blue) + 1)
        }
        _ => None,
    }
}

/// Levels of the palette's 6 × 6 × 6 cube, indices 16 to 231.
pub const CUBE: [u16; 6] = [0, 95, 135, 175, 215, 255];

/// The palette's index nearest to a colour: in the cube, or among its 24 greys.
fn nearest(red: u16, green: u16, blue: u16) -> u16 {
    let level = |value: u16| {
        let index =
            CUBE.iter().enumerate().min_by_key(|(_, level)| level.abs_diff(value)).map_or(0, |(index, _)| index);
        (index as u16, CUBE.get(index).copied().unwrap_or(0))
    };
    let distance = |a: u16, b: u16, c: u16| {
        let square = |x: u16, y: u16| u32::from(x.abs_diff(y)).pow(2);
        square(a, red) + square(b, green) + square(c, blue)
    };
    let ((r, red_level), (g, green_level), (b, blue_level)) = (level(red), level(green), level(blue));
    let mean = (red + green + blue) / 3;
    let grey = (mean.saturating_sub(3) / 10).min(23);
    let grey_level = 8 + 10 * grey;
    if distance(grey_level, grey_level, grey_level) < distance(red_level, green_level, blue_level) {
        232 + grey
    } else {
        16 + 36 * r + 6 * g + b
    }
}

impl Perform for Line {
    fn print(&mut self, character: char) {
        self.put(character);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.put('\t'),
            b'\r' => self.column = 0,
            0x08 => self.column = self.column.saturating_sub(1),
            // Bell, shifts and flow control show nothing on a terminal either.
            0x07 | 0x0e..=0x14 => {}
            _ => self.put('\u{fffd}'),
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if ignore || !intermediates.is_empty() {
            return;
        }
        let first = params.iter().next().and_then(|param| param.first().copied()).unwrap_or(0);
        let steps = usize::from(first.max(1));
        match action {
            'm' => self.render(params),
            'K' => match first {
                0 => self.cells.truncate(self.column),
                1 => {
                    for cell in self.cells.iter_mut().take(self.column + 1) {
                        *cell = (' ', Style::default());
                    }
                }
                2 => self.cells.clear(),
                _ => {}
            },
            'C' => self.go(self.column + steps),
            'D' => self.go(self.column.saturating_sub(steps)),
            'G' | '`' => self.go(steps - 1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: &[u8]) -> String {
        let mut terminal = Terminal::new();
        terminal.write(bytes);
        let shown = terminal.html();
        assert_eq!(terminal.newline(), shown);
        shown.into_string()
    }

    #[test]
    fn addresses_of_the_web_become_links_and_nothing_else_does() {
        let html = |text: &str| {
            let mut terminal = Terminal::new();
            terminal.write(text.as_bytes());
            terminal.newline().as_str().to_string()
        };
        let link = |address: &str| {
            let address = address.replace('&', "&amp;");
            format!("<a href=\"{address}\" rel=\"noopener noreferrer nofollow\">{address}</a>")
        };
        for (before, address, after) in [
            ("see ", "https://example.org/a?b=1&c=2#d", ", then"),
            ("(", "http://example.org/x_(y)", ")."),
            ("at ", "https://example.org", " and"),
            ("<", "https://example.org/", ">"),
        ] {
            let escape = |text: &str| text.replace('<', "&lt;").replace('>', "&gt;");
            let wanted = format!("{}{}{}", escape(before), link(address), escape(after));
            assert_eq!(html(&format!("{before}{address}{after}")), wanted);
        }
        for plain in ["javascript://x", "xhttps://a", "http://", "https://.", "ftp://a.example/", "data://text"] {
            assert!(!html(plain).contains("<a"), "{plain}");
        }
        let hostile = html("https://a.example/\"onmouseover=alert(1)'x");
        assert_eq!(hostile, format!("{}&quot;onmouseover=alert(1)&#39;x", link("https://a.example/")));
        assert_eq!(
            html("\x1b[31mhttps://a.example\x1b[0m"),
            format!("<span class=\"f1\">{}</span>", link("https://a.example"))
        );
    }

    #[test]
    fn colours_become_classes() {
        assert_eq!(line(b"\x1b[31mred\x1b[0m plain"), "<span class=\"f1\">red</span> plain");
        assert_eq!(line(b"\x1b[1;4;92;44mx"), "<span class=\"b4 f10 B U\">x</span>");
        assert_eq!(line(b"\x1b[38;5;208mx\x1b[48;5;16my\x1b[39my"), {
            "<span class=\"f208\">x</span><span class=\"b16 f208\">y</span><span class=\"b16\">y</span>"
        });
        assert_eq!(line(b"\x1b[38;2;255;0;0mx"), "<span class=\"f196\">x</span>");
        assert_eq!(line(b"\x1b[38:2::0:255:0mx"), "<span class=\"f46\">x</span>");
        assert_eq!(line(b"\x1b[38:5:9mx"), "<span class=\"f9\">x</span>");
        assert_eq!(line(b"\x1b[48;2;99;100;101mx"), "<span class=\"b241\">x</span>");
        assert_eq!(line(b"\x1b[7mx\x1b[31my"), "<span class=\"bt fb\">x</span><span class=\"b1 fb\">y</span>");
        assert_eq!(line(b"\x1b[1mx\x1b[22my"), "<span class=\"B\">x</span>y");
    }

    #[test]
    fn colours_last_over_lines() {
        let mut terminal = Terminal::new();
        terminal.write(b"\x1b[32ma");
        assert_eq!(terminal.newline().as_str(), "<span class=\"f2\">a</span>");
        terminal.write(b"b\x1b[m");
        assert_eq!(terminal.newline().as_str(), "<span class=\"f2\">b</span>");
        terminal.write(b"c");
        assert_eq!(terminal.newline().as_str(), "c");
    }

    #[test]
    fn a_progress_line_shows_its_last_state() {
        assert_eq!(line(b"10%\r50%\r100%"), "100%");
        assert_eq!(line(b"working...\r\x1b[Kok"), "ok");
        assert_eq!(line(b"abcdef\rxy"), "xycdef");
        assert_eq!(line(b"abc\x08\x08X"), "aXc");
        assert_eq!(line(b"ab\x1b[5Gc"), "ab  c");
        assert_eq!(line(b"done\r"), "done");
    }

    #[test]
    fn nothing_printed_is_ever_markup() {
        assert_eq!(line(b"<script>alert('x')</script>&"), { "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;" });
        assert_eq!(line(b"\x1b[31m<\x1b[32mb>"), "<span class=\"f1\">&lt;</span><span class=\"f2\">b&gt;</span>");
        assert_eq!(line("a\u{202e}b".as_bytes()), "a\u{fffd}b");
    }

    #[test]
    fn nul_and_invalid_utf8_are_shown_as_replacements() {
        assert_eq!(line(b"a\0b"), "a\u{fffd}b");
        assert_eq!(line(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
        assert_eq!(line(b"a\xe2\x82"), "a");
        let mut terminal = Terminal::new();
        terminal.write(b"\xe2\x82");
        terminal.write(b"\xac");
        assert_eq!(terminal.newline().as_str(), "€");
    }

    #[test]
    fn sequences_for_a_terminal_alone_are_dropped() {
        // Title, clipboard (OSC 52), hyperlink (OSC 8), device control, status reports, cursor addressing, screen switches.
        assert_eq!(line(b"\x1b]0;title\x07a\x1b]52;c;aGk=\x1b\\b"), "ab");
        assert_eq!(line(b"\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\"), "link");
        assert_eq!(line(b"\x1bPq#0;2;0;0;0\x1b\\x\x1b[6n\x1b[c"), "x");
        assert_eq!(line(b"\x1b[2J\x1b[H\x1b[10;20Hx\x1b[?1049h\x1b[?25ly\x1b[3A"), "xy");
        assert_eq!(line(b"\x1b[99999999999999999999mx\x1b[;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;;m"), "x");
        assert_eq!(line(b"\x1b[38mx\x1b[38;5my\x1b[38;2;1mz\x1b[38;5;300mw"), "xyzw");
        assert_eq!(line(b"\x1b[65535Gx").len(), LINE_COLUMNS);
    }

    #[test]
    fn a_long_line_is_bounded() {
        let html = line(&vec![b'x'; 1 << 20]);
        assert!(html.len() < LINE_CHARACTERS + 200, "{}", html.len());
        assert!(html.contains("983040 more characters"), "{}", &html[LINE_CHARACTERS..]);
    }

    #[test]
    fn no_bytes_whatever_break_the_markup() {
        // A fixed generator (xorshift), so that a failure comes back.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let alphabet = b"\x1b\x1b\x1b[[]];;:0123456789mKGCDPX^_\\\x07\x08\r\t\0<>&\"'\xff\xe2\x82\xacab\x9b\x90";
        for _ in 0..3000 {
            let mut bytes = Vec::new();
            for _ in 0..60 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.push(alphabet[state as usize % alphabet.len()]);
            }
            let html = line(&bytes);
            let mut depth = 0_i32;
            for (at, _) in html.match_indices('<') {
                let rest = &html[at..];
                if rest.starts_with("<span class=\"") {
                    depth += 1;
                } else {
                    assert!(rest.starts_with("</span>"), "{html}");
                    depth -= 1;
                }
                assert!((0..=1).contains(&depth), "{html}");
            }
            assert_eq!(depth, 0);
        }
    }
}
