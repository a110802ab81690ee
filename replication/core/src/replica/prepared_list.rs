//! The prepared list: entries that are in the log and not yet both committed and applied, in decree order without gaps.

use crate::ids::{Ballot, Decree, Instant, Ticket};
use crate::message::Entry;
use std::collections::VecDeque;

/// The client that waits for a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) deadline: Instant,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) entry: Entry,
    /// Only on a primary; taken when the client is answered, whatever the answer.
    pub(crate) waiter: Option<Waiter>,
    /// The gate of a mutation that was taken from a client here; 0 for any other.
    pub(crate) gate: u64,
}

/// A window of the partition's order: everything up to `base` has been released, the slots follow without a gap.
#[derive(Debug)]
pub(crate) struct PreparedList {
    base: Decree,
    /// Ballot of the entry at `base`, kept because the next prepare is matched against it.
    base_ballot: Ballot,
    slots: VecDeque<Slot>,
    /// Stamps of what was released, as runs: the first decree of each, and its ballot. The last one ends at `base`.
    runs: VecDeque<(Decree, Ballot)>,
}

/// So many runs are remembered: a run is as long as a configuration.
const RUNS_MAX: usize = 64;

impl PreparedList {
    pub(crate) fn new(base: Decree, base_ballot: Ballot) -> Self {
        Self {
            base,
            base_ballot,
            slots: VecDeque::new(),
            runs: VecDeque::from([(base, base_ballot)]),
        }
    }

