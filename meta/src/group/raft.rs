//! The words that openraft and we share.

use super::codec::MemberId;
use openraft::impls::{OneshotResponder, TokioRuntime};
use openraft::{Entry, RaftTypeConfig};
use std::fmt;
use std::sync::Arc;

/// What openraft is built of here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Batch;
    type R = Applied;
    type NodeId = MemberId;
    type Node = Member;
    type Entry = Entry<Self>;
    type SnapshotData = Vec<u8>;
    type AsyncRuntime = TokioRuntime;
    type Responder = OneshotResponder<Self>;
}

pub(super) type Raft = openraft::Raft<Types>;
pub(super) type LogId = openraft::LogId<MemberId>;
pub(super) type Vote = openraft::Vote<MemberId>;
pub(super) type Membership = openraft::Membership<MemberId, Member>;
pub(super) type StoredMembership = openraft::StoredMembership<MemberId, Member>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<MemberId, Member>;
pub(super) type StorageError = openraft::StorageError<MemberId>;

/// A member, as the group has agreed on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// `ip:port` of its clients.
    pub client_address: String,
    /// `ip:port` of its peers.
    pub peer_address: String,
    /// Of its directory: another directory is another member, whatever its number.
    pub incarnation: u64,
}

/// What is agreed on: changes, and after which batch they come.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// The number of the batch before; one that does not follow changes nothing.
    pub follows: u64,
    /// As [`crate::store::format::change::encode_batch`] writes them.
    pub changes: Arc<[u8]>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { follows, changes } = self;
        write!(f, "batch after {follows}, {} bytes", changes.len())
    }
}

/// What has come of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It was no batch.
    Nothing,
    /// It is the batch of this number now.
    Done { number: u64 },
    /// It did not follow; the last batch is this one.
    Refused { last: u64 },
}
