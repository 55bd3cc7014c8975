//! What this machine can be, and the jobs of a matrix → those that are tried, and why the others are not.

use super::Trial;
use sai_agent::config;
use sai_agent::container_settings::ContainerSettings;
use sai_agent::image::scan;
use sai_agent::state::CONFIGURATION;
use sai_agent::{describe, offering};
use sai_core::escape;
use sai_core::matrix::JobSpec;
use sai_core::ordered::{Map, Set};
use sai_core::platform::{as_root, described, serves};
use std::path::{Path, PathBuf};

/// State directory of the agent inside this machine's own master, which may have images, too.
const INSIDE: &str = "/var/lib/sai-master/agent";
/// Lines about jobs that are not tried; what is left of them is counted.
const LINES: usize = 8;

/// What is offered to the jobs of a trial.
pub struct Offered {
    /// What this machine is, and is to be taken for.
    pub host: Vec<String>,
    /// Images, and how jobs in them are held.
    pub containers: ContainerSettings,
    /// The platforms of the images.
    images: Vec<String>,
    /// Why steps cannot be root in them, if they cannot.
    rootless: Option<String>,
}

/// Which jobs are tried.
pub struct Choice {
    /// The index of each in the matrix.
    pub chosen: Vec<usize>,
    /// Sentences about the others.
    pub left: Vec<String>,
}

/// A job's name before its lines.
pub fn label(configuration: &str, platform: &str) -> String {
    format!("{} {platform}", escape::line(configuration))
}

impl Offered {
    /// Looks at this machine.
    pub fn look(trial: &Trial) -> Result<Self, String> {
        let mut host = describe::platforms();
        host.extend(trial.offer.iter().cloned());
        let containers = match &trial.images {
            Some(images) => {
                let images = images.canonicalize().map_err(|error| format!("{}: {error}", images.display()))?;
                let settings = ContainerSettings { images: Some(images.clone()), ..ContainerSettings::default() };
                offering::runner(&settings)?;
                let scan::Scan { images: found, wrong } = scan::scan(&images);
                if found.is_empty() {
                    let why = wrong.first().map_or("see sai-agent image --help".to_string(), ToString::to_string);
                    return Err(format!("{}: there is no image in it; {why}", images.display()));
                }
                settings
            }
            // Without an image a trial is about this machine as it is.
            None => usual_images().unwrap_or(ContainerSettings { runner: Some(None), ..ContainerSettings::default() }),
        };
        let images = containers.images.as_deref().map(platforms).unwrap_or_default();
        let rootless = Self::rootless(&containers);
        Ok(Self { host, containers, images, rootless })
    }

    fn rootless(containers: &ContainerSettings) -> Option<String> {
        match (offering::runner(containers), containers.images.as_deref()) {
            (Ok(Some(runner)), Some(images)) => offering::can_be_root(containers, runner, images).err(),
            (Err(why), _) => Some(why),
            _ => Some("there is no image here".to_string()),
        }
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.host.iter().chain(&self.images)
    }

    /// Which jobs of the matrix are tried.
    pub fn choose(&self, trial: &Trial, specs: &[JobSpec]) -> Result<Choice, String> {
        if specs.is_empty() {
            return Err("the saifile asks for no job on this branch".to_string());
        }
        for name in &trial.configurations {
            if !specs.iter().any(|spec| spec.configuration == *name) {
                let names = Set::from_iter(specs.iter().map(|spec| spec.configuration.as_str()));
                let names: Vec<&str> = names.into_iter().collect();
                return Err(format!("there is no configuration {name:?}; there are {}", names.join(", ")));
            }
        }
        let in_images = |spec: &JobSpec| self.images.iter().any(|platform| serves(platform, &spec.platform));
        let here = |spec: &JobSpec| match spec.root {
            Some(true) => self.rootless.is_none() && in_images(spec),
            _ => self.names().any(|platform| serves(platform, &spec.platform)),
        };
        let wanted = |spec: &JobSpec| match spec.root {
            Some(true) => described(&as_root(&spec.platform)),
            _ => spec.platform.clone(),
        };
        let asked = |spec: &JobSpec| {
            (trial.configurations.is_empty() || trial.configurations.contains(&spec.configuration))
                && (trial.platforms.is_empty() || trial.platforms.iter().any(|wanted| serves(&spec.platform, wanted)))
        };
        let (mut chosen, mut unasked) = (Vec::new(), 0);
        let mut at_boards = Vec::new();
        let mut foreign: Map<String, Vec<&str>> = Map::new();
        for (index, spec) in specs.iter().enumerate() {
            match (asked(spec), here(spec)) {
                (true, _) if spec.board.is_some() => at_boards.push(label(&spec.configuration, &spec.platform)),
                (true, true) => chosen.push(index),
                (true, false) => foreign.get_or_default(wanted(spec)).push(&spec.configuration),
                (false, _) => unasked += 1,
            }
        }
        if let ([first, ..], true, true) = (&at_boards[..], chosen.is_empty(), foreign.is_empty()) {
            return Err(format!("{first} is run at a board, and a trial has none; a push runs it"));
        }
        let roots = specs.iter().any(|spec| asked(spec) && spec.root == Some(true));
        if chosen.is_empty() {
            let wanted: Vec<&str> = foreign.keys().map(String::as_str).collect();
            let offered: Vec<&str> = self.names().map(String::as_str).collect();
            return Err(format!(
                "this machine serves {}, but the jobs asked for want {}; {}",
                offered.join(", "),
                if wanted.is_empty() { "nothing that there is".to_string() } else { wanted.join(", ") },
                match (&self.rootless, roots) {
                    (Some(why), true) => format!("steps are root in containers alone: {why}"),
                    _ => "`--as PLATFORM` lets it serve another".to_string(),
                }
            ));
        }
        let mut left = Vec::new();
        unasked -= self.take_along(specs, &mut chosen, &mut left);
        if unasked > 0 {
            left.push(format!("not built: {unasked} that were not asked for"));
        }
        if let [first, more @ ..] = &at_boards[..] {
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            left.push(format!("not run: {first}{more}: at a board, and a trial has none"));
        }
        for (platform, configurations) in foreign.iter().take(LINES) {
            let shown: Vec<String> = configurations.iter().take(LINES).map(|name| escape::line(name)).collect();
            let more = configurations.len() - shown.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            left.push(format!(
                "not built: {platform}, {}{more}: this machine serves no {platform} (see --as and --images)",
                shown.join(", ")
            ));
        }
        if let Some(why) = self.rootless.as_ref().filter(|_| roots) {
            left.push(format!("steps cannot be root here: {why}"));
        }
        let more: usize = foreign.values().skip(LINES).map(Vec::len).sum();
        if more > 0 {
            left.push(format!("not built: {more} more, for {} other platforms", foreign.len() - LINES));
        }
        Ok(Choice { chosen, left })
    }
}

