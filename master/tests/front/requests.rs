//! Ordinary requests, as curl and our own client send them.

use crate::steady::steadily;
use crate::support::{BIG, TEXT, read_response, soon, world};
use smol::io::AsyncWriteExt as _;
use std::time::Duration;

#[test]
fn a_request_reaches_the_handler_whole() {
    let world = world(|_| ());
    let text = world.curl_text("-H X-Odd:1 -H Sai-Peer:6.6.6.6 -d hello", "/a%20b?x=1&y=%2f");
    assert!(text.starts_with("POST /a%20b x=1&y=%2f peer=127.0.0.1 body=5\n"), "{text}");
    assert!(text.contains("x-odd: 1\n") && text.contains(&format!("host: {}\n", world.address)), "{text}");
    assert!(!text.contains("6.6.6.6"), "{text}");
}

#[test]
fn responses_have_their_headers_and_no_others() {
    let world = world(|_| ());
    let text = world.curl_text("-i", "/odd");
    let head = text.split("\r\n\r\n").next().unwrap().to_lowercase();
    for line in [
        "x-content-type-options: nosniff",
        "referrer-policy: same-origin",
        "content-length: 4",
        "connection: keep-alive",
    ] {
        assert_eq!(head.matches(line).count(), 1, "{head}");
    }
    assert!(head.contains("x-odd: a??set-cookie: b?"), "{head}");
    assert!(!head.contains("\nset-cookie") && !head.contains("tiny") && !head.contains("chunked"), "{head}");
}

#[test]
fn bodies_up_to_the_limit_arrive_and_larger_ones_are_refused() {
    let world = world(|_| ());
    std::fs::write(world.scratch.path("most"), vec![b'm'; 2 << 20]).unwrap();
    std::fs::write(world.scratch.path("more"), vec![b'm'; (2 << 20) + 1]).unwrap();
    // curl waits for 100 Continue with bodies of this size.
    let text = world.curl_text("--data-binary @most", "/echo");
    assert!(text.contains("body=2097152"), "{text}");
    let text = world.curl_text("-H Expect: --data-binary @most", "/echo");
    assert!(text.contains("body=2097152"), "{text}");
    assert_eq!(world.curl_text("-o /dev/null -w %{http_code} --data-binary @more", "/echo"), "413");
    let text = world.curl_text("--data-binary @more", "/import");
    assert!(text.contains("body=2097153"), "{text}");
}

