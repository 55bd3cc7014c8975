//! What `cross/build` makes for other processors, run as they would run it: a board joins, builds, and is killed like any other.
//!
//! Nothing here is skipped: where a tool cannot be had, the test says which.

use sai_tests::cross::{
    MASTER_TARGET, SERVERS, TARGETS, WITH_BOARDS, agent, agent_with_boards, allowed, emulate, program, root,
};
use sai_tests::hello;
use sai_tests::machine::{self, BOOT, Board, boot};
use sai_tests::process::{Process, eventually_within};
use sai_tests::random::{Random, awkward, rounds, seed};
use sai_tests::repository::{run, saifile};
use sai_tests::world::World;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Time for a build on an emulated processor, on a machine that is busy.
const BUILD: Duration = Duration::from_secs(600);
/// What a job prints while its agent and its master are killed.
const LOG_BYTES: usize = 10_000_000;

/// A world whose agents are the programs for this target, and whose master has the P-521 certificate.
fn world(target: &str, program: &Path) -> World {
    let mut world = World::new(&format!("cross-{target}"));
    let processor = TARGETS.iter().find(|(name, _)| *name == target).and_then(|(_, processor)| *processor);
    let variables = processor.map(|processor| ("QEMU_CPU".to_owned(), processor.to_owned()));
    world.other_agent = Some((program.to_path_buf(), variables.into_iter().collect()));
    world.use_p521_certificate();
    world
}

/// Joins with the certificate pinned, builds a project nobody here wrote, and loses not a byte of a long log while the agent
/// and then the master are killed.
fn works_as_a_board(target: &str, machine: &str) {
    emulate();
    let program = program(target, "sai-agent");
    let world = world(target, &program);
    let mut master = world.master();
    let mut agent = world.agent("board", &[&format!("linux-board/{target}")], 1);
    let saved = fs::read_to_string(world.agent_state("board").join("agent.json")).expect("the joined configuration");
    let chain = world.directory.join("certificates/sai-master.pem");
    let digest = run(Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(chain));
    let digest = digest.split_once('=').expect("a fingerprint").1.replace(':', "").to_lowercase();
    assert!(saved.contains(&digest), "{digest} is not pinned in {saved}");

    let make = "make -C build -j$SAI_PARALLEL AUTOCONF=: AUTOMAKE=: ACLOCAL=: AUTOHEADER=: MAKEINFO=:";
    hello::commit(
        &world,
        &saifile(&[
            "mkdir build && cd build && ../configure --disable-nls",
            make,
            "build/hello --greeting=\"Sai on $SAI_PLATFORM\"",
        ]),
    );
    world.repository.push();
    let event = world.ended_within(BUILD, 1);
    assert_eq!(event.jobs[0].state, "passed", "{event:?}");
    let log = String::from_utf8_lossy(&world.log(1)).into_owned();
    assert!(log.ends_with("Sai on linux\n"), "{}", &log[log.len().saturating_sub(500)..]);

    // Half of it is printed, then both ends are killed, and while neither is there the rest.
    let mut random = Random::new(seed(target, 11));
    let bytes = awkward(&mut random, LOG_BYTES);
    world.repository.write("printed", &bytes);
    let release = world.directory.join("release");
    let half = LOG_BYTES / 2;
    world.repository.push_saifile(&saifile(&[&format!(
        "head -c {half} printed\nwhile [ ! -e {} ]; do sleep 0.05; done\ntail -c +{} printed\n: > {}",
        release.display(),
        half + 1,
        world.directory.join("printed-all").display(),
    )]));
    eventually_within(BUILD, "half of the log is there", || (world.log(2).len() >= half).then_some(()));
    agent.kill();
    master.kill();
    fs::write(&release, "").expect("a file");
    eventually_within(BUILD, "all is printed", || world.directory.join("printed-all").exists().then_some(()));
    let _master = world.master();
    let _agent = world.agent_again("board");
    let event = world.ended_within(BUILD, 2);
    let job = &event.jobs[0];
    assert_eq!((job.state.as_str(), job.attempt), ("passed", 1), "{job:?}");
    let got = world.records(2).channel("stdout").to_vec();
    let same = got.iter().zip(&bytes).take_while(|(one, other)| one == other).count();
    assert!(got == bytes, "the log has {} bytes of {}, the same up to {same}", got.len(), bytes.len());

    // It was that processor's program all the time.
    let kind = run(Command::new("od").args(["-A", "n", "-t", "x1", "-j", "18", "-N", "2"]).arg(&program));
    assert_eq!(kind.trim(), machine);
    world.tidy(&[world.agent_state("board")]);
}

