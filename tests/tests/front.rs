//! The front of a whole master: what strangers cannot take from others, its certificate, and where it is reached.

use futures_rustls::TlsConnector;
use futures_rustls::client::TlsStream;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use sai_agent::pin::{self, Trust};
use sai_core::join::JoinLine;
use sai_tests::peer::{Peer, hello};
use sai_tests::process::{Process, eventually, program};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::World;
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PLATFORM: &str = "linux/x86_64/gcc";

/// Whether this machine has IPv6.
fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// What curl says to these arguments: whether it succeeded, its output and its errors.
fn curl(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().expect("curl");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn wrong_tokens_lock_out_nobody_and_are_told_in_a_few_lines() {
    let world = World::new("tokens");
    let master = world.master();
    let line = world.join_line("honest");
    let wrong = {
        let right: JoinLine = line.trim().parse().expect("a join line");
        JoinLine::new(right.address, "honest", &"0".repeat(48), right.fingerprint).expect("a line").to_string()
    };
    let token = world.command(&["user", "add", "ann"]);
    let refusals: Vec<String> = (0..60).map(|_| Peer::dial(&wrong).expect_err("a wrong token")).collect();
    assert!(refusals[0].contains("opens nothing here"), "{refusals:?}");
    assert!(refusals[59].contains("429"), "{refusals:?}");
    let address = format!("https://127.0.0.1:{}", world.port);
    let sign_in = |token: &str| {
        let (origin, form) = (format!("origin: {address}"), format!("token={token}&to=/agents"));
        let code = ["-o", "/dev/null", "-w", "%{http_code}"];
        curl(&[&["-k", "-H", &origin, "-d", &form, &format!("{address}/sign-in")][..], &code].concat()).1
    };
    for _ in 0..10 {
        assert_eq!(sign_in("wrong<script>\x1b[2J"), "429", "this address has had its wrong ones");
    }
    // From the same address, at the same time: whoever has the right token is let in.
    assert_eq!(sign_in(token.trim()), "303");
    let _honest = Peer::join(&line, hello(1, &[PLATFORM], 1, &[]));
    let (status, body) = world.post("/api/v1/agents/honest/set-aside", Some("wrong"));
    assert!(status == 429 || status == 404, "{status} {body}");
    master.await_line("a request with a wrong token");
    let told: Vec<String> = master.said().into_iter().filter(|line| line.contains("wrong token")).collect();
    assert_eq!(told.len(), 3, "one of each kind, and the counts a minute later: {told:?}");
    for what in ["a wrong token of an agent", "a sign-in with a wrong token", "a request with a wrong token"] {
        assert!(told.iter().any(|line| line.ends_with(&format!("{what}, from 127.0.0.1"))), "{told:?}");
    }
}

#[test]
fn a_failed_sign_in_is_told() {
    let world = World::new("sign-in");
    let master = world.master();
    let address = format!("https://127.0.0.1:{}", world.port);
    let (_, code, _) = curl(&[
        "-k",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        &format!("origin: {address}"),
        "-d",
        "token=wrong%0a%1b[2J",
        &format!("{address}/sign-in"),
    ]);
    assert_eq!(code, "403");
    let line = master.await_line("sign-in");
    assert_eq!(line, "sai-master: a sign-in with a wrong token, from 127.0.0.1");
}

#[test]
fn the_certificate_can_be_had_and_makes_curl_and_the_hook_content() {
    let mut world = World::new("certificate");
    let (status, _, said) = world.try_command(&["cert"]);
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("master.pem") && !world.state().exists(), "{said}");
    for own in [true, false] {
        if !own {
            world.use_p521_certificate();
        }
        let master = world.master();
        let printed = world.command(&["cert"]);
        let shown = String::from_utf8(world.get("/cert.pem").expect("the certificate")).expect("text");
        assert_eq!(printed.trim(), shown.trim());
        assert!(printed.starts_with("-----BEGIN CERTIFICATE-----\n") && !printed.contains("KEY"), "{printed}");
        assert!(!master.said().iter().any(|line| line.contains("does not name")), "{:?}", master.said());
        let file = world.directory.join("ca.pem");
        fs::write(&file, &printed).expect("a file");
        let file = file.to_str().expect("a path");
        let address = format!("https://127.0.0.1:{}", world.port);
        let (good, text, said) = curl(&["--cacert", file, &format!("{address}/healthz")]);
        assert!(good && text == "ok\n", "{said}");
        assert!(!curl(&[&format!("{address}/healthz")]).0, "without it nobody vouches for the master");
        // The hook, told to check.
        let bare = &world.repository.bare;
        run(git(bare).args(["config", "--unset", "sai.insecure"]));
        run(git(bare).args(["config", "sai.cacert", file]));
        world.repository.write("file", if own { "one" } else { "two" });
        world.repository.commit("A change");
        let pushed = git(&world.repository.work).args(["push", "origin", "HEAD"]).output().expect("git");
        let said = String::from_utf8_lossy(&pushed.stderr);
        assert!(pushed.status.success() && !said.contains("sai was") && !said.contains("not told"), "{said}");
    }
}

