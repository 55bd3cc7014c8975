//! What a page teaches and what is done on it: the first steps of an empty master, a job that nobody can run, a start by hand.

use super::{Scene, saifile};
use sai_tests::process::eventually;
use sai_tests::repository::run;
use sai_tests::world::World;
use std::fs;
use std::process::Command;

/// One job that waits for a machine as none is.
const RARE: &str = r#"{ "schema": "sai-1", "platforms": { "plan9/mips/8c": { "build": "true" } }, "configurations": { "default": {} } }"#;

/// Jobs that say what they were given.
const GIVEN: &str = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "echo on $SAI_REF with $VERSION" } },
    "configurations": { "default": {}, "other": {} } }"#;

impl Scene {
    /// What the button beside the text with this number puts into the clipboard.
    fn copied(&self, number: usize) -> String {
        self.browser.script(&format!("document.querySelectorAll('pre.answer + button')[{number}].click()"));
        let said = format!("document.querySelectorAll('pre.answer + button')[{number}].textContent.includes('Copied')");
        self.browser.until(&said);
        self.browser.text_of("return navigator.clipboard.readText()")
    }

    pub(super) fn sign_in(&self, token: &str) {
        self.open("/sign-in");
        self.show(token);
    }

    /// Whoever leaves before the answer is there stays signed in.
    fn sign_out(&self) {
        self.browser.click("header form button");
        self.browser.until("document.querySelector('header .sign-in')");
    }
}

#[test]
fn an_empty_master_says_what_comes_first_and_ticks_it_off_as_it_happens() {
    let world = World::new("page-first");
    let master = world.master();
    // Nobody tells of a push but who follows the page.
    fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("a hook");
    let scene = Scene::before(world, master);
    let (browser, world) = (&scene.browser, &scene.world);
    scene.open("/");
    browser.until("document.querySelectorAll('#first-steps pre.answer + button').length === 3");
    browser.until("document.querySelector('#link.up')");
    scene.picture("first-steps");
    assert_eq!(scene.faults("first steps"), "");
    let grant = format!("{{\"origin\": {:?}, \"permissions\": [\"clipboardReadWrite\"]}}", scene.url);
    browser.devtools("Browser.grantPermissions", &grant);
    // Each button takes its own command along, with this master's address in the last one.
    let commands: Vec<String> = (0..3).map(|number| scene.copied(number)).collect();
    for (number, command) in commands.iter().enumerate() {
        let shown =
            browser.text(&format!("document.querySelectorAll('#first-steps pre.answer')[{number}].textContent"));
        assert_eq!(shown.as_ref(), Some(command));
    }
    assert!(commands[2].contains(&format!("{}/hook/project?ref=main", scene.url)), "{commands:?}");
    // All that follows is seen in the page that is open.
    browser.script("window.sameDocument = true");
    let ticked = |number: usize| {
        let step = format!("document.querySelectorAll('#first-steps li')[{number}]");
        browser.until(&format!(
            "{step}.matches('.done') && {step}.textContent.includes('Done') && !{step}.querySelector('pre')"
        ));
        let left = format!("document.querySelectorAll('#first-steps pre + button').length === {}", 2 - number);
        browser.until(&left);
    };
    let run_on_master = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[..2], ["sudo", "sai-master"], "{command}");
        world.command(&words[2..])
    };
    let token = run_on_master(&commands[0]);
    ticked(0);
    // Who is let in is not there yet.
    assert!(commands[1].ends_with(" add shed"), "{commands:?}");
    let _agent = world.agent("shed", &["linux"], 1);
    ticked(1);
    scene.picture("first-steps-two");
    world.repository.push_saifile(&saifile(&world.directory));
    run(Command::new("sh").args(["-c", &commands[2]]));
    ticked(2);
    browser.until("document.querySelector('#event-1')");
    assert!(scene.is("window.sameDocument"), "no page was loaded meanwhile");
    scene.picture("first-steps-done");
    // What is done is not shown again.
    scene.sign_in(&token);
    scene.open("/");
    browser.until("document.querySelector('#event-1')");
    assert!(!scene.is("document.querySelector('#first-steps')"));
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}

