//! The files of jobs that others need, from the master to `$SAI_NEEDS`, over real agents, links and deaths.

use sai_core::record::{Decoder, Item, Record};
use sai_core::run::GRACE_MS;
use sai_tests::process::eventually;
use sai_tests::proxy::Proxy;
use sai_tests::world::{Event, Job, World};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A saifile whose jobs run what their configurations say as `cmake`, on these platforms.
fn file(platforms: &[&str], configurations: &[(&str, &str, &str, &str)]) -> String {
    let platforms: Vec<String> =
        platforms.iter().map(|name| format!("{name:?}: {{\"build\": \"${{cmake}}\"}}")).collect();
    let configurations: Vec<String> = configurations
        .iter()
        .map(|(name, keys, artifacts, script)| {
            format!("{name:?}: {{{keys} \"artifacts\": {artifacts:?}, \"cmake\": {script:?}}}")
        })
        .collect();
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{{}}}, \"configurations\": {{{}}}}}",
        platforms.join(", "),
        configurations.join(", ")
    )
}

/// The line with which the README installs packages that another job has made.
fn installs() -> String {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("README.md");
    let line = readme.split('`').find(|quoted| quoted.starts_with("dpkg -i $SAI_NEEDS/"));
    line.expect("a line that installs packages").to_string()
}

/// Seven jobs with files: large, empty, executable, many, of odd names, and a package.
fn graph() -> String {
    let lib = "mkdir -p out/many 'out/odd ü'; head -c 50000000 /dev/urandom > out/big; : > out/empty\n\
               for n in $(seq 300); do echo $n > out/many/$n; done\n\
               printf '#!/bin/sh\\necho ran\\n' > out/tool; chmod 755 out/tool; echo odd > 'out/odd ü/a & $(b); \"c\"'\n\
               find out -type f | sort | xargs -d '\\n' sha256sum > sums; mv sums out";
    let check = "cd \"$SAI_NEEDS/lib/linux\"; sha256sum --quiet -c out/sums; ls out/many | wc -l; out/tool\n\
                 test -f out/empty -a ! -s out/empty; find . -type f | wc -l; echo mine > out/empty; rm out/big";
    let package = "mkdir -p build pkg/DEBIAN pkg/usr/share/tls; echo installed > pkg/usr/share/tls/word\n\
                   printf '%s\\n' 'Package: tls' 'Version: 1' 'Architecture: all' 'Maintainer: T <t@example.org>' \
                   'Description: nothing' > pkg/DEBIAN/control; dpkg-deb --root-owner-group --build pkg build/tls.deb >&2";
    // Into a root of its own, by whoever runs the tests.
    let install = format!(
        "export DPKG_ROOT=$PWD/root DPKG_FORCE=not-root,bad-path; mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates\n\
         : > root/var/lib/dpkg/status; {} >&2; cat root/usr/share/tls/word",
        installs()
    );
    file(
        &["linux"],
        &[
            ("tls", "", "build/*.deb", package),
            ("install", "\"needs\": \"tls\",", "", &install),
            ("lib", "", "out/**", lib),
            ("docs", "", "docs.txt", "test -z \"$SAI_NEEDS\"; echo docs > docs.txt"),
            ("tool", "\"needs\": \"lib\",", "tool.txt", &format!("{check}; cd ~-; echo tool > tool.txt")),
            ("test", "\"needs\": \"lib, docs\",", "", &format!("{check}; cat $SAI_NEEDS/docs/linux/docs.txt")),
            (
                "pack",
                "\"needs\": [\"tool\", \"test\"],",
                "",
                "cat $SAI_NEEDS/*/linux/* $SAI_NEEDS/tool/*/*; ls $SAI_NEEDS",
            ),
        ],
    )
}

fn job(event: &Event, name: &str) -> Job {
    event.jobs.iter().find(|job| job.configuration == name).cloned().expect("a job")
}

