//! README.md, from top to bottom, as a stranger would follow it: every command in it is run, every file in it is used,
//! and every error it explains is provoked.
//!
//! What the README calls `/etc`, `/srv`, `/var/lib` and `/usr/local/bin` is in a directory of the test's own, and nobody
//! becomes root. Two commands are changed: programs are built by the profile that tests are built with, and the trial of
//! this repository builds one of its two configurations, so that this takes seconds instead of minutes. What is done on a
//! board is done here, by the board's program under emulation.

use rustix::process::{Pid, Signal, kill_process};
use sai_tests::avr::Avr;
use sai_tests::cross;
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::{World, free_port};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// An indented block of the README.
enum Block {
    /// Commands, one a line.
    Commands(Vec<String>),
    /// A file: a saifile or a master's configuration.
    File(String),
    /// The picture.
    Picture,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut before = "";
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("    ") {
            match blocks.last_mut() {
                Some(block) if before.starts_with("    ") => block.push(line),
                _ => blocks.push(vec![line]),
            }
        }
        before = line;
    }
    let sort = |block: Vec<&str>| match block.first() {
        Some(first) if first.starts_with('{') => Block::File(block.join("\n")),
        _ if block.concat().contains('─') => Block::Picture,
        _ => Block::Commands(block.iter().map(ToString::to_string).collect()),
    };
    blocks.into_iter().map(sort).collect()
}

/// What the README calls by these names is in a directory of the test's own.
const PLACES: [&str; 7] =
    ["/etc/sai", "/etc/init.d", "/etc/default", "/srv/git", "/var/lib", "/var/run", "/usr/local/bin"];
/// Time to build a program for another processor twice, on a machine that is busy.
const BUILD: Duration = Duration::from_secs(1800);

/// A machine of the stranger's: directories, and what runs.
struct Stranger {
    world: World,
    clone: PathBuf,
    own: PathBuf,
    master: Option<Process>,
    agent: Option<Process>,
    join_line: String,
    board: Option<Avr>,
}

impl Stranger {
    fn new() -> Self {
        let world = World::new("readme");
        let directory = world.directory.clone();
        let place = |name: &str| {
            let path = directory.join(name);
            std::fs::create_dir_all(&path).expect("a directory");
            path
        };
        for name in PLACES {
            place(name.trim_start_matches('/'));
        }
        // A clone of what is tested, whether it is committed or not.
        let clone = place("sai");
        let copy = "tar -C \"$1\" --exclude=./target --exclude=./.git -cf - . | tar -C \"$2\" -xf -";
        run(Command::new("sh").args(["-c", copy, "sh"]).arg(root()).arg(&clone));
        commit_all(&clone);
        let own = place("own");
        std::fs::write(own.join(".sai.json"), saifile(&["echo committed; cat new 2>&1 || true"])).expect("a saifile");
        commit_all(&own);
        std::fs::write(own.join("new"), "not committed yet\n").expect("a file");
        run(git(&directory).args(["clone", "--quiet", "--bare"]).arg(&own).arg(place("srv/git").join("hello.git")));
        Self { world, clone, own, master: None, agent: None, join_line: String::new(), board: None }
    }

    /// A command or file with the stranger's places in it.
    fn local(&self, text: &str) -> String {
        let mut text = text.replace("https://ci.example.org:4433", &format!("https://{}", self.world.address()));
        for place in PLACES {
            text = text.replace(place, &format!("{}{place}", self.world.directory.display()));
        }
        text.strip_prefix("sudo ").map(ToString::to_string).unwrap_or(text)
    }

