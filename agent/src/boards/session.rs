//! A session at a board, and the connection of the step or the words of the person who asked for it → what they ask done there, all that
//! happens as records of the session's log, and its verdict.

use crate::boards::Work;
use crate::boards::getting::{Getting, Named, named};
use crate::boards::person::Person;
use crate::boards::talk::{Said, WORDS};
use crate::boards::trial::{Kept, NO_ROOM, gone};
use crate::git::Stop;
use crate::mirror::Trouble;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use sai_buddy::delivering::Image;
use sai_buddy::flash::{self, IMAGE_BYTES};
use sai_buddy::frames::{latin, of_latin};
use sai_buddy::link::Link;
use sai_buddy::listening::{Event, Listening};
use sai_buddy::ports::Places;
use sai_buddy::serial::{boottime_ns, monotonic_ns, realtime_ns};
use sai_buddy::stop;
use sai_buddy::trying::hands::{Hands, Order, Report};
use sai_buddy::trying::watch::Watch;
use sai_buddy::visit::{Begins, Whose};
use sai_core::axis::{Answer, Clock, Entry, Progress};
use sai_core::bench::{Board, Switch, Target};
use sai_core::bug;
use sai_core::job::{Blame, Fault, Outcome, Verdict};
use sai_core::lending::{Asker, Input, Lending, Output, WRITER, Word};
use sai_core::ordered::Map;
use sai_core::pattern::Pattern;
use sai_core::record::Record;
use sai_core::trying::{Way, Written};
use sai_core::wire::SessionOf;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSliceMut, Read as _, Seek as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that wait for the command to read them from a tty at most; the log has those beyond, too.
const UNREAD_BYTES: usize = 64 * 1024;
/// Bytes of a tty that are taken at once, and of a console that one message has.
const PIECE_BYTES: usize = 1024;
/// Time in which the supervisor of the build hands the connection over.
const HANDED: Duration = Duration::from_secs(10);
/// Nanoseconds between two looks at lines.
const LOOK_NS: u64 = 1_000_000_000;

impl Work {
    /// Lends the board to whoever asked for it, until that one has ended or `stop` is asked for, which gives no verdict.
    ///
    /// # Errors
    /// What keeps it from being begun, and whose fault that is.
    pub(super) fn lend(
        self,
        stop: &Stop,
        room: &dyn Fn() -> bool,
        log: &mut dyn FnMut(Vec<u8>) -> io::Result<()>,
    ) -> Result<Option<Verdict>, Trouble> {
        let at = self.assignment.board.as_ref().ok_or_else(|| Trouble::ours("the session is at no board"))?;
        let person = self.assignment.lease.clone();
        let place = self.place.clone().ok_or_else(|| gone(&at.name))?;
        let mut boards = self.boards(at, &place)?;
        let (Some(board), true) = (boards.pop(), boards.is_empty()) else {
            return Err(Trouble::specs(format!("{} has several boards, and a session has one", at.name)));
        };
        let ours = |error: io::Error| Trouble::disk("beginning at the board", &error);
        let (stops, hears) = stop::Stop::pair().map_err(ours)?;
        let (file, directory) = (place.file.into(), place.run.into());
        let whose = Whose { file, board: board.name.clone(), directory, begins: Begins::Never };
        let hands =
            Hands::new(&whose, board.clone(), hears, person.as_deref().unwrap_or(WRITER)).map_err(
                |error| match error.kind() {
                    // Somebody at the machine was faster.
                    ErrorKind::ResourceBusy => Trouble { blame: Blame::Nobody, ..Trouble::ours(error.to_string()) },
                    _ => Trouble::of_platform(error.to_string()),
                },
            )?;
        let begun = |error: io::Error| Trouble::of_platform(error.to_string());
        let listening = Listening::new(whose, None, false).map_err(begun)?;
        let watch = Watch::new(&board, &Places::default()).map_err(begun)?;
        let holder = match (&person, self.words, &self.build, &self.assignment.session) {
            (Some(_), Some(words), ..) => Some(Holder::Person(Person::new(words))),
            (Some(_), None, ..) => return Err(Trouble::ours("there is no socket for what its person says")),
            (None, _, Some(build), Some(of)) => come_for(build, of).map_err(ours)?.map(Holder::Step),
            _ => None,
        };
        let Some(holder) = holder else {
            let cause = "whoever asked for it is gone".to_string();
            let (outcome, fault) = (Outcome::Cancelled, Fault::Person);
            let verdict = Verdict { outcome, fault, cause, step: None, status: None, trouble: None, verdict: None };
            return Ok(Some(verdict));
        };
        let lending = Lending::new(board.clone(), self.began_ns);
        let mut lent = Lent {
            lending: if person.is_some() { lending.to_a_person() } else { lending },
            began_ns: self.began_ns,
            listening,
            hands,
            stops: Some(stops),
            watch,
            holder,
            words: Map::new(),
            last: 0,
            ttys: Vec::new(),
            images: self.images.clone(),
            getting: Getting::new(self.getter),
            wanted: Vec::new(),
            got: Vec::new(),
            blamed: None,
            copies: Vec::new(),
            kept: Kept::new(self.assignment.log_bytes, board.consoles.len() + board.lines.len()),
            log,
            room,
            fills: false,
            board,
            stopped: false,
            ended: None,
        };
        let mut verdict = lent.whole(stop);
        let Lent { kept, log, holder, hands, .. } = lent;
        let (full, beyond) = (kept.full, kept.beyond());
        if !beyond.is_empty() {
            // Who takes records no more is no worse off without these.
            let _ = log(beyond);
        }
        if let Some(verdict) = verdict.as_mut().filter(|verdict| full && verdict.outcome == Outcome::Infra) {
            // No board is the worse for it.
            verdict.trouble = Blame::Agent.word();
        }
        // The board is let go of before whoever had it goes on.
        drop(hands);
        let infra = verdict.as_ref().filter(|verdict| verdict.outcome == Outcome::Infra);
        let said = match (&verdict, infra) {
            (_, Some(infra)) => Said { why: Some(infra.cause.clone()), ..Said::new("refused") },
            (None, _) => Said { why: Some("the session was cancelled".to_string()), ..Said::new("refused") },
            (Some(_), None) => Said::new("over"),
        };
        if let Holder::Step(link) = holder {
            let _ = said.send(&link, &[]);
        }
        Ok(verdict)
    }
}

