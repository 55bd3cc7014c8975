//! Inputs of an agent's session, in order, against what it says to send, start and delete.

use sai_core::job::{Blame, JobId, JobKey};
use sai_core::limits::{CHUNK_BYTES, PROTOCOL, WINDOW_BYTES};
use sai_core::ordered::Map;
use sai_core::session::{AgentSession, CLONED_MS, Description, Input, Output, REDIAL_MOST_MS, Standing, WELCOME_MS};
use sai_core::units::OfferedBoard;
use sai_core::versions;
use sai_core::wire::{
    Ack, Adopt, AgentMessage, Assignment, AtBoard, Bye, Cancel, Code, Forget, Hello, Load, MasterMessage, Offer, Ping,
    Pong, Refuse, Units, Welcome,
};

const NOW: u64 = 1_000_000;

fn key(job: JobId) -> JobKey {
    JobKey { job, attempt: 1 }
}

fn description() -> Description {
    Description {
        version: "1".to_string(),
        identity: "00112233445566778899aabbccddeeff".to_string(),
        instance: Some("ffeeddccbbaa99887766554433221100".to_string()),
        host: "a.example".to_string(),
        platforms: vec!["linux/x86_64/gcc".to_string()],
        slots: 2,
        cores: 4,
        memory_mib: 1024,
        notes: vec!["a note".to_string()],
        rooted: None,
        boards: Vec::new(),
        card: None,
    }
}

fn greeting(jobs: &[JobKey]) -> Output {
    let about = description();
    Output::Send(AgentMessage::Hello(Hello {
        protocol: PROTOCOL,
        version: about.version,
        identity: about.identity,
        host: about.host,
        platforms: about.platforms,
        slots: about.slots,
        cores: about.cores,
        memory_mib: about.memory_mib,
        mirrors: Vec::new(),
        jobs: jobs.to_vec(),
        notes: Some(about.notes),
        instance: about.instance,
        protocol_newest: Some(PROTOCOL),
        can: Some(versions::told()),
        rooted: None,
        boards: None,
        card: None,
    }))
}

fn assignment(key: JobKey) -> Assignment {
    Assignment {
        key,
        repository: "alpha".to_string(),
        url: "https://forge.example/alpha".into(),
        reference: "refs/heads/main".to_string(),
        revision: "0123456789abcdef0123456789abcdef01234567".to_string(),
        platform: "linux/x86_64".to_string(),
        configuration: "default".to_string(),
        steps: vec!["make".to_string()],
        env: Map::new(),
        artifacts: Vec::new(),
        timeout_s: 60,
        step_timeout_s: None,
        log_bytes: 1 << 20,
        log_limit_fails: false,
        submodules: false,
        needs: None,
        root: None,
        offered: None,
        board: None,
        session: None,
        lease: None,
        health: None,
        bundle: None,
    }
}

fn welcome() -> MasterMessage {
    MasterMessage::Welcome(Welcome { protocol: PROTOCOL, version: "1".to_string(), agent: "a".to_string(), can: None })
}

fn data(key: JobKey, stream: u16, offset: u64, length: u64) -> Output {
    Output::SendData { key, stream, offset, length }
}

struct Desk {
    session: AgentSession,
    now: u64,
}

impl Desk {
    fn new() -> Self {
        Self { session: AgentSession::new(description()), now: NOW }
    }

    /// A session whose link is up and greeted.
    fn up() -> Self {
        let mut desk = Self::new();
        desk.link();
        desk
    }

    fn link(&mut self) -> Vec<Output> {
        self.give(Input::Connected { mirrors: Vec::new() });
        self.hear(welcome())
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.session.handle(self.now, input, &mut out);
        assert!(!out.iter().any(|output| matches!(output, Output::Bug(_))), "{out:?}");
        out.retain(|output| !matches!(output, Output::Say(_)));
        out
    }

    fn hear(&mut self, message: MasterMessage) -> Vec<Output> {
        self.give(Input::Message(message))
    }

    fn grow(&mut self, key: JobKey, lengths: &[u64]) -> Vec<Output> {
        self.give(Input::Lengths { key, lengths: lengths.to_vec() })
    }

    fn adopt(&mut self, key: JobKey, lengths: &[u64]) -> Vec<Output> {
        self.hear(MasterMessage::Adopt(Adopt { key, lengths: lengths.to_vec() }))
    }
}

