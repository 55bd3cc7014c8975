//! Image → the memory behind an alternate setting of a loader that speaks DFU (USB's class for that, 1.1), or at an address of one that
//! knows ST's extension, DfuSe (AN3156, UM0424): loader known, sectors erased, image written, all of it read back.
//!
//! A block is sent, and the loader is asked for its status until it has taken it; what it says of the time that it needs is kept to, up
//! to a bound. By itself it is in charge of its one memory, which it erases as it likes. With ST's extension all memory has addresses
//! and its sectors are named by the setting, and we erase those of the image and no others. The bus itself repeats what a line changes,
//! so what goes wrong is said at once and nothing is done twice.

mod layout;
mod status;

use super::usb::{self, COMES_MS, Interface, LOOK_MS, OPEN_MS, REQUEST_MS, Setup};
use super::{Failure, Flashed, Flasher, Input, Meter, Output, Phase, Transfer, Trouble, Whose, check_length, shown};
use layout::Layout;
use sai_core::bench::{Alternate, Setting};
use sai_core::limits::Millis;
use status::{STATUS_BYTES, Status, state};

/// Requests of the class (table 3.2).
const DETACH: u8 = 0;
const DNLOAD: u8 = 1;
const UPLOAD: u8 = 2;
const GETSTATUS: u8 = 3;
const CLRSTATUS: u8 = 4;
const ABORT: u8 = 6;
/// Kinds of requests: of the class, for an interface; from us, and to us.
const TO_DEVICE: u8 = 0x21;
const TO_HOST: u8 = 0xa1;
/// Class and subclass of both of its interfaces, and their protocols: that of a program which can leave for its loader, and the loader's.
const APPLICATION: (u8, u8, u8) = (0xfe, 1, 1);
const LOADER: (u8, u8, u8) = (0xfe, 1, 2);
/// The type of its functional descriptor (4.1.3), and bits of its attributes.
const FUNCTIONAL: u8 = 0x21;
const CAN_DOWNLOAD: u8 = 1;
const CAN_UPLOAD: u8 = 2;
const WILL_DETACH: u8 = 8;
/// The version of the class by which ST's extension is known.
const DFUSE: u16 = 0x011a;
/// Commands of ST's extension: what is sent as block 0. The one that erases everything is none of ours.
const SET_ADDRESS: u8 = 0x21;
const ERASE: u8 = 0x41;
/// The block of ST's extension that lies at the address itself.
const AT_ADDRESS: u16 = 2;

/// Bytes of one block at most: what the kernel sends in one request everywhere. Loaders have room for 64 to 4096.
const BLOCK_MAX: usize = 4096;
/// Milliseconds after which a loader that is busy is asked again at least, whatever it says.
const POLL_MIN_MS: Millis = 2;
/// Milliseconds that it may want to be left alone for: it has 24 bits for that, which are five hours.
const POLL_MAX_MS: Millis = 60_000;
/// Milliseconds for one erasure or block: a worn sector of 128 KiB takes four seconds, a loader without addresses may erase all at once.
const BUSY_MS: Millis = 120_000;
/// Requests until a loader that was left in the middle of something is ready.
const READY_MAX: u32 = 8;
/// Milliseconds that an application gets to leave for its loader (`wDetachTimeOut`).
const DETACH_MS: u16 = 1_000;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the image belongs.
    pub place: Alternate,
    /// Bytes that it may have there.
    pub room: Option<u64>,
    /// Whether it is read back; a loader that cannot is not written to then.
    pub verify: bool,
    /// Whether the image is started by the loader.
    pub go: bool,
}

/// What is done when the loader waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Begin,
    /// Reading back, from a byte of the image on.
    Read(usize),
    /// The same at an address that was set.
    ReadHere(usize),
    End,
}

