//! Platform names → served or not: matching from the left, `os/arch/toolchain` part by part.
//!
//! A platform that is *offered* names everything about a machine (`linux-fedora-32/x86_64-amd/gcc`); one that is
//! *wanted* names what matters to the job (`linux-fedora/x86_64`). The same match picks platforms in the selector of
//! a configuration.

use alloc::format;
use alloc::string::String;

/// Longest name of a platform or configuration, in bytes: it is a directory, a table heading and a map key.
pub const NAME_MAX: usize = 128;

/// Whether `offered` serves `wanted`.
///
/// The parts of both, divided by `/`, are compared one by one, and inside a part the segments divided by `-`: each
/// segment that is wanted must be the offered one in the same place, whole. What is offered may have more parts and
/// segments than are wanted, not fewer. A wanted part that is empty is served by any part.
pub fn serves(offered: &str, wanted: &str) -> bool {
    let mut offered_parts = offered.split('/');
    // Every wanted part is as long as the offered one at most; this keeps absurdly long names cheap.
    wanted.len() <= offered.len()
        && wanted.split('/').all(|wanted_part| {
            offered_parts.next().is_some_and(|offered_part| {
                let mut offered_segments = offered_part.split('-');
                wanted_part.is_empty() || wanted_part.split('-').all(|segment| offered_segments.next() == Some(segment))
            })
        })
}

/// What stands before the name of a platform where steps are root. No name of a platform has such a letter.
const ROOT: &str = "root!";

/// A platform as it is offered where steps can be root in a container, and wanted where they are to be: two names that
/// [`serves`] compares as any others.
pub fn as_root(name: &str) -> String {
    format!("{ROOT}{name}")
}

/// The name without what [`as_root`] put before it.
pub fn unrooted(name: &str) -> &str {
    name.strip_prefix(ROOT).unwrap_or(name)
}

/// A platform that is wanted, as people are told of it.
pub fn described(wanted: &str) -> String {
    match wanted.strip_prefix(ROOT) {
        Some(name) => format!("{name} with steps as root in a container"),
        None => wanted.into(),
    }
}

/// Checks the name of a platform that a machine offers. It may become a directory path: relative, with no part that
/// is empty, `.` or `..` or begins with `-`.
///
/// # Errors
/// What a name is expected to be.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.split('/').any(str::is_empty) {
        return Err("a platform name of `/`-separated parts, none of them empty".into());
    }
    check_wanted(name)
}

/// Checks the name of a platform that is wanted: as [`check_name`], and a part after the first may be empty.
///
/// # Errors
/// What a name is expected to be.
pub fn check_wanted(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(format!("a platform name of 1 to {NAME_MAX} bytes"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-+".contains(&byte)) {
        return Err("a platform name of letters, digits and `_ . / - +`".into());
    }
    if name.starts_with('/') {
        return Err("a platform name that does not begin with `/`".into());
    }
    let begins_well = |part: &str| part.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !name.split('/').all(begins_well) {
        return Err("a platform name whose `/`-separated parts begin with a letter, a digit or `_`".into());
    }
    Ok(())
}

/// Checks the name of a unit: something that a job occupies besides a slot, such as a licence.
///
/// # Errors
/// What a name is expected to be.
pub fn check_unit(name: &str) -> Result<(), String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && begins_well && name.len() <= NAME_MAX {
        Ok(())
    } else {
        Err(format!("a unit's name of 1 to {NAME_MAX} letters, digits and `_ . -`, beginning with none of `. -`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_from_the_left_by_whole_segments() {
        for (offered, wanted) in [
            ("linux-fedora-32/x86_64-amd/gcc", "linux-fedora/x86_64"),
            ("linux-fedora-32/x86_64-amd/gcc", "linux-fedora-32/x86_64-amd/gcc"),
            ("linux-fedora-32/x86_64-amd/gcc", "linux"),
            ("linux-fedora-44", "linux"),
            ("w11/x86_64-amd/msvc-schannel", "w11/x86_64-amd/msvc"),
            ("linux-a/x86_64/gcc", "linux//gcc"),
            ("linux-a/x86_64/gcc", "//gcc"),
            ("linux-a/x86_64/gcc", "linux/"),
            ("linux-a/x86_64/gcc", ""),
        ] {
            assert!(serves(offered, wanted), "{offered} serves {wanted}");
        }
        for (offered, wanted) in [
            ("linux-a/x86_64/gcc", "linux-a/x86/gcc"),
            ("x86_64", "x86"),
            ("linux-fedora-32/x86_64-amd", "linux-fedora-31/x86_64"),
            ("linux-a/x86_64/gcc", "linux-a/x86_64/gcc/extra"),
            ("linux-a", "linux-a/"),
            ("linux", "linux-a"),
            ("linux-a", "linux-"),
            ("linux-fedora44", "linux-fedora"),
            ("linux-fedora-32/x86_64-amd/gcc", "fedora"),
            ("linux-fedora-32/x86_64-amd/gcc", "x86_64-amd"),
            ("Linux", "linux"),
        ] {
            assert!(!serves(offered, wanted), "{offered} does not serve {wanted}");
        }
    }

    #[test]
    fn what_is_offered_with_root_serves_only_who_wants_that() {
        let offered = as_root("linux-debian-12/x86_64/gcc");
        for wanted in ["linux-debian", "linux//gcc", "linux-debian-12/x86_64"] {
            assert!(serves(&offered, &as_root(wanted)) && !serves(&offered, wanted), "{wanted}");
            assert!(!serves("linux-debian-12/x86_64/gcc", &as_root(wanted)), "{wanted}");
        }
        assert!(!serves(&offered, &as_root("linux-fedora")));
        assert!(check_name(&offered).is_err() && check_wanted(&as_root("linux")).is_err());
        assert_eq!(described(&as_root("a/b")), "a/b with steps as root in a container");
        assert_eq!(described("a/b"), "a/b");
    }

    #[test]
    fn names_are_relative_paths_of_plain_characters() {
        for name in ["linux-debian-12/x86_64/gcc", "netbsd-OSX-catalina/x86_64-intel-i3/llvm", "c++/x", "_a", "3"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = "a".repeat(NAME_MAX + 1);
        for name in [
            "", "/", "/etc", "a//b", "a/", "..", "a/../b", ".", "a/./b", "a/..", ".ssh", "-rf", "a/-rf", "a b", "a\nb",
            "a\0", "é", "a\\b", "a:b", "$(a)", &long,
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_wanted("linux//gcc").is_ok() && check_wanted("linux/").is_ok());
        assert!(check_wanted("//gcc").is_err() && check_wanted("linux/..//gcc").is_err());
    }
}
