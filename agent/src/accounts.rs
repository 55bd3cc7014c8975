//! passwd(5) and group(5) of an image → the lines that add the user whose name jobs run under.

use sai_core::ordered::Set;

/// The user inside that jobs run as.
pub const USER: &str = "sai";
/// Its number, and that of its group, or the next ones that are free: such that nobody outside has it. A job that shares the
/// network with the machine reaches abstract sockets there too, and who listens may go by the number alone.
pub const FIRST: u32 = 59_000;
/// Numbers tried; an image with more users than this is none that anybody has made.
const TRIES: u32 = 1000;

/// Lines to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's number, and the group's.
    pub number: u32,
    /// To `/etc/passwd`.
    pub passwd: String,
    /// To `/etc/group`.
    pub group: String,
    /// To `/etc/shadow`, where there is one.
    pub shadow: String,
}

/// The lines that add the user; `None` when it is there already.
///
/// # Errors
/// No number is free.
pub fn account(passwd: &str, group: &str, shell: &str) -> Result<Option<Account>, String> {
    let names = |text: &str| text.lines().any(|line| line.split(':').next() == Some(USER));
    if names(passwd) {
        return Ok(None);
    }
    let lines = passwd.lines().chain(group.lines());
    let taken: Set<u32> = lines.filter_map(|line| line.split(':').nth(2)?.trim().parse().ok()).collect();
    let number = (FIRST..FIRST + TRIES).find(|number| !taken.contains(number));
    let number = number.ok_or_else(|| format!("the root has no free number for a user {USER}"))?;
    let begun = |text: &str| if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Ok(Some(Account {
        number,
        passwd: format!("{}{USER}:x:{number}:{number}:Sai's jobs:/home/{USER}:{shell}\n", begun(passwd)),
        group: format!("{}{USER}:x:{number}:\n", begun(group)),
        // No password opens it.
        shadow: format!("{USER}:!:::::::\n"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_number_is_taken_and_nobody_is_added_twice() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:59000:59000::/home/ann:/bin/sh\n";
        let added =
            account(passwd, "root:x:0:\nann:x:59000:\nvideo:x:59001:", "/bin/sh").expect("a number").expect("lines");
        assert_eq!(added.number, 59_002);
        assert_eq!(added.passwd, "sai:x:59002:59002:Sai's jobs:/home/sai:/bin/sh\n");
        assert_eq!(added.group, "\nsai:x:59002:\n");
        assert_eq!(account(&added.passwd, "", "/bin/sh"), Ok(None));
        assert_eq!(account("", "", "/bin/sh").expect("a number").expect("lines").number, FIRST);
        assert!(account("saint:x:1:1::/:", "", "/bin/sh").expect("a number").is_some());
        let full: String = (FIRST..FIRST + TRIES).map(|number| format!("u{number}:x:{number}:1::/:\n")).collect();
        assert!(account(&full, "", "/bin/sh").is_err());
    }
}
