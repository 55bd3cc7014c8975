//! Power supply of a board, on or off → a USB port without its voltage, a line, a command that was run, or a request over HTTP.

use crate::ports::Places;
use httparse::{EMPTY_HEADER, Response, Status};
use rustix::io::{pread, pwrite};
use rustix::process::{Pid, Signal, kill_process_group};
use sai_core::bench::{Request, Supply};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

/// Time in which a command switches the power: a relay's own board may have to be woken up.
const COMMAND: Duration = Duration::from_secs(30);
/// Time in which a request is answered.
const REQUEST: Duration = Duration::from_secs(10);
/// Time between two looks whether a command has ended.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes that are kept of what a command says, and read of the head of an answer.
const SAID_BYTES: u64 = 4096;
/// Letters of an answer in an error.
const SAID_LETTERS: usize = 160;
/// Bytes of a switch's answer: a digit and the end of its line.
const SWITCH_BYTES: usize = 8;
/// Header fields of an answer.
const FIELDS_MAX: usize = 64;

/// Switches a supply, and returns when that is done; `set_line` gives a line of the board a level.
///
/// # Errors
/// What keeps the power as it is, or leaves it unknown.
pub fn switch(
    supply: &Supply,
    on: bool,
    places: &Places,
    set_line: &mut dyn FnMut(&str, bool) -> io::Result<()>,
) -> io::Result<()> {
    match supply {
        Supply::UsbPort(port) => usb_port(port, on, places),
        Supply::Line(line) => set_line(line, on),
        Supply::Commands { on: argv, .. } if on => command(argv, COMMAND),
        Supply::Commands { off: argv, .. } => command(argv, COMMAND),
        Supply::Http { on: request, .. } if on => ask(request, REQUEST),
        Supply::Http { off: request, .. } => ask(request, REQUEST),
    }
}

/// Gives a port of a hub its voltage, or takes it away, as far as the hub has a switch for that: others let go of the device alone.
///
/// # Errors
/// There is no such port; the kernel has no switch for it (Linux 6.0 was the first), or we may not use it.
pub fn usb_port(port: &str, on: bool, places: &Places) -> io::Result<()> {
    let (place, switch) = usb_switch(port, places)?;
    set_switch(switch.as_fd(), on)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", place.display())))
}

/// Opens the switch of a port of a hub, for whoever is to use it even where the one that opened it is gone.
///
/// # Errors
/// There is no such port; the kernel has no switch for it, or we may not use it.
pub fn usb_switch(port: &str, places: &Places) -> io::Result<(PathBuf, File)> {
    let place = switch_of(port, places)?;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", place.display()));
    let switch = OpenOptions::new().read(true).write(true).open(&place).map_err(named)?;
    // A file of sysfs that was never read is taken by poll for one that has changed, and so for one that is gone.
    pread(&switch, &mut [0; SWITCH_BYTES], 0).map_err(|error| named(error.into()))?;
    Ok((place, switch))
}

/// Gives the port of such a switch its voltage, or takes it away.
///
/// # Errors
/// The hub is gone, or does not do so.
pub fn set_switch(switch: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    pwrite(switch, if on { b"0\n" } else { b"1\n" }, 0)?;
    let mut now = [0; SWITCH_BYTES];
    let length = pread(switch, &mut now, 0)?;
    let now = String::from_utf8_lossy(now.get(..length).unwrap_or_default()).trim().to_string();
    if (now == "0") == on {
        return Ok(());
    }
    Err(io::Error::other(format!("it stays {now}")))
}

/// The file that switches a port: `usb1-port2/disable` in the hub's interface.
fn switch_of(port: &str, places: &Places) -> io::Result<PathBuf> {
    let (hub, number) = port.rsplit_once('.').or_else(|| port.rsplit_once('-')).unwrap_or((port, ""));
    // A root hub's interface is `1-0:1.0`, and its ports are called after `usb1`.
    let (interface, name) =
        if hub.contains('-') { (hub.to_string(), hub.to_string()) } else { (format!("{hub}-0"), format!("usb{hub}")) };
    let beginning = format!("{interface}:");
    let devices = fs::read_dir(places.sys.join("bus/usb/devices")).into_iter().flatten().flatten();
    let hubs = devices.filter(|entry| entry.file_name().to_string_lossy().starts_with(&beginning));
    let files = hubs.map(|entry| entry.path().join(format!("{name}-port{number}/disable")));
    files.into_iter().find(|file| file.exists()).ok_or_else(|| {
        let text = format!("USB port {port} has no switch here: no such port, or a kernel before Linux 6.0");
        io::Error::new(ErrorKind::NotFound, text)
    })
}

