//! A whole emulated machine with boards: Debian's kernel, a PL061 whose eight GPIO lines the test moves and sees, and a USB serial
//! adapter that it plugs, unplugs and talks through. Commands run on its console.

pub use crate::qemu::LONG;
use crate::qemu::{Orders, connect};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Registers of the UART, a 16550A on PCI, whose ports are memory of the machine: what is sent, and how its lines stand with the bit by
/// which what is sent is received.
const UART_DATA: u64 = 0x3eff_1000;
const UART_LINES: u64 = 0x3eff_1004;
const UART_LOOP: u32 = 0x1b;
/// Where the PL061 tells which of its lines have changed and were not looked at yet (`GPIORIS`; Arm's DDI 0190).
const CHANGED: &str = "0x9030414";

/// How it begins.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /run
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
export PATH=/bin:/usr/bin NO_COLOR=1
while read module; do insmod $module; done </modules/usb-order
stty raw -echo
printf '\\n@0@\\n'
";

/// What it does then: what comes on its console, and how that ended is told.
const ORDERS: &str = "
while IFS= read -r line; do
    eval \"$line\" 2>&1
    printf '\\n@%s@\\n' $?
done
poweroff -f
";

/// The machine. It ends with this.
pub struct Guest {
    child: Child,
    pub directory: PathBuf,
    console: UnixStream,
    orders: Orders,
    wires: BufReader<UnixStream>,
    gpio: String,
    /// Lines that have changed by the machine's own doing, and their levels.
    pub moved: Vec<(usize, bool)>,
    /// The other end of the adapter's serial line.
    pub serial: UnixStream,
    /// The other end of the machine's own UART, `/dev/ttyS0`.
    pub uart: UnixStream,
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// Runs a script of the repository, alone, as others that make the same do.
fn alone(lock: &str, script: &str, arguments: &[&str]) {
    let root = root();
    fs::create_dir_all(root.join("target")).expect("a directory");
    let mut command = Command::new("flock");
    command.arg(root.join("target").join(lock)).arg(root.join(script)).args(arguments).stdin(Stdio::null());
    // Nothing is fetched, and what cargo tells a test would have everything built anew.
    command.env("RUSTUP_DIST_SERVER", "http://127.0.0.1:9").env("RUSTUP_UPDATE_ROOT", "http://127.0.0.1:9");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_CRATE_NAME" {
            command.env_remove(&name);
        }
    }
    command.env_remove("LD_LIBRARY_PATH");
    let output = command.output().expect("flock");
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{script}: {said}");
}

/// What QEMU is told of the other end of the machine's own UART.
fn uart(directory: &Path) -> String {
    format!("socket,id=uart,path={},server=on,wait=off", directory.join("uart").display())
}

/// What is on a machine beside what all have: an archive of modules and tools, and the build of sai-buddy.
#[derive(Clone, Copy)]
enum Beside {
    /// USB serial adapters.
    Adapters,
    /// USB devices that come by the network, and the tools that flash them.
    Loaders,
}

