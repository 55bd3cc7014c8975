//! The reference of the saifile → held to what is read: each key that it names does something, as its example says.

use sai_core::keys::Key;
use sai_core::repo_spec::keys::{CONFIGURATION, FILE, PLATFORM, saifile_reference};
use sai_core::repo_spec::{self, RepoSpec};

/// A file with something more in a section.
fn file(platform: &str, configuration: &str) -> String {
    let build = if platform.contains("\"build\"") { "" } else { "\"build\": \"make ${cmake} ${cpack} ${prep}\", " };
    let artifacts = if configuration.contains("\"artifacts\"") { "" } else { "\"artifacts\": \"fw.bin\", " };
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-debian-12\": {{{build}{}}}}}, \"configurations\": {{\"base\": \
         {{\"artifacts\": \"fw.bin\"}}, \"a\": {{{artifacts}{}}}}}}}",
        platform.trim_end_matches(", "),
        configuration.trim_end_matches(", ")
    )
    .replace(", }", "}")
}

fn read(text: &str) -> (RepoSpec, Vec<String>) {
    match repo_spec::read(text.as_bytes()) {
        Ok((spec, warnings)) => (spec, warnings.iter().map(ToString::to_string).collect()),
        Err(errors) => (RepoSpec::default(), errors.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn each_key_of_the_reference_does_something_and_no_other_is_known() {
    let entry = |key: &Key| format!("\"{}\": {}", key.name, key.example);
    let plain = read(&file("", "")).0;
    assert_eq!(plain.configurations.len(), 2);
    for key in PLATFORM {
        let (spec, said) = read(&file(&entry(key), ""));
        assert_eq!(said, Vec::<String>::new(), "{}", key.name);
        assert_ne!(spec.platforms[0], plain.platforms[0], "{}", key.name);
    }
    for key in CONFIGURATION.iter().filter(|key| key.name != "deps") {
        let (spec, said) = read(&file("", &entry(key)));
        assert_eq!(said, Vec::<String>::new(), "{}", key.name);
        assert_ne!(spec.configurations[1], plain.configurations[1], "{}", key.name);
    }
    for key in FILE {
        let without = file("", "").replace(&format!("\"{}\"", key.name), "\"other\"");
        let said = read(&without).1.join("\n");
        assert!(said.contains("other: unknown key, ignored") && said.contains(key.name), "{said}");
    }
    for (text, place) in
        [(file("\"nonsense\": 1", ""), "platforms.linux-debian-12"), (file("", "\"nonsense\": 1"), "configurations.a")]
    {
        let said = read(&text).1;
        assert!(said.len() == 1 && said[0].contains(&format!("{place}.nonsense: unknown key")), "{said:?}");
    }
}

#[test]
fn the_file_of_the_reference_is_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/saifile.md");
    if std::env::var_os("SAI_WRITE_DOCS").is_some() {
        std::fs::write(path, saifile_reference()).expect("the file can be written");
    }
    let found = std::fs::read_to_string(path).expect("the file");
    assert!(found == saifile_reference(), "docs/saifile.md is not the table's; SAI_WRITE_DOCS=1 writes it anew");
}
