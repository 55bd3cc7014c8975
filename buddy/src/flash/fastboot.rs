//! Image → a partition of a board whose loader speaks fastboot (Android's note on the protocol, version 0.4, fastboot/README.md): variables
//! looked at, image sent, partition written.
//!
//! A command is a text; answers are four letters and a text, of which OKAY and FAIL are the last. The loader has the image in its memory
//! before it writes any of it, and writes on one command. There is no way to read back: what is there is unverified, unless the loader
//! is known to check what it writes.

use super::usb::{self, COMES_MS, OPEN_MS};
use super::{Failure, Flashed, Flasher, Input, Meter, Output, Phase, Transfer, Trouble, Whose, check_length, shown};
use sai_core::limits::Millis;

/// Class, subclass and protocol of its interface.
const CLASS: (u8, u8, u8) = (0xff, 0x42, 3);
/// The bit of an endpoint's address that says that the device sends.
const FROM_DEVICE: u8 = 0x80;
/// Bytes of an answer: 64 by the note, 256 by what is newer.
const ANSWER_BYTES: usize = 256;
/// Bytes that are sent in one transfer: what the kernel makes of one request in memory that is not whole.
const CHUNK: usize = 16 * 1024;
/// Milliseconds for a command or a chunk to be taken, and for an answer to one that is no work.
const ANSWER_MS: Millis = 10_000;
/// Milliseconds without a word while a partition is written: slow flash takes minutes for a large image.
const WRITE_MS: Millis = 600_000;
/// Most words of a loader about one command: it talks of what it does.
const INFO_MAX: u32 = 10_000;
/// Most of these that are told.
const TOLD_MAX: u32 = 64;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The partition.
    pub partition: String,
    /// Bytes that an image may have there.
    pub room: Option<u64>,
    /// Variables, and what each must hold before anything is sent.
    pub expects: Vec<(String, String)>,
    /// Whether the loader is known to check what it writes.
    pub verifies: bool,
    /// Whether the board is started by the loader.
    pub go: bool,
}

/// A command that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    /// The so-manieth of the variables that must be right.
    Expect(usize),
    /// How much it takes.
    Most,
    /// How large the partition is.
    Size,
    Download,
    /// All of it was sent.
    Downloaded,
    Flash,
    Reboot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Entering,
    Opening,
    Looking,
    Claiming,
    /// The command is on its way.
    Saying(Command),
    /// Its answer is.
    Hearing(Command),
    /// The image is, from this byte on.
    Sending(usize),
    Over,
}

/// The machine. See the file's first line.
#[derive(Debug)]
pub struct Fastboot {
    settings: Settings,
    image: Vec<u8>,
    state: State,
    deadline: Option<Millis>,
    comes_until: Millis,
    /// Endpoints: from the device, and to it.
    from: u8,
    to: u8,
    /// What the loader has said about the command beside its answer.
    words: u32,
    meter: Meter,
}

impl Fastboot {
    /// A machine that brings this image to its partition.
    ///
    /// # Errors
    /// The image's fault, if it cannot fit.
    pub fn new(settings: Settings, image: Vec<u8>) -> Result<Self, Failure> {
        check_length(image.len() as u64, settings.room)?;
        Ok(Fastboot {
            settings,
            image,
            state: State::Idle,
            deadline: None,
            comes_until: 0,
            from: 0,
            to: 0,
            words: 0,
            meter: Meter::default(),
        })
    }

