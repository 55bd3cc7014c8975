//! What a person asks of images → images made, changed, removed and listed.

use super::apt::{self, Apt};
use super::emulation;
use super::plan::{Request, Work};
use super::scan::{self, Image, Scan, check_platform, scan};
use super::staging::{Aside, Staging};
use super::trial;
use super::users::{self, Use};
use crate::container::Runner;
use crate::remove_tree::remove_tree;
use crate::{describe, say};
use sai_core::ordered::Set;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be meant.
    Usage(String),
    /// A job or another image needs what would be changed.
    InUse(String),
    /// Trouble on this machine.
    Trouble(String),
    /// Whoever asked wants it no longer.
    Interrupted,
}

/// Has a worker do what is asked for, to its end, and gives its status.
pub type Worker<'a> = &'a dyn Fn(&Request) -> Result<u8, Failure>;

/// What a new image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A release of Debian or one of its kin, from a mirror or the usual one, for an architecture or this machine's own.
    Debootstrap(String, Option<String>, Option<String>),
    /// A directory with a root file system.
    Directory(PathBuf),
    /// A tar archive of one.
    Archive(PathBuf),
    /// The base of another image.
    On(String),
}

fn trouble(what: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Trouble(format!("{}: {error}", what.display()))
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(ToString::to_string);
    text.ok_or_else(|| Failure::Usage(format!("expected a path that is text, found {}", path.display())))
}

fn expect_root() -> Result<(), Failure> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(Failure::Trouble("only root can make, change or remove an image".to_string())),
    }
}

fn named(platform: &str) -> Result<(), Failure> {
    check_platform(platform).map_err(|expected| Failure::Usage(format!("expected {expected}, found {platform:?}")))
}

/// What is there of a platform, and of the others.
struct There {
    images: PathBuf,
    all: Vec<Image>,
    image: Image,
}

impl There {
    fn find(images: &Path, platform: &str) -> Result<Self, Failure> {
        named(platform)?;
        let Scan { images: all, wrong } = scan(images);
        let found = all.iter().find(|image| image.platform == platform).cloned();
        match found {
            Some(image) => Ok(Self { images: fs::canonicalize(images).map_err(trouble(images))?, all, image }),
            None => Err(Failure::Usage(match wrong.iter().find(|wrong| wrong.path == platform) {
                Some(wrong) => format!("{}/{wrong}", images.display()),
                None => format!("there is no image {platform} in {}", images.display()),
            })),
        }
    }

    fn own_env(&self) -> PathBuf {
        self.images.join(&self.image.platform).join("env")
    }

    /// The layers below its own env, and that, if it has one.
    fn divided(&self) -> Result<(Vec<PathBuf>, Option<PathBuf>), Failure> {
        let (env, layers) = (self.own_env(), &self.image.layers);
        match layers.split_last() {
            Some((last, below)) if *last == env => Ok((below.to_vec(), Some(env))),
            _ if self.images.join(&self.image.platform).join("layers").exists() => Err(Failure::Usage(format!(
                "the topmost layer of {} is not its own env, so it cannot be changed here",
                self.image.platform
            ))),
            _ => Ok((layers.clone(), None)),
        }
    }
}

/// The images other than this that have a layer of its own.
fn dependents<'a>(images: &Path, all: &'a [Image], platform: &str, layers: &[&str]) -> Vec<&'a str> {
    let own: Vec<PathBuf> = layers.iter().map(|name| images.join(platform).join(name)).collect();
    let others = all.iter().filter(|image| image.platform != platform);
    others.filter(|image| image.layers.iter().any(|layer| own.contains(layer))).map(|image| &*image.platform).collect()
}

