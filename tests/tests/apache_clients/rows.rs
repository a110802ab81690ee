//! Rows one by one, of a hash key, and by atomic operations.

use crate::site::{Client, TABLE, multi_put, site};
use e2e::apache::{Form, Resolved};
use pegasus_thrift::data::{
    BatchGetRequest, BatchGetResponse, CasCheckType, CheckAndSetRequest, CheckAndSetResponse,
    CountResponse, FilterType, FullKey, GetScannerRequest, IncrRequest, IncrResponse,
    MultiGetRequest, MultiGetResponse, MultiPutRequest, MultiRemoveRequest, MultiRemoveResponse,
    RawKey, ReadResponse, Request, TtlResponse, UpdateRequest, UpdateResponse,
};
use pegasus_thrift::storage;
use std::time::{SystemTime, UNIX_EPOCH};

#[test]
fn rows_are_written_read_and_removed_in_every_header() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        for port in &site.ports {
            let other = Resolved::ask(*port, form, TABLE).unwrap();
            assert_eq!(other.primaries, client.table.primaries, "{port}");
        }
        for index in 0..20 {
            let hash_key = format!("{form:?}-{index}").into_bytes();
            let key = RawKey {
                hash_key: &hash_key,
                sort_key: b"sort",
            };
            single_row(&client, &key);
        }
        expiry(&client);
    }
}

