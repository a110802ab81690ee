//! Operators' calls: tables and nodes, answered by meta.

use crate::client::Client;
use crate::driver::{Answer, Class, Limits, Problem, exchange};
use crate::endpoint::Endpoint;
use crate::error::{Cause, Error, Result};
use crate::pipeline::{Body, Request};
use crate::reply::read;
use bytes::Bytes;
use pegasus_fbs::admin;
use pegasus_fbs::body::FailureBody;
use pegasus_fbs::code::{Code, Execution};
use pegasus_fbs::flatbuffers::FlatBufferBuilder;
use pegasus_fbs::frame::{FrameKind, Header};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(
    not(feature = "fuzzing"),
    allow(unreachable_pub, reason = "public with the feature")
)]
pub mod any_bytes;
mod backup;
mod balance;
mod compact;
mod core_stats;
mod hot_keys;
mod info;
mod remote;
mod scrub;
mod settings;

pub use backup::{
    BackupInfo, BackupList, BackupPhase, BackupTarget, PartitionBackup, PartitionRestore,
    PolicyAction, PolicyInfo, PolicyRequest, PolicyStart, PolicyTableInfo, RestoreInfo,
    RestoreRequest, WorkState,
};
pub use balance::{BalanceInfo, BalanceLimits, BalanceScope, MoveInfo};
pub use compact::CompactInfo;
pub use hot_keys::{HotKey, HotKeys};
pub use info::{
    BackoffInfo, ChangeOutcome, ClusterInfo, CoreInfo, CreateTable, CreatedTable, DrainInfo,
    DrainKind, Health, LearnerInfo, MemberInfo, NodeInfo, PartitionInfo, ProgramInfo,
    ReplicaHealth, TableInfo,
};
pub use scrub::ScrubInfo;
pub use settings::{ClusterSummary, EnvInfo, MetaChange, MetaInfo};

/// A group that has lost its leader is asked again for so long.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(5);
const LEADER_PAUSE: Duration = Duration::from_millis(50);
/// A meta that has not answered for so long hangs: the others are asked.
const SILENT_AFTER: Duration = Duration::from_secs(2);
/// Metas that are asked in one round: those that are configured and those that they name.
const METAS_MAX: usize = 32;