/// The jobs among these that run in an image: by a layer of its own, not one that it shares.
fn jobs_in(images: &Path, platform: &str, uses: &[Use]) -> Vec<String> {
    let place = images.join(platform);
    let own = [place.join("base"), place.join("env")];
    let uses = uses.iter().filter(|use_| use_.layers.iter().any(|layer| own.contains(layer)));
    uses.map(|use_| use_.job.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect()
}

fn request(work: Work, staging: &Staging, packages: &[String]) -> Result<Request, Failure> {
    Ok(Request {
        work,
        staging: text(staging.path())?,
        from: String::new(),
        mirror: None,
        architecture: None,
        sources: None,
        layers: Vec::new(),
        env: None,
        packages: packages.to_vec(),
        settings: Vec::new(),
    })
}

/// Makes an image.
///
/// # Errors
/// Why there is none then.
pub fn create(
    images: &Path,
    platform: &str,
    origin: &Origin,
    packages: &[String],
    worker: Worker<'_>,
) -> Result<(), Failure> {
    named(platform)?;
    expect_root()?;
    let apt = Apt::of_this_machine();
    let place = images.join(platform);
    if let Some(name) = scan::RESERVED.iter().find(|name| place.join(name).symlink_metadata().is_ok()) {
        return Err(Failure::Usage(format!(
            "{} is there already; remove the image, or update it",
            place.join(name).display()
        )));
    }
    // What is wrong with the origin is better known before anything is made.
    let origin = match origin {
        Origin::Directory(path) | Origin::Archive(path) => {
            let is_directory = matches!(origin, Origin::Directory(_));
            let real = fs::canonicalize(path).map_err(trouble(path))?;
            if real.is_dir() != is_directory {
                let expected = if is_directory { "a directory" } else { "a tar archive" };
                return Err(Failure::Usage(format!("{}: expected {expected}", path.display())));
            }
            if is_directory { Origin::Directory(real) } else { Origin::Archive(real) }
        }
        Origin::Debootstrap(suite, mirror, architecture) => {
            if !apt::is_installed("debootstrap") {
                let why = "debootstrap is not installed: install it, or make the image --from-dir or --from-tar";
                return Err(Failure::Trouble(why.to_string()));
            }
            let implied = || emulation::implied(platform, &describe::machine()).map(ToString::to_string);
            let architecture = architecture.clone().or_else(implied);
            if let Some(architecture) = &architecture
                && let Some(program) = emulation::emulator(architecture).map_err(Failure::Trouble)?
            {
                say(&format!("programs of {architecture} are run by {program}, which takes its time"));
            }
            Origin::Debootstrap(suite.clone(), mirror.clone(), architecture)
        }
        Origin::On(other) => Origin::On(other.clone()),
    };
    let staging = Staging::new(images, platform).map_err(Failure::Trouble)?;
    if let Origin::Directory(path) = &origin
        && fs::canonicalize(images).is_ok_and(|images| images.starts_with(path))
    {
        let why = format!("{}: expected a directory that does not hold the images themselves", path.display());
        return Err(Failure::Usage(why));
    }
    let mut layers = None;
    let mut about = String::new();
    let request = match &origin {
        Origin::Debootstrap(suite, mirror, architecture) => {
            let sources = if mirror.is_none() { apt.sources(suite) } else { None };
            let mirror = mirror.clone().or_else(|| apt.mirror().map(ToString::to_string));
            let _ = write!(about, "debootstrap {suite} {}", mirror.as_deref().unwrap_or_default());
            let (from, architecture) = (suite.clone(), architecture.clone());
            Request { from, mirror, architecture, sources, ..request(Work::Debootstrap, &staging, packages)? }
        }
        Origin::Directory(path) | Origin::Archive(path) => {
            let from = text(path)?;
            let _ = write!(about, "copy of {from}");
            let is_directory = matches!(origin, Origin::Directory(_));
            let work = if is_directory { Work::Directory } else { Work::Archive };
            Request { from, ..request(work, &staging, packages)? }
        }
        Origin::On(other) => {
            let there = There::find(images, other)?;
            let (below, _) = there.divided()?;
            let _ = write!(about, "on {other}");
            layers = Some(named_layers(&there.images, &below)?);
            let layers = below.iter().map(|layer| text(layer)).collect::<Result<_, _>>()?;
            Request { layers, ..request(Work::Further, &staging, packages)? }
        }
    };
    let _ = writeln!(about, ", packages {}", if packages.is_empty() { "none".into() } else { packages.join(" ") });
    let request = Request { settings: apt.settings, ..request };
    finish(worker(&request)?)?;
    if let Some(layers) = layers {
        let file = staging.places().image.join("layers");
        fs::write(&file, layers).map_err(trouble(&file))?;
    }
    let places = staging.places();
    let own = [places.base, places.env].into_iter().filter(|layer| layer.exists());
    let layers = request.layers.iter().map(PathBuf::from).chain(own).collect::<Vec<_>>();
    let tried = try_runners(platform, &staging, &layers, worker)?;
    about.push_str(&tried);
    staging.publish(images, platform, &about).map_err(trouble(&place))?;
    announce(images, &format!("{platform} is {}", readiness(&tried)));
    Ok(())
}

/// Tries whether a step runs in these layers, by each runner that is installed. Tells the person where it does not, and gives
/// what is to be kept of the answers.
fn try_runners(platform: &str, staging: &Staging, layers: &[PathBuf], worker: Worker<'_>) -> Result<String, Failure> {
    let layers: Vec<String> = layers.iter().map(|layer| text(layer)).collect::<Result<_, _>>()?;
    let mut tried = String::new();
    for runner in trial::RUNNERS.into_iter().filter(|runner| describe::on_path(runner.program())) {
        let asked =
            Request { from: runner.word().to_string(), layers: layers.clone(), ..request(Work::Try, staging, &[])? };
        finish(worker(&asked)?)?;
        let place = trial::place(staging.path(), runner);
        remove_tree(&place).map_err(trouble(&place))?;
        let place = place.with_extension("found");
        let found = fs::read_to_string(&place).map_err(trouble(&place))?;
        if let Some(Err(why)) = trial::found(&found, runner) {
            say(&format!("{platform} cannot be run by {}: {why}", runner.program()));
        }
        tried.push_str(&found);
    }
    Ok(tried)
}

/// What an image is of which this was found out.
fn readiness(tried: &str) -> &'static str {
    let runs = |runner: &Runner| trial::found(tried, *runner) == Some(Ok(()));
    match tried.is_empty() || trial::RUNNERS.iter().any(runs) {
        true => "ready",
        false => "made, but no job can run in it",
    }
}

