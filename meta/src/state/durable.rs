//! What survives a restart: the fold of all changes, and the digests that follow from it.

mod edit;

use super::backup::Book;
use super::balance::BalanceSettings;
use super::change::{Change, ChangeError, Cluster, Counters, Drain, Level, may_name};
use super::digest;
use super::envs;
use super::node::Node;
use super::table::{Partition, REPLICA_COUNT_MAX, Table};
use pegasus_replication::config::{Member, Stage};
use pegasus_replication::ids::{Ballot, NodeId, TableId};
use std::collections::{BTreeMap, BTreeSet};

/// Everything meta has promised. Changed by [`Durable::apply`] only, so that a replay comes to the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    cluster: Cluster,
    counters: Counters,
    nodes: BTreeMap<NodeId, Node>,
    tables: BTreeMap<TableId, Table>,
    /// Names of tables that are not dropped.
    names: BTreeMap<String, TableId>,
    /// Nodes that are being emptied.
    drained: BTreeMap<NodeId, Drain>,
    /// Nodes that were decommissioned: they never come back.
    forgotten: BTreeSet<NodeId>,
    level: Level,
    balance: BalanceSettings,
    backups: Book,
    /// Digest of each node's configurations and drop orders.
    assignments: BTreeMap<NodeId, u64>,
    /// Digest of what every node knows: tables and addresses.
    shared: u64,
}