#[test]
fn an_aarch64_board_builds_and_loses_nothing() {
    works_as_a_board("aarch64", "b7 00");
}

#[test]
fn an_armv7_board_builds_and_loses_nothing() {
    works_as_a_board("armv7", "28 00");
}

#[test]
fn an_armv6_board_builds_and_loses_nothing() {
    works_as_a_board("armv6", "28 00");
}

/// What nothing else is built for takes minutes, for one number: such programs are looked at with `SAI_ROUNDS=2` alone.
#[test]
fn no_program_is_larger_than_allowed() {
    let allowed = allowed();
    let agents = TARGETS.map(|(target, _)| (target.to_owned(), "sai-agent".to_owned()));
    let boards = TARGETS.map(|(target, _)| (target.to_owned(), WITH_BOARDS.to_owned()));
    let all = agents.into_iter().chain(boards).chain([(MASTER_TARGET.to_owned(), "sai-master".to_owned())]);
    assert_eq!(all.collect::<std::collections::BTreeSet<_>>(), allowed.keys().cloned().collect());
    let every = rounds(1) > 1;
    for ((target, name), most) in allowed {
        let file = match &*name {
            WITH_BOARDS if every || target == MASTER_TARGET => agent_with_boards(&target),
            "sai-agent" if every && target == SERVERS => agent(SERVERS),
            name if name != WITH_BOARDS && target != SERVERS => program(&target, name),
            _ => continue,
        };
        let bytes = fs::metadata(&file).expect("what was built").len();
        eprintln!("{target} {name}: {bytes} bytes of {most}");
        assert!(bytes <= most, "{target}/{name} is {bytes} bytes, {most} are allowed by cross/size.txt");
        let dynamic = run(Command::new("readelf").args(["-lW"]).arg(&file));
        assert!(!dynamic.contains("INTERP"), "{target}/{name} needs a loader:\n{dynamic}");
    }
}

