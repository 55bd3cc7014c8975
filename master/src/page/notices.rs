//! The short pages: an error, the sign-in form, the line that joins an agent.

use super::layout::{Here, Layout};
use super::views::Visitor;

/// What somebody may do about an error, where `what` does not say it already.
fn advice(status: u16) -> &'static str {
    match status {
        400 => "Go back and look at what was filled in, or see at Docs what the API expects.",
        401 => {
            "Sign in with the token that `sai-master user add NAME` prints on the master's machine; programs send it as \
                `authorization: Bearer TOKEN`."
        }
        403 => {
            "An admin can let you, by `sai-master user add NAME ROLE`. A form must be sent from a page of this master."
        }
        404 => {
            "Look whether the address is complete. Old events are deleted with their jobs; the list has those that are left."
        }
        405 => "Follow a link or a button of a page, or see at Docs what the API expects.",
        409 => "Go back and look how it stands now.",
        _ => "Try again. If it stays, whoever runs this master finds more in its log and by `sai-master status`.",
    }
}

/// An error, in words.
pub fn error(status: u16, what: &str, back: Option<&str>, visitor: &Visitor) -> String {
    let title = match status {
        400 => "That request makes no sense here",
        401 => "Sign in first",
        403 => "Not allowed",
        404 => "Nothing here",
        405 => "Not that way",
        409 => "Not now",
        _ => "Trouble of ours",
    };
    Layout { title, here: Here::Elsewhere, state: None, visitor, live: None }.page(|html| {
        html.element("section").class("short").with(|html| {
            html.element("p").class("code").show(status);
            html.element("h1").text(title);
            html.element("p").name(what);
            html.element("p").class("muted").text(advice(status));
            html.element("p").with(|html| match (back, status) {
                (Some(back), _) => html.element("a").href(back).text("Back"),
                (None, 401) => html.element("a").class("sign-in").href(visitor.sign_in()).text("Sign in"),
                (None, _) => html.element("a").href("/").text("To the events"),
            });
        });
    })
}

/// The form to sign in; `to` is where to go then, `wrong` whether a token was refused just now.
pub fn sign_in(to: &str, wrong: bool, visitor: &Visitor) -> String {
    Layout { title: "Sign in", here: Here::Elsewhere, state: None, visitor, live: None }.page(|html| {
        html.element("section").class("short").with(|html| {
            html.element("h1").text("Sign in");
            if wrong {
                html.element("p").class("callout failed").attribute("role", "alert").text("No user has this token.");
            }
            html.element("form").class("form").attribute("method", "post").attribute("action", "/sign-in").with(
                |html| {
                    html.element("input")
                        .attribute("type", "hidden")
                        .attribute("name", "to")
                        .attribute("value", to)
                        .empty();
                    html.element("label").attribute("for", "token").text("Token");
                    html.element("input")
                        .id("token")
                        .attribute("name", "token")
                        .attribute("type", "password")
                        .attribute("autocomplete", "current-password")
                        .attribute("aria-describedby", "hint")
                        .flag("required", true)
                        .flag("autofocus", true)
                        .empty();
                    html.element("button").text("Sign in");
                },
            );
            html.element("p").id("hint").class("muted").with(|html| {
                html.element("code").text("sai-master user add NAME");
                html.text(" prints one.");
            });
        });
    })
}

/// What the master said to an action whose answer is shown once, such as the line that joins an agent.
pub fn answer(title: &str, text: &str, visitor: &Visitor) -> String {
    Layout { title, here: Here::Elsewhere, state: None, visitor, live: None }.page(|html| {
        html.element("section").class("short").with(|html| {
            html.element("h1").text(title);
            html.element("pre").class("answer").text(text);
            html.element("p").class("muted").text("This is shown once.");
            html.element("p").with(|html| html.element("a").href("/agents").text("To the agents"));
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_to_do() {
        for status in [400, 401, 403, 404, 405, 409, 500, 503] {
            let page = error(status, "It is <so>.", None, &Visitor::default());
            assert!(page.contains("It is &lt;so&gt;.") && page.contains("href="), "{status}");
            assert!(advice(status).len() > 20 && page.contains(&advice(status)[..20]), "{status}");
        }
    }
}