#[test]
fn an_offer_that_changes_while_the_greeting_is_answered_is_not_lost() {
    let mut desk = Desk::new();
    let offer = Offer { platforms: vec!["freebsd/x86_64/clang".to_string()], slots: 5, rooted: None, boards: None };
    desk.give(Input::Connected { mirrors: Vec::new() });
    assert_eq!(desk.give(Input::Offer(offer.clone())), []);
    assert_eq!(desk.hear(welcome()), [Output::Send(AgentMessage::Offer(offer))]);
    // The next greeting says it itself.
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(desk.link(), []);
}

#[test]
fn each_master_is_told_the_load() {
    let mut desk = Desk::new();
    let load = Load { load_permille: 300, free_mib: 1000 };
    assert_eq!(desk.give(Input::Load(load.clone())), []);
    for _ in 0..2 {
        assert_eq!(desk.link(), [Output::Send(AgentMessage::Load(load.clone()))]);
        desk.give(Input::Disconnected { jitter_permille: 0 });
    }
}

#[test]
fn a_session_dials_greets_and_waits_for_its_welcome() {
    let mut desk = Desk::new();
    assert_eq!(desk.session.deadline(), Some(0));
    assert_eq!(desk.give(Input::Tick), [Output::Dial]);
    assert_eq!(desk.give(Input::Tick), [], "one dial at a time");
    assert_eq!(desk.give(Input::Connected { mirrors: Vec::new() }), [greeting(&[])]);
    assert!(!desk.session.is_up());
    assert_eq!(desk.hear(welcome()), []);
    assert!(desk.session.is_up());
    assert_eq!(desk.session.deadline(), None);
}

#[test]
fn a_master_that_does_not_answer_is_left() {
    let mut desk = Desk::new();
    desk.give(Input::Tick);
    desk.give(Input::Connected { mirrors: Vec::new() });
    assert_eq!(desk.session.deadline(), Some(NOW + WELCOME_MS));
    desk.now += WELCOME_MS;
    assert!(matches!(&desk.give(Input::Tick)[..], [Output::Close { .. }]));
    assert_eq!(desk.give(Input::Tick), [], "said once");
    // A welcome that comes now is too late.
    assert_eq!(desk.hear(welcome()), []);
    assert!(!desk.session.is_up());
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert!(desk.session.deadline().is_some_and(|at| at > desk.now && at < desk.now + 1_000));
}

#[test]
fn a_master_of_another_protocol_is_left() {
    let mut desk = Desk::new();
    desk.give(Input::Connected { mirrors: Vec::new() });
    let other = Welcome { protocol: PROTOCOL + 1, version: "2".to_string(), agent: "a".to_string(), can: None };
    assert!(matches!(&desk.hear(MasterMessage::Welcome(other))[..], [Output::Close { .. }]));
    assert!(!desk.session.is_up());
}

#[test]
fn redials_come_ever_later_and_spread_and_start_anew_after_a_welcome() {
    let mut waits = Vec::new();
    let mut desk = Desk::new();
    assert_eq!(desk.give(Input::Tick), [Output::Dial]);
    for _ in 0..12 {
        desk.give(Input::Disconnected { jitter_permille: 1000 });
        let at = desk.session.deadline().expect("a redial");
        waits.push(at - desk.now);
        desk.now = at;
        assert_eq!(desk.give(Input::Tick), [Output::Dial]);
    }
    assert_eq!(waits[..4], [250, 500, 1000, 2000]);
    assert_eq!(waits[11], REDIAL_MOST_MS);
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(desk.session.deadline(), Some(desk.now + REDIAL_MOST_MS / 2));
    desk.now += REDIAL_MOST_MS;
    desk.give(Input::Tick);
    desk.give(Input::Disconnected { jitter_permille: u32::MAX });
    assert_eq!(desk.session.deadline(), Some(desk.now + REDIAL_MOST_MS));
    desk.link();
    desk.give(Input::Disconnected { jitter_permille: 1000 });
    assert_eq!(desk.session.deadline(), Some(desk.now + 250));
    let mut out = Vec::new();
    desk.session.handle(desk.now, Input::Disconnected { jitter_permille: 1000 }, &mut out);
    assert_eq!(out, [Output::Bug("disconnected: no link was asked for")]);
    // The master shows it from the next greeting on.
    let greeting = desk.give(Input::Connected { mirrors: Vec::new() });
    let [Output::Send(AgentMessage::Hello(hello))] = greeting.as_slice() else { panic!("{greeting:?}") };
    let notes = hello.notes.as_deref().unwrap_or_default();
    assert!(notes.len() == 2 && notes[1].contains("(disconnected: no link was asked for)"), "{notes:?}");
}

