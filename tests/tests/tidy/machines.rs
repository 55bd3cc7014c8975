//! Sources of core, buddy and image → what keeps a machine from having the one surface, its row in ARCHITECTURE.md, or a word for what it leaves.

use crate::{Source, none, root, sources};
use std::collections::BTreeSet;
use std::fs;

/// The machines of the core: the module and the type. They decide, so they have one surface: `handle` with the time and an
/// input, and `deadline` where they want to hear of the time. Nothing else changes them, from wherever.
const MACHINES: &[(&str, &str)] = &[
    ("attending", "Attending"),
    ("backlog", "Backlog"),
    ("ebb", "Ebb"),
    ("fetching", "Fetching"),
    ("few", "Few"),
    ("flushes", "Flushes"),
    ("hearing", "Hearing"),
    ("hub", "Hub"),
    ("judge", "Judge"),
    ("lending", "Lending"),
    ("look", "LookSchedule"),
    ("lull", "Lull"),
    ("push", "KnownRefs"),
    ("restart", "Restart"),
    ("run", "Run"),
    ("share", "Shares"),
    ("scheduler", "Scheduler"),
    ("session", "AgentSession"),
    ("slots", "Slots"),
    ("space", "Space"),
    ("sweep", "Sweep"),
    ("together", "Together"),
    ("trying", "Trying"),
    ("turns", "Turns"),
    ("watch", "Watch"),
];

/// Machines beside the core's: what brings images onto boards, and what runs on a Pi.
const ELSEWHERE: [&str; 3] = ["buddy/src/flash", "buddy/src/sequence", "image/src/services"];

/// What else of the core has functions that change it, and what it is: values, and readers that go over something once.
const VALUES: &[(&str, &str)] = &[
    ("lease", "two moments"),
    ("named", "a list of what became of revisions"),
    ("numbers", "three numbers"),
    ("ordered", "collections"),
    ("output_lines", "goes over a log once"),
    ("record", "reads a log"),
    ("replay", "a set that holds so many"),
    ("results", "reads lines that a board prints"),
    ("retention", "goes over events once"),
    ("settings", "reads a file's keys"),
    ("stream", "the lengths of a stream"),
    ("vcd", "goes over a log once"),
    ("waveform", "goes over a log twice"),
    ("writers", "the last numbers of words"),
];

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

/// What is wrong with the table of machines, where these modules of core, buddy and image are ones, and these only modules.
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
    let of_machines =
        |source: &&Source| ["core/src/", "buddy/src/", "image/src/"].iter().any(|of| source.path.starts_with(of));
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
    for path in of_the_core.chain(ELSEWHERE.map(ToString::to_string)) {
        for source in sources.iter().filter(|source| source.is_in(&path)) {
            let product = source.text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines: Vec<&str> = product.lines().collect();
            found.extend(silent(&lines).into_iter().map(|line| format!("{}: {line}", source.path)));
        }
    }
    none("what cannot be is told (`Output::Bug`), and what is usual says why", found);
}

#[test]
fn what_is_no_machine_is_found() {
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
    let table = "x\n| machine | takes | says | carried out by |\n|---|---|---|---|\n| `m` (with `v`) | a | b | `x/src/e` |\n\n| `n` | 1 |\n";
    let rows = table_of_machines(table);
    let (machines, modules) = (BTreeSet::from(["m"]), BTreeSet::from(["m", "v", "e"]));
    assert_eq!(wrong_in_table(&rows, &machines, &modules), [""; 0]);
    assert_eq!(wrong_in_table(&rows, &BTreeSet::from(["m", "n"]), &modules), ["the table has no n"]);
    assert_eq!(wrong_in_table(&rows, &BTreeSet::new(), &modules), ["m is none"]);
    assert_eq!(wrong_in_table(&rows, &machines, &BTreeSet::from(["m"])), ["v is not there"]);
    assert_eq!(wrong_in_table(&[vec!["`m`", "a", "", "e"]], &machines, &modules), ["`m` has an empty column"]);
}
