//! Boards that agents offer and jobs that want one: which is given to whom, when it is free again, and why a job waits for one.

mod desk;

use desk::{Desk, GCC, assigned, job, key, of, verdict};
use sai_core::job::{Blame, JobId, JobState, Outcome};
use sai_core::ledger::JobRecord;
use sai_core::ordered::Map;
use sai_core::scheduler::{Greeting, Input, Output, Said};
use sai_core::units::{GivenBoard, OfferedBoard, WantedBoard};

fn offered(name: &str, kind: &str, tags: &[&str]) -> OfferedBoard {
    let tags = tags.iter().map(ToString::to_string).collect();
    OfferedBoard { name: name.to_string(), kind: kind.to_string(), tags, ..OfferedBoard::default() }
}

/// A job of this repository that wants a board.
fn wants(id: JobId, repository: &str, kind: &str, tags: &[&str]) -> JobRecord {
    let tags = tags.iter().map(ToString::to_string).collect();
    let board = Some(WantedBoard { kind: kind.to_string(), tags, ..WantedBoard::default() });
    JobRecord { board, configuration: "fw/board".to_string(), ..of(id, repository) }
}

trait Bench {
    fn bench(
        &mut self,
        agent: &str,
        slots: u32,
        boards: &[OfferedBoard],
        holds: &[sai_core::job::JobKey],
    ) -> Vec<Output>;
    fn free(&mut self, agent: &str, board: &str, grant: u64) -> Vec<Output>;
    fn given(&self, id: JobId) -> Option<GivenBoard>;
}

impl Bench for Desk {
    fn bench(
        &mut self,
        agent: &str,
        slots: u32,
        boards: &[OfferedBoard],
        holds: &[sai_core::job::JobKey],
    ) -> Vec<Output> {
        self.give(Input::AgentUp(Greeting {
            agent: agent.to_string(),
            platforms: vec![GCC.to_string()],
            slots,
            needs: true,
            several: true,
            leases: true,
            told: true,
            mirrors: Vec::new(),
            holds: holds.to_vec(),
            boards: boards.to_vec(),
            bundles: true,
        }))
    }

    fn free(&mut self, agent: &str, board: &str, grant: u64) -> Vec<Output> {
        let (agent, board) = (agent.to_string(), board.to_string());
        self.give(Input::Board { agent, board, said: Said::Free(grant) })
    }

    fn given(&self, id: JobId) -> Option<GivenBoard> {
        self.record(id).given
    }
}

fn end(desk: &mut Desk, id: JobId, outcome: Outcome) -> Vec<Output> {
    let attempt = desk.record(id).attempt;
    desk.give(Input::Ended(key(id, attempt), verdict(outcome)))
}

#[test]
fn a_board_is_given_only_where_its_agent_called_it_free_at_the_latest_grant() {
    let mut desk = Desk::new();
    desk.queue(vec![wants(1, "alpha", "uno", &[]), wants(2, "alpha", "uno", &[])]);
    assert_eq!(assigned(&desk.bench("a", 1, &[offered("bench-1", "uno", &[])], &[])), [], "not called free yet");
    assert!(desk.waiting(1).contains("a/bench-1 (its agent has not called it free yet)"), "{}", desk.waiting(1));
    // Numbers are larger than what the agent remembers of earlier ones.
    assert_eq!(assigned(&desk.free("a", "bench-1", 57)), [("a", key(1, 1))]);
    assert_eq!(desk.given(1), Some(GivenBoard { name: "bench-1".to_string(), grant: 58, others: None }));
    // What it said before it heard of that one, and what a verdict says, frees nothing.
    assert_eq!(assigned(&desk.free("a", "bench-1", 57)), []);
    assert_eq!(assigned(&end(&mut desk, 1, Outcome::Passed)), []);
    assert_eq!(assigned(&desk.free("b", "bench-1", 90)), [], "of another agent");
    assert_eq!(assigned(&desk.free("a", "bench-2", 90)), [], "of no board of its");
    assert_eq!(assigned(&desk.free("a", "bench-1", 58)), [("a", key(2, 1))]);
    assert!(desk.given(2).expect("a board").grant > 58);
}