impl Durable {
    /// A cluster with nothing in it.
    #[must_use]
    pub const fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            counters: Counters::FIRST,
            nodes: BTreeMap::new(),
            tables: BTreeMap::new(),
            names: BTreeMap::new(),
            drained: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            level: Level::Steady,
            balance: BalanceSettings::DEFAULT,
            backups: Book::new(),
            assignments: BTreeMap::new(),
            shared: 0,
        }
    }

    /// The state that `changes` made; the first must be [`Change::Cluster`].
    ///
    /// # Errors
    /// The first change that does not fit what came before it.
    pub fn replay<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Result<Self, ChangeError> {
        let mut changes = changes.into_iter();
        let Some(Change::Cluster(cluster)) = changes.next() else {
            return Err(ChangeError::NoCluster);
        };
        let mut durable = Self::new(cluster.clone());
        changes.try_for_each(|change| durable.apply(change))?;
        Ok(durable)
    }

    /// The shortest list of changes with this fold.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Change> {
        let head = [
            Change::Cluster(self.cluster.clone()),
            Change::Counters(self.counters),
        ];
        let nodes = self.nodes.values().cloned().map(Change::NodeJoined);
        let tables = self.tables.values().flat_map(table_changes);
        let drained = self
            .drained
            .iter()
            .map(|(&node, &drain)| Change::NodeDrained {
                node,
                drain: Some(drain),
            });
        let changes = head.into_iter().chain(nodes).chain(tables);
        let level = (self.level != Level::default()).then_some(Change::LevelSet(self.level));
        let forgotten = self.forgotten.iter();
        let forgotten = forgotten.map(|&node| Change::NodeForgotten { node });
        let balance = (self.balance != BalanceSettings::default())
            .then_some(Change::BalanceSet(self.balance));
        let changes = changes.chain(drained).chain(level).chain(balance);
        let backups = self.backups.snapshot().map(Change::Backup);
        changes.chain(forgotten).chain(backups).collect()
    }

    /// Takes one step. On an error nothing has changed.
    ///
    /// # Errors
    /// The change does not fit this state.
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::Cluster(_) => Err(ChangeError::ClusterTwice),
            Change::Counters(counters) => self.on_counters(*counters),
            Change::NodeNumbered { node } => self.on_numbered(*node),
            Change::NodeJoined(node) => self.on_joined(node),
            Change::TableCreated(table) => self.on_created(table),
            Change::TableDropped { table, at_ms } => self.on_dropped(*table, *at_ms),
            Change::TableForgotten { table } => self.on_forgotten(*table),
            Change::PartitionsActivated { table, partitions } => {
                self.on_activated(*table, partitions)
            }
            Change::BallotsGrown { table, ballots } => self.on_ballots(*table, ballots),
            Change::PartitionsChanged { table, partitions } => self.on_changed(*table, partitions),
            Change::NodeDrained { node, drain } => self.on_drained(*node, *drain),
            Change::TableKept {
                table,
                at_ms,
                until_ms,
            } => self.on_kept(*table, *at_ms, *until_ms),
            Change::TableExpired { table } => self.on_expired(*table),
            Change::TableRecalled { table, name } => self.on_recalled(*table, name),
            Change::TableRenamed { table, name } => self.on_renamed(*table, name),
            Change::TableEnvs { table, envs } => self.on_envs(*table, envs),
            Change::NodeForgotten { node } => self.on_node_forgotten(*node),
            Change::BalanceSet(settings) => self.on_balance(*settings),
            Change::ReplicaCountSet {
                table,
                replica_count,
                min_replicas,
            } => self.on_replica_count(*table, *replica_count, *min_replicas),
            Change::Backup(change) => {
                let applied = self.backups.apply(change, &self.tables);
                applied.map_err(ChangeError::Backup)
            }
            Change::LevelSet(level) => {
                self.level = *level;
                Ok(())
            }
        }
    }

    fn on_counters(&mut self, counters: Counters) -> Result<(), ChangeError> {
        let now = self.counters;
        let grows = counters.next_node >= now.next_node
            && counters.next_table >= now.next_table
            && counters.next_incarnation >= now.next_incarnation;
        if !grows {
            return Err(ChangeError::CounterFalls);
        }
        self.counters = counters;
        Ok(())
    }

    fn on_numbered(&mut self, node: NodeId) -> Result<(), ChangeError> {
        let fault = |fault| Err(ChangeError::Node { node, fault });
        if node.0 != self.counters.next_node {
            return fault("its number is not the next");
        }
        let Some(next) = node.0.checked_add(1) else {
            return fault("there are no more numbers");
        };
        self.counters.next_node = next;
        Ok(())
    }

    fn on_joined(&mut self, node: &Node) -> Result<(), ChangeError> {
        let fault = |fault| {
            Err(ChangeError::Node {
                node: node.id,
                fault,
            })
        };
        if let Some(found) = node.fault() {
            return fault(found);
        }
        if node.id.0 >= self.counters.next_node {
            return fault("its number was never given");
        }
        if self.is_forgotten(node.id) {
            return fault("it was decommissioned");
        }
        let before = self.nodes.insert(node.id, node.clone());
        if let Some(before) = before {
            self.shared ^= digest::of_node(&before);
        }
        self.shared ^= digest::of_node(node);
        Ok(())
    }

    fn on_created(&mut self, table: &Table) -> Result<(), ChangeError> {
        let fault = |fault| {
            Err(ChangeError::Table {
                table: table.id,
                fault,
            })
        };
        if let Some(found) = table.fault() {
            return fault(found);
        }
        if self.tables.contains_key(&table.id) {
            return fault("its number is taken");
        }
        if !table.is_dropped() && self.names.contains_key(&table.name) {
            return fault("its name is taken");
        }
        if table
            .partitions
            .iter()
            .flat_map(Partition::members)
            .any(|member| !self.nodes.contains_key(&member.address.node))
        {
            return fault("a member's node is not known");
        }
        let (Some(next_table), Some(next_incarnation)) = (
            table.id.0.checked_add(1),
            next_incarnation(&table.partitions),
        ) else {
            return fault("there are no more numbers");
        };
        self.counters.next_table = self.counters.next_table.max(next_table);
        self.counters.next_incarnation = self.counters.next_incarnation.max(next_incarnation);
        if !table.is_dropped() {
            self.names.insert(table.name.clone(), table.id);
        }
        self.tables.insert(table.id, table.clone());
        self.toggle_table(table.id);
        Ok(())
    }

    fn on_dropped(&mut self, id: TableId, at_ms: u64) -> Result<(), ChangeError> {
        let table = self.live_table(id)?;
        let name = table.name.clone();
        self.names.remove(&name);
        self.edit_table(id, |table| table.dropped_ms = Some(at_ms));
        Ok(())
    }

    fn on_forgotten(&mut self, id: TableId) -> Result<(), ChangeError> {
        let table = self.tables.get(&id).ok_or(ChangeError::UnknownTable(id))?;
        if !table.is_condemned() {
            return Err(ChangeError::Table {
                table: id,
                fault: "it is forgotten before it is dropped",
            });
        }
        self.edit_table(id, |table| table.partitions = Vec::new());
        self.backups.forget_restore(id);
        Ok(())
    }

    /// Dropped now, or a tombstone of a snapshot that is a kept table.
    fn on_kept(&mut self, id: TableId, at_ms: u64, until_ms: u64) -> Result<(), ChangeError> {
        let table = self.tables.get(&id).ok_or(ChangeError::UnknownTable(id))?;
        let fault = |fault| Err(ChangeError::Table { table: id, fault });
        if table.partitions.is_empty() {
            return fault("nothing of it is left to be kept");
        }
        if table.is_dropped() && table.dropped_ms != Some(at_ms) {
            return fault("it was dropped at another time");
        }
        let live = (!table.is_dropped()).then(|| table.name.clone());
        self.edit_table(id, |table| {
            table.dropped_ms = Some(at_ms);
            table.kept_until_ms = Some(until_ms);
        });
        live.iter().for_each(|name| _ = self.names.remove(name));
        Ok(())
    }

    fn on_expired(&mut self, id: TableId) -> Result<(), ChangeError> {
        self.kept_table(id)?;
        self.edit_table(id, |table| table.kept_until_ms = None);
        Ok(())
    }

    fn on_recalled(&mut self, id: TableId, name: &str) -> Result<(), ChangeError> {
        self.kept_table(id)?;
        self.expect_free(id, name)?;
        self.edit_table(id, |table| {
            table.dropped_ms = None;
            table.kept_until_ms = None;
            name.clone_into(&mut table.name);
        });
        self.names.insert(name.to_owned(), id);
        Ok(())
    }

    fn on_renamed(&mut self, id: TableId, name: &str) -> Result<(), ChangeError> {
        let before = self.live_table(id)?.name.clone();
        self.expect_free(id, name)?;
        self.edit_table(id, |table| name.clone_into(&mut table.name));
        self.names.remove(&before);
        self.names.insert(name.to_owned(), id);
        Ok(())
    }

    fn on_envs(&mut self, id: TableId, envs: &BTreeMap<String, String>) -> Result<(), ChangeError> {
        if !self.tables.contains_key(&id) {
            return Err(ChangeError::UnknownTable(id));
        }
        if let Some(fault) = envs::fault(envs) {
            return Err(ChangeError::Table { table: id, fault });
        }
        self.edit_table(id, |table| table.envs.clone_from(envs));
        Ok(())
    }

    fn expect_free(&self, id: TableId, name: &str) -> Result<(), ChangeError> {
        let fault = match name {
            _ if !may_name(name) => "the name is not 1 to 128 of [a-zA-Z0-9_.:-]",
            _ if self.names.contains_key(name) => "its name is taken",
            _ => return Ok(()),
        };
        Err(ChangeError::Table { table: id, fault })
    }

    fn kept_table(&self, id: TableId) -> Result<&Table, ChangeError> {
        let table = self.tables.get(&id).ok_or(ChangeError::UnknownTable(id))?;
        if !table.is_kept() {
            return Err(ChangeError::Table {
                table: id,
                fault: "it is not kept",
            });
        }
        Ok(table)
    }

    fn on_activated(&mut self, id: TableId, partitions: &[u32]) -> Result<(), ChangeError> {
        let table = self.live_table(id)?;
        if partitions
            .iter()
            .any(|&index| table.partition(index).is_none())
        {
            return Err(ChangeError::Table {
                table: id,
                fault: "it has no such partition",
            });
        }
        partitions.iter().for_each(|&index| {
            self.edit_partition(id, index, |partition| partition.stage = Stage::Active)
        });
        Ok(())
    }

    fn on_ballots(&mut self, id: TableId, ballots: &[(u32, Ballot)]) -> Result<(), ChangeError> {
        let table = self.live_table(id)?;
        let grows = |&(index, ballot): &(u32, Ballot)| {
            table.partition(index).is_some_and(|it| it.ballot < ballot)
        };
        if !ballots.iter().all(grows) {
            return Err(ChangeError::Table {
                table: id,
                fault: "a ballot does not grow",
            });
        }
        ballots.iter().for_each(|&(index, ballot)| {
            self.edit_partition(id, index, |partition| partition.ballot = ballot)
        });
        Ok(())
    }

    fn on_changed(
        &mut self,
        id: TableId,
        partitions: &[(u32, Partition)],
    ) -> Result<(), ChangeError> {
        let table = self.table_that_may_change(id)?;
        let fault = |fault| Err(ChangeError::Table { table: id, fault });
        if !partitions.is_sorted_by(|(a, _), (b, _)| a < b) {
            return fault("its partitions do not come in order");
        }
        for (index, next) in partitions {
            let Some(before) = table.partition(*index) else {
                return fault("it has no such partition");
            };
            let known = |member: &Member| self.nodes.contains_key(&member.address.node);
            if let Some(found) = before.succession_fault(next).or_else(|| next.fault()) {
                return fault(found);
            }
            if !next.holders().all(known) {
                return fault("a member's node is not known");
            }
        }
        let Some(next) = next_incarnation(partitions.iter().map(|(_, partition)| partition)) else {
            return fault("there are no more numbers");
        };
        self.counters.next_incarnation = self.counters.next_incarnation.max(next);
        for (index, next) in partitions {
            self.edit_partition(id, *index, |partition| partition.clone_from(next));
        }
        Ok(())
    }

    /// A table that is there, or a dropped one in a snapshot, whose back-offs and the like were recorded before.
    fn table_that_may_change(&self, id: TableId) -> Result<&Table, ChangeError> {
        self.tables.get(&id).ok_or(ChangeError::UnknownTable(id))
    }

    fn on_drained(&mut self, node: NodeId, drain: Option<Drain>) -> Result<(), ChangeError> {
        if !self.nodes.contains_key(&node) {
            let fault = "it has never joined";
            return Err(ChangeError::Node { node, fault });
        }
        match drain {
            Some(drain) => _ = self.drained.insert(node, drain),
            None => _ = self.drained.remove(&node),
        }
        Ok(())
    }

    fn on_node_forgotten(&mut self, node: NodeId) -> Result<(), ChangeError> {
        let fault = |fault| Err(ChangeError::Node { node, fault });
        let tables = self.tables.values().flat_map(|table| &table.partitions);
        let mut holders = tables.flat_map(Partition::holders);
        if holders.any(|it| it.address.node == node) {
            return fault("it holds replicas");
        }
        if node.0 == 0 || node.0 >= self.counters.next_node {
            return fault("its number was never given");
        }
        // In a snapshot it is not there any more.
        if let Some(known) = self.nodes.remove(&node) {
            self.shared ^= digest::of_node(&known);
        }
        self.drained.remove(&node);
        self.forgotten.insert(node);
        Ok(())
    }

    fn on_balance(&mut self, settings: BalanceSettings) -> Result<(), ChangeError> {
        if let Some(fault) = settings.limits.fault() {
            return Err(ChangeError::Balance(fault));
        }
        self.balance = settings;
        Ok(())
    }

    fn on_replica_count(
        &mut self,
        id: TableId,
        replica_count: u8,
        min_replicas: u8,
    ) -> Result<(), ChangeError> {
        self.live_table(id)?;
        let fault = |fault| Err(ChangeError::Table { table: id, fault });
        if !(1..=REPLICA_COUNT_MAX).contains(&replica_count) {
            return fault("the replica count is not 1 to 7");
        }
        if !(1..=replica_count).contains(&min_replicas) {
            return fault("min_replicas is not 1 to replica_count");
        }
        self.edit_table(id, |table| {
            table.replica_count = replica_count;
            table.min_replicas = min_replicas;
        });
        Ok(())
    }

    fn live_table(&self, id: TableId) -> Result<&Table, ChangeError> {
        let table = self.tables.get(&id).ok_or(ChangeError::UnknownTable(id))?;
        if table.is_dropped() {
            return Err(ChangeError::Table {
                table: id,
                fault: "it is dropped",
            });
        }
        Ok(table)
    }

    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// All tables, tombstones too.
    #[must_use]
    pub const fn tables(&self) -> &BTreeMap<TableId, Table> {
        &self.tables
    }

    /// The table that has this name now.
    #[must_use]
    pub fn table_named(&self, name: &str) -> Option<&Table> {
        self.tables.get(self.names.get(name)?)
    }

    /// What meta does by itself.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }

    /// What operators have said about balancing.
    #[must_use]
    pub const fn balance(&self) -> &BalanceSettings {
        &self.balance
    }

    /// Backups, policies and restores.
    #[must_use]
    pub const fn backups(&self) -> &Book {
        &self.backups
    }

    /// What is to leave `node`, if it is being emptied.
    #[must_use]
    pub fn drain(&self, node: NodeId) -> Option<Drain> {
        self.drained.get(&node).copied()
    }

    /// Whether `node` was decommissioned.
    #[must_use]
    pub fn is_forgotten(&self, node: NodeId) -> bool {
        self.forgotten.contains(&node)
    }

    pub(crate) const fn drained(&self) -> &BTreeMap<NodeId, Drain> {
        &self.drained
    }

    pub(crate) const fn names(&self) -> &BTreeMap<String, TableId> {
        &self.names
    }
}

