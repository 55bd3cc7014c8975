//! Requests of a host → what USB devices answer that are loaders of boards: one that speaks DFU, with ST's extension or without, one that
//! speaks fastboot. They are written from the notes of their protocols, and held true by dfu-util and fastboot, which flash them as well.

use std::collections::BTreeMap;

/// Bytes of a sector of what knows ST's extension, and how many it has.
pub const SECTOR: usize = 4096;
const SECTORS: usize = 16;
/// Where its memory begins.
pub const BASE: u32 = 0x0800_0000;
/// Bytes of a block.
pub const BLOCK: usize = 1024;
/// The name of its first setting, which says so.
const LAYOUT: &str = "@Internal Flash  /0x08000000/16*004Kg";

/// A setup packet.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub kind: u8,
    pub request: u8,
    pub value: u16,
    pub index: u16,
    pub length: u16,
}

/// What is plugged in somewhere.
pub trait Gadget: Send {
    /// The descriptor of the device, that of its configuration with all that belongs to it, and its texts from the first on.
    fn describe(&self) -> (Vec<u8>, Vec<u8>, Vec<String>);
    /// A request that is not of the bus's own; `None` refuses it.
    fn request(&mut self, setup: Setup, bytes: &[u8]) -> Option<Vec<u8>>;
    /// What comes to its endpoint for bulk data.
    fn take(&mut self, _bytes: &[u8]) {}
    /// What it has to say at the endpoint of this number; `None` as long as it has nothing.
    fn give(&mut self, _endpoint: u32) -> Option<Vec<u8>> {
        None
    }
    /// The bus resets it.
    fn reset(&mut self);
    /// Whether it waits for the bus to do so.
    fn waits_for_reset(&self) -> bool {
        false
    }
    /// A setting is chosen.
    fn set(&mut self, _setting: u8) {}
    /// Whether it has left the bus by itself; it comes back when it is asked for.
    fn has_left(&mut self) -> bool {
        false
    }
}

/// Any request, with those of the bus's own (USB 2.0, 9.4).
pub fn control(gadget: &mut dyn Gadget, setup: Setup, bytes: &[u8]) -> Option<Vec<u8>> {
    let (device, configuration, texts) = gadget.describe();
    let mut answer = match (setup.kind, setup.request) {
        (0x80, 6) => match setup.value >> 8 {
            1 => device,
            2 => configuration,
            3 if setup.value & 0xff == 0 => vec![4, 3, 9, 4],
            3 => {
                let text = texts.get(usize::from(setup.value & 0xff) - 1)?;
                let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                [&[units.len() as u8 + 2, 3][..], &units].concat()
            }
            _ => return None,
        },
        (0x80..=0x82, 0) => vec![0, 0],
        (0x00, 9) => Vec::new(),
        (0x01, 11) => {
            gadget.set(setup.value as u8);
            Vec::new()
        }
        (0x02, 1) => Vec::new(),
        _ => gadget.request(setup, bytes)?,
    };
    answer.truncate(setup.length.into());
    Some(answer)
}

/// A device of this class of USB, with two texts before those of its interfaces: what it is, and its serial number.
pub fn device(product: u16) -> Vec<u8> {
    let [low, high] = product.to_le_bytes();
    vec![18, 1, 0, 2, 0, 0, 0, 64, 0x83, 0x04, low, high, 0, 1, 0, 1, 2, 1]
}

/// A configuration with so many interfaces, and all that belongs to them.
pub fn configuration(interfaces: u8, rest: &[u8]) -> Vec<u8> {
    let [low, high] = (9 + rest.len() as u16).to_le_bytes();
    [&[9, 2, low, high, interfaces, 1, 0, 0x80, 50][..], rest].concat()
}

/// What it does when it is asked how it is, and what the host has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Erase(u32),
    Address(u32),
    Write(usize, Vec<u8>),
    Leave,
    Manifest,
}