#[test]
fn a_job_at_a_board_takes_no_slot_and_begins_nowhere_without_any() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b1", "uno", &[]), offered("b2", "uno", &[])], &[]);
    desk.free("a", "b1", 0);
    desk.free("a", "b2", 0);
    let out = desk.queue(vec![wants(1, "alpha", "uno", &[]), wants(2, "alpha", "uno", &[]), job(3), job(4)]);
    let mut all = assigned(&out);
    all.sort_unstable();
    assert_eq!(all, [("a", key(1, 1)), ("a", key(2, 1)), ("a", key(3, 1))], "two at boards, and one in the slot");
    end(&mut desk, 1, Outcome::Passed);
    let boards = vec![offered("b1", "uno", &[]), offered("b2", "uno", &[])];
    let offer = |slots| Input::AgentOffer {
        agent: "a".to_string(),
        platforms: vec![GCC.to_string()],
        slots,
        boards: boards.clone(),
    };
    desk.give(offer(0));
    let free = desk.free("a", "b1", 99);
    assert_eq!(assigned(&free), []);
    assert_eq!(assigned(&desk.queue(vec![wants(5, "alpha", "uno", &[])])), []);
    assert!(desk.waiting(5).contains("a/b1 (its agent takes no jobs now)"), "{}", desk.waiting(5));
    assert_eq!(assigned(&desk.give(offer(1))), [("a", key(5, 1))], "what was said of the same boards stands");
}

#[test]
fn types_and_tags_are_met_and_what_nobody_offers_expires() {
    let mut desk = Desk::new();
    desk.up("old", 4);
    desk.queue(vec![wants(1, "alpha", "uno", &["leds"]), wants(2, "alpha", "esp32", &[])]);
    assert_eq!(desk.record(1).state, JobState::Queued, "an agent without boards gets none");
    let why = desk.waiting(1);
    assert_eq!(why, "no agent has offered a board of type uno with leds yet; expires 100 s after it was queued");
    desk.bench("a", 1, &[offered("plain", "uno", &[]), offered("lit", "uno", &["leds", "x"])], &[]);
    assert_eq!(assigned(&desk.free("a", "plain", 0)), []);
    assert_eq!(assigned(&desk.free("a", "lit", 0)), [("a", key(1, 1))]);
    assert_eq!(desk.given(1).expect("a board").name, "lit");
    desk.pass(100_000);
    let record = desk.record(2);
    assert_eq!(record.state, JobState::Expired);
    assert_eq!(record.cause, "no agent that offers a board of type esp32 came in time");
}

#[test]
fn each_repository_has_its_turn_with_boards_of_a_type() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[])], &[]);
    let jobs = (1..=100).map(|id| wants(id, "alpha", "uno", &[])).collect();
    desk.queue(jobs);
    desk.queue(vec![
        wants(160, "beta", "uno", &[]),
        JobRecord { person: Some("ann".to_string()), ..wants(161, "alpha", "uno", &[]) },
    ]);
    let mut order = Vec::new();
    let mut grant = 0;
    for _ in 0..4 {
        let out = desk.free("a", "b", grant);
        let [(_, begun)] = assigned(&out)[..] else { panic!("one is next: {out:?}") };
        order.push(begun.job);
        grant = desk.given(begun.job).expect("a board").grant;
        end(&mut desk, begun.job, Outcome::Passed);
    }
    assert_eq!(order, [1, 160, 161, 2]);
    // A higher priority goes before all of them.
    desk.queue(vec![JobRecord { priority: 1, ..wants(170, "alpha", "uno", &[]) }]);
    assert_eq!(assigned(&desk.free("a", "b", grant)), [("a", key(170, 1))]);
}

