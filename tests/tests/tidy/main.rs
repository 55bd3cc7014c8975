//! The rules of the architecture, held against every source file.

mod circles;
mod machines;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of code a file may have, without comments, blank lines and unit tests.
const CODE_LINES: usize = 600;
/// Files that have more today, and how many they may have until they are cut: this list only ever gets shorter.
const LARGE: &[(&str, usize)] = &[];

/// Which module of a crate may name which dependency. A module is a file and what is in the directory of its name.
const IMPORTERS: &[(&str, &[&str])] = &[
    ("sled", &["master/src/store/index"]),
    ("tiny_http", &["master/src/http"]),
    ("httparse", &["agent/src/answer", "buddy/src/power", "master/src/front/head"]),
    ("lz4_flex", &["master/src/store/packed"]),
    ("vte", &["master/src/page/ansi"]),
    ("regex_lite", &["core/src/pattern"]),
    ("regex_automata", &["master/src/page/search"]),
    ("time", &["master/src/units"]),
    ("multer", &["master/src/hook"]),
    ("tar", &["master/src/page/tarball"]),
    ("flate2", &["master/src/http/encoding", "master/src/page/built_in"]),
    // In the modules of TLS this is the module of rustls that uses it.
    (
        "ring",
        &[
            "agent/src/digest",
            "agent/src/pin",
            "image/src/digest",
            "image/src/signature",
            "master/src/hook",
            "master/src/tls",
            "master/src/update_key",
        ],
    ),
    ("rcgen", &["master/src/tls"]),
    ("rustls_native_certs", &["agent/src/pin"]),
    ("p256", &["agent/src/pin"]),
    ("x25519_dalek", &["agent/src/pin"]),
    ("webpki", &["agent/src/pin"]),
    ("p521", &["agent/src/pin", "master/src/tls"]),
    ("rustls", &["agent/src/pin", "master/src/tls"]),
    ("futures_rustls", &["agent/src/link", "master/src/front"]),
    ("async_tungstenite", &["agent/src/link", "master/src/front"]),
    ("nix", &["agent/src/calls", "agent/src/clean_start"]),
    ("async_signal", &["agent/src/main", "agent/src/clean_start", "master/src/main", "master/src/try_once"]),
    ("gpio_cdev", &["buddy/src/lines/cdev_v1"]),
    ("gpiocdev", &["buddy/src/lines"]),
    ("gpiocdev_uapi", &["buddy/src/lines"]),
    ("rppal", &["buddy/src/lines/rpi"]),
    ("nusb", &["buddy/src/usb"]),
    ("serialport", &["buddy/src/calls", "buddy/src/serial"]),
    (
        "pico_args",
        &["agent/src/boards/selftest", "agent/src/main", "buddy/src/main", "master/src/main", "sai/src/main"],
    ),
];

/// The modules with something unsafe, one of a crate at most: calls that no crate wraps.
const UNSAFE: &[&str] = &["agent/src/calls", "buddy/src/calls"];

/// A source file: its path below the workspace, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines of code with their numbers: no comments, no blank lines, no unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let unit_tests = self.path.ends_with("/tests.rs") && self.is_product();
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.split(" // ").next().unwrap_or_default().trim()))
            .take_while(move |(_, line)| !unit_tests && *line != "#[cfg(test)]")
            .filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
    }

    /// Whether it becomes part of what is shipped.
    fn is_product(&self) -> bool {
        ["core/src/", "agent/src/", "buddy/src/", "sai/src/", "image/src/", "master/src/"]
            .iter()
            .any(|prefix| self.path.starts_with(prefix))
    }

    fn is_in(&self, module: &str) -> bool {
        self.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    let mut waiting: Vec<PathBuf> = ["core", "agent", "buddy", "sai", "image", "master", "cross", "tests"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(&root).expect("below the workspace").display().to_string();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(sources.len() > 50, "these are not the sources");
    sources
}

/// Whether a line names a crate or module: the word alone, at the beginning of a path or an import.
fn names(line: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let begins = !before.ends_with(part) && !before.ends_with("::") && !before.ends_with('"');
        let imported = before.ends_with("use ") && (after.starts_with(';') || after.starts_with(" as "));
        begins && (imported || after.starts_with("::"))
    })
}

