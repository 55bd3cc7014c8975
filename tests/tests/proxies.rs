//! nginx and Caddy in front of a master, set up by the snippets of docs/proxies.md: agents, pages, hooks, and who the
//! client is.

use sai_tests::process::{PATIENCE, Process, eventually};
use sai_tests::repository::{git, run, saifile};
use sai_tests::steady::steadily;
use sai_tests::world::World;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

const PLATFORM: &str = "linux/x86_64/gcc";

/// How long links are left idle: longer than the proxies' limits, which here are a little above our pings.
const IDLE: Duration = Duration::from_secs(31);

/// The snippet of docs/proxies.md that begins with this line, without its indentation.
fn snippet(heading: &str, first: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proxies.md");
    let text = fs::read_to_string(file).expect("docs/proxies.md");
    let (_, chapter) = text.split_once(heading).unwrap_or_else(|| panic!("{heading}"));
    let mut lines = chapter.lines().skip_while(|line| line.strip_prefix("    ") != Some(first));
    let mut snippet = String::new();
    while let Some(line) = lines.next().filter(|line| line.is_empty() || line.starts_with("    ")) {
        snippet.push_str(line.strip_prefix("    ").unwrap_or(line));
        snippet.push('\n');
    }
    assert!(snippet.starts_with(first), "{heading}: {first}");
    snippet
}

/// A proxy in front of a master, both real.
struct Stand {
    world: World,
    master: Process,
    proxy: Option<Process>,
    /// The proxy's port.
    port: u16,
}

