//! What is in a person's repository and nobody has pushed → an event of theirs at the master, its logs, its files and its verdict.

use crate::answers::{Done, EventAndJobs, Events, Repositories};
use crate::failure::{FAILED, Failure, PASSED};
use crate::follow;
use crate::get;
use crate::master::Master;
use crate::printing::Form;
use crate::telling::{plain, tell};
use crate::tree::Beside;
use crate::upload::{PATIENCE, upload};
use sai_core::bundle::{BRANCH, BUNDLE_BYTES};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for which it is asked again, while the master cannot be reached, what the master has: before anything is sent.
const ASKING: Duration = Duration::from_secs(10);
/// Events that are asked for at once, of which one is looked for whose revision the master can be sent the rest of.
const EVENTS: usize = 100;
/// How often they are asked for at most: of a repository of which others have much built that nobody pushed.
const PAGES: usize = 20;

/// What is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// Where the repository is.
    pub directory: PathBuf,
    /// Only these configurations.
    pub configurations: Vec<String>,
    /// Only what is done at a board of this type, and what that needs.
    pub board: Option<String>,
    /// The name that the master has for it.
    pub repository: Option<String>,
    /// Whether what is not committed is built, too.
    pub dirty: bool,
    /// Where the files of jobs go.
    pub artifacts: Option<PathBuf>,
    /// In which form logs are printed.
    pub form: Form,
    /// Whether a terminal reads them.
    pub coloured: bool,
}

/// Sends what is there, has it built, and follows that to its end; the exit status says how it ended.
///
/// # Errors
/// Whose fault it is that it is not built.
pub fn run(master: &mut Master, wanted: &Wanted) -> Result<u8, Failure> {
    let beside = Beside::new(&wanted.directory, wanted.dirty)?;
    let event = smol::block_on(send(master, wanted, beside))?;
    tell(&format!("{}/event/{event}", master.address()));
    let all: EventAndJobs = smol::block_on(master.patient(&format!("/api/v1/events/{event}"), PATIENCE))?;
    let mut status = PASSED;
    for job in &all.jobs {
        if all.jobs.len() > 1 {
            tell(&format!("job {}: {} on {}", job.id, plain(&job.configuration), plain(&job.platform)));
        }
        let form = (wanted.form, wanted.coloured);
        let log = follow::Wanted { job: job.id, attempt: None, follow: true, form: form.0, coloured: form.1 };
        let this = follow::log(master, &log)?;
        // A job that failed says more than trouble of ours does.
        if status == PASSED || this == FAILED {
            status = this;
        }
        if let Some(directory) = &wanted.artifacts {
            fetch(master, job.id, directory)?;
        }
    }
    Ok(status)
}

fn fetch(master: &mut Master, job: u64, directory: &Path) -> Result<(), Failure> {
    let now = smol::block_on(master.patient::<crate::answers::Job>(&follow::path(job), PATIENCE))?;
    if now.artifacts.is_empty() {
        return Ok(());
    }
    let directory = Some(directory.join(format!("job-{job}")));
    get::get(master, &get::Wanted { job, names: Vec::new(), directory, force: true, json: false })
}

async fn send(master: &mut Master, wanted: &Wanted, beside: Beside) -> Result<u64, Failure> {
    let saifile = beside.saifile()?;
    let repository = match &wanted.repository {
        Some(name) => name.clone(),
        None => named(master, &beside).await?,
    };
    let base = base(master, &beside, &repository).await?;
    let bundle = beside.bundle(base.as_ref().map(|(_, revision)| revision.as_str()))?;
    let wrong = |error: std::io::Error| Failure::here("the bundle", &error);
    let mut file = File::open(&bundle).map_err(wrong)?;
    let size = file.metadata().map_err(wrong)?.len();
    if size > BUNDLE_BYTES {
        return Err(Failure::refused(format!(
            "what is to be sent has {size} bytes, more than the {BUNDLE_BYTES} that a master takes; push what it is made upon"
        )));
    }
    let (branch, revision, (subject, author)) = (beside.branch.clone(), beside.revision.clone(), beside.about());
    // What is sent is open: whoever ends this from here on leaves nothing behind.
    drop(beside);
    let place = format!("/api/v1/repositories/{}", encoded(&repository));
    let to = format!("{place}/send");
    let digest = upload(master, &to, &mut file, size).await?;
    let saifile_digest = upload(master, &to, &mut std::io::Cursor::new(&saifile), saifile.len() as u64).await?;
    let size = size.to_string();
    let mut fields = vec![
        ("branch", branch.as_str()),
        ("revision", &revision),
        ("bundle", &digest),
        ("size", &size),
        ("saifile", &saifile_digest),
        ("subject", &subject),
        ("author", &author),
    ];
    if let Some((reference, revision)) = &base {
        fields.extend([("base", revision.as_str()), ("base-ref", reference.as_str())]);
    }
    fields.extend(wanted.configurations.iter().map(|name| ("configuration", name.as_str())));
    fields.extend(wanted.board.iter().map(|kind| ("board", kind.as_str())));
    let form: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let done: Done = master.post(&format!("{place}/run"), form.join("&").as_bytes()).await?;
    let number = done.done.strip_prefix("started event ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    number.ok_or_else(|| Failure::trouble(format!("the master says {:?}, and no event's number", plain(&done.done))))
}

/// What of it was pushed last, ref and revision, as far as the master has events of that.
async fn base(master: &mut Master, beside: &Beside, repository: &str) -> Result<Option<(String, String)>, Failure> {
    // A tree that was sent before is at the master alone, and not where agents fetch.
    let own = format!("refs/heads/{BRANCH}/");
    let mut before = String::new();
    for _ in 0..PAGES {
        let path = format!("/api/v1/events?limit={EVENTS}&repository={}{before}", encoded(repository));
        let events = master.patient::<Events>(&path, ASKING).await?.events;
        let oldest = events.iter().map(|event| event.id).min();
        let pushed = events.into_iter().filter(|event| !event.reference.starts_with(&own));
        let pushed: Vec<(String, String)> = pushed.map(|event| (event.reference, event.revision)).collect();
        match (beside.nearest(&pushed), oldest) {
            (None, Some(oldest)) => before = format!("&before={oldest}"),
            (found, _) => return Ok(found.cloned()),
        }
    }
    Ok(None)
}

/// The name that the master has for a person's repository: that of the same URL, or whose URL ends in the same name. That there is
/// but one does not make it this.
async fn named(master: &mut Master, beside: &Beside) -> Result<String, Failure> {
    let known: Repositories = master.patient("/api/v1/repositories", ASKING).await?;
    let known = known.repositories;
    let remotes = beside.remotes();
    let last = |url: &str| {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix(".git").unwrap_or(url);
        url.rsplit(['/', ':']).next().unwrap_or(url).to_owned()
    };
    let same: Vec<&str> = known.iter().filter(|one| remotes.contains(&one.url)).map(|one| one.name.as_str()).collect();
    let alike: Vec<&str> = known
        .iter()
        .filter(|one| remotes.iter().any(|remote| last(remote) == last(&one.url)))
        .map(|one| one.name.as_str())
        .collect();
    let all: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
    match [same, alike].into_iter().find(|names| names.len() == 1) {
        Some(names) => Ok(names.concat()),
        None => {
            let names = plain(&all.join(", "));
            Err(Failure::refused(format!(
                "which of the master's repositories is this? By its remotes it is none, or several: {names}; say --repository NAME"
            )))
        }
    }
}

/// A text as it may stand in a query, a form or a part of a path (RFC 3986).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
