//! What a hook, git and the store say of a repository → looks, events, and what the hook is answered, step by step.

use sai_core::git_text::Tip;
use sai_core::ledger::Source;
use sai_core::named::Standing;
use sai_core::ordered::{Map, Set};
use sai_core::push::KnownRefs;
use sai_core::watch::{Answer, Found, Input, Output, Settings, Watch};

const MAIN: &str = "refs/heads/main";

fn tip(revision: &str) -> Tip {
    Tip { reference: MAIN.to_string(), revision: revision.to_string() }
}

fn tips(revision: &str) -> Input {
    Input::Tips(vec![tip(revision)], None)
}

fn poke(revision: &str, waiter: u64) -> Input {
    Input::Poke(Some(MAIN.to_string()), Some(revision.to_string()), Some(waiter))
}

/// A repository that was looked at before, when its branch was at `0`.
struct Desk {
    watch: Watch,
    now: u64,
}

impl Desk {
    fn new() -> Self {
        let known =
            Map::from([("refs/heads/".to_string(), "looked at".to_string()), (MAIN.to_string(), "0".to_string())]);
        let mut desk = Self { watch: Watch::restored(KnownRefs::restored(known)), now: 1_000 };
        desk.give(Input::Settings(Settings::default()));
        assert_eq!(desk.watch.deadline(), Some(1_000), "it catches up with what was pushed while nobody listened");
        assert_eq!(desk.give(Input::Tick), [Output::Tips { default_branch: false }]);
        assert_eq!(desk.give(tips("0")), [Output::Settle]);
        assert_eq!(desk.give(Input::Settled), [Output::Looked, Output::State("in order".to_string(), false)]);
        desk
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.watch.handle(self.now, input, &mut out);
        out
    }

    /// As `give`, of an input that leads to one output.
    fn one(&mut self, input: Input) -> Output {
        let mut out = self.give(input);
        assert_eq!(out.len(), 1, "{out:?}");
        out.remove(0)
    }
}

fn told(out: &[Output]) -> Vec<(u64, Option<Answer>)> {
    let told =
        |output: &Output| if let Output::Answer(waiter, answer) = output { Some((*waiter, *answer)) } else { None };
    out.iter().filter_map(told).collect()
}

#[test]
fn a_push_is_answered_when_its_event_is_durable() {
    let mut desk = Desk::new();
    assert_eq!(desk.one(poke("1", 7)), Output::Tips { default_branch: false });
    assert!(desk.watch.is_asking() && desk.watch.deadline().is_none());
    assert_eq!(desk.one(tips("1")), Output::Saifile(tip("1")));
    assert_eq!(desk.one(Input::Saifile(Found::File)), Output::Event(tip("1"), Source::Poke));
    assert_eq!(desk.one(Input::Made(4)), Output::Settle);
    let out = desk.give(Input::Settled);
    assert_eq!(told(&out), [(7, Some(Answer::Standing(Standing::Event(4))))]);
    // Of a second hook for the same push no look is made.
    assert_eq!(told(&desk.give(poke("1", 8))), [(8, Some(Answer::Standing(Standing::Event(4))))]);
    assert!(!desk.watch.is_asking());
    // A signed one brings all that is needed, and is not answered sooner either.
    assert_eq!(desk.one(Input::Push(tip("2"), Some(9))), Output::Event(tip("2"), Source::Hook));
    assert_eq!(desk.one(Input::Made(5)), Output::Settle);
    assert_eq!(told(&desk.give(Input::Settled)), [(9, Some(Answer::Standing(Standing::Event(5))))]);
    assert_eq!(told(&desk.give(Input::Push(tip("2"), Some(10)))), [(10, Some(Answer::Standing(Standing::Event(5))))]);
}

