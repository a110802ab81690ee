//! What meta has told this node about the cluster: tables and the addresses of nodes. Immutable once made; every core
//! holds the newest one and drops the one before.

use crate::settings::Settings;
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, PartitionId, TableId};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Tables and nodes as of the last push.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub tables: HashMap<TableId, Table>,
    pub nodes: HashMap<NodeId, Node>,
    /// Which core of this node holds a partition, for requests that arrive on another one.
    pub local: HashMap<PartitionId, CoreId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// A power of two, at least 1.
    pub partition_count: u32,
    /// Seconds that rows without an expiry of their own live; 0 = for ever.
    pub default_ttl_seconds: u32,
    /// Wanted replicas, and members that a write needs.
    pub replica_count: u8,
    pub min_replicas: u8,
    pub settings: Settings,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// By core number; what meta sent and is no address is missing.
    pub peer: Vec<Option<SocketAddr>>,
    /// By core number.
    pub client: Vec<Option<SocketAddr>>,
}

impl Directory {
    /// Where the peer port of a core is.
    #[must_use]
    pub fn peer(&self, core: CoreAddress) -> Option<SocketAddr> {
        self.nodes
            .get(&core.node)?
            .peer
            .get(usize::from(core.core.0))
            .copied()
            .flatten()
    }

    /// Where a node gives copies of its replicas: the port behind the last peer port.
    #[must_use]
    pub fn transfer(&self, node: NodeId) -> Option<SocketAddr> {
        let last = (*self.nodes.get(&node)?.peer.last()?)?;
        Some(SocketAddr::new(last.ip(), last.port().checked_add(1)?))
    }

    /// Where clients find a core.
    #[must_use]
    pub fn client(&self, core: CoreAddress) -> Option<SocketAddr> {
        self.nodes
            .get(&core.node)?
            .client
            .get(usize::from(core.core.0))
            .copied()
            .flatten()
    }
}
