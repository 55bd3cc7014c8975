//! Sources of a crate → modules that name each other in a circle.

use crate::{Source, none, sources};
use std::collections::{BTreeMap, BTreeSet};

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
    for of in ["core", "agent", "buddy", "sai", "image", "master"] {
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

#[test]
fn a_circle_is_found() {
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
}