/// Waits until all jobs of the graph have passed, and looks at what they saw and kept.
fn whole(world: &World) {
    let event = world.ended(1);
    let all = || event.jobs.iter().map(|job| (job.id, String::from_utf8_lossy(&world.log(job.id)).into_owned()));
    assert!(event.jobs.iter().all(|job| job.state == "passed"), "{:?} {:?}", event.jobs, all().collect::<Vec<_>>());
    let said = |name: &str| String::from_utf8_lossy(&world.log(job(&event, name).id)).into_owned();
    assert!(said("install").lines().any(|line| line == "installed"), "{}", said("install"));
    assert_eq!(said("tool"), "300\nran\n305\n");
    assert_eq!(said("test"), "300\nran\n305\ndocs\n");
    assert_eq!(said("pack"), "tool\ntool\ntest\ntool\n");
    // What was needed is nobody's artifact.
    let kept = |name: &str| job(&event, name).artifacts.len();
    assert_eq!((kept("lib"), kept("tool"), kept("test"), kept("pack")), (305, 1, 0, 0));
}

#[test]
fn files_reach_the_jobs_that_need_them_on_agents() {
    let world = World::new("files");
    let _master = world.master();
    let _agents = [world.agent("one", &["linux"], 1), world.agent("two", &["linux"], 1)];
    world.repository.push_saifile(&graph());
    whole(&world);
}

#[test]
fn files_reach_the_jobs_that_need_them_inside_the_master() {
    let mut world = World::new("inside");
    world.set("builtin", "{\"platforms\": [\"linux\"], \"slots\": 2}");
    let _master = world.master();
    world.repository.push_saifile(&graph());
    whole(&world);
    // They are read where they are.
    assert!(!world.state().join("agent/needs").exists());
}

/// The files in an agent's cache, whole or not, with their lengths.
fn cache(world: &World, agent: &str) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(world.agent_state(agent).join("needs")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect()
}

/// One job with a file of this many bytes on `first`, and one on `second` that compares it and waits for a file `go`.
fn pair(world: &World, bytes: u64) -> String {
    let go = world.directory.join("go").display().to_string();
    let make = format!("head -c {bytes} /dev/urandom > big; sha256sum big > sum");
    let look = format!("cd $SAI_NEEDS/lib/first; sha256sum -c sum; while [ ! -e {go} ]; do sleep 0.05; done");
    file(
        &["first", "second"],
        &[
            ("lib", "\"platforms\": \"none, first\",", "big, sum", &make),
            ("use", "\"platforms\": \"none, second\", \"needs\": \"lib\",", "", &look),
        ],
    )
}

