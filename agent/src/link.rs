//! Address, trust and token → a link: two bounded queues of frames, and what carries them.
//!
//! A link is the same to its user whether its frames cross a WebSocket over TLS ([`Dialer`]) or only a queue in this
//! process ([`Link::pair`]). It is gone when [`LinkReceiver::receive`] gives none and [`LinkSender::send`] fails; what
//! was lost under way is found out by resuming from acknowledged lengths on the next link, never here.

use crate::answer::answer;
use crate::clock;
use crate::dial::{self, Candidate};
use crate::pin::{self, Trust, TrustError};
use crate::proxy::{Proxies, Proxy};
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Bytes, Message};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use data_encoding::BASE64;
use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use sai_core::join::Address;
use sai_core::limits::{CHUNK_BYTES, DEAD_S, FRAME_BYTES, Millis, PING_S};
use sai_core::wire::DATA_HEADER_BYTES;
use smol::Timer;
use smol::channel::{self, Receiver, Sender, TrySendError};
use smol::future::{self, FutureExt as _};
use smol::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use smol::net::TcpStream;
use smol::stream::StreamExt as _;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Frames each direction of a link holds at most: with data frames of 64 KiB, enough to keep reading the disk and
/// writing the network busy at once, and a quarter of a MiB in memory.
pub const QUEUE_FRAMES: usize = 4;

/// Bytes of the WebSocket's own buffers: a link is idle most of its life, and larger ones make nothing faster.
const BUFFER_BYTES: usize = 4 << 10;

/// Time for all of a dial, as a multiple of what one connection and one handshake may take: a few addresses may take
/// connections and then say nothing.
const TRIES: u32 = 3;

/// Characters of a master's own words that are shown when it refuses a link.
const REFUSAL_CHARACTERS: usize = 300;

/// One message on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message: see `sai_core::wire`.
    Text(String),
    /// A piece of a stream: a header and content.
    Binary(Vec<u8>),
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For the TCP connection, all addresses of the name together.
    pub connect: Duration,
    /// For TLS and the upgrade to a WebSocket together.
    pub handshake: Duration,
    /// Between pings.
    pub ping: Duration,
    /// Without a byte, until the link is given up.
    pub dead: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            ping: Duration::from_secs(PING_S),
            dead: Duration::from_secs(DEAD_S),
        }
    }
}

/// The end of a link that takes frames. Clones are of the same end; when the last is gone, the link closes.
#[derive(Clone, Debug)]
pub struct LinkSender {
    frames: Sender<Frame>,
}

/// The link is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl LinkSender {
    /// Waits for room and queues a frame.
    ///
    /// # Errors
    /// [`Closed`] when the link is gone.
    pub async fn send(&self, frame: Frame) -> Result<(), Closed> {
        self.frames.send(frame).await.map_err(|_| Closed)
    }

    /// Queues a frame if there is room; gives it back if there is none.
    ///
    /// # Errors
    /// [`Closed`] when the link is gone.
    pub fn try_send(&self, frame: Frame) -> Result<Option<Frame>, Closed> {
        match self.frames.try_send(frame) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(frame)) => Ok(Some(frame)),
            Err(TrySendError::Closed(_)) => Err(Closed),
        }
    }
}

/// The end of a link that gives frames. The link closes when it is dropped.
#[derive(Debug)]
pub struct LinkReceiver {
    frames: Receiver<Frame>,
    why: Arc<OnceLock<String>>,
}

impl LinkReceiver {
    /// The next frame, or none when the link is gone and every frame that arrived has been given.
    pub async fn receive(&self) -> Option<Frame> {
        self.frames.recv().await.ok()
    }

    /// Why the link is gone, for people.
    #[must_use]
    pub fn why_closed(&self) -> String {
        self.why.get().cloned().unwrap_or_else(|| "the other end is gone".to_owned())
    }
}

/// What carries a link's frames. It does so only while it is polled, and ends when the link does.
pub type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One end of a link.
pub struct Link {
    /// For frames to the other end.
    pub sender: LinkSender,
    /// For frames from the other end.
    pub receiver: LinkReceiver,
    /// To be polled beside the two, if there is one.
    pub driver: Option<Driver>,
}

