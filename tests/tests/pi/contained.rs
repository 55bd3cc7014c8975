//! An archive on the card → an image on the Pi, and a job that runs in a container of it.

use super::roots;
use sai_tests::cross::root;
use sai_tests::machine::BOOT;
use sai_tests::process::eventually_within;
use sai_tests::repository::run;
use sai_tests::world::World;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The image, and its archive beside the settings.
pub const PLATFORM: &str = "linux-tiny-1/aarch64";
/// See `PLATFORM`.
pub const ARCHIVE: &str = "tiny.tar.gz";

/// A root file system of busybox alone, for the Pi's processor.
pub fn archive(directory: &Path) -> Vec<u8> {
    let (tree, file) = (directory.join("tiny"), directory.join(ARCHIVE));
    roots::busybox(&tree);
    let busybox = root().join("target/image/arm64/packages/busybox-static/bin/busybox");
    fs::copy(busybox, tree.join("bin/busybox")).expect("a program of the image's");
    run(Command::new("tar").arg("-C").arg(&tree).args(["--owner=0", "--group=0", "-czf"]).arg(&file).arg("."));
    fs::read(file).expect("an archive")
}

/// A job in it, which sees its files and not the Pi's, and changes nothing for the next.
pub fn builds(world: &World) {
    let offers = |name: &str| world.agents().into_iter().any(|agent| agent.platforms.iter().any(|other| other == name));
    eventually_within(BOOT, "the image is offered", || offers(PLATFORM).then_some(()));
    let steps = [
        "cat /etc/os-release; ls /data /boot || true; cat count.awk >/dev/null && echo checked out",
        "touch mine; id -un; grep -E '^Mem(Total|Available)' /proc/meminfo",
    ];
    let build = miniserde::json::to_string(&steps.map(str::to_owned).to_vec());
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"{PLATFORM}\": {{\"build\": {build}}}}}, \"configurations\": {{\"default\": {{}}}}}}"
    ));
    let event = world.ended_within(BOOT, 2);
    let job = &event.jobs[0];
    let log = String::from_utf8_lossy(&world.log(job.id)).into_owned();
    assert_eq!(job.state, "passed", "{event:?}: {log}");
    for line in log.lines().filter(|line| line.starts_with("Mem")) {
        eprintln!("pi3: in a container: {line}");
    }
    for part in ["ID=alpine", "ls: /data: No such file", "ls: /boot: No such file", "checked out", "\nsai\n"] {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
}
