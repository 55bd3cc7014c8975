//! `configs/*.service` as a real systemd runs them: a guard, the owner of a board and an agent, each killed with SIGKILL while nothing
//! happens, while the board is flashed and while it is recorded; restarted; and replaced by another program. No byte of a console is
//! lost by any of it, but for what an owner had read and not yet passed on when it was killed, of which the place is told.
//!
//! systemd is no init here. It boots in a container of this machine's own files, with room of its own for what is written, and the
//! units are installed by the commands that stand in them.

use miniserde::{Deserialize, json};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use sai_tests::avr::Avr;
use sai_tests::boards::{at_board, at_step, program as avr_program, saifile, standing, verdict};
use sai_tests::cross::root;
use sai_tests::process::{Process, eventually, program};
use sai_tests::world::World;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Makes a file system of this machine's files with room for what is written, and boots systemd in it, without its services. The
/// arguments: where, the directory of the test, the name of that, what the console and the other console are, where the programs are.
const BOOT: &str = r#"set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" root
: >root/etc/machine-id
install -m 755 "$6/sai-agent" "$6/sai-buddy" root/usr/local/bin
mkdir -p root/etc/sai root/configs
cp "$7"/configs/*.service "$7"/configs/*.conf "$7"/configs/*.rules root/configs
cp "$2/boards.json" root/etc/sai
exec systemd-nspawn --quiet --directory=root --boot --register=no --keep-unit --console=pipe --machine="$3" \
    --bind="$2" --bind="$4:/dev/sai-main" --bind="$5:/dev/sai-aux" systemd.unit=basic.target >&2
"#;
/// The board, as the comments of the units call it.
const BOARD: &str = "bench-1";
/// The chip whose lines are a file of memory.
const CHIP: &str = "sai-levels";
/// The file that describes the bench, for `sai-buddy`.
const BUDDY: &str = "sai-buddy /etc/sai/boards.json";

/// Bytes that an owner may have read and not yet passed on when it is killed: a screen, of a console that brings 1.8 kB/s.
const IN_PASSING_BYTES: usize = 1024;

/// An entry of a console, as far as it is looked at here.
#[derive(Deserialize)]
struct Recorded {
    what: String,
    why: Option<String>,
    bytes: Option<String>,
}

/// A machine with a board.
struct Machine {
    world: World,
    keeper: Process,
    /// Its first process, as this machine numbers it.
    init: i32,
    // What is in the machine ends before its ttys do.
    _board: Avr,
}

/// The other console of the board: each line is a number, sent as a UART would, without waiting.
struct Counting {
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<(u64, u64, OwnedFd)>,
    _held: File,
}

/// Commands that stand in a unit's first lines, which people follow.
fn commands(unit: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("configs").join(unit)).expect("a unit");
    let head = text.lines().take_while(|line| line.starts_with('#'));
    head.filter_map(|line| line.strip_prefix("#   ")).map(ToString::to_string).collect()
}

/// A raw pty: what is its first end, and the path of the other.
fn pty() -> (OwnedFd, File, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("a pty that may be opened");
    let path = ptsname(&master, Vec::new()).expect("its name").into_string().expect("text");
    // It has a terminal's user as long as this is open, so that it does not hang up.
    let held = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, rustix::fs::Mode::empty());
    let held = held.expect("the other end");
    let mut raw = tcgetattr(&held).expect("its settings");
    raw.make_raw();
    tcsetattr(&held, OptionalActions::Now, &raw).expect("raw");
    (master, File::from(held), path)
}

impl Counting {
    fn begin(master: OwnedFd, held: File) -> Self {
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).expect("no waiting");
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let (mut number, mut refused) = (0, 0);
            while !ended.load(Ordering::Relaxed) {
                let line = format!("{number:08}\n");
                match rustix::io::write(&master, line.as_bytes()) {
                    Ok(count) if count == line.len() => number += 1,
                    _ => refused += 1,
                }
                thread::sleep(Duration::from_millis(5));
            }
            // Who closes the first end hangs up, and what the other has not read is thrown away.
            (number, refused, master)
        });
        Self { ends, thread, _held: held }
    }
}

impl Machine {
    fn boot(world: World, aux: &str) -> Machine {
        let board = Avr::new(&world.directory);
        // The owner is another user, who pulls the reset by a file there.
        fs::set_permissions(&world.directory, fs::Permissions::from_mode(0o777)).expect("permissions");
        let dialout = group("dialout");
        for tty in [board.tty.as_str(), aux] {
            chown(tty, None, Some(dialout)).expect("a tty that may be given away");
            fs::set_permissions(tty, fs::Permissions::from_mode(0o660)).expect("permissions");
        }
        let resets = board.resets().replace("\"sequences\": {", "\"sequences\": { \"hold\": [\"key 1\"],");
        let text = format!(
            r#"{{ "boards": {{ "{BOARD}": {{ "type": "arduino-uno",
                "consoles": {{ "main": {{ "path": "/dev/sai-main" }}, "aux": {{ "path": "/dev/sai-aux" }} }},
                "lines": {{ "key": {{ "chip": "levels:{CHIP}", "line": 3, "safe": 0 }} }}, {resets},
                "modes": {{ "loader": ["loader"], "run": ["reset"] }},
                "flash": {{ "with": "optiboot", "console": "main", "mode": "loader", "then": "run", "chip_id": "0x1e950f" }} }} }} }}"#
        );
        fs::write(world.directory.join("boards.json"), text).expect("a bench");
        let place = world.directory.join("machine");
        fs::create_dir(&place).expect("a directory");
        let name = world.directory.file_name().expect("a name").to_owned();
        let programs = program("sai-agent").parent().expect("a directory").to_path_buf();
        let mut boot = Command::new("unshare");
        boot.args(["--mount", "--fork", "--kill-child", "sh", "-c", BOOT, "sh"]).arg(&place).arg(&world.directory);
        boot.arg(name).args([&board.tty, aux]).arg(programs).arg(root()).stdout(Stdio::null());
        let mut keeper = Process::start("systemd", &mut boot);
        let init = eventually("systemd begins", || {
            assert!(keeper.ended().is_none(), "{:?}", keeper.said());
            // unshare, systemd-nspawn, and the first process of the container, which others may precede for a moment.
            let child = |of: i32| {
                let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
                text.split_whitespace().next()?.parse::<i32>().ok()
            };
            let init = child(child(keeper.id() as i32)?)?;
            let up = enter(init, "systemctl is-active basic.target").status.success();
            up.then_some(init)
        });
        Machine { world, keeper, init, _board: board }
    }

    fn run(&self, line: &str) -> Output {
        enter(self.init, line)
    }

    /// Runs a line that goes well, and returns what it prints.
    fn well(&self, line: &str) -> String {
        let output = self.run(line);
        let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        assert!(output.status.success(), "{line}: {said}\n{}", self.journal());
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    }

    fn journal(&self) -> String {
        let output = self.run("journalctl --no-pager --lines 100 --output cat; systemctl --no-pager status 'sai-*'");
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), self.keeper.said().join("\n"))
    }

    /// The main process of a unit, as the machine numbers it; 0 where it has none.
    fn main_of(&self, unit: &str) -> u32 {
        self.well(&format!("systemctl show --property MainPID --value {unit}")).parse().expect("a process")
    }

    /// Kills what a word stands for, and waits for the unit to have another main process.
    fn kill(&self, who: &str) {
        if who == "supervisor" {
            let processes = self.supervisors();
            assert!(!processes.is_empty(), "there is no supervisor");
            return processes.into_iter().for_each(|process| kill_process(process, Signal::KILL).expect("killed"));
        }
        let (unit, before) = (unit_of(who), self.main_of(unit_of(who)));
        self.well(&format!("kill -KILL {before}"));
        self.await_unit(unit, before);
    }

    fn await_unit(&self, unit: &str, before: u32) {
        eventually(&format!("{unit} is started again"), || {
            let active = self.run(&format!("systemctl is-active {unit}")).status.success();
            let now = self.main_of(unit);
            (active && now != 0 && now != before).then_some(())
        });
    }

    /// Supervisors of its jobs, as this machine numbers them.
    fn supervisors(&self) -> Vec<Pid> {
        let space = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid")).ok();
        let ours = space(&self.init.to_string());
        let all = fs::read_dir("/proc").expect("processes").flatten();
        let names = all.filter_map(|entry| entry.file_name().into_string().ok());
        let is_one = |process: &String| {
            let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            words.split(|byte| *byte == 0).nth(1) == Some(b"--job") && space(process) == ours
        };
        names.filter(is_one).filter_map(|process| Pid::from_raw(process.parse().ok()?)).collect()
    }

    /// The level of the board's key.
    fn key(&self) -> String {
        fs::read_to_string(format!("/proc/{}/root/dev/shm/{CHIP}.out", self.init)).expect("levels")
    }

    fn await_free(&self) {
        let board = format!("a/{BOARD}");
        eventually("the board is free", || {
            let now = standing(&self.world, &board);
            (now == "free").then_some(())
        });
    }

    /// Has the key of the board pressed, and left so.
    fn hold(&self) {
        // Somebody may be bringing the board to a mode.
        eventually("the key is held", || {
            self.run(&format!("{BUDDY} play {BOARD} hold")).status.success().then_some(())
        });
        assert_eq!(self.key(), "1");
        self.await_free();
        assert_eq!(self.key(), "1", "bringing the board to a mode moved another line");
    }

    /// That the unit's owner has the board, guarded.
    fn await_owner(&self) {
        eventually("the unit's owner has the board, and a guard holds what it does", || {
            let status = self.run(&format!("{BUDDY} status {BOARD} --json"));
            let text = String::from_utf8_lossy(&status.stdout).into_owned();
            let process = format!("\"process\":{},", self.main_of("sai-board@bench-1"));
            (text.contains(&process) && text.contains("\"guarded\":true")).then_some(())
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", self.init)).unwrap_or_default();
        let _ = Pid::from_raw(self.init).map(|init| kill_process(init, Signal::KILL));
        self.keeper.wait();
        // What systemd-nspawn made for it stays.
        for line in cgroups.lines() {
            let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
            let name = match controllers {
                "" => "unified",
                other => other.trim_start_matches("name="),
            };
            let top = Path::new("/sys/fs/cgroup").join(name).join(path.trim_start_matches('/'));
            if let Some(payload) = top.ancestors().find(|place| place.ends_with("payload")) {
                let _ = Command::new("find").arg(payload).args(["-depth", "-type", "d", "-delete"]).status();
            }
        }
    }
}

fn unit_of(who: &str) -> &'static str {
    match who {
        "agent" => "sai-agent",
        "owner" => "sai-board@bench-1",
        "guard" => "sai-guard",
        other => panic!("no unit is {other}"),
    }
}

/// Runs a line in a container.
fn enter(init: i32, line: &str) -> Output {
    let mut command = Command::new("nsenter");
    command.args(["--target", &init.to_string(), "--all", "--wdns=/", "sh", "-c", line]).stdin(Stdio::null());
    command.output().expect("nsenter can be run")
}

fn group(name: &str) -> u32 {
    let text = fs::read_to_string("/etc/group").expect("groups");
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).expect("the group");
    line.split(':').nth(2).and_then(|number| number.parse().ok()).expect("its number")
}

/// Installs the units as they say, with what an agent is to be beside.
fn install(machine: &Machine) {
    let line = machine.world.join_line("a");
    let mut all = commands("sai-guard.service");
    let agent = commands("sai-agent.service");
    let (containers, mut agent): (Vec<_>, Vec<_>) = agent.into_iter().partition(|line| line.contains("containers"));
    assert_eq!(containers.len(), 1);
    // The drop-in comes before the agent begins, and so does its bench.
    let place = agent.iter().position(|line| line.contains("enable")).expect("it is started");
    let drop_in = commands("sai-agent-boards.conf").into_iter();
    let bench =
        r#"sed -i 's|^{$|{ "boards": "/etc/sai/boards.json", "user": "nobody",|' /var/lib/sai-agent/agent.json"#;
    agent.splice(place..place, drop_in.chain([bench.to_string()]));
    all.extend(agent);
    for command in all {
        // No udev runs in a container.
        let command = command.split(" && udevadm").next().unwrap_or_default().to_string();
        let joined = format!("join '{line}' --name a --slots 2 --platform linux");
        let command = command.replace("join LINE", &joined).replace("sudo -u sai-agent", "runuser -u sai-agent --");
        machine.well(&format!("cd / && {command}"));
    }
}

/// What a recording has of a console, cut where an owner has died.
fn parts(recording: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    // The last line may not be whole yet.
    for line in recording.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let entry: Recorded = json::from_str(line).unwrap_or_else(|_| panic!("an entry was expected: {line}"));
        match (entry.what.as_str(), entry.why.as_deref(), entry.bytes) {
            ("bytes", None, Some(bytes)) => parts.last_mut().expect("a part").push_str(&bytes),
            ("lost", Some("died"), None) => parts.push(String::new()),
            ("sent", ..) => {}
            _ => panic!("nothing else may become of what came: {line}"),
        }
    }
    parts
}

/// How many bytes are missing between each two parts of what was sent, of which nothing else is missing.
fn missing(sent: &str, parts: &[String]) -> Vec<usize> {
    let mut rest = sent;
    let mut missing = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let place = rest.find(part).unwrap_or_else(|| panic!("part {number} is not what was sent: {part}"));
        missing.push(place);
        rest = &rest[place + part.len()..];
    }
    assert_eq!((missing.remove(0), rest), (0, ""), "of the first and of the last nothing may be missing");
    missing
}

#[test]
fn whoever_is_killed_under_its_unit_no_line_moves_no_byte_is_lost_and_the_next_job_passes() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can boot a machine");
        return;
    }
    // Units are shown a disk that they may not write to, but for devices and memory.
    let world = World::below(Path::new("/dev/shm"), "systemd");
    world.repository.write("program.c", avr_program());
    let _master = world.master();
    let (other, held, aux) = pty();
    let machine = Machine::boot(world, &aux);
    let world = &machine.world;
    install(&machine);
    eventually("the agent is there", || world.page("/api/v1/units").contains("standing").then_some(()));
    machine.await_free();
    machine.await_owner();

    let recorded = world.directory.join("recorded");
    let mut record = Command::new("nsenter");
    record.args(["--target", &machine.init.to_string(), "--all", "sh", "-c"]);
    record
        .arg(format!("exec {BUDDY} record {BOARD} aux --kept --json"))
        .stdout(File::create(&recorded).expect("a file"));
    let recorder = Process::start("the recorder", &mut record);
    let counting = Counting::begin(other, held);
    eventually("it records", || fs::metadata(&recorded).is_ok_and(|file| file.len() > 0).then_some(()));

    // While nothing happens.
    machine.hold();
    for who in ["agent", "guard"] {
        machine.kill(who);
        assert_eq!(machine.key(), "1", "{who}");
        machine.await_owner();
        machine.await_free();
        assert_eq!(machine.key(), "1", "{who}");
    }
    machine.kill("owner");
    assert_eq!(machine.key(), "0", "the level is safe when its owner has died");
    machine.await_owner();
    machine.hold();

    // Other programs are installed, and go on as the same processes; the agent is another, which no line and no console knows.
    let before = ["guard", "owner"].map(|who| machine.main_of(unit_of(who)));
    for program in ["sai-buddy", "sai-agent"] {
        machine.well(&format!(
            "cd /usr/local/bin && cp {program} new && echo another >>new && chmod 755 new && mv new {program}"
        ));
    }
    machine.well("systemctl reload sai-guard sai-board@bench-1");
    assert_eq!(["guard", "owner"].map(|who| machine.main_of(unit_of(who))), before);
    for process in before {
        eventually("it is the other program", || {
            let program = machine.well(&format!("readlink /proc/{process}/exe"));
            (program == "/usr/local/bin/sai-buddy").then_some(())
        });
    }
    machine.await_owner();
    let agent = machine.main_of("sai-agent");
    machine.well("systemctl restart sai-agent");
    assert_ne!(machine.main_of("sai-agent"), agent);
    machine.await_free();
    assert_eq!(machine.key(), "1", "an update or a restart has moved a line");

    // While the board is flashed, and while it is recorded: nobody's failure, and the next job passes.
    let mut number = 0;
    let mut job = |case: &str, keys: &str, step: u32, act: &dyn Fn()| {
        number += 1;
        world.repository.push_saifile(&saifile(&[(case, keys)]));
        let job = at_step(world, number, case, step);
        act();
        let event = world.ended(number);
        let log = || format!("{}\n{}", String::from_utf8_lossy(&world.log(job)), machine.journal());
        let (word, cause) = verdict(world, job);
        let wanted = if case == "PASS" { "passed" } else { "no-boot" };
        let attempt = at_board(&event, case).attempt;
        assert!(word == wanted && attempt <= 2, "{case}, attempt {attempt}: {word} {cause}: {}", log());
        machine.await_free();
        machine.await_owner();
        attempt
    };
    let restart = || drop(machine.well("systemctl restart sai-agent"));
    assert_eq!(job("NO_BOOT", r#""timeout": "6s","#, 2, &restart), 1, "a restart costs no attempt");
    for who in ["agent", "supervisor", "guard", "owner"] {
        for (case, keys, step) in [("PASS", "", 1), ("NO_BOOT", r#""timeout": "4s","#, 2)] {
            let act = || machine.kill(who);
            let attempt = job(case, keys, step, &act);
            assert!(attempt == 1 || who != "agent", "{case}: an agent's death cost an attempt");
            assert_eq!(machine.key(), if who == "owner" { "0" } else { "1" }, "{who} killed in {case}");
        }
    }
    assert_eq!(job("PASS", "", 1, &|| ()), 1);

    // All that came has been recorded, once and in its order; what an owner that was killed had read and not yet passed on is told.
    counting.ends.store(true, Ordering::Relaxed);
    let (sent, refused, _master) = counting.thread.join().expect("counted");
    assert_eq!(refused, 0, "the tty was not read for so long that bytes had no room");
    let expected: String = (0..sent).map(|number| format!("{number:08}\n")).collect();
    let last = format!("{:08}\n", sent - 1);
    let recorded = eventually("all of it is recorded", || {
        let parts = parts(&fs::read_to_string(&recorded).unwrap_or_default());
        parts.last().is_some_and(|part| part.ends_with(&last)).then_some(parts)
    });
    let missing = missing(&expected, &recorded);
    let said = recorder.said();
    assert!(missing.len() <= 3, "three owners were killed: {missing:?} {said:?}");
    let most = missing.iter().max().copied().unwrap_or_default();
    assert!(most <= IN_PASSING_BYTES, "an owner keeps what it has read to itself: {missing:?} {said:?}");
    eprintln!("{sent} lines of 9 bytes, {number} jobs; owners that were killed took {missing:?} bytes with them");
}
