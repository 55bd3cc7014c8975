//! An image for a Raspberry Pi, as `cross/image` makes it → a card, and an emulated Pi that starts from it as its firmware would.
//!
//! The firmware itself runs on the Pi's other processor, which nobody emulates: what it does with an image is done here, by what the
//! image says (`config.txt`, `cmdline.txt`; see Raspberry Pi's documentation of both).

use crate::cross::{prepare, root};
use crate::machine::zero;
use crate::process::Process;
use crate::repository::run;
use crate::world::free_port;
use sai_init::card::{Data, data};
use sai_init::kept::{self, PLACES, SECTOR};
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where the boot partition begins, as mtools is told.
const BOOT: &str = "@@1M";
/// Where the data partition begins, in bytes: behind the boot partition, see `cross/image`.
const DATA: u64 = 128 << 20;
/// Bytes of a card; QEMU's must be a power of two.
const CARD: u64 = 512 << 20;
/// A clock that goes on by 2 ns with each instruction, and by itself while all processors wait. By that of a machine which is busy with
/// other things the kernel's driver of the card gives up waiting, and then stumbles; and a figure would be of this machine.
const CLOCK: &str = "shift=1";
/// Who multicast DNS is asked at: RFC 6762, and RFC 1112 for what that is on Ethernet.
const GROUP: ([u8; 6], [u8; 4], u16) = ([1, 0, 0x5e, 0, 0, 251], [224, 0, 0, 251], 5353);
/// Whom a question comes from on the Pi's network.
const ASKER: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 77], [10, 0, 2, 77]);

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// A Raspberry Pi 3, and others of 64 bits.
    Pi3,
    /// A Raspberry Pi 2.
    Pi2,
    /// A Raspberry Pi Zero or 1.
    Pi0,
}

impl Model {
    /// What `cross/image` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pi3 => "pi3",
            Self::Pi2 => "pi2",
            Self::Pi0 => "pi0",
        }
    }

    /// What the firmware names its board's description.
    const fn board(self) -> &'static str {
        match self {
            Self::Pi3 => "bcm2837-rpi-3-b.dtb",
            Self::Pi2 => "bcm2836-rpi-2-b.dtb",
            Self::Pi0 => "bcm2835-rpi-zero.dtb",
        }
    }
}

/// A file `sai-MODEL.update` as `cross/image` makes it, and others that are made of it.
#[derive(Clone, Debug)]
pub struct Update {
    /// The number of its image.
    pub number: u64,
    model: Model,
    kernel: Vec<u8>,
    initramfs: Vec<u8>,
}

impl Update {
    /// What it is called on a card.
    pub fn name(&self) -> String {
        format!("sai-{}.update", self.model.name())
    }

    /// Reads one.
    pub fn read(file: &Path) -> Self {
        let bytes = fs::read(file).expect("an update");
        let mut lines = bytes.splitn(4, |byte| *byte == b'\n').skip(1);
        let said = String::from_utf8(lines.next().expect("a line").to_vec()).expect("text");
        let behind = lines.nth(1).expect("contents");
        let number = |key: &str, from: &str| -> u64 {
            let rest = from.split_once(&format!("\"{key}\": ")).expect(key).1;
            rest.split(|letter: char| !letter.is_ascii_digit()).next().and_then(|text| text.parse().ok()).expect(key)
        };
        let (kernel, initramfs) = behind.split_at(number("bytes", &said) as usize);
        let said_of = |model: &Model| said.contains(&format!("\"model\": \"{}\"", model.name()));
        let model = [Model::Pi3, Model::Pi2, Model::Pi0].into_iter().find(said_of).expect("a model");
        Self { number: number("number", &said), model, kernel: kernel.to_vec(), initramfs: initramfs.to_vec() }
    }

    /// One of any bytes, for a Pi 3.
    #[must_use]
    pub fn of(number: u64, kernel: Vec<u8>, initramfs: Vec<u8>) -> Self {
        Self { number, model: Model::Pi3, kernel, initramfs }
    }

