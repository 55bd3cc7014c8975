//! Config → running master: opens what it keeps, restores what it was doing, and starts every part in order.

use crate::actions::{Actions, Door};
use crate::addresses;
use crate::agents::{self, INSIDE, NoToken, Tokens};
use crate::builtin::{self, BuiltinAgent};
use crate::config::{Certificate, Config, Shown};
use crate::forge::Forge;
use crate::front::{Front, FrontConfig, Greeting, Lane, Limits, Rejection, RequestHead, Socket, Upgrades};
use crate::hooks::Hooks;
use crate::http::{HttpServer, Request, Response};
use crate::hub::{HubEdge, HubHandle, Parts};
use crate::lines::Lines;
use crate::live::{Changes, Live};
use crate::needs;
use crate::page;
use crate::page::first_error::Remembered;
use crate::page::library::Library;
use crate::page::route::{ApiRoute, Route, route};
use crate::page_socket::page_socket;
use crate::plans::{keep, kept};
use crate::prefix::Prefix;
use crate::repositories::{Repositories, Shared};
use crate::sessions::Sessions;
use crate::status::About;
use crate::store::{LogReader, Options, Restored, Store};
use crate::tls::{self, Identity, Sources};
use crate::update_key::UpdateKey;
use crate::uploads::Uploads;
use crate::{admin, say, viewers};
use sai_agent::blocking::{detach, unblock};
use sai_agent::clock;
use sai_agent::link::{Link, Timing};
use sai_core::hub::{Hub, Output, Terms};
use sai_core::job::JobKey;
use sai_core::join::Address;
use sai_core::numbers::Numbers;
use sai_core::ordered::Map;
use sai_core::restart::{self, Ledger, Restart};
use sai_core::scheduler::Policy;
use sai_core::wire::REVOKED;
use std::collections::VecDeque;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

/// Time between two rounds of retention.
const RETENTION: Duration = Duration::from_secs(3600);

/// A running master.
pub struct Master {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Its own address for people, `https://HOST:PORT`.
    pub url: String,
    /// The hub.
    pub hub: HubHandle,
    /// What events are made with.
    pub shared: Shared,
    /// What is kept.
    pub store: Store,
    /// What is done for people.
    pub actions: Arc<Actions>,
    /// The agent inside, unless it is off.
    pub builtin: Option<BuiltinAgent>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) config: Config,
    _front: Front,
}

