//! Buffers that O_DIRECT accepts: they start at a page and their length is a multiple of one.

/// What O_DIRECT wants of addresses, offsets and lengths on every drive we support.
pub const BLOCK_BYTES: usize = 4096;

/// Bytes that start at a page boundary. Grows by appending, up to the capacity it was made with.
#[derive(Debug)]
pub struct AlignedBuf {
    /// One block longer than the capacity, so that an aligned start exists in it.
    storage: Box<[u8]>,
    start: usize,
    length: usize,
}

impl AlignedBuf {
    /// An empty buffer for at least `capacity` bytes, rounded up to whole blocks.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = capacity.max(1).next_multiple_of(BLOCK_BYTES);
        let storage = vec![0; capacity + BLOCK_BYTES].into_boxed_slice();
        let start = storage.as_ptr().align_offset(BLOCK_BYTES);
        Self {
            storage,
            start,
            length: 0,
        }
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// If they do not fit: the caller knows how much it writes before it asks for a buffer.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        assert!(
            self.length + bytes.len() <= self.capacity(),
            "aligned buffer of {} bytes overflows",
            self.capacity()
        );
        let from = self.start + self.length;
        self.storage[from..from + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Fills the last block with zeros, so that the length is a multiple of [`BLOCK_BYTES`].
    pub fn pad_to_block(&mut self) {
        let padded = self.length.next_multiple_of(BLOCK_BYTES);
        self.storage[self.start + self.length..self.start + padded].fill(0);
        self.length = padded;
    }

    pub fn clear(&mut self) {
        self.length = 0;
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.storage[self.start..self.start + self.length]
    }

    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.length]
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.storage.len() - BLOCK_BYTES
    }
}

/// Used buffers of a core, so that a log write costs no allocation and no page faults.
#[derive(Debug, Default)]
pub(crate) struct AlignedPool {
    free: Vec<AlignedBuf>,
}

/// Two writes in flight, one being filled, one spare.
const POOLED_MAX: usize = 4;
/// A rare huge batch does not stay in memory.
const POOLED_BYTES_MAX: usize = 4 << 20;

impl AlignedPool {
    pub(crate) fn take(&mut self, capacity: usize) -> AlignedBuf {
        let found = self
            .free
            .iter()
            .position(|buffer| buffer.capacity() >= capacity);
        found.map_or_else(
            || AlignedBuf::with_capacity(capacity.next_power_of_two()),
            |index| self.free.swap_remove(index),
        )
    }

    pub(crate) fn put(&mut self, mut buffer: AlignedBuf) {
        if buffer.capacity() > POOLED_BYTES_MAX {
            return;
        }
        buffer.clear();
        if self.free.len() < POOLED_MAX {
            self.free.push(buffer);
            return;
        }
        // The larger one serves more requests.
        if let Some(smallest) = self.free.iter_mut().min_by_key(|pooled| pooled.capacity())
            && smallest.capacity() < buffer.capacity()
        {
            *smallest = buffer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_a_page_and_pad_to_whole_blocks() {
        for capacity in [0, 1, 4095, 4096, 4097, 1 << 20] {
            let mut buffer = AlignedBuf::with_capacity(capacity);
            assert!(buffer.capacity() >= capacity);
            buffer.extend_from_slice(&vec![7; capacity]);
            buffer.pad_to_block();
            assert_eq!(buffer.as_slice().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert_eq!(buffer.len() % BLOCK_BYTES, 0);
            assert_eq!(buffer.as_slice()[..capacity], vec![7; capacity]);
        }
    }

    #[test]
    fn padding_of_a_reused_buffer_is_zero_again() {
        let mut pool = AlignedPool::default();
        let mut buffer = pool.take(4096);
        buffer.extend_from_slice(&[9; 4096]);
        pool.put(buffer);
        let mut buffer = pool.take(100);
        buffer.extend_from_slice(&[1; 10]);
        buffer.pad_to_block();
        assert_eq!(buffer.as_slice()[10..], [0; 4086]);
    }
}
