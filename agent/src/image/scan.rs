//! Directory of images → the platforms it offers, and what is wrong with what it cannot offer.
//!
//! What is found on disk becomes a [`Listing`]; [`offered`] decides about that alone.

use sai_core::ordered::Map;
use sai_core::platform;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

/// Parts of a platform's name, `os/arch/toolchain`: so deep directories are looked for.
pub const PARTS: usize = 3;
/// Layers of an image. A job's mount names them all, and each costs time at every look-up of a path.
pub const LAYERS: usize = 16;
/// Bytes of a file `layers`: so many paths of the longest names.
const LAYERS_BYTES: u64 = 8 << 10;
/// Entries looked at in a directory of images: far more than platforms that can be offered.
const ENTRIES: usize = 20_000;

/// Names in a platform's directory that mean something to us, so that no part of a platform's name may be one.
pub const RESERVED: [&str; 3] = ["base", "env", "layers"];
/// Below the root of a file system, where ext4 puts what it repairs.
const LOST_AND_FOUND: &str = "lost+found";

/// A root file system that jobs can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name, which is its path below the directory of images.
    pub platform: String,
    /// Its layers bottom up, as absolute paths without links.
    pub layers: Vec<PathBuf>,
}

/// Something in the directory of images that should be an image and is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Its path below the directory of images.
    pub path: String,
    /// What was expected.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.why)
    }
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory, with its path without links.
    Directory {
        /// That path.
        real: PathBuf,
        /// Whether there is nothing in it.
        empty: bool,
    },
    /// A file `layers`, with its text.
    Layers(String),
    /// A link where none may be, or that leads out of the directory of images.
    Link(String),
    /// A file or something stranger.
    Other,
    /// It cannot be looked at.
    Unreadable(String),
}

/// What was found, by its path below the directory of images: directories that may be named like platforms, their layers
/// and files `layers`, and whatever those name.
pub type Listing = Map<String, Found>;

/// What a directory of images offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The images, by name.
    pub images: Vec<Image>,
    /// What is wrong with the others.
    pub wrong: Vec<Wrong>,
}

/// Looks through a directory of images; one that is not there has none.
pub fn scan(images: &Path) -> Scan {
    match list(images) {
        Ok(listing) => offered(&listing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Scan::default(),
        Err(error) => {
            let why = format!("expected a directory of images: {error}");
            Scan { images: Vec::new(), wrong: vec![Wrong { path: images.display().to_string(), why }] }
        }
    }
}

/// Decides which images there are.
pub fn offered(listing: &Listing) -> Scan {
    let mut scan = Scan::default();
    for (path, found) in listing {
        let judged = match found {
            // Of what lies deeper, only the directory above it is told.
            _ if !may_be_platform(path) || path.split('/').count() > PARTS => Ok(None),
            Found::Directory { .. } => image(listing, path),
            Found::Link(why) | Found::Unreadable(why) => Err(why.clone()),
            Found::Layers(_) | Found::Other => Ok(None),
        };
        match judged {
            Ok(Some(layers)) => scan.images.push(Image { platform: path.clone(), layers }),
            Ok(None) => {}
            Err(why) => scan.wrong.push(Wrong { path: path.clone(), why }),
        }
    }
    scan
}

/// Whether a path is where a platform could be: neither a layer nor in a hidden directory.
fn may_be_platform(path: &str) -> bool {
    !path.split('/').any(|part| part.starts_with('.') || RESERVED.contains(&part))
}

/// The layers of the image in a directory; `None` when it is only on the way to others.
fn image(listing: &Listing, path: &str) -> Result<Option<Vec<PathBuf>>, String> {
    let own = |name: &str| listing.get(&format!("{path}/{name}"));
    let [base, env, layers] = RESERVED.map(own);
    if base.is_none() && env.is_none() && layers.is_none() {
        let leads_on = listing.keys().any(|other| {
            let below = other.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
            below.is_some_and(may_be_platform)
        });
        if leads_on && path.split('/').count() < PARTS {
            return Ok(None);
        }
        return Err("expected a directory base, and env to go over it, found neither".to_string());
    }
    check_platform(path).map_err(|expected| format!("is the name of no platform: expected {expected}"))?;
    let names = match layers {
        Some(Found::Layers(text)) => named_layers(path, text)?,
        Some(Found::Link(why) | Found::Unreadable(why)) => return Err(format!("layers: {why}")),
        Some(_) => return Err("layers: expected a file that names layers bottom up, one a line".to_string()),
        None if base.is_none() => {
            return Err("has no base: expected a directory base, or a file layers that names what env goes over".into());
        }
        None => [(base, "base"), (env, "env")]
            .into_iter()
            .filter(|(found, _)| found.is_some())
            .map(|(_, name)| format!("{path}/{name}"))
            .collect(),
    };
    let mut layers: Vec<PathBuf> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let real = match listing.get(name) {
            Some(Found::Directory { empty: true, .. }) if index == 0 => {
                return Err(format!("{name} is empty: expected a root file system"));
            }
            Some(Found::Directory { real, .. }) => real.clone(),
            Some(Found::Link(why) | Found::Unreadable(why)) => return Err(format!("{name}: {why}")),
            Some(Found::Layers(_) | Found::Other) => return Err(format!("{name}: expected a directory")),
            None => return Err(format!("{name}: expected a directory, found nothing")),
        };
        if layers.contains(&real) {
            return Err(format!("{name}: expected each layer only once"));
        }
        layers.push(real);
    }
    Ok(Some(layers))
}

