//! What boards print of their tests, whole and disturbed, read.

use sai_core::axis::{Case, CaseResult};
use sai_core::results::{CASES_MAX, Format, Results, Summary};
use std::process::{Command, Stdio};

const TAP: &str = concat!(
    "TAP version 13\r\n1..5\r\nok 1 - boot\r\nnot ok 2 - adc\r\n  ---\r\n  got: 3\r\n  ...\r\n    ok 1 - inner\r\n    1..1\r\nok 3 - nested\r\nok 4 # SKIP no card\r\nnot ok 5 - known # TO",
    "DO later\r\n"
);
const CTEST: &str = "Test project /build\n      Start  1: boot\n 1/4 Test  #1: boot .............................   Passed    0.01 sec\n      Start  2: adc\n 2/4 Test  #2: adc ..............................***Failed    0.02 sec\n 3/4 Test  #3: slow .............................***Timeout   1.00 sec\n 4/4 Test  #4: card .............................***Skipped   0.00 sec\n\n50% tests passed, 2 tests failed out of 4\n\nThe following tests FAILED:\n\t  2 - adc (Failed)\n";
const ZTEST: &str = "*** Booting Zephyr OS build v3.7.0 ***\nRunning TESTSUITE framework\n===================================================================\nSTART - test_one\n PASS - test_one in 0.001 seconds\n===================================================================\nSTART - test_two\n    Assertion failed at main.c:11: framework_test_two: (1 == 2)\n FAIL - test_two in 0.003 seconds\n===================================================================\nSTART - test_three\n SKIP - test_three in 0.001 seconds\n===================================================================\nTESTSUITE framework failed.\n\n------ TESTSUITE SUMMARY START ------\n\nSUITE FAIL -  50.00% [framework]: pass = 1, fail = 1, skip = 1, total = 3 duration = 0.005 seconds\n - PASS - [framework.test_one] duration = 0.001 seconds\n - FAIL - [framework.test_two] duration = 0.003 seconds\n - SKIP - [framework.test_three] duration = 0.001 seconds\n\n------ TESTSUITE SUMMARY END ------\n\n===================================================================\nPROJECT EXECUTION FAILED\n";
const UNITY: &str = "test/test_led.c:17:test_on:PASS\ntest/test_led.c:22:test_off:FAIL: Expected 1 Was 0\ntest/test_led.c:30:test_dim:IGNORE: no PWM\n\n-----------------------\n3 Tests 1 Failures 1 Ignored \nFAIL\n";
const GTEST: &str = "Running main() from gtest_main.cc\n[==========] Running 4 tests from 2 test suites.\n[----------] Global test environment set-up.\n[----------] 2 tests from Adc\n[ RUN      ] Adc.Zero\n[       OK ] Adc.Zero (0 ms)\n[ RUN      ] Adc.Full\nadc.cc:12: Failure\nValue of: x\n[  FAILED  ] Adc.Full (1 ms)\n[----------] 2 tests from Adc (1 ms total)\n\n[----------] 2 tests from P/Led\n[ RUN      ] P/Led.On/0\n[  FAILED  ] P/Led.On/0, where GetParam() = (1, 2) (0 ms)\n[ RUN      ] P/Led.On/1\n[  SKIPPED ] P/Led.On/1 (0 ms)\n[----------] Global test environment tear-down\n[==========] 4 tests from 2 test suites ran. (1 ms total)\n[  PASSED  ] 1 test.\n[  SKIPPED ] 1 test, listed below:\n[  SKIPPED ] P/Led.On/1\n[  FAILED  ] 2 tests, listed below:\n[  FAILED  ] Adc.Full\n[  FAILED  ] P/Led.On/0, where GetParam() = (1, 2)\n\n 2 FAILED TESTS\n";
const LIBTEST: &str = "\nrunning 4 tests\ntest adc::zero ... ok\ntest adc::full ... FAILED\ntest slow ... ignored, too slow\ntest noisy ... it prints\nok\n\nfailures:\n\ntest result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\n   Doc-tests x\n\nrunning 1 test\ntest src/lib.rs - f (line 3) ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";

