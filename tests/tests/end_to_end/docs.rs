//! What the pages of `docs/` tell people to do → done, or held to what the README's own test does.

use sai_tests::process::eventually;
use sai_tests::repository::{run, sai_master, saifile};
use sai_tests::world::World;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A page's blocks of code.
fn blocks(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(code) => blocks.last_mut().expect("a block").push_str(&format!("{code}\n")),
            None if line.is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.into_iter().filter(|block| !block.is_empty()).collect()
}

#[test]
fn the_docs_have_no_command_that_the_readme_has_not_and_no_file_that_is_wrong() {
    let readme = blocks("README.md").concat();
    let directory = std::env::temp_dir().join(format!("sai-docs-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let mut commands = 0;
    for page in ["first-build", "agents", "containers", "operating", "laptop"] {
        for block in blocks(&format!("docs/{page}.md")) {
            // A file ends where its first brace is closed; commands may follow it.
            let (file, lines) = match block.find("\n}\n").filter(|_| block.starts_with('{')) {
                Some(end) => block.split_at(end + 3),
                None => ("", block.as_str()),
            };
            for line in lines.lines() {
                assert!(readme.lines().any(|known| known == line), "docs/{page}.md: {line}");
                commands += 1;
            }
            if file.contains("\"schema\"") {
                let path = directory.join(".sai.json");
                std::fs::write(&path, file).expect("a file");
                let (status, said, told) = sai_master(&["lint", &path.display().to_string()]);
                assert_eq!((status, said.as_str()), (0, ""), "{told}");
            } else if !file.is_empty() {
                let config = file.replace("/var/lib/sai-master", &directory.join("state").display().to_string());
                std::fs::write(directory.join("master.json"), config).expect("a file");
                let path = directory.join("master.json").display().to_string();
                let (_, _, told) = sai_master(&["status", "--config", &path]);
                assert!(!told.contains("expected"), "{told}");
            }
        }
    }
    assert!(commands > 15, "{commands}");
    std::fs::remove_dir_all(&directory).expect("it can be removed");
}

#[test]
fn what_the_page_of_the_api_says_can_be_asked() {
    let world = World::new("docs-api");
    let _master = world.master();
    let token = world.command(&["user", "add", "ann", "90d"]);
    // A job that has ended, to be built again; nobody builds it.
    world.repository.push_saifile(&saifile(&["true"]));
    eventually("the push is an event", || world.event(1));
    world.command(&["cancel", "event", "1"]);
    let address = format!("https://{}", world.address());
    let lines: Vec<String> = blocks("docs/api.md").concat().lines().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 4);
    for line in lines {
        let line = line.replace("https://ci.example.org:4433", &address).replace("hello", "project");
        let said =
            run(Command::new("sh").arg("-c").arg(format!("{line} -sS -w '\\n%{{http_code}}'")).env("TOKEN", &token));
        let (said, status) = said.trim().rsplit_once('\n').unwrap_or(("", said.trim()));
        // Nothing was ever built, so that there is no log.
        let wanted = if line.contains("/log") { "404" } else { "200" };
        assert_eq!(status, wanted, "{line}: {said}");
    }
    assert_eq!(world.event(2).expect("what was started").event.source, "start");
    let page = world.page("/docs/saifile");
    assert!(page.contains("<code>paths</code>"), "{page}");
}
