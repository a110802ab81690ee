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

    /// The entries `first..=last`, if all of them are at hand.
    pub(crate) fn range(
        &self,
        first: Decree,
        last: Decree,
    ) -> Option<impl Iterator<Item = &Entry>> {
        let held_from = self.entries.front().map(|entry| entry.decree)?;
        let held_to = self.entries.back().map(|entry| entry.decree)?;
        let complete = first > self.lost_to && first >= held_from && last <= held_to;
        complete.then(|| {
            self.entries
                .iter()
                .filter(move |entry| entry.decree >= first && entry.decree <= last)
        })
    }

    fn bytes_of(entry: &Entry) -> u64 {
        entry.mutation.payload.len() as u64 + 80
    }
}
