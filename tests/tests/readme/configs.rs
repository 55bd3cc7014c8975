//! Files of `configs/` → what those say of them who read them: Sai, systemd and udev.

use super::{root, text};
use sai_tests::repository::run;
use sai_tests::world::World;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

#[test]
fn example_configurations_are_read_and_complete() {
    let world = World::new("configs");
    let configs = root().join("configs");
    let bytes = std::fs::read(configs.join("master.json")).expect("configs/master.json");
    let config = sai_master::config::read("configs/master.json", &bytes).expect("an example that can be read");
    assert!(config.repositories.contains_key("hello"));
    let keys = |errors: String| -> Vec<String> {
        let list = errors.split("expected one of ").nth(1).unwrap_or_default().split(['\n', ';']).next().unwrap_or("");
        list.split(", ").map(|key| key.trim_matches(['`', '.', ' ']).to_string()).collect()
    };
    let known = keys(sai_master::config::read("x", b"{\"nonsense\": 1}").expect_err("a wrong key").join("\n"));
    assert!(known.len() >= 14, "{known:?}");
    let example = text(&bytes);
    for key in known {
        assert!(example.contains(&format!("\"{key}\":")), "configs/master.json does not show {key}");
    }

    let file = world.directory.join("agent.json");
    std::fs::copy(configs.join("agent.json"), &file).expect("configs/agent.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let config = sai_agent::config::read(&file).expect("an example that can be read");
    assert_eq!(config.slots, Some(2));
    std::fs::copy(configs.join("agent-nspawn.json"), &file).expect("configs/agent-nspawn.json");
    let config = sai_agent::config::read(&file).expect("an example that can be read");
    assert_eq!(config.containers.binds.len(), 2);
}

/// Keys of the units that systemd might not be there to check.
const UNIT_KEYS: &[&str] = &["Description", "Wants", "After", "ExecStart", "User", "Restart", "KillMode", "WantedBy"];

#[test]
fn units_are_understood_by_systemd() {
    let world = World::new("units");
    for (name, program) in [
        ("sai-master", "sai-master --"),
        ("sai-agent", "sai-agent --"),
        ("sai-guard", "sai-buddy guard --"),
        ("sai-board@", "sai-buddy /etc/sai/boards.json owner %i --"),
    ] {
        let unit = std::fs::read_to_string(root().join(format!("configs/{name}.service"))).expect("a unit");
        // A guard wants nothing but to be there.
        for key in UNIT_KEYS.iter().filter(|key| name != "sai-guard" || **key != "Wants") {
            assert!(unit.lines().any(|line| line.starts_with(&format!("{key}="))), "{name} has no {key}");
        }
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
        assert!(start.starts_with(&format!("/usr/local/bin/{program}")), "{start}");
        // The programs are not installed on a machine that only tests them.
        let copy = world.directory.join(format!("{name}.service"));
        let installed = program.split(' ').next().expect("a program");
        std::fs::write(&copy, unit.replace(&format!("/usr/local/bin/{installed}"), "/bin/true")).expect("a unit");
        if name == "sai-agent" {
            let addition = world.directory.join("sai-agent.service.d");
            std::fs::create_dir(&addition).expect("a directory");
            for part in ["containers", "boards"] {
                let from = root().join(format!("configs/sai-agent-{part}.conf"));
                std::fs::copy(from, addition.join(format!("{part}.conf"))).expect("an addition to the unit");
            }
        }
        if name == "sai-board@" {
            // Its user is the guard's, and systemd checks templates by their instances alone.
            std::fs::rename(&copy, world.directory.join("sai-board@b.service")).expect("an instance");
            let guard = world.directory.join("sai-guard.service");
            assert!(guard.exists() && unit.contains("\nUser=sai-boards\n"));
            verify(&world.directory.join("sai-board@b.service"), name);
            continue;
        }
        // Its head says how to make the user that it wants.
        let user = unit.lines().find_map(|line| line.strip_prefix("User=")).expect("a user");
        let make = unit.lines().find_map(|line| line.strip_prefix("#   useradd ")).expect("how to make it");
        assert!(make.ends_with(&format!(" {user}")), "{make} does not make {user}");
        if rustix::process::geteuid().is_root() {
            let etc = world.directory.join(name).join("etc");
            std::fs::create_dir_all(&etc).expect("a directory");
            ["passwd", "group", "shadow", "gshadow"]
                .iter()
                .for_each(|file| std::fs::write(etc.join(file), "").expect("a file"));
            let prefix = world.directory.join(name);
            run(Command::new("useradd").arg("--prefix").arg(&prefix).args(make.split(' ')));
            let users = std::fs::read_to_string(etc.join("passwd")).expect("users");
            assert!(users.starts_with(&format!("{user}:")) && users.contains("/usr/sbin/nologin"), "{users}");
        }
        verify(&copy, name);
    }
}

/// What the rules of udev match and set.
const RULE_KEYS: [&str; 9] = ["SUBSYSTEM", "KERNEL", "DRIVER", "ENV{", "ATTR{", "GROUP", "MODE", "RUN", "ACTION"];

#[test]
fn rules_of_udev_are_understood() {
    let path = root().join("configs/60-sai-boards.rules");
    let rules = std::fs::read_to_string(&path).expect("rules");
    let mut groups = Vec::new();
    for line in rules.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // A part is a key, what is done with it, and a text in quotes, which has commas too.
        let mut rest = line;
        while !rest.is_empty() {
            let (key, after) = rest.split_once('"').unwrap_or_else(|| panic!("{line}: {rest} has no text"));
            let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("{line}: {rest} has no end"));
            let name = key.trim_end_matches(['=', '+', '!', ':']);
            assert!(RULE_KEYS.iter().any(|known| name.starts_with(known)), "{line}: {name}");
            assert!(["==", "=", "+=", "!="].contains(&&key[name.len()..]), "{line}: {key}");
            groups.extend((name == "GROUP").then(|| value.to_string()));
            rest = after.strip_prefix(", ").unwrap_or(after);
        }
    }
    // Owners and guard are users of these: the guard's unit says how, and its own group is made with its user.
    let unit = std::fs::read_to_string(root().join("configs/sai-guard.service")).expect("a unit");
    for group in ["sai-boards", "dialout"] {
        assert!(groups.iter().any(|other| other == group) && unit.contains(group), "{group}: {groups:?}");
    }
    // Since version 254 udev says itself what it thinks of them.
    match Command::new("udevadm").args(["verify", "--help"]).output() {
        Ok(help) if help.status.success() => {
            drop(run(Command::new("udevadm").args(["verify", "--no-style"]).arg(&path)))
        }
        _ => eprintln!("udevadm verifies no rules here"),
    }
}

/// Has systemd, where it is there, say what is wrong with a unit.
fn verify(unit: &Path, name: &str) {
    match Command::new("systemd-analyze").arg("verify").arg(unit).output() {
        Ok(output) => {
            let told = text(&output.stderr);
            let about =
                told.lines().filter(|line| line.contains(&format!("{name}.service")) || line.contains("@b.service"));
            assert_eq!(about.collect::<Vec<_>>(), Vec::<&str>::new());
        }
        Err(error) => eprintln!("systemd-analyze: {error}; {name}.service was not verified by it"),
    }
}
