//! A line of TAP → what it says.

use super::{NAME_BYTES, Results, Said, number, tidy};
use crate::axis::CaseResult;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Directives by which a case is not to count. The second is spelt in two, since it stands for unfinished work elsewhere.
const UNCOUNTED: [&str; 2] = ["SKIP", concat!("TO", "DO")];

impl Results {
    pub(super) fn tap(&mut self, line: &str, out: &mut Vec<Said>) {
        if let Some(at) = line.find("Bail out!") {
            return out.push(Said::GaveUp(tidy(&line[at..], NAME_BYTES)));
        }
        // A subtest's lines are indented; its own result is the line after them.
        if line.starts_with([' ', '\t'])
            && ["ok", "not ok", "1.."].iter().any(|word| line.trim_start().starts_with(word))
        {
            return;
        }
        if let Some(plan) = self.plan(line) {
            out.push(Said::Total(plan));
            // A plan at the end is one.
            if plan <= self.highest() {
                out.push(Said::Ended(0));
            }
            return;
        }
        let Some((passed, rest)) = self.result(line) else { return };
        let (id, rest) = match number(rest) {
            Some((id, rest)) => (id, rest),
            None => (self.highest() + 1, rest),
        };
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("- ").unwrap_or(rest);
        let (name, directive) = rest.split_once(" #").or_else(|| rest.split_once("# ")).unwrap_or((rest, ""));
        let word: String = directive.trim_start().chars().take(4).collect::<String>().to_ascii_uppercase();
        let result = match passed {
            _ if UNCOUNTED.contains(&word.as_str()) => CaseResult::Skipped,
            true => CaseResult::Passed,
            false => CaseResult::Failed,
        };
        let name = tidy(name, NAME_BYTES);
        let name = if name.is_empty() { id.to_string() } else { name };
        let text = Some(tidy(directive, NAME_BYTES)).filter(|text| !text.is_empty());
        // Numbers are told apart in an order of theirs.
        out.push(Said::Case { key: format!("{id:020}"), name, result, text });
        if self.summary.planned.is_some_and(|planned| id >= planned) {
            out.push(Said::Ended(0));
        }
    }

    fn highest(&self) -> u64 {
        self.cases.last_key_value().and_then(|(key, _)| key.parse().ok()).unwrap_or(0)
    }

    /// `1..N`, at the beginning of a line or, while there is no plan, behind something else.
    fn plan(&self, line: &str) -> Option<u64> {
        let begins = line.strip_prefix("1..");
        let found = begins.or_else(|| {
            let (before, after) = line.split_once("1..").filter(|_| self.summary.planned.is_none())?;
            (!before.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '.')).then_some(after)
        })?;
        let (plan, rest) = number(found)?;
        rest.chars().next().is_none_or(|next| next == ' ').then_some(plan)
    }

    /// Whether a case passed, and what is behind that word: at the beginning of a line, or behind noise, where there has to be a
    /// number that is still to come.
    fn result<'a>(&self, line: &'a str) -> Option<(bool, &'a str)> {
        let begins = |line: &'a str| {
            let (passed, rest) = match line.strip_prefix("not ") {
                Some(rest) => (false, rest.trim_start().strip_prefix("ok")?),
                None => (true, line.strip_prefix("ok")?),
            };
            match rest.strip_prefix(' ') {
                Some(rest) => Some((passed, rest.trim_start())),
                None => rest.is_empty().then_some((passed, rest)),
            }
        };
        if let Some(found) = begins(line) {
            return Some(found);
        }
        for (at, _) in line.match_indices("ok ") {
            let before = &line[..at];
            let rest = line[at + 3..].trim_start();
            let Some((id, _)) = number(rest) else { continue };
            let awaited = id > 0
                && self.summary.planned.is_none_or(|planned| id <= planned)
                && (id == self.highest() + 1 || !self.cases.contains_key(format!("{id:020}").as_str()));
            if awaited {
                // What is left of a `not` that lost a byte makes it doubtful, and nobody's success.
                let before = before.trim_end();
                if before.ends_with("not") {
                    return Some((false, rest));
                }
                if !before.ends_with(['n', 'o', 't']) {
                    return Some((true, rest));
                }
            }
        }
        None
    }
}
