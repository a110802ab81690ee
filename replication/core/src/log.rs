//! The log of one core, shared by its replicas.

/// Number of a log segment of this core, from 1, growing by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

/// Number of a log write of this core in this life, from 1, growing by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogWriteId(pub u64);

/// One batch: `bytes` (a multiple of 4,096) go to `offset` (a multiple of 4,096) of `segment`, then a flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWrite {
    pub id: LogWriteId,
    pub segment: SegmentId,
    pub offset: u64,
    pub bytes: Vec<u8>,
}