impl fmt::Debug for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Link")
    }
}

/// The two directions of a link: what its user holds, and what a carrier holds.
fn queues() -> (LinkSender, LinkReceiver, Receiver<Frame>, Sender<Frame>, Arc<OnceLock<String>>) {
    let (outgoing, to_carry) = channel::bounded(QUEUE_FRAMES);
    let (carried, incoming) = channel::bounded(QUEUE_FRAMES);
    let why = Arc::new(OnceLock::new());
    let receiver = LinkReceiver { frames: incoming, why: Arc::clone(&why) };
    (LinkSender { frames: outgoing }, receiver, to_carry, carried, why)
}

impl Link {
    /// The master's end of a link: a WebSocket whose agent was let in. It pings, and gives a silent agent up, as an agent
    /// does with its master.
    #[must_use]
    pub fn over<S>(websocket: WebSocketStream<S>, timing: Timing) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, receiver, to_carry, carried, why) = queues();
        // Split before the task that carries it: a task keeps room for all that was ever moved into it.
        let (writer, reader) = websocket.split();
        let driver = async move {
            let end = drive(writer, reader, to_carry, carried, timing).await;
            let _ = why.set(end);
        };
        Self { sender, receiver, driver: Some(Box::pin(driver)) }
    }

    /// A link inside this process: what one end sends the other receives, and each sees when the other is dropped.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (sender, receiver, to_carry, carried, why) = queues();
        let near = Self { sender, receiver, driver: None };
        let far = Self {
            sender: LinkSender { frames: carried },
            receiver: LinkReceiver { frames: to_carry, why },
            driver: None,
        };
        (near, far)
    }
}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// No TCP connection to the master's address, or it fell silent before the link was up.
    Unreachable(String),
    /// The other end is not, or may not be, the master that is trusted.
    Untrusted(String),
    /// The master does not accept the token: status 401 or 403, and its own words.
    Refused(String),
    /// The master has a reason to put this agent off: any other status, and its own words.
    PutOff(u16, String),
    /// What answers there is no master.
    NoMaster(String),
}

impl fmt::Display for DialError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Untrusted(why) => out.write_str(why),
            Self::Refused(why) => write!(
                out,
                "token refused{}{why}; ask for a new join line (sai-master agent add NAME) and join again",
                if why.is_empty() { "" } else { ": " }
            ),
            Self::PutOff(status, why) => {
                let asks = if *status == 429 { "the master asks to slow down" } else { "the master is not ready" };
                write!(out, "{asks} (status {status}){}{why}", if why.is_empty() { "" } else { ": " })
            }
            Self::NoMaster(why) => write!(out, "what answers there is no master of Sai: {why}"),
        }
    }
}

impl std::error::Error for DialError {}

impl DialError {
    /// Whether it is the master's own word, which it would give at its other addresses, too.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::PutOff(..))
    }
}

/// A connection to a master, for requests.
pub type Connection = TlsStream<TcpStream>;

/// What a connection is opened for.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// At this path.
    Link(&'a str),
    Requests,
}

/// What came of it.
enum Opened {
    Link(WebSocketStream<Connection>),
    Connection(Connection),
}

/// Makes links to one master.
#[derive(Clone)]
pub struct Dialer {
    address: Address,
    /// The hosts where it may be reached, that of the address first.
    hosts: Vec<String>,
    proxies: Proxies,
    token: String,
    tls: TlsConnector,
    timing: Timing,
}

impl Dialer {
    /// A dialer; nothing is sent yet. The token has passed `sai_core::join::check_token`.
    ///
    /// # Errors
    /// What is wrong with the trust: no certification authorities on this system, mostly.
    pub fn new(address: Address, trust: Trust, token: String, timing: Timing) -> Result<Self, TrustError> {
        let (hosts, proxies) = (vec![address.host.clone()], Proxies::default());
        Ok(Self { address, hosts, proxies, token, tls: TlsConnector::from(pin::client_config(trust)?), timing })
    }

    /// The same for a master that may be reached at other hosts, too, and by way of a proxy.
    #[must_use]
    pub fn by(mut self, others: &[String], proxies: Proxies) -> Self {
        self.hosts.extend_from_slice(others);
        self.proxies = proxies;
        self
    }

