//! What leads people from a page to what they look for: at the forge, and in what has been built before.

use super::memory::Log;
use super::memory::{event, job};
use super::{KEY, body, header, hex, text, world};
use sai_core::forge_page::{ForgePage, Kind};
use sai_core::job::{JobKey, JobState};
use sai_core::ledger::EventRecord;
use sai_core::record::{Artifact, ChannelStart, Record};
use sai_master::http::Body;
use sai_master::live::LiveRepository;
use sai_master::page::library::now;
use std::fs;
use std::io::Read as _;
use std::process::Command;

#[test]
fn commits_branches_and_what_changed_are_linked_at_the_forge() {
    let world = world(true);
    let page = |address: &str| text(world.get(address));
    assert!(!page("/event/1").contains("https://"));
    let revision = |id| event(id, "hello", "", 0).revision;
    world.memory.change(|held| {
        for (id, branch) in [(2, "main"), (3, "topic/<x>"), (4, "main")] {
            let reference = format!("refs/heads/{branch}");
            held.events.insert(id, EventRecord { reference, ..event(id, "hello", "Later", now()) });
        }
    });
    let forge = ForgePage::new(Some(Kind::GitHub), Some("https://forge.example/a/hello"), "");
    let repository = LiveRepository { name: "hello".to_string(), forge, ..LiveRepository::default() };
    world.library.live.write().unwrap().repositories.push(repository);
    let at = |rest: &str| {
        format!(
            "<a class=\"forge\" href=\"https://forge.example/a/hello/{rest}\" rel=\"noopener noreferrer nofollow\">"
        )
    };
    let last = page("/event/4");
    for link in [
        at(&format!("commit/{}", revision(4))),
        at("tree/main"),
        at(&format!("compare/{}...{}", revision(2), revision(4))),
    ] {
        assert!(last.contains(&link), "{link}: {last}");
    }
    // The first of a branch changes nothing that is known.
    let first = page("/event/3");
    assert!(first.contains(&at("tree/topic/%3Cx%3E")) && !first.contains("/compare/"), "{first}");
    assert!(page("/").contains(&at(&format!("commit/{}", revision(1)))));
    assert!(page("/job/1000").contains(&at(&format!("commit/{}", revision(1)))));
    let api = page("/api/v1/events/3");
    assert!(api.contains("\"ref_page\":\"https://forge.example/a/hello/tree/topic/%3Cx%3E\""), "{api}");
    assert_eq!(header(&world.get("/event/4"), "referrer-policy"), Some("same-origin"));
}

