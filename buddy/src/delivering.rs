//! Images for places of a board → the images there, brought by its owner's tty, or whose fault it is that they are not.
//!
//! All that can be told from lengths is told before anything is erased. Who is killed in the middle leaves a mode that nobody knows.

#[cfg(not(feature = "usb"))]
use crate::describing;
#[cfg(feature = "usb")]
use crate::flash::dfu::{self, Dfu};
#[cfg(feature = "usb")]
use crate::flash::fastboot::{self, Fastboot};
use crate::flash::stk500::{self, Stk500};
use crate::flash::stm32::{self, Stm32};
use crate::flash::uboot::{self, Uboot};
use crate::flash::{self, Failure, IMAGE_BYTES, Output, Whose};
use crate::flashing::{Event, Port, flash};
use crate::frames::{Asked, FAILED, Heard};
use crate::stop;
use crate::tool;
#[cfg(feature = "usb")]
use crate::usb;
use crate::visit::{Passed, Visit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use sai_core::bench::{AtUsb, Board, Console, Flash, Flasher, Target};
use sai_core::trying::Delivered;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes of a board that may have waited in its tty while it was reset: more than a pty and its reader hold. What comes after so
/// many is of a board that never stops talking.
const BEFORE_BYTES: usize = 64 << 10;

/// An image, and where it belongs.
#[derive(Clone, Debug)]
pub struct Image {
    /// What people call it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Its place.
    pub target: Target,
    bytes: Vec<u8>,
}

impl Image {
    /// Reads one: no more of it than any board takes.
    ///
    /// # Errors
    /// It cannot be read, or cannot fit.
    pub fn read(path: &Path, target: &Target) -> Result<Image, Failure> {
        let named = |text: String| Failure { whose: Whose::Image, text: format!("{}: {text}", path.display()) };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| named(error.to_string()))?;
        let found = file.metadata().map_err(|error| named(error.to_string()))?;
        let fits = |length: u64| flash::check_length(length, target.size).map_err(|failure| named(failure.text));
        if found.is_file() {
            // One that is far too long is not read to find that out.
            fits(found.len())?;
        }
        file.take(IMAGE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| named(error.to_string()))?;
        fits(bytes.len() as u64)?;
        Ok(Image { name: path.display().to_string(), path: path.to_path_buf(), target: target.clone(), bytes })
    }

    /// The same by another name, for people.
    #[must_use]
    pub fn called(self, name: &str) -> Image {
        Image { name: name.to_string(), ..self }
    }
}

/// The board's tty through its owner.
struct Through<'a> {
    visit: &'a Visit,
    tty: File,
    mode: Option<&'a str>,
    /// Whether it is where it was wanted, and how many bytes that are there already are told before that: the owner's word and
    /// the board's bytes come on two ways, and what the board said before its reset is to be told before the reset.
    entered: Option<usize>,
    pace: Duration,
    /// When there is no more time.
    ends: Instant,
    /// Bytes of the board that were taken, up to its loader's last one.
    taken: u64,
}

