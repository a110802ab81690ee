//! Links to the cores we replicate to: whether they are up, how much is under way, and what the next beacon says.
//!
//! A beacon goes out at once where a primary has to learn a secondary's state (`probe`), and at the beacon period
//! where a commit point has moved and no prepare has carried it (`mention`). An idle partition costs nothing.

use crate::ids::{CoreAddress, Instant, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Links {
    peers: BTreeMap<CoreAddress, Link>,
    /// When the next periodic beacons are due; `None` while there is nothing to say.
    beacons_due: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// Its disk reserve is used up, as it said last on this link.
    pub(crate) disk_full: bool,
    /// Number of the last beacon sent.
    pub(crate) beacon_number: u64,
    /// Bytes of prepares sent and not acknowledged.
    pub(crate) inflight_bytes: usize,
    /// Partitions with prepares that wait for room in the window.
    pub(crate) backlog: BTreeSet<PartitionId>,
    /// Partitions for the beacon at the end of this turn.
    probes: BTreeSet<PartitionId>,
    /// Partitions for the beacon at the end of this period.
    mentions: BTreeSet<PartitionId>,
}

impl Links {
    pub(crate) fn is_up(&self, peer: CoreAddress) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.up)
    }

    pub(crate) fn is_disk_full(&self, peer: CoreAddress) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.disk_full)
    }

    /// The link to `peer`; a new one is down.
    pub(crate) fn link(&mut self, peer: CoreAddress) -> &mut Link {
        self.peers.entry(peer).or_default()
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

    /// Wants a beacon about `partition` at the end of this turn. Returns its number: only answers from that one on count.
    pub(crate) fn probe(&mut self, peer: CoreAddress, partition: PartitionId) -> u64 {
        let link = self.link(peer);
        link.probes.insert(partition);
        link.beacon_number + 1
    }

    /// Wants `partition` in the next periodic beacon to `peer`, which is due by `due` at the latest.
    pub(crate) fn mention(&mut self, peer: CoreAddress, partition: PartitionId, due: Instant) {
        self.link(peer).mentions.insert(partition);
        self.beacons_due = Some(self.beacons_due.map_or(due, |at| at.min(due)));
    }

    /// A prepare has just told `peer` the commit point of `partition`.
    pub(crate) fn forget_mention(&mut self, peer: CoreAddress, partition: PartitionId) {
        if let Some(link) = self.peers.get_mut(&peer) {
            link.mentions.remove(&partition);
        }
    }

    /// `partition` has nothing to do with `peer` any more.
    pub(crate) fn leave(&mut self, peer: CoreAddress, partition: PartitionId) {
        if let Some(link) = self.peers.get_mut(&peer) {
            link.backlog.remove(&partition);
            link.probes.remove(&partition);
            link.mentions.remove(&partition);
        }
    }

    /// Takes the partitions of the beacons to send now, by peer. A peer whose link is down gets an empty beacon:
    /// it is dropped, but the attempt makes the node dial.
    pub(crate) fn take_beacons(
        &mut self,
        now: Instant,
    ) -> Vec<(CoreAddress, u64, Vec<PartitionId>)> {
        let periodic = self.beacons_due.is_some_and(|due| due <= now);
        if periodic {
            self.beacons_due = None;
        }
        let mut beacons = Vec::new();
        for (peer, link) in &mut self.peers {
            let wanted = !link.probes.is_empty() || (periodic && !link.mentions.is_empty());
            if !wanted {
                continue;
            }
            let mut partitions = std::mem::take(&mut link.probes);
            if periodic {
                partitions.append(&mut link.mentions);
            }
            link.beacon_number += 1;
            let partitions = if link.up {
                partitions.into_iter().collect()
            } else {
                Vec::new()
            };
            beacons.push((*peer, link.beacon_number, partitions));
        }
        beacons
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
