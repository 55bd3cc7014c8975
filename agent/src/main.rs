//! Command line → an agent that serves, a machine that joins, or the supervisor of one job.
#![forbid(unsafe_code)]

#[path = "main/help.rs"]
mod help;
#[cfg(feature = "nspawn")]
#[path = "main/image.rs"]
mod image;

use async_signal::{Signal, Signals};
use pico_args::Arguments;
use rustix::thread::disable_transparent_huge_pages;
use sai_agent::blocking::unblock;
use sai_agent::clean_start::restore_signals;
use sai_agent::config::{self, Config};
use sai_agent::describe;
use sai_agent::fresh::Fresh;
use sai_agent::git::tools::set_proxies;
use sai_agent::job_directory::Launcher;
use sai_agent::join::{self, JoinError};
use sai_agent::link::{Dialer, Timing};
use sai_agent::mirror;
use sai_agent::needs::fetch::Source;
use sai_agent::offering::{Boards, Offering};
use sai_agent::proxy::Proxies;
use sai_agent::serve::{Control, Ended, Settings, serve};
use sai_agent::state::{CONFIGURATION, State};
use sai_agent::{say, supervisor, terminal};
use sai_core::join::{JoinLine, check_agent_name};
use sai_core::limits::{PLATFORMS, SLOTS};
use sai_core::platform;
use sai_core::wire::Offer;
use smol::channel::{self, Sender};
use smol::future;
use smol::stream::StreamExt as _;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// An exit status other than 0, and the line that says why.
struct Failure(u8, String);

impl Failure {
    fn trouble(why: impl Into<String>) -> Self {
        Self(1, why.into())
    }

    fn usage(why: impl Into<String>) -> Self {
        Self(2, why.into())
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [option, directory] = arguments.as_slice()
        && option == "--job"
    {
        // Jobs have them again: they inherit what holds for the agent, and large ones gain by them.
        let _ = disable_transparent_huge_pages(false);
        return supervisor::main(Path::new(directory));
    }
    // Else the stack of one thread may become one page of 2 MiB, more than the whole agent needs: of any thread, so this comes
    // before the first, which already receives signals. Where that cannot be said it does no harm.
    let _ = disable_transparent_huge_pages(true);
    if let Some(ended) = sai_agent::boards::hosted::main(&arguments) {
        return ended;
    }
    restore_signals();
    if arguments.first().is_some_and(|argument| argument == "device") {
        arguments.remove(0);
        return sai_agent::boards::device::command(arguments);
    }
    if arguments.first().is_some_and(|argument| argument == "selftest") {
        arguments.remove(0);
        return sai_agent::boards::selftest::command(arguments);
    }
    if arguments.first().is_some_and(|argument| argument == "image") {
        // What makes an image inherits what holds here, and has them as anywhere else.
        let _ = disable_transparent_huge_pages(false);
        arguments.remove(0);
        return command_image(arguments);
    }
    #[cfg(feature = "nspawn")]
    if let [option, request] = arguments.as_slice()
        && option == sai_agent::image::worker::OPTION
    {
        let _ = disable_transparent_huge_pages(false);
        return sai_agent::image::worker::main(request);
    }
    // A word alone that asks for help means that, wherever it stands.
    let asks = |long: &str, short: &str| arguments.iter().any(|argument| argument == long || argument == short);
    let joins = arguments.first().is_some_and(|argument| argument == "join");
    if asks("--help", "-h") {
        terminal::print(if joins { help::JOIN } else { help::OVERVIEW });
        return ExitCode::SUCCESS;
    }
    if asks("--version", "-V") {
        terminal::print(&format!("sai-agent {}\n", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let result = if joins {
        arguments.remove(0);
        command_join(Arguments::from_vec(arguments))
    } else {
        command_serve(Arguments::from_vec(arguments))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(status, why)) => {
            // Where a command line is explained is said by the command that it is for.
            say(&if joins { why.replace(SEE, "see sai-agent join --help") } else { why });
            ExitCode::from(status)
        }
    }
}

#[cfg(feature = "nspawn")]
fn command_image(words: Vec<OsString>) -> ExitCode {
    image::command(words)
}

#[cfg(not(feature = "nspawn"))]
fn command_image(_words: Vec<OsString>) -> ExitCode {
    let build = sai_agent::container_settings::BUILD;
    say(&format!("this sai-agent was built without containers; build it with {build}"));
    ExitCode::from(2)
}

/// A path as it was given, which need not be text.
fn path(text: &OsStr) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("expected a path") } else { Ok(PathBuf::from(text)) }
}

fn agent_name(text: &str) -> Result<String, String> {
    check_agent_name(text).map(|()| text.to_owned())
}

fn platform_name(text: &str) -> Result<String, String> {
    platform::check_name(text)
        .map(|()| text.to_owned())
        .map_err(|expected| format!("expected {expected}, found {text}"))
}

fn slots(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(slots @ 1..=SLOTS) => Ok(slots),
        _ => Err(format!("expected 1 to {SLOTS} slots, found {text}")),
    }
}

