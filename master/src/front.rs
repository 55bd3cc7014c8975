//! TCP connection → authorised WebSocket, or request for the pages: the one place where strangers' bytes arrive.
//!
//! Each connection is TLS, and its requests are read strictly and one after the other. `/agent` and `/live` become
//! WebSockets once whoever asks was let in; every other request is bounded and framed anew before the backend sees it.
//! Time, bytes, connections and memory are limited for each address and for all together, by [`Limits`]. Where there are
//! too many of them the front does not close: whoever does the least gives way to the next (`seats`).

mod client;
mod gate;
mod head;
mod listen;
mod proxies;
mod relay;
mod seats;
mod upgrade;

pub use gate::Lane;
pub use head::{Rejection, RequestHead};
pub use proxies::{Network, Proxies};
pub use upgrade::{Message, Socket, SocketError, SocketWriter};

use crate::http::Backend;
use crate::lines::Lines;
use crate::prefix::Prefix;
use crate::tls::{Identity, Refresh};
use client::{After, Client, plain};
use futures_rustls::TlsAcceptor;
use gate::{Gate, Permit, Quotas};
use head::Framing;
use sai_agent::blocking::{detach, unblock};
use seats::Phase;
use smol::future::or;
use smol::io::AsyncWriteExt as _;
use smol::{Async, Task, Timer};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use upgrade::{Admitted, Door};

/// A client's connection after the TLS handshake.
pub type Stream = futures_rustls::server::TlsStream<Async<TcpStream>>;

/// First byte of every TLS handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// Descriptors left for everything but connections: store, logs, children, the backend, and files that are being sent.
const DESCRIPTOR_RESERVE: u64 = 1536;

/// Pause after an accept that failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all; also bounded by the process's limit of descriptors.
    pub connections: usize,
    /// Connections of one address (of one /64 for IPv6), agents that were welcomed not counted.
    pub connections_per_address: usize,
    /// Pages and calls of the API at the backend at once, and of one address.
    pub pages: (usize, usize),
    /// Hooks and looks at our health at the backend at once, and of one address.
    pub hooks: (usize, usize),
    /// Downloads at the backend at once, which are there until their first byte, and of one address.
    pub bulk: (usize, usize),
    /// Bytes of memory for bodies and answers under way, all together.
    pub held: usize,
    /// Wrong tokens of one address in a minute that are answered as what they are; right ones always are.
    pub failures_per_minute: u32,
    /// Largest body, in bytes, unless [`Upgrades::body_limit`] says otherwise.
    pub body: u64,
    /// From accept to the end of the first head, TLS handshake included; and from a later head's first byte to its end.
    pub head_time: Duration,
    /// Between two requests on a connection.
    pub idle_time: Duration,
    /// For a whole body to arrive, however long it is.
    pub body_time: Duration,
    /// Bytes a second at which a body arrives at least, once [`Limits::head_time`] is over.
    pub write_rate: u64,
    /// For a token to be judged.
    pub authorize_time: Duration,
    /// From an upgrade to the agent's welcome. The hub has a limit of its own and says more; this is what holds without it.
    pub greet_time: Duration,
    /// From a whole request to the first byte of its response, the wait for a place included.
    pub first_byte: Duration,
    /// Between two pieces of a response out of the backend.
    pub backend_stall: Duration,
    /// For the client to take one piece of at most 64 KiB.
    pub write_time: Duration,
    /// Bytes a second that a client takes at least, on the average since its answer began, once that is
    /// [`Limits::write_time`] ago.
    pub read_rate: u64,
    /// Between two looks at the certificate files.
    pub certificate_check: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_address: 2560,
            pages: (24, 12),
            hooks: (8, 4),
            bulk: (4, 2),
            held: 64 << 20,
            failures_per_minute: 20,
            body: 2 << 20,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            body_time: Duration::from_secs(60),
            write_rate: 32 << 10,
            authorize_time: Duration::from_secs(10),
            greet_time: Duration::from_secs(15),
            first_byte: Duration::from_secs(30),
            backend_stall: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            read_rate: 4 << 10,
            certificate_check: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// Requests at the backend at once.
    #[must_use]
    pub fn at_backend(&self) -> usize {
        self.pages.0 + self.hooks.0 + self.bulk.0
    }
}

/// Tells the front that an agent was welcomed: until then its link counts for its address, and does not last.
pub struct Greeting {
    permit: Arc<Permit>,
    done: AtomicBool,
}

impl Greeting {
    /// The agent was welcomed.
    pub fn done(&self) {
        self.done.store(true, Ordering::Relaxed);
        self.permit.is_known();
    }
}

