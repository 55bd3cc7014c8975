//! A state → lines of an export → the same state; what is wrong with them.

use super::*;

#[test]
fn what_is_exported_is_imported_the_same() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    for id in 1..=300 {
        commit_later(&store, three_jobs(id));
    }
    commit(
        &store,
        vec![
            Change::Job(job(5, 1, JobState::Running)),
            Change::DeleteEvent(300),
            Change::Agent(agent("a")),
            Change::User(user("ann \u{1f980}")),
            Change::Action(action(4)),
        ],
    );
    drop(store);
    let mut exported = Vec::new();
    let report = export(&place.state(), false, &mut exported).expect("exported");
    assert_eq!((report.records, report.lost, report.told), (1200, false, vec![]));
    let other = Place::new();
    let count = import(&other.state(), &mut BufReader::new(exported.as_slice()), "export.jsonl").expect("imported");
    assert_eq!(count, 299 + 3 * 299 + 4);
    let mut again = Vec::new();
    export(&other.state(), false, &mut again).expect("exported");
    assert!(again == exported, "the copy's export is the same, byte for byte");
    let (copy, restored, _reports) = open(&other.state());
    let (_store, original, _reports) = open(&place.state());
    assert_eq!(restored, original);
    assert_eq!((restored.next_event, restored.next_job, restored.next_action), (301, 903, 5));
    drop(copy);
    let error =
        import(&other.state(), &mut BufReader::new(exported.as_slice()), "export.jsonl").expect_err("not empty");
    assert!(error.to_string().starts_with("export.jsonl: expected an empty state directory"), "{error}");
}

#[test]
fn what_is_wrong_with_an_import_is_named_by_line_and_nothing_is_taken() {
    let place = Place::new();
    let head = r#"{"kind":"sai-export","format":1,"next_event":9,"next_job":9,"next_action":9}"#;
    let user = r#"{"kind":"user","name":"ann","token_sha256":"","added_at":1,"revoked":false}"#;
    let cut = "f:3: expected the last line of an export, {\"kind\":\"sai-export-end\",\"records\":1}: this one was cut";
    let end = |records: u64| format!("{{\"kind\":\"sai-export-end\",\"records\":{records}}}");
    let cases = [
        (String::new(), "f:1: expected the first line of an export"),
        (user.to_string(), "f:1: expected the first line of an export"),
        (head.replace("\"format\":1", "\"format\":2"), "f:1: expected format 1, not 2"),
        (format!("{head}\n{user}\nnonsense\n"), "f:3: expected an object with a \"kind\""),
        (format!("{head}\n\n"), "f:2: expected an object with a \"kind\""),
        (format!("{head}\n{user}\n{{\"kind\":\"job\",\"id\":1}}\n"), "f:3: expected a job record with all its keys"),
        (format!("{head}\n{user}\n"), cut),
        (format!("{head}\n{user}\n{}\n", end(2)), "f:3: expected 2 records before this line, not 1"),
        (format!("{head}\n{user}\n{}\n{user}\n", end(1)), "f:4: expected nothing after the last line"),
        (format!("{head}\n{{\"kind\":\"delete-event\",\"id\":1}}\n{}\n", end(1)), "f:2: expected a record, not"),
    ];
    for (text, expected) in &cases {
        let error = import(&place.state(), &mut BufReader::new(text.as_bytes()), "f").expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let not_text = [head.as_bytes(), b"\n\xff\xfe"].concat();
    let error = import(&place.state(), &mut BufReader::new(not_text.as_slice()), "f").expect_err("not UTF-8");
    assert_eq!(error.to_string(), "f:2: expected UTF-8");
    let mut endless = BufReader::new(std::io::repeat(b'x'));
    let error = import(&place.state(), &mut endless, "f").expect_err("too long").to_string();
    assert!(error.starts_with("f:1: expected at most"), "{error}");
    let good = format!("{head}\n{user}\n{{\"kind\":\"pet\",\"name\":7}}\n{}\n", end(2));
    assert_eq!(import(&place.state(), &mut BufReader::new(good.as_bytes()), "f").expect("nothing was taken before"), 2);
    let (_store, restored, _reports) = open(&place.state());
    assert_eq!((restored.users.len(), restored.next_job), (1, 9));
    assert!(!place.state().join("journal.new").exists());
    drop(_store);
    let mut again = Vec::new();
    export(&place.state(), false, &mut again).expect("exported");
    assert_eq!(String::from_utf8(again).expect("UTF-8"), good, "also what this version does not know");
}
