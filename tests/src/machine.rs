//! Files and a script → a whole emulated machine that boots them: Debian's kernel, busybox, git, and what is to be tried.

use crate::cross::emulators;
use crate::process::Process;
use crate::repository::run;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for an emulated machine to do what a real one does in seconds, while others use this one too.
pub const BOOT: Duration = Duration::from_secs(300);

/// What is emulated.
#[derive(Clone, Copy, Debug)]
pub enum Board {
    /// No board in particular, with this much memory in MiB.
    Virtual(u32),
    /// A Raspberry Pi 3, whose Ethernet is on USB.
    Pi3,
}

/// The beginning of every system: file systems, a network, and a clock that stands where it does without a battery. The
/// machine that emulates this one is `localhost` here, so that the same URL means the same repository to both.
const BEGIN: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read module; do insmod $module; done </modules/order
date -s @1000 >/dev/null
echo '10.0.2.2 localhost' >/etc/hosts
ip link set lo up
until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
export PATH=/bin:/usr/bin HOME=/root
mkdir -p /etc/default /run
syslogd -O /dev/console
echo \"the system is up: $(uname -sm)\"
";

/// Boots a board with these files, each at a path, and runs a script on it, whose lines the process says.
pub fn boot(directory: &Path, board: Board, files: &[(&Path, &str)], script: &str) -> Process {
    let emulators = emulators();
    let system = directory.join("system.cpio.gz");
    fs::copy(emulators.join("system.cpio.gz"), &system).expect("a system");
    // The kernel unpacks archives that follow each other, one over the other.
    let mut archive = fs::OpenOptions::new().append(true).open(&system).expect("a system");
    archive.write_all(&pack(directory, files, script)).expect("room for the system");
    drop(archive);
    // Standard error is what the process reads.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 1>&2", "sh", "qemu-system-aarch64"]);
    let kernel = emulators.join("kernel");
    let console = "console=ttyAMA0 panic=-1 loglevel=3 rdinit=/init";
    match board {
        Board::Virtual(memory) => {
            command.args(["-M", "virt", "-cpu", "cortex-a53", "-nodefaults", "-m", &memory.to_string()]);
            command.args(["-device", "virtio-net-device,netdev=n0", "-append", console]);
        }
        Board::Pi3 => {
            // With a thread each, the three processors that only wait would use up this machine's.
            command.args(["-M", "raspi3b", "-accel", "tcg,thread=single", "-m", "1G"]);
            command.args(["-device", "usb-net,netdev=n0", "-append", console, "-dtb"]).arg(emulators.join("pi3.dtb"));
        }
    }
    command.args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-netdev", "user,id=n0"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(&system).stdout(Stdio::null());
    Process::start("the emulated machine", &mut command)
}

/// An archive (cpio) of these files and the script as `/init`.
fn pack(directory: &Path, files: &[(&Path, &str)], script: &str) -> Vec<u8> {
    let tree: PathBuf = directory.join("initramfs");
    let place = |path: &str| {
        let place = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("a file is in a directory")).expect("a directory");
        place
    };
    for (file, path) in files {
        fs::copy(file, place(path)).expect("a file of the system");
    }
    let init = place("/init");
    fs::write(&init, format!("{BEGIN}{script}\npoweroff -f\n")).expect("a script");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("a script");
    let archive = directory.join("more.cpio.gz");
    let pack = "find . -print | cpio -o -H newc --quiet -R 0:0 | gzip -1 >\"$1\"";
    run(Command::new("sh").args(["-c", pack, "sh"]).arg(&archive).current_dir(&tree));
    fs::read(archive).expect("an archive")
}
