//! Attempts at boards in their supervisors: what is begun, what ends it, and whose fault that is.

use sai_core::job::{Blame, Fault, JobKey, Outcome, Verdict};
use sai_core::ledger::Needed;
use sai_core::limits::Millis;
use sai_core::record::{Artifact, Record, StepEnd, StepStart};
use sai_core::run::{GRACE_MS, Input, Output, Run};
use sai_core::wire::{Assignment, AtBoard};

/// One whose image is in a file of the build that it needs, or that flashes nothing.
fn at_board(images: bool) -> Run {
    let file = Artifact { stream: 1, path: "fw.bin".into(), size: 1, sha256: "0".repeat(64), executable: false };
    let build = Needed {
        job: 1,
        configuration: "fw".into(),
        platform: "linux".into(),
        attempt: Some(1),
        artifacts: if images { vec![file] } else { Vec::new() },
    };
    Run::new(&Assignment {
        key: JobKey { job: 2, attempt: 1 },
        repository: "r".into(),
        url: "/r".into(),
        reference: "refs/heads/main".into(),
        revision: "0".repeat(40),
        platform: "linux".into(),
        configuration: "fw/board".into(),
        steps: Vec::new(),
        env: Default::default(),
        artifacts: Vec::new(),
        timeout_s: 100,
        step_timeout_s: None,
        log_bytes: 1000,
        log_limit_fails: false,
        submodules: false,
        needs: Some(vec![build]),
        root: None,
        offered: None,
        board: Some(AtBoard { name: "b".into(), grant: 1, trial: "{}".into(), others: None }),
        session: None,
        lease: None,
        health: None,
        bundle: None,
    })
}

fn give(run: &mut Run, now: Millis, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    run.handle(now, input, &mut out);
    out
}

fn images(status: Option<i32>) -> Output {
    Output::Record(match status {
        None => Record::StepStart(StepStart { step: 0, text: "images".into() }),
        Some(status) => Record::StepEnd(StepEnd { step: 0, status }),
    })
}

fn note(text: &str) -> Output {
    Output::Record(Record::Note(text.into()))
}

fn verdict(outcome: Outcome, fault: Fault, cause: &str) -> Verdict {
    Verdict { outcome, fault, cause: cause.into(), step: Some(2), status: None, trouble: None, verdict: None }
}

/// One that is at its board.
fn trying() -> Run {
    let mut run = at_board(false);
    assert_eq!(give(&mut run, 0, Input::Begin), [Output::Prepare]);
    assert_eq!(give(&mut run, 0, Input::Prepared), [Output::Try]);
    run
}

#[test]
fn images_are_a_step_of_their_own_and_the_boards_verdict_is_the_jobs() {
    let mut run = at_board(true);
    assert_eq!(give(&mut run, 0, Input::Begin), [images(None), Output::Prepare]);
    assert_eq!(give(&mut run, 1, Input::NeedsReady), [images(Some(0))]);
    assert_eq!(give(&mut run, 1, Input::Prepared), [Output::Try]);
    let found = verdict(Outcome::Failed, Fault::Job, "PANIC was found");
    assert_eq!(give(&mut run, 9, Input::Tried(Some(found.clone()))), [Output::Kill]);
    assert_eq!(give(&mut run, 9, Input::Drained), [Output::End(found)]);
    assert!(run.ended());
}

#[test]
fn images_that_do_not_come_are_never_the_boards_trouble() {
    let mut run = at_board(true);
    give(&mut run, 0, Input::Begin);
    let failed =
        Input::PrepareFailed { fault: Fault::Infrastructure, blame: Blame::Repository, why: "no such file".into() };
    assert_eq!(give(&mut run, 1, failed), [images(Some(1)), Output::Kill]);
    let mut expected = verdict(Outcome::Infra, Fault::Infrastructure, "no such file");
    (expected.step, expected.trouble) = (Some(0), Some("repository".into()));
    assert_eq!(give(&mut run, 1, Input::Drained), [Output::End(expected)]);
    // Nor those that take too long.
    let mut run = at_board(true);
    give(&mut run, 0, Input::Begin);
    let cause = "the files of needs were not here within the job's 100 s";
    assert_eq!(give(&mut run, 100_000, Input::Tick), [note(cause), Output::Terminate]);
    let stopped = Input::PrepareFailed { fault: Fault::Infrastructure, blame: Blame::Agent, why: "stopped".into() };
    assert_eq!(give(&mut run, 100_001, stopped), [images(Some(1)), Output::Kill]);
    let mut expected = verdict(Outcome::Infra, Fault::Infrastructure, cause);
    (expected.step, expected.trouble) = (None, Some("repository".into()));
    assert_eq!(give(&mut run, 100_001, Input::Drained), [Output::End(expected)]);
}

#[test]
fn a_cancel_is_heard_at_the_board_and_what_does_not_hear_it_is_killed() {
    let cancel = || Input::Cancel { why: "cancelled by ann".into() };
    let mut cancelled = verdict(Outcome::Cancelled, Fault::Person, "cancelled by ann");
    cancelled.step = None;
    // It lets go, without a verdict or with one that comes too late.
    for late in [None, Some(verdict(Outcome::Passed, Fault::Nobody, ""))] {
        let mut run = trying();
        assert_eq!(give(&mut run, 5, cancel()), [note("cancelled by ann"), Output::Terminate]);
        assert_eq!(give(&mut run, 6, Input::Tried(late)), [Output::Kill]);
        assert_eq!(give(&mut run, 7, Input::Drained), [Output::End(cancelled.clone())]);
    }
    let mut run = trying();
    give(&mut run, 5, cancel());
    assert_eq!(run.deadline(), Some(5 + GRACE_MS));
    assert_eq!(give(&mut run, 5 + GRACE_MS, Input::Tick), [Output::Kill]);
    assert_eq!(give(&mut run, 20_000, Input::Tried(None)), []);
    assert_eq!(give(&mut run, 20_000, Input::Drained), [Output::End(cancelled)]);
}

#[test]
fn a_board_that_takes_too_long_is_the_benches_trouble() {
    let mut run = trying();
    assert_eq!(run.deadline(), Some(100_000));
    let cause = "the board was not flashed and judged within the job's 100 s";
    assert_eq!(give(&mut run, 100_000, Input::Tick), [note(cause), Output::Terminate]);
    assert_eq!(give(&mut run, 100_001, Input::Tried(None)), [Output::Kill]);
    let mut expected = verdict(Outcome::Infra, Fault::Infrastructure, cause);
    (expected.step, expected.trouble) = (None, Some("platform".into()));
    assert_eq!(give(&mut run, 100_001, Input::Drained), [Output::End(expected)]);
}

#[test]
fn an_end_that_nobody_asked_for_is_told() {
    let mut run = trying();
    let out = give(&mut run, 1, Input::Tried(None));
    assert!(matches!(&out[..], [Output::Bug(_), Output::Kill]), "{out:?}");
    let mut run = at_board(true);
    let out = give(&mut run, 1, Input::Tried(None));
    assert!(matches!(&out[..], [Output::Bug(_)]), "{out:?}");
}
