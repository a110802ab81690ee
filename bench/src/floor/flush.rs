//! The cheapest durable write: overwrite one block of a file whose blocks are all written, then `fdatasync`. Nothing of
//! the file system's own has to be written with it.

use crate::histogram::Latency;
use anyhow::Context as _;
use pegasus_host::blocks::{AlignedBuffer, DirectFile};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(super) use pegasus_host::blocks::BLOCK_BYTES;
/// Blocks of the file, written round and round.
pub(super) const BLOCKS: u64 = 4096;

/// A file of written blocks, opened with O_DIRECT; it is deleted when this is dropped.
#[derive(Debug)]
pub(super) struct Blocks {
    file: DirectFile,
    path: PathBuf,
    block: AlignedBuffer,
    next: u64,
}

/// What durable overwrites took: whole, and in their two parts.
#[derive(Debug)]
pub(super) struct Flushes {
    pub(super) whole: Latency,
    write: Latency,
    sync: Latency,
}

impl Flushes {
    /// Median of the write plus median of the sync, in microseconds: the figure that `fio` has too. The median of the whole
    /// is larger when the times are skewed, as on a busy machine.
    pub(super) fn p50_us_by_parts(&self) -> f64 {
        self.write.at_us(0.5) + self.sync.at_us(0.5)
    }
}

impl Blocks {
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(format!(
            "pegasus-bench-floor-{}-{:?}.tmp",
            std::process::id(),
            std::thread::current().id()
        ));
        let file = DirectFile::named(&path)
            .with_context(|| format!("{}: cannot open with O_DIRECT", path.display()))?;
        let mut blocks = Self {
            file,
            path,
            block: AlignedBuffer::new(BLOCK_BYTES)?,
            next: 0,
        };
        for _ in 0..BLOCKS {
            blocks.write()?;
        }
        blocks.sync()?;
        Ok(blocks)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Durable overwrites, one at a time, for so long.
    pub(super) fn measure(&mut self, duration: Duration) -> anyhow::Result<Flushes> {
        let mut flushes = Flushes {
            whole: Latency::new(),
            write: Latency::new(),
            sync: Latency::new(),
        };
        let end = Instant::now() + duration;
        loop {
            let start = Instant::now();
            if start >= end {
                return Ok(flushes);
            }
            self.write()?;
            let written = start.elapsed();
            self.sync()?;
            let whole = start.elapsed();
            flushes.whole.record(whole);
            flushes.write.record(written);
            flushes.sync.record(whole.saturating_sub(written));
        }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.file
            .write_at(&self.block, self.next * BLOCK_BYTES as u64)
            .with_context(|| self.path.display().to_string())?;
        self.next = (self.next + 1) % BLOCKS;
        Ok(())
    }

    fn sync(&self) -> anyhow::Result<()> {
        self.file
            .sync()
            .with_context(|| self.path.display().to_string())
    }
}
