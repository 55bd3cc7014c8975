//! Command line → what `sai-buddy` is asked for: whether a bench is described well, which boards it has, and what is done at one.

#![forbid(unsafe_code)]

#[path = "main/check.rs"]
mod check;
#[path = "main/colours.rs"]
mod colours;
#[path = "main/commands.rs"]
mod commands;
#[path = "main/flash.rs"]
mod flash;
#[path = "main/help.rs"]
mod help;
#[path = "main/percent.rs"]
mod percent;
#[path = "main/test.rs"]
mod test;

use self::colours::{Colours, Meaning};
use self::help::{HELP, USAGE};
use sai_buddy::ports::Places;
use sai_buddy::telling::tell_as;
use sai_buddy::visit::{Begins, Whose};
use sai_buddy::{describing, listing};
use sai_core::bench::Bench;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// An exit status, and what is said with it.
type Failure = (u8, String);

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(status) => ExitCode::from(status),
        Err((status, text)) => {
            let colours = Colours::of(&io::stderr());
            tell_as(&text, &|text| colours.show(Meaning::Bad, text));
            ExitCode::from(status)
        }
    }
}

fn usage(text: impl AsRef<str>) -> Failure {
    (USAGE, format!("{}; see --help", text.as_ref()))
}

fn run(mut words: Vec<OsString>) -> Result<u8, Failure> {
    // What comes after `--` is another's command line.
    let command = match words.iter().position(|word| word == "--") {
        Some(place) => words.split_off(place).into_iter().skip(1).collect(),
        None => Vec::new(),
    };
    let mut arguments = pico_args::Arguments::from_vec(words);
    if arguments.contains(["-h", "--help"]) {
        return print(HELP);
    }
    if arguments.contains(["-V", "--version"]) {
        return print(&format!("sai-buddy {}\n", env!("CARGO_PKG_VERSION")));
    }
    let given = commands::Given::new(&mut arguments, command)?;
    let words: Vec<OsString> = arguments.finish();
    if let Some(option) = words.iter().find(|word| word.to_string_lossy().starts_with('-')) {
        return Err(usage(format!("unknown option {}", option.to_string_lossy())));
    }
    match words.as_slice() {
        [command] if command == "guard" => given.guard(),
        [file, command, rest @ ..] => match (command.to_string_lossy().as_ref(), rest) {
            ("check", []) => given.check(file, None),
            ("check", [board]) => given.check(file, Some(board)),
            ("list", []) => {
                given.has_only("list", &["--json", "--run"])?;
                let bench = read(file)?;
                let whose = Whose {
                    file: file.clone(),
                    board: String::new(),
                    directory: given.directory(),
                    begins: Begins::Ourselves,
                };
                if given.json {
                    return print(&listing::json(&bench, &whose, &Places::default()));
                }
                print(&titled(&listing::table(&bench, &whose, &Places::default())))
            }
            ("check", _) => Err(usage("`check` expects one BOARD, or none")),
            ("list", _) => Err(usage("`list` takes no more words")),
            ("flash", [board, images @ ..]) if !images.is_empty() => given.flash(file, board, images),
            ("flash", _) => Err(usage("`flash` expects BOARD and [TARGET=]IMAGE...")),
            ("test", [board, saifile, configuration]) => given.test(file, [board, saifile, configuration]),
            ("test", _) => Err(usage("`test` expects BOARD SAIFILE CONFIGURATION")),
            (name, [board, rest @ ..]) if commands::NAMES.contains(&name) && rest.len() < 2 => {
                given.at_board(name, file, board, rest.first())
            }
            (name, _) if commands::NAMES.contains(&name) => Err(usage(format!("`{name}` expects BOARD"))),
            (name, _) => Err(usage(format!("unknown command `{name}`"))),
        },
        _ => Err(usage("expected FILE and a command")),
    }
}

/// The bench that a file describes.
fn read(file: &OsString) -> Result<Bench, Failure> {
    describing::read(file).map_err(|errors| (1, errors.join("\n  ")))
}

/// A table for people, in which a line that begins something has a colour of its own.
fn titled(table: &str) -> String {
    let colours = Colours::of(&io::stdout());
    let line = |line: &str| match line.starts_with(' ') {
        true => format!("{line}\n"),
        false => colours.show(Meaning::Title, line) + "\n",
    };
    table.lines().map(line).collect()
}

/// Prints what was asked for. A reader that has gone wanted no more of it.
fn print(text: &str) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err((1, format!("standard output: {error}"))),
        _ => Ok(0),
    }
}
