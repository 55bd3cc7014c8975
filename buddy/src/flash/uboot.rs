//! A console with U-Boot → an image in the board's memory: the countdown stopped, the image sent by YMODEM or XMODEM, its sum taken,
//! written by the commands that the bench names, and its checksum taken again (U-Boot's documentation, "Shell commands").
//!
//! What is typed comes back as an echo: no command is given before all of it has come back, since a line that loses a digit would
//! erase something else. The end of one is told by what its echo does not contain: `;echo sai$?` is answered by `sai` and a number,
//! which is also whether it did what it was to.

use super::ymodem::{Kind, Sender};
use super::{ENTRIES_MAX, Failure, Flashed, Flasher, Input, Output, Phase, Progress, Whose, check_length};
use sai_core::bench;
use sai_core::limits::Millis;
use sai_core::pattern::{Pattern, View};

/// Milliseconds from power to the countdown: memory is trained and self-tests are run in these.
const COUNTDOWN_MS: Millis = 60_000;
/// Milliseconds of silence after which a console is asked whether it waits for a command already.
const NUDGE_MS: Millis = 3_000;
/// Milliseconds between two tries to stop a countdown.
const STOP_AGAIN_MS: Millis = 250;
/// Milliseconds for a prompt after the countdown was stopped.
const PROMPT_MS: Millis = 10_000;
/// Milliseconds for a command that has nothing to do.
const PROBE_MS: Millis = 5_000;
/// How often the shell is asked whether it listens.
const PROBES_MAX: u32 = 3;
/// Milliseconds for a command of the bench: erasing some megabytes of NOR takes minutes.
const COMMAND_MS: Millis = 300_000;
/// Milliseconds for the echo of a command, beside what typing it slowly takes.
const ECHO_MS: Millis = 3_000;
/// How often a command is typed whose echo is another.
const TYPED_MAX: u32 = 4;
/// Milliseconds for the announcement of a transfer.
const READY_MS: Millis = 10_000;
/// How often an image is sent that arrives damaged.
const LOADS_MAX: u32 = 3;
/// How often a checksum is asked for again whose answer was lost.
const SUMS_MAX: u32 = 2;
/// Bytes of a command with what is added to it: the shortest line that boards take.
const LINE_BYTES: usize = 255;
/// Bytes of the console that are looked at.
const WINDOW_BYTES: usize = 4096;
/// Letters of the console in an error.
const SAID_LETTERS: usize = 160;
/// What ends a line that was begun.
const INTERRUPT: u8 = 0x03;
/// What an answer's number stands behind.
const ANSWER: &str = "sai";

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is said to this U-Boot.
    pub uboot: bench::Uboot,
    /// Where the image belongs.
    pub target: bench::Target,
    /// The image's name, for the board's log.
    pub name: String,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not begun.
    Idle,
    /// The board is brought to its start, and starts. Once it has been `Entered`, a prompt is one of this start: until then the
    /// console may still show the one of before, and what is typed there is lost in the reset. A countdown counts at once, since
    /// a way that ends with a wait can be longer than it is.
    Starting { entered: bool },
    /// The countdown was seen.
    Stopping { until: Millis, entered: bool },
    /// The shell is asked whether it listens.
    Probing { tries: u32 },
    /// The transfer was asked for.
    Asking,
    /// The image is sent.
    Loading,
    /// The loader tells what it has.
    Loaded,
    /// What was received is summed up.
    Checking,
    /// A command of the bench runs.
    Writing { command: usize },
    /// The place is summed up.
    Verifying,
    /// The prompt behind the last answer is waited for: what comes later would be taken for words of what is started then.
    Ending { verified: bool },
    /// The last command is given.
    Booting { verified: bool },
    /// It is over.
    Over,
}

/// The machine. See the file's first line.
#[derive(Debug)]
pub struct Uboot {
    settings: Settings,
    /// How a line begins that announces a transfer, and how one that is answered ends.
    ready: Pattern,
    answered: Pattern,
    image: Vec<u8>,
    sum: u32,
    state: State,
    sender: Option<Sender>,
    /// The console's last bytes since something was sent.
    window: Vec<u8>,
    heard: bool,
    /// The command whose echo is waited for, with the milliseconds that it may take, and how often it was typed.
    typed: Option<(String, Millis, u32)>,
    nudge: Option<Millis>,
    deadline: Option<Millis>,
    entries: u32,
    loads: u32,
    sums: u32,
}