/// What a block is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// The so-manieth of the sectors.
    Erase(usize),
    /// The address of a byte of the image: that is written, read, or started.
    AddressToWrite(usize),
    AddressToRead(usize),
    AddressToLeave,
    /// From a byte of the image on.
    Write(usize),
    /// That was all.
    Finish,
    /// The image is started.
    Leave,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Entering,
    /// The device is being opened, or will be looked for again.
    Opening,
    Looking,
    /// The application is told to leave for its loader; or to be reset for that.
    Detaching,
    Detached,
    Language,
    /// The names of settings are asked for, this one now.
    Name(usize),
    Claiming,
    /// Into the state in which it waits for anything: asked for its status, or told to go there.
    Ready(Next, u32),
    Going(Next, u32),
    /// It is at work for somebody who was here before.
    Resting(Next, u32),
    Sending(Work),
    Asking(Work),
    /// It wants time.
    Polling(Work),
    Reading(usize),
    /// The last thing that is done.
    Resetting,
    /// It is reset for what was written to become valid, and comes back for that to be read.
    Restarting,
    Over,
}

/// What a loader says of itself.
#[derive(Clone, Copy, Debug, Default)]
struct Functional {
    attributes: u8,
    block: usize,
    version: u16,
}

/// The machine. See the file's first line.
#[derive(Debug)]
pub struct Dfu {
    settings: Settings,
    image: Vec<u8>,
    state: State,
    deadline: Option<Millis>,
    /// Until when the loader is waited for, and why it is not there yet.
    comes_until: Millis,
    /// Since when it has the block that it was sent last.
    since: Millis,
    /// Whether the image is written and only to be read.
    written: bool,
    detached: bool,
    /// Settings of interfaces that are loaders, each with its name.
    loaders: Vec<(Interface, String)>,
    language: u16,
    /// The interface that is spoken to.
    interface: u8,
    functional: Functional,
    /// Sectors to be erased, where they are ours to erase.
    sectors: Vec<u32>,
    meter: Meter,
}

impl Dfu {
    /// A machine that brings this image to its place.
    ///
    /// # Errors
    /// The image's fault, if it cannot fit.
    pub fn new(settings: Settings, image: Vec<u8>) -> Result<Self, Failure> {
        check_length(image.len() as u64, settings.room)?;
        if settings.place.address.is_some_and(|address| u64::from(address) + image.len() as u64 > 1 << 32) {
            return Err(Failure::new(Whose::Image, "the image reaches beyond the last address; nothing was erased"));
        }
        Ok(Dfu {
            settings,
            image,
            state: State::Idle,
            deadline: None,
            comes_until: 0,
            since: 0,
            written: false,
            detached: false,
            loaders: Vec::new(),
            language: 0,
            interface: 0,
            functional: Functional::default(),
            sectors: Vec::new(),
            meter: Meter::default(),
        })
    }

    fn transfer(&mut self, state: State, transfer: Transfer, within: Millis, out: &mut Vec<Output>) {
        self.state = state;
        self.deadline = None;
        out.push(Output::Transfer(transfer, within));
    }

    fn open(&mut self, out: &mut Vec<Output>) {
        self.transfer(State::Opening, Transfer::Open, OPEN_MS, out);
    }

    /// Looks for the loader again in a while, unless it had its time.
    fn look_again(&mut self, now: Millis, why: &str, out: &mut Vec<Output>) {
        match usb::look_again(now, self.comes_until, why) {
            Ok(at) => {
                self.state = State::Looking;
                self.deadline = Some(at);
            }
            Err(failure) => self.fail(failure.whose, failure.text, out),
        }
    }

    fn opened(&mut self, now: Millis, configuration: &[u8], out: &mut Vec<Output>) {
        let interfaces = match usb::interfaces(configuration) {
            Ok(interfaces) => interfaces,
            Err(why) => return self.look_again(now, &why, out),
        };
        let mine = |class: (u8, u8, u8)| interfaces.iter().filter(move |interface| interface.class == class);
        let mut functional = mine(LOADER).chain(mine(APPLICATION)).flat_map(|interface| &interface.others);
        let Some(functional) = functional.find_map(|bytes| functional_of(bytes)) else {
            return self.look_again(now, "what is there does not speak DFU", out);
        };
        self.functional = functional;
        self.loaders = mine(LOADER).map(|interface| (interface.clone(), String::new())).collect();
        if self.loaders.is_empty() {
            return match mine(APPLICATION).next() {
                Some(application) if !self.detached => {
                    self.detached = true;
                    self.interface = application.number;
                    out.push(Output::Note("the board's program is there, and is told to leave for its loader".into()));
                    self.request(State::Detaching, DETACH, DETACH_MS, Vec::new(), out);
                }
                _ => self.look_again(now, "the board's program stays where it is", out),
            };
        }
        let named = matches!(self.settings.place.setting, Setting::Name(_)) || self.settings.place.address.is_some();
        match named {
            true => self.transfer(State::Language, usb::asks_text(0, 0), REQUEST_MS, out),
            false => self.known(out),
        }
    }

