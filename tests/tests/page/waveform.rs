//! A real job at an emulated board, whose lines move while Chromium looks on: its waveform, live and afterwards, and the pages of boards.

use super::Scene;
use sai_tests::bench::Bench;
use sai_tests::boards::{at_board, at_step, saifile};
use sai_tests::process::eventually;
use sai_tests::world::World;
use std::fs;
use std::path::{Path, PathBuf};

/// What the job does at the board: it goes on until a line moves that the test moves.
const KEYS: &str = r#""timeout": "300s", "test": [{ "expect": "login: $", "within": "60s" }, { "play": "press" },
    { "edge": "led", "to": 1, "within": "200s" }, { "send": "root\n" }, { "expect": "hello root", "within": "60s" }],"#;

/// Lines of memory beside those of a bench: two that are read and one that is driven.
fn with_lines(bench: &Bench) -> PathBuf {
    let name = bench.world.directory.file_name().expect("a name").to_string_lossy().into_owned();
    let file = bench.world.directory.join("boards.json");
    let text = fs::read_to_string(&file).expect("a bench");
    let lines = format!(
        r#""chip": "levels:{name}", "lines": {{ "led": {{ "line": 0, "direction": "in" }}, "clock": {{ "line": 1, "direction": "in" }},
            "key": {{ "line": 2, "safe": 0 }} }}, "consoles""#
    );
    let changed = text.replacen("\"consoles\"", &lines, 1);
    let changed = changed.replacen("\"sequences\": {", r#""sequences": { "press": ["key 1", "wait 5ms", "key 0"],"#, 1);
    // An image that is known to be good, and is not there.
    let health = r#""health": { "flash": "good.bin", "pass": "login: $", "within": "3s" }, "modes""#;
    let changed = changed.replacen("\"modes\"", health, 1);
    assert!(changed.contains("levels:") && changed.contains("press") && changed.contains("good.bin"), "{changed}");
    fs::write(&file, changed).expect("a bench");
    Path::new("/dev/shm").join(name)
}

