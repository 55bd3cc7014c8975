//! Files and a script → a whole emulated machine that boots them: Debian's kernel, busybox, git, and what is to be tried.

use crate::cross::emulators;
use crate::process::Process;
use crate::repository::{git, run};
use crate::world::{World, free_port};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for an emulated machine to do what a real one does in seconds, while others use this one too.
pub const BOOT: Duration = Duration::from_secs(300);

/// Address of the system in the memory of a small board: behind where the kernel unpacks itself, and below the least memory.
const SYSTEM_AT: u64 = 32 << 20;

/// A clock that goes on by 8 ns with each instruction, and by itself while the processor waits. Its USB interrupts the kernel
/// thousands of times a second: by the clock of a machine that is busy with other things nothing else would be done any more.
const CLOCK: &str = "shift=3";
/// The archive that every system begins with.
const SYSTEM: &str = "system.cpio.gz";
/// What it is on, where that is no archive.
const CARD: &str = "card.img";
/// Room on a card, MiB.
const CARD_MIB: u32 = 96;

/// What is emulated.
#[derive(Clone, Copy, Debug)]
pub enum Board {
    /// No board in particular, with this much memory in MiB, and a card that its system and all it writes is on.
    Virtual(u32),
    /// The same with two adapters for serial lines on its USB, at ports 1 and 2, to each of which a board is connected that says
    /// nothing.
    Bench(u32),
    /// The same with one adapter, at port 1, to which the board of another emulated machine is connected, and stopped until its pins
    /// have been looked at: `tty` in its directory is that board's console, `orders` and `pins` are sockets of its own.
    Wired(u32),
    /// A Raspberry Pi Zero, whose Ethernet is on USB, and of whose memory the system is given this much, in MiB.
    PiZero(u32),
}

impl Board {
    /// Which of the systems that `tests/emulators` makes it boots.
    fn system(self) -> PathBuf {
        emulators().join(match self {
            Self::Virtual(_) | Self::Bench(_) | Self::Wired(_) => "arm64",
            Self::PiZero(_) => "armel",
        })
    }

    /// What its processor is called there.
    pub fn processor(self) -> &'static str {
        match self {
            Self::Virtual(_) | Self::Bench(_) | Self::Wired(_) => "aarch64",
            Self::PiZero(_) => "armv6l",
        }
    }
}