/// Checks the name of a platform that an image can have.
///
/// # Errors
/// What is expected.
pub fn check_platform(name: &str) -> Result<(), String> {
    platform::check_name(name)?;
    if name.split('/').count() > PARTS {
        return Err(format!("a platform name of at most {PARTS} parts, as os/arch/toolchain"));
    }
    if let Some(part) = name.split('/').find(|part| RESERVED.contains(part)) {
        return Err(format!("a platform name without the part {part}, which is a layer's"));
    }
    Ok(())
}

/// The layers that the text of a file `layers` names, as paths below the directory of images.
fn named_layers(platform: &str, text: &str) -> Result<Vec<String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut names = Vec::new();
    for line in lines {
        let plain = Path::new(line).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || line.ends_with('/') || line.contains("//") {
            return Err(format!("layers: expected paths below the directory of images, found {line:?}"));
        }
        names.push(match line {
            "base" | "env" => format!("{platform}/{line}"),
            _ => line.to_string(),
        });
        let (parent, last) = line.rsplit_once('/').unwrap_or(("", line));
        let hidden = parent.split('/').any(|part| part.starts_with('.'));
        if !hidden && last != "base" && last != "env" {
            return Err(format!(
                "layers: expected base, env, the base or env of another platform, or a directory in one whose name begins \
                 with a dot, found {line:?}"
            ));
        }
    }
    match names.len() {
        1..=LAYERS => Ok(names),
        0 => Err("layers: expected the names of layers bottom up, one a line".to_string()),
        count => Err(format!("layers: expected at most {LAYERS} layers, found {count}")),
    }
}

/// Reads what [`offered`] decides about.
fn list(images: &Path) -> io::Result<Listing> {
    let root = fs::canonicalize(images)?;
    let mut listing = Listing::new();
    let mut waiting = vec![String::new()];
    let mut left = ENTRIES;
    while let Some(directory) = waiting.pop() {
        let entries = match fs::read_dir(root.join(&directory)) {
            Ok(entries) => entries,
            Err(error) if directory.is_empty() => return Err(error),
            Err(error) => {
                listing.insert(directory, Found::Unreadable(error.to_string()));
                continue;
            }
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if left == 0 {
                let why = format!("holds more than {ENTRIES} entries; expected platforms and their layers alone");
                listing.insert(directory, Found::Unreadable(why));
                return Ok(listing);
            }
            left -= 1;
            if name.starts_with('.') || (directory.is_empty() && name == LOST_AND_FOUND) {
                continue;
            }
            let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
            let found = if RESERVED.contains(&name.as_str()) {
                layer(&root, &path)
            } else {
                let found = place(&root, &path);
                if matches!(found, Found::Directory { .. }) && path.split('/').count() <= PARTS {
                    waiting.push(path.clone());
                }
                found
            };
            listing.insert(path, found);
        }
    }
    let texts = listing.iter().filter_map(|(path, found)| match found {
        Found::Layers(text) => Some((path.trim_end_matches("/layers").to_string(), text.clone())),
        _ => None,
    });
    for (platform, text) in texts.collect::<Vec<_>>() {
        for name in named_layers(&platform, &text).unwrap_or_default() {
            if !listing.contains_key(&name) && root.join(&name).symlink_metadata().is_ok() {
                let found = layer(&root, &name);
                listing.insert(name, found);
            }
        }
    }
    Ok(listing)
}

