//! Emulated Arm boards, their consoles ptys: one with the stock U-Boot and two banks of NOR flash, which are files, and one with an
//! STM32 that a debugger reaches; and programs for them.

use crate::qemu::Orders;
use sai_buddy::flash::uboot::crc32;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// Where the second bank of NOR flash is, which begins with U-Boot's environment.
const BANK: u64 = 0x0400_0000;
/// Where in it images belong.
pub const PLACE: u32 = 0x0410_0000;
/// Bytes of a bank.
const BANK_BYTES: u64 = 64 << 20;
/// Bytes of the environment (`CONFIG_ENV_SIZE`).
const ENVIRONMENT_BYTES: usize = 0x4_0000;
const UBOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// The reset pin of a board, in whoever's hand. The board is stopped until it is reset for the first time.
#[derive(Clone, Debug)]
pub struct Reset(Arc<Mutex<Orders>>);

impl Reset {
    /// The board stands still.
    pub fn hold(&self) {
        self.0.lock().expect("its orders").execute("stop");
    }

    /// The board starts anew.
    pub fn release(&self) {
        let mut orders = self.0.lock().expect("its orders");
        orders.execute("system_reset");
        orders.execute("cont");
    }
}

/// The board.
#[derive(Debug)]
pub struct Board {
    child: Child,
    /// Where its flash, its tty and its sockets are.
    pub directory: PathBuf,
    /// What QEMU is told through.
    pub orders: Arc<Mutex<Orders>>,
}

impl Board {
    /// One whose U-Boot knows these variables, and whose second bank is erased else.
    pub fn new(name: &str, variables: &[&str]) -> Self {
        Board::with(name, variables, true)
    }

    /// The same, whose second bank may have its write protection soldered on.
    pub fn with(name: &str, variables: &[&str], writable: bool) -> Self {
        let directory = directory(name);
        let bank = |name: &str, start: &[u8]| {
            let file = File::create(directory.join(name)).expect("a file");
            file.write_all_at(start, 0).expect("written");
            file.set_len(BANK_BYTES).expect("as long as the bank");
        };
        bank("nor-1", &fs::read(UBOOT).expect("U-Boot"));
        // An erased flash, but for where nothing is looked at.
        let mut start = vec![0xff; 2 << 20];
        if !variables.is_empty() {
            let mut text = (variables.join("\0") + "\0\0").into_bytes();
            text.resize(ENVIRONMENT_BYTES - 4, 0xff);
            start[..4].copy_from_slice(&crc32(&text).to_le_bytes());
            start[4..ENVIRONMENT_BYTES].copy_from_slice(&text);
        }
        bank("nor-2", &start);
        let at = |name: &str| directory.join(name).display().to_string();
        let second = format!("if=pflash,format=raw,index=1,readonly={},file=", if writable { "off" } else { "on" });
        let mut machine = Command::new("qemu-system-aarch64");
        machine.args(["-M", "virt,acpi=off", "-cpu", "cortex-a53", "-m", "128"]);
        machine.args(["-drive", &("if=pflash,format=raw,index=0,file=".to_string() + &at("nor-1"))]);
        machine.args(["-drive", &(second + &at("nor-2"))]);
        Board::start(directory, machine)
    }

    /// One with an STM32F405, which has nothing in its flash. A debugger finds it at `gdb` in its directory.
    pub fn stm32(name: &str) -> Self {
        let directory = directory(name);
        let mut machine = Command::new("qemu-system-arm");
        machine.args(["-M", "olimex-stm32-h405"]);
        let gdb = directory.join("gdb").display().to_string();
        machine.args(["-chardev", &format!("socket,id=gdb,path={gdb},server=on,wait=off"), "-gdb", "chardev:gdb"]);
        Board::start(directory, machine)
    }

