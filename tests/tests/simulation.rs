//! Thousands of seeded worlds keep every promise, and a world with a planted mistake does not.

use sai_tests::simulation::{Bug, Summary, Violation, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Worlds of one test run.
const WORLDS: u64 = 2_400;
/// Worlds within which a planted mistake must be seen.
const BUG_WORLDS: u64 = 400;

fn world(seed: u64, bug: Option<Bug>, trace: bool) -> Result<Summary, Violation> {
    catch_unwind(AssertUnwindSafe(|| run(seed, bug, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Violation { promise: "nothing panics", seen: text.unwrap_or_default(), at: 0 })
    })
}

/// The first world below `worlds` that breaks a promise, on all processors; else what happened in all of them.
fn first_broken(worlds: u64, bug: Option<Bug>) -> Result<Summary, (u64, Violation)> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let part = || {
            let mut sum = Summary::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= worlds {
                    return Ok(sum);
                }
                match world(seed, bug, false) {
                    Ok(summary) => sum.add(&summary),
                    Err(violation) => {
                        next.store(worlds, Ordering::Relaxed);
                        return Err((seed, violation));
                    }
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut sum = Summary::default();
    let mut broken: Option<(u64, Violation)> = None;
    for part in parts {
        match part {
            Ok(summary) => sum.add(&summary),
            Err(found) if broken.as_ref().is_none_or(|first| found.0 < first.0) => broken = Some(found),
            Err(_) => {}
        }
    }
    broken.map_or(Ok(sum), Err)
}

#[test]
fn all_worlds_keep_every_promise() {
    if let Some(seed) = std::env::var("SAI_SEED").ok().and_then(|seed| seed.parse().ok()) {
        match world(seed, None, true) {
            Ok(summary) => eprintln!("world {seed} kept every promise: {summary:?}"),
            Err(violation) => panic!("world {seed}: {violation}"),
        }
        return;
    }
    let worlds = std::env::var("SAI_WORLDS").ok().and_then(|worlds| worlds.parse().ok()).unwrap_or(WORLDS);
    let began = std::time::Instant::now();
    match first_broken(worlds, None) {
        Err((seed, violation)) => {
            panic!(
                "world {seed}: {violation}\nsee it with SAI_SEED={seed} cargo test -p sai-tests --test simulation all_worlds"
            )
        }
        Ok(sum) => {
            eprintln!("{worlds} worlds in {:.1} s: {sum:?}", began.elapsed().as_secs_f64());
            // A world in which nothing happens keeps every promise: enough of everything must have happened.
            let least = worlds / 20;
            for (what, count) in [
                ("attempts", sum.attempts / 10),
                ("verdicts", sum.decided / 4),
                ("ends without verdict", sum.undecided),
                ("adoptions", sum.adopted / 4),
                ("forgotten attempts", sum.forgotten / 10),
                ("ghosts", sum.ghosts * 4),
                ("crashes of the master", sum.master_crashes),
                ("crashes of agents", sum.agent_crashes),
                ("cut links", sum.cuts),
                ("lost turns", sum.turns_lost),
                ("lost bytes", sum.bytes_lost / 1000),
                ("lies", sum.lies),
                ("full windows", sum.full_windows * 10),
                ("compared artifacts", sum.seals),
                ("impostors", sum.impostors),
                ("set clocks", sum.steps),
                ("copied machines that were refused", sum.twins),
                ("attempts with processes that went late", sum.swept / 10),
                ("skipped jobs", sum.skipped),
                ("jobs whose needs had passed", sum.unblocked),
                ("attempts that hold units", sum.granted),
                ("attempts at boards", sum.at_boards),
                ("sessions at boards", sum.sessions),
                ("checks of boards", sum.checks),
                ("boards set aside or taken back", sum.boards_aside),
                ("boards that people asked for", sum.leases),
                ("words of people", sum.words),
                ("attempts in broken images", sum.broken_images),
                ("packed logs", sum.packs / 4),
                ("flushes that failed", sum.failed_flushes),
                ("jobs whose plan was lost", sum.lost * 4),
                ("looks", sum.looks / 4),
                ("looks at forges that were down", sum.failed_looks),
                ("hooks that nobody heard", sum.lost_hooks),
                ("pushes that were passed", sum.superseded * 4),
                ("waits for an agent's disk", sum.full_disks),
                ("verdicts that found no room", sum.given_up * 20),
                ("files of events that were flushed", sum.flushed_files),
                ("files of events that a start wrote again", sum.written_again),
                ("files of needs that came", sum.fetched),
                ("tries to fetch a file that failed", sum.failed_fetches),
                ("what ended steps had left at a full disk", sum.rests),
                ("disks of the master without room", sum.low_disks),
                ("waits for room on the master's disk", sum.waits_for_room),
            ] {
                assert!(count >= least, "too few {what}: {sum:?}");
            }
        }
    }
}

#[test]
fn same_seed_same_world() {
    for seed in 0..20 {
        assert_eq!(world(seed, None, false), world(seed, None, false));
    }
}

fn is_caught(bug: Bug, promises: &[&str]) {
    match first_broken(BUG_WORLDS, Some(bug)) {
        Ok(_) => panic!("{bug:?} was not seen in {BUG_WORLDS} worlds"),
        Err((seed, violation)) => {
            eprintln!("{bug:?} is seen in world {seed}: {violation}");
            assert!(promises.contains(&violation.promise), "{bug:?} breaks another promise: {violation}");
        }
    }
}

#[test]
fn an_ack_before_the_flush_is_caught() {
    is_caught(Bug::AckBeforeFlush, &["durable acks"]);
}

#[test]
fn words_that_are_done_as_they_come_are_caught() {
    is_caught(Bug::WordsAsTheyCome, &["words"]);
}

#[test]
fn no_rewind_on_resume_is_caught() {
    is_caught(Bug::NoRewindOnResume, &["resume", "honest agents are welcome", "spool"]);
}

#[test]
fn a_double_assignment_is_caught() {
    is_caught(Bug::DoubleAssignment, &["started once", "priority", "slots"]);
}

#[test]
fn a_message_before_its_record_is_caught() {
    is_caught(Bug::MessageBeforeCommit, &["records first", "identity"]);
}

#[test]
fn a_verdict_before_its_artifacts_is_caught() {
    is_caught(Bug::VerdictBeforeArtifacts, &["append", "true bytes", "whole artifacts", "durable acks"]);
}

#[test]
fn forgetting_before_the_record_is_caught() {
    is_caught(Bug::ForgetBeforeCommit, &["records first"]);
}

#[test]
fn an_orphan_that_is_never_given_up_is_caught() {
    is_caught(Bug::OrphanNeverTimedOut, &["orphans"]);
}

#[test]
fn dropping_what_is_not_acknowledged_is_caught() {
    is_caught(Bug::TrimBeforeAck, &["spool"]);
}

#[test]
fn a_start_without_reading_the_logs_is_caught() {
    is_caught(Bug::NoReplayAtStart, &["whole artifacts", "honest agents are welcome", "everything ends"]);
}

#[test]
fn durations_by_the_clock_on_the_wall_are_caught() {
    let promises = ["orphans", "everything ends", "progress", "expiry", "no idling", "pushes are seen"];
    is_caught(Bug::DurationsOfTheWall, &promises);
}

#[test]
fn a_kill_ladder_that_forgets_is_caught() {
    is_caught(Bug::KillOnceAndForget, &["nothing outlives its job"]);
}

#[test]
fn a_greeting_that_hides_attempts_is_caught() {
    is_caught(Bug::SilentGreeting, &["started once", "records first", "slots", "everything ends", "window"]);
}

#[test]
fn a_blocked_job_that_is_started_is_caught() {
    is_caught(Bug::BlockedStarted, &["needs first"]);
}

#[test]
fn a_log_that_is_packed_before_it_is_durable_is_caught() {
    is_caught(Bug::PackBeforeFlush, &["durable packs"]);
}

#[test]
fn a_failed_step_that_is_not_heard_of_is_caught() {
    is_caught(Bug::StatusUnheard, &["a failed step"]);
}

#[test]
fn output_that_a_full_disk_loses_is_caught() {
    is_caught(Bug::FullDiskDrops, &["all output"]);
}

#[test]
fn files_that_are_carried_too_short_are_caught() {
    is_caught(Bug::CarriedTooShort, &["plans are kept"]);
}

#[test]
fn a_file_of_needs_that_is_never_asked_for_again_is_caught() {
    is_caught(Bug::FetchNeverRepeated, &["files of needs"]);
}

#[test]
fn what_a_step_has_left_that_is_not_read_at_a_full_disk_is_caught() {
    is_caught(Bug::RestUnread, &["a step's end is heard"]);
}

#[test]
fn numbers_that_are_given_again_are_caught() {
    is_caught(Bug::NumbersOfTheLiving, &["numbers"]);
}

#[test]
fn a_full_disk_that_is_not_looked_at_is_caught() {
    is_caught(Bug::DiskUnseen, &["room first", "room for records"]);
}

#[test]
fn streams_that_leave_no_room_for_records_are_caught() {
    is_caught(Bug::FloorUnheeded, &["room for records"]);
}

#[test]
fn dependants_in_a_later_commit_are_caught() {
    is_caught(Bug::DependantsLater, &["one commit"]);
}

#[test]
fn units_that_a_start_forgets_are_caught() {
    is_caught(Bug::UnitsForgotten, &["units"]);
}

#[test]
fn boards_of_which_a_start_forgets_what_is_wrong_are_caught() {
    is_caught(Bug::BoardsForgotten, &["unwell boards"]);
}

#[test]
fn a_job_that_a_start_overlooks_is_caught() {
    // Of what it does not know, a master that has overlooked it says that it is to be forgotten.
    is_caught(Bug::JobForgotten, &["no job lost", "records first"]);
}

#[test]
fn a_look_that_is_never_repeated_is_caught() {
    is_caught(Bug::LookNeverRepeated, &["pushes are seen", "everything ends"]);
}

#[test]
fn a_board_that_is_called_free_while_it_is_held_is_caught() {
    is_caught(Bug::BoardFreeWhileHeld, &["boards"]);
}

#[test]
fn a_session_whose_end_nobody_is_told_is_caught() {
    is_caught(Bug::SessionEndUnheard, &["sessions"]);
}

#[test]
fn a_unit_that_is_given_twice_is_caught() {
    is_caught(Bug::UnitGivenTwice, &["units"]);
}
