//! Request → an image in its staging directory: the process that carries the steps out, `sai-agent --image REQUEST`.
//!
//! It is the first process of a process namespace of its own and has mounts of its own: when it ends, or whoever started it,
//! the kernel ends all that it has started and takes its mounts away.

use super::apt::PATH;
use super::plan::{Places, Request, Root as Which, Step, plan};
use super::trial;
use crate::accounts;
use crate::root::{Root, magic_path};
use crate::say;
use miniserde::json;
use rustix::fs::{FileType, Mode, makedev, mknodat, symlinkat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, getpid, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::ffi::{CString, OsStr};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// The option by which this program is asked to be one.
pub const OPTION: &str = "--image";
/// This program, whatever has happened to its file meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// Devices of a root in which packages are installed: name, major and minor number, see the kernel's list of devices.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// What `/dev` has beside them.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Gives the calling process other namespaces for what it does or starts from now on.
///
/// # Errors
/// The system's.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // It is deprecated for the sake of the one flag by which threads lose each other's files.
    #[expect(deprecated, reason = "only UnshareFlags::FILES makes it unsafe, which is never given here")]
    rustix::thread::unshare(flags - UnshareFlags::FILES)?;
    Ok(())
}

/// Starts a worker in a process namespace of its own. It ends when the calling thread does.
///
/// # Errors
/// The system's.
pub fn start(request: &Request) -> io::Result<Child> {
    let own = File::open("/proc/thread-self/ns/pid")?;
    unshare(UnshareFlags::NEWPID)?;
    let child = Command::new(OURSELVES).arg(OPTION).arg(json::to_string(request)).spawn();
    // No thread could be started while one's children belong elsewhere.
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    child
}

/// Does what a request asks for. The exit status tells whether all of it was done; a shell's is passed on.
pub fn main(request: &OsStr) -> ExitCode {
    match work(request) {
        Ok(status) => ExitCode::from(status),
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

fn work(request: &OsStr) -> Result<u8, String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| format!("prctl: {error}"))?;
    if getpid().as_raw_nonzero().get() != 1 {
        return Err(format!("{OPTION} is for sai-agent itself; see sai-agent image --help"));
    }
    let request = request.to_str().and_then(|text| json::from_str::<Request>(text).ok());
    let request = request.ok_or_else(|| format!("{OPTION}: this is no request"))?;
    let own = || -> io::Result<()> {
        unshare(UnshareFlags::NEWNS)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
        Ok(())
    };
    own().map_err(|error| format!("no mounts of its own can be had: {error}"))?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let places = Places::of(Path::new(&request.staging));
    let steps = plan(&request);
    for step in &steps {
        let status = carry_out(step, &places, &request)?;
        if status != 0 {
            return Ok(status);
        }
    }
    Ok(0)
}

/// Carries one step out. Only a shell has a status other than 0.
fn carry_out(step: &Step, places: &Places, request: &Request) -> Result<u8, String> {
    let path = |root: &Which| match root {
        Which::Base => &places.base,
        Which::Whole => &places.whole,
    };
    let open = |root: &Which| Root::open(path(root)).map_err(|error| format!("{}: {error}", path(root).display()));
    match step {
        Step::Say(line) => say(line),
        Step::Directory(path) => DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| format!("{}: {error}", path.display()))?,
        Step::Run(words) => run(Command::new(&words[0]).args(&words[1..]), &words[0], request)?,
        Step::Check(root) => {
            if !open(root)?.has("bin/sh") {
                return Err(format!("expected a root file system, but {} has no /bin/sh", request.from));
            }
        }
        Step::Write(root, path, text, mode) => {
            open(root)?
                .replace(path, text.as_bytes(), *mode)
                .map_err(|error| format!("/{path} of the image: {error}"))?;
        }
        Step::User(root) => add_user(&open(root)?)?,
        Step::Mount { layers, upper } => {
            mount_layers(layers, upper, places).map_err(|error| {
                format!("the layers cannot be put over each other by overlayfs in {}: {error}", request.staging)
            })?;
            furnish(&open(&Which::Whole)?).map_err(|error| format!("/proc and /dev of the image: {error}"))?;
        }
        Step::Inside(words) => {
            if !words[0].contains('/')
                && !PATH.split(':').any(|directory| has(places, &format!("{directory}/{}", words[0])))
            {
                return Err(format!("packages are installed with {}, which this image has not", words[0]));
            }
            run(Command::new("chroot").arg(&places.whole).args(words), &words[0], request)?;
        }
        Step::Try => {
            let runner = trial::RUNNERS.into_iter().find(|runner| runner.word() == request.from);
            let runner = runner.ok_or_else(|| format!("{OPTION}: there is no runner {}", request.from))?;
            let place = trial::place(Path::new(&request.staging), runner);
            let result = trial::run(runner, &request.layers, &place);
            let line = trial::line(runner, &result);
            fs::write(place.with_extension("found"), line).map_err(|error| format!("{}: {error}", place.display()))?;
        }
        Step::Shell => {
            let shell = if has(places, "/bin/bash") { "/bin/bash" } else { "/bin/sh" };
            let mut command = Command::new("chroot");
            let status = environment(command.arg(&places.whole).args([shell, "-l"]), request).status();
            return status.map(code).map_err(|error| format!("chroot: {error}"));
        }
    }
    Ok(0)
}

