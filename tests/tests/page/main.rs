//! A real master's pages in a real Chromium, as people use them: lines by address and keyboard, attempts, actions, sign-in.
//!
//! The pictures are in `target/page`.

mod axe;
mod below;
mod doing;
mod hostile;
mod large;
mod shown;
mod typing;
mod units;
mod walk;
mod waveform;

use sai_tests::browser::Browser;
use sai_tests::process::{Process, eventually};
use sai_tests::world::World;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines that the long job prints: more than a page shows, with numbers of six digits.
const LINES: u64 = 120_000;

/// Four jobs: one with a long log, one that fails, one that waits for a file, one whose words are hostile.
fn saifile(place: &Path) -> String {
    format!(
        r##"{{
    "schema": "sai-1",
    "platforms": {{ "linux": {{ "build": ["echo before", "${{what}}"] }} }},
    "configurations": {{
        "long": {{ "what": "seq 1 {LINES} | sed 's/$/ of a long log/'" }},
        "broken": {{ "what": "seq 1 3000; sh {0}/compile" }},
        "patient": {{ "what": "echo waiting; while [ ! -e {0}/go ]; do sleep 0.05; done" }},
        "hostile": {{ "what": "sh {0}/hostile", "artifacts": "out/*" }}
    }}
}}
"##,
        place.display()
    )
}

/// A phone, as Chromium emulates one.
const PHONE: &str = "{\"width\": 390, \"height\": 844, \"deviceScaleFactor\": 2, \"mobile\": true}";

const COMPILE: &str = r#"
echo 'cc -Werror -c src/error_handling.c'
echo 'src/main.c: In function main:' >&2
echo 'src/main.c:12:5: error: expected expression before return' >&2
echo '   12 |     return' >&2
echo 'make: *** [Makefile:3: main.o] Error 1' >&2
seq 1 2000
exit 2
"#;

const HOSTILE: &str = r#"
mkdir -p out
echo '<script>window.hit = 1</script><img src=x onerror="window.hit = 2">'
echo 'see https://example.org/a?b=1&c=<script>, and javascript:alert(1)'
printf '\033[31mred\033[0m \033]8;;javascript:alert(1)\007link\033]8;;\007\n'
printf '<testsuite><testcase name="one"/><testcase name="two"><failure message="1 &lt; 2"/></testcase></testsuite>' > out/junit.xml
printf '<h1>Report</h1><script>document.title = "hit"; parent.window.hit = 3</script>' > out/report.html
printf 'plain <b>text</b>\n' > out/notes.txt
printf '<svg xmlns="http://www.w3.org/2000/svg"><script>window.hit = 4</script><circle r="5"/></svg>' > out/picture.svg
"#;

/// A master with one agent, those four jobs, and a browser.
struct Scene {
    world: World,
    _master: Process,
    browser: Browser,
    url: String,
    token: String,
}

impl Scene {
    /// Signs in where the page asks for a token.
    fn show(&self, token: &str) {
        self.browser.type_into("#token", token);
        self.browser.click("main form button");
        self.browser.until("document.querySelector('.who')");
    }

    fn new(name: &str) -> Self {
        let mut world = World::new(name);
        fs::write(world.directory.join("compile"), COMPILE).expect("a script");
        fs::write(world.directory.join("hostile"), HOSTILE).expect("a script");
        world.set("builtin", "{\"slots\": 4, \"platforms\": [\"linux\"]}");
        let master = world.master();
        world.repository.push_saifile(&saifile(&world.directory));
        let ended = |event: &sai_tests::world::Event| event.jobs.iter().filter(|job| job.ended()).count() == 3;
        eventually("all but the patient job end", || world.event(1).filter(ended));
        Self::of(world, master)
    }

    /// A browser before a master that is there, and somebody who may act.
    fn of(world: World, master: Process) -> Self {
        let token = world.command(&["user", "add", "ann"]);
        Self { token, ..Self::before(world, master) }
    }

    /// A browser before a master that is there.
    fn before(world: World, master: Process) -> Self {
        let browser = Browser::start(&world.directory, &["--ignore-certificate-errors".to_string()]);
        let url = format!("https://127.0.0.1:{}", world.port);
        fs::create_dir_all(place()).expect("a directory");
        Self { world, _master: master, browser, url, token: String::new() }
    }

    /// Number of the job of this configuration.
    fn job(&self, configuration: &str) -> u64 {
        let event = self.world.event(1).expect("the event");
        event.jobs.iter().find(|job| job.configuration == configuration).expect("the job").id
    }