    /// One whose number is larger.
    #[must_use]
    pub fn newer(&self, by: u64) -> Self {
        Self { number: self.number + by, ..self.clone() }
    }

    /// One with another program of a system in place of its own.
    #[must_use]
    pub fn with_program(mut self, name: &str, text: &str) -> Self {
        // What is unpacked later counts: cpio(5), the new ASCII format.
        self.initramfs.resize(self.initramfs.len().next_multiple_of(4), 0);
        for (name, mode, text) in [(name, 0o100_755, text), ("TRAILER!!!", 0, "")] {
            let fields = [1, mode, 0, 0, 1, 0, text.len(), 0, 0, 0, 0, name.len() + 1, 0];
            let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
            self.initramfs.extend(format!("070701{fields}{name}\0").bytes());
            self.initramfs.resize(self.initramfs.len().next_multiple_of(4), 0);
            self.initramfs.extend(text.bytes());
            self.initramfs.resize(self.initramfs.len().next_multiple_of(4), 0);
        }
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let piece = |bytes: &[u8]| {
            let digest = sai_agent::digest::sha256(bytes);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{{\"bytes\": {}, \"sha256\": \"{digest}\"}}", bytes.len())
        };
        let (number, kernel, initramfs) = (self.number, piece(&self.kernel), piece(&self.initramfs));
        let model = self.model.name();
        let said = format!(
            "{{\"model\": \"{model}\", \"number\": {number}, \"kernel\": {kernel}, \"initramfs\": {initramfs}}}"
        );
        [format!("sai-update 1\n{said}\nunsigned\n").as_bytes(), &self.kernel, &self.initramfs].concat()
    }
}

/// Makes an image with these programs, in this directory.
pub fn make_image(model: Model, agent: &Path, init: &Path, output: &Path) -> PathBuf {
    let mut make = Command::new(root().join("cross/image"));
    make.arg("--agent").arg(agent).arg("--init").arg(init).arg("--output").arg(output).arg(model.name());
    prepare(&mut make);
    eprintln!("{}", run(&mut make));
    output.join(format!("sai-{}.img", model.name()))
}

/// A card: an image's copy, and what is put onto it and read from it as any machine would.
#[derive(Debug)]
pub struct Card {
    model: Model,
    file: PathBuf,
}

impl Card {
    /// Writes a packed image to a card, by the command that people are told.
    pub fn write(command: &str, image: &Path, file: &Path) -> Self {
        let command = command.replace("sudo ", "").replace("target/image/sai-pi3.img.gz", &image.display().to_string());
        run(Command::new("sh").arg("-c").arg(command.replace("/dev/sdX", &file.display().to_string())));
        Self::of(Model::Pi3, file)
    }

    /// Writes an image to a card.
    pub fn copied(model: Model, image: &Path, file: &Path) -> Self {
        fs::copy(image, file).expect("an image");
        Self::of(model, file)
    }

    /// What was written is smaller than a card.
    fn of(model: Model, file: &Path) -> Self {
        File::options().write(true).open(file).and_then(|card| card.set_len(CARD)).expect("a card");
        Self { model, file: file.to_path_buf() }
    }

    fn mtools(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-i").arg(format!("{}{BOOT}", self.file.display())).env("MTOOLS_SKIP_CHECK", "1");
        command
    }

    /// Puts a file onto the boot partition.
    pub fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = self.file.with_extension("put");
        fs::write(&file, text).expect("a file");
        run(self.mtools("mcopy").arg("-o").arg(&file).arg(format!("::/{name}")));
    }

