//! `board` of a saifile → Trial: which board is wanted, what is flashed, and by what a run on it is judged.

use crate::bench::{self, Board, Health};
use crate::json::{self, Value, shown};
use crate::limits::Millis;
use crate::ordered::Map;
use crate::pattern::{self, Pattern};
use crate::platform;
use crate::results::{FORMATS, Format};
use crate::settings::{Reader, Section};
use crate::units::WantedBoard;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most steps of a trial.
pub const STEPS_MAX: usize = 1_000;
/// Most images of a board: each is held against the globs of all that is built for it.
pub const IMAGES_MAX: usize = 32;
/// Longest text that one step sends, in bytes: a script of a screenful.
pub const SEND_BYTES: usize = 4096;
/// Milliseconds a trial may take from the reset on, unless it says otherwise.
pub const TIMEOUT_MS: Millis = 120_000;
/// Longest trial, in milliseconds.
pub const TIMEOUT_MAX_MS: Millis = 24 * 60 * 60 * 1000;
/// Milliseconds after the reset without a byte, after which a board is silent, unless a trial says otherwise.
pub const SILENT_MS: Millis = 10_000;
/// Milliseconds within which what a step waits for comes, unless it says otherwise.
pub const WITHIN_MS: Millis = 10_000;
/// How often a banner makes a loop of boots, unless a trial says otherwise.
pub const BANNERS: u64 = 3;

/// A run on a board.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The type of board or rig that is wanted.
    pub kind: String,
    /// What else it must be known for.
    pub tags: Vec<String>,
    /// Images by target; an empty name is the board's first target.
    pub images: Vec<(String, String)>,
    /// Whether a board may be used that cannot be read back.
    pub unverified: bool,
    /// The console that is judged; the board's first where none is named.
    pub console: Option<String>,
    /// What the new image prints and an older one does not, `${SAI_…}` still in it.
    pub identity: Option<String>,
    /// What is done, one after the other.
    pub steps: Vec<Step>,
    /// How results are written.
    pub results: Option<Format>,
    /// What is printed when all is well.
    pub pass: Option<Pattern>,
    /// What is printed when something is not.
    pub fail: Option<Pattern>,
    /// What is printed at each boot, and how often that is a loop.
    pub banner: Option<(Pattern, u64)>,
    /// Milliseconds without a byte after the reset, after which the board is silent.
    pub silent_ms: Millis,
    /// Milliseconds that all of it may take.
    pub timeout_ms: Millis,
}

impl Trial {
    /// How it is found out whether a board is well, if that is known of it.
    fn of_health(board: &Board) -> Option<Self> {
        let Health { images, pass, within_ms, .. } = board.health.clone()?;
        Some(Self {
            kind: board.kind.clone(),
            tags: Vec::new(),
            images,
            // Whoever described the board so knows that it cannot be read back.
            unverified: true,
            console: None,
            identity: None,
            steps: Vec::new(),
            results: None,
            pass: Some(pass),
            fail: None,
            banner: None,
            silent_ms: within_ms,
            timeout_ms: within_ms,
        })
    }
}

/// What is done, or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A line has this, `${…}` still in it.
    Expect {
        /// The text of the pattern.
        pattern: String,
        /// Of which console; the judged one where none is named.
        console: Option<String>,
        /// Within how many milliseconds.
        within_ms: Millis,
    },
    /// This is sent, `${…}` still in it.
    Send {
        /// The text.
        text: String,
        /// To which console; the judged one where none is named.
        console: Option<String>,
    },
    /// A sequence of the board is played.
    Play(String),
    /// A line changes to this level.
    Edge {
        /// Its name.
        line: String,
        /// The level.
        to: bool,
        /// Within how many milliseconds.
        within_ms: Millis,
    },
    /// Nothing is done for so many milliseconds.
    Wait(Millis),
}

/// What `${…}` may stand for besides what a step has captured: what is known of the image wherever a log is judged, and
/// nothing that is secret, since a pattern is shown in logs and on pages.
pub const VALUES: [&str; 5] = ["SAI_PROJECT", "SAI_REF", "SAI_COMMIT", "SAI_PLATFORM", "SAI_CONFIGURATION"];

/// What those names stand for, in their order: the repository, ref and revision, and the platform and configuration of the build.
pub fn values(of: [&str; 5]) -> Map<String, String> {
    Map::from_iter(VALUES.iter().zip(of).map(|(name, value)| (name.to_string(), value.to_string())))
}

