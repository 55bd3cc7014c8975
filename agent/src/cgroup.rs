//! Limits of a job → cgroups that hold it to them, of whichever version the machine has.
//!
//! Those of version 1 are made below the cgroup that the agent is in. Of version 2 they stand at the very top, beside what
//! systemd has there: a cgroup with others below it may hold no process itself, so that a service whose jobs outlive it could
//! not be started again in a cgroup that it had divided. Where the top cannot be seen, in a container of somebody else's, the
//! cgroup of the agent is divided after all, if nothing but agents and supervisors runs in it.

mod enclosure;
mod reached;
mod removal;

pub use enclosure::{Enclosure, enclose, enclosing_trouble};
pub use reached::{Reached, killed_on_the_machine};
pub use removal::remove;

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// What the name of each job's cgroup begins with.
const PREFIX: &str = "sai-";
/// The cgroup of agents and supervisors, where jobs stand beside it.
const OWN: &str = "sai.agents";
/// Microseconds in which a job may use its share of the processors.
const CPU_PERIOD: u64 = 100_000;

/// Processes and threads of a job without a limit of its own: half of what a machine with few processors can number.
const PIDS: u64 = 16_384;

/// What a job may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// MiB of memory.
    pub memory_mib: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_permille: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Limits {
    /// What is configured; processes are limited in any case.
    pub fn new(memory_mib: Option<u64>, cpu_permille: Option<u64>, pids: Option<u64>) -> Self {
        Self { memory_mib, cpu_permille, pids: Some(pids.unwrap_or(PIDS)) }
    }
}

/// A hierarchy of cgroups, and where in it this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Of version 1 each has the controllers it was mounted with; none: it is the one of version 2.
    controllers: Option<Vec<String>>,
    /// Where it is mounted.
    top: PathBuf,
    directory: PathBuf,
}

/// One file to be written to set a limit.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    file: &'static str,
    value: String,
    /// Whether the limit holds without it, as where a kernel has no account of swap.
    optional: bool,
}

/// The hierarchies, from /proc/self/cgroup and /proc/self/mountinfo.
fn hierarchies(own: &str, mounts: &str) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let wanted: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_string).collect();
        for mount in mounts.lines() {
            let Some((place, kind)) = mount.split_once(" - ") else { continue };
            let kind: Vec<&str> = kind.split(' ').collect();
            let fits = match kind.first() {
                Some(&"cgroup2") => controllers.is_empty(),
                Some(&"cgroup") => wanted
                    .first()
                    .is_some_and(|name| kind.last().is_some_and(|options| options.split(',').any(|it| it == name))),
                _ => false,
            };
            let place: Vec<&str> = place.split(' ').collect();
            // A container's mount shows a part of the hierarchy only.
            let (Some(root), Some(at)) = (place.get(3), place.get(4)) else { continue };
            let below = path.strip_prefix(root.trim_end_matches('/'));
            if let Some(below) = below.filter(|below| fits && (below.is_empty() || below.starts_with('/'))) {
                let top = PathBuf::from(at.replace("\\040", " "));
                let directory = top.join(below.trim_start_matches('/'));
                let controllers = (!controllers.is_empty()).then(|| wanted.clone());
                found.push(Hierarchy { controllers, top, directory });
                break;
            }
        }
    }
    found
}

