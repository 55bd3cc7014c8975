//! The password of a clone URL, and the secret of a hook: nobody who is not to have them finds them anywhere.

use sai_tests::git_server::GitServer;
use sai_tests::process::{Process, eventually};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::World;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const PASSWORD: &str = "hunter2-of-the-forge";
const SECRET: &str = "s3cret-of-the-hooks-0123456789";
const PLATFORM: &str = "linux-test-1/x86_64/gcc";

/// What a step can look at: its environment, the configuration of its checkout and of the submodule, the remotes, and
/// whatever there is of its own job, its agent's mirrors and what git is run with.
const LOOK: &str = "env; git remote -v; find .git ../../.. ../../../../mirrors -type f -size -100k \
                    -exec cat {} + 2>/dev/null | tr -d '\\000'; cat /proc/$PPID/environ | tr '\\000' '\\n'; cat sub/lib";

fn shows(bytes: &[u8]) -> Option<&'static str> {
    let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
    [PASSWORD, SECRET, "hunter2-of-the%2Dforge"].into_iter().find(|needle| holds(needle))
}

/// Looks at the arguments of all processes until it is dropped, as any user of the machine can.
struct Onlooker {
    stop: Arc<AtomicBool>,
    gits: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<Vec<String>>>,
}

impl Onlooker {
    fn start() -> Self {
        let (stop, gits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, seen) = (stop.clone(), gits.clone());
        let thread = std::thread::spawn(move || {
            let mut found = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let Ok(words) = fs::read(entry.path().join("cmdline")) else { continue };
                    // Git's own helper, which is given the URL.
                    if words.split(|byte| *byte == 0).any(|word| word.ends_with(b"git-remote-http")) {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                    if shows(&words).is_some() {
                        found.push(String::from_utf8_lossy(&words).replace('\0', " "));
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            found
        });
        Self { stop, gits, thread: Some(thread) }
    }

    /// Ends the looking: how often it saw git at work, and what it found.
    fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let found = self.thread.take().expect("a thread").join().expect("it looked");
        (self.gits.load(Ordering::Relaxed), found)
    }
}

/// Fails if a file below this directory holds a secret.
fn holds_nothing(directory: &Path) {
    let mut waiting = vec![directory.to_path_buf()];
    let mut files = 0;
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                let bytes = fs::read(entry.path()).unwrap_or_default();
                assert_eq!(shows(&bytes), None, "{}", entry.path().display());
            }
        }
    }
    assert!(files > 5, "these are not the files");
}

fn said_nothing(process: &Process) {
    let said = process.said().join("\n");
    assert_eq!(shows(said.as_bytes()), None, "{said}");
}