/// A loader that speaks DFU 1.1, or ST's extension (AN3156).
#[derive(Clone, Debug)]
pub struct Dfu {
    /// ST's extension.
    pub extended: bool,
    /// `bmAttributes`.
    pub attributes: u8,
    /// Whether the board's program runs, which leaves for the loader when it is told to.
    pub application: bool,
    /// Whether it begins with that after a reset.
    pub starts: bool,
    /// What it says of the time that it needs, in milliseconds.
    pub poll: u32,
    pub memory: Vec<u8>,
    /// The first byte that a block of the host's would be changed at in a memory that is worn.
    pub worn: Option<usize>,
    /// Sectors that were erased, by their addresses.
    pub erased: Vec<u32>,
    /// Blocks after which it is pulled out.
    pub pulled_after: Option<usize>,
    /// Whether it was told to start what is there.
    pub left: bool,
    pub blocks: usize,
    pub state: u8,
    pub status: u8,
    pub address: u32,
    pub due: Due,
    pub busy: bool,
    pub written: usize,
    pub setting: u8,
    pub gone: bool,
}

/// Attributes of DFU.
pub const CAN_DOWNLOAD: u8 = 1;
pub const CAN_UPLOAD: u8 = 2;
pub const TOLERANT: u8 = 4;
pub const WILL_DETACH: u8 = 8;

impl Dfu {
    pub fn new(extended: bool, attributes: u8) -> Self {
        Dfu {
            extended,
            attributes,
            application: false,
            starts: false,
            poll: 5,
            memory: vec![0x5a; SECTOR * SECTORS],
            worn: None,
            erased: Vec::new(),
            pulled_after: None,
            left: false,
            blocks: 0,
            state: 2,
            status: 0,
            address: BASE,
            due: Due::Nothing,
            busy: false,
            written: 0,
            setting: 0,
            gone: false,
        }
    }

    /// It is left in the middle of something by somebody else.
    pub fn left_in(self, state: u8) -> Self {
        let due = if state == 6 { Due::Manifest } else { Due::Nothing };
        Dfu { state, due, status: if state == 10 { 3 } else { 0 }, ..self }
    }

    fn refuse(&mut self, status: u8) {
        (self.state, self.status, self.due, self.busy) = (10, status, Due::Nothing, false);
    }

    fn download(&mut self, block: u16, bytes: &[u8]) -> Option<Vec<u8>> {
        if !matches!(self.state, 2 | 5) || self.attributes & CAN_DOWNLOAD == 0 {
            self.refuse(15);
            return None;
        }
        self.state = 3;
        self.due = match (self.extended, block, bytes) {
            (false, _, []) if self.written > 0 => {
                self.state = 6;
                Due::Manifest
            }
            (false, 0, _) if self.written == 0 => {
                self.memory.fill(0xff);
                Due::Write(0, bytes.to_vec())
            }
            (false, block, bytes) if usize::from(block) * BLOCK == self.written && !bytes.is_empty() => {
                Due::Write(self.written, bytes.to_vec())
            }
            (true, _, []) => {
                self.state = 6;
                Due::Leave
            }
            (true, 0, [code @ (0x21 | 0x41), a, b, c, d]) => {
                let address = u32::from_le_bytes([*a, *b, *c, *d]);
                if *code == 0x21 { Due::Address(address) } else { Due::Erase(address) }
            }
            (true, 2.., bytes) if !bytes.is_empty() => {
                let offset = self.address.wrapping_sub(BASE) as usize + usize::from(block - 2) * BLOCK;
                Due::Write(offset, bytes.to_vec())
            }
            _ => {
                self.refuse(15);
                return None;
            }
        };
        Some(Vec::new())
    }

    fn upload(&mut self, block: u16, length: usize) -> Option<Vec<u8>> {
        if !matches!(self.state, 2 | 9) || self.attributes & CAN_UPLOAD == 0 || length > BLOCK {
            self.refuse(15);
            return None;
        }
        let from = match self.extended {
            // Its commands.
            true if block == 0 => {
                self.state = 2;
                return Some(vec![0, 0x21, 0x41, 0x92]);
            }
            true => self.address.wrapping_sub(BASE) as usize + usize::from(block.wrapping_sub(2)) * BLOCK,
            false => usize::from(block) * BLOCK,
        };
        let end = self.memory.len().min(from.saturating_add(length));
        let bytes = self.memory.get(from..end).unwrap_or_default().to_vec();
        self.state = if bytes.len() < length { 2 } else { 9 };
        Some(bytes)
    }