#[test]
fn an_agent_that_does_not_come_back_keeps_its_boards_and_its_jobs_go_elsewhere() {
    let mut desk = Desk::new();
    let boards = [offered("b", "uno", &[])];
    desk.bench("a", 1, &boards, &[]);
    desk.free("a", "b", 3);
    desk.queue(vec![wants(1, "alpha", "uno", &[]), wants(2, "alpha", "uno", &[])]);
    assert_eq!(desk.given(1).expect("a board").grant, 4);
    desk.give(Input::AgentDown("a".to_string()));
    assert!(desk.waiting(2).contains("a/b (its agent is away)"), "{}", desk.waiting(2));
    desk.pass(10_000);
    assert_eq!(desk.record(1).state, JobState::Queued);
    desk.bench("c", 1, &boards, &[]);
    desk.pass(60_000);
    assert_eq!(assigned(&desk.free("c", "b", 0)), [("c", key(1, 2))]);
    // It comes back with what was given up: the board is not free before it says so.
    let out = desk.bench("a", 1, &boards, &[key(1, 1)]);
    assert!(out.contains(&Output::Forget("a".to_string(), key(1, 1))), "{out:?}");
    assert_eq!(assigned(&out), []);
    assert_eq!(assigned(&desk.free("a", "b", 4)), [("a", key(2, 1))]);
    assert!(desk.given(2).expect("a board").grant > desk.given(1).expect("a board").grant);
}

#[test]
fn a_master_that_starts_again_gives_nothing_that_is_held() {
    let mut desk = Desk::new();
    let boards = [offered("b", "uno", &[])];
    desk.bench("a", 1, &boards, &[]);
    desk.free("a", "b", 7);
    desk.queue(vec![wants(1, "alpha", "uno", &[]), wants(2, "alpha", "uno", &[])]);
    let records = [desk.record(1), desk.record(2)];
    let mut desk = Desk::new();
    for record in records {
        desk.give(Input::Restore(record, 60));
    }
    let out = desk.bench("a", 1, &boards, &[key(1, 1)]);
    assert!(out.contains(&Output::Adopt("a".to_string(), key(1, 1))), "{out:?}");
    assert!(desk.waiting(2).contains("a/b (job 1 is there)"), "{}", desk.waiting(2));
    end(&mut desk, 1, Outcome::Passed);
    assert_eq!(assigned(&desk.free("a", "b", 8)), [("a", key(2, 1))]);
    assert_eq!(desk.given(2), Some(GivenBoard { name: "b".to_string(), grant: 9, others: None }));
}

#[test]
fn trouble_is_counted_at_the_board_and_takes_nothing_else_away() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("bad", "uno", &[])], &[]);
    let mut grant = 0;
    for id in 1..=3 {
        desk.queue(vec![wants(id, &format!("r{id}"), "uno", &[])]);
        assert_eq!(assigned(&desk.free("a", "bad", grant)), [("a", key(id, 1))]);
        grant = desk.given(id).expect("a board").grant;
        end(&mut desk, id, Outcome::Infra);
        desk.give(Input::Cancel(vec![id], "somebody".to_string()));
    }
    assert_eq!(assigned(&desk.free("a", "bad", grant)), []);
    assert_eq!(
        assigned(&desk.queue(vec![wants(4, "alpha", "uno", &[]), job(5)])),
        [("a", key(5, 1))],
        "slots are none the worse"
    );
    assert!(desk.waiting(4).contains("a/bad (had trouble 3 times in a row"), "{}", desk.waiting(4));
    assert!(desk.paused("a").contains("board bad"), "{}", desk.paused("a"));
    // Another board of the type is given at once, and the bad one when its pause is over.
    desk.bench("c", 1, &[offered("good", "uno", &[])], &[]);
    assert_eq!(assigned(&desk.free("c", "good", 0)), [("c", key(4, 1))]);
    desk.queue(vec![wants(6, "alpha", "uno", &[])]);
    assert_eq!(assigned(&desk.pass(30_000)), [("a", key(6, 1))]);
}

