//! Address of a master, fingerprint and a person's token → a login that was proven, in a file of theirs.
//!
//! The token is read from standard input, so that it stands in no history and no list of processes, and it is shown to nobody
//! before their certificate is believed.

use crate::failure::Failure;
use crate::master::{Master, Trouble, dialer};
use crate::place::{self, Login};
use crate::telling::{plain, tell};
use miniserde::{Serialize, json};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use sai_agent::link::DialError;
use sai_agent::pin::{Trust, TrustError, fingerprint_text};
use sai_agent::terminal;
use sai_core::join::{Address, check_token};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

/// Bytes of standard input that are looked at: more than the longest token.
const INPUT_BYTES: usize = 4096;

/// What was proven, for programs.
#[derive(Serialize)]
struct Proven<'a> {
    master: &'a str,
    person: Option<&'a str>,
    powers: &'a [String],
    until: Option<&'a str>,
    pin: Option<String>,
}

/// Logs in to a master, or says what is in the way; nothing is changed then.
///
/// # Errors
/// Whose fault it is.
pub fn login(address: &Address, pin: Option<[u8; 32]>, json: bool) -> Result<(), Failure> {
    let file = place::file().map_err(Failure::usage)?;
    let before = match Login::read(&file) {
        Ok(found) => found.map(|(login, _)| login).filter(|login| login.master == *address),
        // It is to be replaced.
        Err(why) => {
            tell(&why);
            None
        }
    };
    let trust = smol::block_on(trust(address, pin, before.as_ref().map(|login| login.trust)))?;
    let token = token()?;
    let mut login = Login { master: address.clone(), trust, token, person: None };
    let mut master = Master::new(&login)?;
    let me = smol::block_on(master.me()).map_err(|trouble| match trouble {
        Trouble::Refused(401, why) => Failure::trouble(format!("{}: {why}; nothing was saved", master.address())),
        trouble => Failure::from(trouble),
    })?;
    login.person = me.as_ref().map(|me| me.name.clone());
    login.save(&file).map_err(Failure::trouble)?;
    let text = if json {
        let (powers, until) = me.as_ref().map(|me| (me.powers.as_slice(), me.until.as_deref())).unwrap_or_default();
        let pin = match &login.trust {
            Trust::Fingerprint(pin) => Some(fingerprint_text(pin)),
            Trust::System => None,
        };
        let person = login.person.as_deref();
        json::to_string(&Proven { master: master.address(), person, powers, until, pin })
    } else {
        let who = match &me {
            Some(me) => {
                let until = me.until.as_ref().map(|until| format!(", until {}", plain(until))).unwrap_or_default();
                format!(" as {} ({}{until})", plain(&me.name), plain(&me.powers.join(", ")))
            }
            None => String::new(),
        };
        format!("logged in to {}{who}", master.address())
    };
    deliver(&file, &text)
}

fn deliver(file: &Path, text: &str) -> Result<(), Failure> {
    terminal::deliver(format!("{text}\n").as_bytes())
        .map_err(|error| Failure::here(&format!("{} is written, but standard output", file.display()), &error))
}

/// Whom to believe at this address.
async fn trust(address: &Address, pin: Option<[u8; 32]>, before: Option<Trust>) -> Result<Trust, Failure> {
    // A certificate that changed is somebody in between until a person says otherwise, by name.
    let trust = pin.map(Trust::Fingerprint).or(before).unwrap_or(Trust::System);
    let nobody = Login { master: address.clone(), trust, token: String::new(), person: None };
    let why = match dialer(&nobody)? {
        Ok(dialer) => match dialer.connect().await {
            Ok(_) => return Ok(trust),
            Err(DialError::Untrusted(why)) if trust == Trust::System => why,
            Err(error) => {
                let again = if before == Some(trust) { "; if it was replaced: sai logout, and sai login" } else { "" };
                let wrong = matches!(error, DialError::Untrusted(_));
                return Err(Failure::trouble(format!("{error}{}", if wrong { again } else { "" })));
            }
        },
        Err(error @ TrustError::NoSystemRoots(_)) => error.to_string(),
        Err(error) => return Err(Failure::trouble(error.to_string())),
    };
    let looking = Login { trust: Trust::Fingerprint([0; 32]), ..nobody };
    let looking = dialer(&looking)?.map_err(|error| Failure::trouble(error.to_string()))?;
    let found = looking.presented().await.map_err(|error| Failure::trouble(error.to_string()))?;
    let text = fingerprint_text(&found);
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        let question = format!(
            "{address} has a certificate that no authority vouches for. Its fingerprint is\n  {text}\nIs it the one that \
             `sai-master status` tells of? [yes/no] "
        );
        let _ = io::stderr().write_all(question.as_bytes());
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|error| Failure::here("standard input", &error))?;
        return match answer.trim() {
            "yes" | "y" => Ok(Trust::Fingerprint(found)),
            _ => Err(Failure::trouble("nothing was saved, and no token was shown to anybody")),
        };
    }
    Err(Failure::trouble(format!(
        "{why}; if {text} is what `sai-master status` tells of its certificate, say --fingerprint {text}"
    )))
}

/// The first line of standard input; from a terminal it is asked for, and not shown.
fn token() -> Result<String, Failure> {
    let wrong = |error: io::Error| Failure::here("standard input", &error);
    let stdin = io::stdin();
    let mut text = String::new();
    if stdin.is_terminal() {
        let _ = io::stderr().write_all(b"token (sai-master user add NAME prints one): ");
        let shown = tcgetattr(&stdin);
        if let Ok(mut hidden) = shown.clone() {
            hidden.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(&stdin, OptionalActions::Flush, &hidden);
        }
        let read = stdin.read_line(&mut text);
        if let Ok(shown) = shown {
            let _ = tcsetattr(&stdin, OptionalActions::Flush, &shown);
        }
        let _ = io::stderr().write_all(b"\n");
        read.map_err(wrong)?;
    } else {
        stdin.take(INPUT_BYTES as u64).read_to_string(&mut text).map_err(wrong)?;
    }
    let token = text.lines().next().unwrap_or_default().trim().to_owned();
    check_token(&token).map_err(|why| Failure::usage(format!("standard input: {why}")))?;
    Ok(token)
}

/// Forgets the login.
///
/// # Errors
/// The disk's.
pub fn logout() -> Result<(), Failure> {
    let file = place::file().map_err(Failure::usage)?;
    let there = place::forget(&file).map_err(Failure::trouble)?;
    let text =
        if there { "logged out; the token opens the master until it is revoked there" } else { "nobody was logged in" };
    deliver(&file, text)
}

/// The way to the master that somebody has logged in to.
///
/// # Errors
/// Nobody has, or what is kept of it is not as expected.
pub fn master() -> Result<Master, Failure> {
    let file = place::file().map_err(Failure::usage)?;
    match Login::read(&file).map_err(Failure::usage)? {
        Some((login, warning)) => {
            if let Some(warning) = warning {
                tell(&warning);
            }
            Master::new(&login)
        }
        None => Err(Failure::usage("nobody is logged in here: sai login https://HOST:PORT")),
    }
}