    /// Adds the next entry. Along decrees, ballots never fall.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.push_from_client(entry, None, 0);
    }

    /// The same for a mutation of this gate whose client waits.
    pub(crate) fn push_from_client(&mut self, entry: Entry, waiter: Option<Waiter>, gate: u64) {
        assert_eq!(entry.decree, self.last().next(), "prepared list: a gap");
        assert!(
            entry.ballot >= self.last_ballot(),
            "prepared list: ballots fall at decree {}",
            entry.decree
        );
        self.slots.push_back(Slot {
            entry,
            waiter,
            gate,
        });
    }

    /// The mutation at `decree` is prepared again, unchanged, under `ballot`. From the highest such entry downwards.
    pub(crate) fn restamp(&mut self, decree: Decree, ballot: Ballot) {
        let slot = self
            .slot_mut(decree)
            .expect("only held entries are prepared again");
        assert!(
            slot.entry.ballot < ballot,
            "prepared list: stamps only grow"
        );
        slot.entry.ballot = ballot;
    }

    /// Drops everything from `decree` on: void under a newer ballot.
    pub(crate) fn void_from(&mut self, decree: Decree) {
        assert!(
            decree > self.base,
            "prepared list: cannot void what was released"
        );
        let keep = self.position(decree).unwrap_or(self.slots.len());
        debug_assert!(
            self.slots
                .iter()
                .skip(keep)
                .all(|slot| slot.waiter.is_none()),
            "a client still waits for a void entry"
        );
        self.slots.truncate(keep);
    }

    /// Forgets everything up to `decree` and hands it over, in order. Nobody may wait for what is forgotten.
    pub(crate) fn release_to(&mut self, decree: Decree, mut keep: impl FnMut(Entry)) {
        while self
            .slots
            .front()
            .is_some_and(|slot| slot.entry.decree <= decree)
        {
            let slot = self.slots.pop_front().expect("just seen");
            assert!(
                slot.waiter.is_none(),
                "released entry {} with a client waiting",
                slot.entry.decree
            );
            if slot.entry.ballot != self.base_ballot {
                self.runs.push_back((slot.entry.decree, slot.entry.ballot));
            }
            self.base = slot.entry.decree;
            self.base_ballot = slot.entry.ballot;
            keep(slot.entry);
        }
        while self.runs.len() > RUNS_MAX {
            self.runs.pop_front();
        }
    }

    pub(crate) fn slot_mut(&mut self, decree: Decree) -> Option<&mut Slot> {
        let position = self.position(decree)?;
        self.slots.get_mut(position)
    }

    pub(crate) fn slots_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Everything above `decree`, the newest first.
    pub(crate) fn newest_above(&self, decree: Decree) -> impl Iterator<Item = &Slot> {
        let newest = self.slots.iter().rev();
        newest.take_while(move |slot| slot.entry.decree > decree)
    }

    pub(crate) fn waiting_ticket(&self, decree: Decree) -> Option<Ticket> {
        let slot = self.slots.get(self.position(decree)?)?;
        slot.waiter.map(|waiter| waiter.ticket)
    }

    pub(crate) fn entry(&self, decree: Decree) -> Option<&Entry> {
        self.slots
            .get(self.position(decree)?)
            .map(|slot| &slot.entry)
    }

    /// Ballot of the entry at `decree`, if it is still known here.
    pub(crate) fn stamp(&self, decree: Decree) -> Option<Ballot> {
        if decree == self.base {
            return Some(self.base_ballot);
        }
        self.entry(decree).map(|entry| entry.ballot)
    }

    /// The same, also of an entry that was released in this life, as far as stamps of those are remembered.
    pub(crate) fn stamp_ever(&self, decree: Decree) -> Option<Ballot> {
        if decree >= self.base {
            return self.stamp(decree);
        }
        let after = self.runs.partition_point(|(first, _)| *first <= decree);
        Some(self.runs.get(after.checked_sub(1)?)?.1)
    }

    pub(crate) fn base(&self) -> Decree {
        self.base
    }

    /// The last decree held; `base` when nothing is.
    pub(crate) fn last(&self) -> Decree {
        self.slots
            .back()
            .map_or(self.base, |slot| slot.entry.decree)
    }

    pub(crate) fn last_ballot(&self) -> Ballot {
        self.slots
            .back()
            .map_or(self.base_ballot, |slot| slot.entry.ballot)
    }

    fn position(&self, decree: Decree) -> Option<usize> {
        let distance = decree.0.checked_sub(self.base.0)?.checked_sub(1)?;
        let position = usize::try_from(distance).ok()?;
        (position < self.slots.len()).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RequestId;
    use crate::message::Mutation;
    use bytes::Bytes;

    fn entry(ballot: u64, decree: u64) -> Entry {
        let mutation = Mutation {
            timestamp_us: decree,
            request_id: RequestId::default(),
            payload: Bytes::new(),
        };
        Entry {
            ballot: Ballot(ballot),
            decree: Decree(decree),
            mutation,
        }
    }

    fn list(base: u64, stamps: &[u64]) -> PreparedList {
        let mut list = PreparedList::new(Decree(base), Ballot(1));
        for (decree, stamp) in (base + 1..).zip(stamps) {
            list.push(entry(*stamp, decree));
        }
        list
    }

    #[test]
    fn stamps_are_known_from_the_base_to_the_last_entry() {
        let list = list(4, &[2, 2, 3]);
        assert_eq!(list.stamp(Decree(3)), None);
        assert_eq!(list.stamp(Decree(4)), Some(Ballot(1)));
        assert_eq!(list.stamp(Decree(7)), Some(Ballot(3)));
        assert_eq!(list.stamp(Decree(8)), None);
    }

    #[test]
    fn release_keeps_the_stamp_of_the_last_released_entry() {
        let mut list = list(0, &[2, 3, 3]);
        list.release_to(Decree(2), drop);
        assert_eq!(
            (list.base(), list.stamp(Decree(2)), list.last()),
            (Decree(2), Some(Ballot(3)), Decree(3))
        );
        list.release_to(Decree(9), drop);
        assert_eq!((list.base(), list.last_ballot()), (Decree(3), Ballot(3)));
    }

    #[test]
    fn stamps_of_released_entries_are_remembered_as_far_back_as_this_life_goes() {
        let mut list = list(4, &[1, 2, 2, 5]);
        list.release_to(Decree(7), drop);
        let known = |decree| list.stamp_ever(Decree(decree)).map(|ballot| ballot.0);
        assert_eq!(
            (3..=9).map(known).collect::<Vec<_>>(),
            [None, Some(1), Some(1), Some(2), Some(2), Some(5), None]
        );
        assert_eq!(list.stamp(Decree(5)), None);
    }

    #[test]
    fn no_more_than_so_many_runs_are_remembered() {
        let stamps: Vec<u64> = (2..200).collect();
        let mut list = list(0, &stamps);
        list.release_to(Decree(198), drop);
        assert_eq!(list.runs.len(), RUNS_MAX);
        assert_eq!(list.stamp_ever(Decree(134)), None);
        assert_eq!(list.stamp_ever(Decree(135)), Some(Ballot(136)));
    }

    #[test]
    fn void_cuts_the_tail_and_only_the_tail() {
        let mut list = list(0, &[1, 1, 2]);
        list.void_from(Decree(4));
        assert_eq!(list.last(), Decree(3));
        list.void_from(Decree(2));
        assert_eq!((list.last(), list.last_ballot()), (Decree(1), Ballot(1)));
    }

    #[test]
    fn restamp_goes_from_the_last_entry_downwards() {
        let mut list = list(0, &[1, 1, 2]);
        list.restamp(Decree(3), Ballot(5));
        list.restamp(Decree(2), Ballot(5));
        assert_eq!(
            list.slots()
                .map(|slot| slot.entry.ballot.0)
                .collect::<Vec<_>>(),
            [1, 5, 5]
        );
    }

    #[test]
    #[should_panic(expected = "a gap")]
    fn a_gap_is_refused() {
        list(0, &[1]).push(entry(1, 3));
    }

    #[test]
    #[should_panic(expected = "ballots fall")]
    fn falling_ballots_are_refused() {
        list(0, &[3]).push(entry(2, 2));
    }
}
