//! Links over real TLS and WebSocket on loopback, against masters that behave and masters that do not.

#[path = "../../tests/src/steady.rs"]
mod steady;
mod wss;

use async_tungstenite::tungstenite::Message;
use futures_rustls::TlsAcceptor;
use sai_agent::link::{DialError, Dialer, Frame, Link, QUEUE_FRAMES, Timing};
use sai_agent::pin::Trust;
use sai_core::join::Address;
use sai_core::limits::{CHUNK_BYTES, FRAME_BYTES};
use smol::future;
use smol::stream::StreamExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use steady::steadily;
use wss::{Server, TOKEN, identity, within};

fn quick() -> Timing {
    let part = Duration::from_millis(300);
    Timing { connect: part, handshake: part, ping: Duration::from_millis(50), dead: part }
}

/// Polls a link's driver beside what the test does with the link.
async fn driven<T>(link: &mut Link, work: impl Future<Output = T>) -> T {
    let driver = link.driver.take().expect("a driver");
    future::or(work, async {
        driver.await;
        future::pending().await
    })
    .await
}

#[test]
fn frames_arrive_whole_in_order_and_both_ways() {
    within(async {
        let master = Server::new().await;
        let serve = async {
            let mut websocket = master.accept().await;
            let mut seen = 0;
            while let Some(Ok(message)) = websocket.next().await {
                match message {
                    Message::Text(_) | Message::Binary(_) => {
                        seen += 1;
                        websocket.send(message).await.expect("the echo");
                    }
                    Message::Close(_) => return seen,
                    _ => {}
                }
            }
            seen
        };
        let dialer = master.dialer(Timing::default());
        let talk = async {
            let Link { sender, receiver, driver } = dialer.dial().await.expect("a link");
            let work = async {
                for index in 0..200_usize {
                    let bytes: Vec<u8> = (0..CHUNK_BYTES).map(|byte| (byte * 31 + index) as u8).collect();
                    for frame in [Frame::Binary(bytes), Frame::Text(format!("message {index} ä"))] {
                        sender.send(frame.clone()).await.expect("room");
                        assert_eq!(receiver.receive().await, Some(frame));
                    }
                }
                drop(sender);
                assert_eq!(receiver.receive().await, None);
                assert!(!receiver.why_closed().is_empty());
            };
            future::zip(work, driver.expect("a driver")).await;
        };
        let (seen, ()) = future::zip(serve, talk).await;
        assert_eq!(seen, 400, "all arrived before the close");
    });
}

#[test]
fn what_is_queued_when_the_link_is_closed_still_arrives() {
    within(async {
        let master = Server::new().await;
        let serve = async {
            let mut websocket = master.accept().await;
            let mut bytes = 0;
            while let Some(Ok(message)) = websocket.next().await {
                bytes += message.len();
            }
            bytes
        };
        let dialer = master.dialer(Timing::default());
        let talk = async {
            let Link { sender, receiver, driver } = dialer.dial().await.expect("a link");
            for _ in 0..QUEUE_FRAMES {
                assert_eq!(sender.try_send(Frame::Binary(vec![7; CHUNK_BYTES])), Ok(None));
            }
            assert!(matches!(sender.try_send(Frame::Text(String::new())), Ok(Some(_))), "the queue is full");
            drop(sender);
            driver.expect("a driver").await;
            drop(receiver);
        };
        let (bytes, ()) = future::zip(serve, talk).await;
        assert_eq!(bytes, QUEUE_FRAMES * CHUNK_BYTES);
    });
}

#[test]
fn a_master_with_another_certificate_is_not_believed() {
    within(async {
        let master = Server::new().await;
        let serve = async {
            let (stream, _) = master.listener.accept().await.expect("a connection");
            let accepted = TlsAcceptor::from(Arc::clone(&identity().0)).accept(stream).await;
            assert!(accepted.is_err(), "the agent goes on with a stranger");
        };
        let mut other = identity().1;
        other[31] ^= 1;
        let trust = Trust::Fingerprint(other);
        let dialer = Dialer::new(master.address(), trust, TOKEN.to_owned(), Timing::default()).expect("a dialer");
        let (link, ()) = future::zip(dialer.dial(), serve).await;
        let error = link.expect_err("a stranger");
        assert!(matches!(&error, DialError::Untrusted(why) if why.contains("is pinned")), "{error}");
    });
}

#[test]
fn a_master_that_refuses_is_quoted_on_one_line() {
    let answer = |head: &str, body: &str| format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    within(async {
        for (response, wanted) in [
            (answer("401 Unauthorized", "unknown token\r\n\u{1b}[2Jgo"), "token refused: unknown token [2Jgo; ask for"),
            (answer("403 Forbidden", "revoked"), "token refused: revoked; ask for a new join line"),
            (answer("401 Unauthorized", ""), "token refused; ask for a new join line"),
            (answer("429 Too Many Requests", "wait 10 s"), "the master asks to slow down (status 429): wait 10 s"),
            (answer("503 Service Unavailable", "starting"), "the master is not ready (status 503): starting"),
            (answer("404 Not Found", "nothing here"), "no master of Sai: status 404 nothing here"),
            ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "no master of Sai"),
            (answer("101 Switching Protocols", ""), "no master of Sai"),
        ] {
            let master = Server::new().await;
            let dialer = master.dialer(Timing::default());
            let (link, ()) = future::zip(dialer.dial(), master.answer(&response)).await;
            let error = link.expect_err("no link").to_string();
            assert!(error.contains(wanted) && !error.contains('\n'), "{response:?}: {error}");
            assert!(!error.contains(TOKEN));
        }
        let long = answer("401 Unauthorized", &"x".repeat(3000));
        let master = Server::new().await;
        let dialer = master.dialer(Timing::default());
        let (link, ()) = future::zip(dialer.dial(), master.answer(&long)).await;
        assert!(link.expect_err("no link").to_string().len() < 500);
    });
}

