//! Where the partitions of a table are: what every client asks first.

use super::{Caller, address_of, i32_of, i64_of};
use crate::state::{Partition, State, Table};
use pegasus_replication::config::Stage;
use pegasus_replication::ids::PartitionId;
use pegasus_thrift::meta::{PartitionConfiguration, QueryCfgResponse};
use pegasus_thrift::{ErrorCode, Gpid, RpcAddress};

/// A table whose replicas are being made is answered by "busy" for so long, in milliseconds. Clients that find it so ask
/// again; tools that made it, and are answered by then ([`super::super::decider`]), rather see it without primaries.
pub(in crate::server) const CREATING_MS: u64 = 3_000;

pub(super) fn answer(state: &State, name: &str, indices: &[i32], caller: &Caller) {
    let response = response(state, name, indices);
    if caller.wants_host_ports() {
        caller.reply(&response.with_host_ports());
    } else {
        caller.reply(&response);
    }
}

fn response(state: &State, name: &str, indices: &[i32]) -> QueryCfgResponse<'static> {
    let refused = |err| QueryCfgResponse {
        err,
        ..QueryCfgResponse::default()
    };
    let Some(table) = state.durable().table_named(name) else {
        return refused(ErrorCode::ObjectNotFound);
    };
    if is_being_made(state, table) {
        return refused(ErrorCode::BusyCreating);
    }
    QueryCfgResponse {
        err: ErrorCode::Ok,
        app_id: i32_of(table.id.0),
        partition_count: i32_of(table.partition_count),
        is_stateful: true,
        partitions: partitions(state, table, indices),
    }
}

/// Its replicas are not there yet, and it is new.
pub(super) fn is_being_made(state: &State, table: &Table) -> bool {
    let age_ms = state.now_ms().saturating_sub(table.created_ms);
    age_ms < CREATING_MS && table.is_creating()
}

/// Those of `indices` that there are; all of them if there is none among them.
fn partitions(
    state: &State,
    table: &Table,
    indices: &[i32],
) -> Vec<PartitionConfiguration<'static>> {
    let wanted = indices.iter().filter_map(|&index| {
        let index = u32::try_from(index).ok()?;
        Some((index, table.partition(index)?))
    });
    // As many as there are are enough, however often one is named.
    let most = table.partitions.len();
    let some: Vec<_> = wanted
        .take(most)
        .map(|(index, it)| configuration(state, table, index, it))
        .collect();
    if !some.is_empty() {
        return some;
    }
    let all = table.indexed();
    all.map(|(index, it)| configuration(state, table, index, it))
        .collect()
}

fn configuration(
    state: &State,
    table: &Table,
    index: u32,
    partition: &Partition,
) -> PartitionConfiguration<'static> {
    let is_made = partition.stage == Stage::Active;
    let primary = partition.primary.filter(|_| is_made);
    let secondaries = partition.secondaries.iter().filter(|_| is_made);
    PartitionConfiguration {
        pid: Gpid {
            app_id: i32_of(table.id.0),
            partition_index: i32_of(index),
        },
        ballot: i64_of(partition.ballot.0).max(1),
        max_replica_count: i32::from(table.replica_count),
        primary: primary.map_or(RpcAddress::NONE, |member| address_of(state, &member)),
        secondaries: secondaries
            .map(|member| address_of(state, member))
            .collect(),
        last_drops: Vec::new(),
        last_committed_decree: i64_of(committed(state, table, index, partition)),
        partition_flags: 0,
        ..PartitionConfiguration::default()
    }
}

/// As the primary said last.
fn committed(state: &State, table: &Table, index: u32, partition: &Partition) -> u64 {
    let id = PartitionId {
        table: table.id,
        index,
    };
    let status = partition.primary.and_then(|primary| {
        let key = crate::state::ReplicaKey {
            partition: id,
            incarnation: primary.incarnation,
        };
        state.status(primary.address.node, key)
    });
    status.map_or(0, |status| status.committed.0)
}