#[test]
fn cuts_and_deaths_in_the_middle_of_a_file_lose_nothing() {
    const BYTES: u64 = 40_000_000;
    let mut world = World::new("cuts");
    let proxy = Proxy::start(world.address());
    world.set("url", &format!("\"https://{}\"", proxy.address));
    let mut master = world.master();
    let _one = world.agent("one", &["first"], 1);
    world.repository.push_saifile(&pair(&world, BYTES));
    eventually("the file is made", || world.event(1).filter(|event| job(event, "lib").state == "passed"));
    fs::write(world.directory.join("go"), "").expect("a file");
    // Holds all that goes through the proxy once so much more of the file is there, and tells how much.
    let stopped = |more: u64| {
        let begin = Instant::now();
        let mut largest = 0;
        loop {
            let sizes = cache(&world, "two").into_iter().filter(|(path, _)| path.extension().is_some());
            largest = sizes.map(|(_, length)| length).max().unwrap_or(0).max(largest);
            if largest >= more {
                proxy.stall(true);
                return largest;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{largest} of {more}");
            std::thread::sleep(Duration::from_micros(300));
        }
    };
    proxy.cut_after(6_000_000);
    let mut two = world.agent("two", &["second"], 1);
    let before = stopped(8_000_000);
    assert!(before < BYTES, "it is in the middle");
    two.kill();
    proxy.cut();
    proxy.stall(false);
    two = world.agent_starts("two");
    let then = stopped(before + 4_000_000);
    assert!(then < BYTES, "it is in the middle");
    master.kill();
    proxy.cut();
    proxy.stall(false);
    master = world.master();
    let event = world.ended(1);
    let needy = job(&event, "use");
    assert_eq!((needy.state.as_str(), needy.attempt), ("passed", 1), "{}", needy.cause);
    assert_eq!(world.log(needy.id), b"big: OK\n");
    let notes = world.records(needy.id).notes;
    assert!(!notes.iter().any(|note| note.contains("anew")), "{notes:?}");
    drop((master, two));
}

/// Time after which an agent gives up a connection that stands still; the cancel of a job must not wait for that.
const STALL: Duration = Duration::from_secs(60);

#[test]
fn a_cancel_in_the_middle_of_a_file_ends_its_fetch_at_once_and_leaves_nothing() {
    const PASSED: u64 = 4_000_000;
    let mut world = World::new("cancel");
    let proxy = Proxy::start(world.address());
    world.set("url", &format!("\"https://{}\"", proxy.address));
    let _master = world.master();
    let ann = world.command(&["user", "add", "ann"]);
    let _one = world.agent("one", &["first"], 1);
    let look = "cd $SAI_NEEDS/lib/first; sha256sum -c sum";
    let needy = "\"platforms\": \"none, second\", \"needs\": \"lib\",";
    world.repository.push_saifile(&file(
        &["first", "second"],
        &[
            (
                "lib",
                "\"platforms\": \"none, first\",",
                "big, sum",
                "head -c 20000000 /dev/urandom > big; sha256sum big > sum",
            ),
            ("use", needy, "", look),
            ("also", needy, "", look),
        ],
    ));
    eventually("the file is made", || world.event(1).filter(|event| job(event, "lib").state == "passed"));
    proxy.hold_beyond(PASSED);
    let two = world.agent("two", &["second"], 2);
    // One of them has its turn, and stands still in the middle; the other waits for its own.
    let event = eventually("a file is half here and both wait", || {
        let part = cache(&world, "two")
            .into_iter()
            .any(|(path, length)| path.extension().is_some() && length > PASSED / 2 && length <= PASSED);
        world.event(1).filter(|event| part && ["use", "also"].iter().all(|name| job(event, name).state == "running"))
    });
    let begin = Instant::now();
    for name in ["also", "use"] {
        let (status, body) = world.post(&format!("/api/v1/jobs/{}/cancel", job(&event, name).id), Some(ann.trim()));
        assert_eq!(status, 200, "{body}");
    }
    let event = world.ended(1);
    world.tidy(&[world.agent_state("two")]);
    assert!(begin.elapsed() < STALL, "it took {:?}", begin.elapsed());
    for name in ["use", "also"] {
        let cancelled = job(&event, name);
        assert_eq!((cancelled.state.as_str(), cancelled.attempt), ("cancelled", 1), "{}", cancelled.cause);
        // Nothing had to be killed for it: from the word to the verdict it is but a moment.
        let bytes = world.get(&format!("/job/{}/records", cancelled.id)).expect("its log");
        let mut times = Vec::new();
        let read = Decoder::new().push(&bytes, |item| {
            if let Item::Record(micros, Record::Note(_) | Record::Verdict(_)) = item {
                times.push(micros / 1000);
            }
        });
        read.expect("a log that can be read");
        let last = times.windows(2).next_back().expect("a word and the verdict");
        assert!(last[1] - last[0] < GRACE_MS, "{times:?}");
    }
    // The turn is given back, and what has come is gone on with.
    proxy.hold_beyond(u64::MAX);
    world.command(&["rebuild", "job", &job(&event, "use").id.to_string()]);
    eventually("it is built again", || world.event(1).filter(|event| job(event, "use").attempt == 2));
    let rebuilt = job(&world.ended(1), "use");
    assert_eq!(rebuilt.state, "passed", "{}", rebuilt.cause);
    assert_eq!(world.log(rebuilt.id), b"big: OK\n");
    drop(two);
}

/// The token of an agent.
fn token(world: &World, agent: &str) -> String {
    let text = fs::read_to_string(world.agent_state(agent).join("agent.json")).expect("a configuration");
    let (_, rest) = text.split_once("\"token\":").expect("a token");
    rest.split('"').nth(1).expect("a text").to_string()
}

/// Asks by curl: status, and head and body.
fn curl(world: &World, path: &str, token: Option<&str>, options: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["-ksS", "--path-as-is", "--max-time", "60", "-w", "\n%{http_code}"]).args(options);
    if let Some(token) = token {
        command.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    let output = command.arg(format!("https://127.0.0.1:{}{path}", world.port)).output().expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_string(), body.to_string())
}

