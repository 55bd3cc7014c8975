//! Layers of an image → one root that a job may write to, in a mount namespace that only its supervisor has.
//!
//! All mounts of a job are made in that namespace, so they go with the last process in it, whatever kills it: the machine's own
//! table of mounts never has one of them.

use crate::container::{Container, Runner, Upper};
use crate::executor::Workspace;
use crate::idmap;
use crate::root::{Root, magic_path};
use rustix::fs::{Access, CWD, FileType, Mode, OFlags, access, mknodat, openat, statfs};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_reconfigure,
    fsconfig_set_string, fspick, mount, mount_bind, mount_change, mount_remount, move_mount, unmount,
};
use rustix::thread::UnshareFlags;
use std::ffi::{CString, OsStr};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// In a job directory: where the changes of its image are kept.
const UPPER: &str = "upper";
/// In a job directory: where nodes of devices are.
const DEVICES: &str = "devices";
/// In a job directory: where layers are mounted whose owners have other numbers there.
const LAYERS: &str = "layers";
/// In a job directory: where the whole is mounted.
const ROOT: &str = "root";
/// Where `systemd-nspawn` keeps locks and directories of the containers that run.
const NSPAWN: &str = "/run/systemd/nspawn";

/// Inodes for each MiB of changes that are kept in memory: a page each. The kernel does not count those as a part of the size.
const INODES_MIB: u64 = 256;
/// MiB of `/run` where steps may write there: for what servers that tests start keep there.
const RUN_MIB: u64 = 64;
/// What statfs(2) says of tmpfs.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// Gives the calling process, which has one thread, a mount namespace of its own. Where the changes of the job are kept in
/// memory they get their place there, and the workspace with them, before anything is put into it.
///
/// # Errors
/// The system's, in one line.
pub fn isolate(container: &Container, workspace: &Workspace) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("containers can only be made by an agent that runs as root".to_string());
    }
    #[allow(deprecated, reason = "only its flag for open files, which is not given here, is unsafe")]
    rustix::thread::unshare(UnshareFlags::NEWNS).map_err(|error| format!("making a mount namespace: {error}"))?;
    // What the machine unmounts is to go here too, lest a job keep a disk busy; nothing goes the other way.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| format!("making a mount namespace: {error}"))?;
    if container.runner == Runner::Nspawn {
        // What it leaves there is thus ours alone, and gone with us.
        let begin = fs::create_dir_all(NSPAWN).and_then(|()| {
            let options = c"mode=0755,size=1m";
            Ok(mount("tmpfs", NSPAWN, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)?)
        });
        begin.map_err(|error| format!("{NSPAWN}: {error}"))?;
    }
    if container.upper == Upper::Tmpfs {
        into_memory(container, workspace).map_err(|error| format!("making a place in memory: {error}"))?;
    }
    Ok(())
}

/// All that the job may write goes to one file system in memory, so that one bound holds for it all.
fn into_memory(container: &Container, workspace: &Workspace) -> io::Result<()> {
    let upper = workspace.job.join(UPPER);
    make_directory(&upper)?;
    let size = match container.upper_mib.map(|mib| mib - run_mib(container)) {
        Some(mib) => format!("size={mib}m,nr_inodes={}", mib.saturating_mul(INODES_MIB)),
        None => "size=50%".to_string(),
    };
    let options = CString::new(format!("mode={:04o},{size}", upper_mode(container))).unwrap_or_default();
    mount("tmpfs", &upper, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, &*options)?;
    let place = upper.join("work");
    make_directory(&place)?;
    Ok(mount_bind(&place, &workspace.work)?)
}

/// The directory, below the changes of a job, that is put at a place where a runner would put a file system of its own in
/// memory: made for this user, with this mode. `None` where changes go to the disk and memory has a bound of its own.
///
/// # Errors
/// The system's.
pub fn place_in_memory(
    container: &Container,
    job: &Path,
    name: &str,
    user: (u32, u32),
    mode: u32,
) -> io::Result<Option<PathBuf>> {
    if container.upper != Upper::Tmpfs {
        return Ok(None);
    }
    let place = job.join(UPPER).join(name);
    make_directory(&place)?;
    chown(&place, Some(user.0), Some(user.1))?;
    fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
    Ok(Some(place))
}

/// Who may look into where a job's changes are: bubblewrap does so as the job's user. What is set-user-id there is a root's who
/// is nobody here, and still nobody's to run.
fn upper_mode(container: &Container) -> u32 {
    if container.root.is_some() { 0o700 } else { 0o755 }
}

