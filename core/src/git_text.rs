//! Bytes printed by git → tips, commits and objects.
//!
//! The formats stand in git-ls-remote(1) and git-cat-file(1) (`--batch`). The bytes come from a repository that anyone may
//! have pushed to: names that could not be safely used are left out, texts are made UTF-8 and cut.

use crate::git_names::{check_revision, pushed_ref};
use crate::ref_name;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Longest subject or author kept, in characters: they are shown in one line of a list.
pub const SHOWN_CHARACTERS: usize = 200;

/// A reference and the commit at its tip. An annotated tag is given by the commit it points to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tip {
    /// `refs/heads/…` or `refs/tags/…`, as text (`ref_name`).
    pub reference: String,
    /// The object name, 40 or 64 hexadecimal digits.
    pub revision: String,
}

/// Why a list of tips could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TipsError {
    /// The list is longer than the limit.
    TooMany,
    /// This line, from 1, is none that git prints.
    Line(usize),
}

/// Reads what `git ls-remote` prints: `REVISION<TAB>REFERENCE` lines, `REFERENCE^{}` being the peeled form of the tag above.
/// Other references than branches and tags are left out.
///
/// # Errors
/// [`TipsError`] when there are more than `limit` lines, or a line has another form.
pub fn tips(printed: &[u8], limit: usize) -> Result<Vec<Tip>, TipsError> {
    let mut tips: Vec<Tip> = Vec::new();
    for (index, line) in printed.split(|&b| b == b'\n').filter(|line| !line.is_empty()).enumerate() {
        if index >= limit {
            return Err(TipsError::TooMany);
        }
        let wrong = TipsError::Line(index + 1);
        let tab = line.iter().position(|&b| b == b'\t').ok_or_else(|| wrong.clone())?;
        let (revision, name) = line.split_at(tab);
        let revision = core::str::from_utf8(revision).ok().filter(|text| check_revision(text).is_ok()).ok_or(wrong)?;
        let name = name.get(1..).unwrap_or_default();
        if let Some(peeled) = name.strip_suffix(b"^{}") {
            let peeled = ref_name::text(peeled);
            if let Some(tag) = tips.last_mut().filter(|tip| tip.reference == peeled) {
                tag.revision = revision.to_string();
            }
        } else if let Some(reference) = listed(name) {
            tips.push(Tip { reference, revision: revision.to_string() });
        }
    }
    Ok(tips)
}

/// The text of a name that git has listed, if it is one of a branch or tag.
fn listed(name: &[u8]) -> Option<String> {
    // A plain name would be taken for a branch's.
    if name.starts_with(b"refs/") { pushed_ref(name).ok() } else { None }
}

/// Reads what `git ls-remote --symref REMOTE HEAD` prints: the branch that HEAD stands for, if it stands for one.
pub fn default_branch(printed: &[u8]) -> Option<String> {
    printed.split(|&b| b == b'\n').find_map(|line| {
        let name = line.strip_prefix(b"ref: ")?.strip_suffix(b"\tHEAD")?;
        listed(name)
    })
}

/// One answer of `git cat-file --batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchObject<'a> {
    /// There is no such object.
    Missing,
    /// The object; `content` is shorter than `size` when the bytes end too early.
    Found {
        /// `commit`, `tree`, `blob` or `tag`.
        kind: &'a str,
        /// Its size in bytes.
        size: u64,
        /// Its bytes, as many as there are.
        content: &'a [u8],
    },
}

/// Takes the next answer of `git cat-file --batch` from the front of `printed`; `None` when there is none, or it is cut within
/// its first line.
pub fn next_object<'a>(printed: &mut &'a [u8]) -> Option<BatchObject<'a>> {
    let bytes: &'a [u8] = printed;
    let end = bytes.iter().position(|&b| b == b'\n')?;
    let (line, rest) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let line = core::str::from_utf8(line).ok()?;
    let mut words = line.rsplit(' ');
    let last = words.next()?;
    if last == "missing" {
        *printed = rest;
        return Some(BatchObject::Missing);
    }
    let size: u64 = last.parse().ok()?;
    let kind = words.next()?;
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    let content = rest.get(..wanted).unwrap_or(rest);
    *printed = rest.get(wanted.saturating_add(1)..).unwrap_or(&[]);
    Some(BatchObject::Found { kind, size, content })
}

