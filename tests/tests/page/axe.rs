//! Every page in both themes, to strangers and admins, and on a phone → what axe-core finds on them, and what sticks out: nothing.

use super::{PHONE, Scene, place};
use std::path::Path;
use std::process::Command;

/// What axe-core finds on the page that it was read into. The rows of a log look all the same, and it takes as long for each as
/// for a whole page otherwise: the first of each step stay, and those that are marked.
const AXE: &str = r#"
    for (const row of document.querySelectorAll(".lines > div:not([class]):nth-of-type(n+20)")) row.remove();
    const wanted = RULES.length ? { runOnly: { type: "rule", values: RULES } } : {};
    return axe.run(document, { ...wanted, resultTypes: ["violations"] }).then((found) => found.violations
        .map((one) => one.id + " (" + one.help + "): " + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | "))
        .join("\n"));
"#;

/// Pages that are there whatever was built; those that explain are added as their list links to them.
const ALWAYS: [&str; 13] = [
    "/",
    "/?configuration=broken&state=failed",
    "/?repository=project&branch=main",
    "/?q=nothing+of+the+kind",
    "/event/1",
    "/event/1?state=wrong",
    "/history?repository=project&configuration=broken&platform=linux",
    "/agents",
    "/units",
    "/boards",
    "/nothing",
    "/docs",
    "/sign-in",
];

/// The program of axe-core.
fn axe() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/axe/axe.min.js.xz");
    let unpacked = Command::new("xz").arg("-dc").arg(&file).output().expect("xz");
    assert!(unpacked.status.success(), "{}: {unpacked:?}", file.display());
    String::from_utf8(unpacked.stdout).expect("UTF-8")
}

impl Scene {
    /// What axe-core finds on the page that is open in both themes, and whether it is wider than a phone; a picture is taken of it.
    pub(super) fn faults(&self, name: &str) -> String {
        self.browser.script(&format!("{}; return null;", axe()));
        let mut found = Vec::new();
        // Only colours differ between the themes.
        for (scheme, rules) in [("light", "[]"), ("dark", "[\"color-contrast\"]")] {
            self.media(&format!("[{{\"name\": \"prefers-color-scheme\", \"value\": {scheme:?}}}]"));
            let said = self.browser.text_of(&AXE.replace("RULES", rules));
            found.extend(said.lines().map(|line| format!("{name}, {scheme}: {line}")));
        }
        self.media("[]");
        let file: String =
            name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        self.browser.picture(&place().join(format!("each{file}.png")));
        self.browser.devtools("Emulation.setDeviceMetricsOverride", PHONE);
        let wide = self.browser.text("document.documentElement.scrollWidth").expect("a width");
        if !wide.parse::<u32>().is_ok_and(|wide| wide <= 390) {
            found.push(format!("{name} is {wide} pixels wide on a phone"));
        }
        self.browser.devtools("Emulation.clearDeviceMetricsOverride", "{}");
        found.join("\n")
    }
}

#[test]
fn axe_finds_nothing_on_any_page_in_both_themes() {
    let scene = Scene::new("page-axe");
    let browser = &scene.browser;
    let (broken, hostile, patient) = (scene.job("broken"), scene.job("hostile"), scene.job("patient"));
    let revision = scene.world.event(1).expect("the event").event.revision;
    let mut pages: Vec<String> = ALWAYS.map(str::to_string).to_vec();
    pages.extend([
        format!("/?revision={revision}"),
        format!("/job/{broken}"),
        format!("/job/{broken}/1?q=error"),
        format!("/job/{broken}/1?q=%28&regex=1"),
        format!("/job/{broken}/1?line=2990-2999"),
        format!("/job/{hostile}"),
        format!("/job/{hostile}/1/tests"),
        format!("/job/{hostile}/1/tests?name=two"),
        format!("/job/{patient}"),
    ]);
    scene.open("/docs");
    let docs = browser.text_of(
        "return [...document.querySelectorAll('main a')].map((one) => one.getAttribute('href')) \
         .filter((one) => /^\\/docs\\/[a-z-]+$/.test(one)).join(' ')",
    );
    pages.extend(docs.split(' ').map(str::to_string));
    assert!(docs.contains("/docs/operating") && pages.len() > 28, "{docs}");
    let mut found = Vec::new();
    let mut look = |name: String| found.extend(Some(scene.faults(&name)).filter(|faults| !faults.is_empty()));
    for address in &pages {
        scene.open(address);
        look(address.clone());
    }
    scene.open("/sign-in");
    scene.show(&scene.world.command(&["user", "add", "root", "admin"]));
    let admins = ["/", "/?repository=project&branch=main", "/agents", "/units", "/audit", "/event/1", "/nothing"];
    let jobs = [format!("/job/{broken}"), format!("/job/{patient}")];
    for address in admins.map(str::to_string).iter().chain(&jobs) {
        scene.open(address);
        let audit = scene.is("document.querySelector('h1')?.innerText === 'What people did'");
        assert_eq!(audit, address == "/audit", "{address}");
        browser.script("for (const one of document.querySelectorAll('details')) one.open = true;");
        look(format!("{address} to an admin with all of it opened"));
    }
    scene.press("?");
    browser.until("document.querySelector('#keys').open");
    look("the list of keys".to_string());
    // What answers a form.
    scene.open("/agents");
    browser.type_into("#name", "shed");
    browser.script("document.querySelector('form[action$=\"/agents/add\"]').requestSubmit()");
    browser.until("document.querySelector('pre.answer')");
    look("a new agent's line".to_string());
    assert!(found.is_empty(), "{}", found.join("\n"));
    // It does find what is wrong.
    scene.open("/agents");
    browser.script(
        "document.querySelector('main').insertAdjacentHTML('beforeend', \
         '<img src=\"/assets/icon.svg\"><input><p id=pale>too pale</p>'); \
         document.querySelector('#pale').style.color = '#ccc'; document.querySelector('#pale').style.background = '#fff';",
    );
    let said = scene.faults("a page with faults");
    for rule in ["image-alt", "label", "color-contrast"] {
        assert!(said.lines().any(|line| line.contains(&format!(": {rule} "))), "{rule}: {said}");
    }
}
