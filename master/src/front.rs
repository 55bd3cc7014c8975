//! TCP connection → authorised WebSocket, or request for the pages: the one place where strangers' bytes arrive.
//!
//! Each connection is TLS, and its requests are read strictly and one after the other. `/agent` and `/live` become
//! WebSockets once whoever asks was let in; every other request is bounded and framed anew before the backend sees it.
//! Time, bytes, connections and memory are limited for each address and for all together, by [`Limits`].

mod client;
mod gate;
mod head;
mod relay;
mod upgrade;

pub use head::{Rejection, RequestHead};
pub use upgrade::{Message, Socket, SocketError, SocketWriter};

use crate::tls::{Identity, Refresh};
use client::{After, Client, plain};
use futures_rustls::TlsAcceptor;
use gate::{Gate, Permit, Quotas};
use head::Framing;
use sai_agent::blocking::{detach, unblock};
use smol::io::AsyncWriteExt as _;
use smol::{Async, Task, Timer};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use upgrade::{Admitted, Door};

/// A client's connection after the TLS handshake.
pub type Stream = futures_rustls::server::TlsStream<Async<TcpStream>>;

/// First byte of every TLS handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// Connections that the kernel holds until they are accepted: a thousand agents return at once after a restart.
const BACKLOG: i32 = 1024;

/// Descriptors left for everything but connections: store, logs, children and the backend.
const DESCRIPTOR_RESERVE: u64 = 512;

/// Pause after an accept that failed, as it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all; also bounded by the process's limit of descriptors.
    pub connections: usize,
    /// Connections of one address (of one /64 for IPv6), agents that were let in not counted.
    pub connections_per_address: usize,
    /// Requests at the backend at once.
    pub forwards: usize,
    /// Of these, of one address.
    pub forwards_per_address: usize,
    /// Bodies above 16 KiB in memory at once.
    pub uploads: usize,
    /// Of these, of one address.
    pub uploads_per_address: usize,
    /// Wrong tokens of one address in a minute, before it is no longer listened to.
    pub failures_per_minute: u32,
    /// Largest body, in bytes, unless [`Upgrades::body_limit`] says otherwise.
    pub body: u64,
    /// From accept to the end of the first head, TLS handshake included; and from a later head's first byte to its end.
    pub head_time: Duration,
    /// Between two requests on a connection.
    pub idle_time: Duration,
    /// For a whole body to arrive.
    pub body_time: Duration,
    /// For a token to be judged.
    pub authorize_time: Duration,
    /// From a whole request to the first byte of its response, the wait for a place included.
    pub first_byte: Duration,
    /// Between two pieces of a response out of the backend.
    pub backend_stall: Duration,
    /// For the client to take one piece of at most 64 KiB.
    pub write_time: Duration,
    /// Between two looks at the certificate files.
    pub certificate_check: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_address: 256,
            forwards: 32,
            forwards_per_address: 12,
            uploads: 16,
            uploads_per_address: 4,
            failures_per_minute: 20,
            body: 2 << 20,
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            body_time: Duration::from_secs(60),
            authorize_time: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            backend_stall: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            certificate_check: Duration::from_secs(2),
        }
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

    /// Talks to an agent until the socket is done with. Runs as a task of its own.
    fn agent(&self, agent: Self::Agent, socket: Box<Socket>) -> impl Future<Output = ()> + Send;

    /// Talks to a page until the socket is done with. Runs as a task of its own.
    fn live(&self, viewer: Self::Viewer, head: RequestHead, socket: Box<Socket>) -> impl Future<Output = ()> + Send;

    /// Largest body in bytes for this request; `default` is [`Limits::body`].
    fn body_limit(&self, head: &RequestHead, default: u64) -> u64 {
        let _ = head;
        default
    }
}

