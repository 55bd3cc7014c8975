//! Words of a person at a board → requests that are repeated until the board's log has their answers.
//!
//! Whatever is lost on the way, a word is done once: each has a number, and only the next one is taken. So it is said again until
//! the log, which is durable where it is read, says what became of it.

use super::Lease;
use crate::answers::Job;
use crate::failure::{FAILED, Failure};
use crate::follow::path;
use crate::master::{Bytes, Master, Trouble, Waiting};
use crate::telling::{moment, plain, tell};
use miniserde::{Deserialize, Serialize, json};
use sai_agent::link::{Frame, Link, within};
use sai_core::axis::{Answer, Entry};
use sai_core::record::{Decoder, Item, Record};
use smol::Timer;
use smol::future::or;
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
/// Time within which most words are answered.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Time for which a log is looked at that its master does not send by itself, before it is asked to once more.
const UNPUSHED: Duration = Duration::from_secs(30);

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

/// What a master sends of a log by itself.
struct Pushed {
    link: Link,
    /// Whether it has said that it does, and whether it has brought anything.
    greeted: bool,
    brought: bool,
}

impl Pushed {
    /// The next bytes; nothing once the link is gone.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let receiver = &self.link.receiver;
            let frame = match &mut self.link.driver {
                None => receiver.receive().await,
                Some(driver) => {
                    let over = async {
                        driver.await;
                        None
                    };
                    match or(async { Some(receiver.receive().await) }, over).await {
                        Some(frame) => frame,
                        // What it brought is still there.
                        None => {
                            self.link.driver = None;
                            continue;
                        }
                    }
                }
            };
            match frame? {
                Frame::Binary(bytes) => {
                    self.brought = true;
                    return Some(bytes);
                }
                Frame::Text(text) => {
                    self.greeted = true;
                    tell_of_agent(&text);
                }
            }
        }
    }
}

/// What a master says beside the log.
#[derive(Deserialize)]
struct Beside {
    agent: Option<String>,
    away_since: Option<u64>,
}

/// Tells that the board's machine is away, and since when, or is there again.
fn tell_of_agent(text: &str) {
    let Ok(Beside { agent: Some(agent), away_since }) = json::from_str(text) else { return };
    let agent = plain(&agent);
    match away_since {
        Some(since) => tell(&format!("{agent}, which has the board, is away since {}", moment(since))),
        None => tell(&format!("{agent} is there again")),
    }
}

/// Why a board is somebody's no longer, by the end of its log: read off the job where the log does not say.
pub async fn cause(master: &mut Master, lease: (u64, u32), over: Option<String>) -> String {
    let why = match over {
        Some(why) => why,
        None => master.json::<Job>("GET", &path(lease.0)).await.map(|job| job.cause).unwrap_or_default(),
    };
    if why.is_empty() { "it was given back".to_owned() } else { why }
}

/// When what is in a log happened, by the clock that its machine goes by.
#[derive(Default)]
pub struct Moments(Option<(u64, u64)>);

impl Moments {
    /// What an item says of the clock.
    pub fn take(&mut self, item: &Item<'_>) {
        if let (Item::Later { micros, .. }, Some(Entry::Clock(clock))) = (item, Entry::of(item)) {
            self.0 = Some((*micros, clock.realtime_ns));
        }
    }

    /// A moment so many microseconds after the log began, as people read it, with a blank and words before it.
    pub fn since(&self, micros: u64) -> String {
        self.0.map_or_else(String::new, |(at, ns)| {
            let millis = (ns / 1_000_000).saturating_add(micros / 1000).saturating_sub(at / 1000);
            format!(" since {}", moment(millis))
        })
    }
}

/// How what comes next is heard of.
enum By {
    /// It is asked for once, and after that the master is to send it.
    Asking,
    /// A link for that is to be opened.
    Opening,
    Push(Box<Pushed>),
    /// It is asked for again and again, after this pause, up to this moment.
    Looks(Duration, Instant),
}

/// The log of a board, from its beginning on.
pub struct Hearing {
    /// Which attempt's.
    lease: (u64, u32),
    offset: u64,
    decoder: Decoder,
    by: By,
}

impl Hearing {
    /// Of this lease, nothing of it heard yet.
    pub fn new(lease: &Lease) -> Self {
        Self { lease: (lease.job, lease.attempt), offset: 0, decoder: Decoder::new(), by: By::Asking }
    }

    /// Which attempt's it is.
    pub fn lease(&self) -> (u64, u32) {
        self.lease
    }

    /// The same for somebody who expects an answer at once: to look for it is less work then than another link.
    #[must_use]
    pub fn for_an_answer(self) -> Self {
        Self { by: By::Looks(Duration::ZERO, Instant::now() + AT_ONCE), ..self }
    }

