//! What people of each role are offered, and what is refused to them however they ask.

use super::memory::user;
use super::{OURS, header, text, world};
use sai_core::ledger::UserRecord;
use sai_core::roles::Powers;
use sai_master::page::library::now;

#[test]
fn a_role_is_asked_of_pages_the_api_and_open_sessions() {
    let world = world(true);
    world.memory.change(|held| {
        for (name, words) in [
            ("reader", &["reader"][..]),
            ("builder", &["builder"]),
            ("own", &["builder@hello"]),
            ("foreign", &["builder@other"]),
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
    for (address, body, allowed) in [
        ("/event/1/cancel", "", &["builder", "own", "admin", "ann"][..]),
        ("/job/1000/1/cancel", "", &["builder", "own", "admin", "ann"]),
        ("/api/v1/events/1/rebuild", "", &["builder", "own", "admin", "ann"]),
        ("/api/v1/jobs/1000/cancel", "", &["builder", "own", "admin", "ann"]),
        ("/agents/add", "name=new", &["admin", "ann"]),
        ("/agents/rock/revoke", "", &["admin", "ann"]),
        ("/agents/rock/set-aside", "", &["admin", "ann"]),
    ] {
        for name in ["reader", "builder", "own", "foreign", "admin", "ann"] {
            let status = by(name, "POST", address, body).status;
            assert_eq!(status != 403, allowed.contains(&name), "{name} {address}: {status}");
        }
        assert_eq!(by("ended", "POST", address, body).status, 401, "{address}");
    }
    let asked = world.done.lock().unwrap().len();
    assert_eq!(asked, 4 * 4 + 3 * 2, "what is refused is not passed on");
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
