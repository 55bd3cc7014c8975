//! The disk of an agent fills up under real supervisors: whose trouble that is, that it is told, and that what gives way is what
//! nobody wants any more.
//!
//! The attempts are on a small tmpfs, which takes root to mount; anybody else skips these tests.

mod common;

use common::*;
use rustix::fs::statvfs;
use sai_agent::held::{News, Origin, hold as hold_attempt};
use sai_agent::job_directory::{JobDirectory, NO_ROOM};
use sai_agent::needs::Want;
use sai_agent::needs::fetch::{Fetcher, Here, Source};
use sai_agent::supervised::{Progress, Supervised};
use sai_core::job::{Blame, Fault, Outcome, Verdict};
use sai_core::ledger::Needed;
use sai_core::record::{Artifact, HEADER_BYTES};
use sai_core::wire::Assignment;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Bytes of a page, which is what a tmpfs gives at once: a log goes on to its page's end on a disk that is full.
const PAGE: u64 = 4096;
/// Bytes of the file that the jobs here need.
const NEEDED: u64 = 3 << 20;

/// A small disk with the attempts of a world, and where the world is else.
struct Small {
    world: World,
}

impl Small {
    /// Mounts one; `None` for those who may not.
    fn new(name: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can mount a small disk");
            return None;
        }
        let world = World::new(name);
        fs::create_dir_all(world.jobs()).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(world.jobs()).status();
        assert!(mounted.expect("mount can be run").success());
        Some(Self { world })
    }

    fn free(&self) -> u64 {
        let space = statvfs(self.world.jobs()).expect("a file system");
        space.f_bavail * space.f_frsize
    }

    fn ballast(&self) -> PathBuf {
        self.world.jobs().join("ballast")
    }

    /// Takes up room until so many bytes are left.
    fn fill(&self, leave: u64) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).expect("a file");
        let block = vec![0; 64 << 10];
        loop {
            let length = self.free().saturating_sub(leave).min(block.len() as u64) as usize;
            if length == 0 || file.write_all(&block[..length]).is_err() {
                return;
            }
        }
    }

    /// A job that needs a file, and where that is.
    fn needing(&self, steps: &[&str]) -> (Assignment, PathBuf) {
        let content = vec![7; NEEDED as usize];
        let file = self.world.path.join("needed");
        fs::write(&file, &content).expect("a file");
        let sha256 = sai_agent::digest::sha256(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let artifact = Artifact { stream: 1, path: "big".into(), size: NEEDED, sha256, executable: false };
        let needed = Needed {
            job: 1,
            configuration: "lib".into(),
            platform: "linux".into(),
            attempt: Some(1),
            artifacts: vec![artifact],
        };
        (Assignment { needs: Some(vec![needed]), ..self.world.assignment(steps) }, file)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        for directory in JobDirectory::scan(&self.world.jobs()).unwrap_or_default() {
            let _ = directory.forget();
        }
        // Lazily, since a supervisor may still have something open when a test has failed.
        let _ = Command::new("umount").arg("--lazy").arg(self.world.jobs()).status();
    }
}

/// Waits until a supervisor asks for a file.
fn wanted(held: &Supervised) -> Want {
    smol::block_on(smol::future::or(
        async {
            loop {
                match held.next().await {
                    Some(Progress::Wants(want)) => return want,
                    Some(Progress::Lengths(_) | Progress::Asks(_) | Progress::Unwanted(_)) => {}
                    None => panic!("the supervisor is gone"),
                }
            }
        },
        async {
            smol::Timer::after(PATIENCE).await;
            panic!("no file is asked for within {PATIENCE:?}")
        },
    ))
}

/// Bytes of the log that stand in a job's directory.
fn log_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory.join("spool")).expect("the log").flatten();
    files.map(|file| file.metadata().map_or(0, |file| file.len())).sum()
}

/// Has so much logged that nothing more fits into the last page of the log.
fn fill_page(directory: &JobDirectory, held: &Supervised, want: &Want) {
    let say = |length: usize| {
        let before = log_bytes(directory.path());
        held.progress(want, 0, &"x".repeat(length));
        until("it is logged", || log_bytes(directory.path()) > before);
        log_bytes(directory.path()) - before - length as u64
    };
    let around = say(1);
    let left = (PAGE - log_bytes(directory.path()) % PAGE) % PAGE;
    // Two, so that no line is longer than it may be, and none has less than nothing to say.
    let rest = (left + PAGE - 2 * around - 4) as usize;
    say(rest / 2);
    say(rest - rest / 2);
    assert_eq!(log_bytes(directory.path()) % PAGE, PAGE - 4);
}

/// What is said of a job whose needed file comes when its log has no room and the disk so many bytes; nothing where this machine
/// has no small disk.
fn without_room(name: &str, left: u64) -> Option<Verdict> {
    let small = Small::new(name)?;
    let (assignment, file) = small.needing(&["true"]);
    let directory = small.world.start(&assignment);
    let held = hold(&directory);
    let want = wanted(&held);
    fill_page(&directory, &held, &want);
    small.fill(left);
    held.answer(&want, Ok(&file));
    drop(held);
    finish(&directory);
    let log = Log::of(&directory);
    let verdict = log.verdict().clone();
    assert_eq!((verdict.outcome, verdict.fault), (Outcome::Infra, Fault::Infrastructure), "{verdict:?}");
    assert!(log.statuses().is_empty(), "no step has begun");
    Some(verdict)
}

