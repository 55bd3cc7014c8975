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
    assert_eq!(
        (board.wanted.kind.as_str(), &board.wanted.tags[..], board.at.line),
        ("nucleo-f411", &["leds".to_string()][..], 3)
    );
    assert_eq!(board.images, ["build/fw.bin", "build/fs.img"]);
    let trial = trial::all_of(&board.text).expect("what was kept").alone().expect("one board");
    assert_eq!((trial.steps.len(), trial.silent_ms, trial.timeout_ms), (7, 10_000, 120_000));
    assert_eq!(trial.steps[1], Step::Send { text: "root\n".to_string(), console: None });
    assert_eq!(trial.identity.as_deref(), Some("fw ${SAI_COMMIT}"));
    let again = &boards(&board.text)[0];
    assert_eq!(again.text, board.text, "written twice, and the same");
    let list = boards(&format!("[{WHOLE},\n {{\"type\": \"esp32\", \"flash\": \"build/a.bin\", \"pass\": \"OK\"}}]"));
    assert_eq!(list.iter().map(|board| board.wanted.kind.as_str()).collect::<Vec<_>>(), ["nucleo-f411", "esp32"]);
}

#[test]
fn what_the_documentation_shows_is_as_it_says() {
    let text = include_str!("../../docs/boards.md");
    let (text, _) = text.split_once("\n## ").expect("a chapter on logs");
    let shown: String =
        text.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect();
    let (spec, warnings) = repo_spec::read(shown.as_bytes()).expect("a good file");
    assert_eq!(spec.configurations[0].boards.as_ref().map(Vec::len), Some(1));
    assert_eq!(warnings, []);
    let jobs = sai_core::matrix::expand(&spec, "main").expect("jobs").jobs;
    assert_eq!(jobs.iter().map(|job| job.configuration.as_str()).collect::<Vec<_>>(), ["fw", "fw/board"]);
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

/// A file of two platforms, the second of which has a board of its own, and these configurations.
fn two(platform: &str, configurations: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-a\": {{\"build\": \"a\"}},\n\
         \"linux-b\": {{\"build\": \"b\"{platform}}}}},\n\"configurations\": {{\n{configurations}}} }}"
    )
}

const UNO: &str = r#"{"type": "uno", "flash": "a.hex", "pass": "OK", "timeout": "90s"}"#;

/// `CONFIGURATION@PLATFORM` of each job, and after `:` the numbers of those that it needs; after `;` the warnings.
fn jobs(file: &str, branch: &str) -> Result<String, String> {
    let (spec, mut warnings) = repo_spec::read(file.as_bytes())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let matrix = sai_core::matrix::expand(&spec, branch).map_err(|error| error.to_string())?;
    warnings.extend(matrix.warnings);
    let line = |job: &sai_core::matrix::JobSpec| format!("{}@{}:{:?}", job.configuration, job.platform, job.needs);
    let mut lines: Vec<String> = matrix.jobs.iter().map(line).collect();
    lines.extend(warnings.iter().map(|warning| format!(";{warning}")));
    Ok(lines.join(" "))
}

#[test]
fn what_is_run_at_a_board_follows_its_build_and_waits_for_nothing_else() {
    let file = two(
        "",
        &format!(
            "\"lint\": {{}},\n\"fw\": {{\"needs\": \"lint\", \"artifacts\": \"*.hex\", \"priority\": 3, \"units\": [\"licence\"], \
             \"env\": {{\"A\": \"1\"}}, \"board\": [{UNO}, {UNO}]}}"
        ),
    );
    assert_eq!(
        jobs(&file, "main").unwrap(),
        "lint@linux-a:[] lint@linux-b:[] fw@linux-a:[0] fw/board@linux-a:[2] fw/board-2@linux-a:[2] \
         fw@linux-b:[1] fw/board@linux-b:[5] fw/board-2@linux-b:[5]"
    );
    let (spec, _) = repo_spec::read(file.as_bytes()).unwrap();
    let jobs = sai_core::matrix::expand(&spec, "main").unwrap().jobs;
    let job = &jobs[3];
    let board = job.board.as_ref().expect("a board");
    assert_eq!((board.wanted.kind.as_str(), job.priority, job.root), ("uno", 3, None));
    // What its build occupies and is given is not its, and it may take as long as its trial and what is before that.
    assert!(job.steps.is_empty() && job.env.is_empty() && job.artifacts.is_empty() && job.units.is_empty());
    assert_eq!(job.timeout_s, Some(90 + sai_core::matrix::BEFORE_RESET_S));
    assert_eq!(trial::all_of(&board.trial).expect("a trial").timeout_ms(), 90_000);
    // It is kept and read again as the same, and a stored log finds its rules by the job's name.
    assert_eq!(sai_core::plan::read(sai_core::plan::write(&jobs).as_bytes()), Ok(jobs.clone()));
    for (name, found) in
        [("fw/board", true), ("fw/board-2", true), ("fw/board-1", false), ("fw/board-02", false), ("fw/board-3", false)]
    {
        assert_eq!(spec.board_of(name, "linux-a").is_some(), found, "{name}");
    }
}