/// Starts all parts.
///
/// # Errors
/// What is wrong, and where.
pub fn start(config: Config) -> Result<Master, String> {
    let state = make_state(&config.state)?;
    let identity = Arc::new(Identity::load(tls_sources(&config)).map_err(|error| error.to_string())?);
    if let (Ok(address), None) = (own_address(&config), &config.shown_certificate)
        && !identity.names(&address.host)
    {
        say(&format!(
            "the certificate does not name {0}: agents that pin its fingerprint do not mind, but browsers, and curl with \
             this certificate, will not accept it there (scripts/gen-selfsigned-certs.sh DIR {0} makes one that does)",
            address.host
        ));
    }
    let edge = HubEdge::new();
    let options = Options { low_mib: config.min_free_mib, ..Options::new(edge.reporter()) };
    let (store, restored) = Store::open(&state, options).map_err(|error| error.to_string())?;
    for line in &restored.told {
        say(line);
    }
    edge.number_from(Numbers { event: restored.next_event, job: restored.next_job, action: restored.next_action });
    let (hub, first) = restore(&config, &store, &restored)?;
    let handle = edge.handle();
    let live = Live { url: own_url(&config, &config.listen), ..Live::default() };
    let live = Arc::new(RwLock::new(live));
    let changes = Arc::new(Changes::new());
    let parts = Parts { hub, first, store: store.clone(), live: live.clone(), changes: changes.clone() };
    std::thread::Builder::new()
        .name("hub".to_string())
        .spawn(move || smol::block_on(edge.run(parts)))
        .map_err(|error| format!("no thread for the hub: {error}"))?;

    let forge = Forge::open(&state.join("repositories")).map_err(|error| format!("git's caches: {error}"))?;
    let shared = Shared {
        hub: handle.clone(),
        store: store.clone(),
        forge: Arc::new(forge),
        live: live.clone(),
        changes: changes.clone(),
        lines: Lines::default(),
    };
    let repositories = Repositories::start(&config, &state, &shared, &restored.tips);
    let repositories = Arc::new(repositories.map_err(|error| format!("the pokes: {error}"))?);
    let tokens = Arc::new(Tokens::new(&restored.agents));
    let door = door(&config, &identity)?;
    let uploads = Arc::new(Uploads::new(&state));
    let about = About {
        url: own_url(&config, &config.listen),
        fingerprint: door.fingerprint,
        state: state.clone(),
        since: clock::wall(),
    };
    let actions = Arc::new(Actions {
        hub: handle.clone(),
        repositories: repositories.clone(),
        changes: changes.clone(),
        reader: store.reader(),
        store: store.clone(),
        keep: Mutex::new(config.keep),
        tokens: tokens.clone(),
        door,
        live: live.clone(),
        about,
        uploads: uploads.clone(),
        update_key: Arc::new(UpdateKey::load(&state)?),
    });
    let performer = actions.clone();
    let prefix = Prefix::of(config.url.as_deref());
    let library = Arc::new(Library {
        first_errors: Remembered::default(),
        known_cases: Default::default(),
        archive: Box::new(store.reader()),
        live,
        changes,
        sessions: Sessions::new(),
        prefix: prefix.clone(),
        sums: page::sums::Sums::default(),
        rooms: Arc::default(),
        act: Box::new(move |action, who| smol::block_on(performer.perform(action, &who))),
        public: config.public,
    });
    let pages = library.clone();
    let hooks = Arc::new(Hooks::new(&config, repositories, &state)?);
    let receiver = hooks.clone();
    let shown = identity.clone();
    let (opens, files, kept_images) = (tokens.clone(), store.reader(), state.clone());
    let handler = move |request: Request| match (request.path.as_str(), request.method.as_str()) {
        (path, _) if path.starts_with("/hook/") => receiver.respond(&request),
        (path, _) if path.starts_with(needs::PLACE) => needs::respond(&opens, &files, &kept_images, &uploads, &request),
        // Everybody who connects is shown it anyway.
        ("/cert.pem", "GET" | "HEAD") => {
            Response::bytes(200, "application/x-pem-file", shown.chain_pem()).with("cache-control", "no-cache")
        }
        _ => page::respond(&pages, &request),
    };
    let http = HttpServer::start(&state.join("http"), Limits::default().at_backend(), Arc::new(handler))
        .map_err(|error| format!("the page's socket: {error}"))?;
    let front = FrontConfig {
        listen: config.listen.clone(),
        backend: http.backend(),
        proxies: config.trusted_proxies.clone(),
        prefix,
        limits: Limits::default(),
        report: Arc::new(|line: String| say(&line)),
    };
    let doors = Doors { hub: handle.clone(), tokens, library, _http: http };
    let front = Front::start(front, identity, doors).map_err(|error| error.to_string())?;
    admin::listen(&state, actions.clone()).map_err(|error| format!("the command socket: {error}"))?;
    let builtin =
        config.builtin.as_ref().map(|builtin| builtin::start(builtin, &state, &handle, &store)).transpose()?;
    let (kept, keeper) = (store.clone(), actions.clone());
    detach(async move {
        let mut doubted = false;
        loop {
            let (store, keep) = (kept.clone(), keeper.keep());
            let report = unblock(move || crate::store::gc(&store, keep)).await;
            // Once, and not every hour.
            if let Some(doubt) = report.doubt().filter(|_| !doubted) {
                say(&format!("retention: {doubt}"));
            }
            doubted = report.doubtful > 0;
            if let Some(trouble) = report.trouble {
                say(&format!("retention: {trouble}"));
            } else if report.more {
                continue;
            }
            let uploads = keeper.uploads.clone();
            if let Err(error) = unblock(move || uploads.forget()).await {
                say(&format!("retention: {error}"));
            }
            smol::Timer::after(RETENTION).await;
        }
    });
    let addresses = front.addresses().to_vec();
    let url = own_url(&config, &addresses);
    hooks.show_url(&url);
    Ok(Master { addresses, url, hub: handle, shared, store, actions, builtin, hooks, config, _front: front })
}

