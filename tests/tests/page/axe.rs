//! Pages in both themes, to strangers and admins → what axe-core finds on them: nothing.

use super::Scene;
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

/// The program of axe-core.
fn axe() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/axe/axe.min.js.xz");
    let unpacked = Command::new("xz").arg("-dc").arg(&file).output().expect("xz");
    assert!(unpacked.status.success(), "{}: {unpacked:?}", file.display());
    String::from_utf8(unpacked.stdout).expect("UTF-8")
}

#[test]
fn axe_finds_nothing_on_any_page_in_both_themes() {
    let scene = Scene::new("page-axe");
    let axe = axe();
    let (broken, hostile, patient) = (scene.job("broken"), scene.job("hostile"), scene.job("patient"));
    let pages = [
        "/".to_string(),
        "/?configuration=broken&state=failed".to_string(),
        "/event/1".to_string(),
        format!("/job/{broken}"),
        format!("/job/{broken}/1?q=error"),
        format!("/job/{hostile}"),
        format!("/job/{patient}"),
        format!("/job/{hostile}/tests"),
        "/history?repository=project&configuration=broken&platform=linux".to_string(),
        "/agents".to_string(),
        "/units".to_string(),
        "/nothing".to_string(),
        "/docs".to_string(),
        "/docs/saifile".to_string(),
        "/docs/boards".to_string(),
        "/sign-in".to_string(),
    ];
    let mut found = Vec::new();
    let look = |address: &str, who: &str, found: &mut Vec<String>| {
        scene.browser.script(&format!("{axe}; return null;"));
        // Only colours differ between the themes.
        for (scheme, rules) in [("light", "[]"), ("dark", "[\"color-contrast\"]")] {
            scene.media(&format!("[{{\"name\": \"prefers-color-scheme\", \"value\": {scheme:?}}}]"));
            let said = scene.browser.text_of(&AXE.replace("RULES", rules));
            found.extend(said.lines().map(|line| format!("{address} {who}, {scheme}: {line}")));
        }
    };
    for address in &pages {
        scene.open(address);
        look(address, "to a stranger", &mut found);
    }
    scene.browser.type_into("#token", &scene.token);
    scene.browser.click("main form button");
    scene.browser.until("document.querySelector('.who')");
    for address in ["/", "/agents", "/audit", "/event/1"].map(str::to_string).iter().chain([&pages[3], &pages[6]]) {
        scene.open(address);
        look(address, "to an admin", &mut found);
    }
    // What opens: questions, filters, the list of keys.
    for (open, address) in [("document.querySelector('.find summary').click()", "/"), ("1", pages[6].as_str())] {
        scene.open(address);
        scene
            .browser
            .script(&format!("{open}; for (const one of document.querySelectorAll('details')) one.open = true;"));
        if open == "1" {
            scene.press("?");
            scene.browser.until("document.querySelector('#keys').open");
        }
        look(address, "with all of it opened", &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    // It does find what is wrong.
    scene.open("/agents");
    scene.browser.script(&format!("{axe}; return null;"));
    scene.browser.script(
        "document.querySelector('main').insertAdjacentHTML('beforeend', \
         '<img src=\"/assets/icon.svg\"><input><p id=pale>too pale</p>'); \
         document.querySelector('#pale').style.color = '#ccc'; document.querySelector('#pale').style.background = '#fff';",
    );
    let said = scene.browser.text_of(&AXE.replace("RULES", "[]"));
    for rule in ["image-alt", "label", "color-contrast"] {
        assert!(said.lines().any(|line| line.starts_with(rule)), "{rule}: {said}");
    }
}