#[test]
fn an_assignment_is_started_once_and_held_from_then_on() {
    let mut desk = Desk::up();
    let assignment = assignment(key(1));
    assert_eq!(desk.hear(MasterMessage::Assign(assignment.clone())), [Output::Start(assignment.clone())]);
    assert_eq!(desk.hear(MasterMessage::Assign(assignment)), []);
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(desk.give(Input::Connected { mirrors: Vec::new() }), [greeting(&[key(1)])]);
}

#[test]
fn pieces_go_one_at_a_time_and_in_turns_and_a_log_before_what_it_announces() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    desk.hear(MasterMessage::Assign(assignment(key(2))));
    let chunk = CHUNK_BYTES as u64;
    assert_eq!(desk.grow(key(1), &[chunk * 2, chunk]), [data(key(1), 0, 0, chunk)]);
    assert_eq!(desk.grow(key(2), &[10]), [], "the writer is busy");
    assert_eq!(desk.give(Input::Writable), [data(key(2), 0, 0, 10)]);
    assert_eq!(desk.give(Input::Writable), [data(key(1), 0, chunk, chunk)]);
    assert_eq!(desk.give(Input::Writable), [data(key(1), 1, 0, chunk)]);
    assert_eq!(desk.give(Input::Writable), []);
    assert_eq!(desk.grow(key(2), &[11]), [data(key(2), 0, 10, 1)], "the writer is still free");
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    let mut sent = 0;
    let mut out = desk.grow(key(1), &[WINDOW_BYTES, WINDOW_BYTES]);
    while let [Output::SendData { length, .. }] = out[..] {
        sent += length;
        out = desk.give(Input::Writable);
    }
    assert_eq!(sent, WINDOW_BYTES);
    assert_eq!(out, []);
    // Room comes with acks, as much as they make.
    let ack = |stream, length| MasterMessage::Ack(Ack { key: key(1), stream, length });
    let out = desk.hear(ack(0, 100));
    assert_eq!(out, [Output::Trim { key: key(1), log: 100 }, data(key(1), 1, 0, 100)]);
}

#[test]
fn log_bytes_are_dropped_only_when_the_master_has_them() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    desk.grow(key(1), &[100, 50]);
    desk.give(Input::Writable);
    let ack = |stream, length| MasterMessage::Ack(Ack { key: key(1), stream, length });
    assert_eq!(desk.hear(ack(0, 60)), [Output::Trim { key: key(1), log: 60 }]);
    assert_eq!(desk.hear(ack(0, 40)), [Output::Trim { key: key(1), log: 60 }]);
    assert_eq!(desk.hear(ack(1, 50)), [], "artifacts are files of their own");
    assert!(matches!(&desk.hear(ack(0, 101))[..], [Output::Close { .. }]));
    // Of streams and attempts that do not exist an ack means nothing.
    assert_eq!(desk.hear(ack(9, 1)), []);
    assert_eq!(desk.hear(MasterMessage::Ack(Ack { key: key(9), stream: 0, length: 1 })), []);
}

#[test]
fn after_a_break_sending_begins_where_the_master_says() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    desk.grow(key(1), &[100, 50]);
    desk.give(Input::Writable);
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(desk.grow(key(1), &[120, 50, 30]), []);
    desk.link();
    assert_eq!(desk.give(Input::Writable), [], "not before the master has said from where");
    let out = desk.adopt(key(1), &[70]);
    assert_eq!(out, [Output::Trim { key: key(1), log: 70 }, data(key(1), 0, 70, 50)]);
    assert_eq!(desk.give(Input::Writable), [data(key(1), 1, 0, 50)]);
    assert_eq!(desk.give(Input::Writable), [data(key(1), 2, 0, 30)]);
    assert_eq!(desk.give(Input::Writable), []);
    // What the master flushed late of the old link is not sent again.
    desk.give(Input::Disconnected { jitter_permille: 0 });
    desk.link();
    let out = desk.adopt(key(1), &[70, 50, 0]);
    assert_eq!(out, [Output::Trim { key: key(1), log: 70 }, data(key(1), 0, 70, 50)]);
    let late = MasterMessage::Ack(Ack { key: key(1), stream: 0, length: 120 });
    assert_eq!(desk.hear(late), [Output::Trim { key: key(1), log: 120 }]);
    assert_eq!(desk.give(Input::Writable), [data(key(1), 2, 0, 30)]);
    assert_eq!(desk.give(Input::Writable), []);
}