/// The keys of a `board` that is of several.
pub const SEVERAL_KEYS: [&str; 3] = ["type", "tags", "boards"];
/// Most boards of one job: their consoles and lines are channels of one log.
pub const PARTS_MAX: usize = 8;

/// The keys of a `board`.
pub const KEYS: [&str; 14] = [
    "type",
    "tags",
    "flash",
    "unverified",
    "console",
    "identity",
    "test",
    "results",
    "pass",
    "fail",
    "banner",
    "banners",
    "silent",
    "timeout",
];

/// Runs of one job, at one board or at several, which are flashed and judged at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Trials {
    /// What is wanted: a board, a rig, or several boards of one agent.
    pub wanted: WantedBoard,
    /// The part of each board, in order: one, or those of `boards`.
    pub parts: Vec<Trial>,
    /// Whether they are for the boards of a rig, in the order in which its bench names them.
    pub rig: bool,
}

impl Trials {
    /// Milliseconds that all of it may take.
    pub fn timeout_ms(&self) -> Millis {
        self.parts.iter().map(|part| part.timeout_ms).max().unwrap_or(TIMEOUT_MS)
    }

    /// How it is found out whether these boards are well, if that is known of each.
    pub fn of_health(boards: &[Board]) -> Option<Self> {
        let parts: Option<Vec<Trial>> = boards.iter().map(Trial::of_health).collect();
        Some(Self { wanted: WantedBoard::default(), parts: parts?, rig: false })
    }

    /// What is done at the board of a job that has one.
    pub fn alone(self) -> Option<Trial> {
        let [trial] = <[Trial; 1]>::try_from(self.parts).ok()?;
        Some(trial)
    }

    /// Paths of all images, each once.
    pub fn images(&self) -> Vec<String> {
        let mut images: Vec<String> = Vec::new();
        for (_, path) in self.parts.iter().flat_map(|part| &part.images) {
            if !images.contains(path) {
                images.push(path.clone());
            }
        }
        images
    }
}

/// Reads a `board` that is at `path` of its file: what is done at one board, or in `boards` the part of each of several. With a `type`
/// beside that these are the boards of a rig, else each part has its own. What is wrong is reported by `reader`.
pub fn read_all(reader: &mut Reader, value: &Value, path: &str) -> Trials {
    if value.get("boards").is_none() {
        let trial = read(reader, value, path);
        let wanted = WantedBoard { kind: trial.kind.clone(), tags: trial.tags.clone(), ..WantedBoard::default() };
        return Trials { wanted, parts: [trial].to_vec(), rig: false };
    }
    let section = reader.section(value, path.to_string(), &SEVERAL_KEYS);
    let rig = section.get("type").is_some();
    let kind = reader.checked(&section, "type", platform::check_unit).unwrap_or_default();
    let tags = tags(reader, &section);
    if !rig && section.get("tags").is_some() {
        reader.report(&section, "tags", "`type` beside it: the tags are those of a rig");
    }
    let path = section.path_of("boards");
    let mut parts = Vec::new();
    match section.get("boards").and_then(Value::as_array) {
        Some(elements) if (2..=PARTS_MAX).contains(&elements.len()) => {
            for (index, element) in elements.iter().enumerate() {
                parts.push(part(reader, element, &format!("{path}[{index}]"), rig));
            }
        }
        _ => {
            let expected =
                format!("an array of 2 to {PARTS_MAX} objects that say how each board is flashed and judged");
            reader.report(&section, "boards", &expected);
        }
    }
    let wanted = if rig {
        WantedBoard { kind, tags, rig: Some(parts.len() as u32), ..WantedBoard::default() }
    } else {
        let one =
            |part: &Trial| WantedBoard { kind: part.kind.clone(), tags: part.tags.clone(), ..WantedBoard::default() };
        let mut each = parts.iter().map(one);
        let first = each.next().unwrap_or_default();
        WantedBoard { others: Some(each.collect()), ..first }
    };
    Trials { wanted, parts, rig }
}

/// Reads a `board` of one board that is at `path` of its file. What is wrong is reported by `reader`.
pub fn read(reader: &mut Reader, value: &Value, path: &str) -> Trial {
    part(reader, value, path, false)
}

