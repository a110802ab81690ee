//! Status codes of failed requests, and what each says about the operation: executed, not executed, or unknown.
//!
//! An operator of a store needs to know above all whether an operation took effect. Every code says so; a code that
//! cannot be sure says [`Execution::Unknown`].

use std::fmt;
use thiserror::Error;

/// Number in `kv.Failure.code`. 0 never travels in a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Code {
    /// Done.
    Ok = 0,
    /// The row, or what an admin request names, does not exist.
    NotFound = 1,
    /// The request makes no sense as it is; sending it again changes nothing.
    InvalidArgument = 2,
    /// A key, value or request is over its limit.
    TooLarge = 3,
    /// No table of that name or number.
    UnknownTable = 4,
    /// The core does not host the partition.
    NotHere = 5,
    /// The core hosts a secondary; the failure names the primary when it is known.
    NotPrimary = 6,
    /// The primary may not answer at the moment (being elected, lease missing, replaying).
    NotServing = 7,
    /// Back-pressure; the failure says when to come back.
    Busy = 8,
    /// Too few members of the partition are reachable to accept a write.
    NotEnoughMembers = 9,
    /// The node keeps its last disk space for compaction.
    DiskFull = 10,
    /// The replica is damaged or missing and waits for repair.
    OutOfService = 11,
    /// The deadline passed before the operation was started.
    Expired = 12,
    /// The operation was started and its outcome is not known.
    Unknown = 13,
    /// The server does not know this request kind or option.
    Unsupported = 14,
    /// A defect of the server; whether the operation took effect is not known.
    Internal = 15,
    /// A table of that name exists.
    AlreadyExists = 16,
    /// Fewer nodes than replicas asked for.
    NotEnoughNodes = 17,
    /// The table is recorded but its partitions do not all serve yet.
    Creating = 18,
    /// The two sides belong to different clusters.
    WrongCluster = 19,
    /// The two sides have no protocol or disk format version in common.
    Incompatible = 20,
    /// The proof of the cluster token is missing or wrong.
    Unauthenticated = 21,
}

/// What is known about an operation after its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Execution {
    /// It took effect (for a read: it was answered from the data).
    Executed,
    /// It took no effect and never will.
    NotExecuted,
    /// It may have taken effect, or may still do so.
    Unknown,
}

/// A number that is no [`Code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown status code {0}")]
pub struct UnknownCode(pub u16);

impl Code {
    /// Every code, by number.
    pub const ALL: [Self; 22] = [
        Self::Ok,
        Self::NotFound,
        Self::InvalidArgument,
        Self::TooLarge,
        Self::UnknownTable,
        Self::NotHere,
        Self::NotPrimary,
        Self::NotServing,
        Self::Busy,
        Self::NotEnoughMembers,
        Self::DiskFull,
        Self::OutOfService,
        Self::Expired,
        Self::Unknown,
        Self::Unsupported,
        Self::Internal,
        Self::AlreadyExists,
        Self::NotEnoughNodes,
        Self::Creating,
        Self::WrongCluster,
        Self::Incompatible,
        Self::Unauthenticated,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether the operation that was answered with this code took effect.
    #[must_use]
    pub const fn execution(self) -> Execution {
        match self {
            Self::Ok | Self::NotFound => Execution::Executed,
            Self::Unknown | Self::Internal => Execution::Unknown,
            Self::InvalidArgument
            | Self::TooLarge
            | Self::UnknownTable
            | Self::NotHere
            | Self::NotPrimary
            | Self::NotServing
            | Self::Busy
            | Self::NotEnoughMembers
            | Self::DiskFull
            | Self::OutOfService
            | Self::Expired
            | Self::Unsupported
            | Self::AlreadyExists
            | Self::NotEnoughNodes
            | Self::Creating
            | Self::WrongCluster
            | Self::Incompatible
            | Self::Unauthenticated => Execution::NotExecuted,
        }
    }

    /// Whether the asker's idea of where the partition lives may be out of date.
    #[must_use]
    pub const fn refreshes_routing(self) -> bool {
        matches!(
            self,
            Self::UnknownTable
                | Self::NotHere
                | Self::NotPrimary
                | Self::NotServing
                | Self::OutOfService
                | Self::Creating
        )
    }

    /// Whether the same data request may succeed within seconds if sent again; it was not executed the first time.
    /// Never true for a code whose execution is unknown: that is for the caller to judge.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        matches!(
            self,
            Self::NotHere
                | Self::NotPrimary
                | Self::NotServing
                | Self::Busy
                | Self::NotEnoughMembers
                | Self::OutOfService
                | Self::Creating
        )
    }

    /// The name in statistics and JSON, for example `not_enough_members`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::InvalidArgument => "invalid_argument",
            Self::TooLarge => "too_large",
            Self::UnknownTable => "unknown_table",
            Self::NotHere => "not_here",
            Self::NotPrimary => "not_primary",
            Self::NotServing => "not_serving",
            Self::Busy => "busy",
            Self::NotEnoughMembers => "not_enough_members",
            Self::DiskFull => "disk_full",
            Self::OutOfService => "out_of_service",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
            Self::AlreadyExists => "already_exists",
            Self::NotEnoughNodes => "not_enough_nodes",
            Self::Creating => "creating",
            Self::WrongCluster => "wrong_cluster",
            Self::Incompatible => "incompatible",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl TryFrom<u16> for Code {
    type Error = UnknownCode;

    fn try_from(number: u16) -> Result<Self, UnknownCode> {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .ok_or(UnknownCode(number))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "done",
            Self::NotFound => "not found",
            Self::InvalidArgument => "invalid request",
            Self::TooLarge => "over the size limit",
            Self::UnknownTable => "no such table",
            Self::NotHere => "the core does not host this partition",
            Self::NotPrimary => "the core is not the primary of this partition",
            Self::NotServing => "the partition does not serve at the moment",
            Self::Busy => "the core is busy, try again later",
            Self::NotEnoughMembers => "too few replicas of the partition are reachable for a write",
            Self::DiskFull => "the node is out of disk space for writes",
            Self::OutOfService => "the replica is out of service until it is repaired",
            Self::Expired => "the deadline passed before the operation was started",
            Self::Unknown => "the operation was started and not confirmed",
            Self::Unsupported => "not supported by this server",
            Self::Internal => "internal error of the server",
            Self::AlreadyExists => "exists already",
            Self::NotEnoughNodes => "fewer nodes than replicas",
            Self::Creating => "the table is still being created",
            Self::WrongCluster => "the other side belongs to another cluster",
            Self::Incompatible => "no common version",
            Self::Unauthenticated => "the cluster token does not match",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number() {
        for code in Code::ALL {
            assert_eq!(Code::try_from(code.number()), Ok(code));
        }
        assert_eq!(Code::try_from(22), Err(UnknownCode(22)));
    }

    #[test]
    fn only_operations_that_were_not_executed_may_be_retried_blindly() {
        for code in Code::ALL.into_iter().filter(|code| code.may_retry()) {
            assert_eq!(code.execution(), Execution::NotExecuted, "{code:?}");
        }
    }

    #[test]
    fn names_and_sentences_are_distinct() {
        let names: std::collections::HashSet<_> =
            Code::ALL.iter().map(|code| code.name()).collect();
        let sentences: std::collections::HashSet<_> =
            Code::ALL.iter().map(ToString::to_string).collect();
        assert_eq!((names.len(), sentences.len()), (22, 22));
    }
}
