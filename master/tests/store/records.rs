//! Records that are committed → the same after a restart, in their order.

use super::*;

#[test]
fn a_restart_finds_every_record() {
    let place = Place::new();
    let (store, restored, _reports) = open(&place.state());
    assert_eq!((restored.next_event, restored.next_job, restored.next_action), (1, 1, 1));
    assert!(restored.events.is_empty() && restored.jobs.is_empty());
    commit(
        &store,
        vec![
            Change::Event(event(1, "hello", "main", 1, 2)),
            Change::Job(job(1, 1, JobState::Passed)),
            Change::Job(job(2, 1, JobState::Running)),
            Change::Event(event(2, "hello", "main", 3, 1)),
            Change::Job(job(3, 2, JobState::Failed)),
            Change::Agent(agent("b")),
            Change::Agent(agent("a")),
            Change::User(user("ann")),
            Change::Tip(tip("refs/heads/main")),
            Change::Tip(tip("refs/heads/gone")),
            Change::Action(action(1)),
        ],
    );
    let gone = Change::ForgetTip { repository: "hello".to_string(), reference: "refs/heads/gone".to_string() };
    commit(&store, vec![gone]);
    drop(store);

    let (store, restored, _reports) = open(&place.state());
    assert_eq!(restored.events, [event(1, "hello", "main", 1, 2)], "only the one with an unfinished job");
    assert_eq!(restored.jobs, [job(1, 1, JobState::Passed), job(2, 1, JobState::Running)]);
    assert_eq!(restored.agents, [agent("a"), agent("b")]);
    assert_eq!(restored.users, [user("ann")]);
    assert_eq!(restored.tips, [tip("refs/heads/main")]);
    assert_eq!((restored.next_event, restored.next_job, restored.next_action), (3, 4, 2));
    let reader = store.reader();
    assert_eq!(reader.events(None, None, 10), [event(2, "hello", "main", 3, 1), event(1, "hello", "main", 1, 2)]);
    assert_eq!(reader.job(3), Some(job(3, 2, JobState::Failed)));
    assert_eq!(reader.jobs(1), restored.jobs);
    assert_eq!(reader.actions(None, 5), [action(1)]);
    drop(store);
    assert_eq!(reader.event(1), None, "a reader does not keep a closed store open");
}

#[test]
fn events_come_newest_first_page_by_page_and_by_repository() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let name = |id: u64| if id.is_multiple_of(100) { "quiet" } else { "busy" };
    commit(&store, (1..=1000).map(|id| Change::Event(event(id, name(id), "main", 1, 0))).collect());
    let reader = store.reader();
    let ids = |before, repository, limit| -> Vec<u64> {
        reader.events(before, repository, limit).iter().map(|event| event.id).collect()
    };
    assert_eq!(ids(None, None, 3), [1000, 999, 998]);
    assert_eq!(ids(Some(998), None, 2), [997, 996]);
    assert_eq!(ids(None, Some("quiet"), 3), [1000, 900, 800]);
    assert_eq!(ids(Some(300), Some("quiet"), 9), [200, 100]);
    assert_eq!(ids(Some(1), None, 9), [0; 0]);
    assert_eq!(ids(None, Some("none"), 9), [0; 0]);
}

#[test]
fn a_record_of_any_length_is_kept_and_leaves_nothing_when_it_shrinks() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let artifact = |stream: u16| Artifact {
        stream,
        path: format!("{}/{stream}", "d".repeat(900)),
        size: u64::MAX,
        sha256: "ef".repeat(32),
        executable: false,
    };
    let mut long = job(1, 1, JobState::Passed);
    long.artifacts = (1..1024).map(artifact).collect();
    let next = job(2, 1, JobState::Queued);
    let event = Change::Event(event(1, "hello", "main", 1, 2));
    commit(&store, vec![event, Change::Job(long.clone()), Change::Job(next.clone())]);
    assert_eq!(store.reader().jobs(1), [long.clone(), next.clone()]);
    drop(store);
    let (store, restored, _reports) = open(&place.state());
    assert_eq!(restored.jobs, [long.clone(), next.clone()]);
    // In one group: long, short, and a bit longer than one part again.
    let mut middle = long.clone();
    middle.artifacts.truncate(5);
    let changes = [long, job(1, 1, JobState::Passed), middle.clone()].map(Change::Job);
    commit(&store, changes.to_vec());
    assert_eq!(store.reader().job(1), Some(middle));
    commit(&store, vec![Change::Job(job(1, 1, JobState::Passed))]);
    assert_eq!(store.reader().jobs(1), [job(1, 1, JobState::Passed), next]);
}

#[test]
fn commits_are_released_in_order_also_from_inside_a_release() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    let (sender, released) = sync_channel(1 << 14);
    // More than may wait, so that the bound is met; and each asks for one more from the ledger's own thread.
    for id in 1..=10_000 {
        let (sender, again) = (sender.clone(), store.clone());
        let then = move |result: Result<(), StoreError>| {
            sender.send((id, result)).expect("somebody waits");
            again.commit(vec![Change::Action(action(10_000 + id))], Box::new(|result| result.expect("durable")));
        };
        store.commit(vec![Change::Action(action(id))], Box::new(then));
    }
    for id in 1..=10_000 {
        assert_eq!(released.recv_timeout(PATIENCE).expect("it comes"), (id, Ok(())));
    }
    await_that("the commits from inside", || {
        store.reader().actions(None, 1).first().is_some_and(|last| last.id == 20_000)
    });
}

#[test]
fn numbers_of_deleted_events_are_not_given_again() {
    let place = Place::new();
    let (store, _, _reports) = open(&place.state());
    commit(&store, vec![Change::Event(event(7, "hello", "main", 20, 3)), Change::Job(job(20, 7, JobState::Passed))]);
    commit(&store, vec![Change::DeleteEvent(7), Change::DeleteEvent(99)]);
    assert_eq!(store.reader().events(None, None, 9), []);
    assert_eq!(store.reader().events(None, Some("hello"), 9), []);
    assert_eq!(store.reader().job(20), None);
    drop(store);
    let (_store, restored, _reports) = open(&place.state());
    assert_eq!((restored.next_event, restored.next_job), (8, 23));
}
