//! What a core's log holds of some replicas, read once for all of them.

use super::{ServeError, refused};
use crate::connection::Connection;
use crate::inbox::CoreInput;
use crate::transfer::budget::Budget;
use crate::transfer::frames::Entries;
use crate::transfer::log_source::LogSource;
use crate::transfer::{LogStartRequest, Shared, TransferCore};
use bytes::Bytes;
use crossbeam_channel::bounded;
use pegasus_fbs::code::Code;
use pegasus_fbs::frame::FrameKind;
use pegasus_replication::ids::{Decree, PartitionId};
use pegasus_replication::log::recover::{
    SegmentSource, Suffix, SuffixError, SuffixPiece, SuffixRange,
};
use pegasus_replication::log::{LogIdentity, Position, SegmentId};
use std::time::Duration;

/// Of the log of one replica, in one frame, about.
const PIECE_BYTES: usize = 256 << 10;
/// The core looks into its index between two turns.
const START_WAIT: Duration = Duration::from_secs(5);

pub(super) fn serve(
    shared: &Shared,
    connection: &mut Connection,
    files: &TransferCore,
    identity: LogIdentity,
    ranges: &[SuffixRange],
) -> Result<(), ServeError> {
    let start = start_of(files, ranges)?;
    let mut source = Budgeted {
        source: LogSource::open(&files.log_dir)?,
        budget: &shared.searching,
    };
    let mut suffix = Suffix::open(&mut source, identity, ranges, start)
        .map_err(|error| refused(Code::NotFound, error.to_string()))?;
    while let Some((partition, piece)) = suffix.next_piece(PIECE_BYTES) {
        let entries = frame_of(partition, piece);
        let payloads = entries.entries.iter();
        let bytes = payloads.map(|entry| entry.mutation.payload.len()).sum();
        shared.sending.take(bytes);
        connection.send(FrameKind::TransferEntries, &entries.encode()?)?;
    }
    Ok(())
}

fn start_of(files: &TransferCore, ranges: &[SuffixRange]) -> Result<Position, ServeError> {
    let (answer, answered) = bounded(1);
    files.inbox.send(CoreInput::LogStart(LogStartRequest {
        ranges: ranges.to_vec(),
        answer,
    }));
    let start = answered.recv_timeout(START_WAIT);
    start.map_err(|_| refused(Code::Busy, "the core has not answered in time"))
}

fn frame_of(partition: PartitionId, piece: Result<SuffixPiece, SuffixError>) -> Entries {
    match piece {
        Ok(piece) => Entries {
            partition: Some(partition),
            entries: piece.entries,
            committed: piece.committed,
            is_last: piece.is_last,
            missing: None,
        },
        Err(error) => Entries {
            partition: Some(partition),
            entries: Vec::new(),
            committed: Decree::ZERO,
            is_last: true,
            missing: Some(error.to_string()),
        },
    }
}

/// A log that is read within a budget.
struct Budgeted<'b> {
    source: LogSource,
    budget: &'b Budget,
}

impl SegmentSource for Budgeted<'_> {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.source.segments()
    }

    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        self.budget.take(length);
        self.source.read(segment, offset, length)
    }
}
