//! A line or a file of the README → the same done on a machine of the stranger's, and that it does what the README says of it.

use super::programs::check_tests_run;
use super::{commit_all, root, text};
use rustix::process::{Pid, Signal, kill_process};
use sai_tests::avr::Avr;
use sai_tests::cross;
use sai_tests::process::{Process, eventually, program};
use sai_tests::random::rounds;
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::World;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// What the README calls by these names is in a directory of the test's own.
const PLACES: [&str; 7] =
    ["/etc/sai", "/etc/init.d", "/etc/default", "/srv/git", "/var/lib", "/var/run", "/usr/local/bin"];
/// Time to build a program for another processor twice, on a machine that is busy.
const BUILD: Duration = Duration::from_secs(1800);

/// A machine of the stranger's: directories, and what runs.
pub struct Stranger {
    world: World,
    clone: PathBuf,
    own: PathBuf,
    master: Option<Process>,
    agent: Option<Process>,
    join_line: String,
    board: Option<Avr>,
}

impl Stranger {
    pub fn new() -> Self {
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

    /// What is there before the README tells of laptops: a master that has built something, and a person's token.
    pub fn has_built(&mut self) {
        let text = saifile(&["echo committed", "mkdir out; echo hello >out/hello"]);
        let text = text.replace("\"default\": {}", "\"default\": {\"artifacts\": \"out/**\"}");
        std::fs::write(self.own.join(".sai.json"), text).expect("a saifile");
        run(git(&self.own).args(["commit", "--quiet", "--all", "--message", "Keep a file"]));
        let bare = self.world.directory.join("srv/git/hello.git");
        run(git(&self.own).args(["push", "--quiet"]).arg(bare).args(["HEAD:refs/heads/main"]));
        self.command("sudo install target/release/sai-master target/release/sai-agent /usr/local/bin/");
        self.file(
            "{ \"state\": \"/var/lib/sai-master\", \"repositories\": { \"hello\": { \"url\": \"/srv/git/hello.git\" } } }",
        );
        self.start_master("sudo sai-master");
        self.run("sai-master start hello main");
        assert!(self.world.ended(1).jobs.iter().all(|job| job.state == "passed"));
        let token = self.run("sai-master user add ann");
        std::fs::write(self.own.join("token"), token).expect("a token");
    }

    /// What is there before it tells of boards there: an agent that offers one, and a login.
    pub fn has_a_board(&mut self) {
        let directory = self.world.directory.clone();
        let board = Avr::new(&directory);
        let bench = format!(
            r#"{{ "boards": {{ "uno": {{ "type": "arduino-uno", "consoles": {{ "main": {{ "path": "{}" }} }}, {} }} }} }}"#,
            board.tty,
            board.resets()
        );
        std::fs::write(directory.join("boards.json"), bench).expect("a bench");
        self.board = Some(board);
        self.command("sudo sai-master agent add shed");
        self.command("sai-agent join LINE");
        self.agent.take().expect("an agent").kill();
        // What a person would write into its file.
        let file = self.world.agent_state("shed").join("agent.json");
        let settings = std::fs::read_to_string(&file).expect("its settings");
        let more = format!(
            "{{ \"boards\": {:?}, \"boards_run\": {:?}, \"user\": \"nobody\",",
            directory.join("boards.json"),
            directory.join("boards")
        );
        std::fs::write(&file, settings.replacen('{', &more, 1)).expect("its settings");
        let again = format!("exec sai-agent --state {}", self.world.agent_state("shed").display());
        let agent = Process::start("agent", &mut self.shell(&again));
        agent.await_line("connected as");
        self.agent = Some(agent);
        self.command("sudo install target/release/sai /usr/local/bin/");
        self.command("sai login https://ci.example.org:4433 --fingerprint DIGITS < token");
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
        command.env("XDG_CONFIG_HOME", self.world.directory.join("config"));
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

    pub fn file(&mut self, text: &str) {
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
    pub fn command(&mut self, line: &str) {
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
            "sudo install target/release/sai /usr/local/bin/" => {
                let built = program("sai").parent().expect("a directory").display().to_string();
                self.run(&line.replace("target/release", &built));
            }
            "sai login https://ci.example.org:4433 --fingerprint DIGITS < token" => {
                let status = self.run("sai-master status");
                let digits =
                    status.lines().find_map(|line| line.strip_prefix("certificate\t")).expect("its fingerprint");
                let said = self.run_in(&self.own, &line.replace("DIGITS", digits));
                assert!(text(&said.stdout).contains(" as ann (builder)"), "{said:?}");
            }
            "sai status" => {
                let said = text(&self.run_in(&self.own, line).stdout);
                assert!(said.starts_with("nothing runs, and nothing waits\nagent\t"), "{said}");
            }
            "sai log -f 1" => {
                let said = text(&self.run_in(&self.own, line).stdout);
                assert!(said.contains("\ncommitted\n") && said.contains("\npassed\tlinux\tdefault\t"), "{said}");
            }
            "sai log --raw 1 > log.txt" => {
                self.run_in(&self.own, line);
                assert_eq!(std::fs::read_to_string(self.own.join("log.txt")).expect("the log"), "committed\n");
            }
            "sai get 1 'out/**'" => {
                assert_eq!(text(&self.run_in(&self.own, line).stdout), "job-1/out/hello\n");
                assert_eq!(std::fs::read(self.own.join("job-1/out/hello")).expect("the file"), b"hello\n");
            }
            "sai rebuild 1" => assert_eq!(text(&self.run_in(&self.own, line).stdout), "rebuilt job 1\n"),
            "sai cancel 1" => {
                // It may have ended, or may not have.
                let said = self.shell(line).current_dir(&self.own).output().expect("a shell");
                let ended = text(&said.stderr).contains("nothing of it is queued or running");
                assert!(said.status.success() || ended, "{said:?}");
            }
            "sai board list" => {
                let free = || Some(text(&self.run_in(&self.own, line).stdout)).filter(|said| said.contains("\tfree"));
                assert!(eventually("the board is free", free).starts_with("shed/uno\tarduino-uno\t"));
            }
            "sai board lease arduino-uno --minutes 20" => {
                assert!(text(&self.run_in(&self.own, line).stdout).starts_with("shed/uno\tjob "));
            }
            "sai board play arduino-uno reset" | "sai board console arduino-uno" | "sai board release arduino-uno" => {
                self.run_in(&self.own, line);
            }
            "sai run" => {
                // Who may not is told, and then may.
                std::fs::write(self.own.join(".gitignore"), "job-1\nlog.txt\ntoken\nnew\nkept\n").expect("a file");
                run(git(&self.own).args(["add", ".gitignore"]));
                let bare = self.world.directory.join("srv/git/hello.git");
                run(git(&self.own).args(["remote", "add", "origin"]).arg(bare));
                run(git(&self.own).args(["commit", "--quiet", "--message", "Ignore what is fetched"]));
                let refused = self.shell(line).current_dir(&self.own).output().expect("a shell");
                assert!(text(&refused.stderr).contains("the right to run what nobody pushed"), "{refused:?}");
                let token = self.run("sai-master user add eve builder run");
                std::fs::write(self.own.join("token"), token).expect("a token");
                self.run_in(&self.own, &format!("sai login https://{} < token", self.world.address()));
                let said = text(&self.run_in(&self.own, line).stdout);
                assert!(said.contains("passed\tlinux\tdefault\t"), "{said}");
            }
            "sai run default --dirty --artifacts kept" => {
                std::fs::write(self.own.join("uncommitted"), "").expect("a file");
                let said = text(&self.run_in(&self.own, line).stdout);
                assert!(said.contains("passed\tlinux\tdefault\t") && said.contains("/out/hello\n"), "{said}");
            }
            "sai logout" => {
                self.run_in(&self.own, line);
                let said = self.shell("sai status").current_dir(&self.own).output().expect("a shell");
                assert_eq!(said.status.code(), Some(2), "{said:?}");
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
                // Each run has what is built soonest, with the same flags; `SAI_ROUNDS=2` has the line as it is.
                let (program, target) = if rounds(1) > 1 { ("sai-agent", "armv7") } else { ("sai-init", "aarch64") };
                let line = line.replace("sai-agent", program).replace("armv7", target);
                let mut command = Command::new("timeout");
                command.arg(BUILD.as_secs().to_string()).args(line.split(' ')).current_dir(root());
                cross::prepare(&mut command);
                let said = run(&mut command);
                let same = format!("{target}/{program} is the same bytes when built elsewhere");
                assert!(said.contains(&same), "{said}");
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
    for file in ["sai-agent", "sai-master", "sai", "README.md", "LICENSE", "configs/agent.json", "configs/S90sai-agent"]
    {
        assert!(listed.contains(&format!("  {file}\n")), "{listed}");
    }
    cross::emulate();
    let version = run(Command::new(inside.join("sai-agent")).arg("--version"));
    assert_eq!(version, format!("sai-agent {}", env!("CARGO_PKG_VERSION")));
    for (program, has, lacks) in
        [("sai-agent", "rustls", "sled"), ("sai-master", "sled", "serde_json"), ("sai", "rustls", "sled")]
    {
        let bill = std::fs::read_to_string(inside.join(format!("{program}.cdx.json"))).expect("a bill of materials");
        assert!(bill.contains("\"bomFormat\": \"CycloneDX\"") && bill.contains(&format!("pkg:cargo/{has}@")), "{bill}");
        assert!(!bill.contains(&format!("pkg:cargo/{lacks}@")), "{bill}");
        for library in ["pkg:github/rust-lang/rust@1.", "pkg:generic/musl@1."] {
            assert_eq!(bill.matches(&format!("\"bom-ref\": \"{library}")).count(), 1, "{library} in {bill}");
        }
    }
}