#[test]
fn a_job_that_nobody_can_run_tells_admins_whom_to_let_in() {
    let world = World::new("page-unserved");
    let master = world.master();
    world.repository.push_saifile(RARE);
    eventually("the job waits", || world.event(1).filter(|event| event.jobs.len() == 1));
    let scene = Scene::before(world, master);
    let (browser, world) = (&scene.browser, &scene.world);
    let job = world.event(1).expect("the event").jobs[0].id;
    let (admin, builder) =
        (world.command(&["user", "add", "root", "admin"]), world.command(&["user", "add", "bob", "builder"]));
    let panel = "document.querySelector('main').innerText.includes('No machine offers this platform')";
    for token in [None, Some(&builder)] {
        if let Some(token) = token {
            scene.sign_in(token);
        }
        scene.open(&format!("/job/{job}"));
        browser.until("document.querySelector('.waiting')");
        assert!(!scene.is(panel), "{token:?} can let nobody in");
    }
    scene.sign_out();
    scene.sign_in(&admin);
    scene.open(&format!("/job/{job}"));
    browser.until(panel);
    let grant = format!("{{\"origin\": {:?}, \"permissions\": [\"clipboardReadWrite\"]}}", scene.url);
    browser.devtools("Browser.grantPermissions", &grant);
    assert_eq!(scene.copied(0), "sudo sai-master agent add NAME\nsai-agent join LINE --platform plan9/mips/8c");
    scene.picture("unserved");
    assert_eq!(scene.faults("a job that nobody can run"), "");
    // As it says, and the job is built by who came.
    let _agent = world.agent("shed", &["plan9/mips/8c"], 1);
    browser.until("document.querySelector('#job-head.passed')");
    scene.open(&format!("/job/{job}"));
    browser.until("document.querySelector('#job-head.passed')");
    assert!(!scene.is(panel));
    assert_eq!(browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}

#[test]
fn a_branch_is_started_by_hand_with_what_the_form_says() {
    let mut world = World::new("page-start");
    world.set("builtin", "{\"slots\": 2, \"platforms\": [\"linux\"]}");
    let master = world.master();
    world.repository.push_saifile(GIVEN);
    let ended = world.ended(1);
    assert_eq!(ended.jobs.len(), 2);
    let scene = Scene::before(world, master);
    let (browser, world) = (&scene.browser, &scene.world);
    scene.open("/");
    browser.until("document.querySelector('#event-1')");
    let open =
        "[...document.querySelectorAll('details.find summary')].find((one) => one.textContent === 'Start a build')";
    assert!(!scene.is(open), "strangers start nothing");
    scene.sign_in(&world.command(&["user", "add", "bob", "builder"]));
    scene.open("/?repository=project&branch=main");
    browser.script(&format!("{open}.click()"));
    browser.until("document.querySelector('form[action=\"/start/project\"] button').checkVisibility()");
    assert_eq!(
        browser.text("document.querySelector('[name=branch]:not(.find select)').value").as_deref(),
        Some("main")
    );
    let form = "form[action='/start/project']";
    browser.type_into(&format!("{form} [name=configuration]"), "other");
    browser.type_into(&format!("{form} [name=env]"), "VERSION=1.2");
    scene.picture("start");
    browser.click(&format!("{form} button"));
    browser.until("document.querySelector('#event-head')");
    browser.until("document.querySelector('.told')?.textContent.includes('started')");
    assert!(browser.address().ends_with("/event/2"), "{}", browser.address());
    let event = world.ended(2);
    let built: Vec<_> = event.jobs.iter().map(|job| (job.configuration.as_str(), job.state.as_str())).collect();
    assert_eq!(built, [("other", "passed")]);
    assert_eq!(world.log(event.jobs[0].id), b"on refs/heads/main with 1.2\n");
    scene.picture("started");
    // What is wrong is said, with what was expected, and nothing is started.
    scene.open("/?repository=project");
    browser.script(&format!("{open}.click()"));
    browser.type_into(&format!("{form} [name=branch]"), "main");
    browser.type_into(&format!("{form} [name=env]"), "no variable");
    browser.click(&format!("{form} button"));
    browser.until("document.body.innerText.includes('expected')");
    assert_eq!(world.events().len(), 2);
    scene.picture("start-wrong");
    let console = browser.console();
    assert!(console.len() == 1 && console[0].contains("400"), "{console:?}");
}
