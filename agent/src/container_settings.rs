//! Section of a configuration ↔ how an agent makes containers: where its images are, and what jobs in them get of the machine.

use crate::container::{Bind, Container, Network, Runner, Upper};
use crate::image::Image;
use sai_core::json::shown;
use sai_core::settings::{Reader, Section};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

/// Every key about containers.
pub const KEYS: [&str; 11] =
    ["images", "container", "network", "upper", "upper_mib", "binds", "devices", "memory_mib", "cpus", "pids", "root"];

/// Where images are when the configuration does not say: below the state directory.
const IMAGES: &str = "images";
/// Binds of a container; each is a mount at the start of each job.
const BINDS: usize = 64;
/// MiB that a limit may name: 2^43 bytes, far from where sums overflow.
const MIB: u64 = 1 << 23;
/// The least memory a job can be held to, MiB: with less not even a shell starts.
const LEAST_MIB: u64 = 16;
/// The fewest processes a job can be held to: the container's own, a shell and what it runs.
const LEAST_PIDS: u64 = 8;
/// The most that Linux can number.
const MOST_PIDS: u64 = 1 << 22;
/// Thousandths of a processor a job can be held to: a hundredth of one at least, as the scheduler has it.
const CPU_PERMILLE: std::ops::RangeInclusive<u64> = 10..=1024 * 1000;
/// What a container has of its own, so that nothing of the machine can be put there: the runner would hide it.
const OWN: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/sai/steps"];
/// What is in `/dev` of every container.
const DEVICES: [&str; 14] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
];
/// Where the workspace is.
const WORKSPACE: &str = "/sai";

/// What is said of containers; what is left out is decided where it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    /// The directory of images.
    pub images: Option<PathBuf>,
    /// What makes containers; `Some(None)` forbids them.
    pub runner: Option<Option<Runner>>,
    /// What jobs see of the network.
    pub network: Option<Network>,
    /// Where changes to an image are kept while a job runs.
    pub upper: Option<Upper>,
    /// MiB of them at most.
    pub upper_mib: Option<u64>,
    /// Directories and files of the machine that jobs see.
    pub binds: Vec<Bind>,
    /// Devices of the machine that jobs may use.
    pub devices: Vec<String>,
    /// MiB of memory of a job at most.
    pub memory_mib: Option<u64>,
    /// Thousandths of a processor of a job at most.
    pub cpu_permille: Option<u64>,
    /// Processes and threads of a job at most.
    pub pids: Option<u64>,
    /// Whether steps are root in a user namespace of their own: in all jobs, in none, or, unsaid, in those that ask for it.
    pub root: Option<bool>,
}

/// What matters of the machine to whoever wants containers on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// Whether containers were built into this program.
    pub built: bool,
    /// Whether root runs it.
    pub root: bool,
    /// Whether `systemd-nspawn` is installed.
    pub nspawn: bool,
    /// Whether `bwrap` is installed.
    pub bwrap: bool,
}

