//! What leads people from a page to what they look for: at the forge, and in what has been built before.

use super::memory::event;
use super::{header, text, world};
use sai_core::forge_page::{ForgePage, Kind};
use sai_core::ledger::EventRecord;
use sai_master::live::LiveRepository;
use sai_master::page::library::now;

#[test]
fn commits_branches_and_what_changed_are_linked_at_the_forge() {
    let world = world(true);
    let page = |address: &str| text(world.get(address));
    assert!(!page("/event/1").contains("https://"));
    let revision = |id| event(id, "hello", "", 0).revision;
    world.memory.change(|held| {
        for (id, branch) in [(2, "main"), (3, "topic/<x>"), (4, "main")] {
            let reference = format!("refs/heads/{branch}");
            held.events.insert(id, EventRecord { reference, ..event(id, "hello", "Later", now()) });
        }
    });
    let forge = ForgePage::new(Some(Kind::GitHub), Some("https://forge.example/a/hello"), "");
    let repository = LiveRepository { name: "hello".to_string(), forge, ..LiveRepository::default() };
    world.library.live.write().unwrap().repositories.push(repository);
    let at = |rest: &str| {
        format!(
            "<a class=\"forge\" href=\"https://forge.example/a/hello/{rest}\" rel=\"noopener noreferrer nofollow\">"
        )
    };
    let last = page("/event/4");
    for link in [
        at(&format!("commit/{}", revision(4))),
        at("tree/main"),
        at(&format!("compare/{}...{}", revision(2), revision(4))),
    ] {
        assert!(last.contains(&link), "{link}: {last}");
    }
    // The first of a branch changes nothing that is known.
    let first = page("/event/3");
    assert!(first.contains(&at("tree/topic/%3Cx%3E")) && !first.contains("/compare/"), "{first}");
    assert!(page("/").contains(&at(&format!("commit/{}", revision(1)))));
    assert!(page("/job/1000").contains(&at(&format!("commit/{}", revision(1)))));
    let api = page("/api/v1/events/3");
    assert!(api.contains("\"ref_page\":\"https://forge.example/a/hello/tree/topic/%3Cx%3E\""), "{api}");
    assert_eq!(header(&world.get("/event/4"), "referrer-policy"), Some("same-origin"));
}
