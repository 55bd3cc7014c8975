//! Sai's agent: dials its master, runs jobs under supervisors of their own, streams what they print.
//!
//! The decisions are in `sai_core`; here is what they touch: links, processes, git, disks.
// Two calls cannot be had otherwise, see `calls`.
#![deny(unsafe_code)]

/// Says a line to the person at the terminal, or to the journal.
pub fn say(line: &str) {
    terminal::tell("sai-agent", line);
}

/// Exit status: Sai has found a mistake of its own, in a build for tests.
const EXIT_BUG: i32 = 70;

/// In a build for tests: machines, by commas, whose edge is to tell them what they have not asked for. With this they go on
/// after that, as in a build for people.
const MISTAKES: &str = "SAI_TESTS_MISTAKES";

/// A machine of the core has found something that cannot be, and somebody was told. It goes on; tests end with it.
pub fn end_of_tests() {
    if cfg!(debug_assertions) && std::env::var_os(MISTAKES).is_none() {
        std::process::exit(EXIT_BUG);
    }
}

/// Whether a test wants to see what becomes of a mistake of this machine's edge.
pub fn is_mistaken(machine: &str) -> bool {
    cfg!(debug_assertions)
        && std::env::var(MISTAKES).is_ok_and(|machines| machines.split(',').any(|other| other == machine))
}

#[cfg(feature = "nspawn")]
pub mod accounts;
pub mod answer;
pub mod artifacts;
pub mod blocking;
pub mod boards;
pub mod cache;
pub mod calls;
pub mod cgroup;
pub mod checkout;
pub mod clean_start;
pub mod clock;
pub mod config;
pub mod container;
pub mod container_settings;
pub mod describe;
pub mod dial;
pub mod digest;
pub mod durable;
pub mod executor;
pub mod fresh;
pub mod git;
pub mod held;
#[cfg(feature = "nspawn")]
pub mod idmap;
pub mod image;
pub mod job_directory;
pub mod join;
pub mod link;
pub mod mirror;
pub mod needs;
pub mod offering;
pub mod pin;
pub mod process_tree;
pub mod proxy;
pub mod remove_tree;
pub mod request;
#[cfg(feature = "nspawn")]
pub mod root;
pub mod serve;
pub mod spool;
pub mod state;
pub mod supervised;
pub mod supervisor;
pub mod terminal;
pub mod x509;
