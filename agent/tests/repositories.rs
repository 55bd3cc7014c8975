//! Repositories that cannot be built, with real git over real transports: whose fault each is.

mod common;

use common::*;
use sai_agent::git::cause::{Cause, of_fetch, of_work, sentence};
use sai_agent::git::tools::Tools;
use sai_agent::git::{Git, GitError, Stop, Watch};
use sai_agent::job_directory::{JobDirectory, Launcher, start};
use sai_agent::mirror::Mirror;
use sai_core::job::{Fault, Outcome};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

struct Quiet(Stop);

impl Watch for Quiet {
    fn note(&mut self, _: &str) {}
    fn output(&mut self, _: &[u8]) {}
    fn stop(&self) -> &Stop {
        &self.0
    }
}

/// Runs git with standard input, and returns what it prints.
fn git_fed(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    use std::io::Write as _;
    let mut command = Command::new("git");
    command.args(arguments).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// A commit of one file, whatever its name: made of git's objects, since no file system would take it.
fn commit_of(world: &World, name: &str, content: &[u8]) -> String {
    let origin = world.origin();
    let blob = git_fed(&origin, &["hash-object", "-w", "--stdin"], content);
    let tree = git_fed(&origin, &["mktree", "-z"], format!("100644 blob {blob}\t{name}\0").as_bytes());
    let revision = git(&origin, &["commit-tree", "-m", "odd", &tree]);
    git(&origin, &["update-ref", "refs/heads/odd", &revision]);
    revision
}

fn is_the_specs(world: &World, assignment: &sai_core::wire::Assignment, said: &str) {
    let verdict = world.run(assignment).verdict().clone();
    assert_eq!((verdict.outcome, verdict.fault), (Outcome::Failed, Fault::Spec), "{verdict:?}");
    assert!(verdict.cause.contains(said) && verdict.cause.len() < 600, "{verdict:?}");
    assert_eq!(verdict.trouble, None);
}

#[test]
fn names_that_no_file_system_takes_are_the_specs_fault() {
    let mut world = World::new("names");
    for (name, said) in [
        ("n".repeat(300), "File name too long"),
        // The reason stands last, whatever the name pretends.
        (format!("{}: No space left on device", "n".repeat(300)), "File name too long"),
        ("n".repeat(5000), "largePathname"),
    ] {
        world.revision = commit_of(&world, &name, b"x\n");
        let mut assignment = world.assignment(&["true"]);
        assignment.reference = "refs/heads/odd".into();
        is_the_specs(&world, &assignment, said);
    }
    // A path that is too long as a whole.
    let mut tree = git_fed(&world.origin(), &["mktree"], b"");
    let blob = git_fed(&world.origin(), &["hash-object", "-w", "--stdin"], b"x");
    for depth in 0..30 {
        let entry = if depth == 0 {
            format!("100644 blob {blob}\tf\n")
        } else {
            format!("040000 tree {tree}\t{}\n", "d".repeat(200))
        };
        tree = git_fed(&world.origin(), &["mktree"], entry.as_bytes());
    }
    world.revision = git(&world.origin(), &["commit-tree", "-m", "deep", &tree]);
    git(&world.origin(), &["update-ref", "refs/heads/odd", &world.revision]);
    let mut assignment = world.assignment(&["true"]);
    assignment.reference = "refs/heads/odd".into();
    is_the_specs(&world, &assignment, "cannot create directory");
    // And this agent goes on building others.
    let revision = git(&world.origin(), &["rev-parse", "main"]);
    world.revision = revision;
    assert_eq!(world.run(&world.assignment(&["true"])).outcome(), Outcome::Passed);
}

#[test]
fn objects_that_are_not_sound_are_the_specs_fault() {
    let mut world = World::new("unsound");
    let origin = world.origin();
    let blob = git_fed(&origin, &["hash-object", "-w", "--stdin"], b"x");
    let bytes: Vec<u8> = (0..20).map(|at| u8::from_str_radix(&blob[2 * at..2 * at + 2], 16).unwrap()).collect();
    let entry = [b"100644 .git\0".as_slice(), &bytes].concat();
    let tree = git_fed(&origin, &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &entry);
    world.revision = git(&origin, &["commit-tree", "-m", "evil", &tree]);
    git(&origin, &["update-ref", "refs/heads/odd", &world.revision]);
    let mut assignment = world.assignment(&["true"]);
    assignment.reference = "refs/heads/odd".into();
    is_the_specs(&world, &assignment, "hasDotgit");

    // What old programs did wrong without doing harm is built.
    let tree = git(&origin, &["rev-parse", "main^{tree}"]);
    let old = format!("tree {tree}\nauthor Zo <> 1 +051800\ncommitter none 1 +0000\n\nold\n");
    world.revision = git_fed(&origin, &["hash-object", "-t", "commit", "-w", "--literally", "--stdin"], old.as_bytes());
    git(&origin, &["update-ref", "refs/heads/odd", &world.revision]);
    let mut assignment = world.assignment(&["cat file"]);
    assignment.reference = "refs/heads/odd".into();
    let log = world.run(&assignment);
    assert_eq!(log.outcome(), Outcome::Passed, "{:?}", log.verdict());
}

#[test]
fn an_object_that_the_repository_itself_has_lost_is_the_specs_fault() {
    let mut world = World::new("lost");
    let origin = world.origin();
    let blob = git_fed(&origin, &["hash-object", "-w", "--stdin"], b"to be lost");
    let tree = git_fed(&origin, &["mktree"], format!("100644 blob {blob}\tf\n").as_bytes());
    world.revision = git(&origin, &["commit-tree", "-m", "lost", &tree]);
    git(&origin, &["update-ref", "refs/heads/odd", &world.revision]);
    fs::remove_file(origin.join(".git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    let mut assignment = world.assignment(&["true"]);
    assignment.reference = "refs/heads/odd".into();
    is_the_specs(&world, &assignment, "");
}

fn submodule(world: &mut World, url: Option<&str>) -> sai_core::wire::Assignment {
    let origin = world.origin();
    let url = url.map_or(String::new(), |url| format!("\turl = {url}\n"));
    fs::write(origin.join(".gitmodules"), format!("[submodule \"sub\"]\n\tpath = sub\n{url}")).unwrap();
    let main = git(&origin, &["rev-parse", "HEAD"]);
    git(&origin, &["update-index", "--add", "--cacheinfo", &format!("160000,{main},sub")]);
    world.revision = world.commit("sub");
    let mut assignment = world.assignment(&["true"]);
    assignment.submodules = true;
    assignment
}

#[test]
fn submodules_that_cannot_be_had_are_the_specs_fault_and_servers_that_are_away_are_not() {
    let mut world = World::new("submodules");
    fs::create_dir_all(world.origin().join("sub")).unwrap();
    for (url, said) in [
        (None, "No url found for submodule path 'sub'"),
        (Some("ext::sh -c touch% /tmp/x"), "transport 'ext' not allowed"),
        (Some("/nowhere/at/all"), "does not exist"),
    ] {
        let assignment = submodule(&mut world, url);
        is_the_specs(&world, &assignment, said);
    }
    // The commit is not in the repository that is named.
    let library = world.path.join("library");
    fs::create_dir(&library).unwrap();
    git(&library, &["init", "-q"]);
    git(&library, &["commit", "-q", "--allow-empty", "-m", "lib"]);
    let assignment = submodule(&mut world, Some(library.to_str().unwrap()));
    is_the_specs(&world, &assignment, "submodule");

    let assignment = submodule(&mut world, Some("http://127.0.0.1:1/x.git"));
    let verdict = world.run(&assignment).verdict().clone();
    assert_eq!((verdict.outcome, verdict.trouble.as_deref()), (Outcome::Infra, Some("repository")), "{verdict:?}");
}

#[test]
fn a_remote_that_is_away_or_talks_nonsense_is_the_repositorys_trouble() {
    let world = World::new("away");
    let nonsense = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nonsense.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in nonsense.incoming().flatten() {
            use std::io::{Read as _, Write as _};
            let _ = stream.read(&mut [0; 1024]);
            let page = "<html>No space left on device</html>";
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len());
        }
    });
    for url in [
        format!("{}/nowhere", world.path.display()),
        "http://127.0.0.1:1/x.git".to_string(),
        "git://127.0.0.1:1/x.git".to_string(),
        format!("http://127.0.0.1:{port}/x.git"),
        format!("git://127.0.0.1:{port}/x.git"),
        "http://no-such-host.invalid/x.git".to_string(),
    ] {
        let mut assignment = world.assignment(&["true"]);
        assignment.url = url.as_str().into();
        let verdict = world.run(&assignment).verdict().clone();
        assert_eq!((verdict.outcome, verdict.fault), (Outcome::Infra, Fault::Infrastructure), "{url} {verdict:?}");
        assert_eq!(verdict.trouble.as_deref(), Some("repository"), "{url} {verdict:?}");
    }
}

