//! Segment files of the log: zero-filled ahead of need, recycled, deleted.
//!
//! A flush of blocks that were written before commits no file metadata and costs half of one that does; that is why a
//! segment is written whole before the log sees it. It gets its name only when all of it is durable.

use super::{BackgroundJob, CoreFiles, SegmentOptions};
use crate::data_dir::sync_dir;
use crate::inbox::CoreInput;
use crate::log_file::{ReadySegment, open_segment, segment_path};
use glommio::io::{DmaFile, OpenOptions};
use pegasus_replication::log::SegmentId;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one write of zeros.
const CHUNK_BYTES: u64 = 256 << 10;
/// Rest after each, if the segment is not waited for: 256 MiB a second at most, for the drive has log writes to do.
const REST: Duration = Duration::from_millis(1);
const SPARE_PREFIX: &str = "spare-";
const UNFINISHED: &str = "unfinished";

/// Makes, recycles and deletes the segments of all cores of a node.
#[derive(Debug)]
pub struct SegmentKeeper {
    cores: Vec<CoreFiles>,
    /// Those that have got a segment in this life; until then they cannot serve.
    have_one: RefCell<BTreeSet<usize>>,
    options: SegmentOptions,
}

/// How fast a segment is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// A core waits for it.
    Waited,
    /// The one before is in use.
    Ahead,
}

impl SegmentKeeper {
    #[must_use]
    pub const fn new(cores: Vec<CoreFiles>, options: SegmentOptions) -> Self {
        Self {
            cores,
            have_one: RefCell::new(BTreeSet::new()),
            options,
        }
    }

    /// Carries jobs out in order and returns those to try again later.
    pub async fn do_all(&self, jobs: Vec<BackgroundJob>) -> Vec<BackgroundJob> {
        let mut again = Vec::new();
        for job in jobs {
            let result = match job {
                BackgroundJob::Prepare { core, segment } => self.prepare(core, segment).await,
                BackgroundJob::Free { core, segment } => self.free(core, segment),
            };
            if let Err(error) = result {
                self.on_failure(job, &error);
                again.push(job);
            }
        }
        again
    }

    fn on_failure(&self, job: BackgroundJob, error: &io::Error) {
        match job {
            BackgroundJob::Prepare { core, segment } => {
                tracing::warn!(core, segment = segment.0, %error, "no log segment could be made, trying again");
                let error = error.to_string();
                self.cores[core]
                    .inbox
                    .send(CoreInput::SegmentFailed { error });
            }
            BackgroundJob::Free { core, segment } => {
                tracing::warn!(core, segment = segment.0, %error, "log segment could not be freed, trying again");
            }
        }
    }

    async fn prepare(&self, core: usize, segment: SegmentId) -> io::Result<()> {
        let files = &self.cores[core];
        let path = segment_path(&files.log_dir, segment);
        match self.take_spare(&files.log_dir)? {
            Some(spare) => fs::rename(spare, &path)?,
            None => {
                let unfinished = files.log_dir.join(UNFINISHED);
                let haste = self.haste(core);
                let filled = write_zeros(&unfinished, self.options.segment_bytes, haste).await;
                if let Err(error) = filled {
                    // On a full disk the half of a segment would keep space from everybody else.
                    let _ = fs::remove_file(&unfinished);
                    return Err(error);
                }
                fs::rename(unfinished, &path)?;
            }
        }
        sync_dir(&files.log_dir)?;
        let file = Arc::new(open_segment(&path)?);
        self.have_one.borrow_mut().insert(core);
        files
            .inbox
            .send(CoreInput::Segment(ReadySegment { segment, file }));
        Ok(())
    }

    fn haste(&self, core: usize) -> Haste {
        if self.have_one.borrow().contains(&core) {
            Haste::Ahead
        } else {
            Haste::Waited
        }
    }

    /// A recycled file of the right length; others are deleted.
    fn take_spare(&self, dir: &Path) -> io::Result<Option<PathBuf>> {
        for spare in spares(dir)? {
            if fs::metadata(&spare)?.len() == self.options.segment_bytes {
                return Ok(Some(spare));
            }
            fs::remove_file(&spare)?;
        }
        Ok(None)
    }

    fn free(&self, core: usize, segment: SegmentId) -> io::Result<()> {
        let dir = &self.cores[core].log_dir;
        let path = segment_path(dir, segment);
        if !path.exists() {
            return Ok(());
        }
        if spares(dir)?.len() < self.options.recycled_max {
            fs::rename(&path, dir.join(format!("{SPARE_PREFIX}{:016}", segment.0)))?;
        } else {
            fs::remove_file(&path)?;
        }
        sync_dir(dir)
    }
}

fn spares(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut spares = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(SPARE_PREFIX)
        {
            spares.push(entry.path());
        }
    }
    Ok(spares)
}

async fn write_zeros(path: &Path, bytes: u64, haste: Haste) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .dma_open(path)
        .await
        .map_err(io_error)?;
    let result = fill(&file, bytes, haste).await;
    file.close().await.map_err(io_error)?;
    result
}

async fn fill(file: &DmaFile, bytes: u64, haste: Haste) -> io::Result<()> {
    match file.pre_allocate(bytes, false).await.map_err(io_error) {
        // Not every file system can; the zeros allocate as well, only in smaller pieces.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        result => result?,
    }
    let chunk = CHUNK_BYTES.min(bytes);
    let mut zeros = file.alloc_dma_buffer(usize::try_from(chunk).unwrap_or(usize::MAX));
    zeros.as_bytes_mut().fill(0);
    let zeros = Rc::new(zeros);
    let mut offset = 0;
    while offset < bytes {
        let written = file
            .write_rc_at(Rc::clone(&zeros), offset)
            .await
            .map_err(io_error)? as u64;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written;
        if haste == Haste::Ahead {
            glommio::timer::sleep(REST).await;
        }
    }
    file.fdatasync().await.map_err(io_error)
}

fn io_error(error: glommio::GlommioError<()>) -> io::Error {
    error.into()
}
