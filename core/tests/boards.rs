//! `board` of saifiles, read, wrong and hostile.

use sai_core::repo_spec::{self, Board, RepoSpec};
use sai_core::trial::{self, Step};

/// A board with each key that there is.
const WHOLE: &str = r##"{
    "type": "nucleo-f411", "tags": ["leds"], "flash": {"app": "build/fw.bin", "data": "build/fs.img"}, "unverified": false,
    "console": "main", "identity": "fw ${SAI_COMMIT}", # what an older one does not say
    "test": [ {"expect": "login:", "within": "20s"}, {"send": "root\n"}, {"play": "press"},
        {"edge": "led", "to": 1, "within": "2s"}, {"wait": "500ms"}, {"expect": "ip (?P<ip>\\S+)"}, {"send": "ping ${ip}\n"} ],
    "results": "tap", "pass": "^ALL TESTS PASSED", "fail": "PANIC|^FAIL", "banner": "U-Boot", "banners": 4,
    "silent": "10s", "timeout": "120s" }"##;

fn file(board: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"p\": {{\"build\": \"x\"}}}}, \"configurations\": {{ \"fw\": {{\n\
         \"artifacts\": \"build/*\", \"board\":\n{board}}} }} }}"
    )
}

fn read(board: &str) -> Result<RepoSpec, Vec<String>> {
    let read = repo_spec::read(file(board).as_bytes());
    read.map(|(spec, _)| spec).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn boards(board: &str) -> Vec<Board> {
    read(board).expect("a good file").configurations[0].boards.clone().expect("boards")
}

#[test]
fn a_board_is_kept_as_it_was_said_and_means_the_same_again() {
    let [board] = &boards(WHOLE)[..] else { panic!("one board") };
    assert_eq!((board.kind.as_str(), &board.tags[..], board.at.line), ("nucleo-f411", &["leds".to_string()][..], 3));
    assert_eq!(board.images, ["build/fw.bin", "build/fs.img"]);
    let trial = trial::of(&board.text).expect("what was kept");
    assert_eq!((trial.steps.len(), trial.silent_ms, trial.timeout_ms), (7, 10_000, 120_000));
    assert_eq!(trial.steps[1], Step::Send { text: "root\n".to_string(), console: None });
    assert_eq!(trial.identity.as_deref(), Some("fw ${SAI_COMMIT}"));
    let again = &boards(&board.text)[0];
    assert_eq!(again.text, board.text, "written twice, and the same");
    let list = boards(&format!("[{WHOLE},\n {{\"type\": \"esp32\", \"flash\": \"build/a.bin\", \"pass\": \"OK\"}}]"));
    assert_eq!(list.iter().map(|board| board.kind.as_str()).collect::<Vec<_>>(), ["nucleo-f411", "esp32"]);
}

#[test]
fn what_the_documentation_shows_is_as_it_says() {
    let text = include_str!("../../docs/boards.md");
    let (text, _) = text.split_once("\n## ").expect("a chapter on logs");
    let shown: String =
        text.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect();
    let (spec, warnings) = repo_spec::read(shown.as_bytes()).expect("a good file");
    assert_eq!(spec.configurations[0].boards.as_ref().map(Vec::len), Some(1));
    assert_eq!(warnings.len(), 1, "that it is not run: {warnings:?}");
    let mut keys = text.lines().filter(|line| line.starts_with("| `")).flat_map(|line| line.split('|').nth(1));
    for key in sai_core::trial::KEYS {
        assert!(keys.clone().any(|told| told.contains(&format!("`{key}`"))), "{key}");
    }
    assert!(
        keys.all(|told| told.split(',').all(|told| sai_core::trial::KEYS.contains(&told.trim().trim_matches('`'))))
    );
}

#[test]
fn as_text_it_stays_a_value() {
    let text = r#"{"schema": "sai-1", "platforms": {"p": {"build": "make ${board}"}}, "configurations": {"c": {"board": "uno"}}}"#;
    let (spec, warnings) = repo_spec::read(text.as_bytes()).expect("a good file");
    assert_eq!((spec.configurations[0].boards.as_ref(), warnings.len()), (None, 0));
    let jobs = sai_core::matrix::expand(&spec, "main").expect("jobs").jobs;
    assert_eq!(jobs[0].steps, ["make uno"]);
}

#[test]
fn every_mistake_is_named_by_its_place() {
    let good = r#""type": "t", "pass": "OK""#;
    let mut wrong = Vec::new();
    for (board, expected) in [
        ("{}", "3:1: configurations.fw.board: expected a key type"),
        (
            "7",
            "3:1: configurations.fw.board: expected an object that says how a board is flashed and judged, or an array of such",
        ),
        (r#"[{"type": "t", "pass": "OK"}, 7]"#, "3:31: configurations.fw.board[1]: expected an object"),
        (r#"{"type": "t t", "pass": "OK"}"#, "3:10: configurations.fw.board.type: expected a unit's name of"),
        (r#"{"type": "t"}"#, "3:1: configurations.fw.board: expected one of the keys test, results, pass"),
        (
            &format!("{{{good}, \"pas\": \"OK\"}}"),
            "3:29: configurations.fw.board.pas: expected one of type, tags, flash,",
        ),
        (&format!("{{{good}, \"fail\": \"(\"}}"), "3:37: configurations.fw.board.fail: expected a regular expression"),
        (&format!("{{{good}, \"tags\": [\"a b\"]}}"), "3:38: configurations.fw.board.tags: expected a unit's name"),
        (
            &format!("{{{good}, \"flash\": \"../x\"}}"),
            "3:38: configurations.fw.board.flash: expected the path of an image",
        ),
        (
            &format!("{{{good}, \"flash\": \"fw.bin\"}}"),
            "3:1: configurations.fw.board.flash: expected a file that the configuration's artifacts keep, found `fw.bin`",
        ),
        (
            &format!("{{{good}, \"flash\": {{\"a\": 1}}}}"),
            "3:44: configurations.fw.board.flash.a: expected the path of an image",
        ),
        (&format!("{{{good}, \"silent\": \"10\"}}"), "3:39: configurations.fw.board.silent: expected a time like"),
        (&format!("{{{good}, \"timeout\": 5}}"), "3:40: configurations.fw.board.timeout: expected text"),
        (
            &format!("{{{good}, \"results\": \"junit\"}}"),
            "3:40: configurations.fw.board.results: expected one of tap, ctest",
        ),
        (&format!("{{{good}, \"unverified\": 1}}"), "3:43: configurations.fw.board.unverified: expected true or false"),
        (
            &format!("{{{good}, \"banners\": 1}}"),
            "3:40: configurations.fw.board.banners: expected a whole number from 2",
        ),
        // A value that might be secret is none of those that a pattern may have in it.
        (
            &format!("{{{good}, \"identity\": \"${{SAI_TOKEN}}\"}}"),
            "3:41: configurations.fw.board.identity: expected one of SAI_PROJECT, SAI_REF,",
        ),
        (
            &format!("{{{good}, \"identity\": \"${{PASSWORD}}\"}}"),
            "3:41: configurations.fw.board.identity: expected one of SAI_PROJECT, SAI_REF,",
        ),
        (
            r#"{"type": "t", "test": [{"send": "x", "expect": "y"}]}"#,
            "3:33: configurations.fw.board.test[0].send: expected only one of",
        ),
        (r#"{"type": "t", "test": [{"edge": "led"}]}"#, "3:24: configurations.fw.board.test[0]: expected a key to"),
        (
            r#"{"type": "t", "test": [{"wait": "1s", "within": "1s"}]}"#,
            "3:49: configurations.fw.board.test[0].within: expected no `within` beside `wait`",
        ),
        (
            r#"{"type": "t", "type": "u", "pass": "OK"}"#,
            "3:15: configurations.fw.board.type: expected this key only once",
        ),
    ] {
        let errors = read(board).expect_err(board);
        wrong.extend((!errors[0].starts_with(expected)).then(|| format!("{board}: {errors:?}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_all_boards_of_a_file_cost_has_a_bound() {
    let step = r#"{"expect":"(a{99}){9}"}"#;
    let board = |steps: usize| format!("{{\"type\":\"t\",\"test\":[{}]}}", vec![step; steps].join(","));
    let many = format!("[{}]", vec![board(400); 11].join(","));
    let errors = read(&many).expect_err("too many steps");
    assert!(
        errors[0].contains("board[10]: expected at most 1000 boards, of 4000 steps together, in a file"),
        "{errors:?}"
    );
    assert_eq!(boards(&format!("[{}]", vec![board(4); 10].join(","))).len(), 10);
    let mut deep = WHOLE.replace("\"login:\"", &format!("\"{}x{}\"", "(".repeat(500), ")".repeat(500)));
    assert!(read(&deep).expect_err("too deep")[0].contains("test[0].expect: expected a regular expression"));
    deep = "[".repeat(40) + &"]".repeat(40);
    assert!(read(&deep).is_err());
}
