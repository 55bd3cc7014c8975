//! Attempt + digest → a file that this attempt was promised, for the agent that has it: over https, and to the built-in one. Attempt 0
//! of job 0, which is none, stands for the image that an agent's card is to have.
//!
//! The token opens nothing but what an assignment names that its agent holds now; whatever else is asked for is answered
//! as if it were not there. The address names the attempt, so that one record is all that has to be read.

use crate::agents::{NoToken, Tokens};
use crate::http::{FAILED_HEADER, Request, Response};
use crate::page::archive::Archive;
use crate::page::whole::Whole;
use crate::store::Reader;
use crate::updates;
use crate::uploads::Uploads;
use sai_core::job::{EventId, JobKey, JobState};
use sai_core::ledger::JobRecord;
use sai_core::record::Artifact;
use sai_core::wire::REVOKED;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where files are asked for: `JOB/ATTEMPT/SHA256` follows.
pub const PLACE: &str = "/agent/v1/files/";

/// Bytes of the largest file that is read as a whole when an agent says that it got something else before: some tenths of a
/// second. What is wrong with a larger one is found out by the agent alone.
const COMPARED_BYTES: u64 = 256 << 20;

/// What is said of all that is not for who asks.
const NOTHING: &str = "there is no such file for this agent";

/// Answers an agent.
pub fn respond(tokens: &Tokens, archive: &dyn Archive, state: &Path, uploads: &Uploads, request: &Request) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Response::text(405, "this address takes GET, HEAD").with("allow", "GET, HEAD");
    }
    let authorization = request.header("authorization").and_then(|value| value.split_once(' '));
    let token =
        authorization.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let agent = match token.map(|token| tokens.agent(token)) {
        Some(Ok(agent)) => agent,
        refused => {
            let words = match refused {
                None => "authorization: Bearer TOKEN is expected".to_string(),
                Some(Err(NoToken::Revoked)) => format!("{REVOKED}this agent's token was revoked"),
                _ => "this token opens nothing here".to_string(),
            };
            return Response::text(401, words).with("www-authenticate", "Bearer").with(FAILED_HEADER, "agent");
        }
    };
    let Some((key, sha256)) = asked(&request.path) else { return Response::text(404, NOTHING) };
    // No job has this number.
    if key.job == 0 {
        let image = updates::respond(state, &archive.agents(), &agent, sha256, request);
        return image.unwrap_or_else(|| Response::text(404, NOTHING));
    }
    let file = |file: File| {
        let tag = format!("\"{sha256}\"");
        Response::file(request, file, "application/octet-stream", Some(&tag))
            .map(|response| response.with("cache-control", "no-store"))
            .unwrap_or_else(|error| Response::text(500, format!("the file cannot be read: {error}")))
    };
    if let Some(event) = sent(archive, &agent, key, sha256) {
        return match archive.bundle(event) {
            Ok(bundle) => file(bundle),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Response::text(410, format!("what was sent for event {event} was deleted"))
            }
            Err(error) => Response::text(500, format!("the file cannot be read: {error}")),
        };
    }
    if let Some(image) = image(archive, uploads, &agent, key, sha256) {
        return File::open(image)
            .map_or_else(|error| Response::text(500, format!("the file cannot be read: {error}")), file);
    }
    let Some((of, artifact)) = promised(archive, &agent, key, sha256) else { return Response::text(404, NOTHING) };
    let gone = |why: String| Response::text(410, format!("{:?} of attempt {of}: {why}", artifact.path));
    match open(archive, of, &artifact, request.query == "again") {
        Ok(opened) => file(opened),
        Err(error) if error.kind() == ErrorKind::NotFound => gone("the file was deleted".to_string()),
        Err(error) if error.kind() == ErrorKind::InvalidData => gone(error.to_string()),
        Err(error) => Response::text(500, format!("the file cannot be read: {error}")),
    }
}

