//! Time, which passes only when the test says so, and runs at another rate on each node.

use super::World;
use pegasus_replication::event::Event;
use pegasus_replication::ids::Instant;

impl World {
    /// Time passes; whoever has a deadline in it is woken at that time.
    pub(crate) fn advance(&mut self, nanos: u64) {
        let until = Instant(self.now.0 + nanos);
        loop {
            let due = |node: &u32| Some((self.due_of(*node)?, *node));
            match self.alive().iter().filter_map(due).min() {
                Some((at, node)) if at <= until => {
                    self.now = self.now.max(at);
                    self.feed(node, Event::Timeout);
                    let (still, local) = (self.due_of(node), self.local(node));
                    assert!(
                        still.is_none_or(|still| still > self.now),
                        "a deadline is gone once it is handled: {still:?} at {local:?}"
                    );
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// When somebody wants to be woken next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.nodes
            .keys()
            .filter_map(|node| self.due_of(*node))
            .min()
    }

    /// The clock of `node`.
    pub(crate) fn local(&self, node: u32) -> Instant {
        let rate = self.nodes.get(&node).map_or(1000, |node| node.rate);
        Instant(self.now.0 * rate / 1000)
    }

    /// When the clock of `node` reaches its deadline, unless it is paused.
    fn due_of(&self, node: u32) -> Option<Instant> {
        let node = self.nodes.get(&node).filter(|node| !node.is_paused)?;
        let local = node.shard.as_ref()?.deadline()?;
        Some(Instant((local.0 * 1000).div_ceil(node.rate)))
    }
}