    /// A shell that finds the installed programs.
    fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = self.world.directory.join("usr/local/bin");
        command.args(["-c", &self.local(line)]).current_dir(&self.clone).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", bin.display()));
        command.env("XDG_STATE_HOME", self.world.directory.join("state"));
        // The machine's own configuration is another one.
        command.env("SAI_CONFIG", self.world.directory.join("etc/sai/master.json"));
        command
    }

    /// Runs a line that must succeed, and returns what it prints.
    fn run(&self, line: &str) -> String {
        run(&mut self.shell(line))
    }

    fn run_in(&self, directory: &Path, line: &str) -> Output {
        let output = self.shell(line).current_dir(directory).output().expect("a shell");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    fn start_master(&mut self, line: &str) {
        if let Some(mut master) = self.master.take() {
            master.kill();
        }
        // On a port of the test's own; everything else is as the README's file has it.
        let url = format!("https://{}", self.world.address());
        let line = format!("exec {} --listen {} --url {url}", self.local(line), self.world.address());
        let master = Process::start("master", self.shell(&line).stdout(Stdio::null()));
        master.await_line("the page is at");
        self.master = Some(master);
    }

    fn file(&mut self, text: &str) {
        if text.contains("\"schema\"") {
            std::fs::write(self.own.join(".sai.json"), text).expect("a saifile");
            return;
        }
        if text.contains("\"boards\"") {
            // What is said of a real one can be meant.
            sai_core::bench::read("README.md", text.as_bytes()).expect("a bench");
            // A pty stands for its port, and has no DTR.
            let board = Avr::new(&self.world.directory);
            let (port, wiring) = ("\"path\": \"/dev/ttyACM0\", \"wiring\": \"arduino\" } },", "} },");
            assert!(text.contains(port), "{text}");
            let emulated = format!("\"path\": \"{}\" {wiring} {},", board.tty, board.resets());
            std::fs::write(self.clone.join("boards.json"), text.replace(port, &emulated)).expect("a bench");
            self.board = Some(board);
            return;
        }
        let file = self.world.directory.join("etc/sai/master.json");
        let text = self.local(text);
        sai_master::config::read("README.md", text.as_bytes()).expect("a configuration");
        std::fs::write(&file, text).expect("a configuration");
        if self.master.is_some() {
            self.start_master("sudo sai-master");
        }
    }

    /// Does what a line says of boards; owner and guard are the test's own.
    fn buddy(&self, line: &str) -> String {
        self.run(&format!("{line} --run {}", self.world.directory.join("boards").display()))
    }

    /// Does what a line says of images, where somebody may: nobody becomes root for it.
    fn image(&self, line: &str) {
        let images = self.world.directory.join("images");
        let line = format!("{line} --images {}", images.display());
        if !rustix::process::geteuid().is_root() {
            let output = self.shell(&line).output().expect("a shell");
            assert!(
                line.contains("image list") || text(&output.stderr).contains("only root"),
                "{}",
                text(&output.stderr)
            );
            return;
        }
        let said = self.run(&line);
        let offered = sai_agent::image::scan::scan(&images).images;
        let offered: Vec<&str> = offered.iter().map(|image| image.platform.as_str()).collect();
        if line.contains("image list") {
            assert_eq!(offered, ["linux-debian-13/x86_64/gcc", "linux-debian-13/x86_64/tcc"]);
            assert!(offered.iter().all(|platform| said.contains(platform)), "{said}");
            let gcc = self.run(&format!(
                "echo 'cc --version' | sai-agent image shell {} --images {}",
                offered[0],
                images.display()
            ));
            assert!(gcc.contains("Free Software Foundation"), "{gcc}");
            let sources = images.join("linux-debian-13/x86_64/gcc/base/etc/apt/sources.list");
            let sources = std::fs::read_to_string(sources).expect("the sources of its packages");
            assert!(sources.lines().all(|line| line.starts_with("deb http") && line.contains("trixie")), "{sources}");
        } else if line.contains("image remove") {
            assert_eq!(offered, ["linux-debian-13/x86_64/gcc"]);
        }
    }

    /// Takes back what a job holds; the first one that holds anything here.
    fn free_a_unit(&self, line: &str) {
        let file = r#"{"schema": "sai-1", "platforms": {"linux": {"build": "sleep 600"}}, "configurations": {"a": {"units": ["licences"]}}}"#;
        std::fs::write(self.own.join(".sai.json"), file).expect("a saifile");
        run(git(&self.own).args(["commit", "--quiet", "--all", "--message", "Want a licence"]));
        let bare = self.world.directory.join("srv/git/hello.git");
        run(git(&self.own).args(["push", "--quiet"]).arg(bare).args(["HEAD:refs/heads/licensed"]));
        let units = || String::from_utf8(self.world.get("/api/v1/units")?).ok();
        let held = eventually("it holds one", || units().filter(|units| units.contains("\"state\":\"granted\"")));
        assert!(held.contains("\"amount\":2,\"free\":1,") && held.contains("\"grant\":1,"), "{held}");
        assert!(text(&self.world.get("/units").expect("the page of units")).contains("1 of 2 free"));
        assert_eq!(self.run(line).trim(), "freed the units of grant 1");
        eventually("all of it is free", || units().filter(|units| units.contains("\"amount\":2,\"free\":2,")));
        let jobs = self.world.events().first().and_then(|event| self.world.event(event.id)).expect("the event").jobs;
        self.run(&format!("sai-master cancel job {}", jobs[0].id));
    }

    /// Does what a line says, and checks that it does what the README says of it.
    fn command(&mut self, line: &str) {
        match line {
            "cargo run --release -p sai-master -- try" => {
                let output = Command::new(program("sai-master"))
                    .args(["try", "--configuration", "core-tests", "--state"])
                    .arg(self.world.directory.join("state/sai-try"))
                    .current_dir(&self.clone)
                    .output()
                    .expect("sai-master can be run");
                let (said, told) = (text(&output.stdout), text(&output.stderr));
                assert!(output.status.success(), "{said}\n{told}");
                assert!(said.contains("test result: ok") && said.contains("passed\tlinux\tcore-tests"), "{said}");
                assert!(told.contains("see it live at https://localhost:"), "{told}");
            }
            "tests/run" => check_tests_run(&self.clone.join(line)),
            "cargo build --release" => assert!(program("sai-agent").exists()),
            "sudo install target/release/sai-master target/release/sai-agent /usr/local/bin/" => {
                let built = program("sai-master").parent().expect("a directory").display().to_string();
                self.run(&line.replace("target/release", &built));
            }
            "sai-master try" => {
                let said = text(&self.run_in(&self.own, line).stdout);
                assert!(said.contains("\ncommitted\n") && !said.contains("not committed yet"), "{said}");
            }
            "sai-master try --dirty" => {
                let said = text(&self.run_in(&self.own, line).stdout);
                assert!(said.contains("\nnot committed yet\n"), "{said}");
            }
            "sudo sai-master" => self.start_master(line),
            "sudo sai-master status" => {
                let said = self.run(line);
                assert!(said.starts_with("running\t") && said.contains("repository\thello: "), "{said}");
            }
            "sudo sai-master user add ann" => {
                let token = self.run(line);
                assert!(token.len() >= 32 && token.chars().all(|letter| letter.is_ascii_hexdigit()), "{token}");
                let form = format!("token={token}&to=/agents");
                let url = format!("https://{}/sign-in", self.world.address());
                let origin = format!("origin: https://{}", self.world.address());
                let answer = ["-ksSi", "-H", &origin, "-d", &form, &url];
                let answer = run(Command::new("curl").args(answer));
                assert!(answer.contains("set-cookie:") && answer.contains("/agents"), "{answer}");
            }
            "git -C /srv/git/hello.git config sai.insecure true" => {
                self.run(line);
                let bare = self.world.directory.join("srv/git/hello.git");
                let pushed = git(&self.own).arg("push").arg(bare).args(["HEAD:refs/heads/pushed"]).output();
                let told = text(&pushed.expect("git can be run").stderr);
                assert!(told.contains("remote: sai: https://") && told.contains("/event/1"), "{told}");
                assert!(!told.contains("Sai was not told of it"), "{told}");
                let event = eventually("the push becomes an event", || self.world.event(1));
                assert_eq!(event.jobs.len(), 1, "{event:?}");
                assert!(self.world.ended(1).jobs.iter().all(|job| job.state == "passed"));
            }
            "install -m 755 configs/hooks/post-receive /srv/git/hello.git/hooks/"
            | "git -C /srv/git/hello.git config sai.url https://ci.example.org:4433"
            | "git -C /srv/git/hello.git config sai.repository hello" => assert_eq!(self.run(line), ""),
            "scripts/gen-selfsigned-certs.sh /etc/sai ci.example.org" => {
                let said = self.run(line);
                assert!(said.contains("sai-master-key.pem") && said.contains("sai-master.pem"), "{said}");
            }
            "sudo sai-master agent add shed" => {
                self.join_line = self.run(line);
                assert_eq!(self.join_line.lines().count(), 1, "{}", self.join_line);
            }
            "sai-agent join LINE" => {
                // For root the place it would keep things in is the machine's own.
                let state = self.world.agent_state("shed");
                let line = format!("{} --state {}", line.replace("LINE", &self.join_line), state.display());
                let agent = Process::start("agent", &mut self.shell(&format!("exec {line}")));
                agent.await_line("connected as");
                drop(agent);
                // From now on plain `sai-agent` starts it.
                let again = format!("exec sai-agent --state {}", state.display());
                let agent = Process::start("agent", &mut self.shell(&again));
                agent.await_line("connected as");
                self.agent = Some(agent);
                let page = text(&self.world.get("/agents").expect("the page of agents"));
                assert!(page.contains("agent-shed"), "{page}");
            }
            // The master runs, or what it kept was put back from a backup.
            "sudo sai-master agent list" => {
                let list = self.run(line);
                let wanted = if self.master.is_some() { "shed\tconnected" } else { "shed" };
                assert!(list.contains(wanted), "{list}");
            }
            "sudo tar -C /var/lib/sai-master --exclude=./ledger --exclude=./repositories -cf sai.tar ."
            | "sudo mv /var/lib/sai-master /var/lib/sai-before"
            | "sudo mkdir -m 711 /var/lib/sai-master"
            | "sudo tar -C /var/lib/sai-master -xpf sai.tar" => assert_eq!(self.run(line), ""),
            "sudo sai-master agent revoke shed" => {
                self.run(line);
                self.agent.as_ref().expect("an agent").await_line("this agent's token was revoked");
            }
            "sudo sai-agent image create linux-debian-13/x86_64/gcc --debootstrap trixie --packages \"gcc libc6-dev make\""
            | "sudo sai-agent image create linux-debian-13/x86_64/tcc --on linux-debian-13/x86_64/gcc --packages \"tcc libc6-dev make\""
            | "sudo sai-agent image update linux-debian-13/x86_64/gcc"
            | "sudo sai-agent image shell linux-debian-13/x86_64/gcc --commit"
            | "sudo sai-agent image remove linux-debian-13/x86_64/tcc"
            | "sudo sai-agent image list" => self.image(line),
            "sai-master lint .sai.json" => assert_eq!(text(&self.run_in(&self.own, line).stdout), ""),
            "sai-master matrix .sai.json --ref main" => {
                let rows = text(&self.run_in(&self.own, line).stdout);
                let expected = "linux-debian-12/x86_64/gcc\tdefault\nlinux-debian-12/x86_64/gcc\ttls\nlinux-fedora\ttls\nlinux-debian-12/x86_64/gcc\ttest\n";
                let sorted = |rows: &str| rows.lines().map(ToString::to_string).collect::<BTreeSet<String>>();
                assert_eq!(sorted(&rows), sorted(expected));
            }
            "sai-master matrix .sai.json --changed src/main.c" => {
                let rows = text(&self.run_in(&self.own, line).stdout);
                assert!(rows.contains("\tdefault\n"), "{rows}");
            }
            "sudo sai-master start hello main configuration=default env=VERSION=1.2" => {
                let said = self.run(&line.replace(" main ", " pushed "));
                let event = said.strip_prefix("started event ").and_then(|said| said.split(' ').next()?.parse().ok());
                let event = self.world.ended(event.expect("the event's number"));
                assert!(event.jobs.iter().all(|job| job.configuration == "default"), "{event:?}");
            }
            "sudo sai-master rebuild job 1" | "sudo sai-master rebuild following 1" => {
                let before = self.world.event(1).expect("the event").jobs[0].attempt;
                assert!(self.run(line).starts_with("rebuilt job 1"), "{line}");
                eventually("it is built again", || {
                    self.world.event(1).filter(|event| event.jobs[0].attempt > before && event.jobs[0].ended())
                });
            }
            "sudo sai-master rebuild event 1 configuration=default" => {
                // What was built again before has to be over.
                let before = self.world.ended(1).jobs;
                assert_eq!(self.run(line), "rebuilt event 1: jobs of default");
                eventually("that configuration is built again, and no other", || {
                    let event = self.world.event(1).filter(|event| event.jobs.iter().all(|job| job.ended()))?;
                    let again = |now: &sai_tests::world::Job, then: &sai_tests::world::Job| now.attempt - then.attempt;
                    event
                        .jobs
                        .iter()
                        .zip(&before)
                        .all(|(now, then)| again(now, then) == u32::from(now.configuration == "default"))
                        .then_some(())
                });
            }
            "sudo install target/release/sai-buddy /usr/local/bin/" => {
                let built = program("sai-buddy").parent().expect("a directory").display().to_string();
                self.run(&line.replace("target/release", &built));
            }
            "make -C docs/first-board" => drop(self.run(line)),
            "sai-buddy boards.json check" => assert_eq!(self.run(line), "boards.json: 1 board"),
            "sai-buddy boards.json test uno docs/first-board/.sai.json hello" => {
                // simavr loses bytes between its threads, and resets, where the machine is busy.
                let line = format!("{line} --run {}", self.world.directory.join("boards").display());
                let try_it = || text(&self.shell(&line).output().expect("a shell").stdout);
                let passed = "ok 1 - boots\nok 2 - adds\nok 3 - verdict: passed\n1..3\n";
                assert!((0..4).any(|_| try_it().contains(passed)), "{}", try_it());
            }
            "sai-buddy boards.json list" => assert!(self.run(line).starts_with("uno: arduino-uno\n"), "{line}"),
            "sai-buddy boards.json record uno --kept --for 1s" => {
                let said = self.buddy(line);
                assert!(said.contains("ok 2 - adds"), "{said}");
            }
            "sai-buddy boards.json play uno reset" | "sai-buddy boards.json stop uno" => {
                assert_eq!(self.buddy(line), "")
            }
            "sudo sai-master unit free 1" => self.free_a_unit(line),
            "sudo sai-master export > records.jsonl" => {
                self.master.take().expect("a master").kill();
                self.run(line);
                let records = std::fs::read_to_string(self.clone.join("records.jsonl")).expect("the records");
                assert!(records.contains("shed") && records.contains("refs/heads/pushed"), "{records}");
            }
            "sudo sai-master import --state /var/lib/sai-elsewhere < records.jsonl" => {
                self.run(line);
                let list = self.run("sai-master agent list --state /var/lib/sai-elsewhere");
                assert!(list.contains("shed"), "{list}");
            }
            "cross/build -p sai-agent aarch64" => drop(cross::program("aarch64", "sai-agent")),
            "sudo sai-master agent add pi" => self.join_line = self.run(line),
            "scp target/cross/aarch64/sai-agent pi@raspberrypi:" => {
                cross::emulate();
                std::fs::create_dir_all(self.home()).expect("a directory");
                std::fs::copy(root().join("target/cross/aarch64/sai-agent"), self.home().join("sai-agent"))
                    .expect("what was built can be copied");
            }
            "ssh pi@raspberrypi sudo install sai-agent /usr/local/bin/" => {
                std::fs::create_dir_all(self.home().join("bin")).expect("a directory");
                self.run_in(&self.home(), &self.on_board(&line.replace("ssh pi@raspberrypi sudo ", "")));
            }
            "ssh pi@raspberrypi sudo sai-agent join LINE --name pi --only-save" => {
                // For root the place it keeps things in is the machine's own.
                let line = line.replace("ssh pi@raspberrypi sudo ", "").replace("LINE", &self.join_line);
                let line = self.on_board(&format!("/usr/local/bin/{line} --state /var/lib/sai-agent"));
                let output = self.run_in(&self.home(), &line);
                assert!(text(&output.stderr).contains("joined wss://"), "{output:?}");
            }
            "install -m 755 configs/S90sai-agent /etc/init.d/" => {
                self.run(line);
                // The script itself names places, too.
                let file = self.world.directory.join("etc/init.d/S90sai-agent");
                let script = std::fs::read_to_string(&file).expect("an init script");
                std::fs::write(&file, self.local(&self.on_board(&script))).expect("an init script");
            }
            "/etc/init.d/S90sai-agent start" => self.try_init_script(line),
            "cross/dist aarch64" => check_archive(),
            "cross/build --verify -p sai-agent armv7" => {
                let mut command = Command::new("timeout");
                command.arg(BUILD.as_secs().to_string()).args(line.split(' ')).current_dir(root());
                cross::prepare(&mut command);
                let said = run(&mut command);
                assert!(said.contains("armv7/sai-agent is the same bytes when built elsewhere"), "{said}");
            }
            _ => panic!("README.md has a command that this test does not know yet: {line}"),
        }
    }
}

