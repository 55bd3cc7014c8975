//! Clients that mean harm, or are broken in the ways that clients are.

use crate::steady::steadily;
use crate::support::{BIG, World, read_response, soon, world};
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn is_alive(world: &World) {
    assert!(world.curl_text("", "/alive").starts_with("GET /alive"));
}

/// Resident memory of this process, which holds the master, in KiB (proc(5)).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn requests_that_could_be_read_in_two_ways_end_the_connection() {
    let world = world(|_| ());
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for (lines, status) in [
        ("host: a\r\ncontent-length: 40\r\ncontent-length: 0", 400),
        ("host: a\r\ncontent-length: 0\r\ntransfer-encoding: chunked", 400),
        ("host: a\r\ntransfer-encoding: xchunked", 400),
        ("host: a\r\ntransfer-encoding : chunked", 400),
        ("host: a\r\ncontent-length: abc", 400),
        ("host: a\r\ncontent-length: +5", 400),
        ("host: a\r\nx: y\r\n content-length: 5", 400),
        ("host: a\r\nx: y\0", 400),
        ("x: y", 400),
        ("host: a\r\nhost: b", 400),
        ("host: a\r\ncontent-length: 100000000000", 413),
        ("host: a\r\ncontent-length: 99999999999999999999999999", 413),
    ] {
        let text = world.exchange(format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n{smuggled}").as_bytes());
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{lines:?}: {text:?}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "nothing behind it is a request: {text:?}");
        assert!(text.contains("connection: close"), "{text:?}");
    }
    is_alive(&world);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_bodies_are_not_requests() {
    let world = world(|_| ());
    let inner = "GET /inner HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut bytes = String::new();
    for n in 0..20 {
        bytes.push_str(&format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n"));
        bytes.push_str(&format!("POST /p{n} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{inner}", inner.len()));
    }
    bytes.push_str("GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /behind HTTP/1.1\r\nhost: a\r\n\r\n");
    let text = world.exchange(bytes.as_bytes());
    let seen: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(" peer=")).map(|(request, _)| request.trim()).collect();
    let mut wanted: Vec<String> = (0..20).flat_map(|n| [format!("GET /{n}"), format!("POST /p{n}")]).collect();
    wanted.push("GET /last".to_owned());
    assert_eq!(seen, wanted);
}

#[test]
fn a_head_without_end_costs_neither_memory_nor_time() {
    let world = world(|_| ());
    let before = resident();
    smol::block_on(soon(async {
        for start in ["GET /", "GET / HTTP/1.1\r\nhost: a\r\nx: ", ""] {
            let mut client = world.connect().await.unwrap();
            client.write_all(start.as_bytes()).await.unwrap();
            let piece = vec![b'a'; 64 * 1024];
            let mut sent = 0_usize;
            // 64 MiB, or as much as the master takes.
            while sent < 64 << 20 && client.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            assert!(sent < 32 << 20, "the master took {sent} bytes of one head");
        }
    }));
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB");
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(17 * 1024));
    assert!(world.exchange(long.as_bytes()).starts_with("HTTP/1.1 431 "));
    is_alive(&world);
}