/// Fails with all lines that break a rule.
fn none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// Lines of code of which `wrong` holds.
fn lines(sources: &[Source], wrong: impl Fn(&Source, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in source.code() {
            if wrong(source, line) {
                found.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    found
}

#[test]
fn each_file_says_first_what_it_is() {
    let sources = sources();
    let silent = sources.iter().filter(|source| !source.text.starts_with("//! "));
    none("a file begins with its //! line", silent.map(|source| source.path.clone()).collect());
}

#[test]
fn no_file_is_too_long() {
    let large: BTreeMap<&str, usize> = LARGE.iter().copied().collect();
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.is_product()) {
        let count = source.code().count();
        match large.get(source.path.as_str()) {
            Some(_) if count <= CODE_LINES => found.push(format!("{} may leave the list: {count}", source.path)),
            Some(most) if count <= *most => {}
            None if count <= CODE_LINES => {}
            _ => found.push(format!("{} has {count} lines of code", source.path)),
        }
    }
    none("a file has few enough lines to be read", found);
}

#[test]
fn the_core_knows_nothing_of_the_world() {
    let sources = sources();
    let core: Vec<Source> = sources.into_iter().filter(|source| source.path.starts_with("core/src/")).collect();
    let library = core.iter().find(|source| source.path == "core/src/lib.rs").expect("the core");
    assert!(library.text.contains("#![no_std]") && library.text.contains("#![forbid(unsafe_code)]"));
    let wrong = lines(&core, |_, line| {
        let import = line.strip_prefix("pub use ").or_else(|| line.strip_prefix("use "));
        let root = import.and_then(|path| path.split([':', ';', ' ', '{']).next());
        root.is_some_and(|root| !["alloc", "core", "crate", "miniserde", "regex_lite", "self", "super"].contains(&root))
            || ["std", "smol", "rustix"].iter().any(|world| names(line, world))
            || line.contains("extern crate std")
    });
    // A re-export of the crate's own modules names them without `crate`.
    let modules: Vec<String> = library
        .text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ").map(|name| name.trim_end_matches(';').to_string()))
        .collect();
    let wrong = wrong.into_iter().filter(|line| !modules.iter().any(|name| line.contains(&format!("use {name}::"))));
    none("the core uses miniserde, regex-lite, alloc and core", wrong.collect());
    let manifest = fs::read_to_string(root().join("core/Cargo.toml")).expect("a manifest");
    let dependencies = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split('[').next()).unwrap_or("");
    let names: Vec<&str> =
        dependencies.lines().filter_map(|line| line.split_once(" =")).map(|(name, _)| name).collect();
    assert_eq!(names, ["miniserde", "regex-lite"]);
}

#[test]
fn the_agent_knows_nothing_of_the_master() {
    let agent: Vec<Source> = sources().into_iter().filter(|source| source.path.starts_with("agent/src/")).collect();
    let masters = ["sai_master", "tiny_http", "sled", "rcgen", "multer", "tar", "lz4_flex", "vte"];
    none(
        "the agent does without the master's crates",
        lines(&agent, |_, line| masters.iter().any(|name| names(line, name))),
    );
    let manifest = fs::read_to_string(root().join("agent/Cargo.toml")).expect("a manifest");
    let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
    for name in ["sai-master", "sled", "tiny_http", "rcgen"] {
        assert!(!shipped.contains(name), "agent/Cargo.toml depends on {name}");
    }
}

#[test]
fn each_heavy_dependency_has_one_place() {
    let sources = sources();
    let mut found = Vec::new();
    for (dependency, modules) in IMPORTERS {
        let users = |source: &Source| source.is_product() && source.code().any(|(_, line)| names(line, dependency));
        for source in sources.iter().filter(|source| users(source)) {
            if !modules.iter().any(|module| source.is_in(module)) {
                found.push(format!("{} names {dependency}", source.path));
            }
        }
        for module in *modules {
            if !sources.iter().any(|source| source.is_in(module) && users(source)) {
                found.push(format!("{module} no longer names {dependency}"));
            }
        }
    }
    none("a dependency is named in its own place", found);
}

#[test]
fn nothing_is_without_bounds_unfinished_or_able_to_panic() {
    let sources = sources();
    let unbounded = lines(&sources, |source, line| {
        source.is_product()
            && (line.contains("unbounded(") || line.contains("mpsc::channel") || line.contains("mpsc::Sender"))
    });
    none("channels are bounded", unbounded);
    // Spelt in two parts, since this file is searched too.
    let unfinished = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("db", "g!(")];
    none("nothing is unfinished", lines(&sources, |_, line| unfinished.iter().any(|word| line.contains(word))));
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let marked = sources.iter().flat_map(|source| source.text.lines().map(move |line| (source, line)));
    let marked = marked.filter(|(_, line)| marks.iter().any(|mark| line.contains(mark)));
    none("nothing is left for later", marked.map(|(source, line)| format!("{}: {line}", source.path)).collect());
    let panics = [".unwrap()", ".expect(", "panic!(", "unreachable!(", " assert!(", "assert_eq!("];
    let able = lines(&sources, |source, line| {
        // What the compiler evaluates cannot fail later.
        source.is_product() && !line.starts_with("const _") && panics.iter().any(|word| line.contains(word))
    });
    none("the product does not panic", able);
    let found = lines(&sources, |source, line| {
        !UNSAFE.iter().any(|module| source.is_in(module))
            && (names(&line.replace("unsafe ", "unsafe::"), "unsafe")
                || line.contains(concat!("allow(", "unsafe_code")))
    });
    none("calls that no crate wraps alone are unsafe", found);
    for path in [
        "core/src/lib.rs",
        "agent/src/lib.rs",
        "agent/src/main.rs",
        "buddy/src/lib.rs",
        "sai/src/lib.rs",
        "sai/src/main.rs",
        "image/src/lib.rs",
        "image/src/main.rs",
        "master/src/lib.rs",
        "master/src/main.rs",
    ] {
        let source = sources.iter().find(|source| source.path == path).expect("a crate");
        let holds = |module: &&str| module.starts_with(path.trim_end_matches("lib.rs"));
        let level = if UNSAFE.iter().any(holds) && path.ends_with("lib.rs") { "deny" } else { "forbid" };
        assert!(source.text.contains(&format!("#![{level}(unsafe_code)]")), "{path}");
    }
}

