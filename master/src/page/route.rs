//! Method, path and query → what is asked for. Whatever is not exactly one of ours is not found.

pub use crate::action::{Action, Piece};
use sai_core::bundle::check_digest;
use sai_core::git_names::check_repository;
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::lease::Asking;
use sai_core::limits::STREAMS;
use sai_core::rebuild::Choice;
use sai_core::requests::Sharing;
use sai_core::sent::Sent;
use sai_core::start::Start;
use sai_core::wire::Word;
use std::ops::RangeInclusive;

/// Bytes of an agent's name at most.
const NAME_BYTES: usize = 64;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The list of events.
    Events,
    /// One event.
    Event(EventId),
    /// A job's current or given attempt.
    Job(JobId, Option<u32>),
    /// Its output as text.
    Log(JobId, Option<u32>),
    /// Its log as it is stored.
    Records(JobId, Option<u32>),
    /// The bytes of a board's console, as they came.
    Console(JobId, Option<u32>, String),
    /// All that happened, as JSON.
    Timeline(JobId, Option<u32>),
    /// A board's lines, drawn.
    Waveform(JobId, Option<u32>),
    /// The same as a Value Change Dump.
    Dump(JobId, Option<u32>),
    /// One of its files.
    Artifact(JobId, Option<u32>, u16),
    /// The same, shown instead of saved.
    View(JobId, Option<u32>, u16),
    /// The jobs of a configuration on a platform, which the query names.
    History,
    /// Its test cases, or one of them through time.
    Tests(JobId, Option<u32>),
    /// Its files in one, or those of a folder.
    Tar(JobId, Option<u32>),
    /// The newest event of a branch: repository and branch.
    Latest(String, String),
    /// A picture of how it stands.
    Badge(String, String),
    /// A file as it was made last: repository, branch, and configuration, platform and path.
    LatestArtifact(String, String, [String; 3]),
    /// The events as a feed.
    Feed,
    /// Figures to scrape.
    Metrics,
    /// The agents.
    Agents,
    /// The units.
    Units,
    /// The boards.
    Boards,
    /// One of them, by its agent and its name there.
    Board(String, String),
    /// What people did.
    Audit,
    /// The list of pages that explain.
    Docs,
    /// One of them.
    DocsPage(String),
    /// The form.
    SignIn,
    /// A token in the form.
    SignInWith,
    /// The end of a session.
    SignOut,
    /// A file the pages use.
    Asset(String),
    /// `/robots.txt`.
    Robots,
    /// `/healthz`.
    Health,
    /// An action by form; the answer is a page.
    Do(Action),
    /// A new agent by form; its name is in the body.
    AddAgent,
    /// The API's own address, which leads to its description.
    ApiHome,
    /// The API.
    Api(ApiRoute),
    /// The path is ours, but not with this method; it takes the named ones.
    WrongMethod(&'static str),
    /// Nothing of ours.
    Unknown,
}

/// What is asked of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRoute {
    /// What all of this is, for programs.
    Description,
    /// The events.
    Events,
    /// One event and its jobs.
    Event(EventId),
    /// One job.
    Job(JobId),
    /// Its test cases.
    Tests(JobId),
    /// Output of its current attempt.
    Log(JobId),
    /// The agents.
    Agents,
    /// The units.
    Units,
    /// The boards.
    Boards,
    /// One of them.
    Board(String, String),
    /// What people did.
    Actions,
    /// The repositories.
    Repositories,
    /// Whose the request's token is.
    Me,
    /// An action.
    Do(Action),
}

impl Route {
    /// The job whose log this gives, or something that was made in it.
    pub fn heard(&self) -> Option<JobId> {
        match self {
            Self::Log(id, _)
            | Self::Records(id, _)
            | Self::Console(id, ..)
            | Self::Timeline(id, _)
            | Self::Waveform(id, _)
            | Self::Dump(id, _)
            | Self::Artifact(id, ..)
            | Self::View(id, ..)
            | Self::Tests(id, _)
            | Self::Tar(id, _)
            | Self::Api(ApiRoute::Tests(id) | ApiRoute::Log(id)) => Some(*id),
            _ => None,
        }
    }
}

/// A number as we write it: digits, no sign, no zero in front.
fn number(text: &str) -> Option<u64> {
    let plain =
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn attempt(text: &str) -> Option<Option<u32>> {
    number(text).and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0).map(Some)
}

/// Undoes percent-encoding, and `+` in forms. `None` if it is malformed or not UTF-8.
pub fn decode(text: &str, form: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                bytes.push((high * 16 + low) as u8);
            }
            b'+' if form => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The value of a field in a query or form (application/x-www-form-urlencoded).
