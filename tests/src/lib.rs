//! Sai as a user meets it: whole processes, real git, real kills; and a simulated constellation.
#![forbid(unsafe_code)]

pub mod arm;
pub mod avr;
pub mod bench;
pub mod boards;
pub mod browser;
pub mod cross;
pub mod figures;
pub mod git_server;
pub mod hello;
pub mod judged;
pub mod laptop;
pub mod log;
pub mod machine;
pub mod mission;
pub mod network;
pub mod peer;
pub mod pi;
pub mod process;
pub mod proxy;
pub mod qemu;
pub mod random;
pub mod recorded;
pub mod repository;
pub mod simulation;
pub mod small_disk;
pub mod steady;
#[cfg(test)]
mod steady_tests;
pub mod tty;
pub mod wallclock;
pub mod wired;
pub mod world;
