//! Name of a reset wiring → the sequences that it takes: how common boards hang reset and boot mode on DTR and RTS.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The names. Each gives the sequences `reset` and `loader`, unless a board has some of its own by these names.
pub const NAMES: [&str; 3] = ["esp-classic", "esp-usb-jtag", "arduino"];

/// Sequences of a wiring, each with its name and steps; `console` is where it is.
pub fn sequences(wiring: &str, console: &str) -> Vec<(&'static str, Vec<String>)> {
    // Both lines are named in each step that moves one, so that they are set by one call: what drives the two transistors of these
    // boards would otherwise see a level in between, and reset twice.
    let set = |dtr: u8, rts: u8| format!("{console}.dtr {dtr}, {console}.rts {rts}");
    let wait = |time: &str| format!("wait {time}");
    match wiring {
        // RTS asserted holds EN low, DTR asserted holds IO0 low, both asserted do neither (esptool's UnixTightReset).
        "esp-classic" => [
            ("reset", [set(0, 0), set(0, 1), wait("100ms"), set(0, 0)].to_vec()),
            ("loader", [set(0, 0), set(1, 1), set(0, 1), wait("100ms"), set(1, 0), wait("50ms"), set(0, 0)].to_vec()),
        ]
        .to_vec(),
        // The chip's own USB watches for the order of changes, so that they come one by one (esptool's USBJTAGSerialReset).
        "esp-usb-jtag" => {
            let dtr = |level: u8| format!("{console}.dtr {level}");
            let rts = |level: u8| format!("{console}.rts {level}");
            [
                ("reset", [rts(1), wait("200ms"), rts(0), wait("200ms")].to_vec()),
                (
                    "loader",
                    [
                        rts(0),
                        dtr(0),
                        wait("100ms"),
                        dtr(1),
                        rts(0),
                        wait("100ms"),
                        rts(1),
                        dtr(0),
                        rts(1),
                        wait("100ms"),
                        dtr(0),
                        rts(0),
                    ]
                    .to_vec(),
                ),
            ]
            .to_vec()
        }
        // A capacitor makes a pulse of the change to asserted, and the loader is what runs after each reset.
        "arduino" => {
            let steps = [set(0, 0), wait("250ms"), set(1, 1), wait("50ms")].to_vec();
            [("reset", steps.clone()), ("loader", steps)].to_vec()
        }
        _ => Vec::new(),
    }
}

/// Levels of DTR and RTS that a board of this wiring has while its tty is open.
pub fn idle(wiring: &str) -> (bool, bool) {
    // An Arduino's are asserted by the kernel when it is opened, and letting them be is no change.
    let both = wiring == "arduino";
    (both, both)
}
