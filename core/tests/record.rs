//! Records against their bytes, cut anywhere, and bytes that are no log.

use sai_core::job::{Fault, Outcome, Verdict};
use sai_core::limits::{CHANNELS, RECORD_BYTES, STREAMS};
use sai_core::record::{
    Artifact, ChannelStart, Decoder, HEADER_BYTES, Item, LATER, Record, StepEnd, StepStart, check_path, encode,
    encode_data,
};

fn artifact(stream: u16, path: &str) -> Artifact {
    Artifact { stream, path: path.to_string(), size: 7, sha256: "0aF".repeat(21) + "b", executable: true }
}

fn verdict() -> Verdict {
    let cause = "step 2 ended with status 1".to_string();
    Verdict {
        outcome: Outcome::Failed,
        fault: Fault::Job,
        cause,
        step: Some(1),
        status: Some(1),
        trouble: None,
        verdict: None,
    }
}

fn stdout() -> Record {
    Record::Channel(0, ChannelStart { name: "stdout".to_string() })
}

fn story() -> Vec<Record> {
    vec![
        stdout(),
        Record::Channel(63, ChannelStart { name: "serial:board \"1\"\n\u{1F600}".to_string() }),
        Record::StepStart(StepStart { step: 0, text: "echo \"hi\"\\ \u{0}\u{7f}".to_string() }),
        Record::Data(0, b"no newline \0 \xff\xfe".to_vec()),
        Record::Data(63, vec![b'x'; 1000]),
        Record::StepEnd(StepEnd { step: 0, status: 0 }),
        Record::Note("log limit reached".to_string()),
        Record::Note(String::new()),
        Record::Artifact(artifact(1, "out/a b.bin")),
        Record::Artifact(artifact(2, "out/é")),
        Record::Verdict(verdict()),
    ]
}

fn bytes_of(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, record) in records.iter().enumerate() {
        encode(record, at as u64 * 1000, &mut bytes);
    }
    bytes
}

/// What a decoder makes of pieces: whole records, pieces of output joined while they are of one record.
fn decode(pieces: &[&[u8]]) -> Result<Vec<(u64, Record)>, String> {
    let mut decoder = Decoder::new();
    let mut found: Vec<(u64, Record)> = Vec::new();
    for piece in pieces {
        decoder.push(piece, |item| match item {
            Item::Data { channel, micros, bytes } => match found.last_mut() {
                Some((at, Record::Data(last, all))) if *at == micros && *last == channel => {
                    all.extend_from_slice(bytes);
                }
                _ => found.push((micros, Record::Data(channel, bytes.to_vec()))),
            },
            Item::Record(micros, record) => found.push((micros, record)),
            Item::Later { kind, .. } => assert!(kind >= LATER),
        })?;
    }
    Ok(found)
}

fn error(bytes: &[u8]) -> String {
    let whole = decode(&[bytes]).expect_err("no error");
    // The same when it comes byte by byte.
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(&pieces).expect_err("no error"), whole);
    whole
}

fn raw(kind: u8, channel: u8, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, channel, 0, 0];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(payload);
    bytes
}

fn json(kind: u8, payload: &str) -> Vec<u8> {
    raw(kind, 0, payload.len() as u32, payload.as_bytes())
}

#[test]
fn what_is_written_is_read_wherever_it_is_cut() {
    let story = story();
    let expected: Vec<(u64, Record)> =
        story.iter().enumerate().map(|(at, record)| (at as u64 * 1000, record.clone())).collect();
    let bytes = bytes_of(&story);
    for cut in 0..=bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(decode(&[front, back]).as_ref(), Ok(&expected), "cut at {cut}");
    }
    for size in [1, 2, 3, 15, 16, 17, 1000] {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(decode(&pieces).as_ref(), Ok(&expected), "in pieces of {size}");
    }
}

#[test]
fn output_comes_before_its_record_is_whole() {
    let mut bytes = bytes_of(&[stdout()]);
    encode_data(0, b"prompt> ", 5, &mut bytes);
    let cut = bytes.len() - 3;
    let found = decode(&[&bytes[..cut]]).expect("a good log");
    assert_eq!(found[1], (5, Record::Data(0, b"promp".to_vec())));
}

#[test]
fn empty_output_means_nothing() {
    let mut bytes = bytes_of(&[stdout()]);
    encode_data(0, b"", 1, &mut bytes);
    encode_data(0, b"x", 2, &mut bytes);
    assert_eq!(decode(&[&bytes]).expect("a good log").len(), 2);
}