    /// What a file of the boot partition holds, if it is there.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let output = self.mtools("mtype").arg(format!("::/{name}")).output().expect("mtools");
        output.status.success().then_some(output.stdout)
    }

    /// Lays files into a directory that the data partition has, while no machine runs from the card.
    pub fn lay(&self, directory: &str, files: &[(String, &[u8])]) {
        // As a file of its own, since what does what its journal says wants to open it again.
        let data = self.data();
        let status = Command::new("/sbin/e2fsck").arg("-p").arg(&data).stdout(Stdio::null()).status().expect("e2fsck");
        // One says that something was done.
        assert!(matches!(status.code(), Some(0 | 1)), "e2fsck {data:?}: {status}");
        for (name, bytes) in files {
            let (file, path) = (self.file.with_extension("lay"), format!("{directory}/{name}"));
            fs::write(&file, bytes).expect("a file");
            for (command, sign) in [
                (format!("write {} {path}", file.display()), "Allocated inode"),
                (format!("stat {path}"), &format!("Size: {}", bytes.len())),
            ] {
                // It ends well whatever becomes of a command.
                let told = run(Command::new("/sbin/debugfs").args(["-w", "-R", &command]).arg(&data));
                assert!(told.contains(sign), "{command}: {told}");
            }
        }
        let mut card = File::options().write(true).open(&self.file).expect("a card");
        card.seek(SeekFrom::Start(DATA)).expect("a partition");
        io::copy(&mut File::open(&data).expect("a file"), &mut card).expect("a partition");
    }

    /// What a power cut should not have left: a data partition that its journal does not mend, or nothing that says which system is to run
    /// where there was something.
    pub fn wrong(&self) -> Option<String> {
        let card = File::open(&self.file).expect("a card");
        let mut sectors = [[0; SECTOR]; 2];
        for (sector, place) in sectors.iter_mut().zip(PLACES) {
            card.read_exact_at(sector, place).expect("a sector");
        }
        if sectors != [[0; SECTOR]; 2] && kept::read(&sectors).is_none() {
            return Some("neither sector says which system is to run".to_owned());
        }
        let mut table = [0; SECTOR];
        card.read_exact_at(&mut table, 0).expect("a sector");
        match data(&table, CARD / SECTOR as u64) {
            Ok(Data::Missing(..)) => return None,
            Ok(Data::There(part)) => assert_eq!(part.first * SECTOR as u64, DATA, "where the data partition is"),
            Err(why) => return Some(why),
        }
        let data = self.data();
        // The first look does what the journal says, and the second finds what is wrong all the same.
        for (words, well) in [("-p", 1), ("-fn", 0)] {
            let output = Command::new("/sbin/e2fsck").arg(words).arg(&data).output().expect("e2fsck");
            if output.status.code().is_none_or(|code| code > well) {
                return Some(format!("e2fsck {words}: {} {}", output.status, String::from_utf8_lossy(&output.stdout)));
            }
        }
        None
    }

    /// A copy of the data partition, as a file of its own.
    fn data(&self) -> PathBuf {
        let data = self.file.with_extension("data");
        let mut card = File::open(&self.file).expect("a card");
        card.seek(SeekFrom::Start(DATA)).expect("a partition");
        io::copy(&mut card, &mut File::create(&data).expect("a file")).expect("a partition");
        data
    }

    /// Bytes of the whole card, as who has it can read them.
    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.file).expect("a card")
    }

    /// Starts a machine of this serial number at a wire: its process says what is on its serial line.
    pub fn start(&self, directory: &Path, serial: &str, wire: &Wire) -> Process {
        let mut command = self.machine(directory, serial, wire);
        Process::start("the emulated Pi", command.args(["-device", "usb-net,netdev=h2"]))
    }

    /// Starts one with a USB adapter for a serial line, too, whose TX is wired to its RX.
    pub fn start_with_adapter(&self, directory: &Path, serial: &str, wire: &Wire) -> Process {
        let mut command = self.machine(directory, serial, wire);
        let port = free_port();
        let looped = format!("udp,id=u0,host=127.0.0.1,port={port},localaddr=127.0.0.1,localport={port}");
        command.args(["-device", "usb-hub,port=1", "-device", "usb-net,netdev=h2,port=1.1"]);
        command.arg("-chardev").arg(looped).args(["-device", "usb-serial,chardev=u0,port=1.2,always-plugged=on"]);
        Process::start("the emulated Pi", &mut command)
    }

    /// Starts one whose adapter for a serial line is connected to a board, and stopped until its pins have been looked at: `tty` in its
    /// directory is that board's console, `orders` and `pins` are sockets of its own.
    pub fn start_wired(&self, directory: &Path, serial: &str, wire: &Wire) -> Process {
        let mut command = self.machine(directory, serial, wire);
        let at = |name: &str| directory.join(name).display().to_string();
        let socket = |name: &str| format!("unix:{},server=on,wait=off", at(name));
        command.args(["-device", "usb-hub,port=1", "-device", "usb-net,netdev=h2,port=1.1", "-chardev"]);
        command.arg(format!("serial,path={},id=board1", at("tty")));
        command.args(["-device", "usb-serial,chardev=board1,port=1.2,serial=BOARD1,always-plugged=on", "-S"]);
        command.args(["-qmp", &socket("orders"), "-qtest", &socket("pins"), "-qtest-log", "none"]);
        Process::start("the emulated Pi", &mut command)
    }

    /// All of it but what hangs at its USB.
    fn machine(&self, directory: &Path, serial: &str, wire: &Wire) -> Command {
        fs::create_dir_all(directory).expect("a directory");
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
        let (kernel, system) = (unpack(value("kernel=").expect("a kernel")), unpack(initramfs));
        // The emulated watchdog does not count: it bites as soon as it is started.
        let arguments = format!("{} sai.watchdog=off", text(&format!("{prefix}cmdline.txt")).trim());
        match self.model {
            Model::Pi3 => {
                command.args(["qemu-system-aarch64", "-M", "raspi3b"]);
                // The first serial line is Bluetooth's, as on the real one.
                command.args(["-serial", "null"]);
            }
            Model::Pi2 => drop(command.args(["qemu-system-arm", "-M", "raspi2b"])),
            Model::Pi0 => zero(&mut command, &system, &arguments),
        }
        if self.model != Model::Pi0 {
            command.args(["-icount", CLOCK, "-m", "1G", "-append", &arguments]).arg("-initrd").arg(&system);
        }
        command.args(["-display", "none", "-kernel"]).arg(kernel);
        let board = unpack(self.model.board());
        let described = numbered(&fs::read(&board).expect("a board's description"), serial);
        fs::write(&board, described).expect("a file");
        command.arg("-dtb").arg(board).args(["-serial", "stdio", "-monitor", "none", "-drive"]);
        command.arg(format!("if=sd,format=raw,file={}", self.file.display()));
        // To the address that the emulated network gives first.
        let forward = format!("user,id=n0,hostfwd=tcp:127.0.0.1:{}-:22", wire.shell);
        command.args(["-netdev", &forward, "-netdev", "hubport,hubid=0,id=h0,netdev=n0"]);
        command.arg("-netdev").arg(wire.end()).args(["-netdev", "hubport,hubid=0,id=h1,netdev=wire"]);
        command.args(["-netdev", "hubport,hubid=0,id=h2"]).stdout(Stdio::null());
        command
    }
}

