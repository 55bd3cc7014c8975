//! `sai` at a laptop, against a real master: logins, logs that are followed over breaks, files, cancels and rebuilds.

use sai_tests::laptop::{Laptop, Way, fingerprint};
use sai_tests::process::eventually;
use sai_tests::repository::saifile;
use sai_tests::world::World;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A master with one agent, and a push that is built by these steps, with these files kept.
fn world(name: &str, steps: &[&str], artifacts: &str) -> World {
    let mut world = World::new(name);
    world.set("public", "false");
    let text = saifile(steps).replace("\"default\": {}", &format!("\"default\": {{\"artifacts\": {artifacts:?}}}"));
    world.repository.write(".sai.json", text);
    world
}

/// The number of the first job, once it is there.
fn first_job(laptop: &Laptop) -> String {
    eventually("a job is there", || {
        let (status, said, _) = laptop.sai(&["status", "--json"]);
        let job = said.split_once("\"job\":").and_then(|(_, rest)| rest.split(',').next());
        (status == 0).then(|| job.map(ToString::to_string)).flatten()
    })
}

#[test]
fn a_login_is_proven_before_it_is_kept_and_another_certificate_is_told_of() {
    let mut world = world("login", &["true"], "none");
    let mut master = world.master();
    let laptop = Laptop::new(&world, "ann");
    let (url, pin) = (format!("https://127.0.0.1:{}", world.port), fingerprint(&world));
    let file = laptop.home.join("config/sai/login.json");
    let token = world.command(&["user", "add", "ann"]);
    for words in [&["status"][..], &["log", "1"], &["get", "1"], &["cancel", "1"], &["rebuild", "1"]] {
        let (status, said, told) = laptop.sai(words);
        assert_eq!((status, said.as_str()), (2, ""), "{told}");
        assert!(told.contains("nobody is logged in here: sai login https://"), "{told}");
    }
    // Nobody vouches for it, and nothing is shown to it.
    let (status, _, told) = laptop.sai_with(&["login", &url], &token);
    assert!(status == 3 && told.contains(&format!("say --fingerprint {pin}")) && !file.exists(), "{told}");
    let wrong = "0".repeat(64);
    let (status, _, told) = laptop.sai_with(&["login", &url, "--fingerprint", &wrong], &token);
    assert!(status == 3 && told.contains(&pin) && told.contains("is pinned") && !file.exists(), "{told}");
    let (status, _, told) = laptop.sai_with(&["login", &url, "--fingerprint", &pin], &"f".repeat(48));
    assert!(status == 3 && told.contains("nobody's") && told.contains("nothing was saved") && !file.exists(), "{told}");
    let (status, _, told) = laptop.sai_with(&["login", &url, "--fingerprint", &pin], "short");
    assert!(status == 2 && told.contains("expected a token") && !told.contains("short") && !file.exists(), "{told}");
    let (status, said, told) = laptop.sai_with(&["login", &url, "--fingerprint", &pin], &format!("{token}\n"));
    assert_eq!((status, said), (0, format!("logged in to {url} as ann (builder)\n")), "{told}");
    assert_eq!(std::fs::metadata(&file).expect("a login").permissions().mode() & 0o777, 0o600);
    let (status, said, _) = laptop.sai(&["status"]);
    assert!(status == 0 && said.contains("nothing runs, and nothing waits"), "{said}");
    let (_, said, _) = laptop.sai_with(&["login", &url, "--json"], &token);
    assert!(said.contains("\"person\":\"ann\",\"powers\":[\"builder\"]") && said.contains(&pin), "{said}");
    // What was pinned holds, whoever is there now, also for another login.
    master.kill();
    world.use_p521_certificate();
    let _master = world.master();
    let other = fingerprint(&world);
    assert_ne!(other, pin);
    let before = std::fs::read(&file).expect("a login");
    for (status, _, told) in [laptop.sai(&["status"]), laptop.sai_with(&["login", &url], &token)] {
        assert!(
            status == 3 && told.contains(&other) && told.contains(&pin) && told.contains("somebody is in between"),
            "{told}"
        );
    }
    assert_eq!(std::fs::read(&file).expect("a login"), before);
    let (status, _, told) = laptop.sai_with(&["login", &url, "--fingerprint", &other], &token);
    assert_eq!(status, 0, "{told}");
    // A token that was revoked, and a login that is gone.
    world.command(&["user", "revoke", "ann"]);
    let (status, _, told) = laptop.sai(&["status"]);
    assert!(status == 3 && told.contains("sai login again"), "{told}");
    assert_eq!(laptop.sai(&["logout"]).0, 0);
    assert!(!file.exists() && laptop.sai(&["logout"]).1.contains("nobody was logged in"));
}