#[test]
fn the_lines_of_a_board_are_seen_while_they_move_and_edges_lead_to_the_log_and_back() {
    let bench = Bench::new("page-wave");
    let levels = with_lines(&bench);
    let master = bench.world.master();
    let _agent = bench.agent();
    bench.await_standing("free");
    bench.world.repository.push_saifile(&saifile(&[("PASS", KEYS)]));
    let job = at_step(&bench.world, 1, "PASS", 2);
    let token = bench.world.command(&["user", "add", "root", "admin"]);
    // The bench has the world of the master; the browser's profile is in one of its own.
    let mut scene = Scene::before(World::new("page-wave-browser"), master);
    scene.url = format!("https://127.0.0.1:{}", bench.world.port);
    let browser = &scene.browser;
    let moves = |edges: &str| fs::write(levels.with_extension("in"), edges).expect("the lines");

    // It comes by itself once there are lines, and grows.
    scene.open(&format!("/job/{job}"));
    browser.until("document.querySelector('#wave svg')?.checkVisibility()");
    browser.script("window.sameDocument = true");
    let told = "document.querySelector('#wave .tools .muted')?.textContent";
    for _ in 0..20 {
        moves("b1");
        moves("b0");
    }
    browser.until(&format!("/, 40 edges$/.test({told})"));
    browser.until(
        "document.querySelector('#wave-desc').textContent.includes('clock: 40 edges, not known at first, 0 at last')",
    );
    // Who has the board is seen meanwhile, and that it is free afterwards.
    let first = browser.tab();
    browser.new_tab();
    scene.open("/boards");
    browser.until(&format!("document.querySelector('#board-a-uno-1 a[href^=\"/job/{job}/\"]')"));
    assert!(scene.is("document.querySelector('nav a[aria-current]').innerText === 'Boards'"));
    assert_eq!(scene.faults("the boards, one of them held"), "");
    scene.picture("boards");
    browser.click("#board-a-uno-1 a[href='/boards/a/uno-1']");
    browser.until("document.querySelector('#board-head .badge.busy') && document.querySelector('#link.up')");
    browser.script("window.sameDocument = true");
    let second = browser.tab();
    browser.switch_to(&first);
    moves("a1");
    let event = bench.world.ended(1);
    assert_eq!(at_board(&event, "PASS").state, "passed", "{}", String::from_utf8_lossy(&bench.world.log(job)));
    browser.until("document.querySelector('#job-head.passed')");
    browser.until(&format!("/, 41 edges$/.test({told}) && !document.querySelector('#wave').dataset.grows"));
    assert!(scene.is("window.sameDocument"), "no page was loaded meanwhile");
    let desc = browser.text_of("return document.querySelector('#wave-desc').textContent");
    assert!(desc.contains("led: 1 edge, not known at first, 1 at last"), "{desc}");
    let marks = browser
        .text_of("return [...document.querySelectorAll('.flag title')].map((one) => one.textContent).join('; ')");
    // Those that come within one column are one, with the first one's words: which ones is a matter of milliseconds.
    let shown: usize = marks
        .split("; ")
        .map(|mark| {
            mark.split_once(" and ").and_then(|(_, more)| more.split(' ').next()?.parse().ok()).unwrap_or(0) + 1
        })
        .sum();
    let words = ["reset", "play press", "step 1", "bytes sent by"].map(|word| marks.contains(word));
    assert!(shown > 10 && words.iter().filter(|is| **is).count() >= 3, "{shown}: {marks}");
    assert!(
        scene.is("document.querySelectorAll('.trace').length >= 3 && document.querySelector('.trace.console rect')"),
        "two lines, one console"
    );

    // A click on the edge marks it, and the log goes there; another one with the shift key tells how far they are apart.
    let point = |moment: &str, kind: &str, shift: bool| browser.point_at_wave(moment, kind, shift);
    // The first row is `led`, whose one edge is after the window's beginning by what its first number says.
    let edge = "Number(document.querySelector('.trace').dataset.at)";
    browser.script(&format!("window.edge = {edge}"));
    browser.script("document.querySelector('.step:last-of-type').open = false");
    for kind in ["pointermove", "pointerdown", "pointerup"] {
        point("window.edge", kind, false);
    }
    browser.until("document.querySelector('#wave').dataset.a === String(window.edge)");
    browser.until("document.querySelector('.lines .sel') && document.querySelector('#wave.pinned')");
    let seen = "(() => { const b = document.querySelector('.sel').getBoundingClientRect(); return b.top > 0 && b.bottom <= innerHeight; })()";
    browser.until(seen);
    assert!(
        scene.is("location.search.includes('a=' + window.edge) && /line=\\d+/.test(location.search)"),
        "{}",
        browser.address()
    );
    // Which of the lines that came within its column is a matter of milliseconds.
    assert!(scene.is("document.querySelector('.sel').textContent.includes('serial:main')"), "the board's console");
    for kind in ["pointerdown", "pointerup"] {
        point("(window.edge - 0.1 * (wave.to - wave.from))", kind, true);
    }
    browser.until("/A .*, B .*, apart \\d/.test(document.querySelector('#wave-told').textContent)");
    scene.picture("wave");
    assert_eq!(scene.faults("a job with its waveform"), "");

    // And back: from a line of the log to its moment.
    browser.script("document.querySelector('.lines > div:last-of-type > a').scrollIntoView({ block: 'center' })");
    let last = browser.text("[...document.querySelectorAll('.lines > div[id]')].at(-1).id.slice(1)").expect("a line");
    browser.script(&format!("document.querySelector('#L{last} > a').click()"));
    browser.until(&format!("document.querySelector('#wave-told').textContent.includes('line {last} of the log at')"));
    browser.until("document.querySelector('#wave .of-line')");

    // By keyboard: nearer, to an edge, a mark, the log.
    browser.script("document.querySelector('#wave-view').focus()");
    let span = "(document.querySelector('#wave').dataset.to - document.querySelector('#wave').dataset.from)";
    browser.script(&format!("window.span = {span}"));
    scene.press("+");
    browser.until(&format!("Math.abs({span} * 2 - window.span) < 4"));
    assert!(scene.is("document.activeElement.id === 'wave-view'"), "the focus stays");
    browser.click("#wave nav a:first-child");
    browser.until(&format!("{span} === window.span"));
    browser.script("document.querySelector('#wave-view').focus()");
    scene.press("ArrowRight");
    scene.press("b");
    browser.until("Number(document.querySelector('#wave').dataset.b) > 0 && document.querySelector('#wave-told').textContent.includes('cursor')");
    // A part of the time that is drawn with the mouse is shown alone.
    for (moment, kind) in
        [("0.25 * wave.to", "pointerdown"), ("0.5 * wave.to", "pointermove"), ("0.5 * wave.to", "pointerup")]
    {
        point(&format!("({moment})"), kind, false);
    }
    browser.until(&format!("Math.abs({span} * 4 - window.span) < window.span / 50"));
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");

    // The board is free, and its history has the job.
    browser.switch_to(&second);
    browser.until("document.querySelector('#board-head .badge.free')");
    assert!(scene.is("window.sameDocument"), "no page was loaded meanwhile");
    scene.open("/boards/a/uno-1");
    browser.until(&format!("document.querySelector('td a[href=\"/job/{job}/1\"]')"));
    assert_eq!(scene.faults("a board"), "");
    scene.picture("board");
    scene.open("/sign-in");
    scene.show(&token);
    for address in ["/boards", "/boards/a/uno-1", "/agents", "/units"] {
        scene.open(address);
        browser.until("document.querySelector('main a[href=\"/boards/a/uno-1\"], #board-head')");
        assert_eq!(scene.faults(&format!("{address} with a board, to an admin")), "");
    }

    // An admin has it looked at, gives it jobs all the same, and sets it aside.
    scene.open("/boards/a/uno-1");
    let says = |what: &str| {
        browser.until(&format!("document.querySelector('#board-head').innerText.includes({what:?})"));
    };
    says("Health: not looked at yet.");
    browser.click("form[action='/boards/a/uno-1/health'] button");
    browser.until("document.querySelector('#job-head.failed')");
    let main = browser.text("document.querySelector('main').innerText").unwrap_or_default();
    assert!(main.contains("good.bin: No such file") && main.contains("fault: the spec"), "{main}");
    fs::write(bench.world.directory.join("good.bin"), vec![0xff; 512]).expect("an image that says nothing");
    scene.open("/boards/a/uno-1");
    browser.until("document.querySelector('#board-head .badge.free')");
    browser.click("form[action='/boards/a/uno-1/health'] button");
    browser.until("document.querySelector('#job-head.failed, #job-head.infra')");
    scene.open("/boards/a/uno-1");
    browser.until("document.querySelector('#board-head .badge.aside')");
    says("not well, by job");
    says("did not find it well");
    assert_eq!(scene.faults("a board that is not well"), "");
    scene.picture("board-unwell");
    browser.click("form[action='/boards/a/uno-1/take-back'] button");
    browser.until("document.querySelector('#board-head .badge.free')");
    browser.click("form[action='/boards/a/uno-1/set-aside'] button");
    says("Set aside by root");
    assert_eq!(scene.faults("a board that is set aside"), "");
    scene.picture("board-aside");
    browser.click("form[action='/boards/a/uno-1/take-back'] button");
    browser.until("document.querySelector('#board-head .badge.free')");

    // Without a script: its words, its links, and the marks by the list.
    browser.devtools("Emulation.setScriptExecutionDisabled", "{\"value\": true}");
    scene.open(&format!("/job/{job}"));
    browser.click("#wave nav a:nth-child(4)");
    browser.until("location.search.includes('from=') && location.hash === '#wave'");
    assert!(scene.is("document.querySelector('#wave svg path, #wave svg rect')"));
    scene.open(&format!("/job/{job}/1/waveform"));
    browser.click("#wave details summary");
    browser.click("#wave td a[aria-label^='A at']");
    browser.until("location.search.includes('a=')");
    browser.click("#wave details summary");
    browser.click("#wave tbody tr:last-child td a[aria-label^='B at']");
    browser.until("document.querySelector('#wave-told').innerText.includes('apart')");
    browser.devtools("Emulation.setScriptExecutionDisabled", "{\"value\": false}");
    scene.open(&format!("/job/{job}/1/waveform"));
    browser.until("document.querySelector('#wave-view.alive')");
    scene.picture("wave-alone");
    assert_eq!(scene.faults("a waveform alone"), "");
    eventually("the board is free for others", || (bench.standing() == "free").then_some(()));
    let _ = fs::remove_file(levels.with_extension("in"));
    let _ = fs::remove_file(levels.with_extension("out"));
}
