//! Links between the nodes, and what is under way on them.

use super::{World, address};
use pegasus_replication::event::Event;
use pegasus_replication::ids::CoreAddress;
use std::collections::VecDeque;

impl World {
    pub(crate) fn cut(&mut self, one: u32, other: u32) {
        if self.links_down.insert((one.min(other), one.max(other))) {
            self.wires.remove(&(one, other));
            self.wires.remove(&(other, one));
            self.tell_both(one, other, |peer| Event::PeerDown { peer });
        }
    }

    pub(crate) fn mend(&mut self, one: u32, other: u32) {
        if self.links_down.remove(&(one.min(other), one.max(other))) {
            self.tell_both(one, other, |peer| Event::PeerUp { peer });
        }
    }

    fn tell_both(&mut self, one: u32, other: u32, event: impl Fn(CoreAddress) -> Event) {
        if self.is_alive(one) && self.is_alive(other) {
            self.feed(one, event(address(other)));
            self.feed(other, event(address(one)));
        }
    }

    pub(super) fn is_cut(&self, one: u32, other: u32) -> bool {
        self.links_down.contains(&(one.min(other), one.max(other)))
    }

    /// Delivers the oldest message. False: none is under way.
    pub(crate) fn step_wire(&mut self, from: u32, to: u32) -> bool {
        let Some(message) = self
            .wires
            .get_mut(&(from, to))
            .and_then(VecDeque::pop_front)
        else {
            return false;
        };
        self.feed(
            to,
            Event::Message {
                from: address(from),
                message,
            },
        );
        true
    }
}
