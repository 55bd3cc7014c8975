//! A person's directory → `sai` as that person runs it, and a way to the master that can be cut.

use crate::network::Network;
use crate::process::program;
use crate::world::World;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A laptop: a home, and a place to work.
#[derive(Debug)]
pub struct Laptop<'a> {
    /// Where its person works.
    pub home: PathBuf,
    /// The network that it is a machine of, with which number, where it is not on this one.
    at: Option<(&'a Network, u8)>,
}

impl<'a> Laptop<'a> {
    /// A new one, where nobody is logged in.
    pub fn new(world: &World, name: &str) -> Self {
        let home = world.directory.join(format!("laptop-{name}"));
        std::fs::create_dir_all(&home).expect("a directory");
        Self { home, at: None }
    }

    /// The same at the machine of this number.
    pub fn at(world: &World, name: &str, network: &'a Network, number: u8) -> Self {
        Self { at: Some((network, number)), ..Self::new(world, name) }
    }

    /// `sai` there.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = match self.at {
            Some((network, number)) => network.command(number, &program("sai")),
            None => Command::new(program("sai")),
        };
        command.args(words).current_dir(&self.home).stdin(Stdio::null());
        command
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command.envs([("GIT_AUTHOR_NAME", "A U Thor"), ("GIT_AUTHOR_EMAIL", "author@example.org")]);
        command.envs([("GIT_COMMITTER_NAME", "A U Thor"), ("GIT_COMMITTER_EMAIL", "author@example.org")]);
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it: its status, what it printed, and what it told.
    pub fn sai(&self, words: &[&str]) -> (i32, String, String) {
        told(self.command(words).output().expect("sai can be run"))
    }

    /// The same with this on standard input.
    pub fn sai_with(&self, words: &[&str], input: &str) -> (i32, String, String) {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("sai can be run");
        // It may end before it has read anything.
        let _ = child.stdin.take().expect("standard input").write_all(input.as_bytes());
        told(child.wait_with_output().expect("sai ends"))
    }

    /// Logs a new person in who may do this: by their token, at this port.
    pub fn log_in(&self, world: &World, name: &str, powers: &[&str], port: u16) -> String {
        let token = world.command(&[&["user", "add", name], powers].concat());
        let address = self.at.map_or(Ipv4Addr::LOCALHOST, |(_, number)| Network::middle(number));
        let (status, said, told) = self.sai_with(
            &["login", &format!("https://{address}:{port}"), "--fingerprint", &fingerprint(world)],
            &format!("{token}\n"),
        );
        assert_eq!(status, 0, "{said}{told}");
        token
    }
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// What the master says of its certificate.
pub fn fingerprint(world: &World) -> String {
    let status = world.command(&["status"]);
    let line = status.lines().find_map(|line| line.strip_prefix("certificate\t")).expect("the certificate is told of");
    line.to_string()
}

/// A way to a master on which connections can be cut, and end by themselves after so many bytes.
#[derive(Debug)]
pub struct Way {
    /// Where it begins.
    pub port: u16,
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// Bytes that each connection from now on brings from the master.
    pub most: Arc<AtomicU64>,
    /// Connections that were made.
    pub count: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Way {
    /// One to this address. It lasts as long as the test.
    pub fn to(master: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (most, count) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
        let closed: Arc<AtomicBool> = Arc::default();
        let shut = closed.clone();
        let way = Self { closed, port, open: open.clone(), most: most.clone(), count: count.clone() };
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // It is closed by being dropped.
                let Ok(far) = TcpStream::connect(master) else { continue };
                if shut.load(Ordering::Relaxed) {
                    continue;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let mut held = open.lock().unwrap_or_else(PoisonError::into_inner);
                held.extend([near.try_clone(), far.try_clone()].map(|stream| stream.expect("a stream")));
                drop(held);
                let both = [near.try_clone(), far.try_clone()].map(|stream| stream.expect("a stream"));
                let left = most.load(Ordering::Relaxed);
                std::thread::spawn(move || carry(near, far, u64::MAX));
                let [near, far] = both;
                std::thread::spawn(move || carry(far, near, left));
            }
        });
        way
    }

    /// Ends all connections that there are and makes none, until it is called again.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
        self.cut();
    }

    /// Ends all connections that there are.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, mut left: u64) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let given = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        left -= given as u64;
        if to.write_all(&bytes[..given]).is_err() || left == 0 {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
