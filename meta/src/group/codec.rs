//! Bytes of what members tell each other and keep. All integers little-endian; a text is its length (2) and UTF-8, an
//! optional thing 0 (1), or 1 (1) and the thing. `docs/formats.md` has the tables.

use super::raft::{Batch, LogId, Member, Membership, SnapshotMeta, StoredMembership, Types, Vote};
use bytes::Buf as _;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{Entry, EntryPayload, LeaderId};
use std::collections::{BTreeMap, BTreeSet};

/// Number of a member, from 1.
pub type MemberId = u64;

/// Members of one configuration, at most; read and written alike.
pub(super) const MEMBERS_MAX: usize = 64;

/// Bytes of an entry that is neither a batch nor a membership.
const ENTRY_BYTES_MIN: usize = 29;

/// Writes; never fails.
pub(super) trait Put {
    fn put(&self, out: &mut Vec<u8>);

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
}

/// Reads; `None` where the bytes are not what they should be.
pub(super) trait Take: Sized {
    fn read(input: &mut &[u8]) -> Option<Self>;

    /// The whole of `bytes`.
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let it = Self::read(&mut bytes)?;
        bytes.is_empty().then_some(it)
    }
}

impl Put for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }
}

impl Take for u64 {
    fn read(input: &mut &[u8]) -> Option<Self> {
        input.try_get_u64_le().ok()
    }
}

impl Put for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Take for bool {
    fn read(input: &mut &[u8]) -> Option<Self> {
        match input.try_get_u8().ok()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Put> Put for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(it) = self {
            it.put(out);
        }
    }
}

impl<T: Take> Take for Option<T> {
    fn read(input: &mut &[u8]) -> Option<Self> {
        if bool::read(input)? {
            T::read(input).map(Some)
        } else {
            Some(None)
        }
    }
}

impl Put for String {
    /// What is longer than a text can be is cut; nobody makes such a one.
    fn put(&self, out: &mut Vec<u8>) {
        let length = u16::try_from(self.len()).unwrap_or(0);
        out.extend(length.to_le_bytes());
        out.extend(self.as_bytes().iter().take(usize::from(length)));
    }
}

impl Take for String {
    fn read(input: &mut &[u8]) -> Option<Self> {
        let length = usize::from(input.try_get_u16_le().ok()?);
        let (text, rest) = input.split_at_checked(length)?;
        *input = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend(u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

/// A count of things that have at least `bytes_min` bytes each: never more than can be there.
pub(super) fn take_count(input: &mut &[u8], bytes_min: usize, max: usize) -> Option<usize> {
    let count = usize::try_from(input.try_get_u32_le().ok()?).ok()?;
    (count <= max && count <= input.len() / bytes_min.max(1)).then_some(count)
}

fn take_many<T: Take>(input: &mut &[u8], count: usize) -> Option<Vec<T>> {
    (0..count).map(|_| T::read(input)).collect()
}

impl Put for LogId {
    fn put(&self, out: &mut Vec<u8>) {
        self.leader_id.term.put(out);
        self.leader_id.node_id.put(out);
        self.index.put(out);
    }
}

impl Take for LogId {
    fn read(input: &mut &[u8]) -> Option<Self> {
        let leader_id = LeaderId::new(u64::read(input)?, u64::read(input)?);
        Some(Self::new(leader_id, u64::read(input)?))
    }
}

impl Put for Vote {
    fn put(&self, out: &mut Vec<u8>) {
        self.leader_id.term.put(out);
        self.leader_id.node_id.put(out);
        self.committed.put(out);
    }
}

impl Take for Vote {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            leader_id: LeaderId::new(u64::read(input)?, u64::read(input)?),
            committed: bool::read(input)?,
        })
    }
}

impl Put for Member {
    fn put(&self, out: &mut Vec<u8>) {
        self.client_address.put(out);
        self.peer_address.put(out);
        self.incarnation.put(out);
    }
}

