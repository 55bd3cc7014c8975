//! Needs and units on the page: what comes after what, who holds a licence, and how a person frees it.

use super::Scene;
use sai_tests::process::eventually;
use sai_tests::world::World;
use std::fs;

/// Jobs that need others, of which some want the one licence that there is.
const NEEDING: &str = r##"{
    "schema": "sai-1",
    "platforms": { "linux": { "build": "${what}" } },
    "configurations": {
        "build": { "what": "true" },
        "lint": { "what": "exit 1" },
        "report": { "needs": "lint" },
        "pack": { "needs": "build", "units": ["licences"], "what": "while [ ! -e PLACE/go ]; do sleep 0.05; done" },
        "other": { "needs": "build", "units": ["licences"] },
        "ship": { "needs": "pack, other" }
    }
}
"##;

#[test]
fn units_and_needs_are_seen_and_what_a_lost_agent_holds_is_freed() {
    let mut world = World::new("page-units");
    world.set("units", "{\"licences\": 1}");
    let master = world.master();
    let mut agent = world.agent("shed", &["linux"], 3);
    world.repository.push_saifile(&NEEDING.replace("PLACE", &world.directory.display().to_string()));
    let state = |world: &World, name: &str| {
        let event = world.event(1)?;
        event.jobs.into_iter().find(|job| job.configuration == name).map(|job| job.state)
    };
    let is = |world: &World, name: &str, word: &str| (state(world, name).as_deref() == Some(word)).then_some(());
    eventually("one job holds the licence", || {
        is(&world, "pack", "running").and(is(&world, "report", "skipped")).and(is(&world, "build", "passed"))
    });
    let scene = Scene::of(world, master);
    let (browser, world) = (&scene.browser, &scene.world);
    // What comes after what, what is skipped, and by which.
    scene.open("/event/1");
    browser.until("document.querySelectorAll('#event-needs .stages > li').length === 3");
    let text = browser.text("document.querySelector('#event-needs').innerText").expect("a text");
    assert!(text.contains("skipped by lint"), "{text}");
    scene.picture("needs");
    assert_eq!(scene.faults("an event whose jobs need each other"), "");
    // Why one waits leads to the units, and there to who holds them and who is next.
    scene.open(&format!("/job/{}", scene.job("ship")));
    browser.until("document.querySelector('.waiting')?.innerText.includes('to pass first')");
    scene.open(&format!("/job/{}", scene.job("other")));
    browser.until("document.querySelector('.waiting')?.innerText.includes('wants 1 of licences, 0 of 1 free')");
    assert_eq!(scene.faults("a job that waits for a unit"), "");
    browser.click("a[href='/units#unit-licences']");
    let (holder, next) = (scene.job("pack"), scene.job("other"));
    browser.until(&format!("document.querySelector('#unit-licences')?.innerText.includes('job {holder}-1 on shed')"));
    assert!(
        scene.is(&format!("document.querySelector('#unit-licences ol').innerText.includes('job {next} of project')"))
    );
    assert!(scene.is("document.querySelector('nav a[aria-current]').innerText === 'Units'"));
    assert!(!scene.is("document.querySelector('#units form')"), "strangers free nothing");
    assert_eq!(world.post("/api/v1/units/grant/1/free", None).0, 401);
    browser.click(".hint a");
    browser.type_into("#token", &scene.token);
    browser.click("main form button");
    browser.until("document.querySelector('.who') && document.querySelector('#unit-licences .badge.busy')");
    scene.picture("units");
    assert_eq!(scene.faults("units that are held"), "");
    // Its agent goes away: the open page says so by itself, and that nobody can speak for it when it is let in no more.
    browser.until("document.querySelector('#link.up')");
    browser.script("window.sameDocument = true");
    agent.kill();
    browser.until("document.querySelector('#unit-licences').innerText.includes('its agent is away')");
    world.command(&["agent", "revoke", "shed"]);
    browser.until("document.querySelector('#unit-licences').innerText.includes('until a person frees it')");
    assert!(scene.is("window.sameDocument"), "no page was loaded meanwhile");
    let api = String::from_utf8(world.get("/api/v1/units").expect("an answer")).expect("UTF-8");
    assert!(api.contains("\"kind\":\"amount\"") && api.contains("\"state\":\"revoked\""), "{api}");
    scene.picture("units-revoked");
    // Freeing asks, and tells.
    browser.click("#unit-licences summary");
    browser.until("document.querySelector('#unit-licences details[open]').innerText.includes('used twice')");
    browser.click("#unit-licences form button");
    browser.until("document.querySelector('.told')?.innerText.includes('freed the units of grant')");
    browser.until("document.querySelector('#unit-licences')?.innerText.includes('1 of 1 free')");
    // Somebody else's machine goes on with it, and what follows can be built again with what it needs.
    fs::write(world.directory.join("go"), "").expect("a file");
    let _agent = world.agent("barn", &["linux"], 3);
    eventually("it is shipped", || is(world, "ship", "passed"));
    scene.open(&format!("/job/{}", scene.job("build")));
    browser.until("document.querySelector('form[action$=\"/rebuild-following\"]')");
    browser.click("form[action$='/rebuild-following'] button");
    browser.until("document.querySelector('.told')?.innerText.includes('and what needs it')");
    eventually("all of it is built again", || {
        let event = world.event(1)?;
        let ship = event.jobs.iter().find(|job| job.configuration == "ship")?;
        (ship.attempt == 2 && ship.state == "passed").then_some(())
    });
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}
