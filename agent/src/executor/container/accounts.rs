//! Users of an image → the one that a job's steps are, and what tells `systemd-nspawn` so.
//!
//! It asks the image's own getent(1) who that is, in words that only the one of the GNU C library understands: Alpine has another
//! one, and busybox none. So it finds ours in that place, which knows no more than the answer, until the container is there.

use crate::accounts::{FIRST as ANYBODY, USER};
use crate::root::Root;
use rustix::fs::{AtFlags, Mode, OFlags, renameat, unlinkat};
use rustix::io::Errno;
use std::io;

/// Where the program is, and what it is called meanwhile.
const PLACE: &str = "/usr/bin";
const GETENT: &str = "getent";
const ASIDE: &str = ".getent-of-the-image";

/// The user that steps are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Number of the user.
    pub user: u32,
    /// Number of its group.
    pub group: u32,
    /// All groups that it is in.
    groups: Vec<u32>,
}

impl Account {
    /// The root of a container whose users have these numbers and those after it outside.
    pub fn root(first: u32) -> Self {
        Self { user: first, group: first, groups: vec![first] }
    }
}

/// The user and groups `sai` of the image; made in the job's own copy where it has none.
///
/// # Errors
/// The system's.
pub fn find(root: &Root) -> io::Result<Account> {
    let users = root.read("/etc/passwd")?;
    let text = users.as_deref().unwrap_or_default();
    let groups = root.read("/etc/group")?.unwrap_or_default();
    if let Some((user, group)) = user_of(text) {
        if user == 0 {
            return Err(io::Error::other(format!("the image's user {USER} is root")));
        }
        return Ok(Account { user, group, groups: groups_of(&groups, group) });
    }
    root.directory("/etc")?;
    let lines =
        |text: &str, line: String| if text.is_empty() || text.ends_with('\n') { line } else { format!("\n{line}") };
    let line = lines(text, format!("{USER}:x:{ANYBODY}:{ANYBODY}::/sai/home:/bin/sh\n"));
    root.append("/etc/passwd", &line)?;
    if !groups.lines().any(|line| line.split(':').next() == Some(USER)) {
        root.append("/etc/group", &lines(&groups, format!("{USER}:x:{ANYBODY}:\n")))?;
    }
    Ok(Account { user: ANYBODY, group: ANYBODY, groups: vec![ANYBODY] })
}

/// The numbers of `sai` in the text of a passwd(5).
fn user_of(users: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == USER).then_some(())?;
        let user = fields.nth(1)?.parse().ok()?;
        Some((user, fields.next()?.parse().ok()?))
    })
}

/// Its own group, and those that name `sai` in the text of a group(5).
fn groups_of(groups: &str, own: u32) -> Vec<u32> {
    let mut found = vec![own];
    for line in groups.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [_, _, number, members] = fields[..]
            && members.split(',').any(|name| name == USER)
            && let Ok(number) = number.parse()
            && !found.contains(&number)
        {
            found.push(number);
        }
    }
    found
}

impl Account {
    /// The program that answers both questions which are asked of it.
    fn program(&self) -> String {
        let Self { user, group, groups } = self;
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        format!(
            "#!/bin/sh\ncase $1 in\npasswd) echo {USER}:x:{user}:{group}::/sai/home:/bin/sh ;;\n\
             initgroups) echo {USER} {} ;;\n*) exit 2 ;;\nesac\n",
            groups.join(" ")
        )
    }

    /// Puts it into the place of the image's own, in the job's copy.
    ///
    /// # Errors
    /// The system's.
    pub fn answer(&self, root: &Root) -> io::Result<()> {
        let place = root.directory(PLACE)?;
        match renameat(&place, GETENT, &place, ASIDE) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        root.replace(format!("{PLACE}/{GETENT}"), self.program().as_bytes(), 0o755)
    }
}

/// Puts the image's own program back, if it had one.
///
/// # Errors
/// The system's.
pub fn answered(root: &Root) -> io::Result<()> {
    let place = root.open_at(PLACE.as_ref(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    unlinkat(&place, GETENT, AtFlags::empty())?;
    match renameat(&place, ASIDE, &place, GETENT) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_images_own_user_is_taken_with_its_groups() {
        assert_eq!(user_of("root:x:0:0:r:/root:/bin/sh\nsai:x:1001:1002::/:/bin/sh\n"), Some((1001, 1002)));
        assert_eq!(user_of("saint:x:1:1::/:/bin/sh\nsai:x\nsai:x:a:b\n"), None);
        let groups =
            "root:x:0:\nsai:x:1002:\nvideo:x:44:ann,sai\nkvm:x:b:sai\ndialout:x:20:sai\nx:x:7:saint\nshort:x:9\n";
        assert_eq!(groups_of(groups, 1002), [1002, 44, 20]);
    }

    #[test]
    fn it_is_put_in_place_and_back_and_knows_two_answers() {
        let base = std::env::temp_dir().join(format!("sai-accounts-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("usr/bin")).unwrap();
        let root = Root::open(&base).unwrap();
        let account = Account { user: 7, group: 8, groups: vec![8, 9] };
        let program = base.join("usr/bin/getent");
        for own in [false, true] {
            if own {
                std::fs::write(&program, "own").unwrap();
            }
            account.answer(&root).unwrap();
            let said = |word: &str| {
                let output = Command::new("/bin/sh").arg(&program).args([word, "sai"]).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            assert_eq!((&*said("passwd"), &*said("initgroups")), ("sai:x:7:8::/sai/home:/bin/sh\n", "sai 8 9\n"));
            assert_eq!(said("hosts"), "");
            answered(&root).unwrap();
            assert_eq!(std::fs::read_to_string(&program).ok().as_deref(), own.then_some("own"));
            assert_eq!(std::fs::read_dir(base.join("usr/bin")).unwrap().count(), usize::from(own));
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}
