//! The path of the master's own address → addresses as others see them: paths that come in without it, and go out with it.
//!
//! Behind a proxy that serves several programs at one host, all of a master is below a path such as `/sai`. Everything inside
//! names addresses as if it were not there; it is put on where texts leave the master.

/// What is before an address of ours in HTML and Atom. A quotation mark in a text or a value is always written `&quot;`, so
/// that these can be nothing else.
const IN_MARKUP: [&str; 6] =
    [" href=\"/", " src=\"/", " action=\"/", " data-live=\"/", " data-icon=\"/", " data-attempt=\"/"];

/// The same in HTML that is inside of JSON, as open pages are told of it.
const IN_MESSAGES: [&str; 6] =
    [" href=\\\"/", " src=\\\"/", " action=\\\"/", " data-live=\\\"/", " data-icon=\\\"/", " data-attempt=\\\"/"];

/// The same in JSON, where a quotation mark inside of a string has a backslash before it.
const IN_JSON: [&str; 2] = ["\"page\":\"/", "\"log\":\"/"];

/// Where in the description of the API its address stands.
const IN_DESCRIPTION: [&str; 1] = ["\"servers\": [{\"url\": \"/"];

/// The path that is before all others, such as `/sai`; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// The path of a master's own address, `https://HOST:PORT/PATH`.
    #[must_use]
    pub fn of(url: Option<&str>) -> Self {
        let rest = url.and_then(|url| url.strip_prefix("https://")).unwrap_or_default();
        Self(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default().trim_end_matches('/').to_string())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is written: empty, or with a slash before it and none behind.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A path without it. One that does not begin with it stays as it is: some proxies take it off themselves, and who comes
    /// to the master straight may know nothing of it.
    #[must_use]
    pub fn strip<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(&self.0) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }

    /// An address of ours with it.
    #[must_use]
    pub fn address(&self, address: &str) -> String {
        format!("{}{address}", self.0)
    }

    /// HTML or Atom whose addresses have it.
    #[must_use]
    pub fn markup(&self, text: String) -> String {
        self.before(text, &IN_MARKUP)
    }

    /// A message to an open page: the HTML in it has it.
    #[must_use]
    pub fn message(&self, text: String) -> String {
        self.before(text, &IN_MESSAGES)
    }

    /// An answer of the API whose addresses have it.
    #[must_use]
    pub fn json(&self, text: String) -> String {
        self.before(text, &IN_JSON)
    }

    /// The description of the API at its address.
    #[must_use]
    pub fn description(&self, text: String) -> String {
        self.before(text, &IN_DESCRIPTION)
    }

    /// Puts it before the slash that each of these ends with.
    fn before(&self, text: String, all: &[&str]) -> String {
        if self.0.is_empty() {
            return text;
        }
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        let mut rest = text.as_str();
        // Every one of them ends alike, so that this is looked for first.
        while let Some(slash) = rest.find("\"/").map(|at| at + 1) {
            let (head, tail) = rest.split_at(slash);
            out.push_str(head);
            let found = all.iter().any(|one| one.strip_suffix('/').is_some_and(|one| out.ends_with(one)));
            if found {
                out.push_str(&self.0);
            }
            rest = tail;
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::html::Html;

    #[test]
    fn it_is_the_path_of_an_address() {
        for (url, path) in [
            ("https://a", ""),
            ("https://a:1/", ""),
            ("https://[::1]:1/sai/", "/sai"),
            ("https://a/b/c", "/b/c"),
            ("nonsense", ""),
        ] {
            assert_eq!(Prefix::of(Some(url)).as_str(), path, "{url}");
        }
        assert!(Prefix::of(None).is_empty());
    }

    #[test]
    fn paths_lose_it_and_others_stay() {
        let prefix = Prefix("/sai".to_string());
        for (path, inside) in [
            ("/sai", "/"),
            ("/sai/", "/"),
            ("/sai/event/1", "/event/1"),
            ("/sai/sai", "/sai"),
            ("/event/1", "/event/1"),
            ("/saint", "/saint"),
            ("/", "/"),
        ] {
            assert_eq!(prefix.strip(path), inside, "{path}");
        }
        for path in ["/", "/sai", "/event/1"] {
            assert_eq!(Prefix::default().strip(path), path);
        }
    }

    #[test]
    fn addresses_get_it_and_what_people_write_does_not() {
        let write = |prefix: &str| {
            let mut html = Html::new();
            html.element("form").attribute("action", format_args!("{prefix}/sign-out")).with(|html| {
                let hostile = " href=\"/a\" \"page\":\"/b";
                html.element("input").attribute("value", "/a").attribute("title", hostile).empty();
                html.text(hostile);
                html.element("a").href(format_args!("{prefix}/?q=%22")).text("/");
                html.element("a").href("#L1").text("/");
                html.element("a").outside("https://a.example/").text("x");
                html.element("img").attribute("src", format_args!("{prefix}/assets/icon.svg")).empty();
                html.element("p").attribute("data-live", format_args!("{prefix}/live?page=agents")).empty();
            });
            html.into_string()
        };
        assert_eq!(Prefix("/sai".to_string()).markup(write("")), write("/sai"));
        assert_eq!(Prefix::default().markup(write("")), write(""));
        let told = |html: String| miniserde::json::to_string(&html);
        assert_eq!(Prefix("/sai".to_string()).message(told(write(""))), told(write("/sai")));
        let prefix = Prefix("/sai".to_string());
        let answer = |prefix: &str| {
            format!(
                "{{\"page\":\"{prefix}/job/1\",\"log\":\"{prefix}/api/v1/jobs/1/log\",\"url\":\"/srv/a\",\"subject\":\
                 \"\\\"page\\\":\\\"/x\"}}"
            )
        };
        assert_eq!(prefix.json(answer("")), answer("/sai"));
        assert!(prefix.description(crate::page::api::description()).contains("{\"url\": \"/sai/api/v1\"}"));
    }
}