#[test]
fn files_of_a_job_are_had_as_a_tar_that_real_tar_unpacks() {
    let world = world(true);
    let place = std::env::temp_dir().join(format!("sai-page-tar-{}", std::process::id()));
    fs::create_dir_all(place.join("unpacked")).unwrap();
    let long = format!("out/deep/{}/ünïcode <x>.txt", "directory/".repeat(20).trim_end_matches('/'));
    let names = ["out/a.bin", "out/-rf", &long, "log.txt", "empty"];
    let content = |index: usize| if index == 4 { Vec::new() } else { vec![index as u8; 511 + index] };
    for (index, name) in names.iter().enumerate() {
        let (path, stream) = (place.join(index.to_string()), index as u16 + 1);
        fs::write(&path, content(index)).unwrap();
        let sha256 = hex(&content(index));
        let size = content(index).len() as u64;
        let artifact = Artifact { stream, path: (*name).to_string(), size, sha256, executable: index == 0 };
        world.memory.change(|held| {
            held.files.insert((KEY, stream), path);
            held.jobs.get_mut(&1000).unwrap().artifacts.push(artifact);
        });
    }
    let page = text(world.get("/job/1000"));
    for link in ["/job/1000/1/artifacts.tar", "/job/1000/1/artifacts.tar?folder=out"] {
        assert!(page.contains(&format!("href=\"{link}\" download")), "{link}: {page}");
    }
    let whole = world.get("/job/1000/1/artifacts.tar");
    assert_eq!(header(&whole, "content-disposition").unwrap().split(';').nth(1), Some(" filename=\"job-1000-1.tar\""));
    assert!(header(&whole, "content-security-policy").unwrap().starts_with("sandbox;"));
    fs::write(place.join("all.tar"), body(whole)).unwrap();
    let unpack =
        Command::new("tar").arg("-xf").arg(place.join("all.tar")).arg("-C").arg(place.join("unpacked")).output();
    let unpack = unpack.unwrap();
    assert!(unpack.status.success() && unpack.stderr.is_empty(), "{}", String::from_utf8_lossy(&unpack.stderr));
    for (index, name) in names.iter().enumerate() {
        assert!(fs::read(place.join("unpacked").join(name)).unwrap() == content(index), "{name}");
    }
    fs::write(place.join("out.tar"), body(world.get("/job/1000/artifacts.tar?folder=out"))).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(place.join("out.tar")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 3);
    for gone in ["/job/1000/artifacts.tar?folder=ou", "/job/1001/artifacts.tar", "/job/9/artifacts.tar"] {
        assert_eq!(world.get(gone).status, 404, "{gone}");
    }
    // One of them is not what was kept: nobody gets a whole tar with it.
    fs::write(place.join("3"), vec![9; 514]).unwrap();
    let Body::Reader { mut reader, .. } = world.get("/job/1000/1/artifacts.tar").body else {
        panic!("a body that is read")
    };
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn events_are_found_by_what_an_address_says_and_looking_goes_on_where_it_stopped() {
    let world = world(true);
    world.memory.change(|held| {
        for id in 2..=30_000 {
            let branch = if id == 3 { "refs/heads/rare" } else { "refs/heads/main" };
            let found = event(id, if id % 2 == 0 { "hello" } else { "other" }, "Something", now());
            held.events.insert(id, EventRecord { reference: branch.to_string(), ..found });
        }
    });
    let ids = |address: &str| {
        let page = text(world.get(address));
        let next =
            page.split("rel=\"next\"").next().unwrap().rsplit("href=\"").next().unwrap().split('"').next().unwrap();
        let next = page.contains("rel=\"next\"").then(|| next.replace("&amp;", "&"));
        let ids = page.split("<article id=\"event-").skip(1).map(|rest| rest.split('"').next().unwrap().to_string());
        (ids.collect::<Vec<_>>(), next)
    };
    assert_eq!(ids("/?q=say+ann").0, Vec::<String>::new(), "it is too far back to be looked at on the first page");
    let (none, next) = ids("/?branch=rare");
    assert!(none.is_empty() && text(world.get("/?branch=rare")).contains("among those looked through so far"));
    assert_eq!(next.as_deref(), Some("/?branch=rare&before=10001"));
    assert_eq!(ids(&next.unwrap()), (vec!["3".to_string()], None));
    assert_eq!(ids("/?repository=other&branch=rare").0, ["3"], "only those of the repository are looked through");
    assert_eq!(ids("/?repository=hello&configuration=c1&state=failed").0, ["1"]);
    assert_eq!(ids("/?repository=hello&configuration=c1&state=passed").0, Vec::<String>::new());
    assert_eq!(ids("/?repository=hello&state=failing&platform=linux").0, Vec::<String>::new());
    assert_eq!(ids("/?repository=hello&state=failing").0, ["1"]);
    let revision = event(7, "", "", 0).revision;
    assert_eq!(ids(&format!("/?revision={revision}&before=100")).0, ["7"]);
    let first = ids("/?repository=hello");
    assert_eq!((first.0.len(), first.1.as_deref()), (20, Some("/?repository=hello&before=29962")));
    let api = text(world.get("/api/v1/events?branch=rare&before=10000"));
    assert!(api.contains("\"id\":3,") && api.ends_with("\"before\":null}"), "{api}");
    // What is typed is kept, as text; the page of a branch has its picture.
    let page = text(world.get("/?repository=hello&branch=%3Cscript%3E%22x"));
    assert!(
        page.contains("value=\"&lt;script&gt;&quot;x\"") && page.contains("/latest/hello/%3Cscript%3E%22x/badge.svg")
    );
}

#[test]
fn a_configuration_has_a_history_with_its_durations_and_neighbours() {
    let world = world(true);
    world.memory.change(|held| {
        for id in 2..=150 {
            let branch = if id % 2 == 0 { "refs/heads/main" } else { "refs/heads/topic" };
            let event = event(id, "hello", &format!("Change <{id}>"), now());
            for (index, platform, configuration) in
                [(0, "linux", "default"), (1, "linux", "debug"), (2, "bsd", "default")]
            {
                let state = if id % 3 == 0 { JobState::Failed } else { JobState::Passed };
                let job = job(&event, index, platform, configuration, state);
                held.jobs.insert(job.id, job);
            }
            held.events.insert(id, EventRecord { jobs: 3, reference: branch.to_string(), ..event });
        }
    });
    let address = "/history?repository=hello&branch=main&configuration=default&platform=linux";
    let page = text(world.get(address));
    assert_eq!(page.matches("<td class=\"what\">").count(), 75);
    assert!(page.contains("50 of 75 passed") && page.contains("Change &lt;150&gt;") && !page.contains("&lt;149&gt;"));
    assert!(page.contains("href=\"/job/148000\">Last passed"), "{page}");
    assert_eq!(page.matches("class=\"chip ").count(), 2, "debug here, and default on bsd");
    assert!(page.contains("configuration=default&amp;platform=bsd\"") && page.contains("<svg class=\"plot\""));
    let all = text(world.get("/history?repository=hello&configuration=default&platform=linux"));
    assert!(
        all.contains("/history?repository=hello&amp;configuration=default&amp;platform=linux&amp;before=51\""),
        "{all}"
    );
    let job = text(world.get("/job/150000"));
    let from_job = "/history?repository=hello&amp;branch=main&amp;configuration=default&amp;platform=linux\">History";
    assert!(job.contains(from_job), "{job}");
    assert_eq!(world.get("/history?repository=hello").status, 400);
    assert!(text(world.get(&format!("{address}x"))).contains("No such jobs."));
}

#[test]
fn test_cases_are_read_from_files_and_output_and_say_since_when_they_fail() {
    let world = world(true);
    let place = std::env::temp_dir().join(format!("sai-page-cases-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    let file = |name: &str, content: &str| {
        fs::write(place.join(name), content).unwrap();
        let (path, size, sha256) = (format!("out/{name}"), content.len() as u64, hex(content.as_bytes()));
        (place.join(name), Artifact { stream: 1, path, size, sha256, executable: false })
    };
    let junit = |result: &str| {
        format!(
            "<testsuites><testsuite name='s'><testcase name='good' time='0.5'/><testcase name='b&lt;i>d'>{result}</testcase></testsuite></testsuites>"
        )
    };
    let bad = junit("<failure message='&lt;script>alert(1)&lt;/script>'>at <![CDATA[<b>]]></failure>");
    let files = [
        file("2.xml", &junit("")),
        file("3.xml", &bad),
        file("4.XML", &bad),
        file("5.xml", "<project><testsuites/>nothing of tests"),
        file("6.tap", "TAP version 13\n1..2\nok 1 - one\nnot ok 2 - two\n"),
        file("7.xml", "<testsuite><testcase name='a'><"),
    ];
    world.memory.change(|held| {
        for (id, (path, artifact)) in (2..).zip(files) {
            let event = EventRecord { jobs: 1, ..event(id, "hello", &format!("Change {id}"), now()) };
            let mut job = job(&event, 0, "linux", "default", JobState::Failed);
            let key = JobKey { job: job.id, attempt: 1 };
            let log = Log::default();
            log.add(0, &Record::Channel(1, ChannelStart { name: "stdout".to_string() }));
            if id == 5 {
                let printed = b"1/2 Test #1: fast .... Passed 0.01 sec\n2/2 Test #2: slow ....***Failed 1.00 sec\n";
                log.add(1000, &Record::Data(1, printed.to_vec()));
            }
            held.logs.insert(key, log);
            held.files.insert((key, 1), path);
            // What else a job leaves, however much, hides no test of those before.
            let (path, sha256) = ("out/image.bin".to_string(), "0".repeat(64));
            let image = Artifact { stream: 2, path, size: 1 << 40, sha256, executable: false };
            (job.attempt, job.artifacts) = (1, vec![artifact, image]);
            held.jobs.insert(job.id, job);
            held.events.insert(id, event);
        }
    });
    let job = text(world.get("/job/4000"));
    assert!(job.contains("1 of 2 failed") && job.contains("/job/4000/1/tests?name=s.b%3Ci%3Ed"), "{job}");
    let page = text(world.get("/job/4000/tests"));
    assert_eq!(page.matches("<script").count(), 1, "only our own");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\nat &lt;b&gt;</bdi></pre>"), "{page}");
    assert!(page.contains("<a href=\"/job/3000\"><bdi>Change 3</bdi></a>") && page.contains(">0.5 s<"), "{page}");
    assert!(page.find("s.b&lt;i&gt;d").unwrap() < page.find("s.good").unwrap(), "what failed comes first");
    let found = text(world.get("/job/4000/tests?q=GOOD"));
    assert!(
        found.contains("s.good") && !found.contains("s.b&lt;i&gt;d") && found.contains("value=\"GOOD\""),
        "{found}"
    );
    assert!(text(world.get("/job/4000/tests?q=%3Cscript%3E")).contains("No such tests."));
    assert!(text(world.get("/job/4000/tests?from=1")).contains("rel=\"prev\""));
    let one = text(world.get("/job/4000/1/tests?name=s.b%3Ci%3Ed"));
    let states = one.split("<tbody>").nth(1).unwrap();
    assert_eq!((states.matches("badge failed").count(), states.matches("badge passed").count()), (2, 1), "{one}");
    assert!(text(world.get("/job/4000/tests?name=other")).contains("not there"));
    assert!(
        text(world.get("/api/v1/jobs/3000/tests"))
            .contains("\"name\":\"s.good\",\"state\":\"passed\",\"duration_ms\":500")
    );
    // Of CTest the output is read, and of TAP files and broken ones what can be.
    assert!(text(world.get("/job/5000/tests")).contains("slow"));
    assert!(text(world.get("/api/v1/jobs/6000/tests")).contains("\"name\":\"two\",\"state\":\"failed\""));
    assert!(text(world.get("/job/7000")).contains("out/7.xml: byte "));
    assert!(text(world.get("/job/1001/tests")).contains("No tests are known of this attempt"));
    assert_eq!(world.get("/job/9999/tests").status, 404);
    fs::remove_dir_all(place).unwrap();
}
