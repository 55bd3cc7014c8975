//! The keys of a master's configuration: what is taken for known, and what the reference says of each.

use sai_core::keys::{Key, Part, reference};

/// Keys of the file itself.
pub const ROOT: &[Key] = &[
    Key::new(
        "state",
        "a directory",
        "`/var/lib/sai-master` for root, else `~/.local/state/sai-master`",
        "Everything the master keeps: records, logs, artifacts, git's caches, certificates.",
        "\"/var/lib/sai-master\"",
    ),
    Key::new(
        "listen",
        "an array of addresses with ports",
        "port 4433 of all addresses",
        "Where the page, the hooks and the agents are served, all on one port. `[::]` is every address of the machine, those of \
         IPv4 too.",
        "[\"127.0.0.1:4433\"]",
    ),
    Key::new(
        "url",
        "an address as https://HOST:PORT or https://HOST/PATH",
        "made of the host's name",
        "How agents and people reach the master. Where a proxy has it below a path, that is before all its addresses.",
        "\"https://ci.example.org:4433\"",
    ),
    Key::new(
        "trusted_proxies",
        "an array of addresses or blocks of them",
        "nobody",
        "Proxies in front of the master, which are believed about who their client is.",
        "[\"127.0.0.1\", \"10.0.0.0/8\"]",
    ),
    Key::new("tls", "an object", "a certificate is made on the first start", "A certificate of your own.", ""),
    Key::new(
        "shown_certificate",
        "\"authority\", or a PEM file",
        "the master's own",
        "What agents are shown by a proxy that has a certificate of its own; `url` must be beside it. See proxies.",
        "\"authority\"",
    ),
    Key::new(
        "public",
        "true or false",
        "true",
        "Whether everybody may read the page. Acting always takes a token.",
        "false",
    ),
    Key::new("repositories", "an object of repositories by name", "nothing is built", "What is built.", ""),
    Key::new("builtin", "an object, or false", "it is on", "The agent inside; `false` switches it off.", ""),
    Key::new("log_bytes", "4096 to 2^40", "1 GiB", "Bytes of log that a job may write.", "268435456"),
    Key::new(
        "log_limit_fails",
        "true or false",
        "false: it is left out",
        "Whether a job that writes more fails.",
        "true",
    ),
    Key::new("timeout_s", "seconds", "3600", "A job's time where its saifile names none.", "7200"),
    Key::new("expire_s", "seconds", "86400", "How long a job waits for a platform that nobody offers.", "43200"),
    Key::new(
        "orphan_s",
        "40 or more seconds",
        "600",
        "How long an agent may be away before its jobs are given to others.",
        "300",
    ),
    Key::new(
        "units",
        "an object of amounts by name",
        "",
        "What jobs may want besides a slot, and how many there are of each.",
        "{ \"licences\": 3 }",
    ),
    Key::new("keep", "an object", "", "What is kept, and for how long.", ""),
    Key::new("min_free_mib", "MiB", "512", "Free disk below which no job starts.", "1024"),
];

/// Keys of a certificate.
pub const TLS: &[Key] = &[
    Key::new("chain", "a PEM file", "", "The chain, the server's own certificate first.", ""),
    Key::new("key", "a PEM file", "", "Its key.", ""),
    Key::new(
        "public_authority",
        "true or false",
        "false",
        "Whether every system knows who signed it, so that agents need not pin it.",
        "true",
    ),
];

