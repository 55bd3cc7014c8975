//! A board → its owner, begun where there is none, and what that says of it: a thread for each board asks again and again.
//!
//! Nobody else of an agent begins an owner or a guard: what a supervisor starts dies with its job, and these outlive the agent itself.

use crate::boards::Bench;
use sai_buddy::frames::{Asked, Status};
use sai_buddy::serial::monotonic_ns;
use sai_buddy::visit::{self, Begins, Visit, Whose};
use sai_core::attending::{Attending, Input, Output};
use sai_core::bench::Board;
use sai_core::ordered::Map;
use sai_core::session::Standing;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Time between two looks at a board: as long as somebody waits for one that has become free, at most.
const LOOK: Duration = Duration::from_secs(1);
/// The program that owners and guard are made of: our own, whose command line [`super::hosted`] understands.
const PROGRAM: &str = "/proc/self/exe";
/// What an agent moves lines as.
const WRITER: &str = "agent";
/// Bytes of stack of a thread that watches.
const STACK_BYTES: usize = 256 << 10;

/// Those who watch the boards of an agent. A board is watched no more when its own is dropped.
#[derive(Debug, Default)]
pub struct Watchers(Map<String, Watcher>);

#[derive(Debug)]
struct Watcher {
    board: Board,
    whose: (PathBuf, PathBuf),
    bell: SyncSender<()>,
}

impl Watchers {
    /// Watches these boards from now on, and no other. Who watches one that is described as before goes on; gives the names of the
    /// others, of which nothing is known yet.
    pub fn set(
        &mut self,
        bench: Option<&Bench>,
        tell: impl Fn(String, Standing) + Clone + Send + 'static,
    ) -> Vec<String> {
        let mut before = std::mem::take(&mut self.0);
        let mut anew = Vec::new();
        let Some(bench) = bench else { return anew };
        let whose = (PathBuf::from(&bench.place.file), PathBuf::from(&bench.place.run));
        for board in &bench.boards {
            let name = board.name.clone();
            let same = before.remove(&name).filter(|known| known.board == *board && known.whose == whose);
            if same.is_none() {
                anew.push(name.clone());
            }
            let watcher = same.map_or_else(|| begin(board, whose.clone(), tell.clone()), Ok);
            match watcher {
                Ok(watcher) => drop(self.0.insert(name, watcher)),
                Err(error) => tell(name, Standing::Unknown(Some(format!("nobody can watch it: {error}")))),
            }
        }
        anew
    }

    /// Has a board looked at now: something has become of it.
    pub fn look(&self, board: &str) {
        if let Some(watcher) = self.0.get(board) {
            // A full bell has not been heard yet and will be.
            let _ = watcher.bell.try_send(());
        }
    }
}

fn begin(
    board: &Board,
    whose: (PathBuf, PathBuf),
    tell: impl Fn(String, Standing) + Send + 'static,
) -> io::Result<Watcher> {
    let (bell, rung) = sync_channel(1);
    let (file, directory) = whose.clone();
    // The program as it runs, whatever has taken its place since.
    let begins = Begins::Program(vec![PROGRAM.into()]);
    let whose_board = Whose { file: file.into_os_string(), board: board.name.clone(), directory, begins };
    let mut attending = Attending::new(board.clone());
    let name = board.name.clone();
    let builder = thread::Builder::new().name("board".into()).stack_size(STACK_BYTES);
    builder.spawn(move || watch(&whose_board, &name, &mut attending, &rung, &tell))?;
    Ok(Watcher { board: board.clone(), whose, bell })
}

fn watch(whose: &Whose, name: &str, attending: &mut Attending, rung: &Receiver<()>, tell: &dyn Fn(String, Standing)) {
    let (mut visit, mut told) = (None, None);
    loop {
        let standing = look(&mut visit, whose, attending);
        if told.as_ref() != Some(&standing) {
            told = Some(standing.clone());
            tell(name.to_string(), standing);
        }
        match rung.recv_timeout(LOOK) {
            // Who asks for it wants to hear that it is as before, too.
            Ok(()) => told = None,
            Err(RecvTimeoutError::Timeout) => {}
            // It is offered no more, or by somebody else.
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// How a board stands now, once done is what there is to be done at it.
fn look(visit: &mut Option<Visit>, whose: &Whose, attending: &mut Attending) -> Standing {
    let mut next = Some(asked(visit, whose));
    let mut standing = Standing::default();
    while let Some(input) = next.take() {
        let renewed = input == Input::Renewed(Ok(()));
        let mut out = Vec::new();
        attending.handle(monotonic_ns() / 1_000_000, input, &mut out);
        for output in out {
            match output {
                Output::Stand(stands) => standing = stands,
                Output::Reach(mode) => next = Some(Input::Reached(text(reach(visit.as_ref(), &mode)))),
                Output::Renew => next = Some(Input::Renewed(text(renew(visit, whose)))),
            }
        }
        if renewed {
            next = Some(asked(visit, whose));
        }
    }
    standing
}

fn text(done: io::Result<()>) -> Result<(), String> {
    done.map_err(|error| error.to_string())
}

fn asked(visit: &mut Option<Visit>, whose: &Whose) -> Input {
    ask(visit, whose).map(Input::Said).unwrap_or_else(|error| {
        *visit = None;
        // Another program has its tty, or its socket.
        let busy = matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::AddrInUse);
        Input::Silent { busy, why: error.to_string() }
    })
}

/// Asks a board's owner, which is begun where it is not there.
fn ask(visit: &mut Option<Visit>, whose: &Whose) -> io::Result<Status> {
    // One that died since is begun anew at once: it may be recording.
    let known = visit.take().and_then(|known| Some((known.status().ok()?, known)));
    let (status, now) = match known {
        Some(known) => known,
        None => {
            let begun = Visit::begin(whose)?;
            (begun.status()?, begun)
        }
    };
    *visit = Some(now);
    if status.guarded {
        return Ok(status);
    }
    // The owner finds the new one by itself, a moment later.
    visit::begin_guard(whose)?;
    Ok(status)
}

fn renew(visit: &mut Option<Visit>, whose: &Whose) -> io::Result<()> {
    // Whatever comes of it, the owner is found anew.
    let before = visit.take().map_or_else(|| Visit::begin(whose), Ok)?;
    *visit = Some(before.renew(whose, WRITER)?);
    Ok(())
}

fn reach(visit: Option<&Visit>, mode: &str) -> io::Result<()> {
    let visit = visit.ok_or_else(|| io::Error::other("its owner is gone"))?;
    visit.answer(&Asked { name: Some(WRITER.into()), ..Asked::new("claim") })?;
    let moved = visit.moves(&Asked { name: Some(mode.into()), ..Asked::new("mode") }, &mut |_| {});
    let released = visit.answer(&Asked::new("release"));
    moved.map_err(|error| io::Error::new(error.kind(), format!("mode {mode}: {error}")))?;
    released.map(drop)
}