#[test]
fn a_restarted_agent_goes_on_with_what_it_finds() {
    let mut desk = Desk::new();
    desk.give(Input::Found { key: key(3), lengths: vec![100] });
    desk.give(Input::Tick);
    assert_eq!(desk.give(Input::Connected { mirrors: Vec::new() }), [greeting(&[key(3)])]);
    desk.hear(welcome());
    assert_eq!(desk.adopt(key(3), &[]), [data(key(3), 0, 0, 100)]);
    assert_eq!(desk.session.holds().collect::<Vec<_>>(), [key(3)]);
}

#[test]
fn a_spool_that_lost_bytes_the_master_has_is_given_up() {
    let mut desk = Desk::new();
    desk.give(Input::Found { key: key(3), lengths: vec![100] });
    desk.link();
    let out = desk.adopt(key(3), &[101]);
    let [Output::Send(AgentMessage::Refuse(Refuse { key: refused, why, .. }))] = &out[..] else { panic!("{out:?}") };
    assert_eq!((*refused, why.contains("lost")), (key(3), true));
    assert_eq!(desk.grow(key(3), &[200]), [], "nothing of it is sent");
    // It is said again on the next link, in case that was lost.
    desk.give(Input::Disconnected { jitter_permille: 0 });
    desk.link();
    assert_eq!(desk.adopt(key(3), &[101]), out);
    assert_eq!(desk.hear(MasterMessage::Forget(Forget { key: key(3) })), [Output::Forget { key: key(3) }]);
    // So with a stream of which nothing is here.
    let mut desk = Desk::new();
    desk.give(Input::Found { key: key(3), lengths: vec![100] });
    desk.link();
    assert!(matches!(&desk.adopt(key(3), &[100, 1])[..], [Output::Send(AgentMessage::Refuse(_))]));
}

#[test]
fn what_cannot_be_started_is_refused() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    let failed = Input::StartFailed { key: key(1), blame: Blame::Platform, why: "no disk".to_string() };
    let refuse = Output::Send(AgentMessage::Refuse(Refuse {
        key: key(1),
        why: "no disk".to_string(),
        trouble: Some("platform".to_string()),
    }));
    assert_eq!(desk.give(failed.clone()), std::slice::from_ref(&refuse));
    // While no link is up it is kept until the master asks for the attempt.
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(desk.give(failed), []);
    assert_eq!(desk.give(Input::Connected { mirrors: Vec::new() }), [greeting(&[key(1)])]);
    desk.hear(welcome());
    assert_eq!(desk.adopt(key(1), &[]), [refuse]);
    assert_eq!(desk.give(Input::StartFailed { key: key(9), blame: Blame::Agent, why: "?".to_string() }), []);
}

#[test]
fn only_what_is_held_is_cancelled_and_forgotten() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    let cancel = |key| MasterMessage::Cancel(Cancel { key, why: "by anna".to_string() });
    assert_eq!(desk.hear(cancel(key(1))), [Output::Cancel { key: key(1), why: "by anna".to_string() }]);
    assert_eq!(desk.hear(cancel(key(2))), []);
    let forget = |key| MasterMessage::Forget(Forget { key });
    assert_eq!(desk.hear(forget(key(2))), []);
    assert_eq!(desk.hear(forget(key(1))), [Output::Forget { key: key(1) }]);
    assert_eq!(desk.hear(forget(key(1))), []);
    assert_eq!(desk.grow(key(1), &[10]), [], "a late report of what was forgotten");
    assert_eq!(desk.session.holds().count(), 0);
}