#[test]
fn an_agent_without_git_has_trouble_of_its_own() {
    let world = World::new("gitless");
    let directory = JobDirectory::create(&world.jobs(), &world.assignment(&["true"])).unwrap();
    let program = launcher().program.into();
    let launcher = Launcher { program: "env".into(), first_arguments: vec!["PATH=/nowhere".into(), program] };
    start(&directory, &launcher).unwrap();
    finish(&directory);
    let verdict = Log::of(&directory).verdict().clone();
    assert_eq!((verdict.outcome, verdict.fault), (Outcome::Infra, Fault::Infrastructure), "{verdict:?}");
    assert_eq!(verdict.trouble, None, "{verdict:?}");
    assert!(verdict.cause.contains("git could not be run"), "{verdict:?}");
}

/// A git as it is run, whose files may not be larger than this.
fn bounded<T>(directory: &Path, bytes: u64, work: impl FnOnce(&Git<'_>) -> T) -> T {
    let tools = Tools::open(directory).unwrap();
    let url = "/nowhere".into();
    let time = Duration::from_secs(60);
    work(&Git { tools: &tools, protocols: "file", url: &url, environment: &[], time, file_bytes: bytes })
}

#[test]
fn a_file_or_pack_beyond_the_bound_is_the_specs_and_a_git_that_is_not_there_is_ours() {
    let world = World::new("large");
    let origin = world.origin();
    let content: Vec<u8> = (0..3_000_000)
        .scan(88_172_645_463_325_252_u64, |state, _| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            Some(*state as u8)
        })
        .collect();
    fs::write(origin.join("large"), &content).unwrap();
    world.commit("large");
    let clone = world.path.join("clone");
    fs::create_dir(&clone).unwrap();
    git(&clone, &["init", "-q"]);
    let mut watch = Quiet(Stop::new().unwrap());
    let url = origin.to_str().unwrap().into();
    let revision = git(&origin, &["rev-parse", "HEAD"]);
    let mirror = Mirror::open(&world.mirrors(), "large", &url, &revision).unwrap();
    let mirror = mirror.with_file_bytes(1 << 20);
    let trouble = mirror.ensure("refs/heads/main", &revision, &mut watch).unwrap_err();
    assert_eq!(trouble.fault, Fault::Spec, "{trouble:?}");
    assert!(trouble.why.contains("larger than"), "{trouble:?}");
    // What was received of it does not stay.
    assert_eq!(fs::read_dir(mirror.path().join("objects/pack")).unwrap().count(), 0);
    let fetch = ["fetch", "-q", origin.to_str().unwrap(), "main"];
    bounded(&world.path, 1 << 30, |git| git.run(&clone, &fetch, &mut watch)).unwrap();
    let checkout = ["checkout", "-q", "FETCH_HEAD"];
    let error = bounded(&world.path, 1 << 20, |git| git.run(&clone, &checkout, &mut watch)).unwrap_err();
    assert_eq!(of_work(&error), Cause::Content, "{error:?}");
    assert!(sentence(&error).contains("larger than"), "{}", sentence(&error));
    // What is printed is bounded too.
    let listed = bounded(&world.path, 1 << 30, |git| git.ask(&clone, &["rev-list", "FETCH_HEAD"], b"", 10, &mut watch));
    assert!(matches!(listed, Err(GitError::TooMuch(begin)) if begin.len() == 10));
    let missing = GitError::System(std::io::Error::from(std::io::ErrorKind::NotFound));
    assert_eq!((of_fetch(&missing), of_work(&missing)), (Cause::Machine, Cause::Machine));
}