/// What sets the limit of one controller.
fn settings(controller: &str, second_version: bool, limits: Limits) -> Vec<Setting> {
    let set = |file, value: String| Setting { file, value, optional: false };
    match (controller, second_version) {
        ("memory", version) => {
            let Some(bytes) = limits.memory_mib.map(|mib| mib.saturating_mul(1 << 20)) else { return Vec::new() };
            if version {
                let swap = Setting { file: "memory.swap.max", value: "0".to_string(), optional: true };
                vec![set("memory.max", bytes.to_string()), swap]
            } else {
                let both = "memory.memsw.limit_in_bytes";
                let both = Setting { file: both, value: bytes.to_string(), optional: true };
                vec![set("memory.limit_in_bytes", bytes.to_string()), both]
            }
        }
        ("cpu", version) => {
            let Some(quota) = limits.cpu_permille.map(|permille| permille.saturating_mul(CPU_PERIOD / 1000).max(1000))
            else {
                return Vec::new();
            };
            if version {
                vec![set("cpu.max", format!("{quota} {CPU_PERIOD}"))]
            } else {
                vec![set("cpu.cfs_period_us", CPU_PERIOD.to_string()), set("cpu.cfs_quota_us", quota.to_string())]
            }
        }
        ("pids", _) => limits.pids.map(|pids| set("pids.max", pids.to_string())).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn machine() -> Vec<Hierarchy> {
    hierarchies(&read(Path::new("/proc/self/cgroup")), &read(Path::new("/proc/self/mountinfo")))
}

/// A job's cgroups.
#[derive(Debug, Default)]
pub struct Group {
    /// One in each hierarchy that is needed.
    pub directories: Vec<PathBuf>,
    /// Limits that nothing here can enforce, and why: one line each.
    pub missing: Vec<String>,
}

/// In which hierarchies a job has cgroups of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Where its limits are held.
    Limits,
    /// And where a runner would divide the one that it is in and give it to the root of a container.
    All,
}

/// Takes the cgroups that a process is in away from whomever its runner has given them to.
///
/// # Errors
/// The system's.
pub fn take_back(process: i32) -> io::Result<()> {
    let its = read(&Path::new("/proc").join(process.to_string()).join("cgroup"));
    for hierarchy in hierarchies(&its, &read(Path::new("/proc/self/mountinfo"))).iter().filter(|it| it.is_systemds()) {
        let files = fs::read_dir(&hierarchy.directory)?.flatten().map(|entry| entry.path());
        for path in files.chain([hierarchy.directory.clone()]) {
            chown(path, Some(0), Some(0))?;
        }
    }
    Ok(())
}

/// Makes the cgroups of a job, after it has noted them down in the file `record`, by which [`remove`] finds them.
///
/// # Errors
/// When they cannot be noted down.
pub fn create(name: &str, limits: Limits, extent: Extent, record: &Path) -> io::Result<Group> {
    let hierarchies = machine();
    let mut group = Group::default();
    let mut wanted: Vec<(PathBuf, Vec<Setting>)> = Vec::new();
    for controller in ["memory", "cpu", "pids"] {
        if settings(controller, true, limits).is_empty() {
            continue;
        }
        match place(&hierarchies, controller) {
            Ok((directory, second_version)) => {
                let directory = directory.join(format!("{PREFIX}{name}"));
                let mut settings = settings(controller, second_version, limits);
                match wanted.iter_mut().find(|(known, _)| *known == directory) {
                    Some((_, known)) => known.append(&mut settings),
                    None => wanted.push((directory, settings)),
                }
            }
            Err(why) => group.missing.push(format!("no limit of {controller}: {why}")),
        }
    }
    // Without a limit too: what a runner makes below its own cgroup is then made in there, and goes with it.
    if let ([hierarchy], []) = (&hierarchies[..], &wanted[..])
        && hierarchy.controllers.is_none()
    {
        wanted.push((hierarchy.divided().join(format!("{PREFIX}{name}")), Vec::new()));
    }
    // systemd's own, of either version: there the runner makes others for its container.
    for hierarchy in hierarchies.iter().filter(|hierarchy| extent == Extent::All && hierarchy.is_systemds()) {
        let below = if hierarchy.controllers.is_none() { hierarchy.divided() } else { &hierarchy.directory };
        let directory = below.join(format!("{PREFIX}{name}"));
        if !wanted.iter().any(|(known, _)| *known == directory) {
            wanted.push((directory, Vec::new()));
        }
    }
    let lines: String = wanted.iter().map(|(directory, _)| format!("{}\n", directory.display())).collect();
    fs::write(record, lines)?;
    for (directory, settings) in wanted {
        if let Err(error) = fs::create_dir(&directory) {
            if !settings.is_empty() {
                group.missing.push(format!("no limits by {}: {error}", directory.display()));
            }
            continue;
        }
        for Setting { file, value, optional } in settings {
            if let Err(error) = fs::write(directory.join(file), value)
                && !optional
            {
                group.missing.push(format!("no limit by {}/{file}: {error}", directory.display()));
            }
        }
        group.directories.push(directory);
    }
    Ok(group)
}

/// Where cgroups with this controller can be made, and whether that is of version 2.
fn place(hierarchies: &[Hierarchy], controller: &str) -> Result<(PathBuf, bool), String> {
    let has = |hierarchy: &&Hierarchy| {
        hierarchy.controllers.as_ref().is_some_and(|all| all.iter().any(|it| it == controller))
    };
    if let Some(hierarchy) = hierarchies.iter().find(has) {
        return Ok((hierarchy.directory.clone(), false));
    }
    let Some(own) = hierarchies.iter().find(|hierarchy| hierarchy.controllers.is_none()) else {
        return Err(format!("this machine has no cgroups of {controller}"));
    };
    let divided = own.divided();
    divide(divided, controller).map_err(|error| format!("{} cannot be divided: {error}", divided.display()))?;
    Ok((divided.to_path_buf(), true))
}

impl Hierarchy {
    /// Whether systemd keeps its services in it.
    fn is_systemds(&self) -> bool {
        self.controllers.as_ref().is_none_or(|all| all.iter().any(|name| name == "name=systemd"))
    }

    /// In the hierarchy of version 2: below which cgroup those of jobs stand.
    fn divided(&self) -> &Path {
        let parent = || self.directory.parent().filter(|_| self.directory.ends_with(OWN));
        if is_top(&self.top) { &self.top } else { parent().unwrap_or(&self.directory) }
    }
}

/// Whether this is the topmost cgroup of all: it alone has no type, and may hold processes beside others below it.
fn is_top(directory: &Path) -> bool {
    directory.join("cgroup.controllers").exists() && !directory.join("cgroup.type").exists()
}

/// Has a cgroup of version 2 hand a controller on to those below it, for which no process may be in it itself.
fn divide(own: &Path, controller: &str) -> io::Result<()> {
    let named = |file: &str| read(&own.join(file)).split_whitespace().any(|it| it == controller);
    if named("cgroup.subtree_control") {
        return Ok(());
    }
    if !named("cgroup.controllers") {
        return Err(io::Error::other(format!("it has no controller {controller}")));
    }
    if !is_top(own) {
        let ours = fs::metadata("/proc/self/exe")?;
        let members: Vec<String> = read(&own.join("cgroup.procs")).lines().map(str::to_string).collect();
        for pid in &members {
            let theirs = fs::metadata(format!("/proc/{pid}/exe"));
            // One that is gone is nobody's; 0 stands for one that this namespace of processes does not show.
            let there = pid == "0" || Path::new("/proc").join(pid).exists();
            if there && !theirs.is_ok_and(|theirs| same_file(&ours, &theirs)) {
                return Err(io::Error::other(format!("process {pid} in it is another program's")));
            }
        }
        let _ = fs::create_dir(own.join(OWN));
        for pid in members {
            // One that is gone needs no place.
            let _ = fs::write(own.join(OWN).join("cgroup.procs"), pid);
        }
    }
    fs::write(own.join("cgroup.subtree_control"), format!("+{controller}"))
}

fn same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Why jobs cannot be held to these limits on this machine: one line for each that nothing can enforce.
pub fn trouble(limits: Limits) -> Vec<String> {
    let hierarchies = machine();
    let wanted = ["memory", "cpu", "pids"].into_iter().filter(|name| !settings(name, true, limits).is_empty());
    wanted.filter_map(|name| place(&hierarchies, name).err().map(|why| format!("no limit of {name}: {why}"))).collect()
}

/// Puts the calling thread, and so what it starts, into cgroups, where a thread can be elsewhere than the rest of its process:
/// in version 1. Tells whether it did. It is not kept waiting, while to move a process takes the kernel a grace period, ten
/// milliseconds and more.
///
/// # Errors
/// The system's.
pub fn join_alone(directories: &[PathBuf]) -> io::Result<bool> {
    let files: Vec<PathBuf> = directories.iter().map(|directory| directory.join("tasks")).collect();
    if !files.iter().all(|file| file.exists()) {
        return Ok(false);
    }
    for file in files {
        fs::write(file, "0")?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_wherever_they_are_mounted() {
        let own = "9:name=systemd:/\n8:pids:/\n4:cpu,cpuacct:/a/b\n0::/user.slice/x:y\n";
        let mounts = "30 1 0:1 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      31 1 0:2 /a /sys/fs/cgroup/cpu\\040x rw shared:2 - cgroup cgroup rw,cpu,cpuacct\n\
                      32 1 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      33 1 0:4 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let found = hierarchies(own, mounts);
        let pids = found.iter().find(|hierarchy| hierarchy.directory == Path::new("/sys/fs/cgroup/pids/")).unwrap();
        assert_eq!(pids.controllers.as_deref(), Some(&["pids".to_string()][..]));
        let of = |name| place(&found, name).unwrap();
        assert_eq!(of("pids"), (PathBuf::from("/sys/fs/cgroup/pids/"), false));
        assert_eq!(of("cpu"), (PathBuf::from("/sys/fs/cgroup/cpu x/b"), false));
        let second = found.iter().find(|hierarchy| hierarchy.controllers.is_none()).unwrap();
        assert_eq!(second.directory, Path::new("/sys/fs/cgroup/unified/user.slice/x:y"));
        assert_eq!(second.top, Path::new("/sys/fs/cgroup/unified"));
        // A part of the hierarchy in which this process is not.
        assert_eq!(hierarchies("4:cpu:/ab", "31 1 0:2 /a /x rw - cgroup cgroup rw,cpu"), []);
        assert!(place(&[], "memory").unwrap_err().contains("no cgroups of memory"));
    }

    #[test]
    fn each_version_has_its_own_files() {
        let limits = Limits { memory_mib: Some(1), cpu_permille: Some(1500), pids: Some(7) };
        let files = |second| -> Vec<(&str, String)> {
            let all = ["memory", "cpu", "pids"].map(|name| settings(name, second, limits));
            all.into_iter().flatten().map(|setting| (setting.file, setting.value)).collect()
        };
        let text = |value: &str| value.to_string();
        assert_eq!(
            files(true),
            [
                ("memory.max", text("1048576")),
                ("memory.swap.max", text("0")),
                ("cpu.max", text("150000 100000")),
                ("pids.max", text("7"))
            ]
        );
        assert_eq!(
            files(false),
            [
                ("memory.limit_in_bytes", text("1048576")),
                ("memory.memsw.limit_in_bytes", text("1048576")),
                ("cpu.cfs_period_us", text("100000")),
                ("cpu.cfs_quota_us", text("150000")),
                ("pids.max", text("7"))
            ]
        );
        assert!(["memory", "cpu", "pids"].iter().all(|name| settings(name, true, Limits::default()).is_empty()));
    }

    #[test]
    fn a_division_that_others_live_in_is_refused_and_one_of_ours_is_made() {
        // Version 2 as files: enough for what is read and written here.
        let base = std::env::temp_dir().join(format!("sai-cgroup-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(base.join("cgroup.type"), "domain\n").unwrap();
        for stranger in ["0", "1"] {
            fs::write(base.join("cgroup.procs"), format!("{stranger}\n")).unwrap();
            let other = divide(&base, "pids").unwrap_err().to_string();
            assert!(other.contains(&format!("process {stranger} in it is another program's")), "{other}");
        }
        fs::write(base.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        divide(&base, "pids").unwrap();
        assert_eq!(read(&base.join(OWN).join("cgroup.procs")), std::process::id().to_string());
        assert_eq!(read(&base.join("cgroup.subtree_control")), "+pids");
        assert!(divide(&base, "io").unwrap_err().to_string().contains("no controller io"));
        // The topmost is shared by nature.
        assert!(!is_top(&base));
        fs::remove_file(base.join("cgroup.type")).unwrap();
        assert!(is_top(&base) && !is_top(&base.join("missing")));
        fs::write(base.join("cgroup.procs"), "1\n").unwrap();
        divide(&base, "memory").unwrap();
        fs::remove_dir_all(&base).unwrap();
    }
}
