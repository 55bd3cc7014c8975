//! Saifiles whose jobs need others: which wait for which, and what is wrong with them.

use sai_core::matrix::{self, JobSpec};
use sai_core::plan;
use sai_core::repo_spec;

/// A file with three platforms, of which the last is no default one, and these configurations.
fn file(configurations: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-a\": {{\"build\": \"a\"}}, \"linux-b\": {{\"build\": \"b\"}},\n\
         \"plan9\": {{\"build\": \"c\", \"default\": false}}}},\n\"configurations\": {{\n{configurations}}}}}"
    )
}

/// `CONFIGURATION@PLATFORM` of each job, and after `:` those that it needs.
fn graph(jobs: &[JobSpec]) -> Vec<String> {
    let name = |job: &JobSpec| format!("{}@{}", job.configuration, job.platform);
    let line = |job: &JobSpec| {
        let needs: Vec<String> = job.needs.iter().map(|need| name(&jobs[*need as usize])).collect();
        format!("{}: {}", name(job), needs.join(" "))
    };
    jobs.iter().map(line).collect()
}

fn expand(configurations: &str, branch: &str) -> Result<(Vec<String>, Vec<String>), Vec<String>> {
    let text = |error: &sai_core::json::At| error.to_string();
    let (spec, _) = repo_spec::read(file(configurations).as_bytes())
        .map_err(|errors| errors.iter().map(text).collect::<Vec<_>>())?;
    let matrix = matrix::expand(&spec, branch).map_err(|error| vec![text(&error)])?;
    Ok((graph(&matrix.jobs), matrix.warnings.iter().map(ToString::to_string).collect()))
}

