//! A login and a path of the API → the master's answer, or who is to blame that there is none.

use crate::answers::{Agents, Me, Wrong};
use crate::failure::Failure;
use crate::place::Login;
use miniserde::{Deserialize, json};
use sai_agent::link::{Connection, DialError, Dialer, Link, Timing, plain, within};
use sai_agent::pin::TrustError;
use sai_agent::proxy::Proxies;
use sai_agent::request::{self, Head, STALL, ask};
use smol::Timer;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// Bytes of an answer of the API at most: the jobs of the largest event there can be.
const ANSWER_BYTES: u64 = 64 << 20;
/// Bytes of a refusal's own words that are read.
const WORDS_BYTES: usize = 64 << 10;
/// Pause before the way to a master is tried again; each is twice the one before, up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest of those pauses: a person waits.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes that are read before they are given on.
const PIECE_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// The link is down; it may be up again in a moment.
    Link(String),
    /// The master's own no: a status and its words.
    Refused(u16, String),
    /// No master, or not the one that was logged in to.
    Untrusted(String),
    /// Trouble of this machine with what came.
    Here(String),
}

impl From<DialError> for Trouble {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unreachable(why) => Self::Link(why),
            DialError::PutOff(..) => Self::Link(error.to_string()),
            DialError::Refused(why) => Self::Refused(401, why),
            DialError::Untrusted(_) | DialError::NoMaster(_) => Self::Untrusted(error.to_string()),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Link(why) | Trouble::Untrusted(why) | Trouble::Here(why) => Self::trouble(why),
            Trouble::Refused(401, why) => {
                Self::trouble(format!("the master does not know this token any more ({why}): sai login again"))
            }
            Trouble::Refused(403 | 404 | 409 | 400 | 413, why) => Self::refused(why),
            Trouble::Refused(status, why) => Self::trouble(format!("the master answers with status {status}: {why}")),
        }
    }
}

/// Takes the bytes of an answer as they come.
pub type Take<'a> = &'a mut (dyn FnMut(&[u8]) -> io::Result<()> + Send);

/// What came of a request for bytes.
#[derive(Debug)]
pub enum Bytes {
    /// All of them, or all from where was asked for; how many there are of the whole.
    All(Head),
    /// There are none behind where was asked for.
    NoMore(Head),
}

/// The way to a master. One request after the other, on a connection that is kept.
pub struct Master {
    dialer: Dialer,
    connection: Option<Connection>,
    address: String,
    /// Whether what does something may be asked for twice.
    repeats: bool,
}

/// A dialer by what the environment says of proxies.
///
/// # Errors
/// What is wrong with that, or with the trust.
pub fn dialer(login: &Login) -> Result<Result<Dialer, TrustError>, Failure> {
    let proxies = Proxies::of_environment().map_err(Failure::usage)?;
    let dialer = Dialer::new(login.master.clone(), login.trust, login.token.clone(), Timing::default());
    Ok(dialer.map(|dialer| dialer.by(&[], proxies)))
}

fn broke_off(error: &io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::TimedOut => Trouble::Link(format!("the master said nothing for {} s", STALL.as_secs())),
        ErrorKind::InvalidData => {
            Trouble::Untrusted("what answers there is no master: it does not speak HTTP".to_owned())
        }
        _ => Trouble::Link(format!("the connection to the master broke off: {error}")),
    }
}

impl Master {
    /// The way to the master of a login.
    ///
    /// # Errors
    /// What is wrong with this machine's trust or proxies.
    pub fn new(login: &Login) -> Result<Self, Failure> {
        let dialer = dialer(login)?.map_err(|error| Failure::trouble(error.to_string()))?;
        let address = login.master.to_string().replacen("wss://", "https://", 1);
        Ok(Self { dialer, connection: None, address, repeats: false })
    }

    /// The address of its pages.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends the head of a request, by a connection that is there or a new one, and reads that of the answer.
    async fn ask(&mut self, method: &str, path: &str, headers: &str) -> Result<(Head, Vec<u8>, Connection), Trouble> {
        let request = self.dialer.request(method, path, headers);
        if let Some(mut connection) = self.connection.take().filter(|_| method != "POST" || self.repeats) {
            // One that had ended meanwhile costs one try. What does something is asked for once, on a new one.
            if let Ok((head, bytes)) = ask(&mut connection, &request).await {
                return Ok((head, bytes, connection));
            }
        }
        let mut connection = self.dialer.connect().await?;
        let (head, bytes) = ask(&mut connection, &request).await.map_err(|error| broke_off(&error))?;
        Ok((head, bytes, connection))
    }

