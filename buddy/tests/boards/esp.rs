//! The other end of a serial line to an ESP32 in its ROM's loader, written from Espressif's "Serial Protocol": requests in SLIP frames, a
//! flash that only erasing sets to ones, and its sum. No ESP chip was there; that stock esptool takes it for one is what is shown.

use crate::line::{Peer, image};
use crate::pty::{Pty, Served};
use crate::rig::Rig;
use crate::tools::pypi;
use rustix::termios::tcgetattr;
use sai_core::limits::Millis;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};

const END: u8 = 0xc0;
const ESCAPE: u8 = 0xdb;
/// What a register says by which esptool knows an ESP32.
pub const ESP32: u32 = 0x00f0_1d83;
/// The same of an ESP32-S2.
pub const ESP32_S2: u32 = 0x0000_07c6;
/// Bytes of a sector, which is what is erased.
const SECTOR: usize = 4096;

/// The chip.
pub struct Esp {
    chip: u32,
    frame: Option<Vec<u8>>,
    escaped: bool,
    pub flash: Vec<u8>,
    /// Where the next block is written, and how many bytes are left.
    place: usize,
    /// Sectors that were erased.
    pub erased: usize,
    /// Bytes that were written where ones were missing.
    pub overwritten: usize,
    /// Blocks whose sum was wrong.
    pub damaged: usize,
    /// The line that the chip is at, whose other end has a speed.
    line: File,
    /// Bits a second at which it talks.
    pub baud: u32,
    /// Requests that came at another speed, of which a chip would have heard nothing.
    pub unheard: usize,
}

