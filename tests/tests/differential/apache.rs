//! The protocols of Apache Pegasus, by connections as small as can be.

use super::{PARTITIONS, Speaker, now, rounded};
use e2e::apache::{Connection, Form, Resolved, To};
use e2e::model::{Answer, Change, Check, ExpireAt, Filter, Match, MultiGet, Operation, Seen, Verb};
use pegasus_thrift::data::{
    BatchGetRequest, BatchGetResponse, CasCheckType, CheckAndMutateRequest, CheckAndMutateResponse,
    CheckAndSetRequest, CheckAndSetResponse, CountResponse, FilterType, FullKey, GetScannerRequest,
    IncrRequest, IncrResponse, KeyValue, MultiGetRequest, MultiGetResponse, MultiPutRequest,
    MultiRemoveRequest, MultiRemoveResponse, Mutate, MutateOperation, RawKey, ReadResponse,
    Request, ScanRequest, ScanResponse, TtlResponse, UpdateRequest, UpdateResponse, split_raw_key,
};
use pegasus_thrift::storage;

pub(super) struct Apache {
    table: Resolved,
    connection: Connection,
    /// Whether checked rows are asked for: every other time.
    wants_checked: bool,
}

impl Apache {
    pub(super) fn open(meta: &str, form: Form, table: &str) -> Self {
        let table = Resolved::ask(meta.parse().unwrap(), form, table).unwrap();
        // A cluster of one core.
        let connection = Connection::open(table.primaries[0], form).unwrap();
        Self {
            table,
            connection,
            wants_checked: false,
        }
    }

