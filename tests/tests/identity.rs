//! Real agents whose token was revoked, or whose card was copied: who goes on, who ends, and what is said of it.

use sai_tests::process::eventually;
use sai_tests::world::World;
use std::process::Command;

const PLATFORM: &str = "linux/x86_64/gcc";

#[test]
fn an_agent_whose_token_was_revoked_ends_and_says_why() {
    let world = World::new("revoked");
    let _master = world.master();
    let mut agent = world.agent("one", &[PLATFORM], 1);
    world.command(&["agent", "revoke", "one"]);
    assert_eq!(agent.wait().code(), Some(3));
    agent.await_line("token was revoked");
    // One that hears of it at its next start only, from the answer to its dial.
    let mut agent = world.agent_starts("one");
    assert_eq!(agent.wait().code(), Some(3));
    agent.await_line("token was revoked");
}

#[test]
fn a_copied_machine_is_kept_out_while_the_first_is_alive() {
    let world = World::new("copied");
    let _master = world.master();
    let mut first = world.agent("one", &[PLATFORM], 1);
    let copied = Command::new("cp").arg("-r").arg(world.agent_state("one")).arg(world.agent_state("copy")).status();
    assert!(copied.expect("cp").success());
    let second = world.agent_starts("copy");
    second.await_line("two machines use one's identity");
    let list = world.command(&["agent", "list"]);
    assert!(list.contains("two machines use one's identity"), "{list}");
    assert!(world.page("/agents").contains("two machines use one&#39;s identity"));
    // The first goes on as if nothing had been, and takes its place again when it is started anew.
    assert!(first.said().iter().all(|line| !line.contains("trying again")), "{:?}", first.said());
    first.kill();
    let again = world.agent_again("one");
    eventually("it is connected", || world.agents().iter().any(|agent| agent.state == "idle").then_some(()));
    assert!(again.said().iter().all(|line| !line.contains("two machines")), "{:?}", again.said());
}
