//! Boards with which something may be wrong: when it is found out, who gets them meanwhile, and what outlives a restart.

mod desk;

use desk::{Desk, GCC, WALL, assigned, key, of, verdict};
use sai_core::bench::HEALTH_EVERY_S;
use sai_core::job::{Blame, Fault, JobId, JobState, Outcome, Verdict};
use sai_core::ledger::{BoardRecord, Checked, Checkup, JobRecord};
use sai_core::ordered::Map;
use sai_core::scheduler::{Greeting, Input, Output, Said};
use sai_core::units::{OfferedBoard, OfferedHealth, WantedBoard};

fn offered(name: &str, every_s: Option<u64>) -> OfferedBoard {
    let health = Some(OfferedHealth { timeout_s: 60, every_s });
    OfferedBoard { name: name.to_string(), kind: "uno".to_string(), health, ..OfferedBoard::default() }
}

fn plain(name: &str) -> OfferedBoard {
    OfferedBoard { health: None, ..offered(name, None) }
}

fn bench(desk: &mut Desk, boards: &[OfferedBoard]) -> Vec<Output> {
    desk.give(Input::AgentUp(Greeting {
        agent: "a".to_string(),
        platforms: vec![GCC.to_string()],
        slots: 1,
        needs: true,
        several: true,
        leases: true,
        told: true,
        mirrors: Vec::new(),
        holds: Vec::new(),
        boards: boards.to_vec(),
        bundles: true,
    }))
}

fn said(desk: &mut Desk, board: &str, said: Said) -> Vec<Output> {
    desk.give(Input::Board { agent: "a".to_string(), board: board.to_string(), said })
}

/// It is free, and its agent has heard of all grants.
fn free(desk: &mut Desk, board: &str) -> Vec<Output> {
    let latest = desk.scheduler.jobs().filter_map(|job| Some(job.given.as_ref()?.grant)).max();
    said(desk, board, Said::Free(latest.unwrap_or(0)))
}

/// A job of this repository that wants a board.
fn wants(id: JobId, repository: &str) -> JobRecord {
    let board = Some(WantedBoard { kind: "uno".to_string(), ..WantedBoard::default() });
    JobRecord { board, ..of(id, repository) }
}

/// A job that finds out how well a board is.
fn check(id: JobId, board: &str) -> JobRecord {
    let wanted = WantedBoard { kind: "uno".to_string(), name: Some(board.to_string()), ..WantedBoard::default() };
    let health = Some(Checkup { agent: "a".to_string(), board: board.to_string(), why: "asked for".to_string() });
    JobRecord { board: Some(wanted), health, ..of(id, "+boards") }
}

/// What is to be checked, and why.
fn due(out: &[Output]) -> Vec<(&str, &str)> {
    let checks = out.iter().filter_map(|output| if let Output::Check(of) = output { Some(of) } else { None });
    checks.map(|of| (of.board.as_str(), of.why.as_str())).collect()
}

fn end(desk: &mut Desk, id: JobId, outcome: Outcome) -> Vec<Output> {
    let attempt = desk.record(id).attempt;
    // What flashing or silence says is the board's.
    let trouble = if outcome == Outcome::Infra { Blame::Platform.word() } else { None };
    desk.give(Input::Ended(key(id, attempt), Verdict { trouble, ..verdict(outcome) }))
}

fn known(desk: &Desk, board: &str) -> BoardRecord {
    desk.scheduler.board_records("a").get(board).cloned().unwrap_or_default()
}

fn standing(desk: &Desk) -> (String, &'static str, String) {
    let row = desk.scheduler.boards(desk.now).remove(0);
    (row.offered.name.clone(), row.state(), row.what.clone())
}

/// Three repositories have trouble at it, one after the other.
fn three_troubles(desk: &mut Desk) -> Vec<Output> {
    let mut out = Vec::new();
    for id in 1..=3 {
        desk.queue(vec![wants(id, &format!("r{id}"))]);
        assert_eq!(assigned(&free(desk, "b")), [("a", key(id, 1))]);
        out = end(desk, id, Outcome::Infra);
        desk.give(Input::Cancel(vec![id], "somebody".to_string()));
    }
    out
}