impl Through<'_> {
    /// Waits until the tty takes more: a board that holds us back may do so for ever.
    fn until_it_takes(&self) -> io::Result<()> {
        let left = self.ends.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = vec![PollFd::new(&self.tty, PollFlags::OUT)];
        fds.extend(self.visit.stop().file().map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)));
        match poll(&mut fds, Some(&time)) {
            Ok(0) => Err(io::Error::new(ErrorKind::TimedOut, "the board takes no bytes")),
            Ok(_) => self.visit.stop().check(),
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Port for Through<'_> {
    fn wait(&mut self, buffer: &mut [u8], within: Duration) -> io::Result<Event> {
        let began = Instant::now();
        loop {
            if let Some(left) = self.entered {
                let most = left.min(buffer.len());
                match buffer.get_mut(..most).map_or(Ok(0), |part| self.tty.read(part)) {
                    Ok(count) if count > 0 => {
                        self.entered = Some(left - count);
                        self.taken += count as u64;
                        return Ok(Event::Bytes(count));
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {
                        self.entered = None;
                        return Ok(Event::Entered);
                    }
                }
            }
            match self.visit.hear(Duration::ZERO)? {
                Some((Heard::Told(told), _)) => match (told.t.as_str(), told.to.as_deref()) {
                    ("refused" | "failed", _) => return Err(io::Error::other(told.why.unwrap_or_default())),
                    ("granted", Some("mode")) => self.entered = Some(BEFORE_BYTES),
                    _ => {}
                },
                Some(_) => {}
                None => {
                    let left = within.saturating_sub(began.elapsed());
                    let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
                    let mut fds = vec![PollFd::new(&self.tty, PollFlags::IN), PollFd::new(self.visit, PollFlags::IN)];
                    fds.extend(self.visit.stop().file().map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)));
                    match poll(&mut fds, Some(&time)) {
                        Err(rustix::io::Errno::INTR) => continue,
                        other => other?,
                    };
                    let mut happened = fds.iter().map(|fd| !fd.revents().is_empty());
                    let (tty, others) = (happened.next() == Some(true), happened.any(|happened| happened));
                    drop(fds);
                    if tty {
                        self.visit.stop().check()?;
                        let count = match self.tty.read(buffer) {
                            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                            read => read?,
                        };
                        self.taken += count as u64;
                        return Ok(Event::Bytes(count));
                    }
                    if !others && began.elapsed() >= within {
                        return Ok(Event::Nothing);
                    }
                }
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.tty.write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.until_it_takes()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn type_slowly(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.send(&[*byte])?;
            if self.visit.stop().wait(self.pace) {
                return Err(stop::given_up());
            }
        }
        Ok(())
    }

    fn enter(&mut self) -> io::Result<()> {
        match self.mode {
            Some(mode) => self.visit.ask(&Asked { name: Some(mode.into()), ..Asked::new("mode") }),
            None => {
                self.entered = Some(0);
                Ok(())
            }
        }
    }

    fn beyond(&mut self, count: usize) {
        self.taken = self.taken.saturating_sub(count as u64);
    }
}

fn gone(error: io::Error) -> Failure {
    Failure { whose: Whose::Wiring, text: error.to_string() }
}

/// Why flashing failed: whatever the loader was taken for, a console that is not there says nothing.
fn why(visit: &Visit, console: Option<&Console>, failure: Failure) -> Failure {
    let told = visit.answer(&Asked::new("status")).ok().and_then(|(told, _)| told.status);
    let gone = told.into_iter().flat_map(|status| status.consoles).find(|other| {
        let is_meant = console.is_some_and(|console| console.name == other.name);
        is_meant && !other.there
    });
    match gone {
        Some(gone) => {
            let text = format!("console {} was unplugged meanwhile: {}", gone.name, failure.text);
            Failure { whose: Whose::Wiring, text }
        }
        None => failure,
    }
}

/// What is said while an image gets to its place.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// By the machine that speaks with its loader.
    Loader(&'a Output),
    /// What a tool prints, on either of its outputs.
    Tool(&'a [u8]),
}

/// Brings images to their places, each in turn, and the board into the mode that follows. Whether all were found to be there.
///
/// # Errors
/// Why one is not.
pub fn deliver(
    visit: &Visit,
    board: &Board,
    how: &Flash,
    images: Vec<Image>,
    tell: &mut dyn FnMut(&Image, Said<'_>),
) -> Result<bool, Failure> {
    let delivered = bring(visit, board, how, images, tell)?;
    if let Some(mode) = &how.then {
        let asked = Asked { name: Some(mode.clone()), ..Asked::new("mode") };
        visit.moves(&asked, &mut |_| {}).map_err(gone)?;
    }
    Ok(delivered.verified)
}

/// The same, and the board stays as its loader leaves it.
///
/// # Errors
/// Why one is not there.
pub fn bring(
    visit: &Visit,
    board: &Board,
    how: &Flash,
    images: Vec<Image>,
    tell: &mut dyn FnMut(&Image, Said<'_>),
) -> Result<Delivered, Failure> {
    let limit = Duration::from_secs(how.timeout_s);
    let began = Instant::now();
    let console = how.console.as_deref().and_then(|name| board.console(name));
    let baud = how.baud.or(console.map(|console| console.settings.baud)).unwrap_or(0);
    // Those that cannot fit are refused here, all before the first is begun.
    let mut jobs: Vec<(Image, Option<Box<dyn flash::Flasher>>)> = Vec::new();
    for image in images {
        let machine = machine(how, baud, &image)?;
        jobs.push((image, machine));
    }
    visit.answer(&Asked { name: Some("flash".into()), ..Asked::new("claim") }).map_err(gone)?;
    let (mut verified, mut said) = (true, None);
    for (image, machine) in jobs {
        let left = limit.saturating_sub(began.elapsed());
        verified &= match (machine, how.with.at_usb()) {
            (Some(mut machine), Some(at)) => {
                said = None;
                let mode = how.mode.as_deref();
                through_usb(visit, at, mode, machine.as_mut(), left, &mut |output| tell(&image, Said::Loader(output)))?
            }
            (Some(mut machine), None) => {
                let asked = Asked {
                    console: how.console.clone(),
                    baud: Some(baud),
                    // ST's loaders talk like this whatever the board says itself.
                    even: Some(how.with == Flasher::Stm32),
                    ..Asked::new("tool")
                };
                let (told, mut files) = visit.answer(&asked).map_err(gone)?;
                let tty = files.pop().ok_or_else(|| gone(io::Error::other("the owner gives no tty")))?;
                let pace = Duration::from_millis(console.map_or(0, |console: &Console| console.pace_ms));
                fcntl_setfl(&tty, OFlags::RDWR | OFlags::NONBLOCK).map_err(|error| gone(error.into()))?;
                let (tty, mode, ends) = (File::from(tty), how.mode.as_deref(), Instant::now() + left);
                let mut port = Through { visit, tty, mode, entered: None, pace, ends, taken: 0 };
                let flashed =
                    flash(machine.as_mut(), &mut port, left, &mut |output| tell(&image, Said::Loader(output)))
                        .map_err(|failure| why(visit, console, failure));
                // Whoever has the board goes on with it, and so has its tty again, however this ended.
                let failed = flashed.is_err().then(|| FAILED.to_string());
                let ended = visit.answer(&Asked { name: failed, ..Asked::new("tool-ended") });
                let flashed = flashed?;
                ended.map_err(gone)?;
                let named = console.map(|console| console.name.clone());
                said = named.zip(told.offset.map(|offset| offset + port.taken));
                flashed.verified
            }
            (None, _) => {
                said = None;
                if let Some(mode) = &how.mode {
                    let asked = Asked { name: Some(mode.clone()), ..Asked::new("mode") };
                    let moved = visit.moves(&asked, &mut |passed| {
                        if let Passed::Note(note) = passed {
                            tell(&image, Said::Loader(&Output::Note(note.to_string())));
                        }
                    });
                    moved.map_err(gone)?;
                }
                let words = words(how, baud, &image);
                let mut says = |bytes: &[u8]| tell(&image, Said::Tool(bytes));
                let ended =
                    tool::run_held(visit, how.console.as_deref(), &words, left, Some(&mut says)).map_err(gone)?;
                match ended.status {
                    Some(status) if status.success() => how.with.verifies(),
                    Some(status) => {
                        let text = format!("the tool ended with {status}");
                        return Err(Failure { whose: Whose::Board, text });
                    }
                    None => {
                        let text = format!("flashing took longer than {} seconds", how.timeout_s);
                        return Err(Failure { whose: Whose::Board, text });
                    }
                }
            }
        };
    }
    Ok(Delivered { verified, said })
}

/// What speaks to the board's loader, unless a tool does.
fn machine(how: &Flash, baud: u32, image: &Image) -> Result<Option<Box<dyn flash::Flasher>>, Failure> {
    let (address, room, chip) = (image.target.address, image.target.size, how.chip_id);
    let bytes = image.bytes.clone();
    Ok(Some(match &how.with {
        Flasher::Stm32 => {
            let settings = stm32::Settings { baud, address, room, chip, all: false, go: how.then.is_none() };
            Box::new(Stm32::new(settings, bytes)?)
        }
        Flasher::Optiboot => {
            let settings = stk500::Settings { baud, address, room, chip, go: how.then.is_none() };
            Box::new(Stk500::new(settings, bytes)?)
        }
        Flasher::Uboot(uboot) => {
            let name = image.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let settings = uboot::Settings { uboot: uboot.clone(), target: image.target.clone(), name };
            Box::new(Uboot::new(settings, bytes)?)
        }
        Flasher::Dfu(_) | Flasher::Fastboot { .. } => usb_machine(how, image)?,
        Flasher::Tool { .. } => return Ok(None),
    }))
}

/// What speaks to a loader that is a USB device.
#[cfg(feature = "usb")]
fn usb_machine(how: &Flash, image: &Image) -> Result<Box<dyn flash::Flasher>, Failure> {
    let (room, bytes, go) = (image.target.size, image.bytes.clone(), how.then.is_none());
    Ok(match &how.with {
        Flasher::Dfu(at) => {
            let place = image.target.alternate.clone();
            let place = place.ok_or_else(|| Failure::bug("a target of DFU without a setting"))?;
            Box::new(Dfu::new(dfu::Settings { place, room, verify: at.verifies, go }, bytes)?)
        }
        Flasher::Fastboot { at, expects } => {
            let (partition, expects) = (image.target.place.clone(), expects.clone());
            let settings = fastboot::Settings { partition, room, expects, verifies: at.verifies, go };
            Box::new(Fastboot::new(settings, bytes)?)
        }
        _ => return Err(Failure::bug("a loader that is no USB device")),
    })
}

/// Carries a machine out at the device at a USB port: whether the image was found to be there.
#[cfg(feature = "usb")]
fn through_usb(
    visit: &Visit,
    at: &AtUsb,
    mode: Option<&str>,
    machine: &mut dyn flash::Flasher,
    limit: Duration,
    tell: &mut dyn FnMut(&Output),
) -> Result<bool, Failure> {
    let enters = || match mode {
        Some(mode) => visit.moves(&Asked { name: Some(mode.into()), ..Asked::new("mode") }, &mut |_| {}),
        None => Ok(()),
    };
    let mut port = usb::AtPort::new(at.clone(), visit.stop().clone(), &enters);
    flash(machine, &mut port, limit, tell).map(|flashed| flashed.verified)
}

/// A file that asks for this is refused where it is read. So the machines, 25 KB, are not part of what is built without the edge.
#[cfg(not(feature = "usb"))]
fn usb_machine(_: &Flash, _: &Image) -> Result<Box<dyn flash::Flasher>, Failure> {
    Err(Failure::new(Whose::Tool, describing::WITHOUT_USB))
}

/// See the one above.
#[cfg(not(feature = "usb"))]
fn through_usb(
    _: &Visit,
    _: &AtUsb,
    _: Option<&str>,
    _: &mut dyn flash::Flasher,
    _: Duration,
    _: &mut dyn FnMut(&Output),
) -> Result<bool, Failure> {
    Err(Failure::new(Whose::Tool, describing::WITHOUT_USB))
}

/// The words of a tool's command, with what is known here in them; the tty is put in where it is opened.
fn words(how: &Flash, baud: u32, image: &Image) -> Vec<OsString> {
    let Flasher::Tool { argv, .. } = &how.with else { return Vec::new() };
    let with = |word: &String| -> OsString {
        if word == "{image}" {
            return image.path.clone().into_os_string();
        }
        // What was put in is not looked at again.
        let mut whole = OsString::new();
        let mut rest = word.as_str();
        while let Some(place) = rest.find('{') {
            let (before, from) = rest.split_at(place);
            whole.push(before);
            let known: [(&str, OsString); 3] = [
                ("{image}", image.path.clone().into_os_string()),
                ("{baud}", baud.to_string().into()),
                ("{target}", image.target.place.clone().into()),
            ];
            match known.into_iter().find(|(name, _)| from.starts_with(name)) {
                Some((name, value)) => {
                    whole.push(value);
                    rest = from.get(name.len()..).unwrap_or_default();
                }
                None => {
                    whole.push("{");
                    rest = from.get(1..).unwrap_or_default();
                }
            }
        }
        whole.push(rest);
        whole
    };
    argv.iter().map(with).collect()
}
