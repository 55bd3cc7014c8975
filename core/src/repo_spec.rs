//! Saifile → RepoSpec: the platforms and configurations that a `.sai.json` names, in file order, with what is wrong
//! with it by line and column.

mod boards;
pub mod keys;
mod selector;
mod wants;

pub use self::boards::{board_named, job_name};
pub(crate) use self::selector::selects;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::changed;
use crate::glob;
use crate::json::{self, At, Node, Position, Spanned, Value, shown};
use crate::keys::has;
use crate::ordered::{self, Map};
use crate::platform::{self, NAME_MAX};
use crate::units::WantedBoard;

/// Most platforms in a file. Each selector token is held against each of them.
pub const PLATFORMS_MAX: usize = 1_000;
/// Most configurations in a file: each of them makes a job as a rule, and an event has at most so many.
pub const CONFIGURATIONS_MAX: usize = 10_000;
/// Most tokens in all selectors of a file: with [`PLATFORMS_MAX`] it bounds the matching to fractions of a second.
pub const TOKENS_MAX: usize = 50_000;
/// Most build steps of a platform: each is a process, and a section of the log.
pub const STEPS_MAX: usize = 1_000;
/// Most variables in an `env`: the kernel's limit is on their bytes, this one keeps the job's page readable.
pub const ENV_MAX: usize = 256;
/// Most globs in an `artifacts`, `branches` or `paths` list: each file of a workspace is held against each of them.
pub const GLOBS_MAX: usize = 256;
/// Most needs of a configuration: each is shown where its jobs wait.
pub const NEEDS_MAX: usize = 256;
/// Most units that a job may want: all of them are given in one decision.
pub const UNITS_MAX: usize = 32;
/// Most boards of a file.
pub const BOARDS_MAX: usize = 1_000;
/// Most steps of all boards of a file: each may have a pattern, and all of them are tried when it is read.
pub const BOARD_STEPS_MAX: usize = 4_000;
/// Bounds of the amount of a unit that a job may want.
pub const AMOUNT_RANGE: core::ops::RangeInclusive<u32> = 1..=1_000;
/// Most bytes in all `branches` of a file: all of them are held against the branch of each push.
pub const BRANCHES_MAX: usize = 128 * 1024;
/// Longest `timeout` or `step_timeout`, in seconds: thirty days. A job that is meant to run longer is a service.
pub const TIMEOUT_MAX_S: u64 = 30 * 24 * 60 * 60;
/// Bounds of `priority`; 0 is what a configuration has that names none.
pub const PRIORITY_RANGE: core::ops::RangeInclusive<i32> = -100..=100;
/// Most errors, and most warnings, that are reported of one file: more would not be read.
pub const REPORTS_MAX: usize = 100;

/// What a `.sai.json` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RepoSpec {
    /// The platforms that have build steps, in file order. A name may be there more than once.
    pub platforms: Vec<Platform>,
    /// The configurations, in file order, each name once.
    pub configurations: Vec<Configuration>,
}

/// Where a configuration is to be built, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    /// What is wanted of a machine, see [`platform::serves`].
    pub name: String,
    /// Where the name stands.
    pub at: Position,
    /// The build steps, one script each, with `${key}` still in them. At least one.
    pub steps: Vec<String>,
    /// Whether configurations without a selector are built here.
    pub default: bool,
    /// Seconds that a job may take.
    pub timeout_s: Option<u64>,
    /// Seconds that one of its steps may take.
    pub step_timeout_s: Option<u64>,
    /// Variables of its steps' environment.
    pub env: Map<String, String>,
    /// How much of which units a job occupies while it runs.
    pub units: Map<String, u32>,
    /// Whether steps are to be root, in a container.
    pub root: Option<bool>,
    /// Boards on which what is built here is run.
    pub boards: Vec<Board>,
}