impl Uboot {
    /// A machine that brings this image to its place.
    ///
    /// # Errors
    /// The image's fault, if it cannot fit, or that of the settings, if a command is too long.
    pub fn new(settings: Settings, image: Vec<u8>) -> Result<Self, Failure> {
        check_length(image.len() as u64, settings.target.size)?;
        let pattern = |text: &str| Pattern::new(text).map_err(|error| Failure::new(Whose::Tool, error));
        let machine = Uboot {
            ready: pattern(if settings.uboot.xmodem {
                r"Ready for binary \(xmodem\)[^\r\n]*\r?\n"
            } else {
                r"Ready for binary \(ymodem\)[^\r\n]*\r?\n"
            })?,
            answered: pattern(&format!("{ANSWER}(?P<status>[0-9]+)\r?\n"))?,
            sum: crc32(&image),
            image,
            state: State::Idle,
            sender: None,
            window: Vec::new(),
            heard: false,
            typed: None,
            nudge: None,
            deadline: None,
            entries: 0,
            loads: 0,
            sums: 0,
            settings,
        };
        for command in machine.settings.uboot.write.iter().chain(&machine.settings.uboot.boot) {
            if machine.line(command).len() > LINE_BYTES {
                let text =
                    format!("this command is longer than {LINE_BYTES} bytes, which boards do not take: {command}");
                return Err(Failure::new(Whose::Tool, text));
            }
        }
        Ok(machine)
    }

    /// A command with its addresses, and with what makes its end known.
    fn line(&self, command: &str) -> String {
        format!("{};echo {ANSWER}$?", self.expanded(command))
    }

    fn expanded(&self, command: &str) -> String {
        let hexadecimal = |number: u64| format!("{number:x}");
        command
            .replace("{load}", &hexadecimal(self.settings.uboot.load.into()))
            .replace("{size}", &hexadecimal(self.image.len() as u64))
            .replace("{target}", &hexadecimal(self.settings.target.address.into()))
    }

    fn enter(&mut self, out: &mut Vec<Output>) {
        self.entries += 1;
        self.state = State::Starting { entered: false };
        self.window.clear();
        self.typed = None;
        self.heard = false;
        // How long the way there takes is the bench's.
        self.deadline = None;
        self.nudge = None;
        out.push(Output::Enter);
    }

    fn type_line(&mut self, now: Millis, command: &str, within: Millis, state: State, out: &mut Vec<Output>) {
        self.state = state;
        self.type_once(now, self.line(command), within, 1, out);
    }

    fn type_once(&mut self, now: Millis, line: String, within: Millis, tries: u32, out: &mut Vec<Output>) {
        self.type_bytes(line.clone().into_bytes(), out);
        self.typed = Some((line, within, tries));
        self.deadline = Some(now + ECHO_MS);
    }

    fn type_bytes(&mut self, bytes: Vec<u8>, out: &mut Vec<Output>) {
        // What came before is no answer to this.
        self.window.clear();
        out.push(Output::Type(bytes));
    }

    fn stop(&mut self, out: &mut Vec<Output>, again: bool) {
        let mut bytes = self.settings.uboot.stop.clone().into_bytes();
        if again {
            // What was typed at a prompt already would stand in front of the first command.
            bytes.push(INTERRUPT);
        }
        self.type_bytes(bytes, out);
    }

    fn probe(&mut self, now: Millis, tries: u32, out: &mut Vec<Output>) {
        self.nudge = None;
        self.type_line(now, "true", PROBE_MS, State::Probing { tries }, out);
    }

    fn load(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.loads += 1;
        let (kind, command) = match self.settings.uboot.xmodem {
            true => (Kind::Xmodem, "loadx {load}"),
            false => (Kind::Ymodem { name: self.settings.name.clone() }, "loady {load}"),
        };
        match Sender::new(kind, self.image.clone()) {
            Ok(sender) => self.sender = Some(sender),
            Err(failure) => return self.fail(failure, out),
        }
        self.type_line(now, command, READY_MS, State::Asking, out);
    }

