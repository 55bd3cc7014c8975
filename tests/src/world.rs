//! A master, agents and a repository, all real, in a directory of their own.

use crate::judged;
use crate::log::Log;
use crate::process::{PATIENCE, Process, eventually, eventually_within, program};
use crate::repository::{Repository, run};
use crate::wallclock::WallClock;
use miniserde::Deserialize;
use rustix::process::{Pid, Signal, getpid, kill_process};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

/// Ports of masters: below those that systems give to clients (RFC 6056), so that a port stays free while its master is
/// down, and no dialling agent can be given it and meet itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The directory, the repository and how the master is to be started.
#[derive(Debug)]
pub struct World {
    /// Everything is below it. Deleted when the world is dropped, unless a test has failed.
    pub directory: PathBuf,
    /// The repository, configured as `project`.
    pub repository: Repository,
    /// The master's port, the same for each of its lives.
    pub port: u16,
    /// Settings of the master's configuration beside those every world has: `"key": value` lines.
    pub settings: Vec<String>,
    /// The program of its agents and variables for it, where it is not the one that was built for this machine.
    pub other_agent: Option<(PathBuf, Vec<(String, String)>)>,
    /// Variables beside their own that its master and agents are started with.
    pub variables: Vec<(&'static str, &'static str)>,
    /// The clock on its master's wall, and on its agents', where they are not this machine's.
    pub clocks: [Option<WallClock>; 2],
    agents: AtomicU32,
}

/// What `/api/v1/events/ID` says of a job, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// The wanted platform.
    pub platform: String,
    /// The configuration.
    pub configuration: String,
    /// `queued`, `passed`, …
    pub state: String,
    /// Attempts.
    pub attempt: u32,
    /// Agent of the last attempt.
    pub agent: Option<String>,
    /// Which of its platforms that ran in.
    pub offered: Option<String>,
    /// Why it ended so.
    pub cause: String,
    /// Why it waits.
    pub waiting: Option<String>,
    /// Its files.
    pub artifacts: Vec<Kept>,
}

/// A file of a job.
#[derive(Clone, Debug, Deserialize)]
pub struct Kept {
    /// Path in the workspace.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Its digest, hexadecimal.
    pub sha256: String,
    /// Where it can be downloaded.
    pub download: String,
}

impl Job {
    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        !matches!(self.state.as_str(), "blocked" | "queued" | "assigned" | "running")
    }
}

/// What the API says of an event itself, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct About {
    /// Its number.
    pub id: u64,
    /// The ref.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The revision.
    pub revision: String,
    /// How it came: `poll`, `hook`, …
    pub source: String,
    /// `queued`, `passed`, `invalid`, …
    pub state: String,
    /// What is wrong with its saifile.
    pub errors: Vec<String>,
    /// What is odd in it.
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<About>,
}

/// What the API says of an agent, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// `idle`, `busy`, `aside`, `away`, `new`, `revoked`.
    pub state: String,
    /// What it offers.
    pub platforms: Vec<String>,
    /// Jobs it runs.
    pub running: Vec<u64>,
}

#[derive(Deserialize)]
struct Agents {
    agents: Vec<Agent>,
}

/// What `/api/v1/events/ID` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// The event itself.
    pub event: About,
    /// Its jobs.
    pub jobs: Vec<Job>,
}

impl World {
    /// A world with an empty repository; nothing runs yet. The built-in agent is off unless `builtin` is set.
    pub fn new(name: &str) -> Self {
        Self::below(&std::env::temp_dir(), name)
    }

