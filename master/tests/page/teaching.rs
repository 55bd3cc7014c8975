//! What a page tells people to do: first steps, machines that are missing, errors, and the pages that explain.

use super::memory::{event, user};
use super::{OURS, header, text, world};
use sai_core::ledger::UserRecord;
use sai_core::roles::Powers;
use sai_master::live::{LiveAgent, LiveRepository};
use sai_master::page::library::now;
use std::sync::Arc;

fn powers(name: &str, role: &str) -> UserRecord {
    UserRecord { powers: Some(Powers::parse(&[role], 0).unwrap()), ..user(name, &format!("{name}'s token")) }
}

#[test]
fn an_empty_master_shows_its_first_commands_and_ticks_them() {
    let world = world(true);
    world.memory.change(|held| {
        held.events.clear();
        held.users.clear();
    });
    world.library.live.write().unwrap().url = "https://ci.example:4433".to_string();
    let page = |address: &str| text(world.get(address));
    let ticks = |page: &str| (page.matches("<pre class=\"answer\"").count(), page.matches("\u{2713} Done").count());
    let first = page("/");
    assert_eq!(ticks(&first), (3, 0), "{first}");
    assert!(first.contains("First steps at https://ci.example:4433") && first.contains("&quot;repositories&quot;"));
    let repository = LiveRepository { name: "hello".to_string(), ..LiveRepository::default() };
    world.library.live.write().unwrap().repositories.push(repository);
    assert!(page("/").contains("curl -k &#39;https://ci.example:4433/hook/hello?ref=main&#39;"));
    world.memory.change(|held| held.users.push(user("ann", "ann's token")));
    assert_eq!(ticks(&page("/")), (2, 1));
    let agent = LiveAgent { name: "shed".to_string(), connected: true, ..LiveAgent::default() };
    world.library.live.write().unwrap().agents.insert("shed".to_string(), Arc::new(agent));
    assert_eq!(ticks(&page("/")), (1, 2));
    // Only where all is listed, and until all has happened.
    assert_eq!(ticks(&page("/?repository=hello")), (0, 0));
    world.memory.change(|held| drop(held.events.insert(1, event(1, "hello", "Say hello", now()))));
    assert_eq!(ticks(&page("/")), (0, 0));
}

#[test]
fn a_job_that_nobody_can_run_tells_admins_how_to_let_a_machine_in() {
    let world = world(true);
    world.memory.change(|held| held.users.extend([powers("bob", "builder"), powers("root", "admin")]));
    world.library.live.write().unwrap().waiting.insert(1002, "no agent has offered linux yet".to_string());
    let page = |token: &str| {
        let authorization = format!("Bearer {token}");
        text(world.ask("GET", "/job/1002", &[("authorization", &authorization)], ""))
    };
    let command = "sai-agent join LINE --platform linux/x86_64/gcc";
    assert!(page("root's token").contains(command));
    assert!(!page("bob's token").contains(command) && !text(world.get("/job/1002")).contains(command));
    // One that is away offers it still.
    let agent = LiveAgent { platforms: vec!["linux/x86_64/gcc-14".to_string()], ..LiveAgent::default() };
    world.library.live.write().unwrap().agents.insert("shed".to_string(), Arc::new(agent));
    assert!(!page("root's token").contains(command));
}

#[test]
fn each_error_says_what_to_do() {
    let world = world(true);
    world.memory.change(|held| held.users.push(powers("rea", "reader")));
    let rea = [OURS[0], OURS[1], ("authorization", "Bearer rea's token")];
    let ann = [OURS[0], OURS[1], ("authorization", "Bearer ann's token")];
    for (method, address, headers, status, says) in [
        ("GET", "/nothing", OURS, 404, "Look whether the address is complete."),
        ("GET", "/docs/nothing", OURS, 404, "Look whether the address is complete."),
        ("GET", "/history", OURS, 400, "Go back and look at what was filled in"),
        ("GET", "/?before=yesterday", OURS, 400, "expected before to be a number"),
        ("GET", "/?state=fialed", OURS, 400, "expected one of failed, failing, passed"),
        ("GET", "/feed.atom?state=fialed", OURS, 400, "expected one of failed, failing, passed"),
        ("GET", "/?q=%ff", OURS, 400, "expected percent-encoded UTF-8"),
        ("GET", "/event/1?state=fialed", OURS, 400, "expected one of wrong, failed"),
        ("GET", "/job/1000?line=last", OURS, 400, "expected line to be a line or some, as 12 or 12-20"),
        ("GET", "/job/1000/tests?name=%zz", OURS, 400, "expected percent-encoded UTF-8"),
        ("GET", "/audit?before=x", &ann, 400, "expected before to be a number"),
        ("POST", "/event/1/cancel?platform=linux", &ann, 400, "expected no fields"),
        ("POST", "/job/1000/cancel?attempt=first", &ann, 400, "expected nothing, or an attempt"),
        ("POST", "/job/1000/cancel", OURS, 401, "Sign in with the token"),
        ("POST", "/job/1000/cancel", &rea, 403, "An admin can let you"),
        ("GET", "/job/1000/cancel", OURS, 405, "Follow a link or a button"),
        ("POST", "/job/1001/cancel", &ann, 409, "look how it stands now"),
        ("POST", "/start/hello", &ann, 400, "expected a branch"),
    ] {
        let response = world.ask(method, address, headers, "");
        assert_eq!(response.status, status, "{address}");
        let page = text(response);
        assert!(page.contains(says) && page.contains("href=\"/"), "{address}: {page}");
    }
}

#[test]
fn the_docs_are_served_with_the_policy_of_all_pages_and_lead_to_each_other() {
    let world = world(true);
    let list = text(world.get("/docs"));
    let links: Vec<&str> = list.split("href=\"/docs/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() >= 8, "{links:?}");
    for name in links {
        let response = world.get(&format!("/docs/{name}"));
        assert_eq!(response.status, 200, "{name}");
        assert!(
            header(&response, "content-security-policy").is_some_and(|policy| policy.contains("script-src 'self'"))
        );
        let page = text(response);
        for to in page.split("href=\"/docs/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert_eq!(world.get(&format!("/docs/{to}")).status, 200, "{name} leads to {to}");
        }
        assert!(!page.contains("href=\"#\""), "{name}");
    }
    let start = text(world.ask(
        "POST",
        "/start/hello",
        &[OURS[0], OURS[1], ("authorization", "Bearer ann's token")],
        "branch=topic&env=A%3D1",
    ));
    assert_eq!(start, "");
    assert!(world.done.lock().unwrap().iter().any(|done| done.starts_with("ann Start(\"hello\", Start {")), "{start}");
}
