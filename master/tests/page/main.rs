//! Requests and viewers against a library: most of them with an archive in memory, whose every moment a test can choose.

mod audit;
mod board;
mod finding;
mod kept;
mod live;
mod many;
mod memory;
mod openapi;
mod roles;
mod teaching;

use memory::{Log, Memory, event, job, user};
use sai_core::job::{Fault, JobKey, JobState, Outcome, Verdict};
use sai_core::ledger::{AgentRecord, EventRecord};
use sai_core::record::{Artifact, ChannelStart, Record};
use sai_master::action::Done;
use sai_master::http::{Body, Request, Response};
use sai_master::live::{Changes, Live, LiveAgent};
use sai_master::page::first_error::Remembered;
use sai_master::page::library::{Act, Library, now};
use sai_master::page::route::Action;
use sai_master::page::{may_view, respond};
use sai_master::sessions::Sessions;
use std::io::Read;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

const KEY: JobKey = JobKey { job: 1000, attempt: 1 };
/// Longest that anything takes on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    memory: Memory,
    library: Arc<Library>,
    done: Arc<Mutex<Vec<String>>>,
    log: Log,
}

fn world(public: bool) -> World {
    let memory = Memory::default();
    let log = Log::default();
    log.add(0, &Record::Channel(1, ChannelStart { name: "stdout".to_string() }));
    log.add(1000, &Record::Data(1, b"one\ntwo <b>\n".to_vec()));
    memory.change(|held| {
        let event = event(1, "hello", "Say hello", now() - 60_000);
        for (index, state) in [JobState::Running, JobState::Failed, JobState::Queued].into_iter().enumerate() {
            let job = job(&event, index as u64, "linux/x86_64/gcc", &format!("c{index}"), state);
            held.jobs.insert(job.id, job);
        }
        held.events.insert(1, sai_core::ledger::EventRecord { jobs: 3, ..event });
        held.users.push(user("ann", "ann's token"));
        held.logs.insert(KEY, log.clone());
    });
    let done = Arc::new(Mutex::new(Vec::new()));
    let record = done.clone();
    let act: Act = Box::new(move |action, who| {
        record.lock().unwrap().push(format!("{who} {action:?}"));
        match action {
            Action::CancelJob(1001) => Err("job 1001 has ended".to_string()),
            Action::Lease(_) => Ok(Done { text: "asked for it".to_string(), job: Some(7) }),
            _ => Ok("join <line>".to_string().into()),
        }
    });
    let library = Library {
        archive: Box::new(memory.clone()),
        live: Arc::new(RwLock::new(Live::default())),
        changes: Arc::new(Changes::new()),
        sessions: Sessions::new(),
        prefix: Default::default(),
        sums: sai_master::page::sums::Sums::default(),
        rooms: Arc::default(),
        act,
        public,
        first_errors: Remembered::default(),
        known_cases: Default::default(),
    };
    World { memory, library: Arc::new(library), done, log }
}

impl World {
    fn ask(&self, method: &str, address: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let request = Request {
            method: method.to_string(),
            path: path.to_string(),
            query: query.to_string(),
            headers,
            body: body.as_bytes().to_vec(),
            peer: "::1".to_string(),
        };
        respond(&self.library, &request)
    }

    fn get(&self, address: &str) -> Response {
        self.ask("GET", address, &[], "")
    }

    /// Signs in as a browser does and gives the cookie.
    fn sign_in(&self) -> String {
        let response = self.ask("POST", "/sign-in", OURS, "to=%2Fevent%2F1&token=ann%27s+token");
        assert_eq!((response.status, header(&response, "location")), (303, Some("/event/1")));
        let cookie = header(&response, "set-cookie").unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; Secure; SameSite=Strict; Max-Age=43200"), "{cookie}");
        cookie.split(';').next().unwrap().to_string()
    }
}

const OURS: &[(&str, &str)] = &[("host", "ci.example"), ("origin", "https://ci.example")];

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let mut all = response.headers.iter().filter(|(key, _)| *key == name);
    let first = all.next().map(|(_, value)| value.as_str());
    assert!(all.next().is_none(), "two headers {name}");
    first
}

