//! Request → Response: the server behind the front, which calls one handler with whole, bounded requests.
//!
//! It is tiny_http on a unix socket in a private directory. tiny_http trusts its peer in ways that a stranger could
//! use: it allocates what an unread Content-Length claims, keeps connections without time-out and accepts
//! contradictory framing. Nobody but the front may therefore reach the socket, and the front sends one request a
//! connection, whole, with framing of its own, and never more of them at once than there are workers. Long bodies do not
//! come back through the socket: the front fetches them from [`Bodies`], so that no worker waits for a client.

mod bodies;
pub mod encoding;
pub mod range;

pub use bodies::{Bodies, Claim};

use encoding::Asked;
use range::Selection;
use sai_agent::blocking::{detach, unblock};
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

/// Header by which the front names the client's address; a client's own copy never arrives.
pub const PEER_HEADER: &str = "sai-peer";

/// Header by which the front names its claim to the body; a client's own copy never arrives.
pub const CLAIM_HEADER: &str = "sai-claim";

/// Header that says how many bytes the claimed body has; it is not for clients.
pub const CLAIMED_HEADER: &str = "sai-claimed";

/// Header that says in a word that somebody gave a wrong token, and where; it is not for clients.
pub const FAILED_HEADER: &str = "sai-failed";

/// Longest body, in bytes, that comes back through the socket: what a socket's own buffer takes at once.
pub const INLINE_BYTES: usize = 64 << 10;

/// Worker threads that wait for a request although nobody asks anything: what came in a burst ends with it.
const SPARE_WORKERS: usize = 2;

/// Bytes of a body from which on the memory that it took is given back to the system: an allocator keeps it in as many pieces as
/// the page was made of, and each worker's by itself. A page of 1500 agents left 8 MB behind.
const LARGE_BYTES: u64 = 256 << 10;

/// How long after a large body that is, so that who turns pages does not pay for it with each.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(5);

/// Pause before listening anew after the server's accept loop ended, which it does when descriptors run out.
const REVIVE_AFTER: Duration = Duration::from_millis(200);

/// A whole request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Upper-case, as sent: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
    pub method: String,
    /// From the first slash to the question mark, still percent-encoded; printable ASCII.
    pub path: String,
    /// After the question mark, still percent-encoded; empty when there is none.
    pub query: String,
    /// Names in lower case, values without surrounding blanks, in the order sent; printable ASCII.
    pub headers: Vec<(String, String)>,
    /// Whole body, no longer than the front's limit for this route.
    pub body: Vec<u8>,
    /// Address of the client, without port.
    pub peer: String,
}

impl Request {
    /// The first header of this name, to be given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What a response carries.
pub enum Body {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// Part of a file. It is sent by the front itself.
    File {
        /// Open for reading.
        file: File,
        /// First byte, from the file's beginning.
        offset: u64,
        /// Bytes to send; if the file ends earlier the client sees a cut connection.
        length: u64,
    },
    /// Bytes made while they are sent.
    Reader {
        /// Read by the front on a thread where it may block.
        reader: Box<dyn Read + Send>,
        /// Bytes to send; if the reader ends earlier the client sees a cut connection.
        length: u64,
    },
}

/// An answer. `x-content-type-options` and `referrer-policy` are added unless given.
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Names and values. Characters that a header cannot carry are sent as question marks.
    pub headers: Vec<(&'static str, String)>,
    /// Body; not sent to HEAD, nor with 204 and 304.
    pub body: Body,
}

impl Response {
    /// A response without body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Bytes(Vec::new()) }
    }