/// A port that is free and of no other test, of those that systems do not give to clients.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 18_000 + std::process::id() as u16 % 500 * 4;
    (0..2000)
        .map(|_| begin + NEXT.fetch_add(1, Ordering::Relaxed) % 2000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

impl Stand {
    /// A master that stands behind a proxy; `shows` says whether that has a certificate of its own.
    fn new(name: &str, shows: bool) -> Self {
        let mut world = World::new(name);
        let port = free_port();
        world.set("url", &format!("\"https://127.0.0.1:{port}\""));
        world.set("trusted_proxies", "[\"127.0.0.1\", \"::1\"]");
        if shows {
            // Of a kind that all proxies can use.
            let (chain, key) = (world.directory.join("ci.pem"), world.directory.join("ci-key.pem"));
            run(Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
                .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out"])
                .arg(&chain)
                .arg("-keyout")
                .arg(&key));
            world.set("shown_certificate", &format!("{chain:?}"));
        }
        let master = world.master();
        fs::write(world.directory.join("ca.pem"), world.command(&["cert"])).expect("a file");
        Self { world, master, proxy: None, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.directory.join(name)
    }

    /// A snippet with this stand's addresses and files.
    fn placed(&self, snippet: &str) -> String {
        let directory = self.world.directory.display().to_string();
        snippet
            .replace("127.0.0.1:4433", &format!("127.0.0.1:{}", self.world.port))
            .replace("listen 443", &format!("listen 127.0.0.1:{}", self.port))
            .replace("/etc/ssl/", &format!("{directory}/"))
            .replace("/etc/sai/", &format!("{directory}/"))
    }

    /// Starts nginx with these blocks.
    fn nginx(&mut self, blocks: &str) {
        let directory = self.world.directory.display();
        let file = self.path("nginx.conf");
        let text = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
             daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr warn;\n\
             events {{ worker_connections 256; }}\n{blocks}\n"
        );
        fs::write(&file, text).expect("a configuration");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(&self.world.directory).arg("-c").arg(&file).stdout(Stdio::null());
        self.proxy = Some(Process::start("nginx", &mut command));
        self.is_reached();
    }

    /// Waits until the proxy answers with what the master says.
    fn is_reached(&self) {
        eventually("the proxy listens", || (self.curl(&["/healthz"]).1 == "ok\n").then_some(()));
    }

    /// Runs curl against the proxy, from an address of its own: status and body.
    fn curl(&self, arguments: &[&str]) -> (String, String) {
        let (path, options) = arguments.split_last().expect("a path");
        let output = Command::new("curl")
            .args(["-ksS", "--max-time", "60", "--interface", "127.0.0.77", "-w", "\n%{http_code}"])
            .args(options)
            .arg(format!("https://127.0.0.1:{}{path}", self.port))
            .output()
            .expect("curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.to_string(), body.to_string())
    }

    /// An open page: a WebSocket at `/live`, asked for as a browser does.
    fn page(&self) -> Child {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", self.port)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be run");
        let head = format!(
            "GET /live?page=agents HTTP/1.1\r\nhost: 127.0.0.1:{0}\r\norigin: https://127.0.0.1:{0}\r\n\
             connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            self.port
        );
        child.stdin.as_mut().expect("a pipe").write_all(head.as_bytes()).expect("openssl reads");
        assert_eq!(String::from_utf8_lossy(&told(&mut child, 12)), "HTTP/1.1 101");
        child
    }

    /// All that goes through a proxy.
    fn is_complete(&self) {
        // Pages, and bodies as large as hooks are.
        assert!(self.curl(&["/"]).1.contains("<html"));
        let body = self.path("body");
        fs::write(&body, vec![b'b'; 1_500_000]).expect("a file");
        let posted = format!("@{}", body.display());
        assert_eq!(self.curl(&["--data-binary", &posted, "/hook/project"]).0, "401", "unsigned, but it arrived");
        let cookie = self.curl(&["-i", "-d", "token=wrong", "-H", &self.origin(), "/sign-in"]);
        assert!(cookie.0 == "403" && cookie.1.contains("No user has this token"), "{cookie:?}");
        let line = self.master.await_line("wrong token");
        assert!(line.ends_with("from 127.0.0.77"), "the client itself: {line}");
        // What a client says of itself is not believed, whatever the proxy does with it.
        // Another client, since further lines about one are only counted.
        let other = ["--interface", "127.0.0.78", "-d", "token=wrong", "-H", "X-Forwarded-For: 6.6.6.6", "-H"];
        let forged = self.curl(&[&other[..], &[&self.origin(), "/sign-in"]].concat());
        assert_eq!(forged.0, "403");
        let line = self.master.await_line("wrong token");
        assert!(line.ends_with("from 127.0.0.78"), "{line}");
        // Many wrong ones of one client are not held against others behind the proxy.
        for _ in 0..25 {
            self.curl(&["-H", "authorization: Bearer wrong", "/api/v1/events"]);
        }
        assert_eq!(self.curl(&["-H", "authorization: Bearer wrong", "/api/v1/events"]).0, "429");
        // Somebody signs in.
        let token = self.world.command(&["user", "add", "ann"]);
        let form = format!("token={}&to=/agents", token.trim());
        assert_eq!(self.curl(&["-d", &form, "-H", &self.origin(), "/sign-in"]).0, "303");
        // An agent joins by the proxy, as its line says, and builds what a hook told by the proxy.
        let agent = self.world.agent("one", &[PLATFORM], 1);
        let address = format!("https://127.0.0.1:{}", self.port);
        run(git(&self.world.repository.bare).args(["config", "sai.url", &address]));
        let mut page = self.page();
        self.world.repository.push_saifile(&saifile(&["echo built"]));
        assert_eq!(self.world.ended(1).jobs[0].state, "passed");
        assert_eq!(self.world.event(1).expect("the event").event.source, "poke");
        told(&mut page, 200);
        let connected = || agent.said().iter().filter(|line| line.contains("connected as")).count();
        assert_eq!(connected(), 1, "{:?}", agent.said());
        let _ = page.kill();
        let _ = page.wait();
        // Nothing happens for longer than the proxy waits for bytes; between them and a sign of life are two seconds.
        let last = steadily(Duration::from_secs(1), || {
            let before = connected();
            let mut page = self.page();
            let begun = Instant::now();
            std::thread::sleep(IDLE);
            let closed = page.try_wait().expect("a child").is_some();
            let _ = page.kill();
            let _ = page.wait();
            assert!(!closed, "the page was closed within {:?}", begun.elapsed());
            assert_eq!(connected(), before, "{:?}", agent.said());
            before
        });
        self.world.repository.write("more", "");
        // A file goes the way of the link.
        self.world.repository.push_saifile(
            r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "${cmake}" } }, "configurations": {
                "lib": { "cmake": "head -c 3000000 /dev/urandom > big; sha256sum big > sum", "artifacts": "big, sum" },
                "use": { "needs": "lib", "cmake": "cd $SAI_NEEDS/lib/linux; sha256sum -c sum" } } }"#,
        );
        let event = self.world.ended(2);
        assert!(event.jobs.iter().all(|job| job.state == "passed"), "{:?}", event.jobs);
        assert_eq!(self.world.log(event.jobs[1].id), b"big: OK\n");
        assert_eq!(connected(), last, "{:?}", agent.said());
    }

    fn origin(&self) -> String {
        format!("origin: https://127.0.0.1:{}", self.port)
    }
}