type Builder = FlatBufferBuilder<'static>;

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

    /// Drops a table; returns its number, by which it can be recalled for 7 days.
    ///
    /// # Errors
    /// [`Code::UnknownTable`]; [`Error::Unknown`] when the answer was lost.
    pub async fn drop_table(&self, name: &str) -> Result<u32> {
        self.drop_table_for(name, None).await
    }

    /// Drops a table; returns its number. It can be recalled for `reserve_seconds`: with 0 it is deleted at once, with `None`
    /// after 7 days.
    ///
    /// # Errors
    /// As [`Client::drop_table`].
    pub async fn drop_table_for(&self, name: &str, reserve_seconds: Option<u64>) -> Result<u32> {
        let reserve_seconds =
            reserve_seconds.map_or(-1, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let body = |builder: &mut Builder| {
            let name = Some(builder.create_string(name));
            let arguments = admin::DropTableArgs {
                name,
                reserve_seconds,
            };
            let request = admin::DropTable::create(builder, &arguments);
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
        self.tables(false).await
    }

    /// Dropped tables that can be recalled.
    pub async fn list_dropped_tables(&self) -> Result<Vec<TableInfo>> {
        self.tables(true).await
    }

    async fn tables(&self, dropped: bool) -> Result<Vec<TableInfo>> {
        let body = |builder: &mut Builder| {
            let request = admin::ListTables::create(builder, &admin::ListTablesArgs { dropped });
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ListTables, Class::Read, &body)
            .await?;
        let reply = read::<admin::ListTablesReply<'_>>(&answer)?;
        Ok(reply
            .tables()
            .map(|tables| tables.iter().map(info::table_info).collect())
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
        Ok(info::table_info(read::<admin::TableDetail<'_>>(&answer)?))
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
                .map(|nodes| nodes.iter().map(info::node_info).collect())
                .unwrap_or_default(),
        })
    }

    /// Makes the secondary on `node` the primary of a partition; clients are redirected.
    ///
    /// # Errors
    /// [`Code::UnknownTable`], [`Code::InvalidArgument`] with what is wrong, [`Code::Internal`] if it was given up;
    /// [`Error::Unknown`] when the answer was lost.
    pub async fn move_primary(
        &self,
        table: &str,
        partition: u32,
        node: u32,
    ) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let table_name = Some(builder.create_string(table));
            let arguments = admin::MovePrimaryArgs {
                table_name,
                partition,
                node,
            };
            let request = admin::MovePrimary::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::MovePrimary, &body).await
    }

    /// Moves the replica on node `from` to core `to` (node, core): a new one catches up first, then takes its place.
    ///
    /// # Errors
    /// As [`Client::move_primary`].
    pub async fn move_replica(
        &self,
        table: &str,
        partition: u32,
        from: u32,
        (to_node, to_core): (u32, u32),
    ) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let table_name = Some(builder.create_string(table));
            let arguments = admin::MoveReplicaArgs {
                table_name,
                partition,
                from_node: from,
                to_node,
                to_core,
            };
            let request = admin::MoveReplica::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::MoveReplica, &body).await
    }

    /// Takes everything that `node` leads to other nodes; with `move_replicas` everything that it holds. It gets nothing new
    /// until [`Client::undrain_node`].
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for an unknown node; [`Error::Unknown`] when the answer was lost.
    pub async fn drain_node(&self, node: u32, move_replicas: bool) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let arguments = admin::DrainNodeArgs {
                node,
                move_replicas,
            };
            let request = admin::DrainNode::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::DrainNode, &body).await
    }

    /// Lets a node have replicas again. What has left it does not come back by itself.
    ///
    /// # Errors
    /// As [`Client::drain_node`].
    pub async fn undrain_node(&self, node: u32) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let request = admin::UndrainNode::create(builder, &admin::UndrainNodeArgs { node });
            builder.finish(request, None);
        };
        self.order(FrameKind::UndrainNode, &body).await
    }

    /// Everything leaves `node`, then the cluster forgets it. Refused if a replica had nowhere to go.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for an unknown node, or with the partitions that would be lost or have too few replicas;
    /// [`Error::Unknown`] when the answer was lost.
    pub async fn decommission_node(&self, node: u32) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let arguments = admin::DecommissionNodeArgs { node };
            let request = admin::DecommissionNode::create(builder, &arguments);
            builder.finish(request, None);
        };
        self.order(FrameKind::DecommissionNode, &body).await
    }

    /// How far `node` is with being emptied; changes nothing.
    ///
    /// # Errors
    /// No meta answers.
    pub async fn show_drain(&self, node: u32) -> Result<DrainInfo> {
        let body = |builder: &mut Builder| {
            let request = admin::ShowDrain::create(builder, &admin::ShowDrainArgs { node });
            builder.finish(request, None);
        };
        let answer = self
            .ask_meta(FrameKind::ShowDrain, Class::Read, &body)
            .await?;
        Ok(info::drain_info(read::<admin::ShowDrainReply<'_>>(
            &answer,
        )?))
    }

    /// Spreads primaries evenly over nodes and cores, one hand-over at a time, as soon as nothing is missing anywhere.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the answer was lost.
    pub async fn rebalance(&self) -> Result<ChangeOutcome> {
        let body = |builder: &mut Builder| {
            let request = admin::Rebalance::create(builder, &admin::RebalanceArgs {});
            builder.finish(request, None);
        };
        self.order(FrameKind::Rebalance, &body).await
    }

    async fn order(&self, kind: FrameKind, body: Body<'_>) -> Result<ChangeOutcome> {
        let answer = self.ask_meta(kind, Class::Write, body).await?;
        Ok(info::change_outcome(read::<admin::ChangeReply<'_>>(
            &answer,
        )?))
    }

    /// Asks the configured addresses one after the other, and whom they name, until one gives a definite answer; where nobody
    /// leads for the moment, again after a while. A write that was sent is never sent again, and none is sent so late that
    /// its answer could hardly come in time.
    async fn ask_meta(&self, kind: FrameKind, class: Class, body: Body<'_>) -> Result<Bytes> {
        let started = Instant::now();
        let limits = Limits::new(started, self.driver().options.admin_timeout);
        let again_until = limits.start_by.min(started + LEADER_WAIT_MAX);
        loop {
            let missed = match self.ask_metas(kind, class, limits, body).await? {
                Asked::Answered(answer) => return Ok(answer),
                Asked::Missed(missed) => missed,
            };
            if !missed.may_pass || Instant::now() + LEADER_PAUSE >= again_until {
                return Err(missed.error());
            }
            sleep(LEADER_PAUSE).await;
        }
    }

    /// One round.
    async fn ask_metas(
        &self,
        kind: FrameKind,
        class: Class,
        limits: Limits,
        body: Body<'_>,
    ) -> Result<Asked> {
        let mut metas = VecDeque::from(self.driver().seeds());
        let has_others = metas.len() > 1;
        let mut missed = Missed::default();
        let mut asked: Vec<String> = Vec::new();
        while let Some(endpoint) = metas.pop_front() {
            let address = endpoint.address().to_owned();
            if asked.contains(&address) || asked.len() >= METAS_MAX {
                continue;
            }
            asked.push(address.clone());
            let patience = Instant::now() + SILENT_AFTER;
            // A write that was sent to somebody who hangs would be lost with him.
            if class == Class::Write && has_others && !answers(&endpoint, patience).await {
                missed.cause = Cause::local(format!("{address} does not answer"));
                continue;
            }
            let mut sent = false;
            let question = ask(&endpoint, kind, class, limits, body, || sent = true);
            let until = match class {
                Class::Read if has_others => limits.deadline.min(patience),
                _ => limits.deadline,
            };
            match timeout_at(until, question).await {
                Ok(Ok(answer)) => {
                    self.driver().prefer_seed(&endpoint);
                    return Ok(Asked::Answered(answer));
                }
                Ok(Err(Problem::Unsent(reason))) => {
                    missed.may_pass |= has_others;
                    missed.cause = Cause::local(reason);
                }
                Ok(Err(Problem::Lost(reason))) if class == Class::Write => {
                    return Err(Error::Unknown(Cause::local(reason)));
                }
                Ok(Err(Problem::Lost(reason))) => missed.cause = Cause::local(reason),
                Ok(Err(Problem::Refused(failure))) if asks_the_next(failure.code) => {
                    if failure.code == Code::NotPrimary {
                        missed.may_pass = true;
                        if !failure.primary.is_empty() {
                            metas.push_front(self.driver().endpoints().at(&failure.primary));
                        }
                    }
                    missed.refusal = Some(failure);
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
                Ok(Err(Problem::Expired | Problem::Moved { .. })) | Err(_) => {
                    let limit = self.driver().options.admin_timeout;
                    missed.cause =
                        Cause::local(format!("{address} gave no answer within {limit:?}"));
                    if class == Class::Write && sent {
                        return Err(Error::Unknown(missed.cause));
                    }
                    if Instant::now() >= limits.start_by {
                        missed.may_pass = false;
                        break;
                    }
                }
            }
        }
        Ok(Asked::Missed(missed))
    }
}

