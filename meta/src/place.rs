//! Placement of a new table: which core holds which replica.
//!
//! Cores stand on a ring on which the cores of a node are spread evenly, and a partition's members lie within
//! 8 places of each other, so that a core shares partitions with at most `peer_cores_max` = 16 others (copysets
//! with bounded scatter; Cidon et al., "Copysets", 2013). Within that, each partition takes the cores that carry the
//! least, of this table first, of all tables next; and of its members the one with the fewest primaries leads.
//! Deterministic: equal loads, equal placement.

pub mod balance;
mod lead;

use pegasus_replication::ids::{CoreAddress, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Cores with which one core shares partitions, at most.
pub const PEER_CORES_MAX: usize = 16;
/// Farthest two members of a partition lie apart on the ring.
const WINDOW: usize = PEER_CORES_MAX / 2;

/// What a core carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub replicas: u64,
    pub primaries: u64,
}

/// A table to place.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub partition_count: u32,
    /// At least 1, at most the number of nodes.
    pub replicas: usize,
    /// All cores that may be used, with what they carry now.
    pub cores: &'a BTreeMap<CoreAddress, Load>,
}

/// The members of each partition, the primary first: always `replicas` of them, on different nodes.
///
/// # Panics
/// If there are fewer nodes than replicas: the caller has refused that.
#[must_use]
pub fn place(request: &Request<'_>) -> Vec<Vec<CoreAddress>> {
    assert!(request.replicas >= 1, "a partition without replicas");
    let mut ring = Ring::new(request.cores);
    assert!(
        ring.node_count >= request.replicas,
        "fewer nodes than replicas"
    );
    let groups: Vec<Vec<usize>> = (0..request.partition_count)
        .map(|_| ring.take_group(request.replicas))
        .collect();
    let leads = lead::choose(&ring, &groups);
    let led = groups.into_iter().zip(leads);
    led.map(|(group, lead)| ring.addresses_led_by(group, lead))
        .collect()
}

/// The lightest core of one of `nodes` for a further member of a group that has `members` already; `None` if those nodes have
/// no cores. Within the neighbourhood of the members if there is one there, so that the bound on peers holds; else anywhere.
#[must_use]
pub fn join(
    cores: &BTreeMap<CoreAddress, Load>,
    members: &[CoreAddress],
    nodes: &BTreeSet<NodeId>,
) -> Option<CoreAddress> {
    let ring = Ring::new(cores);
    let stands = |address: &CoreAddress| ring.cores.iter().position(|it| it.address == *address);
    let taken: Vec<usize> = members.iter().filter_map(stands).collect();
    let mut by_node: BTreeMap<NodeId, u64> = BTreeMap::new();
    for (address, load) in cores {
        *by_node.entry(address.node).or_default() += load.replicas;
    }
    let candidates = (0..ring.cores.len()).filter(|&place| {
        let address = ring.cores[place].address;
        nodes.contains(&address.node)
    });
    let best = candidates.min_by_key(|&place| {
        let slot = &ring.cores[place];
        let is_far = taken
            .iter()
            .any(|&member| ring.distance(member, place) > WINDOW);
        let node = by_node.get(&slot.address.node).copied().unwrap_or(0);
        (is_far, slot.before.replicas, node, place)
    });
    best.map(|place| ring.cores[place].address)
}

/// Who should lead each group so that leads are spread evenly, when the first of each leads now; groups with a core that is
/// not among `cores` stay as they are. Equal to what is there if that is as even as it can be.
#[must_use]
pub fn lead_evenly(
    cores: &BTreeMap<CoreAddress, Load>,
    groups: &[Vec<CoreAddress>],
) -> Vec<CoreAddress> {
    let ring = Ring::new(cores);
    let stands: BTreeMap<CoreAddress, usize> = (0..)
        .zip(&ring.cores)
        .map(|(place, slot)| (slot.address, place))
        .collect();
    let places = |group: &Vec<CoreAddress>| -> Option<Vec<usize>> {
        group.iter().map(|it| stands.get(it).copied()).collect()
    };
    let known: Vec<Option<Vec<usize>>> = groups.iter().map(places).collect();
    let movable: Vec<Vec<usize>> = known.iter().flatten().cloned().collect();
    let leads = movable.iter().filter_map(|group| group.first().copied());
    let mut leads = lead::improve_on(&ring, &movable, leads.collect()).into_iter();
    let mut led = Vec::with_capacity(groups.len());
    for (group, known) in groups.iter().zip(&known) {
        let lead = known.as_ref().and_then(|_| leads.next());
        led.extend(
            lead.map(|place| ring.cores[place].address)
                .or(group.first().copied()),
        );
    }
    led
}

/// The cores in ring order. A core is named by its place.
#[derive(Debug)]
struct Ring {
    cores: Vec<Slot>,
    node_count: usize,
    /// Replicas of this table by node.
    node_replicas: Vec<u64>,
}

#[derive(Debug)]
struct Slot {
    address: CoreAddress,
    /// Number of its node, counted from 0 without gaps.
    node: usize,
    /// Of all tables before this one.
    before: Load,
    /// Replicas of this table.
    replicas: u64,
    /// No group of the wanted size lies around it.
    unusable: bool,
}