#[test]
fn a_certificate_for_other_names_is_told_at_the_start() {
    let mut world = World::new("names");
    world.use_p521_certificate();
    world.set("url", "\"https://elsewhere.example:4433\"");
    let master = world.master();
    let said = master.said().join("\n");
    assert!(said.contains("the certificate does not name elsewhere.example"), "{said}");
}

#[test]
fn every_address_of_the_machine_is_listened_on() {
    let mut world = World::new("listen");
    world.set("listen", &format!("\"[::]:{}\"", world.port));
    let master = world.master();
    let reached = |host: &str| curl(&["-k", &format!("https://{host}:{}/healthz", world.port)]).0;
    assert!(reached("127.0.0.1"));
    if has_ipv6() {
        assert!(reached("[::1]"));
    }
    drop(master);
    // Both by their names, as somebody may have them in a configuration.
    world.set("listen", &format!("[\"0.0.0.0:{0}\", \"[::]:{0}\"]", world.port));
    let _master = world.master();
    assert!(curl(&["-k", &format!("https://127.0.0.1:{}/healthz", world.port)]).0);
    assert!(!has_ipv6() || curl(&["-k", &format!("https://[::1]:{}/healthz", world.port)]).0);
}

/// A filter (seccomp(2)) by which the system has no IPv6: `socket` with that family fails as where the kernel was built
/// without it.
fn without_ipv6() -> Vec<u8> {
    const SOCKET: u32 = if cfg!(target_arch = "x86_64") { 41 } else { 198 };
    const FAMILY: u32 = 10;
    const NOT_SUPPORTED: u32 = 97;
    let instructions: [(u16, u8, u8, u32); 6] = [
        (0x20, 0, 0, 0),      // the number of the call
        (0x15, 0, 3, SOCKET), // another: allow
        (0x20, 0, 0, 16),     // its first argument
        (0x15, 0, 1, FAMILY), // another: allow
        (0x06, 0, 0, 0x5_0000 | NOT_SUPPORTED),
        (0x06, 0, 0, 0x7fff_0000),
    ];
    let bytes = instructions.iter().flat_map(|(code, yes, no, value)| {
        let [low, high] = code.to_le_bytes();
        let [a, b, c, d] = value.to_le_bytes();
        [low, high, *yes, *no, a, b, c, d]
    });
    bytes.collect()
}

#[test]
fn without_ipv6_the_master_listens_all_the_same() {
    let mut world = World::new("four");
    world.set("listen", &format!("\"[::]:{}\"", world.port));
    let filter = world.directory.join("filter");
    fs::write(&filter, without_ipv6()).expect("a filter");
    // The shell of this test hands the filter over; bubblewrap takes it by descriptor.
    let script = format!(
        "exec bwrap --dev-bind / / --seccomp 9 {} --config {} 9<{}",
        program("sai-master").display(),
        world.configuration().display(),
        filter.display()
    );
    let master = Process::start("master", Command::new("bash").args(["-c", &script]).stdout(Stdio::null()));
    let line = master.await_line("listening on");
    assert!(line.ends_with(&format!("listening on 0.0.0.0:{}", world.port)), "{line}");
    assert!(curl(&["-k", &format!("https://127.0.0.1:{}/healthz", world.port)]).0);
}

#[test]
fn a_join_line_names_addresses_that_work() {
    let mut world = World::new("lines");
    world.set("url", "\"https://ci.example.org:4433\"");
    let told: JoinLine = world.join_line("told").trim().parse().expect("a line");
    assert_eq!((told.address.host.as_str(), told.address.port, told.others.len()), ("ci.example.org", 4433, 0));
    // Without a url it is every address of this machine, and its name.
    let mut world = World::new("lines");
    world.set("url", "\"https://ci.example.org:4433\"");
    world.set("listen", &format!("\"[::]:{}\"", world.port));
    let file = world.configuration();
    let text = fs::read_to_string(&file).expect("a configuration");
    let text = text.replace("\"url\": \"https://ci.example.org:4433\",\n", "");
    fs::write(&file, &text).expect("a configuration");
    assert!(!text.contains("ci.example"), "{text}");
    let mut command = Command::new(program("sai-master"));
    let master = Process::start("master", command.arg("--config").arg(&file).stdout(Stdio::null()));
    master.await_line("listening on");
    let line = run(Command::new(program("sai-master")).args(["agent", "add", "own", "--config"]).arg(&file));
    let line: JoinLine = line.trim().parse().expect("a line");
    let hosts: Vec<&String> = [&line.address.host].into_iter().chain(&line.others).collect();
    let (name, addresses) = hosts.split_last().expect("hosts");
    assert_eq!(*name, rustix::system::uname().nodename().to_str().expect("a name"));
    let ca = run(Command::new(program("sai-master")).args(["cert", "--config"]).arg(&file));
    let ca_file = world.directory.join("ca.pem");
    fs::write(&ca_file, ca).expect("a file");
    for address in addresses {
        let host = if address.contains(':') { format!("[{address}]") } else { (*address).clone() };
        let url = format!("https://{host}:{}/healthz", world.port);
        let (good, _, said) = curl(&["--cacert", ca_file.to_str().expect("a path"), &url]);
        assert!(good, "{url}: {said}");
    }
    if !addresses.is_empty() {
        let _peer = Peer::join(&line.to_string(), hello(1, &[PLATFORM], 1, &[]));
    }
    // One that listens in one place alone is named by that.
    world.set("listen", &format!("\"127.0.0.1:{}\"", world.port));
    let text = fs::read_to_string(world.configuration()).expect("a configuration");
    fs::write(&file, text.replace("\"url\": \"https://ci.example.org:4433\",\n", "")).expect("a configuration");
    drop(master);
    let line = run(Command::new(program("sai-master")).args(["agent", "add", "near", "--config"]).arg(&file));
    let line: JoinLine = line.trim().parse().expect("a line");
    assert_eq!((line.address.host.as_str(), line.others.len()), ("127.0.0.1", 0));
}