/// What came of a round.
enum Asked {
    Answered(Bytes),
    Missed(Missed),
}

/// Why nobody answered.
struct Missed {
    refusal: Option<FailureBody>,
    cause: Cause,
    /// A group of metas finds a leader within a second or two.
    may_pass: bool,
}

impl Default for Missed {
    fn default() -> Self {
        Self {
            refusal: None,
            cause: Cause::local("no address of the cluster is configured"),
            may_pass: false,
        }
    }
}

impl Missed {
    fn error(self) -> Error {
        match self.refusal {
            Some(failure) if failure.code == Code::Unsupported => {
                Error::failed(failure.code, failure.message)
            }
            Some(failure) => Error::NotExecuted(failure.into()),
            None => Error::NotExecuted(self.cause),
        }
    }
}

/// Whether somebody answers there at all, whoever it is.
async fn answers(endpoint: &Arc<Endpoint>, until: Instant) -> bool {
    let request = Request::unbounded(Header::request(FrameKind::Ping, 0), None);
    let pinged = timeout_at(until, exchange(endpoint, request, || ())).await;
    matches!(pinged, Ok(Ok(_) | Err(Problem::Refused(_))))
}

/// Refusals that another configured address may not give: a data node that is no meta, a meta that does not lead.
const fn asks_the_next(code: Code) -> bool {
    matches!(
        code,
        Code::Unsupported | Code::NotPrimary | Code::NotServing | Code::Busy
    )
}

/// Asks the node at `address` for something about itself, which changes no data: an answer that is lost is no harm.
async fn ask_node(
    client: &Client,
    address: &str,
    kind: FrameKind,
    body: Body<'_>,
) -> Result<Bytes> {
    let limit = client.driver().options.admin_timeout;
    let limits = Limits::new(Instant::now(), limit);
    let endpoint = client.driver().endpoints().at(address);
    let asked = ask(&endpoint, kind, Class::Read, limits, body, || ());
    match timeout_at(limits.deadline, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Problem::Unsent(reason) | Problem::Lost(reason))) => {
            Err(Error::NotExecuted(Cause::local(reason)))
        }
        Ok(Err(Problem::Refused(failure)))
            if failure.code.may_retry() || failure.code.execution() == Execution::Unknown =>
        {
            Err(Error::NotExecuted(failure.into()))
        }
        Ok(Err(Problem::Refused(failure))) => Err(Error::failed(failure.code, failure.message)),
        Ok(Err(Problem::Expired | Problem::Moved { .. })) | Err(_) => Err(Error::NotExecuted(
            Cause::local(format!("{address} gave no answer within {limit:?}")),
        )),
    }
}

async fn ask(
    endpoint: &Arc<Endpoint>,
    kind: FrameKind,
    class: Class,
    limits: Limits,
    body: Body<'_>,
    on_sent: impl FnOnce(),
) -> std::result::Result<Bytes, Problem> {
    let left = limits.deadline.saturating_duration_since(Instant::now());
    let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
    let request = Request {
        start_by: Some(limits.start_by),
        repeatable: class == Class::Read,
        ..Request::unbounded(Header::request(kind, 0).with_timeout_ms(left), Some(body))
    };
    match exchange(endpoint, request, on_sent).await? {
        Answer::Body(body) => Ok(body),
        Answer::NotFound => Err(Problem::Refused(not_found())),
    }
}

fn not_found() -> FailureBody {
    FailureBody {
        code: Code::NotFound,
        message: "meta found no such thing".into(),
        retry_after: Duration::ZERO,
        primary: String::new(),
        ballot: 0,
    }
}
