//! A line of ctest, ztest, Unity, GoogleTest or libtest → what it says.

use super::{NAME_BYTES, Results, Said, named, number, tidy};
use crate::axis::CaseResult;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The number in front of a word, as in `3 passed`.
fn count(line: &str, word: &str) -> Option<u64> {
    let before = line.get(..line.find(word)?)?.trim_end();
    let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
    before.get(before.len() - digits..)?.parse().ok()
}

impl Results {
    /// ` 1/10 Test  #1: name ........   Passed    0.01 sec`, `100% tests passed, 0 tests failed out of 10`.
    pub(super) fn ctest(&mut self, line: &str, out: &mut Vec<Said>) {
        if let Some((before, after)) = line.split_once(" tests failed out of ") {
            let failed = count(line, " tests failed out of ").unwrap_or(u64::from(!before.is_empty()));
            if let Some((all, _)) = number(after) {
                out.push(Said::Total(all));
            }
            return out.push(Said::Ended(failed));
        }
        let Some((before, after)) = line.split_once(" Test ") else { return };
        let Some((id, rest)) = after.trim_start().strip_prefix('#').and_then(number) else { return };
        let Some((name, rest)) = rest.strip_prefix(": ").and_then(|rest| rest.split_once(" .")) else { return };
        let status = rest.trim_start_matches(['.', ' ']);
        let result = match status.strip_prefix("***") {
            Some(status) if status.starts_with("Skipped") || status.contains("(Disabled)") => CaseResult::Skipped,
            Some(_) => CaseResult::Failed,
            None if status.starts_with("Passed") => CaseResult::Passed,
            None => return,
        };
        let all = before.trim_end().rsplit_once('/').and_then(|(_, all)| number(all));
        if let Some((all, "")) = all {
            out.push(Said::Total(all));
        }
        let text = status.strip_prefix("***").map(|status| tidy(status, NAME_BYTES));
        out.push(Said::Case { key: format!("{id:020}"), name: tidy(name, NAME_BYTES), result, text });
    }

    /// ` PASS - name in 0.001 seconds`, and once more in the summary ` - PASS - [suite.name] duration = 0.001 seconds`.
    pub(super) fn ztest(&mut self, line: &str, out: &mut Vec<Said>) {
        if let Some((_, suite)) = line.split_once("Running TESTSUITE ") {
            self.open = tidy(suite, NAME_BYTES);
            return;
        }
        if let Some((_, end)) = line.split_once("PROJECT EXECUTION ") {
            return out.push(Said::Ended(u64::from(!end.starts_with("SUCCESSFUL"))));
        }
        if line.contains("SUITE ") && line.contains("]: pass = ") {
            let all = line.split_once("total = ").and_then(|(_, all)| number(all));
            if let Some((all, _)) = all {
                // Each suite tells of its own.
                out.push(Said::Total(self.summary.planned.unwrap_or(0).saturating_add(all)));
            }
            return;
        }
        let words =
            [("PASS - ", CaseResult::Passed), ("FAIL - ", CaseResult::Failed), ("SKIP - ", CaseResult::Skipped)];
        for (word, result) in words {
            let Some((before, rest)) = line.split_once(word) else { continue };
            let summary = rest.strip_prefix('[').and_then(|rest| rest.split_once("] duration"));
            if let Some((name, _)) = summary {
                return out.push(named(name, result, None));
            }
            let plain = !before.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_');
            if let (true, Some((name, _))) =
                (plain, rest.split_once(" in ").filter(|(_, time)| time.contains(" seconds")))
            {
                let suite = if self.open.is_empty() { String::new() } else { format!("{}.", self.open) };
                return out.push(named(&format!("{suite}{name}"), result, None));
            }
        }
    }