    fn carry_out(&mut self) {
        let size = self.memory.len();
        let inside = |address: u32| (address.wrapping_sub(BASE) as usize) < size;
        match std::mem::replace(&mut self.due, Due::Nothing) {
            Due::Nothing => {}
            Due::Address(address) if inside(address) => self.address = address,
            Due::Erase(address) if inside(address) => {
                let start = address.wrapping_sub(BASE) as usize / SECTOR * SECTOR;
                self.erased.push(BASE + start as u32);
                self.memory[start..start + SECTOR].fill(0xff);
            }
            Due::Write(offset, bytes) if offset + bytes.len() <= size => {
                self.blocks += 1;
                for (at, byte) in (offset..).zip(&bytes) {
                    // Flash: bits become 0, and 1 by erasing alone.
                    self.memory[at] &= byte;
                    if self.worn.is_some_and(|worn| at >= worn) {
                        self.memory[at] &= 0xfe;
                    }
                }
                self.written = offset + bytes.len();
            }
            Due::Address(_) | Due::Erase(_) | Due::Write(..) => return self.refuse(8),
            Due::Leave | Due::Manifest => {}
        }
        self.state = 5;
    }

    fn status(&mut self) -> Vec<u8> {
        let mut poll = 0;
        match (self.state, self.busy) {
            (3, false) => {
                self.busy = true;
                self.state = 4;
                poll = self.poll;
            }
            (4, _) => {
                self.busy = false;
                self.carry_out();
            }
            (6, _) if self.due == Due::Leave => {
                (self.left, self.gone, self.due, self.state) = (true, true, Due::Nothing, 2);
                return vec![0, 0, 0, 0, 7, 0];
            }
            (6, _) => {
                self.state = 7;
                poll = self.poll;
            }
            (7, _) if self.due == Due::Manifest => {
                self.written = 0;
                self.state = if self.attributes & TOLERANT != 0 { 2 } else { 8 };
            }
            _ => {}
        }
        let [low, middle, high, _] = poll.to_le_bytes();
        vec![self.status, low, middle, high, self.state, 0]
    }
}

impl Gadget for Dfu {
    fn describe(&self) -> (Vec<u8>, Vec<u8>, Vec<String>) {
        let mut rest = Vec::new();
        let protocol = if self.application { 1 } else { 2 };
        for setting in 0..if self.application { 1 } else { 2 } {
            rest.extend([9, 4, 0, setting, 0, 0xfe, 1, protocol, 3 + setting]);
        }
        let (block, version) = ((BLOCK as u16).to_le_bytes(), if self.extended { 0x1a } else { 0x10 });
        rest.extend([9, 0x21, self.attributes, 0xe8, 3, block[0], block[1], version, 1]);
        let first = if self.extended { LAYOUT } else { "firmware" };
        let second = if self.extended { "@Option Bytes  /0x1FFFC000/01*016 e" } else { "data" };
        let texts = ["Loader", "S1", first, second].map(ToString::to_string);
        (device(0xdf11), configuration(1, &rest), texts.to_vec())
    }

    fn request(&mut self, setup: Setup, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.pulled_after.is_some_and(|blocks| self.blocks >= blocks) {
            self.gone = true;
            return None;
        }
        match (setup.kind, setup.request, self.application) {
            // There is one interface.
            _ if setup.index != 0 => None,
            (0x21, 0, true) => {
                if self.attributes & WILL_DETACH != 0 {
                    self.application = false;
                    self.gone = true;
                } else {
                    // It waits for the reset of the bus.
                    self.state = 1;
                }
                Some(Vec::new())
            }
            (0xa1, 3, true) => Some(vec![0, 0, 0, 0, u8::from(self.state == 1), 0]),
            (0x21, 1, false) => self.download(setup.value, bytes),
            (0xa1, 2, false) => self.upload(setup.value, setup.length.into()),
            (0xa1, 3, false) => Some(self.status()),
            (0xa1, 5, false) => Some(vec![self.state]),
            (0x21, 4, false) if self.state == 10 => {
                (self.state, self.status) = (2, 0);
                Some(Vec::new())
            }
            (0x21, 6, false) if matches!(self.state, 2 | 3 | 5 | 6 | 9) => {
                (self.state, self.due, self.busy, self.written) = (2, Due::Nothing, false, 0);
                Some(Vec::new())
            }
            _ => {
                self.refuse(15);
                None
            }
        }
    }