/// A board's description with its serial number, which the firmware reads in the board itself. See the specification of device
/// trees for the format (version 17).
fn numbered(description: &[u8], serial: &str) -> Vec<u8> {
    let number = |at: usize| u32::from_be_bytes(description[at..at + 4].try_into().expect("four bytes")) as usize;
    let (tree, names, names_length, tree_length) = (number(8), number(12), number(32), number(36));
    // The root begins with a token and a name that is empty; a property follows: token, length, name and value.
    let first = tree + 8;
    let mut property = Vec::new();
    for word in [3, serial.len() + 1, names_length] {
        property.extend(u32::try_from(word).expect("a small number").to_be_bytes());
    }
    property.extend(serial.bytes());
    property.push(0);
    property.resize(property.len().next_multiple_of(4), 0);
    assert!(names > first, "the names are behind the tree");
    let mut numbered = description[..first].to_vec();
    numbered.extend(&property);
    numbered.extend(&description[first..names + names_length]);
    numbered.extend(b"serial-number\0");
    let words = [
        (4, numbered.len()),
        (12, names + property.len()),
        (32, names_length + 14),
        (36, tree_length + property.len()),
    ];
    for (at, word) in words {
        numbered[at..at + 4].copy_from_slice(&u32::try_from(word).expect("a small number").to_be_bytes());
    }
    numbered
}