    fn open(&self, path: &str) {
        self.browser.open(&format!("{}{path}", self.url));
    }

    fn is(&self, expression: &str) -> bool {
        self.browser.text(&format!("Boolean({expression})")).as_deref() == Some("true")
    }

    /// Presses a key, as a person does who is not typing anywhere.
    fn press(&self, key: &str) {
        // The return key writes a character too, and that is what sends a form.
        let (text, code) = match key {
            "Enter" => ("\"text\": \"\\r\", ".to_string(), key),
            key if key.len() == 1 => (format!("\"text\": {key:?}, "), ""),
            key => (String::new(), key),
        };
        for kind in ["keyDown", "keyUp"] {
            let parameters = format!("{{\"type\": {kind:?}, {text}\"key\": {key:?}, \"code\": {code:?}}}");
            self.browser.devtools("Input.dispatchKeyEvent", &parameters);
        }
    }

    /// Takes pictures in both themes and on a phone; nothing may stick out there.
    fn picture(&self, name: &str) {
        self.browser.pictures(&place(), name, || self.contrast(name));
        self.browser.devtools("Emulation.setDeviceMetricsOverride", PHONE);
        let wide = self.browser.text("document.documentElement.scrollWidth").expect("a width");
        assert!(wide.parse::<u32>().is_ok_and(|wide| wide <= 390), "{name} is {wide} pixels wide on a phone");
        self.browser.picture(&place().join(format!("{name}-phone.png")));
        self.browser.devtools("Emulation.clearDeviceMetricsOverride", "{}");
    }

    fn media(&self, features: &str) {
        self.browser.devtools("Emulation.setEmulatedMedia", &format!("{{\"features\": {features}}}"));
    }

    /// Every text that is seen has a contrast of 4.5 to what is behind it (WCAG 2.2, success criterion 1.4.3).
    fn contrast(&self, name: &str) {
        let low = self.browser.text(CONTRAST).unwrap_or_default();
        assert_eq!(low, "", "{name}: contrast too low");
    }
}

const CONTRAST: &str = r#"(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const parts = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
    const light = (c) => c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        const own = parts(getComputedStyle(element).backgroundColor);
        const under = own[3] === 1 ? [0, 0, 0] : element.parentElement ? ground(element.parentElement) : [255, 255, 255];
        return over(own, under);
    };
    const low = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    // The rows of a log look all the same, so that the first thousands are enough.
    for (let node, left = 3000; left > 0 && (node = walker.nextNode()); left--) {
        const element = node.parentElement;
        if (!node.data.trim() || !element.checkVisibility()) continue;
        const under = ground(element), text = over(parts(getComputedStyle(element).color), under);
        const [a, b] = [light(text), light(under)];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.add(element.tagName + "." + element.className + " " + ratio.toFixed(2) + " " + node.data.slice(0, 30));
        if (low.size > 5) break;
    }
    return [...low].join("; ");
})()"#;

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page")
}

