//! A real project, pushed with our hook, built by three agents at once, and seen live in a real browser.
//!
//! The project is Debian's source package `hello`, downloaded by the machine's own package sources. The pictures are in
//! `target/showcase`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sai_tests::browser::Browser;
use sai_tests::hello;
use sai_tests::repository::{git, run};
use sai_tests::world::World;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a build may take on a machine that is busy with other tests.
const BUILD: Duration = Duration::from_secs(300);

/// Where the pictures are kept.
fn showcase() -> PathBuf {
    hello::place()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// SHA-256 of a certificate's public key as Chromium wants it named, in base64.
fn public_key_digest(certificate: &Path) -> String {
    let script = "openssl x509 -pubkey -noout -in \"$1\" | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r";
    let hex = run(Command::new("sh").args(["-c", script, "sh"]).arg(certificate));
    let hex = hex.split(' ').next().expect("openssl prints the digest first");
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).expect("the digest is hexadecimal"))
        .collect();
    STANDARD.encode(bytes)
}

/// Takes a picture for each way the page is looked at, and checks that nothing sticks out on a phone.
fn pictures(browser: &Browser, name: &str) {
    let scheme = |value: &str| {
        let features = format!("{{\"features\": [{{\"name\": \"prefers-color-scheme\", \"value\": {value:?}}}]}}");
        browser.devtools("Emulation.setEmulatedMedia", &features);
    };
    let size = |width: u32, height: u32, scale: u32, phone: bool| {
        let metrics = format!(
            "{{\"width\": {width}, \"height\": {height}, \"deviceScaleFactor\": {scale}, \"mobile\": {phone}}}"
        );
        browser.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    };
    for (colours, suffix) in [("light", ""), ("dark", "-dark")] {
        scheme(colours);
        browser.picture(&showcase().join(format!("{name}{suffix}.png")));
        size(390, 844, 2, true);
        let wide = browser.text("document.documentElement.scrollWidth").expect("a page has a width");
        assert!(wide.parse::<u32>().is_ok_and(|wide| wide <= 390), "{name} is {wide} pixels wide on a phone");
        browser.picture(&showcase().join(format!("{name}-phone{suffix}.png")));
        browser.devtools("Emulation.clearDeviceMetricsOverride", "{}");
    }
    scheme("");
}

/// Marks the page in the browser, so that a reload could not go unnoticed.
fn mark(browser: &Browser) {
    browser.script("window.sameDocument = true;");
}

fn still_the_same(browser: &Browser) {
    assert_eq!(browser.text("window.sameDocument").as_deref(), Some("true"), "{} was loaded again", browser.address());
}

