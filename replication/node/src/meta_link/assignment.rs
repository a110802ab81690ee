//! What meta has assigned to this node, and how the cores hear of it.

use super::ReplicaKey;
use super::frames::{AssignedLearner, HandOver, Sync};
use super::reports::Reports;
use crate::background::backup::Backups;
use crate::directory::Directory;
use crate::inbox::{CoreInput, InboxSender};
use pegasus_replication::config::{Configuration, Member};
use pegasus_replication::ids::{Ballot, NodeId, PartitionId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// The last push, shared with the route relay.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub directory: Arc<Directory>,
    /// Of this node's replicas only.
    pub configurations: HashMap<PartitionId, Configuration>,
}

/// Everything meta has pushed in this life of the process. Ballots never go back.
#[derive(Debug)]
pub(super) struct Assignment {
    node: NodeId,
    cores: Vec<InboxSender>,
    digest: u64,
    configurations: HashMap<PartitionId, Configuration>,
    /// Learners of partitions led from here, or learning here, with the configuration they came with.
    learners: HashMap<PartitionId, (Configuration, Member)>,
    directory: Arc<Directory>,
    /// Meta has told everything once.
    is_told: bool,
    known: Arc<Mutex<Known>>,
    backups: Backups,
}

impl Assignment {
    pub(super) fn new(
        node: Option<NodeId>,
        cores: Vec<InboxSender>,
        known: Arc<Mutex<Known>>,
        backups: Backups,
    ) -> Self {
        Self {
            node: node.unwrap_or(NodeId(0)),
            cores,
            digest: 0,
            configurations: HashMap::new(),
            learners: HashMap::new(),
            directory: Arc::default(),
            is_told: false,
            known,
            backups,
        }
    }

