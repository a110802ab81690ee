//! Where the partitions of a table are.

use crate::{ErrorCode, Gpid, HostPort, RpcAddress};

structure! {
/// Where are these partitions?
"query_cfg_request" => pub struct QueryCfgRequest<'a> {
    1 app_name: &'a str,
    /// Empty = all. Those out of range are ignored; if no others are left, all are meant.
    2 partition_indices: Vec<i32>,
}
}

structure! {
/// Answer to it. On an error all but `err` is empty, except that a meta that does not lead names the leader as the
/// primary of one partition.
"query_cfg_response" => pub struct QueryCfgResponse<'a> {
    1 err: ErrorCode,
    2 app_id: i32,
    3 partition_count: i32,
    /// True for every table: Python clients look at nothing else.
    4 is_stateful: bool,
    /// By index, all of them if all were asked for.
    5 partitions: Vec<PartitionConfiguration<'a>>,
}
}

structure! {
/// Who has a partition.
"partition_configuration" => pub struct PartitionConfiguration<'a> {
    1 pid: Gpid,
    /// At least 1 for a partition that serves: the Go client takes 0 for a split.
    2 ballot: i64,
    3 max_replica_count: i32,
    4 primary: RpcAddress,
    5 secondaries: Vec<RpcAddress>,
    6 last_drops: Vec<RpcAddress>,
    7 last_committed_decree: i64,
    /// Bit 0: dropped.
    8 partition_flags: i32,
    /// This and what follows is for RDSN only: `pypegasus3` and older Java and Go clients break on it.
    9 hp_primary: Option<HostPort<'a>>,
    10 hp_secondaries: Option<Vec<HostPort<'a>>>,
    11 hp_last_drops: Option<Vec<HostPort<'a>>>,
}
}

impl PartitionConfiguration<'_> {
    /// The same with the fields that callers by RDSN look at, from the addresses.
    #[must_use]
    pub fn with_host_ports(self) -> Self {
        let all =
            |addresses: &[RpcAddress]| addresses.iter().copied().map(HostPort::from).collect();
        Self {
            hp_primary: Some(self.primary.into()),
            hp_secondaries: Some(all(&self.secondaries)),
            hp_last_drops: Some(all(&self.last_drops)),
            ..self
        }
    }
}

impl QueryCfgResponse<'_> {
    /// The answer of a meta that does not lead; with [`RpcAddress::NONE`], that of one that knows no leader.
    #[must_use]
    pub fn forward(leader: RpcAddress) -> Self {
        let mut partitions = Vec::new();
        if leader != RpcAddress::NONE {
            partitions.push(PartitionConfiguration {
                primary: leader,
                ..PartitionConfiguration::default()
            });
        }
        Self {
            err: ErrorCode::ForwardToOthers,
            partitions,
            ..Self::default()
        }
    }

    /// The same with the fields that callers by RDSN look at.
    #[must_use]
    pub fn with_host_ports(mut self) -> Self {
        let partitions = std::mem::take(&mut self.partitions).into_iter();
        self.partitions = partitions
            .map(PartitionConfiguration::with_host_ports)
            .collect();
        self
    }
}