    /// What a master says instead of what was asked for.
    async fn refusal(&mut self, head: Head, bytes: Vec<u8>, mut connection: Connection) -> Trouble {
        let words = request::body(&mut connection, &head, bytes, WORDS_BYTES).await;
        let words = String::from_utf8_lossy(&words);
        let words = json::from_str::<Wrong>(&words).map(|wrong| wrong.error).unwrap_or_else(|_| {
            // A page, or what stands before the master.
            if words.trim_start().starts_with('<') { String::new() } else { words.into_owned() }
        });
        if head.stays && head.length.is_some_and(|length| length <= WORDS_BYTES as u64) {
            self.connection = Some(connection);
        }
        let words = plain(&words);
        match head.status {
            408 | 429 | 502..=504 => Trouble::Link(format!("the master is not ready (status {}) {words}", head.status)),
            status => Trouble::Refused(status, if words.is_empty() { format!("status {status}") } else { words }),
        }
    }

    /// Sends a body to the API, and reads its answer. It is sent once.
    ///
    /// # Errors
    /// Why there is none; whether the master took it is not known where the link broke.
    pub async fn post<T: Deserialize>(&mut self, path: &str, body: &[u8]) -> Result<T, Trouble> {
        // What comes with a head of its own is heard at once, and a connection that has just answered is there.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dialer.connect().await?,
        };
        let head = self.dialer.request("POST", path, &format!("content-length: {}\r\n", body.len()));
        let sent = async {
            connection.write_all(head.as_bytes()).await?;
            connection.write_all(body).await?;
            connection.flush().await?;
            request::answer(&mut connection).await
        };
        let answered = within(STALL, sent).await.unwrap_or_else(|| Err(ErrorKind::TimedOut.into()));
        let (head, bytes) = answered.map_err(|error| broke_off(&error))?;
        let text = self.whole(head, bytes, connection).await?;
        self.read(&text, path)
    }

    fn read<T: Deserialize>(&self, text: &str, path: &str) -> Result<T, Trouble> {
        json::from_str(text)
            .map_err(|_| Trouble::Untrusted(format!("{}{path} does not answer as a master of Sai does", self.address)))
    }

    /// An answer of the API.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn text(&mut self, method: &str, path: &str) -> Result<String, Trouble> {
        let headers = if method == "GET" { "" } else { "content-length: 0\r\n" };
        let (head, bytes, connection) = self.ask(method, path, headers).await?;
        self.whole(head, bytes, connection).await
    }

    /// All of an answer whose head is there.
    async fn whole(&mut self, head: Head, mut bytes: Vec<u8>, mut connection: Connection) -> Result<String, Trouble> {
        if head.status != 200 {
            return Err(self.refusal(head, bytes, connection).await);
        }
        let length = head.length.filter(|length| *length <= ANSWER_BYTES);
        let length = length.ok_or_else(|| {
            Trouble::Untrusted("what stands before the master changes the length of its answers".to_owned())
        })?;
        let rest = length.saturating_sub(bytes.len() as u64);
        match within(STALL, (&mut connection).take(rest).read_to_end(&mut bytes)).await {
            Some(Ok(count)) if count as u64 == rest => {}
            Some(Err(error)) => return Err(broke_off(&error)),
            Some(Ok(_)) => return Err(broke_off(&ErrorKind::UnexpectedEof.into())),
            None => return Err(broke_off(&ErrorKind::TimedOut.into())),
        }
        if head.stays {
            self.connection = Some(connection);
        }
        String::from_utf8(bytes).map_err(|_| Trouble::Untrusted("the answer is no text".to_owned()))
    }

    /// An answer of the API, read.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn json<T: Deserialize>(&mut self, method: &str, path: &str) -> Result<T, Trouble> {
        let text = self.text(method, path).await?;
        self.read(&text, path)
    }

    /// What may be done any number of times: it goes by the connection that is there.
    ///
    /// # Errors
    /// Why it is not done.
    pub async fn again<T: Deserialize>(&mut self, path: &str) -> Result<T, Trouble> {
        self.repeats = true;
        let done = self.json("POST", path).await;
        self.repeats = false;
        done
    }

    /// The same, asked for again while the link is down, for so long at most. Only for what may be asked twice.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn patient<T: Deserialize>(&mut self, path: &str, patience: Duration) -> Result<T, Trouble> {
        let mut waiting = Waiting::new(patience);
        loop {
            match self.json("GET", path).await {
                Err(Trouble::Link(why)) => waiting.pause(why).await?,
                answer => return answer,
            }
        }
    }

    /// The bytes at a path from one of them on, each given on as it comes: what was given counts, also where this fails then.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn bytes(&mut self, path: &str, from: u64, take: Take<'_>) -> Result<Bytes, Trouble> {
        let headers = if from > 0 { format!("range: bytes={from}-\r\n") } else { String::new() };
        let (head, bytes, mut connection) = self.ask("GET", path, &headers).await?;
        let stays = head.stays;
        // An older master gives all of it.
        let mut skip = match (head.status, head.from) {
            (200, _) => from,
            (206, Some(first)) if first == from => 0,
            (416, _) if from > 0 => {
                let length = head.length.unwrap_or(0);
                let rest = length.saturating_sub(bytes.len() as u64);
                let mut words = Vec::new();
                let read =
                    within(STALL, (&mut connection).take(rest.min(WORDS_BYTES as u64)).read_to_end(&mut words)).await;
                if stays && matches!(read, Some(Ok(count)) if count as u64 == rest) {
                    self.connection = Some(connection);
                }
                return Ok(Bytes::NoMore(head));
            }
            _ => return Err(self.refusal(head, bytes, connection).await),
        };
        let mut left = head.length.ok_or_else(|| {
            Trouble::Untrusted("what stands before the master changes the length of its files".to_owned())
        })?;
        let none = left <= skip;
        let mut give = |piece: &[u8]| {
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip -= passed as u64;
            let piece = piece.get(passed..).unwrap_or_default();
            if piece.is_empty() { Ok(()) } else { take(piece) }
        };
        let here = |error: io::Error| Trouble::Here(error.to_string());
        let first = bytes.get(..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))).unwrap_or_default();
        left -= first.len() as u64;
        give(first).map_err(here)?;
        let mut piece = vec![0; PIECE_BYTES];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let read = within(STALL, connection.read(piece.get_mut(..most).unwrap_or_default())).await;
            let count = match read {
                Some(Ok(0)) => return Err(broke_off(&ErrorKind::UnexpectedEof.into())),
                Some(Ok(count)) => count,
                Some(Err(error)) => return Err(broke_off(&error)),
                None => return Err(broke_off(&ErrorKind::TimedOut.into())),
            };
            left -= count as u64;
            give(piece.get(..count).unwrap_or_default()).map_err(here)?;
        }
        if stays {
            self.connection = Some(connection);
        }
        Ok(if none && from > 0 { Bytes::NoMore(head) } else { Bytes::All(head) })
    }

    /// A link that brings what happens at a path, for as long as it lasts.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn listen(&self, path: &str) -> Result<Link, Trouble> {
        Ok(self.dialer.dial_at(path).await?)
    }

    /// Whose the token is; nothing where an older master cannot say, which takes it nevertheless.
    ///
    /// # Errors
    /// The token is nobody's, or nobody could be asked.
    pub async fn me(&mut self) -> Result<Option<Me>, Trouble> {
        match self.json::<Me>("GET", "/api/v1/me").await {
            Ok(me) => Ok(Some(me)),
            Err(Trouble::Refused(404, _)) => self.json::<Agents>("GET", "/api/v1/agents").await.map(|_| None),
            Err(trouble) => Err(trouble),
        }
    }
}