impl Stranger {
    /// The home directory on the board.
    fn home(&self) -> PathBuf {
        self.world.directory.join("pi")
    }

    /// A text with the board's programs in it, which are others than this machine's.
    fn on_board(&self, text: &str) -> String {
        text.replace("/usr/local/bin", &self.home().join("bin").display().to_string())
    }

    /// Starts the board's agent as its init does; it is started again when it is killed, and not when it is stopped.
    fn try_init_script(&self, start: &str) {
        let pid_file = self.world.directory.join("var/run/sai-agent.pid");
        let pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<i32>().ok().and_then(Pid::from_raw);
        let state = |wanted: &str| {
            eventually(&format!("the board is {wanted}"), || {
                self.world.agents().into_iter().find(|agent| agent.name == "pi" && agent.state == wanted)
            })
        };
        self.run(start);
        state("idle");
        let first = eventually("the number of the process", pid);
        kill_process(first, Signal::KILL).expect("it can be killed");
        eventually("it is started again", || pid().filter(|again| *again != first));
        state("idle");
        self.run("/etc/init.d/S90sai-agent status && /etc/init.d/S90sai-agent stop");
        state("away");
        eventually("nothing starts it again", || (!pid_file.exists()).then_some(()));
    }
}

/// Makes an archive, and sees that all it says of itself is true.
fn check_archive() {
    let mut dist = Command::new(root().join("cross/dist"));
    cross::prepare(&mut dist);
    run(dist.arg("aarch64"));
    let place = World::new("archive");
    let name = format!("sai-{}-aarch64", env!("CARGO_PKG_VERSION"));
    let dist = root().join("target/dist");
    run(Command::new("sha256sum").args(["--check", "--quiet", "--ignore-missing", "SHA256SUMS"]).current_dir(&dist));
    run(Command::new("tar").arg("-xzf").arg(dist.join(format!("{name}.tar.gz"))).current_dir(&place.directory));
    let inside = place.directory.join(&name);
    run(Command::new("sha256sum").args(["--check", "--quiet", "--strict", "SHA256SUMS"]).current_dir(&inside));
    let listed = std::fs::read_to_string(inside.join("SHA256SUMS")).expect("checksums");
    for file in ["sai-agent", "sai-master", "README.md", "LICENSE", "configs/agent.json", "configs/S90sai-agent"] {
        assert!(listed.contains(&format!("  {file}\n")), "{listed}");
    }
    cross::emulate();
    let version = run(Command::new(inside.join("sai-agent")).arg("--version"));
    assert_eq!(version, format!("sai-agent {}", env!("CARGO_PKG_VERSION")));
    for (program, has, lacks) in [("sai-agent", "rustls", "sled"), ("sai-master", "sled", "serde_json")] {
        let bill = std::fs::read_to_string(inside.join(format!("{program}.cdx.json"))).expect("a bill of materials");
        assert!(bill.contains("\"bomFormat\": \"CycloneDX\"") && bill.contains(&format!("pkg:cargo/{has}@")), "{bill}");
        assert!(!bill.contains(&format!("pkg:cargo/{lacks}@")), "{bill}");
        for library in ["pkg:github/rust-lang/rust@1.", "pkg:generic/musl@1."] {
            assert_eq!(bill.matches(&format!("\"bom-ref\": \"{library}")).count(), 1, "{library} in {bill}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn commit_all(directory: &Path) {
    run(git(directory).args(["init", "--quiet", "--initial-branch=main"]));
    run(git(directory).args(["add", "--all"]));
    run(git(directory).args(["commit", "--quiet", "-m", "Everything"]));
}

/// It runs the test you read, so it is looked at only: that it can be started, tests the whole workspace, and installs
/// every program that the tests start.
fn check_tests_run(script: &Path) {
    let mode = std::fs::metadata(script).expect("tests/run").permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "tests/run can be executed");
    run(Command::new("bash").arg("-n").arg(script));
    let script = std::fs::read_to_string(script).expect("tests/run");
    let whole = |line: &str| line.starts_with("cargo test ") && line.ends_with(" --locked --workspace \"$@\"");
    assert!(script.lines().any(whole), "{script}");
    let packages = script.lines().filter_map(|line| line.strip_prefix("packages=\""));
    let packages: BTreeSet<&str> = packages.flat_map(|packages| packages.trim_end_matches('"').split(' ')).collect();
    for (name, package) in programs_of_tests() {
        let listed = package.is_empty() || packages.contains(package);
        assert!(listed, "tests start {name}, but tests/run does not install {package}");
    }
}

/// The programs that tests start by name, each with its Debian package; none for what every Debian has.
fn programs_of_tests() -> Vec<(String, &'static str)> {
    let mut found = BTreeSet::new();
    let mut directories = ["tests", "master", "agent", "buddy"].map(|part| root().join(part)).to_vec();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let names = text.split("Command::new(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.filter(|name| !name.is_empty()).map(ToString::to_string));
            }
        }
    }
    let package = |name: &str| match name.strip_prefix("/bin/").unwrap_or(name) {
        "apt-config" | "bash" | "sh" | "grep" | "cat" | "chmod" | "chown" | "chroot" | "cmp" | "cp" | "dd" | "du"
        | "find" | "id" | "md5sum" | "mkdir" | "mkfifo" | "od" | "rm" | "seq" | "sha256sum" | "sleep" | "sync"
        | "tar" | "timeout" | "true" | "date" | "useradd" | "xargs" => "",
        // It comes with pip, which tests/run looks for by itself.
        "python3" => "",
        "chromedriver" => "chromium-driver",
        "curl" => "curl",
        "gcc" => "gcc",
        "rb" | "sb" => "lrzsz",
        "stm32flash" => "stm32flash",
        "sigrok-cli" => "sigrok-cli",
        "avrdude" => "avrdude",
        "avr-gcc" | "avr-objcopy" => "gcc-avr",
        "aarch64-linux-gnu-objcopy" => "binutils-aarch64-linux-gnu",
        "arm-none-eabi-ld" => "binutils-arm-none-eabi",
        // tests/emulators installs it.
        "qemu-system-aarch64" | "qemu-system-arm" => "",
        "xz" => "xz-utils",
        "bwrap" => "bubblewrap",
        "debootstrap" => "debootstrap",
        "systemd-nspawn" => "systemd-container",
        // It comes with binutils, without which there is no gcc.
        "readelf" => "gcc",
        // It comes with perl, which it needs.
        "git" | "perl" => "git",
        "ip" => "iproute2",
        "lz4" => "lz4",
        "/usr/sbin/nginx" => "nginx-light",
        "caddy" => "caddy",
        "openssl" => "openssl",
        "ps" | "pgrep" => "procps",
        "ssh-keygen" | "ssh" => "openssh-client",
        "sshd" => "openssh-server",
        "systemd-analyze" => "systemd",
        "udevadm" => "udev",
        "unshare" | "flock" | "nsenter" | "setpriv" | "setsid" | "mount" | "umount" => "util-linux",
        "/sbin/mkfs.ext4" => "e2fsprogs",
        other => panic!("of which Debian package is {other}, which a test starts?"),
    };
    found.into_iter().map(|name| (name.clone(), package(&name))).collect()
}