fn error(configurations: &str) -> String {
    let errors = expand(configurations, "main").expect_err("an error");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

#[test]
fn a_need_is_the_job_of_the_same_platform_or_else_all() {
    let (jobs, warnings) = expand(
        "\"test\": {\"needs\": \"build, lint\"},\n\"build\": {},\n\"lint\": {\"platforms\": \"none, plan9\"},\n\
         \"pack\": {\"platforms\": \"none, plan9\", \"needs\": [\"test\"]}",
        "main",
    )
    .unwrap();
    assert_eq!(
        jobs,
        [
            "test@linux-a: build@linux-a lint@plan9",
            "test@linux-b: build@linux-b lint@plan9",
            "build@linux-a: ",
            "build@linux-b: ",
            "lint@plan9: ",
            "pack@plan9: test@linux-a test@linux-b",
        ]
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_platform_may_be_named_and_names_may_hold_anything() {
    let (jobs, _) = expand(
        "\"a, b@c\": {}, \"x\": {\"needs\": [\"a, b@c\"]},\n\"y\": {\"platforms\": \"none linux-a\", \"needs\": \"x@linux-b , x\"},\n\
         \"z\": {\"platforms\": \"none linux-a\", \"needs\": \"x@linux\"}",
        "main",
    )
    .unwrap();
    assert_eq!(
        jobs,
        [
            "a, b@c@linux-a: ",
            "a, b@c@linux-b: ",
            "x@linux-a: a, b@c@linux-a",
            "x@linux-b: a, b@c@linux-b",
            "y@linux-a: x@linux-a x@linux-b",
            "z@linux-a: x@linux-a",
        ]
    );
}

#[test]
fn a_platform_given_twice_needs_its_own_entry() {
    let text = "{\"schema\": \"sai-1\", \"platforms\": {\"linux\": {\"build\": \"1\"}, \"linux\": {\"build\": \"2\"}},\n\
                \"configurations\": {\"build\": {}, \"test\": {\"needs\": \"build\"}}}";
    let (spec, _) = repo_spec::read(text.as_bytes()).unwrap();
    let jobs = matrix::expand(&spec, "main").unwrap().jobs;
    assert_eq!(jobs.iter().map(|job| job.needs.clone()).collect::<Vec<_>>(), [vec![], vec![], vec![0], vec![1]]);
}

#[test]
fn what_needs_a_job_of_another_branch_is_not_built_and_that_is_said() {
    let configurations = "\"image\": {\"branches\": \"release-*\"},\n\"flash\": {\"needs\": \"image\"},\n\
                          \"report\": {\"needs\": \"flash\"}, \"lint\": {}";
    let (jobs, warnings) = expand(configurations, "main").unwrap();
    assert_eq!(jobs, ["lint@linux-a: ", "lint@linux-b: "]);
    assert_eq!(
        warnings,
        [
            "5:21: configurations.flash.needs: `image` is not built on this branch, so what needs it is not built either",
            "6:22: configurations.report.needs: `flash` is not built on this branch, so what needs it is not built either",
        ]
    );
    assert_eq!(expand(configurations, "release-1").unwrap().0.len(), 8);
}

#[test]
fn what_no_branch_could_ever_meet_is_an_error_at_its_place() {
    assert_eq!(
        error("\"a\": {\"needs\": \"b, nothing\"}, \"b\": {}"),
        "4:20: configurations.a.needs: expected the name of a configuration of this file, found `nothing`"
    );
    assert_eq!(
        error("\"a\": {\"needs\": \"b@plan9\"}, \"b\": {}"),
        "4:17: configurations.a.needs: expected a platform on which `b` is built, found `plan9`"
    );
    assert_eq!(
        error("\"a\": {\"needs\": \"b\"}, \"b\": {\"platforms\": \"none\"}"),
        "4:17: configurations.a.needs: expected a configuration that is built on some platform, found `b`"
    );
    assert_eq!(
        error("\"a\": {\"needs\": 1}, \"b\": {}"),
        "4:16: configurations.a.needs: expected text, a comma-separated list of configurations, or an array of them"
    );
}

#[test]
fn cycles_are_errors_and_a_mutual_need_of_other_platforms_is_none() {
    assert_eq!(
        error("\"a\": {\"needs\": \"a\"}"),
        "4:17: configurations.a.needs: expected needs without a cycle, found a → a"
    );
    assert_eq!(
        error(
            "\"x\": {\"needs\": \"b\"}, \"a\": {\"needs\": \"c\"},\n\"b\": {\"needs\": \"a\"}, \"c\": {\"needs\": \"b\"}"
        ),
        "4:38: configurations.a.needs: expected needs without a cycle, found a → c → b → a"
    );
    let mutual = "\"a\": {\"platforms\": \"none linux-a\", \"needs\": \"b@linux-b\"},\n\
                  \"b\": {}, \"c\": {\"platforms\": \"none linux-b\", \"needs\": \"a\"}";
    assert_eq!(expand(mutual, "main").unwrap().0.len(), 4);
}

#[test]
fn a_chain_of_all_jobs_and_a_fan_beyond_the_limit_take_no_time() {
    let mut chain: Vec<String> =
        (0..5000).map(|index| format!("\"c{index}\": {{\"needs\": \"c{}\"}}", index + 1)).collect();
    chain.push("\"c5000\": {\"platforms\": \"none linux-a\"}".to_string());
    let text = chain.join(",\n").replace("{\"needs\"", "{\"platforms\": \"none linux-a\", \"needs\"");
    let (jobs, _) = expand(&text, "main").unwrap();
    assert_eq!((jobs.len(), jobs[4999].as_str()), (5001, "c4999@linux-a: c5000@linux-a"));
    chain.pop();
    let cut = format!("{},\n\"c5000\": {{\"branches\": \"other\"}}", chain.join(",\n"));
    assert_eq!(error(&cut).split(": ").next(), Some("5004:1"), "10 002 jobs are too many");

    let platforms: Vec<String> = (0..900).map(|index| format!("\"p{index}\": {{\"build\": \"x\"}}")).collect();
    let configurations: Vec<String> = (0..4).map(|index| format!("\"c{index}\": {{}}")).collect();
    let needs: Vec<String> = (0..250).map(|index| format!("c{}", index % 4)).collect();
    let text = format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{{}, \"q\": {{\"build\": \"x\"}}}}, \"configurations\": {{{}, \
         \"all\": {{\"platforms\": \"none q\", \"needs\": \"{}\"}}}}}}",
        platforms.join(","),
        configurations.join(",").replace("{}", "{\"platforms\": \"not q\"}"),
        needs.join(",")
    );
    let (spec, _) = repo_spec::read(text.as_bytes()).unwrap();
    let wrong = matrix::expand(&spec, "main").expect_err("too many");
    assert!(wrong.to_string().contains("expected at most 200000 needs of all jobs together"), "{wrong}");
}

#[test]
fn units_are_amounts_by_name_and_the_larger_of_platform_and_configuration_counts() {
    let text = "{\"schema\": \"sai-1\", \"platforms\": {\"linux\": {\"build\": \"x ${units}\", \"units\": [\"licence\", \"rig\"]}},\n\
                \"configurations\": {\"a\": {\"units\": {\"licence\": 2}}, \"b\": {\"units\": \"text\"}}}";
    let (spec, warnings) = repo_spec::read(text.as_bytes()).unwrap();
    let jobs = matrix::expand(&spec, "main").unwrap().jobs;
    let units = |job: &JobSpec| job.units.iter().map(|(name, amount)| format!("{name} {amount}")).collect::<Vec<_>>();
    assert_eq!(
        (units(&jobs[0]), units(&jobs[1])),
        (vec!["licence 2".to_string(), "rig 1".to_string()], vec!["licence 1".to_string(), "rig 1".to_string()],)
    );
    assert_eq!(jobs[1].steps, ["x text"]);
    assert!(warnings.is_empty(), "{warnings:?}");
    for (units, expected) in [
        ("{\"a\": 0}", "4:14: configurations.c.units: expected a whole number from 1 to 1000 of `a`"),
        (
            "{\"-a\": 1}",
            "4:17: configurations.c.units: expected a unit's name of 1 to 128 letters, digits and `_ . -`, beginning with none of `. -`",
        ),
        ("[\"a\", \"a\"]", "4:22: configurations.c.units: expected each unit once, found `a` again"),
        ("7", "4:16: configurations.c.units: expected an object of amounts by the units' names, or an array of names"),
    ] {
        let found = error(&format!("\"c\": {{\"units\": {units}}}"));
        assert_eq!(found.split_once(": ").map(|(_, text)| text), expected.split_once(": ").map(|(_, text)| text));
    }
}

#[test]
fn a_plan_is_read_as_it_was_written_and_nothing_else_is_one() {
    let (spec, _) = repo_spec::read(
        file("\"a\": {\"artifacts\": \"x/*\", \"timeout\": 5, \"env\": {\"E\": \"ü\\n\"}}, \"b\": {\"needs\": \"a\", \"units\": {\"u\": 3}}")
            .as_bytes(),
    )
    .unwrap();
    let jobs = matrix::expand(&spec, "main").unwrap().jobs;
    let text = plan::write(&jobs);
    assert_eq!(plan::read(text.as_bytes()).unwrap(), jobs);
    // Later versions add keys.
    let later = text.replacen('{', "{\"version\":2,", 1).replace("\"platform\":", "\"kind\":\"board\",\"platform\":");
    assert_eq!(plan::read(later.as_bytes()).unwrap(), jobs);
    for length in 0..text.len() {
        assert!(plan::read(&text.as_bytes()[..length]).is_err(), "cut at {length}");
    }
    // The last two wait for each other.
    for wrong in ["\"needs\":[0]", "\"needs\":[4]", "\"needs\":[-1]", "\"needs\":[2]"] {
        assert!(plan::read(text.replacen("\"needs\":[]", wrong, 1).as_bytes()).is_err(), "{wrong}");
    }
}
