//! The short pages: an error, the sign-in form, the line that joins an agent.

use super::layout::{Here, Layout};
use super::views::Visitor;

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
