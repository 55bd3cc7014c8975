//! The kernel as it starts us → file systems that programs expect, its modules, a clock that is not in 1970, the watchdog.

use crate::tell::tell;
use rustix::fs::Mode;
use rustix::mount::{MountFlags, mount};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use std::ffi::CStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// What is mounted: kind, place, flags, options.
const MOUNTS: [(&str, &str, MountFlags, &CStr); 7] = [
    ("proc", "/proc", QUIET, c""),
    ("sysfs", "/sys", QUIET, c""),
    ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
    ("devpts", "/dev/pts", MountFlags::NOSUID, c"ptmxmode=0666,mode=0620"),
    ("tmpfs", "/dev/shm", NOTHING_RUNS, c"mode=1777,size=25%"),
    ("tmpfs", "/tmp", MountFlags::NOSUID, c"mode=1777,size=50%"),
    ("cgroup2", "/sys/fs/cgroup", QUIET, c""),
];
const NOTHING_RUNS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
const QUIET: MountFlags = NOTHING_RUNS.union(MountFlags::NOEXEC);

/// The modules of this image, one a line, each after what it needs.
const MODULES: &str = "/modules/order";
/// When the image was made, in seconds since 1970.
const MADE: &str = "/etc/sai-image-time";
/// Its time of change is that of the last time this machine knew the time.
const CLOCK: &str = "/data/clock";

/// Mounts what is no card's, and gives busybox its names.
pub fn mount_all() {
    for (kind, place, flags, options) in MOUNTS {
        let made = fs::create_dir_all(place);
        if let Err(error) = made.and_then(|()| Ok(mount(kind, place, kind, flags, options)?)) {
            tell(&format!("{place}: {error}"));
        }
    }
    if let Err(error) = Command::new("/bin/busybox").args(["--install", "-s", "/bin"]).status() {
        tell(&format!("/bin/busybox: {error}"));
    }
}

/// Loads all modules of the image. What belongs to other hardware than this finds none and does nothing.
pub fn load_modules() {
    for path in fs::read_to_string(MODULES).unwrap_or_default().lines() {
        let loaded = File::open(path).and_then(|file| Ok(rustix::system::finit_module(file, c"", 0)?));
        if let Err(error) = loaded {
            tell(&format!("{path}: {error}"));
        }
    }
}

/// Time since the machine was started, by a clock that goes on while it sleeps and that nobody sets.
pub fn since_start() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

/// A machine without a clock of its own begins in 1970. It is never before the image was made, nor before it was last on.
pub fn set_clock() {
    let made = fs::read_to_string(MADE).ok().and_then(|text| text.trim().parse::<i64>().ok());
    let kept = fs::metadata(CLOCK).ok().map(|clock| clock.mtime());
    let least = made.max(kept).unwrap_or_default();
    if clock_gettime(ClockId::Realtime).tv_sec < least
        && let Err(error) = clock_settime(ClockId::Realtime, Timespec { tv_sec: least, tv_nsec: 0 })
    {
        tell(&format!("the clock: {error}"));
    }
    keep_clock();
}

/// Writes the time down.
pub fn keep_clock() {
    if let Err(error) = fs::write(CLOCK, "") {
        tell(&format!("{CLOCK}: {error}"));
    }
}

/// The word among the kernel's arguments that leaves the watchdog alone.
const UNWATCHED: &str = "sai.watchdog=off";

/// How often it is looked whether a program has ended.
const LOOKED: Duration = Duration::from_millis(20);

/// What starts the machine anew when it is not fed any more. The kernel's driver begins with 15 s.
pub struct Watchdog(Option<File>);

impl Watchdog {
    /// Begins: from now on it wants to be fed.
    pub fn open() -> Self {
        let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        if arguments.split_whitespace().any(|word| word == UNWATCHED) {
            tell("the watchdog is left alone");
            return Self(None);
        }
        let opened = OpenOptions::new().write(true).open("/dev/watchdog");
        if let Err(error) = &opened {
            tell(&format!("no watchdog: {error}"));
        }
        Self(opened.ok())
    }

    /// Runs a program to its end, however long that takes: a large card that is mended takes minutes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn during(&mut self, command: &mut Command) -> io::Result<ExitStatus> {
        let mut child = command.spawn()?;
        loop {
            self.feed();
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(LOOKED);
        }
    }

    /// Tells it that all is well.
    pub fn feed(&mut self) {
        if let Some(watchdog) = &mut self.0 {
            // Who cannot feed it is started anew, which is what it is for.
            let _ = watchdog.write_all(b"\n");
        }
    }
}

/// Has the kernel's console leave a tty that belongs to a board.
pub fn leave_tty(name: &str) {
    let attribute = format!("/sys/class/tty/{name}/console");
    match fs::write(&attribute, "N") {
        Ok(()) => tell(&format!("{name} is a board's, and no console of this machine any more")),
        // Most ttys were none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tell(&format!("{attribute}: {error}")),
    }
}

/// Makes a directory that only root sees.
pub fn private(directory: &str) {
    if let Err(error) = fs::create_dir_all(directory).and_then(|()| Ok(rustix::fs::chmod(directory, Mode::RWXU)?)) {
        tell(&format!("{directory}: {error}"));
    }
}