impl ContainerSettings {
    /// Reads the keys about containers of a section; what is wrong is reported by the reader.
    pub fn read(reader: &mut Reader, section: &Section<'_>) -> Self {
        let images = reader.checked(section, "images", |text| {
            if plain_path(text) { Ok(()) } else { Err("a path that begins with / and has no .. in it".to_owned()) }
        });
        let one_of = |words: &'static [&str]| {
            move |text: &str| match words.contains(&text) {
                true => Ok(()),
                false => Err(format!("one of {}, found {}", words.join(", "), shown(text))),
            }
        };
        let runner = reader.checked(section, "container", one_of(&["nspawn", "bwrap", "none"]));
        let network = reader.checked(section, "network", one_of(&["host", "none"]));
        let upper = reader.checked(section, "upper", one_of(&["disk", "tmpfs"]));
        let binds = reader.checked_texts(section, "binds", |text| parse_bind(text).map(drop)).unwrap_or_default();
        if binds.len() > BINDS {
            reader.report(section, "binds", &format!("at most {BINDS} of HOST:INSIDE or HOST:INSIDE:rw"));
        }
        let devices = reader.checked_texts(section, "devices", check_device).unwrap_or_default();
        if devices.len() > BINDS {
            reader.report(section, "devices", &format!("at most {BINDS} devices"));
        }
        let upper_mib = reader.count(section, "upper_mib", LEAST_MIB..=MIB);
        if upper_mib.is_some() && upper.as_deref() != Some("tmpfs") {
            reader.report(
                section,
                "upper_mib",
                "upper to be tmpfs where its size is limited; a disk has no limit to set",
            );
        }
        let settings = Self {
            images: images.map(PathBuf::from),
            runner: runner.map(|name| match name.as_str() {
                "nspawn" => Some(Runner::Nspawn),
                "bwrap" => Some(Runner::Bwrap),
                _ => None,
            }),
            network: network.map(|name| if name == "none" { Network::None } else { Network::Host }),
            upper: upper.map(|name| if name == "tmpfs" { Upper::Tmpfs } else { Upper::Disk }),
            upper_mib,
            binds: binds.iter().filter_map(|text| parse_bind(text).ok()).collect(),
            devices,
            memory_mib: reader.count(section, "memory_mib", LEAST_MIB..=MIB),
            cpu_permille: reader.thousandths(section, "cpus", CPU_PERMILLE),
            pids: reader.count(section, "pids", LEAST_PIDS..=MOST_PIDS),
            root: reader.boolean(section, "root"),
        };
        if !cfg!(feature = "nspawn") && settings.asks_for_containers() {
            let expected =
                format!("a sai-agent with containers, which this one was built without; build it with {BUILD}");
            reader.report(section, settings.keys().first().map_or("images", |(key, _)| key), &expected);
        }
        settings
    }

    /// Whether anything is said that has a meaning only where there are containers.
    pub fn asks_for_containers(&self) -> bool {
        let forbidden = self.runner == Some(None);
        !forbidden && *self != Self::default()
    }

    /// What is said, as JSON by key.
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let text = |text: &str| miniserde::json::to_string(text);
        let mut keys = Vec::new();
        // A path that is no text cannot stand in JSON.
        if let Some(images) = self.images.as_deref().and_then(Path::to_str) {
            keys.push(("images", text(images)));
        }
        if let Some(runner) = self.runner {
            keys.push((
                "container",
                runner.map_or("\"none\"".to_owned(), |runner| miniserde::json::to_string(&runner)),
            ));
        }
        if let Some(network) = self.network {
            keys.push(("network", miniserde::json::to_string(&network)));
        }
        if let Some(upper) = self.upper {
            keys.push(("upper", miniserde::json::to_string(&upper)));
        }
        if !self.binds.is_empty() {
            let binds: Vec<String> = self.binds.iter().map(bind_text).collect();
            keys.push(("binds", miniserde::json::to_string(&binds)));
        }
        if !self.devices.is_empty() {
            keys.push(("devices", miniserde::json::to_string(&self.devices)));
        }
        let cpus = self.cpu_permille.map(|permille| format!("{}.{:03}", permille / 1000, permille % 1000));
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        for (key, value) in [
            ("upper_mib", number(self.upper_mib)),
            ("memory_mib", number(self.memory_mib)),
            ("cpus", cpus),
            ("pids", number(self.pids)),
        ] {
            keys.extend(value.map(|value| (key, value)));
        }
        keys.extend(self.root.map(|root| ("root", root.to_string())));
        keys
    }

    /// The directory of images of an agent with this state directory.
    pub fn images(&self, state: &Path) -> PathBuf {
        self.images.clone().unwrap_or_else(|| state.join(IMAGES))
    }

    /// What makes the containers on this machine; `None` when they are forbidden.
    ///
    /// # Errors
    /// Why nothing can, and what to do, in a sentence.
    pub fn runner(&self, means: Means) -> Result<Option<Runner>, String> {
        let (chosen, installed) = match self.runner {
            Some(None) => return Ok(None),
            Some(Some(Runner::Nspawn)) => (Runner::Nspawn, means.nspawn),
            Some(Some(Runner::Bwrap)) => (Runner::Bwrap, means.bwrap),
            None if means.nspawn => (Runner::Nspawn, true),
            None => (Runner::Bwrap, means.bwrap),
        };
        if !means.built {
            return Err(format!("this sai-agent was built without containers; build it with {BUILD}"));
        }
        if !means.root {
            return Err("only an agent that root runs can run jobs in containers".to_owned());
        }
        match (installed, self.runner) {
            (true, _) => Ok(Some(chosen)),
            (false, None) => {
                Err("neither systemd-nspawn nor bwrap is installed: install one of them (Debian's packages \
                                  systemd-container and bubblewrap) to run jobs in containers"
                    .to_owned())
            }
            (false, Some(_)) => Err(format!(
                "{} is not installed: install it, or set container to another one in the configuration",
                chosen.program()
            )),
        }
    }

    /// The container of a job in an image, whose steps are not root.
    pub fn container(&self, runner: Runner, image: &Image) -> Container {
        Container {
            runner,
            layers: image.layers.iter().map(|layer| layer.to_string_lossy().into_owned()).collect(),
            upper: self.upper.unwrap_or(Upper::Disk),
            upper_mib: self.upper_mib,
            network: self.network.unwrap_or(Network::Host),
            binds: self.binds.clone(),
            devices: (!self.devices.is_empty()).then(|| self.devices.clone()),
            memory_mib: self.memory_mib,
            cpu_permille: self.cpu_permille,
            pids: self.pids,
            root: None,
        }
    }
}