/// Runs a command to its end, and for no longer than `limit`.
fn command(argv: &[String], limit: Duration) -> io::Result<()> {
    let [program, arguments @ ..] = argv else { return Err(io::Error::other("no command")) };
    let named = |text: String| io::Error::other(format!("{program:?} {text}"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| named(format!("cannot be run: {error}")))?;
    let (tell, told) = sync_channel(1);
    if let Some(pipe) = child.stderr.take() {
        thread::spawn(move || {
            let mut said = Vec::new();
            // What could be read of it is told.
            let _ = pipe.take(SAID_BYTES).read_to_end(&mut said);
            let _ = tell.send(String::from_utf8_lossy(&said).trim().to_string());
        });
    }
    let began = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                // A process that it left behind may hold the pipe.
                let said = told.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
                return Err(named(format!("ended with {status}: {said}")));
            }
            None if began.elapsed() >= limit => {
                // It may have ended at this moment; then there is nothing to be killed.
                if let Some(group) = Pid::from_raw(child.id() as i32) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                child.wait()?;
                return Err(named(format!("was killed after {} seconds", limit.as_secs())));
            }
            None => thread::sleep(LOOK),
        }
    }
}

/// Asks by HTTP, and wants an answer of the kind 2xx within `limit`, with that in it which is asked for.
fn ask(request: &Request, limit: Duration) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", request.shown()));
    let (code, said) = answer(request, limit).map_err(named)?;
    if !(200..=299).contains(&code) {
        return Err(named(io::Error::other(format!("answered with status {code}"))));
    }
    match request.answer {
        Some(wanted) if !said.contains(wanted) => {
            let some: String = said.trim().chars().take(SAID_LETTERS).collect();
            Err(named(io::Error::other(format!("answered {some:?}"))))
        }
        _ => Ok(()),
    }
}

