//! RepoSpec × ref → Vec<JobSpec>: each configuration on each platform it selects, its values put into the steps, and after
//! each of those the boards on which what it built is run.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bundle::Bundle;
use crate::changed;
use crate::glob;
use crate::graph::{self, Place};
use crate::json::{At, Position, Spanned, shown};
use crate::limits::JOBS_MAX;
use crate::ordered::{Map, Set};
use crate::platform::NAME_MAX;
use crate::start::Start;
use crate::units::WantedBoard;
use miniserde::{Deserialize, Serialize};

use crate::repo_spec::{Board, Configuration, IMPLIED_VALUES, Platform, RepoSpec, Warning, selects};

/// Longest build step once values are put in, in bytes: what a text may have before.
pub const STEP_MAX: usize = crate::json::TEXT_MAX;
/// Largest job, in bytes of its texts as JSON: its assignment must fit one frame of 1 MiB with room to spare.
pub const JOB_TEXT_MAX: usize = crate::limits::STEPS_BYTES;
/// Most bytes of build text in all jobs of an event together: 10 000 jobs of 3 KiB, six times what is usual. Without
/// it a file of 1 MiB could ask for gigabytes.
pub const EVENT_TEXT_MAX: usize = 32 * 1024 * 1024;

/// Seconds that a job at a board may take before its trial begins: 32 MiB over a line of 115 200 baud, and then some.
pub const BEFORE_RESET_S: u64 = 60 * 60;

/// A job that a push asks for: what to do, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The platform that is wanted.
    pub platform: String,
    /// The configuration's name.
    pub configuration: String,
    /// The build steps in order, one script each.
    pub steps: Vec<String>,
    /// Variables of the steps' environment: the platform's, and over them the configuration's.
    pub env: Map<String, String>,
    /// Globs of the files to keep, relative to the workspace.
    pub artifacts: Vec<String>,
    /// Seconds that the job may take, if the file says so.
    pub timeout_s: Option<u64>,
    /// Seconds that each step may take, if the file says so.
    pub step_timeout_s: Option<u64>,
    /// −100 to 100; a higher one is built earlier.
    pub priority: i32,
    /// Whether the steps are to be root, in a container; absent where they are not, and in plans of older masters.
    pub root: Option<bool>,
    /// Jobs of the same event that must have passed before, by their places in its list, in order.
    pub needs: Vec<u32>,
    /// How much of which units it occupies while it runs.
    pub units: Map<String, u32>,
    /// The board that it runs at; absent where it has steps, and in plans of older masters.
    pub board: Option<BoardSpec>,
    /// The tree that somebody has sent for it; absent of what was pushed, and in plans of older masters.
    pub bundle: Option<Bundle>,
}

/// Steps of a job at a board, as its log has them.
pub const BOARD_STEPS: [&str; 3] = ["images", "flash", "test"];

impl JobSpec {
    /// A session at a board, which has no steps: of this platform and configuration by name alone.
    pub fn session(platform: String, configuration: String, wanted: WantedBoard, timeout_s: u64) -> Self {
        Self {
            platform,
            configuration,
            steps: Vec::new(),
            env: Map::new(),
            artifacts: Vec::new(),
            timeout_s: Some(timeout_s),
            step_timeout_s: None,
            priority: 0,
            root: None,
            needs: Vec::new(),
            units: Map::new(),
            board: Some(BoardSpec { wanted, trial: String::new() }),
            bundle: None,
        }
    }

    /// How many steps its log will have.
    pub fn steps_shown(&self) -> usize {
        if self.board.is_some() { BOARD_STEPS.len() } else { self.steps.len() }
    }
}

/// What is done at a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardSpec {
    /// The board that is wanted.
    pub wanted: WantedBoard,
    /// `board` of the saifile, as [`crate::trial::all_of`] reads it.
    pub trial: String,
}

/// The jobs of an event, and what is remarkable about them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// In file order of configurations, inside each in file order of platforms, and what is run at boards after its build.
    pub jobs: Vec<JobSpec>,
    /// Why there are none or fewer, where the ref is the reason.
    pub warnings: Vec<Warning>,
    /// Names of the configurations that are built for the ref, but are not wanted.
    pub unwanted: Vec<String>,
}

