//! Ways to look at a log and at moments, each by its key and as a person sees it: folded, unwrapped, one stream, one step, the
//! whole window, the reader's clock; and what a tab behind others tells.

use super::Scene;
use sai_tests::process::eventually;
use sai_tests::world::World;

/// Two steps: one that says something on both streams, with a line that is wider than any window, and one that fails.
const STEPS: &str = r#"{ "schema": "sai-1", "platforms": { "linux": { "build":
    ["echo quiet; echo loud >&2; head -c 3000 /dev/zero | tr '\\0' w; echo", "echo second; WAIT exit ${end}"] } },
    "configurations": { "good": { "end": "0" }, "bad": { "end": "1" } } }"#;

fn scene(name: &str) -> Scene {
    let mut world = World::new(name);
    world.set("builtin", "{\"slots\": 2, \"platforms\": [\"linux\"]}");
    let master = world.master();
    let wait = format!("while [ ! -e {}/go ]; do sleep 0.05; done;", world.directory.display());
    world.repository.push_saifile(&STEPS.replace("WAIT", &wait));
    eventually("both jobs are at their second step", || {
        let event = world.event(1)?;
        (event.jobs.len() == 2 && event.jobs.iter().all(|job| world.log(job.id).ends_with(b"second\n"))).then_some(())
    });
    Scene::of(world, master)
}

impl Scene {
    /// Beginnings of the lines that can be seen now, sorted: what goes to two streams has no order.
    fn lines_seen(&self) -> String {
        self.browser.text_of(
            "return [...document.querySelectorAll('.lines > div > span')].filter((one) => one.checkVisibility()) \
             .map((one) => one.textContent.slice(0, 8)).sort().join(' ')",
        )
    }
}

#[test]
fn a_log_is_folded_unwrapped_narrowed_and_shown_alone_by_its_keys() {
    let scene = scene("page-shown");
    let browser = &scene.browser;
    std::fs::write(scene.world.directory.join("go"), "").expect("a file");
    scene.world.ended(1);
    scene.open(&format!("/job/{}", scene.job("good")));
    browser.until("document.querySelector('#link')?.textContent === 'finished'");
    assert_eq!(scene.lines_seen(), "loud quiet second wwwwwwww");
    // Fold and unfold.
    scene.press("z");
    assert_eq!(scene.lines_seen(), "");
    scene.picture("shown-folded");
    scene.press("Z");
    assert_eq!(scene.lines_seen(), "loud quiet second wwwwwwww");
    // A line that is wrapped is higher than one that is not; what is wider is scrolled in the log alone.
    let wide =
        "[...document.querySelectorAll('.lines > div')].find((one) => one.textContent.includes('www')).offsetHeight";
    let height = || browser.text(wide).and_then(|text| text.parse::<u32>().ok());
    let wrapped = height().expect("a height");
    scene.press("w");
    assert!(height().is_some_and(|height| height * 3 < wrapped), "{wrapped} {:?}", height());
    assert!(scene.is("document.documentElement.scrollWidth <= innerWidth"));
    scene.picture("shown-nowrap");
    // It is so on the next log, too.
    scene.open(&format!("/job/{}", scene.job("bad")));
    assert!(height().is_some_and(|height| height * 3 < wrapped));
    scene.press("w");
    assert_eq!(height(), Some(wrapped));
    // Only what went to stderr, once the step is open that passed.
    scene.press("Z");
    scene.press("e");
    assert_eq!(scene.lines_seen(), "loud");
    scene.picture("shown-stderr");
    scene.press("e");
    // Only one step, and on to the next one.
    scene.press("s");
    assert_eq!(scene.lines_seen(), "loud quiet wwwwwwww");
    scene.press("]");
    assert_eq!(scene.lines_seen(), "second");
    scene.picture("shown-step");
    scene.press("[");
    assert_eq!(scene.lines_seen(), "loud quiet wwwwwwww");
    scene.press("s");
    assert_eq!(scene.lines_seen(), "loud quiet second wwwwwwww");
    // The log alone, in all of the window; Escape leaves.
    scene.press("f");
    for gone in ["header", "#job-head"] {
        assert!(!scene.is(&format!("document.querySelector('{gone}').checkVisibility()")), "{gone}");
    }
    assert!(scene.is("document.querySelector('.output').getBoundingClientRect().left === 0"));
    scene.picture("shown-full");
    scene.press("Escape");
    assert!(scene.is("document.querySelector('header').checkVisibility()"));
    // Each key that there is stands in the list, which the key that opens it closes, too.
    scene.press("?");
    browser.until("document.querySelector('#keys').open");
    let listed =
        browser.text_of("return [...document.querySelectorAll('#keys kbd')].map((one) => one.textContent).join('')");
    assert_eq!(listed, "jkJK/nN][zZeswtfFgG?");
    scene.press("?");
    assert!(!scene.is("document.querySelector('#keys').open"));
    // Buttons do the same for who has no keyboard.
    browser.click("#views [data-view=errors]");
    assert_eq!(scene.lines_seen(), "loud");
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}