/// The status of an answer, and of its body so much as is looked at.
fn answer(request: &Request, limit: Duration) -> io::Result<(u16, String)> {
    let began = Instant::now();
    let left = || match limit.saturating_sub(began.elapsed()) {
        Duration::ZERO => Err(io::Error::new(ErrorKind::TimedOut, format!("no answer in {} seconds", limit.as_secs()))),
        left => Ok(left),
    };
    let rest = request.url.strip_prefix("http://").unwrap_or(&request.url);
    let (host, path) = rest.find('/').map_or((rest, "/"), |place| rest.split_at(place));
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let address = if has_port { host.to_string() } else { format!("{host}:80") };
    let mut stream = Err(io::Error::new(ErrorKind::NotFound, "no such host"));
    for address in address.to_socket_addrs()? {
        stream = TcpStream::connect_timeout(&address, left()?);
        if stream.is_ok() {
            break;
        }
    }
    let mut stream = stream?;
    stream.set_write_timeout(Some(left()?))?;
    let (method, length) = if request.post { ("POST", "Content-Length: 0\r\n") } else { ("GET", "") };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    let mut ended = false;
    loop {
        stream.set_read_timeout(Some(left()?))?;
        let mut buffer = [0; 512];
        let count = match stream.read(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            other => other?,
        };
        answer.extend(buffer.iter().take(count));
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        let parsed = response.parse(&answer).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        ended |= count == 0;
        match (parsed, response.code) {
            (Status::Complete(head), Some(code)) => {
                let said = String::from_utf8_lossy(answer.get(head..).unwrap_or_default()).into_owned();
                let enough = ended || answer.len() as u64 > SAID_BYTES;
                if enough || request.answer.is_none_or(|wanted| said.contains(wanted)) {
                    return Ok((code, said));
                }
            }
            _ if ended || answer.len() as u64 > SAID_BYTES => {
                return Err(io::Error::new(ErrorKind::InvalidData, "no answer of HTTP"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn no_line(_: &str, _: bool) -> io::Result<()> {
        panic!("no line is to be set")
    }

    #[test]
    fn a_port_is_switched_by_the_hub_that_it_is_of() {
        let top = std::env::temp_dir().join(format!("sai-power-{}", std::process::id()));
        let devices = top.join("bus/usb/devices");
        let files =
            [("1-2", "1-0:1.0/usb1-port2"), ("1-2.4", "1-2:1.0/1-2-port4"), ("1-2.4.3", "1-2.4:1.0/1-2.4-port3")];
        let places = Places { sys: top.clone(), dev: "/dev".into() };
        for (port, place) in files {
            assert_eq!(usb_port(port, true, &places).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
            fs::create_dir_all(devices.join(place)).expect("a directory");
            let file = devices.join(place).join("disable");
            fs::write(&file, "0\n").expect("written");
            for (on, held) in [(false, "1\n"), (true, "0\n")] {
                switch(&Supply::UsbPort(port.into()), on, &places, &mut no_line).expect("switched");
                assert_eq!(fs::read_to_string(&file).expect("read"), held);
            }
        }
        fs::remove_dir_all(top).expect("removed");
    }

    #[test]
    fn a_command_is_no_shells_and_is_told_or_killed_when_it_fails() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let on = words(&["sh", "-c", "test \"$1\" = 'a ;b'", "-", "a ;b"]);
        let off = words(&["sh", "-c", "echo no relay >&2; exit 3"]);
        let supply = Supply::Commands { on, off };
        switch(&supply, true, &Places::default(), &mut no_line).expect("switched");
        let error = switch(&supply, false, &Places::default(), &mut no_line).expect_err("it fails");
        assert_eq!(error.to_string(), "\"sh\" ended with exit status: 3: no relay");
        let error = command(&words(&["/nonexistent/relay"]), COMMAND).expect_err("none");
        assert!(error.to_string().contains("cannot be run"), "{error}");
        let error = command(&words(&["sh", "-c", "sleep 1000; true"]), Duration::from_millis(50)).expect_err("killed");
        assert!(error.to_string().contains("was killed"), "{error}");
    }

    #[test]
    fn a_request_is_believed_by_its_status_and_waited_for_no_longer_than_it_may_take() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("its address").to_string();
        let asked = |answer: &'static str, post: bool, limit: Duration| {
            thread::scope(|scope| {
                let served = scope.spawn(|| {
                    let (mut stream, _) = listener.accept().expect("a client");
                    let mut bytes = vec![0; 4096];
                    let count = stream.read(&mut bytes).expect("a request");
                    stream.write_all(answer.as_bytes()).expect("answered");
                    // Until the other end has what it wants.
                    if answer.is_empty() {
                        let _ = stream.read(&mut bytes);
                    }
                    String::from_utf8_lossy(&bytes[..count]).into_owned()
                });
                let url = format!("http://{host}/cm?cmnd=Power%20On");
                let result = ask(&Request { post, url, answer: None }, limit);
                // On a machine that stood still it may have had no time to come; nobody else is to be waited for then.
                if limit < REQUEST {
                    let _ = TcpStream::connect(&host);
                }
                (served.join().expect("served"), result.map_err(|error| error.to_string()))
            })
        };
        let (request, result) =
            asked("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"POWER\":\"ON\"}", false, REQUEST);
        let expected = format!("GET /cm?cmnd=Power%20On HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!((request, result), (expected, Ok(())));
        let (request, result) = asked("HTTP/1.0 204 x\r\n\r\n", true, REQUEST);
        assert!(request.starts_with("POST /cm") && request.contains("Content-Length: 0\r\n"), "{request}");
        assert_eq!(result, Ok(()));
        for (answer, said) in [
            ("HTTP/1.1 401 No\r\n\r\n", "status 401"),
            ("\u{1b}[2J\r\n", "invalid"),
            ("HTTP/1.1 200", "no answer of HTTP"),
        ] {
            let (_, result) = asked(answer, false, REQUEST);
            assert!(result.as_ref().is_err_and(|error| error.contains(said)), "{answer:?}: {result:?}");
        }
        let (_, result) = asked("", false, Duration::from_millis(50));
        assert!(result.is_err_and(|error| error.contains("no answer in")));
        drop(listener);
        let url = format!("http://{host}/");
        ask(&Request { post: false, url, answer: None }, REQUEST).expect_err("nobody is there");
    }
}
