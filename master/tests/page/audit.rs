//! What people did is read by admins alone, found again by person and words, page after page.

use super::memory::user;
use super::{World, header, text, world};
use sai_core::ledger::{ActionRecord, UserRecord};
use sai_core::roles::Powers;

/// Of 1..=250 actions every tenth is bob's; ann set agents aside.
fn acted() -> World {
    let world = world(true);
    world.memory.change(|held| {
        held.actions = (1..=250)
            .map(|id| {
                let (who, what) = if id % 10 == 0 {
                    ("bob", format!("cancelled <job> {id}"))
                } else {
                    ("ann", format!("Set aside agent rock-{id}"))
                };
                ActionRecord { id, at: id * 1000, who: who.to_string(), what }
            })
            .collect();
        for role in ["reader", "builder", "admin"] {
            let powers = Some(Powers::parse(&[role], 0).unwrap());
            held.users.push(UserRecord { powers, ..user(role, &format!("{role}'s token")) });
        }
    });
    world
}

#[test]
fn what_people_did_is_for_admins() {
    let world = acted();
    for address in ["/audit", "/audit?who=bob", "/api/v1/actions"] {
        let status = |who: &str| {
            let response = world.ask("GET", address, &[("authorization", &format!("Bearer {who}'s token"))], "");
            let status = response.status;
            assert_eq!(text(response).contains("cancelled"), status == 200, "{address} {who}");
            status
        };
        assert_eq!(["reader", "builder", "admin", "ann", "nobody"].map(status), [403, 403, 200, 200, 401], "{address}");
    }
    let stranger = world.get("/audit?who=bob");
    assert_eq!((stranger.status, header(&stranger, "location")), (303, Some("/sign-in?to=%2Faudit%3Fwho%3Dbob")));
    assert_eq!(world.get("/api/v1/actions").status, 401);
    // Who may follow the link is shown it.
    for (who, shown) in [("builder", false), ("admin", true)] {
        let page = text(world.ask("GET", "/agents", &[("authorization", &format!("Bearer {who}'s token"))], ""));
        assert_eq!(page.contains("href=\"/audit\""), shown, "{who}");
    }
}

#[test]
fn what_people_did_is_found_page_after_page() {
    let world = acted();
    let token = [("authorization", "Bearer ann's token")];
    let page = |address: &str| text(world.ask("GET", address, &token, ""));
    // Everything, newest first, and nothing twice or left out.
    let (mut address, mut seen) = ("/audit".to_string(), Vec::new());
    loop {
        let page = page(&address);
        let rows = page.split("<td class=\"why\">").skip(1);
        seen.extend(rows.map(|row| row.split("</td>").next().unwrap().rsplit(['-', ' ']).next().unwrap().to_string()));
        let Some(at) = page.find(" rel=\"next\"") else { break };
        let before = page[..at].rsplit("before=").next().unwrap().trim_end_matches('"');
        address = format!("/audit?before={before}");
    }
    let digits = |text: &String| text.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap();
    assert_eq!(seen.iter().map(digits).collect::<Vec<_>>(), (1..=250).rev().collect::<Vec<_>>());
    // By person and words, whatever is between; what is hostile is words.
    let bob = page("/audit?who=bob&q=job+CANCELLED");
    assert_eq!(bob.matches("<td class=\"why\">").count(), 25);
    assert!(bob.contains("cancelled &lt;job&gt; 10") && !bob.contains("rel=\"next\""), "{bob}");
    assert!(!page("/audit?who=ann&q=job+cancelled").contains("<td"));
    assert!(page("/audit?q=rock-7").contains("agent rock-7") && page("/audit?q=rock-7").contains("value=\"rock-7\""));
    for odd in ["/audit?before=x", "/audit?who=%ff", "/audit?q=%3Cscript%3E", "/audit?before=1", "/audit?who="] {
        assert!(!page(odd).contains("<script>"), "{odd}");
    }
    assert!(page("/audit?before=1").contains("Nobody did such a thing"));
    let api = page("/api/v1/actions?limit=2&who=bob");
    assert_eq!(
        api,
        "{\"actions\":[{\"id\":250,\"at\":\"1970-01-01T00:04:10Z\",\"who\":\"bob\",\"what\":\"cancelled <job> 250\"},\
         {\"id\":240,\"at\":\"1970-01-01T00:04:00Z\",\"who\":\"bob\",\"what\":\"cancelled <job> 240\"}],\"before\":240}"
    );
}
