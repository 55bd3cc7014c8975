//! Saifiles whose configurations name paths, and what somebody starts by hand: which jobs are made.

use sai_core::changed::{self, Changed};
use sai_core::ledger::{EventRecord, Source};
use sai_core::matrix::JobSpec;
use sai_core::saifile::{self, Reading};
use sai_core::start::Start;

/// A file of two platforms with these configurations.
fn file(configurations: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-a\": {{\"build\": \"a\"}}, \"linux-b\": {{\"build\": \"b\"}}}},\n\
         \"configurations\": {{\n{configurations}}}}}"
    )
}

const FILE: &str = "\"lib\": {\"paths\": \"lib/, include/**\", \"platforms\": \"not linux-b\"},\n\
                    \"test\": {\"paths\": \"tests/**\", \"needs\": \"lib\", \"platforms\": \"not linux-b\"},\n\
                    \"docs\": {\"paths\": \"!**/*.c, !lib/**\", \"platforms\": \"not linux-b\"},\n\
                    \"always\": {\"platforms\": \"not linux-b\"},\n\
                    \"release\": {\"branches\": \"release\", \"paths\": \"lib/**\", \"platforms\": \"not linux-b\"}\n";

fn names(jobs: &[JobSpec]) -> Vec<String> {
    jobs.iter().map(|job| job.configuration.clone()).collect()
}

fn push(changed: &Changed, reference: &str) -> Reading {
    let reading = saifile::of_push(file(FILE).as_bytes(), reference, "A change", Some(changed));
    assert_eq!(reading.errors, Vec::<String>::new());
    reading
}

fn files(names: &[&str]) -> Changed {
    Changed::Files(names.iter().map(ToString::to_string).collect(), "event 7 (0123abcd0)".to_string())
}

#[test]
fn what_changed_decides_what_is_built() {
    for (changed, built) in [
        (&["lib/a.c"][..], &["lib", "always"][..]),
        (&["include/a/b.h", "README"], &["lib", "docs", "always"]),
        // What is needed is built with what needs it, whatever its own paths say.
        (&["tests/a.c"], &["lib", "test", "always"]),
        (&["src/a.c"], &["always"]),
        (&["README"], &["docs", "always"]),
        (&[], &["always"]),
        // A file that says what is built is of everything.
        (&["README", ".sai.json"], &["lib", "test", "docs", "always"]),
    ] {
        let reading = push(&files(changed), "main");
        assert_eq!(names(&reading.specs), built, "{changed:?}");
        let left = ["lib", "test", "docs"].iter().filter(|name| !built.contains(name)).count();
        assert_eq!(reading.left_out.len(), left, "{changed:?}");
        let said = reading.warnings.join("\n");
        assert_eq!(said.contains("no file of their `paths` has changed since event 7 (0123abcd0)"), left > 0, "{said}");
    }
    let reading = push(&files(&["tests/a.c"]), "main");
    let needs: Vec<&[u32]> = reading.specs.iter().map(|job| job.needs.as_slice()).collect();
    assert_eq!(needs, [&[][..], &[0], &[]]);
    assert_eq!(names(&push(&files(&["lib/x"]), "release").specs), ["lib", "always", "release"]);
}

#[test]
fn everything_is_built_when_it_cannot_be_known() {
    let reading = push(&Changed::Unknown("it is the first push".to_string()), "main");
    assert_eq!(names(&reading.specs), ["lib", "test", "docs", "always"]);
    assert!(reading.warnings.iter().any(|said| said.ends_with("it is the first push")), "{:?}", reading.warnings);
    let many: Vec<String> = (0..=changed::FILES_MAX).map(|number| format!("x/{number}")).collect();
    let reading = push(&Changed::Files(many, "event 7 (0)".to_string()), "main");
    assert_eq!(reading.specs.len(), 4);
    assert!(reading.warnings.iter().any(|said| said.contains("more files have changed since event 7")));
    assert_eq!(reading.left_out, Vec::<String>::new());
}