    fn reset(&mut self) {
        match (self.application, self.state) {
            (true, 1) => (self.application, self.state) = (false, 2),
            (false, state) => {
                if state == 8 || self.starts {
                    self.left = true;
                }
                self.application = self.starts;
                (self.state, self.status, self.due, self.busy, self.written) = (2, 0, Due::Nothing, false, 0);
                if self.application {
                    self.state = 0;
                }
            }
            _ => {}
        }
    }

    fn waits_for_reset(&self) -> bool {
        self.state == if self.application { 1 } else { 8 }
    }

    fn set(&mut self, setting: u8) {
        self.setting = setting;
    }

    fn has_left(&mut self) -> bool {
        std::mem::take(&mut self.gone)
    }
}

/// A loader that speaks fastboot.
#[derive(Clone, Debug, Default)]
pub struct Fastboot {
    pub variables: BTreeMap<String, String>,
    pub partitions: BTreeMap<String, Vec<u8>>,
    /// What it says before each answer.
    pub words: Vec<String>,
    /// Whether writing fails.
    pub broken: bool,
    /// Bytes of an image after which it is pulled out.
    pub pulled_after: Option<usize>,
    pub rebooted: bool,
    pub image: Vec<u8>,
    pub missing: usize,
    pub says: Vec<Vec<u8>>,
    pub gone: bool,
}

impl Fastboot {
    pub fn new() -> Self {
        let mut fastboot = Fastboot::default();
        for (name, value) in [("product", "panda"), ("version", "0.4"), ("max-download-size", "0x00100000")] {
            fastboot.variables.insert(name.into(), value.into());
        }
        fastboot.variables.insert("partition-size:boot".into(), "0x0000000000080000".into());
        fastboot.partitions.insert("boot".into(), Vec::new());
        fastboot
    }

    fn say(&mut self, text: &str) {
        self.says.push(text.as_bytes().to_vec());
    }

    fn command(&mut self, text: &str) {
        for word in self.words.clone() {
            self.say(&format!("INFO{word}"));
        }
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        match name {
            "getvar" => match self.variables.get(rest).cloned() {
                Some(value) => self.say(&format!("OKAY{value}")),
                None => self.say("FAILVariable not implemented"),
            },
            "download" => {
                let most = 0x10_0000;
                match usize::from_str_radix(rest, 16) {
                    Ok(length) if rest.len() == 8 && (1..=most).contains(&length) => {
                        self.image.clear();
                        self.missing = length;
                        self.say(&format!("DATA{length:08x}"));
                    }
                    _ => self.say("FAILdata too large"),
                }
            }
            "flash" if self.broken => self.say("FAILflash write failure"),
            "flash" => match self.partitions.get_mut(rest) {
                Some(partition) if !self.image.is_empty() => {
                    partition.clone_from(&self.image);
                    self.say("OKAY");
                }
                Some(_) => self.say("FAILno image"),
                None => self.say("FAILpartition does not exist"),
            },
            "reboot" => {
                self.rebooted = true;
                self.say("OKAY");
            }
            _ => self.say("FAILunknown command"),
        }
    }
}

impl Gadget for Fastboot {
    fn describe(&self) -> (Vec<u8>, Vec<u8>, Vec<String>) {
        let rest = [9, 4, 0, 0, 2, 0xff, 0x42, 3, 3, 7, 5, 0x81, 2, 0, 2, 0, 7, 5, 0x02, 2, 0, 2, 0];
        let texts = ["Loader", "F1", "fastboot"].map(ToString::to_string);
        (device(0xfa57), configuration(1, &rest), texts.to_vec())
    }

    fn request(&mut self, _: Setup, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.missing == 0 {
            return self.command(&String::from_utf8_lossy(bytes));
        }
        let count = bytes.len().min(self.missing);
        self.image.extend_from_slice(&bytes[..count]);
        self.missing -= count;
        if self.pulled_after.is_some_and(|most| self.image.len() > most) {
            self.gone = true;
        } else if self.missing == 0 {
            self.say("OKAY");
        }
    }

    fn give(&mut self, _endpoint: u32) -> Option<Vec<u8>> {
        (!self.says.is_empty()).then(|| self.says.remove(0))
    }

    fn reset(&mut self) {}

    fn has_left(&mut self) -> bool {
        std::mem::take(&mut self.gone)
    }
}
