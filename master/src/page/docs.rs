//! Pages of `docs/` → HTML: what a master says of itself, at its own address.
//!
//! They are Markdown as this project writes it, and no more of it: headings, paragraphs, lists, tables, code that is indented, and in a
//! line code, bold and links. Links between the pages lead to the pages here; what is not served here is no link.

use super::built_in::{packed, text};
use super::html::Html;
use super::layout::{Here, Layout};
use super::views::Visitor;
use crate::config::keys::configuration_reference;
use sai_core::repo_spec::keys::saifile_reference;

/// The pages: name, title, and what each is.
static PAGES: [(&str, &str, Source); 10] = [
    ("first-build", "The first build", Source::File(packed!("first-build.md"))),
    ("saifile", "The saifile", Source::Made(saifile_reference)),
    ("agents", "Agents", Source::File(packed!("agents.md"))),
    ("containers", "Containers", Source::File(packed!("containers.md"))),
    ("boards", "Boards", Source::File(packed!("boards.md"))),
    ("configuration", "The master's configuration", Source::Made(configuration_reference)),
    ("laptop", "From a laptop", Source::File(packed!("laptop.md"))),
    ("api", "The API", Source::File(packed!("api.md"))),
    ("operating", "Operating a master", Source::File(packed!("operating.md"))),
    ("proxies", "Behind a proxy", Source::File(packed!("proxies.md"))),
];

/// Where a page comes from.
enum Source {
    /// A file of `docs/`, packed.
    File(&'static [u8]),
    /// A table of keys; the file of `docs/` is made of it too.
    Made(fn() -> String),
}

/// The list of pages.
pub fn index(visitor: &Visitor) -> String {
    Layout { title: "Docs", state: None, here: Here::Docs, visitor, live: None }.page(|html| {
        html.element("h1").text("Docs");
        html.element("ul").class("panel docs").with(|html| {
            for (name, title, _) in &PAGES {
                html.element("li").with(|html| {
                    html.element("a").href(format_args!("/docs/{name}")).text(title);
                });
            }
        });
    })
}

/// The page of a name, if there is one.
pub fn page(name: &str, visitor: &Visitor) -> Option<String> {
    let (_, title, source) = PAGES.iter().find(|(known, ..)| *known == name)?;
    let title = *title;
    let page = |text: &str| {
        Layout { title, state: None, here: Here::Docs, visitor, live: None }.page(|html| {
            html.element("p").class("crumbs").with(|html| {
                html.element("a").href("/docs").text("Docs");
            });
            html.element("article").class("panel docs").with(|html| blocks(html, text));
        })
    };
    Some(match source {
        Source::File(packed) => page(&text(packed)),
        Source::Made(make) => page(&make()),
    })
}

/// A text of several blocks.
fn blocks(html: &mut Html, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        if let Some(first) = line.strip_prefix("    ") {
            let mut code = vec![first];
            while let Some(next) = lines.next_if(|line| line.is_empty() || line.starts_with("    ")) {
                code.push(next.get(4..).unwrap_or_default());
            }
            html.element("pre").class("answer").text(code.join("\n").trim_end());
        } else if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim();
            let tag = ["h1", "h2", "h3"].get(line.len() - line.trim_start_matches('#').len() - 1).copied();
            html.element(tag.unwrap_or("h3")).with(|html| inline(html, title));
        } else if line.starts_with("| ") {
            let mut rows = vec![line];
            while let Some(next) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(next);
            }
            table(html, &rows);
        } else {
            let item = line.starts_with("- ");
            let mut text = vec![line.to_string()];
            while let Some(next) = lines.next_if(|next| !next.is_empty() && !next.starts_with('#')) {
                match text.last_mut() {
                    Some(last) if !(item && next.starts_with("- ")) => *last += &format!(" {}", next.trim()),
                    _ => text.push(next.to_string()),
                }
            }
            if item {
                html.element("ul").with(|html| {
                    for item in &text {
                        html.element("li").with(|html| inline(html, item.trim_start_matches("- ")));
                    }
                });
            } else {
                html.element("p").with(|html| inline(html, &text.concat()));
            }
        }
    }
}