/// Makes the state directory if there is none. Others may pass through it, since jobs may run as another user than the
/// master; what is in it is closed to them.
///
/// # Errors
/// Why it cannot be made or used.
pub fn make_state(state: &Path) -> Result<PathBuf, String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state)
        .and_then(|()| state.canonicalize())
        .map_err(|error| format!("{}: cannot be used: {error}", state.display()))
}

/// Where the certificates of this configuration are.
pub fn tls_sources(config: &Config) -> Sources {
    let mut names: Vec<String> = own_address(config).map(|address| address.host).into_iter().collect();
    if config.url.is_none() {
        names.extend(addresses::of_this_machine().iter().map(ToString::to_string));
    }
    Sources {
        operator: config.certificate.as_ref().map(|files| (files.chain.clone(), files.key.clone())),
        directory: config.state.join("tls"),
        names,
    }
}

/// What goes into this configuration's join lines.
///
/// # Errors
/// The configured address is none that agents could dial.
pub fn door(config: &Config, identity: &Identity) -> Result<Door, String> {
    let fingerprint = match (&config.shown_certificate, &config.certificate) {
        (Some(Shown::File(file)), _) => Some(tls::fingerprint_of(file).map_err(|error| error.to_string())?),
        (Some(Shown::Authority), _) | (None, Some(Certificate { public_authority: true, .. })) => None,
        (None, _) => Some(identity.fingerprint()),
    };
    let address = own_address(config)?;
    let everywhere = config.listen.iter().any(|listen| listen.ip().is_unspecified() && listen.port() == address.port);
    Ok(Door {
        // An authority vouches for names, so an address would not be believed.
        everywhere: config.url.is_none() && everywhere && fingerprint.is_some(),
        address,
        fingerprint,
        update_key: UpdateKey::load(&config.state)?.public(),
    })
}