    /// A response of bytes in memory.
    #[must_use]
    pub fn bytes(status: u16, content_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("content-type", content_type.to_owned())], body: Body::Bytes(bytes.into()) }
    }

    /// A line of plain text.
    #[must_use]
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self::bytes(status, "text/plain; charset=utf-8", text)
    }

    /// A file, or the part of it that the request's `Range` header selects (200, 206, 304 or 416, RFC 9110).
    ///
    /// `tag` is a strong entity tag with its quotes, such as `"sha256:…"`; without one, `If-Range` never holds. The
    /// file's length is taken now; what is appended later is not sent.
    ///
    /// # Errors
    /// When the file's length cannot be read.
    pub fn file(request: &Request, file: File, content_type: &str, tag: Option<&str>) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut headers = vec![("content-type", content_type.to_owned()), ("accept-ranges", "bytes".to_owned())];
        if let Some(tag) = tag {
            headers.push(("etag", tag.to_owned()));
        }
        if range::client_has_it(request.header("if-none-match"), tag) {
            return Ok(Self { headers, ..Self::empty(304) });
        }
        let asked = request.header("range").filter(|_| range::range_stands(request.header("if-range"), tag));
        let (status, offset, length) = match range::select(asked, length) {
            Selection::Whole => (200, 0, length),
            Selection::Part { offset, length: part } => {
                headers.push(("content-range", format!("bytes {offset}-{}/{length}", offset + part - 1)));
                (206, offset, part)
            }
            Selection::Unsatisfiable => {
                let mut refusal = Self::text(416, format!("the file has {length} bytes"));
                refusal.headers.push(("content-range", format!("bytes */{length}")));
                return Ok(refusal);
            }
        };
        Ok(Self { status, headers, body: Body::File { file, offset, length } })
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Makes a response of a request. Called on worker threads, several at once; may block.
pub type Handler = Arc<dyn Fn(Request) -> Response + Send + Sync>;

/// Where the front finds the server; of use in this process alone.
#[derive(Clone)]
pub struct Backend {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// The bodies that do not come back through the socket.
    pub bodies: Arc<Bodies>,
}

/// The running server; it stops when dropped.
pub struct HttpServer {
    shared: Arc<Shared>,
    socket: PathBuf,
}

/// What the server's threads share.
struct Shared {
    handler: Handler,
    /// Most worker threads at once.
    workers: usize,
    /// Worker threads there are; they are started when all others are busy.
    threads: AtomicUsize,
    /// Worker threads waiting for a request, those included that are just being started to.
    idle: AtomicUsize,
    stopping: AtomicBool,
    /// Whether memory will be given back.
    ebbing: Arc<AtomicBool>,
    bodies: Arc<Bodies>,
    /// The server that listens now, to wake its workers at the end.
    current: Mutex<Option<Arc<tiny_http::Server>>>,
    /// The directory, held open because the socket's path goes through this descriptor.
    _directory: File,
}

impl HttpServer {
    /// Starts to listen in `directory`, which is made with mode 0700 or brought to it, with at most `workers` calls of
    /// the handler at once.
    ///
    /// # Errors
    /// When the directory or the socket cannot be made.
    pub fn start(directory: &Path, workers: usize, handler: Handler) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let held = File::open(directory)?;
        held.set_permissions(fs::Permissions::from_mode(0o700))?;
        // A socket's path has at most 107 bytes (unix(7)), a state directory's may have more: go through the descriptor.
        let socket = PathBuf::from(format!("/proc/self/fd/{}/http.sock", held.as_raw_fd()));
        let server = listen(&socket)?;
        let shared = Arc::new(Shared {
            handler,
            workers: workers.max(1),
            threads: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            ebbing: Arc::default(),
            bodies: Arc::default(),
            current: Mutex::new(None),
            _directory: held,
        });
        let keeper = Arc::clone(&shared);
        let path = socket.clone();
        thread::Builder::new().name("http".to_owned()).spawn(move || keeper.keep(server, &path))?;
        Ok(Self { shared, socket })
    }

    /// How to reach it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        Backend { socket: self.socket.clone(), bodies: Arc::clone(&self.shared.bodies) }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let current = self.shared.current().take();
        if let Some(server) = current {
            server.unblock();
        }
    }
}

/// Binds the socket, in place of one that a killed process left behind.
fn listen(socket: &Path) -> io::Result<tiny_http::Server> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tiny_http::Server::from_listener(UnixListener::bind(socket)?, None).map_err(io::Error::other)
}

impl Shared {
    /// Serves until the end, listening anew whenever the accept loop of the server has ended.
    fn keep(&self, first: tiny_http::Server, socket: &Path) {
        let mut next = Some(first);
        while !self.stopping.load(Ordering::SeqCst) {
            let Some(server) = next.take() else {
                thread::sleep(REVIVE_AFTER);
                next = listen(socket).ok();
                continue;
            };
            let server = Arc::new(server);
            *self.current() = Some(Arc::clone(&server));
            self.threads.store(1, Ordering::SeqCst);
            self.idle.store(1, Ordering::SeqCst);
            // Whoever stopped us before the server was to be seen could not wake its workers.
            if !self.stopping.load(Ordering::SeqCst) {
                thread::scope(|scope| self.work(scope, &server, true));
            }
            // Both go before anew is listened: a server that ends removes the socket at its path.
            *self.current() = None;
        }
    }