/// The files of this test, over Debian's.
fn system(directory: &Path, init: &str, beside: Beside) -> PathBuf {
    alone("emulators.lock", "tests/emulators", &[]);
    let (built, archive_beside) = match beside {
        Beside::Adapters => ("cross/aarch64", "usb-serial.cpio.gz"),
        Beside::Loaders => ("cross/aarch64/usb", "usb-loaders.cpio.gz"),
    };
    match beside {
        Beside::Adapters => alone("cross.lock", "cross/build", &["-p", "sai-buddy", "aarch64"]),
        Beside::Loaders => alone("cross.lock", "cross/build", &["--usb", "-p", "sai-buddy", "aarch64"]),
    }
    let target = root().join("target");
    let (tree, archive) = (directory.join("tree"), directory.join("system"));
    fs::create_dir_all(tree.join("usr/bin")).expect("a directory");
    fs::write(tree.join("init"), init).expect("a script");
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755)).expect("a script");
    fs::copy(target.join(built).join("sai-buddy"), tree.join("usr/bin/sai-buddy")).expect("the program");
    // A command of these is run as by a kernel that has one interface of GPIOs alone.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/one_interface.S");
    let object = directory.join("object");
    for (name, symbols) in [("first-interface", &[][..]), ("second-interface", &["--defsym", "SECOND=1"])] {
        let mut assemble = Command::new("aarch64-linux-gnu-as");
        let mut link = Command::new("aarch64-linux-gnu-ld");
        for command in [
            assemble.args(symbols).arg(&source).arg("-o").arg(&object),
            link.arg(&object).arg("-o").arg(tree.join("usr/bin").join(name)),
        ] {
            assert!(command.status().expect("binutils").success(), "{command:?}");
        }
    }
    let mut all = File::create(&archive).expect("a file");
    for part in ["system.cpio.gz", archive_beside] {
        all.write_all(&fs::read(target.join("emulators/arm64").join(part)).expect("a part")).expect("written");
    }
    let pack = "find . -print | cpio -o -H newc --quiet -R 0:0 | gzip -1 >>\"$1\"";
    let packed = Command::new("sh").args(["-c", pack, "sh"]).arg(&archive).current_dir(&tree).status();
    assert!(packed.expect("cpio").success(), "it cannot be packed");
    archive
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("sai-guest-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

impl Guest {
    pub fn new(name: &str) -> Self {
        let directory = directory(name);
        let adapter = format!("socket,id=adapter,path={},server=on,wait=off", directory.join("adapter").display());
        let machine = ["-M", "virt", "-cpu", "cortex-a53", "-m", "256"];
        let hub = ["-chardev", &adapter, "-device", "qemu-xhci,id=hub", "-trace", "usb_serial*"];
        let one = ["-device", "usb-serial,chardev=adapter,id=one,bus=hub.0,port=2,serial=BENCH7"];
        let uart = uart(&directory);
        let uart = ["-chardev", &uart, "-device", "pci-serial,chardev=uart"];
        let mut guest =
            Guest::boot(directory, &[&machine[..], &hub, &one, &uart].concat(), ORDERS, "", Beside::Adapters);
        guest.serial = connect(&guest.directory.join("adapter"));
        guest.uart = connect(&guest.directory.join("uart"));
        guest.gpio = guest.orders.pl061();
        let intercept = format!("irq_intercept_out {}", guest.gpio);
        guest.wire(&intercept);
        guest.order(r#"{"execute":"cont"}"#);
        guest.answer("it boots");
        guest.until("test -e /dev/ttyUSB0");
        guest
    }

    /// A Raspberry Pi 3, whose GPIOs' registers may be had, and which has no adapter. It does what a script says.
    pub fn pi(name: &str, script: &str) -> Self {
        let directory = directory(name);
        let tree = root().join("target/emulators/arm64/board.dtb").display().to_string();
        // Processors that only wait would take the whole time of one that does something.
        let machine = ["-M", "raspi3b", "-accel", "tcg,thread=single", "-dtb", &tree];
        let mut guest = Guest::boot(directory, &machine, script, " iomem=relaxed", Beside::Adapters);
        guest.order(r#"{"execute":"cont"}"#);
        guest.answer("it boots");
        guest
    }

    /// One that reaches this machine by its network at 10.0.2.2, for USB devices to be plugged in that are here.
    pub fn loaders(name: &str) -> Self {
        let machine = ["-M", "virt", "-cpu", "cortex-a53", "-m", "256"];
        let network = ["-netdev", "user,id=n0", "-device", "virtio-net-device,netdev=n0"];
        let directory = directory(name);
        let uart = uart(&directory);
        let uart = ["-chardev", &uart, "-device", "pci-serial,chardev=uart"];
        let mut guest = Guest::boot(directory, &[&machine[..], &network, &uart].concat(), ORDERS, "", Beside::Loaders);
        guest.uart = connect(&guest.directory.join("uart"));
        guest.order(r#"{"execute":"cont"}"#);
        guest.answer("it boots");
        guest.well("while read module; do insmod $module; done </modules/order");
        guest.until("test -e /sys/class/net/eth0");
        guest.well("ip link set lo up && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0");
        // Who has connected to a device has the kernel go on with that: its own standard input.
        guest.well(
            "printf '#!/bin/sh\\necho \"$1 0 65537 3\" >/sys/devices/platform/vhci_hcd.0/attach\\n' >/bin/plug && chmod +x /bin/plug",
        );
        guest
    }

    /// Plugs in, at the so-manieth port of its bus, the device that listens here, and again whenever that has left.
    pub fn plug(&mut self, port: u32, listens: u16) {
        let plugged = format!("/sys/bus/usb/devices/1-{port}");
        self.well(&format!(
            ">/tmp/in{port}; (while [ -e /tmp/in{port} ]; do [ -e {plugged} ] || nc 10.0.2.2 {listens} -e /bin/plug {}; sleep 0.2; \
             done) >/dev/null 2>&1 </dev/null &",
            port - 1
        ));
        self.until(&format!("test -e {plugged}/bConfigurationValue"));
    }

    fn boot(directory: PathBuf, machine: &[&str], script: &str, more: &str, beside: Beside) -> Self {
        let system = system(&directory, &format!("{INIT}{script}"), beside);
        let at = |name: &str| directory.join(name).display().to_string();
        let console = format!("socket,id=console,path={},server=on,wait=off", at("console"));
        let child = Command::new("qemu-system-aarch64")
            .args(machine)
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(root().join("target/emulators/arm64/kernel"))
            .arg("-initrd")
            .arg(system)
            .args([
                "-append",
                &format!("console=ttyAMA0 rdinit=/init loglevel=1 cryptomgr.notests panic=-1{more}"),
                "-S",
            ])
            .args(["-chardev", &console, "-serial", "chardev:console"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", at("orders"))])
            .args(["-qtest", &format!("unix:{},server=on,wait=off", at("wires")), "-qtest-log", "none"])
            .args(["-D", &at("trace")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("QEMU");
        let [console, wires] = ["console", "wires"].map(|name| connect(&directory.join(name)));
        let (orders, wires) = (Orders::connect(&directory.join("orders")), BufReader::new(wires));
        let (gpio, moved) = (String::new(), Vec::new());
        let (serial, uart) = UnixStream::pair().expect("two ends");
        Guest { child, directory, console, orders, wires, gpio, moved, serial, uart }
    }

    /// Lets the UART receive so many bytes while the machine stands still: what is more than it holds is lost in it.
    pub fn overrun(&mut self, bytes: u32) {
        self.order(r#"{"execute":"stop"}"#);
        let byte = |address: u64, value: u32| format!("writeb {address:#x} {value:#x}");
        let lines = self.wire(&format!("readb {UART_LINES:#x}"));
        let lines = lines.trim().strip_prefix("OK 0x").expect("a register");
        let lines = u32::from_str_radix(lines.trim_start_matches('0'), 16).unwrap_or(0);
        self.wire(&byte(UART_LINES, UART_LOOP));
        for _ in 0..bytes {
            self.wire(&byte(UART_DATA, u32::from(b'o')));
        }
        self.wire(&byte(UART_LINES, lines));
        self.order(r#"{"execute":"cont"}"#);
    }

    /// Writes to a register of the machine.
    pub fn set_register(&mut self, address: u64, value: u32) {
        self.wire(&format!("writel {address:#x} {value:#x}"));
    }

    /// What a register of the machine holds.
    pub fn register(&mut self, address: u64) -> u32 {
        let answer = self.wire(&format!("readl {address:#x}"));
        let digits = answer.trim().strip_prefix("OK 0x").expect("a register");
        u32::from_str_radix(digits.trim_start_matches('0'), 16).unwrap_or(0)
    }

    /// Has QEMU do something.
    pub fn order(&mut self, order: &str) -> String {
        self.orders.give(order)
    }

    /// Does something at the wires of the machine.
    fn wire(&mut self, order: &str) -> String {
        writeln!(self.wires.get_mut(), "{order}").expect("QEMU listens");
        loop {
            let mut line = String::new();
            assert!(self.wires.read_line(&mut line).expect("an answer") > 0, "QEMU is gone");
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("IRQ"), Some(word), Some(line)) => {
                    self.moved.push((line.parse().expect("a number"), word == "raise"));
                }
                _ => return line,
            }
        }
    }

    /// What has moved by now is in `moved`.
    pub fn look(&mut self) {
        self.wire("readl 0x9030000");
    }

    /// Gives a line that the machine reads a level.
    pub fn drive(&mut self, line: usize, level: bool) {
        let order = format!("set_irq_in {} unnamed-gpio-in {line} {}", self.gpio, u8::from(level));
        assert!(self.wire(&order).starts_with("OK"), "{order}");
    }

    /// Lets a line of the PL061 change so often, each time when the kernel is done with the last: it goes high first.
    ///
    /// What asks for the level has a high priority, and what gives back what is typed has none, so that by then it has asked.
    pub fn toggle(&mut self, line: usize, times: u64) {
        self.well("stty -F /dev/ttyAMA0 echo");
        for time in 0..times {
            self.drive(line, time % 2 == 0);
            let began = Instant::now();
            while self.wire(&format!("readl {CHANGED}")).trim_start_matches("OK 0x").trim_end().contains(|c| c != '0') {
                assert!(began.elapsed() < LONG, "the kernel is not told of line {line}");
            }
            // The beginning of a comment.
            let mut back = [0];
            self.console.write_all(b"#").expect("it listens");
            self.console.read_exact(&mut back).expect("it gives back what is typed");
            assert_eq!(&back, b"#");
        }
        self.well("");
        self.well("stty -F /dev/ttyAMA0 -echo");
    }

    /// Runs a command on the machine: its exit status, and what it says.
    pub fn run(&mut self, command: &str) -> (i32, String) {
        writeln!(self.console, "{command}").expect("it listens");
        self.answer(command)
    }

    /// The same, which goes well.
    pub fn well(&mut self, command: &str) -> String {
        let (status, said) = self.run(command);
        assert_eq!(status, 0, "{command}: {said}");
        said
    }

    /// The same again and again, until it does.
    pub fn until(&mut self, command: &str) -> String {
        let began = Instant::now();
        loop {
            let (status, said) = self.run(command);
            if status == 0 {
                return said;
            }
            assert!(began.elapsed() < LONG, "{command}: {said}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What its script has said, and a status.
    pub fn answer(&mut self, what: &str) -> (i32, String) {
        let (mut said, mut buffer) = (Vec::new(), [0; 65536]);
        loop {
            let text = String::from_utf8_lossy(&said);
            if let Some((before, status)) = text.strip_suffix("@\n").and_then(|text| text.rsplit_once("\n@"))
                && let Ok(status) = status.parse()
            {
                return (status, before.to_string());
            }
            let count = match self.console.read(&mut buffer) {
                // A socket with a time limit says so to a process that was stopped and goes on (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.unwrap_or_else(|error| panic!("{what}: {error}: {text}")),
            };
            assert!(count > 0, "{what}: the machine is gone: {text}");
            said.extend_from_slice(&buffer[..count]);
        }
    }

    /// A file of the machine.
    pub fn file(&mut self, path: &str) -> Vec<u8> {
        let text = self.well(&format!("od -An -v -tx1 {path}"));
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect()
    }

    /// Makes one.
    pub fn write(&mut self, path: &str, text: &str) {
        self.well(&format!("printf '{}' >{path}", text.replace('\n', " ").replace('\\', "\\\\").replace('%', "%%")));
    }

    /// What the adapter was told since a place in this text, and the place behind it.
    pub fn told(&self, from: usize) -> (String, usize) {
        let text = fs::read_to_string(self.directory.join("trace")).unwrap_or_default();
        (text[from..].to_string(), text.len())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
