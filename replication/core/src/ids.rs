//! Newtypes for everything that could be swapped by accident.

use std::fmt;
use std::time::Duration;

/// Number of a table, from 1, never reused. Apache Pegasus calls it `app_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// One hash slice of a table. `index` counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    pub table: TableId,
    pub index: u32,
}

/// Number of a node, from 1, given by meta at the first join and stored in the node's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Number of a shard within its node, from 0. A log and a database belong to it; the CPU it is pinned to may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

/// Where a replica lives: one core of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreAddress {
    pub node: NodeId,
    pub core: CoreId,
}

/// Identity of one copy of a partition: a wiped disk or a revived copy is another one. Given by meta, never 0 in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaIncarnation(pub u64);

/// Counts the starts of a node; in every hello, so that messages of an earlier life are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIncarnation(pub u64);

/// Number of a configuration, grown by meta only: meta epoch (16 bits) above a counter (47 bits). 0 = none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ballot(pub u64);

impl Ballot {
    pub const NONE: Self = Self(0);
    const COUNTER_BITS: u32 = 47;

    /// The ballot of `counter` within meta epoch `epoch`. `counter` must fit 47 bits.
    #[must_use]
    pub const fn new(epoch: u16, counter: u64) -> Self {
        assert!(
            counter < 1 << Self::COUNTER_BITS,
            "ballot counter over 47 bits"
        );
        Self(((epoch as u64) << Self::COUNTER_BITS) | counter)
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.epoch(), self.counter() + 1)
    }

    #[must_use]
    pub const fn epoch(self) -> u16 {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "16 bits remain after the shift of a 63-bit number"
        )]
        let epoch = (self.0 >> Self::COUNTER_BITS) as u16;
        epoch
    }

    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 & ((1 << Self::COUNTER_BITS) - 1)
    }
}

/// Position in a partition's order, from 1, no gaps. 0 = nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decree(pub u64);

impl Decree {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    #[must_use]
    pub const fn previous(self) -> Self {
        assert!(self.0 > 0, "decree 0 has no predecessor");
        Self(self.0 - 1)
    }
}

/// Opaque number by which the node finds the request that waits for an answer. Unique within a shard's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Identity of a client's operation for exactly-once retries; client 0 = none. Of a no-op: client 0 and the ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId {
    pub client: u64,
    pub sequence: u64,
}

/// Nanoseconds on a clock that counts suspension (`CLOCK_BOOTTIME`); the core never reads it, it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table.0, self.index)
    }
}

impl fmt::Display for CoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node.0, self.core.0)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}", self.epoch(), self.counter())
    }
}

macro_rules! display_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_number!(
    TableId,
    NodeId,
    CoreId,
    ReplicaIncarnation,
    NodeIncarnation,
    Decree,
    Ticket
);
