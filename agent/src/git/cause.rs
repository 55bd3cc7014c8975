//! What a git process said → why it failed: the repository's content, the way to it, our copy of it, or this machine.
//!
//! Git tells apart what it means only in words, which `LC_ALL=C` keeps in English. What a server says is marked by git with
//! `remote:`, and a path stands before the system's words, never after them: so neither can a repository make this machine
//! look guilty, nor a full disk look like a repository that is.

use super::{GitError, last_line};

/// Signal that ends a process which writes beyond its bound of a file: SIGXFSZ of signal(7), the same on all processors but MIPS.
pub(crate) const TOO_LARGE: i32 = 25;
/// SIGKILL: nobody but the system, when memory ran out, or a person ends a git of ours so.
const KILLED: i32 = 9;

/// Bytes of the system's words for what is wrong, at most.
const REASON_BYTES: usize = 100;

/// Why git failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What is in the repository cannot be had here or anywhere: names, sizes, objects.
    Content,
    /// The repository has no such ref or object.
    Absent,
    /// The server gives no object by its number.
    Unadvertised,
    /// The way to the repository, or its server.
    Remote,
    /// This machine: no space, no memory, no git.
    Machine,
    /// Our copy is broken, or may be: a new one mends that.
    Copy,
    /// None of these.
    Unknown,
}

/// The system's words for what is wrong with this machine, whatever was being written.
const MACHINE: [&str; 8] = [
    ": No space left on device",
    ": Disk quota exceeded",
    ": Read-only file system",
    ": Input/output error",
    ": Cannot allocate memory",
    ": Too many open files",
    ": Too many open files in system",
    ": Resource temporarily unavailable",
];
/// Beginnings of lines that tell of a git that is not whole, or of no memory.
const NO_GIT: [&str; 5] = [
    "fatal: Out of memory",
    "fatal: unable to find remote helper for",
    "git: 'remote-",
    "error: cannot run ssh: No such file",
    "error: cannot fork()",
];
/// Beginnings of lines about one file or directory of a checkout.
const OF_A_PATH: [&str; 7] = [
    "error: unable to create file ",
    "error: unable to create symlink ",
    "error: unable to stat just-written file ",
    "error: unable to unlink old ",
    "error: invalid path ",
    "fatal: cannot create directory at ",
    "fatal: could not open ",
];
const ABSENT: [&str; 3] = ["couldn't find remote ref", "not our ref", "no such remote ref"];
const REMOTE: [&str; 19] = [
    "remote error:",
    "Could not resolve",
    "unable to access",
    "Could not read from remote",
    "unable to connect",
    "unable to look up",
    "Connection",
    "Permission denied",
    "Authentication failed",
    "could not read Username",
    "could not read Password",
    "terminal prompts disabled",
    "early EOF",
    "hung up",
    "timed out",
    "not appear to be a git repository",
    "does not exist",
    "not found",
    "not allowed",
];
/// Signs of objects that are broken here.
const BROKEN: [&str; 12] = [
    "corrupt",
    "unable to read",
    "could not read",
    "bad object",
    "missing",
    "inflate",
    "not a git repository",
    "reference is not a tree",
    "unable to unpack",
    "packfile",
    "is far too short",
    "bad config",
];

fn any(line: &str, signs: &[&str]) -> bool {
    signs.iter().any(|sign| line.contains(sign))
}

/// Lines of git itself, not of the server.
fn own(said: &str) -> impl Iterator<Item = &str> {
    said.split(['\n', '\r']).map(str::trim).filter(|line| !line.starts_with("remote:"))
}

/// Whether the proxy of this machine is not there, or does not know us. A proxy that cannot reach the server says otherwise.
fn of_the_proxy(line: &str) -> bool {
    let why = line.strip_prefix("fatal: unable to access '").and_then(|rest| rest.rsplit_once("': "));
    why.is_some_and(|(_, why)| why.contains("resolve proxy") || why.ends_with("407") || why.contains("407 from proxy"))
}

