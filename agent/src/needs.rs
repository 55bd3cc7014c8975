//! Jobs that an attempt needs → their files below `$SAI_NEEDS`, each compared with its digest before a step can see it.
//!
//! The supervisor lays them out, as copies of its attempt's own, so that no job can change what another gets. It asks the
//! agent for one file after the other (see `supervised`), which has the token, the way to the master and a cache (`fetch`).

pub mod fetch;

use crate::artifacts::copy;
use crate::git::Watch;
use crate::mirror::Trouble;
use rustix::fs::statvfs;
use sai_core::job::JobKey;
use sai_core::ledger::Needed;
use sai_core::ordered::Map;
use sai_core::record::{Artifact, check_path};
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Times that a file is asked for which is gone again from the cache, for room, before it could be copied.
const TIMES: usize = 5;

/// A file that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The attempt that needs it.
    pub key: JobKey,
    /// SHA-256 of its content, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// Whether what was given before was something else, so that it is to be fetched anew.
    pub again: bool,
}

impl Want {
    /// A file that an attempt wants, if its digest is one.
    #[must_use]
    pub fn new(key: JobKey, sha256: &str, size: u64, again: bool) -> Option<Self> {
        let sha256 = sha256.to_ascii_lowercase();
        let digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        digest.then_some(Self { key, sha256, size, again })
    }
}

/// Asks for a file and waits: where it is, or why it cannot be had.
pub type Ask<'a> = dyn FnMut(&Want) -> Result<PathBuf, Trouble> + 'a;