fn part(reader: &mut Reader, value: &Value, path: &str, of_rig: bool) -> Trial {
    let section = reader.section(value, path.to_string(), &KEYS);
    let one_line = |text: &str| if text.is_empty() { Err("a name".to_string()) } else { Ok(()) };
    let mut known: Vec<String> = Vec::new();
    let identity = section.get("identity").and_then(|value| {
        let path = section.path_of("identity");
        pattern_text(reader, value, &path, &[])
    });
    let steps = steps(reader, &section, &mut known);
    let trial = Trial {
        // Which boards those of a rig are is said by its bench.
        kind: match of_rig {
            true => reader.checked(&section, "type", platform::check_unit).unwrap_or_default(),
            false => reader.needed(&section, "type", platform::check_unit).unwrap_or_default(),
        },
        tags: tags(reader, &section),
        images: images(reader, &section),
        unverified: reader.boolean(&section, "unverified").unwrap_or(false),
        console: reader.checked(&section, "console", one_line),
        identity,
        steps,
        results: reader.word(&section, "results", &FORMATS).and_then(|index| Format::of(FORMATS[index])),
        pass: pattern(reader, &section, "pass"),
        fail: pattern(reader, &section, "fail"),
        banner: {
            let times = reader.count(&section, "banners", 2..=1000).unwrap_or(BANNERS);
            pattern(reader, &section, "banner").map(|banner| (banner, times))
        },
        silent_ms: time(reader, &section, "silent").unwrap_or(SILENT_MS),
        timeout_ms: time(reader, &section, "timeout").unwrap_or(TIMEOUT_MS),
    };
    let judged = ["test", "results", "pass"].iter().any(|key| section.get(key).is_some());
    if !judged && value.as_object().is_some() {
        reader.lacking(&section, "one of the keys test, results, pass: what says that all is well");
    }
    trial
}

/// The trials that a text of [`crate::json::written`] says: it was read before, where it came from.
///
/// # Errors
/// What was expected of it, by a version that writes such texts otherwise.
pub fn all_of(text: &str) -> Result<Trials, String> {
    let tree = json::parse(text.as_bytes()).map_err(|at| format!("board:{at}"))?;
    let mut reader = Reader::new();
    let trials = read_all(&mut reader, &tree, "");
    reader.finish("board").map_err(|mut errors| errors.remove(0))?;
    Ok(trials)
}

/// How many boards a `board` says that it is at, and how many steps it has there.
pub fn size_of(value: &Value) -> (usize, usize) {
    let steps = |value: &Value| value.get("test").and_then(Value::as_array).map_or(0, <[Value]>::len);
    match value.get("boards").and_then(Value::as_array) {
        Some(parts) => (parts.len(), parts.iter().map(steps).sum()),
        None => (1, steps(value)),
    }
}

fn tags(reader: &mut Reader, section: &Section<'_>) -> Vec<String> {
    let tags = reader.checked_texts(section, "tags", platform::check_unit).unwrap_or_default();
    if tags.len() > bench::TAGS_MAX {
        reader.report(section, "tags", &format!("at most {} tags", bench::TAGS_MAX));
    }
    tags
}

fn pattern(reader: &mut Reader, section: &Section<'_>, key: &str) -> Option<Pattern> {
    let text = reader.checked(section, key, pattern::check)?;
    Pattern::new(&text).ok()
}

/// A time: `20s`, `500ms`, `2m`, `1h`.
fn time(reader: &mut Reader, section: &Section<'_>, key: &str) -> Option<Millis> {
    let text = reader.text(section, key)?;
    let hours =
        text.strip_suffix('h').and_then(|hours| hours.parse::<u64>().ok()).and_then(|n| n.checked_mul(3_600_000));
    let time = hours.or_else(|| bench::milliseconds(&text).ok()).filter(|time| (1..=TIMEOUT_MAX_MS).contains(time));
    if time.is_none() {
        reader.report(section, key, "a time like \"500ms\", \"20s\", \"2m\" or \"1h\"");
    }
    time
}

fn images(reader: &mut Reader, section: &Section<'_>) -> Vec<(String, String)> {
    let Some(value) = section.get("flash") else { return Vec::new() };
    let path = section.path_of("flash");
    let mut images = Vec::new();
    if let Some(file) = value.as_text() {
        check_file(reader, value, &path, file);
        images.push((String::new(), file.to_string()));
        return images;
    }
    let entries = reader.entries(section, "flash", "the path of an image, or an object of such by target");
    if entries.len() > IMAGES_MAX {
        reader.wrong(value, &path, &format!("at most {IMAGES_MAX} images"));
        return images;
    }
    for (target, value, path) in entries {
        let file = value.as_text().unwrap_or_default();
        check_file(reader, value, &path, file);
        images.push((target.value.clone(), file.to_string()));
    }
    images
}

/// Images are artifacts of the jobs before, and those are inside of a checkout.
fn check_file(reader: &mut Reader, value: &Value, path: &str, file: &str) {
    let inside = !file.split('/').any(|part| matches!(part, "" | "." | "..")) && !file.chars().any(char::is_control);
    if !inside || file.len() > 1024 {
        reader.wrong(value, path, "the path of an image, relative and without `..`");
    }
}