/// A worker that has not done all has said why.
fn finish(status: u8) -> Result<(), Failure> {
    match status {
        0 => Ok(()),
        _ => Err(Failure::Trouble("no image was made or changed".to_string())),
    }
}

/// The text of a file `layers` with its own env on top of others' layers.
fn named_layers(images: &Path, below: &[PathBuf]) -> Result<String, Failure> {
    let mut lines = "# Bottom up.\n".to_string();
    for layer in below {
        let inside = layer.strip_prefix(images).unwrap_or(layer);
        let _ = writeln!(lines, "{}", text(inside)?);
    }
    lines.push_str("env\n");
    Ok(lines)
}

/// Brings the packages of an image up to date, and installs more.
///
/// # Errors
/// Why it is as it was.
pub fn update(images: &Path, platform: &str, packages: &[String], worker: Worker<'_>) -> Result<(), Failure> {
    change(images, platform, Work::Update, packages, worker).map(drop)
}

/// Lets the person at the terminal change an image by hand. Gives the shell's status; unless it is 0, nothing is changed.
///
/// # Errors
/// Why it is as it was.
pub fn shell(images: &Path, platform: &str, commit: bool, worker: Worker<'_>) -> Result<u8, Failure> {
    if commit {
        return change(images, platform, Work::Shell, &[], worker);
    }
    expect_root()?;
    let there = There::find(images, platform)?;
    let staging = Staging::new(images, platform).map_err(Failure::Trouble)?;
    let layers = there.image.layers.iter().map(|layer| text(layer)).collect::<Result<_, _>>()?;
    let request = Request { layers, ..request(Work::Shell, &staging, &[])? };
    say("what is changed here is thrown away (see --commit)");
    worker(&request)
}

fn change(images: &Path, platform: &str, work: Work, packages: &[String], worker: Worker<'_>) -> Result<u8, Failure> {
    expect_root()?;
    let there = There::find(images, platform)?;
    let (below, env) = there.divided()?;
    let above = dependents(&there.images, &there.all, platform, &["env"]);
    if !above.is_empty() {
        let why = format!("the env of {platform} is a layer of {}, which would not fit over another", above.join(" "));
        return Err(Failure::InUse(why));
    }
    let staging = Staging::new(images, platform).map_err(Failure::Trouble)?;
    let layers = below.iter().map(|layer| text(layer)).collect::<Result<_, _>>()?;
    let env = env.as_deref().map(text).transpose()?;
    let settings = Apt::of_this_machine().settings;
    let status = worker(&Request { layers, env, settings, ..request(work, &staging, packages)? })?;
    if work == Work::Shell && status != 0 {
        say(&format!("the shell has ended with status {status}: {platform} is as it was"));
        return Ok(status);
    }
    finish(status)?;
    let about = match work {
        Work::Shell => "changed by hand\n".to_string(),
        _ => {
            format!("updated, packages {}\n", if packages.is_empty() { "none more".into() } else { packages.join(" ") })
        }
    };
    let layers = below.iter().cloned().chain([staging.places().env]).collect::<Vec<_>>();
    let about = about + &try_runners(platform, &staging, &layers, worker)?;
    staging.replace_env(images, platform, &about).map_err(trouble(images))?;
    sweep(images);
    announce(images, &format!("{platform} is changed; jobs that run in it go on in what it was"));
    Ok(0)
}

