//! A board → its owner, begun where there is none, and what that says of it: a thread for each board asks again and again.
//!
//! Nobody else of an agent begins an owner or a guard: what a supervisor starts dies with its job, and these outlive the agent itself.

use crate::boards::Bench;
use sai_buddy::frames::{Asked, Status};
use sai_buddy::visit::{self, Begins, Visit, Whose};
use sai_core::bench::Board;
use sai_core::ordered::Map;
use sai_core::session::Standing;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks at a board: as long as somebody waits for one that has become free, at most.
const LOOK: Duration = Duration::from_secs(1);
/// Time after which a mode that was not reached is tried again, which moves lines.
const AGAIN: Duration = Duration::from_secs(60);
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
    /// Watches these boards from now on, and no other. Who watches one that is described as before goes on.
    pub fn set(&mut self, bench: Option<&Bench>, tell: impl Fn(String, Standing) + Clone + Send + 'static) {
        let mut before = std::mem::take(&mut self.0);
        let Some(bench) = bench else { return };
        let whose = (PathBuf::from(&bench.place.file), PathBuf::from(&bench.place.run));
        for board in &bench.boards {
            let name = board.name.clone();
            let same = before.remove(&name).filter(|known| known.board == *board && known.whose == whose);
            let watcher = same.map_or_else(|| begin(board, whose.clone(), tell.clone()), Ok);
            match watcher {
                Ok(watcher) => drop(self.0.insert(name, watcher)),
                Err(error) => tell(name, Standing::Unknown(Some(format!("nobody can watch it: {error}")))),
            }
        }
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
    let own = board.clone();
    let builder = thread::Builder::new().name("board".into()).stack_size(STACK_BYTES);
    builder.spawn(move || watch(&whose_board, &own, &rung, &tell))?;
    Ok(Watcher { board: board.clone(), whose, bell })
}