    /// Asks for the name of a setting, or of the next that has one.
    fn ask_name(&mut self, from: usize, out: &mut Vec<Output>) {
        let rest = self.loaders.iter().enumerate().skip(from);
        let found = rest.filter(|(_, (interface, _))| interface.name != 0).map(|(place, (one, _))| (place, one.name));
        match found.into_iter().next() {
            Some((place, number)) => {
                let asks = usb::asks_text(number, self.language);
                self.transfer(State::Name(place), asks, REQUEST_MS, out);
            }
            None => self.known(out),
        }
    }

    /// All is known of the loader: whether the image can be there is found out before anything is changed.
    fn known(&mut self, out: &mut Vec<Output>) {
        let wanted = &self.settings.place;
        let is_meant = |interface: &Interface, name: &str| match &wanted.setting {
            Setting::Number(number) => interface.setting == *number,
            Setting::Name(wanted) => name == wanted || Layout::of(name).is_some_and(|layout| layout.name == *wanted),
        };
        let Some((interface, name)) = self.loaders.iter().find(|(interface, name)| is_meant(interface, name)) else {
            let names = self.loaders.iter().map(|(interface, name)| match name.as_str() {
                "" => interface.setting.to_string(),
                name => format!("{} ({})", interface.setting, name.escape_debug()),
            });
            let names = names.collect::<Vec<_>>().join(", ");
            let wanted = match &wanted.setting {
                Setting::Number(number) => number.to_string(),
                Setting::Name(name) => format!("{name:?}"),
            };
            let text = format!("the loader has no alternate setting {wanted}, but {names}; nothing was erased");
            return self.fail(Whose::Wiring, text, out);
        };
        let (interface, name) = (interface.clone(), name.clone());
        let (attributes, version) = (self.functional.attributes, self.functional.version);
        let refusal = match (attributes & CAN_DOWNLOAD != 0, self.functional.block, wanted.address) {
            (false, ..) => Some((Whose::Wiring, "the loader does not take images".to_string())),
            (_, 0, _) => Some((Whose::Board, "the loader takes blocks of no bytes".to_string())),
            _ if self.settings.verify && attributes & CAN_UPLOAD == 0 => {
                let text = "what the loader has cannot be read back: `\"verifies\": false` in its bench says that this is known";
                Some((Whose::Tool, text.to_string()))
            }
            (.., Some(_)) if version != DFUSE => {
                let text = "the loader has no addresses: its targets are numbers or names of alternate settings";
                Some((Whose::Tool, text.to_string()))
            }
            (.., None) if version == DFUSE => {
                let text = "the loader wants addresses (ST's extension): its targets are such as \"0x08000000\"";
                Some((Whose::Tool, text.to_string()))
            }
            (.., Some(address)) => match Layout::of(&name) {
                None => {
                    let name = name.escape_debug().to_string();
                    Some((Whose::Board, format!("the loader does not say what memory it has, but {name:?}")))
                }
                Some(layout) => match layout.sectors(address, self.image.len(), self.settings.verify) {
                    Ok(sectors) => {
                        self.sectors = sectors;
                        None
                    }
                    Err(why) => Some((Whose::Image, why)),
                },
            },
            (.., None) => None,
        };
        if let Some((whose, why)) = refusal {
            return self.fail(whose, format!("{why}; nothing was erased"), out);
        }
        if !self.written {
            let shown = if name.is_empty() { interface.setting.to_string() } else { name.escape_debug().to_string() };
            out.push(Output::Note(format!("loader at alternate setting {shown}")));
        }
        self.interface = interface.number;
        let claim = Transfer::Claim { interface: interface.number, setting: interface.setting };
        self.transfer(State::Claiming, claim, REQUEST_MS, out);
    }