#[test]
fn lines_are_found_again_by_address_and_by_keyboard() {
    let scene = Scene::new("page-lines");
    let (browser, job) = (&scene.browser, scene.job("long"));
    // A line that the page does not show, by an old link that names no attempt.
    scene.open(&format!("/job/{job}#L54321"));
    browser.until("document.querySelector('#L54321.sel')");
    assert!(browser.address().ends_with(&format!("/job/{job}/1?line=54321#L54321")), "{}", browser.address());
    let seen = "(() => { const b = document.querySelector('.sel').getBoundingClientRect(); \
                return b.top > 0 && b.bottom < innerHeight; })()";
    browser.until(seen);
    // Line numbers of six digits stay apart from what stands beside them.
    scene.open(&format!("/job/{job}"));
    let apart = format!(
        "(() => {{ const [a, b] = document.querySelector('#L{}').children; const r = document.createRange(); \
         r.selectNodeContents(a); return r.getBoundingClientRect().right <= b.getBoundingClientRect().left \
         && r.getBoundingClientRect().left >= 0; }})()",
        LINES - 10
    );
    assert!(scene.is(&apart));
    scene.picture("long");
    // By mouse: one line, then a range with the shift key; the address follows, and no page is loaded.
    browser.script("window.sameDocument = true; window.scrollTo(0, 0);");
    browser.click("#L10 > a");
    assert!(browser.address().ends_with(&format!("/job/{job}/1?line=10#L10")), "{}", browser.address());
    browser.script(
        "document.querySelector('#L14 > a').dispatchEvent(new MouseEvent('click', \
         { bubbles: true, cancelable: true, shiftKey: true }))",
    );
    assert!(browser.address().ends_with("?line=10-14#L10"), "{}", browser.address());
    assert_eq!(browser.text("document.querySelectorAll('.sel').length").as_deref(), Some("5"));
    // By keyboard: further down, and a range from there.
    for key in ["j", "j", "J", "K", "K"] {
        scene.press(key);
    }
    assert!(browser.address().ends_with("?line=15-16#L15"), "{}", browser.address());
    assert_eq!(browser.text("window.sameDocument").as_deref(), Some("true"));
    // The address alone shows the same to somebody else, without script too.
    let page = String::from_utf8(scene.world.get(&format!("/job/{job}/1?line=15-16")).expect("a page")).expect("UTF-8");
    assert_eq!(page.matches("class=\"sel\"").count(), 2);
    scene.open(&format!("/job/{job}/1?line=77000-77003#L77000"));
    browser.until("document.querySelectorAll('.sel').length === 4");
    browser.until(seen);
    // Keys are listed, and each view is one.
    scene.press("?");
    browser.until("document.querySelector('#keys').open");
    scene.picture("keys");
    scene.press("?");
    browser.until("!document.querySelector('#keys').open");
    for (key, view) in [("e", "errors"), ("w", "nowrap"), ("t", "clock"), ("s", "step"), ("f", "full")] {
        scene.press(key);
        assert!(scene.is(&format!("document.body.classList.contains('view-{view}')")), "{key}");
        assert!(scene.is(&format!("document.querySelector('[data-view={view}][aria-pressed=true]')")), "{key}");
        if key == "t" {
            assert!(scene.is("/^\\d\\d:\\d\\d:\\d\\d$/.test(document.querySelector('#L77000 > i').textContent)"));
        }
        if key == "f" {
            assert!(!scene.is("document.querySelector('header').checkVisibility()"));
        }
        scene.press(key);
        assert!(!scene.is(&format!("document.body.classList.contains('view-{view}')")), "{key}");
    }
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}

