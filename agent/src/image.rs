//! Wanted platform → where its job runs: in an image or on this machine itself.
//!
//! An image is a root file system under the name of a platform: `<images>/<platform>/{base,env}`, or more layers than these
//! two, which a file `layers` names.

#[cfg(feature = "nspawn")]
pub mod apt;
#[cfg(feature = "nspawn")]
pub mod commands;
#[cfg(feature = "nspawn")]
pub mod emulation;
#[cfg(feature = "nspawn")]
pub mod plan;
pub mod scan;
#[cfg(feature = "nspawn")]
pub mod staging;
#[cfg(feature = "nspawn")]
pub mod trial;
pub mod users;
#[cfg(feature = "nspawn")]
pub mod worker;

pub use scan::{Image, Scan, Wrong};

use sai_core::limits::PLATFORMS;
use sai_core::ordered::Set;
use sai_core::platform::serves;

/// Where a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In a container with this root.
    Image(&'a Image),
    /// On this machine itself.
    Host,
}

/// What is offered under this very name.
pub fn named<'a>(name: &str, images: &'a [Image], host: &[String]) -> Option<Place<'a>> {
    let image = images.iter().find(|image| image.platform == name).map(Place::Image);
    image.or_else(|| host.iter().any(|other| other == name).then_some(Place::Host))
}

/// Decides where a job of a wanted platform runs, if anywhere, for masters that do not: what is offered under that very name,
/// else the first of [`names`] that serves it.
pub fn place<'a>(wanted: &str, images: &'a [Image], host: &[String], machine: &str) -> Option<Place<'a>> {
    let mut serving = in_order(images, machine).filter(|image| serves(&image.platform, wanted));
    named(wanted, images, host)
        .or_else(|| serving.next().map(Place::Image))
        .or_else(|| host.iter().any(|name| serves(name, wanted)).then_some(Place::Host))
}

/// The images, those of this machine's own architecture before those that are emulated.
fn in_order<'a>(images: &'a [Image], machine: &str) -> impl Iterator<Item = &'a Image> {
    let native = |image: &&Image| architecture(&image.platform) == Some(machine);
    let (native, emulated): (Vec<&Image>, Vec<&Image>) = images.iter().partition(native);
    native.into_iter().chain(emulated)
}

/// The second part of a platform's name, without what refines it: `x86_64` of `linux-debian-12/x86_64-amd/gcc`.
fn architecture(platform: &str) -> Option<&str> {
    platform.split('/').nth(1)?.split('-').next()
}

/// All names that are offered, each once, the ones that are to be preferred first: its images', then this machine's own. As
/// many as can be told to a master, of the images' the rest.
pub fn names(images: &[Image], host: &[String], machine: &str) -> Vec<String> {
    let mut seen = Set::new();
    let images = in_order(images, machine).map(|image| &image.platform);
    let images = images.take(PLATFORMS.saturating_sub(host.len()));
    images.chain(host).filter(|name| seen.insert(*name)).take(PLATFORMS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(names: &[&str]) -> Vec<Image> {
        names.iter().map(|name| Image { platform: (*name).to_string(), layers: Vec::new() }).collect()
    }

    #[test]
    fn the_exact_name_goes_before_images_and_those_before_the_host() {
        let found =
            images(&["linux-debian-12/aarch64/gcc", "linux-debian-12/x86_64/gcc", "linux-debian-13/x86_64/gcc"]);
        let host = ["linux-debian-12/x86_64/gcc".to_string(), "linux-debian-12/x86_64/clang".to_string()];
        let placed = |wanted: &str| match place(wanted, &found, &host, "x86_64") {
            Some(Place::Image(image)) => image.platform.as_str(),
            Some(Place::Host) => "host",
            None => "nowhere",
        };
        for (wanted, expected) in [
            ("linux-debian-12/x86_64/gcc", "linux-debian-12/x86_64/gcc"),
            ("linux-debian-12/x86_64/clang", "host"),
            ("linux-debian-12//clang", "host"),
            ("linux-debian-13", "linux-debian-13/x86_64/gcc"),
            ("linux-debian-12/aarch64", "linux-debian-12/aarch64/gcc"),
            // Nobody who says no more than this wants to be emulated.
            ("linux-debian", "linux-debian-12/x86_64/gcc"),
            ("linux", "linux-debian-12/x86_64/gcc"),
            ("linux-debian-14", "nowhere"),
            ("windows", "nowhere"),
        ] {
            assert_eq!(placed(wanted), expected, "{wanted}");
        }
        assert_eq!(place("linux", &[], &host, "x86_64"), Some(Place::Host));
        assert_eq!(place("linux", &found[..1], &host, "x86_64"), Some(Place::Image(&found[0])));
        assert_eq!(place("linux", &[], &[], "x86_64"), None);
    }

    #[test]
    fn a_name_is_offered_once_and_no_more_than_a_master_takes() {
        let host = ["a".to_string(), "b".to_string()];
        assert_eq!(
            names(&images(&["b/arm/x", "b/x86_64/x", "a"]), &host, "x86_64"),
            ["b/x86_64/x", "b/arm/x", "a", "b"]
        );
        let many: Vec<String> = (0..2 * PLATFORMS).map(|number| format!("p{number}")).collect();
        assert_eq!(names(&[], &many, "x86_64").len(), PLATFORMS);
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let told = names(&images(&many), &host, "x86_64");
        assert_eq!((told.len(), &told[PLATFORMS - 2..]), (PLATFORMS, &host[..]), "the machine itself stays among them");
    }
}
