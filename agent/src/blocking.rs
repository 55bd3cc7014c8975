//! Work that blocks → its result, from a thread beside those of the executor.
//!
//! The work is boxed: a task of every kind would make a program larger by a kibibyte and more for each place that has one.

use std::any::Any;
use std::panic::resume_unwind;
use std::pin::Pin;

type Boxed = Box<dyn Any + Send>;

/// Does work that blocks, without holding other tasks up.
///
/// # Panics
/// When the work does.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let work: Box<dyn FnOnce() -> Boxed + Send> = Box::new(|| Box::new(work()));
    match smol::unblock(work).await.downcast() {
        Ok(result) => *result,
        // What was boxed as this comes out as this.
        Err(other) => resume_unwind(other),
    }
}

/// Starts a task that nobody waits for.
pub fn detach(task: impl Future<Output = ()> + Send + 'static) {
    let task: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(task);
    smol::spawn(task).detach();
}
