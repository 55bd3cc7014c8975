//! A machine that has just started → one with its data, its network and its agent, for as long as it is on: the image's first process.
//!
//! It reads what its owner wrote to the card, sets the machine up by that, starts what `services` says and feeds the watchdog. It
//! outlives all that it starts, and opens no port; of its own processes one answers to its name, by UDP, and one becomes a server of
//! shells where the settings name keys for it.

#![forbid(unsafe_code)]

#[path = "main/boot.rs"]
mod boot;
#[path = "main/clock.rs"]
mod clock;
#[path = "main/data.rs"]
mod data;
#[path = "main/images.rs"]
mod images;
#[path = "main/machine.rs"]
mod machine;
#[path = "main/name.rs"]
mod name;
#[path = "main/network.rs"]
mod network;
#[path = "main/programs.rs"]
mod programs;
#[path = "main/shell.rs"]
mod shell;
#[path = "main/sweep.rs"]
mod sweep;
#[path = "main/systems.rs"]
mod systems;
#[path = "main/tell.rs"]
mod tell;

use self::network::Network;
use self::programs::Programs;
use self::systems::Systems;
use self::tell::tell;
use rustix::process::{Pid, getpid};
use sai_core::join::{self, JoinLine, UPDATE_KEY_BYTES};
use sai_core::slots::System;
use sai_init::files;
use sai_init::services::{Input, Output, Service, Services};
use sai_init::settings::Settings;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long nothing may happen before the watchdog is fed again: a third of the time after which the Pi's starts it anew.
const FEEDING: Duration = Duration::from_secs(5);
/// How often the time of day is written down, for a machine without a clock: a card is written to no more often than that.
const CLOCK_KEPT: Duration = Duration::from_secs(3600);

/// Where the agent keeps what is its own.
const STATE: &str = "/data/agent";
/// The agent's configuration, in memory alone.
const AGENT: &str = "/run/agent.json";
/// Where the self-test puts its report, before that is copied to the card.
const REPORT: &str = "/run/sai-selftest.txt";
/// Owners and the guard have their sockets here. They make it, so that nobody else may enter.
const BOARDS_RUN: &str = "/run/sai-buddy";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if getpid() != Pid::INIT {
        if let Some((word, servers)) = words.split_first()
            && word == clock::WORD
        {
            return clock::serve(servers);
        }
        if let Some((word, names)) = words.split_first()
            && word == name::WORD
        {
            return name::serve(names);
        }
        if let Some((word, all)) = words.split_first()
            && word == images::WORD
        {
            return images::make(all);
        }
        if words == [shell::WORD] {
            return shell::serve();
        }
        tell(
            "this is the first process of Sai's image for a Raspberry Pi; cross/image makes that, and docs/pi.md says how it is used",
        );
        return ExitCode::from(2);
    }
    machine::move_root();
    machine::mount_all();
    let runs = systems::running();
    tell(if runs.is_some() { "starting" } else { "looking for the system that is to be started" });
    machine::load_modules(machine::FIRST_MODULES);
    let mut watchdog = machine::Watchdog::open();
    let card = boot::await_card(&mut watchdog, runs.is_some());
    let started = runs.or_else(|| systems::start(card, &mut watchdog).then_some(System::Factory));
    let lasting = data::prepare(card, &mut watchdog);
    if !lasting && runs.is_some_and(|system| system != System::Factory) {
        // A slot was read from there a moment ago: another system may do better.
        machine::restart();
    }
    machine::load_modules(machine::MODULES);
    let mut systems = Systems::new(card, started);
    if lasting {
        systems.take_from_card(card, &mut watchdog);
    }
    let found = boot::read(card);
    machine::set_clock();
    let settled = boot::settle(card, found, lasting);
    // Without settings there is nothing to start. The card is mended elsewhere, so the machine only says so until it is switched off.
    let Some((settings, secrets)) = settled else {
        loop {
            watchdog.feed();
            systems.look(false);
            std::thread::sleep(FEEDING);
        }
    };
    let line = secrets.join.as_deref().and_then(|line| line.parse::<JoinLine>().ok());
    let sweeping = sweep::begin(card, &secrets);
    let hostname = files::hostname(&settings, line.as_ref());
    set_up(&settings, &hostname, line.as_ref());
    let key = line.as_ref().and_then(|line| join::update_key(&line.token));
    systems.show(STATE, key.as_ref());
    let (network, boot) = (Network::new(&settings, secrets.passphrase), Boot { card, sweeping });
    run(&settings, &hostname, network, line.is_some().then_some(key), systems, boot, watchdog)
}

/// What is known of the boot partition while the machine runs.
struct Boot {
    card: &'static str,
    /// Who writes where no file of it is.
    sweeping: Option<JoinHandle<()>>,
}

impl Boot {
    /// Puts the self-test's report there.
    fn put_report(&mut self) {
        // What is written to a place that was free a moment ago must not be overwritten there.
        if let Some(sweeping) = self.sweeping.take() {
            let _ = sweeping.join();
        }
        boot::put_report(self.card, REPORT);
    }
}

