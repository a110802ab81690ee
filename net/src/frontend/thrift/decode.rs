//! What a request means: from the structs of Apache Pegasus to operations. Keys and values stay slices of the frame.

use crate::request::{
    Check, CheckAndMutate, CheckAndSet, Expiry, Filter, FilterKind, HASH_KEY_BYTES_MAX, Incr,
    IncrExpiry, Invalid, Key, MultiGet, MultiGetRows, MultiPut, MultiRemove, Mutate, OpenScanner,
    Operation, Put, Remove, RequestId, SortKeyRange, TABLE_NAME_BYTES_MAX,
};
use bytes::Bytes;
use pegasus_thrift::data::{
    BatchGetRequest, CheckAndMutateRequest, CheckAndSetRequest, FilterType, GetScannerRequest,
    IncrRequest, MultiGetRequest, MultiPutRequest, MultiRemoveRequest, MutateOperation, Request,
    UpdateRequest, split_raw_key,
};
use pegasus_thrift::meta::{QueryCfgRequest, Refusal};
use pegasus_thrift::remote::{Command, NegotiationResponse, NegotiationStatus};
use pegasus_thrift::{Call, DecodeError, FrameStatus, ReplyTo, Rpc, RpcAddress, RpcKind};

/// What is to be done about a request.
#[derive(Debug)]
pub(super) enum Meaning {
    Operation(Operation),
    /// Where these partitions of a table are; no indices = all.
    Route {
        table_name: String,
        indices: Vec<i32>,
    },
    /// It is answered without asking the core.
    Said(Said),
}

/// An answer that is the same for everybody.
#[derive(Debug)]
pub(super) enum Said {
    Failure(FrameStatus),
    Refusal(Refusal<'static>),
    /// There is no authentication: clients go on without.
    NoNegotiation,
}

impl Said {
    pub(super) fn encode(&self, to: &ReplyTo, from: RpcAddress, output: &mut Vec<u8>) {
        match self {
            Self::Failure(status) => to.fail(*status, from, output),
            Self::Refusal(refusal) => to.reply(refusal, from, output),
            Self::NoNegotiation => {
                let response = NegotiationResponse {
                    status: NegotiationStatus::SaslAuthDisable,
                    ..NegotiationResponse::default()
                };
                to.reply(&response, from, output);
            }
        }
    }
}

/// The meaning of a call, whose `frame` its keys and values are slices of.
pub(super) fn meaning(call: &Call<'_>, frame: &Bytes) -> Meaning {
    let Some(rpc) = call.rpc else {
        return failure(FrameStatus::HandlerNotFound);
    };
    match rpc.kind() {
        RpcKind::Read | RpcKind::Write => data(call, frame),
        RpcKind::Any | RpcKind::Meta => service(rpc, call),
        RpcKind::Replica => Refusal::unsupported(rpc)
            .map_or_else(not_handled, |it| Meaning::Said(Said::Refusal(it))),
        RpcKind::MetaInternal | RpcKind::Internal => not_handled(),
    }
}

fn data(call: &Call<'_>, frame: &Bytes) -> Meaning {
    // Without a table it is looked for among the requests to the server as such, and not found.
    if call.app_id <= 0 {
        return not_handled();
    }
    if call.partition_index < 0 {
        return failure(FrameStatus::ObjectNotFound);
    }
    match Request::of(call) {
        None | Some(Ok(Request::Duplicate(_))) => not_handled(),
        Some(Ok(request)) => Meaning::Operation(operation(request, frame)),
        Some(Err(_)) => failure(FrameStatus::InvalidData),
    }
}

/// Arguments of a remote command.
const ARGUMENTS_MAX: u32 = 1024;

/// Requests that are not about a partition.
fn service(rpc: Rpc, call: &Call<'_>) -> Meaning {
    let meaning = match rpc {
        Rpc::QueryPartitionConfigByIndex => call.request::<QueryCfgRequest<'_>>().map(route),
        Rpc::Cli => call
            .request_within::<Command<'_>>(ARGUMENTS_MAX)
            .map(|command| {
                Meaning::Operation(Operation::RemoteCommand {
                    name: command.cmd.to_owned(),
                    arguments: command.arguments.into_iter().map(str::to_owned).collect(),
                })
            }),
        Rpc::Negotiation => Ok(Meaning::Said(Said::NoNegotiation)),
        // Meta's: a data node has no handler for it, and clients go on to the next address of their list.
        _ => Ok(not_handled()),
    };
    meaning.unwrap_or_else(|_: DecodeError| failure(FrameStatus::InvalidData))
}

fn route(request: QueryCfgRequest<'_>) -> Meaning {
    let mut table_name = request.app_name.to_owned();
    // No table has such a name.
    table_name.truncate(
        request
            .app_name
            .floor_char_boundary(TABLE_NAME_BYTES_MAX + 1),
    );
    Meaning::Route {
        table_name,
        indices: request.partition_indices,
    }
}

const fn failure(status: FrameStatus) -> Meaning {
    Meaning::Said(Said::Failure(status))
}

const fn not_handled() -> Meaning {
    failure(FrameStatus::HandlerNotFound)
}

fn operation(request: Request<'_>, frame: &Bytes) -> Operation {
    let in_frame = InFrame(frame);
    let operation = match request {
        Request::Get(raw) => in_frame.key(raw).map(Operation::Get),
        Request::Put(request) => in_frame.put(&request),
        Request::Remove(raw) => in_frame.key(raw).map(|key| {
            let id = RequestId::default();
            Operation::Remove(Remove { key, id })
        }),
        Request::Ttl(raw) => in_frame.key(raw).map(Operation::Ttl),
        Request::MultiPut(request) => in_frame.multi_put(&request),
        Request::MultiRemove(request) => in_frame.multi_remove(&request),
        Request::MultiGet(request) => in_frame.multi_get(&request),
        Request::BatchGet(request) => in_frame.batch_get(&request),
        Request::SortkeyCount(hash_key) => in_frame
            .hash_key(hash_key)
            .map(|hash_key| Operation::SortKeyCount { hash_key }),
        Request::Incr(request) => in_frame.incr(&request),
        Request::CheckAndSet(request) => in_frame.check_and_set(&request),
        Request::CheckAndMutate(request) => in_frame.check_and_mutate(&request),
        Request::GetScanner(request) => in_frame.open_scanner(&request),
        // A number below 0 is no scanner's.
        Request::Scan(request) => Ok(Operation::NextPage {
            context: request.context_id.cast_unsigned(),
        }),
        Request::ClearScanner(context) => Ok(Operation::CloseScanner {
            context: context.cast_unsigned(),
        }),
        Request::Duplicate(_) => Err("duplication is not built"),
    };
    operation.unwrap_or_else(|what| Operation::Invalid(Invalid::Argument(what)))
}

/// Why a request makes no sense (Apache error 4).
type Nonsense = &'static str;

/// Takes keys and values of a request as slices of its frame.
#[derive(Clone, Copy)]
struct InFrame<'f>(&'f Bytes);