fn body(response: Response) -> Vec<u8> {
    match response.body {
        Body::Bytes(bytes) => bytes,
        Body::Reader { reader, length } => {
            let mut bytes = Vec::new();
            reader.take(length).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, length);
            bytes
        }
        Body::File { file, offset, length } => {
            use std::os::unix::fs::FileExt as _;
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, offset).unwrap();
            bytes
        }
    }
}

fn text(response: Response) -> String {
    String::from_utf8(body(response)).unwrap()
}

#[test]
fn every_page_answers_with_a_strict_policy() {
    let world = world(true);
    for address in ["/", "/?repository=hello", "/event/1", "/job/1000", "/job/1002", "/agents", "/sign-in", "/nothing"]
    {
        let response = world.get(address);
        assert_eq!(response.status, if address == "/nothing" { 404 } else { 200 }, "{address}");
        let policy = header(&response, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
        assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
        let page = text(response);
        assert!(page.starts_with("<!doctype html><html lang=\"en\">") && page.ends_with("</html>"), "{address}");
        for forbidden in [" style=", " onclick", "<style", "http://", "https://", "javascript:"] {
            assert!(!page.contains(forbidden), "{address}: {forbidden}");
        }
    }
    assert!(text(world.get("/job/1000")).contains("two &lt;b&gt;"));
    assert_eq!(text(world.get("/healthz")), "ok\n");
    assert!(text(world.get("/robots.txt")).contains("Disallow: /"));
    assert_eq!(world.ask("DELETE", "/job/1000", &[], "").status, 405);
    assert_eq!(world.get("/job/1000/2").status, 404);
}

#[test]
fn assets_last_as_long_as_their_address() {
    let world = world(true);
    let page = text(world.get("/job/1000"));
    assert!(!text(world.get("/")).contains("palette.css"), "logs alone have colours of their own");
    for name in ["page.css", "palette.css", "live.js", "icon.svg"] {
        let at = page.find(&format!("/assets/{name}?v=")).unwrap();
        let address = page[at..].split('"').next().unwrap();
        let response = world.get(address);
        assert_eq!(header(&response, "cache-control"), Some("public, max-age=31536000, immutable"), "{address}");
        assert_eq!(header(&world.get(&format!("/assets/{name}?v=other")), "cache-control"), Some("no-cache"));
    }
    assert_eq!(world.get("/assets/other").status, 404);
}

#[test]
fn raw_text_and_records_are_exact() {
    let world = world(true);
    let response = world.get("/job/1000/log");
    assert_eq!(header(&response, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&response, "content-security-policy").unwrap().split(';').next(), Some("sandbox"));
    assert_eq!(body(response), b"one\ntwo <b>\n");
    assert_eq!(body(world.get("/api/v1/jobs/1000/log?from=4")), b"two <b>\n");
    assert_eq!(body(world.get("/api/v1/jobs/1000/log?from=400")), b"");
    assert_eq!(body(world.get("/job/1000/1/records")), *world.log.0.lock().unwrap());
    assert_eq!(world.get("/job/1002/log").status, 404);
}

fn hex(content: &[u8]) -> String {
    sai_agent::digest::sha256(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn artifacts_are_only_ever_saved() {
    let world = world(true);
    let path = std::env::temp_dir().join(format!("sai-page-test-{}", std::process::id()));
    std::fs::write(&path, "<script>alert(1)</script>").unwrap();
    world.memory.change(|held| {
        held.files.insert((KEY, 1), path.clone());
        let artifact = Artifact {
            stream: 1,
            path: "out/é\"; x=.html".to_string(),
            size: 25,
            sha256: hex(b"<script>alert(1)</script>"),
            executable: false,
        };
        held.jobs.get_mut(&1000).unwrap().artifacts.push(artifact);
    });
    let response = world.get("/job/1000/artifact/1/anything.html");
    assert_eq!(header(&response, "content-type"), Some("application/octet-stream"));
    let disposition = "attachment; filename=\"____x_.html\"; filename*=UTF-8''%C3%A9%22%3B%20x%3D.html";
    assert_eq!(header(&response, "content-disposition"), Some(disposition));
    assert!(header(&response, "content-security-policy").unwrap().starts_with("sandbox;"));
    let ranged = world.ask("GET", "/job/1000/1/artifact/1/x", &[("range", "bytes=1-6")], "");
    assert_eq!((ranged.status, header(&ranged, "content-range")), (206, Some("bytes 1-6/25")));
    assert_eq!(body(ranged), b"script");
    assert_eq!(world.get("/job/1000/artifact/2/x").status, 404);
    // Its digest is not the one on record, so nobody gets all of it, or a part; nor of one that is shorter than it was.
    std::fs::write(&path, "<script>alert(2)</script>").unwrap();
    assert_eq!(world.ask("GET", "/job/1000/1/artifact/1/x", &[("range", "bytes=1-6")], "").status, 500);
    let mut all = Vec::new();
    let whole = world.get("/job/1000/artifact/1/x").body;
    let Body::Reader { mut reader, length: 25 } = whole else { panic!("a body that is compared") };
    assert!(std::io::Read::read_to_end(&mut reader, &mut all).is_err());
    std::fs::write(&path, "<script>").unwrap();
    let cut = world.get("/job/1000/artifact/1/x");
    assert_eq!(cut.status, 500);
    assert!(text(cut).contains("it is damaged: 8 bytes are there of 25"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_is_shown_of_artifacts_has_no_rights() {
    let world = world(true);
    let path = std::env::temp_dir().join(format!("sai-page-shown-{}", std::process::id()));
    std::fs::write(&path, "<script>alert(1)</script>").unwrap();
    let names = ["a.html", "b.TXT", "c.svg", "d.png", "e.exe", "f"];
    world.memory.change(|held| {
        for (stream, name) in (1..).zip(names) {
            held.files.insert((KEY, stream), path.clone());
            let path = format!("out/{name}");
            let artifact = Artifact { stream, path, size: 25, sha256: "ab".repeat(32), executable: false };
            held.jobs.get_mut(&1000).unwrap().artifacts.push(artifact);
        }
    });
    let kinds = ["text/html; charset=utf-8", "text/plain; charset=utf-8", "image/svg+xml", "image/png"];
    for (stream, kind) in (1..).zip(kinds) {
        let response = world.get(&format!("/job/1000/1/view/{stream}/x"));
        assert_eq!((response.status, header(&response, "content-type")), (200, Some(kind)));
        let policy = header(&response, "content-security-policy").unwrap();
        assert!(policy.starts_with("sandbox; default-src 'none';") && !policy.contains("script"), "{policy}");
        assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
    }
    for stream in [5, 6, 7] {
        assert_eq!(world.get(&format!("/job/1000/1/view/{stream}/x")).status, 404);
    }
    let page = text(world.get("/job/1000"));
    assert!(page.contains("href=\"/job/1000/1/view/1/a.html\"") && !page.contains("/view/5/"), "{page}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_branch_has_addresses_that_stay() {
    let world = world(true);
    world.memory.change(|held| {
        let other = EventRecord { reference: "refs/heads/topic/<x>".to_string(), ..event(2, "hello", "Other", now()) };
        held.events.insert(2, EventRecord { jobs: 1, ..other.clone() });
        let mut job = job(&other, 0, "linux/x86_64/gcc", "default", JobState::Passed);
        let path = "out/x.deb".to_string();
        job.artifacts.push(Artifact { stream: 1, path, size: 4, sha256: "ab".repeat(32), executable: false });
        held.jobs.insert(job.id, job);
    });
    let to = |address: &str| header(&world.get(address), "location").map(str::to_string);
    assert_eq!(to("/latest/hello/main").as_deref(), Some("/event/1"));
    assert_eq!(to("/latest/hello/topic%2F%3Cx%3E").as_deref(), Some("/event/2"));
    assert_eq!(world.get("/latest/hello/nothing").status, 404);
    assert_eq!(world.get("/latest/other/main").status, 404);
    let file = "/latest/hello/topic%2F%3Cx%3E/artifact/default/linux/out%2Fx.deb";
    assert_eq!(to(file).as_deref(), Some("/job/2000/1/artifact/1/x.deb"));
    assert_eq!(world.get(&file.replace("default", "debug")).status, 404);
    let badge = world.get("/latest/hello/topic%2F%3Cx%3E/badge.svg");
    assert_eq!(header(&badge, "content-type"), Some("image/svg+xml"));
    assert_eq!(header(&badge, "cross-origin-resource-policy"), Some("cross-origin"));
    let badge = text(badge);
    assert!(badge.starts_with("<svg xmlns=") && badge.contains("<title>topic/&lt;x&gt;: passed</title>"), "{badge}");
    // What has not ended yet says nothing; a branch of which nothing is known has a badge too.
    assert!(text(world.get("/latest/hello/main/badge.svg")).contains("main: unknown"));
    let private = self::world(false);
    assert_eq!(private.get("/latest/hello/main/badge.svg").status, 303, "not for strangers");
}

#[test]
fn events_can_be_read_as_a_feed_and_figures_be_scraped() {
    let world = world(true);
    world.memory.change(|held| held.events.get_mut(&1).unwrap().subject = "Say <hello> & more".to_string());
    let feed = world.get("/feed.atom?repository=hello");
    assert_eq!(header(&feed, "content-type"), Some("application/atom+xml; charset=utf-8"));
    let feed = text(feed);
    assert!(feed.contains("<title>failing: Say &lt;hello&gt; &amp; more</title>"), "{feed}");
    assert!(feed.contains("<link href=\"/event/1\"></link>") && feed.ends_with("</entry></feed>"));
    assert!(!text(world.get("/feed.atom?repository=other")).contains("<entry>"));
    let metrics = text(world.get("/metrics"));
    assert!(metrics.contains("# TYPE sai_agents gauge\nsai_agents 0\n") && metrics.ends_with("# EOF\n"), "{metrics}");
}

#[test]
fn a_log_that_is_shorter_than_it_was_is_not_shown_as_whole() {
    let world = world(true);
    let length = world.log.0.lock().unwrap().len() as u64;
    for (recorded, status) in [(length, 200), (length + 1, 500)] {
        world.memory.change(|held| {
            let job = held.jobs.get_mut(&1000).unwrap();
            (job.state, job.log_bytes) = (JobState::Passed, recorded);
        });
        for address in ["/job/1000", "/job/1000/log", "/job/1000/records", "/api/v1/jobs/1000/log"] {
            let response = world.get(address);
            assert_eq!(response.status, status, "{address}");
            if status == 500 {
                let page = text(response);
                assert!(page.contains("The log is damaged"), "{address}: {page}");
            }
        }
    }
}

#[test]
fn only_the_signed_in_act_and_only_from_our_pages() {
    let world = world(true);
    let cookie = world.sign_in();
    let cookie = cookie.as_str();
    let cases: [(&[(&str, &str)], u16); 6] = [
        (&[], 401),
        (OURS, 401),
        (&[("cookie", cookie)], 403),
        (&[("cookie", cookie), ("host", "ci.example"), ("origin", "https://evil.example")], 403),
        (&[("cookie", cookie), ("sec-fetch-site", "cross-site")], 403),
        (&[("authorization", "Bearer wrong")], 401),
    ];
    for (headers, status) in cases {
        for address in ["/job/1000/cancel", "/event/1/rebuild", "/api/v1/jobs/1000/cancel", "/agents/add"] {
            let response = world.ask("POST", address, headers, "name=rock");
            assert_eq!(response.status, status, "{address} {headers:?}");
        }
    }
    assert!(world.done.lock().unwrap().is_empty());
    let ours = [OURS, &[("cookie", cookie)]].concat();
    let response = world.ask("POST", "/job/1000/cancel", &ours, "");
    assert_eq!((response.status, header(&response, "location")), (303, Some("/job/1000")));
    assert_eq!(world.ask("POST", "/job/1001/cancel", &ours, "").status, 409);
    let token = [("authorization", "bearer ann's token")];
    assert_eq!(
        text(world.ask("POST", "/api/v1/events/1/rebuild", &token, "")),
        "{\"done\":\"join <line>\",\"job\":null}"
    );
    assert_eq!(text(world.ask("POST", "/api/v1/jobs/1001/cancel", &token, "")), "{\"error\":\"job 1001 has ended\"}");
    // Which jobs is said by the address, or by the form; both mean the same.
    let some = world.ask("POST", "/event/1/rebuild", &ours, "platform=&configuration=c%201");
    assert_eq!((some.status, header(&some, "location")), (303, Some("/event/1")));
    world.ask("POST", "/api/v1/events/1/rebuild?state=wrong", &token, "");
    // What is misspelt would mean all of them.
    assert_eq!(world.ask("POST", "/api/v1/events/1/rebuild?platfrom=c", &token, "").status, 400);
    // Programs get no pages, also where there is nothing.
    for (method, address) in
        [("GET", "/api/v1/jobs/x"), ("POST", "/api/v1/jobs/-1/cancel"), ("GET", "/api/v1/jobs/1/cancel")]
    {
        let refused = world.ask(method, address, &token, "");
        assert_eq!(header(&refused, "content-type"), Some("application/json"), "{address}");
        assert!([404, 405].contains(&refused.status) && text(refused).starts_with("{\"error\":\""), "{address}");
    }
    assert_eq!(world.ask("POST", "/event/1/rebuild", &ours, "config=c").status, 400);
    let done = std::mem::take(&mut *world.done.lock().unwrap());
    assert!(done[4].contains("configuration: Some(\"c 1\")") && done[5].contains("state: Some(\"wrong\")"), "{done:?}");
    *world.done.lock().unwrap() = done[..4].to_vec();
    let response = world.ask("POST", "/agents/add", &ours, "name=rock-5");
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    assert!(text(response).contains("<pre class=\"answer\">join &lt;line&gt;</pre>"));
    assert_eq!(world.ask("POST", "/agents/add", &ours, "name=..%2Fx").status, 400);
    let wanted = [
        "ann CancelJob(1000)",
        "ann CancelJob(1001)",
        "ann RebuildEvent(1, Choice { platform: None, configuration: None, state: None })",
        "ann CancelJob(1001)",
        "ann AgentAdd([\"rock-5\"])",
    ];
    assert_eq!(*world.done.lock().unwrap(), wanted);
    let page = text(world.ask("GET", "/event/1", &ours, ""));
    assert!(page.contains("action=\"/event/1/cancel\"") && page.contains("<summary>Cancel</summary>"));
    assert_eq!(world.ask("POST", "/sign-out", &ours, "").status, 303);
    assert_eq!(world.ask("POST", "/job/1000/cancel", &ours, "").status, 401);
}

#[test]
fn a_private_master_shows_nothing_to_strangers() {
    let world = world(false);
    let asked = world.get("/job/1000/1?line=7-9&q=a%26b");
    let to = "/sign-in?to=%2Fjob%2F1000%2F1%3Fline%3D7-9%26q%3Da%2526b";
    assert_eq!(header(&asked, "location"), Some(to), "one comes back to where one was, query and all");
    for address in ["/", "/event/1", "/job/1000/log", "/job/1000/records", "/job/1000/artifact/1/x", "/agents"] {
        let response = world.get(address);
        assert_eq!(response.status, 303, "{address}");
        assert!(header(&response, "location").unwrap().starts_with("/sign-in"));
        assert_eq!(header(&response, "cache-control"), Some("no-store"));
    }
    for address in ["/api/v1/events", "/api/v1/jobs/1000/log", "/api/v1/agents", "/nothing"] {
        assert_eq!(world.get(address).status, 401, "{address}");
    }
    for address in ["/sign-in", "/healthz", "/robots.txt", "/assets/page.css"] {
        assert_eq!(world.get(address).status, 200, "{address}");
    }
    let wrong = world.ask("POST", "/sign-in", OURS, "token=guess");
    assert_eq!((wrong.status, header(&wrong, "set-cookie")), (403, None));
    let foreign = world.ask("POST", "/sign-in", &[], "token=ann%27s+token");
    assert_eq!((foreign.status, header(&foreign, "set-cookie")), (403, None));
    let cookie = world.sign_in();
    let response = world.ask("GET", "/", &[("cookie", &cookie)], "");
    assert_eq!((response.status, header(&response, "cache-control")), (200, Some("no-store")));
    assert_eq!(world.ask("GET", "/api/v1/events", &[("authorization", "Bearer ann's token")], "").status, 200);
    let viewer = |headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        may_view(&world.library, &Request { headers, ..Request::default() })
    };
    assert_eq!(viewer(&[]), Err(401));
    assert_eq!(viewer(&[("cookie", &cookie)]), Ok(Some("ann".to_string())));
    assert_eq!(viewer(&[("cookie", &cookie), ("host", "ci.example"), ("origin", "https://evil.example")]), Err(403));
    assert_eq!(
        viewer(&[("cookie", &cookie), ("host", "ci.example"), ("origin", "https://ci.example")]),
        Ok(Some("ann".to_string()))
    );
}

#[test]
fn signing_in_never_leads_elsewhere() {
    let world = world(true);
    for to in ["%2F%2Fevil.example", "https%3A%2F%2Fevil.example", "%2F%5Cevil.example", "%2Fx%0d%0aset-cookie%3A+a"] {
        let response = world.ask("POST", "/sign-in", OURS, &format!("to={to}&token=ann%27s+token"));
        assert_eq!(header(&response, "location"), Some("/"), "{to}");
    }
}

#[test]
fn an_attempt_has_a_page_of_its_own_whatever_came_after_it() {
    let world = world(true);
    let verdict = Verdict {
        outcome: Outcome::Failed,
        fault: Fault::Job,
        cause: "step 1 ended with status 9".to_string(),
        step: Some(0),
        status: Some(9),
        trouble: None,
        verdict: None,
    };
    let path = std::env::temp_dir().join(format!("sai-page-past-{}", std::process::id()));
    std::fs::write(&path, "kept").unwrap();
    for (stream, size) in [(1, 4), (2, 400)] {
        let path = format!("out/file-{stream}");
        world
            .log
            .add(2000, &Record::Artifact(Artifact { stream, path, size, sha256: hex(b"kept"), executable: false }));
    }
    world.log.add(184_000_000, &Record::Verdict(verdict));
    world.memory.change(|held| {
        held.files.insert((KEY, 1), path.clone());
        held.files.insert((KEY, 2), path.clone());
        let job = held.jobs.get_mut(&1000).unwrap();
        (job.attempt, job.cause) = (2, "cause of the second".to_string());
    });
    let page = text(world.get("/job/1000/1"));
    assert!(page.contains("badge failed") && page.contains("3 min 04 s") && page.contains("status 9"), "{page}");
    assert!(!page.contains("cause of the second") && page.contains("href=\"/job/1000/2\">attempt 2</a>, running"));
    // Its files are known by its log; what never came whole is not among them.
    assert!(page.contains("/job/1000/1/artifact/1/file-1\"") && !page.contains("file-2"));
    let response = world.get("/job/1000/1/artifact/1/file-1");
    assert!(header(&response, "content-disposition").unwrap().contains("file-1"));
    assert_eq!(body(response), b"kept");
    let page = text(world.get("/job/1000"));
    assert!(page.contains("badge running") && page.contains("cause of the second"));
    // A page of the first attempt cannot end the second.
    let cookie = world.sign_in();
    let ours = [OURS, &[("cookie", cookie.as_str())]].concat();
    world.ask("POST", "/job/1000/1/cancel", &ours, "");
    let wanted = format!("ann CancelAttempt({KEY:?})");
    assert_eq!(*world.done.lock().unwrap(), [wanted]);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_an_action_did_is_told_once_on_the_page_that_follows() {
    let world = world(true);
    let cookie = world.sign_in();
    let ours = [OURS, &[("cookie", cookie.as_str())]].concat();
    let response = world.ask("POST", "/job/1000/1/cancel", &ours, "");
    assert_eq!((response.status, header(&response, "location")), (303, Some("/job/1000/1")));
    let told = "<p class=\"notice told\" role=\"status\"><bdi>Done: join &lt;line&gt;.</bdi></p>";
    assert!(!text(world.get("/job/1000/1")).contains(told), "others are not told");
    assert!(text(world.ask("GET", "/job/1000/1", &ours, "")).contains(told));
    assert!(!text(world.ask("GET", "/job/1000/1", &ours, "")).contains(told));
    let refused = text(world.ask("POST", "/job/1001/cancel", &ours, ""));
    assert!(refused.contains("job 1001 has ended.") && refused.contains("<a href=\"/job/1001\">Back</a>"), "{refused}");
}

#[test]
fn a_line_of_a_long_log_has_an_address_that_always_leads_to_it() {
    let world = world(true);
    let lines: String = (3..=20_000).map(|number| format!("line {number}\n")).collect();
    for part in lines.as_bytes().chunks(30_000) {
        world.log.add(2000, &Record::Data(1, part.to_vec()));
    }
    let page = text(world.get("/job/1000"));
    assert!(page.contains("href=\"/job/1000/1?line=1000#L1000\"") && !page.contains("id=\"L9000\""));
    assert!(page.contains("data-attempt=\"/job/1000/1\""), "the script leads there from #L9000");
    let page = text(world.get("/job/1000/1?line=9000"));
    assert!(page.contains("<div id=\"L9000\" class=\"sel\">") && !page.contains("id=\"L1\""));
    let page = text(world.get("/job/1000/1?line=9000-9003"));
    assert_eq!(page.matches("class=\"sel\"").count(), 4);
    assert!(text(world.get("/job/1000/1?line=999999")).contains("id=\"L20000\""), "the last is the nearest");
    for odd in ["/job/1000/1?line=0", "/job/1000/1?line=x", "/job/1000/1?line=5-1"] {
        let response = world.get(odd);
        assert_eq!(response.status, 400, "{odd}");
        assert!(text(response).contains("as 12 or 12-20"), "{odd}");
    }
}

#[test]
fn the_built_in_agent_cannot_be_revoked_on_the_page() {
    let world = world(true);
    world.memory.change(|held| {
        for name in ["built-in", "rock"] {
            held.agents.push(AgentRecord {
                name: name.to_string(),
                token_sha256: String::new(),
                added_at: 1,
                identity: None,
                seen_at: None,
                revoked: false,
                host: String::new(),
                platforms: Vec::new(),
                grants: None,
                boards: None,
                card: None,
                update: None,
            });
        }
    });
    // Known since the start and never connected: that is not since 1970.
    let away = LiveAgent { name: "rock".to_string(), ..LiveAgent::default() };
    world.library.live.write().unwrap().agents.insert("rock".to_string(), Arc::new(away));
    let page = text(world.get("/agents"));
    assert!(page.contains("never seen") && !page.contains("1970") && !page.contains("days ago"), "{page}");
    assert!(page.contains("Sign in</a> to add, set aside or revoke agents") && !page.contains("/revoke"));
    let cookie = world.sign_in();
    let ours = [OURS, &[("cookie", cookie.as_str())]].concat();
    let page = text(world.ask("GET", "/agents", &ours, ""));
    assert!(page.contains("/agents/rock/revoke") && !page.contains("/agents/built-in/revoke"));
    assert!(page.contains("<details class=\"ask cancel\"><summary>Revoke</summary>"));
}
