//! The few things that happen later: none of them is cancelled, each checks whether it still matters.

use crate::connection::ConnectionId;
use crate::options::PeerId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Accept on this listener again.
    Accept(u64),
    /// The handshake of this connection must be over.
    Handshake(ConnectionId),
    /// Dial this peer.
    Dial(PeerId),
    /// Look for clients that do not read.
    Readers,
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BinaryHeap<Reverse<(Instant, Timer)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.due.push(Reverse((at, timer)));
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let Reverse((at, timer)) = *self.due.peek()?;
        if at > now {
            return None;
        }
        self.due.pop();
        Some(timer)
    }

    /// How long nothing is due.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.due.peek().map_or(Duration::MAX, |Reverse((at, _))| {
            at.saturating_duration_since(now)
        })
    }
}
