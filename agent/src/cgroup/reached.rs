//! Counts of the kernel → which limit of a job was reached, and what came of it, in words.

use super::removal::with_all_below;
use super::{Limits, read};
use std::path::{Path, PathBuf};

/// How often limits were reached so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Processes killed for want of memory.
    kills: u64,
    /// Times that no process more was to be had.
    refusals: u64,
}

impl Reached {
    /// The counts of these cgroups, of either version. A runner may have made others below them.
    pub fn of(directories: &[PathBuf]) -> Self {
        let mut sum = Self::default();
        for directory in directories.iter().flat_map(|directory| with_all_below(directory)) {
            let count = |file: &str, name: &str| count(&read(&directory.join(file)), name);
            sum.kills += count("memory.events", "oom_kill") + count("memory.oom_control", "oom_kill");
            sum.refusals += count("pids.events", "max");
        }
        sum
    }

    /// What has been reached since then, one clause; nothing if nothing was.
    pub fn since(self, before: Self, limits: Limits) -> Option<String> {
        let kills = self.kills.saturating_sub(before.kills);
        let mut clauses = Vec::new();
        if kills > 0 {
            let limit = limits.memory_mib.map_or_else(String::new, |mib| format!(" of {mib} MiB (memory_mib)"));
            clauses.push(format!(
                "the job reached its limit of memory{limit}, and the kernel killed {}",
                processes(kills)
            ));
        }
        if let Some(pids) = limits.pids.filter(|_| self.refusals > before.refusals) {
            clauses.push(format!("the job reached its limit of {pids} processes and threads (pids)"));
        }
        (!clauses.is_empty()).then(|| clauses.join("; "))
    }
}

fn processes(count: u64) -> String {
    if count == 1 { "a process of it".to_string() } else { format!("{count} processes of it") }
}

/// Processes of the whole machine that the kernel has killed for want of memory since it began; see proc_vmstat(5).
pub fn killed_on_the_machine() -> u64 {
    count(&read(Path::new("/proc/vmstat")), "oom_kill")
}

/// The number after a name that begins a line.
fn count(text: &str, name: &str) -> u64 {
    let rest = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(rest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn counts_of_either_version_are_summed_and_said_in_words() {
        let base = std::env::temp_dir().join(format!("sai-reached-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("a/payload")).unwrap();
        fs::create_dir_all(base.join("b")).unwrap();
        let groups = [base.join("a"), base.join("b"), base.join("gone")];
        assert_eq!(Reached::of(&groups), Reached::default());
        fs::write(base.join("a/payload/memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").unwrap();
        fs::write(base.join("b/memory.events"), "low 0\nmax 7\noom 3\noom_kill 1\noom_group_kill 9\n").unwrap();
        fs::write(base.join("b/pids.events"), "max 4\n").unwrap();
        let now = Reached::of(&groups);
        assert_eq!(now, Reached { kills: 3, refusals: 4 });
        let limits = Limits { memory_mib: Some(64), cpu_permille: None, pids: Some(9) };
        assert_eq!(now.since(now, limits), None);
        let kills =
            "the job reached its limit of memory of 64 MiB (memory_mib), and the kernel killed 3 processes of it";
        let refusals = "the job reached its limit of 9 processes and threads (pids)";
        assert_eq!(now.since(Reached { refusals: 4, ..Reached::default() }, limits).as_deref(), Some(kills));
        assert_eq!(now.since(Reached::default(), limits), Some(format!("{kills}; {refusals}")));
        assert_eq!(count("oom_kill_disable 1\noom_kill x\n", "oom_kill"), 0);
        fs::remove_dir_all(&base).unwrap();
    }
}