/// The number after the highest incarnation in `partitions`; `None` if there is none.
fn next_incarnation<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> Option<u64> {
    let highest = partitions
        .into_iter()
        .flat_map(Partition::holders)
        .map(|member| member.incarnation.0)
        .max();
    highest.unwrap_or(0).checked_add(1)
}

/// A table as the format knows it since the beginning, then what its partitions have beyond that.
fn table_changes(table: &Table) -> impl Iterator<Item = Change> {
    let has_more = |(_, it): &(u32, &Partition)| {
        it.learner.is_some()
            || it.degraded_ms.is_some()
            || !it.backoffs.is_empty()
            || it.intent.is_some()
    };
    let more = table.indexed().filter(has_more);
    let partitions: Vec<_> = more.map(|(index, it)| (index, it.clone())).collect();
    let changed = (!partitions.is_empty()).then_some(Change::PartitionsChanged {
        table: table.id,
        partitions,
    });
    let base = Change::TableCreated(table.without_plans());
    let kept = table.kept_until_ms.map(|until_ms| Change::TableKept {
        table: table.id,
        at_ms: table.dropped_ms.unwrap_or(0),
        until_ms,
    });
    let envs = (!table.envs.is_empty()).then(|| Change::TableEnvs {
        table: table.id,
        envs: table.envs.clone(),
    });
    [base].into_iter().chain(changed).chain(kept).chain(envs)
}
