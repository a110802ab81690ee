//! What the null server stores.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Rows by hash key and sort key.
pub(crate) trait Rows {
    /// The value of a row.
    fn row(&mut self, hash_key: &[u8], sort_key: &[u8]) -> Option<Cow<'_, [u8]>>;

    fn put(&mut self, hash_key: &[u8], sort_key: &[u8], value: &[u8]);

    /// Hands up to `rows_max` rows (sort key, value) of a hash key to `take`, ascending, from `start` on and before `stop`
    /// (empty: to the end).
    fn range(
        &mut self,
        hash_key: &[u8],
        start: &[u8],
        stop: &[u8],
        rows_max: usize,
        take: &mut dyn FnMut(&[u8], &[u8]),
    );
}

/// Remembers everything, as it is.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    rows: HashMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Rows for Memory {
    fn row(&mut self, hash_key: &[u8], sort_key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let value = self.rows.get(hash_key)?.get(sort_key)?;
        Some(Cow::Borrowed(value))
    }

    fn put(&mut self, hash_key: &[u8], sort_key: &[u8], value: &[u8]) {
        if !self.rows.contains_key(hash_key) {
            self.rows.insert(hash_key.to_vec(), BTreeMap::new());
        }
        let Some(rows) = self.rows.get_mut(hash_key) else {
            return;
        };
        if let Some(present) = rows.get_mut(sort_key) {
            present.clear();
            present.extend_from_slice(value);
        } else {
            rows.insert(sort_key.to_vec(), value.to_vec());
        }
    }

    fn range(
        &mut self,
        hash_key: &[u8],
        start: &[u8],
        stop: &[u8],
        rows_max: usize,
        take: &mut dyn FnMut(&[u8], &[u8]),
    ) {
        let Some(rows) = self.rows.get(hash_key) else {
            return;
        };
        rows.range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded))
            .take_while(|(sort_key, _)| stop.is_empty() || &sort_key[..] < stop)
            .take(rows_max)
            .for_each(|(sort_key, value)| take(sort_key, value));
    }
}