/// Keys of a repository.
pub const REPOSITORY: &[Key] = &[
    Key::new(
        "url",
        "a path, or an address by https, ssh or git",
        "",
        "What master and agents fetch; it must be there. Credentials before the host are shown to nobody and not to be had by \
         jobs.",
        "\"https://git.example.org/hello.git\"",
    ),
    Key::new(
        "secret",
        "16 to 1024 characters",
        "no signed hooks",
        "Key of signed hooks: GitHub, Gitea, Forgejo, GitLab, or Sai's own notification.",
        "\"0123456789abcdef0123456789abcdef\"",
    ),
    Key::new("poll_s", "seconds", "never", "Time between looks of our own, for servers without hooks.", "300"),
    Key::new("tags", "true or false", "false", "Whether tags are built too.", "true"),
    Key::new("submodules", "true or false", "false", "Whether jobs get submodules.", "true"),
    Key::new(
        "supersede",
        "true or false",
        "false",
        "Whether a push ends the jobs of earlier ones to the same branch or tag that have not ended, but what its `paths` leave \
         out, and the deletion of a branch those of all. What people have started goes on.",
        "true",
    ),
    Key::new("priority", "-1000 to 1000", "0", "Added to the priority of each of its jobs.", "5"),
    Key::new(
        "forge",
        "github, gitlab, gitea (Forgejo too) or cgit",
        "what `url` tells",
        "By what its commits, branches and pull requests are shown.",
        "\"gitea\"",
    ),
    Key::new("web", "an address", "what `url` tells", "Where they are shown.", "\"https://git.example.org/hello\""),
];

/// Keys of the agent inside. Those about containers are an agent's as well.
pub const BUILTIN: &[Key] = &[
    Key::new(
        "platforms",
        "an array of names",
        "what the host is",
        "What it offers.",
        "[\"linux-debian-12/x86_64/gcc\"]",
    ),
    Key::new("slots", "a number", "half the cores", "Jobs at once.", "2"),
    Key::new("user", "a user's name", "the master's user", "Who steps on the machine itself run as.", "\"nobody\""),
    Key::new("env", "an object of texts by name", "", "What each job has in its environment.", "{ \"V\": \"1\" }"),
    Key::new(
        "boards",
        "an absolute path",
        "none",
        "The file that describes the boards of this machine, which it offers. Steps must run as another `user`, or in containers alone.",
        "\"/etc/sai/boards.json\"",
    ),
    Key::new(
        "boards_run",
        "an absolute path",
        "`/run/sai-buddy` for root",
        "Where the sockets of the boards' owners and their guard are.",
        "\"/run/sai-buddy\"",
    ),
    Key::new(
        "images",
        "a directory",
        "`agent/images` in the state",
        "Where images are, each a directory whose path below it is its platform. They take root.",
        "\"/srv/images\"",
    ),
    Key::new(
        "container",
        "nspawn, bwrap or none",
        "nspawn if it is installed, else bwrap",
        "What makes containers.",
        "\"bwrap\"",
    ),
    Key::new("network", "host or none", "host", "What jobs in containers see of the network.", "\"none\""),
    Key::new("upper", "disk or tmpfs", "disk, without a bound", "Where all that a job writes is kept.", "\"tmpfs\""),
    Key::new("upper_mib", "MiB", "half the memory", "How much that may be with tmpfs.", "4096"),
    Key::new(
        "binds",
        "an array of HOST:INSIDE, with :rw or without",
        "none",
        "Directories and files of the machine that jobs see.",
        "[\"/opt/sdk:/opt/sdk\"]",
    ),
    Key::new("devices", "an array of paths", "none", "Devices that jobs may use.", "[\"/dev/kvm\"]"),
    Key::new("memory_mib", "MiB", "no bound", "Memory of each job.", "8192"),
    Key::new("cpus", "a number", "no bound", "Processors of each job.", "2.5"),
    Key::new("pids", "a number", "no bound", "Processes and threads of each job.", "4096"),
    Key::new(
        "root",
        "true or false",
        "where a saifile says so",
        "Whether steps are root, in a user namespace of their own.",
        "true",
    ),
];

/// Keys of what is kept.
pub const KEEP: &[Key] = &[
    Key::new("events", "1 to 10000000", "1000", "Events kept of each repository.", "500"),
    Key::new("days", "a number", "for ever", "For how many days.", "365"),
];