/// What builds a program with containers.
pub const BUILD: &str = "`cargo build --release -p sai-agent --features nspawn`";

/// Whether a path begins at the root and leads only downwards.
fn plain_path(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Reads `HOST:INSIDE`, `HOST:INSIDE:ro` or `HOST:INSIDE:rw`.
fn parse_bind(text: &str) -> Result<Bind, String> {
    let fields: Vec<&str> = text.split(':').collect();
    let bind = match fields.as_slice() {
        [host, inside] | [host, inside, "ro"] => Some((host, inside, false)),
        [host, inside, "rw"] => Some((host, inside, true)),
        _ => None,
    };
    let plain = |path: &str| plain_path(path) && !path.contains('\0');
    match bind {
        Some((host, inside, writable)) if plain(host) && plain(inside) && *inside != "/" => {
            let own = OWN.iter().find(|own| Path::new(inside).starts_with(own));
            let own = own.or_else(|| (*inside == WORKSPACE).then_some(&WORKSPACE));
            match own {
                Some(own) => {
                    Err(format!("a place other than {own}, of which each container has its own, found {text:?}"))
                }
                None => Ok(Bind { host: (*host).to_owned(), inside: (*inside).to_owned(), writable }),
            }
        }
        _ => Err(format!("HOST:INSIDE or HOST:INSIDE:rw, absolute paths without .. and :, found {}", shown(text))),
    }
}

/// Checks the path of a device: below `/dev`, and not one that each container has of its own.
fn check_device(text: &str) -> Result<(), String> {
    let own = DEVICES.iter().any(|own| Path::new(text).starts_with(own));
    if plain_path(text) && text.starts_with("/dev/") && !text.contains(['\0', ':']) && !own {
        return Ok(());
    }
    Err(format!("a device such as /dev/kvm, which not every container has of its own, found {}", shown(text)))
}

/// Why a bind cannot work: what it leads to can be seen in a container, but not opened there.
pub fn useless(bind: &Bind) -> Option<String> {
    let host = Path::new(&bind.host);
    let about = std::fs::metadata(host).ok()?;
    let devices = about.is_dir() && host.starts_with("/dev") && !host.starts_with("/dev/shm");
    if devices || about.file_type().is_char_device() || about.file_type().is_block_device() {
        return Some(format!(
            "{} is no file but of the devices, which jobs may use by the key devices alone",
            bind.host
        ));
    }
    None
}

fn bind_text(bind: &Bind) -> String {
    format!("{}:{}{}", bind.host, bind.inside, if bind.writable { ":rw" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::settings;

    fn read(text: &str) -> Result<ContainerSettings, Vec<String>> {
        let tree = settings::parse("F", text.as_bytes()).expect("JSON");
        let mut reader = Reader::new();
        let root = reader.root(&tree, &KEYS);
        let settings = ContainerSettings::read(&mut reader, &root);
        reader.finish("F").map(|()| settings)
    }

    #[cfg(feature = "nspawn")]
    #[test]
    fn everything_that_can_be_said_is_read_and_written() {
        let text = r#"{ "images": "/srv/images", "container": "bwrap", "network": "none", "upper": "tmpfs",
            "upper_mib": 512, "binds": ["/var/cache/ccache:/ccache:rw", "/opt/sdk:/opt/sdk"], "devices": "/dev/kvm", "memory_mib": 2048,
            "cpus": 1.5, "pids": 500, "root": true }"#;
        let settings = read(text).expect("settings");
        let image = Image { platform: "a".into(), layers: vec!["/i/base".into(), "/i/env".into()] };
        let container = settings.container(Runner::Bwrap, &image);
        let bind = |host: &str, inside: &str, writable| Bind { host: host.into(), inside: inside.into(), writable };
        let expected = Container {
            runner: Runner::Bwrap,
            layers: vec!["/i/base".into(), "/i/env".into()],
            upper: Upper::Tmpfs,
            upper_mib: Some(512),
            network: Network::None,
            binds: vec![bind("/var/cache/ccache", "/ccache", true), bind("/opt/sdk", "/opt/sdk", false)],
            devices: Some(vec!["/dev/kvm".into()]),
            memory_mib: Some(2048),
            cpu_permille: Some(1500),
            pids: Some(500),
            root: None,
        };
        assert_eq!(container, expected);
        let lines: Vec<String> = settings.keys().iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        assert_eq!(lines.len(), KEYS.len());
        assert_eq!(read(&format!("{{ {} }}", lines.join(", "))), Ok(settings));
    }

    #[test]
    fn what_is_left_out_costs_no_limits_and_changes_the_disk_alone() {
        let settings = read("{}").expect("settings");
        assert!(settings.keys().is_empty() && !settings.asks_for_containers());
        assert_eq!(settings.images(Path::new("/state")), Path::new("/state/images"));
        let container = settings.container(Runner::Nspawn, &Image { platform: "a".into(), layers: Vec::new() });
        assert_eq!((container.upper, container.network), (Upper::Disk, Network::Host));
        assert_eq!((container.memory_mib, container.cpu_permille, container.pids), (None, None, None));
        assert!(!read(r#"{ "container": "none" }"#).expect("settings").asks_for_containers());
    }

    #[cfg(not(feature = "nspawn"))]
    #[test]
    fn a_program_without_containers_says_what_to_build() {
        let errors = read(r#"{ "images": "/srv/images" }"#).expect_err("no containers");
        assert!(errors.len() == 1 && errors[0].contains("--features nspawn"), "{errors:?}");
        assert!(read(r#"{ "container": "none" }"#).is_ok());
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        for (text, place, words) in [
            (r#"{"images": "here"}"#, "1:12", "begins with /"),
            (r#"{"images": "/a/../b"}"#, "1:12", "no .."),
            (r#"{"container": "docker"}"#, "1:15", "one of nspawn, bwrap, none"),
            (r#"{"network": "bridge"}"#, "1:13", "one of host, none"),
            (r#"{"upper": "ram"}"#, "1:11", "one of disk, tmpfs"),
            (r#"{"upper_mib": 64}"#, "1:15", "upper to be tmpfs"),
            (r#"{"upper": "disk", "upper_mib": 64}"#, "1:32", "upper to be tmpfs"),
            (r#"{"upper": "tmpfs", "upper_mib": 1}"#, "1:33", "from 16"),
            (r#"{"memory_mib": 0}"#, "1:16", "from 16"),
            (r#"{"cpus": 0}"#, "1:10", "from 0.010 to 1024"),
            (r#"{"cpus": 1.2345}"#, "1:10", "a number"),
            (r#"{"cpus": "2"}"#, "1:10", "a number"),
            (r#"{"root": "yes"}"#, "1:10", "true or false"),
            (r#"{"pids": 1}"#, "1:10", "from 8"),
            (r#"{"binds": ["/a:/b", "a:/b"]}"#, "1:21", "HOST:INSIDE"),
            (r#"{"binds": "/a"}"#, "1:11", "HOST:INSIDE"),
            (r#"{"binds": "/a:/b:rx"}"#, "1:11", "HOST:INSIDE"),
            (r#"{"binds": "/a:/"}"#, "1:11", "HOST:INSIDE"),
            (r#"{"binds": "/a:/b/../../c"}"#, "1:11", "HOST:INSIDE"),
            (r#"{"binds": "/a:/proc/sys"}"#, "1:11", "other than /proc"),
            (r#"{"binds": "/a:/run/docker.sock"}"#, "1:11", "other than /run"),
            (r#"{"binds": "/a:/sai"}"#, "1:11", "other than /sai"),
            (r#"{"binds": "/a:/sai/steps/x"}"#, "1:11", "other than /sai/steps"),
            (r#"{"devices": "/dev/../etc"}"#, "1:13", "such as /dev/kvm"),
            (r#"{"devices": ["/dev/kvm", "/dev/pts/0"]}"#, "1:26", "such as /dev/kvm"),
            (r#"{"devices": "/srv/kvm"}"#, "1:13", "such as /dev/kvm"),
            (r#"{"image": "/a"}"#, "1:2", "one of images"),
        ] {
            let errors = read(text).expect_err(text);
            let named = |line: &String| line.starts_with(&format!("F:{place}: ")) && line.contains(words);
            assert!(errors.iter().any(named), "{text}: {errors:?}");
            assert!(!errors.iter().any(|line| line.contains("expected expected")), "{errors:?}");
        }
    }

    #[test]
    fn the_machine_decides_what_the_configuration_does_not() {
        let all = Means { built: true, root: true, nspawn: true, bwrap: true };
        let default = ContainerSettings::default();
        let chosen = |runner| ContainerSettings { runner: Some(runner), ..ContainerSettings::default() };
        assert_eq!(default.runner(all), Ok(Some(Runner::Nspawn)));
        assert_eq!(default.runner(Means { nspawn: false, ..all }), Ok(Some(Runner::Bwrap)));
        assert_eq!(chosen(Some(Runner::Bwrap)).runner(all), Ok(Some(Runner::Bwrap)));
        assert_eq!(chosen(None).runner(all), Ok(None));
        for (settings, means, words) in [
            (&default, Means { nspawn: false, bwrap: false, ..all }, "neither systemd-nspawn nor bwrap"),
            (&chosen(Some(Runner::Nspawn)), Means { nspawn: false, ..all }, "systemd-nspawn is not installed"),
            (&chosen(Some(Runner::Bwrap)), Means { bwrap: false, ..all }, "bwrap is not installed"),
            (&default, Means { root: false, ..all }, "root"),
            (&default, Means { built: false, ..all }, "--features nspawn"),
        ] {
            let why = settings.runner(means).expect_err(words);
            assert!(why.contains(words), "{why}");
        }
    }
}
