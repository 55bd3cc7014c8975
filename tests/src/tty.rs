//! Boards that are ttys, each at an agent of its own → what they say and hear, in the hands of a test.

use crate::process::Process;
use crate::world::World;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Names of agents, in order.
const AGENTS: [&str; 2] = ["a", "b"];

/// One end of a tty, and the path of the other.
pub fn pty() -> (File, String) {
    let end: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
    grantpt(&end).expect("granted");
    unlockpt(&end).expect("unlocked");
    let path = ptsname(&end, Vec::new()).expect("its name").into_string().expect("plain");
    (File::from(end), path)
}

/// A master, and boards that are ttys.
pub struct Tty {
    /// The master, agents and repositories.
    pub world: World,
    /// The other end of each: whoever drops one unplugs it.
    pub boards: Vec<File>,
    links: Vec<PathBuf>,
}

impl Tty {
    /// One board, `tty-1` of agent `a`.
    pub fn new(name: &str) -> Self {
        Self::with(name, 1)
    }

    /// So many, `tty-2` of agent `b` as well.
    pub fn with(name: &str, count: usize) -> Self {
        let world = World::new(name);
        let (mut boards, mut links) = (Vec::new(), Vec::new());
        for number in 1..=count {
            let (board, path) = pty();
            let mut raw = tcgetattr(&board).expect("its settings");
            raw.make_raw();
            tcsetattr(&board, OptionalActions::Now, &raw).expect("raw");
            // Paths of ttys are below /dev.
            let name = world.directory.file_name().expect("a name").to_string_lossy().into_owned();
            let link = PathBuf::from("/dev/shm").join(format!("{name}-{number}"));
            let _ = fs::remove_file(&link);
            symlink(&path, &link).expect("a link");
            let text = format!(
                r#"{{ "boards": {{ "tty-{number}": {{ "type": "tty", "tags": ["here"],
                    "consoles": {{ "main": {{ "path": {link:?}, "baud": 115200 }} }},
                    "sequences": {{ "reset": ["wait 1ms"] }},
                    "power": {{ "on": ["sh", "-c", "echo on >>{0}"], "off": ["sh", "-c", "echo off >>{0}"], "off_time": "10ms" }} }} }} }}"#,
                world.directory.join("supply").display()
            );
            fs::write(world.directory.join(format!("boards-{number}.json")), text).expect("a bench");
            boards.push(board);
            links.push(link);
        }
        Self { world, boards, links }
    }

    /// The agent of the first.
    pub fn agent(&self) -> Process {
        self.agent_of(1)
    }

    /// The agent of this one, which builds as well.
    pub fn agent_of(&self, number: usize) -> Process {
        let place = |name: &str| self.world.directory.join(format!("{name}-{number}"));
        let settings = [
            format!("\"boards\": {:?}", place("boards").with_extension("json")),
            format!("\"boards_run\": {:?}", place("run")),
            "\"user\": \"nobody\"".to_string(),
        ];
        self.world.agent_with(AGENTS[number - 1], &["linux"], 1, &settings.each_ref().map(String::as_str))
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let ours = |line: &String| line.split(' ').any(|word| word == "owner" || word == "guard");
        for line in self.world.survivors().into_iter().filter(ours) {
            let process = line.split(':').next().and_then(|number| number.parse().ok()).and_then(Pid::from_raw);
            let _ = process.map(|process| kill_process(process, Signal::KILL));
        }
        for link in &self.links {
            let _ = fs::remove_file(link);
        }
    }
}
