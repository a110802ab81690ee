//! Answers in the order of their commands: one slot for each command that has no answer out yet.

use super::keys::Touched;
use pegasus_resp::{Value, Version, encode_bulk, encode_value};
use std::collections::VecDeque;

/// The slots of a connection, oldest first. Bounded by the connection's window and, through [`Slots::held_bytes`], by what
/// its answers may pile up to.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Number of the oldest slot.
    first: u64,
    slots: VecDeque<Slot>,
    held_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    /// As agreed on when the command came.
    version: Version,
    /// Its answer, which waits for older ones.
    answer: Option<Vec<u8>>,
    /// Until it is answered.
    touched: Touched,
}

/// What a slot costs beside its answer.
const SLOT_BYTES: usize = 512;

impl Slots {
    /// A slot for the next command, which touches these keys.
    pub(super) fn open(&mut self, version: Version, touched: Touched) -> u64 {
        self.slots.push_back(Slot {
            version,
            answer: None,
            touched,
        });
        self.first + self.slots.len() as u64 - 1
    }

    /// Appends the answer to `output` if all before it are there, and those that have waited for it.
    /// Returns the keys that the command touched.
    pub(super) fn fill(&mut self, slot: u64, value: &Value, output: &mut Vec<u8>) -> Touched {
        self.fill_by(slot, output, |out, version| {
            encode_value(out, value, version)
        })
    }

    /// As [`Slots::fill`], with a string, which is copied once.
    pub(super) fn fill_bulk(&mut self, slot: u64, text: &[u8], output: &mut Vec<u8>) -> Touched {
        self.fill_by(slot, output, |out, _| encode_bulk(out, text))
    }

    fn fill_by(
        &mut self,
        slot: u64,
        output: &mut Vec<u8>,
        encode: impl FnOnce(&mut Vec<u8>, Version),
    ) -> Touched {
        let Some(offset) = slot.checked_sub(self.first) else {
            return Touched::default();
        };
        let index = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(found) = self.slots.get_mut(index) else {
            return Touched::default();
        };
        let touched = std::mem::take(&mut found.touched);
        if index > 0 {
            let mut bytes = Vec::new();
            encode(&mut bytes, found.version);
            self.held_bytes += bytes.len() + SLOT_BYTES;
            found.answer = Some(bytes);
            return touched;
        }
        encode(output, found.version);
        self.slots.pop_front();
        self.first += 1;
        self.release(output);
        touched
    }

    fn release(&mut self, output: &mut Vec<u8>) {
        while let Some(answer) = self.slots.front_mut().and_then(|slot| slot.answer.take()) {
            self.held_bytes -= answer.len() + SLOT_BYTES;
            output.extend_from_slice(&answer);
            self.slots.pop_front();
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.slots.shrink_to(SLOTS_KEPT);
        }
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// An idle connection keeps no more.
const SLOTS_KEPT: usize = 16;
