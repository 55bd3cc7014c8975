//! Many clients that take their time, or take up room, and whether all others are still served.
//!
//! Apart from the front's other tests, some of which look at how much memory the process has.

#[path = "../../../tests/src/steady.rs"]
mod steady;
#[path = "../front/support.rs"]
#[allow(dead_code, reason = "each test program uses its part")]
mod support;

use crate::steady::steadily;
use crate::support::{BIG, Client, TEXT, World, read_response, soon, tcp_from, world};
use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::{WebSocketStream, client_async};
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::time::{Duration, Instant};

/// Time in which everybody is answered, whatever others do: within milliseconds on a machine that has nothing else to do. Who
/// has to wait for those who are slow waits for as long as they are allowed to be, half a minute.
const PROMPT: Duration = Duration::from_secs(5);
/// A machine that stands still for as long is no measure of that.
const PAUSE: Duration = Duration::from_millis(250);

/// Connects from one of this machine's addresses.
async fn connect(world: &World, from: &str) -> std::io::Result<Client> {
    world.secure(Async::new(tcp_from(from, world.address)?)?, world.identity.fingerprint()).await
}

/// Asks for something on a connection of its own and does not read it. After `/idle` more may be asked.
async fn ask(world: &World, from: &str, target: &str) -> std::io::Result<Client> {
    let end = if target == "/idle" { "" } else { "connection: close\r\n" };
    let mut client = connect(world, from).await?;
    client.write_all(format!("GET {target} HTTP/1.1\r\nhost: a\r\n{end}\r\n").as_bytes()).await?;
    client.flush().await?;
    Ok(client)
}

/// Has page, hook and a short download answered on new connections from this address, each within [`PROMPT`].
async fn is_served(world: &World, from: &str) {
    for target in ["/page", "/hook", "/file"] {
        let begun = Instant::now();
        let mut client = ask(world, from, target).await.unwrap_or_else(|error| panic!("{from}{target}: {error}"));
        let response = read_response(&mut client).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(begun.elapsed() < PROMPT, "{from}{target} took {:?}", begun.elapsed());
    }
}

