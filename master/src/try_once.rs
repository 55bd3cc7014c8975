//! A local repository → one event built by the built-in agent, its logs on the terminal, its verdict as exit status.

use crate::config::{Builtin, Config, PORT, Repository};
use crate::forge::Saifile;
use crate::repositories::read_saifile;
use crate::startup::{self, Master};
use crate::store::LogReader;
use async_signal::{Signal, Signals};
use sai_agent::container_settings::ContainerSettings;
use sai_agent::describe;
use sai_core::git_text::Tip;
use sai_core::hub::Input;
use sai_core::job::{JobId, JobKey, JobState};
use sai_core::ledger::{JobRecord, Source};
use sai_core::matrix::JobSpec;
use sai_core::ordered::{Map, Set};
use sai_core::platform::serves;
use sai_core::record::{Decoder, Item, Record};
use smol::stream::StreamExt as _;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Pause between two looks at what has come in: short enough to feel live.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of one log that are printed before the others get their turn.
const TURN_BYTES: usize = 256 << 10;

/// What to try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// The repository, or any directory in it.
    pub path: PathBuf,
    /// Build the working tree as it is, not the last commit.
    pub dirty: bool,
    /// Only these configurations; empty means all.
    pub configurations: Vec<String>,
    /// Only wanted platforms that these serve; empty means all this machine serves.
    pub platforms: Vec<String>,
    /// Platforms this machine is to be taken for, beside what it is.
    pub offer: Vec<String>,
    /// Where results are kept; `None` means the user's own place for them.
    pub state: Option<PathBuf>,
    /// Go on showing the page after the verdict.
    pub stay: bool,
    /// Jobs at once.
    pub slots: Option<u32>,
}

/// Builds it, printing as it goes.
///
/// # Errors
/// Why nothing could be built: the user's or our own trouble, in a sentence.
pub fn run(trial: &Trial) -> Result<ExitCode, String> {
    let tree = Tree::find(&trial.path)?;
    let state = match &trial.state {
        Some(state) => state.clone(),
        None => default_state()?,
    };
    let state = startup::make_state(&state)?;
    let snapshot = tree.snapshot(&state, trial.dirty)?;
    let reading = read_saifile(&snapshot.saifile, &snapshot.reference);
    for warning in &reading.warnings {
        crate::say(&format!("{}/{warning}", tree.top.display()));
    }
    if !reading.errors.is_empty() {
        let lines: Vec<String> = reading.errors.iter().map(|error| format!("{}/{error}", tree.top.display())).collect();
        return Err(lines.join("\n"));
    }
    let mut offered = describe::platforms();
    offered.extend(trial.offer.iter().cloned());
    let chosen = choose(trial, &offered, &reading.specs)?;

    let address =
        free_address(trial).map_err(|error| format!("no port of this machine can be listened on: {error}"))?;
    // A trial is about this machine as it is.
    let containers = ContainerSettings { runner: Some(None), ..ContainerSettings::default() };
    let config = Config {
        state: state.clone(),
        listen: vec![address],
        url: Some(format!("https://localhost:{}", address.port())),
        builtin: Some(Builtin { platforms: offered, slots: trial.slots, user: None, containers }),
        ..Config::default()
    };
    let master = startup::start(config)?;
    let repository = Repository {
        name: tree.name.clone(),
        url: snapshot.url.clone(),
        secret: None,
        poll_s: None,
        tags: false,
        submodules: false,
        priority: 0,
    };
    let tip = Tip { reference: snapshot.reference.clone(), revision: snapshot.revision.clone() };
    let file = Saifile {
        bytes: snapshot.saifile.clone(),
        subject: snapshot.subject.clone(),
        author: String::new(),
        committed_s: 0,
    };
    smol::block_on(async {
        let ending = "the master is ending";
        // Nothing starts before it is settled what is not part of this trial.
        let hold = Input::Hold(Some("the trial is being prepared".to_string()));
        master.hub.input(hold).await.map_err(|_| ending)?;
        let made = master.shared.make_event(&repository, &tip, Source::Try, Ok(file), None).await?;
        master.hub.settled().await?;
        let event = master.store.reader().event(made).ok_or("the event was not kept")?;
        let wanted = Set::from_iter(chosen.iter().map(|index| event.first_job + *index as u64));
        for job in (event.first_job..).take(event.jobs as usize).filter(|job| !wanted.contains(job)) {
            let why = "not part of this trial".to_string();
            master.hub.input(Input::Cancel(job, why)).await.map_err(|_| ending)?;
        }
        master.hub.input(Input::Hold(None)).await.map_err(|_| ending)?;
        let page = format!("{}/event/{}", master.url, event.id);
        let what = if trial.dirty { "the working tree" } else { "the last commit" };
        let short = tip.revision.get(..12).unwrap_or(&tip.revision);
        crate::say(&format!("{}: {what} ({short}), {} of {} jobs", tree.name, wanted.len(), event.jobs));
        crate::say(&format!("see it live at {page}"));
        let mut signals = Signals::new([Signal::Int, Signal::Term]).map_err(|error| format!("signals: {error}"))?;
        let mut follower = Follower::new(&master, wanted.clone());
        let verdict = smol::future::or(async { Some(follower.follow().await) }, async {
            signals.next().await;
            None
        })
        .await;
        let verdict = match verdict {
            Some(verdict) => verdict,
            None => {
                // The jobs run under supervisors that would outlive us; whoever interrupts a trial wants them gone.
                crate::say("interrupted; its jobs are cancelled (interrupt again to leave them running)");
                for job in &wanted {
                    let why = "the trial was interrupted".to_string();
                    master.hub.input(Input::Cancel(*job, why)).await.map_err(|_| ending)?;
                }
                smol::future::or(
                    async {
                        follower.follow().await;
                    },
                    async {
                        signals.next().await;
                    },
                )
                .await;
                return Ok(ExitCode::from(crate::EXIT_INTERRUPTED));
            }
        };
        crate::say(&format!("kept in {}; `sai-master --state {0}` shows it again", state.display()));
        if trial.stay {
            crate::say(&format!("the page stays at {page} until you interrupt this"));
            smol::future::pending::<()>().await;
        }
        Ok(verdict)
    })
}

