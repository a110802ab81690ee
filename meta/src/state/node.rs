//! Nodes: what is durable of them, and what is only known from their last words.

use super::report::{ReplicaKey, ReplicaStatus};
use pegasus_replication::ids::{CoreId, NodeId, NodeIncarnation};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Cores of one node, at most.
pub const CORES_MAX: usize = 1024;
/// Nodes of a cluster, at most.
pub const NODES_MAX: usize = 1024;
/// Longest `host` and `stats_dir`, in bytes.
pub const NODE_TEXT_BYTES_MAX: usize = 4096;

/// A node as it last joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    /// Grows by at least one with each start of the node.
    pub incarnation: NodeIncarnation,
    /// By core number; never fewer than the highest core that holds a replica.
    pub cores: Vec<Core>,
    pub host: String,
    pub pid: u32,
    /// Directory of the statistics pages, for tools on the same host.
    pub stats_dir: String,
}

/// One core's advertised addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// `ip:port` for clients.
    pub client_address: String,
    /// `ip:port` for other nodes' cores.
    pub peer_address: String,
    /// The CPU it is pinned to; for display.
    pub cpu: u32,
}

impl Node {
    /// Core `core`, if the node has as many.
    #[must_use]
    pub fn core(&self, core: CoreId) -> Option<&Core> {
        self.cores.get(usize::from(core.0))
    }

    /// Why this node cannot be taken as it is, if so.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let address_fits = |address: &String| {
            address
                .parse::<SocketAddr>()
                .is_ok_and(|address| address.port() != 0)
        };
        let addresses_fit = self
            .cores
            .iter()
            .all(|core| address_fits(&core.client_address) && address_fits(&core.peer_address));
        match self {
            _ if self.id.0 == 0 => Some("the number is 0"),
            _ if self.incarnation.0 == 0 => Some("the incarnation is 0"),
            _ if self.cores.is_empty() => Some("it has no cores"),
            _ if self.cores.len() > CORES_MAX => Some("it has more than 1024 cores"),
            _ if !addresses_fit => Some("an address is not ip:port"),
            _ if self.host.len().max(self.stats_dir.len()) > NODE_TEXT_BYTES_MAX => {
                Some("a text is over 4096 bytes")
            }
            _ => None,
        }
    }

    /// Whether `other` speaks from the same process: a connection made anew, not a start.
    pub(crate) fn is_same_process(&self, other: &Self) -> bool {
        (self.incarnation, self.pid, &self.host) == (other.incarnation, other.pid, &other.host)
    }

    /// Whether other nodes reach both in the same way.
    pub(crate) fn has_same_addresses(&self, other: &Self) -> bool {
        let addresses = |node: &Self| -> Vec<(String, String)> {
            node.cores
                .iter()
                .map(|core| (core.client_address.clone(), core.peer_address.clone()))
                .collect()
        };
        addresses(self) == addresses(other)
    }
}

/// What is known of a node that has joined since this meta started. Lost with the process, told again by the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    pub incarnation: NodeIncarnation,
    /// Of the last heartbeat or join, on the clock of the commands.
    pub heard_ms: u64,
    /// What it said before it was started again.
    pub(super) past: super::lives::Past,
    /// Its connection to meta is there, as far as meta knows.
    pub(crate) is_connected: bool,
    /// Of the last push.
    pub(crate) synced_ms: u64,
    /// Heard of within [`super::ALIVE_MS`]. For display and placement only: nothing is taken away from a silent node.
    pub alive: bool,
    pub disk_total: u64,
    pub disk_free: u64,
    /// A full report was taken: what is not in `replicas` is not there.
    pub(crate) has_told_all: bool,
    /// Replicas of tables that meta knows, as last reported; those of dropped tables until the node says that they are gone.
    /// Copies that are no members are among them.
    pub replicas: BTreeMap<ReplicaKey, ReplicaStatus>,
    /// What it last said of itself; `program` stays until it is said again.
    pub words: super::report::NodeWords,
    /// Since when each replica says what it says of its health, on the clock of the commands.
    pub(crate) since_ms: BTreeMap<ReplicaKey, u64>,
    /// Reported replicas that no table knows, kept by the node and counted here.
    pub unknown_replicas: u64,
}

impl Live {
    pub(crate) fn new(incarnation: NodeIncarnation, now_ms: u64) -> Self {
        Self {
            incarnation,
            heard_ms: now_ms,
            is_connected: true,
            past: super::lives::Past::default(),
            synced_ms: now_ms,
            alive: true,
            disk_total: 0,
            disk_free: 0,
            has_told_all: false,
            replicas: BTreeMap::new(),
            words: super::report::NodeWords::default(),
            since_ms: BTreeMap::new(),
            unknown_replicas: 0,
        }
    }
}