    fn put(&mut self, hash: &[u8], sort: &[u8], value: &[u8], expire_at: ExpireAt) -> Answer {
        let key = raw(hash, sort);
        let request = Request::Put(UpdateRequest {
            key: &key,
            value,
            expire_ts_seconds: signed(expire_at),
            ..UpdateRequest::default()
        });
        let answer = self.ask(hash, sort, &request);
        done(answer.read::<UpdateResponse<'_>>().unwrap().error)
    }

    fn remove(&mut self, hash: &[u8], sort: &[u8]) -> Answer {
        let answer = self.ask(hash, sort, &Request::Remove(&raw(hash, sort)));
        done(answer.read::<UpdateResponse<'_>>().unwrap().error)
    }

    fn get(&mut self, hash: &[u8], sort: &[u8]) -> Answer {
        let answer = self.ask(hash, sort, &Request::Get(&raw(hash, sort)));
        let read: ReadResponse<'_> = answer.read().unwrap();
        match read.error {
            storage::OK => Answer::Value(Some(read.value.to_vec())),
            storage::NOT_FOUND => Answer::Value(None),
            error => done(error),
        }
    }

    fn ttl(&mut self, hash: &[u8], sort: &[u8]) -> Answer {
        let answer = self.ask(hash, sort, &Request::Ttl(&raw(hash, sort)));
        let read: TtlResponse<'_> = answer.read().unwrap();
        match (read.error, read.ttl_seconds) {
            (storage::OK, -1) => Answer::Ttl(Some(0)),
            (storage::OK, left) => Answer::Ttl(Some(rounded(now() + u32::try_from(left).unwrap()))),
            (storage::NOT_FOUND, _) => Answer::Ttl(None),
            (error, _) => done(error),
        }
    }

    fn multi_put(&mut self, hash: &[u8], rows: &[(Vec<u8>, Vec<u8>)], at: ExpireAt) -> Answer {
        let row = |(key, value): &'_ (Vec<u8>, Vec<u8>)| (key.clone(), value.clone());
        let rows: Vec<_> = rows.iter().map(row).collect();
        let kvs = rows.iter().map(|(key, value)| KeyValue {
            key: &key[..],
            value: &value[..],
            ..KeyValue::default()
        });
        let request = Request::MultiPut(MultiPutRequest {
            hash_key: hash,
            kvs: kvs.collect(),
            expire_ts_seconds: signed(at),
        });
        let answer = self.ask(hash, b"", &request);
        done(answer.read::<UpdateResponse<'_>>().unwrap().error)
    }

    fn multi_remove(&mut self, hash: &[u8], keys: &[Vec<u8>]) -> Answer {
        let request = Request::MultiRemove(MultiRemoveRequest {
            hash_key: hash,
            sort_keys: keys.iter().map(|key| &key[..]).collect(),
            ..MultiRemoveRequest::default()
        });
        let answer = self.ask(hash, b"", &request);
        let removed: MultiRemoveResponse<'_> = answer.read().unwrap();
        match removed.error {
            storage::OK => Answer::Count(removed.count.unsigned_abs()),
            error => done(error),
        }
    }

    fn multi_get(&mut self, hash: &[u8], asked: &MultiGet) -> Answer {
        let (filter, pattern) = filter(&asked.filter);
        let request = Request::MultiGet(MultiGetRequest {
            hash_key: hash,
            sort_keys: asked.sort_keys.iter().map(|key| &key[..]).collect(),
            max_kv_count: signed(asked.max_rows),
            max_kv_size: signed(asked.max_bytes),
            no_value: asked.no_value,
            start_sortkey: &asked.start,
            stop_sortkey: &asked.stop,
            start_inclusive: asked.start_inclusive,
            stop_inclusive: asked.stop_inclusive,
            sort_key_filter_type: filter,
            sort_key_filter_pattern: pattern,
            reverse: asked.reverse,
        });
        let answer = self.ask(hash, b"", &request);
        let read: MultiGetResponse<'_> = answer.read().unwrap();
        let is_all = match read.error {
            storage::OK => true,
            storage::INCOMPLETE => false,
            error => return done(error),
        };
        let rows = read
            .kvs
            .iter()
            .map(|row| (row.key.to_vec(), row.value.to_vec()));
        Answer::Rows(rows.collect(), Some(is_all))
    }

    fn batch_get(&mut self, hash: &[u8], keys: &[Vec<u8>]) -> Answer {
        let key = |sort_key| FullKey {
            hash_key: hash,
            sort_key,
        };
        let request = Request::BatchGet(BatchGetRequest {
            keys: keys.iter().map(|sort| key(&sort[..])).collect(),
        });
        let answer = self.ask(hash, b"", &request);
        let read: BatchGetResponse<'_> = answer.read().unwrap();
        if read.error != storage::OK {
            return done(read.error);
        }
        let row = |row: &pegasus_thrift::data::FullData<'_>| {
            (
                row.hash_key.to_vec(),
                row.sort_key.to_vec(),
                row.value.to_vec(),
            )
        };
        let mut rows: Vec<Seen> = read.data.iter().map(row).collect();
        rows.sort();
        rows.dedup();
        Answer::Seen(rows)
    }

    fn incr(&mut self, hash: &[u8], sort: &[u8], increment: i64, expire_at: i32) -> Answer {
        let key = raw(hash, sort);
        let request = Request::Incr(IncrRequest {
            key: &key,
            increment,
            expire_ts_seconds: expire_at,
        });
        let answer = self.ask(hash, sort, &request);
        let sum: IncrResponse<'_> = answer.read().unwrap();
        match (sum.error, sum.new_value) {
            (storage::OK, sum) => Answer::Sum(sum),
            // The old value, if there was one that is a number: 0 never overflows.
            (storage::INVALID_ARGUMENT, 0) => Answer::NotANumber,
            (storage::INVALID_ARGUMENT, old) => Answer::Overflow(Some(old)),
            (error, _) => panic!("storage error {error}"),
        }
    }

    fn check_and_set(
        &mut self,
        hash: &[u8],
        check: &Check,
        sort: Option<&[u8]>,
        (value, expire_at): (&[u8], ExpireAt),
    ) -> Answer {
        let request = Request::CheckAndSet(CheckAndSetRequest {
            hash_key: hash,
            check_sort_key: &check.sort_key,
            check_type: CasCheckType::of(check.kind),
            check_operand: &check.operand,
            set_diff_sort_key: sort.is_some(),
            set_sort_key: sort.unwrap_or_default(),
            set_value: value,
            set_expire_ts_seconds: signed(expire_at),
            return_check_value: self.wants_checked(),
        });
        let answer = self.ask(hash, b"", &request);
        let checked: CheckAndSetResponse<'_> = answer.read().unwrap();
        let exists = checked.check_value_exist;
        let row = checked
            .check_value_returned
            .then_some((exists, checked.check_value));
        outcome(checked.error, row)
    }

    fn check_and_mutate(&mut self, hash: &[u8], check: &Check, changes: &[Change]) -> Answer {
        let request = Request::CheckAndMutate(CheckAndMutateRequest {
            hash_key: hash,
            check_sort_key: &check.sort_key,
            check_type: CasCheckType::of(check.kind),
            check_operand: &check.operand,
            mutate_list: changes.iter().map(mutate).collect(),
            return_check_value: self.wants_checked(),
        });
        let answer = self.ask(hash, b"", &request);
        let checked: CheckAndMutateResponse<'_> = answer.read().unwrap();
        let exists = checked.check_value_exist;
        let row = checked
            .check_value_returned
            .then_some((exists, checked.check_value));
        outcome(checked.error, row)
    }

    /// `None`: an argument makes no sense.
    fn scan(
        &mut self,
        hash: &Filter,
        sort: &Filter,
        page: u32,
        counts: bool,
    ) -> Option<(Vec<Seen>, u64)> {
        let (mut rows, mut count) = (Vec::new(), 0);
        for partition_index in 0..PARTITIONS {
            let to = To {
                app_id: self.table.app_id,
                partition_index: signed(partition_index),
                ..To::default()
            };
            let (hash_key_filter_type, hash_key_filter_pattern) = filter(hash);
            let (sort_key_filter_type, sort_key_filter_pattern) = filter(sort);
            let mut request = Request::GetScanner(GetScannerRequest {
                start_key: b"\0\0",
                stop_key: b"\xff\xff",
                start_inclusive: true,
                batch_size: signed(page),
                hash_key_filter_type,
                hash_key_filter_pattern,
                sort_key_filter_type,
                sort_key_filter_pattern,
                full_scan: Some(true),
                only_return_count: Some(counts),
                ..GetScannerRequest::default()
            });
            loop {
                let answer = self.connection.ask(to, &request).unwrap();
                let found: ScanResponse<'_> = answer.read().unwrap();
                if found.error == storage::INVALID_ARGUMENT {
                    return None;
                }
                assert_eq!(found.error, storage::OK);
                count += u64::from(found.kv_count.unwrap_or_default().unsigned_abs());
                rows.extend(found.kvs.iter().map(|row| {
                    let key = split_raw_key(row.key).unwrap();
                    (
                        key.hash_key.to_vec(),
                        key.sort_key.to_vec(),
                        row.value.to_vec(),
                    )
                }));
                if found.context_id < 0 {
                    break;
                }
                let context_id = found.context_id;
                request = Request::Scan(ScanRequest { context_id });
            }
        }
        rows.sort();
        Some((rows, count))
    }

    fn malformed(&mut self, verb: Verb, key: &[u8]) -> Answer {
        let request = match verb {
            Verb::Get => Request::Get(key),
            Verb::Remove => Request::Remove(key),
            Verb::Ttl => Request::Ttl(key),
            Verb::Put => Request::Put(UpdateRequest {
                key,
                value: b"v",
                ..UpdateRequest::default()
            }),
            Verb::Incr => Request::Incr(IncrRequest {
                key,
                increment: 1,
                ..IncrRequest::default()
            }),
        };
        done(self.ask(b"h", b"", &request).error().unwrap())
    }

    fn ask(
        &mut self,
        hash_key: &[u8],
        sort_key: &[u8],
        request: &Request<'_>,
    ) -> e2e::apache::Answer {
        let to = self.table.to(&RawKey { hash_key, sort_key });
        self.connection.ask(to, request).unwrap()
    }

    fn wants_checked(&mut self) -> bool {
        self.wants_checked ^= true;
        self.wants_checked
    }
}

impl Speaker for Apache {
    fn ask(&mut self, operation: &Operation) -> Option<Answer> {
        Some(match operation {
            Operation::Put(hash, sort, value, expire_at) => self.put(hash, sort, value, *expire_at),
            Operation::Remove(hash, sort) => self.remove(hash, sort),
            Operation::Get(hash, sort) => self.get(hash, sort),
            Operation::Ttl(hash, sort) => self.ttl(hash, sort),
            Operation::MultiPut(hash, rows, expire_at) => self.multi_put(hash, rows, *expire_at),
            Operation::MultiRemove(hash, keys) => self.multi_remove(hash, keys),
            Operation::MultiGet(hash, asked) => self.multi_get(hash, asked),
            Operation::SortkeyCount(hash) => {
                let answer = self.ask(hash, b"", &Request::SortkeyCount(hash));
                let read: CountResponse<'_> = answer.read().unwrap();
                match read.error {
                    storage::OK => Answer::Count(u64::try_from(read.count).unwrap()),
                    error => done(error),
                }
            }
            Operation::BatchGet(hash, keys) => self.batch_get(hash, keys),
            Operation::Incr(hash, sort, by, expire) => self.incr(hash, sort, *by, *expire),
            Operation::CheckAndSet(hash, check, sort, value, expire_at) => {
                self.check_and_set(hash, check, sort.as_deref(), (value, *expire_at))
            }
            Operation::CheckAndMutate(hash, check, changes) => {
                self.check_and_mutate(hash, check, changes)
            }
            Operation::Scan(hash, sort, page) => match self.scan(hash, sort, *page, false) {
                Some((rows, _)) => Answer::Seen(rows),
                None => Answer::Invalid,
            },
            Operation::Count(hash, sort) => match self.scan(hash, sort, 0, true) {
                Some((_, count)) => Answer::Count(count),
                None => Answer::Invalid,
            },
            Operation::Malformed(verb, key) => self.malformed(*verb, key),
        })
    }
}

fn raw(hash_key: &[u8], sort_key: &[u8]) -> Vec<u8> {
    RawKey { hash_key, sort_key }.to_vec()
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap()
}

fn done(error: i32) -> Answer {
    match error {
        storage::OK => Answer::Done,
        storage::INVALID_ARGUMENT => Answer::Invalid,
        other => panic!("storage error {other}"),
    }
}

/// The checked row, if it is in the answer: whether it exists, and its value.
fn outcome(error: i32, row: Option<(bool, &[u8])>) -> Answer {
    let row = row.map(|(exists, value)| exists.then(|| value.to_vec()));
    match error {
        storage::OK => Answer::Checked(true, row),
        storage::TRY_AGAIN => Answer::Checked(false, row),
        error => done(error),
    }
}

fn mutate(change: &Change) -> Mutate<'_> {
    match change {
        Change::Put(sort_key, value, expire_at) => Mutate {
            operation: MutateOperation::Put,
            sort_key,
            value,
            set_expire_ts_seconds: signed(*expire_at),
        },
        Change::Remove(sort_key) => Mutate {
            operation: MutateOperation::Delete,
            sort_key,
            ..Mutate::default()
        },
        Change::Unknown(operation) => Mutate {
            operation: MutateOperation::of(*operation),
            ..Mutate::default()
        },
    }
}

fn filter(filter: &Filter) -> (FilterType, &[u8]) {
    match filter {
        None => (FilterType::NoFilter, b""),
        Some((Match::Anywhere, text)) => (FilterType::MatchAnywhere, text),
        Some((Match::Prefix, text)) => (FilterType::MatchPrefix, text),
        Some((Match::Postfix, text)) => (FilterType::MatchPostfix, text),
        Some((Match::Unknown(kind), text)) => (FilterType::of(*kind), text),
    }
}