    /// The fingerprint of whoever answers there, believed or not: it holds its certificate's key. Nothing is shown to it.
    ///
    /// # Errors
    /// As those of [`Dialer::dial`].
    pub async fn presented(&self) -> Result<[u8; 32], DialError> {
        let tls = TlsConnector::from(pin::looking_config().map_err(|error| DialError::NoMaster(error.to_string()))?);
        let connection = Self { tls, ..self.clone() }.connect().await?;
        let certificates = connection.get_ref().1.peer_certificates().unwrap_or_default();
        let first = certificates.first().ok_or_else(|| self.unreachable(&"it shows no certificate"))?;
        Ok(pin::fingerprint(first))
    }

    /// Opens a link: TCP, TLS, token, WebSocket. All addresses of all hosts are tried, to the last: what takes the
    /// connection there may be something else.
    ///
    /// # Errors
    /// How far it came, and whose fault the rest is.
    pub async fn dial(&self) -> Result<Link, DialError> {
        self.dial_at("/agent").await
    }

    /// The same for another of the master's doors.
    ///
    /// # Errors
    /// As those of [`Dialer::dial`].
    pub async fn dial_at(&self, path: &str) -> Result<Link, DialError> {
        match self.open(Purpose::Link(path)).await? {
            Opened::Link(websocket) => Ok(Link::over(websocket, self.timing)),
            Opened::Connection(_) => Err(self.unreachable(&"no link was made")),
        }
    }

    /// Opens a connection for requests, the same way: TCP and TLS alone.
    ///
    /// # Errors
    /// As those of [`Dialer::dial`].
    pub async fn connect(&self) -> Result<Connection, DialError> {
        match self.open(Purpose::Requests).await? {
            Opened::Connection(connection) => Ok(connection),
            Opened::Link(_) => Err(self.unreachable(&"no connection was made")),
        }
    }