/// Where a file is that the built-in agent wants.
///
/// # Errors
/// Why it cannot have it.
pub fn here(reader: &Reader, uploads: &Uploads, agent: &str, key: JobKey, sha256: &str) -> Result<PathBuf, String> {
    if let Some(event) = sent(reader, agent, key, sha256) {
        return Ok(reader.bundle_path(event));
    }
    if let Some(image) = image(reader, uploads, agent, key, sha256) {
        return Ok(image);
    }
    let (of, artifact) = promised(reader, agent, key, sha256).ok_or(NOTHING)?;
    match open(reader, of, &artifact, false) {
        Ok(_) => Ok(reader.artifact_path(of, artifact.stream)),
        Err(error) => Err(format!("{:?} of attempt {of}: {error}", artifact.path)),
    }
}

/// The attempt and the digest that a path names.
fn asked(path: &str) -> Option<(JobKey, &str)> {
    let mut parts = path.strip_prefix(PLACE)?.split('/');
    let mut number = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let (job, attempt) = (number()?.parse().ok()?, number()?.parse().ok()?);
    let sha256 = parts.next().filter(|text| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    parts.next().is_none().then_some((JobKey { job, attempt }, sha256))
}

/// The record of a job, if this agent holds this attempt of it.
fn held(archive: &dyn Archive, agent: &str, key: JobKey) -> Option<JobRecord> {
    let held =
        |job: &JobRecord| matches!(job.state, JobState::Assigned | JobState::Running) && job.attempt == key.attempt;
    archive.job(key.job).filter(|job| held(job) && job.agent.as_deref() == Some(agent))
}

/// The event for which somebody has sent what has this digest, if this agent holds an attempt that builds it.
fn sent(archive: &dyn Archive, agent: &str, key: JobKey, sha256: &str) -> Option<EventId> {
    let job = held(archive, agent, key)?;
    job.bundle.as_ref().filter(|bundle| bundle.sha256.eq_ignore_ascii_case(sha256)).map(|_| job.event)
}

/// Where an image is that a person has sent for the board that a job of theirs has, if this agent holds that attempt.
fn image(archive: &dyn Archive, uploads: &Uploads, agent: &str, key: JobKey, sha256: &str) -> Option<PathBuf> {
    let job = held(archive, agent, key).filter(|job| job.lease.is_some())?;
    uploads.find(&job.person?, Some(key.job), sha256).ok().map(|(path, _)| path)
}

/// The attempt that kept the file with this digest, and what is on record of it, if this agent holds an attempt that needs it.
fn promised(archive: &dyn Archive, agent: &str, key: JobKey, sha256: &str) -> Option<(JobKey, Artifact)> {
    let job = held(archive, agent, key)?;
    job.needs.iter().flatten().find_map(|needed| {
        let of = JobKey { job: needed.job, attempt: needed.attempt? };
        let artifact = needed.artifacts.iter().find(|artifact| artifact.sha256.eq_ignore_ascii_case(sha256))?;
        Some((of, artifact.clone()))
    })
}

/// Opens a file that has the length on record, and also its digest if it is to be `compared`.
fn open(archive: &dyn Archive, of: JobKey, artifact: &Artifact, compared: bool) -> io::Result<File> {
    let file = archive.artifact(of, artifact.stream)?;
    let mut whole = Whole::new(file.try_clone()?, artifact)?;
    if compared && artifact.size <= COMPARED_BYTES {
        io::copy(&mut whole, &mut io::sink())?;
    }
    // What was read was read by the same open file.
    archive.artifact(of, artifact.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_an_attempt_and_a_digest_or_nothing() {
        let digest = "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789";
        let path = |rest: &str| format!("{PLACE}{rest}");
        assert_eq!(asked(&path(&format!("7/2/{digest}"))), Some((JobKey { job: 7, attempt: 2 }, digest)));
        for wrong in [
            format!("7/2/{digest}/"),
            format!("7/2/{digest}/.."),
            format!("7/2/../{digest}"),
            format!("/7/2/{digest}"),
            format!("7/{digest}"),
            format!("+7/2/{digest}"),
            format!("-7/2/{digest}"),
            format!("7/2/{}", &digest[1..]),
            format!("7/2/{}g", &digest[1..]),
            format!("7/2/{}%2f", &digest[3..]),
            format!("99999999999999999999999/2/{digest}"),
            "7/2/../../../../etc/passwd".to_string(),
            String::new(),
        ] {
            assert_eq!(asked(&path(&wrong)), None, "{wrong}");
        }
        assert_eq!(asked(&format!("/agent/v2/files/7/2/{digest}")), None);
    }
}
