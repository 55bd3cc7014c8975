//! A hook's GET → the first byte that the first step writes, with warm mirrors; the floor is a shell script.
//!
//! Ours runs from the moment the request is written into an open TLS connection to the clock the step reads. The floor is
//! one script that runs `ls-remote`, `fetch`, `cat-file`, `clone --local` and the step back to back, from the
//! script's first line on: no second fetch for the master's cache, no start of the script's own shell.
//!
//! Both are measured in memory, on an ext4 made for it, as disks have it, and on the disk that TMPDIR names. That may be an
//! ext4 without a journal, as some virtual machines have: it looks at every inode that was freed in the last minutes before
//! it gives a new file one, and so takes ours and the floor apart by chance. Its figures then have no goal.

use sai_tests::figures::{epoch, heading, median, ms, row, settle};
use sai_tests::process::{Process, eventually};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::World;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What ours may take more than the floor, in milliseconds.
const GOAL: f64 = 5.0;
/// Pushes that are measured, after one that warms mirrors up.
const ROUNDS: usize = 21;
/// Files of the repository.
const FILES: usize = 200;

/// Room on the ext4 that is made: many times what is put there. Its file takes no more of the disk than what is written.
const DISK_BYTES: u64 = 2 << 30;
/// A file system in memory, shm_overview(7).
const MEMORY: &str = "/dev/shm";

/// What git is told by ours, so that the floor does nothing that ours leaves out, such as syncing packs.
const CONFIGURATION: &str = "[core]\n\thooksPath = /dev/null\n\tfsync = none\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
    [fetch]\n\tunpackLimit = 1\n[safe]\n\tdirectory = *\n[advice]\n\tdetachedHead = false\n";

const FLOOR: &str = r#"
begin=$EPOCHREALTIME
cd "$1"
git ls-remote --quiet --heads -- "$2" > tips
read -r revision _ < tips
git -C mirror.git fetch --quiet --no-tags --no-write-fetch-head --no-auto-gc -- "$2" +refs/heads/main:refs/heads/main
git -C mirror.git cat-file blob "$revision:.sai.json" > saifile
git clone --quiet --local mirror.git source
cd source
bash -e ../step > ../clock
read -r end < ../clock
echo "$begin $end"
"#;

/// Sends the hook's request over a connection that is up, and gives the moment before that.
fn poke(world: &World) -> f64 {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-brief", "-nocommands", "-connect", &format!("127.0.0.1:{}", world.port)]);
    let pipes = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("openssl can be run");
    let (mut stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(said.map_while(Result::ok).any(|line| line.contains("CONNECTION ESTABLISHED")), "no TLS connection");
    let request = "GET /hook/project?ref=refs/heads/main HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let begin = epoch();
    stdin.write_all(request.as_bytes()).expect("a request");
    let answer = BufReader::new(stdout).lines().map_while(Result::ok).next().unwrap_or_default();
    assert!(answer.contains("202"), "{answer}");
    let _ = child.kill();
    let _ = child.wait();
    begin
}

fn floor(directory: &Path, bare: &Path) -> f64 {
    let place = directory.join("floor");
    let _ = std::fs::remove_dir_all(place.join("source"));
    let mut script = Command::new("bash");
    script.args(["-ec", FLOOR, "floor"]).arg(&place).arg(bare);
    script.env("GIT_CONFIG_GLOBAL", place.join("gitconfig")).env("GIT_CONFIG_NOSYSTEM", "1");
    let line = run(&mut script);
    let (begin, end) = line.split_once(' ').expect("two clocks");
    let number = |text: &str| text.parse::<f64>().expect("a clock");
    number(end) - number(begin)
}

fn measure(name: &str, goal: Option<f64>, world: &World, agent: &Process) {
    let clocks = world.directory.join("clocks");
    let place = world.directory.join("floor");
    for directory in [&clocks, &place] {
        std::fs::create_dir_all(directory).expect("a directory");
    }
    std::fs::write(place.join("gitconfig"), CONFIGURATION).expect("a file");
    std::fs::write(place.join("step"), "echo $EPOCHREALTIME\n").expect("a file");
    for number in 0..FILES {
        world
            .repository
            .write(&format!("part{}/file{number}.c", number % 10), format!("int f{number}(void);\n").repeat(50));
    }
    let step = format!("echo $EPOCHREALTIME > {}/$SAI_COMMIT", clocks.display());
    world.repository.write(".sai.json", saifile(&[&step]));
    // It is us who poke here.
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    world.repository.commit("Begin");
    world.repository.push();
    run(git(&place).args(["clone", "--quiet", "--mirror"]).arg(&world.repository.bare).arg("mirror.git"));

    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        world.repository.write("changed.c", format!("int round = {round};\n"));
        let revision = world.repository.commit("Go on");
        world.repository.push();
        settle();
        let sent = poke(world);
        let clock = clocks.join(&revision);
        let text =
            eventually("the step runs", || std::fs::read_to_string(&clock).ok().filter(|text| text.ends_with('\n')));
        let written: f64 = text.trim().parse().expect("a clock");
        agent.await_line("is done");
        settle();
        let least = floor(&world.directory, &world.repository.bare);
        if round > 0 {
            ours.push(written - sent);
            floors.push(least);
        }
    }
    let over: Vec<f64> = ours.iter().zip(&floors).map(|(ours, floor)| (ours - floor) * 1e3).collect();
    row(name, &ms(median(&floors)), &ms(median(&ours)), (median(&over), " ms"), goal);
}

fn both(place: &Path, name: &str, goal: Option<f64>) {
    let mut world = World::below(place, "latency");
    world.set("builtin", "{\"platforms\": [\"linux-bench/x86_64/gcc\"], \"slots\": 2}");
    let mut master = world.master();
    measure(&format!("built-in agent, {name}"), goal, &world, &master);
    master.kill();
    let world = World::below(place, "latency");
    let _master = world.master();
    let agent = world.agent("far", &["linux-bench/x86_64/gcc"], 2);
    measure(&format!("remote agent over wss, {name}"), goal, &world, &agent);
}

/// An ext4 with a journal in a file of the disk that TMPDIR names, mounted while this is held.
struct Journaled {
    image: PathBuf,
    place: PathBuf,
}

impl Journaled {
    /// `None` where no such thing can be made or mounted, which takes root.
    fn new() -> Option<Self> {
        let name = format!("sai-latency-{}", std::process::id());
        let image = std::env::temp_dir().join(format!("{name}.ext4"));
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir(&place).ok()?;
        std::fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).ok()?;
        let made = Self { image, place };
        let done = |command: &mut Command| command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        let make = ["-q", "-F", "-O", "has_journal", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        let both = done(Command::new("/sbin/mkfs.ext4").args(make).arg(&made.image))
            && done(Command::new("mount").args(["-o", "loop"]).arg(&made.image).arg(&made.place));
        both.then_some(made)
    }
}

impl Drop for Journaled {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).stderr(Stdio::null()).status();
        let _ = std::fs::remove_dir(&self.place);
        let _ = std::fs::remove_file(&self.image);
    }
}

fn main() {
    heading("hook to the first byte of the first step");
    let memory = Path::new(MEMORY);
    if memory.is_dir() {
        both(memory, "in memory", Some(GOAL));
    }
    if let Some(disk) = Journaled::new() {
        both(&disk.place, "on ext4", Some(GOAL));
    }
    both(&std::env::temp_dir(), "in TMPDIR", None);
}