#[test]
fn a_board_in_local_use_is_busy_and_by_whom() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[])], &[]);
    desk.free("a", "b", 0);
    let busy = Some("busy: ann, sai-buddy".to_string());
    desk.give(Input::Board { agent: "a".to_string(), board: "b".to_string(), said: Said::Busy(busy) });
    desk.queue(vec![wants(1, "alpha", "uno", &[])]);
    assert!(desk.waiting(1).contains("a/b (busy: ann, sai-buddy); place 1 by priority"), "{}", desk.waiting(1));
    assert_eq!(assigned(&desk.free("a", "b", 0)), [("a", key(1, 1))]);
}

#[test]
fn a_board_that_somebody_at_the_machine_took_first_counts_against_nobody() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[])], &[]);
    desk.queue(vec![wants(1, "alpha", "uno", &[])]);
    desk.free("a", "b", 0);
    // As often as would take the board away from that repository.
    for attempt in 1..=3 {
        assert_eq!(desk.record(1).attempt, attempt, "{}", desk.waiting(1));
        let grant = desk.given(1).expect("a board").grant;
        desk.give(Input::Broken(key(1, attempt), Blame::of(Some("nobody")), "ann writes to it".to_string()));
        assert_eq!(desk.paused("a"), "");
        desk.free("a", "b", grant);
        desk.pass(60_000);
    }
    desk.queue(vec![wants(2, "alpha", "uno", &[])]);
    assert_eq!(desk.record(2).attempt, 1, "{}", desk.waiting(2));
}

#[test]
fn one_repositorys_troubles_take_a_board_away_from_that_one_alone() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[])], &[]);
    let mut grant = 0;
    let mut trouble = |desk: &mut Desk, id: JobId, repository: &str| {
        desk.queue(vec![wants(id, repository, "uno", &[])]);
        assert_eq!(assigned(&desk.free("a", "b", grant)), [("a", key(id, 1))]);
        grant = desk.given(id).expect("a board").grant;
        end(desk, id, Outcome::Infra);
        desk.give(Input::Cancel(vec![id], "somebody".to_string()));
        grant
    };
    trouble(&mut desk, 1, "hostile");
    trouble(&mut desk, 2, "hostile");
    let grant = trouble(&mut desk, 3, "hostile");
    desk.queue(vec![wants(4, "hostile", "uno", &[]), wants(5, "honest", "uno", &[])]);
    assert_eq!(assigned(&desk.free("a", "b", grant)), [("a", key(5, 1))], "the younger one, of another repository");
    let grant = desk.given(5).expect("a board").grant;
    end(&mut desk, 5, Outcome::Passed);
    assert_eq!(assigned(&desk.free("a", "b", grant)), [], "that it works for others does not end it");
    let why = desk.waiting(4);
    assert!(
        why.contains("a/b (had trouble 3 times in a row") && why.contains("all of this repository; no job of it"),
        "{why}"
    );
    let paused = desk.paused("a");
    assert!(paused.contains("board b had trouble 3 times in a row") && paused.contains("all of hostile"), "{paused}");
    assert_eq!(assigned(&desk.pass(30_000)), [("a", key(4, 1))]);
    // Once more, and it waits twice as long; a success of its own ends that.
    let grant = desk.given(4).expect("a board").grant;
    end(&mut desk, 4, Outcome::Infra);
    desk.free("a", "b", grant);
    assert_eq!(assigned(&desk.pass(30_000)), []);
    assert_eq!(assigned(&desk.pass(30_000)), [("a", key(4, 2))]);
    let grant = desk.given(4).expect("a board").grant;
    end(&mut desk, 4, Outcome::Passed);
    desk.queue(vec![wants(6, "hostile", "uno", &[])]);
    assert_eq!(assigned(&desk.free("a", "b", grant)), [("a", key(6, 1))]);
    assert_eq!(desk.paused("a"), "");
}

