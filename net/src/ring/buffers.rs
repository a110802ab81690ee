//! The provided-buffer ring: receive buffers that a connection holds only between a completion and its decoding, so that
//! an idle connection costs none.

use super::probe::StartError;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

pub(super) const BUFFER_GROUP: u16 = 0;
const BUFFER_BYTES: usize = 16 << 10;
const PAGE_BYTES: usize = 4096;

/// Received bytes in a buffer of the pool. Exactly one exists for a buffer that the kernel has given out.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// `None`: nothing was received, so no buffer was used.
    buffer: Option<u16>,
    length: usize,
}

impl Chunk {
    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

pub(super) struct ReceiveBuffers {
    entries: NonNull<BufRingEntry>,
    entries_layout: Layout,
    memory: NonNull<u8>,
    memory_layout: Layout,
    count: u16,
    /// Our end of the ring; the kernel reads its copy behind `entries`.
    tail: u16,
    leaked: bool,
}

impl ReceiveBuffers {
    /// Allocates `count` buffers (a power of two) and gives them all to the kernel.
    pub(super) fn register(uring: &IoUring, count: u16) -> Result<Self, StartError> {
        assert!(
            count.is_power_of_two(),
            "receive_buffers = {count} is not a power of two"
        );
        let entries_layout = layout(usize::from(count) * size_of::<BufRingEntry>());
        let memory_layout = layout(usize::from(count) * BUFFER_BYTES);
        let mut buffers = Self {
            entries: allocate(entries_layout).cast(),
            entries_layout,
            memory: allocate(memory_layout),
            memory_layout,
            count,
            tail: 0,
            leaked: false,
        };
        let address = buffers.entries.as_ptr() as u64;
        // SAFETY: the entries are page-aligned, zeroed, `count` long, and outlive the registration: `unregister` comes
        // before `drop`.
        let registered = unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0)
        };
        registered.map_err(|error| StartError::of_setup(&error))?;
        for buffer in 0..count {
            buffers.provide(buffer);
        }
        Ok(buffers)
    }

    /// What a receive has put into the buffer that the kernel chose.
    pub(super) fn chunk(&self, buffer: Option<u16>, length: u32) -> Chunk {
        let length = usize::try_from(length).map_or(0, |length| length.min(BUFFER_BYTES));
        match buffer {
            Some(buffer) if buffer < self.count => Chunk {
                buffer: Some(buffer),
                length,
            },
            _ => Chunk {
                buffer: None,
                length: 0,
            },
        }
    }

    pub(super) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        let Some(buffer) = chunk.buffer else {
            return &[];
        };
        // SAFETY: `buffer < count`, so the offset lies within the allocation.
        let start = unsafe { self.memory.add(usize::from(buffer) * BUFFER_BYTES) };
        // SAFETY: at most BUFFER_BYTES from `start` are in the allocation and initialised (zeroed at first); the kernel
        // does not write to a buffer it has given out, and the chunk proves that it has not been given back.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), chunk.length) }
    }

    pub(super) fn give_back(&mut self, chunk: Chunk) {
        if let Some(buffer) = chunk.buffer {
            self.provide(buffer);
        }
    }

    fn provide(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `buffer < count`, so the offset lies within the allocation.
        let address = unsafe { self.memory.add(usize::from(buffer) * BUFFER_BYTES) };
        // SAFETY: `slot < count`, so the entry lies within the allocation.
        let mut entry = unsafe { self.entries.add(slot) };
        // SAFETY: the kernel reads entries between its head and the published tail only; this one is outside, because
        // no more than `count` buffers exist. The first entry's reserved field is the tail: the setters leave it alone.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address.as_ptr() as u64);
        #[allow(clippy::cast_possible_truncation, reason = "16 KiB")]
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.publish();
    }

    fn publish(&self) {
        // SAFETY: `entries` points to the first entry of the registered ring.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the field is two aligned bytes inside the allocation, shared with the kernel and changed by us alone.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the entry is written before the kernel can see it.
        tail.store(self.tail, Ordering::Release);
    }

    /// The kernel may still write: keep the memory for ever.
    pub(super) const fn leak(&mut self) {
        self.leaked = true;
    }

    pub(super) fn unregister(&mut self, uring: &IoUring) {
        if uring.submitter().unregister_buf_ring(BUFFER_GROUP).is_err() {
            self.leaked = true;
        }
    }
}

impl Drop for ReceiveBuffers {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: allocated with this layout, unregistered by now, and freed only here.
        unsafe { dealloc(self.entries.as_ptr().cast(), self.entries_layout) };
        // SAFETY: as above.
        unsafe { dealloc(self.memory.as_ptr(), self.memory_layout) };
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.max(PAGE_BYTES), PAGE_BYTES)
        .expect("a few MiB with page alignment are a layout")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    // SAFETY: `layout` makes it at least a page, so the size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
