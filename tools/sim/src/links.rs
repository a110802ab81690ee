//! Who connects to whom, and who learns when of a link that breaks.

use crate::action::Action;
use crate::history::Violation;
use crate::network::{LinkId, Pair, Way};
use crate::world::World;
use pegasus_replication::event::Event;
use pegasus_replication::ids::CoreAddress;
use pegasus_replication::message::Message;
use std::ops::Range;
use std::time::Duration;

const CONNECT_DELAY: Range<Duration> = Duration::from_micros(100)..Duration::from_millis(50);
const RECONNECT_DELAY: Range<Duration> = Duration::from_millis(1)..Duration::from_millis(200);
/// After what time without a sign a link over a blocked way breaks.
const GIVE_UP: Range<Duration> = Duration::from_millis(500)..Duration::from_secs(10);

impl World {
    pub(crate) fn deliver(
        &mut self,
        link: LinkId,
        from: CoreAddress,
        to: CoreAddress,
        message: Message,
    ) -> Result<(), Violation> {
        let Some(message) = self.network.arrive(link, from, to, message) else {
            return Ok(());
        };
        let again = self
            .random
            .network
            .one_in(self.scenario.duplicate_one_in)
            .then(|| message.clone());
        self.core_event(to, Event::Message { from, message })?;
        let is_up = self.network.link(Pair::of(from, to)) == Some(link);
        if let Some(message) = again.filter(|_| is_up) {
            self.totals.coverage.note("duplicate message");
            self.core_event(to, Event::Message { from, message })?;
        }
        Ok(())
    }

    /// Every pair of cores on different running nodes that has no link tries to get one.
    pub(crate) fn connect_all(&mut self) {
        let up = self.nodes.iter().filter(|node| node.up);
        let cores: Vec<CoreAddress> = up
            .flat_map(|node| node.cores.iter().map(|core| core.address))
            .collect();
        for &a in &cores {
            for &b in cores.iter().filter(|b| b.node > a.node) {
                let pair = Pair::of(a, b);
                if self.network.link(pair).is_none() {
                    let delay = self.random.network.delay(CONNECT_DELAY);
                    self.queue
                        .add(self.now.after(delay), Action::Connect { pair });
                }
            }
        }
    }

    pub(crate) fn connect(&mut self, pair: Pair) -> Result<(), Violation> {
        let up = |world: &Self, core: CoreAddress| world.nodes[world.node_index(core.node)].up;
        let both = up(self, pair.0) && up(self, pair.1);
        if !both && !self.network.is_cut(pair) && self.random.network.one_in(2) {
            self.refuse(pair)?;
        }
        if !both || self.network.link(pair).is_some() || self.network.is_cut(pair) {
            return Ok(());
        }
        self.notice_break(pair.0, pair.1)?;
        self.notice_break(pair.1, pair.0)?;
        // What came of the news may have stopped a node.
        if !(up(self, pair.0) && up(self, pair.1)) {
            return Ok(());
        }
        self.network.connect(pair);
        let link = self.network.link(pair);
        self.core_event(pair.0, Event::PeerUp { peer: pair.1 })?;
        if self.network.link(pair) == link {
            self.core_event(pair.1, Event::PeerUp { peer: pair.0 })?;
        }
        Ok(())
    }

    /// The host of one end is there, its process is not: it says so to the other end.
    fn refuse(&mut self, pair: Pair) -> Result<(), Violation> {
        for (dialer, peer) in [(pair.0, pair.1), (pair.1, pair.0)] {
            if !self.nodes[self.node_index(peer.node)].up {
                self.notice_break(dialer, peer)?;
                self.core_event(dialer, Event::PeerRefused { peer })?;
            }
        }
        Ok(())
    }

    /// One end learns of it at once, the other one later; it may connect again soon.
    pub(crate) fn break_link(&mut self, pair: Pair) -> Result<(), Violation> {
        if !self.network.disconnect(pair) {
            return Ok(());
        }
        let delay = self.random.network.delay(RECONNECT_DELAY);
        self.queue
            .add(self.now.after(delay), Action::Connect { pair });
        let (first, second) = if self.random.network.one_in(2) {
            (pair.0, pair.1)
        } else {
            (pair.1, pair.0)
        };
        let later = self.random.network.duration(Duration::ZERO..delay);
        let notice = Action::NoticeBreak {
            observer: second,
            peer: first,
        };
        self.queue.add(self.now.after(later), notice);
        if self.nodes[self.node_index(second.node)].up {
            self.network.break_unnoticed(second, first);
        }
        self.core_event(first, Event::PeerDown { peer: second })
    }

    pub(crate) fn notice_break(
        &mut self,
        observer: CoreAddress,
        peer: CoreAddress,
    ) -> Result<(), Violation> {
        if self.network.notice_break(observer, peer) {
            self.core_event(observer, Event::PeerDown { peer })
        } else {
            Ok(())
        }
    }

    /// Nothing passes these ways any more. Links over them give up after a while, if it lasts.
    pub(crate) fn block(&mut self, ways: &[Way]) {
        if self.ending {
            return;
        }
        for &(from, to) in ways {
            self.network.block((from, to));
            for (pair, link) in self.network.links_between(from, to) {
                let at = self.now.after(self.random.network.duration(GIVE_UP));
                self.queue.add(at, Action::LinkGivesUp { pair, link });
            }
        }
    }

    pub(crate) fn link_gives_up(&mut self, pair: Pair, link: LinkId) -> Result<(), Violation> {
        if self.network.link(pair) == Some(link) && self.network.is_cut(pair) {
            return self.break_link(pair);
        }
        Ok(())
    }

    pub(crate) fn unblock(&mut self, ways: &[Way]) -> Result<(), Violation> {
        ways.iter().for_each(|way| self.network.unblock(*way));
        self.deliver_held()
    }

    /// What was held on ways that are open again arrives, and who is not connected tries again.
    pub(crate) fn deliver_held(&mut self) -> Result<(), Violation> {
        for (link, from, to, message) in self.network.release() {
            // One of them may have stopped a node by now.
            if self.network.link(Pair::of(from, to)) == Some(link) {
                self.core_event(to, Event::Message { from, message })?;
            }
        }
        self.connect_all();
        Ok(())
    }
}
