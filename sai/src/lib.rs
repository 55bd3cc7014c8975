//! Sai for people at laptops: a person's words → requests to a master, and its answers → a terminal or files.
//!
//! The way to the master, whom to believe there and the bytes of HTTP are the agent's own code: a person's program is one more
//! that dials out, and shows a token.
#![forbid(unsafe_code)]

pub mod acting;
pub mod answers;
pub mod board;
pub mod failure;
pub mod follow;
pub mod get;
pub mod inside;
pub mod login;
pub mod master;
pub mod place;
pub mod printing;
pub mod run;
pub mod status;
pub mod telling;
pub mod tree;
pub mod upload;
