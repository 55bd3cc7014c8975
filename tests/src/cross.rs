//! Name of another processor → its program, as `cross/build` makes it, ready to be run on this machine.
//!
//! The kernel starts such a program by QEMU's user-mode emulation (binfmt_misc): its own processes, such as the supervisor of
//! a job, come up the same way, and so do those that a test kills.

use crate::repository::run;
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The names of `cross/build`, and for those that are emulated here a processor that has nothing more than the target says.
pub const TARGETS: [(&str, Option<&str>); 4] =
    [("aarch64", Some("cortex-a53")), ("armv7", Some("cortex-a7")), ("armv6", Some("arm1176")), (SERVERS, None)];

/// The target of servers, which is not emulated here.
pub const SERVERS: &str = "x86_64";

/// The target whose master, and whose agent with boards, is built and run here.
pub const MASTER_TARGET: &str = "aarch64";

/// An address where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

/// What QEMU registers itself for: the head of an ELF file for a machine, see binfmt_misc in the kernel's documentation.
const FORMATS: [(&str, &str, &str); 2] = [
    ("aarch64", r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00", "qemu-aarch64"),
    ("arm", r"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00", "qemu-arm"),
];
/// Which bytes of that head count: not the operating system, and an executable file or a shared object.
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// One at a time, in this process and others: what is made is kept below `target` for all of them.
fn alone(what: &str) -> File {
    let target = root().join("target");
    fs::create_dir_all(&target).expect("a directory");
    let lock = File::create(target.join(format!("{what}.lock"))).expect("a lock");
    flock(&lock, FlockOperation::LockExclusive).expect("a lock");
    lock
}

/// A program for another processor, up to date. All that tests run are built when the first is asked for, since several at
/// once take less time.
pub fn program(target: &str, name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let _alone = alone("cross");
        std::thread::scope(|scope| {
            let emulated = TARGETS.into_iter().filter_map(|(name, processor)| processor.map(|_| name));
            let agents: Vec<&str> = ["-p", "sai-agent"].into_iter().chain(emulated).collect();
            let agents = scope.spawn(move || build(&agents));
            build(&["-p", "sai-master", MASTER_TARGET]);
            agents.join().expect("the agents are built");
        });
    });
    root().join("target/cross").join(target).join(name)
}

/// The agent of one target, up to date, without what else tests run.
pub fn agent(target: &str) -> PathBuf {
    let _alone = alone("cross");
    build(&["-p", "sai-agent", target]);
    root().join("target/cross").join(target).join("sai-agent")
}

/// What `cross/build --boards` makes, below the place of a target.
pub const WITH_BOARDS: &str = "boards/sai-agent";

/// The agent for another processor that can have boards of its own, up to date.
pub fn agent_with_boards(target: &str) -> PathBuf {
    let _alone = alone("cross");
    build(&["--boards", "-p", "sai-agent", target]);
    root().join("target/cross").join(target).join(WITH_BOARDS)
}

/// The agent that an image for a Raspberry Pi has, up to date: with boards, and with jobs in containers.
pub fn agent_for_image(target: &str) -> PathBuf {
    let _alone = alone("cross");
    build(&["--containers", "--boards", "-p", "sai-agent", target]);
    root().join("target/cross").join(target).join("containers").join(WITH_BOARDS)
}

/// The first process of the image for a Raspberry Pi, up to date.
pub fn init(target: &str) -> PathBuf {
    let _alone = alone("cross");
    build(&["-p", "sai-init", target]);
    root().join("target/cross").join(target).join("sai-init")
}

/// The program with a fault that can be asked for, up to date.
pub fn faulty(target: &str) -> PathBuf {
    let _alone = alone("cross");
    build(&["-p", "sai-faulty", target]);
    root().join("target/cross").join(target).join("sai-faulty")
}

fn build(arguments: &[&str]) {
    let mut build = Command::new(root().join("cross/build"));
    build.args(arguments);
    prepare(&mut build);
    let output = build.output().expect("cross/build can be run");
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{build:?}:\n{said}");
    eprintln!("{said}");
}

/// Readies a command that builds for another processor as a user would run it, with the standard libraries that are there:
/// a test fetches no compiler, and gets the same answer at once from an address where nobody listens.
pub fn prepare(command: &mut Command) {
    command.env("RUSTUP_DIST_SERVER", NOWHERE).env("RUSTUP_UPDATE_ROOT", NOWHERE);
    // What cargo tells a test would have everything built anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_CRATE_NAME" {
            command.env_remove(&name);
        }
    }
    // Where the compiler of the tests has its libraries is of no use to another.
    command.env_remove("LD_LIBRARY_PATH");
}

/// The directory of what `tests/emulators` makes.
pub fn emulators() -> PathBuf {
    let _alone = alone("emulators");
    run(&mut Command::new(root().join("tests/emulators")));
    root().join("target/emulators")
}

/// Has the kernel run programs of other processors.
///
/// # Panics
/// When that cannot be had, with what to do.
pub fn emulate() {
    let emulators = emulators();
    let _alone = alone("binfmt");
    let formats = Path::new("/proc/sys/fs/binfmt_misc");
    if !formats.join("register").exists() {
        run(Command::new(as_root()).args(["mount", "-t", "binfmt_misc", "binfmt_misc"]).arg(formats));
    }
    for (name, head, emulator) in FORMATS {
        let entry = formats.join(format!("sai-{name}"));
        // One that an earlier test registered still works when its file is gone: the kernel holds it open.
        if entry.exists() {
            continue;
        }
        let line = format!(":sai-{name}:M::{head}:{MASK}:{}:F", emulators.join(emulator).display());
        let mut tee = Command::new(as_root())
            .arg("tee")
            .arg(formats.join("register"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("tee can be run");
        tee.stdin.take().expect("a pipe").write_all(line.as_bytes()).expect("tee reads");
        assert!(tee.wait().is_ok_and(|status| status.success()), "root is needed to register QEMU with binfmt_misc");
    }
}

/// A program that runs another one as root.
fn as_root() -> &'static str {
    if rustix::process::geteuid().is_root() { "env" } else { "sudo" }
}

/// The lines of `cross/size.txt`: target, program → bytes allowed.
pub fn allowed() -> BTreeMap<(String, String), u64> {
    let text = fs::read_to_string(root().join("cross/size.txt")).expect("cross/size.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [target, name, bytes] => {
                ((target.to_owned(), name.to_owned()), bytes.replace('_', "").parse().expect("a number of bytes"))
            }
            _ => panic!("expected TARGET PROGRAM BYTES, found {line:?}"),
        })
        .collect()
}
