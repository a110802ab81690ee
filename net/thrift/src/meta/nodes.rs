//! Nodes.

use crate::{ErrorCode, HostPort, RpcAddress};

enumeration! {
/// Whether a node lives.
"node_status" => pub enum NodeStatus {
    /// In a request: any.
    Invalid = 0,
    Alive = 1,
    Unalive = 2,
}
}

structure! {
/// List nodes.
"configuration_list_nodes_request" => pub struct ListNodesRequest {
    /// [`NodeStatus::Invalid`] = all.
    1 status: NodeStatus,
}
}

structure! {
/// Answer to list nodes.
"configuration_list_nodes_response" => pub struct ListNodesResponse<'a> {
    1 err: ErrorCode,
    2 infos: Vec<NodeInfo<'a>>,
}
}

structure! {
/// A node.
"node_info" => pub struct NodeInfo<'a> {
    1 status: NodeStatus,
    2 node: RpcAddress,
    /// For RDSN only: the shell prints nothing else, other clients break on it.
    3 hp_node: Option<HostPort<'a>>,
}
}

impl NodeInfo<'_> {
    /// The same with the field that callers by RDSN look at, from the address.
    #[must_use]
    pub fn with_host_port(self) -> Self {
        Self {
            hp_node: Some(self.node.into()),
            ..self
        }
    }
}
