//! What a master has and has not yet → the commands that come first, each with a tick once it has happened.

use super::html::{Html, path_part};

/// How far a master has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstSteps {
    /// Its own address.
    pub url: String,
    /// The first repository that it builds.
    pub repository: Option<String>,
    /// Whether anybody may act.
    pub people: bool,
    /// Whether there is an agent to build on.
    pub agents: bool,
    /// Whether anything was pushed.
    pub pushed: bool,
}

/// The commands. It is replaced as a whole when one of them has been done.
pub fn section(html: &mut Html, steps: &FirstSteps) {
    let url = &steps.url;
    let push = match &steps.repository {
        Some(repository) => format!("curl -k '{url}/hook/{}?ref=main'", path_part(repository)),
        None => "\"repositories\": { \"hello\": { \"url\": \"/srv/git/hello.git\" } }".to_string(),
    };
    let third = match &steps.repository {
        Some(_) => "Push, with the hook in place, or have it look at a branch:",
        None => "Say in its configuration what it builds, and reload it:",
    };
    let list = [
        (
            steps.people,
            "On this machine, make somebody who may act, and sign in with what it prints:",
            "sudo sai-master user add ann admin",
        ),
        (
            steps.agents,
            "Let a machine in to build on; it prints the line to join with:",
            "sudo sai-master agent add shed",
        ),
        (steps.pushed, third, push.as_str()),
    ];
    html.element("section").id("first-steps").class("panel").with(|html| {
        html.element("h2").show(format_args!("First steps at {url}"));
        html.element("ol").with(|html| {
            for (done, what, command) in list {
                html.element("li").maybe("class", done.then_some("done")).with(|html| {
                    html.element("p").with(|html| {
                        html.text(if done { "\u{2713} Done: " } else { "" }).text(what);
                    });
                    if !done {
                        html.element("pre").class("answer").text(command);
                    }
                });
            }
        });
        html.element("p").with(|html| {
            html.element("a").href("/docs/first-build").text("The first build, step by step");
        });
    });
}

/// What an admin may do about a job that nobody can run.
pub fn join(html: &mut Html, platform: &str) {
    html.element("section").class("panel").with(|html| {
        html.element("h2").text("No machine offers this platform");
        html.element("p").text(
            "Let one in that does. This prints the line to paste for LINE on that machine, which is then taken for it:",
        );
        // What a saifile names has no character of a shell's in it.
        let command = format!("sudo sai-master agent add NAME\nsai-agent join LINE --platform {platform}");
        html.element("pre").class("answer").text(&command);
        html.element("p").with(|html| {
            html.element("a").href("/agents").text("Agents");
            html.text(" · ");
            html.element("a").href("/docs/agents").text("How to let one in");
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(steps: &FirstSteps) -> String {
        let mut html = Html::new();
        section(&mut html, steps);
        html.into_string()
    }

    #[test]
    fn each_step_is_a_command_until_it_has_happened() {
        let url = "https://ci.example:4433".to_string();
        let nothing = FirstSteps { url, repository: None, people: false, agents: false, pushed: false };
        let page = text(&nothing);
        assert_eq!((page.matches("<pre").count(), page.matches("\u{2713}").count()), (3, 0));
        assert!(page.contains("&quot;repositories&quot;"));
        let some = FirstSteps { repository: Some("a<b".to_string()), people: true, agents: true, ..nothing };
        let page = text(&some);
        assert_eq!((page.matches("<pre").count(), page.matches("\u{2713}").count()), (1, 2));
        assert!(page.contains("curl -k &#39;https://ci.example:4433/hook/a%3Cb?ref=main&#39;"), "{page}");
    }
}
