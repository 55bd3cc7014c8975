//! nginx and Caddy in front of a master, set up by the snippets of docs/proxies.md: agents, pages, hooks, and who the
//! client is.

use sai_tests::process::{PATIENCE, Process, eventually};
use sai_tests::repository::{git, run, saifile};
use sai_tests::steady::steadily;
use sai_tests::world::World;
use std::collections::BTreeSet;
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
    /// The path that all of the master is below, empty if none.
    prefix: &'static str,
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
    fn new(name: &str, prefix: &'static str, shows: bool) -> Self {
        let mut world = World::new(name);
        let port = free_port();
        world.set("url", &format!("\"https://127.0.0.1:{port}{prefix}\""));
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
        Self { world, master, proxy: None, port, prefix }
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

    /// Where nginx may put what it must, as whoever runs it.
    fn temporary(&self) -> String {
        let place = |name| format!("{name}_temp_path {}/{name};", self.world.directory.display());
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(place).join(" ")
    }

    /// Starts Caddy with this site.
    fn caddy(&mut self, site: &str) {
        let site = self.placed(site);
        let directory = self.world.directory.display().to_string();
        let own = format!("https://127.0.0.1:{} {{\n    tls {directory}/ci.pem {directory}/ci-key.pem", self.port);
        let site = site.replace("ci.example.org {", &own);
        let file = self.path("Caddyfile");
        fs::write(&file, format!("{{\n    admin off\n    auto_https disable_redirects\n}}\n{site}"))
            .expect("a configuration");
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).stdout(Stdio::null());
        for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
            command.env(variable, &directory);
        }
        self.proxy = Some(Process::start("caddy", &mut command));
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
            .arg(format!("https://127.0.0.1:{}{}{path}", self.port, self.prefix))
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
            "GET {1}/live?page=agents HTTP/1.1\r\nhost: 127.0.0.1:{0}\r\norigin: https://127.0.0.1:{0}\r\n\
             connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
            self.port, self.prefix
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
        let address = format!("https://127.0.0.1:{}{}", self.port, self.prefix);
        run(git(&self.world.repository.bare).args(["config", "sai.url", &address]));
        let mut page = self.page();
        self.world.repository.push_saifile(&saifile(&["echo built"]));
        assert_eq!(self.world.ended(1).jobs[0].state, "passed");
        assert_eq!(self.world.event(1).expect("the event").event.source, "poke");
        let seen = String::from_utf8_lossy(&told(&mut page, 200)).into_owned();
        assert!(!seen.contains("=\\\"/agents"), "without what is before it: {seen}");
        let connected = || agent.said().iter().filter(|line| line.contains("connected as")).count();
        assert_eq!(connected(), 1, "{:?}", agent.said());
        let _ = page.kill();
        let _ = page.wait();
        if !self.prefix.is_empty() {
            self.files_of_needs(&connected);
            self.nothing_leads_out(token.trim());
            return;
        }
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
        self.files_of_needs(&connected);
        assert_eq!(connected(), last, "{:?}", agent.said());
    }

    /// Files that an agent gets by the way of its link.
    fn files_of_needs(&self, connected: &dyn Fn() -> usize) {
        let last = connected();
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
        assert_eq!(connected(), last);
    }

    /// Walks all pages that can be reached from the first one, as somebody who may do everything: each address on them, and
    /// each that they lead on to, is below the path and answers.
    fn nothing_leads_out(&self, reader: &str) {
        assert!(self.curl(&[""]).0.starts_with('3'), "the path without its slash leads to it");
        let token = self.world.command(&["user", "add", "root", "admin"]);
        let jar = self.path("jar").display().to_string();
        let form = format!("token={}&to={}%2Fagents", token.trim(), self.prefix.replace('/', "%2F"));
        let (status, said) = self.curl(&["-i", "-c", &jar, "-d", &form, "-H", &self.origin(), "/sign-in"]);
        assert!(status == "303" && said.contains(&format!("location: {}/agents\r", self.prefix)), "{said}");
        assert!(said.contains(&format!("; Path={};", self.prefix)), "{said}");
        let below = |address: &str| address.strip_prefix(self.prefix).is_some_and(|rest| rest.starts_with('/'));
        let mut waiting = vec![("/".to_string(), String::new())];
        let firsts = ["/feed.atom", "/metrics", "/nothing", "/units", "/latest/project/main", "/api/v1", "/robots.txt"];
        waiting.extend(firsts.map(|path| (path.to_string(), String::new())));
        let (mut seen, mut pages) = (BTreeSet::new(), 0);
        while let Some((address, from)) = waiting.pop() {
            // Filters can be put together without end: each kind once.
            let (path, query) = address.split_once('?').unwrap_or((&address, ""));
            let kind: Vec<&str> = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()).collect();
            if !seen.insert(format!("{path}?{}", kind.join("&"))) {
                continue;
            }
            let (status, said) = self.curl(&["-i", "-b", &jar, &address]);
            let (head, text) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
            let wanted = if address == "/nothing" { "404" } else { "200" };
            // A proxy may write the names of headers its own way.
            let headers: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
            let named = |name: &str| {
                headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
            };
            let on = named("location").map(str::to_string);
            assert!(status == wanted || on.is_some(), "{address}, from {from}: {status}");
            assert!(!head.to_lowercase().contains("set-cookie"), "{address}");
            let mut found: Vec<String> = on.into_iter().collect();
            let kind = named("content-type").unwrap_or_default();
            if kind.starts_with("text/html") || kind.starts_with("application/atom") {
                pages += 1;
                for (before, value) in text.split("=\"").zip(text.split("=\"").skip(1)) {
                    let name = before.rsplit([' ', '<']).next().unwrap_or_default();
                    let value = value.split('"').next().unwrap_or_default().replace("&amp;", "&");
                    // What people write may be a path, too.
                    if value.starts_with('/') && !["value", "title", "content"].contains(&name) {
                        // A form that changes something, and an open page, are asked otherwise.
                        let asked = !["action", "data-live", "data-attempt"].contains(&name);
                        assert!(below(&value), "{address} leads out by {name} to {value}");
                        found.extend(asked.then_some(value));
                    } else if name == "href" && value.starts_with('?') {
                        found.push(format!("{}{path}{value}", self.prefix));
                    } else {
                        assert!(!value.contains(&format!(":{}", self.port)) || name == "value", "{address}: {value}");
                    }
                }
            } else if kind.starts_with("application/json") {
                for key in ["\"page\":\"", "\"log\":\"", "\"url\": \"/"] {
                    for value in text.split(key).skip(1).map(|rest| rest.split('"').next().unwrap_or_default()) {
                        let value = format!("{}{value}", if key.ends_with('/') { "/" } else { "" });
                        assert!(below(&value), "{address} names {value}");
                    }
                }
            }
            for to in found {
                let to = to.split('#').next().unwrap_or_default();
                assert!(below(to), "{address} leads out to {to}");
                waiting.push((to[self.prefix.len()..].to_string(), address.clone()));
            }
        }
        // Events, jobs with their files, agents, docs: it has been everywhere.
        for part in
            ["/event/1?", "/job/1?", "/agents?", "/audit?", "/docs/saifile?", "/history?", "/api/v1/openapi.json?"]
        {
            assert!(seen.iter().any(|address| address.starts_with(part)), "{part} not in {seen:?}");
        }
        assert!(pages > 20, "{seen:?}");
        // What programs read names the same addresses.
        let bearer = format!("authorization: Bearer {reader}");
        let event = self.curl(&["-H", &bearer, "/api/v1/events/1"]).1;
        assert!(event.contains(&format!("\"page\":\"{}/event/1\"", self.prefix)), "{event}");
        // Acting leads back to where it was.
        let acted = self.curl(&["-i", "-b", &jar, "-X", "POST", "-H", &self.origin(), "/job/1/rebuild"]);
        assert!(acted.1.contains(&format!("location: {}/job/1\r", self.prefix)), "{acted:?}");
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
    let mut stand = Stand::new("nginx", "", true);
    let server = stand.placed(&snippet("## nginx\n", "server {"));
    let server = server.replace("location / {", "proxy_read_timeout 27s; proxy_send_timeout 27s; location / {");
    let map = snippet("## nginx\n", "map $http_upgrade $connection_upgrade {");
    stand.nginx(&format!("http {{ access_log off; {}\n{map}\n{server} }}", stand.temporary()));
    stand.is_complete();
}

