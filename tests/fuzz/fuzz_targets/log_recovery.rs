//! Any bytes as the segments of a log: recovery never panics, and the log it leads to can go on.
//! The input is cut into segments of 64 KiB, numbered from 1.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pegasus_replication::ids::{CoreId, Decree, NodeId, PartitionId, ReplicaIncarnation, TableId};
use pegasus_replication::log::{LogIdentity, LogOptions, Marker, SegmentId, SegmentSource, ShardLog, recover};
use std::collections::BTreeMap;

/// The identity with which the corpus was written.
const IDENTITY: LogIdentity =
    LogIdentity { cluster: 0x0123_4567_89ab_cdef, node: NodeId(3), shard: CoreId(1) };
const SEGMENT_BYTES: usize = 64 << 10;

struct Segments<'a>(&'a [u8]);

impl SegmentSource for Segments<'_> {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        let lengths = self.0.chunks(SEGMENT_BYTES).map(|chunk| chunk.len() as u64);
        (1..).map(SegmentId).zip(lengths).collect()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        let start = (segment.0 as usize - 1) * SEGMENT_BYTES + offset as usize;
        let bytes = self.0.get(start..start + length).ok_or("beyond the end")?;
        Ok(Bytes::copy_from_slice(bytes))
    }
}

fuzz_target!(|data: &[u8]| {
    let partition = PartitionId { table: TableId(1), index: 0 };
    let marker = Marker { incarnation: ReplicaIncarnation(77), decree: Decree(0) };
    let markers = BTreeMap::from([(partition, marker)]);
    if let Ok(recovery) = recover(&mut Segments(data), IDENTITY, &markers) {
        let options = LogOptions { segment_bytes: SEGMENT_BYTES as u64, budget_bytes: 1 << 20, ..LogOptions::default() };
        let mut log = ShardLog::new(options, recovery.start);
        let segment = log.segment_to_prepare().expect("a new log wants a segment");
        log.on_segment_ready(segment).expect("just asked for");
        let header = log.next_write().expect("the header block comes first");
        log.on_durable(header.id);
    }
});
