//! Requests to meta: where partitions are, tables, nodes, environments, levels.
//!
//! `err` of an answer says how it went; the frame around it is OK all the same.

mod backup;
mod control;
mod envs;
mod nodes;
mod query;
mod refusal;
mod replica_count;
mod tables;

pub use backup::{
    AddBackupPolicyRequest, AddBackupPolicyResponse, BackupEntry, BackupItem,
    ModifyBackupPolicyRequest, ModifyBackupPolicyResponse, PolicyEntry, QueryBackupPolicyRequest,
    QueryBackupPolicyResponse, QueryBackupStatusRequest, QueryBackupStatusResponse,
    QueryRestoreRequest, QueryRestoreResponse, RestoreRequest, StartBackupAppRequest,
    StartBackupAppResponse,
};
pub use control::{
    ClusterInfoRequest, ClusterInfoResponse, MetaControlRequest, MetaControlResponse,
    MetaFunctionLevel,
};
pub use envs::{AppEnvOperation, UpdateAppEnvRequest, UpdateAppEnvResponse};
pub use nodes::{ListNodesRequest, ListNodesResponse, NodeInfo, NodeStatus};
pub use query::{PartitionConfiguration, QueryCfgRequest, QueryCfgResponse};
pub use refusal::Refusal;
pub use replica_count::{
    GetMaxReplicaCountRequest, GetMaxReplicaCountResponse, SetMaxReplicaCountRequest,
    SetMaxReplicaCountResponse,
};
pub use tables::{
    AppInfo, AppStatus, CreateAppOptions, CreateAppRequest, CreateAppResponse, DropAppOptions,
    DropAppRequest, DropAppResponse, ListAppsRequest, ListAppsResponse, PatternMatchType,
    RecallAppRequest, RecallAppResponse, RenameAppRequest, RenameAppResponse,
};

use crate::remote::{Command, NegotiationRequest};
use crate::{Call, DecodeError, Rpc};

/// A request that meta understands. Others of Apache's are known by name, and answered with a [`Refusal`].
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    QueryConfig(QueryCfgRequest<'a>),
    CreateApp(CreateAppRequest<'a>),
    DropApp(DropAppRequest<'a>),
    RecallApp(RecallAppRequest<'a>),
    RenameApp(RenameAppRequest<'a>),
    ListApps(ListAppsRequest<'a>),
    ListNodes(ListNodesRequest),
    ClusterInfo(ClusterInfoRequest),
    UpdateAppEnv(UpdateAppEnvRequest<'a>),
    ControlMeta(MetaControlRequest),
    GetMaxReplicaCount(GetMaxReplicaCountRequest<'a>),
    SetMaxReplicaCount(SetMaxReplicaCountRequest<'a>),
    StartBackupApp(StartBackupAppRequest<'a>),
    QueryBackupStatus(QueryBackupStatusRequest),
    AddBackupPolicy(AddBackupPolicyRequest<'a>),
    ModifyBackupPolicy(ModifyBackupPolicyRequest<'a>),
    QueryBackupPolicy(QueryBackupPolicyRequest<'a>),
    StartRestore(RestoreRequest<'a>),
    QueryRestoreStatus(QueryRestoreRequest),
    Command(Command<'a>),
    Negotiate(NegotiationRequest<'a>),
}

impl<'a> Request<'a> {
    /// What a call to meta asks for; `None` if it is none of these requests.
    ///
    /// # Errors
    /// See [`Call::request`].
    pub fn of(call: &Call<'a>) -> Option<Result<Self, DecodeError>> {
        Some(match call.rpc? {
            Rpc::QueryPartitionConfigByIndex => call.request().map(Self::QueryConfig),
            Rpc::CreateApp => call.request().map(Self::CreateApp),
            Rpc::DropApp => call.request().map(Self::DropApp),
            Rpc::RecallApp => call.request().map(Self::RecallApp),
            Rpc::RenameApp => call.request().map(Self::RenameApp),
            Rpc::ListApps => call.request().map(Self::ListApps),
            Rpc::ListNodes => call.request().map(Self::ListNodes),
            Rpc::ClusterInfo => call.request().map(Self::ClusterInfo),
            Rpc::UpdateAppEnv => call.request().map(Self::UpdateAppEnv),
            Rpc::ControlMeta => call.request().map(Self::ControlMeta),
            Rpc::GetMaxReplicaCount => call.request().map(Self::GetMaxReplicaCount),
            Rpc::SetMaxReplicaCount => call.request().map(Self::SetMaxReplicaCount),
            Rpc::StartBackupApp => call.request().map(Self::StartBackupApp),
            Rpc::QueryBackupStatus => call.request().map(Self::QueryBackupStatus),
            Rpc::AddBackupPolicy => call.request().map(Self::AddBackupPolicy),
            Rpc::ModifyBackupPolicy => call.request().map(Self::ModifyBackupPolicy),
            Rpc::QueryBackupPolicy => call.request().map(Self::QueryBackupPolicy),
            Rpc::StartRestore => call.request().map(Self::StartRestore),
            Rpc::QueryRestoreStatus => call.request().map(Self::QueryRestoreStatus),
            Rpc::Cli => call.request().map(Self::Command),
            Rpc::Negotiation => call.request().map(Self::Negotiate),
            _ => return None,
        })
    }
}