#[test]
fn long_texts_are_cut_at_a_character_and_still_fit() {
    for text in ["\u{0}".repeat(100_000), "é".repeat(100_000), "\"".repeat(100_000)] {
        let records = [
            Record::StepStart(StepStart { step: 0, text: text.clone() }),
            Record::Note(text.clone()),
            Record::Verdict(Verdict { cause: text.clone(), ..verdict() }),
        ];
        let bytes = bytes_of(&records);
        let found = decode(&[&bytes]).expect("a good log");
        assert_eq!(found.len(), 3);
        assert!(matches!(&found[1].1, Record::Note(cut) if text.starts_with(cut) && cut.len() > 8000));
    }
}

#[test]
fn a_record_as_large_as_allowed_passes_and_no_larger_one() {
    let mut bytes = bytes_of(&[stdout()]);
    encode_data(0, &vec![7; RECORD_BYTES], 1, &mut bytes);
    assert_eq!(decode(&[&bytes]).expect("a good log").len(), 2);
    let mut bytes = bytes_of(&[stdout()]);
    bytes.extend(raw(2, 0, RECORD_BYTES as u32 + 1, b""));
    assert!(error(&bytes).contains("more than"));
    assert!(error(&raw(6, 0, u32::MAX, b"")).contains("more than"));
}

#[test]
fn headers_that_mean_nothing_are_refused_at_once() {
    assert_eq!(error(&raw(0, 0, 0, b"")), "a record of unknown kind 0");
    assert_eq!(error(&raw(8, 0, 0, b"")), "a record of unknown kind 8");
    assert_eq!(error(&raw(LATER - 1, 0, 0, b"")), "a record of unknown kind 63");
    let mut reserved = raw(6, 0, 0, b"");
    reserved[2] = 1;
    assert!(error(&reserved).contains("unknown kind"));
    assert_eq!(error(&raw(2, 0, 1, b"x")), "output on channel 0, which was not announced");
    assert_eq!(error(&raw(2, 255, 1, b"x")), "output on channel 255, which was not announced");
    // Of a header that is not whole nothing is said.
    for length in 0..HEADER_BYTES {
        assert_eq!(decode(&[&raw(0, 0, 0, b"")[..length]]), Ok(Vec::new()));
    }
}

/// Records as later versions may write them: any bytes, on channels that were announced or not, with header bytes in use.
fn later_records() -> Vec<Vec<u8>> {
    let mut flagged = raw(LATER, 3, 5, b"\xff\0{\"t");
    (flagged[2], flagged[3]) = (7, 255);
    vec![
        flagged,
        raw(LATER, 0, 0, b""),
        raw(200, 255, 20, &[VERDICT; 20]),
        raw(255, 0, RECORD_BYTES as u32, &vec![2; RECORD_BYTES]),
    ]
}

/// The kind of a verdict, which must mean nothing inside of a record that is passed over.
const VERDICT: u8 = 7;

#[test]
fn records_of_later_versions_are_passed_over_wherever_they_are() {
    let (story, mut bytes) = (story(), Vec::new());
    for (at, record) in story.iter().enumerate() {
        for later in later_records() {
            bytes.extend(later);
        }
        encode(record, at as u64 * 1000, &mut bytes);
    }
    let expected: Vec<(u64, Record)> =
        story.iter().enumerate().map(|(at, record)| (at as u64 * 1000, record.clone())).collect();
    for size in [1, 3, 16, 17, 70_000, bytes.len()] {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        assert_eq!(decode(&pieces).as_ref(), Ok(&expected), "in pieces of {size}");
    }
    let mut kinds = Vec::new();
    let read = Decoder::new().push(&bytes, |item| {
        if let Item::Later { kind, .. } = item {
            kinds.push(kind);
        }
    });
    assert_eq!((read, kinds.len()), (Ok(()), 4 * story.len()));
    assert_eq!(kinds[..4], [LATER, LATER, 200, 255]);
    // They are as bounded as all others, and nothing follows a verdict.
    assert!(error(&raw(LATER, 0, RECORD_BYTES as u32 + 1, b"")).contains("more than"));
    let mut bytes = bytes_of(&[Record::Verdict(verdict())]);
    bytes.extend(raw(LATER, 0, 0, b""));
    assert_eq!(error(&bytes), "bytes after the verdict");
}