#[test]
fn attempts_and_actions_are_told_apart_and_told_of() {
    let scene = Scene::new("page-attempts");
    let (browser, job) = (&scene.browser, scene.job("patient"));
    // Who is not signed in is told so, and comes back to where he was, to the line.
    scene.open(&format!("/job/{job}/1?line=1#L1"));
    browser.until("document.querySelector('.hint a')");
    browser.click(".hint a");
    scene.show(&scene.token);
    assert!(browser.address().ends_with(&format!("/job/{job}/1?line=1#L1")), "{}", browser.address());
    // The tab says how it stands.
    assert!(scene.is("document.title.startsWith('running: patient on linux')"), "{:?}", browser.text("document.title"));
    assert!(scene.is("document.querySelector('#icon').getAttribute('href').includes('icon-running')"));
    // Following the end ends when the page is scrolled up, by whatever means; no wheel or key is seen of a scrollbar.
    browser.until("document.querySelector('#link.up') && !document.querySelector('#follow').hidden");
    browser.script("document.querySelector('#log').style.minHeight = '5000px'");
    browser.click("#follow");
    browser.until("window.scrollY > 1000");
    browser.script("window.scrollTo(0, 300)");
    browser.until("!document.querySelector('#follow input').checked");
    // Cancelling asks; what came of it is told; a step that was ended from outside did not fail.
    browser.script("window.scrollTo(0, 0)");
    browser.click(".cancel summary");
    scene.picture("ask");
    browser.click(".cancel form button");
    browser.until("document.querySelector('.told')?.textContent.includes('cancelled attempt 1 of job')");
    browser.until("document.querySelector('#job-head.cancelled')");
    browser.until("document.querySelector('#step-1-head .badge.cancelled')");
    assert!(!scene.is("document.querySelector('#step-1-head').textContent.includes('143')"));
    browser.until("document.title.startsWith('cancelled: ')");
    scene.picture("cancelled");
    // Another tab stays on the attempt that has ended, and learns that there is another.
    let first = browser.tab();
    let second = browser.new_tab();
    scene.open(&format!("/job/{job}"));
    browser.until("document.querySelector('#link').textContent === 'finished'");
    browser.script("window.sameDocument = true; document.querySelector('.crumbs a').focus();");
    browser.switch_to(&first);
    browser.click(".rebuild button");
    browser.until("document.querySelector('#job-head.running')");
    browser.switch_to(&second);
    browser.until("document.querySelector('#job-attempts .newer a')");
    assert!(scene.is("window.sameDocument && document.querySelector('#job-head.cancelled')"));
    // Its own button could only end the attempt that it shows, and says so.
    browser.script(
        "for (const d of document.querySelectorAll('.ask')) d.open = true; \
                    document.querySelector('#job-head').className = 'head'",
    );
    browser.click(".cancel form button");
    browser.until("document.body.innerText.includes('attempt 1 has ended; attempt 2 is under way')");
    assert_eq!(scene.world.event(1).expect("the event").jobs.iter().filter(|job| job.state == "running").count(), 1);
    scene.open(&format!("/job/{job}/1"));
    browser.until("document.querySelector('#job-head.cancelled') && document.querySelector('.newer a')");
    assert!(!scene.is("document.querySelector('.actions form')"));
    browser.click(".newer a");
    browser.until("document.querySelector('#job-head.running')");
    // What is focused stays so while the page changes under it.
    browser.until("document.querySelector('#link.up')");
    browser.script("document.querySelector('#job-attempts a').focus(); window.before = document.activeElement;");
    fs::write(scene.world.directory.join("go"), "").expect("a file");
    browser.until("document.querySelector('#job-head.passed')");
    assert!(scene.is("document.activeElement !== window.before && document.activeElement.matches('#job-attempts a')"));
    // The built-in agent has no token that could be revoked.
    scene.open("/agents");
    browser.until("document.querySelector('.agent')");
    assert!(!scene.is("document.querySelector('form[action$=\"/revoke\"]')"));
    scene.picture("agents");
    scene.open("/event/1");
    scene.picture("event");
    scene.open("/");
    scene.picture("events");
    scene.browser.text("document.querySelector('.find summary').click()");
    scene.browser.text("document.querySelector('.find [name=configuration]').value = 'broken'");
    scene.browser.text("document.querySelector('.find select').value = 'failed'");
    scene.browser.text("document.querySelector('.find form').requestSubmit()");
    eventually("the address says what is looked for", || {
        scene
            .is("location.search.includes('configuration=broken') && location.search.includes('state=failed')")
            .then_some(())
    });
    assert!(scene.is("document.querySelectorAll('article').length === 1"));
    scene.picture("filtered");
    scene.open(&format!("/job/{}", scene.job("broken")));
    scene.browser.text("[...document.links].find((link) => link.textContent === 'History').click()");
    eventually("its history is shown", || scene.is("document.querySelector('.panel.jobs td.what')").then_some(()));
    scene.picture("history");
    let console = browser.console();
    let expected = console.iter().filter(|line| line.contains("409")).count();
    assert_eq!((console.len(), expected), (1, 1), "{console:?}");
}