#[test]
fn a_password_of_a_clone_url_is_nowhere_to_be_seen() {
    let mut world = World::new("secrets");
    // A library beside it on the same host, which the repository has as a submodule.
    let library = world.directory.join("library-work");
    fs::create_dir(&library).expect("a directory");
    run(git(&library).args(["init", "-q", "-b", "main"]));
    fs::write(library.join("lib"), "from the library\n").expect("a file");
    run(git(&library).args(["add", "--all"]));
    run(git(&library).args(["commit", "-q", "-m", "lib"]));
    run(git(&world.directory).args(["clone", "-q", "--bare", "library-work", "library.git"]));
    let module = "[submodule \"sub\"]\n\tpath = sub\n\turl = ../library.git\n";
    world.repository.write(".gitmodules", module);
    let revision = run(git(&library).args(["rev-parse", "HEAD"]));
    let link = format!("160000,{revision},sub");
    run(git(&world.repository.work).args(["update-index", "--add", "--cacheinfo", &link]));
    fs::create_dir_all(world.repository.work.join("sub")).expect("a directory");

    let credentials = format!("ann:{PASSWORD}");
    let server = GitServer::start(&world.directory, Some(&credentials), Duration::from_millis(40));
    let url = format!("http://ann:{PASSWORD}@127.0.0.1:{}/project.git", server.port);
    world.set(
        "repositories",
        &format!("{{\"project\": {{\"url\": {url:?}, \"secret\": {SECRET:?}, \"submodules\": true}}}}"),
    );
    let onlooker = Onlooker::start();
    let mut master = world.master();
    let mut agent = world.agent("shed", &[PLATFORM], 1);
    world.repository.write(".sai.json", saifile(&[LOOK]));
    run(git(&world.repository.work).args(["add", ".sai.json", ".gitmodules"]));
    run(git(&world.repository.work).args(["commit", "-q", "-m", "All"]));
    world.repository.push();
    let event = world.ended(1);
    assert_eq!(event.jobs[0].state, "passed", "{event:?}: {}", String::from_utf8_lossy(&world.log(1)));
    let printed = world.records(1).channel("stdout").to_vec();
    let shown = format!("http://127.0.0.1:{}/project.git", server.port);
    let text = String::from_utf8_lossy(&printed);
    assert!(text.contains("from the library") && text.contains(&shown) && text.contains("SAI_COMMIT="), "{text}");
    assert_eq!(shows(&printed), None);

    // A rebuild, whose URL comes from a record that has no password.
    let token = world.command(&["user", "add", "ann"]);
    assert_eq!(world.post("/api/v1/jobs/1/rebuild", Some(&token)).0, 200);
    eventually("the job runs again", || world.event(1).filter(|event| event.jobs[0].attempt > 1));
    assert_eq!(world.ended(1).jobs[0].state, "passed");

    // A server that refuses it from now on, and says so in its own words.
    run(git(&world.repository.work).args(["commit", "-q", "--allow-empty", "-m", "More"]));
    world.repository.push();
    assert_eq!(world.ended(2).jobs[0].state, "passed");
    let (gits, found) = onlooker.end();
    assert!(gits > 3, "git was seen {gits} times");
    assert_eq!(found, Vec::<String>::new(), "in the arguments of processes");

    for path in ["/", "/event/1", "/job/1", "/job/1/log", "/job/1/records", "/agents", "/api/v1/events"] {
        assert_eq!(shows(&world.get(path).expect("a page")), None, "{path}");
    }
    for path in ["events/1", "jobs/1", "agents", "repositories"] {
        let answer = world.get(&format!("/api/v1/{path}")).expect("an answer");
        assert_eq!(shows(&answer), None, "{path}");
    }
    let answer = String::from_utf8(world.get("/api/v1/events/1").expect("an answer")).expect("text");
    assert!(answer.contains(&shown), "{answer}");
    said_nothing(&master);
    said_nothing(&agent);
    agent.kill();
    master.kill();
    holds_nothing(&world.state());
    holds_nothing(&world.agent_state("shed"));
    let records = world.command(&["export"]);
    assert!(records.contains(&shown), "{records}");
    assert_eq!(shows(records.as_bytes()), None);
}

#[test]
fn a_wrong_password_is_told_without_it() {
    let mut world = World::new("wrong-password");
    let server = GitServer::start(&world.directory, Some("ann:another"), Duration::ZERO);
    let url = format!("http://ann:{PASSWORD}@127.0.0.1:{}/project.git", server.port);
    world.set("repositories", &format!("{{\"project\": {{\"url\": {url:?}, \"poll_s\": 1}}}}"));
    let mut master = world.master();
    let state = eventually("the trouble is told", || {
        let text = String::from_utf8(world.get("/api/v1/repositories")?).ok()?;
        text.contains("unreachable").then_some(text)
    });
    assert_eq!(shows(state.as_bytes()), None, "{state}");
    assert!(state.contains("Authentication failed") || state.contains("could not read Username"), "{state}");
    said_nothing(&master);
    master.kill();
    holds_nothing(&world.state());
    // What a token in a query would be is refused, since git could not keep it secret.
    world.set("repositories", "{\"project\": {\"url\": \"https://h/x.git?private_token=hunter2-of-the-forge\"}}");
    let output = Command::new(sai_tests::process::program("sai-master"))
        .arg("--config")
        .arg(world.configuration())
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("expected a repository URL without '?'"), "{said}");
    assert_eq!(shows(said.as_bytes()), None, "{said}");
}