fn single_row(client: &Client, key: &RawKey<'_>) {
    let raw = key.to_vec();
    let missing = client.ask(key, &Request::Get(&raw));
    assert_eq!(
        missing.read::<ReadResponse<'_>>().unwrap().error,
        storage::NOT_FOUND
    );
    let put = Request::Put(UpdateRequest {
        key: &raw,
        value: b"value",
        ..UpdateRequest::default()
    });
    let answer = client.ask(key, &put);
    let written: UpdateResponse<'_> = answer.read().unwrap();
    assert_eq!(written.error, storage::OK);
    assert!(written.decree > 0);
    let to = client.table.to(key);
    assert_eq!(
        (written.app_id, written.partition_index),
        (to.app_id, to.partition_index)
    );
    let primary = client.table.primaries[usize::try_from(to.partition_index).unwrap()];
    assert_eq!(written.server, primary.to_string());
    let answer = client.ask(key, &Request::Get(&raw));
    let read: ReadResponse<'_> = answer.read().unwrap();
    assert_eq!((read.error, read.value), (storage::OK, &b"value"[..]));
    let answer = client.ask(key, &Request::Ttl(&raw));
    assert_eq!(answer.read::<TtlResponse<'_>>().unwrap().ttl_seconds, -1);
    for _ in 0..2 {
        let answer = client.ask(key, &Request::Remove(&raw));
        assert_eq!(
            answer.read::<UpdateResponse<'_>>().unwrap().error,
            storage::OK
        );
    }
    let answer = client.ask(key, &Request::Ttl(&raw));
    assert_eq!(
        answer.read::<TtlResponse<'_>>().unwrap().error,
        storage::NOT_FOUND
    );
}

/// Points in time are absolute, and stored as they are given.
fn expiry(client: &Client) {
    let key = RawKey {
        hash_key: b"expiring",
        sort_key: b"",
    };
    let raw = key.to_vec();
    let put = |expire_ts_seconds| {
        let request = Request::Put(UpdateRequest {
            key: &raw,
            value: b"v",
            expire_ts_seconds,
            ..UpdateRequest::default()
        });
        let answer = client.ask(&key, &request);
        assert_eq!(
            answer.read::<UpdateResponse<'_>>().unwrap().error,
            storage::OK
        );
        let answer = client.ask(&key, &Request::Ttl(&raw));
        let ttl: TtlResponse<'_> = answer.read().unwrap();
        (ttl.error, ttl.ttl_seconds)
    };
    let (error, left) = put(now_s() + 1000);
    assert_eq!(error, storage::OK);
    assert!((990..=1000).contains(&left), "{left}");
    // What the Node client sends for ten seconds: long over.
    assert_eq!(put(10).0, storage::NOT_FOUND);
    assert_eq!(put(0), (storage::OK, -1));
}

fn now_s() -> i32 {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    i32::try_from(unix - pegasus_thrift::data::EPOCH_UNIX_SECONDS).unwrap()
}

/// Error, sort keys.
fn multi_get(client: &Client, request: MultiGetRequest<'_>) -> (i32, Vec<String>) {
    let hash_key = request.hash_key;
    let answer = client.ask_hash(hash_key, &Request::MultiGet(request));
    let response: MultiGetResponse<'_> = answer.read().unwrap();
    let keys = response.kvs.iter();
    let keys = keys.map(|row| String::from_utf8(row.key.to_vec()).unwrap());
    (response.error, keys.collect())
}

#[test]
fn rows_of_a_hash_key_are_read_within_their_limits() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let hash_key = format!("rows-{form:?}").into_bytes();
        let hash_key = &hash_key[..];
        let names = ["a", "b", "ca", "cb", "d"];
        let rows = names.map(|name| (name.as_bytes(), &b"12345"[..]));
        multi_put(&client, hash_key, &rows);
        let all = MultiGetRequest {
            hash_key,
            start_inclusive: true,
            ..MultiGetRequest::default()
        };
        let ok = |keys: &[&str]| (storage::OK, keys.iter().map(ToString::to_string).collect());
        let cut = |keys: &[&str]| {
            let keys = keys.iter().map(ToString::to_string);
            (storage::INCOMPLETE, keys.collect())
        };
        let ask = |request: MultiGetRequest<'_>| multi_get(&client, request);
        assert_eq!(ask(all.clone()), ok(&names));
        let limited = |max_kv_count, reverse| MultiGetRequest {
            max_kv_count,
            reverse,
            ..all.clone()
        };
        assert_eq!(ask(limited(-1, false)), ok(&names));
        assert_eq!(ask(limited(5, false)), ok(&names));
        assert_eq!(ask(limited(2, false)), cut(&["a", "b"]));
        assert_eq!(ask(limited(2, true)), cut(&["cb", "d"]));
        let sized = MultiGetRequest {
            max_kv_size: 7,
            ..all.clone()
        };
        assert_eq!(ask(sized), cut(&["a", "b"]));
        let range = MultiGetRequest {
            start_sortkey: b"b",
            start_inclusive: false,
            stop_sortkey: b"cb",
            stop_inclusive: true,
            ..all.clone()
        };
        assert_eq!(ask(range), ok(&["ca", "cb"]));
        let filtered = |kind, pattern| MultiGetRequest {
            sort_key_filter_type: kind,
            sort_key_filter_pattern: pattern,
            ..all.clone()
        };
        assert_eq!(
            ask(filtered(FilterType::MatchPrefix, b"c")),
            ok(&["ca", "cb"])
        );
        assert_eq!(
            ask(filtered(FilterType::MatchPostfix, b"b")),
            ok(&["b", "cb"])
        );
        assert_eq!(
            ask(filtered(FilterType::MatchAnywhere, b"a")),
            ok(&["a", "ca"])
        );
        assert_eq!(
            ask(filtered(FilterType::Other(4), b"")).0,
            storage::INVALID_ARGUMENT
        );
        // By name: in the order of the request, whatever range and filter say.
        let named = MultiGetRequest {
            sort_keys: vec![b"d", b"nobody", b"a", b"b"],
            stop_sortkey: b"a",
            ..filtered(FilterType::MatchPrefix, b"zz")
        };
        assert_eq!(ask(named.clone()), ok(&["d", "a", "b"]));
        let first = |max_kv_count| MultiGetRequest {
            max_kv_count,
            ..named.clone()
        };
        assert_eq!(ask(first(2)), cut(&["d", "a"]));
        assert_eq!(ask(first(3)), ok(&["d", "a", "b"]));

        let answer = client.ask_hash(hash_key, &Request::SortkeyCount(hash_key));
        assert_eq!(answer.read::<CountResponse<'_>>().unwrap().count, 5);
        let request = Request::MultiRemove(MultiRemoveRequest {
            hash_key,
            sort_keys: vec![b"a", b"nobody", b"b"],
            max_count: 1,
        });
        let answer = client.ask_hash(hash_key, &request);
        let removed: MultiRemoveResponse<'_> = answer.read().unwrap();
        assert_eq!((removed.error, removed.count), (storage::OK, 3));
        assert_eq!(ask(all), ok(&["ca", "cb", "d"]));
        batch_get(&client, hash_key);
    }
}

