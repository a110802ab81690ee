//! Entries that the engine holds in memory only, kept while they are few: they can be appended to the log again, which is
//! cheaper than flushing a tiny table when they alone hold back the oldest segment.

use crate::ids::Decree;
use crate::log::REAPPEND_BYTES_MAX;
use crate::message::Entry;
use std::collections::VecDeque;

/// All entries from the flushed decree to the applied one, or none of them.
#[derive(Debug, Default)]
pub(crate) struct Unflushed {
    entries: VecDeque<Entry>,
    bytes: u64,
    /// Some entry that is not flushed was not kept, up to this decree.
    lost_to: Decree,
}

impl Unflushed {
    pub(crate) fn push(&mut self, entry: Entry) {
        self.bytes += Self::bytes_of(&entry);
        if self.bytes > REAPPEND_BYTES_MAX {
            self.lost_to = entry.decree;
            self.entries.clear();
            self.bytes = 0;
        } else {
            self.entries.push_back(entry);
        }
    }

    pub(crate) fn forget_to(&mut self, decree: Decree) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.decree <= decree)
        {
            let entry = self.entries.pop_front().expect("just seen");
            self.bytes = self.bytes.saturating_sub(Self::bytes_of(&entry));
        }
    }

    /// The entry of this decree, if it is at hand.
    pub(crate) fn entry(&self, decree: Decree) -> Option<&Entry> {
        let first = self.entries.front()?.decree;
        let index = usize::try_from(decree.0.checked_sub(first.0)?).ok()?;
        self.entries
            .get(index)
            .filter(|entry| entry.decree == decree && decree > self.lost_to)
    }

    fn bytes_of(entry: &Entry) -> u64 {
        entry.mutation.payload.len() as u64 + 80
    }
}
