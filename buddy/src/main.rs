//! Command line → what `sai-buddy` is asked for: whether a bench is described well, and which boards it has.

#![forbid(unsafe_code)]

use sai_buddy::listing;
use sai_core::bench::{self, Bench};
use sai_core::escape;
use sai_core::json::FILE_MAX;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Looks after the boards that hang off this machine, as a boards.json describes them.

usage: sai-buddy FILE check
       sai-buddy FILE list [--json]

  check   say what is wrong with FILE, by line and column
  list    name its boards and rigs: type, consoles, how each is flashed and powered, its modes and sequences

  --json      for programs
  --help      this text
  --version   the version

Exit status: 0 when all is well, 1 when FILE is wrong or cannot be read, 2 when the command line is.
";

/// The command line was wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match run(pico_args::Arguments::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, text)) => {
            let text = format!("sai-buddy: {}\n", escape::lines(text.trim_end()));
            // There is nobody to tell that nobody can be told.
            let _ = io::stderr().write_all(text.as_bytes());
            ExitCode::from(status)
        }
    }
}

fn run(mut arguments: pico_args::Arguments) -> Result<(), (u8, String)> {
    if arguments.contains(["-h", "--help"]) {
        return print(HELP);
    }
    if arguments.contains(["-V", "--version"]) {
        return print(&format!("sai-buddy {}\n", env!("CARGO_PKG_VERSION")));
    }
    let json = arguments.contains("--json");
    let usage = |text: String| (USAGE, format!("{text}; see --help"));
    let words: Vec<OsString> = arguments.finish();
    if let Some(option) = words.iter().find(|word| word.to_string_lossy().starts_with('-')) {
        return Err(usage(format!("unknown option {}", option.to_string_lossy())));
    }
    let [file, command] = words.as_slice() else {
        return Err(usage("expected FILE and a command".to_string()));
    };
    let command = command.to_string_lossy();
    match command.as_ref() {
        "check" if json => Err(usage("`check` has no --json".to_string())),
        "check" => {
            let bench = read(file)?;
            print(&format!("{}: {}\n", escape::line(&file.to_string_lossy()), listing::count(&bench)))
        }
        "list" => {
            let bench = read(file)?;
            print(&if json { listing::json(&bench) } else { listing::table(&bench) })
        }
        _ => Err(usage(format!("unknown command `{command}`: expected check or list"))),
    }
}

/// The bench that a file describes.
fn read(file: &OsString) -> Result<Bench, (u8, String)> {
    let name = file.to_string_lossy();
    let bytes = contents(&PathBuf::from(file)).map_err(|error| (1, format!("{name}: {error}")))?;
    bench::read(&name, &bytes).map_err(|errors| (1, errors.join("\n  ")))
}

/// What is in a file, and no more of it than is needed to tell that it is too large.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Prints what was asked for. A reader that has gone wanted no more of it.
fn print(text: &str) -> Result<(), (u8, String)> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err((1, format!("standard output: {error}"))),
        _ => Ok(()),
    }
}