/// Where the README tells of boards, which need no master.
const BOARDS: &str = "## Your first board\n";

/// The README without what it tells of boards, and that.
fn parts() -> (String, String) {
    let text = readme();
    let (before, boards) = text.split_once(BOARDS).expect("a section on boards");
    let (boards, after) = boards.split_once("\n## ").expect("a section behind it");
    (format!("{before}\n## {after}"), boards.to_string())
}

#[test]
fn every_command_of_the_readme_works() {
    let commands = follow(&parts().0);
    assert!(commands >= 20, "only {commands} commands were found");
}

/// At once, and not when the README comes to it.
#[test]
fn every_program_that_a_test_starts_is_installed_by_tests_run() {
    check_tests_run(&root().join("tests/run"));
}

#[test]
fn the_first_board_of_the_readme_passes() {
    let commands = follow(&parts().1);
    assert!(commands >= 8, "only {commands} commands were found");
}

/// Does what a text says, from top to bottom; gives how many commands there were.
fn follow(text: &str) -> usize {
    let mut stranger = Stranger::new();
    let mut commands = 0;
    for block in blocks(text) {
        match block {
            Block::Picture => {}
            Block::File(text) => stranger.file(&text),
            Block::Commands(lines) => {
                for line in lines {
                    stranger.command(&line);
                    commands += 1;
                }
            }
        }
    }
    commands
}

