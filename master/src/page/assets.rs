//! File name → style sheet, script or icon, built into the program, with an address that changes with its content.

use super::built_in::{packed, text};
use super::palette;
use crate::sessions::digest_hex;
use std::sync::OnceLock;

/// A file the pages use.
pub struct Asset {
    /// Its name under `/assets/`.
    pub name: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its content.
    pub content: String,
    /// The beginning of its content's SHA-256.
    pub version: String,
}

/// The icon with a dot of a colour in its corner.
fn icon(colour: &str) -> String {
    let dot =
        format!("<circle cx=\"23\" cy=\"23\" r=\"8\" fill=\"{colour}\" stroke=\"#fff\" stroke-width=\"2\"/></svg>");
    include_str!("../assets/icon.svg").replace("</svg>", &dot)
}

/// A style sheet without comments, line ends and what stands before a line: each line of it ends where a rule may.
fn compact(sheet: &str) -> String {
    let lines = sheet.lines().map(str::trim).filter(|line| !(line.starts_with("/*") && line.ends_with("*/")));
    lines.collect()
}

fn all() -> &'static [Asset; 9] {
    static ALL: OnceLock<[Asset; 9]> = OnceLock::new();
    ALL.get_or_init(|| {
        let asset = |name, content_type, content: String| {
            let version = digest_hex(&content).chars().take(12).collect();
            Asset { name, content_type, content, version }
        };
        [
            asset("page.css", "text/css; charset=utf-8", compact(&text(packed!("page.css")))),
            // Logs alone have colours of their own.
            asset("palette.css", "text/css; charset=utf-8", palette::css()),
            asset("live.js", "text/javascript; charset=utf-8", text(packed!("live.js"))),
            // So have waveforms, and a script.
            asset("wave.css", "text/css; charset=utf-8", compact(&text(packed!("wave.css")))),
            asset("wave.js", "text/javascript; charset=utf-8", text(packed!("wave.js"))),
            asset("icon.svg", "image/svg+xml", include_str!("../assets/icon.svg").to_string()),
            asset("icon-passed.svg", "image/svg+xml", icon("#2da44e")),
            asset("icon-failed.svg", "image/svg+xml", icon("#d1242f")),
            asset("icon-running.svg", "image/svg+xml", icon("#2f81f7")),
        ]
    })
}

/// The asset of this name.
pub fn find(name: &str) -> Option<&'static Asset> {
    all().iter().find(|asset| asset.name == name)
}

/// The address of an asset; it can be kept for ever, since another content has another address.
pub fn address(name: &str) -> String {
    match find(name) {
        Some(asset) => format!("/assets/{name}?v={}", asset.version),
        None => format!("/assets/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that a style sheet or script may have.
    const MOST: usize = 20_000;

    #[test]
    fn sheets_and_script_are_small() {
        for name in ["page.css", "palette.css", "live.js", "wave.css", "wave.js"] {
            let length = find(name).unwrap().content.len();
            assert!(length <= MOST, "{name} has {length} bytes");
        }
    }

    #[test]
    fn what_is_packed_is_the_file() {
        for (name, file) in
            [("live.js", include_str!("../assets/live.js")), ("wave.js", include_str!("../assets/wave.js"))]
        {
            assert_eq!(find(name).unwrap().content, file);
        }
        for (name, file) in
            [("page.css", include_str!("../assets/page.css")), ("wave.css", include_str!("../assets/wave.css"))]
        {
            assert_eq!(find(name).unwrap().content, compact(file));
        }
    }

    #[test]
    fn a_sheet_is_the_same_on_one_line() {
        let source = include_str!("../assets/page.css");
        for line in source.lines().map(str::trim).filter(|line| !line.is_empty()) {
            assert!(line.ends_with(['{', '}', ';', ',']) || line.ends_with("*/"), "{line}");
            assert_eq!(line.starts_with("/*"), line.ends_with("*/"), "{line}");
            assert_eq!(line.matches("/*").count(), usize::from(line.starts_with("/*")), "{line}");
        }
        let sheet = &find("page.css").unwrap().content;
        assert!(!sheet.contains("/*") && !sheet.contains('\n'));
        assert_eq!(sheet.matches('{').count(), sheet.matches('}').count());
    }
}
