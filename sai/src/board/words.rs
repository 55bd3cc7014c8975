//! Words of a person at a board → requests that are repeated until the board's log has their answers.
//!
//! Whatever is lost on the way, a word is done once: each has a number, and only the next one is taken. So it is said again until
//! the log, which is durable where it is read, says what became of it.

use super::Lease;
use crate::failure::{FAILED, Failure};
use crate::follow::path;
use crate::master::{Bytes, Master, Trouble, Waiting};
use crate::telling::plain;
use miniserde::{Deserialize, Serialize, json};
use sai_core::axis::{Answer, Entry};
use sai_core::record::{Decoder, Item, Record};
use smol::Timer;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::time::{Duration, Instant};

/// Time after which a word is said again that is not answered.
pub const AGAIN: Duration = Duration::from_secs(2);
/// Time after which a word that is not known to be taken is not said any more: who typed at a board that did not answer has
/// turned to something else, and nothing is to move there then.
const LATE: Duration = Duration::from_secs(5);
/// The word that takes the place of one that is late, of which only one is done.
const TOO_LATE: &str = "late";
/// Time for which a board is kept although its master cannot be reached: that may be updated, or its host started again.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pause between two looks at a log for an answer.
const LOOK: Duration = Duration::from_millis(20);
/// The longest pause, while nothing comes.
const LONGEST: Duration = Duration::from_millis(300);

/// What is said: the words of `sai-agent device`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Said {
    /// The word.
    pub t: String,
    /// Of a sequence or mode.
    pub name: Option<String>,
    /// The console; the first one without it.
    pub console: Option<String>,
    /// Bytes as characters, or a pattern.
    pub text: Option<String>,
    /// Within how many milliseconds.
    pub ms: Option<u64>,
    /// Of images: `TARGET=NAME`, or `=NAME`.
    pub names: Option<Vec<String>>,
    /// Of each of them: `SHA256 SIZE`.
    pub digests: Option<Vec<String>>,
    /// Whether a board will do that does not tell what is on it.
    pub unverified: Option<bool>,
}

/// A word under way.
#[derive(Debug)]
pub struct Word {
    /// Which one it is.
    pub number: u64,
    /// The request that says it, and the one that says that it is too late for it, with the moment from which on it is.
    said: String,
    late: Option<(String, Instant)>,
}

impl Word {
    /// The request to make now. Whichever of both comes first is taken.
    pub fn request(&self) -> &str {
        match &self.late {
            Some((late, from)) if Instant::now() >= *from => late,
            _ => &self.said,
        }
    }
}

/// What the master says to one.
#[derive(Deserialize)]
struct Passed {}

/// Who says words: one program, at one board.
pub struct Speaker {
    lease: Lease,
    writer: String,
    next: u64,
}

impl Speaker {
    /// One that nobody has heard of.
    ///
    /// # Errors
    /// This machine has no random numbers.
    pub fn new(lease: Lease) -> Result<Self, Failure> {
        let mut bytes = [0; 8];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        read.map_err(|error| Failure::here("/dev/urandom", &error))?;
        Ok(Self { lease, writer: format!("{:016x}", u64::from_ne_bytes(bytes)), next: 1 })
    }

    /// Whose board it is.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Its name.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// The next word, of this moment.
    pub fn word(&mut self, said: &Said, at: Instant) -> Word {
        let number = self.next;
        self.next += 1;
        let (path, attempt, writer) = (path(self.lease.job), self.lease.attempt, &self.writer);
        let request = |said: &Said| {
            let said: String = json::to_string(said).bytes().map(|byte| format!("%{byte:02x}")).collect();
            format!("{path}/word?attempt={attempt}&writer={writer}&number={number}&said={said}")
        };
        // To wait for something is no less right later, nor is to give a board back.
        let moves = !matches!(said.t.as_str(), "expect" | "release");
        let too_late = Said { t: TOO_LATE.to_owned(), ..Said::default() };
        let late = moves.then(|| (request(&too_late), at + LATE));
        Word { number, said: request(said), late }
    }
}