/// Whether a text of the README, in which `…` stands for anything, is in this output.
fn said(output: &str, quote: &str) -> bool {
    let mut rest = output;
    quote.split('…').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// What one trial says that waits for another.
fn trouble_of_trials(world: &World) -> Vec<String> {
    world.repository.write(".sai.json", saifile(&["true"]));
    world.repository.commit("Something to try");
    let state = world.directory.join("try-twice");
    let trial = |options: &[&str]| {
        let mut command = Command::new(program("sai-master"));
        command.arg("try").arg(&world.repository.work).arg("--state").arg(&state).args(options).stdout(Stdio::null());
        Process::start("try", &mut command)
    };
    let first = trial(&["--stay"]);
    first.await_line("the page stays at");
    vec![trial(&[]).await_line("is being tried already")]
}

/// What an agent says of fronts and proxies that are set up wrong.
fn trouble_on_the_way(world: &World) -> Vec<String> {
    let place = &world.directory;
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(place);
        command
    };
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    run(&mut openssl(&format!("{make} -subj /CN=root -keyout root.key -out root.pem")));
    run(&mut openssl(&format!("{make} -subj /CN=middle -CA root.pem -CAkey root.key -keyout key.pem -out middle.pem")));
    let leaf = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
    run(&mut openssl(&format!("{make} {leaf} -CA middle.pem -CAkey key.pem -keyout leaf.key -out leaf.pem")));
    let join = |port: u16, environment: &[(&str, &str)]| {
        let line = format!("sai1:localhost:{port}:one:{}:system", "0123456789abcdef".repeat(2));
        let mut command = Command::new(program("sai-agent"));
        command.args(["join", &line, "--only-save", "--state"]).arg(place.join("way")).env("NO_PROXY", "");
        command.env("SSL_CERT_FILE", place.join("root.pem")).envs(environment.iter().copied());
        text(&command.output().expect("sai-agent can be run").stderr)
    };
    let front = |options: &str| {
        let port = free_port();
        let serve = format!("s_server -quiet -accept 127.0.0.1:{port} -cert leaf.pem -key leaf.key{options}");
        let server = Process::start("front", openssl(&serve).stdout(Stdio::null()));
        eventually("the front listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        (server, port)
    };
    let (whole, old) = (front(""), front(" -tls1_2"));
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let asked = proxy.local_addr().expect("its address");
    let url = format!("http://{asked}");
    let refuses = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().expect("a connection");
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    });
    let said = vec![join(whole.1, &[]), join(old.1, &[]), join(1, &[("HTTPS_PROXY", &url)])];
    // One who was not asked waits no longer.
    drop(TcpStream::connect(asked));
    refuses.join().expect("the proxy was asked");
    said
}

