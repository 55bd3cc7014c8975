//! WebDriver commands → a real headless Chromium that opens pages, runs script in them and takes pictures.
//!
//! The protocol is W3C WebDriver: JSON over plain HTTP to ChromeDriver on loopback, one connection a command.

use crate::process::PATIENCE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miniserde::json::{self, Value};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Pause between two looks at a page.
const LOOK: Duration = Duration::from_millis(20);
/// How often an element may be replaced between being found and being clicked.
const REPLACED: usize = 50;

/// Starts of a driver at most: it takes a free port of IPv4 and wants the same of IPv6, which another program may have, and ends.
const STARTS: usize = 5;

/// A driver, and where it listens; nothing where it ended without saying so.
fn drive(directory: &Path) -> Option<(Child, u16)> {
    let mut command = Command::new("chromedriver");
    // An own temporary directory: what a killed browser leaves goes with the test's own.
    command.arg("--port=0").env("TMPDIR", directory).stdin(Stdio::null());
    let mut driver = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("chromedriver (Debian's package chromium-driver): {error}"));
    let mut lines =
        BufReader::new(driver.stdout.take().expect("standard output is piped")).lines().map_while(Result::ok);
    let port =
        lines.find_map(|line| line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok());
    if let Some(port) = port {
        return Some((driver, port));
    }
    let _ = driver.kill();
    let _ = driver.wait();
    None
}

