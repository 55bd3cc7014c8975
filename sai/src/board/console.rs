//! A terminal ↔ the console of a board that a person has: what is typed goes as words, what the board says comes by its log. Whoever it
//! is shared with only hears.

use super::Lease;
use super::words::{AGAIN, Hearing, Moments, Said, Speaker, Word, cause, pass_on};
use crate::failure::{FAILED, Failure, PASSED, TROUBLE};
use crate::master::{Master, Trouble, Waiting};
use crate::telling::{plain, tell};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use sai_core::axis::{Entry, Loss, Mark, What};
use sai_core::record::{Item, Record};
use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What leaves, Ctrl-].
const LEAVES: u8 = 0x1d;
/// Bytes of one word: what somebody pastes goes as several.
const WORD_BYTES: usize = 256;
/// Words that are under way at once; as many are taken.
const UNDER_WAY: usize = 16;
/// Pieces of what is typed that wait to be said at most: more waits where it comes from.
const TYPED: usize = 64;
/// Time after which it is looked at once more what there is to do, where nothing happens.
const LONG: Duration = Duration::from_secs(60);
/// Bytes of what the console said before that are shown first.
const BEFORE_BYTES: usize = 2048;
/// Time for which a console is kept while its master cannot be reached.
const PATIENCE: Duration = Duration::from_secs(600);

/// What all threads know.
struct Known {
    /// The last word that is answered.
    answered: u64,
    /// Why it is over, once it is.
    over: Option<Result<String, Failure>>,
    /// Whether anything that the console said is missing.
    lost: bool,
    /// What was typed and is no word yet.
    typed: VecDeque<io::Result<Typed>>,
}

/// The same, and who waits for any of it.
struct Shared {
    known: Mutex<Known>,
    changed: Condvar,
}

