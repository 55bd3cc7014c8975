//! Configuration as it was and as it is now → what changes while the master runs, and what a restart is needed for.

use crate::config::Config;
use crate::startup::{Master, rules};
use sai_core::hub::Input;
use std::sync::PoisonError;

impl Master {
    /// Goes on by another configuration, and says what is different.
    pub async fn reload(&mut self, new: Config) -> Vec<String> {
        let old = std::mem::replace(&mut self.config, new);
        let new = &self.config;
        let mut lines = differences(&old, new);
        self.hooks.change(new);
        self.hooks.repositories.change(&old, new).await;
        let (terms, policy) = rules(new);
        // A hub that is gone has nothing to be told.
        let _ = self.hub.input(Input::Settings(terms, policy)).await;
        *self.actions.keep.lock().unwrap_or_else(PoisonError::into_inner) = new.keep;
        if let (Some(agent), Some(settings)) = (&self.builtin, &new.builtin) {
            agent.look_again(settings).await;
        }
        if lines.is_empty() {
            lines.push("the configuration was read again and says what it said before".to_string());
        }
        lines
    }
}

/// Sentences about what is different, and when it counts.
fn differences(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let mut repositories = Vec::new();
    for (name, now) in &new.repositories {
        match old.repositories.get(name) {
            None => repositories.push(format!("{name} is new")),
            Some(before) if before != now => repositories.push(format!("{name} has changed")),
            Some(_) => {}
        }
    }
    let gone = old.repositories.keys().filter(|name| !new.repositories.contains_key(*name));
    repositories.extend(gone.map(|name| format!("{name} is gone")));
    if !repositories.is_empty() {
        lines.push(format!("from now on: repositories: {}", repositories.join(", ")));
    }
    let limits = [
        ("log_bytes", old.log_bytes != new.log_bytes),
        ("log_limit_fails", old.log_limit_fails != new.log_limit_fails),
        ("timeout_s", old.timeout_s != new.timeout_s),
        ("expire_s", old.expire_s != new.expire_s),
        ("orphan_s", old.orphan_s != new.orphan_s),
        ("units", old.units != new.units),
        ("keep", old.keep != new.keep),
    ];
    let limits = named(&limits);
    if !limits.is_empty() {
        lines.push(format!("for jobs that are assigned from now on: {limits}"));
    }
    // As the new one, but for what was changed above or is by the agent inside: what still differs waits for a restart.
    let (inside, was_inside) = (new.builtin.as_ref(), old.builtin.as_ref());
    let user =
        |builtin: Option<&crate::config::Builtin>| builtin.map(|builtin| (builtin.user.clone(), builtin.env.clone()));
    let rest = [
        ("state", old.state != new.state),
        ("listen", old.listen != new.listen),
        ("url", old.url != new.url),
        ("trusted_proxies", old.trusted_proxies != new.trusted_proxies),
        ("tls", old.certificate != new.certificate),
        ("public", old.public != new.public),
        ("min_free_mib", old.min_free_mib != new.min_free_mib),
        ("builtin", inside.is_some() != was_inside.is_some()),
        ("builtin.user or builtin.env", inside.is_some() && was_inside.is_some() && user(inside) != user(was_inside)),
    ];
    let rest = named(&rest);
    if !rest.is_empty() {
        lines.push(format!("after a restart: {rest}"));
    }
    if inside.is_some() && was_inside.is_some() && user(inside) == user(was_inside) && inside != was_inside {
        lines.push("from now on: what the agent inside offers".to_string());
    }
    lines
}

fn named(changes: &[(&str, bool)]) -> String {
    changes.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn each_change_is_named_with_its_time() {
        let read = |text: &str| config::read("x", text.as_bytes()).expect("a configuration");
        let old =
            read(r#"{ "repositories": { "a": { "url": "/a" }, "b": { "url": "/b" } }, "builtin": { "slots": 1 } }"#);
        assert!(differences(&old, &old).is_empty());
        let new = read(
            r#"{ "repositories": { "b": { "url": "/c" }, "d": { "url": "/d" } }, "timeout_s": 5, "keep": { "days": 3 },
                 "listen": "127.0.0.1:1", "builtin": { "slots": 2 } }"#,
        );
        assert_eq!(
            differences(&old, &new),
            [
                "from now on: repositories: b has changed, d is new, a is gone",
                "for jobs that are assigned from now on: timeout_s, keep",
                "after a restart: listen",
                "from now on: what the agent inside offers",
            ]
        );
        let off = read(r#"{ "repositories": { "b": { "url": "/c" }, "d": { "url": "/d" } }, "builtin": false }"#);
        assert!(differences(&new, &off).iter().any(|line| line == "after a restart: listen, builtin"));
    }
}