    fn request(&mut self, state: State, request: u8, value: u16, bytes: Vec<u8>, out: &mut Vec<Output>) {
        let setup = Setup { kind: TO_DEVICE, request, value, index: self.interface.into() };
        self.transfer(state, Transfer::Out(setup, bytes), REQUEST_MS, out);
    }

    fn ask(&mut self, state: State, request: u8, value: u16, length: usize, out: &mut Vec<Output>) {
        let setup = Setup { kind: TO_HOST, request, value, index: self.interface.into() };
        self.transfer(state, Transfer::In(setup, length as u16), REQUEST_MS, out);
    }

    fn get_ready(&mut self, next: Next, out: &mut Vec<Output>) {
        self.ask(State::Ready(next, 0), GETSTATUS, 0, STATUS_BYTES, out);
    }

    /// The loader has said how it is, while it is to wait for anything.
    fn readied(&mut self, now: Millis, next: Next, tries: u32, bytes: &[u8], out: &mut Vec<Output>) {
        let status = match Status::of(bytes) {
            Ok(status) => status,
            Err(why) => return self.fail(Whose::Board, why, out),
        };
        if tries >= READY_MAX {
            return self.fail(Whose::Board, format!("the loader does not get ready: {}", status.text()), out);
        }
        match status.state {
            state::IDLE => self.go_on(next, out),
            state::ERROR => self.request(State::Going(next, tries + 1), CLRSTATUS, 0, Vec::new(), out),
            // Whoever was here before has left it so.
            state::DOWNLOAD_BUSY | state::MANIFEST => {
                self.state = State::Resting(next, tries + 1);
                self.deadline = Some(now + status.poll.clamp(LOOK_MS, POLL_MAX_MS));
            }
            state::DOWNLOAD_SYNC..=state::MANIFEST_SYNC | state::UPLOAD_IDLE => {
                self.request(State::Going(next, tries + 1), ABORT, 0, Vec::new(), out);
            }
            _ => self.fail(Whose::Board, format!("the loader takes no request: {}", status.text()), out),
        }
    }

    /// The loader waits for anything.
    fn go_on(&mut self, next: Next, out: &mut Vec<Output>) {
        match next {
            Next::Begin if self.written => self.go_on(Next::Read(0), out),
            Next::Begin if !self.sectors.is_empty() => self.work(Work::Erase(0), out),
            Next::Begin => self.write_from(0, out),
            Next::Read(offset) => match self.settings.place.address {
                Some(_) => self.work(Work::AddressToRead(offset), out),
                None => self.go_on(Next::ReadHere(offset), out),
            },
            Next::ReadHere(offset) => {
                let block = self.block(offset);
                let number = match self.settings.place.address {
                    Some(_) => AT_ADDRESS,
                    None => (offset / self.functional.block) as u16,
                };
                // Always as many as it has in a block: fewer would be the end of it to some.
                let length = if self.settings.place.address.is_some() { block } else { self.functional.block };
                self.ask(State::Reading(offset), UPLOAD, number, length, out);
            }
            Next::End if !self.settings.go => self.done(out),
            Next::End => match self.settings.place.address {
                Some(_) => self.work(Work::AddressToLeave, out),
                None => self.transfer(State::Resetting, Transfer::Reset, OPEN_MS, out),
            },
        }
    }

    /// Bytes of the block that begins there.
    fn block(&self, offset: usize) -> usize {
        (self.image.len() - offset).min(self.functional.block)
    }

    fn write_from(&mut self, offset: usize, out: &mut Vec<Output>) {
        match self.settings.place.address {
            Some(_) => self.work(Work::AddressToWrite(offset), out),
            None => self.work(Work::Write(offset), out),
        }
    }