#[test]
fn after_trouble_a_board_gets_no_job_until_it_is_found_to_be_well() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", None)]);
    let out = three_troubles(&mut desk);
    assert!(out.contains(&Output::Holds("a".to_string())), "it is kept: {out:?}");
    desk.queue(vec![wants(4, "alpha")]);
    let out = free(&mut desk, "b");
    assert_eq!(assigned(&out), []);
    assert_eq!(due(&out), [("b", "had trouble 3 times in a row, last: the mirror broke")]);
    assert_eq!(standing(&desk).1, "aside");
    assert!(desk.waiting(4).contains("no job gets it until it is found to be well"), "{}", desk.waiting(4));
    // It is asked for once, and the pause of boards that nobody can check is none of its.
    assert_eq!(due(&desk.pass(90_000)), []);
    assert_eq!(assigned(&desk.queue(vec![check(5, "b")])), [("a", key(5, 1))]);
    let out = end(&mut desk, 5, Outcome::Passed);
    assert!(out.contains(&Output::Holds("a".to_string())), "{out:?}");
    assert_eq!(assigned(&free(&mut desk, "b")), [("a", key(4, 1))]);
    let last = Some(Checked { job: 5, at: desk.now + WALL, passed: true });
    assert_eq!(known(&desk, "b"), BoardRecord { last, ..BoardRecord::default() });
}

#[test]
fn a_board_that_does_not_pass_is_looked_at_again_later_and_later() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", None)]);
    free(&mut desk, "b");
    let mut waits = Vec::new();
    for id in 1..=4 {
        assert_eq!(assigned(&desk.queue(vec![check(id, "b")])), [("a", key(id, 1))]);
        // Whether it was the board's silence or its loader's: it is asked once.
        end(&mut desk, id, if id % 2 == 0 { Outcome::Infra } else { Outcome::Failed });
        assert!(desk.record(id).state.ended(), "{:?}", desk.record(id));
        assert_eq!(due(&free(&mut desk, "b")), []);
        let before = desk.now;
        while due(&desk.pass(1_000)).is_empty() {
            assert!(desk.now < before + 1_000_000, "it is never looked at again");
        }
        waits.push((desk.now - before) / 1_000);
    }
    assert_eq!(waits, [60, 60, 120, 240], "not oftener than each minute");
    assert_eq!(known(&desk, "b").failed, Some(4));
    assert!(standing(&desk).2.starts_with("job 4 did not find it well: the mirror broke"), "{:?}", standing(&desk));
}

#[test]
fn a_master_that_is_started_again_does_not_look_sooner() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", None)]);
    free(&mut desk, "b");
    desk.queue(vec![check(1, "b")]);
    end(&mut desk, 1, Outcome::Failed);
    let (records, now) = (desk.scheduler.board_records("a"), desk.now);
    for (later, wait) in [(0, 30_000), (20_000, 10_000), (60_000, 0)] {
        let mut desk = Desk::new();
        desk.now = now + later;
        desk.give(Input::Known("a".to_string(), records.clone()));
        bench(&mut desk, &[offered("b", None)]);
        let mut out = free(&mut desk, "b");
        assert_eq!(due(&out).is_empty(), wait > 0, "{later}");
        out.extend(desk.pass(wait));
        assert_eq!(due(&out).len(), 1, "{later}");
    }
}

