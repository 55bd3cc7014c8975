//! A walk by keyboard alone: sign in, find what went wrong, read why, and build it again. No pointer is touched.

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
