//! An event's jobs → its grid of platforms and configurations: small cells in the list, named ones on its own page.

use super::html::Html;
use super::narrow::Narrow;
use super::sums::{Counts, Group, Sum};
use super::views::{EventView, job_took};
use crate::units;
use sai_core::job::EventId;
use sai_core::ledger::{Earlier, JobRecord};
use sai_core::ordered::Map;

/// Up to this many jobs the list names each, since the names fit; a larger grid shows small cells.
const NAMED_CELLS: usize = 24;

/// Platforms of an event that is summed up, at most: more are no longer looked through in a list.
const SUMMED_ROWS: usize = 12;

/// Share of a matrix, in percent, from which its columns are kept in line although some cells are empty: one
/// configuration that fails everywhere is then a column. A sparser matrix would be mostly blanks.
const ALIGN_PERCENT: usize = 30;

/// One platform of a grid, with a place for each configuration up to its last job.
struct Row<'a> {
    platform: &'a str,
    cells: Vec<Option<&'a JobRecord>>,
}

/// Rows of a grid, in the order in which platforms first appear, and how many columns there are. A platform whose cell
/// is taken already gets a row more.
fn rows(jobs: &[JobRecord]) -> (Vec<Row<'_>>, usize) {
    let mut columns: Map<&str, usize> = Map::new();
    for job in jobs {
        let next = columns.len();
        columns.get_or_insert_with(&job.configuration, || next);
    }
    let mut rows: Vec<Row<'_>> = Vec::new();
    for job in jobs {
        let column = columns.get(job.configuration.as_str()).copied().unwrap_or(0);
        let free = |row: &Row<'_>| row.platform == job.platform && row.cells.get(column).is_none_or(Option::is_none);
        let at = rows.iter().position(free).unwrap_or_else(|| {
            rows.push(Row { platform: &job.platform, cells: Vec::new() });
            rows.len() - 1
        });
        let Some(row) = rows.get_mut(at) else { continue };
        if row.cells.len() <= column {
            row.cells.resize(column + 1, None);
        }
        if let Some(cell) = row.cells.get_mut(column) {
            *cell = Some(job);
        }
    }
    (rows, columns.len())
}

/// The grid in the list of events.
pub fn compact(html: &mut Html, view: &EventView) {
    if let Some(sum) = &view.sum {
        summed(html, sum);
        return;
    }
    if view.jobs.len() <= NAMED_CELLS {
        named(html, view, false);
        return;
    }
    let (rows, columns) = rows(&view.jobs);
    let aligned = view.jobs.len() * 100 >= rows.len() * columns * ALIGN_PERCENT;
    html.element("div").class("grid").with(|html| {
        for Row { platform, cells } in &rows {
            html.element("div").class("row").with(|html| {
                html.element("span").class("platform").name(platform);
                html.element("span").class("cells").with(|html| {
                    for cell in cells {
                        match cell {
                            Some(job) => small(html, job),
                            None if aligned => html.element("i").empty(),
                            None => {}
                        }
                    }
                });
            });
        }
    });
}

/// What a grid would be too large for: how many jobs of each platform are in which state, those that went wrong first.
fn summed(html: &mut Html, sum: &Sum) {
    html.element("div").class("grid").with(|html| {
        for group in sum.platforms.shown.iter().take(SUMMED_ROWS) {
            html.element("div").class("row").with(|html| {
                html.element("span").class("platform").name(&group.name);
                html.element("span").class("cells").with(|html| numbers(html, &group.counts));
            });
        }
    });
    if sum.platforms.total > SUMMED_ROWS {
        html.element("p").class("muted").show(format_args!("and {} more platforms", sum.platforms.total - SUMMED_ROWS));
    }
}