impl Take for Member {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            client_address: String::read(input)?,
            peer_address: String::read(input)?,
            incarnation: u64::read(input)?,
        })
    }
}

impl Put for Membership {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.get_joint_config().len(), out);
        for voters in self.get_joint_config() {
            put_count(voters.len(), out);
            voters.iter().for_each(|id| id.put(out));
        }
        put_count(self.nodes().count(), out);
        for (id, member) in self.nodes() {
            id.put(out);
            member.put(out);
        }
    }
}

impl Take for Membership {
    fn read(input: &mut &[u8]) -> Option<Self> {
        let mut configurations = Vec::new();
        for _ in 0..take_count(input, 4, 2)? {
            let count = take_count(input, 8, MEMBERS_MAX)?;
            let voters: BTreeSet<MemberId> = take_many(input, count)?.into_iter().collect();
            configurations.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..take_count(input, 20, 2 * MEMBERS_MAX)? {
            nodes.insert(MemberId::read(input)?, Member::read(input)?);
        }
        let known = configurations.iter().flatten();
        if !known.into_iter().all(|id| nodes.contains_key(id)) {
            return None;
        }
        Some(Self::new(configurations, nodes))
    }
}

impl Put for StoredMembership {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id().put(out);
        self.membership().put(out);
    }
}

impl Take for StoredMembership {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self::new(Take::read(input)?, Membership::read(input)?))
    }
}

impl Put for SnapshotMeta {
    fn put(&self, out: &mut Vec<u8>) {
        self.last_log_id.put(out);
        self.last_membership.put(out);
        self.snapshot_id.put(out);
    }
}

impl Take for SnapshotMeta {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            last_log_id: Take::read(input)?,
            last_membership: Take::read(input)?,
            snapshot_id: String::read(input)?,
        })
    }
}

impl Put for Entry<Types> {
    fn put(&self, out: &mut Vec<u8>) {
        self.log_id.put(out);
        let kind = match &self.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(_) => 1,
            EntryPayload::Membership(_) => 2,
        };
        out.push(kind);
        let payload = match &self.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(batch) => {
                let mut payload = batch.follows.to_bytes();
                payload.extend_from_slice(&batch.changes);
                payload
            }
            EntryPayload::Membership(membership) => membership.to_bytes(),
        };
        put_count(payload.len(), out);
        out.extend(payload);
    }
}

impl Take for Entry<Types> {
    fn read(input: &mut &[u8]) -> Option<Self> {
        let log_id = LogId::read(input)?;
        let kind = input.try_get_u8().ok()?;
        let length = take_count(input, 1, usize::MAX)?;
        let (mut payload, rest) = input.split_at_checked(length)?;
        *input = rest;
        let payload = match kind {
            0 if payload.is_empty() => EntryPayload::Blank,
            1 => EntryPayload::Normal(Batch {
                follows: u64::read(&mut payload)?,
                changes: payload.into(),
            }),
            2 => EntryPayload::Membership(Membership::from_bytes(payload)?),
            _ => return None,
        };
        Some(Self { log_id, payload })
    }
}

pub(super) fn put_entries(entries: &[Entry<Types>], out: &mut Vec<u8>) {
    put_count(entries.len(), out);
    entries.iter().for_each(|entry| entry.put(out));
}

pub(super) fn take_entries(input: &mut &[u8]) -> Option<Vec<Entry<Types>>> {
    let count = take_count(input, ENTRY_BYTES_MIN, usize::MAX)?;
    take_many(input, count)
}

impl Put for AppendEntriesRequest<Types> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.prev_log_id.put(out);
        self.leader_commit.put(out);
        put_entries(&self.entries, out);
    }
}

impl Take for AppendEntriesRequest<Types> {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            vote: Take::read(input)?,
            prev_log_id: Take::read(input)?,
            leader_commit: Take::read(input)?,
            entries: take_entries(input)?,
        })
    }
}

