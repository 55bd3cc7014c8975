//! Words → a process whose lines are told; and the ends of all processes, those too that lost whoever started them.

use crate::tell::tell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait};
use sai_core::session::CONNECTED;
use sai_init::services::Service;
use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of a line of a program at most; what is longer is several.
const LINE_MOST: u64 = 800;
/// Processes that are taken leave of at once, so that no flood of them keeps anything else waiting.
const ENDS_MOST: usize = 1000;

/// What runs, by the numbers of processes.
#[derive(Default)]
pub struct Programs {
    running: HashMap<Pid, (Service, Option<OwnedFd>)>,
    /// Whether the agent has said that it is connected.
    reached: Arc<AtomicBool>,
}

impl Programs {
    /// Starts a program.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, service: &Service, words: &[String]) -> io::Result<()> {
        let Some((program, arguments)) = words.split_first() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin:/sbin").env("HOME", "/root");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/").spawn()?;
        if let Some(out) = child.stdout.take() {
            self.listen(service, out);
        }
        if let Some(err) = child.stderr.take() {
            self.listen(service, err);
        }
        let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(number) = number {
            // Without it its end is noticed a little later.
            let ends = pidfd_open(number, PidfdFlags::empty()).ok();
            self.running.insert(number, (service.clone(), ends));
        }
        Ok(())
    }

    /// Waits until something happens, but not for longer than this: which programs have ended, and with what status.
    pub fn wait(&mut self, most: Duration, socket: Option<BorrowedFd<'_>>) -> Vec<(Service, Option<i32>)> {
        let ends = self.running.values().filter_map(|(_, ends)| ends.as_ref());
        let mut events: Vec<PollFd<'_>> = ends
            .map(|ends| ends.as_fd())
            .chain(socket)
            .map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN))
            .collect();
        let most = Timespec { tv_sec: most.as_secs().try_into().unwrap_or(1), tv_nsec: most.subsec_nanos().into() };
        // Interrupted or not: what has happened is looked for below.
        let _ = poll(&mut events, Some(&most));
        drop(events);
        let mut ended = Vec::new();
        for _ in 0..ENDS_MOST {
            let Ok(Some((number, status))) = wait(WaitOptions::NOHANG) else { break };
            if let Some((service, _)) = self.running.remove(&number) {
                ended.push((service, status.exit_status()));
            }
        }
        ended
    }

    /// Whether the agent has reached its master since this was asked the last time.
    pub fn reached(&self) -> bool {
        self.reached.swap(false, Ordering::Relaxed)
    }

    /// Tells what a program says, for as long as anybody has the other end.
    fn listen(&self, service: &Service, from: impl Read + Send + 'static) {
        let name = service.to_string();
        let reached = (*service == Service::Agent).then(|| self.reached.clone());
        let told = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let mut lines = BufReader::new(from);
            loop {
                let mut line = Vec::new();
                match (&mut lines).take(LINE_MOST).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {
                        let line = String::from_utf8_lossy(&line);
                        tell(&format!("{name}: {}", line.trim_end()));
                        if let Some(reached) = reached.as_ref().filter(|_| line.contains(CONNECTED)) {
                            reached.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
        if let Err(error) = told {
            tell(&format!("{service} is not listened to: {error}"));
        }
    }
}