#[test]
fn bytes_of_a_forgotten_attempt_do_not_narrow_the_window() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    let mut out = desk.grow(key(1), &[WINDOW_BYTES]);
    while !out.is_empty() {
        out = desk.give(Input::Writable);
    }
    desk.hear(MasterMessage::Forget(Forget { key: key(1) }));
    desk.hear(MasterMessage::Assign(assignment(key(2))));
    assert_eq!(desk.grow(key(2), &[5]), [data(key(2), 0, 0, 5)]);
}

#[test]
fn messages_out_of_turn_mean_nothing() {
    let mut desk = Desk::new();
    desk.give(Input::Found { key: key(1), lengths: vec![10] });
    desk.give(Input::Connected { mirrors: Vec::new() });
    for message in [
        MasterMessage::Assign(assignment(key(2))),
        MasterMessage::Adopt(Adopt { key: key(1), lengths: vec![0] }),
        MasterMessage::Ack(Ack { key: key(1), stream: 0, length: 10 }),
        MasterMessage::Forget(Forget { key: key(1) }),
        MasterMessage::Bye(Bye { why: "no".to_string(), code: None }),
    ] {
        assert_eq!(desk.hear(message), [], "before the welcome");
    }
    desk.hear(welcome());
    assert_eq!(desk.hear(welcome()), []);
    assert_eq!(desk.adopt(key(7), &[3]), []);
    assert_eq!(desk.session.holds().collect::<Vec<_>>(), [key(1)]);
}

#[test]
fn absurd_numbers_of_streams_are_not_kept() {
    let mut desk = Desk::up();
    desk.hear(MasterMessage::Assign(assignment(key(1))));
    desk.grow(key(1), &vec![1; 100_000]);
    let mut sent = 1;
    while !desk.give(Input::Writable).is_empty() {
        sent += 1;
    }
    assert_eq!(sent, 1024);
}

#[test]
fn a_machine_that_is_asked_answers_and_its_twin_waits_long() {
    let mut desk = Desk::up();
    let pong = Output::Send(AgentMessage::Pong(Pong { number: 7, wall: None }));
    assert_eq!(desk.hear(MasterMessage::Ping(Ping { number: 7 })), [pong]);
    let bye = |code: Option<Code>| {
        MasterMessage::Bye(Bye { why: "no".to_string(), code: code.map(|code| code.word().to_string()) })
    };
    assert_eq!(desk.hear(bye(Some(Code::Cloned))), []);
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(desk.session.deadline(), Some(desk.now + CLONED_MS));
    // That is for once: it may have been helped meanwhile.
    desk.link();
    desk.give(Input::Disconnected { jitter_permille: 1000 });
    assert!(desk.session.deadline() <= Some(desk.now + REDIAL_MOST_MS));
    assert_eq!(desk.hear(bye(None)), []);
    // A word of a newer master is no reason to end.
    let newer = Bye { why: "no".to_string(), code: Some("tired".to_string()) };
    assert_eq!(desk.hear(MasterMessage::Bye(newer)), []);
    let end = Output::End { why: "the master says: no".to_string() };
    assert_eq!(desk.hear(bye(Some(Code::Revoked))), [end]);
}

/// A session with a board and a link to a master that hears of boards; with what it was told on that link.
fn at_bench() -> (Desk, Vec<String>) {
    let offered = OfferedBoard { name: "b".to_string(), kind: "uno".to_string(), ..OfferedBoard::default() };
    let session = AgentSession::new(Description { boards: vec![offered], ..description() });
    let mut desk = Desk { session, now: NOW };
    let said = link_of_boards(&mut desk);
    (desk, said)
}

fn link_of_boards(desk: &mut Desk) -> Vec<String> {
    desk.give(Input::Connected { mirrors: Vec::new() });
    let (version, agent) = ("1".to_string(), "a".to_string());
    let can = Some(versions::told());
    said(&desk.hear(MasterMessage::Welcome(Welcome { protocol: PROTOCOL, version, agent, can })))
}

