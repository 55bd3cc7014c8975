//! Configuration and machine → what an agent offers: the machine itself, its images, how many jobs at once, and its boards.

use crate::boards::{self, Bench};
use crate::cgroup::{self, Limits};
use crate::container::{Container, Runner};
use crate::container_settings::{self, ContainerSettings, Means};
use crate::describe;
#[cfg(feature = "nspawn")]
use crate::executor::container::ROOT_BY_BWRAP;
#[cfg(feature = "nspawn")]
use crate::idmap;
use crate::image::{self, Image, Place, Scan, users};
use crate::state::State;
use sai_core::wire::Offer;
use std::path::{Path, PathBuf};

/// What an agent offers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offering {
    /// What this machine itself is.
    pub host: Vec<String>,
    /// Jobs at once.
    pub slots: u32,
    /// Its images, and how jobs in them are held; none where there are no containers.
    pub containers: Option<Containers>,
    /// The boards that hang off it; none where none can be offered.
    pub bench: Option<Bench>,
    /// What people should know of how jobs are held, a sentence each.
    pub notes: Vec<String>,
}

/// Boards that an agent is to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boards {
    /// Where they are described.
    pub place: boards::Place,
    /// Whether steps on the machine itself run as another user than the agent, so that they cannot open the boards' ttys, nor end who
    /// owns them.
    pub apart: bool,
}

impl Boards {
    /// Those of a file, whose owners and guard have their sockets in such a directory, where steps run as this user.
    ///
    /// # Errors
    /// There is no such user, or a path is no text.
    pub fn of(file: &Path, run: &Path, user: Option<&str>) -> Result<Self, String> {
        let text =
            |path: &Path| path.to_str().map(ToOwned::to_owned).ok_or("expected the path of \"boards\" to be text");
        let place = boards::Place { file: text(file)?, run: text(run)? };
        let user = user.map(describe::user).transpose()?;
        let own = rustix::process::geteuid().as_raw();
        Ok(Self { place, apart: user.is_some_and(|(user, _)| user != own) })
    }
}

/// What is said where boards are not offered since steps could reach them.
const NOT_APART: &str = "its boards are not offered: steps on the machine itself run as the agent's own user, and could open their ttys \
                         (set \"user\", or \"platforms\": [])";

/// Images that jobs can run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containers {
    /// How the jobs are held.
    pub settings: ContainerSettings,
    /// What makes the containers.
    pub runner: Runner,
    /// The directory of images.
    pub directory: PathBuf,
    /// The images in it.
    pub images: Vec<Image>,
    /// Whether steps can be root in them.
    pub root: bool,
}

/// Where a job is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assigned {
    /// On the machine itself.
    Host,
    /// In such a container, made of the image in this directory.
    Container(Container, PathBuf),
}

impl Offering {
    /// Looks at this machine and its images. What people should know of it comes as lines beside it.
    ///
    /// # Errors
    /// What keeps it from offering what the configuration asks for, in a sentence.
    pub fn look(
        platforms: Option<&[String]>,
        slots: Option<u32>,
        settings: &ContainerSettings,
        boards: Option<&Boards>,
        state: &State,
    ) -> Result<(Self, Vec<String>), String> {
        let (containers, mut lines) = look_for_images(settings, state)?;
        let host = platforms.map_or_else(describe::platforms, <[String]>::to_vec);
        let slots = slots.unwrap_or((describe::cores() / 2).max(1));
        // Without a platform of its own it runs nothing outside of containers.
        let mut notes: Vec<String> = cgroup::enclosing_trouble().filter(|_| !host.is_empty()).into_iter().collect();
        let mut bench = boards.map(|boards| Bench::read(&boards.place)).transpose()?;
        if boards.is_some_and(|boards| !boards.apart) && !host.is_empty() {
            bench = None;
            notes.push(NOT_APART.to_owned());
        }
        lines.extend(notes.iter().cloned());
        Ok((Self { host, slots, containers, bench, notes }, lines))
    }

    fn images(&self) -> &[Image] {
        self.containers.as_ref().map_or(&[], |containers| &containers.images)
    }

    /// What a master is told.
    pub fn offer(&self) -> Offer {
        let machine = describe::machine();
        let root = self.containers.as_ref().is_some_and(|containers| containers.root);
        let rooted = Some(image::names(self.images(), &[], &machine)).filter(|names| root && !names.is_empty());
        let boards = self.bench.as_ref().map(|bench| bench.offered.clone()).filter(|boards| !boards.is_empty());
        Offer { platforms: image::names(self.images(), &self.host, &machine), slots: self.slots, rooted, boards }
    }

