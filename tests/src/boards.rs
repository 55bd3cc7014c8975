//! Boards as users meet them: what is pushed for an emulated Arduino Uno, and what the master says of the board and of jobs at it.

use crate::process::eventually;
use crate::world::{Event, Job, World};
use miniserde::Deserialize;

/// One unit of `/api/v1/units`.
#[derive(Debug, Deserialize)]
pub struct Unit {
    /// `AGENT/BOARD`.
    pub name: String,
    /// How it stands.
    pub standing: Option<String>,
}

#[derive(Deserialize)]
struct Units {
    units: Vec<Unit>,
}

/// What builds the program of a case, as it stands in JSON.
pub const BUILD: &str = r#"avr-gcc -mmcu=atmega328p -Os -DCASE=${case} -DVERSION=\"\\\"$SAI_COMMIT\\\"\" -o fw.elf program.c\navr-objcopy -O binary fw.elf fw.bin"#;

/// The program that is flashed, whose source a repository has as `program.c`.
pub fn program() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../buddy/tests/fixtures/avr_program.c")).expect("a program")
}

/// A saifile whose configurations are cases of the program, each with more keys of its board.
pub fn saifile(cases: &[(&str, &str)]) -> String {
    let test = r#""test": [{ "expect": "login: $", "within": "15s" }, { "send": "root\n" },
        { "expect": "hello (?P<who>\\w+)", "within": "15s" }],"#;
    let one = |(case, keys): &(&str, &str)| {
        let test = if keys.contains("\"test\"") { "" } else { test };
        format!(
            r#"{case:?}: {{ "case": {case:?}, "artifacts": "fw.bin", "board": {{ "type": "arduino-uno", "flash": "fw.bin",
                "identity": "^fw ${{SAI_COMMIT}}$", "banner": "^fw ", {keys} {test}
                "results": "tap", "pass": "^ALL DONE" }} }}"#
        )
    };
    let cases: Vec<String> = cases.iter().map(one).collect();
    format!(
        r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": "{BUILD}" }} }}, "configurations": {{ {} }} }}"#,
        cases.join(", ")
    )
}

/// How a board, `AGENT/BOARD`, stands.
pub fn standing(world: &World, board: &str) -> String {
    let text = String::from_utf8(world.get("/api/v1/units").expect("units")).expect("UTF-8");
    let units: Units = miniserde::json::from_str(&text).unwrap_or_else(|_| panic!("units were expected: {text}"));
    let unit = units.units.into_iter().find(|unit| unit.name == board).unwrap_or_else(|| panic!("no board: {text}"));
    unit.standing.unwrap_or_default()
}

/// The job of an event that is at a board for this configuration.
pub fn at_board<'a>(event: &'a Event, case: &str) -> &'a Job {
    let name = format!("{case}/board");
    event.jobs.iter().find(|job| job.configuration == name).unwrap_or_else(|| panic!("{name}: {:?}", event.jobs))
}

/// The last record of a job's log: word and cause. Where it was judged, the log is judged again, which gives the same.
pub fn verdict(world: &World, job: u64) -> (String, String) {
    let log = world.records(job);
    let verdict = log.verdict.unwrap_or_else(|| panic!("job {job} has no verdict"));
    let word = verdict.verdict.as_ref().map(|found| found.word.clone());
    if let Some(word) = &word {
        let (_, again, why) = world.try_command(&["rejudge", &job.to_string()]);
        assert!(again.contains(word), "judged as {word}, and again: {again}{why}");
    }
    (word.unwrap_or_else(|| verdict.outcome.state().word().to_string()), verdict.cause.clone())
}

/// The job at a board of an event of one case, once this step of it has begun.
pub fn at_step(world: &World, number: u64, case: &str, step: u32) -> u64 {
    eventually(&format!("step {step} of {case} begins"), || {
        let event = world.event(number)?;
        let job = at_board(&event, case);
        let begun = job.state == "running" && world.records(job.id).steps.contains(&step);
        begun.then_some(job.id)
    })
}