#[test]
fn git_is_asked_only_where_a_file_names_paths() {
    let asks = |text: &str, subject: &str| saifile::asks_what_changed(text.as_bytes(), subject);
    assert!(asks(&file(FILE), "A change"));
    assert!(asks(&file("\"a\": {\"pa\\u0074hs\": \"x\"}"), ""));
    assert!(!asks(&file(FILE), "A change [skip ci]") && !asks(&file("\"a\": {}"), "") && !asks("{", ""));
    assert!(!asks(&file("\"a\": {\"paths\": \"\"}"), ""), "an empty list is none");
}

#[test]
fn a_push_is_compared_with_the_last_that_was_built() {
    let event = |id: u64, source: Source, jobs: u32| EventRecord {
        id,
        repository: "alpha".to_string(),
        url: String::new(),
        reference: "refs/heads/main".to_string(),
        revision: format!("{id:040}"),
        subject: String::new(),
        author: String::new(),
        source,
        at: 0,
        errors: Vec::new(),
        warnings: Vec::new(),
        first_job: 1,
        jobs,
    };
    // The newest first: one that was skipped or wrong, what people have started and tried, and then a push.
    let events = [
        event(9, Source::Poke, 0),
        event(8, Source::Start, 3),
        event(7, Source::Try, 3),
        event(6, Source::Rebuild, 3),
        event(5, Source::Hook, 1),
        event(4, Source::Poll, 2),
    ];
    assert_eq!(changed::base(events.iter()).map(|base| base.words()), Some("event 5 (000000000)".to_string()));
    assert_eq!(changed::base(events.iter().take(4)), None);
}

#[test]
fn paths_are_checked_by_line_and_column() {
    let read = |paths: &str| saifile::read(file(&format!("\"a\": {{\"paths\": {paths}}}")).as_bytes(), "main").errors;
    for wrong in ["1", "[\"a\"]", "\"/etc\"", "\"a/../b\"", "\"!\"", "\"a[\"", "null"] {
        let errors = read(wrong);
        assert!(
            errors.len() == 1 && errors[0].starts_with(".sai.json:3:16: configurations.a.paths: expected"),
            "{errors:?}"
        );
    }
    let globs = vec!["x"; 257].join(",");
    assert!(read(&format!("\"{globs}\""))[0].contains("at most 256 globs"));
}

#[test]
fn who_starts_something_says_what_and_with_which_variables() {
    let start = |words: &[&str]| {
        let start = Start::parse("main", words).unwrap();
        saifile::of_start(file(FILE).as_bytes(), &start.reference, &start)
    };
    assert_eq!(names(&start(&[]).specs), ["lib", "test", "docs", "always"], "whatever changed");
    let reading = start(&["configuration=test", "configuration=docs", "env=A=1"]);
    assert_eq!(names(&reading.specs), ["lib", "test", "docs"], "with what is needed");
    assert!(reading.specs.iter().all(|job| job.env.get("A").map(String::as_str) == Some("1")));
    assert_eq!(names(&start(&["platform=linux-a"]).specs).len(), 4);
    for (words, said) in [
        (&["configuration=nothing"][..], "expected a configuration of this file, found `nothing`"),
        (&["platform=windows"], "expected a platform of this file, found `windows`"),
    ] {
        let reading = start(words);
        assert!(reading.errors.len() == 1 && reading.errors[0].contains(said), "{:?}", reading.errors);
    }
    // Neither a platform that it is not built on nor a branch that is not its own makes a job.
    for words in [&["platform=linux-b"][..], &["configuration=release"]] {
        assert_eq!(start(words).errors, [".sai.json makes no such job for refs/heads/main"]);
    }
    let private = Start::parse("_mine", &[""; 0]).unwrap();
    let reading = saifile::of_start(file(FILE).as_bytes(), &private.reference, &private);
    assert!(reading.specs.is_empty() && reading.warnings[0].contains("are ignored"), "{:?}", reading.warnings);
}
