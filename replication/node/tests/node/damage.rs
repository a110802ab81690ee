//! Disks that fill up and bytes that flip.

use crate::harness::TestCluster;
use pegasus_client::{Code, Execution, Table};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const BLOCK: usize = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_definitely_and_answers_reads() {
    let mut cluster = TestCluster::start(1, 1).await;
    let table = cluster.table("t", 4, 1).await;
    table.put(b"h", b"s", b"before").await.unwrap();
    let node = &mut cluster.nodes[0];
    node.stop();
    // A reserve larger than any disk is as good as no free space.
    node.flags = vec!["--disk-reserve".to_owned(), "1000000 GiB".to_owned()];
    node.start_again();
    assert_eq!(
        table.get(b"h", b"s").await.unwrap().as_deref(),
        Some(&b"before"[..])
    );
    let error = table.put(b"h", b"s", b"after").await.unwrap_err();
    assert_eq!(
        (error.code(), error.execution()),
        (Some(Code::DiskFull), Execution::NotExecuted)
    );

    let node = &mut cluster.nodes[0];
    node.stop();
    node.flags.clear();
    node.start_again();
    table.put(b"h", b"s", b"after").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_log_costs_one_replica_only() {
    let mut cluster = TestCluster::start(1, 1).await;
    let table = cluster.table("t", 4, 1).await;
    for row in 0..40 {
        table
            .put(format!("user-{row}").as_bytes(), b"name", b"value")
            .await
            .unwrap();
    }
    cluster.nodes[0].kill();
    flip_in_the_middle(
        &cluster.nodes[0]
            .dir()
            .join("shard-00/log/segment-0000000000000001"),
    );
    cluster.nodes[0].start_again();
    let table = table.with_timeout(Duration::from_secs(3));
    assert_eq!(partitions_out_of_service(&table).await.len(), 1);
}

/// Flips a bit of a record in the middle of the written part, which was flushed and acknowledged.
fn flip_in_the_middle(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let is_written = |block: &usize| bytes[block * BLOCK..][..64].iter().any(|byte| *byte != 0);
    let written: Vec<usize> = (1..bytes.len() / BLOCK).filter(is_written).collect();
    let at = written[written.len() / 2] * BLOCK + 200;
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at] ^ 0x10], at as u64).unwrap();
}

async fn partitions_out_of_service(table: &Table) -> Vec<u32> {
    let mut out = Vec::new();
    for row in 0..40 {
        let key = format!("user-{row}");
        let partition = table.partition_of(key.as_bytes(), b"name");
        if out.contains(&partition) {
            continue;
        }
        match table.get(key.as_bytes(), b"name").await {
            Ok(value) => assert_eq!(value.as_deref(), Some(&b"value"[..]), "{key}"),
            Err(error) => {
                assert_eq!(error.code(), Some(Code::OutOfService), "{error}");
                out.push(partition);
            }
        }
    }
    out
}
