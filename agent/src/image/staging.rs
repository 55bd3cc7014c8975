//! Name of a platform → a place in which its image is made, out of which it is moved when it is whole.
//!
//! Nothing in a staging directory is ever offered. Whoever is killed leaves it to the next sweep, see `users`.

use super::plan::Places;
use super::trial::{self, MADE};
use super::users::{NEW, OLD, is_abandoned, lock};
use crate::durable::sync_directory;
use crate::remove_tree::remove_tree;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with, syncfs};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Names tried for what is put aside. More are there only when as many old images are still in use.
const OLD_NAMES: u32 = 1000;

/// A place where an image is being made. It goes with whatever is left in it.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// Held, so that nobody takes this for abandoned.
    _lock: File,
}

/// A platform's name as one name of a file; no platform has a `=` in its name.
fn file_name(platform: &str) -> String {
    platform.replace('/', "=")
}

impl Staging {
    /// Makes one; the directory of images too, if need be.
    ///
    /// # Errors
    /// One line: who is at work there already, or the disk's trouble.
    pub fn new(images: &Path, platform: &str) -> Result<Self, String> {
        let path = images.join(format!("{NEW}{}", file_name(platform)));
        let made = || -> io::Result<Option<File>> {
            DirBuilder::new().recursive(true).mode(0o755).create(images)?;
            let _lock = lock(images)?;
            if path.exists() {
                if !is_abandoned(&path)? {
                    return Ok(None);
                }
                trial::sweep(&path);
                remove_tree(&path)?;
            }
            DirBuilder::new().mode(0o700).create(&path)?;
            let lock = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path.join("lock"))?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            Ok(Some(lock))
        };
        match made() {
            Ok(Some(lock)) => Ok(Self { path, _lock: lock }),
            Ok(None) => Err(format!("another sai-agent is at work on {platform}")),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the parts of the image are.
    pub fn places(&self) -> Places {
        Places::of(&self.path)
    }

    /// Moves the image to where it is offered. Before that all of it is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn publish(self, images: &Path, platform: &str, about: &str) -> io::Result<()> {
        let image = self.places().image;
        fs::write(image.join(MADE), about)?;
        syncfs(File::open(&image)?)?;
        let place = images.join(platform);
        if let Some(parent) = place.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        if place.exists() {
            // Platforms whose names go on are below it. What makes an image of it comes last.
            for name in [MADE, "env", "base", "layers"] {
                rename_if_there(&image.join(name), &place.join(name))?;
            }
        } else {
            fs::rename(&image, &place)?;
        }
        sync_directory(&place)?;
        place.parent().map_or(Ok(()), sync_directory)
    }

    /// Puts the env that was made in the place of the platform's own, at once. The old one is kept as long as a job may be
    /// running in it.
    ///
    /// # Errors
    /// The disk's.
    pub fn replace_env(self, images: &Path, platform: &str, about: &str) -> io::Result<()> {
        let _lock = lock(images)?;
        let env = self.path.join("env");
        fs::rename(self.places().env, &env)?;
        syncfs(File::open(&env)?)?;
        // Under its new name it may hold what jobs use, from the exchange on.
        let old = old_name(images, platform)?;
        fs::rename(&self.path, &old)?;
        let place = images.join(platform);
        let (new, current) = (old.join("env"), place.join("env"));
        match renameat_with(CWD, &new, CWD, &current, RenameFlags::EXCHANGE) {
            Err(rustix::io::Errno::NOENT) => fs::rename(&new, &current)?,
            exchanged => exchanged?,
        }
        sync_directory(&place)?;
        let mut made = OpenOptions::new().append(true).create(true).open(place.join(MADE))?;
        made.write_all(about.as_bytes())?;
        made.sync_data()
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        trial::sweep(&self.path);
        // What cannot be removed now is removed by the next sweep.
        let _ = remove_tree(&self.path);
    }
}

/// A platform's image, put aside.
#[derive(Debug)]
pub struct Aside {
    place: PathBuf,
    old: PathBuf,
}

/// In the order in which they are put aside: what is left is no image from the first on.
const PARTS: [&str; 5] = ["base", "layers", "env", ".jobs", MADE];

impl Aside {
    /// Puts an image aside, so that it is offered no longer. The directory of images is locked meanwhile.
    ///
    /// # Errors
    /// The disk's.
    pub fn put(images: &Path, platform: &str) -> io::Result<Self> {
        let aside = Self { place: images.join(platform), old: old_name(images, platform)? };
        DirBuilder::new().mode(0o700).create(&aside.old)?;
        for name in PARTS {
            rename_if_there(&aside.place.join(name), &aside.old.join(name))?;
        }
        Ok(aside)
    }

