//! The protocols that boards are flashed by: against the tools and loaders that people have, and over lines that change, lose and
//! double bytes.

mod avr;
mod console;
mod line;
mod optiboot;
mod pty;
mod receiver;
mod rom;
mod stk500;
mod stm32;
mod uboot;
mod ymodem;