    fn start(directory: PathBuf, mut machine: Command) -> Self {
        let at = |name: &str| directory.join(name).display().to_string();
        let child = machine
            .args(["-nodefaults", "-display", "none", "-S"])
            .args(["-chardev", &format!("pty,id=s,path={}", at("tty")), "-serial", "chardev:s"])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", at("qmp"))])
            .args(["-qtest", &format!("unix:{},server=on,wait=off", at("pins")), "-qtest-log", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("QEMU");
        let orders = Arc::new(Mutex::new(Orders::connect(&directory.join("qmp"))));
        Board { child, directory, orders }
    }

    /// Its reset pin.
    pub fn reset_pin(&self) -> Reset {
        Reset(Arc::clone(&self.orders))
    }

    /// Starts it anew.
    pub fn reset(&self) {
        self.reset_pin().release();
    }

    /// A socket in the network, there until the test ends: the board stands still without it, and starts anew with it.
    pub fn supply(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let pin = self.reset_pin();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
                        _ => break,
                    }
                }
                match request.starts_with(b"GET /on ") {
                    true => pin.release(),
                    false => pin.hold(),
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        url
    }

    /// Its console.
    pub fn tty(&self) -> String {
        let link = self.directory.join("tty");
        fs::canonicalize(link).expect("a pty").display().to_string()
    }

    /// The machine goes, and its console with it.
    pub fn cut(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// What is in the flash, from a place on.
    pub fn holds(&self, place: u32, length: usize) -> Vec<u8> {
        let (name, start) = if u64::from(place) < BANK { ("nor-1", 0) } else { ("nor-2", BANK) };
        let mut bytes = vec![0; length];
        let file = File::open(self.directory.join(name)).expect("the flash");
        file.read_exact_at(&mut bytes, u64::from(place) - start).expect("so much of it");
        bytes
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(Path::new(&self.directory));
    }
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("sai-arm-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

fn fixture_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../buddy/tests/fixtures").join(name)
}

/// Assembles a program of the fixtures with a text, by these tools, and gives the file that is made to `made`.
fn assembled<T>(fixture: &str, tools: &str, text: &[u8], made: impl FnOnce(&Path, &dyn Fn(&mut Command)) -> T) -> T {
    let directory = std::env::temp_dir().join(format!("sai-program-{}-{:p}", std::process::id(), text));
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("text"), text).expect("written");
    let source = fixture_of(fixture);
    let object = directory.join("object");
    let run = |command: &mut Command| assert!(command.status().expect("binutils").success(), "{command:?}");
    run(Command::new(format!("{tools}-as")).arg("-I").arg(&directory).arg(source).arg("-o").arg(&object));
    let made = made(&object, &run);
    fs::remove_dir_all(directory).expect("removed");
    made
}

/// A program for an STM32F405 that says a text, as a debugger takes it (ELF).
pub fn stm32_program(text: &[u8]) -> Vec<u8> {
    assembled("stm32_program.S", "arm-none-eabi", text, |object, run| {
        let linked = object.with_extension("elf");
        run(Command::new("arm-none-eabi-ld").args(["-Ttext=0x08000000", "-e", "start", "-o"]).args([&linked, object]));
        fs::read(linked).expect("the program")
    })
}

/// A program for the board as U-Boot's `bootm` takes one (its `image.h`: the legacy header, a standalone program for arm64). It says
/// the text, in which 1 resets the board, 2 waits for a byte, and the end is an idle processor.
pub fn program(text: &[u8]) -> Vec<u8> {
    const LOAD: u32 = 0x4040_0000;
    let program = assembled("arm_program.S", "aarch64-linux-gnu", text, |object, run| {
        let bare = object.with_extension("bin");
        run(Command::new("aarch64-linux-gnu-objcopy").args(["-O", "binary"]).args([object, &bare]));
        fs::read(bare).expect("the program")
    });
    let number = |number: u32| number.to_be_bytes();
    let mut header = [number(0x2705_1956), number(0), number(0), number(program.len() as u32)].concat();
    header.extend([number(LOAD), number(LOAD), number(crc32(&program))].concat());
    // U-Boot's own kind of system, arm64, standalone, not compressed.
    header.extend([17, 22, 1, 0]);
    header.resize(64, 0);
    let sum = number(crc32(&header));
    header[4..8].copy_from_slice(&sum);
    [header, program].concat()
}
