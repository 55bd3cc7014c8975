//! What Sai decides, and nothing of the world: no files, sockets, clock, threads or randomness.
//!
//! Machines share one surface, `handle(&mut self, now, input, &mut Vec<Output>)` and `deadline()`; effects come back as
//! data. The edges (`agent`, `master`) carry them out, the tests compare them, the simulation carries them between nodes.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod attending;
pub mod axis;
pub mod backlog;
pub mod bench;
pub mod bug;
pub mod changed;
pub mod clock;
pub mod console;
pub mod ebb;
pub mod escape;
pub mod fetching;
pub mod few;
pub mod flushes;
pub mod forge_page;
pub mod git_names;
pub mod git_text;
pub mod glob;
pub mod graph;
pub mod hearing;
pub mod hub;
pub mod job;
pub mod join;
pub mod json;
pub mod judge;
pub mod keys;
pub mod ledger;
pub mod lending;
pub mod limits;
pub mod look;
pub mod lull;
pub mod matrix;
pub mod named;
pub mod numbers;
pub mod ordered;
pub mod pattern;
pub mod plan;
pub mod platform;
pub mod push;
pub mod rebuild;
pub mod record;
pub mod ref_name;
pub mod replay;
pub mod repo_spec;
pub mod requests;
pub mod restart;
pub mod results;
pub mod retention;
pub mod roles;
pub mod run;
pub mod saifile;
pub mod scheduler;
pub mod secret;
pub mod session;
pub mod settings;
pub mod share;
pub mod space;
pub mod start;
pub mod stream;
pub mod sweep;
pub mod together;
pub mod trial;
pub mod trying;
pub mod turns;
pub mod units;
pub mod vcd;
pub mod versions;
pub mod watch;
pub mod wire;
pub mod words;