/// Reads what `git ls-tree -z` prints of one path: the kind of its entry, and the object's name.
pub fn tree_entry(printed: &[u8]) -> Option<(&str, &str)> {
    let tab = printed.iter().position(|&b| b == b'\t')?;
    let mut words = core::str::from_utf8(printed.get(..tab)?).ok()?.split(' ').skip(1);
    let (kind, object) = (words.next()?, words.next()?);
    check_revision(object).ok().map(|()| (kind, object))
}

/// Whether a commit object says that its texts are not UTF-8.
pub fn is_encoded(object: &[u8]) -> bool {
    let head = object.split(|&b| b == b'\n').take_while(|line| !line.is_empty());
    head.filter_map(|line| line.strip_prefix(b"encoding ")).any(|name| !name.eq_ignore_ascii_case(b"utf-8"))
}

/// Reads what `git log --format=%an%x00%s` prints of one commit.
pub fn author_and_subject(printed: &[u8]) -> Option<(String, String)> {
    let mut texts = printed.split(|&b| b == 0);
    Some((shown(texts.next()?), shown(texts.next()?)))
}

/// What is shown of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The first line of its message, at most [`SHOWN_CHARACTERS`].
    pub subject: String,
    /// The author's name without the address, at most [`SHOWN_CHARACTERS`].
    pub author: String,
    /// When it was committed, in seconds since 1970; 0 if the commit does not say.
    pub committed_s: i64,
}

/// Reads a commit object. Whatever it lacks stays empty: a commit is never refused for its texts.
pub fn commit(object: &[u8]) -> Commit {
    let mut commit = Commit { subject: String::new(), author: String::new(), committed_s: 0 };
    let mut lines = object.split(|&b| b == b'\n');
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        if let Some(author) = line.strip_prefix(b"author ") {
            let name = author.split(|&b| b == b'<').next().unwrap_or(author);
            commit.author = shown(name);
        } else if let Some(committer) = line.strip_prefix(b"committer ") {
            let after =
                committer.iter().rposition(|&b| b == b'>').and_then(|at| committer.get(at + 1..)).unwrap_or(&[]);
            let seconds = core::str::from_utf8(after).ok().and_then(|text| text.split_ascii_whitespace().next());
            commit.committed_s = seconds.and_then(|text| text.parse().ok()).unwrap_or(0);
        }
    }
    commit.subject = lines.map(shown).find(|line| !line.is_empty()).unwrap_or_default();
    commit
}

/// A line as people may see it: UTF-8, without control characters or the marks that reverse the direction of text, cut.
fn shown(line: &[u8]) -> String {
    let cut = line.get(..SHOWN_CHARACTERS * 4).unwrap_or(line);
    let text = String::from_utf8_lossy(cut);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !reverses(*c)).collect();
    let text = text.trim();
    if text.chars().count() > SHOWN_CHARACTERS || cut.len() < line.len() {
        let kept: String = text.chars().take(SHOWN_CHARACTERS - 1).collect();
        return format!("{kept}…");
    }
    text.to_string()
}

