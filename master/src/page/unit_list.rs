//! Units and boards as they stand → the page of who holds what, until when at most, and who waits in which order.

use super::board_list;
use super::html::{Html, path_part};
use super::layout::{Here, Layout, ask, badge, hint, moment};
use super::views::Visitor;
use crate::units;
use sai_core::roles::Deed;
use sai_core::scheduler::{BoardRow, Holder, Holding, UnitRow};

/// Units that the page shows: a configuration has some.
const SHOWN: usize = 200;

/// The page.
pub fn page(table: &[UnitRow], boards: &[BoardRow], visitor: &Visitor) -> String {
    let live = Some("/live?page=units".to_string());
    Layout { title: "Units", state: None, here: Here::Units, visitor, live }.page(|html| {
        html.element("div").class("heading").with(|html| html.element("h1").text("Units"));
        if !visitor.may(Deed::Build, None) {
            hint(html, visitor, "a builder", "free what a lost agent holds");
        }
        list(html, table, boards, visitor);
    })
}

/// The tables, replaced as a whole.
pub fn list(html: &mut Html, table: &[UnitRow], boards: &[BoardRow], visitor: &Visitor) {
    html.element("div").id("units").with(|html| {
        if table.is_empty() && boards.is_empty() {
            html.element("p").class("empty").text(
                "No units. “units” in the master's configuration says which there are, such as {\"licences\": 2}.",
            );
            return;
        }
        let units = ["State", "Unit", "Kind", "Amount", "Held by", "Next in turn"];
        panel(html, &units, table, |html, unit| row(html, unit, visitor));
        let of_boards = ["State", "Board", "Type", "Agent", "How it stands", "Waiting"];
        panel(html, &of_boards, boards, |html, board| board_row(html, board, visitor));
    });
}

fn panel<T>(html: &mut Html, columns: &[&str], rows: &[T], row: impl Fn(&mut Html, &T)) {
    if rows.is_empty() {
        return;
    }
    html.element("section").class("panel jobs").with(|html| {
        html.element("table").with(|html| {
            html.element("thead").with(|html| {
                html.element("tr").with(|html| {
                    for column in columns {
                        html.element("th").attribute("scope", "col").text(column);
                    }
                });
            });
            html.element("tbody").with(|html| rows.iter().take(SHOWN).for_each(|one| row(html, one)));
        });
        if rows.len() > SHOWN {
            html.element("p").class("muted").show(format_args!("and {} more", rows.len() - SHOWN));
        }
    });
}

fn board_row(html: &mut Html, board: &BoardRow, visitor: &Visitor) {
    let BoardRow { agent, offered, waiting, .. } = board;
    let id = format_args!("board-{}-{}", path_part(agent), path_part(&offered.name)).to_string();
    html.element("tr").id(id).with(|html| {
        html.element("td").class("state").with(|html| badge(html, board.state()));
        html.element("td").class("what").with(|html| {
            html.element("a").href(board_list::address(agent, &offered.name)).name(&offered.name);
        });
        html.element("td").with(|html| board_list::kind(html, board));
        html.element("td").with(|html| {
            html.element("a").href(format_args!("/agents#agent-{}", path_part(agent))).name(agent);
        });
        html.element("td").class("why").with(|html| board_list::standing(html, board, visitor.now));
        html.element("td").show(units::count(*waiting as u64));
    });
}

fn row(html: &mut Html, unit: &UnitRow, visitor: &Visitor) {
    html.element("tr").id(format_args!("unit-{}", path_part(&unit.name))).with(|html| {
        html.element("td").class("state").with(|html| badge(html, state(unit)));
        html.element("td").class("what").with(|html| html.element("b").name(&unit.name));
        // Others than those that are amounts are not known yet.
        html.element("td").text("amount");
        html.element("td").show(format_args!("{} of {} free", unit.free, unit.amount));
        html.element("td").class("why").with(|html| {
            html.element("ul").with(|html| {
                for holder in &unit.holders {
                    html.element("li").with(|html| held(html, holder, visitor));
                }
            });
        });
        html.element("td").class("why").with(|html| waiters(html, unit));
    });
}

/// A word for the whole of a unit, which the badges have.
fn state(unit: &UnitRow) -> &'static str {
    let lost = |holder: &Holder| holder.holding != Holding::Granted;
    if unit.holders.iter().any(lost) {
        "away"
    } else if unit.holders.is_empty() {
        "free"
    } else {
        "busy"
    }
}

fn held(html: &mut Html, holder: &Holder, visitor: &Visitor) {
    let Holder { grant, key, agent, amount, since, until, holding } = holder;
    html.show(format_args!("{amount} by "));
    html.element("a").href(format_args!("/job/{}/{}", key.job, key.attempt)).show(format_args!("job {key}"));
    html.text(" on ");
    html.element("a").href(format_args!("/agents#agent-{}", path_part(agent))).name(agent);
    html.text(", since ");
    moment(html, *since, visitor.now);
    html.text(match holding {
        Holding::Granted => ", for ",
        Holding::Away => "; its agent is away and is awaited; for ",
        Holding::GivenUp => "; kept out, as its agent has not said that the job ended: until it does, or for ",
        Holding::Revoked => "; its agent's token is revoked: until a person frees it, or for ",
    });
    let left = units::span(until.saturating_sub(visitor.now));
    html.element("span").attribute("title", units::moment_text(*until)).show(format_args!("{left} more at most"));
    if visitor.may(Deed::Build, None) {
        let question = match holding {
            Holding::Granted => "Its job runs: what it holds would be given to another one at the same time.",
            _ => "Nobody knows whether its job still runs. If it does, what it holds is used twice.",
        };
        let yes = format!("Free grant {grant}");
        ask(html, format_args!("/units/grant/{grant}/free"), ["Free", question, &yes]);
    }
}