    /// Of the last push taken over; meta compares it with its own.
    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }

    /// What meta has told of tables and nodes; `None` before it has told everything.
    pub(super) fn directory(&self) -> Option<&Directory> {
        self.is_told.then_some(&*self.directory)
    }

    pub(super) fn ballot(&self, partition: PartitionId) -> Option<Ballot> {
        self.configurations
            .get(&partition)
            .map(|configuration| configuration.ballot)
    }

    /// Takes a push over and tells the cores: directory first, then orders to delete, configurations, learners, orders to
    /// hand over.
    pub(super) fn take(&mut self, sync: Sync, reports: &Reports) {
        self.take_directory(&sync);
        self.is_told |= sync.is_full;
        // Before the cores are told to make what is to come from a backup.
        for order in sync.restores {
            self.backups.restore(order);
        }
        for order in sync.backups {
            self.backups.order(order);
        }
        for key in &sync.drops {
            self.drop_replica(*key, reports);
        }
        for configuration in sync.configurations {
            self.take_configuration(configuration);
        }
        if sync.is_full {
            self.withdraw_all_but(&sync.learners);
        }
        for (configuration, learner) in sync.learners {
            self.take_learner(configuration, learner);
        }
        for order in sync.handovers {
            self.take_handover(order);
        }
        self.digest = sync.digest;
        self.publish();
    }

    fn drop_replica(&mut self, key: ReplicaKey, reports: &Reports) {
        if self.names(key) {
            self.configurations.remove(&key.partition);
        }
        if let Some(core) = reports.core_of(key) {
            let dropped = CoreInput::Dropped {
                partition: key.partition,
                incarnation: key.incarnation,
            };
            self.tell(usize::from(core.0), dropped);
        }
        self.backups.forget(key);
    }

    /// A full push names all learners that concern this node.
    fn withdraw_all_but(&mut self, named: &[(Configuration, Option<AssignedLearner>)]) {
        let is_named = |partition: &PartitionId| {
            named
                .iter()
                .any(|(configuration, _)| configuration.partition == *partition)
        };
        let gone = self.learners.iter().filter(|(id, _)| !is_named(id));
        let gone: Vec<Configuration> = gone
            .map(|(id, (configuration, _))| {
                let newest = self.configurations.get(id);
                newest.unwrap_or(configuration).clone()
            })
            .collect();
        for configuration in gone {
            self.take_learner(configuration, None);
        }
    }

    fn take_learner(&mut self, configuration: Configuration, assigned: Option<AssignedLearner>) {
        let partition = configuration.partition;
        let learner = assigned.map(|assigned| assigned.member);
        let is_fresh = assigned.is_some_and(|assigned| assigned.is_fresh);
        let before = match learner {
            Some(member) => self
                .learners
                .insert(partition, (configuration.clone(), member)),
            None => self.learners.remove(&partition),
        };
        let before = before.map(|(_, member)| member);
        let concerned = configuration.primary.iter().chain(&before).chain(&learner);
        let cores: BTreeSet<usize> = concerned
            .filter(|member| member.address.node == self.node)
            .map(|member| usize::from(member.address.core.0))
            .collect();
        for core in cores {
            let configuration = configuration.clone();
            let told = CoreInput::LearnerAssigned {
                configuration,
                learner,
                is_fresh,
            };
            self.tell(core, told);
        }
    }

    fn take_handover(&self, order: HandOver) {
        let configuration = self.configurations.get(&order.partition);
        let primary = configuration.and_then(|configuration| configuration.primary);
        let Some(primary) = primary.filter(|member| member.address.node == self.node) else {
            return;
        };
        let told = CoreInput::HandOver {
            partition: order.partition,
            ballot: order.ballot,
            to: order.to,
        };
        self.tell(usize::from(primary.address.core.0), told);
    }

    fn take_directory(&mut self, sync: &Sync) {
        let mut directory = if sync.is_full {
            Directory::default()
        } else {
            (*self.directory).clone()
        };
        directory.nodes.extend(sync.nodes.iter().cloned());
        for (table, info) in &sync.tables {
            match info {
                Some(info) => directory.tables.insert(*table, info.clone()),
                None => directory.tables.remove(table),
            };
        }
        if sync.is_full {
            let named: BTreeSet<PartitionId> = sync
                .configurations
                .iter()
                .map(|one| one.partition)
                .collect();
            self.configurations
                .retain(|partition, _| named.contains(partition));
        }
        let configurations = self.configurations.values().chain(&sync.configurations);
        directory.local = configurations
            .filter_map(|known| Some((known.partition, known.member_on(self.node)?.address.core)))
            .collect();
        self.directory = Arc::new(directory);
        for core in &self.cores {
            core.send(CoreInput::Directory(Arc::clone(&self.directory)));
        }
    }

    fn take_configuration(&mut self, configuration: Configuration) {
        let partition = configuration.partition;
        let before = self.configurations.get(&partition);
        if before.is_some_and(|before| before.ballot > configuration.ballot) {
            tracing::warn!(%partition, ballot = %configuration.ballot, "meta sent an older ballot, ignored");
            return;
        }
        let mut concerned: BTreeSet<usize> = BTreeSet::new();
        for known in before.iter().copied().chain([&configuration]) {
            concerned.extend(
                known
                    .member_on(self.node)
                    .map(|member| usize::from(member.address.core.0)),
            );
        }
        for core in concerned {
            self.tell(core, CoreInput::Configured(configuration.clone()));
        }
        self.configurations.insert(partition, configuration);
    }

    fn tell(&self, core: usize, input: CoreInput) {
        match self.cores.get(core) {
            Some(inbox) => inbox.send(input),
            None => tracing::error!(core, "meta names a core that this node does not have"),
        }
    }

    fn publish(&self) {
        let known = Known {
            directory: Arc::clone(&self.directory),
            configurations: self.configurations.clone(),
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn names(&self, key: ReplicaKey) -> bool {
        let member = self
            .configurations
            .get(&key.partition)
            .and_then(|known| known.member_on(self.node));
        member.is_some_and(|member| member.incarnation == key.incarnation)
    }
}