/// Removes an image, unless a job or another image needs it.
///
/// # Errors
/// Why it is still there.
pub fn remove(images: &Path, platform: &str) -> Result<(), Failure> {
    named(platform)?;
    expect_root()?;
    let images = &fs::canonicalize(images).map_err(trouble(images))?;
    let place = images.join(platform);
    if !scan::RESERVED.iter().any(|name| place.join(name).symlink_metadata().is_ok()) {
        return Err(Failure::Usage(format!("there is no image {platform} in {}", images.display())));
    }
    let above = dependents(images, &scan(images).images, platform, &["base", "env"]).join(" ");
    if !above.is_empty() {
        return Err(Failure::InUse(format!("{platform} has layers that {above} needs; remove that first")));
    }
    let in_use = || -> Result<(), Failure> {
        let uses = users::uses(images);
        let uses = uses.map_err(|error| Failure::Trouble(format!("it cannot be told what jobs run in it: {error}")))?;
        match jobs_in(images, platform, &uses).as_slice() {
            [] => Ok(()),
            jobs => Err(Failure::InUse(format!("job {} runs in {platform}; wait for its end", jobs.join(" ")))),
        }
    };
    in_use()?;
    let lock = users::lock(images).map_err(trouble(images))?;
    let aside = Aside::put(images, platform).map_err(trouble(&place))?;
    // A job that was given the image meanwhile has said so by now, or will find that it is gone.
    if let Err(failure) = in_use() {
        aside.back().map_err(trouble(&place))?;
        return Err(failure);
    }
    aside.remove(images).map_err(trouble(&place))?;
    drop(lock);
    sweep(images);
    announce(images, &format!("{platform} is removed"));
    Ok(())
}

/// Has the agents that run look at their images again.
///
/// # Errors
/// There is none, or it is another user's.
pub fn rescan(images: &Path) -> Result<(), Failure> {
    let Scan { images: found, wrong } = scan(images);
    wrong.iter().for_each(|wrong| say(&format!("no image: {}/{wrong}", images.display())));
    match users::tell(images).map_err(trouble(images))?.len() {
        0 => Err(Failure::Trouble(format!("no agent that runs serves {}", images.display()))),
        1 => {
            say(&format!("the agent looks at {} images", found.len()));
            Ok(())
        }
        agents => {
            say(&format!("{agents} agents look at {} images", found.len()));
            Ok(())
        }
    }
}

/// Removes what is left over, as far as that can be.
fn sweep(images: &Path) {
    if let Err(error) = users::sweep(images) {
        say(&format!("what is used no longer stays for now in {}: {error}", images.display()));
    }
}

/// Tells the person and the agents what is new.
fn announce(images: &Path, what: &str) {
    match users::tell(images) {
        Ok(told) if told.is_empty() => say(&format!("{what}; agents hear of it when they start")),
        Ok(_) => say(what),
        Err(error) => say(&format!("{what}, but an agent cannot be told: {error}")),
    }
}

/// An image, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its platform.
    pub platform: String,
    /// Bytes on disk of its own layers.
    pub bytes: u64,
    /// Time since it was made or changed.
    pub age: Duration,
    /// Jobs that ran in it.
    pub jobs: u64,
    /// Its layers, as paths below the directory of images.
    pub layers: Vec<String>,
}

/// Lists the images, and what is none, or cannot be run.
pub fn list(images: &Path) -> (Vec<Row>, Vec<String>) {
    let Scan { images: found, wrong } = scan(images);
    let root = fs::canonicalize(images).unwrap_or_else(|_| images.to_path_buf());
    let mut lines: Vec<String> = wrong.iter().map(|wrong| format!("no image: {}/{wrong}", images.display())).collect();
    lines.extend(found.iter().flat_map(|image| trial::complaints(&image.platform, &root.join(&image.platform))));
    let row = |image: Image| {
        let place = root.join(&image.platform);
        let changed = |name: &str| fs::metadata(place.join(name)).and_then(|about| about.modified()).ok();
        let changed = [trial::MADE, "env", "base", "layers"].into_iter().find_map(changed);
        let age = changed.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
        let shown = |layer: &PathBuf| layer.strip_prefix(&root).unwrap_or(layer).to_string_lossy().into_owned();
        Row {
            bytes: ["base", "env"].iter().map(|name| disk_use(&place.join(name))).sum(),
            age,
            jobs: users::counted(&place),
            layers: image.layers.iter().map(shown).collect(),
            platform: image.platform,
        }
    };
    (found.into_iter().map(row).collect(), lines)
}

