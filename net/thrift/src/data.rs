//! The data path: requests and answers of the operations on a partition.
//!
//! `error` of an answer is one of [`storage`](crate::storage); `app_id`, `partition_index` and `server` (the primary's
//! `ip:port`) are information; `decree` is that of the write. Fields and their meaning: `rrdb.thrift` of Apache Pegasus.

mod atomic;
mod duplicate;
mod get;
mod multi;
mod put;
mod raw_key;
mod scan;

pub use atomic::{
    CasCheckType, CheckAndMutateRequest, CheckAndMutateResponse, CheckAndSetRequest,
    CheckAndSetResponse, IncrRequest, IncrResponse, Mutate, MutateOperation,
};
pub use duplicate::{DuplicateEntry, DuplicateRequest, DuplicateResponse};
pub use get::{
    BatchGetRequest, BatchGetResponse, CountResponse, FullData, FullKey, ReadResponse, TtlResponse,
};
pub use multi::{
    KeyValue, MultiGetRequest, MultiGetResponse, MultiPutRequest, MultiRemoveRequest,
    MultiRemoveResponse,
};
pub use put::{UpdateRequest, UpdateResponse, UpdateType};
pub use raw_key::{RawKey, split_raw_key};
pub use scan::{FilterType, GetScannerRequest, ScanRequest, ScanResponse};

use crate::binary::{Decode, Encode};
use crate::{Call, DecodeError, Rpc};

/// Seconds between the epoch of Unix and that of expiry times on the wire, 2016-01-01 UTC.
pub const EPOCH_UNIX_SECONDS: u64 = 1_451_606_400;

