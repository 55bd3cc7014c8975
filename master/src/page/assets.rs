//! File name → style sheet, script or icon, built into the program, with an address that changes with its content.

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

fn all() -> &'static [Asset; 6] {
    static ALL: OnceLock<[Asset; 6]> = OnceLock::new();
    ALL.get_or_init(|| {
        let asset = |name, content_type, content: String| {
            let version = digest_hex(&content).chars().take(12).collect();
            Asset { name, content_type, content, version }
        };
        let sheet = format!("{}{}", include_str!("../assets/page.css"), palette::css());
        [
            asset("page.css", "text/css; charset=utf-8", sheet),
            asset("live.js", "text/javascript; charset=utf-8", include_str!("../assets/live.js").to_string()),
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