#[test]
fn a_file_is_given_to_the_agent_that_holds_the_attempt_and_to_nobody_else() {
    let world = World::new("tokens");
    let _master = world.master();
    let _agents = [world.agent("one", &["first"], 1), world.agent("two", &["second"], 1)];
    let three = world.agent("three", &["none"], 1);
    let gone = token(&world, "three");
    world.command(&["agent", "revoke", "three"]);
    drop(three);
    world.repository.push_saifile(&pair(&world, 1000));
    let event = eventually("the second job runs", || {
        world
            .event(1)
            .filter(|event| job(event, "use").state == "running" && !world.log(job(event, "use").id).is_empty())
    });
    let (made, needy) = (job(&event, "lib"), job(&event, "use"));
    let kept = made.artifacts.iter().find(|kept| kept.path == "sum").expect("a file");
    let (sha256, content) = (&kept.sha256, world.get(&kept.download).expect("it"));
    let content = String::from_utf8(content).expect("text");
    let path = format!("/agent/v1/files/{}/1/{sha256}", needy.id);
    let [one, two] = ["one", "two"].map(|name| token(&world, name));
    let status = |path: &str, token: Option<&str>, options: &[&str]| curl(&world, path, token, options).0;
    assert_eq!(curl(&world, &path, Some(&two), &[]), ("200".to_string(), content.clone()));
    let (status_of_part, part) = curl(&world, &path, Some(&two), &["-i", "-r", "5-"]);
    assert_eq!(status_of_part, "206");
    let part = part.to_ascii_lowercase();
    let range = format!("content-range: bytes 5-{}/{}", content.len() - 1, content.len());
    assert!(part.contains(&range) && part.contains("accept-ranges: bytes") && part.ends_with(&content[5..]), "{part}");
    let head = curl(&world, &path, Some(&two), &["-I"]);
    assert_eq!(head.0, "200");
    assert!(head.1.to_ascii_lowercase().contains(&format!("content-length: {}\r\n", content.len())), "{}", head.1);
    assert_eq!(status(&path, Some(&two), &["-r", "100000-"]), "416");
    assert_eq!(status(&path, Some(&two), &["-d", "x"]), "405");
    // Of what is not for one it is not said whether there is such a thing.
    let nothing = curl(&world, &path, Some(&one), &[]);
    assert_eq!(nothing.0, "404");
    for wrong in [
        format!("/agent/v1/files/{}/1/{}", needy.id, "0".repeat(64)),
        format!("/agent/v1/files/{}/2/{sha256}", needy.id),
        format!("/agent/v1/files/{}/1/{sha256}", made.id),
        format!("/agent/v1/files/999/1/{sha256}"),
        format!("/agent/v1/files/{}/1/../../../../master.json", needy.id),
        format!("/agent/v1/files/{}/1/%2e%2e%2fmaster.json", needy.id),
        format!("/agent/v1/files/{}/1/{sha256}%00", needy.id),
        "/agent/v1/files/".to_string(),
    ] {
        assert_eq!(curl(&world, &wrong, Some(&two), &[]), nothing, "{wrong}");
    }
    for (token, words) in [(None, "Bearer"), (Some(gone.as_str()), "revoked"), (Some("0123"), "nothing")] {
        let (status, said) = curl(&world, &path, token, &[]);
        assert!(status == "401" && said.contains(words), "{status} {said}");
    }
    // Many of them hold nobody up.
    let begun = Instant::now();
    let many = format!("/agent/v1/files/[1-3000]/1/{sha256}");
    let output = Command::new("curl")
        .args(["-ksS", "--max-time", "120", "-o", "/dev/null", "-w", "%{http_code}\n", "-H"])
        .arg(format!("authorization: Bearer {one}"))
        .arg(format!("https://127.0.0.1:{}{many}", world.port))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("curl");
    assert_eq!(status("/healthz", None, &[]), "200");
    let answers = output.wait_with_output().expect("curl");
    let answers = String::from_utf8_lossy(&answers.stdout).into_owned();
    assert_eq!(answers.lines().filter(|line| *line == "404").count(), 3000, "{:?}", begun.elapsed());
    // What is not as it was is told as such, to whoever may know.
    let stream = kept.download.split('/').rev().nth(1).expect("a number");
    let stored = world.state().join(format!("artifacts/{}-1/{stream}", made.id));
    let again = format!("{path}?again");
    assert_eq!(curl(&world, &again, Some(&two), &[]).0, "200");
    fs::write(&stored, content.to_uppercase()).expect("damage");
    let refused = |words: &str| {
        let (status, said) = curl(&world, &again, Some(&two), &[]);
        assert!(status == "410" && said.contains(words), "{status} {said}");
    };
    refused("not what was kept");
    fs::write(&stored, &content[1..]).expect("damage");
    refused("bytes are there of");
    fs::remove_file(&stored).expect("a file");
    refused("was deleted");
    // With the attempt ends what it opens.
    fs::write(world.directory.join("go"), "").expect("a file");
    world.ended(1);
    assert_eq!(curl(&world, &path, Some(&two), &[]), nothing);
}

