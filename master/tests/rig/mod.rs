//! Real repositories and real servers on loopback for the tests of the master's edges.

#![allow(dead_code, reason = "each test file uses its part of the rig")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A directory that lives as long as its test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sai-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A git command with the test's own identity and no configuration of this machine.
pub fn git_command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Zoë").env(format!("GIT_{who}_EMAIL"), "zoe@example.org");
        command.env(format!("GIT_{who}_DATE"), "1700000000 +0000");
    }
    command
}

/// Runs git and returns what it prints, trimmed.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = git_command(directory).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// A work tree and the bare repository it is pushed to.
pub struct Origin {
    pub work: PathBuf,
    pub bare: PathBuf,
}

impl Origin {
    /// Makes `NAME.git` below `root`, with nothing in it.
    pub fn new(root: &Path, name: &str, options: &[&str]) -> Origin {
        let (work, bare) = (root.join(format!("{name}-work")), root.join(format!("{name}.git")));
        for (path, kind) in [(&work, "--quiet"), (&bare, "--bare")] {
            let init = [&["init", "--quiet", "-b", "main", kind], options, &[path.to_str().unwrap()]].concat();
            git(root, &init);
        }
        git(&work, &["remote", "add", "origin", bare.to_str().unwrap()]);
        Origin { work, bare }
    }

    /// Commits a file and pushes HEAD to `branch`; returns the revision.
    pub fn push(&self, branch: &str, file: &str, content: &[u8]) -> String {
        let path = self.work.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        git(&self.work, &["add", "--all"]);
        git(&self.work, &["commit", "--quiet", "--allow-empty", "-m", &format!("Change {file}\n\nBody.")]);
        git(&self.work, &["push", "--quiet", "--force", "origin", &format!("HEAD:refs/heads/{branch}")]);
        git(&self.work, &["rev-parse", "HEAD"])
    }

    pub fn config(&self, key: &str, value: &str) {
        git(&self.bare, &["config", key, value]);
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.bare.display())
    }
}

/// A server process of the test's own, killed at its end.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    /// Starts `command` on a free port and waits until a line of its standard error contains `ready`.
    fn start(command: impl Fn(u16) -> Command, ready: &str) -> Server {
        for _ in 0..20 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = command(port).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap());
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                if line.contains(ready) {
                    // What it says later is read, so that it never blocks.
                    thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                    return Server { child, port };
                }
            }
            // Somebody else took the port in between.
            eprintln!("{line}");
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("the server does not start");
    }

    /// `git daemon` for everything below `root`.
    pub fn git_daemon(root: &Path) -> Server {
        let program = Path::new(&git(root, &["--exec-path"])).join("git-daemon");
        let command = |port: u16| {
            let mut command = Command::new(&program);
            command.args(["--verbose", "--export-all", "--reuseaddr", "--listen=127.0.0.1"]);
            command.arg(format!("--port={port}")).arg(format!("--base-path={}", root.display()));
            command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
            command
        };
        Server::start(command, "Ready to rumble")
    }

    /// A real sshd with its own keys, which lets this user in with the key `client` in `root`. `options` are further `-o`s.
    pub fn sshd(root: &Path, options: &[&str]) -> Server {
        let program = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("sshd is needed: install openssh-server");
        // Where sshd drops its privileges; Debian makes it when its service starts.
        let _ = fs::create_dir_all("/run/sshd");
        for key in ["host", "client"] {
            let path = root.join(key);
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
            assert!(made.unwrap().success());
        }
        let path = |name: &str| root.join(name).display().to_string();
        let command = |port: u16| {
            let mut command = Command::new(program);
            command.args([
                "-D",
                "-e",
                "-f",
                "/dev/null",
                "-o",
                "ListenAddress=127.0.0.1",
                "-o",
                &format!("Port={port}"),
            ]);
            command.args(["-o", &format!("HostKey={}", path("host"))]);
            command.args(["-o", &format!("AuthorizedKeysFile={}", path("client.pub"))]);
            for option in [
                "UsePAM=no",
                "StrictModes=no",
                "PidFile=none",
                "PasswordAuthentication=no",
                "PermitRootLogin=prohibit-password",
            ] {
                command.args(["-o", option]);
            }
            for option in options {
                command.args(["-o", option]);
            }
            command
        };
        let server = Server::start(command, "Server listening on");
        let host = fs::read_to_string(root.join("host.pub")).unwrap();
        fs::write(root.join("known_hosts"), format!("[127.0.0.1]:{} {host}", server.port)).unwrap();
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Reads a request from a client that behaves (curl, git).
pub fn read_request(from: &mut impl Read) -> Option<Request> {
    let mut from = BufReader::with_capacity(1, from);
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_string(), query.to_string());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let mut request = Request { method, path, query, headers, body: Vec::new() };
    let length = request.header("content-length").parse().unwrap_or(0);
    from.take(length).read_to_end(&mut request.body).ok()?;
    Some(request)
}

/// Answers one request by `git http-backend` for everything below `root`, RFC 3875.
pub fn serve_git(root: &Path, stream: &mut (impl Read + Write)) {
    let Some(request) = read_request(stream) else {
        return;
    };
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROTOCOL", request.header("git-protocol"))
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_TYPE", request.header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", request.header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&request.body).unwrap();
    let mut answer = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut answer).unwrap();
    child.wait().unwrap();
    let status =
        answer.strip_prefix(b"Status: ").map_or(&b"200 OK"[..], |rest| rest.split(|&b| b == b'\r').next().unwrap());
    let head = [b"HTTP/1.1 ", status, b"\r\nConnection: close\r\n"].concat();
    let _ = stream.write_all(&head).and_then(|()| stream.write_all(&answer)).and_then(|()| stream.flush());
}

/// Accepts connections for as long as the test program lives, each served by `serve` in its own thread.
pub fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    port
}