#[test]
fn what_ends_a_check_that_is_not_the_boards_doing_says_nothing_of_it() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", None)]);
    free(&mut desk, "b");
    desk.queue(vec![check(1, "b")]);
    desk.give(Input::Cancel(vec![1], "ann".to_string()));
    end(&mut desk, 1, Outcome::Cancelled);
    assert_eq!(known(&desk, "b"), BoardRecord::default());
    // The image that is known to be good is not there.
    free(&mut desk, "b");
    desk.queue(vec![check(3, "b")]);
    desk.give(Input::Ended(key(3, 1), Verdict { fault: Fault::Spec, ..verdict(Outcome::Failed) }));
    assert_eq!((desk.state(3), known(&desk, "b")), (JobState::Failed, BoardRecord::default()));
    // Its agent's disk: tried again.
    free(&mut desk, "b");
    desk.queue(vec![check(2, "b")]);
    let of_agent = Verdict { fault: Fault::Infrastructure, ..verdict(Outcome::Infra) };
    desk.give(Input::Ended(key(2, 1), of_agent));
    assert_eq!(desk.state(2), JobState::Queued);
    assert_eq!(known(&desk, "b"), BoardRecord::default());
    free(&mut desk, "b");
    assert_eq!(assigned(&desk.pass(60_000)), [("a", key(2, 2))]);
}

#[test]
fn a_board_that_was_away_is_checked_before_anybody_gets_it() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", None), plain("p")]);
    for board in ["b", "p"] {
        free(&mut desk, board);
        said(&mut desk, board, Said::Gone("console main is not there".to_string()));
    }
    desk.queue(vec![wants(1, "alpha"), wants(2, "alpha")]);
    assert!(desk.waiting(1).contains("a/b (console main is not there)"), "{}", desk.waiting(1));
    let out = free(&mut desk, "b");
    assert_eq!((assigned(&out), due(&out).len()), (Vec::new(), 1), "{out:?}");
    assert!(due(&out)[0].1.contains("is back, it was not to be used: console main is not there"), "{out:?}");
    assert_eq!(assigned(&free(&mut desk, "p")), [("a", key(1, 1))], "of which nobody knows how it is found out");
    desk.queue(vec![check(3, "b")]);
    end(&mut desk, 3, Outcome::Passed);
    assert_eq!(assigned(&free(&mut desk, "b")), [("a", key(2, 1))]);
    // Somebody at the machine takes nothing away from it.
    end(&mut desk, 2, Outcome::Passed);
    said(&mut desk, "b", Said::Busy(Some("busy: ann".to_string())));
    assert_eq!(due(&free(&mut desk, "b")), []);
}

#[test]
fn a_plug_that_is_loose_is_not_flashed_again_and_again() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", None)]);
    free(&mut desk, "b");
    let (mut checks, mut id) = (0, 0);
    for _ in 0..600 {
        said(&mut desk, "b", Said::Gone("unplugged".to_string()));
        let mut out = free(&mut desk, "b");
        out.extend(desk.pass(1_000));
        for _ in due(&out) {
            checks += 1;
            id += 1;
            desk.queue(vec![check(id, "b")]);
            end(&mut desk, id, Outcome::Passed);
            free(&mut desk, "b");
        }
    }
    assert!((9..=11).contains(&checks), "{checks} in ten minutes");
}

#[test]
fn a_board_is_looked_at_as_often_as_its_file_says() {
    let mut desk = Desk::new();
    let board = offered("b", Some(HEALTH_EVERY_S));
    assert_eq!(due(&bench(&mut desk, &[board])), [("b", "it was never checked")]);
    desk.queue(vec![check(1, "b")]);
    assert_eq!(assigned(&free(&mut desk, "b")), [("a", key(1, 1))]);
    end(&mut desk, 1, Outcome::Passed);
    free(&mut desk, "b");
    assert_eq!(due(&desk.pass(HEALTH_EVERY_S * 1_000 - 1)), []);
    assert_eq!(due(&desk.pass(1_000)), [("b", "it is time")]);
    // It waits its turn, and nobody is kept from the board.
    desk.queue(vec![wants(2, "alpha")]);
    assert_eq!(desk.state(2), JobState::Assigned);
    // What cannot be begun is asked for later.
    let out = desk.give(Input::NotChecked("a".to_string(), "b".to_string()));
    assert_eq!(due(&out), []);
    assert_eq!(due(&desk.pass(30_000)), [("b", "it is time")]);
}