/// What is said of boards, and of agents as a whole, shortly.
fn said(out: &[Output]) -> Vec<String> {
    let units = |units: &Units| {
        let holder = units.holder.map_or_else(String::new, |key| format!(" by {}", key.job));
        let grant = units.grant.map_or_else(String::new, |grant| format!(" at {grant}"));
        let why = units.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        format!("{} {}{holder}{grant}{why}", units.board.as_deref().unwrap_or("all"), units.state)
    };
    out.iter()
        .filter_map(|output| match output {
            Output::Send(AgentMessage::Units(told)) => Some(units(told)),
            Output::Send(AgentMessage::Hello(hello)) => {
                Some(format!("{} boards", hello.boards.iter().flatten().count()))
            }
            Output::Send(AgentMessage::Offer(offer)) => {
                Some(format!("{} boards", offer.boards.iter().flatten().count()))
            }
            _ => None,
        })
        .collect()
}

fn stands(desk: &mut Desk, standing: Standing) -> Vec<String> {
    said(&desk.give(Input::Board { name: "b".to_string(), standing }))
}

fn assigned_at(job: JobId, grant: u64) -> MasterMessage {
    let board = Some(AtBoard { name: "b".to_string(), grant, trial: "{}".to_string(), others: None });
    MasterMessage::Assign(Assignment { board, ..assignment(key(job)) })
}

#[test]
fn a_board_is_free_where_its_owner_says_so_and_no_attempt_can_be_there() {
    let (mut desk, first) = at_bench();
    assert_eq!(first, ["b unknown"]);
    assert_eq!(stands(&mut desk, Standing::Free), ["b free"]);
    assert_eq!(stands(&mut desk, Standing::Free), [""; 0], "what was told is not told again");
    assert_eq!(stands(&mut desk, Standing::Busy("ann".to_string())), ["b busy: ann"]);
    assert_eq!(stands(&mut desk, Standing::Free), ["b free"]);
    let began = desk.hear(assigned_at(1, 7));
    assert_eq!(said(&began), ["b busy by 1 at 7"]);
    // Its owner sees nobody before the attempt comes to it, and nobody between two of its steps.
    assert_eq!(stands(&mut desk, Standing::Busy("the judge".to_string())), [""; 0]);
    assert_eq!(stands(&mut desk, Standing::Free), [""; 0]);
    // What its owner said before it was left counts no more.
    let left = desk.give(Input::LeftBoard { key: key(1) });
    assert_eq!(said(&left), ["b unknown at 7"]);
    assert!(left.contains(&Output::Look("b".to_string())), "{left:?}");
    assert_eq!(stands(&mut desk, Standing::Free), ["b free at 7"]);
    // That the owner has let go of it and that the attempt has ended come in any order.
    desk.hear(assigned_at(2, 9));
    stands(&mut desk, Standing::Unknown(None));
    assert_eq!(said(&desk.give(Input::LeftBoard { key: key(2) })), ["b unknown at 9"]);
    assert_eq!(stands(&mut desk, Standing::Free), ["b free at 9"]);
    // One that is forgotten while it runs is there until nothing is left of it.
    desk.hear(assigned_at(3, 10));
    assert_eq!(said(&desk.hear(MasterMessage::Forget(Forget { key: key(3) }))), [""; 0]);
    let gone = desk.give(Input::Gone { key: key(3) });
    assert_eq!(said(&gone), ["all free by 3", "b unknown at 10"]);
    // Whoever has told it as free before is asked once more: nobody else would ever say it again.
    assert!(gone.contains(&Output::Look("b".to_string())), "{gone:?}");
    assert_eq!(stands(&mut desk, Standing::Free), ["b free at 10"]);
}

#[test]
fn boards_are_told_of_anew_on_each_link_and_after_each_offer() {
    let (mut desk, _) = at_bench();
    stands(&mut desk, Standing::Free);
    desk.hear(assigned_at(1, 7));
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(said(&desk.give(Input::LeftBoard { key: key(1) })), [""; 0], "nobody hears it");
    assert_eq!(said(&desk.give(Input::Connected { mirrors: Vec::new() })), ["1 boards"]);
    desk.give(Input::Disconnected { jitter_permille: 0 });
    stands(&mut desk, Standing::Free);
    assert_eq!(link_of_boards(&mut desk), ["b free at 7"]);
    let board =
        |name: &str| OfferedBoard { name: name.to_string(), kind: "esp32".to_string(), ..OfferedBoard::default() };
    let offer = |boards| Offer { platforms: Vec::new(), slots: 1, rooted: None, boards };
    let changed = desk.give(Input::Offer(offer(Some(vec![board("b"), board("c")]))));
    assert_eq!(said(&changed), ["2 boards", "b free at 7", "c unknown"]);
    // What is offered no more is not told of, whoever asks.
    assert_eq!(said(&desk.give(Input::Offer(offer(None)))), ["0 boards"]);
    assert_eq!(stands(&mut desk, Standing::Free), [""; 0]);
    // A master that does not know of boards is told nothing.
    desk.give(Input::Offer(offer(Some(vec![board("b")]))));
    desk.give(Input::Disconnected { jitter_permille: 0 });
    assert_eq!(said(&desk.link()), [""; 0]);
}

