//! What the command lines of both programs promise: help for each command, outputs that nobody reads, places that stay as
//! they were, and no byte of a stranger's that a terminal would obey.

use rustix::process::Signal;
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::{Repository, run, sai_master, saifile};
use sai_tests::world::World;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Every command of `sai-master`, and of `sai-agent`, that has a help of its own.
const MASTER: &[&str] = &[
    "run", "try", "lint", "matrix", "status", "agent", "user", "cancel", "rebuild", "gc", "cert", "export", "import",
    "unit", "rejudge", "start",
];
const AGENT: &[&[&str]] = &[
    &["join"],
    &["image"],
    &["selftest"],
    &["image", "create"],
    &["image", "update"],
    &["image", "shell"],
    &["image", "list"],
    &["image", "remove"],
    &["image", "rescan"],
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ask(name: &str, words: &[&str]) -> Output {
    Command::new(program(name)).args(words).stdin(Stdio::null()).output().expect("a program")
}

#[test]
fn each_command_explains_itself_and_its_errors_say_where() {
    let master = MASTER.iter().map(|word| ("sai-master", vec![*word]));
    let agent = AGENT.iter().map(|words| ("sai-agent", words.to_vec()));
    for (name, words) in master.chain(agent) {
        let command = format!("{name} {}", words.join(" "));
        let output = ask(name, &[words.as_slice(), &["--help"]].concat());
        let help = text(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
        for part in [&command, "usage:", "exit status:", "\nexample: "] {
            assert!(help.contains(part), "{command} --help has no {part:?}: {help}");
        }
        assert!(help.contains(&format!("\nexample: {name}")), "{help}");
        let wrong = ask(name, &[words.as_slice(), &["--nonsense"]].concat());
        let why = text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{command} --nonsense: {why}");
        assert!(why.contains(&format!("see {command} --help")), "{command} --nonsense: {why}");
    }
    for name in ["sai-master", "sai-agent"] {
        let help = text(&ask(name, &["--help"]).stdout);
        assert!(help.contains("exit status:\n"), "{help}");
        assert!(text(&ask(name, &["--nonsense"]).stderr).contains(&format!("see {name} --help")));
    }
    let overview = text(&ask("sai-master", &["--help"]).stdout);
    for word in MASTER.iter().filter(|word| **word != "run") {
        assert!(overview.contains(word), "{word} is not in {overview}");
    }
}

/// Where standard output and error may lead when nobody reads them.
fn unread() -> Vec<(&'static str, Stdio)> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    vec![("a pipe without a reader", writer.into()), ("a full disk", full.into())]
}

#[test]
fn outputs_that_nobody_reads_change_no_status_and_end_no_program_early() {
    let world = World::new("unread");
    world.repository.write(".sai.json", saifile(&["echo built", "exit $(cat status)"]));
    let (good, bad) = (world.directory.join("good.json"), world.directory.join("bad.json"));
    fs::write(&good, saifile(&["true"]).replace("\"schema\"", "\"odd\": 1, \"schema\"")).expect("a saifile");
    fs::write(&bad, "{ oops").expect("a saifile");
    let (good, bad) = (good.display().to_string(), bad.display().to_string());
    let work = world.repository.work.display().to_string();
    let state = world.directory.join("try").display().to_string();
    let lines: Vec<(&str, Vec<&str>, i32)> = vec![
        ("sai-master", vec!["--help"], 0),
        ("sai-master", vec!["try", "--help"], 0),
        ("sai-master", vec!["--version"], 0),
        ("sai-master", vec!["--nonsense"], 2),
        ("sai-master", vec!["lint", &good], 0),
        ("sai-master", vec!["lint", &bad], 1),
        ("sai-master", vec!["matrix", &bad], 1),
        ("sai-master", vec!["export", "--state", &work], 2),
        ("sai-agent", vec!["--help"], 0),
        ("sai-agent", vec!["join", "--help"], 0),
        ("sai-agent", vec!["image", "--help"], 0),
        ("sai-agent", vec!["image", "--nonsense"], 2),
        ("sai-agent", vec!["--version"], 0),
        ("sai-agent", vec!["--state", &work], 2),
    ];
    for (name, words, status) in &lines {
        for (errors, (what, stdio)) in
            [false, true].into_iter().flat_map(|errors| unread().into_iter().map(move |pair| (errors, pair)))
        {
            let mut command = Command::new(program(name));
            command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if errors {
                command.stderr(stdio)
            } else {
                command.stdout(stdio)
            };
            let ended = command.status().expect("a program");
            assert_eq!(ended.code(), Some(*status), "{name} {words:?} with {what} (errors: {errors})");
        }
    }
    for status in [0, 1] {
        world.repository.write("status", status.to_string());
        world.repository.commit("Another status");
        for (what, stdio) in unread() {
            let mut command = Command::new(program("sai-master"));
            command.args(["try", &work, "--state", &state]).stdout(stdio).stderr(unread().remove(0).1);
            assert_eq!(command.status().expect("a program").code(), Some(status), "a trial with {what}");
        }
    }
    // What somebody waits for and does not get is told, unless it is the reader who went.
    let mut outputs = unread().into_iter();
    let mut rows = || {
        let stdio = outputs.next().expect("two").1;
        let output = Command::new(program("sai-master")).args(["matrix", &good]).stdout(stdio).output();
        output.expect("a program").status.code()
    };
    assert_eq!((rows(), rows()), (Some(0), Some(3)));
    // A stream that is closed altogether.
    let closed = "\"$0\" --help >&- 2>&- && \"$0\" lint \"$1\" >&- 2>&-";
    run(Command::new("sh").args(["-c", closed]).arg(program("sai-master")).arg(&good));
}

/// Bytes that a terminal would obey.
fn obeyed(bytes: &[u8]) -> bool {
    let text = text(bytes);
    text.chars().any(|letter| (letter.is_control() && letter != '\n' && letter != '\t') || letter == '\u{202e}')
}

#[test]
fn no_text_of_a_repository_reaches_a_terminal_as_it_is() {
    let world = World::new("escapes");
    let hostile = "\\u001b]0;owned\\u0007\\u009b2J\\u202e";
    let file = world.directory.join("a\u{1b}[31mb.json");
    let saifiles = [
        format!("{{\"schema\": \"sai-1\", \"{hostile}\": 1, \"platforms\": {{\"linux\": {{\"build\": \"true\", \"{hostile}\": 2}}}},
            \"configurations\": {{\"default\": {{\"{hostile}\": \"x\", \"platforms\": \"linux, {hostile}\"}}}}}}"),
        format!("{{\"schema\": \"sai-1\", \"platforms\": {{\"{hostile}\": {{\"build\": \"true\"}}}}, \"configurations\": {{\"{hostile}\": {{}}}}}}"),
        format!("{{\"schema\": \"{hostile}\", \"platforms\": {{\"linux\": {{\"build\": \"true\"}}}},
            \"configurations\": {{\"a\u{202e}b\": {{}}, \"c\u{2028}d\": {{\"branches\": \"{hostile}\"}}}}}}"),
        "{ \u{1b}[2J".to_string(),
        "{ \"\u{202e}\": \u{9b} }".to_string(),
    ];
    for saifile in &saifiles {
        fs::write(&file, saifile).expect("a saifile");
        for command in ["lint", "matrix"] {
            let output = ask("sai-master", &[command, &file.display().to_string()]);
            let told = [output.stdout.as_slice(), &output.stderr].concat();
            assert!(!told.is_empty() && !obeyed(&told), "{command} {saifile:?}: {:?}", text(&told));
        }
        world.repository.write(".sai.json", saifile);
        world.repository.commit("Hostile");
        let (work, state) = (world.repository.work.display().to_string(), world.directory.join("try"));
        let output = ask("sai-master", &["try", &work, "--state", &state.display().to_string()]);
        let told = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(!told.is_empty() && !obeyed(&told), "try {saifile:?}: {:?}", text(&told));
    }
}

/// Everything below a directory, by path.
fn below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_command_that_fails_leaves_every_place_as_it_was() {
    let world = World::new("places");
    let place = world.directory.join("empty");
    fs::create_dir(&place).expect("a directory");
    let state = place.join("deep/state").display().to_string();
    let here = place.display().to_string();
    let _busy = std::net::TcpListener::bind(("127.0.0.1", world.port)).expect("a port");
    let listen = format!("127.0.0.1:{}", world.port);
    let image = place.join("images").display().to_string();
    let work = world.repository.work.display().to_string();
    let line = "sai1:127.0.0.1:1:one:0123456789abcdef0123456789abcdef:system";
    let own = place.join("agent.json").display().to_string();
    let master: Vec<Vec<&str>> = vec![
        vec!["agent", "list", "--state", &state],
        vec!["agent", "list", "--state", &here],
        vec!["agent", "revoke", "x", "--state", &state],
        vec!["agent", "add", "a b", "--state", &state],
        vec!["agent", "add", "built-in", "--state", &state],
        vec!["user", "list", "--state", &state],
        vec!["user", "add", "-x", "--state", &state],
        vec!["gc", "--state", &state],
        vec!["gc", "--state", &here],
        vec!["status", "--state", &state],
        vec!["cancel", "job", "1", "--state", &state],
        vec!["export", "--state", &state],
        vec!["export", "--state", &here],
        vec!["import", "--state", &state],
        vec!["--state", &state, "--listen", &listen],
        vec!["--config", &own, "--state", &state],
        // A repository without a commit.
        vec!["try", &work, "--state", &state],
        vec!["try", &work, "--dirty", "--state", &state],
        vec!["try", &work, "--slots", "0", "--state", &state],
        vec!["agent", "list"],
        vec!["agent", "add", "x"],
    ];
    let agent: Vec<Vec<&str>> = vec![
        vec!["--state", &state],
        vec!["join", line, "--state", &state],
        vec!["join", "nonsense", "--state", &state],
        vec!["image", "list", "--nonsense", "--images", &image],
        vec!["image", "remove", "linux-none", "--images", &image],
    ];
    let lines = master.iter().map(|words| ("sai-master", words)).chain(agent.iter().map(|words| ("sai-agent", words)));
    for (name, words) in lines {
        let mut command = Command::new(program(name));
        command.args(words).current_dir(&place).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", place.join("xdg")).env_remove("SAI_CONFIG").env_remove("SAI_AGENT_CONFIG");
        let output = command.output().expect("a program");
        assert!(!output.status.success(), "{name} {words:?}: {}", text(&output.stdout));
        assert_eq!(below(&place), Vec::<String>::new(), "{name} {words:?}: {}", text(&output.stderr));
    }
}

#[test]
fn root_leaves_nothing_in_the_state_of_another_users_master() {
    let world = World::new("owner");
    world.join_line("one");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let before = below(&world.state());
    run(Command::new("chown").args(["-R", "65534"]).arg(world.state()));
    for words in [&["agent", "add", "two"][..], &["user", "list"], &["gc"], &["export"]] {
        let (status, _, why) = world.try_command(words);
        assert!(status == 3 && why.contains("belongs to user 65534"), "{words:?} {status}: {why}");
    }
    assert_eq!(below(&world.state()), before);
}

#[test]
fn the_configuration_and_the_state_are_found_where_a_service_has_them() {
    let world = World::new("found");
    let configuration = world.configuration();
    let home = world.directory.join("home");
    let command = |words: &[&str], directory: &Path, configured: bool| {
        let mut command = Command::new(program("sai-master"));
        command.args(words).current_dir(directory).env("XDG_STATE_HOME", &home).env_remove("SAI_CONFIG");
        if configured {
            command.env("SAI_CONFIG", &configuration);
        }
        command
    };
    let line = run(&mut command(&["agent", "add", "one"], &world.directory, true));
    assert!(line.starts_with("sai1:127.0.0.1:"), "{line}");
    assert!(run(&mut command(&["agent", "list"], &world.directory, true)).contains("one\tnever seen"));
    let master = Process::start("master", command(&[], &world.directory, true).stdout(Stdio::null()));
    let said = master.await_line("keeping everything in");
    assert!(said.contains(&configuration.display().to_string()), "{said}");
    assert!(said.contains(&world.state().display().to_string()), "{said}");
    master.await_line("listening on");
    drop(master);
    // What an earlier version kept in the working directory goes on being used; somebody else's does not count.
    let old = world.directory.join("old");
    fs::create_dir(&old).expect("a directory");
    fs::rename(world.state(), old.join("sai-state")).expect("a state");
    assert!(run(&mut command(&["agent", "list"], &old, false)).contains("one\tnever seen"));
    let output = command(&["agent", "list"], &world.directory, false).output().expect("it runs");
    let why = text(&output.stderr);
    let usual =
        if rustix::process::geteuid().is_root() { "/var/lib/sai-master".into() } else { home.join("sai-master") };
    assert!(output.status.success() || why.contains(&usual.display().to_string()), "{why}");
}

#[test]
fn status_says_whether_a_master_runs_and_how_it_is() {
    let world = World::new("status");
    assert_eq!(world.try_command(&["status"]).0, 2, "there is none");
    let mut master = world.master();
    let _agent = world.agent("one", &["linux-test-1/x86_64/gcc"], 1);
    world.join_line("two");
    let (status, told, why) = world.try_command(&["status"]);
    assert_eq!(status, 0, "{why}");
    for part in [
        "running\tsince 2",
        &format!("state\t{}", world.state().display()),
        "MiB free",
        &format!("page\thttps://127.0.0.1:{}", world.port),
        "agents\t1 connected, 1 never seen\n",
        "jobs\t0 running, 0 queued\n",
        "repository\tproject: ",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    world.command(&["agent", "aside", "one"]);
    assert!(world.command(&["status"]).contains("agents\t1 aside, 1 never seen"));
    world.repository.push_saifile(&saifile(&["true"]));
    eventually("the job waits", || world.command(&["status"]).contains("waiting\tjob 1: ").then_some(()));
    master.kill();
    let (status, told, _) = world.try_command(&["status"]);
    assert_eq!((status, told.lines().next()), (1, Some("not running")));
}

#[test]
fn the_agent_inside_cannot_be_revoked_or_added_and_a_revoked_one_is_not_taken_back() {
    let mut world = World::new("inside");
    world.set("builtin", "{\"platforms\": [\"linux-test-1\"]}");
    for alive in [true, false] {
        let master = alive.then(|| world.master());
        for words in [["agent", "add", "built-in"], ["agent", "revoke", "built-in"]] {
            let (status, _, why) = world.try_command(&words);
            assert_eq!(status, 1, "{words:?}: {why}");
            assert!(why.contains("the agent inside"), "{words:?}: {why}");
        }
        drop(master);
    }
    let _master = world.master();
    eventually("it is there", || world.command(&["agent", "list"]).contains("built-in\tconnected").then_some(()));
    world.join_line("gone");
    world.command(&["agent", "revoke", "gone"]);
    for word in ["back", "aside"] {
        let (status, _, why) = world.try_command(&["agent", word, "gone"]);
        assert_eq!(status, 1, "{why}");
        assert!(why.contains("revoked") && why.contains("agent add gone"), "{why}");
    }
    world.command(&["agent", "aside", "built-in"]);
    let list = world.command(&["agent", "list"]);
    assert!(
        list.lines().any(|line| line.starts_with("built-in\taside\t") && line.contains("\tset aside by hand")),
        "{list}"
    );
    world.command(&["agent", "back", "built-in"]);
    assert!(world.command(&["agent", "list"]).contains("built-in\tconnected"));
    let (status, out, _) = sai_master(&["agent", "--help"]);
    for state in ["connected", "away", "aside", "locked out", "never seen", "revoked"] {
        assert!(status == 0 && out.contains(state), "{state}");
    }
}

#[test]
fn a_signal_makes_a_master_read_its_configuration_again() {
    let mut world = World::new("reload");
    world.set("builtin", "{\"platforms\": [\"linux-test-1\"], \"slots\": 2}");
    let master = world.master();
    world.repository.push_saifile(&saifile(&["true"]));
    world.ended(1);
    let other = world.directory.join("other");
    fs::create_dir(&other).expect("a directory");
    let other = Repository::new(&other);
    let again = |world: &World| {
        world.configuration();
        master.signal(Signal::HUP);
    };
    let both = |first: &str| format!("{{{first} \"other\": {{\"url\": {:?}}}}}", other.bare);
    let project = format!("\"project\": {{\"url\": {:?}}},", world.repository.bare);
    world.set("repositories", &both(&project));
    world.set("timeout_s", "1");
    again(&world);
    let said = master.await_line("from now on: repositories:");
    assert!(said.contains("project has changed") && said.contains("other is new"), "{said}");
    master.await_line("for jobs that are assigned from now on: timeout_s");
    other.install_hook(&format!("https://{}", world.address()), "other");
    other.push_saifile(&saifile(&["sleep 100"]));
    assert_eq!(world.ended(2).jobs[0].state, "timed-out");
    // A second is too little for the others on a machine that has much to do.
    world.set("timeout_s", "3600");
    again(&world);
    master.await_line("for jobs that are assigned from now on: timeout_s");
    // What is wrong is told with its place, and changes nothing.
    fs::write(world.directory.join("master.json"), "{\n  \"listen\": 12 }").expect("a file");
    master.signal(Signal::HUP);
    master.await_line("nothing changes");
    master.await_line("master.json:2:13: listen: expected ");
    other.push_saifile(&saifile(&["true"]));
    assert_eq!(world.ended(3).jobs[0].state, "passed");
    // One that is gone is built no more, and one that comes back goes on where it was.
    world.set("repositories", &both(""));
    world.set("listen", "\"127.0.0.1:1\"");
    world.set("builtin", "{\"platforms\": [\"linux-test-2\"], \"slots\": 2}");
    again(&world);
    master.await_line("project is gone");
    master.await_line("after a restart: listen");
    let offered = || world.agents().into_iter().find(|agent| agent.name == "built-in").map(|agent| agent.platforms);
    eventually("what it offers now", || offered().filter(|platforms| *platforms == ["linux-test-2"]));
    world.repository.push_saifile(&saifile(&["exit 3"]));
    world.set("repositories", &both(&project));
    again(&world);
    master.await_line("project is new");
    let event = eventually("the push that came meanwhile", || world.event(4));
    assert!(event.event.reference.ends_with("/main") && event.event.source == "poll", "{event:?}");
    again(&world);
    master.await_line("says what it said before");
}

#[test]
fn root_is_told_that_steps_are_roots() {
    let mut world = World::new("root");
    world.set("builtin", "{\"platforms\": [\"linux-test-1\"]}");
    let master = world.master();
    master.await_line("the page is at");
    let warned = |process: &Process| process.said().iter().any(|line| line.contains("run as root"));
    let root = rustix::process::geteuid().is_root();
    assert_eq!(warned(&master), root, "{:?}", master.said());
    assert_eq!(warned(&world.agent("one", &["linux-test-2"], 1)), root);
    drop(master);
    if root {
        world.set("builtin", "{\"platforms\": [\"linux-test-1\"], \"user\": \"nobody\"}");
        let master = world.master();
        master.await_line("the page is at");
        assert!(!warned(&master), "{:?}", master.said());
    }
}

#[test]
fn variables_of_an_agent_are_in_each_job_and_a_saifiles_go_before() {
    let mut world = World::new("env");
    world.set("builtin", "{\"platforms\": [\"plan9\"], \"env\": {\"FLAVOUR\": \"inside\"}}");
    let _master = world.master();
    let env = "\"env\": {\"FLAVOUR\": \"agent\", \"BOTH\": \"agent\"}";
    let _agent = world.agent_with("one", &["linux-test-1"], 1, &[env]);
    world.repository.push_saifile(
        r#"{ "schema": "sai-1", "configurations": { "default": { "platforms": "linux, plan9" } }, "platforms": {
             "linux": { "build": "echo $FLAVOUR $BOTH", "env": { "BOTH": "saifile" } },
             "plan9": { "build": "echo $FLAVOUR" } } }"#,
    );
    let jobs = world.ended(1).jobs;
    assert!(jobs.iter().all(|job| job.state == "passed"), "{jobs:?}");
    let said: Vec<String> = jobs.iter().map(|job| text(world.records(job.id).channel("stdout"))).collect();
    assert!(said.contains(&"agent saifile\n".to_string()) && said.contains(&"inside\n".to_string()), "{said:?}");
}