/// What a command line that is not understood ends with.
const SEE: &str = "see sai-agent --help";

/// Refuses whatever is left of a command line.
fn finish(arguments: Arguments) -> Result<(), Failure> {
    match arguments.finish().first() {
        None => Ok(()),
        Some(left) => Err(Failure::usage(format!("{} is not understood; {SEE}", left.to_string_lossy()))),
    }
}

fn usage(error: &pico_args::Error) -> Failure {
    Failure::usage(format!("{error}; {SEE}"))
}

fn command_serve(mut arguments: Arguments) -> Result<(), Failure> {
    let file = arguments.opt_value_from_os_str("--config", path).map_err(|error| usage(&error))?;
    let state = arguments.opt_value_from_os_str("--state", path).map_err(|error| usage(&error))?;
    finish(arguments)?;
    let file = file.or_else(|| std::env::var_os(config::VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from));
    let (file, directory) = match (file, state) {
        (Some(file), state) => (file, state),
        (None, state) => {
            let said = state.is_some();
            let directory = state.map_or_else(config::default_state, Ok).map_err(Failure::usage)?;
            let joined = directory.join(CONFIGURATION);
            // A state that is named is an agent by itself, and one that has joined goes before what the machine says.
            let machine = Some(PathBuf::from(config::MACHINE)).filter(|file| !said && file.exists());
            match machine.filter(|_| !joined.exists()) {
                Some(file) => (file, None),
                None if joined.exists() => (joined, Some(directory)),
                None => {
                    return Err(Failure::usage(format!(
                        "{} is not there: join a master first (sai-agent join LINE), or say --config FILE",
                        joined.display()
                    )));
                }
            }
        }
    };
    let config = config::read(&file).map_err(Failure::usage)?;
    say(&format!("configured by {}", file.display()));
    let directory = directory.or_else(|| config.state.clone());
    let directory = directory.map_or_else(config::default_state, Ok).map_err(Failure::usage)?;
    let fresh = Fresh::new(&directory);
    let mut state = State::open(&directory).map_err(Failure::trouble)?;
    if let Some(line) = state.bind().map_err(Failure::trouble)? {
        say(&line);
    }
    run(Arc::new(state), config, file, Some(fresh))
}

fn command_join(mut arguments: Arguments) -> Result<(), Failure> {
    let name = arguments.opt_value_from_fn("--name", agent_name).map_err(|error| usage(&error))?;
    let platforms = arguments.values_from_fn("--platform", platform_name).map_err(|error| usage(&error))?;
    let slots = arguments.opt_value_from_fn("--slots", slots).map_err(|error| usage(&error))?;
    let directory = arguments.opt_value_from_os_str("--state", path).map_err(|error| usage(&error))?;
    let only_save = arguments.contains("--only-save");
    let line: String = arguments
        .free_from_str()
        .map_err(|_| Failure::usage(format!("join needs the line that `sai-master agent add` printed; {SEE}")))?;
    if line.starts_with('-') && line != "-" {
        return Err(Failure::usage(format!("{line} is not understood; {SEE}")));
    }
    finish(arguments)?;
    if platforms.len() > PLATFORMS {
        return Err(Failure::usage(format!("expected at most {PLATFORMS} platforms")));
    }
    let line = if line == "-" { from_standard_input()? } else { line };
    let line: JoinLine = line.parse().map_err(Failure::usage)?;
    let directory = directory.map_or_else(config::default_state, Ok).map_err(Failure::usage)?;
    let fresh = Fresh::new(&directory);
    let mut state = State::open(&directory).map_err(Failure::trouble)?;
    if let Some(line) = state.bind().map_err(Failure::trouble)? {
        say(&line);
    }
    let platforms = (!platforms.is_empty()).then_some(platforms);
    // What this way goes by is what the next one goes by, too, wherever it is started from.
    let proxies = Some(Proxies::of_environment().map_err(Failure::usage)?).filter(|proxies| proxies.proxy.is_some());
    let config = Config { name, platforms, slots, proxies, ..Config::joined(&line) };
    let file = state.config();
    match smol::block_on(join::join(&state, &config)) {
        Ok(name) => {
            fresh.keep();
            say(&format!("joined {} as {name}; saved in {}", config.master, file.display()));
        }
        Err(JoinError::Refused(why)) => return Err(Failure(3, format!("{why}; nothing was saved"))),
        Err(JoinError::Trouble(why)) => return Err(Failure::trouble(format!("{why}; nothing was saved"))),
        Err(JoinError::Unsaved(why)) => {
            // The token belongs to the identity that is there now.
            fresh.keep();
            return Err(Failure::trouble(format!("{why}; once that is mended, the same line joins from here")));
        }
    }
    let default = config::default_state().ok().and_then(|default| default.canonicalize().ok());
    let option = if default.as_deref() == Some(state.directory()) {
        String::new()
    } else {
        format!(" --state {}", state.directory().display())
    };
    if only_save {
        say(&format!("start it with: sai-agent{option}"));
        return Ok(());
    }
    say(&format!("serving until interrupted; from now on start it with: sai-agent{option}"));
    run(Arc::new(state), config, file, None)
}

