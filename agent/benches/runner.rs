//! Figures of the runner against floors measured in the same run: `cargo bench -p sai-agent`.

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use sai_agent::job_directory::{JobDirectory, start};
use sai_agent::mirror::prefetch;
use sai_core::wire::Prefetch;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn many_files(world: &mut World) {
    for number in 0..300 {
        let directory = world.origin().join(format!("d{}", number % 20));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(format!("f{number}")), format!("{number}\n").repeat(200)).unwrap();
    }
    world.revision = world.commit("many");
}

fn shell(world: &World, script: &str) -> Duration {
    let begin = Instant::now();
    let status = Command::new("sh").args(["-ec", script]).current_dir(&world.path).status().unwrap();
    assert!(status.success());
    begin.elapsed()
}

/// Start of a job → first byte of its first step, with the revision in the mirror and with a fetch, against the same done by a
/// shell script.
fn start_to_first_byte() {
    const ROUNDS: usize = 21;
    let mut world = World::new("measure-start");
    many_files(&mut world);
    git(&world.path, &["clone", "-q", "--bare", "origin", "floor.git"]);
    let wanted = |world: &World| Prefetch {
        repository: "group/project".into(),
        url: world.origin().to_string_lossy().into_owned().into(),
        reference: "refs/heads/main".into(),
        revision: world.revision.clone(),
    };
    prefetch(&world.mirrors(), &wanted(&world)).unwrap();
    let (mut ours, mut floor, mut fetching, mut fetching_floor) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let first_byte = |world: &World| {
        let assignment = world.assignment(&["echo x"]);
        let begin = Instant::now();
        let directory = JobDirectory::create(&world.jobs(), &assignment).unwrap();
        start(&directory, &launcher()).unwrap();
        let held = hold(&directory);
        while next(&held).is_some_and(|lengths| lengths[0] == 0 || Log::of(&directory).output.is_empty()) {}
        let time = begin.elapsed();
        gone(&directory);
        assert_eq!(Log::of(&directory).text("stdout"), "x\n");
        time
    };
    for round in 0..ROUNDS {
        ours.push(first_byte(&world));
        let clone = format!("git clone -q --local floor.git f{round}; cd f{round}; bash -ec 'echo x' > ../out");
        floor.push(shell(&world, &clone));
        world.revision = world.commit("more");
        fetching.push(first_byte(&world));
        let fetch = "git -C floor.git fetch -q ../origin +refs/heads/main:refs/heads/main";
        fetching_floor.push(shell(
            &world,
            &format!("{fetch}; git clone -q --local floor.git g{round}; cd g{round}; bash -ec 'echo x' > ../out"),
        ));
    }
    println!("known revision: {:.1} ms, clone --local and step in sh: {:.1} ms", median(ours), median(floor));
    println!("new revision: {:.1} ms, fetch, clone and step in sh: {:.1} ms", median(fetching), median(fetching_floor));
}

/// 169 MB of output into the spool, against the same into a file; and what the supervisor has in memory.
fn throughput() {
    let world = World::new("measure-bytes");
    assert_eq!(world.run(&world.assignment(&["true"])).statuses(), [0]);
    for text in ["seq 1 20000000", "head -c 1000000000 /dev/zero"] {
        let floor = shell(&world, &format!("{text} > floor"));
        let size = std::fs::metadata(world.path.join("floor")).unwrap().len();
        std::fs::remove_file(world.path.join("floor")).unwrap();
        let directory = JobDirectory::create(&world.jobs(), &world.assignment(&[text])).unwrap();
        let mut options = directory.options().unwrap();
        options.spool_bytes = 4 << 30;
        directory.set_options(&options).unwrap();
        let begin = Instant::now();
        start(&directory, &launcher()).unwrap();
        let held = hold(&directory);
        let pid = supervisor_pid(&directory);
        let (mut most, mut ticks) = (String::new(), 0);
        while next(&held).is_some() {
            if let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status"))
                && let Some(line) = status.lines().find(|line| line.starts_with("VmHWM"))
            {
                most = line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
            }
            // User and system time, proc_pid_stat(5), in hundredths of a second.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<u64> = stat.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
            ticks = fields.get(13..15).map_or(0, |times| times.iter().sum()).max(ticks);
        }
        let time = begin.elapsed();
        assert_eq!(Log::of(&directory).on("stdout").len() as u64, size);
        let rate = |time: Duration| size as f64 / 1e6 / time.as_secs_f64();
        println!(
            "{text}: {:.0} MB/s into the spool ({} ms of processor), {:.0} MB/s into a file; supervisor's peak RSS {most}",
            rate(time),
            ticks * 10,
            rate(floor)
        );
    }
}

/// Time from a lone line of a job to its news at the agent.
fn lone_line() {
    let world = World::new("measure-line");
    let step = "mkfifo ../tmp/fifo; exec 3<>../tmp/fifo; echo ready; while read x <&3; do echo $x; done";
    let directory = world.start(&world.assignment(&[step]));
    let held = hold(&directory);
    wait_for(&directory, &held, "ready\n");
    let mut fifo = std::fs::File::create(directory.path().join("work/tmp/fifo")).unwrap();
    let mut times = Vec::new();
    let mut length = directory.lengths().unwrap()[0];
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(5));
        let begin = Instant::now();
        fifo.write_all(b"x\n").unwrap();
        loop {
            let now = next(&held).unwrap()[0];
            if now > length {
                length = now;
                break;
            }
        }
        times.push(begin.elapsed());
    }
    println!("a lone line: {:.3} ms", median(times));
}

/// Many jobs one after the other and six at a time, against the same clones and steps under `xargs -P6`.
fn many_jobs() {
    const JOBS: usize = 200;
    let world = World::new("measure-many");
    git(&world.path, &["clone", "-q", "--bare", "origin", "floor.git"]);
    assert_eq!(world.run(&world.assignment(&["true"])).statuses(), [0]);
    let floor = shell(
        &world,
        &format!("seq {JOBS} | xargs -P6 -I% sh -c 'git clone -q --local floor.git f% && cd f% && bash -ec true'"),
    );
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..JOBS / 6 {
                    let directory = world.start(&world.assignment(&["true"]));
                    gone(&directory);
                    assert!(directory.ended());
                }
            });
        }
    });
    println!(
        "{} jobs: {:.2} s, clones and steps under xargs -P6: {:.2} s",
        JOBS / 6 * 6,
        begin.elapsed().as_secs_f64(),
        floor.as_secs_f64()
    );
    let begin = Instant::now();
    for directory in JobDirectory::scan(&world.jobs()).unwrap() {
        directory.forget().unwrap();
    }
    println!("to forget them: {:.2} s", begin.elapsed().as_secs_f64());
}

fn main() {
    start_to_first_byte();
    throughput();
    lone_line();
    many_jobs();
}
