//! The bounds that two crates must agree on, each with its unit and its reason.

/// Milliseconds: a duration, or a moment of one of the clocks of [`crate::clock::Now`].
pub type Millis = u64;

/// The oldest agent–master protocol that is spoken. A peer that speaks none in common is told so and let go.
pub const PROTOCOL: u32 = 1;

/// The newest. What can be named by a word (`versions::Can`) needs no new one.
pub const PROTOCOL_NEWEST: u32 = 1;

/// Bytes of a text frame or binary frame at most: an assignment with every step at its largest still fits.
pub const FRAME_BYTES: usize = 1 << 20;

/// Bytes of stream content in one binary frame at most: large enough that framing costs nothing, small enough that a
/// slow line still interleaves streams.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Unacknowledged bytes one link may have under way, all its streams together. It covers one flush of a slow disk at
/// line speed and bounds what the master holds for an agent.
pub const WINDOW_BYTES: u64 = 4 << 20;

/// Bytes of one log record's payload at most.
pub const RECORD_BYTES: usize = 64 << 10;

/// Jobs of an event at most: hundreds of configurations on tens of platforms, all of which a page can still sum up.
pub const JOBS_MAX: usize = 10_000;

/// Bytes of an image for a board at most. It is held in memory, and would take two hours at 115 200 bits a second.
pub const IMAGE_BYTES: u64 = 64 << 20;

/// Output channels one job may announce (stdout, stderr, serial ports, lines).
pub const CHANNELS: usize = 64;

/// Streams one job may have: its log, and artifacts. The stream number is a `u16` on the wire.
pub const STREAMS: usize = 1024;

/// Bytes of a job's log by default; the rest is dropped with a note in place, or fails the job, by configuration.
pub const LOG_BYTES: u64 = 1 << 30;

/// Bytes of one artifact at most by default.
pub const ARTIFACT_BYTES: u64 = 4 << 30;

/// Bytes of unacknowledged log an agent keeps on its disk for one job; then the build waits.
pub const SPOOL_BYTES: u64 = 256 << 20;

/// Bytes of all the steps of one job together: what an assignment can carry with room for the rest.
pub const STEPS_BYTES: usize = 512 << 10;

/// Bytes that the files of all needs of a job take at most in an assignment, as JSON: some 2 000 files. With the steps at
/// their largest it still fits a frame.
pub const NEEDS_BYTES: usize = 384 << 10;

/// Seconds a job may take when its spec does not say.
pub const JOB_TIMEOUT_S: u64 = 3600;

/// Jobs an agent may have under way at most, whatever it announces.
pub const SLOTS: u32 = 256;

/// Platforms one agent may announce.
pub const PLATFORMS: usize = 512;

/// Boards that an agent may offer: more than hang at one machine.
pub const BOARDS: usize = 64;

/// Sessions at boards that one attempt may ask for, one after the other or at once: each is a job with a log of its own.
pub const SESSIONS: usize = 64;

/// Seconds between pings of an idle link: shorter than the usual idle limit of a home router's NAT table.
pub const PING_S: u64 = 25;

/// Seconds without a byte after which a link is dead: two pings and a half.
pub const DEAD_S: u64 = 62;

/// Times a job is started anew after trouble of ours before it ends as `Infra`.
pub const INFRA_ATTEMPTS: u32 = 3;