#[test]
fn hello_is_built_by_three_agents_and_seen_in_chromium() {
    let source = hello::source();
    let mut world = World::new("showcase");
    let certificates = world.directory.join("certificates");
    run(Command::new(root().join("scripts/gen-selfsigned-certs.sh")).args(["--name", "127.0.0.1"]).arg(&certificates));
    let (chain, key) = (certificates.join("sai-master.pem"), certificates.join("sai-master-key.pem"));
    world.set("tls", &format!("{{\"chain\": {chain:?}, \"key\": {key:?}}}"));
    world.set("builtin", "{\"slots\": 1}");
    let master = world.master();
    let _one = world.agent("one", &[], 1);
    let _two = world.agent("two", &[], 1);
    let url = format!("https://127.0.0.1:{}", world.port);

    // The key is P-521, which Chromium does not offer: it must get the companion, and is told to trust that key alone.
    let trusted = public_key_digest(&world.state().join("tls/companion.pem"));
    let flags = [format!("--ignore-certificate-errors-spki-list={trusted}")];
    let browser = Browser::start(&world.directory, &flags);
    browser.open(&format!("{url}/"));
    mark(&browser);
    browser.until("document.querySelector('#link.up')");

    // A push of the whole tree, ignored files too, comes up on the page by itself.
    let work = &world.repository.work;
    run(Command::new("cp").arg("-a").arg(source.join(".")).arg(work));
    std::fs::copy(root().join("tests/fixtures/hello/.sai.json"), work.join(".sai.json")).expect("a saifile");
    run(git(work).args(["add", "--all", "--force"]));
    world.repository.commit("Import GNU hello 2.10 as Debian has it");
    world.repository.push();
    browser.until("document.querySelector('#event-1 .chip')");
    let count = |state: &str| format!("document.querySelectorAll('.chip.{state}').length");
    browser.until(&format!("{} === 3 && {} === 1", count("running"), count("queued")));
    still_the_same(&browser);
    pictures(&browser, "events");

    // The event in a tab that stays open until everything has passed.
    let event_tab = browser.tab();
    browser.click("#event-1 h2 a");
    browser.until("document.querySelector('#event-head.running') && document.querySelector('#link.up')");
    mark(&browser);
    // A change would put another element there: this one must tick by itself.
    browser.script("window.duration = document.querySelector('.jobs [data-for]'); window.was = duration.textContent;");
    browser.until("duration.textContent !== was");
    pictures(&browser, "event-running");
    browser.new_tab();
    browser.open(&format!("{url}/agents"));
    browser.until("document.querySelectorAll('#agents .badge.busy').length === 3");
    pictures(&browser, "agents");

    // The log of a job comes line by line.
    let event = world.event(1).expect("the event");
    let job = event.jobs.iter().find(|job| job.state == "running" && job.configuration == "default");
    let job = job.expect("the first configuration is built first").id;
    browser.open(&format!("{url}/job/{job}"));
    mark(&browser);
    let lines = "document.querySelectorAll('#log .lines > div[id]').length";
    let now = browser.text(lines).expect("a number");
    browser.until(&format!("{lines} > {now} + 5"));
    assert_eq!(
        browser.text("document.querySelector('#job-head').classList.contains('running')").as_deref(),
        Some("true")
    );
    browser.click("#follow");
    browser.until_within(BUILD, "document.querySelector('#step-1 .lines > div')");
    pictures(&browser, "job-live");
    browser.until_within(BUILD, "document.querySelector('#job-head.ended')");
    browser.until("document.querySelector('#job-head.passed') && !document.querySelector('#artifacts').hidden");
    browser.until("document.querySelector('#link').textContent === 'finished'");
    still_the_same(&browser);
    let built = browser
        .text("document.querySelector('#artifacts a[href$=\"/hello\"]').getAttribute('href')")
        .expect("an artifact");
    browser.script("window.scrollTo(0, 0);");
    pictures(&browser, "job-passed");

    browser.switch_to(&event_tab);
    browser.until_within(BUILD, "document.querySelector('#event-head.ended')");
    browser.until(&format!("{} === 4", count("passed")));
    still_the_same(&browser);
    pictures(&browser, "event-passed");
    let event = world.ended(1);
    assert!(event.jobs.iter().all(|job| job.state == "passed"), "{event:?}");
    let agents: BTreeSet<&str> = event.jobs.iter().filter_map(|job| job.agent.as_deref()).collect();
    assert!(agents.len() == 3 && agents.contains("one") && agents.contains("two"), "{event:?}");

    // What was built is what was asked for, and runs.
    let hello = world.directory.join("hello");
    std::fs::write(&hello, world.get(&built).expect("the artifact")).expect("a file");
    run(Command::new("chmod").arg("+x").arg(&hello));
    assert!(run(Command::new(&hello).arg("--version")).contains("GNU Hello"));

    // Everything can be read without script.
    let page = |path: &str| String::from_utf8(world.get(path).expect("a page")).expect("UTF-8");
    assert!(page("/").contains("Import GNU hello 2.10 as Debian has it"));
    assert!(page("/event/1").contains("no-nls"));
    assert!(page(&format!("/job/{job}")).contains("checking whether make sets $(MAKE)"));
    assert!(page("/agents").contains("agent-two"));

    // Who has a token signs in, builds a job again, thinks better of it, and builds it after all.
    let token = world.command(&["user", "add", "ann"]);
    browser.open(&format!("{url}/job/{job}"));
    browser.click("a[href^='/sign-in']");
    browser.until("document.querySelector('#token')");
    pictures(&browser, "sign-in");
    browser.type_into("#token", &token);
    browser.click("main form button");
    browser.until("document.querySelector('.who') && location.pathname !== '/sign-in'");
    browser.open(&format!("{url}/job/{job}"));
    browser.click(".rebuild button");
    browser.until("document.querySelector('#job-head.running') && document.querySelector('#log .lines > div[id]')");
    browser.click(".cancel summary");
    browser.click(".cancel form button");
    browser.until("document.querySelector('#job-head.cancelled')");
    pictures(&browser, "job-cancelled");
    browser.click(".rebuild button");
    browser.until("document.querySelector('#job-head.under-way')");
    browser.until_within(BUILD, "document.querySelector('#job-head.ended')");
    let again = world.event(1).expect("the event");
    let again = again.jobs.iter().find(|again| again.id == job).expect("the job");
    assert_eq!((again.state.as_str(), again.attempt), ("passed", 3), "{again:?}");
    browser.open(&format!("{url}/agents"));
    browser.until("document.body.innerText.includes('cancelled attempt 2 of job')");
    pictures(&browser, "agents-signed-in");

    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
    drop(browser);
    drop(master);
}
