//! Thousands of agents that do nothing → what they cost the master in time and memory, and what is left when they are gone.
//!
//! The agents are links of this process that greet, tell their load now and then as real ones do, and wait. The floor of their coming is a server of its own process
//! that takes as many links with the same crates and certificate, TLS and WebSocket alone: no token, greeting or record. The
//! start of a job is measured from the hook's request to the assignment's arrival at its agent, first with that agent
//! alone, then among all of them.

use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_rustls::TlsAcceptor;
use sai_agent::config::Config;
use sai_agent::link::{Dialer, Frame, Link, Timing};
use sai_agent::pin::Trust;
use sai_core::join::{Address, JoinLine};
use sai_core::wire::{AgentMessage, DataHeader, Load, MasterMessage};
use sai_master::tls::{Identity, Sources};
use sai_tests::figures::{heading, median, ms, row, seconds, settle};
use sai_tests::peer::{hello, passed_log};
use sai_tests::process::{Process, eventually, eventually_within};
use sai_tests::repository::saifile;
use sai_tests::world::{World, free_port};
use smol::stream::StreamExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Idle agents, unless `SAI_BENCH_AGENTS` says how many.
const AGENTS: usize = 5000;
/// Dials under way at once: below the connections that one address may have before it is known.
const DIALS: usize = 64;
/// Pushes measured.
const ROUNDS: usize = 11;
/// Platforms that each offers: those of an agent with images of several distros.
const PLATFORMS: usize = 8;
/// Jobs that wait all the time, for a platform that nobody offers.
const WAITING: usize = 50;
/// Time between two words of an agent about its load: how often real ones look at it.
const LOAD: Duration = Duration::from_secs(10);
/// Bytes of a WebSocket's buffer, as the master's have.
const BUFFER: usize = 4096;
/// The option that makes this program the floor's server.
const BARE: &str = "--bare-server";
/// How long all may take to come.
const COMING: Duration = Duration::from_secs(600);
/// Time after which the memory that large pages took should have been given back.
const GIVEN_BACK: Duration = Duration::from_secs(10);
/// Time after which memory and threads that are not needed should have been given back.
const REST: Duration = Duration::from_secs(30);

/// What is common to all links of a run.
#[derive(Clone)]
struct Crowd {
    executor: Arc<smol::Executor<'static>>,
    welcomed: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    assigned: SyncSender<Instant>,
}

impl Crowd {
    fn new() -> (Self, Receiver<Instant>) {
        let executor = Arc::new(smol::Executor::new());
        let runner = executor.clone();
        std::thread::spawn(move || smol::block_on(runner.run(std::future::pending::<()>())));
        let (assigned, moments) = sync_channel(64);
        (Self { executor, welcomed: Arc::default(), lost: Arc::default(), assigned }, moments)
    }

    /// Dials with all of these, some at once, and then leaves each link to `then`; gives the tasks that hold them.
    fn dial<T: Future<Output = ()> + Send + 'static>(
        &self,
        dialers: Vec<Dialer>,
        then: impl Fn(Self, usize, Link) -> T + Clone + Send + 'static,
    ) -> Vec<smol::Task<()>> {
        let places = Arc::new(smol::lock::Semaphore::new(DIALS));
        let dial = |(number, dialer): (usize, Dialer)| {
            let (places, crowd, then) = (places.clone(), self.clone(), then.clone());
            self.executor.spawn(async move {
                let place = places.acquire_arc().await;
                let link = dialer.dial().await.unwrap_or_else(|error| panic!("agent {number}: {error}"));
                drop(place);
                then(crowd, number, link).await;
            })
        };
        dialers.into_iter().enumerate().map(dial).collect()
    }

    fn await_welcomes(&self, count: usize) {
        eventually_within(COMING, "all are welcomed", || {
            (self.welcomed.load(Ordering::Relaxed) >= count).then_some(())
        });
    }
}

