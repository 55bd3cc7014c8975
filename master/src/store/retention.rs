//! Policy → deleted events and unlinked files: the core decides, this carries it out, a bounded piece at a time.

use super::files::Files;
use super::keys::Kind;
use super::ledger::Ledger;
use super::lost::{self, Lost};
use super::paths::Found;
use super::{Change, Store, StoreError};
use sai_agent::clock;
use sai_core::job::{EventId, JobKey};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::retention::{Evidence, Policy, Retention};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Events deleted by one call: their commit must not hold up the jobs that run.
const BATCH: usize = 64;
/// Events read at once while judging.
const PAGE: usize = 256;
/// Actions kept.
const ACTIONS: u64 = 10_000;
/// A file without a record may be one whose record is about to be committed, unless it is older than this.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// What one call of [`gc`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Events deleted.
    pub events: u64,
    /// Their jobs.
    pub jobs: u64,
    /// Bytes of their files, and of files that were moved away long enough ago.
    pub bytes_freed: u64,
    /// Files without a record that were moved away.
    pub orphans: u64,
    /// Directories with what was moved away and is kept: for a time or, when records were lost that may have named it, until
    /// somebody has looked.
    pub kept: u64,
    /// Events, and directories with what was moved away, that are too old by the clock alone, which is not borne out: it may have
    /// leapt.
    pub doubtful: u64,
    /// Whether there is more to delete: call again.
    pub more: bool,
    /// Bytes of the ledger on disk now. What it no longer needs it gives back when the store is opened next.
    pub ledger_bytes: u64,
    /// Why it ended early.
    pub trouble: Option<StoreError>,
}

impl GcReport {
    /// Takes the next round's report in.
    pub fn add(&mut self, next: Self) {
        self.events += next.events;
        self.jobs += next.jobs;
        self.bytes_freed += next.bytes_freed;
        self.orphans += next.orphans;
        (self.more, self.kept, self.ledger_bytes) = (next.more, next.kept, next.ledger_bytes);
        self.doubtful = next.doubtful;
        self.trouble = next.trouble;
    }
}

impl fmt::Display for GcReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "deleted {} events with {} jobs, {} bytes in all; moved {} files without a record to lost+found, which has {} \
             directories; the ledger has {} bytes",
            self.events, self.jobs, self.bytes_freed, self.orphans, self.kept, self.ledger_bytes
        )?;
        match self.doubt() {
            Some(doubt) => write!(out, "\n{doubt}"),
            None => Ok(()),
        }
    }
}

impl GcReport {
    /// What is not deleted for its age yet, and why; none when nothing is.
    pub fn doubt(&self) -> Option<String> {
        (self.doubtful > 0).then(|| {
            format!(
                "{} events or directories of lost+found are too old if the clock is right (it says {}), but nothing was recorded for \
                 long before now or before the last pushes, as if it had been set ahead; they go when the master has run for four \
                 days, or has records of them, and nobody has set it back",
                self.doubtful,
                crate::units::moment_text(clock::wall())
            )
        })
    }
}

/// Deletes what has outlived its use: records first, durably, then files. Deletes a bounded number of events each
/// time and says whether there are more, so that a running master can do it between other things. Waits for the disk;
/// not to be called from inside a commit's `then`.
pub fn gc(store: &Store, policy: Policy) -> GcReport {
    let mut report = GcReport::default();
    if let Err(error) = collect(store, policy, &mut report) {
        report.trouble = Some(error);
    }
    report.ledger_bytes = store.ledger().size();
    report
}