/// Who is let in, and what becomes of them.
pub trait Upgrades: Send + Sync + 'static {
    /// An agent whose token is right.
    type Agent: Send + 'static;
    /// A page that may listen.
    type Viewer: Send + 'static;

    /// Judges the token of `authorization: Bearer TOKEN` at `/agent`. A refusal of 401 or 403 counts against the address.
    fn authorize_agent(
        &self,
        head: &RequestHead,
        token: &str,
    ) -> impl Future<Output = Result<Self::Agent, Rejection>> + Send;

    /// Judges who asks at `/live`; that the request comes from one of our own pages is certain already.
    fn authorize_viewer(&self, head: &RequestHead) -> impl Future<Output = Result<Self::Viewer, Rejection>> + Send;

    /// Talks to an agent until the socket is done with, and says when it was welcomed. Runs as a task of its own.
    fn agent(
        &self,
        agent: Self::Agent,
        socket: Box<Socket>,
        greeting: Arc<Greeting>,
    ) -> impl Future<Output = ()> + Send;

    /// Talks to a page until the socket is done with. Runs as a task of its own.
    fn live(&self, viewer: Self::Viewer, head: RequestHead, socket: Box<Socket>) -> impl Future<Output = ()> + Send;

    /// Largest body in bytes for this request; `default` is [`Limits::body`].
    fn body_limit(&self, head: &RequestHead, default: u64) -> u64 {
        let _ = head;
        default
    }

    /// Among which requests this one waits for its turn.
    fn lane(&self, head: &RequestHead) -> Lane {
        let _ = head;
        Lane::Page
    }
}

/// Where to listen and what to do there.
pub struct FrontConfig {
    /// Addresses to listen on; port 0 takes any free one, and `[::]` takes IPv4 as well.
    pub listen: Vec<SocketAddr>,
    /// The backend, [`crate::http::HttpServer::backend`]; it must take [`Limits::at_backend`] requests at once.
    pub backend: Backend,
    /// Proxies that are believed when they say who their client is.
    pub proxies: Proxies,
    /// What may be before all paths.
    pub prefix: Prefix,
    /// What clients may cost.
    pub limits: Limits,
    /// Told, in one line, what the operator should know: certificates replaced, or replaced by broken ones.
    pub report: Arc<dyn Fn(String) + Send + Sync>,
}

/// The listening front; dropped, it accepts no more, and connections end in their own time.
pub struct Front {
    addresses: Vec<SocketAddr>,
    _listeners: Vec<Task<()>>,
}

/// What all connections share.
struct Shared<U> {
    identity: Arc<Identity>,
    upgrades: U,
    backend: Backend,
    proxies: Proxies,
    prefix: Prefix,
    limits: Limits,
    report: Arc<dyn Fn(String) + Send + Sync>,
    lines: Lines,
    gate: Arc<Gate>,
    /// When the certificate files are looked at next.
    next_check: Mutex<Instant>,
}

impl Front {
    /// Begins to listen, on the executor of [`smol::spawn`].
    ///
    /// # Errors
    /// When an address cannot be bound; the text names it.
    pub fn start<U: Upgrades>(config: FrontConfig, identity: Arc<Identity>, upgrades: U) -> io::Result<Self> {
        let limits = config.limits;
        let gate = Gate::new(Quotas {
            connections: limits.connections.min(descriptor_room(limits.connections)),
            connections_per_address: limits.connections_per_address,
            lanes: [limits.hooks, limits.pages, limits.bulk],
            held: limits.held,
            failures_per_minute: limits.failures_per_minute,
        });
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for listener in listen::all(&config.listen)? {
            addresses.push(listener.local_addr()?);
            listeners.push(Async::new(listener)?);
        }
        let lines = Lines::new(Arc::clone(&config.report));
        let shared = Arc::new(Shared {
            identity,
            upgrades,
            backend: config.backend,
            proxies: config.proxies,
            prefix: config.prefix,
            limits,
            report: config.report,
            lines,
            gate,
            next_check: Mutex::new(Instant::now() + limits.certificate_check),
        });
        let tasks = listeners.into_iter().map(|listener| smol::spawn(accept(Arc::clone(&shared), listener))).collect();
        Ok(Self { addresses, _listeners: tasks })
    }