/// Greets, tells its load, and passes every job at once.
async fn idle(crowd: Crowd, number: usize, link: Link) {
    let Link { sender, receiver, driver } = link;
    let load = async {
        let mut load_permille = number as u32 % 100;
        loop {
            let load = AgentMessage::Load(Load { load_permille, free_mib: 100_000 });
            if sender.send(Frame::Text(load.encode())).await.is_err() {
                return;
            }
            load_permille = (load_permille + 300) % 1000;
            smol::Timer::after(LOAD).await;
        }
    };
    let listen = async {
        let platforms: Vec<String> = (0..PLATFORMS).map(|number| format!("linux-bench-{number}/x86_64/gcc")).collect();
        let platforms: Vec<&str> = platforms.iter().map(String::as_str).collect();
        let greeting = AgentMessage::Hello(hello(number as u128, &platforms, 1, &[]));
        let _ = sender.send(Frame::Text(greeting.encode())).await;
        while let Some(frame) = receiver.receive().await {
            let Frame::Text(text) = frame else { continue };
            match MasterMessage::decode(&text) {
                Ok(MasterMessage::Welcome(_)) => _ = crowd.welcomed.fetch_add(1, Ordering::Relaxed),
                Ok(MasterMessage::Assign(assignment)) => {
                    let _ = crowd.assigned.try_send(Instant::now());
                    let header = DataHeader { key: assignment.key, stream: 0, offset: 0 };
                    let frame = [header.encode().as_slice(), &passed_log()].concat();
                    let _ = sender.send(Frame::Binary(frame)).await;
                }
                _ => {}
            }
        }
        crowd.lost.fetch_add(1, Ordering::Relaxed);
    };
    let both = smol::future::zip(listen, load);
    match driver {
        Some(driver) => drop(smol::future::zip(both, driver).await),
        None => drop(both.await),
    }
}

/// Holds a link that nobody greets over.
async fn hold(crowd: Crowd, link: Link) {
    crowd.welcomed.fetch_add(1, Ordering::Relaxed);
    let Link { sender, receiver, driver } = link;
    let listen = async {
        while receiver.receive().await.is_some() {}
        drop(sender);
    };
    match driver {
        Some(driver) => drop(smol::future::zip(listen, driver).await),
        None => listen.await,
    }
}

/// Makes room for as many connections as the system allows.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The floor's server: takes links until it is killed.
fn bare_server(port: u16, directory: &Path) {
    raise_descriptors();
    let sources = Sources { operator: None, directory: directory.join("tls"), names: Vec::new() };
    let identity = Identity::load(sources).expect("a certificate");
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a port");
    rustix::net::listen(&listener, 1024).expect("a backlog");
    let listener = smol::Async::new(listener).expect("a listener");
    eprintln!("fingerprint {}", sai_agent::pin::fingerprint_text(&identity.fingerprint()));
    smol::block_on(async {
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let acceptor = TlsAcceptor::from(identity.server_config());
            smol::spawn(async move {
                let _ = tcp.get_ref().set_nodelay(true);
                let tls = acceptor.accept(tcp).await.expect("TLS");
                let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
                let taken = async_tungstenite::accept_async_with_config(tls, Some(config)).await;
                let (_writer, mut reader) = Box::new(taken.expect("a WebSocket")).split();
                while let Some(Ok(_)) = reader.next().await {}
            })
            .detach();
        }
    });
}

/// Seconds that as many bare links take to come, and KiB that each takes in their server.
fn floor(world: &World, count: usize) -> (f64, f64) {
    let port = free_port();
    let place = world.directory.join("bare");
    std::fs::create_dir_all(&place).expect("a directory");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(BARE).arg(port.to_string()).arg(&place).stdout(Stdio::null());
    let server = Process::start("bare", &mut command);
    let said = server.await_line("fingerprint ");
    let pin = sai_agent::pin::parse_fingerprint(said.rsplit(' ').next().unwrap_or_default()).expect("a fingerprint");
    let address: Address = format!("wss://127.0.0.1:{port}").parse().expect("an address");
    let dialer = Dialer::new(address, Trust::Fingerprint(pin), "none".to_owned(), Timing::default()).expect("a dialer");
    let (crowd, _moments) = Crowd::new();
    let before = server.resident_kib();
    let mut links = Vec::new();
    let took = seconds(|| {
        links = crowd.dial(vec![dialer; count], |crowd, _, link| hold(crowd, link));
        crowd.await_welcomes(count);
    });
    settle();
    let each = server.resident_kib().saturating_sub(before) as f64 / count as f64;
    (took, each)
}

/// Seconds from a hook's request to the arrival of its assignment, in the middle of some.
fn start_of_a_job(world: &World, assigned: &Receiver<Instant>, event: &mut u64) -> f64 {
    let mut times = Vec::new();
    for round in 0..=ROUNDS {
        world.repository.commit("Go on");
        world.repository.push();
        settle();
        let begin = Instant::now();
        assert!(world.get("/hook/project?ref=main").is_some());
        let arrived = assigned.recv_timeout(Duration::from_secs(60)).expect("an assignment");
        *event += 1;
        world.ended(*event);
        if round > 0 {
            times.push(arrived.duration_since(begin).as_secs_f64());
        }
    }
    median(&times)
}

fn threads(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", process.id())).map_or(0, Iterator::count)
}

