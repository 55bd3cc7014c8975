//! The rules of the architecture, held against every source file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code a file may have, without comments, blank lines and unit tests.
const CODE_LINES: usize = 600;
/// Files that have more today, and how many they may have until they are cut: this list only ever gets shorter.
const LARGE: &[(&str, usize)] = &[];

/// Which module of a crate may name which dependency. A module is a file and what is in the directory of its name.
const IMPORTERS: &[(&str, &[&str])] = &[
    ("sled", &["master/src/store/index"]),
    ("tiny_http", &["master/src/http"]),
    ("httparse", &["agent/src/needs/fetch", "buddy/src/power", "master/src/front/head"]),
    ("lz4_flex", &["master/src/store/packed"]),
    ("vte", &["master/src/page/ansi"]),
    ("regex_lite", &["core/src/pattern"]),
    ("regex_automata", &["master/src/page/search"]),
    ("time", &["master/src/units"]),
    ("multer", &["master/src/hook"]),
    ("tar", &["master/src/page/tarball"]),
    ("flate2", &["master/src/http/encoding"]),
    // In the modules of TLS this is the module of rustls that uses it.
    ("ring", &["agent/src/digest", "agent/src/pin", "master/src/hook", "master/src/tls"]),
    ("rcgen", &["master/src/tls"]),
    ("rustls_native_certs", &["agent/src/pin"]),
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
    ("serialport", &["buddy/src/calls", "buddy/src/serial"]),
    ("pico_args", &["agent/src/main", "buddy/src/main", "master/src/main"]),
];

/// The machines of the core: the module and the type. They decide, so they have one surface: `handle` with the time and an
/// input, and `deadline` where they want to hear of the time. Nothing else changes them, from wherever.
const MACHINES: &[(&str, &str)] = &[
    ("backlog", "Backlog"),
    ("ebb", "Ebb"),
    ("fetching", "Fetching"),
    ("few", "Few"),
    ("flushes", "Flushes"),
    ("hub", "Hub"),
    ("judge", "Judge"),
    ("look", "LookSchedule"),
    ("lull", "Lull"),
    ("push", "KnownRefs"),
    ("restart", "Restart"),
    ("run", "Run"),
    ("share", "Shares"),
    ("scheduler", "Scheduler"),
    ("session", "AgentSession"),
    ("space", "Space"),
    ("sweep", "Sweep"),
    ("trying", "Trying"),
    ("turns", "Turns"),
    ("watch", "Watch"),
];

/// Machines beside the core's: what brings images onto boards.
const OF_BOARDS: [&str; 2] = ["buddy/src/flash", "buddy/src/sequence"];

