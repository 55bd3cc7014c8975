//! Command line → what `sai` is asked for, and an exit status.

#![forbid(unsafe_code)]

#[path = "main/help.rs"]
mod help;

use pico_args::Arguments;
use sai_agent::{pin, terminal};
use sai_client::acting::{self, Deed};
use sai_client::board::{self, Meant, words};
use sai_client::failure::Failure;
use sai_client::follow::{self, Wanted};
use sai_client::get;
use sai_client::login;
use sai_client::place::FINGERPRINT;
use sai_client::printing::Form;
use sai_client::run;
use sai_client::status;
use sai_client::telling::{colours, plain, tell};
use sai_core::join::Address;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

/// What there is to be asked, and how it is explained.
const WORDS: [(&str, &str); 9] = [
    ("login", help::LOGIN),
    ("logout", help::LOGOUT),
    ("status", help::STATUS),
    ("log", help::LOG),
    ("get", help::GET),
    ("cancel", help::CANCEL),
    ("rebuild", help::REBUILD),
    ("board", help::BOARD),
    ("run", help::RUN),
];

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let first = words.first().and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    let known = WORDS.iter().find(|(word, _)| *word == first);
    // A word alone that asks for help means that, wherever it stands.
    if words.iter().any(|word| word == "--help" || word == "-h") {
        terminal::print(known.map_or(help::OVERVIEW, |(_, text)| text));
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--version" || word == "-V") {
        terminal::print(&format!("sai {}\n", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let result = match known {
        Some((word, _)) => {
            words.remove(0);
            perform(word, Given { word, arguments: Arguments::from_vec(words) })
        }
        None => {
            let names: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
            let found = if first.is_empty() { String::new() } else { format!(", found {}", plain(&first)) };
            Err(Failure::usage(format!("expected one of {}{found}; see sai --help", names.join(", "))))
        }
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(Failure(status, why)) => {
            tell(&why);
            ExitCode::from(status)
        }
    }
}

/// What stands behind a word.
struct Given {
    word: &'static str,
    arguments: Arguments,
}

impl Given {
    fn usage(&self, why: &str) -> Failure {
        Failure::usage(format!("{why}; see sai {} --help", self.word))
    }

    fn has(&mut self, names: [&'static str; 2]) -> bool {
        self.arguments.contains(names)
    }

    fn json(&mut self) -> bool {
        self.arguments.contains("--json")
    }

    fn option<T>(&mut self, name: &'static str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, Failure> {
        let found = self.arguments.opt_value_from_fn(name, read);
        found.map_err(|error| self.usage(&format!("{name}: {}", plain(&error.to_string()))))
    }

    /// The words that are no options.
    fn rest(self) -> Result<(Vec<String>, Self), Failure> {
        let word = self.word;
        let given = Self { word, arguments: Arguments::from_vec(Vec::new()) };
        let mut words = Vec::new();
        let mut options = true;
        for found in self.arguments.finish() {
            match found.to_str() {
                // What stands behind it may begin with a dash.
                Some("--") if options => options = false,
                Some(text) if options && text.starts_with('-') => {
                    return Err(given.usage(&format!("there is no option {}", plain(text))));
                }
                Some(text) => words.push(text.to_owned()),
                None => return Err(given.usage(&format!("{} is no text", plain(&found.to_string_lossy())))),
            }
        }
        Ok((words, given))
    }

    fn nothing(self) -> Result<(), Failure> {
        let (words, given) = self.rest()?;
        match words.first() {
            Some(word) => Err(given.usage(&format!("{} is one word too many", plain(word)))),
            None => Ok(()),
        }
    }

    /// A job, and what follows it.
    fn job(self) -> Result<(u64, Vec<String>, Self), Failure> {
        let (mut words, given) = self.rest()?;
        if words.is_empty() {
            return Err(given.usage("expected a job's number"));
        }
        let first = words.remove(0);
        match number(&first) {
            Ok(job) => Ok((job, words, given)),
            Err(why) => Err(given.usage(&why)),
        }
    }

    fn only_job(self) -> Result<u64, Failure> {
        let (job, more, given) = self.job()?;
        match more.first() {
            Some(word) => Err(given.usage(&format!("{} is one word too many", plain(word)))),
            None => Ok(job),
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.filter(|number| *number > 0).ok_or_else(|| format!("expected a number, as 12, found {}", plain(text)))
}

fn attempt(text: &str) -> Result<u32, String> {
    number(text)?.try_into().map_err(|_| format!("expected an attempt, as 2, found {}", plain(text)))
}

fn fingerprint(text: &str) -> Result<[u8; 32], String> {
    pin::parse_fingerprint(text).map_err(|_| format!("expected {FINGERPRINT}"))
}

fn path(text: &OsStr) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("expected a path") } else { Ok(PathBuf::from(text)) }
}

fn perform(word: &str, mut given: Given) -> Result<u8, Failure> {
    match word {
        "login" => {
            let (json, pin) = (given.json(), given.option("--fingerprint", fingerprint)?);
            let (words, given) = given.rest()?;
            let [url] = words.as_slice() else {
                return Err(given.usage("expected the address of a master, as https://ci.example.org:4433"));
            };
            let address: Address =
                url.parse().map_err(|why: String| given.usage(&why.replace("wss://", "https://")))?;
            login::login(&address, pin, json).map(|()| 0)
        }
        "logout" => {
            given.nothing()?;
            login::logout().map(|()| 0)
        }
        "status" => {
            let json = given.json();
            given.nothing()?;
            status::status(&mut login::master()?, json).map(|()| 0)
        }
        "log" => {
            let (follow, raw, json) = (given.has(["-f", "--follow"]), given.arguments.contains("--raw"), given.json());
            let attempt = given.option("--attempt", attempt)?;
            let form = match (raw, json) {
                (true, true) => return Err(given.usage("expected --raw or --json, found both")),
                (true, false) => Form::Raw,
                (false, true) => Form::Json,
                (false, false) => Form::People,
            };
            let job = given.only_job()?;
            let wanted = Wanted { job, attempt, follow, form, coloured: form == Form::People && colours() };
            follow::log(&mut login::master()?, &wanted)
        }
        "get" => {
            let (force, json) = (given.arguments.contains("--force"), given.json());
            let directory = given.arguments.opt_value_from_os_str("--to", path);
            let directory = directory.map_err(|error| given.usage(&format!("--to: {error}")))?;
            let (job, names, _) = given.job()?;
            get::get(&mut login::master()?, &get::Wanted { job, names, directory, force, json }).map(|()| 0)
        }
        "board" => board(given),
        "run" => {
            let (dirty, json) = (given.arguments.contains("--dirty"), given.json());
            let repository = given.option("--repository", |text| Ok(text.to_owned()))?;
            let board = given.option("--board", |text| Ok(text.to_owned()))?;
            let artifacts = given.arguments.opt_value_from_os_str("--artifacts", path);
            let artifacts = artifacts.map_err(|error| given.usage(&format!("--artifacts: {error}")))?;
            let (configurations, _) = given.rest()?;
            let form = if json { Form::Json } else { Form::People };
            let (coloured, directory) = (!json && colours(), PathBuf::from("."));
            let wanted = run::Wanted { directory, configurations, board, repository, dirty, artifacts, form, coloured };
            run::run(&mut login::master()?, &wanted)
        }
        _ => {
            let (json, following) = (given.json(), word == "rebuild" && given.arguments.contains("--following"));
            let attempt = if word == "cancel" { given.option("--attempt", attempt)? } else { None };
            let deed = match (word, following) {
                ("cancel", _) => Deed::Cancel,
                (_, false) => Deed::Rebuild,
                (_, true) => Deed::RebuildFollowing,
            };
            let job = given.only_job()?;
            acting::act(&mut login::master()?, deed, job, attempt, json).map(|()| 0)
        }
    }
}

/// Milliseconds for which a pattern is waited for, where nobody says.
const WITHIN_MS: u64 = 30_000;

fn board(mut given: Given) -> Result<u8, Failure> {
    let (json, minutes) = (given.json(), given.option("--minutes", number)?);
    let within = given.option("--within", number)?;
    let console = given.option("--console", |name| Ok(name.to_owned()))?;
    let unverified = given.arguments.contains("--unverified");
    let (words, given) = given.rest()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["list"] = words.as_slice() {
        return board::list(&mut login::master()?, json).map(|()| 0);
    }
    let [word, meant, rest @ ..] = words.as_slice() else {
        return Err(given.usage("expected a word and a board, as console nucleo-f411"));
    };
    let meant = Meant::parse(meant).map_err(|why| given.usage(&why))?;
    let said = |t: &str| words::Said { t: t.to_owned(), console: console.clone(), ..words::Said::default() };
    let said = match (*word, rest) {
        ("lease", []) => {
            let lease = smol::block_on(board::lease(&mut login::master()?, &meant, minutes))?;
            terminal::print(&format!("{}\tjob {}\n", plain(&lease.board), lease.job));
            return Ok(0);
        }
        ("console", []) => {
            let (mut master, listener) = (login::master()?, login::master()?);
            let lease = smol::block_on(board::mine(&mut master, &meant))?;
            return board::console::console(&mut master, listener, lease, console);
        }
        ("join" | "record", []) => {
            let mut master = login::master()?;
            let (lease, person) = smol::block_on(board::theirs(&mut master, &meant))?;
            let (board, person) = (plain(&lease.board), plain(&person));
            tell(&format!("at {board} with {person}, who types (job {}); Ctrl-C leaves", lease.job));
            return board::console::hear(&mut master, &lease, console, *word == "record");
        }
        ("flash", images @ [_, ..]) => {
            return board::flash::flash(&mut login::master()?, &meant, images, unverified);
        }
        ("share" | "unshare", [person]) => {
            let shared = *word == "share";
            return smol::block_on(board::share(&mut login::master()?, &meant, person, shared)).map(|()| 0);
        }
        ("release", []) => said("release"),
        ("play" | "mode" | "power", [name]) => words::Said { name: Some((*name).to_owned()), ..said(word) },
        ("send", [text]) => {
            let text = escaped(text).map_err(|why| given.usage(&why))?;
            words::Said { text: Some(text), ..said("send") }
        }
        ("expect", [pattern]) => {
            let ms = within.map_or(WITHIN_MS, |seconds| seconds.saturating_mul(1000));
            words::Said { text: Some((*pattern).to_owned()), ms: Some(ms), ..said("expect") }
        }
        _ => return Err(given.usage(&format!("{} and {} words behind its board", plain(word), rest.len()))),
    };
    let mut master = login::master()?;
    let answer = smol::block_on(async {
        let lease = match board::mine(&mut master, &meant).await {
            Err(none) if *word == "release" => match board::give_up(&mut master, &meant).await? {
                Some(job) => {
                    tell(&format!("job {job} does not wait any more"));
                    return Ok(None);
                }
                None => return Err(none),
            },
            lease => lease?,
        };
        words::say(&mut master, &mut words::Speaker::new(lease)?, &said).await.map(Some)
    })?;
    if let Some(found) = answer.and_then(|answer| answer.found) {
        terminal::print(&format!("{}\n", plain(&found)));
    }
    Ok(0)
}

/// A text with escapes as C has them → its bytes, each as the character of its number.
fn escaped(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut letters = text.bytes();
    while let Some(letter) = letters.next() {
        bytes.push(match letter {
            b'\\' => match letters.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'e') => 0x1b,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits = [letters.next(), letters.next()];
                    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                    match digits.map(digit) {
                        [Some(high), Some(low)] => (high * 16 + low) as u8,
                        _ => return Err("expected two digits behind \\x".to_owned()),
                    }
                }
                _ => return Err("expected n, r, t, e, \\ or xHH behind \\".to_owned()),
            },
            letter => letter,
        });
    }
    Ok(bytes.into_iter().map(char::from).collect())
}