/// A board on which what was built is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Board {
    /// Where it stands.
    pub at: Position,
    /// What is wanted.
    pub wanted: WantedBoard,
    /// Paths of its images, artifacts of the job before.
    pub images: Vec<String>,
    /// Seconds that a run on it may take from the reset on.
    pub timeout_s: u64,
    /// All of it as [`json::written`] writes it; [`crate::trial::all_of`] reads it.
    pub text: String,
}

impl Board {
    /// The types of the boards that are wanted.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.wanted.each().map(|board| board.kind.as_str())
    }
}

/// A variant of the project, built on the platforms it selects.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Its name, unique in the file.
    pub name: String,
    /// Where the name stands.
    pub at: Position,
    /// What stands for `${key}` in build texts, and where the key stands.
    pub values: Map<String, Spanned<String>>,
    /// The selector's tokens in order; none where the default platforms are meant.
    pub selector: Vec<Token>,
    /// Globs of the branches whose pushes build it; empty where every push does.
    pub branches: Vec<String>,
    /// Globs of the files of which one must have changed; empty where that does not matter. See [`crate::changed`].
    pub paths: Vec<String>,
    /// Globs of the files to keep, relative to the workspace, without `.` or `..` parts.
    pub artifacts: Vec<String>,
    /// Seconds that a job may take; stronger than the platform's.
    pub timeout_s: Option<u64>,
    /// Seconds that one of its steps may take; stronger than the platform's.
    pub step_timeout_s: Option<u64>,
    /// Variables of its steps' environment; stronger than the platform's.
    pub env: Map<String, String>,
    /// A higher one is built earlier.
    pub priority: i32,
    /// What must have passed before its jobs begin.
    pub needs: Vec<Need>,
    /// How much of which units a job occupies while it runs; the larger amount counts where the platform wants it too.
    pub units: Map<String, u32>,
    /// Whether steps are to be root, in a container; stronger than the platform's.
    pub root: Option<bool>,
    /// Boards on which what it builds is run; stronger than the platform's, and none where the list is empty.
    pub boards: Option<Vec<Board>>,
}

/// What jobs of a configuration wait for: `NAME`, or `NAME@PLATFORM`. Which jobs that are is found by [`crate::graph`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Where it stands.
    pub at: Position,
    /// All of it, as it stands there.
    pub text: String,
}

/// A word of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// `none`: nothing is selected so far.
    None,
    /// `not`: the next name removes.
    Not,
    /// A name to match platforms with, see [`platform::serves`].
    Name(Spanned<String>),
}

/// Something in a file that is allowed and probably not meant. Shown as `LINE:COLUMN: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// What is the matter.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// Reads a `.sai.json`. Warnings and errors come in the order of their places, at most [`REPORTS_MAX`] of each.
///
/// # Errors
/// Everything that keeps it from being read: the first error of its JSON, or else all that its keys and values say
/// wrong. They are the fault of the project whose file it is.
pub fn read(bytes: &[u8]) -> Result<(RepoSpec, Vec<Warning>), Vec<At>> {
    let file = json::checked(bytes).map_err(|error| [error].to_vec())?;
    let tree = json::parse(bytes).map_err(|error| [error].to_vec())?;
    let mut reader =
        Reader { file, tokens: 0, branches: 0, boards: 0, board_steps: 0, errors: Vec::new(), warnings: Vec::new() };
    let spec = reader.spec(&tree);
    json::sort(&mut reader.errors);
    let warnings = ordered::by_key(reader.warnings, |warning| (warning.line, warning.column));
    if reader.errors.is_empty() { Ok((spec, warnings)) } else { Err(reader.errors) }
}

/// Values that are empty when they are not given, as in the C implementation.
pub const IMPLIED_VALUES: [&str; 3] = ["cmake", "cpack", "prep"];

