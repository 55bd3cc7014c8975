//! `sai-buddy` as people call it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn buddy(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_sai-buddy")).args(arguments).stdin(Stdio::null()).output();
    output.expect("sai-buddy runs")
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/boards.json")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn the_shipped_bench_is_well_and_is_listed() {
    let file = shipped().display().to_string();
    let output = buddy(&[&file, "check"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{file}: 4 boards, 1 rig\n")));
    let output = buddy(&[&file, "list"]);
    let listed = text(&output.stdout);
    for line in [
        "bench-1: nucleo-f411 (left-shelf)",
        "  console    main at USB port 1-1.2, 115200 baud",
        "  line       led at gpiochip0 22, read",
        "  modes      loader, off, run",
        "  flash      by stm32: app, data",
        "  now        main is not there, owned by nobody",
        "bench-2: esp32",
        "  sequences  loader, reset",
        "  flash      by esptool: app, partitions",
        "  power      line relay",
        "pair: can-pair of bench-1, bench-2",
    ] {
        assert!(listed.lines().any(|other| other == line), "{line}\n{listed}");
    }
    let output = buddy(&[&file, "list", "--json"]);
    let listed: miniserde::json::Value = miniserde::json::from_str(&text(&output.stdout)).expect("JSON");
    let miniserde::json::Value::Object(listed) = listed else { panic!("{listed:?}") };
    let Some(miniserde::json::Value::Array(boards)) = listed.get("boards") else { panic!("{listed:?}") };
    assert_eq!(boards.len(), 4);
}

#[test]
fn a_loader_at_usb_is_refused_by_a_build_that_has_none_of_it() {
    let file = std::env::temp_dir().join(format!("sai-buddy-usb-{}.json", std::process::id()));
    let bench = r#"{ "boards": { "a": { "type": "t", "flash": { "with": "dfu", "usb": "1-1" } } } }"#;
    std::fs::write(&file, bench).expect("written");
    let named = file.display().to_string();
    for command in [&["check"][..], &["list"], &["flash", "a", "/dev/null"], &["owner", "a"]] {
        let output = buddy(&[&[named.as_str()], command].concat());
        let said = text(&output.stderr);
        if cfg!(feature = "usb") {
            assert!(!said.contains("no \"dfu\" in this program"), "{said}");
            break;
        }
        let expected = format!("{named}: boards.a.flash.with: no \"dfu\" in this program: ");
        assert!(output.status.code() == Some(1) && said.contains(&expected), "{command:?}: {said}");
        assert!(said.contains("`cross/build --boards --usb`"), "{said}");
    }
    let _ = std::fs::remove_file(&file);
}

#[test]
fn what_is_wrong_is_told_by_place_and_status() {
    let directory = std::env::temp_dir().join(format!("sai-buddy-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let file = directory.join("boards.json");
    std::fs::write(&file, "{\n  \"boards\": { \"a\": { \"type\": \"t\", \"\\u001b[2J\": 1 },\n    \"b\": {} }\n}\n")
        .expect("written");
    let file = file.display().to_string();
    for command in ["check", "list"] {
        let output = buddy(&[&file, command]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        let places: Vec<&str> = said.lines().filter_map(|line| line.split(&file).nth(1)).collect();
        assert!(places[0].starts_with(":2:35: boards.a.\\u{1b}[2J: expected one of type"), "{said}");
        assert_eq!(places[1], ":3:10: boards.b: expected a key type");
        assert!(!said.contains('\u{1b}'));
    }
    let output = buddy(&[&file, "check", "--json"]);
    let said = text(&output.stdout);
    assert!(output.status.code() == Some(1) && output.stderr.is_empty() && said.lines().count() == 1, "{said}");
    assert!(said.contains(&format!("\"wrong\":[\"{file}:2:35: ")) && said.contains("expected a key type\"]"), "{said}");
    // Larger than any that is read, and none at all.
    let large = directory.join("large.json");
    std::fs::write(&large, vec![b' '; 2 << 20]).expect("written");
    let output = buddy(&[&large.display().to_string(), "check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("at most 1048576 bytes"), "{}", text(&output.stderr));
    let output = buddy(&[&directory.join("none.json").display().to_string(), "check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("none.json: No such file"), "{}", text(&output.stderr));
    let output = buddy(&[&directory.display().to_string(), "check"]);
    assert_eq!(output.status.code(), Some(1), "a directory is none");
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    for arguments in [
        &[][..],
        &["x"],
        &["x", "dance"],
        &["x", "check", "--yaml"],
        &["x", "check", "y", "z"],
        &["x", "list", "--yaml"],
    ] {
        let output = buddy(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
        assert!(text(&output.stderr).contains("see --help"), "{arguments:?}");
    }
    let help = buddy(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("usage: sai-buddy FILE check"));
    assert!(text(&buddy(&["--version"]).stdout).starts_with("sai-buddy "));
    // Where nothing can be printed that is told, and who reads no more wants no more.
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let status =
        Command::new(env!("CARGO_BIN_EXE_sai-buddy")).arg("--help").stdout(full).stderr(Stdio::null()).status();
    assert_eq!(status.expect("it runs").code(), Some(1));
}
