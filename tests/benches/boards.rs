//! A board that a person has → how soon it is theirs, and what it takes from its agent that twenty look at its console.
//!
//! The floor of the first is the job's own start: its record's moment 0, to which all of a log is relative. That of the second is the same
//! console with nobody who looks, before and after. Those who look are sockets of this process on the job's page, as a browser opens one.

use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use futures_rustls::TlsConnector;
use sai_agent::config::Config;
use sai_agent::pin;
use sai_core::axis::Entry;
use sai_core::join::JoinLine;
use sai_core::record::{Decoder, Item};
use sai_tests::figures::{self, heading, median, ms, row};
use sai_tests::process::eventually;
use sai_tests::tty::Tty;
use smol::stream::StreamExt as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Leases, one after the other.
const LEASES: usize = 15;
/// Edges, one after the other.
const EDGES: usize = 200;
/// Who looks.
const BROWSERS: usize = 20;
/// Bytes a second of a console of 3 Mbaud: ten bits each.
const RATE: usize = 300_000;
/// How long it is looked at each time.
const LOOKS: Duration = Duration::from_secs(10);
/// Bytes that the board says at once.
const PIECE: usize = 3000;
/// Ticks of the processor's time in a second: sysconf(_SC_CLK_TCK) of all Linux.
const TICKS: f64 = 100.0;

/// Microseconds from the start of a job to the first of its log that is of the board.
fn in_hand(log: &[u8]) -> Option<u64> {
    let mut first = None;
    let read = Decoder::new().push(log, |item| {
        if let Item::Later { micros, .. } | Item::Data { micros, .. } = item {
            first.get_or_insert(micros);
        }
    });
    read.ok().and(first)
}

/// Seconds of processor that the agent's processes have had: it, its jobs, owner and guard.
fn spent(bench: &Tty) -> f64 {
    let ours = |line: &String| !line.contains("sai-master");
    let number = |line: String| line.split(':').next()?.parse::<u32>().ok();
    let of = |process: u32| {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
    };
    bench.world.survivors().into_iter().filter(ours).filter_map(number).filter_map(of).sum::<f64>() / TICKS
}

/// Opens a socket of a page and counts what comes.
async fn look(tls: TlsConnector, address: String, token: String, port: u16, came: Arc<AtomicUsize>) {
    let tcp = smol::net::TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let name = pin::server_name("127.0.0.1").expect("a name");
    let stream = tls.connect(name, tcp).await.expect("TLS");
    let mut request = address.into_client_request().expect("a request");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    let (mut socket, _) = async_tungstenite::client_async(request, stream).await.expect("a WebSocket");
    while let Some(Ok(message)) = socket.next().await {
        came.fetch_add(message.len(), Ordering::Relaxed);
    }
}

