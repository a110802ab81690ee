//! What goes out of the log: batches of records and headers of segments, one write each.

use super::batch::{BLOCK, BatchHeader, BatchPlan};
use super::note::{apply_note, carried};
use super::record::{NumberedRecord, Record, Seal, Stamp};
use super::segment::{CurrentSegment, SegmentHeader, UnexpectedSegment};
use super::{InFlight, LogWrite, LogWriteId, Position, SegmentId, ShardLog};
use std::collections::VecDeque;

/// Bytes of records appended again that one batch takes.
const REAPPEND_BATCH_BYTES_MAX: usize = 64 << 10;

/// Should a batch be written although there is no record?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailer {
    Yes,
    No,
}

impl ShardLog {
    /// The next write, if there is anything to write, a segment to write to and room in flight.
    /// Ask again until `None`; then again after every append, `on_durable` and `on_segment_ready`.
    pub fn next_write(&mut self) -> Option<LogWrite> {
        self.write(Trailer::No)
    }

    /// Is the log idle with something at its end that no header vouches for? Then, 10 ms after the last
    /// completion, ask for [`Self::next_trailer`].
    #[must_use]
    pub fn wants_trailer(&self) -> bool {
        let is_idle = self.inflight.is_empty() && !self.has_records();
        let is_unrecorded = self.durable_recorded < self.records_end;
        let has_news = self
            .index
            .oldest_needed(self.pins())
            .is_some_and(|oldest| oldest > self.oldest_recorded);
        self.failed.is_none() && self.current.is_some() && is_idle && (is_unrecorded || has_news)
    }

    /// An empty batch that records how far the log is flushed and which segments are free.
    pub fn next_trailer(&mut self) -> Option<LogWrite> {
        if self.wants_trailer() {
            self.write(Trailer::Yes)
        } else {
            None
        }
    }

    /// The segment to prepare now (`Effect::PrepareSegment`), told once; ask after every `next_write`.
    pub fn segment_to_prepare(&mut self) -> Option<SegmentId> {
        if self.failed.is_some() {
            None
        } else {
            self.next_segment.request()
        }
    }

    /// The file of this segment has its full length and written blocks; its contents do not matter.
    ///
    /// # Errors
    /// If it was not asked for, or has been reported before; nothing changes.
    pub fn on_segment_ready(&mut self, segment: SegmentId) -> Result<(), UnexpectedSegment> {
        self.next_segment.on_ready(segment)
    }

    fn write(&mut self, trailer: Trailer) -> Option<LogWrite> {
        if self.failed.is_some() || self.inflight.len() >= self.options.writes_inflight_max {
            return None;
        }
        let Some(current) = self.current else {
            return self.open_segment();
        };
        if !current.is_open || !(self.has_records() || trailer == Trailer::Yes) {
            return None;
        }
        if !self.is_worth_a_flush() {
            return None;
        }
        let plan = self.plan_batch(&current);
        if plan.has_room() && (!plan.records.is_empty() || trailer == Trailer::Yes) {
            Some(self.build_batch(current, plan))
        } else {
            self.open_segment()
        }
    }

    /// A write beside another pays for a flush of its own, so it goes when it has as much to do as the one before it. Few
    /// writers then do not wait for each other, and many share flushes evenly, instead of a full and a nearly empty one.
    fn is_worth_a_flush(&self) -> bool {
        let waiting = self.carried.len() + self.pending.len() + self.reappended.len();
        let last = self.inflight.back();
        last.is_none_or(|last| waiting >= last.stamps.len())
            || self.pending_bytes >= self.options.batch_bytes_max
    }

    /// Writes the header block of the next segment, if that is ready. Batches wait until it is durable.
    fn open_segment(&mut self) -> Option<LogWrite> {
        assert!(
            self.current.is_none_or(|current| current.is_open),
            "one segment opens at a time"
        );
        let id = self.next_segment.take()?;
        let predecessor = self.end;
        let header = SegmentHeader {
            identity: self.identity,
            incarnation: self.incarnation,
            segment: id,
            segment_bytes: self.options.segment_bytes,
            predecessor,
            flushed_upto: self.durable_upto,
            next_sequence: self.next_sequence,
        };
        self.durable_recorded = self.durable_upto;
        self.current = Some(CurrentSegment::opening(id, predecessor));
        self.index.add_segment(id, self.options.segment_bytes);
        assert!(
            self.carried.is_empty(),
            "a segment holds at least what it repeats"
        );
        self.carried = self
            .replicas
            .iter()
            .flat_map(|(partition, note)| carried(*partition, note))
            .collect();
        let end = Position {
            segment: id,
            offset: BLOCK,
        };
        Some(self.submit(
            Position {
                segment: id,
                offset: 0,
            },
            end,
            header.encode(),
            Vec::new(),
            0,
        ))
    }