/// Lays the files out below a directory that is made for them: `CONFIGURATION/PLATFORM/PATH`. Of a path that is there twice
/// the later file counts.
///
/// # Errors
/// Ours; what the master has no more, or has damaged, is held against the repository.
pub fn lay_out(
    key: JobKey,
    needs: &[Needed],
    directory: &Path,
    ask: &mut Ask<'_>,
    watch: &mut dyn Watch,
) -> Result<(), Trouble> {
    let disk = |error: io::Error| Trouble::disk("laying out the files of needs", &error);
    fs::create_dir_all(directory).map_err(disk)?;
    let mut files: Map<String, &Artifact> = Map::new();
    for needed in needs {
        let place = format!("{}/{}", needed.configuration, needed.platform);
        check_path(&place).map_err(|why| Trouble::of_repository(format!("a need has a name that cannot be: {why}")))?;
        fs::create_dir_all(directory.join(&place)).map_err(disk)?;
        for artifact in &needed.artifacts {
            check_path(&artifact.path)
                .map_err(|why| Trouble::of_repository(format!("a file of {place} has a name that cannot be: {why}")))?;
            files.insert(format!("{place}/{}", artifact.path), artifact);
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    let bytes = files.values().map(|artifact| artifact.size).fold(0, u64::saturating_add);
    let space = statvfs(directory).map_err(|error| disk(error.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if bytes > free {
        return Err(Trouble::ours(format!("the files of needs have {bytes} bytes, and {free} are free for them")));
    }
    watch.note(&format!("getting {} files of needs, {bytes} bytes", files.len()));
    for (path, artifact) in files {
        if watch.stop().asked() {
            return Err(Trouble::ours("getting the files of needs was stopped"));
        }
        let to = directory.join(&path);
        match make_way(&to) {
            Ok(()) => get(key, artifact, &path, &to, ask, watch)?,
            Err(error) if matches!(error.kind(), ErrorKind::NotADirectory | ErrorKind::AlreadyExists) => {
                watch.note(&format!("{path:?} is left out: an earlier file of that attempt stands where it would be"));
            }
            Err(error) => return Err(disk(error)),
        }
    }
    watch.note("the files of needs are there");
    Ok(())
}

/// Makes the directories on the way to a file, in whose own place nothing may stand.
fn make_way(to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::symlink_metadata(to) {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gets one file.
///
/// # Errors
/// As those of [`lay_out`].
pub fn get(
    key: JobKey,
    artifact: &Artifact,
    path: &str,
    to: &Path,
    ask: &mut Ask<'_>,
    watch: &mut dyn Watch,
) -> Result<(), Trouble> {
    let disk = |error: io::Error| Trouble::disk(&format!("laying out {path:?}"), &error);
    let no_digest = || Trouble::of_repository(format!("{path:?} is named without a digest"));
    let mut want = Want::new(key, &artifact.sha256, artifact.size, false).ok_or_else(no_digest)?;
    for _ in 0..TIMES {
        // Of an empty file there is nothing to ask for.
        let empty = artifact.size == 0;
        let place = if empty { Ok(PathBuf::from("/dev/null")) } else { ask(&want) };
        let from = match File::open(
            place.map_err(|trouble| Trouble { why: format!("{path:?}: {}", trouble.why), ..trouble })?,
        ) {
            Ok(from) => from,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(disk(error)),
        };
        let copied = copy(from, to, artifact.size, watch.stop()).map_err(disk)?;
        if watch.stop().asked() {
            return Err(Trouble::ours("getting the files of needs was stopped"));
        }
        if copied.is_some_and(|(size, sha256)| size == artifact.size && sha256 == want.sha256) {
            let mode = if artifact.executable { 0o755 } else { 0o644 };
            return fs::set_permissions(to, Permissions::from_mode(mode)).map_err(disk);
        }
        if want.again {
            return Err(Trouble::of_repository(format!(
                "{path:?} has not the SHA-256 with which the master keeps it, twice: it was damaged there or on the way"
            )));
        }
        watch.note(&format!("{path:?} has not its SHA-256, getting it anew"));
        want.again = true;
    }
    Err(Trouble::ours(format!("{path:?} was gone from this agent's cache each time before it could be copied")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::hex;
    use crate::digest::sha256;
    use crate::git::Stop;

    struct Notes(Vec<String>, Stop);

    impl Watch for Notes {
        fn note(&mut self, text: &str) {
            self.0.push(text.to_string());
        }

        fn output(&mut self, _bytes: &[u8]) {}

        fn stop(&self) -> &Stop {
            &self.1
        }
    }

    fn artifact(path: &str, content: &str) -> Artifact {
        let (sha256, size) = (hex(&sha256(content.as_bytes())), content.len() as u64);
        Artifact { stream: 1, path: path.to_string(), size, sha256, executable: path.starts_with("bin/") }
    }

    fn need(configuration: &str, platform: &str, artifacts: Vec<Artifact>) -> Needed {
        let (configuration, platform) = (configuration.to_string(), platform.to_string());
        Needed { job: 1, configuration, platform, attempt: Some(1), artifacts }
    }

    /// Lays files out whose contents are those in a directory, by digest: how that went, and what was said.
    fn laid_out(name: &str, needs: &[Needed], contents: &[&str]) -> (PathBuf, Result<(), Trouble>, Vec<String>) {
        let base = std::env::temp_dir().join(format!("sai-needs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("cache")).unwrap();
        for content in contents {
            fs::write(base.join("cache").join(hex(&sha256(content.as_bytes()))), content).unwrap();
        }
        let mut watch = Notes(Vec::new(), Stop::new().unwrap());
        let cache = base.join("cache");
        let mut ask = |want: &Want| Ok(cache.join(&want.sha256));
        let done = lay_out(JobKey { job: 2, attempt: 1 }, needs, &base.join("needs"), &mut ask, &mut watch);
        (base, done, watch.0)
    }

    #[test]
    fn files_are_where_their_jobs_are_named_and_the_later_of_two_counts() {
        let needs = [
            need(
                "lib",
                "linux/x86_64",
                vec![artifact("a b/ü", "one"), artifact("bin/tool", "old"), artifact("bin/tool", "new")],
            ),
            need("empty", "linux", vec![artifact("nothing", "")]),
            need("none", "linux", Vec::new()),
        ];
        let (base, done, said) = laid_out("names", &needs, &["one", "new", ""]);
        assert_eq!(done, Ok(()));
        assert_eq!(said, ["getting 3 files of needs, 6 bytes", "the files of needs are there"]);
        let read = |path: &str| fs::read_to_string(base.join("needs").join(path)).unwrap();
        assert_eq!(read("lib/linux/x86_64/a b/ü"), "one");
        assert_eq!(read("lib/linux/x86_64/bin/tool"), "new");
        assert_eq!(read("empty/linux/nothing"), "");
        assert!(base.join("needs/none/linux").is_dir());
        let mode = |path: &str| fs::metadata(base.join("needs").join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("lib/linux/x86_64/bin/tool"), mode("empty/linux/nothing")), (0o755, 0o644));
        // A copy of its own: writing to it changes nobody else's.
        fs::write(base.join("needs/lib/linux/x86_64/bin/tool"), "changed").unwrap();
        assert_eq!(fs::read(base.join("cache").join(hex(&sha256(b"new")))).unwrap(), b"new");
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn hostile_names_stay_inside_and_are_told() {
        for (name, needs) in [
            ("parent", need("lib", "linux", vec![artifact("../../../x", "one")])),
            ("absolute", need("lib", "linux", vec![artifact("/etc/x", "one")])),
            ("configuration", need("..", "linux", vec![artifact("x", "one")])),
            ("platform", need("lib", "linux/../../..", vec![artifact("x", "one")])),
            ("rooted", need("/lib", "linux", vec![artifact("x", "one")])),
            ("control", need("lib", "linux", vec![artifact("a\nb", "one")])),
            ("long", need("lib", "linux", vec![artifact(&"a/".repeat(600), "one")])),
        ] {
            let (base, done, _) = laid_out(name, &[needs], &["one"]);
            let trouble = done.expect_err(name);
            assert!(trouble.why.contains("a name that cannot be"), "{name}: {}", trouble.why);
            assert_eq!(fs::read_dir(&base).unwrap().count(), 2, "{name}");
            fs::remove_dir_all(base).unwrap();
        }
        // One that no file system takes is trouble that says which.
        let long = need("lib", "linux", vec![artifact(&"a".repeat(300), "one")]);
        let (base, done, _) = laid_out("longer", &[long], &["one"]);
        assert!(done.expect_err("too long").why.contains("name too long"));
        fs::remove_dir_all(base).unwrap();
        // What was a file and then a directory cannot be both.
        let both = need("lib", "linux", vec![artifact("a", "one"), artifact("a/b", "one")]);
        let (base, done, said) = laid_out("both", &[both], &["one"]);
        assert_eq!(done, Ok(()));
        assert!(said.iter().any(|line| line.contains("\"lib/linux/a/b\" is left out")), "{said:?}");
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn what_has_another_digest_is_got_once_more_and_never_used() {
        let base = std::env::temp_dir().join(format!("sai-needs-digest-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(&base).unwrap();
        fs::write(base.join("wrong"), "onf").unwrap();
        fs::write(base.join("right"), "one").unwrap();
        for (mends, name) in [(true, "mended"), (false, "damaged")] {
            let mut asked = Vec::new();
            let mut ask = |want: &Want| {
                asked.push(want.again);
                Ok(base.join(if mends && want.again { "right" } else { "wrong" }))
            };
            let mut watch = Notes(Vec::new(), Stop::new().unwrap());
            let needs = [need("lib", "linux", vec![artifact("x", "one")])];
            let done = lay_out(JobKey { job: 2, attempt: 1 }, &needs, &base.join(name), &mut ask, &mut watch);
            assert_eq!(asked, [false, true]);
            match done {
                Ok(()) => assert!(mends && fs::read(base.join("mended/lib/linux/x")).unwrap() == b"one"),
                Err(trouble) => {
                    assert!(!mends && trouble.why.contains("twice"), "{}", trouble.why);
                    assert_eq!(trouble.blame, sai_core::job::Blame::Repository);
                }
            }
        }
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_told_before_anything_is_fetched() {
        let mut large = artifact("x", "one");
        large.size = u64::MAX;
        let (base, done, _) = laid_out("large", &[need("lib", "linux", vec![large.clone(), large])], &[]);
        let why = done.expect_err("too large").why;
        assert!(why.contains("are free for them"), "{why}");
        fs::remove_dir_all(base).unwrap();
    }
}
