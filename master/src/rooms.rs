//! What many look at → messages made once for all of them: one room for each thing that somebody looks at.
//!
//! A room hears of changes, makes the messages that tell them, and keeps the last few rounds of these. Each of those who
//! look takes the rounds when it can; who is too slow for them, or new, gets everything, which is made once for all who
//! ask for it at about the same time. A room closes with the last who leaves it.

use crate::live::{Changes, Dirty, Scope};
use sai_agent::blocking::unblock;
use sai_core::ordered::Map;
use smol::channel::{self, Receiver, Sender};
use smol::{Task, Timer};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two rounds: changes in between cost one message.
const PAUSE: Duration = Duration::from_millis(500);

/// Times as long as a round took to make, that the pause after it is at least: a room takes a tenth of a processor at most.
const PAUSE_TIMES: u32 = 9;

/// Rounds that are kept for those who are slow: some seconds.
const ROUNDS: usize = 8;

/// Bytes of the rounds that are kept, except for the last one.
const ROUNDS_BYTES: usize = 4 << 20;

/// One message, and what it is about.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it tells the present state of, unique in its room.
    pub id: String,
    /// Until when that may have changed, Unix milliseconds; `u64::MAX` when it goes on changing.
    pub fresh: u64,
    /// What must have changed for the message to be worth sending.
    pub mark: u64,
    /// The message.
    pub text: String,
}

impl Part {
    /// A message that is worth sending when its text has changed.
    pub fn new(id: String, fresh: u64, text: String) -> Self {
        Self { mark: mark(&text), id, fresh, text }
    }
}

/// A number that differs, as good as certainly, when the text does.
fn mark(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Messages that belong together.
pub type Round = Arc<Vec<Part>>;

/// Makes the messages about what changed; without `Dirty`, about everything.
pub type Render = Box<dyn Fn(Option<&Dirty>) -> Vec<Part> + Send + Sync>;

/// The rooms that are open.
#[derive(Default)]
pub struct Rooms {
    open: Mutex<Map<String, Arc<Room>>>,
}

struct Room {
    render: Render,
    state: Mutex<State>,
    /// Everything, as it was made last: when, and before which round. Whoever makes messages holds this until they are
    /// published, so that older ones never come after newer ones.
    everything: smol::lock::Mutex<Option<(Instant, u64, Round)>>,
}

#[derive(Default)]
struct State {
    rounds: VecDeque<Round>,
    /// Number of the round that comes next.
    next: u64,
    /// The marks of what was told last.
    told: Map<String, u64>,
    members: Map<u64, Sender<()>>,
    next_member: u64,
    task: Option<Task<()>>,
}

/// One who looks.
pub struct Member {
    rooms: Arc<Rooms>,
    key: String,
    room: Arc<Room>,
    number: u64,
    woken: Receiver<()>,
    /// The round it has not had yet.
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves nothing half changed: each change is a few calls that do not panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rooms {
    /// Enters the room of this name, which hears of `scope` and makes its messages with `render` if it is not open yet.
    pub fn enter(
        self: &Arc<Self>,
        changes: &Arc<Changes>,
        key: String,
        scope: Scope,
        render: impl FnOnce() -> Render,
    ) -> Member {
        let (wake, woken) = channel::bounded(1);
        let mut open = lock(&self.open);
        let room = open.get_or_insert_with(key.clone(), || {
            let room =
                Arc::new(Room { render: render(), state: Mutex::default(), everything: smol::lock::Mutex::new(None) });
            // Watching begins before the first look, so that nothing falls between the two.
            let watch = changes.watch(scope);
            let driven = room.clone();
            let drive = Box::pin(async move {
                loop {
                    let dirty = watch.changed().await;
                    let turn = driven.everything.lock().await;
                    let (room, begun) = (driven.clone(), Instant::now());
                    let parts = unblock(move || (room.render)(Some(&dirty))).await;
                    let took = begun.elapsed();
                    driven.publish(parts);
                    drop(turn);
                    Timer::after(PAUSE.max(took * PAUSE_TIMES)).await;
                }
            });
            lock(&room.state).task = Some(smol::spawn(drive));
            room
        });
        let room = room.clone();
        let mut state = lock(&room.state);
        state.next_member += 1;
        let number = state.next_member;
        state.members.insert(number, wake);
        let next = state.next;
        drop(state);
        Member { rooms: self.clone(), key, room, number, woken, next }
    }

    /// How many rooms are open.
    pub fn open(&self) -> usize {
        lock(&self.open).len()
    }
}

impl Room {
    /// Publishes what of everything the members besides one do not know yet; tells which round comes after that.
    fn publish_news(&self, everything: &Round) -> u64 {
        let mut news = Vec::new();
        {
            let mut state = lock(&self.state);
            let alone = state.members.len() <= 1;
            for part in everything.iter() {
                if state.told.get(&part.id) != Some(&part.mark) {
                    if alone {
                        state.told.insert(part.id.clone(), part.mark);
                    } else {
                        news.push(part.clone());
                    }
                }
            }
        }
        self.publish(news);
        lock(&self.state).next
    }

    /// Keeps a round of what has really changed, and wakes those who wait for it.
    fn publish(&self, mut parts: Vec<Part>) {
        let mut state = lock(&self.state);
        parts.retain(|part| state.told.insert(part.id.clone(), part.mark) != Some(part.mark));
        if parts.is_empty() || state.members.is_empty() {
            return;
        }
        state.rounds.push_back(Arc::new(parts));
        state.next += 1;
        let bytes = |rounds: &VecDeque<Round>| -> usize {
            rounds.iter().flat_map(|round| round.iter()).map(|part| part.text.len()).sum()
        };
        while state.rounds.len() > ROUNDS || (state.rounds.len() > 1 && bytes(&state.rounds) > ROUNDS_BYTES) {
            state.rounds.pop_front();
        }
        for wake in state.members.values() {
            // Who has been woken already has not looked yet.
            let _ = wake.try_send(());
        }
    }
}

impl Member {
    /// Everything, as it is now or was a moment ago; what changed since comes with the next rounds.
    pub async fn everything(&mut self) -> Round {
        let mut held = self.room.everything.lock().await;
        if let Some((at, next, round)) = &*held
            && at.elapsed() < PAUSE
        {
            self.next = *next;
            return round.clone();
        }
        let (room, at) = (self.room.clone(), Instant::now());
        let round: Round = Arc::new(unblock(move || (room.render)(None)).await);
        // The others are told what is news to them, so that all were told the same.
        self.next = self.room.publish_news(&round);
        *held = Some((at, self.next, round.clone()));
        round
    }

    /// Waits for rounds that it has not had; none when some of them are no longer kept, so that it needs everything.
    pub async fn rounds(&mut self) -> Option<Vec<Round>> {
        loop {
            {
                let state = lock(&self.room.state);
                let behind = usize::try_from(state.next - self.next).unwrap_or(usize::MAX);
                if behind > state.rounds.len() {
                    return None;
                }
                if behind > 0 {
                    self.next = state.next;
                    return Some(state.rounds.iter().skip(state.rounds.len() - behind).cloned().collect());
                }
            }
            // The sender lives as long as the member does; were it gone, waiting for ever is right.
            if self.woken.recv().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut open = lock(&self.rooms.open);
        let mut state = lock(&self.room.state);
        state.members.remove(&self.number);
        let task = if state.members.is_empty() { state.task.take() } else { None };
        drop(state);
        if task.is_some() {
            open.remove(&self.key);
        }
        drop(open);
        // Its end drops the watch, which takes a lock of its own.
        drop(task);
    }
}
