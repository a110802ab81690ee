//! The state machine: [`State::apply`] takes a [`Command`] to an [`Outcome`], without clock, socket, file or thread.
//!
//! ```text
//! partition:  Creating --every member has reported its replica--> Active --a proposal is granted--> Active, next ballot
//! learner:    none --heal, or an order--> assigned --Add--> secondary; or withdrawn
//! table:      created --drop--> kept --time is over--> tombstone with orders to delete --every replica is gone--> tombstone
//!             kept --recall--> created, every partition under the next ballot
//! ```
//!
//! Two halves: [`Durable`] is the fold of all changes and survives; [`Live`] is what nodes said since this process
//! started, which they say again after a restart. Decisions that rest on the second half leave a change in the first.
//!
//! The caller persists [`Outcome::changes`] before it tells anybody. If it cannot, it hands the last durable state to
//! [`State::restore`] and refuses what it was asked: nobody has heard of the lost changes.

mod backup;
mod balance;
mod behind;
mod blockers;
mod change;
mod command;
mod creating;
mod decommission;
mod digest;
mod durable;
pub mod envs;
mod group;
mod heal;
mod invariants;
mod kept;
mod leaving;
mod lives;
mod node;
mod nodes;
mod options;
mod orders;
mod proposals;
mod reach;
mod regroup;
mod replica_count;
mod report;
mod sync;
mod table;
mod tables;
mod view;

pub use backup::{
    BACKUP_INTERVAL_MAX_S, BACKUP_INTERVAL_MIN_S, BACKUPS_KEPT_MAX, BackupChange, BackupCommand,
    BackupOrder, BackupProgress, BackupRefusal, Book, Chore, ChoreKind, KEEP_COUNT_MAX,
    PartitionCopy, PartitionWork, Phase, Policy, PolicyOrder, PolicyTable, ProgressState,
    ReplicaBackup, ReplicaRestore, Restore, RestoreOrder, RestoreSource, RestoreTable, RestoreWork,
    Run, Site, StartBackup, TableRef, Timing,
};
pub use balance::{
    BalanceLimits, BalanceOrder, BalanceSettings, BalanceView, MOVES_MAX, MOVES_PER_NODE_MAX,
    PlannedMove, Wanted,
};
pub use change::{
    Change, ChangeError, Cluster, ClusterId, Counters, Drain, Level, NAME_BYTES_MAX, may_name,
};
pub use command::{
    Answer, Assignment, Command, CreateTable, EnvChange, HandOver, NodeAddress, Order, Outcome,
    Push, Refusal, Sync, TableInfo,
};
pub use decommission::Emptying;
pub use durable::Durable;
pub use group::{BACKOFF_MAX_MS, BACKOFF_MIN_MS, Backoff, Goal, Intent, Learner};
pub use kept::{KEEP_SECONDS, KEEP_SECONDS_MAX};
pub use node::{CORES_MAX, Core, Live, NODE_TEXT_BYTES_MAX, NODES_MAX, Node};
pub use options::HealOptions;
pub use orders::OrderProgress;
#[cfg(feature = "server")]
pub(crate) use report::bounded;
pub use report::{
    NodeWords, Program, Proposed, REASON_BYTES_MAX, ReplicaHealth, ReplicaKey, ReplicaStatus,
    Report, VERSION_BYTES_MAX,
};
pub use table::{
    PARTITIONS_MAX, PARTITIONS_PER_TABLE_MAX, Partition, REPLICA_COUNT_MAX, TABLES_MAX, Table,
    may_count_partitions,
};
pub use view::{CoreLoad, LearnerView, MemberView, PartitionHealth, PartitionView, Progress};

use pegasus_replication::ids::{NodeId, PartitionId};
use std::collections::{BTreeMap, BTreeSet};
use sync::Pushes;

/// A node that was not heard of for this long is shown as dead and gets no new replicas, in milliseconds.
pub const ALIVE_MS: u64 = 5_000;
/// A digest that differs within this time after a push may be from before the push, in milliseconds.
pub const SYNC_SETTLE_MS: u64 = 1_000;

