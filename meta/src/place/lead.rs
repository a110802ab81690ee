//! Which member of each group becomes primary.

use super::Ring;

/// Rounds of improvement at most; each one strictly improves the balance, a few are enough.
const ROUNDS_MAX: usize = 64;

/// The place of the primary of each group: primaries spread evenly over cores, then over nodes, then with those of other
/// tables.
pub(super) fn choose(ring: &Ring, groups: &[Vec<usize>]) -> Vec<usize> {
    let mut count = Count::new(ring);
    let mut leads: Vec<usize> = Vec::with_capacity(groups.len());
    for group in groups {
        let lead = count.lightest(group);
        count.add(lead);
        leads.push(lead);
    }
    for _ in 0..ROUNDS_MAX {
        if !improve(&mut count, groups, &mut leads) {
            break;
        }
    }
    leads
}

/// Moves each lead that weighs more than another member would; returns whether any moved.
fn improve(count: &mut Count<'_>, groups: &[Vec<usize>], leads: &mut [usize]) -> bool {
    let mut moved = false;
    for (group, lead) in groups.iter().zip(leads) {
        let weight = count.weight_without(*lead);
        count.remove(*lead);
        let lightest = count.lightest(group);
        if count.weight(lightest) < weight {
            *lead = lightest;
            moved = true;
        }
        count.add(*lead);
    }
    moved
}

struct Count<'a> {
    ring: &'a Ring,
    cores: Vec<u64>,
    nodes: Vec<u64>,
}

impl<'a> Count<'a> {
    fn new(ring: &'a Ring) -> Self {
        Self { ring, cores: vec![0; ring.cores.len()], nodes: vec![0; ring.node_count] }
    }

    fn add(&mut self, place: usize) {
        self.cores[place] += 1;
        self.nodes[self.ring.cores[place].node] += 1;
    }

    fn remove(&mut self, place: usize) {
        self.cores[place] -= 1;
        self.nodes[self.ring.cores[place].node] -= 1;
    }

    /// What makes a core the worse lead, most important first.
    fn weight(&self, place: usize) -> (u64, u64, u64) {
        let slot = &self.ring.cores[place];
        (self.cores[place], self.nodes[slot.node], slot.before.primaries)
    }

    /// The weight of `place` if it led one group less.
    fn weight_without(&self, place: usize) -> (u64, u64, u64) {
        let (cores, nodes, before) = self.weight(place);
        (cores - 1, nodes - 1, before)
    }

    fn lightest(&self, group: &[usize]) -> usize {
        let lightest = group.iter().copied().min_by_key(|&place| (self.weight(place), place));
        lightest.expect("a group has at least one member")
    }
}
