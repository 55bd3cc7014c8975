//! Sai's agent: dials its master, runs jobs under supervisors of their own, streams what they print.
//!
//! The decisions are in `sai_core`; here is what they touch: links, processes, git, disks.
#![forbid(unsafe_code)]

pub mod pin;
pub mod x509;