/// Meta's whole knowledge.
#[derive(Clone, Debug)]
pub struct State {
    durable: Durable,
    live: BTreeMap<NodeId, Live>,
    /// Partitions whose stage is Creating: those that reports can move on.
    creating: BTreeSet<PartitionId>,
    /// When those were last looked at without a report, in milliseconds.
    creating_seen_ms: u64,
    /// Active partitions in which something is missing, learning or to be moved.
    ailing: BTreeSet<PartitionId>,
    heal: heal::Memory,
    slow_removals: proposals::SlowRemovals,
    reach: reach::Reach,
    balance: balance::Balance,
    backup: backup::Memory,
    options: HealOptions,
    /// What proves that the store is older than the replicas.
    behind: Option<String>,
    /// What the durable half lost in [`State::restore`] may be due again.
    recheck: bool,
    /// The latest time of any command.
    now_ms: u64,
    /// The first time of any command; 0 before it.
    started_ms: u64,
}

impl State {
    /// A cluster with nothing in it.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        Self::from_durable(Durable::new(cluster))
    }

    /// What a store has kept. No node counts as alive until it joins again.
    #[must_use]
    pub fn from_durable(durable: Durable) -> Self {
        let (creating, ailing) = (creating(&durable), ailing(&durable));
        Self {
            durable,
            live: BTreeMap::new(),
            creating,
            creating_seen_ms: 0,
            ailing,
            heal: heal::Memory::default(),
            slow_removals: proposals::SlowRemovals::default(),
            reach: reach::Reach::default(),
            balance: balance::Balance::default(),
            backup: backup::Memory::default(),
            options: HealOptions::default(),
            behind: None,
            recheck: false,
            now_ms: 0,
            started_ms: 0,
        }
    }

    /// The same with other options.
    #[must_use]
    pub const fn with_options(mut self, options: HealOptions) -> Self {
        self.options = options;
        self
    }

    /// Puts the last persisted state in the place of changes that could not be persisted; what nodes said stays.
    pub fn restore(&mut self, durable: Durable) {
        self.creating = creating(&durable);
        self.ailing = ailing(&durable);
        self.live
            .retain(|node, _| durable.nodes().contains_key(node));
        self.durable = durable;
        self.recheck = true;
    }

    /// Carries out one command. Never panics on any command; a refused one changes nothing.
    pub fn apply(&mut self, command: Command) -> Outcome {
        let mut work = Work::default();
        self.now_ms = self.now_ms.max(time_of(&command));
        if self.started_ms == 0 {
            self.started_ms = self.now_ms;
        }
        if let Some(held) = self.held_back(&command) {
            return Outcome {
                changes: Vec::new(),
                answer: held.unwrap_or_else(Answer::Refused),
                pushes: Vec::new(),
            };
        }
        let answer = match command {
            Command::NumberNode => self.handle_number(&mut work),
            Command::JoinNode { node, now_ms } => self.handle_join(node, now_ms, &mut work),
            Command::Report {
                node,
                incarnation,
                report,
                now_ms,
            } => self.handle_report(node, incarnation, report, now_ms, &mut work),
            Command::NodeLost {
                node, incarnation, ..
            } => self.handle_lost(node, incarnation),
            Command::Propose {
                node,
                incarnation,
                proposals,
                ..
            } => self.handle_proposals(node, incarnation, &proposals, &mut work),
            Command::CreateTable(request) => self.handle_create(request, &mut work),
            Command::DropTable {
                name,
                keep_seconds,
                now_ms,
            } => self.handle_drop(&name, keep_seconds, now_ms, &mut work),
            Command::RecallTable { table, name, .. } => self.handle_recall(table, name, &mut work),
            Command::RenameTable { from, to, .. } => self.handle_rename(&from, to, &mut work),
            Command::ChangeEnvs { table, change, .. } => {
                self.handle_envs(&table, change, &mut work)
            }
            Command::SetLevel { level, .. } => Ok(self.handle_level(level, &mut work)),
            Command::MovePrimary {
                table, index, to, ..
            } => self.handle_move_primary(&table, index, to, &mut work),
            Command::MoveReplica {
                table,
                index,
                from,
                to,
                ..
            } => self.handle_move_replica(&table, index, from, to, &mut work),
            Command::DrainNode { node, drain, .. } => self.handle_drain(node, drain, &mut work),
            Command::DecommissionNode { node, .. } => self.handle_decommission(node, &mut work),
            Command::Rebalance { .. } => self.handle_rebalance(&mut work),
            Command::Balance { order, .. } => self.handle_balance(order, &mut work),
            Command::SetReplicas {
                table,
                replica_count,
                ..
            } => self.handle_set_replicas(&table, replica_count, &mut work),
            Command::Backup { command, .. } => self.handle_backup(command, &mut work),
            Command::Tick { now_ms } => self.handle_tick(now_ms, &mut work),
        };
        let answer = answer.unwrap_or_else(Answer::Refused);
        if pegasus_replication::planted!(BallotReusedAfterRestart) {
            work.changes.iter_mut().for_each(forget_ballots);
        }
        let pushes = work.pushes.finish(self);
        for push in &pushes {
            self.live
                .entry(push.node)
                .and_modify(|live| live.synced_ms = self.now_ms);
        }
        if matches!(answer, Answer::Refused(_)) {
            assert!(work.changes.is_empty(), "a refused command left changes");
        }
        Outcome {
            changes: work.changes,
            answer,
            pushes,
        }
    }

    /// Makes a change of our own: one that does not fit is a bug of this module.
    fn change(&mut self, change: Change, work: &mut Work) {
        let applied = self.durable.apply(&change);
        assert!(
            applied.is_ok(),
            "a decided change does not fit: {applied:?}"
        );
        work.changes.push(change);
    }

    /// How it heals.
    #[must_use]
    pub const fn options(&self) -> &HealOptions {
        &self.options
    }

    /// The latest time of any command, in Unix milliseconds.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The half that survives.
    #[must_use]
    pub const fn durable(&self) -> &Durable {
        &self.durable
    }

    /// The same; what nodes said is let go.
    #[must_use]
    pub fn into_durable(self) -> Durable {
        self.durable
    }

    /// What `node` said since this state was made; `None` if it has not joined.
    #[must_use]
    pub fn live(&self, node: NodeId) -> Option<&Live> {
        self.live.get(&node)
    }

    /// Whether `node` was heard of lately.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.live.get(&node).is_some_and(|live| live.alive)
    }
}

