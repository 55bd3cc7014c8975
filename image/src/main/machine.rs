//! The kernel as it starts us → file systems that programs expect, its modules, a clock that is not in 1970, the watchdog.

use crate::tell::tell;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::system::{RebootCommand, reboot};
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

/// Where the root is for a moment.
const NEW_ROOT: &str = "/mnt";

/// The modules by which a card is found, one a line, each after what it needs.
pub const FIRST_MODULES: &str = "/modules/first";
/// All others of this image.
pub const MODULES: &str = "/modules/order";
/// When the image was made, in seconds since 1970.
const MADE: &str = "/etc/sai-image-time";
/// Which machines the image is for.
const MODEL: &str = "/etc/sai-model";
/// Its time of change is that of the last time this machine knew the time.
const CLOCK: &str = "/data/clock";

/// Makes the root a mount that has another below it: the kernel moves none away that has not, which is the first thing that whoever
/// makes a container does (pivot_root(2)).
pub fn move_root() {
    let moved = || -> io::Result<()> {
        fs::create_dir_all(NEW_ROOT)?;
        mount_bind("/", NEW_ROOT)?;
        std::env::set_current_dir(NEW_ROOT)?;
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        std::env::set_current_dir("/")
    };
    if let Err(error) = moved() {
        tell(&format!("the root cannot be moved: {error}"));
    }
}

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

/// Loads the modules of a list. What belongs to other hardware than this finds none and does nothing.
pub fn load_modules(list: &str) {
    for path in fs::read_to_string(list).unwrap_or_default().lines() {
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

/// When the image was made, which is its number.
pub fn made() -> u64 {
    fs::read_to_string(MADE).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// Which machines the image is for.
pub fn model() -> String {
    fs::read_to_string(MODEL).unwrap_or_default().trim().to_owned()
}

/// What stands behind these letters in a word of the kernel's arguments.
pub fn argument(begins: &str) -> Option<String> {
    let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    arguments.split_whitespace().find_map(|word| word.strip_prefix(begins).map(str::to_owned))
}

/// A machine without a clock of its own begins in 1970. It is never before the image was made, nor before it was last on.
pub fn set_clock() {
    let made = i64::try_from(made()).ok();
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

/// How long a program may run before the watchdog is fed again.
const LOOKED: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What starts the machine anew when it is not fed any more. The kernel's driver begins with 15 s.
pub struct Watchdog(Option<File>);

impl Watchdog {
    /// Begins: from now on it wants to be fed.
    pub fn open() -> Self {
        if argument(UNWATCHED).is_some() {
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
        let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let ends = pidfd_open(number, PidfdFlags::empty())?;
        loop {
            self.feed();
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            // Interrupted or not: whether it has ended is looked for above.
            let _ = poll(&mut [PollFd::new(&ends, PollFlags::IN)], Some(&LOOKED));
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

/// Starts the machine anew. All that must be kept is flushed by whoever keeps it.
pub fn restart() {
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::Restart) {
        tell(&format!("the machine cannot be started anew: {error}"));
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
