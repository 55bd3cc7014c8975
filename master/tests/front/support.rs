//! A front with a backend and a certificate, and clients for it.

use futures_rustls::TlsConnector;
use sai_agent::link::Timing;
use sai_agent::pin::{self, Trust};
use sai_master::front::{
    Front, FrontConfig, Greeting, Lane, Limits, Message, Proxies, Rejection, RequestHead, Socket, Upgrades,
};
use sai_master::http::{Body, HttpServer, Request, Response};
use sai_master::page_socket::page_socket;
use sai_master::tls::{Identity, Sources};
use sai_master::viewers::Socket as _;
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::stream::StreamExt as _;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest a step of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that goes with its test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sai-front-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a command line, words separated by single spaces, in a directory; it must succeed.
pub fn run(directory: &Path, line: &str) -> Output {
    let mut words = line.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{line}: {done:?}");
    done
}

/// Runs our own script.
pub fn make_certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/gen-selfsigned-certs.sh");
    run(directory, &format!("{} {} --force", script.display(), directory.display()));
    (directory.join("sai-master.pem"), directory.join("sai-master-key.pem"))
}

/// Waits for something that may take a moment.
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    smol::future::or(async { Some(work.await) }, async {
        smol::Timer::after(PATIENCE).await;
        None
    })
    .await
    .expect("this took too long")
}

/// The upgrades of the tests: the token `good` is right, agents and pages get their messages back.
#[derive(Default)]
pub struct Echo {
    /// Tokens that were judged.
    pub judged: Arc<AtomicUsize>,
}

async fn echo(mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

impl Upgrades for Echo {
    type Agent = String;
    type Viewer = ();

    async fn authorize_agent(&self, head: &RequestHead, token: &str) -> Result<String, Rejection> {
        self.judged.fetch_add(1, Ordering::SeqCst);
        match token {
            "good" => Ok(format!("bumblebee from {} at {}", head.peer, head.target())),
            "mute" => Ok("mute".to_owned()),
            "slow" => smol::future::pending().await,
            _ => Err(Rejection::new(403, "this token is not known")),
        }
    }

    async fn authorize_viewer(&self, head: &RequestHead) -> Result<(), Rejection> {
        match head.header("cookie") {
            Some("session=1") => Ok(()),
            _ => Err(Rejection::new(401, "sign in first")),
        }
    }

    async fn agent(&self, agent: String, mut socket: Box<Socket>, greeting: Arc<Greeting>) {
        if agent.ends_with("mute") {
            smol::future::pending().await
        }
        greeting.done();
        if socket.send(Message::text(format!("hello {agent}"))).await.is_ok() {
            echo(*socket).await;
        }
    }

    async fn live(&self, (): (), head: RequestHead, socket: Box<Socket>) {
        if head.query != "page" {
            return echo(*socket).await;
        }
        let (ping, dead) = (Duration::from_millis(200), Duration::from_secs(2));
        let (mut page, gone) = page_socket(*socket, Timing { ping, dead, ..Timing::default() }, Default::default());
        if page.send("shown".to_owned()).await.is_ok() {
            gone.await;
        }
    }

    fn body_limit(&self, head: &RequestHead, default: u64) -> u64 {
        if head.path == "/import" { 8 << 20 } else { default }
    }

    fn lane(&self, head: &RequestHead) -> Lane {
        match head.path.as_str() {
            "/hook" => Lane::Hook,
            "/big" | "/file" => Lane::Bulk,
            _ => Lane::Page,
        }
    }
}

/// Bytes of `/text`, without its line end: a page that is too long for the buffers of sockets.
pub const TEXT: usize = 2_000_000;

/// Bytes of `/big`.
pub const BIG: u64 = 64 << 20;

/// The pages of the tests.
fn answer(request: Request, file: &Path) -> Response {
    match request.path.as_str() {
        "/file" => Response::file(&request, File::open(file).unwrap(), "text/plain", Some("\"tag\"")).unwrap(),
        "/big" => Response {
            status: 200,
            headers: Vec::new(),
            body: Body::Reader { reader: Box::new(io::repeat(b'x')), length: BIG },
        },
        "/text" => Response::text(200, "t".repeat(TEXT)),
        "/short" => Response {
            status: 200,
            headers: Vec::new(),
            body: Body::Reader { reader: Box::new(io::repeat(b'x').take(1000)), length: 100_000 },
        },
        "/never" => {
            std::thread::sleep(Duration::from_millis(1500));
            Response::text(200, "at last")
        }
        "/panic" => panic!("a bug in a page"),
        "/gone" => Response::empty(204),
        "/odd" => Response::text(200, "odd").with("x-odd", "a\r\nset-cookie: b\u{e9}"),
        _ => {
            let mut text = format!(
                "{} {} {} peer={} body={}\n",
                request.method,
                request.path,
                request.query,
                request.peer,
                request.body.len()
            );
            for (name, value) in &request.headers {
                text.push_str(&format!("{name}: {value}\n"));
            }
            Response::text(200, text)
        }
    }
}

/// Everything a test needs; taken down in this order.
pub struct World {
    _front: Front,
    _http: HttpServer,
    pub identity: Arc<Identity>,
    pub address: SocketAddr,
    /// Lines for the operator.
    pub reports: Arc<Mutex<Vec<String>>>,
    /// Tokens that were judged.
    pub judged: Arc<AtomicUsize>,
    pub scratch: Scratch,
}

/// A master with a certificate of its own making.
pub fn world(change: impl FnOnce(&mut Limits)) -> World {
    world_with(Scratch::new(), None, change)
}

/// A master with the operator's certificate and key.
pub fn world_with(scratch: Scratch, operator: Option<(PathBuf, PathBuf)>, change: impl FnOnce(&mut Limits)) -> World {
    world_behind(&[], scratch, operator, change)
}

/// A master that believes these proxies.
pub fn world_behind(
    proxies: &[&str],
    scratch: Scratch,
    operator: Option<(PathBuf, PathBuf)>,
    change: impl FnOnce(&mut Limits),
) -> World {
    let sources = Sources { operator, directory: scratch.path("tls"), names: vec!["ci.example".to_owned()] };
    let identity = Arc::new(Identity::load(sources).unwrap());
    let mut limits = Limits::default();
    change(&mut limits);
    let file = scratch.path("file");
    std::fs::write(&file, "0123456789").unwrap();
    // A long path, as state directories may have.
    let directory = scratch.path(&"deep/".repeat(30));
    let handler = Arc::new(move |request: Request| answer(request, &file));
    let http = HttpServer::start(&directory, limits.at_backend(), handler).unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&reports);
    let echo = Echo::default();
    let judged = Arc::clone(&echo.judged);
    let config = FrontConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        backend: http.backend(),
        proxies: Proxies(proxies.iter().map(|text| text.parse().unwrap()).collect()),
        prefix: Default::default(),
        limits,
        report: Arc::new(move |line| heard.lock().unwrap().push(line)),
    };
    let front = Front::start(config, Arc::clone(&identity), echo).unwrap();
    let address = front.addresses()[0];
    World { _front: front, _http: http, identity, address, reports, judged, scratch }
}