/// Standard input as far as a join line can go.
fn from_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("standard input is no join line: {error}")))?;
    Ok(text)
}

/// The boards that a configuration has offered.
fn boards(config: &Config) -> Result<Option<Boards>, String> {
    let Some(file) = &config.boards else { return Ok(None) };
    let run = config.boards_run.clone().unwrap_or_else(sai_agent::boards::hosted::directory);
    Boards::of(file, &run, config.user.as_deref()).map(Some)
}

/// What a configuration offers on this machine, and says so.
fn offer(config: &Config, state: &State, file: &Path) -> Result<Offering, String> {
    let (offering, lines) =
        Offering::look(config.platforms.as_deref(), config.slots, &config.containers, boards(config)?.as_ref(), state)?;
    lines.iter().for_each(|line| say(line));
    let Offer { platforms, slots, rooted, boards, .. } = offering.offer();
    if platforms.is_empty() && boards.is_none() {
        return Err(format!("this machine has no name of a platform: set platforms in {}", file.display()));
    }
    let root = if rooted.is_some() { "; steps in images can be root there" } else { "" };
    if !platforms.is_empty() {
        say(&format!("offering {} for {slots} at once{root}", platforms.join(" ")));
    }
    if let Some(boards) = boards {
        let each = boards.iter().map(|board| format!("{} ({})", board.name, board.kind));
        say(&format!("offering the boards {}", each.collect::<Vec<_>>().join(", ")));
    }
    Ok(offering)
}

/// Serves until a signal ends it. A state that was made for it stays once it begins to.
fn run(state: Arc<State>, config: Config, file: PathBuf, fresh: Option<Fresh>) -> Result<(), Failure> {
    mirror::set_depth(&state.mirrors(), config.depth)
        .and_then(|()| mirror::set_filter(&state.mirrors(), config.filter.as_deref()))
        .and_then(|()| set_proxies(&state.mirrors(), config.proxies.as_ref()))
        .map_err(|error| Failure::trouble(format!("{}: {error}", state.mirrors().display())))?;
    let user = config.user.as_deref().map(describe::user).transpose().map_err(Failure::usage)?;
    let offering = offer(&config, &state, &file).map_err(Failure::usage)?;
    if describe::steps_are_root(user.is_some()) {
        say("steps of jobs on the machine itself run as root: set user in the configuration to one who may do less");
    }
    say(&format!("working in {}", state.directory().display()));
    let proxies = match config.proxies {
        Some(proxies) => proxies,
        None => Proxies::of_environment().map_err(Failure::usage)?,
    };
    let dialer = Dialer::new(config.master.clone(), config.trust, config.token.clone(), Timing::default())
        .map_err(|error| Failure::trouble(error.to_string()))?
        .by(&config.others, proxies);
    let settings = Settings {
        files: Source::master(dialer.clone()),
        host: config.name.clone().unwrap_or_else(describe::host_name),
        parallel: config.parallel.unwrap_or((describe::cores() / offering.slots.max(1)).max(1)),
        offering,
        user,
        env: config.env.clone(),
        keep_free_mib: config.keep_free_mib,
        launcher: Launcher { program: PathBuf::from("/proc/self/exe"), first_arguments: Vec::new() },
        say: Arc::new(say),
    };
    let dial = move || {
        let dialer = dialer.clone();
        async move { dialer.dial().await }
    };
    let signals = Signals::new([Signal::Term, Signal::Int, Signal::Hup])
        .map_err(|error| Failure::trouble(format!("signals cannot be received: {error}")))?;
    let (controls, orders) = channel::bounded(4);
    fresh.into_iter().for_each(Fresh::keep);
    let serving = future::or(serve(&state, settings, dial, orders), heed(signals, controls, state.clone(), file));
    if let Ended::Refused(why) = smol::block_on(serving).map_err(Failure::trouble)? {
        return Err(Failure(3, why));
    }
    say("ended; jobs under way go on, and the next sai-agent with this state adopts them");
    Ok(())
}

/// What the configuration, as it is now, offers. The disk may take its time; the agent goes on meanwhile.
async fn look_again(state: Arc<State>, file: PathBuf) -> Result<Offering, String> {
    unblock(move || config::read(&file).and_then(|config| offer(&config, &state, &file))).await
}

/// Turns signals into what the agent understands.
async fn heed(
    mut signals: Signals,
    controls: Sender<Control>,
    state: Arc<State>,
    file: PathBuf,
) -> Result<Ended, String> {
    while let Some(signal) = signals.next().await {
        let control = match signal {
            Ok(Signal::Hup) => match look_again(state.clone(), file.clone()).await {
                Ok(offering) => Control::Offer(offering),
                Err(error) => {
                    say(&format!("nothing changes: {error}"));
                    continue;
                }
            },
            Ok(_) => Control::Stop,
            Err(error) => return Err(format!("signals cannot be received: {error}")),
        };
        let _ = controls.send(control).await;
    }
    future::pending().await
}
