//! What meta has assigned to this node, and how the cores hear of it.

use super::ReplicaKey;
use super::frames::Sync;
use super::reports::Reports;
use crate::directory::Directory;
use crate::inbox::{CoreInput, InboxSender};
use pegasus_replication::config::Configuration;
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
    directory: Arc<Directory>,
    known: Arc<Mutex<Known>>,
}

impl Assignment {
    pub(super) fn new(
        node: Option<NodeId>,
        cores: Vec<InboxSender>,
        known: Arc<Mutex<Known>>,
    ) -> Self {
        Self {
            node: node.unwrap_or(NodeId(0)),
            cores,
            digest: 0,
            configurations: HashMap::new(),
            directory: Arc::default(),
            known,
        }
    }

    /// Of the last push taken over; meta compares it with its own.
    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) const fn configurations(&self) -> &HashMap<PartitionId, Configuration> {
        &self.configurations
    }

    pub(super) fn ballot(&self, partition: PartitionId) -> Option<Ballot> {
        self.configurations
            .get(&partition)
            .map(|configuration| configuration.ballot)
    }

    /// Takes a push over and tells the cores: directory first, then configurations, then orders to delete. Returns the
    /// reported replicas that no configuration names.
    pub(super) fn take(&mut self, sync: Sync, reports: &Reports) -> BTreeSet<ReplicaKey> {
        self.take_directory(&sync);
        for configuration in sync.configurations {
            self.take_configuration(configuration);
        }
        for key in &sync.drops {
            self.configurations.remove(&key.partition);
            if let Some(core) = reports.core_of(*key) {
                let dropped = CoreInput::Dropped {
                    partition: key.partition,
                    incarnation: key.incarnation,
                };
                self.tell(usize::from(core.0), dropped);
            }
        }
        self.digest = sync.digest;
        self.publish();
        reports
            .keys()
            .filter(|key| !self.names(*key) && !sync.drops.contains(key))
            .collect()
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