fn has(places: &Places, path: &str) -> bool {
    Root::open(&places.whole).is_ok_and(|root| root.has(path))
}

/// The status that a shell would give.
fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// What programs see of our environment: how to reach the network, and the terminal.
fn environment<'a>(command: &'a mut Command, request: &Request) -> &'a mut Command {
    let kept = ["TERM", "http_proxy", "https_proxy", "no_proxy"].map(|name| (name, std::env::var_os(name)));
    command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8").current_dir("/");
    // Nothing is lost when the machine stops in the middle: an image is synced as a whole before it is offered.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("DPKG_FORCE", "unsafe-io");
    for (variable, key) in [("http_proxy", "Acquire::http::Proxy="), ("https_proxy", "Acquire::https::Proxy=")] {
        if let Some(proxy) = request.settings.iter().find_map(|setting| setting.strip_prefix(key)) {
            command.env(variable, proxy);
        }
    }
    for (name, value) in kept {
        command.envs(value.map(|value| (name, value)));
    }
    command
}

/// Runs a program that must succeed; what it prints is for the person at the terminal.
fn run(command: &mut Command, name: &str, request: &Request) -> Result<(), String> {
    match environment(command, request).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} failed ({status}); it has said why above")),
        Err(error) => Err(format!("{name} cannot be run: {error}")),
    }
}

fn add_user(root: &Root) -> Result<(), String> {
    let failed = |error: io::Error| format!("the user {} of the image: {error}", accounts::USER);
    let read = |path| root.read(path).map(Option::unwrap_or_default).map_err(failed);
    let shell = if root.has("bin/bash") { "/bin/bash" } else { "/bin/sh" };
    let Some(account) = accounts::account(&read("etc/passwd")?, &read("etc/group")?, shell)? else { return Ok(()) };
    let add = || {
        for (path, lines) in
            [("etc/passwd", &account.passwd), ("etc/group", &account.group), ("etc/shadow", &account.shadow)]
        {
            match root.has(path) {
                true => root.append(path, lines)?,
                // Without passwords there is nothing to lock.
                false if path == "etc/shadow" => {}
                false => root.replace(path, lines.as_bytes(), 0o644)?,
            }
        }
        root.give(format!("home/{}", accounts::USER), account.number)
    };
    add().map_err(failed)
}

/// Mounts the layers over each other.
fn mount_layers(layers: &[PathBuf], upper: &Path, places: &Places) -> io::Result<()> {
    // What is changed in env must mean the same when it is a lower layer: without these a directory that is renamed, or a file
    // whose owner changes, would be kept as a reference to what is below.
    let mut options = "redirect_dir=nofollow,metacopy=off,index=off,lowerdir=".to_owned();
    for (index, layer) in layers.iter().rev().enumerate() {
        options.push_str(if index == 0 { "" } else { ":" });
        options.push_str(&escaped(layer)?.replace(':', "\\:"));
    }
    options.push_str(&format!(",upperdir={},workdir={}", escaped(upper)?, escaped(&places.work)?));
    let options = CString::new(options)?;
    mount("overlay", &places.whole, "overlay", MountFlags::empty(), options.as_c_str())?;
    Ok(())
}

/// A path as an option of overlayfs.
fn escaped(path: &Path) -> io::Result<String> {
    let text =
        path.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "expected a path that is text"))?;
    Ok(text.replace('\\', "\\\\").replace(',', "\\,"))
}

/// Gives a root what programs expect of a running system.
fn furnish(root: &Root) -> io::Result<()> {
    // A path to an open directory is where it was opened, whatever the root's links are.
    let place = |path: &str| -> io::Result<(std::os::fd::OwnedFd, PathBuf)> {
        let directory = root.directory(path)?;
        let place = magic_path(&directory);
        Ok((directory, place))
    };
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    let (_open, proc) = place("proc")?;
    let (_open, dev) = place("dev")?;
    mount("tmpfs", &dev, "tmpfs", quiet, c"mode=755,size=64m")?;
    let (dev, _) = place("dev")?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(&dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
        rustix::fs::chmodat(&dev, name, mode, rustix::fs::AtFlags::empty())?;
    }
    for (target, name) in LINKS {
        symlinkat(target, &dev, name)?;
    }
    let (_open, pts) = place("dev/pts")?;
    mount("devpts", &pts, "devpts", quiet, c"newinstance,ptmxmode=0666,mode=620,gid=5")?;
    let (_open, shm) = place("dev/shm")?;
    mount("tmpfs", &shm, "tmpfs", quiet | MountFlags::NODEV, c"mode=1777")?;
    // Names are looked up as on this machine.
    if let Ok(text) = fs::read_to_string("/etc/resolv.conf")
        && root.read("etc/resolv.conf")?.as_ref() != Some(&text)
    {
        root.replace("etc/resolv.conf", text.as_bytes(), 0o644)?;
    }
    // Last, since all paths above go through ours.
    mount("proc", &proc, "proc", quiet | MountFlags::NODEV, None)?;
    Ok(())
}
