//! The memory allocator of the node, Rust's and RocksDB's side alike: jemalloc (decision 19 says why, with the measurements).
//!
//! It takes the place of the C library's `malloc` in the whole process, so that a block which one side allocates and the other frees, and the
//! block cache, which is nearly all there is, come from the same arenas.

use tikv_jemalloc_ctl::{background_thread, epoch, stats};

/// The allocator; named here so that every program and test of this package has it.
#[global_allocator]
static JEMALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the process has from the kernel, and what of it is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapUse {
    /// Bytes of blocks in use.
    pub allocated_bytes: u64,
    /// Bytes of pages that the allocator holds, those it would give back soon included.
    pub resident_bytes: u64,
}

/// Gives memory back to the kernel on threads of the allocator's own, instead of on the thread that happens to free: a data core then never waits for
/// the kernel to take pages away. They run where the calling thread may run.
pub fn start_background_threads() {
    if let Err(error) = background_thread::write(true) {
        tracing::warn!(%error, "the allocator has no thread of its own, memory is given back by data threads");
    }
}

/// What is in use now; `None` if the allocator does not tell.
#[must_use]
pub fn heap_use() -> Option<HeapUse> {
    epoch::advance().ok()?;
    Some(HeapUse {
        allocated_bytes: stats::allocated::read().ok()? as u64,
        resident_bytes: stats::resident::read().ok()? as u64,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn memory_of_c_comes_from_the_same_allocator() {
        let before = heap_use().unwrap().allocated_bytes;
        // The window and the tables of this level are tens of MiB that zstd, in C, allocates when it sees the first byte.
        let mut context = zstd_safe::CCtx::create();
        context.init(19).unwrap();
        let mut out = vec![0_u8; 1024];
        let mut output = zstd_safe::OutBuffer::around(&mut out[..]);
        let mut input = zstd_safe::InBuffer::around(&b"x"[..]);
        context.compress_stream(&mut output, &mut input).unwrap();
        let after = heap_use().unwrap().allocated_bytes;
        assert!(after > before + (8 << 20), "{before} {after}");
    }

    #[test]
    fn what_is_in_use_is_part_of_what_is_held() {
        let heap = heap_use().unwrap();
        assert!(heap.allocated_bytes > 0 && heap.allocated_bytes <= heap.resident_bytes);
    }
}