/// The same on the event's own page, for configurations too; each leads to its jobs, and is replaced by itself.
pub fn sums(html: &mut Html, event: EventId, sum: &Sum) {
    let sides = [
        ("Platforms", "platforms", &sum.platforms, platform as fn(&mut Html, EventId, &Group)),
        ("Configurations", "configurations", &sum.configurations, configuration),
    ];
    for (title, what, groups, one) in sides {
        html.element("section").class("panel").with(|html| {
            html.element("h2").text(title);
            html.element("div")
                .class("grid")
                .with(|html| groups.shown.iter().for_each(|group| one(html, event, group)));
            let more = groups.total - groups.shown.len();
            if more > 0 {
                html.element("p").class("muted").show(format_args!("and {more} more {what}"));
            }
        });
    }
}

/// What the row of a platform is known by.
pub fn platform_id(group: &Group) -> String {
    format!("platform-{}", group.at)
}

/// The row of a platform.
pub fn platform(html: &mut Html, event: EventId, group: &Group) {
    sum_row(html, platform_id(group), Narrow::platform(&group.name).address(event), group);
}

/// What the row of a configuration is known by.
pub fn configuration_id(group: &Group) -> String {
    format!("configuration-{}", group.at)
}

/// The row of a configuration.
pub fn configuration(html: &mut Html, event: EventId, group: &Group) {
    sum_row(html, configuration_id(group), Narrow::configuration(&group.name).address(event), group);
}

fn sum_row(html: &mut Html, id: String, address: String, group: &Group) {
    html.element("div").id(id).class("row").with(|html| {
        html.element("a").class("platform").href(address).name(&group.name);
        html.element("span").class("cells").with(|html| numbers(html, &group.counts));
    });
}

/// A small cell. It can be pointed at but is no stop of the tab key: hundreds of them would stand in the way, and the
/// event's own page has each by name.
fn small(html: &mut Html, job: &JobRecord) {
    let word = job.word();
    html.element("a")
        .class(format_args!("c {}", job.standing().class()))
        .href(format_args!("/job/{}", job.id))
        .attribute("tabindex", "-1")
        .attribute("title", format_args!("{}: {word}", job.configuration))
        .empty();
}

/// The grid with each cell's name; `ids` lets cells be replaced one by one.
pub fn named(html: &mut Html, view: &EventView, ids: bool) {
    let (rows, _) = rows(&view.jobs);
    html.element("div").class("grid named").with(|html| {
        for Row { platform, cells } in &rows {
            html.element("div").class("row").with(|html| {
                html.element("span").class("platform").name(platform);
                html.element("span").class("cells").with(|html| {
                    for job in cells.iter().flatten() {
                        chip(html, job, ids);
                    }
                });
            });
        }
    });
}

/// A named cell.
pub fn chip(html: &mut Html, job: &JobRecord, id: bool) {
    let word = job.word();
    html.element("a")
        .class(format_args!("chip {}", job.standing().class()))
        .maybe("id", id.then(|| format!("cell-{}", job.id)))
        .href(format_args!("/job/{}", job.id))
        .attribute("title", format_args!("{} on {}: {word}", job.configuration, job.platform))
        .with(|html| {
            html.name(&job.configuration);
            html.element("span").class("unseen").show(format_args!(" {word}"));
        });
}

/// How many jobs are in which state, as a bar and in words.
pub fn summary(html: &mut Html, view: &EventView) {
    if view.total() > 0 {
        html.element("span").class("counts").with(|html| numbers(html, &view.counts()));
    }
}

fn numbers(html: &mut Html, counts: &Counts) {
    for (index, (state, count)) in counts.iter().enumerate() {
        if index > 0 {
            html.text(" ");
        }
        let class = format!("count {}", state.class());
        html.element("span").class(class).show(format_args!("{} {}", units::count(*count as u64), state.word()));
    }
}

