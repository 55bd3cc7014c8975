//! What a trial wants done at its board → the same done through the board's owner, by a thread of its own: whoever listens does not
//! wait for a loader.

use crate::delivering::{self, Image, Said};
use crate::flash::{self, Failure};
use crate::frames::{Asked, Heard, SEND_BYTES, latin};
use crate::stop::{self, Stop};
use crate::visit::{Passed, Visit, Whose};
use rustix::event::{PollFd, PollFlags, poll};
use sai_core::bench::{Board, Flash};
use sai_core::trying::{Delivered, Way};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time within which bytes that were given to an owner are on the wire: those of a paced console take a while.
const SENT: Duration = Duration::from_secs(60);

/// Bytes of what tools print that are kept of a flash: they draw bars, and some tell each block.
const PRINTED_BYTES: usize = 1 << 20;

/// What is wanted.
#[derive(Debug)]
pub enum Order {
    /// The images are to get onto the board.
    Flash(Vec<Image>),
    /// Lines are to be moved.
    Move(Way),
    /// Bytes are to go to a console.
    Send(String, Vec<u8>),
}

/// What came of it.
#[derive(Debug)]
pub enum Report {
    /// An image is so far.
    Flashing(String, flash::Output),
    /// A tool has printed this.
    Printed(Vec<u8>),
    /// It has printed so many bytes more than are kept.
    PrintedMore(u64),
    /// The images are there, or are not.
    Flashed(Result<Delivered, Failure>),
    /// What could not be done of it, and keeps nothing else from being done.
    Noted(String),
    /// Lines were moved.
    Moved(io::Result<()>),
    /// Bytes went out.
    Sent(io::Result<()>),
}

/// See the file's first line. They let go of the board when they are dropped, after what was begun has ended.
#[derive(Debug)]
pub struct Hands {
    orders: Option<Sender<Order>>,
    reports: Receiver<Report>,
    /// Readable where there is a report.
    woken: UnixStream,
    /// Orders that have no last report yet.
    waiting: Cell<usize>,
    thread: Option<JoinHandle<()>>,
}

impl Hands {
    /// Takes hold of a board as one who writes by this name, until they are told to stop: what is under way is broken off then, and nothing else is begun.
    ///
    /// # Errors
    /// It has no owner that begins; `ResourceBusy` where somebody else writes to it.
    pub fn new(whose: &Whose, board: Board, stop: Stop, writer: &str) -> io::Result<Hands> {
        let visit = Visit::begin(whose)?.until(stop);
        visit.answer(&Asked { name: Some(writer.into()), ..Asked::new("claim") })?;
        let writer = writer.to_owned();
        let (give, orders) = channel();
        let (tell, reports) = channel();
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let report = move |report: Report| {
            // Where nobody takes it any more, nobody is to be woken.
            let _ = tell.send(report);
            let _ = rustix::io::write(&wake, &[0]);
        };
        let thread = thread::Builder::new().name("hands".into()).spawn(move || {
            for order in &orders {
                carry_out(&visit, &board, &writer, order, &report);
            }
        })?;
        Ok(Hands { orders: Some(give), reports, woken, waiting: Cell::new(0), thread: Some(thread) })
    }

    /// Has something done, after what was asked for before.
    pub fn ask(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.send(order).is_ok()
        {
            self.waiting.set(self.waiting.get() + 1);
        }
    }

    /// Can be read where there is a report.
    pub fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// The next report, if there is one.
    pub fn report(&self) -> Option<Report> {
        let mut bytes = [0; 64];
        let _ = rustix::io::read(&self.woken, &mut bytes);
        self.took(self.reports.try_recv().ok())
    }

    fn took(&self, report: Option<Report>) -> Option<Report> {
        let last = |report: &Report| matches!(report, Report::Flashed(_) | Report::Moved(_) | Report::Sent(_));
        if report.as_ref().is_some_and(last) {
            self.waiting.set(self.waiting.get().saturating_sub(1));
        }
        report
    }

    /// Waits until all is done that was asked for, or this word is said: whether it was before.
    pub fn wait(&self, word: &Stop) -> bool {
        while self.waiting.get() > 0 {
            let files = [self.woken()].into_iter().chain(word.file());
            let mut fds: Vec<PollFd<'_>> = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
            let _ = poll(&mut fds, None);
            while self.report().is_some() {}
            if self.waiting.get() > 0 && word.said() {
                return true;
            }
        }
        false
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry_out(visit: &Visit, board: &Board, writer: &str, order: Order, report: &dyn Fn(Report)) {
    if visit.stop().said() {
        return report(match order {
            Order::Flash(_) => Report::Flashed(Err(Failure::new(flash::Whose::Tool, stop::given_up().to_string()))),
            Order::Move(_) => Report::Moved(Err(stop::given_up())),
            Order::Send(..) => Report::Sent(Err(stop::given_up())),
        });
    }
    let claim = |name: &str| visit.answer(&Asked { name: Some(name.into()), ..Asked::new("claim") }).map(drop);
    report(match order {
        Order::Flash(images) => {
            let how: Option<&Flash> = board.flash.as_ref();
            let (mut room, mut more) = (PRINTED_BYTES, 0);
            let flashed = match how {
                Some(how) => delivering::bring(visit, board, how, images, &mut |image, said| match said {
                    Said::Loader(output) => report(Report::Flashing(image.name.clone(), output.clone())),
                    Said::Tool(bytes) => {
                        let (kept, over) = bytes.split_at(bytes.len().min(room));
                        (room, more) = (room - kept.len(), more + over.len() as u64);
                        if !kept.is_empty() {
                            report(Report::Printed(kept.to_vec()));
                        }
                    }
                }),
                None => Err(Failure::new(flash::Whose::Tool, "the board has no \"flash\"")),
            };
            if more > 0 {
                report(Report::PrintedMore(more));
            }
            // What is sent from here on is its own again.
            let flashed = flashed.and_then(|flashed| match claim(writer) {
                Ok(()) => Ok(flashed),
                Err(error) => Err(Failure::new(flash::Whose::Wiring, error.to_string())),
            });
            Report::Flashed(flashed)
        }
        Order::Move(way) => {
            let (word, name) = way.words();
            let asked = Asked { name: Some(name.to_string()), ..Asked::new(word) };
            Report::Moved(visit.moves(&asked, &mut |passed| {
                if let Passed::Note(note) = passed {
                    report(Report::Noted(note.to_string()));
                }
            }))
        }
        Order::Send(console, bytes) => Report::Sent(send(visit, &console, &bytes)),
    });
}

fn send(visit: &Visit, console: &str, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(SEND_BYTES) {
        visit.ask(&Asked { console: Some(console.into()), text: Some(latin(piece)), ..Asked::new("send") })?;
        let began = Instant::now();
        loop {
            let left = SENT.saturating_sub(began.elapsed());
            let Some((heard, _)) = visit.hear(left)? else {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the owner of the board sends nothing"));
            };
            // What else is said is no answer to this.
            let Heard::Told(told) = heard else { continue };
            match (told.t.as_str(), told.to.as_deref()) {
                ("sent", Some("send")) => break,
                ("failed" | "refused", Some("send")) => return Err(io::Error::other(told.why.unwrap_or_default())),
                _ => {}
            }
        }
    }
    Ok(())
}