    /// Takes as many waiting records as one batch holds in what is left of the segment.
    fn plan_batch(&mut self, current: &CurrentSegment) -> BatchPlan {
        let room = self.options.segment_bytes - current.offset;
        let wanted = self.options.batch_bytes_max;
        let mut plan = BatchPlan::new(
            self.previous_items.len(),
            self.options.items_max(),
            wanted,
            room,
        );
        take_fitting(&mut self.carried, &mut plan, usize::MAX);
        if self.carried.is_empty() {
            self.pending_bytes -= take_fitting(&mut self.pending, &mut plan, usize::MAX);
        }
        if self.carried.is_empty() && self.pending.is_empty() {
            let taken = take_fitting(&mut self.reappended, &mut plan, REAPPEND_BATCH_BYTES_MAX);
            self.reappended_bytes -= taken;
        }
        plan
    }

    fn build_batch(&mut self, current: CurrentSegment, plan: BatchPlan) -> LogWrite {
        let mut stamps = Vec::with_capacity(plan.records.len());
        let mut record_bytes = 0;
        let items = plan.items();
        let batch_bytes = plan.batch_bytes();
        self.index.begin_batch(current.offset);
        let mut records = Vec::with_capacity(plan.records.len());
        for record in plan.records {
            record_bytes += record.encoded_bytes();
            stamps.push(record.stamp());
            records.push(NumberedRecord {
                number: self.note(&record),
                record,
            });
        }
        if self.carried.is_empty() {
            let oldest = self
                .index
                .oldest_needed(self.pins())
                .expect("the current segment is in the index");
            self.oldest_recorded = self.oldest_recorded.max(oldest);
        }
        let header = BatchHeader {
            incarnation: self.incarnation,
            at: current.end(),
            sequence: self.next_sequence,
            flushed_upto: self.durable_upto,
            oldest_needed: self.oldest_recorded,
            predecessor: current.predecessor,
            items: items.clone(),
            previous_items: std::mem::replace(&mut self.previous_items, items),
            record_count: 0,
            header_bytes: 0,
            records_bytes: 0,
            batch_bytes: 0,
        };
        let seal = Seal::new(&self.identity, self.incarnation, current.id);
        let bytes = header.encode(&records, &seal);
        assert_eq!(bytes.len(), batch_bytes);
        let end = Position {
            segment: current.id,
            offset: current.offset + bytes.len() as u64,
        };
        assert!(end.offset <= self.options.segment_bytes);

        self.next_sequence += 1;
        self.durable_recorded = self.durable_upto;
        if !records.is_empty() {
            self.records_end = end;
        }
        self.current = Some(CurrentSegment {
            offset: end.offset,
            ..current
        });
        self.submit(current.end(), end, bytes, stamps, record_bytes)
    }

    fn submit(
        &mut self,
        at: Position,
        end: Position,
        bytes: Vec<u8>,
        stamps: Vec<Stamp>,
        record_bytes: usize,
    ) -> LogWrite {
        assert_eq!(at.offset % BLOCK, 0);
        assert_eq!(bytes.len() as u64, end.offset - at.offset);
        let id = self.next_write_id;
        self.next_write_id = LogWriteId(id.0 + 1);
        self.end = end;
        let oldest_needed = self.oldest_recorded;
        self.inflight.push_back(InFlight {
            id,
            end,
            is_done: false,
            stamps,
            record_bytes,
            oldest_needed,
        });
        assert!(self.inflight.len() <= self.options.writes_inflight_max);
        LogWrite {
            id,
            segment: at.segment,
            offset: at.offset,
            bytes,
        }
    }

    /// Brings index and repeated state up to a record that takes its place in the log now, and numbers it.
    fn note(&mut self, record: &Record) -> u64 {
        let stamp = record.stamp();
        let note = self.replicas.get(&stamp.partition);
        let note = note.filter(|note| note.incarnation == stamp.incarnation);
        let number = note.map_or(0, |note| note.records) + 1;
        self.index.note(&stamp, record.encoded_bytes() as u64);
        apply_note(&mut self.replicas, number, record);
        number
    }
}

/// Moves records from `queue` into `plan` while they fit, at most `bytes_max` of them; returns their bytes.
fn take_fitting(queue: &mut VecDeque<Record>, plan: &mut BatchPlan, bytes_max: usize) -> usize {
    let mut taken = 0;
    while let Some(record) = queue.front() {
        let bytes = record.encoded_bytes();
        let is_over = taken > 0 && taken + bytes > bytes_max;
        if is_over || !plan.may_add(record) {
            break;
        }
        taken += bytes;
        plan.add(queue.pop_front().expect("just seen"));
    }
    taken
}