    /// Sends a block.
    fn work(&mut self, work: Work, out: &mut Vec<Output>) {
        let base = self.settings.place.address.unwrap_or(0);
        let command = |code: u8, address: u32| {
            let mut bytes = [code].to_vec();
            bytes.extend_from_slice(&address.to_le_bytes());
            bytes
        };
        let (number, bytes) = match work {
            Work::Erase(place) => (0, command(ERASE, self.sectors.get(place).copied().unwrap_or(base))),
            Work::AddressToWrite(offset) | Work::AddressToRead(offset) => {
                (0, command(SET_ADDRESS, base + offset as u32))
            }
            Work::AddressToLeave => (0, command(SET_ADDRESS, base)),
            Work::Write(offset) => {
                let number = match self.settings.place.address {
                    Some(_) => AT_ADDRESS,
                    // They are counted, and begin again after 65536.
                    None => (offset / self.functional.block) as u16,
                };
                (number, self.image[offset..offset + self.block(offset)].to_vec())
            }
            Work::Finish => (self.image.len().div_ceil(self.functional.block) as u16, Vec::new()),
            Work::Leave => (0, Vec::new()),
        };
        self.request(State::Sending(work), DNLOAD, number, bytes, out);
    }

    fn ask_status(&mut self, work: Work, out: &mut Vec<Output>) {
        self.ask(State::Asking(work), GETSTATUS, 0, STATUS_BYTES, out);
    }

    /// The loader has said what it makes of a block.
    fn asked(&mut self, now: Millis, work: Work, bytes: &[u8], out: &mut Vec<Output>) {
        let status = match Status::of(bytes) {
            Ok(status) => status,
            Err(why) => return self.fail(Whose::Board, why, out),
        };
        let (finishes, leaves) = (work == Work::Finish, work == Work::Leave);
        match status.state {
            _ if status.status != 0 || status.state == state::ERROR => {
                let text = format!("the loader refuses {}: {}", self.what(work), status.text());
                self.fail(status.whose(), text, out);
            }
            state::DOWNLOAD_IDLE if !finishes && !leaves => self.worked(work, out),
            state::IDLE if finishes => self.worked(work, out),
            state::MANIFEST | state::WAIT_RESET if leaves => self.done(out),
            state::WAIT_RESET if finishes => self.must_reset(out),
            state::MANIFEST_SYNC if leaves && status.poll == 0 => self.done(out),
            state::DOWNLOAD_SYNC | state::DOWNLOAD_BUSY | state::MANIFEST_SYNC | state::MANIFEST => {
                if now >= self.since + BUSY_MS {
                    let text = format!("the loader is busy with {} for {} s", self.what(work), BUSY_MS / 1000);
                    return self.fail(Whose::Board, text, out);
                }
                self.state = State::Polling(work);
                self.deadline = Some(now + status.poll.clamp(POLL_MIN_MS, POLL_MAX_MS));
            }
            _ => {
                let text = format!("the loader is not where it should be with {}: {}", self.what(work), status.text());
                self.fail(Whose::Board, text, out);
            }
        }
    }

    /// A block is where it belongs.
    fn worked(&mut self, work: Work, out: &mut Vec<Output>) {
        match work {
            Work::Erase(place) => {
                self.meter.tell(Phase::Erase, place + 1, self.sectors.len(), out);
                match place + 1 < self.sectors.len() {
                    true => self.work(Work::Erase(place + 1), out),
                    false => self.write_from(0, out),
                }
            }
            Work::AddressToWrite(offset) => self.work(Work::Write(offset), out),
            Work::AddressToRead(offset) => self.get_ready(Next::ReadHere(offset), out),
            Work::AddressToLeave => self.work(Work::Leave, out),
            Work::Write(offset) => {
                let done = offset + self.block(offset);
                self.meter.tell(Phase::Write, done, self.image.len(), out);
                match (done < self.image.len(), self.settings.place.address) {
                    (true, _) => self.write_from(done, out),
                    (false, None) => self.work(Work::Finish, out),
                    (false, Some(_)) => self.wrote(out),
                }
            }
            Work::Finish => self.wrote(out),
            Work::Leave => self.done(out),
        }
    }

    /// All is written, and the loader goes on to listen.
    fn wrote(&mut self, out: &mut Vec<Output>) {
        self.written = true;
        match self.settings.verify {
            true => self.get_ready(Next::Read(0), out),
            false => self.get_ready(Next::End, out),
        }
    }

