//! Mistakes an edge could make, planted so that the suite can show that its checks would see them.
//!
//! They live in the simulated edges alone: what a machine says is carried out wrongly. Nothing of them is in what is
//! shipped.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The master calls appended bytes flushed.
    AckBeforeFlush,
    /// A returning agent sends on from where it was, whatever the master says it holds.
    NoRewindOnResume,
    /// An assignment goes to two agents.
    DoubleAssignment,
    /// A turn's messages are sent without waiting for its records.
    MessageBeforeCommit,
    /// With a verdict, what is missing of announced artifacts is taken for complete.
    VerdictBeforeArtifacts,
    /// An attempt is forgotten before the record that it ended is durable.
    ForgetBeforeCommit,
    /// An agent that does not come back is awaited for ever.
    OrphanNeverTimedOut,
    /// The agent drops log bytes once they are sent, not once they are acknowledged.
    TrimBeforeAck,
    /// A starting master does not read the logs it has.
    NoReplayAtStart,
    /// A returning agent does not say what it holds.
    SilentGreeting,
    /// The master's edge measures durations by the clock on the wall.
    DurationsOfTheWall,
    /// A supervisor kills what it sees of a job once, and takes it for gone.
    KillOnceAndForget,
    /// What a push asks for is passed on without what its jobs need.
    BlockedStarted,
    /// What becomes of those that need an ended job is committed after that, not with it.
    DependantsLater,
    /// A starting master does not read what agents hold of units.
    UnitsForgotten,
    /// A starting master does not read what is known of boards.
    BoardsForgotten,
    /// A log is packed when its attempt has ended, without waiting for its last flush.
    PackBeforeFlush,
    /// A starting master overlooks a job that has not ended.
    JobForgotten,
    /// A look that is due is not made.
    LookNeverRepeated,
    /// The master takes twice as much of each unit as there is for what there is.
    UnitGivenTwice,
    /// An agent calls a board free that it has just given to an attempt.
    BoardFreeWhileHeld,
    /// A supervisor takes every step for one that went well.
    StatusUnheard,
    /// A supervisor drops what finds no room on its disk.
    FullDiskDrops,
    /// The files of events are called durable without a flush.
    CarriedTooShort,
    /// A file of needs that could not be had is not asked for again.
    FetchNeverRepeated,
    /// A starting master takes numbers from what has not ended.
    NumbersOfTheLiving,
    /// The master does not look at its disk.
    DiskUnseen,
    /// The master writes to streams although there is too little room.
    FloorUnheeded,
    /// A supervisor does not hear that a session is over, or that there is none.
    SessionEndUnheard,
    /// What a step has left is read when there is room for more of what a job prints, and not before.
    RestUnread,
    /// The supervisor of a lease does each word that it hears.
    WordsAsTheyCome,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::AckBeforeFlush,
        Self::NoRewindOnResume,
        Self::DoubleAssignment,
        Self::MessageBeforeCommit,
        Self::VerdictBeforeArtifacts,
        Self::ForgetBeforeCommit,
        Self::OrphanNeverTimedOut,
        Self::TrimBeforeAck,
        Self::NoReplayAtStart,
        Self::SilentGreeting,
        Self::DurationsOfTheWall,
        Self::KillOnceAndForget,
        Self::BlockedStarted,
        Self::DependantsLater,
        Self::UnitsForgotten,
        Self::BoardsForgotten,
        Self::PackBeforeFlush,
        Self::JobForgotten,
        Self::LookNeverRepeated,
        Self::UnitGivenTwice,
        Self::BoardFreeWhileHeld,
        Self::StatusUnheard,
        Self::FullDiskDrops,
        Self::CarriedTooShort,
        Self::FetchNeverRepeated,
        Self::SessionEndUnheard,
        Self::RestUnread,
        Self::WordsAsTheyCome,
        Self::NumbersOfTheLiving,
        Self::DiskUnseen,
        Self::FloorUnheeded,
    ];
}
