//! What is asked for of an image → the steps that make it, as data.
//!
//! The steps are carried out by a process of their own, see `worker`, which is told what is asked for as a [`Request`].

use miniserde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What apt-get installs into, where services are not to start: policy-rc.d(8).
const POLICY: &str = "#!/bin/sh\n# No service starts where an image is made.\nexit 101\n";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// A base by debootstrap(8).
    #[serde(rename = "debootstrap")]
    Debootstrap,
    /// A base that is a copy of a directory.
    #[serde(rename = "directory")]
    Directory,
    /// A base out of a tar archive.
    #[serde(rename = "archive")]
    Archive,
    /// No base: the layers of another image are gone over.
    #[serde(rename = "further")]
    Further,
    /// Newer packages in an image that is there.
    #[serde(rename = "update")]
    Update,
    /// A shell in an image that is there.
    #[serde(rename = "shell")]
    Shell,
    /// A step in a container of these layers, made by the runner that `from` names.
    #[serde(rename = "try")]
    Try,
}

/// All that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is to be done.
    pub work: Work,
    /// The directory in which it is done, absolute.
    pub staging: String,
    /// The release, directory or archive that a base is made of.
    pub from: String,
    /// The mirror of that release; debootstrap's own choice when missing.
    pub mirror: Option<String>,
    /// Debian's name of a foreign architecture.
    pub architecture: Option<String>,
    /// The text of the sources.list of a new base; what debootstrap writes when missing.
    pub sources: Option<String>,
    /// Absolute directories that are gone over, bottom up, when there is no new base.
    pub layers: Vec<String>,
    /// The topmost layer as it is, to be changed in a copy.
    pub env: Option<String>,
    /// Packages to install.
    pub packages: Vec<String>,
    /// Settings of apt-get, as `KEY=VALUE`.
    pub settings: Vec<String>,
}

/// A root file system in the staging directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The new base.
    Base,
    /// All layers together, the topmost of them writable.
    Whole,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell how far it is.
    Say(String),
    /// Make a directory.
    Directory(PathBuf),
    /// Run a program of this machine.
    Run(Vec<String>),
    /// Check that a root is one: it has a shell.
    Check(Root),
    /// Write a file of a root, with these permissions.
    Write(Root, &'static str, String, u32),
    /// Let a root have the user that jobs run as.
    User(Root),
    /// Put the layers over each other, changes going to the topmost.
    Mount {
        /// What is gone over, bottom up.
        layers: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
    },
    /// Run a program inside all layers.
    Inside(Vec<String>),
    /// Let the person at the terminal have a shell inside.
    Shell,
    /// Try whether a step runs in these layers.
    Try,
}

/// Names in a staging directory.
#[derive(Clone, Debug)]
pub struct Places {
    /// What becomes the platform's directory.
    pub image: PathBuf,
    /// Its base.
    pub base: PathBuf,
    /// Its env.
    pub env: PathBuf,
    /// What overlayfs works in.
    pub work: PathBuf,
    /// Where all layers are mounted.
    pub whole: PathBuf,
}

