//! Mirror + revision → the workspace's repository and files, complete in itself.
//!
//! What `git clone --local` does is done by hand here, since it is little: write the directory of a repository
//! (gitrepository-layout(5)), link the mirror's packs into it, list the refs. One git process then makes the files; that is all
//! that stands between a known revision and the first step.

use crate::cache::{REMOTE, SHALLOW};
use crate::executor::Workspace;
use crate::git::cause::{self, Cause};
use crate::git::tools::{quoted, strict};
use crate::git::{GitError, Watch};
use crate::mirror::{Mirror, PacksHeld, Trouble};
use sai_core::bundle::{Bundle, HEAD_BYTES, pack_begins};
use sai_core::git_names::branch;
use sai_core::ordered::Map;
use sai_core::ref_name;
use sai_core::secret::CloneUrl;
use sai_core::wire::Assignment;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Bytes that git tells of a pack: its name.
const TAKEN_BYTES: usize = 1 << 10;
/// Depth of directories below `refs/tags` that is looked into.
const REF_DEPTH: usize = 32;

/// Makes a job's workspace, from where `url` says, which has what the assignment's may not have any more: credentials.
///
/// # Errors
/// The spec's fault when the revision is not to be had, is no commit, or cannot be checked out for what is in it; else the
/// repository's trouble or ours.
pub fn check_out(
    mirrors: &Path,
    assignment: &Assignment,
    url: &CloneUrl,
    workspace: &Workspace,
    watch: &mut dyn Watch,
) -> Result<(), Trouble> {
    let disk = |error: io::Error| Trouble::disk("making the workspace", &error);
    for directory in [&workspace.source, &workspace.home, &workspace.temporary] {
        fs::create_dir_all(directory).map_err(disk)?;
    }
    let Assignment { repository, reference, revision, .. } = assignment;
    let mirror = Mirror::open(mirrors, repository, url, revision)?;
    if let Some(bundle) = &assignment.bundle {
        return check_out_sent(&mirror, bundle, assignment, workspace, watch);
    }
    let held = mirror.ensure(reference, revision, watch)?;
    match make_files(&mirror, held, assignment, workspace, watch) {
        Err(error) if cause::of_work(&error) == Cause::Copy => {
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
    note_pointers(&mirror, workspace, watch);
    Ok(())
}

fn explain(revision: &str, error: &GitError) -> Trouble {
    match error {
        GitError::Failed { said, .. } if said.contains("Cannot switch branch to a non-commit") => {
            Trouble::specs(format!("{revision} is no commit"))
        }
        error => match cause::of_work(error) {
            Cause::Content => Trouble::specs(format!("{revision} cannot be checked out: {}", cause::sentence(error))),
            Cause::Machine => Trouble::ours(format!("checking out {revision}: {error}")),
            // With a new mirror it is what the server has given.
            _ => Trouble::of_repository(format!("checking out {revision}: {error}")),
        },
    }
}

/// Makes a workspace of what somebody has sent: upon what of the repository it begins from, if it begins from anything.
fn check_out_sent(
    mirror: &Mirror,
    bundle: &Bundle,
    assignment: &Assignment,
    workspace: &Workspace,
    watch: &mut dyn Watch,
) -> Result<(), Trouble> {
    let disk = |error: io::Error| Trouble::disk("making the workspace", &error);
    let revision = &assignment.revision;
    let base = bundle.base.as_ref().map(|base| (base.reference.as_str(), base.revision.as_str()));
    let held = base.map(|(reference, base)| mirror.ensure(reference, base, watch)).transpose()?;
    write_repository(mirror, base, &workspace.source.join(".git")).map_err(disk)?;
    drop(held);
    let taken = take_in(mirror, &workspace.bundle(), workspace, watch);
    let _ = fs::remove_file(workspace.bundle());
    taken?;
    let checked_out =
        mirror.git().run(&workspace.source, &["checkout", "--quiet", "--force", "--detach", revision], watch);
    checked_out.map_err(|error| match cause::of_work(&error) {
        Cause::Machine => Trouble::ours(format!("checking out {revision}: {error}")),
        _ => Trouble::specs(format!("{revision} cannot be checked out of what was sent: {}", cause::sentence(&error))),
    })?;
    if assignment.submodules && workspace.source.join(".gitmodules").exists() {
        update_submodules(mirror, workspace, watch)?;
    }
    note_pointers(mirror, workspace, watch);
    Ok(())
}

/// Takes in the objects of a bundle, each looked at as if it were fetched, with all that it names there; and nothing but objects:
/// no name in the bundle becomes a ref.
fn take_in(mirror: &Mirror, bundle: &Path, workspace: &Workspace, watch: &mut dyn Watch) -> Result<(), Trouble> {
    let disk = |error: io::Error| Trouble::disk("what was sent", &error);
    let mut file = File::open(bundle).map_err(disk)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES).read_to_end(&mut head).map_err(disk)?;
    let pack = pack_begins(&head).map_err(|why| Trouble::specs(format!("what was sent cannot be taken: {why}")))?;
    file.seek(SeekFrom::Start(pack as u64)).map_err(disk)?;
    let strict = strict();
    let arguments = ["index-pack", "--stdin", "--fix-thin", &strict];
    let taken = mirror.git().feed(&workspace.source, &arguments, file, TAKEN_BYTES, watch);
    taken.map(drop).map_err(|error| match cause::of_work(&error) {
        Cause::Machine => Trouble::ours(format!("what was sent: {error}")),
        _ => Trouble::specs(format!("what was sent cannot be taken: {}", cause::sentence(&error))),
    })
}

fn make_files(
    mirror: &Mirror,
    held: PacksHeld,
    assignment: &Assignment,
    workspace: &Workspace,
    watch: &mut dyn Watch,
) -> Result<(), GitError> {
    write_repository(mirror, Some((&assignment.reference, &assignment.revision)), &workspace.source.join(".git"))
        .map_err(GitError::System)?;
    // Linked or copied, the packs are the workspace's own now.
    drop(held);
    mirror.git().run(&workspace.source, &["checkout", "--quiet", "--force", "--detach", &assignment.revision], watch)
}

/// Writes the directory of a repository: with what the mirror has, and this ref at this revision of it; or an empty one.
fn write_repository(mirror: &Mirror, tip: Option<(&str, &str)>, git: &Path) -> io::Result<()> {
    for directory in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "info"] {
        fs::create_dir_all(git.join(directory))?;
    }
    let objects = mirror.path().join("objects");
    for entry in tip.map(|_| fs::read_dir(&objects)).transpose()?.into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name();
        // Packs, and objects that lie loose in directories of two digits.
        if name == "pack" || name.len() == 2 {
            link_all(&entry.path(), &git.join("objects").join(&name))?;
        }
    }
    // After the packs: commits in it that are not in these packs do no harm, the other way round a history would have holes.
    if tip.is_some() {
        match fs::copy(mirror.path().join(SHALLOW), git.join(SHALLOW)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let url = quoted(mirror.url().shown());
    let configuration = format!(
        "[core]\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n{}[remote \"{REMOTE}\"]\n\turl = {url}\n\
         \tfetch = +refs/heads/*:refs/remotes/{REMOTE}/*\n",
        mirror.format(REMOTE)
    );
    fs::write(git.join("config"), configuration)?;
    fs::write(git.join("HEAD"), "ref: refs/heads/none\n")?;
    let mut refs = if tip.is_some() { tags(mirror.path())? } else { Map::new() };
    if let Some((reference, revision)) = tip
        && let Some(branch) = branch(reference).and_then(ref_name::bytes)
    {
        let name = [format!("refs/remotes/{REMOTE}/").as_bytes(), &branch].concat();
        refs.insert(name, revision.to_owned());
    }
    // Of refs that stand in each other's way only the first can be had; git would refuse to read the others' files.
    let lines = refs.iter().map(|(name, object)| [object.as_bytes(), b" ", name, b"\n"].concat());
    fs::write(git.join("packed-refs"), lines.collect::<Vec<_>>().concat())
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

/// The tags of a mirror, packed and loose: a name need not be UTF-8.
fn tags(mirror: &Path) -> io::Result<Map<Vec<u8>, String>> {
    let mut found = Map::new();
    match fs::read(mirror.join("packed-refs")) {
        Ok(text) => {
            for line in text.split(|byte| *byte == b'\n') {
                let Some(blank) = line.iter().position(|byte| *byte == b' ') else { continue };
                let (object, name) = (&line[..blank], &line[blank + 1..]);
                if name.starts_with(b"refs/tags/")
                    && let Ok(object) = std::str::from_utf8(object)
                {
                    found.insert(name.to_vec(), object.to_string());
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    add_loose(&mirror.join("refs/tags"), b"refs/tags", REF_DEPTH, &mut found)?;
    Ok(found)
}

fn add_loose(directory: &Path, prefix: &[u8], depth: usize, found: &mut Map<Vec<u8>, String>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = [prefix, b"/", entry.file_name().as_bytes()].concat();
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                add_loose(&entry.path(), &name, depth - 1, found)?;
            }
        } else if !name.ends_with(b".lock")
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
    let mut git = mirror.git();
    // A submodule may live where the repository itself may: files only for a repository that is one. One on the repository's
    // own host is reached with its credentials, any other without.
    let all = "https:http:ssh:git";
    git.protocols = if git.protocols == "file" { "file:https:http:ssh:git" } else { all };
    let arguments = ["submodule", "--quiet", "update", "--init", "--recursive", "--force"];
    git.run(&workspace.source, &arguments, watch).map_err(|error| match cause::of_submodules(&error) {
        Cause::Content => Trouble::specs(format!("a submodule cannot be fetched: {}", cause::sentence(&error))),
        Cause::Machine => Trouble::ours(format!("fetching submodules: {error}")),
        _ => Trouble::of_repository(format!("fetching submodules: {error}")),
    })
}

/// Bytes of a list of files that are kept elsewhere.
const LIST_BYTES: usize = 16 << 20;
/// Of how many of them is looked whether they are pointers, in a row.
const POINTERS: usize = 1000;
/// How a pointer begins, see the specification of Git LFS.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Tells of files whose content is elsewhere: Git LFS is not run at a checkout, since it would run a program of the machine's
/// with the network and the password, for what few steps need.
fn note_pointers(mirror: &Mirror, workspace: &Workspace, watch: &mut dyn Watch) {
    // Most repositories have no attributes at all, and need no process to find that out: the index lists all files by name.
    let index = fs::read(workspace.source.join(".git/index")).unwrap_or_default();
    if !index.split(|byte| *byte == b'.').any(|part| part.starts_with(b"gitattributes")) {
        return;
    }
    let arguments = ["ls-files", "-z", "--", ":(attr:filter=lfs)"];
    // A list that cannot be had is no reason not to build.
    let list = mirror.git().ask(&workspace.source, &arguments, b"", LIST_BYTES, watch).unwrap_or_default();
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).take(POINTERS);
    let mut pointers = names.filter(|name| is_pointer(&workspace.source.join(OsStr::from_bytes(name))));
    let Some(first) = pointers.next() else { return };
    let (count, first) = (1 + pointers.count(), ref_name::text(first));
    let more = if count >= POINTERS { " or more" } else { "" };
    watch.note(&format!(
        "this checkout has LFS pointers: {count}{more} files, such as {first}, hold the name of their content in Git LFS and \
         not the content; a step may get it by `git lfs pull`"
    ));
}

fn is_pointer(path: &Path) -> bool {
    let mut begin = [0; POINTER.len()];
    // What is no plain file may be a link to anything, or wait for a writer.
    fs::symlink_metadata(path).is_ok_and(|state| state.is_file())
        && File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok()
        && begin == POINTER
}
