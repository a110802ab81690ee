//! Deliberate bugs, one at a time, that show whether the simulator finds what it is there to find.
//!
//! Only in builds with the feature `planted`, which no program but the simulator may have.

use std::sync::atomic::{AtomicU8, Ordering};

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The primary counts its own log as durable before it is.
    AcknowledgeBeforeFlush,
    /// A secondary acknowledges what its log has not flushed.
    SecondaryAcknowledgesBeforeFlush,
    /// A read is answered without another look at the lease.
    NoLeaseRecheck,
    /// A secondary asks to take over before the primary's lease can have ended.
    GraceShorterThanLease,
    /// A new primary serves before it has committed its prepared list.
    ServeBeforeReconciling,
    /// A learner is counted and added before it holds everything.
    LearnerCountedTooEarly,
    /// A secondary takes a commit point, and acknowledges, for entries that it received under another ballot.
    CommitPointOfWrongBallot,
    /// A replica goes on acknowledging the beacons of a primary whose ballot is over.
    StaleConfigurationAccepted,
    /// The log frees segments that are still needed.
    SegmentFreedTooEarly,
    /// A bad batch always counts as a torn tail.
    CorruptionTakenForTornTail,
    /// The log is told that the engine holds durably what it has only applied.
    DurableDecreeAheadOfData,
    /// A prepare that comes again is appended again.
    DuplicatePrepareAppliedTwice,
    /// Meta persists a new configuration under the ballot of the old one.
    BallotReusedAfterRestart,
    /// The storage of a dropped replica stays.
    DroppedReplicaRevived,
    /// A checkpoint counts as one decree more than it is.
    CheckpointWithoutItsDecree,
    /// A client is told "done" when its mutation is given up.
    ReplyForDroppedMutation,
    /// An atomic operation is computed from what is applied, whatever of its gate is prepared above.
    AtomicOnAppliedRows,
    /// An atomic operation that comes again while its mutation is in flight is computed again.
    TwinComputedAgain,
}

/// All of them, by the names under which they are switched on.
pub const BUGS: [(&str, Bug); 18] = [
    ("acknowledge-before-flush", Bug::AcknowledgeBeforeFlush),
    (
        "secondary-acknowledges-before-flush",
        Bug::SecondaryAcknowledgesBeforeFlush,
    ),
    ("no-lease-recheck", Bug::NoLeaseRecheck),
    ("grace-shorter-than-lease", Bug::GraceShorterThanLease),
    ("serve-before-reconciling", Bug::ServeBeforeReconciling),
    ("learner-counted-too-early", Bug::LearnerCountedTooEarly),
    (
        "commit-point-of-wrong-ballot",
        Bug::CommitPointOfWrongBallot,
    ),
    (
        "stale-configuration-accepted",
        Bug::StaleConfigurationAccepted,
    ),
    ("segment-freed-too-early", Bug::SegmentFreedTooEarly),
    (
        "corruption-taken-for-torn-tail",
        Bug::CorruptionTakenForTornTail,
    ),
    (
        "durable-decree-ahead-of-data",
        Bug::DurableDecreeAheadOfData,
    ),
    (
        "duplicate-prepare-applied-twice",
        Bug::DuplicatePrepareAppliedTwice,
    ),
    ("ballot-reused-after-restart", Bug::BallotReusedAfterRestart),
    ("dropped-replica-revived", Bug::DroppedReplicaRevived),
    (
        "checkpoint-without-its-decree",
        Bug::CheckpointWithoutItsDecree,
    ),
    ("reply-for-dropped-mutation", Bug::ReplyForDroppedMutation),
    ("atomic-on-applied-rows", Bug::AtomicOnAppliedRows),
    ("twin-computed-again", Bug::TwinComputedAgain),
];

/// 0: none.
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Switches one bug on, for the whole process, and all others off.
pub fn plant(bug: Bug) {
    PLANTED.store(bug as u8 + 1, Ordering::Relaxed);
}

#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as u8 + 1
}