    /// Puts it back.
    ///
    /// # Errors
    /// The disk's.
    pub fn back(self) -> io::Result<()> {
        for name in PARTS.iter().rev() {
            rename_if_there(&self.old.join(name), &self.place.join(name))?;
        }
        remove_tree(&self.old)
    }

    /// Removes it, and the directories on the way to it that are empty now.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(self, images: &Path) -> io::Result<()> {
        let mut place = self.place.as_path();
        while place != images && fs::remove_dir(place).is_ok() {
            place = place.parent().unwrap_or(images);
        }
        remove_tree(&self.old)
    }
}

/// A name that nothing has yet, for what is put aside. The directory of images is locked meanwhile.
fn old_name(images: &Path, platform: &str) -> io::Result<PathBuf> {
    let name = |number| images.join(format!("{OLD}{}-{number}", file_name(platform)));
    let free = (1..=OLD_NAMES).map(name).find(|path| path.symlink_metadata().is_err());
    free.ok_or_else(|| io::Error::other(format!("{OLD_NAMES} old images of {platform} are still in use")))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{scan::scan, users::sweep};

    fn names(images: &Path) -> Vec<String> {
        scan(images).images.into_iter().map(|image| image.platform).collect()
    }

    fn stage(images: &Path, platform: &str) -> Staging {
        let staging = Staging::new(images, platform).expect("a staging directory");
        let Places { base, env, .. } = staging.places();
        fs::create_dir_all(base.join("etc")).expect("a base");
        fs::create_dir_all(env.join("new")).expect("an env");
        staging
    }

    #[test]
    fn nothing_is_offered_before_it_is_whole_and_all_of_it_goes() {
        let images = std::env::temp_dir().join(format!("sai-staging-{}", std::process::id()));
        let _ = fs::remove_dir_all(&images);
        let staging = stage(&images, "os/arch/gcc");
        assert_eq!(names(&images), Vec::<String>::new());
        assert!(Staging::new(&images, "os/arch/gcc").expect_err("a second").contains("at work on os/arch/gcc"));
        assert_eq!(sweep(&images).expect("a sweep"), Vec::<String>::new());
        drop(stage(&images, "os/arch/clang"));
        staging.publish(&images, "os/arch/gcc", "by hand\n").expect("an image");
        stage(&images, "os").publish(&images, "os", "above it\n").expect("an image");
        assert_eq!(names(&images), ["os", "os/arch/gcc"]);
        let left = |prefix: &str| {
            let entries = fs::read_dir(&images).expect("images").flatten();
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)).count()
        };
        assert_eq!((left(NEW), left(OLD)), (0, 0));
        Aside::put(&images, "os").expect("it is put aside").back().expect("it is put back");
        assert_eq!(names(&images), ["os", "os/arch/gcc"]);
        let aside = Aside::put(&images, "os/arch/gcc").expect("it is put aside");
        assert_eq!(names(&images), ["os"]);
        aside.remove(&images).expect("it is removed");
        assert!(!images.join("os/arch").exists() && left(OLD) == 0);
        fs::remove_dir_all(&images).expect("the end");
    }

    #[test]
    fn an_env_is_replaced_at_once_and_the_old_one_kept_aside() {
        let images = std::env::temp_dir().join(format!("sai-replace-{}", std::process::id()));
        let _ = fs::remove_dir_all(&images);
        stage(&images, "os").publish(&images, "os", "").expect("an image");
        fs::create_dir(images.join("os/env/old")).expect("a directory");
        stage(&images, "os").replace_env(&images, "os", "again\n").expect("a new env");
        assert!(images.join("os/env/new").exists() && !images.join("os/env/old").exists());
        assert!(images.join(".old-os-1/env/old").exists());
        assert_eq!(fs::read_to_string(images.join("os").join(MADE)).expect("a file"), "again\n");
        assert_eq!(sweep(&images).expect("a sweep"), [".old-os-1"]);
        fs::remove_dir(images.join("os/env/new")).and_then(|()| fs::remove_dir(images.join("os/env"))).expect("no env");
        stage(&images, "os").replace_env(&images, "os", "").expect("a first env");
        assert!(images.join("os/env/new").exists());
        fs::remove_dir_all(&images).expect("the end");
    }
}
