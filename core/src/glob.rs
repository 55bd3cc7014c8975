//! Pattern × path → match or not: the globs of branches and artifacts, in time linear in pattern times path.
//!
//! `?` is one character and `*` any number of them, neither of them a `/`; `[abc]`, `[a-z]`, `[!a-z]` one of a set or
//! of its opposite; `**` also crosses `/`, and `**/` as a whole part is any number of parts, none included. Nothing
//! is special about a leading dot. A pattern is followed with the set of all its states at once, so no pattern can
//! make it backtrack.

use alloc::vec;
use alloc::vec::Vec;

/// Longest pattern, in bytes: far above any path that is written by hand.
pub const PATTERN_MAX: usize = 1024;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
enum Token {
    One(char),
    /// `?`
    Any,
    /// `[…]`: negated, and ranges.
    Set(bool, Vec<(char, char)>),
    /// `*`
    Star,
    /// `**`
    DoubleStar,
    /// `**/` at the beginning of a part; always followed by [`Token::InsideParts`].
    Parts,
    /// The characters of a part that is passed over.
    InsideParts,
}

impl Glob {
    /// Compiles a pattern. A `[` that is never closed stands for itself, see [`check`].
    pub fn new(pattern: &str) -> Glob {
        Glob::compile(pattern).0
    }

    /// The compiled pattern, and whether each `[` of it was closed.
    fn compile(pattern: &str) -> (Glob, bool) {
        let mut closed = true;
        let letters: Vec<char> = pattern.chars().collect();
        let mut tokens = Vec::new();
        let mut next = 0;
        while let Some(&letter) = letters.get(next) {
            let part_begins = next == 0 || letters.get(next - 1) == Some(&'/');
            let after = |ahead: usize| letters.get(next + ahead).copied();
            match letter {
                '*' if after(1) == Some('*') && after(2) == Some('/') && part_begins => {
                    tokens.extend([Token::Parts, Token::InsideParts]);
                    next += 3;
                }
                '*' if after(1) == Some('*') => {
                    tokens.push(Token::DoubleStar);
                    next += 2;
                }
                '*' => {
                    tokens.push(Token::Star);
                    next += 1;
                }
                '?' => {
                    tokens.push(Token::Any);
                    next += 1;
                }
                '[' => match set(letters.get(next + 1..).unwrap_or_default()) {
                    Some((token, length)) => {
                        tokens.push(token);
                        next += 1 + length;
                    }
                    None => {
                        closed = false;
                        tokens.push(Token::One('['));
                        next += 1;
                    }
                },
                letter => {
                    tokens.push(Token::One(letter));
                    next += 1;
                }
            }
        }
        (Glob { tokens }, closed)
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        self.follow(path.chars()).last().copied().unwrap_or(false)
    }

    /// Whether a path below the directory `dir` could match: `dir` is relative, without a `/` at its end, and empty
    /// for the root.
    pub fn may_match_below(&self, dir: &str) -> bool {
        let slash = if dir.is_empty() { "" } else { "/" };
        let states = self.follow(dir.chars().chain(slash.chars()));
        // The last state is the pattern's end: standing only there, it has no room for another character.
        states.split_last().is_some_and(|(_, inside)| inside.contains(&true))
    }

    /// The states reached: one flag for each token that may be next, and a last one for the end of the pattern.
    fn follow(&self, letters: impl Iterator<Item = char>) -> Vec<bool> {
        let mut states = vec![false; self.tokens.len() + 1];
        if let Some(first) = states.first_mut() {
            *first = true;
        }
        self.pass_empty(&mut states);
        let mut reached = states.clone();
        for letter in letters {
            reached.fill(false);
            for (index, token) in self.tokens.iter().enumerate() {
                if !states.get(index).copied().unwrap_or(false) {
                    continue;
                }
                let target = match token {
                    Token::One(one) => (*one == letter).then_some(index + 1),
                    Token::Any => (letter != '/').then_some(index + 1),
                    Token::Set(negated, ranges) => {
                        let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter));
                        (letter != '/' && inside != *negated).then_some(index + 1)
                    }
                    Token::Star => (letter != '/').then_some(index),
                    Token::DoubleStar => Some(index),
                    Token::Parts => None,
                    Token::InsideParts => Some(if letter == '/' { index - 1 } else { index }),
                };
                if let Some(state) = target.and_then(|target| reached.get_mut(target)) {
                    *state = true;
                }
            }
            if !reached.contains(&true) {
                return reached;
            }
            self.pass_empty(&mut reached);
            core::mem::swap(&mut states, &mut reached);
        }
        states
    }

    /// Adds the states that are reached without a character. One pass is enough: it only leads forward.
    fn pass_empty(&self, states: &mut [bool]) {
        for (index, token) in self.tokens.iter().enumerate() {
            if !states.get(index).copied().unwrap_or(false) {
                continue;
            }
            let targets: &[usize] = match token {
                Token::Star | Token::DoubleStar => &[index + 1],
                Token::Parts => &[index + 1, index + 2],
                _ => &[],
            };
            for target in targets {
                if let Some(state) = states.get_mut(*target) {
                    *state = true;
                }
            }
        }
    }
}