/// What else of the core has functions that change it, and what it is: values, and readers that go over something once.
const VALUES: &[(&str, &str)] = &[
    ("named", "a list of what became of revisions"),
    ("numbers", "three numbers"),
    ("ordered", "collections"),
    ("record", "reads a log"),
    ("replay", "a set that holds so many"),
    ("results", "reads lines that a board prints"),
    ("retention", "goes over events once"),
    ("settings", "reads a file's keys"),
    ("stream", "the lengths of a stream"),
    ("vcd", "goes over a log once"),
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
        ["core/src/", "agent/src/", "buddy/src/", "master/src/"].iter().any(|prefix| self.path.starts_with(prefix))
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
    let mut waiting: Vec<PathBuf> =
        ["core", "agent", "buddy", "master", "tests"].iter().map(|name| root.join(name)).collect();
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

/// Signatures of the public functions in a text of code, each on one line.
fn signatures(code: &str) -> Vec<String> {
    let begins = code.match_indices("pub fn ").map(|(at, _)| &code[at..]);
    let whole = begins.map(|rest| rest.split(['{', ';']).next().unwrap_or_default());
    whole.map(|signature| signature.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(")).collect()
}

/// What keeps a module of the core from being a machine of this type with the one surface.
fn odd_about(code: &str, of: &str) -> Vec<String> {
    let mut odd = Vec::new();
    let functions = signatures(code);
    let changing = functions.iter().filter(|function| function.contains("&mut self"));
    odd.extend(changing.filter(|function| !function.starts_with("pub fn handle(&mut self, now")).cloned());
    if !functions.iter().any(|function| function.starts_with("pub fn handle(&mut self, now")) {
        odd.push(format!("{of} has no `handle(&mut self, now, input, out)`"));
    }
    let told = code.contains("\nTick,");
    if told && !functions.iter().any(|function| function.starts_with("pub fn deadline(&self) -> Option<")) {
        odd.push(format!("{of} has no `deadline(&self)`"));
    }
    let fields = code.split_once(&format!("pub struct {of}")).map(|(_, rest)| rest.split("\n}").next().unwrap_or(rest));
    match fields {
        Some(fields) if fields.lines().any(|line| line.starts_with("pub ")) => odd.push(format!("{of} shows a field")),
        Some(_) => {}
        None => odd.push(format!("there is no {of}")),
    }
    odd
}

#[test]
fn machines_have_one_surface() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let sources = sources();
    let mut found = Vec::new();
    let module = |name: &str| {
        let path = format!("core/src/{name}");
        let sources = sources.iter().filter(move |source| source.is_in(&path));
        let lines: Vec<&str> = sources.flat_map(|source| source.code().map(|(_, line)| line)).collect();
        lines.join("\n")
    };
    for (name, of) in MACHINES {
        found.extend(odd_about(&module(name), of).into_iter().map(|odd| format!("core/src/{name}: {odd}")));
        if !architecture.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{name}`"))) {
            found.push(format!("ARCHITECTURE.md has no {name} in its table of machines"));
        }
    }
    let known = |source: &&Source| {
        let mut names = MACHINES.iter().chain(VALUES).map(|(name, _)| name);
        names.any(|name| source.is_in(&format!("core/src/{name}")))
    };
    let others = sources.iter().filter(|source| source.path.starts_with("core/src/") && !known(source));
    for source in others {
        let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
        let changing = signatures(&code.join("\n")).into_iter().filter(|function| function.contains("&mut self"));
        found.extend(changing.map(|function| format!("{}: {function}", source.path)));
    }
    none("what decides is changed by `handle` alone", found);
}

/// What stands in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows of the table of machines: their columns.
fn table_of_machines(architecture: &str) -> Vec<Vec<&str>> {
    let table = architecture.lines().skip_while(|line| !line.starts_with("| machine |")).skip(2);
    let rows = table.take_while(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches(['|', ' ']).split(" | ").collect()).collect()
}

/// What is wrong with the table of machines, where these modules of core and buddy are ones, and these only modules.
fn wrong_in_table(rows: &[Vec<&str>], machines: &BTreeSet<&str>, modules: &BTreeSet<&str>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for row in rows {
        let [names, takes, says, edge] = row[..] else {
            wrong.push(format!("{row:?} has no four columns"));
            continue;
        };
        // Whom a machine has with it is a machine, or what one decides by.
        let (of, with) = names.split_once('(').unwrap_or((names, ""));
        wrong.extend(
            quoted(of).into_iter().filter(|name| !machines.contains(name)).map(|name| format!("{name} is none")),
        );
        wrong.extend(
            quoted(with).into_iter().filter(|name| !modules.contains(name)).map(|name| format!("{name} is not there")),
        );
        if quoted(of).is_empty() || takes.is_empty() || says.is_empty() || edge.is_empty() {
            wrong.push(format!("{names} has an empty column"));
        }
        named.extend(quoted(names));
    }
    wrong.extend(machines.difference(&named).map(|name| format!("the table has no {name}")));
    wrong
}

#[test]
fn the_table_of_machines_is_what_the_code_has() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let rows = table_of_machines(&architecture);
    assert!(rows.len() > 20, "this is not the table");
    let sources = sources();
    let of_machines = |source: &&Source| source.path.starts_with("core/src/") || source.path.starts_with("buddy/src/");
    let name = |source: &Source| source.path.rsplit('/').next().map(|name| name.trim_end_matches(".rs").to_string());
    let modules: BTreeSet<String> = sources.iter().filter(of_machines).filter_map(name).collect();
    let handles = |line: &str| {
        line.trim_start_matches("pub ").strip_prefix("fn handle(&mut self, ").is_some_and(|rest| rest.contains("now: "))
    };
    let is_machine = |source: &&Source| source.code().any(|(_, line)| handles(line));
    let machines: BTreeSet<String> = sources.iter().filter(of_machines).filter(is_machine).filter_map(name).collect();
    assert!(machines.len() > 25, "these are not the machines: {machines:?}");
    let (machines, modules) = (machines.iter().map(String::as_str), modules.iter().map(String::as_str));
    let mut wrong = wrong_in_table(&rows, &machines.collect(), &modules.collect());
    for path in rows.iter().flat_map(|row| quoted(row.last().copied().unwrap_or_default())) {
        let path = root().join(path);
        if !path.is_dir() && !path.with_extension("rs").is_file() {
            wrong.push(format!("{} is not there", path.display()));
        }
    }
    none("the table of machines has all of them, and nothing else", wrong);
}

/// The module that a path of a crate leads to: the longest beginning of it that is one.
fn module_of<'a>(path: &[&str], modules: &'a BTreeSet<String>) -> Option<&'a str> {
    (1..=path.len()).rev().find_map(|length| modules.get(&path[..length].join("::"))).map(String::as_str)
}

/// The first names of what braces hold, at their outermost level.
fn braced(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&text[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The names at the beginning of a path.
fn segments(path: &str) -> Vec<&str> {
    let end = path.find(|letter: char| !letter.is_ascii_alphanumeric() && !"_:".contains(letter)).unwrap_or(path.len());
    path[..end].split("::").filter(|name| !name.is_empty()).collect()
}

/// The paths of its own crate that a module's code names, as names from the crate's root on.
fn named_paths<'a>(module: &'a str, code: &'a str) -> Vec<Vec<&'a str>> {
    let mut paths = Vec::new();
    for (word, up) in [("crate::", usize::MAX), ("super::", 1), ("self::", 0)] {
        for (at, _) in code.match_indices(word) {
            let before = &code[..at];
            if before.ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':') {
                continue;
            }
            let (mut rest, mut up) = (&code[at + word.len()..], up);
            while let Some(further) = rest.strip_prefix("super::") {
                (rest, up) = (further, up.saturating_add(1));
            }
            let own: Vec<&str> = module.split("::").collect();
            let base = &own[..own.len().saturating_sub(up)];
            let names = segments(rest);
            // What follows in braces, as in `crate::a::{b, c}`, and as in `crate::{a, b}`.
            let inside = match rest.find('{') {
                Some(0) => Some((Vec::new(), &rest[1..])),
                Some(brace) if rest[..brace].ends_with("::") && segments(&rest[..brace]) == names => {
                    Some((names.clone(), &rest[brace + 1..]))
                }
                _ => None,
            };
            let named: Vec<Vec<&str>> = match inside {
                Some((names, inside)) => {
                    let whole = |part| names.iter().copied().chain(segments(part)).collect();
                    braced(inside).into_iter().map(whole).collect()
                }
                None => vec![names],
            };
            paths.extend(named.into_iter().map(|named| base.iter().copied().chain(named).collect()));
        }
    }
    paths
}

/// Whether one module is the other, or is inside it.
fn is_one(one: &str, other: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    inside(one, other) || inside(other, one)
}

/// Whom each names.
type Edges<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Those that lead to themselves.
fn circle<'a>(edges: &Edges<'a>) -> BTreeSet<&'a str> {
    let reached = |from: &'a str| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
        while let Some(at) = waiting.pop() {
            for next in edges.get(at).into_iter().flatten() {
                if seen.insert(*next) {
                    waiting.push(next);
                }
            }
        }
        seen
    };
    edges.keys().copied().filter(|from| reached(from).contains(from)).collect()
}

/// Modules of a crate that name each other in a circle: its folders among themselves, and its files. What is in a folder
/// belongs to the module of that name.
fn circles(files: &[(String, String)]) -> Vec<String> {
    let modules: BTreeSet<String> = files.iter().map(|(module, _)| module.clone()).collect();
    let mut found = Vec::new();
    let top = |module: &str| module.split("::").next().map(str::len).unwrap_or_default();
    let (mut folders, mut own) = (Edges::new(), Edges::new());
    for (module, code) in files {
        for path in named_paths(module, code) {
            let Some(other) = module_of(&path, &modules) else { continue };
            let (from, to) = (&module[..top(module)], &other[..top(other)]);
            if from != to {
                folders.entry(from).or_default().insert(to);
            }
            if !is_one(module, other) {
                own.entry(module).or_default().insert(other);
            }
        }
    }
    for edges in [folders, own] {
        let round = circle(&edges);
        for from in &round {
            let to: Vec<&str> = edges[from].intersection(&round).copied().collect();
            found.push(format!("{from} names {}", to.join(", ")));
        }
    }
    found
}

#[test]
fn modules_of_a_crate_name_each_other_in_no_circle() {
    let sources = sources();
    let mut found = Vec::new();
    let mut edges = 0;
    for of in ["core", "agent", "buddy", "master"] {
        let prefix = format!("{of}/src/");
        let file = |source: &Source| {
            let path = source.path.strip_prefix(&prefix)?.strip_suffix(".rs")?;
            let program = path == "lib" || path == "main" || path.starts_with("main/");
            let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
            (!program).then(|| (path.replace('/', "::"), code.join("\n")))
        };
        let files: Vec<(String, String)> = sources.iter().filter_map(file).collect();
        edges += files.iter().map(|(module, code)| named_paths(module, code).len()).sum::<usize>();
        found.extend(circles(&files).into_iter().map(|line| format!("{of}: {line}")));
    }
    assert!(edges > 500, "these are not the imports");
    none("modules name each other in one direction", found);
}

/// Lines that leave something undone without a word: neither a comment before it nor a bug that is told.
fn silent(lines: &[&str]) -> Vec<String> {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let silent = ["return", "continue", "break", "return false", "return None", "return Vec::new()", "return Ok(())"];
    let leaves = |line: &str, next: Option<&&str>| {
        let in_line = silent.iter().any(|word| line.ends_with(&format!("else {{ {word} }};")));
        let below = next.and_then(|next| next.strip_suffix(';')).is_some_and(|next| silent.contains(&next));
        in_line || (line.ends_with("else {") && line != "} else {" && below)
    };
    let said = |index: usize| index.checked_sub(1).is_some_and(|before| lines[before].starts_with("// "));
    let left = (0..lines.len()).filter(|index| leaves(lines[*index], lines.get(index + 1)) && !said(*index));
    left.map(|index| lines[index].to_string()).collect()
}

#[test]
fn machines_leave_nothing_undone_without_a_word() {
    let sources = sources();
    let mut found = Vec::new();
    let of_the_core = MACHINES.iter().map(|(name, _)| format!("core/src/{name}"));
    for path in of_the_core.chain(OF_BOARDS.map(ToString::to_string)) {
        for source in sources.iter().filter(|source| source.is_in(&path)) {
            let product = source.text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines: Vec<&str> = product.lines().collect();
            found.extend(silent(&lines).into_iter().map(|line| format!("{}: {line}", source.path)));
        }
    }
    none("what cannot be is told (`Output::Bug`), and what is usual says why", found);
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
    for package in ["core", "agent", "buddy", "master", "tests"] {
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
    let machine = "pub enum Input {\nTick,\n}\npub struct M {\na: u8,\n}\nimpl M {\npub fn handle(&mut self, now: Millis, x: u8) {\n\
                   }\npub fn deadline(&self) -> Option<u8> {\n}\n";
    assert_eq!(odd_about(machine, "M"), [""; 0]);
    for (from, to) in [
        ("&mut self, now: Millis", "&mut self"),
        ("pub fn deadline", "fn deadline"),
        ("a: u8", "pub a: u8"),
        ("struct M", "struct N"),
        ("impl M {\n", "impl M {\npub fn admit(\n&mut self,\nx: u8,\n) -> bool {\n}\n"),
    ] {
        assert_ne!(odd_about(&machine.replace(from, to), "M"), [""; 0], "{to}");
    }
    let line = "let Some(x) = y else { return };";
    assert_eq!(silent(&["// Why.", line, "", line]), [line]);
    let first = "let Some(x) = y else {";
    assert_eq!(silent(&[first, "return;", "};", first, "self.bugs.note(z);", "return;", "};"]), [first]);
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
    let file = |module: &str, code: &str| (module.to_string(), code.to_string());
    for (module, code, paths) in [
        ("a::b", "use crate::c::D;\nlet x = super::e::f();", &["c::D", "a::e::f"][..]),
        ("a::b", "use super::super::c;\nuse self::d::E;", &["c", "a::b::d::E"]),
        ("a", "use crate::{b, c::{D, E}, f};\n", &["b", "c", "f"]),
        ("a", "use crate::b::{c, D as E};\nfn f(x: crate::g::H) {}", &["b::c", "b::D", "g::H"]),
        ("a", "use sai::crate::x;\nlet y = mysuper::z;", &[]),
    ] {
        let named: Vec<String> = named_paths(module, code).iter().map(|path| path.join("::")).collect();
        assert_eq!(named, paths, "{code}");
    }
    let fine = [
        file("a", "use crate::b::c;"),
        file("b", "use self::c::C;"),
        file("b::c", "use super::B;\nuse crate::d;"),
        file("d", ""),
    ];
    assert_eq!(circles(&fine), [""; 0]);
    let folders = [file("a", "use crate::b;"), file("b", ""), file("b::c", "use crate::a;")];
    assert_eq!(circles(&folders), ["a names b", "b names a"]);
    let files = [file("a::b", "use super::c;"), file("a::c", "use crate::a::d;"), file("a::d", "use super::b::B;")];
    assert_eq!(circles(&files), ["a::b names a::c", "a::c names a::d", "a::d names a::b"]);
    let table = "x\n| machine | takes | says | carried out by |\n|---|---|---|---|\n| `m` (with `v`) | a | b | `x/src/e` |\n\n| `n` | 1 |\n";
    let rows = table_of_machines(table);
    let (machines, modules) = (BTreeSet::from(["m"]), BTreeSet::from(["m", "v", "e"]));
    assert_eq!(wrong_in_table(&rows, &machines, &modules), [""; 0]);
    assert_eq!(wrong_in_table(&rows, &BTreeSet::from(["m", "n"]), &modules), ["the table has no n"]);
    assert_eq!(wrong_in_table(&rows, &BTreeSet::new(), &modules), ["m is none"]);
    assert_eq!(wrong_in_table(&rows, &machines, &BTreeSet::from(["m"])), ["v is not there"]);
    assert_eq!(wrong_in_table(&[vec!["`m`", "a", "", "e"]], &machines, &modules), ["`m` has an empty column"]);
    assert!(bad.is_in("agent/src/x") && !bad.is_in("agent/src/xy") && source("a/b/c.rs", "").is_in("a/b"));
}
