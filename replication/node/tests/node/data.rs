//! Rows: written, read in every way, and still there after every kind of end.

use crate::harness::TestCluster;
use pegasus_client::{FullScan, HashScan, MultiGet, Table};
use std::collections::BTreeSet;

async fn put_many(table: &Table, rows: std::ops::Range<u32>) {
    let puts = rows.map(|row| async move {
        let key = format!("user-{row}");
        table
            .put(key.as_bytes(), b"name", key.as_bytes())
            .await
            .unwrap();
    });
    for put in puts {
        put.await;
    }
}

async fn assert_many(table: &Table, rows: std::ops::Range<u32>) {
    for row in rows {
        let key = format!("user-{row}");
        let value = table.get(key.as_bytes(), b"name").await.unwrap();
        assert_eq!(value.as_deref(), Some(key.as_bytes()), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_back_in_every_way() {
    let cluster = TestCluster::start(1, 2).await;
    let table = cluster.table("t", 8, 1).await;
    let rows: Vec<(String, String)> = (0..50)
        .map(|row| (format!("s{row:02}"), format!("v{row}")))
        .collect();
    table.multi_put(b"h", &rows).await.unwrap();
    table
        .put_with_ttl(b"h", b"s99", b"short", std::time::Duration::from_secs(1000))
        .await
        .unwrap();

    assert_eq!(
        table.get(b"h", b"s07").await.unwrap().as_deref(),
        Some(&b"v7"[..])
    );
    assert_eq!(table.get(b"h", b"none").await.unwrap(), None);
    assert!(table.exist(b"h", b"s00").await.unwrap());
    assert!(!table.exist(b"h", b"none").await.unwrap());
    assert_eq!(table.sortkey_count(b"h").await.unwrap(), 51);
    assert!(table.ttl(b"h", b"s99").await.unwrap().is_some());
    assert_eq!(table.ttl(b"h", b"none").await.unwrap(), None);

    let all = table.multi_get(b"h", &MultiGet::default()).await.unwrap();
    assert_eq!((all.rows.len(), all.complete), (51, true));
    let batch = table
        .batch_get(&[(b"h", b"s01"), (b"h", b"nop")])
        .await
        .unwrap();
    assert_eq!(batch.iter().filter(|value| value.is_some()).count(), 1);

    table.multi_remove(b"h", &["s00", "s01"]).await.unwrap();
    table.remove(b"h", b"s99").await.unwrap();
    let mut scanner = table
        .hash_scan(
            b"h",
            &HashScan {
                batch_rows: 7,
                ..HashScan::default()
            },
        )
        .unwrap();
    let mut found = Vec::new();
    while let Some(row) = scanner.next().await {
        found.push(String::from_utf8(row.unwrap().sort_key.to_vec()).unwrap());
    }
    let expected: Vec<String> = rows[2..]
        .iter()
        .map(|(sort_key, _)| sort_key.clone())
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_scan_meets_every_row_of_every_partition_once() {
    let cluster = TestCluster::start(1, 2).await;
    let table = cluster.table("t", 8, 1).await;
    put_many(&table, 0..300).await;
    let mut scanner = table.full_scan(&FullScan {
        batch_rows: 16,
        ..FullScan::default()
    });
    let mut found = BTreeSet::new();
    while let Some(row) = scanner.next().await {
        assert!(found.insert(row.unwrap().hash_key));
    }
    assert_eq!(found.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_has_its_rows_after_the_next_start() {
    let mut cluster = TestCluster::start(1, 2).await;
    let table = cluster.table("t", 4, 1).await;
    put_many(&table, 0..100).await;
    assert!(cluster.nodes[0].stop().success());
    cluster.nodes[0].start_again();
    assert_many(&table, 0..100).await;
    put_many(&table, 100..110).await;
    assert_many(&table, 100..110).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_has_every_acknowledged_row_after_the_next_start() {
    let mut cluster = TestCluster::start(1, 2).await;
    let table = cluster.table("t", 4, 1).await;
    for round in 0..3 {
        put_many(&table, round * 100..(round + 1) * 100).await;
        cluster.nodes[0].kill();
        cluster.nodes[0].start_again();
    }
    assert_many(&table, 0..300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_killed_at_once_lose_no_acknowledged_row() {
    let mut cluster = TestCluster::start(3, 1).await;
    let table = cluster.table("t", 4, 3).await;
    put_many(&table, 0..200).await;
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    cluster.nodes.iter_mut().for_each(|node| node.start_again());
    assert_many(&table, 0..200).await;
    put_many(&table, 200..210).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secondary_that_was_away_catches_up() {
    let mut cluster = TestCluster::start(3, 1).await;
    let table = cluster.table("t", 4, 3).await;
    put_many(&table, 0..50).await;
    cluster.nodes[1].kill();
    cluster.nodes[1].start_again();
    // Writes need all members, so these end only when it is back.
    put_many(&table, 50..100).await;
    assert_many(&table, 0..100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_goes_on_without_meta() {
    let mut cluster = TestCluster::start(3, 1).await;
    let table = cluster.table("t", 4, 3).await;
    put_many(&table, 0..20).await;
    cluster.stop_meta().await;
    put_many(&table, 20..60).await;
    assert_many(&table, 0..60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_table_is_gone_and_its_name_is_free() {
    let cluster = TestCluster::start(1, 2).await;
    let table = cluster.table("t", 4, 1).await;
    put_many(&table, 0..10).await;
    cluster.client().await.drop_table("t").await.unwrap();
    let table = cluster.table("t", 4, 1).await;
    assert_eq!(table.get(b"user-1", b"name").await.unwrap(), None);
    put_many(&table, 0..10).await;
    assert_many(&table, 0..10).await;
}