/// What a command leaves behind while it is carried out.
#[derive(Debug, Default)]
struct Work {
    changes: Vec<Change>,
    pushes: Pushes,
}

const fn time_of(command: &Command) -> u64 {
    match command {
        Command::JoinNode { now_ms, .. }
        | Command::Report { now_ms, .. }
        | Command::NodeLost { now_ms, .. }
        | Command::DropTable { now_ms, .. }
        | Command::Propose { now_ms, .. }
        | Command::RecallTable { now_ms, .. }
        | Command::RenameTable { now_ms, .. }
        | Command::ChangeEnvs { now_ms, .. }
        | Command::SetLevel { now_ms, .. }
        | Command::MovePrimary { now_ms, .. }
        | Command::MoveReplica { now_ms, .. }
        | Command::DrainNode { now_ms, .. }
        | Command::DecommissionNode { now_ms, .. }
        | Command::Rebalance { now_ms }
        | Command::Balance { now_ms, .. }
        | Command::SetReplicas { now_ms, .. }
        | Command::Backup { now_ms, .. }
        | Command::Tick { now_ms }
        | Command::CreateTable(CreateTable { now_ms, .. }) => *now_ms,
        Command::NumberNode => 0,
    }
}

fn creating(durable: &Durable) -> BTreeSet<PartitionId> {
    use pegasus_replication::config::Stage;
    those(durable, |_, partition| partition.stage == Stage::Creating)
}

fn ailing(durable: &Durable) -> BTreeSet<PartitionId> {
    those(durable, regroup::is_ailing)
}

/// The partitions of tables that are not dropped for which `holds`.
fn those(durable: &Durable, holds: impl Fn(&Table, &Partition) -> bool) -> BTreeSet<PartitionId> {
    let live = durable
        .tables()
        .values()
        .filter(|table| !table.is_dropped());
    let mut found = BTreeSet::new();
    for table in live {
        let these = table.indexed().filter(|(_, it)| holds(table, it));
        found.extend(these.map(|(index, _)| PartitionId {
            table: table.id,
            index,
        }));
    }
    found
}

/// A deliberate bug: what is persisted names the ballot before.
fn forget_ballots(change: &mut Change) {
    if let Change::PartitionsChanged { partitions, .. } = change {
        for (_, partition) in partitions.iter_mut() {
            let (epoch, counter) = (partition.ballot.epoch(), partition.ballot.counter());
            partition.ballot = pegasus_replication::ids::Ballot::new(epoch, counter.max(2) - 1);
        }
    }
}