/// What is where a platform's directory may be.
fn place(root: &Path, path: &str) -> Found {
    match fs::symlink_metadata(root.join(path)) {
        Ok(about) if about.is_symlink() => {
            Found::Link("is a link: expected a directory, since what is shared is named in a file layers".to_string())
        }
        Ok(about) if about.is_dir() => Found::Directory { real: root.join(path), empty: false },
        Ok(_) => Found::Other,
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

/// What is where a layer or a file `layers` may be.
fn layer(root: &Path, path: &str) -> Found {
    let look = || -> io::Result<Found> {
        let real = fs::canonicalize(root.join(path))?;
        if !real.starts_with(root) || real == root {
            return Ok(Found::Link("is a link out of the directory of images: expected a directory in it".to_string()));
        }
        let about = fs::metadata(&real)?;
        if about.is_dir() {
            let empty = fs::read_dir(&real)?.next().is_none();
            return Ok(Found::Directory { real, empty });
        }
        if !about.is_file() || !path.ends_with("/layers") {
            return Ok(Found::Other);
        }
        if about.len() > LAYERS_BYTES {
            return Ok(Found::Unreadable(format!("expected at most {LAYERS_BYTES} bytes")));
        }
        let mut text = String::new();
        File::open(real)?.take(LAYERS_BYTES).read_to_string(&mut text)?;
        Ok(Found::Layers(text))
    };
    look().unwrap_or_else(|error| Found::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn directory(path: &str) -> (String, Found) {
        (path.to_string(), Found::Directory { real: Path::new("/i").join(path), empty: false })
    }

    fn layers(path: &str, text: &str) -> (String, Found) {
        (path.to_string(), Found::Layers(text.to_string()))
    }

    fn offers(entries: Vec<(String, Found)>) -> (Vec<String>, Vec<String>) {
        let Scan { images, wrong } = offered(&entries.into_iter().collect());
        let shown = |image: &Image| {
            let layers: Vec<String> = image.layers.iter().map(|layer| layer.display().to_string()).collect();
            format!("{} = {}", image.platform, layers.join(" "))
        };
        (images.iter().map(shown).collect(), wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_directory_path_is_a_platform_and_env_goes_over_base() {
        let (images, wrong) = offers(vec![
            directory("linux-debian-12"),
            directory("linux-debian-12/x86_64"),
            directory("linux-debian-12/x86_64/base"),
            directory("linux-debian-12/x86_64/gcc"),
            directory("linux-debian-12/x86_64/gcc/base"),
            directory("linux-debian-12/x86_64/gcc/env"),
            directory("linux-debian-12/x86_64/clang"),
            layers(
                "linux-debian-12/x86_64/clang/layers",
                "# shared\n\nlinux-debian-12/x86_64/gcc/base\n  .shared/tools\nenv\n",
            ),
            directory("linux-debian-12/x86_64/clang/env"),
            directory(".shared/tools"),
            ("README".to_string(), Found::Other),
        ]);
        assert_eq!(wrong, Vec::<String>::new());
        assert_eq!(
            images,
            [
                "linux-debian-12/x86_64 = /i/linux-debian-12/x86_64/base",
                "linux-debian-12/x86_64/clang = /i/linux-debian-12/x86_64/gcc/base /i/.shared/tools \
                 /i/linux-debian-12/x86_64/clang/env",
                "linux-debian-12/x86_64/gcc = /i/linux-debian-12/x86_64/gcc/base /i/linux-debian-12/x86_64/gcc/env",
            ]
        );
    }

    #[test]
    fn whatever_is_wrong_is_named_and_spoils_nothing_else() {
        let empty = |path: &str| (path.to_string(), Found::Directory { real: "/i/x".into(), empty: true });
        let good = || vec![directory("good"), directory("good/base")];
        let many = vec!["good/base"; LAYERS + 1].join("\n");
        for (mut entries, named) in [
            (vec![directory("bad")], "bad: expected a directory base"),
            (vec![directory("bad"), directory("bad/x")], "bad/x: expected a directory base"),
            (vec![directory("a"), directory("a/b"), directory("a/b/c"), directory("a/b/c/d")], "a/b/c: expected a dir"),
            (vec![directory("bad"), directory("bad/env")], "bad: has no base"),
            (vec![directory("bad"), empty("bad/base")], "bad: bad/base is empty"),
            (vec![directory("-x"), directory("-x/base")], "-x: is the name of no platform"),
            (vec![directory("a b"), directory("a b/base")], "a b: is the name of no platform"),
            (vec![directory("a\u{fffd}"), directory("a\u{fffd}/base")], "a\u{fffd}: is the name of no platform"),
            (vec![("bad".into(), Found::Link("is a link".into()))], "bad: is a link"),
            (vec![("bad".into(), Found::Unreadable("denied".into()))], "bad: denied"),
            (vec![directory("bad"), ("bad/base".into(), Found::Link("leads out".into()))], "bad: bad/base: leads out"),
            (vec![directory("bad"), ("bad/base".into(), Found::Other)], "bad: bad/base: expected a directory"),
            (vec![directory("bad"), ("bad/layers".into(), Found::Other)], "bad: layers: expected a file"),
            (vec![directory("bad"), layers("bad/layers", "# nothing\n")], "bad: layers: expected the names"),
            (
                vec![directory("bad"), layers("bad/layers", "gone/base")],
                "bad: gone/base: expected a directory, found n",
            ),
            (vec![directory("bad"), layers("bad/layers", "../base")], "bad: layers: expected paths below"),
            (vec![directory("bad"), layers("bad/layers", "/etc/base")], "bad: layers: expected paths below"),
            (vec![directory("bad"), layers("bad/layers", "good")], "bad: layers: expected base, env"),
            (
                vec![directory("bad"), layers("bad/layers", "good/base\ngood/base")],
                "bad: good/base: expected each layer",
            ),
            (vec![directory("bad"), layers("bad/layers", &many)], "bad: layers: expected at most 16"),
        ] {
            entries.extend(good());
            let (images, wrong) = offers(entries);
            assert_eq!(images, ["good = /i/good/base"], "{named}");
            assert!(wrong.len() == 1 && wrong[0].starts_with(named), "{named}: {wrong:?}");
        }
    }

    #[test]
    fn names_of_layers_and_deep_paths_name_no_platform() {
        for name in ["a", "a/b/c", "linux-debian-12/x86_64/gcc"] {
            assert_eq!(check_platform(name), Ok(()), "{name}");
        }
        for name in ["", "a/b/c/d", "base", "a/env/c", "a/layers", "../a", "/a", "a//b", ".new"] {
            assert!(check_platform(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_real_directory_is_read_without_leaving_it() {
        let root = std::env::temp_dir().join(format!("sai-scan-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let make = |path: &str| fs::create_dir_all(root.join(path)).expect("a directory");
        assert_eq!(scan(&root), Scan::default());
        for path in ["os/arch/gcc/base/etc", "os/arch/gcc/env", "os/arch/clang/env/x", ".new-x/base/etc", "lost+found"]
        {
            make(path);
        }
        make("outside/base");
        fs::remove_dir(root.join("outside/base")).expect("no base");
        symlink("/etc", root.join("outside/base")).expect("a link");
        symlink("/", root.join("linked")).expect("a link");
        make("inside");
        symlink("../os/arch/gcc/base", root.join("inside/base")).expect("a link");
        make("dangling");
        symlink("nowhere", root.join("dangling/base")).expect("a link");
        fs::write(root.join("os/arch/clang/layers"), "os/arch/gcc/base\nenv\n").expect("a file");
        make("long");
        fs::write(root.join("long/layers"), "#".repeat(LAYERS_BYTES as usize + 1)).expect("a file");
        // A terminal or pipe of that name would be read for ever.
        make("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe/layers"), rustix::fs::Mode::RWXU).expect("a pipe");
        let Scan { images, wrong } = scan(&root);
        let names: Vec<&str> = images.iter().map(|image| image.platform.as_str()).collect();
        assert_eq!(names, ["inside", "os/arch/clang", "os/arch/gcc"]);
        let base = fs::canonicalize(&root).expect("the root").join("os/arch/gcc/base");
        assert!(images.iter().all(|image| image.layers[0] == base), "{images:?}");
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        for (line, words) in wrong.iter().zip([
            "dangling: dangling/base: No such file",
            "linked: is a link: expected a directory",
            "long: layers: expected at most",
            "outside: outside/base: is a link out of",
            "pipe: layers: expected a file",
        ]) {
            assert!(line.starts_with(words), "{line}");
        }
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        fs::remove_dir_all(&root).expect("the end");
    }
}
