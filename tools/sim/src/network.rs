//! Links between cores: ordered, delayed, breakable. A link that broke loses what was under way and says so to both ends.

use crate::random::Random;
use pegasus_replication::ids::{CoreAddress, Instant};
use std::collections::{BTreeMap, BTreeSet};
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

#[derive(Debug)]
struct Link {
    id: LinkId,
    /// When the last message of each direction arrives: the next one not before it.
    arrivals: BTreeMap<CoreAddress, Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<Pair, Link>,
    /// Pairs that cannot connect now.
    cut: BTreeSet<Pair>,
    /// Who has not noticed yet that the link to whom is broken.
    unnoticed: BTreeSet<(CoreAddress, CoreAddress)>,
    next_link: u64,
}

impl Network {
    pub(crate) fn is_up(&self, pair: Pair) -> bool {
        self.links.contains_key(&pair)
    }

    pub(crate) fn is_cut(&self, pair: Pair) -> bool {
        self.cut.contains(&pair)
    }

    pub(crate) fn connect(&mut self, pair: Pair) {
        assert!(!self.is_up(pair), "a pair has one link");
        self.next_link += 1;
        let link = Link {
            id: LinkId(self.next_link),
            arrivals: BTreeMap::new(),
        };
        self.links.insert(pair, link);
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

    pub(crate) fn cut(&mut self, pair: Pair) {
        self.cut.insert(pair);
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn links_of(&self, core: CoreAddress) -> Vec<Pair> {
        self.links
            .keys()
            .copied()
            .filter(|pair| pair.contains(core))
            .collect()
    }

    pub(crate) fn pairs(&self) -> Vec<Pair> {
        self.links.keys().copied().collect()
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
        let earliest = link.arrivals.get(&to).copied().unwrap_or_default();
        let arrival = now.after(random.delay(DELAY)).max(earliest);
        link.arrivals.insert(to, arrival);
        Some((link.id, arrival))
    }

    /// Whether a message of this link may still be delivered.
    pub(crate) fn carries(&self, pair: Pair, id: LinkId) -> bool {
        self.links.get(&pair).is_some_and(|link| link.id == id)
    }
}
