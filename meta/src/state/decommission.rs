//! A node goes for good: everything leaves it, then it is forgotten. Refused if a replica had nowhere to go.

use super::change::Drain;
use super::command::{Answer, Order, Refusal};
use super::table::{Partition, Table};
use super::{Change, State, Work};
use pegasus_replication::ids::{NodeId, PartitionId};
use std::collections::BTreeSet;

/// Partitions that are named in a refusal.
const NAMED_MAX: usize = 5;

/// How far a node is with being emptied.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Emptying {
    /// What is to leave it; `None`: it stays as it is.
    pub drain: Option<Drain>,
    /// The cluster has forgotten the node.
    pub is_forgotten: bool,
    pub is_done: bool,
    /// Nothing is under way and nothing can be begun: waiting alone does not help.
    pub is_blocked: bool,
    /// What it waits for, in words; empty when done.
    pub message: String,
    pub primaries_left: u32,
    /// Learners included.
    pub replicas_left: u32,
    /// Of their files, as far as nodes have said.
    pub bytes_left: u64,
}

impl State {
    pub(super) fn handle_decommission(
        &mut self,
        node: NodeId,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        if !self.durable.nodes().contains_key(&node) {
            return Err(Refusal::NoSuchNode(node));
        }
        if let Some(reason) = self.refuses_decommission(node) {
            return Err(Refusal::BadDecommission { node, reason });
        }
        let drain = Drain::Decommission;
        if self.durable.drain(node) != Some(drain) {
            let drain = Some(drain);
            self.change(Change::NodeDrained { node, drain }, work);
            self.note_disturbance();
        }
        self.forget_emptied(work);
        Ok(Answer::Ordered(Order::Drain { node, drain }))
    }

    /// The partitions that would be lost, or have too few replicas, without `node`.
    fn refuses_decommission(&self, node: NodeId) -> Option<String> {
        let others = self.alive_nodes().filter(|it| *it != node);
        let open: BTreeSet<NodeId> = others
            .filter(|it| self.durable.drain(*it).is_none())
            .collect();
        let (mut lost, mut short) = (Vec::new(), Vec::new());
        for (id, table, partition) in self.active_partitions() {
            if !partition.holders().any(|it| it.address.node == node) {
                continue;
            }
            let elsewhere =
                |it: &NodeId| partition.members().any(|member| member.address.node == *it);
            let stay = partition
                .members()
                .filter(|it| it.address.node != node)
                .count();
            let free = open.iter().filter(|it| !elsewhere(it)).count();
            if stay == 0 && free == 0 {
                lost.push((id, table.name.as_str()));
            } else if stay + free < usize::from(table.replica_count) {
                short.push((id, table.name.as_str()));
            }
        }
        let nowhere = "no other node that is alive and stays could take their replicas";
        match (lost.as_slice(), short.as_slice()) {
            ([], []) => None,
            ([], short) => Some(format!(
                "it would leave {} with fewer replicas than wanted, because {nowhere}; add a node first, or lower the replica count of the table",
                named(short)
            )),
            (lost, _) => Some(format!(
                "it has the last copy of {}, and {nowhere}; add a node first",
                named(lost)
            )),
        }
    }

    /// Forgets nodes that have been emptied for good.
    pub(super) fn forget_emptied(&mut self, work: &mut Work) {
        let drained = self.durable.drained().iter();
        let going = drained.filter(|(_, drain)| **drain == Drain::Decommission);
        let empty: Vec<NodeId> = going
            .map(|(node, _)| *node)
            .filter(|node| self.holds_nothing(*node))
            .collect();
        for node in empty {
            self.change(Change::NodeForgotten { node }, work);
            self.live.remove(&node);
            self.reach.forget(node);
            tracing::info!(%node, "the node is empty and forgotten");
        }
    }

    /// No partition names it, those of dropped tables that are kept included.
    fn holds_nothing(&self, node: NodeId) -> bool {
        let tables = self.durable.tables().values();
        let mut holders = tables
            .flat_map(|table| &table.partitions)
            .flat_map(Partition::holders);
        !holders.any(|it| it.address.node == node)
    }

    /// How far `node` is.
    #[must_use]
    pub fn emptying(&self, node: NodeId) -> Emptying {
        if !self.durable.nodes().contains_key(&node) {
            let is_forgotten = self.durable.is_forgotten(node);
            return Emptying {
                is_forgotten,
                is_done: is_forgotten,
                ..Emptying::default()
            };
        }
        let Some(drain) = self.durable.drain(node) else {
            return Emptying::default();
        };
        let mut told = Emptying {
            drain: Some(drain),
            ..Emptying::default()
        };
        let mut is_moving = false;
        for (id, _, partition) in self.active_partitions() {
            let leads = partition.primary.is_some_and(|it| it.address.node == node);
            told.primaries_left += u32::from(leads);
            if let Some(here) = partition.holders().find(|it| it.address.node == node) {
                told.replicas_left += 1;
                let status = self.status(node, super::heal::key_of(id, here));
                told.bytes_left += status.map_or(0, |status| status.bytes);
                is_moving |= partition.intent.is_some() || partition.learner.is_some();
            }
        }
        let blockers = self.drain_blockers(node, drain);
        told.is_done = match drain {
            Drain::Primaries => told.primaries_left == 0,
            Drain::Replicas => told.replicas_left == 0,
            Drain::Decommission => false,
        };
        told.is_blocked = !told.is_done && !is_moving && blockers.is_some();
        told.message = self.still_there(node, &told, blockers);
        told
    }

    fn still_there(&self, node: NodeId, told: &Emptying, blockers: Option<String>) -> String {
        let (held, led) = (told.replicas_left, told.primaries_left);
        let left = match told.drain {
            _ if told.is_done => return String::new(),
            Some(Drain::Primaries) => format!("node {node} still leads {led} partitions"),
            Some(Drain::Decommission) if held == 0 => self.kept_on(node),
            _ => format!("node {node} still holds {held} replicas and leads {led} partitions"),
        };
        match blockers {
            Some(blockers) => format!("{left}; waiting: {blockers}"),
            None => left,
        }
    }

    /// What of dropped tables a node still has.
    fn kept_on(&self, node: NodeId) -> String {
        let tables = self.durable.tables().values();
        let here = |table: &&Table| {
            let mut holders = table.partitions.iter().flat_map(Partition::holders);
            table.is_dropped() && holders.any(|it| it.address.node == node)
        };
        let kept: Vec<&str> = tables
            .filter(here)
            .map(|table| table.name.as_str())
            .collect();
        match kept.first() {
            None => format!("node {node} is about to be forgotten"),
            Some(first) => format!(
                "node {node} still has replicas of {} dropped tables, the first is {first}; they go when those can no more be recalled",
                kept.len()
            ),
        }
    }
}

fn named(partitions: &[(PartitionId, &str)]) -> String {
    let first = partitions.iter().take(NAMED_MAX);
    let names: Vec<String> = first
        .map(|(id, table)| format!("{table}.{}", id.index))
        .collect();
    match partitions.len().saturating_sub(NAMED_MAX) {
        0 => format!("partition {}", names.join(", ")),
        more => format!("partition {} and {more} more", names.join(", ")),
    }
}
