//! What happens at a board, written into a log and read from it.

use sai_core::axis::{
    Case, CaseResult, Clock, EDGES_MAX, Edge, Entry, Loss, Mark, Progress, SENT_BYTES, Sent, TEXT_BYTES, What,
};
use sai_core::limits::RECORD_BYTES;
use sai_core::ordered::Map;
use sai_core::record::{ChannelStart, Decoder, Item, Record, encode};
use sai_core::words::Word;

fn mark(what: What) -> Mark {
    Mark { what, name: None, text: None, offsets: None, judged: None, away_ms: None }
}

/// One of everything, at the edges of what it can hold.
fn story() -> Vec<Entry> {
    let edge = |sequence| Edge { channel: 9, level: sequence % 2 == 1, ns: u64::MAX - 1, sequence };
    let offsets = Map::from([("main".to_string(), 17), ("aux".to_string(), 1 << 60)]);
    vec![
        Entry::Clock(Clock { monotonic_ns: 0, boottime_ns: u64::MAX, realtime_ns: 1_790_000_000_000_000_000 }),
        Entry::Edges(vec![edge(1), edge(2), edge(u32::MAX)]),
        Entry::Edges(Vec::new()),
        Entry::Loss(3, Loss { offset: 4096, lost: Some(17), why: "the disk was full".to_string() }),
        Entry::Loss(4, Loss { offset: 0, lost: None, why: String::new() }),
        Entry::Mark(Mark {
            name: Some("run".to_string()),
            text: Some("\u{1b}[2J <b> \"".to_string()),
            offsets: Some(offsets),
            judged: Some(true),
            ..mark(What::Reset)
        }),
        Entry::Mark(mark(What::Other(Word::of("Dropped").unwrap()))),
        Entry::Sent(3, Sent::of("judge", &(0..=255).collect::<Vec<u8>>())),
        Entry::Sent(3, Sent { writer: "anna".to_string(), length: 12, bytes: None }),
        Entry::Sent(3, Sent::of("judge", b"")),
        Entry::Progress(Progress { phase: "write".to_string(), done: 0, of: 1 << 40 }),
        Entry::Case(Case {
            name: "größe".to_string(),
            result: CaseResult::Failed,
            at: Some(99),
            text: Some("expected 1".to_string()),
        }),
        Entry::Case(Case { name: String::new(), result: CaseResult::Skipped, at: None, text: None }),
        Entry::Tick(u64::MAX),
    ]
}

/// The entries in bytes, each with the time of its record.
fn entries(pieces: &[&[u8]]) -> Vec<(u64, Entry)> {
    let (mut decoder, mut found) = (Decoder::new(), Vec::new());
    for piece in pieces {
        let read = decoder.push(piece, |item| {
            if let Item::Later { kind, channel, micros, payload } = item {
                found.extend(Entry::decode(kind, channel, payload).map(|entry| (micros, entry)));
            }
        });
        assert_eq!(read, Ok(()));
    }
    found
}

#[test]
fn what_happened_is_read_as_it_was_written_wherever_it_is_cut() {
    let (story, mut bytes) = (story(), Vec::new());
    for (at, entry) in story.iter().enumerate() {
        // Records of before stand between them, and times that step back.
        encode(&Record::Channel(at as u8, ChannelStart { name: format!("serial:{at}") }), 5, &mut bytes);
        entry.encode(1000 - at as u64, &mut bytes);
    }
    let mut expected: Vec<_> = story.into_iter().enumerate().map(|(at, entry)| (1000 - at as u64, entry)).collect();
    // No edges are no record.
    expected.retain(|(_, entry)| *entry != Entry::Edges(Vec::new()));
    for size in [1, 2, 15, 16, 17, 1000, bytes.len()] {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(entries(&pieces), expected, "in pieces of {size}");
    }
}