/// Comes for the connection of a step, to the supervisor of its build: none where it is gone.
fn come_for(mut socket: &UnixStream, of: &SessionOf) -> io::Result<Option<Link>> {
    io::Write::write_all(&mut socket, format!("D {}\n", of.number).as_bytes())?;
    socket.set_read_timeout(Some(HANDED))?;
    // What it tells every agent comes first, line by line.
    let mut line = Vec::new();
    loop {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(socket, slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut files) = message
                && let Some(file) = files.next()
            {
                return Ok(Some(Link::again(file)));
            }
        }
        line.extend_from_slice(bytes.get(..received.bytes).unwrap_or_default());
        if received.bytes == 0 || line.split(|byte| *byte == b'\n').any(|line| line == b"N") {
            return Ok(None);
        }
        let rest = line.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        line.drain(..rest);
    }
}

/// Who has the board.
enum Holder {
    /// A step of a build, by this connection.
    Step(Link),
    /// A person.
    Person(Person),
}

impl Holder {
    /// What can be read when whoever has the board says something.
    fn file(&self) -> BorrowedFd<'_> {
        match self {
            Holder::Step(link) => link.as_fd(),
            Holder::Person(person) => person.words(),
        }
    }
}

/// A tty of the command.
struct Tty {
    master: OwnedFd,
    unread: Vec<u8>,
    lost: u64,
}

/// A word of the command.
struct Spoken {
    link: Link,
    images: Vec<Image>,
}

struct Lent<'a> {
    lending: Lending,
    began_ns: u64,
    listening: Listening,
    hands: Hands,
    /// Has the hands break off what they do, when it is dropped.
    stops: Option<UnixStream>,
    watch: Watch,
    holder: Holder,
    words: Map<Asker, Spoken>,
    last: Asker,
    ttys: Vec<Tty>,
    /// Where images are kept, and which of them, until the word that brought them is answered: a step may flash as often as it likes.
    images: PathBuf,
    getting: Getting,
    /// Those that a word has named and that are still to be got, or are there.
    wanted: Vec<Named>,
    got: Vec<Image>,
    /// Whose fault it is that a flash failed, until its word is answered.
    blamed: Option<&'static str>,
    copies: Vec<(Asker, PathBuf)>,
    kept: Kept,
    log: &'a mut dyn FnMut(Vec<u8>) -> io::Result<()>,
    /// Whether there is room for more of it, and whether that has just come to its end.
    room: &'a dyn Fn() -> bool,
    fills: bool,
    board: Board,
    stopped: bool,
    ended: Option<Option<Verdict>>,
}

