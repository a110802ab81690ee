//! A log at its full size, by hand: `cargo test --profile checked -p pegasus-replication -- --ignored full_size`.

use super::disk::IDENTITY;
use super::model::{INCARNATION, entry, entry_record, partition};
use crate::ids::Decree;
use crate::log::{LogOptions, Marker, SegmentId, SegmentSource, ShardLog, recover};
use bytes::Bytes;
use std::collections::BTreeMap;

#[derive(Default)]
struct Memory(BTreeMap<SegmentId, Vec<u8>>);

impl SegmentSource for Memory {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.0
            .iter()
            .map(|(id, file)| (*id, file.len() as u64))
            .collect()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        let start = offset as usize;
        Ok(Bytes::copy_from_slice(
            &self.0[&segment][start..start + length],
        ))
    }
}

#[test]
#[ignore = "fills a gibibyte of memory"]
fn a_full_size_log_of_small_rows_is_read_back() {
    let options = LogOptions {
        budget_bytes: 2 << 30,
        ..LogOptions::default()
    };
    let mut disk = Memory::default();
    let mut log = ShardLog::new(
        options,
        recover(&mut disk, IDENTITY, &BTreeMap::new())
            .unwrap()
            .start,
    );
    let (partitions, decrees) = (100, 10_000);
    for decree in 1..=decrees {
        for index in 0..partitions {
            log.append(entry_record(
                index,
                entry(1, decree, vec![5; 1024]),
                decree - 1,
            ));
        }
        drain(&mut log, &mut disk);
    }
    let marker = Marker {
        incarnation: INCARNATION,
        decree: Decree(decrees / 2),
    };
    let markers = (0..partitions)
        .map(|index| (partition(index), marker))
        .collect();
    let recovery = recover(&mut disk, IDENTITY, &markers).unwrap();
    assert!(
        recovery
            .replicas
            .values()
            .all(|replica| replica.entries.len() as u64 == decrees / 2)
    );
}

fn drain(log: &mut ShardLog, disk: &mut Memory) {
    loop {
        if let Some(segment) = log.segment_to_prepare() {
            disk.0.insert(segment, vec![0; 64 << 20]);
            log.on_segment_ready(segment).unwrap();
        }
        let Some(write) = log.next_write() else { break };
        let file = disk.0.get_mut(&write.segment).unwrap();
        file[write.offset as usize..write.offset as usize + write.bytes.len()]
            .copy_from_slice(&write.bytes);
        log.on_durable(write.id);
    }
}
