//! What came of a command, in the struct that belongs to its request.

use super::{Caller, i32_of, i64_of, tables};
use crate::state::{Answer, BackupRefusal, Level, Refusal, State};
use pegasus_replication::ids::TableId;
use pegasus_thrift::meta::{
    CreateAppResponse, DropAppResponse, MetaControlResponse, MetaFunctionLevel, RecallAppResponse,
    RenameAppResponse, SetMaxReplicaCountResponse, StartBackupAppResponse, UpdateAppEnvResponse,
};
use pegasus_thrift::{ErrorCode, Rpc};

/// Whether the asker has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Told {
    Everything,
    /// Its table is recorded; the answer is due when its replicas are there, or when nobody waits any longer.
    AwaitsTable(TableId),
}

/// Tells the asker of `rpc` what came of it.
pub(in crate::server) fn outcome(
    state: &State,
    rpc: Rpc,
    answer: &Answer,
    forgives_missing: bool,
    caller: &Caller,
) -> Told {
    match answer {
        Answer::TableCreated { table, .. } => return Told::AwaitsTable(*table),
        Answer::TableDropped { .. } => caller.reply(&DropAppResponse { err: ErrorCode::Ok }),
        Answer::TableRecalled { table } => recalled(state, *table, caller),
        Answer::LevelWas { before, .. } => caller.reply(&MetaControlResponse {
            err: ErrorCode::Ok,
            old_level: level(*before),
        }),
        Answer::Refused(refusal) => refused(state, rpc, refusal, forgives_missing, caller),
        Answer::Done if rpc == Rpc::RenameApp => caller.reply(&RenameAppResponse::default()),
        Answer::Done => caller.reply(&UpdateAppEnvResponse::default()),
        Answer::ReplicasSet { before, .. } => caller.reply(&SetMaxReplicaCountResponse {
            err: ErrorCode::Ok,
            old_max_replica_count: i32::from(*before),
            hint_message: "",
        }),
        Answer::BackupStarted { id } => caller.reply(&StartBackupAppResponse {
            err: ErrorCode::Ok,
            hint_message: "",
            backup_id: Some(i64_of(*id)),
        }),
        Answer::NodeNumbered(_) | Answer::Ordered(_) => {
            caller.fail(pegasus_thrift::FrameStatus::HandlerNotFound);
        }
    }
    Told::Everything
}

/// A table was asked for and is there, or recorded at least.
pub(in crate::server) fn created(table: TableId, caller: &Caller) {
    caller.reply(&CreateAppResponse {
        err: ErrorCode::Ok,
        appid: i32_of(table.0),
    });
}

fn recalled(state: &State, table: TableId, caller: &Caller) {
    let table = state.durable().tables().get(&table);
    caller.reply(&RecallAppResponse {
        err: ErrorCode::Ok,
        info: table
            .map(|table| tables::info(state, table))
            .unwrap_or_default(),
    });
}

fn refused(state: &State, rpc: Rpc, refusal: &Refusal, forgives_missing: bool, caller: &Caller) {
    let is_missing = matches!(refusal, Refusal::UnknownTable(_));
    if rpc == Rpc::DropApp && is_missing && forgives_missing {
        caller.reply(&DropAppResponse { err: ErrorCode::Ok });
        return;
    }
    let err = error(state, rpc, refusal);
    caller.refuse(rpc, err, &refusal.to_string());
}

/// The name that Apache's meta gives to a refusal of this request.
fn error(state: &State, rpc: Rpc, refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::TableExists(name) if rpc == Rpc::CreateApp => {
            let table = state.durable().table_named(name);
            if table.is_some_and(|table| table.is_creating()) {
                ErrorCode::BusyCreating
            } else {
                ErrorCode::AppExist
            }
        }
        Refusal::UnknownTable(_) if rpc == Rpc::StartBackupApp => ErrorCode::InvalidState,
        Refusal::Backup(BackupRefusal::IsRunning { .. } | BackupRefusal::IsCreating(_)) => {
            ErrorCode::InvalidState
        }
        Refusal::Backup(BackupRefusal::PolicyIsRunning { .. }) => ErrorCode::Busy,
        Refusal::UnknownTable(_) | Refusal::NoSuchTable(_) => ErrorCode::AppNotExist,
        Refusal::NotDropped(_) => ErrorCode::AppExist,
        Refusal::Frozen(_) => ErrorCode::StateFreezed,
        // Two names and bad numbers, too few nodes: whatever is wrong with the parameters.
        _ => ErrorCode::InvalidParameters,
    }
}

const fn level(level: Level) -> MetaFunctionLevel {
    match level {
        Level::Stopped => MetaFunctionLevel::Stopped,
        Level::Blind => MetaFunctionLevel::Blind,
        Level::Freezed => MetaFunctionLevel::Freezed,
        Level::Steady => MetaFunctionLevel::Steady,
        Level::Lively => MetaFunctionLevel::Lively,
    }
}
