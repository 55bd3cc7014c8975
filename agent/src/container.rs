//! An image and the agent's settings → what a container is made of, as the agent tells it the supervisor of a job.

use miniserde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::PathBuf;

/// The program that makes the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runner {
    /// `systemd-nspawn`, without a running systemd.
    #[serde(rename = "nspawn")]
    Nspawn,
    /// bubblewrap, `bwrap`: lighter, and there where systemd is not.
    #[serde(rename = "bwrap")]
    Bwrap,
}

impl Runner {
    /// What it is called in settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nspawn => "nspawn",
            Self::Bwrap => "bwrap",
        }
    }

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Nspawn => "systemd-nspawn",
            Self::Bwrap => "bwrap",
        }
    }

    /// Where the program is, in one of the directories of this `PATH`.
    ///
    /// # Errors
    /// One line that says what to install.
    pub fn find(self, path: &OsStr) -> Result<PathBuf, String> {
        let package = match self {
            Self::Nspawn => "systemd-container",
            Self::Bwrap => "bubblewrap",
        };
        crate::describe::find(self.program(), path)
            .ok_or_else(|| format!("{} is not installed: on Debian it is in the package {package}", self.program()))
    }
}

/// Where a job's changes to the image are kept until they are thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upper {
    /// In the job directory.
    #[serde(rename = "disk")]
    Disk,
    /// In memory.
    #[serde(rename = "tmpfs")]
    Tmpfs,
}

/// What a job sees of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// All that the machine sees.
    #[serde(rename = "host")]
    Host,
    /// A loopback interface of its own.
    #[serde(rename = "none")]
    None,
}

/// A directory or file of the machine that jobs see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the machine.
    pub host: String,
    /// Absolute path in the container.
    pub inside: String,
    /// Whether jobs may write there.
    pub writable: bool,
}

/// A container, made anew for each job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// What makes it.
    pub runner: Runner,
    /// Absolute directories, bottom up: `base`, …, `env`. No job can change them.
    pub layers: Vec<String>,
    /// Where changes go.
    pub upper: Upper,
    /// MiB of changes at most; only `tmpfs` can hold a job to it. None: all the space there is, half the memory for `tmpfs`.
    pub upper_mib: Option<u64>,
    /// What it sees of the network.
    pub network: Network,
    /// What it sees of the machine.
    pub binds: Vec<Bind>,
    /// Devices of the machine that it may use, by their paths there, which are those inside too.
    pub devices: Option<Vec<String>>,
    /// MiB of memory at most.
    pub memory_mib: Option<u64>,
    /// Thousandths of a processor at most.
    pub cpu_permille: Option<u64>,
    /// Processes and threads at most.
    pub pids: Option<u64>,
    /// Steps are root, in a user namespace whose numbers begin here outside, see `idmap`. Missing: they are the image's user.
    pub root: Option<u32>,
}

impl Container {
    /// One of no layers yet, with no limits, whose changes go to the disk.
    pub fn plain(runner: Runner, network: Network) -> Self {
        Self {
            runner,
            layers: Vec::new(),
            upper: Upper::Disk,
            upper_mib: None,
            network,
            binds: Vec::new(),
            devices: None,
            memory_mib: None,
            cpu_permille: None,
            pids: None,
            root: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job_directory::RunnerOptions;
    use miniserde::json;

    #[test]
    fn a_runner_that_is_not_there_is_named_with_its_package() {
        let base = std::env::temp_dir().join(format!("sai-runner-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("plain")).unwrap();
        std::fs::create_dir_all(base.join("full")).unwrap();
        std::fs::write(base.join("plain/bwrap"), "").unwrap();
        std::fs::copy("/bin/true", base.join("full/bwrap")).unwrap();
        let path = std::env::join_paths([base.join("plain"), base.join("full")]).unwrap();
        assert_eq!(Runner::Bwrap.find(&path), Ok(base.join("full/bwrap")));
        let why = Runner::Nspawn.find(&path).unwrap_err();
        assert_eq!(why, "systemd-nspawn is not installed: on Debian it is in the package systemd-container");
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn options_carry_a_container_and_those_of_before_have_none() {
        let before = r#"{"instance":1,"parallel":2,"user":null,"group":null,"mirrors":"/m","spool_bytes":3}"#;
        let mut options: RunnerOptions = json::from_str(before).unwrap();
        assert_eq!(options.container, None);
        options.container = Some(Container {
            runner: Runner::Bwrap,
            layers: vec!["/i/base".into(), "/i/env".into()],
            upper: Upper::Tmpfs,
            upper_mib: Some(64),
            network: Network::None,
            binds: vec![Bind { host: "/h".into(), inside: "/c".into(), writable: true }],
            devices: None,
            memory_mib: None,
            cpu_permille: Some(1500),
            pids: Some(100),
            root: None,
        });
        let text = json::to_string(&options);
        assert!(text.contains(r#""runner":"bwrap""#) && text.contains(r#""upper":"tmpfs""#), "{text}");
        assert_eq!(json::from_str::<RunnerOptions>(&text).unwrap(), options);
    }
}
