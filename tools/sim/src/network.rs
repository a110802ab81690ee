//! Links between cores: ordered, delayed, breakable. A link that broke loses what was under way and says so to both ends.
//!
//! A direction between two nodes can be *blocked*: what is sent then stays under way, as with TCP, until it is not blocked
//! any more or the link gives up and breaks.

use crate::random::Random;
use pegasus_replication::ids::{CoreAddress, Instant, NodeId};
use pegasus_replication::message::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Delay of one message on a healthy link.
const DELAY: std::ops::Range<Duration> = Duration::from_micros(20)..Duration::from_millis(8);

/// Number of a link between two cores in this run: each reconnection is another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// An unordered pair of cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair(pub(crate) CoreAddress, pub(crate) CoreAddress);

impl Pair {
    pub(crate) fn of(a: CoreAddress, b: CoreAddress) -> Self {
        Self(a.min(b), a.max(b))
    }

    pub(crate) fn contains(self, core: CoreAddress) -> bool {
        self.0 == core || self.1 == core
    }
}

/// From one node to another.
pub(crate) type Way = (NodeId, NodeId);

#[derive(Debug)]
struct Link {
    id: LinkId,
    /// To each end.
    ways: BTreeMap<CoreAddress, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    /// When the last message arrives: the next one not before it.
    arrival: Instant,
    /// Arrived in vain while the way was blocked, in order.
    held: VecDeque<Message>,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<Pair, Link>,
    /// How many faults block each way now.
    blocked: BTreeMap<Way, u32>,
    /// Who has not noticed yet that the link to whom is broken.
    unnoticed: BTreeSet<(CoreAddress, CoreAddress)>,
    next_link: u64,
}

impl Network {
    pub(crate) fn link(&self, pair: Pair) -> Option<LinkId> {
        self.links.get(&pair).map(|link| link.id)
    }

    pub(crate) fn connect(&mut self, pair: Pair) {
        self.next_link += 1;
        let link = Link {
            id: LinkId(self.next_link),
            ways: BTreeMap::from([(pair.0, Lane::default()), (pair.1, Lane::default())]),
        };
        let before = self.links.insert(pair, link);
        assert!(before.is_none(), "a pair has one link");
    }

    /// Breaks the link; whether there was one.
    pub(crate) fn disconnect(&mut self, pair: Pair) -> bool {
        self.links.remove(&pair).is_some()
    }

    pub(crate) fn break_unnoticed(&mut self, observer: CoreAddress, peer: CoreAddress) {
        self.unnoticed.insert((observer, peer));
    }

    /// Whether `observer` learns only now that its link to `peer` is broken.
    pub(crate) fn notice_break(&mut self, observer: CoreAddress, peer: CoreAddress) -> bool {
        self.unnoticed.remove(&(observer, peer))
    }

    /// A core that stopped notices nothing any more.
    pub(crate) fn forget_breaks(&mut self, observer: CoreAddress) {
        self.unnoticed.retain(|(of, _)| *of != observer);
    }

    pub(crate) fn block(&mut self, way: Way) {
        *self.blocked.entry(way).or_default() += 1;
    }

    /// Takes back one [`Self::block`].
    pub(crate) fn unblock(&mut self, way: Way) {
        if let Some(count) = self.blocked.get_mut(&way) {
            *count -= 1;
            if *count == 0 {
                self.blocked.remove(&way);
            }
        }
    }

    pub(crate) fn unblock_all(&mut self) {
        self.blocked.clear();
    }

    fn is_blocked(&self, from: CoreAddress, to: CoreAddress) -> bool {
        self.blocked.contains_key(&(from.node, to.node))
    }

    /// Whether either way between the two is blocked: nobody can connect, and what is connected gives up in the end.
    pub(crate) fn is_cut(&self, pair: Pair) -> bool {
        self.is_cut_between(pair.0, pair.1)
    }

    pub(crate) fn is_cut_between(&self, a: CoreAddress, b: CoreAddress) -> bool {
        self.is_blocked(a, b) || self.is_blocked(b, a)
    }

    pub(crate) fn links_of(&self, core: CoreAddress) -> Vec<Pair> {
        let pairs = self.links.keys().copied();
        pairs.filter(|pair| pair.contains(core)).collect()
    }

    pub(crate) fn pairs(&self) -> Vec<Pair> {
        self.links.keys().copied().collect()
    }

    /// The links between two nodes, with their numbers.
    pub(crate) fn links_between(&self, a: NodeId, b: NodeId) -> Vec<(Pair, LinkId)> {
        let is_between = |pair: &Pair| [(a, b), (b, a)].contains(&(pair.0.node, pair.1.node));
        let links = self.links.iter().filter(|(pair, _)| is_between(pair));
        links.map(|(pair, link)| (*pair, link.id)).collect()
    }

    /// On which link and when a message sent now arrives; `None` if the link is down.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        from: CoreAddress,
        to: CoreAddress,
        random: &mut Random,
    ) -> Option<(LinkId, Instant)> {
        let link = self.links.get_mut(&Pair::of(from, to))?;
        let lane = link.ways.get_mut(&to).expect("a link has two ends");
        lane.arrival = now.after(random.delay(DELAY)).max(lane.arrival);
        Some((link.id, lane.arrival))
    }

    /// A message of this link has arrived: what is delivered, unless its link is gone or the way is blocked.
    pub(crate) fn arrive(
        &mut self,
        id: LinkId,
        from: CoreAddress,
        to: CoreAddress,
        message: Message,
    ) -> Option<Message> {
        let is_blocked = self.is_blocked(from, to);
        let link = self.links.get_mut(&Pair::of(from, to))?;
        let lane = link.ways.get_mut(&to).expect("a link has two ends");
        if link.id != id {
            return None;
        }
        if is_blocked || !lane.held.is_empty() {
            lane.held.push_back(message);
            return None;
        }
        Some(message)
    }

    /// Takes what was held on ways that are not blocked any more, in order: the link, from whom, to whom, what.
    pub(crate) fn release(&mut self) -> Vec<(LinkId, CoreAddress, CoreAddress, Message)> {
        let mut released = Vec::new();
        let blocked = &self.blocked;
        for (pair, link) in &mut self.links {
            for (from, to) in [(pair.0, pair.1), (pair.1, pair.0)] {
                if blocked.contains_key(&(from.node, to.node)) {
                    continue;
                }
                let lane = link.ways.get_mut(&to).expect("a link has two ends");
                let held = std::mem::take(&mut lane.held);
                let id = link.id;
                released.extend(held.into_iter().map(|message| (id, from, to, message)));
            }
        }
        released
    }
}
