//! Sai's master: hooks in, jobs out to agents, their logs and files kept and shown.
//!
//! The decisions are in `sai_core`; here is what they touch: sockets, disks, git, clocks.
#![forbid(unsafe_code)]

pub mod action;
pub mod actions;
pub mod addresses;
pub mod admin;
pub mod agents;
pub mod builtin;
mod checks;
pub mod config;
pub mod forge;
pub mod front;
pub mod hook;
mod hooks;
pub mod http;
pub mod hub;
pub mod leases;
pub mod lines;
pub mod lint;
pub mod live;
pub mod needs;
pub mod nonces;
pub mod page;
pub mod page_socket;
pub mod places;
pub mod plans;
pub mod prefix;

pub mod rejudge;
pub mod reload;
pub mod repositories;
pub mod rights;
pub mod rooms;
pub mod sessions;
pub mod startup;
pub mod status;
pub mod store;
pub mod tls;
pub mod try_once;
pub mod units;
pub mod update_key;
pub mod updates;
pub mod uploads;
pub mod viewers;

/// Exit status: done, or every job passed.
pub const EXIT_PASSED: u8 = 0;
/// Exit status: a job, a check or a request failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit status: wrong use of the command line.
pub const EXIT_USAGE: u8 = 2;
/// Exit status: trouble that is not the job's.
pub const EXIT_INFRA: u8 = 3;
/// Exit status: the ledger could not be written; a restart goes on from what it has.
pub const EXIT_STORE: u8 = 4;
/// Exit status: interrupted by a signal, as shells say it (128 + SIGINT).
pub const EXIT_INTERRUPTED: u8 = 130;

/// Tells the operator something on standard error.
pub fn say(text: &str) {
    sai_agent::terminal::tell("sai-master", text);
}