#[test]
fn jobs_may_need_what_is_run_at_a_board() {
    let fw = format!("\"fw\": {{\"artifacts\": \"*\", \"board\": [{UNO}, {UNO}]}}");
    let needs = |needs: &str| jobs(&two("", &format!("{fw}, \"next\": {{\"needs\": \"{needs}\"}}")), "main");
    let next = |needs: &str| -> String {
        let found = self::jobs(&two("", &format!("{fw}, \"next\": {{\"needs\": \"{needs}\"}}")), "main").unwrap();
        found.split_once("next@").expect("the next").1.to_string()
    };
    assert_eq!(next("fw"), "linux-a:[0] next@linux-b:[3]");
    assert_eq!(next("fw/board"), "linux-a:[1] next@linux-b:[4]");
    assert_eq!(next("fw/board-2@linux-b, fw"), "linux-a:[0, 5] next@linux-b:[3, 5]");
    for (wrong, expected) in [
        ("fw/board-3", "4:191: configurations.next.needs: expected a board on which `fw` is run, found `fw/board-3`"),
        (
            "fw/board@plan9",
            "4:191: configurations.next.needs: expected a platform on which `fw/board` is run, found `plan9`",
        ),
        (
            "gw/board",
            "4:191: configurations.next.needs: expected the name of a configuration of this file, found `gw/board`",
        ),
        ("next/board", "4:191: configurations.next.needs: expected a board on which `next` is run, found `next/board`"),
    ] {
        assert_eq!(needs(wrong), Err(expected.to_string()));
    }
    // What a build needs of its own board never comes.
    let own = format!("\"fw\": {{\"needs\": \"fw/board\", \"artifacts\": \"*\", \"board\": {UNO}}}");
    assert_eq!(
        jobs(&two("", &own), "main"),
        Err("4:18: configurations.fw.needs: expected needs without a cycle, found fw → fw/board → fw".to_string())
    );
    // With its build goes what is run at the board, and what needs that.
    let other = format!(
        "\"fw\": {{\"branches\": \"release\", \"artifacts\": \"*\", \"board\": {UNO}}},\n\"x\": {{\"needs\": \"fw/board\"}}"
    );
    assert_eq!(
        jobs(&two("", &other), "main").unwrap(),
        ";5:17: configurations.x.needs: `fw/board` is not built on this branch, so what needs it is not built either"
    );
    assert!(jobs(&two("", &other), "release").unwrap().starts_with("fw@linux-a:[] fw/board@linux-a:[0] fw@linux-b"));
}

#[test]
fn boards_of_a_platform_are_for_all_that_is_built_there_and_says_nothing_else() {
    let board = format!(", \"board\": {UNO}");
    let own = r#"{"type": "own", "flash": "b.bin", "pass": "OK"}"#;
    let file = two(
        &board,
        &format!(
            "\"a\": {{\"artifacts\": \"*.hex\"}}, \"b\": {{\"artifacts\": \"b.bin\", \"board\": {own}}}, \"none\": {{\"board\": []}}, \
             \"elsewhere\": {{\"platforms\": \"none linux-a\"}}"
        ),
    );
    assert_eq!(
        jobs(&file, "main").unwrap(),
        "a@linux-a:[] a@linux-b:[] a/board@linux-b:[1] b@linux-a:[] b/board@linux-a:[3] b@linux-b:[] b/board@linux-b:[5] \
         none@linux-a:[] none@linux-b:[] elsewhere@linux-a:[]"
    );
    let wrong = jobs(&two(&board, "\"a\": {\"artifacts\": \"*.hex\"}, \"b\": {}"), "main");
    assert_eq!(
        wrong,
        Err("2:36: platforms.linux-b.board.flash: expected a file that the artifacts of `b` keep, which is built there (or an \
             empty list as its `board`), found `a.hex`"
            .to_string())
    );
}

#[test]
fn no_configuration_is_called_as_a_run_at_a_board() {
    let named = |name: &str, boards: &str| {
        jobs(&two("", &format!("\"fw\": {{\"artifacts\": \"*\", \"board\": [{boards}]}}, \"{name}\": {{}}")), "main")
            .err()
    };
    let expected = |name: &str| {
        Some(format!("4:105: configurations.{name}: expected another name, which the run of `fw` at a board has"))
    };
    assert_eq!(named("fw/board", UNO), expected("fw/board"));
    assert_eq!(named("fw/board-2", UNO), None, "there is no second");
    assert_eq!(named("gw/board", UNO), None);
    assert_eq!(named("fw/board", ""), None);
    let on_platform =
        two(&format!(", \"board\": {UNO}"), "\"fw\": {\"artifacts\": \"*\"}, \"fw/board\": {\"board\": []}");
    assert!(jobs(&on_platform, "main").expect_err("one name for two").contains("expected another name"));
}