/// The one address that stands for this master: the configured one, else this machine's name, or the one address it
/// listens on.
fn own_address(config: &Config) -> Result<Address, String> {
    match (&config.url, config.listen.first()) {
        (Some(url), _) => url.replacen("https://", "wss://", 1).parse(),
        (None, Some(listen)) if !listen.ip().is_unspecified() => {
            Ok(Address::new(listen.ip().to_canonical().to_string(), listen.port()))
        }
        (None, listen) => {
            let port = listen.map_or(crate::config::PORT, SocketAddr::port);
            format!("wss://{}:{port}", host_name()).parse()
        }
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let usable = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-.".contains(letter));
    if usable { name } else { "localhost".to_string() }
}

fn own_url(config: &Config, addresses: &[SocketAddr]) -> String {
    if let Some(url) = &config.url {
        return url.clone();
    }
    match addresses.first() {
        Some(address) if address.ip().is_loopback() => format!("https://localhost:{}", address.port()),
        Some(address) => format!("https://{}:{}", host_name(), address.port()),
        None => String::new(),
    }
}

/// What a configuration says about every job.
pub(crate) fn rules(config: &Config) -> (Terms, Policy) {
    let submodules = config.repositories.iter().map(|(name, repository)| (name.clone(), repository.submodules));
    let places = config.repositories.iter().map(|(name, repository)| (name.clone(), repository.url.clone()));
    let terms = Terms {
        version: env!("CARGO_PKG_VERSION").to_string(),
        log_bytes: config.log_bytes,
        log_limit_fails: config.log_limit_fails,
        timeout_s: config.timeout_s,
        submodules: Map::from_iter(submodules),
        places: Map::from_iter(places),
        units: config.units.clone(),
    };
    let policy = Policy {
        orphan_ms: config.orphan_s.saturating_mul(1000),
        expire_ms: config.expire_s.saturating_mul(1000),
        ..Policy::default()
    };
    (terms, policy)
}

/// Makes the hub's machine what it was, from the records and the lengths of files alone, as the core says.
fn restore(config: &Config, store: &Store, restored: &Restored) -> Result<(Hub, Vec<Output>), String> {
    let (terms, policy) = rules(config);
    let mut hub = Hub::new(terms, policy);
    let mut outputs = Vec::new();
    let now = clock::now();
    let reader = store.reader();
    let ledger = Ledger {
        agents: restored.agents.clone(),
        inside: config.builtin.as_ref().map(|_| INSIDE.to_string()),
        events: restored.events.clone(),
        jobs: restored.jobs.clone(),
    };
    let mut machine = Restart::default();
    let mut log: Option<(JobKey, LogReader)> = None;
    let mut inputs = VecDeque::from([restart::Input::Ledger(ledger)]);
    while let Some(input) = inputs.pop_front() {
        let mut said = Vec::new();
        machine.handle(now, input, &mut said);
        for output in said {
            match output {
                restart::Output::Hub(input) => hub.handle(now, input, &mut outputs),
                restart::Output::Plan(event) => inputs.push_back(restart::Input::Plan(kept(&reader, event.id))),
                restart::Output::Keep(event, specs) => keep(store, event, &specs),
                restart::Output::Lengths(key) => {
                    let lengths = store.files().lengths(key).map_err(|error| unreadable(key, &error))?;
                    inputs.push_back(restart::Input::Lengths(lengths));
                }
                restart::Output::Log(key, _, most) => {
                    // What follows the last piece is asked for, so that no place needs to be looked for.
                    let open = match log.take().filter(|(open, _)| *open == key) {
                        Some(open) => Ok(open),
                        None => reader.log(key).map(|reader| (key, reader)),
                    };
                    let mut bytes = vec![0; usize::try_from(most).unwrap_or(0)];
                    let (key, mut open) = open.map_err(|error| unreadable(key, &error))?;
                    open.read_exact(&mut bytes).map_err(|error| unreadable(key, &error))?;
                    log = Some((key, open));
                    inputs.push_back(restart::Input::Log(bytes));
                }
                restart::Output::Say(text) => say(&text),
                // Told with what the hub says first, once there is somebody who can be told.
                restart::Output::Bug(what) => outputs.push(Output::Bug(what)),
            }
        }
    }
    Ok((hub, outputs))
}

fn unreadable(key: JobKey, error: &std::io::Error) -> String {
    format!("the log of job {key}: {error}")
}

/// Who is let in where.
struct Doors {
    hub: HubHandle,
    tokens: Arc<Tokens>,
    library: Arc<Library>,
    _http: HttpServer,
}

impl Upgrades for Doors {
    type Agent = String;
    type Viewer = Option<String>;

    async fn authorize_agent(&self, _head: &RequestHead, token: &str) -> Result<String, Rejection> {
        self.tokens.agent(token).map_err(|why| match why {
            NoToken::Revoked => Rejection::new(401, format!("{REVOKED}this agent's token was revoked")),
            NoToken::Unknown => Rejection::new(401, "this token opens nothing here"),
        })
    }

    async fn authorize_viewer(&self, head: &RequestHead) -> Result<Option<String>, Rejection> {
        let request = Request {
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            headers: head.headers.clone(),
            body: Vec::new(),
            peer: head.peer.to_string(),
        };
        page::may_view(&self.library, &request).map_err(|status| Rejection::new(status, "sign in first"))
    }

    async fn agent(&self, agent: String, socket: Box<Socket>, greeting: Arc<Greeting>) {
        agents::carry(&self.hub, agent, Link::over(*socket, Timing::default()), || greeting.done()).await;
    }

    fn lane(&self, head: &RequestHead) -> Lane {
        if head.path.starts_with("/hook/") {
            return Lane::Hook;
        }
        if head.path.starts_with(needs::PLACE) {
            return Lane::Bulk;
        }
        match route(&head.method, &head.path) {
            Route::Health => Lane::Hook,
            Route::Log(..) | Route::Records(..) | Route::Artifact(..) | Route::Api(ApiRoute::Log(_)) => Lane::Bulk,
            _ => Lane::Page,
        }
    }

    async fn live(&self, who: Option<String>, head: RequestHead, socket: Box<Socket>) {
        let (mut page, gone) = page_socket(*socket, Timing::default(), self.library.prefix.clone());
        viewers::view(&mut page, gone, &head.target(), who, self.library.clone()).await;
    }
}
