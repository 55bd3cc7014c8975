//! Two walks: sign in, find what went wrong, read why, and build it again; by keyboard alone, and without any script.

use super::Scene;
use sai_tests::process::eventually;

/// Presses of the tab key until a selector's first element has the focus. People press it as often as they must, but not for ever.
const TABS: usize = 60;

impl Scene {
    /// Goes to an element by the tab key; it can be seen there.
    fn tab_to(&self, selector: &str) {
        let mut walked = Vec::new();
        for _ in 0..TABS {
            self.press("Tab");
            if self.is(&format!("document.activeElement.matches({selector:?})")) {
                let outline = self.browser.text("getComputedStyle(document.activeElement).outlineStyle");
                assert_ne!(outline.as_deref(), Some("none"), "{selector} has the focus and does not show it");
                return;
            }
            walked.extend(self.browser.text("document.activeElement.outerHTML.slice(0, 80)"));
        }
        panic!("the tab key does not come to {selector} on {}, but to {walked:#?}", self.browser.address());
    }
}

#[test]
fn who_has_a_keyboard_alone_signs_in_finds_reads_and_builds_again() {
    let scene = Scene::new("page-walk");
    let browser = &scene.browser;
    scene.open("/");
    scene.tab_to("a.sign-in, a[href^='/sign-in']");
    scene.press("Enter");
    browser.until("document.querySelector('#token')");
    if !scene.is("document.activeElement.matches('#token')") {
        scene.tab_to("#token");
    }
    for character in scene.token.chars() {
        scene.press(&character.to_string());
    }
    scene.press("Enter");
    browser.until("document.querySelector('.who')");
    // Find: the event, then what went wrong in it.
    scene.tab_to("a[href='/event/1']");
    scene.press("Enter");
    browser.until("document.querySelector('#event-wrong a')");
    scene.tab_to("#event-wrong a");
    scene.press("Enter");
    // Read: the first error is quoted, and a key leads on from it.
    browser.until("document.querySelector('#error')");
    assert!(scene.is("document.querySelector('#error').innerText.includes('expected expression before return')"));
    scene.tab_to("#error a");
    scene.press("Enter");
    browser.until("document.querySelector('.sel')");
    scene.press("j");
    browser.until("document.querySelector('.sel')?.innerText.includes('return')");
    // Build again: by the event, what went wrong and nothing else.
    scene.tab_to("a[href='/event/1']");
    scene.press("Enter");
    browser.until("document.querySelector('#event-head')");
    scene.tab_to("form[action$='rebuild?state=wrong'] button");
    scene.press("Enter");
    browser.until("document.querySelector('.told')?.textContent.includes('rebuilt event 1: jobs that went wrong')");
    eventually("it is built again", || {
        let event = scene.world.event(1)?;
        event.jobs.iter().all(|job| job.attempt == if job.configuration == "broken" { 2 } else { 1 }).then_some(())
    });
    // Or what one chooses.
    scene.tab_to("details.again summary");
    scene.press("Enter");
    browser.until("document.querySelector('details.again').open");
    scene.picture("rebuild");
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}

#[test]
fn who_has_no_script_signs_in_finds_reads_and_builds_again() {
    let scene = Scene::new("page-still");
    let browser = &scene.browser;
    browser.devtools("Emulation.setScriptExecutionDisabled", "{\"value\": true}");
    scene.open("/");
    browser.click("a.sign-in");
    browser.until("document.querySelector('#token')");
    browser.type_into("#token", &scene.token);
    browser.click(".form button");
    browser.until("document.querySelector('.who')");
    assert!(!scene.is("document.querySelector('#link').textContent"), "the script runs after all");
    // Find, by the filter's form.
    browser.click("details.find summary");
    browser.type_into("input[name=q]", "saifile");
    browser.click("form[role=search] button");
    // The list that was there before has it, too.
    browser.until("location.search.includes('q=saifile') && document.querySelector('a[href=\"/event/1\"]')");
    browser.click("a[href='/event/1']");
    browser.until("document.querySelector('#event-wrong a')");
    browser.click("#event-wrong a");
    // Read: the first error, and the line that it links to.
    browser.until("document.querySelector('#error')");
    browser.click("#error a");
    browser.until("location.search.includes('line=') && document.querySelector('.sel')");
    assert!(scene.is("document.querySelector('.sel').innerText.includes('expected expression before return')"));
    browser.click("a[href='/event/1']");
    browser.until("document.querySelector('#event-head')");
    browser.click("form[action$='rebuild?state=wrong'] button");
    browser.until("document.querySelector('.told')?.textContent.includes('rebuilt event 1: jobs that went wrong')");
    eventually("it is built again", || {
        let event = scene.world.event(1)?;
        event.jobs.iter().all(|job| job.attempt == if job.configuration == "broken" { 2 } else { 1 }).then_some(())
    });
    // What cannot be undone asks without a script too, and what explains is read.
    browser.click("details.cancel summary");
    assert!(scene.is("document.querySelector('details.cancel').open"));
    scene.open("/docs/saifile");
    assert!(scene.is("document.body.innerText.includes('paths') && !document.querySelector('pre + button')"));
}
