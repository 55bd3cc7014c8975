//! Request → Response: the pages, the API and the downloads.
//!
//! `route` finds out what is asked for, `library` gathers the view of it, and one pure renderer a page makes the HTML;
//! what is here decides who may, and puts the headers on. A new page is a route, a view and a renderer.

pub mod agents;
pub mod ansi;
pub mod api;
pub mod api_boards;
pub mod archive;
pub mod artifact_list;
pub mod asked;
pub mod assets;
pub mod audit;
pub mod board;
pub mod board_list;
mod built_in;
pub mod cases;
pub mod console;
pub mod docs;
pub mod event;
pub mod events;
mod files;
pub mod filter;
pub mod first_error;
pub mod first_steps;
pub mod grid;
pub mod history;
pub mod html;
pub mod job;
pub mod junit;
pub mod layout;
mod leasing;
pub mod library;
pub mod log;
pub mod log_fold;
pub mod log_html;
pub mod log_lines;
pub mod log_tools;
pub mod made;
pub mod narrow;
pub mod notices;
pub mod palette;
pub mod raw_text;
pub mod route;
pub mod search;
pub mod stable;
pub mod stages;
pub mod standing;
mod starting;
pub mod sums;
pub mod tarball;
pub mod test_cases;
pub mod timeline;
pub mod unit_list;
pub mod views;
pub mod waveform;
pub mod waveform_html;
pub mod whole;

use crate::http::{FAILED_HEADER, Request, Response};
use crate::rights;
use crate::sessions::{clear_cookie, cookie, lasts, same_origin, set_cookie, user_of_token};
use filter::Filter;
use library::{EVENTS, Library, now};
use log::Wanted;
use log_html::Marks;
use narrow::Narrow;
use route::{
    Action, ApiRoute, Route, agent_name, attempt_field, field, lines_field, local_address, number_field, route,
};
use sai_agent::clock::steady;
use sai_core::job::{JobId, JobKey};
use sai_core::roles::Deed;
use sai_core::vcd::LINE;
use search::Query;
use std::sync::Arc;
use views::{JobView, Visitor};
use waveform::Asked;

/// What a page may load and do: everything from here, nothing inline, nothing from elsewhere (CSP level 3).
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// For what jobs made: nothing at all, and in an origin of its own, whatever a browser takes it for.
const SANDBOX: &str = "sandbox; default-src 'none'; frame-ancestors 'none'";

/// For what jobs made and people want to see: in an origin of its own and without script, forms or anything from
/// elsewhere; only with the looks that it brings itself.
const SHOWN: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";

/// Events that one call of the API gives at most.
const API_EVENTS: u64 = 100;

/// The value of our cookie, if the request has one.
fn own_cookie<'a>(library: &Library, request: &'a Request) -> Option<&'a str> {
    request.header("cookie").and_then(|text| cookie(&library.prefix, text))
}

/// Who asks.
enum Caller {
    Nobody,
    /// A session's user; whether the request comes from a page of ours is known for requests that change something.
    Session {
        user: String,
        ours: bool,
    },
    Token(String),
    /// A token that is nobody's.
    Stranger,
}

impl Caller {
    fn of(library: &Library, request: &Request) -> Self {
        if let Some(authorization) = request.header("authorization") {
            let token = authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            let user = token.and_then(|(_, token)| user_of_token(&library.archive.users(), token.trim(), now()));
            return user.map_or(Self::Stranger, Self::Token);
        }
        let known =
            |user: &String| library.archive.users().iter().any(|known| known.name == *user && lasts(known, now()));
        let session = own_cookie(library, request).and_then(|value| library.sessions.user(value, steady()));
        let session = session.filter(known);
        let ours = same_origin(request.header("sec-fetch-site"), request.header("origin"), request.header("host"));
        session.map_or(Self::Nobody, |user| Self::Session { user, ours })
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Session { user, .. } | Self::Token(user) => Some(user),
            Self::Nobody | Self::Stranger => None,
        }
    }
}

