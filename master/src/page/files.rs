//! Address of an attempt's log or file → its bytes, and what keeps a browser from trusting them.

use super::archive::StoredLog;
use super::cases;
use super::console::Console;
use super::made::{self, Made, Maker};
use super::raw_text::RawText;
use super::route::field;
use super::tarball::{self, Tarball};
use super::timeline::Timeline;
use super::views::JobView;
use super::waveform::Asked;
use super::whole::Whole;
use super::{Answer, SANDBOX, SHOWN, artifact_list, html, waveform_html};
use crate::http::range::{Selection, select};
use crate::http::{Body, Response};
use sai_core::job::{JobId, JobKey};
use sai_core::record::Artifact;
use sai_core::vcd::Dump;
use std::io;

impl Answer<'_> {
    /// What is wrong with a log that ended longer than it is now.
    pub(super) fn cut(&self, view: &JobView, length: u64) -> Option<String> {
        let recorded = view.job.log_bytes;
        let ended = view.job.state.ended() && view.current() && recorded > 0;
        (ended && length != recorded)
            .then(|| format!("The log is damaged: {length} bytes are there of {recorded}. What is left is in `logs/` of the master's state."))
    }

    /// Opens an attempt's log and answers with it.
    pub(super) fn stored(
        &self,
        id: JobId,
        attempt: Option<u32>,
        answer: impl FnOnce(JobKey, StoredLog) -> io::Result<Response>,
    ) -> Response {
        match self.read_log(id, attempt, answer) {
            Ok(response) => response,
            Err(None) => self.unknown(),
            Err(Some(why)) => self.error(500, &why),
        }
    }

    /// The same with why there is no answer, for people; `None` where there is no such log.
    pub(super) fn read_log(
        &self,
        id: JobId,
        attempt: Option<u32>,
        answer: impl FnOnce(JobKey, StoredLog) -> io::Result<Response>,
    ) -> Result<Response, Option<String>> {
        let view = self.library.job(id, attempt).ok_or(None)?;
        // While the next attempt is only queued, what there is to read is the last one's.
        let key = JobKey { job: id, attempt: attempt.unwrap_or(view.job.attempt) };
        let state = if view.live() { view.job.state.word() } else { "ended" };
        let log = self.library.archive.log(key);
        if let Some(why) = log.as_ref().ok().filter(|_| view.key() == key).and_then(|log| self.cut(&view, log.length)) {
            return Err(Some(why));
        }
        match log.and_then(|log| answer(key, log)) {
            Ok(response) => Ok(response.with("sai-state", state)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(None),
            Err(error) => Err(Some(format!("The log cannot be read: {error}."))),
        }
    }

    /// The log as it is stored, or a part of it: who follows it asks for what is behind the last byte.
    pub(super) fn records(&self, key: JobKey, log: StoredLog) -> io::Result<Response> {
        let whole = log.length;
        let (status, offset, length, range) = match select(self.request.header("range"), whole) {
            Selection::Whole => (200, 0, whole, None),
            Selection::Part { offset, length } => {
                (206, offset, length, Some(format!("bytes {offset}-{}/{whole}", offset + length - 1)))
            }
            Selection::Unsatisfiable => {
                let refusal = Response::text(416, format!("the log has {whole} bytes"));
                return Ok(refusal.with("content-range", format!("bytes */{whole}")));
            }
        };
        let reader = if offset > 0 { self.library.archive.log_from(key, offset)?.reader } else { log.reader };
        let body = Body::Reader { reader: Box::new(io::Read::take(reader, length)), length };
        let response = Response { body, ..Response::empty(status) }.with("accept-ranges", "bytes");
        let response = match range {
            Some(range) => response.with("content-range", range),
            None => response,
        };
        Ok(download(&format!("job-{key}.records"), response))
    }

    /// The output alone, from a byte of it on. It is read once to know its length, and again to send it.
    pub(super) fn raw(&self, key: JobKey, mut log: StoredLog, from: u64) -> io::Result<Response> {
        let length = RawText::measure(&mut log.reader)?.saturating_sub(from);
        let again = self.library.archive.log(key)?;
        let reader = io::Read::take(RawText::new(again.reader, from), length);
        let body = Body::Reader { reader: Box::new(reader), length };
        Ok(Response { body, ..Response::bytes(200, "text/plain; charset=utf-8", "") }
            .with("content-disposition", format!("inline; filename=\"job-{key}.txt\""))
            .with("content-security-policy", SANDBOX)
            .with("x-content-type-options", "nosniff")
            .with("cache-control", "private, no-cache"))
    }

    /// A file that is made of the log: once to know its length, and again while it is sent.
    fn made<M: Maker + 'static>(
        &self,
        key: JobKey,
        log: StoredLog,
        name: &str,
        make: impl Fn() -> (Vec<u8>, M),
        fits: impl FnOnce(&M) -> bool,
    ) -> io::Result<Response> {
        let made = |reader, (head, maker)| Made::new(Box::new(io::Read::take(reader, log.length)), head, maker);
        let (length, maker) = made(log.reader, make()).measure()?;
        if !fits(&maker) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let again = made(self.library.archive.log(key)?.reader, make());
        let body = Body::Reader { reader: Box::new(again), length };
        Ok(download(name, Response { body, ..Response::empty(200) }))
    }

    /// The bytes of a board's console.
    pub(super) fn console(&self, id: JobId, attempt: Option<u32>, name: &str) -> Response {
        self.stored(id, attempt, |key, log| {
            let make = || (Vec::new(), Console::new(name));
            self.made(key, log, &format!("job-{key}-{name}.log"), make, Console::is_there)
        })
    }

    /// All that happened.
    pub(super) fn timeline(&self, id: JobId, attempt: Option<u32>) -> Response {
        // Of an earlier attempt it is not on record.
        let job = self.library.archive.job(id);
        let clock = |key: JobKey| job.as_ref().filter(|job| job.attempt == key.attempt).and_then(|job| job.clock);
        self.stored(id, attempt, |key, log| {
            self.made(key, log, &format!("job-{key}-timeline.json"), || Timeline::new(key, clock(key)), |_| true)
        })
    }

    /// A board's lines, drawn: the page of them alone.
    pub(super) fn waveform(&self, id: JobId, attempt: Option<u32>) -> Response {
        let Some(view) = self.library.job(id, attempt) else { return self.unknown() };
        match self.library.wave(view.key(), Asked::of(&self.request.query)) {
            Ok(wave) => self.html(200, waveform_html::page(&view, wave.as_ref(), &self.visitor)),
            Err(error) => self.error(500, &format!("The log cannot be read: {error}.")),
        }
    }

    /// A board's lines as other programs read them.
    pub(super) fn dump(&self, id: JobId, attempt: Option<u32>) -> Response {
        self.stored(id, attempt, |key, log| {
            let channels = made::channels(Box::new(io::Read::take(self.library.archive.log(key)?.reader, log.length)))?;
            let Some(first) = Dump::new(&channels) else { return Err(io::ErrorKind::NotFound.into()) };
            let make = || Dump::new(&channels).unwrap_or_else(|| first.clone());
            self.made(key, log, &format!("job-{key}.vcd"), make, |_| true)
        })
    }

    /// A file of an attempt: saved, or shown where a browser can without trusting it.
    pub(super) fn artifact(&self, id: JobId, attempt: Option<u32>, stream: u16, shown: bool) -> Response {
        let Some(view) = self.library.job(id, attempt) else { return self.unknown() };
        let view = self.library.with_past(view);
        let known = view.artifacts().iter().find(|artifact| artifact.stream == stream);
        let key = view.key();
        let tag = known.map(|artifact| format!("\"{}\"", artifact.sha256));
        let name = known.and_then(|artifact| artifact.path.rsplit('/').next()).unwrap_or("artifact");
        let file = match self.library.archive.artifact(key, stream) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.unknown(),
            Err(error) => return self.error(500, &format!("The file cannot be read: {error}.")),
        };
        let kind = artifact_list::shown_as(name).filter(|_| shown);
        if shown && kind.is_none() {
            return self.unknown();
        }
        // What an attempt under way has is not on record yet.
        let whole = match known.map(|artifact| Whole::new(file.try_clone()?, artifact)).transpose() {
            Ok(whole) => whole,
            Err(error) => return self.error(500, &format!("The file cannot be given: {error}.")),
        };
        match Response::file(self.request, file, kind.unwrap_or("application/octet-stream"), tag.as_deref()) {
            Ok(mut response) => {
                if let (Some(whole), Body::File { length, .. }) = (whole, &response.body) {
                    if response.status != 206 {
                        response.body = Body::Reader { reader: Box::new(whole), length: *length };
                    } else if let Err(error) = whole.check_for_a_part() {
                        return self.error(500, &format!("The file cannot be given: {error}."));
                    }
                }
                if !shown {
                    return download(name, response);
                }
                response
                    .with("content-disposition", "inline")
                    .with("content-security-policy", SHOWN)
                    .with("referrer-policy", "no-referrer")
                    .with("x-content-type-options", "nosniff")
                    .with("cache-control", "private, no-cache")
            }
            Err(error) => self.error(500, &format!("The file cannot be read: {error}.")),
        }
    }

    /// The test cases of an attempt, or one of them through time.
    pub(super) fn tests(&self, id: JobId, attempt: Option<u32>) -> Response {
        let Some(view) = self.library.job(id, attempt) else { return self.unknown() };
        let view = self.library.with_past(view);
        let (cases, before) = (self.library.cases(&view), self.library.cases_before(&view));
        self.html(
            200,
            match field(&self.request.query, "name") {
                Some(name) => cases::one(&view, &cases, &before, &name, &self.visitor),
                None => {
                    let wanted = cases::Wanted::of(&self.request.query);
                    cases::page(&view, &cases, &before, &wanted, &self.visitor)
                }
            },
        )
    }

    /// The files of an attempt in one, or those of a folder.
    pub(super) fn tar(&self, id: JobId, attempt: Option<u32>) -> Response {
        let Some(view) = self.library.job(id, attempt) else { return self.unknown() };
        let view = self.library.with_past(view);
        let (key, folder) = (view.key(), field(&self.request.query, "folder").unwrap_or_default());
        let files: Vec<Artifact> = tarball::within(view.artifacts(), &folder).cloned().collect();
        if files.is_empty() {
            return self.error(404, "There are no files of this attempt in there, or they have been deleted.");
        }
        let at_s = view.job.ended_at.filter(|_| view.current()).unwrap_or(view.job.queued_at) / 1000;
        let library = self.library.clone();
        let Ok(length) = Tarball::length(&files, at_s) else {
            return self.error(404, "The name of a file in there is none that an archive may hold.");
        };
        let open = move |artifact: &Artifact| library.archive.artifact(key, artifact.stream);
        let body = Body::Reader { reader: Box::new(Tarball::new(files, at_s, Box::new(open))), length };
        download(&format!("job-{key}.tar"), Response { body, ..Response::empty(200) })
    }
}

/// Headers that make a browser save what a job made and never show it.
fn download(name: &str, mut response: Response) -> Response {
    response.headers.retain(|(header, _)| *header != "content-type");
    // RFC 6266: a plain name for old clients, and the exact one percent-encoded.
    let plain: String = name
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "._-+".contains(character) { character } else { '_' })
        .collect();
    let exact = html::path_part(name);
    response
        .with("content-type", "application/octet-stream")
        .with("content-disposition", format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"))
        .with("content-security-policy", SANDBOX)
        .with("x-content-type-options", "nosniff")
        .with("cache-control", "private, no-cache")
}
