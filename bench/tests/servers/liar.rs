//! Rows that are not always told as they are.

use crate::src::null_server::{Memory, Rows};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What is done wrong, about every tenth time it could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Acknowledges a write and does not do it.
    DropWrite,
    /// Answers a read with the value of the key that was read before.
    SwapAnswers,
    /// Answers a read with what was there before the last write.
    ReplayOlder,
    /// Answers a read with one bit changed.
    FlipBit,
    /// Answers a read of a row that exists as if it did not.
    NotFound,
}

/// One handle for the server, one for the test.
#[derive(Clone)]
pub(crate) struct Liar(Arc<Mutex<State>>);

type Key = (Vec<u8>, Vec<u8>);

#[derive(Default)]
struct State {
    lie: Option<Lie>,
    rows: HashMap<Vec<u8>, Memory>,
    /// All values that are there now.
    current: HashMap<Key, Vec<u8>>,
    before: HashMap<Key, Vec<u8>>,
    read_before: Option<Key>,
    chances: u64,
}

impl Liar {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// From now on.
    pub(crate) fn tell(&self, lie: Lie) {
        self.0.lock().unwrap().lie = Some(lie);
    }

    /// Everything that is there now.
    pub(crate) fn snapshot(&self) -> HashMap<Key, Vec<u8>> {
        self.0.lock().unwrap().current.clone()
    }

    /// What a server finds after a restart that loses all that is not in the snapshot.
    pub(crate) fn restart_with(&self, snapshot: HashMap<Key, Vec<u8>>) {
        let mut state = self.0.lock().unwrap();
        *state = State {
            lie: state.lie,
            ..State::default()
        };
        for ((hash_key, sort_key), value) in snapshot {
            state.keep(&hash_key, &sort_key, &value);
        }
    }
}

impl State {
    fn keep(&mut self, hash_key: &[u8], sort_key: &[u8], value: &[u8]) {
        let key = (hash_key.to_vec(), sort_key.to_vec());
        let before = self.current.insert(key.clone(), value.to_vec());
        self.before.extend(before.map(|value| (key, value)));
        self.rows
            .entry(hash_key.to_vec())
            .or_default()
            .put(hash_key, sort_key, value);
    }

    fn is_due(&mut self, lie: Lie) -> bool {
        if self.lie != Some(lie) {
            return false;
        }
        self.chances += 1;
        self.chances.is_multiple_of(10)
    }

    /// What is told about a row.
    fn told(&mut self, key: Key, value: Vec<u8>) -> Vec<u8> {
        let told = if self.is_due(Lie::SwapAnswers) {
            let other = self.read_before.as_ref().filter(|other| other.0 != key.0);
            other.and_then(|other| self.current.get(other)).cloned()
        } else if self.is_due(Lie::ReplayOlder) {
            self.before.get(&key).cloned()
        } else if self.is_due(Lie::FlipBit) {
            let mut flipped = value.clone();
            flipped[30] ^= 1;
            Some(flipped)
        } else {
            None
        };
        self.read_before = Some(key);
        told.unwrap_or(value)
    }
}

impl Rows for Liar {
    fn row(&mut self, hash_key: &[u8], sort_key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut state = self.0.lock().unwrap();
        let key = (hash_key.to_vec(), sort_key.to_vec());
        let value = state.current.get(&key)?.clone();
        if state.is_due(Lie::NotFound) {
            return None;
        }
        Some(Cow::Owned(state.told(key, value)))
    }

    fn put(&mut self, hash_key: &[u8], sort_key: &[u8], value: &[u8]) {
        let mut state = self.0.lock().unwrap();
        let exists = state
            .current
            .contains_key(&(hash_key.to_vec(), sort_key.to_vec()));
        if exists && state.is_due(Lie::DropWrite) {
            return;
        }
        state.keep(hash_key, sort_key, value);
    }

    fn range(
        &mut self,
        hash_key: &[u8],
        start: &[u8],
        stop: &[u8],
        rows_max: usize,
        take: &mut dyn FnMut(&[u8], &[u8]),
    ) {
        let mut state = self.0.lock().unwrap();
        if state.is_due(Lie::NotFound) {
            return;
        }
        let mut found = Vec::new();
        if let Some(rows) = state.rows.get_mut(hash_key) {
            rows.range(hash_key, start, stop, rows_max, &mut |sort_key, value| {
                found.push((sort_key.to_vec(), value.to_vec()));
            });
        }
        for (sort_key, value) in found {
            let told = state.told((hash_key.to_vec(), sort_key.clone()), value);
            take(&sort_key, &told);
        }
    }
}