fn waiters(html: &mut Html, unit: &UnitRow) {
    if unit.waiting > 0 {
        let (noun, count) =
            (if unit.waiting == 1 { "job waits" } else { "jobs wait" }, units::count(unit.waiting as u64));
        html.element("span").class("muted").show(format_args!("{count} {noun}, next:"));
    }
    html.element("ol").with(|html| {
        for waiter in &unit.waiters {
            html.element("li").with(|html| {
                html.element("a").href(format_args!("/job/{}", waiter.job)).show(format_args!("job {}", waiter.job));
                html.text(" of ").name(&waiter.who);
                if waiter.amount > 1 {
                    html.show(format_args!(", {} of it", waiter.amount));
                }
                if waiter.collects {
                    html.text(": what becomes free is kept together for it");
                }
            });
        }
    });
    if unit.waiting > unit.waiters.len() {
        let more = units::count((unit.waiting - unit.waiters.len()) as u64);
        html.element("p").class("muted").show(format_args!("and {more} more"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::job::JobKey;
    use sai_core::scheduler::{BoardHealth, BoardHolder, Waiter};
    use sai_core::units::OfferedBoard;

    fn unit(holding: Holding) -> UnitRow {
        let key = JobKey { job: 7, attempt: 2 };
        let agent = "rock<5>".to_string();
        UnitRow {
            name: "licences".to_string(),
            amount: 2,
            free: 1,
            holders: vec![Holder { grant: 12, key, agent, amount: 1, since: 1_000, until: 95_000, holding }],
            waiters: vec![Waiter { job: 9, amount: 2, who: "<b>".to_string(), collects: true }],
            waiting: 31,
        }
    }

    #[test]
    fn a_unit_is_told_with_its_holders_and_whose_turn_is_next() {
        let visitor = Visitor { now: 5_000, ..Visitor::default() };
        let text = page(&[unit(Holding::Granted)], &[], &visitor);
        for part in [
            "1 of 2 free",
            "<a href=\"/job/7/2\">job 7-2</a>",
            "1 min 30 s more at most",
            "<a href=\"/job/9\">job 9</a> of <bdi>&lt;b&gt;</bdi>, 2 of it: what becomes free is kept together",
            "and 30 more",
            "href=\"/sign-in",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("<form method=\"post\" action=\"/units") && !text.contains("rock<"), "{text}");
        assert!(page(&[], &[], &visitor).contains("No units."));
    }

    #[test]
    fn boards_are_told_with_who_has_them_or_why_nobody_gets_them() {
        let board = |name: &str, holder: Option<BoardHolder>, what: &str, pause_s| BoardRow {
            agent: "rock<5>".to_string(),
            offered: OfferedBoard {
                name: name.to_string(),
                kind: "uno".to_string(),
                tags: vec!["leds".to_string()],
                boards: (name == "b-2").then(|| vec!["left".to_string(), "right".to_string()]),
                ..OfferedBoard::default()
            },
            free: what == "free",
            what: what.to_string(),
            waiting: 3,
            waiters: Vec::new(),
            kept_from: Vec::new(),
            holder,
            pause_s,
            health: BoardHealth::default(),
        };
        let key = JobKey { job: 7, attempt: 2 };
        let holder = BoardHolder { key, grant: 4, since: 1_000, until: 95_000 };
        let boards = [
            board("b-1", Some(holder), "job 7 is there", None),
            board("b-2", None, "free", None),
            board("b-3", None, "had trouble 3 times in a row, last: <b>", Some(17)),
        ];
        let text = page(&[], &boards, &Visitor { now: 5_000, ..Visitor::default() });
        for part in [
            "<a href=\"/job/7/2\">job 7-2</a>",
            "1 min 30 s more at most",
            "badge busy",
            "badge free",
            "had trouble 3 times in a row, last: &lt;b&gt;; no job for 17 s",
            "leds",
            "a rig of <bdi>left, right</bdi>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("No units.") && !text.contains("rock<") && !text.contains("/units/grant"), "{text}");
        let told = crate::page::api::units(&[], &boards);
        for part in [
            "\"name\":\"rock<5>/b-1\",\"kind\":\"board\",\"amount\":1,\"free\":0,\"held\":[{\"grant\":4,\"job\":7,\"attempt\":2",
            "\"name\":\"rock<5>/b-2\",\"kind\":\"board\",\"amount\":1,\"free\":1",
            "\"waiting_count\":3,\"agent\":\"rock<5>\",\"type\":\"uno\",\"tags\":[\"leds\"],\"boards\":[\"left\",\"right\"],\"standing\":\"free\"",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let later = BoardRow { pause_s: Some(16), ..boards[2].clone() };
        assert!(boards[2].is_much_like(&later) && !boards[2].is_much_like(&boards[1]), "time alone is no news");
    }

    #[test]
    fn freeing_asks_first_and_says_what_it_means() {
        let visitor = Visitor { who: Some("ann".to_string()), ..Visitor::default() };
        let text = page(&[unit(Holding::Revoked)], &[], &visitor);
        assert!(text.contains("action=\"/units/grant/12/free\"") && text.contains("Free grant 12"), "{text}");
        assert!(text.contains("token is revoked") && text.contains("is used twice"), "{text}");
        assert!(page(&[unit(Holding::Granted)], &[], &visitor).contains("Its job runs"));
    }
}
