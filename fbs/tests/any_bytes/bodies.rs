//! Bodies of frames as every root table there is: any bytes are refused in one line or can be read whole, at any address
//! in memory with the same result. Run by the tests and by the fuzz target `bodies`.

use pegasus_fbs::body::{self, FailureBody};
use pegasus_fbs::flatbuffers::{FlatBufferBuilder, Follow, Verifiable};
use pegasus_fbs::{admin, kv, meta, peer, transfer};
use std::fmt::{self, Debug, Write};

macro_rules! roots {
    ($($table:ident :: $name:ident),* $(,)?) => {
        /// Every table that is the root of a body.
        pub(crate) const ROOTS: &[(&str, fn(&[u8]) -> Option<u64>)] =
            &[$((stringify!($name), |body| walk::<$table::$name<'_>>(body))),*];
    };
}

roots! {
    kv::KeyRequest, kv::PutRequest, kv::MultiPutRequest, kv::MultiRemoveRequest, kv::MultiGetRequest,
    kv::BatchGetRequest, kv::ScanRequest, kv::WriteReply, kv::ValueReply, kv::ExistReply, kv::TtlReply, kv::CountReply,
    kv::RowsReply, kv::Failure, kv::RouteRequest, kv::RouteReply,
    admin::CreateTable, admin::CreateTableReply, admin::DropTable, admin::DropTableReply, admin::ListTables,
    admin::ListTablesReply, admin::ShowTable, admin::TableDetail, admin::ListNodes, admin::ListNodesReply,
    meta::Register, meta::RegisterReply, meta::RegisterProof, meta::Sync, meta::Heartbeat, meta::HeartbeatReply,
    meta::ProposeNextBallot,
    peer::Hello, peer::HelloReply, peer::HelloProof, peer::Prepare, peer::PrepareReject, peer::PrepareAcks,
    peer::Beacon, peer::BeaconAck,
    meta::ProposeChange, admin::MovePrimary, admin::MoveReplica, admin::DrainNode, admin::UndrainNode, admin::Rebalance, admin::DecommissionNode, admin::ShowDrain, admin::ShowDrainReply, admin::ChangeReply,
    peer::LearnRequest, peer::LearnReply, peer::Yield,
    transfer::Open, transfer::Manifest, transfer::Fetch, transfer::Chunk, transfer::Entries, transfer::EntryList,
    kv::CoreStatsRequest, kv::CoreStatsReply, kv::ScrubRequest, kv::ScrubReply,
    kv::IncrRequest, kv::CheckAndSetRequest, kv::CheckAndMutateRequest, kv::IncrReply, kv::CheckReply,
    admin::RecallTable, admin::RenameTable, admin::ShowEnvs, admin::ShowEnvsReply, admin::ChangeEnvs, admin::ShowCluster,
    admin::ClusterReply, admin::SetLevel, admin::SetLevelReply,
    kv::CompactRequest, kv::CompactReply, kv::HotKeysRequest, kv::HotKeysReply,
    admin::SetReplicas, admin::ShowBalance, admin::OrderBalance, admin::BalanceReply,
    meta::BackupProgress, admin::StartBackup, admin::StartBackupReply, admin::ListBackups, admin::ListBackupsReply,
    admin::ShowBackup, admin::ShowBackupReply, admin::CancelBackup, admin::DeleteBackup, admin::OrderBackupPolicy,
    admin::ListBackupPolicies, admin::ListBackupPoliciesReply, admin::StartRestore, admin::StartRestoreReply,
    admin::ShowRestore, admin::ShowRestoreReply,
}

/// The first byte says which table the rest is read as.
pub(crate) fn run(input: &[u8]) {
    let Some((root, body)) = input.split_first() else {
        return;
    };
    let (_, walk) = ROOTS[usize::from(*root) % ROOTS.len()];
    let read = walk(body);
    let mut shifted = vec![0];
    shifted.extend_from_slice(body);
    assert_eq!(walk(&shifted[1..]), read);
    if let Ok(failure) = FailureBody::read(body) {
        let mut builder = FlatBufferBuilder::new();
        let written = failure.write(&mut builder).to_vec();
        assert_eq!(FailureBody::read(&written), Ok(failure));
    }
}

/// Reads every field; a digest of them, or `None` if the body was refused.
fn walk<'a, T>(body: &'a [u8]) -> Option<u64>
where
    T: Follow<'a> + Verifiable + 'a,
    T::Inner: Debug,
{
    match body::read::<T>(body) {
        Ok(table) => {
            let mut digest = Digest(0xcbf2_9ce4_8422_2325);
            write!(digest, "{table:?}").expect("a digest takes everything");
            Some(digest.0)
        }
        Err(error) => {
            let sentence = error.to_string();
            assert!(
                sentence.starts_with("malformed body: ") && !sentence.contains('\n'),
                "{sentence}"
            );
            assert!(sentence.len() < 500, "{sentence}");
            None
        }
    }
}

/// FNV-1a.
struct Digest(u64);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
