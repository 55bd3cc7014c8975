//! Options, environment and machine → which configuration is meant, and where its master keeps its state.

use crate::config::{self, Config};
use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Variable that names the configuration where `--config` does not.
pub const VARIABLE: &str = "SAI_CONFIG";
/// The configuration of this machine's master, where there is one.
const MACHINE: &str = "/etc/sai/master.json";
/// State of root's master; the one of the unit, and of the package's.
const ROOT_STATE: &str = "/var/lib/sai-master";
/// Where earlier versions kept their state when nobody said where: in the working directory.
const EARLIER: &str = "sai-state";

/// What a command line says of the place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--state`.
    pub state: Option<PathBuf>,
}

/// The master that is meant.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its configuration, with the state directory that it is to have.
    pub config: Config,
    /// The file it was read from; none where defaults are used.
    pub file: Option<PathBuf>,
    /// Whether somebody said which: by an option, the variable or this machine's configuration.
    pub said: bool,
}

/// Finds it: `--config`, else `SAI_CONFIG`, else `/etc/sai/master.json` unless `--state` names a master by itself.
///
/// # Errors
/// Lines about the configuration, or what to say where this user has no home.
pub fn find(asked: &Asked) -> Result<Place, Vec<String>> {
    find_with(asked, env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from), Path::new(MACHINE))
}

fn find_with(asked: &Asked, variable: Option<PathBuf>, machine: &Path) -> Result<Place, Vec<String>> {
    // A state that is named is a master by itself: the repositories of this machine's are none of its business.
    let machine = || (asked.state.is_none() && machine.exists()).then(|| machine.to_path_buf());
    let file = asked.config.clone().or(variable).or_else(machine);
    let mut config = match &file {
        Some(file) => read(file)?,
        None => Config::default(),
    };
    let said = file.is_some() || asked.state.is_some();
    if let Some(state) = &asked.state {
        config.state = state.clone();
    }
    if config.state.as_os_str().is_empty() {
        config.state = default_state().map_err(|why| vec![why])?;
    }
    Ok(Place { config, file, said })
}

/// Reads a configuration file.
///
/// # Errors
/// Lines that name the file, and the place in it.
pub fn read(file: &Path) -> Result<Config, Vec<String>> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| vec![format!("{name}: {error}")])?;
    config::read(&name, &bytes)
}

/// Where a master keeps its state when nobody says: `/var/lib/sai-master` for root, else `sai-master` in
/// `$XDG_STATE_HOME` (XDG base directory specification) or `~/.local/state`. A state of this user's own in the working
/// directory, where earlier versions put it, goes on being used.
///
/// # Errors
/// What to do when this user has no home.
pub fn default_state() -> Result<PathBuf, String> {
    let user = rustix::process::geteuid();
    let earlier = Path::new(EARLIER);
    // Not somebody else's, who would have it be used by leaving it in a directory where many work.
    let own = earlier.join("format").symlink_metadata().is_ok_and(|about| about.uid() == user.as_raw());
    if own {
        return Ok(earlier.to_path_buf());
    }
    if user.is_root() { Ok(PathBuf::from(ROOT_STATE)) } else { user_state("sai-master") }
}

/// A directory of this user's for the state of a program.
///
/// # Errors
/// What to do when there is none.
pub fn user_state(name: &str) -> Result<PathBuf, String> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join(name))
        .ok_or_else(|| "neither XDG_STATE_HOME nor HOME is set: say where to keep state with --state DIR".to_string())
}

/// Fails where root would leave files in the state of a master that another user runs, who could not write them.
///
/// # Errors
/// As whom to do it.
pub fn expect_own(directory: &Path) -> Result<(), String> {
    let owner = directory.metadata().map(|about| about.uid()).unwrap_or_default();
    if !rustix::process::geteuid().is_root() || owner == 0 {
        return Ok(());
    }
    let state = directory.display();
    Err(format!(
        "{state} belongs to user {owner}, whose master does not run: do this as that user (sudo -u '#{owner}' …)"
    ))
}

/// Whether a master has its state there.
pub fn is_state(directory: &Path) -> bool {
    ["format", "ledger", "journal"].iter().any(|name| directory.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_word_counts() {
        let root = env::temp_dir().join(format!("sai-places-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir(&root).expect("a directory");
        let file = |name: &str| {
            let file = root.join(name);
            std::fs::write(&file, format!("{{ \"state\": \"/srv/{name}\" }}")).expect("a configuration");
            file
        };
        let (option, variable, machine) = (file("option"), file("variable"), file("machine"));
        let place = |config: Option<&PathBuf>, state: Option<&str>, variable: Option<&PathBuf>, machine: &Path| {
            let asked = Asked { config: config.cloned(), state: state.map(PathBuf::from) };
            let place = find_with(&asked, variable.cloned(), machine).expect("a place");
            (place.config.state.display().to_string(), place.said)
        };
        let said = |state: &str| (state.to_string(), true);
        assert_eq!(place(Some(&option), None, Some(&variable), &machine), said("/srv/option"));
        assert_eq!(place(None, None, Some(&variable), &machine), said("/srv/variable"));
        assert_eq!(place(None, None, None, &machine), said("/srv/machine"));
        assert_eq!(place(Some(&option), Some("/mine"), None, &machine), said("/mine"));
        assert_eq!(place(None, Some("/mine"), None, &machine), said("/mine"));
        let none = root.join("none");
        let (state, said) = place(None, None, None, &none);
        assert!(!said && Path::new(&state).is_absolute(), "{state}");
        // What is named and is not there is an error, never something else instead.
        let asked = Asked { config: Some(none.clone()), state: None };
        assert!(find_with(&asked, None, &machine).expect_err("no file")[0].contains("none"));
        assert!(find_with(&Asked::default(), Some(none), &machine).is_err());
        std::fs::remove_dir_all(&root).expect("the end");
    }
}
