//! Two laptops and a board, each laptop on a network of its own: one queue, in order, and a cable that is out for a minute.

use sai_tests::bench::Bench;
use sai_tests::boards::{at_board, saifile};
use sai_tests::laptop::Laptop;
use sai_tests::network::Network;
use sai_tests::process::{Process, eventually, eventually_within};
use sai_tests::repository::{git, run};
use sai_tests::tty::pty;
use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the cable is out: a laptop that is carried elsewhere.
const GONE: Duration = Duration::from_secs(61);
/// Until a board that is emulated on a busy machine has been flashed and has passed.
const TRIED: Duration = Duration::from_secs(180);

/// A clone of what is pushed, with a commit that is not.
fn unpushed(laptop: &Laptop, bare: &Path) -> PathBuf {
    let place = laptop.home.join("project");
    run(git(&laptop.home).args(["clone", "--quiet"]).arg(bare).arg(&place));
    std::fs::write(place.join("mine"), laptop.home.display().to_string()).expect("a file");
    run(git(&place).args(["add", "mine"]));
    run(git(&place).args(["commit", "--quiet", "--message", "Not pushed"]));
    place
}

#[test]
fn two_laptops_have_a_board_in_turn_and_one_of_them_is_gone_for_a_minute() {
    let network = Network::enter(2);
    let mut bench = Bench::new("network");
    let listen = format!("\"0.0.0.0:{}\"", bench.world.port);
    bench.world.set("listen", &listen);
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    bench.await_standing("free");
    let [ann, bob] = [("ann", 0), ("bob", 1)].map(|(name, number)| Laptop::at(world, name, &network, number));
    for (laptop, name) in [(&ann, "ann"), (&bob, "bob")] {
        let (status, _, told) = laptop.sai_with(&["login", &format!("https://{}", world.address())], "0");
        assert!(status == 3 || status == 2, "a laptop is not where the master is: {told}");
        laptop.log_in(world, name, &["builder", "run"], world.port);
    }
    let address = |number: u8| run(network.command(number, Path::new("ip")).args(["-brief", "address"]));
    assert!(address(0).contains("10.77.0.2") && !address(0).contains("10.77.1."), "{}", address(0));

    // What is pushed is first: the board has a program then.
    world.repository.push_saifile(&saifile(&[("PASS", "")]));
    let event = world.ended_within(TRIED, 1);
    assert!(event.jobs.iter().all(|job| job.state == "passed"), "{event:?}");
    eventually("it is free", || {
        let (status, said, _) = ann.sai(&["board", "list"]);
        (status == 0 && said.contains("\tfree")).then_some(())
    });
    let (status, said, told) = ann.sai(&["board", "lease", "arduino-uno"]);
    assert!(status == 0 && said.starts_with("a/uno-1\t"), "{said}{told}");

    // That is event 2. Both want it for what they have not pushed: Bob, who asks first, and Ann, who has it.
    let project = [&bob, &ann].map(|laptop| (laptop, unpushed(laptop, &world.repository.bare)));
    let mut runs = Vec::new();
    for (number, (laptop, place)) in (3..).zip(&project) {
        let mut command = laptop.command(&["run", "--board", "arduino-uno", "--repository", "project"]);
        runs.push(Process::start("sai run", command.current_dir(place).stdout(Stdio::null())));
        eventually(&format!("event {number} waits for the board"), || {
            let event = world.event(number)?;
            let job = event.jobs.iter().find(|job| job.configuration == "PASS/board")?;
            job.waiting.as_ref().filter(|why| job.state == "queued" && why.contains(" is there")).map(|_| ())
        });
    }

    // A console is open while the cable is out.
    let (mut keys, path) = pty();
    let terminal = || OpenOptions::new().read(true).write(true).open(&path).expect("a terminal");
    let _held = terminal();
    let mut console = ann.command(&["board", "console", "arduino-uno"]);
    let mut console = console.stdin(terminal()).stdout(terminal()).spawn().expect("sai");
    let shown: Arc<Mutex<String>> = Arc::default();
    let (more, mut screen) = (shown.clone(), keys.try_clone().expect("a terminal"));
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            let mut shown = more.lock().unwrap_or_else(PoisonError::into_inner);
            shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    });
    let shows = |text: &str| shown.lock().unwrap_or_else(PoisonError::into_inner).matches(text).count();
    // Its program asks once after each reset.
    let mut answers = |name: &str| {
        let before = shows("login: ");
        let (status, _, told) = ann.sai(&["board", "play", "arduino-uno", "reset"]);
        assert_eq!(status, 0, "{told}");
        eventually("the board asks", || (shows("login: ") > before).then_some(()));
        keys.write_all(name.as_bytes()).expect("keys");
        eventually("the board answers", || (shows(format!("hello {name}").trim_end()) >= 1).then_some(()));
    };
    answers("ann\n");
    network.pull(0, true);
    let begun = Instant::now();
    let (status, _, told) = bob.sai(&["board", "send", "a/uno-1", "bob\\n"]);
    assert!(status == 1 && told.contains("you have no such board"), "{told}");
    let (status, _, told) = ann.sai(&["board", "list"]);
    assert_eq!(status, 3, "her cable is out: {told}");
    let (status, _, told) = ann.sai(&["board", "list"]);
    assert!(status == 3 && told.contains("nothing came for 10 s"), "her cable is out: {told}");
    std::thread::sleep(GONE.saturating_sub(begun.elapsed()));
    let standing = bench.standing();
    assert_eq!(standing, "job 3 is there", "it is hers");
    network.pull(0, false);
    eventually_within(TRIED, "the master hears of it again", || {
        let (status, said, _) = ann.sai(&["board", "list"]);
        (status == 0 && said.contains("a/uno-1")).then_some(())
    });

    assert_eq!(console.try_wait().expect("it can be asked"), None, "it waits for its way");
    answers("again\n");
    keys.write_all(b"\x1d").expect("keys");
    assert!(console.wait().expect("it ends").success());
    assert_eq!((shows("hello ann"), shows("hello again")), (1, 1), "each once");

    // Its turns: a job of Bob's, and one of Ann's.
    assert_eq!(ann.sai(&["board", "release", "arduino-uno"]).0, 0);
    let mut order = Vec::new();
    eventually_within(TRIED, "both were there", || {
        for number in [3, 4] {
            let event = world.event(number)?;
            let state = at_board(&event, "PASS").state.clone();
            if state != "queued" && !order.contains(&number) {
                order.push(number);
            }
        }
        (order.len() == 2).then_some(())
    });
    assert_eq!(order, [3, 4]);
    for (number, mut run) in (3..).zip(runs) {
        let event = world.ended_within(TRIED, number);
        assert!(event.jobs.iter().all(|job| job.state == "passed"), "{event:?}");
        assert_eq!(run.wait().code(), Some(0), "{:?}", run.said());
    }
    world.tidy(&[world.agent_state("a")]);
}
