//! The keys of a connection's unanswered commands. Effects on one key are to be in the order of the commands, and reads and
//! writes go different ways: of two commands on one key of which one writes, the second is not asked for before the first
//! has its answer. Writes behind writes are, as reads behind reads: the node keeps writes of one key in order.

use crate::spread::Spread;
use pegasus_fbs::hash::key_hash;
use pegasus_redis::Calls;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What unanswered commands do, by hash of the key: two keys with one hash wait for each other without need.
#[derive(Debug, Default)]
pub(super) struct Keys {
    in_use: HashMap<u64, Uses, Spread>,
}

#[derive(Debug, Default)]
struct Uses {
    reads: u32,
    writes: u32,
}

/// The keys of one command.
#[derive(Debug, Default)]
pub(super) struct Touched {
    writes: bool,
    hashes: Hashes,
}

#[derive(Debug, Default)]
enum Hashes {
    #[default]
    None,
    One(u64),
    Several(Box<[u64]>),
}

impl Keys {
    /// Whether a command has to wait for the answers of others.
    pub(super) fn is_behind(&self, touched: &Touched) -> bool {
        let is_behind = |uses: &Uses| match touched.writes {
            true => uses.reads > 0,
            false => uses.writes > 0,
        };
        !self.in_use.is_empty()
            && touched
                .as_slice()
                .iter()
                .any(|hash| self.in_use.get(hash).is_some_and(is_behind))
    }

    /// A command is asked for.
    pub(super) fn add(&mut self, touched: &Touched) {
        for hash in touched.as_slice() {
            let uses = self.in_use.entry(*hash).or_default();
            *uses.of(touched.writes) += 1;
        }
    }

    /// It has its answer.
    pub(super) fn remove(&mut self, touched: &Touched) {
        for hash in touched.as_slice() {
            let Entry::Occupied(mut entry) = self.in_use.entry(*hash) else {
                continue;
            };
            *entry.get_mut().of(touched.writes) -= 1;
            if entry.get().reads == 0 && entry.get().writes == 0 {
                entry.remove();
            }
        }
        if self.in_use.is_empty() && self.in_use.capacity() > KEYS_KEPT {
            self.in_use = HashMap::default();
        }
    }
}

impl Uses {
    const fn of(&mut self, writes: bool) -> &mut u32 {
        if writes {
            &mut self.writes
        } else {
            &mut self.reads
        }
    }
}

impl Touched {
    /// A transaction counts as a write of its key, whatever is in it: it goes the way of writes.
    pub(super) fn of(calls: &Calls) -> Self {
        let mut hashes = Vec::new();
        let (writes, all) = match calls {
            Calls::One(call) => (call.spec.writes, std::slice::from_ref(call)),
            Calls::Transaction(calls) => (true, &calls[..]),
        };
        for call in all {
            let mut positions = call.key_positions();
            let (first, second) = (positions.next(), positions.next());
            if let (1, Some(at), None) = (all.len(), first, second) {
                let hashes = Hashes::One(key_hash(call.argument(at), b""));
                return Self { writes, hashes };
            }
            let positions = first.into_iter().chain(second).chain(positions);
            hashes.extend(positions.map(|at| key_hash(call.argument(at), b"")));
        }
        // One of each: a transaction names its key with every command.
        hashes.sort_unstable();
        hashes.dedup();
        let hashes = match hashes[..] {
            [] => Hashes::None,
            [hash] => Hashes::One(hash),
            _ => Hashes::Several(hashes.into()),
        };
        Self { writes, hashes }
    }

    fn as_slice(&self) -> &[u64] {
        match &self.hashes {
            Hashes::None => &[],
            Hashes::One(hash) => std::slice::from_ref(hash),
            Hashes::Several(hashes) => hashes,
        }
    }
}

/// Room for keys that an idle connection may keep.
const KEYS_KEPT: usize = 16;
