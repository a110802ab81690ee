//! What an order waits for, in words that name the partition and what stands in its way.

use super::State;
use super::change::Drain;
use super::heal::Slots;
use super::table::{Partition, Table};
use pegasus_replication::ids::{NodeId, PartitionId};
use std::collections::BTreeMap;

/// Partitions that are named.
const NAMED_MAX: usize = 3;
/// Partitions that are looked at: each may cost a search for a place.
const EXAMINED_MAX: usize = 256;
/// Nodes that are named for each reason.
const NODES_NAMED_MAX: usize = 8;

impl State {
    /// What keeps `node` from being emptied, if anything but time does: the first few partitions, each with its reason.
    pub(super) fn drain_blockers(&self, node: NodeId, drain: Drain) -> Option<String> {
        let mut slots = Slots::of(self);
        let mut named = Vec::new();
        let is_concerned = |it: &Partition| match drain {
            Drain::Primaries => it.primary.is_some_and(|it| it.address.node == node),
            Drain::Replicas | Drain::Decommission => it.members().any(|it| it.address.node == node),
        };
        let concerned = self
            .active_partitions()
            .filter(|(_, _, it)| is_concerned(it));
        for (id, table, partition) in concerned.take(EXAMINED_MAX) {
            let reason = self.drain_blocker(id, table, partition, node, drain, &mut slots);
            named.extend(reason.map(|reason| format!("partition {id} {reason}")));
            if named.len() == NAMED_MAX {
                named.push("...".to_owned());
                break;
            }
        }
        (!named.is_empty()).then(|| named.join("; "))
    }

    fn drain_blocker(
        &self,
        id: PartitionId,
        table: &Table,
        partition: &Partition,
        node: NodeId,
        drain: Drain,
        slots: &mut Slots,
    ) -> Option<String> {
        let leads = partition.primary.is_some_and(|it| it.address.node == node);
        if !self.serves(id) {
            return Some("has no primary that serves".to_owned());
        }
        if leads && !partition.secondaries.is_empty() && self.any_successor(id, node).is_none() {
            return Some(self.nobody_leads(id, partition, node));
        }
        if drain == Drain::Primaries {
            let is_alone = partition.secondaries.is_empty();
            return is_alone.then(|| {
                "has no other replica that could lead it; drain with --move to take it elsewhere"
                    .to_owned()
            });
        }
        let is_under_way = partition.intent.is_some() || partition.learner.is_some();
        if is_under_way || (leads && !partition.secondaries.is_empty()) {
            return None;
        }
        if self.target(id, slots).is_none() {
            return Some(format!(
                "has no other node to go to: {}",
                self.why_nowhere(id, partition, node)
            ));
        }
        let has_too_few = partition.member_count() < usize::from(table.replica_count);
        has_too_few.then(|| "lacks a replica, which is made first".to_owned())
    }

    fn nobody_leads(&self, id: PartitionId, partition: &Partition, node: NodeId) -> String {
        let mut reasons: BTreeMap<&'static str, Vec<NodeId>> = BTreeMap::new();
        for it in partition.secondaries.iter() {
            let other = it.address.node;
            let reason = match it {
                _ if other == node => continue,
                _ if self.durable().drain(other).is_some() => "being emptied too",
                _ if !self.is_alive(other) => "not heard of",
                _ if self.is_leaving(other) => "about to stop",
                _ if !self.follows(id, partition, it) => "not following yet",
                _ => continue,
            };
            reasons.entry(reason).or_default().push(other);
        }
        format!("has no secondary that may lead: {}", worded(&reasons))
    }

    /// Why none of the other nodes may have a new replica of it.
    fn why_nowhere(&self, id: PartitionId, partition: &Partition, node: NodeId) -> String {
        let mut reasons: BTreeMap<&'static str, Vec<NodeId>> = BTreeMap::new();
        let others = self.durable().nodes().keys().filter(|it| **it != node);
        for &other in others {
            let reason = match other {
                _ if partition.holders().any(|it| it.address.node == other) => {
                    "holding a replica of it"
                }
                _ if self.durable().drain(other).is_some() => "being emptied too",
                _ if !self.is_alive(other) => "not heard of",
                _ if self.is_leaving(other) => "about to stop",
                _ if self.has_to_wait(partition, other) => "kept out after a failure",
                _ if self.copies(id, other).next().is_some() => "deleting an old copy",
                _ => "busy with other new replicas",
            };
            reasons.entry(reason).or_default().push(other);
        }
        if reasons.is_empty() {
            return "there is no other node".to_owned();
        }
        worded(&reasons)
    }
}

/// "node 1, node 2 holding a replica of it; node 3 not heard of".
fn worded(reasons: &BTreeMap<&'static str, Vec<NodeId>>) -> String {
    let parts = reasons.iter().map(|(reason, nodes)| {
        let named: Vec<String> = nodes
            .iter()
            .take(NODES_NAMED_MAX)
            .map(|it| format!("node {it}"))
            .collect();
        let more = nodes.len().saturating_sub(NODES_NAMED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        format!("{}{more} {reason}", named.join(", "))
    });
    parts.collect::<Vec<_>>().join(", ")
}