/// MiB of `/run` in a container whose steps may write there, and where the runner mounts it: a part of the bound for all that a
/// job writes, where there is one.
pub fn run_mib(container: &Container) -> u64 {
    match (container.root, container.upper_mib) {
        (None, _) => 0,
        (Some(_), None) => RUN_MIB,
        (Some(_), Some(mib)) => RUN_MIB.min(mib / 4),
    }
}

/// Mounts the layers and an empty upper one at `job/root`. `path` is where programs are.
///
/// # Errors
/// What is wrong, in one line.
pub fn mount_root(container: &Container, job: &Path, path: &OsStr) -> Result<Root, String> {
    let mut layers = Vec::new();
    for layer in &container.layers {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = openat(CWD, layer, flags, Mode::empty());
        layers.push(open.map_err(|error| format!("the image's layer {layer}: {}", explain(error)))?);
    }
    let [upper, root] = [UPPER, ROOT].map(|name| job.join(name));
    let failed = |error: io::Error| format!("making the container's root: {error}");
    make_directory(&root).map_err(failed)?;
    if let Some(first) = container.root {
        layers = mapped(&layers, first, job, path)
            .map_err(|error| format!("giving the image to the job's root: {error}"))?;
    }
    DirBuilder::new().mode(upper_mode(container)).recursive(true).create(&upper).map_err(failed)?;
    let [changes, work] = ["changes", "overlay"].map(|name| upper.join(name));
    for path in [&changes, &work] {
        make_directory(path).map_err(failed)?;
    }
    if container.root.is_some() {
        // Its root directory has the owner that this one has.
        chown(&changes, container.root, container.root).map_err(failed)?;
    }
    let setuid = if container.root.is_some() { MountFlags::empty() } else { MountFlags::NOSUID };
    overlay(&layers, &changes, &work, &root, setuid).map_err(|error| {
        let mut why = format!("putting the layers of the image together: {error}");
        let kinds = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some(kind) = file_system(&kinds, &upper).filter(|_| error == Errno::INVAL) {
            why.push_str(&format!(
                "; the job's changes would go to {}, which is on {kind}. If overlayfs cannot use that as its upper layer \
                 (it needs a local file system with extended attributes, as ext4, xfs, btrfs and tmpfs have them), move the \
                 agent's state or keep changes in memory: \"upper\": \"tmpfs\"",
                upper.display()
            ));
        }
        why
    })?;
    let root = Root::open(&root).map_err(failed)?;
    Ok(match container.root {
        Some(first) => root.of(first),
        None => root,
    })
}

/// The layers again, with owners from `first` on. They have a place, since kernels before Linux 6.15 make no overlay of what has
/// none.
fn mapped(layers: &[OwnedFd], first: u32, job: &Path, path: &OsStr) -> io::Result<Vec<OwnedFd>> {
    let namespace = idmap::namespace(first, path)?;
    let mut all = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let tree = idmap::mapped(layer.as_fd(), namespace.as_fd())?;
        let place = job.join(LAYERS).join(index.to_string());
        DirBuilder::new().mode(0o700).recursive(true).create(&place)?;
        move_mount(&tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        all.push(tree);
    }
    Ok(all)
}

/// Holds what the runner has mounted in memory in a container to bounds, before a step whose root may write there runs:
/// `process` is one in it.
///
/// # Errors
/// The system's.
pub fn bound_memory(container: &Container, process: i32) -> io::Result<()> {
    for (place, mib) in [("run", run_mib(container)), ("dev", 1), ("sys/fs/cgroup", 1)] {
        let place = Path::new("/proc").join(process.to_string()).join("root").join(place);
        if !statfs(&place).is_ok_and(|about| about.f_type == TMPFS) {
            continue;
        }
        // It is not in our mount namespace, where it could be mounted again.
        let picked = fspick(CWD, &place, FsPickFlags::FSPICK_CLOEXEC)?;
        fsconfig_set_string(&picked, "size", format!("{mib}m"))?;
        fsconfig_set_string(&picked, "nr_inodes", mib.saturating_mul(INODES_MIB).to_string())?;
        fsconfig_reconfigure(&picked)?;
    }
    Ok(())
}