#[test]
fn moments_are_told_as_how_long_ago_or_where_the_reader_is() {
    let scene = scene("page-clock");
    let browser = &scene.browser;
    // Far from wherever the test runs, and with a half hour in it.
    browser.devtools("Emulation.setTimezoneOverride", "{\"timezoneId\": \"Asia/Kolkata\"}");
    scene.open("/event/1");
    browser.until(
        "document.querySelector('time[datetime]').textContent.includes('ago') || \
                   document.querySelector('time[datetime]').textContent === 'just now'",
    );
    let there = "(() => { const time = document.querySelector('time[datetime]'); \
                 const there = new Date(Date.parse(time.dateTime) + 5.5 * 3600000).toISOString(); \
                 return WHERE.includes(there.slice(14, 19)) && WHERE.includes(String(Number(there.slice(11, 13)) % 12 || 12)); })()";
    assert!(
        scene.is(&there.replace("WHERE", "time.title")),
        "{:?}",
        browser.text("document.querySelector('time').title")
    );
    scene.press("t");
    assert!(scene.is(&there.replace("WHERE", "time.textContent")));
    assert!(scene.is("/ago|now/.test(document.querySelector('time[datetime]').title)"));
    scene.picture("shown-moments");
    // What comes while the page is open is told the same way, and so is the next page.
    browser.until("document.querySelector('#link.up')");
    std::fs::write(scene.world.directory.join("go"), "").expect("a file");
    browser.until("document.querySelector('#event-head .badge.failed')");
    assert!(scene.is(&there.replace("WHERE", "time.textContent")));
    scene.open(&format!("/job/{}", scene.job("good")));
    assert!(scene.is(&there.replace("WHERE", "time.textContent")));
    // Lines: the time of the day there, from when the job began.
    let of_line = "(() => { const began = Number(document.querySelector('#log').dataset.since), i = document.querySelector('#L1 > i'); \
                   const offset = i.dataset.offset.split(':').reduce((sum, digits) => sum * 60 + Number(digits), 0); \
                   return i.textContent === new Date(began + offset * 1000 + 5.5 * 3600000).toISOString().slice(11, 19); })()";
    assert!(scene.is(of_line), "{:?}", browser.text("document.querySelector('#L1 > i').textContent"));
    scene.press("t");
    assert!(scene.is("/^\\d+:\\d\\d/.test(document.querySelector('#L1 > i').textContent)"));
    assert!(scene.is("/ago|now/.test(document.querySelector('time[datetime]').textContent)"));
    scene.open("/event/1");
    assert!(scene.is("/ago|now/.test(document.querySelector('time[datetime]').textContent)"));
    // Who has no keyboard has a switch on each page that tells moments.
    browser.click("#times");
    assert!(scene.is(&there.replace("WHERE", "time.textContent")));
    assert!(scene.is("document.querySelector('#times').getAttribute('aria-pressed') === 'true'"));
    scene.picture("shown-dates");
    for page in ["/", "/agents"] {
        scene.open(page);
        browser.until("document.querySelector('#times[aria-pressed=true]')?.checkVisibility()");
    }
    browser.click("#times");
    scene.open("/docs");
    assert!(!scene.is("document.querySelector('#times').checkVisibility()"), "there is nothing to switch");
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}

#[test]
fn a_tab_tells_how_it_stands_by_its_title_and_its_icon() {
    let scene = scene("page-tab");
    let browser = &scene.browser;
    let pages = ["/event/1".to_string(), format!("/job/{}", scene.job("good")), format!("/job/{}", scene.job("bad"))];
    let tabs: Vec<String> = pages
        .iter()
        .map(|page| {
            let tab = browser.new_tab();
            scene.open(page);
            browser.until("document.querySelector('#link.up')");
            browser.script("window.sameDocument = true");
            assert!(scene.is("document.title.startsWith('running: ')"), "{page}: {:?}", browser.text("document.title"));
            assert!(
                scene.is("document.querySelector('#icon').getAttribute('href').includes('icon-running')"),
                "{page}"
            );
            tab
        })
        .collect();
    std::fs::write(scene.world.directory.join("go"), "").expect("a file");
    for (tab, (word, icon)) in tabs.iter().zip([("failed", "failed"), ("passed", "passed"), ("failed", "failed")]) {
        browser.switch_to(tab);
        browser.until(&format!("document.title.startsWith('{word}: ')"));
        browser.until(&format!("document.querySelector('#icon').getAttribute('href').includes('icon-{icon}')"));
        assert!(scene.is("window.sameDocument"));
        // There is such an icon, and it is one.
        let kind = "return (await fetch(document.querySelector('#icon').href)).headers.get('content-type')";
        assert_eq!(browser.text_of(&format!("return (async () => {{ {kind} }})()")), "image/svg+xml");
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}

#[test]
fn a_browser_that_keeps_nothing_shows_and_follows_all_the_same() {
    let scene = scene("page-forgets");
    let browser = &scene.browser;
    // What Chromium does where cookies and the data of sites are blocked.
    let refuse = "Object.defineProperty(window, 'localStorage', \
                  { get() { throw new DOMException('Access is denied for this document.', 'SecurityError'); } })";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &format!("{{\"source\": {refuse:?}}}"));
    scene.open(&format!("/job/{}", scene.job("good")));
    browser.until("document.querySelector('#link.up')");
    for (key, view) in [("t", "clock"), ("w", "nowrap")] {
        scene.press(key);
        assert!(scene.is(&format!("document.body.classList.contains('view-{view}')")), "{key}");
    }
    std::fs::write(scene.world.directory.join("go"), "").expect("a file");
    browser.until("document.querySelector('#job-head.passed')");
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}
