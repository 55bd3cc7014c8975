//! Architecture of an image × this machine and its binfmt_misc → whether its programs run here, and by what.

use std::fs;

/// Where the kernel tells which interpreters run which programs, see its documentation of binfmt_misc.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Entries looked at there: more than there are kinds of programs.
const ENTRIES: usize = 256;

/// An architecture.
struct Architecture {
    /// Debian's name.
    debian: &'static str,
    /// The kernels that run its programs themselves, by uname(2). The first is the one that machines of it are named by.
    kernels: &'static [&'static str],
    /// How its programs begin, see elf(5): class (1 for 32 bits, 2 for 64), data (1 for little endian), and machine.
    elf: (u8, u8, u16),
}

const fn architecture(debian: &'static str, kernels: &'static [&'static str], elf: (u8, u8, u16)) -> Architecture {
    Architecture { debian, kernels, elf }
}

const ARCHITECTURES: [Architecture; 9] = [
    architecture("amd64", &["x86_64"], (2, 1, 62)),
    architecture("i386", &["i386", "i486", "i586", "i686", "x86_64"], (1, 1, 3)),
    architecture("arm64", &["aarch64"], (2, 1, 183)),
    architecture("armhf", &["armv7l", "armv8l"], (1, 1, 40)),
    architecture("armel", &["armv5tel", "armv6l", "armv7l", "armv8l"], (1, 1, 40)),
    architecture("riscv64", &["riscv64"], (2, 1, 243)),
    architecture("ppc64el", &["ppc64le"], (2, 1, 21)),
    architecture("s390x", &["s390x"], (2, 2, 22)),
    architecture("mips64el", &["mips64"], (2, 1, 8)),
];

/// Debian's name of the architecture that a platform's name says it is, if it says one and this machine is another.
pub fn implied(platform: &str, machine: &str) -> Option<&'static str> {
    let part = platform.split('/').nth(1)?.split('-').next()?;
    let found = ARCHITECTURES.iter().find(|other| other.debian == part || other.kernels.first() == Some(&part))?;
    (!found.kernels.contains(&machine)).then_some(found.debian)
}

/// Whether programs of an architecture (Debian's name) run on this machine: by nothing else, or by this emulator.
///
/// # Errors
/// What to do for it, in a sentence.
pub fn emulator(architecture: &str) -> Result<Option<String>, String> {
    let entries = fs::read_dir(BINFMT).into_iter().flatten().flatten().take(ENTRIES);
    let entries: Vec<String> = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
    decide(architecture, &crate::describe::machine(), &entries)
}

/// Decides that from what binfmt_misc says of its entries.
fn decide(architecture: &str, machine: &str, entries: &[String]) -> Result<Option<String>, String> {
    let Some(wanted) = ARCHITECTURES.iter().find(|other| other.debian == architecture) else {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|other| other.debian).collect();
        return Err(format!("expected one of the architectures {}, found {architecture:?}", known.join(", ")));
    };
    if wanted.kernels.contains(&machine) {
        return Ok(None);
    }
    let header = header(wanted.elf);
    let mut problem = format!("nothing is registered for them in {BINFMT}");
    for entry in entries.iter().filter(|entry| takes(entry, &header)) {
        match (value(entry, "interpreter "), value(entry, "flags:")) {
            _ if !entry.starts_with("enabled") => problem = format!("what runs them is disabled in {BINFMT}"),
            (Some(program), Some(flags)) if flags.contains('F') => return Ok(Some(program.to_string())),
            (program, _) => {
                let program = program.unwrap_or_default();
                // Without F the kernel looks for the emulator inside the image.
                problem =
                    format!("{program} is registered in {BINFMT} without the flag F, and not found in a container");
            }
        }
    }
    Err(format!(
        "{architecture} programs cannot run on this {machine} machine: {problem}; install what registers it (Debian's \
         packages qemu-user-static and binfmt-support)"
    ))
}

/// How a program begins.
fn header((class, data, machine): (u8, u8, u16)) -> [u8; 20] {
    let mut header = [0; 20];
    header[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, data, 1]);
    let number = |number: u16| if data == 1 { number.to_le_bytes() } else { number.to_be_bytes() };
    // An executable file; masks let shared ones pass too.
    header[16..18].copy_from_slice(&number(2));
    header[18..].copy_from_slice(&number(machine));
    header
}

fn value<'a>(entry: &'a str, key: &str) -> Option<&'a str> {
    entry.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// Whether an entry is for files that begin so.
fn takes(entry: &str, header: &[u8]) -> bool {
    let bytes = |key: &str| -> Option<Vec<u8>> {
        let digits = value(entry, key)?;
        let pairs = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
        pairs.collect()
    };
    let Some(magic) = bytes("magic ").filter(|magic| !magic.is_empty() && magic.len() <= header.len()) else {
        return false;
    };
    let mask = bytes("mask ").unwrap_or_else(|| vec![0xff; magic.len()]);
    let alike = magic.iter().zip(header).zip(&mask).all(|((magic, byte), mask)| magic & mask == byte & mask);
    value(entry, "offset ") == Some("0") && alike
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERED: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
                              magic 7f454c460201010000000000000000000200b700\n\
                              mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn foreign_programs_need_an_emulator_that_is_found_from_inside() {
        let other = "enabled\ninterpreter /bin/java\nflags: \nextension .jar\n".to_string();
        let with = |text: &str| decide("arm64", "x86_64", &[other.clone(), String::new(), text.to_string()]);
        assert_eq!(with(REGISTERED), Ok(Some("/usr/libexec/qemu-binfmt/aarch64-binfmt-P".to_string())));
        for (text, words) in [
            ("enabled\n".to_string(), "nothing is registered for them in /proc/sys/fs/binfmt_misc; install"),
            (REGISTERED.replace("b700", "f300"), "nothing is registered"),
            (REGISTERED.replace("magic 7f", "magic xx"), "nothing is registered"),
            (REGISTERED.replace("enabled", "disabled"), "is disabled"),
            (REGISTERED.replace("POCF", "POC"), "without the flag F"),
        ] {
            let why = with(&text).expect_err(words);
            assert!(why.contains(words) && why.contains("qemu-user-static"), "{why}");
        }
        assert_eq!(decide("amd64", "x86_64", &[]), Ok(None));
        assert_eq!(decide("i386", "x86_64", &[]), Ok(None));
        assert!(decide("s390x", "x86_64", &[REGISTERED.to_string()]).is_err());
        assert!(decide("x86", "x86_64", &[]).expect_err("unknown").contains("amd64, i386"));
    }

    #[test]
    fn a_platform_says_what_it_is() {
        assert_eq!(implied("linux-debian-12/aarch64/gcc", "x86_64"), Some("arm64"));
        assert_eq!(implied("linux-debian-12/arm64", "x86_64"), Some("arm64"));
        assert_eq!(implied("linux-debian-12/x86_64-amd/gcc", "x86_64"), None);
        assert_eq!(implied("linux-debian-12/x86_64", "aarch64"), Some("amd64"));
        assert_eq!(implied("linux-debian-12/i386/gcc", "x86_64"), None);
        assert_eq!(implied("linux-debian-12", "x86_64"), None);
        assert_eq!(implied("linux-debian-12/fast", "x86_64"), None);
    }
}
