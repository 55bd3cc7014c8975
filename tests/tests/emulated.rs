//! A job of another processor: an image of an Arm system, run by QEMU's user mode on whatever machine this is.

use sai_tests::cross;
use sai_tests::process::program;
use sai_tests::repository::run;
use sai_tests::world::World;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long programs may take that are emulated, on a machine that is busy with other tests.
const EMULATED: Duration = Duration::from_secs(300);
/// What makes containers.
const RUNNERS: [&str; 2] = ["nspawn", "bwrap"];
/// By what names the one program of the system is called.
const APPLETS: [&str; 12] =
    ["cat", "env", "grep", "id", "ls", "mkdir", "setsid", "sh", "sleep", "test", "true", "uname"];
/// How systemd-nspawn asks for a user's numbers and groups; see getent(1).
const GETENT: &str = "#!/bin/sh\n\
    case $1 in\n\
    passwd) grep \"^$2:\" /etc/passwd ;;\n\
    initgroups) echo \"$2\" ;;\n\
    *) exit 1 ;;\n\
    esac\n";

/// What begins an Arm program, and which bytes of it count; see the kernel's documentation of binfmt_misc.
const HEAD: &str = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
/// See `HEAD`.
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";
/// Where the kernel is told how programs are run.
const FORMATS: &str = "/proc/sys/fs/binfmt_misc";

/// The emulator, registered as Debian's package does: under the name that a program was called by (P), and found from
/// inside a container (F). The one that was registered last is asked first, so whatever else is there is of no consequence.
struct Registered(PathBuf);

impl Registered {
    /// `None` where the kernel cannot be told.
    fn new() -> Option<Self> {
        let register = Path::new(FORMATS).join("register");
        if !register.exists() {
            let mount = Command::new("mount").args(["-t", "binfmt_misc", "binfmt_misc", FORMATS]).status();
            mount.ok().filter(|status| status.success() && register.exists())?;
        }
        let name = format!("sai-test-{}", std::process::id());
        let emulator = cross::emulators().join("qemu-aarch64");
        fs::write(&register, format!(":{name}:M::{HEAD}:{MASK}:{}:PF", emulator.display())).expect("it is registered");
        Some(Self(Path::new(FORMATS).join(name)))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "-1");
    }
}

/// A root file system with programs for arm64 alone.
fn small_system(world: &World) -> PathBuf {
    let root = world.directory.join("system");
    for directory in ["etc", "usr/bin"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    let archive = cross::emulators().join("arm64/system.cpio.gz");
    let unpack = format!("gzip -dc '{}' | cpio -idm --quiet", archive.display());
    run(Command::new("sh").args(["-ec", &unpack]).current_dir(&root));
    for name in APPLETS {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
        symlink("../../bin/busybox", root.join("usr/bin").join(name)).expect("a link");
    }
    fs::write(root.join("usr/bin/getent"), GETENT).expect("a file");
    for (path, mode) in [("usr/bin/getent", 0o755), ("tmp", 0o1777)] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("permissions");
    }
    fs::write(root.join("etc/os-release"), "ID=small\nPRETTY_NAME=\"A small Arm system\"\n").expect("a file");
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").expect("a file");
    root
}

#[test]
fn a_job_on_an_arm_system_is_run_by_an_emulator() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("emulated");
    let sai_agent = program("sai-agent");
    let Some(_registered) = Registered::new() else {
        let mut create = Command::new(&sai_agent);
        create.args([
            "image",
            "create",
            "linux-debian-12/aarch64/plain",
            "--debootstrap",
            "bookworm",
            "--arch",
            "arm64",
        ]);
        let output = create.arg("--images").arg(world.directory.join("images")).output().expect("sai-agent can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("arm64 programs cannot run on this") && said.contains("qemu-user-static"), "{said}");
        return;
    };
    let root = small_system(&world);
    let _master = world.master();
    let platform = |runner: &str| format!("linux-small/aarch64/{runner}");
    let mut agents = Vec::new();
    for runner in RUNNERS {
        let mut create = Command::new(&sai_agent);
        create.args(["image", "create", &platform(runner), "--from-dir"]).arg(&root);
        run(create.arg("--state").arg(world.agent_state(runner)));
        agents.push(world.agent_with(runner, &["linux-host"], 1, &[&format!("\"container\": \"{runner}\"")]));
    }
    let steps = ["uname -m > /tmp/machine; id -un; cat /etc/os-release", "cat /tmp/machine; test -e .sai.json; exit 7"];
    let build = miniserde::json::to_string(&steps.map(str::to_owned).to_vec());
    let platforms = RUNNERS.map(|runner| format!("{:?}: {{ \"build\": {build} }}", platform(runner))).join(", ");
    world.repository.push_saifile(&format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ {platforms} }}, \
           \"configurations\": {{ \"default\": {{ \"artifacts\": \"/tmp/machine\" }} }} }}"
    ));
    let event = world.ended_within(EMULATED, 1);
    assert_eq!(event.jobs.len(), 2);
    for job in &event.jobs {
        let log = String::from_utf8_lossy(&world.log(job.id)).into_owned();
        assert_eq!(job.cause, "step 2 ended with status 7", "{}: {log}", job.platform);
        let expected = "sai\nID=small\nPRETTY_NAME=\"A small Arm system\"\naarch64\n";
        assert_eq!((job.state.as_str(), &*log), ("failed", expected), "{}", job.platform);
        let [kept] = &job.artifacts[..] else { panic!("{:?}", job.artifacts) };
        assert_eq!(world.get(&kept.download).expect("a download"), b"aarch64\n");
    }
    world.tidy(&RUNNERS.map(|runner| world.agent_state(runner)));
}