#[test]
fn three_troubles_of_two_repositories_set_a_board_aside_for_all() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[])], &[]);
    let mut grant = 0;
    for (id, repository) in [(1, "alpha"), (2, "alpha"), (3, "alpha"), (4, "beta")] {
        desk.queue(vec![wants(id, repository, "uno", &[])]);
        let begun = assigned(&desk.free("a", "b", grant)).iter().map(|(_, key)| key.job).collect::<Vec<_>>();
        assert_eq!(begun, [id], "of {repository}");
        grant = desk.given(id).expect("a board").grant;
        end(&mut desk, id, Outcome::Infra);
        desk.give(Input::Cancel(vec![id], "somebody".to_string()));
    }
    desk.free("a", "b", grant);
    assert_eq!(assigned(&desk.queue(vec![wants(5, "gamma", "uno", &[])])), []);
    assert!(desk.waiting(5).contains("a/b (had trouble 3 times in a row"), "two of alpha count: {}", desk.waiting(5));
    assert_eq!(assigned(&desk.pass(30_000)), [("a", key(5, 1))]);
    // Another board that has its name has none of its troubles.
    desk.queue(vec![wants(6, "alpha", "esp32", &[])]);
    desk.bench("a", 1, &[offered("b", "esp32", &[])], &[]);
    assert_eq!(assigned(&desk.free("a", "b", 99)), [("a", key(6, 1))]);
}

/// A job that wants a board of each of these types.
fn wants_all(id: JobId, repository: &str, kinds: &[&str]) -> JobRecord {
    let wanted = |kind: &&str| WantedBoard { kind: kind.to_string(), ..WantedBoard::default() };
    let mut record = wants(id, repository, kinds[0], &[]);
    if let Some(board) = &mut record.board {
        board.others = Some(kinds[1..].iter().map(wanted).collect());
    }
    record
}

#[test]
fn several_boards_are_given_in_one_decision_or_none_is() {
    let mut desk = Desk::new();
    let boards = [offered("b", "uno", &[]), offered("c", "uno", &[]), offered("d", "esp32", &[])];
    desk.bench("a", 1, &boards, &[]);
    desk.queue(vec![wants_all(1, "alpha", &["uno", "esp32", "uno"])]);
    assert_eq!(assigned(&desk.free("a", "c", 0)), []);
    assert_eq!(assigned(&desk.free("a", "d", 0)), []);
    assert!(
        desk.waiting(1).contains("a board of type uno and a board of type esp32 and a board of type uno at one agent")
    );
    assert_eq!(assigned(&desk.free("a", "b", 3)), [("a", key(1, 1))]);
    let others = Some(vec!["d".to_string(), "c".to_string()]);
    assert_eq!(desk.given(1), Some(GivenBoard { name: "b".to_string(), grant: 4, others }));
    // Each is free by its own word at that grant, or a later one.
    end(&mut desk, 1, Outcome::Passed);
    desk.queue(vec![wants(2, "alpha", "esp32", &[])]);
    assert_eq!(assigned(&desk.free("a", "d", 3)), []);
    assert_eq!(assigned(&desk.free("a", "d", 4)), [("a", key(2, 1))]);
    // What no one agent has is waited for.
    desk.bench("other", 1, &[offered("e", "nucleo", &[])], &[]);
    desk.free("other", "e", 9);
    desk.queue(vec![wants_all(3, "alpha", &["uno", "nucleo"])]);
    assert!(desk.waiting(3).starts_with("no agent has offered a board of type uno and"), "{}", desk.waiting(3));
}

#[test]
fn a_board_of_which_another_would_do_makes_way_for_who_can_use_no_other() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &["leds"]), offered("c", "uno", &[])], &[]);
    desk.free("a", "b", 0);
    desk.free("a", "c", 0);
    // The first of them would take `b`, by its name, and the second has nothing else.
    let mut record = wants_all(1, "alpha", &["uno", "uno"]);
    let others = record.board.as_mut().and_then(|board| board.others.as_mut()).expect("others");
    others[0].tags.push("leds".to_string());
    assert_eq!(assigned(&desk.queue(vec![record])), [("a", key(1, 1))]);
    assert_eq!(
        desk.given(1).map(|given| (given.name, given.others)),
        Some(("c".to_string(), Some(vec!["b".to_string()])))
    );
}

