//! Profile `small` → a smaller program, see scripts/link_small.rs. Texts of the page → the same, packed.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::Write as _;
use std::path::Path;

include!("../scripts/link_small.rs");

/// What the page gives and is seldom asked for: together 130 KB, of which 35 are left.
const TEXTS: [&str; 13] = [
    "src/assets/live.js",
    "src/assets/openapi.json",
    "src/assets/page.css",
    "src/assets/wave.css",
    "src/assets/wave.js",
    "../docs/agents.md",
    "../docs/api.md",
    "../docs/boards.md",
    "../docs/containers.md",
    "../docs/first-build.md",
    "../docs/laptop.md",
    "../docs/operating.md",
    "../docs/proxies.md",
];

fn main() {
    link_small();
    let out = std::env::var_os("OUT_DIR").expect("cargo says where");
    for text in TEXTS {
        println!("cargo:rerun-if-changed={text}");
        let path = Path::new(text);
        let plain = std::fs::read(path).unwrap_or_else(|error| panic!("{text}: {error}"));
        // How long it is, in four bytes, and then the text.
        let length = u32::try_from(plain.len()).expect("a text").to_le_bytes();
        let mut packed = DeflateEncoder::new(length.to_vec(), Compression::best());
        packed.write_all(&plain).expect("memory takes it");
        let packed = packed.finish().expect("memory takes it");
        std::fs::write(Path::new(&out).join(path.file_name().expect("a name")), packed).expect("cargo's directory");
    }
}
