//! Directory → the same one with its owners' numbers moved into a range of their own: what root's is in an image is then root's
//! in a container whose users have a user namespace, and nobody's outside.

use crate::calls::map_owners;
use crate::describe::find;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

/// Numbers of users in a range, and of groups: as many as systems give out, and `nobody`.
pub const NUMBERS: u32 = 1 << 16;
/// The first number of the first range, in what systemd keeps for containers (its UIDS-GIDS): no user's is there.
const FIRST: u32 = 0x6000_0000;
/// The kernel from which on overlayfs puts such directories together.
const KERNEL: (u32, u32) = (5, 19);
/// The program that makes a user namespace and becomes another program in it.
const UNSHARE: &str = "unshare";

/// The first number of the range of a job in this slot of an agent.
pub fn range(slot: u32) -> u32 {
    FIRST.saturating_add(slot.saturating_mul(NUMBERS))
}

const _: () = assert!(FIRST as u64 + (sai_core::limits::SLOTS as u64 + 1) * (NUMBERS as u64) < 0x6fff_0000);

/// A user namespace in which the numbers from 0 on are those from `first` on outside. `path` is where programs are.
///
/// # Errors
/// The system's, with what failed.
pub fn namespace(first: u32, path: &OsStr) -> io::Result<OwnedFd> {
    let failed = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let program = find(UNSHARE, path).ok_or_else(|| io::Error::other("unshare, of util-linux, is not installed"))?;
    // It lives until we close its input, so it ends with us too.
    let mut command = Command::new(program);
    command.args(["--user", "--", "cat"]).env_clear().env("PATH", path);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut made = || -> io::Result<OwnedFd> {
        let (Some(input), Some(output)) = (child.stdin.as_mut(), child.stdout.as_mut()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        // What comes back comes from a program in the new namespace.
        let echo = input.write_all(b"\n").and_then(|()| output.read_exact(&mut [0]));
        echo.map_err(|_| io::Error::other("this machine lets root make no user namespace"))?;
        let process = Path::new("/proc").join(child.id().to_string());
        for map in ["uid_map", "gid_map"] {
            let text = format!("0 {first} {NUMBERS}\n");
            fs::write(process.join(map), text).map_err(|error| failed(map, error))?;
        }
        Ok(File::open(process.join("ns/user"))?.into())
    };
    let made = made().map_err(|error| failed("a user namespace", error));
    drop(child.stdin.take());
    let _ = child.wait();
    made
}

/// A mount of a directory, nowhere yet, with the numbers of a user namespace outside.
///
/// # Errors
/// The system's; `Unsupported` where the kernel has no such mounts of this file system.
pub fn mapped(directory: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(directory, "", flags)?;
    set_map(tree.as_fd(), namespace)?;
    Ok(tree)
}

fn set_map(tree: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    const NOSYS: i32 = Errno::NOSYS.raw_os_error();
    const INVAL: i32 = Errno::INVAL.raw_os_error();
    let Err(error) = map_owners(tree, namespace) else { return Ok(()) };
    match error.raw_os_error() {
        Some(NOSYS | INVAL) => {
            let why = "the kernel has no idmapped mounts of this file system (mount_setattr(2))";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        _ => Err(io::Error::new(error.kind(), format!("mount_setattr: {error}"))),
    }
}

/// Whether images in a directory can be given to containers whose users have numbers of their own.
///
/// # Errors
/// Why not, in a sentence.
pub fn available(directory: &Path, path: &OsStr) -> Result<(), String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if version(&release).is_none_or(|version| version < KERNEL) {
        let (major, minor) = KERNEL;
        return Err(format!(
            "it needs overlayfs over idmapped mounts, Linux {major}.{minor} or later, and this is {release}"
        ));
    }
    let tried = || -> io::Result<()> {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, directory, flags, rustix::fs::Mode::empty())?;
        let namespace = namespace(FIRST, path)?;
        mapped(directory.as_fd(), namespace.as_fd()).map(drop)
    };
    tried().map_err(|error| format!("{}: {error}", directory.display()))
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.19-rc1"), Some((5, 19)));
        assert!(version("5.4.0").unwrap() < KERNEL && version("10.0").unwrap() > KERNEL);
        assert_eq!(version("six"), None);
    }

    #[test]
    fn what_is_roots_in_a_directory_is_the_ranges_first_in_its_mapped_mount() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let base = std::env::temp_dir().join(format!("sai-idmap-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("etc")).unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Err(why) = available(&base, &path) {
            assert!(why.contains("idmapped") || why.contains("user namespace"), "{why}");
            fs::remove_dir_all(&base).unwrap();
            return;
        }
        let namespace = namespace(range(3), &path).unwrap();
        let directory = File::open(&base).unwrap();
        let tree = mapped(directory.as_fd(), namespace.as_fd()).unwrap();
        let inside = format!("/proc/self/fd/{}/etc", tree.as_raw_fd());
        assert_eq!(fs::metadata(inside).unwrap().uid(), FIRST + 3 * NUMBERS);
        assert_eq!(fs::metadata(base.join("etc")).unwrap().uid(), 0);
        // What is no directory of a file system that can do it says so.
        let process = File::open("/proc/self").unwrap();
        let error = mapped(process.as_fd(), namespace.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
        fs::remove_dir_all(&base).unwrap();
    }
}