/// Which of the configurations that are built for a ref are wanted. What they need is built with them.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// All.
    All,
    /// Those of whose `paths` one of these files is, and those without.
    Changed(&'a [String]),
    /// Those that somebody starts.
    Started(&'a Start),
}

/// The branch that a ref names: what follows `refs/heads/`, or all of a name that does not begin with `refs/`.
/// `None` for tags and other refs.
pub fn branch_of(reference: &str) -> Option<&str> {
    match reference.strip_prefix("refs/heads/") {
        Some(branch) => Some(branch),
        None if reference.starts_with("refs/") => None,
        None => Some(reference),
    }
}

/// The jobs for a push to `reference`, given as `main` or `refs/heads/main`.
///
/// # Errors
/// The file's fault: more jobs than [`JOBS_MAX`], or texts that grow beyond a limit of this module once values are
/// put in. The first of them, at the place of the configuration.
pub fn expand(spec: &RepoSpec, reference: &str) -> Result<Matrix, At> {
    expand_wanted(spec, reference, Wanted::All)
}

/// The same, of what is wanted.
///
/// # Errors
/// As [`expand`].
pub fn expand_wanted(spec: &RepoSpec, reference: &str, wanted: Wanted<'_>) -> Result<Matrix, At> {
    let branch = branch_of(reference);
    if let Some(branch) = branch.filter(|branch| branch.starts_with('_')) {
        let text = format!("branch `{}`: branches beginning with `_` are ignored, so nothing is built", shown(branch));
        let Position { line, column, .. } = Position::START;
        return Ok(Matrix { warnings: [Warning { line, column, text }].to_vec(), ..Matrix::default() });
    }
    let built = |configuration: &Configuration| {
        configuration.branches.is_empty()
            || branch.is_some_and(|branch| configuration.branches.iter().any(|glob| glob::matches(glob, branch)))
    };
    jobs(spec, built, wanted)
}

/// The jobs of every ref together, as if no configuration named its branches: what a file could ask for at most.
///
/// # Errors
/// As [`expand`].
pub fn expand_for_any_ref(spec: &RepoSpec) -> Result<Vec<JobSpec>, At> {
    jobs(spec, |_| true, Wanted::All).map(|matrix| matrix.jobs)
}

fn jobs(spec: &RepoSpec, built: impl Fn(&Configuration) -> bool, wanted: Wanted<'_>) -> Result<Matrix, At> {
    let linked = spec.configurations.iter().any(|configuration| !configuration.needs.is_empty());
    // Without needs what other branches build does not matter, and may be more than fits an event.
    let places = places(spec, |configuration| linked || built(configuration))?;
    let graph = graph::link(spec, &places)?;
    let (kept, needs, warnings) = graph::take(spec, &places, &graph, built);
    let kept: Vec<Place> = kept.into_iter().map(|index| places[index]).collect();
    let (kept, needs, unwanted) = narrow(spec, kept, needs, wanted);
    let mut jobs: Vec<JobSpec> = Vec::new();
    let mut event_text = 0;
    for (place, needs) in kept.into_iter().zip(needs) {
        let (configuration, platform) = (&spec.configurations[place.configuration], &spec.platforms[place.platform]);
        let wrong = |expected: String| {
            let path = format!("configurations.{}", shown(&configuration.name));
            Err(configuration.at.expected(expected).about(&path))
        };
        if let Some(index) = place.board {
            let Some(board) = boards(configuration, platform).get(index) else { continue };
            let text = json_length(&board.text);
            event_text += text;
            if text > JOB_TEXT_MAX || event_text > EVENT_TEXT_MAX {
                let most = format!("at most {JOB_TEXT_MAX} bytes of a board, {EVENT_TEXT_MAX} of all jobs of a push");
                return wrong(most);
            }
            jobs.push(at_board(place.name(spec), configuration, platform, board, needs));
            continue;
        }
        let mut steps = Vec::new();
        for step in &platform.steps {
            match substitute(step, &configuration.values) {
                Some(step) => {
                    event_text += step.len();
                    steps.push(step);
                }
                None => {
                    let place = platform.at;
                    return wrong(format!("steps of at most {STEP_MAX} bytes for the platform at {place}"));
                }
            }
            // Checked at each step, so that what is held stays near the limit.
            if event_text > EVENT_TEXT_MAX {
                return wrong(format!("at most {EVENT_TEXT_MAX} bytes of build text in the jobs of a push"));
            }
        }
        let mut env = platform.env.clone();
        env.extend(configuration.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        if let Wanted::Started(start) = wanted {
            env.extend(start.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        let texts = steps.iter().chain(env.iter().flat_map(|(name, value)| [name, value]));
        let job_text: usize = texts.chain(&configuration.artifacts).map(|text| json_length(text)).sum();
        if job_text > JOB_TEXT_MAX {
            let place = platform.at;
            return wrong(format!("at most {JOB_TEXT_MAX} bytes of text in the job for the platform at {place}"));
        }
        event_text += job_text - steps.iter().map(|step| json_length(step)).sum::<usize>();
        let mut units = platform.units.clone();
        for (name, amount) in &configuration.units {
            let wanted = units.get_or_default(name.clone());
            *wanted = (*wanted).max(*amount);
        }
        jobs.push(JobSpec {
            platform: platform.name.clone(),
            configuration: configuration.name.clone(),
            steps,
            env,
            artifacts: configuration.artifacts.clone(),
            timeout_s: configuration.timeout_s.or(platform.timeout_s),
            step_timeout_s: configuration.step_timeout_s.or(platform.step_timeout_s),
            priority: configuration.priority,
            root: configuration.root.or(platform.root).filter(|root| *root),
            needs,
            units,
            board: None,
            bundle: None,
        });
    }
    Ok(Matrix { jobs, warnings, unwanted })
}

/// Takes of these places, with their needs as indexes among them, what is wanted and what that needs; and names the
/// configurations of which nothing is left.
fn narrow(
    spec: &RepoSpec,
    places: Vec<Place>,
    needs: Vec<Vec<u32>>,
    wanted: Wanted<'_>,
) -> (Vec<Place>, Vec<Vec<u32>>, Vec<String>) {
    let taken = |configuration: &Configuration| match wanted {
        Wanted::Changed(names) => configuration.paths.is_empty() || changed::takes(&configuration.paths, names),
        Wanted::All | Wanted::Started(_) => true,
    };
    let taken: Vec<bool> = spec.configurations.iter().map(taken).collect();
    let chosen = |place: Place| match wanted {
        Wanted::All => true,
        Wanted::Changed(_) => taken[place.configuration],
        Wanted::Started(start) => {
            let (configuration, platform) =
                (&spec.configurations[place.configuration], &spec.platforms[place.platform]);
            let board = place.board.and_then(|index| boards(configuration, platform).get(index));
            let kinds: Vec<&str> = board.into_iter().flat_map(Board::kinds).collect();
            start.takes(&[&configuration.name, &place.name(spec)], &platform.name, &kinds)
        }
    };
    let (kept, needs) = graph::with_needs(&needs, |index| chosen(places[index]));
    let kept: Vec<Place> = kept.into_iter().map(|index| places[index]).collect();
    let there = |places: &[Place]| Set::from_iter(places.iter().map(|place| place.configuration));
    let left = there(&kept);
    let unwanted = there(&places).into_iter().filter(|index| !left.contains(index));
    let unwanted = unwanted.map(|index| spec.configurations[index].name.clone()).collect();
    (kept, needs, unwanted)
}

/// The places of the jobs, in their order.
fn places(spec: &RepoSpec, built: impl Fn(&Configuration) -> bool) -> Result<Vec<Place>, At> {
    let too_many = |configuration: &Configuration| {
        let path = format!("configurations.{}", shown(&configuration.name));
        let expected = format!("at most {JOBS_MAX} jobs of a push");
        Err(configuration.at.expected(expected).about(&path))
    };
    let mut places = Vec::new();
    for (index, configuration) in spec.configurations.iter().enumerate().filter(|(_, one)| built(one)) {
        for (platform, _) in spec.platforms.iter().enumerate().filter(|(_, one)| selects(&configuration.selector, one))
        {
            if places.len() >= JOBS_MAX {
                return too_many(configuration);
            }
            places.push(Place { configuration: index, platform, board: None });
            let boards = 0..boards(configuration, &spec.platforms[platform]).len();
            places.extend(boards.map(|board| Place { configuration: index, platform, board: Some(board) }));
        }
        // Boards of the last platform may have been some too many: there are at most so many in a file.
        if places.len() > JOBS_MAX {
            return too_many(configuration);
        }
    }
    Ok(places)
}

/// The boards on which what a configuration builds on a platform is run.
fn boards<'a>(configuration: &'a Configuration, platform: &'a Platform) -> &'a [Board] {
    configuration.boards.as_ref().unwrap_or(&platform.boards)
}

/// The job of a board. What its build occupies and is given is not its: it has no steps of its own.
fn at_board(
    name: String,
    configuration: &Configuration,
    platform: &Platform,
    board: &Board,
    needs: Vec<u32>,
) -> JobSpec {
    JobSpec {
        platform: platform.name.clone(),
        configuration: name,
        steps: Vec::new(),
        env: Map::new(),
        artifacts: Vec::new(),
        timeout_s: Some(board.timeout_s + BEFORE_RESET_S),
        step_timeout_s: None,
        priority: configuration.priority,
        root: None,
        needs,
        units: Map::new(),
        board: Some(BoardSpec { wanted: board.wanted.clone(), trial: board.text.clone() }),
        bundle: None,
    }
}

/// A build step with its `${key}`s replaced by the configuration's values, once: what they bring is not looked at
/// again. A `${name}` that is no key stays, for the shell. `None` if it grows beyond [`STEP_MAX`].
fn substitute(step: &str, values: &Map<String, Spanned<String>>) -> Option<String> {
    let mut out = String::new();
    let mut rest = step;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let value = key(from).and_then(|key| {
            let implied = IMPLIED_VALUES.contains(&key).then_some("");
            Some((key, values.get(key).map(|value| value.value.as_str()).or(implied)?))
        });
        let (text, length) = match value {
            Some((key, value)) => (value, key.len() + "${}".len()),
            None => ("${", "${".len()),
        };
        out.push_str(text);
        if out.len() > STEP_MAX {
            return None;
        }
        rest = from.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    (out.len() <= STEP_MAX).then_some(out)
}

/// The key of a text that begins with `${key}`. It is looked for no further than a key can reach, so that a text
/// of nothing but `${` takes linear time.
fn key(text: &str) -> Option<&str> {
    let inside = text.get("${".len()..)?;
    let end = inside.bytes().take(NAME_MAX + 1).position(|byte| byte == b'}')?;
    inside.get(..end)
}

/// Bytes of a text written as JSON, without its quotes.
fn json_length(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}