impl Places {
    /// Those of a staging directory.
    pub fn of(staging: &Path) -> Self {
        let image = staging.join("image");
        Self {
            base: image.join("base"),
            env: image.join("env"),
            image,
            work: staging.join("work"),
            whole: staging.join("whole"),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// The steps of a request.
pub fn plan(request: &Request) -> Vec<Step> {
    if request.work == Work::Try {
        return vec![Step::Try];
    }
    let places = Places::of(Path::new(&request.staging));
    let mut steps = vec![Step::Directory(places.image.clone())];
    let mut layers: Vec<PathBuf> = request.layers.iter().map(PathBuf::from).collect();
    if let Some(base) = base(request, &places.base.to_string_lossy()) {
        steps.extend(base);
        layers = vec![places.base];
    }
    let changes = matches!(request.work, Work::Further | Work::Update | Work::Shell);
    if !changes && request.packages.is_empty() {
        return steps;
    }
    match &request.env {
        Some(env) => {
            steps.push(Step::Say("copying env, which jobs may be using".to_string()));
            steps.push(copy(env, &places.env.to_string_lossy()));
        }
        None => steps.push(Step::Directory(places.env.clone())),
    }
    steps.push(Step::Directory(places.work));
    steps.push(Step::Directory(places.whole));
    steps.push(Step::Mount { layers, upper: places.env });
    if request.work == Work::Shell {
        steps.push(Step::Shell);
    } else if request.work == Work::Update || !request.packages.is_empty() {
        steps.extend(packages(request));
    }
    steps
}

/// The steps that make a base, if there is to be a new one.
fn base(request: &Request, base: &str) -> Option<Vec<Step>> {
    let Request { from, .. } = request;
    let mut steps = Vec::new();
    match request.work {
        Work::Debootstrap => {
            steps.push(Step::Say(format!("base: {from}, by debootstrap")));
            // Without --force-check-gpg debootstrap goes on when it has no key to check signatures by.
            let mut command = words(&["debootstrap", "--variant=minbase", "--force-check-gpg"]);
            command.extend(request.architecture.iter().map(|architecture| format!("--arch={architecture}")));
            command.extend([from.clone(), base.to_string()]);
            command.extend(request.mirror.clone());
            steps.push(Step::Run(command));
            if let Some(sources) = &request.sources {
                steps.push(Step::Write(Root::Base, "etc/apt/sources.list", sources.clone(), 0o644));
            }
        }
        Work::Directory => {
            steps.push(Step::Say(format!("base: a copy of {from}")));
            steps.push(copy(from, base));
        }
        Work::Archive => {
            steps.push(Step::Say(format!("base: what is in {from}")));
            steps.push(Step::Directory(PathBuf::from(base)));
            // GNU tar keeps members from leaving the directory, by .. as by links it has made itself. --force-local keeps it
            // from taking a name with a colon for another machine's.
            let mut command = words(&["tar", "--extract", "--force-local", "--numeric-owner", "--same-owner"]);
            command.extend(words(&["--preserve-permissions", "--xattrs", "--xattrs-include=*", "--anchored"]));
            command.extend(words(&["--exclude=dev/*", "--exclude=./dev/*"]));
            // A machine without a clock may be years behind when it unpacks, and would be told so of each file.
            command.push("--warning=no-timestamp".to_string());
            command.extend([format!("--directory={base}"), format!("--file={from}")]);
            steps.push(Step::Run(command));
        }
        Work::Further | Work::Update | Work::Shell | Work::Try => return None,
    }
    steps.extend([Step::Check(Root::Base), Step::User(Root::Base)]);
    Some(steps)
}

/// A copy that keeps owners, links, holes and the attributes by which overlayfs knows what is gone.
fn copy(from: &str, to: &str) -> Step {
    let from = format!("{}/.", from.trim_end_matches('/'));
    Step::Run(vec!["cp".into(), "-a".into(), "-x".into(), "--reflink=auto".into(), "--".into(), from, to.to_string()])
}

/// The steps that install packages and make them newer.
fn packages(request: &Request) -> Vec<Step> {
    let apt = |command: &[&str], packages: &[String]| {
        let mut line = words(&["apt-get", "-q", "-y", "--no-install-recommends"]);
        for setting in &request.settings {
            line.extend(["-o".to_string(), setting.clone()]);
        }
        // What a person has changed in a shell stays.
        line.extend(words(&["-o", "Dpkg::Options::=--force-confold"]));
        line.extend(words(command));
        if !packages.is_empty() {
            line.push("--".to_string());
            line.extend_from_slice(packages);
        }
        Step::Inside(line)
    };
    let mut steps = vec![Step::Write(Root::Whole, "usr/sbin/policy-rc.d", POLICY.to_string(), 0o755)];
    steps.push(Step::Say("env: asking for the lists of packages".to_string()));
    steps.push(apt(&["update"], &[]));
    if request.work == Work::Update {
        steps.push(Step::Say("env: newer packages".to_string()));
        steps.push(apt(&["upgrade", "--with-new-pkgs"], &[]));
    }
    if !request.packages.is_empty() {
        steps.push(Step::Say(format!("env: {}", request.packages.join(" "))));
        steps.push(apt(&["install"], &request.packages));
    }
    steps.push(apt(&["clean"], &[]));
    steps.push(Step::Inside(words(&["rm", "-rf", "/var/lib/apt/lists"])));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(work: Work, from: &str, packages: &[&str]) -> Request {
        Request {
            work,
            staging: "/i/.new-a".to_string(),
            from: from.to_string(),
            mirror: None,
            architecture: None,
            sources: None,
            layers: Vec::new(),
            env: None,
            packages: words(packages),
            settings: words(&["Acquire::Retries=3"]),
        }
    }

    /// The steps, a line each.
    fn lines(request: &Request) -> Vec<String> {
        let shown = |step: &Step| match step {
            Step::Run(words) => words.join(" "),
            Step::Inside(words) => format!("inside {}", words.join(" ")),
            other => format!("{other:?}"),
        };
        plan(request).iter().filter(|step| !matches!(step, Step::Say(_))).map(shown).collect()
    }

    const APT: &str = "inside apt-get -q -y --no-install-recommends -o Acquire::Retries=3 \
                       -o Dpkg::Options::=--force-confold";

    #[test]
    fn a_release_becomes_a_base_and_packages_become_env() {
        let request = Request {
            mirror: Some("http://m".to_string()),
            architecture: Some("arm64".to_string()),
            sources: Some("deb http://m x main\n".to_string()),
            ..request(Work::Debootstrap, "x", &["gcc", "make"])
        };
        assert_eq!(
            lines(&request),
            [
                "Directory(\"/i/.new-a/image\")",
                "debootstrap --variant=minbase --force-check-gpg --arch=arm64 x /i/.new-a/image/base http://m",
                "Write(Base, \"etc/apt/sources.list\", \"deb http://m x main\\n\", 420)",
                "Check(Base)",
                "User(Base)",
                "Directory(\"/i/.new-a/image/env\")",
                "Directory(\"/i/.new-a/work\")",
                "Directory(\"/i/.new-a/whole\")",
                "Mount { layers: [\"/i/.new-a/image/base\"], upper: \"/i/.new-a/image/env\" }",
                &format!("Write(Whole, \"usr/sbin/policy-rc.d\", {POLICY:?}, 493)"),
                &format!("{APT} update"),
                &format!("{APT} install -- gcc make"),
                &format!("{APT} clean"),
                "inside rm -rf /var/lib/apt/lists",
            ]
        );
    }

    #[test]
    fn a_directory_or_archive_alone_is_a_base_alone() {
        let copied = lines(&request(Work::Directory, "/srv/root/", &[]));
        assert_eq!(copied[1], "cp -a -x --reflink=auto -- /srv/root/. /i/.new-a/image/base");
        assert_eq!(copied.len(), 4);
        let unpacked = lines(&request(Work::Archive, "/srv/a:b.tar.xz", &[]));
        assert!(unpacked[2].starts_with("tar --extract --force-local ") && unpacked[2].contains(" --same-owner "));
        assert!(unpacked[2].ends_with(" --directory=/i/.new-a/image/base --file=/srv/a:b.tar.xz"), "{unpacked:?}");
        assert_eq!(unpacked[3..], ["Check(Base)", "User(Base)"]);
    }

    #[test]
    fn what_is_there_is_changed_in_a_copy() {
        let there = |work, packages: &[&str]| {
            let layers = words(&["/i/a/base"]);
            lines(&Request { layers, env: Some("/i/a/env".to_string()), ..request(work, "", packages) })
        };
        let update = there(Work::Update, &[]);
        assert_eq!(update[1], "cp -a -x --reflink=auto -- /i/a/env/. /i/.new-a/image/env");
        assert_eq!(update[4], "Mount { layers: [\"/i/a/base\"], upper: \"/i/.new-a/image/env\" }");
        assert!(update.contains(&format!("{APT} upgrade --with-new-pkgs")), "{update:?}");
        assert_eq!(there(Work::Shell, &[]).last().map(String::as_str), Some("Shell"));
        let further = lines(&Request { layers: words(&["/i/a/base"]), ..request(Work::Further, "", &["clang"]) });
        assert_eq!(further[1], "Directory(\"/i/.new-a/image/env\")");
        assert!(further.contains(&format!("{APT} install -- clang")), "{further:?}");
        assert!(!lines(&request(Work::Further, "", &[])).iter().any(|line| line.contains("apt-get")));
    }
}