    /// The addresses listened on, with the ports that were taken.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// Raises the soft limit of descriptors as far as `wanted` connections need it, and tells how many it allows.
fn descriptor_room(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + DESCRIPTOR_RESERVE;
    let mut current = limit.current.unwrap_or(u64::MAX);
    if current < needed {
        let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        let rlimit = Rlimit { current: Some(raised), maximum: limit.maximum };
        if raised > current && setrlimit(Resource::Nofile, rlimit).is_ok() {
            current = raised;
        }
    }
    let reserve = DESCRIPTOR_RESERVE.min(current / 2);
    usize::try_from(current - reserve).unwrap_or(usize::MAX)
}

/// Accepts connections for ever.
async fn accept<U: Upgrades>(shared: Arc<Shared<U>>, listener: Async<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // Beyond the quota a connection is closed at once: whoever is honest comes again.
                let peer = peer.ip().to_canonical();
                let owner = Some(peer).filter(|peer| !shared.proxies.trust(*peer));
                match shared.gate.admit(owner, Instant::now()) {
                    Some(permit) => detach(connection(Arc::clone(&shared), tcp, peer, Arc::new(permit))),
                    None => shared.complain("too many connections", peer),
                }
            }
            Err(_) => {
                Timer::after(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Gives up after some time.
async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    or(async { Some(work.await) }, async {
        Timer::after(time).await;
        None
    })
    .await
}

/// Writes all, or fails when the client does not take it in time.
async fn write(limits: &Limits, stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    within(limits.write_time, async {
        stream.write_all(bytes).await?;
        stream.flush().await
    })
    .await
    .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// One client from accept to close, or to its upgrade, unless it has to give way before.
async fn connection<U: Upgrades>(shared: Arc<Shared<U>>, tcp: Async<TcpStream>, peer: IpAddr, permit: Arc<Permit>) {
    let serving = serve(&shared, tcp, peer, &permit);
    let upgraded = or(serving, async {
        permit.cut().await;
        None
    });
    // A task of its own, so that what the handshake needed is freed.
    if let Some(upgraded) = upgraded.await {
        detach(carry(shared, permit, upgraded));
    }
}

/// A connection that is a WebSocket now.
struct Upgraded<U: Upgrades> {
    head: RequestHead,
    admitted: Admitted<U>,
    // Boxed: a task keeps room for all that was ever moved into it, and this is moved from one to the next.
    socket: Box<Socket>,
}

/// Talks to whoever was let in until that ends.
async fn carry<U: Upgrades>(shared: Arc<Shared<U>>, permit: Arc<Permit>, upgraded: Upgraded<U>) {
    let Upgraded { head, admitted, socket } = upgraded;
    match admitted {
        Admitted::Agent(agent) => {
            permit.enter(Phase::Ungreeted);
            let greeting = Arc::new(Greeting { permit: Arc::clone(&permit), done: AtomicBool::new(false) });
            let late = async {
                Timer::after(shared.limits.greet_time).await;
                if greeting.done.load(Ordering::Relaxed) {
                    smol::future::pending().await
                }
            };
            or(shared.upgrades.agent(agent, socket, Arc::clone(&greeting)), or(late, permit.cut())).await;
        }
        Admitted::Viewer(viewer) => {
            permit.enter(Phase::Viewer);
            or(shared.upgrades.live(viewer, head, socket), permit.cut()).await;
        }
    }
}

/// Answers a client's requests until it is done or one of them is an upgrade.
async fn serve<U: Upgrades>(
    shared: &Shared<U>,
    tcp: Async<TcpStream>,
    peer: IpAddr,
    permit: &Permit,
) -> Option<Upgraded<U>> {
    let limits = &shared.limits;
    let head_by = Instant::now() + limits.head_time;
    // Without this each handshake waits for a delayed acknowledgement, 40 ms.
    let _ = tcp.get_ref().set_nodelay(true);
    let begun = within(limits.head_time, begin(shared, &tcp, peer, permit)).await?.ok()?;
    let (HANDSHAKE, peer) = begun else {
        plain(tcp).await;
        return None;
    };
    shared.check_certificates().await;
    let accept = TlsAcceptor::from(shared.identity.server_config()).accept(tcp);
    let stream = within(head_by.saturating_duration_since(Instant::now()), accept).await?.ok()?;
    let mut client = Client { stream, buffer: Vec::new(), peer };
    let mut first_by = head_by;
    loop {
        let (mut head, framing) = match client.next_head(limits, first_by).await {
            Ok(Some(next)) => next,
            Ok(None) => {
                client.close().await;
                return None;
            }
            Err(rejection) => {
                client.refuse(limits, &rejection).await;
                return None;
            }
        };
        permit.enter(Phase::Request);
        head.path = shared.prefix.strip(&head.path).to_owned();
        let outcome = match (shared.client(&mut head, permit), Door::at(&head.path)) {
            (Err(rejection), _) => Err(rejection),
            (Ok(()), Some(door)) => match shared.open(door, &head, framing).await {
                Ok((answer, admitted)) => {
                    write(limits, &mut client.stream, answer.as_bytes()).await.ok()?;
                    let socket = Box::new(upgrade::websocket(client.stream, client.buffer).await);
                    return Some(Upgraded { head, admitted, socket });
                }
                Err(rejection) => Err(rejection),
            },
            (Ok(()), None) => client.forward(shared, permit, &head, framing).await,
        };
        match outcome {
            Ok(After::Next) => {
                permit.enter(Phase::Idle);
                first_by = Instant::now() + limits.idle_time;
            }
            Ok(After::Close) => {
                client.close().await;
                return None;
            }
            Ok(After::Cut) => return None,
            Err(rejection) => {
                client.refuse(limits, &rejection).await;
                return None;
            }
        }
    }
}

/// Waits for a connection's first byte, behind what a trusted proxy may have put before it: that byte, and whom the
/// connection comes from.
async fn begin<U: Upgrades>(
    shared: &Shared<U>,
    tcp: &Async<TcpStream>,
    peer: IpAddr,
    permit: &Permit,
) -> io::Result<(u8, IpAddr)> {
    let mut first = [0];
    let mut from = peer;
    tcp.peek(&mut first).await?;
    if shared.proxies.trust(peer) && proxies::begins(first[0]) {
        if let Some(client) = proxies::read(tcp).await? {
            from = client;
            if !shared.proxies.trust(client) && !permit.belongs_to(client) {
                shared.complain("too many connections", client);
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
        }
        tcp.peek(&mut first).await?;
    }
    Ok((first[0], from))
}

impl<U: Upgrades> Shared<U> {
    /// Tells the operator that somebody cannot have what they want; of many only a few.
    fn complain(&self, what: &'static str, address: IpAddr) {
        self.lines.say(address, format!("{what}, from {address}"));
    }

    /// Notes that a wrong token was given. Right ones are not asked how often others were wrong before.
    ///
    /// # Errors
    /// The answer to give instead, when there were too many of this address.
    fn failed(&self, address: IpAddr, place: &str) -> Result<(), Rejection> {
        let what = match place {
            "sign-in" => "a sign-in with a wrong token",
            "agent" => "a wrong token of an agent",
            _ => "a request with a wrong token",
        };
        self.complain(what, address);
        if self.gate.failed(address, Instant::now()) {
            return Err(Rejection::new(429, "too many wrong tokens from this address; try again in a minute"));
        }
        Ok(())
    }

    /// Finds out whose a request is that came through an HTTP proxy, and counts the connection for that client.
    fn client(&self, head: &mut RequestHead, permit: &Permit) -> Result<(), Rejection> {
        if !self.proxies.trust(head.peer) {
            return Ok(());
        }
        let forwarded = head.headers.iter().filter(|(name, _)| name == "x-forwarded-for");
        let client = self.proxies.client(head.peer, forwarded.map(|(_, value)| value.as_str()));
        head.peer = client;
        if self.proxies.trust(client) || permit.belongs_to(client) {
            return Ok(());
        }
        self.complain("too many connections", client);
        Err(Rejection::new(429, "too many connections from this address; try again"))
    }

    /// Looks at the certificate files now and then, before a handshake that would use them.
    async fn check_certificates(&self) {
        let now = Instant::now();
        {
            let mut next = self.next_check.lock().unwrap_or_else(PoisonError::into_inner);
            if now < *next {
                return;
            }
            *next = now + self.limits.certificate_check;
        }
        let identity = Arc::clone(&self.identity);
        match unblock(move || identity.refresh()).await {
            Refresh::Unchanged => {}
            Refresh::Replaced(fingerprint) => (self.report)(format!(
                "the certificate was replaced; agents that pinned the old one must join again with fingerprint {}",
                sai_agent::pin::fingerprint_text(&fingerprint)
            )),
            Refresh::Refused(error) => (self.report)(format!("{error}; the certificates loaded before stay in use")),
        }
    }

    /// Decides about an upgrade, and makes the answer that opens it.
    async fn open(&self, door: Door, head: &RequestHead, framing: Framing) -> Result<(String, Admitted<U>), Rejection> {
        let answer = upgrade::accept(head, framing.body)?;
        let late = || Rejection::new(503, "the master is too busy to look at this; try again");
        match door {
            Door::Agent => {
                let judged = match upgrade::bearer(head) {
                    Some(token) => {
                        let judging = self.upgrades.authorize_agent(head, token);
                        within(self.limits.authorize_time, judging).await.ok_or_else(late)?
                    }
                    None => Err(Rejection::new(401, "authorization: Bearer TOKEN is expected")),
                };
                if let Err(Rejection { status: 401 | 403, .. }) = judged {
                    self.failed(head.peer, "agent")?;
                }
                Ok((answer, Admitted::Agent(judged?)))
            }
            Door::Live => {
                if !upgrade::is_same_origin(head) {
                    return Err(Rejection::new(403, "this page belongs to another site"));
                }
                let judging = self.upgrades.authorize_viewer(head);
                let viewer = within(self.limits.authorize_time, judging).await.ok_or_else(late)??;
                Ok((answer, Admitted::Viewer(viewer)))
            }
        }
    }
}
