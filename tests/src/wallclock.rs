//! Seconds → a clock on the wall that is ahead or behind by them, for programs of one test: nobody else's is touched.
//!
//! They are started with a library (LD_PRELOAD, see ld.so(8)) that adds to the real clock what a file says, read anew each
//! time. The steady clocks stay as they are, as they do when a machine's clock is set. Programs without a dynamic linker,
//! and those whose environment is not this test's, as git and the steps of jobs, see the real time.

use crate::repository::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that names the file.
const FILE: &str = "SAI_TEST_CLOCK";

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *ahead;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("SAI_TEST_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return;
	void *page = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
	if (page != MAP_FAILED)
		ahead = page;
	close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = syscall(SYS_clock_gettime, clock, time);
	if (result == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		time->tv_sec += *ahead;
	return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *seconds)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (seconds)
		*seconds = now.tv_sec;
	return now.tv_sec;
}
"#;

/// A clock of its own for some programs.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// One that is right, with its files in this directory, under this name.
    pub fn new(directory: &Path, name: &str) -> Self {
        let (source, library) = (directory.join("wallclock.c"), directory.join("wallclock.so"));
        if !library.exists() {
            std::fs::write(&source, LIBRARY).expect("a source");
            run(Command::new("gcc").args(["-O1", "-Wall", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
        }
        let clock = Self { file: directory.join(format!("{name}.clock")), library };
        clock.set(0);
        clock
    }

    /// Sets it this many seconds ahead of the real one, or behind.
    pub fn set(&self, ahead_s: i64) {
        use std::os::unix::fs::FileExt as _;
        // In place, since those who read it have it mapped.
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&self.file).expect("a file");
        file.write_all_at(&ahead_s.to_ne_bytes(), 0).expect("eight bytes");
    }

    /// Has a program live by it.
    pub fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env(FILE, &self.file);
    }
}