impl Ring {
    fn new(cores: &BTreeMap<CoreAddress, Load>) -> Self {
        let mut by_node: BTreeMap<_, Vec<(CoreAddress, Load)>> = BTreeMap::new();
        for (address, load) in cores {
            by_node
                .entry(address.node)
                .or_default()
                .push((*address, *load));
        }
        let node_count = by_node.len();
        let mut places: Vec<(u64, usize, Slot)> = Vec::new();
        for (node, cores) in by_node.into_values().enumerate() {
            let count = cores.len() as u64;
            for (k, (address, before)) in (0u64..).zip(cores) {
                // The k-th of n cores stands at (2k + 1) / 2n of the way round, in units of 2^-32.
                let angle = ((2 * k + 1) << 32) / (2 * count);
                places.push((
                    angle,
                    node,
                    Slot {
                        address,
                        node,
                        before,
                        replicas: 0,
                        unusable: false,
                    },
                ));
            }
        }
        places.sort_by_key(|&(angle, node, _)| (angle, node));
        let cores = places.into_iter().map(|(_, _, slot)| slot).collect();
        Self {
            cores,
            node_count,
            node_replicas: vec![0; node_count],
        }
    }

    /// The members of the next partition, by place.
    fn take_group(&mut self, replicas: usize) -> Vec<usize> {
        let group = self.next_group(replicas);
        assert_eq!(group.len(), replicas, "a partition with too few members");
        for &place in &group {
            self.cores[place].replicas += 1;
            self.node_replicas[self.cores[place].node] += 1;
        }
        group
    }

    fn next_group(&mut self, replicas: usize) -> Vec<usize> {
        while let Some(anchor) = self.least_loaded() {
            let group = self.group_around(anchor, replicas);
            if group.len() == replicas {
                return group;
            }
            self.cores[anchor].unusable = true;
        }
        // Nodes so uneven that no neighbourhood holds enough of them: the bound on peers gives way.
        self.group_of(0..self.cores.len(), replicas, self.cores.len())
    }

    fn least_loaded(&self) -> Option<usize> {
        let usable = (0..self.cores.len()).filter(|&place| !self.cores[place].unusable);
        usable.min_by_key(|&place| (self.weight(place), place))
    }

    /// The lightest cores of different nodes that lie close to `anchor` and to each other, `anchor` first.
    fn group_around(&self, anchor: usize, replicas: usize) -> Vec<usize> {
        let stride = self.stride(anchor, replicas);
        let mut near: Vec<usize> = self.near(anchor).collect();
        near.sort_by_key(|&place| {
            let ahead = self.ahead(anchor, place);
            (self.weight(place), !ahead.is_multiple_of(stride), ahead)
        });
        let close = self.group_of([anchor].into_iter().chain(near), replicas, WINDOW);
        if close.len() == replicas {
            return close;
        }
        // A light core far ahead and another far behind exclude each other: try one direction.
        let onward =
            (0..=WINDOW.min(self.cores.len() - 1)).map(|step| (anchor + step) % self.cores.len());
        self.group_of(onward, replicas, WINDOW)
    }

    /// The first of `places` that are of different nodes and no farther apart than `window`.
    fn group_of(
        &self,
        places: impl IntoIterator<Item = usize>,
        replicas: usize,
        window: usize,
    ) -> Vec<usize> {
        let mut group: Vec<usize> = Vec::with_capacity(replicas);
        for place in places {
            let fits = |&member: &usize| {
                self.cores[member].node != self.cores[place].node
                    && self.distance(member, place) <= window
            };
            if group.len() < replicas && group.iter().all(fits) {
                group.push(place);
            }
        }
        group
    }

    /// What makes a core the worse choice, most important first.
    fn weight(&self, place: usize) -> (u64, u64, u64) {
        let slot = &self.cores[place];
        (
            slot.replicas,
            slot.before.replicas,
            self.node_replicas[slot.node],
        )
    }

    /// Members stand this far apart where loads do not decide: another in each round, so that a core that fails leaves
    /// its work to several others. Only strides that divide the ring evenly keep the rounds even.
    fn stride(&self, anchor: usize, replicas: usize) -> usize {
        let even = |stride: &usize| {
            self.cores.len().is_multiple_of(stride * replicas)
                && !stride.is_multiple_of(self.node_count)
        };
        let strides: Vec<usize> = (1..=WINDOW / replicas.saturating_sub(1).max(1))
            .filter(even)
            .collect();
        let round = usize::try_from(self.cores[anchor].replicas).unwrap_or(0);
        strides
            .get(round % strides.len().max(1))
            .copied()
            .unwrap_or(1)
    }

    /// Places within the window of `anchor`, without itself.
    fn near(&self, anchor: usize) -> impl Iterator<Item = usize> {
        let others = (0..self.cores.len()).filter(move |&place| place != anchor);
        others.filter(move |&place| self.distance(anchor, place) <= WINDOW)
    }

    fn ahead(&self, from: usize, to: usize) -> usize {
        (to + self.cores.len() - from) % self.cores.len()
    }

    fn distance(&self, a: usize, b: usize) -> usize {
        self.ahead(a, b).min(self.ahead(b, a))
    }

    fn addresses_led_by(&self, group: Vec<usize>, lead: usize) -> Vec<CoreAddress> {
        let others = group.into_iter().filter(|&place| place != lead);
        [lead]
            .into_iter()
            .chain(others)
            .map(|place| self.cores[place].address)
            .collect()
    }
}