fn number(bytes: &[u8], index: usize) -> u32 {
    let word = bytes.get(index * 4..index * 4 + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

impl Esp {
    pub fn new(chip: u32, line: File) -> Self {
        // An older program is there.
        let flash = vec![0x5a; 4 << 20];
        let (frame, escaped, place) = (None, false, 0);
        let (erased, overwritten, damaged, unheard) = (0, 0, 0, 0);
        Esp { chip, frame, escaped, flash, place, erased, overwritten, damaged, line, baud: 115_200, unheard }
    }

    fn register(&self, address: u32) -> u32 {
        match address {
            0x4000_1000 => self.chip,
            // The divider of the UART's clock at 115 200 bits a second, from which the crystal is guessed: 40 MHz.
            0x3ff4_0014 => 347,
            // What the flash says that it is: 4 MiB.
            0x3ff4_2080 => 0x16_4020,
            // What the ROM takes the crystal for when it sets a speed, 40 MHz: a count, in units of a clock that a fuse knows.
            0x3ff5_f06c => 800 << 7,
            0x3ff5_a010 => 128,
            _ => 0,
        }
    }

    fn request(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        let Some((&[0, command, ..], _)) = frame.split_first_chunk::<2>() else { return };
        if tcgetattr(&self.line).expect("a line").output_speed() != self.baud {
            self.unheard += 1;
            return;
        }
        let (sum, data) = (number(frame, 1), frame.get(8..).unwrap_or_default());
        let (mut value, mut says, mut error) = (0x2012_0707, Vec::new(), 0);
        match command {
            // Synchronising is answered eight times.
            0x08 => {
                for _ in 0..7 {
                    reply(command, value, &[], 0, out);
                }
            }
            0x0a => value = self.register(number(data, 0)),
            0x02 => {
                let (size, place) = (number(data, 0) as usize, number(data, 3) as usize);
                let sectors = place / SECTOR..(place + size).div_ceil(SECTOR);
                self.erased += sectors.len();
                self.flash[sectors.start * SECTOR..sectors.end * SECTOR].fill(0xff);
                self.place = place;
            }
            0x03 => {
                let block = data.get(16..).unwrap_or_default();
                if block.iter().fold(0xef, |sum, byte| sum ^ byte) == sum as u8 {
                    for byte in block {
                        self.overwritten += usize::from(self.flash[self.place] != 0xff);
                        self.flash[self.place] &= byte;
                        self.place += 1;
                    }
                } else {
                    (self.damaged, error) = (self.damaged + 1, 7);
                }
            }
            0x13 => {
                let (place, size) = (number(data, 0) as usize, number(data, 1) as usize);
                says = md5(&self.flash[place..place + size]).into_bytes();
            }
            // It answers as it was asked, and talks at the new speed from then on.
            0x0f => self.baud = number(data, 0),
            // Writing a register, where the flash is, how it is laid out, the end.
            0x09 | 0x0d | 0x0b | 0x04 => {}
            _ => error = 5,
        }
        reply(command, value, &says, error, out);
    }
}

/// The sum of a flash, which its ROM knows how to take: `md5sum`, of what is given to it.
fn md5(bytes: &[u8]) -> String {
    let mut child = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("md5sum");
    child.stdin.take().expect("it listens").write_all(bytes).expect("written");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a sum").to_string()
}

fn reply(command: u8, value: u32, says: &[u8], error: u8, out: &mut Vec<u8>) {
    let mut frame = vec![1, command];
    frame.extend((says.len() as u16 + 4).to_le_bytes());
    frame.extend(value.to_le_bytes());
    frame.extend(says);
    frame.extend([u8::from(error != 0), error, 0, 0]);
    out.push(END);
    for byte in frame {
        match byte {
            END => out.extend([ESCAPE, 0xdc]),
            ESCAPE => out.extend([ESCAPE, 0xdd]),
            byte => out.push(byte),
        }
    }
    out.push(END);
}

impl Peer for Esp {
    fn byte(&mut self, _now: Millis, byte: u8, out: &mut Vec<u8>) {
        match (byte, &mut self.frame) {
            (END, Some(frame)) if !frame.is_empty() => {
                let frame = std::mem::take(frame);
                self.frame = None;
                self.request(&frame, out);
            }
            (END, _) => self.frame = Some(Vec::new()),
            (ESCAPE, _) => self.escaped = true,
            (byte, Some(frame)) => frame.push(match (std::mem::take(&mut self.escaped), byte) {
                (true, 0xdc) => END,
                (true, 0xdd) => ESCAPE,
                _ => byte,
            }),
            // What is in no frame says nothing.
            (_, None) => {}
        }
    }

    fn enter(&mut self, _now: Millis, out: &mut Vec<u8>) {
        out.extend(b"ets Jul 29 2019 12:21:46\r\nwaiting for download\r\n");
    }
}

#[test]
fn pypis_esptool_flashes_through_the_owner_and_another_chip_keeps_what_it_has() {
    let library = pypi("esptool", &["esptool==4.8.1", "pyserial==3.5", "intelhex==2.3.0"]);
    let bytes = image(70_000);
    for (chip, status) in [(ESP32, 0), (ESP32_S2, 1)] {
        let pty = Pty::new();
        let line = || pty.master.try_clone().expect("a copy");
        let served = Served::new(Esp::new(chip, line()), line());
        // The lines that reset one are its owner's, and a pty has none; `wires` sees them move.
        let more = r#", "modes": { "loader": { "do": ["wait 1ms"] }, "run": { "do": ["wait 1ms"] } },
            "flash": { "with": "argv", "console": "c0", "mode": "loader", "then": "run", "verifies": true, "timeout": "100s",
                "argv": ["python3", "-m", "esptool", "--chip", "esp32", "--port", "{tty}", "--baud", "460800", "--before", "no_reset",
                    "--after", "no_reset", "--no-stub", "write_flash", "{target}", "{image}"],
                "targets": { "app": "0x10000" } }"#;
        let rig = Rig::at(&format!("esp-{chip:x}"), &[&pty.path], "\"baud\": 115200", more);
        let file = rig.top.join("app.bin");
        fs::write(&file, &bytes).expect("written");
        let mut command = rig.command(&[&rig.file(), "flash", "b", &file.display().to_string()], &[]);
        let output = command.env("PYTHONPATH", &library).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        let esp = served.end();
        if status == 0 {
            assert!(said.contains("Hash of data verified"), "{said}");
            assert!(esp.flash[0x10000..0x10000 + bytes.len()] == bytes, "it has something else");
            assert_eq!((esp.erased, esp.overwritten, esp.damaged), (18, 0, 0));
            // The owner follows the speed that the tool has set, and is the board's own again when it has ended.
            assert_eq!((esp.baud, esp.unheard), (460_800, 0), "{said}");
            assert_eq!(tcgetattr(&pty.master).expect("a line").output_speed(), 115_200);
            assert!(rig.status().contains("\"mode\":\"run\""), "{}", rig.status());
        } else {
            assert!(said.contains("board: the tool ended with "), "{said}");
            assert_eq!((esp.erased, esp.overwritten), (0, 0));
        }
    }
}