#[test]
fn a_log_is_followed_over_breaks_without_a_byte_twice_or_missing() {
    let steps = ["i=0; while [ $i -lt 400 ]; do i=$((i+1)); printf 'line %s \\351\\n' $i; sleep 0.02; done; exit 3"];
    let world = world("follow", &steps, "none");
    let mut master = world.master();
    let _agent = world.agent("one", &["linux"], 1);
    let (laptop, way) = (Laptop::new(&world, "ann"), Way::to(world.address()));
    laptop.log_in(&world, "ann", &["builder"], way.port);
    world.repository.commit("Print for a while");
    world.repository.push();
    let job = first_job(&laptop);
    let (status, said, _) = laptop.sai(&["status"]);
    assert!(status == 0 && said.contains(&format!("job {job}\tproject main\tdefault\tlinux\tof A U Thor")), "{said}");
    assert!(said.contains("agent\tone\t"), "{said}");
    let start = |words: &[&str]| {
        let mut command = laptop.command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sai can be run")
    };
    let followers = [
        start(&["log", "-f", &job, "--raw"]),
        start(&["log", "--follow", &job]),
        start(&["log", "-f", "--json", &job]),
    ];
    for round in 0..12 {
        std::thread::sleep(Duration::from_millis(500));
        way.cut();
        // Connections that end after a few hundred bytes, in whatever they bring.
        way.most.store(if round % 2 == 0 { 3000 } else { u64::MAX }, Ordering::Relaxed);
        if round == 5 {
            master.kill();
            master = world.master();
        }
    }
    way.most.store(u64::MAX, Ordering::Relaxed);
    let lines: Vec<u8> = (1..=400).flat_map(|i| [format!("line {i} ").as_bytes(), b"\xe9\n"].concat()).collect();
    let outputs = followers.map(|child| child.wait_with_output().expect("sai ends"));
    let told = |index: usize| String::from_utf8_lossy(&outputs[index].stderr).into_owned();
    assert!(outputs[0].stdout == lines, "{}\n{}", String::from_utf8_lossy(&outputs[0].stdout), told(0));
    assert!(told(0).contains("failed\tlinux\tdefault\t"), "{}", told(0));
    let people = [b"\xe2\x94\x80\xe2\x94\x80 step 1: ".as_slice(), steps[0].as_bytes(), b"\n", &lines].concat();
    let printed = outputs[1].stdout.windows(people.len()).any(|part| part == people);
    let said = String::from_utf8_lossy(&outputs[1].stdout).into_owned();
    assert!(printed && said.contains("── step 1 ended with status 3\n"), "{said}");
    assert!(
        said.lines().last().is_some_and(|line| line.starts_with("failed\tlinux\tdefault\t") && line.contains(": ")),
        "{said}"
    );
    let json = String::from_utf8_lossy(&outputs[2].stdout).into_owned();
    assert!(
        json.lines().last().is_some_and(|line| line.contains("\"what\":\"verdict\"") && line.contains("\"failed\"")),
        "{json}"
    );
    assert!(outputs.iter().all(|output| output.status.code() == Some(1)));
    assert!(way.count.load(Ordering::Relaxed) > 10);
    // Once it has ended it is read in one go, by who has the right, and of an attempt that there was.
    let (status, said, _) = laptop.sai(&["log", &job, "--attempt", "1"]);
    assert!(status == 1 && said.contains("line 400 "), "{said}");
    let (status, _, told) = laptop.sai(&["log", "99999"]);
    assert!(status == 1 && told.contains("no such record"), "{told}");
    for words in [
        &["log"][..],
        &["log", "x"],
        &["log", &job, "2"],
        &["log", &job, "--raw", "--json"],
        &["log", "--nonsense", &job],
    ] {
        let (status, _, told) = laptop.sai(words);
        assert!(status == 2 && told.contains("see sai log --help"), "{told}");
    }
}