    fn write(&mut self, now: Millis, command: usize, out: &mut Vec<Output>) {
        let of = self.settings.uboot.write.len();
        out.push(Output::Progress(Progress { phase: Phase::Write, done: command as u64, of: of as u64 }));
        match self.settings.uboot.write.get(command).cloned() {
            Some(line) => {
                out.push(Output::Note(self.expanded(&line)));
                self.type_line(now, &line, COMMAND_MS, State::Writing { command }, out);
            }
            None if self.settings.uboot.verifies => {
                self.type_line(now, "crc32 {target} {size}", COMMAND_MS, State::Verifying, out);
            }
            None => self.end(now, false),
        }
    }

    fn end(&mut self, now: Millis, verified: bool) {
        self.state = State::Ending { verified };
        self.deadline = Some(now + PROBE_MS);
    }

    fn finish(&mut self, now: Millis, verified: bool, out: &mut Vec<Output>) {
        if let Some(command) = self.settings.uboot.boot.clone() {
            // It does not come back, so that nothing is asked about it.
            self.state = State::Booting { verified };
            return self.type_once(now, self.expanded(&command), 0, 1, out);
        }
        self.done(verified, out);
    }

    fn done(&mut self, verified: bool, out: &mut Vec<Output>) {
        self.over();
        out.push(Output::Done(Flashed { chip: None, verified }));
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Output>) {
        self.over();
        out.push(Output::Failed(failure));
    }

    fn over(&mut self) {
        self.state = State::Over;
        self.deadline = None;
        self.nudge = None;
    }

    fn bytes(&mut self, now: Millis, bytes: &[u8], out: &mut Vec<Output>) {
        if self.state == State::Loading {
            return self.sending(now, Input::Bytes(bytes), out);
        }
        self.heard = true;
        self.window.extend_from_slice(bytes);
        self.window.drain(..self.window.len().saturating_sub(WINDOW_BYTES));
        if let Some((line, within, _)) = &self.typed {
            if self.window.ends_with(line.as_bytes()) {
                self.deadline = Some(now + within);
                self.typed = None;
                self.type_bytes(b"\r".to_vec(), out);
                if let State::Booting { verified } = self.state {
                    self.done(verified, out);
                }
            }
            return;
        }
        let view = View::of(&self.window);
        // A prompt is the last thing that is there: one with something behind it was another command's.
        let line = self.last_line();
        let found = self.settings.uboot.prompt.find(&View::of(line), 0);
        let prompted = found.is_some_and(|found| found.end == line.len());
        match self.state {
            State::Starting { entered: true } | State::Stopping { entered: true, .. } if prompted => {
                self.probe(now, 1, out)
            }
            State::Starting { entered } => {
                self.nudge = entered.then_some(now + NUDGE_MS);
                if self.settings.uboot.countdown.find(&view, 0).is_some() {
                    self.stop(out, false);
                    self.state = State::Stopping { until: now + PROMPT_MS, entered };
                    self.deadline = Some(now + STOP_AGAIN_MS);
                }
            }
            State::Asking => match self.ready.find(&view, 0) {
                Some(found) => {
                    let rest = self.window.split_off(found.end);
                    self.window.clear();
                    self.state = State::Loading;
                    self.sending(now, Input::Begin, out);
                    self.sending(now, Input::Bytes(&rest), out);
                }
                None => {
                    if let Some(status) = self.status(&view) {
                        let text = format!(
                            "this U-Boot takes no image by {}: {status}: {}",
                            if self.settings.uboot.xmodem { "loadx" } else { "loady" },
                            self.said()
                        );
                        self.fail(Failure::new(Whose::Board, text), out);
                    }
                }
            },
            State::Probing { .. } | State::Loaded | State::Checking | State::Writing { .. } | State::Verifying => {
                if let Some(status) = self.status(&view) {
                    self.answered(now, status, out);
                }
                if let State::Ending { verified } = self.state
                    && prompted
                {
                    self.finish(now, verified, out);
                }
            }
            State::Ending { verified } if prompted => self.finish(now, verified, out),
            State::Idle
            | State::Stopping { .. }
            | State::Loading
            | State::Ending { .. }
            | State::Booting { .. }
            | State::Over => {}
        }
    }

    fn last_line(&self) -> &[u8] {
        let start = self.window.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        &self.window[start..]
    }

