//! A card → its data partition, mounted: made at the first start, looked over at each.

use crate::machine::Watchdog;
use crate::tell::tell;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sai_init::card::{Data, SECTOR, data};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Where it is mounted.
const PLACE: &str = "/data";
/// What it is called.
const LABEL: &str = "sai-data";
/// The size of its journal: what is written at once is little, and all of it is written at the first start.
const JOURNAL: &str = "size=8";
/// How long the kernel may take to know a new partition.
const PATIENCE: u32 = 250;
/// How often it is looked for.
const EVERY: Duration = Duration::from_millis(20);

/// Makes the partition where there is none, and mounts it. Where that cannot be done the machine works in memory, so that it can
/// be told about, and keeps nothing. Whether it keeps what it writes.
pub fn prepare(card: &str, watchdog: &mut Watchdog) -> bool {
    let prepared = mounted(card, watchdog);
    if let Err(error) = &prepared {
        tell(&format!("the data partition: {error}; nothing is kept"));
        if let Err(error) = mount("tmpfs", PLACE, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755") {
            tell(&format!("{PLACE}: {error}"));
        }
    }
    prepared.is_ok()
}

/// Makes the partition where there is none, looks it over, and mounts it.
///
/// # Errors
/// It cannot be mounted.
pub fn mounted(card: &str, watchdog: &mut Watchdog) -> io::Result<()> {
    fs::create_dir_all(PLACE)?;
    let device = format!("/dev/{card}");
    let partition = format!("{device}p2");
    let mut first_sector = [0; SECTOR as usize];
    File::open(&device)?.read_exact(&mut first_sector)?;
    let sectors = fs::read_to_string(format!("/sys/class/block/{card}/size"))?.trim().parse().unwrap_or_default();
    match data(&first_sector, sectors).map_err(io::Error::other)? {
        Data::There(_) => {
            // What it mends by itself is told by its status alone.
            let status = watchdog.during(Command::new("/sbin/e2fsck").args(["-p", &partition]))?;
            if !matches!(status.code(), Some(0 | 1)) {
                tell(&format!("the data partition is damaged ({status}), and mended as far as it can be"));
                watchdog.during(Command::new("/sbin/e2fsck").args(["-y", &partition]))?;
            }
        }
        Data::Missing(part, written) => {
            tell(&format!("a data partition of {} MiB is made", (part.count * SECTOR) >> 20));
            // Some cards take minutes to erase what they are told is of no use.
            let place = format!("lazy_itable_init=1,nodiscard,offset={}", part.first * SECTOR);
            let size = format!("{}s", part.count);
            let mut format = Command::new("/sbin/mke2fs");
            format.args([
                "-q", "-F", "-t", "ext4", "-T", "default", "-L", LABEL, "-J", JOURNAL, "-E", &place, &device, &size,
            ]);
            let status = watchdog.during(&mut format)?;
            if !status.success() {
                return Err(io::Error::other(format!("mke2fs ended with {status}")));
            }
            // All of it is on the card before the table says so.
            let mut whole = OpenOptions::new().write(true).open(&device)?;
            whole.sync_all()?;
            whole.write_all(&*written)?;
            whole.sync_all()?;
            drop(whole);
            Command::new("/bin/busybox").args(["blockdev", "--rereadpt", &device]).status()?;
        }
    }
    watchdog.feed();
    let waits = (0..PATIENCE).take_while(|_| !Path::new(&partition).exists());
    waits.for_each(|_| std::thread::sleep(EVERY));
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    Ok(mount(&partition, PLACE, "ext4", flags, c"")?)
}

/// Leaves the partition clean for whoever comes after.
///
/// # Errors
/// Something of it is in use.
pub fn leave() -> io::Result<()> {
    Ok(unmount(PLACE, UnmountFlags::empty())?)
}
