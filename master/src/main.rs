//! Command line → a running master, a trial, or a word with the master that runs already.
#![forbid(unsafe_code)]

use async_signal::{Signal, Signals};
use pico_args::Arguments;
use sai_master::actions::{self, Action};
use sai_master::config::{self, Config};
use sai_master::store::{self, Options, Store};
use sai_master::tls::Identity;
use sai_master::try_once::{self, Trial};
use sai_master::{EXIT_FAILED, EXIT_INFRA, EXIT_USAGE, admin, lint, say, startup};
use smol::stream::StreamExt as _;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
sai-master: a small CI master with an agent built in

  sai-master [--config FILE] [--state DIR] [--listen ADDRESS]… [--url URL]
                            run; without a file, with defaults and ./sai-state
  sai-master try [PATH] [--dirty] [--configuration NAME]… [--platform NAME]…
                 [--as PLATFORM]… [--slots N] [--state DIR] [--stay]
                            build a local repository once, here; the exit
                            status is the verdict
  sai-master lint FILE      check a .sai.json
  sai-master matrix FILE [--ref REF]
                            the jobs of a .sai.json: platform, tab, configuration

Of a master, running or not (give the same --config or --state):
";

const MORE: &str = "  export                    all records as JSON lines, to standard output
  import                    all records from standard input, into an empty state

  --help, --version

Exit status: 0 done or passed, 1 failed (a job, a check, a request), 2 wrong use,
3 trouble that is not the job's, 4 the ledger could not be written, 130 interrupted.
";

fn main() -> ExitCode {
    // A supervisor is this program too; it must start fast and needs nothing else of it.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == "--job") {
        return match words.next() {
            Some(directory) => sai_agent::supervisor::main(Path::new(&directory)),
            None => usage("--job: expected a directory"),
        };
    }
    let mut arguments = Arguments::from_env();
    if arguments.contains(["-h", "--help"]) {
        print!("{HELP}{}{MORE}", actions::COMMANDS);
        return ExitCode::SUCCESS;
    }
    if arguments.contains(["-V", "--version"]) {
        println!("sai-master {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let result = match arguments.subcommand() {
        Err(error) => Err(Failure::Usage(error.to_string())),
        Ok(None) => run(arguments),
        Ok(Some(command)) => match command.as_str() {
            "try" => trial(arguments),
            "lint" => lint_file(arguments),
            "matrix" => matrix(arguments),
            "export" => export(arguments),
            "import" => import(arguments),
            "agent" | "user" | "cancel" | "rebuild" | "gc" => act(command, arguments),
            _ => Err(Failure::Usage(format!("there is no command {command:?}"))),
        },
    };
    match result {
        Ok(status) => status,
        Err(Failure::Usage(why)) => usage(&why),
        Err(Failure::Failed(why)) => {
            say(&why);
            ExitCode::from(EXIT_FAILED)
        }
        Err(Failure::Infra(why)) => {
            say(&why);
            ExitCode::from(EXIT_INFRA)
        }
    }
}

enum Failure {
    Usage(String),
    Failed(String),
    Infra(String),
}

