//! Operators' calls: tables and nodes, answered by meta.

use crate::client::Client;
use crate::driver::{Answer, Class, Problem, exchange};
use crate::endpoint::Endpoint;
use crate::error::{Cause, Error, Result};
use crate::pipeline::Body;
use crate::reply::read;
use bytes::Bytes;
use pegasus_fbs::code::{Code, Execution};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{FrameKind, Header};
use pegasus_fbs::{admin, meta};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

type Builder = FlatBufferBuilder<'static>;

/// What a new table shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTable {
    /// Letters, digits, `_ . : -`.
    pub name: String,
    /// A power of two, 2 to 65,536.
    pub partition_count: u32,
    pub replica_count: u32,
    /// Create it even with fewer nodes than replicas; it is then shown as degraded.
    pub allow_degraded: bool,
}

/// A table that was created and serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTable {
    pub table_id: u32,
    /// Fewer replicas than asked for.
    pub degraded: bool,
}

/// State of a table or partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// The server did not say.
    Unset,
    Healthy,
    /// Serves with fewer replicas than asked for.
    Degraded,
    /// Does not serve.
    Unavailable,
    Creating,
    Dropped,
}

/// State of one replica as its node reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaHealth {
    /// Not reported yet.
    Unset,
    Opening,
    Ready,
    Serving,
    OutOfService,
    Unknown,
}

/// A table, with its partitions if they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub table_id: u32,
    pub name: String,
    pub partition_count: u32,
    pub replica_count: u32,
    pub health: Health,
    pub healthy_partitions: u32,
    pub created_unix_ms: u64,
    /// Filled by [`Client::show_table`] only.
    pub partitions: Vec<PartitionInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub index: u32,
    pub ballot: u64,
    pub health: Health,
    pub primary: Option<MemberInfo>,
    pub secondaries: Vec<MemberInfo>,
}

/// A member of a partition's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    pub node: u32,
    pub core: u32,
    /// Client address of the core, `ip:port`.
    pub address: String,
    pub alive: bool,
    pub health: ReplicaHealth,
    /// Why it is not healthy, empty otherwise.
    pub reason: String,
    pub committed: u64,
    pub prepared: u64,
}

/// The cluster's identity and nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    pub cluster_id: u128,
    pub nodes: Vec<NodeInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    pub node: u32,
    pub alive: bool,
    pub host: String,
    pub pid: u32,
    pub incarnation: u64,
    /// How long ago meta heard from it.
    pub last_heartbeat: Duration,
    /// Directory of its statistics pages, on its host.
    pub stats_dir: String,
    pub disk_total: u64,
    pub disk_free: u64,
    pub cores: Vec<CoreInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreInfo {
    pub client_address: String,
    pub peer_address: String,
    pub cpu: u32,
    pub replicas: u32,
    pub primaries: u32,
}

impl Client {
    /// Creates a table and waits until all its partitions serve.
    ///
    /// # Errors
    /// [`Code::AlreadyExists`], [`Code::InvalidArgument`], [`Code::NotEnoughNodes`]; [`Code::Creating`] when the table
    /// is recorded but some partitions do not serve yet (it goes on by itself); [`Error::Unknown`] when the answer was
    /// lost.
    pub async fn create_table(&self, table: &CreateTable) -> Result<CreatedTable> {
        let body = |builder: &mut Builder| {
            let name = Some(builder.create_string(&table.name));
            let arguments = admin::CreateTableArgs {
                name,
                partition_count: table.partition_count,
                replica_count: table.replica_count,
                allow_degraded: table.allow_degraded,
            };
            let request = admin::CreateTable::create(builder, &arguments);
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::CreateTable, Class::Write, &body)
            .await?;
        let reply = read::<admin::CreateTableReply<'_>>(&answer)?;
        self.forget(&table.name);
        Ok(CreatedTable {
            table_id: reply.table_id(),
            degraded: reply.degraded(),
        })
    }

