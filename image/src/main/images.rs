//! Archives on the boot partition → images that jobs run in, each made once: a process of its own, since it takes minutes.

use crate::boot;
use crate::tell::tell;
use rustix::mount::{UnmountFlags, unmount};
use sai_init::settings::Settings;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The word that this program is started with for it.
pub const WORD: &str = "images";
/// Where the agent has its images: what its configuration says of nothing else.
const IMAGES: &str = "/data/agent/images";

/// Where the boot partition is while images are made; others use it as well.
const PLACE: &str = "/run/archives";
/// What an image has in its directory, one of these at least, and no platform's name has as a part.
const PARTS: [&str; 2] = ["base", "layers"];

/// Those of the settings that the card has not yet, each with its archive. An image that is there stays as it is, with its archive or
/// without.
pub fn missing(settings: &Settings) -> Vec<(String, String)> {
    missing_in(Path::new(IMAGES), settings)
}

fn missing_in(images: &Path, settings: &Settings) -> Vec<(String, String)> {
    // A platform's directory may be there for the sake of another one whose name goes on behind it.
    let is_there = |platform: &str| PARTS.iter().any(|part| images.join(platform).join(part).exists());
    settings.images.iter().filter(|(platform, _)| !is_there(platform)).cloned().collect()
}

/// Makes images one after the other: of the agent's configuration, of the card, and for each image its platform and its archive.
pub fn make(words: &[OsString]) -> ExitCode {
    let [configuration, card, all @ ..] = words else { return ExitCode::from(2) };
    if let Err(error) = boot::mount_boot_at(&card.to_string_lossy(), PLACE) {
        tell(&format!("images: the boot partition: {error}"));
        return ExitCode::FAILURE;
    }
    for pair in all.chunks_exact(2) {
        let [platform, file] = pair else { continue };
        let archive = Path::new(PLACE).join(file);
        let name = platform.to_string_lossy();
        if !archive.exists() {
            tell(&format!("images: {name}: there is no {} on the boot partition", file.display()));
            continue;
        }
        let mut create = Command::new("/bin/sai-agent");
        create.args(["image", "create"]).arg(platform).arg("--from-tar").arg(archive);
        match create.arg("--config").arg(configuration).status() {
            Ok(status) if status.success() => tell(&format!("images: {name} is there")),
            Ok(status) => tell(&format!("images: {name} could not be made: {status}")),
            Err(error) => tell(&format!("images: {name} could not be made: {error}")),
        }
    }
    let _ = unmount(PLACE, UnmountFlags::empty());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_there_by_itself_and_not_by_another_whose_name_goes_on() {
        let images = std::env::temp_dir().join(format!("sai-images-of-a-card-{}", std::process::id()));
        std::fs::create_dir_all(images.join("linux-a/any/gcc/base")).expect("an image");
        let text = "{\"join\": \"moved\", \"images\": {\"linux-a/any\": \"x\", \"linux-a/any/gcc\": \"y\", \"linux-b\": \"z\"}}";
        let settings = sai_init::settings::read(text.as_bytes()).expect("settings");
        let missing = missing_in(&images, &settings);
        std::fs::remove_dir_all(&images).expect("removed");
        let names: Vec<&str> = missing.iter().map(|(platform, _)| platform.as_str()).collect();
        assert_eq!(names, ["linux-a/any", "linux-b"]);
    }
}
