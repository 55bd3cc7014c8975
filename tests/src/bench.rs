//! A number of boards → a bench: emulated Arduino Unos with the stock optiboot, their owners and guard, and an agent that has them.

use crate::avr::Avr;
use crate::boards::{program, standing};
use crate::process::{Process, eventually};
use crate::world::World;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Emulated Arduino Unos on the bench of an agent.
pub struct Bench {
    /// The master, agents and repositories.
    pub world: World,
    /// The boards, in order. An owner ends before the tty of its board does, whose number another one may have then.
    pub boards: Vec<Avr>,
    /// Where the bench has each one's tty.
    pub links: Vec<PathBuf>,
}

impl Bench {
    /// One of a single board, `uno-1`.
    pub fn new(name: &str) -> Bench {
        Bench::with(name, 1, "")
    }

    /// One of so many boards, `uno-1` and so on, with more keys of the file behind them.
    pub fn with(name: &str, count: usize, more: &str) -> Bench {
        let world = World::new(name);
        let name = world.directory.file_name().expect("a name").to_string_lossy().into_owned();
        let (mut boards, mut links, mut texts) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=count {
            let directory = world.directory.join(format!("uno-{number}"));
            fs::create_dir(&directory).expect("a directory");
            let board = Avr::new(&directory);
            // Paths of ttys are below /dev.
            let link = PathBuf::from("/dev/shm").join(format!("{name}-{number}"));
            let _ = fs::remove_file(&link);
            symlink(&board.tty, &link).expect("a link");
            texts.push(format!(
                r#""uno-{number}": {{ "type": "arduino-uno", "tags": ["place-{number}"],
                    "consoles": {{ "main": {{ "path": "{}" }} }}, {},
                    "modes": {{ "loader": ["loader"], "run": ["reset"] }},
                    "flash": {{ "with": "optiboot", "mode": "loader", "then": "run", "chip_id": "0x1e950f" }} }}"#,
                link.display(),
                board.resets()
            ));
            boards.push(board);
            links.push(link);
        }
        let text = format!("{{ \"boards\": {{ {} }}{more} }}", texts.join(", "));
        fs::write(world.directory.join("boards.json"), text).expect("a bench");
        world.repository.write("program.c", program());
        Bench { world, boards, links }
    }

    /// Where owners and guard are found.
    pub fn sockets(&self) -> PathBuf {
        self.world.directory.join("run")
    }

    /// An agent that has the board and builds for it, as another user.
    pub fn agent(&self) -> Process {
        let file = self.world.directory.join("boards.json");
        let settings = [
            format!("\"boards\": {file:?}"),
            format!("\"boards_run\": {:?}", self.sockets()),
            "\"user\": \"nobody\"".to_string(),
        ];
        self.world.agent_with("a", &["linux"], 2, &settings.each_ref().map(String::as_str))
    }

    /// What the page says of the first board.
    pub fn standing(&self) -> String {
        standing(&self.world, "a/uno-1")
    }

    /// Waits until that says this: of one that is free nothing else is said, but that it was not called so yet.
    pub fn await_standing(&self, what: &str) {
        let says = |said: String| if what == "free" { said == what } else { said.contains(what) };
        eventually(&format!("the board is {what:?}"), || says(self.standing()).then_some(()));
    }

    /// Processes whose arguments are these, of this bench.
    pub fn processes(&self, word: &str) -> Vec<i32> {
        let ours = self.world.survivors().into_iter().filter(|line| line.split(' ').any(|other| other == word));
        ours.filter_map(|line| line.split(':').next()?.parse().ok()).collect()
    }

    /// Kills them.
    pub fn kill(&self, word: &str) {
        let processes = self.processes(word);
        assert!(!processes.is_empty(), "there is no {word}: {:?}", self.world.survivors());
        for process in processes {
            let _ = kill_process(Pid::from_raw(process).expect("a process"), Signal::KILL);
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for word in ["owner", "guard"] {
            for process in self.processes(word) {
                let _ = kill_process(Pid::from_raw(process).expect("a process"), Signal::KILL);
            }
        }
        self.boards.clear();
        for link in &self.links {
            let _ = fs::remove_file(link);
        }
    }
}
