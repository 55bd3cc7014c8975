//! Sai's master: hooks in, jobs out to agents, their logs and files kept and shown.
//!
//! The decisions are in `sai_core`; here is what they touch: sockets, disks, git, clocks.
#![forbid(unsafe_code)]

pub mod forge;
pub mod front;
mod git;
pub mod hook;
pub mod http;
pub mod lint;
pub mod live;
pub mod nonces;
pub mod page;
pub mod sessions;
pub mod store;
pub mod tls;
pub mod viewers;
