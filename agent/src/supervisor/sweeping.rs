//! Order to kill → every process of the job gone, by the steps that `sai_core::sweep` decides on.

use super::{BATCH_BYTES, Supervisor};
use crate::process_tree::{descendants, signal};
use rustix::process::{Signal, WaitOptions, wait};
use sai_core::record::Record;
use sai_core::run::Input;
use sai_core::sweep::{self, Sweep};
use std::time::Duration;

impl Supervisor {
    /// Goes on killing until no process is left, then reads the rest of their output.
    pub(super) fn sweep_on(&mut self) {
        let mut decided = Vec::with_capacity(1);
        let mut input = sweep::Input::Tick;
        loop {
            self.sweep.handle(self.now(), input, &mut decided);
            input = match decided.pop() {
                None => return,
                Some(sweep::Output::Kill) => {
                    kill_all();
                    self.look_at_children();
                    sweep::Input::Left { processes: descendants().len(), helping: self.helping }
                }
                Some(sweep::Output::Drain) if self.drain() => sweep::Input::Read,
                Some(sweep::Output::Drain) => {
                    self.make_room();
                    return;
                }
                Some(sweep::Output::Done { left }) => {
                    if left > 0 {
                        self.log(&Record::Note(format!("{left} processes of the job could not be killed")));
                    }
                    if let Some(exited) = self.exited.take() {
                        self.input(exited.input());
                    }
                    self.input(Input::Drained);
                    return;
                }
                Some(sweep::Output::Bug(what)) => return self.bug(what),
            };
        }
    }

    /// Reads what the pipes hold, which is bounded by their size. Tells whether all of it has had room on the disk.
    fn drain(&mut self) -> bool {
        while !self.backlog.is_full() {
            let read: usize = (0..self.pipes.len()).map(|at| self.read_pipe(at)).sum();
            if read == 0 {
                return true;
            }
            if self.batch.len() >= BATCH_BYTES {
                self.flush();
            }
        }
        false
    }

    /// Ends the job and ourselves without a verdict: the attempt is about to be forgotten.
    pub(super) fn vanish(&self) -> ! {
        self.teller.stop.ask();
        let (mut sweep, mut decided) = (Sweep::default(), Vec::new());
        let mut input = sweep::Input::Begin;
        loop {
            sweep.handle(self.now(), input, &mut decided);
            input = match decided.pop() {
                Some(sweep::Output::Kill) => {
                    kill_all();
                    // A helper thread's children are collected under its hands; it is of no more use.
                    while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
                    sweep::Input::Left { processes: descendants().len(), helping: false }
                }
                // Nobody will read what they have printed.
                Some(sweep::Output::Drain | sweep::Output::Done { .. } | sweep::Output::Bug(_)) => {
                    let _ = self.executor.cleanup();
                    std::process::exit(0);
                }
                None => {
                    let pause = sweep.deadline().map_or(0, |at| at.saturating_sub(self.now()));
                    std::thread::sleep(Duration::from_millis(pause));
                    sweep::Input::Tick
                }
            };
        }
    }
}

/// Kills every process below us.
fn kill_all() {
    for pid in descendants() {
        signal(pid, Signal::KILL);
    }
}