/// The same as a thin bar; the words stand beside it, so it is hidden from readers.
pub fn bar(html: &mut Html, view: &EventView) {
    let width = view.total();
    if width == 0 {
        return;
    }
    html.element("svg")
        .class("bar")
        .attribute("viewBox", format_args!("0 0 {width} 1"))
        .attribute("preserveAspectRatio", "none")
        .attribute("aria-hidden", "true")
        .with(|html| {
            let mut at = 0;
            for (state, count) in view.counts().iter().rev() {
                html.element("rect")
                    .class(state.class())
                    .attribute("x", at)
                    .attribute("width", count)
                    .attribute("height", 1)
                    .empty();
                at += count;
            }
        });
}

/// One job as a row of the event's table.
pub fn job_row(html: &mut Html, view: &EventView, job: &JobRecord, now: u64) {
    html.element("tr").id(format_args!("job-{}", job.id)).class(job.standing().class()).with(|html| {
        html.element("td").class("state").with(|html| super::layout::job_badge(html, job));
        html.element("td").class("what").with(|html| {
            html.element("a").href(format_args!("/job/{}", job.id)).with(|html| {
                html.name(&job.configuration);
                html.element("span").class("on").name(&job.platform);
            });
        });
        html.element("td").class("agent").with(|html| {
            if let Some(agent) = &job.agent {
                html.name(agent);
            }
        });
        html.element("td").class("took").with(|html| {
            if let Some(millis) = job_took(job, now) {
                super::layout::took(html, millis, job.state.ended());
            }
        });
        html.element("td").class("why").with(|html| {
            if let Some(Earlier { attempt, state }) = job.otherwise() {
                let words = format!("attempt {attempt} {}", state.word());
                html.element("a").href(format_args!("/job/{}/{attempt}", job.id)).text(&words);
                html.text(" ");
            }
            if let Some(why) = view.waiting.get(&job.id) {
                html.name(why);
            } else if !job.cause.is_empty() {
                html.name(&job.cause);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::{event, job};
    use super::*;
    use crate::live::Live;
    use sai_core::job::JobState;

    fn view(jobs: Vec<JobRecord>) -> EventView {
        EventView::new(event(1, jobs.len() as u32), jobs, &Live::default())
    }

    #[test]
    fn columns_stay_in_line_and_twins_get_their_own_row() {
        let jobs = [("a", "x"), ("a", "y"), ("b", "y"), ("a", "x")];
        let jobs: Vec<_> = jobs.iter().map(|(platform, name)| job(1, platform, name, JobState::Passed)).collect();
        let (rows, columns) = rows(&jobs);
        let shape: Vec<(&str, Vec<bool>)> =
            rows.iter().map(|row| (row.platform, row.cells.iter().map(Option::is_some).collect())).collect();
        assert_eq!(columns, 2);
        assert_eq!(shape, [("a", vec![true, true]), ("b", vec![false, true]), ("a", vec![true])]);
    }

    #[test]
    fn a_large_grid_is_small_cells_with_a_text_each() {
        let mut jobs = Vec::new();
        for platform in 0..11 {
            for configuration in 0..30 {
                jobs.push(job(
                    jobs.len() as u64,
                    &format!("p{platform}"),
                    &format!("c{configuration}"),
                    JobState::Passed,
                ));
            }
        }
        let mut html = Html::new();
        compact(&mut html, &view(jobs));
        assert_eq!(html.as_str().matches("class=\"c passed\"").count(), 330);
        assert_eq!(html.as_str().matches("<bdi>").count(), 11);
        assert!(html.as_str().contains("title=\"c7: passed\""));
        assert!(html.len() < 40_000, "{}", html.len());
    }

    #[test]
    fn hostile_names_stay_text() {
        let evil = "\"><script>alert(1)</script>\u{202e}";
        let mut html = Html::new();
        let view = view(vec![job(1, evil, evil, JobState::Failed)]);
        compact(&mut html, &view);
        named(&mut html, &view, true);
        job_row(&mut html, &view, &view.jobs[0], 0);
        assert!(!html.as_str().contains("<script") && !html.as_str().contains('\u{202e}'), "{}", html.as_str());
    }
}