#[test]
fn who_sets_a_board_aside_takes_it_back() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", Some(HEALTH_EVERY_S)), plain("p")]);
    let aside = |desk: &mut Desk, board: &str, by: Option<&str>| {
        desk.give(Input::BoardAside("a".to_string(), board.to_string(), by.map(ToString::to_string)))
    };
    for board in ["b", "p"] {
        free(&mut desk, board);
        let out = aside(&mut desk, board, Some("ann"));
        assert!(out.contains(&Output::Holds("a".to_string())), "{out:?}");
    }
    desk.queue(vec![wants(1, "alpha")]);
    assert!(desk.waiting(1).contains("a/b (set aside by ann), a/p (set aside by ann)"), "{}", desk.waiting(1));
    // Whoever looks into it may have it checked; that does not take it back.
    assert_eq!(assigned(&desk.queue(vec![check(2, "b")])), [("a", key(2, 1))]);
    end(&mut desk, 2, Outcome::Passed);
    assert_eq!(assigned(&free(&mut desk, "b")), []);
    // After a restart it is as before.
    let records = desk.scheduler.board_records("a");
    let mut desk = Desk::new();
    desk.give(Input::Known("a".to_string(), records.clone()));
    bench(&mut desk, &[offered("b", Some(HEALTH_EVERY_S)), plain("p")]);
    desk.queue(vec![wants(1, "alpha")]);
    assert_eq!(assigned(&free(&mut desk, "b")), []);
    assert_eq!(assigned(&free(&mut desk, "p")), []);
    assert_eq!(due(&desk.pass(90_000)), [], "nobody looks after what nobody uses");
    assert_eq!(assigned(&aside(&mut desk, "p", None)), [("a", key(1, 1))]);
    assert_eq!(records.get("b").and_then(|known| known.aside.clone()).map(|aside| aside.by), Some("ann".to_string()));
    // Another machine's boards are others.
    desk.give(Input::Known("a".to_string(), Map::new()));
    assert_eq!(desk.scheduler.board_records("a"), Map::new());
}

#[test]
fn a_job_that_only_boards_want_that_nobody_gets_expires() {
    for gone in [false, true] {
        let mut desk = Desk::new();
        bench(&mut desk, &[plain("b")]);
        free(&mut desk, "b");
        match gone {
            true => said(&mut desk, "b", Said::Gone("unplugged".to_string())),
            false => desk.give(Input::BoardAside("a".to_string(), "b".to_string(), Some("ann".to_string()))),
        };
        desk.queue(vec![wants(1, "alpha")]);
        desk.pass(100_000);
        assert_eq!(desk.state(1), JobState::Expired, "{gone}");
        let why = desk.record(1).cause;
        assert!(why.contains(if gone { "a/b (unplugged)" } else { "a/b (set aside by ann)" }), "{why}");
    }
}

#[test]
fn what_wants_several_boards_waits_for_none_that_is_unwell_and_keeps_none_from_its_check() {
    let mut desk = Desk::new();
    bench(&mut desk, &[offered("b", None), plain("p")]);
    free(&mut desk, "b");
    free(&mut desk, "p");
    desk.queue(vec![check(1, "b")]);
    end(&mut desk, 1, Outcome::Failed);
    free(&mut desk, "b");
    let mut both = wants(2, "alpha");
    both.board.as_mut().expect("a board").others =
        Some(vec![WantedBoard { kind: "uno".to_string(), ..WantedBoard::default() }]);
    desk.queue(vec![both, wants(3, "beta")]);
    assert_eq!(desk.state(3), JobState::Assigned, "nothing is kept together that cannot be had");
    assert_eq!(due(&desk.pass(60_000)).len(), 1);
    assert_eq!(assigned(&desk.queue(vec![check(4, "b")])), [("a", key(4, 1))]);
    end(&mut desk, 4, Outcome::Passed);
    free(&mut desk, "b");
    end(&mut desk, 3, Outcome::Passed);
    assert_eq!(assigned(&free(&mut desk, "p")), [("a", key(2, 1))]);
}