/// Writes what programs read.
fn set_up(settings: &Settings, hostname: &str, line: Option<&JoinLine>) {
    if let Err(error) = rustix::system::sethostname(hostname.as_bytes()) {
        tell(&format!("the host's name: {error}"));
    }
    write("/etc/hosts", &files::hosts(hostname, settings), 0o644);
    let addressings = [Some(&settings.ethernet), settings.wifi.as_ref().map(|wifi| &wifi.addressing)];
    if let Some(resolver) = files::resolver(addressings.into_iter().flatten()) {
        write("/etc/resolv.conf", &resolver, 0o644);
    }
    if let Some(keys) = files::authorized(settings) {
        machine::private(shell::AUTHORIZED_IN);
        write(shell::AUTHORIZED, &keys, 0o600);
    }
    if let Err(error) = fs::create_dir_all(STATE) {
        tell(&format!("{STATE}: {error}"));
    }
    // Those who run steps get to their own directories in it, and see no others.
    let _ = fs::set_permissions(STATE, fs::Permissions::from_mode(0o711));
    match line {
        Some(line) => {
            let boards = boot::boards().then_some(boot::BOARDS_KEPT);
            write(AGENT, &files::agent(settings, line, STATE, boards), 0o600);
        }
        None => tell(
            "sai.json says that its join line was moved, and it is not on this card's data partition: put one there",
        ),
    }
}

/// Writes a file anew, with these permissions from its first byte on.
fn write(path: &str, text: &str, mode: u32) {
    let written = || -> std::io::Result<()> {
        if Path::new(path).exists() {
            fs::remove_file(path)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
    };
    if let Err(error) = written() {
        tell(&format!("{path}: {error}"));
    }
}

/// Keeps everything going.
fn run(
    settings: &Settings,
    hostname: &str,
    mut network: Network,
    // Of a join line what it says of updates.
    joined: Option<Option<[u8; UPDATE_KEY_BYTES]>>,
    mut systems: Systems,
    mut boot: Boot,
    mut watchdog: machine::Watchdog,
) -> ExitCode {
    let (mut services, mut programs) = (Services::default(), Programs::default());
    let mut inputs = vec![Input::Wanted(Service::Name)];
    if boot::boards() {
        inputs.push(Input::Wanted(Service::Guard));
    }
    if joined.is_some() {
        inputs.push(Input::Wanted(Service::Agent));
    }
    if !settings.ntp.is_empty() {
        inputs.push(Input::Wanted(Service::Time));
    }
    if joined.is_some() && !images::missing(settings).is_empty() {
        inputs.push(Input::Wanted(Service::Images));
    }
    if settings.selftest.is_some() {
        inputs.push(Input::Wanted(Service::SelfTest));
    }
    if !settings.shell.is_empty() {
        inputs.push(Input::Wanted(Service::Shell));
    }
    let mut kept = machine::since_start();
    loop {
        inputs.extend(network.look().into_iter().map(Input::Wanted));
        inputs.push(Input::Tick);
        let mut out = Vec::new();
        for input in inputs.drain(..) {
            services.handle(millis(), input, &mut out);
        }
        for output in out {
            match output {
                Output::Start(service) => {
                    match programs.start(&service, &command(&service, settings, hostname, &network, &boot)) {
                        Ok(()) => tell(&format!("{service} is started")),
                        Err(error) => {
                            tell(&format!("{service} cannot be started: {error}"));
                            inputs.push(Input::Ended(service, None));
                        }
                    }
                }
                Output::Told(service, status, pause) => {
                    let how = status.map_or("by a signal".to_owned(), |status| format!("with status {status}"));
                    tell(&format!("{service} has ended {how}, and is started again in {pause} ms"));
                }
                Output::Over(Service::SelfTest) => boot.put_report(),
                Output::Over(_) => {}
            }
        }
        watchdog.feed();
        systems.look(programs.reached());
        systems.take_handed(STATE, joined.flatten().as_ref(), &mut watchdog);
        if machine::since_start().saturating_sub(kept) >= CLOCK_KEPT {
            kept = machine::since_start();
            machine::keep_clock();
        }
        let deadline = services.deadline().into_iter().chain(systems.deadline()).min();
        let deadline = deadline.map(|at| Duration::from_millis(at.saturating_sub(millis())));
        let most = if inputs.is_empty() { deadline.unwrap_or(FEEDING).min(FEEDING) } else { Duration::ZERO };
        inputs.extend(
            programs.wait(most, network.socket()).into_iter().map(|(service, status)| Input::Ended(service, status)),
        );
    }
}

fn millis() -> u64 {
    machine::since_start().as_millis().try_into().unwrap_or(u64::MAX)
}

/// The words that start a program.
fn command(service: &Service, settings: &Settings, hostname: &str, network: &Network, boot: &Boot) -> Vec<String> {
    let selftest = files::selftest(settings.selftest.as_ref(), REPORT);
    let images = images::missing(settings);
    let words: Vec<&str> = match service {
        Service::Images => {
            let all = images.iter().flat_map(|(platform, file)| [platform.as_str(), file]);
            ["/init", images::WORD, AGENT, boot.card].into_iter().chain(all).collect()
        }
        Service::Guard => vec!["/bin/sai-agent", "guard", "--run", BOARDS_RUN],
        Service::Agent => vec!["/bin/sai-agent", "--config", AGENT],
        Service::Name => vec!["/init", name::WORD, hostname],
        Service::Shell => vec!["/init", shell::WORD],
        Service::Time => {
            let servers = settings.ntp.iter().map(String::as_str);
            ["/init", clock::WORD].into_iter().chain(servers).collect()
        }
        Service::Address(interface) => {
            vec!["/bin/busybox", "udhcpc", "-f", "-i", interface, "-s", "/etc/udhcpc.script", "-T", "2", "-A", "5"]
        }
        Service::SelfTest => ["/bin/sai-agent"].into_iter().chain(selftest.iter().map(String::as_str)).collect(),
        Service::Wireless(interface) => {
            vec!["/sbin/wpa_supplicant", "-i", interface, "-c", network.configuration(), "-D", "nl80211"]
        }
    };
    words.into_iter().map(str::to_owned).collect()
}
