use crate::fake::{Fake, client_of, finish, primaries, rows_reply, store, write_reply};
use pegasus_client::{Bytes, Code, MultiGet, Pattern, SortKeyRange, Table, Ttl};
use pegasus_fbs::frame::{Frame, FrameKind};
use pegasus_fbs::{body, kv};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A table on one core that keeps every request and gives the same answer to each.
async fn recording(answer: Vec<u8>) -> (Vec<Fake>, Table, Arc<Mutex<Vec<Frame>>>) {
    let frames = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&frames);
    let core = Fake::start(move |frame, out| {
        out.reply(&frame.header, &answer);
        kept.lock().unwrap().push(frame);
    })
    .await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    (vec![core, meta], table, frames)
}

#[tokio::test]
async fn rows_are_written_read_and_removed() {
    let core = store().await;
    let meta = Fake::meta(&primaries(&[&core.address, &core.address])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    assert_eq!(table.get(b"h", b"s").await.unwrap(), None);
    assert_eq!(table.ttl(b"h", b"s").await.unwrap(), None);
    table.put(b"h", b"s", b"value").await.unwrap();
    table.put(b"h", b"empty", b"").await.unwrap();
    table.put(b"", b"no hash key", b"v").await.unwrap();
    assert_eq!(
        table.get(b"h", b"s").await.unwrap().as_deref(),
        Some(&b"value"[..])
    );
    assert_eq!(table.get(b"h", b"empty").await.unwrap(), Some(Bytes::new()));
    assert_eq!(
        table.get(b"", b"no hash key").await.unwrap().as_deref(),
        Some(&b"v"[..])
    );
    assert_eq!(table.ttl(b"h", b"s").await.unwrap(), Some(Ttl::Never));
    assert!(table.exist(b"h", b"s").await.unwrap());
    table.remove(b"h", b"s").await.unwrap();
    assert!(!table.exist(b"h", b"s").await.unwrap());
}

#[tokio::test]
async fn a_put_carries_key_value_and_rounded_up_ttl() {
    let (_servers, table, frames) = recording(write_reply(1)).await;
    table
        .put_with_ttl(b"hash", b"sort", b"value", Duration::from_millis(1_001))
        .await
        .unwrap();
    let frame = frames.lock().unwrap().pop().unwrap();
    let put = body::read::<kv::PutRequest<'_>>(&frame.body).unwrap();
    assert_eq!(body::bytes(put.hash_key()), b"hash");
    assert_eq!(body::bytes(put.sort_key()), b"sort");
    assert_eq!(body::bytes(put.value()), b"value");
    assert_eq!(put.ttl_seconds(), 2);
    assert_eq!(
        (put.request_client(), put.request_sequence()),
        (0, 0),
        "a blind write sent once needs no identity"
    );
    assert!(
        (1..=20_000).contains(&frame.header.timeout_ms),
        "{}",
        frame.header.timeout_ms
    );
}

#[tokio::test]
async fn a_ttl_of_zero_is_refused() {
    let (_servers, table, frames) = recording(write_reply(1)).await;
    let error = table
        .put_with_ttl(b"h", b"s", b"v", Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument));
    assert!(frames.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_multi_put_carries_all_rows() {
    let (_servers, table, frames) = recording(write_reply(2)).await;
    table
        .multi_put_with_ttl(b"h", &[("a", "1"), ("b", "")], Duration::from_secs(60))
        .await
        .unwrap();
    let frame = frames.lock().unwrap().pop().unwrap();
    let put = body::read::<kv::MultiPutRequest<'_>>(&frame.body).unwrap();
    let rows: Vec<_> = put
        .rows()
        .unwrap()
        .iter()
        .map(|row| (body::bytes(row.sort_key()), body::bytes(row.value())))
        .collect();
    assert_eq!(
        (body::bytes(put.hash_key()), put.ttl_seconds()),
        (&b"h"[..], 60)
    );
    assert_eq!(rows, [(&b"a"[..], &b"1"[..]), (&b"b"[..], &b""[..])]);
}

#[tokio::test]
async fn a_multi_get_carries_every_option() {
    let (_servers, table, frames) =
        recording(rows_reply(&[("", "b", "2")], Some(b"more"), 0)).await;
    let options = MultiGet {
        sort_keys: vec![Bytes::from_static(b"k1"), Bytes::new()],
        range: SortKeyRange {
            start: Bytes::from_static(b"a"),
            start_inclusive: false,
            stop: Bytes::from_static(b"z"),
            stop_inclusive: true,
        },
        filter: Some(Pattern::postfix("x")),
        reverse: true,
        no_value: true,
        max_rows: 10,
        max_bytes: 1_000,
    };
    let rows = table.multi_get(b"h", &options).await.unwrap();
    assert!(!rows.complete);
    assert_eq!(
        (&rows.rows[0].sort_key[..], &rows.rows[0].value[..]),
        (&b"b"[..], &b"2"[..])
    );
    let frame = frames.lock().unwrap().pop().unwrap();
    let get = body::read::<kv::MultiGetRequest<'_>>(&frame.body).unwrap();
    let keys: Vec<_> = get
        .sort_keys()
        .unwrap()
        .iter()
        .map(|key| body::bytes(key.data()))
        .collect();
    assert_eq!(keys, [&b"k1"[..], &b""[..]]);
    assert_eq!(
        (body::bytes(get.start_sort_key()), get.start_inclusive()),
        (&b"a"[..], false)
    );
    assert_eq!(
        (body::bytes(get.stop_sort_key()), get.stop_inclusive()),
        (&b"z"[..], true)
    );
    assert_eq!(
        (get.filter(), body::bytes(get.filter_pattern())),
        (kv::Filter::Postfix, &b"x"[..])
    );
    assert_eq!(
        (
            get.reverse(),
            get.no_value(),
            get.max_rows(),
            get.max_bytes()
        ),
        (true, true, 10, 1_000)
    );
}

#[tokio::test]
async fn the_default_multi_get_reads_the_whole_hash_key() {
    let (_servers, table, frames) = recording(rows_reply(&[], None, 0)).await;
    assert!(
        table
            .multi_get(b"h", &MultiGet::default())
            .await
            .unwrap()
            .complete
    );
    let frame = frames.lock().unwrap().pop().unwrap();
    let get = body::read::<kv::MultiGetRequest<'_>>(&frame.body).unwrap();
    assert!(
        get.sort_keys().is_none()
            && get.start_sort_key().is_none()
            && get.stop_sort_key().is_none()
    );
    assert!(get.start_inclusive() && !get.stop_inclusive() && get.filter() == kv::Filter::None);
}

#[tokio::test]
async fn multi_remove_and_count_return_numbers() {
    let (_servers, table, frames) = recording(write_reply(2)).await;
    assert_eq!(table.multi_remove(b"h", &["a", "b"]).await.unwrap(), 2);
    let frame = frames.lock().unwrap().pop().unwrap();
    let remove = body::read::<kv::MultiRemoveRequest<'_>>(&frame.body).unwrap();
    assert_eq!(remove.sort_keys().unwrap().len(), 2);
    let count = finish(|b| kv::CountReply::create(b, &kv::CountReplyArgs { count: 7 }));
    let (_servers, table, _) = recording(count).await;
    assert_eq!(table.sortkey_count(b"h").await.unwrap(), 7);
}

#[tokio::test]
async fn operations_on_a_hash_key_refuse_an_empty_one_and_no_rows() {
    let (_servers, table, frames) = recording(write_reply(1)).await;
    let none: [&str; 0] = [];
    let refused = [
        table.multi_put(b"", &[("a", "1")]).await.unwrap_err(),
        table.multi_put(b"h", &[("a", "1"); 0]).await.unwrap_err(),
        table.multi_remove(b"h", &none).await.unwrap_err(),
        table
            .multi_get(b"", &MultiGet::default())
            .await
            .unwrap_err(),
        table.sortkey_count(b"").await.unwrap_err(),
        table.hash_scan(b"", &Default::default()).unwrap_err(),
    ];
    assert!(
        refused
            .iter()
            .all(|error| error.code() == Some(Code::InvalidArgument))
    );
    assert!(frames.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_get_asks_each_partition_and_keeps_the_callers_order() {
    let partitions = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&partitions);
    let core = Fake::start(move |frame, out| {
        assert_eq!(frame.header.kind, FrameKind::BatchGet);
        let request = body::read::<kv::BatchGetRequest<'_>>(&frame.body).unwrap();
        let keys = request.keys().unwrap();
        asked
            .lock()
            .unwrap()
            .push((frame.header.partition, keys.len()));
        // Answers one key at a time, as a server at its limit would.
        let text = |data| std::str::from_utf8(body::bytes(data)).unwrap().to_owned();
        let (hash, sort) = (text(keys.get(0).hash_key()), text(keys.get(0).sort_key()));
        let rest = keys.len() > 1;
        out.reply(
            &frame.header,
            &rows_reply(&[(&hash, &sort, &hash)], rest.then_some(&b"-"[..]), 0),
        );
    })
    .await;
    let meta = Fake::meta(&primaries(&[&core.address[..]; 4])).await;
    let table = client_of(&meta).await.table("t").await.unwrap();
    // Partitions 0, 2, 1, 3, 0 of 4.
    let keys = ["hash", "hashkey", "hash_key", "user_1", "pegasus"].map(|hash| (hash, "s"));
    let values = table.batch_get(&keys).await.unwrap();
    let found: Vec<_> = values
        .into_iter()
        .map(|value| String::from_utf8(value.unwrap().to_vec()).unwrap())
        .collect();
    assert_eq!(found, ["hash", "hashkey", "hash_key", "user_1", "pegasus"]);
    let mut asked = partitions.lock().unwrap().clone();
    asked.sort_unstable();
    assert_eq!(asked, [(0, 1), (0, 2), (1, 1), (2, 1), (3, 1)]);
}

#[tokio::test]
async fn a_batch_get_without_progress_is_an_error() {
    let (_servers, table, _) = recording(rows_reply(&[], Some(b"-"), 0)).await;
    let error = table.batch_get(&[("h", "s")]).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Internal), "{error}");
}
