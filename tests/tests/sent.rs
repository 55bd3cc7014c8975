//! `sai run`: what nobody has pushed is sent from a laptop, built as an event of its person, and touches nothing of theirs.

use sai_tests::bench::Bench;
use sai_tests::boards::saifile as saifile_of_boards;
use sai_tests::laptop::{Laptop, Way};
use sai_tests::process::eventually;
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::World;
use std::path::Path;
use std::sync::atomic::Ordering;

/// All that there is of a repository, but what git keeps to be quick.
fn state(work: &Path) -> Vec<String> {
    let ask = |words: &[&str]| run(git(work).env("GIT_OPTIONAL_LOCKS", "0").args(words));
    let sum = |name: &str| run(std::process::Command::new("sha256sum").arg(work.join(name)));
    let objects = ask(&["count-objects", "-v"]);
    vec![
        ask(&["for-each-ref"]),
        ask(&["status", "--porcelain"]),
        ask(&["stash", "list"]),
        sum(".git/index"),
        sum(".git/HEAD"),
        objects,
    ]
}

#[test]
fn what_nobody_pushed_is_built_as_an_event_of_its_person_and_touches_nothing_of_theirs() {
    let world = World::new("sent");
    let _master = world.master();
    let _agent = world.agent("one", &["linux"], 1);
    let (laptop, way) = (Laptop::new(&world, "ann"), Way::to(world.address()));
    laptop.log_in(&world, "ann", &["reader", "run@project"], way.port);
    let work = &world.repository.work;
    let sai = |words: &[&str]| {
        let output = laptop.command(words).current_dir(work).output().expect("sai can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    };
    let (status, _, told) = sai(&["run"]);
    assert!(status == 1 && told.contains("there is no commit yet"), "{told}");
    // Nothing was pushed ever: all of the history is sent.
    let steps = ["cat word; ls; git log --format=%s; mkdir out; cp word out; echo $SAI_REF"];
    world
        .repository
        .write(".sai.json", saifile(&steps).replace("\"default\": {}", "\"default\": {\"artifacts\": \"out/*\"}"));
    world.repository.write("word", "first\n");
    world.repository.commit("The first");
    let before = state(work);
    let (status, said, told) = sai(&["run"]);
    assert_eq!(status, 0, "{said}{told}");
    assert!(
        said.contains("\nfirst\n") && said.contains("\nThe first\n") && said.contains("passed\tlinux\tdefault"),
        "{said}"
    );
    assert!(said.contains("refs/heads/_run/ann/main") && told.contains("/event/1"), "{said}{told}");
    assert_eq!(state(work), before);
    // What was pushed is not sent again, and what is not committed is an error that names it.
    world.repository.push();
    eventually("the push is an event", || world.event(2));
    world.ended(2);
    world.repository.write("word", "second\n");
    world.repository.commit("The second");
    world.repository.write("word", "not committed\n");
    world.repository.write("new file", "new\n");
    world.repository.write("--option", "odd\n");
    world.repository.write(".gitignore", "ignored\n");
    world.repository.write("ignored", "ignored\n");
    let before = state(work);
    let (status, _, told) = sai(&["run"]);
    assert!(
        status == 1 && told.contains("not committed: ") && told.contains("word") && told.contains("new file"),
        "{told}"
    );
    assert_eq!(state(work), before);
    let kept = laptop.home.join("kept");
    let (status, said, told) = sai(&["run", "--dirty", "default", "--artifacts", kept.to_str().expect("text")]);
    assert_eq!(status, 0, "{said}{told}");
    assert!(
        said.contains("\nnot committed\n") && said.contains("\nnew file\n") && said.contains("\n--option\n"),
        "{said}"
    );
    assert!(said.contains("\nUncommitted changes\nThe second\nThe first\n") && !said.contains("\nignored\n"), "{said}");
    assert_eq!(state(work), before);
    let event = world.event(3).expect("the event");
    assert_eq!((event.event.source.as_str(), event.event.reference.as_str()), ("run", "refs/heads/_run/ann/main"));
    let file = kept.join(format!("job-{}/out/word", event.jobs[0].id));
    assert_eq!(std::fs::read_to_string(file).expect("the file"), "not committed\n");
    let bundle =
        |event: u64| std::fs::metadata(world.state().join(format!("saifiles/{event}.bundle"))).expect("it is kept");
    assert!(bundle(3).len() < 2000, "{}", bundle(3).len());
    let job =
        String::from_utf8(world.get(&format!("/api/v1/jobs/{}", event.jobs[0].id)).expect("the job")).expect("text");
    assert!(job.contains("\"person\":\"ann\""), "{job}");
    // It is built again of what was kept; and nothing of it is the branch's.
    world.command(&["rebuild", "job", &event.jobs[0].id.to_string()]);
    let again = eventually("it is built again", || {
        world.event(3).filter(|event| event.jobs[0].attempt == 2 && event.jobs[0].ended())
    });
    assert_eq!(again.jobs[0].state, "passed");
    assert_eq!(world.event(2).expect("the push").event.reference, "refs/heads/main");
    // A large one over a way that is cut.
    world.repository.write(
        "large",
        std::fs::read("/proc/self/exe").expect("this program").into_iter().take(6 << 20).collect::<Vec<_>>(),
    );
    way.most.store(20_000, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let cutter = scope.spawn(|| {
            for _ in 0..6 {
                std::thread::sleep(std::time::Duration::from_millis(60));
                way.cut();
            }
            way.most.store(u64::MAX, Ordering::Relaxed);
        });
        let (status, said, told) = sai(&["run", "--dirty"]);
        assert!(status == 0 && said.contains("\nlarge\n"), "{said}{told}");
        cutter.join().expect("it ends");
    });
    // What fails is said by the status, and what cannot be is told.
    world.repository.write(".sai.json", saifile(&["exit 4"]));
    assert_eq!(sai(&["run", "--dirty"]).0, 1);
    let (status, _, told) = sai(&["run", "--dirty", "nothing"]);
    assert!(status == 1 && told.contains("a configuration of this file"), "{told}");
    world.repository.write(".sai.json", "{");
    let (status, _, told) = sai(&["run", "--dirty"]);
    assert!(status == 1 && told.contains(".sai.json:1:"), "{told}");
}

#[test]
fn who_may_not_run_sends_nothing_and_what_is_sent_is_bounded_and_is_what_it_says() {
    let world = World::new("sent-hostile");
    let _master = world.master();
    let _agent = world.agent("one", &["linux"], 1);
    world.repository.push_saifile(&saifile(&["true"]));
    eventually("the push is an event", || world.event(1));
    world.ended(1);
    let builder = Laptop::new(&world, "bob");
    let token = builder.log_in(&world, "bob", &["builder"], world.port);
    world.repository.write("more", "more\n");
    world.repository.commit("More");
    let output = builder.command(&["run"]).current_dir(&world.repository.work).output().expect("sai can be run");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("the right to run what nobody pushed"), "{told}");
    assert!(!world.state().join("uploads").exists());
    let laptop = Laptop::new(&world, "ann");
    let ann = laptop.log_in(&world, "ann", &["reader", "run"], world.port);
    let post = |path: &str, token: &str, body: &[u8]| {
        let file = world.directory.join("body");
        std::fs::write(&file, body).expect("a file");
        let url = format!("https://{}/api/v1/repositories/project/{path}", world.address());
        let mut command = std::process::Command::new("curl");
        command.args([
            "-ksS",
            "--max-time",
            "60",
            "-w",
            "\n%{http_code}",
            "-H",
            &format!("authorization: Bearer {token}"),
        ]);
        let answer = run(command.arg("--data-binary").arg(format!("@{}", file.display())).arg(url));
        let (body, status) = answer.rsplit_once('\n').unwrap_or(("", &answer));
        (status.parse::<u16>().unwrap_or(0), body.to_string())
    };
    let digest = |bytes: &[u8]| sai_agent::pin::fingerprint_text(&sai_agent::digest::sha256(bytes));
    let send = |bytes: &[u8]| {
        let digest = digest(bytes);
        assert_eq!(post(&format!("send/{digest}?size={}&at=0", bytes.len()), &ann, bytes).0, 200);
        digest
    };
    let zero = "0".repeat(64);
    assert_eq!(post(&format!("send/{zero}?size=3&at=0"), &token, b"abc").0, 403);
    assert_eq!(post(&format!("send/{zero}?size=3&at=0"), &ann, b"abc").0, 409);
    assert_eq!(post(&format!("send/{zero}?size=999999999999&at=0"), &ann, b"abc").0, 409);
    assert_eq!(post(&format!("send/{zero}?size=3000000&at=0"), &ann, &vec![0; (1 << 20) + 1]).0, 400);
    assert_eq!(post("send/..%2f..%2fx?size=3&at=0", &ann, b"abc").0, 404);
    let file = send(saifile(&["echo built"]).as_bytes());
    let revision = "a".repeat(40);
    let of = |revision: &str, bundle: &str, size: usize, more: &str| {
        format!("branch=main&revision={revision}&bundle={bundle}&size={size}&saifile={file}{more}").into_bytes()
    };
    let field = |bundle: &str, size: usize, more: &str| of(&revision, bundle, size, more);
    for (body, status) in [
        (field(&zero, 3, ""), 409),
        (field("x", 3, ""), 400),
        (field(&zero, 0, ""), 400),
        (field(&zero, 3, "&base=--upload-pack%3dx&base-ref=refs/heads/main"), 400),
        (field(&zero, 3, &format!("&base={revision}&base-ref=--exec")), 400),
        (
            String::from_utf8(field(&zero, 3, "")).expect("text").replace("branch=main", "branch=-x%20y").into_bytes(),
            400,
        ),
    ] {
        let (found, said) = post("run", &ann, &body);
        assert_eq!(found, status, "{said}");
    }
    // What is no bundle, one without the revision, and one whose beginning is not there: each fails, and says whose fault it is.
    let noise: Vec<u8> = (0..5000u32).map(|n| (n * 7919 % 251) as u8).collect();
    let beside = world.directory.join("beside");
    run(git(&world.directory).args(["clone", "--quiet"]).arg(&world.repository.work).arg(&beside));
    run(git(&beside).args(["bundle", "create", "--quiet", "../bundle", "main"]));
    let other = std::fs::read(world.directory.join("bundle")).expect("a bundle");
    run(git(&beside).args(["bundle", "create", "--quiet", "../thin", "main", "^main~1"]));
    let thin = std::fs::read(world.directory.join("thin")).expect("a bundle");
    let cut = other.get(..other.len() / 2).expect("a half").to_vec();
    // One with a file that git would take for its own, which a checkout would refuse, but nothing else looks at.
    let shell = format!(
        "cd {} && file=$(echo x | git hash-object -w --stdin) && inner=$(printf '100644 blob %s\tconfig\n' $file | git mktree) && \
         tree=$(printf '040000 tree %s\t.git\n' $inner | git mktree) && \
         git update-ref refs/sai/run $(git commit-tree -m x $tree) && git bundle create --quiet ../odd refs/sai/run && \
         git rev-parse refs/sai/run",
        beside.display()
    );
    let identity =
        ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"].map(|key| (key, "a"));
    let odd_revision = run(std::process::Command::new("sh").args(["-c", &shell]).envs(identity));
    let odd = std::fs::read(world.directory.join("odd")).expect("a bundle");
    for (bytes, revision, why) in [
        (noise, &revision, "expected a git bundle of version 2 or 3"),
        (other, &revision, "cannot be checked out of what was sent"),
        (cut, &revision, "what was sent cannot be taken"),
        (thin, &revision, "what was sent cannot be taken"),
        (odd, &odd_revision, "hasDotgit"),
    ] {
        let bundle = send(&bytes);
        let (status, said) = post("run", &ann, &of(revision, &bundle, bytes.len(), ""));
        assert_eq!(status, 200, "{said}");
        let number = said
            .split("started event ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .expect("a number");
        let event = world.ended(number);
        assert!(event.jobs[0].state == "failed" && event.jobs[0].cause.contains(why), "{event:?}");
    }
    // What one has sent is of no use to another.
    let mine = send(b"mine");
    let bob = world.command(&["user", "add", "eve", "reader", "run"]);
    assert_eq!(post("run", &bob, &field(&mine, 4, "")).0, 409);
    world.tidy(&[world.agent_state("one")]);
}

#[test]
fn what_nobody_pushed_is_tried_at_boards_of_a_type_and_ended_by_who_sent_it() {
    let bench = Bench::new("sent-board");
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    bench.await_standing("free");
    let laptop = Laptop::new(world, "ann");
    laptop.log_in(world, "ann", &["reader", "run"], world.port);
    let with_others = saifile_of_boards(&[("PASS", "")]).replacen(
        "\"configurations\": {",
        "\"configurations\": { \"other\": { \"case\": \"PASS\" },",
        1,
    );
    world.repository.write(".sai.json", with_others);
    world.repository.commit("Not pushed");
    let sai = |words: &[&str]| {
        let output = laptop.command(words).current_dir(&world.repository.work).output().expect("sai can be run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    };
    let (status, _, told) = sai(&["run", "--board", "nucleo"]);
    assert!(status == 1 && told.contains("a type of board of this file, found `nucleo`"), "{told}");
    // The board's image is built of what was sent, and its identity is that revision.
    let (status, said, told) = sai(&["run", "--board", "arduino-uno"]);
    assert_eq!(status, 0, "{said}{told}");
    let event = world.ended(1);
    let mut names: Vec<&str> = event.jobs.iter().map(|job| job.configuration.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["PASS", "PASS/board"], "{event:?}");
    assert!(event.jobs.iter().all(|job| job.state == "passed"), "{event:?}");
    // Who has something built may end it, and nothing else.
    world.repository.write(".sai.json", saifile(&["sleep 600"]));
    let follower =
        laptop.command(&["run", "--dirty"]).current_dir(&world.repository.work).spawn().expect("sai can be run");
    let job = eventually("it runs", || world.event(2).filter(|event| event.jobs[0].state == "running")).jobs[0].id;
    let (status, said, told) = laptop.sai(&["cancel", &job.to_string()]);
    assert_eq!((status, said.as_str()), (0, format!("cancelled job {job}\n").as_str()), "{told}");
    assert_eq!(world.ended(2).jobs[0].state, "cancelled");
    let mut follower = follower;
    assert_eq!(follower.wait().expect("it ends").code(), Some(3));
    let (status, _, told) = laptop.sai(&["rebuild", &job.to_string()]);
    assert!(status == 1 && told.contains("this takes a builder of project"), "{told}");
}
