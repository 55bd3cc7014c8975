//! Command line → a running master, a trial, or a word with the master that runs already.
#![forbid(unsafe_code)]

#[path = "main/help.rs"]
mod help;
#[path = "main/options.rs"]
mod options;

use async_signal::{Signal, Signals};
use options::{Failure, none_left, path, rest};
use pico_args::Arguments;
use sai_agent::fresh::Fresh;
use sai_agent::terminal;
use sai_core::json;
use sai_core::limits::SLOTS;
use sai_master::action::{Action, DOWNGRADE};
use sai_master::actions;
use sai_master::builtin::BuiltinAgent;
use sai_master::places::{self, Place};
use sai_master::store::{self, Options, Store};
use sai_master::tls::{self, Identity};
use sai_master::try_once::{self, Trial};
use sai_master::{EXIT_FAILED, EXIT_INFRA, EXIT_USAGE, admin, lint, say, startup};
use smol::stream::StreamExt as _;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    // A supervisor is this program too; it must start fast and needs nothing else of it.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == "--job") {
        return match words.next() {
            Some(directory) => sai_agent::supervisor::main(Path::new(&directory)),
            None => usage("--job: expected a directory", None),
        };
    }
    // So are the owners of its boards and their guard, by the same words as `sai-agent` and `sai-buddy` have.
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(ended) = sai_agent::boards::hosted::main(&words) {
        return ended;
    }
    sai_agent::clean_start::restore_signals();
    // And what steps of its own agent's jobs call `sai-agent`.
    if let Some(("device", rest)) = words.split_first().and_then(|(word, rest)| Some((word.to_str()?, rest))) {
        return sai_agent::boards::device::command(rest.to_vec());
    }
    let mut arguments = Arguments::from_env();
    let asks = arguments.contains(["-h", "--help"]);
    if arguments.contains(["-V", "--version"]) {
        terminal::print(&format!("sai-master {}\n", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let command = match arguments.subcommand() {
        Ok(command) => command,
        Err(error) => return usage(&error.to_string(), None),
    };
    let page = match &command {
        Some(command) => help::page(command),
        None => Some(help::OVERVIEW),
    };
    if let (true, Some(page)) = (asks, page) {
        terminal::print(page);
        return ExitCode::SUCCESS;
    }
    let result = match command.as_deref() {
        None | Some("run") => run(arguments),
        Some("try") => trial(arguments),
        Some("lint") => lint_file(arguments),
        Some("matrix") => matrix(arguments),
        Some("export") => export(arguments),
        Some("import") => import(arguments),
        Some("cert") => certificate(arguments),
        Some("rejudge") => rejudge(arguments),
        Some(word @ ("agent" | "user" | "board" | "unit" | "cancel" | "rebuild" | "start" | "gc" | "status")) => {
            act(word, arguments)
        }
        Some(word) => Err(Failure::Usage(format!("there is no command {word:?}"))),
    };
    let (status, why) = match result {
        Ok(status) => return status,
        Err(Failure::Usage(why)) => return usage(&why, command.as_deref().filter(|_| page.is_some())),
        Err(Failure::Configuration(why)) => (EXIT_USAGE, why),
        Err(Failure::Failed(why)) => (EXIT_FAILED, why),
        Err(Failure::Infra(why)) => (EXIT_INFRA, why),
    };
    say(&why);
    ExitCode::from(status)
}

/// Says what is wrong with a command line, and where it is explained.
fn usage(why: &str, command: Option<&str>) -> ExitCode {
    let command = command.map(|word| format!(" {word}")).unwrap_or_default();
    say(&format!("{why}; see sai-master{command} --help"));
    ExitCode::from(EXIT_USAGE)
}

/// Delivers what was asked for.
fn deliver(text: &str) -> Result<ExitCode, Failure> {
    let told = terminal::deliver(text.as_bytes());
    told.map(|()| ExitCode::SUCCESS).map_err(|error| Failure::Infra(format!("standard output: {error}")))
}

fn run(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let asked = options::asked(&mut arguments)?;
    let over = options::over(&mut arguments)?;
    none_left(arguments)?;
    let Place { mut config, file, .. } = options::place(&asked)?;
    over.apply(&mut config);
    let said_by = file.as_ref().map_or("no configuration, so defaults".to_string(), |file| file.display().to_string());
    say(&format!("configured by {said_by}; keeping everything in {}", config.state.display()));
    let repositories = config.repositories.len();
    let fresh = Fresh::new(&config.state);
    // First, so that no signal finds a master that it would end.
    let mut signals = Signals::new([Signal::Hup]).map_err(|error| Failure::Infra(format!("signals: {error}")))?;
    let mut master = startup::start(config.clone()).map_err(Failure::Infra)?;
    fresh.keep();
    for address in &master.addresses {
        say(&format!("listening on {address}"));
    }
    if let Some(warning) = master.builtin.as_ref().and_then(BuiltinAgent::warning) {
        say(&warning);
    }
    say(&format!("the page is at {}; {repositories} repositories are configured", master.url));
    smol::block_on(async {
        while let Some(Ok(_)) = signals.next().await {
            // Without a file there still is what the agent inside finds.
            let read = file.as_deref().map_or(Ok(config.clone()), places::read);
            let lines = match read {
                Ok(mut new) => {
                    if asked.state.is_some() || new.state.as_os_str().is_empty() {
                        new.state = config.state.clone();
                    }
                    over.apply(&mut new);
                    master.reload(new).await
                }
                Err(lines) => vec![format!("nothing changes, what was read before goes on:\n{}", lines.join("\n"))],
            };
            lines.iter().for_each(|line| say(line));
        }
    });
    Err(Failure::Infra("signals cannot be received any more".to_string()))
}

fn trial(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let slots = |text: &str| match text.parse() {
        Ok(slots @ 1..=SLOTS) => Ok(slots),
        _ => Err(format!("expected 1 to {SLOTS} slots, found {text:?}")),
    };
    let mut trial = Trial {
        dirty: arguments.contains("--dirty"),
        stay: arguments.contains("--stay"),
        configurations: arguments.values_from_str("--configuration")?,
        platforms: arguments.values_from_str("--platform")?,
        offer: arguments.values_from_str("--as")?,
        slots: arguments.opt_value_from_fn("--slots", slots)?,
        state: arguments.opt_value_from_os_str("--state", path)?,
        images: arguments.opt_value_from_os_str("--images", path)?,
        artifacts: arguments.opt_value_from_os_str("--artifacts", path)?,
        path: PathBuf::from("."),
    };
    if let Some(wrong) = trial.offer.iter().find_map(|name| sai_core::platform::check_name(name).err()) {
        return Err(Failure::Usage(format!("--as: expected {wrong}")));
    }
    let words = rest(arguments)?;
    if words.len() > 1 {
        return Err(Failure::Usage("expected one path at most".to_string()));
    }
    if let Some(word) = words.into_iter().next() {
        trial.path = word.into();
    }
    try_once::run(&trial).map_err(Failure::Infra)
}

fn saifile(words: Vec<OsString>) -> Result<(String, Vec<u8>), Failure> {
    let [file] = <[OsString; 1]>::try_from(words).map_err(|_| Failure::Usage("expected one FILE".to_string()))?;
    let name = file.to_string_lossy().into_owned();
    let bytes = std::fs::read(&file).map_err(|error| Failure::Infra(format!("{name}: {error}")))?;
    Ok((name, bytes))
}

fn lint_file(arguments: Arguments) -> Result<ExitCode, Failure> {
    let (name, bytes) = saifile(rest(arguments)?)?;
    let (lines, good) = lint::lint(&name, &bytes);
    // Whether the file is good is said by the exit status, be the lines read or not.
    terminal::print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn matrix(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let reference: Option<String> = arguments.opt_value_from_str("--ref")?;
    let changed: Vec<String> = arguments.values_from_str("--changed")?;
    let (name, bytes) = saifile(rest(arguments)?)?;
    // Nothing but rows goes to standard output, and a message is a line of its own for whoever jumps to its place.
    let complain = |lines: &[String]| {
        let _ = io::stderr().write_all(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes());
    };
    match lint::matrix(&name, &bytes, reference.as_deref().unwrap_or("refs/heads/main"), changed) {
        Ok(rows) => {
            complain(&rows.warnings);
            deliver(&rows.rows)
        }
        Err(errors) => {
            complain(&errors);
            Ok(ExitCode::from(EXIT_FAILED))
        }
    }
}

/// Fails where no master keeps its state, before anything is made there.
fn expect_state(state: &Path) -> Result<(), Failure> {
    if places::is_state(state) {
        return Ok(());
    }
    Err(Failure::Configuration(format!(
        "no master keeps its state in {}; say which one is meant with its --config or --state",
        state.display()
    )))
}

fn existing(state: &Path) -> Result<PathBuf, Failure> {
    state
        .canonicalize()
        .map_err(|error| Failure::Infra(format!("{}: {error}; expected a master's state directory", state.display())))
}

/// Opens the records of a master that does not run.
fn open(state: &Path) -> Result<(Store, store::Restored), Failure> {
    let (store, restored) =
        Store::open(&existing(state)?, Options::new(|_| {})).map_err(|error| Failure::Infra(error.to_string()))?;
    for line in &restored.told {
        say(line);
    }
    Ok((store, restored))
}

fn act(command: &str, mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let asked = options::asked(&mut arguments)?;
    let over = options::over(&mut arguments)?;
    let may_be_older = command == "agent" && arguments.contains("--downgrade");
    let mut words = rest(arguments)?;
    if let [verb, _, image] = &mut words[..]
        && command == "agent"
        && verb == "update"
    {
        // The running master is elsewhere.
        *image = std::path::absolute(&*image).map_err(|error| Failure::Infra(format!("{image:?}: {error}")))?.into();
    }
    words.extend(may_be_older.then(|| DOWNGRADE.into()));
    let words: Vec<String> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = std::iter::once(command).chain(words.iter().map(String::as_str)).collect();
    let mut place = options::place(&asked)?;
    over.apply(&mut place.config);
    match perform(place, &words)? {
        Some(text) => deliver(&format!("{}\n", text.trim_end())),
        None => Ok(ExitCode::from(EXIT_FAILED)),
    }
}

/// Has a running master do something, or does it to the state of one that is not running; none where it was to be said how one
/// is that is not.
fn perform(place: Place, words: &[&str]) -> Result<Option<String>, Failure> {
    let action = Action::parse(words).map_err(Failure::Usage)?;
    let Place { config, said, .. } = place;
    let answer = admin::ask(&config.state, words).map_err(Failure::Infra)?;
    Ok(Some(match answer {
        Some(answer) => answer.map_err(Failure::Failed)?,
        None if action == Action::Status => {
            expect_state(&config.state)?;
            deliver(&format!("not running\nstate\t{}\n", config.state.display()))?;
            return Ok(None);
        }
        None => {
            // Who may build or act can be said before the first start, if it is said of which master: a join line or
            // token of one that is made up on the spot would open nothing anywhere.
            if !(said && action.adds()) {
                expect_state(&config.state)?;
            }
            places::expect_own(&config.state).map_err(Failure::Infra)?;
            let fresh = Fresh::new(&config.state);
            startup::make_state(&config.state).map_err(Failure::Infra)?;
            let door = || {
                let identity = Identity::load(startup::tls_sources(&config)).map_err(|error| error.to_string())?;
                startup::door(&config, &identity)
            };
            let (store, _) = open(&config.state)?;
            let text = actions::offline(&store, config.keep, &door, &action).map_err(Failure::Failed)?;
            fresh.keep();
            text
        }
    }))
}

/// Judges a board's log once more.
fn rejudge(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let asked = options::asked(&mut arguments)?;
    let file: Option<PathBuf> = arguments.opt_value_from_os_str("--saifile", path)?;
    let words = rest(arguments)?;
    let [job] = &words[..] else { return Err(Failure::Usage("expected one job, as 12 or 12-1".to_string())) };
    let job = job.to_string_lossy();
    let (mut name, mut text) = (String::new(), String::new());
    if let Some(file) = &file {
        let (given, bytes) = saifile(vec![file.clone().into_os_string()])?;
        let good = String::from_utf8(bytes).ok().filter(|text| text.len() <= json::FILE_MAX);
        text = good
            .ok_or_else(|| Failure::Infra(format!("{given}: expected UTF-8, of at most {} bytes", json::FILE_MAX)))?;
        name = given;
    }
    let mut words = vec!["rejudge", &job];
    if file.is_some() {
        words.extend(["saifile", &name, &text]);
    }
    // Where nothing was judged, nothing of the board's has failed.
    let told = perform(options::place(&asked)?, &words).map_err(|failure| match failure {
        Failure::Failed(why) => Failure::Infra(why),
        other => other,
    })?;
    let text = told.unwrap_or_default();
    deliver(&format!("{}\n", text.trim_end()))?;
    Ok(match text.lines().next().and_then(|line| line.split_once('\t')) {
        Some(("verdict", "passed")) => ExitCode::SUCCESS,
        Some(("verdict", word)) if word != "infra" => ExitCode::from(EXIT_FAILED),
        _ => ExitCode::from(EXIT_INFRA),
    })
}

/// Prints the certificate, for those who are to check it.
fn certificate(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let asked = options::asked(&mut arguments)?;
    none_left(arguments)?;
    let Place { config, .. } = options::place(&asked)?;
    let text = tls::chain_pem(&startup::tls_sources(&config)).map_err(|error| Failure::Infra(error.to_string()))?;
    deliver(&text)
}

fn export(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let salvage = arguments.contains("--salvage");
    let place = options::place(&options::asked(&mut arguments)?)?;
    none_left(arguments)?;
    expect_state(&place.config.state)?;
    places::expect_own(&place.config.state).map_err(Failure::Infra)?;
    let state = existing(&place.config.state)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let exported = store::export(&state, salvage, &mut out).map_err(|error| Failure::Infra(error.to_string()))?;
    for line in &exported.told {
        say(line);
    }
    say(&format!("{} records", exported.records));
    // Whoever keeps this must not take it for all there was.
    Ok(ExitCode::from(if exported.lost { EXIT_INFRA } else { 0 }))
}

fn import(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let place = options::place(&options::asked(&mut arguments)?)?;
    none_left(arguments)?;
    let fresh = Fresh::new(&place.config.state);
    let records = store::import(&place.config.state, &mut io::stdin().lock(), "standard input")
        .map_err(|error| Failure::Failed(error.to_string()))?;
    fresh.keep();
    say(&format!("{records} records"));
    Ok(ExitCode::SUCCESS)
}