#[test]
fn what_is_more_than_a_record_holds_becomes_several() {
    let edges: Vec<Edge> =
        (0..EDGES_MAX as u32 * 2 + 1).map(|sequence| Edge { channel: 1, level: true, ns: 7, sequence }).collect();
    let mut bytes = Vec::new();
    Entry::Edges(edges.clone()).encode(1, &mut bytes);
    let found = entries(&[&bytes]);
    assert_eq!(found.len(), 3);
    let all = found.into_iter().flat_map(|(_, entry)| if let Entry::Edges(edges) = entry { edges } else { Vec::new() });
    assert_eq!(all.collect::<Vec<_>>(), edges);

    // Every byte the one that takes most letters in JSON.
    let (sent, mut bytes) = (vec![0x1b; SENT_BYTES * 2 + 5], Vec::new());
    Entry::Sent(2, Sent::of("judge", &sent)).encode(1, &mut bytes);
    let found = entries(&[&bytes]);
    assert_eq!(found.len(), 3);
    let all = found
        .iter()
        .flat_map(|(_, entry)| if let Entry::Sent(2, sent) = entry { sent.bytes().unwrap() } else { Vec::new() });
    assert_eq!(all.collect::<Vec<_>>(), sent);

    let long = "é".repeat(TEXT_BYTES);
    for entry in [
        Entry::Loss(1, Loss { offset: 0, lost: None, why: long.clone() }),
        Entry::Mark(Mark { name: Some(long.clone()), text: Some(long.clone()), ..mark(What::Play) }),
        Entry::Progress(Progress { phase: long.clone(), done: 1, of: 2 }),
        Entry::Case(Case { name: long.clone(), result: CaseResult::Passed, at: None, text: Some(long.clone()) }),
        Entry::Sent(1, Sent { writer: long.clone(), length: 1, bytes: None }),
    ] {
        let mut bytes = Vec::new();
        entry.encode(1, &mut bytes);
        assert!(bytes.len() < RECORD_BYTES && entries(&[&bytes]).len() == 1, "{entry:?}");
    }
}

#[test]
fn what_is_malformed_or_of_another_version_means_nothing() {
    for (kind, payload) in [
        (64, &b""[..]),
        (64, b"{}"),
        (64, b"{\"monotonic_ns\":-1,\"boottime_ns\":0,\"realtime_ns\":0}"),
        (65, b"123456789012345"),
        (66, b"{\"offset\":\"1\",\"lost\":1,\"why\":\"\"}"),
        (66, b"\xff"),
        (67, b"{\"what\":\"a b\"}"),
        (67, b"[]"),
        (68, b"{\"writer\":\"x\",\"length\":2,\"bytes\":\"a\"}"),
        (68, "{\"writer\":\"x\",\"length\":1,\"bytes\":\"\u{263a}\"}".as_bytes()),
        (69, b"{\"phase\":1}"),
        (70, b"{\"name\":\"x\",\"result\":\"\"}"),
        (71, b"1234567"),
        (71, b"123456789"),
        (72, b"12345678"),
        (63, b"12345678"),
        (255, b""),
    ] {
        assert_eq!(Entry::decode(kind, 1, payload), None, "{kind} {payload:?}");
    }
    // What a later version adds to one is not in the way.
    let more = br#"{"what":"Reset","name":null,"by":{"x":[1]}}"#;
    assert_eq!(Entry::decode(67, 0, more), Some(Entry::Mark(mark(What::Reset))));
}

#[test]
fn noise_never_panics() {
    let mut state: u64 = 7;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut bytes = Vec::new();
    for entry in story() {
        entry.encode(3, &mut bytes);
    }
    for _ in 0..20_000 {
        let start = random() % bytes.len();
        let mut part = bytes[start..(start + random() % 200).min(bytes.len())].to_vec();
        if !part.is_empty() {
            let at = random() % part.len();
            part[at] = random() as u8;
        }
        let _ = Entry::decode(64 + (random() % 9) as u8, 1, &part);
    }
}
