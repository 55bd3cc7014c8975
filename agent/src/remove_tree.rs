//! A directory that a job has filled → nothing: whatever it has made of modes, depths, flags and names.
//!
//! There is no recursion: a directory that is not empty is moved up into the trash beside its parent and emptied there in
//! its turn, so neither depth nor path length is of any consequence. No link is followed, and what is mounted in there is left
//! as it is: it is another's.

use rustix::fs::{
    AtFlags, CWD, Dir, IFlags, Mode, OFlags, ResolveFlags, chmodat, ioctl_getflags, ioctl_setflags, openat, openat2,
    renameat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Removes a directory with all that is in it.
///
/// # Errors
/// The first thing that could not be removed; the rest is removed all the same.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let root = match openat(CWD, path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut trouble = None;
    let mut moved = 0_u64;
    // Each round empties the directories that stand in the root; what stood in them stands in the root afterwards.
    loop {
        let before = moved;
        let mut left = 0;
        for (name, is_directory) in entries(&root)? {
            if !is_directory {
                remove_file(&root, &name, &mut trouble);
                continue;
            }
            left += 1;
            match open_directory(&root, &name) {
                Ok(directory) => empty(&root, &directory, &mut moved, &mut trouble),
                Err(error) => trouble = trouble.or(Some(error)),
            }
            if unlinkat(&root, &name, AtFlags::REMOVEDIR).is_ok() {
                left -= 1;
            }
        }
        if left == 0 && moved == before {
            break;
        }
        if moved == before {
            return Err(trouble.unwrap_or_else(|| io::Error::from(Errno::NOTEMPTY)));
        }
    }
    rustix::fs::rmdir(path).map_err(|error| trouble.unwrap_or_else(|| error.into()))
}

fn entries(directory: &OwnedFd) -> io::Result<Vec<(std::ffi::CString, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            let is_directory = match entry.file_type() {
                rustix::fs::FileType::Unknown => {
                    let state = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                    rustix::fs::FileType::from_raw_mode(state.st_mode).is_dir()
                }
                kind => kind.is_dir(),
            };
            found.push((entry.file_name().to_owned(), is_directory));
        }
    }
    Ok(found)
}

/// Opens a directory to empty it, giving ourselves what is needed for that first.
fn open_directory(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match below(parent, name, flags | OFlags::PATH) {
        Err(Errno::XDEV) => {
            let what = format!("{} is a mount point", name.to_string_lossy());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
        }
        other => drop(other?),
    }
    // The caller has seen a directory here and no process of the job is left to put a link in its place.
    let _ = chmodat(parent, name, Mode::RWXU, AtFlags::empty());
    let directory = openat(parent, name, flags, Mode::empty())?;
    unlock(&directory);
    Ok(directory)
}

/// Opens what stands in a directory, unless it is mounted there. A kernel that cannot tell is older than containers are here.
fn below(parent: &OwnedFd, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => openat(parent, name, flags, Mode::empty()),
        result => result,
    }
}

/// Takes off the flags (chattr +i, +a) that forbid removal.
fn unlock(file: impl AsFd) {
    if let Ok(flags) = ioctl_getflags(&file)
        && flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND)
    {
        let _ = ioctl_setflags(&file, flags - (IFlags::IMMUTABLE | IFlags::APPEND));
    }
}

fn empty(root: &OwnedFd, directory: &OwnedFd, moved: &mut u64, trouble: &mut Option<io::Error>) {
    let found = match entries(directory) {
        Ok(found) => found,
        Err(error) => {
            trouble.get_or_insert(error);
            return;
        }
    };
    for (name, is_directory) in found {
        if !is_directory {
            remove_file(directory, &name, trouble);
        } else if unlinkat(directory, &name, AtFlags::REMOVEDIR).is_err() {
            // Moving a directory writes to it (its `..`), so it must be made ours first.
            if let Err(error) = open_directory(directory, &name) {
                trouble.get_or_insert(error);
                continue;
            }
            let before = *moved;
            let mut result = Err(Errno::EXIST);
            while result == Err(Errno::EXIST) || result == Err(Errno::NOTEMPTY) {
                *moved += 1;
                result = renameat(directory, &name, root, format!(".removed-{moved}"));
            }
            if let Err(error) = result {
                // To have moved nothing is what ends the rounds.
                *moved = before;
                trouble.get_or_insert(error.into());
            }
        }
    }
}

fn remove_file(directory: &OwnedFd, name: &CStr, trouble: &mut Option<io::Error>) {
    if unlinkat(directory, name, AtFlags::empty()) == Err(Errno::PERM) {
        unlock(directory);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if let Ok(file) = openat(directory, name, flags, Mode::empty()) {
            unlock(&file);
        }
        if let Err(error) = unlinkat(directory, name, AtFlags::empty()) {
            trouble.get_or_insert(error.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn deep_locked_and_linked_trees_are_removed_and_links_not_followed() {
        let base = std::env::temp_dir().join(format!("sai-remove-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let victim = base.join("victim");
        fs::create_dir_all(victim.join("keep")).unwrap();
        let tree = base.join("tree");
        fs::create_dir_all(&tree).unwrap();
        symlink(&victim, tree.join("link")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        // Deeper than PATH_MAX.
        let mut directory = openat(CWD, &tree, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&directory, "dddddddd", Mode::RWXU).unwrap();
            directory = openat(&directory, "dddddddd", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        rustix::fs::symlinkat(&victim, &directory, "deep").unwrap();
        fs::create_dir_all(tree.join("locked/inner")).unwrap();
        fs::write(tree.join("locked/inner/file"), b"x").unwrap();
        fs::set_permissions(tree.join("locked/inner"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(tree.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::create_dir(tree.join("fixed")).unwrap();
        fs::write(tree.join("fixed/file"), b"x").unwrap();
        // Not every file system and user may set it; where they may, it must not stop us.
        for path in ["fixed/file", "fixed"] {
            let _ = ioctl_setflags(fs::File::open(tree.join(path)).unwrap(), IFlags::IMMUTABLE);
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(victim.join("keep").exists());
        remove_tree(&tree).unwrap();
        remove_tree(&base).unwrap();
    }
}
