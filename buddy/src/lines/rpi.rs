//! A Raspberry Pi's own GPIOs by their registers, over rppal: levels, pulls, pulses and alternate functions.
//!
//! No file of the kernel's is of such a line: nothing keeps another program from moving it, and nothing lets it go when a process dies.
//! The file that owner and guard give each other says which lines it is of, and what each is at 1. Edges come by the kernel's chip.

use super::{Group, Inputs, Kernel, Lines, PI};
use gpiocdev::chip::{Chip, chips};
use rppal::gpio::{Bias as Pull, Gpio, Mode, OutputPin};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use sai_core::bench::{Bias, Drive, Line, Pin, Use, Wire};
use sai_core::ordered::Map;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};

/// What the kernel's driver of these GPIOs has in the label of its chip, on all models.
const LABEL: &str = "pinctrl-";
/// Bytes of a list of lines at most.
const LIST_BYTES: u64 = 4096;

thread_local! {
    /// Pins that make pulses, each by a thread that ends with it. One thread moves all lines of a process.
    static PULSING: RefCell<Map<u8, OutputPin>> = const { RefCell::new(Map::new()) };
}

/// The GPIOs.
#[derive(Debug)]
pub(super) struct Registers {
    gpio: Gpio,
}

/// What a line of a list is at 1.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At1 {
    High,
    Pulses(f64, f64),
    Function(Mode),
}

fn gpio() -> io::Result<Gpio> {
    Gpio::new().map_err(|error| io::Error::other(format!("the registers of the GPIOs cannot be had: {error}")))
}

fn number(line: &Line) -> Option<u8> {
    match &line.wire {
        Wire::Gpio(_, Pin::Offset(number)) => u8::try_from(*number).ok(),
        Wire::Gpio(_, Pin::Name(_)) | Wire::Signal(..) | Wire::UsbPort(_) => None,
    }
}

/// The list of a group: a line of text for each of its lines.
fn list(group: &Group) -> String {
    let mut text = String::new();
    for line in &group.lines {
        let number = number(line).unwrap_or(u8::MAX);
        let at_1 = match line.use_as {
            Use::Output { drive: Drive::Pulses { hertz, percent }, .. } => format!("pulses {hertz} {percent}"),
            Use::Output { drive: Drive::Function(function), .. } => format!("alt {function}"),
            Use::Output { .. } | Use::Input { .. } => "high".to_string(),
        };
        text.push_str(&format!("{number} {at_1}\n"));
    }
    text
}

/// The lines of a list. What is none is an error: it may come from a process of another version.
fn read_list(text: &str) -> io::Result<Vec<(u8, At1)>> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "a list of lines that is none");
    let one = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let at_1 = match words.get(1..)? {
            ["high"] => At1::High,
            ["pulses", hertz, percent] => {
                At1::Pulses(hertz.parse::<u32>().ok()?.into(), f64::from(percent.parse::<u8>().ok()?) / 100.0)
            }
            ["alt", function] => At1::Function(match *function {
                "0" => Mode::Alt0,
                "1" => Mode::Alt1,
                "2" => Mode::Alt2,
                "3" => Mode::Alt3,
                "4" => Mode::Alt4,
                "5" => Mode::Alt5,
                _ => return None,
            }),
            _ => return None,
        };
        Some((words.first()?.parse().ok()?, at_1))
    };
    text.lines().map(|line| one(line).ok_or_else(strange)).collect()
}

/// Sets lines of a file by register.
pub(super) fn set(file: BorrowedFd<'_>, mask: u64, levels: u64) -> io::Result<()> {
    let file = File::from(file.try_clone_to_owned()?);
    seek(&file, SeekFrom::Start(0))?;
    let mut text = String::new();
    file.take(LIST_BYTES).read_to_string(&mut text)?;
    let gpio = gpio()?;
    PULSING.with_borrow_mut(|pulsing| {
        for (place, (number, at_1)) in read_list(&text)?.into_iter().enumerate() {
            if mask >> place & 1 == 1 {
                set_one(&gpio, pulsing, number, at_1, levels >> place & 1 == 1).map_err(io::Error::other)?;
            }
        }
        Ok(())
    })
}

fn set_one(
    gpio: &Gpio,
    pulsing: &mut Map<u8, OutputPin>,
    number: u8,
    at_1: At1,
    level: bool,
) -> Result<(), rppal::gpio::Error> {
    // A pin that is taken cannot be had again.
    if let Some(mut before) = pulsing.remove(&number) {
        before.clear_pwm()?;
    }
    let pin = gpio.get(number)?;
    // The level is there before the pin is driven, and stays when nobody has it any more.
    match at_1 {
        At1::Function(mode) if level => pin.into_io(mode).set_reset_on_drop(false),
        At1::Function(_) => pin.into_input().set_reset_on_drop(false),
        At1::Pulses(hertz, part) if level => {
            let mut pin = pin.into_output_low();
            pin.set_reset_on_drop(false);
            pin.set_pwm_frequency(hertz, part)?;
            pulsing.insert(number, pin);
        }
        At1::High if level => pin.into_output_high().set_reset_on_drop(false),
        At1::High | At1::Pulses(..) => pin.into_output_low().set_reset_on_drop(false),
    }
    Ok(())
}

impl Registers {
    /// Those of this machine.
    ///
    /// # Errors
    /// It is no Raspberry Pi, or its registers are not ours to move.
    pub fn new() -> io::Result<Registers> {
        Ok(Registers { gpio: gpio()? })
    }

    /// The kernel's chip of the same pins.
    fn kernel(&self) -> io::Result<Kernel> {
        let of_pi = |path: &std::path::PathBuf| {
            Chip::from_path(path).and_then(|chip| chip.info()).is_ok_and(|info| info.label.starts_with(LABEL))
        };
        let path = chips().map_err(io::Error::other)?.into_iter().find(of_pi);
        let path =
            path.ok_or_else(|| io::Error::other(format!("no GPIO chip has a label that begins with {LABEL}")))?;
        Ok(Kernel { path })
    }
}

impl Lines for Registers {
    fn drive(&self, group: &Group) -> io::Result<(&'static str, OwnedFd)> {
        let memory = memfd_create("sai-lines", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(memory);
        file.write_all(list(group).as_bytes())?;
        let memory = OwnedFd::from(file);
        set(std::os::fd::AsFd::as_fd(&memory), group.mask(), group.safe())?;
        Ok((PI, memory))
    }

    fn read(&self, group: &Group) -> io::Result<Box<dyn Inputs>> {
        let mut plain = group.clone();
        for line in &mut plain.lines {
            let (Some(number), Use::Input { bias, .. }) = (number(line), &mut line.use_as) else { continue };
            // Kernels before 5.5 pull none themselves.
            let mut pin = self.gpio.get(number).map_err(io::Error::other)?.into_input();
            pin.set_reset_on_drop(false);
            match std::mem::replace(bias, Bias::AsIs) {
                Bias::AsIs => {}
                Bias::Disabled => pin.set_bias(Pull::Off),
                Bias::PullUp => pin.set_bias(Pull::PullUp),
                Bias::PullDown => pin.set_bias(Pull::PullDown),
            }
        }
        self.kernel()?.read(&plain)
    }
}
