//! Program and arguments → a child process that the test owns: its lines can be awaited, and it never outlives the test.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a process may take to say what is awaited of it, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running child. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Arc<Mutex<Vec<String>>>,
    name: String,
}

impl Process {
    /// Starts a command with its standard error read line by line; standard output goes where the command says.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let stderr = child.stderr.take().expect("standard error is piped");
        let (sender, lines) = channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (all, label) = (seen.clone(), name.to_string());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if std::env::var_os("SAI_TEST_VERBOSE").is_some() {
                    eprintln!("{label}: {line}");
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
                let _ = sender.send(line);
            }
        });
        Self { child, lines, seen, name: name.to_string() }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that contains `text` and returns it. Lines before it are passed over.
    pub fn await_line(&self, text: &str) -> String {
        self.await_line_for(PATIENCE, text)
    }

    /// The same for what takes longer.
    pub fn await_line_for(&self, patience: Duration, text: &str) -> String {
        let until = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => {
                    let why = if error == RecvTimeoutError::Timeout { "did not say" } else { "ended without saying" };
                    panic!("{} {why} {text:?}; it said:\n{}", self.name, self.said().join("\n"));
                }
            }
        }
    }

    /// Waits for a line that contains `text`, wherever it is among all since the start, and returns it: of two that are said by parts which
    /// know nothing of one another either may be the first.
    pub fn await_said_for(&self, patience: Duration, text: &str) -> String {
        let what = format!("{} says {text:?}", self.name);
        eventually_within(patience, &what, || self.said().into_iter().find(|line| line.contains(text)))
    }

    /// All it has said so far.
    pub fn said(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(Instant::now() < until, "{} does not end; it said:\n{}", self.name, self.said().join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory, KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A pause between two looks is this part of what has been waited for, so that what is there soon is found at once.
const PAUSES: u32 = 20;
/// But no shorter than this.
const SHORTEST: Duration = Duration::from_millis(10);
/// And no longer: some of what is looked for is there for part of a second.
const LONGEST: Duration = Duration::from_millis(100);

/// Looks again and again until `look` finds something.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, look)
}

/// The same for what takes longer.
pub fn eventually_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let waited = begun.elapsed();
        assert!(waited < patience, "{what}: not within {patience:?}");
        // A look mostly starts a program that shakes hands with the master, which takes more than a pause of the shortest.
        std::thread::sleep((waited / PAUSES).clamp(SHORTEST, LONGEST));
    }
}

/// Path of one of our programs, built now if it is not up to date.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        let deps = test.parent().expect("a test is in a directory");
        let directory = deps.parent().expect("tests are in deps").to_path_buf();
        let release = directory.file_name().is_some_and(|name| name == "release");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--workspace", "--bins"]);
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        // Build scripts run again when these change, and a test has others than whoever built it.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_CRATE_NAME" {
                build.env_remove(&name);
            }
        }
        if release {
            build.arg("--release");
        }
        let status = build.status().expect("cargo can be run");
        assert!(status.success(), "the programs cannot be built");
        directory
    });
    directory.join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script that `tests/run` gives cargo to start each program of tests with.
    fn bounded(seconds: &str, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bounded"));
        command.arg(seconds).arg(program).args(arguments);
        command
    }

    #[test]
    #[ignore = "it is run by another one"]
    fn sleeps_with_a_daemon_beside_it() {
        let daemon = "setsid setsid sleep 1234 >/dev/null 2>&1 & echo begun >&2; exec sleep 1235";
        Command::new("sh").args(["-c", daemon]).status().expect("sh can be run");
    }

    #[test]
    fn tests_that_run_too_long_are_ended_with_all_they_have_started_and_named() {
        let this = std::env::current_exe().expect("a test knows its own path");
        let this = this.to_str().expect("text");
        let name = "process::tests::sleeps_with_a_daemon_beside_it";
        // Two threads at least, or the test is run by the main one, which has the program's name.
        let arguments = [name, "--exact", "--ignored", "--nocapture", "--test-threads=2"];
        let mut long = Process::start("long", bounded("3", this, &arguments).stdout(Stdio::null()));
        long.await_line("begun");
        let suite = format!("BOUNDED_SUITE={}", long.id());
        let marked = || {
            let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            let environments = all.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
            environments.filter(|text| text.split(|byte| *byte == 0).any(|one| one == suite.as_bytes())).count()
        };
        eventually("both sleep", || (marked() >= 2).then_some(()));
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&long.wait()), Some(9));
        let said = long.await_line("has run for 3 s and is ended");
        assert!(said.contains(this), "{said}");
        assert_eq!(long.await_line(name).trim(), name);
        eventually("all are gone", || (marked() == 0).then_some(()));
    }

    #[test]
    fn each_program_of_tests_is_run_and_told_once_and_after_one_that_failed_no_more_are_begun() {
        let place = crate::world::World::new("abreast");
        let made = |name: &str, script: &str| {
            let program = place.directory.join(name);
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file");
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
            format!(
                "{{\"reason\": \"compiler-artifact\", \"executable\": \"{}\", \"profile\": {{\"test\": true}}, \"manifest_path\": \
                 \"{}/Cargo.toml\", \"target\": {{\"name\": \"{name}\", \"src_path\": \"{name}.rs\"}}}}\n",
                program.display(),
                place.directory.display()
            )
        };
        // The one that fails has ended before the other, which waits for that, asks for more.
        let gone = place.directory.join("gone").display().to_string();
        let messages = [
            made("pi", &format!("echo broken; : >{gone}; exit 3")),
            made("next", "pwd"),
            made("between", "echo between"),
            made("long", &format!("while [ ! -e {gone} ]; do sleep 0.01; done; sleep 0.5; echo long")),
        ]
        .concat();
        let abreast = |options: &str| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/abreast");
            let mut command = Command::new("bash");
            command.args(["-c", &format!("rm -f {gone}; printf %s \"$1\" | {script} {options} 60"), "bash", &messages]);
            let output = command.output().expect("it runs");
            let [said, told] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
            (
                output.status.code(),
                said.lines().filter(|line| !line.starts_with("  ")).collect::<Vec<_>>().join(" "),
                told,
            )
        };
        let (status, said, told) = abreast("--no-fail-fast");
        assert_eq!((status, &*said), (Some(1), &*format!("broken {} between long", place.directory.display())));
        assert!(told.ends_with("of 4 programs of tests these failed: pi.rs (status 3)\n"), "{told}");
        let (status, said, told) = abreast("");
        assert_eq!((status, &*said), (Some(1), "broken long"));
        assert!(told.ends_with("pi.rs (status 3); 2 were not run\n"), "{told}");
    }

    #[test]
    fn tests_that_end_in_time_end_as_they_do() {
        let output = bounded("60", "sh", &["-c", "cat; echo said; kill -9 $$"]).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "said\n");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9));
        assert_eq!(bounded("60", "sh", &["-c", "exit 3"]).status().expect("it runs").code(), Some(3));
    }
}