#[test]
fn files_are_compared_and_go_on_where_they_were_cut_and_jobs_are_ended_and_begun_again() {
    let steps = [
        "mkdir -p out/deep; head -c 3000000 /dev/urandom >out/large; echo 'echo hello' >out/deep/run; chmod +x out/deep/run",
        "[ -e stay ] && sleep 600; true",
    ];
    let world = world("get", &steps, "out/**");
    let _master = world.master();
    let _agent = world.agent("one", &["linux"], 1);
    let (laptop, way) = (Laptop::new(&world, "ann"), Way::to(world.address()));
    laptop.log_in(&world, "ann", &["builder"], way.port);
    let reader = Laptop::new(&world, "rea");
    reader.log_in(&world, "rea", &["reader"], way.port);
    world.repository.commit("Make files");
    world.repository.push();
    let job = first_job(&laptop);
    assert_eq!(laptop.sai(&["log", "-f", &job]).0, 0);
    // Each connection brings a part: 3 MB in pieces of 700 KB.
    way.most.store(700_000, Ordering::Relaxed);
    let (status, said, told) = laptop.sai(&["get", &job]);
    assert_eq!(status, 0, "{said}{told}");
    way.most.store(u64::MAX, Ordering::Relaxed);
    let place = laptop.home.join(format!("job-{job}"));
    let mut names: Vec<&str> = said.lines().collect();
    names.sort_unstable();
    assert_eq!(names, [format!("job-{job}/out/deep/run"), format!("job-{job}/out/large")]);
    assert_eq!(std::fs::metadata(place.join("out/large")).expect("a file").len(), 3_000_000);
    assert_eq!(std::fs::metadata(place.join("out/deep/run")).expect("a file").permissions().mode() & 0o111, 0o111);
    assert!(!walk(&place).iter().any(|name| name.contains(".part")), "{:?}", walk(&place));
    // What is there stays, what differs is replaced only by who says so.
    let (status, said, _) = laptop.sai(&["get", &job, "--json", "out/large"]);
    assert!(status == 0 && said.contains("\"kept\":true"), "{said}");
    std::fs::write(place.join("out/large"), "mine").expect("a file");
    let (status, _, told) = laptop.sai(&["get", &job, "out/l*"]);
    assert!(status == 1 && told.contains("--force replaces it"), "{told}");
    // A beginning that is not this file's is found out by the digest, and fetched anew.
    let (_, said, _) = laptop.sai(&["get", &job, "--json", "--force", "out/deep/*"]);
    let large = world.directory.join("elsewhere");
    let sha256 = laptop.sai(&["get", &job, "out/large", "--to", "first", "--json"]).1;
    let sha256 =
        sha256.split("\"sha256\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a digest").to_string();
    std::fs::create_dir_all(large.join("out")).expect("a directory");
    std::fs::write(large.join(format!("out/.sai-{sha256}.part")), vec![7; 1_000_000]).expect("a part");
    let (status, _, told) = laptop.sai(&["get", &job, "out/large", "--to", large.to_str().expect("text")]);
    assert!(status == 0 && told.contains("came damaged"), "{said}{told}");
    assert!(std::fs::read(large.join("out/large")).ok() == std::fs::read(laptop.home.join("first/out/large")).ok());
    let (status, _, told) = laptop.sai(&["get", &job, "nothing"]);
    assert!(status == 1 && told.contains("has no file nothing"), "{told}");
    // Who may not is told so.
    let (status, _, told) = reader.sai(&["rebuild", &job]);
    assert!(status == 1 && told.contains("this takes a builder"), "{told}");
    let (status, said, told) = laptop.sai(&["rebuild", &job]);
    assert_eq!((status, said), (0, format!("rebuilt job {job}\n")), "{told}");
    let (status, said, _) = laptop.sai(&["log", "-f", &job]);
    assert!(status == 0 && said.contains("passed\tlinux"), "{said}");
    let (status, _, told) = laptop.sai(&["cancel", &job]);
    assert!(status == 1 && told.contains("queued or running"), "{told}");
    world.repository.write("stay", "");
    world.repository.commit("Stay");
    world.repository.push();
    let job = first_job(&laptop);
    eventually("it runs", || laptop.sai(&["log", &job]).1.contains("step 2").then_some(()));
    assert_eq!(reader.sai(&["cancel", &job]).0, 1);
    let (status, said, told) = laptop.sai(&["cancel", &job, "--json"]);
    assert!(status == 0 && said.contains("\"done\":\"cancelled job"), "{said}{told}");
    let (status, said, _) = laptop.sai(&["log", "-f", &job]);
    assert!(status == 3 && said.contains("cancelled\tlinux") && said.contains("cancelled by ann"), "{said}");
}

/// The names of all files below a directory.
fn walk(directory: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        match entry.path() {
            path if path.is_dir() => names.extend(walk(&path)),
            path => names.push(path.display().to_string()),
        }
    }
    names
}