#[test]
fn a_branch_whose_name_is_no_text_is_built_and_its_steps_see_its_bytes() {
    let world = World::new("bytes");
    for (text, name) in [
        ("refs/heads/caf\\xe9", &b"refs/heads/caf\xe9"[..]),
        ("refs/heads/-dash2", b"refs/heads/-dash2"),
        ("refs/heads/a\\xe2\\x80\\xaeb", "refs/heads/a\u{202e}b".as_bytes()),
        ("refs/heads/$(touch x)'\"".replace(' ', "$IFS").leak(), b"refs/heads/$(touch$IFSx)'\""),
    ] {
        let status = Command::new("git")
            .arg("update-ref")
            .arg(std::ffi::OsStr::from_bytes(name))
            .arg(&world.revision)
            .current_dir(world.origin())
            .status();
        assert!(status.unwrap().success());
        let mut assignment =
            world.assignment(&["printf %s \"$SAI_REF\" | od -An -tx1 | tr -d ' \\n'; git branch -r | wc -l"]);
        assignment.reference = text.into();
        let log = world.run(&assignment);
        let digits: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(log.text("stdout"), format!("{digits}1\n"), "{text}: {log:?}");
    }
}

#[test]
fn pointers_of_lfs_are_told() {
    let mut world = World::new("pointers");
    let origin = world.origin();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    fs::create_dir_all(origin.join("deep")).unwrap();
    fs::write(origin.join("deep/.gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n").unwrap();
    fs::write(origin.join("deep/a.bin"), pointer).unwrap();
    fs::write(origin.join("deep/b.bin"), "the content itself").unwrap();
    world.revision = world.commit("pointers");
    let log = world.run(&world.assignment(&["cat deep/a.bin"]));
    assert_eq!((log.outcome(), log.text("stdout").as_str()), (Outcome::Passed, pointer));
    let told: Vec<_> = log.notes().into_iter().filter(|note| note.contains("LFS")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("this checkout has LFS pointers: 1 files, such as deep/a.bin"), "{told:?}");
    fs::write(origin.join("deep/a.bin"), "content").unwrap();
    world.revision = world.commit("none");
    let log = world.run(&world.assignment(&["true"]));
    assert!(!log.notes().iter().any(|note| note.contains("LFS")), "{:?}", log.notes());
}