#[test]
fn what_boards_of_a_push_cost_has_a_bound() {
    // Each board of a platform is a job of each configuration: 3 334 × (1 + 2) are too many.
    let configurations: Vec<String> =
        (0..3_334).map(|index| format!("\"c{index}\": {{\"artifacts\": \"*\"}}")).collect();
    let file = format!(
        "{{\"platforms\": {{\"p\": {{\"build\": \"b\", \"board\": [{UNO}, {UNO}]}}}}, \"configurations\": {{{}}}}}",
        configurations.join(", ")
    );
    assert!(jobs(&file, "main").expect_err("too many").contains("expected at most 10000 jobs of a push"));
    // So is the text of one, over and over.
    let long = format!(
        "{{\"type\": \"uno\", \"test\": [{}]}}",
        vec![format!("{{\"send\": \"{}\"}}", "x".repeat(4000)); 50].join(",")
    );
    let file = format!(
        "{{\"platforms\": {{\"p\": {{\"build\": \"b\", \"board\": {long}}}}}, \"configurations\": {{{}}}}}",
        configurations[..1000].join(", ")
    );
    assert!(
        jobs(&file, "main")
            .expect_err("too long")
            .contains("expected at most 524288 bytes of a board, 33554432 of all")
    );
    let images: Vec<String> = (0..33).map(|index| format!("\"t{index}\": \"x\"")).collect();
    let errors = read(&format!("{{\"type\": \"t\", \"pass\": \"OK\", \"flash\": {{{}}}}}", images.join(",")))
        .expect_err("too many");
    assert!(errors[0].contains("configurations.fw.board.flash: expected at most 32 images"), "{errors:?}");
}

#[test]
fn one_job_may_have_several_boards_or_those_of_a_rig() {
    let part = |more: &str| format!(r#"{{ {more} "flash": "build/fw.bin", "pass": "OK", "timeout": "90s" }}"#);
    let list = format!(
        r#"{{ "boards": [{}, {}] }}"#,
        part(r#""type": "uno", "tags": ["left"],"#),
        part(r#""type": "esp32", "test": [{ "wait": "1s" }],"#)
    );
    let [board] = &boards(&list)[..] else { panic!("one job") };
    assert_eq!(board.wanted.to_string(), "a board of type uno with left and a board of type esp32 at one agent");
    assert_eq!((board.images.as_slice(), board.timeout_s), (&["build/fw.bin".to_string()][..], 90));
    let trials = trial::all_of(&board.text).expect("what was kept");
    assert_eq!((trials.parts.len(), trials.rig, &trials.wanted), (2, false, &board.wanted));
    assert_eq!(trials.alone(), None);
    let rig =
        format!(r#"{{ "type": "pair", "tags": ["leds"], "boards": [{}, {}] }}"#, part(""), part(r#""type": "uno","#));
    let [board] = &boards(&rig)[..] else { panic!("one job") };
    assert_eq!(board.wanted.to_string(), "a rig of type pair with 2 boards and leds");
    let trials = trial::all_of(&board.text).expect("what was kept");
    assert_eq!((trials.rig, trials.parts[0].kind.as_str(), trials.parts[1].kind.as_str()), (true, "", "uno"));
    // One alone, and a list of jobs, mean what they always have.
    assert_eq!(boards(&format!("[{}, {list}]", part(r#""type": "uno","#))).len(), 2);

    for (board, expected) in [
        (r#"{ "boards": [] }"#, "board.boards: expected an array of 2 to 8 objects"),
        (r#"{ "boards": [{ "type": "a", "pass": "OK" }] }"#, "board.boards: expected an array of 2 to 8 objects"),
        (r#"{ "boards": [{ "type": "a", "pass": "OK" }, { "pass": "OK" }] }"#, "board.boards[1]: expected a key type"),
        (
            r#"{ "tags": ["t"], "boards": [{ "type": "a", "pass": "OK" }, { "type": "a", "pass": "OK" }] }"#,
            "board.tags: expected `type` beside it",
        ),
        (
            r#"{ "type": "t", "pass": "OK", "boards": [{ "pass": "OK" }, { "pass": "OK" }] }"#,
            "board.pass: expected one of type, tags, boards",
        ),
    ] {
        let errors = read(board).expect_err("a mistake");
        assert!(errors.iter().any(|error| error.contains(expected)), "{board}: {errors:?}");
    }
}

#[test]
fn what_the_documentation_shows_of_several_boards_is_as_it_says() {
    let text = include_str!("../../docs/boards.md");
    let (_, chapter) = text.split_once("## Several boards of one job").expect("the chapter");
    let (chapter, _) = chapter.split_once("\n## ").expect("another one");
    let shown: String =
        chapter.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect();
    let (spec, warnings) = repo_spec::read(shown.as_bytes()).expect("a good file");
    assert_eq!(warnings, []);
    let wanted = |index: usize| spec.configurations[index].boards.as_ref().expect("boards")[0].wanted.to_string();
    assert_eq!(wanted(0), "a rig of type can-pair with 2 boards");
    assert_eq!(wanted(1), "a board of type arduino-uno and a board of type nucleo-f411 with can at one agent");
}
