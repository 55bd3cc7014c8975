//! The card's boot partition → settings that are good, and secrets that are kept elsewhere: mistakes are told, and written beside the file.
//!
//! It is mounted to be read, and for the moment of a change to be written. A card that was set up once goes on with the last settings
//! that were good, whatever becomes of the file.

use crate::machine::{Watchdog, leave_tty, private, restart, since_start};
use crate::tell::tell;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use sai_core::bench::{self, Bench, Tty};
use sai_core::json::FILE_MAX;
use sai_init::secrets::{self, Secrets};
use sai_init::settings::{self, FILE, Secret, Settings};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

/// Where the boot partition is mounted.
pub const PLACE: &str = "/boot";
/// The file with what is wrong.
const ERRORS: &str = "sai-errors.txt";
/// The report of a self-test.
const REPORT: &str = "sai-selftest.txt";
/// The boards, beside the settings.
const BOARDS: &str = "boards.json";
/// Settings that were good, boards that were, and secrets, on the data partition.
const KEPT: &str = "/data/settings";
/// See `KEPT`.
pub const BOARDS_KEPT: &str = "/data/settings/boards.json";
/// There while the free part of the boot partition may have copies of secrets.
pub const SWEEP: &str = "/data/settings/sweep";
/// How long a card may take to be found before that is told.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a system that was started by another waits for it: that one has found it, so this one never will.
const STARTED_PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked for.
const EVERY: Duration = Duration::from_millis(20);
/// Nothing on the boot partition is a program or a device.
const FLAGS: MountFlags =
    MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::NOATIME);

/// The card that this machine was started from.
pub fn await_card(watchdog: &mut Watchdog, started: bool) -> &'static str {
    let (card, partition) = ("mmcblk0", "/dev/mmcblk0p1");
    let mut told = false;
    while !Path::new(partition).exists() {
        std::thread::sleep(EVERY);
        watchdog.feed();
        if !told && since_start() > PATIENCE {
            told = true;
            tell(&format!("no card is found at {partition}; it is waited for"));
        }
        if started && since_start() > STARTED_PATIENCE {
            restart();
        }
    }
    card
}

/// What is on the boot partition: the two files, where they are, or why they cannot be read.
pub struct Found {
    settings: io::Result<Vec<u8>>,
    boards: Option<io::Result<Vec<u8>>>,
}

/// Reads the boot partition, and leaves it: what is done to the table of partitions needs nothing of the card to be in use.
pub fn read(card: &str) -> Found {
    if let Err(error) = mount_boot(card) {
        return Found { settings: Err(error), boards: None };
    }
    let settings = contents(&Path::new(PLACE).join(FILE));
    let boards = contents(&Path::new(PLACE).join(BOARDS));
    let _ = unmount(PLACE, UnmountFlags::empty());
    let boards =
        if matches!(&boards, Err(error) if error.kind() == io::ErrorKind::NotFound) { None } else { Some(boards) };
    Found { settings, boards }
}

/// The boot partition's device.
pub fn partition(card: &str) -> String {
    format!("/dev/{card}p1")
}

/// Mounts the boot partition, to be read.
///
/// # Errors
/// It cannot be.
pub fn mount_boot(card: &str) -> io::Result<()> {
    mount_boot_at(card, PLACE)
}

/// The same elsewhere, for who needs it for longer.
///
/// # Errors
/// It cannot be.
pub fn mount_boot_at(card: &str, place: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    Ok(mount(partition(card), place, "vfat", FLAGS | MountFlags::RDONLY, c"umask=077,iocharset=ascii")?)
}