/// Rows of a table, of which the second divides the head from the rest.
fn table(html: &mut Html, rows: &[&str]) {
    let row = |html: &mut Html, row: &str, cell: &'static str| {
        html.element("tr").with(|html| {
            for text in row.trim_matches('|').split('|') {
                html.element(cell).with(|html| inline(html, text.trim()));
            }
        });
    };
    html.element("table").with(|html| {
        html.element("thead").with(|html| rows.iter().take(1).for_each(|text| row(html, text, "th")));
        html.element("tbody").with(|html| rows.iter().skip(2).for_each(|text| row(html, text, "td")));
    });
}

/// What is in a line.
fn inline(html: &mut Html, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        let (before, from) = rest.split_at(at);
        html.text(before);
        rest = marked(html, from).unwrap_or_else(|| {
            let length = from.chars().next().map_or(0, char::len_utf8);
            html.text(from.get(..length).unwrap_or_default());
            from.get(length..).unwrap_or_default()
        });
    }
    html.text(rest);
}

/// The mark that a text begins with, and what follows it; none if it is no mark.
fn marked<'a>(html: &mut Html, text: &'a str) -> Option<&'a str> {
    if let Some(inside) = text.strip_prefix('`') {
        let (code, rest) = inside.split_once('`')?;
        html.element("code").text(code);
        return Some(rest);
    }
    if let Some(inside) = text.strip_prefix("**") {
        let (bold, rest) = inside.split_once("**")?;
        html.element("b").with(|html| inline(html, bold));
        return Some(rest);
    }
    let (shown, rest) = text.strip_prefix('[')?.split_once(']')?;
    let (to, rest) = rest.strip_prefix('(')?.split_once(')')?;
    let page = to.strip_suffix(".md").filter(|name| PAGES.iter().any(|(known, ..)| known == name));
    match page {
        Some(name) => html.element("a").href(format_args!("/docs/{name}")).with(|html| inline(html, shown)),
        None if to.starts_with("https://") => html.element("a").outside(to).with(|html| inline(html, shown)),
        None if to.starts_with('/') => html.element("a").href(to).with(|html| inline(html, shown)),
        None => inline(html, shown),
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        let mut html = Html::new();
        blocks(&mut html, text);
        html.into_string()
    }

    #[test]
    fn markdown_becomes_what_it_means() {
        assert_eq!(
            html(
                "# A `b`\n\nOne\ntwo **three** [four](boards.md).\n\n    code <x>\n\n      more\n\n- a\n  b\n- c\n\n| x | y |\n|---|---|\n| `1` | 2 |\n"
            ),
            "<h1>A <code>b</code></h1><p>One two <b>three</b> <a href=\"/docs/boards\">four</a>.</p>\
             <pre class=\"answer\">code &lt;x&gt;\n\n  more</pre><ul><li>a b</li><li>c</li></ul>\
             <table><thead><tr><th>x</th><th>y</th></tr></thead><tbody><tr><td><code>1</code></td><td>2</td></tr></tbody></table>"
        );
        assert_eq!(html("a * b [c] `d [e](f.json) <g>"), "<p>a * b [c] `d e &lt;g&gt;</p>");
        assert_eq!(
            html("[a](https://b.example) [c](javascript:d) [e](/api/v1)"),
            "<p><a href=\"https://b.example\" rel=\"noopener noreferrer nofollow\">a</a> c <a href=\"/api/v1\">e</a></p>"
        );
    }

    #[test]
    fn what_is_packed_is_the_file() {
        for (name, _, source) in &PAGES {
            if let Source::File(packed) = source {
                let file = format!("{}/../docs/{name}.md", env!("CARGO_MANIFEST_DIR"));
                assert_eq!(text(packed), std::fs::read_to_string(file).unwrap(), "{name}");
            }
        }
        assert_eq!(crate::page::api::description(), include_str!("../assets/openapi.json"));
    }

    #[test]
    fn each_page_is_there_and_no_other() {
        let visitor = Visitor::default();
        let list = index(&visitor);
        for (name, ..) in &PAGES {
            assert!(list.contains(&format!("href=\"/docs/{name}\"")));
            let page = page(name, &visitor).unwrap();
            assert!(page.contains("<h1>") && page.contains("</article>"), "{name}");
            // What is marked is shown as what it means.
            assert!(!page.contains("]("), "{name}");
        }
        assert_eq!(page("../x", &visitor), None);
    }
}