    /// The same in a directory below this one.
    pub fn below(place: &Path, name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = place.join(format!("sai-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let repository = Repository::new(&directory);
        let port = free_port();
        let settings = vec!["\"builtin\": false".to_string()];
        Self {
            directory,
            repository,
            port,
            settings,
            other_agent: None,
            variables: Vec::new(),
            clocks: [None, None],
            agents: AtomicU32::new(0),
        }
    }

    /// Replaces a setting, or adds it.
    pub fn set(&mut self, key: &str, value: &str) {
        let quoted = format!("\"{key}\":");
        self.settings.retain(|line| !line.starts_with(&quoted));
        self.settings.push(format!("{quoted} {value}"));
    }

    /// Gives master and agents, as they are started from now on, a clock each that can be set.
    pub fn use_own_clocks(&mut self) {
        self.clocks = ["master", "agents"].map(|name| Some(WallClock::new(&self.directory, name)));
    }

    /// Sets the clocks of master and agents, seconds ahead of the right time, or behind it.
    pub fn set_clocks(&self, ahead_s: [i64; 2]) {
        for (clock, ahead_s) in self.clocks.iter().zip(ahead_s) {
            clock.as_ref().expect("a clock of its own").set(ahead_s);
        }
    }

    /// The master's address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The master's state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("master")
    }

    /// Path of the configuration file, written anew.
    pub fn configuration(&self) -> PathBuf {
        let file = self.directory.join("master.json");
        let secret = "0123456789abcdef".repeat(4);
        let repository = &self.repository.bare;
        let defaults = [
            ("state", format!("{:?}", self.state())),
            ("listen", format!("\"127.0.0.1:{}\"", self.port)),
            ("url", format!("\"https://127.0.0.1:{}\"", self.port)),
            ("repositories", format!("{{\"project\": {{\"url\": {repository:?}, \"secret\": \"{secret}\"}}}}")),
        ];
        let mut lines = self.settings.clone();
        for (key, value) in defaults {
            if !lines.iter().any(|line| line.starts_with(&format!("\"{key}\":"))) {
                lines.push(format!("\"{key}\": {value}"));
            }
        }
        std::fs::write(&file, format!("{{\n{}\n}}\n", lines.join(",\n"))).expect("a configuration");
        file
    }

    /// Starts the master and waits until it listens.
    pub fn master(&self) -> Process {
        let mut command = Command::new(program("sai-master"));
        command.arg("--config").arg(self.configuration()).stdout(Stdio::null());
        command.envs(self.variables.iter().copied());
        self.clocks[0].iter().for_each(|clock| clock.give(&mut command));
        let process = Process::start("master", &mut command);
        process.await_line("listening on");
        self.repository.install_hook(&format!("https://127.0.0.1:{}", self.port), "project");
        process
    }

    /// Runs one command of `sai-master` on this world's master and returns what it prints.
    pub fn command(&self, words: &[&str]) -> String {
        run(Command::new(program("sai-master")).args(words).arg("--config").arg(self.configuration()))
    }

    /// A join line for a new agent.
    pub fn join_line(&self, name: &str) -> String {
        self.command(&["agent", "add", name])
    }

    /// State directory of an agent.
    pub fn agent_state(&self, name: &str) -> PathBuf {
        self.directory.join(format!("agent-{name}"))
    }

    fn agent_command(&self) -> Command {
        let mut command = match &self.other_agent {
            None => Command::new(program("sai-agent")),
            Some((program, variables)) => {
                let mut command = Command::new(program);
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                command
            }
        };
        command.envs(self.variables.iter().copied());
        self.clocks[1].iter().for_each(|clock| clock.give(&mut command));
        command
    }

    /// Makes the certificate of `scripts/gen-selfsigned-certs.sh`, P-521 with explicit parameters, the master's.
    pub fn use_p521_certificate(&mut self) -> PathBuf {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/gen-selfsigned-certs.sh");
        let place = self.directory.join("certificates");
        run(Command::new(script).args(["--name", "127.0.0.1"]).arg(&place));
        let (chain, key) = (place.join("sai-master.pem"), place.join("sai-master-key.pem"));
        self.set("tls", &format!("{{\"chain\": {chain:?}, \"key\": {key:?}}}"));
        chain
    }

    /// Adds an agent that offers these platforms, starts it and waits until it is connected.
    pub fn agent(&self, name: &str, platforms: &[&str], slots: u32) -> Process {
        self.agent_by(name, &self.join_line(name), platforms, slots)
    }

    /// Starts an agent that joins by this line, and waits until it is connected.
    pub fn agent_by(&self, name: &str, line: &str, platforms: &[&str], slots: u32) -> Process {
        self.agents.fetch_add(1, Ordering::Relaxed);
        let mut command = self.agent_command();
        command.arg("join").arg(line).arg("--state").arg(self.agent_state(name));
        command.args(["--slots", &slots.to_string()]).stdout(Stdio::null());
        for platform in platforms {
            command.args(["--platform", platform]);
        }
        let process = Process::start(name, &mut command);
        process.await_line("connected as");
        process
    }

    /// The same with more in its configuration: `"key": value` lines.
    pub fn agent_with(&self, name: &str, platforms: &[&str], slots: u32, settings: &[&str]) -> Process {
        let line = self.join_line(name);
        self.agents.fetch_add(1, Ordering::Relaxed);
        let state = self.agent_state(name);
        let mut command = self.agent_command();
        command.arg("join").arg(line).arg("--state").arg(&state).args(["--slots", &slots.to_string(), "--only-save"]);
        for platform in platforms {
            command.args(["--platform", platform]);
        }
        run(&mut command);
        let file = state.join("agent.json");
        let text = std::fs::read_to_string(&file).expect("a configuration");
        let (comment, rest) = text.split_once("{\n").expect("an object");
        std::fs::write(&file, format!("{comment}{{\n{},\n{rest}", settings.join(",\n"))).expect("a configuration");
        self.agent_again(name)
    }

    /// Starts an agent again that has joined before, and waits until it is connected.
    pub fn agent_again(&self, name: &str) -> Process {
        let process = self.agent_starts(name);
        process.await_line("connected as");
        process
    }

    /// Starts an agent again that has joined before, and waits for nothing.
    pub fn agent_starts(&self, name: &str) -> Process {
        let mut command = self.agent_command();
        command.arg("--state").arg(self.agent_state(name)).stdout(Stdio::null());
        Process::start(name, &mut command)
    }

    /// The same for one that may fail: status, standard output, standard error.
    pub fn try_command(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(program("sai-master"));
        let output = command.args(words).arg("--config").arg(self.configuration()).output().expect("sai-master runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Asks the API to do something, with a user's token or without: status and body.
    pub fn post(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let mut command = Command::new("curl");
        command.args(["-ksS", "--max-time", "60", "-X", "POST", "-w", "\n%{http_code}", &url]);
        if let Some(token) = token {
            command.args(["-H", &format!("authorization: Bearer {token}")]);
        }
        let answer = run(&mut command);
        let (body, status) = answer.rsplit_once('\n').unwrap_or(("", &answer));
        (status.parse().unwrap_or(0), body.to_string())
    }

    /// Body of an answer of the master, by curl; `None` when its status is no success.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let output = Command::new("curl").args(["-ksSf", "--max-time", "60", &url]).output().expect("curl can be run");
        output.status.success().then_some(output.stdout)
    }

    /// The same for whose token it is: the status, and the body whatever it is.
    pub fn get_as(&self, path: &str, token: &str) -> (u16, Vec<u8>) {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let mut command = Command::new("curl");
        command.args(["-ksS", "--max-time", "60", "-w", "\n%{http_code}", &url]);
        let output = command.args(["-H", &format!("authorization: Bearer {token}")]).output().expect("curl can be run");
        let mut body = output.stdout;
        let end = body.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let status = String::from_utf8_lossy(&body[end..]).trim().parse().unwrap_or(0);
        body.truncate(end);
        (status, body)
    }

    /// An event, if there is one of that number.
    pub fn event(&self, id: u64) -> Option<Event> {
        let text = String::from_utf8(self.get(&format!("/api/v1/events/{id}"))?).ok()?;
        Some(miniserde::json::from_str(&text).unwrap_or_else(|_| panic!("an event was expected: {text}")))
    }

    /// All events, newest first.
    pub fn events(&self) -> Vec<About> {
        let text = String::from_utf8(self.get("/api/v1/events").unwrap_or_default()).unwrap_or_default();
        miniserde::json::from_str::<Events>(&text).map(|events| events.events).unwrap_or_default()
    }

    /// All agents, by name.
    pub fn agents(&self) -> Vec<Agent> {
        let text = String::from_utf8(self.get("/api/v1/agents").unwrap_or_default()).unwrap_or_default();
        miniserde::json::from_str::<Agents>(&text).map(|agents| agents.agents).unwrap_or_default()
    }

    /// Waits until an event of that number is there and all of its jobs have ended.
    pub fn ended(&self, id: u64) -> Event {
        self.ended_within(PATIENCE, id)
    }

    /// The same for jobs that take longer.
    pub fn ended_within(&self, patience: Duration, id: u64) -> Event {
        eventually_within(patience, &format!("event {id} ends"), || {
            self.event(id).filter(|event| event.jobs.iter().all(Job::ended))
        })
    }

    /// A job's log as printed: the bytes of all its channels in the order seen.
    pub fn log(&self, job: u64) -> Vec<u8> {
        self.get(&format!("/job/{job}/log")).unwrap_or_default()
    }

    /// A job's log as it is stored, taken apart.
    pub fn records(&self, job: u64) -> Log {
        let bytes = self.get(&format!("/job/{job}/records")).expect("the log can be downloaded");
        Log::read(&bytes).unwrap_or_else(|why| panic!("the log of job {job}: {why}"))
    }

    /// The one line or lines of a page of the master, as text.
    pub fn page(&self, path: &str) -> String {
        let bytes = self.get(path).unwrap_or_else(|| panic!("{path} can be read"));
        String::from_utf8(bytes).unwrap_or_else(|_| panic!("{path} is UTF-8"))
    }

    /// Processes of this world's jobs: their supervisors, what their steps started, and what that became.
    pub fn job_processes(&self) -> Vec<String> {
        let all = self.survivors();
        all.into_iter()
            .filter(|line| {
                let pid = line.split(':').next().unwrap_or_default();
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                line.contains(" --job ")
                    || line.contains("/daemon ")
                    || environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(b"SAI_JOB="))
            })
            .collect()
    }

    /// Waits until nothing of any job is left on this machine: no process, and no directory at these agents.
    pub fn tidy(&self, agent_states: &[PathBuf]) {
        eventually("no process of a job is left", || self.job_processes().is_empty().then_some(()));
        for state in agent_states {
            eventually("no directory of a job is left", || self.job_directories(state).is_empty().then_some(()));
        }
    }

    /// Processes anywhere on this machine whose environment or arguments name this world.
    pub fn survivors(&self) -> Vec<String> {
        let command = |pid: &Pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let told = |pid: Pid| format!("{pid}: {}", String::from_utf8_lossy(&command(&pid)).replace('\0', " "));
        self.processes().into_iter().map(told).collect()
    }

    fn processes(&self) -> Vec<Pid> {
        let needle = self.directory.as_os_str().as_encoded_bytes();
        let names = |file: String| {
            std::fs::read(file).is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
        };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .filter(|pid| *pid != getpid())
            .filter(|pid| names(format!("/proc/{pid}/cmdline")) || names(format!("/proc/{pid}/environ")))
            .collect()
    }

    /// Directories of jobs that an agent still has.
    pub fn job_directories(&self, agent_state: &Path) -> Vec<PathBuf> {
        std::fs::read_dir(agent_state.join("jobs")).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    }
}

/// A port on loopback that nobody listens on, and that no other world of this process has.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    loop {
        // Tests in other processes begin elsewhere.
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + ((std::process::id() % count * 101 + step) % count) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Jobs outlive master and agent, which is the point of them, but not their test.
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
        if !std::thread::panicking() {
            let judged = judged::all(&self.state(), &self.directory.join("boards.json"));
            if judged > 0 {
                println!("{}: {judged} logs of boards, judged once more", self.directory.display());
            }
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}
