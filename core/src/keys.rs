//! Keys of a file, by section → which are known, and the reference that people read.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A key that a section of a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value is, in words.
    pub value: &'static str,
    /// What counts without it, in words; empty where that is nothing.
    pub without: &'static str,
    /// What it is for: sentences.
    pub what: &'static str,
    /// A value that it may have, as JSON; empty where an example of the whole section says it.
    pub example: &'static str,
}

impl Key {
    /// A key: its name, its value, what counts without it, what it is for, and an example.
    pub const fn new(
        name: &'static str,
        value: &'static str,
        without: &'static str,
        what: &'static str,
        example: &'static str,
    ) -> Self {
        Self { name, value, without, what, example }
    }
}

/// A section of a file.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its path, `NAME` standing for what a user names.
    pub path: &'static str,
    /// What it is: sentences.
    pub what: &'static str,
    /// The keys that it may have.
    pub keys: &'static [Key],
}

/// Whether a section may have a key.
pub fn has(keys: &[Key], name: &str) -> bool {
    keys.iter().any(|key| key.name == name)
}

/// The names of keys.
pub fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

/// The reference of a file, as Markdown.
pub fn reference(title: &str, head: &str, parts: &[Part]) -> String {
    let mut text = format!("# {title}\n\n{head}\n");
    for part in parts {
        text += &format!("\n## `{}`\n\n{}\n", part.path, part.what);
        for key in part.keys {
            let without = if key.without.is_empty() { String::new() } else { format!("; without it: {}", key.without) };
            text += &format!("\n**`{}`**: {}{without}. {}\n", key.name, key.value, key.what);
            if !key.example.is_empty() {
                text += &format!("\n    \"{}\": {}\n", key.name, key.example);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_each_key_with_its_example() {
        let keys = &[
            Key { name: "a", value: "text", without: "b", what: "Does it.", example: "\"c\"" },
            Key { name: "d", value: "a number", without: "", what: "Counts.", example: "" },
        ];
        assert_eq!(
            reference("A file", "It is one.", &[Part { path: "x.NAME", what: "A part.", keys }]),
            "# A file\n\nIt is one.\n\n## `x.NAME`\n\nA part.\n\n**`a`**: text; without it: b. Does it.\n\n    \"a\": \"c\"\n\n\
             **`d`**: a number. Counts.\n"
        );
        assert!(has(keys, "a") && !has(keys, "c"));
        assert_eq!(names(keys), ["a", "d"]);
    }
}