/// The next bytes that an open page is told.
fn told(page: &mut Child, bytes: usize) -> Vec<u8> {
    let mut stdout = page.stdout.take().expect("a pipe");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut seen = vec![0; bytes];
        let read = stdout.read_exact(&mut seen);
        let _ = sender.send((read.map(|()| seen), stdout));
    });
    let (seen, stdout) = receiver.recv_timeout(PATIENCE).expect("the proxy carries something");
    page.stdout = Some(stdout);
    seen.expect("the page stays open")
}

fn nginx_ends_tls() {
    let mut stand = Stand::new("nginx", true);
    let server = stand.placed(&snippet("## nginx\n", "server {"));
    let server = server.replace("location / {", "proxy_read_timeout 27s; proxy_send_timeout 27s; location / {");
    let map = snippet("## nginx\n", "map $http_upgrade $connection_upgrade {");
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", stand.world.directory.display()));
    stand.nginx(&format!("http {{ access_log off; {}\n{map}\n{server} }}", places.join(" ")));
    stand.is_complete();
}

fn nginx_passes_connections_on() {
    let mut stand = Stand::new("stream", false);
    let server =
        stand.placed(&snippet("## nginx, passing", "server {")).replace("proxy_timeout 1m", "proxy_timeout 27s");
    stand.nginx(&format!("stream {{ {server} }}"));
    stand.is_complete();
}

fn caddy_ends_tls() {
    let mut stand = Stand::new("caddy", true);
    let site = stand.placed(&snippet("## Caddy\n", "ci.example.org {"));
    let directory = stand.world.directory.display().to_string();
    let own = format!("https://127.0.0.1:{} {{\n    tls {directory}/ci.pem {directory}/ci-key.pem", stand.port);
    let site = site.replace("ci.example.org {", &own);
    let file = stand.path("Caddyfile");
    fs::write(&file, format!("{{\n    admin off\n    auto_https disable_redirects\n}}\n{site}"))
        .expect("a configuration");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).stdout(Stdio::null());
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, &directory);
    }
    stand.proxy = Some(Process::start("caddy", &mut command));
    stand.is_reached();
    stand.is_complete();
}

/// Side by side, since most of the time goes by while nothing happens.
#[test]
fn agents_pages_and_hooks_go_through_nginx_and_caddy() {
    let all: [(&str, fn()); 3] =
        [("nginx", nginx_ends_tls), ("nginx, passing", nginx_passes_connections_on), ("Caddy", caddy_ends_tls)];
    let running = all.map(|(name, through)| (name, std::thread::spawn(through)));
    let failed: Vec<&str> =
        running.into_iter().filter_map(|(name, thread)| thread.join().err().map(|_| name)).collect();
    assert_eq!(failed, [""; 0]);
}

#[test]
fn what_a_proxy_shows_is_what_a_join_line_names() {
    let mut world = World::new("shown");
    world.set("shown_certificate", "\"authority\"");
    assert!(world.join_line("one").trim().ends_with(":system"));
    world.set("shown_certificate", "\"/nowhere.pem\"");
    let (status, _, said) = world.try_command(&["agent", "add", "two"]);
    assert!(status != 0 && said.contains("/nowhere.pem"), "{said}");
    let text = b"{\n\"shown_certificate\": \"authority\"\n}";
    let errors = sai_master::config::read("F", text).expect_err("no url");
    assert!(errors.join("\n").starts_with("F:2:22: shown_certificate: expected `url`"), "{errors:?}");
}