    /// The head of a request by this method for what is at this path, with these headers more, that shows the token.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, headers: &str) -> String {
        let (host, prefix) = (self.address.authority(), &self.address.path);
        // Compressed, the bytes could not be counted.
        format!(
            "{method} {prefix}{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\naccept-encoding: identity\r\n{headers}\r\n",
            self.token
        )
    }

    async fn open(&self, purpose: Purpose<'_>) -> Result<Opened, DialError> {
        let limit = (self.timing.connect + self.timing.handshake) * TRIES;
        let late = || Err(self.unreachable(&format_args!("no link within {}", dial::seconds(limit))));
        within(limit, boxed(self.search(purpose))).await.unwrap_or_else(late)
    }

    fn unreachable(&self, why: &dyn fmt::Display) -> DialError {
        DialError::Unreachable(format!("{} cannot be reached: {why}", self.address))
    }

    async fn search(&self, purpose: Purpose<'_>) -> Result<Opened, DialError> {
        let port = self.address.port;
        let (mut straight, mut tunnels) = (Vec::new(), Vec::new());
        for (index, host) in self.hosts.iter().enumerate() {
            match self.proxies.to(host, port) {
                Some(proxy) => tunnels.push((proxy, host)),
                None => straight.push((index, host.clone(), port)),
            }
        }
        let mut failure = None;
        let mut candidates = VecDeque::new();
        if !straight.is_empty() {
            match dial::look_up(&straight, self.timing.connect).await {
                Ok(found) => candidates = found,
                Err(why) => failure = Some(self.unreachable(&why)),
            }
        }
        while !candidates.is_empty() {
            let (tcp, Candidate { host, .. }) = match dial::first(&mut candidates, self.timing.connect).await {
                Ok(found) => found,
                Err(why) => {
                    // Of one that was reached and is not the master there is more to say.
                    failure = failure.or_else(|| Some(self.unreachable(&why)));
                    break;
                }
            };
            let host = self.hosts.get(host).unwrap_or(&self.address.host);
            match boxed(self.greet(tcp, host, purpose)).await {
                Err(error) if !error.is_final() => failure = Some(error),
                ended => return ended,
            }
        }
        for (proxy, host) in tunnels {
            match boxed(self.tunnel(proxy, host, purpose)).await {
                Err(error) if !error.is_final() => failure = Some(error),
                ended => return ended,
            }
        }
        Err(failure.unwrap_or_else(|| self.unreachable(&"the name has no address")))
    }

    async fn tunnel(&self, proxy: &Proxy, host: &str, purpose: Purpose<'_>) -> Result<Opened, DialError> {
        let unreachable = |why: String| self.unreachable(&format_args!("the proxy {proxy}: {why}"));
        let place = [(0, proxy.host.clone(), proxy.port)];
        let mut candidates = dial::look_up(&place, self.timing.connect).await.map_err(unreachable)?;
        let (tcp, _) = dial::first(&mut candidates, self.timing.connect).await.map_err(unreachable)?;
        let tunnel = within(self.timing.connect, proxy.tunnel(tcp, host, self.address.port)).await;
        match tunnel {
            Some(Ok(tcp)) => boxed(self.greet(tcp, host, purpose)).await,
            Some(Err(why)) => Err(self.unreachable(&why)),
            None => Err(unreachable(format!("no answer within {}", dial::seconds(self.timing.connect)))),
        }
    }

    /// TLS on a connection, and token and upgrade for a link.
    async fn greet(&self, tcp: TcpStream, host: &str, purpose: Purpose<'_>) -> Result<Opened, DialError> {
        // Without this, Nagle's algorithm (RFC 896) delays each small message by up to 40 ms.
        let _ = tcp.set_nodelay(true);
        let handshake = async {
            let name = pin::server_name(host).map_err(|error| DialError::Untrusted(error.to_string()))?;
            let tls = self.tls.connect(name, tcp).await.map_err(|error| self.tls_error(&error))?;
            match purpose {
                Purpose::Link(path) => self.upgrade(tls, path).await.map(Opened::Link),
                Purpose::Requests => Ok(Opened::Connection(tls)),
            }
        };
        within(self.timing.handshake, handshake).await.unwrap_or_else(|| {
            let seconds = dial::seconds(self.timing.handshake);
            Err(DialError::Unreachable(format!("{} took no link within {seconds}", self.address)))
        })
    }

    fn tls_error(&self, error: &io::Error) -> DialError {
        if let Some(why) = pin::older_tls(error) {
            return DialError::NoMaster(format!("{} {why}", self.address));
        }
        match error.kind() {
            io::ErrorKind::InvalidData => {
                let text = error.to_string();
                // A pin's own sentence comes in the TLS library's envelope.
                let text = text.strip_prefix("unexpected error: ").unwrap_or(&text);
                DialError::Untrusted(format!("{} is not trusted: {}", self.address, plain(text)))
            }
            _ => DialError::Unreachable(format!("{} broke off while TLS began: {error}", self.address)),
        }
    }

    /// The client's side of RFC 6455 §4.1.
    async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        path: &str,
    ) -> Result<WebSocketStream<S>, DialError> {
        let broke_off = |error: io::Error| {
            DialError::Unreachable(format!("{} broke off before the link was up: {error}", self.address))
        };
        let no_master = |why: &str| DialError::NoMaster(plain(why));
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|error| broke_off(io::Error::other(error)))?;
        let key = BASE64.encode(&key);
        let headers = format!(
            "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n"
        );
        stream.write_all(self.request("GET", path, &headers).as_bytes()).await.map_err(broke_off)?;
        stream.flush().await.map_err(broke_off)?;
        let (head, rest) = match answer(&mut stream).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(no_master("it speaks no HTTP")),
            answered => answered.map_err(broke_off)?,
        };
        match head.status {
            101 if head.accept == Some(derive_accept_key(key.as_bytes())) => {}
            101 => return Err(no_master("it takes links, but not by the answer that they begin with")),
            status => {
                let words = plain(&String::from_utf8_lossy(&rest));
                return Err(match status {
                    401 | 403 => DialError::Refused(words),
                    408 | 429 | 500.. => DialError::PutOff(status, words),
                    _ => no_master(&format!("status {status} {words}")),
                });
            }
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_write_buffer_size(FRAME_BYTES + CHUNK_BYTES)
            .max_message_size(Some(FRAME_BYTES + DATA_HEADER_BYTES))
            .max_frame_size(Some(FRAME_BYTES + DATA_HEADER_BYTES));
        Ok(WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await)
    }
}