#[test]
fn boards_are_kept_together_for_the_first_that_wants_several_of_an_agent() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[]), offered("c", "uno", &[]), offered("d", "esp32", &[])], &[]);
    for board in ["b", "c", "d"] {
        desk.free("a", board, 0);
    }
    desk.queue(vec![wants(1, "alpha", "uno", &[]), wants(2, "beta", "uno", &[])]);
    let (first, second) = (desk.given(1).expect("given"), desk.given(2).expect("given"));
    desk.queue(vec![
        wants_all(3, "alpha", &["uno", "uno"]),
        wants(4, "gamma", "uno", &[]),
        wants(5, "beta", "esp32", &[]),
    ]);
    assert!(desk.given(5).is_some(), "what it does not want is given as ever");
    assert!(desk.waiting(3).contains("those of a are kept together for it"), "{}", desk.waiting(3));
    end(&mut desk, 1, Outcome::Passed);
    assert_eq!(assigned(&desk.free("a", &first.name, first.grant)), [], "it is kept for the one that wants both");
    end(&mut desk, 2, Outcome::Passed);
    assert_eq!(assigned(&desk.free("a", &second.name, second.grant)), [("a", key(3, 1))]);
    // It was served, and the others go on.
    let given = desk.given(3).expect("given");
    end(&mut desk, 3, Outcome::Passed);
    assert_eq!(assigned(&desk.free("a", "b", given.grant)), [("a", key(4, 1))]);
}

#[test]
fn who_wants_several_boards_is_served_within_two_turns_of_each_holder() {
    // Whoever queues without an end, and whichever board is free first.
    for order in [[0, 1], [1, 0], [0, 0], [1, 1]] {
        let mut desk = Desk::new();
        desk.bench("a", 1, &[offered("b", "uno", &[]), offered("c", "uno", &[])], &[]);
        for board in ["b", "c"] {
            desk.free("a", board, 0);
        }
        desk.queue((1..=100).map(|id| wants(id, if id % 2 == 0 { "alpha" } else { "beta" }, "uno", &[])).collect());
        desk.queue((101..=150).map(|id| wants_all(id, "gamma", &["uno", "uno"])).collect());
        let (mut turns, mut served) = (vec![("b".to_string(), 1), ("c".to_string(), 1)], 0);
        let mut step = 0;
        while served < 5 {
            step += 1;
            assert!(step < 200, "{order:?}: nobody is served");
            let holders: Vec<JobId> =
                (1..=150).filter(|id| desk.given(*id).is_some() && !desk.record(*id).state.ended()).collect();
            let ended = holders[order[step % 2] % holders.len()];
            let given = desk.given(ended).expect("it has a board");
            end(&mut desk, ended, Outcome::Passed);
            let names = given.others.into_iter().flatten().chain([given.name]);
            for name in names {
                for (_, begun) in assigned(&desk.free("a", &name, given.grant)) {
                    let given = desk.given(begun.job).expect("a board");
                    if begun.job > 100 {
                        served += 1;
                        turns.iter_mut().for_each(|(_, count)| *count = 0);
                    } else if let Some((_, count)) = turns.iter_mut().find(|(name, _)| *name == given.name) {
                        *count += 1;
                        assert!(*count <= 2, "{order:?}: {} was given {count} times meanwhile", given.name);
                    }
                }
            }
        }
    }
}

#[test]
fn who_collects_boards_and_cannot_be_served_any_more_keeps_none() {
    let mut desk = Desk::new();
    let boards = [offered("b", "uno", &[]), offered("c", "uno", &[])];
    desk.bench("a", 1, &boards, &[]);
    desk.free("a", "b", 0);
    desk.queue(vec![wants_all(1, "alpha", &["uno", "uno"])]);
    assert_eq!(assigned(&desk.queue(vec![wants(2, "beta", "uno", &[])])), []);
    let offer = |boards: &[OfferedBoard]| {
        let (agent, platforms, boards) = ("a".to_string(), vec![GCC.to_string()], boards.to_vec());
        Input::AgentOffer { agent, platforms, slots: 1, boards }
    };
    assert_eq!(assigned(&desk.give(offer(&boards[..1]))), [("a", key(2, 1))]);
}

