//! WebSockets at `/agent` and `/live`.

use crate::steady::steadily;
use crate::support::{Client, World, soon, world};
use async_tungstenite::tungstenite::client::IntoClientRequest as _;
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, client_async};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::stream::StreamExt as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Opens a WebSocket, or tells the status and text of the refusal.
async fn open(
    world: &World,
    target: &str,
    headers: &[(&'static str, &str)],
) -> Result<WebSocketStream<Client>, (u16, String)> {
    let mut request = format!("wss://{}{target}", world.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let client = world.connect().await.unwrap();
    match client_async(request, client).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err((
            response.status().as_u16(),
            String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
        )),
        Err(error) => panic!("{error}"),
    }
}

async fn next(socket: &mut WebSocketStream<Client>) -> Message {
    soon(socket.next()).await.unwrap().unwrap()
}

#[test]
fn an_agent_with_the_right_token_is_let_in() {
    let world = world(|_| ());
    smol::block_on(soon(async {
        let mut socket = open(&world, "/agent?name=b", &[("authorization", "Bearer good")]).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("hello bumblebee from 127.0.0.1 at /agent?name=b"));
        let frame = vec![7; 1 << 20];
        socket.send(Message::binary(frame.clone())).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::binary(frame));
        socket.close(None).await.unwrap();
    }));
}

#[test]
fn a_message_beyond_the_limit_ends_the_connection() {
    let world = world(|_| ());
    smol::block_on(soon(async {
        let mut socket = open(&world, "/agent", &[("authorization", "Bearer good")]).await.unwrap();
        next(&mut socket).await;
        let _ = socket.send(Message::binary(vec![7; (1 << 20) + 1])).await;
        assert!(!matches!(socket.next().await, Some(Ok(Message::Binary(_)))));
    }));
}

#[test]
fn a_frame_sent_behind_the_head_is_not_lost() {
    let world = world(|_| ());
    smol::block_on(soon(async {
        let mut client = world.connect().await.unwrap();
        // A text frame "hi" with the mask 0 (RFC 6455 §5.2).
        let mut bytes = b"GET /agent HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: bearer good\r\n\r\n"
            .to_vec();
        bytes.extend([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
        client.write_all(&bytes).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(&[0x81, 2, b'h', b'i']) {
            let mut piece = [0; 1024];
            let read = client.read(&mut piece).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..read]);
        }
    }));
}

#[test]
fn an_agent_without_the_right_token_is_refused_before_the_upgrade() {
    let world = world(|_| ());
    smol::block_on(soon(async {
        assert_eq!(open(&world, "/agent", &[]).await.unwrap_err().0, 401);
        assert_eq!(open(&world, "/agent", &[("authorization", "Basic good")]).await.unwrap_err().0, 401);
        let (status, text) = open(&world, "/agent", &[("authorization", "Bearer bad")]).await.unwrap_err();
        assert_eq!((status, text.as_str()), (403, "this token is not known\n"));
    }));
    assert_eq!(world.judged.load(Ordering::SeqCst), 1);
}

#[test]
fn an_address_that_keeps_guessing_is_told_so_and_locks_nobody_out() {
    let world = world(|limits| limits.failures_per_minute = 5);
    smol::block_on(soon(async {
        for _ in 0..5 {
            assert_eq!(open(&world, "/agent", &[("authorization", "Bearer bad")]).await.unwrap_err().0, 403);
        }
        let mut told = 0;
        for _ in 0..50 {
            let (status, _) = open(&world, "/agent", &[("authorization", "Bearer bad")]).await.unwrap_err();
            told += usize::from(status == 429);
        }
        // Another guess is judged for each twelve seconds that this takes on a slow machine.
        assert!(told >= 44, "{told} of 50");
        // Behind one address there may be many, and those with the right token are let in.
        let mut socket = open(&world, "/agent", &[("authorization", "Bearer good")]).await.unwrap();
        assert!(next(&mut socket).await.to_text().unwrap().starts_with("hello bumblebee"));
    }));
    assert_eq!(world.curl_text("-o /dev/null -w %{http_code}", "/a"), "200", "pages are still served");
    let reports = world.reports.lock().unwrap().clone();
    assert!((1..=10).contains(&reports.len()), "a few lines: {reports:?}");
    assert!(reports.iter().all(|line| line == "a wrong token of an agent, from 127.0.0.1"), "{reports:?}");
}

#[test]
fn a_token_that_is_never_judged_is_given_up() {
    let world = world(|limits| limits.authorize_time = Duration::from_millis(100));
    smol::block_on(soon(async {
        assert_eq!(open(&world, "/agent", &[("authorization", "Bearer slow")]).await.unwrap_err().0, 503);
    }));
}

#[test]
fn a_page_listens_only_if_it_is_ours_and_signed_in() {
    let world = world(|_| ());
    let ours = format!("https://{}", world.address);
    let cookie = ("cookie", "session=1");
    smol::block_on(soon(async {
        let mut socket = open(&world, "/live", &[("origin", &ours), cookie]).await.unwrap();
        socket.send(Message::text("hi")).await.unwrap();
        assert_eq!(next(&mut socket).await, Message::text("hi"));
        assert_eq!(open(&world, "/live", &[("origin", "https://evil.example"), cookie]).await.unwrap_err().0, 403);
        assert_eq!(open(&world, "/live", &[("origin", "null"), cookie]).await.unwrap_err().0, 403);
        assert_eq!(open(&world, "/live", &[("origin", &ours)]).await.unwrap_err().0, 401);
    }));
}

#[test]
fn an_open_page_is_pinged_and_one_that_went_away_is_let_go() {
    steadily(Duration::from_millis(500), pinged_and_let_go);
}

fn pinged_and_let_go() {
    let world = world(|_| ());
    smol::block_on(soon(async {
        let mut page = open(&world, "/live?page", &[("cookie", "session=1")]).await.unwrap();
        assert_eq!(next(&mut page).await, Message::text("shown"));
        // For longer than a silent one would last, since reading is what answers.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            assert!(matches!(next(&mut page).await, Message::Ping(_)));
        }
        // One that reads no more is gone without a word.
        let begun = Instant::now();
        let mut gone = open(&world, "/live?page", &[("cookie", "session=1")]).await.unwrap();
        smol::Timer::after(Duration::from_secs(3)).await;
        let mut pings = 0;
        while let Some(Ok(_)) = gone.next().await {
            pings += 1;
        }
        assert!(pings < 20 && begun.elapsed() < Duration::from_secs(10), "{pings} pings");
    }));
}

#[test]
fn an_ordinary_request_at_a_socket_is_told_what_is_spoken_there() {
    let world = world(|_| ());
    for path in ["/agent", "/live"] {
        assert_eq!(world.curl_text("-o /dev/null -w %{http_code}", path), "426");
    }
    assert!(world.curl_text("", "/agents").starts_with("GET /agents"), "only these very paths");
}

#[test]
fn agents_that_were_let_in_do_not_use_up_their_address() {
    let world = world(|limits| limits.connections_per_address = 3);
    smol::block_on(soon(async {
        let mut sockets = Vec::new();
        for _ in 0..10 {
            let mut socket = open(&world, "/agent", &[("authorization", "Bearer good")]).await.unwrap();
            next(&mut socket).await;
            sockets.push(socket);
        }
    }));
}