fn nginx_passes_connections_on() {
    let mut stand = Stand::new("stream", "", false);
    let server =
        stand.placed(&snippet("## nginx, passing", "server {")).replace("proxy_timeout 1m", "proxy_timeout 27s");
    stand.nginx(&format!("stream {{ {server} }}"));
    stand.is_complete();
}

fn caddy_ends_tls() {
    let mut stand = Stand::new("caddy", "", true);
    stand.caddy(&snippet("## Caddy\n", "ci.example.org {"));
    stand.is_complete();
}
fn nginx_below_a_path() {
    let mut stand = Stand::new("nginx-below", "/sai", true);
    let server = snippet("## nginx\n", "server {");
    let (before, _) = server.split_once("    location / {").expect("a location");
    let location = snippet("## Below a path\n", "location /sai/ {");
    let server = stand.placed(&format!("{before}{location}}}\n"));
    let map = snippet("## nginx\n", "map $http_upgrade $connection_upgrade {");
    stand.nginx(&format!("http {{ access_log off; {}\n{map}\n{server} }}", stand.temporary()));
    stand.is_complete();
}

fn caddy_below_a_path() {
    let mut stand = Stand::new("caddy-below", "/sai", true);
    stand.caddy(&snippet("## Below a path\n", "ci.example.org {"));
    stand.is_complete();
}

/// Side by side, since most of the time goes by while nothing happens.
#[test]
fn agents_pages_and_hooks_go_through_nginx_and_caddy() {
    let all: [(&str, fn()); 3] =
        [("nginx", nginx_ends_tls), ("nginx, passing", nginx_passes_connections_on), ("Caddy", caddy_ends_tls)];
    all_pass(all);
}

#[test]
fn everything_is_below_the_path_of_a_host_behind_nginx_and_caddy() {
    all_pass([("nginx", nginx_below_a_path as fn()), ("Caddy", caddy_below_a_path)]);
}

fn all_pass<const COUNT: usize>(all: [(&str, fn()); COUNT]) {
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