pub fn field(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        if key == name { decode(value, true) } else { None }
    })
}

/// A number in a query.
pub fn number_field(query: &str, name: &str) -> Option<u64> {
    number(&field(query, name)?)
}

/// The attempt in a query; one that there cannot be is one that there is not.
pub fn attempt_field(query: &str) -> Option<u32> {
    let number = number_field(query, "attempt")?;
    Some(u32::try_from(number).ok().filter(|attempt| *attempt > 0).unwrap_or(u32::MAX))
}

/// The lines that a query's `line` names: `12` or `12-20`.
pub fn lines_field(query: &str, name: &str) -> Option<RangeInclusive<u64>> {
    let text = field(query, name)?;
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let (first, last) = (number(first)?, number(last)?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// The attempt that a `/live` query names.
pub fn key_field(query: &str, name: &str) -> Option<JobKey> {
    field(query, name)?.parse().ok()
}

/// A name an agent may have.
pub fn agent_name(text: &str) -> Option<String> {
    let fine = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    let ok = !text.is_empty() && text.len() <= NAME_BYTES && text.chars().all(fine) && !text.starts_with(['.', '-']);
    ok.then(|| text.to_string())
}

/// Whether `to` is an address of ours that can be gone to after signing in.
pub fn local_address(to: &str) -> bool {
    to.starts_with('/')
        && !to.starts_with("//")
        && to.len() <= 512
        && to.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>'))
}

/// Finds out what is asked for.
pub fn route(method: &str, path: &str) -> Route {
    let Some(path) = path.strip_prefix('/') else { return Route::Unknown };
    let parts: Vec<&str> = path.split('/').collect();
    let found = find(&parts).unwrap_or(Route::Unknown);
    let reading = matches!(method, "GET" | "HEAD");
    match found {
        Route::Do(_) | Route::SignOut | Route::AddAgent | Route::Api(ApiRoute::Do(_)) => {
            if method == "POST" {
                found
            } else {
                Route::WrongMethod("POST")
            }
        }
        Route::SignIn if method == "POST" => Route::SignInWith,
        Route::SignIn if !reading => Route::WrongMethod("GET, HEAD, POST"),
        Route::Unknown => found,
        _ if !reading => Route::WrongMethod("GET, HEAD"),
        _ => found,
    }
}

fn find(parts: &[&str]) -> Option<Route> {
    Some(match parts {
        [""] => Route::Events,
        ["robots.txt"] => Route::Robots,
        ["healthz"] => Route::Health,
        ["sign-in"] => Route::SignIn,
        ["sign-out"] => Route::SignOut,
        ["assets", name] => Route::Asset((*name).to_string()),
        ["feed.atom"] => Route::Feed,
        ["metrics"] => Route::Metrics,
        ["history"] => Route::History,
        ["latest", repository, branch] => Route::Latest(decode(repository, false)?, decode(branch, false)?),
        ["latest", repository, branch, "badge.svg"] => Route::Badge(decode(repository, false)?, decode(branch, false)?),
        ["latest", repository, branch, "artifact", configuration, platform, path] => {
            let file = [decode(configuration, false)?, decode(platform, false)?, decode(path, false)?];
            Route::LatestArtifact(decode(repository, false)?, decode(branch, false)?, file)
        }
        ["agents"] => Route::Agents,
        ["units"] => Route::Units,
        ["boards"] => Route::Boards,
        ["boards", agent, board] => Route::Board(decode(agent, false)?, decode(board, false)?),
        ["boards", agent, board, "lease"] => {
            let named = format!("{}/{}", self::agent(agent)?, decode(board, false)?);
            Route::Do(Action::Lease(Asking::parse(&[("board".to_string(), named)]).ok()?))
        }
        ["boards", agent, board, what] => Route::Do(at_board(agent, board, what)?),
        ["audit"] => Route::Audit,
        ["docs"] => Route::Docs,
        ["docs", name] => Route::DocsPage((*name).to_string()),
        ["units", "grant", grant, "free"] => Route::Do(Action::FreeUnits(number(grant)?)),
        ["agents", "add"] => Route::AddAgent,
        ["agents", name, what] => {
            let name = agent(name)?;
            Route::Do(match *what {
                "revoke" => Action::AgentRevoke(name),
                "set-aside" => Action::SetAside(name, true),
                "take-back" => Action::SetAside(name, false),
                _ => return None,
            })
        }
        ["start", repository] => Route::Do(start(repository)?),
        ["event", id] => Route::Event(number(id)?),
        ["event", id, "cancel"] => Route::Do(Action::CancelEvent(number(id)?)),
        ["event", id, "rebuild"] => Route::Do(Action::RebuildEvent(number(id)?, Choice::default())),
        ["job", id, rest @ ..] => job(number(id)?, rest)?,
        ["api", "v1"] => Route::ApiHome,
        ["api", "v1", rest @ ..] => Route::Api(api(rest)?),
        _ => return None,
    })
}

/// An agent of an address.
fn agent(name: &str) -> Option<String> {
    agent_name(&decode(name, false)?)
}

/// What is started is in the fields.
fn start(repository: &str) -> Option<Action> {
    known(repository).map(|repository| Action::Start(repository, Start::default()))
}

/// A repository of an address.
fn known(repository: &str) -> Option<String> {
    decode(repository, false).filter(|repository| check_repository(repository).is_ok())
}

fn job(id: JobId, rest: &[&str]) -> Option<Route> {
    let (number_text, rest) = match rest {
        [first, others @ ..] if first.starts_with(|digit: char| digit.is_ascii_digit()) => (Some(*first), others),
        _ => (None, rest),
    };
    let which = match number_text {
        Some(text) => attempt(text)?,
        None => None,
    };
    Some(match (rest, which) {
        ([], _) => Route::Job(id, which),
        (["log"], _) => Route::Log(id, which),
        (["records"], _) => Route::Records(id, which),
        (["console", name], _) if !name.is_empty() => Route::Console(id, which, decode(name, false)?),
        (["timeline.json"], _) => Route::Timeline(id, which),
        (["waveform"], _) => Route::Waveform(id, which),
        (["log.vcd"], _) => Route::Dump(id, which),
        (["tests"], _) => Route::Tests(id, which),
        (["artifacts.tar"], _) => Route::Tar(id, which),
        ([what @ ("artifact" | "view"), stream, _name], _) => {
            let stream = number(stream).and_then(|stream| u16::try_from(stream).ok())?;
            if stream == 0 || usize::from(stream) >= STREAMS {
                return None;
            }
            if *what == "view" { Route::View(id, which, stream) } else { Route::Artifact(id, which, stream) }
        }
        (["say"], None) => Route::Do(Action::Word(no_word(id))),
        (["cancel"], None) => Route::Do(Action::CancelJob(id)),
        (["cancel"], Some(attempt)) => Route::Do(Action::CancelAttempt(JobKey { job: id, attempt })),
        (["rebuild"], None) => Route::Do(Action::RebuildJob(id)),
        (["rebuild-following"], None) => Route::Do(Action::RebuildFollowing(id)),
        _ => return None,
    })
}

/// A word that its fields still tell.
fn no_word(job: JobId) -> Word {
    Word { key: JobKey { job, attempt: 0 }, writer: String::new(), number: 0, said: String::new() }
}

/// Somebody whom its fields still tell.
fn nobody(job: JobId) -> Sharing {
    Sharing { job, person: String::new(), shared: true }
}

/// What is done about a board of an agent.
fn at_board(agent: &str, board: &str, what: &str) -> Option<Action> {
    let (agent, board) = (self::agent(agent)?, decode(board, false)?);
    Some(match what {
        "set-aside" => Action::BoardAside(agent, board, true),
        "take-back" => Action::BoardAside(agent, board, false),
        "health" => Action::CheckBoard(agent, board),
        _ => return None,
    })
}

/// A piece of a file with this digest, which the rest of its request still tells.
fn piece(sha256: &str) -> Option<Piece> {
    check_digest(sha256).ok()?;
    Some(Piece { sha256: sha256.to_string(), ..Piece::default() })
}

fn api(parts: &[&str]) -> Option<ApiRoute> {
    Some(match parts {
        ["openapi.json"] => ApiRoute::Description,
        ["events"] => ApiRoute::Events,
        ["events", id] => ApiRoute::Event(number(id)?),
        ["events", id, "cancel"] => ApiRoute::Do(Action::CancelEvent(number(id)?)),
        ["events", id, "rebuild"] => ApiRoute::Do(Action::RebuildEvent(number(id)?, Choice::default())),
        ["jobs", id] => ApiRoute::Job(number(id)?),
        ["jobs", id, "tests"] => ApiRoute::Tests(number(id)?),
        ["jobs", id, "log"] => ApiRoute::Log(number(id)?),
        ["jobs", id, "cancel"] => ApiRoute::Do(Action::CancelJob(number(id)?)),
        ["jobs", id, "word"] => ApiRoute::Do(Action::Word(no_word(number(id)?))),
        ["jobs", id, "image", sha256] => ApiRoute::Do(Action::Image(number(id)?, piece(sha256)?)),
        ["jobs", id, "share"] => ApiRoute::Do(Action::Share(nobody(number(id)?))),
        ["boards", "lease"] => ApiRoute::Do(Action::Lease(Asking::default())),
        ["jobs", id, "rebuild"] => ApiRoute::Do(Action::RebuildJob(number(id)?)),
        ["jobs", id, "rebuild-following"] => ApiRoute::Do(Action::RebuildFollowing(number(id)?)),
        ["agents"] => ApiRoute::Agents,
        ["agents", name, "add"] => ApiRoute::Do(Action::AgentAdd(vec![agent(name)?])),
        ["agents", name, "revoke"] => ApiRoute::Do(Action::AgentRevoke(agent(name)?)),
        ["agents", name, "set-aside"] => ApiRoute::Do(Action::SetAside(agent(name)?, true)),
        ["agents", name, "take-back"] => ApiRoute::Do(Action::SetAside(agent(name)?, false)),
        ["units"] => ApiRoute::Units,
        ["units", "grant", grant, "free"] => ApiRoute::Do(Action::FreeUnits(number(grant)?)),
        ["boards"] => ApiRoute::Boards,
        ["boards", agent, board] => ApiRoute::Board(decode(agent, false)?, decode(board, false)?),
        ["boards", agent, board, "set-aside"] => ApiRoute::Do(at_board(agent, board, "set-aside")?),
        ["boards", agent, board, "take-back"] => ApiRoute::Do(at_board(agent, board, "take-back")?),
        ["boards", agent, board, "health"] => ApiRoute::Do(at_board(agent, board, "health")?),
        ["actions"] => ApiRoute::Actions,
        ["repositories"] => ApiRoute::Repositories,
        ["me"] => ApiRoute::Me,
        ["repositories", repository, "start"] => ApiRoute::Do(start(repository)?),
        ["repositories", repository, "run"] => ApiRoute::Do(Action::Run(known(repository)?, Sent::default())),
        ["repositories", repository, "send", sha256] => ApiRoute::Do(Action::Send(known(repository)?, piece(sha256)?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_found() {
        for (path, wanted) in [
            ("/", Route::Events),
            ("/event/12", Route::Event(12)),
            ("/job/7", Route::Job(7, None)),
            ("/job/7/2", Route::Job(7, Some(2))),
            ("/job/7/log", Route::Log(7, None)),
            ("/job/7/2/log", Route::Log(7, Some(2))),
            ("/job/7/records", Route::Records(7, None)),
            ("/job/7/2/artifact/1/a%2Fb.deb", Route::Artifact(7, Some(2), 1)),
            ("/api/v1/jobs/7/log", Route::Api(ApiRoute::Log(7))),
            ("/agents", Route::Agents),
            ("/units", Route::Units),
            ("/boards", Route::Boards),
            ("/boards/rock/b%201", Route::Board("rock".to_string(), "b 1".to_string())),
            ("/api/v1/boards/rock/b1", Route::Api(ApiRoute::Board("rock".to_string(), "b1".to_string()))),
            ("/audit", Route::Audit),
            ("/docs", Route::Docs),
            ("/docs/saifile", Route::DocsPage("saifile".to_string())),
            ("/api/v1/actions", Route::Api(ApiRoute::Actions)),
            ("/api/v1/units", Route::Api(ApiRoute::Units)),
            ("/api/v1/openapi.json", Route::Api(ApiRoute::Description)),
            ("/api/v1", Route::ApiHome),
            ("/job/7/2/view/1/a%2Fb.html", Route::View(7, Some(2), 1)),
            ("/job/7/2/artifacts.tar", Route::Tar(7, Some(2))),
            ("/job/7/2/console/main%201", Route::Console(7, Some(2), "main 1".to_string())),
            ("/job/7/timeline.json", Route::Timeline(7, None)),
            ("/job/7/2/waveform", Route::Waveform(7, Some(2))),
            ("/job/7/2/log.vcd", Route::Dump(7, Some(2))),
            ("/job/7/tests", Route::Tests(7, None)),
            ("/api/v1/jobs/7/tests", Route::Api(ApiRoute::Tests(7))),
            ("/feed.atom", Route::Feed),
            ("/metrics", Route::Metrics),
            ("/history", Route::History),
            ("/latest/a%20b/topic%2Fx", Route::Latest("a b".to_string(), "topic/x".to_string())),
            ("/latest/a/main/badge.svg", Route::Badge("a".to_string(), "main".to_string())),
            (
                "/latest/a/main/artifact/default/linux%2Fx86_64/out%2Fx.deb",
                Route::LatestArtifact(
                    "a".to_string(),
                    "main".to_string(),
                    ["default", "linux/x86_64", "out/x.deb"].map(str::to_string),
                ),
            ),
        ] {
            assert_eq!(route("GET", path), wanted, "{path}");
            assert_eq!(route("HEAD", path), wanted, "{path}");
            assert!(matches!(route("POST", path), Route::WrongMethod("GET, HEAD")), "{path}");
        }
        for (path, wanted) in [
            ("/job/7/cancel", Route::Do(Action::CancelJob(7))),
            ("/job/7/2/cancel", Route::Do(Action::CancelAttempt(JobKey { job: 7, attempt: 2 }))),
            ("/event/7/rebuild", Route::Do(Action::RebuildEvent(7, Choice::default()))),
            ("/job/7/rebuild-following", Route::Do(Action::RebuildFollowing(7))),
            ("/units/grant/7/free", Route::Do(Action::FreeUnits(7))),
            ("/api/v1/units/grant/7/free", Route::Api(ApiRoute::Do(Action::FreeUnits(7)))),
            ("/api/v1/jobs/7/rebuild-following", Route::Api(ApiRoute::Do(Action::RebuildFollowing(7)))),
            ("/api/v1/agents/rock/add", Route::Api(ApiRoute::Do(Action::AgentAdd(vec!["rock".to_string()])))),
            ("/api/v1/agents/r/revoke", Route::Api(ApiRoute::Do(Action::AgentRevoke("r".to_string())))),
            ("/api/v1/agents/r/take-back", Route::Api(ApiRoute::Do(Action::SetAside("r".to_string(), false)))),
            ("/agents/rock%2D1/set-aside", Route::Do(Action::SetAside("rock-1".to_string(), true))),
            ("/api/v1/events/7/cancel", Route::Api(ApiRoute::Do(Action::CancelEvent(7)))),
            ("/sign-in", Route::SignInWith),
        ] {
            assert_eq!(route("POST", path), wanted, "{path}");
        }
        assert_eq!(route("GET", "/job/7/cancel"), Route::WrongMethod("POST"));
        assert_eq!(route("DELETE", "/sign-in"), Route::WrongMethod("GET, HEAD, POST"));
    }

    #[test]
    fn everything_else_is_not() {
        for path in [
            "",
            "x",
            "//",
            "/event/",
            "/event/+1",
            "/event/-1",
            "/event/01",
            "/event/1/",
            "/event/99999999999999999999",
            "/job/1/0",
            "/job/1/4294967296",
            "/job/1/artifact/0/x",
            "/job/1/artifact/1024/x",
            "/job/1/artifact/1",
            "/job/1/artifact/1/../../../etc/passwd",
            "/job/1/0/cancel",
            "/job/1/console",
            "/job/1/console/",
            "/job/1/console/a/b",
            "/job/1/console/%ff",
            "/job/1/2/rebuild",
            "/job/1/2/rebuild-following",
            "/units/grant/x/free",
            "/units/1/free",
            "/assets/../x",
            "/agents/../revoke",
            "/agents/%2e%2e/revoke",
            "/agents/a%00b/revoke",
            "/agents/%zz/revoke",
            "/api/v1/agents/%2e%2e/add",
            "/api/v2/events",
            "/API/v1/events",
        ] {
            assert_eq!(route("POST", path), Route::Unknown, "{path}");
            assert_eq!(route("GET", path), Route::Unknown, "{path}");
        }
    }

    #[test]
    fn fields_are_decoded_and_addresses_kept_at_home() {
        assert_eq!(field("a=1&to=%2Fjob%2F7+x&to=2", "to").as_deref(), Some("/job/7 x"));
        assert_eq!(field("a=%f", "a"), None);
        assert_eq!(field("a=%ff", "a"), None);
        assert_eq!(number_field("before=12", "before"), Some(12));
        assert_eq!(number_field("before=1e3", "before"), None);
        assert_eq!(lines_field("line=543211", "line"), Some(543_211..=543_211));
        assert_eq!(lines_field("line=3-12", "line"), Some(3..=12));
        for bad in ["line=0", "line=4-3", "line=3-", "line=-3", "line=a", "line=1-2-3", "line=99999999999999999999"] {
            assert_eq!(lines_field(bad, "line"), None, "{bad}");
        }
        assert_eq!(key_field("job=7-2", "job"), Some(JobKey { job: 7, attempt: 2 }));
        for good in ["/", "/job/7?line=3#L3", "/?repository=a%26b"] {
            assert!(local_address(good), "{good}");
        }
        for bad in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nset-cookie: x", "/a b"] {
            assert!(!local_address(bad), "{bad}");
        }
    }
}