const ALL: [(Format, &str); 6] = [
    (Format::Tap, TAP),
    (Format::Ctest, CTEST),
    (Format::Ztest, ZTEST),
    (Format::Unity, UNITY),
    (Format::Gtest, GTEST),
    (Format::Libtest, LIBTEST),
];

fn read(format: Format, text: &[u8]) -> (Vec<Case>, Summary) {
    let (mut results, mut cases, mut at) = (Results::new(format), Vec::new(), 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        at += line.len() as u64;
        results.line(line.strip_suffix(b"\n").unwrap_or(line), at, &mut cases);
    }
    (cases, results.summary().clone())
}

/// The names with a letter each for how they ended.
fn short(cases: &[Case]) -> String {
    let letter = |case: &Case| match case.result {
        CaseResult::Passed => 'P',
        CaseResult::Failed => 'F',
        _ => 's',
    };
    cases.iter().map(|case| format!("{} {}", letter(case), case.name)).collect::<Vec<_>>().join(", ")
}

/// The same run with nothing in it that failed.
fn mended(text: &str) -> String {
    let pairs = [
        ("not ok 2", "ok 2"),
        ("***Failed ", "   Passed "),
        ("***Timeout ", "   Passed "),
        ("50% tests passed, 2 tests", "100% tests passed, 0 tests"),
        (" FAIL - test_two", " PASS - test_two"),
        ("- FAIL - [", "- PASS - ["),
        ("SUITE FAIL", "SUITE PASS"),
        ("EXECUTION FAILED", "EXECUTION SUCCESSFUL"),
        ("FAIL: Expected 1 Was 0", "PASS"),
        ("1 Failures", "0 Failures"),
        ("[  FAILED  ] Adc.Full (1 ms)", "[       OK ] Adc.Full (1 ms)"),
        ("[  FAILED  ] P/Led.On/0, where GetParam() = (1, 2) (0 ms)", "[       OK ] P/Led.On/0 (0 ms)"),
        ("full ... FAILED", "full ... ok"),
        ("2 passed; 1 failed", "3 passed; 0 failed"),
    ];
    let text = text.split("[  FAILED  ] 2 tests, listed").next().unwrap_or_default();
    pairs.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

#[test]
fn each_format_tells_its_cases_and_its_end() {
    for ((format, text), expected) in ALL.into_iter().zip([
        "P boot, F adc, P nested, s 4, s known",
        "P boot, F adc, F slow, s card",
        "P framework.test_one, F framework.test_two, s framework.test_three",
        "P test_on, F test_off, s test_dim",
        "P Adc.Zero, F Adc.Full, F P/Led.On/0, s P/Led.On/1",
        "P adc::zero, F adc::full, s slow, P noisy, P src/lib.rs - f (line 3)",
    ]) {
        let (cases, summary) = read(format, text.as_bytes());
        assert_eq!(short(&cases), expected);
        assert!(summary.complete() && summary.bad(), "{format:?}: {summary:?}");
        assert_eq!(summary.seen, cases.len() as u64, "{format:?}");
        let (cases, summary) = read(format, mended(text).as_bytes());
        assert!(summary.complete() && !summary.bad(), "{format:?}: {summary:?} {}", short(&cases));
        // Where a case says so is in that line.
        for case in cases {
            let end = case.at.unwrap() as usize;
            assert!(mended(text).as_bytes().get(end - 1) == Some(&b'\n'), "{format:?} {case:?}");
        }
    }
    assert_eq!(read(Format::Unity, UNITY.as_bytes()).0[1].text.as_deref(), Some("Expected 1 Was 0"));
    assert_eq!(read(Format::Tap, TAP.as_bytes()).0[3].text.as_deref(), Some("SKIP no card"));
}

/// What a program prints that is run in a directory of its own, made by this script of what is in it.
fn printed(name: &str, file: &str, text: &str, script: &str) -> Vec<u8> {
    let directory = std::env::temp_dir().join(format!("sai-results-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join(file), text).expect("written");
    let mut command = Command::new("sh");
    let output = command.args(["-c", script]).current_dir(&directory).stdin(Stdio::null()).output().expect("sh");
    std::fs::remove_dir_all(directory).expect("removed");
    assert!(!output.stdout.is_empty(), "{output:?}");
    output.stdout
}

/// The texts above are as these programs print; two of them are there on each machine that builds this.
#[test]
fn what_libtest_and_test_more_print_here_is_read() {
    const RUST: &str =
        "#[cfg(test)] mod adc { #[test] fn zero() {} #[test] fn full() { println!(\"not ok\"); assert_eq!(1, 2) } }
        #[test] #[ignore = \"too slow\"] fn slow() {} #[test] #[should_panic] fn noisy() { panic!() }";
    for threads in ["1", "4"] {
        let script = format!("rustc --test -o it it.rs && ./it --test-threads {threads}");
        let (mut cases, summary) = read(Format::Libtest, &printed("libtest", "it.rs", RUST, &script));
        cases.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(short(&cases), "F adc::full, P adc::zero, P noisy - should panic, s slow");
        assert!(summary.complete() && summary.bad(), "{summary:?}");
    }
    const PERL: &str = "use Test::More tests => 5; ok(1, 'boot'); is(3, 4, 'adc'); subtest inner => sub { plan tests => 1; ok(1, 'deep') };
        SKIP: { skip 'no card', 1; ok(0, 'card') } LATER: { local $LATER = 'later'; ok(0, 'known') }";
    let perl = PERL.replace("LATER", concat!("TO", "DO"));
    let (cases, summary) = read(Format::Tap, &printed("tap", "it.t", &perl, "perl it.t 2>/dev/null"));
    assert_eq!(short(&cases), "P boot, F adc, P inner, s 4, s known");
    assert!(summary.complete() && summary.bad(), "{summary:?}");
}

#[test]
fn a_logger_that_prints_into_any_place_changes_nothing() {
    let lines = [
        "[   12.345678] usb 1-1: new high-speed USB device number 3\r\n",
        "<6>[    0.000001][    T1] random: crng init done\n",
        "[00:00:01.234,567] <inf> sensor: sampled\n",
    ];
    for (format, text) in ALL {
        let expected = read(format, text.as_bytes());
        for at in 0..=text.len() {
            let line = lines[at % lines.len()];
            let disturbed = [&text.as_bytes()[..at], line.as_bytes(), &text.as_bytes()[at..]].concat();
            let found = read(format, &disturbed);
            assert_eq!(
                short(&found.0),
                short(&expected.0),
                "{format:?} at {at}: {}",
                String::from_utf8_lossy(&disturbed)
            );
            assert_eq!(found.1, expected.1, "{format:?} at {at}");
        }
    }
}

#[test]
fn noise_without_a_stamp_hides_no_result_behind_it() {
    for (format, text) in ALL {
        let expected = read(format, text.as_bytes());
        // In front of each line that has a result, without a line's end between them.
        for (case, line) in expected.0.iter().map(|case| (case, case.at.unwrap() as usize)) {
            let start = text[..line - 1].rfind('\n').map_or(0, |end| end + 1);
            let disturbed = [&text[..start], "random: 3 bits\u{7}", &text[start..]].concat();
            let found = read(format, disturbed.as_bytes());
            let known = found.0.iter().any(|other| other.name == case.name && other.result == case.result);
            // Alone in its line stands the result of a test that itself printed.
            assert!(known || case.name == "noisy", "{format:?} {}: {}", case.name, short(&found.0));
            assert_eq!(found.1.bad(), expected.1.bad());
        }
    }
}

#[test]
fn whatever_is_lost_makes_no_success() {
    for (format, text) in ALL {
        // Of a run that failed each byte, and each line.
        for at in 0..text.len() {
            let dropped = [&text.as_bytes()[..at], &text.as_bytes()[at + 1..]].concat();
            let (cases, summary) = read(format, &dropped);
            assert!(summary.bad() || !summary.complete(), "{format:?} {at}: {} {summary:?}", short(&cases));
        }
        // Of a run that passed, all that came before a place, and each line with a result. What a second program will announce
        // is nothing that could be missed.
        let text = mended(text.split("   Doc-tests").next().unwrap_or_default());
        let (cases, whole) = read(format, text.as_bytes());
        let last = cases.iter().filter_map(|case| case.at).max().unwrap() as usize;
        for at in 0..last - 2 {
            // Of a line that has no end nothing is read.
            let whole = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let (_, summary) = read(format, &text.as_bytes()[..whole]);
            assert!(!summary.complete(), "{format:?} {at}");
        }
        // A summary says some of them again.
        let once =
            |case: &&Case| format != Format::Ztest && !(format == Format::Gtest && case.result == CaseResult::Skipped);
        for end in cases.iter().filter(once).map(|case| case.at.unwrap() as usize) {
            let start = text[..end - 1].rfind('\n').map_or(0, |before| before + 1);
            let (_, summary) = read(format, [&text[..start], &text[end..]].concat().as_bytes());
            assert!(!summary.complete() && summary.seen + 1 == whole.seen, "{format:?} {summary:?}");
        }
    }
}

#[test]
fn odd_but_allowed_lines_of_tap() {
    for (text, expected, complete, bad) in [
        ("ok\nok\n1..2\n", "P 1, P 2", true, false),
        ("ok 2 b\nok 1 a\n1..2\n", "P b, P a", true, false),
        ("1..0 # SKIP nothing to do\n", "", true, false),
        ("1..2\nok 1\nBail out! no clock\nok 2\n", "P 1, P 2", true, true),
        ("1..2\nok 1\nok 3\n", "P 1, P 3", true, false),
        ("1..3\nok 1\nok 3\n", "P 1, P 3", false, false),
        ("1..1\nokay 1\nnot okay\nok1\n", "", false, false),
        (
            "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n    1..2\n    ok 1 a\n    not ok 2 b\nnot ok 1 s\n",
            "F s",
            true,
            true,
        ),
        (
            "[    0.1] x\n[    0.123456] 1..1\n[    0.123457]     ok 1 sub\n[    0.123458] ok 1 whole\n",
            "P whole",
            true,
            false,
        ),
        ("1..2\nok 1 - a\nok 1 - a\nok 2\n", "P a, P 2", true, false),
        ("1..2\nok 1 - a\nnot ok 1 - a\nok 2\n", "P a, F a, P 2", true, true),
    ] {
        let (cases, summary) = read(Format::Tap, text.as_bytes());
        assert_eq!((short(&cases).as_str(), summary.complete(), summary.bad()), (expected, complete, bad), "{text}");
    }
}

#[test]
fn hostile_lines_cost_little_and_never_panic() {
    let mut state: u64 = 99;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let started = std::time::Instant::now();
    for round in 0..1500 {
        let (format, text) = ALL[round % 6];
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..20 {
            let (at, from) = (random(bytes.len()), random(bytes.len()));
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.splice(at..at, ALL[random(6)].1.bytes().skip(from % 100).take(30))),
                _ => drop(bytes.remove(at)),
            }
        }
        for case in read(format, &bytes).0 {
            assert!(!case.name.contains(char::is_control), "{case:?}");
        }
    }
    for (format, _) in ALL {
        for line in [
            "ok 1 ".repeat(800),
            "[ 1.000000] ".repeat(300),
            ":1:a".repeat(1000),
            "[".repeat(4000),
            " test 1 ... ".repeat(300),
        ] {
            read(format, line.as_bytes());
        }
    }
    let many: String = (1..=CASES_MAX + 10).map(|index| format!("ok {index} x\u{1b}[2J\n")).collect();
    let (cases, summary) = read(Format::Tap, many.as_bytes());
    assert_eq!((cases.len(), summary.seen), (CASES_MAX, CASES_MAX as u64));
    assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
}