#[test]
fn nothing_is_kept_for_who_wants_units_too_that_another_one_has() {
    let mut desk = Desk::new();
    desk.offer(&[("licences", 1)]);
    desk.bench("a", 2, &[offered("b", "uno", &[]), offered("c", "uno", &[])], &[]);
    let licensed = |record: JobRecord| JobRecord { units: Some(Map::from([("licences".to_string(), 1)])), ..record };
    assert_eq!(assigned(&desk.queue(vec![licensed(job(1))])), [("a", key(1, 1))]);
    desk.queue(vec![licensed(wants_all(2, "alpha", &["uno", "uno"]))]);
    desk.free("a", "b", 0);
    assert!(desk.waiting(2).contains("licences"), "{}", desk.waiting(2));
    assert_eq!(assigned(&desk.queue(vec![wants(3, "beta", "uno", &[])])), [("a", key(3, 1))]);
    // Once it could begin, boards are kept for it as for any other.
    end(&mut desk, 1, Outcome::Passed);
    assert_eq!(assigned(&desk.free("a", "c", 0)), []);
    assert_eq!(assigned(&desk.queue(vec![wants(4, "beta", "uno", &[])])), []);
    let given = desk.given(3).expect("given");
    end(&mut desk, 3, Outcome::Passed);
    assert_eq!(assigned(&desk.free("a", &given.name, given.grant)), [("a", key(2, 1))]);
}

#[test]
fn trouble_at_one_of_several_boards_is_counted_there() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[]), offered("c", "uno", &[])], &[]);
    desk.free("a", "b", 0);
    desk.free("a", "c", 0);
    let mut grant = 0;
    for id in 1..=3 {
        desk.queue(vec![wants_all(id, "alpha", &["uno", "uno"])]);
        grant = desk.given(id).expect("given").grant;
        let finding = sai_core::job::Finding { word: "infra".to_string(), what: None, board: Some("c".to_string()) };
        let found = sai_core::job::Verdict {
            trouble: Blame::Platform.word(),
            verdict: Some(finding),
            ..verdict(Outcome::Infra)
        };
        let attempt = desk.record(id).attempt;
        desk.give(Input::Ended(key(id, attempt), found));
        desk.give(Input::Cancel(vec![id], "ann".to_string()));
        desk.free("a", "b", grant);
        desk.free("a", "c", grant);
    }
    desk.queue(vec![wants(4, "alpha", "uno", &[]), wants(5, "alpha", "uno", &[])]);
    assert_eq!(desk.given(4).map(|given| given.name).as_deref(), Some("b"));
    assert_eq!(desk.given(5), None, "{grant}: it had trouble three times");
}