#[test]
fn a_look_that_fails_forgets_nothing_that_a_hook_has_named() {
    // It fails while it is asked what was passed, and while the event that says so is made.
    for fail_late in [false, true] {
        let mut desk = Desk::new();
        desk.give(poke("1", 7));
        let passed = Output::Passed { tip: tip("2"), known: Some("0".to_string()), revisions: vec!["1".to_string()] };
        assert_eq!(desk.one(tips("2")), passed);
        if fail_late {
            let found = Input::Passed(Set::from_iter(["1".to_string()]));
            assert_eq!(desk.one(found), Output::Superseded(tip("1"), "2".to_string()));
        }
        assert_eq!(desk.one(Input::Failed("no route".to_string())), Output::Settle);
        let out = desk.give(Input::Settled);
        assert_eq!(told(&out), [(7, Some(Answer::Unreachable))]);
        assert!(out.iter().any(|output| matches!(output, Output::State(_, true))), "{out:?}");
        // The next look is made in time, without anybody's help, and asks again.
        desk.now = desk.watch.deadline().expect("another look");
        assert_eq!(desk.one(Input::Tick), Output::Tips { default_branch: false });
        let passed = Output::Passed { tip: tip("2"), known: Some("0".to_string()), revisions: vec!["1".to_string()] };
        assert_eq!(desk.one(tips("2")), passed, "{fail_late}");
        let found = Input::Passed(Set::from_iter(["1".to_string()]));
        assert_eq!(desk.one(found), Output::Superseded(tip("1"), "2".to_string()));
        assert_eq!(desk.one(Input::Made(8)), Output::Saifile(tip("2")));
        assert_eq!(desk.one(Input::Saifile(Found::File)), Output::Event(tip("2"), Source::Poke));
        assert_eq!(desk.one(Input::Made(9)), Output::Settle);
        let out = desk.give(Input::Settled);
        assert!(out.contains(&Output::SayOfOthers("can be reached again".to_string())), "{out:?}");
        assert_eq!(told(&desk.give(poke("2", 8))), [(8, Some(Answer::Standing(Standing::Event(9))))]);
    }
}

#[test]
fn a_ref_that_moves_on_while_it_is_looked_at_is_looked_at_again() {
    let mut desk = Desk::new();
    desk.give(poke("1", 7));
    assert_eq!(desk.one(tips("1")), Output::Saifile(tip("1")));
    assert_eq!(desk.one(Input::Saifile(Found::Gone)), Output::Settle);
    // The hook of what it moved on to may never come.
    let out = desk.give(Input::Settled);
    assert_eq!(out.last(), Some(&Output::Tips { default_branch: false }), "{out:?}");
    let passed = Output::Passed { tip: tip("2"), known: Some("0".to_string()), revisions: vec!["1".to_string()] };
    assert_eq!(desk.one(tips("2")), passed);
    assert_eq!(told(&out), []);
    desk.give(Input::Passed(Set::from_iter(["1".to_string()])));
    desk.give(Input::Made(3));
    desk.give(Input::Saifile(Found::Nothing));
    let out = desk.give(Input::Settled);
    assert_eq!(told(&out), [(7, Some(Answer::Standing(Standing::Superseded(3))))]);
    let state = format!("in order; {MAIN} has no .sai.json");
    assert!(out.contains(&Output::State(state, false)), "{out:?}");
}

#[test]
fn an_answer_to_nothing_is_told_and_who_has_left_hears_nothing() {
    let mut desk = Desk::new();
    for input in [tips("1"), Input::Made(1), Input::Settled, Input::Failed(String::new()), Input::Saifile(Found::File)]
    {
        assert_eq!(desk.one(input), Output::Bug("watch: not what was asked"));
    }
    desk.give(poke("1", 7));
    assert_eq!(desk.one(poke("2", 8)), Output::Bug("watch: not what was asked"), "a call while something is asked");
    assert_eq!(desk.give(Input::Left(7)), []);
    desk.give(tips("1"));
    desk.give(Input::Saifile(Found::File));
    desk.give(Input::Made(1));
    assert_eq!(told(&desk.give(Input::Settled)), []);
}