/// A set and the length of what follows its `[`, if it is closed.
fn set(letters: &[char]) -> Option<(Token, usize)> {
    let negated = matches!(letters.first(), Some('!' | '^'));
    let start = usize::from(negated);
    let mut ranges = Vec::new();
    let mut next = start;
    loop {
        let low = *letters.get(next)?;
        // As in the shell, a `]` that comes first is a member of the set.
        if low == ']' && next > start {
            return Some((Token::Set(negated, ranges), next + 1));
        }
        match (letters.get(next + 1), letters.get(next + 2)) {
            (Some('-'), Some(&high)) if high != ']' => {
                ranges.push((low, high));
                next += 3;
            }
            _ => {
                ranges.push((low, low));
                next += 1;
            }
        }
    }
}

/// Checks a pattern that is to be kept.
///
/// # Errors
/// What a pattern is expected to be.
pub fn check(pattern: &str) -> Result<(), &'static str> {
    if pattern.is_empty() || pattern.len() > PATTERN_MAX {
        return Err("a glob of 1 to 1024 bytes");
    }
    if pattern.chars().any(char::is_control) {
        return Err("a glob without control characters");
    }
    if !Glob::compile(pattern).1 {
        return Err("a `]` for each `[` of the glob");
    }
    Ok(())
}

/// Whether the whole of `path` matches `pattern`.
pub fn matches(pattern: &str, path: &str) -> bool {
    Glob::new(pattern).matches(path)
}

/// Whether a path below the directory `dir` (relative, empty for the root) could match `pattern`.
pub fn prefix_possible(pattern: &str, dir: &str) -> bool {
    Glob::new(pattern).may_match_below(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path) in [
            ("build/*.deb", "build/sai-1.deb"),
            ("build/*.deb", "build/.deb"),
            ("build/sai-*.rpm", "build/sai-.rpm"),
            ("**", "a/b/c"),
            ("**/x", "x"),
            ("**/x", "a/b/x"),
            ("a/**/x", "a/x"),
            ("a/**/x", "a/b/c/x"),
            ("a/**", "a/b/c"),
            ("a**z", "a/b/z"),
            ("?.txt", "é.txt"),
            ("[abc]x", "bx"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]x", "]x"),
            ("[a-]", "-"),
            ("a[", "a["),
            ("release/*", "release/1.0"),
            ("main", "main"),
            ("*", "main"),
        ] {
            assert!(matches(pattern, path), "{pattern} matches {path}");
        }
        for (pattern, path) in [
            ("build/*.deb", "build/a/b.deb"),
            ("build/*.deb", "xbuild/a.deb"),
            ("*", "feature/x"),
            ("?", "/"),
            ("[!a]", "/"),
            ("**/x", "ax"),
            ("a/**/x", "ax"),
            ("a/**/x", "a/bx"),
            ("a/**", "a"),
            ("main", "main2"),
            ("main", "mai"),
            ("", "a"),
            ("[a-c]x", "dx"),
        ] {
            assert!(!matches(pattern, path), "{pattern} does not match {path}");
        }
    }

    #[test]
    fn walks_are_pruned() {
        for (pattern, dir) in [
            ("build/*.deb", ""),
            ("build/*.deb", "build"),
            ("**/x", "a/b"),
            ("a/**", "a/b"),
            ("a/*/c", "a/b"),
            ("*/x", "q"),
        ] {
            assert!(prefix_possible(pattern, dir), "{pattern} below {dir}");
        }
        for (pattern, dir) in
            [("build/*.deb", "src"), ("build/*.deb", "build/a"), ("x", "x"), ("a/*/c", "a/b/c"), ("", "")]
        {
            assert!(!prefix_possible(pattern, dir), "{pattern} below {dir}");
        }
    }

    #[test]
    fn no_pattern_backtracks() {
        let pattern = "*a**b/".repeat(100);
        assert!(!matches(&pattern, &"a".repeat(4096)));
        assert!(!matches(&"[".repeat(PATTERN_MAX), &"a".repeat(4096)));
    }

    #[test]
    fn kept_patterns_are_checked() {
        assert!(check("build/*.[ch]").is_ok() && check("[]a]").is_ok() && check("[[]").is_ok());
        for pattern in ["", "a\n", "a[", "[]", "[a]/[b", "\0"] {
            assert!(check(pattern).is_err(), "{pattern:?}");
        }
        assert!(check(&"a".repeat(PATTERN_MAX + 1)).is_err());
    }
}
