//! Clusters for tests.

use super::Facts;
use pegasus_client::{
    ClusterSummary, CoreInfo, Health, MemberInfo, NodeInfo, PartitionInfo, ProgramInfo,
    ReplicaHealth, TableInfo,
};
use std::time::Duration;

pub(crate) const NOW_MS: u64 = 1_000_000_000;

/// Three or more nodes, and table `t` with two partitions of three replicas on the first three.
pub(crate) fn healthy(nodes: u32) -> Facts {
    Facts {
        cluster: ClusterSummary {
            cluster_id: 7,
            name: "pegasus".to_owned(),
            level: 400,
            version: "0.1.0".to_owned(),
            heal_delay_ms: 60_000,
            now_unix_ms: NOW_MS,
            details: Vec::new(),
            metas: Vec::new(),
            term: 0,
        },
        nodes: (1..=nodes).map(node).collect(),
        tables: vec![TableInfo {
            table_id: 1,
            name: "t".to_owned(),
            partition_count: 2,
            replica_count: 3,
            health: Health::Healthy,
            healthy_partitions: 2,
            created_unix_ms: 1,
            dropped_unix_ms: 0,
            kept_until_unix_ms: 0,
            min_replicas: 2,
            partitions: (0..2).map(partition).collect(),
        }],
        silent_cores: Vec::new(),
        here_ms: NOW_MS,
    }
}

pub(crate) fn program(version: &str, started_unix_ms: u64) -> ProgramInfo {
    ProgramInfo {
        version: version.to_owned(),
        protocol: 1,
        disk_format: 1,
        started_unix_ms,
    }
}

pub(crate) fn node(number: u32) -> NodeInfo {
    NodeInfo {
        node: number,
        alive: true,
        host: format!("host-{number}"),
        pid: 100 + number,
        incarnation: 1,
        last_heartbeat: Duration::from_millis(300),
        stats_dir: String::new(),
        disk_total: 100 << 30,
        disk_free: 50 << 30,
        cores: vec![CoreInfo {
            client_address: format!("10.0.0.{number}:34801"),
            peer_address: format!("10.0.0.{number}:35801"),
            cpu: 0,
            replicas: 2,
            primaries: 1,
        }],
        is_draining: false,
        unknown_replicas: 0,
        is_decommissioned: false,
        is_leaving: false,
        refuses_writes: false,
        clock_ahead_ms: -3,
        program: Some(program("0.1.0", 1)),
    }
}

pub(crate) fn member(node: u32, health: ReplicaHealth) -> MemberInfo {
    MemberInfo {
        node,
        core: 0,
        address: String::new(),
        alive: true,
        health,
        reason: String::new(),
        committed: 1_000,
        prepared: 1_000,
        since_unix_ms: Some(NOW_MS - 20_000),
        bytes: 0,
    }
}

pub(crate) fn partition(index: u32) -> PartitionInfo {
    PartitionInfo {
        index,
        ballot: 3,
        health: Health::Healthy,
        primary: Some(member(1, ReplicaHealth::Serving)),
        secondaries: vec![
            member(2, ReplicaHealth::Ready),
            member(3, ReplicaHealth::Ready),
        ],
        learner: None,
        degraded_since_unix_ms: None,
        backoffs: Vec::new(),
        moving: String::new(),
    }
}