    /// Waits for what comes next, and gives it on; whether there will be no more. Whoever does not wait to the end misses nothing.
    ///
    /// # Errors
    /// Why there is none now.
    pub async fn next(&mut self, master: &mut Master, mut each: impl FnMut(&Item<'_>) + Send) -> Result<bool, Trouble> {
        let (job, attempt) = self.lease;
        match &mut self.by {
            By::Asking => {}
            By::Opening => {
                let path = format!("/live?records={job}-{attempt}&from={}", self.offset);
                self.by = match master.listen(&path).await {
                    Ok(link) => By::Push(Box::new(Pushed { link, greeted: false, brought: false })),
                    Err(Trouble::Link(why)) => return Err(Trouble::Link(why)),
                    // Asked for the log itself, the master says why there is none.
                    Err(_) => By::Looks(LOOK, Instant::now() + UNPUSHED),
                };
                return Ok(false);
            }
            By::Push(pushed) => {
                if let Some(bytes) = pushed.next().await {
                    return self.take(&bytes, &mut each).map(|()| false);
                }
                self.by = match (pushed.greeted, pushed.brought) {
                    // An older master knows nothing of this.
                    (false, _) => By::Looks(LOOK, Instant::now() + UNPUSHED),
                    (true, true) => By::Asking,
                    (true, false) => {
                        Timer::after(LONGEST).await;
                        By::Asking
                    }
                };
            }
            By::Looks(_, until) if Instant::now() >= *until => self.by = By::Asking,
            By::Looks(pause, _) => {
                Timer::after(*pause).await;
                *pause = (*pause * 2).clamp(LOOK, LONGEST);
            }
        }
        let before = self.offset;
        let ended = self.hear(master, each).await?;
        match &mut self.by {
            By::Asking if !ended => self.by = By::Opening,
            By::Looks(pause, _) if self.offset > before => *pause = LOOK,
            _ => {}
        }
        Ok(ended)
    }

    fn take(&mut self, bytes: &[u8], each: &mut (dyn FnMut(&Item<'_>) + Send)) -> Result<(), Trouble> {
        let pushed = self.decoder.push(bytes, |item| each(&item));
        pushed.map_err(|why| Trouble::Here(format!("the board's log is damaged: {why}")))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Gives what has come on; whether there will be no more.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn hear(&mut self, master: &mut Master, mut each: impl FnMut(&Item<'_>) + Send) -> Result<bool, Trouble> {
        let Self { lease: (job, attempt), offset, decoder, .. } = self;
        let (from, path) = (*offset, format!("/job/{job}/{attempt}/records"));
        let mut damaged = None;
        let mut take = |bytes: &[u8]| {
            if let Err(why) = decoder.push(bytes, |item| each(&item)) {
                damaged = Some(why);
                return Err(ErrorKind::InvalidData.into());
            }
            *offset += bytes.len() as u64;
            Ok(())
        };
        let read = master.bytes(&path, from, &mut take).await;
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
    let hearing = Hearing::new(speaker.lease()).for_an_answer();
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
    let (mut waiting, mut said_at) = (Waiting::new(PATIENCE), None::<Instant>);
    let (mut found, mut over, mut moments) = (None, None, Moments::default());
    loop {
        if said_at.is_none_or(|at| at.elapsed() >= AGAIN) {
            match pass_on(master, word.request()).await {
                Ok(()) => said_at = Some(Instant::now()),
                Err(Trouble::Link(why)) => waiting.pause(why).await?,
                Err(trouble) => return Err(trouble.into()),
            }
        }
        let heard = hearing.next(master, |item| match Entry::of(item) {
            Some(Entry::Answer(answer)) if answer.writer == writer && answer.number == number => found = Some(answer),
            _ => {
                moments.take(item);
                if let Item::Record(micros, Record::Verdict(verdict)) = item {
                    over = Some((verdict.cause.clone(), moments.since(*micros)));
                }
                if found.is_none() {
                    each(item);
                }
            }
        });
        let again = AGAIN.saturating_sub(said_at.map_or(AGAIN, |at| at.elapsed()));
        let heard = within(again, heard).await;
        // What came before the link broke has come.
        if let Some(answer) = found {
            return Ok(answer);
        }
        let ended = match heard {
            None => false,
            Some(Ok(ended)) => {
                waiting.came();
                ended
            }
            Some(Err(Trouble::Link(why))) => {
                waiting.pause(why).await?;
                continue;
            }
            Some(Err(trouble)) => return Err(trouble.into()),
        };
        if ended || over.is_some() {
            let lease = (speaker.lease.job, speaker.lease.attempt);
            let (why, since) = over.unzip();
            let why = cause(master, lease, why).await;
            let since = since.unwrap_or_default();
            return Err(Failure::refused(format!("the board is yours no longer{since}: {}", plain(&why))));
        }
    }
}