#[test]
fn what_went_wrong_is_quoted_and_everything_can_be_searched() {
    let scene = Scene::new("page-reading");
    let (browser, job) = (&scene.browser, scene.job("broken"));
    // The error is neither among the first lines nor among the last ones; the page opens at it all the same.
    scene.open(&format!("/job/{job}"));
    browser.until("document.querySelector('#error')");
    let quote = browser.text("document.querySelector('#error .quote').textContent").expect("a quote");
    assert!(quote.starts_with("src/main.c:12:5: error: expected expression"), "{quote}");
    assert!(scene.is("document.querySelector('#error').getBoundingClientRect().bottom < innerHeight"));
    scene.picture("first-error");
    browser.script("window.sameDocument = true");
    browser.click("#error a");
    browser.until("document.querySelector('.lines .sel.first')?.textContent.includes('error: expected expression')");
    assert!(scene.is("window.sameDocument"), "it is on the page already");
    let address = browser.address();
    browser.open(&address);
    browser.until("document.querySelector('.sel')?.textContent.includes('error: expected expression')");
    // Search by keyboard alone: the whole log, then on to the next and back.
    scene.press("/");
    assert!(scene.is("document.activeElement.id === 'q'"));
    browser.type_into("#q", "MAIN.C:\u{e007}");
    browser.until("document.querySelector('#found')?.textContent.startsWith('2 lines match')");
    assert!(
        scene.is("document.querySelectorAll('.hits li').length === 2 && document.querySelector('.lines .hit.sel')")
    );
    scene.picture("search");
    let first = browser.address();
    scene.press("n");
    browser.until("document.querySelector('#previous') && !document.querySelector('#next')");
    browser.until("document.querySelector('.sel')?.textContent.includes('12:5')");
    scene.press("N");
    browser.until("document.querySelector('#next') && !document.querySelector('#previous')");
    assert_ne!(browser.address(), first, "the line is in the address now");
    scene.open(&format!("/job/{job}/1?q=%5E1%5B0-9%5D%2B5%24&regex=1"));
    browser.until("document.querySelector('#found')?.textContent.includes('lines match')");
    scene.open(&format!("/job/{job}/1?q=%28&regex=1"));
    browser.until("document.querySelector('.output [role=alert]').textContent.includes('no expression')");
    scene.open(&format!("/job/{job}/1?q=nowhere"));
    browser.until("document.querySelector('#found').textContent === '0 lines match'");
    // Hostile words are words, and what they name of the web is a link that tells nobody where it was.
    let job = scene.job("hostile");
    scene.open(&format!("/job/{job}/1?q=%3Cscript%3E%22%27"));
    scene.open(&format!("/job/{job}/1?q=script"));
    browser.until("document.querySelector('.hits')");
    assert!(scene.is("window.hit === undefined && !document.querySelector('#log script, #log img, .hits img')"));
    assert_eq!(
        browser
            .text("[...document.querySelectorAll('#log span a')].map((a) => a.href + ' ' + a.rel).join('|')")
            .as_deref(),
        Some("https://example.org/a?b=1&c= noopener noreferrer nofollow")
    );
    assert!(!scene.is("document.querySelector('#error')"), "it passed");
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
    // Reports and pictures of a job are shown, and what they would run is not.
    for name in ["report.html", "picture.svg"] {
        scene.open(&format!("/job/{job}"));
        let address = browser.text(&format!("document.querySelector('#artifacts a.view[href$=\"/{name}\"]').href"));
        browser.open(&address.expect("it can be shown"));
        browser.picture(&place().join(format!("shown-{name}.png")));
        let said = browser.console();
        assert!(said.iter().any(|line| line.contains("Blocked script execution")), "{name}: {said:?}");
    }
}

#[test]
fn what_is_told_by_colour_is_seen_where_colours_are_forced_and_on_paper() {
    let scene = Scene::new("page-forced");
    let mark = "getComputedStyle(document.querySelector('.c.passed, .chip.passed'), '::before').content";
    scene.open("/event/1");
    // The small cells are those of large events; what is styled is the class.
    scene.browser.script("for (const chip of document.querySelectorAll('.chip')) chip.classList.replace('chip', 'c')");
    assert_eq!(scene.browser.text(mark).as_deref(), Some("none"));
    scene.media("[{\"name\": \"forced-colors\", \"value\": \"active\"}]");
    scene.browser.picture(&place().join("forced.png"));
    assert_eq!(scene.browser.text(mark).as_deref(), Some("\"✓\""));
    scene.browser.devtools("Emulation.setEmulatedMedia", "{\"media\": \"print\", \"features\": []}");
    assert_eq!(scene.browser.text(mark).as_deref(), Some("\"✓\""));
    scene.browser.picture(&place().join("print.png"));
    // A log on paper says what went wrong, and offers nothing to click or to fill in.
    scene.open(&format!("/job/{}", scene.job("broken")));
    assert!(scene.is("document.querySelector('#error .quote').checkVisibility()"));
    assert!(scene.is("document.querySelector('.lines .first').checkVisibility()"));
    let offered = "[...document.querySelectorAll('header, .actions, form, button, input')].filter((one) => one.checkVisibility())";
    assert_eq!(
        scene.browser.text(&format!("{offered}.map((one) => one.outerHTML.slice(0, 80)).join(' ')")).as_deref(),
        Some("")
    );
    scene.browser.picture(&place().join("print-job.png"));
    scene.browser.devtools("Emulation.setEmulatedMedia", "{\"media\": \"\", \"features\": []}");
    assert!(scene.is("document.querySelector('form.search').checkVisibility()"));
    // Which line is meant is seen without its colour.
    scene.media("[{\"name\": \"forced-colors\", \"value\": \"active\"}]");
    scene.browser.click("#error a");
    scene.browser.until("document.querySelector('.lines .sel')");
    assert_eq!(
        scene.browser.text("getComputedStyle(document.querySelector('.lines .sel')).outlineStyle").as_deref(),
        Some("solid")
    );
    scene.browser.picture(&place().join("forced-job.png"));
}
