//! A Raspberry Pi's own GPIOs by their registers, as the machine has them: levels, an alternate function, pulses, and what a guard does
//! when their owner dies.

use crate::guest::{Guest, LONG};
use std::time::Instant;

/// Registers of the GPIOs of a Raspberry Pi 3: functions of GPIO 10 to 19, three bits each, and levels (BCM2835 ARM Peripherals, 6.1).
const FUNCTIONS: u64 = 0x3f20_0004;
const LEVELS: u64 = 0x3f20_0034;
/// What sets a level, and what clears it.
const SET: u64 = 0x3f20_001c;
const CLEAR: u64 = 0x3f20_0028;
/// The pin by which the machine is told to go on.
const GO: u32 = 5;
const INPUT: u32 = 0;
const OUTPUT: u32 = 1;
const ALT0: u32 = 4;
/// Lines of the bench.
const UART: u32 = 14;
const NRST: u32 = 17;
const RELAY: u32 = 12;
const FAN: u32 = 18;

fn function(guest: &mut Guest, line: u32) -> u32 {
    guest.register(FUNCTIONS) >> (3 * (line - 10)) & 0b111
}

fn level(guest: &mut Guest, line: u32) -> bool {
    guest.register(LEVELS) >> line & 1 == 1
}

/// Waits for something at its pins.
fn until(guest: &mut Guest, what: &str, mut holds: impl FnMut(&mut Guest) -> bool) {
    let began = Instant::now();
    while !holds(guest) {
        assert!(began.elapsed() < LONG, "{what}");
    }
}

/// What the machine does: a step each time that a pin of it goes high from outside.
fn script() -> String {
    let bench = format!(
        r#"{{ "chip": "pi", "boards": {{ "b": {{ "type": "t", "lines": {{
            "nrst": {{ "line": {NRST}, "active_low": true, "safe": 0 }}, "uart": {{ "line": {UART}, "safe": 0, "function": "alt0" }},
            "fan": {{ "line": {FAN}, "safe": 0, "pwm": "20Hz 50%" }}, "key": {{ "line": 4, "direction": "in", "bias": "pull-up" }} }},
        "sequences": {{ "on": ["nrst 1, uart 1, fan 1"], "off": ["nrst 0, uart 0, fan 0"] }} }},
        "k": {{ "type": "t", "lines": {{ "relay": {{ "chip": "pinctrl-bcm2835", "line": "GPIO12", "safe": 1 }} }},
        "sequences": {{ "off": ["relay 0"] }} }} }} }}"#
    );
    format!(
        r#"
cat >/tmp/b.json <<'END'
{bench}
END
buddy() {{ sai-buddy /tmp/b.json "$@" 2>&1; }}
step() {{
    printf '\n@%s@\n' $?
    until test $(($(devmem {LEVELS:#x}) >> {GO} & 1)) = 1; do sleep 0.1; done
    devmem {CLEAR:#x} 32 $((1 << {GO}))
}}
true; step
buddy play k off; step
buddy play b off; step
buddy play b on; step
buddy update b && until buddy status b --json | grep -q 'guarded.:true'; do sleep 0.1; done; step
kill -9 $(buddy status b --json | sed 's/.*"process":\([0-9]*\).*/\1/'); step
poweroff -f
"#
    )
}

/// Has the machine do the next step.
fn next(guest: &mut Guest, what: &str) {
    guest.set_register(SET, 1 << GO);
    let (status, said) = guest.answer(what);
    assert_eq!(status, 0, "{what}: {said}");
}

#[test]
fn a_raspberry_pis_own_lines_have_levels_functions_and_pulses() {
    let mut guest = Guest::pi("pi", &script());
    guest.answer("its script begins");
    let safe = |guest: &mut Guest| {
        [UART, NRST, FAN].map(|line| function(guest, line)) == [INPUT, OUTPUT, OUTPUT]
            && level(guest, NRST)
            && !level(guest, FAN)
    };
    // One that the kernel knows by the name that its tree has for it, of a chip that is known by its label.
    next(&mut guest, "play off of a line by its name");
    assert!(function(&mut guest, RELAY) == OUTPUT && !level(&mut guest, RELAY));
    next(&mut guest, "play off");
    assert!(safe(&mut guest), "{:#x} {:#x}", guest.register(FUNCTIONS), guest.register(LEVELS));
    let pulses = |guest: &mut Guest| {
        for wanted in [true, false, true, false] {
            until(guest, "it makes no pulses", |guest| level(guest, FAN) == wanted);
        }
    };
    next(&mut guest, "play on");
    assert_eq!([UART, NRST].map(|line| function(&mut guest, line)), [ALT0, OUTPUT]);
    assert!(!level(&mut guest, NRST));
    pulses(&mut guest);
    // Another version of the owner makes them again, and its guard holds what there is to be held.
    next(&mut guest, "update");
    pulses(&mut guest);
    assert!(function(&mut guest, UART) == ALT0 && !level(&mut guest, NRST));
    // Nobody is left to make them, and all lines are safe.
    next(&mut guest, "kill the owner");
    until(&mut guest, "the guard makes them safe", |guest| safe(guest));
}