/// Where to listen and what to do there.
pub struct FrontConfig {
    /// Addresses to listen on; port 0 takes any free one.
    pub listen: Vec<SocketAddr>,
    /// The backend's unix socket, [`crate::http::HttpServer::socket`]; it must take [`Limits::forwards`] at once.
    pub backend: PathBuf,
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
    backend: PathBuf,
    limits: Limits,
    report: Arc<dyn Fn(String) + Send + Sync>,
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
            forwards: (limits.forwards, limits.forwards_per_address),
            uploads: (limits.uploads, limits.uploads_per_address),
            failures_per_minute: limits.failures_per_minute,
        });
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in &config.listen {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
            let listener = TcpListener::bind(address).map_err(named)?;
            // The standard library asks for 128; listening again changes only that (listen(2)).
            rustix::net::listen(&listener, BACKLOG).map_err(|error| named(error.into()))?;
            addresses.push(listener.local_addr().map_err(named)?);
            listeners.push(Async::new(listener).map_err(named)?);
        }
        let shared = Arc::new(Shared {
            identity,
            upgrades,
            backend: config.backend,
            limits,
            report: config.report,
            gate,
            next_check: Mutex::new(Instant::now() + limits.certificate_check),
        });
        let tasks = listeners.into_iter().map(|listener| smol::spawn(listen(Arc::clone(&shared), listener))).collect();
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
async fn listen<U: Upgrades>(shared: Arc<Shared<U>>, listener: Async<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // Beyond the quota a connection is closed at once: whoever is honest comes again.
                if let Some(permit) = shared.gate.admit(peer.ip(), Instant::now()) {
                    detach(connection(Arc::clone(&shared), tcp, peer, permit));
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
    smol::future::or(async { Some(work.await) }, async {
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

/// One client from accept to close, or to its upgrade.
async fn connection<U: Upgrades>(shared: Arc<Shared<U>>, tcp: Async<TcpStream>, peer: SocketAddr, permit: Permit) {
    let limits = &shared.limits;
    let head_by = Instant::now() + limits.head_time;
    // Without this each handshake waits for a delayed acknowledgement, 40 ms.
    let _ = tcp.get_ref().set_nodelay(true);
    let mut first = [0];
    match within(limits.head_time, tcp.peek(&mut first)).await {
        Some(Ok(1)) if first == [HANDSHAKE] => {}
        Some(Ok(1)) => return plain(tcp).await,
        _ => return,
    }
    shared.check_certificates().await;
    let accept = TlsAcceptor::from(shared.identity.server_config()).accept(tcp);
    let Some(Ok(stream)) = within(head_by.saturating_duration_since(Instant::now()), accept).await else {
        return;
    };
    let mut client = Client { stream, buffer: Vec::new(), peer };
    let mut first_by = head_by;
    loop {
        let (head, framing) = match client.next_head(limits, first_by).await {
            Ok(Some(next)) => next,
            Ok(None) => return client.close().await,
            Err(rejection) => return client.refuse(limits, &rejection).await,
        };
        let outcome = match Door::at(&head.path) {
            Some(door) => match shared.open(door, &head, framing, &permit).await {
                Ok((answer, admitted)) => {
                    return upgrade(shared, client, permit, head, answer, admitted).await;
                }
                Err(rejection) => Err(rejection),
            },
            None => client.forward(&shared, &permit, &head, framing).await,
        };
        match outcome {
            Ok(After::Next) => first_by = Instant::now() + limits.idle_time,
            Ok(After::Close) => return client.close().await,
            Ok(After::Cut) => return,
            Err(rejection) => return client.refuse(limits, &rejection).await,
        }
    }
}

/// Answers an upgrade and lets the callback run as a task of its own, so that what the handshake needed is freed.
async fn upgrade<U: Upgrades>(
    shared: Arc<Shared<U>>,
    mut client: Client,
    mut permit: Permit,
    head: RequestHead,
    answer: String,
    admitted: Admitted<U>,
) {
    if write(&shared.limits, &mut client.stream, answer.as_bytes()).await.is_err() {
        return;
    }
    // Boxed: a task keeps room for all that was ever moved into it, and this is moved from one to the next.
    let socket = Box::new(upgrade::websocket(client.stream, client.buffer).await);
    match admitted {
        Admitted::Agent(agent) => {
            permit.is_known();
            detach(async move {
                shared.upgrades.agent(agent, socket).await;
                drop(permit);
            });
        }
        Admitted::Viewer(viewer) => detach(async move {
            shared.upgrades.live(viewer, head, socket).await;
            drop(permit);
        }),
    }
}

impl<U: Upgrades> Shared<U> {
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
    async fn open(
        &self,
        door: Door,
        head: &RequestHead,
        framing: Framing,
        permit: &Permit,
    ) -> Result<(String, Admitted<U>), Rejection> {
        let answer = upgrade::accept(head, framing.body)?;
        let late = || Rejection::new(503, "the master is too busy to look at this; try again");
        match door {
            Door::Agent => {
                if !permit.may_try(Instant::now()) {
                    return Err(Rejection::new(429, "too many wrong tokens from this address; try again in a minute"));
                }
                let judged = match upgrade::bearer(head) {
                    Some(token) => {
                        let judging = self.upgrades.authorize_agent(head, token);
                        within(self.limits.authorize_time, judging).await.ok_or_else(late)?
                    }
                    None => Err(Rejection::new(401, "authorization: Bearer TOKEN is expected")),
                };
                if let Err(Rejection { status: 401 | 403, .. }) = judged {
                    permit.failed(Instant::now());
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
