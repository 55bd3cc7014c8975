//! A saifile's bytes and a ref that was pushed → the jobs that it asks for, or what is wrong with it.

use crate::changed::{self, Changed};
use crate::json::At;
use crate::matrix::{self, JobSpec, Matrix, Wanted};
use crate::repo_spec::{self, RepoSpec};
use crate::start::Start;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Name of the saifile, in repositories and in messages.
pub const SAIFILE: &str = ".sai.json";

/// What a commit's subject says, in any case, when nothing is to be built of it.
const SKIPS: [&str; 2] = ["[skip ci]", "[ci skip]"];

/// What a saifile asks for, or what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The jobs, in order.
    pub specs: Vec<JobSpec>,
    /// Why there are none: lines as `FILE:LINE:COLUMN: …` or sentences.
    pub errors: Vec<String>,
    /// What was odd.
    pub warnings: Vec<String>,
    /// Configurations that are not built although the ref's are, as no file of their `paths` has changed.
    pub left_out: Vec<String>,
}

/// Whether a saifile asks which files a push to `reference` changed.
pub fn asks_what_changed(bytes: &[u8], subject: &str) -> bool {
    let spec = || repo_spec::read(bytes).ok().map(|(spec, _)| spec);
    skips(subject).is_none()
        && spec().is_some_and(|spec| spec.configurations.iter().any(|configuration| !configuration.paths.is_empty()))
}

/// Reads a saifile for a push to `reference`, whose commit may say that nothing is to be built of it; `changed` is there where
/// it [`asks_what_changed`].
pub fn of_push(bytes: &[u8], reference: &str, subject: &str, changed: Option<&Changed>) -> Reading {
    if let Some(word) = skips(subject) {
        let why = format!("its commit's subject says {word}: nothing of it is built");
        return Reading { warnings: vec![why], ..Reading::default() };
    }
    let mut said = None;
    let mut reading = expand(bytes, |spec| {
        let (matrix, left_out) = expand_changed(spec, reference, changed)?;
        said = left_out;
        Ok(matrix)
    });
    reading.warnings.extend(said);
    reading
}

/// The jobs for a push to `reference`, of what it changed where that is said, and what is to be told of that.
///
/// # Errors
/// As [`matrix::expand`].
pub fn expand_changed(
    spec: &RepoSpec,
    reference: &str,
    changed: Option<&Changed>,
) -> Result<(Matrix, Option<String>), At> {
    let Some(changed) = changed else { return Ok((matrix::expand(spec, reference)?, None)) };
    let globs = spec.configurations.iter().flat_map(|configuration| &configuration.paths);
    let names = changed::usable(changed, SAIFILE, globs.map(String::len).sum());
    let wanted = names.as_ref().map_or(Wanted::All, |names| Wanted::Changed(names));
    let matrix = matrix::expand_wanted(spec, reference, wanted)?;
    let said = match names {
        Err(why) => Some(format!("built whatever its `paths` say: {why}")),
        Ok(_) if matrix.unwanted.is_empty() => None,
        Ok(_) => Some(changed::left_out(&matrix.unwanted, changed)),
    };
    Ok((matrix, said))
}

/// The word of a commit's subject that says that nothing is to be built of it.
fn skips(subject: &str) -> Option<&'static str> {
    let said = subject.to_lowercase();
    SKIPS.into_iter().find(|word| said.contains(word))
}

/// Reads a saifile for what somebody starts on `reference`.
pub fn of_start(bytes: &[u8], reference: &str, start: &Start) -> Reading {
    let mut reading = expand(bytes, |spec| {
        start.check(spec)?;
        matrix::expand_wanted(spec, reference, Wanted::Started(start))
    });
    if reading.specs.is_empty() && reading.errors.is_empty() {
        reading.errors.push(format!("{SAIFILE} makes no such job for {reference}"));
    }
    reading
}

/// Reads a saifile for a push to `reference`.
pub fn read(bytes: &[u8], reference: &str) -> Reading {
    expand(bytes, |spec| matrix::expand(spec, reference))
}

fn expand(bytes: &[u8], jobs: impl FnOnce(&RepoSpec) -> Result<Matrix, At>) -> Reading {
    let mut reading = Reading::default();
    match repo_spec::read(bytes) {
        Err(errors) => reading.errors = errors.iter().map(|at| format!("{SAIFILE}:{at}")).collect(),
        Ok((spec, warnings)) => {
            reading.warnings = warnings.iter().map(|warning| format!("{SAIFILE}:{warning}")).collect();
            match jobs(&spec) {
                Err(at) => reading.errors.push(format!("{SAIFILE}:{at}")),
                Ok(matrix) => {
                    reading.warnings.extend(matrix.warnings.iter().map(|warning| format!("{SAIFILE}:{warning}")));
                    (reading.specs, reading.left_out) = (matrix.jobs, matrix.unwanted);
                }
            }
        }
    }
    reading
}