    /// Where a job is to run, in this slot: in the platform that the master has named, or else in one that serves what is
    /// wanted; `root`: its steps ask to be root in a container.
    ///
    /// # Errors
    /// When it is offered no longer: trouble of ours.
    pub fn assigned(&self, wanted: &str, named: Option<&str>, root: bool, slot: u32) -> Result<Assigned, String> {
        let host = if root { &[] } else { &self.host[..] };
        let place = match named {
            Some(name) => image::named(name, self.images(), host),
            None => image::place(wanted, self.images(), host, &describe::machine()),
        };
        let wanted = named.unwrap_or(wanted);
        match (place, &self.containers) {
            (Some(Place::Image(_)), Some(containers)) if root && !containers.root => {
                Err(format!("this agent offers {wanted} no longer to jobs that are root"))
            }
            (Some(Place::Image(image)), Some(Containers { settings, runner, directory, .. })) => {
                let mut container = settings.container(*runner, image);
                container.root = (root || settings.root == Some(true)).then(|| first_number(slot));
                Ok(Assigned::Container(container, directory.join(&image.platform)))
            }
            (Some(_), _) => Ok(Assigned::Host),
            (None, _) => Err(format!("this agent offers {wanted} no longer")),
        }
    }

    /// Withdraws the images that are not there any more. Tells whether there were any.
    pub fn withdraw_missing(&mut self) -> bool {
        let Some(containers) = &mut self.containers else { return false };
        let before = containers.images.len();
        containers.images.retain(|image| image.layers.iter().all(|layer| layer.is_dir()));
        containers.images.len() < before
    }
}

/// The images of an agent with this state, unless there are no containers here.
fn look_for_images(settings: &ContainerSettings, state: &State) -> Result<(Option<Containers>, Vec<String>), String> {
    let directory = settings.images(state.directory());
    let runner = match settings.runner(means()) {
        Ok(None) => return Ok((None, Vec::new())),
        Ok(Some(runner)) => runner,
        // Who asks for containers wants to know; who does not may still have images that are in vain.
        Err(why) if settings.asks_for_containers() => return Err(why),
        Err(why) => {
            let images = image::scan::scan(&directory).images.len();
            let line = format!("the {images} images in {} are not offered: {why}", directory.display());
            return Ok((None, if images == 0 { Vec::new() } else { vec![line] }));
        }
    };
    let mut lines = Vec::new();
    if let Err(error) = prepare(&directory, state) {
        lines.push(format!("{}: {error}", directory.display()));
    }
    let Scan { images, wrong } = image::scan::scan(&directory);
    lines.extend(wrong.iter().map(|wrong| format!("no image: {}/{wrong}", directory.display())));
    #[cfg(feature = "nspawn")]
    for image in &images {
        lines.extend(image::trial::complaints(&image.platform, &directory.join(&image.platform)));
    }
    if let Some(why) = settings.binds.iter().find_map(container_settings::useless) {
        return Err(why);
    }
    for device in settings.devices.iter().filter(|device| !Path::new(device).exists()) {
        lines.push(format!("jobs in containers will fail: the device {device} is not there"));
    }
    for bind in settings.binds.iter().filter(|bind| !Path::new(&bind.host).exists()) {
        lines.push(format!("jobs in containers will fail: {}, which is to be bound, is not there", bind.host));
    }
    if !images.is_empty() {
        let limits = Limits::new(settings.memory_mib, settings.cpu_permille, settings.pids);
        lines.extend(cgroup::trouble(limits).iter().map(|why| format!("jobs in containers have {why}")));
    }
    let root = match can_be_root(settings, runner, &directory) {
        Ok(()) => true,
        Err(why) if settings.root == Some(true) => {
            return Err(format!("steps cannot be root in containers here: {why}"));
        }
        Err(why) => {
            if !images.is_empty() && settings.root.is_none() {
                lines.push(format!("jobs that ask to be root in their container are not taken here: {why}"));
            }
            false
        }
    };
    Ok((Some(Containers { settings: settings.clone(), runner, directory, images, root }), lines))
}