/// Where a trial listens, on this machine alone: at the usual port if it is free and the state is the usual one too, of
/// which one trial at a time has the lock. Others take a port that the system picks, so that two that start together do
/// not find the same one free.
fn free_address(trial: &Trial) -> io::Result<SocketAddr> {
    let listen = |port| TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let usual = if trial.state.is_none() { listen(PORT).ok() } else { None };
    usual.map_or_else(|| listen(0), Ok)?.local_addr()
}

/// Which jobs of the matrix are tried, by index.
fn choose(trial: &Trial, offered: &[String], specs: &[JobSpec]) -> Result<Vec<usize>, String> {
    if specs.is_empty() {
        return Err("the saifile asks for no job on this branch".to_string());
    }
    for name in &trial.configurations {
        if !specs.iter().any(|spec| spec.configuration == *name) {
            let names = Set::from_iter(specs.iter().map(|spec| spec.configuration.as_str()));
            let names: Vec<&str> = names.into_iter().collect();
            return Err(format!("there is no configuration {name:?}; there are {}", names.join(", ")));
        }
    }
    let here = |spec: &JobSpec| offered.iter().any(|platform| serves(platform, &spec.platform));
    let asked = |spec: &JobSpec| {
        (trial.configurations.is_empty() || trial.configurations.contains(&spec.configuration))
            && (trial.platforms.is_empty() || trial.platforms.iter().any(|wanted| serves(&spec.platform, wanted)))
    };
    let chosen: Vec<usize> =
        specs.iter().enumerate().filter(|(_, spec)| here(spec) && asked(spec)).map(|(index, _)| index).collect();
    if chosen.is_empty() {
        let wanted = specs.iter().filter(|spec| asked(spec));
        let wanted = Set::from_iter(wanted.map(|spec| spec.platform.as_str()));
        let wanted: Vec<&str> = wanted.into_iter().collect();
        return Err(format!(
            "this machine serves {}, but the jobs asked for want {}; `--as PLATFORM` lets it serve another",
            offered.join(", "),
            if wanted.is_empty() { "nothing that there is".to_string() } else { wanted.join(", ") },
        ));
    }
    Ok(chosen)
}