/// Seconds of processor time that a process has used.
fn processor_s(process: &Process) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).into_iter().flatten().flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == BARE) {
        return bare_server(arguments[at + 1].parse().expect("a port"), Path::new(&arguments[at + 2]));
    }
    raise_descriptors();
    let agents = std::env::var("SAI_BENCH_AGENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(AGENTS);
    heading(&format!("{agents} idle agents"));
    let world = World::new("idle");
    let master = world.master();
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    let waiting: Vec<String> = (0..WAITING).map(|number| format!("\"w{number}\": {{}}")).collect();
    let waiting = waiting.join(", ");
    world.repository.write(
        ".sai.json",
        format!(
            "{{\"schema\": \"sai-1\", \"platforms\": {{\"unknown\": {{\"build\": \"true\"}}}}, \"configurations\": {{{waiting}}}}}"
        ),
    );
    world.repository.commit("Wait");
    world.repository.push();
    assert!(world.get("/hook/project?ref=main").is_some());
    eventually("the jobs that wait", || world.event(1));
    world.repository.write(".sai.json", saifile(&["true"]));
    let (crowd, assigned) = Crowd::new();
    let dialer = |line: &str| {
        let line: JoinLine = line.parse().expect("a join line");
        let config = Config::joined(&line);
        Dialer::new(config.master, config.trust, config.token, Timing::default()).expect("a dialer")
    };
    let one = dialer(&world.join_line("one"));
    let _one = crowd.dial(vec![one], move |crowd, _, link| async move {
        idle(crowd, AGENTS * 10, link).await;
    });
    crowd.await_welcomes(1);
    let mut event = 1;
    let alone = start_of_a_job(&world, &assigned, &mut event);

    let (floor_s, floor_kib) = floor(&world, agents);

    let names: Vec<String> = (0..agents).map(|number| format!("idle-{number}")).collect();
    let mut lines = Vec::new();
    let adding = seconds(|| {
        let words: Vec<&str> = ["agent", "add"].into_iter().chain(names.iter().map(String::as_str)).collect();
        lines = world.command(&words).lines().map(str::to_owned).collect();
    });
    assert_eq!(lines.len(), agents, "a line for each");
    row("adding all of them, one command", "", "", (adding, " s"), None);

    let dialers: Vec<Dialer> = lines.iter().map(|line| dialer(line)).collect();
    let (before, busy) = (master.resident_kib(), processor_s(&master));
    let mut links = Vec::new();
    let took = seconds(|| {
        links = crowd.dial(dialers, |crowd, number, link| async move {
            idle(crowd, number, link).await;
        });
        crowd.await_welcomes(agents + 1);
    });
    let busy = processor_s(&master) - busy;
    settle();
    let after = master.resident_kib();
    let each = after.saturating_sub(before) as f64 / agents as f64;
    row("until all are welcomed", &format!("{floor_s:.2} s"), &format!("{took:.2} s"), (took, " s"), Some(15.0));
    row("  the same against the floor", "", "", (took / floor_s, " x"), None);
    row("  the master's processor time", "", "", (busy, " s"), None);
    row("master's memory for each", &format!("{floor_kib:.1} KiB"), "", (each, " KiB"), Some(32.0));
    let among = start_of_a_job(&world, &assigned, &mut event);
    row("hook to assignment, with curl's start", &ms(alone), &ms(among), ((among - alone) * 1e3, " ms"), Some(50.0));
    let page = || median(&(0..5).map(|_| seconds(|| drop(world.page("/agents")))).collect::<Vec<_>>());
    row("the page of agents, with curl's start", "", &ms(page()), (page() * 1e3, " ms"), Some(100.0));
    std::thread::sleep(GIVEN_BACK);
    let later = master.resident_kib();
    let each = later.saturating_sub(before) as f64 / agents as f64;
    row("master's memory for each, after that", "", &format!("{later} KiB"), (each, " KiB"), Some(32.0));
    let lost = crowd.lost.load(Ordering::Relaxed);
    row("links lost", "", "", (lost as f64, ""), Some(0.0));

    let going = seconds(|| {
        drop(links);
        eventually("the master sees them go", || {
            let text = world.page("/api/v1/agents");
            (text.matches("\"state\":\"away\"").count() >= agents).then_some(())
        });
    });
    row("until all are seen to be gone", "", "", (going, " s"), None);
    std::thread::sleep(REST);
    let kib = |kib: u64| format!("{kib} KiB");
    let left = master.resident_kib();
    row("memory when all are gone", &kib(before), &kib(left), (left as f64 / 1024.0, " MiB"), None);
    row("threads when all are gone", "", "", (threads(&master) as f64, ""), None);
}
