//! Memory of a cache: zeros at first, in large pages where the kernel has them.
//!
//! A row that was not read for a while is in no cache of the CPU, and its page in none of the translations the CPU keeps:
//! in a virtual machine looking up a page of 4 KiB may cost more than the row itself. Pages of 2 MiB are few enough to be
//! kept.

use memmap2::{Advice, MmapMut};
use std::ops::{Deref, DerefMut};

/// Bytes that begin at a page. Takes memory from the kernel when it is written to.
#[derive(Debug)]
pub(super) struct Memory(Option<MmapMut>);

impl Memory {
    /// `bytes` of memory, or none if the kernel has not even the addresses for it.
    pub(super) fn new(bytes: usize) -> Self {
        if bytes == 0 {
            return Self(None);
        }
        match MmapMut::map_anon(bytes) {
            Ok(map) => {
                // Only advice: without large pages it works too.
                let _ = map.advise(Advice::HugePage);
                Self(Some(map))
            }
            Err(error) => {
                tracing::warn!(bytes, %error, "no memory for a cache of rows, doing without");
                Self(None)
            }
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}