struct Reader<'a> {
    file: &'a str,
    /// Selector tokens so far.
    tokens: usize,
    /// Bytes of `branches` so far.
    branches: usize,
    /// Boards so far.
    boards: usize,
    /// Steps of boards so far.
    board_steps: usize,
    errors: Vec<At>,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn error(&mut self, error: At) {
        if self.errors.len() < REPORTS_MAX {
            self.errors.push(error);
        }
    }

    fn wrong(&mut self, at: Position, path: &str, expected: impl Into<String>) {
        self.error(at.expected(expected).about(path));
    }

    fn warn(&mut self, at: Position, text: String) {
        if self.warnings.len() < REPORTS_MAX {
            self.warnings.push(Warning { line: at.line, column: at.column, text });
        }
    }

    fn spec(&mut self, tree: &Value) -> RepoSpec {
        let mut spec = RepoSpec::default();
        let Some(entries) = tree.as_object() else {
            self.error(tree.at.expected("an object with `schema`, `platforms` and `configurations`"));
            return spec;
        };
        for (key, value) in entries {
            if !has(keys::FILE, &key.value) {
                self.warn(key.at, format!("{}: unknown key, ignored", shown(&key.value)));
            }
            match key.value.as_str() {
                "schema" if value.as_text() == Some("sai-1") => {}
                "schema" => self.wrong(value.at, "schema", "\"sai-1\""),
                "platforms" => self.platforms(value, &mut spec.platforms),
                "configurations" => self.configurations(value, &mut spec.configurations),
                _ => {}
            }
        }
        let mut first: Map<&str, Position> = Map::new();
        for (key, _) in entries {
            if let Some(earlier) = first.insert(&key.value, key.at) {
                // Sections add up, so that nothing of either is dropped.
                self.warn(key.at, format!("{}: also given at {earlier}, both are read", shown(&key.value)));
            }
        }
        for (wanted, otherwise) in [
            ("schema", "expected \"schema\": \"sai-1\", read as that"),
            ("platforms", "no `platforms`, so nothing is built"),
            ("configurations", "no `configurations`, so nothing is built"),
        ] {
            if !first.contains_key(wanted) {
                self.warn(tree.at, otherwise.to_owned());
            }
        }
        self.unique(&spec.configurations);
        self.unmatched(&spec);
        self.unused(&spec);
        self.images(&spec);
        self.names_of_boards(&spec);
        self.meanings_as_values(&spec);
        spec
    }

    /// The entries of an object in which a key may stand only once.
    fn fields<'v>(&mut self, value: &'v Value, path: &str) -> &'v [(Spanned<String>, Value)] {
        let Some(entries) = value.as_object() else {
            self.wrong(value.at, path, "an object");
            return &[];
        };
        let mut first: Map<&str, Position> = Map::new();
        for (key, _) in entries {
            if let Some(earlier) = first.get(key.value.as_str()) {
                let path = format!("{path}.{}", shown(&key.value));
                self.wrong(key.at, &path, format!("to be given once (first at {earlier})"));
            } else {
                first.insert(&key.value, key.at);
            }
        }
        entries
    }

    fn text(&mut self, value: &Value, path: &str) -> Option<String> {
        let text = value.as_text();
        match text {
            None => self.wrong(value.at, path, "text"),
            Some(text) if text.contains('\0') => self.wrong(value.at, path, "text without U+0000"),
            Some(text) => return Some(text.to_owned()),
        }
        None
    }

    fn platforms(&mut self, value: &Value, platforms: &mut Vec<Platform>) {
        let Some(entries) = value.as_object() else {
            return self.wrong(value.at, "platforms", "an object of platforms by name");
        };
        for (name, value) in entries {
            if platforms.len() >= PLATFORMS_MAX {
                return self.wrong(name.at, "platforms", format!("at most {PLATFORMS_MAX} platforms"));
            }
            let Some(platform) = self.platform(name, value) else { continue };
            // Of one name with different builds is usual; the same twice is a slip, and twice the work.
            let same = |other: &&Platform| other.name == platform.name && other.steps == platform.steps;
            if let Some(earlier) = platforms.iter().find(same) {
                let text = format!(
                    "platforms.{}: the same build as at {}, each job is made twice",
                    shown(&name.value),
                    earlier.at
                );
                self.warn(name.at, text);
            }
            platforms.push(platform);
        }
    }

    fn platform(&mut self, name: &Spanned<String>, value: &Value) -> Option<Platform> {
        let path = format!("platforms.{}", shown(&name.value));
        if let Err(expected) = platform::check_wanted(&name.value) {
            self.wrong(name.at, &path, expected);
        }
        let mut platform = Platform {
            name: name.value.clone(),
            at: name.at,
            steps: Vec::new(),
            default: true,
            timeout_s: None,
            step_timeout_s: None,
            env: Map::new(),
            units: Map::new(),
            root: None,
            boards: Vec::new(),
        };
        // A platform whose build is wrong is kept, so that selectors naming it are not called wrong too.
        let mut broken = value.as_object().is_none();
        for (key, value) in self.fields(value, &path) {
            let path = format!("{path}.{}", shown(&key.value));
            if !has(keys::PLATFORM, &key.value) {
                self.warn(key.at, format!("{path}: unknown key, ignored"));
            }
            match key.value.as_str() {
                "build" => match self.steps(value, &path) {
                    Some(steps) => platform.steps = steps,
                    None => broken = true,
                },
                "default" => platform.default = self.default(value, &path),
                "timeout" => platform.timeout_s = self.seconds(value, &path),
                "root" => platform.root = self.boolean(value, &path),
                "step_timeout" => platform.step_timeout_s = self.seconds(value, &path),
                "env" => platform.env = self.env(value, &path),
                "units" => platform.units = self.units(value, &path),
                "board" if value.as_text().is_none() => platform.boards = self.boards(value, &path),
                "board" => self.warn(key.at, format!("{path}: text is no board, ignored")),
                _ => {}
            }
        }
        if platform.steps.iter().all(String::is_empty) && !broken {
            self.warn(name.at, format!("{path}: has no build text, so it does not exist"));
            return None;
        }
        Some(platform)
    }

    fn steps(&mut self, value: &Value, path: &str) -> Option<Vec<String>> {
        let expected = "text or an array of texts";
        match &value.value {
            Node::Text(_) => Some([self.text(value, path)?].to_vec()),
            Node::Array(elements) if elements.len() > STEPS_MAX => {
                self.wrong(value.at, path, format!("at most {STEPS_MAX} build steps"));
                None
            }
            Node::Array(elements) => {
                let mut steps = Vec::new();
                for element in elements {
                    match &element.value {
                        Node::Text(_) => steps.extend(self.text(element, path)),
                        _ => self.wrong(element.at, path, expected),
                    }
                }
                (steps.len() == elements.len()).then_some(steps)
            }
            _ => {
                self.wrong(value.at, path, expected);
                None
            }
        }
    }

    fn boolean(&mut self, value: &Value, path: &str) -> Option<bool> {
        match value.value {
            Node::Bool(said) => Some(said),
            _ => {
                self.wrong(value.at, path, "true or false");
                None
            }
        }
    }

    fn default(&mut self, value: &Value, path: &str) -> bool {
        match &value.value {
            Node::Null => false,
            Node::Bool(default) => *default,
            // Zero is spelled 0, -0, 0.00 or 0e7: all of its digits before an exponent are zeros.
            Node::Number(digits) => {
                digits.split(['e', 'E']).next().unwrap_or_default().contains(|c: char| ('1'..='9').contains(&c))
            }
            Node::Text(text) => {
                let off = ["false", "no", "off", "0"].iter().any(|word| text.eq_ignore_ascii_case(word));
                let on = ["true", "yes", "on", "1"].iter().any(|word| text.eq_ignore_ascii_case(word));
                if !off && !on {
                    self.warn(value.at, format!("{path}: neither true nor false, read as true"));
                }
                !off
            }
            Node::Array(_) | Node::Object(_) => {
                self.wrong(value.at, path, "true or false");
                true
            }
        }
    }

    /// A time: a number of seconds, or a text of a number and `s`, `m`, `h` or `d`.
    fn seconds(&mut self, value: &Value, path: &str) -> Option<u64> {
        let seconds = match &value.value {
            Node::Number(digits) => digits.parse().ok(),
            Node::Text(text) => {
                let text = text.trim();
                let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                let unit = match text.get(digits.len()..).unwrap_or_default() {
                    "" | "s" => Some(1),
                    "m" => Some(60),
                    "h" => Some(60 * 60),
                    "d" => Some(24 * 60 * 60),
                    _ => None,
                };
                let plain = digits.trim_end();
                let number = plain.bytes().all(|byte| byte.is_ascii_digit()).then(|| plain.parse::<u64>().ok());
                number.flatten().zip(unit).and_then(|(number, unit)| number.checked_mul(unit))
            }
            _ => None,
        };
        let seconds = seconds.filter(|seconds| (1..=TIMEOUT_MAX_S).contains(seconds));
        if seconds.is_none() {
            let expected =
                format!("seconds as a number, or text like \"90s\", \"15m\", \"2h\": 1 to {TIMEOUT_MAX_S} s");
            self.wrong(value.at, path, expected);
        }
        seconds
    }

    fn env(&mut self, value: &Value, path: &str) -> Map<String, String> {
        let mut env = Map::new();
        let entries = self.fields(value, path);
        if entries.len() > ENV_MAX {
            self.wrong(value.at, path, format!("at most {ENV_MAX} variables"));
            return env;
        }
        for (name, value) in entries {
            let path = format!("{path}.{}", shown(&name.value));
            if let Err(expected) = check_variable(&name.value) {
                self.wrong(name.at, &path, expected);
            } else if let Some(text) = self.text(value, &path) {
                env.insert(name.value.clone(), text);
            }
        }
        env
    }

    fn configurations(&mut self, value: &Value, configurations: &mut Vec<Configuration>) {
        let Some(entries) = value.as_object() else {
            return self.wrong(value.at, "configurations", "an object of configurations by name");
        };
        for (name, value) in entries {
            if configurations.len() >= CONFIGURATIONS_MAX {
                let expected = format!("at most {CONFIGURATIONS_MAX} configurations");
                return self.wrong(name.at, "configurations", expected);
            }
            let configuration = self.configuration(name, value);
            configurations.push(configuration);
        }
    }

    fn configuration(&mut self, name: &Spanned<String>, value: &Value) -> Configuration {
        let path = format!("configurations.{}", shown(&name.value));
        if name.value.is_empty() || name.value.len() > NAME_MAX || name.value.chars().any(char::is_control) {
            let expected = format!("a configuration name of 1 to {NAME_MAX} bytes without control characters");
            self.wrong(name.at, &path, expected);
        }
        let mut configuration = Configuration {
            name: name.value.clone(),
            at: name.at,
            values: Map::new(),
            selector: Vec::new(),
            branches: Vec::new(),
            paths: Vec::new(),
            artifacts: Vec::new(),
            timeout_s: None,
            step_timeout_s: None,
            env: Map::new(),
            priority: 0,
            needs: Vec::new(),
            units: Map::new(),
            root: None,
            boards: None,
        };
        for (key, value) in self.fields(value, &path) {
            let path = format!("{path}.{}", shown(&key.value));
            if !has(keys::CONFIGURATION, &key.value) && value.as_text().is_none() {
                self.warn(key.at, format!("{path}: unknown key and no text, ignored"));
            }
            match key.value.as_str() {
                "platforms" => configuration.selector = self.selector(value, &path),
                "branches" if self.branches_are_too_long(value) => {
                    let expected = format!("at most {BRANCHES_MAX} bytes of branches in a file");
                    self.wrong(value.at, &path, expected);
                }
                "branches" => configuration.branches = self.globs(value, &path, |glob| Ok(glob.to_owned())),
                "paths" => configuration.paths = self.globs(value, &path, changed::kept),
                "artifacts" => configuration.artifacts = self.globs(value, &path, workspace_glob),
                "timeout" => configuration.timeout_s = self.seconds(value, &path),
                "step_timeout" => configuration.step_timeout_s = self.seconds(value, &path),
                "env" => configuration.env = self.env(value, &path),
                "priority" => {
                    let priority = value.as_integer().and_then(|priority| i32::try_from(priority).ok());
                    match priority.filter(|priority| PRIORITY_RANGE.contains(priority)) {
                        Some(priority) => configuration.priority = priority,
                        None => self.wrong(value.at, &path, "a whole number from -100 to 100"),
                    }
                }
                // Real files have it, and it never had a meaning.
                "deps" => {}
                "needs" => configuration.needs = self.needs(value, &path),
                // As text these were values before they were ours, and stay that.
                "root" if value.as_text().is_none() => configuration.root = self.boolean(value, &path),
                "units" if value.as_text().is_none() => configuration.units = self.units(value, &path),
                "board" if value.as_text().is_none() => {
                    configuration.boards = Some(self.boards(value, &path));
                }
                other if value.as_text().is_some() || IMPLIED_VALUES.contains(&other) => {
                    if key.value.len() > NAME_MAX {
                        self.wrong(key.at, &path, format!("a key of at most {NAME_MAX} bytes"));
                    } else if let Some(text) = self.text(value, &path) {
                        configuration.values.insert(key.value.clone(), Spanned { at: key.at, value: text });
                    }
                }
                _ => {}
            }
        }
        configuration
    }

    /// Tokens of letters, digits and `_ . / -`; anything else separates them.
    fn selector(&mut self, value: &Value, path: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        if self.text(value, path).is_none() {
            return tokens;
        }
        let mut words: Vec<(Position, String)> = Vec::new();
        let mut inside = false;
        for (at, letter) in json::letters(self.file, value.at) {
            let belongs = letter.is_ascii_alphanumeric() || "_./-".contains(letter);
            match words.last_mut() {
                Some((_, word)) if belongs && inside => word.push(letter),
                _ if belongs => words.push((at, letter.into())),
                _ => {}
            }
            inside = belongs;
        }
        self.tokens += words.len();
        if self.tokens > TOKENS_MAX {
            self.wrong(value.at, path, format!("at most {TOKENS_MAX} names in the selectors of a file"));
            return tokens;
        }
        let mut last = Position::START;
        for (at, word) in words {
            last = at;
            tokens.push(match word.as_str() {
                "none" => Token::None,
                "not" => Token::Not,
                _ => Token::Name(Spanned { at, value: word }),
            });
        }
        if tokens.last() == Some(&Token::Not) {
            self.warn(last, format!("{path}: `not` without a name after it"));
        }
        tokens
    }

    fn branches_are_too_long(&mut self, value: &Value) -> bool {
        self.branches += value.as_text().map_or(0, str::len);
        self.branches > BRANCHES_MAX
    }

    /// A comma-separated list of globs, each passed through `kept`.
    fn globs(&mut self, value: &Value, path: &str, kept: fn(&str) -> Result<String, &'static str>) -> Vec<String> {
        let mut globs = Vec::new();
        let Some(list) = value.as_text() else {
            self.wrong(value.at, path, "text, a comma-separated list of globs");
            return globs;
        };
        let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        if parts.clone().count() > GLOBS_MAX {
            self.wrong(value.at, path, format!("at most {GLOBS_MAX} globs"));
            return globs;
        }
        for part in parts {
            match glob::check(part).and_then(|()| kept(part)) {
                Ok(glob) => globs.push(glob),
                Err(expected) => self.wrong(value.at, path, format!("{expected}, found `{}`", shown(part))),
            }
        }
        globs
    }

    fn unique(&mut self, configurations: &[Configuration]) {
        let mut first: Map<&str, Position> = Map::new();
        for configuration in configurations {
            if let Some(earlier) = first.get(configuration.name.as_str()) {
                let path = format!("configurations.{}", shown(&configuration.name));
                let expected = format!("a name not given before (first at {earlier})");
                self.wrong(configuration.at, &path, expected);
            } else {
                first.insert(&configuration.name, configuration.at);
            }
        }
    }

    /// Warns of selector names that select nothing.
    fn unmatched(&mut self, spec: &RepoSpec) {
        for configuration in &spec.configurations {
            for token in &configuration.selector {
                let Token::Name(name) = token else { continue };
                if !spec.platforms.iter().any(|platform| platform::serves(&platform.name, &name.value)) {
                    let path = format!("configurations.{}.platforms", shown(&configuration.name));
                    self.warn(name.at, format!("{path}: `{}` matches no platform of this file", shown(&name.value)));
                }
            }
        }
    }

    /// Warns of build texts that take for values what has a meaning: `needs` and `paths`.
    fn meanings_as_values(&mut self, spec: &RepoSpec) {
        for (key, form, meaning) in [("needs", "${needs}", "orders jobs"), ("paths", "${paths}", "chooses pushes")] {
            for platform in &spec.platforms {
                if platform.steps.iter().any(|step| step.contains(form)) {
                    let path = format!("platforms.{}.build", shown(&platform.name));
                    let text = format!("{path}: `{key}` {meaning} and is no value, so `{form}` is left for the shell");
                    self.warn(platform.at, text);
                }
            }
        }
    }

    /// Warns of values that no build text uses: most are misspelt settings.
    fn unused(&mut self, spec: &RepoSpec) {
        let mut used: Map<String, bool> = Map::new();
        for configuration in &spec.configurations {
            for (key, value) in &configuration.values {
                if IMPLIED_VALUES.contains(&key.as_str()) {
                    continue;
                }
                if used.len() >= REPORTS_MAX {
                    return;
                }
                let used = *used.get_or_insert_with(key.clone(), || {
                    let form = format!("${{{key}}}");
                    spec.platforms.iter().flat_map(|platform| &platform.steps).any(|step| step.contains(&form))
                });
                if !used {
                    let path = format!("configurations.{}.{}", shown(&configuration.name), shown(key));
                    self.warn(value.at, format!("{path}: unknown key, and no build text uses it as a value"));
                }
            }
        }
    }
}

/// Checks the name of a variable of steps.
///
/// # Errors
/// What it is expected to be.
pub fn check_variable(name: &str) -> Result<(), String> {
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !starts || !plain || name.len() > NAME_MAX {
        return Err(format!("a variable name of letters, digits and `_`, at most {NAME_MAX} bytes"));
    }
    if name.starts_with("SAI_") {
        return Err("a variable name that does not begin with SAI_, which are Sai's own".to_owned());
    }
    Ok(())
}

/// An artifact's glob as it is kept: relative to the checkout, or absolute for the root of the job's container, and without
/// empty, `.` and `..` parts.
fn workspace_glob(glob: &str) -> Result<String, &'static str> {
    let drive = glob.as_bytes().get(1) == Some(&b':');
    if glob.starts_with(['\\', '~']) || drive {
        return Err("a path relative to the checkout, or an absolute one in the job's container");
    }
    if glob.split(['/', '\\']).any(|part| part == "..") {
        return Err("a path without `..`");
    }
    let mut kept = String::new();
    for part in glob.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if !kept.is_empty() || glob.starts_with('/') {
            kept.push('/');
        }
        kept.push_str(part);
    }
    if kept.is_empty() { Err("a path of a file") } else { Ok(kept) }
}