/// What is said where a disk has changed what was written, each time something else.
fn trouble_of_a_disk(world: &World) -> Vec<String> {
    let copy = world.directory.join("damaged");
    let mut said = Vec::new();
    for entry in std::fs::read_dir(world.state().join("journal")).expect("the journal").flatten() {
        let _ = std::fs::remove_dir_all(&copy);
        run(Command::new("cp").arg("-r").arg(world.state()).arg(&copy));
        let file = copy.join("journal").join(entry.file_name());
        let mut bytes = std::fs::read(&file).expect("a file of it");
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        std::fs::write(&file, bytes).expect("a file of it");
        for words in [&["export"][..], &["agent", "list"]] {
            let mut command = Command::new(program("sai-master"));
            command.args(words).arg("--state").arg(&copy);
            said.push(text(&command.output().expect("sai-master can be run").stderr));
        }
    }
    said
}

#[test]
fn every_error_of_the_readme_is_real() {
    let readme = readme();
    let section = readme.split("## When something is wrong\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let section = section.expect("a section on errors");
    // What is quoted before the colon is a message; what comes after says what to do.
    let quotes: Vec<&str> = section
        .split("\n- ")
        .flat_map(|item| item.split(": ").next().unwrap_or("").split('`').skip(1).step_by(2))
        .collect();
    assert!(quotes.len() >= 14, "{quotes:?}");

    let mut world = World::new("trouble");
    world.set("expire_s", "86400");
    let mut outputs = Vec::new();
    let try_it = |world: &World| {
        let mut command = Command::new(program("sai-master"));
        command.arg("try").arg(&world.repository.work).arg("--state").arg(world.directory.join("try"));
        text(&command.output().expect("sai-master can be run").stderr)
    };
    world.repository.write("file", "content");
    world.repository.commit("No saifile yet");
    outputs.push(try_it(&world));
    outputs.extend(trouble_of_trials(&world));
    outputs.extend(trouble_on_the_way(&world));
    let mut absent = Command::new(program("sai-master"));
    absent.args(["agent", "list", "--state"]).arg(world.directory.join("absent"));
    outputs.push(text(&absent.output().expect("sai-master can be run").stderr));
    world.repository.write(".sai.json", saifile(&["true"]).replace("linux", "plan9"));
    world.repository.commit("Ask for another system");
    outputs.push(try_it(&world));

    let mut master = world.master();
    let work = &world.repository.work;
    run(git(&world.repository.bare).args(["config", "--unset", "sai.insecure"]));
    let push = |reference: &str| {
        let output = git(work).args(["push", "--quiet", "origin", reference]).output().expect("git can be run");
        text(&output.stderr)
    };
    outputs.push(push("HEAD:refs/heads/main"));
    run(git(&world.repository.bare).args(["config", "sai.insecure", "true"]));
    outputs.push(push("HEAD:refs/heads/again"));
    eventually("the push becomes an event", || world.event(1));
    outputs.push(text(&world.get("/event/1").expect("the event's page")));

    let line = world.join_line("one");
    let join = |state: &str| {
        let mut command = Command::new(program("sai-agent"));
        command.args(["join", &line, "--only-save", "--state"]).arg(world.agent_state(state));
        text(&command.output().expect("sai-agent can be run").stderr)
    };
    outputs.push(join("one"));
    outputs.push(join("two"));
    let mut export = Command::new(program("sai-master"));
    export.arg("export").arg("--config").arg(world.configuration());
    outputs.push(text(&export.output().expect("sai-master can be run").stderr));
    master.kill();
    outputs.extend(trouble_of_a_disk(&world));
    std::fs::remove_dir_all(world.state().join("tls")).expect("the master's certificate can be removed");
    let _master = world.master();
    let mut again = Command::new(program("sai-agent"));
    again.arg("--state").arg(world.agent_state("one")).stdout(Stdio::null());
    outputs.push(Process::start("one", &mut again).await_line("is pinned"));

    for quote in quotes {
        assert!(outputs.iter().any(|output| said(output, quote)), "nothing says {quote:?}: {outputs:#?}");
    }
}

#[test]
fn example_configurations_are_read_and_complete() {
    let world = World::new("configs");
    let configs = root().join("configs");
    let bytes = std::fs::read(configs.join("master.json")).expect("configs/master.json");
    let config = sai_master::config::read("configs/master.json", &bytes).expect("an example that can be read");
    assert!(config.repositories.contains_key("hello"));
    let keys = |errors: String| -> Vec<String> {
        let list = errors.split("expected one of ").nth(1).unwrap_or_default().split(['\n', ';']).next().unwrap_or("");
        list.split(", ").map(|key| key.trim_matches(['`', '.', ' ']).to_string()).collect()
    };
    let known = keys(sai_master::config::read("x", b"{\"nonsense\": 1}").expect_err("a wrong key").join("\n"));
    assert!(known.len() >= 14, "{known:?}");
    let example = text(&bytes);
    for key in known {
        assert!(example.contains(&format!("\"{key}\":")), "configs/master.json does not show {key}");
    }

    let file = world.directory.join("agent.json");
    std::fs::copy(configs.join("agent.json"), &file).expect("configs/agent.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let config = sai_agent::config::read(&file).expect("an example that can be read");
    assert_eq!(config.slots, Some(2));
    std::fs::copy(configs.join("agent-nspawn.json"), &file).expect("configs/agent-nspawn.json");
    let config = sai_agent::config::read(&file).expect("an example that can be read");
    assert_eq!(config.containers.binds.len(), 2);
}

/// Keys of the units that systemd might not be there to check.
const UNIT_KEYS: &[&str] = &["Description", "Wants", "After", "ExecStart", "User", "Restart", "KillMode", "WantedBy"];

#[test]
fn units_are_understood_by_systemd() {
    let world = World::new("units");
    for (name, program) in [
        ("sai-master", "sai-master --"),
        ("sai-agent", "sai-agent --"),
        ("sai-guard", "sai-buddy guard --"),
        ("sai-board@", "sai-buddy /etc/sai/boards.json owner %i --"),
    ] {
        let unit = std::fs::read_to_string(root().join(format!("configs/{name}.service"))).expect("a unit");
        // A guard wants nothing but to be there.
        for key in UNIT_KEYS.iter().filter(|key| name != "sai-guard" || **key != "Wants") {
            assert!(unit.lines().any(|line| line.starts_with(&format!("{key}="))), "{name} has no {key}");
        }
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
        assert!(start.starts_with(&format!("/usr/local/bin/{program}")), "{start}");
        // The programs are not installed on a machine that only tests them.
        let copy = world.directory.join(format!("{name}.service"));
        let installed = program.split(' ').next().expect("a program");
        std::fs::write(&copy, unit.replace(&format!("/usr/local/bin/{installed}"), "/bin/true")).expect("a unit");
        if name == "sai-agent" {
            let addition = world.directory.join("sai-agent.service.d");
            std::fs::create_dir(&addition).expect("a directory");
            for part in ["containers", "boards"] {
                let from = root().join(format!("configs/sai-agent-{part}.conf"));
                std::fs::copy(from, addition.join(format!("{part}.conf"))).expect("an addition to the unit");
            }
        }
        if name == "sai-board@" {
            // Its user is the guard's, and systemd checks templates by their instances alone.
            std::fs::rename(&copy, world.directory.join("sai-board@b.service")).expect("an instance");
            let guard = world.directory.join("sai-guard.service");
            assert!(guard.exists() && unit.contains("\nUser=sai-boards\n"));
            verify(&world.directory.join("sai-board@b.service"), name);
            continue;
        }
        // Its head says how to make the user that it wants.
        let user = unit.lines().find_map(|line| line.strip_prefix("User=")).expect("a user");
        let make = unit.lines().find_map(|line| line.strip_prefix("#   useradd ")).expect("how to make it");
        assert!(make.ends_with(&format!(" {user}")), "{make} does not make {user}");
        if rustix::process::geteuid().is_root() {
            let etc = world.directory.join(name).join("etc");
            std::fs::create_dir_all(&etc).expect("a directory");
            ["passwd", "group", "shadow", "gshadow"]
                .iter()
                .for_each(|file| std::fs::write(etc.join(file), "").expect("a file"));
            let prefix = world.directory.join(name);
            run(Command::new("useradd").arg("--prefix").arg(&prefix).args(make.split(' ')));
            let users = std::fs::read_to_string(etc.join("passwd")).expect("users");
            assert!(users.starts_with(&format!("{user}:")) && users.contains("/usr/sbin/nologin"), "{users}");
        }
        verify(&copy, name);
    }
}

/// What the rules of udev match and set.
const RULE_KEYS: [&str; 9] = ["SUBSYSTEM", "KERNEL", "DRIVER", "ENV{", "ATTR{", "GROUP", "MODE", "RUN", "ACTION"];

#[test]
fn rules_of_udev_are_understood() {
    let path = root().join("configs/60-sai-boards.rules");
    let rules = std::fs::read_to_string(&path).expect("rules");
    let mut groups = Vec::new();
    for line in rules.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // A part is a key, what is done with it, and a text in quotes, which has commas too.
        let mut rest = line;
        while !rest.is_empty() {
            let (key, after) = rest.split_once('"').unwrap_or_else(|| panic!("{line}: {rest} has no text"));
            let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("{line}: {rest} has no end"));
            let name = key.trim_end_matches(['=', '+', '!', ':']);
            assert!(RULE_KEYS.iter().any(|known| name.starts_with(known)), "{line}: {name}");
            assert!(["==", "=", "+=", "!="].contains(&&key[name.len()..]), "{line}: {key}");
            groups.extend((name == "GROUP").then(|| value.to_string()));
            rest = after.strip_prefix(", ").unwrap_or(after);
        }
    }
    // Owners and guard are users of these: the guard's unit says how, and its own group is made with its user.
    let unit = std::fs::read_to_string(root().join("configs/sai-guard.service")).expect("a unit");
    for group in ["sai-boards", "dialout"] {
        assert!(groups.iter().any(|other| other == group) && unit.contains(group), "{group}: {groups:?}");
    }
    // Since version 254 udev says itself what it thinks of them.
    match Command::new("udevadm").args(["verify", "--help"]).output() {
        Ok(help) if help.status.success() => {
            drop(run(Command::new("udevadm").args(["verify", "--no-style"]).arg(&path)))
        }
        _ => eprintln!("udevadm verifies no rules here"),
    }
}

