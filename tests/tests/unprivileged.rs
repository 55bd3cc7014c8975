//! An agent that is not root's builds, loses nothing when it is killed, and leaves nothing.

use sai_tests::process::{Process, eventually, program};
use sai_tests::world::World;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Command, Stdio};

/// The user and group "nobody" of Debian, who owns no file.
const NOBODY: u32 = 65534;
const PLATFORM: &str = "linux-test-1/x86_64/gcc";

/// The program as that user starts it; as whoever runs the tests, if that is not root.
fn command(world: &World) -> Command {
    // Not everybody may look into the directory that it was built in.
    let copy = world.directory.join("sai-agent");
    if !copy.exists() {
        fs::copy(program("sai-agent"), &copy).expect("a copy");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::set_permissions(&world.directory, fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    let state = world.agent_state("nobody");
    fs::create_dir_all(&state).expect("a directory");
    let mut command = if rustix::process::geteuid().is_root() {
        chown(&state, Some(NOBODY), Some(NOBODY)).expect("a directory of theirs");
        let mut command = Command::new("setpriv");
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        command.args([&user, &group, "--clear-groups", "--no-new-privs", "--"]).arg(copy);
        command
    } else {
        Command::new(copy)
    };
    command.env_remove("HOME").current_dir(&world.directory).stdout(Stdio::null());
    command
}

#[test]
fn an_agent_without_privileges_builds_and_loses_nothing() {
    let world = World::new("unprivileged");
    let _master = world.master();
    let state = world.agent_state("nobody");
    let mut join = command(&world);
    join.args(["join", &world.join_line("nobody"), "--platform", PLATFORM, "--slots", "1", "--state"]).arg(&state);
    let mut agent = Process::start("nobody", &mut join);
    agent.await_line("connected as");
    let steps = [
        "id -u >user; touch begun; setsid sleep 1000 & n=0; until [ -e go ] || [ $n = 5000 ]; do n=$((n + 1)); echo $n; sleep 0.02; done",
        "echo again; ! touch /sai-was-here 2>/dev/null || rm /sai-was-here",
    ];
    let build = miniserde::json::to_string(&steps.map(str::to_owned).to_vec());
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"{PLATFORM}\": {{\"build\": {build}}}}}, \
         \"configurations\": {{\"default\": {{\"artifacts\": \"user\"}}}}}}"
    ));
    let source = state.join("jobs/1-1/work/src");
    eventually("the job has begun", || source.join("begun").exists().then_some(()));
    for _ in 0..3 {
        agent.kill();
        let mut again = command(&world);
        again.arg("--state").arg(&state);
        agent = Process::start("nobody", &mut again);
        agent.await_line("connected as");
    }
    fs::write(source.join("go"), "").expect("a file");

    let event = world.ended(1);
    let job = &event.jobs[0];
    assert_eq!(job.state, "passed", "{job:?}: {}", String::from_utf8_lossy(&world.log(job.id)));
    let printed = String::from_utf8(world.records(job.id).channel("stdout").to_vec()).expect("numbers");
    let mut lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.pop(), Some("again"));
    assert!(lines.iter().zip(1..).all(|(line, number)| *line == number.to_string()), "{printed}");
    let user = world.get(&job.artifacts[0].download).expect("the artifact");
    let expected = if rustix::process::geteuid().is_root() { NOBODY } else { rustix::process::geteuid().as_raw() };
    assert_eq!(String::from_utf8_lossy(&user).trim(), expected.to_string());
    world.tidy(&[state]);
}
