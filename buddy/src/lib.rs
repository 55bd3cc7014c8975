//! Sai's hands at a board: what is flashed, driven and listened to, with threads and blocking calls, no network and no master.
//!
//! Protocols are machines over bytes and time (`flash`), tested against the tools that people use; the edges carry them out.
// A few calls on ttys cannot be had otherwise, see `calls`.
#![deny(unsafe_code)]

pub mod calls;
pub mod console;
pub mod delivering;
pub mod describing;
pub mod desk;
pub mod flash;
pub mod flashing;
pub mod frames;
pub mod going_on;
pub mod guard;
pub mod history;
pub mod keeping;
pub mod levels;
pub mod lines;
pub mod link;
pub mod listening;
pub mod listing;
pub mod owner;
pub mod pacing;
pub mod ports;
pub mod power;
pub mod pty;
pub mod record;
pub mod rehearing;
pub mod ring;
pub mod selftest;
pub mod sequence;
pub mod serial;
pub mod showing;
pub mod stop;
pub mod telling;
pub mod tool;
pub mod trying;
#[cfg(feature = "usb")]
pub mod usb;
pub mod visit;
pub mod walking;