/// Whether a container here can have a root who is nobody outside.
///
/// # Errors
/// Why not, in a sentence.
#[cfg(feature = "nspawn")]
pub fn can_be_root(settings: &ContainerSettings, runner: Runner, images: &Path) -> Result<(), String> {
    if settings.root == Some(false) {
        return Err("the configuration says so by \"root\": false".to_owned());
    }
    if runner == Runner::Bwrap {
        return Err(ROOT_BY_BWRAP.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    idmap::available(images, &path)
}

/// Whether a container here can have a root who is nobody outside: there are none.
///
/// # Errors
/// Always, with why.
#[cfg(not(feature = "nspawn"))]
pub fn can_be_root(_settings: &ContainerSettings, _runner: Runner, _images: &Path) -> Result<(), String> {
    Err("this sai-agent was built without containers".to_owned())
}

#[cfg(feature = "nspawn")]
fn first_number(slot: u32) -> u32 {
    idmap::range(slot)
}

#[cfg(not(feature = "nspawn"))]
fn first_number(_slot: u32) -> u32 {
    0
}

/// Makes this agent known to whoever changes images, and removes what such a one has left half made.
fn prepare(directory: &Path, state: &State) -> std::io::Result<()> {
    users::register(directory, state.identity(), state.directory())?;
    users::sweep(directory).map(drop)
}

/// What would make containers here by these settings; none where they forbid them.
///
/// # Errors
/// What is missing, in a sentence.
pub fn runner(settings: &ContainerSettings) -> Result<Option<Runner>, String> {
    settings.runner(means())
}

/// What this program and machine have for containers.
fn means() -> Means {
    Means {
        built: cfg!(feature = "nspawn"),
        root: rustix::process::geteuid().is_root(),
        nspawn: describe::on_path(Runner::Nspawn.program()),
        bwrap: describe::on_path(Runner::Bwrap.program()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_that_vanish_are_withdrawn_and_their_jobs_refused() {
        let root = std::env::temp_dir().join(format!("sai-offering-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let image = |name: &str| {
            let layer = root.join(name).join("base");
            std::fs::create_dir_all(&layer).expect("a layer");
            Image { platform: name.to_owned(), layers: vec![layer] }
        };
        let containers = Containers {
            settings: ContainerSettings::default(),
            runner: Runner::Bwrap,
            directory: root.clone(),
            images: vec![image("a"), image("b")],
            root: true,
        };
        let host = vec!["c".to_owned()];
        let mut offering = Offering { host, slots: 2, containers: Some(containers), ..Offering::default() };
        let rooted = Some(["a", "b"].map(String::from).to_vec());
        assert_eq!(
            offering.offer(),
            Offer { platforms: ["a", "b", "c"].map(String::from).to_vec(), slots: 2, rooted, boards: None }
        );
        let Ok(Assigned::Container(container, directory)) = offering.assigned("a", None, false, 1) else {
            panic!("no container")
        };
        assert_eq!(container.root, None);
        assert_eq!((container.layers, directory), (vec![format!("{}/a/base", root.display())], root.join("a")));
        assert_eq!(offering.assigned("c", None, false, 0), Ok(Assigned::Host));
        // What the master names is it, or nothing is.
        let Ok(Assigned::Container(_, directory)) = offering.assigned("c", Some("b"), false, 1) else {
            panic!("no container")
        };
        assert_eq!(directory, root.join("b"));
        assert!(
            offering.assigned("a", Some("a/any"), false, 1).expect_err("no such").contains("offers a/any no longer")
        );
        assert!(offering.assigned("a", Some("c"), true, 1).is_err());
        // The machine itself has no other root than its own.
        assert!(offering.assigned("c", None, true, 0).is_err());
        let Ok(Assigned::Container(rooted, _)) = offering.assigned("a", None, true, 1) else { panic!("no container") };
        assert_eq!(rooted.root, Some(first_number(1)));
        offering.containers.as_mut().expect("containers").root = false;
        assert!(offering.offer().rooted.is_none() && offering.assigned("a", None, true, 1).is_err());
        assert!(!offering.withdraw_missing());
        std::fs::remove_dir_all(root.join("a")).expect("an image");
        assert!(offering.withdraw_missing());
        assert_eq!(offering.offer().platforms, ["b", "c"]);
        assert!(offering.assigned("a", None, false, 0).expect_err("a is gone").contains("no longer"));
        std::fs::remove_dir_all(&root).expect("the end");
    }
}
