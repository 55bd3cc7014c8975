//! Mirror + revision → the workspace's repository and files, complete in itself.
//!
//! What `git clone --local` does is done by hand here, since it is little: write the directory of a repository
//! (gitrepository-layout(5)), link the mirror's packs into it, list the refs. One git process then makes the files; that is all
//! that stands between a known revision and the first step.

use crate::executor::Workspace;
use crate::git::{GitError, Watch};
use crate::mirror::{Mirror, PacksHeld, SHALLOW, Trouble};
use sai_core::git_names::{branch, without_credentials};
use sai_core::ordered::Map;
use sai_core::wire::Assignment;
use std::fs;
use std::io;
use std::path::Path;

/// Depth of directories below `refs/tags` that is looked into.
const REF_DEPTH: usize = 32;

/// Makes a job's workspace.
///
/// # Errors
/// The spec's fault when the revision is not to be had or is no commit; ours in all other cases.
pub fn check_out(
    mirrors: &Path,
    assignment: &Assignment,
    workspace: &Workspace,
    watch: &mut dyn Watch,
) -> Result<(), Trouble> {
    let disk = |error: io::Error| Trouble::disk("making the workspace", &error);
    for directory in [&workspace.source, &workspace.home, &workspace.temporary] {
        fs::create_dir_all(directory).map_err(disk)?;
    }
    let Assignment { repository, url, reference, revision, .. } = assignment;
    let mirror = Mirror::open(mirrors, repository, url, revision)?;
    let held = mirror.ensure(reference, revision, watch)?;
    match make_files(&mirror, held, assignment, workspace, watch) {
        Err(GitError::Failed(said)) if looks_broken(&said) => {
            watch.note("the mirror is broken, making it anew");
            let held = mirror.replace(reference, revision, watch)?;
            crate::remove_tree::remove_tree(&workspace.source).map_err(disk)?;
            make_files(&mirror, held, assignment, workspace, watch).map_err(|error| explain(revision, &error))?;
        }
        other => other.map_err(|error| explain(revision, &error))?,
    }
    if assignment.submodules && workspace.source.join(".gitmodules").exists() {
        update_submodules(&mirror, workspace, watch)?;
    }
    Ok(())
}

fn explain(revision: &str, error: &GitError) -> Trouble {
    match error {
        GitError::Failed(said) if said.contains("Cannot switch branch to a non-commit") => {
            Trouble::specs(format!("{revision} is no commit"))
        }
        error => Trouble::ours(format!("checking out {revision}: {error}")),
    }
}

/// Whether git complains of objects rather than of the disk.
fn looks_broken(said: &str) -> bool {
    !said.contains("No space left")
        && [
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
        ]
        .iter()
        .any(|sign| said.contains(sign))
}

fn make_files(
    mirror: &Mirror,
    held: PacksHeld,
    assignment: &Assignment,
    workspace: &Workspace,
    watch: &mut dyn Watch,
) -> Result<(), GitError> {
    write_repository(mirror, assignment, &workspace.source.join(".git")).map_err(GitError::System)?;
    // Linked or copied, the packs are the workspace's own now.
    drop(held);
    mirror.git().run(&workspace.source, &["checkout", "--quiet", "--force", "--detach", &assignment.revision], watch)
}

fn write_repository(mirror: &Mirror, assignment: &Assignment, git: &Path) -> io::Result<()> {
    for directory in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info"] {
        fs::create_dir_all(git.join(directory))?;
    }
    let objects = mirror.path().join("objects");
    for entry in fs::read_dir(&objects)? {
        let entry = entry?;
        let name = entry.file_name();
        // Packs, and objects that lie loose in directories of two digits.
        if name == "pack" || name.len() == 2 {
            link_all(&entry.path(), &git.join("objects").join(&name))?;
        }
    }
    // After the packs: commits in it that are not in these packs do no harm, the other way round a history would have holes.
    match fs::copy(mirror.path().join(SHALLOW), git.join(SHALLOW)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let url = without_credentials(mirror.url()).replace('\\', "\\\\").replace('"', "\\\"");
    let configuration = format!(
        "[core]\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n{}[remote \"origin\"]\n\turl = \"{url}\"\n\
         \tfetch = +refs/heads/*:refs/remotes/origin/*\n",
        mirror.format("origin")
    );
    fs::write(git.join("config"), configuration)?;
    fs::write(git.join("HEAD"), "ref: refs/heads/none\n")?;
    let mut refs = tags(mirror.path())?;
    if let Some(branch) = branch(&assignment.reference) {
        refs.insert(format!("refs/remotes/origin/{branch}"), assignment.revision.clone());
    }
    // Of refs that stand in each other's way only the first can be had; git would refuse to read the others' files.
    let lines: String = refs.iter().map(|(name, object)| format!("{object} {name}\n")).collect();
    fs::write(git.join("packed-refs"), lines)
}

/// Links the files of one directory into another; copies where a link is not possible (another file system, too many links).
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        // What is being received has a temporary name, and `.keep` is a note to a process elsewhere.
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"tmp_") || bytes.starts_with(b".") || bytes.ends_with(b".keep") {
            continue;
        }
        let target = to.join(&name);
        if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The tags of a mirror, packed and loose.
fn tags(mirror: &Path) -> io::Result<Map<String, String>> {
    let mut found = Map::new();
    match fs::read_to_string(mirror.join("packed-refs")) {
        Ok(text) => {
            for line in text.lines() {
                if let Some((object, name)) = line.split_once(' ')
                    && name.starts_with("refs/tags/")
                {
                    found.insert(name.to_string(), object.to_string());
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    add_loose(&mirror.join("refs/tags"), "refs/tags", REF_DEPTH, &mut found)?;
    Ok(found)
}

fn add_loose(directory: &Path, prefix: &str, depth: usize, found: &mut Map<String, String>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}/{name}")) else { continue };
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                add_loose(&entry.path(), &name, depth - 1, found)?;
            }
        } else if !name.ends_with(".lock")
            && let Ok(object) = fs::read_to_string(entry.path())
            && sai_core::git_names::check_revision(object.trim()).is_ok()
        {
            found.insert(name, object.trim().to_string());
        }
    }
    Ok(())
}

fn update_submodules(mirror: &Mirror, workspace: &Workspace, watch: &mut dyn Watch) -> Result<(), Trouble> {
    watch.note("fetching submodules");
    // Submodules beside the repository, by relative URL, are reached with its credentials.
    let mut arguments: Vec<String> = Vec::new();
    let shown = without_credentials(mirror.url());
    if let (Some(secret), Some((scheme, rest))) = (mirror.secret(), shown.split_once("://")) {
        let host = rest.split('/').next().unwrap_or(rest);
        arguments.push("-c".to_string());
        arguments.push(format!("url.{scheme}://{secret}@{host}/.insteadOf={scheme}://{host}/"));
    }
    arguments.extend(["submodule", "--quiet", "update", "--init", "--recursive", "--force"].map(str::to_string));
    // A submodule may live where the repository itself may: files only for a repository that is one.
    let mut git = mirror.git();
    let all = "https:http:ssh:git";
    git.protocols = if git.protocols == "file" { "file:https:http:ssh:git" } else { all };
    git.run(&workspace.source, &arguments, watch).map_err(|error| match error {
        GitError::Failed(said) => {
            let text = GitError::Failed(mirror.secret().map_or(said.clone(), |secret| crate::git::hide(&said, secret)));
            Trouble::of_repository(format!("fetching submodules: {text}"))
        }
        error => Trouble::ours(format!("fetching submodules: {error}")),
    })
}