impl Offered {
    /// Takes along what the chosen jobs need, and leaves out those that need what cannot be built here. Gives how many of
    /// those that were not asked for are built after all.
    fn take_along(&self, specs: &[JobSpec], chosen: &mut Vec<usize>, left: &mut Vec<String>) -> usize {
        let here = |index: usize| {
            specs[index].board.is_none() && self.names().any(|platform| serves(platform, &specs[index].platform))
        };
        let asked = chosen.clone();
        let mut along: Set<usize> = Set::new();
        for start in &asked {
            // All that it needs, directly or not.
            let (mut all, mut waiting) = (Set::from([*start]), vec![*start]);
            while let Some(index) = waiting.pop() {
                waiting.extend(specs[index].needs.iter().map(|need| *need as usize).filter(|need| all.insert(*need)));
            }
            match all.iter().find(|index| !here(**index)) {
                None => along.extend(all.iter().copied()),
                Some(foreign) => {
                    let (job, need) = (&specs[*start], &specs[*foreign]);
                    let why = match need.board {
                        Some(_) => "which is run at a board".to_string(),
                        None => format!("and this machine serves no {}", need.platform),
                    };
                    left.push(format!(
                        "not built: {}: it needs {}, {why}",
                        label(&job.configuration, &job.platform),
                        escape::line(&need.configuration),
                    ));
                }
            }
        }
        left.truncate(LINES);
        let more = along.iter().filter(|index| !asked.contains(index)).count();
        *chosen = along.into_iter().collect();
        more
    }
}

fn platforms(images: &Path) -> Vec<String> {
    scan::scan(images).images.into_iter().map(|image| image.platform).collect()
}

/// The images that this machine's agent offers, or the one inside its master, and how it holds jobs in them; none where
/// this user can make no containers.
fn usual_images() -> Option<ContainerSettings> {
    let states = config::default_state().into_iter().chain([PathBuf::from(INSIDE)]);
    states.into_iter().find_map(|state| {
        let configured = config::read(&state.join(CONFIGURATION)).map(|config| config.containers);
        let settings = configured.unwrap_or_default();
        let settings = ContainerSettings { images: Some(settings.images(&state)), ..settings };
        let usable = offering::runner(&settings).is_ok_and(|runner| runner.is_some());
        let some = settings.images.as_deref().is_some_and(|images| !platforms(images).is_empty());
        (usable && some).then_some(settings)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::saifile;

    #[test]
    fn what_is_run_at_boards_is_left_out_and_named() {
        let text = br#"{"schema": "sai-1", "platforms": {"linux": {"build": "b"}}, "configurations": {
            "fw": {"artifacts": "*", "board": {"type": "uno", "flash": "a", "pass": "OK"}}, "next": {"needs": "fw/board"}}}"#;
        let specs = saifile::read(text, "main").specs;
        let offered = Offered {
            host: vec!["linux".to_string()],
            containers: ContainerSettings::default(),
            images: Vec::new(),
            rootless: None,
        };
        let trial = |configurations: &[&str]| Trial {
            path: PathBuf::new(),
            dirty: false,
            configurations: configurations.iter().map(ToString::to_string).collect(),
            platforms: Vec::new(),
            offer: Vec::new(),
            images: None,
            state: None,
            artifacts: None,
            stay: false,
            slots: None,
        };
        let all = offered.choose(&trial(&[]), &specs).expect("some are tried");
        let told = [
            "not built: next linux: it needs fw/board, which is run at a board",
            "not run: fw/board linux: at a board, and a trial has none",
        ];
        assert_eq!(all.chosen, [0]);
        assert!(told.iter().all(|line| all.left.iter().any(|left| left == line)), "{:?}", all.left);
        let why = offered.choose(&trial(&["fw/board"]), &specs).err();
        assert_eq!(why.as_deref(), Some("fw/board linux is run at a board, and a trial has none; a push runs it"));
    }
}
