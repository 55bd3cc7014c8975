//! What is shipped (`cargo build --profile small`) → its size on disk and its memory when idle.

use sai_tests::figures::{heading, row, settle};
use sai_tests::process::Process;
use sai_tests::repository::run;
use sai_tests::world::World;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time after which a program that has nothing to do counts as idle.
const IDLE: Duration = Duration::from_secs(3);

/// Builds programs with these arguments of cargo, and says where they are.
fn build(arguments: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "--profile", "small", "--bins"]).args(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_CRATE_NAME" {
            build.env_remove(&name);
        }
    }
    run(build.current_dir(&root));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("small")
}

fn main() {
    heading("what is shipped, profile small");
    let size = |what: &str, program: &Path, goal: Option<f64>| {
        let bytes = std::fs::metadata(program).map_or(0, |data| data.len());
        row(what, "", &format!("{bytes} B"), (bytes as f64 / 1e6, " MB"), goal);
    };
    // What runs on small boards.
    let programs = build(&["-p", "sai-agent", "--no-default-features"]);
    size("sai-agent without containers", &programs.join("sai-agent"), Some(1.9));
    let programs = build(&["-p", "sai-agent", "-p", "sai-master"]);
    size("sai-agent", &programs.join("sai-agent"), Some(1.9));
    size("sai-master", &programs.join("sai-master"), Some(3.6));
    let world = World::new("size");
    let mut command = Command::new(programs.join("sai-master"));
    command.arg("--config").arg(world.configuration()).stdout(Stdio::null());
    let master = Process::start("master", &mut command);
    master.await_line("listening on");
    let mut add = Command::new(programs.join("sai-master"));
    let line = run(add.args(["agent", "add", "one", "--config"]).arg(world.configuration()));
    let mut command = Command::new(programs.join("sai-agent"));
    command.args(["join", &line, "--state"]).arg(world.agent_state("one")).stdout(Stdio::null());
    let agent = Process::start("agent", &mut command);
    agent.await_line("connected as");
    settle();
    std::thread::sleep(IDLE);
    let mib = |process: &Process| process.resident_kib() as f64 / 1024.0;
    row("agent's memory, connected and idle", "", "", (mib(&agent), " MiB"), Some(5.0));
    row("master's memory, one agent, idle", "", "", (mib(&master), " MiB"), Some(14.0));
    let mut builtin = World::new("size");
    builtin.set("builtin", "{}");
    let mut command = Command::new(programs.join("sai-master"));
    command.arg("--config").arg(builtin.configuration()).stdout(Stdio::null());
    let master = Process::start("master", &mut command);
    master.await_line("listening on");
    std::thread::sleep(IDLE);
    row("master's memory, built-in agent, idle", "", "", (mib(&master), " MiB"), Some(14.0));
}
