//! Architecture of an image × this machine and its binfmt_misc → whether its programs run here, and by what.

use std::fs;
use std::path::Path;

/// Where the kernel tells which interpreters run which programs, see its documentation of binfmt_misc.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// Architectures by Debian's name, the kernels that run them themselves, and the emulator that runs them elsewhere.
const ARCHITECTURES: [(&str, &[&str], &str); 9] = [
    ("amd64", &["x86_64"], "x86_64"),
    ("i386", &["i386", "i486", "i586", "i686", "x86_64"], "i386"),
    ("arm64", &["aarch64"], "aarch64"),
    ("armhf", &["armv7l", "armv8l"], "arm"),
    ("armel", &["armv5tel", "armv6l", "armv7l", "armv8l"], "arm"),
    ("riscv64", &["riscv64"], "riscv64"),
    ("ppc64el", &["ppc64le"], "ppc64le"),
    ("s390x", &["s390x"], "s390x"),
    ("mips64el", &["mips64"], "mips64el"),
];

/// Debian's name of the architecture that a platform's name says it is, if it says one and this machine is another.
pub fn implied(platform: &str, machine: &str) -> Option<&'static str> {
    let part = platform.split('/').nth(1)?.split('-').next()?;
    // The first kernel of each is the one that machines of it are named by.
    let found = ARCHITECTURES.iter().find(|(debian, kernels, _)| *debian == part || kernels.first() == Some(&part))?;
    (!found.1.contains(&machine)).then_some(found.0)
}

/// Whether programs of an architecture (Debian's name) run on this machine: by nothing else, or by this emulator.
///
/// # Errors
/// What to do for it, in a sentence.
pub fn emulator(architecture: &str) -> Result<Option<String>, String> {
    let machine = crate::describe::machine();
    decide(architecture, &machine, |name| fs::read_to_string(Path::new(BINFMT).join(name)).ok())
}

/// Decides that from what binfmt_misc says of an entry, if there is one.
fn decide(architecture: &str, machine: &str, entry: impl Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    let Some((debian, kernels, emulator)) = ARCHITECTURES.iter().find(|(debian, ..)| *debian == architecture) else {
        let known: Vec<&str> = ARCHITECTURES.iter().map(|(debian, ..)| *debian).collect();
        return Err(format!("expected one of the architectures {}, found {architecture:?}", known.join(", ")));
    };
    if kernels.contains(&machine) {
        return Ok(None);
    }
    let name = format!("qemu-{emulator}");
    let problem = match entry(&name) {
        None => format!("{name} is not registered in {BINFMT}"),
        Some(text) => {
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
            match (value("interpreter "), value("flags:")) {
                _ if !text.starts_with("enabled") => format!("{name} is disabled in {BINFMT}"),
                (Some(program), Some(flags)) if flags.contains('F') => return Ok(Some(program.to_string())),
                // Without F the kernel looks for the emulator inside the image.
                _ => format!(
                    "{name} is registered in {BINFMT} without the flag F, so that it is not found in a container"
                ),
            }
        }
    };
    Err(format!(
        "{debian} programs cannot run on this {machine} machine: {problem}; install what registers it (Debian's packages \
         qemu-user-static and binfmt-support)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTERED: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n";

    #[test]
    fn foreign_programs_need_an_emulator_that_is_found_from_inside() {
        let with = |text: Option<&str>| {
            let text = text.map(String::from);
            decide("arm64", "x86_64", move |name| text.clone().filter(|_| name == "qemu-aarch64"))
        };
        assert_eq!(with(Some(REGISTERED)), Ok(Some("/usr/libexec/qemu-binfmt/aarch64-binfmt-P".to_string())));
        for (text, words) in [
            (None, "is not registered in /proc/sys/fs/binfmt_misc; install"),
            (Some(REGISTERED.replace("enabled", "disabled")), "is disabled"),
            (Some(REGISTERED.replace("POCF", "POC")), "without the flag F"),
            (Some(String::new()), "is disabled"),
        ] {
            let why = with(text.as_deref()).expect_err(words);
            assert!(why.contains(words) && why.contains("qemu-user-static"), "{why}");
        }
        let nothing = |_: &str| None;
        assert_eq!(decide("amd64", "x86_64", nothing), Ok(None));
        assert_eq!(decide("i386", "x86_64", nothing), Ok(None));
        assert!(decide("x86", "x86_64", nothing).expect_err("unknown").contains("amd64, i386"));
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
