//! A person at the page of a board that they have: what is typed goes to an emulated board and comes back live, with and without script;
//! nobody else sees any of it.

use super::Scene;
use sai_tests::bench::Bench;
use sai_tests::boards::{at_board, saifile};
use sai_tests::process::eventually;
use sai_tests::world::World;

#[test]
fn whoever_has_a_board_types_at_it_on_its_page_and_others_neither_type_nor_see() {
    let bench = Bench::new("page-typing");
    let master = bench.world.master();
    let _agent = bench.agent();
    bench.await_standing("free");
    bench.world.repository.push_saifile(&saifile(&[("PASS", "")]));
    assert_eq!(at_board(&bench.world.ended(1), "PASS").state, "passed");
    bench.await_standing("free");
    let [ann, eve] = ["ann", "eve"].map(|name| bench.world.command(&["user", "add", name]).trim().to_string());
    let mut scene = Scene::before(World::new("page-typing-browser"), master);
    scene.url = format!("https://127.0.0.1:{}", bench.world.port);
    let browser = &scene.browser;
    scene.sign_in(&ann);
    scene.open("/boards/a/uno-1");
    browser.click("form[action$='/lease'] button");
    browser.until("document.querySelector('#job-head')");
    let address = browser.address();
    let job: u64 = address.rsplit('/').next().and_then(|number| number.parse().ok()).expect("a job");
    bench.await_standing(&format!("job {job} is there"));
    let resets = |number: u64| {
        let said = "%7B%22t%22%3A%22mode%22%2C%22name%22%3A%22run%22%7D";
        let word = format!("/api/v1/jobs/{job}/word?attempt=1&writer=w&number={number}&said={said}");
        eventually("the board is reset", || (bench.world.post(&word, Some(&ann)).0 == 200).then_some(()));
    };

    scene.open(&format!("/job/{job}"));
    browser.until("document.querySelector('#typing')");
    browser.until("document.querySelector('#link.up')");
    resets(1);
    browser.until("document.querySelector('#log').textContent.includes('login: ')");
    browser.script("window.sameDocument = true; document.querySelector('#typing [name=end]').value = 'LF'");
    browser.type_into("#typing [name=text]", "root");
    scene.press("Enter");
    browser.until("document.querySelector('#log').textContent.includes('hello root')");
    assert!(scene.is("window.sameDocument && !document.querySelector('#typing [name=text]').value"));
    scene.picture("typing");
    assert_eq!(scene.faults("a page to type on"), "");

    // The same without script: the page comes back, with what the board has said.
    browser.devtools("Emulation.setScriptExecutionDisabled", "{\"value\": true}");
    let log = || String::from_utf8_lossy(&bench.world.get_as(&format!("/job/{job}/log"), &ann).1).into_owned();
    let asked = log().matches("login: ").count();
    resets(2);
    eventually("the board asks again", || (log().matches("login: ").count() > asked).then_some(()));
    scene.open(&format!("/job/{job}"));
    browser.click("#typing [name=end] option:nth-child(2)");
    browser.type_into("#typing [name=text]", "nina");
    browser.click("#typing button");
    let back = format!("/job/{job}/1#typing");
    eventually("the page comes back", || browser.address().ends_with(&back).then_some(()));
    eventually("the board has it", || log().contains("hello nina").then_some(()));
    browser.devtools("Emulation.setScriptExecutionDisabled", "{\"value\": false}");

    // Another builder sees whose it is, and nothing of what happens there.
    browser.devtools("Network.clearBrowserCookies", "{}");
    scene.sign_in(&eve);
    scene.open(&format!("/job/{job}"));
    browser.until("document.querySelector('#kept')");
    assert!(scene.is("document.querySelector('#kept').textContent.includes('ann')"));
    assert!(!scene.is("document.querySelector('#typing') || document.body.textContent.includes('hello')"));
    scene.picture("kept");
    assert_eq!(scene.faults("a page that shows nothing"), "");

    // Its person gives it back there.
    browser.devtools("Network.clearBrowserCookies", "{}");
    scene.sign_in(&ann);
    scene.open(&format!("/job/{job}"));
    browser.click("#typing [name=release]");
    bench.await_standing("free");
    browser.until("document.querySelector('#job-head .badge.passed')");
}
