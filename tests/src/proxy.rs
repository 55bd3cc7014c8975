//! Bytes between agent and master → the same bytes, until the test cuts or stalls the connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A TCP proxy on loopback that can break what goes through it.
#[derive(Debug)]
pub struct Proxy {
    /// Where to connect.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    streams: Mutex<Vec<TcpStream>>,
    /// Bytes that may still pass before every connection is cut; `u64::MAX` for no end.
    left: AtomicU64,
    stalled: AtomicBool,
    /// Bytes in one direction after which a connection that is made now stands still; `u64::MAX` for never.
    most: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// Listens on loopback and passes everything on to `target`.
    pub fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            streams: Mutex::default(),
            left: AtomicU64::new(u64::MAX),
            stalled: AtomicBool::new(false),
            most: AtomicU64::new(u64::MAX),
            ended: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::Relaxed) {
                    return;
                }
                let target = *accepting.target.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(server) = TcpStream::connect(target) else { continue };
                accepting.carry(client, server);
            }
        });
        Self { address, shared }
    }

    /// New connections go here from now on: a master that was restarted on another port.
    pub fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Cuts every connection once this many more bytes have passed, and lets new ones pass freely again.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Holds everything back without closing, or lets it flow again.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Has each connection that is made from now on stand still for good, open, once so many bytes have passed in one direction:
    /// whoever sends much is held back, and whoever sends little is not.
    pub fn hold_beyond(&self, bytes: u64) {
        self.shared.most.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.cut();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn cut(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.left.store(u64::MAX, Ordering::SeqCst);
    }

    fn carry(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let pair = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
        {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(client);
            streams.push(server);
        }
        for (from, to) in pair {
            let (Ok(from), Ok(to)) = (from, to) else { return };
            let shared = self.clone();
            std::thread::spawn(move || shared.pump(from, to));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let _ = to.set_nodelay(true);
        let mut buffer = vec![0; 64 << 10];
        let (most, mut passed) = (self.most.load(Ordering::SeqCst), 0);
        loop {
            let count = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            passed += count as u64;
            while (self.stalled.load(Ordering::SeqCst) || passed > most) && !self.ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let left = self.left.load(Ordering::SeqCst);
            let pass = count.min(usize::try_from(left).unwrap_or(usize::MAX));
            if left != u64::MAX {
                self.left.fetch_sub(pass as u64, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..pass]).is_err() {
                break;
            }
            if pass < count {
                self.cut();
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
