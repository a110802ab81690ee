//! Scanners, page by page.

use crate::site::{Client, multi_put, site};
use e2e::apache::{Connection, Form, To};
use pegasus_thrift::data::{GetScannerRequest, RawKey, Request, ScanRequest, ScanResponse};
use pegasus_thrift::storage;
use std::collections::BTreeSet;

fn page(
    client: &Client,
    connection: &mut Connection,
    to: To,
    request: &Request<'_>,
) -> (i32, i64, Vec<Vec<u8>>) {
    let answer = connection.ask(to, request).unwrap();
    let response: ScanResponse<'_> = answer.read().unwrap();
    assert_eq!(response.app_id, client.table.app_id);
    let keys = response.kvs.iter().map(|row| row.key.to_vec());
    (response.error, response.context_id, keys.collect())
}

#[test]
fn a_scan_reads_every_row_once_with_a_new_number_for_each_page() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let mut written = BTreeSet::new();
        for index in 0..60 {
            let hash_key = format!("scanned-{index}").into_bytes();
            multi_put(&client, &hash_key, &[(b"a", b"1"), (b"b", b"2")]);
            for sort_key in [&b"a"[..], b"b"] {
                let hash_key = &hash_key;
                written.insert(RawKey { hash_key, sort_key }.to_vec());
            }
        }
        let mut read = BTreeSet::new();
        for index in 0..8 {
            let to = To {
                app_id: client.table.app_id,
                partition_index: index,
                // What clients say who scan a whole table.
                partition_hash: u64::try_from(index).unwrap(),
                is_backup: false,
            };
            for key in scan(&client, to) {
                assert!(read.insert(key), "a row came twice");
            }
        }
        let wanted: BTreeSet<_> = read
            .iter()
            .filter(|key| key[2..].starts_with(b"scanned"))
            .collect();
        assert_eq!(wanted, written.iter().collect());
    }
}

/// All keys of a partition, in pages of three.
fn scan(client: &Client, to: To) -> Vec<Vec<u8>> {
    let mut connection = client.table.connect(&to, client.form).unwrap();
    let open = Request::GetScanner(GetScannerRequest {
        start_key: b"\0\0",
        start_inclusive: true,
        stop_key: b"\xff\xff",
        batch_size: 3,
        full_scan: Some(true),
        ..GetScannerRequest::default()
    });
    let (error, mut context, mut all) = page(client, &mut connection, to, &open);
    assert_eq!(error, storage::OK);
    while context >= 0 {
        let next = Request::Scan(ScanRequest {
            context_id: context,
        });
        let (error, following, keys) = page(client, &mut connection, to, &next);
        assert_eq!(error, storage::OK);
        assert!((1..=3).contains(&keys.len()));
        assert_ne!(following, context);
        // A number is good for one page.
        let (error, _, _) = page(client, &mut connection, to, &next);
        assert_eq!(error, storage::NOT_FOUND);
        context = following;
        all.extend(keys);
    }
    assert!(all.is_sorted());
    all
}

#[test]
fn scanners_count_tell_expiry_end_at_once_and_are_closed_in_silence() {
    let site = site();
    for form in Form::ALL {
        let client = Client::new(&site, form);
        let hash_key = b"one";
        multi_put(
            &client,
            hash_key,
            &[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")],
        );
        let key = |sort_key: &'static [u8]| RawKey { hash_key, sort_key }.to_vec();
        let (start, stop) = (key(b""), key(b"c"));
        let range = GetScannerRequest {
            start_key: &start,
            start_inclusive: true,
            stop_key: &stop,
            stop_inclusive: false,
            ..GetScannerRequest::default()
        };
        let to = client.table.to(&RawKey {
            hash_key,
            sort_key: b"",
        });
        let mut connection = client.table.connect(&to, form).unwrap();
        let mut ask = |request: GetScannerRequest<'_>| {
            let answer = connection.ask(to, &Request::GetScanner(request)).unwrap();
            let response: ScanResponse<'_> = answer.read().unwrap();
            assert_eq!(response.error, storage::OK);
            let expiry = response.kvs.first().and_then(|row| row.expire_ts_seconds);
            (
                response.kvs.len(),
                response.context_id,
                response.kv_count,
                expiry,
            )
        };
        assert_eq!(ask(range.clone()), (2, -1, None, None));
        let counted = GetScannerRequest {
            only_return_count: Some(true),
            return_expire_ts: Some(true),
            ..range.clone()
        };
        assert_eq!(ask(counted), (0, -1, Some(2), None));
        let expiring = GetScannerRequest {
            return_expire_ts: Some(true),
            ..range.clone()
        };
        assert_eq!(ask(expiring), (2, -1, None, Some(0)));
        let empty = GetScannerRequest {
            start_key: &stop,
            stop_key: &start,
            ..range.clone()
        };
        assert_eq!(ask(empty), (0, -1, None, None));
        let (_, context, _, _) = ask(GetScannerRequest {
            batch_size: 1,
            ..range
        });
        // Silence: the answer to the next request is the next one to come.
        connection
            .send(to, &Request::ClearScanner(context))
            .unwrap();
        let next = Request::Scan(ScanRequest {
            context_id: context,
        });
        let (error, _, _) = page(&client, &mut connection, to, &next);
        assert_eq!(error, storage::NOT_FOUND);
    }
}
