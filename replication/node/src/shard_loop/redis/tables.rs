//! Tables by name, and which core is primary of which partition, as far as this core has heard: from the directory, from
//! answers of meta, and from cores that say who is primary instead of them. All of it is a guess that costs a detour when it is
//! wrong.

use super::commands::{Aim, CommandId, TableAt};
use crate::directory::Directory;
use pegasus_net::request::Route;
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, PartitionId, TableId};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

/// Tables remembered; beyond that all are forgotten.
const TABLES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Asked several times for each command, and small: comparing is cheaper than hashing.
    by_name: BTreeMap<Arc<str>, Known>,
    /// Commands that wait for meta's answer about a table.
    waiting: HashMap<Arc<str>, Vec<CommandId>>,
}

#[derive(Debug)]
struct Known {
    table: TableId,
    /// By partition.
    primaries: Vec<Option<CoreAddress>>,
    /// By partition: whether a write was executed since then.
    proven: Vec<bool>,
}

/// Where something belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) table: TableAt,
    pub(super) primary: Option<CoreAddress>,
    /// Whether a write was executed there. If not, it may become primary in the middle of a pipeline.
    pub(super) is_proven: bool,
}

impl Tables {
    /// The table of this name.
    pub(super) fn find(&mut self, name: &Arc<str>, directory: &Directory) -> Option<TableAt> {
        let known = match self.by_name.get(name) {
            Some(known) => known,
            None => self.learn_name(name, directory)?,
        };
        Some(known.at())
    }

    /// The table of this name, and the primary of what is aimed at.
    pub(super) fn find_for(
        &mut self,
        name: &Arc<str>,
        aim: Aim,
        directory: &Directory,
    ) -> Option<Found> {
        let known = match self.by_name.get(name) {
            Some(known) => known,
            None => self.learn_name(name, directory)?,
        };
        let table = known.at();
        let partition = aim.partition(table.partition_count) as usize;
        Some(Found {
            table,
            primary: known.primaries.get(partition).copied().flatten(),
            is_proven: known.proven.get(partition).copied().unwrap_or_default(),
        })
    }

    /// Takes over a table that the directory has.
    fn learn_name(&mut self, name: &Arc<str>, directory: &Directory) -> Option<&Known> {
        let (table, found) = directory
            .tables
            .iter()
            .find(|(_, table)| *table.name == **name)?;
        let partitions = found.partition_count as usize;
        self.learn(name, *table, vec![None; partitions]);
        self.by_name.get(name)
    }

    fn learn(&mut self, name: &Arc<str>, table: TableId, primaries: Vec<Option<CoreAddress>>) {
        if self.by_name.len() >= TABLES_MAX {
            self.by_name.clear();
        }
        let known = Known {
            table,
            proven: vec![false; primaries.len()],
            primaries,
        };
        self.by_name.insert(name.clone(), known);
    }

    /// Meta's answer about a table.
    pub(super) fn learn_route(&mut self, name: &Arc<str>, route: &Route, directory: &Directory) {
        let cores = clients(directory);
        let primary = |text: &str| {
            text.parse()
                .ok()
                .and_then(|address: SocketAddr| cores.get(&address).copied())
        };
        let primaries = route
            .partitions
            .iter()
            .map(|partition| primary(&partition.primary));
        self.learn(name, TableId(route.table), primaries.collect());
    }

    pub(super) fn primary(&self, name: &str, partition: u32) -> Option<CoreAddress> {
        *self.by_name.get(name)?.primaries.get(partition as usize)?
    }

    /// Somebody says who is primary, or that nobody knows.
    pub(super) fn set_primary(&mut self, name: &str, partition: u32, primary: Option<CoreAddress>) {
        let known = self.by_name.get_mut(name);
        if let Some(slot) = known.and_then(|known| known.primaries.get_mut(partition as usize)) {
            *slot = primary;
        }
        self.set_proven(name, partition, false);
    }

    /// A write was executed where it was sent.
    pub(super) fn set_proven(&mut self, name: &str, partition: u32, is_proven: bool) {
        let known = self.by_name.get_mut(name);
        if let Some(slot) = known.and_then(|known| known.proven.get_mut(partition as usize)) {
            *slot = is_proven;
        }
    }

    /// The table is not what it was.
    pub(super) fn forget(&mut self, name: &str) {
        self.by_name.remove(name);
    }

    /// What the directory contradicts is forgotten.
    pub(super) fn check(&mut self, directory: &Directory) {
        self.by_name.retain(|name, known| {
            directory
                .tables
                .get(&known.table)
                .is_some_and(|table| *table.name == **name)
        });
    }

    /// A command waits for meta's answer; true if meta has to be asked.
    pub(super) fn wait(&mut self, name: &Arc<str>, command: CommandId) -> bool {
        let waiting = self.waiting.entry(name.clone()).or_default();
        waiting.push(command);
        waiting.len() == 1
    }

    /// Those who wait for an answer about this table, in the order they came.
    pub(super) fn take_waiting(&mut self, name: &str) -> Vec<CommandId> {
        self.waiting.remove(name).unwrap_or_default()
    }
}

impl Known {
    fn at(&self) -> TableAt {
        TableAt {
            table: self.table,
            partition_count: u32::try_from(self.primaries.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Which core listens where.
fn clients(directory: &Directory) -> HashMap<SocketAddr, CoreAddress> {
    let mut cores = HashMap::new();
    for (node, addresses) in &directory.nodes {
        for (core, address) in (0..).zip(&addresses.client) {
            if let Some(address) = address {
                cores.insert(*address, core_of(*node, core));
            }
        }
    }
    cores
}

const fn core_of(node: NodeId, core: u16) -> CoreAddress {
    CoreAddress {
        node,
        core: CoreId(core),
    }
}

/// The core that clients find at this address.
pub(super) fn core_at(address: SocketAddr, directory: &Directory) -> Option<CoreAddress> {
    directory.nodes.iter().find_map(|(node, addresses)| {
        let core = addresses
            .client
            .iter()
            .position(|at| *at == Some(address))?;
        Some(core_of(*node, u16::try_from(core).ok()?))
    })
}

/// The core of this node that has a copy of the partition.
pub(super) fn local(
    partition: PartitionId,
    directory: &Directory,
    own: NodeId,
) -> Option<CoreAddress> {
    directory.local.get(&partition).map(|core| CoreAddress {
        node: own,
        core: *core,
    })
}
