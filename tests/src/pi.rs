//! An image for a Raspberry Pi, as `cross/image` makes it → a card, and an emulated Pi 3 that starts from it as its firmware would.
//!
//! The firmware itself runs on the Pi's other processor, which nobody emulates: what it does with an image is done here, by what the
//! image says (`config.txt`, `cmdline.txt`; see Raspberry Pi's documentation of both).

use crate::cross::{prepare, root};
use crate::process::Process;
use crate::repository::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the boot partition begins, as mtools is told.
const BOOT: &str = "@@1M";
/// Bytes of a card; QEMU's must be a power of two.
const CARD: u64 = 512 << 20;
/// What the firmware of a Pi 3 names its board's description.
const BOARD: &str = "bcm2837-rpi-3-b.dtb";

/// Makes an image with these programs, in this directory.
pub fn make_image(agent: &Path, init: &Path, output: &Path) -> PathBuf {
    let mut make = Command::new(root().join("cross/image"));
    make.arg("--agent").arg(agent).arg("--init").arg(init).arg("--output").arg(output).arg("pi3");
    prepare(&mut make);
    eprintln!("{}", run(&mut make));
    output.join("sai-pi3.img")
}

/// A card: an image's copy, and what is put onto it and read from it as any machine would.
#[derive(Debug)]
pub struct Card {
    file: PathBuf,
}

impl Card {
    /// Writes an image to a card.
    pub fn write(image: &Path, file: &Path) -> Self {
        fs::copy(image, file).expect("an image");
        fs::OpenOptions::new().write(true).open(file).and_then(|card| card.set_len(CARD)).expect("a card");
        Self { file: file.to_path_buf() }
    }

    fn mtools(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-i").arg(format!("{}{BOOT}", self.file.display())).env("MTOOLS_SKIP_CHECK", "1");
        command
    }

    /// Puts a file onto the boot partition.
    pub fn put(&self, name: &str, text: &str) {
        let file = self.file.with_extension("put");
        fs::write(&file, text).expect("a file");
        run(self.mtools("mcopy").arg("-o").arg(&file).arg(format!("::/{name}")));
    }

    /// What a file of the boot partition holds, if it is there.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let output = self.mtools("mtype").arg(format!("::/{name}")).output().expect("mtools");
        output.status.success().then_some(output.stdout)
    }

    /// Bytes of the whole card, as who has it can read them.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("a card")
    }

    /// Starts the machine: its process says what is on its serial line.
    pub fn start(&self, directory: &Path) -> Process {
        let text = |name: &str| String::from_utf8(self.get(name).unwrap_or_else(|| panic!("no {name}"))).expect("text");
        let config = text("config.txt");
        let value = |key: &str| config.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let prefix = value("os_prefix=").unwrap_or_default();
        let unpack = |name: &str| {
            let file = directory.join(name);
            fs::write(&file, self.get(&format!("{prefix}{name}")).unwrap_or_else(|| panic!("no {prefix}{name}")))
                .expect("a file");
            file
        };
        let initramfs = value("initramfs ").and_then(|line| line.split(' ').next()).expect("an initramfs");
        let mut command = Command::new("sh");
        // Standard error is what the process reads.
        command.args(["-c", "exec \"$@\" 1>&2", "sh"]);
        // With a thread each, the three processors that only wait would use up this machine's.
        command.args([
            "qemu-system-aarch64",
            "-M",
            "raspi3b",
            "-accel",
            "tcg,thread=single",
            "-m",
            "1G",
            "-display",
            "none",
        ]);
        command.arg("-kernel").arg(unpack(value("kernel=").expect("a kernel"))).arg("-initrd").arg(unpack(initramfs));
        // The emulated watchdog does not count: it bites as soon as it is started.
        let arguments = format!("{} sai.watchdog=off", text(&format!("{prefix}cmdline.txt")).trim());
        command.arg("-dtb").arg(unpack(BOARD)).arg("-append").arg(arguments);
        command.arg("-drive").arg(format!("if=sd,format=raw,file={}", self.file.display()));
        // The first serial line is Bluetooth's, as on the real one.
        command.args(["-serial", "null", "-serial", "stdio", "-monitor", "none", "-no-reboot"]);
        command.args(["-netdev", "user,id=n0", "-device", "usb-net,netdev=n0"]).stdout(Stdio::null());
        Process::start("the emulated Pi", &mut command)
    }
}

/// Seconds since its start at which the kernel's log shows a line.
pub fn moment(line: &str) -> f64 {
    let stamp = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(stamp, _)| stamp.trim());
    stamp.and_then(|stamp| stamp.parse().ok()).unwrap_or_else(|| panic!("no moment in {line:?}"))
}
