//! What is done at boards: their consoles, and the protocols that they are flashed by, against the tools and loaders that people have, and over lines that change, lose and
//! double bytes.

mod acm;
#[path = "../../../tests/src/arm.rs"]
mod arm;
mod avr;
mod booting;
mod console;
mod delivering;
mod dfu;
mod edges;
mod esp;
mod fastboot;
mod faults;
mod gadget;
mod guest;
mod held;
mod line;
mod loaders;
mod moves;
mod optiboot;
mod owner;
mod pi;
mod pty;
#[path = "../../../tests/src/qemu.rs"]
mod qemu;
mod receiver;
mod renewed;
mod rig;
mod rom;
mod serial;
mod stk500;
mod stm32;
mod strangers;
mod tools;
mod trying;
mod uboot;
mod usbip;
mod walking;
mod wires;
mod ymodem;
