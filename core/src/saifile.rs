//! A saifile's bytes and a ref that was pushed → the jobs that it asks for, or what is wrong with it.

use crate::matrix::{self, JobSpec};
use crate::repo_spec;
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
}

/// Reads a saifile for a push to `reference`, whose commit may say that nothing is to be built of it.
pub fn of_push(bytes: &[u8], reference: &str, subject: &str) -> Reading {
    let said = subject.to_lowercase();
    match SKIPS.iter().find(|word| said.contains(**word)) {
        Some(word) => {
            let why = format!("its commit's subject says {word}: nothing of it is built");
            Reading { warnings: vec![why], ..Reading::default() }
        }
        None => read(bytes, reference),
    }
}

/// Reads a saifile for a push to `reference`.
pub fn read(bytes: &[u8], reference: &str) -> Reading {
    let mut reading = Reading::default();
    match repo_spec::read(bytes) {
        Err(errors) => reading.errors = errors.iter().map(|at| format!("{SAIFILE}:{at}")).collect(),
        Ok((spec, warnings)) => {
            reading.warnings = warnings.iter().map(|warning| format!("{SAIFILE}:{warning}")).collect();
            match matrix::expand(&spec, reference) {
                Err(at) => reading.errors.push(format!("{SAIFILE}:{at}")),
                Ok(matrix) => {
                    reading.warnings.extend(matrix.warnings.iter().map(|warning| format!("{SAIFILE}:{warning}")));
                    reading.specs = matrix.jobs;
                }
            }
        }
    }
    reading
}