/// A connection from one of this machine's addresses that has asked for something.
async fn ask(
    to: SocketAddr,
    from: [u8; 4],
    target: &str,
    fingerprint: [u8; 32],
) -> std::io::Result<TlsStream<Async<TcpStream>>> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::from((from, 0)))?;
    connect(&socket, &to)?;
    let tcp = TcpStream::from(socket);
    tcp.set_nodelay(true)?;
    let config = pin::client_config(Trust::Fingerprint(fingerprint)).expect("a pin");
    let name = pin::server_name("127.0.0.1").expect("a name");
    let mut stream = TlsConnector::from(Arc::clone(&config)).connect(name, Async::new(tcp)?).await?;
    let head = format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.flush().await?;
    Ok(stream)
}

#[test]
fn five_hundred_readers_of_a_log_that_do_not_read_hold_up_nobody() {
    let world = World::new("readers");
    let mut master = world.master();
    let line: JoinLine = world.join_line("one").trim().parse().expect("a line");
    let _agent = world.agent("two", &["linux/x86_64/gcc"], 1);
    let script = "yes 'a line of fifty bytes, as a compiler prints them.' | head -c 2000000";
    world.repository.push_saifile(&saifile(&[script]));
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    let fingerprint = line.fingerprint.expect("a pin");
    let before = master.resident_kib();
    // On a machine that is busy with other tests, what takes long alone may take longer. Who has to wait for those who do
    // not read waits for half a minute.
    let mut alone = Duration::ZERO;
    let mut prompt = |what: &str| {
        for target in ["/", "/api/v1/events", "/hook/project", "/healthz", "/job/1"] {
            let begun = Instant::now();
            let (good, _, said) =
                curl(&["-kf", "-o", "/dev/null", &format!("https://127.0.0.1:{}{target}", world.port)]);
            assert!(good, "{what}: {target}: {said}");
            if what == "alone" {
                alone = alone.max(begun.elapsed());
            }
            let most = Duration::from_secs(10).max(8 * alone);
            assert!(begun.elapsed() < most, "{what}: {target} took {:?}", begun.elapsed());
        }
    };
    prompt("alone");
    let mut readers = Vec::new();
    for number in 0..500_u32 {
        let target = ["/job/1/log", "/job/1/records", "/api/v1/jobs/1/log"][number as usize % 3];
        readers.push(smol::block_on(ask(world.address(), [127, 0, 0, 1], target, fingerprint)));
        if number % 125 == 60 {
            prompt("while they come");
        }
    }
    prompt("with all of them");
    let grown = master.resident_kib().saturating_sub(before);
    eprintln!("{grown} KiB for {} readers", readers.iter().filter(|reader| reader.is_ok()).count());
    // 332 KiB a reader: what TLS and one piece of the log take. With the kernel's buffers in ours it was gigabytes.
    assert!(grown < 200 << 10, "the master grew by {grown} KiB");
    // Somebody else gets the log whole.
    let mut whole = Vec::new();
    smol::block_on(async {
        let mut reader = ask(world.address(), [127, 0, 0, 2], "/job/1/log", fingerprint).await.expect("a connection");
        let _ = reader.read_to_end(&mut whole).await;
    });
    assert!(whole.len() > 2_000_000 && whole.starts_with(b"HTTP/1.1 200 "), "{} bytes", whole.len());
    // A push is built meanwhile.
    world.repository.write("more", "");
    world.repository.push_saifile(&saifile(&["true"]));
    eventually("the push is built", || world.event(2).filter(|event| event.jobs.iter().all(|job| job.ended())));
    master.kill();
}