/// A peer's words as they may stand in one line on a terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    let one_line = text.split(|letter: char| letter.is_control() || letter == ' ').filter(|word| !word.is_empty());
    let mut out = String::new();
    for word in one_line {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out.chars().take(REFUSAL_CHARACTERS).collect()
}

/// Work in a place of its own: what waits for it would otherwise have room for all of its steps, several times over.
fn boxed<'a, T>(work: impl Future<Output = T> + Send + 'a) -> Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    Box::pin(work)
}

/// What `work` gives, or none if it takes longer.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    async { Some(work.await) }
        .or(async {
            Timer::after(limit).await;
            None
        })
        .await
}

/// Carries frames until one of the ends is gone; says why.
async fn drive<S: AsyncRead + AsyncWrite + Unpin + Send>(
    mut writer: WebSocketSender<S>,
    mut reader: WebSocketReceiver<S>,
    to_carry: Receiver<Frame>,
    carried: Sender<Frame>,
    timing: Timing,
) -> String {
    let activity = Activity::new();
    let write = async {
        let mut ping_at = Instant::now() + timing.ping;
        loop {
            let next = async { Some(to_carry.recv().await) }.or(async {
                Timer::at(ping_at).await;
                None
            });
            let (message, last) = match next.await {
                Some(Ok(Frame::Text(text))) => (Message::Text(text.into()), false),
                Some(Ok(Frame::Binary(bytes))) => (Message::Binary(bytes.into()), false),
                Some(Err(_)) => (Message::Close(None), true),
                None => {
                    ping_at = Instant::now() + timing.ping;
                    (Message::Ping(Bytes::new()), false)
                }
            };
            activity.sending(true);
            let sent = writer.send(message).await;
            activity.sending(false);
            if let Err(error) = sent {
                return plain(&error.to_string());
            }
            if last {
                return "this end closed it".to_owned();
            }
        }
    };
    let read = async {
        loop {
            let next = reader.next().await;
            activity.read();
            let frame = match next {
                Some(Ok(Message::Text(text))) => Frame::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(bytes))) => Frame::Binary(bytes.into()),
                Some(Ok(Message::Close(_))) | None => return "the other end closed it".to_owned(),
                // Pings are answered by the library while it reads; pongs have done their work by arriving.
                Some(Ok(_)) => continue,
                Some(Err(error)) => return plain(&error.to_string()),
            };
            if carried.send(frame).await.is_err() {
                return "this end closed it".to_owned();
            }
        }
    };
    let watch = async {
        loop {
            let quiet = activity.quiet();
            let Some(left) = timing.dead.checked_sub(quiet).filter(|left| !left.is_zero()) else {
                return format!("the other end was silent for {}", dial::seconds(quiet));
            };
            // A frame may begin to stall at any time, so this looks up more often than silence alone would need.
            Timer::after(left.min(timing.ping)).await;
        }
    };
    future::or(future::or(read, write), watch).await
}

/// When messages last moved, in milliseconds since the link began. They go on while the machine sleeps: a link that did
/// not survive that is given up at once.
#[derive(Debug)]
struct Activity {
    since: Millis,
    read: AtomicU64,
    /// Milliseconds at which the message under way was begun, plus one; 0 when none is.
    sending: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { since: clock::steady(), read: AtomicU64::new(0), sending: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        clock::steady().saturating_sub(self.since)
    }

    fn read(&self) {
        self.read.store(self.now(), Ordering::Relaxed);
    }

    fn sending(&self, begins: bool) {
        self.sending.store(if begins { self.now() + 1 } else { 0 }, Ordering::Relaxed);
    }

    /// How long nothing was read, or one message waits to be written: the longer of the two.
    fn quiet(&self) -> Duration {
        let now = self.now();
        let silent = now.saturating_sub(self.read.load(Ordering::Relaxed));
        let stalled = match self.sending.load(Ordering::Relaxed) {
            0 => 0,
            began => now.saturating_sub(began - 1),
        };
        Duration::from_millis(silent.max(stalled))
    }
}