impl InFrame<'_> {
    fn slice(self, bytes: &[u8]) -> Bytes {
        self.0.slice_ref(bytes)
    }

    fn key(self, raw: &[u8]) -> Result<Key, Nonsense> {
        let raw = split_raw_key(raw).ok_or("a raw key that is shorter than it says")?;
        Ok(Key {
            hash_key: self.hash_key(raw.hash_key)?,
            sort_key: self.slice(raw.sort_key),
        })
    }

    fn hash_key(self, hash_key: &[u8]) -> Result<Bytes, Nonsense> {
        if hash_key.len() > HASH_KEY_BYTES_MAX {
            return Err("a hash key of more than 65,534 bytes");
        }
        Ok(self.slice(hash_key))
    }

    fn put(self, request: &UpdateRequest<'_>) -> Result<Operation, Nonsense> {
        Ok(Operation::Put(Put {
            key: self.key(request.key)?,
            value: self.slice(request.value),
            expiry: expiry(request.expire_ts_seconds),
            id: RequestId::default(),
        }))
    }

    fn multi_put(self, request: &MultiPutRequest<'_>) -> Result<Operation, Nonsense> {
        if request.kvs.is_empty() {
            return Err("no rows to put");
        }
        let rows = request.kvs.iter();
        Ok(Operation::MultiPut(MultiPut {
            hash_key: self.hash_key(request.hash_key)?,
            rows: rows
                .map(|row| (self.slice(row.key), self.slice(row.value)))
                .collect(),
            expiry: expiry(request.expire_ts_seconds),
            id: RequestId::default(),
        }))
    }

    fn multi_remove(self, request: &MultiRemoveRequest<'_>) -> Result<Operation, Nonsense> {
        if request.sort_keys.is_empty() {
            return Err("no sort keys to remove");
        }
        Ok(Operation::MultiRemove(MultiRemove {
            hash_key: self.hash_key(request.hash_key)?,
            sort_keys: self.slices(&request.sort_keys),
            id: RequestId::default(),
        }))
    }

    fn multi_get(self, request: &MultiGetRequest<'_>) -> Result<Operation, Nonsense> {
        let filter = self.filter(
            request.sort_key_filter_type,
            request.sort_key_filter_pattern,
        )?;
        let rows = if request.sort_keys.is_empty() {
            let range = SortKeyRange {
                start: self.slice(request.start_sortkey),
                start_inclusive: request.start_inclusive,
                stop: self.slice(request.stop_sortkey),
                stop_inclusive: request.stop_inclusive,
            };
            MultiGetRows::Range {
                range,
                filter,
                reverse: request.reverse,
            }
        } else {
            MultiGetRows::Named(self.slices(&request.sort_keys))
        };
        Ok(Operation::MultiGet(MultiGet {
            hash_key: self.hash_key(request.hash_key)?,
            rows,
            max_rows: limit(request.max_kv_count),
            max_bytes: limit(request.max_kv_size),
            no_value: request.no_value,
        }))
    }

    fn batch_get(self, request: &BatchGetRequest<'_>) -> Result<Operation, Nonsense> {
        if request.keys.is_empty() {
            return Err("no keys to get");
        }
        let keys = request.keys.iter().map(|key| {
            Ok(Key {
                hash_key: self.hash_key(key.hash_key)?,
                sort_key: self.slice(key.sort_key),
            })
        });
        keys.collect::<Result<_, _>>().map(Operation::BatchGet)
    }

    fn incr(self, request: &IncrRequest<'_>) -> Result<Operation, Nonsense> {
        Ok(Operation::Incr(Incr {
            key: self.key(request.key)?,
            increment: request.increment,
            expiry: match request.expire_ts_seconds {
                0 => IncrExpiry::Keep,
                at if at < 0 => IncrExpiry::Remove,
                at => IncrExpiry::At(at.cast_unsigned()),
            },
            id: RequestId::default(),
            is_retry: false,
        }))
    }

    fn check_and_set(self, request: &CheckAndSetRequest<'_>) -> Result<Operation, Nonsense> {
        Ok(Operation::CheckAndSet(CheckAndSet {
            hash_key: self.hash_key(request.hash_key)?,
            check: Check {
                sort_key: self.slice(request.check_sort_key),
                kind: request.check_type.number(),
                operand: self.slice(request.check_operand),
            },
            set_sort_key: request
                .set_diff_sort_key
                .then(|| self.slice(request.set_sort_key)),
            value: self.slice(request.set_value),
            expiry: expiry(request.set_expire_ts_seconds),
            return_check_value: request.return_check_value,
            id: RequestId::default(),
            is_retry: false,
        }))
    }

    fn check_and_mutate(self, request: &CheckAndMutateRequest<'_>) -> Result<Operation, Nonsense> {
        let mutations = request.mutate_list.iter();
        let mutations = mutations.map(|mutate| match mutate.operation {
            MutateOperation::Put => Mutate::Put {
                sort_key: self.slice(mutate.sort_key),
                value: self.slice(mutate.value),
                expiry: expiry(mutate.set_expire_ts_seconds),
            },
            MutateOperation::Delete => Mutate::Remove {
                sort_key: self.slice(mutate.sort_key),
            },
            MutateOperation::Other(operation) => Mutate::Unknown { operation },
        });
        Ok(Operation::CheckAndMutate(CheckAndMutate {
            hash_key: self.hash_key(request.hash_key)?,
            check: Check {
                sort_key: self.slice(request.check_sort_key),
                kind: request.check_type.number(),
                operand: self.slice(request.check_operand),
            },
            mutations: mutations.collect(),
            return_check_value: request.return_check_value,
            id: RequestId::default(),
            is_retry: false,
        }))
    }

    fn open_scanner(self, request: &GetScannerRequest<'_>) -> Result<Operation, Nonsense> {
        let sort_filter = self.filter(
            request.sort_key_filter_type,
            request.sort_key_filter_pattern,
        )?;
        Ok(Operation::OpenScanner(OpenScanner {
            start_key: self.slice(request.start_key),
            start_inclusive: request.start_inclusive,
            stop_key: self.slice(request.stop_key),
            stop_inclusive: request.stop_inclusive,
            hash_filter: self.filter(
                request.hash_key_filter_type,
                request.hash_key_filter_pattern,
            )?,
            sort_filter,
            batch_rows: limit(request.batch_size),
            no_value: request.no_value,
            only_count: request.only_return_count.unwrap_or_default(),
            return_expiry: request.return_expire_ts.unwrap_or_default(),
        }))
    }

    fn filter(self, kind: FilterType, pattern: &[u8]) -> Result<Filter, Nonsense> {
        let kind = match kind {
            FilterType::NoFilter => FilterKind::None,
            FilterType::MatchAnywhere => FilterKind::Anywhere,
            FilterType::MatchPrefix => FilterKind::Prefix,
            FilterType::MatchPostfix => FilterKind::Postfix,
            FilterType::Other(_) => return Err("an unknown kind of filter"),
        };
        Ok(Filter {
            kind,
            pattern: self.slice(pattern),
        })
    }

    fn slices(self, all: &[&[u8]]) -> Vec<Bytes> {
        all.iter().map(|bytes| self.slice(bytes)).collect()
    }
}

/// Stored as it is given, also when it is over; its 32 bits count without a sign.
const fn expiry(expire_ts_seconds: i32) -> Expiry {
    Expiry::At(expire_ts_seconds.cast_unsigned())
}

/// 0 or less asks for the server's limit.
fn limit(asked: i32) -> u32 {
    asked.max(0).cast_unsigned()
}