fn steps(reader: &mut Reader, section: &Section<'_>, known: &mut Vec<String>) -> Vec<Step> {
    let Some(value) = section.get("test") else { return Vec::new() };
    let path = section.path_of("test");
    let Some(elements) = value.as_array().filter(|elements| elements.len() <= STEPS_MAX) else {
        reader.wrong(value, &path, &format!("an array of at most {STEPS_MAX} steps"));
        return Vec::new();
    };
    let mut steps = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let keys = ["expect", "send", "play", "edge", "wait", "to", "within", "console"];
        let step = reader.section(element, path, &keys);
        let Some(kind) = reader.one_of(&step, &["expect", "send", "play", "edge", "wait"]) else { continue };
        let fitting: &[&str] = match kind {
            "expect" => &["within", "console"],
            "send" => &["console"],
            "edge" => &["to", "within"],
            _ => &[],
        };
        for key in ["to", "within", "console"] {
            if step.get(key).is_some() && !fitting.contains(&key) {
                reader.report(&step, key, &format!("no `{key}` beside `{kind}`"));
            }
        }
        let name = |text: &str| if text.is_empty() { Err("a name".to_string()) } else { Ok(()) };
        let console = reader.checked(&step, "console", name);
        let within_ms = time(reader, &step, "within").unwrap_or(WITHIN_MS);
        let Some(value) = step.get(kind) else { continue };
        let read = match kind {
            "expect" => pattern_text(reader, value, &step.path_of(kind), known).map(|pattern| {
                // Groups that it names are values of the steps after it.
                let names = pattern.split("(?P<").skip(1).filter_map(|rest| rest.split('>').next());
                known.extend(names.map(ToString::to_string));
                Step::Expect { pattern, console, within_ms }
            }),
            "send" => {
                let check = |text: &str| match text.len() <= SEND_BYTES {
                    true => fill(text, |name| value_of(name, known)).map(|_| ()),
                    false => Err(format!("a text of at most {SEND_BYTES} bytes")),
                };
                reader.checked(&step, kind, check).map(|text| Step::Send { text, console })
            }
            "play" => reader.checked(&step, kind, name).map(Step::Play),
            "edge" => {
                let line = reader.checked(&step, kind, name);
                if step.get("to").is_none() {
                    reader.lacking(&step, "a key to: the level, 0 or 1");
                }
                let to = reader.count(&step, "to", 0..=1) == Some(1);
                line.map(|line| Step::Edge { line, to, within_ms })
            }
            _ => time(reader, &step, kind).map(Step::Wait),
        };
        steps.extend(read);
    }
    steps
}

/// What is put in for a name while a file is checked.
fn value_of(name: &str, known: &[String]) -> Option<String> {
    (VALUES.contains(&name) || known.iter().any(|other| other == name)).then(String::new)
}

fn pattern_text(reader: &mut Reader, value: &Value, path: &str, known: &[String]) -> Option<String> {
    let Some(text) = value.as_text() else {
        reader.wrong(value, path, "text: a regular expression");
        return None;
    };
    // What is put in cannot make it another one, being escaped.
    let filled = fill(text, |name| value_of(name, known).map(|_| "x".to_string()));
    match filled.and_then(|filled| pattern::check(&filled)) {
        Ok(()) => Some(text.to_string()),
        Err(expected) => {
            reader.wrong(value, path, &expected);
            None
        }
    }
}

/// A part of a text with `${NAME}` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// It stands for itself.
    Text(&'a str),
    /// A value stands for it.
    Name(&'a str),
}

/// The parts of a text with `${NAME}` in it, in order.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let plain = |name: &str| {
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        match rest[at + 2..].split_once('}').filter(|(name, _)| plain(name)) {
            Some((name, after)) => {
                parts.extend([Part::Text(&rest[..at]), Part::Name(name)]);
                rest = after;
            }
            None => {
                parts.push(Part::Text(&rest[..at + 2]));
                rest = &rest[at + 2..];
            }
        }
    }
    parts.push(Part::Text(rest));
    parts
}

/// A text with values put in for `${NAME}`.
///
/// # Errors
/// What was expected of a name that has no value.
pub fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    for part in parts(text) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Name(name) => out.push_str(&value(name).ok_or_else(|| {
                let values = VALUES.join(", ");
                format!("one of {values}, or what a step before has captured, found ${{{}}}", shown(name))
            })?),
        }
    }
    Ok(out)
}