/// A client's TLS connection.
pub type Client = futures_rustls::client::TlsStream<Async<TcpStream>>;

impl World {
    /// Runs curl without certificate check; its standard output.
    pub fn curl(&self, arguments: &str, path: &str) -> Output {
        let url = format!("https://{}{path}", self.address);
        let mut command = Command::new("curl");
        command.args(["-k", "-sS", "--max-time", "60"]);
        command.args(arguments.split(' ').filter(|word| !word.is_empty()));
        command.arg(url).current_dir(&self.scratch.0).output().unwrap()
    }

    /// What curl prints, which must succeed.
    pub fn curl_text(&self, arguments: &str, path: &str) -> String {
        let done = self.curl(arguments, path);
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Connects as agents do.
    pub async fn connect(&self) -> io::Result<Client> {
        self.connect_pinned(self.identity.fingerprint()).await
    }

    /// Connects with a pinned certificate.
    pub async fn connect_pinned(&self, fingerprint: [u8; 32]) -> io::Result<Client> {
        let tcp = Async::<TcpStream>::connect(self.address).await?;
        self.secure(tcp, fingerprint).await
    }

    /// Begins TLS on a connection.
    pub async fn secure(&self, tcp: Async<TcpStream>, fingerprint: [u8; 32]) -> io::Result<Client> {
        let config = pin::client_config(Trust::Fingerprint(fingerprint)).unwrap();
        tcp.get_ref().set_nodelay(true)?;
        TlsConnector::from(config).connect(pin::server_name("ci.example").unwrap(), tcp).await
    }

    /// Sends bytes on a connection of its own and reads until the master closes.
    pub fn exchange(&self, bytes: &[u8]) -> String {
        smol::block_on(soon(async {
            let mut client = self.connect().await.unwrap();
            client.write_all(bytes).await.unwrap();
            client.flush().await.unwrap();
            read_to_end(&mut client).await
        }))
    }
}

/// A TCP connection from one of this machine's addresses.
pub fn tcp_from(from: &str, to: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let from: SocketAddr = format!("{from}:0").parse().unwrap();
    let family = if from.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket(family, SocketType::STREAM, None)?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// Reads until the other side closes, orderly or not.
pub async fn read_to_end(client: &mut Client) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = client.read(&mut piece).await {
        all.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads one response whose body is as long as it says.
pub async fn read_response(client: &mut Client) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            assert!(body.len() <= length, "more than one response: {text}");
            if body.len() == length {
                return text;
            }
        }
        let read = client.read(&mut piece).await.unwrap();
        assert!(read > 0, "closed after {text:?}");
        all.extend_from_slice(&piece[..read]);
    }
}
