//! A container and the paths of a job → the command line of its runner.

use super::script::{LOOP, PATH, STEPS};
use crate::accounts::USER;
use crate::container::{Container, Network, Runner};
use crate::idmap::NUMBERS;
use std::ffi::OsString;
use std::path::PathBuf;

/// Bytes of shared memory that a job may fill: enough for a browser's tests.
const SHARED_MEMORY_BYTES: u64 = 256 << 20;
/// Bytes that a job may fill in /run, where the runner puts a file system in memory.
const RUN_BYTES: u64 = 64 << 20;

/// What the root of a container is not allowed to do even there, of what the runner would let it do: packages can be installed
/// without, and there is the less of the kernel that a job can reach.
const NOT_ROOTS: &str = "CAP_AUDIT_CONTROL,CAP_DAC_READ_SEARCH,CAP_IPC_OWNER,CAP_LEASE,CAP_LINUX_IMMUTABLE,CAP_MKNOD,\
                         CAP_NET_ADMIN,CAP_NET_BROADCAST,CAP_NET_RAW,CAP_SYS_ADMIN,CAP_SYS_BOOT,CAP_SYS_NICE,CAP_SYS_PTRACE,\
                         CAP_SYS_RESOURCE,CAP_SYS_TTY_CONFIG";

/// What a command line depends on beside the container.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The runner's program.
    pub program: &'a str,
    /// The merged root, with everything mounted in it.
    pub root: &'a str,
    /// A name for the machine that the job believes to be on.
    pub host_name: &'a str,
    /// What is seen as `/dev/shm` and `/run`, where those are not to be file systems of the runner's own in memory.
    pub memory: [Option<&'a str>; 2],
    /// Nodes of devices, in the order of the container's.
    pub devices: &'a [PathBuf],
    /// Whether a filter of system calls is on the standard input.
    pub filter: bool,
    /// Whether the loop needs a session of its own, lest a step that kills its process group end the runner, or reach a
    /// terminal. It costs time, since the kernel schedules sessions as groups.
    pub session: bool,
    /// Whether the image can start a program without the variables that a runner has for it.
    pub clean: bool,
}

/// Program and arguments.
pub fn command(container: &Container, place: Place<'_>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut say = |text: &[&str]| words.extend(text.iter().map(|word| (*word).to_string()));
    let devices = place.devices.iter().zip(container.devices.as_deref().unwrap_or_default());
    match container.runner {
        Runner::Nspawn => {
            say(&[place.program, "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--console=pipe"]);
            // These would write into the root what is there already.
            say(&["--resolv-conf=off", "--timezone=off", "--link-journal=no"]);
            // Its own list leaves these in, which only a job that makes itself a user namespace could use.
            say(&["--system-call-filter=~@mount"]);
            match container.root {
                Some(first) => {
                    say(&[&format!("--private-users={first}:{NUMBERS}"), "--private-users-ownership=off"]);
                    say(&[&format!("--drop-capability={NOT_ROOTS}"), "--system-call-filter=chroot"]);
                }
                None => {
                    say(&["--no-new-privileges=yes", "--drop-capability=all"]);
                    say(&[&format!("--user={USER}")]);
                }
            }
            say(&[&format!("--machine={}", place.host_name)]);
            match place.memory[0] {
                Some(path) => say(&[&format!("--bind={}:/dev/shm:norbind", escaped(path))]),
                None => say(&[&format!("--tmpfs=/dev/shm:mode=1777,size={SHARED_MEMORY_BYTES}")]),
            }
            if container.network == Network::None {
                say(&["--private-network"]);
            }
            for (node, inside) in devices {
                say(&[&format!("--bind={}:{}:norbind", escaped(&node.to_string_lossy()), escaped(inside))]);
            }
            say(&[&format!("--directory={}", place.root), "--"]);
            // It has variables of its own for what it runs, and no option against them.
            if place.clean {
                say(&["env", "-i"]);
            }
        }
        Runner::Bwrap => {
            // It is another user already and so cannot but make a user namespace, in which nobody is root.
            say(&[place.program, "--clearenv", "--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc"]);
            say(&["--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL", "--hostname", place.host_name]);
            if place.session {
                say(&["--new-session"]);
            }
            if container.network == Network::None {
                say(&["--unshare-net"]);
            }
            say(&["--bind", place.root, "/", "--dev", "/dev", "--proc", "/proc", "--ro-bind", "/sys", "/sys"]);
            match place.memory[0] {
                Some(path) => say(&["--bind", path, "/dev/shm"]),
                None => say(&["--size", &SHARED_MEMORY_BYTES.to_string(), "--tmpfs", "/dev/shm"]),
            }
            for (node, inside) in devices {
                say(&["--dev-bind", &node.to_string_lossy(), inside]);
            }
            // It is in memory too, and has no bound of its own.
            say(&["--remount-ro", "/dev"]);
            match place.memory[1] {
                Some(path) => say(&["--bind", path, "/run"]),
                None => say(&["--size", &RUN_BYTES.to_string(), "--tmpfs", "/run"]),
            }
            if place.filter {
                say(&["--seccomp", "0"]);
            }
            say(&["--chdir", "/", "--"]);
        }
    }
    say(&["/bin/sh", &format!("{STEPS}/{LOOP}")]);
    words
}