#[test]
fn what_is_damaged_is_got_anew_or_told_with_whose_fault_it_is() {
    let world = World::new("damage");
    let _master = world.master();
    let _agents = [world.agent("one", &["first"], 1), world.agent("two", &["second"], 1)];
    fs::write(world.directory.join("go"), "").expect("a file");
    world.repository.push_saifile(&pair(&world, 100_000));
    let event = world.ended(1);
    let (made, needy) = (job(&event, "lib"), job(&event, "use"));
    assert_eq!(needy.state, "passed", "{}", needy.cause);
    let big = cache(&world, "two").into_iter().find(|(_, length)| *length == 100_000).expect("it is kept").0;
    let again = |attempt: u32| {
        world.command(&["rebuild", "job", &needy.id.to_string()]);
        eventually("it is built again", || world.event(1).filter(|event| job(event, "use").attempt >= attempt));
        job(&world.ended(1), "use")
    };
    // In the cache: noticed, and fetched once more.
    let mut content = fs::read(&big).expect("a file");
    content[77] ^= 1;
    fs::write(&big, &content).expect("damage");
    let rebuilt = again(2);
    assert_eq!((rebuilt.state.as_str(), rebuilt.attempt), ("passed", 2), "{}", rebuilt.cause);
    let notes = world.records(needy.id).notes;
    assert!(notes.iter().any(|note| note.contains("has not its SHA-256, getting it anew")), "{notes:?}");
    content[77] ^= 1;
    assert!(fs::read(&big).expect("a file") == content);
    // At the master: nothing that an agent could do about it.
    let download = &made.artifacts.iter().find(|kept| kept.path == "big").expect("a file").download;
    let stream = download.split('/').rev().nth(1).expect("a number");
    let kept = world.state().join(format!("artifacts/{}-1/{stream}", made.id));
    fs::remove_file(&big).expect("a file");
    content[78] ^= 1;
    fs::write(&kept, &content).expect("damage");
    let rebuilt = again(3);
    assert_eq!(rebuilt.state, "infra");
    assert!(
        rebuilt.cause.contains("the master has it no more") && rebuilt.cause.contains("not what was kept"),
        "{}",
        rebuilt.cause
    );
}