#[test]
fn nobody_is_waited_for_without_end() {
    within(async {
        // Nobody listens.
        let master = Server::new().await;
        let dialer = master.dialer(Timing::default());
        drop(master);
        let error = dialer.dial().await.expect_err("nobody");
        assert!(matches!(&error, DialError::Unreachable(why) if why.contains("cannot be reached")), "{error}");
        // Somebody listens and says nothing: the kernel accepts for it.
        let master = Server::new().await;
        let begun = Instant::now();
        let timing = Timing { handshake: quick().handshake, ..Timing::default() };
        let error = master.dialer(timing).dial().await.expect_err("silence");
        assert!(matches!(&error, DialError::Unreachable(why) if why.contains("within 0.3 s")), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        // The host has no address.
        let address = Address::new("no-such-host.invalid".to_owned(), 4433);
        let trust = Trust::Fingerprint([0; 32]);
        let error = Dialer::new(address, trust, TOKEN.to_owned(), Timing::default()).expect("a dialer").dial().await;
        assert!(matches!(error, Err(DialError::Unreachable(_))));
    });
}

#[test]
fn a_link_lives_by_pings_and_dies_of_silence() {
    // A pause of the machine that is as long would be the silence itself.
    let dead = Duration::from_millis(500);
    steadily(dead / 4, || within(lives_by_pings_and_dies_of_silence(dead)));
}

async fn lives_by_pings_and_dies_of_silence(dead: Duration) {
    let master = Server::new().await;
    let dialer = master.dialer(Timing { ping: dead / 8, dead, ..Timing::default() });
    let talk = async {
        let mut link = dialer.dial().await.expect("a link");
        let receiver = std::mem::replace(&mut link.receiver, Link::pair().0.receiver);
        let sender = link.sender.clone();
        let begun = Instant::now();
        driven(&mut link, async {
            assert_eq!(receiver.receive().await, Some(Frame::Text("now I fall silent".to_owned())));
            assert!(begun.elapsed() > dead, "it lived only while it heard something");
            assert_eq!(receiver.receive().await, None);
        })
        .await;
        assert!(receiver.why_closed().contains("silent"), "{}", receiver.why_closed());
        drop(sender);
    };
    let serve = async {
        let mut websocket = master.accept().await;
        // The library answers pings while it is read; more than the deadline passes with nothing else.
        let mut pings = 0;
        while pings < 12 {
            match websocket.next().await {
                Some(Ok(Message::Ping(_))) => pings += 1,
                Some(Ok(_)) => {}
                ended => panic!("the link ended after {pings} pings: {ended:?}"),
            }
        }
        websocket.send(Message::text("now I fall silent")).await.expect("the last words");
        future::pending::<()>().await;
    };
    future::or(talk, serve).await;
}

#[test]
fn a_master_that_never_reads_holds_up_a_bounded_number_of_frames() {
    within(async {
        let master = Server::new().await;
        let timing = Timing { dead: Duration::from_secs(1), ping: quick().ping, ..Timing::default() };
        let dialer = master.dialer(timing);
        let talk = async {
            let Link { sender, receiver, driver } = dialer.dial().await.expect("a link");
            let push = async {
                let mut pushed = 0_u64;
                while sender.send(Frame::Binary(vec![1; CHUNK_BYTES])).await.is_ok() {
                    pushed += CHUNK_BYTES as u64;
                }
                pushed
            };
            let (pushed, ()) = future::zip(push, driver.expect("a driver")).await;
            assert!(pushed < 64 << 20, "{pushed} bytes went somewhere");
            assert!(receiver.why_closed().contains("silent"), "{}", receiver.why_closed());
        };
        let serve = async {
            let _websocket = master.accept().await;
            future::pending::<()>().await;
        };
        future::or(talk, serve).await;
    });
}

#[test]
fn a_message_larger_than_allowed_ends_the_link() {
    within(async {
        let master = Server::new().await;
        let dialer = master.dialer(Timing::default());
        let talk = async {
            let Link { sender: _sender, receiver, driver } = dialer.dial().await.expect("a link");
            driver.expect("a driver").await;
            assert_eq!(receiver.receive().await, Some(Frame::Text("x".repeat(FRAME_BYTES))));
            assert_eq!(receiver.receive().await, None);
            assert!(receiver.why_closed().contains("too long"), "{}", receiver.why_closed());
        };
        let serve = async {
            let mut websocket = master.accept().await;
            for more in [0, 1000] {
                // The agent may be gone before the last byte.
                let _ = websocket.send(Message::text("x".repeat(FRAME_BYTES + more))).await;
            }
            future::pending::<()>().await;
        };
        future::or(talk, serve).await;
    });
}

#[test]
fn a_pair_shows_each_end_that_the_other_is_gone() {
    within(async {
        let (near, far) = Link::pair();
        near.sender.send(Frame::Text("last words".to_owned())).await.expect("room");
        drop(near);
        assert_eq!(far.receiver.receive().await, Some(Frame::Text("last words".to_owned())));
        assert_eq!(far.receiver.receive().await, None);
        assert!(far.sender.send(Frame::Text(String::new())).await.is_err());
    });
}