impl From<pico_args::Error> for Failure {
    fn from(error: pico_args::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

fn usage(why: &str) -> ExitCode {
    say(&format!("{why}; see sai-master --help"));
    ExitCode::from(EXIT_USAGE)
}

fn path(text: &std::ffi::OsStr) -> Result<PathBuf, String> {
    Ok(PathBuf::from(text))
}

/// Takes the words that are left; options among them are ones we do not have.
fn rest(arguments: Arguments) -> Result<Vec<OsString>, Failure> {
    let words = arguments.finish();
    match words.iter().find(|word| word.as_encoded_bytes().starts_with(b"-") && word.len() > 1) {
        Some(option) => Err(Failure::Usage(format!("there is no option {}", option.to_string_lossy()))),
        None => Ok(words),
    }
}

fn none_left(arguments: Arguments) -> Result<(), Failure> {
    match rest(arguments)?.first() {
        Some(word) => Err(Failure::Usage(format!("{:?} is one word too many", word.to_string_lossy()))),
        None => Ok(()),
    }
}

fn configuration(arguments: &mut Arguments) -> Result<Config, Failure> {
    let file: Option<PathBuf> = arguments.opt_value_from_os_str("--config", path)?;
    let mut config = match file {
        Some(file) => {
            let name = file.display().to_string();
            let bytes = std::fs::read(&file).map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
            config::read(&name, &bytes).map_err(|lines| Failure::Usage(lines.join("\n")))?
        }
        None => Config::default(),
    };
    if let Some(state) = arguments.opt_value_from_os_str("--state", path)? {
        config.state = state;
    }
    let listen: Vec<std::net::SocketAddr> = arguments.values_from_str("--listen")?;
    if !listen.is_empty() {
        config.listen = listen;
    }
    if let Some(url) = arguments.opt_value_from_str::<_, String>("--url")? {
        config.url = Some(url);
    }
    Ok(config)
}

fn run(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = configuration(&mut arguments)?;
    none_left(arguments)?;
    let repositories = config.repositories.len();
    let master = startup::start(config).map_err(Failure::Infra)?;
    for address in &master.addresses {
        say(&format!("listening on {address}"));
    }
    say(&format!("the page is at {}; {repositories} repositories are configured", master.url));
    // Without an agent inside there is nothing to look at again: then the signal does what it does by default.
    match &master.builtin {
        Some(agent) => {
            let mut signals =
                Signals::new([Signal::Hup]).map_err(|error| Failure::Infra(format!("signals: {error}")))?;
            smol::block_on(async {
                while let Some(Ok(_)) = signals.next().await {
                    agent.look_again().await;
                }
            });
            Err(Failure::Infra("signals cannot be received any more".to_string()))
        }
        None => smol::block_on(smol::future::pending()),
    }
}

fn trial(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut trial = Trial {
        dirty: arguments.contains("--dirty"),
        stay: arguments.contains("--stay"),
        configurations: arguments.values_from_str("--configuration")?,
        platforms: arguments.values_from_str("--platform")?,
        offer: arguments.values_from_str("--as")?,
        slots: arguments.opt_value_from_str("--slots")?,
        state: arguments.opt_value_from_os_str("--state", path)?,
        path: PathBuf::from("."),
    };
    if let Some(wrong) = trial.offer.iter().find_map(|name| sai_core::platform::check_name(name).err()) {
        return Err(Failure::Usage(format!("--as: {wrong}")));
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
    for line in lines {
        println!("{line}");
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

fn matrix(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let reference: Option<String> = arguments.opt_value_from_str("--ref")?;
    let (name, bytes) = saifile(rest(arguments)?)?;
    match lint::matrix(&name, &bytes, reference.as_deref().unwrap_or("refs/heads/main")) {
        Ok(rows) => {
            for warning in rows.warnings {
                eprintln!("{warning}");
            }
            io::stdout().write_all(rows.rows.as_bytes()).map_err(|error| Failure::Infra(error.to_string()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            Ok(ExitCode::from(EXIT_FAILED))
        }
    }
}

/// Opens the records of a master that does not run.
fn open(config: &Config) -> Result<(Store, store::Restored), Failure> {
    let state = config.state.canonicalize().map_err(|error| {
        Failure::Infra(format!("{}: {error}; expected a master's state directory", config.state.display()))
    })?;
    Store::open(&state, Options::new(|_| {})).map_err(|error| Failure::Infra(error.to_string()))
}

fn act(command: String, mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = configuration(&mut arguments)?;
    if config == Config::default() && !config.state.exists() {
        // A join line or token of a master that is made up on the spot would open nothing anywhere.
        return Err(Failure::Usage(format!(
            "no master keeps its state in {} here; say which one is meant with its --config or --state",
            config.state.display()
        )));
    }
    let words = rest(arguments)?;
    let words: Vec<String> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = std::iter::once(command.as_str()).chain(words.iter().map(String::as_str)).collect();
    let action = Action::parse(&words).map_err(Failure::Usage)?;
    let text = match admin::ask(&config.state, &words) {
        Some(answer) => answer.map_err(Failure::Failed)?,
        None => {
            startup::make_state(&config.state).map_err(Failure::Infra)?;
            let identity =
                Identity::load(startup::tls_sources(&config)).map_err(|error| Failure::Infra(error.to_string()))?;
            let door = startup::door(&config, &identity).map_err(Failure::Infra)?;
            let (store, _) = open(&config)?;
            actions::offline(&store, config.keep, &door, &action).map_err(Failure::Failed)?
        }
    };
    println!("{}", text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn export(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = configuration(&mut arguments)?;
    none_left(arguments)?;
    let (store, _) = open(&config)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let records = store::export(&store.reader(), &mut out).map_err(|error| Failure::Infra(error.to_string()))?;
    out.flush().map_err(|error| Failure::Infra(error.to_string()))?;
    say(&format!("{records} records"));
    Ok(ExitCode::SUCCESS)
}

fn import(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let config = configuration(&mut arguments)?;
    none_left(arguments)?;
    let records = store::import(&config.state, &mut io::stdin().lock(), "standard input")
        .map_err(|error| Failure::Failed(error.to_string()))?;
    say(&format!("{records} records"));
    Ok(ExitCode::SUCCESS)
}