    /// `file.c:12:name:PASS`, `…:FAIL: Expected 1 Was 2`, `…:IGNORE`, and `3 Tests 1 Failures 0 Ignored`.
    pub(super) fn unity(&mut self, line: &str, out: &mut Vec<Said>) {
        let total = count(line, " Tests ").zip(count(line, " Failures ")).filter(|_| line.contains(" Ignored"));
        if let Some((all, failed)) = total {
            out.push(Said::Total(all));
            return out.push(Said::Ended(failed));
        }
        let parts: Vec<&str> = line.splitn(64, ':').collect();
        for (index, window) in parts.windows(3).enumerate() {
            let [at, name, word] = window else { continue };
            let result = match word.trim_end() {
                "PASS" => CaseResult::Passed,
                "FAIL" => CaseResult::Failed,
                "IGNORE" => CaseResult::Skipped,
                _ => continue,
            };
            let is_line = !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit());
            if is_line && index > 0 && !name.is_empty() {
                let text = parts.get(index + 3..).map(|rest| rest.join(":"));
                return out.push(named(name, result, text.as_deref()));
            }
        }
    }

    /// `[       OK ] Suite.name (0 ms)` and its like, `[==========] Running 3 tests from 2 test suites.`, `… tests ran.`
    pub(super) fn gtest(&mut self, line: &str, out: &mut Vec<Said>) {
        if let Some((_, rest)) = line.split_once("[==========] ") {
            if let Some((all, _)) = rest.strip_prefix("Running ").and_then(number) {
                out.push(Said::Planned(all));
            } else if rest.contains(" ran.") {
                out.push(Said::Ended(0));
            }
            return;
        }
        let words = [
            ("[       OK ] ", CaseResult::Passed),
            ("[  FAILED  ] ", CaseResult::Failed),
            ("[  SKIPPED ] ", CaseResult::Skipped),
        ];
        for (word, result) in words {
            let Some((_, rest)) = line.split_once(word) else { continue };
            let name = rest.split(", where ").next().unwrap_or_default();
            let timed = rest.trim_end().ends_with(" ms)");
            let name =
                name.rsplit_once(" (").filter(|_| name.trim_end().ends_with(" ms)")).map_or(name, |(name, _)| name);
            // The list at the end names what failed and was skipped once more, after a line that counts it.
            let counted = number(rest).is_some_and(|(_, rest)| rest.starts_with(" test"));
            if counted || name.is_empty() || (result == CaseResult::Passed && !timed) {
                continue;
            }
            return out.push(named(name, result, None));
        }
    }

    /// `test name ... ok`, `running 3 tests`, `test result: ok. 3 passed; 0 failed; …`.
    pub(super) fn libtest(&mut self, line: &str, out: &mut Vec<Said>) {
        if line.contains("test result: ") {
            self.open.clear();
            return out.push(Said::Ended(count(line, " failed;").unwrap_or(0)));
        }
        let announced = line.split_once("running ").and_then(|(_, rest)| number(rest.trim_end()));
        if let Some((all, " tests" | " test")) = announced {
            return out.push(Said::Planned(all));
        }
        let word = |text: &str| {
            let text = text.trim_end();
            // Doc tests and those that should panic have a word before it, benches and ignored ones some after it.
            let ends = |word: &str| {
                text.strip_suffix(word).is_some_and(|rest| !rest.ends_with(|last: char| last.is_ascii_alphanumeric()))
            };
            if text == "ignored" || text.starts_with("ignored, ") {
                return Some(CaseResult::Skipped);
            }
            [("ok", CaseResult::Passed), ("FAILED", CaseResult::Failed)]
                .into_iter()
                .find(|(word, _)| ends(word))
                .map(|(_, result)| result)
        };
        let begun = line.find("test ").and_then(|at| line.get(at + 5..)?.split_once(" ... "));
        if let Some((name, rest)) = begun {
            match word(rest) {
                Some(result) => {
                    self.open.clear();
                    out.push(named(name, result, None));
                }
                // The test itself prints, and the result follows.
                None => self.open = tidy(name, NAME_BYTES),
            }
        } else if !self.open.is_empty() {
            // Alone in its line, so that no test that prints an `ok` somewhere passes by it.
            if let Some(result) = word(line).filter(|_| matches!(line.trim_end(), "ok" | "FAILED" | "ignored")) {
                let name = core::mem::take(&mut self.open);
                out.push(named(&name, result, None));
            }
        }
    }
}