/// The beginning of a system that is on a card: what the kernel has no room for.
const FROM_CARD: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
for order in /modules/*order; do while read module; do insmod $module; done <$order; done
until [ -e /dev/vda ]; do sleep 0.1; done
mount -t ext4 -o noatime /dev/vda /card
exec switch_root /card /init
";

/// The beginning of every system: file systems, a network, and a clock that stands where it does without a battery. The
/// machine that emulates this one is `localhost` here, so that the same URL means the same repository to both.
const BEGIN: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
[ ! -e /modules/order ] || while read module; do insmod $module; done </modules/order
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
echo \"the system is up: $(uname -sm) $(awk '/^MemTotal/ { print $2, $3 }' /proc/meminfo)\"
";

/// A master for a machine that finds this one at 10.0.2.2, and the same repository as this one at `localhost`.
pub fn world(name: &str) -> (World, Process) {
    let mut world = World::new(name);
    let git_port = free_port();
    world.set("repositories", &format!("{{\"project\": {{\"url\": \"git://localhost:{git_port}/project.git\"}}}}"));
    world.use_p521_certificate();
    world.set("url", &format!("\"https://10.0.2.2:{}\"", world.port));
    let mut daemon = git(&world.directory);
    daemon.args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", &format!("--port={git_port}")]);
    daemon.arg(format!("--base-path={}", world.directory.display())).stdout(Stdio::null());
    let daemon = Process::start("git daemon", daemon.arg(&world.directory));
    (world, daemon)
}

/// What a board has at its first USB port, as it is added and removed.
pub const PLUG: &str = "plug1";

/// Boots a board with these files, each at a path, and runs a script on it, whose lines the process says.
pub fn boot(directory: &Path, board: Board, files: &[(&Path, &str)], script: &str) -> Process {
    let emulated = board.system();
    let system = directory.join(SYSTEM);
    let (tree, card) = (directory.join("system"), directory.join(CARD));
    match board {
        Board::Virtual(_) => on_card(&[emulated.join(SYSTEM)], &tree, &card, &system, files, script),
        Board::Bench(_) | Board::Wired(_) => {
            let archives = [SYSTEM, "usb-serial.cpio.gz"].map(|part| emulated.join(part));
            on_card(&archives, &tree, &card, &system, files, script);
        }
        Board::PiZero(_) => {
            fill(&tree, files, script);
            fs::copy(emulated.join(SYSTEM), &system).expect("a system");
            // The kernel unpacks archives that follow each other, one over the other.
            pack(&tree, &system);
        }
    }
    start(directory, board)
}

/// Switches on a board that was booted before, with what it has had since.
pub fn start(directory: &Path, board: Board) -> Process {
    let emulated = board.system();
    let (system, card) = (directory.join(SYSTEM), directory.join(CARD));
    // Standard error is what the process reads.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 1>&2", "sh"]);
    let console = "console=ttyAMA0 panic=-1 cryptomgr.notests loglevel=3 rdinit=/init";
    match board {
        Board::Virtual(memory) | Board::Bench(memory) | Board::Wired(memory) => {
            command.args(["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-nodefaults"]);
            command.args(["-m", &memory.to_string(), "-device", "virtio-net-device,netdev=n0", "-append", console]);
            command.args(["-device", "virtio-blk-device,drive=card", "-drive"]);
            command.arg(format!("if=none,id=card,format=raw,file={}", card.display())).arg("-initrd").arg(&system);
            let at = |name: &str| directory.join(name).display().to_string();
            let consoles = match board {
                Board::Bench(_) => vec!["null".to_string(); 2],
                Board::Wired(_) => vec![format!("serial,path={}", at("tty"))],
                Board::Virtual(_) | Board::PiZero(_) => Vec::new(),
            };
            if !consoles.is_empty() {
                command.args(["-device", "qemu-xhci,id=hub"]);
            }
            for (port, console) in (1..).zip(consoles) {
                command.arg("-chardev").arg(format!("{console},id=board{port}")).arg("-device");
                command.arg(format!(
                    "usb-serial,id=plug{port},chardev=board{port},serial=BOARD{port},bus=hub.0,port={port},always-plugged=on"
                ));
            }
            if matches!(board, Board::Wired(_)) {
                let socket = |name: &str| format!("unix:{},server=on,wait=off", at(name));
                command.args(["-S", "-qmp", &socket("orders"), "-qtest", &socket("pins"), "-qtest-log", "none"]);
            }
        }
        Board::PiZero(memory) => {
            zero(&mut command, &system, &format!("{console} mem={memory}M"));
            command.args(["-device", "usb-net,netdev=n0"]);
            command.arg("-dtb").arg(emulated.join("board.dtb"));
        }
    }
    command.args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-netdev", "user,id=n0"]);
    command.arg("-kernel").arg(emulated.join("kernel")).stdout(Stdio::null());
    Process::start("the emulated machine", &mut command)
}

/// What emulates a Raspberry Pi Zero whose kernel has this system and these arguments.
pub fn zero(command: &mut Command, system: &Path, arguments: &str) {
    let bytes = fs::metadata(system).expect("a system").len();
    // QEMU has not the part of the chip that switches its power, and the kernel stumbles over that. And it would put the system where a
    // machine with less memory has none.
    let arguments = format!("{arguments} initcall_blacklist=bcm2835_power_driver_init initrd={SYSTEM_AT:#x},{bytes}");
    let at = format!("loader,file={},addr={SYSTEM_AT:#x},force-raw=on", system.display());
    command.args(["qemu-system-arm", "-M", "raspi0", "-icount", CLOCK, "-device", &at, "-append", &arguments]);
}

/// Puts these files into a tree, and the script as `/init`.
fn fill(tree: &Path, files: &[(&Path, &str)], script: &str) {
    for (file, path) in files {
        let place = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().expect("a file is in a directory")).expect("a directory");
        fs::copy(file, place).expect("a file of the system");
    }
    write_init(tree, &format!("{BEGIN}{script}\npoweroff -f\n"));
}

fn write_init(tree: &Path, script: &str) {
    let init = tree.join("init");
    fs::write(&init, script).expect("a script");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("a script");
}

/// Appends a tree to an archive (cpio) of others.
fn pack(tree: &Path, archive: &Path) {
    let pack = "find . -print | cpio -o -H newc --quiet -R 0:0 | gzip -1 >>\"$1\"";
    run(Command::new("sh").args(["-c", pack, "sh"]).arg(archive).current_dir(tree));
}

/// Makes a card with the system of these archives and these files, and an archive with what it takes to begin with the card.
fn on_card(archives: &[PathBuf], tree: &Path, card: &Path, archive: &Path, files: &[(&Path, &str)], script: &str) {
    let first = tree.with_extension("first");
    fs::create_dir_all(tree).expect("a directory");
    let unpack = "gzip -dc \"$1\" | cpio -id --quiet";
    for archive in archives {
        run(Command::new("sh").args(["-c", unpack, "sh"]).arg(archive).current_dir(tree));
    }
    for name in ["bin", "dev", "card"] {
        fs::create_dir_all(first.join(name)).expect("a directory");
    }
    fs::rename(tree.join("modules"), first.join("modules")).expect("modules");
    fs::copy(tree.join("bin/busybox"), first.join("bin/busybox")).expect("busybox");
    write_init(&first, FROM_CARD);
    pack(&first, archive);
    fill(tree, files, script);
    let make = "PATH=\"$PATH:/sbin:/usr/sbin\" mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -d \"$1\" \"$2\" \"$3\"";
    run(Command::new("sh").args(["-c", make, "sh"]).arg(tree).arg(card).arg(format!("{CARD_MIB}M")));
}