/// The other end of a Pi's cable, beside the machine that emulates it: each datagram is a frame of Ethernet.
#[derive(Debug)]
pub struct Wire {
    socket: UdpSocket,
    port: u16,
    /// A port of this machine's loopback that leads to the Pi's port of shells.
    pub shell: u16,
}

impl Default for Wire {
    fn default() -> Self {
        let socket = || UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        let (ours, theirs) = (socket(), socket());
        let port = theirs.local_addr().expect("an address").port();
        ours.connect(("127.0.0.1", port)).expect("an address");
        ours.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        Self { socket: ours, port, shell: free_port() }
    }
}

impl Wire {
    /// The emulated end.
    fn end(&self) -> String {
        let at = |name: &str, port: u16| format!("{name}.type=inet,{name}.host=127.0.0.1,{name}.port={port}");
        let port = self.socket.local_addr().expect("an address").port();
        format!("dgram,id=wire,{},{}", at("local", self.port), at("remote", port))
    }

    /// Asks everybody where a name is, and listens for a moment to what is said of it by a host.
    pub fn ask(&self, name: &str) -> Option<Ipv4Addr> {
        let mut labels = Vec::new();
        for label in [name, "local"] {
            labels.push(u8::try_from(label.len()).expect("a short name"));
            labels.extend(label.bytes());
        }
        labels.push(0);
        let question = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &labels[..], &[0, 1, 0, 1]].concat();
        // Nobody listens there before the machine is on.
        let _ = self.socket.send(&frame(&question));
        // The record, which has the name as the host itself writes it: an address that nobody else has, for two minutes.
        let record = [&labels.to_ascii_lowercase()[..], &[0, 1, 0x80, 1, 0, 0, 0, 120, 0, 4]].concat();
        let mut frame = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut frame) {
            let frame = &frame[..length];
            let found = frame.windows(record.len()).position(|part| part == record);
            if let Some([a, b, c, d]) = found.and_then(|at| frame.get(at + record.len()..)) {
                return Some(Ipv4Addr::new(*a, *b, *c, *d));
            }
        }
        None
    }
}

/// A frame of Ethernet with a datagram to everybody who answers to names.
fn frame(datagram: &[u8]) -> Vec<u8> {
    let ((to, group, port), (from, asker)) = (GROUP, ASKER);
    let length = |more: usize| u16::try_from(datagram.len() + more).expect("a short datagram").to_be_bytes();
    let mut head = vec![0x45, 0];
    head.extend(length(28));
    head.extend([0, 0, 0, 0, 255, 17, 0, 0]);
    head.extend(asker);
    head.extend(group);
    let sum: u32 = head.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    let ports = [port.to_be_bytes(), port.to_be_bytes()].concat();
    // Of the datagram no sum is needed.
    [&to[..], &from, &[8, 0], &head, &ports, &length(8), &[0, 0], datagram].concat()
}

/// Seconds since its start at which the kernel's log shows a line.
pub fn moment(line: &str) -> f64 {
    let stamp = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(stamp, _)| stamp.trim());
    stamp.and_then(|stamp| stamp.parse().ok()).unwrap_or_else(|| panic!("no moment in {line:?}"))
}
