//! The segment files of a log that a core is writing, for reading what they hold of one replica.

use crate::log_file::segment_of;
use bytes::{Bytes, BytesMut};
use pegasus_replication::log::SegmentId;
use pegasus_replication::log::recover::SegmentSource;
use rustix::fs::{Advice, fadvise};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Segments as they were when it was opened. One that is freed meanwhile stays readable until this is dropped.
#[derive(Debug)]
pub(crate) struct LogSource {
    files: BTreeMap<SegmentId, (File, u64)>,
}

impl LogSource {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let Some(segment) = segment_of(&path) else {
                continue;
            };
            match File::open(&path) {
                Ok(file) => {
                    let bytes = file.metadata()?.len();
                    // Nothing is read ahead: whoever reads here does it at a pace.
                    let _ = fadvise(&file, 0, None, Advice::Random);
                    files.insert(segment, (file, bytes));
                }
                // Freed since the directory was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { files })
    }
}

impl SegmentSource for LogSource {
    fn segments(&self) -> Vec<(SegmentId, u64)> {
        self.files
            .iter()
            .map(|(segment, (_, bytes))| (*segment, *bytes))
            .collect()
    }

    /// Leaves nothing in the page cache: the core's own writes go past it.
    fn read(&mut self, segment: SegmentId, offset: u64, length: usize) -> Result<Bytes, String> {
        let Some((file, _)) = self.files.get(&segment) else {
            return Err(format!("segment {} is not there", segment.0));
        };
        let mut buffer = BytesMut::zeroed(length);
        file.read_exact_at(&mut buffer, offset)
            .map_err(|error| error.to_string())?;
        let _ = fadvise(
            file,
            offset,
            NonZeroU64::new(length as u64),
            Advice::DontNeed,
        );
        Ok(buffer.freeze())
    }
}