    /// Drops a table; returns its number.
    ///
    /// # Errors
    /// [`Code::UnknownTable`]; [`Error::Unknown`] when the answer was lost.
    pub async fn drop_table(&self, name: &str) -> Result<u32> {
        let body = |builder: &mut Builder| {
            let name = Some(builder.create_string(name));
            let request = admin::DropTable::create(builder, &admin::DropTableArgs { name });
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::DropTable, Class::Write, &body)
            .await?;
        self.forget(name);
        Ok(read::<admin::DropTableReply<'_>>(&answer)?.table_id())
    }

    /// All tables, without their partitions.
    pub async fn list_tables(&self) -> Result<Vec<TableInfo>> {
        let body = |builder: &mut Builder| {
            let request = admin::ListTables::create(builder, &admin::ListTablesArgs {});
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ListTables, Class::Read, &body)
            .await?;
        let reply = read::<admin::ListTablesReply<'_>>(&answer)?;
        Ok(reply
            .tables()
            .map(|tables| tables.iter().map(table_info).collect())
            .unwrap_or_default())
    }

    /// One table with its partitions and their members.
    ///
    /// # Errors
    /// [`Code::UnknownTable`].
    pub async fn show_table(&self, name: &str) -> Result<TableInfo> {
        let body = |builder: &mut Builder| {
            let name = Some(builder.create_string(name));
            let request = admin::ShowTable::create(builder, &admin::ShowTableArgs { name });
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ShowTable, Class::Read, &body)
            .await?;
        Ok(table_info(read::<admin::TableDetail<'_>>(&answer)?))
    }

    /// All nodes with their cores.
    pub async fn list_nodes(&self) -> Result<ClusterInfo> {
        let body = |builder: &mut Builder| {
            let request = admin::ListNodes::create(builder, &admin::ListNodesArgs {});
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ListNodes, Class::Read, &body)
            .await?;
        let reply = read::<admin::ListNodesReply<'_>>(&answer)?;
        Ok(ClusterInfo {
            cluster_id: (u128::from(reply.cluster_high()) << 64) | u128::from(reply.cluster_low()),
            nodes: reply
                .nodes()
                .map(|nodes| nodes.iter().map(node_info).collect())
                .unwrap_or_default(),
        })
    }

    /// Asks the configured addresses one after the other until one gives a definite answer. A write that was sent is
    /// never sent again.
    async fn ask_meta(&self, kind: FrameKind, class: Class, body: Body<'_>) -> Result<Bytes> {
        let limit = self.driver().options.admin_timeout;
        let deadline = Instant::now() + limit;
        let mut refusal = None;
        let mut cause = Cause::local("no address of the cluster is configured");
        for endpoint in self.driver().seeds() {
            let mut sent = false;
            let asked = ask(&endpoint, kind, deadline, body, || sent = true);
            match timeout_at(deadline, asked).await {
                Ok(Ok(answer)) => {
                    self.driver().prefer_seed(&endpoint);
                    return Ok(answer);
                }
                Ok(Err(Problem::Unsent(reason))) => cause = Cause::local(reason),
                Ok(Err(Problem::Lost(reason))) if class == Class::Write => {
                    return Err(Error::Unknown(Cause::local(reason)));
                }
                Ok(Err(Problem::Lost(reason))) => cause = Cause::local(reason),
                Ok(Err(Problem::Refused(failure))) if asks_the_next(failure.code) => {
                    refusal = Some(failure)
                }
                Ok(Err(Problem::Refused(failure)))
                    if failure.code.execution() == Execution::Unknown =>
                {
                    return Err(match class {
                        Class::Write => Error::Unknown(failure.into()),
                        Class::Read => Error::failed(failure.code, failure.message),
                    });
                }
                Ok(Err(Problem::Refused(failure))) => {
                    return Err(Error::failed(failure.code, failure.message));
                }
                Err(_) => {
                    let cause = Cause::local(format!(
                        "{} gave no answer within {limit:?}",
                        endpoint.address()
                    ));
                    let unknown = class == Class::Write && sent;
                    return Err(if unknown {
                        Error::Unknown(cause)
                    } else {
                        Error::NotExecuted(cause)
                    });
                }
            }
        }
        Err(match refusal {
            Some(failure) if failure.code == Code::Unsupported => {
                Error::failed(failure.code, failure.message)
            }
            Some(failure) => Error::NotExecuted(failure.into()),
            None => Error::NotExecuted(cause),
        })
    }
}

/// Refusals that another configured address may not give: a data node that is no meta, a meta that does not lead.
const fn asks_the_next(code: Code) -> bool {
    matches!(
        code,
        Code::Unsupported | Code::NotPrimary | Code::NotServing | Code::Busy
    )
}

async fn ask(
    endpoint: &Arc<Endpoint>,
    kind: FrameKind,
    deadline: Instant,
    body: Body<'_>,
    on_sent: impl FnOnce(),
) -> std::result::Result<Bytes, Problem> {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .as_millis();
    let header =
        Header::request(kind, 0).with_timeout_ms(u32::try_from(left).unwrap_or(u32::MAX).max(1));
    match exchange(endpoint, header, Some(body), 0, on_sent).await? {
        Answer::Body(body) => Ok(body),
        Answer::NotFound => Err(Problem::Refused(not_found())),
    }
}

fn not_found() -> pegasus_fbs::body::FailureBody {
    pegasus_fbs::body::FailureBody {
        code: Code::NotFound,
        message: "meta found no such thing".into(),
        retry_after: Duration::ZERO,
        primary: String::new(),
    }
}

fn table_info(table: admin::TableDetail<'_>) -> TableInfo {
    TableInfo {
        table_id: table.table_id(),
        name: text(table.name()),
        partition_count: table.partition_count(),
        replica_count: table.replica_count(),
        health: table.health().into(),
        healthy_partitions: table.healthy_partitions(),
        created_unix_ms: table.created_unix_ms(),
        partitions: table
            .partitions()
            .map(|all| all.iter().map(partition_info).collect())
            .unwrap_or_default(),
    }
}

fn partition_info(partition: admin::PartitionDetail<'_>) -> PartitionInfo {
    PartitionInfo {
        index: partition.index(),
        ballot: partition.ballot(),
        health: partition.health().into(),
        primary: partition.primary().map(member_info),
        secondaries: partition
            .secondaries()
            .map(|all| all.iter().map(member_info).collect())
            .unwrap_or_default(),
    }
}

fn member_info(member: admin::MemberDetail<'_>) -> MemberInfo {
    MemberInfo {
        node: member.node(),
        core: member.core(),
        address: text(member.address()),
        alive: member.alive(),
        health: member.health().into(),
        reason: text(member.reason()),
        committed: member.committed(),
        prepared: member.prepared(),
    }
}

fn node_info(node: admin::NodeDetail<'_>) -> NodeInfo {
    NodeInfo {
        node: node.node(),
        alive: node.alive(),
        host: text(node.host()),
        pid: node.pid(),
        incarnation: node.incarnation(),
        last_heartbeat: Duration::from_millis(node.last_heartbeat_ms()),
        stats_dir: text(node.stats_dir()),
        disk_total: node.disk_total(),
        disk_free: node.disk_free(),
        cores: node
            .cores()
            .map(|cores| cores.iter().map(core_info).collect())
            .unwrap_or_default(),
    }
}

fn core_info(core: admin::CoreDetail<'_>) -> CoreInfo {
    CoreInfo {
        client_address: text(core.client_address()),
        peer_address: text(core.peer_address()),
        cpu: core.cpu(),
        replicas: core.replicas(),
        primaries: core.primaries(),
    }
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

impl From<admin::Health> for Health {
    fn from(health: admin::Health) -> Self {
        match health {
            admin::Health::Healthy => Self::Healthy,
            admin::Health::Degraded => Self::Degraded,
            admin::Health::Unavailable => Self::Unavailable,
            admin::Health::Creating => Self::Creating,
            admin::Health::Dropped => Self::Dropped,
            _ => Self::Unset,
        }
    }
}

impl From<meta::ReplicaHealth> for ReplicaHealth {
    fn from(health: meta::ReplicaHealth) -> Self {
        match health {
            meta::ReplicaHealth::Opening => Self::Opening,
            meta::ReplicaHealth::Ready => Self::Ready,
            meta::ReplicaHealth::Serving => Self::Serving,
            meta::ReplicaHealth::OutOfService => Self::OutOfService,
            meta::ReplicaHealth::Unknown => Self::Unknown,
            _ => Self::Unset,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "-",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
            Self::Creating => "creating",
            Self::Dropped => "dropped",
        })
    }
}

impl fmt::Display for ReplicaHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "-",
            Self::Opening => "opening",
            Self::Ready => "ready",
            Self::Serving => "serving",
            Self::OutOfService => "out of service",
            Self::Unknown => "unknown",
        })
    }
}
