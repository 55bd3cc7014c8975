//! Boards as they stand → the page of all of them: who has each, since when, until when at most, and whose turn is next.

use super::html::{Html, path_part};
use super::layout::{Here, Layout, badge, moment};
use super::views::Visitor;
use crate::units;
use sai_core::scheduler::{BoardRow, Waiter};

/// Boards that the page shows: a shelf has dozens.
const SHOWN: usize = 500;
/// Jobs of a queue that are named for each; the board's own page has more.
const NAMED: usize = 3;

/// The page.
pub fn page(boards: &[BoardRow], visitor: &Visitor) -> String {
    let live = Some("/live?page=boards".to_string());
    Layout { title: "Boards", state: None, here: Here::Boards, visitor, live }.page(|html| {
        html.element("div").class("heading").with(|html| html.element("h1").text("Boards"));
        list(html, boards, visitor.now);
    })
}

/// The address of a board's page.
pub fn address(agent: &str, board: &str) -> String {
    format!("/boards/{}/{}", path_part(agent), path_part(board))
}

/// The table, replaced as a whole.
pub fn list(html: &mut Html, boards: &[BoardRow], now: u64) {
    html.element("div").id("boards").with(|html| {
        if boards.is_empty() {
            html.element("p")
                .class("empty")
                .text("No boards. An agent offers those of the file that “boards” of its configuration names.");
            return;
        }
        html.element("section").class("panel jobs").with(|html| {
            html.element("table").with(|html| {
                html.element("thead").with(|html| {
                    html.element("tr").with(|html| {
                        for column in ["State", "Board", "Type", "Agent", "How it stands", "Next in turn"] {
                            html.element("th").attribute("scope", "col").text(column);
                        }
                    });
                });
                html.element("tbody").with(|html| {
                    for row in boards.iter().take(SHOWN) {
                        one(html, row, now);
                    }
                });
            });
            if boards.len() > SHOWN {
                html.element("p").class("muted").show(format_args!("and {} more", boards.len() - SHOWN));
            }
        });
    });
}

fn one(html: &mut Html, row: &BoardRow, now: u64) {
    let BoardRow { agent, offered, .. } = row;
    html.element("tr").id(format_args!("board-{}-{}", path_part(agent), path_part(&offered.name))).with(|html| {
        html.element("td").class("state").with(|html| badge(html, row.state()));
        html.element("td").class("what").with(|html| {
            html.element("a").href(address(agent, &offered.name)).name(&offered.name);
        });
        html.element("td").with(|html| kind(html, row));
        html.element("td").with(|html| {
            html.element("a").href(format_args!("/agents#agent-{}", path_part(agent))).name(agent);
        });
        html.element("td").class("why").with(|html| {
            standing(html, row, now);
            if let [first, more @ ..] = &row.kept_from[..] {
                html.text("; not given to ").name(&first.repository);
                if !more.is_empty() {
                    html.show(format_args!(" and {} more", more.len()));
                }
            }
        });
        html.element("td").class("why").with(|html| queue(html, row, NAMED));
    });
}

/// What a board is.
pub fn kind(html: &mut Html, row: &BoardRow) {
    html.name(&row.offered.kind);
    if !row.offered.tags.is_empty() {
        html.text(" with ").name(&row.offered.tags.join(", "));
    }
    if let Some(boards) = &row.offered.boards {
        html.text(", a rig of ").name(&boards.join(", "));
    }
}

/// Who has it since when and until when at most, or why nobody gets it.
pub fn standing(html: &mut Html, row: &BoardRow, now: u64) {
    let Some(holder) = &row.holder else {
        html.name(&row.told());
        return;
    };
    let key = holder.key;
    html.element("a").href(format_args!("/job/{}/{}", key.job, key.attempt)).show(format_args!("job {key}"));
    html.text(", since ");
    moment(html, holder.since, now);
    let left = units::span(holder.until.saturating_sub(now));
    html.text(", for ").show(format_args!("{left} more at most"));
}

/// The jobs that wait for it, in order.
pub fn queue(html: &mut Html, row: &BoardRow, most: usize) {
    if row.waiting == 0 {
        html.element("span").class("muted").text("nobody waits");
        return;
    }
    html.element("ol").with(|html| {
        for waiter in row.waiters.iter().take(most) {
            html.element("li").with(|html| waits(html, waiter));
        }
    });
    let shown = row.waiters.len().min(most);
    if row.waiting > shown {
        let more = units::count((row.waiting - shown) as u64);
        html.element("p").class("muted").show(format_args!("and {more} more"));
    }
}

fn waits(html: &mut Html, waiter: &Waiter) {
    html.element("a").href(format_args!("/job/{}", waiter.job)).show(format_args!("job {}", waiter.job));
    html.text(" of ").name(&waiter.who);
    if waiter.amount > 1 {
        html.show(format_args!(", {} of these", waiter.amount));
    }
    if waiter.collects {
        html.text(": what becomes free is kept together for it");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sai_core::job::JobKey;
    use sai_core::scheduler::{BoardHealth, BoardHolder, KeptFrom};
    use sai_core::units::OfferedBoard;

    /// A board of this name, held or not.
    pub fn board(name: &str, held: bool) -> BoardRow {
        let key = JobKey { job: 7, attempt: 2 };
        BoardRow {
            agent: "rock<5>".to_string(),
            offered: OfferedBoard {
                name: name.to_string(),
                kind: "uno".to_string(),
                tags: vec!["leds".to_string()],
                ..OfferedBoard::default()
            },
            free: !held,
            what: if held { "job 7 is there" } else { "free" }.to_string(),
            waiting: 30,
            waiters: (0..20)
                .map(|job| Waiter { job: 100 + job, amount: 1, who: "<i>".to_string(), collects: job == 0 })
                .collect(),
            kept_from: vec![KeptFrom { repository: "<u>".to_string(), why: "silent".to_string(), seconds: 9 }],
            holder: held.then_some(BoardHolder { key, grant: 4, since: 1_000, until: 95_000 }),
            pause_s: None,
            health: BoardHealth::default(),
        }
    }

    #[test]
    fn each_board_is_told_with_who_has_it_and_who_is_next() {
        let visitor = Visitor { now: 5_000, ..Visitor::default() };
        let mut paused = board("b/3", false);
        (paused.free, paused.waiting, paused.pause_s) = (false, 0, Some(17));
        paused.what = "had trouble 3 times in a row, last: <b>".to_string();
        let text = page(&[board("b<1>", true), board("b-2", false), paused], &visitor);
        for part in [
            "href=\"/boards/rock%3C5%3E/b%3C1%3E\"><bdi>b&lt;1&gt;</bdi>",
            "href=\"/boards/rock%3C5%3E/b%2F3\"",
            "<a href=\"/job/7/2\">job 7-2</a>, since ",
            "1 min 30 s more at most",
            "<a href=\"/job/100\">job 100</a> of <bdi>&lt;i&gt;</bdi>: what becomes free is kept together for it",
            "and 27 more",
            "; not given to <bdi>&lt;u&gt;</bdi>",
            "badge busy",
            "badge free",
            "badge aside",
            "last: &lt;b&gt;; no job for 17 s",
            "nobody waits",
            "/live?page=boards",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("rock<") && !text.contains("<u>"), "{text}");
        assert!(page(&[], &visitor).contains("No boards."));
    }
}
