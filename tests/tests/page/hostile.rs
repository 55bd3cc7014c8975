//! Words of strangers wherever they can put some: branch, subject, author, configuration, variable, file, test case, step → text.

use super::Scene;
use sai_tests::process::eventually;
use sai_tests::repository::{git, run};
use sai_tests::world::World;

/// It leaves whatever it is put into, and runs if it is ever taken for markup; a ref's name may have no space in it.
const MARKUP: &str = "x'\"><img/src=x/onerror=window.hit=1></script>&lt;i";

/// A job whose every word is that.
fn saifile(step: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {step:?}}}}}, \
         \"configurations\": {{\"default\": {{\"artifacts\": \"out/*\"}}}}}}"
    )
}

#[test]
fn words_of_strangers_are_never_taken_for_markup() {
    let mut world = World::new("page-strangers");
    world.set("builtin", "{\"slots\": 2, \"platforms\": [\"linux\"]}");
    let master = world.master();
    let quoted = format!("'{}'", MARKUP.replace('\'', "'\\''"));
    let file = MARKUP.replace('/', "|");
    let step = format!(
        "mkdir out; echo {quoted}; echo {quoted} >&2; printf '1..1\\nnot ok 1 - %s\\n' {quoted} > out/r.tap; \
         echo hi > out/{}; exit 1",
        format_args!("'{}.txt'", file.replace('\'', "'\\''"))
    );
    world.repository.write(".sai.json", saifile(&step));
    run(git(&world.repository.work).args(["add", "--all"]));
    run(git(&world.repository.work)
        .args(["commit", "--quiet", "--author"])
        .arg(format!("{MARKUP} <a@b>"))
        .args(["-m", MARKUP]));
    let branch = MARKUP;
    run(git(&world.repository.work).args(["push", "--quiet", "origin"]).arg(format!("HEAD:refs/heads/{branch}")));
    let event = world.ended(1);
    let token = world.command(&["user", "add", "root", "admin"]);
    world.command(&["start", "project", branch, &format!("env=VERSION={MARKUP}")]);
    eventually("it is built with that variable", || {
        world.event(2).filter(|event| event.jobs.iter().all(|job| job.ended()))
    });
    let scene = Scene::of(world, master);
    let browser = &scene.browser;
    scene.open("/sign-in");
    scene.show(&token);
    let job = event.jobs[0].id;
    let encoded: String = MARKUP.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let of_branch: String = branch.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for address in [
        "/".to_string(),
        format!("/?repository=project&branch={of_branch}"),
        format!("/?q={encoded}&author={encoded}&configuration={encoded}&platform={encoded}&revision={encoded}"),
        format!("/?state={encoded}"),
        "/event/1".to_string(),
        format!("/event/1?platform={encoded}"),
        "/event/2".to_string(),
        format!("/job/{job}"),
        format!("/job/{job}/1?q={encoded}"),
        format!("/job/{job}/1?q={encoded}&regex=1"),
        format!("/job/{job}/1?line={encoded}"),
        format!("/job/{job}/1/tests"),
        format!("/job/{job}/1/tests?q={encoded}"),
        format!("/job/{job}/1/tests?name={encoded}"),
        format!("/history?repository=project&branch={of_branch}&configuration=default&platform=linux"),
        format!("/history?repository={encoded}&configuration={encoded}&platform={encoded}"),
        format!("/audit?who={encoded}&q={encoded}"),
        "/agents".to_string(),
        "/audit".to_string(),
        format!("/sign-in?to={encoded}"),
        format!("/docs/{encoded}"),
        format!("/latest/project/{of_branch}"),
    ] {
        scene.open(&address);
        browser.until("document.querySelector('main')");
        assert!(
            scene.is("window.hit === undefined && !document.querySelector('img[src=x], main script, main i i')"),
            "{address}"
        );
    }
    // They are shown as what they are.
    scene.open("/event/1");
    let title = browser.text("document.querySelector('h1').textContent").unwrap_or_default();
    assert_eq!(title, MARKUP);
    scene.open(&format!("/job/{job}"));
    let shown = browser.text("document.querySelector('#log').textContent").unwrap_or_default();
    assert!(shown.contains(MARKUP), "{shown}");
    let files = browser.text("document.querySelector('#artifacts').textContent").unwrap_or_default();
    assert!(files.contains(&file), "{files}");
    scene.picture("hostile");
}