/// A path as `systemd-nspawn` takes it where a colon divides.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:")
}

/// Variables of the runner itself, beside the job's marker: those that tell it where programs are and what to leave out.
pub fn variables() -> [(&'static str, OsString); 3] {
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.into());
    // The job's /tmp belongs to what it changes, where its size is bounded and its files can be kept; nobody else uses the root.
    [("PATH", path), ("SYSTEMD_NSPAWN_TMPFS_TMP", "0".into()), ("SYSTEMD_NSPAWN_LOCK", "0".into())]
}

/// A shell script that joins the groups named before `--` and then becomes the command after it: a process is to be in them
/// before it does anything, and cannot be put there by others at that moment.
const JOIN: &str =
    "while [ \"$1\" != -- ]; do\n    echo 0 >\"$1/cgroup.procs\" || exit 125\n    shift\ndone\nshift\nexec \"$@\"";

/// What becomes another user, util-linux's: by its path, since a shell of busybox would take the one that it has itself, which cannot.
fn setpriv() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    crate::describe::find("setpriv", &path).map_or_else(|| "setpriv".into(), PathBuf::into_os_string)
}

/// The command line of a command that joins cgroups first and then becomes another user, if it is to.
pub fn joining(groups: &[PathBuf], user: Option<(u32, u32)>, words: Vec<String>) -> Vec<OsString> {
    let mut all: Vec<OsString> = ["/bin/sh", "-c", JOIN, "sh"].map(OsString::from).to_vec();
    all.extend(groups.iter().map(|group| group.clone().into_os_string()));
    all.push("--".into());
    if let Some((user, group)) = user {
        let [user, group] = [format!("--reuid={user}"), format!("--regid={group}")];
        all.push(setpriv());
        all.extend([&user, &group, "--clear-groups", "--"].map(OsString::from));
    }
    all.extend(words.into_iter().map(OsString::from));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Upper;

    #[test]
    fn groups_are_joined_before_the_user_changes_and_the_command_runs() {
        let base = std::env::temp_dir().join(format!("sai-join-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        let groups = ["a b", "$c"].map(|name| base.join(name));
        for group in &groups {
            std::fs::create_dir_all(group).unwrap();
        }
        let words = || ["printf", "%s,", "--", "x y", "$z"].map(str::to_string).to_vec();
        let all = joining(&groups, Some((7, 8)), words());
        assert!(
            all.ends_with(
                &["--reuid=7", "--regid=8", "--clear-groups", "--"]
                    .iter()
                    .map(OsString::from)
                    .chain(words().into_iter().map(OsString::from))
                    .collect::<Vec<_>>()
            ),
            "{all:?}"
        );
        assert_eq!(all.get(4 + groups.len() + 1), Some(&setpriv()), "{all:?}");
        assert!(std::path::Path::new(&setpriv()).is_absolute(), "util-linux is essential on Debian");
        let all = joining(&groups, None, words());
        let output = std::process::Command::new(&all[0]).args(&all[1..]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "--,x y,$z,");
        for group in &groups {
            assert_eq!(std::fs::read_to_string(group.join("cgroup.procs")).unwrap(), "0\n");
        }
        // Outside its groups it does not run at all.
        std::fs::remove_dir_all(&groups[1]).unwrap();
        let output = std::process::Command::new(&all[0]).args(&all[1..]).output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(125), Vec::new()));
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn the_network_is_the_machines_or_none_and_a_root_is_never_an_option() {
        for (runner, flag) in [(Runner::Nspawn, "--private-network"), (Runner::Bwrap, "--unshare-net")] {
            let mut container = Container {
                runner,
                layers: Vec::new(),
                upper: Upper::Disk,
                upper_mib: None,
                network: Network::None,
                binds: Vec::new(),
                devices: Some(vec!["/dev/kvm".to_string()]),
                memory_mib: None,
                cpu_permille: None,
                pids: None,
                root: None,
            };
            let place = Place {
                program: "/bin/runner",
                root: "/a b/root",
                host_name: "sai-1-1",
                memory: [Some("/a:b/shm"), None],
                devices: &["/j/devices/0".into()],
                filter: false,
                session: false,
                clean: true,
            };
            assert!(command(&container, place).iter().any(|word| word == flag));
            container.network = Network::Host;
            let words = command(&container, place);
            assert!(!words.iter().any(|word| word == flag || word == "--seccomp"), "{words:?}");
            assert!(words.ends_with(&["/bin/sh".into(), "/sai/steps/loop".into()]), "{words:?}");
            assert!(words.iter().any(|word| word.ends_with("/a b/root")), "{words:?}");
            let device = ["--bind=/j/devices/0:/dev/kvm:norbind", "--dev-bind"];
            assert!(words.iter().any(|word| device.contains(&word.as_str())), "{words:?}");
            let shared = ["--bind=/a\\:b/shm:/dev/shm:norbind", "/a:b/shm"];
            assert!(words.iter().any(|word| shared.contains(&word.as_str())), "{words:?}");
        }
    }
}
