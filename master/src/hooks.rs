//! Request to `/hook/REPO` → a call for that repository, and an answer for whoever pushed.

use crate::config::{Config, Repository};
use crate::hook::{self, HookOutcome, HookRequest, HookSecret};
use crate::http::{Request, Response};
use crate::lines::Lines;
use crate::nonces::Nonces;
use crate::repositories::{Answer, Repositories};
use sai_core::named::Standing;
use sai_core::ordered::Map;
use smol::channel::{Receiver, Sender};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// Time a hook is held up at most to hear of its push: a look and a fetch take less, and `git push` waits for it.
const HOOK_TIME: Duration = Duration::from_secs(3);
/// Hooks that wait so at once, of those that the front lets in: anyone may poke, and the others are answered at once.
const HOOKS_WAITING: usize = 4;

/// The secrets of signed hooks.
fn secrets(config: &Config) -> Map<String, HookSecret> {
    let secret = |repository: &Repository| HookSecret { secret: repository.secret.clone() };
    Map::from_iter(config.repositories.values().map(|repository| (repository.name.clone(), secret(repository))))
}

/// What `/hook/` does.
pub(crate) struct Hooks {
    secrets: RwLock<Map<String, HookSecret>>,
    pub(crate) repositories: Arc<Repositories>,
    nonces: Mutex<Nonces>,
    /// The master's address for people, from when it is known.
    url: OnceLock<String>,
    /// Hooks that wait to hear of their push.
    waiting: AtomicUsize,
    lines: Lines,
}

/// A hook's answer that is still to come, and its place among those that wait.
struct Awaited<'a> {
    answer: Receiver<Answer>,
    waiting: &'a AtomicUsize,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hooks {
    /// What is configured.
    ///
    /// # Errors
    /// The nonces cannot be read.
    pub(crate) fn new(config: &Config, repositories: Arc<Repositories>, state: &Path) -> Result<Self, String> {
        let nonces = Nonces::open(&state.join("nonces")).map_err(|error| format!("the nonces of hooks: {error}"))?;
        let (secrets, nonces) = (RwLock::new(secrets(config)), Mutex::new(nonces));
        Ok(Self {
            secrets,
            repositories,
            nonces,
            url: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            lines: Lines::default(),
        })
    }

    /// Answers with this address of ours from now on.
    pub(crate) fn show_url(&self, url: &str) {
        // The first one stays, as on the page.
        let _ = self.url.set(url.to_string());
    }

    /// Lets a hook wait for its answer, unless too many do.
    fn place_to_wait(&self, wanted: bool) -> (Option<Sender<Answer>>, Option<Awaited<'_>>) {
        if !wanted {
            return (None, None);
        }
        let awaited = self.waiting.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = smol::channel::bounded(1);
        let place = Awaited { answer, waiting: &self.waiting };
        if awaited < HOOKS_WAITING { (Some(reply), Some(place)) } else { (None, None) }
    }

    /// What whoever pushed gets to read: where his push is shown, or will be.
    fn tell(&self, awaited: Option<Awaited<'_>>) -> Response {
        let url = self.url.get().map_or("", String::as_str);
        let answer = awaited.and_then(|awaited| {
            let answer = async { awaited.answer.recv().await.ok() };
            let late = async {
                smol::Timer::after(HOOK_TIME).await;
                None
            };
            smol::block_on(smol::future::or(answer, late))
        });
        match answer {
            Some(Answer::Standing(Standing::Event(id))) => Response::text(202, format!("{url}/event/{id}")),
            Some(Answer::Standing(Standing::Superseded(id))) => {
                Response::text(202, format!("{url}/event/{id} (a later push came before this was looked at)"))
            }
            Some(Answer::Standing(Standing::NoSaifile)) => Response::text(200, "no .sai.json, nothing to build"),
            Some(Answer::Known) => Response::text(200, "known already"),
            Some(Answer::Unreachable) => {
                Response::text(202, format!("{url}/ (Sai cannot reach the repository now and tries again)"))
            }
            None => Response::text(202, format!("{url}/")),
        }
    }

    /// Checks signatures by other secrets from now on.
    pub(crate) fn change(&self, config: &Config) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets(config);
    }

    /// Answers it.
    pub(crate) fn respond(&self, request: &Request) -> Response {
        let parts = HookRequest {
            method: &request.method,
            path: &request.path,
            query: &request.query,
            headers: &request.headers,
            body: &request.body,
        };
        let received = hook::receive(&parts, &self.secrets.read().unwrap_or_else(PoisonError::into_inner));
        match received {
            Err(error) => Response::text(error.status, error.text),
            Ok(HookOutcome::Ignored(why)) => Response::text(200, why),
            Ok(HookOutcome::Poke { repository, reference, revision }) => {
                // Whoever pushes many branches and has waited in vain once does not wait for each.
                let waits = !request.query.split('&').any(|pair| pair == "wait=0");
                let (reply, answer) = self.place_to_wait(waits && revision.is_some());
                match self.repositories.poke(&repository, reference, revision, reply) {
                    Ok(_) => self.tell(answer),
                    Err(error) => {
                        self.lines.say("hooks", format!("a poke cannot be kept: {error}"));
                        Response::text(503, "try again later")
                    }
                }
            }
            Ok(HookOutcome::Push(push)) => {
                let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
                match nonces.is_fresh(&push.repository, &push.nonce) {
                    Ok(true) => {}
                    Ok(false) => return Response::text(409, "this notification was seen before"),
                    Err(error) => {
                        self.lines.say("hooks", format!("the nonces of hooks cannot be kept: {error}"));
                        return Response::text(503, "try again later");
                    }
                }
                let (repository, nonce) = (push.repository.clone(), push.nonce.clone());
                let (reply, answer) = self.place_to_wait(true);
                let refusal = match self.repositories.push(push, reply) {
                    Ok(true) => {
                        drop(nonces);
                        return self.tell(answer);
                    }
                    Ok(false) => "too many pushes wait; try again later",
                    Err(error) => {
                        self.lines.say("hooks", format!("a push cannot be kept: {error}"));
                        "try again later"
                    }
                };
                if let Err(error) = nonces.forget(&repository, &nonce) {
                    self.lines.say("hooks", format!("the nonces of hooks cannot be kept: {error}"));
                }
                Response::text(503, refusal)
            }
        }
    }
}