/// Whether this machine is to blame, for all that can be seen.
fn of_the_machine(said: &str) -> bool {
    own(said).any(|line| {
        MACHINE.iter().any(|end| line.ends_with(end))
            || NO_GIT.iter().any(|begin| line.starts_with(begin))
            || line.ends_with("died of signal 9")
            || of_the_proxy(line)
            || line.contains("error while loading shared libraries")
    })
}

/// Whether it is what the repository holds.
fn of_the_content(said: &str) -> bool {
    let damaged = |line: &str| line.contains("possible repository corruption on the remote side");
    own(said).any(|line| {
        line.ends_with(": File too large")
            || line.ends_with("died of signal 25")
            || line.starts_with("fatal: fsck error in pack")
            || (OF_A_PATH.iter().any(|begin| line.starts_with(begin)) && !line.ends_with(": Permission denied"))
    }) || said.lines().any(damaged)
}

/// Whether git says that what it was given is not whole. With a new copy it is the repository that is not.
pub fn lacks_objects(said: &str) -> bool {
    said.contains("did not send all necessary objects")
}

/// What is the same whatever git was at, where `slow` is the cause of its taking too long; else what it said.
fn of_any(error: &GitError, slow: Cause) -> Result<&str, Cause> {
    match error {
        GitError::System(_) | GitError::Stopped => Err(Cause::Machine),
        GitError::TimedOut(_) => Err(slow),
        GitError::TooMuch(_) => Err(Cause::Content),
        GitError::Failed { said, signal } if of_the_machine(said) || *signal == Some(KILLED) => Err(Cause::Machine),
        GitError::Failed { said, signal } if of_the_content(said) || *signal == Some(TOO_LARGE) => Err(Cause::Content),
        GitError::Failed { said, .. } => Ok(said),
    }
}

/// Why a fetch failed.
pub fn of_fetch(error: &GitError) -> Cause {
    let said = match of_any(error, Cause::Remote) {
        Ok(said) => said,
        Err(cause) => return cause,
    };
    if any(said, &["unadvertised object"]) {
        Cause::Unadvertised
    } else if any(said, &ABSENT) {
        Cause::Absent
    } else if any(said, &REMOTE) {
        Cause::Remote
    } else {
        Cause::Copy
    }
}

/// Why something that asks no server failed: a checkout, a look at objects.
pub fn of_work(error: &GitError) -> Cause {
    let said = match of_any(error, Cause::Machine) {
        Ok(said) => said,
        Err(cause) => return cause,
    };
    if own(said).any(|line| line.ends_with(": Permission denied")) {
        Cause::Machine
    } else if own(said).any(|line| any(line, &BROKEN)) {
        Cause::Copy
    } else {
        Cause::Unknown
    }
}

/// Why submodules failed, whose URLs the repository chose itself.
pub fn of_submodules(error: &GitError) -> Cause {
    let GitError::Failed { said, .. } = error else { return of_fetch(error) };
    let forbidden = |line: &str| line.starts_with("fatal: transport '") && line.ends_with("' not allowed");
    let unnamed = |line: &str| line.starts_with("fatal: No url found for submodule path ");
    let nowhere = |line: &str| {
        line.ends_with("does not appear to be a git repository")
            || (line.starts_with("fatal: repository '")
                && (line.ends_with("' not found") || line.ends_with("' does not exist")))
            || line.contains("it did not contain")
            || line.contains("invalid submodule")
            || line.contains("disallowed submodule")
            || line.contains("suspicious submodule")
    };
    match of_fetch(error) {
        Cause::Machine => Cause::Machine,
        _ if own(said).any(|line| forbidden(line) || unnamed(line) || nowhere(line)) => Cause::Content,
        Cause::Absent | Cause::Unadvertised | Cause::Content => Cause::Content,
        Cause::Remote => Cause::Remote,
        Cause::Copy | Cause::Unknown => Cause::Unknown,
    }
}

