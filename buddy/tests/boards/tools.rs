//! Stock tools behind the owner's pty: what they leave on a board is the same, and nothing is left of them.

use crate::avr::{Board, program};
use crate::line::image;
use crate::pty::{Pty, Served};
use crate::rig::Rig;
use crate::rom::Rom;
use rustix::termios::tcgetattr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const F405: u16 = 0x413;

fn timed(command: &mut Command) -> (Duration, Output) {
    let began = Instant::now();
    let output = command.output().expect("it runs");
    (began.elapsed(), output)
}

fn well(output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

/// Nobody's time but the owner's is measured: the machine may be busy with other tests, so much more than what is wanted of it
/// on a quiet one (half as much again) fails.
fn not_much_slower(tool: &str, direct: Duration, through: Duration) {
    println!(
        "{tool}: direct {direct:?}, through the owner {through:?}: {:.2}",
        through.as_secs_f64() / direct.as_secs_f64()
    );
    assert!(through < direct * 10 + Duration::from_secs(10), "{tool}: {through:?}, direct {direct:?}");
}

#[test]
fn stock_stm32flash_writes_and_reads_back_through_the_owner() {
    let image = image(40_000);
    let direct = Pty::new();
    let served = Served::new(Rom::new(F405), direct.master.try_clone().expect("a copy"));
    let mut rig = Rig::new("stm32flash", 1, "\"baud\": 115200");
    let file = rig.top.join("image.bin");
    fs::write(&file, &image).expect("a file");
    let file = file.display().to_string();
    let words = ["stm32flash", "-m", "8n1", "-b", "115200", "-v", "-w", &file];
    let (alone, output) = timed(Command::new("timeout").arg("60").args(words).arg(&direct.path));
    well(&output);
    assert!(served.end().flash[..40_000] == image);
    rig.start_owner();
    let served = Served::new(Rom::new(F405), rig.ptys[0].master.try_clone().expect("a copy"));
    let bench = rig.file();
    let mut rest = vec!["--limit", "60s", "--"];
    rest.extend(words);
    rest.push("{tty}");
    let (through, output) = timed(&mut rig.command(&[&bench, "tool", "b"], &rest));
    well(&output);
    assert!(served.end().flash[..40_000] == image);
    not_much_slower("stm32flash", alone, through);
    // Both directions are in the recording: every byte of the image went out, and its words came back.
    let kept = rig.well_or_loss(&[&bench, "record", "b", "--kept", "--for", "1s", "--json"]);
    let sent: usize = kept.lines().filter(|line| line.contains("\"writer\":\"tool\"")).count();
    assert!(sent > 100 && kept.contains("\"what\":\"bytes\""), "{sent} entries of what was sent");
}

#[test]
fn stock_avrdude_writes_to_the_stock_optiboot_through_the_owner() {
    let mut board = Board::new("tool");
    let tty = board.tty.clone();
    let rig = Rig::at("avrdude", &[&tty], "\"baud\": 115200", "");
    let bench = rig.file();
    let mut took = Vec::new();
    for through in [false, true] {
        let image = program(3001, 3 + u8::from(through));
        let file = board.directory.join("tool.bin");
        fs::write(&file, &image).expect("a file");
        let memory = format!("flash:w:{}:r", file.display());
        let words = ["avrdude", "-q", "-p", "m328p", "-c", "arduino", "-b", "115200", "-D", "-U", &memory, "-P"];
        board.order("reset");
        let (time, output) = if through {
            let mut rest = vec!["--limit", "60s", "--"];
            rest.extend(words);
            rest.push("{tty}");
            timed(&mut rig.command(&[&bench, "tool", "b"], &rest))
        } else {
            timed(Command::new("timeout").arg("60").args(words).arg(&tty))
        };
        well(&output);
        assert!(board.flash()[..3001] == image);
        took.push(time);
    }
    not_much_slower("avrdude", took[0], took[1]);
}

#[test]
fn a_tool_is_killed_whole_at_its_limit_and_the_board_is_free_then() {
    let mut rig = Rig::new("limit", 1, "\"baud\": 115200");
    rig.start_owner();
    let bench = rig.file();
    let tool = |rig: &Rig, limit: &str, script: &str| {
        rig.run(&[&bench, "tool", "b"], &["--limit", limit, "--", "sh", "-c", script])
    };
    // What it starts leaves its session and its parents, and holds the tty.
    let mark = rig.top.join("mark").display().to_string();
    let script = format!("(setsid sh -c 'echo $$ >{mark}; exec sleep 1000' <{{tty}} &) ; sleep 1000");
    let output = tool(&rig, "700ms", &script);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains("killed after 700 ms")), (Some(124), true), "{said}");
    let process = fs::read_to_string(&mark).expect("it had begun");
    assert!(!fs::exists(format!("/proc/{}/stat", process.trim())).expect("told"), "it goes on");
    // Its speed is followed while it runs, and no longer; its words are no shell's of ours, and its status is told.
    let script = "stty -F '{tty}' 57600 && printf 'a;b $(c)' >'{tty}' && sleep 0.3; exit 7";
    let began = Instant::now();
    let output = std::thread::scope(|scope| {
        let running = scope.spawn(|| tool(&rig, "60s", script));
        let mut followed = false;
        while !running.is_finished() {
            followed |= tcgetattr(&rig.ptys[0].master).expect("settings").output_speed() == 57_600;
            std::thread::sleep(Duration::from_millis(5));
            assert!(began.elapsed() < crate::rig::LONG, "the tool does not end");
        }
        assert!(followed, "the tty never had the tool's speed");
        running.join().expect("it ran")
    });
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(tcgetattr(&rig.ptys[0].master).expect("settings").output_speed(), 115_200);
    let mut heard = [0; 8];
    std::io::Read::read_exact(&mut rig.ptys[0].master.try_clone().expect("a copy"), &mut heard).expect("heard");
    assert_eq!(&heard, b"a;b $(c)");
    // What cannot be started is told, and the board is free all the same.
    let output = rig.run(&[&bench, "tool", "b"], &["--", "/no/such/tool", "{tty}"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/tool: No such file"), "{output:?}");
    assert!(!rig.status().contains("\"writer\":\"tool\""));
}

#[test]
fn a_client_that_is_killed_takes_its_tools_tty_along_and_an_update_waits_for_that() {
    let mut rig = Rig::new("broken", 1, "\"baud\": 115200");
    rig.start_owner();
    let bench = rig.file();
    let rest = ["--", "sh", "-c", "echo $$ >\"$0\"; exec cat '{tty}'", &rig.top.join("mark").display().to_string()];
    let mut client = rig.command(&[&bench, "tool", "b"], &rest).spawn().expect("a tool");
    crate::rig::until("the tool runs", || {
        rig.status().contains("\"writer\":\"tool\"") && rig.top.join("mark").exists()
    });
    let mut update = rig.command(&[&bench, "update", "b"], &[]).spawn().expect("an update");
    std::thread::sleep(Duration::from_millis(100));
    assert!(update.try_wait().expect("told").is_none(), "the update does not wait");
    client.kill().expect("killed");
    client.wait().expect("ended");
    assert!(update.wait().expect("ended").success());
    crate::rig::until("the board is free", || !rig.status().contains("\"writer\":\"tool\""));
    let process = fs::read_to_string(rig.top.join("mark")).expect("told");
    crate::rig::until("the tool has lost its tty", || {
        !fs::exists(format!("/proc/{}", process.trim())).unwrap_or(false)
            || fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default().contains(") Z ")
    });
}

/// What PyPI has of fixed versions, where the tests before have put it, or put there now.
pub fn pypi(name: &str, versions: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    fs::create_dir_all(&target).expect("a directory");
    let place = target.canonicalize().expect("a directory").join(name);
    let install = "test -e \"$1/there\" || { timeout 300 python3 -m pip install --quiet --disable-pip-version-check \
        --root-user-action=ignore --no-deps --target \"$@\" && touch \"$1/there\"; }";
    let mut command = Command::new("flock");
    command.arg(place.with_extension("lock")).args(["sh", "-c", install, "sh"]).arg(&place).args(versions);
    well(&command.output().expect("flock"));
    place
}

#[test]
fn pypis_stm32loader_writes_and_reads_back_through_the_owner() {
    let library = pypi("stm32loader", &["stm32loader==0.7.1", "pyserial==3.5", "progress==1.6.1"]);
    let image = image(4_000);
    let mut rig = Rig::new("stm32loader", 1, "\"baud\": 115200");
    let file = rig.top.join("image.bin");
    fs::write(&file, &image).expect("a file");
    rig.start_owner();
    let served = Served::new(Rom::new(F405), rig.ptys[0].master.try_clone().expect("a copy"));
    let (bench, file) = (rig.file(), file.display().to_string());
    // It moves DTR and RTS and cannot be told not to; a pty has none. Here the owner moves what there is.
    let without = "import runpy, serial\nno = property(lambda port: False, lambda port, level: None)\n\
        serial.Serial.rts = serial.Serial.dtr = no\nrunpy.run_module('stm32loader', run_name='__main__')";
    let words =
        [&["python3", "-c", without][..], &["--family", "F4", "-P", "none", "-n", "-e", "-w", "-v", "-p", "{tty}"]]
            .concat();
    let mut rest = vec!["--limit", "60s", "--"];
    rest.extend(words);
    rest.push(&file);
    let output = rig.command(&[&bench, "tool", "b"], &rest).env("PYTHONPATH", library).output().expect("it runs");
    well(&output);
    let rom = served.end();
    assert!(rom.flash[..4_000] == image && rom.overwritten == 0);
}