fn default_state() -> Result<PathBuf, String> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("sai-try"))
        .ok_or_else(|| "neither XDG_STATE_HOME nor HOME is set: say where to keep results with --state DIR".to_string())
}

/// The user's repository. Nothing is ever written into it.
struct Tree {
    top: PathBuf,
    objects: PathBuf,
    name: String,
}

/// What is built: a commit that agents can fetch, and its saifile.
struct Snapshot {
    url: String,
    reference: String,
    revision: String,
    subject: String,
    saifile: Vec<u8>,
}

/// A git command of ours: no prompts, hooks or configuration but the repository's own.
fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .args(["-c", "core.hooksPath=/dev/null"])
        .stdin(Stdio::null());
    command
}

fn answer(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("git cannot be run: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
    }
}

fn line(command: &mut Command) -> Result<String, String> {
    Ok(String::from_utf8_lossy(&answer(command)?).trim_end().to_string())
}

impl Tree {
    fn find(path: &Path) -> Result<Self, String> {
        let here = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
        let top = line(git(&here).args(["rev-parse", "--show-toplevel"]))
            .map_err(|why| format!("{}: expected a git working tree: {why}", here.display()))?;
        let top = PathBuf::from(top);
        let common = line(git(&top).args(["rev-parse", "--path-format=absolute", "--git-common-dir"]))?;
        let name = top.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name: String = name
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() || "_-".contains(letter) { letter } else { '_' })
            .collect();
        let name = if name.is_empty() { "repository".to_string() } else { name };
        Ok(Self { objects: PathBuf::from(common).join("objects"), top, name })
    }

    /// Makes a bare repository beside our results that borrows the user's objects and has the commit as a branch.
    fn snapshot(&self, state: &Path, dirty: bool) -> Result<Snapshot, String> {
        let head = line(git(&self.top).args(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]));
        let head = match head {
            Ok(head) => Some(head),
            Err(_) if dirty => None,
            Err(_) => return Err(format!("{}: has no commit yet; try --dirty", self.top.display())),
        };
        let branch = line(git(&self.top).args(["symbolic-ref", "--quiet", "--short", "HEAD"]));
        let reference = format!("refs/heads/{}", branch.unwrap_or_else(|_| "HEAD".to_string()));
        let bare = state.join("trials").join(format!("{}.git", self.name));
        let format = line(git(&self.top).args(["rev-parse", "--show-object-format"]))?;
        let trouble = |error: io::Error| format!("{}: {error}", bare.display());
        if !bare.join("HEAD").exists() {
            std::fs::create_dir_all(&bare).map_err(trouble)?;
            answer(
                git(&bare).args(["init", "--quiet", "--bare", "--template="]).arg(format!("--object-format={format}")),
            )?;
        }
        let information = bare.join("objects/info");
        std::fs::create_dir_all(&information).map_err(trouble)?;
        let mut borrowed = self.objects.clone().into_os_string().into_encoded_bytes();
        if borrowed.iter().any(|byte| matches!(byte, b'\n' | b'"')) {
            return Err(format!("{}: expected a path without quotes and line ends", self.objects.display()));
        }
        borrowed.push(b'\n');
        std::fs::write(information.join("alternates"), borrowed).map_err(trouble)?;
        let revision = match (&head, dirty) {
            (Some(head), false) => head.clone(),
            _ => self.commit_dirty(&bare, head.as_deref())?,
        };
        answer(git(&bare).args(["update-ref", "--", &reference, &revision]))?;
        let subject = line(git(&bare).args(["log", "-1", "--format=%s", &revision]))?;
        let saifile =
            answer(git(&bare).args(["cat-file", "blob", &format!("{revision}:.sai.json")])).map_err(|_| {
                let hint = if dirty { "" } else { " in the last commit; commit it, or try --dirty" };
                format!("{}: there is no .sai.json{hint}", self.top.display())
            })?;
        let url = bare.to_str().ok_or_else(|| format!("{}: expected a path in UTF-8", bare.display()))?.to_string();
        Ok(Snapshot { url, reference, revision, subject, saifile })
    }

    /// Commits the working tree into the bare repository, by an index of its own.
    fn commit_dirty(&self, bare: &Path, head: Option<&str>) -> Result<String, String> {
        let index = bare.join("sai-index");
        let here = |arguments: &[&str]| {
            let mut command = git(&self.top);
            command
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", bare.join("objects"))
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects)
                .envs([("GIT_AUTHOR_NAME", "sai-master try"), ("GIT_AUTHOR_EMAIL", "try@localhost")])
                .envs([("GIT_COMMITTER_NAME", "sai-master try"), ("GIT_COMMITTER_EMAIL", "try@localhost")])
                .args(arguments);
            command
        };
        if let Some(head) = head {
            answer(&mut here(&["read-tree", head]))?;
        } else {
            answer(&mut here(&["read-tree", "--empty"]))?;
        }
        answer(&mut here(&["add", "--all"]))?;
        let tree = line(&mut here(&["write-tree"]))?;
        let mut commit = here(&["commit-tree", "-m", "The working tree as it was tried", &tree]);
        if let Some(head) = head {
            commit.args(["-p", head]);
        }
        line(&mut commit)
    }
}