    /// All is written, and the loader must be reset for it to be valid: only then can it be read.
    fn must_reset(&mut self, out: &mut Vec<Output>) {
        self.written = true;
        match self.settings.verify {
            true => self.transfer(State::Restarting, Transfer::Reset, OPEN_MS, out),
            false => self.transfer(State::Resetting, Transfer::Reset, OPEN_MS, out),
        }
    }

    fn read(&mut self, offset: usize, bytes: &[u8], out: &mut Vec<Output>) {
        let length = self.block(offset);
        let written = &self.image[offset..offset + length];
        let differs = written.iter().zip(bytes).position(|(ours, theirs)| ours != theirs);
        if let Some(at) = differs.or((bytes.len() < length).then_some(bytes.len())) {
            let place = u64::from(self.settings.place.address.unwrap_or(0)) + (offset + at) as u64;
            let text = match bytes.get(at) {
                Some(byte) => {
                    format!(
                        "reading back differs: {place:#010x} holds {byte:02x} where {:02x} was written",
                        written[at]
                    )
                }
                None => format!("reading back ends at {place:#010x}, {at} bytes into a block"),
            };
            return self.fail(Whose::Board, text, out);
        }
        let done = offset + length;
        self.meter.tell(Phase::Verify, done, self.image.len(), out);
        match (done < self.image.len(), self.settings.place.address) {
            // A block that is not whole is the last to a loader that counts them.
            (true, None) if bytes.len() < self.functional.block => {
                self.fail(Whose::Board, "reading back ends before the image does".into(), out);
            }
            (true, None) => self.go_on(Next::ReadHere(done), out),
            (true, Some(_)) => self.get_ready(Next::Read(done), out),
            (false, _) => self.get_ready(Next::End, out),
        }
    }

    fn done(&mut self, out: &mut Vec<Output>) {
        self.state = State::Over;
        self.deadline = None;
        out.push(Output::Done(Flashed { chip: None, verified: self.settings.verify }));
    }

    fn fail(&mut self, whose: Whose, text: String, out: &mut Vec<Output>) {
        self.state = State::Over;
        self.deadline = None;
        out.push(Output::Failed(Failure::new(whose, text)));
    }

    /// What a block is sent for, for people.
    fn what(&self, work: Work) -> String {
        let base = u64::from(self.settings.place.address.unwrap_or(0));
        match work {
            Work::Erase(place) => match self.sectors.get(place) {
                Some(sector) => format!("erasing {sector:#010x}"),
                None => "erasing".into(),
            },
            Work::AddressToWrite(offset) | Work::AddressToRead(offset) => {
                format!("address {:#010x}", base + offset as u64)
            }
            Work::AddressToLeave => format!("address {base:#010x}"),
            Work::Write(offset) => format!("what is written at {:#010x}", base + offset as u64),
            Work::Finish => "the whole image".into(),
            Work::Leave => "the start of the image".into(),
        }
    }

    /// What was not done, for people; nothing where that is no trouble.
    fn troubled(&mut self, now: Millis, trouble: &Trouble, out: &mut Vec<Output>) {
        let why = trouble.text();
        let text = match (self.state, trouble) {
            (_, Trouble::GivenUp) => why,
            // Applications and hubs take their time; what does not, is told at the end of it.
            (State::Opening, _) => return self.look_again(now, &why, out),
            // It may have left before it could answer.
            (State::Detaching | State::Detached, _) => return self.look_again(now, &why, out),
            (State::Asking(Work::Leave), Trouble::Gone | Trouble::Stalled) | (State::Resetting, _) => {
                return self.done(out);
            }
            // A loader may start what was written by itself, and is gone when it is asked how it is.
            (State::Asking(Work::Finish), Trouble::Gone) if !self.settings.verify => return self.done(out),
            (State::Asking(Work::Finish), Trouble::Gone) | (State::Restarting, _) => return self.restart(out),
            // Its status says why.
            (State::Sending(work), Trouble::Stalled) => return self.ask_status(work, out),
            (State::Going(next, tries), Trouble::Stalled) => {
                return self.ask(State::Ready(next, tries), GETSTATUS, 0, STATUS_BYTES, out);
            }
            (State::Language | State::Name(_) | State::Claiming, _) => format!("the loader cannot be asked: {why}"),
            (State::Sending(work) | State::Asking(work), _) => format!("{}: {why}", self.what(work)),
            (State::Reading(offset), _) => {
                format!("reading back stops {offset} bytes into the image: {why}")
            }
            _ => format!("the loader does not get ready: {why}"),
        };
        let whose = if *trouble == Trouble::Stalled { Whose::Board } else { Whose::Wiring };
        self.fail(whose, text, out);
    }