#[test]
fn a_body_that_was_promised_but_never_comes_holds_nothing() {
    let world = world(|limits| limits.body_time = Duration::from_millis(300));
    let before = resident();
    // What makes the server behind the front allocate 100 GB is never handed to it.
    let text = world.exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000000\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    let text = world.exchange(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\nonly this");
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(resident().saturating_sub(before) < 24 * 1024);
    is_alive(&world);
}

#[test]
fn slow_clients_are_closed_at_each_stage() {
    steadily(Duration::from_millis(100), slow_clients);
}

fn slow_clients() {
    let world = world(|limits| {
        limits.head_time = Duration::from_millis(400);
        limits.idle_time = Duration::from_millis(400);
    });
    smol::block_on(soon(async {
        // Nothing at all, and half a handshake.
        for bytes in [&b""[..], &[0x16, 3, 1, 2, 0]] {
            let mut tcp = Async::<TcpStream>::connect(world.address).await.unwrap();
            tcp.write_all(bytes).await.unwrap();
            let mut rest = Vec::new();
            let _ = tcp.read_to_end(&mut rest).await;
        }
        // A head that trickles in: each byte is in time, the whole is not.
        let mut client = world.connect().await.unwrap();
        let begun = Instant::now();
        let mut reply = Vec::new();
        let (mut reader, mut writer) = smol::io::split(&mut client);
        let reading = async {
            let _ = reader.read_to_end(&mut reply).await;
        };
        let writing = async {
            loop {
                if writer.write_all(b"G").await.is_err() || writer.flush().await.is_err() {
                    break;
                }
                smol::Timer::after(Duration::from_millis(20)).await;
            }
        };
        smol::future::or(reading, writing).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        // A connection that was used and then sleeps.
        let mut client = world.connect().await.unwrap();
        client.write_all(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        read_response(&mut client).await;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"", "a silent close");
    }));
    is_alive(&world);
}

#[test]
fn connections_reset_at_any_moment_do_no_harm() {
    let world = world(|_| ());
    let before = threads();
    smol::block_on(soon(async {
        for round in 0..300 {
            let reset = |tcp: &Async<TcpStream>| {
                let linger = Some(Duration::ZERO);
                rustix::net::sockopt::set_socket_linger(tcp.get_ref(), linger).unwrap();
            };
            if round % 3 == 0 {
                let mut tcp = Async::<TcpStream>::connect(world.address).await.unwrap();
                tcp.write_all(&[0x16, 3, 1]).await.unwrap();
                reset(&tcp);
                continue;
            }
            let mut client = world.connect().await.unwrap();
            let target = if round % 3 == 1 { "/a" } else { "/big" };
            client.write_all(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            client.flush().await.unwrap();
            reset(client.get_ref().0);
        }
    }));
    is_alive(&world);
    assert!(threads() < before + 200, "{} threads", threads());
}

#[test]
fn a_client_that_sends_no_more_still_gets_its_answer() {
    let world = world(|_| ());
    smol::block_on(soon(async {
        let mut client = world.connect().await.unwrap();
        client.write_all(b"GET /half HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        // Our half is closed, by TLS and by TCP.
        client.close().await.unwrap();
        let response = read_response(&mut client).await;
        assert!(response.contains("GET /half"), "{response}");
    }));
}

#[test]
fn a_downloader_that_never_reads_is_cut_and_holds_little() {
    // A server that has hardly begun on a busy machine has nobody to cut yet: it has longer then.
    let pauses = [1, 2, 4, 8, 16].map(Duration::from_secs);
    assert!(pauses.into_iter().any(downloaders_that_never_read), "none is cut");
}

/// Whether all that read nothing for so long are cut.
fn downloaders_that_never_read(pause: Duration) -> bool {
    let world = world(|limits| {
        limits.write_time = Duration::from_millis(500);
    });
    let before = resident();
    let all_cut = smol::block_on(soon(async {
        let mut clients = Vec::new();
        for _ in 0..64 {
            let mut client = world.connect().await.unwrap();
            client.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            client.flush().await.unwrap();
            clients.push(client);
        }
        let mut client = world.connect().await.unwrap();
        client.write_all(b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(read_response(&mut client).await.contains("GET /next"));
        smol::Timer::after(pause).await;
        // Each is closed, long before it has all.
        for client in &mut clients {
            let mut piece = [0; 64 << 10];
            let mut all = 0;
            while let Ok(read @ 1..) = client.read(&mut piece).await {
                all += read as u64;
                if all >= BIG {
                    return false;
                }
            }
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 24 * 1024, "{grown} KiB");
        true
    }));
    is_alive(&world);
    all_cut
}

#[test]
fn connections_beyond_the_limit_are_closed_and_others_take_their_place() {
    // These are all new, so none gives way yet.
    let world = world(|limits| {
        limits.connections = 40;
        limits.connections_per_address = 30;
    });
    smol::block_on(soon(async {
        let mut held = Vec::new();
        for _ in 0..30 {
            held.push(world.connect().await.unwrap());
        }
        assert!(world.connect().await.is_err(), "one too many");
        // Those who are in are served.
        let client = held.last_mut().unwrap();
        client.write_all(b"GET /in HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        read_response(client).await;
        held.clear();
        // Their places are free as soon as the master has seen them go.
        while world.connect().await.is_err() {
            smol::Timer::after(Duration::from_millis(10)).await;
        }
    }));
    is_alive(&world);
}

#[test]
fn bytes_that_are_no_tls_do_no_harm() {
    let world = world(|_| ());
    for bytes in [&[0x16; 600][..], &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3], &[0x80, 0x2e, 1, 0, 2], &[0; 100]] {
        let mut tcp = TcpStream::connect(world.address).unwrap();
        tcp.write_all(bytes).unwrap();
        tcp.shutdown(std::net::Shutdown::Write).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut tcp, &mut rest);
    }
    is_alive(&world);
}
