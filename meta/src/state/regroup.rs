//! The one way in which a partition's group changes: decided, recorded, told to everybody whom it concerns.

use super::command::Assignment;
use super::table::{Partition, Table};
use super::{Change, State, Work};
use pegasus_replication::config::{Configuration, Stage};
use pegasus_replication::ids::{NodeId, PartitionId};
use std::collections::BTreeSet;

impl State {
    /// Partition `id` of a table that is not dropped.
    pub(super) fn partition(&self, id: PartitionId) -> Option<(&Table, &Partition)> {
        let table = self
            .durable
            .tables()
            .get(&id.table)
            .filter(|table| !table.is_dropped())?;
        Some((table, table.partition(id.index)?))
    }

    /// Changes a partition by `edit`, gives it the next ballot if its members are others then or its learner is given up, and
    /// tells them. Returns whether anything has changed; nothing has if there are no ballots left.
    ///
    /// A learner leaves by a ballot, because its primary may wait for it and have proposed to add it: were it assigned again
    /// under the same ballot, that old proposal could add a copy that nobody waits for any more.
    pub(super) fn regroup(
        &mut self,
        id: PartitionId,
        edit: impl FnOnce(&mut Partition),
        work: &mut Work,
    ) -> bool {
        let Some((table, before)) = self.partition(id) else {
            return false;
        };
        let mut next = before.clone();
        edit(&mut next);
        next.settle(table.replica_count, self.now_ms);
        let has_moved = before.primary != next.primary || before.secondaries != next.secondaries;
        if (has_moved || before.gives_up_learner(&next)) && next.ballot == before.ballot {
            let Some(ballot) = before.next_ballot() else {
                return false;
            };
            next.ballot = ballot;
        }
        let before = before.clone();
        if next == before {
            return false;
        }
        if has_moved {
            self.heal.changed.insert(id, self.now_ms);
            self.heal.strays.insert(id);
        }
        self.record(id, next, work);
        self.note_change_of(id, &before);
        self.tell_group(id, &before, work);
        self.watch(id);
        true
    }

    /// Adds to the last change of the command if it fits there: a batch of a thousand partitions is then one change.
    fn record(&mut self, id: PartitionId, next: Partition, work: &mut Work) {
        self.change(
            Change::PartitionsChanged {
                table: id.table,
                partitions: vec![(id.index, next)],
            },
            work,
        );
        let [.., Change::PartitionsChanged { table, partitions }, _] = &mut work.changes[..] else {
            return;
        };
        let is_next = partitions
            .last()
            .is_some_and(|(index, _)| *index < id.index);
        if *table != id.table || !is_next {
            return;
        }
        if let Some(Change::PartitionsChanged {
            partitions: last, ..
        }) = work.changes.pop()
            && let Some(Change::PartitionsChanged { partitions, .. }) = work.changes.last_mut()
        {
            partitions.extend(last);
        }
    }

    /// Old and new members hear of a new ballot; primary and learner hear of the learner.
    fn tell_group(&self, id: PartitionId, before: &Partition, work: &mut Work) {
        let Some((table, now)) = self.partition(id) else {
            return;
        };
        let Some(configuration) = table.configuration(id.index) else {
            return;
        };
        let has_grown = now.ballot > before.ballot;
        if has_grown {
            let members = before.members().chain(now.members());
            let nodes: BTreeSet<NodeId> = members.map(|member| member.address.node).collect();
            work.pushes.configuration_to(nodes, &configuration);
        }
        let learner_node = |it: &Partition| it.learner.map(|it| it.member.address.node);
        if has_grown || now.learner != before.learner {
            let primary = now.primary.map(|it| it.address.node);
            let gone = learner_node(before).filter(|_| now.learner != before.learner);
            let was_added = before.learner.is_some_and(|it| now.is_member(&it.member));
            if let Some(node) = gone.filter(|_| !was_added) {
                work.pushes.assignment(node, withdrawn(&configuration));
            }
            match assignment(&configuration, now) {
                Some(told) => {
                    for node in primary.into_iter().chain(learner_node(now)) {
                        work.pushes.assignment(node, told.clone());
                    }
                }
                None if before.learner.is_some() && !was_added => {
                    let nodes = primary.into_iter();
                    nodes.for_each(|node| work.pushes.assignment(node, withdrawn(&configuration)));
                }
                None => {}
            }
        }
    }

    /// Keeps the sets of partitions that need looking after.
    pub(super) fn watch(&mut self, id: PartitionId) {
        let is_ailing = self
            .partition(id)
            .is_some_and(|(table, it)| is_ailing(table, it));
        if is_ailing {
            self.ailing.insert(id);
        } else {
            self.ailing.remove(&id);
        }
    }

    /// Tells a node what holds of a partition, and who learns it if that is its business.
    pub(super) fn tell_again(&self, node: NodeId, id: PartitionId, work: &mut Work) {
        let Some((table, partition)) = self.partition(id) else {
            return;
        };
        let Some(configuration) = table.configuration(id.index) else {
            return;
        };
        work.pushes.configuration_to([node], &configuration);
        let leads = partition.primary.is_some_and(|it| it.address.node == node);
        let learns = partition
            .learner
            .is_some_and(|it| it.member.address.node == node);
        if leads || learns {
            let told =
                assignment(&configuration, partition).unwrap_or_else(|| withdrawn(&configuration));
            work.pushes.assignment(node, told);
        }
    }
}

/// Something is missing, learning or to be moved.
pub(super) fn is_ailing(table: &Table, partition: &Partition) -> bool {
    let is_complete = partition.member_count() == usize::from(table.replica_count);
    partition.stage == Stage::Active
        && (!is_complete || partition.learner.is_some() || partition.intent.is_some())
}

fn assignment(configuration: &Configuration, partition: &Partition) -> Option<Assignment> {
    let learner = partition.learner?;
    Some(Assignment {
        configuration: configuration.clone(),
        learner: Some(learner.member),
        is_fresh: learner.is_fresh,
    })
}

fn withdrawn(configuration: &Configuration) -> Assignment {
    Assignment {
        configuration: configuration.clone(),
        learner: None,
        is_fresh: false,
    }
}
