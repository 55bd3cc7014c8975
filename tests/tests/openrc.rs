//! `configs/sai-agent.openrc` as the real OpenRC runs it: start, status, reload, an agent that is killed, stop.
//!
//! OpenRC is no init here. It gets a file system of its own: this machine's files, with its own over them and room for what is
//! written, in a mount namespace that ends with the test.

use rustix::process::{Pid, Signal, kill_process};
use sai_tests::cross::{emulators, root};
use sai_tests::process::{Process, eventually, program};
use sai_tests::world::World;
use std::fs;
use std::process::{Command, Output, Stdio};

/// Makes the file system, says so, and waits until it is no longer wanted. OpenRC wants directories that its init would have
/// made, and a service that brings the network up; Debian's asks for a file of insserv.
const MAKE: &str = r#"set -e
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
cp -R "$2" openrc
mount -t overlay overlay -o "lowerdir=$1/openrc:/,upperdir=$1/upper,workdir=$1/work" root
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/run
mkdir -p "root/run/$4"
mount --bind "$3" "root/run/$4"
for name in daemons exclusive failed hotplugged inactive options scheduled starting started stopping tmp wasinactive; do
    mkdir -p root/run/openrc/$name
done
mkdir -p root/etc/conf.d
touch root/run/openrc/softlevel root/etc/insserv.conf
printf '#!/sbin/openrc-run\ndepend() { provide net; }\nstart() { :; }\n' >root/etc/init.d/network
install -m 755 "$5" root/etc/init.d/sai-agent
install -m 755 "$6" root/usr/local/bin/sai-agent
printf 'state=/run/%s/agent\n' "$4" >root/etc/conf.d/sai-agent
chmod 755 root/etc/init.d/network
echo made >&2
sleep infinity
"#;

/// The namespaces with OpenRC in them, and the process that keeps them.
struct OpenRc {
    keeper: Process,
    place: String,
}

impl OpenRc {
    fn new(world: &World) -> Self {
        let place = world.directory.join("openrc");
        fs::create_dir_all(&place).expect("a directory");
        let mut make = Command::new("unshare");
        make.args(as_root()).args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", MAKE, "sh"]);
        make.arg(&place).arg(emulators().join("openrc")).arg(&world.directory);
        make.arg(world.directory.file_name().expect("a name")).arg(root().join("configs/sai-agent.openrc"));
        make.arg(program("sai-agent")).stdout(Stdio::null());
        let keeper = Process::start("OpenRC", &mut make);
        keeper.await_line("made");
        Self { keeper, place: place.join("root").display().to_string() }
    }

    /// Runs a line in it.
    fn run(&self, line: &str) -> Output {
        // The keeper is unshare; its child is the first process of the namespaces.
        let children = format!("/proc/{0}/task/{0}/children", self.keeper.id());
        let first = fs::read_to_string(children).expect("the kernel lists children").trim().to_owned();
        let mut command = Command::new("nsenter");
        command.args(["--target", &first, "--mount", "--pid"]);
        if !as_root().is_empty() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["chroot", &self.place, "sh", "-c", line]).stdin(Stdio::null());
        command.output().expect("nsenter can be run")
    }

    /// Runs a command of the service that must end with this status, and returns what it prints.
    fn service(&self, word: &str, status: i32) -> String {
        let output = self.run(&format!("rc-service sai-agent {word}"));
        let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
        assert_eq!(output.status.code(), Some(status), "{word}: {said}");
        said
    }
}

/// What makes somebody root in a namespace of his own.
fn as_root() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] }
}

/// The agent of this world, as this machine numbers processes.
fn agent(world: &World) -> Option<Pid> {
    let name = world.directory.file_name().expect("a name").display();
    let wanted = format!("/usr/local/bin/sai-agent\0--state\0/run/{name}/agent\0");
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words == wanted.as_bytes()))
        .and_then(Pid::from_raw)
}

/// A field of `/proc/PID/status`.
fn status(process: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim().to_string()
}

fn parent(process: Pid) -> i32 {
    status(process.as_raw_nonzero().get(), "PPid:").parse().expect("a number")
}

fn is_asleep(process: i32) -> bool {
    status(process, "State:").starts_with('S')
}

#[test]
fn openrc_starts_keeps_and_stops_an_agent() {
    let world = World::new("openrc");
    let _master = world.master();
    let line = world.join_line("one");
    let mut join = Command::new(program("sai-agent"));
    join.args(["join", &line, "--only-save", "--state"]).arg(world.directory.join("agent"));
    assert!(join.output().expect("sai-agent can be run").status.success());
    let state = |wanted: &str| {
        eventually(&format!("the agent is {wanted}"), || {
            world.agents().into_iter().find(|agent| agent.name == "one" && agent.state == wanted)
        })
    };
    let openrc = OpenRc::new(&world);

    openrc.service("start", 0);
    state("idle");
    assert!(openrc.service("status", 0).contains("started"));
    openrc.service("reload", 0);
    let first = agent(&world).expect("an agent runs");
    // A child's death is missed by an OpenRC that is about to wait for orders, and has none yet to wake it up.
    eventually("OpenRC waits", || is_asleep(parent(first)).then_some(()));
    kill_process(first, Signal::KILL).expect("it can be killed");
    let second = eventually("it is started again", || agent(&world).filter(|again| *again != first));
    state("idle");
    openrc.service("reload", 0);
    assert_eq!(agent(&world), Some(second), "reload starts nothing anew");
    openrc.service("stop", 0);
    state("away");
    eventually("nothing runs any more", || agent(&world).is_none().then_some(()));
    assert!(openrc.service("status", 3).contains("stopped"));
}
