//! Sai's hands at a board: what is flashed, driven and listened to, with threads and blocking calls, no network and no master.
//!
//! Protocols are machines over bytes and time (`flash`), tested against the tools that people use; the edges carry them out.
#![forbid(unsafe_code)]

pub mod flash;
pub mod flashing;
