//! What may stand between an agent and its master, as the real program meets it: proxies, fronts that are set up wrong,
//! and addresses where somebody else is.

#[path = "../../tests/src/steady.rs"]
mod steady;
mod wss;

use sai_agent::git::tools::set_proxies;
use sai_agent::job_directory::{JobDirectory, Launcher, RunnerOptions, start};
use sai_agent::link::{Dialer, Timing};
use sai_agent::pin::Trust;
use sai_agent::proxy::{Proxies, Proxy};
use sai_core::job::JobKey;
use sai_core::join::{Address, JoinLine};
use sai_core::ordered::Map;
use sai_core::wire::Assignment;
use smol::future::FutureExt as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use steady::steadily;
use wss::{Server, TOKEN, identity, within};

/// A directory that goes with its test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("sai-fronts-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).expect("a directory");
        Self(place)
    }

    fn openssl(&self, words: &str) {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(&self.0).output().expect("openssl");
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `sai-agent join` with this line, and what it says.
    fn join(&self, line: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sai-agent"));
        command.args(["join", line, "--only-save", "--state"]).arg(self.0.join("state"));
        for name in ["https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"] {
            command.env_remove(name);
        }
        let output = command.envs(environment.iter().copied()).output().expect("the agent");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with its test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts what listens at a port that is given to it, and waits until it does; with its port.
fn listening(command: impl Fn(u16) -> Command) -> (Ends, u16) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let mut command = command(port);
        let mut server = Ends(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("a server"));
        // It ends where somebody else was given the port meanwhile.
        while server.0.try_wait().expect("a child").is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return (server, port);
            }
            assert!(Instant::now() < until, "nobody listens: {command:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Instant::now() < until, "it ends: {command:?}");
    }
}

/// A front made of `openssl s_server`, and its port.
fn front(place: &Path, words: &[&str]) -> (Ends, u16) {
    listening(|port| {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]).args(words).current_dir(place);
        command.stderr(Stdio::null());
        command
    })
}

#[test]
fn a_front_that_is_set_up_wrong_is_told_by_what_is_wrong() {
    let place = Place::new("wrong");
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj";
    place.openssl(&format!("{make} /CN=root -keyout root.key -out root.pem"));
    for (name, above, extensions) in
        [("middle", "root", "basicConstraints=critical,CA:TRUE"), ("leaf", "middle", "subjectAltName=DNS:localhost")]
    {
        fs::write(place.0.join("extensions"), extensions).expect("a file");
        let request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj";
        place.openssl(&format!("{request} /CN={name} -keyout {name}.key -out {name}.csr"));
        place.openssl(&format!(
            "x509 -req -in {name}.csr -CA {above}.pem -CAkey {above}.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
        ));
    }
    let trusts = [("SSL_CERT_FILE", place.0.join("root.pem").display().to_string())];
    let trusts: Vec<(&str, &str)> = trusts.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let line = |port: u16| format!("sai1:localhost:{port}:one:{TOKEN}:system");
    let leaf = ["-cert", "leaf.pem", "-key", "leaf.key"];

    let (_alone, port) = front(&place.0, &leaf);
    let (status, said) = place.join(&line(port), &trusts);
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("leaves out the intermediate certificate") && said.contains("fullchain.pem"), "{said}");

    let (_whole, port) = front(&place.0, &[&leaf[..], &["-cert_chain", "middle.pem"]].concat());
    let (status, said) = place.join(&line(port), &trusts);
    assert!(status == Some(1) && !said.contains("not trusted"), "with the chain it is trusted: {said}");

    let (_old, port) = front(&place.0, &[&leaf[..], &["-tls1_2"]].concat());
    let (status, said) = place.join(&line(port), &trusts);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("offers TLS 1.2 or older alone"), "{said}");
    assert!(!place.0.join("state").exists(), "nothing is left of what did not join");
}

/// A proxy that lets everybody through who gives the right name and password, and what it was asked for.
fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let told = Arc::clone(&told);
            std::thread::spawn(move || pass(near, &told));
        }
    });
    (port, seen)
}

fn pass(mut near: TcpStream, told: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        near.read_exact(&mut byte).ok()?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("a request");
    // Whoever asks is alive while it waits for the answer, and every user of the machine can see its arguments.
    let words = |pid: fs::DirEntry| fs::read(pid.path().join("cmdline")).unwrap_or_default();
    let shown = fs::read_dir("/proc").expect("processes").flatten().map(words).find(|words| {
        let text = String::from_utf8_lossy(words);
        text.contains("s3%40cret") || text.contains("s3@cret")
    });
    assert_eq!(shown.map(|words| String::from_utf8_lossy(&words).into_owned()), None, "a password in arguments");
    told.lock().expect("what it was asked").push(head.clone());
    // ann:s3@cret
    if !head.contains("\r\nProxy-Authorization: Basic YW5uOnMzQGNyZXQ=\r\n") {
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"here\"\r\n\
                      Connection: close\r\nContent-Length: 0\r\n\r\n";
        let _ = near.write_all(answer.as_bytes());
        return None;
    }
    let place = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    let Ok(mut far) = TcpStream::connect(place) else {
        let _ = near.write_all(b"HTTP/1.1 502 Bad \x1b[2JGateway\r\n\r\n");
        return None;
    };
    near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    let (mut back, mut forth) = (far.try_clone().ok()?, near.try_clone().ok()?);
    // The end of one direction is that of the same direction behind the proxy.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut forth);
        let _ = forth.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut near, &mut far);
    let _ = far.shutdown(Shutdown::Write);
    Some(())
}