/// Has the board speak for a while: what its agent spends on that.
fn speaks(bench: &Tty) -> f64 {
    let line = [&b"a line of a console that says much; "[..]; 3].concat();
    let text: Vec<u8> = line.iter().copied().chain([b'\n']).cycle().take(PIECE).collect();
    let (before, begun) = (spent(bench), Instant::now());
    let mut said = 0;
    while begun.elapsed() < LOOKS {
        let due = (begun.elapsed().as_secs_f64() * RATE as f64) as usize;
        while said < due {
            (&bench.boards[0]).write_all(&text).expect("the board speaks");
            said += text.len();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    spent(bench) - before
}

/// Bytes of a job's log that its agent holds, in the segments of all that run.
fn spooled(bench: &Tty) -> u64 {
    let jobs = bench.world.job_directories(&bench.world.agent_state("a")).into_iter();
    let segments = jobs.filter_map(|job| fs::read_dir(job.join("spool")).ok()).flatten().flatten();
    segments.filter_map(|segment| Some(segment.metadata().ok()?.len())).sum()
}

/// Milliseconds from when a line changes to when more of a log is in its agent's spool, in order. There is no kernel in it that has seen
/// the edge: `cargo bench -p sai-buddy --bench edges` is of that part.
fn edges(bench: &Tty, pipe: &Path) -> Vec<f64> {
    let mut pipe = fs::OpenOptions::new().write(true).open(pipe).expect("the pipe of a line");
    let mut took = Vec::new();
    for number in 0..EDGES {
        std::thread::sleep(Duration::from_millis(5));
        let (before, began) = (spooled(bench), Instant::now());
        pipe.write_all(if number % 2 == 0 { b"a1" } else { b"a0" }).expect("an edge");
        while spooled(bench) == before {
            assert!(began.elapsed() < LOOKS, "edge {number} is not recorded");
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    took
}

fn main() -> ExitCode {
    let bench = Tty::new("bench-boards");
    let name = bench.world.directory.file_name().expect("a name").to_string_lossy().into_owned();
    let file = bench.world.directory.join("boards-1.json");
    let text = fs::read_to_string(&file).expect("a bench");
    let line = format!(
        "\"lines\": {{ \"led\": {{ \"chip\": \"levels:{name}\", \"line\": 1, \"direction\": \"in\" }} }}, \"sequences\""
    );
    fs::write(&file, text.replace("\"sequences\"", &line)).expect("a bench");
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    let token = world.command(&["user", "add", "ann", "admin"]).trim().to_owned();
    let asks = || {
        let (_, body) = world.post("/api/v1/boards/lease?type=tty&minutes=30", Some(&token));
        let job =
            body.rsplit("\"job\":").next().and_then(|rest| rest.trim_end_matches(['}', '\n']).parse::<u64>().ok());
        job.unwrap_or_else(|| panic!("a job: {body}"))
    };
    eventually("the board is offered", || {
        String::from_utf8(world.get("/api/v1/units")?).ok().filter(|units| units.contains("a/tty-1"))
    });
    let log =
        |job: u64| Some(world.get_as(&format!("/job/{job}/records"), &token)).filter(|(status, _)| *status == 200);
    heading("A board of an agent on this machine");
    let taken = |job: u64| eventually("the board is there", || in_hand(&log(job)?.1).map(|micros| micros as f64 / 1e6));
    let mut hands = Vec::new();
    for _ in 0..LEASES {
        let job = asks();
        hands.push(taken(job));
        let (status, said) = world.post(&format!("/api/v1/jobs/{job}/cancel"), Some(&token));
        assert_eq!(status, 200, "{said}");
        eventually("it is over", || {
            String::from_utf8(world.get(&format!("/api/v1/jobs/{job}"))?)
                .ok()
                .filter(|job| job.contains("\"ended_at\":\""))
        });
    }
    let middle = median(&hands);
    row("a job's start to its board in hand", "0 ms", &ms(middle), (middle * 1e3, " ms"), Some(20.0));

    let job = asks();
    taken(job);
    let line: JoinLine = world.join_line("nobody").parse().expect("a join line");
    let tls = TlsConnector::from(pin::client_config(Config::joined(&line).trust).expect("a configuration"));
    let page = String::from_utf8(world.get_as(&format!("/job/{job}"), &token).1).expect("a page");
    let live =
        page.split_once("data-live=\"").and_then(|(_, rest)| rest.split('"').next()).expect("what is live there");
    let address = format!("wss://127.0.0.1:{}{}", world.port, live.replace("&amp;", "&"));
    let executor = Arc::new(smol::Executor::new());
    let runner = executor.clone();
    std::thread::spawn(move || smol::block_on(runner.run(std::future::pending::<()>())));
    let came = Arc::new(AtomicUsize::new(0));
    let pipe = Path::new("/dev/shm").join(format!("{name}.in"));
    let took = edges(&bench, &pipe);
    let of = format!("{EDGES} edges");
    row("an edge of a line to the spool, median", "", &of, (median(&took), " ms"), None);
    row("an edge of a line to the spool, worst", "", &of, (took[EDGES - 1], " ms"), None);
    let recorded = eventually("all of them are in the log", || {
        let mut count = 0;
        let read = Decoder::new().push(&log(job)?.1, |item| {
            if let Item::Later { kind, channel, payload, .. } = item
                && let Some(Entry::Edges(edges)) = Entry::decode(kind, channel, payload)
            {
                count += edges.len();
            }
        });
        read.ok().filter(|_| count >= EDGES).map(|_| count)
    });
    assert_eq!(recorded, EDGES);
    fs::remove_file(&pipe).expect("removed");
    let mut alone = vec![speaks(&bench)];
    let lookers: Vec<_> = (0..BROWSERS)
        .map(|_| executor.spawn(look(tls.clone(), address.clone(), token.clone(), world.port, came.clone())))
        .collect();
    eventually("they look", || (came.load(Ordering::Relaxed) > 0).then_some(()));
    let watched = speaks(&bench);
    drop(lookers);
    eprintln!("{} bytes came to {BROWSERS} who look", came.load(Ordering::Relaxed));
    alone.push(speaks(&bench));
    let floor = median(&alone);
    let figure = watched / floor;
    row("what a console takes of its agent, watched", &ms(floor), &ms(watched), (figure, " x"), Some(1.1));
    figures::ended()
}
