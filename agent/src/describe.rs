//! This machine → what an agent says of it: platforms, cores, memory, load and free space.
//!
//! What is read from the system is turned into names and numbers by functions that take text, so that other machines
//! than this one can be described in tests.

use rustix::fs::{Access, access, statvfs};
use sai_core::platform;
use sai_core::wire::Load;
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

/// Compilers that make a platform of their own when they are on `PATH`.
const TOOLCHAINS: [&str; 2] = ["gcc", "clang"];

/// Where a system says what it is: os-release(5), the local file first.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Bytes read of a small system file; none of those read here is longer.
const SYSTEM_FILE_BYTES: u64 = 64 << 10;

/// Change of the load, in thousandths of a core's, that is worth a message.
const LOAD_STEP_PERMILLE: u32 = 50;

/// The start of a small file of the system, or nothing.
fn read(path: &str) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is as good as a shorter file.
        let _ = file.take(SYSTEM_FILE_BYTES).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// This machine's name, from uname(2).
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Processor cores this process may use.
#[must_use]
pub fn cores() -> u32 {
    thread::available_parallelism().map_or(1, NonZero::get).try_into().unwrap_or(u32::MAX)
}

/// Memory of this machine, MiB.
#[must_use]
pub fn memory_mib() -> u64 {
    memory_of(&read("/proc/meminfo"))
}

/// `MemTotal` of a proc_meminfo(5) text, MiB.
fn memory_of(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()).and_then(|digits| digits.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// This machine's architecture, from uname(2).
#[must_use]
pub fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The platforms of this machine as it is: `linux-debian-12/x86_64/gcc`, one for each compiler on `PATH`, and without
/// the last part if there is none.
#[must_use]
pub fn platforms() -> Vec<String> {
    let release = OS_RELEASE.iter().map(|path| read(path)).find(|text| !text.is_empty()).unwrap_or_default();
    let found: Vec<&str> = TOOLCHAINS.into_iter().filter(|name| on_path(name)).collect();
    platforms_of(&release, &machine(), &found)
}

/// Whether a program can be run by its name alone.
pub fn on_path(program: &str) -> bool {
    find(program, &env::var_os("PATH").unwrap_or_default()).is_some()
}

/// Where a program is, in one of the directories of this `PATH`.
pub fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| file.is_file() && access(file, Access::EXEC_OK).is_ok())
}

/// Platform names from an os-release(5) text, `uname -m` and compilers.
fn platforms_of(os_release: &str, machine: &str, toolchains: &[&str]) -> Vec<String> {
    let value = |key: &str| {
        let assigned = os_release.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        segment(assigned.unwrap_or_default().trim_matches(['"', '\'']))
    };
    let mut system = "linux".to_owned();
    for part in [value("ID"), value("VERSION_ID")] {
        if !part.is_empty() {
            system.push('-');
            system.push_str(&part);
        }
    }
    let base = match segment(machine) {
        machine if machine.is_empty() => system,
        machine => format!("{system}/{machine}"),
    };
    let names = if toolchains.is_empty() {
        vec![base]
    } else {
        toolchains.iter().map(|toolchain| format!("{base}/{toolchain}")).collect()
    };
    names.into_iter().filter(|name| platform::check_name(name).is_ok()).collect()
}

/// A text as part of a platform's name: without what cannot stand there.
fn segment(text: &str) -> String {
    let fine = |letter: &char| letter.is_ascii_alphanumeric() || "_.-+".contains(*letter);
    text.chars().filter(fine).take(32).collect()
}

/// Numeric user and group of a user of this machine.
///
/// # Errors
/// One line: there is no such user, or steps cannot be run as anybody else.
pub fn user(name: &str) -> Result<(u32, u32), String> {
    let ids = user_of(&read("/etc/passwd"), name).ok_or_else(|| format!("there is no user {name} in /etc/passwd"))?;
    if !rustix::process::geteuid().is_root() && ids.0 != rustix::process::geteuid().as_raw() {
        return Err(format!("only an agent that root runs can run steps as {name}"));
    }
    Ok(ids)
}

/// User and group of the passwd(5) line that begins with a name.
fn user_of(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Whether steps that run on the machine itself are root's: the agent is, and is told of no other user for them.
#[must_use]
pub fn steps_are_root(other_user: bool) -> bool {
    rustix::process::geteuid().is_root() && !other_user
}

/// What the machine does now: its load, and the free space of the file system that holds `directory`.
#[must_use]
pub fn load(directory: &Path) -> Load {
    let free = statvfs(directory).map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize) >> 20);
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Load { load_permille: load_of(&text, cores()), free_mib: free }
}

