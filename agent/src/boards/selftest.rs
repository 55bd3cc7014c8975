//! Command line → a report of what was tried of this machine's hardware, for whoever has it and for who reads a bug.

use crate::{say, terminal};
use pico_args::Arguments;
use sai_buddy::ports::Places;
use sai_buddy::selftest::{Wanted, machine, run};
use sai_core::selftest::{ends, is_well, report};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// Something is not as it should be.
const FAILED: u8 = 1;
/// A command line is not understood.
const USAGE: u8 = 2;
/// The speed of a serial line unless it is said.
const BAUD: u32 = 115_200;

/// What `sai-agent selftest --help` says.
pub const HELP: &str = "\
sai-agent selftest - try the hardware of this machine, and print a report to attach to a bug

usage: sai-agent selftest [--gpio OUT,IN [--chip CHIP]] [--serial TTY [--baud N]] [--unplug] [--disk DIR] [--output FILE]

Each check says what it proves. What is not there is called so, and what needs a wire or a person is tried where that is said:

  --gpio OUT,IN  a wire leads from GPIO OUT to GPIO IN, and to nothing else. OUT is driven!
  --chip CHIP    their chip, by name or label [gpiochip0]
  --serial TTY   a wire leads from TX to RX of this serial line, and to nothing else
  --baud N       its speed [115200]
  --unplug       you will pull the plug of a serial adapter when asked to, and put it back
  --disk DIR     flush a few blocks to the disk that DIR is on
  --output FILE  write the report there, too

exit status:
  0  nothing is wrong, as far as it was tried
  1  something is
  2  a command line that is not understood

example: sai-agent selftest --gpio 17,27 --serial /dev/ttyUSB0 --unplug
";

/// Runs it.
pub fn command(words: Vec<OsString>) -> ExitCode {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        terminal::print(HELP);
        return ExitCode::SUCCESS;
    }
    let (wanted, output) = match given(Arguments::from_vec(words)) {
        Ok(given) => given,
        Err(why) => {
            say(&format!("{why}; see sai-agent selftest --help"));
            return ExitCode::from(USAGE);
        }
    };
    let places = Places::default();
    let checks = run(&wanted, &places, &mut say);
    let mut about = vec![("sai-agent", env!("CARGO_PKG_VERSION").to_owned())];
    about.extend(machine(&places));
    let text = report(&about, &checks);
    let written = output
        .map_or(Ok(()), |file| std::fs::write(&file, &text).map_err(|error| format!("{}: {error}", file.display())));
    let delivered = terminal::deliver(text.as_bytes()).map_err(|error| format!("standard output: {error}"));
    match written.and(delivered) {
        Ok(()) if is_well(&checks) => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(FAILED),
        Err(why) => {
            say(&why);
            ExitCode::from(FAILED)
        }
    }
}

/// Reads a command line.
fn given(mut arguments: Arguments) -> Result<(Wanted, Option<PathBuf>), String> {
    let wrong = |error: pico_args::Error| error.to_string();
    let gpio = arguments.opt_value_from_fn("--gpio", pair).map_err(wrong)?;
    let chip = arguments.opt_value_from_str("--chip").map_err(wrong)?;
    let tty: Option<String> = arguments.opt_value_from_str("--serial").map_err(wrong)?;
    let baud = arguments.opt_value_from_fn("--baud", speed).map_err(wrong)?;
    let unplug = arguments.contains("--unplug");
    let path = |text: &std::ffi::OsStr| Ok::<_, Infallible>(PathBuf::from(text));
    let disk = arguments.opt_value_from_os_str("--disk", path).map_err(wrong)?;
    let output = arguments.opt_value_from_os_str("--output", path).map_err(wrong)?;
    if let Some(left) = arguments.finish().first() {
        return Err(format!("{} is not understood", left.to_string_lossy()));
    }
    if chip.is_some() && gpio.is_none() {
        return Err("--chip says whose GPIOs --gpio means".to_owned());
    }
    if baud.is_some() && tty.is_none() {
        return Err("--baud says how fast --serial is".to_owned());
    }
    let serial = tty.map(|tty| (tty, baud.unwrap_or(BAUD)));
    Ok((Wanted { gpio, chip, serial, unplug, disk }, output))
}

fn pair(text: &str) -> Result<(u32, u32), &'static str> {
    ends(text).ok_or("expected the numbers of two GPIOs, as 17,27")
}

fn speed(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|baud| *baud > 0).ok_or("expected bits a second, as 115200")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<(Wanted, Option<PathBuf>), String> {
        given(Arguments::from_vec(words.split_whitespace().map(OsString::from).collect()))
    }

    #[test]
    fn wires_are_believed_where_they_are_said() {
        assert!(read("").is_ok_and(|(wanted, output)| wanted.gpio.is_none() && !wanted.unplug && output.is_none()));
        let (wanted, output) =
            read("--gpio 17,27 --serial /dev/ttyUSB0 --unplug --disk / --output x").expect("all of it");
        assert_eq!((wanted.gpio, wanted.serial), (Some((17, 27)), Some(("/dev/ttyUSB0".to_owned(), BAUD))));
        assert!(wanted.unplug && output.is_some());
        for wrong in [
            "--gpio 17",
            "--gpio 17,17",
            "--gpio a,b",
            "--chip x",
            "--baud 9600",
            "--serial x --baud 0",
            "--loud",
            "all",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
