//! Attempts that fail, on a machine that runs and on one that stands still → how often they are made.
//!
//! They are not in the file that they try: tests of other crates include that one.

use crate::steady::steadily;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

/// Longer than any machine stands still that tests can run on.
const FOREVER: Duration = Duration::from_secs(100_000);

/// How often an attempt that always fails is made, and what is said in the end.
fn failing(pause: Duration) -> (u32, String) {
    let count = Cell::new(0);
    let attempt = || {
        count.set(count.get() + 1);
        panic!("attempt {}", count.get())
    };
    let failed = catch_unwind(AssertUnwindSafe(|| steadily::<()>(pause, attempt)));
    let why = failed.expect_err("it fails").downcast::<String>().expect("a sentence");
    (count.get(), *why)
}

#[test]
fn what_succeeds_is_made_once() {
    let count = Cell::new(0);
    let made = steadily(Duration::ZERO, || {
        count.set(count.get() + 1);
        count.get()
    });
    assert_eq!((made, count.get()), (1, 1));
}

#[test]
fn what_fails_on_a_machine_that_runs_has_failed() {
    assert_eq!(failing(FOREVER), (1, "attempt 1".to_string()));
}

#[test]
fn a_machine_that_never_runs_makes_nothing_a_success() {
    // So short a time passes in any case: it is as if the machine stood still each time.
    assert_eq!(failing(Duration::ZERO), (40, "attempt 40".to_string()));
}

#[test]
fn what_failed_while_the_machine_stood_still_is_made_again() {
    let count = Cell::new(0);
    // This very process stands still, as it does with its machine.
    let script = "kill -STOP $PPID; sleep 0.5; kill -CONT $PPID";
    let made = steadily(Duration::from_millis(250), || {
        count.set(count.get() + 1);
        if count.get() == 1 {
            assert!(Command::new("sh").args(["-c", script]).status().expect("sh can be run").success());
            panic!("it was late");
        }
        count.get()
    });
    assert_eq!((made, count.get()), (2, 2));
}
