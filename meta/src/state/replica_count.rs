//! A table gets another number of replicas.
//!
//! ```text
//! more: the count grows --> learners are added, a few at a time --> writes need as many members as the rule says
//! less: writes need fewer members, the count falls --> what is too much leaves, a few at a time
//! ```
//!
//! What writes need follows the rule of new tables ([`Table::default_min_replicas`]), and never grows before every partition has
//! as many members: no write is refused because of this. Members learn of it by a new ballot.

use super::command::{Answer, Order, Refusal};
use super::heal::Slots;
use super::orders::OrderProgress;
use super::table::{Partition, REPLICA_COUNT_MAX, Table};
use super::{Change, Level, State, Work};
use pegasus_replication::config::Member;
use pegasus_replication::ids::{PartitionId, TableId};
use std::cmp::Reverse;

impl State {
    pub(super) fn handle_set_replicas(
        &mut self,
        name: &str,
        replica_count: u8,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let table = self
            .durable
            .table_named(name)
            .ok_or_else(|| Refusal::UnknownTable(name.chars().take(256).collect()))?;
        let (id, before) = (table.id, table.replica_count);
        let level = self.durable.level();
        let alive = self.open_nodes().count();
        match replica_count {
            _ if level <= Level::Freezed => return Err(Refusal::Frozen(level)),
            _ if !(1..=REPLICA_COUNT_MAX).contains(&replica_count) => {
                return Err(Refusal::BadReplicaCount(replica_count));
            }
            _ if replica_count > before && alive < usize::from(replica_count) => {
                return Err(Refusal::NotEnoughNodes {
                    replica_count,
                    alive,
                });
            }
            _ => {}
        }
        if replica_count != before {
            let rule = Table::default_min_replicas(replica_count);
            // More are needed once they are there.
            let min_replicas = table.min_replicas.min(rule);
            self.set_counts(id, replica_count, min_replicas, work);
        }
        Ok(Answer::ReplicasSet {
            before,
            order: Order::Replicas(id),
        })
    }

    fn set_counts(&mut self, id: TableId, replica_count: u8, min_replicas: u8, work: &mut Work) {
        let change = Change::ReplicaCountSet {
            table: id,
            replica_count,
            min_replicas,
        };
        self.change(change, work);
        self.note_disturbance();
        self.tell_info(id, work);
        let count = self
            .durable
            .tables()
            .get(&id)
            .map_or(0, |table| table.partition_count);
        for index in 0..count {
            let partition = PartitionId { table: id, index };
            let next_ballot = |it: &mut Partition| {
                it.ballot = it.next_ballot().unwrap_or(it.ballot);
            };
            if self.creating.contains(&partition) {
                // It has still to be made, under the ballot that it has.
                let table = self.durable.tables().get(&id);
                let told = table.and_then(|table| table.configuration(index));
                told.iter().for_each(|told| work.pushes.configuration(told));
                continue;
            }
            self.regroup(partition, next_ballot, work);
            self.watch(partition);
            if self.lacks_members(partition) {
                // Nobody is expected to come back.
                self.heal.hurry.insert(partition);
            }
        }
    }

    fn lacks_members(&self, id: PartitionId) -> bool {
        self.partition(id)
            .is_some_and(|(table, it)| it.member_count() < usize::from(table.replica_count))
    }

    /// Lets writes need as many members as the rule says, where all partitions have them.
    pub(super) fn drive_replica_counts(&mut self, work: &mut Work) {
        let is_behind = |table: &&Table| {
            !table.is_dropped()
                && table.min_replicas < Table::default_min_replicas(table.replica_count)
        };
        let tables = self.durable.tables().values().filter(is_behind);
        let ready = tables.filter(|table| {
            let rule = Table::default_min_replicas(table.replica_count);
            let has_enough = |it: &Partition| it.member_count() >= usize::from(rule);
            table.partitions.iter().all(has_enough)
        });
        let ready: Vec<(TableId, u8)> = ready.map(|it| (it.id, it.replica_count)).collect();
        for (id, replica_count) in ready {
            let rule = Table::default_min_replicas(replica_count);
            self.set_counts(id, replica_count, rule, work);
        }
    }

    /// One member more than wanted: after a move that was given up, or since fewer are wanted. Who does not follow goes first,
    /// then who stands on the fullest core; and nobody before the others follow.
    pub(super) fn trim(&mut self, id: PartitionId, slots: &mut Slots, work: &mut Work) {
        let Some((table, partition)) = self.partition(id) else {
            return;
        };
        let is_over = partition.member_count() > usize::from(table.replica_count);
        if !is_over || partition.intent.is_some() || !self.serves(id) || !slots.may_trim() {
            return;
        }
        slots.count_loads(self);
        let replicas = |member: &Member| slots.replicas_on(member.address);
        let ranks = partition.secondaries.iter().map(|member| {
            let follows = self.follows(id, partition, member);
            (follows, *member)
        });
        let ranks: Vec<(bool, Member)> = ranks.collect();
        let first = ranks.iter().copied().min_by_key(|(follows, member)| {
            let is_closed = self.is_closed(member.address.node);
            (
                *follows,
                Reverse(is_closed),
                Reverse(replicas(member)),
                member.address,
            )
        });
        let Some((follows, surplus)) = first else {
            return;
        };
        let others_follow = ranks.iter().all(|(follows, it)| *follows || *it == surplus);
        if follows && !others_follow {
            return;
        }
        slots.note_trim(surplus.address);
        self.regroup(id, |it| it.remove(&surplus), work);
    }

    pub(super) fn replicas_progress(&self, id: TableId) -> OrderProgress {
        let table = self.durable.tables().get(&id);
        let Some(table) = table.filter(|table| !table.is_dropped()) else {
            return OrderProgress::GivenUp("the table was dropped".to_owned());
        };
        let wanted = usize::from(table.replica_count);
        let count = |holds: &dyn Fn(usize) -> bool| {
            let partitions = table.partitions.iter();
            partitions.filter(|it| holds(it.member_count())).count()
        };
        let (fewer, more) = (count(&|has| has < wanted), count(&|has| has > wanted));
        let is_ruled = table.min_replicas == Table::default_min_replicas(table.replica_count);
        match (fewer, more) {
            (0, 0) if is_ruled => OrderProgress::Done,
            (0, 0) => {
                OrderProgress::Waiting("all replicas are there; members hear of it".to_owned())
            }
            (fewer, 0) => OrderProgress::Waiting(format!(
                "{fewer} of {} partitions have fewer than {wanted} replicas",
                table.partition_count
            )),
            (_, more) => OrderProgress::Waiting(format!(
                "{more} of {} partitions have more than {wanted} replicas",
                table.partition_count
            )),
        }
    }
}