/// A browser with one window and a profile of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// Starts Chromium with a new profile in `directory` and these flags beside the usual ones of a test.
    pub fn start(directory: &Path, flags: &[String]) -> Self {
        let (driver, port) = (0..STARTS).find_map(|_| drive(directory)).expect("ChromeDriver says where it listens");
        let mut browser = Self { driver, port, session: String::new() };
        let mut arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,900",
        ]
        .map(str::to_string)
        .to_vec();
        arguments.push(format!("--user-data-dir={}", directory.join("profile").display()));
        arguments.extend(flags.iter().cloned());
        let capabilities = format!(
            "{{\"capabilities\": {{\"alwaysMatch\": {{\"browserName\": \"chrome\", \
             \"goog:loggingPrefs\": {{\"browser\": \"ALL\"}}, \"goog:chromeOptions\": {{\"args\": {}}}}}}}}}",
            json::to_string(&arguments)
        );
        let answer = browser.send("POST", "/session", &capabilities);
        browser.session = text(member(&answer, "sessionId")).expect("a session has a name");
        browser
    }

    /// Opens an address and waits until it has loaded.
    pub fn open(&self, url: &str) {
        self.command("/url", &format!("{{\"url\": {}}}", json::to_string(url)));
    }

    /// Name of the tab that commands go to now.
    pub fn tab(&self) -> String {
        let answer = self.send("GET", &format!("/session/{}/window", self.session), "");
        text(Some(&answer)).expect("a tab has a name")
    }

    /// Opens another tab, and sends commands there; the others stay as they are.
    pub fn new_tab(&self) -> String {
        let answer = self.command("/window/new", "{\"type\": \"tab\"}");
        let handle = text(member(&answer, "handle")).expect("a tab has a name");
        self.switch_to(&handle);
        handle
    }

    /// Sends commands to this tab.
    pub fn switch_to(&self, tab: &str) {
        self.command("/window", &format!("{{\"handle\": {}}}", json::to_string(tab)));
    }

    /// What a script's body returns in the page.
    pub fn script(&self, body: &str) -> Value {
        self.command("/execute/sync", &format!("{{\"script\": {}, \"args\": []}}", json::to_string(body)))
    }

    /// The text that a script's body returns in the page, or that its promise becomes.
    pub fn text_of(&self, body: &str) -> String {
        let value = self.script(body);
        text(Some(&value)).unwrap_or_else(|| panic!("no text, but {value:?}"))
    }

    /// What an expression is in the page, as text; nothing for null and undefined.
    pub fn text(&self, expression: &str) -> Option<String> {
        text(Some(&self.script(&format!("const value = {expression}; return value == null ? null : String(value);"))))
    }

    /// Waits until an expression is true in the page.
    pub fn until(&self, expression: &str) {
        self.until_within(PATIENCE, expression);
    }

    /// The same for what may take longer.
    pub fn until_within(&self, patience: Duration, expression: &str) {
        let until = Instant::now() + patience;
        let condition = format!("Boolean({expression})");
        while self.text(&condition).as_deref() != Some("true") {
            if Instant::now() >= until {
                let page = self.text("document.body.innerText.slice(0, 3000)").unwrap_or_default();
                let address = self.address();
                panic!("{expression}: not within {patience:?} on {address}; {:?}; it says:\n{page}", self.console());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Address of the page.
    pub fn address(&self) -> String {
        self.text("location.href").unwrap_or_default()
    }

    /// Clicks what a selector finds first, as a person does: what is covered or hidden cannot be clicked.
    pub fn click(&self, selector: &str) {
        self.element_command(selector, "click", "{}");
    }

    /// Types into what a selector finds first.
    pub fn type_into(&self, selector: &str, keys: &str) {
        self.element_command(selector, "value", &format!("{{\"text\": {}}}", json::to_string(keys)));
    }

    /// A command of Chromium's own protocol, such as `Emulation.setEmulatedMedia`.
    pub fn devtools(&self, command: &str, parameters: &str) -> Value {
        self.command(
            "/goog/cdp/execute",
            &format!("{{\"cmd\": {}, \"params\": {parameters}}}", json::to_string(command)),
        )
    }

    /// Writes a picture of the window as PNG.
    pub fn picture(&self, file: &Path) {
        let answer = self.send("GET", &format!("/session/{}/screenshot", self.session), "");
        let encoded = text(Some(&answer)).expect("a picture is text");
        std::fs::write(file, STANDARD.decode(encoded.as_bytes()).expect("a picture is base64"))
            .expect("a picture can be written");
    }

    /// Takes a picture in each of the two themes, `NAME.png` and `NAME-dark.png`, and has what is seen looked at each time.
    pub fn pictures(&self, place: &Path, name: &str, look: impl Fn()) {
        let media = |features: &str| {
            self.devtools("Emulation.setEmulatedMedia", &format!("{{\"features\": [{features}]}}"));
        };
        for (scheme, suffix) in [("light", ""), ("dark", "-dark")] {
            media(&format!("{{\"name\": \"prefers-color-scheme\", \"value\": {scheme:?}}}"));
            self.picture(&place.join(format!("{name}{suffix}.png")));
            look();
        }
        media("");
    }

    /// Has the pointer do this at a moment of the waveform that is open, an expression, in the row of its first line.
    pub fn point_at_wave(&self, moment: &str, kind: &str, shift: bool) {
        self.script(&format!(
            "const view = document.querySelector('#wave-view'), box = view.getBoundingClientRect(), wave = document.querySelector('#wave').dataset; \
             const at = box.left + box.width * ({moment} - wave.from) / (wave.to - wave.from), row = document.querySelector('.trace').getBoundingClientRect(); \
             view.dispatchEvent(new PointerEvent('{kind}', {{ clientX: at, clientY: row.top + 5, button: 0, shiftKey: {shift}, bubbles: true }}));"
        ));
    }

    /// Warnings and errors of script, network and content security policy since this was asked last.
    pub fn console(&self) -> Vec<String> {
        let answer = self.command("/se/log", "{\"type\": \"browser\"}");
        let Value::Array(entries) = answer else { return Vec::new() };
        let part = |entry: &Value, name| text(member(entry, name)).unwrap_or_default();
        let entries = entries.iter().map(|entry| format!("{}: {}", part(entry, "level"), part(entry, "message")));
        entries.filter(|entry| entry.starts_with("SEVERE") || entry.starts_with("WARNING")).collect()
    }

    fn element_command(&self, selector: &str, what: &str, body: &str) {
        let query = format!("{{\"using\": \"css selector\", \"value\": {}}}", json::to_string(selector));
        // What was clicked before may still lead to the page that has the element, as a form's answer does.
        self.until(&format!("document.querySelector({})", json::to_string(selector)));
        for _ in 0..REPLACED {
            let answer = self.command("/element", &query);
            let Value::Object(names) = &answer else { panic!("{selector} is not found: {answer:?}") };
            let element = names.values().next().and_then(|name| text(Some(name))).expect("an element has a name");
            match self.try_send("POST", &format!("/session/{}/element/{element}/{what}", self.session), body) {
                Ok(_) => return,
                // The page is live: what was found may have been replaced since by what is the same and newer.
                Err(why) => assert!(why.contains("stale element reference"), "{why}"),
            }
        }
        panic!("{selector} is replaced again and again");
    }

    fn command(&self, path: &str, body: &str) -> Value {
        self.send("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// One command; its `value`.
    fn send(&self, method: &str, path: &str, body: &str) -> Value {
        self.try_send(method, path, body).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same; the error says what was asked and what was answered.
    fn try_send(&self, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let (status, answer) = self.exchange(method, path, body).expect("ChromeDriver answers");
        let answer: Value = json::from_str(&answer).unwrap_or(Value::Null);
        let value = member(&answer, "value").cloned().unwrap_or(Value::Null);
        if status == 200 {
            return Ok(value);
        }
        Err(format!("{method} {path} {body}: {status} {:?}", text(member(&value, "message"))))
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends Chromium; then its driver may be killed.
            let _ = self.exchange("DELETE", &format!("/session/{}", self.session), "");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(name),
        _ => None,
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}