/// Whether somebody may open a live socket: as for reading, and a browser's only from a page of ours.
///
/// Gives the signed-in user, if it is one.
///
/// # Errors
/// The status to refuse it with.
pub fn may_view(library: &Library, request: &Request) -> Result<Option<String>, u16> {
    let caller = Caller::of(library, request);
    if matches!(caller, Caller::Stranger) || (caller.name().is_none() && !library.public) {
        return Err(401);
    }
    // Browsers always say where a WebSocket handshake comes from (RFC 6455, 10.2); other programs have nothing to say.
    let foreign = request.header("origin").is_some()
        && !same_origin(request.header("sec-fetch-site"), request.header("origin"), request.header("host"));
    if foreign { Err(403) } else { Ok(caller.name().map(str::to_string)) }
}

/// Answers a request.
pub fn respond(library: &Arc<Library>, request: &Request) -> Response {
    let route = route(&request.method, &request.path);
    match &route {
        Route::Health => return Response::text(200, "ok").with("cache-control", "no-store"),
        Route::Robots => return Response::bytes(200, "text/plain", "User-agent: *\nDisallow: /\n"),
        Route::Asset(name) => return asset(name, &request.query),
        _ => {}
    }
    let caller = Caller::of(library, request);
    let is_stranger = matches!(caller, Caller::Stranger);
    let mut visitor = library.visitor(caller.name().map(str::to_string));
    if matches!(request.method.as_str(), "GET" | "HEAD") && !matches!(route, Route::SignIn) {
        visitor.address =
            if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) };
    }
    let page = matches!(
        route,
        Route::Events
            | Route::Event(_)
            | Route::Job(..)
            | Route::Agents
            | Route::Units
            | Route::Boards
            | Route::Board(..)
    );
    if let (Caller::Session { .. }, "GET", true) = (&caller, request.method.as_str(), page) {
        visitor.told = own_cookie(library, request).and_then(|value| library.sessions.told(value));
    }
    let answer = Answer { library, request, caller, visitor };
    let response = match route {
        Route::SignIn => {
            answer.html(200, notices::sign_in(&answer.destination(&request.query), false, &answer.visitor))
        }
        Route::SignInWith => answer.sign_in(),
        Route::Api(route) => answer.api(route),
        route if matches!(answer.caller, Caller::Stranger) || (answer.caller.name().is_none() && !library.public) => {
            answer.refuse(&route)
        }
        route => answer.page(route),
    };
    let response = if library.public { response } else { no_store(response) };
    let response = if is_stranger { response.with(FAILED_HEADER, "token") } else { response };
    if response.headers.iter().any(|(name, _)| *name == "cross-origin-resource-policy") {
        return response;
    }
    response.with("cross-origin-resource-policy", "same-origin")
}

fn no_store(mut response: Response) -> Response {
    response.headers.retain(|(name, _)| *name != "cache-control");
    response.with("cache-control", "no-store")
}

/// A writer that nobody has heard of.
fn drawn() -> Result<String, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn asset(name: &str, query: &str) -> Response {
    let Some(asset) = assets::find(name) else { return Response::text(404, "no such asset") };
    let lasting = field(query, "v").as_deref() == Some(&asset.version);
    Response::bytes(200, asset.content_type, asset.content.as_str())
        .with("cache-control", if lasting { "public, max-age=31536000, immutable" } else { "no-cache" })
        .with("x-content-type-options", "nosniff")
        .with("content-security-policy", SANDBOX)
}

/// One request and who asks.
struct Answer<'a> {
    library: &'a Arc<Library>,
    request: &'a Request,
    caller: Caller,
    visitor: Visitor,
}

