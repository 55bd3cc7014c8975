//! System calls that no build needs → a filter program for the kernel, for a runner that brings none of its own.
//!
//! A job is no administrator anyway, so most of these would be refused by themselves. They are refused without being looked at,
//! since it is in calls like these that kernels have been broken. `systemd-nspawn` does the same with its own list.

/// A call refused: its number on x86-64, on i386, and on machines that came later (arm64). `None`: there is no such call.
type Call = (Option<u32>, Option<u32>, Option<u32>);

const fn call(x86_64: u32, i386: u32, generic: u32) -> Call {
    (Some(x86_64), Some(i386), Some(generic))
}

/// How a machine is named, and which of a call's numbers is its own.
type Machine = (u32, fn(&Call) -> Option<u32>);

/// Those that came when machines had agreed on numbers.
const fn new(number: u32) -> Call {
    call(number, number, number)
}

const REFUSED: [Call; 48] = [
    call(103, 103, 116),          // syslog
    (Some(134), Some(86), None),  // uselib
    call(155, 217, 41),           // pivot_root
    call(163, 51, 89),            // acct
    call(164, 79, 170),           // settimeofday
    (None, Some(25), None),       // stime
    call(165, 21, 40),            // mount
    call(166, 52, 39),            // umount2
    (None, Some(22), None),       // umount
    call(167, 87, 224),           // swapon
    call(168, 115, 225),          // swapoff
    call(169, 88, 142),           // reboot
    (Some(172), Some(110), None), // iopl
    (Some(173), Some(101), None), // ioperm
    call(175, 128, 105),          // init_module
    call(176, 129, 106),          // delete_module
    call(179, 131, 60),           // quotactl
    call(227, 264, 112),          // clock_settime
    call(246, 283, 104),          // kexec_load
    (Some(320), None, Some(294)), // kexec_file_load
    call(248, 286, 217),          // add_key
    call(249, 287, 218),          // request_key
    call(250, 288, 219),          // keyctl
    call(153, 111, 58),           // vhangup
    call(298, 336, 241),          // perf_event_open
    call(300, 338, 262),          // fanotify_init
    call(304, 342, 265),          // open_by_handle_at
    call(308, 346, 268),          // setns
    call(313, 350, 273),          // finit_module
    call(321, 357, 280),          // bpf
    call(323, 374, 282),          // userfaultfd
    (None, Some(404), None),      // clock_settime64
    new(425),                     // io_uring_setup
    new(426),                     // io_uring_enter
    new(427),                     // io_uring_register
    new(428),                     // open_tree
    new(429),                     // move_mount
    new(430),                     // fsopen
    new(431),                     // fsconfig
    new(432),                     // fsmount
    new(433),                     // fspick
    new(442),                     // mount_setattr
    new(443),                     // quotactl_fd
    new(457),                     // statmount
    new(458),                     // listmount
    (Some(174), Some(127), None), // create_module
    (Some(180), Some(169), None), // nfsservctl
    (None, Some(166), None),      // vm86
];

/// How the kernel names the machines, linux/audit.h.
const X86_64: u32 = 0xC000_003E;
const I386: u32 = 0x4000_0003;
const ARM64: u32 = 0xC000_00B7;

/// Numbers from here on are those of x32, which nothing uses but what looks for a gap.
const X32: u32 = 0x4000_0000;

/// Instructions of the filter, linux/bpf_common.h.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where the kernel puts a call's number and machine, linux/seccomp.h.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;

/// Verdicts, linux/seccomp.h.
const ALLOW: u32 = 0x7FFF_0000;
const EPERM: u32 = 0x0005_0001;

/// The filter, where the numbers of this machine's calls are known. A 32-bit program on arm64 can make no call at all.
pub fn filter() -> Option<Vec<u8>> {
    let machines: &[Machine] = match std::env::consts::ARCH {
        "x86_64" => &[(X86_64, |call| call.0), (I386, |call| call.1)],
        "aarch64" => &[(ARM64, |call| call.2)],
        _ => return None,
    };
    let mut program = Vec::new();
    let mut instruct = |code: u16, if_true: usize, if_false: usize, value: u32| {
        program.extend_from_slice(&code.to_ne_bytes());
        // Each block is shorter than a jump reaches, see below.
        program.extend([if_true as u8, if_false as u8]);
        program.extend_from_slice(&value.to_ne_bytes());
    };
    for (machine, number_of) in machines {
        let numbers: Vec<u32> = REFUSED.iter().filter_map(number_of).collect();
        let compared = numbers.len() + 1;
        instruct(LOAD, 0, 0, MACHINE);
        instruct(JUMP_IF_EQUAL, 0, compared + 3, *machine);
        instruct(LOAD, 0, 0, NUMBER);
        instruct(JUMP_IF_AT_LEAST, compared, 0, X32);
        for (index, number) in numbers.iter().enumerate() {
            instruct(JUMP_IF_EQUAL, compared - 1 - index, 0, *number);
        }
        instruct(RETURN, 0, 0, ALLOW);
        instruct(RETURN, 0, 0, EPERM);
    }
    instruct(RETURN, 0, 0, EPERM);
    Some(program)
}

const _: () = assert!(REFUSED.len() + 4 < u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would decide.
    fn decide(program: &[u8], machine: u32, number: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let instruction: &[u8; 8] = program[at * 8..][..8].try_into().unwrap();
            let [a, b, if_true, if_false, value @ ..] = *instruction;
            let value = u32::from_ne_bytes(value);
            let jump = |taken: bool| usize::from(if taken { if_true } else { if_false });
            at += 1 + match u16::from_ne_bytes([a, b]) {
                LOAD => {
                    loaded = if value == NUMBER { number } else { machine };
                    0
                }
                JUMP_IF_EQUAL => jump(loaded == value),
                JUMP_IF_AT_LEAST => jump(loaded >= value),
                RETURN => return value,
                other => panic!("instruction {other}"),
            };
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_is_listed_is_refused_on_each_machine_and_the_rest_is_not() {
        let program = filter().unwrap();
        for number in 0..600 {
            let verdict = |listed: bool| if listed { EPERM } else { ALLOW };
            let listed = REFUSED.iter().any(|call| call.0 == Some(number));
            assert_eq!(decide(&program, X86_64, number), verdict(listed), "x86-64 {number}");
            let listed = REFUSED.iter().any(|call| call.1 == Some(number));
            assert_eq!(decide(&program, I386, number), verdict(listed), "i386 {number}");
        }
        assert_eq!(decide(&program, X86_64, X32 + 1), EPERM);
        assert_eq!(decide(&program, ARM64, 64), EPERM);
        for number in [0, 1, 59, 231, 435] {
            assert_eq!(decide(&program, X86_64, number), ALLOW);
        }
    }
}