#[test]
fn requests_follow_one_another_on_one_connection() {
    let world = world(|_| ());
    let reused = world.curl_text("-o /dev/null -o /dev/null -w %{num_connects},", "/{a,b}");
    assert_eq!(reused, "1,0,");
    // After each kind of response without a body the next is still where it belongs.
    smol::block_on(soon(async {
        let mut client = world.connect().await.unwrap();
        for (line, status) in [
            ("HEAD /file", "200"),
            ("GET /gone", "204"),
            ("GET /file", "200"),
            ("GET /panic", "500"),
            ("GET /a", "200"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            if line.starts_with("HEAD") {
                let mut head = [0; 4096];
                let read = smol::io::AsyncReadExt::read(&mut client, &mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                assert!(head.contains("content-length: 10\r\n") && head.ends_with("\r\n\r\n"), "{head}");
                continue;
            }
            let response = read_response(&mut client).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {response}");
        }
    }));
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let world = world(|_| ());
    let text = world.exchange(b"GET /file HTTP/1.1\r\nhost: a\r\nif-none-match: \"tag\"\r\nconnection: close\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 304 ") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(!text.contains("content-length"), "{text}");
}

#[test]
fn ranges_of_files_are_sent() {
    let world = world(|_| ());
    assert_eq!(world.curl_text("", "/file"), "0123456789");
    assert_eq!(world.curl_text("-r 2-4", "/file"), "234");
    assert_eq!(world.curl_text("-r 7-", "/file"), "789");
    assert_eq!(world.curl_text("-r -3", "/file"), "789");
    assert_eq!(world.curl_text("-r 0-1,3-4", "/file"), "0123456789");
    assert_eq!(world.curl_text("-o /dev/null -w %{http_code} -r 10-", "/file"), "416");
    let text = world.curl_text("-i -r 2-4", "/file").to_lowercase();
    assert!(text.contains("206 ") && text.contains("content-range: bytes 2-4/10"), "{text}");
    assert!(text.contains("accept-ranges: bytes") && text.contains("etag: \"tag\""), "{text}");
    assert_eq!(world.curl_text("-r 2-4 -H If-Range:\"tag\"", "/file"), "234");
    assert_eq!(world.curl_text("-r 2-4 -H If-Range:\"old\"", "/file"), "0123456789");
    // A download that was cut goes on where it stopped.
    std::fs::write(world.scratch.path("part"), "0123").unwrap();
    world.curl_text("-C - -o part", "/file");
    assert_eq!(std::fs::read(world.scratch.path("part")).unwrap(), b"0123456789");
}

#[test]
fn large_responses_are_streamed_whole() {
    let world = world(|_| ());
    assert_eq!(world.curl_text("-o /dev/null -w %{size_download}", "/big"), BIG.to_string());
}

#[test]
fn texts_are_packed_for_who_takes_that_and_files_are_not() {
    let world = world(|_| ());
    let text = "t".repeat(TEXT);
    assert_eq!(world.curl_text("", "/text"), text.clone() + "\n");
    assert_eq!(world.curl_text("--compressed", "/text"), text + "\n");
    let size = |arguments: &str, path: &str| -> usize {
        world.curl_text(&format!("{arguments} -o /dev/null -w %{{size_download}}"), path).parse().unwrap()
    };
    assert_eq!(size("", "/text"), TEXT + 1);
    assert!(size("-H accept-encoding:gzip", "/text") < TEXT / 50);
    assert_eq!(size("-H accept-encoding:gzip;q=0", "/text"), TEXT + 1);
    // Head and body say the same, and HEAD says what GET would.
    let heads = ["-D - -o /dev/null", "-I"].map(|how| {
        let head = world.curl_text(&format!("{how} -H accept-encoding:gzip"), "/text").to_ascii_lowercase();
        assert!(head.contains("content-encoding: gzip\r\n") && head.contains("vary: accept-encoding\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(str::to_owned);
        length.expect("a length")
    });
    assert_eq!(heads[0], heads[1]);
    // A file keeps its tag, its ranges and its bytes.
    let head = world.curl_text("-D - -H accept-encoding:gzip", "/file").to_ascii_lowercase();
    assert!(head.contains("etag: \"tag\"") && !head.contains("gzip") && head.ends_with("0123456789"), "{head}");
    assert_eq!(world.curl_text("-H accept-encoding:gzip -r 2-4", "/file"), "234");
    let unchanged = "-H accept-encoding:gzip -H if-none-match:\"tag\" -o /dev/null -w %{http_code}";
    assert_eq!(world.curl_text(unchanged, "/file"), "304");
}

#[test]
fn clients_of_http_1_0_are_answered_and_closed() {
    let world = world(|_| ());
    let text = world.exchange(b"GET /old HTTP/1.0\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("GET /old"), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    assert!(world.curl_text("-0", "/old").starts_with("GET /old"));
}

#[test]
fn a_client_without_tls_is_told_so() {
    let world = world(|_| ());
    let url = format!("http://{}/", world.address);
    let done = std::process::Command::new("curl").args(["-sS", "-i", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("this is an https port"), "{done:?}");
}

#[test]
fn a_response_that_cannot_be_finished_is_seen_to_be_cut() {
    let world = world(|_| ());
    let done = world.curl("-o /dev/null", "/short");
    // 18: partial file; 56: failure in receiving.
    assert!(matches!(done.status.code(), Some(18 | 56)), "{done:?}");
}

#[test]
fn a_handler_that_takes_too_long_is_given_up() {
    steadily(Duration::from_millis(50), || {
        let world = world(|limits| limits.first_byte = Duration::from_millis(200));
        assert_eq!(world.curl_text("-o /dev/null -w %{http_code}", "/never"), "504");
        assert_eq!(world.curl_text("-o /dev/null -w %{http_code}", "/a"), "200");
    });
}

#[test]
fn more_requests_than_places_wait_for_their_turn() {
    let world = world(|limits| {
        limits.pages = (2, 2);
    });
    let codes = world.curl_text("-Z --parallel-immediate -o /dev/null -w %{http_code},", "/[1-20]");
    assert_eq!(codes, "200,".repeat(20));
}