    /// The number that a command ended with, once it has.
    fn status(&self, view: &View) -> Option<String> {
        let found = self.answered.find(view, 0)?;
        found.captures.into_iter().next().map(|(_, digits)| String::from_utf8_lossy(&digits).into_owned())
    }

    /// The checksum in the answer to `crc32`.
    fn told_sum(&self) -> Option<u32> {
        let text = String::from_utf8_lossy(&self.window).into_owned();
        let (_, rest) = text.split_once("==> ")?;
        rest.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok())
    }

    /// What the board said to the command, without its echo and without the answer that we asked for.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.window).into_owned();
        let ours = |line: &str| line.contains(";echo ") || line.strip_prefix(ANSWER).is_some_and(|rest| rest.len() < 4);
        let said: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !ours(line)).collect();
        let last = said[said.len().saturating_sub(2)..].join(" / ");
        let some: String = last.chars().take(SAID_LETTERS).collect();
        if some.is_empty() { "it says nothing more".to_string() } else { format!("it says {some:?}") }
    }

    /// A command has ended.
    fn answered(&mut self, now: Millis, status: String, out: &mut Vec<Output>) {
        let well = status == "0";
        match self.state {
            State::Probing { .. } => self.load(now, out),
            State::Loaded => self.type_line(now, "crc32 {load} {size}", COMMAND_MS, State::Checking, out),
            State::Checking => match self.told_sum() {
                Some(sum) if sum == self.sum => self.write(now, 0, out),
                _ if self.loads < LOADS_MAX => {
                    out.push(Output::Note("the image arrived damaged, and is sent again".into()));
                    self.load(now, out);
                }
                Some(sum) => {
                    let text = format!(
                        "the image arrives damaged: its checksum is {:08x}, the board's {sum:08x}; nothing was erased",
                        self.sum
                    );
                    self.fail(Failure::new(Whose::Wiring, text), out);
                }
                None => {
                    let text = format!("crc32 gave no checksum; nothing was erased: {}", self.said());
                    self.fail(Failure::new(Whose::Board, text), out);
                }
            },
            State::Writing { command } if well => self.write(now, command + 1, out),
            State::Writing { command } => {
                let line = self.settings.uboot.write.get(command).map(|line| self.expanded(line)).unwrap_or_default();
                let text = format!("the board could not do {line:?} (status {status}): {}", self.said());
                self.fail(Failure::new(Whose::Board, text), out);
            }
            State::Verifying => match self.told_sum() {
                Some(sum) if sum == self.sum => {
                    let length = self.image.len() as u64;
                    out.push(Output::Progress(Progress { phase: Phase::Verify, done: length, of: length }));
                    self.end(now, true);
                }
                Some(sum) => {
                    let text = format!(
                        "what was written differs: its checksum is {:08x}, that of the place {sum:08x}",
                        self.sum
                    );
                    self.fail(Failure::new(Whose::Board, text), out);
                }
                None => {
                    let text = format!("crc32 gave no checksum of the place: {}", self.said());
                    self.fail(Failure::new(Whose::Board, text), out);
                }
            },
            _ => {}
        }
    }

    /// The transfer goes on.
    fn sending(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        let Some(sender) = &mut self.sender else { return self.fail(Failure::bug("sending: nothing is sent"), out) };
        let mut said = Vec::new();
        sender.handle(now, input, &mut said);
        self.deadline = sender.deadline();
        for output in said {
            match output {
                Output::Done(_) => {
                    self.window.clear();
                    // The last acknowledgement may come together with what the loader says then.
                    if let Input::Bytes(bytes) = input {
                        self.window.extend_from_slice(bytes);
                    }
                    self.state = State::Loaded;
                    self.deadline = Some(now + READY_MS);
                }
                Output::Failed(failure) => self.fail(failure, out),
                output => out.push(output),
            }
        }
    }

    fn late(&mut self, now: Millis, out: &mut Vec<Output>) {
        if let Some((line, within, tries)) = self.typed.take() {
            if tries < TYPED_MAX {
                self.type_bytes([INTERRUPT].to_vec(), out);
                return self.type_once(now, line, within, tries + 1, out);
            }
            // Nothing has been changed yet, and a console that hears nothing hears again after a reset.
            if matches!(self.state, State::Probing { .. } | State::Asking) && self.entries < ENTRIES_MAX {
                return self.enter(out);
            }
            let text = format!("what is typed does not come back as it was: {line:?}; {}", self.said());
            return self.fail(Failure::new(Whose::Wiring, text), out);
        }
        match self.state {
            State::Starting { .. } if self.entries < ENTRIES_MAX => self.enter(out),
            State::Starting { .. } => {
                let failure = if self.heard {
                    Failure::new(
                        Whose::Board,
                        format!("no countdown and no prompt of U-Boot was seen: {}", self.said()),
                    )
                } else {
                    Failure::new(Whose::Wiring, "nothing came from the console: no power, no TX, or another baud rate")
                };
                self.fail(failure, out);
            }
            State::Stopping { until, .. } if now < until => {
                self.stop(out, true);
                self.deadline = Some(now + STOP_AGAIN_MS);
            }
            // That countdown was one of before.
            State::Stopping { entered: false, .. } => {
                self.state = State::Starting { entered: false };
                self.deadline = None;
            }
            State::Stopping { .. } if self.entries < ENTRIES_MAX => self.enter(out),
            State::Stopping { .. } => {
                let text =
                    format!("the countdown could not be stopped with {:?}: {}", self.settings.uboot.stop, self.said());
                self.fail(Failure::new(Whose::Wiring, text), out);
            }
            State::Probing { tries } if tries < PROBES_MAX => {
                self.type_bytes([INTERRUPT].to_vec(), out);
                self.probe(now, tries + 1, out);
            }
            State::Probing { .. } => {
                let text = format!("the prompt answers no command, or its shell knows no `$?`: {}", self.said());
                self.fail(Failure::new(Whose::Board, text), out);
            }
            State::Loading => self.sending(now, Input::Tick, out),
            // It has all, or thinks so; its answer came while it still belonged to the transfer.
            State::Loaded => self.type_line(now, "crc32 {load} {size}", COMMAND_MS, State::Checking, out),
            State::Asking if self.loads < LOADS_MAX => {
                self.type_bytes([INTERRUPT].to_vec(), out);
                self.load(now, out);
            }
            // An answer that was changed on the way is given again; what changes the board is not done again.
            State::Checking | State::Verifying if self.sums < SUMS_MAX => {
                self.sums += 1;
                self.type_bytes([INTERRUPT].to_vec(), out);
                let command =
                    if self.state == State::Checking { "crc32 {load} {size}" } else { "crc32 {target} {size}" };
                self.type_line(now, command, COMMAND_MS, self.state, out);
            }
            State::Asking | State::Checking | State::Writing { .. } | State::Verifying => {
                let text = format!("no answer from U-Boot: {}", self.said());
                self.fail(Failure::new(Whose::Board, text), out);
            }
            // All is done, whatever became of the prompt.
            State::Ending { verified } => self.finish(now, verified, out),
            State::Booting { .. } | State::Idle | State::Over => {}
        }
    }
}

