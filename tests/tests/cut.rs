//! Whoever is at the console of a leased board is told why it says nothing any more, and since when.

use sai_tests::laptop::Laptop;
use sai_tests::process::eventually;
use sai_tests::tty::Tty;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Somebody at a console, and what they are told.
struct At {
    console: Child,
    /// Held open: whoever waits for a process closes it, which leaves the console.
    _typed: ChildStdin,
    told: Arc<Mutex<String>>,
}

impl At {
    fn new(laptop: &Laptop, board: &str) -> Self {
        let mut console = laptop.command(&["board", "console", board]);
        let console = console.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut console = console.spawn().expect("sai");
        let told = Arc::<Mutex<String>>::default();
        let (all, mut stderr) = (told.clone(), BufReader::new(console.stderr.take().expect("stderr")));
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|count| count > 0) {
                all.lock().expect("what was told").push_str(&std::mem::take(&mut line));
            }
        });
        let _typed = console.stdin.take().expect("stdin");
        Self { console, _typed, told }
    }

    fn told(&self) -> String {
        self.told.lock().expect("what was told").clone()
    }

    /// Waits until they are told this, and at which time of day it happened.
    fn is_told(&self, what: &str) {
        eventually(what, || {
            let told = self.told();
            let line = told.lines().find(|line| line.contains(what))?.to_string();
            Some(line)
        });
    }

    /// Waits until it ends, which it says so.
    fn ends(mut self, why: &str) {
        let status = self.console.wait().expect("it ends").code();
        std::thread::sleep(Duration::from_millis(100));
        let told = self.told();
        let line = told
            .lines()
            .find(|line| line.contains("the board is yours no longer"))
            .unwrap_or_else(|| panic!("{status:?} {told:?}"));
        assert!(status == Some(3) && line.contains(why), "{status:?} {told}");
        let moment = line.split(" since ").nth(1).map(|rest| &rest[..12]);
        assert!(moment.is_none_or(|moment| moment.ends_with(" UTC")) && line.matches(':').count() >= 2, "{told}");
    }

    /// Whether the console still shows what a board says.
    fn hears(&mut self, mut board: &std::fs::File, text: &str) {
        board.write_all(text.as_bytes()).expect("the board says something");
        let mut heard = vec![0; text.len()];
        self.console.stdout.as_mut().expect("stdout").read_exact(&mut heard).expect("it is shown");
        assert_eq!(String::from_utf8_lossy(&heard), text);
    }
}

#[test]
fn whose_console_is_cut_is_told_why_and_since_when() {
    let mut bench = Tty::with("cut", 2);
    let mut master = bench.world.master();
    let mut agents = [1, 2].map(|number| bench.agent_of(number));
    let (ann, bob) = (Laptop::new(&bench.world, "ann"), Laptop::new(&bench.world, "bob"));
    ann.log_in(&bench.world, "ann", &[], bench.world.port);
    bob.log_in(&bench.world, "bob", &["admin"], bench.world.port);
    let free = || {
        eventually("both are free", || (ann.sai(&["board", "list"]).1.matches("\tfree").count() == 2).then_some(()));
    };
    let lease = |laptop: &Laptop, board: &str, minutes: &str| {
        let (status, said, told) = laptop.sai(&["board", "lease", board, "--minutes", minutes]);
        assert_eq!(status, 0, "{said}{told}");
        said.trim().rsplit(' ').next().expect("a job").to_string()
    };
    free();
    // By its time, which goes on meanwhile.
    lease(&bob, "b/tty-2", "1");
    let by_time = At::new(&bob, "b/tty-2");

    // By somebody with the right to.
    let job = lease(&ann, "a/tty-1", "5");
    let mut at = At::new(&ann, "a/tty-1");
    at.hears(&bench.boards[0], "one\n");
    let (status, _, told) = bob.sai(&["cancel", &job]);
    assert_eq!(status, 0, "{told}");
    at.ends("UTC: cancelled by bob");
    free_one(&ann, "a/tty-1");

    // The master is away for a moment, and then the agent; the board stays theirs.
    let job = lease(&ann, "a/tty-1", "5");
    let mut at = At::new(&ann, "a/tty-1");
    at.hears(&bench.boards[0], "two\n");
    master.kill();
    at.is_told("trying again");
    master = bench.world.master();
    at.is_told("the link is up again");
    at.hears(&bench.boards[0], "three\n");
    agents[0].kill();
    at.is_told("a, which has the board, is away since ");
    agents[0] = bench.world.agent_again("a");
    at.is_told("a is there again");
    at.hears(&bench.boards[0], "four\n");
    // The board is unplugged.
    let board = bench.boards.remove(0);
    drop(board);
    at.is_told("console main of the board is unplugged since ");
    // Its agent is not coming back: what it held is nobody's any more.
    agents[0].kill();
    at.is_told("a, which has the board, is away since ");
    bench.world.command(&["agent", "revoke", "a"]);
    eventually("it is over", || (ann.sai(&["log", &job]).0 == 3).then_some(()));
    at.ends("revoked");
    by_time.ends("UTC: its time was over");
    drop((master, agents));
}

/// Waits until a board is free.
fn free_one(laptop: &Laptop, board: &str) {
    eventually("it is free", || {
        let (_, said, _) = laptop.sai(&["board", "list"]);
        said.lines().any(|line| line.starts_with(board) && line.contains("\tfree")).then_some(())
    });
}
