//! The messages of etcd's `rpc.proto` (package `etcdserverpb`) that are used here, with the fields that are used here: others are
//! skipped when read and stay at their defaults when written, as Protocol Buffers have it.

use bytes::Bytes;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) value: Bytes,
}

/// Linearizable: `serializable` (7) stays false.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    /// Empty: the one key; otherwise the first key that is not in the range.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    /// 0: no limit.
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    /// Ascending by key.
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PutResponse {}

/// One of the operations of a transaction; only puts are used.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(message, optional, tag = "2")]
    pub(super) request_put: Option<PutRequest>,
}

/// Without conditions: all of `success` is done, in one revision.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnResponse {
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusResponse {
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MemberListRequest {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MemberListResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Member>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down by hand from `rpc.proto` and the encoding rules of Protocol Buffers.
    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let put = PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"vv"),
        };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x02vv");
        let txn = TxnRequest {
            success: vec![RequestOp {
                request_put: Some(put),
            }],
        };
        assert_eq!(txn.encode_to_vec(), b"\x12\x09\x12\x07\x0a\x01k\x12\x02vv");
        let range = RangeRequest {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"b"),
            limit: 300,
        };
        assert_eq!(range.encode_to_vec(), b"\x0a\x01a\x12\x01b\x18\xac\x02");
        // header (1), a row with its revisions (2 to 4), count (4).
        let response =
            b"\x0a\x02\x08\x01\x12\x0c\x0a\x01a\x10\x05\x18\x06\x20\x01\x2a\x01v\x20\x01";
        let decoded = RangeResponse::decode(&response[..]).expect("it is whole");
        let row = KeyValue {
            key: Bytes::from_static(b"a"),
            value: Bytes::from_static(b"v"),
        };
        assert_eq!(decoded.kvs, [row]);
    }
}