/// The sections of the file.
pub const PARTS: &[Part] = &[
    Part { path: "master.json", what: "Every key may be left out.", keys: ROOT },
    Part {
        path: "repositories.NAME",
        what: "NAME, of letters, digits and `_.-`, is what hooks and pages call it.",
        keys: REPOSITORY,
    },
    Part { path: "tls", what: "Files that are replaced are used from the next connection on.", keys: TLS },
    Part { path: "builtin", what: "The agent inside; what it offers is built on this machine.", keys: BUILTIN },
    Part { path: "keep", what: "What is older is deleted, each hour and by `sai-master gc`.", keys: KEEP },
];

/// The reference of the configuration, as Markdown.
pub fn configuration_reference() -> String {
    reference(
        "The master's configuration",
        "`/etc/sai/master.json`, or the file that `--config` or `SAI_CONFIG` names, is JSON with `#` comments. What is wrong in it is \
         told by line and column, and nothing starts. After a SIGHUP it is read again, and what needs a restart is told.",
        PARTS,
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Config, read};
    use super::*;
    use sai_agent::container_settings;
    use sai_core::keys::names;

    /// A configuration with one more key somewhere.
    fn config(part: &str, entry: &str) -> Result<Config, Vec<String>> {
        let with = |known: &str, entry: &str| if part == known { entry.to_string() } else { String::new() };
        let repository = match part {
            "repositories.NAME" if entry.starts_with("\"url\"") => entry.to_string(),
            "repositories.NAME" if entry.starts_with("\"forge\"") => {
                format!("\"url\": \"/srv/a\", \"web\": \"https://b.example/a\", {entry}")
            }
            "repositories.NAME" if entry.starts_with("\"web\"") => {
                format!("\"url\": \"/srv/a\", \"forge\": \"gitea\", {entry}")
            }
            "repositories.NAME" if !entry.is_empty() => format!("\"url\": \"/srv/a\", {entry}"),
            _ => "\"url\": \"/srv/a\"".to_string(),
        };
        let root = match entry {
            _ if part != "master.json" || entry.is_empty() => String::new(),
            shown if shown.starts_with("\"shown") => format!(", \"url\": \"https://a.example\", {shown}"),
            entry => format!(", {entry}"),
        };
        let tls = format!(
            "\"chain\": \"/a\", \"key\": \"/b\"{}{}",
            if part == "tls" { ", " } else { "" },
            with("tls", entry)
        );
        let upper = if entry.starts_with("\"upper_mib\"") { "\"upper\": \"tmpfs\", " } else { "" };
        let text = format!(
            "{{\"repositories\": {{\"a\": {{{repository}}}}}, \"tls\": {{{tls}}}, \"builtin\": {{{upper}{}}}, \"keep\": {{{}}}{root}}}",
            with("builtin", entry),
            with("keep", entry)
        );
        read("F", text.as_bytes())
    }

    #[test]
    fn each_key_of_the_reference_does_something_and_no_other_is_known() {
        let plain = config("", "").unwrap();
        for part in PARTS {
            for key in part.keys.iter().filter(|key| !key.example.is_empty()) {
                let entry = format!("\"{}\": {}", key.name, key.example);
                let changed = config(part.path, &entry).unwrap_or_else(|errors| panic!("{entry}: {errors:?}"));
                assert_ne!(changed, plain, "{}.{entry}", part.path);
            }
            let error = config(part.path, "\"nonsense\": 1").unwrap_err().join("\n");
            assert!(error.contains(&format!("nonsense: expected one of {}", names(part.keys).join(", "))), "{error}");
        }
        let containers = &BUILTIN[BUILTIN.len() - container_settings::KEYS.len()..];
        assert_eq!(names(containers), container_settings::KEYS);
    }

    #[test]
    fn the_file_of_the_reference_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        if std::env::var_os("SAI_WRITE_DOCS").is_some() {
            std::fs::write(path, configuration_reference()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap();
        assert!(
            found == configuration_reference(),
            "docs/configuration.md is not the table's; SAI_WRITE_DOCS=1 writes it anew"
        );
    }
}