#[test]
fn an_attempt_that_was_found_has_its_board_until_nothing_of_it_runs() {
    let offered = OfferedBoard { name: "b".to_string(), kind: "uno".to_string(), ..OfferedBoard::default() };
    let session = AgentSession::new(Description { boards: vec![offered], ..description() });
    let mut desk = Desk { session, now: NOW };
    desk.give(Input::Found { key: key(1), lengths: vec![5] });
    desk.give(Input::AtBoard { key: key(1), names: vec!["b".to_string()], grant: 4 });
    stands(&mut desk, Standing::Free);
    assert_eq!(link_of_boards(&mut desk), ["b busy by 1 at 4"]);
    assert_eq!(said(&desk.give(Input::LeftBoard { key: key(1) })), ["b unknown at 4"]);
    assert_eq!(stands(&mut desk, Standing::Free), ["b free at 4"]);
}

#[test]
fn a_rig_is_free_where_all_of_its_boards_are() {
    let boards = Some(vec!["b".to_string(), "c".to_string()]);
    let offered =
        OfferedBoard { name: "pair".to_string(), kind: "pair".to_string(), boards, ..OfferedBoard::default() };
    let session = AgentSession::new(Description { boards: vec![offered], ..description() });
    let mut desk = Desk { session, now: NOW };
    assert_eq!(link_of_boards(&mut desk), ["pair unknown"]);
    let mut stand = |name: &str, standing| said(&desk.give(Input::Board { name: name.to_string(), standing }));
    assert_eq!(stand("b", Standing::Free), [""; 0]);
    assert_eq!(stand("c", Standing::Free), ["pair free"]);
    assert_eq!(stand("b", Standing::Unknown(Some("no tty".to_string()))), ["pair unknown: b: no tty"]);
    assert_eq!(stand("c", Standing::Busy("ann".to_string())), ["pair busy: c: ann"]);
    stand("b", Standing::Free);
    assert_eq!(stand("c", Standing::Free), ["pair free"]);
    let board = Some(AtBoard { name: "pair".to_string(), grant: 7, ..AtBoard::default() });
    let began = desk.hear(MasterMessage::Assign(Assignment { board, ..assignment(key(1)) }));
    assert_eq!(said(&began), ["pair busy by 1 at 7"]);
    // What each owner said before counts no more.
    assert_eq!(said(&desk.give(Input::LeftBoard { key: key(1) })), ["pair unknown at 7"]);
    let mut stand = |name: &str, standing| said(&desk.give(Input::Board { name: name.to_string(), standing }));
    assert_eq!(stand("c", Standing::Free), [""; 0]);
    assert_eq!(stand("b", Standing::Free), ["pair free at 7"]);
}

#[test]
fn several_boards_are_an_attempts_until_nothing_of_it_runs() {
    let board =
        |name: &str| OfferedBoard { name: name.to_string(), kind: "uno".to_string(), ..OfferedBoard::default() };
    let session = AgentSession::new(Description { boards: vec![board("b"), board("c")], ..description() });
    let mut desk = Desk { session, now: NOW };
    link_of_boards(&mut desk);
    let others = Some(vec!["b".to_string()]);
    let board = Some(AtBoard { name: "c".to_string(), grant: 7, others, ..AtBoard::default() });
    let began = desk.hear(MasterMessage::Assign(Assignment { board, ..assignment(key(1)) }));
    assert_eq!(said(&began), ["b busy by 1 at 7", "c busy by 1 at 7"]);
    assert_eq!(said(&desk.give(Input::LeftBoard { key: key(1) })), ["b unknown at 7", "c unknown at 7"]);
    let free = desk.give(Input::Board { name: "c".to_string(), standing: Standing::Free });
    assert_eq!(said(&free), ["c free at 7"]);
}
