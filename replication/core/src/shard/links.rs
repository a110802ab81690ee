//! Links to the cores we replicate to: whether they are up, how much is under way, and what the next beacon says.
//!
//! Every beacon period each core gets one beacon with all partitions that it is covered for: a lease is held by
//! acknowledgements of these. In between, a beacon goes out at once where a primary has to learn a state (`probe`).

use crate::ids::{CoreAddress, Instant, PartitionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Links {
    peers: BTreeMap<CoreAddress, Link>,
    /// When the next periodic beacons are due; `None` while nothing is covered.
    beacons_due: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// It has been open in this life.
    was_up: bool,
    /// Its disk reserve is used up, as it said last on this link.
    pub(crate) disk_full: bool,
    /// Number of the last beacon sent.
    pub(crate) beacon_number: u64,
    /// Bytes of prepares sent and not acknowledged.
    pub(crate) inflight_bytes: usize,
    /// Partitions with prepares that wait for room in the window.
    pub(crate) backlog: BTreeSet<PartitionId>,
    /// Partitions of which we act as primary and the core has a secondary or a learner that follows.
    covered: BTreeSet<PartitionId>,
    /// Those for the beacon at the end of this turn.
    probes: BTreeSet<PartitionId>,
    /// The last beacons sent, oldest first.
    sent: VecDeque<SentBeacon>,
    /// Closed since then, after it had been open.
    down_since: Option<Instant>,
    /// Closed for good, as far as one can tell: nobody listens, or it has not come back in time.
    gone: bool,
    /// Of these, the first: its host has said so, which a cut network does not.
    refused: bool,
}

/// A beacon that may still be acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentBeacon {
    pub(crate) number: u64,
    pub(crate) at: Instant,
    /// The fence when it was sent.
    pub(crate) fence: u64,
    /// It had everything that is covered.
    pub(crate) whole: bool,
}

/// A beacon to build and send now.
#[derive(Debug)]
pub(crate) struct BeaconPlan {
    pub(crate) to: CoreAddress,
    /// Otherwise it is sent empty: it is dropped, but the attempt makes the node dial.
    pub(crate) is_up: bool,
    pub(crate) number: u64,
    pub(crate) whole: bool,
    pub(crate) partitions: Vec<PartitionId>,
}

/// Beacons whose time of sending is remembered, per link: an acknowledgement that took that many is worth nothing.
const SENT_BEACONS_MAX: usize = 64;

