//! Saifile bytes → lines for a terminal: what `sai-master lint` and `sai-master matrix` print, without a server.

use sai_core::changed::Changed;
use sai_core::escape;
use sai_core::json::At;
use sai_core::matrix;
use sai_core::repo_spec::{self, RepoSpec, Warning};
use sai_core::saifile;

/// Checks a saifile. The lines are `FILE:LINE:COLUMN: error: …` and `FILE:LINE:COLUMN: warning: …`, in the order of
/// their places; the flag says whether the file can be used, that is whether there is no error.
///
/// The limits on what a push may ask for are checked as if every configuration were built.
pub fn lint(file_name: &str, bytes: &[u8]) -> (Vec<String>, bool) {
    let (spec, warnings) = match repo_spec::read(bytes) {
        Ok(read) => read,
        Err(errors) => return (error_lines(file_name, &errors), false),
    };
    let mut lines = warning_lines(file_name, &warnings);
    match matrix::expand_for_any_ref(&spec) {
        Ok(_) => (lines, true),
        Err(error) => {
            lines.extend(error_lines(file_name, &[error]));
            (lines, false)
        }
    }
}

/// The jobs that a saifile makes for a push.
#[derive(Debug, PartialEq, Eq)]
pub struct Rows {
    /// `PLATFORM<TAB>CONFIGURATION<LF>` for each job, in their order: for standard output, and nothing else there.
    pub rows: String,
    /// `FILE:LINE:COLUMN: warning: …`, for standard error.
    pub warnings: Vec<String>,
}

/// Expands a saifile for a push to `reference`, given as `main` or `refs/heads/main`, that changed these files; of whatever files,
/// if there is none.
///
/// # Errors
/// `FILE:LINE:COLUMN: error: …` for each error of the file.
pub fn matrix(file_name: &str, bytes: &[u8], reference: &str, changed: Vec<String>) -> Result<Rows, Vec<String>> {
    let mut said = Vec::new();
    let expand = |(spec, warnings): (RepoSpec, Vec<Warning>)| {
        let changed = (!changed.is_empty()).then(|| Changed::Files(changed, String::new()));
        match saifile::expand_changed(&spec, reference, changed.as_ref()) {
            Ok((matrix, left_out)) => {
                said.extend(left_out);
                Ok((matrix.jobs, [warnings, matrix.warnings].concat()))
            }
            Err(error) => Err(vec![error]),
        }
    };
    let (jobs, warnings) = repo_spec::read(bytes).and_then(expand).map_err(|errors| error_lines(file_name, &errors))?;
    let rows = jobs
        .iter()
        .map(|job| format!("{}\t{}\n", escape::line(&job.platform), escape::line(&job.configuration)))
        .collect();
    let file = escape::line(file_name);
    let said = said.iter().map(|text| format!("{file}: {}", escape::line(text)));
    Ok(Rows { rows, warnings: warning_lines(file_name, &warnings).into_iter().chain(said).collect() })
}

fn error_lines(file_name: &str, errors: &[At]) -> Vec<String> {
    let file = escape::line(file_name);
    let line = |error: &At| {
        format!("{file}:{}:{}: error: {}", error.line, error.column, escape::line(&error.message().to_string()))
    };
    errors.iter().map(line).collect()
}

fn warning_lines(file_name: &str, warnings: &[Warning]) -> Vec<String> {
    let file = escape::line(file_name);
    let line = |warning: &Warning| {
        format!("{file}:{}:{}: warning: {}", warning.line, warning.column, escape::line(&warning.text))
    };
    warnings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &[u8] = include_bytes!("../../tests/fixtures/saifiles/lws-1e967537a.sai.json");

    #[test]
    fn real_file() {
        assert_eq!(lint(".sai.json", REAL), (vec![], true));
        let main = matrix(".sai.json", REAL, "refs/heads/main", Vec::new()).unwrap();
        assert_eq!((main.rows.lines().count(), main.warnings.len()), (329, 0));
        assert!(main.rows.starts_with("rocky9/aarch64-a72a55-rk3588/gcc\tdefault\n"));
        assert_eq!(matrix(".sai.json", REAL, "coverity", Vec::new()).unwrap().rows.lines().count(), 330);
        let ignored = matrix(".sai.json", REAL, "_x", Vec::new()).unwrap();
        assert_eq!((ignored.rows.as_str(), ignored.warnings.len()), ("", 1));
    }

    #[test]
    fn wrong_files() {
        let wrong = b"{\"platforms\": {\"p\": {\"build\": 1}},\n \"configurations\": []}";
        let lines = vec![
            "a/b.json:1:31: error: platforms.p.build: expected text or an array of texts".to_owned(),
            "a/b.json:2:20: error: configurations: expected an object of configurations by name".to_owned(),
        ];
        assert_eq!(lint("a/b.json", wrong), (lines.clone(), false));
        assert_eq!(matrix("a/b.json", wrong, "main", Vec::new()), Err(lines));
        assert_eq!(lint("f", b"{,}").0, ["f:1:2: error: expected a key in double quotes, found `,`"]);
    }

    #[test]
    fn limits_are_checked_for_configurations_of_other_branches_too() {
        let value = "v".repeat(60_000);
        let file = format!(
            r#"{{"schema": "sai-1", "platforms": {{"p": {{"build": "${{x}}${{x}}"}}}},
            "configurations": {{"c": {{"branches": "never", "x": "{value}", "y": ""}}}}}}"#
        );
        let (lines, usable) = lint("f", file.as_bytes());
        assert!(!usable);
        assert!(lines[0].starts_with("f:2:") && lines[0].contains(": warning: configurations.c.y: unknown key"));
        assert!(lines[1].starts_with("f:2:32: error: configurations.c: expected steps of at most"), "{}", lines[1]);
        assert_eq!(matrix("f", file.as_bytes(), "main", Vec::new()).unwrap().rows, "");
    }
}