impl Flasher for Uboot {
    fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Begin if self.state == State::Idle => self.enter(out),
            Input::Entered => match self.state {
                State::Starting { entered: false } => {
                    self.state = State::Starting { entered: true };
                    self.deadline = Some(now + COUNTDOWN_MS);
                    self.nudge = Some(now + NUDGE_MS);
                }
                // Stopping goes on, and gives a new prompt.
                State::Stopping { entered: false, .. } => {
                    self.state = State::Stopping { until: now + PROMPT_MS, entered: true };
                }
                _ => {}
            },
            Input::Bytes(bytes) => self.bytes(now, bytes, out),
            Input::Tick => {
                if self.deadline.is_some_and(|deadline| deadline <= now) {
                    self.late(now, out);
                } else if self.nudge.is_some_and(|nudge| nudge <= now) {
                    self.nudge = Some(now + NUDGE_MS);
                    // What was said before stays, for people.
                    out.push(Output::Type([INTERRUPT].to_vec()));
                }
            }
            Input::Begin | Input::Transferred(_) => {}
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline.into_iter().chain(self.nudge).min()
    }
}

/// CRC-32 as U-Boot's `crc32` and zip have it: polynomial 0xEDB88320, reflected, inverted at both ends.
pub fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |sum, byte| (sum >> 8) ^ TABLE[usize::from(sum as u8 ^ byte)])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut sum = index as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { (sum >> 1) ^ 0xedb8_8320 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
}
