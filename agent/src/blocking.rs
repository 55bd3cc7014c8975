//! Work that blocks → its result, from a thread beside those of the executor.
//!
//! The work is boxed: a task of every kind would make a program larger by a kibibyte and more for each place that has one.
//! A thread that has had nothing to do for a while ends. Those of smol's own pool look for work twice a second for ever,
//! which was most of what an agent did that waits for a job.

use smol::channel;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Time a thread waits for more work before it ends: longer than it is between two pieces of a log that is being sent.
const LINGER: Duration = Duration::from_secs(2);
/// Threads at once. Work beyond waits, as it would for the disk.
const THREADS: usize = 64;

type Boxed = Box<dyn Any + Send>;
type Work = Box<dyn FnOnce() + Send>;

struct Pool {
    queue: VecDeque<Work>,
    threads: usize,
    /// Those that wait for work.
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { queue: VecDeque::new(), threads: 0, idle: 0 });
static MORE: Condvar = Condvar::new();

/// Does work that blocks, without holding other tasks up. What has not begun when this is dropped is not done.
///
/// # Panics
/// When the work does.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match run(Box::new(|| Box::new(work()))).await.map(|result| result.downcast()) {
        Ok(Ok(result)) => *result,
        // What was boxed as this comes out as this.
        Ok(Err(other)) | Err(other) => resume_unwind(other),
    }
}

async fn run(work: Box<dyn FnOnce() -> Boxed + Send>) -> Result<Boxed, Boxed> {
    let (sender, receiver) = channel::bounded(1);
    submit(Box::new(move || {
        if !sender.is_closed() {
            // Nobody may wait for it any more.
            let _ = sender.try_send(catch_unwind(AssertUnwindSafe(work)));
        }
    }));
    receiver.recv().await.unwrap_or_else(|closed| Err(Box::new(closed)))
}

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn submit(work: Work) {
    let mut pool = pool();
    pool.queue.push_back(work);
    if pool.idle >= pool.queue.len() || pool.threads >= THREADS {
        MORE.notify_one();
        return;
    }
    pool.threads += 1;
    if thread::Builder::new().name("blocking".to_owned()).spawn(serve).is_err() {
        // Others may take it; where there is none, this task waits for it like they for the processor.
        pool.threads -= 1;
        let own = if pool.threads == 0 { pool.queue.pop_back() } else { None };
        drop(pool);
        own.into_iter().for_each(|work| work());
    }
}

fn serve() {
    let mut pool = pool();
    loop {
        while let Some(work) = pool.queue.pop_front() {
            drop(pool);
            work();
            pool = self::pool();
        }
        pool.idle += 1;
        let (again, waited) = MORE.wait_timeout(pool, LINGER).unwrap_or_else(PoisonError::into_inner);
        pool = again;
        pool.idle -= 1;
        if waited.timed_out() && pool.queue.is_empty() {
            pool.threads -= 1;
            return;
        }
    }
}

/// Starts a task that nobody waits for.
pub fn detach(task: impl Future<Output = ()> + Send + 'static) {
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
    smol::spawn(task).detach();
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    /// These tests count all threads of the pool, so they are one.
    #[test]
    fn work_is_done_at_once_and_threads_end() {
        // More than there may be threads, each of which waits for the first to be let go.
        let done = Arc::new(AtomicUsize::new(0));
        let (release, held) = channel::bounded::<()>(1);
        let work: Vec<_> = (0..2 * THREADS)
            .map(|number| {
                let (done, held) = (Arc::clone(&done), held.clone());
                smol::spawn(unblock(move || {
                    assert!(held.recv_blocking().is_err());
                    done.fetch_add(1, Ordering::Relaxed);
                    number
                }))
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(60);
        while pool().threads < THREADS {
            assert!(Instant::now() < until, "only {} threads", pool().threads);
            thread::sleep(Duration::from_millis(1));
        }
        drop(release);
        for (number, task) in work.into_iter().enumerate() {
            assert_eq!(smol::block_on(task), number);
        }
        assert_eq!(done.load(Ordering::Relaxed), 2 * THREADS);
        assert!(pool().threads <= THREADS);

        let panics = smol::block_on(async { catch(unblock(|| -> u8 { panic!("as asked") })).await });
        assert_eq!(panics.expect_err("a panic").downcast_ref::<&str>(), Some(&"as asked"));
        assert_eq!(smol::block_on(unblock(|| 7)), 7);

        let until = Instant::now() + Duration::from_secs(60);
        while pool().threads > 0 {
            assert!(Instant::now() < until, "{} threads are left", pool().threads);
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(smol::block_on(unblock(|| 8)), 8);
    }

    async fn catch<T>(task: impl Future<Output = T>) -> thread::Result<T> {
        let mut task = Box::pin(task);
        future::poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
            Ok(std::task::Poll::Ready(value)) => std::task::Poll::Ready(Ok(value)),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        })
        .await
    }
}