#[test]
fn only_the_executor_has_a_shell() {
    let shells =
        ["sh -c", "bash -c", "new(\"sh\")", "new(\"bash\")", "new(\"/bin/sh\")", "new(\"/bin/bash\")", "\"-lc\""];
    let wrong = lines(&sources(), |source, line| {
        source.is_product() && !source.is_in("agent/src/executor") && shells.iter().any(|shell| line.contains(shell))
    });
    none("no text reaches a shell outside the executor", wrong);
}

#[test]
fn each_dependency_is_named_once() {
    for package in ["core", "agent", "buddy", "sai", "image", "master", "tests"] {
        let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("a manifest");
        let mut dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                dependencies = line.contains("dependencies");
            } else if dependencies && !line.trim().is_empty() && !line.starts_with('#') {
                assert!(line.contains("workspace = true"), "{package}/Cargo.toml: {line}");
            }
        }
        assert!(manifest.contains("[lints]\nworkspace = true"), "{package}/Cargo.toml has the workspace's lints");
    }
}

#[test]
fn what_is_said_goes_by_the_one_place_that_cannot_fail() {
    let wrong = lines(&sources(), |source, line| {
        let macros = ["println!(", "print!(", "eprintln!(", "eprint!("];
        source.is_product() && macros.iter().any(|name| line.contains(name))
    });
    none("the product prints by agent/src/terminal.rs, since these panic where nobody reads them", wrong);
}

