//! Sai seen from outside: real processes, real git, real hooks; each documented behaviour once.

mod build;
mod chosen;
mod commands;
mod docs;
mod jobs;
mod push;
#[path = "../../../agent/tests/roots/mod.rs"]
mod roots;
mod trial;

/// What the agents of these tests offer.
const PLATFORM: &str = "linux-test-1/x86_64/gcc";
