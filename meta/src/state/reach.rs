//! Who hears whom: what meta itself hears of a node, and which nodes have said that they do not hear each other.
//!
//! When the network between nodes is cut and meta reaches all of them, a primary that is cut off would remove healthy members
//! one by one until it is alone and cannot write. Here is known that they live; they take over by themselves.

use super::State;
use super::command::{Answer, Refusal};
use super::table::{Partition, Table};
use pegasus_replication::config::Member;
use pegasus_replication::ids::{Ballot, NodeId, NodeIncarnation, PartitionId};
use std::collections::BTreeMap;

/// A node whose last heartbeat is older is not heard, in milliseconds: one and a half periods of heartbeats.
const HEARD_MS: u64 = 1_500;
/// For how long a removal is refused, in milliseconds: the member asks to take over long before. One that does not hears its
/// primary, and only its answers are lost; then it goes.
const PATIENCE_MS: u64 = 2_000;
/// For how long two nodes count as not hearing each other, in milliseconds.
const SILENT_MS: u64 = 10_000;
/// Pairs of such nodes, at most; a further one displaces all others.
const PAIRS_MAX: usize = 4_096;

/// What is known of connections. Lost with the process: nothing is decided by it but which of two good things is done.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// The lower number first; when the last of the two said so.
    silent: BTreeMap<(NodeId, NodeId), u64>,
    /// Removals that were refused, with the ballot that they would have ended, and the time of the first refusal.
    refused: BTreeMap<PartitionId, (Ballot, u64)>,
    /// The same of take-overs.
    yielded: BTreeMap<PartitionId, (Ballot, u64)>,
}

impl Reach {
    /// `node` has started again: what was said of it before counts no more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.silent.retain(|&(a, b), _| a != node && b != node);
    }

    /// When somebody first had to let others take over under this ballot: now, if nobody had.
    pub(super) fn first_yield(&mut self, id: PartitionId, ballot: Ballot, now_ms: u64) -> u64 {
        let known = self.yielded.get(&id).filter(|(of, _)| *of == ballot);
        let first = known.map_or(now_ms, |(_, since_ms)| *since_ms);
        self.yielded.insert(id, (ballot, first));
        first
    }

    fn note_silence(&mut self, a: NodeId, b: NodeId, now_ms: u64) {
        self.silent
            .retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < SILENT_MS);
        if self.silent.len() >= PAIRS_MAX {
            self.silent.clear();
        }
        self.silent.insert((a.min(b), a.max(b)), now_ms);
    }

    fn is_silent(&self, a: NodeId, b: NodeId, now_ms: u64) -> bool {
        let said = self.silent.get(&(a.min(b), a.max(b)));
        said.is_some_and(|at_ms| now_ms.saturating_sub(*at_ms) < SILENT_MS)
    }
}

impl State {
    pub(super) fn handle_lost(
        &mut self,
        node: NodeId,
        incarnation: NodeIncarnation,
    ) -> Result<Answer, Refusal> {
        self.expect_life(node, incarnation)?;
        if let Some(live) = self.live.get_mut(&node) {
            live.is_connected = false;
        }
        Ok(Answer::Done)
    }

    /// Meta itself hears `node`: it is connected, and its heartbeats come.
    pub(super) fn is_heard(&self, node: NodeId) -> bool {
        self.live.get(&node).is_some_and(|live| {
            live.is_connected && self.now_ms.saturating_sub(live.heard_ms) < HEARD_MS
        })
    }

    /// One node has asked for a change because it does not hear another one.
    pub(super) fn note_silence(&mut self, one: NodeId, other: NodeId) {
        self.reach.note_silence(one, other, self.now_ms);
    }

    /// Neither of the two has said lately that it does not hear the other.
    pub(super) fn may_hear(&self, one: NodeId, other: NodeId) -> bool {
        !self.reach.is_silent(one, other, self.now_ms)
    }

    /// Whether `member`, which its primary does not hear, has to stay for now: without it there are too few members to write,
    /// and meta hears it.
    pub(super) fn has_to_stay(&mut self, id: PartitionId, member: &Member) -> bool {
        let Some((table, partition)) = self.partition(id) else {
            return false;
        };
        let ballot = partition.ballot;
        if !leaves_too_few(table, partition) || !self.is_heard(member.address.node) {
            return false;
        }
        let now_ms = self.now_ms;
        let refused = self.reach.refused.get(&id).filter(|(of, _)| *of == ballot);
        let (first, since_ms) = match refused {
            Some((_, since_ms)) => (false, *since_ms),
            None => (true, now_ms),
        };
        if first {
            tracing::warn!(partition = %id, %ballot, node = %member.address.node,
                "a member that its primary does not hear stays for now: meta hears it, and without it nobody could write");
            self.reach.refused.insert(id, (ballot, now_ms));
        }
        now_ms.saturating_sub(since_ms) < PATIENCE_MS
    }

    /// Refusals of ballots that are gone are forgotten.
    pub(super) fn forget_refusals(&mut self) {
        let mut reach = std::mem::take(&mut self.reach);
        let is_current = |id: &PartitionId, (ballot, _): &mut (Ballot, u64)| {
            let known = self.partition(*id);
            known.is_some_and(|(_, it)| it.ballot == *ballot)
        };
        reach.refused.retain(is_current);
        reach.yielded.retain(is_current);
        self.reach = reach;
    }
}

fn leaves_too_few(table: &Table, partition: &Partition) -> bool {
    partition.member_count().saturating_sub(1) < usize::from(table.min_replicas)
}
