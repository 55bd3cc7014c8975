//! The socket of an emulated machine → what QEMU is ordered to do with it, and what it answers (QMP).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Time for what must come; machines stand still for seconds at times.
pub const LONG: Duration = Duration::from_secs(100);
/// Pause between two looks for a socket.
const LOOK: Duration = Duration::from_millis(20);

/// Connects to a socket that QEMU is about to listen at.
///
/// # Panics
/// When it does not come to that.
pub fn connect(path: &Path) -> UnixStream {
    let began = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LONG)).expect("a time-out");
                return stream;
            }
            Err(_) => assert!(began.elapsed() < LONG, "QEMU does not start"),
        }
        thread::sleep(LOOK);
    }
}

/// What QEMU is told through.
#[derive(Debug)]
pub struct Orders(BufReader<UnixStream>);

impl Orders {
    /// Of the machine whose `-qmp` is a socket here.
    pub fn connect(path: &Path) -> Self {
        let mut orders = Orders(BufReader::new(connect(path)));
        let mut greeting = String::new();
        orders.0.read_line(&mut greeting).expect("a greeting");
        orders.execute("qmp_capabilities");
        orders
    }

    /// Has QEMU do what needs no more words.
    pub fn execute(&mut self, name: &str) {
        self.give(&format!("{{\"execute\":\"{name}\"}}"));
    }

    /// Has QEMU do something: what it answers.
    ///
    /// # Panics
    /// When it cannot.
    pub fn give(&mut self, order: &str) -> String {
        writeln!(self.0.get_mut(), "{order}").expect("QEMU listens");
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).expect("an answer to an order") > 0, "QEMU is gone");
            assert!(!line.starts_with("{\"error\""), "{order}: {line}");
            if line.starts_with("{\"return\"") {
                return line;
            }
        }
    }

    /// What QEMU calls the machine's PL061, a chip of eight GPIO lines.
    pub fn pl061(&mut self) -> String {
        let parts = self.give(r#"{"execute":"qom-list","arguments":{"path":"/machine/unattached"}}"#);
        let chip = parts.split('{').find(|part| part.contains("child<pl061>")).expect("a PL061");
        let name = chip.split('"').find(|word| word.starts_with("device[")).expect("its name");
        format!("/machine/unattached/{name}")
    }
}
