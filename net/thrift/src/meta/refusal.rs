//! Answers that say no, to every request of tools to meta and to replica servers.

use crate::binary::{Encode, Kind, write_field};
use crate::meta::AppInfo;
use crate::{ErrorCode, Rpc};

/// The answer to a request that fails: `err`, a hint for the operator if the answer has room for one, and everything
/// else empty. Also for requests whose structs are not spelled here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    fields: &'static [(i16, Blank)],
    err: ErrorCode,
    hint: &'a str,
}

/// A field after `err`, without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blank {
    Hint,
    Bool,
    I32,
    I64,
    Text,
    AppInfo,
    /// A list of elements of this kind.
    List(Kind),
    Map(Kind, Kind),
}

impl<'a> Refusal<'a> {
    /// For this request; `None` if its answer has no `err`: then the frame has to say no.
    #[must_use]
    pub fn new(rpc: Rpc, err: ErrorCode, hint: &'a str) -> Option<Self> {
        Some(Self {
            fields: fields(rpc)?,
            err,
            hint,
        })
    }

    /// For a request that is known and not built: `ERR_NOT_IMPLEMENTED` and its name.
    #[must_use]
    pub fn unsupported(rpc: Rpc) -> Option<Self> {
        Self::new(rpc, ErrorCode::NotImplemented, rpc.unsupported())
    }
}

impl Encode for Refusal<'_> {
    const KIND: Kind = Kind::Struct;

    fn encode(&self, out: &mut Vec<u8>) {
        write_field(1, &self.err, out);
        for (id, blank) in self.fields {
            match blank {
                Blank::Hint => write_field(*id, &self.hint, out),
                Blank::Text => write_field(*id, &"", out),
                Blank::Bool => write_field(*id, &false, out),
                Blank::I32 => write_field(*id, &0_i32, out),
                Blank::I64 => write_field(*id, &0_i64, out),
                Blank::AppInfo => write_field(*id, &AppInfo::default(), out),
                Blank::List(kind) => write_empty(*id, Kind::List, &[*kind], out),
                Blank::Map(key, value) => write_empty(*id, Kind::Map, &[*key, *value], out),
            }
        }
        out.push(0);
    }
}

/// An empty container of these kinds.
fn write_empty(id: i16, container: Kind, kinds: &[Kind], out: &mut Vec<u8>) {
    out.push(container.byte());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend(kinds.iter().map(|kind| kind.byte()));
    0_i32.encode(out);
}

/// What follows `err` in the answer to a request.
const fn fields(rpc: Rpc) -> Option<&'static [(i16, Blank)]> {
    Some(match rpc {
        Rpc::DropApp | Rpc::ProposeBalancer => &[],
        Rpc::RecallApp => &[(2, Blank::AppInfo)],
        Rpc::RenameApp
        | Rpc::StartRecovery
        | Rpc::UpdateAppEnv
        | Rpc::StartManualCompact
        | Rpc::QueryManualCompactStatus
        | Rpc::StartPartitionSplit
        | Rpc::ControlPartitionSplit
        | Rpc::StartBulkLoad
        | Rpc::ControlBulkLoad
        | Rpc::ClearBulkLoad
        | Rpc::StartBackupApp
        | Rpc::QueryBackupStatus
        | Rpc::AddBackupPolicy
        | Rpc::ModifyBackupPolicy
        | Rpc::ReplicaDiskMigrate
        | Rpc::DetectHotkey
        | Rpc::AddNewDisk => &[(2, Blank::Hint)],
        Rpc::CreateApp | Rpc::ControlMeta | Rpc::ModifyDuplication | Rpc::StartRestore => {
            &[(2, Blank::I32)]
        }
        Rpc::QueryPnDecree => &[(2, Blank::I64)],
        Rpc::ListNodes | Rpc::DddDiagnose | Rpc::QueryReplicaInfo | Rpc::QueryAppInfo => {
            &[(2, Blank::List(Kind::Struct))]
        }
        Rpc::GetAtomicIdempotent | Rpc::SetAtomicIdempotent => {
            &[(2, Blank::Bool), (3, Blank::Hint)]
        }
        Rpc::ListDuplication => &[
            (2, Blank::Hint),
            (3, Blank::Map(Kind::String, Kind::Struct)),
        ],
        Rpc::GetMaxReplicaCount | Rpc::SetMaxReplicaCount => &[(2, Blank::I32), (3, Blank::Hint)],
        Rpc::ClusterInfo => &[
            (2, Blank::List(Kind::String)),
            (3, Blank::List(Kind::String)),
        ],
        Rpc::ListApps => &[(2, Blank::List(Kind::Struct)), (3, Blank::Hint)],
        Rpc::QueryRestoreStatus => &[(2, Blank::List(Kind::Struct)), (3, Blank::List(Kind::I32))],
        Rpc::QueryDuplication => &[(3, Blank::I32), (4, Blank::List(Kind::Struct))],
        Rpc::AddDuplication => &[(2, Blank::I32), (3, Blank::I32), (4, Blank::Hint)],
        Rpc::QueryPartitionSplit => &[
            (2, Blank::I32),
            (3, Blank::Map(Kind::I32, Kind::I32)),
            (4, Blank::Hint),
        ],
        Rpc::QueryDiskInfo => &[
            (2, Blank::I64),
            (3, Blank::I64),
            (4, Blank::List(Kind::Struct)),
        ],
        Rpc::QueryBackupPolicy => &[
            (2, Blank::List(Kind::Struct)),
            (3, Blank::List(Kind::List)),
            (4, Blank::Hint),
        ],
        Rpc::QueryPartitionConfigByIndex => &[
            (2, Blank::I32),
            (3, Blank::I32),
            (4, Blank::Bool),
            (5, Blank::List(Kind::Struct)),
        ],
        Rpc::QueryBulkLoadStatus => &[
            (2, Blank::Text),
            (3, Blank::I32),
            (4, Blank::List(Kind::I32)),
            (5, Blank::I32),
            (6, Blank::List(Kind::Map)),
            (7, Blank::Hint),
        ],
        _ => return None,
    })
}