/// Prints the logs of jobs side by side, and a line of progress below them on a terminal.
struct Follower<'a> {
    master: &'a Master,
    jobs: Set<JobId>,
    shown: Map<JobId, Shown>,
    terminal: bool,
    started: Instant,
    progress: String,
}

/// How far one attempt's log is printed.
struct Shown {
    key: JobKey,
    log: Option<LogReader>,
    decoder: Decoder,
    /// The unfinished line of each channel, so that lines of several jobs do not mix.
    lines: Map<u8, Vec<u8>>,
    channels: Map<u8, String>,
    label: String,
}

/// Bytes of an unfinished line that are held back before it is printed as it is.
const LINE_BYTES: usize = 16 << 10;

impl<'a> Follower<'a> {
    fn new(master: &'a Master, jobs: Set<JobId>) -> Self {
        let terminal = io::stdout().is_terminal();
        let (shown, progress) = (Map::new(), String::new());
        Self { master, jobs, shown, terminal, started: Instant::now(), progress }
    }

    async fn follow(&mut self) -> ExitCode {
        let reader = self.master.store.reader();
        loop {
            let jobs: Vec<JobRecord> = self.jobs.iter().filter_map(|id| reader.job(*id)).collect();
            let ended = jobs.iter().all(|job| job.state.ended());
            let mut more = false;
            for job in jobs.iter().filter(|job| job.attempt > 0) {
                more |= self.show(job);
            }
            if more {
                continue;
            }
            if ended {
                self.wipe();
                return self.verdict(&jobs);
            }
            self.tell_progress(&jobs);
            smol::Timer::after(LOOK).await;
        }
    }

    /// Prints what is new in a job's log. True when there is more.
    fn show(&mut self, job: &JobRecord) -> bool {
        let key = JobKey { job: job.id, attempt: job.attempt };
        let label =
            if self.jobs.len() == 1 { String::new() } else { format!("{} {}", job.configuration, job.platform) };
        let shown = self.shown.get_or_insert_with(job.id, || Shown::new(key, label.clone()));
        if shown.key != key {
            *shown = Shown::new(key, label);
        }
        if shown.log.is_none() {
            // There is none until its first byte has come.
            shown.log = self.master.store.reader().log(key).ok();
        }
        let Some(log) = &mut shown.log else { return false };
        let mut bytes = Vec::new();
        if log.take(TURN_BYTES as u64).read_to_end(&mut bytes).is_err() {
            return false;
        }
        let mut out = Vec::new();
        shown.print(&bytes, self.terminal, &mut out);
        if !out.is_empty() {
            self.wipe();
            // A closed terminal does not stop the build; its verdict is still the exit status.
            let _ = io::stdout().write_all(&out);
            let _ = io::stdout().flush();
        }
        bytes.len() == TURN_BYTES
    }

    fn wipe(&mut self) {
        if !self.progress.is_empty() {
            self.progress.clear();
            let _ = io::stdout().write_all(b"\r\x1b[K");
        }
    }

