//! A directory of repositories → a web server for them that lets in whoever knows a user name and a password.

use crate::repository::git;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// A server for as long as the test program lives.
#[derive(Debug)]
pub struct GitServer {
    /// Where it listens, on loopback.
    pub port: u16,
}

struct Served {
    root: PathBuf,
    authorization: Option<String>,
    pause: Duration,
}

impl GitServer {
    /// Serves all repositories below `root` by `git http-backend`. With `credentials`, `USER:PASSWORD`, everybody else is
    /// refused. Each answer takes at least `pause`.
    pub fn start(root: &Path, credentials: Option<&str>, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let authorization = credentials.map(|text| format!("Basic {}", STANDARD.encode(text)));
        let served = Arc::new(Served { root: root.to_path_buf(), authorization, pause });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                // A client that goes away is no trouble of the server.
                std::thread::spawn(move || drop(served.answer(stream)));
            }
        });
        Self { port }
    }
}

impl Served {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_ascii_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let header = |wanted: &str| {
            headers.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value.as_str()).to_string()
        };
        let mut body = Vec::new();
        if header("transfer-encoding") == "chunked" {
            loop {
                let mut length = String::new();
                reader.read_line(&mut length)?;
                let length = u64::from_str_radix(length.trim(), 16).unwrap_or(0);
                (&mut reader).take(length).read_to_end(&mut body)?;
                reader.read_line(&mut String::new())?;
                if length == 0 {
                    break;
                }
            }
        } else {
            reader.take(header("content-length").parse().unwrap_or(0)).read_to_end(&mut body)?;
        }
        std::thread::sleep(self.pause);
        let mut stream = stream;
        if self.authorization.as_ref().is_some_and(|wanted| *wanted != header("authorization")) {
            let asks = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\n\
                        Connection: close\r\n\r\n";
            return stream.write_all(asks.as_bytes());
        }
        let mut backend = git(&self.root);
        backend
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_PROTOCOL", header("git-protocol"))
            .env("REQUEST_METHOD", method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_TYPE", header("content-type"))
            .env("CONTENT_LENGTH", body.len().to_string())
            .env("HTTP_CONTENT_ENCODING", header("content-encoding"));
        let mut backend = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        if let Some(mut stdin) = backend.stdin.take() {
            stdin.write_all(&body)?;
        }
        let answer = backend.wait_with_output()?.stdout;
        let status = match answer.strip_prefix(b"Status: ") {
            Some(rest) => rest.split(|byte| *byte == b'\r').next().unwrap_or_default(),
            None => b"200 OK",
        };
        stream.write_all(&[b"HTTP/1.1 ", status, b"\r\nConnection: close\r\n", &answer].concat())
    }
}