#[test]
fn a_proxy_is_gone_through_with_its_password_and_around_where_it_is_not_wanted() {
    let place = Place::new("proxy");
    let (port, seen) = proxy();
    within(async {
        let master = Server::new().await;
        let to = master.address();
        let line = JoinLine::new(to.clone(), "one", TOKEN, Some(identity().1)).expect("a line").to_string();
        let asked = || std::mem::take(&mut *seen.lock().expect("what it was asked"));
        let dial = |proxies: Proxies| {
            let trust = Trust::Fingerprint(identity().1);
            let dialer =
                Dialer::new(to.clone(), trust, TOKEN.to_owned(), Timing::default()).expect("a dialer").by(&[], proxies);
            async move {
                // What is made for requests goes the same way.
                drop(dialer.connect().await?);
                dialer.dial().await
            }
        };
        let through = |direct: &[&str]| Proxies {
            proxy: Proxy::parse(&format!("http://ann:s3%40cret@127.0.0.1:{port}")).ok(),
            direct: direct.iter().map(ToString::to_string).collect(),
        };
        let accept = async {
            loop {
                drop(master.accept().await);
            }
        };
        let work = async {
            dial(through(&[])).await.expect("a link by way of the proxy");
            let heads = asked();
            let to = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\nHost: ", to.port);
            assert!(heads.len() == 2 && heads.iter().all(|head| head.starts_with(&to)), "{heads:?}");
            dial(through(&["example.org", "127.0.0.0/8"])).await.expect("a link without it");
            assert!(asked().is_empty());
        };
        work.or(accept).await;
        // The program takes it from its environment, and shows no password.
        for name in ["HTTPS_PROXY", "https_proxy"] {
            let url = format!("http://ann:wr0ng@127.0.0.1:{port}");
            let line = line.clone();
            let (status, said) = place.join(&line, &[(name, &url)]);
            assert_eq!(status, Some(1), "{said}");
            assert!(said.contains("wants to know who asks") && said.contains("***@127.0.0.1"), "{said}");
            assert!(!said.contains("wr0ng") && asked().len() == 1, "{said}");
        }
        let url = format!("http://ann:s3%40cret@127.0.0.1:{port}");
        let nowhere = line.replace(&format!(":{}:", to.port), ":1:");
        let (status, said) = place.join(&nowhere, &[("HTTPS_PROXY", &url)]);
        assert!(status == Some(1) && said.contains("lets nobody through to 127.0.0.1:1: HTTP/1.1 502"), "{said}");
        assert!(!said.contains('\u{1b}') && !said.contains("cret"), "{said}");
        let (status, said) = place.join(&nowhere, &[("HTTPS_PROXY", &url), ("NO_PROXY", "127.0.0.1")]);
        assert!(status == Some(1) && said.contains("refused") && asked().len() == 1, "{said}");
        let (status, said) = place.join(&nowhere, &[("HTTPS_PROXY", "socks5://ann:s3%40cret@x")]);
        assert!(status == Some(2) && said.contains("HTTPS_PROXY: ") && !said.contains("cret"), "{said}");
    });
}

#[test]
fn a_master_is_found_at_the_last_of_its_addresses() {
    // An address that does not answer has a part of the time for all of them.
    steadily(Duration::from_secs(1), || within(found_at_the_last()));
}

async fn found_at_the_last() {
    let master = Server::new().await;
    let port = master.address().port;
    // At the same port of another address is somebody else, who takes connections and is not the master.
    let other = smol::net::TcpListener::bind(("127.0.0.2", port)).await.expect("another address");
    let refuse = async {
        loop {
            drop(other.accept().await);
        }
    };
    let accept = async {
        loop {
            drop(master.accept().await);
        }
    };
    let first = Address::new("127.0.0.9".to_owned(), port);
    let others = ["no-such-host.invalid", "127.0.0.2", "::1", "127.0.0.1"].map(str::to_owned);
    let line = JoinLine::new(first.clone(), "one", TOKEN, Some(identity().1)).expect("a line");
    let line = line.with_others(&["127.0.0.2", "127.0.0.1"]).expect("hosts");
    let joined = sai_agent::config::Config::joined(&line);
    assert_eq!(joined.others, ["127.0.0.2", "127.0.0.1"]);
    let again = sai_agent::config::parse("F", joined.text().as_bytes()).expect("what join writes");
    assert!(again == joined);
    let trust = Trust::Fingerprint(identity().1);
    let dialer = Dialer::new(first, trust, TOKEN.to_owned(), Timing::default()).expect("a dialer");
    let dialer = dialer.by(&others, Proxies::default());
    let begun = Instant::now();
    let dial = async { drop(dialer.dial().await.expect("a link")) };
    dial.or(refuse).or(accept).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// Runs git in a directory, for the test's own repository.
fn git(directory: &Path, words: &str) -> String {
    let who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
    let output = Command::new("git").args(who).args(words.split(' ')).current_dir(directory).output().expect("git");
    assert!(output.status.success(), "git {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// nginx with a repository that is reached by https, and its port.
fn forge(place: &Place) -> (Ends, u16) {
    place.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext \
         subjectAltName=IP:127.0.0.1 -keyout forge.key -out forge.pem",
    );
    listening(|port| {
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit; events {{ worker_connections 64; }}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {place}/forge.pem;\n\
             ssl_certificate_key {place}/forge.key; root {place}/served; }} }}\n",
            place = place.0.display()
        );
        fs::write(place.0.join("nginx.conf"), text).expect("a file");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(&place.0).arg("-c").arg(place.0.join("nginx.conf"));
        command
    })
}