    fn tell_progress(&mut self, jobs: &[JobRecord]) {
        if !self.terminal {
            return;
        }
        let count = |state: fn(JobState) -> bool| jobs.iter().filter(|job| state(job.state)).count();
        let running: Vec<String> = jobs
            .iter()
            .filter(|job| job.state == JobState::Running)
            .map(|job| format!("{} step {}/{}", job.configuration, job.step.map_or(0, |step| step + 1), job.steps))
            .take(3)
            .collect();
        let text = format!(
            "[{} s] {} of {} ended, {} failed; {}",
            self.started.elapsed().as_secs(),
            count(JobState::ended),
            jobs.len(),
            count(|state| state.ended() && state != JobState::Passed),
            if running.is_empty() { "waiting".to_string() } else { running.join(", ") },
        );
        if text != self.progress {
            let _ = write!(io::stdout(), "\r\x1b[K\x1b[2m{}\x1b[0m", text.chars().take(100).collect::<String>());
            let _ = io::stdout().flush();
            self.progress = text;
        }
    }

    fn verdict(&self, jobs: &[JobRecord]) -> ExitCode {
        let mut status = crate::EXIT_PASSED;
        for job in jobs {
            let seconds = match (job.started_at, job.ended_at) {
                (Some(from), Some(to)) => format!("{:.1} s", to.saturating_sub(from) as f64 / 1000.0),
                _ => "-".to_string(),
            };
            let colour = if job.state == JobState::Passed { 32 } else { 31 };
            let word = job.state.word();
            let word = if self.terminal { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_string() };
            let cause = if job.cause.is_empty() { String::new() } else { format!(": {}", job.cause) };
            println!("{word}\t{}\t{}\t{seconds}{cause}", job.platform, job.configuration);
            for artifact in &job.artifacts {
                println!("\t{} ({} bytes, sha256 {})", artifact.path, artifact.size, artifact.sha256);
            }
            let this = match job.state {
                JobState::Passed => crate::EXIT_PASSED,
                JobState::Failed | JobState::TimedOut => crate::EXIT_FAILED,
                _ => crate::EXIT_INFRA,
            };
            // A job that failed says more about the project than trouble of ours does.
            if status == crate::EXIT_PASSED || this == crate::EXIT_FAILED {
                status = this;
            }
        }
        ExitCode::from(status)
    }
}

impl Shown {
    fn new(key: JobKey, label: String) -> Self {
        Self { key, log: None, decoder: Decoder::new(), lines: Map::new(), channels: Map::new(), label }
    }

    fn print(&mut self, bytes: &[u8], colour: bool, out: &mut Vec<u8>) {
        let label = if self.label.is_empty() { String::new() } else { format!("[{}] ", self.label) };
        let (lines, channels) = (&mut self.lines, &mut self.channels);
        let say = |text: String, out: &mut Vec<u8>| {
            let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
            let text = if colour { format!("\x1b[1m{label}{text}\x1b[0m\n") } else { format!("{label}{text}\n") };
            out.extend_from_slice(text.as_bytes());
        };
        // A log that breaks the format ends its job; what was printed stays.
        let _ = self.decoder.push(bytes, |item| match item {
            Item::Data { channel, bytes, .. } => {
                let line = lines.get_or_default(channel);
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if line.ends_with(b"\n") || line.len() > LINE_BYTES {
                        out.extend_from_slice(label.as_bytes());
                        out.append(line);
                    }
                }
            }
            Item::Record(_, Record::Channel(channel, start)) => {
                channels.insert(channel, start.name);
            }
            Item::Record(_, Record::StepStart(start)) => {
                let text = start.text.lines().next().unwrap_or_default().to_string();
                say(format!("── step {}: {text}", start.step + 1), out);
            }
            Item::Record(_, Record::StepEnd(end)) if end.status != 0 => {
                say(format!("── step {} ended with status {}", end.step + 1, end.status), out);
            }
            Item::Record(_, Record::Note(text)) => say(format!("── {text}"), out),
            Item::Record(_, Record::Verdict(_)) => {
                for line in lines.values_mut().filter(|line| !line.is_empty()) {
                    out.extend_from_slice(label.as_bytes());
                    out.append(line);
                    out.push(b'\n');
                }
            }
            Item::Record(..) => {}
        });
    }
}