impl Lent<'_> {
    fn whole(&mut self, stop: &Stop) -> Option<Verdict> {
        self.happens(Input::Begin);
        let names = self.board.consoles.iter().map(|console| console.name.clone()).collect();
        let given = Said { name: Some(self.board.name.clone()), names: Some(names), ..Said::new("given") };
        if let Holder::Step(link) = &self.holder
            && given.send(link, &[]).is_err()
        {
            self.happens(Input::Gone);
        }
        loop {
            if let Some(verdict) = self.ended.take() {
                return verdict;
            }
            if let Err(error) = self.turn(stop) {
                self.happens(Input::Trouble(error.to_string()));
            }
        }
    }

    fn happens(&mut self, input: Input) {
        let now = Clock { monotonic_ns: monotonic_ns(), boottime_ns: boottime_ns(), realtime_ns: realtime_ns() };
        let mut out = Vec::new();
        self.lending.handle(now, input, &mut out);
        for output in out {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Write(micros, written) => self.write(micros, &written),
            Output::Get(asker) => {
                let images = std::mem::take(&mut self.wanted);
                self.copies.extend(images.iter().map(|image| (asker, image.path.clone())));
                if let Err(why) = self.getting.begin(asker, images) {
                    self.happens(Input::Got(Err(why)));
                }
            }
            Output::Flash(asker) => {
                let images = self.words.get_mut(&asker).map(|word| std::mem::take(&mut word.images));
                self.hands.ask(Order::Flash(images.unwrap_or_else(|| std::mem::take(&mut self.got))));
            }
            Output::Blame(_, whose) => self.blamed = Some(whose),
            Output::Move(way) => self.hands.ask(Order::Move(way)),
            Output::Send(console, bytes) => self.hands.ask(Order::Send(console, bytes)),
            Output::Give(console, bytes) => {
                if let Some(tty) = self.ttys.get_mut(usize::from(console)) {
                    let room = UNREAD_BYTES.saturating_sub(tty.unread.len()).min(bytes.len());
                    tty.unread.extend_from_slice(bytes.get(..room).unwrap_or_default());
                    tty.lost += (bytes.len() - room) as u64;
                    feed(tty);
                }
            }
            Output::Had(asker, bytes) => {
                for piece in bytes.chunks(PIECE_BYTES) {
                    self.tell(asker, &Said { text: Some(latin(piece)), ..Said::new("had") });
                }
            }
            Output::Tell(asker, text) => self.tell(asker, &Said { text: Some(text), ..Said::new("note") }),
            Output::Done(asker, found) => {
                for (_, copy) in self.copies.extract_if(.., |(of, _)| *of == asker) {
                    let _ = fs::remove_file(copy);
                }
                if let Holder::Person(person) = &mut self.holder {
                    if let Some((writer, number)) = person.asked.remove(&asker) {
                        self.answer(writer, number, found);
                    }
                    return;
                }
                let said = match found {
                    Ok(found) => Said { text: Some(latin(&found)), ..Said::new("done") },
                    Err(why) => Said { why: Some(why), ..Said::new("done") },
                };
                self.tell(asker, &said);
                self.words.remove(&asker);
            }
            Output::Stop => self.stops = None,
            Output::End(verdict) => {
                let lost: u64 = self.ttys.iter().map(|tty| tty.lost).sum();
                if lost > 0 {
                    let text = format!("the command did not read {lost} bytes of its ttys in time");
                    self.write(0, &Written::Record(Record::Note(text)));
                }
                self.ended = Some(verdict);
            }
            Output::Bug(what) => {
                self.write(0, &Written::Record(Record::Note(bug::sentence(what))));
                crate::end_of_tests();
            }
        }
    }

    /// Tells a person what became of a word, in the log.
    fn answer(&mut self, writer: String, number: u64, found: Result<Vec<u8>, String>) {
        let (found, why) = match found {
            Ok(found) => (Some(latin(&found)).filter(|found| !found.is_empty()), None),
            Err(why) => (None, Some(why)),
        };
        let whose = self.blamed.take().filter(|_| why.is_some()).map(str::to_string);
        let answer = Answer { writer, number, found, why, whose };
        let micros = monotonic_ns().saturating_sub(self.began_ns) / 1000;
        self.write(micros, &Written::Entry(Entry::Answer(answer)));
    }

    fn write(&mut self, micros: u64, written: &Written) {
        self.fills |= self.kept.fills(written, self.room);
        let bytes = self.kept.encode(micros, 0, written);
        if !bytes.is_empty() {
            // The log ends with its supervisor, which then wants nothing of it any more.
            let _ = (self.log)(bytes);
        }
    }

    /// Tells a word something; one that does not read is no more.
    fn tell(&mut self, asker: Asker, said: &Said) {
        if let Some(word) = self.words.get(&asker)
            && said.send(&word.link, &[]).is_err()
        {
            self.words.remove(&asker);
            self.happens(Input::Left(asker));
        }
    }

    fn turn(&mut self, stop: &Stop) -> io::Result<()> {
        let ready = self.wait(stop)?;
        while let Some(event) = self.listening.next(Duration::ZERO)? {
            match event {
                Event::Entry(console, entry) => self.happens(Input::Had(console, entry)),
                Event::Told(_) => {}
                Event::Replaced => self.happens(Input::Replaced),
            }
        }
        let mut entries = Vec::new();
        self.watch.take(&mut entries)?;
        self.watch.settle(monotonic_ns(), &mut entries);
        entries.into_iter().for_each(|(ns, entry)| self.happens(Input::Lines(ns, entry)));
        while let Some(report) = self.hands.report() {
            self.reported(report);
        }
        if ready {
            self.hear_step()?;
            self.hear_person();
        }
        self.hear_words();
        if let Some((_, got)) = self.getting.take() {
            let read = got.and_then(|images| images.iter().map(|image| self.read(&image.name, &image.path)).collect());
            let got = read.map(|images| self.got = images);
            self.happens(Input::Got(got));
        }
        self.pass();
        if stop.asked() && !self.stopped {
            self.stopped = true;
            self.happens(Input::Cancel);
        }
        if std::mem::take(&mut self.fills) {
            self.happens(Input::Trouble(NO_ROOM.to_string()));
        }
        self.happens(Input::Tick);
        Ok(())
    }

    /// Waits for something: whether the step has said something.
    fn wait(&self, stop: &Stop) -> io::Result<bool> {
        let now = monotonic_ns();
        let look = if self.watch.is_empty() { u64::MAX } else { now.saturating_add(LOOK_NS) };
        let left = self.lending.deadline().unwrap_or(u64::MAX).min(look).saturating_sub(now).min(60 * LOOK_NS);
        let time = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 };
        let mut fds = vec![PollFd::from_borrowed_fd(self.holder.file(), PollFlags::IN)];
        let files = [self.listening.as_fd(), self.hands.woken()].into_iter().chain(self.watch.files());
        let files = files.chain(self.getting.file());
        let words = self.words.values().map(|word| word.link.as_fd());
        let stop = Some(stop.as_fd()).filter(|_| !self.stopped);
        let all = files.chain(words).chain(stop);
        fds.extend(all.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)));
        for (number, tty) in (0_u8..).zip(&self.ttys) {
            let mut flags = if self.lending.takes_typed(number) { PollFlags::IN } else { PollFlags::empty() };
            if !tty.unread.is_empty() {
                flags |= PollFlags::OUT;
            }
            if !flags.is_empty() {
                fds.push(PollFd::new(&tty.master, flags));
            }
        }
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(fds.first().is_some_and(|link| !link.revents().is_empty())),
        }
    }

    fn reported(&mut self, report: Report) {
        let text = |result: io::Result<()>| result.map_err(|error| error.to_string());
        self.happens(match report {
            Report::Flashing(_, flash::Output::Progress(progress)) => {
                let (phase, done, of) = (progress.phase.word().to_string(), progress.done, progress.of);
                Input::Progress(Progress { phase, done, of })
            }
            Report::Flashing(image, flash::Output::Note(note)) => Input::Note(format!("{image}: {note}")),
            Report::Flashing(..) => return,
            Report::Printed(bytes) => Input::Printed(bytes),
            Report::PrintedMore(lost) => Input::PrintedMore(lost),
            Report::Flashed(flashed) => Input::Flashed(flashed),
            Report::Noted(note) => Input::Note(note),
            Report::Moved(moved) => Input::Moved(text(moved)),
            Report::Sent(sent) => Input::Sent(text(sent)),
        });
    }

    fn hear_person(&mut self) {
        while let Holder::Person(person) = &mut self.holder
            && let Some((writer, number, said)) = person.next()
        {
            self.last += 1;
            let asker = self.last;
            person.asked.insert(asker, (writer.clone(), number));
            let said = Said::decode(said.as_bytes()).ok_or_else(|| "expected a word".to_string());
            match said.and_then(|said| self.of_person(asker, said)) {
                Ok(Some(word)) => self.happens(Input::Asked(asker, word)),
                // It is said to be over before it is.
                Ok(None) => {
                    self.carry_out(Output::Done(asker, Ok(Vec::new())));
                    self.happens(Input::Ended(0));
                }
                Err(why) => self.carry_out(Output::Done(asker, Err(why))),
            }
        }
    }

    /// What a person asks for; nothing where that one gives the board back.
    fn of_person(&mut self, asker: Asker, said: Said) -> Result<Option<Word>, String> {
        match said.t.as_str() {
            "release" => Ok(None),
            // It takes the place of what was said so long ago that nobody expects it any more.
            "late" => Err("it came too late, and was not done".to_string()),
            "flash" => {
                let images = named(asker, &said, &self.images)?;
                let place = |image: &Named| {
                    let (target, name, place) = self.place(&image.name)?;
                    // Nothing is got that cannot fit.
                    let fits = flash::check_length(image.size(), place.size);
                    fits.map(|()| (target, name.clone())).map_err(|failure| format!("{name}: {}", failure.text))
                };
                let places = images.iter().map(place).collect::<Result<_, String>>()?;
                self.wanted = images;
                Ok(Some(Word::Get(places, said.unverified == Some(true))))
            }
            // The log has all that a console says.
            "listen" => Err(format!("this agent takes no {:?} of a person", said.t)),
            _ => self.word(asker, said, Vec::new()).map(Some),
        }
    }

    fn hear_step(&mut self) -> io::Result<()> {
        loop {
            let Holder::Step(link) = &self.holder else { return Ok(()) };
            let message = match link.receive() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(Some(message)) => message,
                // What talks too much is as good as gone.
                Ok(None) | Err(_) => {
                    self.happens(Input::Gone);
                    return Ok(());
                }
            };
            let Some(said) = Said::decode(&message.bytes) else { continue };
            match said.t.as_str() {
                "ttys" if self.ttys.is_empty() => {
                    for master in message.files.into_iter().take(self.board.consoles.len()) {
                        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
                        self.ttys.push(Tty { master, unread: Vec::new(), lost: 0 });
                    }
                }
                "word" if self.words.len() < WORDS => {
                    for socket in message.files {
                        self.last += 1;
                        self.words.insert(self.last, Spoken { link: Link::again(socket), images: Vec::new() });
                    }
                }
                "ended" => self.happens(Input::Ended(said.status.unwrap_or(1))),
                // A word too many is closed, and sees that.
                _ => {}
            }
        }
    }

    fn hear_words(&mut self) {
        let askers: Vec<Asker> = self.words.keys().copied().collect();
        for asker in askers {
            let Some(word) = self.words.get(&asker) else { continue };
            let message = match word.link.receive() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Ok(Some(message)) => message,
                Ok(None) | Err(_) => {
                    self.words.remove(&asker);
                    self.happens(Input::Left(asker));
                    continue;
                }
            };
            let asked = Said::decode(&message.bytes).ok_or_else(|| "expected a word".to_string());
            match asked.and_then(|said| self.word(asker, said, message.files)) {
                Ok(word) => self.happens(Input::Asked(asker, word)),
                Err(why) => self.carry_out(Output::Done(asker, Err(why))),
            }
        }
    }

    fn word(&mut self, asker: Asker, said: Said, files: Vec<OwnedFd>) -> Result<Word, String> {
        let name = || said.name.clone().ok_or_else(|| "expected a name".to_string());
        Ok(match said.t.as_str() {
            "flash" => Word::Flash(self.take_images(asker, &said.names.unwrap_or_default(), files)?),
            "play" => Word::Move(Way::Play(name()?)),
            "mode" => Word::Move(Way::Mode(name()?)),
            "power" => Word::Move(Way::Power(Switch::of(&name()?)?)),
            "send" => {
                let bytes = said.text.as_deref().and_then(of_latin).filter(|bytes| !bytes.is_empty());
                Word::Send(said.console, bytes.ok_or("expected bytes to send")?)
            }
            "expect" => {
                let pattern = Pattern::new(said.text.as_deref().unwrap_or_default());
                let pattern = pattern.map_err(|expected| format!("expected {expected}"))?;
                Word::Expect(said.console, pattern, said.ms.unwrap_or(0))
            }
            "listen" => Word::Listen(said.console),
            other => return Err(format!("this agent knows no word {other:?}")),
        })
    }

    /// Keeps the images that a word has brought as files of our own: what they are is settled by that.
    fn take_images(
        &mut self,
        asker: Asker,
        names: &[String],
        files: Vec<OwnedFd>,
    ) -> Result<Vec<(String, String)>, String> {
        if names.is_empty() || names.len() != files.len() {
            return Err("expected a file to flash".to_string());
        }
        let (mut images, mut told) = (Vec::new(), Vec::new());
        for (index, (name, file)) in names.iter().zip(files).enumerate() {
            let (target, called, _) = self.place(name)?;
            let path = self.images.join(format!("image-{asker}-{index}"));
            self.copies.push((asker, path.clone()));
            copy(File::from(file), &path).map_err(|error| format!("{called}: {error}"))?;
            images.push(self.read(name, &path)?);
            told.push((target, called));
        }
        if let Some(word) = self.words.get_mut(&asker) {
            word.images = images;
        }
        Ok(told)
    }

    /// Where an image belongs and what it is called, by `TARGET=NAME`, or by `=NAME` in the first place.
    fn place(&self, name: &str) -> Result<(String, String, &Target), String> {
        let how = self.board.flash.as_ref().ok_or_else(|| format!("board {} has no \"flash\"", self.board.name))?;
        let (target, name) = name.split_once('=').unwrap_or(("", name));
        let first = how.targets.first().map(|target| target.name.clone()).unwrap_or_default();
        let target = if target.is_empty() { first } else { target.to_string() };
        let place = how.target(&target).ok_or_else(|| format!("board {} has no target {target:?}", self.board.name))?;
        Ok((target, name.to_string(), place))
    }

    fn read(&self, name: &str, path: &Path) -> Result<Image, String> {
        let (_, name, place) = self.place(name)?;
        Image::read(path, place).map(|image| image.called(&name)).map_err(|failure| failure.text)
    }

    /// Passes bytes between the command's ttys and the consoles.
    fn pass(&mut self) {
        let mut typed = Vec::new();
        for (number, tty) in (0_u8..).zip(&mut self.ttys) {
            feed(tty);
            if self.lending.takes_typed(number) {
                let mut buffer = [0; PIECE_BYTES];
                if let Ok(count @ 1..) = rustix::io::read(&tty.master, &mut buffer) {
                    typed.push((number, buffer.get(..count).unwrap_or_default().to_vec()));
                }
            }
        }
        typed.into_iter().for_each(|(number, bytes)| self.happens(Input::Typed(number, bytes)));
    }
}

/// Gives a tty what it takes of what waits for it.
fn feed(tty: &mut Tty) {
    if !tty.unread.is_empty()
        && let Ok(count) = rustix::io::write(&tty.master, &tty.unread)
    {
        tty.unread.drain(..count);
    }
}

/// Copies a file of a step's, as it is open, and no more of it than any board takes.
fn copy(mut from: File, to: &Path) -> io::Result<()> {
    if !from.metadata()?.is_file() {
        return Err(io::Error::other("expected a file"));
    }
    from.rewind()?;
    io::copy(&mut from.take(IMAGE_BYTES + 1), &mut File::create_new(to)?).map(drop)
}