/// A request to a partition. Keys and values borrow from the frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    Put(UpdateRequest<'a>),
    MultiPut(MultiPutRequest<'a>),
    /// A raw key, see [`split_raw_key`].
    Remove(&'a [u8]),
    MultiRemove(MultiRemoveRequest<'a>),
    Incr(IncrRequest<'a>),
    CheckAndSet(CheckAndSetRequest<'a>),
    CheckAndMutate(CheckAndMutateRequest<'a>),
    Duplicate(DuplicateRequest<'a>),
    /// A raw key.
    Get(&'a [u8]),
    MultiGet(MultiGetRequest<'a>),
    BatchGet(BatchGetRequest<'a>),
    /// A hash key, bare.
    SortkeyCount(&'a [u8]),
    /// A raw key.
    Ttl(&'a [u8]),
    GetScanner(GetScannerRequest<'a>),
    Scan(ScanRequest),
    /// The id of a scan context. Must not be answered.
    ClearScanner(i64),
}

impl<'a> Request<'a> {
    /// What a call to a partition asks for; `None` if it is not of the data path, or a bulk load.
    ///
    /// # Errors
    /// See [`Call::request`].
    pub fn of(call: &Call<'a>) -> Option<Result<Self, DecodeError>> {
        Some(match call.rpc? {
            Rpc::Put => read(call, Self::Put),
            Rpc::MultiPut => read(call, Self::MultiPut),
            Rpc::Remove => read(call, Self::Remove),
            Rpc::MultiRemove => read(call, Self::MultiRemove),
            Rpc::Incr => read(call, Self::Incr),
            Rpc::CheckAndSet => read(call, Self::CheckAndSet),
            Rpc::CheckAndMutate => read(call, Self::CheckAndMutate),
            Rpc::Duplicate => read(call, Self::Duplicate),
            Rpc::Get => read(call, Self::Get),
            Rpc::MultiGet => read(call, Self::MultiGet),
            Rpc::BatchGet => read(call, Self::BatchGet),
            Rpc::SortkeyCount => read(call, Self::SortkeyCount),
            Rpc::Ttl => read(call, Self::Ttl),
            Rpc::GetScanner => read(call, Self::GetScanner),
            Rpc::Scan => read(call, Self::Scan),
            Rpc::ClearScanner => read(call, Self::ClearScanner),
            _ => return None,
        })
    }
}

#[inline]
fn read<'a, T: Decode<'a> + Default>(
    call: &Call<'a>,
    make: impl FnOnce(T) -> Request<'a>,
) -> Result<Request<'a>, DecodeError> {
    call.request_within(REQUEST_ELEMENTS_MAX).map(make)
}

/// Rows, keys and mutations that one request to a partition may name.
const REQUEST_ELEMENTS_MAX: u32 = 1 << 17;

impl Request<'_> {
    /// Which request this is.
    #[must_use]
    pub const fn rpc(&self) -> Rpc {
        match self {
            Self::Put(_) => Rpc::Put,
            Self::MultiPut(_) => Rpc::MultiPut,
            Self::Remove(_) => Rpc::Remove,
            Self::MultiRemove(_) => Rpc::MultiRemove,
            Self::Incr(_) => Rpc::Incr,
            Self::CheckAndSet(_) => Rpc::CheckAndSet,
            Self::CheckAndMutate(_) => Rpc::CheckAndMutate,
            Self::Duplicate(_) => Rpc::Duplicate,
            Self::Get(_) => Rpc::Get,
            Self::MultiGet(_) => Rpc::MultiGet,
            Self::BatchGet(_) => Rpc::BatchGet,
            Self::SortkeyCount(_) => Rpc::SortkeyCount,
            Self::Ttl(_) => Rpc::Ttl,
            Self::GetScanner(_) => Rpc::GetScanner,
            Self::Scan(_) => Rpc::Scan,
            Self::ClearScanner(_) => Rpc::ClearScanner,
        }
    }

    /// Appends the request as a client of THFT sends it.
    pub fn encode_thft(&self, header: &crate::frame::thft::Header, seqid: i32, out: &mut Vec<u8>) {
        self.with(Thft {
            header,
            seqid,
            name: self.rpc().name(),
            out,
        });
    }

    /// Appends the request as a client of RDSN sends it; `header.name` is that of the request.
    pub fn encode_rdsn(&self, header: &crate::frame::rdsn::Header, out: &mut Vec<u8>) {
        self.with(Rdsn { header, out });
    }

    fn with(&self, mut sink: impl Sink) {
        match self {
            Self::Put(request) => sink.put(request),
            Self::MultiPut(request) => sink.put(request),
            Self::MultiRemove(request) => sink.put(request),
            Self::Incr(request) => sink.put(request),
            Self::CheckAndSet(request) => sink.put(request),
            Self::CheckAndMutate(request) => sink.put(request),
            Self::Duplicate(request) => sink.put(request),
            Self::MultiGet(request) => sink.put(request),
            Self::BatchGet(request) => sink.put(request),
            Self::GetScanner(request) => sink.put(request),
            Self::Scan(request) => sink.put(request),
            Self::Remove(key) | Self::Get(key) | Self::SortkeyCount(key) | Self::Ttl(key) => {
                sink.put(key);
            }
            Self::ClearScanner(context_id) => sink.put(context_id),
        }
    }
}

trait Sink {
    fn put<T: Encode>(&mut self, request: &T);
}

struct Thft<'r> {
    header: &'r crate::frame::thft::Header,
    seqid: i32,
    name: &'static str,
    out: &'r mut Vec<u8>,
}

impl Sink for Thft<'_> {
    fn put<T: Encode>(&mut self, request: &T) {
        let name = self.name.as_bytes();
        crate::frame::thft::encode_request(self.header, name, self.seqid, request, self.out);
    }
}

struct Rdsn<'r> {
    header: &'r crate::frame::rdsn::Header,
    out: &'r mut Vec<u8>,
}

impl Sink for Rdsn<'_> {
    fn put<T: Encode>(&mut self, request: &T) {
        crate::frame::rdsn::encode(self.header, request, self.out);
    }
}