#[test]
fn a_record_says_what_earlier_attempts_met_at_which_board() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[])], &[]);
    desk.bench("c", 1, &[offered("d", "uno", &[])], &[]);
    desk.queue(vec![wants(1, "alpha", "uno", &[])]);
    assert_eq!(assigned(&desk.free("a", "b", 0)), [("a", key(1, 1))]);
    let finding = sai_core::job::Finding { word: "flash-failed".to_string(), what: None, board: None };
    let found = sai_core::job::Verdict {
        trouble: Blame::Platform.word(),
        cause: "it cannot be written".to_string(),
        verdict: Some(finding),
        ..verdict(Outcome::Infra)
    };
    desk.give(Input::Ended(key(1, 1), found));
    desk.free("c", "d", 0);
    desk.pass(60_000);
    let record = desk.record(1);
    assert_eq!((record.attempt, record.agent.as_deref()), (2, Some("c")), "{}", desk.waiting(1));
    let tried = record.tried.expect("what it met");
    let [tried] = &tried[..] else { panic!("{tried:?}") };
    assert_eq!((tried.attempt, tried.agent.as_str(), tried.board.as_str()), (1, "a", "b"));
    assert_eq!((tried.word.as_deref(), tried.why.as_str()), (Some("flash-failed"), "it cannot be written"));
    // An attempt that is nobody's trouble is told of without a word, and one that never began not at all.
    desk.give(Input::Broken(key(1, 2), Blame::Nobody, "somebody was faster".to_string()));
    let told: Vec<_> =
        desk.record(1).tried.expect("both").iter().map(|tried| (tried.attempt, tried.word.clone())).collect();
    assert_eq!(told, [(1, Some("flash-failed".to_string())), (2, None)]);
    // However often it is built again, so many are kept: the latest.
    for attempt in 3..30 {
        desk.give(Input::Cancel(vec![1], "ann".to_string()));
        let record = JobRecord { attempt: attempt - 1, ..desk.record(1) };
        desk.queue(vec![record]);
        let grant = desk.given(1).map_or(0, |given| given.grant);
        desk.free("a", "b", grant + 1);
        desk.free("c", "d", grant + 1);
        assert_eq!(desk.record(1).attempt, attempt, "{}", desk.waiting(1));
        desk.give(Input::Broken(key(1, attempt), Blame::Nobody, "again".to_string()));
    }
    let tried = desk.record(1).tried.expect("some");
    assert_eq!((tried.len(), tried.last().map(|tried| tried.attempt)), (8, Some(29)));
}

#[test]
fn a_board_says_whose_turn_is_next_and_whom_it_is_kept_from() {
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &["leds"]), offered("other", "esp32", &[])], &[]);
    desk.queue((1..=30).map(|id| wants(id, "alpha", "uno", &[])).collect());
    desk.queue(vec![wants(31, "beta", "uno", &["leds"]), wants(32, "beta", "uno", &["none"])]);
    let board = |desk: &Desk, name: &str| {
        let boards = desk.scheduler.boards(desk.now);
        boards.into_iter().find(|row| row.offered.name == name).expect("a board")
    };
    let row = board(&desk, "b");
    let next: Vec<_> = row.waiters.iter().map(|waiter| waiter.job).collect();
    assert_eq!(
        (row.waiting, next.len(), &next[..3]),
        (31, 20, &[1, 31, 2][..]),
        "each in turn, and no job of another board"
    );
    assert_eq!((row.state(), board(&desk, "other").waiters), ("away", Vec::new()));
    let mut grant = 0;
    for attempt in 1..=2 {
        desk.free("a", "b", grant);
        desk.pass(60_000);
        assert_eq!(board(&desk, "b").state(), "busy", "{attempt}");
        let id = board(&desk, "b").holder.expect("a holder").key.job;
        grant = desk.given(id).expect("a board").grant;
        end(&mut desk, id, Outcome::Passed);
    }
    // Three troubles of one repository keep that one away, which is told, until somebody gives its agent jobs again.
    let mut desk = Desk::new();
    desk.bench("a", 1, &[offered("b", "uno", &[])], &[]);
    let mut grant = 0;
    for id in 1..=3 {
        desk.queue(vec![wants(id, "hostile", "uno", &[])]);
        desk.free("a", "b", grant);
        grant = desk.given(id).expect("a board").grant;
        end(&mut desk, id, Outcome::Infra);
        desk.give(Input::Cancel(vec![id], "somebody".to_string()));
    }
    desk.free("a", "b", grant);
    let row = board(&desk, "b");
    assert_eq!((row.state(), row.kept_from.len()), ("free", 1));
    assert!(row.kept_from[0].repository == "hostile" && row.kept_from[0].why.contains("3 times in a row"), "{row:?}");
    let mut later = row.clone();
    later.kept_from[0].seconds -= 1;
    assert!(row.is_much_like(&later), "time alone is no news");
    later.kept_from.clear();
    assert!(!row.is_much_like(&later));
    desk.give(Input::SetAside { agent: "a".to_string(), aside: false });
    assert_eq!(board(&desk, "b").kept_from, []);
    desk.queue(vec![wants(4, "hostile", "uno", &[])]);
    assert_eq!(desk.given(4).map(|given| given.name).as_deref(), Some("b"));
}