#[test]
fn payloads_that_mean_nothing_are_refused() {
    for kind in [1, 3, 4, 5, 7] {
        assert!(error(&raw(kind, 0, 0, b"")).starts_with("a malformed"), "{kind}");
        for payload in ["", "{}", "[]", "null", "{\"step\":-1}", "{\"name\":7}", "{\"step\":4294967296,\"status\":0}"] {
            assert!(error(&json(kind, payload)).starts_with("a malformed"), "{kind} {payload}");
        }
        assert!(error(&json(kind, &"[".repeat(60_000))).starts_with("a malformed"), "{kind}");
        assert_eq!(error(&raw(kind, 0, 2, b"\xff\xfe")), "a record that is not UTF-8");
    }
    assert_eq!(error(&raw(6, 0, 1, b"\xff")), "a record that is not UTF-8");
    // A word that only a later version knows is none of these; what is no word is.
    for word in ["Per fect", "", "<b>", "much-longer-than-any-word-is"] {
        let unknown = format!(r#"{{"outcome":"{word}","fault":"Nobody","cause":"","step":null,"status":null}}"#);
        assert_eq!(error(&json(7, &unknown)), "a malformed verdict record", "{word}");
    }
}

#[test]
fn channels_are_bounded() {
    let name = "{\"name\":\"x\"}";
    let announce = |channel: u8| raw(1, channel, name.len() as u32, name.as_bytes());
    assert!(decode(&[&announce(CHANNELS as u8 - 1)]).is_ok());
    assert_eq!(error(&announce(CHANNELS as u8)), format!("channel {CHANNELS}, of at most {CHANNELS}"));
    assert!(error(&announce(255)).contains("channel 255"));
}

#[test]
fn artifacts_are_numbered_without_a_gap_and_bounded() {
    let of = |stream| bytes_of(&[Record::Artifact(artifact(stream, "a"))]);
    assert_eq!(error(&of(0)), "artifact stream 0 after 0");
    assert_eq!(error(&of(2)), "artifact stream 2 after 0");
    assert_eq!(error(&[of(1), of(1)].concat()), "artifact stream 1 after 1");
    let all: Vec<Record> = (1..STREAMS as u16).map(|stream| Record::Artifact(artifact(stream, "a"))).collect();
    let mut bytes = bytes_of(&all);
    assert_eq!(decode(&[&bytes]).expect("a good log").len(), STREAMS - 1);
    bytes.extend(of(STREAMS as u16));
    assert!(decode(&[&bytes]).is_err());
}

#[test]
fn artifacts_stay_inside_and_have_a_digest() {
    for path in
        ["", "/etc/passwd", "a/../b", "..", ".", "a//b", "a/", "./a", "a\nb", "a\0b", "a\u{7f}", &"a".repeat(1025)]
    {
        assert!(check_path(path).is_err(), "{path:?}");
        let text = error(&bytes_of(&[Record::Artifact(artifact(1, path))]));
        assert!(text.ends_with("is no relative path"), "{text}");
    }
    for path in ["a", "a/b.c", "...", "..a/b..", "-rf", "é \u{202e}", &"a".repeat(1024)] {
        assert!(check_path(path).is_ok(), "{path:?}");
    }
    for sha256 in ["", "0", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
        let record = Record::Artifact(Artifact { sha256: sha256.to_string(), ..artifact(1, "a") });
        assert_eq!(error(&bytes_of(&[record])), "a malformed artifact record", "{sha256}");
    }
}

#[test]
fn nothing_follows_a_verdict() {
    let mut bytes = bytes_of(&[Record::Verdict(verdict())]);
    assert!(decode(&[&bytes, b""]).is_ok());
    bytes.push(0);
    assert_eq!(error(&bytes), "bytes after the verdict");
}

#[test]
fn noise_never_panics() {
    let mut state = 1_u64;
    let mut noise = |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % end
    };
    let story = bytes_of(&story());
    for _ in 0..20_000 {
        let mut bytes = story.clone();
        for _ in 0..=noise(4) {
            let at = noise(bytes.len() as u64) as usize;
            bytes[at] = noise(256) as u8;
        }
        let cut = noise(bytes.len() as u64) as usize;
        let (front, back) = bytes.split_at(cut);
        let _ = decode(&[front, back]);
    }
}