/// Whether a character is one of Unicode's directional embeddings, overrides or isolates (UAX #9, 2.1 to 2.5).
fn reverses(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn tip(reference: &str, revision: &str) -> Tip {
        Tip { reference: reference.to_string(), revision: revision.to_string() }
    }

    #[test]
    fn tips_are_read_and_tags_peeled() {
        let printed = format!(
            "{A}\tHEAD\n{A}\trefs/heads/main\n{A}\trefs/heads/a..b\n{A}\trefs/pull/1/head\n{A}\trefs/tags/v1\n{B}\trefs/tags/v1^{{}}\n{A}\trefs/tags/v2\n"
        );
        assert_eq!(
            tips(printed.as_bytes(), 100),
            Ok(vec![tip("refs/heads/main", A), tip("refs/tags/v1", B), tip("refs/tags/v2", A)])
        );
        assert_eq!(tips(b"", 1), Ok(vec![]));
        assert_eq!(tips(format!("{B}\trefs/tags/v1^{{}}\n").as_bytes(), 9), Ok(vec![]));
    }

    #[test]
    fn lists_of_another_form_are_refused() {
        let line = format!("{A}\trefs/heads/x\n");
        assert_eq!(tips(line.repeat(3).as_bytes(), 2), Err(TipsError::TooMany));
        assert_eq!(tips(format!("{line}warning: x\n").as_bytes(), 9), Err(TipsError::Line(2)));
        assert_eq!(tips(b"abc\trefs/heads/x\n", 9), Err(TipsError::Line(1)));
        assert_eq!(tips(&[A.as_bytes(), b"\trefs/heads/\xff\n"].concat(), 9), Ok(vec![tip("refs/heads/\\xff", A)]));
        assert_eq!(tips(&[A.as_bytes(), b"\trefs/heads/a\\b\n"].concat(), 9), Ok(vec![]));
    }

    #[test]
    fn the_default_branch() {
        let printed = format!("ref: refs/heads/trunk\tHEAD\n{A}\tHEAD\n");
        assert_eq!(default_branch(printed.as_bytes()).as_deref(), Some("refs/heads/trunk"));
        assert_eq!(default_branch(format!("{A}\tHEAD\n").as_bytes()), None);
        assert_eq!(default_branch(b"ref: ../../etc\tHEAD\n"), None);
    }

    #[test]
    fn batch_answers() {
        let printed = format!("{A} blob 3\nx\ny\n{A}:.sai.json missing\n{B} commit 100\nshort");
        let mut rest = printed.as_bytes();
        assert_eq!(next_object(&mut rest), Some(BatchObject::Found { kind: "blob", size: 3, content: b"x\ny" }));
        assert_eq!(next_object(&mut rest), Some(BatchObject::Missing));
        assert_eq!(next_object(&mut rest), Some(BatchObject::Found { kind: "commit", size: 100, content: b"short" }));
        assert_eq!(next_object(&mut rest), None);
        for mut odd in [&b""[..], b"abc", b"abc\n", b"a blob -1\n", b"\xff blob 1\nx\n"] {
            assert_eq!(next_object(&mut odd), None);
        }
        let mut huge = &b"a blob 18446744073709551615\nx"[..];
        assert_eq!(next_object(&mut huge), Some(BatchObject::Found { kind: "blob", size: u64::MAX, content: b"x" }));
    }

    #[test]
    fn an_entry_of_a_tree_and_the_texts_of_an_encoded_commit() {
        let entry = format!("100644 blob {A}\t.sai.json\0");
        assert_eq!(tree_entry(entry.as_bytes()), Some(("blob", A)));
        for odd in ["", "x", "100644 blob\t.sai.json\0", "100644 blob abc\t.sai.json\0"] {
            assert_eq!(tree_entry(odd.as_bytes()), None);
        }
        assert!(is_encoded(b"tree 1\nencoding ISO-8859-1\n\nx"));
        assert!(!is_encoded(b"tree 1\nencoding UTF-8\n\nx") && !is_encoded(b"tree 1\n\nencoding x\n"));
        assert_eq!(author_and_subject(b"Zo\xc3\xab\0A subject\n"), Some(("Zoë".to_string(), "A subject".to_string())));
        assert_eq!(author_and_subject(b"x"), None);
    }

    #[test]
    fn a_commit() {
        let object = b"tree 1\nauthor Zo\xc3\xab <z@x> 1 +0000\ncommitter C <c@x> 1700000000 +0100\ngpgsig a\n b\n\n\nThe subject\n\nauthor no\n";
        assert_eq!(
            commit(object),
            Commit { subject: "The subject".to_string(), author: "Zoë".to_string(), committed_s: 1_700_000_000 }
        );
    }

    #[test]
    fn hostile_commits_are_cut_and_cleaned() {
        let long = [b"author \x1b[31m\xff\n\n".to_vec(), vec![b'x'; 5000]].concat();
        let read = commit(&long);
        assert_eq!(read.author, "[31m\u{fffd}");
        assert_eq!(read.subject.chars().count(), SHOWN_CHARACTERS);
        assert_eq!(commit("\n\u{202e}abc\n".as_bytes()).subject, "abc");
        assert_eq!(commit(b""), Commit { subject: String::new(), author: String::new(), committed_s: 0 });
        assert_eq!(commit(b"committer x> 99999999999999999999 +0\n").committed_s, 0);
    }
}
