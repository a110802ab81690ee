//! The segment files of one core's log: their names, and the open ones.
//!
//! A segment is a file of fixed length whose blocks are all written (zeros, or what a recycled segment held), opened with
//! O_DIRECT. Background threads make and free them (`background/segments.rs`); the core only writes. A failed write or
//! flush is final for the core's log and nothing here tries it again.

use pegasus_net::CoreIo;
use pegasus_replication::log::{LogWrite, SegmentId};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A segment that the log may write to.
#[derive(Debug)]
pub struct ReadySegment {
    pub segment: SegmentId,
    pub file: Arc<File>,
}

/// The open segments of one core.
#[derive(Debug, Default)]
pub struct LogFiles {
    open: BTreeMap<SegmentId, Arc<File>>,
}

impl LogFiles {
    pub fn add(&mut self, ready: ReadySegment) {
        self.open.insert(ready.segment, ready.file);
    }

    /// Closes the file once the writes that use it are done.
    pub fn remove(&mut self, segment: SegmentId) {
        self.open.remove(&segment);
    }

    /// Hands a batch to the ring: written at its place, then flushed; `IoEvent::LogWritten` carries its id.
    ///
    /// # Panics
    /// If the segment is not open: the log writes only to segments it was told are ready.
    pub fn write(&self, io: &mut CoreIo, write: &LogWrite) {
        let file = self
            .open
            .get(&write.segment)
            .expect("the log writes to segments that are ready");
        let mut buffer = io.log_buffer(write.bytes.len());
        buffer.extend_from_slice(&write.bytes);
        io.write_log(file, write.offset, buffer, write.id.0);
    }
}

/// Where a segment of this number is, or will be.
#[must_use]
pub fn segment_path(dir: &Path, segment: SegmentId) -> PathBuf {
    dir.join(format!("{SEGMENT_PREFIX}{:016}", segment.0))
}

/// The number in a segment's file name; `None` for other files.
#[must_use]
pub fn segment_of(path: &Path) -> Option<SegmentId> {
    let digits = path.file_name()?.to_str()?.strip_prefix(SEGMENT_PREFIX)?;
    (digits.len() == 16)
        .then(|| digits.parse().ok().map(SegmentId))
        .flatten()
}

/// Opens a segment for writing past the page cache.
///
/// # Errors
/// Among others where the file system has no O_DIRECT: a log cannot live there.
pub fn open_segment(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .map_err(|error| {
            let hint = if error.raw_os_error() == Some(libc::EINVAL) {
                " (no O_DIRECT on this file system)"
            } else {
                ""
            };
            io::Error::new(error.kind(), format!("{}: {error}{hint}", path.display()))
        })
}

const SEGMENT_PREFIX: &str = "segment-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_numbers_and_other_files_do_not() {
        let dir = Path::new("/log");
        assert_eq!(
            segment_of(&segment_path(dir, SegmentId(17))),
            Some(SegmentId(17))
        );
        for name in [
            "/log/segment-17",
            "/log/spare-0000000000000001",
            "/log/segment-00000000000000x1",
        ] {
            assert_eq!(segment_of(Path::new(name)), None);
        }
    }
}
