//! Every struct of the protocol, from any bytes: either they are refused with a sentence, or the struct that was read is
//! read again from what it is written to.

use pegasus_thrift::binary::{Decode, Reader, read_only_field, write_only_field};
use pegasus_thrift::{DecodeError, data, meta, remote};

/// Elements of all containers of one struct together.
const ELEMENTS_MAX: u32 = 1000;

macro_rules! each {
    ($bytes:expr, $($type:ty),* $(,)?) => { $({
        match read::<$type>($bytes) {
            Ok(value) => {
                let mut written = Vec::new();
                write_only_field(1, &value, &mut written);
                assert_eq!(read::<$type>(&written).as_ref(), Ok(&value));
            }
            Err(error) => has_a_sentence(error),
        }
    })* };
}

/// As the arguments of a request.
pub(crate) fn requests(bytes: &[u8]) {
    each!(
        bytes,
        &[u8],
        i64,
        data::UpdateRequest<'_>,
        data::MultiPutRequest<'_>,
        data::MultiRemoveRequest<'_>,
        data::IncrRequest<'_>,
        data::CheckAndSetRequest<'_>,
        data::CheckAndMutateRequest<'_>,
        data::DuplicateRequest<'_>,
        data::MultiGetRequest<'_>,
        data::BatchGetRequest<'_>,
        data::GetScannerRequest<'_>,
        data::ScanRequest,
        meta::QueryCfgRequest<'_>,
        meta::CreateAppRequest<'_>,
        meta::DropAppRequest<'_>,
        meta::RecallAppRequest<'_>,
        meta::RenameAppRequest<'_>,
        meta::ListAppsRequest<'_>,
        meta::ListNodesRequest,
        meta::ClusterInfoRequest,
        meta::UpdateAppEnvRequest<'_>,
        meta::MetaControlRequest,
        meta::GetMaxReplicaCountRequest<'_>,
        meta::SetMaxReplicaCountRequest<'_>,
        meta::StartBackupAppRequest<'_>,
        meta::QueryBackupStatusRequest,
        meta::AddBackupPolicyRequest<'_>,
        meta::ModifyBackupPolicyRequest<'_>,
        meta::QueryBackupPolicyRequest<'_>,
        meta::RestoreRequest<'_>,
        meta::QueryRestoreRequest,
        remote::Command<'_>,
        remote::NegotiationRequest<'_>,
    );
}

/// As the result of an answer.
pub(crate) fn responses(bytes: &[u8]) {
    each!(
        bytes,
        &str,
        data::UpdateResponse<'_>,
        data::ReadResponse<'_>,
        data::TtlResponse<'_>,
        data::CountResponse<'_>,
        data::BatchGetResponse<'_>,
        data::MultiGetResponse<'_>,
        data::MultiRemoveResponse<'_>,
        data::IncrResponse<'_>,
        data::CheckAndSetResponse<'_>,
        data::CheckAndMutateResponse<'_>,
        data::ScanResponse<'_>,
        data::DuplicateResponse<'_>,
        meta::QueryCfgResponse<'_>,
        meta::CreateAppResponse,
        meta::DropAppResponse,
        meta::RecallAppResponse<'_>,
        meta::RenameAppResponse<'_>,
        meta::ListAppsResponse<'_>,
        meta::ListNodesResponse<'_>,
        meta::ClusterInfoResponse<'_>,
        meta::UpdateAppEnvResponse<'_>,
        meta::MetaControlResponse,
        meta::GetMaxReplicaCountResponse<'_>,
        meta::SetMaxReplicaCountResponse<'_>,
        meta::StartBackupAppResponse<'_>,
        meta::QueryBackupStatusResponse<'_>,
        meta::AddBackupPolicyResponse<'_>,
        meta::ModifyBackupPolicyResponse<'_>,
        meta::QueryBackupPolicyResponse<'_>,
        meta::QueryRestoreResponse,
        remote::NegotiationResponse<'_>,
    );
}

/// A struct of one field, as everything is wrapped.
fn read<'a, T: Decode<'a> + Default>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    read_only_field(&mut Reader::with_elements_max(bytes, ELEMENTS_MAX))
}

pub(crate) fn has_a_sentence(error: DecodeError) {
    let sentence = error.to_string();
    assert!(sentence.len() > 8 && sentence.len() < 200, "{sentence}");
    assert!(!sentence.starts_with(':'), "{sentence}");
}
