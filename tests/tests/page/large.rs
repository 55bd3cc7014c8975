//! An event of 5 000 jobs in a real browser: what it and its changes cost the tab that shows it.

use super::Scene;
use miniserde::json::{Number, Value};
use sai_tests::process::eventually;
use sai_tests::world::World;

const PLATFORMS: u64 = 50;
const CONFIGURATIONS: u64 = 100;

/// Milliseconds of a processor that the tab's main thread may spend on the page.
const OPENED_MS: f64 = 200.0;

/// The same for a job that is given away, begins and ends; the test's own questions are among it.
const CHANGED_MS: f64 = 10.0;

/// On each platform every second configuration fails.
fn saifile() -> String {
    let platform = |number| format!("\"p{number}\": {{ \"build\": [\"${{what}}\"] }}");
    let platforms: Vec<String> = (0..PLATFORMS).map(platform).collect();
    let configuration = |number| format!("\"c{number}\": {{ \"what\": \"{}\" }}", number % 2 == 0);
    let configurations: Vec<String> = (0..CONFIGURATIONS).map(configuration).collect();
    format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ {} }}, \"configurations\": {{ {} }} }}",
        platforms.join(", "),
        configurations.join(", ")
    )
}

/// Milliseconds of its processor that the tab's main thread has spent.
fn spent(scene: &Scene) -> f64 {
    let Value::Object(answer) = scene.browser.devtools("Performance.getMetrics", "{}") else { panic!("no metrics") };
    let Some(Value::Array(metrics)) = answer.get("metrics") else { panic!("no metrics") };
    let named = |metric: &Value| match metric {
        Value::Object(metric) => match (metric.get("name"), metric.get("value")) {
            (Some(Value::String(name)), Some(Value::Number(Number::F64(seconds)))) if name == "TaskDuration" => {
                Some(*seconds)
            }
            _ => None,
        },
        _ => None,
    };
    metrics.iter().find_map(named).expect("what the main thread has spent") * 1000.0
}

#[test]
fn an_event_of_five_thousand_jobs_costs_its_tab_next_to_nothing() {
    let world = World::new("page-large");
    let master = world.master();
    world.repository.push_saifile(&saifile());
    let jobs = PLATFORMS * CONFIGURATIONS;
    // There may be no such event yet.
    let page = || String::from_utf8(world.get("/event/1")?).ok();
    let all = format!("{} queued", "5\u{202f}000");
    eventually("all jobs are there", || page().filter(|page| page.contains(&all)));
    let scene = Scene::of(world, master);
    scene.browser.devtools("Performance.enable", "{\"timeDomain\": \"threadTicks\"}");
    scene.browser.open("about:blank");
    let begun = spent(&scene);
    scene.open("/event/1");
    scene.browser.until("document.querySelector('#link').textContent === 'live'");
    let opened = spent(&scene) - begun;
    let before = spent(&scene);
    let _agent = scene.world.agent("rock", &["p7"], 4);
    // Not asked of the tab, which would be the busier for it.
    eventually("all jobs of the platform end", || {
        let page = scene.world.page("/event/1");
        (page.contains("50 failed") && page.contains("50 passed")).then_some(())
    });
    scene.browser.until("/^p7\\s+50 failed\\s+50 passed$/.test(document.querySelector('#platform-7').innerText)");
    let changes = spent(&scene) - before;
    let rows = scene.browser.text("document.getElementsByTagName('*').length").expect("a number");
    println!("{jobs} jobs: opened in {opened:.0} ms of the main thread, then {changes:.0} ms; {rows} elements");
    scene.picture("large");
    assert!(opened < OPENED_MS, "{opened} ms to open");
    let each = changes / CONFIGURATIONS as f64;
    assert!(each < CHANGED_MS, "{each} ms for each job");
    scene.browser.click("#platform-7 a");
    scene.browser.until("document.querySelectorAll('tbody tr').length === 100");
    scene.picture("large-platform");
    assert_eq!(scene.faults("one platform of a large event"), "");
    scene.open("/event/1");
    assert_eq!(scene.faults("a large event"), "");
    assert_eq!(scene.browser.console(), Vec::<String>::new(), "nothing is blocked, missing or wrong");
}
