//! Words of a command ↔ one JSON line each way on a unix socket: how the command line reaches the running master.
//!
//! Only the master's own user may connect to the socket: who can reach it may do anything.

use crate::action::Action;
use crate::actions::Actions;
use crate::rights::COMMAND_LINE;
use miniserde::{Deserialize, Serialize, json};
use sai_agent::blocking::detach;
use smol::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use smol::net::unix::{UnixListener, UnixStream};
use std::fs::Permissions;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The socket's name in the state directory.
const SOCKET: &str = "admin.sock";
/// Bytes of a command line at most: a saifile, each byte of which may be an escape.
const COMMAND_BYTES: u64 = 8 << 20;
/// Commands carried out at once; more wait.
const AT_ONCE: usize = 8;
/// Time for a command to arrive, and for its answer to be taken.
const TIME: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Command {
    words: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    done: bool,
    text: String,
}

/// Listens for commands until the process ends.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(state: &Path, actions: Arc<Actions>) -> io::Result<()> {
    let path = state.join(SOCKET);
    match std::fs::remove_file(&path) {
        // A socket left by a killed master; the store's lock shows that none runs now.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let places = Arc::new(smol::lock::Semaphore::new(AT_ONCE));
    detach(async move {
        loop {
            let place = places.acquire_arc().await;
            let Ok((stream, _)) = listener.accept().await else {
                smol::Timer::after(Duration::from_millis(100)).await;
                continue;
            };
            let actions = actions.clone();
            detach(async move {
                let _place = place;
                let timeout = async {
                    smol::Timer::after(TIME).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                let _: io::Result<()> = smol::future::or(serve(stream, &actions), timeout).await;
            });
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, actions: &Actions) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.clone().take(COMMAND_BYTES)).read_line(&mut line).await?;
    let result = match json::from_str::<Command>(&line) {
        Ok(command) => {
            let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
            match Action::parse(&words) {
                Ok(action) => actions.perform(action, COMMAND_LINE).await.map(|done| done.text),
                Err(why) => Err(why),
            }
        }
        Err(_) => Err("expected one line of JSON with `words`".to_string()),
    };
    let (done, text) = match result {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    let mut answer = json::to_string(&Answer { done, text });
    answer.push('\n');
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).await
}

/// Lets the master that runs on this state directory do something; `None` when none runs there. What it says is its answer,
/// or why it did not do it.
///
/// # Errors
/// It cannot be asked by this user.
pub fn ask(state: &Path, words: &[&str]) -> Result<Option<Result<String, String>>, String> {
    let mut stream = match std::os::unix::net::UnixStream::connect(state.join(SOCKET)) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let state = state.display();
            return Err(format!("the master of {state} is another user's: run this as root, or as that user"));
        }
        Err(_) => return Ok(None),
    };
    let command = Command { words: words.iter().map(ToString::to_string).collect() };
    let mut line = json::to_string(&command);
    line.push('\n');
    let mut answer = String::new();
    let exchange = (|| {
        stream.set_read_timeout(Some(TIME))?;
        stream.write_all(line.as_bytes())?;
        io::BufReader::new(&stream).read_line(&mut answer)
    })();
    Ok(Some(match (exchange, json::from_str::<Answer>(&answer)) {
        (Ok(_), Ok(Answer { done: true, text })) => Ok(text),
        (Ok(_), Ok(Answer { text, .. })) => Err(text),
        (Err(error), _) => Err(format!("the running master does not answer: {error}")),
        (Ok(_), Err(_)) => Err("the running master answers something else than this version expects".to_string()),
    }))
}