impl Answer<'_> {
    fn html(&self, status: u16, page: String) -> Response {
        Response::bytes(status, "text/html; charset=utf-8", self.library.prefix.markup(page))
            .with("content-security-policy", POLICY)
            .with("x-content-type-options", "nosniff")
            .with("referrer-policy", "same-origin")
            .with("cross-origin-opener-policy", "same-origin")
            .with("cache-control", "private, no-cache")
    }

    fn error(&self, status: u16, what: &str) -> Response {
        // Programs read no pages, whatever they ask for.
        if self.request.path.starts_with("/api/") {
            return self.json(status, api::wrong(what));
        }
        self.html(status, notices::error(status, what, None, &self.visitor))
    }

    /// Whether who asks may hear what happens in a job; in one that there is not, nothing does.
    fn hears(&self, id: JobId) -> bool {
        self.library.hears(&self.visitor, id)
    }

    fn unknown(&self) -> Response {
        self.error(404, "There is nothing at this address, or it has been deleted.")
    }

    /// What other programs read.
    fn plain(&self, content_type: &'static str, text: String) -> Response {
        Response::bytes(200, content_type, text)
            .with("content-security-policy", SANDBOX)
            .with("x-content-type-options", "nosniff")
            .with("cache-control", "no-cache")
    }

    /// Leads to what an address that stays stands for just now.
    fn moved(&self, to: Option<String>) -> Response {
        to.map_or_else(|| self.unknown(), |to| self.redirect(&to))
    }

    fn redirect(&self, to: &str) -> Response {
        Response::empty(303).with("location", self.library.prefix.address(to)).with("cache-control", "no-store")
    }

    /// Where to go after signing in.
    fn destination(&self, query: &str) -> String {
        let Some(to) = field(query, "to") else { return "/".to_string() };
        // The script knows addresses as others see them.
        let (path, rest) = to.split_at(to.find(['?', '#']).unwrap_or(to.len()));
        let to = format!("{}{rest}", self.library.prefix.strip(path));
        if local_address(&to) { to } else { "/".to_string() }
    }

    /// Somebody who may not read here.
    fn refuse(&self, route: &Route) -> Response {
        if matches!(self.caller, Caller::Stranger) {
            return self.error(401, "The token of this request is nobody's.");
        }
        if matches!(self.request.method.as_str(), "GET" | "HEAD") && !matches!(route, Route::Unknown) {
            return self.redirect(&self.visitor.sign_in());
        }
        self.error(401, "Only the signed-in may read here.")
    }

    fn sign_in(&self) -> Response {
        let origin = self.request.header("origin");
        if !same_origin(self.request.header("sec-fetch-site"), origin, self.request.header("host")) {
            return self.error(403, "This form was sent from elsewhere.");
        }
        let body = String::from_utf8_lossy(&self.request.body);
        let token = field(&body, "token").unwrap_or_default();
        let to = self.destination(&body);
        match user_of_token(&self.library.archive.users(), token.trim(), now()) {
            None => self.html(403, notices::sign_in(&to, true, &self.visitor)).with(FAILED_HEADER, "sign-in"),
            Some(user) => match self.library.sessions.open(&user, steady()) {
                Ok(value) => self.redirect(&to).with("set-cookie", set_cookie(&self.library.prefix, &value)),
                Err(what) => self.error(500, &what),
            },
        }
    }

    fn sign_out(&self) -> Response {
        if let Some(value) = own_cookie(self.library, self.request) {
            self.library.sessions.close(value);
        }
        self.redirect("/").with("set-cookie", clear_cookie(&self.library.prefix))
    }

    fn page(&self, route: Route) -> Response {
        let (library, query) = (self.library, self.request.query.as_str());
        if let Err(why) = asked::check(&route, query) {
            return self.error(400, &format!("{why}."));
        }
        if route.heard().is_some_and(|id| !self.hears(id)) {
            // Who is not known yet may be one of them.
            return match self.caller {
                Caller::Token(_) => self.json(403, api::wrong(log_tools::KEPT)),
                Caller::Session { .. } => self.error(403, &format!("{}.", log_tools::KEPT)),
                Caller::Nobody | Caller::Stranger => self.redirect(&self.visitor.sign_in()),
            };
        }
        match route {
            Route::Events => {
                let view = library.events(number_field(query, "before"), Filter::of(query), EVENTS);
                match view.sense() {
                    Ok(()) => self.html(200, events::page(&view, &self.visitor)),
                    Err(why) => self.error(400, &format!("{why}.")),
                }
            }
            Route::History => {
                let filter = Filter::of(query);
                if filter.repository.is_none() || filter.configuration.is_none() || filter.platform.is_none() {
                    return self.error(400, "A history is of a `repository`, a `configuration` and a `platform`.");
                }
                let view = library.history(number_field(query, "before"), filter);
                self.html(200, history::page(&view, &self.visitor))
            }
            Route::Event(id) => match library.event_page(id, Narrow::of(query)).map(|view| (view.sense(), view)) {
                Some((Ok(()), view)) => self.html(200, event::page(&view, &self.visitor)),
                Some((Err(why), _)) => self.error(400, &format!("{why}.")),
                None => self.unknown(),
            },
            Route::Job(id, attempt) => match library.job(id, attempt) {
                Some(view) => self.job(view),
                None => self.unknown(),
            },
            Route::Log(id, attempt) => self.stored(id, attempt, |key, log| self.raw(key, log, 0)),
            Route::Records(id, attempt) => self.stored(id, attempt, |key, log| self.records(key, log)),
            Route::Console(id, attempt, name) => self.console(id, attempt, &name),
            Route::Timeline(id, attempt) => self.timeline(id, attempt),
            Route::Waveform(id, attempt) => self.waveform(id, attempt),
            Route::Dump(id, attempt) => self.dump(id, attempt),
            Route::Artifact(id, attempt, stream) => self.artifact(id, attempt, stream, false),
            Route::View(id, attempt, stream) => self.artifact(id, attempt, stream, true),
            Route::Tar(id, attempt) => self.tar(id, attempt),
            Route::Tests(id, attempt) => self.tests(id, attempt),
            Route::Latest(repository, branch) => self.moved(stable::event(library, &repository, &branch)),
            Route::LatestArtifact(repository, branch, [configuration, platform, path]) => {
                let file = [configuration.as_str(), &platform, &path];
                self.moved(stable::artifact(library, &repository, &branch, file))
            }
            Route::Badge(repository, branch) => {
                let badge = stable::badge(library, &repository, &branch);
                // It is made to be shown by other sites, and to be true there.
                self.plain("image/svg+xml", badge).with("cross-origin-resource-policy", "cross-origin")
            }
            Route::Feed => {
                let view = library.events(None, Filter::of(query), stable::FEED);
                if let Err(why) = view.sense() {
                    return self.error(400, &format!("{why}."));
                }
                let feed = stable::feed(&view.events, view.filter.repository.as_deref(), self.visitor.now);
                self.plain("application/atom+xml; charset=utf-8", library.prefix.markup(feed))
            }
            Route::Metrics => {
                let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                self.plain(kind, stable::metrics(library))
            }
            Route::Agents => {
                let view = library.agents(self.visitor.who.is_some());
                self.html(200, agents::page(&view, &self.visitor))
            }
            Route::Units => {
                let live = library.live();
                let (table, boards) = (live.unit_table.clone(), live.boards.clone());
                drop(live);
                self.html(200, unit_list::page(&table, &boards, &self.visitor))
            }
            Route::Boards => {
                let boards = library.live().boards.clone();
                self.html(200, board_list::page(&boards, &self.visitor))
            }
            Route::Board(agent, board) => {
                match library.board(&agent, &board, number_field(query, "before"), board::STAYS) {
                    Some(view) => self.html(200, board::page(&view, &self.visitor)),
                    None => self.unknown(),
                }
            }
            Route::Audit => self.audit(),
            Route::Docs => self.html(200, docs::index(&self.visitor)),
            Route::DocsPage(name) => {
                docs::page(&name, &self.visitor).map_or_else(|| self.unknown(), |page| self.html(200, page))
            }
            Route::ApiHome => self.redirect("/api/v1/openapi.json"),
            Route::SignOut => self.may_act().unwrap_or_else(|| self.sign_out()),
            Route::Do(action) => match self.chosen(action) {
                Ok(action) => self.act(action),
                // Who may not act is told that first.
                Err(why) => self.may_act().unwrap_or_else(|| self.error(400, &format!("{why}."))),
            },
            Route::AddAgent => {
                let body = String::from_utf8_lossy(&self.request.body);
                match field(&body, "name").as_deref().map(str::trim).and_then(agent_name) {
                    Some(name) => self.act(Action::AgentAdd(vec![name])),
                    None => self.error(400, "An agent's name is 1 to 64 letters, digits, `.`, `_` or `-`."),
                }
            }
            Route::WrongMethod(allow) => self.error(405, &format!("This address takes {allow}.")).with("allow", allow),
            _ => self.unknown(),
        }
    }

    fn audit(&self) -> Response {
        if self.visitor.who.is_none() {
            return self.redirect(&self.visitor.sign_in());
        }
        if !self.visitor.may(Deed::Administer, None) {
            return self.error(403, "It takes an admin to read what people did.");
        }
        let query = self.request.query.as_str();
        let view = self.library.audit(number_field(query, "before"), audit::Wanted::of(query), audit::SHOWN);
        self.html(200, audit::page(&view, &self.visitor))
    }

    fn job(&self, mut view: JobView) -> Response {
        view.needed = self.caller.name().is_some() && self.library.is_needed(&view.job);
        view.unserved = self.visitor.may(Deed::Administer, None) && self.library.is_unserved(&view);
        if !self.hears(view.job.id) {
            return self.html(200, job::page(&view, None, None, &Marks::default(), &self.visitor));
        }
        let selected = lines_field(&self.request.query, "line");
        let query = Query::of(&self.request.query);
        let found = query.as_ref().map(|query| {
            let at = selected.as_ref().map(|lines| *lines.start());
            search::search(|| Ok(self.library.archive.log(view.key())?.reader), query, at)
        });
        let at = found.as_ref().and_then(|found| found.as_ref().ok()).map(|found| found.at).filter(|at| *at > 0);
        let selected = selected.or_else(|| at.map(|at| at..=at));
        let error = self.library.first_error(&view);
        let wanted = match &selected {
            Some(lines) => Wanted::Around(*lines.start(), *lines.end()),
            None => error.as_ref().map_or(Wanted::Ends, |error| Wanted::EndsAnd(error.line)),
        };
        if let Some(why) = self.cut(&view, self.library.archive.log(view.key()).map_or(0, |log| log.length)) {
            return self.error(500, &why);
        }
        match self.library.log(view.key(), wanted) {
            Ok(mut log) => {
                let past = std::mem::take(&mut log.past);
                view.past = (!view.current()).then(|| self.library.complete(view.key(), past));
                let since = view.job.started_at.filter(|at| view.current() && *at >= view.job.queued_at);
                view.tests = Some(self.library.cases(&view));
                let marks = Marks { selected, since, error, search: query.zip(found) };
                let drawn = log.channels.iter().any(|name| name.starts_with(LINE));
                let wave = drawn.then(|| self.library.wave(view.key(), Asked::of(&self.request.query)));
                match wave.transpose() {
                    Ok(wave) => {
                        let wave = wave.flatten();
                        self.html(200, job::page(&view, Some(&log), wave.as_ref(), &marks, &self.visitor))
                    }
                    Err(error) => self.error(500, &format!("The log cannot be read: {error}.")),
                }
            }
            Err(error) => self.error(500, &format!("The log cannot be read: {error}.")),
        }
    }

    /// Why the caller may not act, if so.
    fn may_act(&self) -> Option<Response> {
        match &self.caller {
            Caller::Token(_) | Caller::Session { ours: true, .. } => None,
            Caller::Session { .. } => Some(self.error(403, "This form was sent from elsewhere.")),
            Caller::Nobody | Caller::Stranger => Some(self.error(401, "Only the signed-in may do that.")),
        }
    }

    /// Asked here for the right status; it is asked again where the action is performed.
    fn allowed(&self, action: &Action, who: &str) -> Result<(), String> {
        let archive = &self.library.archive;
        let job = |id| archive.job(id).map(|job| job.repository);
        let event = |id| archive.event(id).map(|event| event.repository);
        let sender = |id| Some(archive.job(id)?.bundle?.person);
        let objects = rights::Objects { job: &job, event: &event, sender: &sender };
        rights::check(&archive.users(), who, now(), action, &objects)
    }

    /// Which jobs an action is about, where that is said in the address or the form.
    fn chosen(&self, action: Action) -> Result<Action, String> {
        let form = String::from_utf8_lossy(&self.request.body);
        let fields = if self.request.query.is_empty() { &form } else { self.request.query.as_str() };
        Ok(match action {
            Action::RebuildEvent(id, _) => Action::RebuildEvent(id, narrow::chosen(fields)?),
            Action::Start(repository, _) => Action::Start(repository, starting::of_fields(fields)?),
            Action::Lease(asking) if self.request.path.starts_with("/boards/") => {
                asked::nothing(fields).map(|()| Action::Lease(asking))?
            }
            Action::Lease(_) => Action::Lease(leasing::wish(fields)?),
            Action::Word(word) if self.request.path.starts_with("/job/") => {
                Action::Word(leasing::typed(word.key.job, fields, &drawn()?)?)
            }
            Action::Word(word) => Action::Word(leasing::word(word.key.job, fields)?),
            Action::Share(sharing) => Action::Share(leasing::sharing(sharing.job, fields)?),
            Action::Run(repository, _) => Action::Run(repository, starting::sent_of_fields(fields)?),
            Action::Send(repository, piece) => Action::Send(repository, starting::piece(self.request, piece)?),
            Action::Image(job, piece) => Action::Image(job, starting::piece(self.request, piece)?),
            Action::CancelJob(job) => match asked::attempt(fields)? {
                Some(attempt) => Action::CancelAttempt(JobKey { job, attempt }),
                None => Action::CancelJob(job),
            },
            action => asked::nothing(fields).map(|()| action)?,
        })
    }

    fn act(&self, action: Action) -> Response {
        if let Some(refusal) = self.may_act() {
            return refusal;
        }
        let who = self.caller.name().unwrap_or_default().to_string();
        if let Err(why) = self.allowed(&action, &who) {
            return self.error(403, &format!("{why}."));
        }
        let back = match &action {
            Action::CancelJob(id) | Action::RebuildJob(id) | Action::RebuildFollowing(id) => format!("/job/{id}"),
            // Where it was typed, to be typed on.
            Action::Word(word) => format!("/job/{}/{}#typing", word.key.job, word.key.attempt),
            Action::FreeUnits(_) => "/units".to_string(),
            Action::BoardAside(agent, board, _) | Action::CheckBoard(agent, board) => board_list::address(agent, board),
            Action::Start(repository, start) => starting::address(repository, start),
            // Only programs send anything.
            Action::Send(..) | Action::Run(..) | Action::Image(..) => "/".to_string(),
            Action::CancelAttempt(key) => format!("/job/{}/{}", key.job, key.attempt),
            Action::CancelEvent(id) | Action::RebuildEvent(id, _) => format!("/event/{id}"),
            _ => "/agents".to_string(),
        };
        let shown = matches!(action, Action::AgentAdd(_));
        match (self.library.act)(action, who) {
            Ok(done) if shown => {
                no_store(self.html(200, notices::answer("Paste this on the new machine", &done.text, &self.visitor)))
            }
            Ok(done) => {
                if let Some(value) = own_cookie(self.library, self.request) {
                    self.library.sessions.tell(value, format!("Done: {}.", done.text));
                }
                self.redirect(&done.job.map_or(back, |job| format!("/job/{job}")))
            }
            Err(what) => self.html(409, notices::error(409, &format!("{what}."), Some(&back), &self.visitor)),
        }
    }

    fn json(&self, status: u16, text: String) -> Response {
        Response::bytes(status, "application/json", self.library.prefix.json(text))
            .with("cache-control", "no-store")
            .with("x-content-type-options", "nosniff")
            .with("content-security-policy", SANDBOX)
    }

    fn api(&self, route: ApiRoute) -> Response {
        let (library, query, now) = (self.library, self.request.query.as_str(), self.visitor.now);
        let wrong = |status: u16, what: &str| self.json(status, api::wrong(what));
        match &self.caller {
            Caller::Stranger => return wrong(401, "this token is nobody's"),
            Caller::Nobody if !library.public => return wrong(401, "only the signed-in may read here"),
            _ => {}
        }
        let route = Route::Api(route);
        if let Err(why) = asked::check(&route, query) {
            return wrong(400, &why);
        }
        if route.heard().is_some_and(|id| !self.hears(id)) {
            return wrong(if self.caller.name().is_some() { 403 } else { 401 }, log_tools::KEPT);
        }
        let Route::Api(route) = route else { return wrong(404, "no such record") };
        let found = match route {
            ApiRoute::Description => Some(library.prefix.description(api::description())),
            ApiRoute::Events => {
                let limit = number_field(query, "limit").unwrap_or(EVENTS as u64).clamp(1, API_EVENTS) as usize;
                let view = library.events(number_field(query, "before"), Filter::of(query), limit);
                if let Err(why) = view.sense() {
                    return wrong(400, &why);
                }
                Some(api::events(&view.events, view.next, now))
            }
            ApiRoute::Event(id) => library.event(id).map(|view| api::event(&view, now)),
            ApiRoute::Job(id) => library.job(id, None).map(|view| api::job(&view, now)),
            ApiRoute::Tests(id) => library.job(id, attempt_field(query)).map(|view| {
                let view = library.with_past(view);
                api::tests(&library.cases(&view))
            }),
            ApiRoute::Agents => Some(api::agents(&library.agents(false).agents)),
            ApiRoute::Units => {
                let live = library.live();
                Some(api::units(&live.unit_table, &live.boards))
            }
            ApiRoute::Boards => Some(api_boards::boards(&library.live().boards)),
            ApiRoute::Board(agent, board) => {
                let limit = number_field(query, "limit").unwrap_or(board::STAYS as u64).clamp(1, API_EVENTS) as usize;
                let view = library.board(&agent, &board, number_field(query, "before"), limit);
                view.map(|view| api_boards::board(&view, now))
            }
            // As for the page: what admins did is for admins.
            ApiRoute::Actions if self.visitor.who.is_none() => return wrong(401, "only the signed-in may read this"),
            ApiRoute::Actions if !self.visitor.may(Deed::Administer, None) => return wrong(403, "this takes an admin"),
            ApiRoute::Actions => {
                let limit = number_field(query, "limit").unwrap_or(audit::SHOWN as u64).clamp(1, API_EVENTS) as usize;
                Some(api::actions(&library.audit(number_field(query, "before"), audit::Wanted::of(query), limit)))
            }
            ApiRoute::Me => {
                let Some(who) = self.caller.name() else { return wrong(401, "no token was shown") };
                library.archive.users().iter().find(|user| user.name == who && !user.revoked).map(api::me)
            }
            ApiRoute::Repositories => Some(api::repositories(&library.live().repositories)),
            ApiRoute::Log(id) => {
                let from = number_field(query, "from").unwrap_or(0);
                return match self.read_log(id, attempt_field(query), |key, log| self.raw(key, log, from)) {
                    Ok(response) => response,
                    Err(None) => wrong(404, "no such log"),
                    Err(Some(why)) => wrong(500, &why),
                };
            }
            ApiRoute::Do(action) => {
                return match &self.caller {
                    Caller::Token(user) | Caller::Session { user, ours: true } => {
                        let action = match self.chosen(action) {
                            Ok(action) => action,
                            Err(why) => return wrong(400, &why),
                        };
                        if let Err(why) = self.allowed(&action, user) {
                            return wrong(403, &why);
                        }
                        match (library.act)(action, user.clone()) {
                            Ok(done) => self.json(200, api::done(&done)),
                            Err(what) => wrong(409, &what),
                        }
                    }
                    Caller::Session { .. } => wrong(403, "this request was sent from elsewhere"),
                    Caller::Nobody | Caller::Stranger => wrong(401, "only the signed-in may do that"),
                };
            }
        };
        found.map_or_else(|| wrong(404, "no such record"), |text| self.json(200, text))
    }
}