    fn transfer(&mut self, state: State, transfer: Transfer, within: Millis, out: &mut Vec<Output>) {
        self.state = state;
        self.deadline = None;
        out.push(Output::Transfer(transfer, within));
    }

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
        let found = interfaces.into_iter().filter(|interface| interface.class == CLASS).find_map(|interface| {
            let is_from = |address: &u8| address & FROM_DEVICE != 0;
            let from = interface.bulk.iter().copied().find(is_from)?;
            let to = interface.bulk.iter().copied().find(|address| !is_from(address))?;
            Some((interface.number, interface.setting, from, to))
        });
        let Some((interface, setting, from, to)) = found else {
            return self.look_again(now, "what is there does not speak fastboot", out);
        };
        (self.from, self.to) = (from, to);
        self.transfer(State::Claiming, Transfer::Claim { interface, setting }, OPEN_MS, out);
    }

    fn say(&mut self, command: Command, out: &mut Vec<Output>) {
        let text = match command {
            Command::Expect(place) => match self.settings.expects.get(place) {
                Some((name, _)) => format!("getvar:{name}"),
                None => return self.say(Command::Most, out),
            },
            Command::Most => "getvar:max-download-size".into(),
            Command::Size => format!("getvar:partition-size:{}", self.settings.partition),
            Command::Download | Command::Downloaded => format!("download:{:08x}", self.image.len()),
            Command::Flash => format!("flash:{}", self.settings.partition),
            Command::Reboot => "reboot".into(),
        };
        self.words = 0;
        self.transfer(State::Saying(command), Transfer::BulkOut(self.to, text.into_bytes()), ANSWER_MS, out);
    }

    fn hear(&mut self, command: Command, out: &mut Vec<Output>) {
        let within = if command == Command::Flash { WRITE_MS } else { ANSWER_MS };
        self.transfer(State::Hearing(command), Transfer::BulkIn(self.from, ANSWER_BYTES), within, out);
    }

    fn send(&mut self, offset: usize, out: &mut Vec<Output>) {
        let end = self.image.len().min(offset + CHUNK);
        let chunk = self.image[offset..end].to_vec();
        self.transfer(State::Sending(offset), Transfer::BulkOut(self.to, chunk), ANSWER_MS, out);
    }

    fn heard(&mut self, command: Command, bytes: &[u8], out: &mut Vec<Output>) {
        let Some((kind, text)) = bytes.split_at_checked(4) else { return self.strange(command, bytes, out) };
        // Some fill their answers up with NUL.
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text).trim_end().to_string();
        match (kind, command) {
            (b"INFO" | b"TEXT", _) => {
                self.words += 1;
                if self.words > INFO_MAX {
                    let text = format!("the loader talks on and on about {}", self.what(command));
                    return self.fail(Whose::Board, text, out);
                }
                if self.words <= TOLD_MAX && !text.is_empty() {
                    out.push(Output::Note(format!("the loader says: {}", text.escape_debug())));
                }
                self.hear(command, out);
            }
            (b"OKAY", Command::Expect(place)) => self.expected(place, &text, out),
            (b"OKAY", Command::Most) => match number(&text) {
                Some(most) if most < self.image.len() as u64 => {
                    let text = format!(
                        "the image has {} bytes, and the loader takes {most} at once: it must be made to take more, or the image be \
                         sparse; nothing was erased",
                        self.image.len()
                    );
                    self.fail(Whose::Image, text, out);
                }
                _ => self.say(Command::Size, out),
            },
            (b"OKAY", Command::Size) => {
                let size = number(&text).filter(|size| *size > 0);
                match check_length(self.image.len() as u64, size) {
                    // A sparse image is larger or smaller than what it stands for: the loader knows.
                    Err(failure) if !self.is_sparse() => self.fail(failure.whose, failure.text, out),
                    _ => self.say(Command::Download, out),
                }
            }
            // A loader need not have these.
            (b"FAIL", Command::Most) => self.say(Command::Size, out),
            (b"FAIL", Command::Size) => self.say(Command::Download, out),
            (b"DATA", Command::Download) => match u64::from_str_radix(&text, 16) {
                Ok(length) if length == self.image.len() as u64 => self.send(0, out),
                _ => {
                    let text = format!(
                        "the loader wants {} instead of {:08x} bytes; nothing was erased",
                        text.escape_debug(),
                        self.image.len()
                    );
                    self.fail(Whose::Board, text, out);
                }
            },
            (b"OKAY", Command::Downloaded) => self.say(Command::Flash, out),
            (b"OKAY", Command::Flash) => {
                let whole = self.image.len();
                self.meter.tell(Phase::Write, whole, whole, out);
                match self.settings.go {
                    true => self.say(Command::Reboot, out),
                    false => self.done(out),
                }
            }
            (b"OKAY", Command::Reboot) => self.done(out),
            (b"FAIL", _) => {
                let why = if text.is_empty() { "it does not say why".into() } else { text.escape_debug().to_string() };
                self.fail(Whose::Board, format!("the loader refuses {}: {why}", self.what(command)), out);
            }
            _ => self.strange(command, bytes, out),
        }
    }

    fn expected(&mut self, place: usize, text: &str, out: &mut Vec<Output>) {
        let Some((name, wanted)) = self.settings.expects.get(place) else { return self.say(Command::Most, out) };
        if text != wanted {
            let text = format!(
                "the loader's {name} is {:?}, not {wanted:?}: another board is in this place; nothing was erased",
                text
            );
            return self.fail(Whose::Wiring, text, out);
        }
        out.push(Output::Note(format!("{name} is {wanted}")));
        self.say(Command::Expect(place + 1), out);
    }

    /// Whether the image is one of Android's that leave out what is not there.
    fn is_sparse(&self) -> bool {
        self.image.starts_with(&[0x3a, 0xff, 0x26, 0xed])
    }

    fn strange(&mut self, command: Command, bytes: &[u8], out: &mut Vec<Output>) {
        let text =
            format!("the loader answers {} to {}, which is nothing of fastboot's", shown(bytes), self.what(command));
        self.fail(Whose::Board, text, out);
    }

    /// What a command is for, for people.
    fn what(&self, command: Command) -> String {
        match command {
            Command::Expect(place) => match self.settings.expects.get(place) {
                Some((name, _)) => format!("the question for its {name}"),
                None => "a question".into(),
            },
            Command::Most => "the question how much it takes".into(),
            Command::Size => "the question how large the partition is".into(),
            Command::Download | Command::Downloaded => "to take the image".into(),
            Command::Flash => format!("to write partition {}", self.settings.partition),
            Command::Reboot => "to start the board".into(),
        }
    }

    fn done(&mut self, out: &mut Vec<Output>) {
        self.state = State::Over;
        self.deadline = None;
        out.push(Output::Done(Flashed { chip: None, verified: self.settings.verifies }));
    }

    fn fail(&mut self, whose: Whose, text: String, out: &mut Vec<Output>) {
        self.state = State::Over;
        self.deadline = None;
        out.push(Output::Failed(Failure::new(whose, text)));
    }

    fn troubled(&mut self, now: Millis, trouble: &Trouble, out: &mut Vec<Output>) {
        let why = trouble.text();
        let text = match (self.state, trouble) {
            (_, Trouble::GivenUp) => why,
            (State::Opening, _) => return self.look_again(now, &why, out),
            // It may be gone before it has answered.
            (State::Hearing(Command::Reboot), Trouble::Gone) => return self.done(out),
            (State::Saying(command) | State::Hearing(command), _) => format!("{}: {why}", self.what(command)),
            (State::Sending(offset), _) => {
                format!("the image is not taken, from byte {offset} on: {why}; nothing was written")
            }
            _ => format!("the loader cannot be asked: {why}"),
        };
        self.fail(Whose::Wiring, text, out);
    }

    fn transferred(&mut self, now: Millis, bytes: &[u8], out: &mut Vec<Output>) {
        match self.state {
            State::Opening => self.opened(now, bytes, out),
            State::Claiming => self.say(Command::Expect(0), out),
            State::Saying(command) => self.hear(command, out),
            State::Hearing(command) => self.heard(command, bytes, out),
            State::Sending(offset) => {
                let done = self.image.len().min(offset + CHUNK);
                self.meter.tell(Phase::Load, done, self.image.len(), out);
                match done < self.image.len() {
                    true => self.send(done, out),
                    false => {
                        self.words = 0;
                        self.hear(Command::Downloaded, out);
                    }
                }
            }
            State::Idle | State::Entering | State::Looking | State::Over => {}
        }
    }
}

impl Flasher for Fastboot {
    fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Begin if self.state == State::Idle => {
                self.state = State::Entering;
                out.push(Output::Enter);
            }
            Input::Entered if self.state == State::Entering => {
                self.comes_until = now + COMES_MS;
                self.transfer(State::Opening, Transfer::Open, OPEN_MS, out);
            }
            Input::Transferred(Ok(bytes)) => self.transferred(now, bytes, out),
            Input::Transferred(Err(trouble)) if self.state != State::Over => self.troubled(now, trouble, out),
            Input::Tick if self.deadline.is_some_and(|deadline| deadline <= now) && self.state == State::Looking => {
                self.transfer(State::Opening, Transfer::Open, OPEN_MS, out);
            }
            Input::Begin | Input::Entered | Input::Bytes(_) | Input::Transferred(_) | Input::Tick => {}
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline
    }
}

/// A number in hexadecimal digits behind `0x`. What has none of that is not known to be either, and no reason to refuse.
fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    u64::from_str_radix(digits, 16).ok()
}