    /// The server that listens now.
    fn current(&self) -> MutexGuard<'_, Option<Arc<tiny_http::Server>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers requests on this thread, which is counted as waiting already. It ends when there are enough that wait, unless
    /// it is to `stay`.
    fn work<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, server: &'scope tiny_http::Server, stay: bool) {
        loop {
            let Ok(request) = server.recv() else {
                // Whatever woke this thread is for all of them.
                server.unblock();
                return;
            };
            self.leave(scope, server);
            self.answer(request);
            // Looked at and counted in one step, since those of a burst come back together.
            let spare = |idle: usize| (stay || idle < SPARE_WORKERS).then_some(idle + 1);
            if self.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spare).is_err() {
                self.threads.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
    }

    /// Counts a worker that has got its request as waiting no more. The last one starts another, which is counted as waiting
    /// in its place, in the same step, so that whoever comes back meanwhile sees it.
    fn leave<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, server: &'scope tiny_http::Server) {
        let others = |idle: usize| Some(idle.saturating_sub(1).max(1));
        if self.idle.fetch_update(Ordering::SeqCst, Ordering::SeqCst, others) != Ok(1) {
            return;
        }
        let room = |threads: usize| (threads < self.workers).then_some(threads + 1);
        if self.threads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).is_ok() {
            let worker = thread::Builder::new().name("http-worker".to_owned());
            if worker.spawn_scoped(scope, || self.work(scope, server, false)).is_ok() {
                return;
            }
            self.threads.fetch_sub(1, Ordering::SeqCst);
        }
        self.idle.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has memory given back in a while, and once for all that comes until then.
    fn give_back_soon(&self) {
        if self.ebbing.swap(true, Ordering::SeqCst) {
            return;
        }
        let ebbing = Arc::clone(&self.ebbing);
        detach(async move {
            smol::Timer::after(GIVE_BACK_AFTER).await;
            ebbing.store(false, Ordering::SeqCst);
            unblock(sai_agent::calls::give_back_memory).await;
        });
    }

    /// Reads a request, calls the handler, and sends its response.
    fn answer(&self, mut request: tiny_http::Request) {
        let (mut response, claim) = match read(&mut request) {
            // The front closed early, so nobody waits for an answer.
            Err(_) => return,
            Ok((request, claim)) => {
                let bodiless = request.method == "HEAD";
                let asked = Asked::of(&request);
                let answer = || {
                    let response = (self.handler)(request);
                    // What is sent may be a tenth of it.
                    if matches!(response.body, Body::Bytes(_)) && response.body.length() >= LARGE_BYTES {
                        self.give_back_soon();
                    }
                    encoding::encode(&asked, response)
                };
                let response = catch_unwind(AssertUnwindSafe(answer))
                    .unwrap_or_else(|_| Response::text(500, "the master failed to answer; this is a bug"));
                (response, claim.filter(|_| !bodiless))
            }
        };
        let short = matches!(&response.body, Body::Bytes(bytes) if bytes.len() <= INLINE_BYTES);
        if let Some(number) = claim.filter(|_| !short && !matches!(response.status, 204 | 304)) {
            let length = response.body.length();
            let body = std::mem::replace(&mut response.body, Body::Bytes(Vec::new()));
            match self.bodies.give(number, body) {
                Ok(()) => response.headers.push((CLAIMED_HEADER, length.to_string())),
                // The front gave up, so nobody waits for an answer.
                Err(_) => return,
            }
        }
        let _ = send(request, response);
    }
}

