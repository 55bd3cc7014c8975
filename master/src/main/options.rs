//! Words of a command line → options that several commands share, and what is wrong with the rest.

use pico_args::Arguments;
use sai_master::config::{Config, own_url};
use sai_master::places::{self, Asked, Place};
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a command was not done.
pub enum Failure {
    /// Its words are not understood.
    Usage(String),
    /// A configuration is not understood, or none says which master is meant.
    Configuration(String),
    /// What it asks for failed.
    Failed(String),
    /// Trouble of ours.
    Infra(String),
}

impl From<pico_args::Error> for Failure {
    fn from(error: pico_args::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

/// A path as it was given, which need not be text.
pub fn path(text: &OsStr) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("expected a path") } else { Ok(PathBuf::from(text)) }
}

/// Takes the words that are left; options among them are ones we do not have.
pub fn rest(arguments: Arguments) -> Result<Vec<OsString>, Failure> {
    let words = arguments.finish();
    match words.iter().find(|word| word.as_encoded_bytes().starts_with(b"-") && word.len() > 1) {
        Some(option) => Err(Failure::Usage(format!("there is no option {}", option.to_string_lossy()))),
        None => Ok(words),
    }
}

/// Expects no word to be left.
pub fn none_left(arguments: Arguments) -> Result<(), Failure> {
    match rest(arguments)?.first() {
        Some(word) => Err(Failure::Usage(format!("{:?} is one word too many", word.to_string_lossy()))),
        None => Ok(()),
    }
}

/// Which master is meant.
pub fn asked(arguments: &mut Arguments) -> Result<Asked, Failure> {
    Ok(Asked {
        config: arguments.opt_value_from_os_str("--config", path)?,
        state: arguments.opt_value_from_os_str("--state", path)?,
    })
}

/// The master that is meant, with its configuration.
pub fn place(asked: &Asked) -> Result<Place, Failure> {
    places::find(asked).map_err(|lines| Failure::Configuration(lines.join("\n")))
}

/// What a command line says instead of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Over {
    listen: Vec<SocketAddr>,
    url: Option<String>,
}

/// Reads `--listen` and `--url`.
pub fn over(arguments: &mut Arguments) -> Result<Over, Failure> {
    Ok(Over { listen: arguments.values_from_str("--listen")?, url: arguments.opt_value_from_fn("--url", own_url)? })
}

impl Over {
    /// Puts it into a configuration.
    pub fn apply(&self, config: &mut Config) {
        if !self.listen.is_empty() {
            config.listen = self.listen.clone();
        }
        if self.url.is_some() {
            config.url = self.url.clone();
        }
    }
}