impl Links {
    pub(crate) fn is_up(&self, peer: CoreAddress) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.up)
    }

    pub(crate) fn is_disk_full(&self, peer: CoreAddress) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.disk_full)
    }

    /// Whether the link is closed and has not come back in time.
    pub(crate) fn is_gone(&self, peer: CoreAddress) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.gone)
    }

    /// Whether the host of `peer` has said that nobody listens there.
    pub(crate) fn is_refused(&self, peer: CoreAddress) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.refused)
    }

    /// Whether the link has been open in this life.
    pub(crate) fn was_up(&self, peer: CoreAddress) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.was_up)
    }

    /// The link to `peer`; a new one is down.
    pub(crate) fn link(&mut self, peer: CoreAddress) -> &mut Link {
        self.peers.entry(peer).or_default()
    }

    pub(crate) fn on_up(&mut self, peer: CoreAddress) {
        let link = self.link(peer);
        link.up = true;
        link.was_up = true;
        link.down_since = None;
        link.gone = false;
        link.refused = false;
    }

    pub(crate) fn on_down(&mut self, peer: CoreAddress, now: Instant) {
        let link = self.link(peer);
        if link.up {
            link.down_since = Some(now);
        }
        link.up = false;
        link.disk_full = false;
    }

    /// Nobody listens there. Returns the partitions whose primaries want to know.
    pub(crate) fn on_refused(&mut self, peer: CoreAddress) -> Vec<PartitionId> {
        let link = self.link(peer);
        if link.up {
            return Vec::new();
        }
        link.refused = true;
        if std::mem::replace(&mut link.gone, true) {
            return Vec::new();
        }
        link.covered.iter().copied().collect()
    }

    /// The links that have been closed for `redial_period` by now, each told once, with the partitions concerned.
    pub(crate) fn take_gone(
        &mut self,
        now: Instant,
        redial_period: Duration,
    ) -> Vec<(CoreAddress, Vec<PartitionId>)> {
        let mut gone = Vec::new();
        for (peer, link) in &mut self.peers {
            if link.gone_at(redial_period).is_some_and(|at| at <= now) {
                link.gone = true;
                gone.push((*peer, link.covered.iter().copied().collect()));
            }
        }
        gone
    }

    /// When `take_gone` has something next.
    pub(crate) fn gone_due(&self, redial_period: Duration) -> Option<Instant> {
        let links = self.peers.values();
        links.filter_map(|link| link.gone_at(redial_period)).min()
    }

    /// Whether `bytes` more fit the window; a single message always fits an empty one.
    pub(crate) fn has_room(
        &self,
        peer: CoreAddress,
        bytes: usize,
        window_bytes_max: usize,
    ) -> bool {
        let inflight = self.peers.get(&peer).map_or(0, |link| link.inflight_bytes);
        inflight == 0 || inflight + bytes <= window_bytes_max
    }

    /// From now on beacons to `peer` cover `partition`; the next periodic one is due by `due` at the latest. Returns the
    /// number of the first.
    pub(crate) fn cover(&mut self, peer: CoreAddress, partition: PartitionId, due: Instant) -> u64 {
        self.beacons_due = Some(self.beacons_due.map_or(due, |at| at.min(due)));
        let link = self.link(peer);
        link.covered.insert(partition);
        link.beacon_number + 1
    }

    pub(crate) fn covered(&self, peer: CoreAddress) -> Vec<PartitionId> {
        let link = self.peers.get(&peer);
        link.map_or_else(Vec::new, |link| link.covered.iter().copied().collect())
    }

    /// Wants a beacon about `partition` at the end of this turn. Returns its number: only answers from that one on count.
    pub(crate) fn probe(&mut self, peer: CoreAddress, partition: PartitionId) -> u64 {
        let link = self.link(peer);
        link.probes.insert(partition);
        link.beacon_number + 1
    }

    /// `partition` has nothing to do with `peer` any more.
    pub(crate) fn leave(&mut self, peer: CoreAddress, partition: PartitionId) {
        if let Some(link) = self.peers.get_mut(&peer) {
            link.backlog.remove(&partition);
            link.probes.remove(&partition);
            link.covered.remove(&partition);
        }
    }

    /// The periodic beacons go out at the end of this turn.
    pub(crate) fn hasten_beacons(&mut self, now: Instant) {
        self.beacons_due = self.beacons_due.map(|at| at.min(now));
    }

    /// Takes the beacons to send now.
    pub(crate) fn take_beacons(
        &mut self,
        now: Instant,
        period: Duration,
        fence: u64,
    ) -> Vec<BeaconPlan> {
        let whole = self.beacons_due.is_some_and(|due| due <= now);
        if whole {
            let any = self.peers.values().any(|link| !link.covered.is_empty());
            self.beacons_due = any.then(|| now.after(period));
        }
        let mut plans = Vec::new();
        for (to, link) in &mut self.peers {
            let asked = std::mem::take(&mut link.probes);
            let partitions = if whole { &link.covered } else { &asked };
            if partitions.is_empty() {
                continue;
            }
            let partitions = partitions.iter().copied().collect();
            link.beacon_number += 1;
            let (number, at) = (link.beacon_number, now);
            if link.up {
                link.note_sent(SentBeacon {
                    number,
                    at,
                    fence,
                    whole,
                });
            }
            plans.push(BeaconPlan {
                to: *to,
                is_up: link.up,
                number,
                whole,
                partitions,
            });
        }
        plans
    }

    /// The beacon `number` to `peer`, if it may still be acknowledged.
    pub(crate) fn sent_beacon(&self, peer: CoreAddress, number: u64) -> Option<SentBeacon> {
        let sent = &self.peers.get(&peer)?.sent;
        sent.iter().find(|beacon| beacon.number == number).copied()
    }

    /// Peers that have room again and partitions waiting for it.
    pub(crate) fn backlogs(&self, window_bytes_max: usize) -> Vec<(CoreAddress, PartitionId)> {
        let waiting = |link: &Link| {
            link.up && !link.backlog.is_empty() && link.inflight_bytes < window_bytes_max
        };
        let peers = self.peers.iter().filter(|(_, link)| waiting(link));
        peers
            .flat_map(|(peer, link)| link.backlog.iter().map(|partition| (*peer, *partition)))
            .collect()
    }

    pub(crate) fn beacons_due(&self) -> Option<Instant> {
        self.beacons_due
    }

    /// Bytes of prepares sent to each peer and not acknowledged.
    pub(crate) fn inflight_bytes(&self) -> impl Iterator<Item = (CoreAddress, bool, usize)> {
        self.peers
            .iter()
            .map(|(peer, link)| (*peer, link.up, link.inflight_bytes))
    }
}

impl Link {
    fn gone_at(&self, redial_period: Duration) -> Option<Instant> {
        let is_waiting = !self.gone && !self.covered.is_empty();
        self.down_since
            .filter(|_| is_waiting)
            .map(|since| since.after(redial_period))
    }

    fn note_sent(&mut self, beacon: SentBeacon) {
        if self.sent.len() >= SENT_BEACONS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(beacon);
    }
}
