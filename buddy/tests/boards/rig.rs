//! A bench of one board whose consoles are ptys, with a guard and an owner of its own: the real processes, killed by the test.

// Benchmarks have rigs, too.
#[path = "judged.rs"]
mod judged;

use crate::pty::Pty;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Time after which something that must come will not: machines stand still for seconds at times.
pub const LONG: Duration = Duration::from_secs(100);

pub struct Rig {
    pub top: PathBuf,
    pub ptys: Vec<Pty>,
    /// What `${SAI_COMMIT}` stands for where something is tried there.
    pub commit: &'static str,
    guard: Option<Child>,
    owner: Option<Child>,
}

/// Where a bench finds its consoles: paths of ttys are below /dev.
fn link(top: &Path, index: usize) -> PathBuf {
    let name = top.file_name().expect("a name").to_string_lossy();
    Path::new("/dev/shm").join(format!("{name}-tty{index}"))
}

/// Waits for something.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what}: not within {LONG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Rig {
    /// One whose board has so many consoles, `c0`, `c1`, … with more of the same object in each, and a guard that runs.
    pub fn new(name: &str, consoles: usize, more: &str) -> Rig {
        let ptys: Vec<Pty> = (0..consoles).map(|_| Pty::new()).collect();
        let paths: Vec<&str> = ptys.iter().map(|pty| pty.path.as_str()).collect();
        let mut rig = Rig::at(name, &paths, more, "");
        rig.ptys = ptys;
        rig
    }

    /// One whose consoles are at these ttys, with more of the board's object behind them.
    pub fn at(name: &str, ttys: &[&str], more: &str, board: &str) -> Rig {
        let top = std::env::temp_dir().join(format!("sai-rig-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        fs::create_dir_all(&top).expect("a directory");
        let mut texts = Vec::new();
        for (index, tty) in ttys.iter().enumerate() {
            let link = link(&top, index);
            let _ = fs::remove_file(&link);
            symlink(tty, &link).expect("a link");
            texts.push(format!("\"c{index}\": {{ \"path\": \"{}\", {more} }}", link.display()));
        }
        let consoles = texts.join(", ");
        let text =
            format!("{{ \"boards\": {{ \"b\": {{ \"type\": \"t\", \"consoles\": {{ {consoles} }}{board} }} }} }}");
        fs::write(top.join("boards.json"), text).expect("written");
        let mut rig = Rig { top, ptys: Vec::new(), commit: "1.0", guard: None, owner: None };
        rig.start_guard();
        rig
    }

    /// Where the bench finds a console.
    pub fn link(&self, index: usize) -> PathBuf {
        link(&self.top, index)
    }

    /// Where sockets lie.
    pub fn sockets(&self) -> PathBuf {
        self.top.join("run")
    }

    /// `sai-buddy` on this bench: its first words, and what follows the options.
    pub fn command(&self, words: &[&str], rest: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sai-buddy"));
        command.args(words).arg("--run").arg(self.sockets()).args(rest).stdin(Stdio::null());
        command
    }

    pub fn file(&self) -> String {
        self.top.join("boards.json").display().to_string()
    }

    pub fn run(&self, words: &[&str], rest: &[&str]) -> Output {
        self.command(words, rest).output().expect("sai-buddy runs")
    }

    /// The same, which goes well.
    pub fn well(&self, words: &[&str]) -> String {
        let output = self.run(words, &[]);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The same of a recording, from which something may be missing.
    pub fn well_or_loss(&self, words: &[&str]) -> String {
        let output = self.run(words, &[]);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub fn status(&self) -> String {
        self.well(&[&self.file(), "status", "b", "--json"])
    }

    pub fn start_guard(&mut self) {
        self.guard = Some(self.command(&["guard"], &[]).spawn().expect("a guard"));
        let socket = self.sockets().join("guard.socket");
        until("a guard", || sai_buddy::link::Link::connect(&socket).is_ok());
    }

    pub fn start_owner(&mut self) {
        let file = self.file();
        self.owner = Some(self.command(&[&file, "owner", "b"], &[]).spawn().expect("an owner"));
        until("an owner", || self.run(&[&file, "status", "b"], &[]).status.success());
    }

    pub fn guard(&self) -> u32 {
        self.guard.as_ref().expect("a guard").id()
    }

    pub fn kill_guard(&mut self) {
        kill(self.guard.take());
    }

    /// Has the owner stand still until it is killed.
    pub fn stop_owner(&self) {
        let process = self.owner.as_ref().and_then(|owner| Pid::from_raw(owner.id() as i32)).expect("an owner");
        kill_process(process, Signal::STOP).expect("it stands still");
    }

    pub fn kill_owner(&mut self) {
        kill(self.owner.take());
    }
}

fn kill(child: Option<Child>) {
    if let Some(mut child) = child {
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

/// Paths of the open files of a process.
pub fn open_files(process: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// Processes that were started for a bench and outlived whoever did.
fn processes_of(top: &Path) -> Vec<Pid> {
    let name = top.display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = numbers.filter(|number| {
        let command = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&name)
    });
    ours.filter_map(Pid::from_raw).collect()
}

impl Drop for Rig {
    fn drop(&mut self) {
        kill(self.owner.take());
        kill(self.guard.take());
        for process in processes_of(&self.top) {
            let _ = kill_process(process, Signal::KILL);
        }
        for index in 0..8 {
            let _ = fs::remove_file(self.link(index));
        }
        if !std::thread::panicking() {
            let judged = judged::all(&self.top, self.commit);
            if judged > 0 {
                println!("{}: {judged} logs, judged once more", self.top.display());
            }
        }
        let _ = fs::remove_dir_all(&self.top);
    }
}