fn watch(whose: &Whose, board: &Board, rung: &Receiver<()>, tell: &dyn Fn(String, Standing)) {
    let (mut visit, mut told, mut tried) = (None, None, None);
    loop {
        let standing = look(&mut visit, whose, board, &mut tried);
        if told.as_ref() != Some(&standing) {
            told = Some(standing.clone());
            tell(board.name.clone(), standing);
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

/// How a board stands now.
fn look(visit: &mut Option<Visit>, whose: &Whose, board: &Board, tried: &mut Option<Instant>) -> Standing {
    match ask(visit, whose) {
        Err(error) => {
            *visit = None;
            match error.kind() {
                // Another program has its tty, or its socket.
                ErrorKind::ResourceBusy | ErrorKind::AddrInUse => Standing::Busy(error.to_string()),
                _ => Standing::Unknown(Some(error.to_string())),
            }
        }
        Ok(status) => match stands(board, &status) {
            Stands::Lost if tried.is_some_and(|tried| tried.elapsed() < AGAIN) => {
                Standing::Unknown(Some("its mode is not known, and could not be reached".into()))
            }
            Stands::Lost => {
                *tried = Some(Instant::now());
                match visit.as_ref().map(|visit| reach(visit, board)) {
                    Some(Ok(())) => {
                        *tried = None;
                        Standing::Free
                    }
                    Some(Err(error)) => Standing::Unknown(Some(format!("its mode is not known: {error}"))),
                    None => Standing::Unknown(None),
                }
            }
            Stands::So(standing) => standing,
        },
    }
}

/// Asks a board's owner, which is begun where it is not there.
fn ask(visit: &mut Option<Visit>, whose: &Whose) -> io::Result<Status> {
    // One that died since is begun anew at once: it may be recording.
    let known = visit.take().and_then(|known| Some((status(&known).ok()?, known)));
    let (status, now) = match known {
        Some(known) => known,
        None => {
            let begun = Visit::begin(whose)?;
            (status(&begun)?, begun)
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

fn status(visit: &Visit) -> io::Result<Status> {
    let (told, _) = visit.answer(&Asked::new("status"))?;
    told.status.ok_or_else(|| io::Error::other("the owner says nothing of its board"))
}

#[derive(Debug, PartialEq, Eq)]
enum Stands {
    So(Standing),
    /// In no mode that is known.
    Lost,
}

/// What an owner's word says of its board.
fn stands(board: &Board, status: &Status) -> Stands {
    let gone = status.consoles.iter().find(|console| !console.there);
    Stands::So(match (&status.writer, gone) {
        (Some(writer), _) => Standing::Busy(writer.clone()),
        (None, Some(console)) => {
            let why = console.trouble.as_ref().map_or_else(String::new, |trouble| format!(": {trouble}"));
            Standing::Unknown(Some(format!("console {} is not there{why}", console.name)))
        }
        (None, None) if !status.guarded => Standing::Unknown(Some("no guard holds its lines".into())),
        (None, None) if status.mode.is_none() && !board.modes.is_empty() => return Stands::Lost,
        (None, None) => Standing::Free,
    })
}

/// The mode that a board of an unknown one is brought to: where it runs what is on it, else where it is off.
fn rest(board: &Board) -> Option<&str> {
    let then = board.flash.as_ref().and_then(|flash| flash.then.as_deref());
    let off = || board.modes.contains_key("off").then_some("off");
    then.or_else(off).or_else(|| board.modes.keys().next().map(String::as_str))
}

fn reach(visit: &Visit, board: &Board) -> io::Result<()> {
    let Some(mode) = rest(board) else { return Ok(()) };
    visit.answer(&Asked { name: Some(WRITER.into()), ..Asked::new("claim") })?;
    let moved = visit.moves(&Asked { name: Some(mode.into()), ..Asked::new("mode") }, &mut |_| {});
    let released = visit.answer(&Asked::new("release"));
    moved.map_err(|error| io::Error::new(error.kind(), format!("mode {mode}: {error}")))?;
    released.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_buddy::frames::ConsoleStatus;

    fn board(more: &str) -> Board {
        let text = format!(
            r#"{{ "boards": {{ "b": {{ "type": "t", "consoles": {{ "main": {{ "path": "/dev/pts/1", "baud": 9600 }} }}{more} }} }} }}"#
        );
        sai_core::bench::read("F", text.as_bytes()).expect("a bench").boards.remove(0)
    }

    fn status(writer: Option<&str>, mode: Option<&str>, there: bool) -> Status {
        let trouble = (!there).then(|| "unplugged".to_string());
        let consoles = vec![ConsoleStatus { name: "main".into(), offset: 0, there, trouble }];
        Status {
            board: "b".into(),
            process: 1,
            mode: mode.map(Into::into),
            writer: writer.map(Into::into),
            guarded: true,
            consoles,
        }
    }

    #[test]
    fn a_board_is_free_where_nobody_writes_all_is_there_and_its_mode_is_known() {
        let (plain, moded) =
            (board(""), board(r#", "modes": { "run": { "do": ["wait 1ms"] }, "off": { "do": ["wait 1ms"] } }"#));
        let so = Stands::So;
        assert_eq!(stands(&plain, &status(None, None, true)), so(Standing::Free));
        assert_eq!(stands(&plain, &status(Some("ann"), None, true)), so(Standing::Busy("ann".into())));
        let gone = "console main is not there: unplugged".to_string();
        assert_eq!(stands(&plain, &status(None, None, false)), so(Standing::Unknown(Some(gone))));
        assert_eq!(stands(&moded, &status(None, Some("run"), true)), so(Standing::Free));
        assert_eq!(stands(&moded, &status(None, None, true)), Stands::Lost);
        // What moves it now knows where it ends.
        assert_eq!(stands(&moded, &status(Some("judge"), None, true)), so(Standing::Busy("judge".into())));
        let unguarded = Status { guarded: false, ..status(None, Some("run"), true) };
        assert!(matches!(stands(&moded, &unguarded), Stands::So(Standing::Unknown(Some(_)))));
        assert_eq!((rest(&plain), rest(&moded)), (None, Some("off")));
        let flash = r#", "modes": { "run": { "do": ["wait 1ms"] }, "off": { "do": ["wait 1ms"] } }, "flash": { "with": "optiboot", "mode": "off", "then": "run" }"#;
        assert_eq!(rest(&board(flash)), Some("run"));
    }
}
