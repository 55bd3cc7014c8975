//! Debian's source package `hello`, a real project nobody here wrote → a directory with its files.

use crate::process::program;
use crate::repository::{git, run};
use crate::world::World;
use std::path::{Path, PathBuf};
use std::process::Command;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hello").join(name)
}

/// Where the download is kept, in the target directory.
pub fn place() -> PathBuf {
    let target = program("sai-master").parent().and_then(Path::parent).expect("programs are in target").to_path_buf();
    let directory = target.join("showcase");
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// The source, downloaded once for each target directory.
pub fn source() -> PathBuf {
    let directory = place().join("hello");
    if !directory.exists() {
        // Renamed when whole, so that an interrupted download is not taken for one. Who comes second has nothing to do.
        let fresh = place().join(format!("hello-{}-{:?}", std::process::id(), std::thread::current().id()));
        run(Command::new(fixture("fetch")).arg(&fresh));
        if std::fs::rename(&fresh, &directory).is_err() {
            assert!(directory.exists(), "what was downloaded cannot be renamed");
            let _ = std::fs::remove_dir_all(&fresh);
        }
    }
    directory.join("source")
}

/// Commits the whole tree to a world's repository, ignored files too, with this saifile.
pub fn commit(world: &World, saifile: &str) {
    let work = &world.repository.work;
    run(Command::new("cp").arg("-a").arg(source().join(".")).arg(work));
    std::fs::write(work.join(".sai.json"), saifile).expect("a saifile");
    run(git(work).args(["add", "--all", "--force"]));
    world.repository.commit("Import GNU hello as Debian has it");
}
