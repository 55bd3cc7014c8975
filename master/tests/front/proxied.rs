//! Clients behind proxies, those that are trusted and those that only say so.

use crate::support::{Scratch, World, read_response, soon, tcp_from, world, world_behind};
use smol::Async;
use smol::io::AsyncWriteExt as _;
use std::time::Duration;

/// The proxies of these tests: one address of this machine.
const PROXY: &str = "127.0.0.40";

fn behind(limit: usize) -> World {
    world_behind(&[PROXY], Scratch::new(), None, |limits| {
        limits.connections_per_address = limit;
        limits.failures_per_minute = 2;
    })
}

/// The first line of what the backend saw of a request that came from `from` with these bytes before TLS and these
/// header lines; nothing if the connection was closed.
async fn seen(world: &World, from: &str, before: &[u8], lines: &str) -> Option<String> {
    let tcp = Async::new(tcp_from(from, world.address).ok()?).ok()?;
    (&tcp).write_all(before).await.ok()?;
    let mut client = world.secure(tcp, world.identity.fingerprint()).await.ok()?;
    client.write_all(format!("GET /p HTTP/1.1\r\nhost: a\r\n{lines}\r\n").as_bytes()).await.ok()?;
    let response = read_response(&mut client).await;
    response.split_once("\r\n\r\n").and_then(|(_, body)| body.lines().next().map(str::to_owned))
}

fn from(address: &str) -> Option<String> {
    Some(format!("GET /p  peer={address} body=0"))
}

/// A header of version 2 of the PROXY protocol for a client of IPv4.
fn binary(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    header.extend(client);
    header.extend([127, 0, 0, 1, 1, 2, 3, 4]);
    // And an extension of a kind that nobody knows, without content.
    header.extend([0xee, 0, 0]);
    header
}

#[test]
fn a_trusted_proxy_is_believed_and_nobody_else() {
    let world = behind(50);
    smol::block_on(soon(async {
        let line = "x-forwarded-for: 10.9.9.9, 203.0.113.7\r\n";
        assert_eq!(seen(&world, PROXY, b"", line).await, from("203.0.113.7"));
        assert_eq!(seen(&world, "127.0.0.41", b"", line).await, from("127.0.0.41"));
        assert_eq!(seen(&world, PROXY, b"", "x-forwarded-for: <script>\r\n").await, from(PROXY));
        assert_eq!(seen(&world, PROXY, b"", "").await, from(PROXY));
        let text = b"PROXY TCP4 203.0.113.8 127.0.0.1 5000 443\r\n";
        assert_eq!(seen(&world, PROXY, text, "").await, from("203.0.113.8"));
        assert_eq!(seen(&world, PROXY, text, line).await, from("203.0.113.8"), "the client's own header");
        assert_eq!(seen(&world, PROXY, b"PROXY UNKNOWN\r\n", "").await, from(PROXY));
        let six = b"PROXY TCP6 2001:db8::8 ::1 5000 443\r\n";
        assert_eq!(seen(&world, PROXY, six, "").await, from("2001:db8::8"));
        assert_eq!(seen(&world, PROXY, &binary([203, 0, 113, 9]), "").await, from("203.0.113.9"));
        assert_eq!(seen(&world, PROXY, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "").await, from(PROXY));
        for stranger in [text.as_slice(), &binary([203, 0, 113, 9])] {
            assert_eq!(seen(&world, "127.0.0.41", stranger, "").await, None);
        }
        for wrong in [&b"PROXY TCP4 nonsense\r\n"[..], &[b'P'; 200], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"] {
            assert_eq!(seen(&world, PROXY, wrong, "").await, None);
        }
    }));
}

#[test]
fn limits_hold_for_the_clients_and_not_for_their_proxy() {
    let world = behind(5);
    smol::block_on(soon(async {
        // More connections than one address may have, all from the proxy.
        let mut held = Vec::new();
        for number in 0..20 {
            let tcp = Async::new(tcp_from(PROXY, world.address).unwrap()).unwrap();
            let text = format!("PROXY TCP4 203.0.113.{} 127.0.0.1 5000 443\r\n", number % 10);
            (&tcp).write_all(text.as_bytes()).await.unwrap();
            held.push(world.secure(tcp, world.identity.fingerprint()).await.unwrap());
        }
        assert_eq!(held.len(), 20);
        // One client behind it has no more than its own share.
        let text = b"PROXY TCP4 203.0.113.200 127.0.0.1 5000 443\r\n";
        let mut own = Vec::new();
        for _ in 0..5 {
            let tcp = Async::new(tcp_from(PROXY, world.address).unwrap()).unwrap();
            (&tcp).write_all(text).await.unwrap();
            own.push(world.secure(tcp, world.identity.fingerprint()).await.unwrap());
        }
        assert_eq!(seen(&world, PROXY, text, "").await, None);
        assert!(seen(&world, PROXY, b"PROXY TCP4 203.0.113.201 127.0.0.1 5000 443\r\n", "").await.is_some());
        // Wrong tokens are counted, and told, for the client as well.
        for (client, status) in [("203.0.113.1", 403), ("203.0.113.1", 403), ("203.0.113.1", 429), ("203.0.113.2", 403)]
        {
            let tcp = Async::new(tcp_from(PROXY, world.address).unwrap()).unwrap();
            let mut stream = world.secure(tcp, world.identity.fingerprint()).await.unwrap();
            let head = format!(
                "GET /agent HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 authorization: bearer bad\r\nx-forwarded-for: {client}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let response = read_response(&mut stream).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{client}: {response}");
        }
        let wrong = "a wrong token of an agent, from 203.0.113.1".to_owned();
        while !world.reports.lock().unwrap().contains(&wrong) {
            smol::Timer::after(Duration::from_millis(10)).await;
        }
    }));
}

#[test]
fn requests_in_absolute_form_are_answered() {
    let world = world(|_| ());
    let text = world.curl_text("--request-target https://ci.example/a?b -H Host:other", "/ignored");
    assert!(text.starts_with("GET /a b peer=127.0.0.1") && text.contains("host: ci.example\n"), "{text}");
}
