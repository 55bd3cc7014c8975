//! What people of each role are offered, and what is refused to them however they ask.

use super::memory::user;
use super::{OURS, header, text, world};
use sai_core::ledger::UserRecord;
use sai_core::roles::Powers;
use sai_master::page::library::now;

/// A word at a board.
const WORD: &str = "attempt=1&writer=w&number=1&said={\"t\":\"release\"}";
/// Where a piece of an image goes.
const IMAGE: &str =
    "/api/v1/jobs/1000/image/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?size=1&at=0";

#[test]
fn a_role_is_asked_of_pages_the_api_and_open_sessions() {
    let world = world(true);
    world.memory.change(|held| {
        for (name, words) in [
            ("reader", &["reader"][..]),
            ("builder", &["builder"]),
            ("own", &["builder@hello"]),
            ("foreign", &["builder@other"]),
            ("runner", &["reader", "run@hello"]),
            ("admin", &["admin"]),
        ] {
            let powers = Some(Powers::parse(words, 0).unwrap());
            held.users.push(UserRecord { powers, ..user(name, &format!("{name}'s token")) });
        }
        let ended = Some(Powers { until: Some(now() - 1), ..Powers::parse(&["admin"], 0).unwrap() });
        held.users.push(UserRecord { powers: ended, ..user("ended", "ended's token") });
    });
    let by = |name: &str, method: &str, address: &str, body: &str| {
        let token = format!("Bearer {name}'s token");
        world.ask(method, address, &[("authorization", &token)], body)
    };
    // Of its repository, of no repository, and of the master: by the page, and by the API in the same words.
    let all = &["reader", "builder", "own", "foreign", "admin", "ann"][..];
    let (own, builders, admins) =
        (&["builder", "own", "admin", "ann"][..], &["builder", "admin", "ann"][..], &["admin", "ann"][..]);
    let deeds = [
        ("/event/1/cancel", "/api/v1/events/1/cancel", "", own),
        ("/event/1/rebuild", "/api/v1/events/1/rebuild", "state=wrong", own),
        ("/job/1000/cancel", "/api/v1/jobs/1000/cancel", "", own),
        ("/job/1000/1/cancel", "/api/v1/jobs/1000/cancel", "", own),
        ("/job/1000/cancel", "/api/v1/jobs/1000/cancel", "attempt=1", own),
        ("/job/1000/rebuild", "/api/v1/jobs/1000/rebuild", "", own),
        ("/job/1000/rebuild-following", "/api/v1/jobs/1000/rebuild-following", "", own),
        ("/start/hello", "/api/v1/repositories/hello/start", "branch=main", own),
        ("/boards/rock/uno/lease", "/api/v1/boards/lease?board=rock/uno", "", builders),
        ("/boards/rock/uno/health", "/api/v1/boards/rock/uno/health", "", builders),
        ("/boards/rock/uno/set-aside", "/api/v1/boards/rock/uno/set-aside", "", admins),
        ("/boards/rock/uno/take-back", "/api/v1/boards/rock/uno/take-back", "", admins),
        // Whose board it is, is asked where that is known.
        ("/job/1000/say", "/api/v1/jobs/1000/word", WORD, all),
        ("/api/v1/jobs/1000/share", "/api/v1/jobs/1000/share", "with=bob", all),
        (IMAGE, IMAGE, "x", all),
        ("/units/grant/7/free", "/api/v1/units/grant/7/free", "", builders),
        ("/agents/add", "/api/v1/agents/new/add", "name=new", admins),
        ("/agents/rock/revoke", "/api/v1/agents/rock/revoke", "", admins),
        ("/agents/rock/set-aside", "/api/v1/agents/rock/set-aside", "", admins),
        ("/agents/rock/take-back", "/api/v1/agents/rock/take-back", "", admins),
    ];
    let mut passed_on = 0;
    for (page, api, body, allowed) in deeds {
        let on_page = if body == WORD { "attempt=1&text=a" } else { body };
        for (address, body) in [(page, on_page), (api, if body == "name=new" { "" } else { body })] {
            for name in ["reader", "builder", "own", "foreign", "admin", "ann"] {
                let status = by(name, "POST", address, body).status;
                let wanted = match (allowed.contains(&name), address == api || address == "/agents/add") {
                    (false, _) => 403,
                    (true, true) => 200,
                    (true, false) => 303,
                };
                assert_eq!(status, wanted, "{name} {address}");
                passed_on += usize::from(wanted != 403);
            }
            assert_eq!(by("ended", "POST", address, body).status, 401, "{address}");
            assert_eq!(world.ask("POST", address, OURS, body).status, 401, "{address}");
        }
    }
    // What programs alone do: it takes a right that no role has.
    let (digest, revision) = ("a".repeat(64), "b".repeat(40));
    let sent = format!("branch=main&revision={revision}&bundle={digest}&size=1&saifile={digest}");
    let runs = [
        ("/api/v1/repositories/hello/run".to_string(), sent.as_str()),
        (format!("/api/v1/repositories/hello/send/{digest}?size=1&at=0"), "x"),
    ];
    for (address, body) in &runs {
        for name in ["reader", "builder", "own", "foreign", "admin", "runner", "ann"] {
            let wanted = if ["runner", "ann"].contains(&name) { 200 } else { 403 };
            assert_eq!(by(name, "POST", address, body).status, wanted, "{name} {address}");
            passed_on += usize::from(wanted != 403);
        }
        assert_eq!(by("runner", "POST", &address.replace("hello", "other"), body).status, 403, "{address}");
        assert_eq!(world.ask("POST", address, OURS, body).status, 401, "{address}");
    }
    assert_eq!(world.done.lock().unwrap().len(), passed_on, "what is refused is not passed on");
    assert!(world.done.lock().unwrap().iter().any(|done| done.contains("CancelAttempt")));
    // No address that acts is left out of these.
    let described = text(world.get("/api/v1/openapi.json"));
    for (path, _) in described.split("\n  \"").skip(1).filter_map(|rest| rest.split_once("\": {\n   \"post\"")) {
        let filled = [
            ("{id}", "1"),
            ("{grant}", "7"),
            ("{repository}", "hello"),
            ("{name}", "rock"),
            ("{agent}", "rock"),
            ("{board}", "uno"),
            ("{sha256}", digest.as_str()),
        ];
        let filled = filled.into_iter().fold(format!("/api/v1{path}"), |path, (from, to)| path.replace(from, to));
        let same = |address: &str| {
            address.split('?').next().unwrap_or_default().replace("1000", "1").replace("/new/", "/rock/") == filled
        };
        let by_programs = runs.iter().any(|(api, _)| api.split('?').next().is_some_and(|api| api == filled));
        assert!(by_programs || deeds.iter().any(|(_, api, ..)| same(api)), "{path}");
    }
    assert!(described.contains("\n  \"/agents/{name}/add\": {\n   \"post\""));
    let refused = text(by("foreign", "POST", "/api/v1/events/1/cancel", ""));
    assert!(refused.contains("foreign is reader, builder@other, and this takes a builder of hello"), "{refused}");
    // Nobody is offered what they may not do.
    for (address, form, allowed) in [
        ("/event/1", "action=\"/event/1/cancel\"", &["builder", "own", "admin"][..]),
        ("/job/1000", "action=\"/job/1000/1/cancel\"", &["builder", "own", "admin"]),
        ("/agents", "action=\"/agents/add\"", &["admin"]),
    ] {
        for name in ["reader", "builder", "own", "foreign", "admin"] {
            let page = text(by(name, "GET", address, ""));
            assert_eq!(page.contains(form), allowed.contains(&name), "{name} {address}");
            assert_eq!(page.contains("It takes a"), !allowed.contains(&name), "{name} {address}");
        }
    }
    // A session ends with the token that it was opened with.
    let opened = world.ask("POST", "/sign-in", OURS, "token=admin%27s+token");
    let cookie = header(&opened, "set-cookie").unwrap().split(';').next().unwrap().to_string();
    let page = || text(world.ask("GET", "/agents", &[("cookie", &cookie)], ""));
    assert!(page().contains("action=\"/agents/add\""));
    world.memory.change(|held| {
        let admin = held.users.iter_mut().find(|user| user.name == "admin").unwrap();
        admin.powers.as_mut().unwrap().until = Some(now() - 1);
    });
    assert!(page().contains("class=\"sign-in\"") && !page().contains("action=\"/agents/add\""));
    assert_eq!(world.ask("POST", "/sign-in", OURS, "token=ended%27s+token").status, 403);
}
