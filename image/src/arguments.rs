//! Arguments of the kernel that runs → those of the next one, which is to have all but what was said for this one alone.

use sai_core::slots::System;

/// What tells a kernel which system it has, by [`System::word`]; the first stage's has none.
pub const RUNS: &str = "sai.slot=";
/// What has the first stage run with one processor: where others are awake another kernel cannot be started.
pub const ALONE: &str = "nr_cpus=1";
/// Where the firmware has put this one's first files, which the next has elsewhere. That of a Pi says it in the board's description; what
/// is said here would count more.
const FILES_AT: &str = "initrd=";

/// The arguments of the next kernel.
pub fn next(running: &str, system: System) -> String {
    let others = running.split_whitespace().filter(|word| *word != ALONE && !word.starts_with(FILES_AT));
    let others: Vec<&str> = others.collect();
    format!("{} {RUNS}{}", others.join(" "), system.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_kernel_has_what_was_not_said_for_this_one_alone() {
        for (running, wanted) in [
            ("console=tty1 nr_cpus=1 panic=10\n", "console=tty1 panic=10 sai.slot=a"),
            ("initrd=0x2000000,15617815 console=tty1 noinitrd", "console=tty1 noinitrd sai.slot=a"),
            ("nr_cpus=12 sai.rejoin=25", "nr_cpus=12 sai.rejoin=25 sai.slot=a"),
        ] {
            assert_eq!(next(running, System::A), wanted);
        }
    }
}
