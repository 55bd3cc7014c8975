//! Saifiles, real and hostile, read and expanded.

use sai_core::ordered::Map;

use sai_core::json::{self, Node};
use sai_core::matrix::{self, JobSpec, Matrix};
use sai_core::repo_spec::{self, RepoSpec};
use sai_core::saifile;

const REAL: [(&str, &str); 3] = [
    (
        include_str!("../../tests/fixtures/saifiles/lws-1e967537a.sai.json"),
        include_str!("../../tests/fixtures/saifiles/lws-1e967537a-main.tasks.txt"),
    ),
    (
        include_str!("../../tests/fixtures/saifiles/lws-a75a47602.sai.json"),
        include_str!("../../tests/fixtures/saifiles/lws-a75a47602-main.tasks.txt"),
    ),
    (
        include_str!("../../tests/fixtures/saifiles/sai-927373e68.sai.json"),
        include_str!("../../tests/fixtures/saifiles/sai-927373e68-main.tasks.txt"),
    ),
];

fn read(text: &str) -> (RepoSpec, Vec<String>) {
    match repo_spec::read(text.as_bytes()) {
        Ok((spec, warnings)) => (spec, warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn errors(text: impl AsRef<[u8]>) -> Vec<String> {
    match repo_spec::read(text.as_ref()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn jobs(text: &str, reference: &str) -> Vec<JobSpec> {
    matrix::expand(&read(text).0, reference).unwrap().jobs
}

fn pairs(jobs: &[JobSpec]) -> Vec<String> {
    jobs.iter().map(|job| format!("{}\t{}", job.platform, job.configuration)).collect()
}

/// The one step of the one job that a configuration makes of a build text.
fn step(build: &str, configuration: &str) -> String {
    let text = format!(
        r#"{{"schema":"sai-1","platforms":{{"p":{{"build":{build}}}}},"configurations":{{"c":{configuration}}}}}"#
    );
    let mut jobs = jobs(&text, "main");
    assert_eq!(jobs.len(), 1);
    jobs.remove(0).steps.remove(0)
}

#[test]
fn real_files_make_the_jobs_of_their_tables() {
    for (file, table) in REAL {
        // The coverity configuration is in the tables for every ref; their step count is of a mirror, a checkout and
        // each line but the first.
        let jobs = jobs(file, "refs/heads/coverity");
        let mut ours: Vec<String> = Vec::new();
        for job in &jobs {
            let text: usize = job.steps.iter().map(String::len).sum::<usize>() + job.steps.len() - 1;
            ours.push(format!("{}\t{}\t{}\t{text}", job.platform, job.configuration, job.steps.len() + 1));
        }
        let mut theirs: Vec<String> = table
            .lines()
            .filter(|line| !line.is_empty())
            .map(|line| line.rsplit_once('\t').map_or(line, |(rest, _)| rest).to_owned())
            .collect();
        ours.sort();
        theirs.sort();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
    }
    assert_eq!(jobs(REAL[0].0, "refs/heads/coverity").len(), 330);
    assert_eq!(jobs(REAL[0].0, "refs/heads/main").len(), 329);
    assert_eq!(jobs(REAL[0].0, "main").len(), 329);
    assert_eq!(jobs(REAL[0].0, "refs/tags/coverity").len(), 329);
    assert_eq!(jobs(REAL[1].0, "refs/heads/main").len(), 167);
    assert_eq!(jobs(REAL[2].0, "refs/heads/main").len(), 8);
}

#[test]
fn real_files_read_without_surprise() {
    assert_eq!(read(REAL[0].0).1, Vec::<String>::new());
    assert_eq!(
        read(REAL[1].0).1,
        ["103:22: configurations.distro_recommended.platforms: `linkit-cross` matches no platform of this file"]
    );
    assert_eq!(read(REAL[2].0).1, Vec::<String>::new());
    let jobs = jobs(REAL[2].0, "main");
    assert_eq!(
        pairs(&jobs)[..4],
        [
            "linux-ubuntu-1804/x86_64-amd/gcc\tmaster+builder",
            "linux-ubuntu-2004/x86_64-amd/gcc\tmaster+builder",
            "linux-fedora-32/x86_64-amd/gcc\tmaster+builder",
            "linux-ubuntu-1804/x86_64-amd/gcc\tbuilder-only",
        ]
    );
    assert_eq!(jobs[7].artifacts, ["build/sai-*.deb", "build/sai-*.rpm", "build/sai-*.7z"]);
}

#[test]
fn plain_text_of_real_files_is_json() {
    for (file, _) in REAL {
        let plain = json::blank(file.as_bytes()).unwrap();
        assert_eq!(plain.len(), file.len());
        assert!(miniserde::json::from_str::<miniserde::json::Value>(&plain).is_ok());
        let same = json::parse(plain.as_bytes()).unwrap();
        assert_eq!(same, json::parse(file.as_bytes()).unwrap());
    }
}

#[test]
fn selector_table() {
    let select = |selector: &str| {
        let text = format!(
            r#"{{"schema":"sai-1","configurations":{{"c":{{{selector}}}}},"platforms":{{
            "linux-a/x86_64/gcc":{{"build":"x"}},"linux-b/x86_64/gcc":{{"build":"x"}},
            "windows/x86_64/msvc":{{"build":"x","default":false}}}}}}"#
        );
        let jobs = jobs(&text, "main");
        jobs.iter().map(|job| job.platform.split('/').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(select(""), "linux-a linux-b");
    for (value, platforms) in [
        ("", "linux-a linux-b"),
        ("none", ""),
        ("windows", "linux-a linux-b windows"),
        ("none, windows", "windows"),
        ("none windows", "windows"),
        ("none; windows", "windows"),
        ("not linux-a", "linux-b"),
        ("not linux", ""),
        ("not linux-a, windows", "linux-b windows"),
        ("none, linux//gcc", "linux-a linux-b"),
        ("none, linux-a/x86_64/gcc/extra", ""),
        // What follows from the rules.
        ("windows, not windows", "linux-a linux-b windows"),
        ("not windows, windows", "linux-a linux-b windows"),
        ("none, not linux-a, linux", "linux-a linux-b"),
        ("not none, windows", "windows"),
        ("not not linux-a", "linux-b"),
        ("not unknown, linux-a, windows", "linux-a linux-b windows"),
        ("none,windows/x86", ""),
        ("none,/x86_64/gcc", "linux-a linux-b"),
        ("None, windows", "linux-a linux-b windows"),
        ("none\\nlinux-b", "linux-b"),
        ("none\\u002clinux-b", "linux-b"),
        (",;, *", "linux-a linux-b"),
    ] {
        assert_eq!(select(&format!(r#""platforms":"{value}""#)), platforms, "{value}");
    }
}

#[test]
fn names_that_match_nothing_are_warned_of_where_they_stand() {
    let (_, warnings) = read(
        "{\"schema\":\"sai-1\",\"platforms\":{\"linux\":{\"build\":\"x\"}},\r\n\"configurations\":{\r\n  \"é\": {\"platforms\": \
         \"none,\\tbsd, linux, li\\u006eux-x not\"}}}",
    );
    assert_eq!(
        warnings,
        [
            "3:30: configurations.é.platforms: `bsd` matches no platform of this file",
            "3:42: configurations.é.platforms: `linux-x` matches no platform of this file",
            "3:55: configurations.é.platforms: `not` without a name after it",
        ]
    );
}

#[test]
fn order_is_the_files_and_sections_may_come_in_any() {
    let text = r#"{"configurations":{"z":{},"a":{"platforms":"none, q"}},"schema":"sai-1",
        "platforms":{"q":{"build":"1"},"p":{"build":"2"},"q":{"build":"3"}}}"#;
    let jobs = jobs(text, "main");
    assert_eq!(pairs(&jobs), ["q\tz", "p\tz", "q\tz", "q\ta", "q\ta"]);
    assert_eq!(jobs.iter().map(|job| job.steps[0].as_str()).collect::<Vec<_>>(), ["1", "2", "3", "1", "3"]);
}

#[test]
fn default_and_missing_builds() {
    for (value, default) in [
        ("false", false),
        ("0", false),
        ("-0.0e5", false),
        ("null", false),
        ("\"false\"", false),
        ("\"no\"", false),
        ("\"off\"", false),
        ("\"OFF\"", false),
        ("true", true),
        ("1", true),
        ("0.5", true),
        ("\"true\"", true),
        ("\"yes\"", true),
    ] {
        let text = format!(
            r#"{{"schema":"sai-1","platforms":{{"p":{{"default":{value},"build":"x"}}}},"configurations":{{"c":{{}}}}}}"#
        );
        assert_eq!(!jobs(&text, "main").is_empty(), default, "{value}");
    }
    for build in ["\"build\":\"\"", "\"build\":[]", "\"build\":[\"\"]", ""] {
        let text = format!(
            r#"{{"schema":"sai-1","platforms":{{"p":{{{build}}}}},"configurations":{{"c":{{"platforms":"p"}}}}}}"#
        );
        assert_eq!(jobs(&text, "main"), []);
        assert_eq!(
            read(&text).1,
            [
                "1:32: platforms.p: has no build text, so it does not exist".to_owned(),
                format!("1:{}: configurations.c.platforms: `p` matches no platform of this file", 76 + build.len()),
            ]
        );
    }
}

#[test]
fn values_are_put_in_once_and_unknown_names_stay() {
    assert_eq!(step(r#""a ${cmake} b""#, r#"{"cmake":"-D${cpack}","cpack":"x"}"#), "a -D${cpack} b");
    assert_eq!(step(r#""[${cmake}${cpack}${prep}]""#, "{}"), "[]");
    assert_eq!(step(r#""${HOME} ${x:-y} $x $ ${ ${x""#, r#"{"x":"1"}"#), "${HOME} ${x:-y} $x $ ${ ${x");
    assert_eq!(step(r#""${x} ${y} $${x}${a${x}}""#, r#"{"x":"1"}"#), "1 ${y} $1${a1}");
    assert_eq!(
        step(r#""${deps} ${platforms} ${artifacts}""#, r#"{"deps":"1","platforms":"p","artifacts":"a"}"#),
        "${deps} ${platforms} ${artifacts}"
    );
    assert_eq!(step(r#"["cd x\nmake ${cmake}"]"#, r#"{"cmake":"a;b\n\"c\""}"#), "cd x\nmake a;b\n\"c\"");
    assert_eq!(step(&format!("\"{}\"", "${".repeat(20_000)), "{}").len(), 40_000);
}

#[test]
fn branches() {
    let made = |branches: &str, reference: &str| {
        let text = format!(
            r#"{{"schema":"sai-1","platforms":{{"p":{{"build":"x"}}}},"configurations":{{"c":{{"branches":"{branches}"}}}}}}"#
        );
        !jobs(&text, reference).is_empty()
    };
    for (branches, reference) in [
        ("", "refs/heads/x"),
        ("main", "refs/heads/main"),
        ("main", "main"),
        ("a, main ,b", "main"),
        ("release/*", "refs/heads/release/1"),
        ("v?", "refs/heads/v1"),
        ("**", "refs/heads/a/b"),
        ("", "refs/tags/v1"),
    ] {
        assert!(made(branches, reference), "{branches} builds {reference}");
    }
    for (branches, reference) in [
        ("main", "refs/heads/main2"),
        ("main", "refs/heads/x/main"),
        ("main", "refs/tags/main"),
        ("*", "refs/tags/main"),
        ("Main", "main"),
        ("", "_wip"),
        ("", "refs/heads/_wip"),
        ("_wip", "refs/heads/_wip"),
    ] {
        assert!(!made(branches, reference), "{branches} does not build {reference}");
    }
    let ignored = matrix::expand(&read(REAL[2].0).0, "refs/heads/_x").unwrap();
    assert_eq!(ignored.jobs, []);
    assert_eq!(
        ignored.warnings[0].to_string(),
        "1:1: branch `_x`: branches beginning with `_` are ignored, so nothing is built"
    );
}

#[test]
fn settings_of_platforms_and_configurations() {
    let text = r#"{
        "schema": "sai-1",
        "platforms": { "p": { "build": "x", "timeout": 90, "step_timeout": "2m", "env": {"A": "1", "B": "1"} } },
        "configurations": {
            "c": { "timeout": "2h", "env": {"B": "2", "_c3": ""}, "priority": -5, "artifacts": " ./build//*.deb , a/**,," },
            "d": { "step_timeout": " 15 m", "deps": [1], "board": [], "needs": "c", "idle": 2, "pool": "x", "cmake": "" },
        # },
            "e": {}
        },
        "extra": 1
    }"#;
    let (_, warnings) = read(text);
    assert_eq!(
        warnings,
        [
            "6:85: configurations.d.idle: unknown key and no text, ignored",
            "6:96: configurations.d.pool: unknown key, and no build text uses it as a value",
            "10:9: extra: unknown key, ignored",
        ]
    );
    let jobs = jobs(text, "main");
    assert_eq!((jobs[0].timeout_s, jobs[0].step_timeout_s, jobs[0].priority), (Some(7200), Some(120), -5));
    assert_eq!((jobs[1].timeout_s, jobs[1].step_timeout_s, jobs[1].priority), (Some(90), Some(900), 0));
    let env = |pairs: &[(&str, &str)]| -> Map<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(jobs[0].env, env(&[("A", "1"), ("B", "2"), ("_c3", "")]));
    assert_eq!(jobs[2].env, env(&[("A", "1"), ("B", "1")]));
    assert_eq!(jobs[0].artifacts, ["build/*.deb", "a/**"]);
}

#[test]
fn all_wrong_values_are_named_at_once() {
    let text = r#"{ "schema": "sai-2",
  "platforms": {
    "a": { "build": 1 },
    "b": { "build": ["x", 2, {}] },
    "/etc": { "build": "x" },
    "a/../b": { "build": "x", "timeout": 0, "env": {"SAI_X": "1", "1a": "2", "D": 3, "E": "\u0000"} },
    "c": [],
    "d": { "build": "x", "default": [], "timeout": "1w", "build": "y", "env": "A=1" }
  },
  "configurations": {
    "x": { "cmake": null, "platforms": ["a"], "artifacts": "~etc/passwd, a/../../b, [", "priority": 101 },
    "x": 7,
    "\n": { "timeout": "99999999999999999999h", "branches": 1 }
  }
}"#;
    assert_eq!(
        errors(text),
        [
            "1:13: schema: expected \"sai-1\"",
            "3:21: platforms.a.build: expected text or an array of texts",
            "4:27: platforms.b.build: expected text or an array of texts",
            "4:30: platforms.b.build: expected text or an array of texts",
            "5:5: platforms./etc: expected a platform name that does not begin with `/`",
            "6:5: platforms.a/../b: expected a platform name whose `/`-separated parts begin with a letter, a digit or `_`",
            "6:42: platforms.a/../b.timeout: expected seconds as a number, or text like \"90s\", \"15m\", \"2h\": 1 to 2592000 s",
            "6:53: platforms.a/../b.env.SAI_X: expected a variable name that does not begin with SAI_, which are Sai's own",
            "6:67: platforms.a/../b.env.1a: expected a variable name of letters, digits and `_`, at most 128 bytes",
            "6:83: platforms.a/../b.env.D: expected text",
            "6:91: platforms.a/../b.env.E: expected text without U+0000",
            "7:10: platforms.c: expected an object",
            "8:37: platforms.d.default: expected true or false",
            "8:52: platforms.d.timeout: expected seconds as a number, or text like \"90s\", \"15m\", \"2h\": 1 to 2592000 s",
            "8:58: platforms.d.build: expected to be given once (first at 8:12)",
            "8:79: platforms.d.env: expected an object",
            "11:21: configurations.x.cmake: expected text",
            "11:40: configurations.x.platforms: expected text",
            "11:60: configurations.x.artifacts: expected a path relative to the checkout, or an absolute one in the job's container, found `~etc/passwd`",
            "11:60: configurations.x.artifacts: expected a path without `..`, found `a/../../b`",
            "11:60: configurations.x.artifacts: expected a `]` for each `[` of the glob, found `[`",
            "11:101: configurations.x.priority: expected a whole number from -100 to 100",
            "12:5: configurations.x: expected a name not given before (first at 11:5)",
            "12:10: configurations.x: expected an object",
            "13:5: configurations.\\n: expected a configuration name of 1 to 128 bytes without control characters",
            "13:24: configurations.\\n.timeout: expected seconds as a number, or text like \"90s\", \"15m\", \"2h\": 1 to 2592000 s",
            "13:61: configurations.\\n.branches: expected text, a comma-separated list of globs",
        ]
    );
    assert_eq!(errors("[]"), ["1:1: expected an object with `schema`, `platforms` and `configurations`"]);
    assert_eq!(
        errors(r#"{"platforms":1,"configurations":""}"#),
        [
            "1:14: platforms: expected an object of platforms by name",
            "1:33: configurations: expected an object of configurations by name"
        ]
    );
}

#[test]
fn missing_sections_are_warned_of() {
    assert_eq!(
        read("{}").1,
        [
            "1:1: expected \"schema\": \"sai-1\", read as that",
            "1:1: no `platforms`, so nothing is built",
            "1:1: no `configurations`, so nothing is built",
        ]
    );
    let same = r#"{"schema":"sai-1","platforms":{"a":{"build":"x"},"a":{"build":"y"},"a":{"build":"x"}},"configurations":{"c":{}}}"#;
    assert_eq!(read(same).1, ["1:68: platforms.a: the same build as at 1:32, each job is made twice"]);
    assert_eq!(pairs(&jobs(same, "main")), ["a\tc", "a\tc", "a\tc"]);
    let twice = r#"{"schema":"sai-1","platforms":{"a":{"build":"x"}},"configurations":{"c":{}},"platforms":{"b":{"build":"x"}}}"#;
    assert_eq!(read(twice).1, ["1:77: platforms: also given at 1:19, both are read"]);
    assert_eq!(pairs(&jobs(twice, "main")), ["a\tc", "b\tc"]);
}

#[test]
fn what_is_no_json_is_named_by_line_and_column() {
    for (text, error) in [
        (
            "",
            "1:1: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`), found the end of the file",
        ),
        (
            "# only\n# comments",
            "2:11: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`), found the end of the file",
        ),
        ("{\n \"a\": 1,\n}", "2:8: expected no comma after the last entry of an object (its `}` is at 3:1)"),
        ("{\n \"a\": 1, # c\r\n }", "2:8: expected no comma after the last entry of an object (its `}` is at 3:2)"),
        ("{\"a\":1\n\"b\":2}", "2:1: expected `,` or the `}` of the `{` at 1:1, found `\"`"),
        ("{\"a\":[1 2]}", "1:9: expected `,` or the `]` of the `[` at 1:6, found `2`"),
        ("{\"a\":[1}", "1:8: expected `,` or the `]` of the `[` at 1:6, found `}`"),
        (
            "{\"a\":[,]}",
            "1:7: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`), found `,`",
        ),
        (
            "{\"a\":[1,,]}",
            "1:9: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`), found `,`",
        ),
        ("{a:1}", "1:2: expected a key in double quotes, found `a`"),
        ("{'a':1}", "1:2: expected a key in double quotes, found `'` (texts stand in double quotes)"),
        ("{\"a\" 1}", "1:6: expected `:` after the key, found `1`"),
        ("{// c\n}", "1:2: expected a key in double quotes, found `/` (comments begin with `#`)"),
        (
            "{\"a\":1} /* c */",
            "1:9: expected nothing more: the file's value ended before this, found `/` (comments begin with `#`)",
        ),
        ("{} {}", "1:4: expected nothing more: the file's value ended before this, found `{`"),
        ("{}\0", "1:3: expected nothing more: the file's value ended before this, found the control character U+0000"),
        (
            "{\"a\":\"é\tb\"}",
            "1:8: expected no raw control character in a text (write \\t, \\u001b), found the control character U+0009",
        ),
        (
            "{\"a\":\"é\0b\"}",
            "1:8: expected no raw control character in a text (write \\t, \\u001b), found the control character U+0000",
        ),
        ("{\"a\":\"é\nb\"}", "1:8: expected a closing `\"` before the end of the line (write \\n)"),
        ("{\"a\":\"b", "1:6: expected a closing `\"` for the text that begins here"),
        ("{\"a\":\"b\\", "1:6: expected a closing `\"` for the text that begins here"),
        ("{\"a\":\"b\\u00", "1:6: expected a closing `\"` for the text that begins here"),
        ("{\"a\":\"b\\x\"}", "1:8: expected one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX"),
        ("{\"a\":\"b\\u00g0\"}", "1:12: expected four hexadecimal digits after \\u, found `g`"),
        ("{\"a\":\"b\\ud800\"}", "1:8: expected a surrogate pair, high and then low"),
        ("{\"a\":\"b\\udc00\\ud800\"}", "1:8: expected a surrogate pair, high and then low"),
        ("{\"a\":\"b\\ud800\\n\"}", "1:8: expected a surrogate pair, high and then low"),
        ("{\"a\":01}", "1:7: expected a number without leading zeros, found `1`"),
        ("{\"a\":1.}", "1:8: expected a digit, found `}`"),
        ("{\"a\":-}", "1:7: expected a digit, found `}`"),
        ("{\"a\":1e}", "1:8: expected a digit, found `}`"),
        (
            "{\"a\":.5}",
            "1:6: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`), found `.`",
        ),
        ("{\"a\":tru}", "1:6: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`)"),
        ("{\"a\":trues}", "1:6: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`)"),
        (
            "{\"a\":NaN}",
            "1:6: expected a value (a text in double quotes, a number, true, false, null, `[` or `{`), found `N`",
        ),
        ("{\u{a0}}", "1:2: expected a key in double quotes, found `\u{a0}`"),
    ] {
        assert_eq!(json::parse(text.as_bytes()).unwrap_err().to_string(), error, "{text:?}");
        assert_eq!(json::blank(text.as_bytes()).unwrap_err().to_string(), error, "{text:?}");
    }
    for (bytes, error) in [
        (&b"\xff"[..], "1:1: expected UTF-8"),
        (b"{\r\n\"\xc3\xa9\xc3", "2:3: expected UTF-8"),
        (b"{}\n#\xed\xa0\x80", "2:2: expected UTF-8"),
        (b"\xff\xfe{\0}\0", "1:1: expected UTF-8"),
    ] {
        assert_eq!(json::parse(bytes).unwrap_err().to_string(), error, "{bytes:?}");
    }
}

#[test]
fn the_dialect_is_accepted_and_blanked_in_place() {
    for (text, plain) in [
        ("\u{feff}{\"a\":1}", "   {\"a\":1}"),
        ("[1,2, # é\n]#x", "[1,2      \n]  "),
        ("[[],[1,],]", "[[],[1 ] ]"),
        ("{\"#\":\"# no\",# c,\r\n\"\\\"#\":[#]\n]}#", "{\"#\":\"# no\",     \n\"\\\"#\":[  \n]} "),
        ("{ # }\n}", "{    \n}"),
        (" \"\\ud83d\\ude00\\/\\b\\f\" ", " \"\\ud83d\\ude00\\/\\b\\f\" "),
        ("-0.5E+7", "-0.5E+7"),
    ] {
        let blanked = json::blank(text.as_bytes()).unwrap();
        assert_eq!(blanked, plain);
        assert_eq!(blanked.len(), text.len());
        assert!(miniserde::json::from_str::<miniserde::json::Value>(&blanked).is_ok(), "{plain}");
    }
    assert_eq!(json::parse(b"\"\\ud83d\\ude00\"").unwrap().as_text(), Some("😀"));
    // A byte order mark takes no column.
    assert_eq!(json::parse("\u{feff}x".as_bytes()).unwrap_err().column, 1);
}

#[test]
fn trees_keep_places_and_repeated_keys() {
    let tree = json::parse("{\"a\":1,\r\n\t\"é\": [true, null], \"a\": -2 }".as_bytes()).unwrap();
    assert_eq!(tree.get("a").and_then(json::Value::as_integer), Some(-2));
    let array = tree.get("é").unwrap();
    assert_eq!((array.at.line, array.at.column), (2, 7));
    assert_eq!(array.as_array().unwrap()[1].value, Node::Null);
    assert_eq!(array.as_array().unwrap()[0].as_bool(), Some(true));
    assert_eq!(array.as_array().unwrap()[1].position().column, 14);
    assert_eq!(tree.unknown_keys(&["é"]).map(|key| key.at.column).collect::<Vec<_>>(), [2, 21]);
}

#[test]
fn limits_of_the_text() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(json::parse(nested(32).as_bytes()).is_ok());
    assert_eq!(
        json::parse(nested(33).as_bytes()).unwrap_err().to_string(),
        "1:33: expected arrays and objects nested at most 32 deep"
    );
    for opening in ["[", "{\"a\":", "[{\"a\":"] {
        assert_eq!(json::parse(opening.repeat(1_000_000 / opening.len()).as_bytes()).unwrap_err().line, 1);
    }
    let mut file = b"{}\n".to_vec();
    file.resize(json::FILE_MAX, b' ');
    assert!(json::parse(&file).is_ok());
    file.push(b' ');
    let too_large = "expected the file to end: it may have at most 1048576 bytes";
    assert_eq!(json::parse(&file).unwrap_err().to_string(), format!("2:{}: {too_large}", json::FILE_MAX - 2));
    // A character across the limit.
    file.truncate(json::FILE_MAX - 1);
    file.extend("é".as_bytes());
    assert_eq!(json::parse(&file).unwrap_err().to_string(), format!("2:{}: {too_large}", json::FILE_MAX - 3));

    let text = |length: usize| format!("[\n \"{}\"]", "a".repeat(length));
    assert!(json::parse(text(json::TEXT_MAX).as_bytes()).is_ok());
    assert_eq!(
        json::parse(text(json::TEXT_MAX + 1).as_bytes()).unwrap_err().to_string(),
        "2:2: expected a text of at most 65536 bytes"
    );
    let many = format!("[{}]", "0,".repeat(json::VALUES_MAX));
    assert_eq!(
        json::parse(many.as_bytes()).unwrap_err().to_string(),
        "1:200000: expected at most 100000 values in a file"
    );
}

#[test]
fn limits_of_the_spec() {
    let name = "n".repeat(129);
    let text = format!(r#"{{"platforms":{{"{name}":{{"build":"x"}}}},"configurations":{{"{name}":{{}}}}}}"#);
    let found = errors(&text);
    assert!(found[0].starts_with("1:15: platforms.nnn") && found[0].ends_with("a platform name of 1 to 128 bytes"));
    assert!(found[1].contains("a configuration name of 1 to 128 bytes"), "{}", found[1]);

    let entries = |count: usize, entry: &str| {
        (0..count).map(|index| format!("\"{index}\":{entry}")).collect::<Vec<_>>().join(",")
    };
    let spec = |platforms: &str, configurations: &str| {
        format!(r#"{{"schema":"sai-1","platforms":{{{platforms}}},"configurations":{{{configurations}}}}}"#)
    };
    let build = r#"{"build":"x"}"#;
    assert_eq!(errors(spec(&entries(1001, build), ""))[0], "1:19922: platforms: expected at most 1000 platforms");
    assert!(
        errors(spec("", &entries(10_001, "{}")))[0].ends_with("configurations: expected at most 10000 configurations")
    );

    let jobs = |text: &str| match matrix::expand(&read(text).0, "main") {
        Ok(Matrix { jobs, .. }) => Ok(jobs.len()),
        Err(error) => Err(error.to_string()),
    };
    assert_eq!(jobs(&spec(&entries(100, build), &entries(100, "{}"))), Ok(10_000));
    assert_eq!(
        jobs(&spec(&entries(100, build), &format!("{},\n\"more\":{{}}", entries(100, "{}")))),
        Err("2:1: configurations.more: expected at most 10000 jobs of a push".to_owned())
    );

    let value = "v".repeat(40_000);
    let grown = |build: &str, configurations: &str| jobs(&spec(&format!(r#""p":{{"build":{build}}}"#), configurations));
    assert_eq!(
        grown(r#""${x}${x}""#, &format!("\n \"c\":{{\"x\":\"{value}\"}}")),
        Err("2:2: configurations.c: expected steps of at most 65536 bytes for the platform at 1:32".to_owned())
    );
    let steps = format!("[{}]", ["\"${x}\""; 14].join(","));
    assert_eq!(
        grown(&steps, &format!("\n \"c\":{{\"x\":\"{value}\"}}")),
        Err("2:2: configurations.c: expected at most 524288 bytes of text in the job for the platform at 1:32"
            .to_owned())
    );
    let platforms = entries(100, &format!("{{\"build\":[{}]}}", ["\"${x}\""; 12].join(",")));
    assert_eq!(
        jobs(&spec(&platforms, &format!("\n \"c\":{{\"x\":\"{value}\"}}"))),
        Err("2:2: configurations.c: expected at most 33554432 bytes of build text in the jobs of a push".to_owned())
    );
}

/// Reads and expands whatever it is given; only that it returns matters.
fn survive(bytes: &[u8]) {
    if let Ok((spec, _)) = repo_spec::read(bytes) {
        for reference in ["main", "refs/heads/_x", "refs/tags/1", "", "refs/heads/"] {
            let _ = matrix::expand(&spec, reference);
        }
        let _ = matrix::expand_for_any_ref(&spec);
    }
    if let Ok(plain) = json::blank(bytes) {
        assert_eq!(plain.len(), bytes.len());
    }
}

#[test]
fn no_part_of_a_real_file_passes_or_panics() {
    let file = REAL[2].0.as_bytes();
    for end in 0..file.len() {
        let whole = file[end..].iter().all(u8::is_ascii_whitespace);
        assert_eq!(json::parse(&file[..end]).is_ok(), whole, "{end}");
        survive(&file[..end]);
        survive(&file[end..]);
    }
}

#[test]
fn damaged_real_files_never_panic() {
    let mut state: u64 = 0x5a1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let interesting = b"{}[]\",:#\\/\n\r\t\0-+.eEu0159 $nullfalse\xff\xc3\xa9\xed\xa0\xef\xbb\xbf";
    for round in 0..3000 {
        let mut file = REAL[2 - usize::from(round % 50 == 0)].0.as_bytes().to_vec();
        for _ in 0..=random(6) {
            let at = random(file.len());
            match random(4) {
                0 => file[at] = interesting[random(interesting.len())],
                1 => file.insert(at, interesting[random(interesting.len())]),
                2 => {
                    file.remove(at);
                }
                _ => {
                    let end = (at + random(200)).min(file.len());
                    let part = file[at..end].to_vec();
                    let to = random(file.len());
                    file.splice(to..to, part);
                }
            }
        }
        survive(&file);
    }
}

#[test]
fn the_worst_files_are_quick() {
    let started = std::time::Instant::now();
    // Every selector token against every platform, and none matches.
    let platforms: Vec<String> = (0..1000).map(|index| format!(r#""a-{index}":{{"build":"x"}}"#)).collect();
    let tokens: Vec<String> = (0..6_000).map(|index| format!("a-x{index}")).collect();
    let list = tokens.join(" ");
    let configurations: Vec<String> = (0..8).map(|index| format!(r#""{index}":{{"platforms":"{list}"}}"#)).collect();
    let text =
        format!(r#"{{"platforms":{{{}}},"configurations":{{{}}}}}"#, platforms.join(","), configurations.join(","));
    let (spec, warnings) = read(&text);
    assert_eq!(warnings.len(), repo_spec::REPORTS_MAX);
    assert_eq!(matrix::expand(&spec, "main").unwrap().jobs.len(), 8_000);
    // One line of a million columns.
    survive(format!("[{}]", "\"é\",".repeat(90_000)).as_bytes());
    survive(format!("{{\"a\":\"{}", "\\u0041".repeat(170_000)).as_bytes());
    // A second, or several minutes where it grows as the square.
    assert!(started.elapsed().as_secs() < 60, "took {:?}", started.elapsed());
}

#[test]
fn a_commit_says_that_nothing_is_built_of_it() {
    let file =
        br#"{"schema": "sai-1", "platforms": {"linux": {"build": ["true"]}}, "configurations": {"default": {}}}"#;
    for subject in ["Mend a word [skip ci]", "[CI skip] Mend", "[Skip CI]"] {
        let reading = saifile::of_push(file, "refs/heads/main", subject, None);
        assert!(reading.specs.is_empty() && reading.errors.is_empty(), "{subject}");
        assert!(reading.warnings[0].contains("nothing of it is built"), "{:?}", reading.warnings);
    }
    for subject in ["", "skip ci", "[skip  ci]", "Say what [skip-ci] is"] {
        assert_eq!(saifile::of_push(file, "refs/heads/main", subject, None).specs.len(), 1, "{subject}");
    }
}