/// Runs agents on an emulated machine: each joins over its network, builds with busybox alone, and is then left idle.
fn boots(name: &str, board: Board, targets: &[&str]) {
    let (world, _daemon) = machine::world(&format!("boot-{name}"));
    let _master = world.master();

    let programs: Vec<_> = targets.iter().map(|target| (*target, program(target, "sai-agent"))).collect();
    let (mut files, mut script) = (Vec::new(), String::new());
    for (target, program) in &programs {
        files.push((program.as_path(), format!("/usr/bin/sai-agent-{target}")));
        let line = world.join_line(target);
        // 1970 is no year in which the certificate is valid, which the pin makes up for. A small board has less to spare
        // than what is kept free elsewhere.
        script.push_str(&format!(
            "sai-agent-{target} join '{line}' --name {target} --platform linux-board/{target} --slots 1 --state /var/lib/{target} --only-save\n\
             sed -i 's/^{{$/{{ \"keep_free_mib\": 8,/' /var/lib/{target}/agent.json\n\
             printf 'PROGRAM=/usr/bin/sai-agent-{target}\\nSTATE=/var/lib/{target}\\nPID_FILE=/run/{target}.pid\\n' >/etc/default/sai-agent\n\
             /etc/init.d/S90sai-agent start\n\
             until [ -s /run/{target}.pid ]; do sleep 0.1; done\n"
        ));
    }
    let init_script = root().join("configs/S90sai-agent");
    files.push((&init_script, "/etc/init.d/S90sai-agent".to_owned()));
    script.push_str(IDLE_SCRIPT);
    let files: Vec<(&Path, &str)> = files.iter().map(|(file, path)| (*file, path.as_str())).collect();
    let machine = boot(&world.directory, board, &files, &script);
    let up = machine.await_line_for(BOOT, &format!("the system is up: Linux {}", board.processor()));
    eprintln!("{name}: {up}");
    for target in targets {
        eventually_within(BOOT, &format!("{target} is connected"), || {
            world.agents().into_iter().find(|agent| agent.name == *target && agent.state == "idle")
        });
    }
    let platforms: Vec<String> = targets
        .iter()
        .map(|target| {
            format!(
                "\"linux-board/{target}\": {{\"build\": [\"[ ! -e /bin/bash ] && uname -m && date +%Y\", \"sort names >sorted && wc -l <sorted\", \": >/tmp/built-{target}\"]}}"
            )
        })
        .collect();
    world.repository.write("names", "b\nc\na\n");
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{{}}}, \"configurations\": {{\"default\": {{\"artifacts\": \"sorted\"}}}}}}",
        platforms.join(", ")
    ));
    let event = world.ended_within(BOOT, 1);
    assert_eq!(event.jobs.len(), targets.len(), "{event:?}");
    for job in &event.jobs {
        assert_eq!(job.state, "passed", "{job:?}: {}", String::from_utf8_lossy(&world.log(job.id)));
        let printed = format!("{}\n1970\n3\n", board.processor());
        assert_eq!(String::from_utf8_lossy(world.records(job.id).channel("stdout")), printed);
        assert_eq!(world.get(&job.artifacts[0].download).expect("the artifact"), b"a\nb\nc\n");
    }

    // Left alone, it costs next to nothing; killed, it is started again by its init script.
    let figures = machine.await_line_for(BOOT, "idle network");
    eprintln!("{name}: {figures}");
    for target in targets {
        let line = machine.said().into_iter().find(|line| line.contains(&format!("idle {target}")));
        let line = line.expect("the figures of an agent");
        eprintln!("{name}: {line}");
        let number = |key: &str| {
            let mut words = line.split_whitespace().skip_while(|word| *word != key).skip(1);
            words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {key} in {line}"))
        };
        assert!(number("resident_kib") <= IDLE_KIB, "{line}");
        assert_eq!(number("files_changed"), 0, "an idle agent writes nothing: {line}");
    }
    assert!(
        machine.said().iter().any(|line| line.contains("idle card, sectors written in 40 s: 0")),
        "a card is written to"
    );
    let bytes: u64 = figures.split_whitespace().last().and_then(|word| word.parse().ok()).expect("a number of bytes");
    assert!(bytes < targets.len() as u64 * 200 * IDLE_SECONDS, "{figures}");
    drop(machine);
}

/// Seconds during which an idle agent is looked at; longer than the time between two signs of life on its connection.
const IDLE_SECONDS: u64 = 40;
/// Memory of an idle agent, KiB.
const IDLE_KIB: u64 = 3 << 10;

/// Measures agents that have built something and have nothing to do now.
const IDLE_SCRIPT: &str = "
for state in /var/lib/*; do
    until [ -e /tmp/built-${state##*/} ] && [ -z \"$(ls -A $state/jobs)\" ]; do sleep 1; done
done
bytes() { cat /sys/class/net/eth0/statistics/[rt]x_bytes | awk '{ sum += $1 } END { print sum }'; }
pid_of() { cat /run/$1.pid; }
ticks() { awk '{ print $14 + $15 }' /proc/$(pid_of $1)/stat; }
written() { awk '$3 == \"vda\" { print $10 }' /proc/diskstats; }
# What was written and removed before is on the card when this begins, and nothing of it is left for later.
sleep 2
sync
sleep 6
sync
touch /tmp/idle-since
before=$(bytes)
written=$(written)
for state in /var/lib/*; do ticks ${state##*/} >/tmp/ticks-${state##*/}; done
sleep 40
after=$(bytes)
written=$(($(written) - ${written:-0}))
for state in /var/lib/*; do
    name=${state##*/}
    pid=$(pid_of $name)
    resident=$(awk '/^VmRSS/ { print $2 }' /proc/$pid/status)
    parts=$(awk '/^(RssAnon|RssShmem|Threads|THP_enabled):/ { print tolower($1), $2 }' /proc/$pid/status | tr '\\n' ' ')
    changed=$(find $state -newer /tmp/idle-since | wc -l)
    echo \"idle $name: resident_kib $resident $parts ticks_of_40_s $(($(ticks $name) - $(cat /tmp/ticks-$name))) files_changed $changed\"
done
echo \"idle card, sectors written in 40 s: $written\"
echo \"idle network, bytes in 40 s: $((after - before))\"
until false; do sleep 60; done
";

