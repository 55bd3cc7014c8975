//! A master below a path of its host, in a browser: sign-in, cookie, links, live parts and script all stay there.

use super::{COMPILE, HOSTILE, Scene, saifile};
use sai_tests::process::eventually;
use sai_tests::world::World;

#[test]
fn a_master_below_a_path_is_used_there_and_nowhere_else() {
    let mut world = World::new("page-below");
    world.set("url", &format!("\"https://127.0.0.1:{}/ci/sai/\"", world.port));
    world.set("builtin", "{\"slots\": 4, \"platforms\": [\"linux\"]}");
    let master = world.master();
    for (name, script) in [("compile", COMPILE), ("hostile", HOSTILE)] {
        std::fs::write(world.directory.join(name), script).expect("a script");
    }
    world.repository.push_saifile(&saifile(&world.directory));
    eventually("all but the patient job end", || {
        world.event(1).filter(|event| event.jobs.iter().filter(|job| job.ended()).count() == 3)
    });
    let mut scene = Scene::of(world, master);
    scene.url.push_str("/ci/sai");
    let browser = &scene.browser;
    let job = scene.job("patient");
    // From a line to the sign-in and back to the line.
    scene.open(&format!("/job/{job}/1?line=1#L1"));
    browser.until("document.querySelector('.hint a')");
    browser.click(".hint a");
    scene.show(&scene.token);
    assert_eq!(browser.address(), format!("{}/job/{job}/1?line=1#L1", scene.url));
    let cookies = format!("{:?}", browser.devtools("Storage.getCookies", "{}"));
    assert!(
        cookies.contains("__Secure-sai") && cookies.contains("/ci/sai") && !cookies.contains("__Host-sai"),
        "{cookies}"
    );
    // What is live is live there, and what comes by it leads nowhere else.
    browser.until("document.querySelector('#link.up')");
    browser.script("window.sameDocument = true");
    std::fs::write(scene.world.directory.join("go"), "").expect("a file");
    browser.until("document.querySelector('#job-head.passed')");
    assert!(scene.is("window.sameDocument"));
    let stray = "return [...document.querySelectorAll('[href], [src], [action], [data-live], [data-icon], [data-attempt]')] \
                 .flatMap((one) => ['href', 'src', 'action', 'data-live', 'data-icon', 'data-attempt'].map((name) => one.getAttribute(name))) \
                 .filter((value) => value && value.startsWith('/') && !value.startsWith('/ci/sai/')).join(' ')";
    let loaded = "return performance.getEntriesByType('resource').map((one) => one.name) \
                  .filter((name) => !name.startsWith(location.origin + '/ci/sai/')).join(' ')";
    let broken = scene.job("broken");
    let stays = |address: &str| {
        scene.open(address);
        browser.until("document.querySelector('main')");
        assert_eq!(browser.text_of(stray), "", "{address}");
        assert_eq!(browser.text_of(loaded), "", "{address}");
    };
    for address in [
        "",
        "/",
        "/event/1",
        "/agents",
        "/units",
        "/docs",
        "/docs/saifile",
        "/history?repository=project&configuration=broken&platform=linux",
    ] {
        stays(address);
    }
    stays(&format!("/job/{broken}"));
    // The script's own addresses: a line, search, and the next of what it found.
    browser.click("#error a");
    browser.until("location.search.includes('line=')");
    assert!(browser.address().starts_with(&format!("{}/job/{broken}/1?line=", scene.url)), "{}", browser.address());
    scene.open(&format!("/job/{broken}#L2999"));
    browser.until("document.querySelector('#L2999.sel')");
    scene.open(&format!("/job/{broken}/1?q=main.c"));
    browser.until("document.querySelector('#next')");
    scene.press("n");
    browser.until("document.querySelector('#previous')");
    assert!(browser.address().starts_with(&scene.url), "{}", browser.address());
    // Acting and signing out lead back to it.
    scene.open("/event/1");
    browser.click("form[action$='rebuild?state=wrong'] button");
    browser.until("document.querySelector('.told')?.textContent.includes('rebuilt event 1')");
    assert_eq!(browser.address(), format!("{}/event/1", scene.url));
    browser.click("header form button");
    browser.until("document.querySelector('header a.sign-in')");
    assert_eq!(browser.address(), format!("{}/", scene.url));
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}