fn batch_get(client: &Client, hash_key: &[u8]) {
    let keys = [&b"d"[..], b"nobody", b"ca"];
    let keys = keys.map(|sort_key| FullKey { hash_key, sort_key });
    let request = Request::BatchGet(BatchGetRequest {
        keys: keys.to_vec(),
    });
    let answer = client.ask_hash(hash_key, &request);
    let response: BatchGetResponse<'_> = answer.read().unwrap();
    assert_eq!(response.error, storage::OK);
    let found: Vec<_> = response
        .data
        .iter()
        .map(|row| (row.hash_key, row.sort_key))
        .collect();
    assert_eq!(found, [(hash_key, &b"d"[..]), (hash_key, &b"ca"[..])]);
}

#[test]
fn requests_that_make_no_sense_are_error_4_and_change_nothing() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let error = |request| client.ask_hash(b"h", &request).error().unwrap();
        for request in [
            Request::Get(b"\0"),
            Request::Ttl(b"\0\x05a"),
            Request::Remove(b""),
            Request::Put(UpdateRequest::default()),
            Request::MultiPut(MultiPutRequest {
                hash_key: b"h",
                ..MultiPutRequest::default()
            }),
            Request::MultiRemove(MultiRemoveRequest {
                hash_key: b"h",
                ..MultiRemoveRequest::default()
            }),
            Request::BatchGet(BatchGetRequest::default()),
            Request::GetScanner(GetScannerRequest {
                hash_key_filter_type: FilterType::Other(-1),
                ..GetScannerRequest::default()
            }),
        ] {
            assert_eq!(
                error(request.clone()),
                storage::INVALID_ARGUMENT,
                "{request:?}"
            );
        }
    }
}

#[test]
fn atomic_operations_answer_as_apache_pegasus_does() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let hash_key = format!("atomic-{form:?}").into_bytes();
        let hash_key = &hash_key[..];
        let key = RawKey {
            hash_key,
            sort_key: b"n",
        };
        let raw = key.to_vec();
        let incr = |increment| {
            let request = Request::Incr(IncrRequest {
                key: &raw,
                increment,
                expire_ts_seconds: 0,
            });
            let answer = client.ask(&key, &request);
            let response: IncrResponse<'_> = answer.read().unwrap();
            (response.error, response.new_value)
        };
        assert_eq!(incr(5), (storage::OK, 5));
        assert_eq!(incr(-7), (storage::OK, -2));
        assert_eq!(incr(i64::MIN), (storage::INVALID_ARGUMENT, -2));
        let check = |check_type, operand, value| {
            let request = Request::CheckAndSet(CheckAndSetRequest {
                hash_key,
                check_sort_key: b"n",
                check_type,
                check_operand: operand,
                set_value: value,
                return_check_value: true,
                ..CheckAndSetRequest::default()
            });
            let answer = client.ask_hash(hash_key, &request);
            let response: CheckAndSetResponse<'_> = answer.read().unwrap();
            assert!(response.check_value_returned && response.check_value_exist);
            (response.error, response.check_value.to_vec())
        };
        let failed = check(CasCheckType::ValueIntGreater, b"0", b"x");
        assert_eq!(failed, (storage::TRY_AGAIN, b"-2".to_vec()));
        let passed = check(CasCheckType::ValueBytesEqual, b"-2", b"word");
        assert_eq!(passed, (storage::OK, b"-2".to_vec()));
        let invalid = check(CasCheckType::ValueIntEqual, b"0", b"x");
        assert_eq!(invalid, (storage::INVALID_ARGUMENT, b"word".to_vec()));
        assert_eq!(incr(1), (storage::INVALID_ARGUMENT, 0));
    }
}