fn collect(store: &Store, policy: Policy, report: &mut GcReport) -> Result<(), StoreError> {
    let ledger = store.ledger();
    let now = SystemTime::now();
    let watched = store.watch_clock();
    let mut retention = Retention::new(policy, watched);
    let mut evidence = Evidence::new(watched, lost::KEPT.as_millis() as u64);
    let mut expired: Vec<EventRecord> = Vec::new();
    let mut before = u64::MAX;
    loop {
        let page: Vec<EventRecord> = ledger.index.newest(Kind::Event, 0, before, PAGE)?;
        let Some(last) = page.last() else { break };
        before = last.id;
        for event in page {
            evidence.record(event.at);
            let jobs_end = event.first_job.saturating_add(u64::from(event.jobs));
            let finished = ledger.index.unfinished(event.first_job, jobs_end)?.is_empty();
            if retention.expired(&event, finished) {
                expired.push(event);
                // The oldest go first, so that what a crash in between leaves is what a smaller limit would have left.
                if expired.len() > 2 * BATCH {
                    expired.drain(..BATCH);
                    report.more = true;
                }
            }
        }
    }
    report.more |= expired.len() > BATCH;
    report.doubtful = retention.doubtful;
    let skip = expired.len().saturating_sub(BATCH);
    let expired = expired.get(skip..).unwrap_or_default();
    if !expired.is_empty() {
        let mut bytes = 0;
        for event in expired {
            for job in event.first_job..event.first_job.saturating_add(u64::from(event.jobs)) {
                let Some(job) = ledger.index.record::<JobRecord>(Kind::Job, job)? else { continue };
                let keys = (1..=job.attempt).map(|attempt| JobKey { job: job.id, attempt });
                bytes += keys.map(|key| store.files().paths().size(key)).sum::<u64>();
            }
            let paths = store.files().paths();
            bytes += [paths.saifile(event.id), paths.plan(event.id), paths.bundle(event.id)]
                .iter()
                .map(|path| size(path))
                .sum::<u64>();
        }
        store.commit_and_wait(expired.iter().map(|event| Change::DeleteEvent(event.id)).collect(), None)?;
        report.events += expired.len() as u64;
        report.jobs += expired.iter().map(|event| u64::from(event.jobs)).sum::<u64>();
        report.bytes_freed += bytes;
    }
    if let Some(before) = ledger.numbers().action.checked_sub(ACTIONS) {
        store.commit_and_wait(Vec::new(), Some(before))?;
    }
    if !report.more {
        let state = &store.files().paths().state;
        let mut lost = Lost::new(state);
        report.orphans += sweep(ledger, store.files(), Some(now), &mut lost)?;
        let expired = lost::expire(state, &evidence, ledger.is_whole()?)?;
        report.bytes_freed += expired.bytes;
        report.kept = expired.left;
        report.doubtful += expired.doubtful;
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Moves files that no record names away and has complete logs packed that are not. With a running master's clock only
/// files that are old enough to be nobody's; without, at start, all of them. Returns how many were moved.
pub(super) fn sweep(
    ledger: &Ledger,
    files: &Files,
    now: Option<SystemTime>,
    lost: &mut Lost,
) -> Result<u64, StoreError> {
    let paths = files.paths();
    let mut orphans: Vec<PathBuf> = Vec::new();
    let mut complete: Vec<JobKey> = Vec::new();
    let mut trouble = None;
    let read = paths.each(|found, path, modified| {
        let old = now.is_none_or(|now| {
            modified.and_then(|modified| now.duration_since(modified).ok()).is_some_and(|age| age > ORPHAN_AGE)
        });
        let wanted = match found {
            Found::Log(key) => job_of(ledger, key).map(|job| {
                job.is_some_and(|ended| {
                    if ended {
                        complete.push(key);
                    }
                    true
                })
            }),
            Found::PackedLog(key) => ledger.index.contains(Kind::Job, key.job),
            Found::Artifacts(key) => job_with_files(ledger, key, path, now.is_some()).map(|(known, excess)| {
                // A log that is lost cannot say which of them it announced.
                if excess && paths.log_exists(key) {
                    complete.push(key);
                }
                known
            }),
            Found::Saifile(event) | Found::Plan(event) | Found::Bundle(event) => has_event(ledger, event),
            // What is packed again is written over; anything else is as good as nobody's.
            Found::Leftover => Ok(now.is_none()),
        };
        match wanted {
            Ok(true) => {}
            Ok(false) if old => orphans.push(path.to_path_buf()),
            Ok(false) => {}
            Err(error) => trouble = Some(error),
        }
    });
    read.map_err(|error| StoreError::file(&paths.state, "list", &error))?;
    if let Some(error) = trouble {
        return Err(error);
    }
    for path in &orphans {
        lost.take(path, "no record names it")?;
    }
    for key in complete {
        // A start unlinks nothing.
        if now.is_some() { files.finish(key) } else { files.pack(key) }
    }
    Ok(orphans.len() as u64)
}

/// Whether there is a job of this attempt and, when that is to be looked at, whether the attempt has ended and has other
/// files than are on record.
fn job_with_files(ledger: &Ledger, key: JobKey, path: &Path, look: bool) -> Result<(bool, bool), StoreError> {
    if !look {
        return Ok((ledger.index.contains(Kind::Job, key.job)?, false));
    }
    let Some(job) = ledger.index.record::<JobRecord>(Kind::Job, key.job)? else { return Ok((false, false)) };
    if job.attempt > key.attempt {
        return Ok((true, true));
    }
    let recorded = |name: &str| job.artifacts.iter().any(|artifact| artifact.stream.to_string() == name);
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let excess = entries.into_iter().any(|entry| !entry.file_name().to_str().is_some_and(recorded));
    Ok((true, job.state.ended() && excess))
}

fn has_event(ledger: &Ledger, event: EventId) -> Result<bool, StoreError> {
    ledger.index.contains(Kind::Event, event)
}

/// Whether an attempt has ended, for that its job has or is at a later one; none when there is no such job.
fn job_of(ledger: &Ledger, key: JobKey) -> Result<Option<bool>, StoreError> {
    let job = ledger.index.record::<JobRecord>(Kind::Job, key.job)?;
    Ok(job.map(|job| job.state.ended() || job.attempt > key.attempt))
}
