//! What foreign tools are told of the cluster as a whole. To them each core is a node.

use crate::leadership::MetaMember;
use crate::state::{Node, State};
use pegasus_replication::ids::{CoreAddress, CoreId};
use std::net::{SocketAddr, SocketAddrV4};

/// Where this meta is, as far as it knows, and which others there are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// All metas of the cluster; empty if this is the only one for good.
    pub(super) members: Vec<MetaMember>,
    /// Of the leader; 0 if there is no group.
    pub(super) term: u64,
    pub(super) leads: bool,
}

impl Place {
    /// The only meta there is.
    pub(super) const fn alone(address: SocketAddr) -> Self {
        Self {
            address,
            members: Vec::new(),
            term: 0,
            leads: true,
        }
    }

    /// The addresses of all metas, and of the one that leads.
    fn metas(&self) -> (String, String) {
        let here = self.address.to_string();
        if self.members.is_empty() {
            return (here.clone(), here);
        }
        let all: Vec<&str> = self.members.iter().map(|it| it.address.as_str()).collect();
        let leader = self.members.iter().find(|it| it.leads);
        (all.join(","), leader.map_or(here, |it| it.address.clone()))
    }
}

/// A core, as foreign tools see it: a node of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoreNode<'a> {
    /// `ip:port` of its clients.
    pub(super) address: &'a str,
    pub(super) alive: bool,
    pub(super) primaries: u64,
    pub(super) replicas: u64,
}

/// Every core of every node, by number.
pub(super) fn core_nodes(state: &State) -> impl Iterator<Item = CoreNode<'_>> {
    let loads = state.loads();
    let nodes = state.durable().nodes().values();
    nodes.flat_map(move |node: &Node| {
        let alive = state.is_alive(node.id);
        let cores: Vec<CoreNode<'_>> = (0u16..)
            .zip(&node.cores)
            .map(|(number, core)| {
                let address = CoreAddress {
                    node: node.id,
                    core: CoreId(number),
                };
                let load = loads.get(&address).copied().unwrap_or_default();
                CoreNode {
                    address: &core.client_address,
                    alive,
                    primaries: load.primaries,
                    replicas: load.replicas,
                }
            })
            .collect();
        cores
    })
}

/// An address that Apache's clients can be told: they know IPv4 only.
pub(super) fn v4(address: &str) -> Option<SocketAddrV4> {
    address.parse().ok()
}

/// Key and value, with the keys of Apache Pegasus.
pub(super) fn cluster_info(state: &State, place: &Place) -> Vec<(&'static str, String)> {
    let (all, leader) = place.metas();
    let cores: Vec<CoreNode<'_>> = core_nodes(state).filter(|core| core.alive).collect();
    let primaries: Vec<u64> = cores.iter().map(|core| core.primaries).collect();
    let replicas: Vec<u64> = cores.iter().map(|core| core.replicas).collect();
    vec![
        ("meta_servers", all),
        ("primary_meta_server", leader),
        // Meta keeps its state itself.
        ("zookeeper_hosts", String::new()),
        ("zookeeper_root", String::new()),
        (
            "meta_function_level",
            state.durable().level().name().to_owned(),
        ),
        (
            "balance_operation_count",
            "move_pri=0,copy_pri=0,copy_sec=0,total=0".to_owned(),
        ),
        ("primary_replica_count_stddev", deviation(&primaries)),
        ("total_replica_count_stddev", deviation(&replicas)),
        ("cluster_name", state.durable().cluster().name.clone()),
    ]
}

/// Standard deviation, two digits behind the point.
#[allow(
    clippy::cast_precision_loss,
    reason = "counts of replicas are far below 2^52"
)]
fn deviation(counts: &[u64]) -> String {
    if counts.is_empty() {
        return "0.00".to_owned();
    }
    let count = counts.len() as f64;
    let mean = counts.iter().sum::<u64>() as f64 / count;
    let squares: f64 = counts.iter().map(|&it| (it as f64 - mean).powi(2)).sum();
    format!("{:.2}", (squares / count).sqrt())
}
