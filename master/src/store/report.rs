//! What the files have to tell → its words.

use sai_core::job::JobKey;

/// What the files have to tell. All reports come from one thread, in order; the callback must not block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Bytes are in the file for live viewers, not yet durable.
    Appended {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// Bytes the file has now.
        length: u64,
    },
    /// Bytes are durable and may be acknowledged.
    Flushed {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// Durable bytes from the beginning.
        length: u64,
    },
    /// The answer to [`Files::seal`].
    Sealed {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// Whether length and digest of the durable file are the announced ones.
        ok: bool,
    },
    /// Bytes were not taken (a gap, an overlap, a complete log) or could not be made durable; the file is cut back to
    /// what was. [`Files::lengths`] says where to go on.
    Failed {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// For people.
        why: String,
    },
    /// There is little room: no new job should start. Bytes of running ones wait in the queue, unacknowledged, when it is full.
    Low {
        /// Free space where the state is, MiB.
        free_mib: u64,
    },
    /// There is enough again.
    Enough,
    /// What is flushed when was decided by what cannot be: a mistake in Sai.
    Bug(&'static str),
}

/// Takes reports.
pub type Reporter = Box<dyn Fn(Report) + Send + Sync>;
