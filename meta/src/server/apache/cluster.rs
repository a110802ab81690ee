//! Nodes and the cluster, as Apache's tools see them: each core is a node.

use super::super::facts::{Place, cluster_info, core_nodes, v4};
use super::Caller;
use crate::state::State;
use pegasus_thrift::meta::{ClusterInfoResponse, ListNodesResponse, NodeInfo, NodeStatus};
use pegasus_thrift::{ErrorCode, RpcAddress};

pub(super) fn list_nodes(state: &State, status: NodeStatus, caller: &Caller) {
    let infos = core_nodes(state).map(|core| NodeInfo {
        status: if core.alive {
            NodeStatus::Alive
        } else {
            NodeStatus::Unalive
        },
        node: v4(core.address).map_or(RpcAddress::NONE, RpcAddress::new),
        hp_node: None,
    });
    let wanted = infos.filter(|it| status == NodeStatus::Invalid || it.status == status);
    let infos = wanted.map(|it| {
        if caller.wants_host_ports() {
            it.with_host_port()
        } else {
            it
        }
    });
    caller.reply(&ListNodesResponse {
        err: ErrorCode::Ok,
        infos: infos.collect(),
    });
}

pub(super) fn info(state: &State, place: &Place, caller: &Caller) {
    let pairs = cluster_info(state, place);
    caller.reply(&ClusterInfoResponse {
        err: ErrorCode::Ok,
        keys: pairs.iter().map(|(key, _)| *key).collect(),
        values: pairs.iter().map(|(_, value)| value.as_str()).collect(),
    });
}
