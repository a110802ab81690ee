//! What clients and operators ask.

use super::super::letter::{Failed, Query};
use super::nodes::text_pair;
use crate::leadership::MemberChange;
use crate::state::envs::ENVS_MAX;
use crate::state::{Command, CreateTable, Drain, EnvChange, Level};
use pegasus_fbs::body;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_fbs::{admin, kv};
use pegasus_replication::ids::{CoreAddress, CoreId, NodeId, TableId};
use std::collections::BTreeMap;

/// A question of a client or an operator. `kind` is one of those that ask.
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
        FrameKind::ListTables => {
            // Nothing was sent with it once.
            let dropped =
                !bytes.is_empty() && body::read::<admin::ListTables<'_>>(bytes)?.dropped();
            Ok(Query::ListTables { dropped })
        }
        FrameKind::ShowEnvs => {
            let it = body::read::<admin::ShowEnvs<'_>>(bytes)?;
            Ok(Query::ShowEnvs {
                name: name(it.table_name()),
            })
        }
        FrameKind::ShowCluster => Ok(Query::ShowCluster),
        FrameKind::ShowBalance => super::balance::query(bytes),
        FrameKind::ShowDrain => {
            let it = body::read::<admin::ShowDrain<'_>>(bytes)?;
            Ok(Query::ShowDrain {
                node: NodeId(it.node()),
            })
        }
        _ => Ok(Query::ListNodes),
    }
}

/// An order to change who the metas are.
pub(in crate::server) fn member_change(bytes: &[u8]) -> Result<MemberChange, Failed> {
    let it = body::read::<admin::ChangeMetas<'_>>(bytes)?;
    let id = it.member();
    match it.operation() {
        admin::MetaOperation::Remove => Ok(MemberChange::Remove { id }),
        admin::MetaOperation::Add => {
            let peer_address = it.peer_address().unwrap_or_default();
            if peer_address.parse::<std::net::SocketAddr>().is_err() {
                let shown: String = peer_address.chars().take(64).collect();
                let message = format!("the address of a member's peers is ip:port, not {shown:?}");
                return Err(Failed::new(Code::InvalidArgument, message));
            }
            let peer_address = peer_address.to_owned();
            Ok(MemberChange::Add { id, peer_address })
        }
        _ => Err(Failed::new(
            Code::InvalidArgument,
            "a member is added or removed",
        )),
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
                // What is negative leaves it to meta.
                keep_seconds: u64::try_from(it.reserve_seconds()).ok(),
                now_ms,
            })
        }
        FrameKind::RecallTable => {
            let it = body::read::<admin::RecallTable<'_>>(bytes)?;
            Ok(Command::RecallTable {
                table: TableId(it.table_id()),
                name: it.name().filter(|name| !name.is_empty()).map(str::to_owned),
                now_ms,
            })
        }
        FrameKind::RenameTable => {
            let it = body::read::<admin::RenameTable<'_>>(bytes)?;
            Ok(Command::RenameTable {
                from: it.from().unwrap_or_default().to_owned(),
                to: it.to().unwrap_or_default().to_owned(),
                now_ms,
            })
        }
        FrameKind::ChangeEnvs => change_envs(bytes, now_ms),
        FrameKind::SetLevel => set_level(bytes, now_ms),
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
        FrameKind::DecommissionNode => {
            let it = body::read::<admin::DecommissionNode<'_>>(bytes)?;
            Ok(Command::DecommissionNode {
                node: NodeId(it.node()),
                now_ms,
            })
        }
        FrameKind::OrderBalance => super::balance::order(bytes, now_ms),
        FrameKind::SetReplicas => super::balance::set_replicas(bytes, now_ms),
        FrameKind::Rebalance => {
            body::read::<admin::Rebalance<'_>>(bytes)?;
            Ok(Command::Rebalance { now_ms })
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

fn change_envs(bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    let it = body::read::<admin::ChangeEnvs<'_>>(bytes)?;
    let invalid = |message: String| Err(Failed::new(Code::InvalidArgument, message));
    let count = it.envs().map_or(0, |envs| envs.len());
    if count > ENVS_MAX {
        return invalid(format!("{count} settings at once, at most {ENVS_MAX}"));
    }
    let named = it.envs().into_iter().flatten();
    let pairs: Vec<(String, String)> = named.map(|env| text_pair(&env)).collect();
    let change = match it.operation() {
        admin::EnvOperation::Set => EnvChange::Set(pairs),
        admin::EnvOperation::Delete => {
            EnvChange::Delete(pairs.into_iter().map(|(key, _)| key).collect())
        }
        admin::EnvOperation::Clear => EnvChange::Clear {
            prefix: it.prefix().unwrap_or_default().to_owned(),
        },
        other => {
            return invalid(format!("operation {} on settings is not known", other.0));
        }
    };
    Ok(Command::ChangeEnvs {
        table: it.table_name().unwrap_or_default().to_owned(),
        change,
        now_ms,
    })
}

fn set_level(bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    let wanted = body::read::<admin::SetLevel<'_>>(bytes)?.level();
    let level = match wanted {
        0 => None,
        number => Some(Level::from_number(number).ok_or_else(|| {
            let message = format!("{number} is no level; 100, 200, 300, 400 and 500 are");
            Failed::new(Code::InvalidArgument, message)
        })?),
    };
    Ok(Command::SetLevel { level, now_ms })
}

fn create_table(bytes: &[u8], now_ms: u64) -> Result<Command, Failed> {
    let it = body::read::<admin::CreateTable<'_>>(bytes)?;
    Ok(Command::CreateTable(CreateTable {
        name: it.name().unwrap_or_default().to_owned(),
        partition_count: it.partition_count(),
        // What does not fit is refused as what it is: too many.
        replica_count: u8::try_from(it.replica_count()).unwrap_or(u8::MAX),
        allow_degraded: it.allow_degraded(),
        may_exist: false,
        envs: BTreeMap::new(),
        now_ms,
    }))
}
