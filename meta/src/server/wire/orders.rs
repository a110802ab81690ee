//! What clients and operators ask.

use super::super::letter::{Failed, Query};
use crate::state::{Command, CreateTable, Drain};
use pegasus_fbs::body;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::{admin, kv};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId};

/// A question of a client or an operator. `kind` is one of the four that ask.
pub(in crate::server) fn query(kind: FrameKind, bytes: &[u8]) -> Result<Query, Failed> {
    let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
    match kind {
        FrameKind::Route => {
            let it = body::read::<kv::RouteRequest<'_>>(bytes)?;
            Ok(Query::Route {
                name: name(it.table_name()),
            })
        }
        FrameKind::ShowTable => {
            let it = body::read::<admin::ShowTable<'_>>(bytes)?;
            Ok(Query::ShowTable {
                name: name(it.name()),
            })
        }
        FrameKind::ListTables => Ok(Query::ListTables),
        _ => Ok(Query::ListNodes),
    }
}

/// An order of an operator. `kind` is one of those that order.
pub(in crate::server) fn order(
    kind: FrameKind,
    bytes: &[u8],
    now_ms: u64,
) -> Result<Command, Failed> {
    match kind {
        FrameKind::DropTable => {
            let it = body::read::<admin::DropTable<'_>>(bytes)?;
            Ok(Command::DropTable {
                name: it.name().unwrap_or_default().to_owned(),
                now_ms,
            })
        }
        FrameKind::MovePrimary => {
            let it = body::read::<admin::MovePrimary<'_>>(bytes)?;
            Ok(Command::MovePrimary {
                table: it.table_name().unwrap_or_default().to_owned(),
                index: it.partition(),
                to: NodeId(it.node()),
                now_ms,
            })
        }
        FrameKind::MoveReplica => {
            let it = body::read::<admin::MoveReplica<'_>>(bytes)?;
            let to = CoreAddress {
                node: NodeId(it.to_node()),
                // What does not fit is refused as what it is: no core of any node.
                core: CoreId(u16::try_from(it.to_core()).unwrap_or(u16::MAX)),
            };
            Ok(Command::MoveReplica {
                table: it.table_name().unwrap_or_default().to_owned(),
                index: it.partition(),
                from: NodeId(it.from_node()),
                to,
                now_ms,
            })
        }
        FrameKind::DrainNode => {
            let it = body::read::<admin::DrainNode<'_>>(bytes)?;
            let drain = if it.move_replicas() {
                Drain::Replicas
            } else {
                Drain::Primaries
            };
            Ok(drain_node(it.node(), Some(drain), now_ms))
        }
        FrameKind::UndrainNode => {
            let it = body::read::<admin::UndrainNode<'_>>(bytes)?;
            Ok(drain_node(it.node(), None, now_ms))
        }
        _ => create_table(bytes, now_ms),
    }
}

const fn drain_node(node: u32, drain: Option<Drain>, now_ms: u64) -> Command {
    Command::DrainNode {
        node: NodeId(node),
        drain,
        now_ms,
    }
}

fn create_table(bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    let it = body::read::<admin::CreateTable<'_>>(bytes)?;
    Ok(Command::CreateTable(CreateTable {
        name: it.name().unwrap_or_default().to_owned(),
        partition_count: it.partition_count(),
        // What does not fit is refused as what it is: too many.
        replica_count: u8::try_from(it.replica_count()).unwrap_or(u8::MAX),
        allow_degraded: it.allow_degraded(),
        now_ms,
    }))
}
