//! Many distros on one machine: a real project, pushed once, built on two releases of Debian and on the machine itself.

#[path = "../../agent/tests/roots/mod.rs"]
mod roots;

use sai_tests::process::{eventually, program};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::World;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long three builds may take on a machine that is busy with other tests.
const BUILD: Duration = Duration::from_secs(600);

#[test]
fn one_push_is_built_on_two_releases_and_on_the_machine_itself() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("distros");
    let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello/fetch");
    run(Command::new(fetch).arg(world.directory.join("fetched")));
    let _master = world.master();
    let agent = world.agent("shed", &["linux-host/any/gcc"], 2);
    let state = world.agent_state("shed");
    let sai_agent = program("sai-agent");
    for (suite, platform) in [("bookworm", "linux-debian-12/any/gcc"), ("trixie", "linux-debian-13/any/gcc")] {
        let root = roots::debian(suite);
        let mut create = Command::new(&sai_agent);
        create.args(["image", "create", platform, "--packages", "gcc libc6-dev make help2man", "--from-dir"]).arg(root);
        run(create.arg("--state").arg(&state));
    }
    // A checkout has no time stamps that make could trust, so it must not try to remake what autotools made.
    let build = r#"[
        "cat /etc/os-release; id -un",
        "./configure --quiet",
        "make -j$SAI_PARALLEL AUTOCONF=: AUTOMAKE=: ACLOCAL=: AUTOHEADER=: MAKEINFO=:",
        "./hello | tee hello.txt"
    ]"#;
    let platforms = ["linux-debian-12", "linux-debian-13/any/gcc", "linux-host"];
    let platforms = platforms.map(|name| format!("{name:?}: {{ \"build\": {build} }}")).join(", ");
    let saifile = format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ {platforms} }}, \
           \"configurations\": {{ \"default\": {{ \"artifacts\": \"hello, hello.txt\" }} }} }}"
    );
    let work = &world.repository.work;
    run(Command::new("cp").arg("-a").arg(world.directory.join("fetched/source/.")).arg(work));
    std::fs::write(work.join(".sai.json"), saifile).expect("a saifile");
    run(git(work).args(["add", "--all", "--force"]));
    world.repository.commit("Import GNU hello as Debian has it");
    world.repository.push();
    let begun = Instant::now();
    let event = loop {
        if let Some(event) = world.event(1).filter(|event| event.jobs.iter().all(|job| job.ended())) {
            break event;
        }
        assert!(begun.elapsed() < BUILD, "not built within {BUILD:?}: {:#?}\n{:#?}", world.event(1), agent.said());
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!(event.jobs.len(), 3);
    let machine = std::fs::read_to_string("/etc/os-release").expect("this machine says what it is");
    let mut digests = BTreeSet::new();
    for job in &event.jobs {
        let log = String::from_utf8_lossy(&world.log(job.id)).into_owned();
        assert_eq!(job.state, "passed", "{}: {log}", job.platform);
        let expected = match job.platform.as_str() {
            "linux-debian-12" => "VERSION_CODENAME=bookworm\n",
            "linux-debian-13/any/gcc" => "VERSION_CODENAME=trixie\n",
            _ => machine.lines().find(|line| line.starts_with("ID=")).expect("a name"),
        };
        assert!(log.contains(expected), "{}: {log}", job.platform);
        assert!(job.platform == "linux-host" || log.contains("\nsai\n"), "{}: {log}", job.platform);
        let page = world.page(&format!("/job/{}", job.id));
        assert!(page.contains(expected.trim_end()), "{}: the page shows what the job ran on", job.platform);
        let paths: Vec<&str> = job.artifacts.iter().map(|kept| kept.path.as_str()).collect();
        assert_eq!(paths, ["hello", "hello.txt"], "{}", job.platform);
        let text = job.artifacts.iter().find(|kept| kept.path == "hello.txt").expect("an artifact");
        assert_eq!(world.get(&text.download).expect("a download"), b"Hello, world!\n");
        digests.insert(job.artifacts[0].sha256.clone());
    }
    assert!(digests.len() >= 2, "each release's compiler makes another program");
    world.tidy(std::slice::from_ref(&state));
    // Each image has run one job, and nobody uses it any more.
    let list = run(Command::new(&sai_agent).args(["image", "list", "--state"]).arg(&state));
    let counts: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(counts, ["1", "1"], "{list}");
    for platform in ["linux-debian-12/any/gcc", "linux-debian-13/any/gcc"] {
        run(Command::new(&sai_agent).args(["image", "remove", platform, "--state"]).arg(&state));
    }
}

/// Runs `sai-agent image` to its end: status and what it told.
fn image(state: &Path, words: &[&str], input: &str) -> (Option<i32>, String) {
    let mut command = Command::new(program("sai-agent"));
    command.arg("image").args(words).arg("--state").arg(state);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("sai-agent can be run");
    // A command that reads nothing may have ended by now.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("sai-agent ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_job_keeps_the_image_it_began_in_whoever_is_killed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("kept");
    let _master = world.master();
    let mut agent = world.agent("shed", &["linux-host"], 2);
    let state = world.agent_state("shed");
    let platform = "linux-debian-12/any/plain";
    let root = roots::debian("bookworm").display().to_string();
    assert_eq!(image(&state, &["create", platform, "--from-dir", &root], "").0, Some(0));
    let step = "test -e /etc/new && echo new || echo old; while ! test -e go; do sleep 0.05; done; test ! -e /etc/new";
    let saifile = saifile(&[step]).replace("\"linux\"", "\"linux-debian\"");
    world.repository.push_saifile(&saifile);
    eventually("the job runs", || String::from_utf8_lossy(&world.log(1)).contains("old\n").then_some(()));
    let remove = || image(&state, &["remove", platform], "");
    let (status, told) = remove();
    assert!(status == Some(4) && told.contains("job 1-1 runs in"), "{told}");
    // Neither the agent's death nor another env changes that.
    agent.kill();
    assert_eq!(remove().0, Some(4));
    assert_eq!(image(&state, &["shell", platform, "--commit"], "echo > /etc/new").0, Some(0));
    let old = || {
        let entries = std::fs::read_dir(state.join("images")).expect("images").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".old-")).count()
    };
    assert_eq!(image(&state, &["shell", platform, "--commit"], "echo > /etc/newer").0, Some(0));
    assert!(old() > 0, "an env that a job might use is kept");
    let agent = world.agent_again("shed");
    std::fs::write(state.join("jobs/1-1/work/src/go"), "").expect("a file");
    assert_eq!(world.ended(1).jobs[0].state, "passed", "{:#?}", agent.said());
    world.tidy(std::slice::from_ref(&state));
    // The next one begins in what it is now.
    world.repository.write("file", "changed");
    world
        .repository
        .push_saifile(&saifile.replace("test ! -e /etc/new\"", "test -e /etc/newer\"").replace("-e go", "-d .git"));
    let event = world.ended(2);
    assert_eq!(event.jobs[0].state, "passed", "{}", String::from_utf8_lossy(&world.log(event.jobs[0].id)));
    world.tidy(std::slice::from_ref(&state));
    assert_eq!(remove().0, Some(0));
    assert_eq!(old(), 0);
}