    /// Into the loader once more, where the image is to be read.
    fn restart(&mut self, out: &mut Vec<Output>) {
        self.written = true;
        self.detached = false;
        self.state = State::Entering;
        self.deadline = None;
        out.push(Output::Enter);
    }

    fn transferred(&mut self, now: Millis, bytes: &[u8], out: &mut Vec<Output>) {
        match self.state {
            State::Opening => self.opened(now, bytes, out),
            State::Detaching if self.functional.attributes & WILL_DETACH == 0 => {
                self.transfer(State::Detached, Transfer::Reset, OPEN_MS, out);
            }
            State::Detaching | State::Detached => self.look_again(now, "the board's program does not leave", out),
            State::Language => match usb::language(bytes) {
                Ok(language) => {
                    self.language = language;
                    self.ask_name(0, out);
                }
                Err(why) => self.fail(Whose::Board, format!("{why}; nothing was erased"), out),
            },
            State::Name(place) => match usb::text(bytes) {
                Ok(name) => {
                    self.loaders.get_mut(place).into_iter().for_each(|(_, known)| known.clone_from(&name));
                    self.ask_name(place + 1, out);
                }
                Err(why) => self.fail(Whose::Board, format!("{why}: {}; nothing was erased", shown(bytes)), out),
            },
            State::Claiming => self.get_ready(Next::Begin, out),
            State::Ready(next, tries) => self.readied(now, next, tries, bytes, out),
            State::Going(next, tries) => self.ask(State::Ready(next, tries), GETSTATUS, 0, STATUS_BYTES, out),
            State::Sending(work) => {
                self.since = now;
                self.ask_status(work, out);
            }
            State::Asking(work) => self.asked(now, work, bytes, out),
            State::Reading(offset) => self.read(offset, bytes, out),
            State::Resetting => self.done(out),
            State::Restarting => self.restart(out),
            State::Idle | State::Entering | State::Looking | State::Resting(..) | State::Polling(_) | State::Over => {}
        }
    }
}

impl Flasher for Dfu {
    fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Begin if self.state == State::Idle => {
                self.state = State::Entering;
                out.push(Output::Enter);
            }
            Input::Entered if self.state == State::Entering => {
                self.comes_until = now + COMES_MS;
                self.open(out);
            }
            Input::Transferred(Ok(bytes)) => self.transferred(now, bytes, out),
            Input::Transferred(Err(trouble)) if self.state != State::Over => self.troubled(now, trouble, out),
            Input::Tick if self.deadline.is_some_and(|deadline| deadline <= now) => match self.state {
                State::Looking => self.open(out),
                State::Polling(work) => self.ask_status(work, out),
                State::Resting(next, tries) => self.ask(State::Ready(next, tries), GETSTATUS, 0, STATUS_BYTES, out),
                _ => {}
            },
            Input::Begin | Input::Entered | Input::Bytes(_) | Input::Transferred(_) | Input::Tick => {}
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline
    }
}

/// The functional descriptor, if these bytes are one. That of the class's first version says no version.
fn functional_of(bytes: &[u8]) -> Option<Functional> {
    match bytes {
        [_, FUNCTIONAL, attributes, _, _, low, high, rest @ ..] => {
            let version = match rest {
                [low, high, ..] => u16::from_le_bytes([*low, *high]),
                _ => 0x0100,
            };
            let block = usize::from(u16::from_le_bytes([*low, *high])).min(BLOCK_MAX);
            Some(Functional { attributes: *attributes, block, version })
        }
        _ => None,
    }
}
