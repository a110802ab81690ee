//! Point reads of rows that the row cache has, many at a time: without a copy, and with their waits for memory overlapping.
//!
//! ```text
//!   rows_of(partition) -> hint(rows, raw key), for each read -> approach(all hints) -> cached().find(hint, ..), for each read
//! ```

use super::RocksEngine;
use crate::row_cache::{ReplicaNumber, RowCache, RowHint};
use pegasus_replication::ids::PartitionId;
use std::cell::RefMut;

/// The rows of a replica in the row cache; good until the next call that takes the engine as `&mut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedRows(ReplicaNumber);

impl RocksEngine {
    /// Those of a replica that is here and in use, if any may be cached.
    #[must_use]
    pub fn rows_of(&self, partition: PartitionId) -> Option<CachedRows> {
        let open = self.replicas.get(&partition)?;
        let is_in_use = !open.handle.is_dropped() && open.handle.check().is_ok();
        is_in_use.then_some(CachedRows(open.number))
    }

    /// Where the row under this raw key would be.
    #[must_use]
    pub fn hint(rows: CachedRows, raw_key: &[u8]) -> RowHint {
        RowCache::hint(rows.0, raw_key)
    }

    /// Makes the look-ups of these rows quick: what is behind a `hint` lies in the CPU's caches then.
    pub fn approach(&self, hints: &[RowHint]) {
        self.rows.borrow().approach(hints);
    }

    /// The row cache, for looks into it. Nothing else may be read while it is held.
    #[must_use]
    pub fn cached(&self) -> CacheView<'_> {
        CacheView(self.rows.borrow_mut())
    }
}

/// The row cache of a core.
#[derive(Debug)]
pub struct CacheView<'a>(RefMut<'a, RowCache>);

impl CacheView<'_> {
    /// The data of the row under this raw key as of second `now_s`. `Some(None)`: it is missing or expired; `None`: the row
    /// cache does not know, see [`crate::Engine::get`].
    pub fn find(&mut self, hint: RowHint, raw_key: &[u8], now_s: u32) -> Option<Option<&[u8]>> {
        self.0.peek(hint, raw_key, now_s)
    }
}