#[test]
fn git_takes_the_proxy_of_the_configuration_and_shows_its_password_to_nobody() {
    let place = Place::new("git-proxy");
    let (_forge, to) = forge(&place);
    let (port, seen) = proxy();
    let served = place.0.join("served");
    fs::create_dir_all(&served).expect("a directory");
    git(&served, "init -q -b main work");
    fs::write(served.join("work/file"), "content").expect("a file");
    git(&served.join("work"), "add -A");
    git(&served.join("work"), "commit -q -m one");
    let revision = git(&served.join("work"), "rev-parse HEAD");
    git(&served, "clone -q --bare work r.git");
    git(&served.join("r.git"), "update-server-info");
    let asked = || std::mem::take(&mut *seen.lock().expect("what it was asked"));
    let authority = format!("GIT_SSL_CAINFO={}/forge.pem", place.0.display());
    // A job with these proxies, and what the environment says of others, nobody being there: whether it passed, and its log.
    let run = |job: u64, proxies: &Proxies| {
        let mirrors = place.0.join(format!("mirrors-{job}"));
        set_proxies(&mirrors, Some(proxies)).expect("a file");
        let assignment = Assignment {
            key: JobKey { job, attempt: 1 },
            repository: "project".into(),
            url: format!("https://127.0.0.1:{to}/r.git").into(),
            reference: "refs/heads/main".into(),
            revision: revision.clone(),
            platform: "linux".into(),
            configuration: "default".into(),
            steps: vec!["cat file".into()],
            env: Map::new(),
            artifacts: Vec::new(),
            timeout_s: 300,
            step_timeout_s: None,
            log_bytes: 1 << 20,
            log_limit_fails: false,
            submodules: false,
            needs: None,
            root: None,
            offered: None,
            board: None,
            session: None,
            lease: None,
            health: None,
            bundle: None,
        };
        let directory = JobDirectory::create(&place.0.join("jobs"), &assignment).expect("a directory");
        let options = RunnerOptions { mirrors: mirrors.display().to_string(), ..directory.options().expect("options") };
        directory.set_options(&options).expect("a file");
        let mut first_arguments = vec![authority.clone().into(), "https_proxy=http://127.0.0.1:1".into()];
        first_arguments.push(env!("CARGO_BIN_EXE_sai-agent").into());
        start(&directory, &Launcher { program: "env".into(), first_arguments }).expect("a supervisor");
        let until = Instant::now() + Duration::from_secs(120);
        while !directory.ended() {
            assert!(Instant::now() < until, "the job does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut log = vec![0; 1 << 20];
        let count = directory.read(0, 0, &mut log).expect("the log");
        let log = String::from_utf8_lossy(&log[..count]).into_owned();
        assert!(!log.contains("cret"), "{log}");
        (log.contains("\"outcome\":\"Passed\""), log)
    };
    let through = |direct: &[&str]| Proxies {
        proxy: Proxy::parse(&format!("http://ann:s3%40cret@127.0.0.1:{port}")).ok(),
        direct: direct.iter().map(ToString::to_string).collect(),
    };
    let (passed, log) = run(1, &through(&["example.org"]));
    let asked_for = asked();
    assert!(passed && asked_for.iter().any(|head| head.starts_with(&format!("CONNECT 127.0.0.1:{to} "))), "{log}");
    // Around it: a network, a port, and none at all, whatever the environment says.
    for (job, proxies) in
        [(2, through(&["127.0.0.0/8"])), (3, through(&[&format!("127.0.0.1:{to}")])), (4, Proxies::default())]
    {
        let (passed, log) = run(job, &proxies);
        assert!(passed && asked().is_empty(), "{log}");
    }
    let wrong = Proxies { proxy: Proxy::parse(&format!("http://ann:wr0ng@127.0.0.1:{port}")).ok(), direct: Vec::new() };
    let (passed, log) = run(5, &wrong);
    assert!(!passed && !asked().is_empty() && !log.contains("wr0ng"), "{log}");
    assert!(log.contains("407") && !log.contains("\"trouble\":\"repository\""), "it is not the repository's: {log}");
}