/// Has systemd, where it is there, say what is wrong with a unit.
fn verify(unit: &Path, name: &str) {
    match Command::new("systemd-analyze").arg("verify").arg(unit).output() {
        Ok(output) => {
            let told = text(&output.stderr);
            let about =
                told.lines().filter(|line| line.contains(&format!("{name}.service")) || line.contains("@b.service"));
            assert_eq!(about.collect::<Vec<_>>(), Vec::<&str>::new());
        }
        Err(error) => eprintln!("systemd-analyze: {error}; {name}.service was not verified by it"),
    }
}

#[test]
fn options_of_help_are_taken_and_others_refused() {
    let world = World::new("help");
    let state = world.directory.join("state").display().to_string();
    let config = world.directory.join("none.json").display().to_string();
    let saifile = root().join(".sai.json").display().to_string();
    let _master = world.master();
    let line = world.join_line("one").replace(&format!(":{}", world.port), ":1");
    let joined = world.configuration().display().to_string();
    let examples: [(&str, &str, Vec<Vec<&str>>); 6] = [
        ("sai-master", "agent", vec![vec!["agent", "list", "--config", &joined, "--state", &state]]),
        (
            "sai-master",
            "run",
            vec![vec![
                "--config",
                &config,
                "--state",
                &state,
                "--listen",
                "127.0.0.1:1",
                "--url",
                "https://localhost:1",
            ]],
        ),
        (
            "sai-master",
            "try",
            vec![
                vec!["try", &config, "--dirty", "--configuration", "a", "--platform", "b", "--as", "linux-c"],
                vec!["try", &config, "--slots", "1", "--state", &state, "--stay", "--images", "/", "--artifacts", "a"],
            ],
        ),
        ("sai-master", "matrix", vec![vec!["matrix", &saifile, "--ref", "main", "--changed", "README.md"]]),
        ("sai-agent", "", vec![vec!["--config", &config, "--state", &state], vec!["--version"], vec!["--help"]]),
        (
            "sai-agent",
            "join",
            vec![vec![
                "join",
                &line,
                "--name",
                "n",
                "--platform",
                "linux-c",
                "--slots",
                "1",
                "--state",
                &state,
                "--only-save",
            ]],
        ),
    ];
    for (name, command, lines) in examples {
        let ask = |arguments: &[&str]| Command::new(program(name)).args(arguments).output().expect("a program");
        let version = ask(&["--version"]);
        assert_eq!(text(&version.stdout), format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
        let help = if command.is_empty() { ask(&["--help"]) } else { ask(&[command, "--help"]) };
        assert!(help.status.success());
        let help = text(&help.stdout);
        // What is said of another command's help is no option of this one.
        let help: String =
            help.lines().filter(|line| !line.contains("; see ")).map(|line| format!("{line}\n")).collect();
        let options = help.split(|letter: char| !(letter.is_ascii_lowercase() || letter == '-'));
        let options: BTreeSet<&str> = options.filter(|word| word.starts_with("--") && word.len() > 2).collect();
        let shown: BTreeSet<&str> = lines.iter().flatten().copied().filter(|word| word.starts_with("--")).collect();
        assert_eq!(options, shown, "the options of {name} {command} --help and those tried here");
        for arguments in lines {
            let told = text(&ask(&arguments).stderr);
            let refused = ["there is no option", "is not understood", "one word too many", "expected one of"];
            assert!(!refused.iter().any(|text| told.contains(text)), "{name} {arguments:?}: {told}");
        }
        for wrong in ["--nonsense", "nonsense"] {
            assert_eq!(ask(&[wrong]).status.code(), Some(2), "{name} {wrong}");
        }
    }
    // A join line of no master at all helps nobody.
    let empty = world.directory.join("empty");
    std::fs::create_dir_all(&empty).expect("a directory");
    let output = Command::new(program("sai-master")).args(["agent", "add", "x"]).current_dir(&empty).output();
    assert_eq!(output.expect("sai-master can be run").status.code(), Some(2));
    assert!(!empty.join("sai-state").exists());
}