/// What is in a file, and no more of it than is needed to tell that it is too large.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks what was found, tells what is wrong, keeps what is right and moves secrets away. `None` where there are no settings to
/// go by, new or kept.
///
/// Where nothing lasts a secret stays where it is, or the next start would have none.
pub fn settle(card: &str, found: Found, lasting: bool) -> Option<(Settings, Secrets)> {
    private(KEPT);
    if let Err(error) = mount_boot(card) {
        tell(&format!("the boot partition: {error}"));
    }
    let mut errors = Vec::new();
    let text = found.settings.map_err(|error| errors.push(format!("{FILE}: {error}"))).ok();
    let new = text.as_deref().and_then(|text| {
        settings::read(text).map_err(|wrong| errors.extend(wrong)).or_else(|()| settings::read_known(text)).ok()
    });
    let boards = found.boards.map(|text| text.map_err(|error| vec![format!("{BOARDS}: {error}")]));
    let boards = boards.map(|text| text.and_then(|text| bench::read(BOARDS, &text).map(|bench| (text, bench))));
    match boards {
        None => drop(fs::remove_file(BOARDS_KEPT)),
        Some(Ok((text, bench))) => {
            leave_ttys(&bench);
            keep(BOARDS_KEPT, &text);
        }
        Some(Err(wrong)) => errors.extend(wrong),
    }
    let mut secrets: Secrets = contents(&kept("secrets.json"))
        .ok()
        .and_then(|bytes| miniserde::json::from_str(std::str::from_utf8(&bytes).ok()?).ok())
        .unwrap_or(Secrets { join: None, passphrase: None });
    if let (Some(new), Some(text)) = (&new, &text) {
        secrets = secrets.with(new);
        // First they are there, then they are no longer here.
        let known = keep(&kept("secrets.json").display().to_string(), miniserde::json::to_string(&secrets).as_bytes());
        let cleared = secrets::without(text).unwrap_or_else(|| text.clone());
        if known && keep(&kept(FILE).display().to_string(), &cleared) && cleared != *text && lasting && keep(SWEEP, b"")
        {
            clear(&cleared);
        }
    }
    report(&errors);
    let _ = unmount(PLACE, UnmountFlags::empty());
    let settings = new.or_else(|| {
        let settings = contents(&kept(FILE)).ok().and_then(|text| settings::read_known(&text).ok())?;
        tell("going on with the settings that were good the last time");
        Some(settings)
    })?;
    // An open network has no passphrase, also if there was another network before.
    if settings.wifi.as_ref().is_none_or(|wifi| wifi.passphrase.is_none()) {
        secrets.passphrase = None;
    }
    if matches!(settings.wifi.as_ref().and_then(|wifi| wifi.passphrase.as_ref()), Some(Secret::Moved))
        && secrets.passphrase.is_none()
    {
        tell("sai.json says that the passphrase was moved, and it is not on this card's data partition: put one there");
    }
    Some((settings, secrets))
}

/// Whether this machine has boards.
pub fn boards() -> bool {
    Path::new(BOARDS_KEPT).exists()
}

fn kept(name: &str) -> std::path::PathBuf {
    Path::new(KEPT).join(name)
}

/// Boards at a serial line of this machine want it for themselves.
fn leave_ttys(bench: &Bench) {
    for console in bench.boards.iter().flat_map(|board| &board.consoles) {
        if let Tty::Path(path) = &console.tty
            && let Some(name) = path.strip_prefix("/dev/").filter(|name| !name.contains(['/', '.']))
        {
            leave_tty(name);
        }
    }
}

/// Replaces a file of the data partition, whole or not at all. Whether it is there then.
fn keep(path: &str, bytes: &[u8]) -> bool {
    if contents(Path::new(path)).is_ok_and(|there| there == bytes) {
        return true;
    }
    let new = format!("{path}.new");
    let written = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(KEPT)?.sync_all()
    };
    written().map_err(|error| tell(&format!("{path}: {error}"))).is_ok()
}

/// Does something to the boot partition, which can be written for that long.
pub fn change(what: &str, act: impl FnOnce() -> io::Result<()>) {
    let done = mount_remount(PLACE, FLAGS, c"").map_err(io::Error::from).and_then(|()| act());
    rustix::fs::sync();
    let _ = mount_remount(PLACE, FLAGS | MountFlags::RDONLY, c"");
    if let Err(error) = done {
        tell(&format!("{what} on the boot partition: {error}"));
    }
}

/// Overwrites the settings where they are.
fn clear(text: &[u8]) {
    change(FILE, || {
        let mut file = OpenOptions::new().write(true).open(Path::new(PLACE).join(FILE))?;
        file.write_all(text)?;
        file.sync_all()
    });
}

/// Copies the report of a self-test to the boot partition, for whoever takes the card out.
pub fn put_report(card: &str, from: &str) {
    let text = match fs::read_to_string(from) {
        Ok(text) => text.replace('\n', "\r\n"),
        Err(error) => return tell(&format!("{from}: {error}")),
    };
    if let Err(error) = mount_boot(card) {
        return tell(&format!("the boot partition: {error}"));
    }
    replace(REPORT, &text);
    let _ = unmount(PLACE, UnmountFlags::empty());
    tell(&format!("the self-test's report is {REPORT} on the boot partition"));
}

/// Tells what is wrong, and leaves that on the card for whoever takes it out; a file from before goes when nothing is.
fn report(errors: &[String]) {
    let path = Path::new(PLACE).join(ERRORS);
    if errors.is_empty() {
        if path.exists() {
            change(ERRORS, || fs::remove_file(&path));
        }
        return;
    }
    let text = errors.join("\n") + "\n";
    tell(&text);
    // Lines end so for an editor of any system.
    let text = text.replace('\n', "\r\n");
    if contents(&path).is_ok_and(|there| there == text.as_bytes()) {
        return;
    }
    replace(ERRORS, &text);
}

/// Writes a file of the boot partition anew.
fn replace(name: &str, text: &str) {
    change(name, || {
        let mut file = File::create(Path::new(PLACE).join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
}
