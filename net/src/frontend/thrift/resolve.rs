//! Where the partitions of a table are, for clients that have a data node in their list of metas.

use crate::request::{Failure, PartitionRoute, Route};
use pegasus_fbs::code::Code;
use pegasus_thrift::meta::{PartitionConfiguration, QueryCfgResponse};
use pegasus_thrift::{ErrorCode, Gpid, RpcAddress};
use std::net::SocketAddrV4;

/// The answer about the partitions of these indices, or about all if none of them exists.
pub(super) fn response(route: &Route, indices: &[i32]) -> QueryCfgResponse<'static> {
    let app_id = route.table.cast_signed();
    let asked = |index: i32| {
        let partition = route.partitions.get(usize::try_from(index).ok()?)?;
        Some(configuration(app_id, index, partition))
    };
    // As many as there are are enough, however often one is named: an index takes four bytes, its answer a hundred.
    let found = indices.iter().filter_map(|index| asked(*index));
    let mut partitions: Vec<_> = found.take(route.partitions.len()).collect();
    if partitions.is_empty() {
        partitions = (0..).map_while(asked).collect();
    }
    QueryCfgResponse {
        err: ErrorCode::Ok,
        app_id,
        partition_count: i32::try_from(route.partitions.len()).unwrap_or(i32::MAX),
        is_stateful: true,
        partitions,
    }
}

/// The answer that names no partition, and why.
pub(super) fn refusal(failure: &Failure) -> QueryCfgResponse<'static> {
    let err = match failure.code {
        Code::UnknownTable | Code::NotFound => ErrorCode::ObjectNotFound,
        Code::Creating => ErrorCode::BusyCreating,
        // Java clients ask the next address of their list then.
        _ => return QueryCfgResponse::forward(RpcAddress::NONE),
    };
    QueryCfgResponse {
        err,
        ..QueryCfgResponse::default()
    }
}

fn configuration(
    app_id: i32,
    partition_index: i32,
    partition: &PartitionRoute,
) -> PartitionConfiguration<'static> {
    let secondaries: Vec<_> = partition.secondaries.iter().map(|it| address(it)).collect();
    let primary = address(&partition.primary);
    let members = secondaries.len() + usize::from(primary != RpcAddress::NONE);
    PartitionConfiguration {
        pid: Gpid {
            app_id,
            partition_index,
        },
        // Below 1 it would be a partition that is being split.
        ballot: i64::try_from(partition.ballot).unwrap_or(i64::MAX).max(1),
        // How many replicas are wanted is meta's to tell.
        max_replica_count: i32::try_from(members.max(1)).unwrap_or(i32::MAX),
        primary,
        secondaries,
        ..PartitionConfiguration::default()
    }
}

/// Clients of Apache Pegasus know addresses of IPv4 only.
fn address(text: &str) -> RpcAddress {
    text.parse::<SocketAddrV4>()
        .map_or(RpcAddress::NONE, RpcAddress::new)
}