#[test]
fn a_disk_that_fills_while_a_file_of_needs_is_copied_is_trouble_of_ours_and_told() {
    let Some(verdict) = without_room("copying", NEEDED / 3) else { return };
    assert!(verdict.cause.contains("laying out \"lib/linux/big\": No space left on device"), "{verdict:?}");
}

#[test]
fn a_checkout_without_room_is_told_although_the_log_had_none_either() {
    // The needed file has room, and then nothing has: what the helper tells is not listened to for as long.
    let Some(verdict) = without_room("checkout", NEEDED) else { return };
    assert!(!verdict.cause.contains("within the job's"), "{verdict:?}");
}

#[test]
fn a_job_that_fills_its_disk_makes_room_for_its_own_end() {
    let Some(small) = Small::new("filling") else { return };
    let step =
        "head -c 100000000 /dev/zero > \"$TMPDIR/x\" || yes something long | head -c 30000; : > said; sleep 1000";
    let directory = small.world.start(&small.world.assignment(&[step]));
    let held = hold(&directory);
    until("it has said something", || directory.path().join("work/src/said").exists());
    assert_eq!(small.free(), 0);
    held.cancel("enough");
    drop(held);
    finish(&directory);
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Cancelled, "{:?}", log.verdict());
    assert_eq!((log.text("stdout").len(), log.statuses()), (30_000, vec![143]), "nothing of it is lost");
}

#[test]
fn a_step_that_ends_at_a_full_disk_is_heard_although_its_output_has_no_room() {
    let Some(small) = Small::new("ending") else { return };
    // What is printed first is refused by the disk, what comes a while later stays in the pipe.
    let step = "head -c 100000000 /dev/zero > \"$TMPDIR/x\" || yes something long | head -c 30000; sleep 2; \
                yes something else | head -c 20000; exit 3";
    let directory = small.world.start(&small.world.assignment(&[step]));
    finish(&directory);
    let log = Log::of(&directory);
    assert_eq!(log.outcome(), Outcome::Failed, "{:?}", log.verdict());
    assert_eq!((log.text("stdout").len(), log.statuses()), (50_000, vec![3]), "nothing of it is lost");
}

/// What people hear of an attempt that an agent finds.
fn told(world: &World, directory: &JobDirectory) -> Vec<News> {
    let nothing: Here = Arc::new(|_, _| Err("nothing is needed".to_string()));
    let fetcher = Arc::new(Fetcher::new(world.path.join("needs"), Source::Here(nothing)));
    let (sender, heard) = smol::channel::unbounded();
    let news = move |_, news| {
        let sender = sender.clone();
        async move { sender.send(news).await.expect("somebody listens") }
    };
    let found = Arc::new(JobDirectory::open(directory.path()).expect("it is there"));
    let (_orders, task) = hold_attempt(directory.key(), Origin::Found(found), fetcher, news);
    let hear = async {
        let mut all = Vec::new();
        while !matches!(all.last(), Some(News::Ended)) {
            all.push(heard.recv().await.expect("more is told"));
        }
        all
    };
    let late = async {
        smol::Timer::after(PATIENCE).await;
        panic!("no end is told within {PATIENCE:?}")
    };
    let task = async {
        task.await;
        smol::future::pending().await
    };
    smol::block_on(smol::future::or(hear, smol::future::or(task, late)))
}

#[test]
fn a_log_without_room_for_its_end_is_told_as_such() {
    let Some(small) = Small::new("giving-up") else { return };
    let length = small.world.path.join("length");
    let step = format!(
        "echo begun; until test -e {0}; do sleep 0.05; done; head -c $(cat {0}) /dev/zero; sleep 1000",
        length.display()
    );
    let directory = small.world.start(&small.world.assignment(&[&step]));
    let held = hold(&directory);
    wait_for(&directory, &held, "begun");
    // Into the rest of the page go a record's head, this, and nothing more.
    let left = PAGE - log_bytes(directory.path()) % PAGE - HEADER_BYTES as u64 - 4;
    fs::write(length.with_extension("new"), left.to_string()).expect("a file");
    fs::rename(length.with_extension("new"), &length).expect("a file");
    until("the page is full", || log_bytes(directory.path()) % PAGE == PAGE - 4);
    // A supervisor that gives up, which it does after a minute, is gone like any other, and its socket has another name.
    kill(supervisor_pid(&directory));
    drop(held);
    gone(&directory);
    fs::rename(directory.path().join("control"), directory.path().join("no-room")).expect("its socket");
    small.fill(0);
    let refused = told(&small.world, &directory).into_iter().find_map(|news| match news {
        News::NotBegun(blame, why) => Some((blame, why)),
        _ => None,
    });
    let (blame, why) = refused.expect("it is given up");
    assert!(blame == Blame::Agent && why == format!("{NO_ROOM}: No space left on device (os error 28)"), "{why}");
    // With room, the log says so.
    fs::remove_file(small.ballast()).expect("the ballast");
    told(&small.world, &directory);
    let verdict = Log::of(&directory).verdict().clone();
    assert_eq!((verdict.outcome, verdict.cause.as_str()), (Outcome::Infra, NO_ROOM));
}