/// Pauses between tries, until somebody's patience has ended without anything having come.
pub struct Waiting {
    patience: Duration,
    since: Instant,
    pause: Duration,
    told: bool,
}

impl Waiting {
    /// For so long without anything.
    pub fn new(patience: Duration) -> Self {
        Self { patience, since: Instant::now(), pause: PAUSE, told: false }
    }

    /// Something came.
    pub fn came(&mut self) {
        if self.told {
            crate::telling::tell("the link is up again");
        }
        *self = Self::new(self.patience);
    }

    /// Waits before the next try; tells once that and why.
    ///
    /// # Errors
    /// It has been long enough.
    pub async fn pause(&mut self, why: String) -> Result<(), Trouble> {
        Timer::after(self.failed(why)?).await;
        Ok(())
    }

    /// How long to wait before the next try; tells once that and why.
    ///
    /// # Errors
    /// It has been long enough.
    pub fn failed(&mut self, why: String) -> Result<Duration, Trouble> {
        if self.since.elapsed() >= self.patience {
            return Err(Trouble::Link(format!("{why}; nothing came for {} s", self.patience.as_secs())));
        }
        // One that ended between two requests is no news.
        if self.pause > PAUSE && !self.told {
            crate::telling::tell(&format!("{why}; trying again"));
            self.told = true;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        Ok(pause)
    }
}
