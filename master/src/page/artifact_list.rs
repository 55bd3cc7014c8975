//! Files of an attempt → their table, and as what a browser may show one.

use super::html::{Html, path_part};
use super::tarball;
use super::views::JobView;
use crate::units;
use sai_core::job::JobId;
use sai_core::ordered::Set;
use sai_core::record::Artifact;

/// Where a file can be downloaded: its stream's number finds it, its name is for who saves it.
pub fn address(job: JobId, attempt: u32, artifact: &Artifact) -> String {
    let name = artifact.path.rsplit('/').next().unwrap_or("artifact");
    format!("/job/{job}/{attempt}/artifact/{}/{}", artifact.stream, path_part(name))
}

/// As what a browser may show a file of this name, if it may.
pub fn shown_as(name: &str) -> Option<&'static str> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match extension.as_str() {
        "txt" | "log" | "md" | "json" | "xml" | "yml" | "yaml" | "toml" | "csv" | "tap" | "diff" | "patch" | "ini"
        | "c" | "h" | "cpp" | "hpp" | "rs" | "py" | "sh" | "js" | "css" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        _ => return None,
    })
}

/// Folders that are linked one by one.
const FOLDERS: usize = 12;

/// Folders of some of the files, but not of all.
fn folders(list: &[Artifact]) -> Vec<&str> {
    let parents = list.iter().filter_map(|artifact| Some(artifact.path.rsplit_once('/')?.0));
    let folders = Set::from_iter(parents);
    folders.into_iter().filter(|folder| tarball::within(list, folder).count() < list.len()).take(FOLDERS).collect()
}

/// The files of the attempt, replaced as a whole.
pub fn section(html: &mut Html, view: &JobView) {
    let job = &view.job;
    let list = view.artifacts();
    html.element("section").id("artifacts").class("panel artifacts").flag("hidden", list.is_empty()).with(|html| {
        html.element("div").class("tools").with(|html| {
            html.element("h2").text("Artifacts");
            if list.len() > 1 {
                let tar = format!("/job/{}/{}/artifacts.tar", job.id, view.attempt);
                html.element("a").href(&tar).flag("download", true).text("All as a tar");
                for folder in folders(list) {
                    let address = format!("{tar}?folder={}", path_part(folder));
                    html.element("a").href(address).flag("download", true).name(folder);
                }
            }
        });
        html.element("table").with(|html| {
            html.element("thead").with(|html| {
                html.element("tr").with(|html| {
                    for column in ["File", "Size", "SHA-256"] {
                        html.element("th").attribute("scope", "col").text(column);
                    }
                });
            });
            html.element("tbody").with(|html| {
                for artifact in list {
                    let address = address(job.id, view.attempt, artifact);
                    html.element("tr").with(|html| {
                        html.element("td").class("what").with(|html| {
                            html.element("a").href(&address).flag("download", true).name(&artifact.path);
                            if shown_as(&artifact.path).is_some() {
                                html.text(" ");
                                let view = address.replacen("/artifact/", "/view/", 1);
                                html.element("a").class("view").href(view).text("show");
                            }
                        });
                        html.element("td").class("took").text(&units::size(artifact.size));
                        html.element("td").class("why").with(|html| html.element("code").text(&artifact.sha256));
                    });
                }
            });
        });
    });
}