fn explain(error: Errno) -> String {
    match error {
        Errno::NOENT => "it is missing".to_string(),
        Errno::NOTDIR => "it is no directory".to_string(),
        error => error.to_string(),
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    // The root directory of the container has this mode too.
    DirBuilder::new().mode(0o755).recursive(true).create(path)
}

/// The paths are given as open files, so that no letter in one of them, and nothing put in their place, is of consequence.
fn overlay(layers: &[OwnedFd], changes: &Path, work: &Path, root: &Path, setuid: MountFlags) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let [changes, work] = [openat(CWD, changes, flags, Mode::empty())?, openat(CWD, work, flags, Mode::empty())?];
    let lower: Vec<String> = layers.iter().rev().map(|layer| magic_path(layer).display().to_string()).collect();
    let common = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        magic_path(&changes).display(),
        magic_path(&work).display()
    );
    // What is thrown away need not be on the disk first; older kernels do not know that.
    let mut result = Err(Errno::INVAL);
    for options in [format!("{common},volatile"), common] {
        let options = CString::new(options).unwrap_or_default();
        result = mount("overlay", root, "overlay", setuid | MountFlags::NODEV, &*options);
        if result != Err(Errno::INVAL) {
            break;
        }
    }
    result
}

/// Lets a directory or file of the machine be seen inside. What is mounted below it is not.
///
/// # Errors
/// The system's.
pub fn bind(root: &Root, host: &Path, inside: &Path, writable: bool) -> io::Result<()> {
    let directory = fs::metadata(host)?.is_dir();
    let place = root.mount_point(inside, directory)?;
    mount_bind(host, magic_path(&place))?;
    drop(place);
    // Opened anew it is what was mounted, not what that hides.
    let mounted = root.open_at(inside, OFlags::PATH, Mode::empty())?;
    let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV;
    if !writable {
        flags |= MountFlags::RDONLY;
    }
    Ok(mount_remount(magic_path(&mounted), flags, "")?)
}

/// Makes nodes of devices that a user alone may open: paths in a file system in memory, in their order.
///
/// # Errors
/// Which device cannot be used, and why, in one line.
pub fn devices(container: &Container, job: &Path, user: (u32, u32)) -> Result<Vec<PathBuf>, String> {
    let wanted = container.devices.as_deref().unwrap_or_default();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let place = job.join(DEVICES);
    let begin = make_directory(&place).and_then(|()| {
        Ok(mount("tmpfs", &place, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0711,size=64k")?)
    });
    begin.map_err(|error| format!("{}: {error}", place.display()))?;
    let mut nodes = Vec::new();
    for (index, device) in wanted.iter().enumerate() {
        let failed = |error: io::Error| format!("the device {device}: {error}");
        let about = fs::metadata(device).map_err(failed)?;
        let kind = match about.file_type() {
            kind if kind.is_char_device() => FileType::CharacterDevice,
            kind if kind.is_block_device() => FileType::BlockDevice,
            _ => return Err(format!("{device} is no device")),
        };
        let node = place.join(index.to_string());
        mknodat(CWD, &node, kind, Mode::RUSR | Mode::WUSR, about.rdev()).map_err(|error| failed(error.into()))?;
        chown(&node, Some(user.0), Some(user.1)).map_err(failed)?;
        // That does not open it, which a serial port would take for a call.
        if access(&node, Access::READ_OK | Access::WRITE_OK) == Err(Errno::PERM) {
            return Err(format!(
                "the device {device} may not be used by this agent: DeviceAllow= of its unit would let it"
            ));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// Takes the mounts of a job away again.
pub fn unmount_all(job: &Path) {
    let layers = fs::read_dir(job.join(LAYERS)).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in [ROOT, "work", UPPER, DEVICES].map(|name| job.join(name)).into_iter().chain(layers) {
        // What was never mounted cannot be unmounted; what cannot be goes with the namespace.
        while unmount(&place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
    }
}

/// What kind of file system a path is on, by the table of mounts.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let (place, kind) = line.split_once(" - ")?;
        let place = place.split(' ').nth(4)?.replace("\\040", " ");
        // Of two mounts on one place the later one hides the other.
        if path.starts_with(&place) && best.as_ref().is_none_or(|(length, _)| *length <= place.len()) {
            best = Some((place.len(), kind.split(' ').next()?.to_string()));
        }
    }
    best.map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_tells_the_file_system() {
        let mounts = "1 0 254:0 / / rw - ext4 /dev/vda rw\n2 1 0:5 / /srv\\040x rw shared:1 - nfs4 s:/x rw\n\
                      3 2 0:6 / /srv\\040x rw - vfat /dev/sda1 rw\n";
        assert_eq!(file_system(mounts, Path::new("/srv x/jobs")).as_deref(), Some("vfat"));
        assert_eq!(file_system(mounts, Path::new("/srv")).as_deref(), Some("ext4"));
        assert_eq!(file_system("", Path::new("/srv")), None);
    }
}
