//! A file mapped as atomic words: the one place where the statistics page needs `unsafe`.

use memmap2::{MmapMut, MmapOptions};
use pegasus_fbs::stats_page::{PAGE_BYTES, PAGE_WORDS};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A mapped statistics page.
///
/// Clones share the mapping, so that other threads of the node can read what its core writes.
#[derive(Clone, Debug)]
pub(super) struct PageMap {
    map: Arc<MmapMut>,
}

impl PageMap {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        // All blocks are allocated now: a store to a hole on a full disk would end the process with SIGBUS.
        (&file).write_all(&[0; PAGE_BYTES])?;
        file.set_len(PAGE_BYTES as u64)?;
        // SAFETY: the directory is locked by this process, nobody else truncates the file; readers use `read`.
        let map = unsafe { MmapOptions::new().len(PAGE_BYTES).map_mut(&file) }?;
        Ok(Self { map: Arc::new(map) })
    }
}

impl AsRef<[AtomicU64]> for PageMap {
    fn as_ref(&self) -> &[AtomicU64] {
        let words = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: the map is page-aligned, `PAGE_BYTES` = 8 x `PAGE_WORDS` long, writable, lives as long as `self`, and is
        // only ever accessed through these atomics.
        unsafe { std::slice::from_raw_parts(words, PAGE_WORDS) }
    }
}