/// Bytes that a directory takes on the disk; what cannot be looked at counts nothing.
fn disk_use(directory: &Path) -> u64 {
    let mut bytes = 0;
    let mut linked = Set::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                waiting.push(entry.path());
            } else if about.nlink() > 1 && !linked.insert((about.dev(), about.ino())) {
                continue;
            }
            bytes += about.blocks() * 512;
        }
    }
    bytes
}

/// A table: a line of headings and one for each image, whose fields have no spaces in them.
pub fn table(rows: &[Row]) -> String {
    let headings = ["PLATFORM", "MIB", "AGE", "JOBS", "LAYERS"].map(ToString::to_string);
    let mut lines = vec![headings];
    lines.extend(rows.iter().map(|row| {
        let mib = row.bytes.div_ceil(1 << 20);
        [row.platform.clone(), mib.to_string(), age(row.age), row.jobs.to_string(), row.layers.join(",")]
    }));
    let mut widths = [0; 5];
    for line in &lines {
        for (width, field) in widths.iter_mut().zip(line) {
            *width = field.len().max(*width);
        }
    }
    let mut table = String::new();
    for [platform, mib, age, jobs, layers] in &lines {
        let _ = writeln!(
            table,
            "{platform:0$}  {mib:>1$}  {age:>2$}  {jobs:>3$}  {layers}",
            widths[0], widths[1], widths[2], widths[3]
        );
    }
    table
}

/// A time that has gone by, in its largest unit.
fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("d", 86_400), ("h", 3600), ("min", 60)];
    let unit = units.iter().find(|(_, length)| seconds >= *length);
    unit.map_or_else(|| format!("{seconds}s"), |(unit, length)| format!("{}{unit}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_layer_of_an_image_needs_it() {
        let root = Path::new("/i");
        let image = |platform: &str, layers: &[&str]| Image {
            platform: platform.to_string(),
            layers: layers.iter().map(|layer| root.join(layer)).collect(),
        };
        let all = [image("a", &["a/base", "a/env"]), image("b", &["a/base", "b/env"]), image("c", &["a/env", "c/env"])];
        assert_eq!(dependents(root, &all, "a", &["base", "env"]), ["b", "c"]);
        assert_eq!(dependents(root, &all, "a", &["env"]), ["c"]);
        assert_eq!(dependents(root, &all, "b", &["base", "env"]), Vec::<&str>::new());
        let run = |job: &str, image: &Image| Use {
            job: Path::new("/s/jobs").join(job),
            layers: image.layers.clone(),
            since: SystemTime::UNIX_EPOCH,
        };
        let uses = [run("1-1", &all[0]), run("2-1", &all[1])];
        assert_eq!(jobs_in(root, "a", &uses), ["1-1", "2-1"]);
        assert_eq!(jobs_in(root, "b", &uses), ["2-1"]);
        assert_eq!(jobs_in(root, "c", &uses), Vec::<String>::new());
    }

    #[test]
    fn a_table_can_be_read_by_people_and_programs() {
        let row = |platform: &str, bytes, seconds, layers: &[&str]| Row {
            platform: platform.to_string(),
            bytes,
            age: Duration::from_secs(seconds),
            jobs: 12,
            layers: layers.iter().map(ToString::to_string).collect(),
        };
        let rows =
            [row("a", 1, 59, &["a/base"]), row("os/arch/gcc", 300 << 20, 200_000, &["a/base", "os/arch/gcc/env"])];
        assert_eq!(
            table(&rows),
            "PLATFORM     MIB  AGE  JOBS  LAYERS\n\
             a              1  59s    12  a/base\n\
             os/arch/gcc  300   2d    12  a/base,os/arch/gcc/env\n"
        );
        assert_eq!((age(Duration::from_secs(60)), age(Duration::from_secs(7300))), ("1min".into(), "2h".into()));
    }
}