impl Shared {
    fn new() -> Self {
        let known = Known { answered: 0, over: None, lost: false, typed: VecDeque::new() };
        Self { known: Mutex::new(known), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until something has changed, or this moment has come.
    fn wait(&self, known: MutexGuard<'_, Known>, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        drop(self.changed.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner));
    }
}

/// A terminal that passes each key on, until this is gone.
struct Raw(Option<Termios>);

impl Raw {
    fn new() -> Self {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).ok().filter(|_| stdin.is_terminal());
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = tcsetattr(&stdin, OptionalActions::Now, &raw);
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Shows a console, and sends what is typed, until Ctrl-] or the end of the input or of the lease; the exit status.
///
/// # Errors
/// Whose fault it is that it does not go on.
pub fn console(
    master: &mut Master,
    mut listener: Master,
    lease: Lease,
    console: Option<String>,
) -> Result<u8, Failure> {
    let shared = Arc::new(Shared::new());
    let mut speaker = Speaker::new(lease)?;
    let hearing = Hearing::new(speaker.lease());
    let (writer, theirs, wanted) = (speaker.writer().to_owned(), Arc::clone(&shared), console.clone());
    std::thread::Builder::new()
        .name("listens".to_owned())
        .spawn(move || smol::block_on(listen(&mut listener, hearing, Some(&writer), wanted, BEFORE_BYTES, &theirs)))
        .map_err(|error| Failure::here("a thread", &error))?;
    let is_terminal = io::stdin().is_terminal();
    if is_terminal {
        tell(&format!("at {}; Ctrl-] leaves", plain(&speaker.lease().board)));
    }
    let raw = Raw::new();
    let typed = type_words(master, &mut speaker, console.as_ref(), &shared);
    drop(raw);
    if is_terminal {
        tell("left; the board is yours until sai board release");
    }
    typed
}

/// What is told where a tty of the board is gone, or is back; and whether it is gone.
fn of_tty(mark: &Mark, item: &Item<'_>, moments: &Moments) -> Option<(bool, String)> {
    let (gone, how) = match mark.what {
        What::Unplugged => (true, "unplugged".to_owned()),
        What::Back => (false, mark.away_ms.map_or("back".to_owned(), |ms| format!("back after {ms} ms"))),
        _ => return None,
    };
    let Item::Later { micros, .. } = item else { return None };
    let name = plain(mark.name.as_deref().unwrap_or_default());
    Some((gone, format!("console {name} of the board is {how}{}", moments.since(*micros))))
}

/// What is missing, for a person.
fn told(loss: &Loss) -> String {
    let why = plain(&loss.why);
    match loss.lost {
        Some(1) => format!("a byte is missing here ({why})"),
        Some(count) => format!("{count} bytes are missing here ({why})"),
        None => format!("bytes may be missing here ({why})"),
    }
}

/// Shows a console, from what it said last or from the beginning on, until the lease is over; the exit status, which of the whole says whether it
/// is whole.
///
/// # Errors
/// Whose fault it is that it does not go on.
pub fn hear(master: &mut Master, lease: &Lease, console: Option<String>, whole: bool) -> Result<u8, Failure> {
    let shared = Shared::new();
    let shown = if whole { usize::MAX } else { BEFORE_BYTES };
    smol::block_on(listen(master, Hearing::new(lease), None, console, shown, &shared));
    let mut known = shared.lock();
    let over = known.over.take().unwrap_or_else(|| Ok(String::new()));
    tell(&format!("the lease is over{}", plain(&over?)));
    Ok(if whole && known.lost { FAILED } else { PASSED })
}

/// What was typed in one go, when, and whether nothing comes behind it.
struct Typed {
    bytes: Vec<u8>,
    at: Instant,
    last: bool,
}

/// Reads what is typed, so that its moment is known however long the way to the master takes.
fn typing(shared: &Arc<Shared>) -> Result<(), Failure> {
    let shared = Arc::clone(shared);
    let read = move || {
        let stdin = io::stdin();
        let mut bytes = [0; WORD_BYTES];
        loop {
            let one = stdin.lock().read(&mut bytes).map(|count| {
                let bytes = bytes.get(..count).unwrap_or_default();
                let end = bytes.iter().position(|byte| *byte == LEAVES && stdin.is_terminal());
                let last = count == 0 || end.is_some();
                Typed {
                    bytes: bytes.get(..end.unwrap_or(count)).unwrap_or_default().to_vec(),
                    at: Instant::now(),
                    last,
                }
            });
            let ends = one.as_ref().map_or(true, |typed| typed.last);
            let full = |known: &mut Known| known.typed.len() >= TYPED;
            let waited = shared.changed.wait_while(shared.lock(), full);
            waited.unwrap_or_else(PoisonError::into_inner).typed.push_back(one);
            shared.changed.notify_all();
            if ends {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("types".to_owned()).spawn(read);
    thread.map(drop).map_err(|error| Failure::here("a thread", &error))
}

/// Sends what is typed.
fn type_words(
    master: &mut Master,
    speaker: &mut Speaker,
    console: Option<&String>,
    shared: &Arc<Shared>,
) -> Result<u8, Failure> {
    typing(shared)?;
    let is_terminal = io::stdin().is_terminal();
    // Words that are not answered, and how many of them were said; when the oldest of those was.
    let mut waiting: VecDeque<Word> = VecDeque::new();
    let (mut said, mut since, mut leaves) = (0_usize, Instant::now(), false);
    let (mut link, mut next_try) = (Waiting::new(PATIENCE), Instant::now());
    loop {
        let mut known = shared.lock();
        if let Some(over) = known.over.take() {
            let why = over?;
            tell(&format!("the board is yours no longer{}", plain(&why)));
            return Ok(TROUBLE);
        }
        while waiting.front().is_some_and(|word| word.number <= known.answered) {
            waiting.pop_front();
            said = said.saturating_sub(1);
            since = Instant::now();
        }
        if leaves && waiting.is_empty() {
            return Ok(PASSED);
        }
        if said > 0 && since.elapsed() >= AGAIN {
            said = 0;
        }
        if let Some(word) = waiting.get(said).filter(|_| Instant::now() >= next_try) {
            drop(known);
            match smol::block_on(pass_on(master, word.request())) {
                Ok(()) => {
                    link.came();
                    if said == 0 {
                        since = Instant::now();
                    }
                    said += 1;
                }
                Err(Trouble::Link(why)) => next_try = Instant::now() + link.failed(why)?,
                Err(trouble) => return Err(trouble.into()),
            }
            continue;
        }
        let more = !leaves && waiting.len() < UNDER_WAY;
        let typed = if more { known.typed.pop_front() } else { None };
        let Some(typed) = typed else {
            let unsaid = (said < waiting.len()).then_some(next_try);
            let unanswered = (said > 0).then_some(since + AGAIN);
            let until = [unsaid, unanswered].into_iter().flatten().min();
            shared.wait(known, until.unwrap_or_else(|| Instant::now() + LONG));
            continue;
        };
        drop(known);
        // There is room again.
        shared.changed.notify_all();
        let typed = typed.map_err(|error| Failure::here("standard input", &error))?;
        leaves = typed.last;
        if !typed.bytes.is_empty() {
            let text = typed.bytes.iter().copied().map(char::from).collect();
            let said = Said { t: "send".to_owned(), console: console.cloned(), text: Some(text), ..Said::default() };
            // What comes from a file or a program waits there for its turn, and is no older than that.
            waiting.push_back(speaker.word(&said, if is_terminal { typed.at } else { Instant::now() }));
        }
    }
}

/// Prints what the console says, with so much of what it said before, and hears what became of this writer's words.
async fn listen(
    master: &mut Master,
    mut hearing: Hearing,
    writer: Option<&str>,
    console: Option<String>,
    shown: usize,
    shared: &Shared,
) {
    let mut waiting = Waiting::new(PATIENCE);
    let wanted = console.map(|name| format!("serial:{name}"));
    let (mut channel, mut before) = (None, Some(Vec::new()));
    let mut moments = Moments::default();
    loop {
        let (mut over, mut tty) = (None, None);
        let mut out = Vec::new();
        let heard = hearing.next(master, |item| match item {
            Item::Record(_, Record::Channel(number, start)) => {
                let is = wanted.as_ref().map_or(start.name.starts_with("serial:"), |wanted| start.name == *wanted);
                channel = channel.or_else(|| is.then_some(*number));
            }
            Item::Data { channel: of, bytes, .. } if channel == Some(*of) => out.extend_from_slice(bytes),
            Item::Record(micros, Record::Verdict(verdict)) => {
                over = Some((verdict.cause.clone(), moments.since(*micros)));
            }
            item => match Entry::of(item) {
                Some(Entry::Clock(_)) => moments.take(item),
                Some(Entry::Mark(mark)) => tty = of_tty(&mark, item, &moments).or(tty.take()),
                Some(Entry::Loss(of, loss)) if channel == Some(of) => {
                    shared.lock().lost = true;
                    tell(&told(&loss));
                }
                Some(Entry::Answer(answer)) if Some(answer.writer.as_str()) == writer => {
                    shared.change(|known| known.answered = known.answered.max(answer.number));
                    if let Some(why) = answer.why {
                        tell(&plain(&why));
                    }
                }
                _ => {}
            },
        });
        let heard = heard.await;
        // Of what happened before only how it stands now is news.
        if let Some((_, text)) = tty.filter(|(gone, _)| *gone || before.is_none()) {
            tell(&text);
        }
        // What was said before is shown from its last lines on.
        if let Some(mut said) = before.take_if(|_| heard.is_ok()) {
            said.append(&mut out);
            out = said.split_off(said.len().saturating_sub(shown));
        } else if let Some(said) = before.as_mut() {
            said.append(&mut out);
        }
        let mut stdout = io::stdout().lock();
        let shown = stdout.write_all(&out).and_then(|()| stdout.flush());
        drop(stdout);
        let failure = match heard {
            Ok(ended) => {
                waiting.came();
                let ends = ended || over.is_some();
                let (why, since) = over.unzip();
                match ends {
                    true => {
                        let why = cause(master, hearing.lease(), why).await;
                        Some(Ok(format!("{}: {why}", since.unwrap_or_default())))
                    }
                    false => None,
                }
            }
            Err(Trouble::Link(why)) => waiting.pause(why).await.err().map(|trouble| Err(trouble.into())),
            Err(trouble) => Some(Err(trouble.into())),
        };
        let failure = failure.or_else(|| shown.err().map(|error| Err(Failure::here("standard output", &error))));
        if let Some(failure) = failure {
            return shared.change(|known| known.over = Some(failure));
        }
    }
}
