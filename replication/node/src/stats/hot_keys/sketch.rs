//! The keys of a stream that come most often, in a fixed space: Space-Saving (Metwally, Agrawal and El Abbadi 2005), with
//! weights.
//!
//! A key that is not there takes the place of the one with the least count, and inherits it as its error. With `W` the
//! weight of all that was added and `K` [`KEYS`]: no count is too small, none is too large by more than its error, no error
//! is larger than `W / K`, and every key with more than `W / K` is there.
//!
//! Keys are told apart by their hash, table and partition; of two keys of a table that have one hash, the first gives its
//! name to both. Looked up by a scan over the hashes: as fast as a map for so few, and the least is found likewise.

use pegasus_replication::ids::{PartitionId, TableId};

/// Keys of one sketch.
pub(super) const KEYS: usize = 128;
/// Bytes of a key that are kept.
pub(super) const KEY_BYTES_MAX: usize = 128;

/// A sketch of [`KEYS`] keys, about 20 KiB, all of it allocated when it is made.
#[derive(Debug)]
pub(super) struct Sketch {
    /// Of those that are used: all four are as long.
    hashes: Vec<u64>,
    counts: Vec<u64>,
    errors: Vec<u64>,
    names: Vec<Name>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    partition: PartitionId,
    key_bytes: u32,
    key: [u8; KEY_BYTES_MAX],
}

/// A key and what was counted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) partition: PartitionId,
    /// Cut after [`KEY_BYTES_MAX`].
    pub(super) key: Vec<u8>,
    pub(super) key_bytes: u32,
    /// At most so much was added for it ...
    pub(super) count: u64,
    /// ... and at least so much less.
    pub(super) error: u64,
    hash: u64,
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            hashes: Vec::with_capacity(KEYS),
            counts: Vec::with_capacity(KEYS),
            errors: Vec::with_capacity(KEYS),
            names: Vec::with_capacity(KEYS),
        }
    }
}

impl Sketch {
    pub(super) fn add(&mut self, partition: PartitionId, key: &[u8], hash: u64, weight: u64) {
        let hash = mixed(hash, partition.table);
        if let Some(at) = self.hashes.iter().position(|it| *it == hash) {
            self.counts[at] += weight;
            return;
        }
        if self.hashes.len() < KEYS {
            self.hashes.push(hash);
            self.counts.push(weight);
            self.errors.push(0);
            self.names.push(Name::of(partition, key));
            return;
        }
        let least = self.least();
        self.hashes[least] = hash;
        self.errors[least] = self.counts[least];
        self.counts[least] += weight;
        self.names[least] = Name::of(partition, key);
    }

    pub(super) fn clear(&mut self) {
        self.hashes.clear();
        self.counts.clear();
        self.errors.clear();
        self.names.clear();
    }

    /// What this sketch and another one counted together, of the keys of both.
    pub(super) fn with(&self, other: &Self) -> Vec<Counted> {
        let mut all: Vec<Counted> = self.counted().collect();
        let (floor, other_floor) = (self.floor(), other.floor());
        let mut was_met = vec![false; all.len()];
        for it in other.counted() {
            match self.hashes.iter().position(|hash| *hash == it.hash) {
                Some(at) => {
                    was_met[at] = true;
                    all[at].count += it.count;
                    all[at].error += it.error;
                }
                // It may have been here, and was forgotten.
                None => all.push(Counted {
                    count: it.count + floor,
                    error: it.error + floor,
                    ..it
                }),
            }
        }
        for (it, was_met) in all.iter_mut().zip(was_met) {
            if !was_met {
                it.count += other_floor;
                it.error += other_floor;
            }
        }
        all
    }

    fn counted(&self) -> impl Iterator<Item = Counted> {
        self.names.iter().enumerate().map(|(at, name)| Counted {
            partition: name.partition,
            key: name.kept().to_vec(),
            key_bytes: name.key_bytes,
            count: self.counts[at],
            error: self.errors[at],
            hash: self.hashes[at],
        })
    }

    /// At most so much was added for a key that is not here.
    fn floor(&self) -> u64 {
        match self.hashes.len() {
            KEYS => self.counts[self.least()],
            _ => 0,
        }
    }

    fn least(&self) -> usize {
        let counts = self.counts.iter().enumerate();
        counts
            .min_by_key(|(_, count)| **count)
            .map_or(0, |(at, _)| at)
    }
}

impl Name {
    fn of(partition: PartitionId, key: &[u8]) -> Self {
        let kept = &key[..key.len().min(KEY_BYTES_MAX)];
        let mut name = Self {
            partition,
            key_bytes: u32::try_from(key.len()).unwrap_or(u32::MAX),
            key: [0; KEY_BYTES_MAX],
        };
        name.key[..kept.len()].copy_from_slice(kept);
        name
    }

    fn kept(&self) -> &[u8] {
        &self.key[..(self.key_bytes as usize).min(KEY_BYTES_MAX)]
    }
}

/// One key in two tables is two keys.
const fn mixed(hash: u64, table: TableId) -> u64 {
    hash ^ (table.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;
