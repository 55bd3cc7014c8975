//! Ten events of ten thousand jobs, and thousands who look → what a page takes, and what it takes to tell them all.
//!
//! The floor of a page is the answer to `/healthz` by the same curl. Those who look are sockets of this process on the list
//! of events; a job that is cancelled is told to each of them.

use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_rustls::TlsConnector;
use sai_agent::config::Config;
use sai_agent::pin;
use sai_core::join::JoinLine;
use sai_tests::figures::{heading, median, ms, row, seconds, settle};
use sai_tests::process::eventually_within;
use sai_tests::world::World;
use smol::stream::StreamExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Those who look, unless `SAI_BENCH_VIEWERS` says how many.
const VIEWERS: usize = 2000;
/// Events.
const EVENTS: u64 = 10;
/// Platforms of each.
const PLATFORMS: usize = 20;
/// Configurations of each: with the platforms, the most jobs that an event may have.
const CONFIGURATIONS: usize = 500;
/// Sockets that are opened at once.
const DIALS: usize = 64;
/// Bytes of a WebSocket's buffer.
const BUFFER: usize = 4096;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Times that a page is asked for.
const ROUNDS: usize = 9;

fn saifile() -> String {
    let list = |count: usize, letter: &str, value: &str| -> String {
        (0..count).map(|number| format!("\"{letter}{number}\": {value}")).collect::<Vec<_>>().join(", ")
    };
    let (platforms, configurations) = (list(PLATFORMS, "p", "{\"build\": \"true\"}"), list(CONFIGURATIONS, "c", "{}"));
    format!("{{\"schema\": \"sai-1\", \"platforms\": {{{platforms}}}, \"configurations\": {{{configurations}}}}}")
}

/// Opens a socket on the list of events and counts each message that comes.
async fn look(tls: TlsConnector, port: u16, up: Arc<AtomicUsize>, told: Arc<AtomicUsize>) {
    let tcp = smol::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let name = pin::server_name("127.0.0.1").expect("a name");
    let stream = tls.connect(name, tcp).await.expect("TLS");
    let address = format!("wss://127.0.0.1:{port}/live?page=events&since=9999999999999");
    let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
    let request = address.into_client_request().expect("a request");
    let opened = async_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    let (mut socket, _) = opened.expect("a WebSocket");
    up.fetch_add(1, Ordering::Relaxed);
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Text(text) = message
            && text.contains("1 cancelled")
        {
            told.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn main() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, all);
    let viewers = std::env::var("SAI_BENCH_VIEWERS").ok().and_then(|text| text.parse().ok()).unwrap_or(VIEWERS);
    let jobs = PLATFORMS * CONFIGURATIONS;
    heading(&format!("{EVENTS} events of {jobs} jobs, {viewers} who look"));
    let world = World::new("viewers");
    let master = world.master();
    std::fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    world.repository.write(".sai.json", saifile());
    for event in 1..=EVENTS {
        world.repository.commit("Go on");
        world.repository.push();
        assert!(world.get("/hook/project?ref=main").is_some());
        eventually_within(PATIENCE, "the event", || world.events().iter().any(|about| about.id == event).then_some(()));
    }
    let page = |path: &str| median(&(0..ROUNDS).map(|_| seconds(|| drop(world.page(path)))).collect::<Vec<_>>());
    let (floor, list) = (page("/healthz"), page("/"));
    row("the list of events, with curl's start", &ms(floor), &ms(list), (list * 1e3, " ms"), Some(100.0));

    let line: JoinLine = world.join_line("nobody").parse().expect("a join line");
    let config = Config::joined(&line);
    let tls = TlsConnector::from(pin::client_config(config.trust).expect("a configuration"));
    let (up, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let executor = Arc::new(smol::Executor::new());
    let runner = executor.clone();
    std::thread::spawn(move || smol::block_on(runner.run(std::future::pending::<()>())));
    let before = master.resident_kib();
    for count in (0..viewers).step_by(DIALS) {
        let now = DIALS.min(viewers - count);
        for _ in 0..now {
            executor.spawn(look(tls.clone(), world.port, up.clone(), told.clone())).detach();
        }
        eventually_within(PATIENCE, "they are up", || (up.load(Ordering::Relaxed) >= count + now).then_some(()));
    }
    settle();
    let each = master.resident_kib().saturating_sub(before) as f64 / viewers as f64;
    row("master's memory for each who looks", "", "", (each, " KiB"), None);
    let list = page("/");
    row("the list among them, with curl's start", &ms(floor), &ms(list), (list * 1e3, " ms"), Some(100.0));
    let took = seconds(|| {
        world.command(&["cancel", "job", "1"]);
        eventually_within(PATIENCE, "all are told", || (told.load(Ordering::Relaxed) >= viewers).then_some(()));
    });
    row("from a cancel until all are told of it", "", "", (took, " s"), None);
    let list = page("/");
    row("the list after that", &ms(floor), &ms(list), (list * 1e3, " ms"), Some(100.0));
}