/// Takes a request apart, and the front's claim to the body of its response.
fn read(request: &mut tiny_http::Request) -> io::Result<(Request, Option<u64>)> {
    let expected = request.body_length().unwrap_or(0);
    let mut body = Vec::new();
    request.as_reader().take(expected as u64).read_to_end(&mut body)?;
    if body.len() != expected {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    let (mut peer, mut claim) = (String::new(), None);
    let mut headers = Vec::with_capacity(request.headers().len());
    for header in request.headers() {
        let name = header.field.as_str().as_str().to_ascii_lowercase();
        let value = header.value.as_str().trim().to_owned();
        if name == PEER_HEADER {
            peer = value;
        } else if name == CLAIM_HEADER {
            claim = value.parse().ok();
        } else {
            headers.push((name, value));
        }
    }
    let request = Request {
        method: request.method().as_str().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
        peer,
    };
    Ok((request, claim))
}

/// Sends a response; an error means that the front is gone.
fn send(request: tiny_http::Request, mut response: Response) -> io::Result<()> {
    for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin")] {
        if !response.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            response.headers.push((name, value.to_owned()));
        }
    }
    let (reader, length): (Box<dyn Read + Send>, u64) = match response.body {
        Body::Bytes(bytes) => {
            let length = bytes.len() as u64;
            (Box::new(Cursor::new(bytes)), length)
        }
        Body::File { mut file, offset, length } => {
            if file.seek(SeekFrom::Start(offset)).is_ok() {
                (Box::new(file.take(length)), length)
            } else {
                return request.respond(tiny_http::Response::empty(500));
            }
        }
        Body::Reader { reader, length } => (Box::new(reader.take(length)), length),
    };
    let Ok(length) = usize::try_from(length) else {
        // Only where pointers have 32 bits, and only for the head alone of more than 4 GiB.
        return request.respond(tiny_http::Response::empty(500));
    };
    let headers = response
        .headers
        .iter()
        .filter_map(|(name, value)| {
            // tiny_http would send line ends inside a value as they are.
            let value: String = value.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
            tiny_http::Header::from_bytes(name.as_bytes(), value.into_bytes()).ok()
        })
        .collect();
    let status = if (200..600).contains(&response.status) { response.status } else { 500 };
    let response = tiny_http::Response::new(tiny_http::StatusCode(status), headers, reader, Some(length), None)
        // Chunks would hide the length, and with it a cut download.
        .with_chunked_threshold(usize::MAX);
    request.respond(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    fn ask(server: &HttpServer) -> io::Result<String> {
        let mut stream = UnixStream::connect(&server.socket)?;
        stream.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn workers_that_a_burst_needed_end_with_it() {
        let directory = std::env::temp_dir().join(format!("sai-http-burst-{}", std::process::id()));
        let gate = Arc::new(std::sync::RwLock::new(()));
        let (held, closed) = (gate.clone(), gate.write().unwrap());
        let handler = Arc::new(move |_: Request| {
            drop(held.read());
            Response::text(200, "done")
        });
        let server = HttpServer::start(&directory, 20, handler).unwrap();
        thread::scope(|scope| {
            let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(&server).unwrap())).collect();
            let deadline = Instant::now() + Duration::from_secs(60);
            while server.shared.threads.load(Ordering::SeqCst) < 20 {
                assert!(Instant::now() < deadline, "too few threads");
                thread::yield_now();
            }
            drop(closed);
            assert!(asking.into_iter().all(|one| one.join().unwrap().ends_with("done\n")));
            // Besides the spare ones only the one that stays.
            while server.shared.threads.load(Ordering::SeqCst) > SPARE_WORKERS + 1 {
                assert!(Instant::now() < deadline, "threads stay behind");
                thread::yield_now();
            }
        });
        // Those that are left serve on.
        assert!(ask(&server).unwrap().ends_with("done\n"));
        drop(server);
        let _ = fs::remove_dir_all(&directory);
    }

    #[test]
    fn a_server_whose_accept_loop_ended_is_revived_and_one_that_is_dropped_is_not() {
        let directory = std::env::temp_dir().join(format!("sai-http-{}", std::process::id()));
        let handler = Arc::new(|request: Request| Response::text(200, request.path));
        let server = HttpServer::start(&directory, 2, handler).unwrap();
        assert!(ask(&server).unwrap().ends_with("\r\n\r\n/a\n"));
        // The end of the accept loop reaches the workers in the same way: their wait ends without a request.
        let old = {
            let old = server.shared.current().clone().unwrap();
            old.unblock();
            Arc::downgrade(&old)
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while old.strong_count() > 0 {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        while !ask(&server).is_ok_and(|text| text.ends_with("/a\n")) {
            assert!(Instant::now() < deadline, "never revived");
            thread::yield_now();
        }
        let shared = Arc::downgrade(&server.shared);
        drop(server);
        while shared.strong_count() > 0 {
            assert!(Instant::now() < deadline, "threads stay behind");
            thread::yield_now();
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "the socket stays behind");
        fs::remove_dir(&directory).unwrap();
    }
}
