//! Options that `--help` names → that each is taken, and no other.

use super::{root, text};
use sai_tests::process::program;
use sai_tests::world::World;
use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn options_of_help_are_taken_and_others_refused() {
    let world = World::new("help");
    let state = world.directory.join("state").display().to_string();
    let config = world.directory.join("none.json").display().to_string();
    let saifile = root().join(".sai.json").display().to_string();
    let _master = world.master();
    let fingerprint = "0".repeat(64);
    let line = world.join_line("one").replace(&format!(":{}", world.port), ":1");
    let joined = world.configuration().display().to_string();
    let examples: [(&str, &str, Vec<Vec<&str>>); 16] = [
        (
            "sai-master",
            "agent",
            vec![
                vec!["agent", "list", "--config", &joined, "--state", &state],
                vec!["agent", "update", "one", &config, "--downgrade"],
            ],
        ),
        (
            "sai-master",
            "run",
            vec![vec![
                "--config",
                &config,
                "--state",
                &state,
                "--listen",
                "127.0.0.1:1",
                "--url",
                "https://localhost:1",
            ]],
        ),
        (
            "sai-master",
            "try",
            vec![
                vec!["try", &config, "--dirty", "--configuration", "a", "--platform", "b", "--as", "linux-c"],
                vec!["try", &config, "--slots", "1", "--state", &state, "--stay", "--images", "/", "--artifacts", "a"],
            ],
        ),
        ("sai-master", "matrix", vec![vec!["matrix", &saifile, "--ref", "main", "--changed", "README.md"]]),
        ("sai-agent", "", vec![vec!["--config", &config, "--state", &state], vec!["--version"], vec!["--help"]]),
        (
            "sai-agent",
            "join",
            vec![vec![
                "join",
                &line,
                "--name",
                "n",
                "--platform",
                "linux-c",
                "--slots",
                "1",
                "--state",
                &state,
                "--only-save",
            ]],
        ),
        (
            "sai-agent",
            "selftest",
            vec![
                vec!["selftest", "--gpio", "1,2", "--chip", "none", "--serial", "/dev/null", "--baud", "9600"],
                vec!["selftest", "--unplug", "--disk", "/nonexistent", "--output", "/dev/null"],
            ],
        ),
        ("sai", "", vec![vec!["--help"], vec!["--version"]]),
        ("sai", "login", vec![vec!["login", "https://localhost:1", "--fingerprint", &fingerprint, "--json"]]),
        ("sai", "status", vec![vec!["status", "--json"]]),
        ("sai", "log", vec![vec!["log", "--follow", "1", "--attempt", "2", "--raw"], vec!["log", "-f", "1", "--json"]]),
        ("sai", "get", vec![vec!["get", "1", "--to", "d", "a", "--force", "--json"]]),
        ("sai", "cancel", vec![vec!["cancel", "1", "--attempt", "1", "--json"]]),
        (
            "sai",
            "run",
            vec![vec![
                "run",
                "--board",
                "uno",
                "--dirty",
                "--repository",
                "r",
                "--artifacts",
                "d",
                "--json",
                "default",
            ]],
        ),
        ("sai", "rebuild", vec![vec!["rebuild", "1", "--following", "--json"]]),
        (
            "sai-buddy",
            "",
            vec![
                vec!["--help"],
                vec!["--version"],
                vec![&config, "list", "--json", "--run", &state],
                vec![&config, "record", "b", "--kept", "--for", "1s", "--json"],
                vec![&config, "tool", "b", "--limit", "1s", "--", "true"],
                vec![&config, "flash", "b", "fw.bin", "--unverified"],
                vec![&config, "test", "b", &saifile, "fw", "--record", "/dev/null"],
                vec![&config, "test", "b", &saifile, "fw", "--again", "/dev/null"],
                vec!["guard", "--update", "--run", &state],
            ],
        ),
    ];
    let home = world.directory.join("home");
    for (name, command, lines) in examples {
        let ask = |arguments: &[&str]| {
            Command::new(program(name)).args(arguments).env("XDG_CONFIG_HOME", &home).output().expect("a program")
        };
        let version = ask(&["--version"]);
        assert_eq!(text(&version.stdout), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
        let help = if command.is_empty() { ask(&["--help"]) } else { ask(&[command, "--help"]) };
        assert!(help.status.success());
        let help = text(&help.stdout);
        // What is said of another command's help is no option of this one.
        let help: String =
            help.lines().filter(|line| !line.contains("; see ")).map(|line| format!("{line}\n")).collect();
        let options = help.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '-'));
        let options: BTreeSet<&str> = options.filter(|word| word.starts_with("--") && word.len() > 2).collect();
        let shown: BTreeSet<&str> =
            lines.iter().flatten().copied().filter(|word| word.starts_with("--") && word.len() > 2).collect();
        assert_eq!(options, shown, "the options of {name} {command} --help and those tried here");
        for arguments in lines {
            let told = text(&ask(&arguments).stderr);
            let refused = [
                "there is no option",
                "is not understood",
                "one word too many",
                "expected one of",
                "unknown option",
                "has no --",
            ];
            assert!(!refused.iter().any(|text| told.contains(text)), "{name} {arguments:?}: {told}");
        }
        for wrong in ["--nonsense", "nonsense"] {
            assert_eq!(ask(&[wrong]).status.code(), Some(2), "{name} {wrong}");
        }
    }
    // A join line of no master at all helps nobody.
    let empty = world.directory.join("empty");
    std::fs::create_dir_all(&empty).expect("a directory");
    let output = Command::new(program("sai-master")).args(["agent", "add", "x"]).current_dir(&empty).output();
    assert_eq!(output.expect("sai-master can be run").status.code(), Some(2));
    assert!(!empty.join("sai-state").exists());
}