#[test]
fn each_line_of_the_threat_model_has_tests_that_are_there() {
    let text = fs::read_to_string(root().join("docs/threats.md")).expect("docs/threats.md");
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| who tries")).collect();
    assert!(rows.len() > 30, "these are not the threats");
    let mut found = Vec::new();
    for row in rows {
        let tests: Vec<(&str, &str)> = row.split('`').filter_map(|part| part.split_once(".rs::")).collect();
        if tests.is_empty() {
            found.push(format!("{row} names no test"));
        }
        for (file, name) in tests {
            let source = fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_default();
            if !source.contains(&format!("fn {name}()")) {
                found.push(format!("{file}.rs has no test {name}"));
            }
        }
    }
    none("each threat has a test", found);
}

#[test]
fn the_rules_are_able_to_fail() {
    let source = |path: &str, text: &str| Source { path: path.to_string(), text: text.to_string() };
    let bad = source(
        "agent/src/x.rs",
        "//! x\nuse sled;\nlet a = b.unwrap(); // why\n// use vte::Parser;\n#[cfg(test)]\nx.unwrap()\n",
    );
    let code: Vec<&str> = bad.code().map(|(_, line)| line).collect();
    assert_eq!(code, ["use sled;", "let a = b.unwrap();"]);
    for (line, word, answer) in [
        ("use sled;", "sled", true),
        ("use sled::Tree;", "sled", true),
        ("let x = sled::open(path);", "sled", true),
        ("use crate::sled::Tree;", "sled", false),
        ("let assled = 1;", "sled", false),
        ("futures_rustls::TlsAcceptor", "rustls", false),
        ("std::time::Duration", "time", false),
        ("time::OffsetDateTime", "time", true),
        ("\"time::x\"", "time", false),
    ] {
        assert_eq!(names(line, word), answer, "{line}");
    }
    assert!(bad.is_in("agent/src/x") && !bad.is_in("agent/src/xy") && source("a/b/c.rs", "").is_in("a/b"));
}

/// A part of a night whose test has another name by now would find nothing, and be well.
#[test]
fn what_nights_try_is_there() {
    let script = fs::read_to_string(root().join("tests/nightly")).expect("tests/nightly");
    let parts = script.split_once("parts=\"").and_then(|(_, rest)| rest.split_once('"')).expect("its parts").0;
    assert!(parts.lines().count() >= 6, "{parts}");
    for part in parts.lines() {
        let words: Vec<&str> = part.split('|').collect();
        let [_, rounds, program, test, _] = words[..] else { panic!("{part}: five words") };
        assert!(rounds.parse::<u32>().is_ok_and(|rounds| rounds > 1), "{part}: so many rounds");
        if let Some(package) = program.strip_prefix("bench:") {
            let manifest = fs::read_to_string(root().join(package.trim_start_matches("sai-")).join("Cargo.toml"));
            assert!(manifest.is_ok_and(|text| text.contains("[[bench]]")), "{part}: it has no benchmarks");
            continue;
        }
        let place = root().join("tests/tests").join(program);
        let files = match fs::read_dir(&place) {
            Ok(files) => files.map(|file| file.expect("a file").path()).collect(),
            Err(_) => vec![place.with_extension("rs")],
        };
        let texts = files.iter().map(|file| fs::read_to_string(file).unwrap_or_else(|error| panic!("{part}: {error}")));
        let texts: String = texts.collect();
        assert!(texts.contains("SAI_ROUNDS") || texts.contains("SAI_WORLDS"), "{part}: it has no rounds");
        assert!(test.is_empty() || texts.contains(&format!("fn {test}()")), "{part}: there is no such test");
    }
    for (word, status, says) in [("--help", 0, "cards "), ("nothing", 2, "there is no part nothing")] {
        let output = Command::new(root().join("tests/nightly")).arg(word).output().expect("bash");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(status) && said.contains(says), "{word}: {said}");
    }
}
