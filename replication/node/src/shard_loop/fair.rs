//! A queue that shares a core between tables by the time that their requests take.
//!
//! Deficit round robin (Shreedhar and Varghese 1995): tables with requests take turns, and each turn is worth a quantum of
//! the core's time. What a request costs is known only when it is done, so it is charged then, and a table in debt is
//! passed over until its turns have paid for it. A table that had nothing waiting while all others had their turn goes
//! first (as new flows do in FQ-CoDel, RFC 8290): one that asks little never waits behind one that asks a lot.
//!
//! Tables share a flow if their numbers are equal modulo [`FLOWS`]; numbers are given one after the other, so that happens
//! to few. All operations cost the same however many tables there are, except that debts are paid off turn by turn.

use std::collections::VecDeque;
use std::time::Duration;

/// Flows of a queue.
pub(super) const FLOWS: usize = 256;
/// What a turn is worth: some 20 point reads.
const QUANTUM_NS: i64 = 50_000;
/// No table is made to wait for more of its turns than this is worth, whatever it has cost.
const DEBT_MAX_NS: i64 = 5_000_000;

/// A fair queue of `T`.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    flows: Vec<Flow<T>>,
    /// Flows in which something waits; the first one's turn it is.
    turns: VecDeque<u8>,
    /// Turns that have ended.
    ended: u64,
    len: usize,
}

#[derive(Debug)]
struct Flow<T> {
    waiting: VecDeque<T>,
    credit_ns: i64,
    /// Turns that had ended when nothing was left here.
    left_at: u64,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        let flow = || Flow {
            waiting: VecDeque::new(),
            credit_ns: QUANTUM_NS,
            left_at: 0,
        };
        Self {
            flows: std::iter::repeat_with(flow).take(FLOWS).collect(),
            turns: VecDeque::new(),
            ended: 0,
            len: 0,
        }
    }
}

impl<T> FairQueue<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of this table wait.
    #[must_use]
    pub(super) fn len_of(&self, table: u32) -> usize {
        self.flows[flow_of(table)].waiting.len()
    }

    pub(super) fn push(&mut self, table: u32, item: T) {
        let index = flow_of(table);
        let flow = &mut self.flows[index];
        if flow.waiting.is_empty() {
            let place = u8::try_from(index).expect("there are 256 flows");
            // Whoever waits now has had a turn since.
            if self.ended - flow.left_at >= self.turns.len() as u64 {
                flow.credit_ns = QUANTUM_NS;
                self.turns.push_front(place);
            } else {
                self.turns.push_back(place);
            }
        }
        flow.waiting.push_back(item);
        self.len += 1;
    }

    /// The next one, and its table's flow for [`Self::charge`].
    pub(super) fn pop(&mut self) -> Option<T> {
        loop {
            let index = usize::from(*self.turns.front()?);
            let is_alone = self.turns.len() == 1;
            let flow = &mut self.flows[index];
            if flow.credit_ns <= 0 {
                flow.credit_ns += QUANTUM_NS;
                self.ended += 1;
                if is_alone {
                    flow.credit_ns = QUANTUM_NS;
                }
                self.turns.rotate_left(1);
                continue;
            }
            let item = flow.waiting.pop_front();
            self.len -= 1;
            if flow.waiting.is_empty() {
                flow.left_at = self.ended;
                self.turns.pop_front();
            }
            return item;
        }
    }

    /// Something of this table, in the queue or not, has taken so much of the core's time.
    #[inline]
    pub(super) fn charge(&mut self, table: u32, cost: Duration) {
        let flow = &mut self.flows[flow_of(table)];
        let cost_ns = i64::try_from(cost.as_nanos()).unwrap_or(DEBT_MAX_NS);
        flow.credit_ns = (flow.credit_ns - cost_ns.min(DEBT_MAX_NS)).max(-DEBT_MAX_NS);
    }
}

const fn flow_of(table: u32) -> usize {
    table as usize % FLOWS
}

#[cfg(test)]
mod tests;
