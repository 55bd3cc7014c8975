//! Words after `sai-agent image` → what is done with images, and an exit status.

use crate::{finish, path, platform_name, usage};
use async_signal::{Signal, Signals};
use pico_args::Arguments;
use rustix::process::{Pid, kill_process};
use sai_agent::image::commands::{self, Failure, Origin, Worker};
use sai_agent::image::plan::Request;
use sai_agent::image::{apt, worker};
use sai_agent::state::CONFIGURATION;
use sai_agent::{config, say, terminal};
use smol::future;
use smol::stream::StreamExt as _;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// What a command line that is not understood ends with.
const SEE: &str = "see sai-agent image --help";

const HEAD: &str =
    "sai-agent image - root file systems that jobs run in, each under the name of a platform\n\nusage:\n";

/// What each command says: its name, usage, and an example.
const COMMANDS: [(&str, &str, &str); 6] = [
    (
        "create",
        "  sai-agent image create PLATFORM --debootstrap SUITE [--mirror URL] [--arch ARCH] [--packages \"A B C\"]
      Make a base of a release of Debian or its kin, and install packages over it. Without --mirror it is the one that
      this machine's own apt uses. ARCH is Debian's name, as arm64; a foreign one needs qemu-user and binfmt_misc.
  sai-agent image create PLATFORM --from-dir DIR | --from-tar FILE [--packages \"A B C\"]
      Make the base of a copy of a root file system.
  sai-agent image create PLATFORM --on OTHER [--packages \"A B C\"]
      Share the base of another image, and install other packages over it.
",
        "sai-agent image create linux-debian-13/x86_64/gcc --debootstrap trixie --packages \"gcc libc6-dev make\"",
    ),
    (
        "update",
        "  sai-agent image update PLATFORM [--packages \"A B C\"]
      Bring packages up to date, and install more. Jobs that run in it go on in what it was.
",
        "sai-agent image update linux-debian-13/x86_64/gcc",
    ),
    (
        "shell",
        "  sai-agent image shell PLATFORM [--commit]
      A shell of root's inside. What is changed is thrown away; with --commit it is kept if the shell ends with status 0.
",
        "sai-agent image shell linux-debian-13/x86_64/gcc --commit",
    ),
    (
        "list",
        "  sai-agent image list
      A table: platform, MiB on disk of its own layers, age, jobs that ran in it, layers bottom up; and what cannot be
      run by which of systemd-nspawn and bwrap, as was tried when it was made or changed.
",
        "sai-agent image list",
    ),
    (
        "remove",
        "  sai-agent image remove PLATFORM
      Remove it, unless a job or another image uses it.
",
        "sai-agent image remove linux-debian-13/x86_64/gcc",
    ),
    (
        "rescan",
        "  sai-agent image rescan
      Have the agents that run look at their images again, as after a change by hand.
",
        "sai-agent image rescan",
    ),
];

const TAIL: &str = "
options of each:
  --images DIR    the directory of images [what the configuration says, else DIR/images of the state directory]
  --state DIR     the agent's state directory; of the one inside a master it is `agent` in the master's
  --config FILE   the agent's configuration

exit status:
  0    done; after shell, the shell's own
  1    trouble on this machine
  2    a command line that is not understood, or no such image
  4    a job or another image uses what would be changed
  130  interrupted; nothing half made is left
";

/// What one command says of itself, or all of them where none is named.
fn help(name: Option<&str>) -> String {
    let of_it = COMMANDS.iter().filter(|(command, ..)| name.is_none_or(|name| name == *command));
    let usage: String = of_it.clone().map(|(_, usage, _)| *usage).collect();
    let example = of_it.map(|(.., example)| *example).next().unwrap_or_default();
    format!("{HEAD}{usage}{TAIL}\nexample: {example}\n")
}

/// Runs one command.
pub fn command(mut words: Vec<OsString>) -> ExitCode {
    if words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h") {
        let first = words.first().and_then(|word| word.to_str());
        let known = first.filter(|first| COMMANDS.iter().any(|(command, ..)| command == first));
        terminal::print(&help(known));
        return if words.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let name = words.remove(0).to_string_lossy().into_owned();
    let here = |why: String| match COMMANDS.iter().any(|(command, ..)| *command == name) {
        true => why.replace(SEE, &format!("see sai-agent image {name} --help")),
        false => why,
    };
    let (status, why) = match run(&name, Arguments::from_vec(words)) {
        Ok(status) => return ExitCode::from(status),
        Err(Failure::Trouble(why)) => (1, why),
        Err(Failure::Usage(why)) => (2, here(why)),
        Err(Failure::InUse(why)) => (4, why),
        Err(Failure::Interrupted) => (130, "interrupted; nothing half made is left".to_string()),
    };
    say(&why);
    ExitCode::from(status)
}

/// A wrong command line, as a failure of this command.
fn wrong(crate::Failure(_, why): crate::Failure) -> Failure {
    Failure::Usage(why.replace(crate::SEE, SEE))
}

fn misunderstood(error: pico_args::Error) -> Failure {
    wrong(usage(&error))
}

fn run(name: &str, mut arguments: Arguments) -> Result<u8, Failure> {
    let images = images(&mut arguments)?;
    let worker: Worker<'_> = &work;
    let done = |result: Result<(), Failure>| result.map(|()| 0);
    match name {
        "create" => {
            let (origin, packages) = (origin(&mut arguments)?, packages(&mut arguments)?);
            done(commands::create(&images, &platform(arguments)?, &origin, &packages, worker))
        }
        "update" => {
            let packages = packages(&mut arguments)?;
            done(commands::update(&images, &platform(arguments)?, &packages, worker))
        }
        "shell" => {
            let commit = arguments.contains("--commit");
            commands::shell(&images, &platform(arguments)?, commit, worker)
        }
        "remove" => done(commands::remove(&images, &platform(arguments)?)),
        "list" => {
            finish(arguments).map_err(wrong)?;
            let (rows, lines) = commands::list(&images);
            lines.iter().for_each(|line| say(line));
            let table = commands::table(&rows);
            let told = terminal::deliver(table.as_bytes());
            done(told.map_err(|error| Failure::Trouble(format!("standard output: {error}"))))
        }
        "rescan" => {
            finish(arguments).map_err(wrong)?;
            done(commands::rescan(&images))
        }
        _ => Err(Failure::Usage(format!("there is no command image {name}; {SEE}"))),
    }
}

/// The directory of images that is meant.
fn images(arguments: &mut Arguments) -> Result<PathBuf, Failure> {
    let images = arguments.opt_value_from_os_str("--images", path).map_err(misunderstood)?;
    let state = arguments.opt_value_from_os_str("--state", path).map_err(misunderstood)?;
    let file = arguments.opt_value_from_os_str("--config", path).map_err(misunderstood)?;
    if let Some(images) = images {
        return std::path::absolute(images).map_err(|error| Failure::Usage(format!("--images: {error}")));
    }
    let default = || config::default_state().map_err(Failure::Usage);
    let given = file.is_some();
    let directory = state.clone().map_or_else(default, Ok)?;
    let file = file.unwrap_or_else(|| directory.join(CONFIGURATION));
    if !given && !file.exists() {
        let directory = std::path::absolute(directory).map_err(|error| Failure::Usage(format!("--state: {error}")))?;
        return Ok(sai_agent::container_settings::ContainerSettings::default().images(&directory));
    }
    let config = config::read(&file).map_err(Failure::Usage)?;
    let directory = state.or(config.state).map_or_else(default, Ok)?;
    let directory = std::path::absolute(directory).map_err(|error| Failure::Usage(format!("--state: {error}")))?;
    Ok(config.containers.images(&directory))
}

/// The one word that is left.
fn platform(mut arguments: Arguments) -> Result<String, Failure> {
    let expected = || Failure::Usage(format!("expected the name of a platform; {SEE}"));
    let word: Option<String> = arguments.opt_free_from_fn(platform_name).map_err(misunderstood)?;
    finish(arguments).map_err(wrong)?;
    word.ok_or_else(expected)
}

fn origin(arguments: &mut Arguments) -> Result<Origin, Failure> {
    let suite = |word: &str| apt::check_suite(word).map(|()| word.to_string());
    let suite: Option<String> = arguments.opt_value_from_fn("--debootstrap", suite).map_err(misunderstood)?;
    let mirror = |word: &str| apt::check_mirror(word).map(|()| word.to_string());
    let mirror: Option<String> = arguments.opt_value_from_fn("--mirror", mirror).map_err(misunderstood)?;
    let architecture: Option<String> = arguments.opt_value_from_str("--arch").map_err(misunderstood)?;
    let directory = arguments.opt_value_from_os_str("--from-dir", path).map_err(misunderstood)?;
    let archive = arguments.opt_value_from_os_str("--from-tar", path).map_err(misunderstood)?;
    let on = arguments.opt_value_from_fn("--on", platform_name).map_err(misunderstood)?;
    if suite.is_none() && (mirror.is_some() || architecture.is_some()) {
        return Err(Failure::Usage(format!("--mirror and --arch are about --debootstrap SUITE; {SEE}")));
    }
    match (suite, directory, archive, on) {
        (Some(suite), None, None, None) => Ok(Origin::Debootstrap(suite, mirror, architecture)),
        (None, Some(directory), None, None) => Ok(Origin::Directory(directory)),
        (None, None, Some(archive), None) => Ok(Origin::Archive(archive)),
        (None, None, None, Some(other)) => Ok(Origin::On(other)),
        _ => Err(Failure::Usage(format!("expected one of --debootstrap, --from-dir, --from-tar and --on; {SEE}"))),
    }
}

/// All packages of all `--packages`, which are divided by spaces.
fn packages(arguments: &mut Arguments) -> Result<Vec<String>, Failure> {
    let lists: Vec<String> = arguments.values_from_str("--packages").map_err(misunderstood)?;
    let packages: Vec<String> = lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_string).collect();
    match packages.iter().find_map(|package| apt::check_package(package).err()) {
        Some(why) => Err(Failure::Usage(format!("--packages: {why}"))),
        None => Ok(packages),
    }
}

/// Runs a worker to its end, or to the first signal that asks us to end.
fn work(request: &Request) -> Result<u8, Failure> {
    let trouble = |error: std::io::Error| Failure::Trouble(format!("no worker can be started: {error}"));
    // First, so that no signal finds a worker that nobody ends.
    let mut signals = Signals::new([Signal::Int, Signal::Term, Signal::Hup]).map_err(trouble)?;
    let mut child = worker::start(request).map_err(trouble)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    smol::block_on(async {
        let mut end = Box::pin(smol::unblock(move || child.wait()));
        let interrupted = async {
            signals.next().await;
            None
        };
        match future::or(async { Some(end.as_mut().await) }, interrupted).await {
            Some(status) => {
                let code = status.map_err(trouble)?.code().and_then(|code| u8::try_from(code).ok());
                code.ok_or_else(|| Failure::Trouble("the worker was killed".to_string()))
            }
            None => {
                if let Some(pid) = pid {
                    let _ = kill_process(pid, rustix::process::Signal::KILL);
                }
                let _ = end.await;
                Err(Failure::Interrupted)
            }
        }
    })
}