/// The line that tells most of what the repository has done.
pub fn sentence(error: &GitError) -> String {
    let GitError::Failed { said, signal } = error else { return error.to_string() };
    if *signal == Some(TOO_LARGE) || own(said).any(|line| line.ends_with("died of signal 25")) {
        return "a file or pack is larger than Sai takes".to_string();
    }
    let telling = |line: &&str| {
        let explain = ["error: object ", "fatal: transport '", "fatal: No url found", "fatal: repository '"];
        explain.iter().chain(&OF_A_PATH).any(|begin| line.starts_with(begin))
    };
    let line = own(said).find(telling).unwrap_or_else(|| last_line(said));
    let line = ["fatal: ", "error: "].iter().find_map(|begin| line.strip_prefix(begin)).unwrap_or(line);
    let mut short: String = line.chars().take(300).collect();
    if short.len() < line.len() {
        // The reason stands last, unless git has cut its own line.
        short.push('…');
        if let Some((_, reason)) = line.rsplit_once(": ").filter(|(_, reason)| reason.len() <= REASON_BYTES) {
            short.push_str(": ");
            short.push_str(reason);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(said: &str) -> GitError {
        GitError::Failed { said: said.to_string(), signal: None }
    }

    #[test]
    fn a_repository_cannot_make_the_machine_look_guilty_nor_the_other_way_round() {
        for (said, fetch, work) in [
            ("error: unable to create file a: File name too long", Cause::Content, Cause::Content),
            ("error: unable to create file a: No space left on device", Cause::Machine, Cause::Machine),
            (
                "error: unable to create file a: No space left on device/b: File name too long",
                Cause::Content,
                Cause::Content,
            ),
            ("remote: fatal: write error: No space left on device\nfatal: early EOF", Cause::Remote, Cause::Unknown),
            ("fatal: sha1 file 'x' write error: Disk quota exceeded", Cause::Machine, Cause::Machine),
            (
                "error: object 12: hasDotgit: contains '.git'\nfatal: fsck error in packed object",
                Cause::Content,
                Cause::Content,
            ),
            ("fatal: couldn't find remote ref refs/heads/x", Cause::Absent, Cause::Unknown),
            ("fatal: protocol error: bad line length character: <htm", Cause::Copy, Cause::Unknown),
            (
                "fatal: unable to access 'https://h/': CONNECT tunnel failed, response 407",
                Cause::Machine,
                Cause::Machine,
            ),
            (
                "fatal: unable to access 'https://h/407 from proxy': Could not resolve host: h",
                Cause::Remote,
                Cause::Unknown,
            ),
            ("git: 'remote-https' is not a git command. See 'git --help'.", Cause::Machine, Cause::Machine),
            ("fatal: Unable to create '/x/index.lock': Permission denied", Cause::Remote, Cause::Machine),
        ] {
            assert_eq!((of_fetch(&failed(said)), of_work(&failed(said))), (fetch, work), "{said}");
        }
        let missing = io_error();
        assert_eq!((of_fetch(&missing), of_work(&missing)), (Cause::Machine, Cause::Machine));
    }

    fn io_error() -> GitError {
        GitError::System(std::io::Error::from(std::io::ErrorKind::NotFound))
    }

    #[test]
    fn submodules_are_the_repositorys_choice() {
        for (said, cause) in [
            ("fatal: transport 'ext' not allowed", Cause::Content),
            ("fatal: No url found for submodule path 'sub' in .gitmodules", Cause::Content),
            ("fatal: No url found for submodule path 'a: No space left on device' in .gitmodules", Cause::Content),
            (
                "fatal: unable to access 'https://h/': Could not resolve host: h\nfatal: clone of 'x' failed",
                Cause::Remote,
            ),
            ("fatal: cannot mkdir sub: No space left on device", Cause::Machine),
        ] {
            assert_eq!(of_submodules(&failed(said)), cause, "{said}");
        }
    }

    #[test]
    fn the_sentence_is_short_and_ends_with_the_reason() {
        let said = format!("error: unable to create file {}: File name too long\nfatal: x", "a".repeat(300));
        let sentence = sentence(&failed(&said));
        assert!(
            sentence.starts_with("unable to create file aaa") && sentence.ends_with(": File name too long"),
            "{sentence}"
        );
    }
}