/// Two boards that say nothing for now. Where their ttys are is what the machine itself says.
const TWO_BOARDS: &str = r#"{ "boards": {
  "left": { "type": "quiet", "consoles": { "main": { "path": "/dev/ttyUSB0" } } },
  "right": { "type": "quiet", "consoles": { "main": { "path": "/dev/ttyUSB1" } } }
} }
"#;

/// Measures an agent, the guard of its boards and their owners, which are one program, when nothing is to be done.
const IDLE_BENCH: &str = "
processes() { for exe in /proc/[0-9]*/exe; do [ \"$(readlink $exe)\" != /usr/bin/sai-agent ] || echo ${exe%/exe}; done; }
until [ \"$(processes | wc -l)\" = 4 ]; do sleep 1; done
sleep 2
sync
sleep 6
sync
written=$(awk '$3 == \"vda\" { print $10 }' /proc/diskstats)
sleep 40
echo \"bench: sectors written in 40 s $(($(awk '$3 == \"vda\" { print $10 }' /proc/diskstats) - written))\"
for process in $(processes); do
    echo \"bench: $(tr '\\0' ' ' <$process/cmdline | cut -c 1-60): $(awk '/^(Pss|Rss|Pss_Anon|Pss_File):/ { print $1, $2 }' $process/smaps_rollup | tr '\\n' ' ')\"
done
echo \"bench: pss_kib $(for process in $(processes); do cat $process/smaps_rollup; done | awk '/^Pss:/ { sum += $2 } END { print sum }')\"
until false; do sleep 60; done
";

/// Memory of an idle agent with two boards, its guard and their owners, in all processes together, KiB.
const IDLE_BENCH_KIB: u64 = 4_000;

#[test]
fn an_idle_agent_with_two_boards_takes_little_and_writes_nothing() {
    let mut world = World::new("boot-bench");
    world.use_p521_certificate();
    world.set("url", &format!("\"https://10.0.2.2:{}\"", world.port));
    let _master = world.master();
    let program = agent_with_boards("aarch64");
    let line = world.join_line("bench");
    let boards = world.directory.join("boards.json");
    fs::write(&boards, TWO_BOARDS).expect("a file");
    let script = format!(
        "until [ -e /dev/ttyUSB1 ]; do sleep 0.1; done\n\
         sai-agent join '{line}' --name bench --platform linux-board/bench --slots 1 --state /var/lib/bench --only-save\n\
         sed -i 's#\"platforms\": *\\[[^]]*\\]#\"platforms\": [], \"keep_free_mib\": 8, \"boards\": \"/etc/boards.json\"#' /var/lib/bench/agent.json\n\
         sai-agent --state /var/lib/bench 2>&1 </dev/null &\n{IDLE_BENCH}"
    );
    let files = [(program.as_path(), "/usr/bin/sai-agent"), (boards.as_path(), "/etc/boards.json")];
    let machine = boot(&world.directory, Board::Bench(128), &files, &script);
    machine.await_line_for(BOOT, "connected as bench");
    machine.await_line_for(BOOT, "bench: pss_kib");
    for line in machine.said().iter().filter(|line| line.contains("bench: ")) {
        eprintln!("{line}");
    }
    let figure = |what: &str| {
        let line = machine.said().into_iter().find(|line| line.contains(what)).expect("a figure");
        line.split_whitespace().last().and_then(|word| word.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(figure("bench: sectors written"), 0, "an idle agent with boards writes nothing");
    let pss = figure("bench: pss_kib");
    assert!(pss <= IDLE_BENCH_KIB, "{pss} KiB");
}

#[test]
fn a_machine_with_64_mib_boots_joins_and_builds_with_busybox_alone() {
    boots("virtual", Board::Virtual(64), &["aarch64", "armv7"]);
}

#[test]
fn a_raspberry_pi_zero_with_64_mib_boots_joins_and_builds() {
    boots("zero", Board::PiZero(64), &["armv6"]);
}

/// An agent that waits for work sleeps. What is counted is how often it wakes up, which does not depend on how busy the machine
/// is; the time of a processor, several times under emulation what it is on a board, is bounded loosely.
#[test]
fn an_idle_armv7_agent_sleeps() {
    emulate();
    let world = world("armv7", &program("armv7", "sai-agent"));
    let _master = world.master();
    let agent = world.agent("board", &["linux"], 1);
    world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(world.ended_within(BUILD, 1).jobs[0].state, "passed");
    world.tidy(&[world.agent_state("board")]);
    std::thread::sleep(IDLE_SETTLES);
    let (waits, time) = (waits(agent.id()), processor_time(agent.id()));
    std::thread::sleep(IDLE_MEASURED);
    let (waited, took) = (self::waits(agent.id()).saturating_sub(waits), processor_time(agent.id()) - time);
    eprintln!(
        "an idle armv7 agent woke up {waited} times in {IDLE_MEASURED:?} and took {took:?} of a core, under emulation"
    );
    assert!(waited <= IDLE_WAKES, "woke up {waited} times in {IDLE_MEASURED:?}");
    assert!(took <= IDLE_MEASURED / 100, "{took:?} in {IDLE_MEASURED:?}");
}

/// Time until an emulated agent has done once what it does again and again.
const IDLE_SETTLES: Duration = Duration::from_secs(40);
/// Time in which it is measured: longer than it is between two signs of life.
const IDLE_MEASURED: Duration = Duration::from_secs(60);
/// Times that it may wake up in this time, all threads together: two a second. It looks at load and free space six times and
/// answers two or three signs of life, each with a few waits of threads for one another.
const IDLE_WAKES: u64 = 120;

/// The times that the threads of a process have waited for something: proc_pid_status(5).
fn waits(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process that runs").flatten();
    let waits = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|number| number.trim().parse::<u64>().ok()).expect("a number of waits")
    };
    // A thread may end between the list and its reading.
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).map(waits).sum()
}

/// The processor time that a process has used, that of its threads that have ended, too: proc_pid_stat(5).
fn processor_time(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process that runs");
    let (_, fields) = text.rsplit_once(')').expect("a name in brackets");
    let ticks = |at: usize| fields.split_whitespace().nth(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).expect("ticks");
    // All architectures that Linux runs on show it in hundredths of a second.
    Duration::from_millis(10 * ticks)
}

/// The master too is a file for a board: it builds by itself and with an agent, and is killed like any other.
#[test]
fn an_aarch64_master_keeps_what_it_has_built() {
    emulate();
    let program = program(MASTER_TARGET, "sai-master");
    let mut world = world(MASTER_TARGET, &self::program(MASTER_TARGET, "sai-agent"));
    world.set("builtin", "{\"platforms\": [\"linux-own\"], \"slots\": 1}");
    let start = || {
        let mut command = Command::new(&program);
        command.env("QEMU_CPU", "cortex-a53").arg("--config").arg(world.configuration()).stdout(Stdio::null());
        let master = Process::start("an aarch64 master", &mut command);
        master.await_line_for(BUILD, "listening on");
        master
    };
    let mut master = start();
    world.repository.install_hook(&format!("https://127.0.0.1:{}", world.port), "project");
    let _agent = world.agent("board", &["linux-board"], 1);
    let both = |step: &str| {
        format!(
            "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-own\": {{\"build\": \"{step}\"}}, \"linux-board\": {{\"build\": \"{step}\"}}}}, \"configurations\": {{\"default\": {{\"artifacts\": \"sums\"}}}}}}"
        )
    };
    world.repository.write("numbers", "1\n2\n3\n");
    world.repository.push_saifile(&both("sha256sum numbers >sums && echo $SAI_PLATFORM"));
    let event = world.ended_within(BUILD, 1);
    assert_eq!(event.jobs.len(), 2, "{event:?}");
    for job in &event.jobs {
        assert_eq!(job.state, "passed", "{job:?}: {}", String::from_utf8_lossy(&world.log(job.id)));
        assert_eq!(job.artifacts.len(), 1, "{job:?}");
    }
    let logs = [1, 2].map(|job| world.log(job));

    master.kill();
    let _master = start();
    let kept = world.event(1).expect("what was built before");
    assert_eq!([1, 2].map(|job| world.log(job)), logs);
    assert!(kept.jobs.iter().all(|job| job.state == "passed"), "{kept:?}");
    world.repository.push_saifile(&both("echo again"));
    let event = world.ended_within(BUILD, 2);
    assert!(event.jobs.len() == 2 && event.jobs.iter().all(|job| job.state == "passed"), "{event:?}");
}
