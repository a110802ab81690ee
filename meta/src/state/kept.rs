//! Dropped tables are kept for a while: nobody serves them, and they can be called back.
//!
//! ```text
//! there --drop--> kept --recall--> there, every ballot raised
//!                 kept --expiry--> orders to delete every replica by its incarnation --all gone--> tombstone
//! there --drop, kept for no time----^
//! ```
//!
//! Replicas of a kept table stay on their nodes and take no part in anything: nobody is told of the table any more, so a node
//! that starts again has them without a configuration. A recall raises every ballot, so that whatever a node believed meanwhile
//! is over.

use super::command::{Answer, Refusal};
use super::report::UNREPORTED;
use super::sync::{drops_of, table_info};
use super::table::{PARTITIONS_MAX, Partition, TABLES_MAX, Table};
use super::{Change, State, Work, may_name};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::{PartitionId, TableId};

/// How long a dropped table is kept if nobody says: 7 days, in seconds, as in Apache Pegasus.
pub const KEEP_SECONDS: u64 = 7 * 86_400;
/// The longest that a dropped table is kept, in seconds: 100 years.
pub const KEEP_SECONDS_MAX: u64 = 100 * 365 * 86_400;

impl State {
    /// `keep_seconds`: 0 deletes at once, `None` keeps it for [`KEEP_SECONDS`].
    pub(super) fn handle_drop(
        &mut self,
        name: &str,
        keep_seconds: Option<u64>,
        now_ms: u64,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let table = self.expect_table(name)?.id;
        let keep_ms = keep_seconds.unwrap_or(KEEP_SECONDS).min(KEEP_SECONDS_MAX) * 1_000;
        let change = if keep_ms == 0 {
            Change::TableDropped {
                table,
                at_ms: now_ms,
            }
        } else {
            Change::TableKept {
                table,
                at_ms: now_ms,
                until_ms: now_ms.saturating_add(keep_ms),
            }
        };
        self.change(change, work);
        self.creating.retain(|partition| partition.table != table);
        self.ailing.retain(|partition| partition.table != table);
        self.note_disturbance();
        self.tell_info(table, work);
        self.order_deletion(table, work);
        Ok(Answer::TableDropped { table })
    }

    pub(super) fn handle_recall(
        &mut self,
        id: TableId,
        name: Option<String>,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let table = self.durable.tables().get(&id);
        let table = table
            .filter(|it| !it.is_condemned())
            .ok_or(Refusal::NoSuchTable(id))?;
        if !table.is_dropped() {
            return Err(Refusal::NotDropped(id));
        }
        let name = name.unwrap_or_else(|| table.name.clone());
        self.expect_free_name(&name)?;
        self.expect_room(table.partition_count)?;
        let partitions = table.indexed().filter_map(|(index, it)| {
            let again = called_back(it, table.replica_count, self.now_ms)?;
            Some((index, again))
        });
        let partitions: Vec<(u32, Partition)> = partitions.collect();
        self.change(Change::TableRecalled { table: id, name }, work);
        if !partitions.is_empty() {
            let change = Change::PartitionsChanged {
                table: id,
                partitions,
            };
            self.change(change, work);
        }
        self.take_up(id);
        self.tell_table(id, work);
        Ok(Answer::TableRecalled { table: id })
    }

    pub(super) fn handle_rename(
        &mut self,
        from: &str,
        to: String,
        work: &mut Work,
    ) -> Result<Answer, Refusal> {
        let table = self.expect_table(from)?.id;
        self.expect_free_name(&to)?;
        self.change(Change::TableRenamed { table, name: to }, work);
        self.tell_info(table, work);
        Ok(Answer::Done)
    }

    /// Gives up the kept tables whose time is over.
    pub(super) fn expire_kept(&mut self, work: &mut Work) {
        let is_over = |table: &&Table| table.kept_until_ms.is_some_and(|at| at <= self.now_ms);
        let over = self.durable.tables().values().filter(is_over);
        let over: Vec<TableId> = over.map(|table| table.id).collect();
        for table in over {
            tracing::info!(%table, "deleting a dropped table, the time to recall it is over");
            self.change(Change::TableExpired { table }, work);
            self.order_deletion(table, work);
        }
    }

    /// Orders every node to delete what it has of a table that is dropped for good.
    fn order_deletion(&mut self, table: TableId, work: &mut Work) {
        let Some(table) = self.durable.tables().get(&table) else {
            return;
        };
        for (node, key) in drops_of(table) {
            // One that has not told what it has is told when it does.
            if self.live.get(&node).is_some_and(|live| live.has_told_all) {
                work.pushes.drop_replica(node, key);
            } else {
                _ = work.pushes.to(node);
            }
            // Until the node says that it is gone it counts as there, also if it was never reported.
            if let Some(live) = self.live.get_mut(&node) {
                live.replicas.entry(key).or_insert(UNREPORTED);
            }
        }
    }

    /// Tells every node what a table is now, without its partitions.
    pub(super) fn tell_info(&self, table: TableId, work: &mut Work) {
        let Some(table) = self.durable.tables().get(&table) else {
            return;
        };
        for node in self.live.keys() {
            work.pushes.to(*node).tables.push(table_info(table));
        }
    }

    /// A table that is there again is looked after again.
    fn take_up(&mut self, table: TableId) {
        let Some(table) = self.durable.tables().get(&table) else {
            return;
        };
        let mut active = Vec::new();
        for (index, partition) in table.indexed() {
            let id = PartitionId {
                table: table.id,
                index,
            };
            match partition.stage {
                Stage::Creating => _ = self.creating.insert(id),
                Stage::Active => active.push(id),
            }
        }
        active.into_iter().for_each(|id| self.watch(id));
        self.note_disturbance();
        // Members of what was being made may have said so before the table was dropped.
        self.recheck = true;
    }

    pub(super) fn expect_table(&self, name: &str) -> Result<&Table, Refusal> {
        let unknown = || Refusal::UnknownTable(name.chars().take(256).collect());
        self.durable.table_named(name).ok_or_else(unknown)
    }

    pub(super) fn expect_free_name(&self, name: &str) -> Result<(), Refusal> {
        if !may_name(name) {
            return Err(Refusal::BadName(name.chars().take(256).collect()));
        }
        match self.durable.table_named(name) {
            Some(_) => Err(Refusal::TableExists(name.to_owned())),
            None => Ok(()),
        }
    }

    /// One more table of `partition_count` partitions fits.
    pub(super) fn expect_room(&self, partition_count: u32) -> Result<(), Refusal> {
        let names = self.durable.names();
        let there = names
            .values()
            .filter_map(|id| self.durable.tables().get(id));
        let partitions: u64 = there.map(|it| u64::from(it.partition_count)).sum();
        if names.len() >= TABLES_MAX {
            return Err(Refusal::TooManyTables);
        }
        if partitions + u64::from(partition_count) > PARTITIONS_MAX {
            return Err(Refusal::TooManyPartitions(PARTITIONS_MAX));
        }
        Ok(())
    }
}

/// A partition as it goes on: the same members under the next ballot, without what was planned. `None`: it goes on as it is,
/// because nobody has ever served it, or because there are no ballots left.
fn called_back(partition: &Partition, replica_count: u8, now_ms: u64) -> Option<Partition> {
    if partition.stage == Stage::Creating {
        return None;
    }
    let mut again = Partition {
        ballot: partition.next_ballot()?,
        learner: None,
        intent: None,
        // What it lacks it lacks from now on: its nodes have time to come back.
        degraded_ms: None,
        ..partition.clone()
    };
    again.settle(replica_count, now_ms);
    Some(again)
}