impl Put for AppendEntriesResponse<MemberId> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Success => out.push(0),
            Self::PartialSuccess(matching) => {
                out.push(1);
                matching.put(out);
            }
            Self::Conflict => out.push(2),
            Self::HigherVote(vote) => {
                out.push(3);
                vote.put(out);
            }
        }
    }
}

impl Take for AppendEntriesResponse<MemberId> {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(match input.try_get_u8().ok()? {
            0 => Self::Success,
            1 => Self::PartialSuccess(Take::read(input)?),
            2 => Self::Conflict,
            3 => Self::HigherVote(Take::read(input)?),
            _ => return None,
        })
    }
}

impl Put for VoteRequest<MemberId> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.last_log_id.put(out);
    }
}

impl Take for VoteRequest<MemberId> {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            vote: Take::read(input)?,
            last_log_id: Take::read(input)?,
        })
    }
}

impl Put for VoteResponse<MemberId> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.vote_granted.put(out);
        self.last_log_id.put(out);
    }
}

impl Take for VoteResponse<MemberId> {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            vote: Take::read(input)?,
            vote_granted: bool::read(input)?,
            last_log_id: Take::read(input)?,
        })
    }
}

impl Put for SnapshotResponse<MemberId> {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
    }
}

impl Take for SnapshotResponse<MemberId> {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            vote: Take::read(input)?,
        })
    }
}

/// A snapshot on its way: under which vote, what it is, and its bytes.
pub(super) struct SnapshotRequest {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) data: Vec<u8>,
}

impl Put for SnapshotRequest {
    fn put(&self, out: &mut Vec<u8>) {
        self.vote.put(out);
        self.meta.put(out);
        out.extend_from_slice(&self.data);
    }
}

impl Take for SnapshotRequest {
    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self {
            vote: Take::read(input)?,
            meta: Take::read(input)?,
            data: std::mem::take(input).to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn membership() -> Membership {
        let member = |id: u64| Member {
            client_address: format!("127.0.0.1:{id}"),
            peer_address: format!("127.0.0.1:{}", id + 1_000),
            incarnation: id * 77,
        };
        let nodes: BTreeMap<u64, Member> = (1..=3).map(|id| (id, member(id))).collect();
        Membership::new(vec![[1, 2].into(), [1, 2, 3].into()], nodes)
    }

    fn log_id(index: u64) -> LogId {
        LogId::new(LeaderId::new(7, 2), index)
    }

    fn request() -> AppendEntriesRequest<Types> {
        let entry = |index, payload| Entry::<Types> {
            log_id: log_id(index),
            payload,
        };
        let batch = Batch {
            follows: 9,
            changes: b"changes"[..].into(),
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(7, 2),
            prev_log_id: Some(log_id(4)),
            leader_commit: None,
            entries: vec![
                entry(5, EntryPayload::Blank),
                entry(6, EntryPayload::Normal(batch)),
                entry(7, EntryPayload::Membership(membership())),
            ],
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_shorter_or_longer() {
        let mut bytes = request().to_bytes();
        let read = AppendEntriesRequest::<Types>::from_bytes(&bytes).unwrap();
        assert_eq!(read.entries, request().entries);
        assert_eq!(
            (read.vote, read.prev_log_id),
            (request().vote, request().prev_log_id)
        );
        for length in 0..bytes.len() {
            assert!(AppendEntriesRequest::<Types>::from_bytes(&bytes[..length]).is_none());
        }
        bytes.push(0);
        assert!(AppendEntriesRequest::<Types>::from_bytes(&bytes).is_none());
    }

    #[test]
    fn damaged_bytes_never_panic_and_a_voter_without_address_is_refused() {
        let bytes = request().to_bytes();
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                _ = AppendEntriesRequest::<Types>::from_bytes(&damaged);
            }
        }
        let nameless: Vec<u8> = [1_u32, 1].iter().flat_map(|it| it.to_le_bytes()).collect();
        let nameless = [nameless, 5_u64.to_bytes(), vec![0; 4]].concat();
        assert!(Membership::from_bytes(&nameless).is_none());
    }
}