/// Passes a word on; what may be said again is not told of.
///
/// # Errors
/// The link is down, or it is refused for good.
pub async fn pass_on(master: &mut Master, request: &str) -> Result<(), Trouble> {
    match master.again::<Passed>(request).await {
        Ok(_) => Ok(()),
        // Its agent is away for a moment; that it has ended is in the log.
        Err(Trouble::Refused(409, why)) => Err(Trouble::Link(why)),
        Err(trouble) => Err(trouble),
    }
}

/// The log of a board, from its beginning on.
pub struct Hearing {
    path: String,
    offset: u64,
    decoder: Decoder,
}

impl Hearing {
    /// Of this lease, nothing of it heard yet.
    pub fn new(lease: &Lease) -> Self {
        let path = format!("/job/{}/{}/records", lease.job, lease.attempt);
        Self { path, offset: 0, decoder: Decoder::new() }
    }

    /// Gives what has come on; whether there will be no more.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn hear(&mut self, master: &mut Master, mut each: impl FnMut(&Item<'_>) + Send) -> Result<bool, Trouble> {
        let Self { path, offset, decoder } = self;
        let from = *offset;
        let mut damaged = None;
        let mut take = |bytes: &[u8]| {
            if let Err(why) = decoder.push(bytes, |item| each(&item)) {
                damaged = Some(why);
                return Err(ErrorKind::InvalidData.into());
            }
            *offset += bytes.len() as u64;
            Ok(())
        };
        let read = master.bytes(path, from, &mut take).await;
        match (damaged, read) {
            (Some(why), _) => Err(Trouble::Here(format!("the board's log is damaged: {why}"))),
            (None, Ok(Bytes::All(head) | Bytes::NoMore(head))) => Ok(head.state.is_some_and(|state| state == "ended")),
            (None, Err(Trouble::Refused(404, _))) => Ok(false),
            (None, Err(trouble)) => Err(trouble),
        }
    }
}

/// Says something, and waits until it is done.
///
/// # Errors
/// It was not done, or whose fault it is that this is not known.
pub async fn say(master: &mut Master, speaker: &mut Speaker, said: &Said) -> Result<Answer, Failure> {
    let hearing = Hearing::new(speaker.lease());
    let answer = answer(master, speaker, said, hearing, &mut |_| {}).await?;
    match answer.why {
        Some(why) => Err(Failure(FAILED, plain(&why))),
        None => Ok(answer),
    }
}

/// Says something, and waits for what becomes of it; what else the log has meanwhile is given on.
///
/// # Errors
/// The board is not theirs any more, or whose fault it is that no more is known.
pub async fn answer(
    master: &mut Master,
    speaker: &mut Speaker,
    said: &Said,
    mut hearing: Hearing,
    each: &mut (dyn FnMut(&Item<'_>) + Send),
) -> Result<Answer, Failure> {
    let word = speaker.word(said, Instant::now());
    let number = word.number;
    let writer = speaker.writer().to_owned();
    let (mut waiting, mut said_at, mut pause) = (Waiting::new(PATIENCE), None::<Instant>, LOOK);
    loop {
        if said_at.is_none_or(|at| at.elapsed() >= AGAIN) {
            match pass_on(master, word.request()).await {
                Ok(()) => said_at = Some(Instant::now()),
                Err(Trouble::Link(why)) => waiting.pause(why).await?,
                Err(trouble) => return Err(trouble.into()),
            }
        }
        let (mut found, mut over) = (None, None);
        let heard = hearing.hear(master, |item| match Entry::of(item) {
            Some(Entry::Answer(answer)) if answer.writer == writer && answer.number == number => found = Some(answer),
            _ => {
                if let Item::Record(_, Record::Verdict(verdict)) = item {
                    over = Some(verdict.cause.clone());
                }
                if found.is_none() {
                    each(item);
                }
            }
        });
        let ended = match heard.await {
            Ok(ended) => {
                waiting.came();
                ended
            }
            Err(Trouble::Link(why)) => {
                waiting.pause(why).await?;
                continue;
            }
            Err(trouble) => return Err(trouble.into()),
        };
        match found {
            Some(answer) => return Ok(answer),
            None if ended || over.is_some() => {
                let why = over.filter(|why| !why.is_empty()).unwrap_or_else(|| "it was given back".to_owned());
                return Err(Failure::refused(format!("the board is yours no longer: {}", plain(&why))));
            }
            None => {}
        }
        Timer::after(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
