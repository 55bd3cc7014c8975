//! What whoever pushes gets to see, whatever he pushes: an address, or why there is none.

use sai_tests::process::eventually;
use sai_tests::repository::{git, run, saifile};
use sai_tests::steady::steadily;
use sai_tests::world::World;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

const PLATFORM: &str = "linux-test-1/x86_64/gcc";
/// Longest that an answer takes which nothing is waited for, on a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);
/// A hook waits for an answer for a few seconds, of which a machine that stands still for as long takes too many.
const PAUSE: Duration = Duration::from_millis(300);

/// Pushes, and returns what the terminal shows of it.
fn push(world: &World, refspecs: &[&OsStr]) -> String {
    let mut command = git(&world.repository.work);
    let output = command.args(["push", "--force", "origin"]).args(refspecs).output().expect("git can be run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// The lines of Sai in it, as git shows them.
fn remote(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.strip_prefix("remote: sai: ")).map(str::trim).collect()
}

fn main_branch() -> [&'static OsStr; 1] {
    [OsStr::new("HEAD:refs/heads/main")]
}

#[test]
fn a_push_is_told_where_it_is_shown_whatever_its_branches_are_called() {
    steadily(PAUSE, told_where_it_is_shown);
}

fn told_where_it_is_shown() {
    let world = World::new("told");
    let _master = world.master();
    let _agent = world.agent("shed", &[PLATFORM], 2);
    world.repository.write(".sai.json", saifile(&["printf %s \"$SAI_REF\" | od -An -tx1 | tr -d ' \\n'"]));
    world.repository.commit("one");
    let address = |id: u64| format!("https://127.0.0.1:{}/event/{id}", world.port);
    let begin = Instant::now();
    assert_eq!(remote(&push(&world, &main_branch())), [address(1)]);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    // Of several branches each is told, whatever its name: an option, no UTF-8, what a shell or a page would take for its own.
    let names: [(&[u8], &str); 6] = [
        (b"-dash2", "-dash2"),
        (b"caf\xe9", "caf\\xe9"),
        (b"@", "@"),
        ("ä/ö".as_bytes(), "ä/ö"),
        (b"$(touch${IFS}x);'\"<b>&", "$(touch${IFS}x);'\"<b>&"),
        ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
    ];
    let refspecs: Vec<Vec<u8>> = names.iter().map(|(name, _)| [b"HEAD:refs/heads/", *name].concat()).collect();
    let refspecs: Vec<&OsStr> = refspecs.iter().map(|name| OsStr::from_bytes(name)).collect();
    let said = push(&world, &refspecs);
    let mut told = remote(&said);
    told.sort_unstable();
    assert_eq!(told, (2..8).map(address).collect::<Vec<_>>(), "{said}");
    for id in 2..8 {
        let event = world.ended(id);
        let (name, _) = names
            .iter()
            .find(|(_, shown)| event.event.reference == format!("refs/heads/{shown}"))
            .unwrap_or_else(|| panic!("{event:?}"));
        let whole = [b"refs/heads/", *name].concat();
        let digits: String = whole.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(event.jobs[0].state, "passed", "{event:?}");
        assert_eq!(String::from_utf8_lossy(world.records(event.jobs[0].id).channel("stdout")), digits, "{event:?}");
        world.page(&format!("/event/{id}"));
    }
    // The same once more: it is known.
    world.repository.write("more", "");
    world.repository.commit("two");
    let first = push(&world, &main_branch());
    assert_eq!(remote(&first), [address(8)]);

    // A name that is not there, and what is refused for one branch, are told, and the other branches are poked for.
    run(git(&world.repository.bare).args(["config", "sai.repository", "projekt"]));
    world.repository.commit("three");
    let said = push(&world, &main_branch());
    assert!(said.contains("no such repository") && said.contains("status 404"), "{said}");
    run(git(&world.repository.bare).args(["config", "sai.repository", "project"]));
    run(git(&world.repository.work).args(["commit", "-q", "--allow-empty", "-m", "four"]));
    let long = format!("HEAD:refs/heads/{}", vec!["l".repeat(200); 19].join("/"));
    let said = push(&world, &[OsStr::new("HEAD:refs/heads/a"), OsStr::new(&long), OsStr::new("HEAD:refs/heads/z")]);
    assert!(remote(&said).iter().filter(|line| line.starts_with("https://")).count() >= 2, "{said}");
}

#[test]
fn a_branch_that_cannot_be_built_holds_up_no_other_of_its_push() {
    steadily(PAUSE, one_that_cannot_be_built);
}

fn one_that_cannot_be_built() {
    let world = World::new("one-bad");
    let _master = world.master();
    let _agent = world.agent("shed", &[PLATFORM], 2);
    let commit = |branch: &str, saifile: &[u8]| {
        run(git(&world.repository.work).args(["checkout", "-q", "-B", branch]));
        world.repository.write(".sai.json", saifile);
        world.repository.commit(branch);
    };
    let good = saifile(&["echo built"]);
    commit("main", good.as_bytes());
    push(&world, &main_branch());
    world.ended(1);
    // Each is wrong in a way of its own, and a good one stands before, between and behind them.
    let bad: [(&str, &[u8], &str); 4] = [
        ("b-broken", b"{ \"schema\": \"sai-1\",", ".sai.json:1:"),
        ("d-unknown", br#"{"schema": "sai-9", "platforms": {}, "configurations": {}}"#, "sai-1"),
        ("f-binary", b"\xff\xfe\x00", ".sai.json:1:"),
        ("h-huge", &[b' '; 3 << 20], "bytes"),
    ];
    let mut refspecs = Vec::new();
    for branch in ["a-good", "c-good", "e-good", "g-good", "i-good"] {
        commit(branch, good.as_bytes());
        refspecs.push(format!("{branch}:refs/heads/{branch}"));
    }
    for (branch, saifile, _) in bad {
        commit(branch, saifile);
        refspecs.push(format!("{branch}:refs/heads/{branch}"));
    }
    refspecs.sort_unstable();
    // And one whose name is as long as git takes it, and three times as long in the hook's address.
    let long = format!("a-good:refs/heads/bb/{}-good", vec!["\u{e4}".repeat(100); 18].join("/"));
    refspecs.insert(2, long);
    let refspecs: Vec<&OsStr> = refspecs.iter().map(OsStr::new).collect();
    let said = push(&world, &refspecs);
    let shown: Vec<String> = (2..=11).map(|id| format!("https://127.0.0.1:{}/event/{id}", world.port)).collect();
    let mut told = remote(&said);
    told.sort_unstable_by_key(|line| (line.len(), *line));
    assert_eq!(told, shown, "{said}");
    for id in 2..=11 {
        let event = world.ended(id);
        let branch = event.event.reference.trim_start_matches("refs/heads/").to_string();
        match bad.iter().find(|(name, ..)| *name == branch) {
            Some((_, _, why)) => {
                assert_eq!((event.event.state.as_str(), event.jobs.len()), ("invalid", 0), "{event:?}");
                assert!(event.event.errors.iter().any(|error| error.contains(why)), "{why}: {event:?}");
            }
            None => {
                assert!(branch.ends_with("-good"), "{event:?}");
                assert_eq!(
                    (event.event.state.as_str(), event.jobs[0].state.as_str()),
                    ("passed", "passed"),
                    "{event:?}"
                );
            }
        }
    }
    assert_eq!(world.events().len(), 11);
}

#[test]
fn a_branch_without_a_saifile_is_silent() {
    steadily(PAUSE, one_without_a_saifile);
}

fn one_without_a_saifile() {
    let world = World::new("silent");
    let _master = world.master();
    world.repository.write("README", "nothing to build\n");
    world.repository.commit("none");
    let said = push(&world, &main_branch());
    assert!(!said.contains("remote:"), "{said}");
    let state = String::from_utf8(world.get("/api/v1/repositories").expect("an answer")).expect("text");
    assert!(state.contains("in order; refs/heads/main has no .sai.json"), "{state}");
    assert_eq!(world.events().len(), 0);
    world.repository.write(".sai.json", saifile(&["true"]));
    world.repository.commit("some");
    assert_eq!(remote(&push(&world, &main_branch())).len(), 1);
    assert_eq!(world.events().len(), 1);
}

#[test]
fn twelve_quick_pushes_are_twelve_events() {
    let world = World::new("quick");
    let mut master = world.master();
    let hook = world.repository.bare.join("hooks/post-receive");
    world.repository.write(".sai.json", saifile(&["true"]));
    world.repository.commit("first");
    push(&world, &main_branch());
    // Hooks that do not wait, as those of other servers: the look comes when all has been pushed.
    let port = world.port;
    let script = format!(
        "#!/bin/sh\nread -r _ new reference\ncurl -ksSG -o /dev/null --data-urlencode \"ref=$reference\" \
         --data-urlencode \"rev=$new\" --data wait=0 https://127.0.0.1:{port}/hook/project\n"
    );
    fs::write(&hook, script).expect("a hook");
    let mut revisions = Vec::new();
    for number in 0..12 {
        // The last four are pushed over each other.
        let amend: &[&str] = if number > 8 { &["--amend"] } else { &[] };
        let message = format!("quick {number}");
        run(git(&world.repository.work).args(["commit", "-q", "--allow-empty", "-m", &message]).args(amend));
        revisions.push(run(git(&world.repository.work).args(["rev-parse", "HEAD"])));
        push(&world, &main_branch());
    }
    eventually("all are there", || (world.events().len() >= 13).then_some(()));
    let events = world.events();
    for revision in &revisions {
        let of: Vec<_> = events.iter().filter(|event| event.revision == *revision).collect();
        assert_eq!(of.len(), 1, "{revision}: {events:?}");
        let superseded = of[0].warnings.iter().any(|line| line.contains("superseded by"));
        let built = world.event(of[0].id).expect("an event").jobs.len() == 1;
        assert!(superseded != built, "{of:?}");
    }
    assert!(world.event(13).expect("an event").jobs.len() == 1, "the last one is built");
    // A stranger who names what is there and was not pushed now gets nothing of it.
    let old = run(git(&world.repository.work).args(["rev-parse", "HEAD~3"]));
    let made = run(git(&world.repository.work).args(["rev-parse", "HEAD^{tree}"]));
    for revision in [old.as_str(), made.as_str(), &"1".repeat(40)] {
        world.get(&format!("/hook/project?ref=refs/heads/main&rev={revision}"));
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.events().len(), 13);
    master.kill();
    let said = master.said().join("\n");
    assert!(said.contains("was not pushed there just now"), "{said}");
}

#[test]
fn a_repository_that_is_away_is_in_the_log_once_and_on_the_list() {
    steadily(PAUSE, one_that_is_away);
}

fn one_that_is_away() {
    let mut world = World::new("away-once");
    world.set("repositories", &format!("{{\"project\": {{\"url\": {:?}, \"poll_s\": 1}}}}", world.repository.bare));
    let hidden = world.directory.join("hidden.git");
    fs::rename(&world.repository.bare, &hidden).expect("it goes away");
    let mut command = Command::new(sai_tests::process::program("sai-master"));
    command.arg("--config").arg(world.configuration()).stdout(std::process::Stdio::null());
    let master = sai_tests::process::Process::start("master", &mut command);
    master.await_line("repository project: unreachable");
    eventually("it is tried again", || {
        let state = String::from_utf8(world.get("/api/v1/repositories")?).ok()?;
        state.contains("after 3 tries").then_some(())
    });
    let page = world.page("/");
    assert!(page.contains("callout failed") && page.contains("unreachable for"), "{page}");
    // A push is told at once; only its hook can reach the master here.
    let begin = Instant::now();
    let answer = String::from_utf8(
        world.get(&format!("/hook/project?ref=refs/heads/main&rev={}", "1".repeat(40))).expect("an answer"),
    );
    assert!(answer.expect("text").contains("cannot reach the repository now"));
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    fs::rename(&hidden, &world.repository.bare).expect("it comes back");
    master.await_line("repository project: can be reached again");
    assert!(!world.page("/").contains("callout failed"));
    let said = master.said();
    assert_eq!(said.iter().filter(|line| line.contains("unreachable")).count(), 1, "{said:?}");
}

#[test]
fn thirty_thousand_branches_are_looked_at_and_one_of_them_is_built() {
    steadily(PAUSE, thirty_thousand_branches);
}

fn thirty_thousand_branches() {
    let world = World::new("thirty-thousand");
    world.repository.write(".sai.json", saifile(&["true"]));
    let revision = world.repository.commit("first");
    run(git(&world.repository.work).args(["push", "-q", "origin", "HEAD:refs/heads/main"]));
    let lines: String = (0..30_000).map(|number| format!("{revision} refs/heads/b{number:05}\n")).collect();
    fs::write(world.repository.bare.join("packed-refs"), lines).expect("branches");
    let _master = world.master();
    run(git(&world.repository.work).args(["commit", "-q", "--allow-empty", "-m", "more"]));
    let begin = Instant::now();
    push(&world, &main_branch());
    eventually("the first look", || world.event(1));
    let first = begin.elapsed();
    run(git(&world.repository.work).args(["commit", "-q", "--allow-empty", "-m", "again"]));
    let begin = Instant::now();
    let said = push(&world, &[OsStr::new("HEAD:refs/heads/b12345")]);
    assert_eq!(remote(&said), [format!("https://127.0.0.1:{}/event/2", world.port)], "{said}");
    let second = begin.elapsed();
    eprintln!("30 000 branches: first look {first:?}, a push {second:?}");
    assert!(first < SOON && second < SOON, "{first:?} {second:?}");
}