/// Opens an agent's link with a token.
async fn agent(world: &World, from: &str, token: &str) -> Result<WebSocketStream<Client>, String> {
    let mut request = format!("wss://{}/agent", world.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let client = connect(world, from).await.map_err(|error| error.to_string())?;
    client_async(request, client).await.map(|(socket, _)| socket).map_err(|error| error.to_string())
}

#[test]
fn five_hundred_slow_readers_hold_up_nobody() {
    steadily(PAUSE, five_hundred_slow_readers);
}

fn five_hundred_slow_readers() {
    let world = world(|_| ());
    smol::block_on(soon(async {
        let mut readers = Vec::new();
        // All behind one address, as people in one house are. Files, streams and long pages alike.
        for number in 0..500 {
            let target = ["/big", "/text", "/big", "/file"][number % 4];
            readers.push(ask(&world, "127.0.0.1", target).await);
            if number % 100 == 50 {
                is_served(&world, "127.0.0.1").await;
            }
        }
        is_served(&world, "127.0.0.1").await;
        is_served(&world, "127.0.0.2").await;
        // Those who begin to read get what they asked for, unless they had to give way.
        let mut text = ask(&world, "127.0.0.2", "/text").await.unwrap();
        assert!(read_response(&mut text).await.ends_with("ttt\n"));
        let begun = readers.iter().filter(|reader| reader.is_ok()).count();
        assert!(begun > 400, "{begun} were let in");
    }));
}

#[test]
fn what_slow_readers_hold_in_memory_is_bounded_and_the_largest_holder_gives_way() {
    let world = world(|limits| limits.held = 8 * TEXT);
    smol::block_on(soon(async {
        let mut honest = ask(&world, "127.0.0.2", "/text").await.unwrap();
        let mut readers = Vec::new();
        for _ in 0..40 {
            readers.push(ask(&world, "127.0.0.1", "/text").await.unwrap());
        }
        assert!(read_response(&mut honest).await.ends_with("ttt\n"), "who holds little keeps it");
        let mut cut = 0;
        for reader in &mut readers {
            let mut all = Vec::new();
            let _ = reader.read_to_end(&mut all).await;
            cut += usize::from(all.len() < TEXT);
        }
        assert!(cut >= 20, "only {cut} had to give way");
    }));
}

#[test]
fn a_reader_slower_than_anybody_needs_to_be_is_cut_and_a_slow_one_is_not() {
    steadily(PAUSE, slow_readers);
}

fn slow_readers() {
    let world = world(|limits| {
        limits.write_time = Duration::from_millis(1500);
        limits.read_rate = 2 << 20;
    });
    smol::block_on(soon(async {
        let read = async |pause: u64| {
            let mut client = ask(&world, "127.0.0.1", "/big").await.unwrap();
            let mut piece = vec![0; 256 << 10];
            let (mut all, begun) = (0_u64, Instant::now());
            while let Ok(read @ 1..) = client.read(&mut piece).await {
                all += read as u64;
                // The pace is kept over all, however much a read gives.
                let due = Duration::from_millis(pause * all / (256 << 10));
                smol::Timer::after(due.saturating_sub(begun.elapsed())).await;
            }
            all
        };
        // Half a MiB a second is too little here, 25 are enough.
        assert!(read(500).await < BIG);
        assert!(read(10).await > BIG);
    }));
}

#[test]
fn bodies_that_trickle_in_hold_up_no_other() {
    steadily(PAUSE, bodies_that_trickle_in);
}

fn bodies_that_trickle_in() {
    let world = world(|limits| {
        limits.head_time = Duration::from_secs(2);
        limits.held = 4 << 20;
    });
    smol::block_on(soon(async {
        let mut writers = Vec::new();
        let part = vec![b'b'; 200 << 10];
        for number in 0..60 {
            let mut client = connect(&world, &format!("127.0.0.{}", 10 + number % 3)).await.unwrap();
            client.write_all(b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n").await.unwrap();
            let _ = client.write_all(&part).await;
            let _ = client.flush().await;
            writers.push(client);
        }
        is_served(&world, "127.0.0.1").await;
        let begun = Instant::now();
        let mut hook = connect(&world, "127.0.0.1").await.unwrap();
        hook.write_all(b"POST /hook HTTP/1.1\r\nhost: a\r\ncontent-length: 204800\r\n\r\n").await.unwrap();
        hook.write_all(&part).await.unwrap();
        assert!(read_response(&mut hook).await.contains("body=204800"));
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
        // A body slower than it needs to be is refused, long before the time that a whole one has.
        let begun = Instant::now();
        let mut slow = connect(&world, "127.0.0.1").await.unwrap();
        slow.write_all(b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 20000\r\n\r\nonly this").await.unwrap();
        assert!(read_response(&mut slow).await.starts_with("HTTP/1.1 408 "));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }));
}

#[test]
fn silent_and_idle_connections_give_way_to_those_that_ask() {
    steadily(PAUSE, silent_and_idle_connections);
}

fn silent_and_idle_connections() {
    let world = world(|limits| {
        limits.connections = 120;
        limits.connections_per_address = 100;
    });
    smol::block_on(soon(async {
        // Half a handshake each, the beginning of a head, or an answered request and then nothing.
        let mut silent = Vec::new();
        let mut idle = Vec::new();
        for number in 0..300 {
            match number % 3 {
                0 => {
                    let tcp = Async::new(tcp_from("127.0.0.1", world.address).unwrap()).unwrap();
                    let _ = (&tcp).write_all(&[0x16, 3, 1, 2, 0]).await;
                    silent.push(tcp);
                }
                1 => {
                    if let Ok(mut client) = connect(&world, "127.0.0.1").await {
                        let _ = client.write_all(b"GET /a HT").await;
                        idle.push(client);
                    }
                }
                _ => {
                    if let Ok(mut client) = ask(&world, "127.0.0.1", "/idle").await {
                        let mut piece = [0; 4096];
                        let _ = client.read(&mut piece).await;
                        idle.push(client);
                    }
                }
            }
        }
        is_served(&world, "127.0.0.2").await;
        smol::Timer::after(Duration::from_secs(3)).await;
        // Behind the same address, too.
        is_served(&world, "127.0.0.1").await;
        // Many addresses that have a little each do not keep one out that has nothing.
        let mut many = Vec::new();
        for number in 0..240 {
            let from = format!("127.0.{}.{}", 1 + number / 200, 1 + number % 200);
            many.push(tcp_from(&from, world.address));
        }
        smol::Timer::after(Duration::from_secs(3)).await;
        is_served(&world, "127.0.0.9").await;
    }));
    let reports = world.reports.lock().unwrap().clone();
    assert!(reports.len() <= 16 && reports.iter().all(|line| line.starts_with("too many connections, from 127.0.")));
}

#[test]
fn links_that_never_greet_keep_neither_pages_nor_agents_out() {
    steadily(PAUSE, links_that_never_greet);
}

fn links_that_never_greet() {
    let world = world(|limits| {
        limits.connections = 300;
        limits.connections_per_address = 100;
        limits.greet_time = Duration::from_secs(2);
    });
    smol::block_on(soon(async {
        let mut honest = Vec::new();
        for _ in 0..20 {
            honest.push(agent(&world, "127.0.0.1", "good").await.unwrap());
        }
        let mut mute = Vec::new();
        for number in 0..400 {
            let from = format!("127.0.0.{}", 1 + number % 5);
            if let Ok(socket) = agent(&world, &from, "mute").await {
                mute.push(socket);
            }
        }
        is_served(&world, "127.0.0.9").await;
        smol::Timer::after(Duration::from_secs(2)).await;
        is_served(&world, "127.0.0.1").await;
        agent(&world, "127.0.0.1", "good").await.expect("another honest one");
        // They do not last.
        for socket in &mut mute {
            while let Some(Ok(_)) = smol::stream::StreamExt::next(socket).await {}
        }
        // And those that were welcomed never noticed.
        for socket in &mut honest {
            socket.send(async_tungstenite::tungstenite::Message::text("still here")).await.unwrap();
            let mut said = Vec::new();
            while said.last().is_none_or(|text| text != "still here") {
                let next = smol::stream::StreamExt::next(socket).await;
                said.push(next.expect("a link").expect("a message").to_text().unwrap().to_owned());
            }
        }
    }));
}

/// A half-open upgrade: it asks and does not read the answer.
#[test]
fn upgrades_that_are_left_half_open_give_way() {
    steadily(PAUSE, upgrades_left_half_open);
}

fn upgrades_left_half_open() {
    let world = world(|limits| limits.connections_per_address = 50);
    smol::block_on(soon(async {
        let mut half_open = Vec::new();
        for _ in 0..50 {
            let mut client = connect(&world, "127.0.0.1").await.unwrap();
            let head = "GET /live HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\ncookie: session=1\r\n\r\n";
            client.write_all(head.as_bytes()).await.unwrap();
            half_open.push(client);
        }
        smol::Timer::after(Duration::from_secs(5)).await;
        is_served(&world, "127.0.0.1").await;
    }));
}