/// The one-minute average of a proc_loadavg(5) text, in thousandths of a core's.
fn load_of(loadavg: &str, cores: u32) -> u32 {
    // The kernel writes two decimal places. (To read numbers of floating point costs 14 KB of program.)
    let (whole, hundredths) =
        loadavg.split_ascii_whitespace().next().and_then(|text| text.split_once('.')).unwrap_or_default();
    let average = match (whole.parse::<u64>(), hundredths.parse::<u64>()) {
        (Ok(whole), Ok(hundredths @ 0..=99)) => whole.saturating_mul(1000).saturating_add(hundredths * 10),
        _ => 0,
    };
    u32::try_from(average / u64::from(cores.max(1))).unwrap_or(u32::MAX)
}

/// Whether a reading differs enough from what was last said: by more than 5 % of a core's load, or of the free space.
#[must_use]
pub fn worth_telling(said: &Load, now: &Load) -> bool {
    let space = said.free_mib.abs_diff(now.free_mib) > said.free_mib.max(now.free_mib) / 20;
    said.load_permille.abs_diff(now.load_permille) > LOAD_STEP_PERMILLE || space
}

/// Whether there is room for another job, with a quarter of slack before one that was full counts as having room again.
#[must_use]
pub fn has_room(had_room: bool, free_mib: u64, keep_mib: u64) -> bool {
    if had_room { free_mib >= keep_mib } else { free_mib >= keep_mib.saturating_add(keep_mib / 4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_named_as_saifiles_name_them() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\nID_LIKE=x\n";
        for (release, machine, toolchains, names) in [
            (
                debian,
                "x86_64",
                &["gcc", "clang"][..],
                &["linux-debian-12/x86_64/gcc", "linux-debian-12/x86_64/clang"][..],
            ),
            (debian, "aarch64", &[], &["linux-debian-12/aarch64"]),
            ("ID=arch\n", "x86_64", &["gcc"], &["linux-arch/x86_64/gcc"]),
            ("ID=\"opensuse-leap\"\nVERSION_ID='15.6'\n", "armv7l", &["gcc"], &["linux-opensuse-leap-15.6/armv7l/gcc"]),
            ("", "riscv64", &[], &["linux/riscv64"]),
            ("ID=\"../../etc\"\nVERSION_ID=\"$(reboot)\"\n", "", &[], &["linux-....etc-reboot"]),
        ] {
            assert_eq!(platforms_of(release, machine, toolchains), names);
        }
    }

    #[test]
    fn this_machine_can_be_described() {
        assert!(!platforms().is_empty());
        assert!(cores() >= 1);
        assert!(memory_mib() > 0);
        assert!(!host_name().is_empty());
        assert!(load(Path::new("/")).free_mib > 0);
        assert!(on_path("sh") && !on_path("no-such-program-here"));
    }

    #[test]
    fn system_files_of_any_content_mean_a_number() {
        assert_eq!(load_of("1.50 0.70 0.30 1/200 4242\n", 2), 750);
        assert_eq!(load_of("", 2), 0);
        assert_eq!(load_of("-3", 2), 0);
        assert_eq!(load_of("NaN", 0), 0);
        assert_eq!(load_of("0.07 0.70", 1), 70);
        assert_eq!(load_of("1.500 0.70", 1), 0);
        assert_eq!(load_of("18446744073709551615.99", 1), u32::MAX);
        assert_eq!(memory_of("MemTotal:        4030464 kB\nMemFree: 1 kB\n"), 3936);
        assert_eq!(memory_of("nothing"), 0);
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nsaint:x:7:7::/:/bin/sh\nsai:x:998:997::/:/bin/sh\nbad:x:y:1::/:\n";
        assert_eq!(user_of(passwd, "sai"), Some((998, 997)));
        assert_eq!(user_of(passwd, "root"), Some((0, 0)));
        assert_eq!(user_of(passwd, "sa"), None);
        assert_eq!(user_of(passwd, "bad"), None);
        assert!(user("no-such-user").is_err());
    }

    #[test]
    fn small_changes_are_not_told() {
        let load = |load_permille, free_mib| Load { load_permille, free_mib };
        assert!(!worth_telling(&load(100, 1000), &load(150, 1000)));
        assert!(worth_telling(&load(100, 1000), &load(151, 1000)));
        assert!(!worth_telling(&load(100, 1000), &load(100, 950)));
        assert!(worth_telling(&load(100, 1000), &load(100, 949)));
        assert!(!worth_telling(&load(0, 0), &load(0, 0)));
    }

    #[test]
    fn a_disk_at_the_threshold_does_not_flicker() {
        assert!(has_room(true, 256, 256) && !has_room(true, 255, 256));
        assert!(!has_room(false, 319, 256) && has_room(false, 320, 256));
        assert!(has_room(false, 0, 0));
    }
}
